//! Repair: finds what of a feed is damaged, and puts right what other copies, sums and records
//! allow (FORMAT.md, Repair).
//!
//! [`plan`] only reads; [`apply()`] does what a plan says and keeps the originals. Whoever applies
//! holds the feed's lock from before the plan was made.

mod apply;
mod compose;
mod inspect;
mod roster;
mod shelf;
pub mod store;

use std::path::PathBuf;

use crate::chunk::proof::last_session;
use crate::error::{Result, sound};
use crate::os::lock::Lock;
use crate::registry::feed::FeedRegistry;
use crate::registry::info::FeedInfo;
use crate::registry::salvage::{Row, Salvage};
use crate::registry::view::LiveView;
use crate::store::Platform;
use crate::writer::recover;

pub use apply::{Applied, apply};
pub use compose::plan;

/// What is damaged, or not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of a chunk.
    Block,
    /// A `.data` file as a whole.
    Data,
    /// A chunk's index.
    Index,
    /// Marks of a chunk.
    Marks,
    /// A chunk that the table has not, or seqs that no chunk has.
    Chunk,
    /// The table: `feed_registry.bin`.
    Table,
    /// A checkpoint in it.
    Checkpoint,
    /// The lease in it.
    Lease,
    /// The live page.
    LivePage,
    /// `feed.json`.
    Spec,
    /// Its copy.
    SpecCopy,
    /// Files that belong to nothing.
    Stray,
    /// A chunk that is in shared memory and not on disk.
    Staged,
    /// A session that was not closed: its writer died. No damage.
    Unfinished,
    /// The folder of locks.
    Locks,
    /// `manifest.json`.
    Manifest,
    /// `registry.bin`.
    Registry,
}

impl Kind {
    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Block => "block",
            Kind::Data => "data",
            Kind::Index => "index",
            Kind::Marks => "marks",
            Kind::Chunk => "chunk",
            Kind::Table => "table",
            Kind::Checkpoint => "checkpoint",
            Kind::Lease => "lease",
            Kind::LivePage => "live-page",
            Kind::Spec => "spec",
            Kind::SpecCopy => "spec-copy",
            Kind::Stray => "stray",
            Kind::Staged => "staged",
            Kind::Unfinished => "unfinished",
            Kind::Locks => "locks",
            Kind::Manifest => "manifest",
            Kind::Registry => "registry",
        }
    }
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The records are taken out: they are gone from the feed.
    Remove,
    /// It is made again; no record is gone by it.
    Rebuild,
    /// The files are moved to quarantine.
    Move,
    /// What a dead writer left is sealed.
    Seal,
    /// Nothing.
    Leave,
}

impl Action {
    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Remove => "remove",
            Action::Rebuild => "rebuild",
            Action::Move => "move",
            Action::Seal => "seal",
            Action::Leave => "leave",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// What is done about it.
    pub action: Action,
    /// The chunk.
    pub chunk: Option<u64>,
    /// Its seqs, half-open.
    pub seqs: Option<(u64, u64)>,
    /// Least and greatest time there, in the feed's unit, where known.
    pub times: Option<(u64, u64)>,
    /// What is wrong, and where, for people.
    pub what: String,
}

impl Finding {
    fn new(kind: Kind, action: Action, what: impl Into<String>) -> Finding {
        Finding { kind, action, chunk: None, seqs: None, times: None, what: what.into() }
    }

    fn of_chunk(self, chunk_id: u64) -> Finding {
        Finding { chunk: Some(chunk_id), ..self }
    }

    fn with_seqs(self, seqs: (u64, u64), times: Option<(u64, u64)>) -> Finding {
        Finding { seqs: Some(seqs), times, ..self }
    }

    /// Whether it is damage. What a writer that died has left is none.
    pub fn is_damage(&self) -> bool {
        let left = self.kind == Kind::Staged && self.action == Action::Leave;
        self.kind != Kind::Unfinished && !left
    }

    /// Records that are gone by it.
    pub fn records_gone(&self) -> u64 {
        match (self.action, self.seqs) {
            (Action::Remove, Some((lo, hi))) => hi - lo,
            _ => 0,
        }
    }
}

/// How to plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Staged chunks whose segments are gone are given up.
    pub force_lost: bool,
    /// The feed is being written: only sealed chunks are looked at.
    pub written: bool,
}

/// A file to be written whole.
struct NewFile {
    path: PathBuf,
    content: Content,
}

/// What a new file holds.
enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes of another file: from, and how many.
    Part { source: PathBuf, from: u64, len: u64 },
}

/// A table to be written.
struct NewTable {
    rows: Vec<Row>,
    lease: u64,
}

/// What is to be done to one feed. Made by [`plan`], done by [`apply()`].
pub struct Plan {
    /// The feed.
    pub feed: FeedInfo,
    /// Everything found, in the order of the feed.
    pub findings: Vec<Finding>,
    /// Chunks that were looked at.
    pub chunks: u64,
    /// Records that will be there afterwards, of the chunks looked at.
    pub records: u64,
    /// `feed.json` and its copy are written again.
    write_spec: bool,
    /// New chunk files, and ones that replace others.
    files: Vec<NewFile>,
    /// Files that the new table does not name.
    dropped: Vec<PathBuf>,
    /// Files that were never whole.
    undone: Vec<PathBuf>,
    table: Option<NewTable>,
    salvage: Salvage,
    /// A new live page is made.
    new_page: bool,
    /// The last session was not closed, or a chunk not sealed.
    unfinished: bool,
    /// Whether the files refute the count on the live page.
    refuted: bool,
}

impl Plan {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        !self.findings.iter().any(Finding::is_damage)
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        let files = self.files.len() + self.dropped.len() + self.undone.len();
        let others = self.write_spec || self.new_page || self.table.is_some();
        files == 0 && !others && !self.unfinished
    }

    /// Records that are gone for good.
    pub fn records_gone(&self) -> u64 {
        self.findings.iter().map(Finding::records_gone).sum()
    }
}

/// Brings to disk what a writer that died has left in shared memory, as the next writer would.
/// What is missing counts as unreachable, with `force_lost` as lost.
///
/// # Errors
/// [`Error::NoFeed`]; [`Error::Damaged`] and [`Error::Io`], and then the plan finds out more.
pub fn adopt(platform: &Platform, name: &str, options: Options, _lock: &Lock) -> Result<()> {
    let feed = platform.feed_info(name)?;
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, true)?;
    let open = last_session(&registry.entries()?).is_some_and(|session| session.close.is_none());
    if open && LiveView::of(&feed, &registry)?.is_staged() {
        recover::settle(&feed, &registry, options.force_lost)?;
    }
    Ok(())
}

/// Takes a feed's lock for a repair.
///
/// # Errors
/// [`Error::Locked`] with the writer's pid while the feed is written; [`Error::Io`].
pub fn lock(platform: &Platform, name: &str) -> Result<Lock> {
    let feed = platform.feed_place(name)?;
    let info = sound(platform.feed_info(name))?;
    let lock = feed.lockable(name, info.as_ref()).take()?;
    let open = |info: &FeedInfo| FeedRegistry::open(&info.registry_path(), &info.id, false);
    let registry = info.as_ref().map(|info| sound(open(info))).transpose()?.flatten();
    if let Some(segments) = registry.and_then(|registry| registry.segments()) {
        segments.close_to_others(platform.base(), platform.store_id())?;
    }
    Ok(lock)
}

/// Whether a feed is being written.
///
/// # Errors
/// [`Error::NoFeed`], [`Error::Damaged`] for a registry that does not check.
pub fn is_written(platform: &Platform, name: &str) -> Result<bool> {
    let feed = platform.feed_place(name)?;
    Ok(Lock::feed_is_held(&feed.lock)?.unwrap_or(false))
}
