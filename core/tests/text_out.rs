//! Reads the encoder's output back with independent parsers: serde_json, the csv crate and std's
//! number parsers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use deepwater::layout::{Field, Layout};
use deepwater::schema::{FeedSpec, FieldSpec, FieldType};
use deepwater::text::encode::{EncodeOptions, Encoder, IntStyle, OutputFormat, TimeStyle};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::value::RawValue;

fn layout_of(fields: &[(&str, FieldType)], packed: bool) -> Layout {
    let spec = r#"{"feed_name": "f", "ts_col": "ts", "fields": []}"#;
    let mut spec = FeedSpec::from_json(spec).unwrap();
    spec.packed = packed;
    spec.fields = fields
        .iter()
        .map(|&(name, kind)| FieldSpec {
            name: name.to_owned(),
            kind,
            desc: String::new(),
            default: None,
        })
        .collect();
    Layout::new(&spec).unwrap()
}

fn encode(
    layout: &Layout,
    format: OutputFormat,
    options: &EncodeOptions,
    records: &[u8],
) -> Vec<u8> {
    let mut encoder = Encoder::new(layout, format, options).unwrap();
    let mut out = Vec::new();
    encoder.head(&mut out, (records.len() / layout.record_size()) as u64);
    encoder.records(records, 0, &mut out);
    encoder.tail(&mut out);
    out
}

fn text(layout: &Layout, format: &str, options: &EncodeOptions, records: &[u8]) -> String {
    String::from_utf8(encode(layout, format.parse().unwrap(), options, records)).unwrap()
}

fn trades() -> Layout {
    layout_of(
        &[
            ("ts", FieldType::Uint64),
            ("price", FieldType::Float64),
            ("id", FieldType::Uint64),
            ("side", FieldType::Char),
        ],
        false,
    )
}

fn trade(ts: u64, price: f64, id: u64, side: u8) -> Vec<u8> {
    let mut record = trades().zeroed();
    record[..8].copy_from_slice(&ts.to_le_bytes());
    record[8..16].copy_from_slice(&price.to_le_bytes());
    record[16..24].copy_from_slice(&id.to_le_bytes());
    record[24] = side;
    record
}

fn fields(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn one_row_in_every_text_format() {
    let records = [trade(1_763_740_800_000_000, 84123.5, 7, b'B'), trade(0, -0.0, u64::MAX, b'"')];
    let show =
        |format, options: &EncodeOptions| text(&trades(), format, options, &records.concat());
    let plain = EncodeOptions::default();
    assert_eq!(
        show("jsonl", &plain),
        "{\"ts\":1763740800000000,\"price\":84123.5,\"id\":7,\"side\":\"B\"}\n\
         {\"ts\":0,\"price\":-0.0,\"id\":18446744073709551615,\"side\":\"\\\"\"}\n"
    );
    assert_eq!(
        show("csv", &plain),
        "ts,price,id,side\n1763740800000000,84123.5,7,B\n\
         0,-0.0,18446744073709551615,\"\"\"\"\n"
    );
    assert_eq!(
        show("tsv", &EncodeOptions { header: false, ..plain.clone() }),
        "1763740800000000\t84123.5\t7\tB\n0\t-0.0\t18446744073709551615\t\"\"\"\"\n"
    );
    let time = TimeStyle::Rfc3339(TimeZone::UTC);
    assert_eq!(
        show("table", &EncodeOptions { time, ..plain }),
        "                         ts    price                    id  side\n\
         2025-11-21T16:00:00.000000Z  84123.5                     7  B\n\
         1970-01-01T00:00:00.000000Z     -0.0  18446744073709551615  \"\n"
    );
}

#[test]
fn seq_feed_fields_and_ints() {
    let records = [trade(1, 2.0, 3, b'B'), trade(4, 5.0, 6, b'S')].concat();
    let options = EncodeOptions {
        fields: fields(&["id", "ts"]),
        with_seq: true,
        with_feed: vec!["a-b".into()],
        ints: IntStyle::String,
        ..EncodeOptions::default()
    };
    assert_eq!(
        text(&trades(), "jsonl", &options, &records),
        "{\"_seq\":\"0\",\"_feed\":\"a-b\",\"id\":\"3\",\"ts\":\"1\"}\n\
         {\"_seq\":\"1\",\"_feed\":\"a-b\",\"id\":\"6\",\"ts\":\"4\"}\n"
    );
    assert_eq!(
        text(&trades(), "csv", &options, &records),
        "_seq,_feed,id,ts\n0,a-b,3,1\n1,a-b,6,4\n"
    );
    assert_eq!(
        text(&trades(), "table", &options, &records),
        "_seq  _feed  id  ts\n   0  a-b     3   1\n   1  a-b     6   4\n"
    );
    let zone = TimeStyle::Rfc3339(TimeZone::get("Asia/Tokyo").unwrap());
    let options = EncodeOptions { fields: fields(&["ts"]), time: zone, ..EncodeOptions::default() };
    assert_eq!(
        text(&trades(), "jsonl", &options, &records[..32]),
        "{\"ts\":\"1970-01-01T09:00:00.000001+09:00\"}\n"
    );
}

#[test]
fn invalid_options_are_rejected() {
    let refused = |format: OutputFormat, options: EncodeOptions| {
        Encoder::new(&trades(), format, &options).unwrap_err().to_string()
    };
    let chosen = |names| EncodeOptions { fields: fields(names), ..EncodeOptions::default() };
    assert_eq!(
        refused(OutputFormat::Csv, chosen(&["ts", "prise"])),
        "no field \"prise\"; the fields are ts, price, id, side"
    );
    assert_eq!(refused(OutputFormat::Table, chosen(&["ts", "ts"])), "field \"ts\" is chosen twice");
    assert!(refused(OutputFormat::Npy, chosen(&[])).contains("ts, price, id, side"));
    assert!(refused(OutputFormat::Raw, chosen(&["ts"])).starts_with("raw output is the records"));
    let error = "xml".parse::<OutputFormat>().unwrap_err().to_string();
    assert_eq!(error, "no output format \"xml\"; there are jsonl, csv, tsv, raw, npy, table");
    for name in ["jsonl", "csv", "tsv", "raw", "npy", "table"] {
        assert_eq!(name.parse::<OutputFormat>().unwrap().to_string(), name);
    }
}

#[test]
fn cells_that_a_parser_might_trim_or_split_are_quoted() {
    let layout = layout_of(&[("ts", FieldType::Uint64), ("s,x", FieldType::String(4))], true);
    let show = |s: &[u8], format: &str, names: &[&str]| {
        let options = EncodeOptions { fields: fields(names), ..EncodeOptions::default() };
        let mut record = layout.zeroed();
        record[8..8 + s.len()].copy_from_slice(s);
        let all = text(&layout, format, &options, &record);
        all.split_once('\n').unwrap().1.to_owned()
    };
    assert_eq!(show(b"", "csv", &["ts", "s,x"]), "0,\n");
    assert_eq!(show(b"", "csv", &["s,x"]), "\"\"\n");
    assert_eq!(show(b"a,b", "csv", &["s,x"]), "\"a,b\"\n");
    assert_eq!(show(b"a,b", "tsv", &["s,x"]), "a,b\n");
    assert_eq!(show(b"a\tb", "tsv", &["s,x"]), "\"a\tb\"\n");
    assert_eq!(show(b" a", "csv", &["s,x"]), "\" a\"\n");
    assert_eq!(show(b"a ", "csv", &["s,x"]), "\"a \"\n");
    assert_eq!(show(b"\xef\xbb\xbfa", "csv", &["s,x"]), "\"\u{feff}a\"\n");
    assert_eq!(show(b"a\"\"b", "csv", &["s,x"]), "\"a\"\"\"\"b\"\n");
    assert_eq!(show(b"\xff\xff", "csv", &["s,x"]), "\u{fffd}\u{fffd}\n");
    assert_eq!(show(b"\n\xc2\x9b\x1b", "table", &["s,x"]), "\\n\\u{9b}\\u{1b}\n");
    let head = text(&layout, "csv", &EncodeOptions::default(), &[]);
    assert_eq!(head, "ts,\"s,x\"\n");
}

#[test]
fn an_empty_string_is_not_a_default() {
    let spec = r#"{"feed_name": "f", "ts_col": "ts", "fields": [{"name": "ts", "type": "uint64"},
        {"name": "s", "type": "string8", "default": "x"}, {"name": "t", "type": "string8"}]}"#;
    let layout = Layout::new(&FeedSpec::from_json(spec).unwrap()).unwrap();
    let mut record = layout.zeroed();
    let show = |record: &[u8]| text(&layout, "csv", &EncodeOptions::default(), record);
    assert_eq!(show(&record), "ts,s,t\n0,\"\",\"\"\n");
    record[8..10].copy_from_slice(b"ab");
    assert_eq!(show(&record), "ts,s,t\n0,ab,\"\"\n");
}

#[test]
fn table_widths_are_fixed_after_a_thousand_rows() {
    let mut encoder =
        Encoder::new(&trades(), OutputFormat::Table, &EncodeOptions::default()).unwrap();
    let mut out = Vec::new();
    let row = |id| trade(1, 1.0, id, b'B');
    for id in 0..999 {
        encoder.records(&row(id), 0, &mut out);
    }
    assert!(out.is_empty());
    encoder.records(&row(999), 0, &mut out);
    assert_eq!(String::from_utf8(out.clone()).unwrap().lines().count(), 1001);
    out.clear();
    encoder.records(&row(123_456), 0, &mut out);
    assert_eq!(out, b" 1    1.0  123456  B\n");
    out.clear();
    encoder.tail(&mut out);
    assert!(out.is_empty());
}

#[test]
fn raw_and_npy_contain_the_records_as_stored() {
    let records = [trade(1, 2.0, 3, b'B'), trade(4, 5.0, 6, b'S')].concat();
    let plain = EncodeOptions::default();
    assert_eq!(encode(&trades(), OutputFormat::Raw, &plain, &records), records);
    let npy = encode(&trades(), OutputFormat::Npy, &plain, &records);
    let (head, body) = npy.split_at(npy.len() - records.len());
    assert_eq!(body, records);
    let text = "{'descr': [('ts', '<u8'), ('price', '<f8'), ('id', '<u8'), ('side', '|S1'), \
                ('', '|V7'), ], 'fortran_order': False, 'shape': (2,), }";
    assert_eq!(head.len() % 64, 0);
    assert_eq!(&head[..8], b"\x93NUMPY\x01\x00");
    assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])) + 10, head.len());
    assert_eq!(std::str::from_utf8(&head[10..]).unwrap().trim_end(), text);
    assert_eq!(head.last(), Some(&b'\n'));

    let options = EncodeOptions {
        fields: fields(&["side", "ts"]),
        with_seq: true,
        with_feed: vec!["fx".into()],
        ..plain
    };
    let npy = encode(&trades(), OutputFormat::Npy, &options, &records);
    let text = String::from_utf8_lossy(&npy);
    assert!(text.contains("[('_seq', '<u8'), ('_feed', '|S2'), ('side', '|S1'), ('ts', '<u8'), ]"));
    assert_eq!(&npy[npy.len() - 19..], b"\x01\0\0\0\0\0\0\0fxS\x04\0\0\0\0\0\0\0");
}

#[test]
fn a_long_npy_description_takes_version_two() {
    let names: Vec<String> = (0..1000).map(|i| format!("{:\u{e9}<70}", format!("f{i}"))).collect();
    let mut all = vec![("ts", FieldType::Uint64)];
    all.extend(names.iter().map(|name| (name.as_str(), FieldType::Int8)));
    let layout = layout_of(&all, false);
    let npy = encode(&layout, OutputFormat::Npy, &EncodeOptions::default(), &layout.zeroed());
    assert_eq!(&npy[..8], b"\x93NUMPY\x02\x00");
    let size = u32::from_le_bytes(npy[8..12].try_into().unwrap()) as usize + 12;
    assert_eq!((size % 64, npy.len() - size), (0, layout.record_size()));
    assert!(npy[12..size].is_ascii() && npy[..size].ends_with(b"\n"));
}

/// Checks that `shown` reads back as the value of the field.
#[track_caller]
fn check_value(field: &Field, record: &[u8], shown: &str) {
    let bytes = &record[field.range()];
    let wide = |signed: bool| {
        let fill = if signed && bytes[bytes.len() - 1] >> 7 == 1 { 0xff } else { 0 };
        let mut all = [fill; 16];
        all[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(all)
    };
    let name = &field.name;
    match field.kind {
        FieldType::Char => assert_eq!(shown, char::from(bytes[0]).to_string(), "{name}"),
        FieldType::Bool => assert_eq!(shown, if bytes[0] == 1 { "true" } else { "false" }),
        FieldType::Int8 | FieldType::Int16 | FieldType::Int32 | FieldType::Int64 => {
            assert_eq!(shown, wide(true).to_string());
        }
        FieldType::Float32 => {
            let value = f32::from_le_bytes(bytes.try_into().unwrap());
            let read: f32 = shown.parse().unwrap();
            assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan());
        }
        FieldType::Float64 => {
            let value = f64::from_le_bytes(bytes.try_into().unwrap());
            let read: f64 = shown.parse().unwrap();
            assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan());
        }
        FieldType::Decimal64(scale) => {
            let (whole, fraction) = shown.split_once('.').unwrap_or((shown, ""));
            assert!(fraction.len() <= usize::from(scale).max(1), "{shown}");
            let digits: i128 = format!("{whole}{fraction:0<18}").parse().unwrap();
            assert_eq!(digits, wide(true) * 10i128.pow(18 - u32::from(scale)), "{shown}");
        }
        FieldType::Bytes(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(shown, hex);
        }
        FieldType::String(_) => {
            let text = std::str::from_utf8(bytes).unwrap();
            assert_eq!(shown, text.trim_end_matches('\0'));
        }
        _ => assert_eq!(shown, wide(false).to_string()),
    }
}

/// Converts a JSON value to the cell it would be in CSV.
fn cell(value: &RawValue) -> String {
    match value.get() {
        "null" => "NaN".into(),
        text if text.starts_with('"') => serde_json::from_str(text).unwrap(),
        text => text.into(),
    }
}

fn check_jsonl(layout: &Layout, ints: IntStyle, records: &[u8]) {
    let options = EncodeOptions { ints, ..EncodeOptions::default() };
    let all = text(layout, "jsonl", &options, records);
    let mut lines = all.lines();
    for record in records.chunks_exact(layout.record_size()) {
        let line = lines.next().unwrap();
        let row: BTreeMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
        assert_eq!(row.len(), layout.fields().len());
        for field in layout.fields() {
            let value = &row[&field.name];
            let long = matches!(
                field.kind,
                FieldType::Int64
                    | FieldType::Uint64
                    | FieldType::Timestamp
                    | FieldType::Decimal64(_)
            );
            if long {
                assert_eq!(value.get().starts_with('"'), ints == IntStyle::String);
            }
            check_value(field, record, &cell(value));
        }
    }
    assert_eq!(lines.next(), None);
}

fn check_csv(layout: &Layout, format: &str, delimiter: u8, records: &[u8]) {
    let all = text(layout, format, &EncodeOptions::default(), records);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(all.as_bytes());
    let header = reader.headers().unwrap().clone();
    assert!(header.iter().eq(layout.fields().iter().map(|field| field.name.as_str())));
    let mut rows = reader.into_records();
    for record in records.chunks_exact(layout.record_size()) {
        let row = rows.next().unwrap().unwrap();
        for (field, shown) in layout.fields().iter().zip(&row) {
            check_value(field, record, shown);
        }
    }
    assert!(rows.next().is_none());
}

fn check_all(layout: &Layout, records: &[u8]) {
    check_jsonl(layout, IntStyle::Number, records);
    check_jsonl(layout, IntStyle::String, records);
    check_csv(layout, "csv", b',', records);
    check_csv(layout, "tsv", b'\t', records);
    // The text is the same whether the records come together or one by one.
    for format in [OutputFormat::Jsonl, OutputFormat::Csv, OutputFormat::Npy, OutputFormat::Table] {
        let options = EncodeOptions { with_seq: true, ..EncodeOptions::default() };
        let whole = encode(layout, format, &options, records);
        let mut encoder = Encoder::new(layout, format, &options).unwrap();
        let mut out = Vec::new();
        encoder.head(&mut out, (records.len() / layout.record_size()) as u64);
        for (seq, record) in (0..).zip(records.chunks_exact(layout.record_size())) {
            encoder.records(record, seq, &mut out);
        }
        encoder.tail(&mut out);
        assert_eq!(out, whole, "{format}");
    }
}

const SIMPLE: [FieldType; 13] = [
    FieldType::Char,
    FieldType::Bool,
    FieldType::Int8,
    FieldType::Int16,
    FieldType::Int32,
    FieldType::Int64,
    FieldType::Uint8,
    FieldType::Uint16,
    FieldType::Uint32,
    FieldType::Uint64,
    FieldType::Float32,
    FieldType::Float64,
    FieldType::Timestamp,
];

/// Turns arbitrary bytes into a record that the layout allows.
fn legal(layout: &Layout, record: &mut [u8]) {
    for field in layout.fields() {
        let bytes = &mut record[field.range()];
        match field.kind {
            FieldType::Bool => bytes[0] &= 1,
            FieldType::String(_) => {
                let text = String::from_utf8_lossy(bytes).replace(['\0', '\u{fffd}'], "\u{1}");
                bytes.fill(0);
                bytes[..text.len()].copy_from_slice(text.as_bytes());
            }
            _ => {}
        }
    }
    for range in layout.padding() {
        record[range.clone()].fill(0);
    }
}

#[test]
fn every_type_at_its_extremes() {
    let mut kinds = SIMPLE.to_vec();
    kinds.extend([0, 1, 8, 9, 17, 18].map(FieldType::Decimal64));
    kinds.extend([1, 3, 8, 40].map(FieldType::Bytes));
    kinds.extend([1, 3, 8, 40].map(FieldType::String));
    let names: Vec<String> = (0..kinds.len()).map(|i| format!("f{i}")).collect();
    let mut all = vec![("ts", FieldType::Uint64)];
    all.extend(names.iter().map(String::as_str).zip(kinds));
    for packed in [false, true] {
        let layout = layout_of(&all, packed);
        // All bits set, none, only the sign, all but the sign, each control character and each
        // quote.
        let mut records = Vec::new();
        for byte in 0..=255u8 {
            for last in [byte, byte ^ 0x80] {
                let mut record = vec![byte; layout.record_size()];
                for field in layout.fields() {
                    record[field.range().end - 1] = last;
                }
                legal(&layout, &mut record);
                records.extend_from_slice(&record);
            }
        }
        check_all(&layout, &records);
    }
}

#[test]
fn the_widest_rows_round_trip() {
    let long = "\"".repeat(255);
    let layout = layout_of(
        &[
            ("ts", FieldType::Timestamp),
            (long.as_str(), FieldType::String(9000)),
            ("b", FieldType::Bytes(7000)),
            ("\\", FieldType::Float64),
        ],
        true,
    );
    let mut record = vec![1u8; layout.record_size()];
    record[layout.record_size() - 8..].copy_from_slice(&f64::MIN.to_le_bytes());
    check_all(&layout, &record.repeat(5));
}

fn kind() -> impl Strategy<Value = FieldType> {
    prop_oneof![
        4 => prop::sample::select(SIMPLE.to_vec()),
        1 => (0u8..19).prop_map(FieldType::Decimal64),
        1 => (1u16..20).prop_map(FieldType::Bytes),
        2 => (1u16..20).prop_map(FieldType::String),
    ]
}

/// Names with every kind of character that could confuse a format.
fn name() -> impl Strategy<Value = String> {
    "[a-z,;\"'\\\\ {}\u{e9}\u{20ac}\u{feff}]{1,30}|[a-z]{1,8}|[a-z]{80,90}"
}

/// Records that often contain special bytes: quotes, blanks, line ends and NUL.
fn records(layout: &Layout) -> impl Strategy<Value = Vec<u8>> + use<> {
    let byte = prop_oneof![
        3 => any::<u8>(),
        1 => Just(0u8),
        2 => prop::sample::select(b"\" ,\t\r\n\\\x7f\xc2\x85\xa0az09".to_vec()),
    ];
    let size = layout.record_size();
    (1usize..6).prop_flat_map(move |count| prop::collection::vec(byte.clone(), count * size))
}

fn case() -> impl Strategy<Value = (Layout, Vec<u8>)> {
    let fields = prop::collection::vec((name(), kind()), 0..12);
    (fields, any::<bool>()).prop_flat_map(|(mut fields, packed)| {
        fields.insert(0, ("ts".to_owned(), FieldType::Uint64));
        let mut seen = std::collections::HashSet::new();
        fields.retain(|(name, _)| seen.insert(name.clone()));
        let fields: Vec<_> = fields.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let layout = layout_of(&fields, packed);
        let records = records(&layout);
        (Just(layout), records)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn any_record_of_any_layout_round_trips((layout, mut records) in case()) {
        for record in records.chunks_exact_mut(layout.record_size()) {
            legal(&layout, record);
        }
        check_all(&layout, &records);
    }

    #[test]
    fn times_as_text_round_trip(ticks: u64, shift in 0u32..64) {
        let layout = layout_of(&[("ts", FieldType::Uint64), ("t", FieldType::Timestamp)], false);
        let ticks = ticks >> shift;
        let record = ticks.to_le_bytes().repeat(2);
        let zone = TimeZone::get("America/Chicago").unwrap();
        let time = TimeStyle::Rfc3339(zone);
        let options = EncodeOptions { time, ..EncodeOptions::default() };
        let line = text(&layout, "jsonl", &options, &record);
        let row: BTreeMap<String, String> = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&row["ts"], &row["t"]);
        let read = match row["t"].parse::<jiff::Timestamp>() {
            Ok(instant) => instant.as_microsecond() as u64,
            Err(_) => row["t"].parse().unwrap(),
        };
        prop_assert_eq!(read, ticks);
    }
}
