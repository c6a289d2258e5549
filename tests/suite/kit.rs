//! Helpers that several modules use: a tool's output, waiting for a condition, a running writer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use super::env::TestEnv;

/// A limit that no expected condition reaches, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Calls `found` until it returns an answer, and returns that. `what` describes it for a timeout.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = found() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says on stderr that part of a test did not run, because a pass would look as if it had.
pub fn not_run(what: &str) {
    // Not eprintln, because the test harness captures that when the test passes.
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "NOT RUN: {what}").expect("stderr is open");
}

/// Converts output to text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a tool with this input on stdin. Signals and panics fail the test.
pub fn run(env: &TestEnv, tool: &str, args: &[&str], input: &[u8]) -> Output {
    let output = env.cmd(tool).args(args).write_stdin(input).output().expect("the tool starts");
    let said = text(&output.stderr);
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{tool} {args:?}: {}: {said}", output.status);
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    output
}

/// Runs a tool that must succeed without any stderr, and returns its stdout.
pub fn good(env: &TestEnv, tool: &str, args: &[&str]) -> String {
    let output = run(env, tool, args, b"");
    let said = text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{tool} {args:?}: {said}");
    text(&output.stdout)
}

/// Returns the objects that a tool prints with `--json`, one per line.
pub fn objects(env: &TestEnv, tool: &str, args: &[&str]) -> Vec<Value> {
    let lines = good(env, tool, args);
    lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

/// A running tool: a dw-write that waits on an open pipe, or a dw-cat that follows.
pub struct Running {
    /// The process.
    pub child: Child,
    input: Option<ChildStdin>,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts dw-write on the test's store.
    pub fn start(env: &TestEnv, args: &[&str]) -> Running {
        Running::tool(env, "dw-write", args)
    }

    /// Starts a tool, or a program that runs one, on the test's store.
    pub fn tool(env: &TestEnv, tool: &str, args: &[&str]) -> Running {
        // A script that runs the tests in its background passes on ignored signals. `env` resets
        // them, then executes the tool.
        let program = match tool.starts_with("dw-") {
            true => cargo_bin(tool),
            false => tool.into(),
        };
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,HUP,TERM").arg(program);
        command.args(args).current_dir(env.path("."));
        command.env("DEEPWATER_BASE", env.base()).env("DEEPWATER_SHM", env.shm());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the tool starts");
        let input = child.stdin.take();
        let (out, first) = gather(child.stdout.take().expect("a pipe"));
        let (err, second) = gather(child.stderr.take().expect("a pipe"));
        Running { child, input, out, err, readers: vec![first, second] }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines printed so far, if the last one is complete.
    pub fn lines(&self) -> Vec<String> {
        self.out().lines().map(str::to_owned).collect()
    }

    /// Waits until this many lines were printed, and returns them.
    pub fn until_lines(&self, count: usize) -> Vec<String> {
        until(&format!("{count} lines"), || Some(self.lines()).filter(|l| l.len() >= count))
    }

    /// Writes to the pipe, which stays open.
    pub fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    /// Writes bytes that are not text to the pipe.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("the pipe is open");
        input.write_all(bytes).expect("dw-write reads");
        input.flush().expect("dw-write reads");
    }

    /// Writes to the pipe, and returns whether that succeeded.
    pub fn try_send(&mut self, bytes: &str) -> bool {
        self.input.as_mut().is_some_and(|input| input.write_all(bytes.as_bytes()).is_ok())
    }

    /// Returns what it has printed so far.
    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// Returns its messages on stderr so far.
    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    /// Sends a signal, by its name for `kill`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill starts");
        assert!(status.success());
    }

    /// Waits for it to end while the pipe stays open, as after a signal.
    pub fn wait(&mut self) -> ExitStatus {
        until("the tool's end", || self.child.try_wait().expect("it is our child"))
    }

    /// Closes the pipe and waits for it to end, which must be a success.
    pub fn finish(self) -> (String, String) {
        let (status, out, err) = self.end();
        assert!(status.success(), "{status}: {err}");
        (out, err)
    }

    /// Closes the pipe and waits for it to end. Returns status, stdout and stderr.
    pub fn end(mut self) -> (ExitStatus, String, String) {
        self.input = None;
        let status = self.wait();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (status, self.out(), self.err())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Leave no writer behind when a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Gathered = (Arc<Mutex<String>>, JoinHandle<()>);

fn gather(pipe: impl std::io::Read + Send + 'static) -> Gathered {
    let all = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&all);
    let thread = std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            into.lock().unwrap().push_str(&line);
            line.clear();
        }
    });
    (all, thread)
}

/// Returns the system call that a process sleeps in, or `None` if that cannot be read.
pub fn sleeps_in(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// x86-64 calls in which a follower sleeps: while polling, on one wait file, on several.
pub const NANOSLEEP: [u32; 2] = [35, 230];
pub const FUTEX: [u32; 1] = [202];
pub const FUTEX_WAITV: [u32; 1] = [449];

/// Waits until a follower is seen asleep in one of these calls.
pub fn until_asleep(follower: &Running, calls: &[u32]) {
    if cfg!(not(target_arch = "x86_64")) {
        not_run("how a follower sleeps (the numbers of system calls are those of x86-64)");
        return;
    }
    if calls == FUTEX_WAITV && !waits_for_several() {
        not_run("how a follower of several feeds sleeps (this kernel is older than 5.16)");
        return;
    }
    if sleeps_in(std::process::id()).is_none() {
        not_run("how a follower sleeps (/proc/PID/syscall cannot be read here)");
        return;
    }
    // Look several times: a poller never sleeps in a futex call, and a futex sleeper never polls.
    let mut seen = 0;
    until(&format!("sleep in {calls:?}"), || {
        let call = sleeps_in(follower.pid()).filter(|call| [35, 202, 230, 449].contains(call));
        seen = match call {
            Some(call) if calls.contains(&call) => seen + 1,
            Some(_) => 0,
            None => seen,
        };
        (seen >= 5).then_some(())
    });
}

fn waits_for_several() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(16))
}
