//! Up to which seq a feed's records are to be believed (FORMAT.md, Recovery).

use crate::checksum::crc;
use crate::chunk::ChunkPaths;
use crate::chunk::index::{ChunkKey, Extent, Index};
use crate::error::Result;
use crate::os::file;
use crate::registry::feed::{ChunkEntry, Entry, FeedRegistry, SessionEnd, SessionEntry};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::view::LiveView;

/// A feed's table, and the seq below which its records exist.
pub struct Standing {
    /// All entries that are not collected.
    pub entries: Vec<Entry>,
    /// Records exist below this seq.
    pub end: u64,
    /// Whether `end` is exact. If not, the machine stopped under the last writer: later records may
    /// have been published and lost, and the next session starts at the lease.
    pub exact: bool,
    /// Whether `end` is what the disk proves of a session that nobody has closed.
    pub proven: bool,
}

impl Standing {
    /// Reads the table and decides. A live page that cannot be opened counts as lost.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) for a table that does not check.
    pub fn of(feed: &FeedInfo, registry: &FeedRegistry, live: Option<&LivePage>) -> Result<Self> {
        let look = || live.and_then(|page| page.session().map(|_| page.published()));
        let (published, entries) = loop {
            // `published` first: every chunk below it is in the table by then.
            let published = look();
            let entries = registry.entries()?;
            // A session that began meanwhile rules; what the disk proves of it may end in
            // mid-batch.
            if published.is_some() || look().is_none() {
                break (published, entries);
            }
        };
        let last = entries.iter().rev().find_map(|entry| match entry {
            Entry::Session(session) => Some(*session),
            _ => None,
        });
        let (end, exact, proven) = match (published, last) {
            // Whatever the table says of sessions since: they began after the look at the page.
            (Some(published), _) => (published, true, false),
            (None, None) => (0, true, false),
            // Closed by the next writer after a power loss: seqs behind its end may have been used.
            (None, Some(SessionEntry { close: Some(close), .. })) => {
                (close.end_seq, close.reason.is_exact(), false)
            }
            (None, Some(session)) => (proven_end(feed, registry, &entries, &session)?, false, true),
        };
        Ok(Standing { entries, end, exact, proven })
    }

    /// The chunks that may still have records, in order, with the end of each one's seqs.
    pub fn chunks(&self) -> Vec<(ChunkEntry, u64)> {
        let chunks: Vec<ChunkEntry> = self
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Chunk(chunk) => Some(*chunk),
                _ => None,
            })
            .collect();
        let ends = (0..chunks.len()).map(|i| match chunks[i].seal {
            Some(seal) => chunks[i].base_seq + seal.count,
            None => chunks.get(i + 1).map_or(self.end, |next| next.base_seq.min(self.end)),
        });
        chunks.iter().copied().zip(ends).collect()
    }
}

/// How a session ended that its writer never closed, and when it was last seen alive, wall-clock
/// microseconds: its last publish if the live page is to be believed, else its last checkpoint,
/// which later records may not have survived.
pub fn unclean_end(
    registry: &FeedRegistry,
    view: &LiveView,
    session: &SessionEntry,
) -> (SessionEnd, u64) {
    let page = view.page.as_deref().filter(|page| page.session().is_some());
    let (reason, seen_us) = match page {
        Some(page) => (SessionEnd::Crashed, page.last_publish().map(|at| at.0)),
        None => {
            let own = registry.checkpoint().filter(|c| c.session_id == session.session_id);
            (view.end_without_page(session), own.map(|checkpoint| checkpoint.written_us))
        }
    };
    (reason, seen_us.map_or(session.opened_us, |seen_us| seen_us.max(session.opened_us)))
}

/// What the disk proves of an unfinished session after the machine stopped: the newest checkpoint,
/// then whole closed blocks whose checksums hold, up to the first that fails.
fn proven_end(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    entries: &[Entry],
    session: &SessionEntry,
) -> Result<u64> {
    let checkpoint = registry.checkpoint().filter(|c| c.session_id == session.session_id);
    let mut end = checkpoint.map_or(session.base_seq, |c| c.seq.max(session.base_seq));
    for entry in entries {
        let Entry::Chunk(chunk) = entry else { continue };
        match chunk.seal {
            Some(seal) => end = end.max(chunk.base_seq + seal.count),
            None if chunk.place.is_open() && chunk.base_seq <= end => {
                end = end.max(proven_blocks(feed, chunk, end).unwrap_or(end));
            }
            None => {}
        }
    }
    Ok(end)
}

/// Extends `end` over the closed blocks of one chunk. A file that is missing or short proves
/// nothing.
pub fn proven_blocks(feed: &FeedInfo, chunk: &ChunkEntry, end: u64) -> Result<u64> {
    let geometry = feed.geometry();
    let (chunk_id, base_seq) = (chunk.chunk_id, chunk.base_seq);
    let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
    let paths = ChunkPaths::new(&feed.folder, chunk_id);
    let index = Index::open(&paths.index, &key)?;
    let data = file::open_read(&paths.data)?;
    let per_block = geometry.block_records as u64;
    let capacity = index.header().block_capacity;
    let mut block = ((end - base_seq) / per_block) as usize;
    let mut bytes = vec![0; geometry.block_bytes()];
    let mut end = end;
    while block < capacity {
        let whole = (block as u64 + 1) * per_block;
        let extent = Extent { records: whole, sealed: false };
        // An index that ends here proves no more than what came before.
        let Ok(entries) = index.blocks(block, 1, extent) else { break };
        let entry = entries[0];
        let at = block as u64 * geometry.block_bytes() as u64;
        let read = file::read_at(&data, &paths.data, at, &mut bytes);
        let proven = read.is_ok() && entry.intact && entry.data_crc == Some(crc(&bytes));
        if !proven {
            break;
        }
        end = end.max(base_seq + whole);
        block += 1;
    }
    Ok(end)
}
