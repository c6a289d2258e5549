//! Parses bytes into records: what all input formats share, and [`Parser`], which handles all of
//! them.

use std::sync::Arc;

use super::csv::Csv;
use super::json::Json;
use super::mapping::{self, Source};
use super::raw::Raw;
use super::reject::{Fault, Reject};
use super::timestamp::{TimeOptions, Times};
use super::value::{self, Op};
use crate::error::{Error, Result};
use crate::layout::Layout;

/// A batch is returned once it holds this many bytes of records or this many rejects.
pub(crate) const FULL_BYTES: usize = 1 << 20;
const FULL_REJECTS: usize = 256;
/// The longest line; a longer one is rejected.
pub const LONGEST_LINE_BYTES: usize = 64 << 20;
const TOO_LONG: &str = "a line of more than 64 MiB; it is passed over up to its end";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A format of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    /// Comma-separated values, quoted where needed (RFC 4180).
    Csv,
    /// Tab-separated values, quoted like CSV.
    Tsv,
    /// One JSON object or array per line.
    Jsonl,
    /// Binary records, as stored.
    Raw,
}

impl InputFormat {
    /// Detects the format from the beginning of the input; never returns raw.
    ///
    /// The input is JSON lines if its first character after a byte order mark and blanks is `{` or
    /// `[`. It is TSV if its first line has tabs and no comma. Otherwise it is CSV.
    ///
    /// `end` means that `head` is the whole input. Returns `None` if more bytes are needed.
    pub fn detect(head: &[u8], end: bool) -> Option<InputFormat> {
        if head.len() < BOM.len() && BOM.starts_with(head) && !end {
            return None;
        }
        let head = head.strip_prefix(BOM).unwrap_or(head);
        let blank = |c: &u8| c.is_ascii_whitespace();
        let Some(start) = head.iter().position(|c| !blank(c)) else {
            return end.then_some(InputFormat::Csv);
        };
        if matches!(head[start], b'{' | b'[') {
            return Some(InputFormat::Jsonl);
        }
        let begin = head[..start].iter().rposition(|&c| c == b'\n').map_or(0, |at| at + 1);
        let line = match memchr::memchr(b'\n', &head[begin..]) {
            Some(length) => &head[begin..begin + length],
            None if end => &head[begin..],
            None => return None,
        };
        let has = |c| memchr::memchr(c, line).is_some();
        Some(if has(b'\t') && !has(b',') { InputFormat::Tsv } else { InputFormat::Csv })
    }
}

/// How to treat a last line without a newline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinalLine {
    /// Accept it as a row.
    #[default]
    Accept,
    /// Reject it: the row may have been cut short.
    Reject,
}

/// Describes the input to a [`Parser`].
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// The format.
    pub format: InputFormat,
    /// Whether the first row is a header. `None`: it is one if every cell names a field, or if it
    /// has every header that `map` names.
    pub header: Option<bool>,
    /// The column names in order, `None` for a column to skip. They replace those of a header. In
    /// JSON, they name the elements of an array row.
    pub columns: Option<Vec<Option<String>>>,
    /// Field names and their sources, for fields that do not come from a column of their own name.
    pub map: Vec<(String, Source)>,
    /// A JSON pointer to an array; each of its elements becomes a record.
    pub explode: Option<String>,
    /// Selects JSON messages: every pointer must exist, and have the given value if there is one.
    pub where_: Vec<(String, Option<String>)>,
    /// How times are written.
    pub times: TimeOptions,
    /// Makes unused columns and keys an error.
    pub strict: bool,
    /// How to treat a last line without a newline.
    pub final_line: FinalLine,
}

impl InputOptions {
    /// Returns the defaults for a format.
    pub fn new(format: InputFormat) -> InputOptions {
        InputOptions {
            format,
            header: None,
            columns: None,
            map: Vec::new(),
            explode: None,
            where_: Vec::new(),
            times: TimeOptions::default(),
            strict: false,
            final_line: FinalLine::default(),
        }
    }
}

/// Counts since the parser was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseStats {
    /// Rows (JSON: messages) that the fast parser handled.
    pub fast: u64,
    /// Rows that the general parser accepted, skipped or rejected.
    pub slow: u64,
    /// JSON messages that `where_` or `explode` skipped.
    pub passed_over: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Lines consumed, including empty lines and the header (raw: records).
    pub lines: u64,
}

/// Parsed records and rejected rows.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records, back to back.
    pub records: Vec<u8>,
    /// Rejected rows, in input order.
    pub rejects: Vec<Reject>,
    /// Number of messages skipped by `where_` or `explode`.
    pub passed_over: u64,
    runs: Vec<Run>,
    /// The line that extends the last run: if the next row has this number, no new run is needed.
    next_line: u64,
}

/// Records from index `record` on come from `line` on: one line each, unless `one_line`, where all
/// come from that line.
#[derive(Clone, Copy, Debug)]
struct Run {
    record: usize,
    line: u64,
    one_line: bool,
}

impl Batch {
    /// Returns an empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Empties the batch but keeps its memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.rejects.clear();
        self.runs.clear();
        (self.passed_over, self.next_line) = (0, 0);
    }

    /// Whether the batch holds neither records nor rejects.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.rejects.is_empty()
    }

    /// Returns the line (raw: the record number), from 1, that record number `record` of the batch
    /// came from.
    pub fn line_of(&self, record: usize) -> Option<u64> {
        let run = self.runs[..self.runs.partition_point(|run| run.record <= record)].last()?;
        let further = if run.one_line { 0 } else { (record - run.record) as u64 };
        Some(run.line + further)
    }

    pub(crate) fn full(&self) -> bool {
        self.records.len() >= FULL_BYTES || self.rejects.len() >= FULL_REJECTS
    }

    /// Notes that the record at byte `start` of the records came from `line`.
    #[inline(always)]
    pub(crate) fn row(&mut self, line: u64, start: usize, size: usize) {
        self.rows(line, start, size, 1);
    }

    /// Notes that `count` records, from byte `start` on, came from one line each, starting at
    /// `line`.
    #[inline(always)]
    pub(crate) fn rows(&mut self, line: u64, start: usize, size: usize, count: u64) {
        if line != self.next_line {
            self.runs.push(Run { record: start / size, line, one_line: false });
        }
        self.next_line = line + count;
    }

    /// Notes that all records from byte `start` on came from `line`.
    pub(crate) fn message(&mut self, line: u64, start: usize, size: usize) {
        self.runs.push(Run { record: start / size, line, one_line: true });
        self.next_line = 0;
    }
}

/// State that the parsers of all formats share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub format: InputFormat,
    pub layout: Arc<Layout>,
    pub ops: Vec<Op>,
    /// The record that every row starts from: zeros, defaults and the arrival time.
    pub blank: Vec<u8>,
    pub times: Times,
    pub sources: Vec<Option<Source>>,
    pub strict: bool,
    /// The number of the next line.
    pub line: u64,
    pub stats: ParseStats,
    /// Whether to use the fast parser. Tests turn it off to compare the two.
    pub fast: bool,
}

impl Shared {
    pub(crate) fn reject(&mut self, mut fault: Fault, row: &[u8], batch: &mut Batch) {
        // The reject names the row's first line, so a fault on a later line is placed at the end of
        // the first.
        if !matches!(self.format, InputFormat::Raw) {
            fault.at = fault.at.min(memchr::memchr(b'\n', row).unwrap_or(row.len()));
        }
        let after = batch.records.len() / self.layout.record_size();
        batch.rejects.push(Reject::new(self.line, fault, row, after));
        self.stats.rejected += 1;
    }

    /// Makes the fault of a field whose value is invalid.
    pub(crate) fn fault(
        &self,
        at: usize,
        field: usize,
        text: &[u8],
        why: &super::reject::Why,
    ) -> Fault {
        let field = &self.layout.fields()[field];
        Fault::value(at, &field.name, field.kind, text, why)
    }
}

#[derive(Debug)]
enum Format {
    Csv(Box<Csv>),
    Json(Box<Json>),
    Raw(Raw),
}

/// Turns one input into records. Every input needs a new parser.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    shared: Shared,
    stamped: Vec<Op>,
    final_line: FinalLine,
    /// Whether a possible byte order mark has been skipped.
    started: bool,
    /// How many of the bytes not yet consumed were searched for newlines, and how many of them are
    /// complete lines.
    searched: usize,
    complete: usize,
    /// Whether the parser is inside a line that was rejected as too long.
    passing: bool,
}

impl Parser {
    /// Compiles the options against the layout.
    ///
    /// # Errors
    /// [`Error::Spec`] for a mapping, column or pointer that is malformed, names no field, or
    /// leaves a field without a source. For CSV whose first row may be a header, [`Parser::parse`]
    /// reports fields without a source.
    pub fn new(layout: Arc<Layout>, options: InputOptions) -> Result<Parser> {
        let sources = mapping::sources(&layout, &options.map)?;
        mapping::check_zone(options.times.zone.as_ref())?;
        if let Some(columns) = &options.columns {
            mapping::check_columns(&layout, &sources, columns)?;
        }
        let ops = value::ops(&layout);
        let shared = Shared {
            format: options.format,
            blank: value::blank_record(&layout, &ops)?,
            times: Times::new(&options.times, layout.unit())?,
            sources,
            strict: options.strict,
            line: 1,
            stats: ParseStats::default(),
            fast: true,
            ops,
            layout,
        };
        let stamped = (0..shared.ops.len())
            .filter(|&f| shared.sources[f] == Some(Source::Stamp))
            .map(|f| shared.ops[f])
            .collect();
        let format = match options.format {
            InputFormat::Csv | InputFormat::Tsv => {
                Format::Csv(Box::new(Csv::new(&shared, &options)?))
            }
            InputFormat::Jsonl => Format::Json(Box::new(Json::new(&shared, &options)?)),
            InputFormat::Raw => Format::Raw(Raw::new(&shared, &options)?),
        };
        Ok(Parser {
            format,
            shared,
            stamped,
            final_line: options.final_line,
            started: false,
            searched: 0,
            complete: 0,
            passing: false,
        })
    }

    /// Parses complete rows of `input` into `batch` and returns how many bytes it consumed. The
    /// next call's `input` must start with the bytes that were not consumed.
    ///
    /// Returns early when the batch is large. Clear the batch and call again until nothing is
    /// consumed; every complete row has then been parsed. `end` means that nothing follows `input`;
    /// repeated calls then consume all of it. `now` is the arrival time, in the feed's unit.
    ///
    /// # Errors
    /// A fault that makes the whole input unusable, such as a header that names a field twice or
    /// lacks one.
    pub fn parse(&mut self, input: &[u8], end: bool, now: u64, batch: &mut Batch) -> Result<usize> {
        for op in &self.stamped {
            op.put_u64(&mut self.shared.blank, now);
        }
        if let Format::Raw(raw) = &mut self.format {
            return Ok(raw.rows(&mut self.shared, input, end, batch));
        }
        let mut at = 0;
        if !self.started {
            if input.len() < BOM.len() && BOM.starts_with(input) && !end {
                return Ok(0);
            }
            self.started = true;
            at = if input.starts_with(BOM) { BOM.len() } else { 0 };
        }
        if self.passing {
            return Ok(self.pass(input, end));
        }
        let search_from = self.searched.max(at).min(input.len());
        let complete = match memchr::memrchr(b'\n', &input[search_from..]) {
            Some(last) => search_from + last + 1,
            None => self.complete.max(at).min(input.len()),
        };
        if complete > at {
            at += self.lines(&input[at..complete], false, batch)?;
        }
        if end && !batch.full() {
            at += self.rest(&input[at..], batch)?;
        }
        if !end && !batch.full() && input.len() - at >= LONGEST_LINE_BYTES {
            at += self.too_long(&input[at..], complete.saturating_sub(at), batch)?;
        }
        (self.searched, self.complete) = (input.len() - at, complete.saturating_sub(at));
        Ok(at)
    }

    /// Rejects a row that exceeds the limit: a line without an end, or a row of `complete` bytes of
    /// whole lines whose quote was never closed.
    fn too_long(&mut self, input: &[u8], complete: usize, batch: &mut Batch) -> Result<usize> {
        if complete > 0 {
            return self.lines(&input[..complete], true, batch);
        }
        self.shared.reject(Fault::new(0, TOO_LONG), input, batch);
        self.shared.stats.slow += 1;
        self.passing = true;
        Ok(input.len())
    }

    /// Skips the rest of a line that was rejected as too long.
    fn pass(&mut self, input: &[u8], end: bool) -> usize {
        let newline = memchr::memchr(b'\n', input);
        if newline.is_some() || end {
            self.passing = false;
            self.shared.line += 1;
        }
        newline.map_or(input.len(), |at| at + 1)
    }

    /// Returns the counts so far.
    pub fn stats(&self) -> ParseStats {
        ParseStats { lines: self.shared.line - 1, ..self.shared.stats }
    }

    /// Whether the input is raw, so that line numbers count records.
    pub fn is_raw(&self) -> bool {
        matches!(self.format, Format::Raw(_))
    }

    /// Parses rows from whole lines. `end` means that a quote still open will never be closed.
    fn lines(&mut self, lines: &[u8], end: bool, batch: &mut Batch) -> Result<usize> {
        match &mut self.format {
            Format::Csv(csv) => csv.rows(&mut self.shared, lines, end, batch),
            Format::Json(json) => Ok(json.rows(&mut self.shared, lines, batch)),
            Format::Raw(_) => Ok(0),
        }
    }

    /// Parses what is left at the end of the input.
    fn rest(&mut self, rest: &[u8], batch: &mut Batch) -> Result<usize> {
        if rest.is_empty() {
            return Ok(0);
        }
        if rest.ends_with(b"\n") {
            return self.lines(rest, true, batch);
        }
        if self.final_line == FinalLine::Accept {
            let mut line = Vec::with_capacity(rest.len() + 1);
            line.extend_from_slice(rest);
            line.push(b'\n');
            return Ok(self.lines(&line, true, batch)?.min(rest.len()));
        }
        let open = memchr::memrchr(b'\n', rest).map_or(0, |last| last + 1);
        let mut at = self.lines(&rest[..open], true, batch)?;
        if at == open {
            let cut = &rest[open..];
            if cut != b"\r" && !cut.is_empty() {
                let fault =
                    Fault::new(cut.len(), "no newline at the end: the row may be cut short");
                self.shared.reject(fault, cut, batch);
                self.shared.stats.slow += 1;
            }
            self.shared.line += 1;
            at = rest.len();
        }
        Ok(at)
    }

    /// Turns the fast parser off, so that tests can compare.
    #[cfg(test)]
    pub(crate) fn general_only(mut self) -> Parser {
        self.shared.fast = false;
        self
    }
}

/// Returns an error if an option for JSON is set.
pub(crate) fn only_json(options: &InputOptions) -> Result<()> {
    if options.explode.is_some() || !options.where_.is_empty() {
        return Err(Error::Spec("explode and where are for JSON lines".into()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "input_tests.rs"]
pub(crate) mod tests;
