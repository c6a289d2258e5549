//! What a live page says of time: when something was published last, and how much over the last
//! seconds.

use std::time::Duration;

use crate::os::process;
use crate::registry::live::LivePage;

const SAMPLE_NS: u64 = 1_000_000_000;

/// Keeps a live page's clocks.
pub(super) struct Clocks {
    /// As of the last look.
    published: u64,
    moved_ns: u64,
    sampled_ns: u64,
}

impl Clocks {
    /// Takes the count that the session's rate begins from.
    pub fn start(page: &LivePage) -> Clocks {
        let (published, now_ns) = (page.published(), process::boottime_ns());
        page.sample(now_ns, published);
        Clocks { published, moved_ns: 0, sampled_ns: now_ns }
    }

    /// Brings the page up to date; whether something was published since the last time.
    pub fn keep(&mut self, page: &LivePage) -> bool {
        let (published, now_ns) = (page.published(), process::boottime_ns());
        let moved = std::mem::replace(&mut self.published, published) != published;
        if moved {
            page.set_last_publish(process::wall_us(), now_ns);
            self.moved_ns = now_ns;
        }
        if moved && now_ns - self.sampled_ns >= SAMPLE_NS {
            page.sample(now_ns, published);
            self.sampled_ns = now_ns;
        }
        moved
    }

    /// Whether something was published within the last second.
    pub fn moved_lately(&self) -> bool {
        process::boottime_ns() - self.moved_ns < Duration::from_secs(1).as_nanos() as u64
    }
}
