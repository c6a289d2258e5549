//! What was ever written, and which files still hold it. Knows records by the number that each
//! carries, and nothing of the library's.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::image::{FEED, Place};
use crate::random::mix;

/// Sets of records, by number.
#[derive(Clone, Default, PartialEq)]
pub struct Set(Vec<u64>);

impl Set {
    /// Adds one.
    pub fn insert(&mut self, id: usize) -> bool {
        let (word, bit) = (id / 64, 1 << (id % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Set) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Takes all of another out.
    pub fn without(mut self, other: &Set) -> Set {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.0.iter().enumerate();
        words.flat_map(|(i, word)| {
            (0..64).filter(move |b| word >> b & 1 == 1).map(move |b| i * 64 + b)
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// Every record that was ever written, by number, with its seq.
#[derive(Clone)]
pub struct Model {
    /// Bytes of a record.
    pub size: usize,
    seed: u64,
    /// Bytes of the records of the store that a case begins with.
    base: Arc<Vec<u8>>,
    /// Those that the case wrote.
    own: Vec<u8>,
    /// The seq of each; none where a writer failed and did not say.
    seqs: Vec<Option<u64>>,
    /// Those that dw-gc took by its plan.
    pub collected: Set,
    /// Those of the last session that no checkpoint had.
    pub tail: Set,
}

impl Model {
    /// Of records of that size, none yet.
    pub fn new(size: usize, seed: u64) -> Model {
        Model {
            size,
            seed,
            base: Arc::default(),
            own: Vec::new(),
            seqs: Vec::new(),
            collected: Set::default(),
            tail: Set::default(),
        }
    }

    /// Makes records for the seqs from `first` on, and keeps them as written.
    pub fn write(&mut self, first: Option<u64>, count: u64) -> Vec<u8> {
        let from = self.own.len();
        for n in 0..count {
            // Numbers begin with 1: zeros are no record.
            let id = self.seqs.len() as u64 + 1;
            let late = if mix(id ^ self.seed).is_multiple_of(13) { 700 } else { 0 };
            let ts = 1_700_000_000_000_000 + id * 100 - late;
            self.own.extend_from_slice(&ts.to_le_bytes());
            self.own.extend_from_slice(&id.to_le_bytes());
            let filler = mix(id ^ mix(self.seed)) | 1;
            for word in 0..(self.size as u64 - 16).div_ceil(8) {
                self.own.extend_from_slice(&filler.wrapping_mul(2 * word + 1).to_le_bytes());
            }
            self.own.truncate(from + (n as usize + 1) * self.size);
            self.seqs.push(first.map(|first| first + n));
        }
        self.own[from..].to_vec()
    }

    /// What was written so far is what a case begins with.
    pub fn freeze(&mut self) {
        let mut all = self.base.to_vec();
        all.append(&mut self.own);
        self.base = Arc::new(all);
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// The seq of a record.
    pub fn seq(&self, id: usize) -> Option<u64> {
        self.seqs.get(id).copied().flatten()
    }

    /// Notes the seqs of the records from `id` on, learned later.
    pub fn learn(&mut self, id: usize, first: u64) {
        for (n, seq) in self.seqs[id..].iter_mut().enumerate() {
            *seq = Some(first + n as u64);
        }
    }

    /// Which record these bytes are, if any that was written.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        let id = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        let id = id.checked_sub(1).filter(|id| *id < self.seqs.len() as u64)? as usize;
        let at = id * self.size;
        let record = match at.checked_sub(self.base.len()) {
            None => &self.base[at..at + self.size],
            Some(at) => &self.own[at..at + self.size],
        };
        (record == bytes).then_some(id)
    }

    /// The records that a file holds, wherever a record may begin.
    pub fn in_bytes(&self, bytes: &[u8], into: &mut Set) {
        for record in bytes.chunks_exact(self.size) {
            if let Some(id) = self.find(record) {
                into.insert(id);
            }
        }
    }

    /// The records that the files of a folder hold, and of those below it.
    fn in_folder(&self, folder: &Path, into: &mut Set) {
        for item in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = item.metadata() else { continue };
            if meta.is_dir() {
                self.in_folder(&item.path(), into);
            } else if meta.is_file() && meta.len() >= self.size as u64 {
                self.in_bytes(&fs::read(item.path()).unwrap_or_default(), into);
            }
        }
    }

    /// The records that a store's files hold: the feed's own, and those in quarantine.
    pub fn held(&self, place: &Place) -> (Set, Set) {
        let (mut own, mut kept) = (Set::default(), Set::default());
        self.in_folder(&place.base.join("feeds"), &mut own);
        self.in_folder(&place.shm.join(format!("{FEED}.chunks")), &mut own);
        self.in_folder(&place.base.join("quarantine"), &mut kept);
        (own, kept)
    }

    /// Records as ranges of seqs, for people.
    pub fn show(&self, ids: &Set) -> String {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for seq in ids.iter().filter_map(|id| self.seq(id)) {
            match ranges.last_mut() {
                Some(last) if last.1 == seq => last.1 += 1,
                _ => ranges.push((seq, seq + 1)),
            }
        }
        let shown: Vec<String> = ranges.iter().take(6).map(|(a, b)| format!("{a}..{b}")).collect();
        format!("{} records: seq {}", ids.len(), shown.join(" "))
    }
}
