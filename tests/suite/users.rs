//! Other users than the one that the tests run as, where the tests may become them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use super::env::TestEnv;
use super::kit::{not_run, text};

/// The owner of a store.
pub const OWNER: u32 = 1500;
/// Anybody else.
pub const OTHER: u32 = 65534;
/// Somebody in the owner's group.
pub const MEMBER: u32 = 1501;

/// Lets other users look into the test's folders, and make files in shared memory as in /dev/shm.
pub fn open_to_all(env: &TestEnv) {
    for (path, mode) in [(env.path("."), 0o755), (env.shm().to_owned(), 0o1777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Runs a script as another user; `None`, and said aloud, where that cannot be.
pub fn as_user(env: &TestEnv, user: u32, script: &str) -> Output {
    let mut command = env.program("setpriv");
    command.args(become_user(user));
    command.args(["bash", "-c"]).arg(format!("set -euo pipefail\n{script}"));
    command.output().expect("setpriv starts")
}

pub fn can_be_others(env: &TestEnv, test: &str) -> bool {
    open_to_all(env);
    let can = as_user(env, OTHER, "dw-cat --version");
    if !can.status.success() {
        not_run(&format!("{test} (cannot run dw-cat as another user)"));
    }
    can.status.success()
}

/// What setpriv is told to become a user.
pub fn become_user(user: u32) -> Vec<String> {
    let groups = if user == MEMBER { format!("--groups={OWNER}") } else { "--clear-groups".into() };
    vec![format!("--reuid={user}"), format!("--regid={user}"), groups]
}

/// Runs a tool in the store as its owner, which must succeed; what it printed.
pub fn owner(env: &TestEnv, script: &str) -> String {
    let output = as_user(env, OWNER, script);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    text(&output.stdout)
}
