//! Tests of backups by rsync: two passes, the second with the writer stopped, make an exact copy.

use std::env;
use std::path::Path;
use std::process::Command;

use super::env::TestEnv;
use super::kit::{Running, not_run, run, text, until};

/// Returns rows `from..to` of the feed `t`.
fn rows(from: u64, to: u64) -> String {
    (from..to).map(|i| format!("{},{i}\n", 1_700_000_000_000_000 + i)).collect()
}

/// Runs a tool that must succeed without any stderr, on the store at `base`, and returns its
/// stdout.
fn good(env: &TestEnv, base: &Path, tool: &str, args: &[&str], input: &str) -> String {
    let base = base.to_str().expect("UTF-8");
    let output = run(env, tool, &[&["-b", base], args].concat(), input.as_bytes());
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{tool} {args:?}: {said}{out}");
    out
}

fn records(env: &TestEnv, base: &Path) -> String {
    good(env, base, "dw-cat", &["t", "-o", "csv", "--with-seq"], "")
}

fn pass(base: &Path, copy: &Path) {
    let mut command = Command::new("rsync");
    command.args(["-a", "--delete", "--modify-window=-1"]);
    let output = command.arg(base.join(".")).arg(copy).output().expect("rsync starts");
    // 24 means that files vanished during the copy, as prepared chunks do.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 24)), "{code:?}: {}", text(&output.stderr));
}

/// Backs up a store in `folder` that is written during the first pass. The second makes an exact
/// copy.
fn two_passes(env: &TestEnv, folder: &Path, stage: &str, rows_between: u64) {
    let (base, copy) = (folder.join("store"), folder.join("copy"));
    let fields = ["t", "ts:uint64", "n:uint64", "--chunk-size", "64KiB", "--stage", stage];
    let made = run(env, "dw-mkfeed", &[&["-b", base.to_str().unwrap()], &fields[..]].concat(), b"");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let named = ["-b", base.to_str().unwrap(), "t", "--columns", "ts,n"];
    let mut writer = Running::start(env, &named);
    writer.send(&rows(0, 10_000));
    let newest = ["-b", base.to_str().unwrap(), "t", "-n", "1", "-o", "csv", "--no-header"];
    until("the rows", || {
        let shown = text(&run(env, "dw-cat", &newest, b"").stdout);
        shown.trim_end().ends_with(",9999").then_some(())
    });
    pass(&base, &copy);
    writer.send(&rows(10_000, 10_000 + rows_between));
    writer.finish();
    pass(&base, &copy);
    let all = records(env, &base);
    assert_eq!(all.lines().count() as u64, 10_001 + rows_between);
    assert!(records(env, &copy) == all, "the copy has other records");
    good(env, &copy, "dw-repair", &["t", "--dry-run"], "");
    // A later backup is made the same way, and the copy is a store like any other.
    good(env, &base, "dw-write", &["t", "--columns", "ts,n"], &rows(20_000, 20_001));
    pass(&base, &copy);
    assert!(records(env, &copy) == records(env, &base), "the copy has other records");
    good(env, &copy, "dw-repair", &["t", "--dry-run"], "");
    good(env, &copy, "dw-write", &["t", "--columns", "ts,n"], &rows(20_001, 20_002));
}

/// `DEEPWATER_RSYNC_RUNS` sets the number of runs.
#[test]
fn two_passes_of_rsync_make_an_exact_copy() {
    if Command::new("rsync").arg("--version").output().is_err() {
        not_run("backups by rsync (rsync is not installed)");
        return;
    }
    let runs = env::var("DEEPWATER_RSYNC_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    for turn in 0..runs {
        let env = TestEnv::new();
        for place in [env.path("."), env.shm().to_owned()] {
            for (at, rows_between) in [1, 100 + 37 * turn, 9_000].into_iter().enumerate() {
                for stage in ["disk", "shm"] {
                    let folder = place.join(format!("{stage}-{at}"));
                    std::fs::create_dir(&folder).unwrap();
                    two_passes(&env, &folder, stage, rows_between);
                }
            }
        }
    }
}
