//! Shared mappings of files.
//!
//! A mapping is memory that other processes see and change at any time, whatever they agreed to.
//! So it is reached as atomic [`words`](crate::os::words) only, and never lent as bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::error::{Error, Result};
use crate::os::bus::Guard;
use crate::os::faults::{self, Io, Op};
use crate::os::file;
use crate::os::memory::page_size;
use crate::os::words::{self, Access, Half, WORD, Word, outside};

/// A copy is compared with its file in pieces of this size.
const COMPARED_BYTES: usize = 4096;

/// A shared mapping of the first `len` bytes of a file, unmapped when dropped; or a copy of them,
/// for one look, see [`Map::copy`].
///
/// The mapping may be longer than the file; every caller keeps below the size it allocated or asked
/// the file for. What is touched behind the file's end nevertheless, because somebody cut it short,
/// reads as zeros and is told by [`Map::check`].
pub struct Map {
    // Goes first: the addresses may be another mapping's as soon as this one is gone.
    guard: Guard,
    /// All of the memory that `owner` has, as words.
    words: NonNull<[AtomicU64]>,
    len: usize,
    access: Access,
    /// Where in the file it begins.
    start: u64,
    owner: Owner,
    path: PathBuf,
}

enum Owner {
    Mapping(MmapRaw),
    /// Kept to be freed with the map.
    Copy(#[allow(dead_code)] Box<[AtomicU64]>),
}

// SAFETY: the memory belongs to no thread and lives as long as the map, wherever that is; it is
// reached through atomics.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes for reading and writing.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn writable(file: &File, path: &Path, len: usize) -> Result<Map> {
        Map::part(file, path, 0, len, true)
    }

    /// Maps `len` bytes for reading.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn read_only(file: &File, path: &Path, len: usize) -> Result<Map> {
        Map::part(file, path, 0, len, false)
    }

    /// Maps `len` bytes from byte `start` of the file on, which begins a page. Offsets in the
    /// mapping count from there.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn part(file: &File, path: &Path, start: u64, len: usize, writable: bool) -> Result<Map> {
        if !start.is_multiple_of(page_size() as u64) {
            let what = format!("{}: a mapping from byte {start} on", path.display());
            return Err(Error::Invalid(what));
        }
        let io = Io::range(Op::Map, path, start, len as u64);
        let mut options = MmapOptions::new();
        options.offset(start).len(len);
        let raw = faults::make(io, || match writable {
            true => options.map_raw(file),
            false => options.map_raw_read_only(file),
        });
        let raw = raw.map_err(|e| Error::io("cannot map", path, e))?;
        let guard = Guard::new(raw.as_mut_ptr() as usize, len);
        // It begins with a page and consists of whole pages, so the last word is there too.
        let first = NonNull::new(raw.as_mut_ptr().cast()).ok_or_else(|| {
            Error::io("cannot map", path, io::Error::from_raw_os_error(libc::ENOMEM))
        })?;
        let words = NonNull::slice_from_raw_parts(first, len.div_ceil(WORD));
        let access = if writable { Access::Store } else { Access::Load };
        let (owner, path) = (Owner::Mapping(raw), path.to_owned());
        Ok(Map { guard, words, len, access, start, owner, path })
    }

    /// Copies the first `len` bytes: for whoever looks once, and only loads, that is much cheaper
    /// than a mapping. Somebody may store meanwhile: nothing in a copy is to be believed before
    /// [`Map::is_unchanged`] has said that it is of one moment.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] for a file that is shorter.
    pub fn copy(file: &File, path: &Path, len: usize) -> Result<Map> {
        let mut words = vec![0u64; len.div_ceil(WORD)];
        // SAFETY: the words are initialised, and any bytes are words.
        let bytes = unsafe { words.align_to_mut::<u8>().1 };
        file::read_at(file, path, 0, &mut bytes[..len])?;
        let words: Box<[AtomicU64]> = words.into_iter().map(AtomicU64::new).collect();
        let (shared, path) = (NonNull::from(&*words), path.to_owned());
        let (guard, access, owner) = (Guard::none(), Access::Load, Owner::Copy(words));
        Ok(Map { guard, words: shared, len, access, start: 0, owner, path })
    }

    /// Whether this is a copy, and the file still has the same bytes. They were its bytes at every
    /// moment between the two readings then, since nobody stores for a moment what was there
    /// before; nor is a word among them that was copied while it was being stored, since the second
    /// reading, which comes later, would not have got the same part of it.
    pub fn is_unchanged(&self, file: &File) -> bool {
        // SYNC: all words of the file; nothing that was read before is read after this.
        fence(Ordering::Acquire);
        let (mut now, mut then) = ([0; COMPARED_BYTES], [0; COMPARED_BYTES]);
        let mut starts = (0..self.len).step_by(COMPARED_BYTES);
        self.is_copy()
            && starts.all(|at| {
                let len = (self.len - at).min(COMPARED_BYTES);
                let (now, then) = (&mut now[..len], &mut then[..len]);
                self.read(at, then);
                file::read_at(file, &self.path, at as u64, now).is_ok() && now == then
            })
    }

    /// Whether this is a copy.
    pub fn is_copy(&self) -> bool {
        matches!(self.owner, Owner::Copy(_))
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
            true => Err(lost(&self.path)),
        }
    }

    /// Length of the mapping, in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file mapped, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[inline(always)]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: `owner` has all of them, initialised, for as long as it is there, and nobody here
        // reaches them but through this.
        unsafe { self.words.as_ref() }
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Panics
    /// If no word begins there.
    #[inline]
    pub fn u64_at(&self, offset: usize) -> Word<'_> {
        word_at(self.words(), offset, self.access)
    }

    /// The 32-bit word at `offset`.
    ///
    /// # Panics
    /// If none begins there.
    #[inline]
    pub fn u32_at(&self, offset: usize) -> Half<'_> {
        half_at(self.words(), offset, self.access)
    }

    /// Stores bytes at `offset`, word by word, without any order. A word that is stored in part is
    /// this thread's alone.
    ///
    /// # Panics
    /// If the mapping ends before, or is for reading only.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if self.access != Access::Store {
            words::read_only();
        }
        self.check_bounds(offset, bytes.len());
        faults::store(&self.path, self.start as usize + offset, bytes.len(), |part| {
            words::put(self.words(), offset + part.start, &bytes[part]);
        });
    }

    /// Copies `into.len()` bytes at `offset` out, word by word, without any order. Of bytes that
    /// change meanwhile it may get some from before and some from after.
    ///
    /// # Panics
    /// If the mapping ends before.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.check_bounds(offset, into.len());
        words::get(self.words(), offset, into);
    }

    /// CRC-32C of `len` bytes at `offset`.
    ///
    /// # Panics
    /// If the mapping ends before.
    pub fn crc(&self, offset: usize, len: usize) -> u32 {
        self.check_bounds(offset, len);
        words::crc(self.words(), offset, len)
    }

    /// Writes `len` bytes at `offset` to another file, at the same distance from its beginning.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// If the mapping ends before.
    pub fn write_to(&self, (file, path): (&File, &Path), offset: usize, len: usize) -> Result<()> {
        self.check_bounds(offset, len);
        let io = Io::range(Op::Write, path, offset as u64, len as u64);
        let written = faults::io(io, || {
            let mut done = 0;
            while done < len {
                let (at, left) = (offset + done, len - done);
                // SAFETY: within the mapping by the check above. The kernel copies what is there at
                // that moment, and says so if it is gone.
                let wrote = unsafe {
                    let from = self.words.cast::<u8>().add(at).as_ptr();
                    libc::pwrite(file.as_raw_fd(), from.cast(), left, at as libc::off_t)
                };
                match wrote {
                    -1 => match io::Error::last_os_error() {
                        e if e.kind() == io::ErrorKind::Interrupted => {}
                        e => return Err(e),
                    },
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    wrote => done += wrote as usize,
                }
            }
            Ok(())
        });
        written.map_err(|e| Error::io("cannot write", path, e))
    }

    /// Panics if the mapping ends before: its last word may be longer.
    #[inline(always)]
    fn check_bounds(&self, offset: usize, len: usize) {
        if offset > self.len || len > self.len - offset {
            outside(offset, len, self.len);
        }
    }

    /// Maps the pages of `len` bytes at `offset` in, ready to be stored to. Best effort: where the
    /// kernel has no MADV_POPULATE_WRITE the stores fault as they come.
    pub fn populate(&self, offset: usize, len: usize) {
        let start = offset & !(page_size() - 1);
        let end = (offset + len).min(self.len);
        if let Owner::Mapping(raw) = &self.owner
            && start < end
        {
            let _ = raw.advise_range(Advice::PopulateWrite, start, end - start);
        }
    }
}

#[cold]
fn lost(path: &Path) -> Error {
    let what = "it was cut short while it was in use, or the disk cannot read it";
    let end = std::fs::metadata(path).map_or(0, |meta| meta.len());
    Error::damaged(path, end, what)
}

#[inline(always)]
fn word_at(words: &[AtomicU64], offset: usize, access: Access) -> Word<'_> {
    match words.get(offset / WORD) {
        Some(word) if offset.is_multiple_of(WORD) => Word::new(word, access),
        _ => no_word(offset, words.len() * WORD),
    }
}

#[inline(always)]
fn half_at(words: &[AtomicU64], offset: usize, access: Access) -> Half<'_> {
    let within = offset % WORD;
    if !within.is_multiple_of(WORD / 2) {
        no_word(offset, words.len() * WORD);
    }
    Half::of(word_at(words, offset - within, access), within > 0)
}

#[cold]
#[inline(never)]
fn no_word(offset: usize, end: usize) -> ! {
    panic!("no word begins at {offset} of a mapping of {end}")
}

/// Bytes of a ring's file before its records: one page.
pub const RING_HEAD_BYTES: usize = 4096;

/// So far ahead the writer of a ring asks for what it will store to: the time of a fetch from far
/// away, at full speed.
const AHEAD_BYTES: usize = 1024;

/// A ring's file, mapped so that its records lie twice in a row behind its first page: a run that
/// goes round the end is one run of bytes.
///
/// What is touched behind the file's end, because somebody cut it short, reads as zeros, which may
/// look like records: what was copied is to be believed only once [`RingMap::check`] has passed.
pub struct RingMap {
    guard: Guard,
    base: NonNull<u8>,
    path: PathBuf,
    capacity: usize,
    access: Access,
}

// SAFETY: the mapping belongs to no thread, and everything in it is reached through atomics.
unsafe impl Send for RingMap {}
// SAFETY: as above.
unsafe impl Sync for RingMap {}

impl RingMap {
    /// Maps a file of [`RING_HEAD_BYTES`] and `capacity` bytes of records. The file must be as
    /// long: who maps it checks.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses; [`Error::Invalid`] for a capacity that is no
    /// multiple of the page size.
    pub fn new(file: &File, path: &Path, capacity: usize, writable: bool) -> Result<RingMap> {
        if capacity == 0 || !capacity.is_multiple_of(RING_HEAD_BYTES) || capacity > 1 << 46 {
            let what = format!("{}: a ring of {capacity} bytes", path.display());
            return Err(Error::Invalid(what));
        }
        if !RING_HEAD_BYTES.is_multiple_of(page_size()) {
            return Err(Error::Invalid(format!(
                "{}: a ring is mapped twice, in pages of {RING_HEAD_BYTES} bytes, and this \
                 machine's have {}: transient feeds need another kernel here",
                path.display(),
                page_size()
            )));
        }
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let failed = |()| Error::io("cannot map", path, io::Error::last_os_error());
        let whole = RING_HEAD_BYTES + 2 * capacity;
        // SAFETY: a new private mapping wherever there is room; nothing is replaced.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0)
        };
        let base = mapped(base).map_err(failed)?;
        // From here on dropping it unmaps all of it.
        let access = if writable { Access::Store } else { Access::Load };
        let (guard, path) = (Guard::none(), path.to_owned());
        let mut ring = RingMap { guard, base, path, capacity, access };
        let again = RING_HEAD_BYTES + capacity;
        for (at, len, offset) in [(0, again, 0), (again, capacity, RING_HEAD_BYTES)] {
            // SAFETY: replaces a part of the mapping made above, which nobody uses yet.
            let part = unsafe {
                libc::mmap(
                    base.as_ptr().add(at).cast(),
                    len,
                    protection,
                    libc::MAP_SHARED | libc::MAP_FIXED,
                    file.as_raw_fd(),
                    offset as libc::off_t,
                )
            };
            mapped(part).map_err(failed)?;
        }
        ring.guard = Guard::new(base.as_ptr() as usize, whole);
        Ok(ring)
    }

    /// Whether all that was touched of the mapping was there.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file was cut short under the mapping: what was copied may be
    /// zeros, and what was stored may be gone.
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.guard.is_lost() {
            false => Ok(()),
            true => Err(lost(&self.path)),
        }
    }

    /// The file mapped, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of records.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline(always)]
    fn words(&self) -> &[AtomicU64] {
        let count = (RING_HEAD_BYTES + 2 * self.capacity) / WORD;
        // SAFETY: all of it is mapped for as long as `self` is there, from a page on, and nobody
        // here reaches it but through this and `head`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), count) }
    }

    /// The head: of known size, so that a check of a known offset costs nothing.
    #[inline(always)]
    fn head(&self) -> &[AtomicU64; RING_HEAD_BYTES / WORD] {
        // SAFETY: as in `words`, of which these are the first.
        unsafe { self.base.cast().as_ref() }
    }

    /// The 64-bit word at `offset` of the head.
    ///
    /// # Panics
    /// If no word begins there.
    #[inline(always)]
    pub fn u64_at(&self, offset: usize) -> Word<'_> {
        word_at(self.head(), offset, self.access)
    }

    /// The 32-bit word at `offset` of the head.
    ///
    /// # Panics
    /// If none begins there.
    #[inline]
    pub fn u32_at(&self, offset: usize) -> Half<'_> {
        half_at(self.head(), offset, self.access)
    }

    /// Stores bytes at `offset`, as [`Map::write`].
    ///
    /// # Panics
    /// As [`Map::write`].
    #[inline(always)]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if self.access != Access::Store {
            words::read_only();
        }
        words::put(self.words(), offset, bytes);
    }

    /// Copies `into.len()` bytes at `offset` out, as [`Map::read`].
    ///
    /// # Panics
    /// As [`Map::read`].
    #[inline(always)]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        words::get(self.words(), offset, into);
    }

    /// Asks for the cache line that is stored to [`AHEAD_BYTES`] from now. A hint.
    #[inline(always)]
    pub fn prefetch_ahead(&self, offset: usize) {
        self.prefetch_to_store(offset + AHEAD_BYTES);
    }

    /// Asks for the cache line at `offset`, to store to it. A hint.
    #[inline(always)]
    pub fn prefetch_to_store(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            let line = self.base.as_ptr().wrapping_add(offset);
            // SAFETY: a prefetch loads nothing and never faults, wherever it is.
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Asks for the cache lines of `len` bytes at `offset`. A hint.
    #[inline(always)]
    pub fn prefetch(&self, offset: usize, len: usize) {
        #[cfg(target_arch = "x86_64")]
        for at in [offset, offset + len - 1] {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.base.as_ptr().wrapping_add(at);
            // SAFETY: a prefetch loads nothing and never faults, wherever it is.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast_const().cast()) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (offset, len);
    }

    /// Maps the pages of `len` bytes at `offset` in, for storing or for loading. Best effort.
    pub fn populate(&self, offset: usize, len: usize, writable: bool) {
        let start = offset & !(page_size() - 1);
        let end = (offset + len).min(RING_HEAD_BYTES + 2 * self.capacity);
        let advice = if writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
        if start < end {
            // SAFETY: a hint on a part of our own mapping, in bounds by the line above.
            unsafe {
                libc::madvise(self.base.as_ptr().add(start).cast(), end - start, advice);
            }
        }
    }
}

fn mapped(address: *mut libc::c_void) -> std::result::Result<NonNull<u8>, ()> {
    if address == libc::MAP_FAILED { Err(()) } else { NonNull::new(address.cast()).ok_or(()) }
}

impl Drop for RingMap {
    fn drop(&mut self) {
        // Goes first: the addresses may be another mapping's as soon as this one is gone.
        self.guard = Guard::none();
        // SAFETY: exactly what `new` mapped; nobody borrows from it any more.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), RING_HEAD_BYTES + 2 * self.capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ring_goes_round() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096 + 8192).unwrap();
        let path = Path::new("ring");
        let ring = RingMap::new(&file, path, 8192, true).unwrap();
        let other = RingMap::new(&file, path, 8192, false).unwrap();
        // Records of whole words, and of 3 bytes.
        for (from, len) in [(24, 48), (7, 12)] {
            let bytes: Vec<u8> = (0..len).collect();
            ring.write(4096 + 8192 - from, &bytes);
            let mut head = vec![0; usize::from(len) - from];
            other.read(4096, &mut head);
            assert_eq!(head, bytes[from..]);
            let mut all = vec![0; len.into()];
            other.read(4096 + 8192 - from, &mut all);
            assert_eq!(all, bytes);
        }
        ring.u64_at(320).store(7, Ordering::Release);
        assert_eq!(other.u64_at(320).load(Ordering::Acquire), 7);
        let file = tempfile::tempfile().unwrap();
        assert!(RingMap::new(&file, path, 5000, true).is_err());
    }

    #[test]
    fn a_copy_is_of_one_moment_or_is_told_to_be_none() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 4096).unwrap();
        let path = Path::new("f");
        let map = Map::writable(&file, path, 3 * 4096).unwrap();
        map.u64_at(8).store(7, Ordering::Release);
        let copy = Map::copy(&file, path, 4096 + 24).unwrap();
        assert!(copy.is_copy() && copy.is_unchanged(&file) && !map.is_unchanged(&file));
        assert_eq!((copy.len(), copy.u64_at(8).load(Ordering::Relaxed)), (4096 + 24, 7));
        map.u64_at(4096 + 24).store(1, Ordering::Release);
        assert!(copy.is_unchanged(&file), "behind what was copied");
        map.u64_at(4096 + 16).store(1, Ordering::Release);
        assert!(!copy.is_unchanged(&file));
        assert_eq!(copy.u64_at(4096 + 16).load(Ordering::Relaxed), 0);
        assert!(copy.check().is_ok());
        map.u64_at(4096 + 16).store(0, Ordering::Release);
        file.set_len(4096).unwrap();
        assert!(!copy.is_unchanged(&file), "cut short");
        assert!(Map::copy(&file, path, 4097).is_err());
    }

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
    #[test]
    fn a_ring_cut_short_is_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        std::fs::write(&path, [7; 4096 + 8192]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let ring = RingMap::new(&file, &path, 8192, true).unwrap();
        let other = RingMap::new(&file, &path, 8192, false).unwrap();
        file.set_len(8192).unwrap();
        let mut bytes = [0; 16];
        ring.read(4096, &mut bytes);
        assert!(bytes == [7; 16] && ring.check().is_ok(), "that is still there");
        // The second time round, behind the file's end.
        ring.read(4096 + 8192 + 4096, &mut bytes);
        assert_eq!(bytes, [0; 16]);
        let said = ring.check().unwrap_err().to_string();
        assert!(said.contains("damaged at byte 8192"), "{said}");
        assert!(other.check().is_ok(), "of another mapping nothing was touched");
        ring.write(4096 + 4096, &[1; 16]);
        file.set_len(0).unwrap();
        assert_eq!(other.u64_at(320).load(Ordering::Acquire), 0);
        assert!(other.check().is_err());
    }

    #[test]
    fn thousands_of_mappings_are_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, [7; 4096]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let make = || Map::writable(&file, &path, 4096).unwrap();
        let mut maps: Vec<Map> = (0..3000).map(|_| make()).collect();
        // Some go, and others take their places.
        maps.drain(1000..2000);
        maps.extend((0..500).map(|_| make()));
        file.set_len(0).unwrap();
        for map in &maps {
            assert!(map.check().is_ok());
            assert_eq!(map.u64_at(8).load(Ordering::Relaxed), 0);
            assert!(map.check().is_err());
        }
        drop(maps);
        file.set_len(4096).unwrap();
        assert!((0..3000).map(|_| make()).all(|map| map.check().is_ok()));
    }
}
