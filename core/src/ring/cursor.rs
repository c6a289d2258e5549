//! Reading a ring from some seq on.

use std::sync::Arc;

use crate::error::Result;
use crate::os::faults;
use crate::os::map::RING_HEAD_BYTES;
use crate::ring::{Ring, protocol};

/// A place in a ring, and the way on from there.
pub struct Cursor {
    ring: Arc<Ring>,
    next_seq: u64,
    /// Byte in the mapping where that record begins.
    at: usize,
    /// Published when it was last looked at.
    seen: u64,
    /// Copies since it was last looked at in vain.
    at_once: u32,
}

/// Turns of a spin loop that a reader lets the writer be for, at most, where records come as fast
/// as it looks: each look takes the lines around `published` from the writer. A turn more after
/// each copy without waiting, so that the few records of a burst are not late for it.
const REST_TURNS: u32 = 64;

/// What [`Cursor::copy`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// There is nothing new.
    Nothing,
    /// So many records were copied, and they are whole.
    Records {
        /// Seq of the first.
        first_seq: u64,
        /// How many.
        count: usize,
    },
    /// The writer has overwritten what was to be copied.
    Lapped(Lapped),
}

/// Records that were overwritten before they were read: seqs, half-open. The reader goes on behind
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapped {
    /// The first of them.
    pub seq_lo: u64,
    /// The one after the last.
    pub seq_hi: u64,
}

impl Cursor {
    /// A cursor at a seq; one that is gone is found out by the first copy. A seq of another ring,
    /// before this one begins, is moved to its beginning.
    pub fn new(ring: Arc<Ring>, seq: u64) -> Cursor {
        let mut cursor = Cursor { ring, next_seq: 0, at: 0, seen: 0, at_once: 0 };
        cursor.seek(seq);
        cursor
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The seq that comes next.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Goes to a seq.
    pub fn seek(&mut self, seq: u64) {
        self.next_seq = seq.max(self.ring.head().base_seq);
        self.at = self.ring.offset_of(self.next_seq);
        self.seen = 0;
    }

    /// What was published when it was last looked at.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Copies as many whole records below `end_seq` as there are and fit.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if the ring's file was cut short, or `published` is no count of
    /// this ring: nothing was copied then.
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
            // It never goes down.
            self.ring.check_copied(self.seen, published)?;
            self.seen = published;
            faults::step("ring.seen");
        }
        let end_seq = self.seen.min(end_seq);
        let record_size = self.ring.head().record_size;
        if end_seq <= self.next_seq {
            self.at_once = 0;
            // Who spins has the record under way when it is published.
            if protocol::fits_beside(record_size) {
                self.ring.memory().prefetch(protocol::NEWEST_REST_AT, 1);
            } else {
                self.ring.memory().prefetch(self.at, record_size);
            }
            return Ok(Copied::Nothing);
        }
        let most = ((end_seq - self.next_seq) as usize).min(self.ring.records() as usize);
        // Mostly it is one record, which fits: no division for it.
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

    /// Goes on half a ring back: at the oldest record the writer would be there again at once.
    #[cold]
    fn lapped(&mut self) -> Result<Copied> {
        let (oldest, published) = self.ring.held()?;
        let half = published.saturating_sub(self.ring.records() / 2);
        let seq_lo = self.next_seq;
        self.seek(half.max(oldest));
        Ok(Copied::Lapped(Lapped { seq_lo, seq_hi: self.next_seq }))
    }
}
