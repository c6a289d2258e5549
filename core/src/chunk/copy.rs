//! The copy on disk of a chunk that is staged in shared memory (FORMAT.md, Staged chunks).
//!
//! It has the form of any live chunk, so that whatever proves, reads and seals those does it here
//! too. It is a little behind the chunk in memory: records first, then the index, then a sync.

use std::fs::File;
use std::path::Path;

use crate::bytes::{get_u64, put, put_u64};
use crate::chunk::ChunkPaths;
use crate::chunk::index::{BLOCK_ENTRY_SIZE, HEADER_SIZE, MARK_COUNT_AT, MARK_SIZE};
use crate::chunk::live::LiveChunk;
use crate::error::Result;
use crate::os::faults::step;
use crate::os::file;
use crate::registry::feed::Seal;

/// Records are copied in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// A staged chunk's two files on disk, written by the background thread or by who adopts it.
pub struct DiskCopy {
    paths: ChunkPaths,
    data: File,
    index: File,
    /// Bytes of records written.
    written: usize,
    /// The first block whose entry may have changed since it was written.
    open_block: usize,
    marks: usize,
    /// Whether something was written since the last sync.
    dirty: bool,
}

impl DiskCopy {
    /// Makes the copy of a chunk in `folder`, or goes on with one of which everything below
    /// `durable` is on disk; the records after it are written again.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn begin(folder: &Path, chunk: &LiveChunk, durable: u64, mode: u32) -> Result<DiskCopy> {
        let paths = ChunkPaths::new(folder, chunk.chunk_id());
        let header = chunk.header();
        let geometry = header.geometry;
        let kept = durable.saturating_sub(header.base_seq) as usize / geometry.block_records;
        let kept = kept * geometry.block_bytes();
        let open = |path: &Path| match kept {
            0 => file::create_new(path, mode),
            _ => file::open_write(path),
        };
        let (data, index) = (open(&paths.data)?, open(&paths.index)?);
        let mut page = [0; HEADER_SIZE];
        put(&mut page, 0, &header.encode());
        file::write_at(&index, &paths.index, 0, &page)?;
        Ok(DiskCopy { paths, data, index, written: kept, open_block: 0, marks: 0, dirty: true })
    }

    /// Bytes of records that are published and not written yet.
    pub fn pending_bytes(&self, chunk: &LiveChunk, published: u64) -> usize {
        published_bytes(chunk, published).saturating_sub(self.written)
    }

    /// Writes the records below `published` that are not written yet.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), also on a full disk; the writer must stop then.
    pub fn write_records(&mut self, chunk: &LiveChunk, published: u64) -> Result<()> {
        let end = published_bytes(chunk, published);
        while self.written < end {
            let piece = (end - self.written).min(PIECE_BYTES);
            chunk.write_to((&self.data, &self.paths.data), self.written, piece)?;
            self.written += piece;
            self.dirty = true;
        }
        Ok(())
    }

    /// Starts to write back what was written, so that a sync has little left to do.
    pub fn start_writeback(&self) {
        file::start_writeback(&self.data, 0, self.written as u64);
    }

    /// Writes what the index says of the records that are written. Every block that is whole must
    /// have been closed.
    ///
    /// # Errors
    /// As [`DiskCopy::write_records`].
    pub fn write_index(&mut self, chunk: &LiveChunk) -> Result<()> {
        let header = chunk.header();
        let blocks = self.written.div_ceil(header.geometry.block_bytes());
        if self.open_block < blocks {
            let at = HEADER_SIZE + self.open_block * BLOCK_ENTRY_SIZE;
            let mut entries = vec![0; (blocks - self.open_block) * BLOCK_ENTRY_SIZE];
            chunk.read_index(at, &mut entries);
            file::write_at(&self.index, &self.paths.index, at as u64, &entries)?;
            self.open_block = chunk.closed_blocks().min(blocks);
            self.dirty = true;
        }
        let end = header.base_seq + (self.written / header.geometry.record_size) as u64;
        let first = self.marks;
        let mut marks = vec![0; chunk.mark_count().saturating_sub(first) * MARK_SIZE];
        let at = header.marks_offset() + first * MARK_SIZE;
        chunk.read_index(at, &mut marks);
        // Those of records to come may yet be taken back.
        let there = marks.chunks_exact(MARK_SIZE).take_while(|mark| get_u64(mark, 0) < end).count();
        if there > 0 {
            let path = &self.paths.index;
            file::write_at(&self.index, path, at as u64, &marks[..there * MARK_SIZE])?;
            self.marks += there;
            let mut count = [0; 8];
            put_u64(&mut count, 0, self.marks as u64);
            file::write_at(&self.index, path, MARK_COUNT_AT as u64, &count)?;
            self.dirty = true;
        }
        Ok(())
    }

    /// Makes what was written durable: records, then index.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); the writer must stop then.
    pub fn sync(&mut self) -> Result<()> {
        if self.dirty {
            file::sync(&self.data, &self.paths.data)?;
            step("copy.records-synced");
            file::sync(&self.index, &self.paths.index)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Ends the copy with the records below `end`, all of which are published: writes what is
    /// missing, then seals it as any chunk.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); the writer must stop then.
    pub fn seal(&mut self, chunk: &LiveChunk, end: u64, reason: u32) -> Result<Seal> {
        chunk.close_blocks(end, true);
        self.write_records(chunk, end)?;
        step("copy.records-written");
        self.write_index(chunk)?;
        step("copy.index-written");
        let folder = self.paths.data.parent().unwrap_or(Path::new("."));
        LiveChunk::reopen(folder, chunk.header(), chunk.position())?.seal(end, reason)
    }
}

fn published_bytes(chunk: &LiveChunk, published: u64) -> usize {
    let count = published.saturating_sub(chunk.base_seq()) as usize;
    count.min(chunk.header().capacity()) * chunk.header().geometry.record_size
}
