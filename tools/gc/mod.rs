//! dw-gc: removes chunks past their feed's retention or size limit.

pub mod args;
mod cron;
pub mod run;
