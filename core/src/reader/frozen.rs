//! A copy of a ring's records, for readers that do not read them in the order of the ring.

use crate::chunk::index::BlockEntry;
use crate::error::Result;
use crate::reader::{Direction, Reader, Selection, Snapshot, Why};
use crate::registry::info::FeedInfo;

/// Records copied from a ring.
pub(super) struct Frozen {
    /// Runs of consecutive records, each with the seq of its first record.
    runs: Vec<(u64, Vec<u8>)>,
    record_size: usize,
}

/// Seqs that were overwritten, and the reason.
pub(super) type Gone = ((u64, u64), Why);

/// A part of the copy, in the form of a block of a chunk.
pub(super) struct FrozenBlock {
    pub entry: BlockEntry,
    pub seqs: (u64, u64),
}

impl Frozen {
    /// Copies the records with these seqs. Returns also the seqs that were overwritten meanwhile.
    ///
    /// # Errors
    /// As [`crate::reader::Scan::next_run`].
    pub fn of(
        reader: &Reader,
        snapshot: &Snapshot,
        seqs: (u64, u64),
    ) -> Result<(Frozen, Vec<Gone>)> {
        let record_size = reader.layout().record_size();
        let mut frozen = Frozen { runs: Vec::new(), record_size };
        let selection = Selection { seqs, ..Selection::ALL };
        let mut scan = reader.scan(snapshot, selection, Direction::Forward);
        while let Some(at) = scan.find_run()? {
            let run = scan.lend(at);
            match frozen.runs.last_mut() {
                Some((first, records))
                    if *first + (records.len() / record_size) as u64 == run.first_seq =>
                {
                    records.extend_from_slice(run.records);
                }
                _ => frozen.runs.push((run.first_seq, run.records.to_vec())),
            }
        }
        let lost = scan.take_lost().into_iter().map(|lost| (lost.seqs, lost.why)).collect();
        Ok((frozen, lost))
    }

    /// Returns its blocks.
    pub fn blocks(&self, feed: &FeedInfo) -> Vec<FrozenBlock> {
        let geometry = feed.geometry();
        let mut blocks = Vec::new();
        for (first, records) in &self.runs {
            let mut seq = *first;
            for records in records.chunks(geometry.block_bytes()) {
                let times = records.chunks_exact(self.record_size).map(|r| feed.layout.time_of(r));
                let entry = BlockEntry {
                    min: times.clone().min().unwrap_or(u64::MAX),
                    max: times.max().unwrap_or(0),
                    ordered: false,
                    data_crc: None,
                    intact: true,
                };
                let end = seq + (records.len() / self.record_size) as u64;
                blocks.push(FrozenBlock { entry, seqs: (seq, end) });
                seq = end;
            }
        }
        blocks
    }

    /// Returns the records of one of its blocks.
    pub fn records(&self, seqs: (u64, u64)) -> Vec<u8> {
        let at = self.runs.partition_point(|(first, _)| *first <= seqs.0);
        let Some((first, records)) = at.checked_sub(1).map(|at| &self.runs[at]) else {
            return Vec::new();
        };
        let byte = |seq: u64| (seq - first) as usize * self.record_size;
        records[byte(seqs.0)..byte(seqs.1)].to_vec()
    }
}
