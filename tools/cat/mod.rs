//! dw-cat: the records of a feed, chosen, as text or bytes.

pub mod args;
mod emit;
mod pick;
pub mod run;
