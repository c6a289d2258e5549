//! Files of other users, links, and locks that somebody removes: nothing of the store's owner is
//! deleted, read in its place or lost by them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use super::env::TestEnv;
use super::kit::{Running, good, run, text, until};
use super::users::{OTHER, OWNER, as_user, become_user, can_be_others, owner};

fn rows(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("{n}\n")).collect()
}

fn write(env: &TestEnv, feed: &str, from: u64, to: u64) {
    let args = [feed, "--columns", "ts"];
    let output = run(env, "dw-write", &args, rows(from, to).as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The times in a feed, one a line.
fn times(env: &TestEnv, feed: &str) -> String {
    good(env, "dw-cat", &[feed, "-o", "csv", "--no-header"])
}

fn feed(env: &TestEnv, name: &str, options: &[&str]) {
    let args = [&[name, "ts:uint64"], options].concat();
    assert!(run(env, "dw-mkfeed", &args, b"").status.success());
}

/// The folder that a store has in shared memory.
fn segments(env: &TestEnv) -> PathBuf {
    fs::read_dir(env.shm()).unwrap().next().expect("a folder").unwrap().path()
}

fn status(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_writer_whose_lock_file_is_removed_stays_the_only_one() {
    for options in [&[][..], &["--stage", "shm"], &["--ring"]] {
        let env = TestEnv::new();
        feed(&env, "t", options);
        let mut writer = Running::start(&env, &["t", "--columns", "ts"]);
        writer.send(&rows(0, 1000));
        until("the rows", || (times(&env, "t").lines().count() == 1000).then_some(()));
        let locks = env.base().join("locks");
        for make in [false, true] {
            fs::remove_dir_all(&locks).unwrap();
            fs::create_dir(&locks).unwrap();
            if make {
                // Somebody's attempt has made another lock file by now.
                let _ = run(&env, "dw-write", &["t", "--columns", "ts"], b"");
            }
            let tools: [&[&str]; 3] = [
                &["dw-write", "t", "--columns", "ts"],
                &["dw-repair", "t"],
                &["dw-mkfeed", "t", "--delete", "--yes"],
            ];
            for tool in tools {
                let (code, said) = status(&run(&env, tool[0], &tool[1..], b"9000\n"));
                assert_eq!(code, Some(2), "{options:?} {tool:?}: {said}");
                let pid = format!("written by process {}", writer.pid());
                assert!(said.contains(&pid), "{options:?} {tool:?}: {said}");
            }
            let listed = good(&env, "dw-ls", &["t", "--json"]);
            assert!(listed.contains(&format!("\"pid\":{}", writer.pid())), "{listed}");
        }
        writer.send(&rows(1000, 2000));
        writer.finish();
        assert_eq!(times(&env, "t"), rows(0, 2000), "{options:?}");
        write(&env, "t", 2000, 2001);
        assert_eq!(times(&env, "t"), rows(0, 2001), "{options:?}");
    }
}

#[test]
fn a_fifo_in_a_locks_place_is_an_error_and_no_wait() {
    let env = TestEnv::new();
    feed(&env, "t", &[]);
    write(&env, "t", 0, 10);
    let locks: Vec<PathBuf> =
        fs::read_dir(env.base().join("locks")).unwrap().map(|item| item.unwrap().path()).collect();
    let spoil = |env: &TestEnv| {
        for lock in &locks {
            fs::remove_file(lock).unwrap();
            env.quiet(&format!("mkfifo {}", lock.display()));
        }
    };
    spoil(&env);
    let tools: [(&str, i32); 7] = [
        ("dw-cat t", 0),
        ("dw-ls", 0),
        ("dw-health --min-free 1", 0),
        ("dw-write t --columns ts", 2),
        ("dw-mkfeed u ts:uint64", 2),
        ("dw-mkfeed t --delete --yes", 2),
        ("dw-repair --all --dry-run", 1),
    ];
    for (tool, wanted) in tools {
        let output = env.sh(&format!("echo 99 | timeout 10 {tool}"));
        let (code, said) = status(&output);
        assert_eq!(code, Some(wanted), "{tool}: {said}{}", text(&output.stdout));
        let named = said.contains("locks/") && said.contains("not a regular file");
        assert!(wanted != 2 || named, "{tool}: {said}");
    }
    let output = env.sh("timeout 10 dw-repair --all");
    assert_eq!(status(&output).0, Some(0), "{}", text(&output.stderr));
    write(&env, "t", 10, 20);
    assert_eq!(times(&env, "t"), rows(0, 20));
}

#[test]
fn a_lock_that_another_user_has_made_is_an_error_and_no_wait() {
    const TEST: &str = "a_lock_that_another_user_has_made_is_an_error_and_no_wait";
    let env = TestEnv::new();
    if !can_be_others(&env, TEST) {
        return;
    }
    env.quiet("install -d -o 1500 -g 1500 store");
    owner(&env, "dw-mkfeed t ts:uint64; echo 0 | dw-write t --columns ts");
    env.quiet("chmod 777 store/locks");
    // Held by nobody but that user, for as long as he likes.
    let held = "cd store/locks; for lock in *; do rm $lock; touch $lock; chmod 666 $lock; done
        flock registry sh -c 'echo held; exec sleep 60'";
    let mut args = become_user(OTHER);
    args.extend(["sh", "-c", held].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let holder = Running::tool(&env, "setpriv", &args);
    holder.until_lines(1);
    let tools = ["dw-mkfeed u ts:uint64", "dw-write t --columns ts", "dw-repair t"];
    for tool in tools {
        let output = as_user(&env, OWNER, &format!("echo 1 | timeout 10 {tool}"));
        let (code, said) = status(&output);
        assert_eq!(code, Some(2), "{tool}: {said}");
        assert!(said.contains("/locks/") && said.contains("another user"), "{tool}: {said}");
    }
    assert_eq!(owner(&env, "dw-cat t -o csv --no-header; dw-ls --names"), "0\nt\n");
}

#[test]
fn nothing_of_another_users_in_shared_memory_is_followed_or_removed() {
    const TEST: &str = "nothing_of_another_users_in_shared_memory_is_followed_or_removed";
    let env = TestEnv::new();
    feed(&env, "trades", &[]);
    write(&env, "trades", 0, 1000);
    if !can_be_others(&env, TEST) {
        return;
    }
    let key = segments(&env).display().to_string();
    let stem = key.rsplit_once('.').unwrap().0;
    // Folders of that user's with our names in them: links to the feed, files, folders, FIFOs.
    let target = env.base().join("feeds/trades").display().to_string();
    let planted = as_user(
        &env,
        OTHER,
        &format!(
            "mkdir -m 777 {stem}.{OTHER} {stem}.7; ln -s {target} {stem}.{OTHER}/x.chunks
             mkdir {stem}.7/gone.chunks; echo 1 >{stem}.7/gone.chunks/00000001.data
             echo 2 >{stem}.7/gone.live; mkfifo {stem}.7/gone.ring; ln -s {target} {stem}.8
             echo 3 >{stem}.9; mkdir -m 700 {stem}.closed; ln -s {target} {stem}.7/trades.chunks"
        ),
    );
    assert!(planted.status.success(), "{}", text(&planted.stderr));
    let mine = env.quiet(&format!("find {stem}* -printf '%p %y %i %s %U %m\\n' | sort"));
    for tool in [&["dw-gc"][..], &["dw-health", "--min-free", "1"], &["dw-repair", "--all"]] {
        let (code, said) = status(&run(&env, tool[0], &tool[1..], b""));
        assert_eq!(code, Some(0), "{tool:?}: {said}");
    }
    let after = env.quiet(&format!("find {stem}* -printf '%p %y %i %s %U %m\\n' | sort"));
    assert_eq!(mine, after);
    assert_eq!(times(&env, "trades"), rows(0, 1000));
    // The feed is deleted all the same, and what is the other user's stays.
    assert!(run(&env, "dw-mkfeed", &["trades", "--delete", "--yes"], b"").status.success());
    assert!(Path::new(&format!("{stem}.7/gone.live")).exists());
    assert!(Path::new(&format!("{stem}.7/trades.chunks")).symlink_metadata().is_ok());
}

#[test]
fn links_and_files_of_others_in_the_owners_own_segments_stay() {
    const TEST: &str = "links_and_files_of_others_in_the_owners_own_segments_stay";
    let env = TestEnv::new();
    feed(&env, "t", &["--stage", "shm"]);
    write(&env, "t", 0, 100);
    let folder = segments(&env);
    // A link that its owner has made himself is removed, and not followed.
    fs::create_dir(env.path("outside")).unwrap();
    fs::write(env.path("outside/kept"), "kept").unwrap();
    symlink(env.path("outside"), folder.join("gone.chunks")).unwrap();
    assert_eq!(run(&env, "dw-gc", &[], b"").status.code(), Some(0));
    assert!(folder.join("gone.chunks").symlink_metadata().is_err());
    assert_eq!(fs::read_to_string(env.path("outside/kept")).unwrap(), "kept");
    if !can_be_others(&env, TEST) {
        return;
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let planted = as_user(&env, OTHER, &format!("echo 1 >{}/gone.live", folder.display()));
    assert!(planted.status.success());
    for tool in [&["dw-gc"][..], &["dw-health", "--min-free", "1"]] {
        let (code, said) = status(&run(&env, tool[0], &tool[1..], b""));
        assert_eq!(code, Some(0), "{tool:?}: {said}");
    }
    assert!(folder.join("gone.live").exists());
}

#[test]
fn a_name_that_another_user_has_taken_keeps_no_writer_out() {
    const TEST: &str = "a_name_that_another_user_has_taken_keeps_no_writer_out";
    for take in ["mkdir", "mkdir -m 777", "touch", "mkfifo", "ln -s /nowhere", "ln -s /tmp"] {
        let env = TestEnv::new();
        feed(&env, "ring", &["--ring"]);
        feed(&env, "staged", &["--stage", "shm"]);
        feed(&env, "plain", &[]);
        write(&env, "plain", 0, 1);
        if !can_be_others(&env, TEST) {
            return;
        }
        let name = segments(&env);
        // A reboot, after which somebody else is first.
        fs::remove_dir_all(&name).unwrap();
        let taken = as_user(&env, OTHER, &format!("{take} {}", name.display()));
        assert!(taken.status.success(), "{take}: {}", text(&taken.stderr));
        for feed in ["ring", "staged", "plain"] {
            let from = if feed == "plain" { 1 } else { 0 };
            let mut writer = Running::start(&env, &[feed, "--columns", "ts"]);
            writer.send(&rows(from, 50));
            let follower = Running::tool(
                &env,
                "dw-cat",
                &[feed, "-f", "--since", "first", "-o", "csv", "--no-header"],
            );
            follower.until_lines(50);
            writer.send(&rows(50, 100));
            assert_eq!(follower.until_lines(100).len(), 100, "{take} {feed}");
            writer.finish();
            assert_eq!(times(&env, feed), rows(0, 100), "{take} {feed}");
            // The next session, and one that is killed.
            let mut writer = Running::start(&env, &[feed, "--columns", "ts"]);
            writer.send(&rows(100, 150));
            until("the rows", || (times(&env, feed).lines().count() == 150).then_some(()));
            drop(writer);
            write(&env, feed, 150, 160);
            assert_eq!(times(&env, feed), rows(0, 160), "{take} {feed}");
        }
        for tool in [&["dw-gc"][..], &["dw-health", "--min-free", "1"], &["dw-repair", "--all"]] {
            let (code, said) = status(&run(&env, tool[0], &tool[1..], b""));
            assert_eq!(code, Some(0), "{take} {tool:?}: {said}");
        }
        // No folder a session: what is on record is used again.
        assert!(fs::read_dir(env.shm()).unwrap().count() <= 4, "{take}");
        for feed in ["ring", "staged", "plain"] {
            assert!(run(&env, "dw-mkfeed", &[feed, "--delete", "--yes"], b"").status.success());
        }
        let left: Vec<_> = fs::read_dir(env.shm()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{take}: {left:?}");
    }
}

#[test]
fn an_own_folder_that_others_may_write_is_closed_or_refused() {
    const TEST: &str = "an_own_folder_that_others_may_write_is_closed_or_refused";
    let env = TestEnv::new();
    feed(&env, "t", &["--stage", "shm", "--mode", "0644"]);
    let mut writer = Running::start(&env, &["t", "--columns", "ts"]);
    writer.send(&rows(0, 50));
    until("the rows", || (times(&env, "t").lines().count() == 50).then_some(()));
    drop(writer);
    let folder = segments(&env);
    let open = || fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    open();
    if can_be_others(&env, TEST) {
        let planted = as_user(&env, OTHER, &format!("touch {}/t.wait2", folder.display()));
        assert!(planted.status.success());
        let (code, said) = status(&run(&env, "dw-write", &["t", "--columns", "ts"], b"50\n"));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("t.wait2") && said.contains("remove"), "{said}");
        fs::remove_file(folder.join("t.wait2")).unwrap();
        open();
    }
    write(&env, "t", 50, 60);
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o755);
    assert_eq!(times(&env, "t"), rows(0, 60));
}

#[test]
fn a_feed_folder_that_is_a_link_works_in_every_tool() {
    let env = TestEnv::new();
    feed(&env, "t", &["--retention", "1s", "--chunk-size", "64KiB"]);
    feed(&env, "u", &[]);
    write(&env, "t", 0, 100);
    write(&env, "u", 0, 100);
    // Another disk, on which there is more than the feed.
    fs::create_dir(env.path("disk")).unwrap();
    let link = env.base().join("feeds/t");
    env.quiet("mv store/feeds/t disk/t; ln -s ../../disk/t store/feeds/t; echo 1 >disk/t/notes");
    let works = |wanted: &str| {
        assert_eq!(times(&env, "t"), wanted);
        assert!(good(&env, "dw-ls", &["t"]).contains('t'));
        let checks: [&[&str]; 5] = [
            &["dw-health", "--min-free", "1"],
            &["dw-repair", "--all", "--dry-run"],
            &["dw-repair", "t"],
            &["dw-repair", "--rebuild-registry"],
            &["dw-gc", "u"],
        ];
        for tool in checks {
            let output = run(&env, tool[0], &tool[1..], b"");
            assert_eq!(output.status.code(), Some(0), "{tool:?}: {}", text(&output.stderr));
        }
        assert!(link.symlink_metadata().unwrap().is_symlink());
    };
    works(&rows(0, 100));
    write(&env, "t", 100, 200);
    works(&rows(0, 200));
    // Damage is repaired, and the originals are kept.
    let data = fs::read_dir(env.path("disk/t")).unwrap().flatten().map(|item| item.path());
    let index = data.filter(|p| p.extension().is_some_and(|e| e == "idx")).min().unwrap();
    fs::write(&index, "nothing").unwrap();
    let output = run(&env, "dw-repair", &["t"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    works(&rows(0, 200));
    // A disk that is away is no deleted feed.
    fs::rename(env.path("disk"), env.path("away")).unwrap();
    for tool in ["dw-repair --rebuild-registry", "dw-repair --all", "dw-gc"] {
        let (code, said) = status(&env.sh(tool));
        assert!(code != Some(0) || tool.ends_with("registry"), "{tool}: {code:?} {said}");
    }
    fs::rename(env.path("away"), env.path("disk")).unwrap();
    works(&rows(0, 200));
    // Collected through the link.
    until("the chunks to go", || {
        assert_eq!(run(&env, "dw-gc", &["t"], b"").status.code(), Some(0));
        times(&env, "t").is_empty().then_some(())
    });
    // Deleted: the feed's own files, and the link.
    write(&env, "t", 200, 300);
    fs::create_dir(env.path("disk/t/mine")).unwrap();
    fs::write(env.path("disk/t/mine/00000001.data"), "mine").unwrap();
    good(&env, "dw-mkfeed", &["t", "--delete", "--yes"]);
    assert!(link.symlink_metadata().is_err());
    assert_eq!(
        env.quiet("find disk | sort"),
        "disk\ndisk/t\ndisk/t/mine\ndisk/t/mine/00000001.data\ndisk/t/notes\n"
    );
    assert_eq!(times(&env, "u"), rows(0, 100));
    assert_eq!(fs::read_dir(env.base().join("feeds")).unwrap().count(), 1);
}

#[test]
fn a_link_to_what_is_no_such_feed_is_deleted_without_its_target() {
    let env = TestEnv::new();
    feed(&env, "t", &[]);
    feed(&env, "u", &[]);
    write(&env, "t", 0, 10);
    write(&env, "u", 0, 10);
    env.quiet("rm -r store/feeds/t; ln -s u store/feeds/t");
    let _ = run(&env, "dw-mkfeed", &["t", "--delete", "--yes"], b"");
    let _ = run(&env, "dw-gc", &[], b"");
    assert_eq!(times(&env, "u"), rows(0, 10));
    // Nor is one that was left half deleted.
    env.quiet("ln -s u store/feeds/.deleted-0000000000000007; ln -s u store/feeds/.new-07");
    assert_eq!(run(&env, "dw-gc", &[], b"").status.code(), Some(0));
    assert_eq!(times(&env, "u"), rows(0, 10));
    assert_eq!(fs::read_dir(env.base().join("feeds")).unwrap().count(), 1);
}

#[test]
fn a_link_in_a_files_place_is_refused() {
    let env = TestEnv::new();
    for name in ["00000001.data", "00000001.idx", "feed_registry.bin", "live", "feed.json"] {
        feed(&env, "t", &[]);
        write(&env, "t", 0, 10);
        let path = env.base().join("feeds/t").join(name);
        fs::rename(&path, env.path("moved")).unwrap();
        let before = fs::read(env.path("moved")).unwrap();
        symlink(env.path("moved"), &path).unwrap();
        for tool in ["dw-write t --columns ts", "dw-gc t", "dw-cat t", "dw-ls t"] {
            let output = env.sh(&format!("{tool} <<< 10"));
            let code = output.status.code();
            assert!(matches!(code, Some(0..=2)), "{name} {tool}");
        }
        assert_eq!(fs::read(env.path("moved")).unwrap(), before, "{name}");
        assert!(
            run(&env, "dw-mkfeed", &["t", "--delete", "--yes"], b"").status.success(),
            "{name}"
        );
        assert_eq!(fs::read(env.path("moved")).unwrap(), before, "{name}");
    }
}

#[test]
fn what_root_makes_in_a_store_belongs_to_the_stores_owner() {
    const TEST: &str = "what_root_makes_in_a_store_belongs_to_the_stores_owner";
    let env = TestEnv::new();
    if !can_be_others(&env, TEST) {
        return;
    }
    env.quiet("install -d -o 1500 -g 1500 store");
    owner(&env, "dw-mkfeed t ts:uint64; echo 0 | dw-write t --columns ts");
    // Root makes feeds, writes, collects, repairs and deletes.
    feed(&env, "disk", &["--retention", "1h"]);
    feed(&env, "staged", &["--stage", "shm"]);
    feed(&env, "ring", &["--ring"]);
    feed(&env, "gone", &[]);
    for feed in ["t", "disk", "staged", "ring"] {
        let mut writer = Running::start(&env, &[feed, "--columns", "ts"]);
        writer.send("1\n");
        until("the row", || times(&env, feed).contains("1\n").then_some(()));
        // Killed: the owner takes over what root has left in memory.
        drop(writer);
    }
    let index = env.base().join("feeds/t/00000001.idx");
    fs::write(&index, "nothing").unwrap();
    for tool in ["dw-repair t", "dw-repair --all", "dw-gc", "dw-mkfeed gone --delete --yes"] {
        let (code, said) = status(&env.sh(tool));
        assert_eq!(code, Some(0), "{tool}: {said}");
    }
    let foreign = "find store shm -not \\( -user 1500 -group 1500 \\) -print";
    let foreign = foreign.replace("shm", &segments(&env).display().to_string());
    assert_eq!(env.quiet(&foreign), "", "not the owner's");
    assert_eq!(owner(&env, "dw-cat t -o csv --no-header"), "0\n1\n");
    for feed in ["disk", "staged", "ring", "t"] {
        owner(&env, &format!("echo 2 | dw-write {feed} --columns ts"));
        assert!(owner(&env, &format!("dw-cat {feed} -o csv --no-header")).ends_with("1\n2\n"));
    }
    owner(&env, "dw-gc; dw-repair --all; dw-mkfeed staged --delete --yes; dw-mkfeed new ts:uint64");
}

#[test]
fn a_file_that_may_not_be_read_does_not_pass_for_one_that_is_gone() {
    const TEST: &str = "a_file_that_may_not_be_read_does_not_pass_for_one_that_is_gone";
    let env = TestEnv::new();
    if !can_be_others(&env, TEST) {
        return;
    }
    env.quiet("install -d -o 1500 -g 1500 store");
    for (name, options) in [("disk", ""), ("staged", "--stage shm"), ("ring", "--ring")] {
        owner(&env, &format!("dw-mkfeed {name} ts:uint64 {options}"));
        let mut writer = Running::start(&env, &[name, "--columns", "ts"]);
        writer.send(&rows(0, 100));
        until("the rows", || (times(&env, name).lines().count() == 100).then_some(()));
        // Killed: what it says last is in its live page alone.
        drop(writer);
    }
    let memory = segments(&env);
    let closed = [
        ("disk", env.base().join("feeds/disk/live")),
        ("staged", memory.join("staged.live")),
        ("staged", memory.join("staged.chunks")),
        ("staged", memory.clone()),
        ("ring", memory.join("ring.ring")),
        ("ring", memory.clone()),
    ];
    for (name, path) in &closed {
        let mode = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap();
        for tool in ["dw-cat", "dw-ls", "dw-write --columns ts", "dw-repair --dry-run", "dw-repair"]
        {
            let (code, said) = status(&as_user(&env, OWNER, &format!("{tool} {name} <<< 7")));
            let what = format!("{} closed, {tool}: {said}", path.display());
            assert!(matches!(code, Some(1 | 2)), "{what}");
            assert!(code == Some(2) || tool == "dw-ls", "{what}");
            assert!(said.contains("Permission denied"), "{what}");
            for lie in ["is gone", "damaged", "missing", "machine stopped", "left out"] {
                assert!(!said.contains(lie), "{what}");
            }
        }
        as_user(&env, OWNER, "dw-gc");
        fs::set_permissions(path, mode).unwrap();
    }
    for name in ["disk", "staged", "ring"] {
        owner(&env, &format!("echo 100 | dw-write {name} --columns ts"));
        let out = owner(&env, &format!("dw-cat {name} -o csv --no-header --with-seq"));
        let wanted: String = (0..=100).map(|n| format!("{n},{n}\n")).collect();
        assert!(out == wanted, "{name}: {}", out.lines().count());
        assert!(owner(&env, &format!("dw-ls {name} --sessions")).contains("crashed"), "{name}");
    }
}
