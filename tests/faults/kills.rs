//! Processes killed at every numbered step: each store, each system call, each word that others act
//! upon. What the killed one logged as published is there, whole batches and nothing else; the next
//! one goes on behind it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use deepwater::Platform;
use deepwater::reader::{Direction, Reader, Selection};
use deepwater::writer::SessionEnd;

use crate::env::TestEnv;
use crate::random::mix;

const RECORD: usize = 16;
const SIGKILL: i32 = 9;
/// No protocol here has as many steps; a count that does not end is a fault of the test.
const MOST_STEPS: u64 = 1000;

/// How a tool ended, and the steps it logged before.
struct Run {
    killed: bool,
    code: Option<i32>,
    said: String,
    printed: String,
    steps: Vec<String>,
}

impl Run {
    /// The last value that a point stored.
    fn last(&self, point: &str) -> Option<u64> {
        let point = format!(" point {point} ");
        let line = self.steps.iter().rfind(|line| line.contains(&point))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

/// Runs a tool with faults.
pub fn faulty(env: &TestEnv, faults: &str, boot: &str, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin(args[0]));
    command.args(&args[1..]).env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
    command.env("DEEPWATER_FAULTS", faults).stdin(Stdio::null());
    if !boot.is_empty() {
        command.env("DEEPWATER_BOOT_ID", boot);
    }
    command
}

fn run_killed_at(env: &TestEnv, step: u64, args: &[&str]) -> Run {
    let log = env.path("steps");
    let _ = fs::remove_file(&log);
    let faults = format!("kill-at={step},log={}", log.display());
    let output = faulty(env, &faults, "", args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let killed = output.status.signal() == Some(SIGKILL);
    assert!(killed || output.status.signal().is_none(), "{args:?}: {}: {said}", output.status);
    let steps = fs::read_to_string(&log).unwrap_or_default();
    Run {
        killed,
        code: output.status.code(),
        said,
        printed: String::from_utf8_lossy(&output.stdout).into_owned(),
        steps: steps.lines().map(str::to_owned).collect(),
    }
}

/// Calls `each` with a run killed at step 1, 2, ... until one ends by itself; how many were killed.
fn at_every_step(
    env: &TestEnv,
    args: impl Fn(u64) -> Vec<String>,
    mut each: impl FnMut(u64, &Run),
) -> u64 {
    for step in 1..MOST_STEPS {
        let args = args(step);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = run_killed_at(env, step, &args);
        each(step, &run);
        if !run.killed {
            assert_eq!(run.code, Some(0), "{}", run.said);
            return step - 1;
        }
    }
    panic!("more than {MOST_STEPS} steps");
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// A good run of a tool.
pub fn good(env: &TestEnv, args: &[&str]) {
    let output = faulty(env, "", "", args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{args:?}: {}: {said}", output.status);
}

fn time_of(n: u64) -> u64 {
    1_700_000_000_000_000 + n * 10 - if n.is_multiple_of(17) { 500 } else { 0 }
}

/// Record `n`, which nothing else looks like.
fn record(n: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&time_of(n).to_le_bytes());
    bytes[8..].copy_from_slice(&mix(n).to_le_bytes());
    bytes
}

pub fn records(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(record).collect()
}

/// The end of the feed; every seq from `from` on is there and has the record of that number.
pub fn check(env: &TestEnv, feed: &str, from: u64) -> u64 {
    let reader = open(env, feed);
    let snapshot = reader.snapshot().expect("a sound table at any moment");
    let selection = Selection { seqs: (from, u64::MAX), ..Selection::ALL };
    let mut scan = reader.scan(&snapshot, selection, Direction::Forward);
    let mut next = from;
    while let Some(run) = scan.next_run().unwrap() {
        assert_eq!(run.first_seq, next, "a gap");
        for bytes in run.records.chunks_exact(RECORD) {
            assert_eq!(bytes, record(next), "record {next}");
            next += 1;
        }
    }
    assert_eq!(scan.take_damage(), []);
    assert_eq!(next, snapshot.end_seq.max(from));
    next
}

pub fn open(env: &TestEnv, feed: &str) -> Reader {
    Platform::open(env.base()).unwrap().create_reader(feed).unwrap()
}

/// The next writer, which begins at `end` and leaves ten records more.
pub fn write_on(env: &TestEnv, feed: &str, end: u64) -> u64 {
    let mut writer = Platform::open(env.base()).unwrap().create_writer(feed).unwrap();
    assert_eq!(writer.next_seq(), end);
    writer.append_batch(&records(end..end + 10)).unwrap();
    writer.close(SessionEnd::Ended).unwrap();
    assert_eq!(check(env, feed, end.saturating_sub(10_000)), end + 10);
    end + 10
}

pub const MAKE: [&str; 6] = ["dw-mkfeed", "t", "--chunk-size", "64KiB", "ts:timestamp", "h:uint64"];

/// Sizes of the batches of a run: single records, some, over the end of two chunks.
pub const BATCHES: [u64; 4] = [1, 700, 9000, 40];

/// The inputs of a run that goes on at `from`: a file a batch.
pub fn inputs(env: &TestEnv, from: u64) -> Vec<PathBuf> {
    let mut next = from;
    let mut make = |(i, count): (usize, &u64)| {
        let path = env.path(&format!("batch{i}"));
        fs::write(&path, records(next..next + count)).unwrap();
        next += count;
        path
    };
    BATCHES.iter().enumerate().map(&mut make).collect()
}

/// dw-write killed at each of its steps, in a feed that the one before was killed in.
fn write_killed_at_every_step(make: &[&str], sync: &str, more: &[&str]) {
    let env = TestEnv::new();
    good(&env, &[&MAKE[..], make].concat());
    let there = std::cell::Cell::new(0);
    let args = |_| {
        let mut args = words(&["dw-write", "t", "--format", "raw", "--ack", "--sync", sync]);
        args.extend(words(more));
        args.extend(inputs(&env, there.get()).iter().map(|p| p.display().to_string()));
        args
    };
    let killed = at_every_step(&env, args, |step, run| {
        let from = there.get();
        let end = check(&env, "t", from.saturating_sub(2000));
        let published = run.last("live.published").unwrap_or(0);
        assert!(end >= published, "step {step}: {published} were published, {end} are there");
        let acked = run.printed.lines().last().map_or(0, |line| line.parse().unwrap());
        assert!(acked <= end, "step {step}: {acked} were acknowledged, {end} are there");
        let mut ends = vec![from];
        ends.extend(BATCHES.iter().scan(from, |end, count| {
            *end += count;
            Some(*end)
        }));
        assert!(ends.contains(&end), "step {step}: {from}..{end} is no whole number of batches");
        assert!(run.killed || end == ends[BATCHES.len()]);
        if make.is_empty() {
            another_boot(&env, step, end, acked);
        }
        // Most are followed by another one that is killed too.
        there.set(if step % 8 == 0 { write_on(&env, "t", end) } else { end });
    });
    println!("dw-write --sync {sync} {more:?}: killed at {killed} steps");
    assert!(killed > 60, "{killed} steps");
    assert_eq!(check(&env, "t", 0), there.get());
    write_on(&env, "t", there.get());
}

/// Every now and then, what the next boot would make of it: at least what was acknowledged. Where
/// files have more than is proven, dw-cat says so.
fn another_boot(env: &TestEnv, step: u64, end: u64, acked: u64) {
    if step % 16 != 5 {
        return;
    }
    let args = ["dw-cat", "t", "-o", "csv", "--with-seq", "--fields", "h", "--no-header"];
    let output = faulty(env, "", "another boot", &args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let left_out = said.contains("left out: seq ");
    assert_eq!(output.status.code(), Some(i32::from(left_out)), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let count = text.lines().count() as u64;
    assert!((acked..=end).contains(&count), "step {step}: {count} of {acked}..{end}");
    for (n, line) in (0..).zip(text.lines()) {
        assert_eq!(line, format!("{n},{}", mix(n)));
    }
}

#[test]
fn a_writer_that_syncs_each_batch_killed_at_every_step() {
    write_killed_at_every_step(&[], "batch", &[]);
}

#[test]
fn a_writer_that_syncs_at_the_end_killed_at_every_step() {
    write_killed_at_every_step(&[], "none", &["--mark-every", "3000"]);
}

fn is_there(env: &TestEnv, feed: &str) -> bool {
    match Platform::open(env.base()) {
        Ok(platform) => platform.list_feeds().unwrap().iter().any(|name| name == feed),
        Err(deepwater::Error::NoStore { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let listing = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        listing.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_store_and_its_first_feed_made_and_killed_at_every_step() {
    let env = TestEnv::new();
    let killed = at_every_step(
        &env,
        |_| {
            let _ = fs::remove_dir_all(env.base());
            words(&MAKE)
        },
        |_, run| {
            assert!(run.killed || is_there(&env, "t"));
            if is_there(&env, "t") {
                check(&env, "t", 0);
            }
            good(&env, &MAKE);
            write_on(&env, "t", 0);
        },
    );
    assert!(killed > 20, "{killed} steps");
}

#[test]
fn another_feed_made_changed_and_deleted_and_killed_at_every_step() {
    let env = TestEnv::new();
    good(&env, &MAKE);
    let mut end = write_on(&env, "t", 0);
    let make = ["dw-mkfeed", "u", "--chunk-size", "64KiB", "ts:timestamp", "h:uint64"];
    let update = [&make[..], &["--update", "--retention", "5h"]].concat();
    let delete = ["dw-mkfeed", "--delete", "u", "--yes"];
    let made = at_every_step(
        &env,
        |_| words(&make),
        |_, run| {
            assert!(run.killed || is_there(&env, "u"));
            good(&env, &make);
            write_on(&env, "u", 0);
            good(&env, &delete);
            end = write_on(&env, "t", end);
        },
    );
    good(&env, &make);
    write_on(&env, "u", 0);
    let updated = at_every_step(
        &env,
        |_| words(&update),
        |_, run| {
            assert_eq!(check(&env, "u", 0), 10);
            let spec = Platform::open(env.base()).unwrap().feed_info("u").unwrap().spec;
            let new = spec.policy.retention_seconds == Some(5 * 3600);
            assert!(run.killed || new);
            good(&env, &[&make[..], &["--update"]].concat());
        },
    );
    let deleted = at_every_step(
        &env,
        |_| words(&delete),
        |_, run| {
            assert!(run.killed || !is_there(&env, "u"));
            if is_there(&env, "u") {
                let output = faulty(&env, "", "", &delete).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            assert!(!is_there(&env, "u"));
            good(&env, &make);
            write_on(&env, "u", 0);
            end = write_on(&env, "t", end);
        },
    );
    println!("killed at {made}, {updated} and {deleted} steps");
    assert!(made > 20 && updated > 3 && deleted > 8, "{made} {updated} {deleted}");
    good(&env, &make);
    good(&env, &delete);
    assert_eq!(names(&env.base().join("feeds")), ["t"]);
}

#[test]
fn a_writer_in_shared_memory_killed_at_every_step() {
    write_killed_at_every_step(&["--stage", "shm"], "batch", &[]);
}

/// The records that are there, which are the feed's newest; nothing else, and in order.
fn newest(env: &TestEnv) -> std::ops::Range<u64> {
    let snapshot = open(env, "t").snapshot().expect("a sound table at any moment");
    let first = snapshot.first_seq();
    first..check(env, "t", first)
}

#[test]
fn collecting_killed_at_every_step() {
    let env = TestEnv::new();
    good(&env, &[&MAKE[..], &["--max-size", "300KiB"]].concat());
    let end = std::cell::Cell::new(0);
    let fill = |_| {
        let mut writer = Platform::open(env.base()).unwrap().create_writer("t").unwrap();
        writer.append_batch(&records(end.get()..end.get() + 4096 * 6)).unwrap();
        end.set(end.get() + 4096 * 6);
        writer.close(SessionEnd::Ended).unwrap();
        words(&["dw-gc"])
    };
    let killed = at_every_step(&env, fill, |_, run| {
        // Whole chunks of the oldest have gone, and none that the limit leaves.
        let there = newest(&env);
        assert_eq!((there.start % 4096, there.end), (0, end.get()));
        assert!(there.start <= end.get() - 4 * 4096, "{there:?}");
        assert!(run.killed || there.start == end.get() - 4 * 4096, "{there:?}");
        good(&env, &["dw-gc", "-q"]);
        assert_eq!(newest(&env), end.get() - 4 * 4096..end.get());
        let files = names(&env.base().join("feeds/t"));
        assert_eq!(files.iter().filter(|name| name.ends_with(".data")).count(), 4, "{files:?}");
    });
    println!("dw-gc: killed at {killed} steps");
    assert!(killed > 8, "{killed} steps");
}

/// Spoils a byte of a block in the middle, an index and the last entry of the table.
fn damage(folder: &Path) {
    for (name, at) in
        [("00000002.data", 100), ("00000003.idx", 4096 + 9), ("feed_registry.bin", 4096 + 512 + 20)]
    {
        let path = folder.join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 0x55;
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn repair_killed_at_every_step() {
    let env = TestEnv::new();
    good(&env, &MAKE);
    let mut writer = Platform::open(env.base()).unwrap().create_writer("t").unwrap();
    writer.append_batch(&records(0..4096 * 4 + 100)).unwrap();
    writer.close(SessionEnd::Ended).unwrap();
    damage(&env.base().join("feeds/t"));
    let damaged = env.path("damaged");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(copied.success());
    };
    copy(&env.base(), &damaged);
    let again = |_| {
        fs::remove_dir_all(env.base()).unwrap();
        copy(&damaged, &env.base());
        words(&["dw-repair", "t"])
    };
    let whole = records(0..4096 * 4 + 100);
    let saved = [&whole[..4096 * RECORD], &whole[8192 * RECORD..]].concat();
    let cat = ["dw-cat", "t", "-o", "raw"];
    let mut killed = 0;
    for step in 1..MOST_STEPS {
        let args: Vec<String> = again(step);
        let run = run_killed_at(&env, step, &args.iter().map(String::as_str).collect::<Vec<_>>());
        // What is shown meanwhile was written, whatever cannot be shown.
        let output = faulty(&env, "", "", &cat).output().unwrap();
        let shown: Vec<&[u8]> = output.stdout.chunks(RECORD).collect();
        let all: std::collections::HashSet<&[u8]> = whole.chunks(RECORD).collect();
        assert!(shown.iter().all(|record| all.contains(record)), "step {step}: invented");
        if run.killed {
            killed += 1;
            let output = faulty(&env, "", "", &["dw-repair", "t"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 1)), "step {step}: {said}");
        }
        let output = faulty(&env, "", "", &cat).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == saved, "step {step}: {said}");
        let second = faulty(&env, "", "", &["dw-repair", "t"]).output().unwrap();
        assert!(second.status.success() && second.stdout.is_empty(), "step {step}: a second one");
        if !run.killed {
            break;
        }
    }
    println!("dw-repair: killed at {killed} steps");
    assert!((20..MOST_STEPS - 1).contains(&killed), "{killed} steps");
}
