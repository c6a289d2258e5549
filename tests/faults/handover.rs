//! A follower and what changes under it: rotation, a writer that ends, dies or is killed half way,
//! the next one, dw-gc, deletion. Each is stopped at each numbered step on either side while the
//! other goes on. Every seq is printed once, in order, or told to be lost.

use std::fs;

use deepwater::Platform;
use deepwater::reader::Reader;

use super::env::TestEnv;
use super::kit::{Running, objects, run, until};
use super::stopped::Stopped;

/// Records of 16 bytes that fill a chunk of the least size.
const PER_CHUNK: u64 = 4096;
/// Records of one write to a pipe that is never torn, and so of one batch.
const BATCH: u64 = 250;

/// Where a follower can be stopped, and the how manieth time: at its first look, while it opens a
/// chunk, and once it has caught up.
const FOLLOWER: [(&str, u32); 11] = [
    ("follow.deleted", 1),
    ("follow.published", 1),
    ("follow.entry", 1),
    ("reader.open", 1),
    ("follow.deleted", 2),
    ("follow.published", 2),
    ("follow.deleted", 3),
    ("follow.published", 3),
    ("follow.arm", 1),
    ("follow.sleep", 1),
    ("follow.published", 4),
];

/// The look that comes once there is news.
const WITH_NEWS: (&str, u32) = ("follow.published", 4);

/// Where a writer can be stopped in a batch that goes on in the next chunk, in sealing the first,
/// and the next writer in taking over.
const WRITER: [(&str, u32); 5] = [
    ("writer.entered", 2),
    ("writer.stored", 17),
    ("writer.published", 17),
    ("seal.files", 1),
    ("seal.entry", 1),
];
const NEXT_WRITER: [&str; 3] = ["recover.sealed", "recover.session", "recover.begun"];

fn store(policy: &str) -> TestEnv {
    let env = TestEnv::new();
    env.quiet(&format!("dw-mkfeed t ts:timestamp n:uint64 --chunk-size 64KiB {policy}"));
    env
}

/// Arguments of a follower that prints every number from the first on.
const FOLLOW: [&str; 10] =
    ["dw-cat", "t", "-f", "--seq", "0..", "-o", "csv", "--no-header", "--fields", "n"];

fn follow(env: &TestEnv, step: (&str, u32)) -> Stopped {
    Stopped::start(env, "pause", step, &FOLLOW)
}

fn follow_freely(env: &TestEnv) -> Running {
    Running::tool(env, FOLLOW[0], &FOLLOW[1..])
}

fn reader(env: &TestEnv) -> Reader {
    Platform::open(env.base()).unwrap().create_reader("t").unwrap()
}

/// How many records the feed has.
fn records(env: &TestEnv) -> u64 {
    reader(env).snapshot().unwrap().end_seq
}

/// A dw-write, fed batch by batch.
struct Writer {
    tool: Running,
    next: u64,
}

impl Writer {
    fn start(env: &TestEnv) -> Writer {
        let tool = Running::start(env, &["t", "--format", "raw"]);
        Writer { tool, next: records(env) }
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count / BATCH {
            let rows: Vec<u8> = (self.next..self.next + BATCH).flat_map(row).collect();
            self.tool.send_bytes(&rows);
            self.next += BATCH;
        }
    }

    /// Sends so many records, a batch at a time, each one published before the next.
    fn write(&mut self, env: &TestEnv, count: u64) {
        for _ in 0..count / BATCH {
            self.send(BATCH);
            let wanted = self.next;
            until("the batch to be published", || (records(env) >= wanted).then_some(()));
        }
    }

    fn kill(mut self, env: &TestEnv) {
        self.tool.child.kill().and_then(|()| self.tool.child.wait()).unwrap();
        drop(self);
        let _ = env;
    }
}

fn row(n: u64) -> Vec<u8> {
    [n.to_le_bytes(), n.to_le_bytes()].concat()
}

/// Waits until so many chunks are sealed.
fn until_sealed(env: &TestEnv, count: usize) {
    until(&format!("{count} sealed chunks"), || {
        let chunks = objects(env, "dw-ls", &["--chunks", "--json"]);
        (chunks.iter().filter(|chunk| chunk["ended"].is_string()).count() >= count).then_some(())
    });
}

/// What a follower printed: every number from `from` on, once, in order.
fn check(lines: &[String], from: u64, case: &str) {
    let numbers = lines.iter().map(|line| line.parse::<u64>().expect("a number"));
    let wanted = (from..).take(lines.len());
    let differs = numbers.zip(wanted).find(|(got, wanted)| got != wanted);
    assert!(differs.is_none(), "{case}: got and wanted {differs:?}");
}

/// Each follower's step, and what is done while it is stopped there; returns how many records there
/// are then.
fn at_each_step(what: &str, policy: &str, mut act: impl FnMut(&TestEnv, Writer) -> Option<Writer>) {
    for step in FOLLOWER {
        let case = format!("{what} at {} {}", step.0, step.1);
        let env = store(policy);
        let mut writer = Writer::start(&env);
        writer.write(&env, BATCH);
        let follower = follow(&env, step);
        if step == WITH_NEWS {
            follower.tool.until_lines(BATCH as usize);
            writer.write(&env, BATCH);
        }
        follower.until_stopped();
        let writer = act(&env, writer);
        let end = records(&env);
        follower.go();
        let lines = follower.tool.until_lines(end as usize);
        check(&lines, 0, &case);
        assert_eq!((lines.len() as u64, follower.tool.err().as_str()), (end, ""), "{case}");
        // And it goes on.
        let mut writer = writer.unwrap_or_else(|| Writer::start(&env));
        writer.write(&env, BATCH);
        let lines = follower.tool.until_lines((end + BATCH) as usize);
        check(&lines, 0, &case);
        writer.tool.finish();
        follower.tool.signal("INT");
        let (_, out, err) = follower.tool.end();
        assert_eq!((out.lines().count() as u64, err.as_str()), (end + BATCH, ""), "{case}");
    }
}

#[test]
fn rotation_while_a_follower_is_stopped() {
    at_each_step("rotation", "", |env, mut writer| {
        writer.write(env, 2 * PER_CHUNK / BATCH * BATCH + BATCH);
        until_sealed(env, 1);
        Some(writer)
    });
}

#[test]
fn a_clean_restart_while_a_follower_is_stopped() {
    at_each_step("restart", "", |env, mut writer| {
        writer.write(env, BATCH);
        writer.tool.finish();
        let mut next = Writer::start(env);
        next.write(env, BATCH);
        Some(next)
    });
}

#[test]
fn a_kill_and_the_next_writer_while_a_follower_is_stopped() {
    at_each_step("kill", "", |env, mut writer| {
        writer.write(env, PER_CHUNK);
        writer.kill(env);
        let mut next = Writer::start(env);
        next.write(env, BATCH);
        Some(next)
    });
}

#[test]
fn a_writer_killed_between_two_chunks_of_a_batch_while_a_follower_is_stopped() {
    at_each_step("split", "", |env, writer| {
        writer.tool.finish();
        // Bytes that were never published, in this chunk and in the next one.
        let killed = Stopped::start(
            env,
            "kill",
            ("writer.stored", 17),
            &["dw-write", "t", "--format", "raw"],
        );
        let mut writer = Writer { tool: killed.tool, next: records(env) };
        let there = writer.next;
        writer.write(env, 16 * BATCH);
        writer.send(BATCH);
        until("the writer to die", || writer.tool.child.try_wait().unwrap());
        assert_eq!(records(env), there + 16 * BATCH);
        None
    });
}

#[test]
fn a_batch_across_two_chunks_is_seen_whole_at_every_step_of_the_writer() {
    for step in WRITER {
        let env = store("");
        let before = follow_freely(&env);
        let args = ["dw-write", "t", "--format", "raw"];
        let stopped = Stopped::start(&env, "pause", step, &args);
        let Stopped { tool, step: name, folder } = stopped;
        let mut writer = Writer { tool, next: 0 };
        writer.write(&env, 16 * BATCH);
        writer.send(BATCH);
        let reached = folder.join(format!("{name}.reached"));
        until(&format!("step {name}"), || reached.exists().then_some(()));
        let published = records(&env);
        assert!(published.is_multiple_of(BATCH), "{name}: {published}");
        // One that comes now, and one that was there.
        let now = follow_freely(&env);
        for follower in [&before, &now] {
            follower.until_lines(published as usize);
            check(&follower.lines(), 0, &name);
        }
        until_idle(&now);
        assert_eq!(now.lines().len() as u64, published, "{name}: a part of a batch");
        fs::write(folder.join(format!("{name}.go")), "").unwrap();
        writer.write(&env, 2 * BATCH);
        for follower in [before, now] {
            check(&follower.until_lines(19 * BATCH as usize), 0, &name);
            follower.signal("TERM");
            assert_eq!(follower.end().1.lines().count() as u64, 19 * BATCH, "{name}");
        }
        writer.tool.finish();
    }
}

/// Waits until a follower has nothing to do.
fn until_idle(follower: &Running) {
    super::kit::until_asleep(follower, &super::kit::FUTEX);
}

#[test]
fn the_next_writer_is_stopped_and_killed_at_every_step_of_taking_over() {
    for step in NEXT_WRITER {
        for action in ["pause", "kill"] {
            let env = store("");
            let mut first = Writer::start(&env);
            first.write(&env, PER_CHUNK / BATCH * BATCH + BATCH);
            let end = first.next;
            let follower = follow_freely(&env);
            follower.until_lines(end as usize);
            first.kill(&env);
            let args = ["dw-write", "t", "--format", "raw"];
            let next = Stopped::start(&env, action, (step, 1), &args);
            let late = if action == "pause" {
                next.until_stopped();
                let late = follow_freely(&env);
                check(&late.until_lines(end as usize), 0, step);
                next.go();
                let mut writer = Writer { tool: next.tool, next: end };
                writer.write(&env, BATCH);
                writer.tool.finish();
                late
            } else {
                let mut dead = next.tool;
                until("its end", || dead.child.try_wait().unwrap());
                let late = follow_freely(&env);
                let mut writer = Writer::start(&env);
                assert_eq!(writer.next, end, "{step}: nothing more was published");
                writer.write(&env, BATCH);
                writer.tool.finish();
                late
            };
            for follower in [follower, late] {
                check(&follower.until_lines((end + BATCH) as usize), 0, step);
                follower.signal("TERM");
                let (_, out, err) = follower.end();
                assert_eq!((out.lines().count() as u64, err.as_str()), (end + BATCH, ""), "{step}");
            }
        }
    }
}

/// Five chunks, of which dw-gc takes the oldest.
fn collectable() -> (TestEnv, Writer) {
    let env = store("--max-size 250KB");
    let mut writer = Writer::start(&env);
    writer.send(5 * PER_CHUNK);
    until("the records", || (records(&env) == writer.next).then_some(()));
    until_sealed(&env, 4);
    (env, writer)
}

fn first_seq(env: &TestEnv) -> u64 {
    reader(env).snapshot().unwrap().first_seq()
}

/// Seqs that a follower told to be gone.
fn told(err: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let rest = line.strip_prefix("dw-cat: t: left out seq ").expect(line);
        assert!(rest.contains(": collected by dw-gc"), "{line}");
        let (lo, hi) = rest.split_once(':').expect(line).0.split_once("..").expect(line);
        (lo.parse().expect(line), hi.parse().expect(line))
    };
    err.lines().map(range).collect()
}

/// Every seq below `end` was printed or told, once; told are only those below `collected`.
fn check_all(follower: &Running, end: u64, collected: u64, case: &str) {
    let all = || -> (Vec<u64>, Vec<(u64, u64)>) {
        let printed = follower.lines().iter().map(|line| line.parse().unwrap()).collect();
        (printed, told(&follower.err()))
    };
    until(&format!("{case}: seq {end}"), || {
        let (printed, told) = all();
        let gone: u64 = told.iter().map(|range| range.1 - range.0).sum();
        (printed.len() as u64 + gone >= end).then_some(())
    });
    let (printed, told) = all();
    let mut seqs = printed.clone();
    told.iter().for_each(|range| seqs.extend(range.0..range.1));
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(0..end), "{case}: told {told:?}");
    assert!(printed.is_sorted(), "{case}");
    assert!(told.iter().all(|range| range.1 <= collected), "{case}: told {told:?}");
}

#[test]
fn dw_gc_takes_chunks_while_a_follower_is_stopped() {
    let opening =
        [("reader.open", 2), ("reader.open", 3), ("follow.entry", 2), ("follow.entry", 3)];
    for step in FOLLOWER.iter().copied().chain(opening).filter(|s| *s != WITH_NEWS) {
        let case = format!("gc at {} {}", step.0, step.1);
        let (env, mut writer) = collectable();
        let follower = follow(&env, step);
        follower.until_stopped();
        assert!(run(&env, "dw-gc", &["t"], b"").status.success());
        let first = first_seq(&env);
        assert!(first > 0, "{case}: dw-gc took something");
        follower.go();
        check_all(&follower.tool, writer.next, first, &case);
        writer.write(&env, BATCH);
        check_all(&follower.tool, writer.next, first, &case);
        follower.tool.signal("TERM");
        writer.tool.finish();
    }
}

#[test]
fn dw_gc_is_stopped_at_every_step_while_followers_read() {
    for step in ["gc.planned", "gc.swapped", "gc.synced", "gc.unlinked", "gc.removed"] {
        let (env, mut writer) = collectable();
        // Stopped before it opens its second chunk.
        let behind = follow(&env, ("reader.open", 2));
        behind.until_stopped();
        let collector = Stopped::start(&env, "pause", (step, 1), &["dw-gc", "t"]);
        collector.until_stopped();
        behind.go();
        let now = follow_freely(&env);
        check_all(&behind.tool, writer.next, 3 * PER_CHUNK, step);
        // How much of the chunks that go is there for it yet depends on the step.
        let until_newest = |next: u64| {
            let newest = (next - 1).to_string();
            until("the newest", || (now.lines().last() == Some(&newest)).then_some(()));
        };
        until_newest(writer.next);
        assert!(now.lines().len() as u64 >= writer.next - 3 * PER_CHUNK, "{step}");
        collector.go();
        writer.write(&env, BATCH);
        check_all(&behind.tool, writer.next, 3 * PER_CHUNK, step);
        until_newest(writer.next);
        assert!(collector.tool.end().0.success(), "{step}");
        writer.tool.finish();
    }
}

#[test]
fn files_that_are_open_outlive_dw_gc() {
    let env = store("--max-size 70KB");
    let mut writer = Writer::start(&env);
    writer.write(&env, BATCH);
    // It has read the first records of the chunk, which is full, sealed and collected meanwhile.
    let follower = follow(&env, ("follow.published", 2));
    follower.until_stopped();
    writer.write(&env, PER_CHUNK / BATCH * BATCH);
    until_sealed(&env, 1);
    until("dw-gc to take it", || {
        assert!(run(&env, "dw-gc", &["t"], b"").status.success());
        (first_seq(&env) == PER_CHUNK).then_some(())
    });
    follower.go();
    check(&follower.tool.until_lines(writer.next as usize), 0, "open files");
    follower.tool.signal("TERM");
    assert_eq!(follower.tool.end().2, "");
    writer.tool.finish();
}

#[test]
fn a_file_that_is_gone_without_a_reason_is_named() {
    let (env, writer) = collectable();
    let follower = follow(&env, ("reader.open", 2));
    follower.until_stopped();
    fs::remove_file(env.base().join("feeds/t/00000002.data")).unwrap();
    follower.go();
    let there = (writer.next - PER_CHUNK) as usize;
    follower.tool.until_lines(there);
    let err = until("the message", || Some(follower.tool.err()).filter(|err| !err.is_empty()));
    assert!(err.contains("t: chunk 2 block 0: left out seq 4096..8192"), "{err}");
    assert!(err.contains("00000002.data: No such file"), "{err}");
    writer.tool.finish();
}

#[test]
fn what_was_written_before_a_deletion_is_printed_at_every_step() {
    for step in FOLLOWER.iter().filter(|s| **s != WITH_NEWS) {
        // The chunk must be open by then, or its files are gone.
        let open = step.1 > 1 || ["follow.arm", "follow.sleep"].contains(&step.0);
        let env = store("");
        let mut writer = Writer::start(&env);
        writer.write(&env, BATCH);
        let follower = follow(&env, *step);
        follower.until_stopped();
        writer.write(&env, BATCH);
        writer.tool.finish();
        env.quiet("dw-mkfeed --delete --yes t");
        follower.go();
        let (status, out, err) = follower.tool.end();
        assert_eq!(status.code(), Some(1), "{step:?}: {err}");
        let lines: Vec<String> = out.lines().map(str::to_owned).collect();
        check(&lines, 0, step.0);
        assert!(err.contains("t: the feed was deleted; this is its end"), "{step:?}: {err}");
        if open {
            assert_eq!(lines.len() as u64, 2 * BATCH, "{step:?}: {err}");
        } else {
            assert!(lines.is_empty(), "{step:?}: {lines:?}");
            let gone = err.lines().filter(|line| line.contains("before they were read"));
            let range = |line: &str| {
                let range = line.split(' ').find(|word| word.contains("..")).expect(line);
                let (lo, hi) = range.trim_end_matches(':').split_once("..").expect(line);
                lo.parse::<u64>().expect(line)..hi.parse::<u64>().expect(line)
            };
            assert!(gone.flat_map(range).eq(0..2 * BATCH), "{step:?}: {err}");
        }
    }
}

#[test]
fn news_between_the_last_look_and_the_sleep_is_not_slept_over() {
    let env = store("");
    let mut writer = Writer::start(&env);
    writer.write(&env, BATCH);
    // Both steps stop it: before it says that it waits, and before it sleeps.
    let faults = "pause=follow.arm:1,pause=follow.sleep";
    let mut follower = Stopped::with_faults(&env, faults, "follow.arm", &FOLLOW);
    follower.until_stopped();
    writer.write(&env, BATCH);
    follower.go();
    follower.step = "follow.sleep".to_owned();
    follower.until_stopped();
    let seen = follower.tool.until_lines(2 * BATCH as usize);
    assert_eq!(seen.len() as u64, 2 * BATCH, "before it sleeps");
    writer.tool.finish();
}
