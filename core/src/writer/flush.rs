//! Copies staged chunks to disk, and keeps those that are complete on disk in memory for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chunk::ChunkPaths;
use crate::chunk::copy::DiskCopy;
use crate::chunk::live::LiveChunk;
use crate::error::Result;
use crate::os::faults::step;
use crate::registry::feed::{FeedRegistry, Place, Seal};
use crate::writer::folder::Folder;

/// Records are copied to disk once they reach this size, so that a sync has little left to do.
const STREAM_BYTES: usize = 4 << 20;

/// Flushes the chunks of one session. Background thread only.
pub struct Flush {
    folder: Arc<Folder>,
    mode: u32,
    /// How long a chunk stays in memory after it is complete on disk.
    window: Duration,
    /// Copies in progress, with their chunk ids.
    copies: Vec<(u64, DiskCopy)>,
    kept: Vec<(ChunkPaths, Instant)>,
}

impl Flush {
    /// Makes a flusher that copies into a feed's folder.
    pub fn new(folder: Arc<Folder>, mode: u32, window: Duration) -> Flush {
        Flush { folder, mode, window, copies: Vec::new(), kept: Vec::new() }
    }

    fn copy(&mut self, chunk: &LiveChunk) -> Result<&mut DiskCopy> {
        let chunk_id = chunk.chunk_id();
        let at = match self.copies.iter().position(|(id, _)| *id == chunk_id) {
            Some(at) => at,
            None => {
                let copy = DiskCopy::begin(self.folder.path(), chunk, 0, self.mode)?;
                self.folder.note_new_name();
                self.copies.push((chunk_id, copy));
                self.copies.len() - 1
            }
        };
        Ok(&mut self.copies[at].1)
    }

    /// Copies records if enough have gathered. A later sync makes them durable.
    pub fn stream(&mut self, chunk: &LiveChunk, published: u64) -> Result<()> {
        if published <= chunk.base_seq() {
            return Ok(());
        }
        let copy = self.copy(chunk)?;
        if copy.pending_bytes(chunk, published) >= STREAM_BYTES {
            copy.write_records(chunk, published)?;
            step("flush.streamed");
            copy.start_writeback();
        }
        Ok(())
    }

    /// Copies everything below `published` and makes it durable.
    pub fn write(&mut self, chunk: &LiveChunk, published: u64) -> Result<()> {
        if published <= chunk.base_seq() {
            return Ok(());
        }
        let copy = self.copy(chunk)?;
        copy.write_records(chunk, published)?;
        step("flush.records-written");
        copy.write_index(chunk)?;
        step("flush.index-written");
        copy.sync()?;
        self.folder.sync()
    }

    /// Completes a chunk on disk, notes that in the table, and keeps the chunk in memory for the
    /// live window.
    pub fn seal(
        &mut self,
        registry: &FeedRegistry,
        chunk: &LiveChunk,
        end_seq: u64,
        reason: u32,
    ) -> Result<Seal> {
        registry.set_place(chunk.position(), Place::Staged, Place::Flushing)?;
        step("flush.marked");
        let seal = self.copy(chunk)?.seal(chunk, end_seq, reason)?;
        self.folder.sync()?;
        step("flush.sealed");
        registry.seal_chunk(chunk.position(), Place::Flushing, &seal)?;
        registry.sync()?;
        step("flush.on-disk");
        self.copies.retain(|(id, _)| *id != chunk.chunk_id());
        self.kept.push((chunk.paths().clone(), Instant::now()));
        Ok(seal)
    }

    /// Unlinks chunks whose live window is over, or all. Returns whether there were any.
    pub fn release(&mut self, everything: bool) -> Result<bool> {
        let before = self.kept.len();
        let window = self.window;
        let kept = std::mem::take(&mut self.kept).into_iter();
        let (stay, go) = kept.partition(|(_, since)| !everything && since.elapsed() < window);
        self.kept = stay;
        for (paths, _) in go as Vec<(ChunkPaths, Instant)> {
            paths.remove()?;
            step("flush.unlinked");
        }
        Ok(self.kept.len() < before)
    }
}
