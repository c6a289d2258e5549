//! Which live page speaks for a feed: the one on disk, or a staged session's in shared memory.

use std::sync::Arc;

use crate::os::file;
use crate::registry::feed::FeedRegistry;
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
    /// Whether a staged session's segments are there; [`Reach::Here`] for sessions on disk.
    pub reach: Reach,
    /// What had the name of a staged session's page: device and inode.
    found: Option<(u64, u64)>,
}

impl LiveView {
    /// Looks.
    pub fn of(feed: &FeedInfo, registry: &FeedRegistry) -> LiveView {
        LiveView::after(None, feed, registry)
    }

    /// Looks again. A page that was unlinked under its writer is kept: until the writer has made
    /// another one it still publishes there.
    pub fn refresh(&self, feed: &FeedInfo, registry: &FeedRegistry) -> LiveView {
        LiveView::after(Some(self), feed, registry)
    }

    fn after(before: Option<&LiveView>, feed: &FeedInfo, registry: &FeedRegistry) -> LiveView {
        let segments = registry.segments();
        let Some(staged) = segments.as_ref().filter(|s| s.kind == SegmentKind::Staged) else {
            let newest = segments.as_ref().map_or(0, |s| s.session_id);
            let kept = before.filter(|view| !view.is_staged()).and_then(|view| view.page.clone());
            let page = kept
                .or_else(|| LivePage::open(&feed.live_path(), &feed.id, false).ok().map(Arc::new));
            // One of an older session says nothing of the newest.
            let page = page.filter(|p| p.session().is_none_or(|s| s.session_id >= newest));
            return LiveView { segments, page, reach: Reach::Here, found: None };
        };
        let mut reach = staged.reach(feed.base(), feed.id.store_id);
        let (mut page, mut found) = (None, None);
        if reach == Reach::Here {
            let path = staged.live_path(&feed.name);
            found = file::identity_of(&path).ok();
            let kept = before.and_then(|view| view.page.clone());
            page = match found {
                Some(found) => kept
                    .filter(|page| page.identity() == found)
                    .or_else(|| LivePage::open(&path, &feed.id, false).ok().map(Arc::new)),
                None => kept,
            };
            page = page.filter(|page| page.segment_id() == staged.segment_id);
            if page.is_none() {
                reach = Reach::Gone;
            }
        }
        LiveView { segments, page, reach, found }
    }

    /// The process that writes a feed, or wrote it last, where its live page names one.
    pub fn pid(feed: &FeedInfo) -> Option<u32> {
        let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, false).ok()?;
        LiveView::of(feed, &registry).page?.session().map(|session| session.pid)
    }

    /// Whether the newest session is a staged one.
    pub fn is_staged(&self) -> bool {
        self.staged().is_some()
    }

    /// Where the newest session's segments are, if it is a staged one.
    pub fn staged(&self) -> Option<&Segments> {
        self.segments.as_ref().filter(|segments| segments.kind == SegmentKind::Staged)
    }

    /// Whether another look would find the same: no session has begun since, and the page is the
    /// one that has its name.
    pub fn is_current(&self, feed: &FeedInfo, registry: &FeedRegistry) -> bool {
        let here = matches!(self.reach, Reach::Here | Reach::Gone);
        registry.segments() == self.segments
            && self.staged().filter(|_| here).is_none_or(|staged| {
                file::identity_of(&staged.live_path(&feed.name)).ok() == self.found
            })
    }
}
