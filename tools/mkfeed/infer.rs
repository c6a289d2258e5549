//! `--infer`: proposes a feed from a sample.
//!
//! The first rule that matches all values of a column decides its type:
//!
//! | values | type |
//! |---|---|
//! | dates with a time of day | `timestamp` |
//! | numbers that are times since 1970, if the column's name says time | `timestamp` |
//! | `true`, `false` | `bool` |
//! | integers | `int64`, or `uint64` if one is too large for it |
//! | decimals with up to 10 fraction digits, or with equally many in all rows | `decimal64.S` |
//! | other numbers (exponents, `NaN`, longer or ragged fractions) | `float64` |
//! | single ASCII characters | `char` |
//! | other text | `stringN`, N the next power of two above the longest |
//!
//! Venues print prices and sizes as decimals, with at most ten fraction digits. So the exact type
//! is the default, and numbers that look like printed binary floats become `float64`. A decimal
//! leaves room for values ten times the sample's largest. Numbers with leading zeros are
//! identifiers and become text. Numbers that are missing in some rows become `float64`, with
//! `NaN` where they are missing, because no integer can mean "none".

use std::io::{self, Read};

use anyhow::{bail, ensure};
use deepwater::layout::Layout;
use deepwater::schema::{FeedSpec, FieldSpec, FieldType, Policy};
use deepwater::time::TimeUnit;
use serde_json::{Value, json};

use super::sample::{self, Column, Sample, Shape};

/// The most fraction digits of a decimal whose values have different numbers of them.
const MAX_RAGGED_DIGITS: usize = 10;
/// The digits that an `i64` always holds, minus one for values ten times as large.
const MAX_DECIMAL_DIGITS: usize = 17;
/// Integers up to this are exact in a `float64`.
const MAX_EXACT_FLOAT: i128 = 1 << 53;

/// How much of a sample is read, so that a whole recording can be piped in.
const MAX_SAMPLE_BYTES: u64 = 16 << 20;

/// What the options decide about the feed.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Its name.
    pub feed: String,
    /// The time column; `None` means the first column of times.
    pub ts: Option<String>,
    /// The unit of times; `None` means as fine as those of the sample.
    pub time_unit: Option<TimeUnit>,
    /// Whether alignment is off.
    pub packed: bool,
}

/// A feed that can hold the sample.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The feed, with the default policy.
    pub spec: FeedSpec,
    /// What to know before writing to it, one sentence each.
    pub notes: Vec<String>,
}

/// How the times of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Rfc3339,
    /// Dates without a zone, or with a space between date and time.
    Local,
    /// Numbers in units of 10^-N seconds since 1970.
    Epoch(usize),
    /// Numbers too small for times since 1970, such as times of day. Their unit is unknown.
    Number,
}

/// Reads the sample, or its first 16 MiB.
///
/// # Errors
/// If reading fails.
pub fn read_sample(input: impl Read) -> io::Result<Vec<u8>> {
    let mut sample = Vec::new();
    input.take(MAX_SAMPLE_BYTES).read_to_end(&mut sample)?;
    Ok(sample)
}

/// Proposes a feed for the rows of `sample`.
///
/// # Errors
/// If the sample cannot be parsed or has no time column.
pub fn infer(sample: &[u8], choices: &Choices) -> anyhow::Result<Proposal> {
    let sample = sample::read(sample)?;
    if sample.columns.is_empty() {
        bail!(
            "the sample has no flat fields; name the fields yourself and map them, as dw-write {} \
             --map NAME={}; it has {}",
            choices.feed,
            sample.pointers.iter().next().map_or("/POINTER", String::as_str),
            listed(&sample)
        );
    }
    let mut notes = Vec::new();
    let mut fields = Vec::new();
    let mut times: Vec<(&Column, Written)> = Vec::new();
    for column in &sample.columns {
        let asked = choices.ts.as_ref() == Some(&column.name);
        let field = match written_time(column, asked) {
            Some(written) => {
                times.push((column, written));
                time_field(column)
            }
            None => plain_field(column),
        };
        fields.push(field);
    }
    let ts_col = time_column(&sample, &times, choices)?;
    let finest = times.iter().map(|&(column, written)| digits(&column.shape, written)).max();
    let needed = if finest > Some(6) { TimeUnit::Nanos } else { TimeUnit::Micros };
    absence_notes(&fields, &mut notes);
    time_notes(&times, &ts_col, &mut notes);
    if !sample.pointers.is_empty() || !sample.arrays.is_empty() {
        notes.push(format!("nested values are left out: {}", listed(&sample)));
    }
    let spec = FeedSpec {
        feed_name: choices.feed.clone(),
        fields,
        ts_col,
        time_unit: choices.time_unit.unwrap_or(needed),
        packed: choices.packed,
        policy: Policy::default(),
    };
    if choices.time_unit == Some(TimeUnit::Micros) && needed == TimeUnit::Nanos {
        notes.push(
            "the sample's times are finer than microseconds: rows are rejected without dw-write \
             --ts-truncate"
                .to_owned(),
        );
    }
    spec.check()?;
    Layout::new(&spec)?;
    Ok(Proposal { spec, notes })
}

/// Lists the pointers and arrays, with the options that reach them.
fn listed(sample: &Sample) -> String {
    let mut parts = Vec::new();
    if !sample.pointers.is_empty() {
        let pointers: Vec<&str> = sample.pointers.iter().map(String::as_str).collect();
        parts.push(format!("{} (dw-write --map FIELD=POINTER takes one)", pointers.join(" ")));
    }
    if !sample.arrays.is_empty() {
        let arrays: Vec<&str> = sample.arrays.iter().map(String::as_str).collect();
        parts.push(format!("the arrays {} (dw-write --explode POINTER)", arrays.join(" ")));
    }
    parts.join("; ")
}

/// Whether a field of this name holds times whatever its values: `ts`, `time`, `timestamp...`.
pub fn names_time(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "ts" | "time" | "datetime" | "date_time")
        || name.starts_with("timestamp")
}

/// Whether a field of this name holds times if its values allow it: `event_time`, `recvTime`,
/// `local_us`.
fn may_name_time(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["ts_", "time_"].iter().any(|prefix| name.starts_with(prefix))
        || ["_ts", "time", "timestamp", "_s", "_ms", "_us", "_ns", "_at"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
}

/// Returns how the times of the column are written, or `None` if it is not a column of times.
fn written_time(column: &Column, asked: bool) -> Option<Written> {
    let shape = &column.shape;
    if shape.count == 0 {
        return None;
    }
    if shape.dates {
        return Some(if shape.dates_local { Written::Local } else { Written::Rfc3339 });
    }
    if !shape.decimals || shape.negative {
        return None;
    }
    let epoch = epoch_digits(shape).filter(|at| at + shape.fraction.1 <= 9);
    let named = names_time(&column.name);
    match epoch {
        Some(at) if named || asked || may_name_time(&column.name) => Some(Written::Epoch(at)),
        None if named || asked => Some(Written::Number),
        _ => None,
    }
}

/// Returns N if all numbers, in units of 10^-N seconds, are times from 1980 to 2100.
fn epoch_digits(shape: &Shape) -> Option<usize> {
    const YEARS: (i128, i128) = (315_532_800, 4_102_444_800);
    let (least, greatest) = shape.whole?;
    [0, 3, 6, 9].into_iter().find(|&digits| {
        let scale = 10i128.pow(digits as u32);
        least >= YEARS.0 * scale && greatest < YEARS.1 * scale
    })
}

/// Returns how many digits of a second the times of the column need.
fn digits(shape: &Shape, written: Written) -> usize {
    match written {
        Written::Epoch(at) => at + shape.fraction.1,
        // Probably milliseconds of the day. More than three fraction digits are finer than 1 us.
        Written::Number => 3 + shape.fraction.1,
        Written::Rfc3339 | Written::Local => shape.fraction.1,
    }
}

fn field(name: &str, kind: FieldType, default: Option<Value>) -> FieldSpec {
    FieldSpec { name: name.to_owned(), kind, desc: String::new(), default }
}

fn time_field(column: &Column) -> FieldSpec {
    let default = (column.shape.empty > 0).then(|| json!(0));
    field(&column.name, FieldType::Timestamp, default)
}

/// Returns the field of a column that does not hold times.
fn plain_field(column: &Column) -> FieldSpec {
    let (name, shape) = (&column.name, &column.shape);
    let full = shape.empty == 0;
    if shape.count == 0 {
        return field(name, FieldType::String(8), Some(json!("")));
    }
    if shape.bools && full {
        return field(name, FieldType::Bool, None);
    }
    if let Some(kind) = number_type(shape) {
        if full {
            return field(name, kind, None);
        }
        let (least, greatest) = shape.whole.unwrap_or_default();
        if least.abs().max(greatest.abs()) <= MAX_EXACT_FLOAT {
            return field(name, FieldType::Float64, Some(json!("NaN")));
        }
    }
    if shape.letters && full {
        return field(name, FieldType::Char, None);
    }
    let size = (shape.longest + 1).next_power_of_two().max(4);
    let size = u16::try_from(size).unwrap_or(u16::MAX);
    field(name, FieldType::String(size), (!full).then(|| json!("")))
}

/// Returns the type for the column's numbers, or `None` if they are not all numbers.
fn number_type(shape: &Shape) -> Option<FieldType> {
    let (least, greatest) = shape.whole.unwrap_or_default();
    if shape.integers {
        return match (i64::try_from(least), i64::try_from(greatest)) {
            (Ok(_), Ok(_)) => Some(FieldType::Int64),
            _ if least >= 0 && u64::try_from(greatest).is_ok() => Some(FieldType::Uint64),
            // Longer than 64 bits: an identifier, which is kept as text.
            _ => None,
        };
    }
    if shape.decimals {
        let (fewest, most) = shape.fraction;
        let whole_digits = least.abs().max(greatest.abs()).to_string().len();
        let told = most <= MAX_RAGGED_DIGITS || fewest == most;
        if told && whole_digits + most <= MAX_DECIMAL_DIGITS {
            return Some(FieldType::Decimal64(most as u8));
        }
    }
    shape.floats.then_some(FieldType::Float64)
}

/// Returns the time column: the requested one, else the first column of times.
fn time_column(
    sample: &Sample,
    times: &[(&Column, Written)],
    choices: &Choices,
) -> anyhow::Result<String> {
    let names: Vec<&str> = sample.columns.iter().map(|column| column.name.as_str()).collect();
    let names = names.join(", ");
    let Some(asked) = &choices.ts else {
        let Some((column, _)) = times.first() else {
            bail!(
                "no field of the sample is like a time; say which with --ts FIELD (fields: {names})"
            );
        };
        return Ok(column.name.clone());
    };
    let known = sample.columns.iter().any(|column| column.name == *asked);
    ensure!(known, "--ts {asked}: the sample has no such field (fields: {names})");
    let is_time = times.iter().any(|(column, _)| column.name == *asked);
    ensure!(is_time, "--ts {asked}: its values are neither dates nor positive numbers");
    Ok(asked.clone())
}

/// Notes which fields are missing in some rows, and which value they get.
fn absence_notes(fields: &[FieldSpec], notes: &mut Vec<String>) {
    let stand_ins = [(json!("NaN"), "NaN"), (json!(0), "0"), (json!(""), "empty")];
    for (default, what) in stand_ins {
        let lacking = fields.iter().filter(|field| field.default.as_ref() == Some(&default));
        let names: Vec<&str> = lacking.map(|field| field.name.as_str()).collect();
        if !names.is_empty() {
            notes.push(format!("absent in some rows and then {what}: {}", names.join(" ")));
        }
    }
}

/// Notes which options dw-write needs to read the times.
fn time_notes(times: &[(&Column, Written)], ts_col: &str, notes: &mut Vec<String>) {
    let options = |written: Written| match written {
        Written::Rfc3339 => None,
        Written::Local => Some("--ts-format '%Y-%m-%d %H:%M:%S%.f' --tz ZONE"),
        Written::Epoch(0) => Some("--ts-unit s"),
        Written::Epoch(3) => Some("--ts-unit ms"),
        Written::Epoch(6) => Some("--ts-unit us"),
        Written::Epoch(_) => Some("--ts-unit ns"),
        Written::Number => None,
    };
    for &(column, written) in times {
        if let Some(options) = options(written) {
            notes.push(format!("{}: write with dw-write {options}", column.name));
        }
        if written == Written::Number && column.name == ts_col {
            notes.push(format!(
                "{}: no times since 1970; tell dw-write what they are with --ts-unit, and with \
                 --ts-base DATE if they are times of day",
                column.name
            ));
        }
    }
}

#[cfg(test)]
mod tests;
