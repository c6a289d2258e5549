//! Sleeps until another process changes a word, and wakes sleepers.

use std::time::Duration;

use crate::os::words::Half;

/// Maximum number of words to wait for at once (the kernel's limit).
pub const MAX_WORDS: usize = 128;

/// The kernel's `struct futex_waitv`.
#[repr(C)]
#[derive(Clone, Copy)]
struct WaitWord {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX_SIZE_U32: u32 = 2;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Someone woke us, a word did not have the expected value, or a signal arrived: check the
    /// words.
    Look,
    /// The timeout has passed.
    Timeout,
    /// This kernel cannot wait for several words.
    Unsupported,
}

/// Sleeps while every word has the value given with it, for at most `timeout`. Words may be in
/// read-only mappings.
///
/// # Panics
/// Without words, or with more than [`MAX_WORDS`].
pub fn wait(words: &[(Half<'_>, u32)], timeout: Duration) -> Waited {
    assert!(!words.is_empty() && words.len() <= MAX_WORDS);
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    let status = match words {
        [(word, value)] => wait_for_one(*word, *value, &time),
        several => wait_for_several(several, timeout),
    };
    match status {
        -1 => match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ETIMEDOUT) => Waited::Timeout,
            Some(libc::ENOSYS) => Waited::Unsupported,
            _ => Waited::Look,
        },
        _ => Waited::Look,
    }
}

fn wait_for_one(word: Half<'_>, value: u32, time: &libc::timespec) -> libc::c_long {
    // SAFETY: the word lives in a mapping that `word` borrows; the kernel only reads it and `time`.
    unsafe {
        libc::syscall(libc::SYS_futex, word.address(), libc::FUTEX_WAIT, value, time, 0usize, 0)
    }
}

fn wait_for_several(words: &[(Half<'_>, u32)], timeout: Duration) -> libc::c_long {
    let waiters: Vec<WaitWord> = words
        .iter()
        .map(|(word, value)| WaitWord {
            value: u64::from(*value),
            address: word.address() as u64,
            flags: FUTEX_SIZE_U32,
            reserved: 0,
        })
        .collect();
    // This call takes an absolute time of the monotonic clock.
    let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `until` is a local; `waiters` outlives the call. The kernel only reads it and the
    // words, whose mappings `words` borrows.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut until);
        let nanos = until.tv_nsec as u64 + u64::from(timeout.subsec_nanos());
        until.tv_sec += timeout.as_secs() as libc::time_t + (nanos / 1_000_000_000) as i64;
        until.tv_nsec = (nanos % 1_000_000_000) as libc::c_long;
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len() as u32,
            0u32,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    }
}

/// Wakes all sleepers of a word.
pub fn wake_all(word: Half<'_>) {
    // SAFETY: the word lives in a mapping that `word` borrows; the kernel uses its address only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.address(),
            libc::FUTEX_WAKE,
            i32::MAX,
            0usize,
            0usize,
            0,
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::os::words::{Access, Word};

    fn half(word: &AtomicU64) -> Half<'_> {
        Half::of(Word::new(word, Access::Store), true)
    }

    #[test]
    fn a_word_that_changed_is_not_waited_for() {
        let (one, two) = (AtomicU64::new(7 << 32), AtomicU64::new(8 << 32));
        let (one, two) = (half(&one), half(&two));
        let long = Duration::from_secs(60);
        assert_eq!(wait(&[(one, 6)], long), Waited::Look);
        assert_ne!(wait(&[(one, 7), (two, 9)], long), Waited::Timeout);
        let short = Duration::from_millis(2);
        assert_eq!(wait(&[(one, 7)], short), Waited::Timeout);
        assert_ne!(wait(&[(one, 7), (two, 8)], short), Waited::Look);
    }

    #[test]
    fn a_sleeper_is_woken() {
        for several in [false, true] {
            let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
            let theirs = Arc::clone(&words);
            let sleeper = std::thread::spawn(move || {
                let began = Instant::now();
                let (other, word) = (half(&theirs.0), half(&theirs.1));
                while word.load(Ordering::Acquire) == 0 {
                    let long = Duration::from_secs(60);
                    let waited = match several {
                        true => wait(&[(other, 0), (word, 0)], long),
                        false => wait(&[(word, 0)], long),
                    };
                    if waited == Waited::Unsupported {
                        break;
                    }
                }
                began.elapsed()
            });
            half(&words.1).store(1, Ordering::Release);
            while !sleeper.is_finished() {
                wake_all(half(&words.1));
                std::thread::yield_now();
            }
            assert!(sleeper.join().unwrap() < Duration::from_secs(30));
        }
    }
}
