//! The writer of a feed of chunks: stores records, publishes them, and leaves everything slow to a
//! background thread.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::bytes::get_u64;
use crate::chunk::index::IndexHeader;
use crate::chunk::live::{LiveChunk, RunTimes};
use crate::error::{Error, Result};
use crate::os::lock::Lock;
use crate::os::{faults, process};
use crate::registry::feed::{ChunkEnd, ChunkEntry, FeedRegistry, Geometry, SessionEnd};
use crate::registry::info::FeedInfo;
use crate::registry::live::Counters;
use crate::registry::segments::Segments;
use crate::schema::{Order, Sync};
use crate::writer::folder::Folder;
use crate::writer::journal::Journal;
use crate::writer::lease::Lease;
use crate::writer::order::put_in_order;
use crate::writer::stage::Page;
use crate::writer::{Appended, WriterOptions, background, check_whole, recover};

/// Set in `attention`: the chunk is old, start another.
pub(super) const ROTATE: u32 = 1;
/// Set in `attention`: the background thread failed.
pub(super) const FAILED: u32 = 2;
/// Set in `attention`: somebody has unlinked what is in shared memory; make it again.
pub(super) const RESTAGE: u32 = 4;
/// Seqs are leased in steps of this.
pub(super) const LEASE_STEP: u64 = 1 << 24;

/// Most chunks a batch may fill: none of them can be sealed before it is published, and each has
/// two files open.
const MAX_BATCH_CHUNKS: usize = 256;

/// What the writing thread and the background thread share.
pub(super) struct Shared {
    pub(super) feed: FeedInfo,
    pub(super) geometry: Geometry,
    pub(super) registry: FeedRegistry,
    /// Where chunks are on disk.
    pub(super) folder: Arc<Folder>,
    /// Where the session has its shared-memory files.
    pub(super) segments: Segments,
    pub(super) page: Mutex<Arc<Page>>,
    /// What was published when it was rung last.
    pub(super) woken: AtomicU64,
    pub(super) session_id: u64,
    pub(super) queue: Mutex<Queue>,
    /// Held by who makes a chunk, until it has its place in the table or in `Queue::ready`: chunks
    /// are numbered in the order of their records. Taken before `queue`.
    pub(super) making: Mutex<()>,
    pub(super) wake: Condvar,
    /// Something became durable, was sealed, or failed.
    pub(super) progress: Condvar,
    pub(super) attention: AtomicU32,
    pub(super) lease: Lease,
    pub(super) journal: Journal,
}

#[derive(Default)]
pub(super) struct Queue {
    /// Chunks in the table that are not sealed; the last one is being written.
    pub(super) chunks: Vec<Arc<LiveChunk>>,
    /// The next chunk, made ahead.
    pub(super) ready: Option<Arc<LiveChunk>>,
    /// The id that the next chunk to be made gets.
    pub(super) next_chunk_id: u64,
    /// A sync is asked for, of everything below this seq.
    pub(super) sync_to: u64,
    /// Everything below it is on disk.
    pub(super) durable: u64,
    /// The last chunk is to be sealed though none follows it.
    pub(super) early: Option<Early>,
    /// The writing thread waits for memory of chunks that are on disk.
    pub(super) short_of_memory: bool,
    /// How often memory was given back.
    pub(super) released: u64,
    pub(super) stop: Option<SessionEnd>,
    pub(super) failure: Option<String>,
}

/// A staged chunk that ends because its memory is wanted.
#[derive(Clone, Copy)]
pub(super) struct Early {
    pub(super) chunk_id: u64,
    pub(super) end_seq: u64,
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn make_chunk(&self, chunk_id: u64) -> Result<LiveChunk> {
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
            let chunk = LiveChunk::create(self.folder.path(), header, mode);
            self.folder.note_new_name();
            return chunk;
        }
        let folder = self.segments.chunk_folder(&self.feed.name);
        LiveChunk::create(&folder, header, mode).map(LiveChunk::in_memory)
    }

    /// The pages shared with readers.
    pub(super) fn page(&self) -> Arc<Page> {
        Arc::clone(&self.page.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// The chunk made ahead, or one made now. The caller holds `making`.
    pub(super) fn take_chunk(&self) -> Result<Arc<LiveChunk>> {
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

    /// Bytes of records a chunk can have.
    fn chunk_bytes(&self) -> usize {
        let blocks = self.geometry.blocks_in(self.feed.spec.policy.chunk_size_bytes);
        blocks * self.geometry.block_bytes()
    }

    pub(super) fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes the followers that sleep, if there is news since the last time.
    pub(super) fn wake(&self, page: &Page, published: u64) {
        if let Some(wait) = &page.wait
            && self.woken.swap(published, Ordering::Relaxed) != published
        {
            wait.wake();
        }
    }

    /// Ends all writing: the next append, and whoever waits for a sync, gets this as its error.
    pub(super) fn fail(&self, why: String) {
        self.queue().failure.get_or_insert(why);
        self.attention.fetch_or(FAILED, Ordering::Release);
        self.progress.notify_all();
    }

    /// Waits while too many chunks have ended and are not sealed: each holds files open, and the
    /// next writer would have to seal them all. Only for those that can be sealed: a batch that is
    /// not published yet may fill any number.
    pub(super) fn wait_for_seals(&self, published: u64) -> Result<()> {
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

    pub(super) fn poisoned(&self) -> Error {
        let failure = self.queue().failure.clone();
        Error::Poisoned(failure.unwrap_or_else(|| "a failure in the background".into()))
    }
}

/// Appends records to a feed of chunks.
pub(super) struct ChunkWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) _lock: Lock,
    pub(super) page: Arc<Page>,
    pub(super) chunk: Option<Arc<LiveChunk>>,
    /// Byte in the chunk where the next record goes.
    pub(super) at: usize,
    /// Byte in the chunk up to which there is room now.
    pub(super) limit: usize,
    pub(super) next_seq: u64,
    pub(super) lease: u64,
    pub(super) running_max: u64,
    /// Time of the record stored last.
    pub(super) last_time: u64,
    pub(super) counters: Counters,
    pub(super) order: Order,
    pub(super) sync: Sync,
    pub(super) mark_next: bool,
    pub(super) kept: Vec<u8>,
    /// What recovery has moved to quarantine.
    pub(super) moved: Vec<String>,
}

impl ChunkWriter {
    /// Puts in order what the last writer left and begins a session. The caller holds the feed's
    /// lock and hands it over.
    pub fn open(feed: &FeedInfo, options: WriterOptions, lock: Lock) -> Result<ChunkWriter> {
        let sync = options.sync.unwrap_or(feed.spec.policy.sync);
        let start = recover::start(feed)?;
        let journal = Journal::open(feed, &start.session);
        let shared = Arc::new(Shared {
            feed: feed.clone(),
            geometry: feed.geometry(),
            registry: start.registry,
            folder: Arc::new(Folder::new(feed.folder.clone())),
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
            wake: Condvar::new(),
            progress: Condvar::new(),
            attention: AtomicU32::new(0),
            lease: Lease::new(start.lease),
            journal,
        });
        let thread =
            background::start(Arc::clone(&shared), start.session, sync, options.on_durable)?;
        Ok(ChunkWriter {
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
            moved: start.moved,
        })
    }

    pub fn feed(&self) -> &FeedInfo {
        &self.shared.feed
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub fn append_marked(&mut self, records: &[u8], marks: &[usize]) -> Result<Appended> {
        check_whole(&self.shared.feed, records)?;
        let most = MAX_BATCH_CHUNKS * self.shared.chunk_bytes();
        if records.len() > most {
            return Err(Error::Invalid(format!(
                "{}: a batch of {} bytes, and this feed takes at most {most} ({MAX_BATCH_CHUNKS} \
                 chunks); append it in parts",
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
        if self.shared.attention.load(Ordering::Relaxed) & RESTAGE != 0 {
            self.go_on_elsewhere()?;
        }
        let first_seq = self.next_seq;
        let mut stored = self.try_store(records, marks);
        if let Err(error) = &stored
            && self.shared.is_memory_full(error)
            && self.end_chunk_early()
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
                chunk.narrow(self.at / self.shared.geometry.record_size);
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
        self.shared.attention.fetch_and(!ROTATE, Ordering::AcqRel);
        let Some(chunk) = self.chunk.clone() else { return self.next_chunk() };
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
            chunk.narrow(self.at / self.shared.geometry.record_size);
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
    pub(super) fn next_chunk(&mut self) -> Result<()> {
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
                    self.sync_below(published)?;
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
        let ahead = self.shared.lease.end();
        self.lease = match ahead > self.next_seq {
            true => ahead,
            false => {
                self.shared.lease.raise_to(&self.shared.registry, self.next_seq + LEASE_STEP)?
            }
        };
        Ok(())
    }

    pub fn wake(&self) {
        self.shared.wake(&self.page, self.next_seq);
    }

    pub fn mark(&mut self) {
        self.mark_next = true;
    }

    pub fn count_rows(&mut self, rejected: u64, passed_over: u64) {
        self.counters.rejected += rejected;
        self.counters.passed_over += passed_over;
        self.page.live.set_counters(&self.counters);
    }

    pub fn note_reject(&mut self, why: String) {
        self.shared.journal.note_reject(why);
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn durable(&self) -> u64 {
        self.page.live.durable()
    }

    pub fn sync_now(&mut self) -> Result<()> {
        self.sync_below(self.next_seq)
    }

    fn sync_below(&self, seq: u64) -> Result<()> {
        let mut queue = self.shared.queue();
        queue.sync_to = queue.sync_to.max(seq);
        self.shared.wake.notify_one();
        while queue.durable < seq {
            if queue.failure.is_some() {
                drop(queue);
                return Err(self.shared.poisoned());
            }
            queue = self.shared.progress.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        Ok(())
    }

    pub fn finish(&mut self, reason: SessionEnd) -> Result<()> {
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
        let time = get_u64(record, time_offset);
        times.add(time);
        late += u64::from(time < newest);
        newest = newest.max(time);
    }
    (times, late)
}
