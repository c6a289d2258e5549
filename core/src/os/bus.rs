//! SIGBUS inside a mapping: the file was cut short by somebody, or a page of it cannot be read. The
//! page is replaced by one of zeros, which no checksum and no guarded word of the store takes for
//! good, and the mapping is marked lost. Whoever stores through a mapping asks for that mark before
//! it calls anything done.

use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Mappings beyond so many are not guarded; a process has two a chunk that it writes, and few
/// others.
const SLOTS: usize = 1024;
const PAGE_SIZE: usize = 4096;
/// In `start`: nobody's, and being set up.
const FREE: usize = 0;
const TAKEN: usize = 1;

struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

static MAPPED: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(FREE),
        end: AtomicUsize::new(FREE),
        lost: AtomicBool::new(false),
    }
}; SLOTS];
static BEFORE: OnceLock<SigAction> = OnceLock::new();
static INSTALLED: Once = Once::new();

/// Guards a mapping until dropped.
pub struct Guard(Option<&'static Slot>);

impl Guard {
    /// Guards `len` bytes from address `start` on.
    pub fn new(start: usize, len: usize) -> Guard {
        INSTALLED.call_once(install);
        let free = |slot: &&Slot| {
            let took =
                slot.start.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
            took.is_ok()
        };
        let slot = MAPPED.iter().find(free);
        if let Some(slot) = slot {
            slot.end.store(start + len, Ordering::Relaxed);
            slot.lost.store(false, Ordering::Relaxed);
            // SYNC: start; pairs with the Acquire in `on_bus_error`.
            slot.start.store(start, Ordering::Release);
        }
        Guard(slot)
    }

    /// Guards nothing.
    pub fn none() -> Guard {
        Guard(None)
    }

    /// Whether a page of the mapping was lost.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.0.is_some_and(|slot| slot.lost.load(Ordering::Acquire))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.start.store(FREE, Ordering::Release);
        }
    }
}

fn install() {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(on_bus_error), flags, SigSet::empty());
    // SAFETY: the handler calls nothing but mmap and sigaction, both async-signal-safe, and
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
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO, and of a SIGBUS it
    // has the address.
    let address = unsafe { (*info).si_addr() } as usize;
    let ours = MAPPED.iter().find(|slot| {
        // SYNC: start; pairs with the Release in `Guard::new`.
        let start = slot.start.load(Ordering::Acquire);
        start > TAKEN && address >= start && address < slot.end.load(Ordering::Relaxed)
    });
    if let Some(slot) = ours {
        // SYNC: lost; pairs with the Acquire in `is_lost`.
        slot.lost.store(true, Ordering::Release);
        let page = (address & !(PAGE_SIZE - 1)) as *mut libc::c_void;
        // SAFETY: the page lies in a mapping that its guard keeps in this table for as long as it
        // is mapped, so only a page of a file of ours is replaced.
        let zeros = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            libc::mmap(page, PAGE_SIZE, protection, flags, -1, 0)
        };
        if zeros != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: back to the handler that was there before, else to the default, and the same fault
    // again.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: puts back the disposition that was there before this handler, or the default.
    let _ = unsafe { sigaction(Signal::SIGBUS, BEFORE.get().unwrap_or(&default)) };
}
