//! Tests of `dw-mkfeed --update`: it changes what is named and nothing else.

use std::fs;

use super::env::TestEnv;
use super::kit::{objects, run, text};

fn policy(env: &TestEnv, key: &str) -> serde_json::Value {
    objects(env, "dw-ls", &["-l", "--json", "t"])[0]["spec"][key].clone()
}

#[test]
fn update_keeps_what_is_not_named() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp p:float64 --retention 30d --chunk-size 1MiB --mode 0600");
    let changed = "t: max-size: none -> 2GiB\n";
    for (fields, options, printed) in [
        ("ts:timestamp p:float64", "--max-size 2GiB", changed),
        ("", "--max-size 3GiB", "t: max-size: 2GiB -> 3GiB\n"),
        ("", "--max-size 3GiB", ""),
        ("", "", ""),
        ("", "--order clamp --sync 2s", "t: sync: 1000ms -> 2000ms\nt: order: accept -> clamp\n"),
    ] {
        assert_eq!(env.quiet(&format!("dw-mkfeed t {fields} --update {options}")), printed);
        assert_eq!(policy(&env, "retention_seconds"), 30 * 86_400);
        assert_eq!(policy(&env, "chunk_size_bytes"), 1 << 20);
        assert_eq!(policy(&env, "file_mode"), "0600");
    }
    assert_eq!(policy(&env, "max_size_bytes"), 3u64 << 30);
    // The same holds for a spec from a file.
    let spec = r#"{"feed_name": "t", "ts_col": "ts", "retention_hours": 48, "fields": [
        {"name": "ts", "type": "timestamp"}, {"name": "p", "type": "float64"}]}"#;
    fs::write(env.path("spec.json"), spec).unwrap();
    assert_eq!(env.quiet("dw-mkfeed --spec spec.json --update"), "t: retention: 30days -> 2days\n");
    assert_eq!(policy(&env, "max_size_bytes"), 3u64 << 30);
    assert_eq!(policy(&env, "order"), "clamp");
}

#[test]
fn update_of_the_layout_is_refused() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:timestamp p:float64 --retention 30d");
    for (args, why) in [
        (&["t", "--update", "--packed"][..], "keeps its layout"),
        (&["t", "--update", "--ring"][..], "stays what it is"),
        (&["u", "--update", "--max-size", "1GiB"][..], "no such feed"),
        (&["t", "ts:timestamp", "--update", "--max-size", "1GiB"][..], "keeps its layout"),
    ] {
        let output = run(&env, "dw-mkfeed", args, b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
    }
    assert_eq!(policy(&env, "max_size_bytes"), serde_json::Value::Null);
}
