//! Tests of `dw-ls --gaps`: when nothing was being recorded and why; what was lost, collected or
//! rejected.

use std::time::{Duration, Instant};

use deepwater::Platform;
use deepwater::registry::feed::{
    Entry, FeedRegistry, Place, RANGE_LOST, RANGE_REMOVED, RANGE_UNREACHABLE, RangeEntry,
};
use serde_json::Value;

use super::env::TestEnv;
use super::kit::{Running, good, objects, text, until};

const WRITE: &[&str] = &["trades", "--columns", "ts"];

/// Starts a writer and waits until it has published a row.
fn writing(env: &TestEnv) -> Running {
    let end = || objects(env, "dw-ls", &["trades", "--json"])[0]["seq_hi"].as_u64();
    let before = end();
    let mut writer = Running::start(env, WRITE);
    writer.send("1\n");
    until("the row", || (end() > before).then_some(()));
    writer
}

fn stopped(env: &TestEnv, signal: &str) {
    let mut writer = writing(env);
    writer.signal(signal);
    writer.wait();
}

fn wait_out(ms: u64) {
    let began = Instant::now();
    until("time to pass", || (began.elapsed() > Duration::from_millis(ms)).then_some(()));
}

fn gaps(env: &TestEnv) -> Vec<Value> {
    objects(env, "dw-ls", &["trades", "--gaps", "--json"])
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn whys(gaps: &[Value]) -> Vec<&str> {
    gaps.iter().map(|gap| gap["gap"].as_str().unwrap()).collect()
}

fn registry(env: &TestEnv) -> FeedRegistry {
    let feed = Platform::open(env.base()).unwrap().feed_info("trades").unwrap();
    FeedRegistry::open(&feed.registry_path(), &feed.id, true).unwrap()
}

#[test]
fn gaps_between_writers_have_a_reason() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp");
    assert_eq!(gaps(&env), Vec::<Value>::new(), "never written is no gap");
    let writer = writing(&env);
    assert_eq!(gaps(&env), Vec::<Value>::new(), "while it is written");
    writer.finish();
    assert_eq!(whys(&gaps(&env)), ["ended"]);
    stopped(&env, "TERM");
    // In a file, a bad row stops the run.
    env.sh("echo x > bad; dw-write trades --columns ts bad");
    stopped(&env, "KILL");
    let open = gaps(&env);
    assert_eq!(whys(&open), ["ended", "signal", "rejected", "error", "crashed"]);
    assert!(open[4]["to_us"].is_null(), "it goes on");
    wait_out(300);
    let writer = writing(&env);
    let closed = gaps(&env);
    assert_eq!(whys(&closed), whys(&open));
    // The gap begins at the last sign of life, not when the next writer finds out.
    assert_eq!(closed[4]["from_us"], open[4]["from_us"]);
    assert!(number(&closed[4], "to_us") - number(&closed[4], "from_us") > 300_000);
    let sessions = objects(&env, "dw-ls", &["trades", "--sessions", "--json"]);
    for (gap, session) in closed.iter().filter(|gap| gap["gap"] != "rejected").zip(&sessions) {
        assert_eq!(gap["session"], session["session"]);
        assert_eq!(gap["gap"], session["reason"]);
        assert_eq!(gap["from_us"], session["closed_us"]);
        assert_eq!((&gap["seq_lo"], &gap["seq_hi"]), (&session["seq_hi"], &session["seq_hi"]));
    }
    assert_eq!(number(&closed[2], "rows"), 1);
    for pair in closed.windows(2) {
        assert!(number(&pair[0], "from_us") <= number(&pair[1], "from_us"));
    }
    let lines = good(&env, "dw-ls", &["trades", "--gaps"]);
    assert_eq!(lines.lines().count(), 1 + closed.len(), "a line each, and titles:\n{lines}");
    assert!(lines.lines().nth(5).unwrap().contains(" crashed "), "{lines}");
    writer.finish();
}

#[test]
fn a_power_loss_gap_includes_the_skipped_seqs() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp --sync 10ms");
    stopped(&env, "KILL");
    let run = |script: &str| {
        let output = env.sh(&format!("export DEEPWATER_BOOT_ID=another; {script}"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let before: Value = serde_json::from_str(&run("dw-ls trades --gaps --json")).unwrap();
    assert_eq!((&before["gap"], &before["to_us"]), (&"power-loss".into(), &Value::Null));
    run("echo 2 | dw-write trades --columns ts");
    let after = run("dw-ls trades --gaps --json");
    let after: Vec<Value> = after.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(whys(&after), ["power-loss", "ended"], "what was skipped is part of the gap");
    assert_eq!(after[0]["from_us"], before["from_us"]);
    let sessions = run("dw-ls trades --sessions --json");
    let second: Value = serde_json::from_str(sessions.lines().nth(1).unwrap()).unwrap();
    assert_eq!(after[0]["to_us"], second["opened_us"]);
    assert_eq!(after[0]["seq_hi"], second["seq_lo"]);
    assert!(number(&after[0], "seq_hi") > number(&after[0], "seq_lo"));
}

#[test]
fn records_overwritten_in_a_ring_are_not_a_gap() {
    let env = TestEnv::new();
    env.quiet(
        "dw-mkfeed trades ts:timestamp --ring=64KiB
        seq 40000 | dw-write trades --columns ts",
    );
    assert!(objects(&env, "dw-ls", &["trades", "--json"])[0]["seq_lo"].as_u64() > Some(0));
    assert_eq!(whys(&gaps(&env)), ["ended"]);
}

#[test]
fn lost_unreachable_repaired_and_collected_ranges_are_listed() {
    let env = TestEnv::new();
    env.quiet(
        "dw-mkfeed trades ts:timestamp --chunk-size 64KiB
        seq 40000 | dw-write trades --columns ts",
    );
    let table = registry(&env);
    for (reason, seqs) in
        [(RANGE_LOST, (9, 11)), (RANGE_UNREACHABLE, (20, 30)), (RANGE_REMOVED, (31, 32))]
    {
        let (recorded_us, times) = (77, None);
        let range = RangeEntry { seqs, session_id: 1, recorded_us, reason, times };
        table.append_range(&range).unwrap();
    }
    let found = gaps(&env);
    let mut words = whys(&found);
    words.sort_unstable();
    assert_eq!(words, ["ended", "lost", "repaired", "unreachable"]);
    let lost = found.iter().find(|gap| gap["gap"] == "lost").unwrap();
    assert_eq!((number(lost, "seq_lo"), number(lost, "seq_hi")), (9, 11));
    let session = &objects(&env, "dw-ls", &["trades", "--sessions", "--json"])[0];
    assert_eq!((&lost["from_us"], &lost["to_us"]), (&session["opened_us"], &session["closed_us"]));
    // Mark the first two chunks as collected.
    let chunks: Vec<_> = table
        .entries()
        .unwrap()
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Chunk(chunk) => Some(chunk),
            _ => None,
        })
        .collect();
    for chunk in &chunks[..2] {
        table.set_place(chunk.position, Place::OnDisk, Place::Expired).unwrap();
    }
    let found = gaps(&env);
    let collected = found.iter().find(|gap| gap["gap"] == "collected").unwrap();
    assert_eq!((number(collected, "seq_lo"), number(collected, "seq_hi")), (0, 16_384));
    assert_eq!(number(collected, "to_us"), chunks[2].created_us);
    for chunk in &chunks[2..] {
        table.set_place(chunk.position, Place::OnDisk, Place::Expired).unwrap();
    }
    let found = gaps(&env);
    let collected = found.iter().find(|gap| gap["gap"] == "collected").unwrap();
    assert_eq!((number(collected, "seq_lo"), number(collected, "seq_hi")), (0, 40_000));
}
