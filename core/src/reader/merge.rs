//! Merges the records of several feeds by time. The order is exact even if the records of a feed
//! are late.
//!
//! The minimum time of each chunk is in the table, that of each block in the index. Chunks and
//! blocks wait in a heap, ordered by these times, and are opened only when the merge reaches them.
//! So memory contains the blocks whose times overlap the current time: one for a feed in order, and
//! any block with an outlying row until that row is reached. If that becomes too much, every block
//! keeps only its next rows, and is read again when they are used up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::chunk::index::BlockEntry;
use crate::error::{Error, Result};
use crate::reader::ends::Hole;
use crate::reader::files::{ChunkFiles, Missing};
use crate::reader::frozen::{Frozen, FrozenBlock};
use crate::reader::{
    Damage, Direction, Lost, Reader, Run, Selection, Snapshot, SnapshotChunk, Why,
};
use crate::registry::feed::{FeedRegistry, Geometry};
use crate::registry::info::FeedInfo;

/// Maximum bytes of rows in memory.
const BUDGET_BYTES: usize = 64 << 20;
/// Maximum number of chunks whose files are open.
const OPEN_CHUNKS: usize = 32;
/// Used in place of a chunk's position if the block comes from a ring.
const NO_CHUNK: usize = usize::MAX;

/// The position of a record in the order of all feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Time in nanoseconds.
    pub time_ns: u128,
    /// Position of the feed. It breaks ties between equal times: the first feed comes first.
    pub feed: usize,
    /// The seq.
    pub seq: u64,
}

impl Rank {
    /// Inverts the rank in a reverse merge, so that the lowest rank always comes first.
    fn turned(self, direction: Direction) -> Rank {
        match direction {
            Direction::Forward => self,
            Direction::Reverse => Rank { time_ns: !self.time_ns, feed: !self.feed, seq: !self.seq },
        }
    }
}

/// The state of one feed.
struct Part {
    info: FeedInfo,
    geometry: Geometry,
    registry: Arc<FeedRegistry>,
    selection: Selection,
    end_seq: u64,
    /// The lowest seq returned so far.
    lowest_given: u64,
    /// Nanoseconds per tick.
    scale: u128,
    /// The copy of a ring.
    frozen: Option<Frozen>,
}

/// Something that is not yet open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    /// A chunk, by its position in `Merge::chunks`.
    Chunk(usize),
    /// A block, by its position in `Merge::blocks`.
    Block(usize),
    /// A range recorded as lost, by its position in `Merge::holes`.
    Hole(usize),
}

/// A block that can contain selected rows.
struct Block {
    feed: usize,
    chunk: usize,
    number: usize,
    entry: BlockEntry,
    /// Half-open.
    seqs: (u64, u64),
    /// The rank of the row returned last, if the block is to be read again.
    given: Option<Rank>,
    /// The next rows, in the order of the merge, if they are in memory.
    rows: Vec<u8>,
    /// Their seqs, relative to the block's first.
    order: Vec<u32>,
    /// Index of the next row.
    at: usize,
    /// Whether the block has more rows than those in memory.
    more: bool,
}

impl Block {
    fn held_bytes(&self) -> usize {
        self.rows.len() + self.order.len() * size_of::<u32>()
    }
}

/// Merges the records of several feeds by time. Equal times are ordered by feed, then by seq.
pub struct Merge {
    parts: Vec<Part>,
    direction: Direction,
    /// Each chunk with its feed.
    chunks: Vec<(usize, SnapshotChunk)>,
    /// Each hole with its feed.
    holes: Vec<(usize, Hole)>,
    /// Open files, with the position of their chunk. Those used most recently are at the end.
    files: Vec<(usize, ChunkFiles)>,
    blocks: Vec<Block>,
    /// Positions in `blocks` that are free.
    free: Vec<usize>,
    /// What is not in memory, by the lowest rank that it can contain.
    waiting: BinaryHeap<Reverse<(Rank, Waiting)>>,
    /// The blocks in memory, by the rank of their next row.
    loaded: BinaryHeap<Reverse<(Rank, usize)>>,
    /// The block that lent the last run, and the row where it continues.
    lent: Option<(usize, usize)>,
    from: Option<Rank>,
    held_bytes: usize,
    budget_bytes: usize,
    damage: Vec<Damage>,
    /// What is recorded as lost, or was removed since the snapshots: feed, seqs, and the reason.
    lost: Vec<(usize, (u64, u64), Why)>,
}

impl Merge {
    /// Merges the selections of several snapshots, by ascending or descending time.
    ///
    /// # Errors
    /// As [`crate::reader::Scan::next_run`], for a ring.
    pub fn new(feeds: &[(&Reader, &Snapshot, Selection)], direction: Direction) -> Result<Merge> {
        let mut merge = Merge {
            parts: Vec::new(),
            direction,
            chunks: Vec::new(),
            holes: Vec::new(),
            files: Vec::new(),
            blocks: Vec::new(),
            free: Vec::new(),
            waiting: BinaryHeap::new(),
            loaded: BinaryHeap::new(),
            lent: None,
            from: None,
            held_bytes: 0,
            budget_bytes: BUDGET_BYTES,
            damage: Vec::new(),
            lost: Vec::new(),
        };
        for (feed, (reader, snapshot, selection)) in feeds.iter().enumerate() {
            merge.parts.push(Part {
                info: reader.feed.clone(),
                geometry: reader.feed.geometry(),
                registry: Arc::clone(&reader.registry),
                selection: *selection,
                end_seq: snapshot.end_seq.min(selection.seqs.1),
                lowest_given: u64::MAX,
                scale: u128::from(reader.layout().unit().nanos()),
                frozen: None,
            });
            if snapshot.ring.is_some() {
                merge.freeze(feed, reader, snapshot)?;
            }
            for chunk in snapshot.chunks.iter().filter(|chunk| selection.may_have(chunk)) {
                // A chunk whose index cannot be read is opened first, and then reported.
                let times = reader.chunk_times(chunk).unwrap_or((0, u64::MAX));
                let first = merge.first_rank(feed, times, (chunk.entry.base_seq, chunk.end_seq));
                merge.waiting.push(Reverse((first, Waiting::Chunk(merge.chunks.len()))));
                merge.chunks.push((feed, *chunk));
            }
            for hole in reader.holes(snapshot, selection) {
                let first = merge.first_rank(feed, hole.times, hole.seqs);
                merge.waiting.push(Reverse((first, Waiting::Hole(merge.holes.len()))));
                merge.holes.push((feed, hole));
            }
        }
        Ok(merge)
    }

    /// Copies the selected records of a ring. If the merge read them by time, they could be
    /// overwritten before it reaches them.
    fn freeze(&mut self, feed: usize, reader: &Reader, snapshot: &Snapshot) -> Result<()> {
        let part = &self.parts[feed];
        let (frozen, lost) = Frozen::of(reader, snapshot, part.selection.seqs)?;
        self.lost.extend(lost.into_iter().map(|(seqs, why)| (feed, seqs, why)));
        for FrozenBlock { entry, seqs } in frozen.blocks(&reader.feed) {
            self.wait_for(feed, NO_CHUNK, 0, entry, seqs);
        }
        self.parts[feed].frozen = Some(frozen);
        Ok(())
    }

    /// Starts at this rank instead of at the beginning.
    pub fn start_at(&mut self, rank: Rank) {
        self.from = Some(rank.turned(self.direction));
    }

    /// Returns the next run of records and the position of their feed, or `None` at the end. In a
    /// reverse merge, a run is one record.
    pub fn next_run(&mut self) -> Option<(usize, Run<'_>)> {
        self.settle();
        while let Some(Reverse((rank, waiting))) = self.waiting.peek().copied() {
            if self.loaded.peek().is_some_and(|Reverse((next, _))| *next < rank) {
                break;
            }
            self.waiting.pop();
            match waiting {
                Waiting::Chunk(chunk) => self.open(chunk),
                Waiting::Block(block) => self.load(block),
                Waiting::Hole(hole) => self.pass(hole),
            }
        }
        let Reverse((_, block)) = self.loaded.pop()?;
        let loaded = self.loaded.peek().map(|Reverse((rank, _))| *rank);
        let waiting = self.waiting.peek().map(|Reverse((rank, _))| *rank);
        let bound = loaded.into_iter().chain(waiting).min();
        let to = self.end_of_run(block, bound);
        self.lent = Some((block, to));
        let Block { feed, seqs, rows, order, at, .. } = &self.blocks[block];
        let first_seq = seqs.0 + u64::from(order[*at]);
        let part = &mut self.parts[*feed];
        part.lowest_given = part.lowest_given.min(first_seq);
        let size = part.geometry.record_size;
        Some((*feed, Run { first_seq, records: &rows[at * size..to * size] }))
    }

    /// Returns what could not be read since the last call.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Returns what is recorded as lost or was removed since the snapshots, as far as the merge has
    /// found it since the last call. Whether it leaves a gap is known only at the end of the merge.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        let lost = std::mem::take(&mut self.lost).into_iter();
        let told = |(feed, seqs, why): (usize, (u64, u64), Why)| {
            let Part { info, lowest_given, .. } = &self.parts[feed];
            Lost { feed: info.name.clone(), seqs, why, gap: *lowest_given < seqs.0 }
        };
        lost.map(told).collect()
    }

    /// Returns the seq below which every selected record of a feed was returned. Records come by
    /// time, so some above it may have been returned too.
    pub fn position(&self, feed: usize) -> u64 {
        let waiting = self.waiting.iter().filter_map(|Reverse((_, waiting))| match *waiting {
            Waiting::Chunk(chunk) => {
                let (of, chunk) = &self.chunks[chunk];
                (*of == feed).then_some(chunk.entry.base_seq)
            }
            Waiting::Block(block) => {
                let block = &self.blocks[block];
                (block.feed == feed).then_some(block.seqs.0)
            }
            Waiting::Hole(hole) => {
                let (of, hole) = &self.holes[hole];
                (*of == feed).then_some(hole.seqs.0)
            }
        });
        let loaded = self.loaded.iter().map(|Reverse((_, block))| (*block, None));
        let lent = self.lent.iter().map(|(block, to)| (*block, Some(*to)));
        let loaded = loaded.chain(lent).filter_map(|(block, to)| {
            let block = &self.blocks[block];
            if block.feed != feed {
                return None;
            }
            let left = &block.order[to.unwrap_or(block.at)..];
            let least = left.iter().min().map(|i| block.seqs.0 + u64::from(*i));
            if block.more { Some(block.seqs.0) } else { least }
        });
        let part = &self.parts[feed];
        let least = waiting.chain(loaded).min().unwrap_or(part.end_seq);
        least.max(part.selection.seqs.0).min(part.end_seq)
    }

    /// Returns the lowest rank that a record with such times and seqs can have.
    fn first_rank(&self, feed: usize, times: (u64, u64), seqs: (u64, u64)) -> Rank {
        match self.direction {
            Direction::Forward => self.rank(feed, times.0, seqs.0),
            Direction::Reverse => self.rank(feed, times.1, seqs.1 - 1),
        }
    }

    fn rank(&self, feed: usize, time: u64, seq: u64) -> Rank {
        let time_ns = u128::from(time) * self.parts[feed].scale;
        Rank { time_ns, feed, seq }.turned(self.direction)
    }

    /// Returns the rank of a row in memory.
    fn rank_of(&self, block: usize, row: usize) -> Rank {
        let Block { feed, seqs, rows, order, .. } = &self.blocks[block];
        let Part { info, geometry, .. } = &self.parts[*feed];
        let time = info.layout.time_of(&rows[row * geometry.record_size..]);
        self.rank(*feed, time, seqs.0 + u64::from(order[row]))
    }

    /// Moves the block that lent the last run to its next row.
    fn settle(&mut self) {
        let Some((block, to)) = self.lent.take() else { return };
        if to < self.blocks[block].order.len() {
            self.blocks[block].at = to;
            let rank = self.rank_of(block, to);
            return self.loaded.push(Reverse((rank, block)));
        }
        let last = self.rank_of(block, to - 1);
        self.unload(block);
        if self.blocks[block].more {
            self.blocks[block].given = Some(last);
            self.waiting.push(Reverse((last, Waiting::Block(block))));
        } else {
            self.free.push(block);
        }
    }

    fn unload(&mut self, block: usize) {
        self.held_bytes -= self.blocks[block].held_bytes();
        let block = &mut self.blocks[block];
        (block.rows, block.order, block.at) = (Vec::new(), Vec::new(), 0);
    }

    /// Returns the end of the run of consecutive rows that come before `bound`.
    fn end_of_run(&self, block: usize, bound: Option<Rank>) -> usize {
        let Block { order, at, .. } = &self.blocks[block];
        let mut to = at + 1;
        while self.direction == Direction::Forward
            && to < order.len()
            && order[to] == order[to - 1] + 1
            && bound.is_none_or(|bound| self.rank_of(block, to) < bound)
        {
            to += 1;
        }
        to
    }

    /// Returns the position of a chunk's open files. Opens them if necessary.
    fn files(&mut self, chunk: usize) -> std::result::Result<usize, Missing> {
        if let Some(at) = self.files.iter().position(|(of, _)| *of == chunk) {
            let used = self.files.remove(at);
            self.files.push(used);
        } else {
            let (feed, snapshot) = &self.chunks[chunk];
            let part = &self.parts[*feed];
            let files = ChunkFiles::find(&part.info, &part.registry, snapshot, "reader.open")?;
            if self.files.len() == OPEN_CHUNKS {
                self.files.remove(0);
            }
            self.files.push((chunk, files));
        }
        Ok(self.files.len() - 1)
    }

    /// Lists the blocks of a chunk that the merge has reached.
    fn open(&mut self, chunk: usize) {
        let entries = self.files(chunk).and_then(|at| {
            let (feed, snapshot) = &self.chunks[chunk];
            let per_block = self.parts[*feed].geometry.block_records as u64;
            let blocks = snapshot.count().div_ceil(per_block) as usize;
            let read = self.files[at].1.index.blocks(0, blocks, snapshot.extent());
            read.map_err(Missing::Damaged)
        });
        match entries {
            Ok(entries) => {
                let entries = entries.into_iter().enumerate();
                entries.for_each(|(number, entry)| self.list(chunk, number, entry));
            }
            Err(missing) => self.miss(chunk, missing),
        }
    }

    /// Reports a hole, unless it lies before the start of the merge.
    fn pass(&mut self, hole: usize) {
        let (feed, Hole { seqs, why, times }) = self.holes[hole];
        if !self.is_behind(feed, times, seqs) {
            self.lost.push((feed, seqs, why));
        }
    }

    /// Queues a block, if it can contain rows to return.
    fn list(&mut self, chunk: usize, number: usize, entry: BlockEntry) {
        let (feed, snapshot) = &self.chunks[chunk];
        let Part { geometry, .. } = &self.parts[*feed];
        let first = snapshot.entry.base_seq + (number * geometry.block_records) as u64;
        let seqs = (first, (first + geometry.block_records as u64).min(snapshot.end_seq));
        self.wait_for(*feed, chunk, number, entry, seqs);
    }

    /// As [`Merge::list`], for a block that may come from a ring.
    fn wait_for(
        &mut self,
        feed: usize,
        chunk: usize,
        number: usize,
        entry: BlockEntry,
        seqs: (u64, u64),
    ) {
        let selection = &self.parts[feed].selection;
        // If the index entry of a block is damaged, its times are not trusted: the block is read
        // first, and reported as damaged.
        let times =
            if entry.intact && !entry.is_unset() { (entry.min, entry.max) } else { (0, u64::MAX) };
        let (since, until) = selection.times;
        let wanted = seqs.0 < selection.seqs.1
            && seqs.1 > selection.seqs.0
            && (!entry.intact
                || entry.is_unset()
                || selection.every_time()
                || entry.overlaps(since, until))
            && !self.is_behind(feed, times, seqs);
        if !wanted {
            return;
        }
        let rank = self.first_rank(feed, times, seqs);
        let (rows, order) = (Vec::new(), Vec::new());
        let (given, at, more) = (None, 0, false);
        let block = Block { feed, chunk, number, entry, seqs, given, rows, order, at, more };
        let at = match self.free.pop() {
            Some(at) => {
                self.blocks[at] = block;
                at
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        self.waiting.push(Reverse((rank, Waiting::Block(at))));
    }

    /// Whether all records with such times and seqs come before the start of the merge.
    fn is_behind(&self, feed: usize, times: (u64, u64), seqs: (u64, u64)) -> bool {
        let last = match self.direction {
            Direction::Forward => self.rank(feed, times.1, seqs.1 - 1),
            Direction::Reverse => self.rank(feed, times.0, seqs.0),
        };
        self.from.is_some_and(|from| last < from)
    }

    /// Reports a chunk that is missing.
    fn miss(&mut self, chunk: usize, missing: Missing) {
        let (feed, snapshot) = self.chunks[chunk];
        let seqs = self.clip(feed, (snapshot.entry.base_seq, snapshot.end_seq));
        match missing {
            Missing::Gone(why) => self.lost.push((feed, seqs, why)),
            Missing::Damaged(error) => self.damage.push(Damage {
                feed: self.parts[feed].info.name.clone(),
                chunk_id: snapshot.entry.chunk_id,
                block: 0,
                seqs,
                times: None,
                what: error.to_string(),
            }),
        }
    }

    /// Reports a block that cannot be read.
    fn lose(&mut self, block: usize, error: &Error) {
        let Block { feed, chunk, number, entry, seqs, .. } = &self.blocks[block];
        self.damage.push(Damage {
            feed: self.parts[*feed].info.name.clone(),
            chunk_id: self.chunks[*chunk].1.entry.chunk_id,
            block: *number,
            seqs: self.clip(*feed, *seqs),
            times: entry.intact.then_some((entry.min, entry.max)),
            what: error.to_string(),
        });
    }

    fn clip(&self, feed: usize, seqs: (u64, u64)) -> (u64, u64) {
        let selected = self.parts[feed].selection.seqs;
        (seqs.0.max(selected.0), seqs.1.min(selected.1))
    }

    /// Loads the next rows of a block. Frees the block if there are none.
    fn load(&mut self, block: usize) {
        let bytes = match self.bytes_of(block) {
            Ok(bytes) => bytes,
            Err(missing) => {
                let Block { feed, seqs, .. } = self.blocks[block];
                match missing {
                    Missing::Damaged(error) => self.lose(block, &error),
                    Missing::Gone(why) => self.lost.push((feed, self.clip(feed, seqs), why)),
                }
                return self.free.push(block);
            }
        };
        let order = self.choose(block, &bytes);
        if order.is_empty() {
            return self.free.push(block);
        }
        let size = self.parts[self.blocks[block].feed].geometry.record_size;
        let as_stored = order.len() * size == bytes.len() && order.is_sorted();
        let rows = match as_stored {
            true => bytes,
            false => {
                let mut rows = Vec::with_capacity(order.len() * size);
                for i in order.iter().map(|i| *i as usize) {
                    rows.extend_from_slice(&bytes[i * size..(i + 1) * size]);
                }
                rows
            }
        };
        let loaded = &mut self.blocks[block];
        (loaded.rows, loaded.order, loaded.at, loaded.more) = (rows, order, 0, false);
        self.held_bytes += loaded.held_bytes();
        let rank = self.rank_of(block, 0);
        self.loaded.push(Reverse((rank, block)));
        if self.held_bytes > self.budget_bytes {
            self.shrink();
        }
    }

    /// Returns the records of a block, from its chunk or from the copy of a ring.
    fn bytes_of(&mut self, block: usize) -> std::result::Result<Vec<u8>, Missing> {
        let Block { feed, chunk, seqs, .. } = self.blocks[block];
        if let Some(frozen) = &self.parts[feed].frozen {
            return Ok(frozen.records(seqs));
        }
        let at = self.files(chunk)?;
        self.read(block, at).map_err(Missing::Damaged)
    }

    fn read(&self, block: usize, at: usize) -> Result<Vec<u8>> {
        let Block { feed, chunk, number, entry, seqs, .. } = &self.blocks[block];
        let snapshot = &self.chunks[*chunk].1;
        let size = self.parts[*feed].geometry.record_size;
        let mut bytes = vec![0; (seqs.1 - seqs.0) as usize * size];
        let files = &self.files[at].1;
        files.read((seqs.0 - snapshot.entry.base_seq) * size as u64, &mut bytes)?;
        files.verify(snapshot, *number, entry, &bytes)?;
        Ok(bytes)
    }

    /// Returns the selected rows of a block that were not returned yet, in the order of the merge.
    fn choose(&self, block: usize, bytes: &[u8]) -> Vec<u32> {
        let Block { feed, seqs, given, .. } = self.blocks[block];
        let Part { info, geometry, selection, .. } = &self.parts[feed];
        let records = bytes.chunks_exact(geometry.record_size);
        let times: Vec<u64> = records.map(|record| info.layout.time_of(record)).collect();
        let wanted = |i: &u32| {
            let (seq, time) = (seqs.0 + u64::from(*i), times[*i as usize]);
            let rank = self.rank(feed, time, seq);
            (selection.seqs.0..selection.seqs.1).contains(&seq)
                && selection.has_time(time)
                && given.is_none_or(|given| rank > given)
                && self.from.is_none_or(|from| rank >= from)
        };
        let mut order: Vec<u32> = (0..times.len() as u32).filter(wanted).collect();
        // A stable sort keeps equal times in the order of their seqs.
        order.sort_by_key(|i| times[*i as usize]);
        if self.direction == Direction::Reverse {
            order.reverse();
        }
        order
    }

    /// Reduces every block in memory to its next rows, with an equal share of the memory for each.
    fn shrink(&mut self) {
        let share = self.budget_bytes / 2 / self.loaded.len().max(1);
        let loaded: Vec<usize> = self.loaded.iter().map(|Reverse((_, block))| *block).collect();
        for block in loaded {
            let size = self.parts[self.blocks[block].feed].geometry.record_size;
            let block = &mut self.blocks[block];
            self.held_bytes -= block.held_bytes();
            let from = block.at;
            let to = (from + (share / size).max(1)).min(block.order.len());
            block.more |= to < block.order.len();
            // Copy, so that the memory of the other rows is freed.
            block.rows = block.rows[from * size..to * size].to_vec();
            block.order = block.order[from..to].to_vec();
            block.at = 0;
            self.held_bytes += block.held_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::FeedSpec;
    use crate::store::Platform;

    /// Writes times in scattered order, so that every block overlaps every other one.
    fn scattered(platform: &Platform, feed: &str, records: u64) -> Vec<(u64, u64)> {
        let json = format!(
            r#"{{"feed_name":"{feed}","mode":"UF","fields":[{{"name":"ts","type":"uint64"}}],
                "ts_col":"ts","chunk_size_bytes":262144}}"#
        );
        platform.create_feed(&FeedSpec::from_json(&json).unwrap(), false).unwrap();
        let mut writer = platform.create_writer(feed).unwrap();
        let times: Vec<u64> =
            (0..records).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).collect();
        let bytes: Vec<u8> = times.iter().flat_map(|time| time.to_le_bytes()).collect();
        writer.append_batch(&bytes).unwrap();
        (0..).zip(times).map(|(seq, time)| (time, seq)).collect()
    }

    #[test]
    fn memory_is_bounded_and_the_order_exact() {
        let folder = tempfile::tempdir().unwrap();
        let platform = Platform::create(folder.path()).unwrap();
        let mut wanted: Vec<(u64, usize, u64)> = Vec::new();
        for (feed, records) in [("a", 100_000), ("b", 70_000)] {
            let order = usize::from(feed == "b");
            let records = scattered(&platform, feed, records);
            wanted.extend(records.into_iter().map(|(time, seq)| (time, order, seq)));
        }
        wanted.sort_unstable();
        let readers = ["a", "b"].map(|feed| platform.create_reader(feed).unwrap());
        let snapshots = readers.each_ref().map(|reader| reader.snapshot().unwrap());
        let feeds = [0, 1].map(|i| (&readers[i], &snapshots[i], Selection::ALL));
        for direction in [Direction::Forward, Direction::Reverse] {
            let mut merge = Merge::new(&feeds, direction).unwrap();
            merge.budget_bytes = 256 << 10;
            let (mut found, mut most) = (Vec::new(), 0);
            while let Some((feed, run)) = merge.next_run() {
                for (i, time) in run.records.chunks_exact(8).enumerate() {
                    let time = u64::from_le_bytes(time.try_into().unwrap());
                    found.push((time, feed, run.first_seq + i as u64));
                }
                most = most.max(merge.held_bytes);
            }
            if direction == Direction::Reverse {
                found.reverse();
            }
            assert!(found == wanted, "{direction:?}: {} of {}", found.len(), wanted.len());
            // All of it together is about two megabytes.
            assert!(most <= 256 << 10, "{most} bytes");
            assert_eq!((merge.take_damage(), merge.held_bytes), (Vec::new(), 0));
            let all_is_free = merge.free.len() == merge.blocks.len();
            assert!(all_is_free, "{} of {}", merge.free.len(), merge.blocks.len());
        }
    }

    #[test]
    fn a_position_is_below_all_that_is_still_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let platform = Platform::create(folder.path()).unwrap();
        scattered(&platform, "a", 40_000);
        let reader = platform.create_reader("a").unwrap();
        let snapshot = reader.snapshot().unwrap();
        let mut merge =
            Merge::new(&[(&reader, &snapshot, Selection::ALL)], Direction::Forward).unwrap();
        merge.budget_bytes = 128 << 10;
        let mut left: std::collections::BTreeSet<u64> = (0..40_000).collect();
        let mut given = 0;
        while let Some((_, run)) = merge.next_run() {
            for seq in run.first_seq..run.first_seq + (run.records.len() / 8) as u64 {
                assert!(left.remove(&seq), "{seq} twice");
                given += 1;
            }
            if given % 1000 == 0 || left.len() < 10 {
                let position = merge.position(0);
                assert!(left.first().is_none_or(|&first| position <= first), "{position}");
            }
        }
        assert!(left.is_empty());
        assert_eq!(merge.position(0), 40_000);
    }
}
