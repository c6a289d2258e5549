//! Where each field lies in a record. Computed once from the spec, then only read.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use crate::bytes::get_u64;
use crate::checksum::fnv1a;
use crate::error::{Error, Result};
use crate::schema::{FeedSpec, FieldSpec, FieldType, MAX_RECORD_BYTES};
use crate::show::quoted;
use crate::time::TimeUnit;

/// A field's place in the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The name, unique in the layout.
    pub name: String,
    /// The type.
    pub kind: FieldType,
    /// Offset in the record, in bytes.
    pub offset: usize,
    /// A description for people.
    pub desc: String,
    /// The value of an empty cell or a missing key, as the spec gives it.
    pub default: Option<serde_json::Value>,
}

impl Field {
    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.kind.size()
    }

    /// Returns the byte range of the field within a record.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.size()
    }
}

/// The layout of a record: fields in order, padding, size and time column.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    fields: Vec<Field>,
    padding: Vec<Range<usize>>,
    record_size: usize,
    time_field: usize,
    unit: TimeUnit,
    packed: bool,
    hash: u64,
}

const RESERVED: [&str; 2] = ["_seq", "_feed"];

impl Layout {
    /// Computes the layout of `spec`. Fields keep their order and are naturally aligned unless
    /// packed; the record size is rounded up to the widest alignment.
    ///
    /// # Errors
    /// [`Error::Spec`] for duplicate or reserved names, a missing or mistyped time column, or a
    /// record over 16 KiB.
    pub fn new(spec: &FeedSpec) -> Result<Layout> {
        let wrong = |what: String| Error::Spec(format!("feed {}: {what}", quoted(&spec.feed_name)));
        let mut fields: Vec<Field> = Vec::new();
        let mut padding = Vec::new();
        let mut names = HashSet::new();
        let (mut at, mut widest): (usize, usize) = (0, 1);
        for field in &spec.fields {
            let align = if spec.packed { 1 } else { field.kind.align() };
            let start = at.next_multiple_of(align);
            push_padding(&mut padding, at..start);
            (at, widest) = (start + field.kind.size(), widest.max(align));
            if at > MAX_RECORD_BYTES {
                return Err(wrong(format!("a record is at most {MAX_RECORD_BYTES} bytes")));
            }
            if let FieldType::Pad(_) = field.kind {
                push_padding(&mut padding, start..at);
                continue;
            }
            check_field(field).map_err(wrong)?;
            if !names.insert(field.name.as_str()) {
                return Err(wrong(format!("two fields are named {}", quoted(&field.name))));
            }
            fields.push(Field {
                name: field.name.clone(),
                kind: field.kind,
                offset: start,
                desc: field.desc.clone(),
                default: field.default.clone(),
            });
        }
        let record_size = at.next_multiple_of(widest);
        push_padding(&mut padding, at..record_size);
        let time_field = fields.iter().position(|f| f.name == spec.ts_col).ok_or_else(|| {
            wrong(format!("the time column {} is not among the fields", quoted(&spec.ts_col)))
        })?;
        if !matches!(fields[time_field].kind, FieldType::Uint64 | FieldType::Timestamp) {
            return Err(wrong(format!(
                "the time column {:?} is {}; it must be uint64 or timestamp",
                spec.ts_col, fields[time_field].kind
            )));
        }
        let mut layout = Layout {
            fields,
            padding,
            record_size,
            time_field,
            unit: spec.time_unit,
            packed: spec.packed,
            hash: 0,
        };
        layout.hash = fnv1a(layout.canonical().as_bytes());
        Ok(layout)
    }

    /// Returns the fields that hold values, in record order, without padding.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns the field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Returns the position of the field with this name in [`Layout::fields`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// Returns the bytes that belong to no field and are always zero: explicit and implicit
    /// padding.
    pub fn padding(&self) -> &[Range<usize>] {
        &self.padding
    }

    /// Returns the size of a record in bytes.
    pub fn record_size(&self) -> usize {
        self.record_size
    }

    /// Returns the time column.
    pub fn time_field(&self) -> &Field {
        &self.fields[self.time_field]
    }

    /// Returns the unit of the time column and of every `timestamp` field.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// Whether the layout is packed, without alignment.
    pub fn packed(&self) -> bool {
        self.packed
    }

    /// Whether the field at `position` holds times, as the time column and every `timestamp` field
    /// do.
    pub fn is_time(&self, position: usize) -> bool {
        position == self.time_field || self.fields[position].kind == FieldType::Timestamp
    }

    /// Returns the layout's identity: the FNV-1a hash of [`Layout::canonical`].
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the time of one record.
    ///
    /// # Panics
    /// If `record` ends before the time column does.
    #[inline(always)]
    pub fn time_of(&self, record: &[u8]) -> u64 {
        get_u64(record, self.fields[self.time_field].offset)
    }

    /// Returns the text that is hashed and stored in the feed registry: a line per field, then the
    /// record.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        for field in &self.fields {
            let _ = writeln!(text, "{} {} {}", field.offset, field.kind, field.name);
        }
        let time = &self.fields[self.time_field].name;
        let _ = writeln!(text, "record {} time {time} {}", self.record_size, self.unit);
        text
    }

    /// Returns a line for each difference between this layout and `asked`; empty if they are equal.
    pub fn difference(&self, asked: &Layout) -> Vec<String> {
        let mut found = Vec::new();
        for field in &self.fields {
            match asked.field(&field.name) {
                None => found.push(format!("field {} is missing", field.name)),
                Some(other) if other.kind != field.kind => found.push(format!(
                    "field {} is {}, asked for {}",
                    field.name, field.kind, other.kind
                )),
                Some(other) if other.offset != field.offset => found.push(format!(
                    "field {} is at byte {}, asked for {}",
                    field.name, field.offset, other.offset
                )),
                Some(_) => {}
            }
        }
        for field in &asked.fields {
            if self.field(&field.name).is_none() {
                found.push(format!("field {} ({}) is new", field.name, field.kind));
            }
        }
        let mut pair = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                found.push(format!("{what} is {ours}, asked for {theirs}"));
            }
        };
        pair("record size", self.record_size.to_string(), asked.record_size.to_string());
        pair("time column", self.time_field().name.clone(), asked.time_field().name.clone());
        pair("time unit", self.unit.to_string(), asked.unit.to_string());
        found
    }

    /// Returns a record of zeros, a valid value of every type.
    pub fn zeroed(&self) -> Vec<u8> {
        vec![0; self.record_size]
    }
}

fn check_field(field: &FieldSpec) -> std::result::Result<(), String> {
    let name = &field.name;
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        let name = quoted(name);
        return Err(format!("field name {name}: 1 to 255 bytes, no control characters"));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("field name {name:?} is reserved"));
    }
    Ok(())
}

fn push_padding(padding: &mut Vec<Range<usize>>, range: Range<usize>) {
    match padding.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => padding.push(range),
    }
}
