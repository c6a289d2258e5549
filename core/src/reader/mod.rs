//! Reading: what is there (a snapshot), which part of it (a selection), and the records (a scan).

mod ends;
mod files;
pub mod follow;
mod frozen;
pub mod merge;
mod rings;
pub mod scan;

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::chunk::ChunkPaths;
use crate::chunk::index::{Extent, Index};
use crate::chunk::proof::{self, Standing};
use crate::chunk::strays::{self, Look};
use crate::error::{Error, Result, sound};
use crate::layout::Layout;
use crate::os::faults;
use crate::registry::feed::{
    ChunkEntry, Entry, FeedRegistry, Place, RangeEntry, Seal, SessionEnd, SessionEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::segments::Reach;
use crate::registry::view::LiveView;
use crate::ring::Ring;

pub use ends::Unproven;
use files::ChunkFiles;
pub use follow::{Event, Follower, Waiting};
pub use rings::RingState;
pub use scan::{Damage, Direction, Run, Scan};

/// Reads a feed: any number of readers, without locks, while it is written.
pub struct Reader {
    feed: FeedInfo,
    registry: Arc<FeedRegistry>,
    /// As the last look found it.
    view: Mutex<LiveView>,
}

/// A chunk as a snapshot has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Its entry in the table.
    pub entry: ChunkEntry,
    /// The seq after its last record.
    pub end_seq: u64,
}

impl SnapshotChunk {
    /// Records.
    pub fn count(&self) -> u64 {
        self.end_seq - self.entry.base_seq
    }

    /// How many records its index is asked about.
    pub fn extent(&self) -> Extent {
        Extent { records: self.count(), sealed: self.entry.seal.is_some() }
    }
}

/// What a feed held at one moment: later records are not part of it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Chunks with records, in order.
    pub chunks: Vec<SnapshotChunk>,
    /// Sessions, in order.
    pub sessions: Vec<SessionEntry>,
    /// Seqs that no reader will find.
    pub holes: Vec<RangeEntry>,
    /// The seq after the last record.
    pub end_seq: u64,
    /// A staged session that nobody has closed, and why its memory could not be asked what was
    /// published last: records that were not on disk are not part of the snapshot.
    pub cut_off: Option<Reach>,
    /// Where the disk proves no more than these records of a session that nobody has closed.
    pub unproven: Option<Unproven>,
    /// Damage that makes it less than it should be, a line each; beside what a scan of it meets.
    pub doubts: Vec<String>,
    /// The ring of a transient feed, if there is one; then there are no chunks.
    pub ring: Option<RingPart>,
}

/// A ring as a snapshot has it. The writer goes on overwriting it.
#[derive(Clone)]
pub struct RingPart {
    /// The ring.
    pub ring: Arc<Ring>,
    /// Seq of the oldest record it held.
    pub first_seq: u64,
}

impl fmt::Debug for RingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from seq {}", self.ring.path().display(), self.first_seq)
    }
}

impl Snapshot {
    fn of(standing: &Standing) -> Snapshot {
        let there = |place: Place| place.is_open() || place == Place::OnDisk;
        let chunks = standing.chunks().into_iter().map(|(mut entry, mut end_seq)| {
            if end_seq > standing.end {
                // Sealed since `published` was read: of a batch that goes on in the next chunk this
                // would be a part. The chunk counts as it stood then.
                (entry.seal, entry.place, end_seq) = (None, Place::Live, standing.end);
            }
            if standing.proven && entry.place.is_staged() {
                // What there is of it is on disk.
                entry.place = Place::Live;
            }
            SnapshotChunk { entry, end_seq }
        });
        let mut snapshot = Snapshot {
            chunks: chunks
                .filter(|chunk| there(chunk.entry.place) && chunk.end_seq > chunk.entry.base_seq)
                .collect(),
            end_seq: standing.end,
            ..Snapshot::default()
        };
        for entry in &standing.entries {
            match entry {
                Entry::Session(session) => snapshot.sessions.push(*session),
                Entry::Range(range) => snapshot.holes.push(*range),
                Entry::Chunk(_) => {}
            }
        }
        snapshot
    }

    /// The first seq that is still there; `end_seq` if none is.
    pub fn first_seq(&self) -> u64 {
        if let Some(part) = &self.ring {
            return part.first_seq;
        }
        self.chunks.first().map_or(self.end_seq, |c| c.entry.base_seq)
    }

    /// Records.
    pub fn records(&self) -> u64 {
        if let Some(part) = &self.ring {
            return self.end_seq - part.first_seq;
        }
        self.chunks.iter().map(SnapshotChunk::count).sum()
    }

    /// The seq of the `n`-th record from the end (0: the end). Seqs may have holes.
    pub fn seq_from_end(&self, n: u64) -> u64 {
        if let Some(part) = &self.ring {
            return self.end_seq.saturating_sub(n).max(part.first_seq);
        }
        let mut left = n;
        for chunk in self.chunks.iter().rev() {
            if left <= chunk.count() {
                return chunk.end_seq - left;
            }
            left -= chunk.count();
        }
        self.first_seq()
    }
}

/// Which records a scan gives: both ranges half-open, and both must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Range of seqs.
    pub seqs: (u64, u64),
    /// Range of times, in the feed's unit.
    pub times: (u64, u64),
}

impl Selection {
    /// Every record.
    pub const ALL: Selection = Selection { seqs: (0, u64::MAX), times: (0, u64::MAX) };

    /// Records with a time in `since..until`.
    pub fn times(since: u64, until: u64) -> Selection {
        Selection { times: (since, until), ..Selection::ALL }
    }

    /// Whether every time is selected. `u64::MAX` itself is a time a record may have, so a range
    /// that ends there ends nowhere.
    pub fn every_time(&self) -> bool {
        self.times == Selection::ALL.times
    }

    /// Whether a record of that time is selected.
    pub fn has_time(&self, time: u64) -> bool {
        time >= self.times.0 && self.begins_by(time)
    }

    /// Whether a time lies before the end of the range.
    fn begins_by(&self, time: u64) -> bool {
        time < self.times.1 || self.times.1 == u64::MAX
    }

    /// Whether a chunk can have selected records, by what the table says of it.
    fn may_have(&self, chunk: &SnapshotChunk) -> bool {
        let seqs = chunk.entry.base_seq < self.seqs.1 && chunk.end_seq > self.seqs.0;
        let times = |seal: Seal| self.may_have_times((seal.min_time, seal.max_time));
        seqs && chunk.entry.seal.is_none_or(times)
    }

    /// Whether records whose times lie in that closed range can be selected.
    fn may_have_times(&self, (min, max): (u64, u64)) -> bool {
        self.every_time() || (self.begins_by(min) && max >= self.times.0)
    }
}

/// Why records that were published cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// dw-gc has taken them, by the feed's retention or for room.
    Collected,
    /// They never reached the disk.
    Lost,
    /// They are where no reader can reach them.
    Unreachable,
    /// A repair has taken them out.
    Removed,
    /// The feed was deleted before they were read.
    Deleted,
    /// The writer of a ring overwrote them before they were read.
    Overwritten,
    /// They are not there, and nothing on record says why.
    Unrecorded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Collected => "collected by dw-gc",
            Why::Lost => "lost before they were on disk",
            Why::Unreachable => "in shared memory that cannot be reached any more",
            Why::Removed => "damaged, and taken out by a repair",
            Why::Deleted => "the feed was deleted before they were read",
            Why::Overwritten => "overwritten in the ring before they were read",
            Why::Unrecorded => "not there, and nothing on record says why; run dw-repair --dry-run",
        })
    }
}

/// Published records that cannot be given, as far as anybody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The feed.
    pub feed: String,
    /// Their seqs, half-open.
    pub seqs: (u64, u64),
    /// Why.
    pub why: Why,
    /// Whether a scan gave records older than these: what it gave has a gap then. If not, it gave
    /// what one gives that begins now. A follower has always been past the older ones.
    pub gap: bool,
}

impl Reader {
    /// Opens a feed for reading.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(feed: &FeedInfo) -> Result<Reader> {
        let registry: Arc<_> = FeedRegistry::open(&feed.registry_path(), &feed.id, false)?.into();
        // Without a live page sealed chunks can still be read, and what the disk proves of others.
        let view = LiveView::of(feed, &registry)?;
        Ok(Reader { feed: feed.clone(), registry, view: Mutex::new(view) })
    }

    /// Which live page speaks for the feed now.
    ///
    /// # Errors
    /// [`Error::Io`] where a limit, a missing permission or the disk keeps us from looking.
    pub fn view(&self) -> Result<LiveView> {
        let mut view = self.view.lock().unwrap_or_else(|e| e.into_inner());
        if !view.is_current(&self.feed, &self.registry)? {
            *view = view.refresh(&self.feed, &self.registry)?;
        }
        Ok(view.clone())
    }

    /// The feed.
    pub fn feed(&self) -> &FeedInfo {
        &self.feed
    }

    /// The layout of its records.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.feed.layout
    }

    /// The live page, if there is one.
    ///
    /// # Errors
    /// As [`Reader::view`].
    pub fn live(&self) -> Result<Option<Arc<LivePage>>> {
        Ok(self.view()?.page)
    }

    /// How a session ended that was never closed, and when it was last seen alive (wall-clock
    /// microseconds); whether its writer is gone is the lock's to say.
    ///
    /// # Errors
    /// As [`Reader::view`].
    pub fn unclean_end(&self, session: &SessionEntry) -> Result<(SessionEnd, u64)> {
        let view = self.view()?;
        let standing = Standing::of(&self.feed, &self.registry, view.page.as_deref());
        let refuted = sound(standing)?.is_some_and(|standing| standing.refuted.is_some());
        Ok(proof::unclean_end(&self.registry, &view, session, refuted))
    }

    /// What the feed holds now.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a table that does not check; [`Error::OtherMemory`] where the newest
    /// records are in shared memory that is not there from here;
    /// [`Error::Invalid`] for a ring that was deleted.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.snapshot_with(Look::Next)
    }

    /// The same; `look` says how far to look for chunk files that the table does not have.
    ///
    /// # Errors
    /// As [`Reader::snapshot`]; [`Error::Io`] where the feed's folder cannot be listed.
    pub fn snapshot_with(&self, look: Look) -> Result<Snapshot> {
        if !self.feed.spec.policy.persist {
            return self.ring_snapshot();
        }
        if !self.registry.is_superseded() {
            return self.snapshot_of_mapped(look);
        }
        // A repair has put other files in the place of those that are mapped here.
        let current = Reader::open(&self.feed)?;
        if current.registry.is_superseded() {
            let path = self.feed.registry_path();
            return Err(Error::damaged(path, 600, "superseded, and no other file is here"));
        }
        current.snapshot_of_mapped(look)
    }

    fn snapshot_of_mapped(&self, look: Look) -> Result<Snapshot> {
        loop {
            let view = self.view()?;
            faults::step("reader.viewed");
            let standing = Standing::of(&self.feed, &self.registry, view.page.as_deref())?;
            // Otherwise a session began meanwhile, and its page is not the one that was asked.
            if view.is_current(&self.feed, &self.registry)? {
                return self.snapshot_of(&standing, &view, look);
            }
        }
    }

    fn snapshot_of(&self, standing: &Standing, view: &LiveView, look: Look) -> Result<Snapshot> {
        let mut snapshot = Snapshot::of(standing);
        if standing.proven && view.is_staged() {
            view.refuse_other_memory(&self.feed)?;
            snapshot.cut_off = Some(view.reach);
            snapshot.holes.extend(self.hole_ahead(standing, view)?);
        }
        snapshot.unproven = Unproven::of(standing);
        let path = self.feed.registry_path().display().to_string();
        snapshot.doubts = standing.doubts.clone();
        snapshot.doubts.extend(standing.gaps().into_iter().map(|(lo, hi)| {
            format!("{path}: no entry has seq {lo}..{hi}, which come before others")
        }));
        let doubts = strays::doubts(&self.feed, &standing.entries, view.page.as_deref(), look)?;
        snapshot.doubts.extend(doubts.iter().map(ToString::to_string));
        Ok(snapshot)
    }

    /// Whether dw-gc has taken a chunk since the snapshot: its files may be gone, and that is no
    /// damage.
    pub fn is_collected(&self, chunk: &SnapshotChunk) -> bool {
        let now = self.registry.entry(chunk.entry.position);
        matches!(now, Ok(Entry::Chunk(now)) if now.place == Place::Expired)
    }

    /// Opens a chunk's index.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn index(&self, chunk: &SnapshotChunk) -> Result<Index> {
        let files = ChunkFiles::find(&self.feed, &self.registry, chunk, "reader.look");
        files.map(|files| files.index).map_err(|missing| missing.into_error(&self.feed, chunk))
    }

    /// Where a chunk's files are now.
    ///
    /// # Errors
    /// As [`Reader::index`].
    pub fn chunk_paths(&self, chunk: &SnapshotChunk) -> Result<ChunkPaths> {
        let files = ChunkFiles::find(&self.feed, &self.registry, chunk, "reader.look");
        files.map(|files| files.paths).map_err(|missing| missing.into_error(&self.feed, chunk))
    }

    /// Least and greatest time of a chunk's records.
    ///
    /// # Errors
    /// As [`Reader::index`]; a sealed chunk's are in the table and need no file.
    pub fn chunk_times(&self, chunk: &SnapshotChunk) -> Result<(u64, u64)> {
        if let Some(seal) = chunk.entry.seal {
            return Ok((seal.min_time, seal.max_time));
        }
        let per_block = self.feed.geometry().block_records as u64;
        let blocks = chunk.count().div_ceil(per_block) as usize;
        let entries = self.index(chunk)?.blocks(0, blocks, chunk.extent())?;
        let min = entries.iter().map(|b| b.min).min().unwrap_or(u64::MAX);
        Ok((min, entries.iter().map(|b| b.max).max().unwrap_or(0)))
    }

    /// Least and greatest record time of a snapshot; `None` if it has no record.
    ///
    /// # Errors
    /// As [`Reader::chunk_times`].
    pub fn times(&self, snapshot: &Snapshot) -> Result<Option<(u64, u64)>> {
        if snapshot.ring.is_some() {
            return self.ring_times(snapshot);
        }
        let mut whole: Option<(u64, u64)> = None;
        for chunk in &snapshot.chunks {
            let (min, max) = self.chunk_times(chunk)?;
            whole = Some(whole.map_or((min, max), |w| (w.0.min(min), w.1.max(max))));
        }
        Ok(whole)
    }

    /// The newest record time of a snapshot up to `most`; `None` if it has no such record. Chunks
    /// that have later ones too are read, all others are not.
    ///
    /// # Errors
    /// As [`Reader::chunk_times`]; as a scan.
    pub fn newest_up_to(&self, snapshot: &Snapshot, most: u64) -> Result<Option<u64>> {
        let mut newest: Option<u64> = None;
        let mut mixed = Vec::new();
        for chunk in &snapshot.chunks {
            let (min, max) = self.chunk_times(chunk)?;
            match max <= most {
                true => newest = newest.max(Some(max)),
                false if min <= most => mixed.push((chunk.entry.base_seq, chunk.end_seq)),
                false => {}
            }
        }
        mixed.extend(snapshot.ring.as_ref().map(|_| (0, u64::MAX)));
        for seqs in mixed {
            // No record before what is known by now counts.
            let times = (newest.map_or(0, |newest| newest + 1), most.saturating_add(1));
            if times.0 >= times.1 {
                break;
            }
            let mut scan = self.scan(snapshot, Selection { seqs, times }, Direction::Forward);
            while let Some(run) = scan.next_run()? {
                let times = run.records.chunks_exact(self.layout().record_size());
                newest = newest.max(times.map(|record| self.layout().time_of(record)).max());
            }
        }
        Ok(newest)
    }

    /// The records of `snapshot` in `selection`, in seq order or backwards.
    pub fn scan(&self, snapshot: &Snapshot, selection: Selection, direction: Direction) -> Scan {
        let registry = Arc::clone(&self.registry);
        let holes = self.holes(snapshot, &selection);
        Scan::new(self.feed.clone(), registry, snapshot, selection, direction).with(holes)
    }

    /// The records with a time in `start..end`, in order of arrival: the seed's `read`.
    ///
    /// # Errors
    /// As [`Reader::snapshot`].
    pub fn read(&self, start: u64, end: u64) -> Result<Scan> {
        let snapshot = self.snapshot()?;
        Ok(self.scan(&snapshot, Selection::times(start, end), Direction::Forward))
    }

    /// The last `n` records.
    ///
    /// # Errors
    /// As [`Reader::snapshot`].
    pub fn last(&self, n: u64) -> Result<Scan> {
        let snapshot = self.snapshot()?;
        let seqs = (snapshot.seq_from_end(n), snapshot.end_seq);
        let selection = Selection { seqs, ..Selection::ALL };
        Ok(self.scan(&snapshot, selection, Direction::Forward))
    }

    /// The records from the last mark at or before `time` on, whatever their times.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such mark; otherwise as [`Reader::snapshot`].
    pub fn playback(&self, time: u64) -> Result<Scan> {
        let snapshot = self.snapshot()?;
        let mark = self.last_mark(&snapshot, time)?;
        let seqs = (mark, snapshot.end_seq);
        let selection = Selection { seqs, ..Selection::ALL };
        Ok(self.scan(&snapshot, selection, Direction::Forward))
    }

    /// The seq of the last mark at or before `time`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none.
    pub fn last_mark(&self, snapshot: &Snapshot, time: u64) -> Result<u64> {
        for chunk in snapshot.chunks.iter().rev() {
            if chunk.entry.seal.is_some_and(|seal| seal.marks == 0 || seal.min_time > time) {
                continue;
            }
            let marks = match self.index(chunk).and_then(|index| index.marks(chunk.extent())) {
                Err(error) if error.is_not_found() && self.is_collected(chunk) => continue,
                marks => marks?,
            };
            if let Some((seq, _)) = marks.iter().rev().find(|(_, at)| *at <= time) {
                return Ok(*seq);
            }
        }
        let name = &self.feed.name;
        if !self.feed.spec.policy.persist {
            return Err(Error::Invalid(format!("{name}: a ring keeps no marks to play back from")));
        }
        Err(Error::Invalid(format!("{name}: no mark at or before that time to play back from")))
    }

    /// Closes the reader, as dropping it does. Nothing is held, so nothing can fail.
    pub fn close(self) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::FeedSpec;
    use crate::store::Platform;

    #[test]
    fn a_chunk_sealed_after_the_count_was_read_counts_as_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let platform = Platform::create(folder.path()).unwrap();
        let json = r#"{"feed_name":"t","mode":"UF","fields":[{"name":"ts","type":"uint64"}],
            "ts_col":"ts","chunk_size_bytes":65536}"#;
        platform.create_feed(&FeedSpec::from_json(json).unwrap(), false).unwrap();
        let mut writer = platform.create_writer("t").unwrap();
        let rows: Vec<u8> = (0..10_000u64).flat_map(u64::to_le_bytes).collect();
        writer.append_batch(&rows).unwrap();
        drop(writer);
        let reader = platform.create_reader("t").unwrap();
        for end in [0, 5, 8191, 8192, 8193, 9999] {
            // As if the writer had published and sealed between the look at the page and the table.
            let live = reader.live().unwrap();
            let live = live.as_deref();
            let mut standing = Standing::of(&reader.feed, &reader.registry, live).unwrap();
            standing.end = end;
            let snapshot = Snapshot::of(&standing);
            assert_eq!(snapshot.records(), end);
            let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
            let mut count = 0;
            scan.for_each(|_| {
                count += 1;
                true
            })
            .unwrap();
            assert_eq!((count, scan.take_damage()), (end, Vec::new()));
            assert!(end == 0 || reader.times(&snapshot).unwrap().is_some());
        }
    }
}
