//! Files: opened without following links, allocated before use, synced, replaced whole.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::futimens;
use nix::sys::statfs::{self, FsType, statfs};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};

use crate::error::{Error, Result, there};
use crate::os::dir::{self, Dir};
use crate::os::faults::{self, Io, Op};
use crate::os::process;

/// Opens a file of the store for reading; a symbolic link in its place is refused.
///
/// # Errors
/// [`Error::Io`]; a link or a folder in the file's place is [`Error::Damaged`].
pub fn open_read(path: &Path) -> Result<File> {
    open_known(path, false).map(|(file, _)| file)
}

/// What a file was when it was opened.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its size, in bytes.
    pub size: u64,
    /// Its device and inode.
    pub identity: (u64, u64),
}

/// As [`open_read`], or [`open_write`] if `writable`, with what is known of the file by then.
///
/// # Errors
/// As [`open_read`].
pub fn open_known(path: &Path, writable: bool) -> Result<(File, Known)> {
    let (file, meta) = open(path, OpenOptions::new().read(true).write(writable))?;
    Ok((file, Known { size: meta.len(), identity: (meta.dev(), meta.ino()) }))
}

/// Opens a file of the store for reading and writing; a symbolic link in its place is refused.
///
/// # Errors
/// As [`open_read`].
pub fn open_write(path: &Path) -> Result<File> {
    open_known(path, true).map(|(file, _)| file)
}

/// Opens a file of the store for reading and appending, made with that mode (less the umask) if it
/// is not there; a symbolic link in its place is refused.
///
/// # Errors
/// As [`open_read`].
pub fn open_append(path: &Path, mode: u32) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true).mode(mode);
    open(path, options).map(|(file, _)| file)
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<(File, Metadata)> {
    // O_NONBLOCK: a FIFO in a file's place must not hang us.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = options.custom_flags(flags).open(path).map_err(|e| match e.raw_os_error() {
        Some(libc::ELOOP) => Error::damaged(path, 0, "a symbolic link where a file should be"),
        Some(libc::EISDIR) => Error::damaged(path, 0, "a folder where a file should be"),
        _ => Error::io("cannot open", path, e),
    })?;
    let meta = file.metadata().map_err(|e| Error::io("cannot stat", path, e))?;
    if !meta.is_file() {
        return Err(Error::damaged(path, 0, "not a regular file"));
    }
    Ok((file, meta))
}

/// Creates a file, of exactly that mode whatever the umask, and opens it for reading and writing.
/// What stood there is unlinked first, never truncated: somebody may have it mapped.
///
/// # Errors
/// [`Error::Io`].
pub fn create_new(path: &Path, mode: u32) -> Result<File> {
    let make = || {
        faults::make(Io::on(Op::Create, path), || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(mode)
                .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
                .open(path)
        })
    };
    let made = match make() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            remove_file(path)?;
            make()
        }
        made => made,
    };
    let file = made.map_err(|e| Error::io("cannot create", path, e))?;
    give_to_owner(&file, path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(|e| Error::io("cannot set the mode of", path, e))?;
    Ok(file)
}

/// What root makes in a store belongs to the owner of the folder that it lies in, who could not go
/// on with it otherwise.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn give_to_owner(file: &File, path: &Path) -> Result<()> {
    if process::user_id() != 0 {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let owner = fs::metadata(above).map_err(|e| Error::io("cannot stat", above, e))?;
    give_to(file, path, (owner.uid(), owner.gid()))
}

/// Gives a file that root has made to its owner; any other user's is left alone.
fn give_to(file: &File, path: &Path, (user, group): (u32, u32)) -> Result<()> {
    let wrong = |e| Error::io("cannot set the owner of", path, e);
    let now = file.metadata().map_err(wrong)?;
    if now.uid() != 0 || user == 0 {
        return Ok(());
    }
    fchown(file, Some(user), Some(group)).map_err(wrong)
}

/// Makes a folder with that mode if it is not there.
///
/// # Errors
/// [`Error::Io`].
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    // Closed to others until its mode is set.
    let make = || DirBuilder::new().mode(mode & 0o700).create(path);
    match faults::io(Io::on(Op::MakeFolder, path), make) {
        Ok(()) => {
            let folder = Dir::open(path)?;
            give_to_owner(folder.file(), path)?;
            folder.set_mode(mode)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path).map_err(|e| Error::io("cannot stat", path, e))?;
            match meta.is_dir() {
                true => Ok(()),
                false => Err(Error::damaged(path, 0, "not a folder, where one should be")),
            }
        }
        Err(e) => Err(Error::io("cannot create the folder", path, e)),
    }
}

/// Makes a folder, and those above it that are not there, durable: with the name of a folder all
/// that is in it would be lost. One that is there is taken to have been made just now.
///
/// # Errors
/// [`Error::Io`].
pub fn make_folders(path: &Path) -> Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if !path.is_dir() {
        if let Some(above) = above.filter(|above| !above.is_dir()) {
            make_folders(above)?;
        }
        match faults::io(Io::on(Op::MakeFolder, path), || fs::create_dir(path)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.map_err(|e| Error::io("cannot create the folder", path, e))?,
        }
    }
    match sync_folder(above.unwrap_or(Path::new("."))) {
        // A folder may be one to write to and not to look into; then its owner keeps it.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// The mode of a folder whose files have `file_mode`: whoever may read may enter.
pub fn folder_mode(file_mode: u32) -> u32 {
    file_mode | (file_mode & 0o444) >> 2
}

/// Allocates bytes `offset..offset + len` of a file, so that storing to them through a mapping
/// cannot run out of space; the file grows to that end.
///
/// # Errors
/// [`Error::Io`], also for a full disk; nothing was changed then but, at most, the file's size.
pub fn allocate(file: &File, path: &Path, offset: u64, len: u64) -> Result<()> {
    let (start, size) = (offset as libc::off_t, len as libc::off_t);
    let allocated = faults::io(Io::range(Op::Allocate, path, offset, len), || {
        loop {
            match fallocate(file, FallocateFlags::empty(), start, size) {
                Ok(()) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP) => return write_zeros(file, offset, len),
                Err(e) => return Err(e.into()),
            }
        }
    });
    allocated.map_err(|e| Error::io("cannot allocate space in", path, e))
}

/// The way to allocate where a file system cannot: blocks exist once they are written.
fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let end = offset + len;
    let mut at = offset;
    while at < end {
        let step = (end - at).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&ZEROS[..step], at)?;
        at += step as u64;
    }
    Ok(())
}

/// Cuts a file off at `len` bytes.
///
/// # Errors
/// [`Error::Io`].
pub fn truncate(file: &File, path: &Path, len: u64) -> Result<()> {
    let cut = faults::io(Io::range(Op::Truncate, path, len, 0), || file.set_len(len));
    cut.map_err(|e| Error::io("cannot truncate", path, e))
}

/// Sets a file's modification time, after stores through a mapping. Those move it when a page is
/// stored to for the first time since it was written back, and on tmpfs never; rsync and other
/// programs that make backups pass over a file whose time has not moved. Best effort.
pub fn touch(file: &File) {
    // Finer than the kernel's own time, but only the owner may choose a time.
    if file.set_modified(SystemTime::now()).is_err() {
        let _ = futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW);
    }
}

/// Makes a file's data durable (with the size, without the times), and moves its modification time:
/// it may have been stored to through a mapping.
///
/// # Errors
/// [`Error::Io`]; the caller must not try again and go on: the kernel may have dropped the pages.
pub fn sync(file: &File, path: &Path) -> Result<()> {
    touch(file);
    let synced = faults::io(Io::on(Op::Sync, path), || file.sync_data());
    synced.map_err(|e| Error::io("cannot sync", path, e))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_folder(path: &Path) -> Result<()> {
    let sync = || File::open(path).and_then(|folder| folder.sync_all());
    faults::io(Io::on(Op::SyncFolder, path), sync)
        .map_err(|e| Error::io("cannot sync the folder", path, e))
}

/// Starts to write a range of a file back without waiting, so that the next sync has little left to
/// do. A hint: failure is ignored.
pub fn start_writeback(file: &File, offset: u64, len: u64) {
    // SAFETY: a system call on a file descriptor that `file` keeps open; no memory is passed.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as libc::off64_t,
            len as libc::off64_t,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// Writes a file whole: temporary in the same folder, sync, rename, sync the folder.
///
/// # Errors
/// [`Error::Io`]; the old file is as it was, unless the error is from the last sync.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let written = create_new(&temporary, mode).and_then(|file| {
        write_at(&file, &temporary, 0, bytes)?;
        let synced = faults::io(Io::on(Op::Sync, &temporary), || file.sync_all());
        synced.map_err(|e| Error::io("cannot sync", &temporary, e))
    });
    let renamed = written.and_then(|()| rename("cannot replace", &temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    sync_folder(folder)
}

/// Gives a file or folder another name in the same folder, in the place of what has it. `doing` is
/// for the message, about the new name.
///
/// # Errors
/// [`Error::Io`].
pub fn rename(doing: &'static str, from: &Path, to: &Path) -> Result<()> {
    let io = Io { to: Some(to), ..Io::on(Op::Rename, from) };
    faults::io(io, || fs::rename(from, to)).map_err(|e| Error::io(doing, to, e))
}

/// Gives a file a second name, which nothing has yet.
///
/// # Errors
/// [`Error::Io`], also where the file system cannot.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    faults::io(Io::on(Op::Create, to), || fs::hard_link(from, to))
        .map_err(|e| Error::io("cannot link", to, e))
}

/// Unlinks a file; that it is gone already is fine.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_file(path: &Path) -> Result<()> {
    match faults::io(Io::on(Op::Remove, path), || fs::remove_file(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("cannot remove", path, e)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it; that it is gone already is fine. No link is followed:
/// one in the folder's place is unlinked.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_folder(path: &Path) -> Result<()> {
    let Some((above, name)) = dir::split(path) else { return remove_file(path) };
    match Dir::follow(above) {
        Err(error) if error.is_not_found() => Ok(()),
        above => above?.remove(name, None),
    }
}

/// Removes a folder if nothing is in it; that it is gone already is fine.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_folder_if_empty(path: &Path) -> Result<()> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match faults::io(Io::on(Op::Remove, path), || fs::remove_dir(path)) {
        Err(e) if !matches!(e.kind(), NotFound | DirectoryNotEmpty) => {
            Err(Error::io("cannot remove", path, e))
        }
        _ => Ok(()),
    }
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// [`Error::Io`].
pub fn write_at(file: &File, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let io = Io::range(Op::Write, path, offset, bytes.len() as u64);
    let written = faults::io(io, || file.write_all_at(bytes, offset));
    written.map_err(|e| Error::io("cannot write", path, e))
}

/// Reads `into.len()` bytes at `offset`.
///
/// # Errors
/// A file that ends before is [`Error::Damaged`] with the offset of its end.
pub fn read_at(file: &File, path: &Path, offset: u64, into: &mut [u8]) -> Result<()> {
    let io = Io::range(Op::Read, path, offset, into.len() as u64);
    faults::io(io, || Ok(())).map_err(|e| Error::io("cannot read", path, e))?;
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => {
                let end = offset + done as u64;
                let missing = into.len() - done;
                let what = format!("the file ends {missing} bytes short of what belongs there");
                return Err(Error::damaged(path, end, what));
            }
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("cannot read", path, e)),
        }
    }
    Ok(())
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`], or [`Error::Damaged`] for a file over the limit.
pub fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_open(&open_read(path)?, path, limit)
}

/// As [`read_whole`], of a file that is open.
///
/// # Errors
/// As [`read_whole`].
pub fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let size = size(file, path)?;
    if size > limit {
        return Err(Error::damaged(path, limit, format!("larger than {limit} bytes")));
    }
    let mut bytes = vec![0; size as usize];
    read_at(file, path, 0, &mut bytes)?;
    Ok(bytes)
}

/// The names in a folder that are UTF-8, as all of a store's are.
///
/// # Errors
/// [`Error::Io`].
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let wrong = |e| Error::io("cannot list", folder, e);
    let mut names = Vec::new();
    for item in fs::read_dir(folder).map_err(wrong)? {
        names.extend(item.map_err(wrong)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Bytes that a user without privileges may still write to the file system that `path` lies on.
///
/// # Errors
/// [`Error::Io`].
pub fn free_bytes(path: &Path) -> Result<u64> {
    let found = statvfs(path).map_err(|e| Error::io("cannot stat", path, e.into()))?;
    Ok(found.blocks_available() * found.fragment_size())
}

/// Files that a user without privileges may still make on the file system that `path` lies on;
/// none where it does not count them.
///
/// # Errors
/// [`Error::Io`].
pub fn free_inodes(path: &Path) -> Result<Option<u64>> {
    let found = statvfs(path).map_err(|e| Error::io("cannot stat", path, e.into()))?;
    Ok((found.files() > 0).then(|| found.files_available()))
}

/// Size of an open file, in bytes.
///
/// # Errors
/// [`Error::Io`].
pub fn size(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().map_err(|e| Error::io("cannot stat", path, e))?.len())
}

/// Whether the first `bytes` of an open file can have been stored: the file is as long, and has no
/// hole there. What a writer stores to is allocated first; copies have holes where zeros were.
///
/// # Errors
/// [`Error::Io`].
pub fn is_stored(file: &File, path: &Path, bytes: u64) -> Result<bool> {
    let meta = file.metadata().map_err(|e| Error::io("cannot stat", path, e))?;
    if meta.len() < bytes {
        return Ok(false);
    }
    // Fewer blocks than bytes can also mean that the file system compresses.
    let has_room = meta.blocks().saturating_mul(512) >= bytes;
    Ok(has_room || lseek(file, 0, Whence::SeekHole).map_or(true, |hole| hole as u64 >= bytes))
}

/// Device and inode of an open file.
///
/// # Errors
/// [`Error::Io`].
pub fn identity(file: &File, path: &Path) -> Result<(u64, u64)> {
    let meta = file.metadata().map_err(|e| Error::io("cannot stat", path, e))?;
    Ok((meta.dev(), meta.ino()))
}

/// Whether an open file still has that name.
pub fn is_named(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Where an open file lies now; `None` where it has no name any more, or that cannot be found out.
pub fn place_of(file: &File) -> Option<PathBuf> {
    let is_named = file.metadata().is_ok_and(|meta| meta.nlink() > 0);
    let place = || fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    is_named.then(place).flatten()
}

/// Whether a path lies on an overlay of file systems. There a file gets another content under the
/// same inode when it is written first, and what had mapped it before is left behind.
pub fn is_overlay(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == statfs::OVERLAYFS_SUPER_MAGIC)
}

/// What a path names, a link itself; `None` if nothing has that name.
///
/// # Errors
/// [`Error::Io`].
pub fn entry_of(path: &Path) -> Result<Option<Metadata>> {
    there(fs::symlink_metadata(path).map_err(|e| Error::io("cannot stat", path, e)))
}

/// Device and inode of what a path names, links followed.
///
/// # Errors
/// [`Error::Io`].
pub fn identity_of(path: &Path) -> Result<(u64, u64)> {
    let meta = fs::metadata(path).map_err(|e| Error::io("cannot stat", path, e))?;
    Ok((meta.dev(), meta.ino()))
}

/// Makes a folder in a place where anybody may make one, or takes the one that is there if it is
/// `owner`'s (user and group), and gives it at least that mode. Of one that others may write, that
/// leave is taken back.
///
/// # Errors
/// [`Error::Damaged`] for somebody else's, for a link, or for one with files of others in it;
/// [`Error::Io`].
pub fn claim_folder(path: &Path, owner: (u32, u32), mode: u32) -> Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(path);
    let is_new = match faults::io(Io::on(Op::MakeFolder, path), make) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io("cannot create the folder", path, e)),
    };
    let taken = || {
        let what = format!("it is not a folder of user {}; remove it", owner.0);
        Error::damaged(path, 0, what)
    };
    let folder = Dir::open(path).map_err(|error| match error.is_limit() {
        true => error,
        false => taken(),
    })?;
    if is_new && process::user_id() == 0 {
        give_to(folder.file(), path, owner)?;
    }
    let (user, old) = folder.owner_and_mode()?;
    if user != owner.0 {
        return Err(taken());
    }
    let wanted = (old & !0o022) | mode;
    if old & 0o022 != 0
        && let Some(foreign) = folder.foreign(user)?
    {
        let what = "another user's, in a folder that others could write; remove it";
        return Err(Error::damaged(foreign, 0, what));
    }
    if wanted == old { Ok(()) } else { folder.set_mode(wanted) }
}

/// The name of the network file system that `path` lies on, if it does.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    let kind: FsType = statfs(path).ok()?.filesystem_type();
    match kind {
        statfs::NFS_SUPER_MAGIC => Some("NFS"),
        statfs::SMB_SUPER_MAGIC => Some("SMB"),
        FsType(CIFS | SMB2) => Some("CIFS"),
        _ => None,
    }
}
