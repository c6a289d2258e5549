//! What every tool does the same way: its arguments, its output, its messages and its exit.

pub mod durations;
pub mod sizes;
pub mod times;
pub mod tz;
