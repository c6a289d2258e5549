//! Tools that are held up at a step, as tests tell them.

use std::fs;
use std::path::PathBuf;

use assert_cmd::cargo::cargo_bin;

use super::env::TestEnv;
use super::kit::{Running, until};

/// A tool that is stopped (`pause`), or killed (`kill`), the how manieth time it comes to a step.
pub struct Stopped {
    pub tool: Running,
    pub step: String,
    /// Where it says that it is there, and is told to go on.
    pub folder: PathBuf,
}

impl Stopped {
    pub fn start(env: &TestEnv, action: &str, step: (&str, u32), args: &[&str]) -> Stopped {
        Stopped::with_faults(env, &format!("{action}={}:{}", step.0, step.1), step.0, args)
    }

    /// One that is stopped at several steps, at this one first.
    pub fn with_faults(env: &TestEnv, faults: &str, step: &str, args: &[&str]) -> Stopped {
        let folder = env.path(&format!("steps-of-{}", args[0]));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let faults = format!("DEEPWATER_FAULTS={faults}");
        let place = format!("DEEPWATER_FAULTS_DIR={}", folder.display());
        let tool = cargo_bin(args[0]).display().to_string();
        let args = [&[faults.as_str(), &place, &tool], &args[1..]].concat();
        let tool = Running::tool(env, "env", &args);
        Stopped { tool, step: step.to_owned(), folder }
    }

    pub fn has_stopped(&self) -> bool {
        self.folder.join(format!("{}.reached", self.step)).exists()
    }

    pub fn until_stopped(&self) {
        until(&format!("step {}", self.step), || self.has_stopped().then_some(()));
    }

    pub fn go(&self) {
        fs::write(self.folder.join(format!("{}.go", self.step)), "").unwrap();
    }
}
