//! Transient feeds: what a ring holds, who follows it, who takes it over, and who may not see it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;

use super::env::TestEnv;
use super::kit::{FUTEX, Running, good, not_run, objects, run, text, until, until_asleep};
use super::random::mix;

/// Records that a ring of 64 KiB holds, of 16 bytes each.
const HELD: u64 = 4096;

/// A store with the ring `ring` of records of 16 bytes: a time and a check over it.
fn store(policy: &str) -> TestEnv {
    let env = TestEnv::new();
    env.quiet(&format!("dw-mkfeed ring ts:timestamp check:uint64 --ring=64KiB {policy}"));
    env
}

/// Rows for those numbers.
fn rows(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{n},{}\n", mix(n))).collect()
}

fn write(env: &TestEnv, numbers: std::ops::Range<u64>) {
    let args = ["ring", "--columns", "ts,check", "--final-line", "accept"];
    let output = run(env, "dw-write", &args, rows(numbers).as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The lines of `dw-cat ring -o csv --no-header` and those arguments.
fn cat(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let plain = ["ring", "-o", "csv", "--no-header"];
    let lines = good(env, "dw-cat", &[&plain, args].concat());
    lines.lines().map(str::to_owned).collect()
}

fn lines(numbers: std::ops::Range<u64>) -> Vec<String> {
    rows(numbers).lines().map(str::to_owned).collect()
}

fn follow(env: &TestEnv, args: &[&str]) -> Running {
    let plain = ["ring", "-f", "-o", "csv", "--no-header"];
    Running::tool(env, "dw-cat", &[&plain, args].concat())
}

fn writer(env: &TestEnv) -> Running {
    Running::start(env, &["ring", "--columns", "ts,check"])
}

/// The segment folder of the store.
fn segments(env: &TestEnv) -> PathBuf {
    let mut folders = fs::read_dir(env.shm()).unwrap().map(|item| item.unwrap().path());
    folders.next().expect("a segment folder")
}

fn names(env: &TestEnv) -> Vec<String> {
    let listing = fs::read_dir(segments(env)).unwrap();
    let mut names: Vec<String> =
        listing.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_ring_holds_the_newest_and_they_are_read_as_others_are() {
    let env = store("");
    assert_eq!(cat(&env, &[]), Vec::<String>::new());
    write(&env, 0..10);
    assert_eq!(cat(&env, &[]), lines(0..10));
    // Over the end again and again, by writer after writer.
    write(&env, 10..3_000);
    write(&env, 3_000..9_000);
    write(&env, 9_000..10_000);
    let first = 10_000 - HELD;
    assert_eq!(cat(&env, &[]), lines(first..10_000));
    assert_eq!(cat(&env, &["-n", "3"]), lines(9_997..10_000));
    assert_eq!(cat(&env, &["-n", "+2"]), lines(first..first + 2));
    assert_eq!(cat(&env, &["--since", "@9990us", "--until", "@9995us"]), lines(9_990..9_995));
    assert_eq!(cat(&env, &["--since", "last"]), lines(9_999..10_000));
    assert_eq!(cat(&env, &["--seq", "7000..7002"]), lines(7_000..7_002));
    assert_eq!(cat(&env, &["--where", "ts=8000"]), lines(8_000..8_001));
    let mut newest_first = lines(first..10_000);
    newest_first.reverse();
    assert_eq!(cat(&env, &["-r"]), newest_first);
    let there = env.quiet(
        "dw-cat ring -o npy > ring.npy
        python3 -c 'import struct
data = open(\"ring.npy\", \"rb\").read()[-16:]
print(*struct.unpack(\"<QQ\", data))'",
    );
    assert_eq!(there.trim(), format!("9999 {}", mix(9_999)));
    let listed = objects(&env, "dw-ls", &["--json"]);
    let ring = &listed[0];
    assert_eq!((&ring["state"], &ring["records"]), (&"ring".into(), &HELD.into()));
    assert_eq!((&ring["seq_lo"], &ring["seq_hi"]), (&first.into(), &10_000.into()));
    assert_eq!((&ring["first"], &ring["last"]), (&first.into(), &9_999.into()));
    assert_eq!(ring["ring"]["fill"], 1.0);
    assert_eq!(ring["ring"]["history_seconds"], ((HELD - 1) as f64 / 1e3).round() / 1e3);
    assert_eq!(names(&env), ["ring.ring", "ring.wait"]);
    // Deleted, nothing of it stays, nor the folder.
    env.quiet("dw-mkfeed --delete --yes ring");
    assert_eq!(fs::read_dir(env.shm()).unwrap().count(), 0);
}

#[test]
fn records_of_any_size_go_round() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed odd ts:timestamp tag:string3 --packed --ring=64KiB");
    let rows: String = (0..20_000).map(|n| format!("{n},{:03}\n", n % 1000)).collect();
    let output = run(&env, "dw-write", &["odd", "--columns", "ts,tag"], rows.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let there = good(&env, "dw-cat", &["odd", "-o", "csv", "--no-header"]);
    let kept: Vec<&str> = rows.lines().skip(20_000 - 65_536 / 11).collect();
    assert_eq!(there.lines().collect::<Vec<_>>(), kept);
}

#[test]
fn a_ring_is_merged_with_other_feeds_by_time() {
    let env = store("");
    env.quiet("dw-mkfeed disk ts:timestamp check:uint64");
    write(&env, 0..10_000);
    env.quiet("printf '9000,1\\n9998,2\\n20000,3\\n' | dw-write disk --columns ts,check");
    let merged = good(&env, "dw-cat", &["ring", "disk", "--since", "@9997us", "-o", "csv"]);
    let merged: Vec<&str> = merged.lines().skip(1).collect();
    let expected =
        format!("9997,{}\n9998,{}\n9998,2\n9999,{}\n20000,3", mix(9_997), mix(9_998), mix(9_999));
    assert_eq!(merged, expected.lines().collect::<Vec<_>>());
    let all = good(&env, "dw-cat", &["ring", "disk", "-r", "-n", "2", "-o", "csv", "--no-header"]);
    assert_eq!(all, format!("20000,3\n9999,{}\n", mix(9_999)));
}

#[test]
fn what_makes_no_sense_with_a_ring_is_refused() {
    let env = store("");
    let refused = |tool: &str, args: &[&str], why: &str| {
        let output = run(&env, tool, args, b"1,1\n");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{tool} {args:?}: {said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{tool} {args:?}: {said}");
    };
    refused("dw-write", &["ring", "--ack"], "no record becomes durable");
    refused("dw-write", &["ring", "--sync", "1s"], "there is nothing to sync");
    refused("dw-write", &["ring", "--columns", "ts,check", "--mark-every", "2"], "keeps no marks");
    refused("dw-cat", &["ring", "--playback"], "keeps no marks");
    let make = ["x", "ts:timestamp", "--ring"];
    for option in ["--retention=1d", "--chunk-size=1MiB", "--max-size=1GB", "--sync=none"] {
        let words = [&make[..], &[option]].concat();
        refused("dw-mkfeed", &words, "means nothing for a ring");
    }
    refused("dw-mkfeed", &["x", "ts:timestamp", "--ring=63KiB"], "rings are 64KiB to");
    let stays = "a feed stays what it is";
    let fields = ["ring", "ts:timestamp", "check:uint64"];
    refused("dw-mkfeed", &fields, stays);
    // --update keeps what it does not name.
    assert!(run(&env, "dw-mkfeed", &[&fields[..], &["--update"]].concat(), b"").status.success());
    // The seed's spec, word for word, with what means nothing for a ring in it.
    let spec = r#"{"feed_name": "seed", "mode": "UF", "fields": [
        {"name": "price", "type": "float64", "desc": "Trade price"},
        {"name": "ts", "type": "uint64", "desc": "Event time"}], "ts_col": "ts",
        "chunk_size_mb": 64, "retention_hours": 24, "persist": false}"#;
    let output = run(&env, "dw-mkfeed", &["--spec", "-"], spec.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let staged =
        spec.replace("\"seed\"", "\"other\"").replace("false}", "false, \"stage\": \"shm\"}");
    let output = run(&env, "dw-mkfeed", &["--spec", "-"], staged.as_bytes());
    assert_eq!(output.status.code(), Some(2));
    // More than there is: an error when the ring is to be made, with how much, and nothing stays.
    let fields = ["vast", "ts:timestamp", "--ring=1TiB"];
    assert!(run(&env, "dw-mkfeed", &fields, b"").status.success());
    refused("dw-write", &["vast"], "no room for a ring of 1099511627776 bytes");
    assert!(objects(&env, "dw-ls", &["vast", "--sessions", "--json"]).is_empty());
    assert_eq!(names(&env), ["ring.ring", "ring.wait"], "and nothing of the vast one");
}

#[test]
fn a_follower_goes_through_writers_that_end_are_killed_and_change_the_size() {
    let env = store("");
    write(&env, 0..100);
    let follower = follow(&env, &["--since", "first"]);
    follower.until_lines(100);
    let mut now = 100;
    for round in 0..6 {
        let mut writer = writer(&env);
        writer.send(&rows(now..now + 500));
        now += 500;
        follower.until_lines(now as usize);
        until_asleep(&follower, &FUTEX);
        writer.send(&rows(now..now + 1));
        now += 1;
        follower.until_lines(now as usize);
        if round % 2 == 0 {
            writer.signal("KILL");
            writer.wait();
        } else {
            writer.finish();
        }
        let size = ["64KiB", "1MiB", "128KiB"][round % 3];
        env.quiet(&format!("dw-mkfeed ring ts:timestamp check:uint64 --ring={size} --update"));
        assert_eq!(cat(&env, &["-n", "10"]), lines(now - 10..now), "round {round}");
    }
    assert_eq!(names(&env), ["ring.ring", "ring.wait"]);
    follower.signal("INT");
    let (status, out, err) = follower.end();
    assert_eq!((status.signal(), err.as_str()), (Some(2), ""));
    assert_eq!(out.lines().collect::<Vec<_>>(), lines(0..now));
}

/// The seqs that a follower's messages say are lost.
fn lost(said: &str) -> Vec<(u64, u64)> {
    let ranges = said.lines().filter_map(|line| line.split_once("left out seq "));
    ranges
        .map(|(_, rest)| {
            let (lo, hi) = rest.split(':').next().unwrap().split_once("..").unwrap();
            (lo.parse().unwrap(), hi.parse().unwrap())
        })
        .collect()
}

/// Checks that what was printed and what was told to be lost are all seqs below `end`, once, and
/// that every record is the one it says.
fn assert_accounted(out: &str, said: &str, end: u64) {
    let mut lost = lost(said).into_iter();
    let mut next = 0;
    for line in out.lines() {
        let mut cells = line.split(',').map(|cell| cell.parse::<u64>().unwrap());
        let [seq, ts, check] = std::array::from_fn(|_| cells.next().unwrap());
        while next < seq {
            let (lo, hi) = lost.next().unwrap_or_else(|| panic!("seq {next} is missing"));
            assert_eq!(lo, next, "{said}");
            next = hi;
        }
        assert_eq!((seq, ts, check), (next, next, mix(next)), "{line}");
        next += 1;
    }
    for (lo, hi) in lost {
        assert_eq!(lo, next);
        next = hi;
    }
    assert_eq!(next, end);
}

#[test]
fn a_stopped_follower_is_lapped_and_every_seq_is_printed_or_reported() {
    let env = store("");
    const END: u64 = 300_000;
    let mut writer = writer(&env);
    writer.send(&rows(0..10));
    let to_end = format!("0..{END}");
    let mut follower = follow(&env, &["--seq", &to_end, "--with-seq"]);
    follower.until_lines(10);
    follower.signal("STOP");
    writer.send(&rows(10..100_000));
    follower.signal("CONT");
    // Halfway it may have kept up, or not.
    writer.send(&rows(100_000..200_000));
    follower.signal("STOP");
    writer.send(&rows(200_000..END));
    follower.signal("CONT");
    let status = until("the follower's end", || follower.child.try_wait().unwrap());
    let (_, out, err) = follower.end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert_accounted(&out, &err, END);
    assert!(err.contains("overwritten in the ring before they were read"), "{err}");
    let ring = &objects(&env, "dw-ls", &["--json"])[0]["ring"];
    let told: u64 = lost(&err).iter().map(|(lo, hi)| hi - lo).sum();
    assert_eq!(ring["overrun_records"], told);
    assert!(ring["overruns"].as_u64() > Some(0), "{ring}");
    writer.finish();
}

#[test]
fn two_processes_that_lap_each_other_flat_out_tear_no_record() {
    let env = store("");
    const END: u64 = 3_000_000;
    let raw: Vec<u8> = (10..END).flat_map(|n| [n, mix(n)]).flat_map(u64::to_le_bytes).collect();
    fs::write(env.path("raw"), raw).unwrap();
    write(&env, 0..10);
    let to_end = format!("0..{END}");
    let follower = follow(&env, &["--seq", &to_end, "--with-seq", "--spin"]);
    let another = follow(&env, &["--seq", &to_end, "--with-seq"]);
    // Both are there before the writer laps them.
    for follower in [&follower, &another] {
        follower.until_lines(10);
    }
    env.quiet("dw-write ring --format raw raw");
    for follower in [follower, another] {
        let (status, out, err) = follower.end();
        assert!(matches!(status.code(), Some(0 | 1)), "{err}");
        assert_accounted(&out, &err, END);
    }
}

#[test]
fn a_ring_deleted_under_its_writer_is_made_again_with_all_it_held() {
    let env = store("");
    let mut writer = writer(&env);
    writer.send(&rows(0..50));
    let follower = follow(&env, &["--since", "first"]);
    follower.until_lines(50);
    // As systemd's RemoveIPC does.
    fs::remove_dir_all(segments(&env)).unwrap();
    let output = run(&env, "dw-cat", &["ring"], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("its ring is gone from"), "{said}");
    let health = run(&env, "dw-health", &["ring"], b"");
    assert_eq!(health.status.code(), Some(1), "{}", text(&health.stdout));
    // Within its tick the writer notices, and makes another at its next record.
    let back = until("the ring to be back", || {
        let seq = follower.lines().len() as u64;
        writer.send(&rows(seq..seq + 1));
        follower.until_lines(seq as usize + 1);
        env.shm().read_dir().unwrap().next()
    });
    assert!(back.is_ok_and(|item| item.path() == segments(&env)));
    let count = follower.lines().len() as u64;
    assert_eq!(cat(&env, &[]), lines(0..count));
    writer.send(&rows(count..count + 1));
    follower.until_lines(count as usize + 1);
    writer.finish();
    assert_eq!(cat(&env, &[]), lines(0..count + 1));
}

/// The file of a ring, truncated by another process to this many bytes.
fn cut(env: &TestEnv, bytes: u64) {
    let path = segments(env).join("ring.ring");
    fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_ring_cut_short_is_an_error_for_whoever_uses_it_and_never_a_signal() {
    // All of it, its records, and some of them.
    for left in [0, 4096, 4096 + 32_768] {
        let env = store("");
        let mut writer = writer(&env);
        // To shortly before the place where the last of the three begins.
        let begun = 2000;
        writer.send(&rows(0..begun));
        let mut follower = follow(&env, &["--since", "first"]);
        follower.until_lines(begun as usize);
        cut(&env, left);
        let mut sent = begun;
        until("the writer's error", || {
            writer.try_send(&rows(sent..sent + 20));
            sent += 20;
            writer.child.try_wait().unwrap()
        });
        let (status, _, said) = writer.end();
        assert_eq!(status.code(), Some(2), "{left}: {status}: {said}");
        assert!(said.contains("cut short") && said.contains("ring.ring"), "{left}: {said}");
        let (status, out, said) = {
            follower.wait();
            follower.end()
        };
        assert!(matches!(status.code(), Some(1 | 2)), "{left}: {status}: {said}");
        assert!(said.contains("cut short") && said.contains("ring.ring"), "{left}: {said}");
        assert!(rows(0..sent).starts_with(&out), "{left}: a record that nobody wrote");
        for tool in ["dw-ls", "dw-cat", "dw-health"] {
            let output = run(&env, tool, &["ring"], b"");
            let said = text(&output.stderr) + &text(&output.stdout);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{tool}: {said}");
            assert!(said.contains("ring.ring"), "{tool}: {said}");
        }
        // The next writer makes another.
        write(&env, 0..10);
        assert_eq!(cat(&env, &[]), lines(0..10));
    }
}

#[test]
fn after_a_reboot_the_ring_is_empty_and_no_seq_is_used_twice() {
    let env = store("");
    write(&env, 0..10);
    let in_boot = |boot: &str, tool: &str, args: &[&str], input: &str| {
        let mut command = env.cmd(tool);
        command.env("DEEPWATER_BOOT_ID", boot).args(args).write_stdin(input);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let seqs = ["ring", "-o", "csv", "--no-header", "--with-seq"];
    let columns = ["ring", "--columns", "ts,check"];
    // After a clean end nothing is skipped.
    assert_eq!(in_boot("b", "dw-cat", &seqs, ""), "");
    in_boot("b", "dw-write", &columns, "5,5\n");
    assert_eq!(in_boot("b", "dw-cat", &seqs, ""), "10,5,5\n");
    // Cut off, the next session begins at the lease, and the hole is on record.
    let mut cut_off = Running::tool(
        &env,
        "env",
        &["DEEPWATER_BOOT_ID=b", &cargo_bin("dw-write").display().to_string(), "ring"],
    );
    cut_off.send("ts,check\n6,6\n");
    until("the record", || (in_boot("b", "dw-cat", &seqs, "") == "10,5,5\n11,6,6\n").then_some(()));
    cut_off.signal("KILL");
    cut_off.wait();
    assert_eq!(in_boot("c", "dw-cat", &seqs, ""), "");
    in_boot("c", "dw-write", &columns, "7,7\n");
    let lease = 11 + (1 << 28);
    assert_eq!(in_boot("c", "dw-cat", &seqs, ""), format!("{lease},7,7\n"));
    let listed = in_boot("c", "dw-ls", &["--sessions", "--json"], "");
    assert!(listed.contains("\"hole\":\"skipped\""), "{listed}");
    assert!(listed.contains("\"reason\":\"power-loss\""), "{listed}");
}

#[test]
fn a_reader_in_another_mount_namespace_is_told_so() {
    let env = store("");
    let mut writer = writer(&env);
    writer.send(&rows(0..5));
    until("the records", || (cat(&env, &[]).len() == 5).then_some(()));
    let inside = |command: &str| {
        let script = format!("mount -t tmpfs none /dev/shm && exec {command}");
        let mut unshare = env.program("unshare");
        unshare.args(["-rm", "sh", "-c", &script]).output().expect("unshare starts")
    };
    if !inside("true").status.success() {
        not_run("a_reader_in_another_mount_namespace_is_told_so (none to be had)");
        return;
    }
    for command in ["dw-cat ring", "dw-cat ring -f"] {
        let output = inside(command);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{said}");
        assert!(said.contains("in a shared memory that is not the one here"), "{said}");
    }
    writer.finish();
}

#[test]
fn other_users_read_a_ring_if_its_mode_lets_them() {
    const TEST: &str = "other_users_read_a_ring_if_its_mode_lets_them";
    for (mode, may) in [("0644", true), ("0600", false)] {
        let env = store(&format!("--mode {mode}"));
        write(&env, 0..5);
        for path in [&env.path("."), env.shm()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let as_nobody = |args: &[&str]| {
            let mut command = env.program("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.arg(cargo_bin(args[0])).args(&args[1..]).output()
        };
        if !as_nobody(&["dw-cat", "--version"]).is_ok_and(|output| output.status.success()) {
            return not_run(&format!("{TEST} (cannot run dw-cat as another user)"));
        }
        let output = as_nobody(&["dw-cat", "ring", "-o", "csv", "--no-header"]).unwrap();
        let said = text(&output.stderr);
        match may {
            true => assert_eq!(text(&output.stdout), rows(0..5), "{said}"),
            false => {
                assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
                assert!(said.contains("Permission denied"), "{said}");
            }
        }
        if may {
            let listed = as_nobody(&["dw-ls", "ring", "--json"]).unwrap();
            assert!(text(&listed.stdout).contains("\"overruns\":0"), "{}", text(&listed.stderr));
        }
    }
}

/// System calls that a process makes while `work` goes on, by name, but for those of its thread in
/// the background.
fn calls_of(pid: u32, log: &PathBuf, work: impl FnOnce()) -> Vec<(String, u64)> {
    let mut strace = Command::new("strace")
        .args(["-c", "-o"])
        .arg(log)
        .args(["-p", &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    let mut first = [0; 1];
    let attached = std::io::Read::read(strace.stderr.as_mut().expect("a pipe"), &mut first);
    assert!(attached.is_ok_and(|n| n == 1));
    work();
    let pid = strace.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    strace.wait().unwrap();
    let table = fs::read_to_string(log).unwrap();
    let calls = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let share = words.first()?.parse::<f64>().ok()?;
        let name = *words.last()?;
        (share >= 0.0 && name != "total").then(|| (name.to_owned(), words[3].parse().unwrap()))
    });
    calls.collect()
}

#[test]
fn the_writing_thread_reads_and_wakes_and_calls_nothing_else() {
    const TEST: &str = "the_writing_thread_reads_and_wakes_and_calls_nothing_else";
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        return not_run(&format!("{TEST} (strace is not here)"));
    }
    for policy in ["--ring=1MiB", "--chunk-size 64MiB"] {
        let env = TestEnv::new();
        env.quiet(&format!("dw-mkfeed ring ts:timestamp check:uint64 {policy}"));
        let mut writer = writer(&env);
        writer.send(&rows(0..1));
        let follower = follow(&env, &["--since", "first"]);
        follower.until_lines(1);
        until_asleep(&follower, &FUTEX);
        let log = env.path("calls");
        const SENT: u64 = 200;
        let pid = writer.pid();
        let calls = calls_of(pid, &log, || {
            for n in 1..=SENT {
                writer.send(&rows(n..n + 1));
                follower.until_lines(n as usize + 1);
            }
        });
        let count = |name: &str| calls.iter().find(|(own, _)| own == name).map_or(0, |c| c.1);
        // The one it was in when we came, and the one it is in when we leave, may count or not.
        assert!((SENT - 1..=SENT + 2).contains(&count("read")), "{policy}: {calls:?}");
        assert!(count("futex") <= SENT, "{policy}: {calls:?}");
        let others = calls.iter().filter(|(name, _)| !["read", "futex"].contains(&name.as_str()));
        assert_eq!(others.count(), 0, "{policy}: {calls:?}");
        writer.finish();
    }
}
