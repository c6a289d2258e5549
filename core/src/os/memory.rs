//! Words that processes share, as the protocols between them use them.
//!
//! Every load, store and fence that a protocol rests on is a [`Site`] with a name. The protocols
//! are written against [`Memory`], so that a model checker runs the very same code on memory of its
//! own and can weaken one site at a time.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

use crate::os::growing::GrowingMap;
use crate::os::map::{Map, RingMap};

/// Bytes of a page here, as the system maps them.
pub fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    // SAFETY: asks for a number.
    *SIZE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize)
}

/// One load, store or fence of a protocol.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Its name, `protocol.what`.
    pub name: &'static str,
    /// The order it needs.
    pub order: Ordering,
}

impl Site {
    /// A site that needs that order.
    pub const fn new(name: &'static str, order: Ordering) -> Site {
        Site { name, order }
    }

    /// A site that needs none.
    pub const fn relaxed(name: &'static str) -> Site {
        Site { name, order: Ordering::Relaxed }
    }
}

/// Shared memory: words by byte offset, and bytes that are stored and copied without any order.
pub trait Memory {
    /// Loads a 64-bit word.
    fn load(&self, at: usize, site: Site) -> u64;
    /// Stores a 64-bit word.
    fn store(&self, at: usize, value: u64, site: Site);
    /// Stores `to` in a 64-bit word that is `from`; whether it was. A failure is not ordered.
    fn swap_if(&self, at: usize, from: u64, to: u64, site: Site) -> bool;
    /// Loads a 32-bit word.
    fn load_half(&self, at: usize, site: Site) -> u32;
    /// Stores a 32-bit word.
    fn store_half(&self, at: usize, value: u32, site: Site);
    /// Adds to a 32-bit word.
    fn add_half(&self, at: usize, value: u32, site: Site);
    /// A fence.
    fn fence(&self, site: Site);
    /// Stores bytes.
    fn put(&self, at: usize, bytes: &[u8]);
    /// Copies bytes out; they are worth something only if the protocol says so afterwards.
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
