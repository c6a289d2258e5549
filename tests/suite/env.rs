//! A temporary store for a test, and the real tools run on it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// Environment variables of the user that would change what a tool prints.
const OUTSIDE: &[&str] = &["TZ", "NO_COLOR", "TERM", "XDG_DATA_HOME", "COLUMNS", "LC_ALL", "LANG"];

/// A temporary directory with a store in it, removed on drop.
pub struct TestEnv {
    dir: TempDir,
    shm: TempDir,
}

impl TestEnv {
    /// Creates a directory without a store. dw-mkfeed creates that.
    pub fn new() -> TestEnv {
        let folder = |place: &Path| {
            let folder = tempfile::Builder::new().prefix("deepwater-test-").tempdir_in(place);
            folder.expect("a temporary folder")
        };
        TestEnv { dir: folder(&env::temp_dir()), shm: folder(Path::new("/dev/shm")) }
    }

    /// Returns the directory for the tools' shared memory, on the real tmpfs.
    pub fn shm(&self) -> &Path {
        self.shm.path()
    }

    /// Returns the path of the store, which exists once a feed was created.
    pub fn base(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Returns a path beside the store, in the directory in which commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns a command that runs a tool; add arguments to it.
    pub fn cmd(&self, tool: &str) -> Command {
        self.program(cargo_bin(tool))
    }

    /// Returns a command for any other program, in an environment where it finds the store and the
    /// tools.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.dress(&mut command);
        command
    }

    /// Returns a bash command that finds the tools by name, and fails if any part of a pipe does.
    pub fn bash(&self, script: &str) -> Command {
        let mut command = self.program("bash");
        command.arg("-c").arg(format!("set -euo pipefail\n{script}"));
        command
    }

    /// Runs a bash script to its end.
    pub fn sh(&self, script: &str) -> Output {
        self.bash(script).output().expect("bash starts")
    }

    /// Runs a bash script that must succeed without any stderr, and returns its stdout.
    pub fn quiet(&self, script: &str) -> String {
        let output = self.sh(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        assert!(status.success() && errors.is_empty(), "{status}\n{script}\nsaid: {errors}");
        String::from_utf8(output.stdout).expect("the tools print UTF-8")
    }

    fn dress(&self, command: &mut Command) {
        for name in OUTSIDE {
            command.env_remove(name);
        }
        command.env("DEEPWATER_BASE", self.base());
        command.env("DEEPWATER_SHM", self.shm());
        command.env("PATH", path_with_tools());
        command.current_dir(self.dir.path());
    }
}

/// Returns the directory of the tools, followed by the caller's PATH.
fn path_with_tools() -> OsString {
    let tools = cargo_bin("dw-cat").parent().map(Path::to_path_buf).expect("tools are in a folder");
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths([tools].into_iter().chain(env::split_paths(&rest))).expect("a PATH")
}

/// Returns the path of a file of this repository.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns the text of a file of this repository.
pub fn repository_text(name: &str) -> String {
    let path = repository(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the fenced block after a comment in one of the documents, unchanged.
pub fn document_block(comment: &str) -> String {
    let start = format!("<!-- {comment} -->\n```\n");
    let documents = ["README.md", "tools/GUIDE.md", "tools/OPERATIONS.md"].map(repository_text);
    let found = documents.iter().find_map(|text| text.split_once(&start));
    let (_, rest) = found.unwrap_or_else(|| panic!("no document has {start}"));
    rest.split_once("\n```\n").expect("the block ends").0.to_owned()
}

/// Returns the path of a file that is not in the repository, such as `data/x.csv.gz`, in
/// `$DEEPWATER_SHARED` or else in `shared` beside the repository. If it is missing, says so on
/// stderr, because a test that skips it must not look as if it had run.
pub fn shared(test: &str, name: &str) -> Option<PathBuf> {
    let named = env::var_os("DEEPWATER_SHARED").map(PathBuf::from);
    let places = [named, Some(repository("../shared"))];
    let found = places.into_iter().flatten().map(|place| place.join(name)).find(|p| p.exists());
    if found.is_none() {
        // Not eprintln, because the test harness captures that when the test passes.
        let mut stderr = std::io::stderr().lock();
        let why = format!("no ../shared/{name}; $DEEPWATER_SHARED may name the folder");
        writeln!(stderr, "NOT RUN: {test} ({why})").expect("stderr is open");
    }
    found
}
