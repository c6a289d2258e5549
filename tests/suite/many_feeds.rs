//! A store of many feeds: more than files may be open, and no work for one that grows with all.

use std::fs;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use deepwater::Platform;
use deepwater::schema::FeedSpec;

use super::env::TestEnv;
use super::kit::{not_run, objects, text};

const FEW: usize = 40;
const MANY: usize = 1200;

fn name(number: usize) -> String {
    format!("f{number:04}")
}

/// Makes the feeds with these numbers, as dw-mkfeed would one by one.
fn make(env: &TestEnv, numbers: std::ops::Range<usize>) {
    let platform = Platform::create(env.base()).expect("a store");
    for number in numbers {
        let json = format!(
            r#"{{"feed_name":"{}","ts_col":"ts","fields":[{{"name":"ts","type":"uint64"}},
            {{"name":"n","type":"uint64"}}]}}"#,
            name(number)
        );
        let spec = FeedSpec::from_json(&json).expect("a spec");
        platform.create_feed(&spec, false).expect("a feed");
    }
}

/// Every tool once, with 64 open files and no more to be had.
const TOOLS: &str = "
ulimit -n 64
dw-mkfeed other ts:uint64 n:uint64
for feed in f0000 f0600 f1199 other; do printf '1,1\\n2,2\\n' | dw-write $feed --header no; done
dw-cat f0600 f1199 -o csv --no-header --fields n | tr '\\n' ' '
dw-ls | wc -l
dw-ls --json | wc -l
dw-ls --names | wc -l
dw-ls -l --json | wc -l
dw-ls --chunks --json | wc -l
dw-ls --sessions --json | wc -l
dw-ls --gaps | wc -l
dw-ls --layout c | grep -c struct
dw-gc --dry-run
dw-gc
dw-health --min-free 1KiB | wc -l
dw-repair --all --dry-run | wc -l
dw-repair --all | wc -l
";

#[test]
fn every_tool_works_with_more_feeds_than_open_files() {
    let env = TestEnv::new();
    make(&env, 0..MANY);
    let printed = env.quiet(TOOLS);
    let feeds = MANY + 1;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], format!("1 1 2 2 {}", feeds + 1), "{printed}");
    assert_eq!(lines[1..4], [feeds.to_string(), feeds.to_string(), feeds.to_string()], "{printed}");
    assert_eq!(lines[4..6], ["4", "4"], "chunks and sessions: {printed}");
    let damaged = &lines[lines.len() - 2..];
    assert_eq!(damaged, ["0", "0"], "dw-repair finds nothing: {printed}");
}

#[test]
fn merging_raises_the_soft_limit_and_says_what_a_hard_one_lacks() {
    let env = TestEnv::new();
    make(&env, 0..200);
    for number in [0, 199] {
        let feed = name(number);
        env.quiet(&format!("printf '1,1\\n' | dw-write {feed} --header no"));
    }
    let all: Vec<String> = (0..200).map(name).collect();
    let cat = format!("dw-cat {} -o csv --no-header --fields n", all.join(" "));
    assert_eq!(env.quiet(&format!("ulimit -Sn 64; {cat}")), "1\n1\n");
    let output = env.sh(&format!("ulimit -n 64; {cat}"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("200 feeds at once take up to ") && said.contains("ulimit -n"), "{said}");
    assert!(output.stdout.is_empty(), "nothing of a part is printed");
}

#[test]
fn the_list_of_feeds_is_not_read_once_a_feed() {
    let env = TestEnv::new();
    if Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output().is_err() {
        return not_run("the list of feeds is not read once a feed (no strace)");
    }
    let tools = ["dw-ls", "dw-gc --dry-run", "dw-gc", "dw-repair --all --dry-run", "dw-health"];
    let opens = |tool: &str| {
        let trace = env.path("trace");
        let mut words = tool.split(' ');
        let program = cargo_bin(words.next().expect("a tool"));
        let mut strace = env.program("strace");
        strace.args(["-f", "-e", "trace=open,openat", "-o"]).arg(&trace).arg(program).args(words);
        let output = strace.output().expect("strace starts");
        let said = text(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "{tool}: {said}");
        let trace = fs::read_to_string(&trace).expect("a trace");
        trace.lines().filter(|line| line.contains("/store/registry.bin")).count()
    };
    make(&env, 0..FEW);
    let few = tools.map(opens);
    assert!(few.iter().all(|opens| *opens > 0), "the traces show nothing: {few:?}");
    make(&env, FEW..4 * FEW);
    assert_eq!(tools.map(opens), few, "{tools:?} on {FEW} and on {} feeds", 4 * FEW);
    assert_eq!(objects(&env, "dw-ls", &["--json"]).len(), 4 * FEW);
}
