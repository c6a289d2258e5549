//! Tests of `dw-cat -f`: from history into new records, across anything that happens to the writer;
//! how it ends; how it sleeps.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

use super::env::TestEnv;
use super::kit::{
    FUTEX, FUTEX_WAITV, NANOSLEEP, Running, good, not_run, objects, run, sleeps_in, text, until,
    until_asleep,
};
use super::random::mix;

/// Creates a store with `trades` and this policy.
fn store(policy: &str) -> TestEnv {
    let env = TestEnv::new();
    env.quiet(&format!("dw-mkfeed trades ts:timestamp price:float64 {policy}"));
    env
}

fn write(env: &TestEnv, feed: &str, rows: &str) {
    let output = run(env, "dw-write", &[feed, "--final-line", "accept"], rows.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn follow(env: &TestEnv, args: &[&str]) -> Running {
    let plain = ["-o", "csv", "--no-header"];
    Running::tool(env, "dw-cat", &[args, &["-f"], &plain].concat())
}

#[test]
fn follow_alone_begins_at_the_live_end() {
    let env = store("");
    write(&env, "trades", "1,1\n2,2\n");
    let mut writer = Running::start(&env, &["trades"]);
    let follower = follow(&env, &["trades"]);
    until_asleep(&follower, &FUTEX);
    writer.send("3,3\n");
    follower.until_lines(1);
    // Each row comes out of the pipe at once, while the writer waits.
    writer.send("4,4\n");
    follower.until_lines(2);
    writer.send("5,5\n6,");
    assert_eq!(follower.until_lines(3), ["3,3.0", "4,4.0", "5,5.0"]);
    writer.send("6\n");
    follower.until_lines(4);
    writer.finish();
    follower.signal("INT");
    let (status, out, err) = follower.end();
    assert_eq!((status.signal(), err.as_str()), (Some(2), ""));
    assert_eq!(out.lines().last(), Some("6,6.0"));
}

#[test]
fn follow_with_a_range_or_a_count_begins_in_history() {
    let env = store("");
    write(&env, "trades", "1,1\n5,2\n3,3\n9,4\n");
    let mut writer = Running::start(&env, &["trades"]);
    let last_two = follow(&env, &["trades", "-n", "2"]);
    let last_of_some = follow(&env, &["trades", "-n", "1", "--where", "price<4"]);
    let since = follow(&env, &["trades", "--since", "@4us"]);
    let by_seq = follow(&env, &["trades", "--seq", "1..5"]);
    let from_the_first_seq = follow(&env, &["trades", "--seq", "0.."]);
    let none = follow(&env, &["trades", "-n", "0"]);
    let first_five = follow(&env, &["trades", "-n", "+5"]);
    let all = follow(&env, &["trades", "--since", "first"]);
    last_two.until_lines(2);
    since.until_lines(2);
    until_asleep(&none, &FUTEX);
    // One row that is late, one late and outside the range, one in the range.
    writer.send("8,5\n2,6\n10,7\n");
    let all = all.until_lines(7);
    assert_eq!(all, ["1,1.0", "5,2.0", "3,3.0", "9,4.0", "8,5.0", "2,6.0", "10,7.0"]);
    assert_eq!(last_two.until_lines(5), all[2..]);
    assert_eq!(from_the_first_seq.until_lines(7), all);
    assert_eq!(last_of_some.until_lines(1), ["3,3.0"], "the last that is meant");
    assert_eq!(since.until_lines(4), ["5,2.0", "9,4.0", "8,5.0", "10,7.0"], "late rows too");
    assert_eq!(none.until_lines(3), all[4..]);
    let sealed = good(&env, "dw-cat", &["trades", "-f", "--seq", "1..3", "--fields", "price"]);
    assert_eq!(sealed, "{\"price\":2.0}\n{\"price\":3.0}\n", "within what was there");
    // Followers with an end reach it.
    let (status, out, _) = by_seq.end();
    assert!(status.success(), "{status}");
    assert_eq!(out.lines().collect::<Vec<_>>(), all[1..5]);
    let (status, out, _) = first_five.end();
    assert!(status.success(), "{status}");
    assert_eq!(out.lines().collect::<Vec<_>>(), all[..5]);
    writer.finish();
}

#[test]
fn every_format_but_npy_can_be_followed() {
    let env = store("");
    write(&env, "trades", "1,1\n");
    let mut writer = Running::start(&env, &["trades"]);
    let start = |format: &str| {
        Running::tool(&env, "dw-cat", &["trades", "-f", "-n1", "-o", format, "--time", "raw"])
    };
    let jsonl = start("jsonl");
    let (csv, tsv, table) = (start("csv"), start("tsv"), start("table"));
    // The header is printed before any row arrives.
    let header = Running::tool(&env, "dw-cat", &["trades", "-f", "-o", "csv"]);
    assert_eq!(header.until_lines(1), ["ts,price"]);
    jsonl.until_lines(1);
    csv.until_lines(2);
    tsv.until_lines(2);
    table.until_lines(2);
    writer.send("2,2\n");
    assert_eq!(jsonl.until_lines(2), [r#"{"ts":1,"price":1.0}"#, r#"{"ts":2,"price":2.0}"#]);
    assert_eq!(csv.until_lines(3), ["ts,price", "1,1.0", "2,2.0"]);
    assert_eq!(tsv.until_lines(3), ["ts\tprice", "1\t1.0", "2\t2.0"]);
    assert_eq!(table.until_lines(3), ["ts  price", " 1    1.0", " 2    2.0"]);
    let refused = run(&env, "dw-cat", &["trades", "-f", "-o", "npy"], b"");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("how many records"), "{}", text(&refused.stderr));
    for wrong in [&["-r"][..], &["-r", "--replay"], &["-r", "--cursor-file", "c"]] {
        let refused = run(&env, "dw-cat", &[&["trades"], wrong, &["-f"]].concat(), b"");
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
    writer.finish();
}

#[test]
fn raw_records_can_be_followed() {
    let env = store("");
    write(&env, "trades", "1,1\n");
    let mut writer = Running::start(&env, &["trades"]);
    let mut follower = Command::new(cargo_bin("dw-cat"));
    follower.args(["trades", "-f", "-n1", "-o", "raw"]).stdout(Stdio::piped());
    follower.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
    let mut follower = follower.spawn().expect("dw-cat starts");
    let mut pipe = follower.stdout.take().expect("a pipe");
    let mut record = [0; 16];
    for n in 1..=3u64 {
        pipe.read_exact(&mut record).expect("a record");
        assert_eq!(record[..8], n.to_le_bytes());
        assert_eq!(record[8..], (n as f64).to_le_bytes());
        writer.send(&format!("{0},{0}\n", n + 1));
    }
    follower.kill().and_then(|()| follower.wait()).expect("it ends");
    writer.finish();
}

#[test]
fn follow_ends_when_the_clock_has_passed_until() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("1,1\n");
    let began = Instant::now();
    let follower = follow(&env, &["trades", "--since", "first", "--until", "+700ms"]);
    follower.until_lines(1);
    // Rows at or after the end are not printed, however early they arrive.
    writer.send("2,2\n4000000000000000,3\n3,4\n");
    follower.until_lines(3);
    let (status, out, err) = follower.end();
    assert!(status.success() && err.is_empty(), "{status} {err}");
    assert_eq!(out, "1,1.0\n2,2.0\n3,4.0\n");
    assert!(began.elapsed() >= Duration::from_millis(700), "not before its time");
    // If the end is in the past, all of history is printed without waiting.
    let past = follow(&env, &["trades", "--since", "first", "--until", "@3us"]);
    let (status, out, _) = past.end();
    assert_eq!((status.code(), out.as_str()), (Some(0), "1,1.0\n2,2.0\n"));
    writer.finish();
}

#[test]
fn an_idle_follower_sees_its_reader_leave() {
    let env = store("");
    write(&env, "trades", "1,1\n");
    for feeds in [&["trades"][..], &["trades", "quotes"]] {
        if feeds.len() > 1 {
            env.quiet("dw-mkfeed quotes ts:timestamp price:float64");
        }
        let mut follower = Command::new(cargo_bin("dw-cat"));
        follower.args(feeds).args(["-f", "-n1"]).stdout(Stdio::piped());
        follower.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
        let mut follower = follower.spawn().expect("dw-cat starts");
        let mut pipe = follower.stdout.take().expect("a pipe");
        pipe.read_exact(&mut [0; 5]).expect("a record");
        drop(pipe);
        let left = Instant::now();
        let status = until("its end", || follower.try_wait().expect("it is our child"));
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        assert_eq!(status.code(), Some(0), "a reader that leaves is no failure");
    }
    let (status, _, err) = {
        let output = env.sh("dw-cat trades -f >&-");
        (output.status, (), text(&output.stderr))
    };
    assert_eq!(status.code(), Some(2), "{err}");
}

#[test]
fn a_signal_ends_it_after_all_is_printed() {
    let env = store("");
    write(&env, "trades", "1,1\n");
    for (name, number) in [("INT", 2), ("TERM", 15)] {
        let follower = follow(&env, &["trades", "-n1"]);
        follower.until_lines(1);
        follower.signal(name);
        let (status, out, err) = follower.end();
        assert_eq!((status.signal(), err.as_str()), (Some(number), ""));
        assert_eq!(out, "1,1.0\n");
    }
}

#[test]
fn a_signal_ends_it_even_if_its_reader_stalls() {
    let env = store("");
    let rows: String = (0..200_000).map(|n| format!("{n},{n}\n")).collect();
    write(&env, "trades", &rows);
    for stuck in [true, false, false, false, false, false, false, false, false, false] {
        let mut follower = Command::new("env");
        follower.arg("--default-signal=INT,TERM").arg(cargo_bin("dw-cat"));
        follower.args(["trades", "-f", "--since", "first"]).stdout(Stdio::piped());
        follower.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
        let mut follower = follower.spawn().expect("dw-cat starts");
        let mut pipe = follower.stdout.take().expect("a pipe");
        let mut first = [0; 1];
        pipe.read_exact(&mut first).expect("a byte");
        // It writes until the pipe is full. Then it sleeps in write(2), or is about to.
        let pid = follower.id();
        if stuck && cfg!(target_arch = "x86_64") {
            until("it to be stuck", || (sleeps_in(pid) == Some(1)).then_some(()));
        }
        let status = Command::new("kill").args(["-s", "INT", &pid.to_string()]).status();
        assert!(status.expect("kill starts").success());
        let status = until("its end", || follower.try_wait().expect("it is our child"));
        assert_eq!(status.signal(), Some(2));
        drop(pipe);
    }
}

#[test]
fn deleting_the_feed_ends_it_even_if_the_name_is_reused() {
    let env = store("");
    write(&env, "trades", "1,1\n");
    let follower = follow(&env, &["trades", "-n1"]);
    follower.until_lines(1);
    write(&env, "trades", "2,2\n");
    env.quiet("dw-mkfeed --delete --yes trades && dw-mkfeed trades ts:timestamp price:float64");
    write(&env, "trades", "3,3\n");
    let (status, out, err) = follower.end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert_eq!(out, "1,1.0\n2,2.0\n", "what was in it, and nothing of the other");
    assert_eq!(err, "dw-cat: trades: the feed was deleted; this is its end\n");
}

#[test]
fn removing_the_feeds_directory_ends_it() {
    for policy in ["", "--ring=64KiB"] {
        let env = store(policy);
        write(&env, "trades", "1,1\n");
        let follower = follow(&env, &["trades", "-n1"]);
        follower.until_lines(1);
        fs::rename(env.base().join("feeds/trades"), env.path("away")).unwrap();
        let (status, _, err) = follower.end();
        assert_eq!(status.code(), Some(1), "{policy}: {err}");
        assert!(err.contains("this is its end"), "{policy}: {err}");
    }
}

#[test]
fn replaced_files_are_opened_again() {
    for name in ["live", "feed_registry.bin"] {
        let env = store("");
        write(&env, "trades", "1,1\n");
        let follower = follow(&env, &["trades", "-n1"]);
        follower.until_lines(1);
        // Replace the file as a repair does: the same bytes in another file.
        env.quiet(&format!(
            "cd store/feeds/trades && cp {name} {name}.new && mv {name}.new {name}"
        ));
        let mut writer = Running::start(&env, &["trades"]);
        writer.send("2,2\n");
        assert_eq!(follower.until_lines(2)[1], "2,2.0", "{name}");
        writer.finish();
        assert_eq!(follower.err(), "", "{name}");
    }
}

#[test]
fn the_live_example_in_the_documents_works() {
    let env = TestEnv::new();
    let printed = env.quiet(&super::env::document_block("run: live"));
    let trade = |ts: &str, price: &str, feed: &str| {
        format!("{{{feed}\"ts\":1700000{ts},\"price\":{price}}}\n")
    };
    let trades = |feed: &str| {
        [("000000000", "42.5"), ("001000000", "42.75"), ("002000000", "43.25")]
            .map(|(ts, price)| trade(ts, price, feed))
    };
    let quote = "{\"_feed\":\"quotes\",\"ts\":1700000000500000,\"bid\":42.0,\"ask\":43.0}\n";
    let (plain, named) = (trades(""), trades("\"_feed\":\"trades\","));
    let replayed =
        "ts,price\n1700000000000000,42.5\n1700000001000000,42.75\n1700000002000000,43.25\n";
    let wanted =
        [&plain.concat(), &named[0], quote, &named[1], &named[2], &plain.concat(), replayed];
    assert_eq!(printed, wanted.concat());
}

/// Returns the CPU time a process has used, in nanoseconds.
fn cpu_ns(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it runs");
    text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn an_idle_follower_uses_almost_no_cpu() {
    const REST: Duration = Duration::from_secs(3);
    let env = store("");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("1,1\n");
    let follower = follow(&env, &["trades", "--since", "first"]);
    follower.until_lines(1);
    until_asleep(&follower, &FUTEX);
    let (began, before) = (Instant::now(), cpu_ns(follower.pid()));
    thread::sleep(REST);
    let used = (cpu_ns(follower.pid()) - before) as f64 / began.elapsed().as_nanos() as f64;
    // On an idle machine it may use a fifth of a percent.
    assert!(used < 0.01, "{:.3} % of a processor", used * 100.0);
    writeln!(std::io::stderr().lock(), "at rest: {:.3} % of a processor", used * 100.0).unwrap();
    writer.finish();
}

#[test]
fn a_reader_without_write_permission_polls() {
    let env = store("--mode 0644");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("1,1\n");
    let there = || fs::read_dir(env.shm()).ok()?.next()?.ok();
    let folder = until("a folder in shared memory", there).path();
    let wait = folder.join("trades.wait");
    until("a wait file", || wait.exists().then_some(()));
    let public = |path: &Path, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in [&env.path("."), env.shm(), &folder] {
        public(path, 0o755);
    }
    let tool = cargo_bin("dw-cat").display().to_string();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let probe = Command::new("setpriv").args(nobody).arg(&tool).arg("--version").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        not_run("a_reader_without_write_permission_polls (cannot run dw-cat as another user)");
        return;
    }
    for (mode, calls) in [(0o666, &FUTEX[..]), (0o644, &NANOSLEEP)] {
        public(&wait, mode);
        // setpriv must come before dw-cat, so it is the program that `Running` starts.
        let mut args = nobody.to_vec();
        args.extend([tool.as_str(), "trades", "-f", "-n1", "-o", "csv", "--no-header"]);
        let follower = Running::tool(&env, "setpriv", &args);
        follower.until_lines(1);
        until_asleep(&follower, calls);
        writer.send("2,2\n");
        assert_eq!(follower.until_lines(2)[1], "2,2.0");
    }
    writer.finish();
}

#[test]
fn a_new_or_replaced_wait_file_is_found() {
    let env = store("");
    let follower = follow(&env, &["trades", "--since", "first"]);
    until_asleep(&follower, &NANOSLEEP);
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("1,1\n");
    follower.until_lines(1);
    until_asleep(&follower, &FUTEX);
    writer.finish();
    // If shared memory is cleared, the follower polls, then sleeps on the next writer's wait file.
    let folder = fs::read_dir(env.shm()).unwrap().next().expect("a folder").unwrap().path();
    fs::remove_dir_all(&folder).unwrap();
    until_asleep(&follower, &NANOSLEEP);
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("2,2\n");
    follower.until_lines(2);
    until_asleep(&follower, &FUTEX);
    writer.send("3,3\n");
    assert_eq!(follower.until_lines(3), ["1,1.0", "2,2.0", "3,3.0"]);
    writer.finish();
}

#[test]
fn spin_never_sleeps() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("1,1\n");
    let follower = follow(&env, &["trades", "--since", "first", "--spin"]);
    follower.until_lines(1);
    let before = cpu_ns(follower.pid());
    until("processor time to be used", || {
        (cpu_ns(follower.pid()) - before > 200_000_000).then_some(())
    });
    writer.send("2,2\n");
    follower.until_lines(2);
    follower.signal("INT");
    assert_eq!(follower.end().0.signal(), Some(2));
    writer.finish();
}

#[test]
fn several_feeds_are_printed_as_records_arrive() {
    let env = store("");
    env.quiet("dw-mkfeed quotes ts:timestamp bid:float64 --time-unit ns");
    let mut trades = Running::start(&env, &["trades"]);
    let mut quotes = Running::start(&env, &["quotes"]);
    trades.send("1,1\n3,3\n");
    quotes.send("2000,2\n");
    until("three records", || {
        let there = objects(&env, "dw-ls", &["--json"]);
        (there.iter().map(|f| f["records"].as_u64().unwrap()).sum::<u64>() == 3).then_some(())
    });
    let args = ["trades", "quotes", "-f", "-n", "2", "--with-feed"];
    let follower = Running::tool(&env, "dw-cat", &args);
    follower.until_lines(2);
    until_asleep(&follower, &FUTEX_WAITV);
    trades.send("9,4\n");
    follower.until_lines(3);
    quotes.send("1000,5\n");
    let lines = follower.until_lines(4);
    let wanted = [
        r#"{"_feed":"quotes","ts":2000,"bid":2.0}"#,
        r#"{"_feed":"trades","ts":3,"price":3.0}"#,
        r#"{"_feed":"trades","ts":9,"price":4.0}"#,
        r#"{"_feed":"quotes","ts":1000,"bid":5.0}"#,
    ];
    assert_eq!(lines, wanted, "history by time, then as they come");
    // One writer ends; the other continues.
    trades.finish();
    env.quiet("dw-mkfeed --delete --yes trades");
    until("the end of one", || {
        follower.err().contains("trades: the feed was deleted").then_some(())
    });
    quotes.send("4000,6\n");
    follower.until_lines(5);
    quotes.finish();
    env.quiet("dw-mkfeed --delete --yes quotes");
    assert_eq!(follower.end().0.code(), Some(1));
}

#[test]
fn following_more_feeds_than_futex_waitv_takes_works() {
    const FEEDS: usize = 130;
    let env = TestEnv::new();
    let fields = r#"[{"name":"ts","type":"timestamp"},{"name":"n","type":"uint64"}]"#;
    let spec =
        |i: usize| format!(r#"{{"feed_name":"f{i}","mode":"UF","ts_col":"ts","fields":{fields}}}"#);
    let specs: Vec<String> = (0..FEEDS).map(spec).collect();
    fs::write(env.path("specs.json"), format!("[{}]", specs.join(","))).unwrap();
    env.quiet("dw-mkfeed --spec specs.json");
    let names: Vec<String> = (0..FEEDS).map(|i| format!("f{i}")).collect();
    let mut args: Vec<&str> = names.iter().map(String::as_str).collect();
    // Every feed has a wait file.
    for name in &args {
        write(&env, name, "1,0\n");
    }
    args.push("--with-feed");
    let follower = follow(&env, &args);
    until_asleep(&follower, &NANOSLEEP);
    for (n, feed) in [0, 77, 129].into_iter().enumerate() {
        write(&env, &names[feed], &format!("2,{feed}\n"));
        assert_eq!(follower.until_lines(n + 1)[n], format!("f{feed},2,{feed}"));
    }
}

/// Returns record `n` of the paced feed, 64 bytes.
fn paced_record(n: u64) -> Vec<u8> {
    let ts = 1_700_000_000_000_000 + n * 200;
    let words = [ts, n, mix(n ^ ts), 0, 0, 0, 0, n];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Sends 5,000 records a second to a writer, then ends it as `end` says. Returns the next number.
fn pace(env: &TestEnv, from: u64, rows: u64, end: Option<&str>) -> u64 {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM").arg(cargo_bin("dw-write"));
    command.args(["paced", "--format", "raw"]).stdin(Stdio::piped());
    command.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
    let mut writer = command.spawn().expect("dw-write starts");
    let mut pipe = writer.stdin.take().expect("a pipe");
    let began = Instant::now();
    for n in 0..rows {
        let due = began + Duration::from_micros(n * 200);
        if n.is_multiple_of(10)
            && let Some(early) = due.checked_duration_since(Instant::now())
        {
            thread::sleep(early);
        }
        pipe.write_all(&paced_record(from + n)).expect("dw-write reads");
    }
    match end {
        None => drop(pipe),
        Some(signal) => {
            let pid = writer.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        }
    }
    writer.wait().expect("it ends");
    // Records that the writer had not read are not in the feed.
    let last = good(env, "dw-cat", &["paced", "-n1", "-o", "csv", "--no-header", "--fields", "n"]);
    last.trim().parse::<u64>().expect("a number") + 1
}

#[test]
fn every_record_is_printed_once_across_writers_that_end_and_die() {
    let env = TestEnv::new();
    let fields = "ts:timestamp n:uint64 h:uint64 rest:bytes40";
    env.quiet(&format!("dw-mkfeed paced {fields} --chunk-size 64KiB"));
    pace(&env, 0, 1_500, None);
    let second = pace(&env, 1_500, 1_500, None);
    // Start in the middle of the third session, from the beginning of the second.
    let since = format!("@{}us", 1_700_000_000_000_000u64 + 1_500 * 200);
    let follower = thread::scope(|scope| {
        let third = scope.spawn(|| pace(&env, second, 5_000, Some("TERM")));
        until("the third session", || {
            let sessions = objects(&env, "dw-ls", &["--sessions", "--json"]);
            (sessions.len() == 3).then_some(())
        });
        let args = ["paced", "--since", &since, "--fields", "ts,n,h", "--with-seq"];
        let follower = follow(&env, &args);
        let fourth = pace_on(&env, third.join().unwrap(), "KILL");
        let fifth = pace_on(&env, fourth, "TERM");
        let end = pace(&env, fifth, 1_000, None);
        follower.until_lines((end - 1_500) as usize);
        follower
    });
    follower.signal("INT");
    let (status, out, err) = follower.end();
    assert_eq!((status.signal(), err.as_str()), (Some(2), ""));
    let chunks = objects(&env, "dw-ls", &["--chunks", "--json"]).len();
    assert!(chunks > 12, "{chunks} chunks");
    for (i, line) in out.lines().enumerate() {
        let n = 1_500 + i as u64;
        let ts = 1_700_000_000_000_000 + n * 200;
        assert_eq!(line, format!("{n},{ts},{n},{}", mix(n ^ ts)), "each once, in order");
    }
}

fn pace_on(env: &TestEnv, from: u64, end: &str) -> u64 {
    pace(env, from, 2_500, Some(end))
}

#[test]
fn a_store_that_is_moved_or_removed_under_a_follower_is_not_called_deleted() {
    for options in [&[][..], &["--ring"]] {
        for moved in [true, false] {
            let env = TestEnv::new();
            let args = [&["t", "ts:uint64"], options].concat();
            assert!(run(&env, "dw-mkfeed", &args, b"").status.success());
            assert!(run(&env, "dw-write", &["t", "--columns", "ts"], b"1\n2\n").status.success());
            let args = ["t", "-f", "-n", "5", "-o", "csv", "--no-header"];
            let mut follower = Running::tool(&env, "dw-cat", &args);
            follower.until_lines(2);
            let to = env.path("elsewhere");
            match moved {
                true => std::fs::rename(env.base(), &to).unwrap(),
                false => std::fs::remove_dir_all(env.base()).unwrap(),
            }
            let status = follower.wait();
            let (_, out, said) = follower.end();
            assert_eq!((status.code(), &*out), (Some(1), "1\n2\n"), "{said}");
            assert!(!said.contains("deleted"), "{said}");
            let place = to.join("feeds/t").display().to_string();
            let truth = if moved { place } else { "were removed".to_owned() };
            assert!(said.contains(&truth), "{said}");
        }
    }
}

/// A store in the lower layer of an overlay: its files get another content under the same inode
/// when the first writer comes.
#[test]
fn a_follower_in_an_overlay_sees_the_first_writer() {
    for options in ["", "--stage shm", "--ring"] {
        let env = TestEnv::new();
        env.quiet(&format!("dw-mkfeed t ts:uint64 {options}; mkdir upper work merged"));
        let script = r#"
            mount -t overlay -o lowerdir=$PWD/store,upperdir=$PWD/upper,workdir=$PWD/work \
                overlay $PWD/merged 2>/dev/null || exit 77
            export DEEPWATER_BASE=$PWD/merged
            dw-cat t -f -o csv > out & pid=$!
            until_lines() {
                for i in $(seq 1000); do
                    [ "$(wc -l < out)" -lt $1 ] || return 0
                    sleep 0.01
                done
                echo "waited for $1 lines" >&2; kill $pid; return 1
            }
            until_lines 1
            (echo 5; echo 6; until_lines 3) | dw-write t --columns ts
            echo 7 | dw-write t --columns ts
            until_lines 4
            kill $pid
            cat out
        "#;
        let done = env.program("unshare").args(["-m", "bash", "-euc", script]).output();
        let done = done.expect("unshare starts");
        let said = text(&done.stderr);
        if done.status.code() == Some(77) || said.contains("unshare failed") {
            super::kit::not_run(
                "a_follower_in_an_overlay_sees_the_first_writer (cannot mount one)",
            );
            return;
        }
        assert!(done.status.success(), "{options}: {said}");
        assert_eq!(text(&done.stdout), "ts\n5\n6\n7\n", "{options}: {said}");
    }
}
