//! `deepwater.log`: what changed the store, one line per event (FORMAT.md, deepwater.log).
//!
//! Several processes append at once without a lock. Each line is one write to a file opened for
//! appending. A process that still has the file open when another one rotates it writes to the
//! first backup, so its line is kept. Only rotation takes a lock, and no process waits for it: if
//! the lock is taken, a process appends to the current file.

use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::os::file;
use crate::os::lock::Lock;
use crate::show;

/// Name of the log in the store.
const LOG_NAME: &str = "deepwater.log";
/// A log of this size is rotated.
const MAX_BYTES: u64 = 10_000_000;
/// How many old logs are kept; `deepwater.log.1` is the newest.
const BACKUPS: u32 = 5;

/// A store's log. It holds no open file.
#[derive(Clone, Debug)]
pub struct Log {
    base: PathBuf,
    max_bytes: u64,
    backups: u32,
}

impl Log {
    /// Returns the log of the store at `base`.
    pub fn of(base: &Path) -> Log {
        Log::with_limits(base, MAX_BYTES, BACKUPS)
    }

    /// Returns the log with other limits: it is rotated at `max_bytes`, and `backups` old ones are
    /// kept.
    pub fn with_limits(base: &Path, max_bytes: u64, backups: u32) -> Log {
        Log { base: base.to_owned(), max_bytes, backups }
    }

    /// Appends a line: the time, `event=what`, the fields in order, and the process.
    ///
    /// Never fails and never waits for a lock. A line that cannot be written is dropped, because a
    /// store must work even if its log does not.
    pub fn event(&self, what: &str, fields: &[(&str, &dyn Display)]) {
        let _ = self.append(line(Timestamp::now(), what, fields).as_bytes());
    }

    /// Returns the log's path.
    pub fn path(&self) -> PathBuf {
        self.base.join(LOG_NAME)
    }

    fn backup(&self, number: u32) -> PathBuf {
        self.base.join(format!("{LOG_NAME}.{number}"))
    }

    fn append(&self, line: &[u8]) -> Result<()> {
        let path = self.path();
        let (mut log, mut size) = self.open()?;
        if size > 0 && size + line.len() as u64 > self.max_bytes {
            // Ignore the error: a log that cannot be rotated grows, which is better than losing
            // lines.
            let _ = self.turn_over(line.len() as u64);
            // If any process rotated the log, the file opened above is a backup now.
            (log, size) = self.open()?;
        }
        let wrong = |e| Error::io("cannot write", &path, e);
        if ends_in_mid_line(&log, size) && stays_in_mid_line(&log, &path)? {
            // A full disk cut the last write short. Start a new line, so that this one stands
            // alone.
            return log.write_all(&[b"\n", line].concat()).map_err(wrong);
        }
        log.write_all(line).map_err(wrong)
    }

    /// Opens the log for appending, creates it if needed, and returns it with its size.
    fn open(&self) -> Result<(File, u64)> {
        let path = self.path();
        let log = file::open_append(&path, 0o600)?;
        let size = file::size(&log, &path)?;
        if size == 0 {
            // The log gets the manifest's read permissions, owner and group. Otherwise the store's
            // owner could not append to a log that root created.
            if let Ok(store) = fs::metadata(self.base.join("manifest.json")) {
                let read = store.permissions().mode() & 0o044;
                let _ = log.set_permissions(fs::Permissions::from_mode(0o600 | read));
                let _ = fchown(&log, Some(store.uid()), Some(store.gid()));
            }
        }
        Ok((log, size))
    }

    /// Rotates the log, unless another process is rotating it or has just done so.
    fn turn_over(&self, wanted: u64) -> Result<()> {
        let Some(_lock) = Lock::try_replace(&self.base.join("locks/log"))? else { return Ok(()) };
        let path = self.path();
        let size = fs::symlink_metadata(&path).map_err(|e| Error::io("cannot stat", &path, e))?;
        if size.len() + wanted <= self.max_bytes {
            return Ok(());
        }
        // A process killed during rotation leaves a gap in the numbers. Backups after the gap stay.
        let free = (1..self.backups).find(|n| !self.backup(*n).exists()).unwrap_or(self.backups);
        for number in (1..free).rev() {
            rename(&self.backup(number), &self.backup(number + 1))?;
        }
        rename(&path, &self.backup(1))
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io("cannot rename", from, e))
}

fn ends_in_mid_line(log: &File, size: u64) -> bool {
    let mut last = [0];
    size > 0 && log.read_at(&mut last, size - 1).is_ok_and(|n| n == 1) && last != *b"\n"
}

/// Checks again after a moment. Most likely the first check saw half of a line that another process
/// was writing.
fn stays_in_mid_line(log: &File, path: &Path) -> Result<bool> {
    thread::sleep(Duration::from_millis(2));
    Ok(ends_in_mid_line(log, file::size(log, path)?))
}

fn line(now: Timestamp, what: &str, fields: &[(&str, &dyn Display)]) -> String {
    let mut line = format!("{now:.6} event={what}");
    for (key, value) in fields {
        let _ = write!(line, " {key}=");
        put_value(&mut line, &value.to_string());
    }
    let _ = writeln!(line, " pid={}", std::process::id());
    line
}

/// Appends a value: bare if all its characters are plain, else quoted. Always on one line.
fn put_value(line: &mut String, value: &str) {
    let plain = |c: char| !show::is_active(c) && !c.is_whitespace() && !"\"=\\".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return line.push_str(value);
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            c => show::put(line, c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Returns a folder for a log.
    fn base() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("locks")).unwrap();
        folder
    }

    fn read(base: &Path, name: &str) -> String {
        fs::read_to_string(base.join(name)).unwrap_or_default()
    }

    #[test]
    fn an_event_is_always_one_line() {
        let now = Timestamp::from_microsecond(1_700_000_000_000_000).unwrap();
        let fields: [(&str, &dyn Display); 4] =
            [("feed", &"trades"), ("rows", &7), ("why", &"a \"b\"\n\tc=\\\x1b[2J"), ("none", &"")];
        let pid = std::process::id();
        assert_eq!(
            line(now, "writer-closed", &fields),
            format!(
                "2023-11-14T22:13:20.000000Z event=writer-closed feed=trades rows=7 \
                 why=\"a \\\"b\\\"\\n\\tc=\\\\\\x1b[2J\" none=\"\" pid={pid}\n"
            )
        );
    }

    #[test]
    fn a_full_log_is_rotated_and_the_oldest_backup_removed() {
        let folder = base();
        let base = folder.path();
        let log = Log::with_limits(base, 200, 2);
        for n in 0..20 {
            log.event("test", &[("n", &n)]);
            for name in [LOG_NAME, "deepwater.log.1", "deepwater.log.2"] {
                assert!(read(base, name).len() <= 200);
            }
        }
        let names = ["deepwater.log.2", "deepwater.log.1", LOG_NAME];
        let all: String = names.map(|name| read(base, name)).concat();
        let numbers: Vec<&str> = all.lines().map(|line| line.split("n=").nth(1).unwrap()).collect();
        assert_eq!(fs::read_dir(base).unwrap().count(), 4, "three logs and the locks");
        assert!(numbers.len() >= 7, "{all}");
        let newest: Vec<String> = (20 - numbers.len()..20).map(|n| n.to_string()).collect();
        let kept: Vec<&str> = numbers.iter().map(|n| n.split(' ').next().unwrap()).collect();
        assert_eq!(kept, newest, "the newest, without a gap");
    }

    #[test]
    fn a_log_that_was_just_rotated_is_not_rotated_again() {
        let folder = base();
        let base = folder.path();
        let log = Log::with_limits(base, 100, 3);
        (0..2).for_each(|n| log.event("test", &[("n", &n)]));
        let (new, old) = (read(base, LOG_NAME), read(base, "deepwater.log.1"));
        assert_eq!((new.lines().count(), old.lines().count()), (1, 1));
        // Act as if this process had seen the full log before another process rotated it.
        log.turn_over(20).unwrap();
        assert_eq!((read(base, LOG_NAME), read(base, "deepwater.log.1")), (new, old));
    }

    #[test]
    fn an_interrupted_rotation_loses_no_backup() {
        let folder = base();
        let base = folder.path();
        let log = Log::with_limits(base, 100, 3);
        for (name, text) in [("deepwater.log", "x\n"), ("deepwater.log.2", "2\n")] {
            fs::write(base.join(name), text.repeat(50)).unwrap();
        }
        fs::write(base.join("deepwater.log.3"), "3\n").unwrap();
        log.event("test", &[]);
        assert_eq!(read(base, "deepwater.log.1"), "x\n".repeat(50));
        assert_eq!(read(base, "deepwater.log.2"), "2\n".repeat(50));
        assert_eq!(read(base, "deepwater.log.3"), "3\n");
    }

    #[test]
    fn an_event_after_a_truncated_line_is_on_its_own_line() {
        let folder = base();
        fs::write(folder.path().join(LOG_NAME), "2026-01-01T00:00:00Z event=wri").unwrap();
        Log::of(folder.path()).event("test", &[]);
        let text = read(folder.path(), LOG_NAME);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].contains("Z event=test pid="), "{text}");
    }

    #[test]
    fn events_do_not_wait_for_a_rotation() {
        let folder = base();
        let base = folder.path();
        let held = Lock::wait(&base.join("locks/log")).unwrap();
        let log = Log::with_limits(base, 100, 3);
        (0..5).for_each(|n| log.event("test", &[("n", &n)]));
        assert_eq!(read(base, LOG_NAME).lines().count(), 5, "longer than it should be, and whole");
        // The log also works if the lock cannot be taken at all.
        drop(held);
        fs::remove_dir_all(base.join("locks")).unwrap();
        log.event("test", &[]);
        assert_eq!(read(base, LOG_NAME).lines().count(), 6);
    }
}
