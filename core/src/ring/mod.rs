//! The ring of a transient feed: the newest records, in shared memory and nowhere else.
//!
//! One writer stores round and round, readers copy out and then ask whether what they copied was
//! still whole. There is no loan of a ring's bytes: they leave it as a copy that was checked.

mod cursor;
pub mod protocol;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use crate::bytes::{get_u32, get_u64, offsets, put_u32, put_u64};
use crate::checksum::crc;
use crate::chunk::proof::last_session;
use crate::error::{Error, Result, sound};
use crate::os::map::{Map, RING_HEAD_BYTES, RingMap};
use crate::os::{file, process};
use crate::registry::feed::{FeedRegistry, Geometry, Identity, SEQ_MAX};
use crate::registry::info::FeedInfo;
use crate::registry::live::{LivePage, PAGE_SIZE, PUBLISHED_AT};
use crate::registry::segments::{Reach, SegmentKind};
use crate::schema::MAX_RING_BYTES;

pub use cursor::{Copied, Cursor, Lapped};

const _: () = assert!(PAGE_SIZE == RING_HEAD_BYTES);
const HEAD_AT: usize = 1024;
const HEAD_SIZE: usize = 68;

offsets! {
    [0] {
        SEGMENT_ID: 8, CAPACITY: 8, RECORD_SIZE: 4, HEAD_RESERVED: 4, BASE_SEQ: 8, MADE: 8,
        HEAD_ROOM: 24, HEAD_CRC: 4,
    } = HEAD_SIZE;
}
const _: () = assert!(HEAD_AT + HEAD_SIZE <= protocol::RESERVED_AT);

/// What a ring is, written when it is made and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingHead {
    /// Random, not zero.
    pub segment_id: u64,
    /// Bytes of records.
    pub capacity_bytes: usize,
    /// Size of a record, in bytes.
    pub record_size: usize,
    /// Seq of the record at the beginning; no older one was ever here.
    pub base_seq: u64,
    /// When it was made, wall-clock microseconds.
    pub made_us: u64,
}

impl RingHead {
    /// Bytes of records of a ring that shall have `size_bytes`: whole pages.
    pub fn capacity_for(size_bytes: u64) -> usize {
        (size_bytes as usize).next_multiple_of(PAGE_SIZE)
    }

    /// Records that fit.
    pub fn records(&self) -> u64 {
        (self.capacity_bytes / self.record_size) as u64
    }

    fn encode(&self) -> [u8; HEAD_SIZE] {
        let mut bytes = [0; HEAD_SIZE];
        put_u64(&mut bytes, SEGMENT_ID, self.segment_id);
        put_u64(&mut bytes, CAPACITY, self.capacity_bytes as u64);
        put_u32(&mut bytes, RECORD_SIZE, self.record_size as u32);
        put_u64(&mut bytes, BASE_SEQ, self.base_seq);
        put_u64(&mut bytes, MADE, self.made_us);
        let sum = crc(&bytes[..HEAD_CRC]);
        put_u32(&mut bytes, HEAD_CRC, sum);
        bytes
    }

    fn decode(bytes: &[u8; HEAD_SIZE]) -> Option<RingHead> {
        (crc(&bytes[..HEAD_CRC]) == get_u32(bytes, HEAD_CRC)).then(|| RingHead {
            segment_id: get_u64(bytes, SEGMENT_ID),
            capacity_bytes: get_u64(bytes, CAPACITY) as usize,
            record_size: get_u32(bytes, RECORD_SIZE) as usize,
            base_seq: get_u64(bytes, BASE_SEQ),
            made_us: get_u64(bytes, MADE),
        })
    }
}

/// A ring, mapped.
pub struct Ring {
    file: File,
    page: LivePage,
    map: RingMap,
    head: RingHead,
    /// Records that fit.
    records: u64,
}

impl Ring {
    /// Makes a ring without a session and without records, all of it allocated, beside the path it
    /// is to have: it is there for nobody before [`Ring::appear`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no room for it, with how much it needs; [`Error::Io`].
    /// Nothing is left behind then.
    pub fn create(path: &Path, id: &Identity, head: RingHead, mode: u32) -> Result<Ring> {
        let unborn = unborn(path);
        let file = file::create_new(&unborn, mode)?;
        let made = Ring::lay_out(&file, &unborn, id, &head);
        if made.is_err() {
            let _ = file::remove_file(&unborn);
        }
        made?;
        Ring::of(file, path, id, true)
    }

    /// Gives a ring made by [`Ring::create`] its name, in the place of an older one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn appear(&self) -> Result<()> {
        file::rename("cannot name", &unborn(self.path()), self.path())
    }

    /// Takes back a ring that has not appeared. What is left of it nonetheless is gc's.
    pub fn discard(&self) {
        let _ = file::remove_file(&unborn(self.path()));
    }

    fn lay_out(file: &File, path: &Path, id: &Identity, head: &RingHead) -> Result<()> {
        let size = (RING_HEAD_BYTES + head.capacity_bytes) as u64;
        file::allocate(file, path, 0, size).map_err(|error| match error {
            Error::Io { source, .. } => Error::Invalid(format!(
                "{}: no room for a ring of {} bytes ({}); make room there, or the ring smaller \
                 (dw-mkfeed --update --ring=SIZE)",
                path.display(),
                head.capacity_bytes,
                crate::error::system_text(&source)
            )),
            other => other,
        })?;
        let map = LivePage::lay_out(file, path, id)?;
        map.write(HEAD_AT, &head.encode());
        Ok(())
    }

    /// Opens a ring, for its next writer (`writable`) or a reader.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, id: &Identity, writable: bool) -> Result<Ring> {
        let file = if writable { file::open_write(path)? } else { file::open_read(path)? };
        let ring = Ring::of(file, path, id, writable)?;
        ring.held()?;
        Ok(ring)
    }

    /// Check that records below `end` can have been published if that much is reserved, as it was
    /// loaded after `published`.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline(always)]
    pub(crate) fn check_copied(&self, end: u64, reserved: u64) -> Result<()> {
        match end <= reserved {
            true => Ok(()),
            false => Err(self.impossible(end, reserved)),
        }
    }

    #[cold]
    fn impossible(&self, published: u64, reserved: u64) -> Error {
        // What was cut short reads as zeros.
        if let Err(error) = self.check() {
            return error;
        }
        let what = format!(
            "it says that records below seq {published} were published, of a ring from seq {} on \
             with room reserved up to {reserved}",
            self.head.base_seq
        );
        Error::damaged(self.path(), PUBLISHED_AT as u64, what)
    }

    fn of(file: File, path: &Path, id: &Identity, writable: bool) -> Result<Ring> {
        let size = file::size(&file, path)?;
        if size < PAGE_SIZE as u64 {
            return Err(Error::damaged(path, size, "the file ends here, in its first page"));
        }
        let page = LivePage::of(&file, path, id, writable)?;
        let mut bytes = [0; HEAD_SIZE];
        Map::read_only(&file, path, PAGE_SIZE)?.read(HEAD_AT, &mut bytes);
        let head = RingHead::decode(&bytes).ok_or_else(|| {
            Error::damaged(path, (HEAD_AT + HEAD_CRC) as u64, "the ring's checksum")
        })?;
        let fits = head.capacity_bytes.is_multiple_of(PAGE_SIZE)
            && head.capacity_bytes as u64 <= MAX_RING_BYTES
            && head.base_seq <= SEQ_MAX
            && (1..=head.capacity_bytes).contains(&head.record_size)
            && size == (PAGE_SIZE + head.capacity_bytes) as u64;
        if !fits {
            return Err(Error::damaged(path, HEAD_AT as u64, "an impossible ring"));
        }
        let map = RingMap::new(&file, path, head.capacity_bytes, writable)?;
        Ok(Ring { file, page, map, records: head.records(), head })
    }

    /// What it is.
    #[inline]
    pub fn head(&self) -> &RingHead {
        &self.head
    }

    /// Its first page.
    pub fn page(&self) -> &LivePage {
        &self.page
    }

    /// Whether all that was looked at, or stored, was there.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file was cut short: what was loaded may be zeros.
    pub fn check(&self) -> Result<()> {
        self.map.check().and_then(|()| self.page.check())
    }

    /// Its memory.
    #[inline]
    pub fn memory(&self) -> &RingMap {
        &self.map
    }

    /// Where it lies, or is to lie.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// Byte in the mapping at which a record begins.
    #[inline]
    pub fn offset_of(&self, seq: u64) -> usize {
        let bytes = seq.wrapping_sub(self.head.base_seq).wrapping_mul(self.head.record_size as u64);
        RING_HEAD_BYTES + (bytes % self.head.capacity_bytes as u64) as usize
    }

    /// Records that fit.
    #[inline]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The seq of the oldest record that is whole when that much is reserved.
    #[inline]
    pub fn oldest_at(&self, reserved: u64) -> u64 {
        protocol::oldest_whole(reserved, self.records).max(self.head.base_seq)
    }

    /// The seqs that it holds now, half-open.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what is published, or reserved, cannot be so in this ring: readers
    /// compute with it.
    pub fn held(&self) -> Result<(u64, u64)> {
        let before = protocol::reserved(&self.map);
        // SYNC: ring.reserved; what is published now is no older than that.
        fence(Ordering::Acquire);
        let published = protocol::published(&self.map);
        let reserved = protocol::reserved(&self.map);
        let range = self.head.base_seq..=reserved.min(SEQ_MAX);
        // A writer reserves much less than a ring ahead.
        if !range.contains(&published) || before > published + self.records {
            return Err(self.impossible(published, before.max(reserved)));
        }
        Ok((self.oldest_at(reserved).min(published), published))
    }

    /// Size of its file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        (RING_HEAD_BYTES + self.head.capacity_bytes) as u64
    }

    /// Maps all of it in, for a reader that is not to wait for that later.
    pub fn map_in(&self) {
        self.map.populate(0, RING_HEAD_BYTES + 2 * self.head.capacity_bytes, false);
    }

    /// Whether the file still has its name; systemd's RemoveIPC, or a person, may have deleted it.
    pub fn is_named(&self) -> bool {
        file::is_named(&self.file, self.path())
    }

    /// Whether the path names another file by now.
    pub fn is_displaced(&self) -> bool {
        let own = file::identity(&self.file, self.path()).ok();
        file::identity_of(self.path()).is_ok_and(|there| Some(there) != own)
    }
}

/// Where a feed's ring is.
pub enum Found {
    /// Here.
    Ring(Box<Ring>),
    /// No session of this boot has made one.
    Never,
    /// It was in that folder, and somebody has deleted it.
    Gone(PathBuf),
}

impl Found {
    /// The ring, if there ever was one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was deleted.
    pub fn ring(self, feed: &str) -> Result<Option<Ring>> {
        match self {
            Found::Ring(ring) => Ok(Some(*ring)),
            Found::Never => Ok(None),
            Found::Gone(folder) => Err(Error::Invalid(format!(
                "{feed}: its ring is gone from {}: deleted, as systemd's RemoveIPC does when a \
                 user logs out; the next record written makes another",
                folder.display()
            ))),
        }
    }
}

/// Opens a feed's ring, where the last session has noted that it is.
///
/// # Errors
/// [`Error::Invalid`] if it lies in a shared memory that is not ours; [`Error::Io`] where it may
/// not be opened; [`Error::Damaged`], [`Error::Version`].
pub fn find(feed: &FeedInfo, registry: &FeedRegistry, writable: bool) -> Result<Found> {
    let Some(segments) = registry.segments().filter(|s| s.kind == SegmentKind::Ring) else {
        return Ok(Found::Never);
    };
    match segments.reach(feed.base(), feed.id.store_id)? {
        Reach::Here => {}
        // A copy of the store has no part in the original's memory.
        Reach::OtherBoot | Reach::Copied => return Ok(Found::Never),
        Reach::Gone => return Ok(Found::Gone(segments.folder)),
        Reach::OtherDevice => {
            return Err(Error::Invalid(format!(
                "{}: its ring is in {}, in a shared memory that is not the one here (another \
                 container, or mount namespace); read it there, or share that folder with this \
                 side",
                feed.name,
                segments.folder.display()
            )));
        }
    }
    match Ring::open(&segments.ring_path(&feed.name), &feed.id, writable) {
        Ok(ring) => {
            check(feed, ring, registry, segments.session_id).map(|ring| Found::Ring(Box::new(ring)))
        }
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Found::Gone(segments.folder))
        }
        Err(error) => Err(error),
    }
}

/// Whether a ring that opened is one of this boot, with this feed's records, and not older than the
/// session that noted where it is.
fn check(feed: &FeedInfo, ring: Ring, registry: &FeedRegistry, noted: u64) -> Result<Ring> {
    let geometry: Geometry = feed.geometry();
    if ring.head.record_size != geometry.record_size {
        return Err(Error::damaged(ring.path(), HEAD_AT as u64, "records of another size"));
    }
    let of_session =
        |ring: &Ring, least: u64| ring.page.session().filter(|session| session.session_id >= least);
    let session = of_session(&ring, noted).or_else(|| {
        // A session notes its ring just before its entry: no note is further ahead of the table.
        let newest = last_session(&registry.entries().ok()?)?.session_id;
        (noted > newest + 1).then(|| of_session(&ring, newest)).flatten()
    });
    match session {
        Some(_) => Ok(ring),
        None => Err(Error::damaged(
            ring.path(),
            128,
            "the stamp of the feed's newest session is not on it",
        )),
    }
}

/// Opens the ring that the last writer left, if its records can be believed. The caller holds the
/// feed's lock.
///
/// # Errors
/// [`Error::Io`] where a limit, a missing permission or the disk keeps us from looking.
pub fn left_over(feed: &FeedInfo, registry: &FeedRegistry) -> Result<Option<Ring>> {
    let found = sound(find(feed, registry, true))?;
    let ring = found.map(|found| sound(found.ring(&feed.name))).transpose()?;
    Ok(ring.flatten().flatten())
}

/// The name that a ring is made under.
fn unborn(path: &Path) -> PathBuf {
    path.with_extension("ring.new")
}

/// A random segment id.
///
/// # Errors
/// [`Error::Io`].
pub fn random_id() -> Result<u64> {
    let random =
        process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
    Ok((u128::from_be_bytes(random) as u64).max(1))
}
