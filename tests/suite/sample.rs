//! A store to be damaged, and a model of its contents that does not use the store's own code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use deepwater::reader::{Direction, Selection};
use deepwater::schema::{FeedSpec, Sync};
use deepwater::writer::{Writer, WriterOptions};
use deepwater::{Error, Platform};

use super::env::TestEnv;
use super::kit::{run, text, until};
use super::random::{Random, mix};

/// Size of a record: ts, n and a hash of both.
pub const RECORD: usize = 24;
/// Records per block of 64 KiB.
pub const BLOCK: u64 = 2730;
/// Records per chunk of 256 KiB.
pub const CHUNK: u64 = 4 * BLOCK;

/// The records of the feed `t`, by seq.
pub type Model = BTreeMap<u64, [u8; RECORD]>;

fn record(ts: u64, n: u64) -> [u8; RECORD] {
    let h = if n == 0 { 0 } else { mix(n ^ ts) };
    let mut bytes = [0; RECORD];
    for (i, word) in [ts, n, h].into_iter().enumerate() {
        bytes[i * 8..i * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Returns records with rising times, except for a late one here and there.
pub fn records(numbers: std::ops::Range<u64>) -> Vec<[u8; RECORD]> {
    let time = |n: u64| 1_700_000_000_000_000 + n * 10 - if n.is_multiple_of(17) { 500 } else { 0 };
    numbers.map(|n| record(time(n), n)).collect()
}

fn spec(name: &str, fields: &str) -> FeedSpec {
    let json = format!(
        r#"{{"feed_name":"{name}","fields":[{fields}],"ts_col":"ts","chunk_size_bytes":262144}}"#
    );
    FeedSpec::from_json(&json).expect("a spec")
}

const WORDS: &str = r#"{"name":"ts","type":"timestamp"},{"name":"n","type":"uint64"},
    {"name":"h","type":"uint64"}"#;

/// Opens a feed for writing. Retries, because a child that another test has just forked may hold
/// our last lock for a moment.
pub fn writer(platform: &Platform, feed: &str) -> Writer {
    until("the feed's lock", || match platform.create_writer_with(feed, unsynced()) {
        Err(Error::Locked { .. }) => None,
        other => Some(other.expect("a writer")),
    })
}

fn write(platform: &Platform, feed: &str, rows: &[[u8; RECORD]], mark_every: usize) {
    let mut writer = writer(platform, feed);
    let marks: Vec<usize> = (0..rows.len()).filter(|i| i % mark_every == 0).collect();
    writer.append_marked(&rows.concat(), &marks).expect("room");
}

fn unsynced() -> WriterOptions {
    WriterOptions { sync: Some(Sync::None), ..WriterOptions::default() }
}

/// Creates a store whose writers all ended: `t` in three sessions, with marks and with all-zero
/// records; `u` with another layout; `v` with the same.
pub fn closed(base: &Path) -> Model {
    let platform = Platform::create(base).expect("a store");
    platform.create_feed(&spec("t", WORDS), false).expect("a feed");
    platform.create_feed(&spec("v", WORDS), false).expect("a feed");
    let other = r#"{"name":"side","type":"char"},{"name":"ts","type":"timestamp"}"#;
    platform.create_feed(&spec("u", other), false).expect("a feed");
    let sessions = [
        (records(1..25_001), usize::MAX),
        (records(25_001..28_001), 500),
        (vec![[0; RECORD]; 4000].into_iter().chain(records(28_001..28_011)).collect(), 1000),
    ];
    let mut model = Model::new();
    for (rows, mark_every) in &sessions {
        write(&platform, "t", rows, *mark_every);
        model.extend((model.len() as u64..).zip(rows.iter().copied()));
    }
    write(&platform, "v", &records(1..501), 100);
    writer(&platform, "u").append_batch(&[1; 160]).expect("room");
    model
}

/// Creates a store as after a machine crash, by copying it while a writer runs. The first `durable`
/// records of the model are below the last checkpoint.
pub fn cut_off(base: &Path) -> (Model, u64) {
    // Keep the original. If the copy's live page got the inode of the original's, it would be
    // believed.
    let from = base.with_extension("original");
    let mut model = closed(&from);
    let platform = Platform::open(&from).expect("a store");
    let mut writer = writer(&platform, "t");
    let rows = records(30_000..47_000);
    writer.append_batch(&rows[..15_000].concat()).expect("room");
    writer.sync_now().expect("a disk");
    let durable = writer.next_seq();
    writer.append_batch(&rows[15_000..].concat()).expect("room");
    copy(&from, base);
    drop(writer);
    model.extend((model.len() as u64..).zip(rows));
    (model, durable)
}

/// Copies a store.
pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp").success());
}

/// Opens and closes `t`, so that a copied store believes its live page. Uses another process,
/// because a child that this one has just forked would keep holding its lock.
pub fn touch(env: &TestEnv) {
    assert!(run(env, "dw-write", &["t"], b"").status.success());
}

/// The result of reading `t`.
pub struct Got {
    /// The seqs whose records equal those of the model.
    pub seqs: BTreeSet<u64>,
    /// Whether the reader claimed that this is everything.
    pub clean: bool,
    /// The messages.
    pub said: String,
}

fn check(model: &Model, seq: u64, bytes: &[u8], what: &str) {
    let wanted = model.get(&seq).map(|record| &record[..]);
    assert!(wanted == Some(bytes), "{what}: seq {seq} was never written so: {bytes:?}");
}

/// Reads all of `t` with the real dw-cat.
pub fn cat(env: &TestEnv, model: &Model, what: &str) -> Got {
    let args = ["t", "-o", "csv", "--with-seq", "--no-header", "-b"];
    let base = env.base();
    let args = [&args[..], &[base.to_str().expect("UTF-8")]].concat();
    let output = run(env, "dw-cat", &args, b"");
    let said = text(&output.stderr);
    let clean = output.status.code() == Some(0);
    // The message about a session that was never closed comes even if no file shows more.
    let nothing =
        said.is_empty() || (said.contains("no file shows more") && said.lines().count() == 1);
    assert_eq!(nothing, clean, "{what}: {said}");
    let mut seqs = BTreeSet::new();
    for line in text(&output.stdout).lines() {
        let words: Vec<u64> = line.split(',').map(|word| word.parse().expect(line)).collect();
        let bytes: Vec<u8> = words[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
        check(model, words[0], &bytes, what);
        assert!(seqs.insert(words[0]), "{what}: seq {} came twice", words[0]);
    }
    Got { seqs, clean, said }
}

/// Reads all of `t` in this process.
pub fn scan(base: &Path, model: &Model, what: &str) -> Got {
    let mut got = Got { seqs: BTreeSet::new(), clean: true, said: String::new() };
    let read = || -> deepwater::Result<Got> {
        let reader = Platform::open(base)?.create_reader("t")?;
        let snapshot = reader.snapshot()?;
        let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
        let mut seqs = BTreeSet::new();
        while let Some(run) = scan.next_run()? {
            for (i, bytes) in run.records.chunks_exact(RECORD).enumerate() {
                let seq = run.first_seq + i as u64;
                check(model, seq, bytes, what);
                assert!(seqs.insert(seq), "{what}: seq {seq} came twice");
            }
        }
        let damage = scan.take_damage();
        let clean = damage.is_empty() && snapshot.doubts.is_empty();
        Ok(Got { seqs, clean, said: format!("{damage:?} {:?}", snapshot.doubts) })
    };
    match read() {
        Ok(found) => got = found,
        Err(error) => (got.clean, got.said) = (false, error.to_string()),
    }
    got
}

/// A kind of damage to a file.
#[derive(Clone, Debug)]
pub enum Blow {
    /// Flips a bit of the byte at this offset; from the end if negative.
    Flip(i64),
    /// Truncates to this many bytes; from the end if negative.
    Cut(i64),
    /// Appends this many bytes.
    Grow(usize),
    /// Writes this many bytes, random by a seed, at the offset.
    Smear(i64, usize, u64),
    /// Writes zeros at the offset.
    Zero(i64, usize),
    /// Removes the file.
    Remove,
    /// Swaps the file with another one.
    Swap(PathBuf),
    /// Puts a directory in its place.
    Folder,
    /// Moves the file and puts a link to it in its place.
    LinkAway,
    /// Puts a dangling link in its place.
    LinkNowhere,
}

impl Blow {
    /// Applies the damage.
    pub fn strike(&self, path: &Path) {
        let open = || fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
        let at = |offset: i64| {
            let len = fs::metadata(path).expect("a file").len() as i64;
            (if offset < 0 { len + offset } else { offset }).max(0) as u64
        };
        let away = path.with_file_name("elsewhere");
        match self {
            Blow::Flip(offset) => {
                let (file, offset, mut byte) = (open(), at(*offset), [0]);
                file.read_exact_at(&mut byte, offset).expect("a byte");
                file.write_all_at(&[byte[0] ^ 0x04], offset).expect("a disk");
            }
            Blow::Cut(len) => open().set_len(at(*len)).expect("a disk"),
            Blow::Grow(more) => {
                open().write_all_at(&vec![0x5a; *more], size(path)).expect("a disk");
            }
            Blow::Smear(offset, len, seed) => {
                let mut random = Random::new(*seed);
                let bytes: Vec<u8> = (0..*len).map(|_| random.next() as u8).collect();
                open().write_all_at(&bytes, at(*offset)).expect("a disk");
            }
            Blow::Zero(offset, len) => {
                open().write_all_at(&vec![0; *len], at(*offset)).expect("a disk");
            }
            Blow::Remove => fs::remove_file(path).expect("a file"),
            Blow::Swap(other) => {
                fs::rename(path, &away).expect("a file");
                fs::rename(other, path).expect("a file");
                fs::rename(&away, other).expect("a file");
            }
            Blow::Folder => {
                fs::remove_file(path).expect("a file");
                fs::create_dir(path).expect("a disk");
            }
            Blow::LinkAway => {
                fs::rename(path, &away).expect("a file");
                symlink(&away, path).expect("a disk");
            }
            Blow::LinkNowhere => {
                fs::remove_file(path).expect("a file");
                symlink("/nonexistent/file", path).expect("a disk");
            }
        }
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").len()
}

/// Returns names and contents of everything in a directory, except locks.
pub fn tree(base: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = item.path();
            match item.file_type().expect("a type") {
                kind if kind.is_dir() => folders.push(path.clone()),
                kind if kind.is_file() && folder.file_name() != Some("locks".as_ref()) => {
                    all.insert(path.clone(), fs::read(&path).expect("a file"));
                }
                _ => {}
            }
        }
    }
    all
}
