//! dw-health: a table of situations, each with its exit status and its cause in text and in JSON;
//! the metrics; and that a look disturbs nothing.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deepwater::Platform;
use deepwater::registry::feed::{
    Entry, FeedRegistry, Place, RANGE_LOST, RANGE_SKIPPED, RANGE_UNREACHABLE, RangeEntry,
};
use deepwater::registry::segments::SegmentKind;
use deepwater::schema::FeedSpec;
use serde_json::Value;

use super::env::TestEnv;
use super::kit::{Running, good, not_run, run, text, until};
use super::small_disk::{SmallDisk, where_one_may_mount};

/// One situation: how it comes about, what dw-health is asked, and what it must say.
struct Situation {
    what: &'static str,
    make: Make,
    /// As a shell would split them.
    args: &'static str,
    exit: i32,
    /// The check that tells, of which feed (`-`: the store), and part of its cause.
    check: &'static str,
    feed: &'static str,
    cause: &'static str,
}

/// Brings a situation about; what it returns lives until dw-health has looked.
type Make = fn(&TestEnv) -> Box<dyn Any>;

/// `what; how; arguments => exit status, check, feed, cause`
macro_rules! situations {
    ($($what:literal; $make:expr; $args:literal => $exit:literal, $check:literal, $feed:literal,
       $cause:literal;)*) => {
        vec![$(Situation {
            what: $what, make: |env| { let make: fn(&TestEnv) -> _ = $make; Box::new(make(env)) },
            args: $args, exit: $exit, check: $check, feed: $feed, cause: $cause,
        }),*]
    };
}

/// The store and its files.
fn store() -> Vec<Situation> {
    situations! {
        "no store"; |_| (); "" => 2, "", "", "not a Deepwater store (there is no such directory)";
        "a file"; |env| fs::write(env.base(), "x").unwrap(); "" => 2, "", "", "it is a file";
        "an empty store"; no_feeds; "" => 0, "registry", "-", "0 feeds";
        "an unknown feed"; one_feed; "nosuch" => 2, "", "", "nosuch: no such feed";
        "an age for an unknown feed"; one_feed; "--max-age nosuch=5m" => 2, "", "", "no such feed";
        "a manifest of a later version"; |env| {
            one_feed(env);
            edit(&env.base().join("manifest.json"), "\"format_version\":1", "\"format_version\":2");
        }; "" => 1, "version", "-", "format version 2, and this build knows version 1";
        "a damaged manifest"; |env| {
            one_feed(env);
            fs::write(env.base().join("manifest.json"), "{").unwrap();
        }; "" => 1, "manifest", "-", "damaged";
        "no manifest beside a registry"; |env| {
            one_feed(env);
            fs::remove_file(env.base().join("manifest.json")).unwrap();
        }; "" => 1, "manifest", "-", "it is missing, beside a registry.bin";
        "a damaged registry"; |env| {
            one_feed(env);
            flip(&env.base().join("registry.bin"), 40);
        }; "" => 1, "registry", "-", "the header's checksum; dw-repair --rebuild-registry";
        "no registry"; |env| {
            one_feed(env);
            fs::remove_file(env.base().join("registry.bin")).unwrap();
        }; "" => 1, "registry", "-", "it is missing; dw-repair --rebuild-registry";
        "room enough"; one_feed; "--min-free 0" => 0, "disk-space", "-", "free, 0B wanted";
        "low space"; one_feed; "--min-free 999TiB"
            => 1, "disk-space", "-", "under 999TiB; make room";
        "a leftover segment"; |env| {
            one_feed(env);
            let chunks = shm_folder(env).join("trades.chunks");
            fs::create_dir(&chunks).unwrap();
            fs::write(chunks.join("00000001.data"), [0; 1 << 20]).unwrap();
        }; "" => 1, "segments", "-", "trades.chunks, 1MiB of memory; dw-gc removes that";
        "segments of a feed that is gone"; |env| {
            one_feed(env);
            fs::write(shm_folder(env).join("gone.wait"), [0; 4096]).unwrap();
            fs::write(shm_folder(env).join("gone.ring"), [0; 4096]).unwrap();
        }; "" => 1, "segments", "-", " and 1 more, 8KiB of memory";
        "inodes enough"; one_feed; "" => 0, "inodes", "-", "free, 1000 wanted";
        "dw-gc runs"; |env| {
            mkfeed(env, "--retention 1d");
            env.quiet("dw-gc");
        }; "" => 0, "collected", "trades", "dw-gc ran 0";
        "dw-gc need not have run yet"; |env| mkfeed(env, "--max-size 1GiB"); ""
            => 0, "collected", "trades", "no dw-gc since it was made";
        "dw-gc never ran"; |env| made_two_days_ago(env, "--retention 1d"); ""
            => 1, "collected", "trades", "no dw-gc since it was made, 2d ago; the feed has a limit";
        "dw-gc refuses"; |env| {
            made_two_days_ago(env, "--retention 1d");
            let path = env.base().join("feeds/trades/feed_registry.bin");
            let jumped = micros_now() - 60_000_000;
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&jumped.to_le_bytes(), 568).unwrap();
        }; "" => 1, "collected", "trades", "does not trust the clock since 1m";
        "room in shared memory"; in_shm; "--min-free 1" => 0, "shm-space", "-", "free, 1B wanted";
    }
}

/// How long ago records came.
fn freshness() -> Vec<Situation> {
    situations! {
        "fresh"; one_feed; "--check-feeds" => 0, "fresh", "trades", "last record 0";
        "fresh, in seconds"; one_feed; "--max-age-seconds 60" => 0, "fresh", "trades", "1m allowed";
        "stale"; aged; "--max-age 200ms" => 1, "fresh", "trades", "over 0.2s; see what feeds its";
        "stale, an age of its own"; aged; "--max-age trades=200ms --max-age 1h"
            => 1, "fresh", "trades", "over 0.2s";
        "stale, but an age of its own"; aged; "--max-age 200ms --max-age trades=1h"
            => 0, "fresh", "trades", "1h allowed";
        "stale, but live: no"; |env| aged_with(env, "--live no"); "--max-age 200ms"
            => 0, "fresh", "trades", "live: no, so it may be any";
        "live: no, but named"; |env| aged_with(env, "--live no"); "--max-age trades=200ms"
            => 1, "fresh", "trades", "over 0.2s";
        "one stale among many"; |env| {
            aged(env);
            env.quiet("for n in 1 2 3; do dw-mkfeed f$n ts:timestamp
                echo 1 | dw-write f$n --columns ts; done");
        }; "--max-age 1h --max-age trades=200ms" => 1, "fresh", "trades", "over 0.2s";
        "never written, but new"; |env| mkfeed(env, ""); "--check-feeds"
            => 0, "fresh", "trades", "no record since it was made";
        "never written"; |env| { mkfeed(env, ""); wait_out(300); }; "--max-age 200ms"
            => 1, "fresh", "trades", "no record since it was made, 0.";
        "a session without records is no arrival"; |env| {
            aged(env);
            Running::start(env, &["trades", "--columns", "ts,n"])
        }; "--max-age 200ms" => 1, "fresh", "trades", "over 0.2s";
        "stale since before the boot"; |env| {
            one_feed(env);
            set_last_publish(env, -3600);
        }; "boot=b --max-age 5m" => 1, "fresh", "trades", "last record 1h";
        "fresh, and a boot between"; one_feed; "boot=b --max-age 5m"
            => 0, "fresh", "trades", "5m allowed";
        "the clock was set back"; |env| {
            one_feed(env);
            set_last_publish(env, 7200);
        }; "boot=b --max-age 5m" => 1, "fresh", "trades", "the clock was set back";
        "not asked for"; |env| { aged(env); }; "" => 0, "writer", "trades", "idle";
    }
}

/// Who writes, and who has.
fn writers() -> Vec<Situation> {
    situations! {
        "being written"; |env| writing(env); "--check-feeds"
            => 0, "writer", "trades", "being written by process";
        "never written"; |env| mkfeed(env, ""); "" => 0, "writer", "trades", "never written";
        "ended"; one_feed; "" => 0, "writer", "trades", "idle; the last writer ended";
        "ended by a signal"; |env| stopped(env, "TERM"); ""
            => 0, "writer", "trades", "the last writer was ended by a signal";
        "killed"; |env| stopped(env, "KILL"); ""
            => 1, "writer", "trades", "died without closing the feed; start dw-write again";
        "killed, and another writes"; |env| { stopped(env, "KILL"); write_on(env) }; ""
            => 0, "writer", "trades", "being written by process";
        "killed, and another has written"; |env| {
            stopped(env, "KILL");
            env.quiet("echo 9,9 | dw-write trades --columns ts,n");
        }; "" => 0, "writer", "trades", "idle; the last writer ended";
        "cut off by a power loss"; |env| stopped(env, "KILL"); "boot=b"
            => 1, "writer", "trades", "was cut off when the machine stopped";
        "records are behind the disk"; |env| {
            mkfeed(env, "--sync none");
            write_on(env)
        }; "" => 0, "backlog", "trades", "1 record not durable yet";
        "staged, and being written"; |env| {
            mkfeed(env, "--stage shm --sync none");
            write_on(env)
        }; "" => 0, "backlog", "trades", "1 record not durable yet";
        "staged, and killed"; |env| staged_and_killed(env); ""
            => 1, "writer", "trades", "died without closing the feed";
        "staged, and killed, and adopted"; |env| { staged_and_killed(env); write_on(env) }; ""
            => 0, "writer", "trades", "being written by process";
        "staged, and its memory removed"; |env| { staged_and_killed(env); remove_shm(env); }; ""
            => 1, "writer", "trades", "died, and its shared memory is gone";
        "staged, and its memory removed, and another writes"; |env| {
            staged_and_killed(env);
            remove_shm(env);
            write_on(env)
        }; "" => 1, "lost", "trades", "(out of reach, noted 0";
        "staged, and a power loss"; |env| { staged_and_killed(env); remove_shm(env); }; "boot=b"
            => 1, "writer", "trades", "was cut off when the machine stopped";
        "a ring"; |env| { mkfeed(env, "--ring=64KiB"); write_on(env) }; "--check-feeds"
            => 0, "ring", "trades", "0% of 64KiB in use, 0.0 s of history; 0 overruns";
        "a ring, and a follower that was lapped"; lapped; ""
            => 0, "ring", "trades", "1 overrun of followers";
        "a ring that is stale"; |env| aged_with(env, "--ring=64KiB"); "--max-age 200ms"
            => 1, "fresh", "trades", "over 0.2s";
        "a ring whose writer was killed"; |env| {
            mkfeed(env, "--ring=64KiB");
            let mut writer = write_on(env);
            writer.signal("KILL");
            writer.wait();
        }; "" => 1, "writer", "trades", "died without closing the feed";
        "a ring that was removed"; |env| {
            mkfeed(env, "--ring=64KiB");
            let writer = write_on(env);
            fs::remove_file(shm_folder(env).join("trades.ring")).unwrap();
            writer
        }; "" => 1, "ring", "trades", "its ring was deleted";
        "a ring, and a boot since"; |env| {
            mkfeed(env, "--ring=64KiB");
            env.quiet("echo 1,1 | dw-write trades --columns ts,n");
        }; "boot=b" => 0, "ring", "trades", "no ring since the machine started";
        "rejected rows"; |env| {
            mkfeed(env, "");
            env.sh("printf '1,1\nx,2\n3,x\n' | dw-write trades --columns ts,n");
        }; "" => 0, "rejects", "trades", "2 rows of the current or last writer rejected";
    }
}

/// The files of chunks.
fn chunks() -> Vec<Situation> {
    situations! {
        "a damaged block"; |env| { many_chunks(env); flip(&file(env, "00000001.data"), 100); }; ""
            => 0, "chunks", "trades", "5 chunks";
        "a missing chunk"; |env| { many_chunks(env); remove(env, "00000002.data"); }; ""
            => 1, "chunks", "trades", "00000002.data: No such file or directory (seq 4096..8192)";
        "a missing index"; |env| { many_chunks(env); remove(env, "00000003.idx"); }; ""
            => 1, "chunks", "trades", "00000003.idx: No such file";
        "a short chunk"; |env| { many_chunks(env); cut(env, "00000002.data", 65535); }; ""
            => 1, "chunks", "trades", "65535 bytes, and its records take 65536";
        "a short index"; |env| { many_chunks(env); cut(env, "00000002.idx", 4100); }; ""
            => 1, "chunks", "trades", "00000002.idx: 4100 bytes";
        "a folder in a chunk's place"; |env| {
            many_chunks(env);
            remove(env, "00000002.data");
            fs::create_dir(file(env, "00000002.data")).unwrap();
        }; "" => 1, "chunks", "trades", "00000002.data: not a file";
        "all chunks missing"; |env| {
            many_chunks(env);
            (1..=5).for_each(|n| remove(env, &format!("0000000{n}.data")));
        }; "" => 1, "chunks", "trades", "; and 2 more; dw-repair --dry-run trades";
        "a missing chunk of a live feed"; |env| {
            let writer = writing(env);
            remove(env, "00000001.data");
            writer
        }; "" => 1, "chunks", "trades", "00000001.data: No such file";
        "a collected chunk"; |env| {
            many_chunks(env);
            expire_first(env);
            remove(env, "00000001.data");
            remove(env, "00000001.idx");
        }; "" => 0, "chunks", "trades", "4 chunks";
        "a half-collected chunk"; |env| {
            many_chunks(env);
            expire_first(env);
            remove(env, "00000001.data");
        }; "" => 0, "chunks", "trades", "4 chunks";
    }
}

/// A feed's own files, and what they have on record.
fn files() -> Vec<Situation> {
    situations! {
        "a damaged feed.json"; |env| { one_feed(env); edit(&file(env, "feed.json"), "{", "["); }; ""
            => 1, "feed-spec", "trades", "feed.json: damaged";
        "no feed.json"; |env| { one_feed(env); remove(env, "feed.json"); }; ""
            => 1, "feed-spec", "trades", "it is missing; dw-repair --dry-run trades";
        "no folder"; |env| {
            one_feed(env);
            fs::remove_dir_all(env.base().join("feeds/trades")).unwrap();
        }; "" => 1, "feed-spec", "trades", "it is missing";
        "a damaged feed registry"; |env| { one_feed(env); flip(&registry(env), 4096 + 20); }; ""
            => 1, "feed-registry", "trades", "the checksum of entry 0; dw-repair --dry-run trades";
        "a feed registry of a later version"; |env| { one_feed(env); flip(&registry(env), 8); }; ""
            => 1, "feed-registry", "trades", "and this build knows version 1";
        "a link in a file's place"; |env| {
            one_feed(env);
            fs::rename(registry(env), env.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(env.path("elsewhere"), registry(env)).unwrap();
        }; "" => 1, "feed-registry", "trades", "a symbolic link";
        "no live page"; |env| { one_feed(env); remove(env, "live"); }; ""
            => 1, "live-page", "trades", "No such file or directory";
        "a damaged live page"; |env| { one_feed(env); flip(&file(env, "live"), 20); }; ""
            => 1, "live-page", "trades", "the header's checksum";
        "half deleted"; |env| { one_feed(env); open_registry(env).set_deleted(); }; ""
            => 1, "feed-registry", "trades", "dw-mkfeed --delete trades ends that";
        "lost records"; |env| { one_feed(env); lose(env, RANGE_LOST, 60); }; ""
            => 1, "lost", "trades", "up to 7 records lost, last seq 10..17 (lost, noted 1m";
        "records out of reach"; |env| { one_feed(env); lose(env, RANGE_UNREACHABLE, 60); }; ""
            => 1, "lost", "trades", "(out of reach, noted 1m";
        "records lost long ago"; |env| { one_feed(env); lose(env, RANGE_LOST, 90_000); }; ""
            => 0, "lost", "trades", "7 records lost, last seq 10..17 (lost, noted 1d1h ago)";
        "seqs that were skipped"; |env| { one_feed(env); lose(env, RANGE_SKIPPED, 60); }; ""
            => 0, "lost", "trades", "none";
        "one of two feeds damaged"; |env| {
            one_feed(env);
            env.quiet("dw-mkfeed other ts:timestamp");
            flip(&registry(env), 8);
        }; "other" => 0, "writer", "other", "never written";
    }
}

#[test]
fn every_situation_of_the_store_is_told() {
    store().iter().for_each(check);
}

#[test]
fn every_age_is_told() {
    freshness().iter().for_each(check);
}

#[test]
fn every_fate_of_a_writer_is_told() {
    writers().iter().for_each(check);
}

#[test]
fn every_fault_in_files_is_told() {
    chunks().iter().chain(&files()).for_each(check);
}

/// Runs dw-health on a situation, in text, quietly and as JSON.
fn check(situation: &Situation) {
    let env = TestEnv::new();
    let _held = (situation.make)(&env);
    let what = situation.what;
    let wrong = situation.exit == 1;
    let output = look(&env, situation, &[]);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    if situation.exit == 2 {
        assert!(said.is_empty() && told.contains(situation.cause), "{what}: {said}\n{told}");
        return;
    }
    assert!(told.is_empty(), "{what}: {told}");
    let line = said.lines().find(|line| {
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        words[1..] == [situation.check, situation.feed]
    });
    let line = line.unwrap_or_else(|| panic!("{what}: no such check in\n{said}"));
    let state = if wrong { "UNHEALTHY" } else { "ok" };
    assert!(line.starts_with(state) && line.contains(situation.cause), "{what}: {line}");
    let unhealthy = said.lines().filter(|line| !line.starts_with("ok")).count();
    assert_eq!(unhealthy, 1 + usize::from(wrong), "{what}: the titles, and what is wrong\n{said}");
    let quiet = text(&look(&env, situation, &["-q"]).stdout);
    assert_eq!(quiet.lines().count(), if wrong { 2 } else { 0 }, "{what}: {quiet}");
    let json = text(&look(&env, situation, &["--json"]).stdout);
    let found =
        json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|object| {
            let feed = object["feed"].as_str().unwrap_or("-");
            (object["check"].as_str(), feed) == (Some(situation.check), situation.feed)
        });
    let found = found.unwrap_or_else(|| panic!("{what}: no such check in\n{json}"));
    assert_eq!(found["ok"], Value::Bool(!wrong), "{what}: {found}");
    assert!(found["cause"].as_str().unwrap().contains(situation.cause), "{what}: {found}");
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["check", "feed", "ok", "cause", "value"], "{what}");
}

fn look(env: &TestEnv, situation: &Situation, more: &[&str]) -> std::process::Output {
    let mut command = env.cmd("dw-health");
    // A machine that is short of room fails the one test that asks for it, and no other.
    if !situation.args.contains("--min-free") {
        command.args(["--min-free", "1"]);
    }
    for word in situation.args.split_whitespace() {
        match word.strip_prefix("boot=") {
            Some(boot) => command.env("DEEPWATER_BOOT_ID", boot),
            None => command.arg(word),
        };
    }
    let output = command.args(more).output().expect("dw-health starts");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(situation.exit), "{}:\n{said}", situation.what);
    output
}

fn no_feeds(env: &TestEnv) {
    Platform::create(env.base()).unwrap();
}

fn mkfeed(env: &TestEnv, policy: &str) {
    env.quiet(&format!("dw-mkfeed trades ts:timestamp n:uint64 {policy}"));
}

fn one_feed(env: &TestEnv) {
    mkfeed(env, "");
    env.quiet("printf '1,1\n2,2\n' | dw-write trades --columns ts,n");
}

fn micros_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// An empty feed that says it was made two days ago.
fn made_two_days_ago(env: &TestEnv, policy: &str) {
    mkfeed(env, policy);
    let path = env.base().join("feeds/trades/feed.json");
    let text = fs::read_to_string(&path).unwrap();
    let rest = text.split("\"created_us\":").nth(1).unwrap().trim_start();
    let created: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let ago = created.parse::<u64>().unwrap() - 2 * 86_400 * 1_000_000;
    fs::write(&path, text.replace(&created, &ago.to_string())).unwrap();
}

/// A feed whose last record came at least 300 ms ago.
fn aged_with(env: &TestEnv, policy: &str) {
    mkfeed(env, policy);
    env.quiet("echo 1,1 | dw-write trades --columns ts,n");
    wait_out(300);
}

fn aged(env: &TestEnv) {
    aged_with(env, "");
}

fn wait_out(ms: u64) {
    let began = Instant::now();
    until("time to pass", || (began.elapsed() > Duration::from_millis(ms)).then_some(()));
}

/// Five chunks: four of 4096 records, and one of the rest.
fn many_chunks(env: &TestEnv) {
    mkfeed(env, "--chunk-size 64KiB");
    env.quiet("seq 18000 | sed 's/.*/&,&/' | dw-write trades --columns ts,n");
}

/// A writer of the feed, and a record that it has published.
fn write_on(env: &TestEnv) -> Running {
    // The feed may be one of which something is lost, which dw-ls has to say.
    let records = || text(&run(env, "dw-ls", &["trades", "--json"], b"").stdout);
    let count = |json: &str| serde_json::from_str::<Value>(json).unwrap()["records"].as_u64();
    let before = count(&records());
    let mut writer = Running::start(env, &["trades", "--columns", "ts,n"]);
    writer.send("5,5\n");
    until("the record", || (count(&records()) > before).then_some(()));
    writer
}

fn writing(env: &TestEnv) -> Running {
    mkfeed(env, "");
    write_on(env)
}

/// A feed whose writer got a signal while it waited for rows.
fn stopped(env: &TestEnv, signal: &str) {
    let mut writer = writing(env);
    writer.signal(signal);
    writer.wait();
}

fn file(env: &TestEnv, name: &str) -> PathBuf {
    env.base().join("feeds/trades").join(name)
}

fn registry(env: &TestEnv) -> PathBuf {
    file(env, "feed_registry.bin")
}

fn remove(env: &TestEnv, name: &str) {
    fs::remove_file(file(env, name)).unwrap();
}

fn cut(env: &TestEnv, name: &str, bytes: u64) {
    fs::File::options().write(true).open(file(env, name)).unwrap().set_len(bytes).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn edit(path: &Path, from: &str, to: &str) {
    let old = fs::read_to_string(path).unwrap();
    assert!(old.contains(from), "{old}");
    fs::write(path, old.replacen(from, to, 1)).unwrap();
}

/// Moves the wall clock's word for the last publish, as FORMAT.md has it in the live page.
fn set_last_publish(env: &TestEnv, seconds_from_now: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
    let us = (now + seconds_from_now * 1_000_000) as u64;
    let page = fs::File::options().write(true).open(file(env, "live")).unwrap();
    page.write_all_at(&us.to_le_bytes(), 448).unwrap();
}

fn open_registry(env: &TestEnv) -> FeedRegistry {
    let feed = Platform::open(env.base()).unwrap().feed_info("trades").unwrap();
    FeedRegistry::open(&feed.registry_path(), &feed.id, true).unwrap()
}

fn staged_and_killed(env: &TestEnv) {
    mkfeed(env, "--stage shm");
    let mut writer = write_on(env);
    writer.signal("KILL");
    writer.wait();
}

/// A ring, its writer, and a follower that was stopped until the ring had gone round.
fn lapped(env: &TestEnv) -> (Running, Running) {
    mkfeed(env, "--ring=64KiB");
    let mut writer = write_on(env);
    let follower = Running::tool(env, "dw-cat", &["trades", "-f", "--seq", "0.."]);
    until("the first record", || follower.out().contains("\"n\":5").then_some(()));
    follower.signal("STOP");
    writer.send(&"6,6\n".repeat(10_000));
    until("the records", || good(env, "dw-ls", &["--json"]).contains("10001").then_some(()));
    follower.signal("CONT");
    until("the overrun", || {
        let said = env.cmd("dw-health").args(["trades"]).output().unwrap();
        text(&said.stdout).contains("1 overrun").then_some(())
    });
    (writer, follower)
}

/// Where the store has its shared memory.
fn shm_folder(env: &TestEnv) -> PathBuf {
    let mut folders = fs::read_dir(env.shm()).unwrap().flatten();
    folders.next().expect("a folder of segments").path()
}

fn remove_shm(env: &TestEnv) {
    fs::remove_dir_all(shm_folder(env)).unwrap();
}

/// Notes that the feed's records are in shared memory.
fn in_shm(env: &TestEnv) {
    one_feed(env);
    let registry = open_registry(env);
    let mut segments = registry.segments().expect("the writer noted its wait file");
    (segments.session_id, segments.kind) = (segments.session_id + 1, SegmentKind::Ring);
    registry.set_segments(&segments).unwrap();
}

fn lose(env: &TestEnv, reason: u32, seconds_ago: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let recorded_us = now - seconds_ago * 1_000_000;
    let range = RangeEntry { seqs: (10, 17), session_id: 1, recorded_us, reason, times: None };
    open_registry(env).append_range(&range).unwrap();
}

fn expire_first(env: &TestEnv) {
    let registry = open_registry(env);
    let first = registry.entries().unwrap().into_iter().find_map(|entry| match entry {
        Entry::Chunk(chunk) => Some(chunk.position),
        _ => None,
    });
    registry.set_place(first.unwrap(), Place::OnDisk, Place::Expired).unwrap();
}

/// Enough that several threads look.
#[test]
fn many_feeds_are_told_in_order_and_once() {
    let env = TestEnv::new();
    let platform = Platform::create(env.base()).unwrap();
    for n in (0..250).rev() {
        let json = format!(
            r#"{{"feed_name":"f{n:03}","ts_col":"ts","fields":[{{"name":"ts","type":"uint64"}}]}}"#
        );
        platform.create_feed(&FeedSpec::from_json(&json).unwrap(), false).unwrap();
    }
    fs::remove_file(env.base().join("feeds/f123/live")).unwrap();
    let output = env.cmd("dw-health").args(["--json", "--min-free", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    let objects: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |check: &str| -> Vec<&str> {
        let found = objects.iter().filter(|object| object["check"] == check);
        found.map(|object| object["feed"].as_str().unwrap()).collect()
    };
    let wanted: Vec<String> = (0..250).map(|n| format!("f{n:03}")).collect();
    assert_eq!(of("live-page"), wanted);
    assert_eq!(of("rejects"), wanted);
    let wrong: Vec<&Value> = objects.iter().filter(|object| object["ok"] == false).collect();
    assert!(wrong.len() == 1 && wrong[0]["feed"] == "f123", "{wrong:?}");
}

#[test]
fn who_may_not_look_cannot_tell() {
    let env = TestEnv::new();
    one_feed(&env);
    env.quiet("dw-mkfeed other ts:timestamp");
    let closed = fs::Permissions::from_mode(0o000);
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for folder in [env.path("."), env.base(), env.base().join("feeds")] {
        open(&folder, 0o755);
    }
    for name in ["manifest.json", "registry.bin"] {
        open(&env.base().join(name), 0o644);
    }
    fs::set_permissions(env.base().join("feeds/trades"), closed.clone()).unwrap();
    fs::set_permissions(env.base().join("feeds/other"), closed).unwrap();
    let id = Command::new("id").arg("-u").output().unwrap();
    let program = assert_cmd::cargo::cargo_bin("dw-health");
    let mut command = if text(&id.stdout).trim() == "0" {
        // A copy, since root's own folders may be closed to others.
        fs::copy(&program, env.path("health")).unwrap();
        open(&env.path("health"), 0o755);
        let mut command = env.program("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(env.path("health"));
        command
    } else {
        env.program(program)
    };
    let output = command.args(["--json", "--min-free", "1"]).output().expect("setpriv starts");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}{}", text(&output.stderr));
    let unknown: Vec<&str> = said.lines().filter(|line| line.contains("\"ok\":null")).collect();
    assert_eq!(unknown.len(), 2, "{said}");
    assert!(unknown[0].contains("Permission denied; look as a user who may read the store"));
    for name in ["trades", "other"] {
        open(&env.base().join("feeds").join(name), 0o755);
    }
}

/// Path to what a look must leave alone.
fn tree(folder: &Path, found: &mut BTreeMap<PathBuf, (u64, [i64; 4], Vec<u8>)>) {
    for item in fs::read_dir(folder).unwrap().flatten() {
        let path = item.path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        found.insert(path.clone(), (meta.ino(), times, bytes));
        if meta.is_dir() {
            tree(&path, found);
        }
    }
}

#[test]
fn a_look_disturbs_nothing() {
    let env = TestEnv::new();
    many_chunks(&env);
    let _writer = write_on(&env);
    let backlog = || good(&env, "dw-health", &["-b", "store", "--json", "--min-free", "1"]);
    until("the record to be durable", || backlog().contains("0 records not durable").then_some(()));
    let all = || {
        let mut found = BTreeMap::new();
        tree(&env.base(), &mut found);
        tree(env.shm(), &mut found);
        found
    };
    // A writer's last page may still be on its way when its record is durable.
    let before = until("a quiet store", || Some(all()).filter(|before| *before == all()));
    good(&env, "dw-health", &["--check-feeds", "--min-free", "1"]);
    good(&env, "dw-health", &["--check-feeds", "--min-free", "1", "--prometheus"]);
    assert!(before == all(), "a file was changed");
    let traced = env
        .program("strace")
        .args(["-f", "-e", "trace=open,openat,openat2,flock,fcntl,unlink,rename,ftruncate", "-o"])
        .arg(env.path("calls"))
        .arg(assert_cmd::cargo::cargo_bin("dw-health"))
        .args(["--check-feeds", "--min-free", "1"])
        .output();
    if !traced.is_ok_and(|output| output.status.success()) {
        not_run("a_look_disturbs_nothing: its system calls (no strace here)");
        return;
    }
    let calls = fs::read_to_string(env.path("calls")).unwrap();
    assert!(calls.contains("feed_registry.bin") && calls.contains("OFD_GETLK"), "{calls}");
    let stdout = |line: &&str| line.contains("fcntl(1, F_GETFL)");
    let calls: String = calls.lines().filter(|line| !stdout(line)).collect();
    for call in ["O_RDWR", "O_WRONLY", "O_CREAT", "SETLK", "flock(", "unlink(", "rename("] {
        assert!(!calls.contains(call), "{call} in\n{calls}");
    }
}

/// A reader of the format that takes nothing it does not know.
const EXPOSITION: &str = include_str!("exposition.py");

/// What the reader makes of it; and promtool, where there is one, finds nothing to complain of.
fn metrics(env: &TestEnv, base: &Path, args: &[&str], exit: i32) -> Vec<Value> {
    let mut command = env.cmd("dw-health");
    command.arg("--prometheus").args(["--min-free", "1"]).args(args).arg("-b").arg(base);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(exit), "{}", text(&output.stderr));
    let mut python = env.program("python3");
    let read = python.args(["-c", EXPOSITION]).write_stdin(output.stdout.clone()).output().unwrap();
    assert!(read.status.success(), "{}\n{}", text(&read.stderr), text(&output.stdout));
    let there = Command::new("promtool").arg("--version").stdout(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        let mut promtool = env.program("promtool");
        let said = promtool.args(["check", "metrics"]).write_stdin(output.stdout).output().unwrap();
        let told = text(&said.stdout) + &text(&said.stderr);
        assert!(said.status.success() && told.is_empty(), "{told}");
    } else {
        not_run("metrics through promtool (it is not here; Debian has it in prometheus)");
    }
    text(&read.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn metrics_are_what_a_collector_reads() {
    let env = TestEnv::new();
    let base = env.path("od\"d \\ sto\nre");
    let made = env.cmd("dw-mkfeed").args(["trades", "ts:timestamp", "-b"]).arg(&base).output();
    assert!(made.unwrap().status.success());
    let made = env.cmd("dw-mkfeed").args(["quotes", "ts:timestamp", "-b"]).arg(&base).output();
    assert!(made.unwrap().status.success());
    let mut writer = env.cmd("dw-write");
    writer.args(["trades", "--columns", "ts", "-b"]).arg(&base).write_stdin("1\n2\nx\n");
    assert_eq!(writer.output().unwrap().status.code(), Some(1), "a row is rejected");
    let value = |samples: &[Value], name: &str, feed: Option<&str>, check: Option<&str>| -> f64 {
        let found: Vec<&Value> = samples
            .iter()
            .filter(|s| {
                s["name"] == name && s["feed"].as_str() == feed && s["check"].as_str() == check
            })
            .collect();
        assert_eq!(found.len(), 1, "{name} {feed:?} {check:?}: {samples:?}");
        assert_eq!(found[0]["base"].as_str(), base.to_str());
        found[0]["value"].as_f64().unwrap()
    };
    let samples = metrics(&env, &base, &["--max-age", "1h"], 0);
    let trades = Some("trades");
    assert_eq!(value(&samples, "deepwater_health_status", None, None), 0.0);
    assert_eq!(value(&samples, "deepwater_feeds", None, None), 2.0);
    assert_eq!(value(&samples, "deepwater_check_ok", None, Some("manifest")), 1.0);
    assert_eq!(value(&samples, "deepwater_check_ok", trades, Some("fresh")), 1.0);
    assert_eq!(value(&samples, "deepwater_feed_records_total", trades, None), 2.0);
    assert_eq!(value(&samples, "deepwater_feed_rejected_rows_total", trades, None), 1.0);
    assert_eq!(value(&samples, "deepwater_feed_writing", trades, None), 0.0);
    let age = value(&samples, "deepwater_feed_age_seconds", trades, None);
    assert!((0.0..60.0).contains(&age), "{age}");
    assert!(value(&samples, "deepwater_disk_free_bytes", None, None) > 0.0);
    fs::remove_file(base.join("feeds/trades/00000001.data")).unwrap();
    let samples = metrics(&env, &base, &[], 1);
    assert_eq!(value(&samples, "deepwater_health_status", None, None), 1.0);
    assert_eq!(value(&samples, "deepwater_check_ok", trades, Some("chunks")), 0.0);
    assert_eq!(value(&samples, "deepwater_check_ok", Some("quotes"), Some("chunks")), 1.0);
    assert_eq!(value(&samples, "deepwater_feed_broken_chunks", trades, None), 1.0);
    let aged = samples.iter().any(|sample| sample["name"] == "deepwater_feed_age_seconds");
    assert!(!aged, "freshness was not asked for");
    fs::remove_dir_all(&base).unwrap();
    let samples = metrics(&env, &base, &[], 2);
    assert_eq!(samples.len(), 1, "that nothing could be told is told");
    assert_eq!(value(&samples, "deepwater_health_status", None, None), 2.0);
}

#[test]
fn a_file_system_without_inodes_is_no_place_to_write() {
    let test = "health::a_file_system_without_inodes_is_no_place_to_write";
    where_one_may_mount(test, || {
        let env = TestEnv::new();
        let _disk = SmallDisk::mount(&env.base(), "size=64m,nr_inodes=200").expect("a small disk");
        one_feed(&env);
        let output = run(&env, "dw-health", &["--min-free", "1MiB"], b"");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("STATE") && said.contains("under 1000: soon no file"), "{said}");
        let output = run(&env, "dw-health", &["--prometheus"], b"");
        assert!(text(&output.stdout).contains("\ndeepwater_disk_free_inodes{"));
    });
}
