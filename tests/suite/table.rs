//! A table that has lost entries, or is an older one, costs no record: every tool says so, nothing
//! is deleted and no seq used again, and dw-repair brings all of it back.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::env::TestEnv;
use super::kit::{run, text};

const RECORDS: u64 = 50_000;

/// Rows `from..to` of a feed of two integers.
fn rows(from: u64, to: u64) -> Vec<u8> {
    (from..to).flat_map(|i| [1_700_000_000_000_000 + i, i + 1]).flat_map(u64::to_le_bytes).collect()
}

/// A feed `t` of small chunks, written in sessions of 10,000 records.
fn store(policy: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    let args = [&["t", "ts:uint64", "n:uint64", "--chunk-size", "64KiB"], policy].concat();
    assert!(run(&env, "dw-mkfeed", &args, b"").status.success());
    for i in 0..RECORDS / 10_000 {
        write(&env, i * 10_000, (i + 1) * 10_000);
    }
    env
}

fn write(env: &TestEnv, from: u64, to: u64) {
    let done = run(env, "dw-write", &["t", "--format", "raw"], &rows(from, to));
    assert!(done.status.success(), "{}", text(&done.stderr));
}

fn table(env: &TestEnv) -> PathBuf {
    env.base().join("feeds/t/feed_registry.bin")
}

/// The records that dw-cat prints, and its exit code.
fn cat(env: &TestEnv) -> (Vec<u8>, i32) {
    let got = run(env, "dw-cat", &["t", "-o", "raw"], b"");
    (got.stdout, got.status.code().expect("a code"))
}

/// What every tool makes of a damaged table, and that a repair brings these records back.
fn refused_and_repaired(env: &TestEnv, whole: &[u8], what: &str) {
    let data = || {
        let listing = fs::read_dir(env.base().join("feeds/t")).unwrap().flatten();
        listing.filter(|item| item.path().extension().is_some_and(|e| e == "data")).count()
    };
    let before = data();
    let (_, code) = cat(env);
    assert_ne!(code, 0, "{what}: dw-cat");
    let done = run(env, "dw-write", &["t", "--format", "raw"], &rows(RECORDS, RECORDS + 1));
    assert_eq!(done.status.code(), Some(2), "{what}: dw-write: {}", text(&done.stderr));
    assert!(text(&done.stderr).contains("dw-repair"), "{what}: {}", text(&done.stderr));
    run(env, "dw-gc", &[], b"");
    assert_eq!(data(), before, "{what}: chunks were removed");
    let done = run(env, "dw-repair", &["--all"], b"");
    assert!(done.status.success(), "{what}: {}{}", text(&done.stdout), text(&done.stderr));
    let (got, code) = cat(env);
    assert!(code == 0 && got == whole, "{what}: exit {code}, {} bytes repaired", got.len());
    let again = run(env, "dw-repair", &["--all", "--dry-run"], b"");
    assert!(again.status.success(), "{what}: again: {}", text(&again.stdout));
    write(env, RECORDS, RECORDS + 1);
    let (got, code) = cat(env);
    let after = [whole, &rows(RECORDS, RECORDS + 1)].concat();
    assert!(code == 0 && got == after, "{what}: written on, exit {code}");
}

fn zero(env: &TestEnv, at: u64, len: usize) {
    let file = fs::OpenOptions::new().write(true).open(table(env)).unwrap();
    file.write_all_at(&vec![0; len], at).unwrap();
}

/// Makes every live page one of another boot.
fn reboot(env: &TestEnv) {
    let live = env.base().join("feeds/t/live");
    let copy = fs::read(&live).unwrap();
    fs::remove_file(&live).unwrap();
    fs::write(&live, copy).unwrap();
}

#[test]
fn a_zeroed_word_of_any_entry_costs_no_record() {
    for collected in [false, true] {
        for rebooted in [false, true] {
            let size = if collected { "600KiB" } else { "64MiB" };
            let env = store(&["--max-size", size]);
            run(&env, "dw-gc", &[], b"");
            let (whole, code) = cat(&env);
            assert_eq!((code, whole.len() < 16 * RECORDS as usize), (0, collected));
            let sound = fs::read(table(&env)).unwrap();
            let word = |at: usize| u64::from_le_bytes(sound[at..at + 8].try_into().unwrap());
            let guarded = |at: usize| word(at) & ((1 << 48) - 1);
            let (count, first) = (guarded(512), guarded(520));
            assert_eq!(first > 0, collected);
            for position in [first, first + 3, (first + count) / 2, count - 2, count - 1] {
                let fresh = TestEnv::new();
                super::sample::copy(&env.base(), &fresh.base());
                if rebooted {
                    reboot(&fresh);
                }
                zero(&fresh, 4096 + position * 128 + 112, 8);
                let what = format!("entry {position} of {first}..{count}, rebooted {rebooted}");
                refused_and_repaired(&fresh, &whole, &what);
            }
        }
    }
}

#[test]
fn zeroed_sectors_of_the_table_cost_no_record() {
    let env = store(&[]);
    let (whole, _) = cat(&env);
    for (first, last) in [(4, 11), (8, 8), (8, 11), (10, 30), (4, 5), (4, 127), (1, 1)] {
        for rebooted in [false, true] {
            let fresh = TestEnv::new();
            super::sample::copy(&env.base(), &fresh.base());
            if rebooted {
                reboot(&fresh);
            }
            zero(&fresh, first * 512, ((last - first + 1) * 512) as usize);
            let done = run(&fresh, "dw-repair", &["--all"], b"");
            let (got, code) = cat(&fresh);
            let what = format!("sectors {first} to {last}: {}", text(&done.stdout));
            assert!(code == 0 && got == whole, "{what}: {} bytes", got.len());
            write(&fresh, RECORDS, RECORDS + 1);
            let (got, code) = cat(&fresh);
            assert!(code == 0 && got.len() == whole.len() + 16, "{what}: written on");
        }
    }
}

#[test]
fn an_older_table_beside_newer_chunks_costs_no_record() {
    for rebooted in [false, true] {
        let env = store(&[]);
        let older = fs::read(table(&env)).unwrap();
        write(&env, RECORDS, 2 * RECORDS);
        let (whole, _) = cat(&env);
        fs::write(table(&env), older).unwrap();
        if rebooted {
            reboot(&env);
        }
        let what = format!("rebooted {rebooted}");
        let done = run(&env, "dw-write", &["t", "--format", "raw"], &rows(0, 1));
        assert_eq!(done.status.code(), Some(2), "{what}: {}", text(&done.stderr));
        let (got, code) = cat(&env);
        assert!(code == 1 || got == whole, "{what}: dw-cat exits {code} with {}", got.len());
        let done = run(&env, "dw-repair", &["--all"], b"");
        assert!(done.status.success(), "{what}: {}", text(&done.stdout));
        let (got, code) = cat(&env);
        assert!(code == 0 && got == whole, "{what}: {} bytes repaired", got.len());
    }
}
