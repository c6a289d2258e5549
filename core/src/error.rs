//! The errors of the library, with the place where they occurred.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts how often a limit of the process or the system was met.
static LIMITS_MET: AtomicU64 = AtomicU64::new(0);

/// The result type of the library.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of the library. The text says what happened and where. If there is a remedy, the
/// text ends with it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed on a file.
    Io {
        /// What was being done, as a verb phrase: `cannot open`.
        doing: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The base directory is not a store.
    NoStore {
        /// The base directory.
        base: PathBuf,
        /// Why it is not a store.
        why: String,
    },
    /// The store has no feed of that name.
    NoFeed {
        /// The base directory.
        base: PathBuf,
        /// The name asked for.
        feed: String,
    },
    /// A feed specification, field, type or name that is not allowed.
    Spec(String),
    /// The feed exists with a different layout or policy.
    Drift {
        /// The feed.
        feed: String,
        /// One line per difference.
        differences: Vec<String>,
        /// What to do about it.
        hint: &'static str,
    },
    /// Another process holds the feed's writer lock.
    Locked {
        /// The feed.
        feed: String,
        /// The holder's process id, if the live page names one.
        pid: Option<u32>,
    },
    /// A file does not follow the format.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte offset of the damage in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file has a format version that this build does not know.
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// A staged feed's newest records are in shared memory that this process cannot reach.
    OtherMemory {
        /// The feed.
        feed: String,
        /// The folder of the feed's segments, as the writer noted it.
        path: PathBuf,
    },
    /// Shared memory has no room for the records.
    MemoryFull {
        /// The feed.
        feed: String,
        /// The folder of the feed's segments.
        path: PathBuf,
        /// Bytes of the records.
        wanted_bytes: u64,
        /// Bytes free there.
        free_bytes: u64,
    },
    /// A record, batch or argument that the call does not accept.
    Invalid(String),
    /// An earlier sync or allocation failed: the writer accepts no more records.
    Poisoned(String),
}

impl Error {
    /// Wraps a system error with the operation and the file.
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let error = Error::Io { doing, path: path.as_ref().to_owned(), source };
        if error.is_limit() {
            LIMITS_MET.fetch_add(1, Ordering::Relaxed);
        }
        error
    }

    /// Runs `look`, whose answer depends on what it finds, and returns the answer only if no limit
    /// was met meanwhile. Otherwise files that could not be opened would pass for missing ones.
    pub(crate) fn unless_limited<T>(look: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = LIMITS_MET.load(Ordering::Relaxed);
        let found = look()?;
        if LIMITS_MET.load(Ordering::Relaxed) == before {
            return Ok(found);
        }
        let what = "a limit of open files or of memory kept it from looking at everything; raise \
                    the limits of the process (ulimit -n, ulimit -v)";
        Err(Error::Invalid(what.to_owned()))
    }

    /// Whether a limit of the process or the system was met: of open files, or of memory. Such an
    /// error says nothing about the store.
    pub fn is_limit(&self) -> bool {
        self.is_of(&[libc::EMFILE, libc::ENFILE, libc::ENOMEM])
    }

    /// Whether permission was denied. Such an error says nothing about the store either.
    pub fn is_denied(&self) -> bool {
        self.is_of(&[libc::EACCES, libc::EPERM])
    }

    fn is_of(&self, numbers: &[i32]) -> bool {
        let Error::Io { source, .. } = self else { return false };
        source.raw_os_error().is_some_and(|number| numbers.contains(&number))
    }

    /// Whether the error says nothing about the requested file: a limit was met, permission was
    /// denied, or the disk failed. Such an error must never pass for a missing file.
    pub fn says_nothing(&self) -> bool {
        self.is_limit() || self.is_denied() || self.is_of(&[libc::EIO])
    }

    /// Returns what to do about the error, if the message itself does not say.
    pub fn remedy(&self) -> Option<&'static str> {
        if self.is_of(&[libc::EMFILE]) {
            return Some("raise the limit of open files (ulimit -n)");
        }
        if self.is_of(&[libc::ENOMEM]) {
            return Some("raise the limit of address space (ulimit -v), or free memory");
        }
        let Error::Damaged { path, .. } = self else { return None };
        let name = path.file_name().and_then(|name| name.to_str());
        match name {
            Some("manifest.json" | "registry.bin") => {
                Some("dw-repair --rebuild-registry makes it again from the feeds")
            }
            _ => Some("dw-repair --dry-run shows what can be saved"),
        }
    }

    /// Whether a file is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether a file is damaged.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. })
    }

    /// Reports damage at byte `offset` of `path`.
    pub fn damaged(path: impl AsRef<Path>, offset: u64, what: impl Into<String>) -> Self {
        Error::Damaged { path: path.as_ref().to_owned(), offset, what: what.into() }
    }
}

/// Returns the result, or `None` if the file is missing or damaged.
///
/// # Errors
/// An error that says nothing about the file; see [`Error::says_nothing`].
pub fn sound<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if !error.says_nothing() => Ok(None),
        result => result.map(Some),
    }
}

/// Returns the result, or `None` if the file is missing.
///
/// # Errors
/// Every other error.
pub fn there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.is_not_found() || error.is_of(&[libc::ENOTDIR]) => Ok(None),
        result => result.map(Some),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, path, source } => {
                write!(f, "{doing} {}: {}", path.display(), system_text(source))
            }
            Error::NoStore { base, why } => write!(
                f,
                "{}: not a Deepwater store ({why}); dw-mkfeed makes one, --base-path or \
                 $DEEPWATER_BASE names another",
                base.display()
            ),
            Error::NoFeed { base, feed } => write!(
                f,
                "{feed}: no such feed in {}; dw-ls lists them, dw-mkfeed makes one",
                base.display()
            ),
            Error::Spec(text) | Error::Invalid(text) => f.write_str(text),
            Error::Drift { feed, differences, hint } => {
                write!(f, "{feed}: exists and differs: {}; {hint}", differences.join("; "))
            }
            Error::Locked { feed, pid: Some(pid) } => write!(
                f,
                "{feed}: already being written by process {pid}; a feed has one writer at a time"
            ),
            Error::Locked { feed, pid: None } => {
                write!(f, "{feed}: locked by another process; a feed has one writer at a time")
            }
            Error::Damaged { path, offset, what } => {
                write!(f, "{}: damaged at byte {offset}: {what}", path.display())
            }
            Error::Version { path, found } => write!(
                f,
                "{}: format version {found}, and this build knows version {}; use the Deepwater \
                 release that wrote the store",
                path.display(),
                crate::FORMAT_VERSION
            ),
            Error::OtherMemory { feed, path } => write!(
                f,
                "{feed}: its newest records are in shared memory, in {}, and that is another \
                 device here (a container has its own /dev/shm); read it where it is written, or \
                 share that folder",
                path.display()
            ),
            Error::MemoryFull { feed, path, wanted_bytes, free_bytes } => write!(
                f,
                "{feed}: shared memory is full: {wanted_bytes} bytes of records to store, \
                 {free_bytes} bytes free in {}; make room there, or use smaller chunks or stage \
                 disk (dw-mkfeed --update)",
                path.display()
            ),
            Error::Poisoned(why) => {
                write!(f, "the writer has stopped after an error: {why}; open the feed again")
            }
        }
    }
}

/// Returns the system's text for an error, without Rust's `(os error N)`.
pub fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
