//! Termination signals for a program that sleeps in reads of its input, or in writes.
//!
//! A flag alone would lose the race between looking at it and going to sleep. So the handler also
//! puts /dev/null in the place of the input's descriptor: a read under way is interrupted, any
//! later one finds the end of input at once. A program that has no input to be watched is
//! interrupted from then on every [`AGAIN_MS`] by SIGALRM, so that it looks at the flag once more.

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

/// That it is handled at all ends a system call with EINTR.
extern "C" fn on_alarm(_: libc::c_int) {}

extern "C" fn on_signal(number: libc::c_int) {
    CAUGHT.store(number, Ordering::SeqCst);
    let (null, input) = (NULL.load(Ordering::SeqCst), INPUT.load(Ordering::SeqCst));
    if input < 0 {
        let period = libc::timeval { tv_sec: 0, tv_usec: AGAIN_MS * 1000 };
        let timer = libc::itimerval { it_interval: period, it_value: period };
        // SAFETY: setitimer is a bare system call that reads one struct; it cannot fail with a
        // valid one, so that errno stays.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    } else if null >= 0 {
        // SAFETY: dup2 is async-signal-safe; both descriptors are kept open by `Terminator`, and
        // errno is put back for whatever call was interrupted.
        unsafe {
            let errno = libc::__errno_location();
            let kept = *errno;
            libc::dup2(null, input);
            *errno = kept;
        }
    }
}

/// Catches SIGTERM, SIGINT and SIGHUP, the first of each; a second one kills as usual.
pub struct Terminator {
    _null: File,
}

impl Terminator {
    /// Installs the handlers. A signal that is ignored (nohup) stays ignored.
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
                // SAFETY: ignoring a signal runs no code of ours.
                let _ = unsafe { sigaction(signal, &ignore) };
            }
        }
        Ok(Terminator { _null: null })
    }

    /// Names the descriptor that is being read, which a signal turns into an empty input.
    pub fn watch(&self, input: RawFd) {
        INPUT.store(input, Ordering::SeqCst);
        if self.caught().is_some() {
            on_signal(CAUGHT.load(Ordering::SeqCst));
        }
    }

    /// The signal that was caught, if one was.
    pub fn caught(&self) -> Option<i32> {
        caught()
    }
}

/// The signal that a [`Terminator`] has caught, if one has.
pub fn caught() -> Option<i32> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => None,
        number => Some(number),
    }
}

/// Ends the process by `number`, as if it had never been caught, so that the parent sees why.
pub fn reraise(number: i32) -> ! {
    if let Ok(signal) = Signal::try_from(number) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: restores the default disposition; no handler of ours can run any more.
        let _ = unsafe { sigaction(signal, &default) };
        let _ = nix::sys::signal::raise(signal);
    }
    std::process::exit(128 + number)
}

/// Makes a write beyond RLIMIT_FSIZE fail with EFBIG, where the system's default is to kill the
/// process.
pub fn ignore_file_size_signal() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no code of ours.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &ignore) };
}

/// Keeps termination signals away from the calling thread, so that the reading thread gets them.
pub fn block_in_this_thread() {
    let mut set = SigSet::empty();
    for signal in TERMINATING {
        set.add(signal);
    }
    let _ = set.thread_block();
}
