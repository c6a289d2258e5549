//! Segments in shared memory that no feed needs any more. They belong to deleted feeds, to another
//! boot, or to staged sessions that were closed or adopted by a process that was killed before it
//! unlinked them. Data that is not yet on disk is never removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, sound, there};
use crate::gc::{Action, Reason, Step, Target, feed};
use crate::os::file;
use crate::os::lock::Lock;
use crate::registry::feed::{Entry, FeedRegistry, SessionEntry};
use crate::registry::global::FeedEntry;
use crate::registry::holder::Lockable;
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::segments::{OwnFolder, Reach, SegmentKind, Segments};
use crate::store::Platform;

/// Suffixes of a feed's files in shared memory, longer ones first.
const ENDINGS: [&str; 5] = [".live.new", ".live", ".chunks", ".wait", ".ring"];
/// Suffixes of a staged session's files.
const STAGED: [&str; 3] = [".live.new", ".live", ".chunks"];

/// Plans the segments to sweep, in the store's own folders that the environment names and in those
/// that its feeds have noted.
pub(super) fn plan(platform: &Platform, noted: BTreeSet<PathBuf>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut folders = noted;
    folders.extend(Segments::folders(platform.base(), platform.store_id())?);
    for folder in folders {
        for left in left_in(platform, &folder)? {
            steps.push(Step {
                action: Action::Sweep,
                feed: left.feed,
                chunk_id: None,
                seqs: None,
                bytes: left.bytes,
                reason: Reason::Leftover,
                disk_bytes: 0,
                target: Target::Segment(left.path),
            });
        }
    }
    Ok(steps)
}

/// A segment that no feed needs.
pub(crate) struct Left {
    pub feed: String,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Returns what is left over in one of the store's folders. Changes nothing.
pub(crate) fn left_in(platform: &Platform, folder: &Path) -> Result<Vec<Left>> {
    let listed = platform.listed()?;
    let mut all = Vec::new();
    let Some(own) = OwnFolder::open(folder, platform.base())? else { return Ok(all) };
    let names = there(file::names(folder))?.unwrap_or_default();
    for name in names {
        let Some((feed, ending)) = split(&name).filter(|_| own.is_own(&name)) else { continue };
        let entry = listed.find(feed);
        if is_left(platform, entry, folder, ending, |info| Ok(!is_written(info)?))? {
            let path = folder.join(&name);
            all.push(Left { feed: feed.to_owned(), bytes: feed::sizes(&path).0, path });
        }
    }
    Ok(all)
}

/// Removes a segment if it is still left over. Returns whether it was.
pub(super) fn remove(platform: &Platform, path: &Path) -> Result<bool> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (Some(folder), Some((feed, ending))) = (path.parent(), split(name)) else {
        return Ok(false);
    };
    // Holding the lock keeps writers away meanwhile.
    let _lock = match platform.feed_info(feed) {
        Ok(info) => match Lockable::of(&info).take() {
            Ok(lock) => Some(lock),
            Err(Error::Locked { .. }) => return Ok(false),
            Err(error) => return Err(error),
        },
        Err(error) if error.is_limit() => return Err(error),
        Err(_) => None,
    };
    if !is_left(platform, platform.listed()?.find(feed), folder, ending, |_| Ok(true))? {
        return Ok(false);
    }
    let Some(own) = OwnFolder::open(folder, platform.base())? else { return Ok(false) };
    own.remove(name)?;
    own.remove_if_empty()?;
    Ok(true)
}

fn split(name: &str) -> Option<(&str, &str)> {
    let found = ENDINGS.iter().find_map(|ending| Some((name.strip_suffix(ending)?, *ending)));
    found.filter(|(feed, _)| !feed.is_empty())
}

fn is_written(info: &FeedInfo) -> Result<bool> {
    Ok(Lock::feed_is_held(&info.lock)? == Some(true))
}

/// Whether a segment is not needed: its feed is not listed, or has no writer (`is_free`) and has
/// all its records on disk.
fn is_left(
    platform: &Platform,
    entry: Option<&FeedEntry>,
    folder: &Path,
    ending: &str,
    is_free: impl Fn(&FeedInfo) -> Result<bool>,
) -> Result<bool> {
    let Some(entry) = entry else { return Ok(true) };
    if !STAGED.contains(&ending) {
        return Ok(false);
    }
    // If the feed cannot be read, its segments stay.
    let Some(info) = seen(platform.info_of(entry))? else { return Ok(false) };
    if !is_free(&info)? {
        return Ok(false);
    }
    let registry = FeedRegistry::open(&info.registry_path(), &info.id, false);
    let Some(registry) = seen(registry)? else { return Ok(false) };
    Ok(!may_have_data(&info, &registry, folder)?)
}

/// Returns the result, or `None` if it could not be read. A limit that was met stays an error.
fn seen<T>(looked: Result<T>) -> Result<Option<T>> {
    match looked {
        Err(error) if !error.is_limit() => Ok(None),
        looked => looked.map(Some),
    }
}

/// Whether a feed's stage in that folder may have records that are not on disk.
fn may_have_data(info: &FeedInfo, registry: &FeedRegistry, folder: &Path) -> Result<bool> {
    let entries = registry.entries()?;
    let sessions: Vec<&SessionEntry> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Session(session) => Some(session),
            _ => None,
        })
        .collect();
    let segments = registry.segments();
    let path = folder.join(format!("{}.live", info.name));
    let page = sound(LivePage::open(&path, &info.id, false))?;
    if let Some(page) = page.as_ref().filter(|page| page.session().is_some()) {
        let id = page.session().map_or(0, |stamp| stamp.session_id);
        let closed = sessions.iter().rfind(|s| s.session_id == id).and_then(|s| s.close);
        return Ok(closed.is_none_or(|close| close.end_seq < page.published()));
    }
    // Without a trusted page, only an open session of this boot may still have records to save.
    let noted = segments.filter(|s| s.kind == SegmentKind::Staged && s.folder == folder);
    let open = sessions.last().is_some_and(|session| session.close.is_none());
    let reach = noted.map(|segments| segments.reach(info.base(), info.id.store_id)).transpose()?;
    Ok(open && reach == Some(Reach::Here))
}
