//! What the library promises to programs that repair a store.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use deepwater::Platform;
use deepwater::reader::{Direction, Selection};
use deepwater::repair::{self, Action, Kind, Options};
use deepwater::schema::{FeedSpec, Sync};
use deepwater::writer::{SessionEnd, WriterOptions};

const CHUNK: u64 = 8192;
const HEADER: u64 = 4096;
const ENTRY: u64 = 128;

/// A feed of eight-byte records, 8192 to a chunk. A chunk is one block.
fn store(folder: &Path) -> Platform {
    let platform = Platform::create(folder).unwrap();
    let json = r#"{"feed_name":"t","fields":[{"name":"ts","type":"uint64"}],"ts_col":"ts",
        "chunk_size_bytes":65536}"#;
    platform.create_feed(&FeedSpec::from_json(json).unwrap(), false).unwrap();
    platform
}

fn unsynced() -> WriterOptions {
    WriterOptions { sync: Some(Sync::None), ..WriterOptions::default() }
}

fn rows(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(u64::to_le_bytes).collect()
}

fn copy(from: &Path, to: &Path) -> Platform {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
    Platform::open(to).unwrap()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Counts the records from seq 0 on. Checks that each holds its seq, and that a chunk whose entry
/// was lost is named.
fn count_beside_a_stray(platform: &Platform) -> u64 {
    let reader = platform.create_reader("t").unwrap();
    let snapshot = reader.snapshot().unwrap();
    assert!(snapshot.doubts.len() == 1, "{:?}", snapshot.doubts);
    assert!(snapshot.doubts[0].contains("whose entry was not on disk"), "{:?}", snapshot.doubts);
    let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
    let mut next = 0;
    scan.for_each(|record| {
        assert_eq!((record.seq, record.time()), (next, next));
        next += 1;
        true
    })
    .unwrap();
    assert_eq!(scan.take_damage(), []);
    next
}

#[test]
fn entries_that_never_reached_the_disk_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(&folder.path().join("a"));
    let mut writer = platform.create_writer_with("t", unsynced()).unwrap();
    writer.append_batch(&rows(0..CHUNK + 100)).unwrap();
    writer.sync_now().unwrap();
    // Fill two more chunks. The table's count includes them, but nothing else of them is on disk.
    writer.append_batch(&rows(CHUNK + 100..3 * CHUNK + 7)).unwrap();
    let table = |base: &str| folder.path().join(base).join("feeds/t/feed_registry.bin");
    for (base, first_zero) in [("b", 3), ("c", 2)] {
        let copied = copy(&folder.path().join("a"), &folder.path().join(base));
        // Entries: the session, then chunks 1 to 4.
        let zeros = vec![0; ((5 - first_zero) * ENTRY) as usize];
        overwrite(&table(base), HEADER + first_zero * ENTRY, &zeros);
        if first_zero == 2 {
            // The chunk of the checkpoint is missing, which no power loss causes.
            let reader = copied.create_reader("t").unwrap();
            let told = reader.snapshot().unwrap_err().to_string();
            assert!(told.contains("entry 2 is gone, and a checkpoint"), "{told}");
            assert!(copied.create_writer("t").is_err());
            continue;
        }
        let there = count_beside_a_stray(&copied);
        assert!((CHUNK + 100..=2 * CHUNK).contains(&there), "{there}");
        let mut next = copied.create_writer("t").unwrap();
        let first = next.append(&rows(0..1)).unwrap().first_seq;
        assert!(first >= 3 * CHUNK + 7, "seq {first} again");
        next.close(SessionEnd::Ended).unwrap();
        let reader = copied.create_reader("t").unwrap();
        assert_eq!(reader.snapshot().unwrap().records(), there + 1);
    }
}

#[test]
fn an_open_reader_continues_with_the_repaired_table() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path());
    let mut writer = platform.create_writer("t").unwrap();
    writer.append_batch(&rows(0..3 * CHUNK)).unwrap();
    writer.close(SessionEnd::Ended).unwrap();
    let reader = platform.create_reader("t").unwrap();
    assert_eq!(reader.snapshot().unwrap().records(), 3 * CHUNK);
    overwrite(&folder.path().join("feeds/t/00000002.data"), 800, &[0xff; 8]);

    let lock = repair::lock(&platform, "t").unwrap();
    let plan = repair::plan(&platform, "t", Options::default(), &mut |_| {}).unwrap();
    let found: Vec<_> = plan.findings.iter().map(|f| (f.kind, f.action, f.seqs)).collect();
    assert_eq!(found, [(Kind::Block, Action::Remove, Some((CHUNK, 2 * CHUNK)))]);
    assert_eq!((plan.records_gone(), plan.records), (CHUNK, 2 * CHUNK));
    let done = repair::apply(&plan, &lock).unwrap();
    drop(lock);
    assert!(done.quarantine.unwrap().join("00000002.data").exists());

    let snapshot = reader.snapshot().unwrap();
    assert_eq!((snapshot.records(), snapshot.end_seq), (2 * CHUNK, 3 * CHUNK));
    assert_eq!(snapshot.holes[0].seqs, (CHUNK, 2 * CHUNK));
    assert_eq!(snapshot.holes[0].times, Some((CHUNK, 2 * CHUNK - 1)));
    let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
    let mut seqs = Vec::new();
    scan.for_each(|record| {
        seqs.push(record.seq);
        true
    })
    .unwrap();
    assert_eq!(scan.take_damage(), []);
    assert!(seqs.into_iter().eq((0..CHUNK).chain(2 * CHUNK..3 * CHUNK)));
    // A second plan finds nothing, and the next writer continues after the last record.
    let plan = repair::plan(&platform, "t", Options::default(), &mut |_| {}).unwrap();
    assert!(plan.is_empty() && plan.is_sound(), "{:?}", plan.findings);
    let mut writer = platform.create_writer("t").unwrap();
    assert_eq!(writer.append(&rows(0..1)).unwrap().first_seq, 3 * CHUNK);
    writer.close(SessionEnd::Ended).unwrap();
    assert_eq!(reader.snapshot().unwrap().records(), 2 * CHUNK + 1, "the old reader sees it");
}
