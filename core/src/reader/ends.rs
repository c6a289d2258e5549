//! What a feed's records leave out: ranges recorded as lost, and records after the end of a session
//! that was not closed.

use crate::chunk::ChunkPaths;
use crate::chunk::index::RawIndex;
use crate::chunk::proof::{Standing, last_session};
use crate::chunk::strays::written_records;
use crate::error::{Result, sound};
use crate::os::lock::Lock;
use crate::os::process;
use crate::reader::{Reader, Selection, Snapshot, SnapshotChunk, Why};
use crate::registry::feed::{
    ChunkEntry, RANGE_LOST, RANGE_UNREACHABLE, RangeEntry, SessionEnd, SessionEntry,
};
use crate::registry::segments::Reach;
use crate::registry::view::LiveView;

/// Seqs that no reader gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub seqs: (u64, u64),
    pub why: Why,
    /// Bounds for the times of these records, as far as known.
    pub times: (u64, u64),
}

/// A session that its writer has not closed, and whose live page cannot be trusted.
#[derive(Clone, Debug)]
pub struct Unproven {
    session: SessionEntry,
    /// The chunks that were being written.
    open: Vec<ChunkEntry>,
}

impl Unproven {
    pub(super) fn of(standing: &Standing) -> Option<Unproven> {
        let session = last_session(&standing.entries).filter(|_| standing.proven)?;
        let open = standing.chunks().into_iter().map(|(chunk, _)| chunk);
        let open = open.filter(|chunk| chunk.place.is_open()).collect();
        Some(Unproven { session, open })
    }
}

impl Reader {
    /// Returns the range that the next writer will record as lost: it follows the last record of a
    /// staged session whose memory is gone. `None` if a writer is active.
    pub(super) fn hole_ahead(
        &self,
        standing: &Standing,
        view: &LiveView,
    ) -> Result<Option<RangeEntry>> {
        let session = last_session(&standing.entries);
        let of_it = |s: &SessionEntry| {
            view.staged().is_some_and(|staged| staged.session_id == s.session_id)
        };
        let Some((session, lease)) = session.filter(of_it).zip(self.registry.lease()) else {
            return Ok(None);
        };
        if self.is_written()? {
            return Ok(None);
        }
        let reason = match view.end_without_page(&session) {
            SessionEnd::MemoryGone => RANGE_UNREACHABLE,
            _ => RANGE_LOST,
        };
        let seqs = (standing.end, lease);
        let session_id = session.session_id;
        let recorded_us = process::wall_us();
        let range = RangeEntry { seqs, session_id, recorded_us, reason, times: None };
        Ok((seqs.0 < seqs.1).then_some(range))
    }

    /// Whether the feed's lock is held. False if we may not ask.
    fn is_written(&self) -> Result<bool> {
        Ok(Lock::feed_is_held(&self.feed.lock)? == Some(true))
    }

    /// Explains why a snapshot may lack records that were in shared memory. `None` if a writer is
    /// active: it has them, or they are on disk.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if this cannot be determined.
    pub fn what_is_cut_off(&self, snapshot: &Snapshot) -> Result<Option<String>> {
        let Some(reach) = snapshot.cut_off else { return Ok(None) };
        let why = match reach {
            Reach::OtherBoot => "was lost when the machine stopped",
            Reach::Copied => "is not part of this copy of the store",
            _ => "is gone",
        };
        if self.is_written()? {
            return Ok(None);
        }
        let Some(segments) = self.view()?.segments else { return Ok(None) };
        let folder = segments.folder;
        Ok(Some(format!(
            "{}: the shared memory of its last writer ({}) {why}; left out: records from seq {} on \
             that were not on disk yet",
            self.feed.name,
            folder.display(),
            snapshot.end_seq
        )))
    }

    /// Explains where a snapshot ends, if the last session was not closed and the disk proves no
    /// more records. Returns also whether a file shows records after that end. `None` if a writer
    /// is active, or if the session was in shared memory, which [`Reader::what_is_cut_off`]
    /// reports.
    ///
    /// # Errors
    /// As [`Reader::what_is_cut_off`].
    pub fn what_is_unproven(&self, snapshot: &Snapshot) -> Result<Option<(String, bool)>> {
        let unproven = snapshot.unproven.as_ref().filter(|_| snapshot.cut_off.is_none());
        let Some(unproven) = unproven else { return Ok(None) };
        if self.is_written()? {
            return Ok(None);
        }
        let (name, end) = (&self.feed.name, snapshot.end_seq);
        let how = match unproven.session.boot_id == process::boot_id() {
            true => "this store is a copy, made while it was written",
            false => "the machine stopped while it was written, or this store is a copy",
        };
        let more = self.shows_more(unproven, end)?;
        let what = match &more {
            Some(more) => format!("left out: {more}"),
            None => "no file shows more".to_owned(),
        };
        let text = format!(
            "{name}: {how}: records are proven below seq {end}; {what}; dw-write goes on behind \
             them, dw-repair --dry-run {name} looks first"
        );
        Ok(Some((text, more.is_some())))
    }

    /// Returns evidence of records at or above seq `end`.
    fn shows_more(&self, unproven: &Unproven, end: u64) -> Result<Option<String>> {
        for chunk in &unproven.open {
            let paths = ChunkPaths::new(&self.feed.folder, chunk.chunk_id);
            let written = written_records(&paths.data, &self.feed)?;
            let index = RawIndex::read(&paths.index, (&self.feed.id, &self.feed.geometry()));
            let timed = sound(index)?.map_or(0, |index| index.reaches());
            let last = chunk.base_seq.saturating_add(written.max(timed));
            if last > end {
                let path = if written >= timed { &paths.data } else { &paths.index };
                return Ok(Some(format!("seq {end}..{last}, by {}", path.display())));
            }
        }
        let Some(page) = self.view()?.page else { return Ok(None) };
        let stamp = page.newest_stamp();
        let of_it = stamp.is_some_and(|stamp| stamp.session_id == unproven.session.session_id);
        let published = page.vouched().filter(|published| of_it && *published > end);
        Ok(published.map(|seq| format!("seq {end}..{seq}, by {}", page.path().display())))
    }

    /// Returns the seqs in a selection that are recorded as lost or unreachable, in order. Ranges
    /// that end before the oldest records left by dw-gc are no longer part of the feed.
    pub(super) fn holes(&self, snapshot: &Snapshot, selection: &Selection) -> Vec<Hole> {
        let mut ranges: Vec<RangeEntry> = snapshot.holes.clone();
        ranges.sort_unstable_by_key(|range| range.seqs.1);
        let (mut first, mut holes) = (snapshot.first_seq(), Vec::new());
        for range in ranges.iter().rev().filter(|range| range.seqs.0 < range.seqs.1) {
            if range.seqs.1 < first {
                break;
            }
            first = first.min(range.seqs.0);
            let why = match range.reason {
                RANGE_LOST => Why::Lost,
                RANGE_UNREACHABLE => Why::Unreachable,
                _ => continue,
            };
            let seqs = (range.seqs.0.max(selection.seqs.0), range.seqs.1.min(selection.seqs.1));
            if seqs.0 >= seqs.1 {
                continue;
            }
            let hole = Hole { seqs, why, times: self.times_of_hole(snapshot, range) };
            if selection.may_have_times(hole.times) {
                holes.push(hole);
            }
        }
        holes.reverse();
        holes
    }

    /// Returns bounds for the times of the records in a hole, as far as its neighbours tell.
    fn times_of_hole(&self, snapshot: &Snapshot, range: &RangeEntry) -> (u64, u64) {
        if let Some(times) = range.times {
            return times;
        }
        let times = |chunk: &SnapshotChunk| self.chunk_times(chunk).ok();
        let mut chunks = snapshot.chunks.iter();
        let before = chunks.rfind(|chunk| chunk.end_seq <= range.seqs.0).and_then(times);
        let mut chunks = snapshot.chunks.iter();
        let after = chunks.find(|chunk| chunk.entry.base_seq >= range.seqs.1).and_then(times);
        let (from, to) = (before.map_or(0, |b| b.1), after.map_or(u64::MAX, |a| a.0));
        (from.min(to), from.max(to))
    }
}
