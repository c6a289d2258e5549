//! Up to which seq a feed's records are to be believed (FORMAT.md, Recovery).

use std::fs::File;
use std::path::Path;

use crate::checksum::{crc, crc_append};

use crate::chunk::ChunkPaths;
use crate::chunk::index::{ChunkKey, Extent, Index};
use crate::error::{Error, Result, sound};
use crate::os::file;
use crate::registry::feed::{
    Checkpoint, ChunkEntry, Entry, FeedRegistry, Place, SessionEnd, SessionEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::segments::{SegmentKind, Segments};
use crate::registry::view::LiveView;

/// A file is summed so many bytes at a time.
const PIECE: u64 = 1 << 20;

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
    /// Whether `end` is the count on the live page, and the files have what it says.
    pub believed: bool,
    /// The count on a live page that is this file's and of this boot, and that the files refute:
    /// the store was put back from a copy, or its disk lost what was not synced. Seqs below it
    /// were used.
    pub refuted: Option<u64>,
    /// Damage that may have cost records behind `end`, a line each. Only where `end` is not exact.
    pub doubts: Vec<String>,
    /// Seqs that a checkpoint has and whose records do not agree with its sum; `end` lies before.
    pub broken_tail: Option<(u64, u64)>,
    /// Whether the feed's records are in chunks, not in a ring.
    pub in_chunks: bool,
    /// What kept us from looking at what would prove more: a limit, a missing permission, the disk.
    pub trouble: Option<Error>,
}

impl Standing {
    /// Reads the table and decides. A live page that cannot be opened counts as lost.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) for a table that does not check.
    pub fn of(feed: &FeedInfo, registry: &FeedRegistry, live: Option<&LivePage>) -> Result<Self> {
        let look = || live.and_then(LivePage::believed);
        let (published, entries) = loop {
            // `published` first: every chunk below it is in the table by then.
            let published = look();
            let entries = registry.entries();
            // A session that began meanwhile rules; what the disk proves of it may end in
            // mid-batch.
            if published.is_some() || look().is_none() {
                break (published, entries?);
            }
        };
        let checkpoint = registry.checkpoint();
        // Asked again, since a writer at work may have gone on: what a checkpoint has was published
        // before it was written. The disk may have come back without the newest page.
        let is_behind = |c: &Checkpoint| look().is_some_and(|published| published < c.seq);
        let is_old = is_outlived(live, &entries) || checkpoint.as_ref().is_some_and(is_behind);
        let published = published.filter(|_| !is_old);
        let segments = registry.segments();
        let mut standing = Standing::judge(feed, entries, checkpoint.as_ref(), published);
        if let Some(what) = standing.refutation(feed, segments.as_ref())? {
            standing = standing.without_page(feed, checkpoint.as_ref(), &what);
        }
        if let Some(error) = standing.trouble.take() {
            return Err(error);
        }
        if standing.proven {
            let staged = segments.is_some_and(|s| s.kind == SegmentKind::Staged);
            standing.doubt(feed, live, staged, registry.checkpoint_is_broken());
        }
        Ok(standing)
    }

    /// Why the count on a believed live page cannot be true: an open chunk does not have what the
    /// page says. The writer sets the times of a record's block, in space that is allocated, before
    /// it publishes the record. Chunks whose files cannot be opened say nothing; whoever reads them
    /// names them.
    ///
    /// # Errors
    /// [`Error::Io`] where a limit, a missing permission or the disk keeps us from looking.
    pub fn refutation(
        &self,
        feed: &FeedInfo,
        segments: Option<&Segments>,
    ) -> Result<Option<String>> {
        if !self.believed {
            return Ok(None);
        }
        let staged = segments.filter(|segments| segments.kind == SegmentKind::Staged);
        let memory = staged.map(|segments| segments.chunk_folder(&feed.name));
        for (chunk, end) in self.chunks() {
            let folder = match chunk.place.is_staged() {
                true => memory.as_deref(),
                false => Some(&*feed.folder),
            };
            let Some(folder) = folder else { continue };
            if chunk.place.is_open()
                && end > chunk.base_seq
                && let Some(what) = refute_chunk(feed, folder, &chunk, end)?
            {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// The same, with what the disk proves in the place of a count that is refuted.
    pub fn without_page(
        self,
        feed: &FeedInfo,
        checkpoint: Option<&Checkpoint>,
        what: &str,
    ) -> Standing {
        let published = self.end;
        let mut standing = Standing::judge(feed, self.entries, checkpoint, None);
        (standing.exact, standing.refuted) = (false, Some(published));
        standing.doubts.push(format!(
            "{}: it says that records below seq {published} were published, and {what}: the files \
             are of an older copy, or lost what was not synced; left out seq {}..{published}",
            feed.live_path().display(),
            standing.end.min(published)
        ));
        standing
    }

    /// Decides from the table, the newest checkpoint and, where the live page is believed, the
    /// count on it.
    pub fn judge(
        feed: &FeedInfo,
        entries: Vec<Entry>,
        checkpoint: Option<&Checkpoint>,
        published: Option<u64>,
    ) -> Standing {
        let last = last_session(&entries);
        let (mut doubts, mut broken_tail, mut trouble) = (Vec::new(), None, None);
        let (end, exact, proven) = match (published, last) {
            // Whatever the table says of sessions since: they began after the look at the page.
            (Some(published), _) => (published, true, false),
            (None, None) => (0, true, false),
            // Closed by the next writer after a power loss: seqs behind its end may have been used.
            (None, Some(SessionEntry { close: Some(close), .. })) => {
                (close.end_seq, close.reason.is_exact(), false)
            }
            (None, Some(session)) => {
                let end = proven_end(feed, checkpoint, &entries, &session, &mut trouble);
                let tail = checkpoint.filter(|c| c.seq == end && is_open_chunk(&entries, c));
                let error =
                    tail.and_then(|c| Some((tail_error(feed, c)?, open_block_seq(feed, c))));
                if let Some((error, start)) = error {
                    doubts.push(format!("{error}; left out seq {start}..{end}"));
                    broken_tail = Some((start, end));
                    trouble = trouble.or(Some(error).filter(|e| e.is_limit() || e.is_denied()));
                }
                (broken_tail.map_or(end, |(start, _)| start), false, true)
            }
        };
        let (believed, refuted) = (published.is_some(), None);
        let in_chunks = feed.spec.policy.persist;
        Standing {
            entries,
            end,
            exact,
            proven,
            believed,
            refuted,
            doubts,
            broken_tail,
            in_chunks,
            trouble,
        }
    }

    /// Notes what else than a power loss may be the reason that the page is not believed. The page
    /// of a staged session goes with its memory.
    fn doubt(
        &mut self,
        feed: &FeedInfo,
        live: Option<&LivePage>,
        staged: bool,
        checkpoint_is_broken: bool,
    ) {
        let Some(session) = last_session(&self.entries) else { return };
        let of_it =
            |entry: &Entry| matches!(entry, Entry::Chunk(c) if c.session_id == session.session_id);
        // A writer that was killed while it opened the feed has left no records.
        if !self.entries.iter().any(of_it) {
            return;
        }
        let page_is_broken = !staged
            && live.is_none_or(|page| {
                page.stamp_is_broken(session.session_id)
                    || (page.session().is_some() && page.try_published().is_none())
            });
        let end = self.end;
        if page_is_broken {
            let page = feed.live_path().display().to_string();
            self.doubts.push(format!(
                "{page}: missing or damaged; of the last session what no checkpoint proves is left \
                 out, from seq {end} on"
            ));
        }
        if checkpoint_is_broken {
            let path = feed.registry_path().display().to_string();
            self.doubts.push(format!(
                "{path}: a checkpoint is damaged; what it may have proven is left out, from seq \
                 {end} on"
            ));
        }
    }

    /// Seqs that the table leaves out, though records came before and after them: damage.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut covered: Vec<(u64, u64)> = Vec::new();
        for (i, (chunk, end)) in self.chunks().into_iter().enumerate() {
            // Collected without having been sealed: it held nothing.
            let empty = chunk.place == Place::Expired && chunk.seal.is_none();
            let end = if empty { chunk.base_seq } else { end };
            if i == 0 || end > chunk.base_seq {
                covered.push((chunk.base_seq, end.max(chunk.base_seq)));
            }
        }
        let first = covered.iter().map(|c| c.0).min();
        // Without any chunk: a session that published has had one.
        let session = last_session(&self.entries).filter(|_| self.believed && self.in_chunks);
        let begun = || session.map(|session| session.base_seq);
        let Some(first) = first.or_else(begun) else { return Vec::new() };
        covered.extend(self.entries.iter().filter_map(|entry| match entry {
            Entry::Range(range) => Some(range.seqs),
            _ => None,
        }));
        covered.push((self.end, self.end));
        covered.sort_unstable();
        let (mut gaps, mut reached) = (Vec::new(), first);
        for (from, to) in covered {
            if from > reached && from <= self.end {
                gaps.push((reached, from));
            }
            reached = reached.max(to);
        }
        gaps
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

/// Whether a page is older than the table: a session stamps its page before it is in the table, so
/// a page that is looked at after the table and names an older session is a copy put back.
pub fn is_outlived(page: Option<&LivePage>, entries: &[Entry]) -> bool {
    let stamp = page.and_then(LivePage::session);
    let last = last_session(entries);
    stamp.zip(last).is_some_and(|(stamp, last)| stamp.session_id < last.session_id)
}

/// The session that a table names last.
pub fn last_session(entries: &[Entry]) -> Option<SessionEntry> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::Session(session) => Some(*session),
        _ => None,
    })
}

/// How a session ended that its writer never closed, and when it was last seen alive, wall-clock
/// microseconds: its last publish if the live page is to be believed, else its last checkpoint,
/// which later records may not have survived.
pub fn unclean_end(
    registry: &FeedRegistry,
    view: &LiveView,
    session: &SessionEntry,
    refuted: bool,
) -> (SessionEnd, u64) {
    let page = view.page.as_deref().filter(|page| !refuted && page.is_believed());
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
    checkpoint: Option<&Checkpoint>,
    entries: &[Entry],
    session: &SessionEntry,
    trouble: &mut Option<Error>,
) -> u64 {
    let checkpoint = checkpoint.filter(|c| c.session_id == session.session_id);
    let mut end = checkpoint.map_or(session.base_seq, |c| c.seq.max(session.base_seq));
    for entry in entries {
        let Entry::Chunk(chunk) = entry else { continue };
        match chunk.seal {
            Some(seal) => end = end.max(chunk.base_seq + seal.count),
            None if chunk.place.is_open() && chunk.base_seq <= end => {
                match proven_blocks(feed, chunk, end) {
                    Ok(proven) => end = end.max(proven),
                    Err(error) if error.says_nothing() => *trouble = trouble.take().or(Some(error)),
                    Err(_) => {}
                }
            }
            None => {}
        }
    }
    end
}

/// Why a chunk cannot hold its records below `end`, by its size and its blocks' times.
fn refute_chunk(
    feed: &FeedInfo,
    folder: &Path,
    chunk: &ChunkEntry,
    end: u64,
) -> Result<Option<String>> {
    let geometry = feed.geometry();
    let (chunk_id, base_seq) = (chunk.chunk_id, chunk.base_seq);
    let key = ChunkKey { id: &feed.id, geometry: &geometry, chunk_id, base_seq };
    let paths = ChunkPaths::new(folder, chunk_id);
    let Some(index) = sound(Index::open(&paths.index, &key))? else { return Ok(None) };
    let Some(data) = sound(file::open_read(&paths.data))? else { return Ok(None) };
    let records = end - base_seq;
    if records > index.header().capacity() as u64 {
        return Ok(Some(format!("{} has no room for those", paths.data.display())));
    }
    let bytes = records * geometry.record_size as u64;
    if file::is_stored(&data, &paths.data, bytes).is_ok_and(|stored| !stored) {
        return Ok(Some(format!("{} does not have those", paths.data.display())));
    }
    match index.first_unset(records) {
        Ok(None) => Ok(None),
        Ok(Some(block)) => {
            let seq = base_seq + block as u64 * geometry.block_records as u64;
            Ok(Some(format!("{} has none from seq {seq} on", paths.index.display())))
        }
        Err(error) if error.is_damage() => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether a checkpoint is of a chunk that is not sealed: then the sum of its open block is all
/// there is for it, unless the block was closed since.
fn is_open_chunk(entries: &[Entry], checkpoint: &Checkpoint) -> bool {
    entries.iter().any(|entry| {
        matches!(entry, Entry::Chunk(c) if c.chunk_id == checkpoint.chunk_id && c.seal.is_none())
    })
}

/// The seq that a checkpoint's open block begins with.
pub fn open_block_seq(feed: &FeedInfo, checkpoint: &Checkpoint) -> u64 {
    let closed = u64::from(checkpoint.closed_blocks) * feed.geometry().block_records as u64;
    (checkpoint.chunk_base_seq + closed).min(checkpoint.seq)
}

/// What is wrong with the records that only a checkpoint's sum vouches for.
fn tail_error(feed: &FeedInfo, checkpoint: &Checkpoint) -> Option<Error> {
    let start = open_block_seq(feed, checkpoint);
    let size = feed.geometry().record_size as u64;
    let path = ChunkPaths::new(&feed.folder, checkpoint.chunk_id).data;
    let at = (start - checkpoint.chunk_base_seq.min(start)) * size;
    let bytes = (checkpoint.seq - start) * size;
    let read = file::open_read(&path).and_then(|data| sum_of(&data, &path, at, bytes));
    match read {
        Err(error) => Some(error),
        Ok(sum) if bytes == 0 || sum == checkpoint.open_block_crc => None,
        Ok(_) => Some(Error::damaged(&path, at, "the checksum that a checkpoint has of it")),
    }
}

/// The checksum of so many bytes of a file, which must have them.
fn sum_of(data: &File, path: &Path, at: u64, bytes: u64) -> Result<u32> {
    let there = file::size(data, path)?;
    if there < at.saturating_add(bytes) {
        let what = "the file ends here, before records that a checkpoint has";
        return Err(Error::damaged(path, there, what));
    }
    let mut piece = vec![0; bytes.min(PIECE) as usize];
    let (mut sum, mut done) = (0, 0);
    while done < bytes {
        let piece = &mut piece[..(bytes - done).min(PIECE) as usize];
        file::read_at(data, path, at + done, piece)?;
        sum = crc_append(sum, piece);
        done += piece.len() as u64;
    }
    Ok(sum)
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
        let Some(entries) = sound(index.blocks(block, 1, extent))? else { break };
        let entry = entries[0];
        let at = block as u64 * geometry.block_bytes() as u64;
        let read = sound(file::read_at(&data, &paths.data, at, &mut bytes))?;
        let proven = read.is_some() && entry.intact && entry.data_crc == Some(crc(&bytes));
        if !proven {
            break;
        }
        end = end.max(base_seq + whole);
        block += 1;
    }
    Ok(end)
}
