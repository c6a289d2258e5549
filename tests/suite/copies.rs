//! Copies of a store that were made file by file while it was written, and what the tools make of
//! them: nothing that was not written is shown, and what is missing is named.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::env::TestEnv;
use super::kit::{Running, good, run, text, until};

/// Rows `from..to` of the feed `t`, raw: a time, and the row's number plus one.
fn rows(from: u64, to: u64) -> Vec<u8> {
    let row = |i: u64| [(1_700_000_000_000_000 + i).to_le_bytes(), (i + 1).to_le_bytes()].concat();
    (from..to).flat_map(row).collect()
}

/// Copies files over others of the same name, which keep their inodes.
fn put_back(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.expect("cp starts").success());
}

/// Waits until a writer has published so many records.
fn until_published(env: &TestEnv, count: u64) {
    until("published records", || {
        let listed = text(&run(env, "dw-cat", &["t", "-n", "1", "--with-seq"], b"").stdout);
        listed.contains(&format!("\"_seq\":{},", count - 1)).then_some(())
    });
}

#[test]
fn a_hot_copy_put_back_in_place_shows_no_row_that_was_never_written() {
    let env = TestEnv::new();
    good(&env, "dw-mkfeed", &["t", "ts:uint64", "n:uint64"]);
    let (feed, backup) = (env.base().join("feeds/t"), env.path("backup"));
    fs::create_dir(&backup).unwrap();
    let mut writer = Running::start(&env, &["t", "--format", "raw"]);
    writer.send_bytes(&rows(0, 10_000));
    until_published(&env, 10_000);
    until("two closed blocks", || {
        let index = fs::read(feed.join("00000001.idx")).unwrap();
        (index[4096 + 28] == 1 && index[4096 + 32 + 28] == 1).then_some(())
    });
    // The copy takes a while: the data first, the live page last.
    for name in ["00000001.data", "00000001.idx", "feed_registry.bin"] {
        fs::copy(feed.join(name), backup.join(name)).unwrap();
    }
    writer.send_bytes(&rows(10_000, 50_000));
    until_published(&env, 50_000);
    fs::copy(feed.join("live"), backup.join("live")).unwrap();
    writer.finish();
    for name in ["00000001.data", "00000001.idx"] {
        fs::remove_file(feed.join(name)).unwrap();
    }
    put_back(&backup, &feed);

    let invented = |output: &str| output.lines().filter(|line| line.ends_with(",0")).count();
    let seen = run(&env, "dw-cat", &["t", "-o", "csv"], b"");
    let (out, said) = (text(&seen.stdout), text(&seen.stderr));
    assert_eq!(invented(&out), 0, "rows that nobody wrote");
    assert_eq!(seen.status.code(), Some(1), "{said}");
    assert!(said.contains("left out seq") && said.contains("50000"), "{said}");
    let whole = out.lines().count() as u64 - 1;
    assert!(whole >= 8192, "the closed blocks prove themselves: {whole} rows");

    // It is damage: a writer does not seal over it.
    let refused = run(&env, "dw-write", &["t", "--columns", "ts,n"], b"1800000000000000,999\n");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert_eq!(run(&env, "dw-health", &["--min-free", "1MiB"], b"").status.code(), Some(1));
    assert_eq!(run(&env, "dw-repair", &["t"], b"").status.code(), Some(1));
    let kept = env.sh("find store/quarantine -name 00000001.data | wc -l");
    assert_eq!(text(&kept.stdout).trim(), "1", "the tail is kept");
    let again = run(&env, "dw-repair", &["t", "--dry-run"], b"");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stdout));
    let mut writer = env.cmd("dw-write");
    let wrote = writer.args(["t", "--columns", "ts,n"]).write_stdin("1800000000000000,999\n");
    wrote.assert().success();
    let out = good(&env, "dw-cat", &["t", "-o", "csv", "--with-seq"]);
    assert_eq!((invented(&out), out.lines().count() as u64), (0, whole + 2));
    let last = out.lines().last().expect("a row");
    let seq: u64 = last.split(',').next().and_then(|seq| seq.parse().ok()).expect("a seq");
    assert!(seq >= 50_000, "a seq was given out twice: {last}");
}

/// A copy of a store that a writer has at work, whose records are all synced but the last 100.
fn unfinished_copy(env: &TestEnv, synced: bool) -> TestEnv {
    good(env, "dw-mkfeed", &["t", "ts:uint64", "n:uint64", "--sync", "none"]);
    let mut writer = Running::start(env, &["t", "--format", "raw"]);
    writer.send_bytes(&rows(0, 8192));
    until_published(env, 8192);
    until("two closed blocks", || {
        let index = fs::read(env.base().join("feeds/t/00000001.idx")).unwrap();
        (index[4096 + 28] == 1 && index[4096 + 32 + 28] == 1).then_some(())
    });
    if !synced {
        writer.send_bytes(&rows(8192, 8292));
        until_published(env, 8292);
    }
    let copy = TestEnv::new();
    let copied = Command::new("cp").arg("-r").arg(env.base()).arg(copy.base()).status();
    assert!(copied.expect("cp starts").success());
    writer.finish();
    copy
}

#[test]
fn a_copy_of_an_unfinished_session_says_where_its_records_end() {
    let env = TestEnv::new();
    let copy = unfinished_copy(&env, false);
    let seen = run(&copy, "dw-cat", &["t", "-o", "csv", "--no-header"], b"");
    let said = text(&seen.stderr);
    assert_eq!(text(&seen.stdout).lines().count(), 8192, "{said}");
    assert_eq!(seen.status.code(), Some(1), "{said}");
    assert!(said.contains("below seq 8192") && said.contains("left out: seq 8192..8292"), "{said}");
    assert!(said.contains("dw-repair --dry-run t"), "{said}");

    // Where no file shows more it is no failure, and there is a line all the same.
    let env = TestEnv::new();
    let copy = unfinished_copy(&env, true);
    let seen = run(&copy, "dw-cat", &["t", "-o", "csv", "--no-header"], b"");
    let said = text(&seen.stderr);
    assert_eq!(text(&seen.stdout).lines().count(), 8192, "{said}");
    assert_eq!(seen.status.code(), Some(0), "{said}");
    assert!(said.contains("below seq 8192; no file shows more"), "{said}");
    // The next writer closes that session.
    run(&copy, "dw-write", &["t", "--columns", "ts,n"], b"");
    assert_eq!(good(&copy, "dw-cat", &["t", "-o", "csv", "--no-header"]).lines().count(), 8192);
}

#[test]
fn a_copy_that_lacks_files_of_chunks_is_refused_until_it_is_repaired() {
    for names in [&["00000002.data", "00000002.idx"][..], &["00000002.data"], &["00000002.idx"]] {
        let env = TestEnv::new();
        good(&env, "dw-mkfeed", &["t", "ts:uint64", "n:uint64", "--chunk-size", "64KiB"]);
        let write = |from, to| run(&env, "dw-write", &["t", "--format", "raw"], &rows(from, to));
        assert!(write(0, 20_000).status.success());
        // As rsync leaves them that were not there yet when it listed the folder.
        for name in names {
            fs::remove_file(env.base().join("feeds/t").join(name)).unwrap();
        }
        let table = fs::read(env.base().join("feeds/t/feed_registry.bin")).unwrap();
        let done = write(20_000, 20_001);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{names:?}: {said}");
        assert!(said.contains(names[0]) && said.contains("seq 4096..8192"), "{said}");
        assert!(said.contains("dw-repair"), "{said}");
        let now = fs::read(env.base().join("feeds/t/feed_registry.bin")).unwrap();
        assert!(now == table, "{names:?}: nothing was changed");
        let repaired = run(&env, "dw-repair", &["t"], b"");
        // Of an index alone everything can be made again.
        let lost = names[0].ends_with(".data");
        assert_eq!(repaired.status.code(), Some(i32::from(lost)), "{}", text(&repaired.stdout));
        assert!(write(20_000, 20_001).status.success(), "{names:?}");
        let left = good(&env, "dw-cat", &["t", "-o", "csv", "--no-header"]).lines().count();
        assert_eq!(left, if lost { 20_001 - 4096 } else { 20_001 }, "{names:?}");
    }
}

#[test]
fn an_older_live_page_does_not_hide_rows_that_are_on_disk() {
    let env = TestEnv::new();
    good(&env, "dw-mkfeed", &["t", "ts:uint64", "n:uint64"]);
    let page = env.base().join("feeds/t/live");
    let mut writer = Running::start(&env, &["t", "--format", "raw", "--sync", "batch"]);
    writer.send_bytes(&rows(0, 100));
    until_published(&env, 100);
    let older = fs::read(&page).unwrap();
    writer.send_bytes(&rows(100, 200));
    until_published(&env, 200);
    until("200 rows on disk", || {
        let table = fs::read(env.base().join("feeds/t/feed_registry.bin")).unwrap();
        let seq = |at: usize| u64::from_le_bytes(table[at + 32..at + 40].try_into().unwrap());
        (seq(2048).max(seq(2560)) == 200).then_some(())
    });
    writer.signal("KILL");
    writer.wait();
    // The disk comes back within the boot, without what the page said last.
    fs::write(&page, older).unwrap();
    let shown = |from: u64| {
        let seen = run(&env, "dw-cat", &["t", "-o", "csv", "--no-header"], b"");
        let lines = text(&seen.stdout).lines().count() as u64;
        assert_eq!(lines, from, "{}", text(&seen.stderr));
    };
    shown(200);
    let mut writer = env.cmd("dw-write");
    let wrote = writer.args(["t", "--columns", "ts,n"]).write_stdin("1800000000000000,999\n");
    wrote.assert().success();
    shown(201);
}
