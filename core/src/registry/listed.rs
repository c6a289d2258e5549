//! A cached list of feeds, valid until the store's list changes. A tool that visits all feeds must
//! not read the list again for each.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::registry::global::{FeedEntry, Registry};

/// Tells versions of `registry.bin` apart: device, inode, size, modification and change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(meta: &Metadata) -> Stamp {
    let modified = (meta.mtime(), meta.mtime_nsec());
    let changed = (meta.ctime(), meta.ctime_nsec());
    (meta.dev(), meta.ino(), meta.len(), modified, changed)
}

/// A loaded registry with an index by name.
pub struct Listed {
    registry: Registry,
    /// Positions in the registry, sorted by the feeds' names.
    by_name: Vec<u32>,
    stamp: Stamp,
    /// The file that was read. While it is open, no other file can have its inode, so a replaced
    /// registry is always noticed.
    _file: File,
}

impl Listed {
    /// Reads `path`, which must belong to `store_id`.
    ///
    /// # Errors
    /// As [`Registry::load`].
    pub fn load(path: &Path, store_id: [u8; 16]) -> Result<Listed> {
        let file = Registry::open_file(path)?;
        // Taken before the read: a change during the read changes the stamp.
        let meta = file.metadata().map_err(|e| Error::io("cannot stat", path, e))?;
        let registry = Registry::load_open(&file, path, store_id)?;
        let mut by_name: Vec<u32> = (0..registry.feeds.len() as u32).collect();
        // The sort is stable: of two feeds with the same name the first wins, as in
        // `Registry::find`.
        by_name.sort_by_key(|&at| &*registry.feeds[at as usize].name);
        Ok(Listed { registry, by_name, stamp: stamp(&meta), _file: file })
    }

    /// Whether `path` is still the file that was read, unchanged.
    pub fn is_current(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|meta| stamp(&meta) == self.stamp)
    }

    /// Returns the feed with this name.
    pub fn find(&self, name: &str) -> Option<&FeedEntry> {
        let feeds = &self.registry.feeds;
        let at = self.by_name.partition_point(|&at| &*feeds[at as usize].name < name);
        let entry = &feeds[*self.by_name.get(at)? as usize];
        (entry.name == name).then_some(entry)
    }

    /// Returns the feeds, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = &FeedEntry> {
        self.by_name.iter().map(|&at| &self.registry.feeds[at as usize])
    }
}
