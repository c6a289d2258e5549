//! What dw-write reports: rejected rows, durable seqs and counts.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use deepwater::time::TimeUnit;
use deepwater::writer::OnDurable;
use serde_json::json;

use crate::cli::messages;
use crate::cli::out::{self, Out};

/// How many rejected rows are reported individually per second. The others are only counted.
const TOLD_PER_SECOND: u64 = 5;

/// Counts, reports and saves rejected rows.
pub struct Rejects {
    file: Option<(BufWriter<File>, String)>,
    second: Instant,
    told: u64,
    silent: u64,
    /// All rejected rows.
    pub count: u64,
}

/// A rejected row.
pub struct Rejected<'a> {
    /// The input that contains it.
    pub file: &'a str,
    /// The line number, from 1. For raw input, the number of the record.
    pub line: u64,
    /// Byte in the line, from 1.
    pub column: u64,
    /// Why it was rejected.
    pub reason: &'a str,
    /// The row.
    pub text: &'a [u8],
}

impl Rejects {
    /// Creates `path`, if given, to save rejected rows in.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn new(path: Option<&Path>) -> anyhow::Result<Rejects> {
        let file = match path {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let file = File::options().append(true).create(true).open(path);
                let file = file.with_context(|| format!("cannot open {name} for --rejects"))?;
                Some((BufWriter::new(file), name))
            }
        };
        Ok(Rejects { file, second: Instant::now(), told: 0, silent: 0, count: 0 })
    }

    /// Counts, reports and saves one row.
    ///
    /// # Errors
    /// If it cannot be saved, because the row would be lost.
    pub fn add(&mut self, row: &Rejected<'_>) -> anyhow::Result<()> {
        self.count += 1;
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.tell_silent();
            (self.second, self.told) = (Instant::now(), 0);
        }
        if self.told < TOLD_PER_SECOND {
            self.told += 1;
            let Rejected { file, line, column, reason, .. } = row;
            messages::partial(format!("{file}:{line}:{column}: rejected: {reason}"));
        } else {
            self.silent += 1;
            messages::mark_partial();
        }
        if let Some((file, name)) = &mut self.file {
            let text = String::from_utf8_lossy(row.text);
            let line = json!({
                "file": row.file, "line": row.line, "column": row.column,
                "reason": row.reason, "text": text,
            });
            writeln!(file, "{line}").with_context(|| format!("cannot write to {name}"))?;
        }
        Ok(())
    }

    fn tell_silent(&mut self) {
        if self.silent > 0 {
            let count = std::mem::take(&mut self.silent);
            messages::partial(format!("{count} more rows were rejected"));
        }
    }

    /// Flushes saved rows to the file, so that others can read them.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if let Some((file, name)) = &mut self.file {
            file.flush().with_context(|| format!("cannot write to {name}"))?;
        }
        Ok(())
    }

    /// Reports what was only counted so far, and flushes.
    ///
    /// # Errors
    /// As [`Rejects::flush`].
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.tell_silent();
        self.flush()
    }
}

/// How many acknowledgements are queued for a slow reader. Beyond that only the newest is kept.
const WAITING_ACKS: usize = 1024;

/// Prints durable seqs on stdout, on a thread of its own. A reader that stalls must not delay a
/// sync.
#[derive(Default)]
pub struct Acks {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Waiting {
    seqs: VecDeque<u64>,
    ended: bool,
    failure: Option<out::Error>,
}

impl Acks {
    /// Returns the function that the writer calls.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn printer(&mut self) -> anyhow::Result<OnDurable> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("acks".into()).spawn(move || {
            deepwater::os::signal::block_in_this_thread();
            print_acks(&shared);
        });
        self.thread = Some(thread.context("cannot start a thread for --ack")?);
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(move |seq| {
            let mut waiting = lock(&shared.0);
            if waiting.seqs.len() == WAITING_ACKS {
                waiting.seqs.pop_back();
            }
            waiting.seqs.push_back(seq);
            shared.1.notify_one();
        }))
    }

    /// Returns the error that stopped acknowledgements. A reader that left is not one: no record is
    /// harmed.
    pub fn failure(&self) -> Option<out::Error> {
        let failure = lock(&self.shared.0).failure.take();
        failure.filter(|error| !matches!(error, out::Error::Closed))
    }

    /// Prints what is still queued.
    pub fn finish(&mut self) {
        lock(&self.shared.0).ended = true;
        self.shared.1.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(|e| e.into_inner())
}

fn print_acks(shared: &(Mutex<Waiting>, Condvar)) {
    let mut out = Out::stdout();
    let mut text = String::new();
    loop {
        let idle = |waiting: &mut Waiting| waiting.seqs.is_empty() && !waiting.ended;
        let waited = shared.1.wait_while(lock(&shared.0), idle);
        let mut waiting = waited.unwrap_or_else(|e| e.into_inner());
        if waiting.seqs.is_empty() {
            return;
        }
        text.clear();
        for seq in waiting.seqs.drain(..) {
            text.push_str(&format!("{seq}\n"));
        }
        drop(waiting);
        if let Err(error) = out.put(text.as_bytes()).and_then(|()| out.flush()) {
            lock(&shared.0).failure.get_or_insert(error);
            return;
        }
    }
}

/// Counts that the main thread updates and `--stats` reports.
#[derive(Default)]
pub struct Counts {
    /// Records written.
    pub rows: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Rows rejected.
    pub rejected: AtomicU64,
    /// Messages that `--where` skipped.
    pub passed_over: AtomicU64,
    /// The newest record time, in the feed's unit.
    pub newest: AtomicU64,
}

/// The thread of `--stats`. It stops when this is dropped.
pub struct Stats {
    counts: Arc<Counts>,
    unit: TimeUnit,
    began: Instant,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    running: AtomicBool,
}

impl Stats {
    /// Reports `counts` at this interval.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(every: Duration, counts: Arc<Counts>, unit: TimeUnit) -> anyhow::Result<Stats> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (shared, seen) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = std::thread::Builder::new().name("stats".into()).spawn(move || {
            deepwater::os::signal::block_in_this_thread();
            let (mut rows, mut bytes) = (0, 0);
            loop {
                let began = Instant::now();
                let guard = shared.0.lock().unwrap_or_else(|e| e.into_inner());
                let waited = shared.1.wait_timeout_while(guard, every, |stop| !*stop);
                if *waited.unwrap_or_else(|e| e.into_inner()).0 {
                    return;
                }
                let seconds = began.elapsed().as_secs_f64();
                let now = seen.rows.load(Ordering::Relaxed);
                let read = seen.bytes.load(Ordering::Relaxed);
                tell(&seen, unit, (now - rows) as f64 / seconds, (read - bytes) as f64 / seconds);
                (rows, bytes) = (now, read);
            }
        });
        let thread = Some(thread.context("cannot start a thread for --stats")?);
        let running = AtomicBool::new(true);
        Ok(Stats { counts, unit, began: Instant::now(), stop, thread, running })
    }

    /// Stops, and reports the whole run.
    pub fn finish(&self) {
        if !self.running.swap(false, Ordering::Relaxed) {
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let rows = self.counts.rows.load(Ordering::Relaxed) as f64;
        let bytes = self.counts.bytes.load(Ordering::Relaxed) as f64;
        tell(&self.counts, self.unit, rows / seconds, bytes / seconds);
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell(counts: &Counts, unit: TimeUnit, rows_per_second: f64, bytes_per_second: f64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let newest = counts.newest.load(Ordering::Relaxed) as f64 / unit.per_second() as f64;
    let lag = if newest > 0.0 { format!("{:.3}", now.as_secs_f64() - newest) } else { "-".into() };
    messages::say(format!(
        "rows {} rows/s {rows_per_second:.0} MB/s {:.3} lag_s {lag} rejected {} passed_over {}",
        counts.rows.load(Ordering::Relaxed),
        bytes_per_second / 1e6,
        counts.rejected.load(Ordering::Relaxed),
        counts.passed_over.load(Ordering::Relaxed),
    ));
}
