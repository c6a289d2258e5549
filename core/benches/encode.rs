//! The cost of a record as text. A run is 1,000 records, so microseconds here are nanoseconds a
//! record.
//!
//!     cargo bench -p deepwater --bench encode

use std::hint::black_box;

use deepwater::layout::Layout;
use deepwater::schema::FeedSpec;
use deepwater::text::encode::{EncodeOptions, Encoder, OutputFormat, TimeStyle};
use deepwater::text::filter::Filter;
use divan::{Bencher, counter::ItemsCount};
use jiff::tz::TimeZone;

const RECORDS: usize = 1000;
/// Enough different records that the branch predictor cannot learn them.
const SAMPLE: usize = 100_000;

fn main() {
    divan::main();
}

const FLOATS: &str = r#"{"feed_name": "trades", "ts_col": "ts", "fields": [
    {"name": "ts", "type": "uint64"}, {"name": "price", "type": "float64"},
    {"name": "size", "type": "float64"}, {"name": "trade_id", "type": "uint64"},
    {"name": "side", "type": "char"}]}"#;
/// The same 40 bytes, read as decimals and a symbol.
const DECIMALS: &str = r#"{"feed_name": "trades", "ts_col": "ts", "fields": [
    {"name": "ts", "type": "uint64"}, {"name": "price", "type": "decimal64.2"},
    {"name": "size", "type": "decimal64.8"}, {"name": "trade_id", "type": "int64"},
    {"name": "symbol", "type": "string8"}]}"#;

fn layout(spec: &str) -> Layout {
    FeedSpec::from_json(spec).and_then(|spec| Layout::new(&spec)).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the next of a sequence of well-mixed numbers (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns trades with prices to the cent and sizes of two to eight decimals, as records of `spec`.
fn trades(spec: &str) -> Vec<u8> {
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
        if spec == FLOATS {
            records.extend_from_slice(&(cents as f64 / 100.0).to_le_bytes());
            records.extend_from_slice(&(size as f64 / 1e8).to_le_bytes());
        } else {
            records.extend_from_slice(&cents.to_le_bytes());
            records.extend_from_slice(&size.to_le_bytes());
        }
        records.extend_from_slice(&(892_341_008 + id).to_le_bytes());
        let last = match (next(&mut state) % 2, spec == FLOATS) {
            (0, true) => b"B\0\0\0\0\0\0\0",
            (_, true) => b"S\0\0\0\0\0\0\0",
            (0, false) => b"BTCUSD\0\0",
            (_, false) => b"SOLUSDT\0",
        };
        records.extend_from_slice(last);
    }
    records
}

fn encode(bencher: Bencher<'_, '_>, spec: &str, format: OutputFormat, time: TimeStyle) {
    let layout = layout(spec);
    let options = EncodeOptions { time, ..EncodeOptions::default() };
    let mut encoder = Encoder::new(&layout, format, &options).unwrap_or_else(|e| panic!("{e}"));
    let records = trades(spec);
    let mut turn = records.chunks_exact(RECORDS * layout.record_size()).cycle();
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
    encode(bencher, FLOATS, OutputFormat::Jsonl, TimeStyle::Raw);
}

#[divan::bench]
fn jsonl_decimals_and_symbol(bencher: Bencher<'_, '_>) {
    encode(bencher, DECIMALS, OutputFormat::Jsonl, TimeStyle::Raw);
}

#[divan::bench]
fn csv(bencher: Bencher<'_, '_>) {
    encode(bencher, FLOATS, OutputFormat::Csv, TimeStyle::Raw);
}

#[divan::bench]
fn csv_decimals_and_symbol(bencher: Bencher<'_, '_>) {
    encode(bencher, DECIMALS, OutputFormat::Csv, TimeStyle::Raw);
}

#[divan::bench]
fn csv_rfc3339(bencher: Bencher<'_, '_>) {
    encode(bencher, FLOATS, OutputFormat::Csv, TimeStyle::Rfc3339(TimeZone::UTC));
}

#[divan::bench]
fn csv_rfc3339_in_a_zone(bencher: Bencher<'_, '_>) {
    let zone = TimeZone::get("America/Chicago").unwrap_or_else(|e| panic!("{e}"));
    encode(bencher, FLOATS, OutputFormat::Csv, TimeStyle::Rfc3339(zone));
}

#[divan::bench]
fn table(bencher: Bencher<'_, '_>) {
    encode(bencher, FLOATS, OutputFormat::Table, TimeStyle::Raw);
}

#[divan::bench]
fn filter(bencher: Bencher<'_, '_>) {
    let layout = layout(FLOATS);
    let filter = Filter::parse(&layout, "price>=84123.57").unwrap_or_else(|e| panic!("{e}"));
    let records = trades(FLOATS);
    let size = layout.record_size();
    let mut turn = records.chunks_exact(RECORDS * size).cycle();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let run = black_box(turn.next().unwrap_or_default());
        run.chunks_exact(size).filter(|record| filter.matches(record)).count()
    });
}
