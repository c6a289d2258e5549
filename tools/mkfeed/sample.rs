//! Reads a sample into columns: CSV or TSV with a header, or JSON lines.
//!
//! Values are not kept. Each column only records what its values have in common, as a [`Shape`].

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// How many pointers into nested values are listed.
const MAX_POINTERS: usize = 24;

/// The columns of a sample, in order, and the nested values that cannot be columns.
#[derive(Debug, Default)]
pub struct Sample {
    /// The columns.
    pub columns: Vec<Column>,
    /// JSON pointers to values inside nested objects.
    pub pointers: BTreeSet<String>,
    /// JSON pointers to arrays.
    pub arrays: BTreeSet<String>,
    /// Number of rows.
    pub rows: usize,
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values have in common.
    pub shape: Shape,
}

/// What the values of a column have in common.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Values that are not empty.
    pub count: usize,
    /// Empty cells and `null`s.
    pub empty: usize,
    /// All are `true` or `false`, bare in JSON.
    pub bools: bool,
    /// All are integers without leading zeros.
    pub integers: bool,
    /// All are plain decimals or integers without leading zeros.
    pub decimals: bool,
    /// All are numbers of some form: exponents, `NaN` and `inf` too.
    pub floats: bool,
    /// All are one ASCII character.
    pub letters: bool,
    /// All are dates with a time of day.
    pub dates: bool,
    /// Some date has no zone, or a blank where RFC 3339 has a `T`.
    pub dates_local: bool,
    /// Some number is negative.
    pub negative: bool,
    /// The least and the greatest number, whole parts only.
    pub whole: Option<(i128, i128)>,
    /// The fewest and the most fraction digits of a number or of a date's seconds.
    pub fraction: (usize, usize),
    /// The longest value in bytes.
    pub longest: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            count: 0,
            empty: 0,
            bools: true,
            integers: true,
            decimals: true,
            floats: true,
            letters: true,
            dates: true,
            dates_local: false,
            negative: false,
            whole: None,
            fraction: (usize::MAX, 0),
            longest: 0,
        }
    }
}

impl Shape {
    /// Adds a value; `quoted` means a JSON string.
    fn see(&mut self, text: &str, quoted: bool) {
        if text.is_empty() {
            self.empty += 1;
            return;
        }
        self.count += 1;
        self.longest = self.longest.max(text.len());
        self.bools &= !quoted && matches!(text, "true" | "false");
        self.letters &= text.len() == 1 && text.is_ascii();
        match decimal_parts(text) {
            Some((whole, fraction)) => {
                let canonical = whole.len() == 1 || !whole.starts_with('0');
                self.integers &= canonical && fraction.is_none();
                self.decimals &= canonical;
                self.floats &= canonical;
                self.see_number(text, whole, fraction.map_or(0, str::len));
            }
            None => {
                self.integers = false;
                self.decimals = false;
                let named = matches!(text, "NaN" | "inf" | "-inf");
                let exponent = text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                    && text.parse::<f64>().is_ok();
                self.floats &= named || exponent;
            }
        }
        match date_shape(text) {
            Some((digits, local)) => {
                self.dates_local |= local;
                self.see_fraction(digits);
            }
            None => self.dates = false,
        }
    }

    fn see_number(&mut self, text: &str, whole: &str, fraction: usize) {
        let negative = text.starts_with('-');
        self.negative |= negative;
        self.see_fraction(fraction);
        match whole.parse::<i128>() {
            Ok(value) => {
                let value = if negative { -value } else { value };
                let (least, greatest) = self.whole.unwrap_or((value, value));
                self.whole = Some((least.min(value), greatest.max(value)));
            }
            Err(_) => {
                self.integers = false;
                self.decimals = false;
            }
        }
    }

    fn see_fraction(&mut self, digits: usize) {
        self.fraction = (self.fraction.0.min(digits), self.fraction.1.max(digits));
    }
}

/// Splits `-?[0-9]+(\.[0-9]+)?` into the digits before and after the point.
fn decimal_parts(text: &str) -> Option<(&str, Option<&str>)> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        None => digits(text).then_some((text, None)),
        Some((whole, fraction)) => {
            (digits(whole) && digits(fraction)).then_some((whole, Some(fraction)))
        }
    }
}

/// Recognises a date with a time of day. Returns its number of fraction digits, and whether it
/// deviates from RFC 3339.
fn date_shape(text: &str) -> Option<(usize, bool)> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let separator = *seconds.as_bytes().get(10)?;
    seconds.parse::<jiff::civil::DateTime>().ok().filter(|_| matches!(separator, b'T' | b' '))?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (digits, &rest[digits..])
        }
    };
    if rest.starts_with('.') && !(1..=9).contains(&fraction) {
        return None;
    }
    let local = match zone.as_bytes() {
        [] => true,
        [b'Z'] => separator == b' ',
        [b'+' | b'-', a, b, b':', c, d] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()) => {
            separator == b' '
        }
        _ => return None,
    };
    Some((fraction, local))
}

/// Reads a sample. Detects the format as dw-write does. Leaves out a last line that was cut short,
/// as by `head -c`.
///
/// # Errors
/// If there are no rows or no header, or if a line is not like the others; the error has its
/// number.
pub fn read(bytes: &[u8]) -> anyhow::Result<Sample> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Only the end of the sample may cut a character short.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(e) => {
            let line = bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
            bail!("sample, line {line}: not UTF-8");
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.trim_start();
    let sample = match first.bytes().next() {
        None => bail!("the sample on stdin is empty; as head -1000 trades.csv | dw-mkfeed ..."),
        Some(b'{' | b'[') => read_json(text)?,
        Some(_) => {
            let line = text.lines().next().unwrap_or_default();
            let tabs = line.contains('\t') && !line.contains(',');
            read_csv(text, if tabs { b'\t' } else { b',' })?
        }
    };
    ensure!(sample.rows > 0, "the sample has no rows");
    Ok(sample)
}

fn read_csv(text: &str, delimiter: u8) -> anyhow::Result<Sample> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut records = Vec::new();
    for record in reader.records() {
        records.push(record.context("sample")?);
    }
    // A last line without a newline may have lost cells or part of one.
    if !text.ends_with('\n') && records.len() > 2 {
        records.pop();
    }
    let Some((header, rows)) = records.split_first() else {
        bail!("the sample has no header");
    };
    check_header(header)?;
    let mut sample = Sample { rows: rows.len(), ..Sample::default() };
    for name in header {
        sample.columns.push(Column { name: name.to_owned(), shape: Shape::default() });
    }
    for row in rows {
        ensure!(
            row.len() == header.len(),
            "sample, line {}: {} cells, and the header has {}",
            row.position().map_or(0, csv::Position::line),
            row.len(),
            header.len()
        );
        for (column, cell) in sample.columns.iter_mut().zip(row) {
            column.shape.see(cell, false);
        }
    }
    Ok(sample)
}

/// Checks that every cell of the header is a name, that none repeats, and that none is a value.
fn check_header(header: &csv::StringRecord) -> anyhow::Result<()> {
    for (at, name) in header.iter().enumerate() {
        let number = decimal_parts(name).is_some() || name.parse::<f64>().is_ok();
        let value = number || date_shape(name).is_some() || matches!(name, "true" | "false" | "");
        ensure!(
            !value,
            "the sample's first line is no header (cell {} is {name:?}); put the names before it, \
             as (echo ts,bid,ask; cat FILE) | dw-mkfeed ...",
            at + 1
        );
        let twice = header.iter().take(at).any(|earlier| earlier == name);
        ensure!(!twice, "the sample's header names {name:?} twice");
    }
    Ok(())
}

/// The keys and values of an object, in order; values as text.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with named values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

fn read_json(text: &str) -> anyhow::Result<Sample> {
    let mut sample = Sample::default();
    for (at, line) in text.split_inclusive('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let pairs: Pairs<'_> = match serde_json::from_str(line) {
            Ok(pairs) => pairs,
            Err(e) if e.is_eof() && !line.ends_with('\n') && sample.rows > 0 => break,
            Err(e) => bail!("sample, line {}: {}", at + 1, without_line(&e)),
        };
        for (key, raw) in pairs.0 {
            see_json(&mut sample, &key, raw).with_context(|| format!("sample, line {}", at + 1))?;
        }
        sample.rows += 1;
    }
    // A key that some objects lack counts as empty there.
    for column in &mut sample.columns {
        column.shape.empty = sample.rows.saturating_sub(column.shape.count);
    }
    Ok(sample)
}

/// Returns serde_json's message without its position: each document is one line of the input.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    format!("{} at column {}", &text[..end], error.column())
}

fn see_json(sample: &mut Sample, key: &str, raw: &RawValue) -> anyhow::Result<()> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') => {
            let value: Value = serde_json::from_str(text)?;
            walk(sample, &pointer("", key), &value);
            return Ok(());
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(text)?;
            column(sample, key).see(&text, true);
        }
        _ => column(sample, key).see(if text == "null" { "" } else { text }, false),
    }
    Ok(())
}

fn column<'a>(sample: &'a mut Sample, name: &str) -> &'a mut Shape {
    let at = sample.columns.iter().position(|column| column.name == name).unwrap_or_else(|| {
        sample.columns.push(Column { name: name.to_owned(), shape: Shape::default() });
        sample.columns.len() - 1
    });
    &mut sample.columns[at].shape
}

/// Collects the pointers to the values inside a nested value.
fn walk(sample: &mut Sample, at: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                walk(sample, &pointer(at, key), inner);
            }
        }
        Value::Array(_) if sample.arrays.len() < MAX_POINTERS => {
            sample.arrays.insert(at.to_owned());
        }
        Value::Array(_) => {}
        _ if sample.pointers.len() < MAX_POINTERS => {
            sample.pointers.insert(at.to_owned());
        }
        _ => {}
    }
}

/// Extends a pointer by a key, as RFC 6901 defines.
fn pointer(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}
