//! The one writer of a feed: it writes chunks ([`chunks`]) or a ring ([`ring`]).
//!
//! Both store and publish records, and leave everything slow to a background thread.

mod adopt;
mod background;
mod chunks;
mod clocks;
mod flush;
mod folder;
mod journal;
mod lease;
mod order;
pub(crate) mod recover;
mod ring;
mod stage;

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::os::file;
use crate::record::{Value, write_values};
use crate::registry::holder::Lockable;
use crate::registry::info::FeedInfo;
use crate::registry::live::Counters;
use crate::schema::Sync;
use crate::writer::chunks::ChunkWriter;
use crate::writer::ring::RingWriter;

pub use crate::registry::feed::SessionEnd;
pub use recover::{Settled, settle};

/// Called with a seq whenever all records below it have become durable.
pub type OnDurable = Box<dyn FnMut(u64) + Send>;

/// How a writer is opened.
#[derive(Default)]
pub struct WriterOptions {
    /// When records become durable. `None`: as the feed's policy says.
    pub sync: Option<Sync>,
    /// Called when records become durable, from the background thread.
    pub on_durable: Option<OnDurable>,
}

/// The result of an append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Seq of the first record stored. The others follow without a gap.
    pub first_seq: u64,
    /// Number of records stored.
    pub count: u64,
    /// Positions in the batch of late records that were rejected (`order: reject` only).
    pub rejected: Vec<usize>,
}

/// Appends records to a feed. A feed has one writer at a time; readers need no permission from it.
///
/// When a call returns, its records are visible to readers. They become durable as the sync policy
/// says; those of a transient feed (`persist: false`) never do. Dropping a writer closes it;
/// [`Writer::close`] also reports whether that succeeded.
pub struct Writer {
    kind: Kind,
}

enum Kind {
    Chunks(Box<ChunkWriter>),
    Ring(Box<RingWriter>),
}

impl Writer {
    /// Opens a feed for writing: takes its lock, recovers what the last writer left, and begins a
    /// session.
    ///
    /// # Errors
    /// [`Error::Locked`] names the other writer. [`Error::Invalid`] for an option that the feed
    /// does not support, or if there is no room for its ring. [`Error::Damaged`] and [`Error::Io`]
    /// as they occur.
    pub fn open(feed: &FeedInfo, options: WriterOptions) -> Result<Writer> {
        if let Some(kind) = file::network_file_system(&feed.folder) {
            return Err(Error::Invalid(format!(
                "{}: on a network file system ({kind}); a store is written on a local one",
                feed.folder.display()
            )));
        }
        let lock = Lockable::of(feed).take()?;
        let kind = match feed.spec.policy.persist {
            true => Kind::Chunks(Box::new(ChunkWriter::open(feed, options, lock)?)),
            false => Kind::Ring(Box::new(RingWriter::open(feed, options, lock)?)),
        };
        Ok(Writer { kind })
    }

    /// Returns the files that recovery moved to quarantine, one line each: chunks that nothing
    /// proves after a power loss.
    pub fn moved(&self) -> &[String] {
        match &self.kind {
            Kind::Chunks(writer) => &writer.moved,
            Kind::Ring(_) => &[],
        }
    }

    fn feed(&self) -> &FeedInfo {
        match &self.kind {
            Kind::Chunks(writer) => writer.feed(),
            Kind::Ring(writer) => writer.feed(),
        }
    }

    /// Returns the feed's layout.
    pub fn layout(&self) -> &Layout {
        &self.feed().layout
    }

    /// Returns the seq that the next record gets.
    #[inline]
    pub fn next_seq(&self) -> u64 {
        match &self.kind {
            Kind::Chunks(writer) => writer.next_seq(),
            Kind::Ring(writer) => writer.next_seq(),
        }
    }

    /// Appends one record, of exactly the layout's size. It is visible to readers when this
    /// returns.
    ///
    /// # Errors
    /// As [`Writer::append_batch`].
    #[inline]
    pub fn append(&mut self, record: &[u8]) -> Result<Appended> {
        self.append_marked(record, &[])
    }

    /// Appends one record, given as one value per field in record order. Same as `write_values` of
    /// the Python Deepwater API.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that does not fit its field; as [`Writer::append_batch`].
    pub fn write_values(&mut self, values: &[Value]) -> Result<Appended> {
        let mut record = self.layout().zeroed();
        write_values(self.layout(), values, &mut record)?;
        self.append_marked(&record, &[])
    }

    /// Appends whole records, back to back. Readers see all of them or none. Exception: a batch
    /// larger than a quarter of a transient feed's ring is published one quarter at a time.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `records` is not a whole number of records, or more than fit in 256
    /// chunks. [`Error::Io`] if there is no room; then nothing of the batch is stored.
    /// [`Error::Poisoned`] after a failed sync.
    #[inline]
    pub fn append_batch(&mut self, records: &[u8]) -> Result<Appended> {
        self.append_marked(records, &[])
    }

    /// As [`Writer::append_batch`], and marks the records at these positions in the batch
    /// (ascending) as starting points for playback.
    ///
    /// # Errors
    /// As [`Writer::append_batch`]; [`Error::Invalid`] for marks in a transient feed.
    #[inline]
    pub fn append_marked(&mut self, records: &[u8], marks: &[usize]) -> Result<Appended> {
        match &mut self.kind {
            Kind::Ring(writer) => writer.append(records, marks),
            Kind::Chunks(writer) => writer.append_marked(records, marks),
        }
    }

    /// Wakes sleeping followers. Otherwise the background thread wakes them within a millisecond or
    /// two. A wake-up costs the caller a system call if a follower sleeps.
    pub fn wake(&self) {
        match &self.kind {
            Kind::Chunks(writer) => writer.wake(),
            Kind::Ring(writer) => writer.wake(),
        }
    }

    /// Marks the next record to be appended as a starting point for playback. Same as
    /// `create_index` of the Python Deepwater API. In a transient feed the append then fails.
    pub fn mark(&mut self) {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.mark(),
            Kind::Ring(writer) => writer.mark(),
        }
    }

    /// Adds to the session's counts of rows rejected or passed over before they became records.
    pub fn count_rows(&mut self, rejected: u64, passed_over: u64) {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.count_rows(rejected, passed_over),
            Kind::Ring(writer) => writer.count_rows(rejected, passed_over),
        }
    }

    /// Records why a row was rejected. The log shows the last reason.
    pub fn note_reject(&mut self, why: String) {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.note_reject(why),
            Kind::Ring(writer) => writer.note_reject(why),
        }
    }

    /// Returns the session's counts so far.
    pub fn counters(&self) -> Counters {
        match &self.kind {
            Kind::Chunks(writer) => writer.counters(),
            Kind::Ring(writer) => writer.counters(),
        }
    }

    /// Returns the seq below which all records are on disk; 0 for a transient feed.
    pub fn durable(&self) -> u64 {
        match &self.kind {
            Kind::Chunks(writer) => writer.durable(),
            Kind::Ring(_) => 0,
        }
    }

    /// Returns when every record appended so far is durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if a sync failed: the writer then accepts no more records.
    /// [`Error::Invalid`] for a transient feed.
    pub fn sync_now(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.sync_now(),
            Kind::Ring(writer) => {
                let name = &writer.feed().name;
                Err(Error::Invalid(format!("{name}: a ring is never on disk")))
            }
        }
    }

    /// Seals the open chunk, makes everything durable and ends the session with `reason`. A ring
    /// stays in place, marked as closed.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if something could not be made durable. Published records stay readable,
    /// and the next writer or dw-repair recovers them.
    pub fn close(mut self, reason: SessionEnd) -> Result<()> {
        self.finish(reason)
    }

    fn finish(&mut self, reason: SessionEnd) -> Result<()> {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.finish(reason),
            Kind::Ring(writer) => writer.finish(reason),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Callers who need the result call `close`.
        let _ = self.finish(SessionEnd::Ended);
    }
}

/// Checks that `records` is a whole number of records.
fn check_whole(feed: &FeedInfo, records: &[u8]) -> Result<()> {
    let (len, size) = (records.len(), feed.layout.record_size());
    if len.is_multiple_of(size) {
        return Ok(());
    }
    let what = format!("{len} bytes are no whole number of records of {size}");
    Err(Error::Invalid(format!("{}: {what}", feed.name)))
}
