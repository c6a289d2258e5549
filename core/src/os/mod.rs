//! The system: the only `unsafe`, the only system calls.

#![allow(unsafe_code)]

pub(crate) mod bus;
pub mod dir;
pub mod faults;
pub mod file;
pub mod futex;
pub mod growing;
pub mod lock;
pub mod map;
pub mod memory;
pub mod process;
pub mod signal;
pub mod terminal;
