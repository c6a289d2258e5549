//! Tests of `dw-ls --watch` in a real terminal: the screen, keys, window sizes, and that the
//! terminal is restored however the program ends.

use std::fs;
use std::process::{Command, Output};

use super::env::TestEnv;
use super::kit::{Running, not_run, text, until};

/// A tmux server for the test, with one window that runs a shell.
struct Terminal<'a> {
    env: &'a TestEnv,
}

impl<'a> Terminal<'a> {
    /// Starts a shell in a window of this size. Returns `None` if tmux is not installed.
    fn open(env: &'a TestEnv, columns: usize, rows: usize) -> Option<Terminal<'a>> {
        if Command::new("tmux").arg("-V").output().is_err() {
            not_run("dw-ls --watch on a terminal (tmux is not here)");
            return None;
        }
        let (x, y) = (columns.to_string(), rows.to_string());
        let terminal = Terminal { env };
        let shell = "env PS1='$ ' LC_ALL=C.UTF-8 bash --norc --noprofile";
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &x, "-y", &y, shell]);
        terminal.seen("the prompt", |screen| screen.contains('$'));
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "tmux {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.env.program("tmux");
        command.env("TERM", "xterm-256color").arg("-S").arg(self.env.path("tmux"));
        command.args(args).output().expect("tmux starts")
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted, and returns it.
    fn seen(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        until(&format!("{what} on the screen"), || {
            last = self.screen();
            // Save the screen for the report of a failure.
            let _ = fs::write(self.env.path("last-screen"), &last);
            wanted(&last).then(|| last.clone())
        })
    }

    /// Returns tmux's flags for alternate screen, cursor and wrapping.
    fn modes(&self) -> String {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}"])
    }

    /// Runs the tool between two reports of the terminal's modes, and prints its status.
    fn start(&self, command: &str) {
        self.keys(&[&format!("echo BEFORE; stty -g >before; {command}"), "Enter"]);
        self.seen("the table", |screen| screen.contains("RECORDS"));
        assert_eq!(self.modes(), "1 0 0\n", "another screen, no cursor, no wrapping");
    }

    /// Checks that the terminal's modes after the end are those before the start.
    fn restored(&self, status: i32) {
        self.seen("the shell", |screen| screen.contains("BEFORE") && !screen.contains("RECORDS"));
        assert_eq!(self.modes(), "0 1 1\n");
        self.keys(&["echo status $?; stty -g >after; echo done", "Enter"]);
        self.seen("the status", |screen| screen.contains(&format!("\nstatus {status}\n")));
        self.seen("the end", |screen| screen.contains("\ndone\n"));
        let modes = |name| fs::read_to_string(self.env.path(name)).unwrap();
        assert_eq!(modes("before"), modes("after"));
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

/// Returns the feeds on the screen, in order.
fn feeds(screen: &str) -> Vec<&str> {
    let rows = screen.lines().skip(2).map(|line| line.split(' ').next().unwrap_or_default());
    rows.take_while(|name| !name.is_empty() && !name.contains('-')).collect()
}

fn twelve_feeds(env: &TestEnv) {
    env.quiet("for n in a b c d e f g h i j k l; do dw-mkfeed $n ts:timestamp; done");
}

#[test]
fn the_view_shows_writers_crashes_and_new_feeds() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp");
    let Some(terminal) = Terminal::open(&env, 100, 12) else { return };
    terminal.start("dw-ls --watch");
    let row = |screen: &str, name: &str| -> Option<Vec<String>> {
        let line = screen.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    };
    let has = |name: &'static str, at: usize, wanted: &'static str| {
        move |screen: &str| row(screen, name).is_some_and(|words| words[at] == wanted)
    };
    terminal.seen("an idle feed", has("trades", 1, "idle"));
    let mut writer = Running::start(&env, &["trades", "--columns", "ts"]);
    writer.send(&"1700000000000000\n".repeat(1234));
    let screen = terminal.seen("the records", has("trades", 5, "1,234"));
    let words = row(&screen, "trades").unwrap();
    assert_eq!(words[1], "writing", "{screen}");
    // The rate is over the time that the writer has run: a second, or up to ten on a slow machine.
    let rate: f64 = words[2].replace(',', "").parse().expect("a rate");
    assert!((123.4..=1234.0).contains(&rate), "{screen}");
    assert!(words[3].contains('d'), "the newest record is of 2023: {screen}");
    assert!(words[4].ends_with('s'), "it came just now: {screen}");
    terminal.seen("a spark", |screen| screen.contains('█'));
    writer.signal("KILL");
    writer.wait();
    terminal.seen("the crash", has("trades", 1, "crashed"));
    env.quiet("echo 1 | dw-write trades --columns ts; dw-mkfeed another ts:timestamp");
    terminal.seen("the end", has("trades", 1, "idle"));
    terminal.seen("a new feed", has("another", 1, "idle"));
    env.quiet("dw-mkfeed --delete --yes another");
    env.quiet("dw-mkfeed ring ts:timestamp --ring=64KiB; seq 4096 | dw-write ring --columns ts");
    terminal.seen("half a ring", |screen| screen.contains("RING") && has("ring", 6, "50%")(screen));
    env.quiet("dw-mkfeed --delete --yes ring");
    terminal.seen("no new feed", |screen| feeds(screen) == ["trades"]);
    fs::remove_file(env.base().join("feeds/trades/feed_registry.bin")).unwrap();
    terminal.seen("the damage", |screen| screen.contains("No such file"));
    terminal.keys(&["q"]);
    terminal.restored(0);
}

#[test]
fn keys_scroll_and_the_view_follows_the_window_size() {
    let env = TestEnv::new();
    twelve_feeds(&env);
    let Some(terminal) = Terminal::open(&env, 90, 8) else { return };
    terminal.start("dw-ls --watch");
    let shows = |key: &str, wanted: &str| {
        if !key.is_empty() {
            terminal.keys(&[key]);
        }
        terminal.seen(&format!("{wanted} after {key}"), |screen| feeds(screen).concat() == wanted);
    };
    shows("", "abcde");
    shows("j", "bcdef");
    shows("Down", "cdefg");
    shows("k", "bcdef");
    shows("Up", "abcde");
    shows("k", "abcde");
    shows("PageDown", "fghij");
    shows("PageDown", "hijkl");
    shows("PageUp", "cdefg");
    shows("End", "hijkl");
    shows("Home", "abcde");
    shows("G", "hijkl");
    terminal.tmux(&["resize-window", "-x", "60", "-y", "10"]);
    shows("", "fghijkl");
    let screen = terminal.seen("what is seen", |screen| screen.contains("6-12 of 12"));
    assert!(screen.lines().all(|line| line.chars().count() <= 60), "{screen}");
    terminal.tmux(&["resize-window", "-x", "120", "-y", "30"]);
    shows("", "abcdefghijkl");
    terminal.tmux(&["resize-window", "-x", "20", "-y", "2"]);
    terminal.seen("little", |screen| screen.lines().count() == 2 && screen.contains("FEED"));
    terminal.tmux(&["resize-window", "-x", "90", "-y", "8"]);
    shows("g", "abcde");
    terminal.keys(&["q"]);
    terminal.tmux(&["resize-window", "-x", "90", "-y", "12"]);
    let code = terminal.seen("the shell", |screen| screen.contains("BEFORE"));
    assert!(!code.contains("RECORDS"), "{code}");
}

#[test]
fn the_terminal_is_restored_after_every_signal() {
    let env = TestEnv::new();
    twelve_feeds(&env);
    let Some(terminal) = Terminal::open(&env, 90, 14) else { return };
    terminal.start("dw-ls --watch a b c");
    terminal.seen("those asked for", |screen| feeds(screen) == ["a", "b", "c"]);
    // Ctrl-Z and Ctrl-\ must not suspend or kill the program, which would leave the terminal
    // changed.
    terminal.keys(&["C-z"]);
    terminal.keys(&["C-\\"]);
    terminal.keys(&["C-c"]);
    terminal.restored(130);
    for (name, status) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        terminal.keys(&["clear", "Enter"]);
        terminal.start("sh -c 'echo $$ >pid; exec dw-ls --watch'");
        let pid = fs::read_to_string(env.path("pid")).unwrap();
        let sent = Command::new("kill").args(["-s", name, pid.trim()]).status().unwrap();
        assert!(sent.success());
        terminal.restored(status);
    }
    // Without a keyboard the view still works.
    terminal.keys(&["clear", "Enter"]);
    terminal.start("dw-ls --watch </dev/null");
    terminal.keys(&["C-c"]);
    terminal.restored(130);
}

#[test]
fn only_a_little_is_sent_per_second() {
    let env = TestEnv::new();
    twelve_feeds(&env);
    let Some(terminal) = Terminal::open(&env, 90, 20) else { return };
    let sent = env.path("sent");
    terminal.start("dw-ls --watch");
    terminal.tmux(&["pipe-pane", "-o", &format!("cat >>{}", sent.display())]);
    let clock = |screen: &str| screen.lines().next().unwrap_or_default().to_owned();
    for _ in 0..3 {
        let before = clock(&terminal.screen());
        terminal.seen("a second later", |screen| clock(screen) != before);
    }
    let sent = fs::read_to_string(&sent).unwrap();
    assert!(!sent.is_empty() && sent.len() < 200, "{} bytes in 3 s: {sent:?}", sent.len());
    assert!(!sent.contains("\x1b[2J") && !sent.contains('\n'), "{sent:?}");
    terminal.keys(&["q"]);
    terminal.restored(0);
}

#[test]
fn watch_without_a_terminal_is_an_error() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp");
    let output = env.program("dw-ls").args(["--watch"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("stdout is none; dw-ls --json is for programs"), "{said}");
    assert_eq!(text(&output.stdout), "", "no escape sequences into a pipe");
    let output = env.cmd("dw-ls").args(["--watch", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let Some(terminal) = Terminal::open(&env, 80, 10) else { return };
    terminal.keys(&["TERM=dumb dw-ls --watch; echo status $?", "Enter"]);
    terminal
        .seen("the refusal", |screen| screen.contains("dumb one") && screen.contains("status 2"));
}
