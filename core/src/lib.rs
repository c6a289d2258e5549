//! Deepwater: a store for market data.
//!
//! A feed is a stream of fixed-width records. One writer appends to it, any number of readers read
//! beside it without a lock, and an index finds time ranges. `core/FORMAT.md` describes every byte;
//! this crate implements it.
//!
//! # The two data paths
//!
//! Writing: [`text`] parses rows straight into records, with a [`layout`] computed from a
//! [`schema`]. [`writer`] stores a batch in the live [`chunk`] and publishes it by storing one word
//! in the live page ([`registry::live`]). Its background thread does everything that may take time:
//! it sums and seals chunks, allocates space ahead, syncs, and writes checkpoints
//! ([`registry::feed`]).
//!
//! Reading: [`reader`] takes a snapshot, which holds the chunks and the seq up to which they are
//! read. Each chunk's index ([`chunk::index`]) gives the blocks that can match a selection. The
//! reader verifies these blocks and lends runs of records, which [`text::encode`] writes as text. A
//! follower ([`reader::follow`]) continues with records that are published later; a merge
//! ([`reader::merge`]) brings several feeds into one order.
//!
//! # The modules, from the bottom up
//!
//! | module | contents |
//! |---|---|
//! | [`error`], [`checksum`], `bytes` | errors; CRCs; fields at fixed offsets |
//! | [`time`], [`schema`] | time units; feed specifications |
//! | [`layout`], [`record`] | the offsets of fields; records as values |
//! | [`text`] | rows to records and back, without I/O |
//! | [`os`] | system calls, mappings, locks, signals: the only `unsafe` |
//! | [`log`] | the store's events, one line each |
//! | [`registry`] | the list of feeds, the table of each feed, the live page |
//! | [`chunk`] | a run of records and its index; what recovery may trust |
//! | [`ring`] | the newest records of a transient feed, in shared memory |
//! | [`reader`], [`writer`] | reading and writing feeds |
//! | [`store`] | the base directory: creates, opens and deletes feeds |
//! | [`gc`] | removes what is past its retention, and unfinished work |
//! | [`check`] | the health of a store |
//! | [`repair`] | finds damage, and saves what can be saved |
//!
//! Each module uses only those above it in this table; `tests/tidy.rs` checks that.
//!
//! ```
//! use deepwater::record::Value;
//! use deepwater::{Platform, schema::FeedSpec};
//! # fn main() -> deepwater::Result<()> {
//! # let folder = tempfile::tempdir().map_err(|e| deepwater::Error::io("no", "tmp", e))?;
//! # let base = folder.path().join("data");
//! let platform = Platform::create(&base)?;
//! platform.create_feed(
//!     &FeedSpec::from_json(
//!         r#"{"feed_name": "trades", "mode": "UF", "ts_col": "timestamp_us", "fields": [
//!             {"name": "price", "type": "float64", "desc": "Trade price"},
//!             {"name": "timestamp_us", "type": "uint64", "desc": "Event time"}]}"#,
//!     )?,
//!     false,
//! )?;
//! let mut writer = platform.create_writer("trades")?;
//! writer.write_values(&[Value::Float64(123.45), Value::Uint(1_738_368_000_000_000)])?;
//!
//! let reader = platform.create_reader("trades")?;
//! let mut scan = reader.read(1_738_368_000_000_000, 1_738_368_001_000_000)?;
//! scan.for_each(|record| {
//!     assert_eq!(record.get("price"), Some(Value::Float64(123.45)));
//!     true
//! })?;
//! assert!(scan.take_damage().is_empty());
//! # Ok(())
//! # }
//! ```

pub(crate) mod bytes;
pub mod check;
pub mod checksum;
pub mod chunk;
pub mod error;
pub mod gc;
pub mod layout;
pub mod log;
pub mod os;
pub mod reader;
pub mod record;
pub mod registry;
pub mod repair;
pub mod ring;
pub mod schema;
pub mod show;
pub mod store;
pub mod text;
pub mod time;
pub mod writer;

pub use error::{Error, Result};
pub use store::Platform;

/// The version of every file format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;
