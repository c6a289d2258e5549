//! dw-repair: finds damage, saves what can be saved, and names what is gone.

pub mod args;
pub mod run;
