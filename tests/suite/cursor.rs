//! Tests of `dw-cat --cursor-file` and `--replay`: where a run continues, and how fast.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use super::env::TestEnv;
use super::kit::{FUTEX, FUTEX_WAITV, Running, good, run, text, until, until_asleep};
use super::random::Random;

fn store() -> TestEnv {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp n:uint64 --chunk-size 64KiB");
    env
}

fn write(env: &TestEnv, feed: &str, rows: &str) {
    let output = run(env, "dw-write", &[feed, "--final-line", "accept"], rows.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Returns the second column of dw-cat's output.
fn cat(env: &TestEnv, args: &[&str]) -> Vec<u64> {
    let args = [args, &["-o", "csv", "--no-header", "--fields", "n"]].concat();
    good(env, "dw-cat", &args).lines().map(|line| line.parse().unwrap()).collect()
}

fn next_seq(env: &TestEnv, feed: &str) -> u64 {
    let text = fs::read_to_string(env.path("cursor")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    json["feeds"][feed]["next_seq"].as_u64().unwrap()
}

#[test]
fn a_run_continues_where_the_last_one_ended() {
    let env = store();
    let go_on = |args: &[&str]| cat(&env, &[&["trades", "--cursor-file", "cursor"], args].concat());
    write(&env, "trades", "1,1\n2,2\n3,3\n");
    fs::write(env.path("cursor"), "").unwrap();
    assert_eq!(go_on(&[]), [1, 2, 3], "an empty file is no place yet");
    assert_eq!(next_seq(&env, "trades"), 3);
    assert!(go_on(&[]).is_empty());
    write(&env, "trades", "4,4\n0,5\n6,6\n7,7\n8,8\n");
    assert_eq!(go_on(&["-n", "+2"]), [4, 5], "late or not");
    assert_eq!(next_seq(&env, "trades"), 5);
    assert_eq!(go_on(&["--where", "n!=6", "-n", "+1"]), [7]);
    assert_eq!(next_seq(&env, "trades"), 7, "what the conditions leave out is passed");
    assert!(go_on(&["--since", "@9us"]).is_empty());
    // The file is created if it does not exist, and no temporary file is left.
    fs::remove_file(env.path("cursor")).unwrap();
    assert_eq!(go_on(&["-n", "1"]), [8]);
    let names: BTreeSet<_> =
        fs::read_dir(env.path(".")).unwrap().map(|i| i.unwrap().file_name()).collect();
    assert_eq!(names, ["cursor", "store"].map(Into::into).into());
}

#[test]
fn records_after_until_are_printed_by_a_later_run() {
    let env = store();
    let until = |end: &str| {
        cat(&env, &["trades", "--cursor-file", "cursor", "--until", &format!("@{end}us")])
    };
    write(&env, "trades", "1,1\n9,2\n2,3\n5,4\n");
    assert_eq!(until("3"), [1, 3]);
    assert_eq!(next_seq(&env, "trades"), 1, "before the first that was left out");
    assert_eq!(until("10"), [2, 4], "and what was printed does not come twice");
    assert!(until("10").is_empty());
}

#[test]
fn late_rows_are_printed_once_across_runs_with_until() {
    let env = store();
    let go_on = |args: &[&str]| cat(&env, &[&["trades", "--cursor-file", "cursor"], args].concat());
    write(&env, "trades", "1,1\n9,2\n2,3\n20,4\n5,5\n");
    assert_eq!(go_on(&["--until", "@6us"]), [1, 3, 5]);
    // Write rows that arrive later and are older, then use an end earlier than the last one.
    write(&env, "trades", "3,6\n8,7\n");
    assert_eq!(go_on(&["--until", "@4us"]), [6]);
    assert_eq!(go_on(&["--until", "@10us", "-n", "+1"]), [2]);
    assert_eq!(go_on(&["--until", "@10us", "-n", "1"]), [7], "the last that was not printed");
    assert_eq!(go_on(&[]), [4]);
    assert!(go_on(&[]).is_empty());
    assert_eq!(next_seq(&env, "trades"), 7);
    // The same with several feeds, by time.
    env.quiet("dw-mkfeed quotes ts:timestamp n:uint64");
    write(&env, "quotes", "2,10\n30,11\n1,12\n");
    let both = |end: &str| {
        let args = ["trades", "quotes", "--cursor-file", "both", "--until"];
        cat(&env, &[&args[..], &[end]].concat())
    };
    assert_eq!(both("@4us"), [1, 12, 3, 10, 6]);
    assert_eq!(both("@40us"), [5, 7, 2, 4, 11]);
    assert!(both("@40us").is_empty());
}

#[test]
fn a_store_restored_from_an_older_backup_is_reported() {
    let rows = |from: u64, to: u64| (from..to).map(|n| format!("{n},{n}\n")).collect::<String>();
    for (old_file, until) in [(false, false), (false, true), (true, false)] {
        let env = store();
        write(&env, "trades", &rows(0, 100));
        env.quiet("cp -a store backup");
        write(&env, "trades", &rows(100, 150));
        let mut args = vec!["trades", "--cursor-file", "cursor", "--fields", "n", "-o", "csv"];
        args.push("--no-header");
        let end = ["--until", "@140us"];
        if until {
            args.extend(end);
        }
        let first = good(&env, "dw-cat", &args);
        assert_eq!(first.lines().count(), if until { 140 } else { 150 });
        if old_file {
            let text = fs::read_to_string(env.path("cursor")).unwrap();
            let mut json: Value = serde_json::from_str(&text).unwrap();
            json["feeds"]["trades"].as_object_mut().unwrap().remove("last");
            fs::write(env.path("cursor"), json.to_string()).unwrap();
        }
        env.quiet("rm -r store; cp -a backup store");
        write(&env, "trades", &rows(1100, 1160));
        if until {
            args.retain(|arg| !end.contains(arg));
        }
        let output = run(&env, "dw-cat", &args, b"");
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        if old_file {
            assert_eq!(output.status.code(), Some(0), "nothing to tell it by: {said}");
            assert_eq!(out.lines().count(), 10);
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("an older copy; going on from seq 100"), "{said}");
        assert!(out.lines().map(|n| n.parse::<u64>().unwrap()).eq(1100..1160), "{out}");
        assert!(good(&env, "dw-cat", &args).is_empty(), "once");
    }
}

#[test]
fn an_older_backup_is_reported_before_new_writes() {
    let env = store();
    write(&env, "trades", "1,1\n");
    env.quiet("cp -a store backup");
    write(&env, "trades", "2,2\n3,3\n");
    let args = ["trades", "--cursor-file", "cursor", "--fields", "n", "-o", "csv", "--no-header"];
    assert_eq!(cat(&env, &["trades", "--cursor-file", "cursor"]), [1, 2, 3]);
    env.quiet("rm -r store; cp -a backup store");
    let output = run(&env, "dw-cat", &args, b"");
    assert_eq!((output.status.code(), text(&output.stdout).len()), (Some(1), 0));
    write(&env, "trades", "4,4\n");
    assert_eq!(cat(&env, &["trades", "--cursor-file", "cursor"]), [4]);
}

#[test]
fn a_cursor_of_another_store_or_feed_is_refused() {
    let env = store();
    env.quiet("dw-mkfeed quotes ts:timestamp n:uint64");
    write(&env, "trades", "1,1\n");
    let refused = |args: &[&str], why: &str| {
        let output = run(&env, "dw-cat", &[args, &["--cursor-file", "cursor"]].concat(), b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("dw-cat: cursor: ") && said.contains(why), "{said}");
        assert!(output.stdout.is_empty());
    };
    cat(&env, &["trades", "--cursor-file", "cursor"]);
    let kept = fs::read(env.path("cursor")).unwrap();
    refused(&["quotes"], "feed trades");
    refused(&["quotes", "--since", "first", "-f"], "feed trades");
    env.quiet("dw-mkfeed --delete --yes trades; dw-mkfeed trades ts:timestamp n:uint64");
    refused(&["trades"], "was deleted");
    env.quiet("rm -r store; dw-mkfeed trades ts:timestamp n:uint64");
    refused(&["trades"], "another store");
    assert_eq!(fs::read(env.path("cursor")).unwrap(), kept, "and left as it is");
    fs::write(env.path("cursor"), "17\n").unwrap();
    refused(&["trades"], "no cursor file");
    fs::remove_file(env.path("cursor")).unwrap();
    fs::create_dir(env.path("cursor")).unwrap();
    let output = run(&env, "dw-cat", &["trades", "--cursor-file", "cursor"], b"");
    assert_eq!(output.status.code(), Some(2));
    let output = run(&env, "dw-cat", &["trades", "--cursor-file", "no/such/folder"], b"");
    assert_eq!(output.status.code(), Some(2), "before anything is printed");
    assert!(output.stdout.is_empty());
}

#[test]
fn records_collected_since_the_last_run_are_reported() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp n:uint64 --chunk-size 64KiB --max-size 150KB");
    let rows = |from: u64, to: u64| (from..to).map(|n| format!("{n},{n}\n")).collect::<String>();
    write(&env, "trades", &rows(0, 100));
    assert_eq!(cat(&env, &["trades", "--cursor-file", "cursor"]).len(), 100);
    write(&env, "trades", &rows(100, 20_000));
    assert!(run(&env, "dw-gc", &["trades"], b"").status.success());
    let first = cat(&env, &["trades", "-n", "+1"])[0];
    assert!(first > 100, "something was collected");
    for live in [false, true] {
        fs::copy(env.path("cursor"), env.path("copy")).unwrap();
        let mut args = vec!["trades", "--cursor-file", "copy", "--fields", "n"];
        args.extend(["-o", "csv", "--no-header"]);
        if live {
            args.extend(["-f", "--until", "@99999us"]);
        }
        let output = run(&env, "dw-cat", &args, b"");
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("trades: left out seq 100..{first}: collected")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let numbers = out.lines().map(|line| line.parse::<u64>().unwrap());
        assert!(numbers.eq(first..20_000), "live {live}");
        let again = run(&env, "dw-cat", &["trades", "--cursor-file", "copy"], b"");
        assert_eq!((again.status.code(), again.stdout.len()), (Some(0), 0), "once");
    }
}

#[test]
fn a_signal_saves_the_position() {
    let env = store();
    let mut writer = Running::start(&env, &["trades"]);
    let args = ["trades", "-f", "--cursor-file", "cursor", "--fields", "n", "-o", "csv"];
    let follow = || Running::tool(&env, "dw-cat", &[&args[..], &["--no-header"]].concat());
    let follower = follow();
    // A first run saves the position where it begins.
    until("the place", || {
        fs::read_to_string(env.path("cursor")).ok().filter(|text| text.contains("next_seq"))
    });
    writer.send("1,1\n2,2\n");
    assert_eq!(follower.until_lines(2), ["1", "2"]);
    follower.signal("INT");
    assert_eq!(follower.end().0.signal(), Some(2));
    assert_eq!(next_seq(&env, "trades"), 2);
    writer.send("3,3\n");
    until("a record", || (cat(&env, &["trades"]).len() == 3).then_some(()));
    let follower = follow();
    assert_eq!(follower.until_lines(1), ["3"], "not at the live end");
    // The position is saved about once a second during the run.
    until("the place to be saved", || (next_seq(&env, "trades") == 3).then_some(()));
    writer.finish();
}

#[test]
fn each_of_several_feeds_has_its_own_position() {
    let env = store();
    env.quiet("dw-mkfeed quotes ts:timestamp n:uint64");
    let go_on = |args: &[&str]| {
        cat(&env, &[&["trades", "quotes", "--cursor-file", "cursor"], args].concat())
    };
    write(&env, "trades", "1,1\n8,2\n3,3\n");
    write(&env, "quotes", "2,10\n4,11\n");
    assert_eq!(go_on(&["-n", "+3"]), [1, 10, 3]);
    // Record 1 of trades is still to be printed; record 2 was printed and will be repeated.
    assert_eq!((next_seq(&env, "trades"), next_seq(&env, "quotes")), (1, 1));
    assert_eq!(go_on(&[]), [3, 11, 2]);
    assert!(go_on(&[]).is_empty());
    let one = run(&env, "dw-cat", &["trades", "--cursor-file", "cursor"], b"");
    assert_eq!(one.status.code(), Some(2), "of feeds that are not read here");
    env.quiet("dw-mkfeed more ts:timestamp n:uint64");
    write(&env, "more", "1,20\n");
    let args = ["trades", "quotes", "more", "--cursor-file", "cursor"];
    assert_eq!(cat(&env, &args), [20], "a feed more begins as without a cursor");
}

/// Sends rows to dw-write until told to stop. Counts them in `sent`.
fn feed(env: &TestEnv, stop: &AtomicBool, sent: &AtomicU64) {
    let mut writer = Running::start(env, &["trades"]);
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let rows: String = (n..n + 20).map(|n| format!("{n},{n}\n")).collect();
        writer.send(&rows);
        n += 20;
        sent.store(n, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(2));
    }
    writer.finish();
}

/// Runs a follower and kills it when `life` returns. Returns its output, complete lines only.
fn killed_follower(env: &TestEnv, life: impl FnOnce()) -> Vec<u64> {
    let mut command = Command::new(cargo_bin("dw-cat"));
    command.args(["trades", "-f", "--since", "first", "--cursor-file", "cursor"]);
    command.args(["-o", "csv", "--no-header", "--fields", "n"]).current_dir(env.path("."));
    command.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
    let mut child: Child = command.stdout(Stdio::piped()).spawn().expect("dw-cat starts");
    let mut pipe = child.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        pipe.read_to_end(&mut all).expect("it is our pipe");
        all
    });
    life();
    child.kill().and_then(|()| child.wait()).expect("it can be killed");
    let all = text(&reader.join().unwrap());
    let whole = all.rfind('\n').map_or("", |end| &all[..end]);
    whole.lines().map(|line| line.parse().expect("a number")).collect()
}

#[test]
fn thirty_kills_lose_no_record() {
    let env = store();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = BTreeSet::new();
    let mut random = Random::new(30);
    thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(&env, &stop, &sent));
        for round in 0..30 {
            // Some followers live until they have saved their position, most do not.
            let place = || fs::read(env.path("cursor")).unwrap_or_default();
            let before = place();
            let moment = Duration::from_millis(random.below(150));
            let got = killed_follower(&env, || match round % 6 {
                5 => until("a saved place", || (place() != before).then_some(())),
                _ => thread::sleep(moment),
            });
            assert!(got.windows(2).all(|pair| pair[0] + 1 == pair[1]), "round {round}: {got:?}");
            let next = seen.last().map_or(0, |last| last + 1);
            assert!(got.first().is_none_or(|&first| first <= next), "round {round}: from {next}");
            seen.extend(got);
        }
        stop.store(true, Ordering::Relaxed);
        feeder.join().unwrap();
    });
    let last = cat(&env, &["trades", "--cursor-file", "cursor"]);
    seen.extend(last);
    assert!(seen.into_iter().eq(0..sent.load(Ordering::Relaxed)), "every record, at least once");
    assert!(next_seq(&env, "trades") > 0);
}

#[test]
fn replay_follows_the_recorded_pace() {
    let env = store();
    // The rows span half a second, with a late row among them.
    write(&env, "trades", "1000000,1\n1250000,2\n1100000,3\n1500000,4\n");
    let timed = |args: &[&str]| {
        let began = Instant::now();
        let rows = cat(&env, &[&["trades"], args].concat());
        (rows, began.elapsed())
    };
    let (rows, once) = timed(&["--replay"]);
    assert_eq!(rows, [1, 2, 3, 4]);
    assert!(once >= Duration::from_millis(500), "{once:?}");
    let (_, slow) = timed(&["--replay=0.8", "-n", "+2"]);
    assert!(slow >= Duration::from_micros(312_500), "{slow:?}");
    let (_, fast) = timed(&["--replay=1000000"]);
    assert!(fast < Duration::from_millis(500), "{fast:?}");
    for wrong in ["0", "-1", "x", "inf", "nan"] {
        let output = run(&env, "dw-cat", &["trades", &format!("--replay={wrong}")], b"");
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    // Rows are printed when they are due, not when the pipe's buffer is full.
    let replay = Running::tool(&env, "dw-cat", &["trades", "--replay=0.05"]);
    replay.until_lines(1);
    replay.signal("INT");
    let (status, out, _) = replay.end();
    assert_eq!((status.signal(), out.lines().count()), (Some(2), 1));
}

#[test]
fn replay_continues_live() {
    for feeds in [&["trades"][..], &["trades", "quotes"]] {
        let env = store();
        env.quiet("dw-mkfeed quotes ts:timestamp n:uint64");
        write(&env, "trades", "1000000,1\n1200000,2\n");
        write(&env, "quotes", "1100000,10\n");
        let shown = ["-f", "--replay", "-o", "csv", "--no-header", "--fields", "n"];
        let follower = Running::tool(&env, "dw-cat", &[feeds, &shown].concat());
        follower.until_lines(1 + feeds.len());
        until_asleep(&follower, if feeds.len() == 1 { &FUTEX } else { &FUTEX_WAITV });
        // A record far in the future is printed at once when live.
        let mut writer = Running::start(&env, &["trades"]);
        writer.send("999999000000,3\n");
        follower.until_lines(2 + feeds.len());
        writer.finish();
        follower.signal("TERM");
        let (status, out, _) = follower.end();
        assert_eq!(status.signal(), Some(15));
        assert_eq!(out, if feeds.len() == 1 { "1\n2\n3\n" } else { "1\n10\n2\n3\n" });
    }
}
