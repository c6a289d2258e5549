//! Ids of chunks: a number, and a part where a repair cut the chunk (FORMAT.md).

/// A chunk id's number is in its low bits; the part, where a repair cut the chunk, above.
const NUMBER_BITS: u32 = 48;
/// Numbers are below this: behind each there is another one.
pub const NUMBER_LIMIT: u64 = 1 << (NUMBER_BITS - 1);
/// The parts of a chunk lie between 0 and this.
pub const PART_LIMIT: u64 = 10_000;

/// The number in a chunk id.
pub fn number(chunk_id: u64) -> u64 {
    chunk_id & ((1 << NUMBER_BITS) - 1)
}

/// The part in a chunk id; 0: a whole chunk.
pub fn part(chunk_id: u64) -> u64 {
    chunk_id >> NUMBER_BITS
}

/// The id of a part of a chunk.
pub fn with_part(number: u64, part: u64) -> u64 {
    number | part << NUMBER_BITS
}

/// What chunks, and files of chunks, are sorted by.
pub fn order(chunk_id: u64) -> (u64, u64) {
    (number(chunk_id), part(chunk_id))
}
