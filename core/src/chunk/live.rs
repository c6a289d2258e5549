//! A chunk being written: its two files allocated ahead of the records, and mapped.
//!
//! The writing thread stores records and block times; the background thread allocates, closes
//! blocks and seals. What they share here is the allocation, under a lock that either takes rarely,
//! and words that only one of them stores to.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::bytes::{get_u32, get_u64};
use crate::checksum::crc_append;
use crate::chunk::ChunkPaths;
use crate::chunk::index::{
    BLOCK_ENTRY_SIZE, CLOSED, DATA_CRC, ENTRY_CRC, HEADER_SIZE, IndexHeader, MARK_COUNT_AT,
    MARK_SIZE, MAX, NOT_MIN, SEAL_AT, UNORDERED, encode_seal, entry_crc,
};
use crate::error::{Error, Result};
use crate::os::map::Map;
use crate::os::{faults, file, process};
use crate::registry::feed::{ChunkEnd, Geometry, Seal};

/// Data files begin with this much and double as they grow.
const FIRST_PIECE: usize = 1 << 20;
/// Runs of records from this size on are written to a file on disk.
pub const BULK_BYTES: usize = 64 << 10;
/// Marks grow by this much at least.
const MARKS_PIECE: usize = 4096;

/// A chunk being written.
pub struct LiveChunk {
    header: IndexHeader,
    paths: ChunkPaths,
    data_file: File,
    data: Map,
    index_file: File,
    index: Map,
    base_seq: AtomicU64,
    position: AtomicU64,
    entered_boot_ns: AtomicU64,
    data_allocated: AtomicUsize,
    marks_allocated: AtomicUsize,
    growth: Mutex<()>,
    closed_blocks: AtomicUsize,
    /// Runs of records from this size on are written, smaller ones stored through the mapping.
    bulk_bytes: usize,
    /// Why it ends, where it ends before it is full.
    end: AtomicU32,
}

/// Times of a run of records within one block.
#[derive(Clone, Copy, Debug)]
pub struct RunTimes {
    /// Least.
    pub min: u64,
    /// Greatest.
    pub max: u64,
    /// The last record's.
    pub last: u64,
    /// Whether a record was older than the one before it in the block.
    pub unordered: bool,
}

impl RunTimes {
    /// Takes one more record in.
    #[inline]
    pub fn add(&mut self, time: u64) {
        self.min = self.min.min(time);
        self.max = self.max.max(time);
        self.unordered |= time < self.last;
        self.last = time;
    }
}

impl LiveChunk {
    /// Makes the files of a chunk and allocates the first piece. Its base seq is 0 until
    /// [`LiveChunk::adopt`].
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); nothing is left behind then.
    pub fn create(folder: &Path, header: IndexHeader, mode: u32) -> Result<LiveChunk> {
        let paths = ChunkPaths::new(folder, header.chunk_id);
        let data_file = file::create_new(&paths.data, mode)?;
        let made = Self::create_index(&paths, &header, mode).and_then(|(index_file, index)| {
            let capacity = header.capacity() * header.geometry.record_size;
            let data = Map::writable(&data_file, &paths.data, capacity)?;
            let chunk =
                LiveChunk::new(header, paths.clone(), (data_file, data), (index_file, index));
            chunk.grow_to(1)?;
            Ok(chunk)
        });
        if made.is_err() {
            let _ = file::remove_file(&paths.data);
            let _ = file::remove_file(&paths.index);
        }
        made
    }

    fn create_index(paths: &ChunkPaths, header: &IndexHeader, mode: u32) -> Result<(File, Map)> {
        let file = file::create_new(&paths.index, mode)?;
        file::allocate(&file, &paths.index, 0, (HEADER_SIZE + BLOCK_ENTRY_SIZE) as u64)?;
        let index = Map::writable(&file, &paths.index, Self::index_size(header))?;
        index.write(0, &header.encode());
        Ok((file, index))
    }

    /// Opens the files that a writer left, with `count` records in them, to seal them.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged).
    pub fn reopen(folder: &Path, header: IndexHeader, position: u64) -> Result<LiveChunk> {
        let paths = ChunkPaths::new(folder, header.chunk_id);
        let data_file = file::open_write(&paths.data)?;
        let index_file = file::open_write(&paths.index)?;
        let capacity = header.capacity() * header.geometry.record_size;
        let data = Map::writable(&data_file, &paths.data, capacity)?;
        let index = Map::writable(&index_file, &paths.index, Self::index_size(&header))?;
        let allocated = file::size(&data_file, &paths.data)? as usize;
        let index_end = file::size(&index_file, &paths.index)? as usize;
        let chunk = LiveChunk::new(header, paths, (data_file, data), (index_file, index));
        chunk.base_seq.store(header.base_seq, Ordering::Relaxed);
        chunk.position.store(position, Ordering::Relaxed);
        chunk.data_allocated.store(allocated.min(capacity), Ordering::Relaxed);
        let marks = index_end.saturating_sub(header.marks_offset());
        chunk.marks_allocated.store(marks, Ordering::Relaxed);
        Ok(chunk)
    }

    fn new(
        header: IndexHeader,
        paths: ChunkPaths,
        (data_file, data): (File, Map),
        (index_file, index): (File, Map),
    ) -> LiveChunk {
        LiveChunk {
            header,
            paths,
            data_file,
            data,
            index_file,
            index,
            base_seq: AtomicU64::new(0),
            position: AtomicU64::new(0),
            entered_boot_ns: AtomicU64::new(0),
            data_allocated: AtomicUsize::new(0),
            marks_allocated: AtomicUsize::new(0),
            growth: Mutex::new(()),
            closed_blocks: AtomicUsize::new(0),
            bulk_bytes: BULK_BYTES,
            end: AtomicU32::new(ChunkEnd::Age as u32),
        }
    }

    /// Has every run stored through the mapping, as is best in memory.
    pub fn in_memory(self) -> LiveChunk {
        LiveChunk { bulk_bytes: usize::MAX, ..self }
    }

    fn index_size(header: &IndexHeader) -> usize {
        header.marks_offset() + header.capacity() * MARK_SIZE
    }

    /// Gives a prepared chunk its place in the seqs, before its entry goes into the table.
    pub fn adopt(&self, base_seq: u64) {
        self.base_seq.store(base_seq, Ordering::Relaxed);
        self.index.write(0, &IndexHeader { base_seq, ..self.header }.encode());
    }

    /// Notes its entry's position in the table, and when that was made.
    pub fn enter(&self, position: u64, boot_ns: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.entered_boot_ns.store(boot_ns, Ordering::Relaxed);
    }

    /// When it went into the table, nanoseconds since boot.
    pub fn entered_boot_ns(&self) -> u64 {
        self.entered_boot_ns.load(Ordering::Relaxed)
    }

    /// Notes why it ends before it is full, if not by its age.
    pub fn set_end(&self, end: ChunkEnd) {
        self.end.store(end as u32, Ordering::Relaxed);
    }

    /// Why it ended, with so many records and another chunk behind it.
    pub fn end_with(&self, count: u64) -> u32 {
        match count == self.header.capacity() as u64 {
            true => ChunkEnd::Full as u32,
            false => self.end.load(Ordering::Relaxed),
        }
    }

    /// The header of its index, with its place in the seqs.
    pub fn header(&self) -> IndexHeader {
        IndexHeader { base_seq: self.base_seq(), ..self.header }
    }

    /// Its files.
    pub fn paths(&self) -> &ChunkPaths {
        &self.paths
    }

    /// Whether its files still have their names: nobody has unlinked them.
    pub fn is_named(&self) -> bool {
        [(&self.data_file, &self.paths.data), (&self.index_file, &self.paths.index)]
            .iter()
            .all(|(file, path)| file::is_named(file, path))
    }

    /// Writes bytes of records below `published` to another file, at the same place.
    pub(super) fn write_to(&self, to: (&File, &Path), at: usize, len: usize) -> Result<()> {
        self.data.write_to(to, at, len)
    }

    /// Copies bytes of the index out. Of a block that is not closed they may be too wide.
    pub(super) fn read_index(&self, at: usize, into: &mut [u8]) {
        self.index.read(at, into);
    }

    /// Marks so far, some of them perhaps of records that are not published.
    pub(super) fn mark_count(&self) -> usize {
        // SYNC: mark_count; pairs with the Release in `mark`.
        self.index.u64_at(MARK_COUNT_AT).load(Ordering::Acquire) as usize
    }

    /// The chunk's number.
    pub fn chunk_id(&self) -> u64 {
        self.header.chunk_id
    }

    /// Seq of the first record.
    pub fn base_seq(&self) -> u64 {
        self.base_seq.load(Ordering::Relaxed)
    }

    /// Position of its entry in the feed registry.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Bytes of records it can hold.
    pub fn capacity_bytes(&self) -> usize {
        self.header.capacity() * self.header.geometry.record_size
    }

    /// Bytes of whole records that may be stored now.
    pub fn limit_bytes(&self) -> usize {
        let allocated = self.data_allocated.load(Ordering::Acquire).min(self.capacity_bytes());
        allocated / self.header.geometry.record_size * self.header.geometry.record_size
    }

    /// Allocates until at least `bytes` of records fit, doubling from 1 MiB up to the chunk's size.
    /// Either thread may call it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) on a full disk; what was allocated before still counts.
    pub fn grow_to(&self, bytes: usize) -> Result<()> {
        let _one_at_a_time = self.growth.lock().unwrap_or_else(|e| e.into_inner());
        let old = self.data_allocated.load(Ordering::Relaxed);
        let mut size = old;
        while size < bytes.min(self.capacity_bytes()) {
            size = (size * 2).max(FIRST_PIECE).min(self.capacity_bytes());
        }
        if size == old {
            return Ok(());
        }
        let blocks = size.div_ceil(self.header.geometry.block_bytes());
        let index_end = HEADER_SIZE + blocks * BLOCK_ENTRY_SIZE;
        file::allocate(&self.index_file, &self.paths.index, 0, index_end as u64)?;
        file::allocate(&self.data_file, &self.paths.data, old as u64, (size - old) as u64)?;
        self.data_allocated.store(size, Ordering::Release);
        Ok(())
    }

    /// Stores records at byte `at`, below [`LiveChunk::limit_bytes`]. Writing thread only.
    ///
    /// A large run is written with one system call: the kernel then takes whole large pages at a
    /// time, where each first store through the mapping costs a fault. Either way it is the same
    /// page cache that readers see.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) from that call; the room is allocated, so not for a full
    /// disk.
    #[inline]
    pub fn store(&self, at: usize, records: &[u8]) -> Result<()> {
        if records.len() >= self.bulk_bytes {
            return file::write_at(&self.data_file, &self.paths.data, at as u64, records);
        }
        self.data.write(at, records);
        Ok(())
    }

    /// Widens a block's times by a run of records. Writing thread only.
    #[inline]
    pub fn widen(&self, block: usize, times: &RunTimes) {
        let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
        let not_min = self.index.u64_at(at + NOT_MIN);
        let max = self.index.u64_at(at + MAX);
        not_min.store(not_min.load(Ordering::Relaxed).max(!times.min), Ordering::Relaxed);
        faults::step("index.min");
        max.store(max.load(Ordering::Relaxed).max(times.max), Ordering::Relaxed);
        faults::step("index.max");
        let unordered = self.index.u32_at(at + UNORDERED);
        if times.unordered && unordered.load(Ordering::Relaxed) == 0 {
            unordered.store(1, Ordering::Relaxed);
        }
    }

    /// Makes the times of the block that record `count` falls in, and of those behind it, again
    /// from
    /// the records below: others that were stored there and not published have widened them.
    /// Writing thread, or whoever seals.
    pub fn narrow(&self, count: usize) {
        let Geometry { block_records, record_size, .. } = self.header.geometry;
        let (first, in_block) = (count / block_records, count % block_records);
        let allocated = self.data_allocated.load(Ordering::Relaxed);
        for block in first..allocated.div_ceil(block_records * record_size) {
            let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
            let (not_min, max) = (self.index.u64_at(at + NOT_MIN), self.index.u64_at(at + MAX));
            let records = if block == first { in_block } else { 0 };
            // A last block that was closed with just these records stands.
            let untouched = not_min.load(Ordering::Relaxed) | max.load(Ordering::Relaxed) == 0;
            if untouched || (records > 0 && self.is_closed(block, records)) {
                return;
            }
            let mut times = RunTimes { min: u64::MAX, max: 0, last: 0, unordered: false };
            for record in 0..records {
                times.add(self.time_of(block * block_records + record));
            }
            not_min.store(!times.min, Ordering::Relaxed);
            max.store(times.max, Ordering::Relaxed);
            self.index.u32_at(at + UNORDERED).store(u32::from(times.unordered), Ordering::Relaxed);
        }
    }

    /// Adds a mark. Writing thread only.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) on a full disk.
    pub fn mark(&self, seq: u64, time: u64) -> Result<()> {
        // SYNC: mark_count; pairs with the reader's load of the word.
        let count = self.index.u64_at(MARK_COUNT_AT).load(Ordering::Relaxed) as usize;
        let start = self.header.marks_offset();
        let allocated = self.marks_allocated.load(Ordering::Relaxed);
        if (count + 1) * MARK_SIZE > allocated {
            let more = allocated.max(MARKS_PIECE);
            let (path, from) = (&self.paths.index, (start + allocated) as u64);
            file::allocate(&self.index_file, path, from, more as u64)?;
            self.marks_allocated.store(allocated + more, Ordering::Relaxed);
        }
        let mut bytes = [0; MARK_SIZE];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8..].copy_from_slice(&time.to_le_bytes());
        self.index.write(start + count * MARK_SIZE, &bytes);
        self.index.u64_at(MARK_COUNT_AT).store(count as u64 + 1, Ordering::Release);
        faults::step("index.marks");
        Ok(())
    }

    /// Takes back the marks from `seq` on: their records were not published, and others will get
    /// those seqs. Writing thread only.
    pub fn forget_marks(&self, seq: u64) {
        let word = self.index.u64_at(MARK_COUNT_AT);
        let mut count = word.load(Ordering::Relaxed);
        while count > 0 {
            let mut bytes = [0; MARK_SIZE];
            self.index
                .read(self.header.marks_offset() + (count as usize - 1) * MARK_SIZE, &mut bytes);
            if get_u64(&bytes, 0) < seq {
                break;
            }
            count -= 1;
        }
        word.store(count, Ordering::Release);
    }

    /// Maps in the pages of `ahead` bytes from byte `at` on.
    pub fn populate(&self, at: usize, ahead: usize) {
        let end = (at + ahead).min(self.data_allocated.load(Ordering::Relaxed));
        if at < end {
            self.data.populate(at, end - at);
        }
    }

    /// Blocks closed so far.
    pub fn closed_blocks(&self) -> usize {
        self.closed_blocks.load(Ordering::Relaxed)
    }

    /// Closes every block that `published` covers whole, and with `last` the rest too. Background
    /// thread only.
    pub fn close_blocks(&self, published: u64, last: bool) {
        let geometry = &self.header.geometry;
        let count =
            (published.saturating_sub(self.base_seq()) as usize).min(self.header.capacity());
        let full = count / geometry.block_records;
        let end = if last { count.div_ceil(geometry.block_records) } else { full };
        if last {
            self.narrow(count);
        }
        for block in self.closed_blocks()..end {
            let first = block * geometry.block_records;
            let records = (count - first).min(geometry.block_records);
            if self.is_closed(block, records) {
                // By a writer that died: its checksum stands, made when the records were fresh.
                continue;
            }
            let (at, len) = (first * geometry.record_size, records * geometry.record_size);
            self.close_block(block, records, self.data.crc(at, len));
        }
        self.closed_blocks.store(end.max(self.closed_blocks()), Ordering::Relaxed);
    }

    /// Whether the records below `end`, where their block was not closed by its writer, have times
    /// within those of the block. For whoever seals what another has left, whose files have room
    /// for those records.
    ///
    /// # Errors
    /// [`Error::Damaged`] for records that their writer cannot have published.
    pub fn check_times(&self, end: u64) -> Result<()> {
        let geometry = &self.header.geometry;
        let count = (end.saturating_sub(self.base_seq()) as usize).min(self.header.capacity());
        for block in 0..count.div_ceil(geometry.block_records) {
            let first = block * geometry.block_records;
            let records = (count - first).min(geometry.block_records);
            if self.is_closed(block, records) {
                continue;
            }
            let mut entry = [0; BLOCK_ENTRY_SIZE];
            self.index.read(HEADER_SIZE + block * BLOCK_ENTRY_SIZE, &mut entry);
            let (min, max) = (!get_u64(&entry, NOT_MIN), get_u64(&entry, MAX));
            let mut times = (first..first + records).map(|record| self.time_of(record));
            if !times.all(|time| (min..=max).contains(&time)) {
                let what = format!("block {block}: times that the index does not have");
                let at = first * geometry.record_size;
                return Err(Error::damaged(&self.paths.data, at as u64, what));
            }
        }
        self.check()
    }

    /// Whether a block was closed with that many records. A last block that was closed with more,
    /// which then did not reach the disk, has no sums for those that did.
    fn is_closed(&self, block: usize, records: usize) -> bool {
        let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
        if self.index.u32_at(at + CLOSED).load(Ordering::Relaxed) != 1 {
            return false;
        }
        let mut entry = [0; BLOCK_ENTRY_SIZE];
        self.index.read(at, &mut entry);
        records == self.header.geometry.block_records
            || entry_crc(&entry, block, records) == get_u32(&entry, ENTRY_CRC)
    }

    fn close_block(&self, block: usize, records: usize, data_crc: u32) {
        let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
        self.index.u32_at(at + DATA_CRC).store(data_crc, Ordering::Relaxed);
        let mut entry = [0; BLOCK_ENTRY_SIZE];
        self.index.read(at, &mut entry);
        let sum = entry_crc(&entry, block, records);
        self.index.u32_at(at + ENTRY_CRC).store(sum, Ordering::Relaxed);
        faults::step("index.sums");
        // SYNC: closed; pairs with the reader, which believes the sums only where it is set.
        self.index.u32_at(at + CLOSED).store(1, Ordering::Release);
        faults::step("index.closed");
    }

    /// CRC of the open block's records below `published`. Background thread only.
    pub fn open_block_crc(&self, published: u64) -> u32 {
        let geometry = &self.header.geometry;
        let from = self.closed_blocks() * geometry.block_bytes();
        let count =
            (published.saturating_sub(self.base_seq()) as usize).min(self.header.capacity());
        let end = count * geometry.record_size;
        self.data.crc(from, end.saturating_sub(from))
    }

    /// Starts to write bytes `from..to` back.
    pub fn start_writeback(&self, from: usize, to: usize) {
        file::start_writeback(&self.data_file, from as u64, (to - from) as u64);
    }

    /// Makes records and index durable, in that order.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); the writer must stop then.
    pub fn sync(&self) -> Result<()> {
        file::sync(&self.data_file, &self.paths.data)?;
        file::sync(&self.index_file, &self.paths.index)?;
        self.check()
    }

    /// Whether all that was stored is in the files.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if one was cut short under the writer.
    pub fn check(&self) -> Result<()> {
        self.data.check()?;
        self.index.check()
    }

    /// Ends the chunk with the records below `published`: closes its last block, cuts the files
    /// off, writes the index's seal and makes both durable. Background thread, or recovery.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); the writer must stop then.
    pub fn seal(&self, published: u64, reason: u32) -> Result<Seal> {
        let geometry = &self.header.geometry;
        let count = published.saturating_sub(self.base_seq()).min(self.header.capacity() as u64);
        self.close_blocks(published, true);
        let blocks = (count as usize).div_ceil(geometry.block_records);
        let (mut min_time, mut max_time) = (u64::MAX, 0);
        for block in 0..blocks {
            let at = HEADER_SIZE + block * BLOCK_ENTRY_SIZE;
            min_time = min_time.min(!self.index.u64_at(at + NOT_MIN).load(Ordering::Relaxed));
            max_time = max_time.max(self.index.u64_at(at + MAX).load(Ordering::Relaxed));
        }
        let (marks, marks_crc) = self.cut_marks(published);
        let sealed_us = process::wall_us();
        let times = (min_time, max_time);
        let seal = encode_seal(count, times, (marks, marks_crc), sealed_us, blocks);
        self.index.write(SEAL_AT, &seal);
        file::truncate(&self.data_file, &self.paths.data, count * geometry.record_size as u64)?;
        let index_end = match marks {
            0 => HEADER_SIZE + blocks * BLOCK_ENTRY_SIZE,
            marks => self.header.marks_offset() + marks as usize * MARK_SIZE,
        };
        file::truncate(&self.index_file, &self.paths.index, index_end as u64)?;
        self.sync()?;
        Ok(Seal { count, min_time, max_time, sealed_us, marks, reason })
    }

    /// Time of a record, counted from the chunk's first.
    fn time_of(&self, record: usize) -> u64 {
        let Geometry { record_size, time_offset, .. } = self.header.geometry;
        let mut time = [0; 8];
        self.data.read(record * record_size + time_offset, &mut time);
        u64::from_le_bytes(time)
    }

    /// Drops marks of records that were never published; returns how many stay, and their checksum.
    fn cut_marks(&self, published: u64) -> (u64, u32) {
        let start = self.header.marks_offset();
        let allocated = self.marks_allocated.load(Ordering::Relaxed);
        let stored = self.index.u64_at(MARK_COUNT_AT).load(Ordering::Relaxed) as usize;
        let end = published.min(self.base_seq() + self.header.capacity() as u64);
        let (mut marks, mut sum, mut next) = (0, 0, self.base_seq());
        for i in 0..stored.min(allocated / MARK_SIZE) {
            let mut bytes = [0; MARK_SIZE];
            self.index.read(start + i * MARK_SIZE, &mut bytes);
            let seq = get_u64(&bytes, 0);
            // Of a machine that stopped, the last ones may not have been stored to their end.
            if seq < next
                || seq >= end
                || self.time_of((seq - self.base_seq()) as usize) != get_u64(&bytes, 8)
            {
                break;
            }
            next = seq + 1;
            sum = crc_append(sum, &bytes);
            marks += 1;
        }
        self.index.u64_at(MARK_COUNT_AT).store(marks, Ordering::Release);
        (marks, sum)
    }

    /// Removes the files of a chunk that never held a record.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn discard(&self) -> Result<()> {
        self.paths.remove()
    }
}
