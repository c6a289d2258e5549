//! dw-health: says whether a store is healthy, by its exit status.

pub mod args;
mod prometheus;
pub mod run;
