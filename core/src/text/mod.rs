//! Converts text to records and back, without I/O.

mod csv;
pub mod describe;
pub mod encode;
mod escape;
pub mod filter;
pub mod format;
pub mod input;
mod json;
pub mod mapping;
mod npy;
mod number;
mod program;
mod raw;
pub mod reject;
mod shape;
mod table;
mod tape;
pub mod timestamp;
mod value;
pub mod words;
