//! Tests of deepwater.log: one line per event, from several processes at once; and a log that
//! cannot be written, which makes nothing fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deepwater::log::Log;
use serde_json::Value;

use super::env::TestEnv;
use super::kit::{Running, good, not_run, run, text, until};

/// Returns the events of the log, with fields by name. Python's shlex parses them, so that the
/// format does not depend on our own code.
fn events(env: &TestEnv) -> Vec<BTreeMap<String, String>> {
    const SCRIPT: &str = r#"
import datetime, json, shlex, sys
for line in sys.stdin:
    time, rest = line.rstrip("\n").split(" ", 1)
    assert time.endswith("Z"), line
    datetime.datetime.fromisoformat(time[:-1] + "+00:00")
    print(json.dumps(dict(word.split("=", 1) for word in shlex.split(rest))))
"#;
    let log = fs::read(env.base().join("deepwater.log")).expect("a log");
    let mut python = env.program("python3");
    let output = python.args(["-c", SCRIPT]).write_stdin(log).output().expect("python3 starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Formats these fields of an event, in the order given.
fn shown(event: &BTreeMap<String, String>, keys: &[&str]) -> String {
    let word = |key: &&str| format!("{key}={}", event.get(*key).map_or("?", String::as_str));
    keys.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn of_kind<'a>(
    events: &'a [BTreeMap<String, String>],
    kind: &str,
) -> Vec<&'a BTreeMap<String, String>> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn the_events_of_a_feed_are_logged() {
    let env = TestEnv::new();
    let make = "dw-mkfeed trades ts:timestamp price:float64 --chunk-size 64KiB";
    env.quiet(&format!("{make}; {make}; {make} --update --max-size 1KiB"));
    env.sh("printf '1,1\\n2,2\\n1,3\\nx,y\\n' | dw-write trades --columns ts,price");
    env.quiet("seq 5000 | sed 's/$/,1/' | dw-write trades --columns ts,price; dw-gc >/dev/null");
    env.quiet("dw-mkfeed --delete --yes trades");
    let events = events(&env);
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str()).collect();
    let session = ["writer-opened", "chunk-sealed", "rejects", "writer-closed"];
    assert_eq!(kinds[..6], [&["feed-made", "feed-updated"], &session[..]].concat(), "{events:?}");
    assert_eq!(
        kinds[6..],
        [
            "writer-opened",
            "chunk-sealed",
            "chunk-sealed",
            "writer-closed",
            "gc",
            "gc",
            "gc",
            "feed-deleted"
        ]
    );
    assert!(events.iter().all(|event| event["feed"] == "trades"));
    assert!(events[1]["changed"].contains("max_size_bytes is null, asked for 1024"), "{events:?}");
    assert_eq!(shown(&events[2], &["session", "seq"]), "session=1 seq=0");
    assert_eq!(
        shown(&events[3], &["chunk", "seq", "records", "bytes", "reason"]),
        "chunk=1 seq=0..3 records=3 bytes=48 reason=closed"
    );
    assert_eq!(shown(&events[4], &["session", "rejected"]), "session=1 rejected=1");
    assert!(events[4]["last"].starts_with("stdin:4:1: "), "{}", events[4]["last"]);
    assert_eq!(
        shown(&events[5], &["session", "reason", "seq", "rows", "late", "rejected", "passed_over"]),
        "session=1 reason=ended seq=0..3 rows=3 late=1 rejected=1 passed_over=0"
    );
    assert_eq!(shown(&events[7], &["chunk", "reason"]), "chunk=2 reason=full");
    assert_eq!(
        shown(&events[10], &["action", "chunk", "seq", "bytes", "reason"]),
        "action=collect chunk=1 seq=0..3 bytes=4176 reason=max-size"
    );
    let pids: BTreeSet<&String> = events.iter().map(|event| &event["pid"]).collect();
    assert_eq!(pids.len(), 6, "each process its own");
}

#[test]
fn a_killed_writer_is_logged() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp price:float64");
    let mut writer = Running::start(&env, &["trades", "--columns", "ts,price"]);
    writer.send("1,1\nx,y\n2,2\n");
    until("two rows", || (good(&env, "dw-cat", &["trades"]).lines().count() == 2).then_some(()));
    // A session that may last for months logs at once that rows are rejected.
    until("the rejects", || (of_kind(&events(&env), "rejects").len() == 1).then_some(()));
    writer.signal("KILL");
    writer.wait();
    env.quiet("echo 3,3 | dw-write trades --columns ts,price");
    let events = events(&env);
    let closed = of_kind(&events, "writer-closed");
    let keys = ["session", "reason", "rows", "rejected"];
    assert_eq!(shown(closed[0], &keys), "session=1 reason=crashed rows=2 rejected=1");
    assert_eq!(shown(closed[1], &keys), "session=2 reason=ended rows=1 rejected=0");
    let sealed = of_kind(&events, "chunk-sealed");
    assert_eq!(
        shown(sealed[0], &["chunk", "records", "reason"]),
        "chunk=1 records=2 reason=recovered"
    );
}

#[test]
fn row_contents_cannot_forge_a_log_line() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp price:float64");
    let forged = r#"\n2026-01-01T00:00:00Z event=feed-deleted \" x=y\u001b[2J"#;
    let row = format!("{{\"ts\": 1, \"price\": \"{forged}\"}}\n");
    let output = run(&env, "dw-write", &["trades"], row.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let events = events(&env);
    assert_eq!(of_kind(&events, "feed-deleted").len(), 0);
    assert_eq!(of_kind(&events, "rejects").len(), 1);
    let log = fs::read_to_string(env.base().join("deepwater.log")).expect("UTF-8");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}

#[test]
fn readers_of_the_store_may_read_its_log() {
    let env = TestEnv::new();
    let mode = || {
        let meta = fs::metadata(env.base().join("deepwater.log")).expect("a log");
        meta.permissions().mode() & 0o777
    };
    env.quiet("umask 077; dw-mkfeed a ts:timestamp");
    assert_eq!(mode(), 0o640, "as the feeds are");
    env.quiet("dw-mkfeed b ts:timestamp --mode 0664");
    assert_eq!(mode(), 0o644, "and written by nobody else");
    fs::remove_file(env.base().join("deepwater.log")).unwrap();
    env.quiet("umask 077; echo 1 | dw-write a --columns ts");
    assert_eq!(mode(), 0o644);
}

#[test]
fn a_log_created_by_root_belongs_to_the_stores_owner() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed a ts:timestamp");
    if env.quiet("id -u").trim() != "0" {
        not_run("a log that root begins (not root)");
        return;
    }
    env.quiet("chown -R 65534:65534 store; rm store/deepwater.log; dw-mkfeed b ts:timestamp");
    assert_eq!(env.quiet("stat -c %u:%g:%a store/deepwater.log"), "65534:65534:640\n");
}

#[test]
fn tools_work_if_the_log_cannot_be_written() {
    let log = "store/deepwater.log";
    let full = format!("truncate -s 10000000 {log}");
    for (what, spoil) in [
        ("a folder", format!("mkdir {log}")),
        ("a link", format!("ln -s elsewhere {log}")),
        ("a link to a device", format!("ln -s /dev/full {log}")),
        ("a pipe", format!("mkfifo {log}")),
        ("read-only", format!("touch {log}; chmod 0444 {log}; chattr +i {log} || true")),
        (
            "full, and the lock a folder",
            format!("rm store/locks/log; mkdir store/locks/log; {full}"),
        ),
        (
            "full, and no locks to take",
            format!("rm -f store/locks/log; ln -s /dev/null store/locks/log; {full}"),
        ),
        (
            "full, and a backup is a folder",
            format!("mkdir -p {log}.1/x {log}.2/x {log}.3/x {log}.4/x {log}.5/x; {full}"),
        ),
    ] {
        let env = TestEnv::new();
        env.quiet("dw-mkfeed t ts:timestamp --max-size 1KiB");
        env.quiet(&format!("touch store/locks/log; rm {log}; {spoil} 2>/dev/null"));
        let began = Instant::now();
        env.quiet("seq 10 | dw-write t --columns ts; dw-gc >/dev/null; dw-mkfeed u ts:timestamp");
        env.quiet("dw-mkfeed --delete --yes u; dw-ls >/dev/null; dw-cat t");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        let _ = env.sh(&format!("chattr -i {log}"));
        assert!(!env.path("elsewhere").exists(), "{what}");
    }
}

#[test]
fn tools_do_not_wait_for_log_rotation() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp; truncate -s 9999990 store/deepwater.log");
    let mut holder = Command::new("flock");
    holder.arg(env.base().join("locks/log")).args(["sh", "-c", "echo held; exec cat"]);
    let mut holder =
        holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flock starts");
    let mut held = [0; 5];
    use std::io::Read as _;
    holder.stdout.as_mut().unwrap().read_exact(&mut held).expect("it has the lock");
    env.quiet("echo 1 | dw-write t --columns ts");
    assert!(!env.base().join("deepwater.log.1").exists());
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    env.quiet("echo 1 | dw-write t --columns ts");
    let old = fs::read_to_string(env.base().join("deepwater.log.1")).expect("turned over now");
    assert_eq!(old.matches("event=writer-closed").count(), 1, "nothing was lost meanwhile");
    let new = fs::read_to_string(env.base().join("deepwater.log")).expect("a new log");
    assert_eq!(new.matches("event=writer-closed").count(), 1);
}

/// Returns every line of the log and its backups, oldest first.
fn all_lines(env: &TestEnv) -> Vec<String> {
    let folder = env.base();
    let number = |name: &str| match name.strip_prefix("deepwater.log")? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse::<u32>().ok(),
    };
    let mut logs: Vec<(u32, String)> = fs::read_dir(&folder)
        .expect("a store")
        .filter_map(|item| item.unwrap().file_name().into_string().ok())
        .filter_map(|name| Some((number(&name)?, name)))
        .collect();
    logs.sort_unstable_by(|a, b| b.cmp(a));
    let read = |(_, name): &(u32, String)| fs::read_to_string(folder.join(name)).expect("text");
    let text: String = logs.iter().map(read).collect();
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

/// Sets a flag on drop, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs two writers that seal many chunks, and dw-gc again and again, until `over` is set. Each of
/// their events must then be in the log once.
fn busy_store(env: &TestEnv, over: &AtomicBool) {
    for feed in ["a", "b"] {
        env.quiet(&format!("dw-mkfeed {feed} ts:timestamp --chunk-size 64KiB --max-size 300KiB"));
    }
    thread::scope(|scope| {
        let _end = End(over);
        for feed in ["a", "b"] {
            scope.spawn(move || {
                let _end = End(over);
                let rows: String = (0..8192).map(|n| format!("{n}\n")).collect();
                while !over.load(Ordering::Relaxed) {
                    let mut writer = Running::start(env, &[feed, "--columns", "ts"]);
                    (0..20).for_each(|_| writer.send(&rows));
                    writer.finish();
                }
            });
        }
        while !over.load(Ordering::Relaxed) {
            good(env, "dw-gc", &["--quiet"]);
        }
    });
    good(env, "dw-gc", &["--quiet"]);
}

/// Compares the log with the contents of the store.
fn check_events(env: &TestEnv, lines: &[String]) {
    let mut counts: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for line in lines {
        let word = |key: &str| {
            let found = line.split(' ').find_map(|word| word.strip_prefix(key));
            found.unwrap_or_default().to_owned()
        };
        assert!(line.contains("Z event="), "a whole line: {line:?}");
        let number = format!("{}{}", word("session="), word("chunk="));
        *counts.entry((word("event="), word("feed="), number)).or_default() += 1;
    }
    assert!(counts.values().all(|n| *n == 1), "each once: {counts:?}");
    let has = |event: &str, feed: &str, number: u64| {
        counts.contains_key(&(event.to_owned(), feed.to_owned(), number.to_string()))
    };
    for feed in ["a", "b"] {
        let list = |what: &str| -> Vec<Value> {
            let lines = good(env, "dw-ls", &[what, "--json", feed]);
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let chunks = list("--chunks");
        let first = chunks[0]["chunk"].as_u64().expect("a chunk");
        let last = chunks[chunks.len() - 1]["chunk"].as_u64().expect("a chunk");
        assert!(first > 5 && (1..=last).all(|id| has("chunk-sealed", feed, id)), "{feed}: {last}");
        assert!((1..first).all(|id| has("gc", feed, id)), "{feed}: {first}");
        let sessions = list("--sessions");
        let last = sessions[sessions.len() - 1]["session"].as_u64().expect("a session");
        for event in ["writer-opened", "writer-closed"] {
            assert!((1..=last).all(|id| has(event, feed, id)), "{feed}: {event}: {last}");
        }
    }
}

#[test]
fn concurrent_writers_and_gc_lose_no_log_line() {
    const LIMIT: u64 = 2000;
    let env = TestEnv::new();
    let over = AtomicBool::new(false);
    let began = Instant::now();
    // Two threads rotate the log as often as possible while others append to it.
    let fill = |name: &str| {
        let log = Log::with_limits(&env.base(), LIMIT, 100_000);
        let mut n = 0_u64;
        while began.elapsed() < Duration::from_secs(4) && !over.load(Ordering::Relaxed) {
            log.event("filler", &[("feed", &name), ("session", &n)]);
            n += 1;
            thread::sleep(Duration::from_micros(500));
        }
        n
    };
    let filled: u64 = thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| busy_store(&env, &over));
        until("a store", || env.base().join("manifest.json").exists().then_some(()));
        let other = scope.spawn(|| fill("x"));
        fill("y") + other.join().expect("a filler")
    });
    let lines = all_lines(&env);
    let fillers = lines.iter().filter(|line| line.contains("event=filler")).count();
    assert_eq!(fillers as u64, filled);
    let mut turned = 0;
    for name in fs::read_dir(env.base()).unwrap() {
        let path = name.unwrap().path();
        if path.to_string_lossy().contains("deepwater.log.") {
            turned += 1;
            let size = fs::metadata(&path).unwrap().len();
            assert!(size > LIMIT / 2, "{}: turned over at {size} bytes", path.display());
        }
    }
    assert!(turned > 50, "turned over {turned} times");
    check_events(&env, &lines);
}

#[test]
fn the_log_rotates_at_10_mb_and_keeps_five_backups() {
    let env = TestEnv::new();
    let over = AtomicBool::new(false);
    fs::create_dir(env.base()).unwrap();
    let line = "2026-01-01T00:00:00.000000Z event=old n=";
    for number in 1..=5 {
        fs::write(env.base().join(format!("deepwater.log.{number}")), format!("{line}{number}\n"))
            .unwrap();
    }
    // Reach the tools' own limit twice: for their first line, and again.
    let fill = |from: u64| {
        let mut text = String::new();
        (from..from + 210_000).for_each(|n| text.push_str(&format!("{line}{n:07}\n")));
        text.truncate(9_996_000 / (line.len() + 8) * (line.len() + 8));
        text
    };
    let first = fill(1_000_000);
    fs::write(env.base().join("deepwater.log"), &first).unwrap();
    thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| busy_store(&env, &over));
        until("the log to be turned over and grow", || {
            let log = fs::metadata(env.base().join("deepwater.log")).map_or(0, |meta| meta.len());
            (4_000..1_000_000).contains(&log).then_some(())
        });
    });
    let all = all_lines(&env);
    let (old, new): (Vec<_>, Vec<_>) = all.into_iter().partition(|line| line.contains("event=old"));
    assert_eq!(old.len(), 4 + first.lines().count(), "all but the oldest backup");
    assert!(old[0].ends_with("n=4"), "{}", old[0]);
    check_events(&env, &new);
    let size = fs::metadata(env.base().join("deepwater.log.1")).unwrap().len();
    assert!((9_900_000..=10_010_000).contains(&size), "{size}");
    assert!(!env.base().join("deepwater.log.6").exists());
}
