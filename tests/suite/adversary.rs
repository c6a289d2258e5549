//! Two other users beside every tool, who do at random what the system lets them do: make files,
//! folders, links, hard links, FIFOs and sockets with the store's names, copy, cut short, rename,
//! exchange and remove what they can, hold locks. Nothing of the owner's is lost or changed, no
//! tool hangs, and each failure has a cause that is named.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

use super::env::TestEnv;
use super::kit::{Running, text, until};
use super::random::{Random, mix};
use super::users::{MEMBER, OTHER, OWNER, as_user, become_user, can_be_others, owner};

/// What the others may do in the store itself, besides reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// Nothing.
    Nothing,
    /// A member of the owner's group writes the folder and the files of one feed.
    Feed,
    /// The member makes and removes lock files.
    Locks,
    /// The member makes, renames and removes what lies in the store's own folders.
    Store,
}

/// A feed, and how many rows of it were acknowledged: the numbers from `first` to `end`.
struct Feed {
    name: String,
    first: u64,
    end: u64,
    /// Whether its rows must be there whatever the others do.
    safe: bool,
}

struct Round<'a> {
    env: &'a TestEnv,
    random: Random,
    leave: Leave,
    feeds: Vec<Feed>,
    writer: Option<(usize, Running)>,
    follower: Option<(usize, Running)>,
    extra: Option<String>,
    made: u32,
    /// Whether a writer was killed in this round.
    killed: bool,
    steps: u64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn others_who_do_all_they_may_change_nothing_of_the_owners() {
    const TEST: &str = "others_who_do_all_they_may_change_nothing_of_the_owners";
    if !can_be_others(&TestEnv::new(), TEST) {
        return;
    }
    let seconds = number("DEEPWATER_ADVERSARY_SECONDS", 20);
    let seed = number("DEEPWATER_ADVERSARY_SEED", 1);
    let began = Instant::now();
    let (mut rounds, mut steps, mut moves) = (0, 0, BTreeMap::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        println!("adversary: seed {seed}, round {rounds}, {:.1?}, step {steps}", began.elapsed());
        steps += round(mix(seed.wrapping_add(rounds << 32)), &mut moves);
        rounds += 1;
    }
    println!("adversary: seed {seed}, {rounds} rounds, {steps} steps, {:.0?}", began.elapsed());
    println!("adversary: moves that the system allowed: {moves:?}");
}

/// One store, and how many steps were taken with it.
fn round(seed: u64, moves: &mut BTreeMap<String, u64>) -> u64 {
    let env = TestEnv::new();
    let mut random = Random::new(seed);
    let leaves = [Leave::Nothing, Leave::Nothing, Leave::Feed, Leave::Locks, Leave::Store];
    let leave = *random.pick(&leaves);
    let feeds = make_store(&env, leave);
    let kept = snapshot(&env.path("victim"));
    let villains =
        [(OTHER, seed), (MEMBER, seed ^ 1)].map(|(user, seed)| villain(&env, user, seed));
    let mut round = Round {
        env: &env,
        random,
        leave,
        feeds,
        writer: None,
        follower: None,
        extra: None,
        made: 0,
        killed: false,
        steps: 0,
    };
    let follows = round.random.below(2) == 0 && leave != Leave::Store;
    if follows {
        round.follow();
    }
    for _ in 0..round.random.below(60) + 20 {
        round.step(follows);
        assert_eq!(snapshot(&env.path("victim")), kept, "outside of the store");
    }
    round.end();
    let steps = round.steps;
    for villain in villains {
        let (status, out, err) = villain.end();
        assert!(status.success(), "{err}");
        let line = out.lines().find_map(|line| line.strip_prefix("moves ")).expect("its moves");
        for (name, count) in line.split(' ').filter_map(|word| word.split_once(':')) {
            *moves.entry(name.to_owned()).or_default() += count.parse::<u64>().expect("a number");
        }
    }
    assert_eq!(snapshot(&env.path("victim")), kept, "outside of the store");
    steps
}

/// A store of the owner's, and beside it a folder of his that looks like a feed's.
fn make_store(env: &TestEnv, leave: Leave) -> Vec<Feed> {
    assert!(can_be_others(env, "a store of another user's"));
    env.quiet("install -d -o 1500 -g 1500 store victim");
    let mut feeds = Vec::new();
    let mut make = |name: &str, options: &str, safe| {
        owner(env, &format!("dw-mkfeed {name} ts:uint64 {options}"));
        owner(env, &format!("seq 0 99 | dw-write {name} --columns ts"));
        feeds.push(Feed { name: name.to_owned(), first: 0, end: 100, safe });
    };
    let safe = leave != Leave::Store;
    make("disk", "--mode 0644 --chunk-size 64KiB", safe);
    make("staged", "--mode 0644 --chunk-size 64KiB --stage shm", safe);
    make("ring", "--mode 0644 --ring", safe);
    if leave == Leave::Feed {
        make("open", "--mode 0664 --chunk-size 64KiB", false);
        make("openring", "--mode 0666 --ring", false);
        make("openstage", "--mode 0664 --stage shm --chunk-size 64KiB", false);
    }
    owner(
        env,
        "cp -r store/feeds/disk/. victim; cp -r store/feeds/disk victim/sub; mkdir victim/x.chunks
         echo kept >victim/x.chunks/00000001.data; echo kept >victim/disk.live; mkdir victim/own
         echo kept >victim/own/file; mkfifo victim/fifo; ln -s own victim/link",
    );
    match leave {
        Leave::Locks => drop(env.quiet("chmod g+rwx store/locks")),
        Leave::Store => drop(env.quiet("chmod g+rwx store store/feeds store/locks")),
        Leave::Nothing | Leave::Feed => {}
    }
    feeds
}

fn villain(env: &TestEnv, user: u32, seed: u64) -> Running {
    let program = include_str!("adversary.py").to_owned();
    let paths = [env.shm().to_owned(), env.base(), env.path("victim")];
    let paths = paths.iter().map(|path| path.display().to_string());
    let mut args = become_user(user);
    // The system's own: another one in the PATH may lie where that user may not look.
    let python = ["env", "PATH=/usr/bin:/bin:/usr/local/bin", "python3", "-c"];
    args.extend(python.map(str::to_owned));
    args.extend([program, seed.to_string()]);
    args.extend(paths);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let villain = Running::tool(env, "setpriv", &args);
    villain.until_lines(1);
    villain
}

/// A tool of the owner's that runs on.
fn owners(env: &TestEnv, tool: &str, args: &[&str]) -> Running {
    let mut all = become_user(OWNER);
    all.push(cargo_bin(tool).display().to_string());
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let args: Vec<&str> = all.iter().map(String::as_str).collect();
    Running::tool(env, "setpriv", &args)
}

/// What lies below a folder: kind, mode, owner, inode, time and bytes of each name.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Vec<i64>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()) {
        let meta = item.symlink_metadata().unwrap();
        if meta.is_dir() {
            found.extend(snapshot(&item));
        }
        let bytes = if meta.is_file() { fs::read(&item).unwrap() } else { Vec::new() };
        let is = [meta.mode().into(), meta.uid().into(), meta.ino() as i64, meta.mtime()];
        let is = is.into_iter().chain([meta.mtime_nsec()]).collect();
        found.insert(item, (is, bytes));
    }
    found
}

/// The numbers that `seq` prints.
fn rows(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("{n}\n")).collect()
}

/// Whether a tool has ended as it should: a signal that it takes is passed on in its status.
fn ended_well(status: ExitStatus, terminated: bool) -> bool {
    status.success() || (terminated && status.signal() == Some(15))
}

impl Round<'_> {
    /// Runs a tool as the owner, to its end.
    fn run(&mut self, script: &str) -> (i32, String, String) {
        self.steps += 1;
        let script = script.replace("dw-", "timeout -k 1 60 dw-");
        let output: Output = as_user(self.env, OWNER, &script);
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code().unwrap_or(-1);
        let place = format!("{:?}, step {}: {script}: {code}: {said}", self.leave, self.steps);
        assert!((0..=2).contains(&code), "{place}");
        assert!(!said.contains("panicked"), "{place}");
        assert!(code == 0 || !(said.is_empty() && out.is_empty()), "without a cause: {place}");
        (code, out, said)
    }

    /// Fails unless the tool was right to fail: each thing that it complains of is true.
    fn judge(&self, script: &str, (code, out, said): &(i32, String, String)) {
        if *code == 0 {
            return;
        }
        let gone = self.feeds.iter().any(|feed| feed.first > 0);
        let ended = ["died without closing the feed", "was not closed: its writer died"];
        let gone =
            gone.then_some(["its ring is gone", "its ring was deleted"]).into_iter().flatten();
        let mut causes: Vec<&str> = gone.collect();
        causes.extend(self.writer.is_some().then_some("written by"));
        causes.extend(ended.into_iter().filter(|_| self.killed));
        causes.extend(match self.leave {
            Leave::Nothing => None,
            Leave::Feed => Some("open"),
            Leave::Locks => Some("locks"),
            Leave::Store => Some(""),
        });
        let is_true = |line: &str| causes.iter().any(|cause| line.contains(cause));
        let other = ["ok ", "STATE ", "FEED "];
        let other = |line: &&str| !other.iter().any(|word| line.starts_with(word));
        let complaints: Vec<&str> = match script.starts_with("dw-ls") {
            true => said.lines().collect(),
            false => said.lines().chain(out.lines()).filter(other).collect(),
        };
        let place = format!("{:?}, step {}: {script}: {code}", self.leave, self.steps);
        assert!(!complaints.is_empty(), "{place}");
        for line in complaints {
            assert!(is_true(line), "{place}: {line}");
        }
    }

    fn step(&mut self, follows: bool) {
        let at = self.random.below(self.feeds.len() as u64) as usize;
        let name = self.feeds[at].name.clone();
        match self.random.below(20) {
            0..=2 => self.write(at),
            3..=4 => self.start_or_end(at),
            5..=6 => self.cat(at),
            7 | 18..=19 => self.second_writer(),
            8 => self.tool("dw-ls"),
            9 => self.tool(&format!("dw-ls {name} --gaps --json; dw-ls {name} --chunks")),
            10 => self.tool("dw-health --min-free 1 "),
            11..=12 => self.tool("dw-gc"),
            13 => self.tool("dw-repair --all --dry-run"),
            14 => self.tool("dw-repair --all"),
            15..=16 => self.make_or_delete(),
            _ if !follows => self.reboot(),
            _ => self.cat(at),
        }
    }

    fn tool(&mut self, script: &str) {
        let script = match self.random.below(3) {
            0 if script == "dw-gc" => "dw-gc --dry-run",
            _ => script,
        };
        let ran = self.run(script);
        self.judge(script, &ran);
        if script == "dw-repair --all" && ran.1.contains("open") {
            // What it could not save is on record as removed, which later readers need not say.
            self.feeds.iter_mut().filter(|feed| !feed.safe).for_each(|feed| feed.first = u64::MAX);
        }
    }

    /// A writer that comes to its end.
    fn write(&mut self, at: usize) {
        let count = *self.random.pick(&[1, 100, 1000, 9000]);
        let Feed { name, end, safe, .. } = &self.feeds[at];
        let (name, end, safe) = (name.clone(), *end, *safe);
        if self.writer.as_ref().is_some_and(|(own, _)| *own == at) {
            return self.send(count);
        }
        let to = end + count;
        let script = format!("seq {end} {} | dw-write {name} --columns ts", to - 1);
        let ran = self.run(&script);
        self.judge(&script, &ran);
        if ran.0 == 0 {
            self.feeds[at].end = to;
        } else if !safe {
            // How much of it was taken nobody knows.
            self.feeds[at].first = u64::MAX;
        }
        self.cat(at);
    }

    /// What a feed's reader prints is what was acknowledged, or it says that it is not.
    fn cat(&mut self, at: usize) {
        let Feed { name, first, end, safe } = &self.feeds[at];
        let (first, end, safe) = (*first, *end, *safe);
        let script = format!("dw-cat {name} -o csv --no-header");
        let (code, out, said) = self.run(&script);
        // Of a ring whose memory was taken away the reader says so.
        let gone = first > 0 && code != 0;
        let exact = first != u64::MAX && out == rows(first, end);
        let excused = !safe && (code != 0 || first == u64::MAX || self.leave == Leave::Store);
        let (last, lines) = (out.lines().last().unwrap_or_default(), out.lines().count());
        assert!(
            excused || (exact && (code == 0 || gone)),
            "{:?}, step {}: {script}: {code}: {lines} rows up to {last} of {first}..{end}; {said}",
            self.leave,
            self.steps
        );
    }

    /// Begins to write, or ends the writer that runs: at the end of its input, by a signal, killed.
    fn start_or_end(&mut self, at: usize) {
        self.steps += 1;
        let Some((own, writer)) = self.writer.take() else {
            let writer = owners(self.env, "dw-write", &[&self.feeds[at].name, "--columns", "ts"]);
            self.writer = Some((at, writer));
            return self.send(100);
        };
        let (how, safe) = (self.random.below(3), self.feeds[own].safe);
        if how == 0 {
            self.killed = true;
            return drop(writer);
        }
        if how == 1 {
            writer.signal("TERM");
        }
        let (status, _, err) = writer.end();
        let fine = ended_well(status, how == 1);
        assert!(fine || (!safe && status.code().is_some()), "{:?}: {status}: {err}", self.leave);
        if !fine {
            self.feeds[own].first = u64::MAX;
        }
        self.cat(own);
    }

    /// Rows down the writer's pipe; they count once they are seen.
    fn send(&mut self, count: u64) {
        let Some((at, writer)) = &mut self.writer else { return };
        let (at, feed) = (*at, &mut self.feeds[*at]);
        let sent = writer.try_send(&rows(feed.end, feed.end + count));
        let Feed { name, first, end, safe } = &self.feeds[at];
        let (script, first, end, safe) =
            (format!("dw-cat {name} -n 1 -o csv --no-header"), *first, end + count, *safe);
        let wanted = format!("{}\n", end - 1);
        let leave = self.leave;
        let seen = until(&format!("row {wanted} of {script}"), || {
            let ended = match &mut self.writer {
                Some((_, writer)) => writer.child.try_wait().expect("it is our child").is_some(),
                None => true,
            };
            let (code, out, said) = self.run(&script);
            if out == wanted {
                return Some(true);
            }
            let excused = first == u64::MAX || code != 0 || ended || leave == Leave::Store;
            assert!(!(safe && ended), "{leave:?}: the writer has ended; {said}");
            (!safe && excused).then_some(false)
        });
        assert!(!safe || sent);
        match seen {
            true => self.feeds[at].end = end,
            false => self.lost_writer(at),
        }
    }

    /// The writer of a feed that others may spoil is left to itself, and so is what it has written.
    fn lost_writer(&mut self, at: usize) {
        self.writer = None;
        self.feeds[at].first = u64::MAX;
    }

    /// Nobody writes beside the writer, whatever became of its lock.
    fn second_writer(&mut self) {
        let Some((at, _)) = &self.writer else { return };
        let Feed { name, safe, .. } = &self.feeds[*at];
        let (name, safe) = (name.clone(), *safe);
        let tools = [
            format!("echo 9999999999 | dw-write {name} --columns ts"),
            format!("dw-repair {name}"),
            format!("dw-mkfeed {name} --delete --yes"),
        ];
        let script = self.random.pick(&tools).clone();
        if !safe {
            return;
        }
        let (code, out, said) = self.run(&script);
        assert_ne!(code, 0, "{:?}, step {}: {script}: {said}{out}", self.leave, self.steps);
    }

    /// Makes another feed and writes it, or deletes it.
    fn make_or_delete(&mut self) {
        if let Some(name) = self.extra.clone() {
            let script = format!("dw-mkfeed {name} --delete --yes");
            let ran = self.run(&script);
            self.judge(&script, &ran);
            if ran.0 == 0 {
                self.extra = None;
            }
            return;
        }
        self.made += 1;
        let name = format!("extra{}", self.made);
        let options = *self.random.pick(&["", "--stage shm", "--ring", "--mode 0644 --stage shm"]);
        let script = format!("dw-mkfeed {name} ts:uint64 {options}");
        let ran = self.run(&script);
        self.judge(&script, &ran);
        if ran.0 == 0 {
            let script = format!("seq 9 | dw-write {name} --columns ts");
            let ran = self.run(&script);
            self.judge(&script, &ran);
            self.extra = Some(name);
        }
    }

    /// Takes the owner's shared memory away, as a reboot does; the others may have its name next.
    fn reboot(&mut self) {
        if self.writer.is_some() {
            return;
        }
        // What a killed writer has left in memory is brought to disk first.
        for at in 0..self.feeds.len() {
            let Feed { name, end, .. } = &self.feeds[at];
            let (script, end) = (format!("echo {end} | dw-write {name} --columns ts"), *end);
            let ran = self.run(&script);
            self.judge(&script, &ran);
            match ran.0 {
                0 => self.feeds[at].end = end + 1,
                _ if self.feeds[at].safe => return,
                _ => self.feeds[at].first = u64::MAX,
            }
        }
        let shm = self.env.shm().display();
        self.env
            .quiet(&format!("find {shm} -mindepth 1 -maxdepth 1 -user {OWNER} | xargs -r rm -r"));
        for feed in self.feeds.iter_mut().filter(|feed| feed.name.ends_with("ring")) {
            feed.first = feed.first.max(feed.end);
        }
    }

    fn follow(&mut self) {
        let at = self.random.below(3) as usize;
        let name = self.feeds[at].name.clone();
        let args = [&name, "-f", "--since", "first", "-o", "csv", "--no-header"];
        self.follower = Some((at, owners(self.env, "dw-cat", &args)));
    }

    /// The follower has printed every row once, every feed is whole, and nothing of the owner's in
    /// shared memory may be written by others.
    fn end(&mut self) {
        if let Some((at, _)) = &self.writer {
            self.start_or_end(*at);
        }
        for at in 0..self.feeds.len() {
            self.cat(at);
        }
        if let Some((at, follower)) = self.follower.take() {
            let feed = &self.feeds[at];
            until(&format!("all rows of {}, followed", feed.name), || {
                (follower.lines().len() as u64 >= feed.end).then_some(())
            });
            follower.signal("TERM");
            let (status, out, err) = follower.end();
            let fine = ended_well(status, true) && err.is_empty();
            assert!(fine, "{:?}: {status}: {err}", self.leave);
            assert!(out == rows(0, feed.end), "{:?}: {} followed", self.leave, feed.name);
        }
        for item in fs::read_dir(self.env.shm()).unwrap().map(|item| item.unwrap()) {
            let Ok(meta) = item.metadata() else { continue };
            let open = meta.is_dir() && meta.permissions().mode() & 0o022 != 0;
            assert!(meta.uid() != OWNER || !open, "{}", item.path().display());
        }
    }
}
