//! Rings: writers killed at every step of taking over, stopped at each named one; readers stopped
//! between what they look at and what they make of it, while the writer laps them or another takes
//! over. Every seq is printed once, in order, or told to be lost.

use std::fs;
use std::path::Path;

use super::env::TestEnv;
use super::kills::faulty;
use super::kit::{Running, good, run, text, until};
use super::random::mix;
use super::stopped::Stopped;

fn store() -> TestEnv {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed ring ts:timestamp check:uint64 --ring=64KiB");
    env
}

fn rows(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{n},{}\n", mix(n))).collect()
}

const WRITE: [&str; 4] = ["dw-write", "ring", "--columns", "ts,check"];
const FOLLOW: [&str; 6] = ["dw-cat", "ring", "-f", "-o", "csv", "--no-header"];
const SINCE_FIRST: [&str; 2] = ["--since", "first"];

/// Writes those rows from a file, as one batch, or is killed.
fn write(env: &TestEnv, faults: &str, numbers: std::ops::Range<u64>) -> Option<i32> {
    fs::write(env.path("rows"), rows(numbers)).unwrap();
    let mut command = faulty(env, faults, "", &[&WRITE[..], &["rows"]].concat());
    let output = command.current_dir(env.path(".")).output().unwrap();
    output.status.code()
}

fn cat(env: &TestEnv) -> String {
    good(env, "dw-cat", &["ring", "-o", "csv", "--no-header"])
}

fn names(folder: &Path) -> Vec<String> {
    let folder = fs::read_dir(folder).unwrap().next().expect("a folder").unwrap();
    let items = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_writer_killed_at_every_step_loses_nothing_that_was_seen() {
    let env = store();
    assert_eq!(write(&env, "", 0..20), Some(0));
    let follower = Running::tool(&env, FOLLOW[0], &[&FOLLOW[1..], &SINCE_FIRST].concat());
    let mut now = 20;
    let mut step = 1;
    loop {
        let ended = write(&env, &format!("kill-at={step}"), now..now + 10);
        let there = cat(&env);
        let next = now + 10;
        // The batch is there whole or not at all.
        now = if there == rows(0..next) { next } else { now };
        assert!(there == rows(0..now), "killed at step {step}: {} rows", there.lines().count());
        // Whichever ring it is in by now, though nobody sent it there.
        follower.until_lines(now as usize);
        if ended == Some(0) {
            break;
        }
        assert_eq!(ended, None, "step {step}");
        step += 1;
        assert!(step < 1000);
    }
    assert!(step > 20, "only {step} steps");
    assert!(now > 40, "killed behind its batch it has published");
    assert_eq!(names(env.shm()), ["ring.ring", "ring.wait"]);
    follower.signal("INT");
    let (_, out, err) = follower.end();
    assert!(out == rows(0..now) && err.is_empty(), "{err}");
}

const TAKE_OVER: [&str; 5] =
    ["ring.made", "ring.named", "ring.noted", "ring.session", "ring.replaced"];

#[test]
fn a_writer_stopped_while_it_takes_over_holds_no_reader_up() {
    for step in TAKE_OVER {
        let env = store();
        // One that was killed leaves a session open, and a page.
        assert_eq!(write(&env, "kill=ring.published", 0..10), None);
        let follower = Running::tool(&env, FOLLOW[0], &[&FOLLOW[1..], &SINCE_FIRST].concat());
        follower.until_lines(10);
        let mut next = Stopped::start(&env, "pause", (step, 1), &WRITE);
        next.tool.send(&rows(10..15));
        next.until_stopped();
        assert_eq!(cat(&env), rows(0..10), "{step}");
        // A follower that comes now goes on as well, whichever ring it has found.
        let late = Running::tool(&env, FOLLOW[0], &[&FOLLOW[1..], &["-n", "10"]].concat());
        late.until_lines(10);
        next.go();
        for follower in [&follower, &late] {
            follower.until_lines(15);
        }
        next.tool.send(&rows(15..20));
        for follower in [follower, late] {
            follower.until_lines(20);
            follower.signal("INT");
            let (_, out, err) = follower.end();
            assert_eq!((out, err.as_str()), (rows(0..20), ""), "{step}");
        }
    }
}

/// Where a follower can be stopped: before and behind its look at what is published; at the look
/// that finds the first records, and at the one that finds no more.
const READER: [(&str, u32); 4] =
    [("ring.follow", 1), ("ring.follow", 2), ("ring.seen", 1), ("ring.seen", 2)];

/// A writer of ten rows, and a follower of them that is stopped at a step.
fn followed(env: &TestEnv, step: (&str, u32)) -> (Running, Stopped) {
    let mut writer = Running::start(env, &WRITE[1..]);
    writer.send(&rows(0..10));
    until("the rows", || (cat(env) == rows(0..10)).then_some(()));
    let follower = Stopped::start(env, "pause", step, &[&FOLLOW[..], &SINCE_FIRST].concat());
    follower.until_stopped();
    (writer, follower)
}

#[test]
fn a_follower_stopped_at_each_step_reads_the_old_ring_to_its_end() {
    for step in READER {
        let env = store();
        env.quiet("dw-mkfeed ring ts:timestamp check:uint64 --ring=1MiB --update");
        let (mut writer, follower) = followed(&env, step);
        // More than the next ring holds.
        writer.send(&rows(10..20_000));
        writer.finish();
        env.quiet("dw-mkfeed ring ts:timestamp check:uint64 --ring=64KiB --update");
        assert_eq!(write(&env, "kill=ring.published", 20_000..20_010), None);
        assert_eq!(write(&env, "", 20_010..20_020), Some(0));
        follower.go();
        follower.tool.until_lines(20_020);
        follower.tool.signal("INT");
        let (_, out, err) = follower.tool.end();
        assert_eq!((out.as_str() == rows(0..20_020), err.as_str()), (true, ""), "{step:?}");
    }
}

#[test]
fn what_was_written_before_a_deletion_is_printed_at_each_step() {
    for step in READER {
        let env = store();
        let (mut writer, follower) = followed(&env, step);
        writer.send(&rows(10..20));
        writer.finish();
        env.quiet("dw-mkfeed --delete --yes ring");
        follower.go();
        let (status, out, err) = follower.tool.end();
        assert_eq!((out.as_str(), status.code()), (rows(0..20).as_str(), Some(1)), "{step:?}");
        assert!(err.contains("ring: the feed was deleted; this is its end"), "{step:?}: {err}");
    }
}

/// Checks that the rows printed and the seqs told are all below `end`, once and in order.
fn assert_accounted(out: &str, said: &str, end: u64) {
    let told = said.lines().filter_map(|line| line.split_once("left out seq "));
    let mut told = told.map(|(_, rest)| {
        let (lo, hi) = rest.split(':').next().unwrap().split_once("..").unwrap();
        (lo.parse::<u64>().unwrap(), hi.parse::<u64>().unwrap())
    });
    let mut next = 0;
    for line in out.lines() {
        let (ts, check) = line.split_once(',').unwrap();
        let ts: u64 = ts.parse().unwrap();
        if next < ts {
            let (lo, hi) = told.next().unwrap_or_else(|| panic!("seq {next} is missing: {said}"));
            assert_eq!((lo, hi), (next, ts), "{said}");
            next = hi;
        }
        assert_eq!((ts, check.parse()), (next, Ok(mix(next))), "{line}");
        next += 1;
    }
    for (lo, hi) in told {
        assert_eq!(lo, next, "{said}");
        next = hi;
    }
    assert_eq!(next, end);
}

/// Waits until the ring's newest record is the one before `end`. One that is overwritten while it
/// is read is said to be, and is not the last.
fn until_last(env: &TestEnv, end: u64) {
    let args = ["ring", "-n", "1", "-o", "csv", "--no-header"];
    let newest = || text(&run(env, "dw-cat", &args, b"").stdout);
    until("the rows", || (newest() == rows(end - 1..end)).then_some(()));
}

#[test]
fn a_reader_stopped_at_each_step_knows_that_it_was_lapped() {
    const END: u64 = 20_000;
    let stop_there = format!("0..{END}");
    let follow = [&FOLLOW[..], &["--since", "first", "--seq", &stop_there]].concat();
    let scan = ["dw-cat", "ring", "-o", "csv", "--no-header"];
    let turned = ["dw-cat", "ring", "-o", "csv", "--no-header", "-r"];
    for (step, args, end) in [
        (("ring.follow", 1), &follow[..], END),
        (("ring.seen", 1), &follow[..], END),
        (("ring.scan", 1), &scan[..], 4000),
        (("ring.scan", 1), &turned[..], 4000),
    ] {
        let env = store();
        assert_eq!(write(&env, "", 0..4000), Some(0));
        let reader = Stopped::start(&env, "pause", step, args);
        reader.until_stopped();
        // In the same ring: by a writer that goes on, and not by another.
        let mut writer = Running::start(&env, &WRITE[1..]);
        writer.send(&rows(4000..END));
        until_last(&env, END);
        reader.go();
        let (status, out, err) = reader.tool.end();
        if args.contains(&"-f") {
            assert_eq!(status.code(), Some(1), "{step:?}: {err}");
            assert_accounted(&out, &err, end);
        } else {
            // Stopped before its first copy it has the old ring, which nobody writes any more.
            assert!(status.success(), "{step:?}: {err}");
            assert_eq!(out.lines().count() as u64, end, "{err}");
        }
        writer.finish();
        let text = text(err.as_bytes());
        assert!(text.is_empty() || text.contains("overwritten in the ring"), "{text}");
    }
}

#[test]
fn a_follower_stopped_before_a_record_does_not_take_the_next_one_for_it() {
    let env = store();
    let mut writer = Running::start(&env, &WRITE[1..]);
    writer.send(&rows(0..1));
    until_last(&env, 1);
    let follower =
        Stopped::start(&env, "pause", ("ring.seen", 1), &[&FOLLOW[..], &SINCE_FIRST].concat());
    follower.until_stopped();
    writer.send(&rows(1..2));
    until_last(&env, 2);
    follower.go();
    follower.tool.until_lines(2);
    follower.tool.signal("INT");
    let (_, out, err) = follower.tool.end();
    assert_eq!((out, err), (rows(0..2), String::new()));
    writer.finish();
}

#[test]
fn a_scan_lapped_by_its_own_writer_leaves_out_what_it_says() {
    let env = store();
    let mut writer = Running::start(&env, &WRITE[1..]);
    writer.send(&rows(0..3000));
    until_last(&env, 3000);
    let args = ["dw-cat", "ring", "-o", "csv", "--no-header"];
    let scan = Stopped::start(&env, "pause", ("ring.scan", 1), &args);
    scan.until_stopped();
    writer.send(&rows(3000..6000));
    until_last(&env, 6000);
    scan.go();
    let (status, out, err) = scan.tool.end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert_accounted(&out, &err, 3000);
    assert!(out.lines().count() > 500, "what is still there is read: {err}");
    // Backwards, what is gone by then is the end.
    let args = ["dw-cat", "ring", "-o", "csv", "--no-header", "-r"];
    let scan = Stopped::start(&env, "pause", ("ring.scan", 1), &args);
    scan.until_stopped();
    writer.send(&rows(6000..8000));
    until_last(&env, 8000);
    scan.go();
    let (status, out, err) = scan.tool.end();
    assert!(status.success() && err.is_empty(), "{err}");
    let printed: Vec<&str> = out.lines().collect();
    let whole = rows(0..6000);
    let expected: Vec<&str> = whole.lines().rev().take(printed.len()).collect();
    assert_eq!(printed, expected);
    assert!((1000..2500).contains(&printed.len()), "{} rows", printed.len());
    writer.finish();
}
