//! Inputs without measure: how much of them is read, held and repeated.

use std::fs;
use std::process::Output;

use super::env::TestEnv;
use super::kit::text;

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
