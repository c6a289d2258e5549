//! Operations on folders that are held open. What was examined is what is removed: no name is
//! looked up twice, and no link is followed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};
use crate::os::faults::{self, Io, Op};

/// Maximum depth of nested folders. The store has none deeper.
const MAX_DEPTH: usize = 64;

/// An open folder.
pub struct Dir {
    file: File,
    path: PathBuf,
}

/// What a name in a folder refers to. A link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The user that owns it.
    pub owner: u32,
    /// Device and inode.
    pub identity: (u64, u64),
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

impl Dir {
    /// Opens a folder. Fails if it is a link.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<Dir> {
        Dir::open_with(path, libc::O_NOFOLLOW)
    }

    /// Opens a folder, following a link.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn follow(path: &Path) -> Result<Dir> {
        Dir::open_with(path, 0)
    }

    fn open_with(path: &Path, flags: i32) -> Result<Dir> {
        let flags = flags | libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = file.map_err(|e| Error::io("cannot open the folder", path, e))?;
        Ok(Dir { file, path: path.to_owned() })
    }

    /// Returns the descriptor.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the path by which the folder was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the user that owns it, and its mode.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn owner_and_mode(&self) -> Result<(u32, u32)> {
        let meta = self.file.metadata().map_err(|e| Error::io("cannot stat", &self.path, e))?;
        Ok((meta.uid(), meta.mode() & 0o7777))
    }

    /// Returns its device and inode.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn identity(&self) -> Result<(u64, u64)> {
        let meta = self.file.metadata().map_err(|e| Error::io("cannot stat", &self.path, e))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let set = self.file.set_permissions(std::fs::Permissions::from_mode(mode));
        set.map_err(|e| Error::io("cannot set the mode of", &self.path, e))
    }

    /// Returns the names in it that are UTF-8. All names of a store are.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn names(&self) -> Result<Vec<String>> {
        let wrong = |e: Errno| Error::io("cannot list", &self.path, e.into());
        // Open it again: a listing has a position of its own only with its own descriptor.
        let mut listing =
            dir::Dir::openat(&self.file, ".", folder_flags(), Mode::empty()).map_err(wrong)?;
        let mut names = Vec::new();
        for item in listing.iter() {
            let item = item.map_err(wrong)?;
            match item.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Returns what a name refers to, or `None` if the name does not exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn entry(&self, name: &str) -> Result<Option<Entry>> {
        match fstatat(&self.file, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(entry_of(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(Error::io("cannot stat", self.path.join(name), e.into())),
        }
    }

    /// Opens a folder in it. Fails if the name is a link.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn enter(&self, name: &str) -> Result<Dir> {
        let path = self.path.join(name);
        match openat(&self.file, name, folder_flags(), Mode::empty()) {
            Ok(fd) => Ok(Dir { file: File::from(fd), path }),
            Err(e) => Err(Error::io("cannot open the folder", path, e.into())),
        }
    }

    /// Returns a name in it, or in a folder below it, that belongs to another user than `owner`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn foreign(&self, owner: u32) -> Result<Option<PathBuf>> {
        for name in self.names()? {
            let Some(entry) = self.entry(&name)? else { continue };
            if entry.owner != owner {
                return Ok(Some(self.path.join(name)));
            }
            if entry.is_folder
                && let Some(found) = self.enter(&name)?.foreign(owner)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Removes a name; a folder is removed with its contents. With an `owner`, only what belongs to
    /// that user is removed; the rest stays, with the folders that contain it. A missing name is
    /// not an error.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, name: &str, owner: Option<u32>) -> Result<()> {
        self.remove_at(name, owner, 0)
    }

    fn remove_at(&self, name: &str, owner: Option<u32>, depth: usize) -> Result<()> {
        let Some(entry) = self.entry(name)? else { return Ok(()) };
        if owner.is_some_and(|owner| owner != entry.owner) {
            return Ok(());
        }
        if !entry.is_folder {
            return self.unlink(name, UnlinkatFlags::NoRemoveDir);
        }
        if depth < MAX_DEPTH {
            let inner = match self.enter(name) {
                Err(error) if error.is_not_found() => return Ok(()),
                inner => inner?,
            };
            if inner.identity()? != entry.identity {
                let what = "another folder has taken its place; run the command again";
                return Err(Error::damaged(&inner.path, 0, what));
            }
            for name in inner.names()? {
                inner.remove_at(&name, owner, depth + 1)?;
            }
        }
        match self.unlink(name, UnlinkatFlags::RemoveDir) {
            Err(Error::Io { source, .. })
                if owner.is_some() && source.kind() == io::ErrorKind::DirectoryNotEmpty =>
            {
                Ok(())
            }
            removed => removed,
        }
    }

    fn unlink(&self, name: &str, flags: UnlinkatFlags) -> Result<()> {
        let path = self.path.join(name);
        let unlink = || unlinkat(&self.file, name, flags).map_err(io::Error::from);
        match faults::io(Io::on(Op::Remove, &path), unlink) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("cannot remove", path, e))
            }
            _ => Ok(()),
        }
    }
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn entry_of(stat: &FileStat) -> Entry {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    Entry {
        owner: stat.st_uid,
        identity: (stat.st_dev, stat.st_ino),
        is_folder: kind == SFlag::S_IFDIR,
        is_file: kind == SFlag::S_IFREG,
    }
}

/// Splits a path into its folder and its last component.
pub(super) fn split(path: &Path) -> Option<(&Path, &str)> {
    let name = path.file_name().and_then(|name| std::str::from_utf8(name.as_bytes()).ok())?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    Some((above.unwrap_or(Path::new(".")), name))
}
