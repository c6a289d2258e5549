//! Removes what is past its retention or size limit, and what interrupted work has left (FORMAT.md,
//! Collecting).
//!
//! [`plan`] decides without changing anything; [`apply`] removes. Neither takes a feed's lock. A
//! chunk is moved from on-disk to expired by compare-and-swap, so that a concurrent writer, repair
//! or dw-gc is detected. Its files are removed only after that is durable.

mod apply;
mod clock;
mod feed;
pub(crate) mod segments;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::chunk::strays;
use crate::error::{Error, Result};
use crate::os::file;
use crate::registry::feed::{Identity, Moment};
use crate::store::Platform;

pub use apply::{Outcome, apply};
pub use clock::Doubt;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A chunk is removed.
    Collect,
    /// The files of a chunk whose removal was cut short are removed.
    Finish,
    /// A feed whose deletion was cut short is deleted.
    Delete,
    /// What no feed needs any more is removed.
    Sweep,
}

impl Action {
    /// Returns the action's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Collect => "collect",
            Action::Finish => "finish",
            Action::Delete => "delete",
            Action::Sweep => "sweep",
        }
    }
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It arrived longer ago than the feed's retention.
    Retention,
    /// The feed takes more than its size limit.
    MaxSize,
    /// The disk has less free space than requested.
    MinFree,
    /// Its creation or removal was interrupted.
    Unfinished,
    /// It is in shared memory and no feed needs it.
    Leftover,
}

impl Reason {
    /// Returns the reason's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Retention => "retention",
            Reason::MaxSize => "max-size",
            Reason::MinFree => "min-free",
            Reason::Unfinished => "unfinished",
            Reason::Leftover => "leftover",
        }
    }
}

/// One thing to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The feed, or the file name if it belongs to no feed.
    pub feed: String,
    /// The chunk, if the step removes one.
    pub chunk_id: Option<u64>,
    /// Its seqs, half-open, if they are known.
    pub seqs: Option<(u64, u64)>,
    /// Size of the files, in bytes.
    pub bytes: u64,
    /// Why it is removed.
    pub reason: Reason,
    /// Bytes that the disk gets back.
    disk_bytes: u64,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A chunk's files, and the position of its entry if the entry must be changed first.
    Chunk {
        position: Option<u64>,
        chunk_id: u64,
    },
    Feed,
    Path(PathBuf),
    Segment(PathBuf),
}

/// What to collect, and how.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Feeds by name. Empty means all feeds, and what belongs to no feed.
    pub feeds: Vec<String>,
    /// Bytes of the disk that should be free afterwards.
    pub min_free_bytes: Option<u64>,
    /// Trust the wall clock even if it seems wrong.
    pub trust_clock: bool,
}

/// What is to be removed. [`plan`] makes it, [`apply`] carries it out.
#[derive(Debug)]
pub struct Plan {
    /// Why the clock is not trusted. If there is a doubt, nothing is removed.
    pub doubts: Vec<Doubt>,
    /// Feeds that could not be read, or whose table is incomplete, by name.
    pub failed: Vec<(String, Error)>,
    /// Requested bytes that cannot be freed.
    pub short_bytes: u64,
    now: Moment,
    feeds: Vec<FeedPlan>,
    others: Vec<Step>,
}

/// What is to be removed of one feed.
#[derive(Debug)]
struct FeedPlan {
    name: String,
    id: Identity,
    steps: Vec<Step>,
}

impl Plan {
    /// Returns the steps, in the order in which they are carried out.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.others.iter().chain(self.feeds.iter().flat_map(|feed| &feed.steps))
    }

    /// Returns the size of the files to be removed, in bytes.
    pub fn bytes(&self) -> u64 {
        self.steps().map(|step| step.bytes).sum()
    }
}

/// Decides what is to be removed from a store at the moment `now`. Changes nothing.
///
/// # Errors
/// [`Error::NoFeed`] for an unknown feed, and errors that affect the whole store. A feed that
/// cannot be read is reported in the plan.
pub fn plan(platform: &Platform, wants: &Wants, now: &Moment) -> Result<Plan> {
    let all = wants.feeds.is_empty();
    let names = if all { platform.list_feeds()? } else { wants.feeds.clone() };
    let mut plan = Plan {
        doubts: Vec::new(),
        failed: Vec::new(),
        short_bytes: 0,
        now: *now,
        feeds: Vec::new(),
        others: Vec::new(),
    };
    let (base, store_id) = (platform.base(), platform.store_id());
    let mut folders = BTreeSet::new();
    let mut spare = Vec::new();
    for name in names {
        let found = platform
            .feed_info(&name)
            .and_then(|info| Ok((info.id, feed::look(&info, wants, now)?)));
        match found {
            Ok((id, mut look)) => {
                plan.doubts.extend(look.doubt.take());
                let stray = |doubt: strays::Doubt| Error::damaged(doubt.path, 0, doubt.what);
                plan.failed.extend(look.strays.drain(..).map(|d| (name.clone(), stray(d))));
                let at = plan.feeds.len();
                spare.extend(look.spare.drain(..).map(|(arrived_us, step)| (arrived_us, at, step)));
                if let Some(segments) = look.segments
                    && !folders.contains(&segments.folder)
                    && segments.is_ours(base, store_id)?
                {
                    folders.insert(segments.folder);
                }
                plan.feeds.push(FeedPlan { name, id, steps: look.steps });
            }
            Err(error @ (Error::NoFeed { .. } | Error::Spec(_))) if !all => return Err(error),
            // Deleted since the feeds were listed.
            Err(Error::NoFeed { .. }) => {}
            Err(error) => plan.failed.push((name, error)),
        }
    }
    if all {
        plan.others = others(platform, folders)?;
    }
    if !plan.doubts.is_empty() {
        plan.feeds.iter_mut().for_each(|feed| feed.steps.clear());
        plan.others.clear();
    } else if let Some(wanted) = wants.min_free_bytes {
        make_free(&mut plan, spare, wanted, file::free_bytes(platform.base())?);
    }
    Ok(plan)
}

/// Plans what belongs to no feed: leftovers of created and deleted feeds, and segments. `noted` has
/// the folders that feeds have noted.
fn others(platform: &Platform, noted: BTreeSet<PathBuf>) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = platform
        .leftovers()?
        .into_iter()
        .map(|path| {
            let (bytes, disk_bytes) = feed::sizes(&path);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Step {
                action: Action::Sweep,
                feed: name,
                chunk_id: None,
                seqs: None,
                bytes,
                reason: Reason::Unfinished,
                disk_bytes,
                target: Target::Path(path),
            }
        })
        .collect();
    steps.extend(segments::plan(platform, noted)?);
    Ok(steps)
}

/// Adds chunks until `wanted` bytes are free, the oldest first, whatever their feed.
fn make_free(plan: &mut Plan, mut spare: Vec<(u64, usize, Step)>, wanted: u64, free: u64) {
    let freed: u64 = plan.steps().map(|step| step.disk_bytes).sum();
    let mut missing = wanted.saturating_sub(free.saturating_add(freed));
    spare.sort_by_key(|(arrived_us, _, _)| *arrived_us);
    for (_, at, step) in spare {
        if missing == 0 {
            break;
        }
        missing = missing.saturating_sub(step.disk_bytes);
        plan.feeds[at].steps.push(step);
    }
    plan.short_bytes = missing;
}
