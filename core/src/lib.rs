//! Deepwater: a store for market data.
//!
//! A feed is a stream of fixed-width records. One writer appends to it, any number of readers read
//! beside it without a lock, and time ranges are found through an index. `core/FORMAT.md` is the
//! description of every byte; this crate is its implementation.
//!
//! # The two ways of the data
//!
//! Bytes in: [`text`] parses rows straight into records (their [`layout`] computed from a
//! [`schema`]), [`writer`] stores a batch in the live [`chunk`] and publishes it with one store of
//! a word in the live page ([`registry::live`]). Its background thread does all that may take time:
//! checksums, room ahead, syncs and checkpoints ([`registry::feed`]), seals.
//!
//! Records out: [`reader`] takes a snapshot (up to which seq, which chunks), finds the blocks that
//! a selection can match through each chunk's index ([`chunk::index`]), verifies them and lends
//! runs of records, which [`text::encode`] writes as text. A follower ([`reader::follow`]) goes on
//! with what is published later; a merge ([`reader::merge`]) brings several feeds into one order.
//!
//! # The rooms, from the ground up
//!
//! | module | what is in it |
//! |---|---|
//! | [`error`], [`checksum`], `bytes` | what can go wrong; CRCs; fields at fixed offsets |
//! | [`time`], [`schema`] | units; what users say a feed is |
//! | [`layout`], [`record`] | where fields lie; records as values |
//! | [`text`] | rows to records and back, without I/O |
//! | [`os`] | system calls, mappings, locks, signals: the only `unsafe` |
//! | [`log`] | what happened to the store, a line an event |
//! | [`registry`] | which feeds there are, what each consists of, the live page |
//! | [`chunk`] | a run of records and its index; what recovery may believe |
//! | [`ring`] | the newest records of a transient feed, in shared memory |
//! | [`reader`], [`writer`] | the two users of it all |
//! | [`store`] | the base directory: makes, opens and deletes feeds |
//! | [`gc`] | removes what is past its retention, and what was left half done |
//! | [`check`] | whether a store is well |
//! | [`repair`] | what is damaged, and what can be saved |
//!
//! Each uses only those above it in this table (`tests/tidy.rs` holds that).
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
