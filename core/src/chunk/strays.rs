//! Chunk files that no entry of a feed's table names (FORMAT.md, Strays). One that was only
//! prepared holds nothing. Any other is evidence that the table has lost entries, or is an older
//! one.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::chunk::index::{IndexHeader, IndexSeal, RawIndex};
use crate::chunk::proof::{Standing, last_session};
use crate::chunk::{self, ChunkPaths};
use crate::error::{Error, Result, sound};
use crate::os::faults::step;
use crate::os::file;
use crate::registry::feed::{Checkpoint, ChunkEntry, Entry, FeedRegistry};
use crate::registry::holder::writer_of;
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::view::LiveView;

/// Where the part of an index ends that preparing a chunk writes.
const INDEX_HEADER_END: u64 = 128;

/// No feed has as many records; a greater seq is not one.
const MOST_SEQS: u64 = 1 << 62;

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Only at the chunk that would follow the last one: a stat or two.
    Next,
    /// At every file of the feed's folder.
    All,
}

/// What a stray holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// No record: it was only prepared.
    Nothing,
    /// Records with these seqs, half-open; of one that is not sealed, as far as its file goes.
    Records(u64, u64),
    /// Its index does not say.
    Unknown,
}

/// A chunk in the folder that no entry names.
#[derive(Clone, Debug)]
pub struct Stray {
    /// The chunk that its files are named after.
    pub chunk_id: u64,
    /// Its files, as far as they are there.
    pub paths: Vec<PathBuf>,
    /// The header of its index, if that checks.
    pub header: Option<IndexHeader>,
    /// Its index's own seal.
    pub seal: Option<IndexSeal>,
    /// What it holds.
    pub holds: Holds,
}

impl Stray {
    /// Whether it may hold records.
    pub fn is_evidence(&self) -> bool {
        self.holds != Holds::Nothing
    }

    /// Whether its files are files, and no folders or links.
    pub fn is_plain(&self) -> bool {
        let plain = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        self.paths.iter().all(plain)
    }

    /// What is wrong, and what to do, for people.
    pub fn what(&self) -> String {
        let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        if self.paths.iter().any(is_folder) {
            return "a folder where a chunk's file belongs; run dw-repair".to_owned();
        }
        format!("{}, which the table does not have; run dw-repair", self.seqs())
    }

    fn seqs(&self) -> String {
        match self.holds {
            Holds::Records(from, to) => format!("seq {from}..{to}"),
            Holds::Nothing | Holds::Unknown => "records, perhaps".to_owned(),
        }
    }

    /// The file that it is about: the one that is no file, if there is one.
    pub fn path(&self) -> PathBuf {
        let plain = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        let odd = self.paths.iter().find(|path| !plain(path));
        odd.or(self.paths.first()).cloned().unwrap_or_default()
    }

    /// The same of one that a power loss has left.
    fn what_is_undurable(&self, feed: &FeedInfo) -> String {
        let name = &feed.name;
        format!(
            "{}, whose entry was not on disk when the machine stopped; the next dw-write moves it \
             to quarantine, dw-repair --dry-run {name} looks first",
            self.seqs()
        )
    }
}

/// Every chunk in the folder that none of these entries names, in the order of their ids.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be listed.
pub fn all(feed: &FeedInfo, entries: &[Entry]) -> Result<Vec<Stray>> {
    stray_ids(feed, entries)?.into_values().map(|id| examine(feed, id, Look::All)).collect()
}

/// Their ids, by [`chunk::order`].
fn stray_ids(feed: &FeedInfo, entries: &[Entry]) -> Result<BTreeMap<(u64, u64), u64>> {
    let named: HashSet<u64> = chunks(entries).map(|chunk| chunk.chunk_id).collect();
    let ids = file::names(&feed.folder)?.into_iter().filter_map(|name| ChunkPaths::id_of(&name));
    Ok(ids.filter(|id| !named.contains(id)).map(|id| (chunk::order(id), id)).collect())
}

/// What shows that a table is not all there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The file.
    pub path: PathBuf,
    /// What it shows, and what to do.
    pub what: String,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// What shows that a feed's table is not all there is: strays that may hold records, and a live
/// page of a session that the table does not have. `entries` are what the caller goes by. Nothing
/// is wrong where the table has moved on since, or while somebody writes or repairs the feed:
/// whoever does has looked first.
///
/// # Errors
/// As [`all`]; [`Error::Damaged`] for a table that does not check.
pub fn doubts(
    feed: &FeedInfo,
    entries: &[Entry],
    page: Option<&LivePage>,
    look: Look,
) -> Result<Vec<Doubt>> {
    let nothing = Ok(Vec::new());
    let named = || newer_page(entries, page).is_none();
    match unnamed(feed, entries, look) {
        Ok(ids) if ids.is_empty() && named() => return nothing,
        // The feed was deleted; what else is missing, others name.
        Err(error) if error.is_not_found() => return nothing,
        ids => ids.map(drop)?,
    }
    if writer_of(&feed.lock, page)?.is_some() {
        return nothing;
    }
    match confirmed(feed, look) {
        Err(error) if error.is_not_found() => nothing,
        doubts => doubts,
    }
}

/// The same, by a table that did not change while the files were looked at.
fn confirmed(feed: &FeedInfo, look: Look) -> Result<Vec<Doubt>> {
    let open = || FeedRegistry::open(&feed.registry_path(), &feed.id, false);
    loop {
        let registry = open()?;
        let view = LiveView::of(feed, &registry)?;
        let page = view.page.as_deref();
        let standing = Standing::of(feed, &registry, page)?;
        let doubts = doubts_now(feed, &registry, &standing, page, look)?;
        let is_over = registry.is_deleted()? || writer_of(&feed.lock, page)?.is_some();
        if doubts.is_empty() || is_over {
            return Ok(Vec::new());
        }
        step("strays.found");
        // A writer, a collection or a repair that has come and gone meanwhile is in the table.
        let now = open()?;
        if now.identity()? == registry.identity()? && now.entries()? == standing.entries {
            return Ok(doubts);
        }
    }
}

fn doubts_now(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    standing: &Standing,
    page: Option<&LivePage>,
    look: Look,
) -> Result<Vec<Doubt>> {
    let (checkpoint, lease) = (registry.checkpoint(), registry.lease());
    let strays = unnamed(feed, &standing.entries, look)?;
    let strays = strays.into_iter().map(|id| examine(feed, id, look)).collect::<Result<_>>()?;
    let table = || feed.registry_path();
    let newer = newer_page(&standing.entries, page).map(|what| Doubt { path: table(), what });
    let evidence = evidence(registry, strays)?.into_iter().map(|stray| {
        let what = match is_undurable(&stray, standing, checkpoint.as_ref(), lease) {
            true => stray.what_is_undurable(feed),
            false => stray.what(),
        };
        Doubt { path: stray.path(), what }
    });
    Ok(newer.into_iter().chain(evidence).collect())
}

/// The chunks that have files, as far as is looked, and that none of these entries names.
fn unnamed(feed: &FeedInfo, entries: &[Entry], look: Look) -> Result<Vec<u64>> {
    let next = next_id(entries);
    match look {
        Look::All => Ok(stray_ids(feed, entries)?.into_values().collect()),
        Look::Next if paths_of(feed, next)?.is_empty() => Ok(Vec::new()),
        Look::Next => Ok(vec![next]),
    }
}

/// The id of the chunk that would follow the last one.
fn next_id(entries: &[Entry]) -> u64 {
    chunks(entries).map(|entry| chunk::number(entry.chunk_id)).max().unwrap_or(0) + 1
}

/// Those of the strays that may hold records, and of whose chunk the table does not say, among the
/// entries that are collected, that it is expired: such a file is one that dw-gc has not removed.
///
/// # Errors
/// As [`FeedRegistry::forgotten_chunks`].
pub fn evidence(registry: &FeedRegistry, strays: Vec<Stray>) -> Result<Vec<Stray>> {
    let mut strays: Vec<Stray> = strays.into_iter().filter(Stray::is_evidence).collect();
    if !strays.is_empty() {
        let gone = registry.forgotten_chunks()?;
        strays.retain(|stray| !gone.contains(&stray.chunk_id));
    }
    Ok(strays)
}

/// Whether a stray is what a power loss leaves of a chunk whose entry was not on disk yet: of the
/// last session, whose end nobody knows, and of seqs that no checkpoint has.
pub fn is_undurable(
    stray: &Stray,
    standing: &Standing,
    checkpoint: Option<&Checkpoint>,
    lease: Option<u64>,
) -> bool {
    let Some(session) = last_session(&standing.entries).filter(|_| !standing.exact) else {
        return false;
    };
    if stray.header.is_some_and(|header| header.session_id != session.session_id) {
        return false;
    }
    let durable = checkpoint.map_or(0, |c| c.seq).max(session.base_seq);
    let numbers = standing.chunks().into_iter().map(|(entry, _)| chunk::number(entry.chunk_id));
    match stray.holds {
        Holds::Nothing => false,
        Holds::Records(from, _) => from >= durable && lease.is_none_or(|lease| from < lease),
        Holds::Unknown => {
            stray.is_plain() && chunk::number(stray.chunk_id) > numbers.max().unwrap_or(0)
        }
    }
}

/// What a live page says of a session that the table does not have, if that published anything: a
/// session is in the table, durable, before it publishes.
pub fn newer_page(entries: &[Entry], page: Option<&LivePage>) -> Option<String> {
    let page = page?;
    let stamp = page.newest_stamp()?;
    let published = page.vouched()?;
    let newest = entries.iter().filter_map(|entry| match entry {
        Entry::Session(session) => Some(session.session_id),
        _ => None,
    });
    let newer = newest.max().is_none_or(|newest| stamp.session_id > newest);
    let reach = reach(entries);
    (newer && published > reach).then(|| {
        let path = page.path().display();
        format!(
            "{path}: session {} published seq {reach}..{published}, and the table does not have \
             it: the table is an older one, or has lost entries; run dw-repair",
            stamp.session_id
        )
    })
}

/// The seq up to which a table has, or accounts for, records. An unsealed chunk does not count.
pub fn reach(entries: &[Entry]) -> u64 {
    let reach = entries.iter().map(|entry| match entry {
        // One that is not sealed may begin in the middle of a batch that was never published.
        Entry::Chunk(chunk) => chunk.seal.map_or(0, |_| chunk.seqs().1),
        Entry::Session(session) => {
            session.close.map_or(0, |close| close.end_seq).max(session.base_seq)
        }
        Entry::Range(range) => range.seqs.1,
    });
    reach.max().unwrap_or(0)
}

fn chunks(entries: &[Entry]) -> impl Iterator<Item = &ChunkEntry> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Chunk(chunk) => Some(chunk),
        _ => None,
    })
}

fn paths_of(feed: &FeedInfo, chunk_id: u64) -> Result<Vec<PathBuf>> {
    let ChunkPaths { data, index } = ChunkPaths::new(&feed.folder, chunk_id);
    let mut paths = Vec::new();
    for path in [data, index] {
        if file::entry_of(&path)?.is_some() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Looks at the files of one chunk. With [`Look::Next`] a sound index without records is believed,
/// and the data file not looked at.
///
/// # Errors
/// [`Error::Io`] where the files may not or cannot be read.
pub fn examine(feed: &FeedInfo, chunk_id: u64, look: Look) -> Result<Stray> {
    let ChunkPaths { data, index } = ChunkPaths::new(&feed.folder, chunk_id);
    let paths = paths_of(feed, chunk_id)?;
    let mut stray = Stray { chunk_id, paths, header: None, seal: None, holds: Holds::Unknown };
    if !stray.is_plain() {
        return Ok(stray);
    }
    if let Some((header, seal)) = sound(RawIndex::peek(&index, (&feed.id, &feed.geometry())))? {
        (stray.header, stray.seal) = (Some(header), seal);
    }
    // What preparing a chunk writes is the header of its index.
    if is_zero(&index, INDEX_HEADER_END)? {
        let quick = look == Look::Next && stray.header.is_some();
        if quick || is_zero(&data, 0)? {
            stray.holds = Holds::Nothing;
        }
        return Ok(stray);
    }
    // A prepared chunk begins at 0 until it is used; that its index says otherwise may not have
    // reached the disk.
    let is_placed = |header: &IndexHeader| header.base_seq > 0 || chunk::number(chunk_id) == 1;
    let header = stray.header.filter(|header| is_placed(header) && header.base_seq < MOST_SEQS);
    let Some(header) = header else { return Ok(stray) };
    let count = match stray.seal {
        Some(seal) => seal.count,
        None => written_records(&data, feed)?,
    };
    let count = count.min(header.capacity() as u64);
    stray.holds = Holds::Records(header.base_seq, header.base_seq.saturating_add(count));
    Ok(stray)
}

/// Whether a file has nothing but zeros from that byte on. So has one that is not there.
fn is_zero(path: &Path, from: u64) -> Result<bool> {
    const STEP: usize = 1 << 16;
    let open = match file::open_read(path) {
        Err(error) if error.is_not_found() => return Ok(true),
        open => open?,
    };
    let (mut at, mut bytes) = (from, vec![0; STEP]);
    loop {
        let read = open.read_at(&mut bytes, at).map_err(|e| Error::io("cannot read", path, e))?;
        if read == 0 || bytes[..read].iter().any(|byte| *byte != 0) {
            return Ok(read == 0);
        }
        at += read as u64;
    }
}

/// Records of a data file up to the last one that is not all zeros; none where there is no file.
///
/// # Errors
/// [`Error::Io`] where it may not or cannot be read.
pub fn written_records(data: &Path, feed: &FeedInfo) -> Result<u64> {
    const STEP: u64 = 1 << 20;
    let Some(open) = sound(file::open_read(data))? else { return Ok(0) };
    let mut end = file::size(&open, data)?;
    let mut bytes = vec![0; STEP as usize];
    while end > 0 {
        let from = end.saturating_sub(STEP);
        let bytes = &mut bytes[..(end - from) as usize];
        if sound(file::read_at(&open, data, from, bytes))?.is_none() {
            return Ok(0);
        }
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            let written = from + last as u64 + 1;
            return Ok(written.div_ceil(feed.geometry().record_size as u64));
        }
        end = from;
    }
    Ok(0)
}
