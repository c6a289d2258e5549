//! Faults as the feature has them; see the module above.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, RwLock};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

use super::{Io, Op};

/// A numbered step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// From 1, over the whole process; 0 for what changes nothing.
    pub number: u64,
    /// What is done, and to which file; a point has no path.
    pub io: Io<'a>,
    /// Name of a point.
    pub name: &'static str,
    /// What a point stored, where it says.
    pub value: Option<u64>,
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It happens.
    Go,
    /// It is left out, and says it was done.
    Skip,
    /// It is left out and fails with this errno.
    Fail(i32),
}

/// Watches the steps in a folder. A point has no path, so every watcher sees every point.
pub trait Watcher: Send + Sync {
    /// Called before a step; of a point, after it.
    fn before(&self, step: &Step<'_>) -> Verdict;
    /// Called after a step that happened, with whether it succeeded.
    fn after(&self, step: &Step<'_>, succeeded: bool);
}

/// Keeps a watcher at work until dropped.
pub struct Watch(Arc<dyn Watcher>);

type Watchers = RwLock<Vec<(PathBuf, Arc<dyn Watcher>)>>;
static WATCHERS: Watchers = RwLock::new(Vec::new());

/// Shows a watcher every step in `folder`.
pub fn watch(folder: &Path, watcher: Arc<dyn Watcher>) -> Watch {
    let mut all = WATCHERS.write().unwrap_or_else(|e| e.into_inner());
    all.push((folder.to_owned(), Arc::clone(&watcher)));
    Watch(watcher)
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = WATCHERS.write().unwrap_or_else(|e| e.into_inner());
        all.retain(|(_, watcher)| !Arc::ptr_eq(watcher, &self.0));
    }
}

thread_local! {
    static BOOT: Cell<Option<[u8; 16]>> = const { Cell::new(None) };
}

/// Gives the calling thread another boot id, or the real one back: a test goes on after a reboot.
pub fn pretend_boot(id: Option<[u8; 16]>) {
    BOOT.set(id);
}

/// The boot id that the calling thread was given.
pub fn pretended_boot() -> Option<[u8; 16]> {
    BOOT.get()
}

fn watchers(path: &Path) -> Vec<Arc<dyn Watcher>> {
    let all = WATCHERS.read().unwrap_or_else(|e| e.into_inner());
    let sees = |folder: &Path| path.as_os_str().is_empty() || path.starts_with(folder);
    all.iter().filter(|(folder, _)| sees(folder)).map(|(_, w)| Arc::clone(w)).collect()
}

enum Fault {
    Pause { name: String, nth: u64 },
    Kill { name: String, nth: u64 },
    KillAt(u64),
    Fail { which: Which, nth: u64, later_too: bool, errno: i32, met: AtomicU64 },
    Skip(Which),
}

/// Operations of a kind, on paths with an ending.
struct Which {
    op: String,
    ending: String,
}

impl Which {
    fn parse(text: &str) -> Which {
        let (op, ending) = text.split_once('@').unwrap_or((text, ""));
        Which { op: op.to_owned(), ending: ending.to_owned() }
    }

    fn has(&self, io: &Io<'_>) -> bool {
        self.op == name_of(io.op) && io.path.to_string_lossy().ends_with(&self.ending)
    }
}

fn name_of(op: Op) -> &'static str {
    match op {
        Op::Create => "create",
        Op::Allocate => "allocate",
        Op::Write => "write",
        Op::Store => "store",
        Op::Truncate => "truncate",
        Op::Sync => "sync",
        Op::SyncFolder => "sync-folder",
        Op::Rename => "rename",
        Op::Remove => "remove",
        Op::MakeFolder => "make-folder",
        Op::Map => "map",
        Op::Read => "read",
        Op::Point => "point",
    }
}

fn errno_of(name: &str) -> i32 {
    match name {
        "EIO" => libc::EIO,
        "ENOSPC" => libc::ENOSPC,
        "EDQUOT" => libc::EDQUOT,
        "EACCES" => libc::EACCES,
        "EROFS" => libc::EROFS,
        "ENOMEM" => libc::ENOMEM,
        other => panic!("DEEPWATER_FAULTS: {other:?} is no errno it knows"),
    }
}

static STEPS: AtomicU64 = AtomicU64::new(0);
static COUNTS: LazyLock<Mutex<HashMap<&'static str, u64>>> = LazyLock::new(Mutex::default);
static LOG: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = items().into_iter().find_map(|item| item.strip_prefix("log=").map(str::to_owned))?;
    let file = File::options().append(true).create(true).open(&path);
    Some(file.unwrap_or_else(|e| panic!("DEEPWATER_FAULTS: {path}: {e}")))
});
static FAULTS: LazyLock<Vec<Fault>> =
    LazyLock::new(|| items().iter().filter_map(|item| parse(item)).collect());

fn items() -> Vec<String> {
    let text = std::env::var("DEEPWATER_FAULTS").unwrap_or_default();
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("DEEPWATER_FAULTS: {text:?} is no number"))
}

fn parse(item: &str) -> Option<Fault> {
    let (action, rest) = item.split_once('=').unwrap_or((item, ""));
    let (name, nth) = rest.split_once(':').unwrap_or((rest, "1"));
    let name = name.to_owned();
    Some(match action {
        "log" => return None,
        "pause" => Fault::Pause { name, nth: number(nth) },
        "kill" => Fault::Kill { name, nth: number(nth) },
        "kill-at" => Fault::KillAt(number(rest)),
        "skip" => Fault::Skip(Which::parse(rest)),
        "fail" => {
            let (nth, errno) = nth.split_once(':').unwrap_or((nth, "EIO"));
            let (nth, later_too) = nth.strip_suffix('+').map_or((nth, false), |n| (n, true));
            Fault::Fail {
                which: Which::parse(&name),
                nth: number(nth),
                later_too,
                errno: errno_of(errno),
                met: AtomicU64::new(0),
            }
        }
        other => panic!("DEEPWATER_FAULTS: {other:?} is no action"),
    })
}

fn next_number() -> u64 {
    let number = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
    if FAULTS.iter().any(|fault| matches!(fault, Fault::KillAt(n) if *n == number)) {
        die();
    }
    number
}

fn die() {
    let _ = raise(Signal::SIGKILL);
}

fn log(step: &Step<'_>) {
    let Some(mut file) = LOG.as_ref() else { return };
    let Step { number, io, name, value } = step;
    let what = match (io.op, io.to) {
        (Op::Point, _) => format!("{name} {}", value.map(|v| v.to_string()).unwrap_or_default()),
        (_, Some(to)) => format!("{} {}", io.path.display(), to.display()),
        _ => format!("{} {} {}", io.path.display(), io.at, io.len),
    };
    // One write: whole lines, whoever else writes and however soon the process is killed.
    let _ = file.write_all(format!("{number} {} {what}\n", name_of(io.op)).as_bytes());
}

fn verdict(step: &Step<'_>, watchers: &[Arc<dyn Watcher>]) -> Verdict {
    for fault in FAULTS.iter() {
        match fault {
            Fault::Skip(which) if which.has(&step.io) => return Verdict::Skip,
            Fault::Fail { which, nth, later_too, errno, met } if which.has(&step.io) => {
                let now = met.fetch_add(1, Ordering::SeqCst) + 1;
                if now == *nth || (*later_too && now > *nth) {
                    return Verdict::Fail(*errno);
                }
            }
            _ => {}
        }
    }
    let verdicts = watchers.iter().map(|watcher| watcher.before(step));
    verdicts.fold(Verdict::Go, |all, one| if all == Verdict::Go { one } else { all })
}

/// Does what `io` describes, unless a fault is asked for.
pub(super) fn io<T>(
    io: &Io<'_>,
    act: impl FnOnce() -> io::Result<T>,
    left_out: impl FnOnce() -> T,
) -> io::Result<T> {
    let changes = !matches!(io.op, Op::Read | Op::Map);
    let number = if changes { next_number() } else { 0 };
    let step = Step { number, io: *io, name: "", value: None };
    let watchers = watchers(io.path);
    let verdict = verdict(&step, &watchers);
    if changes {
        log(&step);
    }
    match verdict {
        Verdict::Skip => return Ok(left_out()),
        Verdict::Fail(errno) => return Err(io::Error::from_raw_os_error(errno)),
        Verdict::Go => {}
    }
    let done = act();
    watchers.iter().for_each(|watcher| watcher.after(&step, done.is_ok()));
    done
}

/// A step of a protocol, named `part.what` once in the source: after a store to a word that others
/// act upon.
pub fn step(name: &'static str) {
    point(name, None);
}

/// A step that stored `value`, for the log.
pub fn value(name: &'static str, value: u64) {
    point(name, Some(value));
}

fn point(name: &'static str, value: Option<u64>) {
    let nowhere = Path::new("");
    let step = Step { number: next_number(), io: Io::on(Op::Point, nowhere), name, value };
    for watcher in watchers(nowhere) {
        watcher.before(&step);
    }
    log(&step);
    if FAULTS.is_empty() {
        return;
    }
    let count = {
        let mut counts = COUNTS.lock().unwrap_or_else(|e| e.into_inner());
        let count = counts.entry(name).or_insert(0);
        *count += 1;
        *count
    };
    for fault in FAULTS.iter() {
        match fault {
            Fault::Kill { name: n, nth } if n == name && *nth == count => die(),
            Fault::Pause { name: n, nth } if n == name && *nth == count => pause(name),
            _ => {}
        }
    }
}

fn pause(name: &str) {
    let folder = PathBuf::from(std::env::var_os("DEEPWATER_FAULTS_DIR").unwrap_or_default());
    let _ = std::fs::write(folder.join(format!("{name}.reached")), "");
    while !folder.join(format!("{name}.go")).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
