//! dw-repair: finds damage, saves what can be saved, and names what is lost.

pub mod args;
pub mod run;
