//! `feed_registry.bin`: checkpoints and the table of chunks, sessions and ranges (FORMAT.md).

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::FORMAT_VERSION;
use crate::bytes::{get_id, get_u32, get_u64, offsets, put, put_u32, put_u64};
use crate::checksum::{GUARDED_MAX, crc, guard, unguard};
use crate::error::{Error, Result};
use crate::os::growing::{self, GrowingMap};
use crate::os::map::Map;
use crate::os::memory::{Memory, Site};
use crate::os::{faults, file, process};
use crate::registry::chunk_id;
use crate::registry::global::check_head;
use crate::registry::place;
use crate::registry::segments::{self, Segments};
use crate::schema::MAX_CHUNK_BYTES;
use crate::time::TimeUnit;

pub(super) const MAGIC: &[u8; 8] = b"DEEPWFRG";
pub(super) const HEADER_SIZE: usize = 4096;
/// Size of an entry, in bytes.
pub const ENTRY_SIZE: usize = 128;
/// The file grows by this much.
pub(super) const PIECE: u64 = 64 * 1024;
/// So much is copied where a copy will do; a longer table is copied once more, and one that goes
/// beyond the second is mapped, which is cheaper then.
const COPY_FIRST: u64 = 8192;
const COPY_MOST: u64 = PIECE;
pub(super) const SLOT_SIZE: usize = 512;
pub(super) const LEASE_SIZE: usize = 12;
/// The greatest seq, lease or session number that a file can have: what a guarded word carries.
pub const SEQ_MAX: u64 = GUARDED_MAX;
/// Records that the largest chunk has where they are as small as can be.
const RECORDS_MAX: u64 = (MAX_CHUNK_BYTES + BLOCK_BYTES as u64) / 8;
/// A block is this many bytes, rounded down to whole records.
const BLOCK_BYTES: usize = 64 * 1024;

offsets! {
    [0] {
        MAGIC_AT: 8, VERSION_AT: 4, HEADER_SIZE_AT: 4, STORE_ID_AT: 16, FEED_ID_AT: 8,
        LAYOUT_HASH_AT: 8, RECORD_SIZE_AT: 4, TIME_OFFSET_AT: 4, BLOCK_RECORDS_AT: 4, UNIT_AT: 4,
        CREATED_AT: 8, ENTRY_SIZE_AT: 4, RESERVED_AT: 48, HEADER_CRC_AT: 4,
    } = 128;
    [512] {
        COUNT_AT: 8, FIRST_ENTRY_AT: 8, DELETED_AT: 8, LAST_GC_US_AT: 8, LAST_GC_BOOT_AT: 8,
        LAST_GC_BOOT_ID_AT: 16, CLOCK_JUMP_AT: 32, SUPERSEDED_AT: 8,
    } = 608;
    [1024] { LEASE_AT: 8, LEASE_CRC_AT: 8, SECOND_LEASE_AT: LEASE_SIZE } = 1052;
    [0] { LEASE: 8, LEASE_CRC: 4 } = LEASE_SIZE;
    [2048] { SLOTS_AT: SLOT_SIZE * 2 } = 3072;
    [3072] { SEGMENTS_AT: segments::SLOT_SIZE * 2 } = HEADER_SIZE;
    [0] {
        SLOT_GENERATION: 8, SLOT_SESSION: 8, SLOT_BOOT: 16, SLOT_SEQ: 8, SLOT_CHUNK: 8,
        SLOT_BASE: 8, SLOT_CLOSED: 4, SLOT_OPEN_CRC: 4, SLOT_MAX: 8, SLOT_WRITTEN: 8,
        SLOT_RESERVED: 428, SLOT_CRC: 4,
    } = SLOT_SIZE;
    [0] { KIND: 4, CRC: 4, FIXED: 56, MUTABLE: 48, WORD: 8, TAIL: 8 } = ENTRY_SIZE;
    [8] {
        CHUNK_ID: 8, CHUNK_BASE: 8, CHUNK_SESSION: 8, CHUNK_CREATED: 8, CHUNK_BOOT_NS: 8,
        CHUNK_FIXED_RESERVED: 16, CHUNK_COUNT: 8, CHUNK_MIN: 8, CHUNK_MAX: 8, CHUNK_SEALED: 8,
        CHUNK_MARKS: 8, CHUNK_REASON: 4, CHUNK_SEAL_CRC: 4,
    } = WORD;
    [8] {
        SESSION_ID: 8, SESSION_BASE: 8, SESSION_OPENED: 8, SESSION_BOOT_NS: 8, SESSION_BOOT: 16,
        SESSION_PID: 4, SESSION_RESERVED: 4, SESSION_END: 8, SESSION_CLOSED: 8,
        SESSION_REJECTED: 8, SESSION_PASSED: 8, SESSION_LATE: 8, SESSION_REASON: 4,
        SESSION_CRC: 4,
    } = WORD;
    [8] {
        RANGE_LO: 8, RANGE_HI: 8, RANGE_SESSION: 8, RANGE_RECORDED: 8, RANGE_REASON: 4,
        RANGE_RESERVED: 4, RANGE_MIN: 8, RANGE_MAX: 8,
    } = 64;
}
const _: () = assert!(WORD == place::WORD_AT && CHUNK_COUNT == place::SEALED_AT);
const _: () =
    assert!(HEADER_SIZE.is_multiple_of(ENTRY_SIZE) && 512usize.is_multiple_of(ENTRY_SIZE));

/// What every file of a feed must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store_id: [u8; 16],
    /// The feed.
    pub feed_id: u64,
    /// The layout.
    pub layout_hash: u64,
}

/// The numbers that records and blocks are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of a record, in bytes.
    pub record_size: usize,
    /// Offset of the time column in a record.
    pub time_offset: usize,
    /// Records a block.
    pub block_records: usize,
    /// Unit of the time column.
    pub unit: TimeUnit,
}

impl Geometry {
    /// The geometry of records of that size.
    pub fn new(record_size: usize, time_offset: usize, unit: TimeUnit) -> Geometry {
        let block_records = (BLOCK_BYTES / record_size.max(1)).max(1);
        Geometry { record_size, time_offset, block_records, unit }
    }

    /// Bytes a full block.
    pub fn block_bytes(&self) -> usize {
        self.block_records * self.record_size
    }

    /// Records that the largest chunk has.
    pub fn most_records(&self) -> u64 {
        self.block_records as u64 * (MAX_CHUNK_BYTES / self.block_bytes() as u64 + 1)
    }

    /// Blocks that a chunk of that many bytes has; at least one.
    pub fn blocks_in(&self, chunk_size_bytes: u64) -> usize {
        (chunk_size_bytes as usize / self.block_bytes()).max(1)
    }
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Being written, in the feed's folder.
    Live,
    /// Being written, in shared memory.
    Staged,
    /// Being streamed from shared memory to disk.
    Flushing,
    /// Sealed.
    OnDisk,
    /// Collected.
    Expired,
    /// Gone without having been on disk.
    Lost,
}

const PLACES: [Place; 6] =
    [Place::Live, Place::Staged, Place::Flushing, Place::OnDisk, Place::Expired, Place::Lost];

impl Place {
    fn word(self) -> u64 {
        guard(PLACES.iter().position(|p| *p == self).unwrap_or(0) as u64 + 1)
    }

    /// Whether the chunk is not sealed yet.
    pub fn is_open(self) -> bool {
        matches!(self, Place::Live | Place::Staged | Place::Flushing)
    }

    /// Whether its records are in shared memory, if anywhere, and only some of them on disk.
    pub fn is_staged(self) -> bool {
        matches!(self, Place::Staged | Place::Flushing)
    }

    fn from_word(word: u64) -> Option<Place> {
        PLACES.get((unguard(word)? as usize).wrapping_sub(1)).copied()
    }
}

/// Why a chunk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// It was full.
    Full = 1,
    /// It was old.
    Age = 2,
    /// Its writer closed.
    Closed = 3,
    /// The next writer sealed it.
    Recovered = 4,
    /// It was staged, and its memory was wanted for what came next, or was taken away.
    Early = 5,
    /// dw-repair made its entry, or the chunk.
    Repaired = 6,
}

impl ChunkEnd {
    /// The word for a number as FORMAT.md has it.
    pub fn word(number: u32) -> &'static str {
        const WORDS: [(ChunkEnd, &str); 6] = [
            (ChunkEnd::Full, "full"),
            (ChunkEnd::Age, "age"),
            (ChunkEnd::Closed, "closed"),
            (ChunkEnd::Recovered, "recovered"),
            (ChunkEnd::Early, "early"),
            (ChunkEnd::Repaired, "repaired"),
        ];
        WORDS.iter().find(|(end, _)| *end as u32 == number).map_or("unknown", |(_, word)| word)
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its input ended.
    Ended = 1,
    /// A signal.
    Signal = 2,
    /// An error.
    Error = 3,
    /// Its process died; the next writer noted it.
    Crashed = 4,
    /// The machine stopped; the next writer noted it.
    PowerLoss = 5,
    /// Its process died, and its shared memory was gone; the next writer noted it.
    MemoryGone = 6,
    /// dw-repair made its entry again, and could not know.
    Unknown = 7,
}

impl SessionEnd {
    /// The word dw-ls prints.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionEnd::Ended => "ended",
            SessionEnd::Signal => "signal",
            SessionEnd::Error => "error",
            SessionEnd::Crashed => "crashed",
            SessionEnd::PowerLoss => "power-loss",
            SessionEnd::MemoryGone => "memory-gone",
            SessionEnd::Unknown => "unknown",
        }
    }

    /// Whether the session's last seq is known. If not, the next one starts at the lease.
    pub fn is_exact(self) -> bool {
        !matches!(self, SessionEnd::PowerLoss | SessionEnd::MemoryGone | SessionEnd::Unknown)
    }

    fn from_number(number: u32) -> Option<SessionEnd> {
        use SessionEnd::{Crashed, Ended, Error, MemoryGone, PowerLoss, Signal, Unknown};
        let all = [Ended, Signal, Error, Crashed, PowerLoss, MemoryGone, Unknown];
        all.into_iter().find(|r| *r as u32 == number)
    }
}

/// What a sealed chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Records.
    pub count: u64,
    /// Least record time.
    pub min_time: u64,
    /// Greatest record time.
    pub max_time: u64,
    /// When it was sealed, wall-clock microseconds.
    pub sealed_us: u64,
    /// Marks.
    pub marks: u64,
    /// Why it ended, as in FORMAT.md.
    pub reason: u32,
}

/// A chunk in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Position in the table.
    pub position: u64,
    /// Number of its files.
    pub chunk_id: u64,
    /// Seq of its first record.
    pub base_seq: u64,
    /// The session that wrote it.
    pub session_id: u64,
    /// When its first record came, wall-clock microseconds.
    pub created_us: u64,
    /// The same, nanoseconds since boot.
    pub created_boot_ns: u64,
    /// Where it is.
    pub place: Place,
    /// What it holds, once sealed.
    pub seal: Option<Seal>,
}

impl ChunkEntry {
    /// Its seqs, half-open; of one that is not sealed, none.
    pub fn seqs(&self) -> (u64, u64) {
        (self.base_seq, self.base_seq + self.seal.map_or(0, |seal| seal.count))
    }
}

/// A session in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// Position in the table.
    pub position: u64,
    /// From 1.
    pub session_id: u64,
    /// Seq of its first record.
    pub base_seq: u64,
    /// When it opened, wall-clock microseconds.
    pub opened_us: u64,
    /// The same, nanoseconds since boot.
    pub opened_boot_ns: u64,
    /// The boot it ran in.
    pub boot_id: [u8; 16],
    /// Its process.
    pub pid: u32,
    /// How it ended, once it has.
    pub close: Option<SessionClose>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionClose {
    /// The seq after its last record.
    pub end_seq: u64,
    /// When, wall-clock microseconds.
    pub closed_us: u64,
    /// Rows refused, passed over, late.
    pub counters: super::live::Counters,
    /// Why.
    pub reason: SessionEnd,
}

/// A range of seqs that no reader will find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeEntry {
    /// Half-open range of seqs.
    pub seqs: (u64, u64),
    /// The session that wrote or skipped them.
    pub session_id: u64,
    /// When it was noted, wall-clock microseconds.
    pub recorded_us: u64,
    /// Why, as in FORMAT.md.
    pub reason: u32,
    /// Least and greatest time of what was there, where known.
    pub times: Option<(u64, u64)>,
}

/// Seqs skipped to the lease after an unclean boot.
pub const RANGE_SKIPPED: u32 = 1;
/// Seqs of records that were in shared memory when the machine stopped, and of none: up to the
/// lease, since nobody knows how many there were.
pub const RANGE_LOST: u32 = 2;
/// The same, where the machine did not stop: the memory was removed, or is another namespace's.
pub const RANGE_UNREACHABLE: u32 = 3;
/// Records that a repair has taken out.
pub const RANGE_REMOVED: u32 = 4;

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A chunk.
    Chunk(ChunkEntry),
    /// A session.
    Session(SessionEntry),
    /// A hole.
    Range(RangeEntry),
}

/// What is surely on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// From 1; the higher one counts.
    pub generation: u64,
    /// The session that wrote it.
    pub session_id: u64,
    /// The boot it ran in.
    pub boot_id: [u8; 16],
    /// Everything below it is on disk.
    pub seq: u64,
    /// The chunk that seq falls in.
    pub chunk_id: u64,
    /// Its first seq.
    pub chunk_base_seq: u64,
    /// Its closed blocks.
    pub closed_blocks: u32,
    /// CRC of the open block's records below seq.
    pub open_block_crc: u32,
    /// The newest record time.
    pub running_max: u64,
    /// When, wall-clock microseconds.
    pub written_us: u64,
}

/// What [`FeedRegistry::peek`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Store, feed and layout.
    pub id: Identity,
    /// Whether it ever had records.
    pub chunks: bool,
    /// Whether it was marked deleted.
    pub deleted: bool,
}

/// A feed's registry file, mapped; or a copy of it.
pub struct FeedRegistry {
    file: File,
    map: GrowingMap,
    path: PathBuf,
    geometry: Geometry,
    allocated: Mutex<u64>,
}

impl FeedRegistry {
    /// Makes the registry of a new feed: no entries, an empty lease.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(
        path: &Path,
        id: &Identity,
        geometry: &Geometry,
        created_us: u64,
        mode: u32,
    ) -> Result<()> {
        let file = file::create_new(path, mode)?;
        file::allocate(&file, path, 0, PIECE)?;
        let mut head = [0; 128];
        put(&mut head, MAGIC_AT, MAGIC);
        put_u32(&mut head, VERSION_AT, FORMAT_VERSION);
        put_u32(&mut head, HEADER_SIZE_AT, HEADER_SIZE as u32);
        put(&mut head, STORE_ID_AT, &id.store_id);
        put_u64(&mut head, FEED_ID_AT, id.feed_id);
        put_u64(&mut head, LAYOUT_HASH_AT, id.layout_hash);
        put_u32(&mut head, RECORD_SIZE_AT, geometry.record_size as u32);
        put_u32(&mut head, TIME_OFFSET_AT, geometry.time_offset as u32);
        put_u32(&mut head, BLOCK_RECORDS_AT, geometry.block_records as u32);
        put_u32(&mut head, UNIT_AT, u32::from(geometry.unit == TimeUnit::Nanos));
        put_u64(&mut head, CREATED_AT, created_us);
        put_u32(&mut head, ENTRY_SIZE_AT, ENTRY_SIZE as u32);
        let header_crc = crc(&head[..HEADER_CRC_AT]);
        put_u32(&mut head, HEADER_CRC_AT, header_crc);
        let map = Map::writable(&file, path, HEADER_SIZE)?;
        map.write(0, &head);
        for at in [COUNT_AT, FIRST_ENTRY_AT, DELETED_AT, SUPERSEDED_AT] {
            map.u64_at(at).store(guard(0), Ordering::Release);
        }
        write_lease(&map, 0);
        file::sync(&file, path)
    }

    /// Maps a registry, for the holder of the feed's lock or dw-gc (`writable`), or a reader.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, id: &Identity, writable: bool) -> Result<FeedRegistry> {
        let (file, size) = Self::open_file(path, writable)?;
        let map = GrowingMap::new(&file, path, HEADER_SIZE, writable)?;
        FeedRegistry::of(file, size, map, path, id)
    }

    /// Copies a registry, for one look: [`FeedRegistry::is_unchanged`] says later whether what the
    /// copy says is so. `None` where [`FeedRegistry::open`] has to say what is wrong, or a table is
    /// so long that it is better mapped.
    pub fn copy(path: &Path, id: &Identity) -> Option<FeedRegistry> {
        let (file, size) = Self::open_file(path, false).ok()?;
        let copy = |len: u64| Map::copy(&file, path, len.min(size) as usize).ok();
        let mut map = copy(COPY_FIRST)?;
        let count = unguard(map.u64_at(COUNT_AT).load(Ordering::Relaxed))?;
        let needed = Self::offset(count) as u64;
        if needed > size.min(COPY_MOST) {
            return None;
        }
        if needed > COPY_FIRST {
            map = copy(needed)?;
            // A writer that appended an entry in between has a longer table than was copied.
            let now = unguard(map.u64_at(COUNT_AT).load(Ordering::Relaxed))?;
            if now != count {
                return None;
            }
        }
        FeedRegistry::of(file, size, GrowingMap::of_copy(map).ok()?, path, id).ok()
    }

    /// Whether this is a copy.
    pub fn is_copy(&self) -> bool {
        self.map.is_copy()
    }

    /// Whether the file of a copy still says the same.
    pub fn is_unchanged(&self) -> bool {
        self.map.is_unchanged(&self.file)
    }

    /// The same file, mapped, for whoever has a copy and wants to know what is there now.
    ///
    /// # Errors
    /// As [`FeedRegistry::open`].
    pub fn mapped(&self, id: &Identity) -> Result<FeedRegistry> {
        let file = self.file.try_clone().map_err(|e| Error::io("cannot open", &self.path, e))?;
        let size = file::size(&file, &self.path)?;
        let map = GrowingMap::new(&file, &self.path, HEADER_SIZE, false)?;
        FeedRegistry::of(file, size, map, &self.path, id)
    }

    fn open_file(path: &Path, writable: bool) -> Result<(File, u64)> {
        let (file, known) = file::open_known(path, writable)?;
        if known.size < HEADER_SIZE as u64 {
            return Err(Error::damaged(path, known.size, "the file ends here, in its header"));
        }
        Ok((file, known.size))
    }

    fn of(
        file: File,
        size: u64,
        map: GrowingMap,
        path: &Path,
        id: &Identity,
    ) -> Result<FeedRegistry> {
        let mut head = [0; 128];
        map.read(0, &mut head);
        map.check()?;
        check_head(path, &head, MAGIC, 128)?;
        if crc(&head[..HEADER_CRC_AT]) != get_u32(&head, HEADER_CRC_AT) {
            return Err(Error::damaged(path, HEADER_CRC_AT as u64, "the header's checksum"));
        }
        let own = Identity {
            store_id: get_id(&head, STORE_ID_AT),
            feed_id: get_u64(&head, FEED_ID_AT),
            layout_hash: get_u64(&head, LAYOUT_HASH_AT),
        };
        if own != *id {
            let what = "it belongs to another feed, or another layout";
            return Err(Error::damaged(path, STORE_ID_AT as u64, what));
        }
        let unit = if get_u32(&head, UNIT_AT) == 1 { TimeUnit::Nanos } else { TimeUnit::Micros };
        let geometry = Geometry::new(
            get_u32(&head, RECORD_SIZE_AT) as usize,
            get_u32(&head, TIME_OFFSET_AT) as usize,
            unit,
        );
        let fits = geometry.time_offset + 8 <= geometry.record_size
            && geometry.record_size <= crate::schema::MAX_RECORD_BYTES
            && get_u32(&head, BLOCK_RECORDS_AT) as usize == geometry.block_records
            && get_u32(&head, ENTRY_SIZE_AT) as usize == ENTRY_SIZE
            && get_u32(&head, HEADER_SIZE_AT) as usize == HEADER_SIZE;
        if !fits {
            return Err(Error::damaged(path, RECORD_SIZE_AT as u64, "an impossible geometry"));
        }
        Ok(FeedRegistry { file, map, path: path.to_owned(), geometry, allocated: Mutex::new(size) })
    }

    /// What a registry says of itself, whatever feed it is of.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] for anything but a sound registry.
    pub fn peek(path: &Path) -> Result<Peek> {
        let file = file::open_read(path)?;
        let mut head = [0; 128];
        file::read_at(&file, path, 0, &mut head)?;
        check_head(path, &head, MAGIC, 128)?;
        let id = Identity {
            store_id: get_id(&head, STORE_ID_AT),
            feed_id: get_u64(&head, FEED_ID_AT),
            layout_hash: get_u64(&head, LAYOUT_HASH_AT),
        };
        let registry = FeedRegistry::open(path, &id, false)?;
        let chunks = registry.entries()?.iter().any(|entry| matches!(entry, Entry::Chunk(_)));
        Ok(Peek { id, chunks, deleted: registry.is_deleted()? })
    }

    /// Record and block sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file lies now, if it has a name still.
    pub fn lies_at(&self) -> Option<PathBuf> {
        file::place_of(&self.file)
    }

    /// Whether the file was copied up, on an overlay, since it was mapped: then the mapping stays
    /// behind, and another says what the file says.
    ///
    /// # Errors
    /// As [`FeedRegistry::open`].
    pub fn is_left_behind(&self, id: &Identity) -> Result<bool> {
        if !file::is_overlay(&self.path) {
            return Ok(false);
        }
        let head = |of: &FeedRegistry| {
            let mut head = vec![0; HEADER_SIZE];
            of.map.read(0, &mut head);
            head
        };
        let before = head(self);
        let there = head(&FeedRegistry::open(&self.path, id, false)?);
        // Otherwise it is the same one, and somebody stores to it.
        Ok(there != before && head(self) == before)
    }

    /// Device and inode of the file that is mapped.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn identity(&self) -> Result<(u64, u64)> {
        file::identity(&self.file, &self.path)
    }

    fn word(&self, at: usize, what: &str) -> Result<u64> {
        // SYNC: count, first_entry, deleted; pairs with the Release in `set_word`.
        let word = self.map.u64_at(at).load(Ordering::Acquire);
        self.map.check()?;
        unguard(word).ok_or_else(|| {
            Error::damaged(&self.path, at as u64, format!("the check bits of {what}"))
        })
    }

    fn set_word(&self, at: usize, value: u64) {
        // SYNC: count, first_entry, deleted; pairs with the Acquire in `word`.
        self.map.u64_at(at).store(guard(value), Ordering::Release);
        faults::value("registry.word", value);
    }

    /// Entries there are; those at the end that were not stored whole are none.
    ///
    /// # Errors
    /// [`Error::Damaged`]; as [`FeedRegistry::entries`] where there are such.
    pub fn count(&self) -> Result<u64> {
        let counted = self.word(COUNT_AT, "the count")?;
        let whole = counted <= self.entries_that_fit()?;
        if whole {
            self.map.ensure(&self.file, Self::offset(counted))?;
        }
        match whole && (counted == 0 || !self.is_torn(counted - 1)) {
            true => Ok(counted),
            false => self.surviving_entries().map(|(_, count)| count),
        }
    }

    /// Entries below this position are collected.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn first_entry(&self) -> Result<u64> {
        self.word(FIRST_ENTRY_AT, "first_entry")
    }

    /// Whether the feed was deleted.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn is_deleted(&self) -> Result<bool> {
        Ok(self.word(DELETED_AT, "deleted")? != 0)
    }

    /// Marks the feed deleted, for whoever has it mapped.
    pub fn set_deleted(&self) {
        self.set_word(DELETED_AT, 1);
    }

    /// Whether a repair has put another file in this one's place.
    pub fn is_superseded(&self) -> bool {
        // SYNC: superseded; pairs with the Release in `set_superseded`.
        self.map.u64_at(SUPERSEDED_AT).load(Ordering::Acquire) == guard(1)
    }

    /// Tells whoever has this file mapped that there is another one now.
    pub fn set_superseded(&self) {
        self.set_word(SUPERSEDED_AT, 1);
    }

    /// All entries that are not collected, in order. After the machine stopped `count` may be on
    /// disk and the last entries not: the table ends where one was not stored whole.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the first entry that does not check, and one that is gone though
    /// the checkpoint says that it was on disk.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.surviving_entries().map(|(entries, _)| entries)
    }

    /// Those entries, and how many there are with those that are collected.
    fn surviving_entries(&self) -> Result<(Vec<Entry>, u64)> {
        // Before the entries: what it names is in the table by then.
        let checkpoint = self.checkpoint();
        let (first, counted) = (self.first_entry()?, self.word(COUNT_AT, "the count")?);
        let fit = self.entries_that_fit()?.min(counted);
        if first > fit {
            let what = format!("the first entry is {first}, of {fit}");
            return Err(Error::damaged(&self.path, FIRST_ENTRY_AT as u64, what));
        }
        self.map.ensure(&self.file, Self::offset(fit))?;
        let end = (first..fit).find(|&position| self.is_torn(position)).unwrap_or(fit);
        let entries: Vec<Entry> =
            (first..end).map(|position| self.entry(position)).collect::<Result<_>>()?;
        // A page that could not be read gives zeros, as an entry does that was never stored.
        self.map.check()?;
        if end < counted && !may_be_all(&entries, checkpoint.as_ref(), first > 0) {
            let what = format!("entry {end} is gone, and a checkpoint is behind it; run dw-repair");
            return Err(Error::damaged(&self.path, Self::offset(end) as u64, what));
        }
        if let Some((from, to)) = checkpoint.and_then(|c| unreached(&entries, &c)) {
            let what =
                format!("no entry has seq {from}..{to}, and a checkpoint does; run dw-repair");
            return Err(Error::damaged(&self.path, COUNT_AT as u64, what));
        }
        Ok((entries, end))
    }

    /// The chunks that the table has as expired among the entries that are collected.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] for a header that does not check.
    pub fn forgotten_chunks(&self) -> Result<HashSet<u64>> {
        let first = self.first_entry()?.min(self.entries_that_fit()?);
        self.map.ensure(&self.file, Self::offset(first))?;
        let entries = (0..first).filter_map(|position| match self.entry(position).ok()? {
            Entry::Chunk(chunk) if chunk.place == Place::Expired => Some(chunk.chunk_id),
            _ => None,
        });
        Ok(entries.collect())
    }

    /// So many entries have room in the file as it is now.
    fn entries_that_fit(&self) -> Result<u64> {
        let size = match self.map.is_copy() {
            true => self.map.len() as u64,
            false => file::size(&self.file, &self.path)?.min(growing::LIMIT as u64),
        };
        Ok(size.saturating_sub(HEADER_SIZE as u64) / ENTRY_SIZE as u64)
    }

    fn is_torn(&self, position: u64) -> bool {
        let mut bytes = [0; ENTRY_SIZE];
        self.map.read(Self::offset(position), &mut bytes);
        is_torn(&bytes)
    }

    fn offset(position: u64) -> usize {
        HEADER_SIZE + position as usize * ENTRY_SIZE
    }

    /// The chunk at a position of the table, as it is now; also one that is collected.
    ///
    /// # Errors
    /// [`Error::Damaged`], also where that entry is no chunk.
    pub fn chunk_at(&self, position: u64) -> Result<ChunkEntry> {
        match self.entry(position)? {
            Entry::Chunk(chunk) => Ok(chunk),
            _ => {
                let at = Self::offset(position) as u64;
                Err(Error::damaged(&self.path, at, format!("entry {position} is no chunk")))
            }
        }
    }

    /// The entry at a position below the count.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it does not check.
    pub fn entry(&self, position: u64) -> Result<Entry> {
        let at = Self::offset(position);
        if at + ENTRY_SIZE > self.map.len() {
            if position >= self.entries_that_fit()? {
                let what = format!("the file ends before entry {position}");
                return Err(Error::damaged(&self.path, at as u64, what));
            }
            self.map.ensure(&self.file, at + ENTRY_SIZE)?;
        }
        let mut bytes = [0; ENTRY_SIZE];
        let word = place::look(&self.map, at, &mut bytes);
        self.map.check()?;
        decode_entry(&bytes, word, position).map_err(|(offset, what)| {
            let what = format!("{what} of entry {position}");
            Error::damaged(&self.path, (at + offset) as u64, what)
        })
    }
}

/// Whether an entry was never stored to its end. Its last word is never zero otherwise; of a range,
/// the checksum is over all of it.
pub(super) fn is_torn(bytes: &[u8]) -> bool {
    get_u64(bytes, WORD) == 0 && get_u32(bytes, KIND) != 3
}

/// Reads an entry, its guarded word apart; what is wrong with it, and at which byte.
pub(super) fn decode_entry(
    bytes: &[u8; ENTRY_SIZE],
    word: u64,
    position: u64,
) -> std::result::Result<Entry, (usize, &'static str)> {
    let entry = decode_fields(bytes, word, position)?;
    // Sums and differences of these numbers are computed everywhere; here it is seen that they can.
    match impossible(&entry) {
        Some(wrong) => Err(wrong),
        None => Ok(entry),
    }
}

/// A number of an entry that none can have, whatever its checksum says, and at which byte.
fn impossible(entry: &Entry) -> Option<(usize, &'static str)> {
    let too_far = |seq: u64| seq > SEQ_MAX;
    let wrong = match entry {
        Entry::Chunk(chunk) => {
            let (number, part) = (chunk_id::number(chunk.chunk_id), chunk_id::part(chunk.chunk_id));
            let seal = |wrong: fn(u64, &Seal) -> bool| {
                chunk.seal.is_some_and(|seal| wrong(chunk.base_seq, &seal))
            };
            [
                (
                    CHUNK_ID,
                    "an impossible chunk number",
                    number == 0 || number >= chunk_id::NUMBER_LIMIT || part >= chunk_id::PART_LIMIT,
                ),
                (CHUNK_BASE, "an impossible seq", too_far(chunk.base_seq)),
                (CHUNK_SESSION, "an impossible session number", too_far(chunk.session_id)),
                (
                    CHUNK_COUNT,
                    "an impossible count",
                    seal(|base, seal| seal.count > RECORDS_MAX.min(SEQ_MAX.saturating_sub(base))),
                ),
                (CHUNK_MARKS, "an impossible count of marks", seal(|_, s| s.marks > s.count)),
            ]
        }
        Entry::Session(session) => {
            let end = session.close.map_or(0, |close| close.end_seq);
            let none = (KIND, "", false);
            [
                (SESSION_ID, "an impossible session number", too_far(session.session_id)),
                (SESSION_BASE, "an impossible seq", too_far(session.base_seq)),
                (SESSION_END, "an impossible end", too_far(end)),
                none,
                none,
            ]
        }
        Entry::Range(range) => {
            let none = (KIND, "", false);
            [
                (RANGE_LO, "an impossible range", range.seqs.0 > range.seqs.1),
                (RANGE_HI, "an impossible range", too_far(range.seqs.1)),
                none,
                none,
                none,
            ]
        }
    };
    wrong.into_iter().find(|(_, _, is_wrong)| *is_wrong).map(|(at, what, _)| (at, what))
}

fn decode_fields(
    bytes: &[u8; ENTRY_SIZE],
    word: u64,
    position: u64,
) -> std::result::Result<Entry, (usize, &'static str)> {
    if entry_crc(bytes) != get_u32(bytes, CRC) {
        return Err((CRC, "the checksum"));
    }
    match get_u32(bytes, KIND) {
        1 => {
            let place = Place::from_word(word).ok_or((WORD, "the place"))?;
            let sum = crc(&bytes[CHUNK_COUNT..CHUNK_SEAL_CRC]);
            let seal = match place {
                Place::Live | Place::Staged | Place::Flushing => None,
                _ if sum == get_u32(bytes, CHUNK_SEAL_CRC) => Some(read_seal(bytes)),
                Place::Expired | Place::Lost => None,
                Place::OnDisk => return Err((CHUNK_SEAL_CRC, "the sealed part")),
            };
            Ok(Entry::Chunk(read_chunk(bytes, position, place, seal)))
        }
        2 => {
            let close = match unguard(word) {
                Some(SESSION_OPEN) => None,
                Some(SESSION_IS_CLOSED) => {
                    Some(read_close(bytes).ok_or((SESSION_CRC, "the closing part"))?)
                }
                _ => return Err((WORD, "the state")),
            };
            Ok(Entry::Session(read_session(bytes, position, close)))
        }
        3 => Ok(Entry::Range(read_range(bytes))),
        _ => Err((KIND, "the kind")),
    }
}

/// Whether a table may end with these entries though its count says that there were more: they have
/// all that the newest checkpoint speaks of. What was collected is below its seq: the last chunk
/// and the last session never are.
pub(super) fn may_be_all(
    entries: &[Entry],
    checkpoint: Option<&Checkpoint>,
    collected: bool,
) -> bool {
    let Some(checkpoint) = checkpoint else { return true };
    let named = |entry: &&Entry| match entry {
        Entry::Session(session) => session.session_id == checkpoint.session_id,
        Entry::Chunk(chunk) => chunk.chunk_id == checkpoint.chunk_id,
        Entry::Range(_) => false,
    };
    let wanted = 1 + usize::from(checkpoint.chunk_id > 0);
    (collected || entries.iter().filter(named).count() >= wanted)
        && unreached(entries, checkpoint).is_none()
}

/// The seqs below a checkpoint that a table's entries do not reach up to: none in a sound table.
pub(crate) fn unreached(entries: &[Entry], checkpoint: &Checkpoint) -> Option<(u64, u64)> {
    let reach = reach_of(entries, checkpoint);
    (reach < checkpoint.seq).then_some((reach, checkpoint.seq))
}

/// Up to which seq a table's entries hold records or account for them. A live chunk holds what the
/// checkpoint says of it.
fn reach_of(entries: &[Entry], checkpoint: &Checkpoint) -> u64 {
    let reach = entries.iter().map(|entry| match entry {
        Entry::Chunk(ChunkEntry { base_seq, seal: Some(seal), .. }) => base_seq + seal.count,
        Entry::Chunk(chunk) if chunk.chunk_id == checkpoint.chunk_id => checkpoint.seq,
        Entry::Chunk(chunk) => chunk.base_seq,
        Entry::Session(session) => session.base_seq,
        Entry::Range(range) => range.seqs.1,
    });
    reach.max().unwrap_or(0)
}

const SESSION_OPEN: u64 = 1;
const SESSION_IS_CLOSED: u64 = 2;

fn entry_crc(bytes: &[u8; ENTRY_SIZE]) -> u32 {
    crate::checksum::crc_append(crc(&bytes[KIND..CRC]), &bytes[FIXED..MUTABLE])
}

fn read_seal(bytes: &[u8]) -> Seal {
    Seal {
        count: get_u64(bytes, CHUNK_COUNT),
        min_time: get_u64(bytes, CHUNK_MIN),
        max_time: get_u64(bytes, CHUNK_MAX),
        sealed_us: get_u64(bytes, CHUNK_SEALED),
        marks: get_u64(bytes, CHUNK_MARKS),
        reason: get_u32(bytes, CHUNK_REASON),
    }
}

fn read_chunk(bytes: &[u8], position: u64, place: Place, seal: Option<Seal>) -> ChunkEntry {
    ChunkEntry {
        position,
        chunk_id: get_u64(bytes, CHUNK_ID),
        base_seq: get_u64(bytes, CHUNK_BASE),
        session_id: get_u64(bytes, CHUNK_SESSION),
        created_us: get_u64(bytes, CHUNK_CREATED),
        created_boot_ns: get_u64(bytes, CHUNK_BOOT_NS),
        place,
        seal,
    }
}

fn read_session(bytes: &[u8], position: u64, close: Option<SessionClose>) -> SessionEntry {
    SessionEntry {
        position,
        session_id: get_u64(bytes, SESSION_ID),
        base_seq: get_u64(bytes, SESSION_BASE),
        opened_us: get_u64(bytes, SESSION_OPENED),
        opened_boot_ns: get_u64(bytes, SESSION_BOOT_NS),
        boot_id: get_id(bytes, SESSION_BOOT),
        pid: get_u32(bytes, SESSION_PID),
        close,
    }
}

fn read_range(bytes: &[u8]) -> RangeEntry {
    let times = (get_u64(bytes, RANGE_MIN), get_u64(bytes, RANGE_MAX));
    RangeEntry {
        seqs: (get_u64(bytes, RANGE_LO), get_u64(bytes, RANGE_HI)),
        session_id: get_u64(bytes, RANGE_SESSION),
        recorded_us: get_u64(bytes, RANGE_RECORDED),
        reason: get_u32(bytes, RANGE_REASON),
        times: (times != (0, 0)).then_some(times),
    }
}

fn read_close(bytes: &[u8]) -> Option<SessionClose> {
    if crc(&bytes[SESSION_END..SESSION_CRC]) != get_u32(bytes, SESSION_CRC) {
        return None;
    }
    Some(SessionClose {
        end_seq: get_u64(bytes, SESSION_END),
        closed_us: get_u64(bytes, SESSION_CLOSED),
        counters: super::live::Counters {
            rejected: get_u64(bytes, SESSION_REJECTED),
            passed_over: get_u64(bytes, SESSION_PASSED),
            late: get_u64(bytes, SESSION_LATE),
        },
        reason: SessionEnd::from_number(get_u32(bytes, SESSION_REASON))?,
    })
}

/// Both leases of a registry that begins with these bytes, where they check; the higher one counts.
pub(super) fn read_leases(header: &[u8]) -> [Option<u64>; 2] {
    [LEASE_AT, SECOND_LEASE_AT].map(|at| {
        let bytes = &header[at..at + LEASE_SIZE];
        let holds = crc(&bytes[..LEASE_CRC]) == get_u32(bytes, LEASE_CRC);
        holds.then(|| get_u64(bytes, LEASE)).filter(|lease| *lease <= SEQ_MAX)
    })
}

// SYNC: none; a process that dies in between has stored these words in their order.
const LEASE_WORD: Site = Site::new("lease", Ordering::Release);

fn write_lease(map: &impl Memory, lease: u64) {
    let sum = u64::from(crc(&lease.to_le_bytes()));
    // One after the other: at any moment one of them is whole. By atomic stores of whole words
    // (what is behind a sum is zero): the compiler may leave out a plain store before another.
    for at in [LEASE_AT, SECOND_LEASE_AT] {
        map.store(at + LEASE_CRC, 0, LEASE_WORD);
        map.store(at, lease, LEASE_WORD);
        map.store(at + LEASE_CRC, sum, LEASE_WORD);
    }
}

/// Whether a lease must have been damaged since it was stored. One that was not stored to its end
/// has no sum.
pub(super) fn lease_is_broken(header: &[u8], at: usize) -> bool {
    let bytes = &header[at..at + LEASE_SIZE];
    let sum = get_u32(bytes, LEASE_CRC);
    sum != 0 && (sum != crc(&bytes[..LEASE_CRC]) || get_u64(bytes, LEASE) > SEQ_MAX)
}

/// A moment by three clocks: what dw-gc holds the wall clock to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Wall-clock microseconds; 0: no moment.
    pub wall_us: u64,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// The boot.
    pub boot_id: [u8; 16],
}

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        let (wall_us, boot_ns) = (process::wall_us(), process::boottime_ns());
        Moment { wall_us, boot_ns, boot_id: process::boot_id() }
    }
}

/// What dw-gc may do, which holds no lock; besides [`FeedRegistry::set_place`].
impl FeedRegistry {
    fn moment(&self, at: usize) -> Moment {
        let mut bytes = [0; 32];
        self.map.read(at, &mut bytes);
        Moment {
            wall_us: get_u64(&bytes, 0),
            boot_ns: get_u64(&bytes, 8),
            boot_id: get_id(&bytes, 16),
        }
    }

    fn set_moment(&self, at: usize, moment: &Moment) {
        let mut bytes = [0; 32];
        put_u64(&mut bytes, 0, moment.wall_us);
        put_u64(&mut bytes, 8, moment.boot_ns);
        put(&mut bytes, 16, &moment.boot_id);
        self.map.write(at, &bytes);
    }

    /// When the feed was last looked after.
    pub fn last_gc(&self) -> Moment {
        self.moment(LAST_GC_US_AT)
    }

    /// Since when the wall clock is not believed.
    pub fn clock_jump(&self) -> Moment {
        self.moment(CLOCK_JUMP_AT)
    }

    /// Notes that the feed was looked after; the clock was believed.
    pub fn set_last_gc(&self, now: &Moment) {
        self.set_moment(LAST_GC_US_AT, now);
        self.set_moment(CLOCK_JUMP_AT, &Moment::default());
        file::touch(&self.file);
    }

    /// Notes that the wall clock is not believed from here on.
    pub fn set_clock_jump(&self, now: &Moment) {
        self.set_moment(CLOCK_JUMP_AT, now);
        file::touch(&self.file);
    }

    /// Moves `first_entry` on, if it is still at `from`: entries below `to` are collected.
    ///
    /// # Errors
    /// [`Error::Invalid`] if somebody else moved it.
    pub fn move_first_entry(&self, from: u64, to: u64) -> Result<()> {
        // SYNC: first_entry; pairs with the Acquire in `word`.
        let word = self.map.u64_at(FIRST_ENTRY_AT);
        let moved =
            word.compare_exchange(guard(from), guard(to), Ordering::AcqRel, Ordering::Acquire);
        moved.map(|_| ()).map_err(|_| {
            Error::Invalid(format!("{}: first_entry is not {from} any more", self.path.display()))
        })
    }
}

/// What the holder of the feed's lock may do.
impl FeedRegistry {
    /// Allocates room for at least `more` further entries.
    ///
    /// # Errors
    /// [`Error::Io`] on a full disk.
    pub fn reserve(&self, more: u64) -> Result<()> {
        let needed = Self::offset(self.count()? + more) as u64;
        if needed > growing::LIMIT as u64 {
            return Err(Error::Invalid(format!("{}: the table is full", self.path.display())));
        }
        let mut allocated = self.allocated.lock().unwrap_or_else(|e| e.into_inner());
        if *allocated < needed {
            let size = needed.next_multiple_of(PIECE);
            file::allocate(&self.file, &self.path, *allocated, size - *allocated)?;
            *allocated = size;
        }
        self.map.ensure(&self.file, needed as usize)
    }

    /// Makes everything behind the table zero and durable: an entry of a writer that was cut off
    /// must not be taken for one that is counted later.
    ///
    /// # Errors
    /// As [`FeedRegistry::entries`]; [`Error::Io`].
    pub fn cut_torn_entries(&self) -> Result<()> {
        let (_, count) = self.surviving_entries()?;
        let is_used = |position: &u64| {
            let mut bytes = [0; ENTRY_SIZE];
            self.map.read(Self::offset(*position), &mut bytes);
            bytes != [0; ENTRY_SIZE]
        };
        let fit = self.entries_that_fit()?;
        self.map.ensure(&self.file, Self::offset(fit))?;
        let used: Vec<u64> = (count..fit).filter(is_used).collect();
        if used.is_empty() && self.word(COUNT_AT, "the count")? == count {
            return Ok(());
        }
        self.set_word(COUNT_AT, count);
        for position in used {
            self.map.write(Self::offset(position), &[0; ENTRY_SIZE]);
        }
        self.sync()
    }

    /// Makes the next entry cheap to append: its room, and the pages it is stored to, which a sync
    /// has write-protected. A full disk is no error here.
    pub fn warm(&self) {
        let _ = self.reserve(2);
        if let Ok(count) = self.count() {
            self.map.populate(COUNT_AT, 8);
            for position in [count, count + 1] {
                self.map.populate(Self::offset(position), ENTRY_SIZE);
            }
        }
    }

    fn append(&self, bytes: &mut [u8; ENTRY_SIZE]) -> Result<u64> {
        self.reserve(1)?;
        let position = self.count()?;
        let sum = entry_crc(bytes);
        put_u32(bytes, CRC, sum);
        self.map.write(Self::offset(position), bytes);
        self.set_word(COUNT_AT, position + 1);
        Ok(position)
    }

    /// Adds an entry as another table had it, checksum and all.
    ///
    /// # Errors
    /// [`Error::Io`] where the table cannot grow.
    pub(super) fn append_raw(&self, bytes: &[u8; ENTRY_SIZE]) -> Result<()> {
        self.append(&mut bytes.clone()).map(|_| ())
    }

    /// Stores bytes of the header page.
    pub(super) fn write_header(&self, at: usize, bytes: &[u8]) {
        self.map.write(at, bytes);
    }

    /// Adds a live chunk; `entry.position` is set by this call, `entry.seal` is not looked at.
    ///
    /// # Errors
    /// [`Error::Io`] where the table cannot grow.
    pub fn append_chunk(&self, entry: &mut ChunkEntry) -> Result<()> {
        let mut bytes = [0; ENTRY_SIZE];
        put_u32(&mut bytes, KIND, 1);
        put_u64(&mut bytes, CHUNK_ID, entry.chunk_id);
        put_u64(&mut bytes, CHUNK_BASE, entry.base_seq);
        put_u64(&mut bytes, CHUNK_SESSION, entry.session_id);
        put_u64(&mut bytes, CHUNK_CREATED, entry.created_us);
        put_u64(&mut bytes, CHUNK_BOOT_NS, entry.created_boot_ns);
        put_u64(&mut bytes, WORD, entry.place.word());
        entry.position = self.append(&mut bytes)?;
        Ok(())
    }

    /// Adds an open session; `entry.position` is set by this call.
    ///
    /// # Errors
    /// [`Error::Io`] where the table cannot grow.
    pub fn append_session(&self, entry: &mut SessionEntry) -> Result<()> {
        let mut bytes = [0; ENTRY_SIZE];
        put_u32(&mut bytes, KIND, 2);
        put_u64(&mut bytes, SESSION_ID, entry.session_id);
        put_u64(&mut bytes, SESSION_BASE, entry.base_seq);
        put_u64(&mut bytes, SESSION_OPENED, entry.opened_us);
        put_u64(&mut bytes, SESSION_BOOT_NS, entry.opened_boot_ns);
        put(&mut bytes, SESSION_BOOT, &entry.boot_id);
        put_u32(&mut bytes, SESSION_PID, entry.pid);
        put_u64(&mut bytes, WORD, guard(SESSION_OPEN));
        entry.position = self.append(&mut bytes)?;
        Ok(())
    }

    /// Adds a hole.
    ///
    /// # Errors
    /// [`Error::Io`] where the table cannot grow.
    pub fn append_range(&self, range: &RangeEntry) -> Result<()> {
        let mut bytes = [0; ENTRY_SIZE];
        put_u32(&mut bytes, KIND, 3);
        put_u64(&mut bytes, RANGE_LO, range.seqs.0);
        put_u64(&mut bytes, RANGE_HI, range.seqs.1);
        put_u64(&mut bytes, RANGE_SESSION, range.session_id);
        put_u64(&mut bytes, RANGE_RECORDED, range.recorded_us);
        put_u32(&mut bytes, RANGE_REASON, range.reason);
        let (min, max) = range.times.unwrap_or((0, 0));
        put_u64(&mut bytes, RANGE_MIN, min);
        put_u64(&mut bytes, RANGE_MAX, max);
        self.append(&mut bytes).map(|_| ())
    }

    /// Writes a chunk's sealed part and moves it from `from` to on-disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its place is not `from` any more.
    pub fn seal_chunk(&self, position: u64, from: Place, seal: &Seal) -> Result<()> {
        let mut bytes = [0; CHUNK_SEAL_CRC + 4 - CHUNK_COUNT];
        put_u64(&mut bytes, 0, seal.count);
        put_u64(&mut bytes, CHUNK_MIN - CHUNK_COUNT, seal.min_time);
        put_u64(&mut bytes, CHUNK_MAX - CHUNK_COUNT, seal.max_time);
        put_u64(&mut bytes, CHUNK_SEALED - CHUNK_COUNT, seal.sealed_us);
        put_u64(&mut bytes, CHUNK_MARKS - CHUNK_COUNT, seal.marks);
        put_u32(&mut bytes, CHUNK_REASON - CHUNK_COUNT, seal.reason);
        let sum = crc(&bytes[..CHUNK_SEAL_CRC - CHUNK_COUNT]);
        put_u32(&mut bytes, CHUNK_SEAL_CRC - CHUNK_COUNT, sum);
        let to = Place::OnDisk.word();
        self.moved(
            position,
            from,
            place::seal(&self.map, Self::offset(position), &bytes, from.word(), to),
        )
    }

    /// Where a chunk is now; `None` if the word does not check.
    pub fn place(&self, position: u64) -> Option<Place> {
        let at = Self::offset(position) + WORD;
        // SYNC: place; pairs with the Release in `set_place`.
        (at < self.map.len())
            .then(|| self.map.u64_at(at).load(Ordering::Acquire))
            .and_then(Place::from_word)
    }

    /// Moves a chunk from one place to another, if it is still there.
    ///
    /// # Errors
    /// [`Error::Invalid`] if somebody else moved it.
    pub fn set_place(&self, position: u64, from: Place, to: Place) -> Result<()> {
        let done = place::swap(&self.map, Self::offset(position), from.word(), to.word());
        faults::step("registry.place");
        self.moved(position, from, done)
    }

    fn moved(&self, position: u64, from: Place, done: bool) -> Result<()> {
        if done {
            faults::step("registry.place");
            return Ok(());
        }
        let what = format!("entry {position} is not {from:?} any more");
        Err(Error::Invalid(format!("{}: {what}", self.path.display())))
    }

    /// Writes a session's closing part and closes it.
    pub fn close_session(&self, position: u64, close: &SessionClose) {
        let mut bytes = [0; SESSION_CRC + 4 - SESSION_END];
        put_u64(&mut bytes, 0, close.end_seq);
        put_u64(&mut bytes, SESSION_CLOSED - SESSION_END, close.closed_us);
        put_u64(&mut bytes, SESSION_REJECTED - SESSION_END, close.counters.rejected);
        put_u64(&mut bytes, SESSION_PASSED - SESSION_END, close.counters.passed_over);
        put_u64(&mut bytes, SESSION_LATE - SESSION_END, close.counters.late);
        put_u32(&mut bytes, SESSION_REASON - SESSION_END, close.reason as u32);
        let sum = crc(&bytes[..SESSION_CRC - SESSION_END]);
        put_u32(&mut bytes, SESSION_CRC - SESSION_END, sum);
        let at = Self::offset(position);
        self.map.write(at + SESSION_END, &bytes);
        // SYNC: session state; pairs with the Acquire in `place::look`.
        self.map.u64_at(at + WORD).store(guard(SESSION_IS_CLOSED), Ordering::Release);
        faults::step("registry.session-closed");
    }

    /// The lease: no seq at or above it was ever published. `None` if both its checksums fail.
    pub fn lease(&self) -> Option<u64> {
        let mut header = [0; SECOND_LEASE_AT + LEASE_SIZE];
        self.map.read(0, &mut header);
        read_leases(&header).into_iter().flatten().max()
    }

    /// Raises the lease and makes it durable.
    ///
    /// # Errors
    /// [`Error::Invalid`] where no seqs are left; [`Error::Io`] from the sync.
    pub fn set_lease(&self, lease: u64) -> Result<()> {
        if lease > SEQ_MAX {
            let what = format!("a lease up to seq {lease}, and none goes beyond {SEQ_MAX}");
            return Err(Error::Invalid(format!("{}: {what}", self.path.display())));
        }
        write_lease(&self.map, lease);
        self.sync()
    }

    /// Where the newest session that noted it has its shared-memory files.
    pub fn segments(&self) -> Option<Segments> {
        let slots = [0, 1].map(|slot| {
            let mut bytes = [0; segments::SLOT_SIZE];
            self.map.read(SEGMENTS_AT + slot * segments::SLOT_SIZE, &mut bytes);
            Segments::decode(&bytes)
        });
        slots.into_iter().flatten().max_by_key(|s| s.session_id)
    }

    /// Notes where a session has its shared-memory files, in the older slot: the other one stays
    /// whole for whoever reads meanwhile, unless its session, which is then damage, would count as
    /// the newer one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path too long.
    pub fn set_segments(&self, segments: &Segments) -> Result<()> {
        let slot = (segments.session_id % 2) as usize;
        self.map.write(SEGMENTS_AT + slot * segments::SLOT_SIZE, &segments.encode()?);
        if self.segments().is_some_and(|noted| noted.session_id > segments.session_id) {
            let other = SEGMENTS_AT + (1 - slot) * segments::SLOT_SIZE;
            self.map.write(other, &[0; segments::SLOT_SIZE]);
        }
        Ok(())
    }

    /// The newest checkpoint whose checksum holds.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let slots = self.slots();
        let valid = slots.iter().filter_map(read_checkpoint);
        valid.max_by_key(|c| c.generation)
    }

    /// Whether a checkpoint was damaged: a slot is valid, or not stored to its end.
    pub fn checkpoint_is_broken(&self) -> bool {
        self.slots().iter().any(slot_is_broken)
    }

    fn slots(&self) -> [[u8; SLOT_SIZE]; 2] {
        [0, 1].map(|slot| {
            let mut bytes = [0; SLOT_SIZE];
            self.map.read(SLOTS_AT + slot * SLOT_SIZE, &mut bytes);
            bytes
        })
    }

    /// Writes a checkpoint into the older slot, with the next generation. Not durable before the
    /// next [`FeedRegistry::sync`].
    pub fn write_checkpoint(&self, checkpoint: &Checkpoint) {
        let generation = self.checkpoint().map_or(0, |c| c.generation) + 1;
        let mut bytes = [0; SLOT_SIZE];
        put_u64(&mut bytes, SLOT_GENERATION, generation);
        put_u64(&mut bytes, SLOT_SESSION, checkpoint.session_id);
        put(&mut bytes, SLOT_BOOT, &checkpoint.boot_id);
        put_u64(&mut bytes, SLOT_SEQ, checkpoint.seq);
        put_u64(&mut bytes, SLOT_CHUNK, checkpoint.chunk_id);
        put_u64(&mut bytes, SLOT_BASE, checkpoint.chunk_base_seq);
        put_u32(&mut bytes, SLOT_CLOSED, checkpoint.closed_blocks);
        put_u32(&mut bytes, SLOT_OPEN_CRC, checkpoint.open_block_crc);
        put_u64(&mut bytes, SLOT_MAX, checkpoint.running_max);
        put_u64(&mut bytes, SLOT_WRITTEN, checkpoint.written_us);
        let sum = crc(&bytes[..SLOT_CRC]);
        put_u32(&mut bytes, SLOT_CRC, sum);
        // Generations alternate between the slots, so the newest is never overwritten.
        write_slot(&self.map, SLOTS_AT + (generation % 2) as usize * SLOT_SIZE, &bytes);
    }

    /// Makes the registry durable.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] if the file was cut short.
    pub fn sync(&self) -> Result<()> {
        file::sync(&self.file, &self.path)?;
        self.map.check()
    }
}

// SYNC: none; a process that dies in between has stored these words in their order.
const SLOT_BEGIN: Site = Site::new("checkpoint.begin", Ordering::Release);
const SLOT_SUM: Site = Site::new("checkpoint.sum", Ordering::Release);

/// Stores a checkpoint. Its sum goes first and comes last: a slot that was not stored to its end
/// has none, and one with a wrong sum is damaged.
fn write_slot(map: &impl Memory, at: usize, bytes: &[u8; SLOT_SIZE]) {
    // The sum is the upper half of the last word.
    const LAST: usize = SLOT_SIZE - 8;
    map.store(at + LAST, 0, Site::relaxed("checkpoint.no_sum"));
    map.fence(SLOT_BEGIN);
    map.put(at, &bytes[..LAST]);
    map.store(at + LAST, get_u64(bytes, LAST), SLOT_SUM);
}

/// Whether a slot must have been damaged since it was stored. One that was never stored, or not to
/// its end, has no sum.
pub(super) fn slot_is_broken(bytes: &[u8; SLOT_SIZE]) -> bool {
    read_checkpoint(bytes).is_none() && get_u32(bytes, SLOT_CRC) != 0
}

/// The checkpoint in a slot, if it checks.
pub(super) fn read_checkpoint(bytes: &[u8; SLOT_SIZE]) -> Option<Checkpoint> {
    let (seq, base_seq) = (get_u64(bytes, SLOT_SEQ), get_u64(bytes, SLOT_BASE));
    let valid = crc(&bytes[..SLOT_CRC]) == get_u32(bytes, SLOT_CRC)
        && (1..u64::MAX).contains(&get_u64(bytes, SLOT_GENERATION))
        && get_u64(bytes, SLOT_SESSION) <= SEQ_MAX
        && base_seq.max(seq) <= SEQ_MAX
        && chunk_id::part(get_u64(bytes, SLOT_CHUNK)) < chunk_id::PART_LIMIT;
    valid.then(|| Checkpoint {
        generation: get_u64(bytes, SLOT_GENERATION),
        session_id: get_u64(bytes, SLOT_SESSION),
        boot_id: get_id(bytes, SLOT_BOOT),
        seq: get_u64(bytes, SLOT_SEQ),
        chunk_id: get_u64(bytes, SLOT_CHUNK),
        chunk_base_seq: get_u64(bytes, SLOT_BASE),
        closed_blocks: get_u32(bytes, SLOT_CLOSED),
        open_block_crc: get_u32(bytes, SLOT_OPEN_CRC),
        running_max: get_u64(bytes, SLOT_MAX),
        written_us: get_u64(bytes, SLOT_WRITTEN),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;

    use super::*;

    /// One step of a writer: words that become visible in any order.
    type Stores = Vec<(usize, [u8; 8])>;

    /// Memory that notes what is stored to it. Stores without an order between them are one step.
    #[derive(Default)]
    struct Notes(RefCell<Vec<Stores>>);

    impl Notes {
        fn note(&self, at: usize, bytes: &[u8], ordered: bool) {
            let words = bytes.as_chunks::<8>().0.iter().enumerate();
            let words = words.map(|(i, word)| (at + i * 8, *word));
            let mut steps = self.0.borrow_mut();
            match steps.last_mut() {
                Some(step) if !ordered => step.extend(words),
                _ => steps.push(words.collect()),
            }
        }
    }

    impl Memory for Notes {
        fn load(&self, _: usize, _: Site) -> u64 {
            0
        }
        fn store(&self, at: usize, value: u64, site: Site) {
            self.note(at, &value.to_le_bytes(), site.order == Ordering::Release);
        }
        fn swap_if(&self, _: usize, _: u64, _: u64, _: Site) -> bool {
            false
        }
        fn load_half(&self, _: usize, _: Site) -> u32 {
            0
        }
        fn store_half(&self, _: usize, _: u32, _: Site) {}
        fn add_half(&self, _: usize, _: u32, _: Site) {}
        fn fence(&self, _: Site) {
            self.0.borrow_mut().push(Stores::new());
        }
        fn put(&self, at: usize, bytes: &[u8]) {
            self.note(at, bytes, false);
        }
        fn get(&self, _: usize, _: &mut [u8]) {}
    }

    /// Calls `look` with every state of `bytes` that somebody can find while `write` stores, or
    /// after it died: all earlier steps, and some words of one step.
    fn at_every_moment(bytes: &mut [u8], write: impl Fn(&Notes), mut look: impl FnMut(&[u8])) {
        let notes = Notes::default();
        write(&notes);
        look(bytes);
        for step in notes.0.into_inner() {
            for (i, (at, word)) in step.iter().enumerate() {
                let mut torn = bytes.to_vec();
                torn[*at..at + 8].copy_from_slice(word);
                look(&torn);
                // Those before it, or those behind it.
                for some in [&step[..i], &step[i..]] {
                    let mut torn = bytes.to_vec();
                    some.iter().for_each(|(at, word)| torn[*at..at + 8].copy_from_slice(word));
                    look(&torn);
                }
            }
            step.iter().for_each(|(at, word)| bytes[*at..at + 8].copy_from_slice(word));
            look(bytes);
        }
    }

    fn slot_of(generation: u64, seq: u64) -> [u8; SLOT_SIZE] {
        let mut bytes = [0; SLOT_SIZE];
        put_u64(&mut bytes, SLOT_GENERATION, generation);
        put_u64(&mut bytes, SLOT_SEQ, seq);
        put_u64(&mut bytes, SLOT_MAX, !seq);
        put_u64(&mut bytes, SLOT_WRITTEN, seq << 20);
        let sum = crc(&bytes[..SLOT_CRC]);
        put_u32(&mut bytes, SLOT_CRC, sum);
        bytes
    }

    #[test]
    fn a_torn_checkpoint_is_never_taken_and_never_called_damage() {
        let (old, new) = (slot_of(1, 100), slot_of(3, 300));
        let mut states = Vec::new();
        at_every_moment(
            &mut old.clone(),
            |notes| write_slot(notes, 0, &new),
            |bytes| {
                let bytes = bytes.try_into().unwrap();
                assert!(!slot_is_broken(bytes));
                states.push(read_checkpoint(bytes).map(|c| c.seq));
            },
        );
        assert!(states.iter().all(|seq| matches!(seq, Some(100 | 300) | None)), "{states:?}");
        assert_eq!(states.last(), Some(&Some(300)));
    }

    #[test]
    fn one_lease_of_two_is_whole_at_every_moment() {
        let mut header = vec![0; HEADER_SIZE];
        at_every_moment(&mut header, |notes| write_lease(notes, 1000), |_| ());
        assert_eq!(read_leases(&header), [Some(1000); 2]);
        let mut seen = Vec::new();
        at_every_moment(
            &mut header,
            |notes| write_lease(notes, 2000),
            |bytes| {
                assert!(!lease_is_broken(bytes, LEASE_AT));
                assert!(!lease_is_broken(bytes, SECOND_LEASE_AT));
                seen.push(read_leases(bytes).into_iter().flatten().max().unwrap());
            },
        );
        assert!(seen.iter().all(|lease| matches!(lease, 1000 | 2000)), "{seen:?}");
        assert_eq!(seen.last(), Some(&2000));
    }
}
