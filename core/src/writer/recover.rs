//! What a new writer does first: seal what the last one left, and begin a session.

use std::collections::HashSet;
use std::fs;

use crate::chunk::ChunkPaths;
use crate::chunk::index::{ChunkKey, Index};
use crate::chunk::live::LiveChunk;
use crate::chunk::proof::{Standing, unclean_end};
use crate::error::{Error, Result};
use crate::os::{file, process};
use crate::registry::feed::{
    ChunkEnd, ChunkEntry, Entry, FeedRegistry, Place, RANGE_SKIPPED, RangeEntry, SessionClose,
    SessionEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::{LivePage, SessionStamp};
use crate::registry::segments::{SegmentKind, Segments};
use crate::registry::wait::WaitFile;
use crate::writer::LEASE_STEP;
use crate::writer::journal::{log_closed, log_sealed};

/// Where a session begins.
pub struct Start {
    pub registry: FeedRegistry,
    pub live: LivePage,
    pub session: SessionEntry,
    pub next_seq: u64,
    pub next_chunk_id: u64,
    pub lease: u64,
    pub running_max: u64,
    /// The followers' bell; none where there is no shared memory, and then they poll.
    pub wait: Option<WaitFile>,
}

/// Opens a feed's files and begins a session. The caller holds the feed's lock.
pub fn start(feed: &FeedInfo) -> Result<Start> {
    let registry = open_registry(feed)?;
    let live = LivePage::open(&feed.live_path(), &feed.id, true)?;
    let standing = Standing::of(feed, &registry, Some(&live))?;
    let running_max = seal_left_over(feed, &registry, &standing)?;
    let next_seq = first_seq(&registry, &standing)?;
    let last_chunk = standing.chunks().iter().map(|(chunk, _)| chunk.chunk_id).max().unwrap_or(0);
    remove_strays(feed, &standing, last_chunk)?;
    let session = begin_session(feed, &registry, &standing, Some(&live), next_seq, LEASE_STEP)?;
    let wait = hang_bell(feed, &registry, &session).ok();
    live.begin(&stamp_of(&session), next_seq, running_max);
    let (lease, next_chunk_id) = (next_seq + LEASE_STEP, last_chunk + 1);
    Ok(Start { registry, live, session, next_seq, next_chunk_id, lease, running_max, wait })
}

/// Opens a feed's registry for its writer.
pub fn open_registry(feed: &FeedInfo) -> Result<FeedRegistry> {
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, true)?;
    if registry.is_deleted()? {
        let what = "the feed was deleted; where it is still listed, delete it again";
        return Err(Error::Invalid(format!("{}: {what}", feed.name)));
    }
    Ok(registry)
}

/// Closes the session that did not close itself, appends one of our own that begins with
/// `next_seq`, and leases a step of seqs to it.
pub fn begin_session(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    standing: &Standing,
    page: Option<&LivePage>,
    next_seq: u64,
    lease_step: u64,
) -> Result<SessionEntry> {
    let last = standing.entries.iter().rev().find_map(|entry| match entry {
        Entry::Session(session) => Some(*session),
        _ => None,
    });
    if let Some(session) = last.filter(|s| s.close.is_none()) {
        let close = note_unclean_end(registry, &session, standing, page, next_seq)?;
        log_closed(&feed.log(), feed, &session, &close);
    }
    let mut session = SessionEntry {
        position: 0,
        session_id: last.map_or(0, |s| s.session_id) + 1,
        base_seq: next_seq,
        opened_us: process::wall_us(),
        opened_boot_ns: process::boottime_ns(),
        boot_id: process::boot_id(),
        pid: std::process::id(),
        close: None,
    };
    registry.append_session(&mut session)?;
    registry.set_lease(next_seq + lease_step)?;
    Ok(session)
}

/// What a session of this process stamps on its live page.
pub fn stamp_of(session: &SessionEntry) -> SessionStamp {
    SessionStamp {
        session_id: session.session_id,
        pid: session.pid,
        pid_start: process::start_ticks(session.pid).unwrap_or(0),
        boot_id: session.boot_id,
        opened_us: session.opened_us,
    }
}

/// Makes the wait file in the store's segment folder and notes where that is.
fn hang_bell(feed: &FeedInfo, registry: &FeedRegistry, session: &SessionEntry) -> Result<WaitFile> {
    let file_mode = feed.spec.policy.file_mode;
    let folder = Segments::make_folder(feed.base(), feed.id.store_id, file_mode)?;
    let random =
        process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
    let segments = Segments {
        session_id: session.session_id,
        segment_id: (u128::from_be_bytes(random) as u64).max(1),
        device: file::identity_of(&folder)?.0,
        boot_id: session.boot_id,
        kind: SegmentKind::Disk,
        folder,
    };
    let wait = WaitFile::open_or_create(&segments.wait_path(&feed.name), &feed.id, file_mode)?;
    registry.set_segments(&segments)?;
    Ok(wait)
}

/// The seq that the new session starts with: where the last one ended, or the lease where that is
/// not known for sure.
pub fn first_seq(registry: &FeedRegistry, standing: &Standing) -> Result<u64> {
    if standing.exact {
        return Ok(standing.end);
    }
    let lease = registry.lease().ok_or_else(|| {
        let what = "the lease's checksum; which seqs were used is not known";
        Error::damaged(registry.path(), 1024, what)
    })?;
    Ok(lease.max(standing.end))
}

/// Seals every live chunk; returns the newest record time of all chunks.
fn seal_left_over(feed: &FeedInfo, registry: &FeedRegistry, standing: &Standing) -> Result<u64> {
    let mut running_max = 0;
    for (chunk, end) in standing.chunks() {
        if let Some(seal) = chunk.seal {
            running_max = running_max.max(seal.max_time);
            continue;
        }
        match chunk.place {
            Place::Live if end <= chunk.base_seq => expire(feed, registry, &chunk)?,
            Place::Live => running_max = running_max.max(seal(feed, registry, &chunk, end)?),
            Place::Staged | Place::Flushing => {
                return Err(Error::Invalid(format!(
                    "{}: chunk {} is staged in shared memory, which this version does not adopt",
                    feed.name, chunk.chunk_id
                )));
            }
            Place::OnDisk | Place::Expired | Place::Lost => {}
        }
    }
    Ok(running_max)
}

fn seal(feed: &FeedInfo, registry: &FeedRegistry, chunk: &ChunkEntry, end: u64) -> Result<u64> {
    let geometry = feed.geometry();
    let (chunk_id, base_seq) = (chunk.chunk_id, chunk.base_seq);
    let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
    let paths = ChunkPaths::new(&feed.folder, chunk_id);
    let header = *Index::open(&paths.index, &key)?.header();
    let needed = (end - base_seq) * geometry.record_size as u64;
    let data = file::open_read(&paths.data)?;
    let size = file::size(&data, &paths.data)?;
    if size < needed {
        let what = format!("the file ends here, and its records at {needed}; run dw-repair");
        return Err(Error::damaged(&paths.data, size, what));
    }
    let left = LiveChunk::reopen(&feed.folder, header, chunk.position)?;
    let seal = left.seal(end, ChunkEnd::Recovered as u32)?;
    file::sync_folder(&feed.folder)?;
    registry.seal_chunk(chunk.position, Place::Live, &seal)?;
    registry.sync()?;
    log_sealed(&feed.log(), feed, (chunk_id, base_seq), &seal);
    Ok(seal.max_time)
}

/// A chunk whose first record was never published.
fn expire(feed: &FeedInfo, registry: &FeedRegistry, chunk: &ChunkEntry) -> Result<()> {
    registry.set_place(chunk.position, Place::Live, Place::Expired)?;
    registry.sync()?;
    let paths = ChunkPaths::new(&feed.folder, chunk.chunk_id);
    file::remove_file(&paths.data)?;
    file::remove_file(&paths.index)
}

/// Closes the session that did not close itself, and puts the hole up to the lease on record.
fn note_unclean_end(
    registry: &FeedRegistry,
    session: &SessionEntry,
    standing: &Standing,
    page: Option<&LivePage>,
    next_seq: u64,
) -> Result<SessionClose> {
    let (reason, last_seen_us) = unclean_end(registry, page, session);
    // The page's counts are the session's own only if the page is.
    let own = page.filter(|p| p.session().is_some_and(|s| s.session_id == session.session_id));
    let close = SessionClose {
        end_seq: standing.end.max(session.base_seq),
        closed_us: last_seen_us,
        counters: own.map(|page| page.counters()).unwrap_or_default(),
        reason,
    };
    let range = RangeEntry {
        seqs: (standing.end, next_seq),
        session_id: session.session_id,
        recorded_us: process::wall_us(),
        reason: RANGE_SKIPPED,
    };
    // The hole first: a recovery that dies in between finds the session open and does this again.
    let noted = standing.entries.iter().any(|entry| {
        matches!(entry, Entry::Range(r) if (r.seqs, r.session_id) == (range.seqs, range.session_id))
    });
    if next_seq > standing.end && !standing.exact && !noted {
        registry.append_range(&range)?;
        registry.sync()?;
    }
    registry.close_session(session.position, &close);
    registry.sync()?;
    Ok(close)
}

/// Removes chunk files that no entry names, prepared by a writer that died before it used them, and
/// those of chunks whose removal was cut short.
fn remove_strays(feed: &FeedInfo, standing: &Standing, last_chunk: u64) -> Result<()> {
    let expired = standing.chunks().into_iter().filter(|(c, _)| c.place == Place::Expired);
    let gone: HashSet<u64> = expired.map(|(chunk, _)| chunk.chunk_id).collect();
    let listing =
        fs::read_dir(&feed.folder).map_err(|e| Error::io("cannot list", &feed.folder, e))?;
    for item in listing.flatten() {
        let id = item.file_name().to_str().and_then(ChunkPaths::id_of);
        if id.is_some_and(|id| id > last_chunk || gone.contains(&id)) {
            file::remove_file(&item.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::{FeedSpec, Sync};
    use crate::store::Platform;
    use crate::writer::WriterOptions;

    /// A store whose writer was cut off by a power loss after 100 records, none of them durable.
    fn cut_off(folder: &std::path::Path) -> Platform {
        let platform = Platform::create(folder.join("a")).unwrap();
        let json = r#"{"feed_name":"t","mode":"UF","fields":[{"name":"ts","type":"uint64"}],
            "ts_col":"ts","chunk_size_bytes":65536}"#;
        platform.create_feed(&FeedSpec::from_json(json).unwrap(), false).unwrap();
        let options = WriterOptions { sync: Some(Sync::None), ..WriterOptions::default() };
        let mut writer = platform.create_writer_with("t", options).unwrap();
        writer.append_batch(&[7; 800]).unwrap();
        // A copy has another inode, so its live page is not believed.
        let mut copy = std::process::Command::new("cp");
        let copied = copy.arg("-r").args([folder.join("a"), folder.join("b")]).status();
        assert!(copied.unwrap().success());
        drop(writer);
        Platform::open(folder.join("b")).unwrap()
    }

    #[test]
    fn a_recovery_that_dies_half_way_uses_no_seq_twice() {
        for closed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let platform = cut_off(folder.path());
            let feed = platform.feed_info("t").unwrap();
            {
                let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, true).unwrap();
                let live = LivePage::open(&feed.live_path(), &feed.id, true).unwrap();
                let standing = Standing::of(&feed, &registry, Some(&live)).unwrap();
                assert!(!standing.exact);
                let next_seq = first_seq(&registry, &standing).unwrap();
                let Some(Entry::Session(session)) = standing.entries.first().copied() else {
                    panic!("no session");
                };
                if closed {
                    note_unclean_end(&registry, &session, &standing, Some(&live), next_seq)
                        .unwrap();
                } else {
                    // Up to the hole, and no further.
                    let range = RangeEntry {
                        seqs: (standing.end, next_seq),
                        session_id: session.session_id,
                        recorded_us: 0,
                        reason: RANGE_SKIPPED,
                    };
                    registry.append_range(&range).unwrap();
                }
            }
            let writer = platform.create_writer("t").unwrap();
            assert!(writer.next_seq() >= 100, "closed {closed}: seq {}", writer.next_seq());
            drop(writer);
            let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
            assert_eq!(snapshot.holes.len(), 1, "{:?}", snapshot.holes);
        }
    }
}
