//! Words shared between processes, as the protocols use them.
//!
//! Every load, store and fence that a protocol depends on is a named [`Site`]. The protocols use
//! [`Memory`], so that a model checker can run the same code on its own memory and weaken one site
//! at a time.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

use crate::os::growing::GrowingMap;
use crate::os::map::{Map, RingMap};

/// Returns the size of a page, as the system maps it.
pub fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    // SAFETY: only reads a system constant.
    *SIZE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize)
}

/// A load, store or fence of a protocol.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The name, `protocol.what`.
    pub name: &'static str,
    /// The memory order it needs.
    pub order: Ordering,
}

impl Site {
    /// A site that needs `order`.
    pub const fn new(name: &'static str, order: Ordering) -> Site {
        Site { name, order }
    }

    /// A site that needs no order.
    pub const fn relaxed(name: &'static str) -> Site {
        Site { name, order: Ordering::Relaxed }
    }
}

/// Shared memory: words by byte offset, and bytes that are stored and copied in no particular
/// order.
pub trait Memory {
    /// Loads a 64-bit word.
    fn load(&self, at: usize, site: Site) -> u64;
    /// Stores a 64-bit word.
    fn store(&self, at: usize, value: u64, site: Site);
    /// Stores `to` in a 64-bit word if it is `from`. Returns whether it was. A failure has no
    /// order.
    fn swap_if(&self, at: usize, from: u64, to: u64, site: Site) -> bool;
    /// Loads a 32-bit word.
    fn load_half(&self, at: usize, site: Site) -> u32;
    /// Stores a 32-bit word.
    fn store_half(&self, at: usize, value: u32, site: Site);
    /// Adds to a 32-bit word.
    fn add_half(&self, at: usize, value: u32, site: Site);
    /// Executes a fence.
    fn fence(&self, site: Site);
    /// Stores bytes.
    fn put(&self, at: usize, bytes: &[u8]);
    /// Copies bytes out. They are valid only if the protocol confirms so afterwards.
    fn get(&self, at: usize, into: &mut [u8]);
}

macro_rules! real_memory {
    ($($map:ty)*) => {$(
        impl Memory for $map {
            #[inline(always)]
            fn load(&self, at: usize, site: Site) -> u64 {
                self.u64_at(at).load(site.order)
            }

            #[inline(always)]
            fn store(&self, at: usize, value: u64, site: Site) {
                self.u64_at(at).store(value, site.order);
            }

            #[inline]
            fn swap_if(&self, at: usize, from: u64, to: u64, site: Site) -> bool {
                self.u64_at(at).compare_exchange(from, to, site.order, Ordering::Relaxed).is_ok()
            }

            #[inline(always)]
            fn load_half(&self, at: usize, site: Site) -> u32 {
                self.u32_at(at).load(site.order)
            }

            #[inline(always)]
            fn store_half(&self, at: usize, value: u32, site: Site) {
                self.u32_at(at).store(value, site.order);
            }

            #[inline]
            fn add_half(&self, at: usize, value: u32, site: Site) {
                self.u32_at(at).fetch_add(value, site.order);
            }

            #[inline(always)]
            fn fence(&self, site: Site) {
                fence(site.order);
            }

            #[inline(always)]
            fn put(&self, at: usize, bytes: &[u8]) {
                self.write(at, bytes);
            }

            #[inline(always)]
            fn get(&self, at: usize, into: &mut [u8]) {
                self.read(at, into);
            }
        }
    )*};
}

real_memory!(Map GrowingMap RingMap);
