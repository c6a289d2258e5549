//! The one writer of a feed: stores records, publishes them, and leaves everything slow to a
//! background thread.

mod background;
mod clocks;
mod front;
mod journal;
mod order;
mod recover;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::chunk::index::IndexHeader;
use crate::chunk::live::{LiveChunk, RunTimes};
use crate::error::{Error, Result};
use crate::os::lock::Lock;
use crate::os::process;
use crate::registry::feed::{ChunkEnd, ChunkEntry, FeedRegistry, Geometry, Place};
use crate::registry::info::FeedInfo;
use crate::registry::live::{Counters, LivePage};
use crate::registry::wait::WaitFile;
use crate::schema::{Order, Sync};
use crate::writer::journal::Journal;
use crate::writer::order::put_in_order;

pub use crate::registry::feed::SessionEnd;
pub use front::{Writer, writer_pid};

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
/// Seqs are leased in steps of this.
const LEASE_STEP: u64 = 1 << 24;
/// So many chunks may have ended without being sealed; then the writing thread waits for the disk.
const BACKLOG_CHUNKS: usize = 16;

/// What the writing thread and the background thread share.
struct Shared {
    feed: FeedInfo,
    geometry: Geometry,
    registry: FeedRegistry,
    live: LivePage,
    /// The followers' bell.
    wait: Option<WaitFile>,
    /// What was published when it was rung last.
    woken: AtomicU64,
    session_id: u64,
    queue: Mutex<Queue>,
    /// Held by who makes a chunk, until it has its place in the table or in `Queue::ready`: chunks
    /// are numbered in the order of their records. Taken before `queue`.
    making: Mutex<()>,
    wake: Condvar,
    /// Something became durable, was sealed, or failed.
    progress: Condvar,
    attention: AtomicU32,
    lease: AtomicU64,
    journal: Journal,
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
    stop: Option<SessionEnd>,
    failure: Option<String>,
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
        LiveChunk::create(&self.feed.folder, header, self.feed.spec.policy.file_mode)
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes the followers that sleep, if there is news since the last time.
    fn wake(&self, published: u64) {
        if let Some(wait) = &self.wait
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
    fn wait_for_seals(&self) -> Result<()> {
        let published = self.live.published();
        let mut queue = self.queue();
        while queue.failure.is_none() {
            let ended = queue.chunks.windows(2).filter(|pair| pair[1].base_seq() <= published);
            if ended.count() < BACKLOG_CHUNKS {
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

/// Appends records to a feed of chunks.
struct ChunkWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _lock: Lock,
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

impl ChunkWriter {
    /// Seals what the last writer left and begins a session. The caller holds the feed's lock and
    /// hands it over.
    fn open(feed: &FeedInfo, options: WriterOptions, lock: Lock) -> Result<ChunkWriter> {
        let sync = options.sync.unwrap_or(feed.spec.policy.sync);
        let start = recover::start(feed)?;
        let journal = Journal::open(feed, &start.session);
        let shared = Arc::new(Shared {
            feed: feed.clone(),
            geometry: feed.geometry(),
            registry: start.registry,
            live: start.live,
            wait: start.wait,
            woken: AtomicU64::new(start.next_seq),
            session_id: start.session.session_id,
            queue: Mutex::new(Queue {
                next_chunk_id: start.next_chunk_id,
                durable: start.next_seq,
                sync_to: start.next_seq,
                ..Queue::default()
            }),
            making: Mutex::new(()),
            wake: Condvar::new(),
            progress: Condvar::new(),
            attention: AtomicU32::new(0),
            lease: AtomicU64::new(start.lease),
            journal,
        });
        let thread =
            background::start(Arc::clone(&shared), start.session, sync, options.on_durable)?;
        Ok(ChunkWriter {
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

    fn feed(&self) -> &FeedInfo {
        &self.shared.feed
    }

    fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn append_marked(&mut self, records: &[u8], marks: &[usize]) -> Result<Appended> {
        check_whole(&self.shared.feed, records)?;
        if records.is_empty() {
            return Ok(Appended { first_seq: self.next_seq, ..Appended::default() });
        }
        if self.order == Order::Accept {
            return self.commit(records, marks, Vec::new());
        }
        let mut kept = std::mem::take(&mut self.kept);
        let layout = &self.shared.feed.layout;
        let sorted = put_in_order(layout, self.order, self.running_max, records, marks, &mut kept);
        self.counters.late += sorted.late;
        let done = self.commit(&kept, &sorted.marks, sorted.rejected);
        self.kept = kept;
        done
    }

    /// Stores records and publishes them at once. On an error nothing is published, and the writer
    /// is as it was, unless a chunk ended in the middle of the batch: then it takes nothing more.
    fn commit(
        &mut self,
        records: &[u8],
        marks: &[usize],
        rejected: Vec<usize>,
    ) -> Result<Appended> {
        let (at, first_seq) = (self.at, self.next_seq);
        let (newest, last_time) = (self.running_max, self.last_time);
        let (late, chunk_id) = (self.counters.late, self.chunk.as_ref().map(|c| c.chunk_id()));
        let stored = self.store(records).and_then(|()| self.store_marks(first_seq, marks, records));
        if let Err(error) = stored {
            (self.running_max, self.last_time) = (newest, last_time);
            (self.next_seq, self.counters.late) = (first_seq, late);
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
        self.shared.live.set_running_max(self.running_max);
        self.shared.live.set_counters(&self.counters);
        self.shared.live.publish(self.next_seq);
        if self.sync == Sync::Batch {
            self.sync_now()?;
        }
        Ok(Appended { first_seq, count: self.next_seq - first_seq, rejected })
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
        let old = attention & ROTATE != 0;
        if old {
            self.shared.attention.fetch_and(!ROTATE, Ordering::AcqRel);
        }
        let Some(chunk) = self.chunk.clone() else { return self.next_chunk() };
        if self.at == chunk.capacity_bytes() || (old && self.at > 0) {
            return self.next_chunk();
        }
        self.limit = chunk.limit_bytes();
        if self.at == self.limit {
            chunk.grow_to((self.at + wanted).min(chunk.capacity_bytes()))?;
            self.limit = chunk.limit_bytes();
        }
        Ok(())
    }

    /// Goes on in the next chunk: the one made ahead, or one made now.
    fn next_chunk(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.wait_for_seals()?;
        let _making = shared.making();
        let (ready, chunk_id) = {
            let mut queue = shared.queue();
            (queue.ready.take(), queue.next_chunk_id)
        };
        let chunk = match ready {
            Some(chunk) => chunk,
            None => {
                let chunk = Arc::new(shared.make_chunk(chunk_id)?);
                shared.queue().next_chunk_id += 1;
                chunk
            }
        };
        let mut entry = ChunkEntry {
            position: 0,
            chunk_id: chunk.chunk_id(),
            base_seq: self.next_seq,
            session_id: self.shared.session_id,
            created_us: process::wall_us(),
            created_boot_ns: process::boottime_ns(),
            place: Place::Live,
            seal: None,
        };
        chunk.adopt(self.next_seq);
        if let Err(error) = self.shared.registry.append_chunk(&mut entry) {
            // Nobody knows of it yet; what stays of it, the next writer removes.
            let _ = chunk.discard();
            return Err(error);
        }
        chunk.enter(entry.position, entry.created_boot_ns);
        self.shared.queue().chunks.push(Arc::clone(&chunk));
        self.shared.wake.notify_one();
        (self.at, self.limit) = (0, chunk.limit_bytes());
        self.chunk = Some(chunk);
        Ok(())
    }

    #[cold]
    fn renew_lease(&mut self) -> Result<()> {
        let ahead = self.shared.lease.load(Ordering::Acquire);
        if ahead > self.next_seq {
            self.lease = ahead;
            return Ok(());
        }
        let queue = self.shared.queue();
        let lease = self.next_seq + LEASE_STEP;
        self.shared.registry.set_lease(lease)?;
        self.shared.lease.store(lease, Ordering::Release);
        drop(queue);
        self.lease = lease;
        Ok(())
    }

    fn wake(&self) {
        self.shared.wake(self.next_seq);
    }

    fn mark(&mut self) {
        self.mark_next = true;
    }

    fn count_rows(&mut self, rejected: u64, passed_over: u64) {
        self.counters.rejected += rejected;
        self.counters.passed_over += passed_over;
        self.shared.live.set_counters(&self.counters);
    }

    fn note_reject(&mut self, why: String) {
        self.shared.journal.note_reject(why);
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn durable(&self) -> u64 {
        self.shared.live.durable()
    }

    fn sync_now(&mut self) -> Result<()> {
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

/// Refuses what is no whole number of records.
fn check_whole(feed: &FeedInfo, records: &[u8]) -> Result<()> {
    let (len, size) = (records.len(), feed.layout.record_size());
    if len.is_multiple_of(size) {
        return Ok(());
    }
    let what = format!("{len} bytes are no whole number of records of {size}");
    Err(Error::Invalid(format!("{}: {what}", feed.name)))
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

/// Why a chunk that is not the last one ended.
fn end_of(chunk: &LiveChunk, end_seq: u64, record_size: usize) -> ChunkEnd {
    let full = (end_seq - chunk.base_seq()) as usize * record_size == chunk.capacity_bytes();
    if full { ChunkEnd::Full } else { ChunkEnd::Age }
}
