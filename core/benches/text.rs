//! The cost of parsing a row.
//!
//! `cargo bench -p deepwater --bench text`. A run is 100,000 rows.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::sync::Arc;

use deepwater::layout::Layout;
use deepwater::schema::FeedSpec;
use deepwater::text::input::{Batch, InputFormat, InputOptions, Parser};
use divan::Bencher;
use divan::counter::ItemsCount;

const ROWS: u64 = 100_000;

fn main() {
    divan::main();
}

fn trades() -> Arc<Layout> {
    let spec = r#"{"feed_name":"trades","ts_col":"ts","fields":[
        {"name":"ts","type":"uint64"},{"name":"price","type":"float64"},
        {"name":"size","type":"float64"},{"name":"trade_id","type":"uint64"},
        {"name":"side","type":"char"}]}"#;
    Arc::new(Layout::new(&FeedSpec::from_json(spec).unwrap()).unwrap())
}

/// Returns trades with prices of two decimals and sizes of one to eight.
fn text(json: bool) -> String {
    let mut out = String::new();
    let mut state = 42u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut ts, mut cents) = (1_763_740_800_000_000u64, 8_412_357u64);
    for i in 0..ROWS {
        ts += random(1400);
        cents = cents + random(201) - 100;
        let digits = 10u64.pow(1 + random(8) as u32);
        let size = random(digits) as f64 / digits as f64;
        let (price, id) = (cents as f64 / 100.0, 892_341_007 + i);
        let side = if random(2) == 0 { 'B' } else { 'S' };
        if json {
            let _ = writeln!(
                out,
                r#"{{"ts":{ts},"price":{price},"size":{size:?},"trade_id":{id},"side":"{side}"}}"#
            );
        } else {
            let _ = writeln!(out, "{ts},{price},{size:?},{id},{side}");
        }
    }
    out
}

fn parse(bencher: Bencher, format: InputFormat, text: &[u8]) {
    let layout = trades();
    let mut batch = Batch::new();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut parser = Parser::new(layout.clone(), InputOptions::new(format)).unwrap();
        let mut rows = 0;
        let mut at = 0;
        while at < text.len() {
            batch.clear();
            let read = &text[at..text.len().min(at + (256 << 10))];
            at += parser.parse(read, false, 0, &mut batch).unwrap();
            rows += batch.records.len() / layout.record_size();
        }
        assert_eq!(rows as u64, ROWS);
    });
}

#[divan::bench]
fn parse_csv(bencher: Bencher) {
    parse(bencher, InputFormat::Csv, text(false).as_bytes());
}

#[divan::bench]
fn parse_jsonl(bencher: Bencher) {
    parse(bencher, InputFormat::Jsonl, text(true).as_bytes());
}

#[divan::bench]
fn parse_raw(bencher: Bencher) {
    let layout = trades();
    let mut parser = Parser::new(layout.clone(), InputOptions::new(InputFormat::Csv)).unwrap();
    let (text, mut at, mut raw, mut batch) = (text(false), 0, Vec::new(), Batch::new());
    while at < text.len() {
        batch.clear();
        at += parser.parse(&text.as_bytes()[at..], true, 0, &mut batch).unwrap();
        raw.extend_from_slice(&batch.records);
    }
    parse(bencher, InputFormat::Raw, &raw);
}
