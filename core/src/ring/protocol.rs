//! The protocol between the writer of a ring and its readers (FORMAT.md, NAME.ring), over any
//! [`Memory`].

use std::sync::atomic::Ordering;

use crate::os::memory::{Memory, Site};
use crate::registry::live::PUBLISHED_AT;

/// Offset of `reserved`. Records more than a ring's length below it may be overwritten.
pub const RESERVED_AT: usize = 1152;
/// Offset of the seq after the newest record. If that record was published alone, a copy of it is
/// in the words below.
pub const NEWEST_END_AT: usize = 344;
/// Offset of the copy's first bytes, in the cache line of `published`.
pub const NEWEST_HEAD_AT: usize = 352;
/// Offset of the rest of the copy, in the neighbouring cache line.
pub const NEWEST_REST_AT: usize = 264;
const NEWEST_HEAD_WORDS: usize = 4;
/// The largest record that the copy has room for, in bytes.
const NEWEST_MAX: usize = 8 * NEWEST_HEAD_WORDS + 56;
const _: () = assert!(NEWEST_MAX == 88, "by_size! has a case for each size");
/// Offset of the segment id of the next ring, or 0 until a writer has made one.
pub const REPLACED_BY_AT: usize = 1280;

const RESERVED: Site = Site::relaxed("ring.reserved");
// SYNC: ring.reserved; pairs with `CHECK`: a reader that copied a byte stored after this fence
// loads a `reserved` that covers that byte.
const RESERVE: Site = Site::new("ring.reserve", Ordering::Release);
const NEWEST_END: Site = Site::relaxed("ring.newest_end");
const NEWEST: Site = Site::relaxed("ring.newest");
// SYNC: ring.newest_end; pairs with `CHECK_NEWEST`: a reader that copied a byte stored after this
// fence loads a `newest_end` that is at least as new.
const BEGIN_NEWEST: Site = Site::new("ring.begin_newest", Ordering::Release);
// SYNC: published; pairs with `SEE_PUBLISHED`.
const PUBLISH: Site = Site::new("ring.publish", Ordering::Release);
// SYNC: published; pairs with `PUBLISH`.
const SEE_PUBLISHED: Site = Site::new("ring.see_published", Ordering::Acquire);
// SYNC: ring.reserved; pairs with `RESERVE`.
const CHECK: Site = Site::new("ring.check", Ordering::Acquire);
// SYNC: ring.newest_end; pairs with `BEGIN_NEWEST`.
const CHECK_NEWEST: Site = Site::new("ring.check_newest", Ordering::Acquire);
// SYNC: ring.replaced_by; pairs with `SEE_REPLACED`.
const REPLACE: Site = Site::new("ring.replace", Ordering::Release);
// SYNC: ring.replaced_by; pairs with `REPLACE`.
const SEE_REPLACED: Site = Site::new("ring.see_replaced", Ordering::Acquire);

/// The sites whose ordering readers depend on. A loom test shows that each one is needed.
pub const SITES: [Site; 8] =
    [RESERVE, BEGIN_NEWEST, PUBLISH, SEE_PUBLISHED, CHECK, CHECK_NEWEST, REPLACE, SEE_REPLACED];

/// Announces that records below `seq` are about to be stored. Call it before storing the first.
#[inline]
pub fn reserve(memory: &impl Memory, seq: u64) {
    memory.store(RESERVED_AT, seq, RESERVED);
    memory.fence(RESERVE);
}

/// Stores records at byte `at` and publishes every record below `seq`. They must be reserved.
#[inline(always)]
pub fn commit(memory: &impl Memory, at: usize, records: &[u8], seq: u64) {
    memory.put(at, records);
    memory.store(PUBLISHED_AT, seq, PUBLISH);
}

/// Whether a record of this size, published alone, is also copied beside `published`.
#[inline(always)]
pub fn fits_beside(record_size: usize) -> bool {
    record_size <= NEWEST_MAX && record_size.is_multiple_of(8)
}

/// Calls `$known` with the record size as a constant, for each size that fits beside `published`. A
/// copy without loops takes a third of the time.
macro_rules! by_size {
    ($size:expr, $known:ident($($argument:expr),*), else $other:expr) => {
        by_size!($size, $known($($argument),*), $other, 8 16 24 32 40 48 56 64 72 80 88)
    };
    ($size:expr, $known:ident $arguments:tt, $other:expr, $($each:literal)*) => {
        match $size {
            $($each => by_size!($known, $each, $arguments),)*
            _ => $other,
        }
    };
    ($known:ident, $size:literal, ($($argument:expr),*)) => { $known::<$size>($($argument),*) };
}

/// Returns the offset of a word of the newest record's copy.
#[inline(always)]
fn newest_at(word: usize) -> usize {
    match word.checked_sub(NEWEST_HEAD_WORDS) {
        None => NEWEST_HEAD_AT + word * 8,
        Some(behind) => NEWEST_REST_AT + behind * 8,
    }
}

/// Stores one record at byte `at` and publishes every record below `seq`. If the record fits, it is
/// also copied beside `published`. It must be reserved.
#[inline(always)]
pub fn commit_one(memory: &impl Memory, at: usize, record: &[u8], seq: u64) {
    by_size!(record.len(), commit_known(memory, at, record, seq), else {
        commit(memory, at, record, seq);
    })
}

#[inline(always)]
fn commit_known<const SIZE: usize>(memory: &impl Memory, at: usize, record: &[u8], seq: u64) {
    let record = &record[..SIZE];
    memory.store(NEWEST_END_AT, seq, NEWEST_END);
    memory.fence(BEGIN_NEWEST);
    for (i, word) in record.as_chunks::<8>().0.iter().enumerate() {
        memory.store(newest_at(i), u64::from_le_bytes(*word), NEWEST);
    }
    commit(memory, at, record, seq);
}

/// Copies the record before `seq` from beside `published`, where `seq` is what [`published`]
/// returned. Returns false if that record is not there, or no longer; the copy is then invalid.
#[inline(always)]
pub fn copy_newest(memory: &impl Memory, seq: u64, into: &mut [u8]) -> bool {
    by_size!(into.len(), copy_known(memory, seq, into), else false)
}

#[inline(always)]
fn copy_known<const SIZE: usize>(memory: &impl Memory, seq: u64, into: &mut [u8]) -> bool {
    for (i, word) in into[..SIZE].as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = memory.load(newest_at(i), NEWEST).to_le_bytes();
    }
    memory.fence(CHECK_NEWEST);
    memory.load(NEWEST_END_AT, NEWEST_END) == seq
}

/// Returns the published seq: every record below it was stored.
#[inline(always)]
pub fn published(memory: &impl Memory) -> u64 {
    memory.load(PUBLISHED_AT, SEE_PUBLISHED)
}

/// Copies records from byte `at`; all must be below what [`published`] returned. Returns `reserved`
/// as it is after the copy: copied records at most a ring's length below it are whole.
#[inline(always)]
pub fn copy(memory: &impl Memory, at: usize, into: &mut [u8]) -> u64 {
    memory.get(at, into);
    memory.fence(CHECK);
    memory.load(RESERVED_AT, RESERVED)
}

/// Returns the reserved seq.
#[inline]
pub fn reserved(memory: &impl Memory) -> u64 {
    memory.load(RESERVED_AT, RESERVED)
}

/// Marks the ring as ended and names the ring that follows. The caller must know that the writer is
/// dead or has closed, and must have seen all that it published.
pub fn replace(memory: &impl Memory, segment_id: u64) {
    memory.store(REPLACED_BY_AT, segment_id, REPLACE);
}

/// Returns the segment id of the ring that follows, if there is one. What [`published`] returns
/// after that is final.
#[inline]
pub fn replaced_by(memory: &impl Memory) -> Option<u64> {
    Some(memory.load(REPLACED_BY_AT, SEE_REPLACED)).filter(|id| *id != 0)
}

/// Returns the seq of the oldest whole record, given `reserved` and the number of records that the
/// ring holds.
#[inline]
pub fn oldest_whole(reserved: u64, records: u64) -> u64 {
    reserved.saturating_sub(records)
}
