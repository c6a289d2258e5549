//! dw-cat: the records of feeds, chosen, as text or bytes, and those that come.

pub mod args;
mod choice;
mod cursor;
mod emit;
mod live;
mod merged;
mod pace;
mod pick;
pub mod run;
mod sink;
