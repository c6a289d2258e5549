//! Deepwater: a store for market data.

pub mod error;
pub mod layout;
pub mod schema;
pub mod text;
pub mod time;

pub use error::{Error, Result};

/// The version of every file format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;
