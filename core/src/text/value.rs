//! Parses one field's value from text into its bytes in the record.

use super::number::{
    fast_float, fast_scaled, fast_uint, float32, float64, integer, is_json_number, scaled,
};
use super::reject::{Fault, Why};
use super::timestamp::Times;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::schema::FieldType;

type Verdict = std::result::Result<(), Why>;

/// What a field accepts, resolved from its type and its role in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Char,
    Bool,
    Int(u8),
    Uint(u8),
    Float32,
    Float64,
    Decimal(u8),
    Time,
    Bytes(u16),
    Text(u16),
}

/// Writes one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    /// Position in [`Layout::fields`].
    pub field: usize,
    /// Offset in the record.
    pub at: usize,
    pub kind: Kind,
    /// Whether the record that rows start from holds a default for this field.
    pub defaulted: bool,
}

/// Where a text comes from. The rules for cells and JSON strings differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A CSV cell, and whether it was quoted.
    Cell { quoted: bool },
    /// A JSON string, without its quotes and escapes.
    Json,
}

/// Returns an op for each field, in the layout's order.
pub(crate) fn ops(layout: &Layout) -> Vec<Op> {
    let fields = layout.fields().iter().enumerate();
    fields
        .map(|(field, spec)| {
            let bits = (spec.size() * 8) as u8;
            let kind = match spec.kind {
                _ if layout.is_time(field) => Kind::Time,
                FieldType::Char => Kind::Char,
                FieldType::Bool => Kind::Bool,
                FieldType::Int8 | FieldType::Int16 | FieldType::Int32 | FieldType::Int64 => {
                    Kind::Int(bits)
                }
                FieldType::Float32 => Kind::Float32,
                FieldType::Float64 => Kind::Float64,
                FieldType::Decimal64(scale) => Kind::Decimal(scale),
                FieldType::Bytes(n) | FieldType::Pad(n) => Kind::Bytes(n),
                FieldType::String(n) => Kind::Text(n),
                FieldType::Uint8
                | FieldType::Uint16
                | FieldType::Uint32
                | FieldType::Uint64
                | FieldType::Timestamp => Kind::Uint(bits),
            };
            Op { field, at: spec.offset, kind, defaulted: spec.default.is_some() }
        })
        .collect()
}

/// Returns the record that rows start from: zeros, and the defaults of the spec.
///
/// # Errors
/// [`Error::Spec`] for a default that is not a value of its field.
pub(crate) fn blank_record(layout: &Layout, ops: &[Op]) -> Result<Vec<u8>> {
    let mut record = layout.zeroed();
    let mut times = Times::plain(layout.unit())?;
    for op in ops {
        let field = &layout.fields()[op.field];
        let Some(default) = &field.default else { continue };
        let op = Op { defaulted: false, ..*op };
        let (text, written) = match default {
            serde_json::Value::String(text) => {
                (text.clone(), op.text(text.as_bytes(), Origin::Json, &mut times, &mut record))
            }
            other => {
                let token = other.to_string();
                let written = op.token(token.as_bytes(), &mut times, &mut record);
                (token, written)
            }
        };
        written.map_err(|why| {
            let fault = Fault::value(0, &field.name, field.kind, text.as_bytes(), &why);
            Error::Spec(format!("the default of {}", fault.reason))
        })?;
    }
    Ok(record)
}

#[inline(always)]
fn put<const N: usize>(record: &mut [u8], at: usize, bytes: [u8; N]) {
    record[at..at + N].copy_from_slice(&bytes);
}

impl Op {
    /// Returns how many bytes of the record belong to the field.
    pub(crate) fn size(self) -> usize {
        match self.kind {
            Kind::Char | Kind::Bool => 1,
            Kind::Int(bits) | Kind::Uint(bits) => usize::from(bits) / 8,
            Kind::Float32 => 4,
            Kind::Float64 | Kind::Decimal(_) | Kind::Time => 8,
            Kind::Bytes(n) | Kind::Text(n) => usize::from(n),
        }
    }

    #[inline(always)]
    pub(crate) fn put_u64(self, record: &mut [u8], value: u64) {
        put(record, self.at, value.to_le_bytes());
    }

    #[inline(always)]
    pub(crate) fn put_f64(self, record: &mut [u8], value: f64) {
        put(record, self.at, value.to_le_bytes());
    }

    #[inline(always)]
    pub(crate) fn put_u8(self, record: &mut [u8], value: u8) {
        record[self.at] = value;
    }

    /// Writes an integer, if the field can hold it.
    #[inline(always)]
    pub(crate) fn put_integer(self, record: &mut [u8], negative: bool, size: u64) -> Verdict {
        match self.kind {
            Kind::Uint(bits) => {
                if (negative && size != 0) || (bits < 64 && size >> bits != 0) {
                    return Err(Why::Range);
                }
                self.put_low(record, bits, size);
            }
            Kind::Int(bits) => {
                let value = signed(negative, size).ok_or(Why::Range)?;
                let limit = i64::MAX >> (64 - u32::from(bits));
                if value > limit || value < -limit - 1 {
                    return Err(Why::Range);
                }
                self.put_low(record, bits, value as u64);
            }
            _ => return Err(Why::Not("an integer")),
        }
        Ok(())
    }

    #[inline(always)]
    fn put_low(self, record: &mut [u8], bits: u8, value: u64) {
        match bits {
            8 => record[self.at] = value as u8,
            16 => put(record, self.at, (value as u16).to_le_bytes()),
            32 => put(record, self.at, (value as u32).to_le_bytes()),
            _ => put(record, self.at, value.to_le_bytes()),
        }
    }

    /// Reads a number of the field's type and stores it if `ends` accepts the position after it.
    /// Returns `None` if the fast readers do not know the form, and `Some(None)` if the number does
    /// not fit.
    #[inline(always)]
    pub(crate) fn number<const JSON: bool>(
        self,
        b: &[u8],
        at: usize,
        times: &Times,
        record: &mut [u8],
        ends: impl Fn(usize) -> bool,
    ) -> Option<Option<usize>> {
        match self.kind {
            Kind::Float64 => {
                let (value, end) = fast_float::<JSON>(b, at).filter(|&(_, end)| ends(end))?;
                self.put_f64(record, value);
                Some(Some(end))
            }
            Kind::Uint(64) => {
                let (value, end) = fast_uint::<JSON>(b, at).filter(|&(_, end)| ends(end))?;
                self.put_u64(record, value);
                Some(Some(end))
            }
            Kind::Uint(_) | Kind::Int(_) => {
                let negative = b.get(at) == Some(&b'-');
                let from = at + usize::from(negative);
                let (size, end) = fast_uint::<JSON>(b, from).filter(|&(_, end)| ends(end))?;
                Some(self.put_integer(record, negative, size).is_ok().then_some(end))
            }
            Kind::Time => {
                let (ticks, end) = times.fast::<JSON>(b, at).filter(|&(_, end)| ends(end))?;
                self.put_u64(record, ticks);
                Some(Some(end))
            }
            Kind::Decimal(scale) => {
                let negative = b.get(at) == Some(&b'-');
                let from = at + usize::from(negative);
                let scale = usize::from(scale);
                let (size, end) =
                    fast_scaled::<JSON>(b, from, scale).filter(|&(_, end)| ends(end))?;
                let value = signed(negative, size);
                Some(value.map(|value| {
                    self.put_u64(record, value as u64);
                    end
                }))
            }
            _ => None,
        }
    }

    /// Writes the value that is all of `text`.
    ///
    /// # Errors
    /// Why `text` is not a value. The field's bytes may then be half written.
    pub(crate) fn text(
        self,
        text: &[u8],
        origin: Origin,
        times: &mut Times,
        record: &mut [u8],
    ) -> Verdict {
        let cell = origin != Origin::Json;
        let is_text = matches!(self.kind, Kind::Text(_));
        let keeps_blanks = is_text || self.kind == Kind::Char || !cell;
        let text = if keeps_blanks { text } else { trim(text) };
        // For a string field, a quoted empty cell is the empty string, not the default. For other
        // fields quotes change nothing.
        let explicit = !cell || (is_text && origin == Origin::Cell { quoted: true });
        if text.is_empty() && self.defaulted && !explicit {
            return Ok(());
        }
        if text.is_empty() && !is_text {
            return Err(Why::Empty);
        }
        match self.kind {
            Kind::Char => self.put_char(text, record)?,
            Kind::Bool => match text {
                b"true" | b"True" | b"TRUE" | b"1" => self.put_u8(record, 1),
                b"false" | b"False" | b"FALSE" | b"0" => self.put_u8(record, 0),
                _ => return Err(Why::Not("true or false")),
            },
            Kind::Int(_) | Kind::Uint(_) => {
                let (negative, size) = integer(text)?;
                self.put_integer(record, negative, size)?;
            }
            Kind::Float32 => put(record, self.at, float32(text)?.to_le_bytes()),
            Kind::Float64 => self.put_f64(record, float64(text)?),
            Kind::Decimal(scale) => {
                let (negative, size) = scaled(text, i64::from(scale), false)?;
                self.put_u64(record, signed(negative, size).ok_or(Why::Range)? as u64);
            }
            Kind::Time => self.put_u64(record, times.parse(text)?),
            Kind::Bytes(n) => self.put_hex(text, n, record)?,
            Kind::Text(n) => self.put_text(text, n, record)?,
        }
        Ok(())
    }

    /// Writes the value of a JSON number, `true`, `false` or `null`.
    ///
    /// # Errors
    /// Like [`Op::text`].
    pub(crate) fn token(self, token: &[u8], times: &mut Times, record: &mut [u8]) -> Verdict {
        match (token, self.kind) {
            (b"null", _) if self.defaulted => Ok(()),
            (b"null", Kind::Float32) => {
                put(record, self.at, f32::NAN.to_le_bytes());
                Ok(())
            }
            (b"null", Kind::Float64) => {
                self.put_f64(record, f64::NAN);
                Ok(())
            }
            (b"null", _) => Err(Why::said("is taken by floats only")),
            (b"true" | b"false", Kind::Bool) => {
                self.put_u8(record, u8::from(token == b"true"));
                Ok(())
            }
            (b"true" | b"false", _) => Err(Why::said("is taken by bool only")),
            (_, Kind::Char | Kind::Bytes(_) | Kind::Text(_)) => {
                Err(Why::said("is a number; a text is needed"))
            }
            _ if !is_json_number(token) => Err(Why::Not("a JSON value")),
            _ => self.text(token, Origin::Json, times, record),
        }
    }

    fn put_char(self, text: &[u8], record: &mut [u8]) -> Verdict {
        let byte = match *text {
            [byte] if byte.is_ascii() => byte,
            [high @ (0xc2 | 0xc3), low @ 0x80..=0xbf] => (high << 6) | (low & 0x3f),
            _ => return Err(Why::Not("one Latin-1 character")),
        };
        self.put_u8(record, byte);
        Ok(())
    }

    fn put_text(self, text: &[u8], size: u16, record: &mut [u8]) -> Verdict {
        let size = usize::from(size);
        if text.len() > size {
            return Err(Why::Range);
        }
        if std::str::from_utf8(text).is_err() {
            return Err(Why::Not("UTF-8"));
        }
        if text.contains(&0) {
            return Err(Why::said("holds a NUL, which is the padding of a string"));
        }
        let (value, padding) = record[self.at..self.at + size].split_at_mut(text.len());
        value.copy_from_slice(text);
        padding.fill(0);
        Ok(())
    }

    fn put_hex(self, text: &[u8], size: u16, record: &mut [u8]) -> Verdict {
        let size = usize::from(size);
        if text.iter().any(|c| !c.is_ascii_hexdigit()) {
            return Err(Why::Not("hex"));
        }
        if text.len() != 2 * size {
            let digits = 2 * size;
            return Err(Why::said(format!("has {} hex digits, not {digits}", text.len())));
        }
        let nibble = |c: u8| (c & 0xf) + 9 * (c >> 6);
        for (byte, pair) in record[self.at..self.at + size].iter_mut().zip(text.chunks_exact(2)) {
            *byte = (nibble(pair[0]) << 4) | nibble(pair[1]);
        }
        Ok(())
    }
}

/// Returns sign and magnitude as an `i64`, if it fits.
#[inline(always)]
fn signed(negative: bool, size: u64) -> Option<i64> {
    if negative { 0i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() }
}

/// Removes blanks around a cell, for numbers, times, booleans and hex. Texts keep theirs.
fn trim(text: &[u8]) -> &[u8] {
    let blank = |c: &u8| *c == b' ' || *c == b'\t';
    let start = text.iter().position(|c| !blank(c)).unwrap_or(text.len());
    let end = text.iter().rposition(|c| !blank(c)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::FeedSpec;

    fn written(
        kind: &str,
        text: &str,
        origin: Option<Origin>,
    ) -> std::result::Result<Vec<u8>, Why> {
        let spec = format!(
            r#"{{"feed_name":"t","ts_col":"ts","fields":[{{"name":"ts","type":"uint64"}},
                {{"name":"v","type":"{kind}"}}]}}"#
        );
        let layout = Layout::new(&FeedSpec::from_json(&spec).unwrap()).unwrap();
        let op = ops(&layout)[1];
        let mut times = Times::plain(layout.unit()).unwrap();
        let mut record = layout.zeroed();
        match origin {
            Some(origin) => op.text(text.as_bytes(), origin, &mut times, &mut record)?,
            None => op.token(text.as_bytes(), &mut times, &mut record)?,
        }
        Ok(record[layout.fields()[1].range()].to_vec())
    }

    fn cell(kind: &str, text: &str) -> std::result::Result<Vec<u8>, Why> {
        written(kind, text, Some(Origin::Cell { quoted: false }))
    }

    #[test]
    fn extreme_cells_are_accepted() {
        for (kind, text, bytes) in [
            ("int8", "-128", vec![0x80]),
            ("int8", "127", vec![0x7f]),
            ("uint8", "255", vec![0xff]),
            ("uint8", "-0", vec![0]),
            ("int16", "-32768", vec![0, 0x80]),
            ("uint32", "4294967295", vec![0xff; 4]),
            ("int64", "-9223372036854775808", i64::MIN.to_le_bytes().to_vec()),
            ("uint64", "18446744073709551615", vec![0xff; 8]),
            ("uint64", " 7\t", 7u64.to_le_bytes().to_vec()),
            ("decimal64.2", "1.230", 123i64.to_le_bytes().to_vec()),
            ("decimal64.18", "-9.223372036854775808", i64::MIN.to_le_bytes().to_vec()),
            ("char", "\u{e9}", vec![0xe9]),
            ("char", " ", vec![b' ']),
            ("char", "\u{ff}", vec![0xff]),
            ("bool", "1", vec![1]),
            ("bool", "false", vec![0]),
            ("bytes2", "0aFf", vec![0x0a, 0xff]),
            ("string4", "\u{e9}x", vec![0xc3, 0xa9, b'x', 0]),
            ("string2", "", vec![0, 0]),
            ("string2", " a", vec![b' ', b'a']),
            ("float32", "16777217", 16777216f32.to_le_bytes().to_vec()),
            ("float64", "-inf", f64::NEG_INFINITY.to_le_bytes().to_vec()),
            ("timestamp", "1970-01-01T00:00:00.000001Z", 1u64.to_le_bytes().to_vec()),
        ] {
            assert_eq!(cell(kind, text), Ok(bytes), "{kind} {text:?}");
        }
    }

    #[test]
    fn cells_that_do_not_fit_are_rejected() {
        for (kind, text) in [
            ("int8", "128"),
            ("int8", "-129"),
            ("uint8", "256"),
            ("uint8", "-1"),
            ("int64", "9223372036854775808"),
            ("uint64", "18446744073709551616"),
            ("int32", "1.0"),
            ("int32", "1e3"),
            ("int32", "+1"),
            ("int32", ""),
            ("int32", " "),
            ("decimal64.2", "1.234"),
            ("decimal64.18", "9.223372036854775808"),
            ("char", ""),
            ("char", "ab"),
            ("char", "\u{100}"),
            ("char", "\u{80}\u{80}"),
            ("bool", "2"),
            ("bool", "yes"),
            ("bytes2", "0a"),
            ("bytes2", "0aff0"),
            ("bytes2", "zz00"),
            ("string2", "abc"),
            ("string4", "a\0"),
            ("float64", "1e400"),
            ("float32", "1e39"),
            ("float64", "x"),
            ("timestamp", "yesterday"),
        ] {
            assert!(cell(kind, text).is_err(), "{kind} {text:?}");
        }
    }

    #[test]
    fn json_tokens_are_accepted_or_rejected() {
        assert_eq!(written("float64", "null", None), Ok(f64::NAN.to_le_bytes().to_vec()));
        assert_eq!(written("bool", "true", None), Ok(vec![1]));
        assert_eq!(written("uint8", "7", None), Ok(vec![7]));
        for (kind, token) in [
            ("uint8", "null"),
            ("uint8", "true"),
            ("uint8", "1.0"),
            ("char", "1"),
            ("string4", "12"),
            ("bytes1", "12"),
            ("float64", "NaN"),
            ("float64", "01"),
        ] {
            assert!(written(kind, token, None).is_err(), "{kind} {token}");
        }
        assert!(written("uint8", " 1", Some(Origin::Json)).is_err());
        assert_eq!(written("uint8", "1", Some(Origin::Json)), Ok(vec![1]));
        assert_eq!(written("char", "\0", Some(Origin::Json)), Ok(vec![0]));
    }
}
