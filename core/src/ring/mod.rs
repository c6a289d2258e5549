//! The ring of a transient feed: its newest records, in shared memory only.
//!
//! One writer overwrites the oldest records in turn. Readers copy records out, and then check that
//! the copy is whole. The bytes of a ring are never lent, only copied and checked.

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

/// The properties of a ring, written when it is created and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingHead {
    /// Random, not zero.
    pub segment_id: u64,
    /// Capacity in bytes of records.
    pub capacity_bytes: usize,
    /// Size of a record in bytes.
    pub record_size: usize,
    /// Seq of the first record. The ring has never held an older one.
    pub base_seq: u64,
    /// When it was created, in wall-clock microseconds.
    pub made_us: u64,
}

impl RingHead {
    /// Returns the capacity of a ring for `size_bytes`, in whole pages.
    pub fn capacity_for(size_bytes: u64) -> usize {
        (size_bytes as usize).next_multiple_of(PAGE_SIZE)
    }

    /// Returns the number of records that fit.
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

/// A mapped ring.
pub struct Ring {
    file: File,
    page: LivePage,
    map: RingMap,
    head: RingHead,
    /// Number of records that fit.
    records: u64,
}

impl Ring {
    /// Creates a ring without a session or records, fully allocated. It has a temporary name beside
    /// its path, so nobody finds it before [`Ring::appear`].
    ///
    /// # Errors
    /// [`Error::Invalid`] with the space needed, if there is not enough; [`Error::Io`]. Nothing is
    /// left behind.
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

    /// Renames a ring made by [`Ring::create`] to its path, replacing an older one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn appear(&self) -> Result<()> {
        file::rename("cannot name", &unborn(self.path()), self.path())
    }

    /// Removes a ring that has not appeared. If that fails, dw-gc removes it later.
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

    /// Opens a ring, for its next writer (`writable`) or for a reader.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, id: &Identity, writable: bool) -> Result<Ring> {
        let file = if writable { file::open_write(path)? } else { file::open_read(path)? };
        let ring = Ring::of(file, path, id, writable)?;
        ring.held()?;
        Ok(ring)
    }

    /// Checks that records below `end` can have been published with this `reserved`, which was
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
        // A truncated file reads as zeros.
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

    /// Returns the ring's properties.
    #[inline]
    pub fn head(&self) -> &RingHead {
        &self.head
    }

    /// Returns the ring's live page, which is its first page.
    pub fn page(&self) -> &LivePage {
        &self.page
    }

    /// Checks that every access was to memory that exists.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file was truncated. Then loaded values may be zeros.
    pub fn check(&self) -> Result<()> {
        self.map.check().and_then(|()| self.page.check())
    }

    /// Returns the mapping.
    #[inline]
    pub fn memory(&self) -> &RingMap {
        &self.map
    }

    /// Returns the path of the ring, even if it has not appeared yet.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// Returns the offset of a record in the mapping.
    #[inline]
    pub fn offset_of(&self, seq: u64) -> usize {
        let bytes = seq.wrapping_sub(self.head.base_seq).wrapping_mul(self.head.record_size as u64);
        RING_HEAD_BYTES + (bytes % self.head.capacity_bytes as u64) as usize
    }

    /// Returns the number of records that fit.
    #[inline]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns the seq of the oldest whole record for this `reserved`.
    #[inline]
    pub fn oldest_at(&self, reserved: u64) -> u64 {
        protocol::oldest_whole(reserved, self.records).max(self.head.base_seq)
    }

    /// Returns the seqs that the ring holds now, half-open.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `published` or `reserved` is impossible in this ring. Readers compute
    /// with them.
    pub fn held(&self) -> Result<(u64, u64)> {
        let before = protocol::reserved(&self.map);
        // SYNC: ring.reserved; `published`, loaded after this, is no older than `reserved`.
        fence(Ordering::Acquire);
        let published = protocol::published(&self.map);
        let reserved = protocol::reserved(&self.map);
        let range = self.head.base_seq..=reserved.min(SEQ_MAX);
        // A writer reserves far less than a whole ring ahead.
        if !range.contains(&published) || before > published + self.records {
            return Err(self.impossible(published, before.max(reserved)));
        }
        Ok((self.oldest_at(reserved).min(published), published))
    }

    /// Returns the size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        (RING_HEAD_BYTES + self.head.capacity_bytes) as u64
    }

    /// Maps in all pages, for a reader that must not wait for page faults later.
    pub fn map_in(&self) {
        self.map.populate(0, RING_HEAD_BYTES + 2 * self.head.capacity_bytes, false);
    }

    /// Whether the file still has its name. systemd's RemoveIPC or a user may have deleted it.
    pub fn is_named(&self) -> bool {
        file::is_named(&self.file, self.path())
    }

    /// Whether the path now names another file.
    pub fn is_displaced(&self) -> bool {
        let own = file::identity(&self.file, self.path()).ok();
        file::identity_of(self.path()).is_ok_and(|there| Some(there) != own)
    }
}

/// The location of a feed's ring.
pub enum Found {
    /// The ring is here.
    Ring(Box<Ring>),
    /// No session of this boot has made one.
    Never,
    /// It was in this folder and has been deleted.
    Gone(PathBuf),
}

impl Found {
    /// Returns the ring, if there ever was one.
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

/// Opens a feed's ring at the location that the last session noted.
///
/// # Errors
/// [`Error::Invalid`] if it is in another shared memory; [`Error::Io`] if it may not be opened;
/// [`Error::Damaged`], [`Error::Version`].
pub fn find(feed: &FeedInfo, registry: &FeedRegistry, writable: bool) -> Result<Found> {
    let Some(segments) = registry.segments().filter(|s| s.kind == SegmentKind::Ring) else {
        return Ok(Found::Never);
    };
    match segments.reach(feed.base(), feed.id.store_id)? {
        Reach::Here => {}
        // A copy of the store does not use the original's memory.
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

/// Checks that a ring is from this boot, contains this feed's records, and is not older than the
/// session that noted it.
fn check(feed: &FeedInfo, ring: Ring, registry: &FeedRegistry, noted: u64) -> Result<Ring> {
    let geometry: Geometry = feed.geometry();
    if ring.head.record_size != geometry.record_size {
        return Err(Error::damaged(ring.path(), HEAD_AT as u64, "records of another size"));
    }
    let of_session =
        |ring: &Ring, least: u64| ring.page.session().filter(|session| session.session_id >= least);
    let session = of_session(&ring, noted).or_else(|| {
        // A session notes its ring just before it adds its entry, so a note is at most one session
        // ahead of the table.
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

/// Opens the ring that the last writer left, if it can be trusted. The caller holds the feed's
/// lock.
///
/// # Errors
/// [`Error::Io`] if a limit, a missing permission or the disk prevents looking.
pub fn left_over(feed: &FeedInfo, registry: &FeedRegistry) -> Result<Option<Ring>> {
    let found = sound(find(feed, registry, true))?;
    let ring = found.map(|found| sound(found.ring(&feed.name))).transpose()?;
    Ok(ring.flatten().flatten())
}

/// Returns the temporary name of a ring that is being created.
fn unborn(path: &Path) -> PathBuf {
    path.with_extension("ring.new")
}

/// Returns a random segment id.
///
/// # Errors
/// [`Error::Io`].
pub fn random_id() -> Result<u64> {
    let random =
        process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
    Ok((u128::from_be_bytes(random) as u64).max(1))
}
