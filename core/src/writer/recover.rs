//! What a new writer does first: put in order what the last one left, and begin a session.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::path::Path;

use crate::chunk::index::{ChunkKey, Index};
use crate::chunk::live::LiveChunk;
use crate::chunk::proof::{Standing, last_session, unclean_end};
use crate::chunk::strays::{self, Holds, Look, Stray, is_undurable, newer_page};
use crate::chunk::{self, ChunkPaths, Shown};
use crate::error::{Error, Result};
use crate::os::faults::step;
use crate::os::{file, process};
use crate::registry::feed::{
    Checkpoint, ChunkEnd, ChunkEntry, Entry, FeedRegistry, Place, RANGE_LOST, RANGE_REMOVED,
    RANGE_SKIPPED, RANGE_UNREACHABLE, RangeEntry, SessionClose, SessionEnd, SessionEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::{LivePage, SessionStamp};
use crate::registry::quarantine::Quarantine;
use crate::registry::segments::Segments;
use crate::registry::view::LiveView;
use crate::writer::adopt::adopt;
use crate::writer::chunks::LEASE_STEP;
use crate::writer::journal::{log_closed, log_sealed};
use crate::writer::stage::{self, Page};

/// Where a session begins.
pub struct Start {
    pub registry: FeedRegistry,
    pub page: Page,
    pub segments: Segments,
    pub session: SessionEntry,
    pub next_seq: u64,
    pub next_chunk_id: u64,
    pub lease: u64,
    pub running_max: u64,
    /// Files that went to quarantine, a line each.
    pub moved: Vec<String>,
}

/// What the last session has left, put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The highest id of a session; 0 if there was none.
    pub session_id: u64,
    /// The first seq that was surely never used.
    pub next_seq: u64,
    /// The highest number of a chunk.
    pub last_number: u64,
    /// The newest record time.
    pub running_max: u64,
    /// Files that went to quarantine, a line each: what a power loss has left without an entry.
    pub moved: Vec<String>,
}

/// Opens a feed's files and begins a session. The caller holds the feed's lock.
pub fn start(feed: &FeedInfo) -> Result<Start> {
    let registry = open_registry(feed)?;
    let settled = settle(feed, &registry, false)?;
    let next_seq = settled.next_seq;
    let mut session = session_after(&settled);
    let stamp = stamp_of(&session)?;
    // Before the session is in the table: a session that is there has noted where its page is.
    let (page, segments) = stage::begin(feed, &registry, &stamp, next_seq, settled.running_max)?;
    step("recover.begun");
    registry.append_session(&mut session)?;
    step("recover.session");
    let lease = next_seq + LEASE_STEP;
    registry.set_lease(lease)?;
    let (next_chunk_id, running_max) = (settled.last_number + 1, settled.running_max);
    let moved = settled.moved;
    Ok(Start {
        registry,
        page,
        segments,
        session,
        next_seq,
        next_chunk_id,
        lease,
        running_max,
        moved,
    })
}

/// Opens a feed's registry for its writer.
pub fn open_registry(feed: &FeedInfo) -> Result<FeedRegistry> {
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, true)?;
    if registry.is_deleted()? {
        let what = "the feed was deleted; where it is still listed, delete it again";
        return Err(Error::Invalid(format!("{}: {what}", feed.name)));
    }
    if let Some(segments) = registry.segments() {
        segments.close_to_others(feed.base(), feed.id.store_id)?;
    }
    Ok(registry)
}

/// A session of this process, not in the table yet.
pub fn session_after(settled: &Settled) -> SessionEntry {
    SessionEntry {
        position: 0,
        session_id: settled.session_id + 1,
        base_seq: settled.next_seq,
        opened_us: process::wall_us(),
        opened_boot_ns: process::boottime_ns(),
        boot_id: process::boot_id(),
        pid: std::process::id(),
        close: None,
    }
}

/// What it stamps on its live page.
///
/// # Errors
/// [`Error::Io`] where a limit was met.
pub fn stamp_of(session: &SessionEntry) -> Result<SessionStamp> {
    Ok(SessionStamp {
        session_id: session.session_id,
        pid: session.pid,
        pid_start: process::start_ticks(session.pid)?.unwrap_or(0),
        boot_id: session.boot_id,
        opened_us: session.opened_us,
    })
}

/// Does what the next writer does first: brings what the last session has left in memory to disk,
/// seals its chunks, closes it, puts what is missing on record and removes what nobody needs any
/// more. The caller holds the feed's lock. Done again, it finds nothing to do.
///
/// Records in memory that is gone without a reboot, or is another namespace's, count as
/// unreachable; with `force_lost` as lost.
///
/// # Errors
/// [`Error::Damaged`] where damage may have cost records: then dw-repair must look first; and
/// [`Error::Io`] as it comes; what was in memory is there still.
pub fn settle(feed: &FeedInfo, registry: &FeedRegistry, force_lost: bool) -> Result<Settled> {
    let view = LiveView::of(feed, registry)?;
    let standing = Standing::of(feed, registry, view.page.as_deref())?;
    let table = feed.registry_path();
    if let Some(doubt) = standing.doubts.first() {
        return Err(Error::damaged(&feed.folder, 0, doubt));
    }
    if let Some(what) = newer_page(&standing.entries, view.page.as_deref()) {
        return Err(Error::damaged(&table, 0, what));
    }
    if let Some((from, to)) = standing.gaps().first() {
        let what =
            format!("no entry has seq {from}..{to}, which come before others; run dw-repair");
        return Err(Error::damaged(&table, 0, what));
    }
    refuse_absent(feed, registry, &standing)?;
    settle_as(feed, registry, &view, &standing, force_lost)
}

/// Refuses a feed that lacks a file of a chunk which the table has on disk, as a copy may that was
/// made while chunks ended: whoever wrote on would bury that.
fn refuse_absent(feed: &FeedInfo, registry: &FeedRegistry, standing: &Standing) -> Result<()> {
    let names: HashSet<String> = file::names(&feed.folder)?.into_iter().collect();
    let is_there = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.contains(name))
    };
    for (chunk, end) in standing.chunks() {
        if chunk.place != Place::OnDisk || end <= chunk.base_seq {
            continue;
        }
        let ChunkPaths { data, index } = ChunkPaths::new(&feed.folder, chunk.chunk_id);
        let Some(path) = [data, index].into_iter().find(|path| !is_there(path)) else { continue };
        // dw-gc may have taken it meanwhile: it changes the entry before it removes a file.
        let now = registry.chunk_at(chunk.position)?;
        if now.place == Place::OnDisk {
            let from = chunk.base_seq;
            let what = format!(
                "it is missing, and the table has seq {from}..{end} in it: an incomplete copy, or \
                 somebody removed it; put it back, or run dw-repair"
            );
            return Err(Error::damaged(path, 0, what));
        }
    }
    Ok(())
}

/// As [`settle`], with what is known of how the feed stands.
///
/// # Errors
/// [`Error::Io`], [`Error::Damaged`].
pub fn settle_as(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    view: &LiveView,
    standing: &Standing,
    force_lost: bool,
) -> Result<Settled> {
    let strays = strays::all(feed, &standing.entries)?;
    let evidence = strays::evidence(registry, strays.clone())?;
    let checkpoint = registry.checkpoint();
    let tail =
        |stray: &&Stray| is_undurable(stray, standing, checkpoint.as_ref(), registry.lease());
    if let Some(stray) = evidence.iter().find(|stray| !tail(stray)) {
        return Err(Error::damaged(stray.path(), 0, stray.what()));
    }
    registry.cut_torn_entries()?;
    let mut kept = Kept::new(feed);
    let running_max = seal_left_over(feed, registry, standing, view, &mut kept)?;
    step("recover.sealed");
    let last = last_session(&standing.entries);
    let page = view.page.as_deref();
    let next_seq = first_seq(registry, standing, used_seqs(standing, checkpoint, page, &evidence))?;
    if let Some(session) = last {
        let reason = missing_reason(view, &session, force_lost);
        note_hole(registry, &session, standing, reason, next_seq)?;
        step("adopt.noted");
    }
    // Before the session is closed: by an open one the next recovery knows what they are.
    for stray in &evidence {
        kept.take(stray)?;
    }
    if let Some(session) = last.filter(|s| s.close.is_none()) {
        let close = note_unclean_end(registry, &session, standing, view)?;
        log_closed(&feed.log(), feed, &session, &close);
    }
    let named = standing.chunks().into_iter().map(|(entry, _)| entry.chunk_id);
    let numbers = named.chain(evidence.iter().map(|stray| stray.chunk_id)).map(chunk::number);
    let last_number = numbers.max().unwrap_or(0);
    remove_prepared(feed, standing, &strays)?;
    step("adopt.closed");
    if let Some(segments) = view.staged() {
        kept.keep_memory(&segments.chunk_folder(&feed.name), standing)?;
        match page.filter(|page| page.session().is_some()) {
            Some(page) => stage::end(feed, segments, page)?,
            None => segments.remove_own_stage(feed)?,
        }
    }
    let ids = last.map(|session| session.session_id).into_iter();
    let ids = ids.chain(checkpoint.map(|c| c.session_id));
    let ids = ids.chain(page.and_then(LivePage::newest_stamp).map(|stamp| stamp.session_id));
    let session_id = ids.max().unwrap_or(0);
    Ok(Settled { session_id, next_seq, last_number, running_max, moved: kept.moved })
}

/// The first seq above all that any file shows.
pub fn used_seqs(
    standing: &Standing,
    checkpoint: Option<Checkpoint>,
    page: Option<&LivePage>,
    strays: &[Stray],
) -> u64 {
    let strays = strays.iter().filter_map(|stray| match stray.holds {
        Holds::Records(_, to) => Some(to),
        Holds::Nothing | Holds::Unknown => None,
    });
    let known = [
        strays::reach(&standing.entries),
        checkpoint.map_or(0, |c| c.seq),
        page.and_then(LivePage::vouched).unwrap_or(0),
    ];
    strays.chain(known).max().unwrap_or(0)
}

/// What a power loss has left without an entry, or without anything that proves it, goes to
/// quarantine.
pub struct Kept<'a> {
    feed: &'a FeedInfo,
    quarantine: Quarantine,
    moved: Vec<String>,
}

impl Kept<'_> {
    fn new(feed: &FeedInfo) -> Kept<'_> {
        let quarantine = Quarantine::new(feed.base(), &feed.name, feed.spec.policy.file_mode);
        Kept { feed, quarantine, moved: Vec::new() }
    }

    /// Keeps the files of a chunk, none of whose records is proven, if they may hold some.
    pub fn keep_evidence(&mut self, chunk_id: u64) -> Result<()> {
        let stray = strays::examine(self.feed, chunk_id, Look::All)?;
        if stray.is_evidence() { self.keep(&stray) } else { Ok(()) }
    }

    /// Keeps the chunks in shared memory that were not brought to disk: of a table that is not the
    /// newest, or of a live page that the files refute.
    fn keep_memory(&mut self, folder: &Path, standing: &Standing) -> Result<()> {
        let is_on_disk = |chunk: &ChunkEntry| standing.exact || !chunk.place.is_staged();
        let chunks = standing.chunks().into_iter().map(|(chunk, _)| chunk).filter(is_on_disk);
        let on_disk: HashSet<u64> = chunks.map(|chunk| chunk.chunk_id).collect();
        let names = if folder.is_dir() { file::names(folder)? } else { Vec::new() };
        let ids: BTreeSet<u64> = names.iter().filter_map(|n| ChunkPaths::id_of(n)).collect();
        for chunk_id in ids.into_iter().filter(|id| !on_disk.contains(id)) {
            let ChunkPaths { data, index } = ChunkPaths::new(folder, chunk_id);
            let records = strays::written_records(&data, self.feed)?;
            if records == 0 {
                continue;
            }
            self.quarantine.keep_each([data, index])?;
            let kept = self.quarantine.folder.clone().unwrap_or_default();
            self.moved.push(format!(
                "{}: chunk {} in shared memory has {records} records at most that nothing on disk \
                 names; its files are in {}",
                self.feed.name,
                Shown(chunk_id),
                kept.display()
            ));
            self.log(chunk_id, &"stray", &"", &"move");
        }
        Ok(())
    }

    /// Keeps a second name of the files of a chunk, if they hold records, and tells of them.
    fn keep(&mut self, stray: &Stray) -> Result<()> {
        for path in &stray.paths {
            self.quarantine.keep(path)?;
        }
        let folder = self.quarantine.folder.clone().unwrap_or_default();
        let (shown, folder) = (Shown(stray.chunk_id), folder.display());
        let what = match stray.holds {
            Holds::Records(from, to) => format!("from seq {from}, {} records at most", to - from),
            Holds::Nothing | Holds::Unknown => "records of unknown seqs".to_owned(),
        };
        self.moved.push(format!(
            "{}: chunk {shown} was not on disk as a whole when the machine stopped ({what}); its \
             files are in {folder}",
            self.feed.name
        ));
        let seqs = match stray.holds {
            Holds::Records(from, to) => format!("{from}..{to}"),
            Holds::Nothing | Holds::Unknown => String::new(),
        };
        self.log(stray.chunk_id, &"stray", &seqs, &"move");
        Ok(())
    }

    /// Keeps a copy of what a chunk's file holds from seq `end` on, with the chunk's index, and
    /// tells of it.
    fn keep_tail(&mut self, chunk: &ChunkEntry, end: u64) -> Result<()> {
        let ChunkPaths { data, index } = ChunkPaths::new(&self.feed.folder, chunk.chunk_id);
        let written = chunk.base_seq + strays::written_records(&data, self.feed)?;
        if written <= end {
            return Ok(());
        }
        let proven = (end - chunk.base_seq) * self.feed.geometry().record_size as u64;
        self.quarantine.keep_from(&data, proven)?;
        self.quarantine.keep_copy(&index)?;
        let folder = self.quarantine.folder.clone().unwrap_or_default();
        let (shown, folder) = (Shown(chunk.chunk_id), folder.display());
        self.moved.push(format!(
            "{}: chunk {shown}: nothing proves its records from seq {end} on, {} at most; a copy \
             of them is in {folder}",
            self.feed.name,
            written - end
        ));
        self.log(chunk.chunk_id, &"unproven", &format!("{end}..{written}"), &"copy");
        Ok(())
    }

    fn log(&self, chunk_id: u64, kind: &dyn Display, seqs: &dyn Display, action: &dyn Display) {
        let shown = Shown(chunk_id);
        let fields: [(&str, &dyn Display); 5] = [
            ("feed", &self.feed.name),
            ("chunk", &shown),
            ("kind", kind),
            ("seq", seqs),
            ("action", action),
        ];
        self.feed.log().event("recover", &fields);
    }

    /// Moves a stray's files.
    fn take(&mut self, stray: &Stray) -> Result<()> {
        self.keep(stray)?;
        stray.paths.iter().try_for_each(|path| file::remove_file(path))?;
        file::sync_folder(&self.feed.folder)
    }
}

/// Why the seqs behind what is known of a session cannot be read.
fn missing_reason(view: &LiveView, session: &SessionEntry, force_lost: bool) -> u32 {
    let staged = view.staged().is_some_and(|staged| staged.session_id == session.session_id);
    match view.end_without_page(session) {
        _ if !staged => RANGE_SKIPPED,
        SessionEnd::MemoryGone if !force_lost => RANGE_UNREACHABLE,
        _ => RANGE_LOST,
    }
}

/// The seq that the new session starts with: where the last one ended, or the lease where that is
/// not known for sure.
fn first_seq(registry: &FeedRegistry, standing: &Standing, used: u64) -> Result<u64> {
    let known = standing.end.max(used);
    if standing.exact {
        return Ok(known);
    }
    let lease = registry.lease().ok_or_else(|| {
        let what = "the lease's checksum; which seqs were used is not known";
        Error::damaged(registry.path(), 1024, what)
    })?;
    Ok(lease.max(known).max(standing.refuted.unwrap_or(0)))
}

/// Seals every chunk that is open; returns the newest record time of all chunks.
fn seal_left_over(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    standing: &Standing,
    view: &LiveView,
    kept: &mut Kept<'_>,
) -> Result<u64> {
    let memory = view.staged().map(|segments| segments.chunk_folder(&feed.name));
    let mut running_max = 0;
    for (chunk, end) in standing.chunks() {
        if let Some(seal) = chunk.seal {
            running_max = running_max.max(seal.max_time);
            continue;
        }
        if !chunk.place.is_open() {
            continue;
        }
        let newest = match &memory {
            _ if end <= chunk.base_seq => {
                if !standing.exact {
                    kept.keep_evidence(chunk.chunk_id)?;
                }
                expire(feed, registry, &chunk).map(|()| 0)?
            }
            Some(folder) if chunk.place.is_staged() && !standing.proven => {
                adopt(feed, registry, folder, &chunk, end, kept)?
            }
            _ if standing.exact => seal(feed, registry, &chunk, end)?,
            _ => seal_proven(feed, registry, &chunk, end, kept)?,
        };
        running_max = running_max.max(newest);
    }
    Ok(running_max)
}

/// Seals a chunk whose records below `end` are on disk; returns its newest record time.
pub fn seal(feed: &FeedInfo, registry: &FeedRegistry, chunk: &ChunkEntry, end: u64) -> Result<u64> {
    let geometry = feed.geometry();
    let (chunk_id, base_seq) = (chunk.chunk_id, chunk.base_seq);
    let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
    let paths = ChunkPaths::new(&feed.folder, chunk_id);
    let header = *Index::open(&paths.index, &key)?.header();
    check_size(&paths, (end - base_seq) * geometry.record_size as u64)?;
    let left = LiveChunk::reopen(&feed.folder, header, chunk.position)?;
    left.check_times(end)?;
    let seal = left.seal(end, ChunkEnd::Recovered as u32)?;
    file::sync_folder(&feed.folder)?;
    registry.seal_chunk(chunk.position, chunk.place, &seal)?;
    registry.sync()?;
    log_sealed(&feed.log(), feed, (chunk_id, base_seq), &seal);
    Ok(seal.max_time)
}

/// As [`seal`], of a chunk whose file may hold records behind `end` that nothing proves: sealing
/// cuts them off, so a copy of them is kept.
pub fn seal_proven(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    chunk: &ChunkEntry,
    end: u64,
    kept: &mut Kept<'_>,
) -> Result<u64> {
    kept.keep_tail(chunk, end)?;
    seal(feed, registry, chunk, end)
}

/// Refuses a chunk whose records take more than its file has.
pub fn check_size(paths: &ChunkPaths, needed: u64) -> Result<()> {
    let data = file::open_read(&paths.data)?;
    let size = file::size(&data, &paths.data)?;
    if size < needed {
        let what = format!("the file ends here, and its records at {needed}; run dw-repair");
        return Err(Error::damaged(&paths.data, size, what));
    }
    Ok(())
}

/// A chunk whose first record was never published.
pub fn expire(feed: &FeedInfo, registry: &FeedRegistry, chunk: &ChunkEntry) -> Result<()> {
    registry.set_place(chunk.position, chunk.place, Place::Expired)?;
    registry.sync()?;
    ChunkPaths::new(&feed.folder, chunk.chunk_id).remove()
}

/// Puts the hole between the last session and the lease on record, or what is not on record yet of
/// it: a recovery that was cut off may have raised the lease.
fn note_hole(
    registry: &FeedRegistry,
    session: &SessionEntry,
    standing: &Standing,
    reason: u32,
    next_seq: u64,
) -> Result<()> {
    let noted = standing.entries.iter().filter_map(|entry| match entry {
        Entry::Range(range) if range.session_id == session.session_id => Some(range.seqs.1),
        _ => None,
    });
    let from = noted.max().unwrap_or(0).max(standing.end);
    if from >= next_seq {
        return Ok(());
    }
    // What was published and is not in the files; then what nobody used.
    let used = standing.refuted.unwrap_or(from).clamp(from, next_seq);
    for (seqs, reason) in [((from, used), RANGE_REMOVED), ((used, next_seq), reason)] {
        if seqs.0 < seqs.1 {
            let recorded_us = process::wall_us();
            let session_id = session.session_id;
            let range = RangeEntry { seqs, session_id, recorded_us, reason, times: None };
            registry.append_range(&range)?;
        }
    }
    registry.sync()
}

/// Closes the session that did not close itself. After the hole behind it is on record: a recovery
/// that dies in between finds the session open and does this again.
fn note_unclean_end(
    registry: &FeedRegistry,
    session: &SessionEntry,
    standing: &Standing,
    view: &LiveView,
) -> Result<SessionClose> {
    let (reason, closed_us) = unclean_end(registry, view, session, standing.refuted.is_some());
    // The page's counts are the session's own only if the page is.
    let own = |live: &&LivePage| live.session().is_some_and(|s| s.session_id == session.session_id);
    let live = view.page.as_deref().filter(own);
    let close = SessionClose {
        end_seq: standing.end.max(session.base_seq),
        closed_us,
        counters: live.map(LivePage::counters).unwrap_or_default(),
        reason,
    };
    registry.close_session(session.position, &close);
    registry.sync()?;
    Ok(close)
}

/// Removes chunk files that no entry names and that hold nothing, prepared by a writer that died
/// before it used them, and those of chunks that the table has as expired.
fn remove_prepared(feed: &FeedInfo, standing: &Standing, strays: &[Stray]) -> Result<()> {
    let chunks = standing.chunks().into_iter().map(|(chunk, _)| chunk);
    let (gone, named): (Vec<_>, Vec<_>) = chunks.partition(|c| c.place == Place::Expired);
    let ids = |chunks: Vec<ChunkEntry>| -> HashSet<u64> {
        chunks.into_iter().map(|chunk| chunk.chunk_id).collect()
    };
    let (mut gone, named) = (ids(gone), ids(named));
    gone.retain(|id| !named.contains(id));
    let prepared = strays.iter().filter(|stray| !stray.is_evidence()).map(|stray| stray.chunk_id);
    gone.extend(prepared);
    for name in file::names(&feed.folder)? {
        if ChunkPaths::id_of(&name).is_some_and(|id| gone.contains(&id)) {
            file::remove_file(&feed.folder.join(name))?;
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
                let view = LiveView::of(&feed, &registry).unwrap();
                let standing = Standing::of(&feed, &registry, view.page.as_deref()).unwrap();
                assert!(!standing.exact);
                let next_seq = first_seq(&registry, &standing, 0).unwrap();
                let Some(Entry::Session(session)) = standing.entries.first().copied() else {
                    panic!("no session");
                };
                let reason = missing_reason(&view, &session, false);
                note_hole(&registry, &session, &standing, reason, next_seq).unwrap();
                if closed {
                    note_unclean_end(&registry, &session, &standing, &view).unwrap();
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
