//! The bell that a feed's followers sleep by (FORMAT.md, NAME.wait).
//!
//! A follower says that it is about to sleep, looks once more whether there is news, and sleeps.
//! The writer publishes and then looks whether anybody said so. Each side stores, passes a fence
//! and loads what the other one stores: of the two loads at least one sees the other's store, so
//! no wake is missed. Whoever wakes clears the word, so that a follower that was killed in its
//! sleep costs one wake and no more.

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
/// 1 once a follower has said that it is about to sleep.
pub const WAITERS_AT: usize = 256;
/// The word they sleep on, raised by each wake.
pub const WAKE_AT: usize = 320;
const OVERRUNS_AT: usize = 384;
const OVERRUN_RECORDS_AT: usize = 392;

const WAITERS: Site = Site::relaxed("wait.waiters");
// SYNC: waiters; pairs with `ARM`: either the writer's load behind this fence sees the follower's
// store, or the follower sees what was published before it.
const LOOK: Site = Site::new("wait.look", Ordering::SeqCst);
// SYNC: waiters; pairs with `LOOK`.
const ARM: Site = Site::new("wait.arm", Ordering::SeqCst);
// SYNC: wake; pairs with `SEE_WAKE`: who has seen the word raised arms after it was cleared.
const RAISE: Site = Site::new("wait.raise", Ordering::Release);
// SYNC: wake; pairs with `RAISE`.
const SEE_WAKE: Site = Site::new("wait.see_wake", Ordering::Acquire);

/// The sites whose order the handshake depends on; each is shown to be needed.
pub const SITES: [Site; 4] = [LOOK, ARM, RAISE, SEE_WAKE];

/// Says that the caller is about to sleep; returns the word to sleep on. It looks for news once
/// more before it does.
pub fn arm(memory: &impl Memory) -> u32 {
    let word = memory.load_half(WAKE_AT, SEE_WAKE);
    memory.store_half(WAITERS_AT, 1, WAITERS);
    memory.fence(ARM);
    word
}

/// Whether anybody sleeps, or is about to, since the last time that somebody did. After something
/// was published.
#[inline]
pub fn look(memory: &impl Memory) -> bool {
    memory.fence(LOOK);
    memory.load_half(WAITERS_AT, WAITERS) != 0
}

/// Raises the word, so that nobody who armed before goes to sleep; those who sleep are still to be
/// woken.
pub fn raise(memory: &impl Memory) {
    // Cleared before the word is raised: who arms after that is seen by the next look.
    memory.store_half(WAITERS_AT, 0, WAITERS);
    memory.add_half(WAKE_AT, 1, RAISE);
}

/// A feed's `NAME.wait`, mapped for writing: by the writer, and by followers who may.
pub struct WaitFile {
    map: Map,
    identity: (u64, u64),
}

/// That a follower is about to sleep; see [`WaitFile::arm`].
#[derive(Clone, Copy, Debug)]
pub struct Armed(u32);

impl WaitFile {
    /// Opens the file, or makes it anew if there is none or it is not this feed's. Only the holder
    /// of the feed's lock may.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open_or_create(path: &Path, id: &Identity, mode: u32) -> Result<WaitFile> {
        if let Ok(old) = WaitFile::open(path, id) {
            return Ok(old);
        }
        // Whoever may read the feed may say that it waits.
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

    /// Opens the file, for a follower.
    ///
    /// # Errors
    /// [`Error::Io`], where it may not be written too; [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, id: &Identity) -> Result<WaitFile> {
        let file = file::open_write(path)?;
        let map = Map::writable(&file, path, PAGE_SIZE)?;
        WaitFile::of(&file, path, id, map)
    }

    /// Reads how often followers of a feed were lapped, and how many records they lost by it.
    ///
    /// # Errors
    /// As [`WaitFile::open`], but that it need not be writable.
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

    /// Device and inode of the file that is mapped.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether a follower has said that it is about to sleep, and was not woken since.
    pub fn is_armed(&self) -> bool {
        self.map.u32_at(WAITERS_AT).load(Ordering::Relaxed) != 0
    }

    /// Wakes every follower that sleeps. The writer, after it has published.
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

    /// Says that the caller is about to sleep. It must look for news once more after this and only
    /// then call [`WaitFile::sleep`].
    pub fn arm(&self) -> Armed {
        Armed(arm(&self.map))
    }

    /// Sleeps until a wake that came after `armed`, at most `timeout`.
    pub fn sleep(&self, armed: Armed, timeout: Duration) -> Waited {
        futex::wait(&[(self.map.u32_at(WAKE_AT), armed.0)], timeout)
    }

    /// Sleeps until any of several feeds is woken, at most `timeout`.
    pub fn sleep_any(files: &[(&WaitFile, Armed)], timeout: Duration) -> Waited {
        let words: Vec<_> =
            files.iter().map(|(file, armed)| (file.map.u32_at(WAKE_AT), armed.0)).collect();
        futex::wait(&words, timeout)
    }

    /// Counts that a follower was lapped and lost so many records.
    pub fn count_overrun(&self, records: u64) {
        self.map.u64_at(OVERRUNS_AT).fetch_add(1, Ordering::Relaxed);
        self.map.u64_at(OVERRUN_RECORDS_AT).fetch_add(records, Ordering::Relaxed);
    }

    fn overruns(&self) -> (u64, u64) {
        let load = |at| self.map.u64_at(at).load(Ordering::Relaxed);
        (load(OVERRUNS_AT), load(OVERRUN_RECORDS_AT))
    }
}
