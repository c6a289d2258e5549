//! Disks that are full, that fail to sync and to read, and files cut short under those who use
//! them: a clear error, never a signal, nothing published is lost, and writing goes on afterwards.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deepwater::Platform;
use deepwater::os::faults::{Op, Step, Verdict, Watcher, watch};
use deepwater::schema::FeedSpec;

use crate::env::TestEnv;
use crate::kills::{BATCHES, MAKE, check, faulty, good, inputs, open, records, write_on};
use crate::kit::{Running, until};
use crate::small_disk::{SmallDisk, where_one_may_mount};

const PAGE: u64 = 4096;

/// Runs a tool with faults; it may say no, but not crash.
fn run(env: &TestEnv, faults: &str, args: &[&str]) -> (i32, String) {
    let output: Output = faulty(env, faults, "", args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), None, "{args:?} with {faults}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

/// What dw-write is given: some batches in files of their own.
fn write_args(env: &TestEnv, from: u64) -> Vec<String> {
    let mut args: Vec<String> = ["dw-write", "t", "--format", "raw", "--mark-every", "900"]
        .iter()
        .map(|arg| (*arg).to_owned())
        .collect();
    args.extend(inputs(env, from).iter().map(|path| path.display().to_string()));
    args
}

fn write(env: &TestEnv, faults: &str, from: u64) -> (i32, String) {
    let args = write_args(env, from);
    run(env, faults, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether a feed ends where one of the batches does that were written from `from` on.
fn whole_batches(env: &TestEnv, from: u64) -> u64 {
    let end = check(env, "t", 0);
    let ends = BATCHES.iter().scan(from, |end, count| {
        *end += count;
        Some(*end)
    });
    assert!(end == from || ends.into_iter().any(|e| e == end), "{from}..{end}");
    end
}

#[test]
fn no_room_at_any_page_of_making_a_feed() {
    where_one_may_mount("space::no_room_at_any_page_of_making_a_feed", || {
        for pages in 1.. {
            let env = TestEnv::new();
            let options = format!("size={}", pages * PAGE);
            let disk = SmallDisk::mount(&env.base(), &options).expect("a small disk");
            let (code, said) = run(&env, "", &MAKE);
            if code == 0 {
                assert!(pages > 16, "{pages} pages are enough");
                return;
            }
            assert!(code == 2 && said.contains("No space left"), "{pages} pages: {code}: {said}");
            disk.resize(64 << 20);
            good(&env, &MAKE);
            write_on(&env, "t", 0);
        }
    });
}

#[test]
fn no_room_at_any_page_of_writing() {
    where_one_may_mount("space::no_room_at_any_page_of_writing", || {
        let env = TestEnv::new();
        let disk = SmallDisk::mount(&env.base(), "size=64m").expect("a small disk");
        good(&env, &MAKE);
        let mut end = 0;
        for pages in 0.. {
            disk.resize(disk.used() + pages * PAGE);
            let (code, said) = write(&env, "", end);
            let from = end;
            end = whole_batches(&env, from);
            disk.resize(64 << 20);
            if code == 0 {
                assert!(pages > 32 && end > from + 9000, "{pages} pages are enough");
                break;
            }
            assert!(code == 2 && said.contains("No space left"), "{pages} pages: {code}: {said}");
            end = write_on(&env, "t", end);
        }
    });
}

#[test]
fn no_room_for_a_longer_table() {
    where_one_may_mount("space::no_room_for_a_longer_table", || {
        let env = TestEnv::new();
        let disk = SmallDisk::mount(&env.base(), "size=64m").expect("a small disk");
        good(&env, &MAKE);
        // Room for 480 entries, a few of them free.
        let mut end = 0;
        let mut writer = Platform::open(env.base()).unwrap().create_writer("t").unwrap();
        for _ in 0..468 {
            writer.append_batch(&records(end..end + 4096)).unwrap();
            end += 4096;
        }
        drop(writer);
        let registry = env.base().join("feeds/t/feed_registry.bin");
        assert_eq!(fs::metadata(&registry).unwrap().len(), 64 << 10);
        let mut table_said = 0;
        for pages in 0.. {
            disk.resize(disk.used() + pages * PAGE);
            let (code, said) = write(&env, "", end);
            disk.resize(64 << 20);
            let there = check(&env, "t", end.saturating_sub(5000));
            assert!(there >= end);
            end = there;
            if code == 0 {
                break;
            }
            assert!(code == 2 && said.contains("No space left"), "{pages} pages: {code}: {said}");
            table_said += u32::from(said.contains("feed_registry.bin"));
        }
        assert!(table_said > 0, "it never came to the table");
        write_on(&env, "t", end);
        assert_eq!(fs::metadata(&registry).unwrap().len(), 128 << 10);
    });
}

#[test]
fn a_full_shared_memory_folder_costs_the_bell_and_nothing_else() {
    where_one_may_mount(
        "space::a_full_shared_memory_folder_costs_the_bell_and_nothing_else",
        || {
            let env = TestEnv::new();
            let _disk = SmallDisk::mount(env.shm(), "size=4k").expect("a small disk");
            fs::write(env.shm().join("filler"), [1; 4096]).unwrap();
            good(&env, &MAKE);
            let (code, said) = write(&env, "", 0);
            assert_eq!((code, said.as_str()), (0, ""));
            assert_eq!(check(&env, "t", 0), BATCHES.iter().sum::<u64>());
        },
    );
}

/// Lets the n-th operation of each kind fail, for each n that there is; calls `each` with how that
/// went and the steps from the failure on.
fn fail_each(
    env: &TestEnv,
    ops: &[(&str, &str)],
    args: impl Fn() -> Vec<String>,
    mut each: impl FnMut(&str, (i32, String), &[String]),
) -> u32 {
    let log = env.path("steps");
    let mut failed = 0;
    for (op, errno) in ops {
        for nth in 1.. {
            let args = args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let _ = fs::remove_file(&log);
            let faults = format!("fail={op}:{nth}:{errno},log={}", log.display());
            let ended = run(env, &faults, &args);
            let steps = fs::read_to_string(&log).unwrap_or_default();
            let steps: Vec<String> = steps.lines().map(str::to_owned).collect();
            let is_op = |line: &String| line.split(' ').nth(1) == Some(op);
            let at = steps.iter().enumerate().filter(|(_, line)| is_op(line)).nth(nth - 1);
            let Some((at, _)) = at else {
                assert_eq!(ended.0, 0, "{op}: {}", ended.1);
                break;
            };
            failed += 1;
            each(op, ended, &steps[at..]);
        }
    }
    failed
}

#[test]
fn whatever_fails_in_writing_is_told_and_nothing_published_is_lost() {
    let env = TestEnv::new();
    good(&env, &MAKE);
    let end = std::cell::Cell::new(0);
    let ops = [
        ("allocate", "ENOSPC"),
        ("create", "ENOSPC"),
        ("write", "EIO"),
        ("truncate", "EIO"),
        ("sync", "EIO"),
        ("sync-folder", "EIO"),
        ("remove", "EROFS"),
    ];
    let failed = fail_each(
        &env,
        &ops,
        || {
            end.set(check(&env, "t", 0));
            write_args(&env, end.get())
        },
        |op, (code, said), after| {
            let there = whole_batches(&env, end.get());
            assert!(code == 2 || code == 0, "{op}: {code}: {said}");
            if code == 2 {
                let why = ["No space left", "Input/output", "Read-only"];
                assert!(why.iter().any(|why| said.contains(why)), "{op}: {said}");
            } else {
                // Room ahead of need, and the bell.
                assert!(["allocate", "create"].contains(&op), "a failed {op} passed for a success");
                assert_eq!(there, end.get() + BATCHES.iter().sum::<u64>());
            }
            if op == "sync" {
                let path = after[0].split(' ').nth(2);
                let again = after[1..].iter().any(|line| {
                    line.split(' ').nth(1) == Some("sync") && line.split(' ').nth(2) == path
                });
                assert!(!again, "synced again after a failed sync:\n{}", after.join("\n"));
                let durable = after.iter().any(|line| line.contains("live.durable"));
                assert!(!durable, "called durable after a failed sync");
            }
            end.set(write_on(&env, "t", there));
        },
    );
    println!("{failed} operations of dw-write failed");
    assert!(failed > 30, "{failed}");
    let log = fs::read_to_string(env.base().join("deepwater.log")).unwrap();
    let noted = |line: &str| {
        line.contains("event=writer-failed feed=t") && line.contains("Input/output error")
    };
    assert!(log.lines().any(noted), "a writer that failed is in the log:\n{log}");
}

#[test]
fn whatever_fails_in_making_and_deleting_is_told_and_can_be_done_again() {
    let ops = [
        ("allocate", "ENOSPC"),
        ("create", "ENOSPC"),
        ("write", "ENOSPC"),
        ("sync", "EIO"),
        ("sync-folder", "EIO"),
        ("rename", "EIO"),
        ("make-folder", "ENOSPC"),
        ("remove", "EIO"),
    ];
    let env = TestEnv::new();
    let words = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let fresh = || {
        let _ = fs::remove_dir_all(env.base());
        words(&MAKE)
    };
    // The mark on the old list of feeds is a hint.
    let hint = |after: &[String]| after[0].ends_with("registry.bin 124 4");
    let made = fail_each(&env, &ops, fresh, |op, (code, said), after| {
        assert!(code == 2 || hint(after), "{op}: {code} {said}");
        good(&env, &MAKE);
        write_on(&env, "t", 0);
    });
    let delete = ["dw-mkfeed", "--delete", "t", "--yes"];
    let filled = || {
        let (code, said) = run(&env, "", &MAKE);
        assert_eq!(code, 0, "{said}");
        write_on(&env, "t", check(&env, "t", 0));
        words(&delete)
    };
    let deleted = fail_each(&env, &ops, filled, |op, (code, said), after| {
        assert!(code == 2 || hint(after), "{op}: {code} {said}");
    });
    println!("{made} operations of making failed, {deleted} of deleting");
    assert!(made > 15 && deleted > 8, "{made} {deleted}");
}

#[test]
fn a_disk_that_cannot_be_read_is_named() {
    let env = TestEnv::new();
    good(&env, &MAKE);
    assert_eq!(write(&env, "", 0), (0, String::new()));
    let total = check(&env, "t", 0);
    for (file, status, named) in [
        ("00000002.data", 1, "chunk 2"),
        ("00000002.idx", 1, "chunk 2"),
        ("feed.json", 2, "feed.json"),
        ("/registry.bin", 2, "registry.bin"),
        ("manifest.json", 2, "manifest.json"),
    ] {
        let faults = format!("fail=read@{file}:1+:EIO");
        let args = ["dw-cat", "t", "-o", "raw"];
        let output = faulty(&env, &faults, "", &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{file}: {said}");
        assert!(said.contains(named) && said.contains("Input/output error"), "{file}: {said}");
        if status == 1 {
            let whole = records(0..total);
            let [first, last] = [&whole[..4096 * 16], &whole[8192 * 16..]];
            assert_eq!(output.stdout, [first, last].concat(), "both sides of it");
        }
    }
}

/// Fails allocations while it is told to.
struct NoRoom(AtomicBool);

impl Watcher for NoRoom {
    fn before(&self, step: &Step<'_>) -> Verdict {
        let fails = step.io.op == Op::Allocate && self.0.load(Ordering::SeqCst);
        if fails { Verdict::Fail(libc_enospc()) } else { Verdict::Go }
    }

    fn after(&self, _step: &Step<'_>, _succeeded: bool) {}
}

fn libc_enospc() -> i32 {
    nix::errno::Errno::ENOSPC as i32
}

#[test]
fn a_batch_that_fails_leaves_no_trace_in_the_times() {
    let env = TestEnv::new();
    let platform = Platform::create(env.base()).unwrap();
    let json = r#"{"feed_name":"t","mode":"UF","ts_col":"ts","chunk_size_bytes":8388608,
        "fields":[{"name":"ts","type":"uint64"}]}"#;
    platform.create_feed(&FeedSpec::from_json(json).unwrap(), false).unwrap();
    let no_room = Arc::new(NoRoom(AtomicBool::new(false)));
    let _watch = watch(&env.base(), Arc::clone(&no_room) as Arc<dyn Watcher>);
    let rows = |times: std::ops::Range<u64>| times.flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    let mut writer = platform.create_writer("t").unwrap();
    writer.append_batch(&rows(1000..1100)).unwrap();
    no_room.0.store(true, Ordering::SeqCst);
    // Over the first MiB; earlier and later times than there are, and out of order.
    let mut late = rows(0..200_000);
    late.extend(rows(500..600));
    writer.append_batch(&late).unwrap_err();
    no_room.0.store(false, Ordering::SeqCst);
    let reader = platform.create_reader("t").unwrap();
    let times = || reader.times(&reader.snapshot().unwrap()).unwrap();
    assert_eq!(times(), Some((1000, 1099)), "as if it had never been");
    writer.append_batch(&rows(1100..1200)).unwrap();
    assert_eq!(times(), Some((1000, 1199)));
    drop(writer);
    assert_eq!(times(), Some((1000, 1199)), "sealed");
    let chunk = reader.snapshot().unwrap().chunks[0];
    let blocks = reader.index(&chunk).unwrap().blocks(0, 1, chunk.extent()).unwrap();
    assert!(blocks[0].ordered && blocks[0].intact);
}

#[test]
fn a_batch_of_too_many_chunks_is_refused_whole() {
    let env = TestEnv::new();
    good(&env, &MAKE);
    let mut writer = Platform::open(env.base()).unwrap().create_writer("t").unwrap();
    let most = 256 * 4096;
    let error = writer.append_batch(&records(0..most + 1)).unwrap_err().to_string();
    assert!(error.contains("256 chunks") && error.contains("in parts"), "{error}");
    assert_eq!(check(&env, "t", 0), 0);
    writer.append_batch(&records(0..most)).unwrap();
    drop(writer);
    assert_eq!(check(&env, "t", 0), most);
}

fn cut(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

#[test]
fn files_cut_short_under_a_writer_stop_it_without_a_signal() {
    for name in ["feed_registry.bin", "live", "00000001.data", "00000001.idx"] {
        let env = TestEnv::new();
        good(&env, &MAKE);
        let mut writer = Running::start(&env, &["t", "--format", "csv", "--header", "no"]);
        writer.send("1,2\n");
        let end = || open(&env, "t").snapshot().ok().map(|snapshot| snapshot.end_seq);
        until("the first row", || end().filter(|end| *end == 1));
        cut(&env.base().join("feeds/t").join(name));
        // It stops by itself, or at the end of its input.
        let _ = writer.try_send("3,4\n");
        let (status, _, said) = writer.end();
        assert_eq!(status.code(), Some(2), "{name}: {status}: {said}");
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[test]
fn files_cut_short_under_a_reader_are_damage_and_no_signal() {
    for name in ["feed_registry.bin", "live"] {
        let env = TestEnv::new();
        good(&env, &MAKE);
        write_on(&env, "t", 0);
        let reader = open(&env, "t");
        assert_eq!(reader.snapshot().unwrap().end_seq, 10);
        cut(&env.base().join("feeds/t").join(name));
        match reader.snapshot() {
            // Without its live page a closed feed is what its table says.
            Ok(snapshot) => assert_eq!((name, snapshot.end_seq), ("live", 10)),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains(name) && said.contains("damaged"), "{said}");
            }
        }
    }
}

#[test]
fn a_reader_of_acks_that_has_stalled_stops_no_sync() {
    use std::io::{Read, Write};
    let env = TestEnv::new();
    good(&env, &MAKE);
    let (mut acks, mut pipe) = std::io::pipe().unwrap();
    // The pipe is as full as it gets before the first ack.
    let full = vec![b'\n'; 65_536];
    pipe.write_all(&full).unwrap();
    let mut command = faulty(&env, "", "", &["dw-write", "t", "--format", "csv", "--header", "no"]);
    command.args(["--ack", "--sync", "batch"]).stdin(std::process::Stdio::piped()).stdout(pipe);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut input = child.stdin.take().unwrap();
    for n in 1..=50u64 {
        writeln!(input, "{n},{n}").unwrap();
        let durable = || open(&env, "t").live().unwrap().map(|page| page.durable());
        until("a durable row, acknowledged or not", || durable().filter(|d| *d == n));
    }
    drop(input);
    let mut told = String::new();
    acks.read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let told: Vec<u64> = told.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert_eq!(told.last(), Some(&50));
}
