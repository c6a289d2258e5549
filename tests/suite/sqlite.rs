//! Random queries about late and repeated rows in many small chunks. dw-cat and sqlite3, which gets
//! the same rows from the test's own values, must give the same answers.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::env::TestEnv;
use crate::random::Random;

const ROWS: u64 = 20_000;
const OPERATORS: [(&str, &str); 7] =
    [("=", "="), ("==", "="), ("!=", "<>"), ("<", "<"), ("<=", "<="), (">", ">"), (">=", ">=")];

/// How values of a type are made, written to sqlite and queried.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Int(usize),
    Uint(usize),
    Float32,
    Float64,
    Decimal(u32),
    Bool,
    Char,
    Text(usize),
    Bytes(usize),
    Time,
}

const KINDS: [Kind; 15] = [
    Kind::Int(1),
    Kind::Int(2),
    Kind::Int(8),
    Kind::Uint(1),
    Kind::Uint(4),
    Kind::Uint(8),
    Kind::Float32,
    Kind::Float64,
    Kind::Decimal(2),
    Kind::Decimal(8),
    Kind::Bool,
    Kind::Char,
    Kind::Text(5),
    Kind::Bytes(2),
    Kind::Time,
];

/// A value: its bytes in the record, as SQL, and for dw-cat's `--where`.
struct Made {
    bytes: Vec<u8>,
    sql: String,
    asked: String,
}

/// Shifts unsigned integers into sqlite's signed range, which keeps their order.
fn moved(value: u64) -> String {
    ((value ^ 1 << 63) as i64).to_string()
}

impl Kind {
    fn name(self) -> String {
        match self {
            Kind::Int(n) => format!("int{}", n * 8),
            Kind::Uint(n) => format!("uint{}", n * 8),
            Kind::Float32 => "float32".into(),
            Kind::Float64 => "float64".into(),
            Kind::Decimal(s) => format!("decimal64.{s}"),
            Kind::Bool => "bool".into(),
            Kind::Char => "char".into(),
            Kind::Text(n) => format!("string{n}"),
            Kind::Bytes(n) => format!("bytes{n}"),
            Kind::Time => "timestamp".into(),
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Int(n) | Kind::Uint(n) | Kind::Text(n) | Kind::Bytes(n) => n,
            Kind::Float32 => 4,
            Kind::Float64 | Kind::Decimal(_) | Kind::Time => 8,
            Kind::Bool | Kind::Char => 1,
        }
    }

    fn align(self) -> usize {
        match self {
            Kind::Text(_) | Kind::Bytes(_) => 1,
            other => other.size(),
        }
    }

    /// Returns a random value. There are few distinct ones, so that equality occurs, and both ends
    /// of the range occur.
    fn make(self, random: &mut Random) -> Made {
        let edge = random.below(10) == 0;
        let any = random.next();
        match self {
            Kind::Int(n) => {
                let top = i64::MAX >> (64 - 8 * n as u32);
                let value =
                    if edge { [top, -top - 1][(any & 1) as usize] } else { (any % 21) as i64 - 10 };
                let text = value.to_string();
                Made { bytes: value.to_le_bytes()[..n].to_vec(), sql: text.clone(), asked: text }
            }
            Kind::Uint(_) | Kind::Time => {
                let n = self.size();
                let value = if edge { u64::MAX >> (64 - 8 * n as u32) } else { any % 17 };
                let bytes = value.to_le_bytes()[..n].to_vec();
                Made { bytes, sql: moved(value), asked: value.to_string() }
            }
            Kind::Float32 | Kind::Float64 => self.make_float(edge, any),
            Kind::Decimal(scale) => {
                let value = (any % 41) as i64 - 20;
                let bytes = value.to_le_bytes().to_vec();
                Made { bytes, sql: (value * 10).to_string(), asked: decimal(value * 10, scale + 1) }
            }
            Kind::Bool => {
                let value = any & 1;
                let asked = ["false", "true"][value as usize].into();
                Made { bytes: vec![value as u8], sql: value.to_string(), asked }
            }
            Kind::Char => {
                let value = b'a' + (any % 7) as u8;
                let asked = char::from(value).to_string();
                Made { bytes: vec![value], sql: value.to_string(), asked }
            }
            Kind::Text(n) => make_text(n, random),
            Kind::Bytes(n) => {
                let bytes: Vec<u8> =
                    (0..n).map(|_| [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize]).collect();
                let mut hex = String::new();
                bytes.iter().for_each(|b| write!(hex, "{b:02x}").unwrap());
                Made { bytes, sql: format!("x'{hex}'"), asked: hex }
            }
        }
    }

    /// Eighths are exact in both widths and in decimal text.
    fn make_float(self, edge: bool, any: u64) -> Made {
        let value = if edge {
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0][(any % 4) as usize]
        } else {
            ((any % 33) as f64 - 16.0) / 8.0
        };
        let sql = match value {
            v if v.is_nan() => "NULL".into(),
            v if v.is_infinite() => if v > 0.0 { "9e999" } else { "-9e999" }.into(),
            v => format!("{v:?}"),
        };
        let bytes = match self {
            Kind::Float32 => (value as f32).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        Made { bytes, sql, asked: format!("{value:?}") }
    }

    /// Returns a value to compare with, which may lie between two values that occur.
    fn bound(self, random: &mut Random) -> Made {
        loop {
            let mut made = self.make(random);
            if let (Kind::Decimal(scale), true) = (self, random.below(3) == 0) {
                let between = made.sql.parse::<i64>().unwrap() + 5;
                (made.sql, made.asked) = (between.to_string(), decimal(between, scale + 1));
            }
            // SQL has no comparison with NaN.
            if made.sql != "NULL" {
                return made;
            }
        }
    }

    /// Returns the SQL of a comparison. NaN, which is NULL there, differs from every number.
    fn compare(self, name: &str, operator: (&str, &str), bound: &Made) -> String {
        let plain = format!("{name} {} {}", operator.1, bound.sql);
        let float = matches!(self, Kind::Float32 | Kind::Float64);
        if float && operator.1 == "<>" { format!("({plain} OR {name} IS NULL)") } else { plain }
    }
}

/// Formats `value` x 10^-`scale`.
fn decimal(value: i64, scale: u32) -> String {
    let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    let unit = 10u64.pow(scale);
    format!("{sign}{}.{:0width$}", size / unit, size % unit, width = scale as usize)
}

fn make_text(n: usize, random: &mut Random) -> Made {
    let mut text = String::new();
    for _ in 0..random.below(4) {
        let next = *random.pick(&["a", "b", "A", "é", "'", "\"", " ", ",", "<"]);
        if text.len() + next.len() <= n {
            text.push_str(next);
        }
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(n, 0);
    let asked = serde_json::to_string(&text).unwrap();
    Made { bytes, sql: format!("'{}'", text.replace('\'', "''")), asked }
}

/// A feed with `n`, `ts` and some random fields, and its rows as SQL.
struct Table {
    fields: Vec<(String, Kind)>,
    times: Vec<u64>,
    script: String,
}

const CLOCK: u64 = 1_700_000_000_000_000;

impl Table {
    /// Creates the feed and fills it over several sessions.
    fn make(env: &TestEnv, random: &mut Random) -> Table {
        let mut fields = vec![("n".to_owned(), Kind::Uint(4)), ("ts".to_owned(), Kind::Time)];
        for i in 0..5 + random.below(4) {
            let at = random.below(fields.len() as u64 + 1) as usize;
            fields.insert(at, (format!("f{i}"), *random.pick(&KINDS)));
        }
        let packed = random.below(2) == 0;
        let list: Vec<String> = fields.iter().map(|(n, k)| format!("{n}:{}", k.name())).collect();
        let chunk = random.pick(&["64KiB", "64KiB", "200KiB"]);
        let more = if packed { "--packed" } else { "" };
        env.quiet(&format!("dw-mkfeed t {} --ts ts --chunk-size {chunk} {more}", list.join(" ")));
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let script = format!("CREATE TABLE t (seq INTEGER PRIMARY KEY, {});\n", names.join(", "));
        let mut table = Table { fields, times: Vec::new(), script };
        while (table.times.len() as u64) < ROWS {
            let rest = ROWS - table.times.len() as u64;
            let rows = table.rows(rest.min(1 + random.below(7000)), packed, random);
            let mut file = File::create(env.path("rows")).unwrap();
            file.write_all(&rows).unwrap();
            env.quiet("dw-write t --format raw rows");
        }
        table
    }

    /// Returns more rows as raw records. A third of them is late, and many have equal times.
    fn rows(&mut self, count: u64, packed: bool, random: &mut Random) -> Vec<u8> {
        let mut raw = Vec::new();
        let size = |at: usize, align: usize| if packed { at } else { at.next_multiple_of(align) };
        self.script.push_str("INSERT INTO t VALUES\n");
        for i in 0..count {
            let seq = self.times.len() as u64;
            let late = if random.below(3) == 0 { random.below(400_000) } else { 0 };
            let time = CLOCK + seq / 3 * 100 - late.min(seq * 30);
            self.times.push(time);
            let mut record = Vec::new();
            write!(self.script, "{}({seq}", if i == 0 { "" } else { ",\n" }).unwrap();
            for (name, kind) in &self.fields {
                let made = match name.as_str() {
                    "n" => Made {
                        bytes: (seq as u32).to_le_bytes().to_vec(),
                        sql: seq.to_string(),
                        asked: String::new(),
                    },
                    "ts" => Made {
                        bytes: time.to_le_bytes().to_vec(),
                        sql: time.to_string(),
                        asked: String::new(),
                    },
                    _ => kind.make(random),
                };
                record.resize(size(record.len(), kind.align()), 0);
                record.extend_from_slice(&made.bytes);
                write!(self.script, ",{}", made.sql).unwrap();
            }
            self.script.push(')');
            // Round up to the widest alignment, which is that of the time column.
            record.resize(size(record.len(), 8), 0);
            raw.extend_from_slice(&record);
        }
        self.script.push_str(";\n");
        raw
    }

    /// Returns a query: dw-cat's arguments, and the same as SQL.
    fn ask(&self, random: &mut Random) -> (Vec<String>, String) {
        let mut args: Vec<String> = ["t", "-o", "csv", "--no-header"].map(String::from).into();
        let mut wanted = vec!["1".to_owned()];
        if random.below(3) > 0 {
            self.ask_times(&mut args, &mut wanted, random);
        }
        if random.below(3) == 0 {
            let lo = random.below(ROWS + 10);
            let hi = if random.below(3) == 0 { u64::MAX >> 1 } else { lo + random.below(9000) };
            let shown = if hi > ROWS * 2 { String::new() } else { hi.to_string() };
            args.extend(["--seq".into(), format!("{lo}..{shown}")]);
            wanted.push(format!("seq >= {lo} AND seq < {hi}"));
        }
        for _ in 0..random.below(4) {
            let (name, kind) = random.pick(&self.fields);
            if name == "n" || name == "ts" {
                continue;
            }
            let (operator, bound) = (*random.pick(&OPERATORS), kind.bound(random));
            args.extend(["--where".into(), format!("{name}{}{}", operator.0, bound.asked)]);
            wanted.push(kind.compare(name, operator, &bound));
        }
        let fields = *random.pick(&["n", "ts,n", "n,ts"]);
        args.extend(["--fields".into(), fields.into()]);
        let reverse = random.below(3) == 0;
        if reverse {
            args.push("-r".into());
        }
        let most = *random.pick(&[10, 8000]);
        let n = random.below(most);
        let (inner, limit) = match random.below(3) {
            0 => ("ASC", -1),
            1 => ("ASC", n as i64),
            _ => ("DESC", n as i64),
        };
        if limit >= 0 {
            args.extend(["-n".into(), format!("{}{n}", if inner == "ASC" { "+" } else { "" })]);
        }
        let order = if reverse { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {fields} FROM (SELECT * FROM t WHERE {} ORDER BY seq {inner} LIMIT {limit}) \
             ORDER BY seq {order};",
            wanted.join(" AND ")
        );
        (args, sql)
    }

    fn ask_times(&self, args: &mut Vec<String>, wanted: &mut Vec<String>, random: &mut Random) {
        let pick = |random: &mut Random| *random.pick(&self.times) + random.below(3) - 1;
        let (mut since, mut until) = (pick(random), pick(random));
        if since > until {
            (since, until) = (until, since);
        }
        match random.below(3) {
            0 => until = since + random.below(50_000),
            1 if random.below(2) == 0 => since = 0,
            _ => {}
        }
        if since > 0 {
            args.extend(["--since".into(), format!("@{since}us")]);
            wanted.push(format!("ts >= {since}"));
        }
        if random.below(4) > 0 {
            args.extend(["--until".into(), format!("@{until}us")]);
            wanted.push(format!("ts < {until}"));
        }
    }
}

/// Returns sqlite3's answers, from one process.
fn sqlite(script: &str, questions: &[String]) -> Vec<String> {
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-separator", ",", ":memory:"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed");
    let mut stdin = child.stdin.take().unwrap();
    let text = format!("{script}SELECT '#';\n{}\n", questions.join("\nSELECT '#';\n"));
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "sqlite3: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("#\n").skip(1).map(String::from).collect()
}

fn compare(seed: u64, questions: usize) {
    let mut random = Random::new(seed);
    let env = TestEnv::new();
    let table = Table::make(&env, &mut random);
    let asked: Vec<_> = (0..questions).map(|_| table.ask(&mut random)).collect();
    let sqls: Vec<String> = asked.iter().map(|(_, sql)| sql.clone()).collect();
    let answers = sqlite(&table.script, &sqls);
    assert_eq!(answers.len(), questions);
    let (mut some, mut rows) = (0, 0);
    for ((args, sql), want) in asked.iter().zip(&answers) {
        let output = env.cmd("dw-cat").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let got = String::from_utf8_lossy(&output.stdout);
        let context = format!("seed {seed}, {:?}\ndw-cat {args:?}\n{sql}\n{said}", table.fields);
        assert!(output.status.success() && said.is_empty(), "{context}");
        let differ = got.lines().zip(want.lines()).position(|(a, b)| a != b);
        let counts = (got.lines().count(), want.lines().count());
        assert!(
            got == *want,
            "{context}\nlines (dw-cat, sqlite3) {counts:?}, differ at {differ:?}"
        );
        some += usize::from(counts.0 > 0);
        rows += counts.0;
    }
    assert!(some > questions / 3, "seed {seed}: only {some} answers had rows, {rows} in all");
}

#[test]
fn five_hundred_random_queries_agree_with_sqlite() {
    for seed in 1..=5 {
        compare(seed, 100);
    }
}
