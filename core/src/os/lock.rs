//! Locks. A feed's lock is an open-file-description lock, so that a process that could not take the
//! lock can ask whether it is held. The locks of the registry and of the log are flocks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use fs2::FileExt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};
use crate::os::faults::{self, Io, Op};
use crate::os::{file, process};

/// A lock on a file, held until dropped. The file is never unlinked.
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that another thread is just starting has the file
        // open too, and so holds the lock until it executes its program.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
        let _ = FileExt::unlock(&self.file);
    }
}

/// O_NONBLOCK: opening a FIFO in place of a lock must not block.
const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;

fn open(path: &Path) -> Result<File> {
    let make = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(FLAGS)
            .open(path)
    };
    let odd = || Error::damaged(path, 0, "not a regular file, where a lock should be");
    let made = faults::make(Io::on(Op::Create, path), make);
    let file = made.map_err(|e| match (e.kind(), path.parent()) {
        (std::io::ErrorKind::NotFound, Some(folder)) => {
            Error::damaged(folder, 0, "the folder of the locks is missing")
        }
        _ if path.symlink_metadata().is_ok_and(|meta| !meta.is_file()) => odd(),
        _ => Error::io("cannot open the lock", path, e),
    })?;
    let meta = file.metadata().map_err(|e| Error::io("cannot stat", path, e))?;
    if !meta.is_file() {
        return Err(odd());
    }
    file::give_to_owner(&file, path)?;
    match is_foreign(&file, path) {
        false => Ok(file),
        true => Err(Error::damaged(path, 0, "a lock that belongs to another user; remove it")),
    }
}

/// Whether a lock belongs neither to us, nor to root, nor to the owner of its folder. Its owner
/// could hold it forever.
fn is_foreign(file: &File, path: &Path) -> bool {
    let owner = |meta: std::io::Result<std::fs::Metadata>| meta.map_or(0, |meta| meta.uid());
    let known = [0, process::user_id()];
    let user = owner(file.metadata());
    !known.contains(&user) && path.parent().is_none_or(|up| owner(up.metadata()) != user)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

impl Lock {
    /// Takes a feed's lock if it is free. Returns `None` if another process, or another handle in
    /// this one, holds it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_feed(path: &Path) -> Result<Option<Lock>> {
        let file = open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Lock { file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(e) => Err(Error::io("cannot lock", path, e.into())),
        }
    }

    /// Whether a feed's lock is held. `None` if we may not ask, or if the file is missing: the feed
    /// was never written, or the file was removed.
    ///
    /// # Errors
    /// [`Error::Io`] if a limit was met or the disk failed.
    pub fn feed_is_held(path: &Path) -> Result<Option<bool>> {
        let file = match OpenOptions::new().read(true).custom_flags(FLAGS).open(path) {
            Ok(file) => file,
            Err(e) => match Error::io("cannot open the lock", path, e) {
                error if error.says_nothing() && !error.is_denied() => return Err(error),
                _ => return Ok(None),
            },
        };
        if is_foreign(&file, path) {
            return Ok(None);
        }
        let mut asked = whole_file(libc::F_RDLCK);
        let answer = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked));
        Ok(answer.is_ok().then_some(i32::from(asked.l_type) != libc::F_UNLCK))
    }

    /// Takes a lock of the kind that [`Lock::wait`] takes, if it is free.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_replace(path: &Path) -> Result<Option<Lock>> {
        let file = open(path)?;
        match FileExt::try_lock_exclusive(&file) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(e) if e.kind() == fs2::lock_contended_error().kind() => Ok(None),
            Err(e) => Err(Error::io("cannot lock", path, e)),
        }
    }

    /// Waits for the lock that protects the replacement of a whole file (the registry).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn wait(path: &Path) -> Result<Lock> {
        loop {
            let file = open(path)?;
            FileExt::lock_exclusive(&file).map_err(|e| Error::io("cannot lock", path, e))?;
            let held = file.metadata().map_err(|e| Error::io("cannot stat", path, e))?;
            // If the store was removed and created again meanwhile, it has a new lock file.
            match path.symlink_metadata() {
                Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {
                    return Ok(Lock { file });
                }
                _ => {}
            }
        }
    }
}
