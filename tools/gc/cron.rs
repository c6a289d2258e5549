//! Adds and removes dw-gc's line in the user's crontab, through the program `crontab`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

use crate::cli::messages;

/// The end of our lines.
const MARK: &[u8] = b" # deepwater";
const BASE_PATH: &[u8] = b" --base-path ";
/// cron truncates or rejects longer commands.
const LONGEST_LINE: usize = 998;

/// How often cron runs dw-gc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    minutes: u32,
}

impl Default for Interval {
    fn default() -> Self {
        Interval { minutes: 15 }
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minutes: u32 = text.parse().map_err(|_| "minutes, as 15".to_owned())?;
        let fits = match minutes {
            1..60 => 60_u32.is_multiple_of(minutes),
            60..=1440 => minutes.is_multiple_of(60),
            _ => false,
        };
        if !fits {
            return Err("minutes that divide 60, or whole hours up to 1440".to_owned());
        }
        Ok(Interval { minutes })
    }
}

impl Interval {
    /// Returns the five time fields of cron.
    fn fields(self) -> String {
        match (self.minutes, self.minutes / 60) {
            (1, _) => "* * * * *".to_owned(),
            (60, _) => "0 * * * *".to_owned(),
            (1440, _) => "0 0 * * *".to_owned(),
            (minutes, 0) => format!("*/{minutes} * * * *"),
            (_, hours) => format!("0 */{hours} * * *"),
        }
    }
}

/// Adds or replaces the line of the store at `base`.
///
/// # Errors
/// If there is no `crontab`, or if it fails.
pub fn install(base: &Path, every: Interval, min_free: Option<u64>) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where dw-gc is")?;
    let base = absolute(base).context("cannot tell where the store is")?;
    let line = line(&program, &base, every, min_free)?;
    let old = read()?;
    let new = with_line(&old, &base, &line);
    if new != old {
        write(&new)?;
    }
    messages::note(format!("in the crontab: {}", String::from_utf8_lossy(&line)));
    Ok(())
}

/// Removes the line of the store at `base`, if there is one.
///
/// # Errors
/// If there is no `crontab`, or if it fails.
pub fn uninstall(base: &Path) -> anyhow::Result<()> {
    let base = absolute(base).context("cannot tell where the store is")?;
    let old = read()?;
    let new = without_line(&old, &base);
    if new == old {
        messages::warn(format!("{}: no line of the crontab is for it", base.display()));
        return Ok(());
    }
    write(&new)
}

fn line(
    program: &Path,
    base: &Path,
    every: Interval,
    min_free: Option<u64>,
) -> anyhow::Result<Vec<u8>> {
    let mut line = every.fields().into_bytes();
    line.push(b' ');
    line.extend(word(program)?);
    line.extend(b" --quiet");
    if let Some(bytes) = min_free {
        line.extend(format!(" --min-free {bytes}").bytes());
    }
    line.extend(BASE_PATH);
    line.extend(word(base)?);
    line.extend(MARK);
    ensure!(line.len() <= LONGEST_LINE, "{}: a path too long for cron", base.display());
    Ok(line)
}

/// Quotes a path as one shell word for a crontab, where cron takes a `%` for the end of the
/// command.
fn word(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut quoted = vec![b'\''];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\n' => bail!("{}: a line break, which no crontab can hold", path.display()),
            b'\'' => quoted.extend(b"'\\''"),
            b'%' => quoted.extend(b"\\%"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    Ok(quoted)
}

/// Whether a line is ours and of this store.
fn is_line_of(line: &[u8], base: &Path) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(command) = line.strip_suffix(MARK) else { return false };
    // The option may also occur inside a path. It is the right place if the rest is one word.
    let places = command.windows(BASE_PATH.len()).enumerate();
    places
        .filter(|(_, window)| *window == BASE_PATH)
        .filter_map(|(at, _)| unquoted(&command[at + BASE_PATH.len()..]))
        .any(|path| same(&path, base))
}

/// Returns the path that a quoted [`word`] stands for.
fn unquoted(word: &[u8]) -> Option<PathBuf> {
    let mut rest = word.strip_prefix(b"'")?;
    let mut path = Vec::new();
    loop {
        rest = match rest {
            [b'\''] => return Some(PathBuf::from(std::ffi::OsString::from_vec(path))),
            [b'\'', b'\\', b'\'', b'\'', rest @ ..] => {
                path.push(b'\'');
                rest
            }
            [b'\\', b'%', rest @ ..] => {
                path.push(b'%');
                rest
            }
            [b'\'' | b'%', ..] | [] => return None,
            [byte, rest @ ..] => {
                path.push(*byte);
                rest
            }
        };
    }
}

/// Whether two absolute paths are the same directory, by name or, if it exists, by inode.
fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || (real(one).is_some() && real(one) == real(other))
}

/// Returns the crontab with our line, in place of the old one or else as the last complete line.
/// All other bytes stay as they are.
fn with_line(crontab: &[u8], base: &Path, line: &[u8]) -> Vec<u8> {
    let mut new = Vec::new();
    let mut put = false;
    for old in crontab.split_inclusive(|b| *b == b'\n') {
        let ours = is_line_of(old, base);
        // A last line without a newline stays the last.
        if !put && (ours || !old.ends_with(b"\n")) {
            new.extend([line, b"\n"].concat());
            put = true;
        }
        if !ours {
            new.extend(old);
        }
    }
    if !put {
        new.extend([line, b"\n"].concat());
    }
    new
}

fn without_line(crontab: &[u8], base: &Path) -> Vec<u8> {
    let lines = crontab.split_inclusive(|b| *b == b'\n');
    lines.filter(|line| !is_line_of(line, base)).collect::<Vec<_>>().concat()
}

const NO_CRONTAB: &str =
    "is cron installed? A systemd timer, or any other scheduler, can run dw-gc as well";

/// Returns the user's crontab; empty if there is none.
fn read() -> anyhow::Result<Vec<u8>> {
    let output = Command::new("crontab").arg("-l").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run crontab; {NO_CRONTAB}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !said.contains("no crontab") {
        bail!("crontab -l failed: {}", said.trim());
    }
    Ok(output.stdout)
}

fn write(crontab: &[u8]) -> anyhow::Result<()> {
    let mut child = Command::new("crontab")
        .arg(OsStr::new("-"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run crontab; {NO_CRONTAB}"))?;
    let mut input = child.stdin.take().context("crontab has no stdin")?;
    // `crontab` may stop reading when it fails. Its own message is the error to report.
    let written = input.write_all(crontab);
    drop(input);
    let output = child.wait_with_output().context("cannot wait for crontab")?;
    if !output.status.success() {
        bail!("crontab refused the new table: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    written.context("cannot hand the new table to crontab")
}
