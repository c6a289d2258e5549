//! Merging: the records of several feeds by time, exact where feeds are late themselves.
//!
//! Nothing is taken in order of arrival. The table says each chunk's least time and the index each
//! block's; they wait in a heap by that time, and one is opened only when the merge has come to it.
//! So what is in memory are the blocks whose times overlap the present one: a feed in order has one
//! of them, and a block with one row that is far off just stays. Where that becomes too much, every
//! block keeps only its next rows, and is read again when those are used up.

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

/// Rows in memory, in bytes.
const BUDGET_BYTES: usize = 64 << 20;
/// Chunks whose files are open at once.
const OPEN_CHUNKS: usize = 32;
/// In the place of a chunk's position: the block is of a ring.
const NO_CHUNK: usize = usize::MAX;

/// Where a record stands among those of all feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Its time, in nanoseconds.
    pub time_ns: u128,
    /// Its feed, by position; in a tie the first comes first.
    pub feed: usize,
    /// Its seq.
    pub seq: u64,
}

impl Rank {
    /// Turned round where the merge is: what comes first is always the least.
    fn turned(self, direction: Direction) -> Rank {
        match direction {
            Direction::Forward => self,
            Direction::Reverse => Rank { time_ns: !self.time_ns, feed: !self.feed, seq: !self.seq },
        }
    }
}

/// One feed's part.
struct Part {
    info: FeedInfo,
    geometry: Geometry,
    registry: Arc<FeedRegistry>,
    selection: Selection,
    end_seq: u64,
    /// The lowest seq given so far.
    lowest_given: u64,
    /// Nanoseconds a tick.
    scale: u128,
    /// What a ring held.
    frozen: Option<Frozen>,
}

/// What waits to be opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    /// A chunk, by its position in `Merge::chunks`.
    Chunk(usize),
    /// A block, by its position in `Merge::blocks`.
    Block(usize),
    /// What is on record as lost, by its position in `Merge::holes`.
    Hole(usize),
}

/// A block that can have selected rows.
struct Block {
    feed: usize,
    chunk: usize,
    number: usize,
    entry: BlockEntry,
    /// Half-open.
    seqs: (u64, u64),
    /// The rank of the row given last, where the block is to be read again.
    given: Option<Rank>,
    /// The next rows, in the order of the merge, if they are in memory.
    rows: Vec<u8>,
    /// Their seqs, from the block's first.
    order: Vec<u32>,
    /// The next row.
    at: usize,
    /// There are rows behind those in memory.
    more: bool,
}

impl Block {
    fn held_bytes(&self) -> usize {
        self.rows.len() + self.order.len() * size_of::<u32>()
    }
}

/// The records of several feeds by time; equal times by the order of the feeds, then by seq.
pub struct Merge {
    parts: Vec<Part>,
    direction: Direction,
    /// Feed and chunk.
    chunks: Vec<(usize, SnapshotChunk)>,
    /// Feed, and what is on record as lost of it.
    holes: Vec<(usize, Hole)>,
    /// Open files by position of the chunk, those used last behind.
    files: Vec<(usize, ChunkFiles)>,
    blocks: Vec<Block>,
    /// Positions in `blocks` that may be used again.
    free: Vec<usize>,
    /// What is not in memory, by the least rank it can have.
    waiting: BinaryHeap<Reverse<(Rank, Waiting)>>,
    /// The blocks in memory, by the rank of their next row.
    loaded: BinaryHeap<Reverse<(Rank, usize)>>,
    /// The block that lent the last run, and the row it goes on with.
    lent: Option<(usize, usize)>,
    from: Option<Rank>,
    held_bytes: usize,
    budget_bytes: usize,
    damage: Vec<Damage>,
    /// What is on record as lost, or was taken away since the snapshots: feed, seqs, and why.
    lost: Vec<(usize, (u64, u64), Why)>,
}

impl Merge {
    /// Merges the selections of several snapshots, by ascending or descending time.
    ///
    /// # Errors
    /// As [`crate::reader::Scan::next_run`], of a ring.
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
                // A chunk whose index cannot be read is met at once, and told.
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

    /// Copies what is selected of a ring: by time its records would be met too late.
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

    /// Begins at a place in the order instead of at its beginning.
    pub fn start_at(&mut self, rank: Rank) {
        self.from = Some(rank.turned(self.direction));
    }

    /// The next run of records, and the position of their feed; `None` at the end. In a merge that
    /// goes backwards a run is one record.
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

    /// What could not be read since the last call.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// What was taken away since the snapshots, since the last call. Whether that leaves a gap is
    /// known once the merge is at its end.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        let lost = std::mem::take(&mut self.lost).into_iter();
        let told = |(feed, seqs, why): (usize, (u64, u64), Why)| {
            let Part { info, lowest_given, .. } = &self.parts[feed];
            Lost { feed: info.name.clone(), seqs, why, gap: *lowest_given < seqs.0 }
        };
        lost.map(told).collect()
    }

    /// Every selected record of a feed below this seq was given. Records come by time, so some
    /// above it may have been given too.
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

    /// The least rank that a record can have, of those with such times and seqs.
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

    /// The rank of a row that is in memory.
    fn rank_of(&self, block: usize, row: usize) -> Rank {
        let Block { feed, seqs, rows, order, .. } = &self.blocks[block];
        let Part { info, geometry, .. } = &self.parts[*feed];
        let time = info.layout.time_of(&rows[row * geometry.record_size..]);
        self.rank(*feed, time, seqs.0 + u64::from(order[row]))
    }

    /// Puts the block that lent the last run where it goes on.
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

    /// The row behind the consecutive ones that come before `bound`.
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

    /// The position of a chunk's open files; opened where they were not.
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

    /// Lists the blocks of a chunk that the merge has come to.
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

    /// Tells a hole, if the merge does not begin behind it.
    fn pass(&mut self, hole: usize) {
        let (feed, Hole { seqs, why, times }) = self.holes[hole];
        if !self.is_behind(feed, times, seqs) {
            self.lost.push((feed, seqs, why));
        }
    }

    /// Lets a block wait for its turn, if it can have rows to give.
    fn list(&mut self, chunk: usize, number: usize, entry: BlockEntry) {
        let (feed, snapshot) = &self.chunks[chunk];
        let Part { geometry, .. } = &self.parts[*feed];
        let first = snapshot.entry.base_seq + (number * geometry.block_records) as u64;
        let seqs = (first, (first + geometry.block_records as u64).min(snapshot.end_seq));
        self.wait_for(*feed, chunk, number, entry, seqs);
    }

    /// As [`Merge::list`], for a block that may be of no chunk.
    fn wait_for(
        &mut self,
        feed: usize,
        chunk: usize,
        number: usize,
        entry: BlockEntry,
        seqs: (u64, u64),
    ) {
        let selection = &self.parts[feed].selection;
        // Times that do not check are not believed: such a block is read at once, and named.
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

    /// Whether all records with such times and seqs lie before the place where the merge begins.
    fn is_behind(&self, feed: usize, times: (u64, u64), seqs: (u64, u64)) -> bool {
        let last = match self.direction {
            Direction::Forward => self.rank(feed, times.1, seqs.1 - 1),
            Direction::Reverse => self.rank(feed, times.0, seqs.0),
        };
        self.from.is_some_and(|from| last < from)
    }

    /// Tells a chunk that is not there.
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

    /// Tells a block that cannot be read.
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

    /// Brings the next rows of a block into memory, or is done with it.
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

    /// The records of a block, from its chunk or from the copy of a ring.
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

    /// The selected rows of a block that were not given yet, in the order of the merge.
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
        // Stable, so that equal times stay by seq.
        order.sort_by_key(|i| times[*i as usize]);
        if self.direction == Direction::Reverse {
            order.reverse();
        }
        order
    }

    /// Leaves every block in memory its next rows, as many as fit if all have the same share.
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
            // Copies, so that the room the others had is given back.
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

    /// Times in no order at all, so that every block overlaps every other one.
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
            // All of it would be two megabytes.
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
