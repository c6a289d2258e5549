//! Which chunks, sessions and holes a feed has: the rows of its table that check, and what indexes,
//! records and the live page say of those that do not.

use std::collections::BTreeSet;

use crate::chunk::index::RawIndex;
use crate::chunk::strays::{self, written_records};
use crate::chunk::{self, Shown};
use crate::os::process;
use crate::registry::feed::{
    ChunkEnd, ChunkEntry, Entry, Place, Seal, SessionClose, SessionEnd, SessionEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::salvage::{Row, Salvage};
use crate::repair::shelf::{Shelf, Shelved};
use crate::repair::{Action, Finding, Kind};

/// The rows, and what was made again.
pub struct Roster {
    /// In the order of the table.
    pub rows: Vec<Row>,
    /// What was made again.
    pub findings: Vec<Finding>,
}

/// Completes the rows of a table for which there are chunk files that it does not name; all of them
/// where it has `lost` some.
pub fn complete(
    feed: &FeedInfo,
    salvage: &Salvage,
    shelf: &Shelf,
    page: Option<&LivePage>,
    lost: bool,
) -> Roster {
    let mut roster = Roster { rows: salvage.rows.clone(), findings: Vec::new() };
    let before = roster.rows.len();
    for index in &shelf.indexes {
        if let Some(entry) = roster.entry_of(index, feed) {
            roster.add(entry, "made again from its index");
        }
    }
    if lost {
        let published = page.and_then(|page| page.session().and(page.try_published()));
        for named in shelf.files.values() {
            if let Some(data) = &named.data
                && let Some(entry) = roster.entry_of_data(named.chunk_id, data, feed, published)
            {
                roster.add(entry, "made again from its records alone");
            }
        }
    }
    roster.add_sessions(page, salvage, lost);
    if roster.rows.len() > before || lost {
        roster.rows.sort_by_key(order_of);
    }
    roster
}

/// What the rows of a table are sorted by.
pub fn order_of(row: &Row) -> (u64, u64, u64, u64) {
    match row.entry {
        Entry::Session(session) => (session.base_seq, 0, session.session_id, 0),
        Entry::Chunk(entry) => {
            let (number, part) = chunk::order(entry.chunk_id);
            (entry.base_seq, 1, number, part)
        }
        Entry::Range(range) => (range.seqs.0, 2, range.seqs.1, 0),
    }
}

impl Roster {
    fn chunks(&self) -> impl Iterator<Item = &ChunkEntry> {
        self.rows.iter().filter_map(|row| match &row.entry {
            Entry::Chunk(chunk) => Some(chunk),
            _ => None,
        })
    }

    fn sessions(&self) -> impl Iterator<Item = &SessionEntry> {
        self.rows.iter().filter_map(|row| match &row.entry {
            Entry::Session(session) => Some(session),
            _ => None,
        })
    }

    fn add(&mut self, entry: ChunkEntry, how: &str) {
        let what = format!("no entry of the table is left of chunk {}", Shown(entry.chunk_id));
        let mut finding = Finding::new(Kind::Chunk, Action::Rebuild, format!("{what}: {how}"));
        finding = finding.of_chunk(entry.chunk_id);
        if let Some(seal) = entry.seal {
            let seqs = (entry.base_seq, entry.base_seq + seal.count);
            finding = finding.with_seqs(seqs, Some((seal.min_time, seal.max_time)));
        }
        self.findings.push(finding);
        self.rows.push(Row::new(Entry::Chunk(entry)));
    }

    /// The seqs of a chunk, as far as its entry has them: up to the next one's where it is not
    /// sealed.
    fn seqs(&self, entry: &ChunkEntry) -> (u64, u64) {
        let next = || {
            let bases = self.chunks().map(|chunk| chunk.base_seq);
            bases.filter(|base| *base > entry.base_seq).min().unwrap_or(u64::MAX)
        };
        let end = entry.seal.map_or_else(next, |seal| entry.base_seq + seal.count);
        let empty = entry.place == Place::Expired && entry.seal.is_none();
        (entry.base_seq, if empty { entry.base_seq } else { end })
    }

    /// The seqs of a chunk, as far as its files have them where it is not sealed.
    fn seqs_on_disk(
        &self,
        entry: &ChunkEntry,
        data: &std::path::Path,
        feed: &FeedInfo,
    ) -> (u64, u64) {
        let (lo, hi) = self.seqs(entry);
        match entry.seal {
            Some(_) => (lo, hi),
            None => (lo, hi.min(lo.saturating_add(written_records(data, feed).unwrap_or(0)))),
        }
    }

    /// The entry of a chunk that the rows do not have, from its index, if no other has its seqs.
    fn entry_of(&self, index: &Shelved, feed: &FeedInfo) -> Option<ChunkEntry> {
        let header = &index.header;
        if self.chunks().any(|entry| entry.chunk_id == header.chunk_id) {
            return None;
        }
        let entry = ChunkEntry {
            position: 0,
            chunk_id: header.chunk_id,
            base_seq: header.base_seq,
            session_id: header.session_id,
            created_us: header.created_us,
            created_boot_ns: 0,
            place: if index.seal.is_some() { Place::OnDisk } else { Place::Live },
            seal: index.seal.map(|seal| Seal {
                count: seal.count,
                min_time: seal.times.0,
                max_time: seal.times.1,
                sealed_us: seal.sealed_us,
                marks: seal.marks,
                reason: ChunkEnd::Repaired as u32,
            }),
        };
        if index.seal.is_none() {
            // One that was only prepared has no place in the seqs yet.
            let raw = RawIndex::read(&index.path, (&feed.id, &feed.geometry())).ok()?;
            if !raw.has_records() {
                return None;
            }
        }
        let (lo, hi) = self.seqs_on_disk(&entry, &index.path.with_extension("data"), feed);
        let taken = |(from, to): (u64, u64)| from < hi && lo < to;
        let overlaps = self.rows.iter().any(|row| match &row.entry {
            Entry::Chunk(other) => {
                let data = crate::chunk::ChunkPaths::new(&feed.folder, other.chunk_id).data;
                taken(self.seqs_on_disk(other, &data, feed))
            }
            Entry::Range(range) => taken(range.seqs),
            Entry::Session(_) => false,
        });
        (!overlaps && hi > lo).then_some(entry)
    }

    /// The entry of a chunk of which only the records are left: its seqs follow those of the chunk
    /// before it by number.
    fn entry_of_data(
        &self,
        id: u64,
        data: &std::path::Path,
        feed: &FeedInfo,
        published: Option<u64>,
    ) -> Option<ChunkEntry> {
        if self.chunks().any(|entry| entry.chunk_id == id) {
            return None;
        }
        let size = super::shelf::regular_size(data).ok()?;
        let mut count = size / feed.geometry().record_size as u64;
        let own = chunk::order(id);
        let before = self.chunks().filter(|entry| chunk::order(entry.chunk_id) < own);
        let before = before.max_by_key(|entry| chunk::order(entry.chunk_id));
        let after = self.chunks().filter(|entry| chunk::order(entry.chunk_id) > own);
        let after = after.min_by_key(|entry| chunk::order(entry.chunk_id));
        let base_seq = match (before, after) {
            (Some(before), _) => self.sure_end(before, feed),
            (None, Some(after)) => after.base_seq.saturating_sub(count),
            (None, None) => 0,
        };
        count = match (after, published) {
            (Some(after), _) => count.min(after.base_seq.saturating_sub(base_seq)),
            (None, Some(published)) => count.min(published.saturating_sub(base_seq)),
            // Room behind the last records was allocated, and is zero.
            (None, None) => count.min(written_records(data, feed).ok()?),
        };
        let session_id = before.or(after).map_or(1, |entry| entry.session_id);
        (count > 0).then(|| ChunkEntry {
            position: 0,
            chunk_id: id,
            base_seq,
            session_id,
            created_us: process::wall_us(),
            created_boot_ns: 0,
            place: Place::Live,
            seal: None,
        })
    }

    /// Where a chunk's seqs end, by its seal or by its file.
    fn sure_end(&self, entry: &ChunkEntry, feed: &FeedInfo) -> u64 {
        let paths = crate::chunk::ChunkPaths::new(&feed.folder, entry.chunk_id);
        let (_, end) = self.seqs(entry);
        if end < u64::MAX {
            return end;
        }
        entry.base_seq + written_records(&paths.data, feed).unwrap_or(0)
    }

    /// Sessions that chunks or the live page name, and no row.
    fn add_sessions(&mut self, page: Option<&LivePage>, salvage: &Salvage, lost_rows: bool) {
        let stamp = page.and_then(LivePage::session);
        let published = page.and_then(LivePage::try_published).unwrap_or(0);
        let known: BTreeSet<u64> = self.sessions().map(|session| session.session_id).collect();
        let mut missing: BTreeSet<u64> = self.chunks().map(|entry| entry.session_id).collect();
        if lost_rows {
            missing.extend(page.and_then(LivePage::newest_stamp).map(|stamp| stamp.session_id));
            missing.extend(salvage.checkpoint.map(|checkpoint| checkpoint.session_id));
            // An older one that was collected with all its chunks is not missed.
            let oldest = known.iter().chain(self.chunks().map(|entry| &entry.session_id)).min();
            missing.retain(|id| oldest.is_none_or(|oldest| id >= oldest));
        }
        let entries: Vec<Entry> = self.rows.iter().map(|row| row.entry).collect();
        let reach = strays::reach(&entries);
        // A page that was stamped in another boot tells that there were sessions, and no more.
        let written = page.is_none_or(|page| !page.is_unwritten());
        if lost_rows && missing.is_empty() && known.is_empty() && written {
            missing.insert(1);
        }
        for session_id in missing.difference(&known).copied().collect::<Vec<_>>() {
            let own = stamp.filter(|stamp| stamp.session_id == session_id);
            let chunks: Vec<&ChunkEntry> =
                self.chunks().filter(|entry| entry.session_id == session_id).collect();
            let first = chunks.iter().map(|entry| entry.base_seq).min();
            let ends = chunks.iter().map(|entry| self.seqs(entry).1).filter(|end| *end < u64::MAX);
            let end_seq = ends.max().or(own.map(|_| published)).unwrap_or(reach);
            let sealed = chunks.iter().filter_map(|entry| entry.seal).map(|seal| seal.sealed_us);
            // Without a page to be believed, one that left a chunk live counts as cut off.
            let newest = missing.iter().chain(&known).max() == Some(&session_id);
            let left = newest && chunks.iter().any(|entry| entry.place == Place::Live);
            let open = own.map_or(left, |_| page.is_some_and(LivePage::is_open));
            let close = SessionClose {
                end_seq: own.map_or(end_seq, |_| published.max(end_seq)),
                closed_us: sealed.max().unwrap_or(0),
                counters: page
                    .filter(|_| own.is_some())
                    .map(LivePage::counters)
                    .unwrap_or_default(),
                reason: SessionEnd::Unknown,
            };
            let opened = chunks.iter().map(|entry| entry.created_us).min().unwrap_or(0);
            let session = SessionEntry {
                position: 0,
                session_id,
                base_seq: first.unwrap_or(end_seq),
                opened_us: own.map_or(opened, |stamp| stamp.opened_us),
                opened_boot_ns: 0,
                boot_id: own.map_or([0; 16], |stamp| stamp.boot_id),
                pid: own.map_or(0, |stamp| stamp.pid),
                close: (!open).then_some(close),
            };
            let what = format!("no entry of the table is left of session {session_id}: made again");
            self.findings.push(Finding::new(Kind::Table, Action::Rebuild, what));
            self.rows.push(Row::new(Entry::Session(session)));
        }
    }
}
