//! Reads and writes a record's bytes as typed values, for programs. The tools convert directly
//! between bytes and text.

use crate::error::{Error, Result};
use crate::layout::{Field, Layout};
use crate::schema::FieldType;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `char`, as its byte.
    Char(u8),
    /// `bool`.
    Bool(bool),
    /// `int8` to `int64`.
    Int(i64),
    /// `uint8` to `uint64`, and times in the feed's unit.
    Uint(u64),
    /// `float32`.
    Float32(f32),
    /// `float64`.
    Float64(f64),
    /// `decimal64.S`: the value times 10^S, and S.
    Decimal(i64, u8),
    /// `bytesN`.
    Bytes(Vec<u8>),
    /// `stringN`, without its NUL padding.
    String(String),
}

/// A borrowed record.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The record's sequence number.
    pub seq: u64,
    layout: &'a Layout,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    pub(crate) fn new(seq: u64, layout: &'a Layout, bytes: &'a [u8]) -> Record<'a> {
        Record { seq, layout, bytes }
    }

    /// Returns the record's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the record's time, in the feed's unit.
    pub fn time(&self) -> u64 {
        self.layout.time_of(self.bytes)
    }

    /// Returns the value of the field with this name.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.layout.field(name).map(|field| value_of(field, self.bytes))
    }

    /// Returns every field's name and value, in record order.
    pub fn values(&self) -> impl Iterator<Item = (&'a str, Value)> + use<'a> {
        let bytes = self.bytes;
        self.layout.fields().iter().map(move |field| (field.name.as_str(), value_of(field, bytes)))
    }
}

/// Reads a field out of a record.
fn value_of(field: &Field, record: &[u8]) -> Value {
    let bytes = &record[field.range()];
    let mut wide = [0; 8];
    wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    let unsigned = u64::from_le_bytes(wide);
    let signed = |bits: u32| ((unsigned << (64 - bits)) as i64) >> (64 - bits);
    match field.kind {
        FieldType::Char => Value::Char(bytes[0]),
        FieldType::Bool => Value::Bool(bytes[0] != 0),
        FieldType::Int8 => Value::Int(signed(8)),
        FieldType::Int16 => Value::Int(signed(16)),
        FieldType::Int32 => Value::Int(signed(32)),
        FieldType::Int64 => Value::Int(signed(64)),
        FieldType::Uint8 | FieldType::Uint16 | FieldType::Uint32 => Value::Uint(unsigned),
        FieldType::Uint64 | FieldType::Timestamp => Value::Uint(unsigned),
        FieldType::Float32 => Value::Float32(f32::from_bits(unsigned as u32)),
        FieldType::Float64 => Value::Float64(f64::from_bits(unsigned)),
        FieldType::Decimal64(scale) => Value::Decimal(signed(64), scale),
        FieldType::Bytes(_) | FieldType::Pad(_) => Value::Bytes(bytes.to_vec()),
        FieldType::String(_) => {
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
            Value::String(String::from_utf8_lossy(&bytes[..end]).into_owned())
        }
    }
}

/// Writes a value for each field, in record order, into `record`, which has the layout's record
/// size. Padding is left unchanged.
///
/// # Errors
/// [`Error::Invalid`] if the number of values is wrong, or, naming the field, if a value is of
/// another type or too large.
pub fn write_values(layout: &Layout, values: &[Value], record: &mut [u8]) -> Result<()> {
    if values.len() != layout.fields().len() {
        return Err(Error::Invalid(format!(
            "{} values for the {} fields of the record",
            values.len(),
            layout.fields().len()
        )));
    }
    for (field, value) in layout.fields().iter().zip(values) {
        write_value(field, value, &mut record[field.range()]).ok_or_else(|| {
            Error::Invalid(format!("field {}: {value:?} is no {}", field.name, field.kind))
        })?;
    }
    Ok(())
}

fn write_value(field: &Field, value: &Value, to: &mut [u8]) -> Option<()> {
    match (field.kind, value) {
        (FieldType::Char, Value::Char(byte)) => to[0] = *byte,
        (FieldType::Bool, Value::Bool(yes)) => to[0] = u8::from(*yes),
        (FieldType::Int8, Value::Int(n)) => {
            to.copy_from_slice(&i8::try_from(*n).ok()?.to_le_bytes())
        }
        (FieldType::Int16, Value::Int(n)) => {
            to.copy_from_slice(&i16::try_from(*n).ok()?.to_le_bytes());
        }
        (FieldType::Int32, Value::Int(n)) => {
            to.copy_from_slice(&i32::try_from(*n).ok()?.to_le_bytes());
        }
        (FieldType::Int64, Value::Int(n)) => to.copy_from_slice(&n.to_le_bytes()),
        (FieldType::Uint8, Value::Uint(n)) => to[0] = u8::try_from(*n).ok()?,
        (FieldType::Uint16, Value::Uint(n)) => {
            to.copy_from_slice(&u16::try_from(*n).ok()?.to_le_bytes());
        }
        (FieldType::Uint32, Value::Uint(n)) => {
            to.copy_from_slice(&u32::try_from(*n).ok()?.to_le_bytes());
        }
        (FieldType::Uint64 | FieldType::Timestamp, Value::Uint(n)) => {
            to.copy_from_slice(&n.to_le_bytes());
        }
        (FieldType::Float32, Value::Float32(x)) => to.copy_from_slice(&x.to_le_bytes()),
        (FieldType::Float64, Value::Float64(x)) => to.copy_from_slice(&x.to_le_bytes()),
        (FieldType::Decimal64(scale), Value::Decimal(n, s)) if scale == *s => {
            to.copy_from_slice(&n.to_le_bytes());
        }
        (FieldType::Bytes(_), Value::Bytes(bytes)) if bytes.len() == to.len() => {
            to.copy_from_slice(bytes);
        }
        (FieldType::String(_), Value::String(text))
            if text.len() <= to.len() && !text.contains('\0') =>
        {
            to.fill(0);
            to[..text.len()].copy_from_slice(text.as_bytes());
        }
        _ => return None,
    }
    Some(())
}
