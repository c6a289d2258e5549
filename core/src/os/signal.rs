//! Termination signals for a program that blocks in reads of its input, or in writes.
//!
//! A flag alone would not do: a signal may arrive between the check of the flag and the blocking
//! call. So the handler also replaces the input's descriptor by /dev/null: a read in progress is
//! interrupted, and later reads find the end of input at once. In a program without such an input,
//! SIGALRM interrupts system calls every [`AGAIN_MS`] from then on, so that the program checks the
//! flag again.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::{Error, Result};

static CAUGHT: AtomicI32 = AtomicI32::new(0);
static INPUT: AtomicI32 = AtomicI32::new(-1);
static NULL: AtomicI32 = AtomicI32::new(-1);

const AGAIN_MS: libc::suseconds_t = 50;

const TERMINATING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Does nothing: a handled signal ends a system call with EINTR.
extern "C" fn on_alarm(_: libc::c_int) {}

extern "C" fn on_signal(number: libc::c_int) {
    CAUGHT.store(number, Ordering::SeqCst);
    let (null, input) = (NULL.load(Ordering::SeqCst), INPUT.load(Ordering::SeqCst));
    if input < 0 {
        let period = libc::timeval { tv_sec: 0, tv_usec: AGAIN_MS * 1000 };
        let timer = libc::itimerval { it_interval: period, it_value: period };
        // SAFETY: setitimer is a bare system call that reads one struct. It cannot fail with a
        // valid one, so errno does not change.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    } else if null >= 0 {
        // SAFETY: dup2 is async-signal-safe; `Terminator` keeps both descriptors open; errno is
        // restored for the call that was interrupted.
        unsafe {
            let errno = libc::__errno_location();
            let kept = *errno;
            libc::dup2(null, input);
            *errno = kept;
        }
    }
}

/// Catches SIGTERM, SIGINT and SIGHUP once each. A second signal of the same kind kills as usual.
pub struct Terminator {
    _null: File,
}

impl Terminator {
    /// Installs the handlers. An ignored signal (nohup) stays ignored.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn install() -> Result<Terminator> {
        let null = File::open("/dev/null").map_err(|e| Error::io("cannot open", "/dev/null", e))?;
        NULL.store(null.as_raw_fd(), Ordering::SeqCst);
        let action =
            SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESETHAND, SigSet::empty());
        let alarm =
            SigAction::new(SigHandler::Handler(on_alarm), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGALRM, &alarm) }
            .map_err(|e| Error::io("cannot handle SIGALRM of", "this process", e.into()))?;
        for signal in TERMINATING {
            // SAFETY: the handler only stores to atomics and calls dup2 or setitimer, which are
            // async-signal-safe.
            let old = unsafe { sigaction(signal, &action) };
            if old.is_ok_and(|old| matches!(old.handler(), SigHandler::SigIgn)) {
                let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
                // SAFETY: ignoring a signal runs none of our code.
                let _ = unsafe { sigaction(signal, &ignore) };
            }
        }
        Ok(Terminator { _null: null })
    }

    /// Names the descriptor that the program reads. A signal makes it an empty input.
    pub fn watch(&self, input: RawFd) {
        INPUT.store(input, Ordering::SeqCst);
        if self.caught().is_some() {
            on_signal(CAUGHT.load(Ordering::SeqCst));
        }
    }

    /// Returns the signal that was caught, if any.
    pub fn caught(&self) -> Option<i32> {
        caught()
    }
}

/// Returns the signal that a [`Terminator`] has caught, if any.
pub fn caught() -> Option<i32> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => None,
        number => Some(number),
    }
}

/// Ends the process by signal `number`, as if it had not been caught, so that the parent sees why.
pub fn reraise(number: i32) -> ! {
    if let Ok(signal) = Signal::try_from(number) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: restores the default disposition; none of our handlers can run any more.
        let _ = unsafe { sigaction(signal, &default) };
        let _ = nix::sys::signal::raise(signal);
    }
    std::process::exit(128 + number)
}

/// Makes a write beyond RLIMIT_FSIZE fail with EFBIG. By default the signal would kill the process.
pub fn ignore_file_size_signal() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs none of our code.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &ignore) };
}

/// Blocks termination signals in the calling thread, so that the reading thread gets them.
pub fn block_in_this_thread() {
    let mut set = SigSet::empty();
    for signal in TERMINATING {
        set.add(signal);
    }
    let _ = set.thread_block();
}
