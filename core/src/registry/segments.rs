//! Where a feed's shared-memory files are: the segment folder of a store, and what the feed
//! registry says of it (FORMAT.md, Shared memory).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::bytes::{get_id, get_u32, get_u64, offsets, put, put_u32, put_u64};
use crate::checksum::{crc, fnv1a};
use crate::error::{Error, Result, there};
use crate::os::dir::Dir;
use crate::os::{file, process};
use crate::registry::info::FeedInfo;

/// The environment variable that names another place than `/dev/shm`.
pub const SHM_VARIABLE: &str = "DEEPWATER_SHM";
/// A slot in the feed registry, one sector.
pub const SLOT_SIZE: usize = 512;

offsets! {
    [0] {
        SESSION: 8, SEGMENT: 8, DEVICE: 8, BOOT: 16, KIND: 4, PATH_LEN: 4, PATH: 456, RESERVED: 4,
        CRC: 4,
    } = SLOT_SIZE;
}

/// What a feed's session keeps in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Nothing but the wait file.
    Disk = 1,
    /// The live page and the live chunk.
    Staged = 2,
    /// A ring.
    Ring = 3,
}

/// Where a session's segments are, as it noted in the feed registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// The session that noted it.
    pub session_id: u64,
    /// Random and not zero; the live page in the folder carries the same.
    pub segment_id: u64,
    /// Device of the folder.
    pub device: u64,
    /// The boot it is of.
    pub boot_id: [u8; 16],
    /// What is there.
    pub kind: SegmentKind,
    /// The folder.
    pub folder: PathBuf,
}

/// Whether a session's segments can be reached from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The folder is there.
    Here,
    /// They were of another boot, and are gone.
    OtherBoot,
    /// The folder is on another device than the writer's: another `/dev/shm`.
    OtherDevice,
    /// The folder, or what was in it, is not there any more.
    Gone,
    /// They are the original's, and this store is a copy.
    Copied,
}

impl Segments {
    /// The folder of a store's segments, `SHM/deepwater.<key>.<uid>`, made if it is not there;
    /// readers of `file_mode` may enter it. Where another user has taken that name: the one that
    /// `noted` names, if it is ours and of this boot, else one with a random name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] for a folder that others could write, with files of
    /// theirs.
    pub fn make_folder(
        base: &Path,
        store_id: [u8; 16],
        file_mode: u32,
        noted: Option<&Segments>,
    ) -> Result<PathBuf> {
        let owner = owner_of(base);
        let name = format!("{}{}", folder_prefix(base, store_id)?, owner.0);
        let folder = root().join(&name);
        let made = make_own_folder(&folder, owner, file_mode);
        let Err(Error::Damaged { path, .. }) = &made else { return made.map(|()| folder) };
        if *path != folder {
            return made.map(|()| folder);
        }
        let is_ours = |s: &Segments| -> Result<bool> {
            Ok(s.reach(base, store_id)? == Reach::Here
                && s.folder.parent() == Some(&root())
                && s.own_folder(base)?.is_some())
        };
        let ours = match noted {
            Some(noted) if is_ours(noted)? => Some(noted),
            _ => None,
        };
        let random =
            process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
        let random = u128::from_be_bytes(random) as u64;
        let other = match ours {
            Some(noted) => noted.folder.clone(),
            None => root().join(format!("{name}.{random:016x}")),
        };
        make_own_folder(&other, owner, file_mode).map(|()| other)
    }

    /// Makes the folder again, where somebody has removed it under the writer.
    ///
    /// # Errors
    /// As [`Segments::make_folder`]; also where another user has taken the name.
    pub fn remake_folder(&self, base: &Path, file_mode: u32) -> Result<()> {
        make_own_folder(&self.folder, owner_of(base), file_mode)
    }

    /// Takes back what others may do in a folder of this boot that is the store's own. Before
    /// anything in it is believed or adopted.
    ///
    /// # Errors
    /// [`Error::Damaged`] where files of others are in it.
    pub fn close_to_others(&self, base: &Path, store_id: [u8; 16]) -> Result<()> {
        let here = self.boot_id == process::boot_id() && self.is_of(base, store_id)?;
        match here && self.own_folder(base)?.is_some() {
            true => make_own_folder(&self.folder, owner_of(base), 0),
            false => Ok(()),
        }
    }

    /// Makes the folder of a feed's staged chunks.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] where another user has taken the name.
    pub fn make_chunk_folder(&self, base: &Path, feed: &str, file_mode: u32) -> Result<()> {
        make_own_folder(&self.chunk_folder(feed), owner_of(base), file_mode)
    }

    /// The folder, open, if it is the store's own: only then anything in it is removed.
    fn own_folder(&self, base: &Path) -> Result<Option<OwnFolder>> {
        OwnFolder::open(&self.folder, base)
    }

    /// Whether the segments of the store at `base` can be reached.
    ///
    /// # Errors
    /// [`Error::Io`] where that cannot be found out.
    pub fn reach(&self, base: &Path, store_id: [u8; 16]) -> Result<Reach> {
        if self.boot_id != process::boot_id() {
            return Ok(Reach::OtherBoot);
        }
        if !self.is_of(base, store_id)? {
            return Ok(Reach::Copied);
        }
        let above = || match self.folder.parent() {
            Some(above) => there(file::identity_of(above)),
            None => Ok(None),
        };
        Ok(match safe_device(&self.folder, base)? {
            Some(device) if device == self.device => Reach::Here,
            Some(_) => Reach::OtherDevice,
            None => match above()? {
                Some((device, _)) if device == self.device => Reach::Gone,
                _ => Reach::OtherDevice,
            },
        })
    }

    /// Whether the folder is that of the store at `base`, not of one that it is a copy of.
    fn is_of(&self, base: &Path, store_id: [u8; 16]) -> Result<bool> {
        let name = self.folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
        Ok(name.starts_with(&folder_prefix(base, store_id)?))
    }

    /// The wait file of a feed.
    pub fn wait_path(&self, feed: &str) -> PathBuf {
        self.folder.join(format!("{feed}.wait"))
    }

    /// The ring of a feed.
    pub fn ring_path(&self, feed: &str) -> PathBuf {
        self.folder.join(format!("{feed}.ring"))
    }

    /// The live page of a staged feed.
    pub fn live_path(&self, feed: &str) -> PathBuf {
        self.folder.join(format!("{feed}.live"))
    }

    /// The folder of a feed's staged chunks. No feed's files have the name of another's: each is a
    /// feed's name and one of a few endings.
    pub fn chunk_folder(&self, feed: &str) -> PathBuf {
        self.folder.join(format!("{feed}.chunks"))
    }

    /// Removes a session's chunks and live page, of which everything is on disk or on record, if
    /// they are this store's and those that the session meant.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_own_stage(&self, feed: &FeedInfo) -> Result<()> {
        match self.is_ours(feed.base(), feed.id.store_id)? {
            true => self.remove_stage(feed.base(), &feed.name),
            false => Ok(()),
        }
    }

    /// The folders that the store at `base` has in the place that the environment names now, as far
    /// as they are its own: what another user has there under such a name is not.
    ///
    /// # Errors
    /// [`Error::Io`] where `base` cannot be looked at.
    pub fn folders(base: &Path, store_id: [u8; 16]) -> Result<Vec<PathBuf>> {
        let prefix = folder_prefix(base, store_id)?;
        let names = match file::names(&root()) {
            Err(error) if error.is_not_found() || error.is_denied() => Vec::new(),
            names => names?,
        };
        let mut folders = Vec::new();
        for name in names.into_iter().filter(|name| name.starts_with(&prefix)) {
            let folder = root().join(name);
            if OwnFolder::open(&folder, base)?.is_some() {
                folders.push(folder);
            }
        }
        Ok(folders)
    }

    /// Whether what stands in the folder now is the store's own.
    ///
    /// # Errors
    /// [`Error::Io`] where that cannot be found out.
    pub fn is_ours(&self, base: &Path, store_id: [u8; 16]) -> Result<bool> {
        let reach = self.reach(base, store_id)?;
        Ok(matches!(reach, Reach::Here | Reach::OtherBoot)
            && self.is_of(base, store_id)?
            && self.own_folder(base)?.is_some())
    }

    /// Removes what a feed's session keeps in memory: its chunks and its live page, not the wait
    /// file, which followers may sleep by.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_stage(&self, base: &Path, feed: &str) -> Result<()> {
        let Some(folder) = self.own_folder(base)? else { return Ok(()) };
        ["chunks", "live.new", "live"]
            .iter()
            .try_for_each(|e| folder.remove(&format!("{feed}.{e}")))
    }

    /// Removes everything of a feed that is being deleted, and the folder if it was the last, if
    /// they are this store's and can be reached.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_feed(&self, base: &Path, store_id: [u8; 16], feed: &str) -> Result<()> {
        if !self.is_ours(base, store_id)? {
            return Ok(());
        }
        self.remove_stage(base, feed)?;
        let Some(folder) = self.own_folder(base)? else { return Ok(()) };
        for ending in ["wait", "ring", "ring.new"] {
            folder.remove(&format!("{feed}.{ending}"))?;
        }
        folder.remove_if_empty()
    }

    /// Whether a path fits into the slot.
    pub fn can_note(folder: &Path) -> bool {
        folder.as_os_str().len() <= RESERVED - PATH
    }

    /// The slot's bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that is too long.
    pub fn encode(&self) -> Result<[u8; SLOT_SIZE]> {
        let path = self.folder.as_os_str().as_bytes();
        if !Self::can_note(&self.folder) {
            return Err(Error::Invalid(format!(
                "{}: a path this long cannot be noted; ${SHM_VARIABLE} names a shorter one",
                self.folder.display()
            )));
        }
        let mut bytes = [0; SLOT_SIZE];
        put_u64(&mut bytes, SESSION, self.session_id);
        put_u64(&mut bytes, SEGMENT, self.segment_id);
        put_u64(&mut bytes, DEVICE, self.device);
        put(&mut bytes, BOOT, &self.boot_id);
        put_u32(&mut bytes, KIND, self.kind as u32);
        put_u32(&mut bytes, PATH_LEN, path.len() as u32);
        put(&mut bytes, PATH, path);
        let sum = crc(&bytes[..CRC]);
        put_u32(&mut bytes, CRC, sum);
        Ok(bytes)
    }

    /// Reads a slot; `None` if it was never written or does not check.
    pub fn decode(bytes: &[u8; SLOT_SIZE]) -> Option<Segments> {
        use SegmentKind::{Disk, Ring, Staged};
        if crc(&bytes[..CRC]) != get_u32(bytes, CRC) || get_u64(bytes, SEGMENT) == 0 {
            return None;
        }
        let kind = get_u32(bytes, KIND);
        let path = bytes[PATH..RESERVED].get(..get_u32(bytes, PATH_LEN) as usize)?;
        Some(Segments {
            session_id: get_u64(bytes, SESSION),
            segment_id: get_u64(bytes, SEGMENT),
            device: get_u64(bytes, DEVICE),
            boot_id: get_id(bytes, BOOT),
            kind: [Disk, Staged, Ring].into_iter().find(|k| *k as u32 == kind)?,
            folder: PathBuf::from(OsStr::from_bytes(path)),
        })
    }
}

/// What the name of a store's segment folder begins with, up to the user. It has the base
/// directory's device and inode in it: a copied store never shares segments with its original.
fn folder_prefix(base: &Path, store_id: [u8; 16]) -> Result<String> {
    let (device, inode) = file::identity_of(base)?;
    let mut key = [0; 32];
    put(&mut key, 0, &store_id);
    put_u64(&mut key, 16, device);
    put_u64(&mut key, 24, inode);
    Ok(format!("deepwater.{:016x}.", fnv1a(&key)))
}

/// Where segments are made.
fn root() -> PathBuf {
    let root = std::env::var_os(SHM_VARIABLE).filter(|text| !text.is_empty());
    root.map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from)
}

fn make_own_folder(folder: &Path, owner: (u32, u32), file_mode: u32) -> Result<()> {
    // Whoever may write the feed's files need not make or remove any.
    file::claim_folder(folder, owner, 0o700 | file::folder_mode(file_mode & 0o044))
}

/// The user and group that a store's segments belong to: its owner's where root is at work, else
/// those of this process.
fn owner_of(base: &Path) -> (u32, u32) {
    let (user, group) = process::user_and_group();
    match std::fs::metadata(base.join("manifest.json")) {
        Ok(meta) if user == 0 => (meta.uid(), meta.gid()),
        _ => (user, group),
    }
}

/// Device of a folder that may be read as the store's: a folder and no link, of this user, of root
/// or of the store's owner, and without files of anybody else. `None` for any other.
fn safe_device(folder: &Path, base: &Path) -> Result<Option<u64>> {
    let owns = |name: &str, owner| -> Result<bool> {
        let path = base.join(name);
        let meta = std::fs::metadata(&path).map_err(|e| Error::io("cannot stat", path, e));
        Ok(there(meta)?.is_some_and(|meta| meta.uid() == owner))
    };
    let is_known = |owner| -> Result<bool> {
        let ours = [0, process::user_id()].contains(&owner);
        Ok(ours || owns("manifest.json", owner)? || owns("feeds", owner)?)
    };
    let dir = match Dir::open(folder) {
        Ok(dir) => dir,
        Err(error) if error.says_nothing() => {
            // A directory that another user has closed to us does not belong to the store.
            let owner = file::entry_of(folder)?.map(|meta| meta.uid());
            return match owner {
                Some(owner) if !error.is_denied() || is_known(owner)? => Err(error),
                _ => Ok(None),
            };
        }
        Err(_) => return Ok(None),
    };
    let (owner, mode) = dir.owner_and_mode()?;
    let open = mode & 0o022 != 0
        && match dir.foreign(owner) {
            Err(error) if error.is_limit() => return Err(error),
            foreign => foreign.map_or(true, |foreign| foreign.is_some()),
        };
    match is_known(owner)? && !open {
        true => Ok(Some(dir.identity()?.0)),
        false => Ok(None),
    }
}

/// A folder in shared memory whose files we may remove: open, no link, and the store's owner's.
pub struct OwnFolder {
    dir: Dir,
    owner: u32,
}

impl OwnFolder {
    /// Opens it; `None` for what another user has in its place, or one that is closed to us.
    ///
    /// # Errors
    /// [`Error::Io`] where a limit was met, or the disk failed.
    pub fn open(folder: &Path, base: &Path) -> Result<Option<OwnFolder>> {
        let dir = match Dir::open(folder) {
            Ok(dir) => dir,
            Err(error) if error.says_nothing() && !error.is_denied() => return Err(error),
            Err(_) => return Ok(None),
        };
        let (owner, _) = dir.owner_and_mode()?;
        let user = process::user_id();
        let ours = owner == user || (user == 0 && owner == owner_of(base).0);
        Ok(ours.then_some(OwnFolder { dir, owner }))
    }

    /// Removes a file or folder in it; what belongs to another user stays.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, name: &str) -> Result<()> {
        self.dir.remove(name, Some(self.owner))
    }

    /// Whether a name in it is the owner's.
    pub fn is_own(&self, name: &str) -> bool {
        matches!(self.dir.entry(name), Ok(Some(entry)) if entry.owner == self.owner)
    }

    /// Removes the folder if nothing is in it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_if_empty(&self) -> Result<()> {
        match self.dir.names()?.is_empty() {
            true => file::remove_folder_if_empty(self.dir.path()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slot_reads_back_and_a_flipped_bit_is_seen() {
        let segments = Segments {
            session_id: 3,
            segment_id: 4,
            device: 5,
            boot_id: [6; 16],
            kind: SegmentKind::Ring,
            folder: PathBuf::from("/dev/shm/deepwater.x.0"),
        };
        let bytes = segments.encode().unwrap();
        assert_eq!(Segments::decode(&bytes), Some(segments.clone()));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(Segments::decode(&flipped), None, "byte {at}");
        }
        assert_eq!(Segments::decode(&[0; SLOT_SIZE]), None);
        let folder = PathBuf::from("x".repeat(457));
        assert!(Segments { folder, ..segments }.encode().is_err());
    }
}
