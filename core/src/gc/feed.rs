//! Plans what is to be removed of one feed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::chunk::{self, ChunkPaths, strays};
use crate::error::Result;
use crate::gc::{Action, Doubt, Reason, Step, Target, Wants, clock};
use crate::os::file;
use crate::registry::feed::{ChunkEntry, Entry, FeedRegistry, Moment, Place};
use crate::registry::info::FeedInfo;
use crate::registry::segments::Segments;

/// The plan for a feed.
pub(super) struct Look {
    /// The shared memory that its newest session has noted.
    pub segments: Option<Segments>,
    /// What is to be removed.
    pub steps: Vec<Step>,
    /// What may be removed as well if the disk is full, with its arrival time.
    pub spare: Vec<(u64, Step)>,
    /// Why the clock is not trusted.
    pub doubt: Option<Doubt>,
    /// Files that show that the table is incomplete.
    pub strays: Vec<strays::Doubt>,
}

/// Size of a chunk's files in bytes, and the bytes that the disk gets back for them.
type Sizes = (u64, u64);

/// Returns the size of a file, or of all files in a folder.
pub(super) fn sizes(path: &Path) -> Sizes {
    let Ok(meta) = path.symlink_metadata() else { return (0, 0) };
    if !meta.is_dir() {
        return (meta.len(), meta.blocks() * 512);
    }
    let names = file::names(path).unwrap_or_default();
    let all = names.iter().map(|name| sizes(&path.join(name)));
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Returns the chunks that have files in a feed's folder, by id.
fn chunk_files(folder: &Path) -> Result<BTreeMap<u64, Sizes>> {
    let mut found: BTreeMap<u64, Sizes> = BTreeMap::new();
    for name in file::names(folder)? {
        if let Some(chunk_id) = ChunkPaths::id_of(&name) {
            let (bytes, disk_bytes) = sizes(&folder.join(&name));
            let sum = found.entry(chunk_id).or_default();
            *sum = (sum.0 + bytes, sum.1 + disk_bytes);
        }
    }
    Ok(found)
}

/// The part of the table that collecting needs.
struct Table {
    chunks: Vec<ChunkEntry>,
    /// The boot of each session.
    boots: HashMap<u64, [u8; 16]>,
}

impl Table {
    fn of(entries: &[Entry]) -> Table {
        let mut table = Table { chunks: Vec::new(), boots: HashMap::new() };
        for entry in entries {
            match entry {
                Entry::Chunk(chunk) => table.chunks.push(*chunk),
                Entry::Session(session) => {
                    table.boots.insert(session.session_id, session.boot_id);
                }
                Entry::Range(_) => {}
            }
        }
        table
    }

    /// Returns the time since a chunk was sealed, in microseconds. Within a boot, it is at most the
    /// time since the chunk was created.
    fn age_us(&self, chunk: &ChunkEntry, arrived_us: u64, now: &Moment) -> u64 {
        let boot_id = self.boots.get(&chunk.session_id).copied().unwrap_or_default();
        let (wall_us, boot_ns) = (chunk.created_us, chunk.created_boot_ns);
        clock::age_us(arrived_us, &Moment { wall_us, boot_ns, boot_id }, now)
    }

    /// Returns the chunks that may be collected, oldest first.
    fn candidates(
        &self,
        info: &FeedInfo,
        files: &BTreeMap<u64, Sizes>,
        now: &Moment,
    ) -> Vec<Candidate> {
        let sealed: Vec<(&ChunkEntry, u64)> =
            self.chunks.iter().filter_map(|c| c.seal.map(|seal| (c, seal.sealed_us))).collect();
        let times: Vec<u64> = sealed.iter().map(|(_, sealed_us)| *sealed_us).collect();
        let arrivals = clock::arrivals_us(info.created_us, &times, now.wall_us);
        let on_disk = sealed.into_iter().zip(arrivals).filter(|((c, _), _)| {
            // The other chunks are being written, or are gone.
            c.place == Place::OnDisk
        });
        let candidate = |((chunk, _), arrived_us): ((&ChunkEntry, u64), u64)| Candidate {
            chunk: *chunk,
            arrived_us,
            age_us: self.age_us(chunk, arrived_us, now),
            sizes: files.get(&chunk.chunk_id).copied().unwrap_or_default(),
        };
        on_disk.map(candidate).collect()
    }

    /// Returns the size of all chunks that are not collected, in bytes, including the live one.
    fn bytes(&self, files: &BTreeMap<u64, Sizes>) -> u64 {
        let there = self.chunks.iter().filter(|chunk| chunk.place != Place::Expired);
        there.filter_map(|chunk| files.get(&chunk.chunk_id)).map(|sizes| sizes.0).sum()
    }
}

/// A chunk that may be collected.
struct Candidate {
    chunk: ChunkEntry,
    arrived_us: u64,
    age_us: u64,
    sizes: Sizes,
}

impl Candidate {
    fn step(&self, feed: &str, reason: Reason) -> Step {
        let ChunkEntry { chunk_id, position, .. } = self.chunk;
        Step {
            action: Action::Collect,
            feed: feed.to_owned(),
            chunk_id: Some(chunk_id),
            seqs: Some(self.chunk.seqs()),
            bytes: self.sizes.0,
            reason,
            disk_bytes: self.sizes.1,
            target: Target::Chunk { position: Some(position), chunk_id },
        }
    }
}

/// Plans for a feed. Changes nothing.
pub(super) fn look(info: &FeedInfo, wants: &Wants, now: &Moment) -> Result<Look> {
    let registry = FeedRegistry::open(&info.registry_path(), &info.id, false)?;
    let segments = registry.segments();
    if registry.is_deleted()? {
        let steps = vec![deletion(info)];
        return Ok(Look { segments, steps, spare: Vec::new(), doubt: None, strays: Vec::new() });
    }
    let entries = registry.entries()?;
    let doubt = match wants.trust_clock {
        true => None,
        false => {
            let last = registry.last_gc();
            let first = last.wall_us == 0;
            let last =
                if first { clock::first_known(info.created_us, &entries, now) } else { last };
            clock::judge(&info.name, &last, first, &registry.clock_jump(), now)
        }
    };
    let table = Table::of(&entries);
    let files = chunk_files(&info.folder)?;
    let mut steps = unfinished(info, &registry, &table, &files)?;
    let kept = table.candidates(info, &files, now);
    let limit_us = info.spec.policy.retention_seconds.map(|s| s.saturating_mul(1_000_000));
    let old = kept.iter().take_while(|c| limit_us.is_some_and(|limit| c.age_us > limit)).count();
    steps.extend(kept[..old].iter().map(|c| c.step(&info.name, Reason::Retention)));
    let gone: u64 = kept[..old].iter().map(|c| c.sizes.0).sum();
    let mut left = table.bytes(&files).saturating_sub(gone);
    let most = info.spec.policy.max_size_bytes.unwrap_or(u64::MAX);
    let mut spare = Vec::new();
    for candidate in &kept[old..] {
        if left > most {
            left = left.saturating_sub(candidate.sizes.0);
            steps.push(candidate.step(&info.name, Reason::MaxSize));
        } else if limit_us.is_some() && wants.min_free_bytes.is_some() {
            // Feeds without a retention keep their chunks even if the disk is full.
            spare.push((candidate.arrived_us, candidate.step(&info.name, Reason::MinFree)));
        }
    }
    let named: HashSet<u64> = table.chunks.iter().map(|chunk| chunk.chunk_id).collect();
    let strays = match files.keys().all(|id| named.contains(id)) {
        true => Vec::new(),
        false => strays::doubts(info, &entries, None, strays::Look::All)?,
    };
    Ok(Look { segments, steps, spare, doubt, strays })
}

/// Finishes the deletion of a feed.
fn deletion(info: &FeedInfo) -> Step {
    let (bytes, disk_bytes) = sizes(&info.folder);
    Step {
        action: Action::Delete,
        feed: info.name.clone(),
        chunk_id: None,
        seqs: None,
        bytes,
        reason: Reason::Unfinished,
        disk_bytes,
        target: Target::Feed,
    }
}

/// Returns the files of chunks that the table has as collected. Files that the table does not
/// mention stay, because after a repair chunk ids need not increase along the table.
fn unfinished(
    info: &FeedInfo,
    registry: &FeedRegistry,
    table: &Table,
    files: &BTreeMap<u64, Sizes>,
) -> Result<Vec<Step>> {
    let expired = |chunk: &&ChunkEntry| chunk.place == Place::Expired;
    let collected: HashMap<u64, &ChunkEntry> =
        table.chunks.iter().filter(expired).map(|chunk| (chunk.chunk_id, chunk)).collect();
    let kept: HashSet<u64> =
        table.chunks.iter().filter(|c| !expired(c)).map(|chunk| chunk.chunk_id).collect();
    // Files may remain, or come back, after the table has dropped their chunk.
    let known = |id: &u64| kept.contains(id) || collected.contains_key(id);
    let forgotten = match files.keys().all(known) {
        true => HashSet::new(),
        false => registry.forgotten_chunks()?,
    };
    let left = files.iter().filter(|(id, _)| {
        !kept.contains(id) && (collected.contains_key(id) || forgotten.contains(id))
    });
    let steps = left
        .map(|(&chunk_id, &(bytes, disk_bytes))| Step {
            action: Action::Finish,
            feed: info.name.clone(),
            chunk_id: Some(chunk_id),
            seqs: collected.get(&chunk_id).and_then(|chunk| chunk.seal.map(|_| chunk.seqs())),
            bytes,
            reason: Reason::Unfinished,
            disk_bytes,
            target: Target::Chunk { position: None, chunk_id },
        })
        .collect();
    Ok(steps)
}

/// Returns the range of entries at the head of the table that are no longer needed.
///
/// The range ends after the last collected chunk before which nothing is needed. Not needed are
/// chunks collected or lost, closed sessions without other chunks, and ranges below the first seq
/// that is kept. The last chunk and the last session always stay, since new ones are numbered after
/// them.
pub(super) fn collected_entries(info: &FeedInfo, registry: &FeedRegistry) -> Result<(u64, u64)> {
    let from = registry.first_entry()?;
    let entries = registry.entries()?;
    let files = chunk_files(&info.folder)?;
    let over = |chunk: &ChunkEntry| {
        let gone = matches!(chunk.place, Place::Expired | Place::Lost);
        gone && !files.contains_key(&chunk.chunk_id)
    };
    let (mut last_chunk, mut last_session) = (0, 0);
    // After a repair, the chunk with the highest id need not be the last one.
    let highest = entries.iter().filter_map(|entry| match entry {
        Entry::Chunk(chunk) => Some((chunk::order(chunk.chunk_id), chunk.position)),
        _ => None,
    });
    let highest = highest.max().map_or(u64::MAX, |(_, position)| position);
    let mut first_seq = u64::MAX;
    let mut needed = HashSet::new();
    for entry in &entries {
        match entry {
            Entry::Chunk(chunk) => {
                last_chunk = chunk.position;
                if !over(chunk) {
                    needed.insert(chunk.session_id);
                    first_seq = first_seq.min(chunk.base_seq);
                }
            }
            Entry::Session(session) => last_session = session.position,
            Entry::Range(_) => {}
        }
    }
    let mut to = from;
    for (entry, position) in entries.iter().zip(from..last_chunk.min(last_session).min(highest)) {
        let passed = match entry {
            Entry::Chunk(chunk) => over(chunk),
            Entry::Session(session) => {
                session.close.is_some() && !needed.contains(&session.session_id)
            }
            Entry::Range(range) => range.seqs.1 <= first_seq,
        };
        if !passed {
            break;
        }
        if matches!(entry, Entry::Chunk(chunk) if chunk.seal.is_some()) {
            to = position + 1;
        }
    }
    Ok((from, to))
}
