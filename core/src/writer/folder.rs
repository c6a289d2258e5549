//! A feed's folder as its writer knows it: whether names were made there that are not durable yet.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::os::file;

/// A folder in which the writing thread and the background thread make files.
///
/// Whoever makes a file there says so before any other thread can learn of the file. Whoever is
/// about to call a file durable, by a seal or a checkpoint, calls [`Folder::sync`] first.
pub struct Folder {
    path: PathBuf,
    has_new_names: AtomicBool,
}

impl Folder {
    /// A feed's folder. What an earlier writer has made there may not be durable either.
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, has_new_names: AtomicBool::new(true) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that a file was made.
    pub fn note_new_name(&self) {
        // SYNC: has_new_names; pairs with the Acquire in `sync`: the file is there before this.
        self.has_new_names.store(true, Ordering::Release);
    }

    /// Makes every name durable that was noted.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); the writer must stop then.
    pub fn sync(&self) -> Result<()> {
        // Cleared before the sync: a name that is made during it is synced next time.
        match self.has_new_names.swap(false, Ordering::Acquire) {
            true => file::sync_folder(&self.path),
            false => Ok(()),
        }
    }
}
