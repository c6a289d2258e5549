//! Text and records, both ways; no I/O.

pub mod number;
pub mod reject;
pub mod timestamp;
