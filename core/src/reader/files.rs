//! A chunk's files: found, opened, and its blocks read and verified.
//!
//! Readers hold no lock, so a chunk can go away between a look at the table and the opening of its
//! files. Whoever takes it away changes its place in the table first and removes the files then:
//! who finds a file gone reads the entry again, and that says what became of the chunk.

use std::fs::File;
use std::io::ErrorKind;

use crate::checksum::crc;
use crate::chunk::ChunkPaths;
use crate::chunk::index::{BlockEntry, ChunkKey, Index};
use crate::error::{Error, Result};
use crate::os::{faults, file};
use crate::reader::{SnapshotChunk, Why};
use crate::registry::feed::{ChunkEntry, Entry, FeedRegistry, Place};
use crate::registry::info::FeedInfo;

/// A chunk's files, open.
pub(super) struct ChunkFiles {
    pub chunk_id: u64,
    pub index: Index,
    data: File,
    paths: ChunkPaths,
}

/// Why a chunk cannot be read.
pub(super) enum Missing {
    /// It was taken away, and the table says so.
    Gone(Why),
    /// Its files are not there, or not what they should be.
    Damaged(Error),
}

impl ChunkFiles {
    /// Opens the files of a chunk that the table has.
    pub fn find(
        feed: &FeedInfo,
        registry: &FeedRegistry,
        entry: &ChunkEntry,
    ) -> std::result::Result<ChunkFiles, Missing> {
        let mut known = *entry;
        let mut unchanged = false;
        loop {
            faults::step("reader.open");
            let error = match Self::open(feed, &known) {
                Ok(files) => return Ok(files),
                Err(error) => error,
            };
            let gone = matches!(&error, Error::Io { source, .. }
                if source.kind() == ErrorKind::NotFound);
            if !gone || unchanged {
                return Err(Missing::Damaged(error));
            }
            let now = look_again(registry, &known).map_err(Missing::Damaged)?;
            match now {
                Ok(entry) => unchanged = std::mem::replace(&mut known, entry).place == entry.place,
                Err(why) => return Err(Missing::Gone(why)),
            }
        }
    }

    /// Opens the files where a chunk in that place has them.
    fn open(feed: &FeedInfo, entry: &ChunkEntry) -> Result<ChunkFiles> {
        let (chunk_id, base_seq) = (entry.chunk_id, entry.base_seq);
        let geometry = feed.geometry();
        let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
        let paths = ChunkPaths::new(&feed.folder, chunk_id);
        let data = file::open_read(&paths.data)?;
        let index = Index::open(&paths.index, &key)?;
        Ok(ChunkFiles { chunk_id, index, data, paths })
    }

    /// Reads bytes of records from byte `at` on.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        file::read_at(&self.data, &self.paths.data, at, into)
    }

    /// Verifies the records of one block: closed ones by their sums; in a sealed chunk every block
    /// is closed.
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
            None if chunk.entry.seal.is_some() => {
                wrong(&format!("block {block}: not closed, in a sealed chunk"))
            }
            _ => Ok(()),
        }
    }
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
