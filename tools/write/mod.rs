//! dw-write: text or records in, a feed written.

pub mod args;
mod input;
mod report;
pub mod run;
