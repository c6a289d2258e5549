//! The one writer of a feed: stores records, publishes them, and leaves everything slow to a
//! background thread.

mod adopt;
mod background;
mod flush;
pub(crate) mod recover;
mod stage;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::chunk::index::IndexHeader;
use crate::chunk::live::{LiveChunk, RunTimes};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::log::Log;
use crate::os::lock::Lock;
use crate::os::{faults, file, process};
use crate::record::{Value, write_values};
use crate::registry::feed::{
    ChunkEnd, ChunkEntry, FeedRegistry, Geometry, Seal, SessionClose, SessionEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::Counters;
use crate::registry::segments::Segments;
use crate::registry::view::LiveView;
use crate::schema::{Order, Sync};
use crate::writer::stage::Page;

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

/// Set in `attention`: the chunk is old, start another.
const ROTATE: u32 = 1;
/// Set in `attention`: the background thread failed.
const FAILED: u32 = 2;
/// Set in `attention`: somebody has unlinked what is in shared memory; make it again.
const RESTAGE: u32 = 4;
/// Seqs are leased in steps of this.
const LEASE_STEP: u64 = 1 << 24;

/// What the writing thread and the background thread share.
struct Shared {
    feed: FeedInfo,
    geometry: Geometry,
    registry: FeedRegistry,
    /// Where the session has its shared-memory files.
    segments: Segments,
    page: Mutex<Arc<Page>>,
    /// What was published when it was rung last.
    woken: AtomicU64,
    session_id: u64,
    queue: Mutex<Queue>,
    /// Held by who makes a chunk, until it has its place in the table or in `Queue::ready`: chunks
    /// are numbered in the order of their records. Taken before `queue`.
    making: Mutex<()>,
    /// Held by who raises the lease.
    leasing: Mutex<()>,
    wake: Condvar,
    /// Something became durable, was sealed, or failed.
    progress: Condvar,
    attention: AtomicU32,
    lease: AtomicU64,
    log: Log,
    /// Why a row was refused last, for the log.
    last_reject: Mutex<String>,
}

#[derive(Default)]
struct Queue {
    /// Chunks in the table that are not sealed; the last one is being written.
    chunks: Vec<Arc<LiveChunk>>,
    /// The next chunk, made ahead.
    ready: Option<Arc<LiveChunk>>,
    /// The id that the next chunk to be made gets.
    next_chunk_id: u64,
    /// A sync is asked for, of everything below this seq.
    sync_to: u64,
    /// Everything below it is on disk.
    durable: u64,
    /// The last chunk is to be sealed though none follows it.
    early: Option<Early>,
    /// The writing thread waits for memory of chunks that are on disk.
    short_of_memory: bool,
    /// How often memory was given back.
    released: u64,
    stop: Option<SessionEnd>,
    failure: Option<String>,
}

/// A staged chunk that ends because its memory is wanted.
#[derive(Clone, Copy)]
struct Early {
    chunk_id: u64,
    end_seq: u64,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn make_chunk(&self, chunk_id: u64) -> Result<LiveChunk> {
        let header = IndexHeader {
            id: self.feed.id,
            chunk_id,
            base_seq: 0,
            geometry: self.geometry,
            block_capacity: self.geometry.blocks_in(self.feed.spec.policy.chunk_size_bytes),
            created_us: process::wall_us(),
            session_id: self.session_id,
        };
        let mode = self.feed.spec.policy.file_mode;
        if !self.is_staged() {
            return LiveChunk::create(&self.feed.folder, header, mode);
        }
        let folder = self.segments.chunk_folder(&self.feed.name);
        LiveChunk::create(&folder, header, mode).map(LiveChunk::in_memory)
    }

    /// The pages shared with readers.
    fn page(&self) -> Arc<Page> {
        Arc::clone(&self.page.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// The chunk made ahead, or one made now. The caller holds `making`.
    fn take_chunk(&self) -> Result<Arc<LiveChunk>> {
        let (ready, chunk_id) = {
            let mut queue = self.queue();
            (queue.ready.take(), queue.next_chunk_id)
        };
        if let Some(chunk) = ready {
            return Ok(chunk);
        }
        let chunk = Arc::new(self.make_chunk(chunk_id)?);
        self.queue().next_chunk_id += 1;
        Ok(chunk)
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn leasing(&self) -> MutexGuard<'_, ()> {
        self.leasing.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes the followers that sleep, if there is news since the last time.
    fn wake(&self, page: &Page, published: u64) {
        if let Some(wait) = &page.wait
            && self.woken.swap(published, Ordering::Relaxed) != published
        {
            wait.wake();
        }
    }

    /// Ends all writing: the next append, and whoever waits for a sync, gets this as its error.
    fn fail(&self, why: String) {
        self.queue().failure.get_or_insert(why);
        self.attention.fetch_or(FAILED, Ordering::Release);
        self.progress.notify_all();
    }

    /// Waits while too many chunks have ended and are not sealed: each holds files open, and the
    /// next writer would have to seal them all. Only for those that can be sealed: a batch that is
    /// not published yet may fill any number.
    fn wait_for_seals(&self, published: u64) -> Result<()> {
        let backlog = self.backlog_chunks();
        let mut queue = self.queue();
        while queue.failure.is_none() {
            let ended = queue.chunks.windows(2).filter(|pair| pair[1].base_seq() <= published);
            if ended.count() < backlog {
                return Ok(());
            }
            self.wake.notify_one();
            queue = self.progress.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        drop(queue);
        Err(self.poisoned())
    }

    fn poisoned(&self) -> Error {
        let failure = self.queue().failure.clone();
        Error::Poisoned(failure.unwrap_or_else(|| "a failure in the background".into()))
    }
}

/// Appends records to a feed. One writer a feed; readers need no leave of it.
///
/// Records become visible to readers when the call returns, durable as the sync policy says.
/// Dropping a writer closes it; [`Writer::close`] says whether that went well.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _lock: Lock,
    page: Arc<Page>,
    chunk: Option<Arc<LiveChunk>>,
    /// Byte in the chunk where the next record goes.
    at: usize,
    /// Byte in the chunk up to which there is room now.
    limit: usize,
    next_seq: u64,
    lease: u64,
    running_max: u64,
    /// Time of the record stored last.
    last_time: u64,
    counters: Counters,
    order: Order,
    sync: Sync,
    mark_next: bool,
    kept: Vec<u8>,
}

impl Writer {
    /// Opens a feed for writing: takes its lock, seals what the last writer left, begins a session.
    ///
    /// # Errors
    /// [`Error::Locked`] names the other writer; [`Error::Damaged`] and [`Error::Io`] as they come.
    pub fn open(feed: &FeedInfo, options: WriterOptions) -> Result<Writer> {
        if let Some(kind) = file::network_file_system(&feed.folder) {
            return Err(Error::Invalid(format!(
                "{}: on a network file system ({kind}); a store is written on a local one",
                feed.folder.display()
            )));
        }
        if !feed.spec.policy.persist {
            return Err(Error::Invalid(format!(
                "{}: a transient feed (persist false), which this version does not write",
                feed.name
            )));
        }
        let Some(lock) = Lock::try_feed(&feed.lock)? else {
            return Err(Error::Locked { feed: feed.name.clone(), pid: LiveView::pid(feed) });
        };
        let sync = options.sync.unwrap_or(feed.spec.policy.sync);
        let start = recover::start(feed)?;
        let log = feed.log();
        let (session_id, seq) = (start.session.session_id, start.next_seq);
        let fields: [(&str, &dyn Display); 3] =
            [("feed", &feed.name), ("session", &session_id), ("seq", &seq)];
        log.event("writer-opened", &fields);
        let shared = Arc::new(Shared {
            feed: feed.clone(),
            geometry: feed.geometry(),
            registry: start.registry,
            segments: start.segments,
            page: Mutex::new(Arc::new(start.page)),
            woken: AtomicU64::new(start.next_seq),
            session_id: start.session.session_id,
            queue: Mutex::new(Queue {
                next_chunk_id: start.next_chunk_id,
                durable: start.next_seq,
                sync_to: start.next_seq,
                ..Queue::default()
            }),
            making: Mutex::new(()),
            leasing: Mutex::new(()),
            wake: Condvar::new(),
            progress: Condvar::new(),
            attention: AtomicU32::new(0),
            lease: AtomicU64::new(start.lease),
            log,
            last_reject: Mutex::default(),
        });
        let thread =
            background::start(Arc::clone(&shared), start.session, sync, options.on_durable)?;
        Ok(Writer {
            page: shared.page(),
            shared,
            thread: Some(thread),
            _lock: lock,
            chunk: None,
            at: 0,
            limit: 0,
            next_seq: start.next_seq,
            lease: start.lease,
            running_max: start.running_max,
            last_time: 0,
            counters: Counters::default(),
            order: feed.spec.policy.order,
            sync,
            mark_next: false,
            kept: Vec::new(),
        })
    }

    /// The feed's layout.
    pub fn layout(&self) -> &Layout {
        &self.shared.feed.layout
    }

    /// The seq that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Appends one record, exactly as long as the layout says. It is visible to readers when this
    /// returns.
    ///
    /// # Errors
    /// As [`Writer::append_batch`].
    #[inline]
    pub fn append(&mut self, record: &[u8]) -> Result<Appended> {
        self.append_batch(record)
    }

    /// Appends one record given as a value a field, in record order: the seed's `write_values`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that does not fit its field; as [`Writer::append_batch`].
    pub fn write_values(&mut self, values: &[Value]) -> Result<Appended> {
        let mut record = self.shared.feed.layout.zeroed();
        write_values(&self.shared.feed.layout, values, &mut record)?;
        self.append_batch(&record)
    }

    /// Appends whole records, back to back; readers see all of them or none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `records` is no whole number of records; [`Error::Io`] where there is
    /// no room, and then nothing of the batch is stored; [`Error::Poisoned`] after a failed sync.
    pub fn append_batch(&mut self, records: &[u8]) -> Result<Appended> {
        self.append_marked(records, &[])
    }

    /// As [`Writer::append_batch`], and marks the records at those positions in the batch
    /// (ascending) as ones to start playback from.
    ///
    /// # Errors
    /// As [`Writer::append_batch`].
    pub fn append_marked(&mut self, records: &[u8], marks: &[usize]) -> Result<Appended> {
        let size = self.shared.geometry.record_size;
        if !records.len().is_multiple_of(size) {
            return Err(Error::Invalid(format!(
                "{}: {} bytes are no whole number of records of {size}",
                self.shared.feed.name,
                records.len()
            )));
        }
        if records.is_empty() {
            return Ok(Appended { first_seq: self.next_seq, ..Appended::default() });
        }
        if self.order == Order::Accept {
            return self.commit(records, marks, Vec::new());
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let (rejected, moved) = self.put_in_order(records, marks, &mut kept);
        let done = self.commit(&kept, &moved, rejected);
        self.kept = kept;
        done
    }

    /// Applies `order: reject` and `order: clamp`: copies what stays into `kept`; returns the
    /// positions refused, and the marks moved to where their records went.
    fn put_in_order(
        &mut self,
        records: &[u8],
        marks: &[usize],
        kept: &mut Vec<u8>,
    ) -> (Vec<usize>, Vec<usize>) {
        let Geometry { record_size, time_offset, .. } = self.shared.geometry;
        let (mut rejected, mut moved) = (Vec::new(), Vec::new());
        let mut newest = self.running_max;
        let mut marks = marks.iter().copied().peekable();
        for (i, record) in records.chunks_exact(record_size).enumerate() {
            let marked = marks.next_if_eq(&i).is_some();
            let late = self.shared.feed.layout.time_of(record) < newest;
            if late {
                self.counters.late += 1;
                if self.order == Order::Reject {
                    rejected.push(i);
                    continue;
                }
            }
            if marked {
                moved.push(kept.len() / record_size);
            }
            kept.extend_from_slice(record);
            newest = newest.max(self.shared.feed.layout.time_of(record));
            let at = kept.len() - record_size + time_offset;
            kept[at..at + 8].copy_from_slice(&newest.to_le_bytes());
        }
        (rejected, moved)
    }

    /// Stores records and publishes them at once. On an error nothing is published, and the writer
    /// is as it was, unless a chunk ended in the middle of the batch: then it takes nothing more.
    fn commit(
        &mut self,
        records: &[u8],
        marks: &[usize],
        rejected: Vec<usize>,
    ) -> Result<Appended> {
        let first_seq = self.next_seq;
        let mut stored = self.try_store(records, marks);
        if let Err(error) = &stored
            && self.shared.is_memory_full(error)
            && self.end_chunk_early()?
        {
            stored = self.try_store(records, marks);
        }
        if let Err(error) = stored {
            let full = self.shared.is_memory_full(&error);
            return Err(if full { self.memory_full(records.len()) } else { error });
        }
        self.page.live.set_running_max(self.running_max);
        self.page.live.set_counters(&self.counters);
        faults::step("writer.stored");
        self.page.live.publish(self.next_seq);
        faults::step("writer.published");
        if self.sync == Sync::Batch {
            self.sync_now()?;
        }
        Ok(Appended { first_seq, count: self.next_seq - first_seq, rejected })
    }

    /// Stores records and marks, or takes back what it has stored of them.
    fn try_store(&mut self, records: &[u8], marks: &[usize]) -> Result<()> {
        let (at, first_seq) = (self.at, self.next_seq);
        let (newest, last_time) = (self.running_max, self.last_time);
        let (late, chunk_id) = (self.counters.late, self.chunk.as_ref().map(|c| c.chunk_id()));
        let mark_next = self.mark_next;
        let stored = self.store(records).and_then(|()| self.store_marks(first_seq, marks, records));
        if let Err(error) = stored {
            (self.running_max, self.last_time) = (newest, last_time);
            (self.next_seq, self.counters.late) = (first_seq, late);
            self.mark_next = mark_next;
            match &self.chunk {
                Some(chunk) if Some(chunk.chunk_id()) == chunk_id => self.at = at,
                // The chunk was new and is empty again.
                Some(chunk) if chunk.base_seq() == first_seq => self.at = 0,
                // Where the records of the batch went on in another chunk, nothing fits behind.
                Some(_) => self.shared.fail(error.to_string()),
                None => {}
            }
            if let Some(chunk) = &self.chunk {
                chunk.forget_marks(first_seq);
            }
            return Err(error);
        }
        Ok(())
    }

    fn store(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() {
            if self.at == self.limit || self.shared.attention.load(Ordering::Relaxed) != 0 {
                self.make_room(records.len())?;
            }
            let size = self.shared.geometry.record_size;
            let room = (self.limit - self.at).min(records.len());
            let leased = (self.lease - self.next_seq) as usize;
            if leased == 0 {
                self.renew_lease()?;
                continue;
            }
            let (now, rest) = records.split_at(room.min(leased.saturating_mul(size)));
            if let Some(chunk) = &self.chunk {
                chunk.store(self.at, now)?;
            }
            self.widen(now);
            self.at += now.len();
            self.next_seq += (now.len() / size) as u64;
            records = rest;
        }
        Ok(())
    }

    /// Brings the times of the blocks that `records` fall in up to date.
    fn widen(&mut self, records: &[u8]) {
        let Some(chunk) = &self.chunk else { return };
        let Geometry { record_size, time_offset, block_records, .. } = self.shared.geometry;
        let mut record = self.at / record_size;
        let mut rest = records;
        while !rest.is_empty() {
            let in_block = (block_records - record % block_records) * record_size;
            let (run, after) = rest.split_at(in_block.min(rest.len()));
            // A block's first record has none before it there.
            let before = if record.is_multiple_of(block_records) { 0 } else { self.last_time };
            let (times, late) = run_times(run, record_size, time_offset, before, self.running_max);
            self.last_time = times.last;
            chunk.widen(record / block_records, &times);
            if self.order == Order::Accept {
                self.counters.late += late;
            }
            self.running_max = self.running_max.max(times.max);
            record += run.len() / record_size;
            rest = after;
        }
    }

    fn store_marks(&mut self, first_seq: u64, marks: &[usize], records: &[u8]) -> Result<()> {
        let size = self.shared.geometry.record_size;
        let pending = std::mem::take(&mut self.mark_next) && marks.first() != Some(&0);
        for i in pending.then_some(0).into_iter().chain(marks.iter().copied()) {
            let seq = first_seq + i as u64;
            let Some(record) = records.get(i * size..(i + 1) * size) else { continue };
            let time = self.shared.feed.layout.time_of(record);
            let queue = self.shared.queue();
            let owner = queue.chunks.iter().rev().find(|c| c.base_seq() <= seq).cloned();
            drop(queue);
            if let Some(chunk) = owner {
                chunk.mark(seq, time)?;
            }
        }
        Ok(())
    }

    /// Makes room at the end of the chunk, or a new chunk.
    #[cold]
    fn make_room(&mut self, wanted: usize) -> Result<()> {
        let attention = self.shared.attention.load(Ordering::Acquire);
        if attention & FAILED != 0 {
            return Err(self.shared.poisoned());
        }
        self.shared.attention.fetch_and(!(ROTATE | RESTAGE), Ordering::AcqRel);
        if attention & RESTAGE != 0 {
            self.restage()?;
        }
        let Some(chunk) = self.chunk.clone() else { return self.next_chunk() };
        if attention & RESTAGE != 0 && !chunk.is_named() {
            chunk.set_end(ChunkEnd::Early);
            return self.next_chunk();
        }
        let old = attention & ROTATE != 0;
        if self.at == chunk.capacity_bytes() || (old && self.at > 0) {
            return self.next_chunk();
        }
        self.limit = chunk.limit_bytes();
        if self.at == self.limit {
            self.grow(&chunk, wanted)?;
        }
        Ok(())
    }

    /// Makes room for `wanted` more bytes in the chunk, or for some of them in the next one.
    fn grow(&mut self, chunk: &LiveChunk, wanted: usize) -> Result<()> {
        loop {
            let grown = chunk.grow_to((self.at + wanted).min(chunk.capacity_bytes()));
            self.limit = chunk.limit_bytes();
            match grown {
                Err(error) if self.shared.is_memory_full(&error) => {
                    if self.shared.wait_for_memory(self.page.live.published())? {
                        continue;
                    }
                    let ready = self.shared.queue().ready.is_some();
                    if !ready || self.at == 0 {
                        return Err(error);
                    }
                    chunk.set_end(ChunkEnd::Early);
                    return self.next_chunk();
                }
                other => return other,
            }
        }
    }

    /// Goes on in the next chunk: the one made ahead, or one made now.
    fn next_chunk(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let published = self.page.live.published();
        shared.wait_for_seals(published)?;
        let mut restaged = false;
        let (_making, chunk) = loop {
            let making = shared.making();
            match shared.take_chunk() {
                // Somebody has removed the folder, and nobody has looked since.
                Err(error) if error.is_not_found() && shared.is_staged() && !restaged => {
                    drop(making);
                    self.restage()?;
                    restaged = true;
                }
                Err(error) if shared.is_memory_full(&error) => {
                    drop(making);
                    if !shared.wait_for_memory(published)? {
                        return Err(error);
                    }
                }
                taken => break (making, taken?),
            }
        };
        let mut entry = ChunkEntry {
            position: 0,
            chunk_id: chunk.chunk_id(),
            base_seq: self.next_seq,
            session_id: self.shared.session_id,
            created_us: process::wall_us(),
            created_boot_ns: process::boottime_ns(),
            place: self.shared.open_place(),
            seal: None,
        };
        chunk.adopt(self.next_seq);
        if let Err(error) = self.shared.registry.append_chunk(&mut entry) {
            // Nobody knows of it yet; what stays of it, the next writer removes.
            let _ = chunk.discard();
            return Err(error);
        }
        faults::step("writer.entered");
        chunk.enter(entry.position, entry.created_boot_ns);
        self.shared.queue().chunks.push(Arc::clone(&chunk));
        self.shared.wake.notify_one();
        (self.at, self.limit) = (0, chunk.limit_bytes());
        self.chunk = Some(chunk);
        Ok(())
    }

    #[cold]
    fn renew_lease(&mut self) -> Result<()> {
        let _leasing = self.shared.leasing();
        let ahead = self.shared.lease.load(Ordering::Acquire);
        if ahead > self.next_seq {
            self.lease = ahead;
            return Ok(());
        }
        let lease = self.next_seq + LEASE_STEP;
        self.shared.registry.set_lease(lease)?;
        self.shared.lease.store(lease, Ordering::Release);
        self.lease = lease;
        Ok(())
    }

    /// Wakes the followers that sleep. Without this the background thread does so within a
    /// millisecond or two: a wake costs the caller a system call where somebody sleeps.
    pub fn wake(&self) {
        self.shared.wake(&self.page, self.next_seq);
    }

    /// Marks the next record to be appended as one to start playback from (the seed's
    /// `create_index`).
    pub fn mark(&mut self) {
        self.mark_next = true;
    }

    /// Adds to the session's counts of rows refused and passed over before they became records.
    pub fn count_rows(&mut self, rejected: u64, passed_over: u64) {
        self.counters.rejected += rejected;
        self.counters.passed_over += passed_over;
        self.page.live.set_counters(&self.counters);
    }

    /// Keeps the reason that a row was refused for, in words: the log gives the last one.
    pub fn note_reject(&mut self, why: String) {
        *self.shared.last_reject.lock().unwrap_or_else(|e| e.into_inner()) = why;
    }

    /// The session's counts so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Everything below this seq is on disk.
    pub fn durable(&self) -> u64 {
        self.page.live.durable()
    }

    /// Makes every record appended so far durable before it returns.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if a sync failed: the writer takes nothing more.
    pub fn sync_now(&mut self) -> Result<()> {
        let mut queue = self.shared.queue();
        queue.sync_to = queue.sync_to.max(self.next_seq);
        self.shared.wake.notify_one();
        while queue.durable < self.next_seq {
            if queue.failure.is_some() {
                drop(queue);
                return Err(self.shared.poisoned());
            }
            queue = self.shared.progress.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        Ok(())
    }

    /// Seals what is open, makes everything durable and ends the session with that reason.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if something could not be made durable; what was published stays
    /// readable, and the next writer or dw-repair takes care of it.
    pub fn close(mut self, reason: SessionEnd) -> Result<()> {
        self.finish(reason)
    }

    fn finish(&mut self, reason: SessionEnd) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.shared.queue().stop = Some(reason);
        self.shared.wake.notify_one();
        let panicked = thread.join().is_err();
        if panicked || self.shared.queue().failure.is_some() {
            return Err(self.shared.poisoned());
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `close`.
        let _ = self.finish(SessionEnd::Ended);
    }
}

/// Least and greatest time of a run within one block, whether it is out of order after `before`,
/// and how many of its records are older than the newest so far.
fn run_times(
    run: &[u8],
    record_size: usize,
    time_offset: usize,
    before: u64,
    newest: u64,
) -> (RunTimes, u64) {
    let mut times = RunTimes { min: u64::MAX, max: 0, last: before, unordered: false };
    let (mut newest, mut late) = (newest, 0);
    for record in run.chunks_exact(record_size) {
        let mut word = [0; 8];
        word.copy_from_slice(&record[time_offset..time_offset + 8]);
        let time = u64::from_le_bytes(word);
        times.min = times.min.min(time);
        times.max = times.max.max(time);
        times.unordered |= time < times.last;
        late += u64::from(time < newest);
        newest = newest.max(time);
        times.last = time;
    }
    (times, late)
}

fn log_sealed(log: &Log, feed: &FeedInfo, chunk: (u64, u64), seal: &Seal) {
    let (chunk_id, base_seq) = chunk;
    let seqs = format!("{base_seq}..{}", base_seq + seal.count);
    let bytes = seal.count * feed.geometry().record_size as u64;
    let fields: [(&str, &dyn Display); 6] = [
        ("feed", &feed.name),
        ("chunk", &chunk_id),
        ("seq", &seqs),
        ("records", &seal.count),
        ("bytes", &bytes),
        ("reason", &ChunkEnd::word(seal.reason)),
    ];
    log.event("chunk-sealed", &fields);
}

fn log_closed(log: &Log, feed: &FeedInfo, session: &SessionEntry, close: &SessionClose) {
    let seqs = format!("{}..{}", session.base_seq, close.end_seq);
    let fields: [(&str, &dyn Display); 8] = [
        ("feed", &feed.name),
        ("session", &session.session_id),
        ("reason", &close.reason.as_str()),
        ("seq", &seqs),
        ("rows", &close.end_seq.saturating_sub(session.base_seq)),
        ("late", &close.counters.late),
        ("rejected", &close.counters.rejected),
        ("passed_over", &close.counters.passed_over),
    ];
    log.event("writer-closed", &fields);
}
