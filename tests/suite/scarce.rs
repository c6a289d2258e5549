//! Little of what a process may have: open files, memory. Each run is either right, or says which
//! limit it met and exits 2; none takes what it could not open for missing, so that nothing is
//! removed, called damaged or recovered as after a power loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::env::TestEnv;
use super::kit::{Running, good, run, text, until};

const ROWS: u64 = 5000;

fn rows(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("{n}\n")).collect()
}

/// A feed `t` whose writer was killed with records that no disk has, as far as it is staged.
fn killed(policy: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    let args = [&["t", "ts:uint64"], policy].concat();
    assert!(run(&env, "dw-mkfeed", &args, b"").status.success());
    let mut writer = Running::start(&env, &["t", "--columns", "ts"]);
    writer.send(&rows(0, ROWS));
    until("the rows", || (times(&env).0.lines().count() as u64 == ROWS).then_some(()));
    writer.signal("KILL");
    writer.wait();
    env
}

fn times(env: &TestEnv) -> (String, Option<i32>) {
    let got = run(env, "dw-cat", &["t", "-o", "csv", "--no-header", "--with-seq"], b"");
    (text(&got.stdout), got.status.code())
}

/// Runs a tool under a limit of bash's `ulimit`.
fn limited(env: &TestEnv, limit: &str, tool: &[&str], input: &str) -> Output {
    let command = tool.join(" ");
    let script = format!("ulimit {limit}; exec {command}");
    env.bash(&script).write_stdin(input).output().expect("bash starts")
}

/// Every file of the store and of its shared memory, and what the small ones hold.
fn all(env: &TestEnv) -> BTreeMap<PathBuf, Vec<u8>> {
    fn gather(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for item in fs::read_dir(folder).unwrap().flatten() {
            match item.file_type().unwrap().is_dir() {
                true => gather(&item.path(), into),
                false => drop(into.insert(item.path(), fs::read(item.path()).unwrap())),
            }
        }
    }
    let mut found = BTreeMap::new();
    gather(&env.base(), &mut found);
    gather(env.shm(), &mut found);
    found.retain(|path, _| !path.ends_with("deepwater.log"));
    for (path, bytes) in &mut found {
        // When dw-gc ran last.
        if path.ends_with("feed_registry.bin") {
            bytes[536..568].fill(0);
        }
    }
    found
}

const READERS: [&[&str]; 8] = [
    &["dw-cat", "t", "-o", "csv", "--no-header", "--with-seq"],
    &["dw-cat", "t", "-n", "3"],
    &["dw-ls"],
    &["dw-ls", "--sessions", "--gaps", "--chunks"],
    &["dw-health", "--min-free", "1MiB"],
    &["dw-gc", "--dry-run"],
    &["dw-gc"],
    &["dw-repair", "t", "--dry-run"],
];

/// What a tool must not say of a store that has nothing wrong with it.
const FALSE: [&str; 6] =
    ["damaged", "missing", "is gone", "left out", "machine stopped", "was cut off"];

/// Whether a run met the limit; then it must have said so, and nothing false.
fn met_limit(done: &Output, limit: &str, tool: &[&str]) -> bool {
    let said = text(&done.stdout) + &text(&done.stderr);
    let lied = FALSE.iter().find(|word| text(&done.stderr).contains(*word));
    assert!(lied.is_none(), "{tool:?} under {limit}: {said}");
    // Where there is not enough to start a program, or to go on, the system ends it.
    let ended = done.status.code().is_none_or(|code| code >= 126);
    let of_memory = limit.starts_with("-v") && (ended || said.contains("memory allocation"));
    let words = [
        "Too many open files",
        "Cannot allocate memory",
        "a limit of open files",
        "cannot start a thread",
    ];
    let limited = words.iter().any(|word| said.contains(word)) || of_memory;
    // What dw-health knows to be wrong, the writer's death, counts before what it does not know.
    let code = if tool[0] == "dw-health" && said.contains("died") { 1 } else { 2 };
    assert!(!limited || of_memory || done.status.code() == Some(code), "{tool:?} {limit}: {said}");
    limited
}

/// Runs everything under each of these limits; `enough` is one that all must do with.
fn sweep(policy: &[&str], limits: &[String]) {
    let env = killed(policy);
    let right: Vec<(String, Option<i32>)> = READERS
        .iter()
        .map(|tool| {
            let done = run(&env, tool[0], &tool[1..], b"");
            (text(&done.stdout), done.status.code())
        })
        .collect();
    let before = all(&env);
    for limit in limits {
        for (tool, (wanted, code)) in READERS.iter().zip(&right) {
            let done = limited(&env, limit, tool, "");
            if met_limit(&done, limit, tool) {
                continue;
            }
            let (out, said) = (text(&done.stdout), text(&done.stderr));
            assert_eq!(done.status.code(), *code, "{policy:?} {tool:?} under {limit}: {said}");
            // Ages and rates move.
            let fixed = tool[0] == "dw-cat" || tool[0] == "dw-gc";
            assert!(!fixed || out == *wanted, "{policy:?} {tool:?} under {limit}: {out}");
        }
        let same = all(&env) == before;
        assert!(same, "{policy:?}: something was changed under {limit}");
    }
    // The next writer, at each limit until one is enough for it.
    let write = ["dw-write", "t", "--columns", "ts"];
    let first = limits.iter().position(|limit| {
        let done = limited(&env, limit, &write, &rows(ROWS, ROWS + 1));
        let limited = met_limit(&done, limit, &write);
        let (_, said) = (0, text(&done.stderr));
        assert!(limited || done.status.success(), "{policy:?} dw-write under {limit}: {said}");
        assert!(limited || times(&env).0.lines().count() as u64 == ROWS + 1, "{limit}: {said}");
        !limited
    });
    assert!(first.is_some(), "{policy:?}: no limit was enough for dw-write");
    let wanted: String = (0..=ROWS).map(|n| format!("{n},{n}\n")).collect();
    assert!(times(&env) == (wanted, Some(0)), "{policy:?}: seqs go on, and every row is there");
    let sessions = good(&env, "dw-ls", &["t", "--sessions"]);
    assert!(sessions.contains("crashed") && !sessions.contains("power"), "{policy:?}: {sessions}");
}

fn files() -> Vec<String> {
    (4..=40).chain([64]).map(|n| format!("-n {n}")).collect()
}

#[test]
fn any_number_of_open_files_is_enough_or_said_to_be_too_few() {
    sweep(&["--chunk-size", "64KiB"], &files());
}

#[test]
fn any_number_of_open_files_is_enough_or_said_to_be_too_few_for_staged_chunks() {
    sweep(&["--stage", "shm", "--chunk-size", "64KiB"], &files());
}

#[test]
fn any_number_of_open_files_is_enough_or_said_to_be_too_few_for_a_ring() {
    sweep(&["--ring=1MiB"], &files());
}

#[test]
fn any_amount_of_address_space_is_enough_or_said_to_be_too_little() {
    let limits: Vec<String> = (1..=40).map(|n| format!("-v {}", n * 1000)).collect();
    let more = ["-v 100000", "-v 400000", "-v 2000000"].map(str::to_owned);
    for policy in [&[][..], &["--stage", "shm"]] {
        sweep(policy, &[&limits[..], &more].concat());
    }
}
