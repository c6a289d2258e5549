//! The cost of appending a record, and of reading a range of one second.
#![allow(clippy::unwrap_used)]

use deepwater::Platform;
use deepwater::checksum::crc;
use deepwater::reader::{Direction, Selection};
use deepwater::schema::{FeedSpec, Sync};
use deepwater::writer::WriterOptions;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

const SPEC: &str = r#"{"feed_name":"t","fields":[{"name":"ts","type":"uint64"},
    {"name":"price","type":"float64"},{"name":"size","type":"float64"},
    {"name":"trade_id","type":"uint64"},{"name":"side","type":"char"}],"ts_col":"ts"}"#;
const RECORD_SIZE: usize = 40;

fn store(folder: &tempfile::TempDir) -> Platform {
    let platform = Platform::create(folder.path().join("store")).unwrap();
    platform.create_feed(&FeedSpec::from_json(SPEC).unwrap(), false).unwrap();
    platform
}

fn records(n: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(n as usize * RECORD_SIZE);
    for i in 0..n {
        bytes.extend_from_slice(&(1_700_000_000_000_000 + i * 500).to_le_bytes());
        bytes.extend_from_slice(&[1; RECORD_SIZE - 8]);
    }
    bytes
}

/// Appends batches of 1 record, of 100, and of as many as a large read returns.
#[divan::bench(args = [1, 100, 6000])]
fn append(bencher: Bencher<'_, '_>, batch: u64) {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(&folder);
    let options = WriterOptions { sync: Some(Sync::None), ..WriterOptions::default() };
    let mut writer = platform.create_writer_with("t", options).unwrap();
    let bytes = records(batch);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| writer.append_batch(&bytes).unwrap());
}

/// What the background thread does when a block is full: it sums 64 KiB.
#[divan::bench]
fn block_checksum(bencher: Bencher<'_, '_>) {
    let per_block = 65_536 / RECORD_SIZE as u64;
    let block = records(per_block);
    bencher.counter(ItemsCount::new(per_block)).bench_local(|| crc(divan::black_box(&block)));
}

/// Reads a second out of two million records, opening the feed each time.
#[divan::bench]
fn range(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(&folder);
    let mut writer = platform.create_writer("t").unwrap();
    writer.append_batch(&records(2_000_000)).unwrap();
    drop(writer);
    let since = 1_700_000_500_000_000;
    bencher.counter(ItemsCount::new(2000u64)).bench_local(|| {
        let reader = platform.create_reader("t").unwrap();
        let mut scan = reader.read(since, since + 1_000_000).unwrap();
        let mut count = 0;
        scan.for_each(|_| {
            count += 1;
            true
        })
        .unwrap();
        count
    });
}

/// Reads every record, and verifies every checksum.
#[divan::bench]
fn scan(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(&folder);
    let mut writer = platform.create_writer("t").unwrap();
    writer.append_batch(&records(1_000_000)).unwrap();
    drop(writer);
    let reader = platform.create_reader("t").unwrap();
    let snapshot = reader.snapshot().unwrap();
    bencher.counter(ItemsCount::new(1_000_000u64)).bench_local(|| {
        let mut scan = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
        let mut bytes = 0;
        while let Some(run) = scan.next_run().unwrap() {
            bytes += run.records.len();
        }
        bytes
    });
}
