//! Chunk files that no entry of a feed's table names (FORMAT.md, Strays). One that was only
//! prepared holds nothing. Any other is evidence that the table has lost entries, or is an older
//! one.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::chunk::index::{IndexHeader, IndexSeal, RawIndex};
use crate::chunk::{self, ChunkPaths};
use crate::error::{Error, Result};
use crate::os::file;
use crate::registry::feed::{ChunkEntry, Entry, FeedRegistry};
use crate::registry::holder::writer_of;
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;

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
        let what = match self.holds {
            Holds::Records(from, to) => format!("seq {from}..{to}"),
            Holds::Nothing | Holds::Unknown => "records, perhaps".to_owned(),
        };
        format!("{what}, which the table does not have; run dw-repair")
    }

    /// The file that it is about: the one that is no file, if there is one.
    pub fn path(&self) -> PathBuf {
        let plain = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        let odd = self.paths.iter().find(|path| !plain(path));
        odd.or(self.paths.first()).cloned().unwrap_or_default()
    }

    /// The same, with the file that it is about.
    pub fn doubt(&self) -> String {
        format!("{}: {}", self.path().display(), self.what())
    }
}

/// Every chunk in the folder that none of these entries names, in the order of their ids.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be listed.
pub fn all(feed: &FeedInfo, entries: &[Entry]) -> Result<Vec<Stray>> {
    let ids = stray_ids(feed, entries)?;
    Ok(ids.into_values().map(|id| examine(feed, id, Look::All)).collect())
}

/// Their ids, by [`chunk::order`].
fn stray_ids(feed: &FeedInfo, entries: &[Entry]) -> Result<BTreeMap<(u64, u64), u64>> {
    let named: HashSet<u64> = chunks(entries).map(|chunk| chunk.chunk_id).collect();
    let ids = file::names(&feed.folder)?.into_iter().filter_map(|name| ChunkPaths::id_of(&name));
    Ok(ids.filter(|id| !named.contains(id)).map(|id| (chunk::order(id), id)).collect())
}

/// What shows that a feed's table is not all there is, a line each: strays that may hold records,
/// and a live page of a session that the table does not have. `entries` are what the caller goes
/// by; nothing is wrong where the table has moved on since, or while somebody writes or repairs the
/// feed: whoever does has looked first.
///
/// # Errors
/// As [`all`]; [`Error::Damaged`] for a table that does not check.
pub fn doubts(
    feed: &FeedInfo,
    entries: &[Entry],
    page: Option<&LivePage>,
    look: Look,
) -> Result<Vec<String>> {
    if !is_suspicious(feed, entries, page, look)? || writer_of(&feed.lock, page).is_some() {
        return Ok(Vec::new());
    }
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, false)?;
    let entries = registry.entries()?;
    let strays = match look {
        Look::All => all(feed, &entries)?,
        Look::Next => vec![examine(feed, next_id(&entries), look)],
    };
    let mut doubts: Vec<String> = newer_page(&entries, page).into_iter().collect();
    doubts.extend(evidence(&registry, strays).iter().map(Stray::doubt));
    Ok(doubts)
}

/// Whether there is anything to look at more closely.
fn is_suspicious(
    feed: &FeedInfo,
    entries: &[Entry],
    page: Option<&LivePage>,
    look: Look,
) -> Result<bool> {
    let strays = match look {
        Look::All => !stray_ids(feed, entries)?.is_empty(),
        Look::Next => !paths_of(feed, next_id(entries)).is_empty(),
    };
    Ok(strays || newer_page(entries, page).is_some())
}

/// The id of the chunk that would follow the last one.
fn next_id(entries: &[Entry]) -> u64 {
    chunks(entries).map(|entry| chunk::number(entry.chunk_id)).max().unwrap_or(0) + 1
}

/// Those of the strays that may hold records, and of whose chunk the table does not say, among the
/// entries that are collected, that it is expired: such a file is one that dw-gc has not removed.
pub fn evidence(registry: &FeedRegistry, strays: Vec<Stray>) -> Vec<Stray> {
    let mut strays: Vec<Stray> = strays.into_iter().filter(Stray::is_evidence).collect();
    if !strays.is_empty() {
        let gone = registry.forgotten_chunks();
        strays.retain(|stray| !gone.contains(&stray.chunk_id));
    }
    strays
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

fn paths_of(feed: &FeedInfo, chunk_id: u64) -> Vec<PathBuf> {
    let ChunkPaths { data, index } = ChunkPaths::new(&feed.folder, chunk_id);
    [data, index].into_iter().filter(|path| fs::symlink_metadata(path).is_ok()).collect()
}

/// Looks at the files of one chunk. With [`Look::Next`] a sound index without records is believed,
/// and the data file not looked at.
pub fn examine(feed: &FeedInfo, chunk_id: u64, look: Look) -> Stray {
    let ChunkPaths { data, index } = ChunkPaths::new(&feed.folder, chunk_id);
    let paths = paths_of(feed, chunk_id);
    let mut stray = Stray { chunk_id, paths, header: None, seal: None, holds: Holds::Unknown };
    if !stray.is_plain() {
        return stray;
    }
    if let Ok((header, seal)) = RawIndex::peek(&index, (&feed.id, &feed.geometry())) {
        (stray.header, stray.seal) = (Some(header), seal);
    }
    // What preparing a chunk writes is the header of its index.
    if is_zero(&index, INDEX_HEADER_END).unwrap_or(false) {
        let quick = look == Look::Next && stray.header.is_some();
        if quick || is_zero(&data, 0).unwrap_or(false) {
            stray.holds = Holds::Nothing;
        }
        return stray;
    }
    // A prepared chunk begins at 0 until it is used; that its index says otherwise may not have
    // reached the disk.
    let is_placed = |header: &IndexHeader| header.base_seq > 0 || chunk::number(chunk_id) == 1;
    let header = stray.header.filter(|header| is_placed(header) && header.base_seq < MOST_SEQS);
    let Some(header) = header else { return stray };
    let count = match stray.seal {
        Some(seal) => seal.count,
        None => written_records(&data, feed).unwrap_or(0),
    };
    let count = count.min(header.capacity() as u64);
    stray.holds = Holds::Records(header.base_seq, header.base_seq.saturating_add(count));
    stray
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

/// Records of a data file up to the last one that is not all zeros.
pub fn written_records(data: &Path, feed: &FeedInfo) -> Option<u64> {
    const STEP: u64 = 1 << 20;
    let open = file::open_read(data).ok()?;
    let mut end = file::size(&open, data).ok()?;
    let mut bytes = vec![0; STEP as usize];
    while end > 0 {
        let from = end.saturating_sub(STEP);
        let bytes = &mut bytes[..(end - from) as usize];
        file::read_at(&open, data, from, bytes).ok()?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            let written = from + last as u64 + 1;
            return Some(written.div_ceil(feed.geometry().record_size as u64));
        }
        end = from;
    }
    Some(0)
}
