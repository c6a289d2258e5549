//! dw-write: appends text or raw records to a feed.

pub mod args;
mod input;
mod report;
pub mod run;
