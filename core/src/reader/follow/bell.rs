//! The bell that a follower sleeps by: where it hangs, and whether we may pull it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::os::file;
use crate::os::futex::{MAX_WORDS, Waited};
use crate::registry::feed::FeedRegistry;
use crate::registry::info::FeedInfo;
use crate::registry::segments::{Reach, Segments};
use crate::registry::wait::{Armed, WaitFile};

/// Whether this kernel has turned out not to wait for several words.
static ONE_WORD_ONLY: AtomicBool = AtomicBool::new(false);

/// A feed's wait file, if there is one that we may write.
#[derive(Default)]
pub(super) struct Bell {
    file: Option<WaitFile>,
    /// Where the last session said that it is.
    segments: Option<Segments>,
}

impl Bell {
    pub fn file(&self) -> Option<&WaitFile> {
        self.file.as_ref()
    }

    /// Whether the system can wait for so many at once.
    pub fn can_wait_for(files: usize) -> bool {
        (1..=MAX_WORDS).contains(&files) && (files == 1 || !ONE_WORD_ONLY.load(Ordering::Relaxed))
    }

    /// Takes up the wait file that the feed registry names now.
    pub fn look_around(&mut self, feed: &FeedInfo, registry: &FeedRegistry) {
        let segments = registry.segments();
        let path = segments.as_ref().map(|s| s.wait_path(&feed.name));
        let there = path.as_ref().and_then(|path| file::identity_of(path).ok());
        let ours = self.file.as_ref().map(WaitFile::identity);
        if segments == self.segments && there == ours {
            return;
        }
        // Where that cannot be found out it polls, and looks again.
        let reach = segments.as_ref().map(|s| s.reach(feed.base(), feed.id.store_id));
        let reached = matches!(reach, Some(Ok(Reach::Here)));
        self.file = path.filter(|_| reached).and_then(|p| WaitFile::open(&p, &feed.id).ok());
        self.segments = segments;
    }
}

/// Sleeps until one of the bells rings; false if this kernel cannot.
pub(super) fn sleep(armed: &[(&WaitFile, Armed)], longest: Duration) -> bool {
    let waited = WaitFile::sleep_any(armed, longest);
    if waited == Waited::Unsupported {
        ONE_WORD_ONLY.store(true, Ordering::Relaxed);
    }
    waited != Waited::Unsupported
}
