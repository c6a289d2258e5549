//! dw-gc: what goes, when, and why; that what it says it would do is what it does; and that nobody
//! who reads or writes meanwhile loses anything else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use deepwater::Platform;
use deepwater::gc::Wants;
use deepwater::reader::{Event, Lost, Selection, Why};
use deepwater::registry::feed::{FeedRegistry, Moment, Place};
use serde_json::Value;

use super::env::TestEnv;
use super::kit::{Running, good, objects, run, text, until};
use super::small_disk::{SmallDisk, where_one_may_mount};

/// Records of 16 bytes that fill a chunk of the least size.
const PER_CHUNK: u64 = 4096;
/// What such a chunk takes on disk: records, index header, 1 block.
const CHUNK_BYTES: u64 = 65536 + 4096 + 32;

/// A store with `t`, whose policy is `policy`.
fn store(policy: &str) -> TestEnv {
    let env = TestEnv::new();
    make(&env, "t", policy);
    env
}

fn make(env: &TestEnv, feed: &str, policy: &str) {
    env.quiet(&format!("dw-mkfeed {feed} ts:timestamp n:uint64 --chunk-size 64KiB {policy}"));
}

/// A session of so many full chunks.
fn write_chunks(env: &TestEnv, feed: &str, chunks: u64) {
    let rows = chunks * PER_CHUNK;
    env.quiet(&format!("seq {rows} | sed 's/$/,7/' | dw-write {feed} --columns ts,n"));
}

/// Runs dw-gc; its exit status, the chunks it names, what it said.
fn gc(env: &TestEnv, args: &[&str]) -> (i32, Vec<(String, u64)>, String) {
    let output = run(env, "dw-gc", &[args, &["--json"]].concat(), b"");
    let lines = text(&output.stdout);
    let chunks = lines.lines().map(|line| {
        let object: Value = serde_json::from_str(line).expect("JSON");
        (object["feed"].as_str().expect("a feed").to_owned(), object["chunk"].as_u64().unwrap_or(0))
    });
    (output.status.code().expect("an end"), chunks.collect(), text(&output.stderr))
}

/// Collects until `chunks` of `feed` have gone: they must grow old first.
fn until_collected(env: &TestEnv, feed: &str, chunks: &[u64]) {
    let mut gone = Vec::new();
    until(&format!("chunks {chunks:?} of {feed} to go"), || {
        let (code, done, said) = gc(env, &[feed]);
        assert_eq!((code, said.as_str()), (0, ""));
        gone.extend(done.into_iter().map(|(_, chunk)| chunk));
        (gone.len() >= chunks.len()).then_some(())
    });
    assert_eq!(gone, chunks, "oldest first, each once");
}

/// Every file of the store: its bytes' checksum, its size and times.
fn tree(env: &TestEnv) -> String {
    env.quiet(
        "cd store && find . -type f -print0 | sort -z | xargs -0 sha256sum &&
         find . -printf '%p %s %T@ %C@ %i %m\\n' | sort",
    )
}

fn names(env: &TestEnv, folder: &str) -> BTreeSet<String> {
    let listing = fs::read_dir(env.base().join(folder)).expect("a folder");
    listing.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn age_counts_from_arrival() {
    let env = store("--retention 1h");
    // Backfilled: a record of 1970.
    env.quiet("echo 1,1 | dw-write t --columns ts,n");
    assert_eq!(gc(&env, &[]), (0, vec![], String::new()));
    assert_eq!(good(&env, "dw-cat", &["t"]).lines().count(), 1);
    // Of 2100: it is as old as it is here.
    make(&env, "future", "--retention 1s");
    env.quiet("echo 2100-01-01T00:00:00Z,1 | dw-write future --columns ts,n");
    env.quiet("echo 1,2 | dw-write future --columns ts,n");
    until_collected(&env, "future", &[1, 2]);
    assert_eq!(good(&env, "dw-cat", &["future"]), "");
    let feeds = objects(&env, "dw-ls", &["--json"]);
    assert_eq!(
        (feeds[0]["feed"].as_str(), feeds[0]["records"].as_u64()),
        (Some("future"), Some(0))
    );
    assert_eq!(feeds[0]["bytes"], 0);
    // Numbers go on where they were.
    env.quiet("echo 1,3 | dw-write future --columns ts,n");
    assert_eq!(good(&env, "dw-cat", &["future", "--with-seq"]), "{\"_seq\":2,\"ts\":1,\"n\":3}\n");
    let chunks = objects(&env, "dw-ls", &["--chunks", "--json", "future"]);
    assert_eq!((chunks.len(), chunks[0]["chunk"].as_u64()), (1, Some(3)));
}

#[test]
fn a_size_limit_counts_the_live_chunk_and_keeps_it() {
    let env = store(&format!("--max-size {}", 4 * CHUNK_BYTES));
    write_chunks(&env, "t", 6);
    assert_eq!(gc(&env, &[]).1, [("t".to_owned(), 1), ("t".to_owned(), 2)]);
    let bytes = |env: &TestEnv| objects(env, "dw-ls", &["--json"])[0]["bytes"].as_u64().unwrap();
    assert_eq!(bytes(&env), 4 * CHUNK_BYTES);
    let mut writer = Running::start(&env, &["t", "--columns", "ts,n"]);
    writer.send("9,9\n");
    until("the row", || (good(&env, "dw-cat", &["t", "-n", "1"]).contains(":9}")).then_some(()));
    assert_eq!(gc(&env, &[]).1, [("t".to_owned(), 3)], "while it is being written");
    assert!(bytes(&env) <= 4 * CHUNK_BYTES);
    env.quiet("dw-mkfeed t ts:timestamp n:uint64 --chunk-size 64KiB --max-size 1KiB --update");
    assert_eq!(gc(&env, &[]).1.len(), 3);
    let left = good(&env, "dw-cat", &["t", "-o", "csv", "--no-header"]);
    assert_eq!(left, "9,9\n", "what is being written stays");
    writer.send("10,10\n");
    writer.finish();
    assert_eq!(gc(&env, &[]).1, [("t".to_owned(), 7)]);
}

#[test]
fn what_is_kept_forever_makes_no_room() {
    let env = store("--retention 30d");
    make(&env, "forever", "--max-size 1GiB");
    make(&env, "other", "--retention 30d");
    for feed in ["t", "forever", "other"] {
        write_chunks(&env, feed, 2);
    }
    let before = tree(&env);
    let (code, chunks, said) = gc(&env, &["--dry-run", "--min-free", "1B"]);
    assert_eq!((code, chunks.len(), said.as_str()), (0, 0, ""), "there is room");
    let (code, planned, said) = gc(&env, &["--dry-run", "--min-free", "1000000TiB", "t"]);
    assert_eq!((code, planned.len()), (1, 2), "only what is named: {said}");
    assert_eq!(tree(&env), before);
    let (code, chunks, said) = gc(&env, &["--min-free", "1000000TiB"]);
    assert_eq!(chunks.len(), 4, "{chunks:?}");
    assert!(chunks.iter().all(|(feed, _)| feed != "forever"));
    assert_eq!(code, 1);
    assert!(said.contains("cannot be freed") && said.contains("kept forever"), "{said}");
    assert_eq!(objects(&env, "dw-ls", &["--json", "forever"])[0]["records"], 2 * PER_CHUNK);
}

#[test]
fn room_is_made_of_the_oldest_first_whatever_feed_it_is_of() {
    let test = "gc::room_is_made_of_the_oldest_first_whatever_feed_it_is_of";
    where_one_may_mount(test, make_room);
}

fn make_room() {
    let env = TestEnv::new();
    let _disk = SmallDisk::mount(&env.base(), "size=4m").expect("a small disk");
    for feed in ["a", "b"] {
        make(&env, feed, "--retention 30d");
    }
    for feed in ["b", "a", "b"] {
        write_chunks(&env, feed, 4);
    }
    let free = || {
        let text = env.quiet("df --output=avail -B1 store | tail -1");
        text.trim().parse::<u64>().expect("bytes")
    };
    // What two chunks and a half take, more than there is.
    let wanted = free() + CHUNK_BYTES * 5 / 2;
    let (code, chunks, said) = gc(&env, &["--min-free", &wanted.to_string()]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(chunks, [1, 2, 3].map(|chunk| ("b".to_owned(), chunk)));
    assert!(free() >= wanted);
    let wanted = free() + CHUNK_BYTES * 2;
    let (code, chunks, _) = gc(&env, &["--min-free", &wanted.to_string()]);
    assert_eq!((code, chunks), (0, vec![("a".to_owned(), 1), ("b".to_owned(), 4)]));
    assert!(free() >= wanted);
    // A disk with nothing left at all.
    env.quiet("cat /dev/zero > store/fill 2>/dev/null || true");
    assert_eq!(free(), 0);
    let (code, chunks, said) = gc(&env, &["--min-free", "1B"]);
    assert_eq!((code, chunks, said.as_str()), (0, vec![("a".to_owned(), 2)], ""));
}

/// A store with something for every line that dw-gc can print.
fn all_sorts() -> TestEnv {
    let env = store(&format!("--max-size {}", 2 * CHUNK_BYTES));
    write_chunks(&env, "t", 3);
    make(&env, "aged", "--retention 1s");
    write_chunks(&env, "aged", 2);
    make(&env, "kept", "");
    write_chunks(&env, "kept", 1);
    // A chunk whose removal was cut short, feeds whose deletion was, one half made.
    make(&env, "cut", "");
    write_chunks(&env, "cut", 2);
    let platform = Platform::open(env.base()).expect("a store");
    let registry = |feed: &str| {
        let info = platform.feed_info(feed).expect("a feed");
        FeedRegistry::open(&info.registry_path(), &info.id, true).expect("a registry")
    };
    registry("cut").set_place(1, Place::OnDisk, Place::Expired).expect("it is on disk");
    for feed in ["marked", "struck", "moved"] {
        make(&env, feed, "");
        write_chunks(&env, feed, 1);
    }
    // Struck out of the registry, its folder still under its name.
    env.quiet("cp -r store/feeds/struck struck");
    registry("marked").set_deleted();
    env.quiet("dw-mkfeed --delete --yes struck moved; mv struck store/feeds/struck");
    let struck = env.base().join("feeds/struck/feed_registry.bin");
    let deleted = deepwater::checksum::guard(1).to_le_bytes();
    fs::File::options().write(true).open(struck).unwrap().write_all_at(&deleted, 528).unwrap();
    env.quiet(
        "mkdir store/feeds/.deleted-0123456789abcdef store/feeds/.new-0123456789abcdef
         echo x > store/feeds/.deleted-0123456789abcdef/00000001.data
         echo x > store/.registry.bin.1
         mkdir store/feeds/mine; echo 'not yours' > store/feeds/mine/letter",
    );
    // Until what has to grow old is so.
    until("two chunks to be a second old", || {
        let planned = gc(&env, &["--dry-run", "aged"]).1;
        (planned.len() == 2).then_some(())
    });
    env
}

#[test]
fn the_dry_run_changes_nothing_and_says_what_is_then_done() {
    for json in [&["--json"][..], &[]] {
        let env = all_sorts();
        let before = tree(&env);
        let planned = good(&env, "dw-gc", &[json, &["--dry-run"]].concat());
        assert_eq!(tree(&env), before);
        assert_eq!(good(&env, "dw-gc", json), planned);
        assert_eq!(good(&env, "dw-gc", &["--dry-run"]), "");
        assert_eq!(good(&env, "dw-gc", &[]), "", "nothing is left to do");
        if json.is_empty() {
            let sizes = "68.0KiB";
            for line in [
                format!("collect t chunk 1: seq 0..4096, {sizes}, over its size"),
                format!("collect aged chunk 2: seq 4096..8192, {sizes}, past its retention"),
                format!("finish cut chunk 1: seq 0..4096, {sizes}, left half done"),
            ] {
                assert!(planned.lines().any(|found| found == line), "{line}\n{planned}");
            }
            continue;
        }
        let steps: Vec<Value> =
            planned.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let found: Vec<(&str, &str, Option<u64>, &str)> = steps
            .iter()
            .map(|step| {
                let word = |key: &str| step[key].as_str().expect("a word");
                (word("action"), word("feed"), step["chunk"].as_u64(), word("reason"))
            })
            .collect();
        let wanted = [
            ("sweep", ".registry.bin.1", None, "unfinished"),
            ("sweep", ".deleted-0123456789abcdef", None, "unfinished"),
            ("sweep", ".new-0123456789abcdef", None, "unfinished"),
            ("sweep", "struck", None, "unfinished"),
            ("collect", "aged", Some(1), "retention"),
            ("collect", "aged", Some(2), "retention"),
            ("finish", "cut", Some(1), "unfinished"),
            ("delete", "marked", None, "unfinished"),
            ("collect", "t", Some(1), "max-size"),
        ];
        assert_eq!(found, wanted);
        let keys: Vec<&String> = steps[0].as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["action", "feed", "chunk", "seq_lo", "seq_hi", "bytes", "reason"]);
        assert_eq!(
            (steps[5]["seq_lo"].as_u64(), steps[5]["seq_hi"].as_u64()),
            (Some(4096), Some(8192))
        );
        assert_eq!(steps[5]["bytes"], CHUNK_BYTES);
        let left = ["aged", "cut", "kept", "mine", "t"].map(str::to_owned);
        assert_eq!(names(&env, "feeds"), BTreeSet::from(left));
        assert_eq!(good(&env, "dw-ls", &["--names"]), "aged\ncut\nkept\nt\n");
    }
}

/// A moment in `t`'s registry, `at` its place: so many seconds from now.
fn set_moment(env: &TestEnv, at: u64, wall_s: i64, boot_s: i64, boot_id: Option<[u8; 16]>) {
    let now = Moment::now();
    let path = env.base().join("feeds/t/feed_registry.bin");
    let file = fs::File::options().write(true).open(path).expect("a registry");
    let put = |at: u64, word: u64, seconds: i64, per_second: i64| {
        let word = word.wrapping_add_signed(seconds * per_second);
        file.write_all_at(&word.to_le_bytes(), at).expect("it can be written");
    };
    put(at, now.wall_us, wall_s, 1_000_000);
    put(at + 8, now.boot_ns, boot_s, 1_000_000_000);
    file.write_all_at(&boot_id.unwrap_or(now.boot_id), at + 16).expect("it can be written");
}

/// Where FORMAT.md puts them.
const LAST_GC_AT: u64 = 536;
const DAY_S: i64 = 86_400;

/// What dw-gc would do so many seconds from now, on a clock that runs evenly until then: how many
/// feeds doubt the clock, how many steps are done. The moments in a store cannot be moved into the
/// past instead: on a machine that has just booted they would lie before the boot.
fn gc_later(env: &TestEnv, seconds: u64) -> (usize, usize) {
    let now = Moment::now();
    let (wall_us, boot_ns) =
        (now.wall_us + seconds * 1_000_000, now.boot_ns + seconds * 1_000_000_000);
    gc_at(env, Moment { wall_us, boot_ns, ..now })
}

/// What dw-gc would do at that moment.
fn gc_at(env: &TestEnv, now: Moment) -> (usize, usize) {
    let platform = Platform::open(env.base()).expect("a store");
    let plan = deepwater::gc::plan(&platform, &Wants::default(), &now).expect("a plan");
    let mut done = 0;
    let outcome = deepwater::gc::apply(&platform, &plan, &mut |_| done += 1);
    assert!(outcome.failed.is_empty() && outcome.conflicts == 0, "{outcome:?}");
    (plan.doubts.len(), done)
}

#[test]
fn a_clock_that_jumped_keeps_everything() {
    let other_boot = Some([7; 16]);
    // Some of the time that this machine has been up, an hour at most.
    let up_s = (Moment::now().boot_ns / 2_000_000_000).min(3600) as i64;
    for (wall_s, boot_s, boot_id, way) in [
        // Set back by two hours in this boot, and before it; ahead by two months.
        (7200, 0, None, "went back by 120 minutes"),
        (7200 - up_s, -up_s, None, "went back by 120 minutes"),
        (7200, 0, other_boot, "went back by 120 minutes"),
        (-61 * DAY_S + 60, -up_s.min(60), None, "jumped ahead by 60 days"),
        (-61 * DAY_S, 0, other_boot, "jumped ahead by 61 days"),
    ] {
        let env = store("--max-size 1KiB --retention 1h");
        write_chunks(&env, "t", 2);
        make(&env, "fine", "--max-size 1KiB");
        write_chunks(&env, "fine", 1);
        set_moment(&env, LAST_GC_AT, wall_s, boot_s, boot_id);
        let before = tree(&env);
        let (code, chunks, said) = gc(&env, &["--dry-run"]);
        assert_eq!((code, chunks.len()), (1, 0), "{way}");
        assert!(said.contains(way) && said.contains("--trust-clock"), "{way}: {said}");
        assert_eq!(tree(&env), before);
        for _ in 0..2 {
            // The first run notes since when; no feed is collected, since the clock is the same.
            assert_eq!(gc(&env, &[]), (1, vec![], said.clone()), "{way}");
        }
        assert_eq!(objects(&env, "dw-ls", &["--json", "t"])[0]["records"], 2 * PER_CHUNK);
        assert_eq!(gc_later(&env, 900), (1, 0), "{way}");
        assert_eq!(gc_later(&env, 3700), (0, 3), "{way}");
        let log = fs::read_to_string(env.base().join("deepwater.log")).expect("a log");
        assert_eq!(log.matches("event=gc-refused").count(), 3, "{log}");
    }
}

#[test]
fn the_first_run_ever_is_not_fooled_by_a_wrong_clock() {
    let env = store("--retention 1h");
    write_chunks(&env, "t", 2);
    let now = Moment::now();
    let hour_us = 3600 * 1_000_000;
    // The next boot's clock is two months ahead, or was reset.
    let boot_id = [7; 16];
    for wall_us in [now.wall_us + 61 * 24 * hour_us, now.wall_us - 24 * hour_us, 0] {
        let wrong = Moment { wall_us, boot_ns: 60_000_000_000, boot_id };
        assert_eq!(gc_at(&env, wrong), (1, 0), "{wall_us}");
        assert_eq!(objects(&env, "dw-ls", &["--json", "t"])[0]["records"], 2 * PER_CHUNK);
    }
    // Within a month nothing is wrong with it, and what is old goes.
    let tomorrow = Moment { wall_us: now.wall_us + 24 * hour_us, boot_ns: 60_000_000_000, boot_id };
    assert_eq!(gc_at(&env, tomorrow), (0, 2));
}

#[test]
fn a_feed_that_was_idle_for_months_and_never_collected_has_a_way_on() {
    let env = store("--max-size 1KiB");
    write_chunks(&env, "t", 2);
    let path = env.base().join("feeds/t/feed.json");
    let text = fs::read_to_string(&path).expect("a spec");
    let created = text.split("\"created_us\":").nth(1).expect("a time").trim_start();
    let created: String = created.chars().take_while(char::is_ascii_digit).collect();
    let ago = created.parse::<u64>().expect("a number") - 61 * 86_400 * 1_000_000;
    fs::write(&path, text.replace(&created, &ago.to_string())).expect("it can be written");
    let (code, chunks, said) = gc(&env, &[]);
    assert_eq!((code, chunks.len()), (1, 0), "{said}");
    for part in ["ahead by 61 days since t was made", "no dw-gc has", "--trust-clock"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(gc_later(&env, 3700), (0, 2), "by itself after an hour");
    write_chunks(&env, "t", 1);
    assert_eq!(gc(&env, &["--trust-clock"]).1.len(), 1, "or at once");
}

#[test]
fn a_machine_that_was_off_for_months_has_a_way_on() {
    let env = store("--max-size 1KiB");
    write_chunks(&env, "t", 2);
    set_moment(&env, LAST_GC_AT, -61 * DAY_S, 0, Some([7; 16]));
    assert_eq!(gc(&env, &[]).0, 1);
    let (code, chunks, said) = gc(&env, &["--trust-clock"]);
    assert_eq!((code, chunks.len(), said.as_str()), (0, 2, ""));
    assert_eq!(gc(&env, &[]), (0, vec![], String::new()), "and then it is as it was");
}

#[test]
fn several_at_once_remove_each_chunk_once() {
    let env = store(&format!("--max-size {}", 10 * CHUNK_BYTES));
    write_chunks(&env, "t", 60);
    let output = env.quiet("for i in 1 2 3 4 5; do dw-gc --json & done; wait");
    let mut gone: Vec<u64> = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|step| step["action"] == "collect")
        .map(|step| step["chunk"].as_u64().expect("a chunk"))
        .collect();
    gone.sort_unstable();
    assert_eq!(gone, (1..=50).collect::<Vec<_>>());
    assert_eq!(objects(&env, "dw-ls", &["--chunks", "--json"]).len(), 10);
}

#[test]
fn a_feed_that_is_damaged_keeps_no_other_from_being_collected() {
    let env = store("--max-size 1KiB");
    make(&env, "broken", "--max-size 1KiB");
    for feed in ["t", "broken"] {
        write_chunks(&env, feed, 1);
    }
    fs::write(env.base().join("feeds/broken/feed_registry.bin"), "nonsense").unwrap();
    let (code, chunks, said) = gc(&env, &[]);
    assert_eq!((code, chunks), (1, vec![("t".to_owned(), 1)]));
    assert!(said.contains("broken: ") && said.contains("feed_registry.bin"), "{said}");
}

#[test]
fn a_stdout_that_is_full_keeps_nothing_from_being_collected() {
    let env = store("--max-size 1KiB");
    write_chunks(&env, "t", 3);
    let output = env.sh("dw-gc > /dev/full");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(objects(&env, "dw-ls", &["--json"])[0]["records"], 0);
    write_chunks(&env, "t", 2);
    assert_eq!(env.quiet("dw-gc --quiet"), "", "nothing but errors");
    assert_eq!(objects(&env, "dw-ls", &["--json"])[0]["records"], 0);
}

/// A dw-cat whose reader takes what it prints only when asked.
struct SlowCat {
    child: Child,
}

impl SlowCat {
    fn start(env: &TestEnv, args: &[&str]) -> SlowCat {
        let mut command = Command::new(cargo_bin("dw-cat"));
        command.args(args).env("DEEPWATER_BASE", env.base());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        SlowCat { child: command.spawn().expect("dw-cat starts") }
    }

    /// Reads on to the end: what was printed, what was said, the exit status.
    fn finish(mut self, mut printed: Vec<u8>) -> (Vec<u8>, String, i32) {
        let out = self.child.stdout.as_mut().expect("a pipe");
        out.read_to_end(&mut printed).expect("it can be read");
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (printed, said, self.child.wait().expect("an end").code().expect("no signal"))
    }

    fn first_bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.child.stdout.as_mut().expect("a pipe").read_exact(&mut bytes).expect("it prints");
        bytes
    }
}

#[test]
fn a_reader_is_told_what_was_collected_under_it() {
    // More than a pipe and dw-cat's buffers hold.
    const CHUNKS: u64 = 30;
    for reverse in [false, true] {
        let env = store("--max-size 1KiB");
        write_chunks(&env, "t", CHUNKS);
        let mut args = vec!["t", "-o", "raw"];
        args.extend(reverse.then_some("-r"));
        let mut cat = SlowCat::start(&env, &args);
        let first = cat.first_bytes(16);
        assert_eq!(gc(&env, &[]).1.len() as u64, CHUNKS);
        let (printed, said, code) = cat.finish(first);
        let times: Vec<u64> = printed
            .chunks_exact(16)
            .map(|record| u64::from_le_bytes(record[..8].try_into().unwrap()))
            .collect();
        let last = times.len() as u64;
        assert!(last < CHUNKS * PER_CHUNK && last.is_multiple_of(PER_CHUNK), "{last} records");
        if reverse {
            // The newest, down to what was there: as if it had been run after dw-gc.
            assert!(times.iter().copied().eq((0..last).map(|n| CHUNKS * PER_CHUNK - n)));
            assert_eq!((code, said.as_str()), (0, ""));
            continue;
        }
        assert!(times.iter().copied().eq(1..=last));
        assert_eq!(code, 1, "{said}");
        let missing = (last / PER_CHUNK..CHUNKS).map(|chunk| {
            let (lo, hi) = (chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK);
            format!(
                "dw-cat: t: left out seq {lo}..{hi}: collected by dw-gc while older records were \
                 printed"
            )
        });
        assert_eq!(said.lines().collect::<Vec<_>>(), missing.collect::<Vec<_>>());
    }
}

/// A minute in `scripts/soak`, some seconds here.
fn race_time() -> Duration {
    let seconds = std::env::var("DEEPWATER_RACE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(7))
}

/// What is shared by those who work on one store at the same time.
struct Race<'a> {
    env: &'a TestEnv,
    over: &'a AtomicBool,
    /// Seqs that dw-gc said it removed, half-open.
    collected: &'a Mutex<Vec<(u64, u64)>>,
}

impl Race<'_> {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Writes rows whose fields are their seq until it is over, in two sessions; how many.
    fn write(&self) -> u64 {
        let mut next = 0;
        for part in 0..2 {
            let mut writer = Running::start(self.env, &["t", "--columns", "ts,n"]);
            while self.goes_on() && (part > 0 || next < 50_000) {
                let rows: String = (next..next + 500).map(|n| format!("{n},{n}\n")).collect();
                writer.send(&rows);
                next += 500;
                thread::sleep(Duration::from_millis(25));
            }
            writer.finish();
        }
        next
    }

    fn collect(&self) {
        while self.goes_on() {
            let output = run(self.env, "dw-gc", &["--json"], b"");
            let said = text(&output.stderr);
            assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
            thread::sleep(Duration::from_millis(10));
            let mut collected = self.collected.lock().unwrap();
            for line in text(&output.stdout).lines() {
                let step: Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(step["action"], "collect", "{line}");
                let seq = |key: &str| step[key].as_u64().expect("a seq");
                collected.push((seq("seq_lo"), seq("seq_hi")));
            }
        }
    }

    /// Reads the feed again and again, in no hurry if `slow`; the ranges each run did not print
    /// from its first record on, and how far down it began.
    fn read(&self, slow: bool) -> Vec<(u64, u64)> {
        let mut missed = Vec::new();
        while self.goes_on() {
            let mut cat = SlowCat::start(self.env, &["t", "-o", "raw"]);
            let mut printed = Vec::new();
            let mut piece = vec![0; 32 << 10];
            let n = cat.child.stdout.as_mut().expect("a pipe").read(&mut piece).expect("bytes");
            printed.extend_from_slice(&piece[..n]);
            if slow {
                // Until most of what it began to read is gone.
                (0..3).for_each(|_| self.await_collection());
            }
            let (printed, said, code) = cat.finish(printed);
            missed.extend(self.check_read(&printed, &said, code));
        }
        missed
    }

    /// Waits until three more chunks are collected.
    fn await_collection(&self) {
        let count = || self.collected.lock().unwrap().len();
        let before = count();
        while self.goes_on() && count() < before + 3 {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Follows the feed from its first record, slower than it is collected: every seq comes once
    /// and in order, or is told to be collected; those that were.
    fn follow(&self) -> Vec<(u64, u64)> {
        let platform = until("a store", || Platform::open(self.env.base()).ok());
        let reader = platform.create_reader("t").expect("a reader");
        let mut follower = reader.follow(Selection::ALL).expect("a follower");
        let (mut next, mut missed) = (0, Vec::new());
        loop {
            match follower.next_event().expect("an event") {
                Event::Records(run) => {
                    assert_eq!(run.first_seq, next);
                    for record in run.records.chunks_exact(16) {
                        assert_eq!(record[..8], u64::to_le_bytes(next), "as it was written");
                        next += 1;
                    }
                    self.await_collection();
                }
                Event::Lost(Lost { seqs, why, .. }) => {
                    assert_eq!((seqs.0, why), (next, Why::Collected));
                    next = seqs.1;
                    missed.push(seqs);
                }
                Event::CaughtUp if !self.goes_on() => return missed,
                Event::CaughtUp => follower.wait().expect("a wait"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Holds what one dw-cat printed to what it said: every seq from 0 to its end is printed once,
    /// in order, or in a gap that it names.
    fn check_read(&self, printed: &[u8], said: &str, code: i32) -> Vec<(u64, u64)> {
        let (mut next, mut gaps, mut first) = (0, Vec::new(), true);
        for record in printed.chunks_exact(16) {
            let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
            let (ts, n) = (word(0), word(8));
            assert_eq!(ts, n, "a record as it was written");
            assert!(n >= next, "{n} after {next}");
            if n > next {
                gaps.push(((next, n), first));
            }
            (next, first) = (n + 1, false);
        }
        let told: Vec<(u64, u64)> = said
            .lines()
            .map(|line| {
                let range = line.split("seq ").nth(1).and_then(|rest| rest.split(':').next());
                let (lo, hi) = range.and_then(|range| range.split_once("..")).expect(line);
                (lo.parse().expect(line), hi.parse().expect(line))
            })
            .collect();
        let known = said.lines().all(|line| line.contains(": collected by dw-gc while older"));
        assert!(known, "nothing but that: {said}");
        assert_eq!(code, i32::from(!told.is_empty()), "{said}");
        // Chunks that follow one another are named one by one.
        let named = |(lo, hi): (u64, u64)| (lo..hi).all(|seq| covers(&told, seq));
        for (gap, at_the_head) in &gaps {
            assert!(*at_the_head || named(*gap), "seqs {gap:?} are missing without a word: {said}");
        }
        gaps.into_iter().map(|(gap, _)| gap).chain(told).collect()
    }
}

fn covers(ranges: &[(u64, u64)], seq: u64) -> bool {
    ranges.iter().any(|(lo, hi)| (*lo..*hi).contains(&seq))
}

/// A writer, dw-gc, followers and readers, all at once on a feed whose policy is `policy`.
fn race(policy: &str) {
    let env = store(&format!("--max-size {} {policy}", 10 * CHUNK_BYTES));
    let (over, collected) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let race = &Race { env: &env, over: &over, collected: &collected };
    let (written, missed) = thread::scope(|scope| {
        let everything = ["t", "-f", "--seq", "0..", "-o", "csv", "--no-header", "--fields", "n"];
        let follower = Running::tool(&env, "dw-cat", &everything);
        let writer = scope.spawn(|| race.write());
        let collector = scope.spawn(|| race.collect());
        let readers = [false, true].map(|slow| scope.spawn(move || race.read(slow)));
        let slow_follower = scope.spawn(|| race.follow());
        let began = Instant::now();
        // A thread that failed need not be waited for.
        while began.elapsed() < race_time() && !writer.is_finished() && !collector.is_finished() {
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        collector.join().expect("dw-gc");
        let readers = readers.map(|reader| reader.join().expect("dw-cat"));
        let written = writer.join().expect("dw-write");
        check_follower(follower, written);
        let missed = slow_follower.join().expect("a follower");
        assert!(!readers[1].is_empty() && !missed.is_empty(), "who is slow misses something");
        (written, [readers.concat(), missed].concat())
    });
    let mut collected = collected.into_inner().unwrap();
    collected.sort_unstable();
    assert!(collected.len() > 5, "{} chunks were collected of {written} rows", collected.len());
    // What was collected and what is there: everything, each seq once.
    assert!(collected.windows(2).all(|pair| pair[0].1 == pair[1].0), "{collected:?}");
    let kept = collected.last().map_or(0, |range| range.1);
    assert_eq!(collected.first().map(|range| range.0), Some(0));
    let left = good(&env, "dw-cat", &["t", "-o", "csv", "--no-header", "--fields", "n"]);
    assert!(left.lines().map(|n| n.parse::<u64>().unwrap()).eq(kept..written));
    let feed = &objects(&env, "dw-ls", &["--json"])[0];
    let number = |key: &str| feed[key].as_u64().expect("a number");
    let counts = (number("records"), number("seq_lo"), number("seq_hi"));
    assert_eq!(counts, (written - kept, kept, written));
    // And nobody missed anything else.
    assert!(missed.iter().all(|(_, hi)| *hi <= kept), "{missed:?} of {kept}");
}

/// A dw-cat -f that keeps up has printed everything once, and said nothing.
fn check_follower(follower: Running, written: u64) {
    let last = format!("\n{}\n", written - 1);
    until("the last row", || follower.out().ends_with(&last).then_some(()));
    follower.signal("INT");
    let (status, printed, said) = follower.end();
    assert_eq!((status.signal(), said.as_str()), (Some(2), ""));
    assert!(printed.lines().map(|n| n.parse::<u64>().expect("a row")).eq(0..written));
}

#[test]
fn nothing_vanishes_that_was_not_planned() {
    race("");
}

#[test]
fn nothing_vanishes_of_a_staged_feed_either() {
    race("--stage shm");
}
