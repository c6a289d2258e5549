//! A feed's folder, and whether it has new file names that are not durable yet.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::os::file;

/// A folder in which the writing thread and the background thread create files.
///
/// A thread that creates a file calls [`Folder::note_new_name`] before another thread can learn of
/// the file. A thread that is about to call a file durable, with a seal or a checkpoint, calls
/// [`Folder::sync`] first.
pub struct Folder {
    path: PathBuf,
    has_new_names: AtomicBool,
}

impl Folder {
    /// Makes the folder of a feed. Names that an earlier writer created may not be durable either,
    /// so the first sync always syncs.
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, has_new_names: AtomicBool::new(true) }
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that a file was created.
    pub fn note_new_name(&self) {
        // SYNC: has_new_names; pairs with the Acquire in `sync`: the file was created before this
        // store.
        self.has_new_names.store(true, Ordering::Release);
    }

    /// Makes all noted names durable.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); the writer must stop then.
    pub fn sync(&self) -> Result<()> {
        // Clear the flag before the sync: a name created during the sync is then synced next time.
        match self.has_new_names.swap(false, Ordering::Acquire) {
            true => file::sync_folder(&self.path),
            false => Ok(()),
        }
    }
}
