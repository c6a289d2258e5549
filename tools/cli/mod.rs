//! What the tools have in common: arguments, output, messages and exit status.

pub mod args;
pub mod bounded;
pub mod color;
pub mod durations;
pub mod exit;
pub mod listing;
pub mod messages;
pub mod out;
pub mod page;
pub mod progress;
pub mod sizes;
pub mod sniff;
pub mod times;
pub mod tz;
