//! A staged feed's writer, and its adopter, killed at each step of flushing, rotation and adoption.
//! What anybody has seen is there at any moment; the next writer goes on exactly and leaves nothing
//! in memory.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use deepwater::Platform;
use deepwater::reader::{Direction, Reader, Selection};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::env::TestEnv;
use crate::kit::until;

const PATIENCE: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;

fn tool(env: &TestEnv, faults: &str, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin(args[0]));
    command.args(&args[1..]).env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
    command.env("DEEPWATER_FAULTS", faults).env("DEEPWATER_FAULTS_DIR", env.path("."));
    command
}

fn good(env: &TestEnv, args: &[&str]) -> String {
    let output = tool(env, "", args).stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{args:?}: {}: {said}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn store() -> TestEnv {
    let env = TestEnv::new();
    let make = ["dw-mkfeed", "t", "ts:timestamp", "n:uint64"];
    good(&env, &[&make[..], &["--stage", "shm", "--chunk-size", "64KiB"]].concat());
    env
}

/// A dw-write of raw records that kills itself at a step.
fn writer(env: &TestEnv, faults: &str) -> Child {
    let args = ["dw-write", "t", "--format", "raw", "--sync", "10ms", "--mark-every", "100"];
    let mut command = tool(env, faults, &args);
    command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts")
}

fn records(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(|n| [n, n ^ 0x5555]).flat_map(u64::to_le_bytes).collect()
}

fn open(env: &TestEnv) -> Reader {
    Platform::open(env.base()).expect("a store").create_reader("t").expect("a feed")
}

/// Reads all there is: records 0, 1, 2 ... and nothing else; how many.
fn read(reader: &Reader) -> u64 {
    let snapshot = reader.snapshot().expect("a sound table at any moment");
    let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
    let mut next = 0;
    while let Some(run) = scan.next_run().expect("a scan") {
        assert_eq!(run.first_seq, next, "a gap");
        let end = next + run.records.len() as u64 / 16;
        assert!(run.records == records(next..end), "records {next}..{end}");
        next = end;
    }
    assert_eq!(scan.take_damage(), []);
    next
}

fn names(env: &TestEnv) -> BTreeSet<String> {
    let folder = fs::read_dir(env.shm()).expect("memory").next().expect("a folder").expect("it");
    let listing = fs::read_dir(folder.path()).expect("a folder");
    listing.map(|item| item.expect("an item").file_name().into_string().expect("UTF-8")).collect()
}

/// Feeds a writer until it is killed by its fault, looking at the feed meanwhile; the highest count
/// that was seen. `disturb` is called once, in the middle.
fn until_killed(
    env: &TestEnv,
    child: &mut Child,
    step: &str,
    from: u64,
    disturb: impl Fn(),
) -> u64 {
    let mut input = child.stdin.take().expect("a pipe");
    let reader = open(env);
    let began = Instant::now();
    let (mut seen, mut next, mut rounds) = (from, from, 0);
    loop {
        if input.write_all(&records(next..next + 700)).is_err() {
            break;
        }
        next += 700;
        // Until these are published, or the writer has died on the way.
        while seen < next && child.try_wait().expect("it can be asked").is_none() {
            seen = seen.max(read(&reader));
            assert!(began.elapsed() < PATIENCE, "{step}: {seen} of {next}");
        }
        rounds += 1;
        if rounds == 20 {
            disturb();
        }
        assert!(began.elapsed() < PATIENCE, "{step}: it goes on and on");
    }
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(SIGKILL), "{step}: {status}");
    seen
}

/// Ends a feed that was killed at some moment: all that was seen is there, for every kind of
/// reader,
/// and the next writer goes on behind it.
fn check(env: &TestEnv, step: &str, seen: u64) -> u64 {
    let there = read(&open(env));
    assert!(there >= seen, "{step}: {there} records, and {seen} were seen");
    let mut next = writer(env, "");
    let mut input = next.stdin.take().expect("a pipe");
    input.write_all(&records(there..there + 10)).expect("it reads");
    drop(input);
    assert!(next.wait().expect("it ends").success(), "{step}");
    assert_eq!(read(&open(env)), there + 10, "{step}");
    assert_eq!(names(env), ["t.wait".to_owned()].into(), "{step}");
    let marks = good(env, &["dw-cat", "t", "--playback", "-n+1", "-o", "csv", "--no-header"]);
    assert_eq!(marks, format!("{0},{1}\n", there, there ^ 0x5555), "{step}: the last mark");
    assert!(!good(env, &["dw-ls", "t", "--sessions", "--json"]).contains("hole"), "{step}");
    there + 10
}

/// The steps of a session that is written without disturbance.
const WRITING: [&str; 14] = [
    "begin.page-made",
    "begin.page",
    "begin.segments",
    "recover.begun",
    "recover.session",
    "flush.records-written",
    "flush.index-written",
    "copy.records-synced",
    "checkpoint.synced",
    "checkpoint.written",
    "flush.marked",
    "flush.sealed",
    "flush.on-disk",
    "flush.unlinked",
];

#[test]
fn a_writer_killed_at_each_step_of_its_work() {
    for step in WRITING {
        let env = store();
        // Once in the first session of the feed, and once behind records.
        let (mut seen, mut n) = (0, 1);
        for _ in 0..2 {
            let mut child = writer(&env, &format!("kill={step}:{n}"));
            seen = until_killed(&env, &mut child, step, seen, || ());
            seen = check(&env, step, seen);
            let once = step.starts_with("begin") || step.starts_with("recover");
            n = if once { 1 } else { 3 };
        }
    }
}

#[test]
fn a_writer_killed_at_each_step_of_its_end() {
    for step in ["finish.closed", "end.page", "copy.records-written", "copy.index-written"] {
        let env = store();
        let mut child = writer(&env, &format!("kill={step}"));
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(&records(0..1000)).expect("it reads");
        drop(input);
        assert_eq!(child.wait().expect("it ends").signal(), Some(SIGKILL), "{step}");
        assert_eq!(read(&open(&env)), 1000, "{step}");
        check(&env, step, 1000);
    }
}

#[test]
fn a_writer_killed_at_each_step_after_its_memory_was_unlinked() {
    for step in ["restage.page-made", "restage.page"] {
        let env = store();
        let mut child = writer(&env, &format!("kill={step}"));
        let seen = until_killed(&env, &mut child, step, 0, || {
            fs::remove_dir_all(env.shm()).expect("it can be removed");
            fs::create_dir(env.shm()).expect("it was removed");
        });
        // What was seen is on disk: the writer saw to that first.
        let there = read(&open(&env));
        assert!(there >= seen, "{step}: {there} records, and {seen} were seen");
    }
}

/// A dw-cat of all that is there, stopped at a step.
struct Stopped {
    child: Child,
    reached: PathBuf,
}

impl Stopped {
    fn start(mut cat: Command, env: &TestEnv, step: &str) -> Stopped {
        cat.args(["-o", "raw"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = cat.spawn().expect("it starts");
        let reached = env.path(&format!("{step}.reached"));
        until(step, || {
            assert_eq!(child.try_wait().expect("a child"), None, "it ended before {step}");
            reached.exists().then_some(())
        });
        Stopped { child, reached }
    }

    /// Lets it go on; it prints so many records and has nothing to say.
    fn prints(self, count: u64) {
        fs::write(self.reached.with_extension("go"), "").expect("it can be written");
        let output = self.child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
        assert!(output.stdout == records(0..count), "{} bytes", output.stdout.len());
    }
}

#[test]
fn a_chunk_unlinked_under_a_writer_that_is_held_up_is_waited_for() {
    let env = store();
    let args = ["dw-write", "t", "--format", "raw", "--sync", "none"];
    let mut child = tool(&env, "", &args).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&records(0..100)).expect("it reads");
    until("the records", || (read(&open(&env)) == 100).then_some(()));
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("it can be stopped");
    let folder = fs::read_dir(env.shm()).expect("memory").next().expect("a folder").expect("it");
    for file in fs::read_dir(folder.path().join("t.chunks")).expect("a folder") {
        fs::remove_file(file.expect("an item").path()).expect("it can be removed");
    }
    // Its third try: nothing has changed, and it has not given up.
    let cat =
        Stopped::start(tool(&env, "pause=reader.open:3", &["dw-cat", "t"]), &env, "reader.open");
    kill(pid, Signal::SIGCONT).expect("it can go on");
    cat.prints(100);
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_session_that_begins_while_a_reader_looks_is_not_passed_over() {
    let env = store();
    let mut first = writer(&env, "");
    first.stdin.take().expect("a pipe").write_all(&records(0..10)).expect("it reads");
    assert!(first.wait().expect("it ends").success());
    let boot = ("DEEPWATER_BOOT_ID", "11111111-2222-3333-4444-555555555555");
    let mut cat = tool(&env, "pause=reader.viewed:1", &["dw-cat", "t"]);
    cat.env(boot.0, boot.1);
    // The memory of the session it knows of went with the boot.
    let cat = Stopped::start(cat, &env, "reader.viewed");
    let args = ["dw-write", "t", "--format", "raw", "--sync", "none"];
    let mut next = tool(&env, "", &args);
    let mut next = next.env(boot.0, boot.1).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = next.stdin.take().expect("a pipe");
    input.write_all(&records(10..15)).expect("it reads");
    until("the records", || {
        let mut look = tool(&env, "", &["dw-cat", "t", "-o", "raw"]);
        let output = look.env(boot.0, boot.1).output().expect("it starts");
        (output.stdout == records(0..15)).then_some(())
    });
    cat.prints(15);
    drop(input);
    assert!(next.wait().expect("it ends").success());
}

#[test]
fn an_adopter_killed_at_each_step() {
    let steps = [
        "adopt.begun",
        "copy.records-written",
        "copy.index-written",
        "adopt.sealed",
        "adopt.on-disk",
        "adopt.unlinked",
        "adopt.noted",
        "adopt.closed",
        "end.page",
        "begin.page-made",
        "begin.page",
        "begin.segments",
        "recover.begun",
        "recover.session",
    ];
    for step in steps {
        let env = store();
        // Killed with a chunk half flushed and two behind it.
        let mut child = writer(&env, "pause=flush.marked");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(&records(0..10_000)).expect("it reads");
        let reader = open(&env);
        let began = Instant::now();
        while read(&reader) < 10_000 {
            assert!(began.elapsed() < PATIENCE, "it writes");
        }
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        // An adopter that is killed, again and again; then one that is not.
        for n in [1, 1, 2] {
            let mut adopter = writer(&env, &format!("kill={step}:{n}"));
            drop(adopter.stdin.take());
            let status = adopter.wait().expect("it ends");
            assert!(status.signal() == Some(SIGKILL) || n == 2, "{step}: {status}");
            assert_eq!(read(&reader), 10_000, "{step}: a reader that stayed");
            assert_eq!(read(&open(&env)), 10_000, "{step}: a reader that came");
        }
        check(&env, step, 10_000);
    }
}
