//! Deepwater: a store for market data.

pub(crate) mod bytes;
pub mod checksum;
pub mod chunk;
pub mod error;
pub mod layout;
pub mod os;
pub mod reader;
pub mod record;
pub mod registry;
pub mod schema;
pub mod store;
pub mod text;
pub mod time;
pub mod writer;

pub use error::{Error, Result};
pub use store::Platform;

/// The version of every file format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;
