//! Where a chunk's files are: in the feed's folder, or in shared memory while it is staged.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use crate::chunk::ChunkPaths;
use crate::chunk::index::{ChunkKey, Index};
use crate::error::{Error, Result};
use crate::os::{file, process};
use crate::reader::SnapshotChunk;
use crate::registry::feed::{ChunkEntry, FeedRegistry};
use crate::registry::info::FeedInfo;
use crate::registry::segments::{Reach, SegmentKind};

/// Finds and opens the files of one feed's chunks.
#[derive(Clone)]
pub struct ChunkFinder {
    feed: FeedInfo,
    registry: Arc<FeedRegistry>,
}

/// A chunk's files, opened.
pub struct OpenFiles {
    /// Where they were found.
    pub paths: ChunkPaths,
    /// The index.
    pub index: Index,
    /// The records.
    pub data: std::fs::File,
}

impl ChunkFinder {
    pub(super) fn new(feed: FeedInfo, registry: Arc<FeedRegistry>) -> ChunkFinder {
        ChunkFinder { feed, registry }
    }

    /// The feed.
    pub fn feed(&self) -> &FeedInfo {
        &self.feed
    }

    /// Opens a chunk's files. One whose place changes meanwhile, from memory to disk, is looked for
    /// again there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(&self, chunk: &SnapshotChunk) -> Result<OpenFiles> {
        let geometry = self.feed.geometry();
        let (chunk_id, base_seq) = (chunk.entry.chunk_id, chunk.entry.base_seq);
        self.find(chunk, |paths| {
            let key = ChunkKey { id: &self.feed.id, geometry: &geometry, chunk_id, base_seq };
            let index = Index::open(&paths.index, &key)?;
            let data = file::open_read(&paths.data)?;
            Ok(OpenFiles { paths, index, data })
        })
    }

    /// Where a chunk's files are now.
    ///
    /// # Errors
    /// [`Error::Io`] names the place where they should be.
    pub fn paths(&self, chunk: &SnapshotChunk) -> Result<ChunkPaths> {
        self.find(chunk, |paths| {
            for path in [&paths.index, &paths.data] {
                file::identity_of(path)?;
            }
            Ok(paths)
        })
    }

    /// Tries the places where the files can be until `open` finds them.
    fn find<T>(&self, chunk: &SnapshotChunk, open: impl Fn(ChunkPaths) -> Result<T>) -> Result<T> {
        let mut entry = chunk.entry;
        loop {
            let mut missing = None;
            for folder in self.folders(&entry, chunk.end_seq) {
                match open(ChunkPaths::new(&folder, entry.chunk_id)) {
                    Err(error) if is_missing(&error) => missing = missing.or(Some(error)),
                    other => return other,
                }
            }
            // Flushed, or collected, since its entry was read.
            let now = self.registry.chunk_at(entry.position)?;
            match missing {
                Some(error) if now.place == entry.place => return Err(error),
                _ => entry.place = now.place,
            }
        }
    }

    /// The folders that may have a chunk's files, best first.
    fn folders(&self, entry: &ChunkEntry, end_seq: u64) -> Vec<PathBuf> {
        let disk = self.feed.folder.clone();
        let window_us = self.feed.spec.policy.live_window_seconds.saturating_mul(1_000_000);
        let in_window = |sealed_us: u64| {
            window_us > 0 && process::wall_us() < sealed_us.saturating_add(window_us)
        };
        let staged = entry.place.is_staged();
        if !staged && !entry.seal.is_some_and(|seal| in_window(seal.sealed_us)) {
            return vec![disk];
        }
        let segments = self.registry.segments().filter(|segments| {
            segments.kind == SegmentKind::Staged
                && segments.reach(self.feed.base(), self.feed.id.store_id) == Reach::Here
        });
        let memory = segments.map(|segments| segments.chunk_folder(&self.feed.name));
        // The copy of a staged chunk is behind; what a checkpoint covers is all there.
        let covered = || match self.registry.checkpoint() {
            Some(checkpoint) => end_seq <= checkpoint.seq,
            None => false,
        };
        let disk = (!staged || memory.is_none() || covered()).then_some(disk);
        memory.into_iter().chain(disk).collect()
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}
