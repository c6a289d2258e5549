//! Words that other threads and processes may load and store at any moment.
//!
//! All shared memory is accessed as atomic words of 64 bits. Whatever others store meanwhile, a
//! load returns some value, and there is no undefined behaviour. A half is part of its whole word.
//! Runs of bytes are copied word by word, in no particular order; only a protocol or a checksum can
//! tell whether the copy is consistent.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::checksum::crc_append;
#[cfg(target_arch = "x86_64")]
use crate::checksum::{crc_join, crc_shift};

/// Bytes in a word.
pub(super) const WORD: usize = size_of::<AtomicU64>();

/// What may be done with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Loads and stores are allowed.
    Store,
    /// Only loads are allowed: the memory is mapped read-only.
    Load,
    /// There is no memory: loads return 0, and stores do nothing.
    Nowhere,
}

/// A 64-bit word of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    word: &'a AtomicU64,
    access: Access,
}

impl<'a> Word<'a> {
    #[inline(always)]
    pub(super) fn new(word: &'a AtomicU64, access: Access) -> Word<'a> {
        Word { word, access }
    }

    /// A word in a place that is not mapped.
    pub(super) fn nowhere() -> Word<'static> {
        static NOTHING: AtomicU64 = AtomicU64::new(0);
        Word { word: &NOTHING, access: Access::Nowhere }
    }

    /// Loads the value.
    #[inline(always)]
    pub fn load(self, order: Ordering) -> u64 {
        // Read-only memory allows only relaxed atomic loads.
        let value = self.word.load(Ordering::Relaxed);
        if order != Ordering::Relaxed {
            fence(order);
        }
        value
    }

    /// Stores a value.
    ///
    /// # Panics
    /// If the memory is mapped read-only. So does every method here that stores.
    #[inline(always)]
    pub fn store(self, value: u64, order: Ordering) {
        if self.may_store() {
            self.word.store(value, order);
        }
    }

    /// Adds to the value. Returns the old one.
    pub fn fetch_add(self, value: u64, order: Ordering) -> u64 {
        if self.may_store() { self.word.fetch_add(value, order) } else { 0 }
    }

    /// Stores `to` if the value is `from`.
    ///
    /// # Errors
    /// The value, if it is a different one.
    pub fn compare_exchange(
        self,
        from: u64,
        to: u64,
        done: Ordering,
        failed: Ordering,
    ) -> Result<u64, u64> {
        match self.may_store() {
            true => self.word.compare_exchange(from, to, done, failed),
            false => Err(0),
        }
    }

    #[inline(always)]
    fn may_store(self) -> bool {
        match self.access {
            Access::Store => true,
            Access::Load => read_only(),
            Access::Nowhere => false,
        }
    }
}

/// 32 bits of a word.
#[derive(Clone, Copy, Debug)]
pub struct Half<'a> {
    word: Word<'a>,
    /// Number of bits below it in the word.
    shift: u32,
}

impl<'a> Half<'a> {
    /// Returns the upper or the lower half of a word.
    #[inline(always)]
    pub(super) fn of(word: Word<'a>, upper: bool) -> Half<'a> {
        Half { word, shift: u32::from(upper) * u32::BITS }
    }

    /// Loads the value.
    #[inline(always)]
    pub fn load(self, order: Ordering) -> u32 {
        (self.word.load(order) >> self.shift) as u32
    }

    /// Stores a value. The other half is kept, even if another thread stores to it at the same
    /// time.
    pub fn store(self, value: u32, order: Ordering) {
        self.update(|_| value, order);
    }

    /// Adds to the value. Returns the old one.
    pub fn fetch_add(self, value: u32, order: Ordering) -> u32 {
        self.update(|old| old.wrapping_add(value), order)
    }

    fn update(self, change: impl Fn(u32) -> u32, order: Ordering) -> u32 {
        let mask = u64::from(u32::MAX) << self.shift;
        let mut old = self.word.load(Ordering::Relaxed);
        while self.word.may_store() {
            let half = (old >> self.shift) as u32;
            let new = old & !mask | u64::from(change(half)) << self.shift;
            match self.word.compare_exchange(old, new, order, Ordering::Relaxed) {
                Ok(_) => return half,
                Err(now) => old = now,
            }
        }
        0
    }

    /// Returns the address, for a futex call. It is valid as long as the word is borrowed.
    pub(super) fn address(self) -> *const u32 {
        let word: *const u32 = self.word.word.as_ptr().cast_const().cast();
        // The lower half comes first.
        word.wrapping_add(usize::from(self.shift != 0))
    }
}

#[cold]
#[inline(never)]
pub(super) fn read_only() -> ! {
    panic!("a store to memory that is mapped for reading only")
}

/// Stores bytes at byte `at`, word by word, in no particular order.
///
/// A first or last word that is only partly covered is stored with the rest as it was, so nobody
/// else may store to that word at the same time.
///
/// # Panics
/// If the words end before.
#[inline(always)]
pub(super) fn put(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    if !at.is_multiple_of(WORD) || !bytes.len().is_multiple_of(WORD) {
        return put_parts(words, at, bytes);
    }
    let to = part(words, at, bytes.len());
    store_run(to, bytes.as_chunks::<WORD>().0);
}

#[inline(never)]
fn put_parts(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    let (first, before) = (at - at % WORD, at % WORD);
    let to = part(words, first, before + bytes.len());
    let (head, rest) = bytes.split_at(bytes.len().min((WORD - before) % WORD));
    let (head_words, to) = to.split_at(usize::from(!head.is_empty()));
    let (whole, tail) = rest.as_chunks::<WORD>();
    for word in head_words {
        put_within(word, before, head);
    }
    let (to, tail_words) = to.split_at(whole.len());
    store_run(to, whole);
    for word in tail_words {
        put_within(word, 0, tail);
    }
}

/// Stores the words one by one, each with a relaxed store.
#[inline(always)]
fn store_run(to: &[AtomicU64], from: &[[u8; WORD]]) {
    #[cfg(target_arch = "x86_64")]
    if to.len() >= RUN_WORDS && to.len() == from.len() {
        // SAFETY: both have `to.len()` words and do not overlap, since memory lent as bytes is
        // never lent as words. The instruction does the same as the loop below, only faster.
        unsafe { copy_run(from.as_ptr().cast(), to.as_ptr().cast_mut().cast(), to.len()) }
        return;
    }
    for (word, bytes) in to.iter().zip(from) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
}

/// Loads the words one by one, each with a relaxed load.
#[inline(always)]
fn load_run(from: &[AtomicU64], into: &mut [[u8; WORD]]) {
    #[cfg(target_arch = "x86_64")]
    if from.len() >= RUN_WORDS && from.len() == into.len() {
        // SAFETY: as in `store_run`.
        unsafe { copy_run(from.as_ptr().cast(), into.as_mut_ptr().cast(), from.len()) }
        return;
    }
    for (word, bytes) in from.iter().zip(into) {
        *bytes = word.load(Ordering::Relaxed).to_le_bytes();
    }
}

/// Minimum number of words to copy with one instruction. The compiler does not combine atomic loads
/// and stores, so a long run takes twice the time.
#[cfg(target_arch = "x86_64")]
const RUN_WORDS: usize = 64;

/// Copies `count` words in ascending order.
///
/// # Safety
/// Both places have `count` words. Those that are stored to are atomics, or mutably borrowed.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_run(from: *const u64, to: *mut u64, count: usize) {
    // SAFETY: promised by the caller. The compiler sees no access here from which it could conclude
    // that the memory does not change.
    unsafe {
        std::arch::asm!(
            "rep movsq",
            inout("rcx") count => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Stores bytes within one word.
fn put_within(word: &AtomicU64, at: usize, bytes: &[u8]) {
    let mut all = word.load(Ordering::Relaxed).to_le_bytes();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    word.store(u64::from_le_bytes(all), Ordering::Relaxed);
}

/// Copies bytes from byte `at`, word by word, in no particular order.
///
/// # Panics
/// If the words end before.
#[inline(always)]
pub(super) fn get(words: &[AtomicU64], at: usize, into: &mut [u8]) {
    if !at.is_multiple_of(WORD) || !into.len().is_multiple_of(WORD) {
        return get_parts(words, at, into);
    }
    let from = part(words, at, into.len());
    load_run(from, into.as_chunks_mut::<WORD>().0);
}

#[inline(never)]
fn get_parts(words: &[AtomicU64], at: usize, into: &mut [u8]) {
    let (first, before) = (at - at % WORD, at % WORD);
    let from = part(words, first, before + into.len());
    let head = into.len().min((WORD - before) % WORD);
    let (head, rest) = into.split_at_mut(head);
    let (head_words, from) = from.split_at(usize::from(!head.is_empty()));
    let (whole, tail) = rest.as_chunks_mut::<WORD>();
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed).to_le_bytes();
    for word in head_words {
        head.copy_from_slice(&load(word)[before..before + head.len()]);
    }
    let (from, tail_words) = from.split_at(whole.len());
    load_run(from, whole);
    for word in tail_words {
        tail.copy_from_slice(&load(word)[..tail.len()]);
    }
}

/// Returns the CRC-32C of `len` bytes from byte `at` on. Each word is loaded once, in no particular
/// order.
///
/// # Panics
/// If the words end before.
pub(super) fn crc(words: &[AtomicU64], at: usize, len: usize) -> u32 {
    let mut edge = [0; WORD];
    let before = len.min((WORD - at % WORD) % WORD);
    get(words, at, &mut edge[..before]);
    let sum = crc_append(0, &edge[..before]);
    let (begin, behind) = (at + before, (len - before) % WORD);
    let whole = len - before - behind;
    let sum = crc_words(sum, part(words, begin, whole));
    get(words, begin + whole, &mut edge[..behind]);
    crc_append(sum, &edge[..behind])
}

/// Number of words in each of three runs that are summed in parallel: a processor sums three in the
/// time of one.
#[cfg(target_arch = "x86_64")]
const LANE: usize = 512;

/// Continues a CRC-32C over words.
fn crc_words(sum: u32, words: &[AtomicU64]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: this processor supports the instructions.
        return unsafe { crc_lanes(sum, words) };
    }
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed).to_le_bytes();
    words.iter().fold(sum, |sum, word| crc_append(sum, &load(word)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn crc_lanes(sum: u32, words: &[AtomicU64]) -> u32 {
    use std::arch::x86_64::_mm_crc32_u64;
    const SHIFT: u32 = crc_shift(LANE * WORD);
    let add = |sum: u64, word: &AtomicU64| _mm_crc32_u64(sum, word.load(Ordering::Relaxed));
    let (mut sum, none) = (sum, u64::from(!0u32));
    let mut runs = words.chunks_exact(3 * LANE);
    for run in &mut runs {
        let (first, rest) = run.split_at(LANE);
        let (second, third) = rest.split_at(LANE);
        let mut sums = (u64::from(!sum), none, none);
        for ((a, b), c) in first.iter().zip(second).zip(third) {
            sums = (add(sums.0, a), add(sums.1, b), add(sums.2, c));
        }
        let first_two = crc_join(!sums.0 as u32, !sums.1 as u32, SHIFT);
        sum = crc_join(first_two, !sums.2 as u32, SHIFT);
    }
    !runs.remainder().iter().fold(u64::from(!sum), add) as u32
}

/// Returns the words that contain `len` bytes from byte `at` on. `at` is the start of a word.
#[inline(always)]
fn part(words: &[AtomicU64], at: usize, len: usize) -> &[AtomicU64] {
    let (from, count) = (at / WORD, len.div_ceil(WORD));
    match words.get(from..).and_then(|words| words.get(..count)) {
        Some(part) => part,
        None => outside(at, len, words.len() * WORD),
    }
}

#[cold]
#[inline(never)]
pub(super) fn outside(offset: usize, len: usize, end: usize) -> ! {
    panic!("{len} bytes at {offset} of a mapping of {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(n: usize) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(u64::MAX)).collect()
    }

    #[test]
    fn bytes_at_every_place_and_of_every_length_come_back() {
        for at in 0..20 {
            for len in 0..=40 - at {
                let words = words(5);
                let bytes: Vec<u8> = (1..=len as u8).collect();
                put(&words, at, &bytes);
                let mut all = [0; 40];
                get(&words, 0, &mut all);
                let mut expected = [0xff; 40];
                expected[at..at + len].copy_from_slice(&bytes);
                assert_eq!(all, expected, "{len} bytes at {at}");
                let mut back = vec![0; len];
                get(&words, at, &mut back);
                assert_eq!(back, bytes, "{len} bytes at {at}");
            }
        }
    }

    #[test]
    fn long_runs_come_back() {
        let bytes: Vec<u8> = (0..4096u32).map(|i| (i % 251) as u8).collect();
        for (at, len) in [(0, 504), (0, 512), (8, 520), (3, 4000), (0, 4096)] {
            let words = words(512);
            put(&words, at, &bytes[..len]);
            let mut back = vec![0; 4096];
            get(&words, 0, &mut back);
            let beside = |part: &[u8]| part.iter().all(|byte| *byte == 0xff);
            assert!(beside(&back[..at]) && beside(&back[at + len..]), "{len} bytes at {at}");
            assert_eq!(back[at..at + len], bytes[..len], "{len} bytes at {at}");
            let mut part = vec![0; len];
            get(&words, at, &mut part);
            assert_eq!(part, bytes[..len], "{len} bytes at {at}");
        }
    }

    #[test]
    fn checksums_of_words_are_those_of_their_bytes() {
        let bytes: Vec<u8> = (0..65_536u32).map(|i| (i * i % 251) as u8).collect();
        let words = words(bytes.len() / WORD);
        put(&words, 0, &bytes);
        let lane = 3 * 512 * WORD;
        for at in [0, 3, 8, 65_000] {
            for len in [0, 1, 5, 8, 13, 4096, lane - 1, lane, lane + 9, 3 * lane + 77, 65_536 - at]
            {
                let len = len.min(bytes.len() - at);
                let sum = crate::checksum::crc(&bytes[at..at + len]);
                assert_eq!(crc(&words, at, len), sum, "{len} bytes at {at}");
            }
        }
    }

    #[test]
    fn bytes_behind_the_last_word_are_refused() {
        for (at, len) in [(0, 41), (36, 5), (40, 1), (41, 0), (usize::MAX - 7, 8), (48, 0)] {
            let caught = std::panic::catch_unwind(|| {
                let mut into = vec![0; len];
                get(&words(5), at, &mut into);
            });
            assert_eq!(caught.is_err(), at.saturating_add(len) > 40, "{len} bytes at {at}");
            let caught = std::panic::catch_unwind(|| put(&words(5), at, &vec![0; len]));
            assert_eq!(caught.is_err(), at.saturating_add(len) > 40, "{len} bytes at {at}");
        }
    }

    #[test]
    fn half_a_word_leaves_the_other_half_alone() {
        let word = AtomicU64::new(0x1111_2222_3333_4444);
        let (lower, upper) =
            [false, true].map(|upper| Half::of(Word::new(&word, Access::Store), upper)).into();
        assert_eq!(
            (lower.load(Ordering::Relaxed), upper.load(Ordering::Relaxed)),
            (0x3333_4444, 0x1111_2222)
        );
        lower.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(lower.fetch_add(1, Ordering::Relaxed), u32::MAX);
        assert_eq!(word.load(Ordering::Relaxed), 0x1111_2222_0000_0000);
        upper.store(7, Ordering::Release);
        assert_eq!(word.load(Ordering::Relaxed), 7 << 32);
        assert_eq!(upper.address() as usize - lower.address() as usize, 4);
    }

    #[test]
    fn nothing_is_stored_where_nothing_is_mapped() {
        let nowhere = Word::nowhere();
        nowhere.store(7, Ordering::Relaxed);
        nowhere.fetch_add(7, Ordering::Relaxed);
        assert!(nowhere.compare_exchange(0, 7, Ordering::Relaxed, Ordering::Relaxed).is_err());
        Half::of(nowhere, true).store(7, Ordering::Relaxed);
        assert_eq!(Word::nowhere().load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_store_to_memory_that_is_for_reading_panics() {
        let word = AtomicU64::new(7);
        let read = Word::new(&word, Access::Load);
        assert_eq!(read.load(Ordering::Acquire), 7);
        let stores: [fn(Word<'_>); 4] = [
            |word| word.store(1, Ordering::Relaxed),
            |word| _ = word.fetch_add(1, Ordering::Relaxed),
            |word| _ = word.compare_exchange(7, 1, Ordering::Relaxed, Ordering::Relaxed),
            |word| Half::of(word, false).store(1, Ordering::Relaxed),
        ];
        for store in stores {
            assert!(std::panic::catch_unwind(|| store(read)).is_err());
        }
        assert_eq!(read.load(Ordering::Acquire), 7);
    }
}
