//! Writes NumPy's `.npy` files: a header that describes the record, then the stored records.
//!
//! Whole records keep their padding, described by unnamed void fields as NumPy itself writes them.
//! So records are copied unchanged. Chosen fields are packed side by side.

use std::fmt::Write as _;
use std::ops::Range;
use std::slice::ChunksExact;

use super::encode::EncodeOptions;
use super::escape::python_string;
use crate::error::Result;
use crate::layout::Layout;
use crate::schema::FieldType;

/// The source of an element's bytes.
#[derive(Clone, Debug)]
enum Part {
    Seq,
    /// The feed's name, padded to the length of the longest name.
    Feed,
    Record(Range<usize>),
}

/// A compiled npy output.
#[derive(Clone, Debug)]
pub(super) struct Npy {
    /// The dtype of an element, as a list of fields.
    descr: String,
    parts: Vec<Part>,
    /// The names of the feeds, padded to one length, and the index of the next records' feed.
    feeds: Vec<Vec<u8>>,
    feed: usize,
}

impl Npy {
    pub fn new(layout: &Layout, options: &EncodeOptions) -> Result<Npy> {
        let width = options.with_feed.iter().map(String::len).max().unwrap_or(0).max(1);
        let padded = |name: &String| {
            let mut bytes = name.clone().into_bytes();
            bytes.resize(width, 0);
            bytes
        };
        let feeds: Vec<_> = options.with_feed.iter().map(padded).collect();
        let mut npy = Npy { descr: String::from("["), parts: Vec::new(), feeds, feed: 0 };
        if options.with_seq {
            npy.field("_seq", "<u8");
            npy.parts.push(Part::Seq);
        }
        if !options.with_feed.is_empty() {
            npy.field("_feed", &format!("|S{width}"));
            npy.parts.push(Part::Feed);
        }
        let chosen = options.chosen(layout)?;
        if options.fields.is_some() {
            for field in chosen.into_iter().map(|position| &layout.fields()[position]) {
                npy.field(&field.name, &code(field.kind));
                npy.parts.push(Part::Record(field.range()));
            }
        } else {
            npy.whole(layout);
        }
        npy.descr.push(']');
        Ok(npy)
    }

    /// Sets the feed of the next records.
    pub fn set_feed(&mut self, feed: usize) {
        self.feed = feed;
    }

    /// Adds every field of the record, with its padding.
    fn whole(&mut self, layout: &Layout) {
        let mut at = 0;
        for field in layout.fields() {
            self.padding(field.offset - at);
            self.field(&field.name, &code(field.kind));
            at = field.range().end;
        }
        self.padding(layout.record_size() - at);
        self.parts.push(Part::Record(0..layout.record_size()));
    }

    fn padding(&mut self, size: usize) {
        if size > 0 {
            self.field("", &format!("|V{size}"));
        }
    }

    fn field(&mut self, name: &str, code: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.descr, "({}, '{code}'), ", python_string(name));
    }

    /// Appends the header of a file of `count` records. It has version 1.0, or 2.0 if the
    /// description is too long for that. It is padded so that records begin at a multiple of 64.
    pub fn head(&self, out: &mut Vec<u8>, count: u64) {
        let text =
            format!("{{'descr': {}, 'fortran_order': False, 'shape': ({count},), }}", self.descr);
        let size = |before: usize| (before + text.len() + 1).next_multiple_of(64) - before;
        out.extend_from_slice(b"\x93NUMPY");
        let size = match u16::try_from(size(10)) {
            Ok(size) => {
                out.extend_from_slice(&[1, 0]);
                out.extend_from_slice(&size.to_le_bytes());
                usize::from(size)
            }
            Err(_) => {
                let size = size(12);
                out.extend_from_slice(&[2, 0]);
                out.extend_from_slice(&(size as u32).to_le_bytes());
                size
            }
        };
        out.extend_from_slice(text.as_bytes());
        out.resize(out.len() + size - text.len() - 1, b' ');
        out.push(b'\n');
    }

    /// Appends an element for each record.
    pub fn records(&self, records: ChunksExact<'_, u8>, first_seq: u64, out: &mut Vec<u8>) {
        for (seq, record) in (first_seq..).zip(records) {
            for part in &self.parts {
                match part {
                    Part::Seq => out.extend_from_slice(&seq.to_le_bytes()),
                    Part::Feed => out.extend_from_slice(&self.feeds[self.feed]),
                    Part::Record(range) => out.extend_from_slice(&record[range.clone()]),
                }
            }
        }
    }
}

/// Returns NumPy's code for a type. Times stay integers, decimals stay scaled.
pub(super) fn code(kind: FieldType) -> String {
    match kind {
        FieldType::Char => "|S1".into(),
        FieldType::Bool => "|b1".into(),
        FieldType::Int8 => "|i1".into(),
        FieldType::Int16 => "<i2".into(),
        FieldType::Int32 => "<i4".into(),
        FieldType::Int64 | FieldType::Decimal64(_) => "<i8".into(),
        FieldType::Uint8 => "|u1".into(),
        FieldType::Uint16 => "<u2".into(),
        FieldType::Uint32 => "<u4".into(),
        FieldType::Uint64 | FieldType::Timestamp => "<u8".into(),
        FieldType::Float32 => "<f4".into(),
        FieldType::Float64 => "<f8".into(),
        FieldType::String(n) => format!("|S{n}"),
        FieldType::Bytes(n) | FieldType::Pad(n) => format!("|V{n}"),
    }
}
