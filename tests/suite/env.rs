//! A store of a test's own, and the real tools run on it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// What a user's environment may hold that changes what a tool says.
const OUTSIDE: &[&str] = &["TZ", "NO_COLOR", "TERM", "XDG_DATA_HOME", "COLUMNS", "LC_ALL", "LANG"];

/// A temporary folder with a store in it, gone when dropped.
pub struct TestEnv {
    dir: TempDir,
    shm: TempDir,
}

impl TestEnv {
    /// A folder without a store: dw-mkfeed makes it.
    pub fn new() -> TestEnv {
        let folder = |place: &Path| {
            let folder = tempfile::Builder::new().prefix("deepwater-test-").tempdir_in(place);
            folder.expect("a temporary folder")
        };
        TestEnv { dir: folder(&env::temp_dir()), shm: folder(Path::new("/dev/shm")) }
    }

    /// Where the tools have their shared memory: a folder on the real tmpfs.
    pub fn shm(&self) -> &Path {
        self.shm.path()
    }

    /// The store, which is there once a feed was made.
    pub fn base(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A path in the test's folder, beside the store; commands run in that folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A tool, to be given arguments and run.
    pub fn cmd(&self, tool: &str) -> Command {
        self.program(cargo_bin(tool))
    }

    /// Any other program, which finds the store and the tools as a tool does.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.dress(&mut command);
        command
    }

    /// A bash script that finds the tools by name; it fails if any part of a pipe does.
    pub fn bash(&self, script: &str) -> Command {
        let mut command = self.program("bash");
        command.arg("-c").arg(format!("set -euo pipefail\n{script}"));
        command
    }

    /// Runs a bash script to its end.
    pub fn sh(&self, script: &str) -> Output {
        self.bash(script).output().expect("bash starts")
    }

    /// Runs a bash script that must succeed and say nothing on stderr; what it printed.
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

/// The tools' folder, then the caller's own PATH.
fn path_with_tools() -> OsString {
    let tools = cargo_bin("dw-cat").parent().map(Path::to_path_buf).expect("tools are in a folder");
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths([tools].into_iter().chain(env::split_paths(&rest))).expect("a PATH")
}

/// A file of this repository.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of this repository.
pub fn repository_text(name: &str) -> String {
    let path = repository(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced block behind a comment in one of the documents, as it stands.
pub fn document_block(comment: &str) -> String {
    let start = format!("<!-- {comment} -->\n```\n");
    let documents = ["README.md", "tools/GUIDE.md", "tools/OPERATIONS.md"].map(repository_text);
    let found = documents.iter().find_map(|text| text.split_once(&start));
    let (_, rest) = found.unwrap_or_else(|| panic!("no document has {start}"));
    rest.split_once("\n```\n").expect("the block ends").0.to_owned()
}

/// A file of the shared folder that does not come with the repository, as `data/x.csv.gz`:
/// `$DEEPWATER_SHARED`, else `shared` beside the repository. A test that does without it must not
/// look as if it had run, so its absence is said aloud.
pub fn shared(test: &str, name: &str) -> Option<PathBuf> {
    let named = env::var_os("DEEPWATER_SHARED").map(PathBuf::from);
    let places = [named, Some(repository("../shared"))];
    let found = places.into_iter().flatten().map(|place| place.join(name)).find(|p| p.exists());
    if found.is_none() {
        // Not eprintln: the test harness swallows that when the test passes.
        let mut stderr = std::io::stderr().lock();
        let why = format!("no ../shared/{name}; $DEEPWATER_SHARED may name the folder");
        writeln!(stderr, "NOT RUN: {test} ({why})").expect("stderr is open");
    }
    found
}
