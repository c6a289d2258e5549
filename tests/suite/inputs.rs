//! Inputs without measure: how much of them is read, held and repeated.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use super::env::TestEnv;
use super::kit::{Running, not_run, objects, text, until};

/// Address space that is enough for a tool, and not for the inputs of these tests.
const ROOM: &str = "ulimit -v 1500000";

/// Runs a script in little memory; what it said is short.
#[track_caller]
fn in_little_room(env: &TestEnv, script: &str) -> (Output, String) {
    let output = env.bash(&format!("set +e +o pipefail\n{ROOM}\n{script}")).output();
    let output = output.expect("bash starts");
    let said = text(&output.stderr);
    assert!(said.len() < 10_000, "{script}: {} bytes of messages", said.len());
    assert!(!said.contains("panicked") && !said.contains("memory allocation"), "{said}");
    (output, said)
}

#[test]
fn a_spec_without_end_is_refused() {
    let env = TestEnv::new();
    for source in ["/dev/zero", "- </dev/zero"] {
        let (output, said) = in_little_room(&env, &format!("dw-mkfeed --spec {source}"));
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("more than 16MiB"), "{said}");
    }
}

#[test]
fn long_names_and_values_are_shortened_in_messages() {
    let env = TestEnv::new();
    let long = "x".repeat(8 << 20);
    let field = |name: &str, kind: &str| {
        format!(
            r#"{{"feed_name": "t", "ts_col": "ts", "fields": [
            {{"name": "ts", "type": "uint64"}}, {{"name": "{name}", "type": "{kind}"}}]}}"#
        )
    };
    for spec in [
        field(&long, "uint8"),
        field("a", &long),
        field("a", "uint8").replace("\"t\"", &format!("\"{long}\"")),
        field("a", "uint8").replace("\"ts_col\"", &format!("\"{long}\"")),
        field("a", "uint8\", \"desc\": \"").replace("desc\": \"", &format!("desc\": \"{long}")),
    ] {
        fs::write(env.path("spec.json"), spec).unwrap();
        let (output, said) = in_little_room(&env, "dw-mkfeed --spec spec.json");
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
}

#[test]
fn numbers_beyond_what_can_be_are_refused_by_name() {
    let env = TestEnv::new();
    for (key, value, why) in [
        ("retention_hours", "1e300", "retention: the most is 1000 years"),
        ("retention_hours", "1e-9", "the least is a second"),
        ("retention_seconds", "18446744073709551615", "retention: the most is 1000 years"),
        ("chunk_age_seconds", "18446744073709551615", "chunk age: the most is 1000 years"),
        ("live_window_seconds", "18446744073709551615", "live window: the most is 1000 years"),
        ("max_size_bytes", "18446744073709551615", "max size: the most is"),
        ("sync", "\"99999999999ms\"", "sync: a day at most"),
        ("chunk_size_mb", "1e300", "chunks are 64KiB to 16GiB"),
    ] {
        let spec = format!(
            r#"{{"feed_name": "t", "ts_col": "ts", "{key}": {value},
            "fields": [{{"name": "ts", "type": "uint64"}}]}}"#
        );
        fs::write(env.path("spec.json"), spec).unwrap();
        let (output, said) = in_little_room(&env, "dw-mkfeed --spec spec.json");
        assert_eq!(output.status.code(), Some(2), "{key} {value}: {said}");
        assert!(said.contains(why), "{key}: {said}");
    }
    for option in ["--retention 500000d", "--chunk-age 500000d", "--max-size 9000000TiB"] {
        let (output, said) = in_little_room(&env, &format!("dw-mkfeed t ts:timestamp {option}"));
        assert_eq!(output.status.code(), Some(2), "{option}: {said}");
        assert!(said.contains("the most is"), "{option}: {said}");
    }
}

/// Text of 200 MB without an end, longer than any line may be.
const ENDLESS: &str = "head -c 200000000 /dev/zero | tr '\\0' x";

#[test]
fn a_line_without_end_is_a_rejected_row() {
    for (format, first, begin, last) in [
        ("csv", "1,a", "", "2,b"),
        ("csv", "1,a", "9,\\\"", "2,b"),
        ("csv", "1,a", "9,\\\"y\\n", "2,b"),
        ("tsv", "1\\ta", "", "2\\tb"),
        (
            "jsonl",
            r#"{\"ts\":1,\"s\":\"a\"}"#,
            r#"{\"ts\":9,\"s\":\""#,
            r#"{\"ts\":2,\"s\":\"b\"}"#,
        ),
    ] {
        let env = TestEnv::new();
        env.quiet("dw-mkfeed t ts:timestamp s:string4");
        let columns = if format == "jsonl" { "" } else { "--columns ts,s" };
        let script = format!(
            "ulimit -v 500000
             {{ printf \"{first}\\n{begin}\"; {ENDLESS}; printf \"\\n{last}\\n\\$\\n\"; }} |
             dw-write t --format {format} {columns} --rejects rejects"
        );
        let (output, said) = in_little_room(&env, &script);
        assert_eq!(output.status.code(), Some(1), "{script}: {said}");
        let seconds = env.quiet("dw-cat t -o csv --no-header");
        assert_eq!(seconds, "1,a\n2,b\n", "{script}");
        let rejects = fs::read_to_string(env.path("rejects")).expect("rejects");
        let rejects: Vec<serde_json::Value> =
            rejects.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let line = |n: usize| rejects[n]["line"].as_u64().expect("a line");
        let reason = |n: usize| rejects[n]["reason"].as_str().expect("a reason");
        assert_eq!(line(0), 2, "{said}");
        let shown = rejects[rejects.len() - 2]["text"].as_str().expect("a text");
        assert!((60_000..70_000).contains(&shown.len()), "{} bytes are shown", shown.len());
        if begin.contains("y") {
            // The line with the quote, then that without an end.
            assert!(reason(0).contains("never closed"), "{said}");
            assert_eq!((line(1), line(2), rejects.len()), (3, 5, 3), "{said}");
        } else {
            assert!(reason(0).contains("more than 64 MiB"), "{said}");
            assert_eq!((line(1), rejects.len()), (4, 2), "lines are counted on: {said}");
        }
    }
}

#[test]
fn a_json_line_of_millions_of_values_is_a_rejected_row() {
    for (begin, unit, options) in [
        (r#"{\"ts\":9,\"n\":9,\"more\":["#, "1", ""),
        (r#"{\"ts\":9,\"n\":["#, "[1]", "--explode /n --map ts=/ts --map n=./0"),
    ] {
        let env = TestEnv::new();
        env.quiet("dw-mkfeed t ts:timestamp n:uint64");
        let (first, last) = match options {
            "" => (r#"{\"ts\":1,\"n\":1}"#, r#"{\"ts\":2,\"n\":2}"#),
            _ => (r#"{\"ts\":1,\"n\":[[1]]}"#, r#"{\"ts\":2,\"n\":[[2]]}"#),
        };
        // 60 MB, below the limit of a line.
        let many = format!("yes {unit}, | tr -d '\\n' | head -c 60000000");
        let script = format!(
            "ulimit -v 500000
             {{ printf \"{first}\\n{begin}\"; {many}; printf \"{unit}]}}\\n{last}\\n\"; }} |
             dw-write t {options} --rejects rejects"
        );
        let (output, said) = in_little_room(&env, &script);
        assert_eq!(output.status.code(), Some(1), "{options}: {said}");
        assert!(said.contains("stdin:2:") && said.contains("more than 1048576 values"), "{said}");
        assert_eq!(env.quiet("dw-cat t -o csv --no-header --fields n"), "1\n2\n", "{options}");
    }
}

#[test]
fn an_exploded_line_has_records_of_64_mebibytes_at_most() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp s:string16000");
    // 120 kB of input, 320 MB of records.
    let script = r#"ulimit -v 500000
        row() { printf '{"ts":%s,"a":[' $1; printf '["x"],%.0s' $(seq $2); printf '["y"]]}\n'; }
        { row 1 2; row 9 20000; row 2 1; } |
        dw-write t --explode /a --map ts=/ts --map s=./0"#;
    let (output, said) = in_little_room(&env, script);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stdin:2:") && said.contains("more than 64 MiB"), "{said}");
    let kept = env.quiet("dw-cat t -o csv --no-header");
    assert_eq!(kept.lines().count(), 5, "{kept}");
}

#[test]
fn an_input_that_is_one_long_line_is_no_row() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp s:string4");
    for options in ["", "--format csv", "--final-line accept"] {
        let script = format!("ulimit -v 500000; {ENDLESS} | dw-write t {options}");
        let (output, said) = in_little_room(&env, &script);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("stdin:1:1: rejected: a line of more than 64 MiB"), "{said}");
        assert_eq!(env.quiet("dw-cat t"), "");
    }
}

#[test]
fn a_range_that_ends_before_it_begins_is_a_mistake() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp n:uint64; printf '1,1\n2,2\n' | dw-write t --columns ts,n");
    for args in [
        "--since 2023-11-15 --until 2023-11-14 --tz UTC",
        "--since now --until -1h",
        "--since seq:8 --until seq:3",
        "--seq 8..3",
    ] {
        let output = env.sh(&format!("dw-cat t {args}"));
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args}: {said}");
        assert!(said.contains(" is after ") && said.contains("in between"), "{args}: {said}");
    }
    for args in [
        "--seq 1..1",
        "--since 2023-11-14 --until 2023-11-14 --tz UTC",
        "--since -1h --until last",
        "--since 2023-11-14 --until first --tz UTC",
    ] {
        assert_eq!(env.quiet(&format!("dw-cat t {args}")), "", "{args}: empty, and fine");
    }
}

#[test]
fn a_folder_is_no_cursor_file() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp; echo 1 | dw-write t --columns ts; mkdir place");
    let output = env.sh("dw-cat t --cursor-file place");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("place is a folder") && !said.contains("damaged"), "{said}");
}

#[test]
fn a_missing_list_of_feeds_can_be_made_again() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp; echo 1 | dw-write t --columns ts");
    fs::remove_file(env.base().join("registry.bin")).expect("a registry");
    for tool in ["dw-cat t", "dw-ls", "dw-gc", "dw-write t </dev/null", "dw-mkfeed x ts:timestamp"]
    {
        let output = env.sh(tool);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{tool}: {said}");
        assert!(said.contains("dw-repair --rebuild-registry"), "{tool}: {said}");
    }
    env.sh("dw-repair --rebuild-registry");
    assert_eq!(env.quiet("dw-cat t"), "{\"ts\":1}\n");
}

#[test]
fn files_that_may_not_be_read_are_not_damaged() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp; echo 1 | dw-write t --columns ts");
    // Root reads whatever the mode is.
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let is_root = env.quiet("id -u").trim() == "0";
    env.quiet("chmod 755 . store; chmod -R a+rX store");
    let run = |tool: &str, args: &[&str]| {
        let tool_path = assert_cmd::cargo::cargo_bin(tool);
        let mut command = match is_root {
            true => env.program("setpriv"),
            false => env.program(&tool_path),
        };
        if is_root {
            command.args(nobody).arg(&tool_path);
        }
        command.args(args).output().expect("it starts")
    };
    if run("dw-ls", &[]).status.code() != Some(0) {
        return not_run("files_that_may_not_be_read_are_not_damaged (no other user to be had)");
    }
    for file in ["feeds/t/feed.json", "feeds/t/feed_registry.bin", "registry.bin"] {
        env.quiet(&format!("chmod 000 store/{file}"));
        for (tool, args) in [
            ("dw-repair", &["--dry-run", "t"][..]),
            ("dw-repair", &["--dry-run", "--all"]),
            ("dw-repair", &["--dry-run", "--rebuild-registry"]),
            ("dw-cat", &["t"]),
            ("dw-ls", &[]),
        ] {
            if file.contains("feed_registry") && args.contains(&"--rebuild-registry") {
                continue;
            }
            let output = run(tool, args);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(said.contains("Permission denied"), "{tool} {args:?}, {file}: {said}");
            assert!(!said.contains("damaged") && !said.contains("made again"), "{said}");
            let code = output.status.code();
            assert!(code == Some(2) || tool == "dw-ls", "{tool} {args:?}, {file}: {code:?}");
        }
        env.quiet(&format!("chmod 644 store/{file}"));
    }
}

#[test]
fn the_rate_of_a_young_writer_is_over_its_own_time() {
    for _ in 0..3 {
        let env = TestEnv::new();
        env.quiet("dw-mkfeed t ts:timestamp");
        let began = Instant::now();
        let mut writer = Running::start(&env, &["t", "--columns", "ts"]);
        writer.send(&"1\n".repeat(10_000));
        let rate = until("the rows", || {
            let feed = &objects(&env, "dw-ls", &["--json", "t"])[0];
            (feed["records"] == 10_000).then(|| feed["rate"].as_f64().expect("a rate"))
        });
        let took = began.elapsed();
        writer.finish();
        // All came while it ran, in a second or more; a slow machine says nothing here.
        if took < Duration::from_secs(8) {
            let least = 10_000.0 / took.as_secs_f64().max(1.0);
            assert!(rate >= least * 0.99, "{rate} a second, after {took:?}");
            return;
        }
    }
    not_run("the_rate_of_a_young_writer_is_over_its_own_time (this machine is too slow)");
}
