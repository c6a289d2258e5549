//! Every kind of damage to every file: nothing that was not written is shown, what is wrong is
//! named, and dw-repair brings back all that is left somewhere, keeps the originals, and finds
//! nothing the second time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use deepwater::Platform;
use serde_json::Value;
use tempfile::TempDir;

use super::env::TestEnv;
use super::kit::{Running, run, text, until};
use super::sample::{
    BLOCK, Blow, CHUNK, Model, RECORD, cat, closed, copy, cut_off, records, touch, tree, writer,
};

/// One blow, and the seqs of `t` that are gone for it.
struct Case {
    file: &'static str,
    blow: Blow,
    gone: Vec<(u64, u64)>,
}

fn case(file: &'static str, blow: Blow) -> Case {
    Case { file, blow, gone: Vec::new() }
}

fn loses(file: &'static str, blow: Blow, gone: &[(u64, u64)]) -> Case {
    Case { file, blow, gone: gone.to_vec() }
}

/// The `n`-th block of the second chunk of `t`.
fn block(n: u64) -> (u64, u64) {
    (CHUNK + n * BLOCK, CHUNK + (n + 1) * BLOCK)
}

fn end_of(block: (u64, u64)) -> u64 {
    block.1
}

/// What a repair printed with `--json`: the ranges taken out.
fn removed(stdout: &[u8], feed: &str) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    for line in text(stdout).lines() {
        let found: Value = serde_json::from_str(line).expect("JSON");
        let keys: Vec<&str> =
            found.as_object().expect("an object").keys().map(String::as_str).collect();
        let wanted = ["feed", "chunk", "kind", "seq_lo", "seq_hi", "since", "until", "action"];
        assert_eq!(keys, wanted, "{line}");
        if found["action"] == "remove" && found["feed"] == feed {
            let number = |key: &str| found[key].as_u64().expect("a seq");
            ranges.push((number("seq_lo"), number("seq_hi")));
        }
    }
    ranges
}

/// The seqs of the model that a reading did not give, as ranges.
fn missing(model: &Model, seqs: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in model.keys().filter(|seq| !seqs.contains(seq)) {
        match ranges.last_mut() {
            Some(last) if last.1 == *seq => last.1 += 1,
            _ => ranges.push((*seq, seq + 1)),
        }
    }
    ranges
}

/// The records of all `.data` files of `t`, in the order of their names.
fn data_files(base: &Path) -> Vec<u8> {
    let folder = base.join("feeds/t");
    let listing = fs::read_dir(folder).expect("a folder").flatten().map(|item| item.path());
    let mut data: Vec<_> =
        listing.filter(|path| path.extension().is_some_and(|e| e == "data")).collect();
    data.sort();
    data.iter().flat_map(|path| fs::read(path).expect("a file")).collect()
}

fn strike(template: &Path, model: &Model, case: &Case) {
    let what = format!("{}: {:?}", case.file, case.blow);
    let env = TestEnv::new();
    copy(template, &env.base());
    touch(&env);
    let blow = match &case.blow {
        Blow::Swap(other) => Blow::Swap(env.base().join(other)),
        other => other.clone(),
    };
    blow.strike(&env.base().join(case.file));
    let store_file = !case.file.contains('/');
    let args: &[&str] = if store_file { &["--rebuild-registry", "--all"] } else { &["--all"] };
    // Before: what is shown is right, and not called complete if it is not.
    let got = cat(&env, model, &what);
    assert!(!got.clean || got.seqs.len() == model.len(), "{what}: less than all, in silence");
    run(&env, "dw-ls", &["--chunks"], b"");
    let before = tree(&env.base());
    let dry = run(&env, "dw-repair", &[args, &["--dry-run"]].concat(), b"");
    let said = text(&dry.stdout) + &text(&dry.stderr);
    assert_eq!(dry.status.code(), Some(1), "{what}: the dry run\n{said}");
    assert!(said.contains("would be"), "{what}: {said}");
    assert_eq!(tree(&env.base()), before, "{what}: a dry run changes nothing");
    // Repaired: all but what is named.
    let repaired = run(&env, "dw-repair", &[args, &["--json"]].concat(), b"");
    let said = text(&repaired.stdout) + &text(&repaired.stderr);
    let code = i32::from(!case.gone.is_empty());
    assert_eq!(repaired.status.code(), Some(code), "{what}\n{said}");
    assert_eq!(removed(&repaired.stdout, "t"), case.gone, "{what}");
    let after = cat(&env, model, &format!("{what}, repaired"));
    assert!(after.clean, "{what}: {}\n{said}", after.said);
    assert_eq!(missing(model, &after.seqs), case.gone, "{what}");
    let again = run(&env, "dw-repair", &[args, &["-v"]].concat(), b"");
    let said_again = text(&again.stdout);
    assert!(again.status.success() && said_again.is_empty(), "{what}: again\n{said_again}");
    check_kept(&env.base(), &before, &what);
    let left: Vec<u8> = after.seqs.iter().flat_map(|seq| model[seq]).collect();
    assert!(data_files(&env.base()) == left, "{what}: the files are not the records in order");
    go_on(&env, model, &what);
}

/// Every file that a repair changed or removed is in quarantine as it was.
fn check_kept(
    base: &Path,
    before: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>,
    what: &str,
) {
    let after = tree(base);
    let quarantine = base.join("quarantine");
    let kept: Vec<&Vec<u8>> =
        after.iter().filter(|(path, _)| path.starts_with(&quarantine)).map(|(_, b)| b).collect();
    for (path, bytes) in before.iter().filter(|(path, _)| !path.ends_with("deepwater.log")) {
        let same = after.get(path) == Some(bytes);
        assert!(same || kept.contains(&bytes), "{what}: {} was not kept", path.display());
    }
}

/// A repaired feed takes records, with new seqs.
fn go_on(env: &TestEnv, model: &Model, what: &str) {
    let mut writer = writer(&Platform::open(env.base()).expect(what), "t");
    let first = writer.append(&[7; RECORD]).expect(what).first_seq;
    assert!(first >= model.len() as u64, "{what}: seq {first} again");
    drop(writer);
    let output = run(env, "dw-cat", &["t", "-n1", "-o", "raw"], b"");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &[7; RECORD][..]), "{what}");
}

fn strike_all(cases: &[Case]) {
    let folder = TempDir::new().expect("a folder");
    let template = folder.path().join("store");
    let model = closed(&template);
    for case in cases {
        strike(&template, &model, case);
    }
}

const DATA: &str = "feeds/t/00000002.data";
const INDEX: &str = "feeds/t/00000002.idx";
const TABLE: &str = "feeds/t/feed_registry.bin";
const LIVE: &str = "feeds/t/live";
const SPEC: &str = "feeds/t/feed.json";

#[test]
fn records_of_a_chunk() {
    let whole = (CHUNK, 2 * CHUNK);
    let size = CHUNK as i64 * RECORD as i64;
    let per_block = BLOCK as i64 * RECORD as i64;
    strike_all(&[
        loses(DATA, Blow::Flip(0), &[block(0)]),
        loses(DATA, Blow::Flip(per_block + 99), &[block(1)]),
        loses(DATA, Blow::Flip(-1), &[block(3)]),
        loses(DATA, Blow::Zero(2 * per_block, 4096), &[block(2)]),
        loses(DATA, Blow::Smear(per_block - 10, 20, 1), &[(block(0).0, end_of(block(1)))]),
        loses(DATA, Blow::Cut(size / 2), &[(block(2).0, whole.1)]),
        loses(DATA, Blow::Cut(size - 1), &[block(3)]),
        loses(DATA, Blow::Cut(0), &[whole]),
        loses(DATA, Blow::Remove, &[whole]),
        loses(DATA, Blow::Folder, &[whole]),
        loses(DATA, Blow::LinkNowhere, &[whole]),
        case(DATA, Blow::LinkAway),
        case(DATA, Blow::Grow(1)),
        case(DATA, Blow::Grow(100_000)),
        case(DATA, Blow::Swap("feeds/t/00000001.data".into())),
        // The last chunk of all; its records are zeros.
        case("feeds/t/00000005.data", Blow::Grow(24)),
        loses("feeds/t/00000005.data", Blow::Flip(9), &[(28_000, 28_000 + BLOCK)]),
        loses("feeds/t/00000001.data", Blow::Remove, &[(0, CHUNK)]),
    ]);
}

#[test]
fn indexes() {
    let mut cases: Vec<Case> = [0, 8, 20, 50, 60, 88, 100, 125, 300, 512, 1024, 1030, 1056, 1070]
        .into_iter()
        .chain([2000, 4096, 4104, 4112, 4116, 4120, 4124, 4096 + 3 * 32, -1])
        .map(|at| case(INDEX, Blow::Flip(at)))
        .collect();
    cases.extend([
        case(INDEX, Blow::Zero(1024, 512)),
        case(INDEX, Blow::Zero(4096, 128)),
        case(INDEX, Blow::Smear(4096, 128, 5)),
        case(INDEX, Blow::Cut(4096 + 40)),
        case(INDEX, Blow::Cut(100)),
        case(INDEX, Blow::Cut(0)),
        case(INDEX, Blow::Grow(7)),
        case(INDEX, Blow::Remove),
        case(INDEX, Blow::Folder),
        case(INDEX, Blow::LinkAway),
        case(INDEX, Blow::LinkNowhere),
        case(INDEX, Blow::Swap("feeds/t/00000001.idx".into())),
        case(INDEX, Blow::Swap("feeds/v/00000001.idx".into())),
        // With marks.
        case("feeds/t/00000004.idx", Blow::Flip(-3)),
        case("feeds/t/00000004.idx", Blow::Cut(-16)),
        case("feeds/t/00000005.idx", Blow::Remove),
    ]);
    strike_all(&cases);
}

#[test]
fn tables() {
    // Session 1, its three chunks, session 2, its chunk, session 3, its chunk, and one that is
    // empty.
    let entry = |n: i64, at: i64| 4096 + n * 128 + at;
    let mut flips = vec![0, 8, 20, 33, 52, 100, 126, 300, 512, 520, 528, 600, 700, 1024, 1034];
    flips.extend([1100, 2048 + 40, 2560 + 40]);
    flips.extend([
        entry(0, 0),
        entry(0, 10),
        entry(0, 70),
        entry(0, 113),
        entry(1, 4),
        entry(1, 16),
    ]);
    flips.extend([entry(2, 64), entry(2, 100), entry(2, 112), entry(4, 20), entry(6, 64)]);
    flips.extend([entry(7, 17), entry(8, 9), entry(8, 112)]);
    let mut cases: Vec<Case> = flips.into_iter().map(|at| case(TABLE, Blow::Flip(at))).collect();
    cases.extend([
        case(TABLE, Blow::Zero(entry(2, 0), 128)),
        case(TABLE, Blow::Zero(entry(7, 0), 256)),
        case(TABLE, Blow::Zero(0, 4096)),
        case(TABLE, Blow::Zero(4096, 4096)),
        case(TABLE, Blow::Smear(entry(0, 0), 512, 3)),
        case(TABLE, Blow::Cut(0)),
        case(TABLE, Blow::Cut(4096)),
        case(TABLE, Blow::Cut(entry(3, 64))),
        case(TABLE, Blow::Cut(40_000)),
        case(TABLE, Blow::Grow(9)),
        case(TABLE, Blow::Remove),
        case(TABLE, Blow::Folder),
        case(TABLE, Blow::LinkAway),
        case(TABLE, Blow::LinkNowhere),
        case(TABLE, Blow::Swap("feeds/v/feed_registry.bin".into())),
    ]);
    strike_all(&cases);
}

#[test]
fn live_pages_specs_and_the_stores_own_files() {
    let mut cases: Vec<Case> = Vec::new();
    for at in [0, 8, 20, 36, 125, 130, 196, 256, 320, 326, 900, 1540, 4000] {
        cases.push(case(LIVE, Blow::Flip(at)));
    }
    for at in [0, 20, 60, 200, 400, -2, -10, -40] {
        cases.push(case(SPEC, Blow::Flip(at)));
    }
    let others = ["manifest.json", "registry.bin", "feeds/t/feed.copy.json"];
    for at in [0, 3, 9, 33, 57, 75, 120] {
        // Names of keys, and which release made the store, say nothing.
        cases.push(case(others[1], Blow::Flip(at)));
    }
    cases.extend([case(others[1], Blow::Flip(124)), case(others[1], Blow::Flip(-100))]);
    cases.extend([case(others[0], Blow::Flip(0)), case(others[0], Blow::Flip(-10))]);
    cases.extend([case(others[0], Blow::Flip(47)), case(others[2], Blow::Flip(100))]);
    for file in [LIVE, SPEC, others[0], others[1], others[2]] {
        cases.push(case(file, Blow::Cut(0)));
        cases.push(case(file, Blow::Cut(-5)));
        cases.push(case(file, Blow::Grow(5)));
        cases.push(case(file, Blow::Remove));
        cases.push(case(file, Blow::Folder));
        cases.push(case(file, Blow::LinkAway));
        cases.push(case(file, Blow::LinkNowhere));
    }
    cases.push(case(LIVE, Blow::Swap("feeds/v/live".into())));
    cases.push(case(SPEC, Blow::Swap("feeds/v/feed.json".into())));
    strike_all(&cases);
}

#[test]
fn several_at_once() {
    let folder = TempDir::new().expect("a folder");
    let template = folder.path().join("store");
    let model = closed(&template);
    // Two holes in one chunk, then one more in a part of it.
    let env = TestEnv::new();
    copy(&template, &env.base());
    let data = env.base().join(DATA);
    let per_block = BLOCK as i64 * RECORD as i64;
    Blow::Flip(5).strike(&data);
    Blow::Flip(2 * per_block).strike(&data);
    let output = run(&env, "dw-repair", &["t", "--json"], b"");
    assert_eq!(removed(&output.stdout, "t"), [block(0), block(2)]);
    let names = |env: &TestEnv| -> Vec<String> {
        let listing = fs::read_dir(env.base().join("feeds/t")).expect("a folder").flatten();
        let names = listing.map(|item| item.file_name().into_string().expect("a name"));
        let mut names: Vec<_> =
            names.filter(|n| n.starts_with("00000002") && n.ends_with("data")).collect();
        names.sort();
        names
    };
    assert_eq!(names(&env), ["00000002.3333.data", "00000002.6666.data"]);
    Blow::Flip(5).strike(&env.base().join("feeds/t/00000002.3333.data"));
    let output = run(&env, "dw-repair", &["t", "--json"], b"");
    assert_eq!(removed(&output.stdout, "t"), [block(1)]);
    assert_eq!(names(&env), ["00000002.6666.data"]);
    let got = cat(&env, &model, "two holes and one");
    assert_eq!(missing(&model, &got.seqs), [(block(0).0, block(2).1)]);
    assert!(got.clean && run(&env, "dw-repair", &["t"], b"").stdout.is_empty());

    // Every index, and the table: the records and the spec are enough.
    let env = TestEnv::new();
    copy(&template, &env.base());
    touch(&env);
    for item in fs::read_dir(env.base().join("feeds/t")).expect("a folder").flatten() {
        let name = item.file_name().into_string().expect("a name");
        if name.ends_with(".idx") || name == "feed_registry.bin" || name == "feed.copy.json" {
            fs::remove_file(item.path()).expect("a file");
        }
    }
    let output = run(&env, "dw-repair", &["t"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let got = cat(&env, &model, "the records and the spec");
    assert!(got.clean && got.seqs.len() == model.len(), "{}", got.said);
    assert!(run(&env, "dw-repair", &["t"], b"").stdout.is_empty());
    go_on(&env, &model, "the records and the spec");

    // Both copies of the spec: whoever made the feed can make them again.
    for name in ["feed.json", "feed.copy.json"] {
        fs::remove_file(env.base().join("feeds/t").join(name)).expect("a file");
    }
    let output = run(&env, "dw-repair", &["t"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("dw-mkfeed"), "{}", text(&output.stderr));
    let fields = ["t", "ts:timestamp", "n:uint64", "h:uint64"];
    assert!(run(&env, "dw-mkfeed", &fields, b"").status.success());
    assert!(run(&env, "dw-repair", &["t"], b"").status.success());
    go_on(&env, &model, "the spec again");
}

#[test]
fn locks_are_put_back() {
    let folder = TempDir::new().expect("a folder");
    let template = folder.path().join("store");
    let model = closed(&template);
    for odd in [false, true] {
        let env = TestEnv::new();
        copy(&template, &env.base());
        let locks = env.base().join("locks");
        if odd {
            for item in fs::read_dir(&locks).expect("a folder").flatten() {
                fs::remove_file(item.path()).expect("a file");
                fs::create_dir(item.path()).expect("a disk");
            }
        } else {
            fs::remove_dir_all(&locks).expect("a folder");
        }
        assert!(cat(&env, &model, "without locks").clean, "reading goes on");
        let output = run(&env, "dw-write", &["t"], b"");
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(odd || said.contains("dw-repair"), "{said}");
        assert_eq!(run(&env, "dw-repair", &["--all", "--dry-run"], b"").status.code(), Some(1));
        assert_eq!(run(&env, "dw-repair", &["--all"], b"").status.code(), Some(0));
        assert!(run(&env, "dw-repair", &["--all"], b"").stdout.is_empty());
        go_on(&env, &model, "locks put back");
    }
}

/// Writes 10,000 rows as dw-write does, waits until those that were sent first are durable, and
/// kills it.
fn killed() -> (TestEnv, Model) {
    let env = TestEnv::new();
    let mut model = closed(&env.base());
    let rows = records(50_000..60_000);
    let mut child = Running::start(&env, &["t", "--columns", "ts,n,h", "--ack", "--sync", "5ms"]);
    let line = |row: &[u8; RECORD]| {
        let words = row
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")).to_string());
        words.collect::<Vec<_>>().join(",") + "\n"
    };
    let base = model.len() as u64;
    child.send(&rows.iter().map(line).collect::<String>());
    let end = (base + 10_000).to_string();
    until("the last row to be durable", || child.out().lines().any(|l| l == end).then_some(()));
    child.child.kill().expect("it can be killed");
    child.child.wait().expect("it ends");
    model.extend((base..).zip(rows));
    (env, model)
}

#[test]
fn a_killed_writers_feed_with_damage_beside() {
    let last = "feeds/t/00000006.data";
    let base = 32_010;
    let cases: Vec<Case> = vec![
        case(LIVE, Blow::Remove),
        case(LIVE, Blow::Flip(320)),
        case(LIVE, Blow::Flip(1550)),
        case(LIVE, Blow::Flip(130)),
        case("feeds/t/00000006.idx", Blow::Remove),
        case("feeds/t/00000006.idx", Blow::Flip(4120)),
        case(TABLE, Blow::Remove),
        case(TABLE, Blow::Flip(4096 + 9 * 128 + 20)),
        loses(last, Blow::Cut(BLOCK as i64 * 24 + 5), &[(base + BLOCK, base + 10_000)]),
        loses(last, Blow::Flip(100), &[(base, base + BLOCK)]),
        loses(last, Blow::Remove, &[(base, base + 10_000)]),
    ];
    for case in cases {
        let (env, model) = killed();
        let what = format!("killed, {}: {:?}", case.file, case.blow);
        case.blow.strike(&env.base().join(case.file));
        let got = cat(&env, &model, &what);
        assert!(!got.clean || got.seqs.len() == model.len(), "{what}: less, in silence");
        let dry = run(&env, "dw-repair", &["t", "--dry-run"], b"");
        assert_eq!(dry.status.code(), Some(1), "{what}: {}", text(&dry.stdout));
        let output = run(&env, "dw-repair", &["t", "--json"], b"");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(!case.gone.is_empty())), "{what}\n{said}");
        assert_eq!(removed(&output.stdout, "t"), case.gone, "{what}");
        let after = cat(&env, &model, &what);
        assert!(after.clean, "{what}: {}", after.said);
        assert_eq!(missing(&model, &after.seqs), case.gone, "{what}");
        let again = run(&env, "dw-repair", &["t"], b"");
        assert!(again.status.success() && again.stdout.is_empty(), "{}", text(&again.stdout));
        go_on(&env, &model, &what);
    }
}

#[test]
fn a_killed_writers_feed_is_whole_after_a_repair() {
    let (env, model) = killed();
    let dry = run(&env, "dw-repair", &["t", "--dry-run"], b"");
    assert_eq!(dry.status.code(), Some(0), "no damage: {}", text(&dry.stdout));
    assert!(text(&dry.stdout).contains("not closed"), "{}", text(&dry.stdout));
    assert_eq!(run(&env, "dw-repair", &["t"], b"").status.code(), Some(0));
    let got = cat(&env, &model, "killed");
    assert!(got.clean && got.seqs.len() == model.len());
    let listed = run(&env, "dw-ls", &["t", "--sessions"], b"");
    assert!(text(&listed.stdout).contains("crashed"), "{}", text(&listed.stdout));
    let again = run(&env, "dw-repair", &["t", "-v"], b"");
    assert!(again.status.success() && again.stdout.is_empty());
    go_on(&env, &model, "killed");
}

#[test]
fn after_a_power_loss_damage_is_told_from_what_was_never_there() {
    let folder = TempDir::new().expect("a folder");
    let template = folder.path().join("store");
    let (model, durable) = cut_off(&template);
    let open_block = 32_010 + CHUNK + BLOCK;
    for (file, blow, gone) in [
        // Nothing: recovery as the next writer does it.
        ("", Blow::Remove, None),
        // Below the checkpoint, in the block that is not closed.
        ("feeds/t/00000007.data", Blow::Flip(BLOCK as i64 * 24 + 100), Some((open_block, durable))),
        ("feeds/t/00000007.data", Blow::Flip(100), Some((32_010 + CHUNK, open_block))),
        ("feeds/t/00000006.data", Blow::Flip(100), Some((32_010, 32_010 + BLOCK))),
        (TABLE, Blow::Flip(4096 + 10 * 128 + 20), None),
    ] {
        let what = format!("after a power loss, {file}: {blow:?}");
        let env = TestEnv::new();
        copy(&template, &env.base());
        let whole = cat(&env, &model, &what);
        assert!(whole.seqs.len() as u64 >= durable, "{}", whole.said);
        assert!(whole.said.contains("records are proven below seq"), "{}", whole.said);
        assert_eq!(whole.said.lines().count(), 1, "{}", whole.said);
        if !file.is_empty() {
            blow.strike(&env.base().join(file));
            let got = cat(&env, &model, &what);
            assert!(!got.clean && got.said != whole.said, "{what}: in silence: {}", got.said);
        }
        let output = run(&env, "dw-repair", &["t", "--json"], b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(gone.is_some())), "{what}: {said}");
        assert_eq!(removed(&output.stdout, "t"), Vec::from_iter(gone), "{what}");
        let after = cat(&env, &model, &what);
        assert!(after.clean, "{what}: {}", after.said);
        let lost = |seq: &u64| gone.is_some_and(|gone| (gone.0..gone.1).contains(seq));
        let durable_ones = (0..durable).filter(|seq| !lost(seq));
        assert!(durable_ones.into_iter().all(|seq| after.seqs.contains(&seq)), "{what}");
        let again = run(&env, "dw-repair", &["t"], b"");
        assert!(again.status.success() && again.stdout.is_empty(), "{}", text(&again.stdout));
        go_on(&env, &model, &what);
    }
}

#[test]
fn a_folder_where_the_next_chunk_is_to_be_is_moved_away() {
    let folder = TempDir::new().expect("a folder");
    let template = folder.path().join("store");
    let (model, _) = cut_off(&template);
    let index = "feeds/t/00000008.idx";
    // The writer that was cut off may have made it ahead.
    let _ = fs::remove_file(template.join(index));
    fs::create_dir(template.join(index)).expect("nothing is there");
    // A writer begins what recovery it can before it meets the folder; a repair does it all.
    for written in [false, true] {
        let env = TestEnv::new();
        copy(&template, &env.base());
        if written {
            let refused = run(&env, "dw-write", &["t", "--columns", "ts,n,h"], b"");
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{said}");
            assert!(said.contains("00000008.idx") && said.contains("a folder where"), "{said}");
        }
        let repaired = run(&env, "dw-repair", &["t"], b"");
        assert_eq!(repaired.status.code(), Some(0), "{}", text(&repaired.stderr));
        assert!(!env.base().join(index).is_dir());
        go_on(&env, &model, "a folder in the way");
    }
}

#[test]
fn a_feed_that_is_written_is_refused_and_checked_all_the_same() {
    let env = TestEnv::new();
    let mut model = closed(&env.base());
    let mut child = Running::start(&env, &["t", "--columns", "ts,n,h"]);
    child.send("1,2,3\n");
    let wrote = |env: &TestEnv| text(&run(env, "dw-cat", &["t", "-n1"], b"").stdout);
    until("the row", || wrote(&env).contains("\"n\":2,").then_some(()));
    let before = tree(&env.base().join("feeds/t"));
    let output = run(&env, "dw-repair", &["t"], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains(&format!("process {}", child.pid())), "{said}");
    let sound = run(&env, "dw-repair", &["--all", "--dry-run"], b"");
    assert_eq!((sound.status.code(), text(&sound.stdout).as_str()), (Some(0), ""));
    Blow::Flip(77).strike(&env.base().join(DATA));
    let output = run(&env, "dw-repair", &["t", "--dry-run", "--json"], b"");
    assert_eq!((output.status.code(), removed(&output.stdout, "t")), (Some(1), vec![block(0)]));
    // The lock file is gone, the writer is not.
    fs::remove_dir_all(env.base().join("locks")).expect("a folder");
    let output = run(&env, "dw-repair", &["t"], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("process {}", child.pid())), "{said}");
    for (path, bytes) in tree(&env.base().join("feeds/t")) {
        let changes = [DATA, LIVE, TABLE].map(|name| env.base().join(name)).contains(&path);
        assert!(changes || before.get(&path) == Some(&bytes), "{} changed", path.display());
    }
    child.finish();
    let mut row = [0; RECORD];
    (row[0], row[8], row[16]) = (1, 2, 3);
    model.insert(model.len() as u64, row);
    let got = cat(&env, &model, "written");
    assert_eq!(missing(&model, &got.seqs), [block(0)]);
}

#[test]
fn dw_gc_lets_the_parts_of_a_chunk_alone() {
    let env = TestEnv::new();
    let model = closed(&env.base());
    // Of the first chunk: what comes before it in the table is forgotten.
    Blow::Flip(BLOCK as i64 * 24 + 1).strike(&env.base().join("feeds/t/00000001.data"));
    assert_eq!(run(&env, "dw-repair", &["t"], b"").status.code(), Some(1));
    let output = run(&env, "dw-gc", &[], b"");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    let got = cat(&env, &model, "collected");
    assert!(got.clean, "{}", got.said);
    assert_eq!(missing(&model, &got.seqs), [(BLOCK, 2 * BLOCK)]);
    let log = fs::read_to_string(env.base().join("deepwater.log")).expect("a log");
    let line = log.lines().find(|line| line.contains("event=repair")).expect("a line");
    assert!(line.contains("feed=t chunk=1 kind=block seq=2730..5460 action=remove"), "{line}");
}

#[test]
fn python_reads_what_a_repair_left() {
    let env = TestEnv::new();
    closed(&env.base());
    Blow::Flip(BLOCK as i64 * 24 + 1).strike(&env.base().join(DATA));
    assert_eq!(run(&env, "dw-repair", &["t"], b"").status.code(), Some(1));
    // Numbers as they were written, but for those of one block, in the order of the files' names.
    let script = "
import glob, struct, sys
blob = b''.join(open(f, 'rb').read() for f in sorted(glob.glob(sys.argv[1] + '/0000*.data')))
got = [n for ts, n, h in struct.iter_unpack('<QQQ', blob)]
want = list(range(1, 28001)) + [0] * 4000 + list(range(28001, 28011))
del want[4 * 2730 + 2730:4 * 2730 + 2 * 2730]
assert got == want, (len(got), len(want))";
    let python = Command::new("python3")
        .args(["-c", script])
        .arg(env.base().join("feeds/t"))
        .stdin(Stdio::null())
        .status();
    assert!(python.expect("python3").success());
}
