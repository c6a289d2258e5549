//! dw-ls: lists feeds and their parts.

pub mod args;
mod gaps;
pub mod run;
mod watch;
