//! dw-mkfeed: creates feeds, proposes them from samples, deletes them.

pub mod args;
mod changes;
pub mod infer;
pub mod run;
pub mod sample;
