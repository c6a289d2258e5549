//! Processes killed at random moments, and stores left half made: nothing that was seen is lost,
//! nothing is invented, no seq is used twice, and the next one starts at once.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use deepwater::Platform;
use deepwater::registry::feed::FeedRegistry;
use serde_json::Value;

use crate::env::TestEnv;
use crate::random::{Random, mix};
use crate::small_disk::{SmallDisk, where_one_may_mount};

/// What each record holds: ts, n, and a hash of both.
const RECORD: usize = 24;
const FIELDS: [&str; 3] = ["ts:timestamp", "n:uint64", "h:uint64"];
/// No wait here takes a hundredth of it, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn tool(env: &TestEnv, name: &str, boot: &str) -> Command {
    let mut command = Command::new(cargo_bin(name));
    command.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
    command.env_remove("NO_COLOR");
    if !boot.is_empty() {
        command.env("DEEPWATER_BOOT_ID", boot);
    }
    command
}

/// Runs a tool to its end.
fn run(env: &TestEnv, boot: &str, args: &[&str]) -> Output {
    tool(env, args[0], boot).args(&args[1..]).stdin(Stdio::null()).output().expect("it starts")
}

/// What a tool prints that must succeed and say nothing else.
fn ok(env: &TestEnv, boot: &str, args: &[&str]) -> Vec<u8> {
    let output = run(env, boot, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{args:?}: {}\n{said}", output.status);
    output.stdout
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn make_feed(env: &TestEnv) {
    make_feed_on(env, "disk");
}

fn make_feed_on(env: &TestEnv, stage: &str) {
    let mut args = vec!["dw-mkfeed", "t", "--chunk-size", "64KiB", "--stage", stage];
    args.extend(FIELDS);
    ok(env, "", &args);
}

fn time_of(n: u64) -> u64 {
    // Late every now and then.
    1_700_000_000_000_000 + n * 10 - if n.is_multiple_of(17) { 500 } else { 0 }
}

fn put_row(out: &mut Vec<u8>, raw: bool, n: u64) {
    let (ts, h) = (time_of(n), mix(n ^ time_of(n)));
    if raw {
        for word in [ts, n, h] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    } else {
        writeln!(out, "{ts},{n},{h}").expect("a vector takes everything");
    }
}

/// The numbers of whole, sound records; anything else fails.
fn numbers(raw: &[u8]) -> Vec<u64> {
    assert_eq!(raw.len() % RECORD, 0, "whole records");
    let word = |record: &[u8], i: usize| {
        u64::from_le_bytes(record[i * 8..i * 8 + 8].try_into().expect("eight bytes"))
    };
    raw.chunks_exact(RECORD)
        .map(|record| {
            let n = word(record, 1);
            assert_eq!(word(record, 0), time_of(n), "the time of record {n}");
            assert_eq!(word(record, 2), mix(n ^ time_of(n)), "the hash of record {n}");
            n
        })
        .collect()
}

/// dw-write, fed as fast as it reads.
struct Victim {
    child: Child,
}

impl Victim {
    fn start(env: &TestEnv, boot: &str, raw: bool, more: &[&str]) -> (Victim, ChildStdin) {
        let format: &[&str] =
            if raw { &["--format", "raw"] } else { &["--format", "csv", "--columns", "ts,n,h"] };
        let mut child = tool(env, "dw-write", boot)
            .arg("t")
            .args(format)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("dw-write starts");
        let stdin = child.stdin.take().expect("a pipe");
        (Victim { child }, stdin)
    }

    fn kill(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("dw-write ended by itself: {status}");
        }
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Feeds rows from `n` on until the reading side is gone.
fn feed_rows(mut to: ChildStdin, raw: bool, mut n: u64, seed: u64) {
    let mut random = Random::new(seed);
    let mut rows = Vec::new();
    loop {
        rows.clear();
        for _ in 0..1 + random.below(3000) {
            put_row(&mut rows, raw, n);
            n += 1;
        }
        if to.write_all(&rows).is_err() {
            return;
        }
    }
}

/// Waits until `done`, which must come to be.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// Looks at the feed until told to stop; keeps the highest end it saw. Every now and then it reads
/// the newest records: they are whole.
fn watch(env: &TestEnv, seen: &AtomicU64, stop: &AtomicBool) {
    let platform = Platform::open(env.base()).expect("a store");
    let reader = platform.create_reader("t").expect("a feed");
    for look in 0u64.. {
        let snapshot = reader.snapshot().expect("a sound table at any moment");
        if look.is_multiple_of(16) {
            let mut scan = reader.last(200).expect("the last");
            let mut raw = Vec::new();
            while let Some(run) = scan.next_run().expect("a scan") {
                raw.extend_from_slice(run.records);
            }
            assert_eq!(scan.take_damage(), [], "while it is written");
            let got = numbers(&raw);
            assert!(got.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{got:?}");
            seen.fetch_max(got.last().map_or(0, |n| n + 1), Ordering::SeqCst);
        }
        seen.fetch_max(snapshot.end_seq, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// How many moments: 50, or `$DEEPWATER_KILLS`.
fn kills() -> u64 {
    std::env::var("DEEPWATER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[test]
fn dw_write_killed_at_random_moments_loses_nothing_that_was_seen() {
    let env = TestEnv::new();
    make_feed(&env);
    kill_at_moments(&env, kills(), || {});
}

#[test]
fn what_a_killed_writer_left_in_memory_is_adopted() {
    let env = TestEnv::new();
    make_feed_on(&env, "shm");
    kill_at_moments(&env, 30, || check_memory(&env, &["t.chunks", "t.live", "t.wait"]));
    check_memory(&env, &["t.wait"]);
}

/// Of the session that is, or was killed, nothing else is in shared memory; of an older one nothing
/// at all.
fn check_memory(env: &TestEnv, most: &[&str]) {
    let folder = fs::read_dir(env.shm()).expect("shared memory").next().expect("a folder");
    let found = names(&folder.expect("a folder").path());
    assert!(found.iter().all(|name| most.contains(&name.as_str())), "{found:?}");
}

/// Kills dw-write again and again while somebody reads, and looks that all is there each time.
fn kill_at_moments(env: &TestEnv, rounds: u64, check: impl Fn()) {
    let seed = 20_260_731;
    let mut random = Random::new(seed);
    let mut there = 0;
    for round in 0..rounds {
        let raw = round % 2 == 1;
        let sync = [&["--sync", "none"][..], &["--sync", "10ms"], &[]][round as usize % 3];
        let seen = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(env, &seen, &stop));
            let (mut victim, stdin) = Victim::start(env, "", raw, sync);
            let feeder = scope.spawn(move || feed_rows(stdin, raw, there, round));
            if round % 5 == 4 {
                // While it starts.
                thread::sleep(Duration::from_micros(random.below(8000)));
            } else {
                let goal = there + 1 + random.below(60_000);
                until("it starts and writes", || {
                    assert!(!watcher.is_finished(), "the watcher failed, round {round}");
                    seen.load(Ordering::SeqCst) >= goal
                });
            }
            victim.kill();
            feeder.join().expect("the feeder");
            stop.store(true, Ordering::SeqCst);
            watcher.join().expect("the watcher");
        });
        let seen = seen.load(Ordering::SeqCst);
        let from = if round % 10 == 9 { 0 } else { there };
        let got =
            numbers(&ok(env, "", &["dw-cat", "t", "-o", "raw", "--seq", &format!("{from}..")]));
        assert!(got.iter().copied().eq(from..from + got.len() as u64), "round {round}: a gap");
        let end = from + got.len() as u64;
        assert!(end >= seen, "round {round}: {end} of {seen} records that were seen");
        assert!(end >= there, "round {round}: {there} were there before");
        let sessions = lines(&ok(env, "", &["dw-ls", "t", "--sessions", "--json"]));
        if let Some(last) = sessions.last().filter(|_| end > there) {
            assert_eq!(last["reason"], "crashed", "round {round}");
            assert_eq!((number(last, "seq_lo"), number(last, "seq_hi")), (there, end));
        }
        check();
        there = end;
    }
    finish_and_check(env, there);
}

/// A last session that ends by itself; then the whole feed and its folder.
fn finish_and_check(env: &TestEnv, there: u64) {
    let (mut victim, mut stdin) = Victim::start(env, "", true, &[]);
    let mut rows = Vec::new();
    for n in there..there + 10 {
        put_row(&mut rows, true, n);
    }
    stdin.write_all(&rows).expect("it reads");
    drop(stdin);
    assert!(victim.child.wait().expect("it ends").success());
    let all = numbers(&ok(env, "", &["dw-cat", "t", "-o", "raw"]));
    assert!(all.iter().copied().eq(0..there + 10), "{} records", all.len());
    let seqs = ok(env, "", &["dw-cat", "t", "-o", "csv", "--with-seq", "--no-header"]);
    let same = |line: &str| line.split(',').next() == line.split(',').nth(2);
    assert!(String::from_utf8(seqs).expect("UTF-8").lines().all(same), "record n has seq n");
    let sessions = lines(&ok(env, "", &["dw-ls", "t", "--sessions", "--json"]));
    let (last, killed) = sessions.split_last().expect("sessions");
    assert_eq!(last["reason"], "ended");
    assert!(killed.iter().all(|s| s["reason"] == "crashed"), "{killed:?}");
    check_folder(env);
}

/// Every file belongs to a chunk; every chunk is sealed, and its records are all its data.
fn check_folder(env: &TestEnv) {
    let chunks = lines(&ok(env, "", &["dw-ls", "t", "--chunks", "--json"]));
    let folder = env.base().join("feeds/t");
    let mut want: BTreeSet<String> =
        ["feed.copy.json", "feed.json", "feed_registry.bin", "live"].map(String::from).into();
    let mut end = None;
    let mut last_id = 0;
    for chunk in &chunks {
        assert_eq!(chunk["place"], "on-disk", "{chunk}");
        assert!(chunk["ended"].is_string(), "{chunk}");
        let (id, records) = (number(chunk, "chunk"), number(chunk, "records"));
        assert!(id > last_id && records > 0, "{chunk}");
        assert_eq!(number(chunk, "seq_lo"), end.unwrap_or(number(chunk, "seq_lo")), "{chunk}");
        let data = folder.join(format!("{id:08}.data"));
        let bytes = fs::metadata(&data).expect("the chunk's data").len();
        assert_eq!(bytes, records * RECORD as u64, "{chunk}");
        want.extend([format!("{id:08}.data"), format!("{id:08}.idx")]);
        (end, last_id) = (Some(number(chunk, "seq_hi")), id);
    }
    assert_eq!(names(&folder), want);
}

fn names(folder: &Path) -> BTreeSet<String> {
    let listing = fs::read_dir(folder).expect("a folder");
    listing.map(|item| item.expect("an entry").file_name().into_string().expect("a name")).collect()
}

/// Seq and number of every record.
fn seqs_and_numbers(env: &TestEnv, boot: &str) -> Vec<(u64, u64)> {
    // Until a writer has closed the session that was cut off, where its records end is said.
    let read = |args: &[&str]| {
        let output = run(env, boot, args);
        let said = String::from_utf8_lossy(&output.stderr);
        let told = said.contains("records are proven below seq") && said.lines().count() == 1;
        let exact = output.status.success() && said.is_empty();
        assert!(told || exact, "{args:?}: {}\n{said}", output.status);
        output.stdout
    };
    numbers(&read(&["dw-cat", "t", "-o", "raw"]));
    let csv = read(&["dw-cat", "t", "-o", "csv", "--with-seq", "--fields", "n", "--no-header"]);
    let pair = |line: &str| {
        let (seq, n) = line.split_once(',').expect("two columns");
        (seq.parse().expect("a seq"), n.parse().expect("a number"))
    };
    String::from_utf8(csv).expect("UTF-8").lines().map(pair).collect()
}

#[test]
fn after_the_machine_stopped_the_acknowledged_is_there_and_no_seq_comes_twice() {
    let env = TestEnv::new();
    make_feed(&env);
    let mut random = Random::new(7);
    let mut old: Vec<(u64, u64)> = Vec::new();
    let mut highest = 0;
    for round in 0..5u64 {
        let (boot, next_boot) = (format!("boot {round}"), format!("boot {}", round + 1));
        let sync = *random.pick(&["5ms", "50ms", "batch"]);
        // Numbers say which session wrote them.
        let first_n = (round + 1) << 40;
        let raw = round % 2 == 0;
        let (mut victim, stdin) = Victim::start(&env, &boot, raw, &["--ack", "--sync", sync]);
        let feeder = thread::spawn(move || feed_rows(stdin, raw, first_n, round));
        let mut acks = BufReader::new(victim.child.stdout.take().expect("a pipe")).lines();
        let mut next_ack = || -> Option<u64> { Some(acks.next()?.ok()?.parse().expect("a seq")) };
        let mut acked = 0;
        for _ in 0..1 + random.below(12) {
            acked = next_ack().expect("an acknowledged seq");
        }
        let seen =
            ok(&env, &boot, &["dw-cat", "t", "-n1", "-o", "csv", "--with-seq", "--no-header"]);
        let seen = String::from_utf8(seen).expect("UTF-8");
        let seen: u64 = seen.split(',').next().expect("a seq").parse().expect("a seq");
        victim.kill();
        feeder.join().expect("the feeder");
        while let Some(seq) = next_ack() {
            acked = seq;
        }
        let highest_before = highest;
        highest = highest.max(seen + 1).max(acked);
        let now = seqs_and_numbers(&env, &next_boot);
        assert_eq!(&now[..old.len()], old, "round {round}: what was there stays");
        let new = &now[old.len()..];
        let base = new.first().expect("something was acknowledged").0;
        assert!(
            base >= highest_before,
            "round {round}: seq {base} again, {highest_before} was seen"
        );
        let expected =
            |(i, pair): (usize, &(u64, u64))| *pair == (base + i as u64, first_n + i as u64);
        assert!(new.iter().enumerate().all(expected), "round {round}: a prefix, nothing invented");
        let end = base + new.len() as u64;
        assert!(end >= acked, "round {round}: {acked} acknowledged, {end} there");
        highest = highest.max(end);
        let next = check_recovery(&env, &next_boot, end, highest);
        assert_eq!(seqs_and_numbers(&env, &next_boot), now, "round {round}: recovery agrees");
        highest = highest.max(next);
        old = now;
    }
    check_folder_of_holes(&env);
}

/// Opens and closes the feed as the next writer: the hole up to its first seq is on record.
fn check_recovery(env: &TestEnv, boot: &str, end: u64, highest: u64) -> u64 {
    assert!(run(env, boot, &["dw-write", "t"]).status.success());
    let objects = lines(&ok(env, boot, &["dw-ls", "t", "--sessions", "--json"]));
    let sessions: Vec<_> = objects.iter().filter(|o| o["session"].is_u64()).collect();
    let hole = objects.iter().rfind(|o| o["hole"].is_string()).expect("a hole");
    let next = number(sessions[sessions.len() - 1], "seq_lo");
    assert_eq!(sessions[sessions.len() - 2]["reason"], "power-loss");
    assert!(next >= highest, "the next seq {next} is beyond {highest}");
    assert_eq!((number(hole, "seq_lo"), number(hole, "seq_hi")), (end, next), "{hole}");
    next
}

fn check_folder_of_holes(env: &TestEnv) {
    let chunks = lines(&ok(env, "", &["dw-ls", "t", "--chunks", "--json"]));
    assert!(chunks.iter().all(|c| c["place"] == "on-disk"), "{chunks:?}");
    let files = names(&env.base().join("feeds/t"));
    assert_eq!(files.len(), chunks.len() * 2 + 4, "{files:?}");
}

/// Starts a tool and kills it after at most `micros`.
fn kill_within(env: &TestEnv, args: &[&str], micros: u64) {
    let mut child = tool(env, args[0], "")
        .args(&args[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    thread::sleep(Duration::from_micros(micros));
    let _ = child.kill();
    child.wait().expect("it ends");
}

const MAKE: [&str; 5] = ["dw-mkfeed", "t", "ts:timestamp", "n:uint64", "h:uint64"];
const DELETE: [&str; 4] = ["dw-mkfeed", "--delete", "t", "--yes"];

/// Writes ten records into `t`, and reads them and nothing else back.
fn works(env: &TestEnv) {
    let mut rows = Vec::new();
    (0..10).for_each(|n| put_row(&mut rows, true, n));
    let (mut victim, mut stdin) = Victim::start(env, "", true, &[]);
    stdin.write_all(&rows).expect("it reads");
    drop(stdin);
    assert!(victim.child.wait().expect("it ends").success());
    assert_eq!(ok(env, "", &["dw-cat", "t", "-o", "raw"]), rows);
}

fn is_there(env: &TestEnv) -> bool {
    match ok(env, "", &["dw-ls", "--names"]).as_slice() {
        b"" => false,
        b"t\n" => true,
        other => panic!("feeds: {}", String::from_utf8_lossy(other)),
    }
}

#[test]
fn dw_mkfeed_killed_while_it_makes_or_deletes_can_be_run_again() {
    let mut random = Random::new(99);
    let mut env = TestEnv::new();
    let (mut made, mut deleted) = (0, 0);
    for round in 0..40 {
        if round % 6 == 0 {
            // Where the store itself is made, too.
            env = TestEnv::new();
        }
        kill_within(&env, &MAKE, random.below(9000));
        made += u32::from(env.base().join("manifest.json").exists() && is_there(&env));
        ok(&env, "", &MAKE);
        works(&env);
        kill_within(&env, &DELETE, random.below(9000));
        if is_there(&env) {
            ok(&env, "", &DELETE);
        } else {
            deleted += 1;
            let again = run(&env, "", &DELETE);
            assert_eq!(again.status.code(), Some(2), "there is no such feed any more");
        }
        assert!(!is_there(&env));
        if round % 2 == 0 {
            // A new one of that name is empty, and takes records.
            ok(&env, "", &MAKE);
            works(&env);
            ok(&env, "", &DELETE);
        }
        // Whoever next changes the list of feeds removes what a killed one left.
        ok(&env, "", &MAKE);
        ok(&env, "", &DELETE);
        assert_eq!(names(&env.base().join("feeds")), BTreeSet::new(), "round {round}");
        let want = ["feeds", "locks", "manifest.json", "registry.bin"].map(String::from).into();
        let mut got = names(&env.base());
        got.remove("deepwater.log");
        assert_eq!(got, want, "round {round}");
    }
    assert!(made + deleted > 0 && made + deleted < 120, "{made} made, {deleted} deleted in time");
}

#[test]
fn a_store_that_was_not_made_to_its_end_is_made() {
    let env = TestEnv::new();
    ok(&env, "", &MAKE);
    ok(&env, "", &DELETE);
    fs::remove_file(env.base().join("manifest.json")).expect("a manifest");
    ok(&env, "", &MAKE);
    works(&env);
    // If it has feeds, it must not be created again: that is damage.
    fs::remove_file(env.base().join("manifest.json")).expect("a manifest");
    let output = run(&env, "", &MAKE);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("manifest.json"));
}

/// What deleting a feed does first.
fn mark_deleted(folder: &Path) {
    let path = folder.join("feed_registry.bin");
    let id = FeedRegistry::peek(&path).expect("a registry").id;
    FeedRegistry::open(&path, &id, true).expect("a registry").set_deleted();
}

#[test]
fn a_feed_whose_creation_or_deletion_was_interrupted_can_be_created_again() {
    let env = TestEnv::new();
    ok(&env, "", &MAKE);
    let folder = env.base().join("feeds/t");
    let copy = env.path("copy");
    let cp = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
        assert!(copied.success());
    };
    cp(&folder, &copy);
    ok(&env, "", &DELETE);

    // Made, not entered.
    cp(&copy, &folder);
    assert!(!is_there(&env));
    ok(&env, "", &MAKE);
    works(&env);
    fs::remove_dir_all(&copy).expect("a copy");
    cp(&folder, &copy);

    // With records and not entered: somebody's data.
    ok(&env, "", &DELETE);
    cp(&copy, &folder);
    let output = run(&env, "", &MAKE);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("feeds/t") && said.contains("records"), "{said}");
    assert!(folder.join("00000001.data").exists(), "it is kept");

    // Marked deleted, struck out, still under its name.
    mark_deleted(&folder);
    ok(&env, "", &MAKE);
    works(&env);

    // Marked as deleted but still listed: it cannot be written; it can be deleted or created again.
    for again in [&DELETE[..], &MAKE[..]] {
        mark_deleted(&folder);
        let output = run(&env, "", &["dw-write", "t"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("deleted"), "{said}");
        ok(&env, "", again);
        ok(&env, "", &MAKE);
        works(&env);
    }
}

#[test]
fn a_full_disk_stops_the_writer_and_loses_nothing() {
    let test = "kill::a_full_disk_stops_the_writer_and_loses_nothing";
    where_one_may_mount(test, fill_disks);
}

fn fill_disks() {
    for chunk_size in ["64KiB", "64MiB"] {
        let env = TestEnv::new();
        let disk = SmallDisk::mount(&env.base(), "size=5m").expect("a small disk");
        let mut make = vec!["dw-mkfeed", "t", "--chunk-size", chunk_size];
        make.extend(FIELDS);
        ok(&env, "", &make);
        let mut there = 0;
        for full in 0..2 {
            let input = env.path("rows");
            let mut rows = Vec::new();
            (there..there + 400_000).for_each(|n| put_row(&mut rows, true, n));
            fs::write(&input, rows).expect("room in /tmp");
            let path = input.to_str().expect("UTF-8");
            let output = run(&env, "", &["dw-write", "t", "--format", "raw", path]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{chunk_size}: {said}");
            assert!(said.contains("No space left"), "{said}");
            let got = numbers(&ok(&env, "", &["dw-cat", "t", "-o", "raw"]));
            assert!(got.iter().copied().eq(0..got.len() as u64), "{chunk_size}: a gap");
            assert!(full > 0 || got.len() > 10_000, "{chunk_size}: {} fitted", got.len());
            there = got.len() as u64;
            check_folder(&env);
        }
        disk.resize(64 << 20);
        let (mut victim, mut stdin) = Victim::start(&env, "", false, &[]);
        let mut rows = Vec::new();
        (there..there + 5000).for_each(|n| put_row(&mut rows, false, n));
        stdin.write_all(&rows).expect("it reads");
        drop(stdin);
        assert!(victim.child.wait().expect("it ends").success());
        let got = numbers(&ok(&env, "", &["dw-cat", "t", "-o", "raw"]));
        assert!(got.iter().copied().eq(0..there + 5000));
        check_folder(&env);
        drop(disk);
    }
}

#[test]
fn a_batch_that_finds_no_room_leaves_nothing_behind() {
    let test = "kill::a_batch_that_finds_no_room_leaves_nothing_behind";
    where_one_may_mount(test, append_without_room);
}

fn append_without_room() {
    let env = TestEnv::new();
    let base = env.base();
    let disk = SmallDisk::mount(&base, "size=1m").expect("a small disk");
    make_feed(&env);
    let rows = |numbers: std::ops::Range<u64>| {
        let mut rows = Vec::new();
        numbers.for_each(|n| put_row(&mut rows, true, n));
        rows
    };
    let platform = Platform::open(&base).expect("a store");
    // The first batch of a session, and one after others, each over many chunks.
    for there in [0, 100] {
        let mut writer = platform.create_writer("t").expect("a writer");
        if there > 0 {
            writer.append_batch(&rows(0..there)).expect("room");
        }
        let error = writer.append_batch(&rows(1 << 20..(1 << 20) + 80_000)).expect_err("no room");
        assert!(error.to_string().contains("No space left"), "{error}");
        let read = || numbers(&ok(&env, "", &["dw-cat", "t", "-o", "raw"]));
        assert!(read().into_iter().eq(0..there), "nothing of it is seen");
        let more = writer.append_batch(&rows(there..there + 7));
        let end = there + if more.is_ok() { 7 } else { 0 };
        assert!(read().into_iter().eq(0..end), "what follows is itself");
        drop(writer);
        assert!(read().into_iter().eq(0..end));
        check_folder(&env);
    }
    drop(disk);
}
