//! Tests of command lines and the requests made from them.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use super::*;

fn request(words: &[&str]) -> Result<Request, String> {
    let args = parse_from(words.iter().copied()).map_err(|e| e.to_string())?;
    args.request().map_err(|e| crate::cli::exit::describe(&e))
}

#[track_caller]
fn one(words: &[&str]) -> FeedSpec {
    match request(words).unwrap() {
        Request::Create { mut specs, .. } if specs.len() == 1 => specs.remove(0),
        other => panic!("{other:?}"),
    }
}

fn spec_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

const SEED: &str = r#"{"feed_name": "ticks", "mode": "UF", "fields": [
    {"name": "ts", "type": "uint64"}, {"name": "px", "type": "float64"}],
    "ts_col": "ts", "chunk_size_mb": 1, "retention_hours": 24, "persist": true}"#;

#[test]
fn clap_accepts_the_command() {
    command().debug_assert();
}

#[test]
fn arguments_become_fields() {
    let words = ["trades", "ts:timestamp", "price:decimal64.8", "a:b:char", "_4", "_:_2", ":_1"];
    let spec = one(&words);
    assert_eq!(spec.feed_name, "trades");
    assert_eq!(spec.ts_col, "ts");
    let fields: Vec<(&str, FieldType)> =
        spec.fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
    let pad = |n| ("", FieldType::Pad(n));
    assert_eq!(
        fields,
        [
            ("ts", FieldType::Timestamp),
            ("price", FieldType::Decimal64(8)),
            ("a:b", FieldType::Char),
            pad(4),
            pad(2),
            pad(1),
        ]
    );
    assert_eq!(spec.policy, Policy::default());
    // With --feed, the first word is a field. Padding and fields are never taken for the feed's
    // name.
    assert_eq!(one(&["--feed", "t", "ts:timestamp"]).fields.len(), 1);
    assert_eq!(one(&["--feed", "t", "_8", "ts:timestamp"]).fields.len(), 2);
}

#[test]
fn time_column_is_found_or_given() {
    assert_eq!(one(&["t", "a:uint64", "b:timestamp"]).ts_col, "b");
    assert_eq!(one(&["t", "a:uint64", "ts:uint64"]).ts_col, "ts");
    assert_eq!(one(&["t", "a:uint64", "b:timestamp", "--ts", "a"]).ts_col, "a");
    let error = request(&["t", "latency_us:uint64", "px:float64"]).unwrap_err();
    assert!(error.contains("--ts FIELD"), "{error}");
    let error = request(&["t", "ts:timestamp", "--ts", "nope"]).unwrap_err();
    assert!(error.contains("\"nope\" is not among the fields"), "{error}");
}

#[test]
fn options_set_the_policy() {
    let words = "t ts:timestamp --chunk-size 1MiB --chunk-age 1h --retention 30d --max-size 10GB \
                 --sync 250ms --order clamp --live no --mode 0600 --packed --time-unit ns";
    let spec = one(&words.split_whitespace().collect::<Vec<_>>());
    let expected = Policy {
        chunk_size_bytes: 1 << 20,
        chunk_age_seconds: Some(3600),
        retention_seconds: Some(30 * 86_400),
        max_size_bytes: Some(10_000_000_000),
        sync: Sync::Every(std::time::Duration::from_millis(250)),
        order: Order::Clamp,
        live: false,
        file_mode: 0o600,
        ..Policy::default()
    };
    assert_eq!(spec.policy, expected);
    assert!(spec.packed);
    assert_eq!(spec.time_unit, TimeUnit::Nanos);
}

#[test]
fn options_override_specs_from_a_file() {
    let file = spec_file(SEED);
    let path = file.path().to_str().unwrap();
    let spec = one(&["--spec", path]);
    assert_eq!(spec.policy.retention_seconds, Some(86_400));
    let spec = one(&["ticks", "--spec", path, "--retention", "forever", "--max-size", "1GiB"]);
    assert_eq!(spec.policy.retention_seconds, None);
    assert_eq!(spec.policy.max_size_bytes, Some(1 << 30));
    assert_eq!(spec.policy.chunk_size_bytes, 1 << 20);
    let error = request(&["other", "--spec", path]).unwrap_err();
    assert!(error.contains("\"ticks\"") && error.contains("\"other\""), "{error}");
    let error = request(&["ticks", "px:float64", "--spec", path]).unwrap_err();
    assert!(error.contains("not both"), "{error}");
    let list =
        spec_file(&format!("\u{feff}{{\"feeds\": [{SEED}, {}]}}", SEED.replace("ticks", "b")));
    let many = request(&["--spec", list.path().to_str().unwrap(), "--update", "--dry-run"]);
    assert!(matches!(
        many.unwrap(),
        Request::Create { specs, update: true, dry_run: true, .. } if specs.len() == 2
    ));
    let twice = spec_file(&format!("[{SEED}, {SEED}]"));
    let error = request(&["--spec", twice.path().to_str().unwrap()]).unwrap_err();
    assert!(error.contains("two specs are named \"ticks\""), "{error}");
}

#[test]
fn delete_and_infer_make_their_requests() {
    let found = request(&["--delete", "a", "b", "a", "--yes"]).unwrap();
    assert!(matches!(found, Request::Delete { feeds, yes: true } if feeds == ["a", "b"]));
    let found = request(&["--delete", "--feed", "a"]).unwrap();
    assert!(matches!(found, Request::Delete { feeds, yes: false } if feeds == ["a"]));
    let found = request(&["t", "--infer", "--ts", "T", "--dry-run", "--retention", "1d"]).unwrap();
    let Request::Infer { choices, policy, dry_run, .. } = found else { panic!("{found:?}") };
    assert_eq!((choices.feed.as_str(), choices.ts.as_deref(), dry_run), ("t", Some("T"), true));
    assert_eq!(policy.retention, Some(Limit::Of(86_400)));
}

#[test]
fn invalid_command_lines_are_rejected_with_a_reason() {
    let table: &[(&str, &str)] = &[
        ("", "no feed is named"),
        ("trades", "of which fields?"),
        ("ts:timestamp", "no feed is named"),
        ("-x", "unexpected argument"),
        ("/etc ts:timestamp", "feed name"),
        ("t ts:timestamp price", "\"price\" is no field"),
        ("t ts:timestamp price:flot64", "unknown type \"flot64\""),
        ("t ts:timestamp price:decimal64.19", "0 to 18"),
        ("t ts:timestamp :char", "a name comes first"),
        ("t ts:timestamp pad:_4", "padding has no name"),
        ("t ts:timestamp ts:char", "two fields"),
        ("t ts:timestamp _seq:char", "reserved"),
        ("t ts:int64 --ts ts", "uint64 or timestamp"),
        ("t ts:timestamp --chunk-size 1KiB", "64KiB"),
        ("t ts:timestamp --chunk-size 64M", "MiB or MB"),
        ("t ts:timestamp --retention 1M", "no fixed length"),
        ("t ts:timestamp --retention 0s", "or forever"),
        ("t ts:timestamp --max-size 0", "none"),
        ("t ts:timestamp --sync 10us", "milliseconds"),
        ("t ts:timestamp --sync sometimes", "or none, or batch"),
        ("t ts:timestamp --order sorted", "accept, reject or clamp"),
        ("t ts:timestamp --live maybe", "--live"),
        ("t ts:timestamp --mode 0777", "octal"),
        ("t ts:timestamp --time-unit ms", "us or ns"),
        ("t ts:timestamp --yes", "--delete"),
        ("--delete", "which feeds"),
        ("--delete a/b", "feed name"),
        ("--delete a --retention 1d", "cannot be used"),
        ("--delete a --infer", "cannot be used"),
        ("--infer", "needs the feed's name"),
        ("t --infer px:char", "come from the sample"),
        ("--spec /nonexistent/spec.json", "cannot read /nonexistent/spec.json: No such file"),
    ];
    for (line, why) in table {
        let error = request(&line.split_whitespace().collect::<Vec<_>>()).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
    }
}
