//! Text and records, both ways; no I/O.

pub mod describe;
pub mod encode;
mod escape;
pub mod filter;
pub mod format;
mod npy;
mod program;
mod table;
mod csv;
pub mod input;
mod json;
pub mod mapping;
mod number;
mod raw;
pub mod reject;
mod shape;
mod tape;
pub mod timestamp;
mod value;
