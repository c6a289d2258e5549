//! Tests of wrong input in many forms: what is accepted, what is rejected, and where and why the
//! error says so. Every case goes through a pipe, where bad rows are skipped, and through a regular
//! file, where the first one ends the run. Some also go through a file with `--on-bad skip`.

use std::fs;

use serde_json::Value;

use super::env::TestEnv;
use super::kit::{objects, run, text};

/// How the input is given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Pipe,
    File,
    FileSkip,
}

const BOTH: &[Way] = &[Way::Pipe, Way::File];
const FILES: &[Way] = &[Way::File, Way::FileSkip];

/// A rejected row: line, column, a part of the reason, and its text if that is not the line.
struct Bad {
    line: u64,
    column: u64,
    reason: &'static str,
    text: Option<String>,
    /// The reason is complete, not a part.
    whole: bool,
}

const NO_TIME: &str = "ts: \"x\" is not a time (a number, or as 2026-01-31T09:30:00.123Z)";

fn bad(line: u64, column: u64, reason: &'static str) -> Bad {
    Bad { line, column, reason, text: None, whole: false }
}

/// A case of the table.
struct Case {
    name: String,
    fields: &'static str,
    args: &'static [&'static str],
    ways: &'static [Way],
    input: Vec<u8>,
    /// The records written, as `dw-cat -o csv --no-header` prints them.
    good: Vec<String>,
    /// How many of them come before the first bad row.
    before: usize,
    bad: Vec<Bad>,
    /// The whole input is rejected with this message.
    refused: Option<&'static str>,
}

const TICKS: &str = "ts:timestamp price:float64";

fn case(name: &str, input: impl Into<Vec<u8>>) -> Case {
    Case {
        name: name.to_owned(),
        fields: TICKS,
        args: &[],
        ways: BOTH,
        input: input.into(),
        good: Vec::new(),
        before: 0,
        bad: Vec::new(),
        refused: None,
    }
}

impl Case {
    fn fields(mut self, fields: &'static str) -> Case {
        self.fields = fields;
        self
    }

    fn args(mut self, args: &'static [&'static str]) -> Case {
        self.args = args;
        self
    }

    fn ways(mut self, ways: &'static [Way]) -> Case {
        self.ways = ways;
        self
    }

    /// Sets the records written, of which `before` come before the first bad row.
    fn good(mut self, before: usize, good: &[&str]) -> Case {
        (self.before, self.good) = (before, good.iter().map(|row| (*row).to_owned()).collect());
        self
    }

    fn bad(mut self, bad: impl IntoIterator<Item = Bad>) -> Case {
        self.bad.extend(bad);
        self
    }

    fn refused(mut self, why: &'static str) -> Case {
        self.refused = Some(why);
        self
    }

    /// Returns a case with one bad line between good ones: `ts` is 1 before it and 3 after it.
    fn between(name: &str, head: &str, row: &[&str; 3], bad: Bad) -> Case {
        let input = format!("{head}{}\n{}\n{}\n", row[0], row[1], row[2]);
        case(name, input).good(1, &["1,1.0", "3,3.0"]).bad([bad])
    }
}

/// Runs a case in one way.
fn check(case: &Case, way: Way) {
    let env = TestEnv::new();
    let who = format!("{} ({way:?})", case.name);
    let fields = case.fields.split(' ');
    let made: Vec<&str> = ["feed"].into_iter().chain(fields).collect();
    assert!(run(&env, "dw-mkfeed", &made, b"").status.success(), "{who}: no feed");
    fs::write(env.path("input"), &case.input).unwrap();
    let mut args = vec!["feed", "--rejects", "rejects"];
    args.extend(case.args);
    match way {
        Way::Pipe => {}
        Way::File => args.push("input"),
        Way::FileSkip => args.extend(["--on-bad", "skip", "input"]),
    }
    let piped: &[u8] = if way == Way::Pipe { &case.input } else { b"" };
    let output = run(&env, "dw-write", &args, piped);
    let said = text(&output.stderr);

    let stops = way == Way::File && !case.bad.is_empty();
    let good = if stops { &case.good[..case.before] } else { &case.good[..] };
    let expected_bad = if stops { &case.bad[..1] } else { &case.bad[..] };
    let status = match (case.refused, expected_bad.len()) {
        (Some(_), _) => 2,
        (None, 0) => 0,
        (None, _) => 1,
    };
    let rows = text(&run(&env, "dw-cat", &["feed", "-o", "csv", "--no-header"], b"").stdout);
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows, good, "{who}: the records; said: {said}");
    assert_eq!(output.status.code(), Some(status), "{who}: the status; said: {said}");
    check_rejects(case, &who, &env, expected_bad, way);
    check_said(&who, &said, expected_bad, stops, case.refused);
    let session = &objects(&env, "dw-ls", &["--sessions", "--json"])[0];
    let count = session["seq_hi"].as_u64().unwrap() - session["seq_lo"].as_u64().unwrap();
    assert_eq!(count, good.len() as u64, "{who}: {session}");
    assert_eq!(session["rejected"], expected_bad.len(), "{who}: {session}");
    let reason = if stops || status == 2 { "error" } else { "ended" };
    assert_eq!(session["reason"], reason, "{who}: {session}");
}

fn check_rejects(case: &Case, who: &str, env: &TestEnv, expected: &[Bad], way: Way) {
    let kept = fs::read_to_string(env.path("rejects")).unwrap();
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<String> =
        kept.iter().map(|r| format!("{}:{} {}", r["line"], r["column"], r["reason"])).collect();
    assert_eq!(kept.len(), expected.len(), "{who}: {found:#?}");
    for (reject, bad) in kept.iter().zip(expected) {
        let place = (reject["line"].as_u64().unwrap(), reject["column"].as_u64().unwrap());
        assert_eq!(place, (bad.line, bad.column), "{who}: {found:#?}");
        let reason = reject["reason"].as_str().unwrap();
        assert!(reason.contains(bad.reason), "{who}: {reason:?} has no {:?}", bad.reason);
        assert!(!bad.whole || reason == bad.reason, "{who}: {reason:?}");
        assert!(reason.len() < 400, "{who}: a reason of {} bytes", reason.len());
        let file = if way == Way::Pipe { "stdin" } else { "input" };
        assert_eq!(reject["file"], file, "{who}");
        let line = bad.text.clone().unwrap_or_else(|| line_of(&case.input, bad.line));
        assert!(reject["text"] == line.as_str(), "{who}: the text {}", reject["text"]);
    }
}

/// Returns a line of the input as it is saved: without its newline, and at most 64 KiB of it.
fn line_of(input: &[u8], line: u64) -> String {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let line = input.split(|&b| b == b'\n').nth(line as usize - 1).unwrap();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    text(&line[..line.len().min(64 << 10)])
}

/// Checks stderr: one line for each of the first five rejected rows, a count for the others.
fn check_said(who: &str, said: &str, bad: &[Bad], stops: bool, refused: Option<&str>) {
    for bad in bad.iter().take(5) {
        let place = format!(":{}:{}: rejected: ", bad.line, bad.column);
        assert!(said.contains(&place) && said.contains(bad.reason), "{who}: {said}");
    }
    assert_eq!(said.contains("stopped at the bad row"), stops, "{who}: {said}");
    match refused {
        Some(why) => assert!(said.contains(why) && said.lines().count() == 1, "{who}: {said}"),
        None => assert!(!bad.is_empty() || said.is_empty(), "{who}: {said}"),
    }
}

fn check_all(cases: Vec<Case>) {
    let mut failed = Vec::new();
    for case in &cases {
        for &way in case.ways {
            let outcome = std::panic::catch_unwind(|| check(case, way));
            if outcome.is_err() {
                failed.push(format!("{} ({way:?})", case.name));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), cases.len());
}

#[test]
fn integers_that_do_not_fit_are_rejected() {
    let types = [
        ("ts:timestamp v:int8", "-128", "127", "-129", "128"),
        ("ts:timestamp v:int16", "-32768", "32767", "-32769", "32768"),
        ("ts:timestamp v:int32", "-2147483648", "2147483647", "-2147483649", "2147483648"),
        (
            "ts:timestamp v:int64",
            "-9223372036854775808",
            "9223372036854775807",
            "-9223372036854775809",
            "9223372036854775808",
        ),
        ("ts:timestamp v:uint8", "0", "255", "-1", "256"),
        ("ts:timestamp v:uint16", "0", "65535", "-1", "65536"),
        ("ts:timestamp v:uint32", "0", "4294967295", "-1", "4294967296"),
        ("ts:timestamp v:uint64", "0", "18446744073709551615", "-1", "18446744073709551616"),
    ];
    let mut cases = Vec::new();
    for (fields, low, high, below, above) in types {
        let good = [format!("1,{low}"), format!("4,{high}")];
        let good: Vec<&str> = good.iter().map(String::as_str).collect();
        let input = format!("ts,v\n1,{low}\n2,{below}\n3,{above}\n4,{high}\n");
        let refusal = |line, column| bad(line, column, "does not fit");
        let csv = case(&format!("{fields} csv"), input);
        cases.push(csv.fields(fields).good(1, &good).bad([refusal(3, 3), refusal(4, 3)]));
        let line = |ts, v: &str| format!("{{\"ts\":{ts},\"v\":{v}}}\n");
        let input = [line(1, low), line(2, below), line(3, above), line(4, high)].concat();
        let json = case(&format!("{fields} jsonl"), input);
        cases.push(json.fields(fields).good(1, &good).bad([refusal(2, 13), refusal(3, 13)]));
    }
    check_all(cases);
}

#[test]
fn invalid_numbers_are_rejected() {
    let mut cases = Vec::new();
    let csv = |name: &str, cell: &str, reason| {
        let row = format!("2,{cell}");
        Case::between(name, "ts,price\n", &["1,1", &row, "3,3"], bad(3, 3, reason))
    };
    for (cell, reason) in [
        ("1e400", "does not fit float64"),
        ("-1e400", "does not fit float64"),
        ("abc", "\"abc\" is not a number"),
        ("1.2.3", "is not a number"),
        ("0x10", "is not a number"),
        ("1_000", "is not a number"),
        ("--1", "is not a number"),
        ("1e", "is not a number"),
        (".", "is not a number"),
        ("Infinityy", "is not a number"),
        ("", "an empty value"),
        ("  ", "an empty value"),
        ("1\u{0}", "is not a number"),
        ("\u{0}", "is not a number"),
        ("\u{661}", "is not a number"),
    ] {
        cases.push(csv(&format!("cell {cell:?}"), cell, reason));
    }
    let json = |name: &str, value: &str, column: u64, reason| {
        let row = format!("{{\"ts\":2,\"price\":{value}}}");
        let rows = ["{\"ts\":1,\"price\":1}", &row, "{\"ts\":3,\"price\":3}"];
        Case::between(name, "", &rows, bad(2, column + 1, reason))
    };
    for (value, column, reason) in [
        ("1e400", 16, "does not fit float64"),
        ("\"1e400\"", 16, "does not fit float64"),
        ("NaN", 16, "not JSON"),
        ("Infinity", 16, "not JSON"),
        ("-", 17, "not JSON"),
        ("01", 17, "not JSON"),
        ("+1", 16, "not JSON"),
        ("1.", 18, "not JSON"),
        ("true", 16, "bool only"),
        ("[1]", 16, "is an array"),
        ("{\"a\":1}", 16, "is an object"),
        ("\"\\ud800\"", 16, "half a surrogate pair"),
        ("\"\"", 16, "an empty value"),
        ("\"abc\"", 16, "is not a number"),
    ] {
        cases.push(json(&format!("value {value}"), value, column, reason));
    }
    let digits = "9".repeat(10_000);
    let input = format!("ts,v\n1,1\n2,{digits}\n3,3\n");
    let many = || case("10,000 digits", input.clone()).good(1, &["1,1", "3,3"]);
    cases.push(many().fields("ts:timestamp v:int64").bad([bad(3, 3, "does not fit int64")]));
    let zeros = format!("{}1", "0".repeat(10_000));
    cases.push(
        case("10,000 zeros before a 1", format!("ts,v\n1,{zeros}\n"))
            .fields("ts:timestamp v:int64")
            .good(1, &["1,1"]),
    );
    let long = format!("ts,price\n1,0.{}1\n", "0".repeat(400));
    cases.push(case("a float that would become 0", long).bad([bad(2, 3, "is too small")]));
    check_all(cases);
}

#[test]
fn values_of_another_type_are_rejected() {
    let one = |fields, cell: &str, good: &'static [&'static str], reason| {
        let rows: Vec<&str> = good.iter().map(|row| row.split_once(',').unwrap().1).collect();
        let input = format!("ts,v\n1,{}\n2,{cell}\n3,{}\n", rows[0], rows[1]);
        case(&format!("{fields} {cell:?}"), input)
            .fields(fields)
            .good(1, good)
            .bad([bad(3, 3, reason)])
    };
    let mut cases = vec![
        one("ts:timestamp v:int32", "1.5", &["1,1", "3,3"], "is not an integer"),
        one("ts:timestamp v:int32", "1e3", &["1,1", "3,3"], "is not an integer"),
        one("ts:timestamp v:float32", "1e39", &["1,1.0", "3,3.0"], "does not fit float32"),
        one("ts:timestamp v:decimal64.2", "1.234", &["1,1.1", "3,3.0"], "(2 decimals)"),
        one("ts:timestamp v:decimal64.2", "92233720368547758.08", &["1,1.1", "3,3.0"], "fit"),
        one("ts:timestamp v:decimal64.2", "nan", &["1,1.1", "3,3.0"], "is not a number"),
        one("ts:timestamp v:bool", "2", &["1,true", "3,false"], "is not true or false"),
        one("ts:timestamp v:bool", "yes", &["1,true", "3,false"], "is not true or false"),
        one("ts:timestamp v:char", "ab", &["1,a", "3,b"], "one Latin-1 character"),
        one("ts:timestamp v:char", "\u{20ac}", &["1,a", "3,b"], "one Latin-1 character"),
        one("ts:timestamp v:char", "", &["1,a", "3,b"], "an empty value"),
        one("ts:timestamp v:bytes2", "00f", &["1,00ff", "3,ff00"], "3 hex digits, not 4"),
        one("ts:timestamp v:bytes2", "00fg", &["1,00ff", "3,ff00"], "is not hex"),
        one("ts:timestamp v:string3", "abcd", &["1,abc", "3,d"], "does not fit string3"),
        one("ts:timestamp v:string3", "\u{20ac}\u{20ac}", &["1,abc", "3,d"], "does not fit"),
        one("ts:timestamp v:string3", "a\u{0}", &["1,abc", "3,d"], "holds a NUL"),
    ];
    let mut latin = b"ts,v\n1,abc\n2,x\xff\n3,d\n".to_vec();
    cases.push(
        case("a string that is not UTF-8", latin.clone())
            .fields("ts:timestamp v:string3")
            .good(1, &["1,abc", "3,d"])
            .bad([bad(3, 3, "is not UTF-8")]),
    );
    latin.splice(.., b"ts,price\n1,1\n2,\xff\xfe\n3,3\n".iter().copied());
    cases.push(case("a number that is not UTF-8", latin).good(1, &["1,1.0", "3,3.0"]).bad([bad(
        3,
        3,
        "is not a number",
    )]));
    cases.push(
        case("JSON that is not UTF-8", b"{\"ts\":1,\"price\":1}\n{\"ts\":2,\"\xff\":1}\n".to_vec())
            .good(1, &["1,1.0"])
            .bad([bad(2, 10, "not UTF-8")]),
    );
    cases.push(
        case("a number for a string", "{\"ts\":1,\"v\":\"a\"}\n{\"ts\":2,\"v\":7}\n")
            .fields("ts:timestamp v:string3")
            .good(1, &["1,a"])
            .bad([bad(2, 13, "is a number; a text is needed")]),
    );
    cases.push(
        case("null where no float is", "{\"ts\":1,\"v\":1}\n{\"ts\":2,\"v\":null}\n")
            .fields("ts:timestamp v:int8")
            .good(1, &["1,1"])
            .bad([bad(2, 13, "floats only")]),
    );
    check_all(cases);
}

#[test]
fn invalid_times_are_rejected() {
    let one = |name: &str, cell: &str, good: &'static str, reason| {
        let input = format!("ts,price\n{},1\n{cell},2\n", "1970-01-01T00:00:01Z");
        case(name, input).good(1, &[good]).bad([bad(3, 1, reason)])
    };
    let mut cases = vec![
        one("finer than the unit", "1970-01-01T00:00:01.0000001Z", "1000000,1.0", "is finer"),
        one("a number finer than the unit", "1000001.5", "1000000,1.0", "is finer"),
        one("before 1970, text", "1969-12-31T23:59:59Z", "1000000,1.0", "is before 1970"),
        one("before 1970, number", "-1", "1000000,1.0", "is before 1970"),
        one("too late", "99999999999999999999", "1000000,1.0", "does not fit"),
        one("the 30th of February", "2024-02-30T00:00:00Z", "1000000,1.0", "is not a time"),
        one("a leap second", "2016-12-31T23:59:60Z", "1000000,1.0", "is a leap second"),
        one("no zone", "2024-05-01T00:00:00", "1000000,1.0", "no time zone is given (--tz)"),
        one("by name", "yesterday", "1000000,1.0", "is not a time"),
        one("empty", "", "1000000,1.0", "an empty value"),
    ];
    let zone = |name, cell: &str, both| {
        let input = format!("ts,price\n1970-01-01T00:00:01Z,1\n{cell},2\n");
        case(name, input)
            .args(&["--tz", "America/New_York"])
            .good(1, &["1000000,1.0"])
            .bad([bad(3, 1, both)])
    };
    let skipped = "say 2024-03-10T02:30:00-05:00 or 2024-03-10T02:30:00-04:00";
    cases.push(zone("a local time that is skipped", "2024-03-10T02:30:00", skipped));
    let twice = "say 2024-11-03T01:30:00-04:00 or 2024-11-03T01:30:00-05:00";
    cases.push(zone("a local time that comes twice", "2024-11-03T01:30:00", twice));
    cases.push(
        case("by a format", "ts,price\n01/05/2024 09:30,1\n2024-05-01 09:30,2\n")
            .args(&["--ts-format", "%d/%m/%Y %H:%M", "--tz", "UTC"])
            .good(1, &["1714555800000000,1.0"])
            .bad([bad(3, 1, "is not a time by \"%d/%m/%Y %H:%M\"")]),
    );
    cases.push(
        case("beyond the day of the base", "ts,price\n0,1\n86400000,2\n")
            .args(&["--ts-base", "2024-05-01"])
            .good(1, &["1714521600000000,1.0"])
            .bad([bad(3, 1, "is no time of the day 2024-05-01")]),
    );
    check_all(cases);
}

#[test]
fn malformed_csv_rows_are_rejected() {
    let both = ["1,1.0", "3,3.0"];
    let between = |name: &str, row: &str, column, reason| {
        Case::between(name, "ts,price\n", &["1,1", row, "3,3"], bad(3, column, reason))
    };
    let note = "ts:timestamp note:string8 v:int8";
    let quoted = |name: &str, row: &str, column, reason| {
        case(name, format!("ts,note,v\n1,a,1\n{row}\n3,b,3\n"))
            .fields(note)
            .good(1, &["1,a,1", "3,b,3"])
            .bad([bad(3, column, reason)])
    };
    let mut cases =
        vec![
            between("a column too few", "2", 2, "1 cell; 2 are needed"),
            between("a column too many", "2,2,2", 5, "3 cells; 2 are needed"),
            between("a comma at the end", "2,2,", 5, "3 cells; 2 are needed"),
            between("only a comma", ",", 1, "an empty value"),
            between("tabs in csv", "2\t2", 4, "1 cell; 2 are needed"),
            between("semicolons", "2;2", 4, "1 cell; 2 are needed"),
            between("the header again", "ts,price", 1, "is not a time"),
            between("a lone CR", "2,2\r9,9", 7, "3 cells; 2 are needed"),
            between("a line of blanks", "   ", 4, "1 cell; 2 are needed"),
            between("a comment", "# nothing", 10, "1 cell; 2 are needed"),
            quoted("a quote that is not closed", "2,a,\"2", 5, "is not closed on its line"),
            quoted("text after a quote", "2,\"a\"b,2", 6, "text after a closing quote"),
            quoted("an unclosed quote in ts", "\"2,a,2", 1, "is not closed on its line"),
            case("blank lines are passed over", "\nts,price\n\n1,1\n\r\n\n3,3\n").good(2, &both),
            case("CRLF", "ts,price\r\n1,1\r\n2,x\r\n3,3\r\n").good(1, &both).bad([bad(
                3,
                3,
                "\"x\" is not a number",
            )]),
            case("a BOM", "\u{feff}ts,price\n1,1\n2,x\n3,3\n").good(1, &both).bad([bad(
                3,
                3,
                "is not a number",
            )]),
            case("a BOM, no header", "\u{feff}x,2\n1,1\n3,3\n")
                .args(&["--header", "no"])
                .good(0, &both)
                .bad([bad(1, 1, "is not a time")]),
            case("a BOM in the middle", "ts,price\n1,1\n\u{feff}2,2\n3,3\n")
                .good(1, &both)
                .bad([bad(3, 1, "is not a time")]),
            case("blanks around numbers", "ts,price\n1 , 1\n 3,3\t\n").good(2, &both),
            case("quoted numbers", "ts,price\n\"1\",\"1\"\n3,\"3\"\n").good(2, &both),
            case("an empty cell of a string", "ts,note,v\n1,,1\n2,\"\",2\n")
                .fields(note)
                .good(2, &["1,,1", "2,,2"]),
            case("quotes inside a cell are text", "ts,note,v\n1,a\"b,1\n2,\"a\"\"b\",2\n")
                .fields(note)
                .good(2, &["1,\"a\"\"b\",1", "2,\"a\"\"b\",2"]),
        ];
    let swallowed = "ts,note,v\n1,a,1\n2,\"b,2\n3,c,3\n";
    cases.push(Case {
        bad: vec![Bad { text: Some("2,\"b,2".to_owned()), ..bad(3, 3, "is never closed") }],
        ..case("a quote in a text that is never closed", swallowed)
            .fields(note)
            .good(1, &["1,a,1", "3,c,3"])
    });
    cases.push(
        case("a quoted newline in a number", "ts,v,note\n1,1,a\n2,\"2\n\",b\n3,3,c\n")
            .fields(note)
            .good(1, &["1,a,1", "3,c,3"])
            .bad([bad(3, 3, "is not closed on its line"), bad(4, 1, "")]),
    );
    check_all(cases);
}

#[test]
fn a_newline_in_a_quoted_text_cell_is_kept() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed feed ts:timestamp note:string8 v:int8");
    env.quiet("printf 'ts,note,v\\n1,\"a\\nb\",1\\n2,c,2\\n' | dw-write feed");
    let rows = "{\"ts\":1,\"note\":\"a\\nb\",\"v\":1}\n{\"ts\":2,\"note\":\"c\",\"v\":2}\n";
    assert_eq!(env.quiet("dw-cat feed"), rows);
    // The line numbers after the cell count the newlines within it.
    let input = b"ts,note,v\n1,\"a\nb\",1\nx,c,2\n";
    let said = text(&run(&env, "dw-write", &["feed"], input).stderr);
    assert!(said.contains("stdin:4:1: rejected"), "{said}");
}

#[test]
fn headers_are_recognised_or_rejected() {
    let both = ["1,1.0", "3,3.0"];
    check_all(vec![
        case("a header that names a field twice", "ts,price,price\n1,1,1\n").refused("\"price\""),
        case("unknown columns are passed over", "ts,venue,price\n1,X,1\n3,Y,3\n")
            .args(&["--header", "yes"])
            .good(2, &both),
        case("unknown columns, strict", "ts,venue,price\n1,X,1\n")
            .args(&["--header", "yes", "--strict"])
            .refused("column 2 (\"venue\") is not used"),
        case("a header with an unknown column is a row", "ts,venue\n1,1\n3,3\n")
            .good(0, &both)
            .bad([bad(1, 1, "a header that does not name the fields needs --map")]),
        case("a header in other letters", "TS;Price\n1,1\nx,y\n").good(0, &["1,1.0"]).bad([
            bad(1, 9, "1 cell; 2 are needed, with commas between them; a header that"),
            Bad { whole: true, ..bad(3, 1, NO_TIME) },
        ]),
        case("a bad first row that is no header", "1,x\n1,1\n")
            .good(0, &["1,1.0"])
            .bad([Bad { whole: true, ..bad(1, 3, "price: \"x\" is not a number") }]),
        case("a header that lacks a field", "ts,venue\n1,1\n")
            .args(&["--header", "yes"])
            .refused("price"),
        case("a mapped header that is not there", "ts,px\n1,1\n")
            .args(&["--map", "price=last"])
            .refused("\"last\""),
        case("an empty input", "").good(0, &[]),
        case("a header and nothing else", "ts,price\n").good(0, &[]),
        case("newlines only", "\n\n\n").good(0, &[]),
        case("blanks only", " \n \n").bad([bad(1, 2, "1 cell"), bad(2, 2, "1 cell")]),
    ]);
}

#[test]
fn a_last_line_without_newline_follows_final_line() {
    let cut = "no newline at the end: the row may be cut short";
    let rows = "ts,price\n1,1\n3,3";
    let json = "{\"ts\":1,\"price\":1}\n{\"ts\":3,\"price\":3}";
    let half = "{\"ts\":1,\"price\":1}\n{\"ts\":3,\"pri";
    let both = ["1,1.0", "3,3.0"];
    let pipe: &[Way] = &[Way::Pipe];
    check_all(vec![
        case("csv, pipe", rows).ways(pipe).good(1, &["1,1.0"]).bad([bad(3, 4, cut)]),
        case("csv, file", rows).ways(FILES).good(2, &both),
        case("csv, accept", rows).args(&["--final-line", "accept"]).good(2, &both),
        case("csv, reject", rows)
            .args(&["--final-line", "reject"])
            .ways(&[Way::Pipe, Way::File, Way::FileSkip])
            .good(1, &["1,1.0"])
            .bad([bad(3, 4, cut)]),
        case("jsonl, pipe", json).ways(pipe).good(1, &["1,1.0"]).bad([bad(2, 19, cut)]),
        case("jsonl, file", json).ways(FILES).good(2, &both),
        case("jsonl, truncated, pipe", half).ways(pipe).good(1, &["1,1.0"]).bad([bad(2, 13, cut)]),
        case("jsonl, truncated, file", half).ways(FILES).good(1, &["1,1.0"]).bad([bad(
            2,
            12,
            "not JSON: EOF",
        )]),
        case("only a header without newline", "ts,price").ways(FILES).good(0, &[]),
        case("one row and no newline", "1,1").ways(FILES).good(1, &["1,1.0"]),
        case("an open quote at the end", "ts,note,v\n1,a,1\n2,\"b")
            .fields("ts:timestamp note:string8 v:int8")
            .ways(FILES)
            .good(1, &["1,a,1"])
            .bad([bad(3, 3, "is never closed")]),
    ]);
}

#[test]
fn malformed_json_lines_are_rejected() {
    let both = ["1,1.0", "3,3.0"];
    let (first, last) = ("{\"ts\":1,\"price\":1}", "{\"ts\":3,\"price\":3}");
    let between = |name: &str, row: &str, column, reason| {
        Case::between(name, "", &[first, row, last], bad(2, column, reason))
    };
    let deep = "[".repeat(100_000);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    let deep_in = format!("{{\"ts\":1,\"price\":1,\"x\":{closed}}}\n{last}\n");
    let mut cases = vec![
        between("truncated", "{\"ts\":2,\"pri", 12, "not JSON: EOF"),
        between("nothing but a brace", "{", 1, "not JSON: EOF"),
        between("two objects on a line", "{\"ts\":2,\"price\":2}{}", 19, "trailing characters"),
        between("a comma after it", "{\"ts\":2,\"price\":2},", 19, "trailing characters"),
        between("single quotes", "{'ts':2}", 2, "not JSON"),
        between("a comma too many", "{\"ts\":2,\"price\":2,}", 19, "not JSON"),
        between("not an object", "42", 1, "a line is an object or an array"),
        between("null", "null", 1, "a line is an object or an array"),
        between("words", "hello", 1, "not JSON"),
        between("a key twice", "{\"ts\":2,\"ts\":3,\"price\":2}", 9, "the key \"ts\" comes twice"),
        between("no such key", "{\"ts\":2,\"prise\":2}", 18, "price: missing"),
        between("an empty object", "{}", 2, "ts: missing"),
        between("an empty array", "[]", 2, "ts: missing"),
        between("an array too short", "[2]", 3, "price: missing"),
        between("an array too long", "[2,2,2]", 7, "3 elements; 2 are needed"),
        between("100,000 brackets", &deep, 100_000, "not JSON: EOF"),
        between("100,000 brackets, closed", &closed, 2, "ts: \"[[["),
        between("a control character", "{\"ts\":2,\"price\":\"\u{1}\"}", 17, "control character"),
        between("a NUL", "{\"ts\":2,\"price\":2}\u{0}", 19, "trailing characters"),
        between("a CSV row among JSON", "2,2", 2, "trailing characters"),
        case("blank lines are passed over", format!("\n{first}\n \n\r\n{last}\n")).good(2, &both),
        case("CRLF", format!("{first}\r\n{last}\r\n")).good(2, &both),
        case("a BOM", format!("\u{feff}{first}\n{last}\n")).good(2, &both),
        case("numbers as text", "{\"ts\":\"1\",\"price\":\"1\"}\n[3,\"3.0\"]\n").good(2, &both),
        case("a key nobody asked for", "{\"ts\":1,\"x\":[{}],\"price\":1}\n").good(1, &both[..1]),
        case("a key nobody asked for, strict", "{\"ts\":1,\"x\":[{}],\"price\":1}\n")
            .args(&["--strict"])
            .bad([bad(1, 9, "\"x\" is not used")]),
    ];
    cases.push(case("100,000 brackets in a key nobody asked for", deep_in).good(2, &both));
    let pretty = "{\n  \"ts\": 1,\n  \"price\": 1\n}\n";
    cases.push(case("JSON over several lines", pretty).bad([
        bad(1, 1, "not JSON: EOF"),
        bad(2, 7, "trailing characters"),
        bad(3, 10, "trailing characters"),
        bad(4, 1, "not JSON"),
    ]));
    check_all(cases);
}

#[test]
fn malformed_exploded_messages_are_rejected() {
    let args = &["--explode", "/changes", "--map", "ts=/t", "--map", "price=./0"];
    let one = |name, rows: &str| case(name, rows.to_owned()).args(args);
    check_all(vec![
        one(
            "messages that have no such array are passed over",
            "{\"t\":1,\"changes\":[[1]]}\n{\"t\":2}\n{\"t\":2,\"changes\":7}\n\
             {\"t\":2,\"changes\":{}}\n{\"t\":2,\"changes\":[]}\n{\"t\":3,\"changes\":[[3]]}\n",
        )
        .good(2, &["1,1.0", "3,3.0"]),
        one(
            "a bad element refuses its whole message",
            "{\"t\":1,\"changes\":[[1]]}\n{\"t\":2,\"changes\":[[2],[\"x\"],[2]]}\n",
        )
        .good(1, &["1,1.0"])
        .bad([bad(2, 24, "price: \"x\" is not a number")]),
        one("an element too short", "{\"t\":1,\"changes\":[[1],[]]}\n").bad([bad(
            1,
            24,
            "price: nothing at ./0",
        )]),
        one(
            "no array to point into",
            "{\"t\":1,\"changes\":[[1]]}\n{\"t\":[],\"changes\":[[1]]}\n",
        )
        .good(1, &["1,1.0"])
        .bad([bad(2, 6, "is an array")]),
    ]);
}

#[test]
fn lines_of_five_megabytes_are_handled() {
    let long = "x".repeat(5 << 20);
    let input = format!("ts,price\n1,1\n2,{long}\n3,3\n");
    let csv = case("csv", input).good(1, &["1,1.0", "3,3.0"]).bad([bad(3, 3, "is not a number")]);
    let row = format!("{{\"ts\":1,\"note\":\"{long}\",\"price\":1}}\n[3,3]\n");
    let good = case("a good one", row).good(2, &["1,1.0", "3,3.0"]);
    let row = format!("{{\"ts\":1,\"price\":1}}\n{{\"ts\":2,\"price\":\"{long}\"}}\n[3,3]\n");
    let json = case("jsonl", row).good(1, &["1,1.0", "3,3.0"]);
    let column = case("an unused column", format!("ts,x,price\n1,{long},1\n3,,3\n"))
        .args(&["--header", "yes"])
        .good(2, &["1,1.0", "3,3.0"]);
    let quoted = format!("ts,x,price\n1,\"{}\",1\n3,,3\n", "y\n".repeat(2 << 20));
    let spread = case("a quoted cell over a million lines", quoted)
        .args(&["--header", "yes"])
        .ways(&[Way::Pipe]);
    check_all(vec![csv, good, json.bad([bad(2, 17, "is not a number")]), column]);
    // A quote not closed within 1 MiB counts as never closed; each line is then a row of its own.
    let env = TestEnv::new();
    assert!(
        run(&env, "dw-mkfeed", &["feed", "ts:timestamp", "price:float64"], b"").status.success()
    );
    let said = run(&env, "dw-write", &["feed", "--header", "yes"], &spread.input);
    assert_eq!(said.status.code(), Some(1));
    let said = text(&said.stderr);
    assert!(
        said.contains("stdin:2:3: rejected: a quote that is not closed within 1 MiB"),
        "{said}"
    );
    assert!(said.lines().count() < 40, "{} lines are not rate limited", said.lines().count());
    let rows = text(&run(&env, "dw-cat", &["feed", "-o", "csv", "--no-header"], b"").stdout);
    assert_eq!(rows, "3,3.0\n");
}

/// Returns a raw record of `ts:timestamp ok:bool _:_3 note:string4`.
fn record(ts: u64, ok: u8, padding: u8, note: &[u8; 4]) -> Vec<u8> {
    [&ts.to_le_bytes()[..], &[ok, 0, padding, 0], note].concat()
}

#[test]
fn invalid_raw_records_are_rejected() {
    let fields = "ts:timestamp ok:bool _:_3 note:string4";
    let (first, last) = (record(1, 1, 0, b"ab\0\0"), record(3, 0, 0, b"abcd"));
    let raw = |name: &str, middle: Vec<u8>, column, reason| {
        let kept = Some(text(&middle));
        let input = [first.clone(), middle, last.clone()].concat();
        let refusal = Bad { text: kept, ..bad(2, column, reason) };
        case(name, input)
            .fields(fields)
            .args(&["--format", "raw"])
            .good(1, &["1,true,ab", "3,false,abcd"])
            .bad([refusal])
    };
    let mut cut = [first.clone(), last.clone()].concat();
    cut.truncate(25);
    let whole = raw("all good", first.clone(), 0, "");
    check_all(vec![
        raw("a bool of 2", record(2, 2, 0, b"ab\0\0"), 9, "byte 0x02 is no bool"),
        raw("padding that is not zero", record(2, 1, 7, b"ab\0\0"), 11, "padding that is not zero"),
        raw("a string that is not UTF-8", record(2, 1, 0, b"a\xff\0\0"), 13, "not UTF-8"),
        raw("text after the NUL", record(2, 1, 0, b"a\0b\0"), 13, "not UTF-8 padded with NUL"),
        case("a record cut short", cut.clone())
            .fields(fields)
            .args(&["--format", "raw"])
            .good(1, &["1,true,ab"])
            .bad([Bad { text: Some(text(&cut[16..])), ..bad(2, 10, "a cut record: 9 of 16") }]),
        Case { bad: Vec::new(), ..whole }.good(3, &["1,true,ab", "1,true,ab", "3,false,abcd"]),
    ]);
}
