//! What a record costs as text: a run is 1,000 records, so microseconds here read as nanoseconds
//! a record.
//!
//!     cargo bench -p deepwater --bench encode

use std::hint::black_box;

use deepwater::layout::Layout;
use deepwater::schema::FeedSpec;
use deepwater::text::encode::{EncodeOptions, Encoder, OutputFormat, TimeStyle};
use divan::{Bencher, counter::ItemsCount};
use jiff::tz::TimeZone;

const RECORDS: usize = 1000;
/// Enough different records that no predictor learns them by heart.
const SAMPLE: usize = 100_000;

fn main() {
    divan::main();
}

fn layout() -> Layout {
    let spec = r#"{"feed_name": "trades", "ts_col": "ts", "fields": [
        {"name": "ts", "type": "uint64"}, {"name": "price", "type": "float64"},
        {"name": "size", "type": "float64"}, {"name": "trade_id", "type": "uint64"},
        {"name": "side", "type": "char"}]}"#;
    FeedSpec::from_json(spec).and_then(|spec| Layout::new(&spec)).unwrap_or_else(|e| panic!("{e}"))
}

/// The next of a sequence of well mixed numbers (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Trades with prices to the cent and sizes of two to eight decimals.
fn trades() -> Vec<u8> {
    let (mut state, mut ts, mut cents) = (42, 1_763_740_800_000_000u64, 8_412_357u64);
    let mut records = Vec::new();
    for id in 0..SAMPLE as u64 {
        if next(&mut state) % 10 >= 3 {
            ts += next(&mut state) % 1_400;
        }
        cents = cents + next(&mut state) % 3 - 1;
        let size = match next(&mut state) % 6 {
            0 => (1 + next(&mut state) % 50) * 1_000_000,
            1 => (1 + next(&mut state) % 20) * 10_000_000,
            2 => (1 + next(&mut state) % 9999) * 10_000,
            3 => (1 + next(&mut state) % 99_999) * 1_000,
            _ => 1 + next(&mut state) % 20_000_000,
        };
        records.extend_from_slice(&ts.to_le_bytes());
        records.extend_from_slice(&(cents as f64 / 100.0).to_le_bytes());
        records.extend_from_slice(&(size as f64 / 1e8).to_le_bytes());
        records.extend_from_slice(&(892_341_008 + id).to_le_bytes());
        let side = if next(&mut state) % 2 < 1 { b'B' } else { b'S' };
        records.extend_from_slice(&[side, 0, 0, 0, 0, 0, 0, 0]);
    }
    records
}

fn encode(bencher: Bencher<'_, '_>, format: OutputFormat, options: &EncodeOptions) {
    let mut encoder = Encoder::new(&layout(), format, options).unwrap_or_else(|e| panic!("{e}"));
    let records = trades();
    let runs = records.chunks_exact(RECORDS * layout().record_size());
    let mut turn = runs.clone().cycle();
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        out.clear();
        if let Some(run) = turn.next() {
            encoder.records(black_box(run), 0, &mut out);
        }
        black_box(out.len())
    });
}

#[divan::bench]
fn jsonl(bencher: Bencher<'_, '_>) {
    encode(bencher, OutputFormat::Jsonl, &EncodeOptions::default());
}

#[divan::bench]
fn csv(bencher: Bencher<'_, '_>) {
    encode(bencher, OutputFormat::Csv, &EncodeOptions::default());
}

#[divan::bench]
fn csv_rfc3339(bencher: Bencher<'_, '_>) {
    let time = TimeStyle::Rfc3339(TimeZone::UTC);
    encode(bencher, OutputFormat::Csv, &EncodeOptions { time, ..EncodeOptions::default() });
}

#[divan::bench]
fn csv_rfc3339_in_a_zone(bencher: Bencher<'_, '_>) {
    let zone = TimeZone::get("America/Chicago").unwrap_or_else(|e| panic!("{e}"));
    let time = TimeStyle::Rfc3339(zone);
    encode(bencher, OutputFormat::Csv, &EncodeOptions { time, ..EncodeOptions::default() });
}

#[divan::bench]
fn table(bencher: Bencher<'_, '_>) {
    encode(bencher, OutputFormat::Table, &EncodeOptions::default());
}
