//! The writer of a transient feed. It stores into a ring, and a background thread maintains leases
//! and clocks and wakes followers.
//!
//! An append takes a few stores. It makes a system call only if the lease has run out before the
//! background thread raised it, or if the ring's file was deleted.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::bytes::get_u64;
use crate::error::{Error, Result};
use crate::os::faults::step;
use crate::os::lock::Lock;
use crate::os::map::RING_HEAD_BYTES;
use crate::os::{file, process, signal};
use crate::registry::feed::{FeedRegistry, Geometry, SessionClose, SessionEnd, SessionEntry};
use crate::registry::info::FeedInfo;
use crate::registry::live::{Counters, PUBLISHED_AT};
use crate::registry::segments::{SegmentKind, Segments};
use crate::registry::wait::WaitFile;
use crate::ring::{self, Ring, RingHead, protocol};
use crate::schema::{Order, Sync};
use crate::writer::clocks::Clocks;
use crate::writer::journal::{Journal, log_closed};
use crate::writer::lease::Lease;
use crate::writer::order::{Sorted, put_in_order};
use crate::writer::recover;
use crate::writer::{Appended, WriterOptions, check_whole};

/// Number of seqs in a lease step: at full speed, they last for most of a second.
const LEASE_STEP: u64 = 1 << 28;
/// Maximum number of bytes to reserve ahead. Readers load that word, so it should change rarely.
const RESERVE_BYTES: usize = 64 << 10;
/// Interval of the background thread while followers sleep that only it wakes.
const BUSY_TICK: Duration = Duration::from_millis(1);
/// Its interval otherwise.
const CALM_TICK: Duration = Duration::from_millis(20);
/// How often it checks whether the file still has its name.
const LINK_EVERY: Duration = Duration::from_millis(100);
/// Bytes that it maps in at a time, at its start.
const POPULATE_BYTES: usize = 4 << 20;

/// Set in `attention`: the background thread failed.
const FAILED: u32 = 1;
/// Set in `attention`: the ring's file was deleted.
const DELETED: u32 = 2;

/// What the writing thread and the background thread share.
struct Shared {
    feed: FeedInfo,
    registry: FeedRegistry,
    session: SessionEntry,
    journal: Journal,
    current: Mutex<Current>,
    control: Mutex<Control>,
    asked: Condvar,
    attention: AtomicU32,
    lease: Lease,
    /// `published` at the last wake-up.
    woken: AtomicU64,
    /// Whether the writing thread wakes followers itself.
    rings: AtomicBool,
}

/// The ring being written, and the wait file of its followers.
#[derive(Clone)]
struct Current {
    ring: Arc<Ring>,
    bell: Arc<WaitFile>,
}

#[derive(Default)]
struct Control {
    stop: bool,
    failure: Option<String>,
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Wakes sleeping followers, if `published` has changed since the last wake-up.
    #[inline]
    fn wake(&self, bell: &WaitFile, published: u64) {
        if self.woken.swap(published, Ordering::Relaxed) != published {
            bell.wake();
        }
    }

    fn fail(&self, why: String) {
        self.journal.failed(&why);
        self.control().failure.get_or_insert(why);
        self.attention.fetch_or(FAILED, Ordering::Release);
    }

    fn poisoned(&self) -> Error {
        let failure = self.control().failure.clone();
        Error::Poisoned(failure.unwrap_or_else(|| "a failure in the background".into()))
    }

    /// Raises the lease durably to a step above `seq`.
    fn raise_lease(&self, seq: u64) -> Result<()> {
        self.lease.raise_to(&self.registry, seq + LEASE_STEP).map(|_| ())
    }
}

/// Appends records to a ring.
pub(super) struct RingWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _lock: Lock,
    current: Current,
    /// Offset of the next record in the mapping.
    at: usize,
    next_seq: u64,
    /// Records below this seq may be stored.
    reserved: u64,
    running_max: u64,
    counters: Counters,
    order: Order,
    geometry: Geometry,
    kept: Vec<u8>,
    /// A mark was requested, which rings do not support.
    mark_asked: bool,
}

impl RingWriter {
    /// Opens a transient feed for writing: takes over the ring that the last writer left, and
    /// begins a session. The caller holds the feed's lock and hands it over.
    pub fn open(feed: &FeedInfo, options: WriterOptions, lock: Lock) -> Result<RingWriter> {
        check_options(feed, &options)?;
        let Start { registry, session, current, running_max } = start(feed)?;
        let next_seq = session.base_seq;
        let shared = Arc::new(Shared {
            feed: feed.clone(),
            registry,
            journal: Journal::open(feed, &session),
            session,
            current: Mutex::new(current.clone()),
            control: Mutex::default(),
            asked: Condvar::new(),
            attention: AtomicU32::new(0),
            lease: Lease::new(next_seq + LEASE_STEP),
            woken: AtomicU64::new(next_seq),
            rings: AtomicBool::new(false),
        });
        let mut writer = RingWriter {
            thread: None,
            _lock: lock,
            at: current.ring.offset_of(next_seq),
            current,
            next_seq,
            reserved: next_seq,
            running_max,
            counters: Counters::default(),
            order: feed.spec.policy.order,
            geometry: feed.geometry(),
            kept: Vec::new(),
            mark_asked: false,
            shared,
        };
        writer.thread = Some(Background::start(Arc::clone(&writer.shared))?);
        Ok(writer)
    }

    pub fn feed(&self) -> &FeedInfo {
        &self.shared.feed
    }

    #[inline]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Stores a single record directly, if there is room and nothing else to do. Everything else
    /// goes through `append_batch`.
    #[inline]
    pub fn append(&mut self, records: &[u8], marks: &[usize]) -> Result<Appended> {
        self.expect_to_publish();
        let first_seq = self.next_seq;
        let Geometry { record_size, time_offset, .. } = self.geometry;
        let plain = records.len() == record_size
            && self.order == Order::Accept
            && !self.mark_asked
            && marks.is_empty()
            && self.has_room(first_seq + 1);
        if !plain {
            return self.append_batch(records, marks);
        }
        let time = get_u64(records, time_offset);
        if time < self.running_max {
            return self.append_batch(records, marks);
        }
        self.running_max = time;
        self.publish(records, first_seq + 1);
        Ok(Appended { first_seq, count: 1, rejected: Vec::new() })
    }

    #[inline(never)]
    fn append_batch(&mut self, records: &[u8], marks: &[usize]) -> Result<Appended> {
        check_whole(&self.shared.feed, records)?;
        if std::mem::take(&mut self.mark_asked) || !marks.is_empty() {
            let name = &self.shared.feed.name;
            return Err(Error::Invalid(format!("{name}: a ring keeps no marks")));
        }
        if self.order == Order::Accept {
            return self.append_parts(records, Vec::new());
        }
        let mut kept = std::mem::take(&mut self.kept);
        let layout = &self.shared.feed.layout;
        let Sorted { rejected, late, .. } =
            put_in_order(layout, self.order, self.running_max, records, &[], &mut kept);
        self.counters.late += late;
        let done = self.append_parts(&kept, rejected);
        self.current.ring.page().set_counters(&self.counters);
        self.kept = kept;
        done
    }

    /// Publishes at most a quarter of the ring at a time, so that a reader that keeps up is not
    /// lapped within a batch.
    fn append_parts(&mut self, records: &[u8], rejected: Vec<usize>) -> Result<Appended> {
        let first_seq = self.next_seq;
        let size = self.geometry.record_size;
        let most = (self.current.ring.records() / 4).max(1) as usize;
        for part in records.chunks(most * size) {
            self.store(part, (part.len() / size) as u64)?;
        }
        Ok(Appended { first_seq, count: self.next_seq - first_seq, rejected })
    }

    /// Stores and publishes records: at most a quarter of the ring.
    fn store(&mut self, records: &[u8], count: u64) -> Result<()> {
        let end_seq = self.next_seq + count;
        if !self.has_room(end_seq) {
            self.make_room(end_seq)?;
        }
        let Geometry { record_size, time_offset, .. } = self.geometry;
        let mut late = 0;
        for record in records.chunks_exact(record_size) {
            let time = get_u64(record, time_offset);
            late += u64::from(time < self.running_max);
            self.running_max = self.running_max.max(time);
        }
        // With other policies, `put_in_order` counts late records.
        if late > 0 && self.order == Order::Accept {
            self.counters.late += late;
            self.current.ring.page().set_counters(&self.counters);
        }
        self.publish(records, end_seq);
        Ok(())
    }

    /// Whether records below `end_seq` may be stored without further work.
    #[inline(always)]
    fn has_room(&self, end_seq: u64) -> bool {
        end_seq <= self.reserved && self.shared.attention.load(Ordering::Relaxed) == 0
    }

    /// Prefetches the cache lines that spinning readers keep taking, while there is other work to
    /// do.
    #[inline(always)]
    fn expect_to_publish(&self) {
        let memory = self.current.ring.memory();
        memory.prefetch_to_store(PUBLISHED_AT);
        memory.prefetch_to_store(protocol::NEWEST_REST_AT);
    }

    #[inline(always)]
    fn publish(&mut self, records: &[u8], end_seq: u64) {
        let ring = &*self.current.ring;
        ring.page().set_running_max(self.running_max);
        if end_seq == self.next_seq + 1 {
            protocol::commit_one(ring.memory(), self.at, records, end_seq);
        } else {
            protocol::commit(ring.memory(), self.at, records, end_seq);
        }
        ring.memory().prefetch_ahead(self.at);
        step("ring.published");
        self.next_seq = end_seq;
        self.at += records.len();
        if self.at >= RING_HEAD_BYTES + ring.memory().capacity() {
            self.at -= ring.memory().capacity();
        }
    }

    /// Reserves up to `end_seq` and some more.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, end_seq: u64) -> Result<()> {
        let attention = self.shared.attention.load(Ordering::Acquire);
        if attention & FAILED != 0 {
            return Err(self.shared.poisoned());
        }
        if attention & DELETED != 0 {
            self.shared.attention.fetch_and(!DELETED, Ordering::AcqRel);
            self.replace_ring()?;
        }
        if end_seq <= self.reserved {
            return Ok(());
        }
        if end_seq > self.shared.lease.end() {
            self.shared.raise_lease(end_seq)?;
        }
        let ring = &self.current.ring;
        let ahead = RESERVE_BYTES.min(ring.head().capacity_bytes / 16) / ring.head().record_size;
        let leased = self.shared.lease.end();
        self.reserved = (end_seq + ahead as u64).min(leased);
        protocol::reserve(ring.memory(), self.reserved);
        step("ring.reserved");
        Ok(())
    }

    /// Continues in a new ring with the contents of this one, because the file was deleted.
    fn replace_ring(&mut self) -> Result<()> {
        let (feed, registry) = (&self.shared.feed, &self.shared.registry);
        let place = Place::find(feed, registry)?;
        let ring = place.make_ring(feed, Some(&self.current.ring), self.next_seq)?;
        ring.page().take_over(self.current.ring.page());
        self.current.ring.check()?;
        let bell = place.enter(feed, registry, &self.shared.session, &ring)?;
        let old = std::mem::replace(&mut self.current, Current { ring, bell });
        *self.shared.current.lock().unwrap_or_else(|e| e.into_inner()) = self.current.clone();
        place.displace(&old.ring, &self.current.ring)?;
        old.bell.wake();
        self.at = self.current.ring.offset_of(self.next_seq);
        self.reserved = self.next_seq;
        Ok(())
    }

    pub fn wake(&self) {
        self.shared.rings.store(true, Ordering::Relaxed);
        self.shared.wake(&self.current.bell, self.next_seq);
    }

    pub fn mark(&mut self) {
        self.mark_asked = true;
    }

    pub fn count_rows(&mut self, rejected: u64, passed_over: u64) {
        self.counters.rejected += rejected;
        self.counters.passed_over += passed_over;
        self.current.ring.page().set_counters(&self.counters);
    }

    pub fn note_reject(&mut self, why: String) {
        self.shared.journal.note_reject(why);
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Ends the session. The ring stays, marked as closed.
    pub fn finish(&mut self, reason: SessionEnd) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.shared.control().stop = true;
        self.shared.asked.notify_one();
        let panicked = thread.join().is_err();
        if panicked || self.shared.attention.load(Ordering::Acquire) & FAILED != 0 {
            return Err(self.shared.poisoned());
        }
        let (ring, registry) = (&self.current.ring, &self.shared.registry);
        ring.check().inspect_err(|error| self.shared.fail(error.to_string()))?;
        // What was reserved but not overwritten is readable again.
        protocol::reserve(ring.memory(), self.next_seq);
        let close = SessionClose {
            end_seq: self.next_seq,
            closed_us: process::wall_us(),
            counters: self.counters,
            reason,
        };
        registry.close_session(self.shared.session.position, &close);
        registry.sync()?;
        let journal = &self.shared.journal;
        journal.rejects(self.counters.rejected, true);
        log_closed(journal.log(), &self.shared.feed, &self.shared.session, &close);
        ring.page().end();
        // Wake sleeping followers even without new records: the session has ended.
        self.current.bell.wake();
        Ok(())
    }
}

/// Rejects options that a ring does not support.
fn check_options(feed: &FeedInfo, options: &WriterOptions) -> Result<()> {
    let refused = |what: &str| {
        let name = &feed.name;
        Err(Error::Invalid(format!("{name}: {what}: a ring is in memory, and never on disk")))
    };
    match options.sync {
        _ if options.on_durable.is_some() => refused("no record becomes durable"),
        Some(Sync::Every(_) | Sync::Batch) => refused("there is nothing to sync"),
        Some(Sync::None) | None => Ok(()),
    }
}

struct Start {
    registry: FeedRegistry,
    session: SessionEntry,
    current: Current,
    running_max: u64,
}

/// Takes over from the last writer. After each step, the feed can be read and taken over
/// (FORMAT.md, NAME.ring).
fn start(feed: &FeedInfo) -> Result<Start> {
    let registry = recover::open_registry(feed)?;
    let settled = recover::settle(feed, &registry, false)?;
    let next_seq = settled.next_seq;
    let old = ring::left_over(feed, &registry)?
        .filter(|old| old.held().is_ok_and(|held| held.1 == next_seq));
    let place = Place::find(feed, &registry)?;
    // The ring comes first: without room for it, no session begins.
    let ring = place.make_ring(feed, old.as_ref(), next_seq)?;
    step("ring.made");
    let mut session = recover::session_after(&settled);
    let running_max = old.as_ref().map_or(0, |old| old.page().running_max());
    old.as_ref().map_or(Ok(()), Ring::check)?;
    ring.page().begin(&recover::stamp_of(&session)?, next_seq, running_max);
    ring.page().vouch_for_nothing();
    let bell = place.enter(feed, &registry, &session, &ring)?;
    registry.append_session(&mut session)?;
    step("ring.session");
    registry.set_lease(next_seq + LEASE_STEP)?;
    if let Some(old) = &old {
        place.displace(old, &ring)?;
        step("ring.replaced");
    }
    bell.wake();
    Ok(Start { registry, session, current: Current { ring, bell }, running_max })
}

/// The folder of the ring.
struct Place {
    folder: std::path::PathBuf,
    device: u64,
}

impl Place {
    fn find(feed: &FeedInfo, registry: &FeedRegistry) -> Result<Place> {
        let mode = feed.spec.policy.file_mode;
        let noted = registry.segments();
        let folder = Segments::make_folder(feed.base(), feed.id.store_id, mode, noted.as_ref())?;
        Ok(Place { device: file::identity_of(&folder)?.0, folder })
    }

    fn segments(&self, session: &SessionEntry, segment_id: u64) -> Segments {
        Segments {
            session_id: session.session_id,
            segment_id,
            device: self.device,
            boot_id: session.boot_id,
            kind: SegmentKind::Ring,
            folder: self.folder.clone(),
        }
    }

    /// Creates a ring, not yet visible, with the contents of the old one.
    fn make_ring(&self, feed: &FeedInfo, old: Option<&Ring>, next_seq: u64) -> Result<Arc<Ring>> {
        let capacity_bytes = RingHead::capacity_for(feed.spec.policy.ring_size_bytes);
        let record_size = feed.geometry().record_size;
        let room = (capacity_bytes / record_size) as u64;
        let held = old.map_or(Ok(next_seq), |old| old.held().map(|held| held.0.min(next_seq)))?;
        old.map_or(Ok(()), Ring::check)?;
        let head = RingHead {
            segment_id: ring::random_id()?,
            capacity_bytes,
            record_size,
            base_seq: held.max(next_seq.saturating_sub(room)),
            made_us: process::wall_us(),
        };
        let path = self.folder.join(format!("{}.ring", feed.name));
        let ring = Ring::create(&path, &feed.id, head, feed.spec.policy.file_mode)?;
        if let Some(old) = old {
            carry_over(old, &ring, (head.base_seq, next_seq)).inspect_err(|_| ring.discard())?;
        }
        protocol::reserve(ring.memory(), next_seq);
        ring.page().publish(next_seq);
        Ok(Arc::new(ring))
    }

    /// Makes a ring visible to readers. The session is already open on its page.
    fn enter(
        &self,
        feed: &FeedInfo,
        registry: &FeedRegistry,
        session: &SessionEntry,
        ring: &Ring,
    ) -> Result<Arc<WaitFile>> {
        let segments = self.segments(session, ring.head().segment_id);
        let (name, mode) = (&feed.name, feed.spec.policy.file_mode);
        let bell = WaitFile::open_or_create(&segments.wait_path(name), &feed.id, mode)?;
        ring.appear()?;
        step("ring.named");
        // The note comes last, so a reader that follows it finds a page that is at least as new.
        registry.set_segments(&segments)?;
        step("ring.noted");
        Ok(Arc::new(bell))
    }

    /// Redirects the readers of the old ring to the next one.
    fn displace(&self, old: &Ring, next: &Ring) -> Result<()> {
        protocol::replace(old.memory(), next.head().segment_id);
        match old.path().parent() {
            Some(folder) if folder != self.folder => file::remove_file(old.path()),
            _ => Ok(()),
        }
    }
}

/// Copies records from one ring to another.
///
/// # Errors
/// [`Error::Damaged`] if the old one was truncated meanwhile.
fn carry_over(old: &Ring, new: &Ring, (from, to): (u64, u64)) -> Result<()> {
    let size = old.head().record_size;
    let mut bytes = vec![0; (RESERVE_BYTES / size).max(1) * size];
    let mut seq = from;
    while seq < to {
        let count = ((to - seq) as usize).min(bytes.len() / size);
        let bytes = &mut bytes[..count * size];
        protocol::copy(old.memory(), old.offset_of(seq), bytes);
        old.check()?;
        seq += count as u64;
        protocol::commit(new.memory(), new.offset_of(seq - count as u64), bytes, seq);
    }
    Ok(())
}

/// The background thread.
struct Background {
    shared: Arc<Shared>,
    clocks: Clocks,
    linked_at: Instant,
}

impl Background {
    fn start(shared: Arc<Shared>) -> Result<JoinHandle<()>> {
        let clocks = Clocks::start(shared.current().ring.page());
        let folder = shared.feed.folder.clone();
        let mut background = Background { shared, clocks, linked_at: Instant::now() };
        std::thread::Builder::new()
            .name("deepwater".into())
            .spawn(move || {
                signal::block_in_this_thread();
                background.run();
            })
            .map_err(|e| Error::io("cannot start a thread to write", folder, e))
    }

    fn run(&mut self) {
        let mut populated = 0;
        let mut tick = BUSY_TICK;
        while !self.stopped(tick) {
            let Current { ring, bell } = self.shared.current();
            tick = self.tick(&ring, &bell);
            if populated < 2 * ring.head().capacity_bytes {
                ring.memory().populate(RING_HEAD_BYTES + populated, POPULATE_BYTES, true);
                populated += POPULATE_BYTES;
                tick = Duration::ZERO;
            }
        }
        let Current { ring, .. } = self.shared.current();
        self.clocks.keep(ring.page());
    }

    /// Sleeps for a tick. Returns whether the writer is being closed.
    fn stopped(&self, tick: Duration) -> bool {
        let control = self.shared.control();
        let waited = self.shared.asked.wait_timeout_while(control, tick, |c| !c.stop);
        waited.unwrap_or_else(|e| e.into_inner()).0.stop
    }

    /// Does the periodic work. Returns how long to sleep.
    fn tick(&mut self, ring: &Ring, bell: &WaitFile) -> Duration {
        let published = ring.page().published();
        let known = || match published <= self.shared.lease.end() {
            true => Ok(()),
            false => ring.held().map(|_| ()),
        };
        if let Err(error) = ring.check().and_then(|()| known()) {
            // `published` is meaningless then, and stores of the writing thread have no effect.
            if self.shared.attention.load(Ordering::Relaxed) & FAILED == 0 {
                self.shared.fail(error.to_string());
            }
            return CALM_TICK;
        }
        let moved = self.clocks.keep(ring.page());
        self.shared.journal.rejects(ring.page().counters().rejected, false);
        let asleep = bell.is_armed();
        self.shared.wake(bell, published);
        if published + LEASE_STEP / 2 > self.shared.lease.end()
            && let Err(error) = self.shared.raise_lease(published)
        {
            self.shared.fail(error.to_string());
        }
        if self.linked_at.elapsed() >= LINK_EVERY {
            self.linked_at = Instant::now();
            if !ring.is_named() {
                self.shared.attention.fetch_or(DELETED, Ordering::Release);
            }
        }
        // A writing thread that wakes followers itself needs this thread only for the clocks.
        let needed = asleep && !self.shared.rings.load(Ordering::Relaxed);
        match needed && (moved || self.clocks.moved_lately()) {
            true => BUSY_TICK,
            false => CALM_TICK,
        }
    }
}
