//! dw-cat: the records of feeds, chosen, as text or bytes, and those that come.

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
