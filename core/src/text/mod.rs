//! Text and records, both ways; no I/O.

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
