//! `.idx`: the times and checksums of a chunk's blocks, and its marks (FORMAT.md, NNNNNNNN.idx).

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::FORMAT_VERSION;
use crate::bytes::{get_id, get_u32, get_u64, offsets, put, put_u32, put_u64};
use crate::checksum::{crc, crc_append};
use crate::chunk::Shown;
use crate::error::{Error, Result};
use crate::os::file;
use crate::registry::feed::{Geometry, Identity, SEQ_MAX};
use crate::registry::global::check_head;
use crate::schema::MAX_CHUNK_BYTES;

const MAGIC: &[u8; 8] = b"DEEPWIDX";
pub(crate) const HEADER_SIZE: usize = 4096;
pub(crate) const BLOCK_ENTRY_SIZE: usize = 32;
pub(crate) const MARK_SIZE: usize = 16;
pub(crate) const MARK_COUNT_AT: usize = 512;
pub(crate) const SEAL_AT: usize = 1024;
pub(crate) const SEAL_SIZE: usize = 52;
/// Marks are read in pieces of this size: there may be millions.
const MARKS_PIECE: u64 = 64 << 10;
/// How often entries that look torn are looked at again; only damage looks so every time.
const LOOKS: usize = 3;

offsets! {
    [0] {
        MAGIC_AT: 8, VERSION_AT: 4, HEADER_SIZE_AT: 4, STORE_ID_AT: 16, FEED_ID_AT: 8,
        LAYOUT_HASH_AT: 8, CHUNK_ID_AT: 8, BASE_SEQ_AT: 8, RECORD_SIZE_AT: 4, TIME_OFFSET_AT: 4,
        BLOCK_RECORDS_AT: 4, BLOCK_CAPACITY_AT: 4, MARKS_OFFSET_AT: 8, CREATED_AT: 8,
        SESSION_ID_AT: 8, RESERVED_AT: 20, HEADER_CRC_AT: 4,
    } = 128;
    [0] {
        NOT_MIN: 8, MAX: 8, UNORDERED: 4, DATA_CRC: 4, ENTRY_CRC: 4, CLOSED: 4,
    } = BLOCK_ENTRY_SIZE;
    [0] {
        SEAL_COUNT: 8, SEAL_MIN: 8, SEAL_MAX: 8, SEAL_MARKS: 8, SEAL_SEALED: 8, SEAL_BLOCKS: 4,
        SEAL_MARKS_CRC: 4, SEAL_CRC: 4,
    } = SEAL_SIZE;
}

/// The header of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexHeader {
    /// Store, feed and layout.
    pub id: Identity,
    /// The chunk.
    pub chunk_id: u64,
    /// Seq of its first record.
    pub base_seq: u64,
    /// Record and block sizes.
    pub geometry: Geometry,
    /// Blocks the chunk can have.
    pub block_capacity: usize,
    /// When it was made, wall-clock microseconds.
    pub created_us: u64,
    /// The session that writes it.
    pub session_id: u64,
}

impl IndexHeader {
    /// Where the marks begin: behind room for all block entries, on a page of their own.
    pub fn marks_offset(&self) -> usize {
        (HEADER_SIZE + self.block_capacity * BLOCK_ENTRY_SIZE).next_multiple_of(4096)
    }

    /// Records the chunk can have.
    pub fn capacity(&self) -> usize {
        self.block_capacity * self.geometry.block_records
    }

    /// The 128 bytes of the header.
    pub fn encode(&self) -> [u8; 128] {
        let mut head = [0; 128];
        put(&mut head, MAGIC_AT, MAGIC);
        put_u32(&mut head, VERSION_AT, FORMAT_VERSION);
        put_u32(&mut head, HEADER_SIZE_AT, HEADER_SIZE as u32);
        put(&mut head, STORE_ID_AT, &self.id.store_id);
        put_u64(&mut head, FEED_ID_AT, self.id.feed_id);
        put_u64(&mut head, LAYOUT_HASH_AT, self.id.layout_hash);
        put_u64(&mut head, CHUNK_ID_AT, self.chunk_id);
        put_u64(&mut head, BASE_SEQ_AT, self.base_seq);
        put_u32(&mut head, RECORD_SIZE_AT, self.geometry.record_size as u32);
        put_u32(&mut head, TIME_OFFSET_AT, self.geometry.time_offset as u32);
        put_u32(&mut head, BLOCK_RECORDS_AT, self.geometry.block_records as u32);
        put_u32(&mut head, BLOCK_CAPACITY_AT, self.block_capacity as u32);
        put_u64(&mut head, MARKS_OFFSET_AT, self.marks_offset() as u64);
        put_u64(&mut head, CREATED_AT, self.created_us);
        put_u64(&mut head, SESSION_ID_AT, self.session_id);
        let sum = crc(&head[..HEADER_CRC_AT]);
        put_u32(&mut head, HEADER_CRC_AT, sum);
        head
    }

    /// Reads a header that must be of feed `id`, chunk `chunk_id` at `base_seq`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Version`].
    fn decode(path: &Path, head: &[u8], want: &ChunkKey<'_>) -> Result<IndexHeader> {
        let header = IndexHeader::decode_any(path, head, (want.id, want.geometry))?;
        if (header.chunk_id, header.base_seq) != (want.chunk_id, want.base_seq) {
            let what = format!(
                "it is the index of chunk {} from seq {}, not of chunk {} from seq {}",
                Shown(header.chunk_id),
                header.base_seq,
                Shown(want.chunk_id),
                want.base_seq
            );
            return Err(Error::damaged(path, CHUNK_ID_AT as u64, what));
        }
        Ok(header)
    }

    /// Reads a header that must be of that feed, of whatever chunk.
    fn decode_any(
        path: &Path,
        head: &[u8],
        (id, geometry): (&Identity, &Geometry),
    ) -> Result<IndexHeader> {
        check_head(path, head, MAGIC, 128)?;
        if crc(&head[..HEADER_CRC_AT]) != get_u32(head, HEADER_CRC_AT) {
            return Err(Error::damaged(path, HEADER_CRC_AT as u64, "the header's checksum"));
        }
        let header = IndexHeader {
            id: Identity {
                store_id: get_id(head, STORE_ID_AT),
                feed_id: get_u64(head, FEED_ID_AT),
                layout_hash: get_u64(head, LAYOUT_HASH_AT),
            },
            chunk_id: get_u64(head, CHUNK_ID_AT),
            base_seq: get_u64(head, BASE_SEQ_AT),
            geometry: *geometry,
            block_capacity: get_u32(head, BLOCK_CAPACITY_AT) as usize,
            created_us: get_u64(head, CREATED_AT),
            session_id: get_u64(head, SESSION_ID_AT),
        };
        if header.id != *id {
            let what = "it belongs to another feed, or another layout";
            return Err(Error::damaged(path, STORE_ID_AT as u64, what));
        }
        let same_sizes = get_u32(head, RECORD_SIZE_AT) as usize == geometry.record_size
            && get_u32(head, BLOCK_RECORDS_AT) as usize == geometry.block_records
            && get_u32(head, TIME_OFFSET_AT) as usize == geometry.time_offset;
        if !same_sizes || get_u64(head, MARKS_OFFSET_AT) != header.marks_offset() as u64 {
            return Err(Error::damaged(path, RECORD_SIZE_AT as u64, "an impossible geometry"));
        }
        header.check_bounds(path)?;
        Ok(header)
    }

    /// Refuses what no chunk can have: sizes and seqs are computed from these numbers.
    fn check_bounds(&self, path: &Path) -> Result<()> {
        let block_bytes = self.geometry.block_bytes() as u64;
        let bytes = self.block_capacity as u64 * block_bytes;
        if self.block_capacity == 0 || bytes > MAX_CHUNK_BYTES + block_bytes {
            let what = format!("room for {} blocks, which no chunk has", self.block_capacity);
            return Err(Error::damaged(path, BLOCK_CAPACITY_AT as u64, what));
        }
        if self.base_seq > SEQ_MAX {
            let what = format!("seq {}, which no record can have", self.base_seq);
            return Err(Error::damaged(path, BASE_SEQ_AT as u64, what));
        }
        Ok(())
    }
}

/// Which chunk an index must be of.
#[derive(Clone, Copy)]
pub struct ChunkKey<'a> {
    /// Store, feed and layout.
    pub id: &'a Identity,
    /// Record and block sizes.
    pub geometry: &'a Geometry,
    /// The chunk.
    pub chunk_id: u64,
    /// Seq of its first record.
    pub base_seq: u64,
}

/// How many records of a chunk an index is asked about, and whether those are all it will ever
/// have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Records, from the chunk's first.
    pub records: u64,
    /// Whether the chunk is sealed.
    pub sealed: bool,
}

/// What an index says of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Least time; `u64::MAX` if no record came yet.
    pub min: u64,
    /// Greatest time.
    pub max: u64,
    /// Whether no record is older than the one before it.
    pub ordered: bool,
    /// Checksum of the records, once the block is closed.
    pub data_crc: Option<u32>,
    /// Whether the entry's own checksum holds (true while the block is open: it has none).
    pub intact: bool,
}

impl BlockEntry {
    /// Whether no record's time was ever taken in.
    pub fn is_unset(&self) -> bool {
        (self.min, self.max) == (u64::MAX, 0)
    }

    /// Whether the times of some of its records are within those of the entry.
    pub fn has_times_of(&self, records: &[u8], geometry: &Geometry) -> bool {
        records.chunks_exact(geometry.record_size).all(|record| {
            let time = get_u64(record, geometry.time_offset);
            time >= self.min && time <= self.max
        })
    }

    /// Whether a record of the block can lie in the half-open time range.
    pub fn overlaps(&self, since: u64, until: u64) -> bool {
        // A range up to the greatest time ends nowhere.
        (self.min < until || until == u64::MAX) && self.max >= since
    }
}

/// The checksum of a closed block's entry (its first 24 bytes, number and record count).
pub(crate) fn entry_crc(entry: &[u8], number: usize, records: usize) -> u32 {
    let mut tail = [0; 8];
    put_u32(&mut tail, 0, number as u32);
    put_u32(&mut tail, 4, records as u32);
    crc_append(crc(&entry[..ENTRY_CRC]), &tail)
}

/// The 52 bytes of the seal.
pub(crate) fn encode_seal(
    count: u64,
    times: (u64, u64),
    marks: (u64, u32),
    sealed_us: u64,
    blocks: usize,
) -> [u8; SEAL_SIZE] {
    let mut seal = [0; SEAL_SIZE];
    put_u64(&mut seal, SEAL_COUNT, count);
    put_u64(&mut seal, SEAL_MIN, times.0);
    put_u64(&mut seal, SEAL_MAX, times.1);
    put_u64(&mut seal, SEAL_MARKS, marks.0);
    put_u64(&mut seal, SEAL_SEALED, sealed_us);
    put_u32(&mut seal, SEAL_BLOCKS, blocks as u32);
    put_u32(&mut seal, SEAL_MARKS_CRC, marks.1);
    let sum = crc(&seal[..SEAL_CRC]);
    put_u32(&mut seal, SEAL_CRC, sum);
    seal
}

/// An index opened for reading.
pub struct Index {
    file: File,
    path: PathBuf,
    header: IndexHeader,
}

impl Index {
    /// Opens the index at `path`, which must be of the chunk `want`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, want: &ChunkKey<'_>) -> Result<Index> {
        let file = file::open_read(path)?;
        let mut head = [0; 128];
        file::read_at(&file, path, 0, &mut head)?;
        let header = IndexHeader::decode(path, &head, want)?;
        Ok(Index { file, path: path.to_owned(), header })
    }

    /// The header.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The entries of blocks `first..first + n`.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a file that ends before.
    pub fn blocks(&self, first: usize, n: usize, extent: Extent) -> Result<Vec<BlockEntry>> {
        let mut entries = self.read_blocks(first, n, extent)?;
        // A block that is closed while its entry is copied can look torn, but only once; while one
        // is looked at again another may be closed.
        for _ in 0..LOOKS {
            if extent.sealed || entries.iter().all(|entry| entry.intact) {
                break;
            }
            let again = self.read_blocks(first, n, extent)?;
            for (entry, again) in entries.iter_mut().zip(again) {
                if !entry.intact {
                    *entry = again;
                }
            }
        }
        Ok(entries)
    }

    /// The first of the blocks that `records` records fall in whose times were never set.
    ///
    /// # Errors
    /// As [`Index::blocks`].
    pub fn first_unset(&self, records: u64) -> Result<Option<usize>> {
        let n = (records as usize).div_ceil(self.header.geometry.block_records);
        let there = file::size(&self.file, &self.path)?.saturating_sub(HEADER_SIZE as u64);
        let n = n.min(there as usize / BLOCK_ENTRY_SIZE + 1);
        let mut bytes = vec![0; n * BLOCK_ENTRY_SIZE];
        file::read_at(&self.file, &self.path, HEADER_SIZE as u64, &mut bytes)?;
        let mut entries = bytes.chunks_exact(BLOCK_ENTRY_SIZE);
        Ok(entries.position(|entry| get_u64(entry, NOT_MIN) | get_u64(entry, MAX) == 0))
    }

    fn read_blocks(&self, first: usize, n: usize, extent: Extent) -> Result<Vec<BlockEntry>> {
        let capacity = self.header.block_capacity;
        let end = first.saturating_add(n);
        if end > capacity {
            let what = format!("room for {capacity} blocks, where {end} are looked for");
            return Err(Error::damaged(&self.path, BLOCK_CAPACITY_AT as u64, what));
        }
        let mut bytes = vec![0; n * BLOCK_ENTRY_SIZE];
        let at = HEADER_SIZE + first * BLOCK_ENTRY_SIZE;
        file::read_at(&self.file, &self.path, at as u64, &mut bytes)?;
        let per_block = self.header.geometry.block_records as u64;
        let decoded = bytes.chunks_exact(BLOCK_ENTRY_SIZE).enumerate().map(|(i, entry)| {
            let number = first + i;
            let before = number as u64 * per_block;
            let records = extent.records.saturating_sub(before).min(per_block);
            // The tail of a live chunk: whether it was closed since, with how many records, we do
            // not know, so its sums say nothing of the records that are asked for.
            let open = !extent.sealed && records < per_block;
            decode_block(entry, number, records as usize, open)
        });
        Ok(decoded.collect())
    }

    /// The marks of the records in `extent`, ascending by seq: pairs of seq and time.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn marks(&self, extent: Extent) -> Result<Vec<(u64, u64)>> {
        // The chunk may be sealed while it is looked at; then the second look finds it so.
        self.read_marks(extent).or_else(|_| self.read_marks(extent))
    }

    fn read_marks(&self, extent: Extent) -> Result<Vec<(u64, u64)>> {
        let mut word = [0; 8];
        file::read_at(&self.file, &self.path, MARK_COUNT_AT as u64, &mut word)?;
        let count = u64::from_le_bytes(word);
        if count > self.header.capacity() as u64 {
            let what = format!("{count} marks in a chunk of {}", self.header.capacity());
            return Err(Error::damaged(&self.path, MARK_COUNT_AT as u64, what));
        }
        let (start, base) = (self.header.marks_offset() as u64, self.header.base_seq);
        if count == 0 {
            return self.check_marks(extent, count, 0).map(|()| Vec::new());
        }
        let end = file::size(&self.file, &self.path)?;
        let there = end.saturating_sub(start) / MARK_SIZE as u64;
        if extent.sealed && count > there {
            let what = format!("the file ends here, before the last of {count} marks");
            return Err(Error::damaged(&self.path, end, what));
        }
        let (mut marks, mut sum, mut next) = (Vec::new(), 0, Some(base));
        // What a machine that stopped has left may be short of the last ones.
        read_marks((&self.file, &self.path), start, count.min(there), |bytes| {
            sum = crc_append(sum, bytes);
            for mark in bytes.chunks_exact(MARK_SIZE) {
                let seq = get_u64(mark, 0);
                // Those that were not stored to their end do not ascend; no more come then.
                let sound = next.is_some_and(|next| seq >= next && seq - base < extent.records);
                next = sound.then(|| seq.saturating_add(1));
                if sound {
                    marks.push((seq, get_u64(mark, 8)));
                }
            }
            extent.sealed || next.is_some()
        })?;
        self.check_marks(extent, count, sum).map(|()| marks)
    }

    /// Once the chunk is sealed, its marks carry a checksum.
    fn check_marks(&self, extent: Extent, count: u64, sum: u32) -> Result<()> {
        if !extent.sealed {
            return Ok(());
        }
        let mut seal = [0; SEAL_SIZE];
        file::read_at(&self.file, &self.path, SEAL_AT as u64, &mut seal)?;
        if seal == [0; SEAL_SIZE] {
            return Ok(());
        }
        let intact = crc(&seal[..SEAL_CRC]) == get_u32(&seal, SEAL_CRC)
            && get_u64(&seal, SEAL_MARKS) == count
            && get_u32(&seal, SEAL_MARKS_CRC) == sum;
        match intact {
            true => Ok(()),
            false => Err(Error::damaged(&self.path, SEAL_AT as u64, "the checksum of the marks")),
        }
    }
}

/// Reads so many marks from byte `start` on, piece by piece, as long as `take` wants more.
fn read_marks(
    (file, path): (&File, &Path),
    start: u64,
    count: u64,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<()> {
    let end = count * MARK_SIZE as u64;
    let mut piece = vec![0; end.min(MARKS_PIECE) as usize];
    let mut done = 0;
    while done < end {
        let piece = &mut piece[..(end - done).min(MARKS_PIECE) as usize];
        file::read_at(file, path, start + done, piece)?;
        if !take(piece) {
            break;
        }
        done += piece.len() as u64;
    }
    Ok(())
}

fn decode_block(entry: &[u8], number: usize, records: usize, open: bool) -> BlockEntry {
    let closed = !open && get_u32(entry, CLOSED) == 1;
    BlockEntry {
        min: !get_u64(entry, NOT_MIN),
        max: get_u64(entry, MAX),
        ordered: get_u32(entry, UNORDERED) == 0,
        data_crc: closed.then(|| get_u32(entry, DATA_CRC)),
        intact: !closed || entry_crc(entry, number, records) == get_u32(entry, ENTRY_CRC),
    }
}

/// Where nothing is stored in the header page.
const UNUSED: [(usize, usize); 3] =
    [(128, MARK_COUNT_AT), (MARK_COUNT_AT + 8, SEAL_AT), (SEAL_AT + SEAL_SIZE, HEADER_SIZE)];

/// An index as it lies on the disk, sound or not: what dw-repair looks at.
pub struct RawIndex {
    /// Its header, which checks.
    pub header: IndexHeader,
    /// The header page and the blocks' entries, as far as they are there.
    bytes: Vec<u8>,
    file: File,
    path: PathBuf,
    size: u64,
}

/// What the index's own seal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexSeal {
    /// Records.
    pub count: u64,
    /// Least and greatest time.
    pub times: (u64, u64),
    /// Marks.
    pub marks: u64,
    /// When it was sealed, wall-clock microseconds.
    pub sealed_us: u64,
    marks_crc: u32,
}

/// A block's times and sum: as an index says, or as its records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSums {
    /// Least time.
    pub min: u64,
    /// Greatest time.
    pub max: u64,
    /// Whether a record is older than the one before it.
    pub unordered: bool,
    /// Checksum of the records.
    pub data_crc: u32,
}

impl BlockSums {
    /// Computes them.
    pub fn of(records: &[u8], geometry: &Geometry) -> BlockSums {
        let mut sums =
            BlockSums { min: u64::MAX, max: 0, unordered: false, data_crc: crc(records) };
        let mut last = 0;
        for record in records.chunks_exact(geometry.record_size) {
            let time = get_u64(record, geometry.time_offset);
            sums.min = sums.min.min(time);
            sums.max = sums.max.max(time);
            sums.unordered |= time < last;
            last = time;
        }
        sums
    }

    /// The entry of a closed block.
    fn encode(&self, number: usize, records: usize) -> [u8; BLOCK_ENTRY_SIZE] {
        let mut entry = [0; BLOCK_ENTRY_SIZE];
        put_u64(&mut entry, NOT_MIN, !self.min);
        put_u64(&mut entry, MAX, self.max);
        put_u32(&mut entry, UNORDERED, u32::from(self.unordered));
        put_u32(&mut entry, DATA_CRC, self.data_crc);
        let sum = entry_crc(&entry, number, records);
        put_u32(&mut entry, ENTRY_CRC, sum);
        put_u32(&mut entry, CLOSED, 1);
        entry
    }
}

/// How a block's records stand to its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The entry checks, and so do the records.
    Sound,
    /// The entry is damaged, and the records agree with a sum in it.
    Proven,
    /// The entry is damaged, and says nothing of the records.
    Silent,
    /// The records do not agree with an entry that checks, or partly does.
    Broken,
    /// The block was not closed yet; its times hold those of the records.
    Open,
    /// The block was not closed yet; its times do not hold those of the records.
    Outside,
}

impl RawIndex {
    /// Reads an index of that feed, of whatever chunk.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a header that does not check; [`Error::Io`].
    pub fn read(path: &Path, of: (&Identity, &Geometry)) -> Result<RawIndex> {
        let mut index = RawIndex::open(path, of)?;
        // The header is bounded by what a chunk can have, and marks are read when they are needed.
        let entries = (index.header.block_capacity * BLOCK_ENTRY_SIZE) as u64;
        let end = index.size.min(HEADER_SIZE as u64 + entries);
        index.bytes.resize(end as usize, 0);
        file::read_at(&index.file, path, 0, &mut index.bytes)?;
        Ok(index)
    }

    /// Reads the header page alone.
    fn open(path: &Path, of: (&Identity, &Geometry)) -> Result<RawIndex> {
        let (file, known) = file::open_known(path, false)?;
        if known.size < HEADER_SIZE as u64 {
            let what = format!("the file ends here, in a header of {HEADER_SIZE} bytes");
            return Err(Error::damaged(path, known.size, what));
        }
        let mut bytes = vec![0; HEADER_SIZE];
        file::read_at(&file, path, 0, &mut bytes)?;
        let header = IndexHeader::decode_any(path, &bytes, of)?;
        Ok(RawIndex { header, bytes, file, path: path.to_owned(), size: known.size })
    }

    /// Reads the header alone.
    ///
    /// # Errors
    /// As [`RawIndex::read`].
    pub fn peek(
        path: &Path,
        of: (&Identity, &Geometry),
    ) -> Result<(IndexHeader, Option<IndexSeal>)> {
        let index = RawIndex::open(path, of)?;
        Ok((index.header, index.seal().ok().flatten()))
    }

    /// Its seal; none if it was not sealed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn seal(&self) -> std::result::Result<Option<IndexSeal>, String> {
        let seal = &self.bytes[SEAL_AT..SEAL_AT + SEAL_SIZE];
        if seal.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if crc(&seal[..SEAL_CRC]) != get_u32(seal, SEAL_CRC) {
            return Err("the checksum of the seal".into());
        }
        Ok(Some(IndexSeal {
            count: get_u64(seal, SEAL_COUNT),
            times: (get_u64(seal, SEAL_MIN), get_u64(seal, SEAL_MAX)),
            marks: get_u64(seal, SEAL_MARKS),
            sealed_us: get_u64(seal, SEAL_SEALED),
            marks_crc: get_u32(seal, SEAL_MARKS_CRC),
        }))
    }

    /// What a sealed index of that many records should be and is not, its blocks' entries aside.
    pub fn fault(&self, records: u64) -> Option<String> {
        let seal = match self.seal() {
            Ok(Some(seal)) => seal,
            Ok(None) => return Some("it was never sealed".into()),
            Err(what) => return Some(what),
        };
        let mut stray = UNUSED.iter().flat_map(|&(from, to)| from..to);
        if let Some(at) = stray.find(|&at| self.bytes[at] != 0) {
            return Some(format!("byte {at}: not zero, where nothing is stored"));
        }
        if seal.count != records {
            return Some(format!("it is sealed with {} records, not {records}", seal.count));
        }
        if let Some(what) = self.marks_fault(&seal) {
            return Some(what);
        }
        let blocks = (records as usize).div_ceil(self.header.geometry.block_records);
        let end = match seal.marks as usize {
            0 => HEADER_SIZE + blocks * BLOCK_ENTRY_SIZE,
            marks => self.header.marks_offset() + marks * MARK_SIZE,
        };
        (self.size != end as u64).then(|| format!("{} bytes, where {end} belong", self.size))
    }

    /// What is wrong with the marks of a sealed index.
    fn marks_fault(&self, seal: &IndexSeal) -> Option<String> {
        if seal.marks > seal.count {
            return Some(format!("{} marks of {} records", seal.marks, seal.count));
        }
        if seal.marks > self.marks_that_fit() {
            return Some("the marks: the file ends before".into());
        }
        let mut sum = 0;
        if let Err(error) = self.read_marks(seal.marks, |bytes| sum = crc_append(sum, bytes)) {
            return Some(error.to_string());
        }
        let same = get_u64(&self.bytes, MARK_COUNT_AT) == seal.marks;
        (!same || sum != seal.marks_crc).then(|| "the checksum of the marks".into())
    }

    /// So many marks have room in the file.
    fn marks_that_fit(&self) -> u64 {
        self.size.saturating_sub(self.header.marks_offset() as u64) / MARK_SIZE as u64
    }

    /// Reads so many marks, piece by piece.
    fn read_marks(&self, count: u64, mut take: impl FnMut(&[u8])) -> Result<()> {
        let start = self.header.marks_offset() as u64;
        read_marks((&self.file, &self.path), start, count, |bytes| {
            take(bytes);
            true
        })
    }

    /// Gives every mark that may be one, as seq and time: as many as the file and the chunk can
    /// have.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn marks(&self, mut take: impl FnMut(u64, u64)) -> Result<()> {
        let sealed = self.seal().ok().flatten().map(|seal| seal.marks);
        let count = sealed.unwrap_or_else(|| get_u64(&self.bytes, MARK_COUNT_AT));
        let count = count.min(self.marks_that_fit()).min(self.header.capacity() as u64);
        self.read_marks(count, |bytes| {
            let marks = bytes.chunks_exact(MARK_SIZE);
            marks.for_each(|mark| take(get_u64(mark, 0), get_u64(mark, 8)));
        })
    }

    /// Whether a record was ever stored in the chunk.
    pub fn has_records(&self) -> bool {
        let entry = self.bytes.get(HEADER_SIZE..HEADER_SIZE + BLOCK_ENTRY_SIZE);
        entry.is_some_and(|entry| get_u64(entry, NOT_MIN) != 0 || get_u64(entry, MAX) != 0)
    }

    /// How many records it has at least: up to the first of the last block whose times are set.
    pub fn reaches(&self) -> u64 {
        let end = HEADER_SIZE.saturating_add(self.header.block_capacity * BLOCK_ENTRY_SIZE);
        let entries = &self.bytes[HEADER_SIZE..end.clamp(HEADER_SIZE, self.bytes.len())];
        let is_set = |entry: &[u8]| get_u64(entry, NOT_MIN) != 0 || get_u64(entry, MAX) != 0;
        let last = entries.chunks_exact(BLOCK_ENTRY_SIZE).rposition(is_set);
        last.map_or(0, |block| (block * self.header.geometry.block_records) as u64 + 1)
    }

    /// Least and greatest time of a block, if its entry checks.
    pub fn times(&self, block: usize, records: usize) -> Option<(u64, u64)> {
        let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
        let entry = self.bytes.get(at..at + BLOCK_ENTRY_SIZE)?;
        let checks = entry_crc(entry, block, records) == get_u32(entry, ENTRY_CRC);
        checks.then(|| (!get_u64(entry, NOT_MIN), get_u64(entry, MAX)))
    }

    /// How a block's records, whose sums these are, stand to its entry.
    pub fn agreement(
        &self,
        block: usize,
        (records, sealed): (usize, bool),
        sums: &BlockSums,
    ) -> Agreement {
        let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
        let Some(entry) = self.bytes.get(at..at + BLOCK_ENTRY_SIZE) else {
            return Agreement::Silent;
        };
        let stored = BlockSums {
            min: !get_u64(entry, NOT_MIN),
            max: get_u64(entry, MAX),
            unordered: get_u32(entry, UNORDERED) != 0,
            data_crc: get_u32(entry, DATA_CRC),
        };
        let whole = records == self.header.geometry.block_records;
        let entry_checks = entry_crc(entry, block, records) == get_u32(entry, ENTRY_CRC);
        // The last block of a chunk that was never sealed may have been closed with other records;
        // what its index has of a seal may be of records that were lost.
        if !sealed && (get_u32(entry, CLOSED) == 0 || !whole && !entry_checks) {
            let holds = stored.min <= sums.min && stored.max >= sums.max;
            return match entry.iter().all(|byte| *byte == 0) {
                _ if holds => Agreement::Open,
                true => Agreement::Silent,
                false => Agreement::Outside,
            };
        }
        let same_sum = stored.data_crc == sums.data_crc;
        if entry_checks && same_sum {
            let closed = get_u32(entry, CLOSED) == 1;
            return if closed { Agreement::Sound } else { Agreement::Proven };
        }
        let made = sums.encode(block, records);
        if !entry_checks && (same_sum || get_u32(&made, ENTRY_CRC) == get_u32(entry, ENTRY_CRC)) {
            return Agreement::Proven;
        }
        let same_times = (stored.min, stored.max) == (sums.min, sums.max);
        if entry_checks || same_times { Agreement::Broken } else { Agreement::Silent }
    }
}

/// The bytes of a sealed index, made of its blocks' sums; returns least and greatest time too.
pub fn encode_sealed(
    header: &IndexHeader,
    (count, blocks): (u64, &[BlockSums]),
    marks: &[(u64, u64)],
    sealed_us: u64,
) -> (Vec<u8>, (u64, u64)) {
    let mut bytes = vec![0; HEADER_SIZE];
    put(&mut bytes, 0, &header.encode());
    let per_block = header.geometry.block_records;
    for (i, sums) in blocks.iter().enumerate() {
        let records = (count as usize - i * per_block).min(per_block);
        bytes.extend_from_slice(&sums.encode(i, records));
    }
    let mut stored = Vec::with_capacity(marks.len() * MARK_SIZE);
    for (seq, time) in marks {
        stored.extend_from_slice(&seq.to_le_bytes());
        stored.extend_from_slice(&time.to_le_bytes());
    }
    put_u64(&mut bytes, MARK_COUNT_AT, marks.len() as u64);
    let min = blocks.iter().map(|b| b.min).min().unwrap_or(u64::MAX);
    let times = (min, blocks.iter().map(|b| b.max).max().unwrap_or(0));
    let summed = (marks.len() as u64, if marks.is_empty() { 0 } else { crc(&stored) });
    put(&mut bytes, SEAL_AT, &encode_seal(count, times, summed, sealed_us, blocks.len()));
    if !marks.is_empty() {
        bytes.resize(header.marks_offset(), 0);
        bytes.extend_from_slice(&stored);
    }
    (bytes, times)
}
