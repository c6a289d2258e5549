//! Measures the latency of a record from one process to another, and the cost of an append.
//!
//! Two processes run on a core each. The writer stores the time in a record and appends it. The
//! reader compares that time with the clock when it gets the record. For comparison the same run
//! measures a process that only reads the clock, a cache line sent back and forth, a pipe, and
//! another ring.
//!
//! There are `RUNS` (5) runs of `EACH_SECONDS` (3). A run measures all transports in turn, in
//! pieces of a quarter of a second, since some machines stall for milliseconds once a second. The
//! result is the median of the pieces.
#![allow(clippy::unwrap_used)]

mod figures;
mod other;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use deepwater::Platform;
use deepwater::os::file;
use deepwater::os::map::Map;
use deepwater::schema::FeedSpec;
use deepwater::writer::Writer;
use nix::time::{ClockId, clock_gettime};
use ringfire::RingProducer;

use figures::{Latencies, Table};

const PACE_NS: u64 = 50_000;
/// Pieces per second, and the number of records in each.
const PIECES: u64 = 4;
const PIECE_RECORDS: u64 = 1_000_000_000 / PACE_NS / PIECES;
const SIZES: [usize; 2] = [48, 64];
/// The transports, in the order they are shown.
const KINDS: [&str; 6] = ["ringfire", "ring", "follower", "staged", "disk", "pipe"];
/// Capacity of ringfire's ring in records: about as many bytes as ours.
const RINGFIRE_RECORDS: u64 = 1 << 18;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["read", kind, size, count, base] => {
            let (size, count) = (size.parse().unwrap(), count.parse().unwrap());
            other::read(kind, size, count, Path::new(base));
        }
        ["pinned"] => run(),
        ["appends", ..] => {
            let mut table = Table::default();
            let work = Work::new();
            work.paced_appends(setting("EACH_SECONDS", 3), &mut table);
            work.appends(&mut table);
            table.print();
        }
        // `cargo test` only checks that it builds.
        _ if !words.contains(&"--bench") => println!("latency: measured by cargo bench"),
        _ => {
            let status = on_core(0, &["pinned"]).status().unwrap();
            std::process::exit(status.code().unwrap_or(1));
        }
    }
}

/// Runs this program again, on one core.
fn on_core(core: u32, args: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(std::env::current_exe().unwrap()).args(args);
    command
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn run() {
    let (runs, seconds) = (setting("RUNS", 5), setting("EACH_SECONDS", 3));
    let mut table = Table::default();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        let work = Work::new();
        for piece in 1..=seconds * PIECES {
            work.baselines(&mut table);
            for size in SIZES {
                for kind in KINDS.into_iter().filter(|kind| work.has(kind)) {
                    let paced = work.measure(kind, size, PIECE_RECORDS, PACE_NS);
                    table.latencies(&format!("{kind} {size} B, 20,000/s"), &paced);
                    if piece == 1 {
                        let flat_out = if kind == "pipe" { 1_000_000 } else { 10_000_000 };
                        let fast = work.measure(kind, size, flat_out, 0);
                        table.latencies(&format!("{kind} {size} B, flat out"), &fast);
                    }
                }
            }
        }
        work.paced_appends(seconds, &mut table);
        work.appends(&mut table);
    }
    table.print();
}

/// The files of a run.
struct Work {
    disk: tempfile::TempDir,
    shm: tempfile::TempDir,
    platform: Platform,
}

/// The process that reads.
struct Other {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(kind: &str, size: usize, count: u64, base: &Path) -> Other {
        let (size, count) = (size.to_string(), count.to_string());
        let args = ["read", kind, &size, &count, base.to_str().unwrap()];
        let mut child =
            on_core(1, &args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut other = Other { input: child.stdin.take(), output, child };
        assert_eq!(other.line(), "ready");
        other
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Waits for the process, and returns what it measured.
    fn finish(mut self) -> Latencies {
        self.input = None;
        let line = self.line();
        assert!(self.child.wait().unwrap().success());
        Latencies::parse(&line)
    }

    fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        for name in self.platform.list_feeds().unwrap() {
            self.platform.delete_feed(&name).unwrap();
        }
    }
}

fn feed_name(kind: &str, size: usize) -> String {
    format!("{kind}{size}")
}

impl Work {
    fn new() -> Work {
        let disk = tempfile::tempdir().unwrap();
        let shm = tempfile::tempdir_in("/dev/shm").unwrap();
        let platform = Platform::create(disk.path().join("store")).unwrap();
        for size in SIZES {
            for kind in ["ring", "follower", "staged", "disk"] {
                let spec = spec(&feed_name(kind, size), kind, size);
                let spec = FeedSpec::from_json(&spec).unwrap();
                if let Err(error) = platform.create_feed(&spec, false) {
                    eprintln!("not measured: {kind}: {error}");
                }
            }
        }
        Work { disk, shm, platform }
    }

    fn has(&self, kind: &str) -> bool {
        ["ringfire", "pipe"].contains(&kind)
            || self.platform.feed_info(&feed_name(kind, 48)).is_ok()
    }

    fn base(&self) -> PathBuf {
        self.disk.path().join("store")
    }

    fn writer(&self, kind: &str, size: usize) -> Writer {
        self.platform.create_writer(&feed_name(kind, size)).unwrap()
    }

    fn ringfire_path(&self) -> PathBuf {
        self.shm.path().join("ringfire")
    }

    fn measure(&self, kind: &str, size: usize, count: u64, pace_ns: u64) -> Latencies {
        match (kind, size) {
            ("ringfire", 48) => self.measure_ringfire::<6>(count, pace_ns),
            ("ringfire", _) => self.measure_ringfire::<8>(count, pace_ns),
            ("pipe", _) => {
                let mut other = Other::start(kind, size, count, &self.base());
                let mut pipe = other.input.take().unwrap();
                send(size, count, pace_ns, |record| pipe.write_all(record).unwrap());
                drop(pipe);
                other.finish()
            }
            _ => {
                let mut writer = self.writer(kind, size);
                let other = Other::start(kind, size, count, &self.base());
                send(size, count, pace_ns, |record| drop(writer.append(record).unwrap()));
                other.finish()
            }
        }
    }

    fn measure_ringfire<const WORDS: usize>(&self, count: u64, pace_ns: u64) -> Latencies {
        let path = self.ringfire_path();
        let mut ring = RingProducer::<[u64; WORDS]>::create(&path, RINGFIRE_RECORDS).unwrap();
        let other = Other::start("ringfire", WORDS * 8, count, &path);
        send(WORDS * 8, count, pace_ns, |record| ring.push(&to_words(record)));
        other.finish()
    }

    /// Measures the baselines: a process that only reads the clock, and a cache line.
    fn baselines(&self, table: &mut Table) {
        let other = Other::start("spin", 48, PIECE_RECORDS, &self.base());
        // Keep this process as busy as the writer is with any transport.
        send(48, PIECE_RECORDS, PACE_NS, |_| {});
        table.latencies("spinning", &other.finish());

        let path = self.shm.path().join("line");
        let file = file::create_new(&path, 0o600).unwrap();
        file::allocate(&file, &path, 0, 4096).unwrap();
        let line = Map::writable(&file, &path, 4096).unwrap();
        let other = Other::start("line", 48, PIECE_RECORDS, &path);
        let mut latencies = Latencies::default();
        for turn in 1..=PIECE_RECORDS {
            let began = now_ns();
            line.u64_at(0).store(turn, Ordering::Release);
            while line.u64_at(128).load(Ordering::Acquire) != turn {}
            latencies.add((now_ns() - began) / 2);
        }
        line.u64_at(0).store(u64::MAX, Ordering::Release);
        other.stop();
        table.latencies("cache line, to and fro / 2", &latencies);
    }

    /// Measures 2,000 appends a second to a store that is synced once a second, and an empty
    /// function at the same pace.
    fn paced_appends(&self, seconds: u64, table: &mut Table) {
        const PACE_NS: u64 = 500_000;
        let size = 48;
        let mut measure = |name: &str, push: &mut dyn FnMut(&[u8])| {
            let mut latencies = Latencies::default();
            send(size, seconds * 1_000_000_000 / PACE_NS, PACE_NS, |record| {
                let began = now_ns();
                push(record);
                latencies.add(now_ns() - began);
            });
            table.latencies(&format!("{name} append, 2,000/s"), &latencies);
        };
        measure("no", &mut |_| {});
        for kind in ["ring", "staged", "disk"].into_iter().filter(|kind| self.has(kind)) {
            let mut writer = self.writer(kind, size);
            measure(kind, &mut |record| drop(writer.append(record).unwrap()));
        }
    }

    /// Measures the nanoseconds of an append: alone, with a sleeping follower, and with a reader
    /// that drains the feed.
    fn appends(&self, table: &mut Table) {
        let path = self.ringfire_path();
        let size = 48;
        let mut time = now_ns();
        {
            let mut ring = RingProducer::<[u64; 6]>::create(&path, RINGFIRE_RECORDS).unwrap();
            let mut push = |record: &[u8]| ring.push(&to_words(record));
            table.append("ringfire alone", append_ns(size, &mut time, &mut push));
            let other = Other::start("ringfire", size, u64::MAX, &path);
            table.append("ringfire, draining reader", append_ns(size, &mut time, &mut push));
            other.stop();
        }
        for kind in ["ring", "staged", "disk"].into_iter().filter(|kind| self.has(kind)) {
            let mut writer = self.writer(kind, size);
            let mut push = |record: &[u8]| drop(writer.append(record).unwrap());
            table.append(&format!("{kind} alone"), append_ns(size, &mut time, &mut push));
            let other = Other::start("sleep", size, u64::MAX, &self.base().join(kind));
            table.append(
                &format!("{kind}, sleeping follower"),
                append_ns(size, &mut time, &mut push),
            );
            other.stop();
            let other = Other::start(kind, size, u64::MAX, &self.base());
            table
                .append(&format!("{kind}, draining reader"), append_ns(size, &mut time, &mut push));
            other.stop();
        }
    }
}

/// Returns the spec of a feed of 8-byte fields. Creating a kind that this version lacks fails.
fn spec(name: &str, kind: &str, size: usize) -> String {
    let fields: Vec<String> =
        (1..size / 8).map(|i| format!(r#"{{"name": "f{i}", "type": "uint64"}}"#)).collect();
    let policy = match kind {
        "ring" | "follower" => r#""persist": false"#,
        "staged" => r#""stage": "shm""#,
        _ => r#""stage": "disk""#,
    };
    format!(
        r#"{{"feed_name": "{name}", "mode": "UF", "ts_col": "ts", "time_unit": "ns", {policy},
            "fields": [{{"name": "ts", "type": "uint64"}}, {}]}}"#,
        fields.join(", ")
    )
}

fn to_words<const WORDS: usize>(record: &[u8]) -> [u64; WORDS] {
    let words = record.as_chunks::<8>().0;
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

/// Appends `count` records, one every `pace_ns`, or at full speed if that is 0. A record holds the
/// time, and its number counted down: the last is 0.
fn send(size: usize, count: u64, pace_ns: u64, mut push: impl FnMut(&[u8])) {
    let mut record = vec![7; size];
    let mut due = now_ns() + 1_000_000;
    for left in (0..count).rev() {
        if pace_ns > 0 {
            while now_ns() < due {}
            due += pace_ns;
        }
        record[8..16].copy_from_slice(&left.to_le_bytes());
        record[..8].copy_from_slice(&now_ns().to_le_bytes());
        push(&record);
    }
}

/// Returns the nanoseconds of an append to a warm ring: the median of many rounds, each too short
/// for the machine to disturb most of them. `time` is the time of the last record, so no record is
/// late.
fn append_ns(size: usize, time: &mut u64, push: &mut impl FnMut(&[u8])) -> f64 {
    const ROUND: u64 = 20_000;
    const WARM_UP: usize = 100;
    let mut record = vec![7; size];
    let rounds = (0..5 * WARM_UP).map(|_| {
        let began = Instant::now();
        for _ in 0..ROUND {
            *time += 1;
            record[..8].copy_from_slice(&time.to_le_bytes());
            push(std::hint::black_box(&record));
        }
        began.elapsed().as_nanos() as f64 / ROUND as f64
    });
    let mut rounds: Vec<f64> = rounds.skip(WARM_UP).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
