//! `stage: shm`: chunks are born in shared memory and reach the disk behind the writer's back.
//! Whatever becomes of writer, memory or machine: nothing is lost in silence, no seq comes twice.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use deepwater::Platform;
use deepwater::reader::{Direction, Event, Follower, Selection, Why};
use serde_json::Value;

use super::env::TestEnv;
use super::kit::{Running, good, not_run, objects, run, text, until};
use super::small_disk::{SmallDisk, where_one_may_mount};

/// A store with the staged feed `t`.
fn store(policy: &str) -> TestEnv {
    let env = TestEnv::new();
    env.quiet(&format!("dw-mkfeed t ts:timestamp n:uint64 --stage shm {policy}"));
    env
}

/// Rows with the numbers of a range, as CSV without a header.
fn rows(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{},{n}\n", 1_000_000 + n)).collect()
}

const COLUMNS: [&str; 3] = ["t", "--columns", "ts,n"];

fn writer(env: &TestEnv) -> Running {
    Running::start(env, &COLUMNS)
}

fn numbers_of(csv: &str) -> Vec<u64> {
    csv.lines().map(|line| line.parse().expect("a number")).collect()
}

/// The numbers that another process reads; it must say nothing on stderr.
fn numbers(env: &TestEnv) -> Vec<u64> {
    numbers_of(&good(env, "dw-cat", &["t", "-o", "csv", "--no-header", "--fields", "n"]))
}

/// The numbers that another process reads of a feed that has a hole from `seq` on, which it tells.
fn numbers_beside_a_hole(env: &TestEnv, seq: u64) -> Vec<u64> {
    let args = ["t", "-o", "csv", "--no-header", "--fields", "n"];
    let output = run(env, "dw-cat", &args, b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("left out seq {seq}..")), "{said}");
    assert!(said.contains("in shared memory that cannot be reached"), "{said}");
    numbers_of(&text(&output.stdout))
}

fn until_count(env: &TestEnv, count: u64) {
    until(&format!("{count} records"), || {
        let found = numbers(env);
        assert!(found.iter().copied().eq(0..found.len() as u64), "a prefix, nothing else");
        (found.len() as u64 == count).then_some(())
    });
}

fn until_durable(env: &TestEnv, count: u64) {
    until(&format!("{count} durable records"), || {
        let feed = &objects(env, "dw-ls", &["t", "--json"])[0];
        (feed["records"] == count && feed["backlog"] == 0).then_some(())
    });
}

/// The folder of the store's segments.
fn segments(env: &TestEnv) -> PathBuf {
    let mut folders = fs::read_dir(env.shm()).expect("shared memory");
    let folder = folders.next().expect("a folder").expect("an item").path();
    assert!(folders.next().is_none(), "one folder a store");
    folder
}

fn names(folder: &Path) -> BTreeSet<String> {
    let listing = fs::read_dir(folder).expect("a folder");
    listing.map(|item| item.expect("an item").file_name().into_string().expect("UTF-8")).collect()
}

fn chunks(env: &TestEnv) -> Vec<Value> {
    objects(env, "dw-ls", &["t", "--chunks", "--json"])
}

/// Sessions, and holes behind them.
fn sessions(env: &TestEnv) -> Vec<Value> {
    objects(env, "dw-ls", &["t", "--sessions", "--json"])
}

fn kill(writer: &mut Running) {
    writer.child.kill().expect("it can be killed");
    writer.child.wait().expect("it ends");
}

#[test]
fn a_staged_feed_is_read_like_any_other_and_leaves_the_same_files() {
    let env = store("--chunk-size 64KiB");
    env.quiet("dw-mkfeed disk ts:timestamp n:uint64 --chunk-size 64KiB");
    let mut staged = Running::start(&env, &["t", "--columns", "ts,n", "--mark-every", "1000"]);
    staged.send(&rows(0..10_000));
    until_count(&env, 10_000);
    let feed = &objects(&env, "dw-ls", &["t", "--json"])[0];
    assert!(feed["backlog"].is_u64(), "{feed}");
    let last = chunks(&env).pop().expect("a chunk");
    assert_eq!(last["place"], "staged", "{last}");
    assert_eq!((&last["seq_lo"], &last["seq_hi"]), (&8192.into(), &10_000.into()));
    let one = |args: &[&str]| {
        let all = ["t", "-o", "csv", "--no-header", "--fields", "n"];
        numbers_of(&good(&env, "dw-cat", &[&all[..], args].concat()))
    };
    let range = ["--since", "@1.009", "--until", "@1.0091"];
    assert!(one(&range).into_iter().eq(9000..9100));
    assert!(one(&["-n", "5"]).into_iter().eq(9995..10_000));
    assert!(one(&["--playback", "--since", "@1.0095"]).into_iter().eq(9000..10_000));
    assert_eq!(one(&["-r", "-n", "1"]), [9999]);
    staged.finish();
    assert!(numbers(&env).into_iter().eq(0..10_000));
    assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
    assert!(chunks(&env).iter().all(|chunk| chunk["place"] == "on-disk"));
    // The same bytes as if there had never been a stage.
    let mut disk = Running::start(&env, &["disk", "--columns", "ts,n", "--mark-every", "1000"]);
    disk.send(&rows(0..10_000));
    disk.finish();
    for chunk in 1..=3 {
        let bytes = |feed: &str, ending: &str| {
            let path = env.base().join(format!("feeds/{feed}/{chunk:08}.{ending}"));
            fs::read(path).expect("a chunk's file")
        };
        assert_eq!(bytes("t", "data"), bytes("disk", "data"));
        // Behind the header, which names the feed, and the seal, which has its time.
        assert_eq!(bytes("t", "idx")[4096..], bytes("disk", "idx")[4096..]);
    }
}

#[test]
fn feeds_whose_names_end_alike_do_not_meet_in_memory() {
    let env = TestEnv::new();
    let feeds = ["t", "t.live", "t.wait", "t.chunks", "t.live.new"];
    for feed in feeds {
        env.quiet(&format!("dw-mkfeed {feed} ts:timestamp n:uint64 --stage shm"));
    }
    let mut writers = feeds.map(|feed| Running::start(&env, &[feed, "--columns", "ts,n"]));
    for (i, writer) in (1..).zip(&mut writers) {
        writer.send(&rows(0..i));
    }
    for (i, feed) in (1..).zip(feeds) {
        until("the rows", || (good(&env, "dw-cat", &[feed]).lines().count() == i).then_some(()));
    }
    for writer in writers {
        writer.finish();
    }
}

#[test]
fn what_ends_a_feed_or_its_stage_ends_its_memory() {
    let env = store("");
    let mut first = writer(&env);
    first.send(&rows(0..10));
    until_count(&env, 10);
    kill(&mut first);
    assert!(segments(&env).join("t.chunks/00000001.data").exists());
    // The next writer is one on disk.
    env.quiet("dw-mkfeed t ts:timestamp n:uint64 --stage disk --update");
    let mut second = writer(&env);
    second.send(&rows(10..20));
    until_count(&env, 20);
    assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
    assert_eq!(chunks(&env).pop().unwrap()["place"], "live");
    second.finish();
    env.quiet("dw-mkfeed t ts:timestamp n:uint64 --stage shm --update");
    let mut third = writer(&env);
    third.send(&rows(20..30));
    until_count(&env, 30);
    assert_eq!(chunks(&env).pop().unwrap()["place"], "staged");
    kill(&mut third);
    until_count(&env, 30);
    let places: Vec<_> = chunks(&env).iter().map(|chunk| chunk["place"].clone()).collect();
    assert_eq!(places, ["on-disk", "on-disk", "staged"], "nobody has adopted it yet");
    env.quiet("dw-mkfeed --delete t --yes");
    assert_eq!(fs::read_dir(env.shm()).unwrap().count(), 0, "folder and all");
}

/// A follower in this process, and what it has been given.
struct Followed {
    follower: Follower,
    numbers: Vec<u64>,
}

impl Followed {
    fn start(env: &TestEnv) -> Followed {
        let platform = Platform::open(env.base()).expect("a store");
        let reader = platform.create_reader("t").expect("a feed");
        Followed { follower: reader.follow(Selection::ALL).expect("a follower"), numbers: vec![] }
    }

    /// Takes what there is; loss and damage fail.
    fn take(&mut self) {
        loop {
            match self.follower.next_event().expect("an event") {
                Event::Records(run) => {
                    let word = |record: &[u8]| record[8..16].try_into().expect("eight bytes");
                    let numbers = run.records.chunks_exact(16).map(|r| u64::from_le_bytes(word(r)));
                    self.numbers.extend(numbers);
                }
                Event::CaughtUp => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(self.numbers.iter().copied().eq(0..self.numbers.len() as u64));
        self.follower.wait().expect("a wait");
    }

    fn until(&mut self, count: usize) {
        until(&format!("{count} records followed"), || {
            self.take();
            (self.numbers.len() == count).then_some(())
        });
    }
}

#[test]
fn memory_unlinked_under_the_writer_loses_nothing_and_followers_go_on() {
    let env = store("--chunk-size 64KiB");
    let mut writer = writer(&env);
    writer.send(&rows(0..100));
    let mut before = Followed::start(&env);
    before.until(100);
    // As systemd does with the files of a user who logs out.
    fs::remove_dir_all(segments(&env)).expect("it can be removed");
    let _ = fs::create_dir(segments_parent(&env));
    // Idle: within a second or two everything is on disk, for those who come now too.
    until("everything on disk", || {
        let output = run(&env, "dw-cat", &["t", "-o", "csv", "--no-header", "--fields", "n"], b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        numbers_of(&text(&output.stdout)).into_iter().eq(0..100).then_some(())
    });
    let mut between = Followed::start(&env);
    between.until(100);
    writer.send(&rows(100..20_000));
    before.until(20_000);
    between.until(20_000);
    until_count(&env, 20_000);
    assert_eq!(chunks(&env)[0]["ended"], "early");
    assert!(segments(&env).join("t.live").exists(), "it is made again");
    // And once more, in the middle of things.
    fs::remove_dir_all(segments(&env)).expect("it can be removed");
    writer.send(&rows(20_000..40_000));
    before.until(40_000);
    writer.finish();
    before.take();
    assert!(numbers(&env).into_iter().eq(0..40_000));
    assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
}

fn segments_parent(env: &TestEnv) -> PathBuf {
    env.shm().to_owned()
}

#[test]
fn memory_unlinked_and_then_the_writer_killed_at_rest_loses_nothing() {
    let env = store("");
    let mut first = writer(&env);
    first.send(&rows(0..1000));
    until_count(&env, 1000);
    fs::remove_dir_all(segments(&env)).expect("it can be removed");
    until("everything on disk", || (numbers(&env).len() == 1000).then_some(()));
    kill(&mut first);
    assert!(run(&env, "dw-write", &COLUMNS, b"").status.success());
    assert!(numbers_beside_a_hole(&env, 1000).into_iter().eq(0..1000));
    let last = sessions(&env).into_iter().rfind(|o| o["hole"].is_string()).expect("a hole");
    assert_eq!((&last["hole"], &last["seq_lo"]), (&"unreachable".into(), &1000.into()), "{last}");
}

/// Runs a script in a mount namespace with a shared memory of its own in the place of ours.
fn elsewhere(env: &TestEnv, script: &str) -> Option<Output> {
    let shm = env.shm().display();
    let inside =
        format!("mount -t tmpfs none {shm} && mkdir -p {}/$1 && eval \"$2\"", env.shm().display());
    let folder = segments(env).file_name().unwrap().to_str().unwrap().to_owned();
    let mut command = env.program("unshare");
    command.args(["-rm", "bash", "-c", &inside, "elsewhere", &folder, script]);
    let can =
        env.program("unshare").args(["-rm", "mount", "-t", "tmpfs", "none"]).arg(env.shm()).ok();
    if can.is_err() {
        not_run("another mount namespace (no right to make one)");
        return None;
    }
    Some(command.output().expect("it starts"))
}

#[test]
fn another_shared_memory_is_named_and_nothing_is_taken_for_lost() {
    let env = store("");
    let mut first = writer(&env);
    first.send(&rows(0..100));
    until_count(&env, 100);
    let Some(output) = elsewhere(&env, "dw-cat t") else { return };
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let folder = segments(&env).display().to_string();
    assert!(said.contains(&folder) && said.contains("another"), "{said}");
    assert!(output.stdout.is_empty());
    // With nothing at all where the folder should be, likewise.
    let output = elsewhere(&env, "rmdir $DEEPWATER_SHM/*; dw-cat t").expect("as before");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    // The feed's lock holds across namespaces.
    let output = elsewhere(&env, "echo 1,1 | dw-write t --columns ts,n").expect("as before");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    until_durable(&env, 100);
    kill(&mut first);
    // A writer there starts behind every seq that may be in use here.
    let output = elsewhere(&env, "echo 1,100 | dw-write t --columns ts,n").expect("as before");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(numbers_beside_a_hole(&env, 100).into_iter().eq(0..101));
    let all = sessions(&env);
    let hole = all.iter().find(|o| o["hole"].is_string()).expect("a hole");
    assert_eq!((&hole["hole"], &hole["seq_lo"]), (&"unreachable".into(), &100.into()), "{hole}");
    assert!(all[1]["seq_lo"].as_u64().unwrap() >= 1 << 24, "{all:?}");
    assert_eq!(all[0]["reason"], "memory-gone");
    // What it could not reach is where it was.
    assert!(segments(&env).join("t.chunks/00000001.data").exists());
}

#[test]
fn memory_that_is_gone_is_told_until_it_is_on_record() {
    let env = store("--sync none --chunk-size 64KiB");
    let mut first = writer(&env);
    first.send(&rows(0..5000));
    until_count(&env, 5000);
    // What is in a chunk that has ended is on disk; nothing of the other is.
    until("the first chunk on disk", || (chunks(&env)[0]["place"] == "on-disk").then_some(()));
    kill(&mut first);
    fs::remove_dir_all(segments(&env)).expect("it can be removed");
    for tool in ["dw-cat", "dw-ls"] {
        let output = run(&env, tool, &["t"], b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{tool}: {said}");
        assert!(said.contains("shared memory") && said.contains("seq 4096"), "{tool}: {said}");
    }
    // The library's users are told as well: by a scan that comes past the end.
    let reader = Platform::open(env.base()).unwrap().create_reader("t").unwrap();
    let snapshot = reader.snapshot().unwrap();
    for (seqs, told) in [((0, 4096), false), ((0, u64::MAX), true)] {
        let selection = Selection { seqs, ..Selection::ALL };
        let mut scan = reader.scan(&snapshot, selection, Direction::Forward);
        while scan.next_run().unwrap().is_some() {}
        let lost = scan.take_lost();
        assert_eq!(lost.iter().any(|lost| lost.why == Why::Unreachable), told, "{lost:?}");
    }
    let output = run(&env, "dw-write", &COLUMNS, rows(4096..4106).as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(numbers_beside_a_hole(&env, 4096).into_iter().eq(0..4106));
    // Every way of reading past them reports them: forwards, backwards, by time, merged, followed.
    env.quiet("dw-mkfeed other ts:timestamp n:uint64 && echo 9,9 | dw-write other --columns ts,n");
    for args in ["t --seq 0..", "t -r", "t --since @1", "t other"] {
        let output = run(&env, "dw-cat", &args.split(' ').collect::<Vec<_>>(), b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "dw-cat {args}: {said}");
        assert!(said.contains("left out seq 4096..16"), "dw-cat {args}: {said}");
    }
    let mut lost = Vec::new();
    let platform = Platform::open(env.base()).unwrap();
    let mut follower = platform.create_reader("t").unwrap().follow(Selection::ALL).unwrap();
    let last = loop {
        match follower.next_event().unwrap() {
            Event::Records(_) => {}
            Event::Lost(more) => lost.push((more.seqs.0, more.why)),
            other => break format!("{other:?}"),
        }
    };
    assert_eq!((lost, &*last), (vec![(4096, Why::Unreachable)], "CaughtUp"));
    // Whoever asks for other records is not.
    for args in ["t -n 5", "t -r -n 5", "t --seq 0..4096", "t --until @1.004", "t --since @1.0041"]
    {
        good(&env, "dw-cat", &args.split(' ').collect::<Vec<_>>());
    }
    let all = sessions(&env);
    assert_eq!((&all[0]["reason"], &all[0]["seq_hi"]), (&"memory-gone".into(), &4096.into()));
    let (next, hole) = (&all[1]["seq_lo"], &all[2]);
    assert!(next.as_u64().unwrap() >= 1 << 24);
    let of_hole = (&hole["hole"], &hole["seq_lo"], &hole["seq_hi"]);
    assert_eq!(of_hole, (&"unreachable".into(), &4096.into(), next), "{hole}");
}

/// Runs a script in another boot.
fn at_boot(env: &TestEnv, boot: &str, script: &str) -> Output {
    env.bash(script).env("DEEPWATER_BOOT_ID", boot).output().expect("bash starts")
}

#[test]
fn after_a_reboot_the_acknowledged_is_there_and_the_rest_is_on_record_as_lost() {
    let env = store("--chunk-size 64KiB");
    let mut first = Running::start(&env, &["t", "--columns", "ts,n", "--ack", "--sync", "20ms"]);
    first.send(&rows(0..3000));
    until("the rows to be acknowledged", || first.out().ends_with("3000\n").then_some(()));
    first.send(&rows(3000..3010));
    let acked = until("more of them", || {
        let acked: u64 = first.out().lines().last()?.parse().ok()?;
        (acked > 3000).then_some(acked)
    });
    kill(&mut first);
    let cat = "dw-cat t -o csv --no-header --fields n";
    let output = at_boot(&env, "next", cat);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("machine stopped"), "{said}");
    let there = numbers_of(&text(&output.stdout));
    assert!(there.len() as u64 >= acked && there.iter().copied().eq(0..there.len() as u64));
    let output = at_boot(&env, "next", "printf '9,9\\n' | dw-write t --columns ts,n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = at_boot(&env, "next", &format!("{cat} --with-seq"));
    let said = text(&output.stderr);
    let left_out = format!("left out seq {}..", there.len());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&left_out) && said.contains("lost before they were on disk"), "{said}");
    assert_eq!(text(&output.stdout).lines().count(), there.len() + 1);
    let all = text(&at_boot(&env, "next", "dw-ls t --sessions --json").stdout);
    let all: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let hole = all.iter().find(|o| o["hole"].is_string()).expect("a hole");
    assert_eq!((&hole["hole"], &hole["seq_lo"]), (&"lost".into(), &there.len().into()));
    assert_eq!((&all[0]["reason"], &all[1]["seq_lo"]), (&"power-loss".into(), &hole["seq_hi"]));
    assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into(), "of the old boot nothing");
}

#[test]
fn a_copied_store_has_no_part_in_the_memory_of_its_original() {
    let env = store("");
    let mut first = writer(&env);
    first.send(&rows(0..100));
    until_durable(&env, 100);
    env.quiet("cp -a store copy");
    first.send(&rows(100..200));
    until_count(&env, 200);
    let copy = |script: &str| env.sh(&format!("export DEEPWATER_BASE=$PWD/copy; {script}"));
    let output = copy("dw-cat t -o csv --no-header --fields n");
    let said = text(&output.stderr);
    assert!(numbers_of(&text(&output.stdout)).into_iter().eq(0..100));
    assert!(output.status.code() == Some(1) && said.contains("copy"), "{said}");
    let before = names(&segments(&env).join("t.chunks"));
    let output = copy("printf '9,100\\n' | dw-write t --columns ts,n && dw-cat t | wc -l");
    assert_eq!(text(&output.stdout), "101\n", "{}", text(&output.stderr));
    let output = copy("dw-mkfeed --delete t --yes");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let original = fs::read_dir(env.shm()).unwrap().map(|item| item.unwrap().path());
    let original: Vec<PathBuf> = original.filter(|path| path.join("t.live").exists()).collect();
    assert_eq!(original.len(), 1, "{original:?}");
    assert_eq!(names(&original[0].join("t.chunks")), before);
    first.send(&rows(200..300));
    first.finish();
    assert!(numbers(&env).into_iter().eq(0..300));
}

/// Raw records with the numbers of a range.
fn raw(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(|n| [n, n]).flat_map(u64::to_le_bytes).collect()
}

#[test]
fn little_shared_memory_makes_the_writer_wait_and_lose_nothing() {
    let test = "staged::little_shared_memory_makes_the_writer_wait_and_lose_nothing";
    where_one_may_mount(test, || {
        for (size, policy) in [
            ("size=900k", "--chunk-size 64KiB"),
            ("size=3m", "--chunk-size 64MiB"),
            ("size=3m", "--chunk-size 1MiB --live-window 1h"),
        ] {
            let env = store(policy);
            let _small = SmallDisk::mount(env.shm(), size).expect("a small disk");
            let input = raw(0..500_000);
            fs::write(env.path("rows"), &input).expect("room");
            let output = run(&env, "dw-write", &["t", "--format", "raw", "rows"], b"");
            assert!(output.status.success(), "{size} {policy}: {}", text(&output.stderr));
            let read = run(&env, "dw-cat", &["t", "-o", "raw"], b"");
            assert!(read.stdout == input, "{size} {policy}: not what was written");
            assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
        }
    });
}

#[test]
fn no_shared_memory_at_all_is_refused_before_a_record_is_taken() {
    let test = "staged::no_shared_memory_at_all_is_refused_before_a_record_is_taken";
    where_one_may_mount(test, || {
        let env = store("");
        let small = SmallDisk::mount(env.shm(), "size=128k").expect("a small disk");
        let output = run(&env, "dw-write", &COLUMNS, rows(0..10).as_bytes());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("shared memory is full") && said.contains("bytes free"), "{said}");
        assert!(numbers(&env).is_empty());
        small.resize(1536 << 10);
        let mut writer = writer(&env);
        writer.send(&rows(0..10));
        until_count(&env, 10);
        writer.finish();
        assert!(numbers(&env).into_iter().eq(0..10));
        assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
    });
}

#[test]
fn a_full_disk_leaves_the_records_in_memory_for_the_next_writer() {
    let test = "staged::a_full_disk_leaves_the_records_in_memory_for_the_next_writer";
    where_one_may_mount(test, || {
        let env = TestEnv::new();
        let disk = SmallDisk::mount(&env.base(), "size=1m").expect("a small disk");
        env.quiet("dw-mkfeed t ts:timestamp n:uint64 --stage shm --chunk-size 256KiB");
        fs::write(env.path("rows"), raw(0..200_000)).expect("room");
        let output = run(&env, "dw-write", &["t", "--format", "raw", "rows"], b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("No space left") && said.contains("in shared memory only"), "{said}");
        let there = numbers(&env);
        assert!(there.iter().copied().eq(0..there.len() as u64) && there.len() > 60_000);
        // Again, while there is still no room: nothing is lost by trying.
        let output = run(&env, "dw-write", &COLUMNS, b"");
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert_eq!(numbers(&env), there);
        disk.resize(16 << 20);
        let output = run(&env, "dw-write", &COLUMNS, b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(numbers(&env), there);
        assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
    });
}

#[test]
fn memory_that_goes_after_a_clean_end_is_no_damage() {
    let env = store("");
    let mut writing = writer(&env);
    writing.send(&rows(0..100));
    writing.finish();
    let folder = segments(&env);
    let states = ["rm -r F", "mkdir F; echo x >F/t.live", "rm -r F; ln -s / F", "rm F; touch F"];
    for state in states {
        env.quiet(&state.replace('F', &folder.display().to_string()));
        for tool in [&["dw-repair", "--all", "--dry-run"][..], &["dw-repair", "t"], &["dw-ls"]] {
            let output = run(&env, tool[0], &tool[1..], b"");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{state}: {tool:?}: {said}");
        }
        assert_eq!(numbers(&env), (0..100).collect::<Vec<_>>(), "{state}");
    }
}

#[test]
fn what_is_left_in_memory_is_swept_and_what_no_disk_has_is_not() {
    let env = store("--mode 0644");
    let mut first = writer(&env);
    first.send(&rows(0..100));
    until_count(&env, 100);
    let folder = segments(&env);
    for (name, mode) in [("", 0o755), ("t.chunks", 0o755), ("t.live", 0o644), ("t.wait", 0o666)] {
        let meta = fs::metadata(folder.join(name)).expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name:?}");
    }
    let sweep = || -> BTreeSet<String> {
        let steps = objects(&env, "dw-gc", &["--json"]);
        let one = |step: &Value| format!("{} {}", step["feed"], step["reason"]);
        steps.iter().map(one).collect()
    };
    assert!(sweep().is_empty(), "of a feed that is written");
    env.quiet(&format!("cp -a {} aside", folder.display()));
    kill(&mut first);
    assert!(sweep().is_empty(), "what nobody has adopted");
    until_count(&env, 100);
    assert!(run(&env, "dw-write", &COLUMNS, b"").status.success());
    // As of an adopter that was killed before it had unlinked them, and of a feed that is gone.
    let script =
        String::from("cp -a aside/t.chunks aside/t.live {0}; cp aside/t.live {0}/gone.live");
    env.quiet(&script.replace("{0}", &folder.display().to_string()));
    let left = ["\"gone\" \"leftover\"", "\"t\" \"leftover\""].map(str::to_owned);
    assert_eq!(sweep(), left.into());
    assert_eq!(names(&folder), ["t.wait".to_owned()].into());
    assert!(numbers(&env).into_iter().eq(0..100));
}

#[test]
fn within_the_live_window_no_disk_is_read() {
    let env = store("--chunk-size 64KiB --live-window 1h");
    let mut writer = writer(&env);
    writer.send(&rows(0..10_000));
    until_count(&env, 10_000);
    until("two chunks on disk", || (chunks(&env)[1]["place"] == "on-disk").then_some(()));
    let chunk = env.base().join("feeds/t/00000001.data");
    fs::rename(&chunk, env.path("aside")).expect("it is there");
    assert!(numbers(&env).into_iter().eq(0..10_000), "from memory");
    fs::rename(env.path("aside"), &chunk).expect("it was there");
    writer.finish();
    assert!(numbers(&env).into_iter().eq(0..10_000));
    assert_eq!(names(&segments(&env)), ["t.wait".to_owned()].into());
}
