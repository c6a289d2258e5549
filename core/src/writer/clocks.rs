//! Keeps the times in a live page: when records were last published, and samples for the rate.

use std::time::Duration;

use crate::os::process;
use crate::registry::live::LivePage;

const SAMPLE_NS: u64 = 1_000_000_000;

/// Updates the times in a live page.
pub(super) struct Clocks {
    /// `published` at the last look.
    published: u64,
    moved_ns: u64,
    sampled_ns: u64,
}

impl Clocks {
    /// Takes the session's first sample; the rate counts from it.
    pub fn start(page: &LivePage) -> Clocks {
        let (published, now_ns) = (page.published(), process::boottime_ns());
        page.sample(now_ns, published);
        Clocks { published, moved_ns: 0, sampled_ns: now_ns }
    }

    /// Updates the page. Returns whether records were published since the last call.
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

    /// Whether records were published within the last second.
    pub fn moved_lately(&self) -> bool {
        process::boottime_ns() - self.moved_ns < Duration::from_secs(1).as_nanos() as u64
    }
}
