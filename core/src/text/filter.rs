//! Conditions on records, such as `price>=100.5`. They are checked on the record's bytes, before
//! anything is formatted.

use std::cmp::Ordering;
use std::ops::Range;

use super::encode::no_field;
use super::program::{load, trimmed};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::schema::FieldType;
use crate::time::TimeUnit;

/// The operators and the outcomes that each accepts. Longer ones come before their prefixes.
const OPERATORS: [(&str, Outcomes); 7] = [
    ("!=", Outcomes { less: true, equal: false, greater: true, unordered: true }),
    ("<=", Outcomes { less: true, equal: true, greater: false, unordered: false }),
    (">=", Outcomes { less: false, equal: true, greater: true, unordered: false }),
    ("==", Outcomes { less: false, equal: true, greater: false, unordered: false }),
    ("=", Outcomes { less: false, equal: true, greater: false, unordered: false }),
    ("<", Outcomes { less: true, equal: false, greater: false, unordered: false }),
    (">", Outcomes { less: false, equal: false, greater: true, unordered: false }),
];

/// Which outcomes of a comparison match. NaN is unordered, so it matches only `!=`.
#[derive(Clone, Copy, Debug)]
struct Outcomes {
    less: bool,
    equal: bool,
    greater: bool,
    unordered: bool,
}

/// A condition on one field.
#[derive(Clone, Debug)]
pub struct Filter {
    range: Range<usize>,
    outcomes: Outcomes,
    test: Test,
}

/// How a field's bytes are read, and the value they are compared with.
#[derive(Clone, Debug)]
enum Test {
    Signed(Bound),
    Unsigned(Bound),
    Float32(f32),
    Float64(f64),
    Bytes(Vec<u8>),
    /// Compared bytewise, up to the NUL padding.
    String(Vec<u8>),
}

/// The number that integers are compared with: `floor` if `exact`, else a little more. It holds the
/// text exactly, so `size<1.5` is right for integers and for decimals of any scale.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bound {
    floor: i128,
    exact: bool,
}

impl Bound {
    #[inline]
    fn compare(self, value: i128) -> Ordering {
        let order = value.cmp(&self.floor);
        if order == Ordering::Equal && !self.exact { Ordering::Less } else { order }
    }
}

impl Filter {
    /// Parses `FIELD OP VALUE`. The operator is one of `= != < <= > >=`; blanks around it are
    /// optional. Blanks around VALUE are ignored. A VALUE for a `char` or a string may be in double
    /// quotes, as a JSON string.
    ///
    /// VALUE is compared by the field's type: numbers by value (exactly, whatever the digits),
    /// floats as the nearest float of their width, times as an integer in the feed's unit or as RFC
    /// 3339, strings and bytes (in hex) bytewise, `char` by code, `bool` as `true` or `false`.
    ///
    /// # Errors
    /// [`Error::Spec`] for an unknown field (the message lists the fields), a missing operator, and
    /// a value that cannot be compared with the field (the message says what can).
    pub fn parse(layout: &Layout, text: &str) -> Result<Filter> {
        let (position, outcomes, value) = split(layout, text)?;
        let field = &layout.fields()[position];
        let test = test(layout, position, value).ok_or_else(|| {
            let wanted = wanted(layout, position);
            Error::Spec(format!(
                "{text:?}: {value:?} is no value for {} ({}); {wanted}",
                field.name, field.kind
            ))
        })?;
        Ok(Filter { range: field.range(), outcomes, test })
    }

    /// Whether a record meets the condition.
    ///
    /// # Panics
    /// If `record` is shorter than the layout's records.
    #[inline]
    pub fn matches(&self, record: &[u8]) -> bool {
        let field = &record[self.range.clone()];
        let order = match &self.test {
            Test::Unsigned(bound) => Some(bound.compare(unsigned(field).into())),
            Test::Signed(bound) => Some(bound.compare(signed(field).into())),
            Test::Float64(value) => f64::from_le_bytes(load(field, 0)).partial_cmp(value),
            Test::Float32(value) => f32::from_le_bytes(load(field, 0)).partial_cmp(value),
            Test::Bytes(value) => Some(field.cmp(value.as_slice())),
            Test::String(value) => Some(trimmed(field).cmp(value)),
        };
        match order {
            Some(Ordering::Less) => self.outcomes.less,
            Some(Ordering::Equal) => self.outcomes.equal,
            Some(Ordering::Greater) => self.outcomes.greater,
            None => self.outcomes.unordered,
        }
    }
}

#[inline]
fn unsigned(field: &[u8]) -> u64 {
    match field.len() {
        1 => field[0].into(),
        2 => u16::from_le_bytes(load(field, 0)).into(),
        4 => u32::from_le_bytes(load(field, 0)).into(),
        _ => u64::from_le_bytes(load(field, 0)),
    }
}

#[inline]
fn signed(field: &[u8]) -> i64 {
    match field.len() {
        1 => i8::from_le_bytes(load(field, 0)).into(),
        2 => i16::from_le_bytes(load(field, 0)).into(),
        4 => i32::from_le_bytes(load(field, 0)).into(),
        _ => i64::from_le_bytes(load(field, 0)),
    }
}

/// Splits a condition. A field name may contain an operator's characters, so the field is the
/// longest name that an operator follows.
fn split<'a>(layout: &Layout, text: &'a str) -> Result<(usize, Outcomes, &'a str)> {
    let text = text.trim();
    let operator = |rest: &'a str| {
        let rest = rest.trim_start();
        OPERATORS.iter().find_map(|(sign, outcomes)| {
            rest.strip_prefix(sign).map(|value| (*outcomes, value.trim()))
        })
    };
    let mut found: Option<(usize, Outcomes, &str)> = None;
    for (position, field) in layout.fields().iter().enumerate() {
        let longer =
            found.is_none_or(|(best, ..)| layout.fields()[best].name.len() < field.name.len());
        let rest = text.strip_prefix(field.name.as_str()).filter(|_| longer);
        if let Some((outcomes, value)) = rest.and_then(operator) {
            found = Some((position, outcomes, value));
        }
    }
    found.ok_or_else(|| match text.find(['=', '!', '<', '>']) {
        Some(at) if operator(&text[at..]).is_some() => no_field(layout, text[..at].trim()),
        _ => Error::Spec(format!(
            "{text:?} is no condition; it is FIELD OP VALUE, with one of = != < <= > >="
        )),
    })
}

fn test(layout: &Layout, position: usize, value: &str) -> Option<Test> {
    let field = &layout.fields()[position];
    Some(match field.kind {
        _ if layout.is_time(position) => Test::Unsigned(time(value, layout.unit())?),
        FieldType::Uint8
        | FieldType::Uint16
        | FieldType::Uint32
        | FieldType::Uint64
        | FieldType::Timestamp => Test::Unsigned(number(value, 0)?),
        FieldType::Int8 | FieldType::Int16 | FieldType::Int32 | FieldType::Int64 => {
            Test::Signed(number(value, 0)?)
        }
        FieldType::Decimal64(scale) => Test::Signed(number(value, scale)?),
        FieldType::Float32 => {
            Test::Float32(value.parse().ok().filter(|f: &f32| in_range(value, f.is_infinite()))?)
        }
        FieldType::Float64 => {
            Test::Float64(value.parse().ok().filter(|f: &f64| in_range(value, f.is_infinite()))?)
        }
        FieldType::Bool => Test::Bytes(vec![match value {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return None,
        }]),
        FieldType::Char => Test::Bytes(vec![character(value)?]),
        FieldType::String(size) => {
            let text = unquoted(value)?.into_bytes();
            Test::String(Some(text).filter(|t| t.len() <= size.into() && !t.contains(&0))?)
        }
        FieldType::Bytes(_) => Test::Bytes(hex(value).filter(|b| b.len() == field.size())?),
        FieldType::Pad(_) => return None,
    })
}

/// Says what a value of this field looks like.
fn wanted(layout: &Layout, position: usize) -> String {
    match layout.fields()[position].kind {
        _ if layout.is_time(position) => {
            let unit = layout.unit();
            format!("a time is an integer in {unit} since 1970, or RFC 3339: 2025-11-21T16:00:00Z")
        }
        FieldType::Float32 | FieldType::Float64 => "it is a number, as 1.5, inf or NaN".into(),
        FieldType::Bool => "it is true or false".into(),
        FieldType::Char => "it is one Latin-1 character, or one in quotes, as \"\\u0000\"".into(),
        FieldType::String(size) => format!("it is text of at most {size} bytes"),
        FieldType::Bytes(size) => format!("it is {size} bytes in hex, so {} digits", size * 2),
        _ => "it is a decimal number, as -1 or 0.25".into(),
    }
}

/// Whether a float is in range: text with digits, such as `1e400`, does not mean infinity.
fn in_range(text: &str, infinite: bool) -> bool {
    !infinite || !text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Parses `-123.456` as a count of 10^-`scale`, rounded down. A number that no `i128` holds becomes
/// the least or greatest one; every field's values lie between those.
fn number(text: &str, scale: u8) -> Option<Bound> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut count: i128 = 0;
    let mut exact = true;
    let scaled = fraction.bytes().chain(std::iter::repeat(b'0')).take(scale.into());
    for digit in whole.bytes().chain(scaled).map(|byte| byte.wrapping_sub(b'0')) {
        if digit > 9 {
            return None;
        }
        count = count.saturating_mul(10).saturating_add(digit.into());
    }
    for digit in fraction.bytes().skip(scale.into()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        exact &= digit == b'0';
    }
    let floor = match (negative, exact) {
        (false, _) => count,
        (true, true) => -count,
        (true, false) => -count - 1,
    };
    Some(Bound { floor, exact })
}

/// Parses a time: an integer in the feed's unit, or RFC 3339 with any offset.
fn time(text: &str, unit: TimeUnit) -> Option<Bound> {
    if let Some(bound) = number(text, 0) {
        return Some(bound);
    }
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    let tick = i128::from(unit.nanos());
    Some(Bound { floor: nanos.div_euclid(tick), exact: nanos.rem_euclid(tick) == 0 })
}

/// Returns the text of a value: decoded if it is a JSON string, else unchanged.
fn unquoted(value: &str) -> Option<String> {
    if value.len() >= 2 && value.starts_with('"') && value.ends_with('"') {
        return serde_json::from_str(value).ok();
    }
    Some(value.to_owned())
}

fn character(value: &str) -> Option<u8> {
    let text = unquoted(value)?;
    let mut chars = text.chars();
    let first = chars.next()?;
    u8::try_from(u32::from(first)).ok().filter(|_| chars.next().is_none())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::FeedSpec;
    use proptest::prelude::*;

    /// Returns a layout of a time column `ts` and one field `x`.
    fn layout(kind: &str) -> Layout {
        let spec = format!(
            r#"{{"feed_name": "f", "ts_col": "ts", "packed": true, "fields": [
            {{"name": "ts", "type": "uint64"}}, {{"name": "x", "type": "{kind}"}}]}}"#
        );
        Layout::new(&FeedSpec::from_json(&spec).unwrap()).unwrap()
    }

    fn record(ts: u64, x: &[u8]) -> Vec<u8> {
        [&ts.to_le_bytes(), x].concat()
    }

    #[track_caller]
    fn check(kind: &str, x: &[u8], condition: &str, wanted: bool) {
        let filter = Filter::parse(&layout(kind), condition).unwrap();
        assert_eq!(filter.matches(&record(0, x)), wanted, "{condition}");
    }

    fn refused(kind: &str, condition: &str) -> String {
        Filter::parse(&layout(kind), condition).unwrap_err().to_string()
    }

    #[test]
    fn every_operator_accepts_the_right_outcomes() {
        let signs = ["=", "==", "!=", "<", "<=", ">", ">="];
        let wanted = [
            (4u8, [false, false, true, true, true, false, false]),
            (5, [true, true, false, false, true, false, true]),
            (6, [false, false, true, false, false, true, true]),
        ];
        for (value, wanted) in wanted {
            for (sign, wanted) in signs.iter().zip(wanted) {
                check("uint8", &[value], &format!("x{sign}5"), wanted);
                check("uint8", &[value], &format!(" x {sign} 5 "), wanted);
            }
        }
    }

    #[test]
    fn nan_matches_only_unequal() {
        let nan = f64::NAN.to_le_bytes();
        for (sign, wanted) in [("=", false), ("!=", true), ("<", false), (">=", false)] {
            check("float64", &nan, &format!("x{sign}1"), wanted);
            check("float64", &1f64.to_le_bytes(), &format!("x{sign}NaN"), wanted);
            check("float32", &f32::NAN.to_le_bytes(), &format!("x{sign}NaN"), wanted);
        }
        check("float32", &1.1f32.to_le_bytes(), "x=1.1", true);
        check("float64", &(-0.0f64).to_le_bytes(), "x=0", true);
        check("float64", &f64::MAX.to_le_bytes(), "x<inf", true);
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let max = i64::MAX.to_le_bytes();
        check("int64", &max, "x<9223372036854775807.5", true);
        check("int64", &max, "x>=9223372036854775807.0", true);
        check("int64", &i64::MIN.to_le_bytes(), "x>-9223372036854775808.001", true);
        check(
            "int64",
            &i64::MIN.to_le_bytes(),
            "x>-1000000000000000000000000000000000000000000",
            true,
        );
        check("uint64", &u64::MAX.to_le_bytes(), "x>18446744073709551614", true);
        check("uint64", &0u64.to_le_bytes(), "x>-1", true);
        check("int8", &[0xff], "x<-0.5", true);
        check("int8", &[0], "x>-0.5", true);
        check("decimal64.2", &123i64.to_le_bytes(), "x=1.23", true);
        check("decimal64.2", &123i64.to_le_bytes(), "x=1.2300", true);
        check("decimal64.2", &123i64.to_le_bytes(), "x=1.2301", false);
        check("decimal64.2", &123i64.to_le_bytes(), "x<1.2301", true);
        check("decimal64.2", &(-123i64).to_le_bytes(), "x<-1.2299", true);
        check("decimal64.2", &(-123i64).to_le_bytes(), "x>-1.2301", true);
        check("decimal64.18", &max, "x=9.223372036854775807", true);
    }

    #[test]
    fn texts_are_compared_bytewise() {
        check("string4", b"AB\0\0", "x=AB", true);
        check("string4", b"AB\0\0", "x<ABC", true);
        check("string4", b"\0\0\0\0", "x=", true);
        check("string4", b" A\0\0", "x=\" A\"", true);
        check("string4", b"<=\0\0", "x=<=", true);
        check("bytes2", &[0xab, 1], "x=AB01", true);
        check("bytes2", &[0xab, 1], "x>ab00", true);
        check("char", b"B", "x=B", true);
        check("char", b"\"", "x=\"", true);
        check("char", &[0], "x=\"\\u0000\"", true);
        check("char", &[0xe9], "x=\u{e9}", true);
        check("bool", &[1], "x=true", true);
        check("bool", &[0], "x!=1", true);
    }

    #[test]
    fn times_are_integers_or_rfc_3339() {
        let layout = layout("timestamp");
        let record = record(1_763_740_800_000_001, &5u64.to_le_bytes());
        let matches = |text: &str| Filter::parse(&layout, text).unwrap().matches(&record);
        assert!(matches("ts=1763740800000001"));
        assert!(matches("ts=2025-11-21T16:00:00.000001Z"));
        assert!(matches("ts=2025-11-21T10:00:00.000001-06:00"));
        assert!(matches("ts<2025-11-21T16:00:00.0000011Z"));
        assert!(!matches("ts=2025-11-21T16:00:00.0000011Z"));
        assert!(matches("x=1970-01-01T00:00:00.000005Z"));
        assert!(matches("x>1969-12-31T23:59:59.9999999Z"));
    }

    #[test]
    fn errors_say_which_values_fit() {
        assert_eq!(refused("int8", "y=1"), "no field \"y\"; the fields are ts, x");
        assert!(refused("int8", "x").contains("FIELD OP VALUE"));
        assert!(refused("int8", "x!1").contains("FIELD OP VALUE"));
        let cases = [
            ("int8", "x=one", "decimal number"),
            ("int8", "x=", "decimal number"),
            ("int8", "x=.", "decimal number"),
            ("int8", "x=1e3", "decimal number"),
            ("decimal64.2", "x=1.2.3", "decimal number"),
            ("float64", "x=1e400", "a number"),
            ("bool", "x=yes", "true or false"),
            ("char", "x=AB", "Latin-1"),
            ("char", "x=\u{20ac}", "Latin-1"),
            ("string2", "x=ABC", "at most 2 bytes"),
            ("bytes2", "x=abc", "4 digits"),
            ("bytes2", "x=abcdeg", "4 digits"),
            ("timestamp", "x=2025-11-21", "RFC 3339"),
        ];
        for (kind, condition, wanted) in cases {
            let text = refused(kind, condition);
            assert!(text.contains(wanted) && text.contains(kind), "{text}");
        }
    }

    #[test]
    fn the_longest_field_name_wins() {
        for names in [["a", "a<b"], ["a<b", "a"]] {
            let [first, second] = names;
            let spec = format!(
                r#"{{"feed_name": "f", "ts_col": "ts", "fields": [
                {{"name": "ts", "type": "uint64"}}, {{"name": "{first}", "type": "uint8"}},
                {{"name": "{second}", "type": "uint8"}}]}}"#
            );
            let layout = Layout::new(&FeedSpec::from_json(&spec).unwrap()).unwrap();
            let mut record = layout.zeroed();
            record[layout.field("a<b").unwrap().offset] = 7;
            assert!(Filter::parse(&layout, "a<b=7").unwrap().matches(&record));
            assert!(Filter::parse(&layout, "a<7").unwrap().matches(&record));
        }
    }

    proptest! {
        #[test]
        fn decimals_agree_with_integers(value: i64, other: i64, scale in 0u8..19, more in 0u32..3) {
            // `other` has `more` digits beyond those that the scale holds.
            let power = 10i128.pow(u32::from(scale) + more);
            let (whole, fraction) = ((other as i128) / power, (other as i128) % power);
            let width = usize::from(scale) + more as usize;
            let sign = if other < 0 { "-" } else { "" };
            let text = format!("x<{sign}{}.{:0width$}", whole.abs(), fraction.abs());
            let filter = Filter::parse(&layout(&format!("decimal64.{scale}")), &text).unwrap();
            let wanted = i128::from(value) * 10i128.pow(more) < i128::from(other);
            prop_assert_eq!(filter.matches(&record(0, &value.to_le_bytes())), wanted);
        }
    }
}
