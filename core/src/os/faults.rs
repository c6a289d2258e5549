//! The seam through which tests inject faults. Every system call that changes a file, every store
//! to a mapped file and every named step of a protocol passes here. Without the feature `faults`
//! all of it is nothing: no code, and no way in from outside.
//!
//! With the feature, steps are numbered over the whole process, and two ways lead in:
//!
//! - `$DEEPWATER_FAULTS`, for the tools: a list, separated by commas, of
//!
//!   | item | what happens |
//!   |---|---|
//!   | `pause=NAME[:N]` | at the N-th step of that name (1 if not given) the process makes the
//! file `NAME.reached` in the folder `$DEEPWATER_FAULTS_DIR` and waits until there is a file
//! `NAME.go` |
//!   | `kill=NAME[:N]` | there it kills itself (SIGKILL) |
//!   | `kill-at=N` | it kills itself before step number N |
//!   | `fail=OP[@ENDING]:N:ERRNO` | the N-th such operation, on a path with that ending, fails;
//! `N+`: that one and all later |
//!   | `skip=OP[@ENDING]` | such operations are left out, and say they were done |
//!   | `log=FILE` | each step is a line of FILE: number, operation, path, offset, length |
//!
//! - [`watch`](injected::watch), for tests in the same process: a watcher of a folder sees every
//!   step in it before and after, and says whether it happens. [`pretend_boot`](
//!   injected::pretend_boot) gives the calling thread another boot id.

use std::io;
use std::path::Path;

#[cfg(feature = "faults")]
mod injected;

#[cfg(feature = "faults")]
pub use injected::{
    Step, Verdict, Watch, Watcher, pretend_boot, pretended_boot, step, value, watch,
};

/// What a step does to a file. The text is its name in `$DEEPWATER_FAULTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A file is made.
    Create,
    /// Space is allocated.
    Allocate,
    /// Bytes are written.
    Write,
    /// Bytes are stored through a mapping.
    Store,
    /// The size is set.
    Truncate,
    /// The file is made durable.
    Sync,
    /// The names in a folder are made durable.
    SyncFolder,
    /// A file or folder gets another name.
    Rename,
    /// A file or an empty folder goes.
    Remove,
    /// A folder is made.
    MakeFolder,
    /// A file is mapped. Changes nothing, and is not numbered.
    Map,
    /// Bytes are read. Changes nothing, and is not numbered.
    Read,
    /// A step of a protocol that is no system call.
    Point,
}

/// One operation on a file.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    /// What is done.
    pub op: Op,
    /// The file or folder.
    pub path: &'a Path,
    /// Its new name, of a rename.
    pub to: Option<&'a Path>,
    /// First byte concerned; the new size of a truncation.
    pub at: u64,
    /// Bytes concerned.
    pub len: u64,
}

impl<'a> Io<'a> {
    /// An operation on a whole file or folder.
    #[inline(always)]
    pub fn on(op: Op, path: &'a Path) -> Io<'a> {
        Io { op, path, to: None, at: 0, len: 0 }
    }

    /// An operation on some of a file's bytes.
    #[inline(always)]
    pub fn range(op: Op, path: &'a Path, at: u64, len: u64) -> Io<'a> {
        Io { op, path, to: None, at, len }
    }
}

/// Does what `io` describes by calling `act`, unless a fault is asked for.
///
/// # Errors
/// Those of `act`, and injected ones.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn io(_io: Io<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    act()
}

/// Does what `io` describes by calling `act`, unless a fault is asked for.
///
/// # Errors
/// Those of `act`, and injected ones.
#[cfg(feature = "faults")]
pub fn io(io: Io<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    injected::io(&io, act, || ())
}

/// As [`io`], of an operation that makes something and so cannot be left out.
///
/// # Errors
/// As [`io`].
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn make<T>(_io: Io<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// As [`io`], of an operation that makes something and so cannot be left out.
///
/// # Errors
/// As [`io`].
#[cfg(feature = "faults")]
pub fn make<T>(io: Io<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    injected::io(&io, act, || panic!("{io:?} cannot be left out"))
}

/// Stores to a mapped file by calling `copy` with the range of bytes, counted from the first; with
/// the feature in two halves, since another processor or the disk may see one of them alone.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn store(_path: &Path, _at: usize, len: usize, copy: impl Fn(std::ops::Range<usize>)) {
    copy(0..len);
}

/// Stores to a mapped file by calling `copy` with the range of bytes, counted from the first; with
/// the feature in two halves, since another processor or the disk may see one of them alone.
#[cfg(feature = "faults")]
pub fn store(path: &Path, at: usize, len: usize, copy: impl Fn(std::ops::Range<usize>)) {
    // A word is stored at once.
    let half = if len > 8 { len / 2 } else { len };
    for range in [0..half, half..len].into_iter().filter(|range| !range.is_empty()) {
        let (at, len) = ((at + range.start) as u64, range.len() as u64);
        let half = Io::range(Op::Store, path, at, len);
        // A store cannot fail, only be left out.
        let _ = io(half, || {
            copy(range);
            Ok(())
        });
    }
}

/// A step of a protocol, named `part.what` once in the source: after a store to a word that others
/// act upon.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn step(_name: &'static str) {}

/// A step that stored `value`, for the log.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn value(_name: &'static str, _value: u64) {}
