//! Files of other users, links, and locks that somebody removes: nothing of the store's owner is
//! deleted, read in its place or lost by them.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use super::env::TestEnv;
use super::kit::{Running, good, run, text, until};

fn rows(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("{n}\n")).collect()
}

fn write(env: &TestEnv, feed: &str, from: u64, to: u64) {
    let args = [feed, "--columns", "ts"];
    let output = run(env, "dw-write", &args, rows(from, to).as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The times in a feed, one a line.
fn times(env: &TestEnv, feed: &str) -> String {
    good(env, "dw-cat", &[feed, "-o", "csv", "--no-header"])
}

fn feed(env: &TestEnv, name: &str, options: &[&str]) {
    let args = [&[name, "ts:uint64"], options].concat();
    assert!(run(env, "dw-mkfeed", &args, b"").status.success());
}

fn status(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_writer_whose_lock_file_is_removed_stays_the_only_one() {
    for options in [&[][..], &["--stage", "shm"], &["--ring"]] {
        let env = TestEnv::new();
        feed(&env, "t", options);
        let mut writer = Running::start(&env, &["t", "--columns", "ts"]);
        writer.send(&rows(0, 1000));
        until("the rows", || (times(&env, "t").lines().count() == 1000).then_some(()));
        let locks = env.base().join("locks");
        for make in [false, true] {
            fs::remove_dir_all(&locks).unwrap();
            fs::create_dir(&locks).unwrap();
            if make {
                // Somebody's attempt has made another lock file by now.
                let _ = run(&env, "dw-write", &["t", "--columns", "ts"], b"");
            }
            let tools: [&[&str]; 3] = [
                &["dw-write", "t", "--columns", "ts"],
                &["dw-repair", "t"],
                &["dw-mkfeed", "t", "--delete", "--yes"],
            ];
            for tool in tools {
                let (code, said) = status(&run(&env, tool[0], &tool[1..], b"9000\n"));
                assert_eq!(code, Some(2), "{options:?} {tool:?}: {said}");
                let pid = format!("written by process {}", writer.pid());
                assert!(said.contains(&pid), "{options:?} {tool:?}: {said}");
            }
            let listed = good(&env, "dw-ls", &["t", "--json"]);
            assert!(listed.contains(&format!("\"pid\":{}", writer.pid())), "{listed}");
        }
        writer.send(&rows(1000, 2000));
        writer.finish();
        assert_eq!(times(&env, "t"), rows(0, 2000), "{options:?}");
        write(&env, "t", 2000, 2001);
        assert_eq!(times(&env, "t"), rows(0, 2001), "{options:?}");
    }
}

#[test]
fn a_fifo_in_a_locks_place_is_an_error_and_no_wait() {
    let env = TestEnv::new();
    feed(&env, "t", &[]);
    write(&env, "t", 0, 10);
    let locks: Vec<PathBuf> =
        fs::read_dir(env.base().join("locks")).unwrap().map(|item| item.unwrap().path()).collect();
    let spoil = |env: &TestEnv| {
        for lock in &locks {
            fs::remove_file(lock).unwrap();
            env.quiet(&format!("mkfifo {}", lock.display()));
        }
    };
    spoil(&env);
    let tools: [(&str, i32); 7] = [
        ("dw-cat t", 0),
        ("dw-ls", 0),
        ("dw-health --min-free 1", 0),
        ("dw-write t --columns ts", 2),
        ("dw-mkfeed u ts:uint64", 2),
        ("dw-mkfeed t --delete --yes", 2),
        ("dw-repair --all --dry-run", 1),
    ];
    for (tool, wanted) in tools {
        let output = env.sh(&format!("echo 99 | timeout 10 {tool}"));
        let (code, said) = status(&output);
        assert_eq!(code, Some(wanted), "{tool}: {said}{}", text(&output.stdout));
        let named = said.contains("locks/") && said.contains("not a regular file");
        assert!(wanted != 2 || named, "{tool}: {said}");
    }
    let output = env.sh("timeout 10 dw-repair --all");
    assert_eq!(status(&output).0, Some(0), "{}", text(&output.stderr));
    write(&env, "t", 10, 20);
    assert_eq!(times(&env, "t"), rows(0, 20));
}
