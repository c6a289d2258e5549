//! dw-cat: prints selected records of feeds as text or bytes, and follows new ones.

pub mod args;
mod choice;
mod cursor;
mod emit;
mod last;
mod live;
mod merged;
mod pace;
mod pick;
mod printed;
pub mod run;
mod sink;
