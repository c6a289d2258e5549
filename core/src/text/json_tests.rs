#![allow(clippy::unwrap_used)]
use super::super::input::tests::{
    FieldKind, Got, Random, feed, field_kinds, layout, random_fields, random_times, random_value,
    same, whole,
};
use super::super::input::{InputFormat, Parser};
use super::*;

fn jsonl() -> InputOptions {
    InputOptions::new(InputFormat::Jsonl)
}

fn map(pairs: &[(&str, &str)]) -> Vec<(String, Source)> {
    pairs.iter().map(|(f, s)| ((*f).to_owned(), Source::parse(s).unwrap())).collect()
}

fn run(options: &InputOptions, input: &str) -> (Vec<(u64, f64)>, Vec<String>, u64) {
    let two = layout("ts:uint64 price:float64", "us");
    let got = whole(&two, options, input.as_bytes()).unwrap();
    let eight = |b: &[u8]| <[u8; 8]>::try_from(b).unwrap();
    let row = |r: &[u8]| (u64::from_le_bytes(eight(&r[..8])), f64::from_le_bytes(eight(&r[8..])));
    let told = |r: &super::super::reject::Reject| format!("{}:{} {}", r.line, r.column, r.reason);
    let rejects = got.rejects.iter().map(told).collect();
    (got.records.chunks(16).map(row).collect(), rejects, got.passed_over)
}

#[test]
fn objects_and_arrays() {
    for input in [
        "{\"ts\":1,\"price\":2.5}\n{\"ts\":3,\"price\":4}\n",
        "\u{feff}{\"ts\":1,\"price\":2.5}\r\n\n {\"price\":4e0, \"ts\" : 3 } \r\n",
        "{\"ts\":\"1\",\"price\":\"2.5\"}\n{\"ts\":\"3\",\"price\":\"4\"}",
        "[1,2.5]\n[ 3 , \"4\" ]\n",
        "{\"x\":{\"ts\":9},\"ts\":1,\"price\":2.5}\n{\"\\u0074s\":3,\"price\":4,\"y\":[1,{}]}\n",
    ] {
        let (rows, rejects, _) = run(&jsonl(), input);
        assert_eq!((rows, rejects), (vec![(1, 2.5), (3, 4.0)], vec![]), "{input:?}");
    }
}

#[test]
fn lines_that_are_refused() {
    for (line, said) in [
        ("{\"ts\":1,\"price\":2.5", "2:19 not JSON: EOF while parsing an object"),
        ("{\"ts\":1,\"ts\":1,\"price\":2}", "2:9 the key \"ts\" comes twice"),
        ("{\"ts\":1}", "2:8 price: missing"),
        ("{\"ts\":1,\"price\":1e400}", "2:17 price: \"1e400\" does not fit float64"),
        ("{\"ts\":1.5,\"price\":1}", "2:7 ts: \"1.5\" is finer than the feed's unit, us"),
        ("{\"ts\":null,\"price\":1}", "2:7 ts: \"null\" is taken by floats only"),
        ("{\"ts\":1,\"price\":true}", "2:17 price: \"true\" is taken by bool only"),
        ("{\"ts\":1,\"price\":[2]}", "2:17 price: \"[2]\" is an array; one value is needed"),
        (
            "{\"ts\":1,\"price\":\"\\ud800\"}",
            "2:17 price: \"\\\"\\\\ud800\\\"\" has half a surrogate",
        ),
        ("[1]", "2:3 price: missing"),
        ("[1,2,3]", "2:7 3 elements; 2 are needed"),
        ("[{\"ts\":1,\"price\":2}]", "2:2 ts: \"{\\\"ts\\\":1,\\\"price\\\":2}\" is an object"),
        ("1", "2:1 a line is an object or an array"),
        ("{\"ts\":01,\"price\":2}", "2:8 not JSON: invalid number"),
        ("{\"ts\":1,\"price\":NaN}", "2:17 not JSON: expected value"),
        ("{\"ts\":1,\"price\":2} x", "2:20 not JSON: trailing characters"),
    ] {
        let good = "{\"ts\":7,\"price\":8}";
        let (rows, rejects, _) = run(&jsonl(), &format!("{good}\n{line}\n{good}\n"));
        assert_eq!(rows, [(7, 8.0), (7, 8.0)], "{line:?}");
        assert!(rejects.len() == 1 && rejects[0].starts_with(said), "{line:?}: {rejects:?}");
    }
    let two = layout("ts:uint64 price:float64", "us");
    let got = whole(&two, &jsonl(), b"{\"ts\":1,\"price\":2,\"x\":\"\xff\"}\n").unwrap();
    assert_eq!((got.rejects[0].column, &*got.rejects[0].reason), (24, "not UTF-8"));
}

#[test]
fn nulls_and_defaults() {
    let (rows, rejects, _) =
        run(&jsonl(), "{\"ts\":1,\"price\":null}\n{\"ts\":2,\"price\":\"NaN\"}\n");
    assert!(rows.iter().all(|r| r.1.is_nan()) && rejects.is_empty(), "{rows:?} {rejects:?}");
    let some = layout("ts:uint64 n:int32=7 s:string4=\"dd\"", "us");
    let input = b"{\"ts\":1}\n{\"ts\":2,\"n\":null,\"s\":\"\"}\n{\"ts\":3,\"n\":\"\"}\n";
    let got = whole(&some, &jsonl(), input).unwrap();
    let row = |r: &[u8]| (r[8], r[12]);
    assert_eq!(got.records.chunks(16).map(row).collect::<Vec<_>>(), [(7, b'd'), (7, 0)]);
    assert_eq!(got.rejects.len(), 1);
}

#[test]
fn messages_that_are_not_meant_are_passed_over() {
    let options = InputOptions {
        where_: vec![("type".into(), Some("t".into())), ("/a/b".into(), None)],
        ..jsonl()
    };
    let good = "{\"type\":\"t\",\"a\":{\"b\":null},\"ts\":1,\"price\":2}\n";
    let input = [
        good,
        "{\"type\":\"u\",\"a\":{\"b\":null},\"ts\":1,\"price\":2}\n",
        "{\"type\":\"t\",\"a\":{\"c\":0},\"ts\":1,\"price\":2}\n",
        "{\"type\":\"u\",\"a\":{\"b\":1}\n",
        good,
        "{\"type\":\"\\u0074\",\"a\":{\"b\":2},\"ts\":1,\"price\":2}\n",
        "[1,2]\n",
    ]
    .concat();
    let (rows, rejects, passed_over) = run(&options, &input);
    assert_eq!((rows.len(), rejects.len(), passed_over), (3, 1, 3), "{rejects:?}");
}

#[test]
fn an_exploded_message_is_all_or_nothing() {
    let options = InputOptions {
        explode: Some("/c".into()),
        map: map(&[("ts", "/t"), ("price", "./1")]),
        ..jsonl()
    };
    let input = [
        "{\"c\":[[\"x\",\"1\"],[\"y\",2]],\"t\":5}\n",
        "{\"c\":[[\"x\",\"1\"],[\"y\",\"z\"]],\"t\":6}\n",
        "{\"c\":[],\"t\":7}\n",
        "{\"c\":{},\"t\":8}\n",
        "{\"t\":8}\n",
        "{\"c\":[[\"x\",\"3\"]],\"t\":9}\n",
        "{\"c\":[[\"x\",\"3\"]]}\n",
    ]
    .concat();
    let (rows, rejects, passed_over) = run(&options, &input);
    assert_eq!(rows, [(5, 1.0), (5, 2.0), (9, 3.0)]);
    assert_eq!(rejects, ["2:22 price: \"z\" is not a number", "7:15 ts: nothing at /t"]);
    assert_eq!(passed_over, 2);
    // Objects as elements, their keys before the message's; the whole line as the array.
    let named = InputOptions { explode: Some("c".into()), ..jsonl() };
    assert_eq!(
        run(&named, "{\"ts\":4,\"c\":[{\"price\":1},{\"price\":2,\"ts\":5}]}\n").0,
        [(4, 1.0), (5, 2.0)]
    );
    let all = InputOptions { explode: Some(String::new()), ..jsonl() };
    let line = "[{\"ts\":4,\"price\":1},{\"ts\":5,\"price\":2}]\n";
    assert_eq!(run(&all, &line.repeat(3)).0, [(4, 1.0), (5, 2.0)].repeat(3));
}

#[test]
fn strict_refuses_what_nothing_uses() {
    let options = InputOptions { strict: true, map: map(&[("price", "/a/p")]), ..jsonl() };
    let input = [
        "{\"ts\":1,\"a\":{\"p\":2}}\n",
        "{\"ts\":1,\"a\":{\"p\":2},\"x\":1}\n",
        "{\"ts\":1,\"a\":{\"p\":2,\"q\":3}}\n",
        "{\"ts\":1,\"a\":{\"p\":2}}\n",
    ]
    .concat();
    let (rows, rejects, _) = run(&options, &input);
    assert_eq!(rows.len(), 2);
    assert_eq!(rejects, ["2:21 the key \"x\" is not used", "3:20 the key \"q\" is not used"]);
}

/// A JSON value that means `value`, as a number where it can be one.
fn push_value(random: &mut Random, value: &str, kind: FieldKind, out: &mut String) {
    let word = matches!(value, "true" | "false" | "null");
    let number = serde_json::from_str::<serde_json::Number>(value).is_ok();
    let text = matches!(kind, FieldKind::Char | FieldKind::Bytes | FieldKind::Text);
    if (word || number) && !text && !random.one_in(30) {
        out.push_str(value);
    } else {
        out.push_str(&serde_json::to_string(value).unwrap());
    }
}

fn push_extra(random: &mut Random, out: &mut String) {
    let extras = [
        "\"plain text of some length\"",
        "\"esc\\n\"",
        "\"\u{e9}\"",
        "12",
        "-0.5",
        "1e5",
        "01",
        "true",
        "null",
        "{\"a\":1}",
        "{\"a\":[1,\"x\",{}]}",
        "[]",
        "\"a\u{1}\"",
        "\"half \\ud800\"",
    ];
    let n = if random.one_in(4) { 14 } else { 5 };
    out.push_str(extras[random.below(n) as usize]);
}

/// How the lines of one input are written.
struct Style {
    space: &'static str,
    extras: bool,
    nested: bool,
    exploded: bool,
    arrays: bool,
}

fn random_object(random: &mut Random, style: &Style, fields: &[(String, FieldKind)]) -> String {
    let mut order: Vec<usize> = (0..fields.len()).collect();
    if random.one_in(12) {
        let (a, b) = (random.below(order.len() as u64), random.below(order.len() as u64));
        order.swap(a as usize, b as usize);
    }
    if random.one_in(25) {
        order.pop();
    }
    if random.one_in(40) {
        order.push(0);
    }
    let (open, close) = if style.arrays { ('[', ']') } else { ('{', '}') };
    let mut out = String::from(open);
    for (i, f) in order.into_iter().enumerate() {
        if i > 0 {
            out.push_str([",", ", "][usize::from(!style.space.is_empty())]);
        }
        let (name, kind) = &fields[f];
        if !style.arrays {
            out.push_str(&format!("\"{name}\":{}", style.space));
        }
        let value = random_value(random, *kind);
        push_value(random, &value, *kind, &mut out);
        if style.extras && !style.arrays && i == 0 {
            out.push_str(",\"extra\":");
            push_extra(random, &mut out);
        }
    }
    out.push(close);
    out
}

fn random_line(random: &mut Random, style: &Style, fields: &[(String, FieldKind)]) -> String {
    let mut line = if style.exploded {
        let count = if random.one_in(20) { 0 } else { 1 + random.below(4) };
        let each: Vec<_> = (0..count).map(|_| random_object(random, style, fields)).collect();
        let kind = if random.one_in(4) { "other" } else { "u" };
        let key = if random.one_in(30) { "d" } else { "c" };
        format!(
            "{{\"type\":\"{kind}\",\"{key}\":[{}],\"n\":{}}}",
            each.join(","),
            random.below(100)
        )
    } else if style.nested {
        let inner = random_object(random, style, fields);
        let kind = if random.one_in(3) { "B" } else { "A" };
        format!("{{\"k\":{{\"{kind}\":{inner}}},\"time\":\"x\"}}")
    } else {
        random_object(random, style, fields)
    };
    if random.one_in(25) {
        let mut bytes = line.into_bytes();
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(3) {
            0 => bytes.truncate(at),
            1 => bytes[at] = b" \"\\{}[],:0n"[random.below(11) as usize],
            _ => bytes.insert(at, b" \"\\{}[],:0n"[random.below(11) as usize]),
        }
        line = String::from_utf8_lossy(&bytes).into_owned();
    }
    line.push_str(random.pick(&["\n", "\n", "\n", "\n", "\n", "\n", "\r\n", " \n", "\n\n"]));
    line
}

fn random_options(random: &mut Random, style: &Style, names: &[String]) -> InputOptions {
    let mut options = InputOptions { times: random_times(random), ..jsonl() };
    let place = |f: &String, at: &str| (f.clone(), Source::Pointer(format!("{at}/{f}")));
    if style.exploded {
        options.explode = Some("/c".into());
        options.where_ = vec![("/type".into(), Some("u".into()))];
        if random.one_in(2) {
            options.map = names.iter().map(|f| place(f, ".")).collect();
        }
        if style.arrays {
            let element = |(i, f): (usize, &String)| (f.clone(), Source::Pointer(format!("./{i}")));
            options.map = names.iter().enumerate().map(element).collect();
        }
        if random.one_in(3) {
            options.map.retain(|(f, _)| f != &names[0]);
            options.map.push((names[0].clone(), Source::Pointer("/n".into())));
        }
    } else if style.nested {
        options.where_ = vec![("/k/A".into(), None)];
        let index = |(i, f): (usize, &String)| (f.clone(), Source::Pointer(format!("/k/A/{i}")));
        options.map = if style.arrays {
            names.iter().enumerate().map(index).collect()
        } else {
            names.iter().map(|f| place(f, "/k/A")).collect()
        };
    }
    options.strict = random.one_in(5);
    options
}

#[test]
fn shapes_say_what_the_general_parser_says() {
    let (mut fast, mut slow, mut rejected, mut passed_over) = (0, 0, 0, 0);
    for seed in 0..2000 {
        let mut random = Random(seed);
        let layout = layout(&random_fields(&mut random), random.pick(&["us", "ns"]));
        let names: Vec<String> = layout.fields().iter().map(|f| f.name.clone()).collect();
        let fields: Vec<_> = names.iter().cloned().zip(field_kinds(&layout)).collect();
        let exploded = random.one_in(3);
        let style = Style {
            space: ["", " "][random.below(2) as usize],
            extras: random.one_in(2),
            nested: random.one_in(3),
            exploded,
            arrays: random.one_in(4),
        };
        let options = random_options(&mut random, &style, &names);
        let lines: Vec<String> =
            (0..random.below(40)).map(|_| random_line(&mut random, &style, &fields)).collect();
        if let Some(stats) = same(&layout, &options, lines.concat().as_bytes(), &mut random) {
            fast += stats.fast;
            slow += stats.slow;
            rejected += stats.rejected;
            passed_over += stats.passed_over;
        }
    }
    println!("fast {fast} slow {slow} rejected {rejected} passed over {passed_over}");
    assert!(fast > 5000 && rejected > 2000 && slow > rejected + 2000, "both sides are reached");
    assert!(passed_over > 2000);
}

#[test]
fn a_value_that_chooses_the_message_can_be_a_field_too() {
    let layout = layout("ts:uint64 kind:string4 again:uint64", "us");
    let options = InputOptions {
        where_: vec![("/kind".into(), Some("t".into()))],
        map: map(&[("again", "/ts")]),
        ..jsonl()
    };
    let input =
        b"{\"kind\":\"t\",\"ts\":1}\n{\"kind\":\"t\",\"ts\":2}\n{\"kind\":\"u\",\"ts\":3}\n";
    let mut parser = Parser::new(layout, options).unwrap();
    let got: Got = feed(&mut parser, input, &[1000]).unwrap();
    assert_eq!(
        got.records[24..],
        [2, 0, 0, 0, 0, 0, 0, 0, b't', 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!((parser.stats().fast, parser.stats().passed_over), (1, 1));
}

#[test]
fn what_is_json_is_what_serde_json_says() {
    let mut tape = Tape::default();
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u00e9\"",
        "\"\\",
        "1",
        "-",
        "0",
        ".5",
        "e5",
        "true",
        "null",
        " ",
        "\t",
        "\"",
        "\u{e9}",
        "x",
    ];
    let (mut good, mut bad) = (0, 0);
    for seed in 0..200_000 {
        let mut random = Random(seed);
        let text: String = (0..1 + random.below(7)).map(|_| random.pick(&parts)).collect();
        let serde = serde_json::from_str::<serde_json::Value>(&text);
        // Half a pair and 1e511 are JSON; whether a field takes them is another question.
        let beyond = |e: &serde_json::Error| {
            e.to_string().contains("surrogate") || e.to_string().contains("out of range")
        };
        let half = serde.as_ref().is_err_and(beyond);
        let ours = tape.read(text.as_bytes());
        assert!(half || ours.is_ok() == serde.is_ok(), "{text:?}");
        if ours.is_ok() {
            good += 1;
            assert_eq!(tape.nodes[0].next(), tape.nodes.len(), "{text:?}");
            assert_eq!(&text[tape.nodes[0].start()..tape.nodes[0].end()], text.trim(), "{text:?}");
        } else {
            bad += 1;
        }
    }
    assert!(good > 2000 && bad > 2000, "{good} {bad}");
}

#[test]
fn long_and_deep_lines() {
    let deep =
        format!("{{\"x\":{}{},\"ts\":1,\"price\":2}}\n", "[".repeat(50_000), "]".repeat(50_000));
    let long = format!("{{\"x\":\"{}\",\"ts\":3,\"price\":4}}\n", "y".repeat(5_000_000));
    let open = format!("{}\n", "[".repeat(100_000));
    let (rows, rejects, _) = run(&jsonl(), &[deep, long, open].concat());
    assert_eq!(rows, [(1, 2.0), (3, 4.0)]);
    assert!(rejects.len() == 1 && rejects[0].starts_with("3:"), "{rejects:?}");
}
