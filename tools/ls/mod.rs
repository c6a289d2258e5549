//! dw-ls: what feeds there are, and what they consist of.

pub mod args;
mod gaps;
pub mod run;
mod watch;
