//! One chunk: its records against its index, and both against the table.

use std::path::{Path, PathBuf};

use crate::checksum::crc;
use crate::chunk::index::{Agreement, BlockSums, RawIndex};
use crate::chunk::proof::open_block_seq;
use crate::chunk::{ChunkPaths, Shown};
use crate::error::Result;
use crate::os::file;
use crate::registry::feed::{Checkpoint, ChunkEntry};
use crate::registry::info::FeedInfo;
use crate::repair::shelf::{Shelf, regular_size};

/// What a chunk should hold.
pub struct Want {
    /// Its entry.
    pub entry: ChunkEntry,
    /// Records.
    pub count: u64,
    /// The checkpoint whose sum vouches for the records of its open block.
    pub checkpoint: Option<Checkpoint>,
}

/// One block.
#[derive(Clone)]
pub struct Block {
    /// Its times and sum, as its records are.
    pub sums: BlockSums,
    /// Why its records are not to be believed.
    pub bad: Option<String>,
    /// Least and greatest time that its index entry gives, where that checks.
    pub times: Option<(u64, u64)>,
}

/// What was found of a chunk.
pub struct Found {
    /// The file that has the records.
    pub source: PathBuf,
    /// Its blocks.
    pub blocks: Vec<Block>,
    /// What is wrong with the data file, though all its records may be there.
    pub data: Option<String>,
    /// What is wrong with the index.
    pub index: Option<String>,
    /// The marks that can be believed.
    pub marks: Vec<(u64, u64)>,
    /// How many marks there should be beyond those.
    pub marks_gone: u64,
}

impl Found {
    /// How many blocks are not to be believed.
    pub fn bad(&self) -> usize {
        self.blocks.iter().filter(|block| block.bad.is_some()).count()
    }

    /// Whether everything is as it should be.
    pub fn is_sound(&self) -> bool {
        self.bad() == 0 && self.data.is_none() && self.index.is_none()
    }
}

/// Reads a chunk whole. `tick` is told how many bytes were read since it was told last.
///
/// # Errors
/// [`crate::Error::Io`] is an answer about a block here, never an error; none are left.
pub fn inspect(feed: &FeedInfo, want: &Want, shelf: &Shelf, tick: &mut dyn FnMut(u64)) -> Found {
    let paths = ChunkPaths::new(&feed.folder, want.entry.chunk_id);
    let geometry = feed.geometry();
    let (index, fault) = find_index(feed, want, shelf, &paths.index);
    let mut found = Found {
        source: paths.data.clone(),
        blocks: Vec::new(),
        data: data_fault(&paths.data, want, geometry.record_size as u64),
        index: fault,
        marks: Vec::new(),
        marks_gone: 0,
    };
    let mut mended = 0;
    found.blocks = blocks(feed, want, index.as_ref(), &paths.data, &mut mended, tick);
    if found.bad() > 0
        && let Some(index) = &index
    {
        let looked = (want, index, shelf);
        if let Some((source, better)) = other_source(feed, looked, &found, tick) {
            found.data = Some(format!("its records are in {}", source.display()));
            (found.source, found.blocks, mended) = (source, better, 0);
        }
    }
    if mended > 0 && found.index.is_none() {
        found.index = Some(format!("the entries of {mended} blocks"));
    }
    match &index {
        Some(index) => find_marks(feed, want, index, &mut found),
        None => found.marks_gone = want.entry.seal.map_or(0, |seal| seal.marks),
    }
    found
}

/// The chunk's index, and what is wrong with it.
fn find_index(
    feed: &FeedInfo,
    want: &Want,
    shelf: &Shelf,
    own: &Path,
) -> (Option<RawIndex>, Option<String>) {
    let geometry = feed.geometry();
    let read = |path: &Path| RawIndex::read(path, (&feed.id, &geometry));
    let Some(shelved) = shelf.index_of(want.entry.chunk_id, want.entry.base_seq) else {
        let fault = match regular_size(own) {
            Err(what) => what,
            Ok(_) => match read(own) {
                Err(error) => error.to_string(),
                Ok(other) => format!("it is the index of chunk {}", Shown(other.header.chunk_id)),
            },
        };
        return (None, Some(fault));
    };
    let index = match read(&shelved.path) {
        Ok(index) => index,
        Err(error) => return (None, Some(error.to_string())),
    };
    let fault = if shelved.path != own {
        Some(format!("it is called {}", shelved.path.display()))
    } else if let Some(seal) = want.entry.seal {
        let differs = index.seal().ok().flatten().is_some_and(|own| {
            (own.times, own.marks, own.sealed_us)
                != ((seal.min_time, seal.max_time), seal.marks, seal.sealed_us)
        });
        let differs = differs.then(|| "its seal is not the one that the table has".to_owned());
        index.fault(want.count).or(differs)
    } else {
        None
    };
    (Some(index), fault)
}

fn data_fault(path: &Path, want: &Want, record_size: u64) -> Option<String> {
    let needed = want.count * record_size;
    match regular_size(path) {
        Err(what) => Some(what),
        Ok(size) if size < needed => Some(format!("{size} bytes, where its records take {needed}")),
        Ok(size) if size > needed && want.entry.seal.is_some() => {
            Some(format!("{size} bytes, where its records take {needed}"))
        }
        Ok(_) => None,
    }
}

fn blocks(
    feed: &FeedInfo,
    want: &Want,
    index: Option<&RawIndex>,
    data: &Path,
    mended: &mut usize,
    tick: &mut dyn FnMut(u64),
) -> Vec<Block> {
    let geometry = feed.geometry();
    let per_block = geometry.block_records as u64;
    let file = open_data(data);
    let mut bytes = vec![0; geometry.block_bytes()];
    let number = want.count.div_ceil(per_block);
    (0..number)
        .map(|i| {
            let records = (want.count - i * per_block).min(per_block);
            let bytes = &mut bytes[..records as usize * geometry.record_size];
            let read = match &file {
                Ok(file) => file::read_at(file, data, i * geometry.block_bytes() as u64, bytes)
                    .map_err(|error| error.to_string()),
                Err(what) => Err(what.clone()),
            };
            tick(bytes.len() as u64);
            // What is not there is not summed: a table may have far more blocks than the file.
            let there: &[u8] = if read.is_ok() { bytes } else { &[] };
            let sums = BlockSums::of(there, &geometry);
            let bad = read.err().or_else(|| judge(feed, want, index, (i, bytes), &sums, mended));
            let times = index.and_then(|index| index.times(i as usize, records as usize));
            Block { sums, bad, times }
        })
        .collect()
}

/// Opens a data file; through a link too, since what its records agree with decides.
fn open_data(path: &Path) -> std::result::Result<std::fs::File, String> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    file::open_read(&real).map_err(|error| error.to_string())
}

/// Why a block's records are not to be believed; none if they are.
fn judge(
    feed: &FeedInfo,
    want: &Want,
    index: Option<&RawIndex>,
    (i, bytes): (u64, &[u8]),
    sums: &BlockSums,
    mended: &mut usize,
) -> Option<String> {
    let records = bytes.len() / feed.geometry().record_size;
    let extent = (records, want.entry.seal.is_some());
    let agreement =
        index.map_or(Agreement::Silent, |index| index.agreement(i as usize, extent, sums));
    let vouched = match agreement {
        Agreement::Sound | Agreement::Broken | Agreement::Proven => Vouched::Not,
        Agreement::Open | Agreement::Outside | Agreement::Silent => vouched(feed, want, i, bytes),
    };
    let silent = matches!(agreement, Agreement::Silent | Agreement::Outside);
    *mended += usize::from(silent || agreement == Agreement::Proven);
    match (agreement, vouched) {
        (_, Vouched::Against) => Some("the checksum that a checkpoint has of it".into()),
        (Agreement::Broken, _) => Some("the checksum of its records".into()),
        (Agreement::Sound | Agreement::Proven | Agreement::Open, _) | (_, Vouched::For) => None,
        (Agreement::Outside, _) => Some("its times are not within those of the index".into()),
        (Agreement::Silent, _) => {
            let seal = want.entry.seal?;
            let within = sums.min >= seal.min_time && sums.max <= seal.max_time;
            (!within).then(|| "no checksum is left of it, and its times are others".into())
        }
    }
}

/// What a checkpoint says of the records of a block that is not closed.
enum Vouched {
    /// All of them are as they were then.
    For,
    /// They are not.
    Against,
    /// It says nothing of them, or not of all.
    Not,
}

fn vouched(feed: &FeedInfo, want: &Want, i: u64, bytes: &[u8]) -> Vouched {
    let geometry = feed.geometry();
    let first = want.entry.base_seq + i * geometry.block_records as u64;
    let end = first + (bytes.len() / geometry.record_size) as u64;
    let of_it = |c: &Checkpoint| c.seq > first && c.seq <= end && open_block_seq(feed, c) == first;
    let Some(checkpoint) = want.checkpoint.filter(of_it) else { return Vouched::Not };
    let known = (checkpoint.seq - first) as usize * geometry.record_size;
    match crc(&bytes[..known]) == checkpoint.open_block_crc {
        false => Vouched::Against,
        true if checkpoint.seq == end => Vouched::For,
        true => Vouched::Not,
    }
}

/// Another file of the folder, or what a link there leads to, that agrees better with the index.
fn other_source(
    feed: &FeedInfo,
    (want, index, shelf): (&Want, &RawIndex, &Shelf),
    found: &Found,
    tick: &mut dyn FnMut(u64),
) -> Option<(PathBuf, Vec<Block>)> {
    let geometry = feed.geometry();
    let records = want.count.min(geometry.block_records as u64) as usize;
    let mut first = vec![0; records * geometry.record_size];
    for named in shelf.files.values() {
        let Some(path) = named.data.as_ref().filter(|path| **path != found.source) else {
            continue;
        };
        let Ok(file) = open_data(path) else { continue };
        // Most other files fail with their first block.
        if file::read_at(&file, path, 0, &mut first).is_err() {
            continue;
        }
        let sums = BlockSums::of(&first, &geometry);
        let extent = (records, want.entry.seal.is_some());
        if index.agreement(0, extent, &sums) != Agreement::Sound {
            continue;
        }
        let mut mended = 0;
        let blocks = blocks(feed, want, Some(index), path, &mut mended, tick);
        if blocks.iter().filter(|block| block.bad.is_some()).count() < found.bad() {
            return Some((path.clone(), blocks));
        }
    }
    None
}

/// Takes over the marks; each is checked where their common checksum fails.
fn find_marks(feed: &FeedInfo, want: &Want, index: &RawIndex, found: &mut Found) {
    // How many a chunk has that was never sealed, nobody knows.
    let expected = want.entry.seal.map_or(0, |seal| seal.marks);
    let end = want.entry.base_seq + want.count;
    let in_chunk = |seq: u64| seq >= want.entry.base_seq && seq < end;
    let mut last = None;
    let geometry = feed.geometry();
    // Those that cannot be read are gone.
    let _ = index.marks(|seq, time| {
        let ascends = last.is_none_or(|last| seq > last);
        if !in_chunk(seq) || !ascends {
            return;
        }
        let at = (seq - want.entry.base_seq) * geometry.record_size as u64;
        let good = found.index.is_none() || time_at(feed, &found.source, at).ok() == Some(time);
        if good {
            found.marks.push((seq, time));
            last = Some(seq);
        }
    });
    found.marks_gone = expected.saturating_sub(found.marks.len() as u64);
}

/// The time of the record at a byte of a data file.
fn time_at(feed: &FeedInfo, data: &Path, at: u64) -> Result<u64> {
    let file = file::open_read(data)?;
    let mut word = [0; 8];
    file::read_at(&file, data, at + feed.geometry().time_offset as u64, &mut word)?;
    Ok(u64::from_le_bytes(word))
}
