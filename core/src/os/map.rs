//! Shared mappings of files.
//!
//! A mapping is memory that other processes see and change at the same time. Words that change are
//! reached as atomics; plain bytes are copied out, or lent where the publishing protocol says that
//! nobody changes them any more.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::error::{Error, Result};
use crate::os::bus::Guard;
use crate::os::faults::{self, Io, Op};

/// A shared mapping of the first `len` bytes of a file, unmapped when dropped.
///
/// The mapping may be longer than the file; every caller keeps below the size it allocated or asked
/// the file for. What is touched behind the file's end nevertheless, because somebody cut it short,
/// reads as zeros and is told by [`Map::check`].
pub struct Map {
    // Goes first: the addresses may be another mapping's as soon as this one is gone.
    guard: Guard,
    raw: MmapRaw,
    path: PathBuf,
}

impl Map {
    /// Maps `len` bytes for reading and writing.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn writable(file: &File, path: &Path, len: usize) -> Result<Map> {
        let io = Io::range(Op::Map, path, 0, len as u64);
        let raw = faults::make(io, || MmapOptions::new().len(len).map_raw(file));
        Ok(Map::new(raw.map_err(|e| Error::io("cannot map", path, e))?, path))
    }

    /// Maps `len` bytes for reading.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn read_only(file: &File, path: &Path, len: usize) -> Result<Map> {
        let io = Io::range(Op::Map, path, 0, len as u64);
        let raw = faults::make(io, || MmapOptions::new().len(len).map_raw_read_only(file));
        Ok(Map::new(raw.map_err(|e| Error::io("cannot map", path, e))?, path))
    }

    fn new(raw: MmapRaw, path: &Path) -> Map {
        Map { guard: Guard::new(raw.as_ptr() as usize, raw.len()), raw, path: path.to_owned() }
    }

    /// Whether all that was touched of the mapping was there.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file was cut short under the mapping, or could not be read: what
    /// was loaded may be zeros, and what was stored may be gone.
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.guard.is_lost() {
            false => Ok(()),
            true => Err(self.lost()),
        }
    }

    #[cold]
    fn lost(&self) -> Error {
        let what = "it was cut short while it was in use, or the disk cannot read it";
        let end = std::fs::metadata(&self.path).map_or(0, |meta| meta.len());
        Error::damaged(&self.path, end, what)
    }

    /// Length of the mapping, in bytes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.raw.len() == 0
    }

    /// The file mapped, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.raw.len()),
            "{}: {len} bytes at {offset} of a mapping of {}",
            self.path.display(),
            self.raw.len()
        );
        // SAFETY: the assertion above keeps offset and len within the mapping.
        unsafe { self.raw.as_mut_ptr().add(offset) }
    }

    /// The 64-bit word at `offset`. A read-only mapping must only be loaded from.
    #[inline]
    pub fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert_eq!(offset % 8, 0);
        // SAFETY: in bounds by `at`, aligned because mappings start on a page, alive as long as
        // `self`; every process reaches the words that change through atomics.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }

    /// The 32-bit word at `offset`. A read-only mapping must only be loaded from.
    #[inline]
    pub fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert_eq!(offset % 4, 0);
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }

    /// Copies `bytes` in at `offset`. Only the writer of the region calls this, and only for bytes
    /// that are not published yet.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        faults::store(&self.path, offset, bytes.len(), |part| {
            let (from, to) = (&bytes[part.clone()], self.at(offset + part.start, part.len()));
            // SAFETY: in bounds by `at`; `bytes` is ordinary memory and cannot overlap a mapping
            // that is only lent as published (unchanging) bytes; no reader looks at unpublished
            // bytes.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
        });
    }

    /// Copies `into.len()` bytes at `offset` out.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: in bounds by `at`; a torn copy of changing bytes is caught by the CRC that every
        // structure read this way carries.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    /// Lends `len` bytes at `offset` that are published, and so never change again.
    #[inline]
    pub fn published(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: in bounds by `at`; the caller took the length from an Acquire load of
        // `published`, below which the protocol forbids every store.
        unsafe { std::slice::from_raw_parts(self.at(offset, len), len) }
    }

    /// Maps the pages of `len` bytes at `offset` in, ready to be stored to. Best effort: where the
    /// kernel has no MADV_POPULATE_WRITE the stores fault as they come.
    pub fn populate(&self, offset: usize, len: usize) {
        let start = offset & !4095;
        let end = (offset + len).min(self.raw.len());
        if start < end {
            let _ = self.raw.advise_range(Advice::PopulateWrite, start, end - start);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_cut_short_under_a_mapping_is_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, [7; 12_288]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let map = Map::writable(&file, &path, 12_288).unwrap();
        let other = Map::read_only(&file, &path, 12_288).unwrap();
        assert_eq!(map.u32_at(8192).load(std::sync::atomic::Ordering::Relaxed), 0x0707_0707);
        file.set_len(4096).unwrap();
        assert!(map.check().is_ok() && other.check().is_ok(), "nothing was touched yet");
        let mut bytes = [1; 8];
        map.read(8192, &mut bytes);
        assert_eq!(bytes, [0; 8]);
        map.write(8192, &[1; 8]);
        let said = map.check().unwrap_err().to_string();
        assert!(said.contains("damaged at byte 4096"), "{said}");
        assert!(other.check().is_ok(), "of another mapping nothing was touched");
        map.read(0, &mut bytes);
        assert_eq!(bytes, [7; 8], "the rest is as it was");
        drop(map);
        let again = Map::read_only(&file, &path, 4096).unwrap();
        assert!(again.check().is_ok());
    }
}
