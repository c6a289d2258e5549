//! Scans the records of a selection, run by run, straight from the chunks.
//!
//! Blocks are read with `pread` into a buffer of a few blocks, not through a mapping. If a file is
//! truncated or fails meanwhile, the result is an error for a named block and not a SIGBUS, and the
//! bytes that were checked are the bytes that are used. The checksum of a closed block is verified
//! before any of its records is returned.

use std::sync::Arc;

use crate::chunk::index::BlockEntry;
use crate::error::{Error, Result};
use crate::reader::ends::Hole;
use crate::reader::files::{ChunkFiles, Missing};
use crate::reader::rings::RingScan;
use crate::reader::{Lost, Selection, Snapshot, SnapshotChunk, Why};
use crate::record::Record;
use crate::registry::feed::FeedRegistry;
use crate::registry::info::FeedInfo;

/// Maximum size of adjacent blocks that are read together. The buffer then stays in the L2 cache.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By ascending seq.
    Forward,
    /// By descending seq.
    Reverse,
}

/// Consecutive records, lent until the next call. A reverse scan returns its runs from last to
/// first, but the records in a run are in ascending order.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Seq of the first record.
    pub first_seq: u64,
    /// The records, back to back.
    pub records: &'a [u8],
}

/// Blocks that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The feed.
    pub feed: String,
    /// The chunk id.
    pub chunk_id: u64,
    /// The first damaged block.
    pub block: usize,
    /// The seqs left out, half-open.
    pub seqs: (u64, u64),
    /// Minimum and maximum time of these records, if the index has them.
    pub times: Option<(u64, u64)>,
    /// What is wrong, with file and offset.
    pub what: String,
}

/// A scan of a selection's records. See [`Scan::next_run`].
pub struct Scan {
    feed: FeedInfo,
    registry: Arc<FeedRegistry>,
    selection: Selection,
    direction: Direction,
    /// Chunks still to be scanned; the next one is last.
    chunks: Vec<SnapshotChunk>,
    /// Seqs recorded as lost; the next ones are last.
    holes: Vec<Hole>,
    current: Option<OpenChunk>,
    /// A ring, if the records are in one.
    ring: Option<RingScan>,
    /// The files of the chunk scanned last, kept because a follower comes back to it.
    kept: Option<ChunkFiles>,
    buffer: Vec<u8>,
    /// The records in the buffer.
    load: Load,
    damage: Vec<Damage>,
    /// Seqs recorded as lost, or removed since the snapshot, with the reason.
    lost: Vec<((u64, u64), Why)>,
    /// The lowest seq returned so far.
    lowest_given: u64,
}

/// A chunk that is being scanned.
struct OpenChunk {
    chunk: SnapshotChunk,
    files: ChunkFiles,
    /// Blocks that can contain selected records, with their numbers; the next one is last.
    blocks: Vec<(usize, BlockEntry)>,
}

/// Records in the buffer, and which of them are still to be searched.
#[derive(Clone, Copy, Default)]
struct Load {
    first_seq: u64,
    /// Positions in the buffer, counted in records, half-open.
    at: (usize, usize),
    /// Whether every record of the load is selected.
    whole: bool,
}

impl Scan {
    pub(super) fn new(
        feed: FeedInfo,
        registry: Arc<FeedRegistry>,
        snapshot: &Snapshot,
        selection: Selection,
        direction: Direction,
    ) -> Scan {
        let chunks = snapshot.chunks.iter().filter(|chunk| selection.may_have(chunk));
        let mut chunks: Vec<SnapshotChunk> = chunks.copied().collect();
        if direction == Direction::Forward {
            chunks.reverse();
        }
        Scan {
            feed,
            registry,
            selection,
            direction,
            chunks,
            holes: Vec::new(),
            current: None,
            ring: RingScan::of(snapshot, &selection),
            kept: None,
            buffer: Vec::new(),
            load: Load::default(),
            damage: Vec::new(),
            lost: Vec::new(),
            lowest_given: u64::MAX,
        }
    }

    /// Sets the holes to report when the scan passes them. They are in ascending order.
    pub(super) fn with(mut self, holes: Vec<Hole>) -> Scan {
        self.holes = holes;
        if self.direction == Direction::Forward {
            self.holes.reverse();
        }
        self
    }

    /// Continues a finished scan with the records of `chunk` from `seq` on. The files of the last
    /// chunk are still open.
    pub(super) fn go_on(&mut self, chunk: SnapshotChunk, seq: u64) {
        self.selection.seqs = (seq, chunk.end_seq);
        self.chunks.push(chunk);
    }

    /// Returns the next run of selected records, or `None` at the end. Records that could not be
    /// read are left out; [`Scan::take_damage`] returns them.
    ///
    /// # Errors
    /// Errors that are not the damage of a single block, such as [`Error::Io`].
    pub fn next_run(&mut self) -> Result<Option<Run<'_>>> {
        let found = self.find_run()?;
        Ok(found.map(|at| self.lend(at)))
    }

    /// Returns the next run of selected records, as positions in the buffer.
    ///
    /// # Errors
    /// As [`Scan::next_run`].
    pub(super) fn find_run(&mut self) -> Result<Option<(usize, usize)>> {
        loop {
            let found = self.next_in_load();
            if let Some((from, _)) = found {
                self.lowest_given = self.lowest_given.min(self.load.first_seq + from as u64);
            }
            if found.is_some() || !self.fill()? {
                return Ok(found);
            }
        }
    }

    /// Returns the run at these positions.
    pub(super) fn lend(&self, (from, to): (usize, usize)) -> Run<'_> {
        let size = self.feed.layout.record_size();
        Run {
            first_seq: self.load.first_seq + from as u64,
            records: &self.buffer[from * size..to * size],
        }
    }

    /// Calls `each` with every record of the selection, in the scan's direction, until it returns
    /// false.
    ///
    /// # Errors
    /// As [`Scan::next_run`]. Call [`Scan::take_damage`] afterwards.
    pub fn for_each(&mut self, mut each: impl FnMut(Record<'_>) -> bool) -> Result<()> {
        let layout = Arc::clone(&self.feed.layout);
        let (size, direction) = (layout.record_size(), self.direction);
        while let Some(run) = self.next_run()? {
            let n = run.records.len() / size;
            for i in 0..n {
                let i = if direction == Direction::Forward { i } else { n - 1 - i };
                let bytes = &run.records[i * size..(i + 1) * size];
                if !each(Record::new(run.first_seq + i as u64, &layout, bytes)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns what could not be read since the last call, in the order of the scan.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Returns what is recorded as lost or was removed since the snapshot, as far as the scan has
    /// passed it since the last call, in the order of the scan. Whether it leaves a gap is known
    /// only at the end of the scan.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        let taken = std::mem::take(&mut self.lost).into_iter();
        let (feed, lowest) = (&self.feed.name, self.lowest_given);
        // A lapped reader continues well after the oldest record that is left.
        let lapped = |why| why == Why::Overwritten && self.direction == Direction::Forward;
        taken
            .map(|(seqs, why)| {
                let gap = lowest < seqs.0 || lapped(why);
                Lost { feed: feed.clone(), seqs, why, gap }
            })
            .collect()
    }

    /// Takes the next run of selected records from the load.
    fn next_in_load(&mut self) -> Option<(usize, usize)> {
        let (from, to) = self.load.at;
        if from == to {
            return None;
        }
        if self.load.whole {
            self.load.at = (to, to);
            return Some((from, to));
        }
        let size = self.feed.layout.record_size();
        let selected = |i: usize| {
            let record = &self.buffer[i * size..(i + 1) * size];
            self.selection.has_time(self.feed.layout.time_of(record))
        };
        let run = match self.direction {
            Direction::Forward => {
                let start = (from..to).find(|&i| selected(i)).unwrap_or(to);
                let end = (start..to).find(|&i| !selected(i)).unwrap_or(to);
                self.load.at = (end, to);
                (start, end)
            }
            Direction::Reverse => {
                let end = (from..to).rev().find(|&i| selected(i)).map_or(from, |i| i + 1);
                let start = (from..end).rev().find(|&i| !selected(i)).map_or(from, |i| i + 1);
                self.load.at = (from, start);
                (start, end)
            }
        };
        (run.0 < run.1).then_some(run)
    }

    /// Loads the next blocks. Returns false at the end.
    fn fill(&mut self) -> Result<bool> {
        if let Some(ring) = &mut self.ring {
            let (buffer, lost) = (&mut self.buffer, &mut self.lost);
            let filled = ring.fill(self.direction, buffer, lost, &self.feed)?;
            if let Some((first_seq, at)) = filled {
                self.load = Load { first_seq, at, whole: self.selection.every_time() };
            }
            return Ok(filled.is_some());
        }
        loop {
            if let Some(mut open) = self.current.take() {
                let more = self.fill_from(&mut open);
                if more {
                    self.current = Some(open);
                    return Ok(true);
                }
                self.kept = Some(open.files);
            }
            self.pass_holes();
            let Some(chunk) = self.chunks.pop() else { return Ok(false) };
            let seqs = (chunk.entry.base_seq, chunk.end_seq);
            match self.open(chunk) {
                Ok(open) => self.current = Some(open),
                // Such an error says nothing about the chunk.
                Err(Missing::Damaged(error)) if error.is_limit() => return Err(error),
                Err(Missing::Damaged(error)) => self.lose(&chunk, 0, seqs, None, error),
                Err(Missing::Gone(why)) => self.lost.push((self.clip(seqs), why)),
            }
        }
    }

    /// Reports the holes before the next chunk.
    fn pass_holes(&mut self) {
        let next = self.chunks.last().map(|chunk| chunk.entry.base_seq);
        while let Some(hole) = self.holes.last().copied() {
            let is_next = next.is_none_or(|seq| match self.direction {
                Direction::Forward => hole.seqs.0 < seq,
                Direction::Reverse => hole.seqs.0 > seq,
            });
            if !is_next {
                break;
            }
            self.holes.pop();
            self.lost.push((hole.seqs, hole.why));
        }
    }

    /// Limits a range of seqs to those that are selected.
    fn clip(&self, seqs: (u64, u64)) -> (u64, u64) {
        (seqs.0.max(self.selection.seqs.0), seqs.1.min(self.selection.seqs.1))
    }

    fn lose(
        &mut self,
        chunk: &SnapshotChunk,
        block: usize,
        seqs: (u64, u64),
        times: Option<(u64, u64)>,
        what: Error,
    ) {
        self.damage.push(Damage {
            feed: self.feed.name.clone(),
            chunk_id: chunk.entry.chunk_id,
            block,
            seqs: self.clip(seqs),
            times,
            what: what.to_string(),
        });
    }

    /// Opens a chunk and selects its blocks.
    fn open(&mut self, chunk: SnapshotChunk) -> std::result::Result<OpenChunk, Missing> {
        let kept = self.kept.take().filter(|files| files.chunk_id == chunk.entry.chunk_id);
        let files = match kept {
            Some(files) => files,
            None => ChunkFiles::find(&self.feed, &self.registry, &chunk, "reader.open")?,
        };
        let base_seq = chunk.entry.base_seq;
        let per_block = self.feed.geometry().block_records as u64;
        let lo = self.selection.seqs.0.max(base_seq) - base_seq;
        let hi = self.selection.seqs.1.min(chunk.end_seq) - base_seq;
        let first = (lo / per_block) as usize;
        let n = (hi.div_ceil(per_block)) as usize - first;
        let entries = files.index.blocks(first, n, chunk.extent()).map_err(Missing::Damaged)?;
        let everything = self.selection.every_time();
        let (since, until) = self.selection.times;
        let mut blocks: Vec<(usize, BlockEntry)> = entries
            .into_iter()
            .enumerate()
            .map(|(i, entry)| (first + i, entry))
            // If the index entry of a block is damaged, its times are not trusted: the block is
            // read, and reported as damaged.
            .filter(|(_, b)| everything || !b.intact || b.is_unset() || b.overlaps(since, until))
            .collect();
        if self.direction == Direction::Forward {
            blocks.reverse();
        }
        Ok(OpenChunk { chunk, files, blocks })
    }

    /// Reads the chunk's next blocks into the buffer. Returns false if there are none left.
    fn fill_from(&mut self, open: &mut OpenChunk) -> bool {
        let geometry = self.feed.geometry();
        let together = (BUFFER_BYTES / geometry.block_bytes()).max(1);
        while let Some(&(next, entry)) = open.blocks.last() {
            let whole = self.all_selected(&entry);
            let mut taken = 1;
            // Adjacent blocks that are selected whole are loaded together.
            while taken < together && whole {
                let Some(at) = open.blocks.len().checked_sub(taken + 1) else { break };
                let (block, entry) = open.blocks[at];
                let adjacent = match self.direction {
                    Direction::Forward => block == next + taken,
                    Direction::Reverse => block + taken == next,
                };
                if !adjacent || !self.all_selected(&entry) {
                    break;
                }
                taken += 1;
            }
            let mut batch = open.blocks.split_off(open.blocks.len() - taken);
            batch.sort_unstable_by_key(|(block, _)| *block);
            match self.read_blocks(open, &batch) {
                Ok(()) => {
                    self.choose(open, &batch, whole);
                    return true;
                }
                // One of several blocks is bad. Read them one by one to find it.
                Err(_) if batch.len() > 1 => {
                    if self.direction == Direction::Forward {
                        batch.reverse();
                    }
                    self.sort_out(open, batch);
                }
                Err(error) => self.lose_block(open, &batch[0], error),
            }
        }
        false
    }

    fn lose_block(&mut self, open: &OpenChunk, (block, entry): &(usize, BlockEntry), error: Error) {
        let seqs = self.block_seqs(open, *block);
        let times = entry.intact.then_some((entry.min, entry.max));
        let chunk = open.chunk;
        self.lose(&chunk, *block, seqs, times, error);
    }

    /// After a load of several blocks has failed: puts the good ones back, and reports the bad
    /// ones.
    fn sort_out(&mut self, open: &mut OpenChunk, batch: Vec<(usize, BlockEntry)>) {
        for item in batch {
            match self.read_blocks(open, &[item]) {
                Ok(()) => open.blocks.push(item),
                Err(error) => self.lose_block(open, &item, error),
            }
        }
    }

    fn block_seqs(&self, open: &OpenChunk, block: usize) -> (u64, u64) {
        let per_block = self.feed.geometry().block_records as u64;
        let first = open.chunk.entry.base_seq + block as u64 * per_block;
        (first, (first + per_block).min(open.chunk.end_seq))
    }

    fn all_selected(&self, entry: &BlockEntry) -> bool {
        self.selection.every_time()
            || (entry.intact
                && entry.data_crc.is_some()
                && self.selection.has_time(entry.min)
                && self.selection.has_time(entry.max))
    }

    /// Reads and verifies adjacent blocks.
    fn read_blocks(&mut self, open: &OpenChunk, batch: &[(usize, BlockEntry)]) -> Result<()> {
        let geometry = self.feed.geometry();
        let block_bytes = geometry.block_bytes();
        let (first, last) = (batch[0].0, batch[batch.len() - 1].0);
        let (mut lo, hi) = (self.block_seqs(open, first).0, self.block_seqs(open, last).1);
        if batch[0].1.data_crc.is_none() {
            // A block without a checksum need not be read whole. A follower reads the same block
            // again for each record, so skip the records before the selection.
            lo = lo.max(self.selection.seqs.0);
        }
        let bytes = (hi - lo) as usize * geometry.record_size;
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes.max(block_bytes), 0);
        }
        let at = (lo - open.chunk.entry.base_seq) * geometry.record_size as u64;
        open.files.read(at, &mut self.buffer[..bytes])?;
        for (block, entry) in batch {
            let seqs = self.block_seqs(open, *block);
            let (start, end) = ((seqs.0.max(lo) - lo) as usize, (seqs.1 - lo) as usize);
            let records = &self.buffer[start * geometry.record_size..end * geometry.record_size];
            open.files.verify(&open.chunk, *block, entry, records)?;
        }
        self.load = Load { first_seq: lo, at: (0, (hi - lo) as usize), whole: false };
        Ok(())
    }

    /// Narrows a load to the selection: always by seq, and by time if a binary search can find it.
    fn choose(&mut self, open: &OpenChunk, batch: &[(usize, BlockEntry)], whole: bool) {
        let size = self.feed.layout.record_size();
        let (mut from, mut to) = self.load.at;
        let seqs = self.selection.seqs;
        from = from.max(seqs.0.saturating_sub(self.load.first_seq) as usize).min(to);
        to = to.min(seqs.1.min(open.chunk.end_seq).saturating_sub(self.load.first_seq) as usize);
        self.load.whole = whole;
        if !whole && batch.len() == 1 && batch[0].1.ordered && batch[0].1.intact {
            let time = |i: usize| self.feed.layout.time_of(&self.buffer[i * size..(i + 1) * size]);
            let (since, until) = self.selection.times;
            let start = halve(from, to, |i| time(i) < since);
            let end = halve(start, to, |i| time(i) < until || until == u64::MAX);
            (from, to) = (start, end);
            self.load.whole = true;
        }
        self.load.at = (from, to.max(from));
    }
}

/// Returns the first position in `from..to` for which `below` is false. `below` changes from true
/// to false at most once.
fn halve(from: usize, to: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (from, to.max(from));
    while lo < hi {
        let mid = lo + (hi - lo) / 2;
        if below(mid) { lo = mid + 1 } else { hi = mid }
    }
    lo
}
