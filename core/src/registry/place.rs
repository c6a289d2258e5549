//! How the parties that move a chunk from place to place agree, over any [`Memory`].
//!
//! A chunk's place is one word. Who wants to move it plans on what he has seen there, and swaps; if
//! somebody else was faster he plans again. The sealed part of the entry is complete before the
//! place says so.

use std::sync::atomic::Ordering;

use crate::os::memory::{Memory, Site};

/// Where an entry's sealed part begins.
pub const SEALED_AT: usize = 64;
/// Where an entry has its word: a chunk's place, a session's state.
pub const WORD_AT: usize = 112;

// SYNC: place; pairs with `SEE`. Who fails looks again, so a failure needs no order, and who
// succeeds has looked before.
const SWAP: Site = Site::new("place.swap", Ordering::Release);
// SYNC: place, session state; pairs with `SWAP`, and with the Release in `close_session`.
const SEE: Site = Site::new("place.see", Ordering::Acquire);

/// The sites whose order the parties depend on; each is shown to be needed.
pub const SITES: [Site; 2] = [SWAP, SEE];

/// Reads an entry, its word first: that says what of the entry is to be believed.
pub fn look(memory: &impl Memory, entry_at: usize, into: &mut [u8]) -> u64 {
    let word = memory.load(entry_at + WORD_AT, SEE);
    memory.get(entry_at, into);
    word
}

/// Moves a chunk from one place to another; whether it was still there.
pub fn swap(memory: &impl Memory, entry_at: usize, from: u64, to: u64) -> bool {
    memory.swap_if(entry_at + WORD_AT, from, to, SWAP)
}

/// Stores the sealed part of a chunk's entry and moves it to a place that says so; whether it was
/// still in the other.
pub fn seal(memory: &impl Memory, entry_at: usize, sealed: &[u8], from: u64, to: u64) -> bool {
    memory.put(entry_at + SEALED_AT, sealed);
    swap(memory, entry_at, from, to)
}
