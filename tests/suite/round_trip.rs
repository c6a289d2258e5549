//! Tests that `dw-cat -o F | dw-write --format F` is exact for every type at its extremes, and that
//! values that do not fit are rejected, never changed. The records are made here, byte by byte.

use std::fmt::Write as _;
use std::fs;

use crate::env::TestEnv;
use crate::random::Random;

/// Name, type, size and alignment of every field.
const FIELDS: [(&str, &str, usize, usize); 22] = [
    ("c", "char", 1, 1),
    ("ts", "timestamp", 8, 8),
    ("b", "bool", 1, 1),
    ("i1", "int8", 1, 1),
    ("i2", "int16", 2, 2),
    ("i4", "int32", 4, 4),
    ("i8", "int64", 8, 8),
    ("u1", "uint8", 1, 1),
    ("u2", "uint16", 2, 2),
    ("u4", "uint32", 4, 4),
    ("u8", "uint64", 8, 8),
    ("s0", "string1", 1, 1),
    ("f", "float32", 4, 4),
    ("g", "float64", 8, 8),
    ("d0", "decimal64.0", 8, 8),
    ("y", "bytes7", 7, 1),
    ("d2", "decimal64.2", 8, 8),
    ("s", "string11", 11, 1),
    ("d8", "decimal64.8", 8, 8),
    ("d18", "decimal64.18", 8, 8),
    ("t", "timestamp", 8, 8),
    ("q", "char", 1, 1),
];

const TEXTS: [&str; 24] = [
    "",
    "a",
    "exactly 11b",
    "\"",
    "\"\"",
    ",",
    "a,b",
    "\t",
    "a\tb",
    "\n",
    "\r",
    "\r\n",
    " x",
    "x ",
    "  ",
    "é",
    "\u{10ffff}",
    "\u{1}\u{7f}",
    "\\",
    "\\n",
    "{\"a\":1}",
    "\u{2028}",
    "null",
    "\u{feff}x",
];

const FLOATS: [f64; 26] = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    2.225073858507201e-308,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    0.1,
    1.0 / 3.0,
    9007199254740991.0,
    9007199254740992.0,
    9007199254740994.0,
    1e22,
    1e23,
    9.5367431640625e-7,
    123456.78901234,
    9999999.99999999,
    1e7,
    1e-8,
    5e-9,
    9007199254740993.0,
    4.35,
];

const FLOATS32: [f32; 15] = [
    0.0,
    -0.0,
    1e-45,
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    0.1,
    16777216.0,
    16777215.0,
    8388608.5,
    3.4e38,
    1.175_494_2e-38,
];

/// Appends one value of a type; three of four are extremes.
fn put_value(out: &mut Vec<u8>, kind: &str, size: usize, i: u64, latest: u64, random: &mut Random) {
    let edge = !random.below(4).is_multiple_of(4);
    let any = random.next();
    match kind {
        "char" => out.push(if i < 256 { i as u8 } else { any as u8 }),
        "bool" => out.push((any & 1) as u8),
        "timestamp" => {
            let value = *random.pick(&[0, 1, 1_785_456_000_123_456_789, latest, latest - 1, any]);
            out.extend_from_slice(&value.min(latest).to_le_bytes());
        }
        "float32" => {
            let value = if edge { *random.pick(&FLOATS32) } else { f32::from_bits(any as u32) };
            let value = if value.is_nan() { f32::NAN } else { value };
            out.extend_from_slice(&value.to_le_bytes());
        }
        "float64" => {
            let value = if edge { *random.pick(&FLOATS) } else { f64::from_bits(any) };
            let value = if value.is_nan() { f64::NAN } else { value };
            out.extend_from_slice(&value.to_le_bytes());
        }
        _ if kind.starts_with("bytes") => {
            out.extend((0..size).map(|_| random.next() as u8));
        }
        _ if kind.starts_with("string") => {
            let fitting: Vec<&&str> = TEXTS.iter().filter(|text| text.len() <= size).collect();
            let text = random.pick(&fitting);
            out.extend_from_slice(text.as_bytes());
            out.resize(out.len() + size - text.len(), 0);
        }
        // Integers and decimals are two's complement, signed or not.
        _ => {
            let top = 1u64 << (size * 8 - 1);
            let value = if edge {
                *random.pick(&[0, 1, u64::MAX, top, top - 1, top + 1, 100])
            } else {
                any
            };
            out.extend_from_slice(&value.to_le_bytes()[..size]);
        }
    }
}

/// Returns the offset of every field and the record's size, by the rules of FORMAT.md.
fn offsets(packed: bool) -> (Vec<usize>, usize) {
    let mut at = 0;
    let mut offsets = Vec::new();
    for (_, _, size, align) in FIELDS {
        at = if packed { at } else { usize::next_multiple_of(at, align) };
        offsets.push(at);
        at += size;
    }
    (offsets, if packed { at } else { at.next_multiple_of(8) })
}

fn records(packed: bool, latest: u64, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let (offsets, size) = offsets(packed);
    let mut all = Vec::new();
    for i in 0..1200 {
        let mut record = Vec::new();
        for ((_, kind, size, _), at) in FIELDS.into_iter().zip(&offsets) {
            record.resize(*at, 0);
            put_value(&mut record, kind, size, i, latest, &mut random);
        }
        record.resize(size, 0);
        all.extend_from_slice(&record);
    }
    all
}

/// Creates a store with feeds `a`, which holds `raw`, and `b1`, `b2` ..., which are empty.
fn store(packed: bool, unit: &str, raw: &[u8], empty: usize) -> TestEnv {
    let env = TestEnv::new();
    let fields: Vec<String> = FIELDS.iter().map(|(n, kind, ..)| format!("{n}:{kind}")).collect();
    let more = if packed { "--packed" } else { "" };
    let mut script = String::new();
    for feed in ["a".to_owned()].into_iter().chain((1..=empty).map(|i| format!("b{i}"))) {
        let fields = fields.join(" ");
        writeln!(script, "dw-mkfeed {feed} {fields} --ts ts --time-unit {unit} {more}").unwrap();
    }
    fs::write(env.path("made"), raw).expect("a file");
    script.push_str("dw-write a --format raw made\ndw-cat a -o raw | cmp - made\n");
    env.quiet(&script);
    env
}

#[test]
fn every_format_round_trips() {
    for (i, (unit, packed)) in
        [("us", false), ("ns", false), ("us", true), ("ns", true)].into_iter().enumerate()
    {
        let raw = records(packed, u64::MAX, i as u64);
        let env = store(packed, unit, &raw, 6);
        env.quiet(
            "dw-cat a -o csv   | dw-write b1 --format csv
             dw-cat a -o tsv   | dw-write b2 --format tsv
             dw-cat a -o jsonl | dw-write b3 --format jsonl
             dw-cat a -o raw   | dw-write b4 --format raw
             dw-cat a -o jsonl --ints string | dw-write b5
             names=$(dw-cat a -o csv -n 0 | tr , '\\n' | tac | paste -sd,)
             dw-cat a -o csv --fields $names | dw-write b6
             for feed in b1 b2 b3 b4 b5 b6; do dw-cat $feed -o raw | cmp - made; done",
        );
        check_with_python(&env, packed);
    }
}

#[test]
fn times_as_text_round_trip() {
    for (unit, latest) in [("us", 253_402_207_200_000_000), ("ns", u64::MAX)] {
        let raw = records(false, latest, 9);
        let env = store(false, unit, &raw, 4);
        env.quiet(
            "dw-cat a -o csv   --time rfc3339 | dw-write b1
             dw-cat a -o tsv   --time rfc3339 --tz Asia/Kolkata | dw-write b2
             dw-cat a -o jsonl --time rfc3339 | dw-write b3
             dw-cat a -o jsonl --time rfc3339 --tz America/New_York --ints string | dw-write b4
             for feed in b1 b2 b3 b4; do dw-cat $feed -o raw | cmp - made; done",
        );
    }
}

/// Reads the JSON lines and the npy file without any code of ours.
const PYTHON: &str = r#"
import ast, json, math, struct, subprocess, sys
from decimal import Decimal
packed, fields = sys.argv[1] == "true", [f.split(":") for f in sys.argv[2:]]
raw = open("made", "rb").read()
codes = {"char": "B", "bool": "B", "int8": "b", "int16": "h", "int32": "i", "int64": "q",
         "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "timestamp": "Q",
         "float32": "f", "float64": "d"}
at, places = 0, []
for name, kind in fields:
    digits = kind.lstrip("abcdefghijklmnopqrstuvwxyz")
    code = codes.get(kind) or ("q" if kind.startswith("decimal") else digits + "s")
    size = struct.calcsize("<" + code)
    if not packed and not code.endswith("s"):
        at = -(-at // size) * size
    places.append((name, kind, at, "<" + code))
    at += size
size = at if packed else -(-at // 8) * 8
rows = [raw[i:i + size] for i in range(0, len(raw), size)]

def same(kind, value, got):
    if kind == "char": return got == chr(value)
    if kind == "bool": return got is bool(value)
    if kind.startswith("float"):
        if math.isnan(value): return got is None
        if math.isinf(value): return got == ("inf" if value > 0 else "-inf")
        back = float(got)
        if kind == "float32": back = struct.unpack("<f", struct.pack("<f", back))[0]
        return back == value and math.copysign(1, back) == math.copysign(1, value)
    if kind.startswith("decimal"):
        scale = int(kind.split(".")[1])
        return Decimal(got) == Decimal(value).scaleb(-scale)
    if kind.startswith("bytes"): return bytes.fromhex(got) == value
    if kind.startswith("string"): return got.encode() == value.rstrip(b"\0")
    return type(got) is int and got == value

import decimal
decimal.getcontext().prec = 60
lines = subprocess.run(["dw-cat", "a"], stdout=subprocess.PIPE, check=True).stdout.split(b"\n")
assert lines.pop() == b"" and len(lines) == len(rows), (len(lines), len(rows))
for line, row in zip(lines, rows):
    got = json.loads(line, parse_float=Decimal, parse_constant=lambda c: 1 / 0)
    assert list(got) == [name for name, *_ in places], line
    for name, kind, at, code in places:
        value, = struct.unpack_from(code, row, at)
        assert same(kind, value, got[name]), (name, kind, value, got[name])

def npy(args):
    command = ["dw-cat", "a", "-o", "npy", *args]
    npy = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert npy[:8] == b"\x93NUMPY\x01\x00", npy[:8]
    n, = struct.unpack_from("<H", npy, 8)
    assert (10 + n) % 64 == 0
    head = ast.literal_eval(npy[10:10 + n].decode())
    assert head["shape"] == (len(rows),) and head["fortran_order"] is False, head
    return head["descr"], npy[10 + n:]

def check_dtype(descr, wanted):
    at, found = 0, {}
    for name, code in descr:
        width = int(code[2:])
        if name: found[name] = (at, code)
        at += width
    letters = dict(zip("bhiqBHIQfd", "iiiiuuuuff"))
    special = {"char": "S", "bool": "b"}
    for name, kind, place, code in wanted:
        texts = "S" if kind.startswith("string") else "V"
        letter = special.get(kind) or (texts if code[-1] == "s" else letters[code[-1]])
        assert found[name][0] == place, (name, found)
        assert found[name][1][1:] == f"{letter}{struct.calcsize(code)}", (name, found)
    return at

descr, data = npy([])
assert data == raw and check_dtype(descr, places) == size
descr, data = npy(["--fields", "g,ts,s"])
chosen = [p for n in ("g", "ts", "s") for p in places if p[0] == n]
assert data == b"".join(r[a:a + struct.calcsize(c)] for r in rows for _, _, a, c in chosen)
"#;

fn check_with_python(env: &TestEnv, packed: bool) {
    let fields: Vec<String> = FIELDS.iter().map(|(n, kind, ..)| format!("{n}:{kind}")).collect();
    fs::write(env.path("check.py"), PYTHON).expect("a file");
    env.quiet(&format!("python3 check.py {packed} {}", fields.join(" ")));
}

/// Type; a value that fits, as a CSV cell and in JSON; cells that do not fit; JSON values that do
/// not fit.
type Misfits =
    (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const MISFITS: &[Misfits] = &[
    (
        "char",
        "x",
        "\"x\"",
        &["", "xy", "\u{100}", "€"],
        &["\"\"", "\"xy\"", "7", "null", "\"\\u0100\"", "true"],
    ),
    (
        "bool",
        "true",
        "true",
        &["2", "", "yes", "-1", "tru"],
        &["2", "\"2\"", "null", "\"\"", "1.5", "[]"],
    ),
    (
        "int8",
        "-128",
        "127",
        &["128", "-129", "1.0", "1e1", "", "+1", "0x1"],
        &["128", "-129", "1.5", "1e400", "null", "true"],
    ),
    ("int16", "-32768", "32767", &["32768", "-32769"], &["32768", "-32769", "\"32768\""]),
    (
        "int32",
        "-2147483648",
        "2147483647",
        &["2147483648", "-2147483649"],
        &["2147483648", "-2147483649"],
    ),
    (
        "int64",
        "-9223372036854775808",
        "9223372036854775807",
        &["9223372036854775808", "-9223372036854775809", "99999999999999999999999", "1e3"],
        &["9223372036854775808", "-9223372036854775809", "1.0e0", "9223372036854775807.5"],
    ),
    ("uint8", "255", "0", &["256", "-1", "1 2"], &["256", "-1", "{}"]),
    ("uint16", "65535", "0", &["65536", "-1"], &["65536", "-1"]),
    ("uint32", "4294967295", "0", &["4294967296", "-1"], &["4294967296", "\"-1\""]),
    (
        "uint64",
        "18446744073709551615",
        "18446744073709551615",
        &["18446744073709551616", "-1", "36893488147419103232"],
        &["18446744073709551616", "-1", "1.8446744073709552e19"],
    ),
    (
        "float32",
        "3.4028235e38",
        "-3.4028235e38",
        &["1e39", "-1e39", "3.5e38", "", "x", "1e", "."],
        &["1e39", "\"1e39\"", "true", "\"x\""],
    ),
    (
        "float64",
        "1.7976931348623157e308",
        "0.1",
        &["1e309", "-1e400", "", "1.2.3", "0x1p3", "1_0"],
        &["1e309", "-1e400", "\"\"", "false"],
    ),
    (
        "decimal64.2",
        "92233720368547758.07",
        "-92233720368547758.08",
        &["1.005", "0.001", "92233720368547758.08", "-92233720368547758.09", "", "NaN", "inf"],
        &["1.005", "1e-3", "92233720368547758.08", "\"1.005\"", "null"],
    ),
    (
        "decimal64.0",
        "9223372036854775807",
        "-9223372036854775808",
        &["0.5", "9223372036854775808"],
        &["0.5", "1e19"],
    ),
    (
        "decimal64.18",
        "9.223372036854775807",
        "-9.223372036854775808",
        &["9.223372036854775808", "1e-19"],
        &["10", "0.0000000000000000001"],
    ),
    (
        "bytes2",
        "0aFf",
        "\"0aff\"",
        &["0a", "0aff0", "0affaa", "zz00", ""],
        &["\"0a\"", "\"0aff0\"", "\"0g00\"", "10", "null"],
    ),
    (
        "string3",
        "abc",
        "\"\"",
        &["abcd", "éé", "a\u{0}"],
        &["\"abcd\"", "\"\\u00e9\\u00e9\"", "\"a\\u0000\"", "12", "null", "\"\\ud800\""],
    ),
    (
        "timestamp",
        "18446744073709551615",
        "0",
        &[
            "18446744073709551616",
            "-1",
            "",
            "2026-02-30T00:00:00Z",
            "2026-01-01T00:00:00.0000001Z",
            "1969-12-31T23:59:59Z",
            "1.5",
        ],
        &[
            "18446744073709551616",
            "-1",
            "1.5",
            "\"2026-13-01T00:00:00Z\"",
            "null",
            "\"2026-01-01 00:00:00\"",
        ],
    ),
];

/// Returns a row for each of `values`, with good rows before, between and after them.
fn rows(good: &str, values: &[&str], row: impl Fn(usize, &str) -> String) -> String {
    let mut text = row(0, good);
    for (i, value) in values.iter().enumerate() {
        text.push_str(&row(2 * i + 1, value));
        text.push_str(&row(2 * i + 2, good));
    }
    text
}

#[test]
fn values_that_do_not_fit_are_rejected_and_never_changed() {
    let env = TestEnv::new();
    let mut wrong = Vec::new();
    for (kind, good_cell, good_json, cells, jsons) in MISFITS {
        let cell = |i: usize, v: &str| format!("{i},{v}\n");
        let json = |i: usize, v: &str| format!("{{\"ts\":{i},\"v\":{v}}}\n");
        let tabbed = |i: usize, v: &str| format!("{i}\t{v}\n");
        let inputs = [
            ("csv --columns ts,v", rows(good_cell, cells, cell), cells),
            ("tsv --columns ts,v", rows(good_cell, cells, tabbed), cells),
            ("jsonl", rows(good_json, jsons, json), jsons),
        ];
        for (format, text, values) in inputs {
            fs::write(env.path("rows"), text).expect("a file");
            let output = env.sh(&format!(
                "rm -f rejects; dw-mkfeed f ts:timestamp v:{kind}
                 status=0
                 cat rows | dw-write f --format {format} \\
                    --rejects rejects || status=$?
                 dw-cat f --fields ts -o csv --no-header | paste -sd ' '
                 dw-mkfeed --delete f --yes
                 exit $status"
            ));
            let even: Vec<String> = (0..=values.len()).map(|i| (2 * i).to_string()).collect();
            let got = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let rejects = fs::read_to_string(env.path("rejects")).unwrap_or_default();
            let told = rejects.lines().count();
            if output.status.code() != Some(1) || got != even.join(" ") || told != values.len() {
                let said = String::from_utf8_lossy(&output.stderr);
                wrong.push(format!(
                    "{kind} {format}: {}, {told} of {} rejected, rows {got}\n{said}{rejects}",
                    output.status,
                    values.len()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn invalid_raw_records_are_rejected() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed f ts:timestamp b:bool s:string3");
    let record = |b: u8, s: &[u8; 3], pad: u8| {
        let mut bytes = 7u64.to_le_bytes().to_vec();
        bytes.push(b);
        bytes.extend_from_slice(s);
        bytes.extend_from_slice(&[0, 0, 0, pad]);
        bytes
    };
    let good = [record(0, b"abc", 0), record(1, b"a\0\0", 0)].concat();
    let bad = [
        record(2, b"abc", 0),
        record(255, b"abc", 0),
        record(1, b"a\0b", 0),
        record(1, b"\xff\0\0", 0),
        record(1, b"ab\xc3", 0),
        record(1, b"abc", 1),
    ];
    let cut = &good[..9];
    fs::write(env.path("rows"), [&good[..], &bad.concat(), cut].concat()).expect("a file");
    fs::write(env.path("good"), &good).expect("a file");
    let output = env.sh("cat rows | dw-write f --format raw --rejects rejects");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let rejects = fs::read_to_string(env.path("rejects")).expect("rejects");
    assert_eq!(rejects.lines().count(), bad.len() + 1, "{rejects}");
    env.quiet("dw-cat f -o raw | cmp - good");
}
