//! The boot, this process, and the clocks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result, there};

/// The environment variable that replaces the boot id, for tests and for virtual machines restored
/// from a snapshot.
pub const BOOT_ID_VARIABLE: &str = "DEEPWATER_BOOT_ID";

/// Standard descriptors that were closed when the program started, one bit each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before main, and so before Rust's runtime opens /dev/null in place of closed descriptors.
/// After that, they cannot be told from a /dev/null that was passed in.
extern "C" fn note_closed() {
    for fd in 0..3 {
        // SAFETY: reads the flags of a descriptor; any number is allowed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

// SAFETY: the loader calls this before main, once and with no other thread; the function needs no
// runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_closed;

/// Whether a standard descriptor, 0 to 2, was closed when the program started.
pub fn was_closed(fd: u32) -> bool {
    CLOSED.load(Ordering::Relaxed) >> fd & 1 == 1
}

/// Raises the number of open files to the maximum that the system allows the process. Returns the
/// resulting limit.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Returns this boot's id, 16 bytes: the kernel's, or one derived from `$DEEPWATER_BOOT_ID`. It is
/// zeros if neither is available; then no live page is trusted. It does not change during a
/// process.
pub fn boot_id() -> [u8; 16] {
    #[cfg(feature = "faults")]
    if let Some(id) = super::faults::pretended_boot() {
        return id;
    }
    *BOOT_ID.get_or_init(|| read_boot_id().unwrap_or_default())
}

static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Reads [`boot_id`] before anything depends on it. An id that could not be read because of a limit
/// would pass for another boot.
///
/// # Errors
/// [`Error::Io`], but not if the system has no boot id.
pub fn learn_boot_id() -> Result<()> {
    if BOOT_ID.get().is_none() {
        let read = there(read_boot_id().map_err(|e| Error::io("cannot read", BOOT_ID_FILE, e)))?;
        BOOT_ID.get_or_init(|| read.unwrap_or_default());
    }
    Ok(())
}

fn read_boot_id() -> io::Result<[u8; 16]> {
    let text = match std::env::var(BOOT_ID_VARIABLE) {
        Ok(text) if !text.is_empty() => text,
        _ => fs::read_to_string(BOOT_ID_FILE)?,
    };
    Ok(boot_id_of(&text))
}

fn boot_id_of(text: &str) -> [u8; 16] {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(id) if digits.len() == 32 => id.to_be_bytes(),
        _ if text.is_empty() => [0; 16],
        // Any other text is an id too, padded or truncated.
        _ => {
            let mut id = [0x5f; 16];
            let n = text.len().min(16);
            id[..n].copy_from_slice(&text.as_bytes()[..n]);
            id
        }
    }
}

/// Returns the nanoseconds of CLOCK_BOOTTIME: since boot, including suspended time.
pub fn boottime_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| Duration::from(t).as_nanos() as u64)
}

/// Returns wall-clock nanoseconds since the epoch.
pub fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Returns wall-clock microseconds since the epoch.
pub fn wall_us() -> u64 {
    wall_ns() / 1000
}

/// Returns the start of a process, in clock ticks since boot, and its state. `None` if there is no
/// such process, or we may not see it.
fn stat(pid: u32) -> Result<Option<(u64, char)>> {
    let path = format!("/proc/{pid}/stat");
    let stat = match fs::read_to_string(&path) {
        Ok(stat) => stat,
        // The process ended meanwhile.
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(e) => match Error::io("cannot read", path, e) {
            error if error.is_not_found() || error.is_denied() => return Ok(None),
            error => return Err(error),
        },
    };
    // The command name, field 2, may contain blanks and parentheses. After its last parenthesis,
    // fields are separated by blanks.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest).trim_start();
    let ticks = rest.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse().ok());
    Ok(ticks.zip(rest.chars().next()))
}

/// Returns the start of a process, in clock ticks since boot, or `None` if there is no such
/// process.
///
/// # Errors
/// [`Error::Io`] if a limit was met.
pub fn start_ticks(pid: u32) -> Result<Option<u64>> {
    Ok(stat(pid)?.map(|(ticks, _)| ticks))
}

/// Whether the process with that pid and start time is alive. A process that was killed and not yet
/// waited for is not.
///
/// # Errors
/// As [`start_ticks`].
pub fn lives(pid: u32, started: u64) -> Result<bool> {
    let is = |(ticks, state)| ticks == started && !matches!(state, 'Z' | 'X' | 'x');
    Ok(stat(pid)?.is_some_and(is))
}

/// Whether a process has a file open that had the name `path` and was then unlinked, moved or
/// replaced. True if we may not look into the process.
///
/// # Errors
/// [`Error::Io`].
pub fn has_open_unnamed(pid: u32, path: &Path) -> Result<bool> {
    let named = fs::symlink_metadata(path).map_err(|e| Error::io("cannot stat", path, e));
    let there = there(named)?.map(|meta| (meta.dev(), meta.ino()));
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let listing = match fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(e) => match Error::io("cannot list", folder, e) {
            error if error.is_not_found() || error.is_denied() => return Ok(true),
            error => return Err(error),
        },
    };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    Ok(listing.flatten().any(|item| {
        let Ok(target) = fs::read_link(item.path()) else { return false };
        let called = target.file_name().unwrap_or_default().as_encoded_bytes();
        let called = called.strip_suffix(b" (deleted)").unwrap_or(called);
        let is = || fs::metadata(item.path()).is_ok_and(|m| Some((m.dev(), m.ino())) != there);
        called == name && is()
    }))
}

/// Returns the effective user of this process.
pub fn user_id() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns the effective user and group of this process.
pub fn user_and_group() -> (u32, u32) {
    (user_id(), nix::unistd::getegid().as_raw())
}

/// Returns 16 random bytes from the kernel.
pub fn random_bytes() -> std::io::Result<[u8; 16]> {
    use std::io::Read;
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
