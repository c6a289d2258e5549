//! How the writer of a ring and its readers agree (FORMAT.md, NAME.ring), over any [`Memory`].

use std::sync::atomic::Ordering;

use crate::os::memory::{Memory, Site};
use crate::registry::live::PUBLISHED_AT;

/// What is more than a ring below it may be overwritten.
pub const RESERVED_AT: usize = 1152;
/// The segment id of the ring that follows; 0 while there is none.
pub const REPLACED_BY_AT: usize = 1280;

const RESERVED: Site = Site::relaxed("ring.reserved");
// SYNC: ring.reserved; pairs with `CHECK`: whoever copied a byte stored behind this fence loads a
// `reserved` that covers it.
const RESERVE: Site = Site::new("ring.reserve", Ordering::Release);
// SYNC: published; pairs with `SEE_PUBLISHED`.
const PUBLISH: Site = Site::new("ring.publish", Ordering::Release);
// SYNC: published; pairs with `PUBLISH`.
const SEE_PUBLISHED: Site = Site::new("ring.see_published", Ordering::Acquire);
// SYNC: ring.reserved; pairs with `RESERVE`.
const CHECK: Site = Site::new("ring.check", Ordering::Acquire);
// SYNC: ring.replaced_by; pairs with `SEE_REPLACED`.
const REPLACE: Site = Site::new("ring.replace", Ordering::Release);
// SYNC: ring.replaced_by; pairs with `REPLACE`.
const SEE_REPLACED: Site = Site::new("ring.see_replaced", Ordering::Acquire);

/// The sites whose order a reader's eyes depend on; each is shown to be needed.
pub const SITES: [Site; 6] = [RESERVE, PUBLISH, SEE_PUBLISHED, CHECK, REPLACE, SEE_REPLACED];

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
