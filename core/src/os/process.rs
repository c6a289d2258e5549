//! This boot, this process, and the clocks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

/// The environment variable that stands in for the boot id, for tests and for virtual machines
/// restored from a snapshot.
pub const BOOT_ID_VARIABLE: &str = "DEEPWATER_BOOT_ID";

/// Standard descriptors that were closed when the program started, a bit each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Before main, and so before Rust's runtime opens /dev/null in the place of what is closed: later
/// nobody could tell that from a /dev/null which was handed to us.
extern "C" fn note_closed() {
    for fd in 0..3 {
        // SAFETY: asks for the flags of a descriptor, which any number may be.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

// SAFETY: what the loader calls before main, once and alone; the function needs no runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_closed;

/// Whether a standard descriptor, 0 to 2, was closed when the program started.
pub fn was_closed(fd: u32) -> bool {
    CLOSED.load(Ordering::Relaxed) >> fd & 1 == 1
}

/// Raises the number of files that may be open to what the system allows the process; how many that
/// is.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// This boot's id, 16 bytes: the kernel's, or derived from `$DEEPWATER_BOOT_ID`. Zeros where
/// neither can be had, which no live page is believed by. It does not change while a process lives.
pub fn boot_id() -> [u8; 16] {
    #[cfg(feature = "faults")]
    if let Some(id) = super::faults::pretended_boot() {
        return id;
    }
    static BOOT_ID: LazyLock<[u8; 16]> = LazyLock::new(read_boot_id);
    *BOOT_ID
}

fn read_boot_id() -> [u8; 16] {
    let text = match std::env::var(BOOT_ID_VARIABLE) {
        Ok(text) if !text.is_empty() => text,
        _ => fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
    };
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(id) if digits.len() == 32 => id.to_be_bytes(),
        _ if text.is_empty() => [0; 16],
        // Any other text is an id too: padded or cut, whatever the tester liked to call the boot.
        _ => {
            let mut id = [0x5f; 16];
            let n = text.len().min(16);
            id[..n].copy_from_slice(&text.as_bytes()[..n]);
            id
        }
    }
}

/// Nanoseconds of CLOCK_BOOTTIME: since boot, suspended time included.
pub fn boottime_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| Duration::from(t).as_nanos() as u64)
}

/// Wall-clock nanoseconds since the epoch.
pub fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Wall-clock microseconds since the epoch.
pub fn wall_us() -> u64 {
    wall_ns() / 1000
}

/// When a process started, in clock ticks since boot; `None` if there is no such process.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, field 2, may hold blanks and parentheses; what follows the last one is
    // plain.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a process lives that started then: one that was killed and not yet waited for does not.
pub fn lives(pid: u32, started: u64) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    start_ticks(pid) == Some(started) && !matches!(state, Some('Z' | 'X' | 'x'))
}

/// Whether a process has a file open that was called as `path` and is not there any more: unlinked,
/// moved or replaced. Where we may not look into the process: true.
pub fn has_open_unnamed(pid: u32, path: &Path) -> bool {
    let there = fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let Ok(listing) = fs::read_dir(folder) else { return true };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    listing.flatten().any(|item| {
        let Ok(target) = fs::read_link(item.path()) else { return false };
        let called = target.file_name().unwrap_or_default().as_encoded_bytes();
        let called = called.strip_suffix(b" (deleted)").unwrap_or(called);
        let is = || fs::metadata(item.path()).is_ok_and(|m| Some((m.dev(), m.ino())) != there);
        called == name && is()
    })
}

/// The user this process acts as.
pub fn user_id() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user and the group this process acts as.
pub fn user_and_group() -> (u32, u32) {
    (user_id(), nix::unistd::getegid().as_raw())
}

/// 16 random bytes from the kernel.
pub fn random_bytes() -> std::io::Result<[u8; 16]> {
    use std::io::Read;
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
