#![allow(clippy::unwrap_used)]
use super::*;
use crate::schema::FeedSpec;

/// Everything that one input produced.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Got {
    pub records: Vec<u8>,
    pub lines: Vec<u64>,
    pub rejects: Vec<Reject>,
    pub passed_over: u64,
    pub rejected: u64,
    pub lines_taken: u64,
}

pub(crate) fn layout(fields: &str, unit: &str) -> Arc<Layout> {
    let fields: Vec<String> = fields
        .split_whitespace()
        .map(|field| {
            let (name, kind) = field.split_once(':').unwrap();
            let (kind, default) = kind.split_once('=').unwrap_or((kind, ""));
            let default =
                if default.is_empty() { String::new() } else { format!(",\"default\":{default}") };
            format!("{{\"name\":\"{name}\",\"type\":\"{kind}\"{default}}}")
        })
        .collect();
    let spec = format!(
        r#"{{"feed_name":"t","ts_col":"ts","time_unit":"{unit}","fields":[{}]}}"#,
        fields.join(",")
    );
    Arc::new(Layout::new(&FeedSpec::from_json(&spec).unwrap()).unwrap())
}

/// Feeds `input` to the parser in reads of the given lengths, repeated in turn, as a tool does.
pub(crate) fn feed(parser: &mut Parser, input: &[u8], reads: &[usize]) -> Result<Got> {
    let size = parser.shared.layout.record_size();
    let (mut got, mut batch) = (Got::default(), Batch::new());
    let (mut have, mut at, mut reads) = (0, 0, reads.iter().cycle());
    loop {
        have = (have + reads.next().unwrap().max(&1)).min(input.len());
        let end = have == input.len();
        loop {
            batch.clear();
            let taken = parser.parse(&input[at..have], end, 77, &mut batch)?;
            let before = got.records.len() / size;
            got.lines.extend((0..batch.records.len() / size).map(|i| batch.line_of(i).unwrap()));
            got.records.extend_from_slice(&batch.records);
            got.rejects.extend(batch.rejects.drain(..).map(|reject| {
                assert!(reject.after <= batch.records.len() / size);
                Reject { after: before + reject.after, ..reject }
            }));
            got.passed_over += batch.passed_over;
            at += taken;
            if taken == 0 {
                break;
            }
        }
        if end {
            break;
        }
    }
    assert_eq!(at, input.len(), "everything is taken in the end");
    let stats = parser.stats();
    (got.rejected, got.lines_taken) = (stats.rejected, stats.lines);
    assert_eq!(got.rejected as usize, got.rejects.len());
    assert_eq!(got.passed_over, stats.passed_over);
    Ok(got)
}

pub(crate) fn whole(layout: &Arc<Layout>, options: &InputOptions, input: &[u8]) -> Result<Got> {
    feed(&mut Parser::new(layout.clone(), options.clone())?, input, &[usize::MAX / 2])
}

/// A small pseudo-random generator: the same seed gives the same data.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

pub(crate) const TYPES: [&str; 17] = [
    "char",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "decimal64.2",
    "decimal64.8",
    "timestamp",
    "bytes3",
    "string6",
];

/// Returns a random field list that includes the time column.
pub(crate) fn random_fields(random: &mut Random) -> String {
    let count = 1 + random.below(6);
    let ts = random.below(count + 1);
    let mut fields = Vec::new();
    for i in 0..=count {
        let kind = random.pick(&TYPES);
        let default = match kind {
            _ if !random.one_in(8) => "",
            "string6" => "=\"dflt\"",
            "char" => "=\"x\"",
            "bytes3" => "=\"0a0b0c\"",
            "bool" => "=true",
            _ => "=7",
        };
        fields.push(if i == ts {
            random.pick(&["ts:uint64", "ts:timestamp"]).to_owned()
        } else {
            format!("f{i}:{kind}{default}")
        });
    }
    fields.join(" ")
}

/// Returns a value of a type as people write it; about one in 40 is odd or invalid.
pub(crate) fn random_value(random: &mut Random, kind: FieldKind) -> String {
    if random.one_in(40) {
        let odd = ["", "x", "-", "1.5.5", "1e400", "+1", "null", "NaN", "-0", "\u{e9}", "a\u{1}b"];
        return random.pick(&odd).to_owned();
    }
    let n = random.next() >> random.below(64);
    let sign = if random.one_in(3) { "-" } else { "" };
    match kind {
        FieldKind::Char => random.pick(&["B", "S", "\u{e9}", " ", "a", "~", "\u{ff}"]).to_owned(),
        FieldKind::Bool => random.pick(&["true", "false", "1", "0"]).to_owned(),
        FieldKind::Signed(bits) => format!("{sign}{}", n >> (63 - bits.min(63))),
        FieldKind::Unsigned(bits) => (n >> (64 - bits)).to_string(),
        FieldKind::Float => match random.below(6) {
            0 => random.pick(&["1e5", "1.5E-3", "NaN", "inf", "-inf", ".5", "5."]).to_owned(),
            1 => format!("{sign}{n}"),
            _ => format!("{sign}{}.{:02}", n % 1_000_000, n % 100),
        },
        FieldKind::Decimal(scale) => match random.below(4) {
            0 => format!("{sign}{}", n % 1_000_000),
            1 => format!("{sign}{}.{n}", n % 1000),
            _ => format!("{sign}{}.{:0s$}", n % 1000, n % 10u64.pow(scale), s = scale as usize),
        },
        FieldKind::Time => match random.below(5) {
            0 => format!("2025-03-25T23:{:02}:00.{:03}Z", n % 60, n % 1000),
            1 => format!("2025-03-25 23:{:02}:00", n % 60),
            2 => format!("2025-11-02 0{}:30:00.5", n % 3),
            _ => (n % 4_000_000_000_000).to_string(),
        },
        FieldKind::Bytes => format!("{:06x}", n & 0xff_ffff),
        FieldKind::Text => {
            random.pick(&["abc", "", "BTC", "\u{e9}\u{e9}", "a b", "toolong", " x ", "a'c"]).into()
        }
    }
}

/// What [`random_value`] needs to know of a type.
#[derive(Clone, Copy)]
pub(crate) enum FieldKind {
    Char,
    Bool,
    Signed(u32),
    Unsigned(u32),
    Float,
    Decimal(u32),
    Time,
    Bytes,
    Text,
}

pub(crate) fn field_kinds(layout: &Layout) -> Vec<FieldKind> {
    use crate::schema::FieldType as T;
    let kind = |(i, field): (usize, &crate::layout::Field)| match field.kind {
        _ if layout.is_time(i) => FieldKind::Time,
        T::Char => FieldKind::Char,
        T::Bool => FieldKind::Bool,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => FieldKind::Signed(field.size() as u32 * 8),
        T::Float32 | T::Float64 => FieldKind::Float,
        T::Decimal64(scale) => FieldKind::Decimal(u32::from(scale)),
        T::Bytes(_) => FieldKind::Bytes,
        T::String(_) => FieldKind::Text,
        _ => FieldKind::Unsigned(field.size() as u32 * 8),
    };
    layout.fields().iter().enumerate().map(kind).collect()
}

pub(crate) fn random_times(random: &mut Random) -> TimeOptions {
    let zone = random.one_in(2).then(|| jiff::tz::TimeZone::get("America/Chicago").unwrap());
    let unit = match random.below(6) {
        0 => Some(super::super::timestamp::NumberUnit::Ms),
        1 => Some(super::super::timestamp::NumberUnit::Ns),
        _ => None,
    };
    let base = random.one_in(6).then(|| "2014-05-01".parse().unwrap());
    TimeOptions { unit, zone, base, truncate: random.one_in(4), format: None }
}

/// Checks that the fast and the general parser agree on an input, however it is split into reads.
pub(crate) fn same(
    layout: &Arc<Layout>,
    options: &InputOptions,
    input: &[u8],
    random: &mut Random,
) -> Option<ParseStats> {
    let reads: Vec<usize> = (0..5).map(|_| 1 + random.below(200) as usize).collect();
    let mut both = Parser::new(layout.clone(), options.clone()).unwrap();
    let fast = feed(&mut both, input, &[usize::MAX / 2]);
    let mut alone = Parser::new(layout.clone(), options.clone()).unwrap().general_only();
    let general = feed(&mut alone, input, &[usize::MAX / 2]);
    let mut cut = Parser::new(layout.clone(), options.clone()).unwrap();
    let pieces = feed(&mut cut, input, &reads);
    match (fast, general, pieces) {
        (Ok(fast), Ok(general), Ok(pieces)) => {
            let shown = || String::from_utf8_lossy(input).into_owned();
            assert_eq!(fast, general, "fast and general differ on:\n{}\n{options:?}", shown());
            assert_eq!(pieces, general, "cut input differs on:\n{}\n{options:?}", shown());
            assert_eq!(alone.stats().fast, 0);
            Some(both.stats())
        }
        (Err(_), Err(_), Err(_)) => None,
        other => panic!("one parser refuses: {other:?}"),
    }
}

#[test]
fn the_format_is_detected_from_the_first_line() {
    use InputFormat::*;
    for (head, end, found) in [
        ("", false, None),
        ("", true, Some(Csv)),
        (" \n {", false, Some(Jsonl)),
        ("\u{feff}[", false, Some(Jsonl)),
        ("ts\tprice", false, None),
        ("ts\tprice\n", false, Some(Tsv)),
        ("ts\tprice", true, Some(Tsv)),
        ("\n\nts\tprice\n1,2", false, Some(Tsv)),
        ("ts\tprice,x\n", false, Some(Csv)),
        ("ts,price\n1\t2", false, Some(Csv)),
        ("1", false, None),
    ] {
        assert_eq!(InputFormat::detect(head.as_bytes(), end), found, "{head:?}");
    }
    assert_eq!(InputFormat::detect(b"\xef\xbb", false), None);
}

#[test]
fn raw_records_that_the_layout_forbids_are_rejected() {
    let layout = layout("ts:uint64 b:bool s:string3", "us");
    let options = InputOptions::new(InputFormat::Raw);
    let record = |b: u8, s: &[u8; 3], pad: u8| {
        let mut out = 9u64.to_le_bytes().to_vec();
        out.push(b);
        out.extend_from_slice(s);
        out.extend_from_slice(&[0, 0, 0, pad]);
        out
    };
    let good = [record(1, b"ab\0", 0), record(0, b"\0\0\0", 0)].concat();
    let mut input = good.clone();
    for (bad, column, said) in [
        (record(2, b"ab\0", 0), 9, "b: byte 0x02"),
        (record(1, b"a\0b", 0), 10, "s: not UTF-8"),
        (record(1, b"\xff\0\0", 0), 10, "s: not UTF-8"),
        (record(1, b"ab\0", 1), 16, "padding"),
    ] {
        let got = whole(&layout, &options, &bad).unwrap();
        assert_eq!(got.rejects.len(), 1);
        assert_eq!(got.rejects[0].column, column, "{:?}", got.rejects);
        assert!(got.rejects[0].reason.contains(said), "{:?}", got.rejects);
        assert_eq!(got.rejects[0].text, bad);
        input.extend_from_slice(&bad);
        input.extend_from_slice(&good);
    }
    input.extend_from_slice(b"cut");
    let got = feed(&mut Parser::new(layout, options).unwrap(), &input, &[7, 30]).unwrap();
    assert_eq!((got.records.len(), got.rejects.len()), (good.len() * 5, 5));
    assert_eq!(got.lines, [1, 2, 4, 5, 7, 8, 10, 11, 13, 14]);
    assert_eq!(got.rejects.iter().map(|r| r.after).collect::<Vec<_>>(), [2, 4, 6, 8, 10]);
}

#[test]
fn impossible_options_are_errors() {
    let layout = layout("ts:uint64 price:float64 side:char", "us");
    let refused = |format, change: fn(&mut InputOptions)| {
        let mut options = InputOptions::new(format);
        change(&mut options);
        Parser::new(layout.clone(), options).unwrap_err().to_string()
    };
    use InputFormat::{Csv, Jsonl, Raw};
    for (said, got) in [
        ("no field \"x\"", refused(Csv, |o| o.map = vec![("x".into(), Source::Column(1))])),
        (
            "mapped twice",
            refused(Jsonl, |o| {
                o.map = vec![("ts".into(), Source::Stamp), ("ts".into(), Source::Column(1))];
            }),
        ),
        ("is char", refused(Csv, |o| o.map = vec![("side".into(), Source::Stamp)])),
        ("named twice", refused(Csv, |o| o.columns = Some(vec![Some("ts".into()); 2]))),
        ("no field \"q\"", refused(Csv, |o| o.columns = Some(vec![Some("q".into())]))),
        ("no column for price, side", refused(Csv, |o| o.columns = Some(vec![Some("ts".into())]))),
        ("for JSON", refused(Csv, |o| o.explode = Some("/a".into()))),
        ("'~'", refused(Jsonl, |o| o.explode = Some("/a~2".into()))),
        (
            "nothing is exploded",
            refused(Jsonl, |o| {
                o.map = vec![("ts".into(), Source::Pointer("./0".into()))];
            }),
        ),
        ("for text", refused(Raw, |o| o.map = vec![("ts".into(), Source::Stamp)])),
        ("header is for", refused(Jsonl, |o| o.header = Some(true))),
    ] {
        assert!(got.contains(said), "{said}: {got}");
    }
}

/// Returns a recorded file, or `None` if it is not on this machine.
fn real(name: &str) -> Option<Vec<u8>> {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let places = [std::env::var_os("DEEPWATER_SHARED").map(Into::into), Some(beside)];
    let file = places
        .into_iter()
        .flatten()
        .map(|place: std::path::PathBuf| place.join("data").join(name))
        .find(|file| file.exists());
    let Some(file) = file else {
        eprintln!("SKIPPED: {name} is not here; $DEEPWATER_SHARED says where data/{name} is");
        return None;
    };
    let out = std::process::Command::new("gzip").arg("-dc").arg(file).output().unwrap();
    assert!(out.status.success());
    Some(out.stdout)
}

/// Parses a recorded file with both parsers. The fast one must handle at least 95 % of its rows.
fn real_file(layout: &Arc<Layout>, options: &InputOptions, input: &[u8]) -> (Got, ParseStats) {
    let mut parser = Parser::new(layout.clone(), options.clone()).unwrap();
    let got = feed(&mut parser, input, &[65536, 262_144, 100]).unwrap();
    let mut alone = Parser::new(layout.clone(), options.clone()).unwrap().general_only();
    assert!(feed(&mut alone, input, &[262_144]).unwrap() == got, "fast and general differ");
    let stats = parser.stats();
    assert!(stats.fast as f64 >= 0.95 * (stats.fast + stats.slow) as f64, "{stats:?}");
    assert_eq!(stats.rejected, 0, "{:?}", &got.rejects[..1]);
    (got, stats)
}

fn pointers(map: &[(&str, &str)]) -> Vec<(String, Source)> {
    map.iter().map(|(f, s)| ((*f).to_owned(), Source::parse(s).unwrap())).collect()
}

#[test]
fn real_es_trades() {
    let Some(input) = real("es_trades_2013-09-01_03.csv.gz") else { return };
    let layout = layout("ts:uint64 price:float64 size:uint32", "us");
    let mut options = InputOptions::new(InputFormat::Csv);
    options.map = pointers(&[("ts", "DateTime"), ("price", "Price"), ("size", "Volume")]);
    options.times.zone = Some(jiff::tz::TimeZone::get("America/Chicago").unwrap());
    let (got, _) = real_file(&layout, &options, &input);
    assert_eq!(got.records.len(), 500_000 * 24);
    assert_eq!(got.records[..8], 1_378_072_800_083_000u64.to_le_bytes());
    assert_eq!(got.records[8..16], 1640.25f64.to_le_bytes());
    assert_eq!(got.lines[499_999], 500_001);
}

#[test]
fn real_binance_trades_and_quotes() {
    let Some(input) = real("barter_binance_spot_trades_l1_2025-03-25.jsonl.gz") else { return };
    let trades = layout(
        "ts:timestamp price:decimal64.8 amount:decimal64.8 id:uint64 side:string4 instrument:uint8",
        "ns",
    );
    let mut options = InputOptions::new(InputFormat::Jsonl);
    options.where_ = vec![("/Item/kind/Trade".into(), None)];
    options.map = pointers(&[
        ("ts", "/Item/time_exchange"),
        ("price", "/Item/kind/Trade/price"),
        ("amount", "/Item/kind/Trade/amount"),
        ("id", "/Item/kind/Trade/id"),
        ("side", "/Item/kind/Trade/side"),
        ("instrument", "/Item/instrument"),
    ]);
    let (got, stats) = real_file(&trades, &options, &input);
    assert_eq!((got.lines.len(), stats.passed_over), (11_032, 38_968));
    let quotes = layout("ts:timestamp recv:timestamp bid:decimal64.8 ask:decimal64.8", "ns");
    options.where_ = vec![("/Item/kind/OrderBookL1".into(), None)];
    options.map = pointers(&[
        ("ts", "/Item/time_exchange"),
        ("recv", "/Item/time_received"),
        ("bid", "/Item/kind/OrderBookL1/best_bid/price"),
        ("ask", "/Item/kind/OrderBookL1/best_ask/price"),
    ]);
    let (got, _) = real_file(&quotes, &options, &input);
    assert_eq!(got.lines.len(), 38_968);
    assert_eq!(got.records[..8], 1_742_944_020_773_674_205u64.to_le_bytes());
    assert_eq!(got.records[16..24], 205_910_000_000u64.to_le_bytes());
}

#[test]
fn real_coinbase_changes() {
    let Some(input) = real("coinbase_ws_l2_ticker_match_2021-04-17.jsonl.gz") else { return };
    let layout = layout(
        "ts:timestamp price:decimal64.8 size:decimal64.8 side:string4 product_id:string12",
        "us",
    );
    let mut options = InputOptions::new(InputFormat::Jsonl);
    options.where_ = vec![("type".into(), Some("l2update".into()))];
    options.explode = Some("/changes".into());
    options.map = pointers(&[("ts", "/time"), ("side", "./0"), ("price", "./1"), ("size", "./2")]);
    let (got, stats) = real_file(&layout, &options, &input);
    assert_eq!(stats.fast + stats.slow - stats.passed_over, 9_719);
    assert!(got.lines.len() >= 9_719);
}

#[test]
fn real_xauusd_quotes() {
    let Some(input) = real("xauusd_quotes_oanda_2014-05-01.csv.gz") else { return };
    let layout = layout("ts:timestamp bid:float64 ask:float64", "ns");
    let mut options = InputOptions::new(InputFormat::Csv);
    options.times.base = Some("2014-05-01".parse().unwrap());
    options.times.unit = Some(super::super::timestamp::NumberUnit::Ms);
    let (got, _) = real_file(&layout, &options, &input);
    assert_eq!(got.lines.len(), 129_744);
    assert_eq!(got.records[..8], (1_398_902_400_000_000_000u64 + 43_142_000).to_le_bytes());
}
