//! A mapping of a growing file. It consists of parts of doubling size, each mapped once the file
//! reaches it.
//!
//! A mapped part never moves, so other threads can use it while one maps more. The address space
//! used stays below twice the size of the file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::os::map::Map;
use crate::os::words::{Half, Word};

/// Size of the first part: a multiple of every page size that Linux has.
const FIRST: usize = 64 * 1024;
const PARTS: usize = 15;
/// Maximum size of a file that can be mapped.
pub const LIMIT: usize = FIRST << (PARTS - 1);

/// A growing file, mapped as far as [`GrowingMap::ensure`] was asked to, or a copy of its
/// beginning. An access beyond that loads zeros or stores nothing, and [`GrowingMap::check`]
/// reports it. An access must not cross the border of a part.
pub struct GrowingMap {
    parts: Box<[OnceLock<Map>; PARTS]>,
    path: PathBuf,
    writable: bool,
    missed: AtomicBool,
}

impl GrowingMap {
    /// Maps at least the first `len` bytes of a file.
    ///
    /// # Errors
    /// As [`GrowingMap::ensure`].
    pub fn new(file: &File, path: &Path, len: usize, writable: bool) -> Result<GrowingMap> {
        let parts = Box::new([const { OnceLock::new() }; PARTS]);
        let (path, missed) = (path.to_owned(), AtomicBool::new(false));
        let map = GrowingMap { parts, path, writable, missed };
        map.ensure(file, len)?;
        Ok(map)
    }

    /// Wraps a copy of at most the first part of a file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a longer copy.
    pub fn of_copy(copy: Map) -> Result<GrowingMap> {
        let path = copy.path().to_owned();
        if copy.len() > FIRST {
            return Err(Error::Invalid(format!("{}: too long to be copied", path.display())));
        }
        let parts = Box::new([const { OnceLock::new() }; PARTS]);
        let _ = parts[0].set(copy);
        Ok(GrowingMap { parts, path, writable: false, missed: AtomicBool::new(false) })
    }

    /// Maps those of the first `len` bytes that are not mapped yet. The file must be that long.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses; [`Error::Invalid`] beyond [`LIMIT`], or beyond the end
    /// of a copy.
    pub fn ensure(&self, file: &File, len: usize) -> Result<()> {
        let too_long = || {
            let what = format!("{}: cannot map {len} bytes of it", self.path.display());
            Error::Invalid(what)
        };
        let last = part_of(len.saturating_sub(1)).ok_or_else(too_long)?.0;
        for (part, at) in self.parts[..=last].iter().zip(0..) {
            if part.get().is_none() {
                let (start, size) = extent_of(at);
                let map = Map::part(file, &self.path, start as u64, size, self.writable)?;
                // If another thread has mapped the part meanwhile, this mapping is dropped.
                let _ = part.set(map);
            }
        }
        let is_there =
            self.parts[last].get().is_some_and(|map| len <= extent_of(last).0 + map.len());
        is_there.then_some(()).ok_or_else(too_long)
    }

    /// Returns the part that contains the bytes, and their offset in it.
    #[inline]
    fn look(&self, at: usize, len: usize) -> Option<(&Map, usize)> {
        let (part, start) = part_of(at)?;
        let map = self.parts[part].get()?;
        let at = at - start;
        at.checked_add(len).is_some_and(|to| to <= map.len()).then_some((map, at))
    }

    /// As `look`, for an access: records a miss if the bytes are not mapped.
    #[inline]
    fn find(&self, at: usize, len: usize) -> Option<(&Map, usize)> {
        let found = self.look(at, len);
        if found.is_none() {
            self.missed.store(true, Ordering::Release);
        }
        found
    }

    /// Whether this is a copy.
    pub fn is_copy(&self) -> bool {
        self.parts[0].get().is_some_and(Map::is_copy)
    }

    /// Whether this is a copy and the file is unchanged since; see [`Map::is_unchanged`].
    pub fn is_unchanged(&self, file: &File) -> bool {
        self.parts[0].get().is_some_and(|copy| copy.is_unchanged(file))
    }

    /// Returns the number of bytes that are mapped or copied.
    pub fn len(&self) -> usize {
        let mapped = self.parts.iter().map_while(|part| part.get().map(Map::len));
        mapped.sum()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that every access was to mapped memory that exists.
    ///
    /// # Errors
    /// [`Error::Damaged`] as [`Map::check`]; [`Error::Invalid`] if an access was outside the
    /// mapping.
    pub fn check(&self) -> Result<()> {
        if self.missed.load(Ordering::Acquire) {
            let what = format!("{}: a part of it is not mapped", self.path.display());
            return Err(Error::Invalid(what));
        }
        self.parts.iter().map_while(OnceLock::get).try_for_each(Map::check)
    }

    /// Returns the 64-bit word at `at`.
    #[inline]
    pub fn u64_at(&self, at: usize) -> Word<'_> {
        match self.find(at, 8) {
            Some((map, at)) => map.u64_at(at),
            None => Word::nowhere(),
        }
    }

    /// Returns the 32-bit word at `at`.
    #[inline]
    pub fn u32_at(&self, at: usize) -> Half<'_> {
        match self.find(at, 4) {
            Some((map, at)) => map.u32_at(at),
            None => Half::of(Word::nowhere(), false),
        }
    }

    /// Stores `bytes` at `at`.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        if let Some((map, at)) = self.find(at, bytes.len()) {
            map.write(at, bytes);
        }
    }

    /// Copies `into.len()` bytes from `at`.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        match self.find(at, into.len()) {
            Some((map, at)) => map.read(at, into),
            None => into.fill(0),
        }
    }

    /// Maps the pages of `len` bytes at `at` for storing; see [`Map::populate`].
    pub fn populate(&self, at: usize, len: usize) {
        if let Some((map, at)) = self.look(at, len) {
            map.populate(at, len);
        }
    }
}

/// Returns the part that contains a byte, and the offset where that part begins.
#[inline]
fn part_of(at: usize) -> Option<(usize, usize)> {
    let part = (at / FIRST).checked_ilog2().map_or(0, |log| log as usize + 1);
    (part < PARTS).then(|| (part, extent_of(part).0))
}

/// Returns the offset and the size of a part.
#[inline]
fn extent_of(part: usize) -> (usize, usize) {
    match part.checked_sub(1) {
        None => (0, FIRST),
        Some(before) => (FIRST << before, FIRST << before),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_follow_one_another() {
        let mut end = 0;
        for part in 0..PARTS {
            let (start, size) = extent_of(part);
            assert_eq!(start, end);
            end = start + size;
            assert_eq!(part_of(start), Some((part, start)));
            assert_eq!(part_of(end - 1), Some((part, start)));
        }
        assert_eq!((end, part_of(end)), (LIMIT, None));
    }

    #[test]
    fn a_map_grows_with_its_file_and_reports_what_it_has_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        let path = Path::new("table");
        file.set_len(FIRST as u64).unwrap();
        let map = GrowingMap::new(&file, path, 4096, true).unwrap();
        assert_eq!(map.len(), FIRST);
        let word = map.u64_at(FIRST - 8);
        file.set_len(4 * FIRST as u64).unwrap();
        map.ensure(&file, 3 * FIRST).unwrap();
        assert_eq!(map.len(), 4 * FIRST);
        let reader = GrowingMap::new(&file, path, 4 * FIRST, false).unwrap();
        word.store(1, Ordering::Relaxed);
        map.write(FIRST, &[2; 128]);
        map.write(4 * FIRST - 128, &[3; 128]);
        let mut bytes = [0; 128];
        for (at, value) in [(FIRST, 2), (4 * FIRST - 128, 3)] {
            reader.read(at, &mut bytes);
            assert_eq!(bytes, [value; 128]);
        }
        assert_eq!(reader.u64_at(FIRST - 8).load(Ordering::Relaxed), 1);
        assert!(map.check().is_ok() && reader.check().is_ok());
        reader.read(4 * FIRST, &mut bytes);
        assert_eq!(bytes, [0; 128]);
        assert!(reader.check().unwrap_err().to_string().contains("not mapped"));
        assert!(map.ensure(&file, LIMIT + 1).is_err());
    }
}
