//! The library as a program uses it: data is written, read back and compared with a model.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deepwater::Platform;
use deepwater::reader::{Direction, Reader, Selection};
use deepwater::record::Value;
use deepwater::registry::feed::FeedRegistry;
use deepwater::ring::{self, Copied, Cursor, Found, Ring};
use deepwater::schema::{FeedSpec, Order};
use deepwater::writer::{SessionEnd, Writer, WriterOptions};

/// A small random number generator with a fixed seed, so that every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn spec(name: &str) -> FeedSpec {
    let json = format!(
        r#"{{"feed_name":"{name}","mode":"UF","fields":[
            {{"name":"price","type":"float64","desc":"Trade price"}},
            {{"name":"n","type":"uint64"}},
            {{"name":"ts","type":"uint64"}},
            {{"name":"batch","type":"uint32"}}],
            "ts_col":"ts","chunk_size_bytes":65536,"persist":true}}"#
    );
    FeedSpec::from_json(&json).unwrap()
}

fn record(n: u64, ts: u64, batch: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.extend_from_slice(&(n as f64 / 4.0).to_le_bytes());
    bytes.extend_from_slice(&n.to_le_bytes());
    bytes.extend_from_slice(&ts.to_le_bytes());
    bytes.extend_from_slice(&batch.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// Returns seq, number and time of every record of a scan.
fn collect(reader: &Reader, selection: Selection, direction: Direction) -> Vec<(u64, u64, u64)> {
    let snapshot = reader.snapshot().unwrap();
    let mut scan = reader.scan(&snapshot, selection, direction);
    let mut got = Vec::new();
    scan.for_each(|record| {
        let Some(Value::Uint(n)) = record.get("n") else { panic!("no n") };
        assert_eq!(record.get("price"), Some(Value::Float64(n as f64 / 4.0)));
        got.push((record.seq, n, record.time()));
        true
    })
    .unwrap();
    assert_eq!(scan.take_damage(), [], "an undamaged feed");
    got
}

/// Writes `rows` rows with late and repeated times, in batches of odd sizes, over several sessions.
fn write_sessions(platform: &Platform, rows: usize, random: &mut Random) -> Vec<(u64, u64, u64)> {
    let mut model = Vec::new();
    let mut clock = 1_000_000;
    while model.len() < rows {
        let mut writer = platform.create_writer("t").unwrap();
        assert_eq!(writer.next_seq(), model.len() as u64);
        for _ in 0..1 + random.below(20) {
            let mut batch = Vec::new();
            for _ in 0..random.below(2500) {
                clock += random.below(3) * 100;
                let late = if random.below(10) == 0 { random.below(500_000) } else { 0 };
                let (n, ts) = (model.len() as u64, clock - late.min(clock));
                batch.extend_from_slice(&record(n, ts, 0));
                model.push((n, n, ts));
            }
            writer.append_batch(&batch).unwrap();
        }
        writer.close(SessionEnd::Ended).unwrap();
    }
    model
}

#[test]
fn ranges_of_late_data_match_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let mut random = Random(7);
    let model = write_sessions(&platform, 60_000, &mut random);
    let reader = platform.create_reader("t").unwrap();
    let snapshot = reader.snapshot().unwrap();
    assert!(snapshot.chunks.len() > 25, "{} chunks", snapshot.chunks.len());
    assert_eq!(snapshot.records(), model.len() as u64);
    let newest = model.iter().map(|r| r.2).max().unwrap();
    for i in 0..400 {
        let seqs = match i % 3 {
            0 => (0, u64::MAX),
            _ => {
                let lo = random.below(model.len() as u64);
                (lo, lo + random.below(9000))
            }
        };
        let since = random.below(newest + 10_000);
        let times = if i % 5 == 0 { (0, u64::MAX) } else { (since, since + random.below(300_000)) };
        let selection = Selection { seqs, times };
        let mut want: Vec<_> = model
            .iter()
            .filter(|r| r.0 >= seqs.0 && r.0 < seqs.1 && r.2 >= times.0 && r.2 < times.1)
            .copied()
            .collect();
        assert_eq!(collect(&reader, selection, Direction::Forward), want, "{selection:?}");
        want.reverse();
        assert_eq!(collect(&reader, selection, Direction::Reverse), want, "back, {selection:?}");
    }
    let got = reader.times(&snapshot).unwrap();
    let oldest = model.iter().map(|r| r.2).min().unwrap();
    assert_eq!(got, Some((oldest, newest)));
}

#[test]
fn last_records_and_playback_from_marks() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let mut writer = platform.create_writer("t").unwrap();
    for n in 0..10_000 {
        if n % 1000 == 500 {
            writer.mark();
        }
        writer.append(&record(n, n * 10, 0)).unwrap();
    }
    let reader = platform.create_reader("t").unwrap();
    let numbers = |mut scan: deepwater::reader::Scan| {
        let mut got = Vec::new();
        scan.for_each(|r| {
            got.push(r.seq);
            true
        })
        .unwrap();
        got
    };
    for _open_then_closed in 0..2 {
        assert_eq!(numbers(reader.last(3).unwrap()), [9997, 9998, 9999]);
        assert!(numbers(reader.last(0).unwrap()).is_empty());
        assert_eq!(numbers(reader.last(99_999).unwrap()).len(), 10_000);
        assert_eq!(numbers(reader.playback(35_010).unwrap())[0], 3500);
        assert_eq!(numbers(reader.playback(35_000).unwrap())[0], 3500);
        assert_eq!(numbers(reader.playback(34_999).unwrap())[0], 2500);
        assert!(reader.playback(4_999).is_err(), "no mark that early");
        writer.sync_now().unwrap();
        assert_eq!(writer.durable(), 10_000);
    }
    writer.close(SessionEnd::Ended).unwrap();
    assert_eq!(numbers(reader.playback(u64::MAX).unwrap())[0], 9500);
}

#[test]
fn a_reader_beside_a_writer_sees_whole_batches_in_order() {
    const BATCHES: u32 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = platform.create_writer("t").unwrap();
            let mut random = Random(3);
            let mut n = 0;
            for batch in 0..BATCHES {
                let rows = 1 + random.below(400);
                let bytes: Vec<u8> = (0..rows).flat_map(|i| record(rows, n + i, batch)).collect();
                writer.append_batch(&bytes).unwrap();
                n += rows;
            }
            writer.close(SessionEnd::Ended).unwrap();
            done.store(true, Ordering::Release);
        });
        let reader = platform.create_reader("t").unwrap();
        let mut looks = 0;
        loop {
            let last_look = done.load(Ordering::Acquire);
            let snapshot = reader.snapshot().unwrap();
            let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
            let (mut next, mut in_batch, mut last) = (0, (0, 0), None);
            scan.for_each(|r| {
                assert_eq!(r.seq, next, "no gap, no repeat");
                assert_eq!(r.time(), next);
                let (Some(Value::Uint(rows)), Some(Value::Uint(batch))) =
                    (r.get("n"), r.get("batch"))
                else {
                    panic!("fields")
                };
                if last != Some(batch) {
                    assert_eq!(in_batch.0, in_batch.1, "batch {last:?} was whole");
                    in_batch = (0, rows);
                    last = Some(batch);
                }
                in_batch.0 += 1;
                next += 1;
                true
            })
            .unwrap();
            assert_eq!(scan.take_damage(), []);
            assert_eq!(in_batch.0, in_batch.1, "the newest batch is whole");
            assert_eq!(next, snapshot.end_seq);
            looks += 1;
            if last_look {
                assert_eq!(last, Some(u64::from(BATCHES) - 1));
                break;
            }
        }
        assert!(looks > 3, "{looks} looks while it was written");
    });
}

#[test]
fn snapshots_while_a_writer_opens_hold_whole_batches() {
    const SESSIONS: u64 = 150;
    const BATCH: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let rows: Vec<u8> = (0..BATCH).flat_map(|n| record(n, n, 0)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..SESSIONS {
                let mut writer = platform.create_writer("t").unwrap();
                writer.append_batch(&rows).unwrap();
                writer.close(SessionEnd::Ended).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let reader = platform.create_reader("t").unwrap();
        let mut newest = 0;
        while !done.load(Ordering::Acquire) {
            let snapshot = reader.snapshot().unwrap();
            assert_eq!(snapshot.end_seq % BATCH, 0, "after {newest}");
            assert_eq!(snapshot.records(), snapshot.end_seq);
            assert!(snapshot.end_seq >= newest, "{} after {newest}", snapshot.end_seq);
            newest = snapshot.end_seq;
        }
    });
    assert_eq!(platform.create_reader("t").unwrap().snapshot().unwrap().end_seq, SESSIONS * BATCH);
}

fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_flipped_byte_loses_only_its_block() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    let mut wide = spec("t");
    wide.policy.chunk_size_bytes = 1 << 20;
    platform.create_feed(&wide, false).unwrap();
    let mut writer = platform.create_writer("t").unwrap();
    let rows: Vec<u8> = (0..30_000).flat_map(|n| record(n, n, 0)).collect();
    writer.append_batch(&rows).unwrap();
    writer.close(SessionEnd::Ended).unwrap();
    flip(&folder.path().join("feeds/t/00000001.data"), 5 * 65536 + 99);
    let reader = platform.create_reader("t").unwrap();
    let mut lost = Vec::new();
    for direction in [Direction::Forward, Direction::Reverse] {
        let snapshot = reader.snapshot().unwrap();
        let mut scan = reader.scan(&snapshot, Selection::ALL, direction);
        let mut got = HashSet::new();
        scan.for_each(|r| got.insert(r.seq)).unwrap();
        let damage = scan.take_damage();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!((damage[0].chunk_id, damage[0].block), (1, 5));
        assert_eq!(damage[0].seqs, (5 * 2048, 6 * 2048));
        assert_eq!(damage[0].times, Some((5 * 2048, 6 * 2048 - 1)));
        assert_eq!(got.len(), 30_000 - 2048);
        lost.push(damage);
    }
    assert_eq!(lost[0], lost[1]);
}

#[test]
fn late_records_are_accepted_rejected_or_clamped_by_policy() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    for (order, want, rejected) in [
        (Order::Accept, vec![10, 20, 15, 30], vec![]),
        (Order::Reject, vec![10, 20, 30], vec![2]),
        (Order::Clamp, vec![10, 20, 20, 30], vec![]),
    ] {
        let mut spec = spec(&format!("{order:?}"));
        spec.policy.order = order;
        platform.create_feed(&spec, false).unwrap();
        let mut writer = platform.create_writer(&spec.feed_name).unwrap();
        let rows: Vec<u8> = [10, 20, 15, 30].iter().flat_map(|&ts| record(1, ts, 0)).collect();
        let done = writer.append_batch(&rows).unwrap();
        assert_eq!(done.rejected, rejected);
        assert_eq!(writer.counters().late, 1);
        writer.close(SessionEnd::Ended).unwrap();
        let reader = platform.create_reader(&spec.feed_name).unwrap();
        let got = collect(&reader, Selection::ALL, Direction::Forward);
        assert_eq!(got.iter().map(|r| r.2).collect::<Vec<_>>(), want, "{order:?}");
    }
}

#[test]
fn a_copied_store_trusts_its_checkpoint_not_its_live_page() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path().join("a")).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let options =
        WriterOptions { sync: Some(deepwater::schema::Sync::None), ..WriterOptions::default() };
    let mut writer = platform.create_writer_with("t", options).unwrap();
    let rows: Vec<u8> = (0..1000).flat_map(|n| record(n, n, 0)).collect();
    writer.append_batch(&rows).unwrap();
    writer.sync_now().unwrap();
    writer.append_batch(&rows[..32 * 10]).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([folder.path().join("a"), folder.path().join("b")])
        .status()
        .unwrap();
    assert!(copied.success());
    let copy = Platform::open(folder.path().join("b")).unwrap();
    let end = |p: &Platform| p.create_reader("t").unwrap().snapshot().unwrap().end_seq;
    assert_eq!(end(&platform), 1010);
    assert_eq!(end(&copy), 1000, "the checkpoint");
    let second = copy.create_writer("t").unwrap();
    assert!(second.next_seq() >= 1010, "no seq is used twice: {}", second.next_seq());
    second.close(SessionEnd::Ended).unwrap();
    assert_eq!(copy.create_reader("t").unwrap().snapshot().unwrap().records(), 1000);
}

#[test]
fn a_second_writer_fails_and_names_the_first_ones_pid() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let first = platform.create_writer("t").unwrap();
    let text = platform.create_writer("t").err().unwrap().to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    let text = platform.delete_feed("t").err().unwrap().to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    first.close(SessionEnd::Ended).unwrap();
    platform.create_writer("t").unwrap().close(SessionEnd::Ended).unwrap();
    platform.delete_feed("t").unwrap();
    assert!(platform.list_feeds().unwrap().is_empty());
    assert!(!folder.path().join("feeds/t").exists());
}

#[test]
fn a_session_without_records_leaves_no_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    platform.create_writer("t").unwrap().close(SessionEnd::Signal).unwrap();
    let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
    assert!(snapshot.chunks.is_empty());
    assert_eq!(snapshot.sessions[0].close.unwrap().reason, SessionEnd::Signal);
    let files: Vec<_> = std::fs::read_dir(folder.path().join("feeds/t")).unwrap().collect();
    assert_eq!(files.len(), 4, "feed.json, its copy, feed_registry.bin, live: {files:?}");
}

#[test]
fn chunks_are_numbered_in_the_order_of_their_records() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let options =
        WriterOptions { sync: Some(deepwater::schema::Sync::None), ..WriterOptions::default() };
    let mut writer = platform.create_writer_with("t", options).unwrap();
    let rows: Vec<u8> = (0..300).flat_map(|n| record(n, n, 0)).collect();
    // At full speed, so that the writing thread overtakes the one that prepares chunks.
    for _ in 0..2000 {
        writer.append_batch(&rows).unwrap();
    }
    writer.close(SessionEnd::Ended).unwrap();
    let ids = |platform: &Platform| -> Vec<u64> {
        let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
        assert_eq!(snapshot.records(), 600_000);
        snapshot.chunks.iter().map(|c| c.entry.chunk_id).collect()
    };
    let got = ids(&platform);
    assert!(got.is_sorted(), "{got:?}");
    // The next session removes leftovers. It must not remove these chunks.
    platform.create_writer("t").unwrap().close(SessionEnd::Ended).unwrap();
    assert_eq!(ids(&platform), got);
    let mut count = 0;
    let reader = platform.create_reader("t").unwrap();
    let mut scan = reader.scan(&reader.snapshot().unwrap(), Selection::ALL, Direction::Forward);
    scan.for_each(|_| {
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(scan.take_damage(), []);
    assert_eq!(count, 600_000);
}

/// Copies a store while it is being written. To the copy, this looks like a machine that stopped.
fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
}

fn unsynced() -> WriterOptions {
    WriterOptions { sync: Some(deepwater::schema::Sync::None), ..WriterOptions::default() }
}

#[test]
fn a_checkpoint_holds_when_the_rest_of_its_block_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a"), folder.path().join("b"));
    let platform = Platform::create(&from).unwrap();
    let mut wide = spec("t");
    wide.policy.chunk_size_bytes = 1 << 20;
    platform.create_feed(&wide, false).unwrap();
    let mut writer = platform.create_writer_with("t", unsynced()).unwrap();
    let rows: Vec<u8> = (0..1000).flat_map(|n| record(n, n, 0)).collect();
    writer.append_batch(&rows).unwrap();
    writer.sync_now().unwrap();
    for _ in 0..2 {
        writer.append_batch(&rows).unwrap();
    }
    let reader = platform.create_reader("t").unwrap();
    // Wait until the first block is closed, with all of its 2048 records.
    loop {
        let chunk = reader.snapshot().unwrap().chunks[0];
        let blocks = reader.index(&chunk).unwrap().blocks(0, 1, chunk.extent()).unwrap();
        if blocks[0].data_crc.is_some() {
            break;
        }
        std::thread::yield_now();
    }
    copy(&from, &to);
    flip(&to.join("feeds/t/00000001.data"), 32 * 1500);
    let platform = Platform::open(&to).unwrap();
    for _before_and_after_recovery in 0..2 {
        let reader = platform.create_reader("t").unwrap();
        assert_eq!(collect(&reader, Selection::ALL, Direction::Forward).len(), 1000);
        platform.create_writer("t").unwrap().close(SessionEnd::Ended).unwrap();
    }
}

#[test]
fn a_time_range_without_end_includes_the_greatest_time() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    platform.create_feed(&spec("t"), false).unwrap();
    let mut writer = platform.create_writer("t").ok();
    writer.as_mut().unwrap().append(&record(1, u64::MAX, 0)).unwrap();
    for _open_then_sealed in 0..2 {
        let reader = platform.create_reader("t").unwrap();
        let got = collect(&reader, Selection::times(7, u64::MAX), Direction::Forward);
        assert_eq!(got, [(0, 1, u64::MAX)]);
        assert_eq!(collect(&reader, Selection::times(7, 8), Direction::Forward), []);
        if let Some(writer) = writer.take() {
            writer.close(SessionEnd::Ended).unwrap();
        }
    }
}

#[test]
fn a_reader_beside_the_first_writer_sees_whole_batches_from_the_start() {
    const BATCH: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    let rows: Vec<u8> = (0..BATCH).flat_map(|n| record(n, n, 0)).collect();
    for round in 0..100 {
        let name = format!("t{round}");
        platform.create_feed(&spec(&name), false).unwrap();
        let reader = platform.create_reader(&name).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut writer = platform.create_writer(&name).unwrap();
                (0..5).for_each(|_| drop(writer.append_batch(&rows).unwrap()));
            });
            while !writing.is_finished() {
                let snapshot = reader.snapshot().unwrap();
                assert_eq!(snapshot.records() % BATCH, 0, "round {round}: a part of a batch");
            }
        });
    }
}

/// Appends all records of a cursor to `found`, copying at most `most` records at a time.
fn drain(cursor: &mut Cursor, size: usize, most: usize, found: &mut Vec<u8>) {
    let mut bytes = vec![0; size * most];
    while let Copied::Records { first_seq, count } = cursor.copy(u64::MAX, &mut bytes).unwrap() {
        assert_eq!(first_seq as usize * size, found.len());
        found.extend_from_slice(&bytes[..count * size]);
    }
}

/// Creates a transient feed with records of `size` bytes. Returns its writer and its ring.
fn open_ring(platform: &Platform, size: usize) -> (Writer, Arc<Ring>) {
    let name = format!("ring{size}");
    let rest = match size - 8 {
        0 => String::new(),
        rest => format!(r#", {{"name":"rest","type":"bytes{rest}"}}"#),
    };
    let spec = format!(
        r#"{{"feed_name":"{name}","mode":"UF","ts_col":"ts","persist":false,"packed":true,
            "ring_size_bytes":65536,"fields":[{{"name":"ts","type":"uint64"}}{rest}]}}"#
    );
    platform.create_feed(&FeedSpec::from_json(&spec).unwrap(), false).unwrap();
    let writer = platform.create_writer(&name).unwrap();
    let feed = platform.feed_info(&name).unwrap();
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, false).unwrap();
    let Found::Ring(ring) = ring::find(&feed, &registry, false).unwrap() else { panic!() };
    (writer, Arc::from(ring))
}

#[test]
fn rings_return_records_of_every_size_single_or_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    let mut random = Random(17);
    for size in [8, 13, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104] {
        let (mut writer, ring) = open_ring(&platform, size);
        let (mut written, mut near, mut far) = (Vec::new(), Vec::new(), Vec::new());
        let mut near_by = Cursor::new(Arc::clone(&ring), 0);
        let mut far_off = Cursor::new(ring, 0);
        for batch in 0..2000u64 {
            let begun = written.len();
            for _ in 0..[1, 1, 1, 2, 3][random.below(5) as usize] {
                let mut record = batch.to_le_bytes().to_vec();
                record.resize_with(size, || random.next() as u8);
                written.extend_from_slice(&record);
            }
            writer.append_batch(&written[begun..]).unwrap();
            drain(&mut near_by, size, 1 + random.below(3) as usize, &mut near);
            if random.below(4) == 0 {
                drain(&mut far_off, size, 1 + random.below(3) as usize, &mut far);
            }
        }
        drain(&mut far_off, size, 7, &mut far);
        assert!(near == written && far == written, "records of {size} bytes");
    }
}

#[test]
fn ring_readers_get_whole_records_written_one_by_one() {
    const COUNT: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::create(folder.path()).unwrap();
    for size in [16, 48, 88] {
        let (mut writer, ring) = open_ring(&platform, size);
        let fill = |seq: u64, record: &mut [u8]| {
            for (i, word) in record.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *word = (seq + i as u64 * COUNT).to_le_bytes();
            }
        };
        let reader = std::thread::spawn(move || {
            let mut cursor = Cursor::new(ring, 0);
            let (mut bytes, mut expected) = (vec![0; 3 * size], vec![0; size]);
            let mut next = 0;
            while next < COUNT {
                match cursor.copy(u64::MAX, &mut bytes).unwrap() {
                    Copied::Nothing => {}
                    Copied::Records { first_seq, count } => {
                        assert_eq!(first_seq, next);
                        for record in bytes[..count * size].chunks_exact(size) {
                            fill(next, &mut expected);
                            assert!(record == expected, "seq {next} of {size} bytes");
                            next += 1;
                        }
                    }
                    Copied::Lapped(lapped) => {
                        assert_eq!(lapped.seq_lo, next);
                        next = lapped.seq_hi;
                    }
                }
            }
        });
        let mut random = Random(size as u64);
        let mut record = vec![0; size];
        for seq in 0..COUNT {
            fill(seq, &mut record);
            writer.append(&record).unwrap();
            // Vary the pace: at times faster than the reader, at times about as fast.
            (0..random.below(1 << (seq >> 10 & 7))).for_each(|_| std::hint::spin_loop());
        }
        reader.join().unwrap();
    }
}
