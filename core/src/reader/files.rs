//! A chunk's files: found, opened, and its blocks read and verified.
//!
//! Readers hold no lock, so a chunk can go away between a look at the table and the opening of its
//! files. Whoever takes it away changes its place in the table first and removes the files then:
//! who finds a file gone reads the entry again, and that says what became of the chunk.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checksum::crc;
use crate::chunk::ChunkPaths;
use crate::chunk::index::{BlockEntry, ChunkKey, Index};
use crate::error::{Error, Result};
use crate::os::lock::Lock;
use crate::os::{faults, file, process};
use crate::reader::{SnapshotChunk, Why};
use crate::registry::feed::{ChunkEntry, Entry, FeedRegistry, Place};
use crate::registry::info::FeedInfo;
use crate::registry::segments::{Reach, SegmentKind};

/// How long a reader waits for a chunk that was unlinked in memory and is not on disk yet.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// A chunk's files, open.
pub(super) struct ChunkFiles {
    pub chunk_id: u64,
    pub index: Index,
    pub paths: ChunkPaths,
    data: File,
}

/// Why a chunk cannot be read.
pub(super) enum Missing {
    /// It was taken away, and the table says so.
    Gone(Why),
    /// Its files are not there, or not what they should be.
    Damaged(Error),
}

impl Missing {
    /// As an error, for those who ask for one chunk.
    pub fn into_error(self, feed: &FeedInfo, chunk: &SnapshotChunk) -> Error {
        match self {
            Missing::Damaged(error) => error,
            Missing::Gone(why) => {
                let paths = ChunkPaths::new(&feed.folder, chunk.entry.chunk_id);
                let why = io::Error::new(ErrorKind::NotFound, why.to_string());
                Error::io("cannot open", paths.data, why)
            }
        }
    }
}

impl ChunkFiles {
    /// Opens the files of a chunk that the table has. `step` is what each try is called.
    pub fn find(
        feed: &FeedInfo,
        registry: &FeedRegistry,
        chunk: &SnapshotChunk,
        step: &'static str,
    ) -> std::result::Result<ChunkFiles, Missing> {
        let mut known = chunk.entry;
        let mut unchanged = false;
        let began = Instant::now();
        loop {
            faults::step(step);
            let mut missing = None;
            let folders = folders(feed, registry, &known, chunk.end_seq);
            for folder in folders.map_err(Missing::Damaged)? {
                match Self::open(feed, &folder, &known) {
                    Ok(files) => return Ok(files),
                    Err(error) if error.is_not_found() => missing = missing.or(Some(error)),
                    Err(error) => return Err(Missing::Damaged(error)),
                }
            }
            if let Some(error) = missing.filter(|_| unchanged) {
                if !is_on_its_way(feed, &known).map_err(Missing::Damaged)?
                    || began.elapsed() > PATIENCE
                {
                    return Err(Missing::Damaged(error));
                }
                std::thread::sleep(PAUSE);
            }
            let now = look_again(registry, &known).map_err(Missing::Damaged)?;
            match now {
                Ok(entry) => unchanged = std::mem::replace(&mut known, entry).place == entry.place,
                Err(why) => return Err(Missing::Gone(why)),
            }
        }
    }

    /// Opens the files of a chunk in that folder.
    fn open(feed: &FeedInfo, folder: &Path, entry: &ChunkEntry) -> Result<ChunkFiles> {
        let (chunk_id, base_seq) = (entry.chunk_id, entry.base_seq);
        let geometry = feed.geometry();
        let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
        let paths = ChunkPaths::new(folder, chunk_id);
        let data = file::open_read(&paths.data)?;
        let index = Index::open(&paths.index, &key)?;
        Ok(ChunkFiles { chunk_id, index, data, paths })
    }

    /// Reads bytes of records from byte `at` on.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        file::read_at(&self.data, &self.paths.data, at, into)
    }

    /// Verifies the records of one block: closed ones by their sums, others by their times, which
    /// the writer has widened before it published them; in a sealed chunk every block is closed.
    pub fn verify(
        &self,
        chunk: &SnapshotChunk,
        block: usize,
        entry: &BlockEntry,
        bytes: &[u8],
    ) -> Result<()> {
        let wrong = |what: &str| Err(Error::damaged(&self.paths.data, 0, what.to_owned()));
        if !entry.intact {
            let what = format!("block {block}: the index entry's checksum");
            return Err(Error::damaged(&self.paths.index, 0, what));
        }
        match entry.data_crc {
            Some(sum) if crc(bytes) != sum => wrong(&format!("block {block}: the checksum")),
            Some(_) => Ok(()),
            None if chunk.entry.seal.is_some() => {
                wrong(&format!("block {block}: not closed, in a sealed chunk"))
            }
            None => match entry.has_times_of(bytes, &self.index.header().geometry) {
                true => Ok(()),
                false => wrong(&format!("block {block}: times that the index does not have")),
            },
        }
    }
}

/// Whether a staged chunk that was unlinked under its writer will soon be on disk: the writer looks
/// once a second.
fn is_on_its_way(feed: &FeedInfo, entry: &ChunkEntry) -> Result<bool> {
    Ok(entry.place.is_staged() && Lock::feed_is_held(&feed.lock)? == Some(true))
}

/// The folders that may have a chunk's files, best first: the feed's; shared memory while the chunk
/// is staged, and for the live window after.
fn folders(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    entry: &ChunkEntry,
    end_seq: u64,
) -> Result<Vec<PathBuf>> {
    let window_us = feed.spec.policy.live_window_seconds.saturating_mul(1_000_000);
    let in_window = |sealed_us: u64| process::wall_us() < sealed_us.saturating_add(window_us);
    let staged = entry.place.is_staged();
    let kept = window_us > 0 && entry.seal.is_some_and(|seal| in_window(seal.sealed_us));
    if !staged && !kept {
        return Ok(vec![feed.folder.clone()]);
    }
    let segments = match registry.segments().filter(|s| s.kind == SegmentKind::Staged) {
        Some(s) if s.reach(feed.base(), feed.id.store_id)? == Reach::Here => Some(s),
        _ => None,
    };
    let memory = segments.map(|segments| segments.chunk_folder(&feed.name));
    // The copy of a staged chunk is behind; what a checkpoint covers is all there.
    let covered = || registry.checkpoint().is_some_and(|checkpoint| end_seq <= checkpoint.seq);
    let disk = (!staged || memory.is_none() || covered()).then(|| feed.folder.clone());
    Ok(memory.into_iter().chain(disk).collect())
}

/// The entry as it is now, or why the chunk is gone.
fn look_again(
    registry: &FeedRegistry,
    entry: &ChunkEntry,
) -> Result<std::result::Result<ChunkEntry, Why>> {
    if registry.is_deleted()? {
        return Ok(Err(Why::Deleted));
    }
    match registry.entry(entry.position)? {
        Entry::Chunk(now) => Ok(match now.place {
            Place::Expired => Err(Why::Collected),
            Place::Lost => Err(Why::Lost),
            _ => Ok(now),
        }),
        _ => Err(Error::damaged(registry.path(), 0, format!("entry {}", entry.position))),
    }
}
