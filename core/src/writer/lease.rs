//! The lease of a session: no seq at or above it is published. The writing thread and the one in
//! the background raise it, and neither may lower what the other has raised.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::registry::feed::FeedRegistry;

/// A feed's lease, as this session has raised it.
pub(super) struct Lease {
    end: AtomicU64,
    raising: Mutex<()>,
}

impl Lease {
    /// The lease that the session began with.
    pub fn new(end: u64) -> Lease {
        Lease { end: AtomicU64::new(end), raising: Mutex::new(()) }
    }

    /// Seqs below it may be published.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Raises it, durably; a higher one stays. Returns the lease that there is then.
    ///
    /// # Errors
    /// As [`FeedRegistry::set_lease`].
    pub fn raise_to(&self, registry: &FeedRegistry, end: u64) -> Result<u64> {
        let _one_at_a_time = self.raising.lock().unwrap_or_else(|e| e.into_inner());
        // Looked at under the lock: the other thread may have raised it meanwhile.
        let now = self.end();
        if end <= now {
            return Ok(now);
        }
        registry.set_lease(end)?;
        self.end.store(end, Ordering::Release);
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::registry::feed::{Geometry, Identity};
    use crate::time::TimeUnit;

    #[test]
    fn two_threads_that_raise_a_lease_never_lower_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feed_registry.bin");
        let id = Identity { store_id: [1; 16], feed_id: 2, layout_hash: 3 };
        let geometry = Geometry::new(16, 0, TimeUnit::Micros);
        FeedRegistry::create(&path, &id, &geometry, 0, 0o600).unwrap();
        let registry = FeedRegistry::open(&path, &id, true).unwrap();
        let lease = Lease::new(0);
        std::thread::scope(|scope| {
            for first in [1, 2] {
                let (lease, registry) = (&lease, &registry);
                scope.spawn(move || {
                    // Now this one is ahead, now the other.
                    for step in 0..100 {
                        let end = first * 10 + step * (first + (step % 3) * 7);
                        let there = lease.raise_to(registry, end).unwrap();
                        assert!(there >= end && lease.end() >= there);
                        assert!(registry.lease().unwrap() >= there, "{end}");
                    }
                });
            }
        });
        assert_eq!(registry.lease(), Some(lease.end()));
    }
}
