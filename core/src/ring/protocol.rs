//! How the writer of a ring and its readers agree (FORMAT.md, NAME.ring), over any [`Memory`].

use std::sync::atomic::Ordering;

use crate::os::memory::{Memory, Site};
use crate::registry::live::PUBLISHED_AT;

/// What is more than a ring below it may be overwritten.
pub const RESERVED_AT: usize = 1152;
/// Where the newest record lies once more, if it came alone: first the seq behind it.
pub const NEWEST_END_AT: usize = 344;
/// Its first bytes, in the cache line of `published`.
pub const NEWEST_HEAD_AT: usize = 352;
/// The rest of it, in the line beside that one.
pub const NEWEST_REST_AT: usize = 264;
const NEWEST_HEAD_WORDS: usize = 4;
/// The largest record for which there is room, in bytes.
const NEWEST_MAX: usize = 8 * NEWEST_HEAD_WORDS + 56;
const _: () = assert!(NEWEST_MAX == 88, "by_size! has a case for each size");
/// The segment id of the ring that follows; 0 while there is none.
pub const REPLACED_BY_AT: usize = 1280;

const RESERVED: Site = Site::relaxed("ring.reserved");
// SYNC: ring.reserved; pairs with `CHECK`: whoever copied a byte stored behind this fence loads a
// `reserved` that covers it.
const RESERVE: Site = Site::new("ring.reserve", Ordering::Release);
const NEWEST_END: Site = Site::relaxed("ring.newest_end");
const NEWEST: Site = Site::relaxed("ring.newest");
// SYNC: ring.newest_end; pairs with `CHECK_NEWEST`: whoever copied a byte stored behind this fence
// loads a `newest_end` that is no older.
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

/// The sites whose order a reader's eyes depend on; each is shown to be needed.
pub const SITES: [Site; 8] =
    [RESERVE, BEGIN_NEWEST, PUBLISH, SEE_PUBLISHED, CHECK, CHECK_NEWEST, REPLACE, SEE_REPLACED];

/// Says that records below `seq` are about to be stored. Before the first of them is.
#[inline]
pub fn reserve(memory: &impl Memory, seq: u64) {
    memory.store(RESERVED_AT, seq, RESERVED);
    memory.fence(RESERVE);
}

/// Stores records at byte `at` and publishes every record below `seq`. They are reserved.
#[inline(always)]
pub fn commit(memory: &impl Memory, at: usize, records: &[u8], seq: u64) {
    memory.put(at, records);
    memory.store(PUBLISHED_AT, seq, PUBLISH);
}

/// Whether records of that size lie beside `published` when they come alone.
#[inline(always)]
pub fn fits_beside(record_size: usize) -> bool {
    record_size <= NEWEST_MAX && record_size.is_multiple_of(8)
}

/// Calls `$known`, of which the compiler makes one for each size of a record that fits beside
/// `published`: without loops such a copy takes a third of the time.
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

/// Where a word of the newest record lies.
#[inline(always)]
fn newest_at(word: usize) -> usize {
    match word.checked_sub(NEWEST_HEAD_WORDS) {
        None => NEWEST_HEAD_AT + word * 8,
        Some(behind) => NEWEST_REST_AT + behind * 8,
    }
}

/// Stores one record at byte `at` and publishes it, as every record below `seq`; where it fits, it
/// also lies beside `published`. It is reserved.
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

/// Copies the record before `seq` from beside `published`, which gave that seq. False if another
/// one lies there by now, or none: what was copied is nothing then.
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

/// Every record below this seq was stored.
#[inline(always)]
pub fn published(memory: &impl Memory) -> u64 {
    memory.load(PUBLISHED_AT, SEE_PUBLISHED)
}

/// Copies records at byte `at` out, all of them below what [`published`] gave, and returns what is
/// reserved by then: of the copy, those are whole that are at most a ring below it.
#[inline(always)]
pub fn copy(memory: &impl Memory, at: usize, into: &mut [u8]) -> u64 {
    memory.get(at, into);
    memory.fence(CHECK);
    memory.load(RESERVED_AT, RESERVED)
}

/// What is reserved now.
#[inline]
pub fn reserved(memory: &impl Memory) -> u64 {
    memory.load(RESERVED_AT, RESERVED)
}

/// Says that no record follows here, and which ring does. The caller knows that the writer is dead
/// or has closed, and has seen all that it published.
pub fn replace(memory: &impl Memory, segment_id: u64) {
    memory.store(REPLACED_BY_AT, segment_id, REPLACE);
}

/// The segment id of the ring that follows, if one does; then what [`published`] gives from now on
/// is all there will be.
#[inline]
pub fn replaced_by(memory: &impl Memory) -> Option<u64> {
    Some(memory.load(REPLACED_BY_AT, SEE_REPLACED)).filter(|id| *id != 0)
}

/// The seq of the oldest record that is whole when that much is reserved, in a ring of so many
/// records.
#[inline]
pub fn oldest_whole(reserved: u64, records: u64) -> u64 {
    reserved.saturating_sub(records)
}
