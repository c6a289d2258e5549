//! Reads a ring from a given seq on.

use std::sync::Arc;

use crate::error::Result;
use crate::os::faults;
use crate::os::map::RING_HEAD_BYTES;
use crate::ring::{Ring, protocol};

/// A reading position in a ring.
pub struct Cursor {
    ring: Arc<Ring>,
    next_seq: u64,
    /// Offset of the record `next_seq` in the mapping.
    at: usize,
    /// `published` as loaded last.
    seen: u64,
    /// Number of copies since the last attempt that found nothing.
    at_once: u32,
}

/// Maximum number of spin-loop turns by which a reader delays its next look at `published`, if
/// records come as fast as it looks. Each look takes the cache lines around `published` from the
/// writer. The delay grows by a turn with each copy that needs no wait, so the few records of a
/// burst are not delayed much.
const REST_TURNS: u32 = 64;

/// What [`Cursor::copy`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// No new records.
    Nothing,
    /// `count` records were copied, all of them whole.
    Records {
        /// Seq of the first.
        first_seq: u64,
        /// Number of records.
        count: usize,
    },
    /// The writer has overwritten the next records.
    Lapped(Lapped),
}

/// Seqs of records that were overwritten before they were read, half-open. The reader continues
/// after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapped {
    /// The first seq.
    pub seq_lo: u64,
    /// The seq after the last.
    pub seq_hi: u64,
}

impl Cursor {
    /// Creates a cursor at a seq. If that record has been overwritten, the first copy reports it. A
    /// seq before the start of this ring, which belongs to another ring, is moved to the start.
    pub fn new(ring: Arc<Ring>, seq: u64) -> Cursor {
        let mut cursor = Cursor { ring, next_seq: 0, at: 0, seen: 0, at_once: 0 };
        cursor.seek(seq);
        cursor
    }

    /// Returns the ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Returns the seq of the next record.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Moves to a seq.
    pub fn seek(&mut self, seq: u64) {
        self.next_seq = seq.max(self.ring.head().base_seq);
        self.at = self.ring.offset_of(self.next_seq);
        self.seen = 0;
    }

    /// Returns `published` as loaded last.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Copies whole records below `end_seq`, as many as there are and as fit.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if the ring's file was truncated, or `published` is impossible in
    /// this ring. Then nothing was copied.
    #[inline]
    pub fn copy(&mut self, end_seq: u64, into: &mut [u8]) -> Result<Copied> {
        let copied = self.take(end_seq, into)?;
        self.ring.memory().check().map(|()| copied)
    }

    #[inline]
    fn take(&mut self, end_seq: u64, into: &mut [u8]) -> Result<Copied> {
        if self.seen <= self.next_seq {
            (0..self.at_once.min(REST_TURNS)).for_each(|_| std::hint::spin_loop());
            let published = protocol::published(self.ring.memory());
            // `published` never decreases.
            self.ring.check_copied(self.seen, published)?;
            self.seen = published;
            faults::step("ring.seen");
        }
        let end_seq = self.seen.min(end_seq);
        let record_size = self.ring.head().record_size;
        if end_seq <= self.next_seq {
            self.at_once = 0;
            // Prefetch, so that a spinning reader sees the record sooner.
            if protocol::fits_beside(record_size) {
                self.ring.memory().prefetch(protocol::NEWEST_REST_AT, 1);
            } else {
                self.ring.memory().prefetch(self.at, record_size);
            }
            return Ok(Copied::Nothing);
        }
        let most = ((end_seq - self.next_seq) as usize).min(self.ring.records() as usize);
        // Usually it is one record, which fits. Avoid the division.
        let fits = most * record_size <= into.len();
        let count = if fits { most } else { into.len() / record_size };
        let into = &mut into[..count * record_size];
        let is_newest = count == 1 && self.seen == self.next_seq + 1;
        if !(is_newest && protocol::copy_newest(self.ring.memory(), self.seen, into)) {
            let reserved = protocol::copy(self.ring.memory(), self.at, into);
            self.ring.check_copied(self.seen, reserved)?;
            if self.ring.oldest_at(reserved) > self.next_seq {
                return self.lapped();
            }
        }
        let first_seq = self.next_seq;
        self.at_once = self.at_once.saturating_add(1);
        self.next_seq += count as u64;
        self.at += into.len();
        if self.at >= RING_HEAD_BYTES + self.ring.head().capacity_bytes {
            self.at -= self.ring.head().capacity_bytes;
        }
        Ok(Copied::Records { first_seq, count })
    }

    /// Continues half a ring back. At the oldest record, the writer would lap it again at once.
    #[cold]
    fn lapped(&mut self) -> Result<Copied> {
        let (oldest, published) = self.ring.held()?;
        let half = published.saturating_sub(self.ring.records() / 2);
        let seq_lo = self.next_seq;
        self.seek(half.max(oldest));
        Ok(Copied::Lapped(Lapped { seq_lo, seq_hi: self.next_seq }))
    }
}
