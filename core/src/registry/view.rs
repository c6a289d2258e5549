//! Which live page speaks for a feed: the one on disk, or the one of a staged session or a ring, in
//! shared memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, sound, there};
use crate::os::file;
use crate::registry::feed::{FeedRegistry, SessionEnd, SessionEntry};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::segments::{Reach, SegmentKind, Segments};

/// The live page that speaks for a feed, as one look found it.
#[derive(Clone)]
pub struct LiveView {
    /// Where the newest session has its shared-memory files, as it noted.
    pub segments: Option<Segments>,
    /// The page; none where it cannot be had.
    pub page: Option<Arc<LivePage>>,
    /// Whether the segments of a session in memory are there; [`Reach::Here`] for those on disk.
    pub reach: Reach,
    /// What had the page's name: device and inode.
    found: Option<(u64, u64)>,
}

impl LiveView {
    /// Looks.
    ///
    /// # Errors
    /// [`Error::Io`] where a limit, a missing permission or the disk keeps us from looking: that
    /// must not pass for a page that is gone.
    pub fn of(feed: &FeedInfo, registry: &FeedRegistry) -> Result<LiveView> {
        LiveView::after(None, feed, registry)
    }

    /// Looks at a copy of the page on disk; `None` where that page does not speak for the feed, or
    /// cannot be had so.
    pub fn copied(feed: &FeedInfo, registry: &FeedRegistry) -> Option<LiveView> {
        let mut view =
            LiveView { segments: registry.segments(), page: None, reach: Reach::Here, found: None };
        if view.in_memory().is_some() {
            return None;
        }
        let page = LivePage::copy(&feed.live_path(), &feed.id)?;
        view.found = Some(page.identity());
        view.page = Some(Arc::new(page)).filter(|page| view.is_page(page));
        Some(view)
    }

    /// Looks again. A page that was unlinked under its writer is kept: until the writer has made
    /// another one it still publishes there.
    ///
    /// # Errors
    /// As [`LiveView::of`].
    pub fn refresh(&self, feed: &FeedInfo, registry: &FeedRegistry) -> Result<LiveView> {
        LiveView::after(Some(self), feed, registry)
    }

    fn after(
        before: Option<&LiveView>,
        feed: &FeedInfo,
        registry: &FeedRegistry,
    ) -> Result<LiveView> {
        let segments = registry.segments();
        let mut view = LiveView { segments, page: None, reach: Reach::Here, found: None };
        if let Some(segments) = view.in_memory() {
            view.reach = segments.reach(feed.base(), feed.id.store_id)?;
            if view.reach != Reach::Here {
                // A session that has ended left its page on disk, whatever became of its memory.
                view.found = identity_of(&view.path(feed))?;
                view.page = view.left_on_disk(feed)?;
                view.reach = if view.page.is_some() { Reach::Here } else { view.reach };
                return Ok(view);
            }
        }
        let path = view.path(feed);
        view.found = identity_of(&path)?;
        let kept = before.and_then(|view| view.page.clone());
        // On an overlay it may be a mapping that was left behind.
        let kept = kept.filter(|_| !file::is_overlay(&path));
        let kept = kept.filter(|page| view.found.is_none_or(|found| found == page.identity()));
        let page = match kept {
            Some(page) => Some(page),
            None if view.is_ring() => sound(LivePage::open_in_ring(&path, &feed.id))?.map(Arc::new),
            None => sound(LivePage::open(&path, &feed.id, false))?.map(Arc::new),
        };
        view.page = page.filter(|page| view.is_page(page));
        if view.page.is_none() && view.in_memory().is_some() {
            view.page = view.left_on_disk(feed)?;
            view.reach = if view.page.is_some() { Reach::Here } else { Reach::Gone };
        }
        Ok(view)
    }

    /// The page on disk, if a staged session has left there what its own page said last.
    fn left_on_disk(&self, feed: &FeedInfo) -> Result<Option<Arc<LivePage>>> {
        let newest = self.segments.as_ref().map(|segments| segments.session_id);
        let page = sound(LivePage::open(&feed.live_path(), &feed.id, false))?;
        let of_newest =
            |page: &LivePage| page.session().map(|session| session.session_id) == newest;
        Ok(page.filter(|page| newest.is_some() && of_newest(page)).map(Arc::new))
    }

    /// Where the page is.
    fn path(&self, feed: &FeedInfo) -> PathBuf {
        match self.in_memory() {
            Some(ring) if self.is_ring() => ring.ring_path(&feed.name),
            Some(staged) => staged.live_path(&feed.name),
            None => feed.live_path(),
        }
    }

    /// Whether a page is that of the newest session.
    fn is_page(&self, page: &LivePage) -> bool {
        match self.staged() {
            Some(staged) => page.segment_id() == staged.segment_id,
            None if self.is_ring() => self.is_of_newest(page),
            None => page.segment_id() == 0 && self.is_of_newest(page),
        }
    }

    /// A page of an older session than the newest says nothing of that.
    fn is_of_newest(&self, page: &LivePage) -> bool {
        let newest = self.segments.as_ref().map_or(0, |segments| segments.session_id);
        page.session().is_none_or(|session| session.session_id >= newest)
    }

    /// The process that writes a feed, or wrote it last, where its live page names one.
    pub fn pid(feed: &FeedInfo) -> Option<u32> {
        let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, false).ok()?;
        LiveView::of(feed, &registry).ok()?.page?.session().map(|session| session.pid)
    }

    /// Whether the newest session is a staged one.
    pub fn is_staged(&self) -> bool {
        self.staged().is_some()
    }

    /// Where the newest session's segments are, if it is a staged one.
    pub fn staged(&self) -> Option<&Segments> {
        self.segments.as_ref().filter(|segments| segments.kind == SegmentKind::Staged)
    }

    /// Whether the newest session has a ring.
    pub fn is_ring(&self) -> bool {
        self.segments.as_ref().is_some_and(|segments| segments.kind == SegmentKind::Ring)
    }

    /// Where the newest session's segments are, if its page is among them.
    fn in_memory(&self) -> Option<&Segments> {
        self.segments.as_ref().filter(|segments| segments.kind != SegmentKind::Disk)
    }

    /// How a session ended that nobody has closed, where its page cannot be had.
    pub fn end_without_page(&self, session: &SessionEntry) -> SessionEnd {
        match self.in_memory().filter(|segments| segments.session_id == session.session_id) {
            Some(_) if self.reach != Reach::OtherBoot => SessionEnd::MemoryGone,
            _ => SessionEnd::PowerLoss,
        }
    }

    /// Refuses to go by the disk alone while a staged session's records may be in memory that is
    /// there, but not from here.
    ///
    /// # Errors
    /// [`Error::OtherMemory`].
    pub fn refuse_other_memory(&self, feed: &FeedInfo) -> Result<()> {
        match self.staged() {
            Some(staged) if self.reach == Reach::OtherDevice => {
                Err(Error::OtherMemory { feed: feed.name.clone(), path: staged.folder.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether another look would find the same: no session has begun since, and the page is the
    /// one that has its name.
    ///
    /// # Errors
    /// As [`LiveView::of`].
    pub fn is_current(&self, feed: &FeedInfo, registry: &FeedRegistry) -> Result<bool> {
        if registry.segments() != self.segments {
            return Ok(false);
        }
        match self.reach {
            Reach::Here | Reach::Gone => Ok(identity_of(&self.path(feed))? == self.found),
            _ => Ok(true),
        }
    }
}

/// What has a page's name: device and inode; `None` also in a folder that is closed to us, as one
/// may be that another user has put in the place of ours. Opening a page there says so.
fn identity_of(path: &Path) -> Result<Option<(u64, u64)>> {
    match file::identity_of(path) {
        Err(error) if error.is_denied() => Ok(None),
        found => there(found),
    }
}
