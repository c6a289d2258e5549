//! Chunk files with records that the table does not have: every tool that reads names them, beside
//! a table that is sound by itself, and no tool does while a writer, dw-gc or dw-repair is at work.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::env::TestEnv;
use super::kit::{run, text};

/// Rows `from..to` of a feed of two integers.
fn rows(from: u64, to: u64) -> Vec<u8> {
    (from..to).flat_map(|i| [1_700_000_000_000_000 + i, i + 1]).flat_map(u64::to_le_bytes).collect()
}

fn feed(policy: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    let args = [&["t", "ts:uint64", "n:uint64", "--chunk-size", "64KiB"], policy].concat();
    assert!(run(&env, "dw-mkfeed", &args, b"").status.success());
    env
}

fn write(env: &TestEnv, from: u64, to: u64) {
    let done = run(env, "dw-write", &["t", "--format", "raw"], &rows(from, to));
    assert!(done.status.success(), "{}", text(&done.stderr));
}

fn file(env: &TestEnv, name: &str) -> PathBuf {
    env.base().join("feeds/t").join(name)
}

/// The readings that give all, or less: each with its arguments.
const WHOLE: [&[&str]; 5] = [
    &["dw-cat", "t", "-o", "raw"],
    &["dw-ls"],
    &["dw-health", "--min-free", "1MiB"],
    &["dw-gc", "--dry-run"],
    &["dw-gc"],
];
const RANGES: [&[&str]; 3] = [
    &["dw-cat", "t", "-n", "5"],
    &["dw-cat", "t", "--since", "1700000000000010", "--until", "1700000000000020"],
    &["dw-cat", "t", "--seq", "8..30"],
];

/// A feed whose table and live page are those of its first 10,000 records, put back in place beside
/// the chunks of 20,000; and what it holds in all.
fn put_back() -> (TestEnv, Vec<u8>) {
    let env = feed(&[]);
    write(&env, 0, 10_000);
    let older: Vec<(PathBuf, Vec<u8>)> = ["feed_registry.bin", "live"]
        .map(|name| file(&env, name))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .into();
    write(&env, 10_000, 20_000);
    for (path, bytes) in older {
        fs::write(path, bytes).unwrap();
    }
    (env, rows(0, 20_000))
}

fn names_it(env: &TestEnv, tools: &[&[&str]], what: &str) {
    for tool in tools {
        let done = run(env, tool[0], &tool[1..], b"");
        let said = text(&done.stdout) + &text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{tool:?}: {said}");
        assert!(said.contains(what) && said.contains("dw-repair"), "{tool:?}: {said}");
    }
}

#[test]
fn chunks_that_a_sound_table_does_not_have_are_named_by_every_reader() {
    let (env, whole) = put_back();
    let what = format!("{}: ", file(&env, "00000004.data").display());
    names_it(&env, &WHOLE, &what);
    names_it(&env, &WHOLE[..1], "seq 10000..14096");
    names_it(&env, &RANGES, &what);
    let done = run(&env, "dw-write", &["t", "--format", "raw"], &rows(0, 1));
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    let done = run(&env, "dw-repair", &["t"], b"");
    assert!(done.status.success(), "{}", text(&done.stderr));
    for tool in WHOLE.iter().chain(&RANGES) {
        let done = run(&env, tool[0], &tool[1..], b"");
        let said = text(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "repaired, {tool:?}: {said}");
    }
    assert!(run(&env, "dw-cat", &["t", "-o", "raw"], b"").stdout == whole, "all of it is back");
}

#[test]
fn a_stray_behind_a_gap_in_the_numbers_is_found_by_whoever_reads_all() {
    let (env, _) = put_back();
    for name in ["00000004.data", "00000004.idx"] {
        fs::remove_file(file(&env, name)).unwrap();
    }
    names_it(&env, &WHOLE, &format!("{}: ", file(&env, "00000005.data").display()));
}

#[test]
fn no_reader_takes_the_work_of_a_writer_or_dw_gc_or_dw_repair_for_damage() {
    for policy in [&["--max-size", "1MiB"][..], &["--max-size", "1MiB", "--stage", "shm"]] {
        let env = feed(policy);
        write(&env, 0, 10_000);
        let over = AtomicBool::new(false);
        let (until, readings) = (Instant::now() + Duration::from_secs(4), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut from = 10_000;
                while !over.load(Ordering::Relaxed) {
                    // Short sessions and longer ones: each begins and ends with chunks.
                    let to = from + [1, 5000, 40_000][from as usize % 3];
                    let done = run(&env, "dw-write", &["t", "--format", "raw"], &rows(from, to));
                    from = if done.status.success() { to } else { from };
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    run(&env, "dw-gc", &[], b"");
                    // It is refused while a writer is at work.
                    run(&env, "dw-repair", &["t"], b"");
                }
            });
            scope.spawn(|| {
                while Instant::now() < until {
                    for tool in WHOLE.iter().chain(&RANGES).filter(|tool| tool[0] != "dw-gc") {
                        let done = run(&env, tool[0], &tool[1..], b"");
                        let said = text(&done.stdout) + &text(&done.stderr);
                        let alarm =
                            said.contains("does not have") || said.contains("not on disk when");
                        if alarm || done.status.code() == Some(2) {
                            over.store(true, Ordering::Relaxed);
                            panic!("{policy:?} {tool:?}: {:?}: {said}", done.status);
                        }
                    }
                    readings.store(true, Ordering::Relaxed);
                }
                over.store(true, Ordering::Relaxed);
            });
        });
        assert!(readings.load(Ordering::Relaxed), "one round of readings, at least");
        let done = run(&env, "dw-health", &["--min-free", "1MiB"], b"");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
}

#[test]
fn a_table_that_lost_every_chunk_of_an_open_session_is_damaged_for_readers_and_writers() {
    let env = feed(&[]);
    let mut writer = super::kit::Running::start(&env, &["t", "--format", "raw"]);
    super::kit::until("the session", || {
        text(&run(&env, "dw-ls", &["t", "--json"], b"").stdout).contains("writing").then_some(())
    });
    let before = fs::read(file(&env, "feed_registry.bin")).unwrap();
    writer.send_bytes(&rows(0, 10));
    super::kit::until("ten records", || {
        (run(&env, "dw-cat", &["t", "-o", "raw"], b"").stdout.len() == 160).then_some(())
    });
    writer.signal("KILL");
    writer.wait();
    fs::write(file(&env, "feed_registry.bin"), before).unwrap();
    for name in ["00000001.data", "00000001.idx"] {
        fs::rename(file(&env, name), env.path(name)).unwrap();
    }
    names_it(&env, &WHOLE[..3], "seq 0..10");
    let done = run(&env, "dw-write", &["t", "--format", "raw"], &rows(0, 1));
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("seq 0..10"), "{}", text(&done.stderr));
}
