//! Tests of a feed that is being written, over a pipe that stays open: rows are visible at once,
//! are marked, stamped, ordered and acknowledged, and chunks rotate.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::env::TestEnv;
use super::kit::{Running, good, objects, run, text, until};

/// Creates a store with `trades` and this policy.
fn store(policy: &str) -> TestEnv {
    let env = TestEnv::new();
    env.quiet(&format!("dw-mkfeed trades ts:timestamp price:float64 {policy}"));
    env
}

/// Returns the records as another process prints them.
fn rows(env: &TestEnv) -> Vec<String> {
    let rows = good(env, "dw-cat", &["trades", "-o", "csv", "--no-header"]);
    rows.lines().map(str::to_owned).collect()
}

/// Waits until another process sees exactly these records.
fn until_rows(env: &TestEnv, wanted: &[&str]) {
    until(&format!("{wanted:?}"), || (rows(env) == wanted).then_some(()));
}

#[test]
fn a_complete_row_is_visible_while_half_of_the_next_is_in_the_pipe() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("ts,price\n1,1.5\n2,2");
    until_rows(&env, &["1,1.5"]);
    writer.send(".5");
    writer.send("\n");
    until_rows(&env, &["1,1.5", "2,2.5"]);
    // Send one byte at a time, as a slow producer may.
    for byte in ["3", ",", "3", ".", "5", "\r"] {
        writer.send(byte);
    }
    assert_eq!(rows(&env).len(), 2, "no row before its newline");
    writer.send("\n");
    until_rows(&env, &["1,1.5", "2,2.5", "3,3.5"]);
    assert_eq!(writer.finish(), (String::new(), String::new()));
}

#[test]
fn json_is_visible_row_by_row() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("{\"ts\":1,\"price\":1.5}\n{\"ts\":2,\"pri");
    until_rows(&env, &["1,1.5"]);
    writer.send("ce\":2.5}\n");
    until_rows(&env, &["1,1.5", "2,2.5"]);
    writer.finish();
}

#[test]
fn raw_records_are_visible_record_by_record() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades", "--format", "raw"]);
    // Use only bytes below 0x80, so that records are also text.
    let record = |ts: u8| -> String {
        let bytes = [&[ts, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
        String::from_utf8(bytes).unwrap()
    };
    writer.send(&format!("{}{}", record(1), &record(2)[..9]));
    until_rows(&env, &["1,0.0"]);
    writer.send(&record(2)[9..]);
    until_rows(&env, &["1,0.0", "2,0.0"]);
    writer.finish();
}

#[test]
fn a_header_alone_is_not_an_error() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades"]);
    writer.send("price,");
    writer.send("ts\n");
    writer.send("1.5,1\n");
    until_rows(&env, &["1,1.5"]);
    writer.finish();
}

#[test]
fn a_bad_row_is_reported_at_once() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades", "--rejects", "rejects"]);
    writer.send("1,1.5\n2,x\n3,3.5\n");
    until_rows(&env, &["1,1.5", "3,3.5"]);
    let said = until("the message", || Some(writer.err()).filter(|err| !err.is_empty()));
    assert_eq!(said, "dw-write: stdin:2:3: rejected: price: \"x\" is not a number\n");
    let kept = until("the row to be kept", || {
        fs::read_to_string(env.path("rejects")).ok().filter(|kept| kept.ends_with('\n'))
    });
    assert!(kept.contains("\"text\":\"2,x\""), "{kept}");
    let counted = objects(&env, "dw-ls", &["--sessions", "--json"]);
    assert_eq!((&counted[0]["rejected"], &counted[0]["reason"]), (&1.into(), &"open".into()));
}

#[test]
fn acknowledged_records_are_durable_and_readable() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades", "--ack", "--sync", "10ms"]);
    let mut sent = 0u64;
    let mut acked = 0u64;
    for _ in 0..5 {
        let batch: String = (0..100).map(|i| format!("{},{i}\n", sent + i)).collect();
        writer.send(&batch);
        sent += 100;
        acked = until("an acknowledgement", || {
            let last = writer.out().lines().last().map_or(0, |line| line.parse().unwrap());
            (last > acked).then_some(last)
        });
        let there = good(&env, "dw-cat", &["trades", "--seq", &format!("0..{acked}")]);
        assert_eq!(there.lines().count() as u64, acked, "all that was acknowledged is there");
    }
    let (out, err) = writer.finish();
    let seqs: Vec<u64> = out.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!((seqs.last(), err.as_str()), (Some(&500), ""));
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
}

#[test]
fn every_sync_policy_acknowledges_all_records_at_the_end() {
    for (sync, at_once) in [("batch", true), ("10ms", true), ("none", false)] {
        let env = store("");
        let mut writer = Running::start(&env, &["trades", "--ack", "--sync", sync]);
        writer.send("1,1\n2,2\n");
        if at_once {
            until(sync, || (writer.out() == "2\n").then_some(()));
        } else {
            until_rows(&env, &["1,1.0", "2,2.0"]);
        }
        writer.send("3,3\n");
        let (out, _) = writer.finish();
        assert_eq!(out.lines().last(), Some("3"), "{sync}: {out}");
    }
}

#[test]
fn unread_acknowledgements_lose_no_records() {
    let env = store("");
    let script = "seq 1000 | sed 's/$/,1/' | dw-write trades --ack --sync batch | true";
    let output = env.sh(&format!("set +o pipefail; {script}; echo ${{PIPESTATUS[2]}}"));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("0\n".into(), String::new()));
    assert_eq!(rows(&env).len(), 1000);
}

#[test]
fn statistics_are_printed_on_stderr() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades", "--stats", "20ms", "-q"]);
    writer.send("1,1\n2,x\n3,3\n");
    let line = until("two rows in the statistics", || {
        let said = writer.err();
        said.lines().find(|line| line.contains("rows 2 ")).map(str::to_owned)
    });
    for piece in ["dw-write: rows 2 rows/s ", "MB/s ", "lag_s ", "rejected 1 passed_over 0"] {
        assert!(line.contains(piece), "{line}");
    }
    let lines = || writer.err().lines().count();
    let before = lines();
    until("more of them while nothing comes", || (lines() > before + 3).then_some(()));
    assert_eq!(writer.out(), "");
}

#[test]
fn playback_begins_at_marks() {
    let env = store("");
    let input: String = (0..10).map(|i| format!("{i},{}\n", i % 4)).collect();
    let written = |args: &[&str]| {
        assert!(run(&env, "dw-write", args, input.as_bytes()).status.success());
    };
    written(&["trades", "--mark-every", "4"]);
    let playback = |more: &[&str]| -> Vec<String> {
        let args = [&["trades", "--playback", "--fields", "ts", "-o", "csv", "--no-header"], more];
        good(&env, "dw-cat", &args.concat()).lines().map(str::to_owned).collect()
    };
    // There are marks at 0, 4 and 8.
    assert_eq!(playback(&[]), ["8", "9"]);
    assert_eq!(playback(&["--since", "@7us"]), ["4", "5", "6", "7", "8", "9"]);
    assert_eq!(playback(&["--since", "@4us", "--until", "@6us"]), ["4", "5"]);
    assert_eq!(playback(&["--since", "@3us", "-n", "+1"]), ["0"]);
    assert_eq!(objects(&env, "dw-ls", &["--chunks", "--json"])[0]["marks"], 3);
    // Mark where the price is 3, while the pipe is open.
    let mut writer = Running::start(&env, &["trades", "--mark-when", "price=3"]);
    writer.send("20,1\n21,3\n22,0\n");
    until("the mark of a session that is open", || (playback(&[]) == ["21", "22"]).then_some(()));
    writer.send("23,3\n");
    until("the next mark", || (playback(&[]) == ["23"]).then_some(()));
    writer.finish();
    assert_eq!(playback(&["--since", "@22us"]), ["21", "22", "23"]);
}

#[test]
fn stamp_fields_hold_the_arrival_time() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades seen:timestamp price:float64 --time-unit ns");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut writer = Running::start(&env, &["trades", "--stamp", "seen"]);
    let mut stamps = Vec::new();
    for i in 1..=3 {
        let before = now();
        writer.send(&format!("{i}\n"));
        let last = until("the row", || {
            let rows = rows(&env);
            (rows.len() == i).then(|| rows[i - 1].split_once(',').unwrap().0.to_owned())
        });
        let stamp: u64 = last.parse().unwrap();
        assert!((before..=now()).contains(&stamp), "{before} <= {stamp} <= {}", now());
        stamps.push(stamp);
    }
    assert!(stamps.is_sorted());
    writer.finish();
}

#[test]
fn a_feed_is_created_from_its_spec() {
    let env = TestEnv::new();
    let spec = "{\"feed_name\":\"trades\",\"ts_col\":\"ts\",\"fields\":[\
                {\"name\":\"ts\",\"type\":\"timestamp\"},\
                {\"name\":\"price\",\"type\":\"float64\"}]}";
    fs::write(env.path("spec.json"), spec).unwrap();
    let write =
        |input: &str| run(&env, "dw-write", &["trades", "--create", "spec.json"], input.as_bytes());
    assert!(write("1,1\n").status.success(), "no store and no feed before");
    assert!(write("2,2\n").status.success(), "both there before");
    assert_eq!(rows(&env), ["1,1.0", "2,2.0"]);
    let other = run(&env, "dw-write", &["quotes", "--create", "spec.json"], b"");
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("trades") && text(&other.stderr).contains("quotes"));
    fs::write(env.path("spec.json"), spec.replace("float64", "float32")).unwrap();
    let drift = write("3,3\n");
    assert_eq!(drift.status.code(), Some(2));
    assert!(text(&drift.stderr).contains("price"), "{}", text(&drift.stderr));
    fs::write(env.path("spec.json"), "{").unwrap();
    assert!(text(&write("").stderr).starts_with("dw-write: spec.json: "));
    assert_eq!(rows(&env).len(), 2);
}

#[test]
fn late_rows_follow_the_order_policy() {
    let input = b"1,1\n5,2\n3,3\n5,4\n6,5\n";
    let all = ["1,1.0", "5,2.0", "3,3.0", "5,4.0", "6,5.0"];
    let written = |order: &str| {
        let env = store(&format!("--order {order}"));
        let output = run(&env, "dw-write", &["trades", "--rejects", "rejects"], input);
        let session = objects(&env, "dw-ls", &["--sessions", "--json"]).remove(0);
        (env, output.status.code(), text(&output.stderr), session)
    };
    let (env, status, said, session) = written("accept");
    assert_eq!((rows(&env), status, said.as_str()), (all.map(str::to_owned).into(), Some(0), ""));
    assert_eq!(session["late"], 1, "{session}");

    let (env, status, said, session) = written("clamp");
    let mut clamped = all;
    clamped[2] = "5,3.0";
    assert_eq!(
        (rows(&env), status, said.as_str()),
        (clamped.map(str::to_owned).into(), Some(0), "")
    );
    assert_eq!(session["late"], 1, "{session}");

    let (env, status, said, session) = written("reject");
    let kept = [all[0], all[1], all[3], all[4]];
    assert_eq!((rows(&env), status), (kept.map(str::to_owned).into(), Some(1)));
    assert!(said.contains("stdin:3:1: rejected: older than a record before it"), "{said}");
    assert_eq!(session["rejected"], 1, "{session}");
    let reject = fs::read_to_string(env.path("rejects")).unwrap();
    let reject: Value = serde_json::from_str(&reject).unwrap();
    assert_eq!((&reject["line"], &reject["file"]), (&3.into(), &"stdin".into()));
    assert_eq!(reject["text"], "3,3", "the row can be found again");
}

#[test]
fn late_rows_keep_their_order_of_arrival() {
    let texts = |args: &[&str], input: &[u8]| -> Vec<String> {
        let env = store("--order reject");
        let args = [&["trades", "--rejects", "rejects"], args].concat();
        assert_eq!(run(&env, "dw-write", &args, input).status.code(), Some(1));
        let kept = fs::read_to_string(env.path("rejects")).unwrap();
        let kept = kept.lines().map(|line| serde_json::from_str(line).unwrap());
        kept.map(|row: Value| format!("{} {}", row["line"], row["text"].as_str().unwrap()))
            .collect()
    };
    let csv = "\u{feff}ts,price\r\n9,1\r\n\r\n2,2\r\nx,3\r\n3,3\r\n9,9\r\n4,4\r\n";
    assert_eq!(texts(&[], csv.as_bytes()), ["4 2,2", "5 x,3", "6 3,3", "8 4,4"]);
    let json = "{\"ts\":9,\"price\":1}\n{\"ts\":2,\"price\":2}\n[9,1]\n[3,3]\n";
    assert_eq!(texts(&[], json.as_bytes()), ["2 {\"ts\":2,\"price\":2}", "4 [3,3]"]);
    let changes = "{\"t\":9,\"c\":[[1]]}\n{\"t\":2,\"c\":[[1],[2]]}\n";
    let args = ["--explode", "/c", "--map", "ts=/t", "--map", "price=./0"];
    let late = "2 {\"t\":2,\"c\":[[1],[2]]}";
    assert_eq!(texts(&args[..], changes.as_bytes()), [late, late]);
    let record = |ts: u8| [&[ts, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
    let raw = [record(9), record(65)].concat();
    let kept = texts(&["--format", "raw"], &[raw, record(66), record(64)].concat());
    assert_eq!(kept, [format!("4 {}", text(&record(64)))]);
    // Send many late rows in one read. The scan for each must not start at the beginning.
    let many: String = (0..100_000).map(|i| format!("{},1\n", 100_000 - i)).collect();
    let kept = texts(&[], many.as_bytes());
    assert_eq!((kept.len(), kept.last().map(String::as_str)), (99_999, Some("100000 1,1")));
}

#[test]
fn a_chunk_ends_when_it_is_full() {
    let env = store("--chunk-size 64KiB");
    let mut writer = Running::start(&env, &["trades"]);
    // A record has 16 bytes, so 64 KiB hold 4096.
    let input: String = (0..10_000).map(|i| format!("{i},{i}\n")).collect();
    writer.send(&input);
    let chunks = || objects(&env, "dw-ls", &["--chunks", "--json"]);
    let found = until("three chunks", || {
        let chunks = chunks();
        let all = chunks.last().is_some_and(|last| last["seq_hi"] == 10_000);
        all.then_some(chunks)
    });
    assert!(found.len() >= 3, "{found:?}");
    for (chunk, next) in found.iter().zip(&found[1..]) {
        assert_eq!(chunk["seq_hi"], next["seq_lo"]);
        let bytes = chunk["records"].as_u64().unwrap() * 16;
        assert!((32 << 10..=64 << 10).contains(&bytes), "{chunk}");
    }
    until("the full chunks to be sealed", || {
        let chunks = chunks();
        let (_, sealed) = chunks.split_last().unwrap();
        sealed.iter().all(|chunk| chunk["ended"] == "full").then_some(())
    });
    assert_eq!(rows(&env).len(), 10_000);
    writer.finish();
    assert_eq!(chunks().last().unwrap()["ended"], "closed");
}

#[test]
fn a_chunk_ends_when_it_is_old() {
    let env = store("--chunk-age 1s");
    let mut writer = Running::start(&env, &["trades"]);
    let began = Instant::now();
    writer.send("1,1\n");
    until_rows(&env, &["1,1.0"]);
    let chunks = || objects(&env, "dw-ls", &["--chunks", "--json"]);
    let mut sent = 1;
    until("the first chunk to end by its age, at a row that comes after it", || {
        sent += 1;
        writer.send(&format!("{sent},{sent}\n"));
        chunks().first().is_some_and(|chunk| chunk["ended"] == "age").then_some(())
    });
    assert!(began.elapsed() >= Duration::from_secs(1), "not before its time");
    let found = until("the row that came after it", || {
        Some(chunks()).filter(|chunks| chunks.last().unwrap()["seq_hi"] == sent)
    });
    assert_eq!(found[0]["seq_hi"], found[1]["seq_lo"], "{found:?}");
    let count = found.len();
    writer.finish();
    assert_eq!(chunks().len(), count, "no chunk without records is left behind");
}

/// Returns the CPU time a process has used, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<u64> =
        after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    fields[11] + fields[12]
}

#[test]
fn a_waiting_writer_uses_almost_no_cpu() {
    let env = store("");
    let mut writer = Running::start(&env, &["trades", "--stats", "500ms", "--sync", "1s"]);
    writer.send("1,1\n");
    until_rows(&env, &["1,1.0"]);
    let (began, before) = (Instant::now(), ticks(writer.pid()));
    // The wait is what is measured: four lines of statistics take two seconds.
    let lines = writer.err().lines().count();
    until("four lines", || (writer.err().lines().count() >= lines + 4).then_some(()));
    let used = ticks(writer.pid()) - before;
    assert!(used < 5, "{used} ticks in {:?}", began.elapsed());
    writer.finish();
}
