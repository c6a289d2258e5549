//! The system: the only `unsafe`, the only system calls.

#![allow(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_endian = "little", target_pointer_width = "64")))]
compile_error!("Deepwater maps its files as they are: it needs Linux, 64 bits and little-endian");

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
pub mod words;
