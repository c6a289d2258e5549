//! The protocol for moving a chunk from one place to another, over any [`Memory`].
//!
//! A chunk's place is one word. A process that wants to move the chunk reads the word, plans, and
//! then swaps it. If another process was faster, the swap fails and it plans again. The sealed part
//! of the entry is complete before the place says that the chunk is sealed.

use std::sync::atomic::Ordering;

use crate::os::memory::{Memory, Site};

/// Offset of an entry's sealed part.
pub const SEALED_AT: usize = 64;
/// Offset of an entry's word: a chunk's place or a session's state.
pub const WORD_AT: usize = 112;

// SYNC: place; pairs with `SEE`. A process that fails looks again and one that succeeds has looked
// before, so neither needs an Acquire here.
const SWAP: Site = Site::new("place.swap", Ordering::Release);
// SYNC: place, session state; pairs with `SWAP`, and with the Release in `close_session`.
const SEE: Site = Site::new("place.see", Ordering::Acquire);

/// The sites whose ordering the protocol depends on. A loom test shows that each one is needed.
pub const SITES: [Site; 2] = [SWAP, SEE];

/// Reads an entry, its word first, because the word says which parts of the entry are valid.
pub fn look(memory: &impl Memory, entry_at: usize, into: &mut [u8]) -> u64 {
    let word = memory.load(entry_at + WORD_AT, SEE);
    memory.get(entry_at, into);
    word
}

/// Moves a chunk from place `from` to `to`. Returns whether it was still in `from`.
pub fn swap(memory: &impl Memory, entry_at: usize, from: u64, to: u64) -> bool {
    memory.swap_if(entry_at + WORD_AT, from, to, SWAP)
}

/// Stores the sealed part of a chunk's entry, then moves the chunk from place `from` to `to`.
/// Returns whether it was still in `from`.
pub fn seal(memory: &impl Memory, entry_at: usize, sealed: &[u8], from: u64, to: u64) -> bool {
    memory.put(entry_at + SEALED_AT, sealed);
    swap(memory, entry_at, from, to)
}
