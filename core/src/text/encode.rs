//! Writes records as text or bytes. An encoder is compiled once from the layout.
//!
//! Modules `format` (numbers and times) and `escape` (text) say how each value is written and why
//! it reads back exactly. Module `program` says how rows are made fast.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;

use super::escape::{Style, cell, json_string};
use super::npy::Npy;
use super::program::Program;
use super::table::Table;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::schema::FieldType;

/// The output formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// One JSON object per line.
    #[default]
    Jsonl,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Tab-separated values, quoted like CSV.
    Tsv,
    /// The stored bytes of the records.
    Raw,
    /// One NumPy structured array.
    Npy,
    /// Aligned columns for people.
    Table,
}

const FORMATS: [(&str, OutputFormat); 6] = [
    ("jsonl", OutputFormat::Jsonl),
    ("csv", OutputFormat::Csv),
    ("tsv", OutputFormat::Tsv),
    ("raw", OutputFormat::Raw),
    ("npy", OutputFormat::Npy),
    ("table", OutputFormat::Table),
];

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMATS.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for OutputFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        FORMATS.iter().find(|(name, _)| *name == text).map(|&(_, format)| format).ok_or_else(|| {
            let names = FORMATS.map(|(name, _)| name).join(", ");
            Error::Spec(format!("no output format {text:?}; there are {names}"))
        })
    }
}

/// How times are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TimeStyle {
    /// As the stored integer, in the feed's unit.
    #[default]
    Raw,
    /// As RFC 3339 in this zone: six fraction digits in microsecond feeds, nine in nanosecond
    /// feeds. Applies to the time column and to every `timestamp` field.
    Rfc3339(TimeZone),
}

/// How JSON shows numbers that JavaScript would round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntStyle {
    /// As numbers.
    #[default]
    Number,
    /// `int64`, `uint64`, `timestamp`, `decimal64` and `_seq` as strings.
    String,
}

/// What an [`Encoder`] writes, apart from the format.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    /// The fields to write, in this order. `None`: all fields, in record order.
    pub fields: Option<Vec<String>>,
    /// Whether csv, tsv and table begin with the field names.
    pub header: bool,
    /// How times are written.
    pub time: TimeStyle,
    /// How JSON shows 64-bit numbers.
    pub ints: IntStyle,
    /// Whether a record's seq comes first, as `_seq`.
    pub with_seq: bool,
    /// The feed's name, written as `_feed` before the fields and after `_seq`; empty for no such
    /// column. Give several names for records of several feeds, and call [`Encoder::set_feed`] when
    /// the feed changes.
    pub with_feed: Vec<String>,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            fields: None,
            header: true,
            time: TimeStyle::Raw,
            ints: IntStyle::Number,
            with_seq: false,
            with_feed: Vec::new(),
        }
    }
}

impl EncodeOptions {
    /// Returns the positions in [`Layout::fields`] of the fields to write.
    ///
    /// # Errors
    /// [`Error::Spec`] for an unknown field (the message lists the fields) or one that is named
    /// twice.
    pub(super) fn chosen(&self, layout: &Layout) -> Result<Vec<usize>> {
        let Some(names) = &self.fields else {
            return Ok((0..layout.fields().len()).collect());
        };
        let mut chosen = Vec::new();
        for name in names {
            let position = layout.position(name).ok_or_else(|| no_field(layout, name))?;
            if chosen.contains(&position) {
                return Err(Error::Spec(format!("field {name:?} is chosen twice")));
            }
            chosen.push(position);
        }
        if chosen.is_empty() {
            return Err(Error::Spec(format!(
                "no fields are chosen; there are {}",
                names_of(layout)
            )));
        }
        Ok(chosen)
    }
}

/// Returns the names of a layout's fields, for messages.
pub(super) fn names_of(layout: &Layout) -> String {
    let names: Vec<&str> = layout.fields().iter().map(|field| field.name.as_str()).collect();
    names.join(", ")
}

pub(super) fn no_field(layout: &Layout, name: &str) -> Error {
    Error::Spec(format!("no field {name:?}; the fields are {}", names_of(layout)))
}

/// Writes records in one format. Compile it once, then give it runs of consecutive records.
#[derive(Clone, Debug)]
pub struct Encoder {
    record_size: usize,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Rows(Box<Rows>),
    Raw,
    Npy(Npy),
    Table(Box<Table>),
}

impl Encoder {
    /// Compiles an encoder for `layout`'s records.
    ///
    /// # Errors
    /// [`Error::Spec`] for a field that is unknown (the message lists the fields) or chosen twice,
    /// and for raw output of anything but whole records.
    pub fn new(layout: &Layout, format: OutputFormat, options: &EncodeOptions) -> Result<Encoder> {
        let form = match format {
            OutputFormat::Jsonl => Form::Rows(Box::new(Rows::json(layout, options)?)),
            OutputFormat::Csv => Form::Rows(Box::new(Rows::delimited(layout, options, b',')?)),
            OutputFormat::Tsv => Form::Rows(Box::new(Rows::delimited(layout, options, b'\t')?)),
            OutputFormat::Npy => Form::Npy(Npy::new(layout, options)?),
            OutputFormat::Table => Form::Table(Box::new(Table::new(layout, options)?)),
            OutputFormat::Raw => {
                if options.fields.is_some() || options.with_seq || !options.with_feed.is_empty() {
                    return Err(Error::Spec(
                        "raw output is the records as they are stored; fields are chosen and _seq \
                         and _feed added in jsonl, csv, tsv, npy and table"
                            .into(),
                    ));
                }
                Form::Raw
            }
        };
        Ok(Encoder { record_size: layout.record_size(), form })
    }

    /// Sets the feed of the next records, by its position in [`EncodeOptions::with_feed`].
    pub fn set_feed(&mut self, feed: usize) {
        match &mut self.form {
            Form::Rows(rows) => rows.feed = feed.min(rows.programs.len() - 1),
            Form::Npy(npy) => npy.set_feed(feed),
            Form::Table(table) => table.set_feed(feed),
            Form::Raw => {}
        }
    }

    /// Appends what comes before the first record: the header line of csv and tsv, or the header of
    /// an npy file of `count` records. A table writes its header with its first rows.
    pub fn head(&self, out: &mut Vec<u8>, count: u64) {
        match &self.form {
            Form::Rows(rows) => out.extend_from_slice(&rows.head),
            Form::Npy(npy) => npy.head(out, count),
            Form::Raw | Form::Table(_) => {}
        }
    }

    /// Appends consecutive records to `out`. `bytes` holds whole records and `first_seq` is the seq
    /// of the first. A remainder shorter than a record is ignored.
    ///
    /// `out` grows by the text of these records, so pass no more than about 64 KiB at a time.
    pub fn records(&mut self, bytes: &[u8], first_seq: u64, out: &mut Vec<u8>) {
        let records = bytes.chunks_exact(self.record_size);
        match &mut self.form {
            Form::Rows(rows) => rows.programs[rows.feed].records(records, first_seq, out),
            Form::Raw => out.extend_from_slice(&bytes[..records.len() * self.record_size]),
            Form::Npy(npy) => npy.records(records, first_seq, out),
            Form::Table(table) => table.records(records, first_seq, out),
        }
    }

    /// Appends rows that are still held back. Only tables hold rows back: the first ones, until
    /// there are enough to fix the column widths. Call this earlier if live rows must not wait; it
    /// fixes the widths then.
    pub fn tail(&mut self, out: &mut Vec<u8>) {
        if let Form::Table(table) = &mut self.form {
            table.flush(out);
        }
    }
}

/// An encoder for jsonl, csv or tsv.
#[derive(Clone, Debug)]
struct Rows {
    /// One program for each feed that rows name, or one for all.
    programs: Vec<Program>,
    /// Index of the program for the next records.
    feed: usize,
    head: Vec<u8>,
}

/// Returns the feeds that rows name, or one `None` if they name none.
fn feeds(options: &EncodeOptions) -> Vec<Option<&str>> {
    let names: Vec<_> = options.with_feed.iter().map(|name| Some(name.as_str())).collect();
    if names.is_empty() { vec![None] } else { names }
}

impl Rows {
    fn json(layout: &Layout, options: &EncodeOptions) -> Result<Rows> {
        let program = |feed: Option<&str>| Self::json_program(layout, options, feed);
        let programs = feeds(options).into_iter().map(program).collect::<Result<_>>()?;
        Ok(Rows { programs, feed: 0, head: Vec::new() })
    }

    fn json_program(
        layout: &Layout,
        options: &EncodeOptions,
        feed: Option<&str>,
    ) -> Result<Program> {
        let mut program = Program::new(layout, options, Style::Json);
        let strings = options.ints == IntStyle::String;
        let mut between = b'{';
        let mut key = |program: &mut Program, name: &str| {
            program.text(&[between]);
            program.text(&json_string(name));
            program.text(b":");
            between = b',';
        };
        if options.with_seq {
            key(&mut program, "_seq");
            quoted(&mut program, strings, Program::seq);
        }
        if let Some(feed) = feed {
            key(&mut program, "_feed");
            program.text(&json_string(feed));
        }
        for position in options.chosen(layout)? {
            let field = &layout.fields()[position];
            key(&mut program, &field.name);
            let text = match field.kind {
                _ if program.shows_time(layout, position) => true,
                FieldType::Char | FieldType::Bytes(_) | FieldType::String(_) => true,
                FieldType::Int64
                | FieldType::Uint64
                | FieldType::Timestamp
                | FieldType::Decimal64(_) => strings,
                _ => false,
            };
            quoted(&mut program, text, |program| program.field(layout, position));
        }
        program.text(b"}\n");
        program.end();
        Ok(program)
    }

    fn delimited(layout: &Layout, options: &EncodeOptions, delimiter: u8) -> Result<Rows> {
        let mut head = Vec::new();
        let mut programs = Vec::new();
        for feed in feeds(options) {
            head.clear();
            programs.push(Self::cells(layout, options, delimiter, feed, &mut head)?);
        }
        if !options.header {
            head.clear();
        }
        Ok(Rows { programs, feed: 0, head })
    }

    fn cells(
        layout: &Layout,
        options: &EncodeOptions,
        delimiter: u8,
        feed: Option<&str>,
        head: &mut Vec<u8>,
    ) -> Result<Program> {
        let chosen = options.chosen(layout)?;
        let others = usize::from(options.with_seq) + usize::from(feed.is_some());
        let alone = chosen.len() + others == 1;
        let quote_empty = alone
            || chosen
                .iter()
                .map(|&position| &layout.fields()[position])
                .any(|field| field.default.is_some() && matches!(field.kind, FieldType::String(_)));
        let mut program = Program::new(layout, options, Style::Cell { delimiter, quote_empty });
        let mut name = |program: &mut Program, name: &str| {
            if !head.is_empty() {
                head.push(delimiter);
                program.text(&[delimiter]);
            }
            head.extend_from_slice(&cell(name, delimiter));
        };
        if options.with_seq {
            name(&mut program, "_seq");
            program.seq();
        }
        if let Some(feed) = feed {
            name(&mut program, "_feed");
            program.text(&cell(feed, delimiter));
        }
        for position in chosen {
            name(&mut program, &layout.fields()[position].name);
            program.field(layout, position);
        }
        program.text(b"\n");
        program.end();
        head.push(b'\n');
        Ok(program)
    }
}

/// Adds a value, between double quotes if `quotes`.
fn quoted(program: &mut Program, quotes: bool, value: impl FnOnce(&mut Program)) {
    let quote: &[u8] = if quotes { b"\"" } else { b"" };
    program.text(quote);
    value(program);
    program.text(quote);
}
