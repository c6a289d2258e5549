//! Proposals for small samples and for the beginnings of real files.
#![allow(clippy::unwrap_used)]

use super::*;

fn choices() -> Choices {
    Choices { feed: "t".into(), ..Choices::default() }
}

fn propose(sample: &str) -> Proposal {
    infer(sample.as_bytes(), &choices()).unwrap()
}

/// Formats the proposal as `name:type ...`, with the time column marked and the unit last.
fn fields(proposal: &Proposal) -> String {
    let spec = &proposal.spec;
    let mut text = String::new();
    for field in &spec.fields {
        let mark = if field.name == spec.ts_col { "*" } else { "" };
        let default = field.default.as_ref().map(|d| format!("={d}")).unwrap_or_default();
        text.push_str(&format!("{mark}{}:{}{default} ", field.name, field.kind));
    }
    text + &spec.time_unit.to_string()
}

#[track_caller]
fn column(values: &[&str], kind: &str) {
    let rows: String = values.iter().map(|value| format!("1,{value}\n")).collect();
    let found = fields(&propose(&format!("ts,v\n{rows}")));
    assert_eq!(found, format!("*ts:timestamp v:{kind} us"), "{values:?}");
}

#[test]
fn column_types_follow_the_rules() {
    column(&["1", "-2", "300"], "int64");
    column(&["0", "18446744073709551615"], "uint64");
    column(&["1", "18446744073709551616"], "string32");
    column(&["007", "008"], "string4");
    column(&["1640.25", "1640.0", "1641"], "decimal64.2");
    column(&["0.00001000", "87232.00000000"], "decimal64.8");
    column(&["0.1", "0.30000000000000004"], "float64");
    column(&["0.123456789012", "9.000000000001"], "decimal64.12");
    column(&["123456.123456789012", "9.000000000001"], "float64");
    column(&["1e5", "2.5"], "float64");
    column(&["NaN", "-inf", "2"], "float64");
    column(&["1.5", "", "2"], "float64=\"NaN\"");
    column(&["1", "", "9007199254740993"], "string32=\"\"");
    column(&["true", "false"], "bool");
    column(&["true", ""], "string8=\"\"");
    column(&["B", "S"], "char");
    column(&["B", ""], "string4=\"\"");
    column(&["1", "S"], "char");
    column(&["buy", "sell"], "string8");
    column(&["BTC-USD", "ETH-USDT"], "string16");
    column(&["é", "a"], "string4");
    column(&["", ""], "string8=\"\"");
    column(&["2024-05-01", "2024-05-02"], "string16");
    column(&["2024-05-01T00:00:00Z", ""], "timestamp=0");
}

#[test]
fn time_columns_and_units_are_found() {
    let table = [
        ("ts", "1714555800123456", "us", Some("--ts-unit us")),
        ("ts", "1714555800123456789", "ns", Some("--ts-unit ns")),
        ("event_time", "1714555800123", "us", Some("--ts-unit ms")),
        ("recvTime", "1714555800", "us", Some("--ts-unit s")),
        ("time", "1618677817.061845", "us", Some("--ts-unit s")),
        ("time", "1618677817.0618451", "ns", Some("--ts-unit s")),
        ("local_us", "1714555800123456", "us", Some("--ts-unit us")),
        ("anything", "2024-05-01T09:30:00Z", "us", None),
        ("anything", "2024-05-01T09:30:00.123456+02:00", "us", None),
        ("anything", "2024-05-01T09:30:00.1234567Z", "ns", None),
        ("DateTime", "2013-09-01 17:00:00.083", "us", Some("--tz ZONE")),
        ("timestamp_x", "7", "us", Some("--ts-base")),
        ("time", "43.142", "us", Some("--ts-base")),
        ("time", "62.2662", "ns", Some("--ts-base")),
    ];
    for (name, value, unit, hint) in table {
        let found = propose(&format!("px,{name}\n1.5,{value}\n"));
        let expected = format!("px:decimal64.1 *{name}:timestamp {unit}");
        assert_eq!(fields(&found), expected, "{name} {value}");
        match hint {
            None => assert_eq!(found.notes, Vec::<String>::new()),
            Some(hint) => assert!(found.notes[0].contains(hint), "{:?}", found.notes),
        }
    }
    // A latency is not a time. --ts overrides the choice.
    let found = propose("latency_us,ts,sent_ns\n15,1714555800123456,1714555800123456789\n");
    assert_eq!(fields(&found), "latency_us:int64 *ts:timestamp sent_ns:timestamp ns");
    let chosen = Choices {
        ts: Some("n".into()),
        time_unit: Some(TimeUnit::Nanos),
        packed: true,
        ..choices()
    };
    let found = infer(b"n,ts\n15,1714555800123456\n", &chosen).unwrap();
    assert_eq!(fields(&found), "*n:timestamp ts:timestamp ns");
    assert!(found.spec.packed);
}

#[test]
fn json_lines_are_sampled() {
    let found = propose(
        "{\"ts\":1714555800123456,\"px\":\"1.50\",\"n\":3,\"ok\":true,\"s\":\"true\"}\n\
         {\"ts\":1714555800123457,\"px\":\"2.25\",\"n\":4,\"ok\":false,\"s\":\"x\",\"late\":null}\n\
         {\"ts\":17145",
    );
    assert_eq!(
        fields(&found),
        "*ts:timestamp px:decimal64.2 n:int64 ok:bool s:string8 late:string8=\"\" us"
    );
    // The text of a number decides, not its value.
    let found = propose("{\"ts\":1,\"px\":1640.0}\n{\"ts\":2,\"px\":1640.250}\n");
    assert_eq!(fields(&found), "*ts:timestamp px:decimal64.3 us");
    let found = propose("{\"ts\":1,\"a\":{\"b/c\":[1],\"d\":{\"e\":1}},\"px\":1}\n");
    assert_eq!(fields(&found), "*ts:timestamp px:int64 us");
    let found = propose("{\"ts\":1,\"a\":1,\"b\":2}\n{\"ts\":2,\"c\":\"x\"}\n");
    assert_eq!(found.notes[0], "absent in some rows and then NaN: a b");
    assert_eq!(found.notes[1], "absent in some rows and then empty: c");
    let found = propose("{\"ts\":1,\"a\":{\"b/c\":[1],\"d\":{\"e\":1}},\"px\":1}\n");
    let nested = found.notes.last().unwrap();
    assert!(nested.contains("/a/d/e (dw-write --map"), "{nested}");
    assert!(nested.contains("/a/b~1c (dw-write --explode"), "{nested}");
}

#[test]
fn tsv_bom_and_cut_samples_are_read() {
    let found = propose("ts\tpx\n1\t2.5\n");
    assert_eq!(fields(&found), "*ts:timestamp px:decimal64.1 us");
    let found = propose("\u{feff}ts,\"a,b\"\r\n1,\"x\"\"y\"\r\n");
    assert_eq!(fields(&found), "*ts:timestamp a,b:string4 us");
    // The last line is cut. If it counted, its `1` would be an integer and its time invalid.
    let found = propose("ts,px\n2024-05-01T09:30:00Z,1.5\n2024-05-01T09:30:0");
    assert_eq!(fields(&found), "*ts:timestamp px:decimal64.1 us");
}

#[test]
fn only_the_first_16_mib_are_sampled() {
    let rows = b"2024-05-01T09:30:00Z,1.5\n".iter().copied().cycle().take(40 << 20);
    let input: Vec<u8> = b"ts,px\n".iter().copied().chain(rows).collect();
    let sample = read_sample(input.as_slice()).unwrap();
    assert_eq!(sample.len() as u64, MAX_SAMPLE_BYTES);
    // The sample ends within a row.
    assert_ne!(sample.last(), Some(&b'\n'));
    let found = infer(&sample, &choices()).unwrap();
    assert_eq!(fields(&found), "*ts:timestamp px:decimal64.1 us");
}

#[test]
fn samples_that_cannot_be_inferred_are_rejected_with_a_reason() {
    let table: &[(&str, &str)] = &[
        ("", "empty"),
        ("\n\n", "empty"),
        ("ts,px\n", "no rows"),
        ("1,2.5\n3,4.5\n", "no header (cell 1 is \"1\")"),
        ("ts,\n1,2\n", "no header (cell 2 is \"\")"),
        ("ts,ts\n1,2\n", "twice"),
        ("ts,px\n1,2\n1\n1,3\n", "line 3: 1 cells"),
        ("sym,px\na,2\n", "--ts FIELD (fields: sym, px)"),
        ("{\"sym\":\"a\"}\n", "--ts FIELD"),
        ("{\"ts\":1}\n{\"ts\":}\n", "line 2:"),
        ("[1,2]\n", "an object with named values"),
        ("{\"a\":{\"ts\":1}}\n", "--map NAME=/a/ts"),
        ("ts,_seq\n1,2\n", "reserved"),
    ];
    for (sample, why) in table {
        let error = infer(sample.as_bytes(), &choices()).unwrap_err();
        let error = crate::cli::exit::describe(&error);
        assert!(error.contains(why), "{sample:?}: {error}");
    }
    let error = infer(b"ts,px\n1,\xff\n1,2\n", &choices()).unwrap_err();
    assert_eq!(error.to_string(), "sample, line 2: not UTF-8");
    let chosen = |name: &str| Choices { ts: Some(name.into()), ..choices() };
    let error = infer(b"ts,px\n1,a\n", &chosen("px")).unwrap_err().to_string();
    assert!(error.contains("neither dates nor positive numbers"), "{error}");
    let error = infer(b"ts,px\n1,a\n", &chosen("nope")).unwrap_err().to_string();
    assert!(error.contains("no such field (fields: ts, px)"), "{error}");
}

#[test]
fn heads_of_real_files_are_inferred() {
    let es = "DateTime,Price,Volume\n2013-09-01 17:00:00.083,1640.25,8\n\
              2013-09-01 17:00:00.083,1640.0,1\n";
    let found = propose(es);
    assert_eq!(fields(&found), "*DateTime:timestamp Price:decimal64.2 Volume:int64 us");
    let xauusd = "43.142,1291.677,1292.033\n45.852,1291.652,1292.043\n";
    let error = infer(xauusd.as_bytes(), &choices()).unwrap_err();
    assert!(error.to_string().contains("no header"), "{error}");
    let found = propose(&format!("time,bid,ask\n{xauusd}62.2662,1291.619,1292.007\n"));
    assert_eq!(fields(&found), "*time:timestamp bid:decimal64.3 ask:decimal64.3 ns");
    let error = infer(
        br#"{"Item":{"time_exchange":"2025-03-25T23:07:00.773674205Z","instrument":1,
            "kind":{"Trade":{"price":2059.1}}}}"#
            .split(|&b| b == b'\n')
            .collect::<Vec<_>>()
            .concat()
            .as_slice(),
        &choices(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("/Item/kind/Trade/price"), "{error}");
    let coinbase = "{\"type\":\"l2update\",\"product_id\":\"SKL-USD\",\"changes\":[[\"buy\",\
                    \"0.5752\",\"10.0\"]],\"time\":\"2021-04-17T16:43:37.234123Z\"}\n";
    let found = propose(coinbase);
    assert_eq!(fields(&found), "type:string16 product_id:string8 *time:timestamp us");
    assert!(found.notes[0].contains("/changes (dw-write --explode"), "{:?}", found.notes);
}
