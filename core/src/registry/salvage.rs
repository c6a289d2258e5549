//! A feed registry that may be damaged: what of it checks, and a new one made from that (FORMAT.md,
//! Repair).

use std::collections::HashSet;
use std::path::Path;

use crate::bytes::{get_id, get_u32, get_u64};
use crate::checksum::{crc, guard, unguard};
use crate::error::{Error, Result};
use crate::os::{file, growing};
use crate::registry::feed::{
    COUNT_AT, CREATED_AT, Checkpoint, ChunkEntry, DELETED_AT, ENTRY_SIZE, Entry, FEED_ID_AT,
    FIRST_ENTRY_AT, FeedRegistry, Geometry, HEADER_CRC_AT, HEADER_SIZE, Identity, LAST_GC_US_AT,
    LAYOUT_HASH_AT, LEASE_AT, LEASE_SIZE, PIECE, Place, SECOND_LEASE_AT, SEGMENTS_AT, SLOT_SIZE,
    SLOTS_AT, STORE_ID_AT, SUPERSEDED_AT, SessionEntry, WORD, decode_entry, is_torn,
    lease_is_broken, may_be_all, read_checkpoint, read_leases, slot_is_broken, unreached,
};
use crate::registry::global::check_head;
use crate::registry::segments::{self, Segments};

/// Where nothing is stored in the header page; 76..124 lies under the header's checksum.
const UNUSED: [(usize, usize); 4] = [
    (128, COUNT_AT),
    (SUPERSEDED_AT + 8, LEASE_AT),
    (LEASE_AT + LEASE_SIZE, SECOND_LEASE_AT),
    (SECOND_LEASE_AT + LEASE_SIZE, SLOTS_AT),
];

/// A part of the file that does not check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The file as a whole: missing, too short, another feed's.
    File,
    /// The header, or bytes of its page that should be zero.
    Header,
    /// A checkpoint.
    Checkpoint,
    /// The lease.
    Lease,
    /// An entry, or how many there are.
    Entry,
}

/// Something that does not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where.
    pub part: Part,
    /// What, with its place in the file.
    pub what: String,
}

/// An entry for a new table: copied from the old one, or rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it says.
    pub entry: Entry,
    /// Its bytes in the old table.
    pub raw: Option<[u8; ENTRY_SIZE]>,
}

impl Row {
    /// An entry that was not in the old table, or not so.
    pub fn new(entry: Entry) -> Row {
        Row { entry, raw: None }
    }
}

/// What of a feed registry checks.
#[derive(Default)]
pub struct Salvage {
    /// What does not.
    pub wrong: Vec<Wrong>,
    /// A version that this build does not know, in a header that checks: nothing is to be touched.
    pub version: Option<u32>,
    /// When the feed was made, wall-clock microseconds.
    pub created_us: Option<u64>,
    /// Whether the feed was marked deleted.
    pub deleted: bool,
    /// The lease.
    pub lease: Option<u64>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The entries that are not collected.
    pub rows: Vec<Row>,
    /// The chunks that the table has as expired among the entries that are collected.
    pub forgotten: HashSet<u64>,
    /// Whether there were, or may have been, others.
    pub lost_rows: bool,
    /// Parts of the header page that go over as they are: where they lie, and what is there.
    carried: Vec<(usize, Vec<u8>)>,
}

impl Salvage {
    /// Reads the file at `path`, which should be of feed `id`. Whatever it holds, this succeeds.
    pub fn read(path: &Path, id: &Identity) -> Salvage {
        let mut found = Salvage::default();
        match file::read_whole(path, growing::LIMIT as u64) {
            Ok(bytes) if bytes.len() >= HEADER_SIZE => found.look_at(path, &bytes, id),
            Ok(bytes) => {
                let what = format!("{}: it ends at byte {}", path.display(), bytes.len());
                found.lose(Part::File, what);
            }
            Err(error) => found.lose(Part::File, error.to_string()),
        }
        found
    }

    fn lose(&mut self, part: Part, what: String) {
        self.wrong.push(Wrong { part, what });
        self.lost_rows |= matches!(part, Part::File | Part::Entry);
    }

    fn look_at(&mut self, path: &Path, bytes: &[u8], id: &Identity) {
        let at = |offset: usize, what: &str| Error::damaged(path, offset as u64, what).to_string();
        let own = [
            get_id(bytes, STORE_ID_AT) == id.store_id,
            get_u64(bytes, FEED_ID_AT) == id.feed_id,
            get_u64(bytes, LAYOUT_HASH_AT) == id.layout_hash,
        ];
        let own = own.iter().filter(|same| **same).count();
        let sound = crc(&bytes[..HEADER_CRC_AT]) == get_u32(bytes, HEADER_CRC_AT);
        if own < if sound { 3 } else { 2 } {
            return self.lose(Part::File, at(STORE_ID_AT, "it belongs to another feed"));
        }
        let checked = check_head(path, bytes, crate::registry::feed::MAGIC, 128);
        if let (true, Err(Error::Version { found, .. })) = (sound, &checked) {
            self.version = Some(*found);
        } else if let Err(error) = checked {
            self.lose(Part::Header, error.to_string());
        } else if !sound {
            self.lose(Part::Header, at(HEADER_CRC_AT, "the header's checksum"));
        } else {
            self.created_us = Some(get_u64(bytes, CREATED_AT));
        }
        self.look_at_header(bytes, &at);
        self.look_at_entries(bytes, &at);
    }

    fn look_at_header(&mut self, bytes: &[u8], at: &dyn Fn(usize, &str) -> String) {
        let stray = UNUSED.iter().flat_map(|&(from, to)| from..to).find(|&i| bytes[i] != 0);
        if let Some(byte) = stray {
            self.lose(Part::Header, at(byte, "not zero, where nothing is stored"));
        }
        if get_u64(bytes, SUPERSEDED_AT) != guard(0) {
            self.lose(Part::Header, at(SUPERSEDED_AT, "superseded, and no other file is here"));
        }
        match unguard(get_u64(bytes, DELETED_AT)) {
            Some(deleted) => self.deleted = deleted != 0,
            None => self.lose(Part::Header, at(DELETED_AT, "the check bits of deleted")),
        }
        self.lease = read_leases(bytes).into_iter().flatten().max();
        for from in [LEASE_AT, SECOND_LEASE_AT] {
            if self.lease.is_none() || lease_is_broken(bytes, from) {
                self.lose(Part::Lease, at(from, "the checksum of a lease"));
            }
        }
        for i in 0..2 {
            let from = SLOTS_AT + i * SLOT_SIZE;
            let mut slot = [0; SLOT_SIZE];
            slot.copy_from_slice(&bytes[from..from + SLOT_SIZE]);
            if slot_is_broken(&slot) {
                self.lose(Part::Checkpoint, at(from, "the checksum of a checkpoint"));
            }
            let newest = self.checkpoint.into_iter().chain(read_checkpoint(&slot));
            self.checkpoint = newest.max_by_key(|c| c.generation);
            let from = SEGMENTS_AT + i * segments::SLOT_SIZE;
            let mut slot = [0; segments::SLOT_SIZE];
            slot.copy_from_slice(&bytes[from..from + segments::SLOT_SIZE]);
            if Segments::decode(&slot).is_some() {
                self.carried.push((from, slot.to_vec()));
            }
        }
        self.carried.push((LAST_GC_US_AT, bytes[LAST_GC_US_AT..SUPERSEDED_AT].to_vec()));
    }

    fn look_at_entries(&mut self, bytes: &[u8], at: &dyn Fn(usize, &str) -> String) {
        if !(bytes.len() as u64).is_multiple_of(PIECE) {
            self.wrong.push(Wrong {
                part: Part::Header,
                what: at(bytes.len(), "the file ends here, at no multiple of 64 KiB"),
            });
        }
        let slots: Vec<&[u8]> = bytes[HEADER_SIZE..].chunks_exact(ENTRY_SIZE).collect();
        let first = unguard(get_u64(bytes, FIRST_ENTRY_AT)).unwrap_or_else(|| {
            self.lose(Part::Header, at(FIRST_ENTRY_AT, "the check bits of first_entry"));
            0
        }) as usize;
        let counted = unguard(get_u64(bytes, COUNT_AT));
        if counted.is_none() {
            self.lose(Part::Entry, at(COUNT_AT, "the check bits of the count"));
        }
        let there = counted.map_or(slots.len(), |count| slots.len().min(count as usize));
        let first = first.min(there);
        let forgotten =
            slots[..first].iter().enumerate().filter_map(|(i, slot)| decode(slot, i).ok());
        self.forgotten = forgotten
            .filter_map(|row| match row.entry {
                Entry::Chunk(chunk) if chunk.place == Place::Expired => Some(chunk.chunk_id),
                _ => None,
            })
            .collect();
        // An entry that never reached the disk ends the table, if no checkpoint needs it.
        let torn = (first..there).find(|&position| is_torn(slots[position]));
        let cut = counted.filter(|count| *count > there as u64);
        let end = match torn.or(cut.map(|_| there)) {
            Some(torn) if self.may_end(&slots[first..], torn - first, first) => torn,
            Some(torn) if counted.is_some() => {
                let offset = HEADER_SIZE + torn * ENTRY_SIZE;
                self.lose(Part::Entry, at(offset, &format!("entry {torn} was not stored")));
                there
            }
            _ => there,
        };
        for (position, slot) in slots.iter().enumerate().take(end).skip(first) {
            match decode(slot, position) {
                Ok(row) => self.rows.push(row),
                // Room, or what was told above.
                Err(_) if is_torn(slot) => {}
                Err((offset, what)) => {
                    let offset = HEADER_SIZE + position * ENTRY_SIZE + offset;
                    self.lose(Part::Entry, at(offset, &format!("{what} of entry {position}")));
                }
            }
        }
        let entries: Vec<Entry> = self.rows.iter().map(|row| row.entry).collect();
        let lost = self.checkpoint.and_then(|checkpoint| unreached(&entries, &checkpoint));
        if let Some((from, to)) = lost.filter(|_| !self.lost_rows) {
            let what = format!("no entry has seq {from}..{to}, and a checkpoint does");
            self.lose(Part::Entry, at(COUNT_AT, &what));
            // The count may be an older one.
            let behind = slots.iter().enumerate().skip(end);
            self.rows.extend(behind.filter_map(|(position, slot)| decode(slot, position).ok()));
        }
    }

    /// Whether a table whose entries from `first` on these are may end after so many of them,
    /// though its count says that there were more. Without a checkpoint only if none is behind.
    fn may_end(&self, slots: &[&[u8]], end: usize, first: usize) -> bool {
        let behind = || {
            slots[end..].iter().enumerate().any(|(i, slot)| decode(slot, first + end + i).is_ok())
        };
        if self.checkpoint.is_none() && behind() {
            return false;
        }
        let rows = slots[..end].iter().enumerate().map(|(i, slot)| decode(slot, first + i).ok());
        let entries: Option<Vec<Entry>> = rows.map(|row| row.map(|row| row.entry)).collect();
        let broken = self.wrong.iter().any(|wrong| wrong.part == Part::Checkpoint);
        let (Some(entries), false) = (entries, broken) else { return false };
        may_be_all(&entries, self.checkpoint.as_ref(), first > 0)
    }
}

/// Reads an entry; what is wrong with it, and at which byte.
fn decode(slot: &[u8], position: usize) -> std::result::Result<Row, (usize, &'static str)> {
    let mut raw = [0; ENTRY_SIZE];
    raw.copy_from_slice(slot);
    let entry = decode_entry(&raw, get_u64(&raw, WORD), position as u64)?;
    Ok(Row { entry, raw: Some(raw) })
}

/// Writes a new registry at `path`, durable: the rows in this order, and what a damaged one had
/// beside them.
///
/// # Errors
/// [`Error::Io`].
pub fn write(
    path: &Path,
    (id, geometry): (&Identity, &Geometry),
    (old, created_us): (&Salvage, u64),
    rows: &[Row],
    lease: u64,
    mode: u32,
) -> Result<()> {
    FeedRegistry::create(path, id, geometry, old.created_us.unwrap_or(created_us), mode)?;
    let registry = FeedRegistry::open(path, id, true)?;
    for row in rows {
        match (&row.raw, row.entry) {
            (Some(raw), _) => registry.append_raw(raw)?,
            (None, Entry::Chunk(chunk)) => append_chunk(&registry, chunk)?,
            (None, Entry::Session(session)) => append_session(&registry, session)?,
            (None, Entry::Range(range)) => registry.append_range(&range)?,
        }
    }
    for (at, bytes) in &old.carried {
        registry.write_header(*at, bytes);
    }
    if let Some(checkpoint) = &old.checkpoint {
        registry.write_checkpoint(checkpoint);
    }
    if old.deleted {
        registry.set_deleted();
    }
    registry.set_lease(lease)
}

fn append_chunk(registry: &FeedRegistry, chunk: ChunkEntry) -> Result<()> {
    let Some(seal) = chunk.seal else {
        return registry.append_chunk(&mut chunk.clone());
    };
    let mut entry = ChunkEntry { place: Place::Live, ..chunk };
    registry.append_chunk(&mut entry)?;
    registry.seal_chunk(entry.position, Place::Live, &seal)?;
    match chunk.place {
        Place::OnDisk => Ok(()),
        place => registry.set_place(entry.position, Place::OnDisk, place),
    }
}

fn append_session(registry: &FeedRegistry, session: SessionEntry) -> Result<()> {
    let mut entry = session;
    registry.append_session(&mut entry)?;
    if let Some(close) = &session.close {
        registry.close_session(entry.position, close);
    }
    Ok(())
}

/// What the header of a registry that checks says, whatever feed it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSays {
    /// Store, feed and layout.
    pub id: Identity,
    /// Whether the feed was marked deleted.
    pub deleted: bool,
    /// Entries, as far as the count checks; else 1.
    pub entries: u64,
}

/// Reads no more of a registry than its header page; `None` if that does not check.
pub fn header_says(path: &Path) -> Option<HeaderSays> {
    let open = file::open_read(path).ok()?;
    let mut head = vec![0; HEADER_SIZE];
    file::read_at(&open, path, 0, &mut head).ok()?;
    check_head(path, &head, crate::registry::feed::MAGIC, 128).ok()?;
    let sound = crc(&head[..HEADER_CRC_AT]) == get_u32(&head, HEADER_CRC_AT);
    sound.then(|| HeaderSays {
        id: Identity {
            store_id: get_id(&head, STORE_ID_AT),
            feed_id: get_u64(&head, FEED_ID_AT),
            layout_hash: get_u64(&head, LAYOUT_HASH_AT),
        },
        deleted: unguard(get_u64(&head, DELETED_AT)) == Some(1),
        entries: unguard(get_u64(&head, COUNT_AT)).unwrap_or(1),
    })
}
