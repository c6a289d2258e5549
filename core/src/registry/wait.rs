//! The wait file, on which a feed's followers sleep (FORMAT.md, NAME.wait).
//!
//! A follower announces that it is about to sleep, checks for new records once more, and sleeps.
//! The writer publishes and then checks whether a follower announced itself. Each side stores,
//! passes a fence, and loads what the other side stores. At least one of the two loads sees the
//! other side's store, so no wake-up is missed. The process that wakes clears the announcement, so
//! a follower that is killed in its sleep costs only one wake-up.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::FORMAT_VERSION;
use crate::bytes::{get_id, get_u32, get_u64, put, put_u32, put_u64};
use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::os::futex::{self, Waited};
use crate::os::memory::{Memory, Site};
use crate::os::{file, map::Map};
use crate::registry::feed::Identity;
use crate::registry::global::check_head;

const MAGIC: &[u8; 8] = b"DEEPWWAI";
const PAGE_SIZE: usize = 4096;
const HEADER_SIZE: usize = 128;
const STORE_ID_AT: usize = 16;
const FEED_ID_AT: usize = 32;
const HEADER_CRC_AT: usize = 124;
/// 1 once a follower has announced that it is about to sleep.
pub const WAITERS_AT: usize = 256;
/// The futex word that followers sleep on. Each wake-up raises it.
pub const WAKE_AT: usize = 320;
const OVERRUNS_AT: usize = 384;
const OVERRUN_RECORDS_AT: usize = 392;

const WAITERS: Site = Site::relaxed("wait.waiters");
// SYNC: waiters; pairs with `ARM`: either the writer's load after this fence sees the follower's
// store, or the follower sees what was published before it.
const LOOK: Site = Site::new("wait.look", Ordering::SeqCst);
// SYNC: waiters; pairs with `LOOK`.
const ARM: Site = Site::new("wait.arm", Ordering::SeqCst);
// SYNC: wake; pairs with `SEE_WAKE`: a follower that sees the raised word announces itself after
// the announcement was cleared.
const RAISE: Site = Site::new("wait.raise", Ordering::Release);
// SYNC: wake; pairs with `RAISE`.
const SEE_WAKE: Site = Site::new("wait.see_wake", Ordering::Acquire);

/// The sites whose ordering the handshake depends on. A loom test shows that each one is needed.
pub const SITES: [Site; 4] = [LOOK, ARM, RAISE, SEE_WAKE];

/// Announces that the caller is about to sleep and returns the word to sleep on. The caller must
/// check for new records once more before it sleeps.
pub fn arm(memory: &impl Memory) -> u32 {
    let word = memory.load_half(WAKE_AT, SEE_WAKE);
    memory.store_half(WAITERS_AT, 1, WAITERS);
    memory.fence(ARM);
    word
}

/// Whether a follower has announced itself since the last wake-up. Call it after publishing.
#[inline]
pub fn look(memory: &impl Memory) -> bool {
    memory.fence(LOOK);
    memory.load_half(WAITERS_AT, WAITERS) != 0
}

/// Raises the word, so that no follower that armed before goes to sleep. The caller must still wake
/// those that sleep already.
pub fn raise(memory: &impl Memory) {
    // Clear before raising the word: the next look then sees a follower that arms after the raise.
    memory.store_half(WAITERS_AT, 0, WAITERS);
    memory.add_half(WAKE_AT, 1, RAISE);
}

/// A feed's `NAME.wait`, mapped for writing by the writer and by followers with permission.
pub struct WaitFile {
    map: Map,
    identity: (u64, u64),
}

/// Shows that the caller announced that it is about to sleep; see [`WaitFile::arm`].
#[derive(Clone, Copy, Debug)]
pub struct Armed(u32);

impl WaitFile {
    /// Opens the file, or creates it if it is missing or not this feed's. Only the holder of the
    /// feed's lock may call this.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open_or_create(path: &Path, id: &Identity, mode: u32) -> Result<WaitFile> {
        if let Ok(old) = WaitFile::open(path, id) {
            return Ok(old);
        }
        // Whoever may read the feed may also write to its wait file.
        let file = file::create_new(path, mode | (mode & 0o444) >> 1)?;
        file::allocate(&file, path, 0, PAGE_SIZE as u64)?;
        let map = Map::writable(&file, path, PAGE_SIZE)?;
        let mut head = [0; HEADER_SIZE];
        put(&mut head, 0, MAGIC);
        put_u32(&mut head, 8, FORMAT_VERSION);
        put(&mut head, STORE_ID_AT, &id.store_id);
        put_u64(&mut head, FEED_ID_AT, id.feed_id);
        let sum = crc(&head[..HEADER_CRC_AT]);
        put_u32(&mut head, HEADER_CRC_AT, sum);
        map.write(0, &head);
        Ok(WaitFile { identity: file::identity(&file, path)?, map })
    }

    /// Opens the file for a follower.
    ///
    /// # Errors
    /// [`Error::Io`], also if the file is not writable; [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, id: &Identity) -> Result<WaitFile> {
        let file = file::open_write(path)?;
        let map = Map::writable(&file, path, PAGE_SIZE)?;
        WaitFile::of(&file, path, id, map)
    }

    /// Reads how often followers of a feed were lapped, and how many records they lost.
    ///
    /// # Errors
    /// As [`WaitFile::open`], except that the file need not be writable.
    pub fn overruns_in(path: &Path, id: &Identity) -> Result<(u64, u64)> {
        let file = file::open_read(path)?;
        let map = Map::read_only(&file, path, PAGE_SIZE)?;
        Ok(WaitFile::of(&file, path, id, map)?.overruns())
    }

    fn of(file: &File, path: &Path, id: &Identity, map: Map) -> Result<WaitFile> {
        let size = file::size(file, path)?;
        if size != PAGE_SIZE as u64 {
            return Err(Error::damaged(path, size, "a wait file is 4096 bytes"));
        }
        let mut head = [0; HEADER_SIZE];
        map.read(0, &mut head);
        check_head(path, &head, MAGIC, HEADER_SIZE)?;
        let own = get_id(&head, STORE_ID_AT) == id.store_id
            && get_u64(&head, FEED_ID_AT) == id.feed_id
            && crc(&head[..HEADER_CRC_AT]) == get_u32(&head, HEADER_CRC_AT);
        if !own {
            return Err(Error::damaged(path, STORE_ID_AT as u64, "it belongs to another feed"));
        }
        Ok(WaitFile { identity: file::identity(file, path)?, map })
    }

    /// Returns device and inode of the file that is mapped.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether a follower has announced that it is about to sleep, and was not woken since.
    pub fn is_armed(&self) -> bool {
        self.map.u32_at(WAITERS_AT).load(Ordering::Relaxed) != 0
    }

    /// Wakes every follower that sleeps. The writer calls it after publishing.
    #[inline]
    pub fn wake(&self) {
        if look(&self.map) {
            self.wake_sleepers();
        }
    }

    #[cold]
    fn wake_sleepers(&self) {
        raise(&self.map);
        futex::wake_all(self.map.u32_at(WAKE_AT));
    }

    /// Announces that the caller is about to sleep. The caller must check for new records once more
    /// after this, and only then call [`WaitFile::sleep`].
    pub fn arm(&self) -> Armed {
        Armed(arm(&self.map))
    }

    /// Sleeps until a wake-up that came after `armed`, but no longer than `timeout`.
    pub fn sleep(&self, armed: Armed, timeout: Duration) -> Waited {
        futex::wait(&[(self.map.u32_at(WAKE_AT), armed.0)], timeout)
    }

    /// Sleeps until any of several feeds is woken, but no longer than `timeout`.
    pub fn sleep_any(files: &[(&WaitFile, Armed)], timeout: Duration) -> Waited {
        let words: Vec<_> =
            files.iter().map(|(file, armed)| (file.map.u32_at(WAKE_AT), armed.0)).collect();
        futex::wait(&words, timeout)
    }

    /// Counts that a follower was lapped and lost this many records.
    pub fn count_overrun(&self, records: u64) {
        self.map.u64_at(OVERRUNS_AT).fetch_add(1, Ordering::Relaxed);
        self.map.u64_at(OVERRUN_RECORDS_AT).fetch_add(records, Ordering::Relaxed);
    }

    fn overruns(&self) -> (u64, u64) {
        let load = |at| self.map.u64_at(at).load(Ordering::Relaxed);
        (load(OVERRUNS_AT), load(OVERRUN_RECORDS_AT))
    }
}
