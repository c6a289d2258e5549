//! Writes a writer's events to the store's log.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::log::Log;
use crate::registry::feed::{ChunkEnd, Seal, SessionClose, SessionEntry};
use crate::registry::info::FeedInfo;

/// At most how often rejected rows get a line in the log.
const REJECTS_EVERY: Duration = Duration::from_secs(60);

/// Logs the events of one session.
pub(super) struct Journal {
    log: Log,
    feed: String,
    session_id: u64,
    /// Why the last rejected row was rejected.
    last_reject: Mutex<String>,
    /// The number of rejected rows in the log, and when it was logged.
    rejects: Mutex<(u64, Option<Instant>)>,
}

impl Journal {
    /// Logs that a session begins.
    pub fn open(feed: &FeedInfo, session: &SessionEntry) -> Journal {
        let log = feed.log();
        let fields: [(&str, &dyn Display); 3] =
            [("feed", &feed.name), ("session", &session.session_id), ("seq", &session.base_seq)];
        log.event("writer-opened", &fields);
        Journal {
            log,
            feed: feed.name.clone(),
            session_id: session.session_id,
            last_reject: Mutex::default(),
            rejects: Mutex::default(),
        }
    }

    /// Returns the log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Stores why a row was rejected, for the next line about rejects.
    pub fn note_reject(&self, why: String) {
        *self.last_reject.lock().unwrap_or_else(|e| e.into_inner()) = why;
    }

    /// Logs the number of rejected rows if it has grown and the last line is old enough, or if this
    /// is the `last` call.
    pub fn rejects(&self, rejected: u64, last: bool) {
        let mut told = self.rejects.lock().unwrap_or_else(|e| e.into_inner());
        let due = told.1.is_none_or(|at| at.elapsed() >= REJECTS_EVERY);
        if rejected == told.0 || !(due || last) {
            return;
        }
        *told = (rejected, Some(Instant::now()));
        let why = self.last_reject.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let fields: [(&str, &dyn Display); 4] = [
            ("feed", &self.feed),
            ("session", &self.session_id),
            ("rejected", &rejected),
            ("last", &why),
        ];
        self.log.event("rejects", &fields);
    }

    /// Logs a failure that ends the session.
    pub fn failed(&self, why: &str) {
        let fields: [(&str, &dyn Display); 3] =
            [("feed", &self.feed), ("session", &self.session_id), ("why", &why)];
        self.log.event("writer-failed", &fields);
    }
}

/// Logs a sealed chunk. `chunk` is its id and first seq.
pub(super) fn log_sealed(log: &Log, feed: &FeedInfo, chunk: (u64, u64), seal: &Seal) {
    let (chunk_id, base_seq) = chunk;
    let seqs = format!("{base_seq}..{}", base_seq + seal.count);
    let bytes = seal.count * feed.geometry().record_size as u64;
    let fields: [(&str, &dyn Display); 6] = [
        ("feed", &feed.name),
        ("chunk", &chunk_id),
        ("seq", &seqs),
        ("records", &seal.count),
        ("bytes", &bytes),
        ("reason", &ChunkEnd::word(seal.reason)),
    ];
    log.event("chunk-sealed", &fields);
}

/// Logs that a session ends.
pub(super) fn log_closed(log: &Log, feed: &FeedInfo, session: &SessionEntry, close: &SessionClose) {
    let seqs = format!("{}..{}", session.base_seq, close.end_seq);
    let fields: [(&str, &dyn Display); 8] = [
        ("feed", &feed.name),
        ("session", &session.session_id),
        ("reason", &close.reason.as_str()),
        ("seq", &seqs),
        ("rows", &close.end_seq.saturating_sub(session.base_seq)),
        ("late", &close.counters.late),
        ("rejected", &close.counters.rejected),
        ("passed_over", &close.counters.passed_over),
    ];
    log.event("writer-closed", &fields);
}
