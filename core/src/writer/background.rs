//! The writer's background thread: everything that may take time.
//!
//! It works only from what is published: allocates ahead, maps pages in, closes blocks with their
//! checksums, starts writeback early, syncs and checkpoints, seals chunks that ended, makes the
//! next chunk ready, and keeps the live page's clocks. Chunks that are staged in memory it copies
//! to disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::chunk::live::{BULK_BYTES, LiveChunk};
use crate::error::{Error, Result};
use crate::os::faults::step;
use crate::os::{process, signal};
use crate::registry::feed::{Checkpoint, ChunkEnd, Place, SessionClose, SessionEnd, SessionEntry};
use crate::registry::live::PUBLISHED_AT;
use crate::schema::Sync;
use crate::writer::OnDurable;
use crate::writer::chunks::{Early, LEASE_STEP, Queue, RESTAGE, ROTATE, Shared};
use crate::writer::clocks::Clocks;
use crate::writer::flush::Flush;
use crate::writer::journal::{log_closed, log_sealed};
use crate::writer::stage::{self, Page};

/// How often it looks while records come.
const BUSY_TICK: Duration = Duration::from_millis(1);
/// How rarely when none do.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// Least and most that is mapped in ahead of the tail, in bytes.
const AHEAD_BYTES: (usize, usize) = (256 << 10, 8 << 20);
/// Written back as soon as this much has gathered, so that a sync has little left to do.
const WRITEBACK_BYTES: usize = 4 << 20;
/// How often it looks whether its shared memory still has its names.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn start(
    shared: Arc<Shared>,
    session: SessionEntry,
    sync: Sync,
    on_durable: Option<OnDurable>,
) -> Result<JoinHandle<()>> {
    let folder = shared.feed.folder.clone();
    let page = shared.page();
    let published = page.live.published();
    let now = Instant::now();
    let policy = &shared.feed.spec.policy;
    let window = Duration::from_secs(policy.live_window_seconds);
    let flush = shared
        .is_staged()
        .then(|| Flush::new(Arc::clone(&shared.folder), policy.file_mode, window));
    let mut background = Background {
        clocks: Clocks::start(&page.live),
        page,
        flush,
        session,
        sync,
        on_durable,
        published,
        tick: BUSY_TICK,
        synced_at: now,
        looked_at: now,
        mapped: (0, 0),
        written_back: (0, 0),
        shared,
    };
    std::thread::Builder::new()
        .name("deepwater".into())
        .spawn(move || {
            signal::block_in_this_thread();
            let _alarm = Alarm(Arc::clone(&background.shared));
            background.run();
        })
        .map_err(|e| Error::io("cannot start a thread to write", folder, e))
}

/// Tells the writing thread, which may be waiting, when this thread ends by a panic.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the thread in the background panicked".into());
        }
    }
}

struct Background {
    shared: Arc<Shared>,
    page: Arc<Page>,
    /// Copies staged chunks to disk; none where they are born there.
    flush: Option<Flush>,
    session: SessionEntry,
    sync: Sync,
    on_durable: Option<OnDurable>,
    /// As of the last tick.
    published: u64,
    tick: Duration,
    synced_at: Instant,
    /// When it looked last whether its shared memory still has its names.
    looked_at: Instant,
    clocks: Clocks,
    /// Chunk id, and the byte up to which it is mapped in.
    mapped: (u64, usize),
    /// Chunk id, and the byte up to which writeback was started.
    written_back: (u64, usize),
}

impl Background {
    fn run(&mut self) {
        loop {
            let (stop, sync_to) = self.wait();
            let done = match stop {
                Some(reason) => self.finish(reason).map(|()| true),
                None => self.work(sync_to).map(|()| false),
            };
            match done {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn fail(&self, error: &Error) {
        self.shared.journal.failed(&error.to_string());
        self.shared.fail(self.explain(error));
    }

    /// Sleeps a tick, or until the writing thread asks for something.
    fn wait(&self) -> (Option<SessionEnd>, u64) {
        let mut queue = self.shared.queue();
        let asked = |q: &Queue| {
            q.stop.is_some() || q.sync_to > q.durable || q.early.is_some() || q.short_of_memory
        };
        if !asked(&queue) {
            let waited = self.shared.wake.wait_timeout(queue, self.tick);
            queue = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
        (queue.stop, queue.sync_to)
    }

    fn work(&mut self, sync_to: u64) -> Result<()> {
        self.take_page();
        let published = self.published()?;
        let moved = published != self.published;
        let news = (published - self.published) as usize * self.shared.geometry.record_size;
        self.tick = if moved { BUSY_TICK } else { (self.tick * 2).min(IDLE_TICK) };
        self.clocks.keep(&self.page.live);
        self.shared.journal.rejects(self.page.live.counters().rejected, false);
        self.published = published;
        self.shared.wake(&self.page, published);
        let chunks = self.shared.queue().chunks.clone();
        for chunk in &chunks {
            chunk.close_blocks(published, false);
            chunk.check()?;
        }
        drop(chunks);
        self.seal_ended(published)?;
        self.give_memory_back()?;
        let last = self.shared.queue().chunks.last().cloned();
        if let Some(chunk) = last {
            self.look_ahead(&chunk, published, news)?;
        }
        let unlinked = self.look_for_names();
        let due = match self.sync {
            Sync::Every(every) => self.synced_at.elapsed() >= every,
            Sync::None | Sync::Batch => false,
        };
        let durable = self.shared.queue().durable;
        if ((due || unlinked) && published > durable) || sync_to > durable {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// The word that rules, unless the page it is on was cut off, or somebody else stored to it.
    fn published(&self) -> Result<u64> {
        let published = self.page.live.published();
        self.page.live.check()?;
        let lease = self.shared.lease.end();
        if (self.published..=lease).contains(&published) {
            return Ok(published);
        }
        let what = format!(
            "it says that records below seq {published} were published, after {} and with a lease \
             up to {lease}",
            self.published
        );
        Err(Error::damaged(self.page.live.path(), PUBLISHED_AT as u64, what))
    }

    /// Goes on with the page that the writing thread has made, where it had to make another.
    fn take_page(&mut self) {
        let page = self.shared.page();
        if !Arc::ptr_eq(&page, &self.page) {
            self.page = page;
            self.page.live.set_durable(self.shared.queue().durable);
        }
    }

    /// Whether somebody has unlinked what is in shared memory. Then what is published must soon be
    /// on disk, and the writing thread makes everything again before it stores the next record.
    fn look_for_names(&mut self) -> bool {
        if self.looked_at.elapsed() < LOOK {
            return false;
        }
        self.looked_at = Instant::now();
        let unlinked = self.shared.is_unlinked();
        if unlinked {
            self.shared.attention.fetch_or(RESTAGE, Ordering::Release);
        }
        unlinked
    }

    /// Removes from memory what is on disk, once its time is over or its memory is wanted.
    fn give_memory_back(&mut self) -> Result<()> {
        if self.flush.is_none() {
            return Ok(());
        }
        let (early, short, chunk) = {
            let queue = self.shared.queue();
            let is_early =
                |c: &&Arc<LiveChunk>| Some(c.chunk_id()) == queue.early.map(|e| e.chunk_id);
            (queue.early, queue.short_of_memory, queue.chunks.iter().find(is_early).cloned())
        };
        if let (Some(Early { end_seq, .. }), Some(chunk)) = (early, chunk) {
            self.seal(chunk, end_seq, ChunkEnd::Early as u32)?;
        }
        let wanted = early.is_some() || short;
        let released = self.flush.as_mut().map_or(Ok(false), |flush| flush.release(wanted))?;
        let mut queue = self.shared.queue();
        queue.released += u64::from(released);
        if wanted {
            (queue.early, queue.short_of_memory) = (None, false);
            self.shared.progress.notify_all();
        }
        Ok(())
    }

    /// Everything that makes the next records cheap: room, pages, the next chunk, the lease, early
    /// writeback. A full disk is no error here: the writing thread meets it when it needs the room.
    /// A lease that could not be synced is one: a second try might succeed without the first's
    /// pages.
    fn look_ahead(&mut self, chunk: &Arc<LiveChunk>, published: u64, news: usize) -> Result<()> {
        let record_size = self.shared.geometry.record_size;
        let used = published.saturating_sub(chunk.base_seq()) as usize * record_size;
        let used = used.min(chunk.capacity_bytes());
        if used > chunk.limit_bytes() / 2 {
            let _ = chunk.grow_to(chunk.limit_bytes() + 1);
        }
        self.map_in(chunk, used, news);
        match &mut self.flush {
            Some(flush) => flush.stream(chunk, published)?,
            None => self.write_back(chunk, used),
        }
        if used > chunk.capacity_bytes() / 2 {
            self.make_ready();
        }
        if published + LEASE_STEP / 2 > self.shared.lease.end() {
            let ahead = published + LEASE_STEP + LEASE_STEP / 2;
            self.shared.lease.raise_to(&self.shared.registry, ahead)?;
        }
        let age_ns = process::boottime_ns().saturating_sub(chunk.entered_boot_ns());
        if used > 0 && u128::from(age_ns) >= self.shared.feed.spec.policy.chunk_age().as_nanos() {
            self.shared.attention.fetch_or(ROTATE, Ordering::Release);
        }
        Ok(())
    }

    /// Maps in a little ahead of the tail: four times what came in the last tick.
    fn map_in(&mut self, chunk: &LiveChunk, used: usize, news: usize) {
        if self.mapped.0 != chunk.chunk_id() {
            self.mapped = (chunk.chunk_id(), 0);
        }
        // What comes in bulk is written to a file on disk, not stored page by page.
        if news >= BULK_BYTES * 4 && self.flush.is_none() {
            return;
        }
        let wanted = used + (news * 4).clamp(AHEAD_BYTES.0, AHEAD_BYTES.1);
        let from = self.mapped.1.max(used);
        // Not for every record: half of it must be used up first.
        if from < wanted && from - used <= (wanted - used) / 2 {
            chunk.populate(from, wanted - from);
            self.mapped.1 = wanted.min(chunk.limit_bytes());
        }
    }

    fn write_back(&mut self, chunk: &LiveChunk, used: usize) {
        if self.written_back.0 != chunk.chunk_id() {
            self.written_back = (chunk.chunk_id(), 0);
        }
        // The tail's own block stays: writing it back would make the next store to it fault.
        let ready = used.saturating_sub(self.shared.geometry.block_bytes());
        if ready >= self.written_back.1 + WRITEBACK_BYTES {
            chunk.start_writeback(self.written_back.1, ready);
            self.written_back.1 = ready;
        }
    }

    fn make_ready(&mut self) {
        if self.shared.queue().ready.is_some() {
            return;
        }
        let _making = self.shared.making();
        let chunk_id = self.shared.queue().next_chunk_id;
        if let Ok(chunk) = self.shared.make_chunk(chunk_id) {
            chunk.populate(0, AHEAD_BYTES.0);
            let mut queue = self.shared.queue();
            queue.next_chunk_id += 1;
            queue.ready = Some(Arc::new(chunk));
        }
    }

    /// Seals every chunk that another one follows, once all its records are published.
    fn seal_ended(&mut self, published: u64) -> Result<()> {
        loop {
            let (chunk, end_seq) = match &self.shared.queue().chunks[..] {
                [first, next, ..] if next.base_seq() <= published => {
                    (Arc::clone(first), next.base_seq())
                }
                _ => return Ok(()),
            };
            let reason = chunk.end_with(end_seq - chunk.base_seq());
            self.seal(chunk, end_seq, reason)?;
        }
    }

    fn seal(&mut self, chunk: Arc<LiveChunk>, end_seq: u64, reason: u32) -> Result<()> {
        let (registry, position) = (&self.shared.registry, chunk.position());
        if end_seq <= chunk.base_seq() {
            registry.set_place(position, self.shared.open_place(), Place::Expired)?;
            chunk.discard()?;
        } else if let Some(flush) = &mut self.flush {
            let seal = flush.seal(registry, &chunk, end_seq, reason)?;
            let numbers = (chunk.chunk_id(), chunk.base_seq());
            log_sealed(self.shared.journal.log(), &self.shared.feed, numbers, &seal);
            self.note_durable(end_seq);
        } else {
            let seal = chunk.seal(end_seq, reason)?;
            self.shared.folder.sync()?;
            step("seal.files");
            self.shared.registry.seal_chunk(position, Place::Live, &seal)?;
            step("seal.entry");
            let numbers = (chunk.chunk_id(), chunk.base_seq());
            log_sealed(self.shared.journal.log(), &self.shared.feed, numbers, &seal);
        }
        self.shared.queue().chunks.retain(|c| !Arc::ptr_eq(c, &chunk));
        // The last use of what it has in memory.
        drop(chunk);
        if let Some(flush) = &mut self.flush
            && flush.release(false)?
        {
            self.shared.queue().released += 1;
        }
        self.shared.progress.notify_all();
        Ok(())
    }

    /// Data, index, folder, then the checkpoint and the registry: FORMAT.md, Durability.
    fn checkpoint(&mut self) -> Result<()> {
        let published = self.published()?;
        self.seal_ended(published)?;
        let chunks = self.shared.queue().chunks.clone();
        for chunk in &chunks {
            chunk.close_blocks(published, false);
            match &mut self.flush {
                Some(flush) => flush.write(chunk, published)?,
                None => chunk.sync()?,
            }
        }
        self.shared.folder.sync()?;
        step("checkpoint.synced");
        // Entries before the checkpoint that names their chunks.
        self.shared.registry.sync()?;
        self.write_checkpoint(chunks.iter().rfind(|c| c.base_seq() < published), published)?;
        step("checkpoint.written");
        self.note_durable(published);
        self.page.live.touch();
        self.synced_at = Instant::now();
        if self.flush.is_some() {
            self.shared.registry.warm();
        } else if let Some(chunk) = chunks.last() {
            // The sync has write-protected the tail's pages.
            self.mapped = (chunk.chunk_id(), 0);
        }
        Ok(())
    }

    fn write_checkpoint(&self, chunk: Option<&Arc<LiveChunk>>, seq: u64) -> Result<()> {
        self.shared.registry.write_checkpoint(&Checkpoint {
            generation: 0,
            session_id: self.session.session_id,
            boot_id: self.session.boot_id,
            seq,
            chunk_id: chunk.map_or(0, |c| c.chunk_id()),
            chunk_base_seq: chunk.map_or(0, |c| c.base_seq()),
            closed_blocks: chunk.map_or(0, |c| c.closed_blocks() as u32),
            open_block_crc: chunk.map_or(0, |c| c.open_block_crc(seq)),
            running_max: self.page.live.running_max(),
            written_us: process::wall_us(),
        });
        self.shared.registry.sync()
    }

    fn note_durable(&mut self, seq: u64) {
        let (news, durable) = {
            let mut queue = self.shared.queue();
            let news = seq > queue.durable;
            queue.durable = queue.durable.max(seq);
            (news, queue.durable)
        };
        self.page.live.set_durable(durable);
        self.shared.progress.notify_all();
        if let Some(tell) = self.on_durable.as_mut().filter(|_| news) {
            tell(seq);
        }
    }

    /// Seals everything, makes it durable and closes the session.
    fn finish(&mut self, reason: SessionEnd) -> Result<()> {
        self.take_page();
        let published = self.published()?;
        self.clocks.keep(&self.page.live);
        let ready = self.shared.queue().ready.take();
        if let Some(chunk) = ready {
            chunk.discard()?;
        }
        self.seal_ended(published)?;
        // More than one only where a batch failed after a chunk had ended: they hold nothing
        // published.
        let mut chunks = self.shared.queue().chunks.clone();
        while let Some(chunk) = chunks.pop() {
            self.seal(chunk, published, ChunkEnd::Closed as u32)?;
        }
        let close = SessionClose {
            end_seq: published,
            closed_us: process::wall_us(),
            counters: self.page.live.counters(),
            reason,
        };
        // The seals before the end that rests on them: a closed session is taken at its word.
        self.shared.registry.sync()?;
        self.shared.registry.close_session(self.session.position, &close);
        self.write_checkpoint(None, published)?;
        step("finish.closed");
        self.note_durable(published);
        self.page.live.end();
        // For those who sleep: there is news, if only that the session is closed.
        if let Some(wait) = &self.page.wait {
            wait.wake();
        }
        let journal = &self.shared.journal;
        journal.rejects(close.counters.rejected, true);
        log_closed(journal.log(), &self.shared.feed, &self.session, &close);
        match self.flush.is_some() {
            true => stage::end(&self.shared.feed, &self.shared.segments, &self.page.live),
            false => Ok(()),
        }
    }

    /// The error's text, for a writer that must stop by it.
    fn explain(&self, error: &Error) -> String {
        let (durable, published) = (self.shared.queue().durable, self.page.live.published());
        if self.flush.is_none() || durable == published {
            return error.to_string();
        }
        format!(
            "{error}; records {durable}..{published} are in shared memory only ({}), and the next \
             dw-write brings them to disk: put the disk right before the machine stops",
            self.shared.segments.folder.display()
        )
    }
}
