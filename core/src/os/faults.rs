//! The hooks through which tests inject faults. Every system call that changes a file, every store
//! to a mapped file and every named step of a protocol passes through here. Without the feature
//! `faults`, the hooks compile to nothing and cannot be reached from outside.
//!
//! With the feature, steps are numbered across the whole process. There are two ways to inject
//! faults:
//!
//! - `$DEEPWATER_FAULTS`, for the tools: a comma-separated list of these items.
//!
//!   - `pause=NAME[:N]`: at the N-th step of that name (default 1), the process creates the file
//!     `NAME.reached` in the folder `$DEEPWATER_FAULTS_DIR` and waits for a file `NAME.go`.
//!   - `kill=NAME[:N]`: at that step, the process kills itself (SIGKILL).
//!   - `kill-at=N`: the process kills itself before step number N.
//!   - `fail=OP[@ENDING]:N:ERRNO`: the N-th such operation, on a path with that ending, fails.
//!     `N+` means that one and all later ones.
//!   - `skip=OP[@ENDING]`: such operations are skipped, but report success.
//!   - `log=FILE`: each step adds a line to FILE: number, operation, path, offset, length.
//!
//! - [`watch`](injected::watch), for tests in the same process: a watcher of a folder is called
//!   before and after every step in the folder, and decides whether the step happens.
//!   [`pretend_boot`](injected::pretend_boot) gives the calling thread another boot id.

use std::io;
use std::path::Path;

#[cfg(feature = "faults")]
mod injected;

#[cfg(feature = "faults")]
pub use injected::{
    Step, Verdict, Watch, Watcher, pretend_boot, pretended_boot, step, value, watch,
};

/// What a step does to a file. The text of a variant is its name in `$DEEPWATER_FAULTS`.
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
    /// A file or folder is renamed.
    Rename,
    /// A file or an empty folder is removed.
    Remove,
    /// A folder is made.
    MakeFolder,
    /// A file is mapped. Changes nothing, and is not numbered.
    Map,
    /// Bytes are read. Changes nothing, and is not numbered.
    Read,
    /// A step of a protocol that is not a system call.
    Point,
}

/// One operation on a file.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    /// What is done.
    pub op: Op,
    /// The file or folder.
    pub path: &'a Path,
    /// The new name, if it is a rename.
    pub to: Option<&'a Path>,
    /// Offset of the first byte; for a truncation, the new size.
    pub at: u64,
    /// Number of bytes.
    pub len: u64,
}

impl<'a> Io<'a> {
    /// Describes an operation on a whole file or folder.
    #[inline(always)]
    pub fn on(op: Op, path: &'a Path) -> Io<'a> {
        Io { op, path, to: None, at: 0, len: 0 }
    }

    /// Describes an operation on a range of a file's bytes.
    #[inline(always)]
    pub fn range(op: Op, path: &'a Path, at: u64, len: u64) -> Io<'a> {
        Io { op, path, to: None, at, len }
    }
}

/// Performs `io` by calling `act`, unless a fault is injected.
///
/// # Errors
/// Those of `act`, and injected ones.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn io(_io: Io<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    act()
}

/// Performs `io` by calling `act`, unless a fault is injected.
///
/// # Errors
/// Those of `act`, and injected ones.
#[cfg(feature = "faults")]
pub fn io(io: Io<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    injected::io(&io, act, || ())
}

/// As [`io`], for an operation that returns something and so cannot be skipped.
///
/// # Errors
/// As [`io`].
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn make<T>(_io: Io<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// As [`io`], for an operation that returns something and so cannot be skipped.
///
/// # Errors
/// As [`io`].
#[cfg(feature = "faults")]
pub fn make<T>(io: Io<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    injected::io(&io, act, || panic!("{io:?} cannot be left out"))
}

/// Stores to a mapped file by calling `copy` with the range of bytes, counted from the first. With
/// the feature, it stores in two halves, since another processor or the disk may see only one of
/// them.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn store(_path: &Path, _at: usize, len: usize, copy: impl Fn(std::ops::Range<usize>)) {
    copy(0..len);
}

/// Stores to a mapped file by calling `copy` with the range of bytes, counted from the first. With
/// the feature, it stores in two halves, since another processor or the disk may see only one of
/// them.
#[cfg(feature = "faults")]
pub fn store(path: &Path, at: usize, len: usize, copy: impl Fn(std::ops::Range<usize>)) {
    // A word is stored whole.
    let half = if len > 8 { len / 2 } else { len };
    for range in [0..half, half..len].into_iter().filter(|range| !range.is_empty()) {
        let (at, len) = ((at + range.start) as u64, range.len() as u64);
        let half = Io::range(Op::Store, path, at, len);
        // A store cannot fail; it can only be skipped.
        let _ = io(half, || {
            copy(range);
            Ok(())
        });
    }
}

/// Marks a step of a protocol: it follows a store to a word that other processes act on. Each name,
/// `part.what`, occurs once in the source.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn step(_name: &'static str) {}

/// Marks a step that stored `value`, which is logged.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn value(_name: &'static str, _value: u64) {}
