//! Reads the ring of a transient feed.

use std::sync::Arc;

use crate::chunk::proof::Standing;
use crate::error::Result;
use crate::os::faults;
use crate::os::lock::Lock;
use crate::reader::scan::BUFFER_BYTES;
use crate::reader::{Direction, Reader, RingPart, Selection, Snapshot, Why};
use crate::registry::info::FeedInfo;
use crate::registry::wait::WaitFile;
use crate::ring::{self, Ring, protocol};

/// A snapshot of a ring that is being written leaves out its oldest part, one in `MARGIN`, because
/// the writer may overwrite it while the rest is read.
const MARGIN: u64 = 32;

impl Reader {
    pub(super) fn ring_snapshot(&self) -> Result<Snapshot> {
        let found = ring::find(&self.feed, &self.registry, false)?;
        let ring = found.ring(&self.feed.name)?.map(Arc::new);
        let page = ring.as_ref().map(|ring| ring.page());
        let standing = Standing::of(&self.feed, &self.registry, page)?;
        let mut snapshot = Snapshot::of(&standing);
        snapshot.ring = match ring {
            Some(ring) => Some(self.ring_part(ring, snapshot.end_seq)?),
            None => None,
        };
        Ok(snapshot)
    }

    fn ring_part(&self, ring: Arc<Ring>, end_seq: u64) -> Result<RingPart> {
        let (head, oldest) = (*ring.head(), ring.held()?.0);
        ring.check()?;
        let writing = Lock::feed_is_held(&self.feed.lock)? != Some(false);
        let moving = writing && oldest > head.base_seq;
        let margin = if moving { ring.records() / MARGIN } else { 0 };
        let first_seq = (oldest + margin).min(end_seq);
        Ok(RingPart { ring, first_seq })
    }

    /// Returns the minimum and maximum time of the records that are not overwritten meanwhile.
    pub(super) fn ring_times(&self, snapshot: &Snapshot) -> Result<Option<(u64, u64)>> {
        let mut whole: Option<(u64, u64)> = None;
        let mut scan = self.scan(snapshot, Selection::ALL, Direction::Forward);
        let layout = &self.feed.layout;
        while let Some(run) = scan.next_run()? {
            for record in run.records.chunks_exact(layout.record_size()) {
                let time = layout.time_of(record);
                whole = Some(whole.map_or((time, time), |w| (w.0.min(time), w.1.max(time))));
            }
        }
        Ok(whole)
    }
}

/// The state of a ring at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RingState {
    /// Bytes of records that fit.
    pub capacity_bytes: u64,
    /// Bytes of records in it.
    pub held_bytes: u64,
    /// Seconds between the times of its oldest and newest record.
    pub history_seconds: f64,
    /// How often followers were lapped.
    pub overruns: u64,
    /// Records that they lost.
    pub overrun_records: u64,
}

impl RingState {
    /// Reads the state of a feed's ring.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if its file was truncated, or its contents are impossible.
    pub fn of(ring: &Ring, feed: &FeedInfo) -> Result<RingState> {
        let (oldest, published) = ring.held()?;
        let time = |seq: u64| {
            let mut record = feed.layout.zeroed();
            let reserved = protocol::copy(ring.memory(), ring.offset_of(seq), &mut record);
            (ring.oldest_at(reserved) <= seq).then(|| feed.layout.time_of(&record))
        };
        // The oldest record may be overwritten by now. Then use one further from the writer.
        let count = published.saturating_sub(oldest);
        let newest = if count > 0 { time(published - 1) } else { None };
        let first = [oldest, oldest + count / 8].into_iter().find_map(|seq| newest.and(time(seq)));
        ring.check()?;
        let ticks = newest.zip(first).map_or(0, |(newest, first)| newest.saturating_sub(first));
        let wait = ring.path().with_extension("wait");
        let (overruns, overrun_records) =
            WaitFile::overruns_in(&wait, &feed.id).unwrap_or_default();
        Ok(RingState {
            capacity_bytes: ring.head().capacity_bytes as u64,
            held_bytes: count * ring.head().record_size as u64,
            history_seconds: ticks as f64 / feed.layout.unit().per_second() as f64,
            overruns,
            overrun_records,
        })
    }

    /// Returns the share of it that is in use, 0 to 1.
    pub fn fill(&self) -> f64 {
        self.held_bytes as f64 / (self.capacity_bytes as f64).max(1.0)
    }
}

/// A scan of a ring's records.
pub(super) struct RingScan {
    ring: Arc<Ring>,
    /// Seqs not yet returned, half-open.
    left: (u64, u64),
}

impl RingScan {
    /// Starts the scan of a snapshot's ring, if it has one.
    pub fn of(snapshot: &Snapshot, selection: &Selection) -> Option<RingScan> {
        let RingPart { ring, first_seq } = snapshot.ring.clone()?;
        let left = (selection.seqs.0.max(first_seq), selection.seqs.1.min(snapshot.end_seq));
        Some(RingScan { ring, left })
    }

    /// Copies the next records. Returns the seq of the first in the buffer, and which of them are
    /// whole; `None` at the end. Records that were overwritten are added to `lost`.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if the ring's file was truncated, or its contents are impossible.
    /// Then nothing was copied.
    pub fn fill(
        &mut self,
        direction: Direction,
        buffer: &mut Vec<u8>,
        lost: &mut Vec<((u64, u64), Why)>,
        feed: &FeedInfo,
    ) -> Result<Option<(u64, (usize, usize))>> {
        let size = self.ring.head().record_size;
        while self.left.0 < self.left.1 {
            let (lo, hi) = self.left;
            let count = ((hi - lo) as usize).min((BUFFER_BYTES / size).max(1));
            let from = if direction == Direction::Forward { lo } else { hi - count as u64 };
            buffer.resize(count * size, 0);
            faults::step("ring.scan");
            let at = self.ring.offset_of(from);
            let reserved = protocol::copy(self.ring.memory(), at, buffer);
            self.ring.check()?;
            self.ring.check_copied(from + count as u64, reserved)?;
            let oldest = self.ring.oldest_at(reserved);
            if oldest <= from {
                self.left = match direction {
                    Direction::Forward => (lo + count as u64, hi),
                    Direction::Reverse => (lo, from),
                };
                return Ok(Some((from, (0, count))));
            }
            if direction == Direction::Reverse {
                self.left = (0, 0);
                self.lose((lo, oldest.min(hi)), lost, feed);
                let gone = (oldest - from).min(count as u64) as usize;
                return Ok((gone < count).then_some((from, (gone, count))));
            }
            let (oldest, published) = self.ring.held()?;
            let records = self.ring.records();
            let half = published.saturating_sub(records / 2).max(oldest);
            // There is nothing to return after the end of the scan.
            let next = if half < hi { half } else { oldest + records / MARGIN };
            self.left.0 = next.min(hi);
            self.ring.check()?;
            self.lose((lo, self.left.0), lost, feed);
        }
        Ok(None)
    }

    fn lose(&self, seqs: (u64, u64), lost: &mut Vec<((u64, u64), Why)>, feed: &FeedInfo) {
        count_overrun(&self.ring, feed, seqs);
        lost.push((seqs, Why::Overwritten));
    }
}

/// Counts that a reader was lapped, if the wait file may be written.
pub(super) fn count_overrun(ring: &Ring, feed: &FeedInfo, seqs: (u64, u64)) {
    let wait = ring.path().with_extension("wait");
    if let Ok(wait) = WaitFile::open(&wait, &feed.id) {
        wait.count_overrun(seqs.1 - seqs.0);
    }
}
