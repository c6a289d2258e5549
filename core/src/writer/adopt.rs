//! What a dead writer has left in shared memory is brought to disk.

use std::path::Path;

use crate::chunk::ChunkPaths;
use crate::chunk::copy::DiskCopy;
use crate::chunk::index::{ChunkKey, Index};
use crate::chunk::live::LiveChunk;
use crate::chunk::proof::proven_blocks;
use crate::error::{Result, sound};
use crate::os::faults::step;
use crate::os::{file, process};
use crate::registry::feed::{
    ChunkEnd, ChunkEntry, Entry, FeedRegistry, Place, RANGE_UNREACHABLE, RangeEntry,
};
use crate::registry::info::FeedInfo;
use crate::writer::journal::log_sealed;
use crate::writer::recover::{self, Kept};

/// Brings a staged chunk, with its records below `end`, to disk and seals it there; returns its
/// newest record time. Of a chunk whose memory is gone it keeps what the disk proves, and puts the
/// rest on record.
pub fn adopt(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    folder: &Path,
    chunk: &ChunkEntry,
    end: u64,
    kept: &mut Kept<'_>,
) -> Result<u64> {
    match reopen(feed, folder, chunk, end) {
        Ok(left) => bring_to_disk(feed, registry, &left, chunk, end),
        Err(error) if error.is_not_found() => keep_proven(feed, registry, chunk, end, kept),
        Err(error) => Err(error),
    }
}

/// The chunk in memory, which must hold its records below `end`.
fn reopen(feed: &FeedInfo, folder: &Path, chunk: &ChunkEntry, end: u64) -> Result<LiveChunk> {
    let geometry = feed.geometry();
    let (chunk_id, base_seq) = (chunk.chunk_id, chunk.base_seq);
    let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
    let paths = ChunkPaths::new(folder, chunk_id);
    let header = *Index::open(&paths.index, &key)?.header();
    recover::check_size(&paths, (end - base_seq) * geometry.record_size as u64)?;
    LiveChunk::reopen(folder, header, chunk.position)
}

fn bring_to_disk(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    left: &LiveChunk,
    chunk: &ChunkEntry,
    end: u64,
) -> Result<u64> {
    left.check_times(end)?;
    let durable = durable_of(registry, chunk, end);
    let mut copy = DiskCopy::begin(&feed.folder, left, durable, feed.spec.policy.file_mode)?;
    step("adopt.begun");
    if chunk.place == Place::Staged {
        registry.set_place(chunk.position, Place::Staged, Place::Flushing)?;
    }
    let seal = copy.seal(left, end, ChunkEnd::Recovered as u32)?;
    file::sync_folder(&feed.folder)?;
    step("adopt.sealed");
    registry.seal_chunk(chunk.position, Place::Flushing, &seal)?;
    registry.sync()?;
    step("adopt.on-disk");
    log_sealed(&feed.log(), feed, (chunk.chunk_id, chunk.base_seq), &seal);
    left.discard()?;
    step("adopt.unlinked");
    Ok(seal.max_time)
}

/// Up to which of a chunk's seqs a checkpoint says that they are on disk.
fn durable_of(registry: &FeedRegistry, chunk: &ChunkEntry, end: u64) -> u64 {
    let checkpoint = registry.checkpoint().filter(|c| c.session_id == chunk.session_id);
    checkpoint.map_or(chunk.base_seq, |c| c.seq.clamp(chunk.base_seq, end))
}

/// For a chunk whose memory somebody has removed, while the session's other memory is there.
fn keep_proven(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    chunk: &ChunkEntry,
    end: u64,
    kept: &mut Kept<'_>,
) -> Result<u64> {
    let durable = durable_of(registry, chunk, end);
    let proven = sound(proven_blocks(feed, chunk, durable))?.unwrap_or(durable).clamp(durable, end);
    if proven < end {
        let range = RangeEntry {
            seqs: (proven, end),
            session_id: chunk.session_id,
            recorded_us: process::wall_us(),
            reason: RANGE_UNREACHABLE,
            times: None,
        };
        note_range(registry, &range)?;
    }
    if proven == chunk.base_seq {
        kept.keep_evidence(chunk.chunk_id)?;
        recover::expire(feed, registry, chunk)?;
        return Ok(0);
    }
    recover::seal_proven(feed, registry, chunk, proven, kept)
}

/// Puts a range on record, unless a recovery that died has done so already.
pub fn note_range(registry: &FeedRegistry, range: &RangeEntry) -> Result<()> {
    let noted = registry.entries()?.iter().any(|entry| {
        matches!(entry, Entry::Range(r) if (r.seqs, r.session_id) == (range.seqs, range.session_id))
    });
    if !noted {
        registry.append_range(range)?;
    }
    registry.sync()
}
