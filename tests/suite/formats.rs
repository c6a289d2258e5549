//! Stores that older versions wrote: they open, read, repair and take rows.

use std::fs;
use std::process::Command;

use super::env::{TestEnv, repository};
use super::kit::text;

const FEEDS: [&str; 3] = ["damaged", "hole", "types"];

/// The fixture's store as the test's own, and what is expected of its feeds.
fn unpacked() -> (TestEnv, impl Fn(&str) -> String) {
    let env = TestEnv::new();
    let archive = repository("tests/data/format-1.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(env.path("")).status();
    assert!(status.expect("tar runs").success());
    fs::rename(env.path("format-1/store"), env.base()).expect("the base is not there yet");
    let expected = env.path("format-1/expected");
    let of = move |name: &str| {
        fs::read_to_string(expected.join(format!("{name}.jsonl"))).expect("a file of the fixture")
    };
    (env, of)
}

/// The lines of records outside of the damaged block.
fn outside(all: &str, block: std::ops::Range<usize>) -> String {
    let kept = all.lines().enumerate().filter(|(seq, _)| !block.contains(seq));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

#[test]
fn a_store_of_format_1_reads_as_its_writers_left_it() {
    let (env, expected) = unpacked();
    for feed in ["hole", "types"] {
        assert_eq!(env.quiet(&format!("dw-cat {feed} --with-seq")), expected(feed), "{feed}");
    }
    let marked = env.quiet("dw-cat types --playback --since @1700000001 --with-seq");
    assert_eq!(marked, expected("playback"));
    let range = env.quiet("dw-cat types --since @1700000001 --until @1700000002 --with-seq");
    let second = |line: &&str| line.contains("\"ts\":1700000001");
    let wanted: Vec<_> = expected("types").lines().filter(second).map(str::to_owned).collect();
    assert_eq!(range.lines().collect::<Vec<_>>(), wanted);
    assert!(wanted.len() >= 2, "late rows among them");

    let output = env.sh("dw-cat damaged --with-seq");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("seq 4096..8192"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), outside(&expected("damaged"), 4096..8192));
}

#[test]
fn a_store_of_format_1_is_repaired_and_takes_rows() {
    let (env, expected) = unpacked();
    let output = env.sh("dw-repair --all --dry-run");
    let found = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert!(
        found.lines().count() == 1 && found.starts_with("damaged: chunk 1: block 1"),
        "{found}"
    );
    assert_eq!(env.sh("dw-repair --all").status.code(), Some(1), "records are lost");
    assert_eq!(env.quiet("dw-repair --all --dry-run"), "", "a second run finds nothing");

    let wanted = outside(&expected("damaged"), 4096..8192);
    assert_eq!(env.quiet("dw-cat damaged --with-seq"), wanted);
    for feed in FEEDS {
        let before = env.quiet(&format!("dw-cat {feed} --with-seq"));
        env.quiet(&format!("dw-cat {feed} -n 1 -o raw | dw-write {feed} --format raw"));
        let after = env.quiet(&format!("dw-cat {feed} --with-seq"));
        let (seq, row) = before.lines().last().and_then(|l| l.split_once(',')).expect("a row");
        let next = seq.trim_start_matches("{\"_seq\":").parse::<u64>().expect("a seq") + 1;
        assert_eq!(after, format!("{before}{{\"_seq\":{next},{row}\n"), "{feed}");
    }
    assert_eq!(env.quiet("dw-repair --all --dry-run"), "");
    env.quiet("dw-gc");
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let (env, _) = unpacked();
    let manifest = env.base().join("manifest.json");
    let text_of = fs::read_to_string(&manifest).expect("the manifest");
    let newer = text_of.replace("\"format_version\":1", "\"format_version\":2");
    let newer = newer.replace("\"format_version\": 1", "\"format_version\": 2");
    assert_ne!(newer, text_of);
    fs::write(&manifest, newer).expect("it is ours");
    for command in ["dw-cat types", "dw-ls", "dw-gc", "dw-repair --all", "dw-write types"] {
        let output = env.sh(&format!("{command} </dev/null"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("format version 2"), "{command}: {said}");
    }
    let health = env.sh("dw-health");
    let said = text(&health.stdout);
    assert_eq!(health.status.code(), Some(1), "{said}");
    assert!(said.contains("format version 2"), "{said}");
}
