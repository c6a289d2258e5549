//! Text and records, both ways; no I/O.

pub mod describe;
pub mod encode;
mod escape;
pub mod filter;
pub mod format;
mod npy;
mod program;
mod table;
