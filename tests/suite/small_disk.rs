//! A small disk for a test: a tmpfs, if mounting is allowed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kit::not_run;

const UNSHARED: &str = "DEEPWATER_TEST_UNSHARED";

/// A small disk, unmounted on drop.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Creates a directory and mounts a disk there. Returns `None` if that is not allowed.
    pub fn mount(at: &Path, options: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).expect("a folder");
        mount(at, options).then(|| SmallDisk(at.to_owned()))
    }

    /// Changes the size, in bytes.
    pub fn resize(&self, bytes: u64) {
        assert!(mount(&self.0, &format!("remount,size={bytes}")), "{bytes} bytes");
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> u64 {
        let output = Command::new("stat").args(["-f", "-c", "%S %b %f"]).arg(&self.0).output();
        let text = String::from_utf8(output.expect("stat").stdout).expect("numbers");
        let numbers: Vec<u64> =
            text.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        numbers[0] * (numbers[1] - numbers[2])
    }
}

fn mount(at: &Path, options: &str) -> bool {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "none"])
        .arg(at)
        .stderr(Stdio::null())
        .status();
    mounted.is_ok_and(|status| status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Runs `body`, the test of that name, where it may mount: in this process, or else in a namespace
/// of its own. If neither is possible, says so on stderr.
pub fn where_one_may_mount(test: &str, body: impl FnOnce()) {
    let folder = tempfile::tempdir().expect("a folder");
    if SmallDisk::mount(&folder.path().join("disk"), "size=1m").is_some() {
        return body();
    }
    if std::env::var_os(UNSHARED).is_none() {
        let own = std::env::current_exe().expect("this test");
        let mut again = Command::new("unshare");
        again.arg("-rm").arg(own).args(["--exact", test, "--nocapture"]).env(UNSHARED, "1");
        if let Ok(output) = again.output() {
            let said = String::from_utf8_lossy(&output.stderr);
            let ran = String::from_utf8_lossy(&output.stdout).contains("test result");
            if ran && !said.contains("NOT RUN") {
                assert!(output.status.success(), "{said}");
                return;
            }
        }
    }
    not_run(&format!("{test} (no right to mount a small disk)"));
}
