//! The one writer of a feed: of chunks ([`chunks`]) or of a ring ([`ring`]).
//!
//! Either stores records and publishes them, and leaves everything slow to a background thread.

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

/// Called with a seq each time all records below it have become durable.
pub type OnDurable = Box<dyn FnMut(u64) + Send>;

/// How a writer is opened.
#[derive(Default)]
pub struct WriterOptions {
    /// When records become durable; none: as the feed's policy says.
    pub sync: Option<Sync>,
    /// Told of durable records, from the background thread.
    pub on_durable: Option<OnDurable>,
}

/// What an append did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Seq of the first record stored; those stored follow it without a gap.
    pub first_seq: u64,
    /// Records stored.
    pub count: u64,
    /// Positions in the batch of records refused as late (`order: reject` only).
    pub rejected: Vec<usize>,
}

/// Appends records to a feed. One writer a feed; readers need no leave of it.
///
/// Records become visible to readers when the call returns, durable as the sync policy says; those
/// of a transient feed (`persist: false`) never. Dropping a writer closes it; [`Writer::close`]
/// says whether that went well.
pub struct Writer {
    kind: Kind,
}

enum Kind {
    Chunks(Box<ChunkWriter>),
    Ring(Box<RingWriter>),
}

impl Writer {
    /// Opens a feed for writing: takes its lock, takes over what the last writer left, begins a
    /// session.
    ///
    /// # Errors
    /// [`Error::Locked`] names the other writer; [`Error::Invalid`] for an option that the feed
    /// cannot have, or a ring that there is no room for; [`Error::Damaged`] and [`Error::Io`] as
    /// they come.
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

    /// Files that recovery has moved to quarantine, a line each: chunks that a power loss has left
    /// without anything that proves them.
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

    /// The feed's layout.
    pub fn layout(&self) -> &Layout {
        &self.feed().layout
    }

    /// The seq that the next record gets.
    #[inline]
    pub fn next_seq(&self) -> u64 {
        match &self.kind {
            Kind::Chunks(writer) => writer.next_seq(),
            Kind::Ring(writer) => writer.next_seq(),
        }
    }

    /// Appends one record, exactly as long as the layout says. It is visible to readers when this
    /// returns.
    ///
    /// # Errors
    /// As [`Writer::append_batch`].
    #[inline]
    pub fn append(&mut self, record: &[u8]) -> Result<Appended> {
        self.append_marked(record, &[])
    }

    /// Appends one record given as a value a field, in record order: the seed's `write_values`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that does not fit its field; as [`Writer::append_batch`].
    pub fn write_values(&mut self, values: &[Value]) -> Result<Appended> {
        let mut record = self.layout().zeroed();
        write_values(self.layout(), values, &mut record)?;
        self.append_marked(&record, &[])
    }

    /// Appends whole records, back to back; readers see all of them or none. Of a batch that is
    /// larger than a quarter of a transient feed's ring they see one quarter after the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `records` is no whole number of records, or more than fit in 256
    /// chunks; [`Error::Io`] where there is no room, and then nothing of the batch is stored;
    /// [`Error::Poisoned`] after a failed sync.
    #[inline]
    pub fn append_batch(&mut self, records: &[u8]) -> Result<Appended> {
        self.append_marked(records, &[])
    }

    /// As [`Writer::append_batch`], and marks the records at those positions in the batch
    /// (ascending) as ones to start playback from.
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

    /// Wakes the followers that sleep. Without this the background thread does so within a
    /// millisecond or two: a wake costs the caller a system call where somebody sleeps.
    pub fn wake(&self) {
        match &self.kind {
            Kind::Chunks(writer) => writer.wake(),
            Kind::Ring(writer) => writer.wake(),
        }
    }

    /// Marks the next record to be appended as one to start playback from (the seed's
    /// `create_index`). In a transient feed that append is refused.
    pub fn mark(&mut self) {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.mark(),
            Kind::Ring(writer) => writer.mark(),
        }
    }

    /// Adds to the session's counts of rows refused and passed over before they became records.
    pub fn count_rows(&mut self, rejected: u64, passed_over: u64) {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.count_rows(rejected, passed_over),
            Kind::Ring(writer) => writer.count_rows(rejected, passed_over),
        }
    }

    /// Keeps the reason that a row was refused for, in words: the log gives the last one.
    pub fn note_reject(&mut self, why: String) {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.note_reject(why),
            Kind::Ring(writer) => writer.note_reject(why),
        }
    }

    /// The session's counts so far.
    pub fn counters(&self) -> Counters {
        match &self.kind {
            Kind::Chunks(writer) => writer.counters(),
            Kind::Ring(writer) => writer.counters(),
        }
    }

    /// Everything below this seq is on disk; nothing of a transient feed is.
    pub fn durable(&self) -> u64 {
        match &self.kind {
            Kind::Chunks(writer) => writer.durable(),
            Kind::Ring(_) => 0,
        }
    }

    /// Makes every record appended so far durable before it returns.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if a sync failed: the writer takes nothing more; [`Error::Invalid`] for
    /// a transient feed.
    pub fn sync_now(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Chunks(writer) => writer.sync_now(),
            Kind::Ring(writer) => {
                let name = &writer.feed().name;
                Err(Error::Invalid(format!("{name}: a ring is never on disk")))
            }
        }
    }

    /// Seals what is open, makes everything durable and ends the session with that reason. A ring
    /// stays where it is, marked closed.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if something could not be made durable; what was published stays
    /// readable, and the next writer or dw-repair takes care of it.
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
        // Whoever wants to know how it went calls `close`.
        let _ = self.finish(SessionEnd::Ended);
    }
}

/// Refuses what is no whole number of records.
fn check_whole(feed: &FeedInfo, records: &[u8]) -> Result<()> {
    let (len, size) = (records.len(), feed.layout.record_size());
    if len.is_multiple_of(size) {
        return Ok(());
    }
    let what = format!("{len} bytes are no whole number of records of {size}");
    Err(Error::Invalid(format!("{}: {what}", feed.name)))
}
