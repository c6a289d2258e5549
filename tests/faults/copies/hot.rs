//! A store at work, and a copy of it that is made meanwhile: file by file, a file in pieces too,
//! with a step of the writer or of a tool between any two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use deepwater::Platform;
use deepwater::schema::Sync;
use deepwater::writer::{SessionEnd, Writer, WriterOptions};

use crate::random::Random;
use crate::struct_damage::history::mark_collected;
use crate::struct_damage::image::{FEED, Image, Place, is_table};
use crate::struct_damage::model::{Model, Set};
use crate::struct_damage::steps::{self, Step};

/// A store, its writer and what was written.
pub struct Original {
    pub place: Place,
    pub model: Model,
    writer: Option<Writer>,
    sync: Sync,
    chunk_records: u64,
    /// What was done, for people.
    pub story: String,
}

impl Original {
    pub fn new(place: Place, model: Model, random: &mut Random) -> Original {
        let sync = *random.pick(&[Sync::None, Sync::Every(Duration::from_millis(1)), Sync::Batch]);
        let chunk_records = 65_536 / model.size as u64;
        Original { place, model, writer: None, sync, chunk_records, story: format!("{sync:?}: ") }
    }

    pub fn is_written(&self) -> bool {
        self.writer.is_some()
    }

    /// One step of those that go on while a copy is made.
    pub fn step(&mut self, random: &mut Random) {
        match random.below(16) {
            0..=8 => self.append(random),
            9 | 10 => {
                if let Some(writer) = &mut self.writer {
                    writer.sync_now().unwrap();
                    self.story += "sync, ";
                }
            }
            11 | 12 => self.close(),
            13 | 14 => self.collect(),
            _ if self.writer.is_none() => {
                let told = steps::run(Step::Repair, &self.place, &mut self.model);
                assert!(told.done, "a repair of the original: {}", told.said);
                self.story += "repair, ";
            }
            _ => {}
        }
    }

    /// A batch, of one record up to several chunks.
    pub fn append(&mut self, random: &mut Random) {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let platform = Platform::open(&self.place.base).unwrap();
                let options = WriterOptions { sync: Some(self.sync), ..WriterOptions::default() };
                self.story += "open, ";
                none.insert(platform.create_writer_with(FEED, options).unwrap())
            }
        };
        let per_chunk = self.chunk_records;
        let sizes = [1, 1, 5, 9, 1 + per_chunk / 3, 1 + per_chunk, 1 + 3 * per_chunk];
        let count = *random.pick(&sizes);
        let bytes = self.model.write(Some(writer.next_seq()), count);
        let marks: &[usize] = if random.below(3) == 0 { &[0] } else { &[] };
        let done = writer.append_marked(&bytes, marks).unwrap();
        self.story += &format!("{}..{}, ", done.first_seq, done.first_seq + count);
    }

    fn collect(&mut self) {
        let told = steps::run(Step::Collect, &self.place, &mut self.model);
        assert!(told.clean, "dw-gc on the original: {}", told.said);
        self.story += "gc, ";
        for (_, seqs) in &told.collected {
            mark_collected(&mut self.model, *seqs);
        }
    }

    pub fn close(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.close(SessionEnd::Ended).unwrap();
            self.story += "close, ";
        }
    }

    /// Kills the writer: what its end did to the files is undone.
    pub fn kill(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let then = Image::take_at_rest(&self.place);
        drop(writer);
        for name in Image::take(&self.place).files.keys() {
            if !then.files.contains_key(name) {
                fs::remove_file(self.place.path(name)).unwrap();
            }
        }
        then.files.keys().for_each(|name| then.put_file(name, &self.place));
        self.story += "killed, ";
    }
}

/// A copy under way.
pub struct Copier {
    /// The files that are copied, by their path in the store.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Records that were collected when the copy of the table ended.
    pub collected: Set,
    seen: BTreeSet<String>,
    left: Vec<String>,
    now: Option<Piece>,
    again: bool,
}

struct Piece {
    name: String,
    file: File,
    bytes: Vec<u8>,
    /// Where to stop reading for a while.
    cuts: Vec<u64>,
}

impl Copier {
    pub fn new(original: &Original, random: &mut Random) -> Copier {
        let mut copier = Copier {
            files: BTreeMap::new(),
            collected: original.model.collected.clone(),
            seen: BTreeSet::new(),
            left: Vec::new(),
            now: None,
            again: random.below(2) == 0,
        };
        copier.list(&original.place.base, random);
        copier
    }

    /// Lists the files that were not seen yet, in the order in which they are copied.
    fn list(&mut self, base: &Path, random: &mut Random) {
        let mut names = Vec::new();
        walk(base, "", &mut names);
        names.retain(|name| self.seen.insert(name.clone()));
        names.sort_unstable();
        match random.below(6) {
            0 => {}
            1 => names.reverse(),
            _ => {
                for at in (1..names.len()).rev() {
                    names.swap(at, random.below(at as u64 + 1) as usize);
                }
            }
        }
        self.left = names;
    }

    /// Copies a file, or a piece of one. Whether there is more to copy.
    pub fn step(&mut self, original: &mut Original, random: &mut Random) -> bool {
        let base = &original.place.base;
        if self.now.is_none() && self.left.is_empty() {
            let again = std::mem::take(&mut self.again);
            if again {
                self.list(base, random);
            }
            return again;
        }
        let Some(mut piece) = self.now.take().or_else(|| self.next(base, random)) else {
            return true;
        };
        let from = piece.bytes.len() as u64;
        let to = piece.cuts.pop().unwrap_or(u64::MAX);
        let size = piece.file.metadata().unwrap().len();
        let mut bytes = vec![0; to.min(size).saturating_sub(from) as usize];
        let mut there = 0;
        while there < bytes.len() {
            match piece.file.read_at(&mut bytes[there..], from + there as u64).unwrap() {
                0 => break,
                n => there += n,
            }
        }
        piece.bytes.extend_from_slice(&bytes[..there]);
        let short = piece.name.rsplit('/').next().unwrap_or_default();
        original.story += &format!("[{short} {from}+{there}], ");
        if to < u64::MAX {
            self.now = Some(piece);
            return true;
        }
        if is_table(&piece.name) {
            self.collected = original.model.collected.clone();
        }
        self.files.insert(piece.name, piece.bytes);
        true
    }

    /// Opens the next file, unless it is gone meanwhile.
    fn next(&mut self, base: &Path, random: &mut Random) -> Option<Piece> {
        let name = self.left.pop()?;
        let file = File::open(base.join(&name)).ok()?;
        let size = file.metadata().ok()?.len();
        let unit = *random.pick(&[8, 512, 512, 4096]);
        let count = *random.pick(&[0, 0, 0, 1, 1, 2]);
        let mut cuts: Vec<u64> =
            (0..count).map(|_| random.below(size / unit + 1) * unit).filter(|at| *at > 0).collect();
        cuts.sort_unstable_by(|a, b| b.cmp(a));
        Some(Piece { name, file, bytes: Vec::new(), cuts })
    }
}

/// The regular files below a folder.
pub fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for item in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", item.file_name().to_str().unwrap());
        match item.file_type() {
            Ok(kind) if kind.is_dir() => walk(&item.path(), &format!("{name}/"), names),
            Ok(kind) if kind.is_file() => names.push(name),
            _ => {}
        }
    }
}
