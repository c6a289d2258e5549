//! The checks of one feed.

use std::fs;
use std::time::Duration;

use super::{Check, Finding, Limits, Now, Verdict};
use crate::chunk::ChunkPaths;
use crate::chunk::index::{BLOCK_ENTRY_SIZE, HEADER_SIZE};
use crate::chunk::proof::{Standing, is_outlived};
use crate::chunk::strays::{self, Look};
use crate::error::{Error, Result, system_text};
use crate::os::process;
use crate::reader::RingState;
use crate::registry::feed::{
    ChunkEntry, Entry, FeedRegistry, Place, RANGE_LOST, RANGE_UNREACHABLE, RangeEntry, SessionEnd,
    SessionEntry,
};
use crate::registry::global::FeedEntry;
use crate::registry::holder::writer_of;
use crate::registry::info::FeedInfo;
use crate::registry::live::{Counters, LivePage};
use crate::registry::segments::{Reach, Segments};
use crate::registry::view::LiveView;
use crate::ring::{self, Found};
use crate::schema::Sync;
use crate::store::Platform;
use crate::text::words::{grouped, size, span};

/// A loss is an alarm for so long after it was noted, and shown from then on.
const LOSS_ALARM: Duration = Duration::from_secs(24 * 3600);
/// A feed with a retention or a size limit should be looked after by dw-gc this often.
const GC_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// A wall clock this far behind an arrival was set back.
const CLOCK_SLACK_US: u64 = 60_000_000;
/// Records that came this long ago and are not durable, after no sync for `SYNC_PATIENCE` or three
/// times the policy's interval, wait for a disk that does not answer.
const BACKLOG_PATIENCE: Duration = Duration::from_secs(10);
const SYNC_PATIENCE: Duration = Duration::from_secs(60);
/// So many broken chunks are named; the rest is counted.
const NAMED: usize = 3;

/// What a look at a feed gives.
#[derive(Default)]
pub(super) struct Looked {
    pub findings: Vec<Finding>,
    /// Where its newest session has shared-memory files.
    pub segments: Option<Segments>,
}

/// Checks one feed; a feed that was deleted meanwhile has no findings.
pub(super) fn look(platform: &Platform, entry: &FeedEntry, limits: &Limits, now: Now) -> Looked {
    let name = Some(&*entry.name);
    let failed = |findings| Looked { findings, segments: None };
    let info = match platform.info_of(entry) {
        Ok(info) => info,
        Err(error) if is_deleted(platform, entry, &error) => return Looked::default(),
        Err(error) => return failed(vec![Finding::of_error(Check::FeedSpec, name, &error)]),
    };
    let cause = format!("record of {} bytes", info.layout.record_size());
    let spec = Finding::new(Check::FeedSpec, name, false, cause);
    if !info.spec.policy.persist {
        return look_at_ring(platform, entry, info, spec, limits, now);
    }
    let feed = match Feed::look(info) {
        Ok(feed) => feed,
        Err(error) if is_deleted(platform, entry, &error) => return Looked::default(),
        Err(error) => {
            return failed(vec![spec, Finding::of_error(Check::FeedRegistry, name, &error)]);
        }
    };
    let mut findings = vec![spec, feed.registry()];
    findings.push(feed.live_page());
    findings.push(feed.chunks());
    findings.push(feed.writer(now));
    findings.extend(limits.max_age.as_ref().map(|ages| {
        let wanted = ages.of(&feed.info.name, feed.info.spec.policy.live);
        feed.fresh(wanted, now)
    }));
    findings.extend(feed.collected(now));
    findings.push(feed.backlog(now));
    findings.push(feed.lost(now));
    findings.push(feed.rejects());
    Looked { findings, segments: feed.view.segments }
}

/// Checks a transient feed: its page is the ring's, and it has nothing on disk.
fn look_at_ring(
    platform: &Platform,
    entry: &FeedEntry,
    info: FeedInfo,
    spec: Finding,
    limits: &Limits,
    now: Now,
) -> Looked {
    let name = Some(&*entry.name);
    let registry = FeedRegistry::open(&info.registry_path(), &info.id, false);
    let found = registry.and_then(|registry| ring::find(&info, &registry, false));
    let finding = match found {
        Ok(Found::Ring(ring)) => match RingState::of(&ring, &info) {
            Ok(state) => {
                let cause = format!(
                    "{:.0}% of {} in use, {:.1} s of history; {} of followers",
                    state.fill() * 100.0,
                    size(state.capacity_bytes),
                    state.history_seconds,
                    counted(state.overruns, "overrun"),
                );
                Finding::new(Check::Ring, name, false, cause).value(state.history_seconds)
            }
            Err(error) => Finding::of_error(Check::Ring, name, &error),
        },
        Ok(Found::Never) => {
            let cause = "no ring since the machine started".to_owned();
            Finding::new(Check::Ring, name, false, cause)
        }
        Ok(Found::Gone(folder)) => {
            let cause = format!(
                "its ring was deleted from {}, as systemd's RemoveIPC does when a user logs out; \
                 the next record written makes another",
                folder.display()
            );
            Finding::new(Check::Ring, name, true, cause)
        }
        Err(error) => Finding::of_error(Check::Ring, name, &error),
    };
    let feed = match Feed::look(info.clone()) {
        Ok(feed) => feed,
        Err(error) if is_deleted(platform, entry, &error) => return Looked::default(),
        Err(error) => {
            let registry = Finding::of_error(Check::FeedRegistry, name, &error);
            return Looked { findings: vec![spec, registry], segments: None };
        }
    };
    let mut findings = vec![spec, feed.registry(), finding, feed.writer(now)];
    findings.extend(limits.max_age.as_ref().map(|ages| {
        let wanted = ages.of(&feed.info.name, feed.info.spec.policy.live);
        feed.fresh(wanted, now)
    }));
    findings.push(feed.rejects());
    Looked { findings, segments: feed.view.segments }
}

/// Whether files are missing because the feed was deleted since the registry was read.
fn is_deleted(platform: &Platform, entry: &FeedEntry, error: &Error) -> bool {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    matches!(error, Error::Io { source, .. } if gone(source))
        && platform.registry().is_ok_and(|now| now.feeds.iter().all(|feed| feed.id != entry.id))
}

/// What a feed's own files say, read once; no records among it.
struct Feed {
    info: FeedInfo,
    registry: FeedRegistry,
    /// The live page, wherever it is.
    view: LiveView,
    /// Whether the page is of this boot, this file and intact: its words are true then.
    believed: bool,
    /// Why the files cannot have what the page says.
    refuted: Option<String>,
    entries: Vec<Entry>,
    /// Records exist below this seq: exactly, if the page is believed or the last session was
    /// closed; else what was durable.
    end: u64,
    is_deleted: bool,
}

/// The registry and the live page of a feed, and what they say.
struct Files {
    registry: FeedRegistry,
    view: LiveView,
    /// What the page says, if it is believed.
    published: Option<u64>,
    /// Why what it says cannot be true.
    refuted: Option<String>,
    entries: Vec<Entry>,
    is_deleted: bool,
}

impl Files {
    fn mapped(info: &FeedInfo) -> Result<Files> {
        loop {
            let registry = FeedRegistry::open(&info.registry_path(), &info.id, false)?;
            let view = LiveView::of(info, &registry)?;
            let files = Files::read(info, registry, view)?;
            // Otherwise a session began meanwhile, and its page is not the one that was asked.
            if files.view.is_current(info, &files.registry)? {
                return Ok(files);
            }
        }
    }

    /// Copies of them as they were at one moment: the page did not change between two readings,
    /// which both lie between two of the registry, which did not change either. So every chunk
    /// below `published` is in the table, as for those who read `published` first.
    fn copied(info: &FeedInfo) -> Option<Files> {
        let registry = FeedRegistry::copy(&info.registry_path(), &info.id)?;
        let view = LiveView::copied(info, &registry)?;
        match registry.is_unchanged() {
            true => Files::read(info, registry, view).ok(),
            false => None,
        }
    }

    fn read(info: &FeedInfo, registry: FeedRegistry, view: LiveView) -> Result<Files> {
        // `published` first: every chunk below it is in the table by then.
        let mut published = view.page.as_deref().and_then(LivePage::believed);
        let entries = registry.entries()?;
        let is_deleted = registry.is_deleted()?;
        published = published.filter(|_| !is_outlived(view.page.as_deref(), &entries));
        let mut refuted = None;
        if published.is_some() && info.spec.policy.persist {
            let standing = Standing::judge(info, entries.clone(), None, published);
            refuted = standing.refutation(info, view.segments.as_ref())?;
            published = published.filter(|_| refuted.is_none());
        }
        Ok(Files { registry, view, published, refuted, entries, is_deleted })
    }
}

/// When the last record came.
enum Silence {
    Never,
    Since(Duration),
    /// Later than it is now, by the wall clock.
    Ahead(Duration),
}

impl Feed {
    /// Reads copies, and where somebody stores meanwhile, or something is not as it should be, the
    /// files themselves: what is wrong is said of those.
    fn look(info: FeedInfo) -> Result<Feed> {
        let files = match Files::copied(&info) {
            Some(files) => files,
            None => Files::mapped(&info)?,
        };
        let Files { registry, view, published, refuted, entries, is_deleted } = files;
        let believed = published.is_some();
        let mut feed =
            Feed { info, registry, view, believed, refuted, entries, end: 0, is_deleted };
        feed.end = published.unwrap_or_else(|| feed.known_end());
        Ok(feed)
    }

    fn live(&self) -> Option<&LivePage> {
        self.view.page.as_deref()
    }

    /// The end as the table has it, where the live page says nothing. What blocks would prove
    /// beyond it is not looked at: no record is read here.
    fn known_end(&self) -> u64 {
        let sealed =
            self.chunk_entries().filter_map(|c| c.seal.map(|s| c.base_seq + s.count)).max();
        let session = self.sessions().last().map_or(0, |session| match session.close {
            Some(close) => close.end_seq,
            None => {
                let own = self.registry.checkpoint().filter(|c| c.session_id == session.session_id);
                own.map_or(session.base_seq, |c| c.seq.max(session.base_seq))
            }
        });
        session.max(sealed.unwrap_or(0))
    }

    fn sessions(&self) -> impl DoubleEndedIterator<Item = &SessionEntry> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Session(session) => Some(session),
            _ => None,
        })
    }

    fn chunk_entries(&self) -> impl Iterator<Item = &ChunkEntry> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Chunk(chunk) => Some(chunk),
            _ => None,
        })
    }

    fn ranges(&self) -> impl Iterator<Item = &RangeEntry> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Range(range) => Some(range),
            _ => None,
        })
    }

    /// An entry as it is now.
    fn entry_now(&self, position: u64) -> Result<Entry> {
        match self.registry.is_copy() {
            true => self.registry.mapped(&self.info.id)?.entry(position),
            false => self.registry.entry(position),
        }
    }

    fn finding(&self, check: Check, wrong: bool, cause: String) -> Finding {
        Finding::new(check, Some(&self.info.name), wrong, cause)
    }

    fn registry(&self) -> Finding {
        let name = &self.info.name;
        let cause = match self.is_deleted {
            true => format!("it was being deleted; dw-mkfeed --delete {name} ends that"),
            false => format!("{} published so far", counted(self.end, "record")),
        };
        self.finding(Check::FeedRegistry, self.is_deleted, cause).value(self.end as f64)
    }

    /// The page on disk; a staged session has another, and leaves this one what it said last.
    fn live_page(&self) -> Finding {
        if self.view.is_staged() || self.view.page.is_none() {
            let page = LivePage::open(&self.info.live_path(), &self.info.id, false);
            if let Err(error) = page {
                return Finding::of_error(Check::LivePage, Some(&self.info.name), &error);
            }
        }
        if let Some(what) = &self.refuted {
            let name = &self.info.name;
            let cause = format!(
                "it says more than the files have: {what}; dw-repair --dry-run {name} says what \
                 can be saved"
            );
            return self.finding(Check::LivePage, true, cause);
        }
        self.finding(Check::LivePage, false, "live reads".to_owned())
    }

    /// Looks for every chunk's files by name and size.
    fn chunks(&self) -> Finding {
        let chunks: Vec<ChunkEntry> = self.chunk_entries().copied().collect();
        let (mut wrong, mut bytes, mut there) = (Vec::new(), 0, 0u64);
        let mut unknown = false;
        for (i, chunk) in chunks.iter().enumerate() {
            let end = chunks.get(i + 1).map_or(self.end, |next| next.base_seq.min(self.end));
            match self.settled_files(*chunk, end) {
                Ok(None) => {}
                Ok(Some(size)) => (bytes, there) = (bytes + size, there + 1),
                Err(Missing { what, denied }) => {
                    unknown |= denied;
                    wrong.push(what);
                }
            }
        }
        wrong.extend(self.gaps().iter().map(|(lo, hi)| {
            format!("no entry of the table has seq {lo}..{hi}, which come before others")
        }));
        match strays::doubts(&self.info, &self.entries, self.live(), Look::All) {
            Ok(doubts) => wrong.extend(doubts.iter().map(ToString::to_string)),
            Err(error) => {
                unknown |= error.is_limit() || error.is_denied();
                wrong.push(error.to_string());
            }
        }
        let count = wrong.len();
        let cause = if count == 0 {
            format!("{}, {}", counted(there, "chunk"), size(bytes))
        } else {
            let rest = match count.saturating_sub(NAMED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            wrong.truncate(NAMED);
            let hint = format!("dw-repair --dry-run {} says what can be saved", self.info.name);
            format!("{}{rest}; {hint}", wrong.join("; "))
        };
        let mut finding = self.finding(Check::Chunks, count > 0, cause).value(count as f64);
        if unknown {
            finding.verdict = Verdict::Unknown;
        }
        finding
    }

    /// Seqs that the table leaves out, where its end is known without a look at records.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let closed = self.sessions().last().is_none_or(|session| session.close.is_some());
        if !self.believed && !closed {
            return Vec::new();
        }
        let published = self.believed.then_some(self.end);
        Standing::judge(&self.info, self.entries.clone(), None, published).gaps()
    }

    /// The size of a chunk's files; `None` if it needs none. What looks wrong is looked at again
    /// with a fresh entry: it may have been sealed or collected meanwhile.
    fn settled_files(
        &self,
        mut chunk: ChunkEntry,
        end: u64,
    ) -> std::result::Result<Option<u64>, Missing> {
        loop {
            let looked = self.files(&chunk, end);
            if looked.is_ok() {
                return looked;
            }
            match self.entry_now(chunk.position) {
                Ok(Entry::Chunk(now)) if now != chunk => chunk = now,
                _ => return looked,
            }
        }
    }

    fn files(&self, chunk: &ChunkEntry, end: u64) -> std::result::Result<Option<u64>, Missing> {
        let records = match (chunk.place, chunk.seal) {
            (Place::OnDisk, Some(seal)) => seal.count,
            (Place::Live, _) => end.saturating_sub(chunk.base_seq),
            (Place::Staged | Place::Flushing, _) if self.believed => {
                end.saturating_sub(chunk.base_seq)
            }
            _ => return Ok(None),
        };
        // A chunk is in the table shortly before its first record is published.
        if records == 0 {
            return Ok(None);
        }
        let geometry = self.registry.geometry();
        let blocks = records.div_ceil(geometry.block_records as u64);
        let index = match chunk.place {
            Place::OnDisk => HEADER_SIZE as u64 + blocks * BLOCK_ENTRY_SIZE as u64,
            _ => HEADER_SIZE as u64,
        };
        let memory = self.view.staged().filter(|_| chunk.place.is_staged());
        let memory = memory.map(|segments| segments.chunk_folder(&self.info.name));
        let folder = memory.as_ref().unwrap_or(&self.info.folder);
        let paths = ChunkPaths::new(folder, chunk.chunk_id);
        let data = records.saturating_mul(geometry.record_size as u64);
        let mut bytes = 0;
        for (path, needed) in [(paths.data, data), (paths.index, index)] {
            let (what, denied) = match fs::symlink_metadata(&path) {
                Ok(meta) if !meta.is_file() => ("not a file".to_owned(), false),
                Ok(meta) if meta.len() < needed => {
                    (format!("{} bytes, and its records take {needed}", meta.len()), false)
                }
                Ok(meta) => {
                    bytes += meta.len();
                    continue;
                }
                Err(error) => {
                    (system_text(&error), error.kind() == std::io::ErrorKind::PermissionDenied)
                }
            };
            let (lo, hi) = (chunk.base_seq, chunk.base_seq + records);
            return Err(Missing {
                what: format!("{}: {what} (seq {lo}..{hi})", path.display()),
                denied,
            });
        }
        Ok(Some(bytes))
    }

    /// Who writes, or how the last writer ended.
    fn writer(&self, now: Now) -> Finding {
        let finding = |wrong, cause| self.finding(Check::Writer, wrong, cause);
        let ago = |us: u64| span(Duration::from_micros(now.wall_us.saturating_sub(us)));
        let Some(mut session) = self.sessions().last().copied() else {
            return finding(false, "never written".to_owned()).value(0.0);
        };
        if session.close.is_none() {
            let writer = match writer_of(&self.info.lock, self.live()) {
                Ok(writer) => writer,
                Err(e) => return Finding::of_error(Check::Writer, Some(&self.info.name), &e),
            };
            if let Some(pid) = writer {
                let cause = match pid {
                    0 => "being written".to_owned(),
                    pid => format!("being written by process {pid}"),
                };
                return finding(false, cause).value(1.0);
            }
            // A writer closes its session before it frees the lock: one that is open still has
            // died.
            if let Ok(Entry::Session(now)) = self.entry_now(session.position) {
                session = now;
            }
        }
        if let Some(close) = session.close {
            let end = match close.reason {
                SessionEnd::Ended => "ended",
                SessionEnd::Signal => "was ended by a signal",
                SessionEnd::Error => "stopped at an error",
                SessionEnd::Crashed => "crashed",
                SessionEnd::PowerLoss => "was cut off by a power loss",
                SessionEnd::MemoryGone => "crashed, and its shared memory was gone",
                SessionEnd::Unknown => "ended, nobody knows how,",
            };
            let cause = format!("idle; the last writer {end} {} ago", ago(close.closed_us));
            return finding(false, cause).value(0.0);
        }
        let seen =
            self.live().and_then(LivePage::last_publish).filter(|at| at.0 > session.opened_us);
        let seen = seen.map_or(format!("opened {} ago", ago(session.opened_us)), |at| {
            format!("last record {} ago", ago(at.0))
        });
        let how = match (self.believed, self.view.end_without_page(&session), self.view.reach) {
            (true, ..) => "died without closing the feed",
            (false, SessionEnd::MemoryGone, Reach::OtherDevice) => {
                "died, or its shared memory is another's from here (a container has its own)"
            }
            (false, SessionEnd::MemoryGone, _) => "died, and its shared memory is gone",
            _ => "was cut off when the machine stopped (or the store was copied meanwhile)",
        };
        let what_now = "start dw-write again, which recovers it";
        finding(true, format!("process {} ({seen}) {how}; {what_now}", session.pid)).value(0.0)
    }

    /// How long ago the last record came: by the boot clock if it came in this boot.
    fn silence(&self, now: Now) -> Silence {
        let last = self.live().and_then(LivePage::last_publish);
        let newest = self.sessions().rev().find(|session| {
            session.close.map_or(self.end, |close| close.end_seq) > session.base_seq
        });
        let boot_id = process::boot_id();
        if let Some(session) = newest
            && session.boot_id == boot_id
            && boot_id != [0; 16]
        {
            // The page's clock is set up to 50 ms after the record came. Until then it is that of
            // an older session, or of another boot.
            let at = last
                .map_or(0, |last| last.1)
                .clamp(session.opened_boot_ns, now.boot_ns.max(session.opened_boot_ns));
            return Silence::Since(Duration::from_nanos(now.boot_ns.saturating_sub(at)));
        }
        let synced = || self.registry.checkpoint().map(|c| c.written_us);
        let Some(at) = last.map(|last| last.0).or_else(synced).filter(|_| self.end > 0) else {
            return Silence::Never;
        };
        match now.wall_us.checked_sub(at) {
            Some(age_us) => Silence::Since(Duration::from_micros(age_us)),
            None if at - now.wall_us < CLOCK_SLACK_US => Silence::Since(Duration::ZERO),
            None => Silence::Ahead(Duration::from_micros(at - now.wall_us)),
        }
    }

    /// Whether a record came within `max_age`; without one whatever it is is fine.
    fn fresh(&self, max_age: Option<Duration>, now: Now) -> Finding {
        let (age, what) = match self.silence(now) {
            Silence::Since(age) => (age, format!("last record {} ago", span(age))),
            Silence::Never => {
                let made = Duration::from_micros(now.wall_us.saturating_sub(self.info.created_us));
                (made, format!("no record since it was made, {} ago", span(made)))
            }
            Silence::Ahead(by) => {
                let cause = format!(
                    "the last record came {} from now: the clock was set back, and how old it is \
                     cannot be said",
                    span(by)
                );
                return self.finding(Check::Fresh, max_age.is_some(), cause);
            }
        };
        let stale = max_age.is_some_and(|max| age > max);
        let cause = match max_age {
            None => format!("{what}; live: no, so it may be any"),
            Some(max) if stale => {
                format!("{what}, over {}; see what feeds its dw-write", span(max))
            }
            Some(max) => format!("{what}, {} allowed", span(max)),
        };
        let seconds = (age.as_secs_f64() * 1000.0).round() / 1000.0;
        self.finding(Check::Fresh, stale, cause).value(seconds)
    }

    /// Whether dw-gc looks after a feed that asks for it.
    fn collected(&self, now: Now) -> Option<Finding> {
        let policy = &self.info.spec.policy;
        policy.retention_seconds.map(drop).or(policy.max_size_bytes.map(drop))?;
        let (last, jump) = (self.registry.last_gc(), self.registry.clock_jump());
        let ago = |us: u64| Duration::from_micros(now.wall_us.saturating_sub(us));
        let never = last.wall_us == 0;
        let age = ago(last.wall_us.max(self.info.created_us));
        let what = match never {
            true => format!("no dw-gc since it was made, {} ago", span(age)),
            false => format!("dw-gc ran {} ago", span(age)),
        };
        let refused = jump.wall_us > 0;
        let cause = if refused {
            format!(
                "dw-gc collects nothing: it does not trust the clock since {} ago; dw-gc --dry-run \
                 says why, --trust-clock goes on at once",
                span(ago(jump.wall_us))
            )
        } else if age > GC_PATIENCE {
            format!("{what}; the feed has a limit: dw-gc --install-cron keeps it")
        } else {
            what
        };
        let finding = self.finding(Check::Collected, refused || age > GC_PATIENCE, cause);
        Some(finding.value(age.as_secs_f64().round()))
    }

    /// Whether what is published becomes durable, where somebody writes.
    fn backlog(&self, now: Now) -> Finding {
        let Some(live) = self.live().filter(|live| self.believed && live.is_open()) else {
            return self.finding(Check::Backlog, false, "nobody writes".to_owned()).value(0.0);
        };
        let durable = live.durable();
        let behind = live.published().saturating_sub(durable);
        let session = self.sessions().last().map_or(0, |session| session.session_id);
        // Without one in this session it may have been opened with another sync than the policy's.
        let checkpoint = self.registry.checkpoint().filter(|c| c.session_id == session);
        let stalled = match (self.info.spec.policy.sync, checkpoint) {
            (Sync::Every(every), Some(checkpoint)) if behind > 0 => {
                let idle = Duration::from_micros(now.wall_us.saturating_sub(checkpoint.written_us));
                idle >= SYNC_PATIENCE.max(every * 3) && came_long_ago(&live.samples(), durable, now)
            }
            _ => false,
        };
        let behind_text = counted(behind, "record");
        let cause = match stalled {
            true => format!(
                "{behind_text} published and not durable for a minute and more: the disk does not \
                 keep up; see iostat and dmesg"
            ),
            false => format!("{behind_text} not durable yet"),
        };
        self.finding(Check::Backlog, stalled, cause).value(behind as f64)
    }

    /// Records that are on record as lost.
    fn lost(&self, now: Now) -> Finding {
        let lost: Vec<&RangeEntry> = self
            .ranges()
            .filter(|range| [RANGE_LOST, RANGE_UNREACHABLE].contains(&range.reason))
            .collect();
        let count: u64 = lost.iter().map(|range| range.seqs.1.saturating_sub(range.seqs.0)).sum();
        let Some(last) = lost.iter().max_by_key(|range| range.recorded_us) else {
            return self.finding(Check::Lost, false, "none".to_owned()).value(0.0);
        };
        let age = Duration::from_micros(now.wall_us.saturating_sub(last.recorded_us));
        let how = if last.reason == RANGE_LOST { "lost" } else { "out of reach" };
        // What was in memory may have been less: its range goes up to the lease.
        let cause = format!(
            "up to {} lost, last seq {}..{} ({how}, noted {} ago); dw-ls --gaps {} has them all",
            counted(count, "record"),
            last.seqs.0,
            last.seqs.1,
            span(age),
            self.info.name
        );
        self.finding(Check::Lost, age < LOSS_ALARM, cause).value(count as f64)
    }

    /// Rows refused by whoever writes, or wrote last. Never a failure: what is refused was told.
    fn rejects(&self) -> Finding {
        let session = self.sessions().last();
        let counters = match session.map(|session| session.close) {
            Some(Some(close)) => close.counters,
            Some(None) if self.believed => {
                self.live().map_or(Counters::default(), LivePage::counters)
            }
            _ => Counters::default(),
        };
        let rows = counters.rejected;
        let cause = format!("{} of the current or last writer rejected", counted(rows, "row"));
        self.finding(Check::Rejects, false, cause).value(rows as f64)
    }
}

/// Whether some record above `durable` came longer ago than a disk may take.
fn came_long_ago(samples: &[(u64, u64)], durable: u64, now: Now) -> bool {
    let long_ago = now.boot_ns.saturating_sub(BACKLOG_PATIENCE.as_nanos() as u64);
    samples.iter().any(|(boot_ns, published)| *boot_ns <= long_ago && *published > durable)
}

fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(n))
}

/// Why a chunk's files are not as they should be.
struct Missing {
    what: String,
    /// Only that we may not look.
    denied: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_what_came_long_ago_and_is_not_durable() {
        let now = Now { wall_us: 0, boot_ns: 100_000_000_000 };
        let sample = |seconds: u64, published| (seconds * 1_000_000_000, published);
        // Came eleven seconds ago, and the disk has it: all is well, however much came since.
        let samples = [sample(89, 50), sample(95, 70), sample(99, 90)];
        assert!(!came_long_ago(&samples, 50, now));
        assert!(came_long_ago(&samples, 49, now));
        // Nothing old enough to say.
        assert!(!came_long_ago(&samples[1..], 0, now));
        assert!(!came_long_ago(&[], 0, now));
    }
}
