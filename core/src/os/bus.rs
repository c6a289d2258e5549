//! Handles SIGBUS inside a mapping: the file was truncated, or a page of it cannot be read. The
//! handler replaces the page by zeros, which fail every checksum and every guarded word of the
//! store, and marks the mapping as lost. Code that stores through a mapping checks this mark before
//! it reports success.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, Once, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

use crate::os::memory::page_size;

/// Slots in a block. More blocks are added as needed.
const SLOTS: usize = 256;

/// A guarded mapping. Slots are reused and never freed.
struct Slot {
    /// Odd while `start` and `end` change.
    version: AtomicUsize,
    /// Both are 0 in a free slot.
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

/// Blocks are added and never freed, so the handler can walk them without a lock.
struct Block {
    slots: [Slot; SLOTS],
    next: OnceLock<&'static Block>,
}

impl Block {
    const fn new() -> Block {
        Block { slots: [const { Slot::new() }; SLOTS], next: OnceLock::new() }
    }
}

static FIRST: Block = Block::new();
/// The free slots, and the last block. The handler does not touch it.
static FREE: Mutex<(Vec<&'static Slot>, Option<&'static Block>)> = Mutex::new((Vec::new(), None));
static BEFORE: OnceLock<SigAction> = OnceLock::new();
static INSTALLED: Once = Once::new();

impl Slot {
    const fn new() -> Slot {
        Slot {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Only the thread that took the slot out of `FREE` may call this.
    fn set(&self, start: usize, end: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // SYNC: slot.version; pairs with the fence in `has`: a thread that loads a new bound sees
        // an odd version.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
        // SYNC: slot.version; pairs with the Acquire in `has`.
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Whether the slot guards the mapping that contains `address`. False for a slot that changes
    /// meanwhile, since the slot of a mapping in use does not change.
    fn has(&self, address: usize) -> bool {
        // SYNC: slot.version; pairs with the last store in `set`.
        let version = self.version.load(Ordering::Acquire);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        // SYNC: slot.version; pairs with the fence in `set`.
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version;
        same && version.is_multiple_of(2) && (start..end).contains(&address)
    }
}

/// Guards a mapping until dropped.
pub struct Guard(Option<&'static Slot>);

impl Guard {
    /// Guards `len` bytes from address `start` on.
    pub fn new(start: usize, len: usize) -> Guard {
        INSTALLED.call_once(install);
        let slot = free_slot();
        slot.set(start, start + len);
        Guard(Some(slot))
    }

    /// Guards nothing.
    pub fn none() -> Guard {
        Guard(None)
    }

    /// Whether a page of the mapping was lost before any load from the mapping that precedes this
    /// call.
    #[inline]
    pub fn is_lost(&self) -> bool {
        // SYNC: lost; a load from the page that replaced the lost one comes before the load of the
        // mark.
        fence(Ordering::Acquire);
        self.0.is_some_and(|slot| slot.lost.load(Ordering::Acquire))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.set(0, 0);
            slots().0.push(slot);
        }
    }
}

fn slots() -> MutexGuard<'static, (Vec<&'static Slot>, Option<&'static Block>)> {
    FREE.lock().unwrap_or_else(|e| e.into_inner())
}

fn free_slot() -> &'static Slot {
    let mut slots = slots();
    let (free, last) = &mut *slots;
    if let Some(slot) = free.pop() {
        return slot;
    }
    let block: &'static Block = match last {
        None => &FIRST,
        Some(last) => last.next.get_or_init(|| Box::leak(Box::new(Block::new()))),
    };
    *last = Some(block);
    let (first, others) = block.slots.split_first().unwrap_or_else(|| unreachable!());
    free.extend(others);
    first
}

fn install() {
    // Cache the page size here, so that the handler need not ask for it.
    page_size();
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(on_bus_error), flags, SigSet::empty());
    // SAFETY: the handler calls nothing but mmap, sigaction and raise, all async-signal-safe, and
    // otherwise only loads and stores atomics.
    if let Ok(before) = unsafe { sigaction(Signal::SIGBUS, &action) } {
        let _ = BEFORE.set(before);
    }
}

extern "C" fn on_bus_error(
    _number: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let info = unsafe { &*info };
    // A signal that was sent by a process has no address.
    let is_fault = info.si_code > 0;
    // SAFETY: the kernel gives the address for a SIGBUS that is a fault.
    if is_fault && replace_page(unsafe { info.si_addr() } as usize) {
        return;
    }
    // Not one of our mappings: restore the previous handler or the default, and let the fault occur
    // again.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: restores the disposition that was there before this handler, or the default.
    let _ = unsafe { sigaction(Signal::SIGBUS, BEFORE.get().unwrap_or(&default)) };
    if !is_fault {
        let _ = raise(Signal::SIGBUS);
    }
}

/// Replaces the page at `address` by zeros, if it is in one of our mappings.
fn replace_page(address: usize) -> bool {
    let blocks = std::iter::successors(Some(&FIRST), |block| block.next.get().copied());
    let Some(slot) = blocks.flat_map(|block| &block.slots).find(|slot| slot.has(address)) else {
        return false;
    };
    // SYNC: lost; pairs with the Acquire in `is_lost`.
    slot.lost.store(true, Ordering::Release);
    let page = (address & !(page_size() - 1)) as *mut libc::c_void;
    // SAFETY: the page lies in a mapping that stays in this table for as long as it is mapped,
    // because its guard keeps it there. So only a page of one of our files is replaced.
    let zeros = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page, page_size(), protection, flags, -1, 0)
    };
    zeros != libc::MAP_FAILED
}
