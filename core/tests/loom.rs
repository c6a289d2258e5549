//! Runs the protocols between processes in a model checker, in every order that the memory model
//! allows: the ring's writer and a reader that it laps, a ring that replaces another, the wait file
//! that followers sleep on, and the place of a chunk. Each named memory order is weakened once, and
//! its model must then fail.
//!
//! The models run the library's own code on memory that belongs to the checker.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::atomic::Ordering;

use deepwater::os::memory::{Memory, Site};
use deepwater::registry::{place, wait};
use deepwater::ring::protocol;
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Offset of a ring's records, as in the library.
const RECORDS_AT: usize = 4096;

/// Shared words that the checker watches.
struct Shared {
    words: Vec<(usize, AtomicU64)>,
    halves: Vec<(usize, AtomicU32)>,
    /// Size of a ring's records in bytes. Offsets beyond it wrap around.
    ring_bytes: usize,
    /// The site whose memory order is weakened.
    weak: Option<&'static str>,
}

impl Shared {
    fn new(words: &[usize], halves: &[usize], ring_bytes: usize, weak: Weak) -> Shared {
        Shared {
            words: words.iter().map(|at| (*at, AtomicU64::new(0))).collect(),
            halves: halves.iter().map(|at| (*at, AtomicU32::new(0))).collect(),
            ring_bytes,
            weak,
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        let at = match at.checked_sub(RECORDS_AT) {
            Some(behind) if self.ring_bytes > 0 => RECORDS_AT + behind % self.ring_bytes,
            _ => at,
        };
        &self.words.iter().find(|(own, _)| *own == at).unwrap().1
    }

    fn half(&self, at: usize) -> &AtomicU32 {
        &self.halves.iter().find(|(own, _)| *own == at).unwrap().1
    }

    fn is_weak(&self, site: Site) -> bool {
        self.weak == Some(site.name)
    }

    fn order(&self, site: Site) -> Ordering {
        if self.is_weak(site) { Ordering::Relaxed } else { site.order }
    }
}

type Weak = Option<&'static str>;

impl Memory for Shared {
    fn load(&self, at: usize, site: Site) -> u64 {
        self.word(at).load(self.order(site))
    }

    fn store(&self, at: usize, value: u64, site: Site) {
        self.word(at).store(value, self.order(site));
    }

    fn swap_if(&self, at: usize, from: u64, to: u64, site: Site) -> bool {
        self.word(at).compare_exchange(from, to, self.order(site), Ordering::Relaxed).is_ok()
    }

    fn load_half(&self, at: usize, site: Site) -> u32 {
        if self.is_weak(site) {
            // The checker runs the steps of each thread in program order. Without Acquire, the
            // store to another word that follows this load may come before it.
            self.half(wait::WAITERS_AT).store(1, Ordering::Relaxed);
        }
        self.half(at).load(self.order(site))
    }

    fn store_half(&self, at: usize, value: u32, site: Site) {
        if value == 0 && self.weak == Some("wait.raise") {
            // As above: without Release, this store may come after the next one. `add_half` makes
            // it there.
            return;
        }
        self.half(at).store(value, self.order(site));
    }

    fn add_half(&self, at: usize, value: u32, site: Site) {
        self.half(at).fetch_add(value, self.order(site));
        if self.is_weak(site) {
            self.half(wait::WAITERS_AT).store(0, Ordering::Relaxed);
        }
    }

    fn fence(&self, site: Site) {
        if !self.is_weak(site) {
            fence(site.order);
        }
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        for (i, bytes) in bytes.as_chunks::<8>().0.iter().enumerate() {
            self.word(at + i * 8).store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    fn get(&self, at: usize, into: &mut [u8]) {
        for (i, bytes) in into.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *bytes = self.word(at + i * 8).load(Ordering::Relaxed).to_le_bytes();
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

const PUBLISHED_AT: usize = deepwater::registry::live::PUBLISHED_AT;

/// A ring that holds one record of two words. Both words are computed from the record's seq.
fn ring(weak: Weak) -> Shared {
    let words = [
        PUBLISHED_AT,
        protocol::NEWEST_END_AT,
        protocol::NEWEST_HEAD_AT,
        protocol::NEWEST_HEAD_AT + 8,
        protocol::RESERVED_AT,
        protocol::REPLACED_BY_AT,
        RECORDS_AT,
        RECORDS_AT + 8,
    ];
    Shared::new(&words, &[], 16, weak)
}

fn record(seq: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(seq + 1).to_le_bytes());
    bytes[8..].copy_from_slice(&(!seq).to_le_bytes());
    bytes
}

fn append(ring: &Shared, seq: u64) {
    protocol::reserve(ring, seq + 1);
    protocol::commit(ring, RECORDS_AT + seq as usize * 16, &record(seq), seq + 1);
}

/// Every record that a reader accepts was written, and is whole.
fn a_lapped_reader_detects_it(weak: Weak) {
    check(move || {
        let ring = Arc::new(ring(weak));
        let writers = Arc::clone(&ring);
        let writer = thread::spawn(move || {
            append(&writers, 0);
            append(&writers, 1);
        });
        let published = protocol::published(&*ring);
        for seq in 0..published {
            let mut bytes = [0; 16];
            let reserved = protocol::copy(&*ring, RECORDS_AT + seq as usize * 16, &mut bytes);
            if protocol::oldest_whole(reserved, 1) <= seq {
                assert_eq!(bytes, record(seq), "seq {seq}, reserved {reserved}");
            }
        }
        writer.join().unwrap();
    });
}

/// The record that a reader copies from beside `published` is the newest one it knows of, and
/// whole.
fn the_newest_record_is_not_mistaken_for_a_later_one(weak: Weak) {
    check(move || {
        let ring = Arc::new(ring(weak));
        let writers = Arc::clone(&ring);
        let writer = thread::spawn(move || {
            for seq in 0..2 {
                protocol::commit_one(
                    &*writers,
                    RECORDS_AT + seq * 16,
                    &record(seq as u64),
                    seq as u64 + 1,
                );
            }
        });
        let published = protocol::published(&*ring);
        let mut bytes = [0; 16];
        if published > 0 && protocol::copy_newest(&*ring, published, &mut bytes) {
            assert_eq!(bytes, record(published - 1), "published {published}");
        }
        writer.join().unwrap();
    });
}

/// A reader that has seen that a ring is replaced sees everything published in it.
fn a_replaced_ring_is_read_to_its_end(weak: Weak) {
    check(move || {
        let ring = Arc::new(ring(weak));
        let next = Arc::clone(&ring);
        let writer = thread::spawn(move || {
            // The next writer holds the lock that the last one held.
            append(&next, 0);
            protocol::replace(&*next, 7);
        });
        if protocol::replaced_by(&*ring).is_some() {
            assert_eq!(protocol::published(&*ring), 1);
        }
        writer.join().unwrap();
    });
}

/// Models the kernel: a thread sleeps only if the word is unchanged. The check is under a lock that
/// every waker takes.
struct Kernel {
    lock: Mutex<()>,
    sleepers: Condvar,
}

/// A follower reads two records that come one by one, and sleeps in between. If it misses a wake-up
/// it sleeps forever, and the checker reports that.
fn no_wake_up_is_missed(weak: Weak) {
    check(move || {
        let bell = Shared::new(&[PUBLISHED_AT], &[wait::WAITERS_AT, wait::WAKE_AT], 0, weak);
        let kernel = Kernel { lock: Mutex::new(()), sleepers: Condvar::new() };
        let shared = Arc::new((bell, kernel));
        let writers = Arc::clone(&shared);
        let writer = thread::spawn(move || {
            let (bell, kernel) = &*writers;
            for seq in 1..=2 {
                bell.word(PUBLISHED_AT).store(seq, Ordering::Release);
                if wait::look(bell) {
                    wait::raise(bell);
                    let _lock = kernel.lock.lock().unwrap();
                    kernel.sleepers.notify_all();
                }
            }
        });
        let (bell, kernel) = &*shared;
        let mut seen = 0;
        while seen < 2 {
            let word = wait::arm(bell);
            let published = bell.word(PUBLISHED_AT).load(Ordering::Acquire);
            if published == seen {
                let lock = kernel.lock.lock().unwrap();
                if bell.half(wait::WAKE_AT).load(Ordering::Relaxed) == word {
                    drop(kernel.sleepers.wait(lock).unwrap());
                }
            }
            seen = published;
        }
        writer.join().unwrap();
    });
}

const FLUSHING: u64 = 3;
const ON_DISK: u64 = 4;
const EXPIRED: u64 = 5;

/// Two threads try to collect a chunk while it is being sealed, and at most one succeeds. A thread
/// that sees that the chunk is sealed sees all of the seal.
fn a_chunk_is_collected_once(weak: Weak) {
    check(move || {
        let words: Vec<usize> = (0..128).step_by(8).collect();
        let entry = Shared::new(&words, &[], 0, weak);
        entry.word(place::WORD_AT).store(FLUSHING, Ordering::Relaxed);
        let entry = Arc::new(entry);
        let flushers = Arc::clone(&entry);
        let flusher = thread::spawn(move || {
            assert!(place::seal(&*flushers, 0, &record(6), FLUSHING, ON_DISK));
        });
        let collect = |entry: &Shared| {
            let mut bytes = [0; 128];
            let word = place::look(entry, 0, &mut bytes);
            if word != FLUSHING {
                assert_eq!(bytes[place::SEALED_AT..place::SEALED_AT + 16], record(6));
            }
            word == ON_DISK && place::swap(entry, 0, ON_DISK, EXPIRED)
        };
        let others = Arc::clone(&entry);
        let other = thread::spawn(move || collect(&others));
        let ours = collect(&entry);
        let theirs = other.join().unwrap();
        assert!(!(ours && theirs));
        flusher.join().unwrap();
    });
}

type Model = fn(Weak);

/// Returns the models of each protocol, and the sites they depend on.
fn protocols() -> [(&'static [Model], &'static [Site]); 3] {
    [
        (
            &[
                a_lapped_reader_detects_it,
                the_newest_record_is_not_mistaken_for_a_later_one,
                a_replaced_ring_is_read_to_its_end,
            ],
            &protocol::SITES,
        ),
        (&[no_wake_up_is_missed], &wait::SITES),
        (&[a_chunk_is_collected_once], &place::SITES),
    ]
}

#[test]
fn the_protocols_hold() {
    for (models, _) in protocols() {
        models.iter().for_each(|model| model(None));
    }
}

/// Names the site to weaken. It is set for a child process that tests only this site.
const WEAK_VARIABLE: &str = "DEEPWATER_LOOM_WEAK";
/// Exit status of that process when a model fails.
const FAILED: i32 = 33;

#[test]
fn every_named_memory_order_is_needed() {
    if let Ok(name) = std::env::var(WEAK_VARIABLE) {
        return weaken(&name);
    }
    let mut names: Vec<&str> = Vec::new();
    let mut needless = Vec::new();
    for site in protocols().iter().flat_map(|(_, sites)| sites.iter()) {
        assert!(site.order != Ordering::Relaxed && !names.contains(&site.name), "{site:?}");
        names.push(site.name);
        // One process per site, because a failed model cannot be unwound.
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "every_named_memory_order_is_needed", "--nocapture"])
            .env(WEAK_VARIABLE, site.name)
            .output()
            .unwrap();
        match run.status.code() {
            Some(FAILED) => {}
            Some(0) => needless.push(site.name),
            _ => panic!("{}: {}\n{}", site.name, run.status, String::from_utf8_lossy(&run.stderr)),
        }
    }
    assert!(needless.is_empty(), "no model fails without: {needless:?}");
    assert_eq!(names.len(), 14, "{names:?}");
}

/// Runs the models of a site's protocol with the site weakened.
fn weaken(name: &str) {
    std::panic::set_hook(Box::new(|what| {
        eprintln!("{what}");
        std::process::exit(FAILED);
    }));
    let name = protocols().iter().flat_map(|(_, sites)| sites.iter()).find(|s| s.name == name);
    let name = name.map(|site| site.name).unwrap();
    for (models, sites) in protocols() {
        if sites.iter().any(|site| site.name == name) {
            models.iter().for_each(|model| model(Some(name)));
        }
    }
}
