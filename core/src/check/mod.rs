//! Checks the health of a store. It reads everything but the records themselves, changes nothing
//! and takes no lock.

mod feed;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gc::segments::{Left, left_in};
use crate::os::{file, process};
use crate::registry::global::FeedEntry;
use crate::registry::segments::{Reach, SegmentKind, Segments};
use crate::store::Platform;
use crate::text::words;

/// Below this number of free inodes, a capture may soon fail to create its next chunk.
const FEWEST_INODES: u64 = 1000;

/// Minimum feeds per thread: below this, starting a thread costs more than it saves.
const FEEDS_A_THREAD: usize = 50;

/// What is checked. The words of [`Check::as_str`] are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// `manifest.json` is readable.
    Manifest,
    /// The store's format version is one that this build knows.
    Version,
    /// `registry.bin` is readable. Value: number of feeds.
    Registry,
    /// Space on the store's file system. Value: free bytes.
    DiskSpace,
    /// The store's file system has inodes for new files. Value: free inodes, or none if the file
    /// system does not count them.
    Inodes,
    /// Space in the shared memory that feeds use. Left out if no feed uses any. Value: free bytes.
    ShmSpace,
    /// No unneeded files are left in shared memory. Value: bytes of such files.
    Segments,
    /// `feed.json` is readable and agrees with the registry.
    FeedSpec,
    /// `feed_registry.bin` is readable. Value: records published so far.
    FeedRegistry,
    /// The live page is readable.
    LivePage,
    /// The ring of a transient feed exists. Value: seconds of history in it.
    Ring,
    /// Chunk files exist and are long enough. Value: number of problems.
    Chunks,
    /// The last writer has closed the feed, or is writing. Value: 1 if the feed is being written,
    /// else 0.
    Writer,
    /// Records keep arriving. Value: seconds since the last one.
    Fresh,
    /// dw-gc runs on a feed that has a retention or a size limit. Value: seconds since its last
    /// run, or since the feed was created.
    Collected,
    /// Published records become durable. Value: records that are not durable yet.
    Backlog,
    /// No records were lost lately. Value: all records lost, as far back as the table goes.
    Lost,
    /// Rows that the current or last writer rejected. Never unhealthy. Value: rows.
    Rejects,
}

impl Check {
    /// Returns the check's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Manifest => "manifest",
            Check::Version => "version",
            Check::Registry => "registry",
            Check::DiskSpace => "disk-space",
            Check::Inodes => "inodes",
            Check::ShmSpace => "shm-space",
            Check::Segments => "segments",
            Check::FeedSpec => "feed-spec",
            Check::FeedRegistry => "feed-registry",
            Check::LivePage => "live-page",
            Check::Ring => "ring",
            Check::Chunks => "chunks",
            Check::Writer => "writer",
            Check::Fresh => "fresh",
            Check::Collected => "collected",
            Check::Backlog => "backlog",
            Check::Lost => "lost",
            Check::Rejects => "rejects",
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Healthy,
    /// Someone should act.
    Unhealthy,
    /// The check could not be made.
    Unknown,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// The feed, or `None` for the store.
    pub feed: Option<String>,
    /// The result.
    pub verdict: Verdict,
    /// The reason, in one line. If something is wrong, it ends with what to do.
    pub cause: String,
    /// The number behind the result, as documented at [`Check`].
    pub value: Option<f64>,
}

impl Finding {
    fn new(check: Check, feed: Option<&str>, wrong: bool, cause: String) -> Finding {
        let verdict = if wrong { Verdict::Unhealthy } else { Verdict::Healthy };
        Finding { check, feed: feed.map(str::to_owned), verdict, cause, value: None }
    }

    fn value(mut self, value: f64) -> Finding {
        self.value = Some(value);
        self
    }

    /// A read error counts as damage unless it comes from permissions or limits.
    fn of_error(check: Check, feed: Option<&str>, error: &Error) -> Finding {
        let verdict = match error.is_limit() || error.is_denied() {
            true => Verdict::Unknown,
            false => Verdict::Unhealthy,
        };
        let hint = match (verdict, error) {
            (Verdict::Unknown, error) if error.is_limit() => {
                "; raise the limits of the process (ulimit -n, ulimit -v)".to_owned()
            }
            (Verdict::Unknown, _) => "; look as a user who may read the store".to_owned(),
            (_, Error::Version { .. }) => String::new(),
            _ => match feed {
                Some(feed) => format!("; dw-repair --dry-run {feed} says what can be saved"),
                None => "; dw-repair --rebuild-registry makes it again".to_owned(),
            },
        };
        let feed = feed.map(str::to_owned);
        Finding { check, feed, verdict, cause: format!("{error}{hint}"), value: None }
    }
}

/// The maximum age of a feed's newest record, by arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxAge {
    /// For feeds not listed in `feeds`, unless their policy is `live: no`.
    pub default: Duration,
    /// For feeds by name, whatever their policy.
    pub feeds: BTreeMap<String, Duration>,
}

impl MaxAge {
    fn of(&self, feed: &str, live: bool) -> Option<Duration> {
        let named = self.feeds.get(feed).copied();
        named.or(live.then_some(self.default))
    }
}

/// What counts as healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Less free space than this on the store's file system is unhealthy.
    pub min_free_bytes: u64,
    /// The maximum age of records, if it is checked.
    pub max_age: Option<MaxAge>,
}

/// The clocks, read once per run.
#[derive(Clone, Copy, Debug)]
struct Now {
    wall_us: u64,
    boot_ns: u64,
}

impl Now {
    fn read() -> Now {
        Now { wall_us: process::wall_us(), boot_ns: process::boottime_ns() }
    }
}

/// Checks the store at `base`: the named feeds, or all.
///
/// # Errors
/// [`Error::NoStore`]; [`Error::NoFeed`] for a feed named here or in the limits. Every other
/// problem is a finding.
pub fn look(base: &Path, feeds: &[&str], limits: &Limits) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let platform = match Platform::open(base) {
        Ok(platform) => platform,
        Err(error @ Error::NoStore { .. }) => return Err(error),
        Err(error @ Error::Version { .. }) => {
            return Ok(vec![Finding::of_error(Check::Version, None, &error)]);
        }
        Err(error) => return Ok(vec![Finding::of_error(Check::Manifest, None, &error)]),
    };
    found.push(Finding::new(Check::Manifest, None, false, "manifest.json reads".to_owned()));
    let version = format!("format version {}", crate::FORMAT_VERSION);
    found.push(Finding::new(Check::Version, None, false, version));
    let registry = platform.registry();
    found.push(match &registry {
        Ok(registry) => {
            let count = registry.feeds.len();
            let feeds = if count == 1 { "1 feed".to_owned() } else { format!("{count} feeds") };
            Finding::new(Check::Registry, None, false, feeds).value(count as f64)
        }
        Err(error) => Finding::of_error(Check::Registry, None, error),
    });
    let room = "make room, or let dw-gc --min-free do it";
    found.push(space(Check::DiskSpace, base, limits.min_free_bytes, room));
    found.push(inodes(base));
    let Ok(registry) = registry else { return Ok(found) };
    let there: HashSet<&str> = registry.feeds.iter().map(|feed| &*feed.name).collect();
    let named = limits.max_age.iter().flat_map(|ages| ages.feeds.keys().map(|name| &**name));
    if let Some(name) = feeds.iter().copied().chain(named).find(|name| !there.contains(name)) {
        return Err(Error::NoFeed { base: base.to_owned(), feed: name.to_owned() });
    }
    let asked: HashSet<&str> = feeds.iter().copied().collect();
    let wanted = |feed: &&FeedEntry| asked.is_empty() || asked.contains(&*feed.name);
    let mut entries: Vec<&FeedEntry> = registry.feeds.iter().filter(wanted).collect();
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let now = Now::read();
    let mut noted = BTreeMap::new();
    let mut of_feeds = Vec::new();
    for looked in look_at_all(&entries, |entry| feed::look(&platform, entry, limits, now)) {
        of_feeds.extend(looked.findings);
        // Keep one entry per folder, preferably of a feed with records in shared memory.
        if let Some(segments) = looked.segments {
            let kept = noted.entry(segments.folder.clone()).or_insert_with(|| segments.clone());
            if kept.kind == SegmentKind::Disk {
                *kept = segments;
            }
        }
    }
    found.extend(shm_space(&platform, noted.values(), limits.min_free_bytes));
    found.push(left_over(&platform, noted.values()));
    found.extend(of_feeds);
    Ok(found)
}

/// Checks every feed, in order. Uses all cores if there are many feeds.
fn look_at_all<T: Send>(feeds: &[&FeedEntry], look: impl Fn(&FeedEntry) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(feeds.len() / FEEDS_A_THREAD);
    if threads < 2 {
        return feeds.iter().map(|feed| look(feed)).collect();
    }
    let look = &look;
    std::thread::scope(|scope| {
        let parts = feeds.chunks(feeds.len().div_ceil(threads));
        let parts = parts.map(|part| scope.spawn(|| part.iter().map(|feed| look(feed)).collect()));
        let parts: Vec<ScopedJoinHandle<'_, Vec<T>>> = parts.collect();
        let looked = parts.into_iter().map(|part| part.join());
        looked.flat_map(|part| part.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Checks the space in the shared memory that feeds have records in. Of several folders, reports
/// the one with the least.
fn shm_space<'a>(
    platform: &Platform,
    noted: impl Iterator<Item = &'a Segments>,
    needed: u64,
) -> Option<Finding> {
    let room = "writers will wait for the disk; remove what else is there, or enlarge it";
    let reach = |segments: &Segments| segments.reach(platform.base(), platform.store_id());
    let in_memory = noted.filter(|segments| segments.kind != SegmentKind::Disk);
    let found = in_memory.filter_map(|segments| match reach(segments) {
        Ok(Reach::Here) => Some(space(Check::ShmSpace, &segments.folder, needed, room)),
        Ok(_) => None,
        Err(error) => Some(Finding::of_error(Check::ShmSpace, None, &error)),
    });
    found.min_by_key(|finding| finding.value.map(|bytes| bytes as u64))
}

/// Reports files in shared memory that no feed needs.
fn left_over<'a>(platform: &Platform, noted: impl Iterator<Item = &'a Segments>) -> Finding {
    let (base, store_id) = (platform.base(), platform.store_id());
    let folders = || -> Result<BTreeSet<PathBuf>> {
        let mut folders: BTreeSet<PathBuf> =
            Segments::folders(base, store_id)?.into_iter().collect();
        for segments in noted {
            if segments.is_ours(base, store_id)? {
                folders.insert(segments.folder.clone());
            }
        }
        Ok(folders)
    };
    let look = |folders: BTreeSet<PathBuf>| -> Result<Vec<Left>> {
        let left: Result<Vec<Vec<Left>>> =
            folders.iter().map(|folder| left_in(platform, folder)).collect();
        Ok(left?.into_iter().flatten().collect())
    };
    match folders().and_then(look) {
        Ok(left) if left.is_empty() => {
            Finding::new(Check::Segments, None, false, "nothing left over".to_owned()).value(0.0)
        }
        Ok(left) => {
            let bytes = left.iter().map(|left| left.bytes).sum();
            let first = left[0].path.display();
            let more = match left.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let size = words::size(bytes);
            let cause = format!("left over: {first}{more}, {size} of memory; dw-gc removes that");
            Finding::new(Check::Segments, None, true, cause).value(bytes as f64)
        }
        Err(error) => Finding::of_error(Check::Segments, None, &error),
    }
}

fn inodes(at: &Path) -> Finding {
    match file::free_inodes(at) {
        Ok(None) => {
            let cause = "this file system does not count them".to_owned();
            Finding::new(Check::Inodes, None, false, cause)
        }
        Ok(Some(free)) => {
            let few = free < FEWEST_INODES;
            let cause = match few {
                true => format!(
                    "{free} free at {}, under {FEWEST_INODES}: soon no file can be made, whatever \
                     space there is; delete small files, or see df -i",
                    at.display()
                ),
                false => format!("{free} free, {FEWEST_INODES} wanted"),
            };
            Finding::new(Check::Inodes, None, few, cause).value(free as f64)
        }
        Err(error) => Finding::of_error(Check::Inodes, None, &error),
    }
}

fn space(check: Check, at: &Path, needed: u64, what_to_do: &str) -> Finding {
    match file::free_bytes(at) {
        Ok(free) => {
            let short = free < needed;
            let (free_text, needed) = (words::size(free), words::size(needed));
            let cause = match short {
                true => {
                    format!("{free_text} free at {}, under {needed}; {what_to_do}", at.display())
                }
                false => format!("{free_text} free, {needed} wanted"),
            };
            Finding::new(check, None, short, cause).value(free as f64)
        }
        Err(error) => Finding::of_error(check, None, &error),
    }
}
