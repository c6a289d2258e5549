//! dw-gc: removes what is past its retention or over its size.

pub mod args;
mod cron;
pub mod run;
