//! Collecting: what retention, size limits and interrupted work leave to be removed (FORMAT.md,
//! Collecting).
//!
//! [`plan`] looks and decides, [`apply`] does it; nothing is changed before. No feed's lock is
//! taken: a chunk is moved from on-disk to expired by compare-and-swap, so that a writer, a repair
//! or another dw-gc at work is noticed, and its files go only after that is durable.

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

/// What is done to something.
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
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Collect => "collect",
            Action::Finish => "finish",
            Action::Delete => "delete",
            Action::Sweep => "sweep",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It arrived longer ago than the feed's retention.
    Retention,
    /// The feed takes more than its size limit.
    MaxSize,
    /// The disk has less free than was asked for.
    MinFree,
    /// It was begun and not ended.
    Unfinished,
    /// It is in shared memory and nobody needs it.
    Leftover,
}

impl Reason {
    /// The word for it.
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
    /// The feed; of what belongs to none, its file name.
    pub feed: String,
    /// The chunk, where it is one.
    pub chunk_id: Option<u64>,
    /// Its seqs, half-open, where they are known.
    pub seqs: Option<(u64, u64)>,
    /// Size of the files, in bytes.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
    /// What the disk gets back, in bytes.
    disk_bytes: u64,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A chunk's files, and the position of its entry if that is to be changed first.
    Chunk {
        position: Option<u64>,
        chunk_id: u64,
    },
    Feed,
    Path(PathBuf),
    Segment(PathBuf),
}

/// What is to be looked after, and how.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Feeds by name; none: all, and what belongs to no feed.
    pub feeds: Vec<String>,
    /// So many bytes of the disk are to be free afterwards.
    pub min_free_bytes: Option<u64>,
    /// The wall clock is right, whatever it seems.
    pub trust_clock: bool,
}

/// What is to be removed. Made by [`plan`], done by [`apply`].
#[derive(Debug)]
pub struct Plan {
    /// Why the clock is not believed. Then nothing is removed.
    pub doubts: Vec<Doubt>,
    /// Feeds that could not be looked at, or whose table is not all there is, by name.
    pub failed: Vec<(String, Error)>,
    /// What is wanted free and cannot be had, in bytes.
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
    /// What is to be removed, in the order it will be.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.others.iter().chain(self.feeds.iter().flat_map(|feed| &feed.steps))
    }

    /// Size of the files that are to go, in bytes.
    pub fn bytes(&self) -> u64 {
        self.steps().map(|step| step.bytes).sum()
    }
}

/// Looks at a store and decides what is to be removed at the moment `now`. Changes nothing.
///
/// # Errors
/// [`Error::NoFeed`] for a feed that is not there; what concerns the whole store. A single feed
/// that cannot be looked at is told in the plan.
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
            // Deleted since they were listed.
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

/// What belongs to no feed: leftovers of feeds made and deleted, segments, also in the folders that
/// feeds have noted.
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

/// Adds what else must go for `wanted` bytes to be free: the oldest first, whatever feed it is of.
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
