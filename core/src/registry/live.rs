//! The live page: the few words that a writer and its readers share (FORMAT.md, live).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::FORMAT_VERSION;
use crate::bytes::{get_id, get_u32, get_u64, offsets, put, put_u32, put_u64};
use crate::checksum::{GUARDED_MAX, crc, guard, unguard};
use crate::error::{Error, Result};
use crate::os::map::Map;
use crate::os::{faults, file, process};
use crate::registry::feed::Identity;
use crate::registry::global::check_head;

const MAGIC: &[u8; 8] = b"DEEPWLIV";
/// The size of the page, in bytes.
pub const PAGE_SIZE: usize = 4096;
const SAMPLES: u64 = 16;
const SAMPLE_SIZE: usize = 16;

offsets! {
    [0] {
        MAGIC_AT: 8, VERSION_AT: 4, RESERVED_AT: 4, STORE_ID_AT: 16, FEED_ID_AT: 8,
        LAYOUT_HASH_AT: 8, HEADER_RESERVED_AT: 76, HEADER_CRC_AT: 4,
    } = 128;
    [0] {
        SESSION_ID: 8, PID: 8, PID_START: 8, DEVICE: 8, INODE: 8, BOOT_ID: 16, OPENED: 8,
        STAMP_CRC: 8,
    } = STAMP_SIZE;
    [448] {
        LAST_PUBLISH_US_AT: 8, LAST_PUBLISH_BOOT_AT: 8, RUNNING_MAX_AT: 8, REJECTED_AT: 8,
        PASSED_OVER_AT: 8, LATE_AT: 8, DURABLE_AT: 8, TICK_RESERVED_AT: 8,
        SAMPLES_AT: SAMPLE_SIZE * SAMPLES as usize, SAMPLE_COUNT_AT: 8,
    } = 776;
}
const STAMP_SIZE: usize = 72;
/// Two stamps. A session overwrites the older one, so one is always intact.
const STAMPS_AT: [usize; 2] = [128, 1536];
const STATE_AT: usize = 256;
/// Offset of `published`. It decides which records exist: all below this seq.
pub const PUBLISHED_AT: usize = 320;
const SEGMENT_AT: usize = 1024;
/// Offsets of the vouchers, two guarded words. One of them always equals `published`. Both are zero
/// if the writer keeps none.
const VOUCHERS_AT: [usize; 2] = [328, 336];
/// Ranges without a meaning. They must be zero.
const UNUSED: [(usize, usize); 6] = [
    (STAMPS_AT[0] + STAMP_SIZE, STATE_AT),
    (STATE_AT + 8, PUBLISHED_AT),
    (VOUCHERS_AT[1] + 8, LAST_PUBLISH_US_AT),
    (TICK_RESERVED_AT, SAMPLES_AT),
    (SAMPLE_COUNT_AT + 8, 1024),
    (STAMPS_AT[1] + STAMP_SIZE, PAGE_SIZE),
];

const OPEN: u64 = 1;
const CLOSED: u64 = 2;

/// The process that writes the feed, or wrote it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStamp {
    /// The session's id.
    pub session_id: u64,
    /// The writer's process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot.
    pub pid_start: u64,
    /// The boot that the process ran in.
    pub boot_id: [u8; 16],
    /// When the process opened the feed, in wall-clock microseconds.
    pub opened_us: u64,
}

/// Counts of the current or last session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows that were rejected.
    pub rejected: u64,
    /// Messages that were skipped because they are not for this feed.
    pub passed_over: u64,
    /// Records older than one before them.
    pub late: u64,
}

/// A feed's live page, mapped or copied.
pub struct LivePage {
    map: Map,
    identity: (u64, u64),
    /// The file of a writable page, to update its modification time.
    file: Option<File>,
}

impl LivePage {
    /// Creates the page of a new feed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path, id: &Identity, mode: u32) -> Result<()> {
        let (file, _) = Self::make(path, id, mode)?;
        file::sync(&file, path)
    }

    /// Creates the page of a staged session in shared memory, under a temporary name beside `path`.
    /// [`LivePage::appear`] makes it visible.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_staged(
        path: &Path,
        id: &Identity,
        mode: u32,
        segment_id: u64,
    ) -> Result<LivePage> {
        let unborn = unborn(path);
        let (file, map) = Self::make(&unborn, id, mode)?;
        map.u64_at(SEGMENT_AT).store(segment_id, Ordering::Release);
        Ok(LivePage { identity: file::identity(&file, &unborn)?, map, file: Some(file) })
    }

    /// Renames a page made by [`LivePage::create_staged`] to `path`, replacing an older one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn appear(&self, path: &Path) -> Result<()> {
        file::rename("cannot replace", &unborn(path), path)
    }

    /// Creates a page that continues this one, which was unlinked, beside `path`.
    /// [`LivePage::appear`] makes it visible.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn successor(&self, path: &Path, id: &Identity, mode: u32) -> Result<LivePage> {
        let next = Self::create_staged(path, id, mode, self.segment_id())?;
        next.take_over(self);
        Ok(next)
    }

    /// Copies the content of another page, including its session.
    pub fn take_over(&self, other: &LivePage) {
        for word in (STATE_AT..SEGMENT_AT).step_by(8) {
            let word = (self.map.u64_at(word), other.map.u64_at(word).load(Ordering::Relaxed));
            word.0.store(word.1, Ordering::Relaxed);
        }
        // The stamp is stored with Release, after all other words.
        if let Some(stamp) = other.session() {
            self.stamp_with(&stamp);
        }
        self.touch();
    }

    /// Updates the file's modification time, after stores that a backup must not miss.
    pub fn touch(&self) {
        if let Some(file) = &self.file {
            file::touch(file);
        }
    }

    fn make(path: &Path, id: &Identity, mode: u32) -> Result<(File, Map)> {
        let file = file::create_new(path, mode)?;
        file::allocate(&file, path, 0, PAGE_SIZE as u64)?;
        let map = LivePage::lay_out(&file, path, id)?;
        Ok((file, map))
    }

    /// Makes the first page of an allocated file a live page without a session, and maps it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lay_out(file: &File, path: &Path, id: &Identity) -> Result<Map> {
        let mut page = [0; 128];
        put(&mut page, MAGIC_AT, MAGIC);
        put_u32(&mut page, VERSION_AT, FORMAT_VERSION);
        put(&mut page, STORE_ID_AT, &id.store_id);
        put_u64(&mut page, FEED_ID_AT, id.feed_id);
        put_u64(&mut page, LAYOUT_HASH_AT, id.layout_hash);
        let header_crc = crc(&page[..HEADER_CRC_AT]);
        put_u32(&mut page, HEADER_CRC_AT, header_crc);
        let map = Map::writable(file, path, PAGE_SIZE)?;
        map.write(0, &page);
        map.u64_at(STATE_AT).store(guard(CLOSED), Ordering::Release);
        for at in VOUCHERS_AT {
            map.u64_at(at).store(guard(0), Ordering::Release);
        }
        Ok(map)
    }

    /// Maps the page, for the writer (`writable`) or a reader.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Version`].
    pub fn open(path: &Path, id: &Identity, writable: bool) -> Result<LivePage> {
        let (file, known) = file::open_known(path, writable)?;
        if known.size != PAGE_SIZE as u64 {
            return Err(Error::damaged(path, 0, "the live page is not 4096 bytes"));
        }
        LivePage::of(&file, path, id, writable)
    }

    /// Copies the page for a single look. Returns `None` if the page changes meanwhile, or if it
    /// cannot be read; [`LivePage::open`] then returns the error.
    pub fn copy(path: &Path, id: &Identity) -> Option<LivePage> {
        let (file, known) = file::open_known(path, false).ok()?;
        let map = Map::copy(&file, path, PAGE_SIZE).ok()?;
        let whole = known.size == PAGE_SIZE as u64 && map.is_unchanged(&file);
        whole.then(|| LivePage::checked(map, known.identity, id).ok()).flatten()
    }

    /// Maps the first page of a ring, for a reader.
    ///
    /// # Errors
    /// As [`LivePage::open`].
    pub fn open_in_ring(path: &Path, id: &Identity) -> Result<LivePage> {
        let file = file::open_read(path)?;
        if file::size(&file, path)? <= PAGE_SIZE as u64 {
            return Err(Error::damaged(path, 0, "no ring is as small"));
        }
        LivePage::of(&file, path, id, false)
    }

    /// Maps the first page of a file that is at least as large as a page.
    ///
    /// # Errors
    /// As [`LivePage::open`].
    pub fn of(file: &File, path: &Path, id: &Identity, writable: bool) -> Result<LivePage> {
        let map = if writable {
            Map::writable(file, path, PAGE_SIZE)?
        } else {
            Map::read_only(file, path, PAGE_SIZE)?
        };
        let page = LivePage::checked(map, file::identity(file, path)?, id)?;
        let clone = |file: &File| file.try_clone().map_err(|e| Error::io("cannot open", path, e));
        Ok(LivePage { file: writable.then(|| clone(file)).transpose()?, ..page })
    }

    fn checked(map: Map, identity: (u64, u64), id: &Identity) -> Result<LivePage> {
        let path = map.path();
        let mut header = [0; 128];
        map.read(0, &mut header);
        check_head(path, &header, MAGIC, 128)?;
        if crc(&header[..HEADER_CRC_AT]) != get_u32(&header, HEADER_CRC_AT) {
            return Err(Error::damaged(path, HEADER_CRC_AT as u64, "the header's checksum"));
        }
        if get_id(&header, STORE_ID_AT) != id.store_id || get_u64(&header, FEED_ID_AT) != id.feed_id
        {
            return Err(Error::damaged(path, STORE_ID_AT as u64, "it belongs to another feed"));
        }
        Ok(LivePage { identity, map, file: None })
    }

    /// Returns device and inode of the file that is mapped.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Checks that all parts of the page used so far were really there.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file was cut short or could not be read.
    pub fn check(&self) -> Result<()> {
        self.map.check()
    }

    /// Returns the id of the staged session's segments; 0 for a page on disk.
    pub fn segment_id(&self) -> u64 {
        self.map.u64_at(SEGMENT_AT).load(Ordering::Acquire)
    }

    /// Returns the published seq: every record below it exists.
    #[inline]
    pub fn published(&self) -> u64 {
        // SYNC: published; pairs with the Release in `publish`.
        self.map.u64_at(PUBLISHED_AT).load(Ordering::Acquire)
    }

    /// Like [`LivePage::published`], but returns `None` if no voucher confirms the value. A page
    /// whose writer keeps no vouchers needs none.
    pub fn try_published(&self) -> Option<u64> {
        let mut published = self.published();
        loop {
            // SYNC: vouchers; pairs with the Release in `publish`.
            let words = VOUCHERS_AT.map(|at| self.map.u64_at(at).load(Ordering::Acquire));
            let again = self.published();
            if again == published {
                let vouched = words.iter().any(|word| unguard(*word) == Some(published));
                let unvouched = words == [0, 0] && published <= GUARDED_MAX;
                return (vouched || unvouched).then_some(published);
            }
            // `published` moved, so a live writer keeps it right; the vouchers are of later values.
            published = again;
        }
    }

    /// Returns the published seq if the page itself is trustworthy. The caller must still check the
    /// open chunks, because the files may hold less than the page says.
    pub fn believed(&self) -> Option<u64> {
        self.session().and(self.try_published())
    }

    /// Whether [`LivePage::believed`] returns a seq.
    pub fn is_believed(&self) -> bool {
        self.believed().is_some()
    }

    /// Commits every record below `seq`.
    #[inline]
    pub fn publish(&self, seq: u64) {
        // Overwrite the older voucher, so that at every moment one of the two equals `published`.
        let now = self.map.u64_at(PUBLISHED_AT).load(Ordering::Relaxed);
        let first = self.map.u64_at(VOUCHERS_AT[0]).load(Ordering::Relaxed) & GUARDED_MAX;
        let older = self.map.u64_at(VOUCHERS_AT[usize::from(first == now)]);
        // SYNC: vouchers; pairs with the Acquire in `try_published`: a reader that sees this
        // voucher sees at least the `published` before it.
        older.store(guard(seq), Ordering::Release);
        // SYNC: published; pairs with the Acquire in `published`.
        self.map.u64_at(PUBLISHED_AT).store(seq, Ordering::Release);
        faults::value("live.published", seq);
    }

    /// Clears the vouchers, to show that this page's writer keeps none. The writer of a ring stores
    /// only `published`.
    pub fn vouch_for_nothing(&self) {
        for at in VOUCHERS_AT {
            self.map.u64_at(at).store(0, Ordering::Release);
        }
    }

    /// Returns the session on the page if its stamp is intact, of this boot, and of this very file
    /// (a copied store has another inode).
    pub fn session(&self) -> Option<SessionStamp> {
        let stamps = STAMPS_AT.into_iter().filter_map(|at| self.stamp(at));
        stamps.max_by_key(|stamp| stamp.session_id)
    }

    /// Returns the page's path.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// Returns the newest session with an intact stamp, of any boot or file. It proves that there
    /// was such a session, not that `published` is right.
    pub fn newest_stamp(&self) -> Option<SessionStamp> {
        let stamps = STAMPS_AT.into_iter().filter_map(|at| self.any_stamp(at));
        stamps.map(|(stamp, _)| stamp).max_by_key(|stamp| stamp.session_id)
    }

    /// Returns `published` if a voucher confirms it.
    pub fn vouched(&self) -> Option<u64> {
        let published = self.published();
        // SYNC: vouchers; pairs with the Release in `publish`.
        let words = VOUCHERS_AT.map(|at| self.map.u64_at(at).load(Ordering::Acquire));
        words.iter().any(|word| unguard(*word) == Some(published)).then_some(published)
    }

    /// Whether no session ever stamped the page.
    pub fn is_unwritten(&self) -> bool {
        STAMPS_AT.iter().all(|&at| {
            let mut bytes = [0; STAMP_SIZE];
            self.map.read(at, &mut bytes);
            bytes == [0; STAMP_SIZE]
        })
    }

    /// Whether the guarded words of the page are valid.
    pub fn words_check(&self) -> bool {
        let state = unguard(self.map.u64_at(STATE_AT).load(Ordering::Acquire));
        matches!(state, Some(OPEN | CLOSED)) && self.try_published().is_some()
    }

    /// Whether the stamp in this session's place is damaged. An intact stamp, an older one, and one
    /// that was never written or not finished are not.
    pub fn stamp_is_broken(&self, session_id: u64) -> bool {
        let mut bytes = [0; STAMP_SIZE];
        self.map.read(STAMPS_AT[(session_id % 2) as usize], &mut bytes);
        let sum = get_u64(&bytes, STAMP_CRC);
        sum != 0 && sum != u64::from(crc(&bytes[..STAMP_CRC]))
    }

    /// Returns the first byte that is not zero although it has no meaning.
    pub fn stray_byte(&self) -> Option<usize> {
        let mut page = [0; PAGE_SIZE];
        self.map.read(0, &mut page);
        UNUSED.iter().flat_map(|&(from, to)| from..to).find(|&at| page[at] != 0)
    }

    fn stamp(&self, at: usize) -> Option<SessionStamp> {
        let (stamp, identity) = self.any_stamp(at)?;
        let this_boot = stamp.boot_id == process::boot_id() && stamp.boot_id != [0; 16];
        (identity == self.identity && this_boot).then_some(stamp)
    }

    /// Returns an intact stamp, with device and inode of the page that it was made on.
    fn any_stamp(&self, at: usize) -> Option<(SessionStamp, (u64, u64))> {
        let mut bytes = [0; STAMP_SIZE];
        self.map.read(at, &mut bytes);
        let intact = u64::from(crc(&bytes[..STAMP_CRC])) == get_u64(&bytes, STAMP_CRC);
        let stamp = SessionStamp {
            session_id: get_u64(&bytes, SESSION_ID),
            pid: get_u64(&bytes, PID) as u32,
            pid_start: get_u64(&bytes, PID_START),
            boot_id: get_id(&bytes, BOOT_ID),
            opened_us: get_u64(&bytes, OPENED),
        };
        (intact && stamp.session_id > 0)
            .then(|| (stamp, (get_u64(&bytes, DEVICE), get_u64(&bytes, INODE))))
    }

    /// Whether a writer opened the feed and has not closed it. That writer may be dead.
    pub fn is_open(&self) -> bool {
        // SYNC: state; pairs with the Release in `begin` and `end`.
        unguard(self.map.u64_at(STATE_AT).load(Ordering::Acquire)) == Some(OPEN)
    }

    fn stamp_with(&self, stamp: &SessionStamp) {
        let mut bytes = [0; STAMP_SIZE];
        put_u64(&mut bytes, SESSION_ID, stamp.session_id);
        put_u64(&mut bytes, PID, u64::from(stamp.pid));
        put_u64(&mut bytes, PID_START, stamp.pid_start);
        put_u64(&mut bytes, DEVICE, self.identity.0);
        put_u64(&mut bytes, INODE, self.identity.1);
        put(&mut bytes, BOOT_ID, &stamp.boot_id);
        put_u64(&mut bytes, OPENED, stamp.opened_us);
        let sum = u64::from(crc(&bytes[..STAMP_CRC]));
        put_u64(&mut bytes, STAMP_CRC, sum);
        let at = STAMPS_AT[(stamp.session_id % 2) as usize];
        // Clear the sum while the stamp is incomplete: a wrong sum would mean damage.
        self.map.u64_at(at + STAMP_CRC).store(0, Ordering::Release);
        for word in (0..STAMP_SIZE).step_by(8) {
            self.map.u64_at(at + word).store(get_u64(&bytes, word), Ordering::Release);
            faults::step("live.stamp");
        }
    }

    /// Opens a session whose first record will be `seq`.
    pub fn begin(&self, stamp: &SessionStamp, seq: u64, running_max: u64) {
        // Store `published` first: a reader that trusts the new stamp must find the new seq.
        self.publish(seq);
        self.stamp_with(stamp);
        for at in (REJECTED_AT..=LATE_AT).step_by(8) {
            self.map.u64_at(at).store(0, Ordering::Relaxed);
        }
        // The times of samples from another boot mean nothing now.
        self.map.u64_at(SAMPLE_COUNT_AT).store(0, Ordering::Release);
        self.map.u64_at(RUNNING_MAX_AT).store(running_max, Ordering::Relaxed);
        self.map.u64_at(DURABLE_AT).store(seq, Ordering::Relaxed);
        // SYNC: state; pairs with the Acquire in `is_open`.
        self.map.u64_at(STATE_AT).store(guard(OPEN), Ordering::Release);
        self.touch();
        faults::step("live.open");
    }

    /// Closes the session.
    pub fn end(&self) {
        // SYNC: state; pairs with the Acquire in `is_open`.
        self.map.u64_at(STATE_AT).store(guard(CLOSED), Ordering::Release);
        self.touch();
        faults::step("live.closed");
    }

    /// Returns the newest record time so far.
    pub fn running_max(&self) -> u64 {
        self.map.u64_at(RUNNING_MAX_AT).load(Ordering::Relaxed)
    }

    /// Stores the newest record time so far.
    #[inline]
    pub fn set_running_max(&self, time: u64) {
        self.map.u64_at(RUNNING_MAX_AT).store(time, Ordering::Relaxed);
    }

    /// Returns the counts of the current or last session.
    pub fn counters(&self) -> Counters {
        Counters {
            rejected: self.map.u64_at(REJECTED_AT).load(Ordering::Relaxed),
            passed_over: self.map.u64_at(PASSED_OVER_AT).load(Ordering::Relaxed),
            late: self.map.u64_at(LATE_AT).load(Ordering::Relaxed),
        }
    }

    /// Stores the counts.
    pub fn set_counters(&self, counters: &Counters) {
        self.map.u64_at(REJECTED_AT).store(counters.rejected, Ordering::Relaxed);
        self.map.u64_at(PASSED_OVER_AT).store(counters.passed_over, Ordering::Relaxed);
        self.map.u64_at(LATE_AT).store(counters.late, Ordering::Relaxed);
    }

    /// Returns the durable seq: every record below it is on disk.
    pub fn durable(&self) -> u64 {
        self.map.u64_at(DURABLE_AT).load(Ordering::Acquire)
    }

    /// Stores that every record below `seq` is on disk.
    pub fn set_durable(&self, seq: u64) {
        self.map.u64_at(DURABLE_AT).store(seq, Ordering::Release);
        faults::value("live.durable", seq);
    }

    /// Stores when records were last published.
    pub fn set_last_publish(&self, wall_us: u64, boot_ns: u64) {
        self.map.u64_at(LAST_PUBLISH_US_AT).store(wall_us, Ordering::Relaxed);
        self.map.u64_at(LAST_PUBLISH_BOOT_AT).store(boot_ns, Ordering::Relaxed);
    }

    /// Returns when records were last published, in wall-clock microseconds and in nanoseconds
    /// since boot; `None` if none ever were. The second number is of the boot at that time, which
    /// may not be the current one.
    pub fn last_publish(&self) -> Option<(u64, u64)> {
        let wall_us = self.map.u64_at(LAST_PUBLISH_US_AT).load(Ordering::Relaxed);
        let boot_ns = self.map.u64_at(LAST_PUBLISH_BOOT_AT).load(Ordering::Relaxed);
        (wall_us > 0).then_some((wall_us, boot_ns))
    }

    /// Returns this session's samples of `published` as (nanoseconds since boot, seq), oldest
    /// first. There is one per second while records arrive, and at most 16.
    pub fn samples(&self) -> Vec<(u64, u64)> {
        let count = self.map.u64_at(SAMPLE_COUNT_AT).load(Ordering::Acquire);
        let samples = (count.saturating_sub(SAMPLES)..count).map(|i| {
            let at = SAMPLES_AT + (i % SAMPLES) as usize * SAMPLE_SIZE;
            let time = self.map.u64_at(at).load(Ordering::Relaxed);
            (time, self.map.u64_at(at + 8).load(Ordering::Relaxed))
        });
        let mut samples: Vec<(u64, u64)> = samples.collect();
        samples.sort_unstable();
        samples
    }

    /// Adds a sample of `published`. Call it at most once a second.
    pub fn sample(&self, boot_ns: u64, published: u64) {
        let count = self.map.u64_at(SAMPLE_COUNT_AT).load(Ordering::Relaxed);
        let at = SAMPLES_AT + (count % SAMPLES) as usize * SAMPLE_SIZE;
        self.map.u64_at(at).store(boot_ns, Ordering::Relaxed);
        self.map.u64_at(at + 8).store(published, Ordering::Relaxed);
        self.map.u64_at(SAMPLE_COUNT_AT).store(count + 1, Ordering::Release);
    }

    /// Returns the records per second that arrived in the last ten seconds. If the session is
    /// younger, it counts from the session's begin, and over at least one second.
    pub fn rate(&self, now_boot_ns: u64) -> f64 {
        const SECOND_NS: u64 = 1_000_000_000;
        const WINDOW_NS: u64 = 10 * SECOND_NS;
        let samples = self.samples();
        let now = self.published();
        // Start from the last sample before the window, or from the session's first.
        let samples: Vec<_> = samples.into_iter().filter(|s| s.0 <= now_boot_ns).collect();
        let began = now_boot_ns.saturating_sub(WINDOW_NS);
        let before = samples.iter().rfind(|s| s.0 <= began).or(samples.first());
        let Some(&(time, then)) = before else { return 0.0 };
        // A session that opened later began with a sample of the same count; use that sample's
        // time.
        let time = samples.iter().rfind(|s| s.1 == then).map_or(time, |s| s.0);
        // Samples are taken once a second while records arrive. If the sample is older, nothing
        // arrived right after it, so the window's length is the right divisor.
        let elapsed = match now_boot_ns - time {
            recent if recent < WINDOW_NS * 6 / 5 => recent.max(SECOND_NS),
            _ => WINDOW_NS,
        };
        now.saturating_sub(then) as f64 * 1e9 / elapsed as f64
    }
}

/// Returns the temporary name under which a page in shared memory is made.
fn unborn(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_rate_covers_the_last_ten_seconds() {
        const SECOND: u64 = 1_000_000_000;
        let folder = tempfile::tempdir().unwrap();
        let id = Identity { store_id: [1; 16], feed_id: 2, layout_hash: 3 };
        let path = folder.path().join("live");
        LivePage::create(&path, &id, 0o600).unwrap();
        let page = LivePage::open(&path, &id, true).unwrap();
        assert_eq!(page.rate(99 * SECOND), 0.0);
        // A new session receives one row.
        page.sample(100 * SECOND, 0);
        page.publish(1);
        page.sample(101 * SECOND, 1);
        assert_eq!(page.rate(100 * SECOND + SECOND / 10), 1.0, "less than a second is not enough");
        assert_eq!(page.rate(101 * SECOND), 1.0);
        assert_eq!(page.rate(105 * SECOND), 0.2);
        assert_eq!(page.rate(111 * SECOND), 0.0, "it came over ten seconds ago");
        // Fifty rows a second arrive for half a minute, then none.
        for second in 1..=30 {
            page.publish(1 + 50 * second);
            page.sample((200 + second) * SECOND, 1 + 50 * second);
        }
        assert_eq!(page.rate(230 * SECOND), 50.0);
        assert_eq!(page.rate(235 * SECOND), 25.0);
        assert_eq!(page.rate(245 * SECOND), 0.0);
        // A later session has been open for two seconds.
        page.sample(300 * SECOND, 1501);
        page.publish(1601);
        page.sample(301 * SECOND, 1551);
        assert_eq!(page.rate(302 * SECOND), 50.0);
    }
}
