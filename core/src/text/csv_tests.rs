#![allow(clippy::unwrap_used)]
use super::super::input::tests::{
    Got, Random, field_kinds, layout, random_fields, random_times, random_value, same, whole,
};
use super::super::input::{FinalLine, InputFormat, Parser};
use super::*;

fn csv() -> InputOptions {
    InputOptions::new(InputFormat::Csv)
}

/// Returns the time and price of every record, and `line:column reason` of every reject.
fn told(got: &Got) -> (Vec<(u64, f64)>, Vec<String>) {
    let eight = |b: &[u8]| <[u8; 8]>::try_from(b).unwrap();
    let rows = got.records.chunks(16);
    let rows =
        rows.map(|r| (u64::from_le_bytes(eight(&r[..8])), f64::from_le_bytes(eight(&r[8..]))));
    let rejects =
        got.rejects.iter().map(|r| format!("{}:{} {}", r.line, r.column, r.reason)).collect();
    (rows.collect(), rejects)
}

fn run(options: &InputOptions, input: &str) -> (Vec<(u64, f64)>, Vec<String>) {
    let two = layout("ts:uint64 price:float64", "us");
    told(&whole(&two, options, input.as_bytes()).unwrap())
}

#[test]
fn headers_blank_lines_and_line_ends_are_accepted() {
    for input in [
        "1,2.5\n3,4\n",
        "1,2.5\r\n3,4\r\n",
        "ts,price\n1,2.5\n3,4",
        "\u{feff}ts,price\n\n1,2.5\n\r\n3,4\n\n",
        "price,ts\n2.5,1\n4,3\n",
        "\"ts\",\"price\"\n\"1\",\"2.5\"\n3,4\n",
        " 1 , 2.5\n0003,4e0\n",
    ] {
        let (rows, rejects) = run(&csv(), input);
        assert_eq!((rows, rejects), (vec![(1, 2.5), (3, 4.0)], vec![]), "{input:?}");
    }
    let tsv = InputOptions::new(InputFormat::Tsv);
    assert_eq!(run(&tsv, "ts\tprice\n1\t2.5\n").0, [(1, 2.5)]);
}

#[test]
fn rows_that_do_not_fit_are_rejected() {
    for (row, said) in [
        ("1", "2:2 1 cell; 2 are needed, with commas between them"),
        ("1,2,3", "2:5 3 cells; 2 are needed"),
        ("1,2,", "2:5 3 cells; 2 are needed"),
        ("1,", "2:3 price: an empty value; float64 needs one"),
        (",2", "2:1 ts: an empty value; uint64 needs one"),
        ("1.5,2", "2:1 ts: \"1.5\" is finer than the feed's unit, us"),
        ("-1,2", "2:1 ts: \"-1\" is before 1970"),
        ("18446744073709551616,2", "2:1 ts: \"18446744073709551616\" does not fit uint64"),
        ("1,1e400", "2:3 price: \"1e400\" does not fit float64"),
        ("1,1e-400", "2:3 price: \"1e-400\" is too small: it would become 0"),
        ("1,abc", "2:3 price: \"abc\" is not a number"),
        ("1,\"2\"x", "2:6 text after a closing quote"),
        ("1,\"2", "2:3 a quote that is not closed on its line"),
        ("1,2\r3", "2:3 price: \"2\\r3\" is not a number"),
    ] {
        let (rows, rejects) = run(&csv(), &format!("7,8\n{row}\n9,10\n"));
        assert_eq!(rows, [(7, 8.0), (9, 10.0)], "{row:?}");
        assert_eq!(rejects, [said], "{row:?}");
    }
}

#[test]
fn fields_come_from_headers_columns_and_maps() {
    let map = |pairs: &[(&str, &str)]| {
        let pair = |(f, s): &(&str, &str)| ((*f).to_owned(), Source::parse(s).unwrap());
        InputOptions { map: pairs.iter().map(pair).collect(), ..csv() }
    };
    let es = map(&[("ts", "T"), ("price", "P")]);
    assert_eq!(run(&es, "T,P\n1,2\n").0, [(1, 2.0)]);
    assert_eq!(run(&es, "X,P,T\nq,2,1\n").0, [(1, 2.0)]);
    assert_eq!(run(&map(&[("price", "P")]), "ts,P\n1,2\n").0, [(1, 2.0)]);
    assert_eq!(run(&map(&[("ts", "1"), ("price", "3")]), "1,x,2\n3,x,4,5\n").0.len(), 2);
    assert_eq!(run(&map(&[("ts", "2"), ("price", "1")]), "ts,price\n1,2\n").0, [(2, 1.0)]);
    let stamp = InputOptions { map: vec![("ts".into(), Source::Stamp)], ..csv() };
    assert_eq!(run(&stamp, "2.5\n").0, [(77, 2.5)]);
    assert_eq!(run(&stamp, "price\n2.5\n").0, [(77, 2.5)]);
    let columns = |names: &[&str]| {
        let name = |n: &&str| (*n != "-").then(|| (*n).to_owned());
        InputOptions { columns: Some(names.iter().map(name).collect()), ..csv() }
    };
    assert_eq!(run(&columns(&["price", "-", "ts"]), "2,\"a\nb\",1\n").0, [(1, 2.0)]);
    assert_eq!(run(&columns(&["ts", "price"]), "ts,price\n1,2\n").0, [(1, 2.0)]);
    let headed = InputOptions { header: Some(true), ..csv() };
    assert_eq!(run(&headed, "x,price,ts\nq,2,1\n").0, [(1, 2.0)]);

    let two = layout("ts:uint64 price:float64", "us");
    for (options, input, said) in [
        (es.clone(), "1,2\n", "no header"),
        (es, "T,P,T\n1,2,3\n", "both named"),
        (csv(), "ts,ts,price\n1,2,3\n", "both named"),
        (csv(), "ts\n1\n", "no column for price"),
        (columns(&["ts", "price"]), "price,ts\n1,2\n", "--columns"),
        (InputOptions { strict: true, ..headed }, "x,price,ts\n", "not used"),
    ] {
        let error = whole(&two, &options, input.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{input:?}: {error}");
    }
}

#[test]
fn quoted_cells_follow_rfc_4180() {
    let texts = layout("ts:uint64 s:string8 c:char", "us");
    let input = "1,\"a\nb\",\"\"\"\"\n2,a\"b,\",\"\n3,\"\",\"\n\"\n4,\"x\ny\" ,B\n5,p,B\n";
    let got = whole(&texts, &csv(), input.as_bytes()).unwrap();
    let row = |r: &[u8]| String::from_utf8(r[8..17].to_vec()).unwrap().replace('\0', "");
    let rows: Vec<String> = got.records.chunks(24).map(row).collect();
    assert_eq!(rows, ["a\nb\"", "a\"b,", "\n", "pB"]);
    assert_eq!(got.lines, [1, 3, 4, 8]);
    let said: Vec<_> = got.rejects.iter().map(|r| (r.line, r.column)).collect();
    assert_eq!(said, [(6, 5), (7, 6)]);
}

#[test]
fn an_empty_char_cell_is_rejected() {
    let chars = layout("ts:uint64 c:char n:int8", "us");
    for input in ["1,,,5\n", "1,,5\n", "1,\n,5\n", "1,B,\n"] {
        let got = whole(&chars, &csv(), input.as_bytes()).unwrap();
        assert!(got.records.is_empty() && !got.rejects.is_empty(), "{input:?}");
    }
    let last = layout("ts:uint64 c:char", "us");
    for input in ["1,\n\n", "1,\r\n"] {
        let got = whole(&last, &csv(), input.as_bytes()).unwrap();
        assert_eq!((got.records.len(), got.rejects.len()), (0, 1), "{input:?}");
    }
}

#[test]
fn a_quote_left_open_for_a_mebibyte_rejects_one_row() {
    let texts = layout("ts:uint64 s:string8", "us");
    let mut input = b"1,\"a\n".to_vec();
    while input.len() < (1 << 20) + 100_000 {
        input.extend_from_slice(b"2,b\n");
    }
    let mut parser = Parser::new(texts, csv()).unwrap();
    let got = super::super::input::tests::feed(&mut parser, &input, &[65536]).unwrap();
    assert_eq!(got.rejects.len(), 1);
    assert_eq!(got.lines.len(), (input.len() - 5) / 4);
    assert_eq!(got.lines[0], 2);
}

#[test]
fn a_last_line_without_newline_is_accepted_or_rejected() {
    let reject = InputOptions { final_line: FinalLine::Reject, ..csv() };
    assert_eq!(run(&csv(), "1,2\n3,4").0.len(), 2);
    let (rows, rejects) = run(&reject, "1,2\n3,4");
    assert_eq!(rows, [(1, 2.0)]);
    assert_eq!(rejects, ["2:4 no newline at the end: the row may be cut short"]);
    for blank in ["1,2\n", "1,2\n\r", "1,2\n\n"] {
        assert_eq!(run(&reject, blank), (vec![(1, 2.0)], vec![]), "{blank:?}");
    }
    let texts = layout("ts:uint64 s:string8", "us");
    let got = whole(&texts, &csv(), b"1,\"a\nb\"").unwrap();
    assert_eq!((got.lines.len(), got.rejects.len()), (1, 0));
    let got = whole(&texts, &reject, b"1,\"a\n2,b\n3,c").unwrap();
    assert_eq!((got.lines, got.rejects.len()), (vec![2], 2));
}

#[test]
fn defaults_fill_missing_columns_and_empty_cells() {
    let some = layout("ts:uint64 n:int32=7 s:string4=\"dd\"", "us");
    let got = whole(&some, &csv(), b"1,,\n2, ,\"\"\n3,5,x\n").unwrap();
    let row = |r: &[u8]| (r[8], String::from_utf8(r[12..16].to_vec()).unwrap().replace('\0', ""));
    let rows: Vec<_> = got.records.chunks(16).map(row).collect();
    assert_eq!(rows, [(7, "dd".into()), (7, String::new()), (5, "x".into())]);
    let got = whole(&some, &csv(), b"ts\n1\n").unwrap();
    assert_eq!(got.records.chunks(16).map(row).collect::<Vec<_>>(), [(7, "dd".into())]);
}

/// Appends one cell as people, programs and accidents write it.
fn push_cell(random: &mut Random, value: &str, separator: char, line: &mut String) {
    let needs = value.contains([separator, '"', '\n', '\r']);
    match random.below(if needs { 1 } else { 40 }) {
        0 => {
            line.push('"');
            line.push_str(&value.replace('"', "\"\""));
            line.push('"');
        }
        1 => line.push_str(&format!(" {value} ")),
        2 => line.push_str(&format!("\"{value}")),
        3 => line.push_str(&format!("{value}\"\r")),
        _ => line.push_str(value),
    }
}

fn random_row(
    random: &mut Random,
    kinds: &[super::super::input::tests::FieldKind],
    sep: char,
) -> String {
    let mut line = String::new();
    let cells = match random.below(60) {
        0 => kinds.len() - 1,
        1 => kinds.len() + 1,
        _ => kinds.len(),
    };
    for i in 0..cells {
        if i > 0 {
            line.push(sep);
        }
        let mut value = random_value(random, kinds[i.min(kinds.len() - 1)]);
        if random.one_in(60) {
            value.push_str(random.pick(&["\n", "\"", ",", "\r", "\0", "\t"]));
        }
        push_cell(random, &value, sep, &mut line);
    }
    line.push_str(random.pick(&["\n", "\n", "\n", "\n", "\n", "\n", "\r\n", "\n\n"]));
    line
}

#[test]
fn fast_and_general_csv_parsers_agree() {
    let (mut fast, mut slow, mut rejected, mut refused) = (0, 0, 0, 0);
    for seed in 0..1500 {
        let mut random = Random(seed);
        let layout = layout(&random_fields(&mut random), random.pick(&["us", "ns"]));
        let kinds = field_kinds(&layout);
        let format = if random.one_in(3) { InputFormat::Tsv } else { InputFormat::Csv };
        let sep = if format == InputFormat::Tsv { '\t' } else { ',' };
        let final_line = if random.one_in(2) { FinalLine::Accept } else { FinalLine::Reject };
        let times = random_times(&mut random);
        let mut options =
            InputOptions { times, final_line, header: Some(false), ..InputOptions::new(format) };
        if random.one_in(4) {
            let numbered =
                |(i, f): (usize, &crate::layout::Field)| (f.name.clone(), Source::Column(i + 1));
            options.map = layout.fields().iter().enumerate().map(numbered).collect();
        }
        let mut input = Vec::new();
        for _ in 0..random.below(40) {
            input.extend_from_slice(random_row(&mut random, &kinds, sep).as_bytes());
        }
        for _ in 0..random.below(3) {
            let at = random.below(input.len().max(1) as u64) as usize;
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        match same(&layout, &options, &input, &mut random) {
            Some(stats) => {
                fast += stats.fast;
                slow += stats.slow;
                rejected += stats.rejected;
            }
            None => refused += 1,
        }
    }
    println!("fast {fast} slow {slow} rejected {rejected} refused {refused}");
    assert!(fast > 5000 && rejected > 2000 && slow > rejected + 500, "both sides are reached");
}

#[test]
fn output_of_the_csv_crate_reads_back() {
    let texts = layout("ts:uint64 a:string12 b:string12", "us");
    for seed in 0..500 {
        let mut random = Random(seed);
        let parts = ["a", "\"", ",", "\n", "\r", " ", "\u{e9}", "", "'"];
        let mut text = || -> String { (0..3).map(|_| random.pick(&parts)).collect() };
        let rows: Vec<(String, String)> = (0..20).map(|_| (text(), text())).collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        for (a, b) in &rows {
            writer.write_record(["1", a, b]).unwrap();
        }
        let input = writer.into_inner().unwrap();
        let got = whole(&texts, &csv(), &input).unwrap();
        assert!(got.rejects.is_empty(), "{:?}", got.rejects);
        for (record, (a, b)) in got.records.chunks(32).zip(&rows) {
            let field = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace('\0', "");
            assert_eq!((&field(&record[8..20]), &field(&record[20..32])), (a, b));
        }
        assert_eq!(got.records.len(), 32 * rows.len());
    }
}
