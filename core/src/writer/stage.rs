//! What a writer keeps in shared memory: the wait file, and for a staged feed also the live page
//! and the chunks that are not on disk yet (FORMAT.md, Staged chunks).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::os::faults::step;
use crate::os::{file, process};
use crate::registry::feed::{ChunkEnd, FeedRegistry, Place};
use crate::registry::info::FeedInfo;
use crate::registry::live::{LivePage, SessionStamp};
use crate::registry::segments::{SegmentKind, Segments};
use crate::registry::wait::WaitFile;
use crate::schema::Stage;
use crate::writer::chunks::{ChunkWriter, Early, RESTAGE, Shared};

/// How many bytes of staged chunks may have ended without being on disk. Chunks of more than 64 MiB
/// may exceed it, because `BACKLOG_CHUNKS` allows at least 16 of them.
const BACKLOG_BYTES: u64 = 1 << 30;
/// How many chunks may have ended without being sealed, at least and at most. Each holds files
/// open.
const BACKLOG_CHUNKS: (u64, u64) = (16, 256);

/// The pages that the writer and its readers share. The writer makes new ones if they are unlinked.
pub struct Page {
    /// The live page.
    pub live: LivePage,
    /// The wait file. `None` if there is no shared memory; followers then poll.
    pub wait: Option<WaitFile>,
}

/// Opens the pages of a session that begins at `next_seq`, then notes their location in the
/// registry. The page comes first: a reader that follows the note must find the new session, or
/// none.
pub fn begin(
    feed: &FeedInfo,
    registry: &FeedRegistry,
    stamp: &SessionStamp,
    next_seq: u64,
    running_max: u64,
) -> Result<(Page, Segments)> {
    let mode = feed.spec.policy.file_mode;
    let folder =
        Segments::make_folder(feed.base(), feed.id.store_id, mode, registry.segments().as_ref());
    let random =
        process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
    let mut segments = Segments {
        session_id: stamp.session_id,
        segment_id: (u128::from_be_bytes(random) as u64).max(1),
        device: 0,
        boot_id: stamp.boot_id,
        kind: SegmentKind::Disk,
        folder: Default::default(),
    };
    let live = if feed.spec.policy.stage == Stage::Shm {
        segments.kind = SegmentKind::Staged;
        segments.folder = folder?;
        segments.device = file::identity_of(&segments.folder)?.0;
        segments.make_chunk_folder(feed.base(), &feed.name, mode)?;
        let path = segments.live_path(&feed.name);
        let live = LivePage::create_staged(&path, &feed.id, mode, segments.segment_id)?;
        live.begin(stamp, next_seq, running_max);
        step("begin.page-made");
        live.appear(&path)?;
        live
    } else {
        // Without a folder in shared memory, followers poll.
        if let Some(folder) = folder.ok().filter(|folder| Segments::can_note(folder)) {
            segments.device = file::identity_of(&folder)?.0;
            segments.folder = folder;
        }
        let live = open_on_disk(feed)?;
        live.begin(stamp, next_seq, running_max);
        live
    };
    step("begin.page");
    let wait = match segments.folder.as_os_str().is_empty() {
        true => None,
        false => WaitFile::open_or_create(&segments.wait_path(&feed.name), &feed.id, mode).ok(),
    };
    registry.set_segments(&segments)?;
    step("begin.segments");
    Ok((Page { live, wait }, segments))
}

/// Opens the page on disk. If it is missing, only dw-repair may restore it.
fn open_on_disk(feed: &FeedInfo) -> Result<LivePage> {
    LivePage::open(&feed.live_path(), &feed.id, true).map_err(|error| match error {
        Error::Io { path, .. } if !path.exists() => Error::damaged(path, 0, "it is missing"),
        other => other,
    })
}

/// Ends a staged session once everything is on disk. Copies its page to the page on disk, where
/// readers look from now on, and frees its shared memory.
pub fn end(feed: &FeedInfo, segments: &Segments, page: &LivePage) -> Result<()> {
    let on_disk = open_on_disk(feed)?;
    on_disk.take_over(page);
    on_disk.end();
    step("end.page");
    segments.remove_stage(feed.base(), &feed.name)
}

impl Shared {
    /// Whether chunks are created in shared memory.
    pub(super) fn is_staged(&self) -> bool {
        self.segments.kind == SegmentKind::Staged
    }

    /// Returns the place of a chunk that is being written.
    pub(super) fn open_place(&self) -> Place {
        if self.is_staged() { Place::Staged } else { Place::Live }
    }

    /// Returns how many chunks may have ended without being sealed. If there are more, the writing
    /// thread waits for the disk.
    pub(super) fn backlog_chunks(&self) -> usize {
        let (least, most) = BACKLOG_CHUNKS;
        let chunks = match self.is_staged() {
            true => BACKLOG_BYTES / self.feed.spec.policy.chunk_size_bytes.max(1),
            false => least,
        };
        chunks.clamp(least, most) as usize
    }

    /// Whether a file of this session in shared memory was unlinked. systemd unlinks the files of a
    /// user who logs out.
    pub(super) fn is_unlinked(&self) -> bool {
        let page = self.page();
        let named = |path: PathBuf, identity| file::identity_of(&path).ok() == Some(identity);
        let name = &self.feed.name;
        let wait = page.wait.as_ref();
        let bell = wait.is_none_or(|w| named(self.segments.wait_path(name), w.identity()));
        if !self.is_staged() || !bell {
            return !bell;
        }
        let chunks = {
            let queue = self.queue();
            queue.chunks.iter().chain(&queue.ready).cloned().collect::<Vec<_>>()
        };
        !named(self.segments.live_path(name), page.live.identity())
            || chunks.iter().any(|chunk| !chunk.is_named())
    }

    /// Recreates files that were unlinked and directs readers to them. Records published from now
    /// on are in the new page. Writing thread only.
    pub(super) fn restage(&self) -> Result<()> {
        let (name, mode) = (&self.feed.name, self.feed.spec.policy.file_mode);
        match self.segments.remake_folder(self.feed.base(), mode) {
            // Another user has taken the folder's name. Chunks are on disk, so followers can poll.
            Err(_) if !self.is_staged() => {}
            remade => remade?,
        }
        let old = self.page();
        let wait_path = self.segments.wait_path(name);
        let wait = WaitFile::open_or_create(&wait_path, &self.feed.id, mode).ok();
        let live = if self.is_staged() {
            self.segments.make_chunk_folder(self.feed.base(), name, mode)?;
            let path = self.segments.live_path(name);
            let live = old.live.successor(&path, &self.feed.id, mode)?;
            step("restage.page-made");
            live.appear(&path)?;
            live
        } else {
            LivePage::open(&self.feed.live_path(), &self.feed.id, true)?
        };
        step("restage.page");
        *self.page.lock().unwrap_or_else(|e| e.into_inner()) = Arc::new(Page { live, wait });
        // The next chunk was prepared in the removed folder.
        let _making = self.making();
        let ready = self.queue().ready.take();
        ready.map_or(Ok(()), |chunk| chunk.discard())
    }

    /// Waits until memory of ended chunks is freed. Returns false if there is none to wait for.
    pub(super) fn wait_for_memory(&self, published: u64) -> Result<bool> {
        let mut queue = self.queue();
        let before = queue.released;
        queue.short_of_memory = true;
        let mut waiting = true;
        while queue.failure.is_none() && queue.released == before && waiting {
            self.wake.notify_one();
            queue = self.progress.wait(queue).unwrap_or_else(|e| e.into_inner());
            let ended = queue.chunks.windows(2).any(|pair| pair[1].base_seq() <= published);
            waiting = ended || queue.short_of_memory;
        }
        queue.short_of_memory = false;
        match (&queue.failure, queue.released > before) {
            (Some(_), _) => {
                drop(queue);
                Err(self.poisoned())
            }
            (None, released) => Ok(released),
        }
    }

    /// Whether an error means that shared memory is full.
    pub(super) fn is_memory_full(&self, error: &Error) -> bool {
        let full = std::io::ErrorKind::StorageFull;
        self.is_staged()
            && matches!(error, Error::Io { path, source, .. }
                if source.kind() == full && path.starts_with(&self.segments.folder))
    }
}

impl ChunkWriter {
    /// Recreates unlinked files in shared memory and continues in another chunk. First makes
    /// durable what is published, because readers will no longer find it in memory.
    #[cold]
    pub(super) fn go_on_elsewhere(&mut self) -> Result<()> {
        self.shared.attention.fetch_and(!RESTAGE, Ordering::AcqRel);
        if self.shared.is_staged() {
            self.sync_now()?;
        }
        self.restage()?;
        match &self.chunk {
            Some(chunk) if !chunk.is_named() => {
                chunk.set_end(ChunkEnd::Early);
                self.next_chunk()
            }
            _ => Ok(()),
        }
    }

    /// Recreates files in shared memory that were unlinked.
    pub(super) fn restage(&mut self) -> Result<()> {
        self.shared.restage()?;
        self.page = self.shared.page();
        Ok(())
    }

    /// Ends the chunk at what is published and waits until its memory is freed, after shared memory
    /// had no room for a batch and the batch was undone. Returns false if there is no memory to
    /// free.
    pub(super) fn end_chunk_early(&mut self) -> bool {
        let Some(chunk) = self.chunk.take_if(|_| self.at > 0) else { return false };
        let chunk_id = chunk.chunk_id();
        drop(chunk);
        (self.at, self.limit) = (0, 0);
        let mut queue = self.shared.queue();
        queue.early = Some(Early { chunk_id, end_seq: self.next_seq });
        while queue.failure.is_none() && queue.early.is_some() {
            self.shared.wake.notify_one();
            queue = self.shared.progress.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        queue.failure.is_none()
    }

    /// Returns the error for a batch that does not fit into shared memory.
    pub(super) fn memory_full(&self, wanted_bytes: usize) -> Error {
        let path = self.shared.segments.folder.clone();
        Error::MemoryFull {
            feed: self.shared.feed.name.clone(),
            free_bytes: file::free_bytes(&path).unwrap_or(0),
            path,
            wanted_bytes: wanted_bytes as u64,
        }
    }
}
