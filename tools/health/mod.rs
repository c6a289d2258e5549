//! dw-health: whether a store is well, in the exit status.

pub mod args;
mod prometheus;
pub mod run;
