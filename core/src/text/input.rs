//! Bytes in, records out: what the formats have in common, and the parser of them all.

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

/// A batch is handed over when it holds so many bytes of records or so many rejects.
pub(crate) const FULL_BYTES: usize = 1 << 20;
const FULL_REJECTS: usize = 256;
/// The longest line; a longer one is a rejected row.
pub const LONGEST_LINE_BYTES: usize = 64 << 20;
const TOO_LONG: &str = "a line of more than 64 MiB; it is passed over up to its end";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A format of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    /// Comma-separated values, quoted where needed (RFC 4180).
    Csv,
    /// The same with tabs.
    Tsv,
    /// A JSON object or array a line.
    Jsonl,
    /// The records themselves.
    Raw,
}

impl InputFormat {
    /// Tells the format from the beginning of the input: JSON lines if the first character
    /// after a byte order mark and blanks is `{` or `[`, TSV if the first line has tabs and no
    /// comma, else CSV; never raw. `end`: there is no more input than `head`. `None`: not enough
    /// bytes yet to say.
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

/// What a last line without a newline is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinalLine {
    /// A row like any other.
    #[default]
    Accept,
    /// A row that may have been cut short: rejected.
    Reject,
}

/// How the input is written.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// Its format.
    pub format: InputFormat,
    /// Whether the first row is a header; none: if every cell names a field.
    pub header: Option<bool>,
    /// The columns' names in order, `None` for one to skip; they replace a header's. In JSON,
    /// the names of an array row's elements.
    pub columns: Option<Vec<Option<String>>>,
    /// Where fields come from, by field name, if not from their own name.
    pub map: Vec<(String, Source)>,
    /// The array whose elements are the records: a JSON pointer.
    pub explode: Option<String>,
    /// The messages that are meant: those where every pointer exists, or has that value.
    pub where_: Vec<(String, Option<String>)>,
    /// How times are written.
    pub times: TimeOptions,
    /// Refuses columns and keys that nothing uses.
    pub strict: bool,
    /// What a last line without a newline is.
    pub final_line: FinalLine,
}

impl InputOptions {
    /// The defaults of a format.
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
    /// Rows (JSON: messages) settled by the fast parser.
    pub fast: u64,
    /// Rows settled by the general parser, accepted, passed over or rejected.
    pub slow: u64,
    /// JSON messages that `where_` or `explode` passed over.
    pub passed_over: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Lines taken, empty ones and the header included (raw: records).
    pub lines: u64,
}

/// Records parsed, and what was refused between them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records, back to back.
    pub records: Vec<u8>,
    /// Rows refused, in input order.
    pub rejects: Vec<Reject>,
    /// Messages passed over.
    pub passed_over: u64,
    runs: Vec<Run>,
    /// The line that continues the last run.
    next_line: u64,
}

/// Records from `record` on come from `line` on: one line each, or all from that line.
#[derive(Clone, Copy, Debug)]
struct Run {
    record: usize,
    line: u64,
    one_line: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Empties the batch; its memory is kept.
    pub fn clear(&mut self) {
        self.records.clear();
        self.rejects.clear();
        self.runs.clear();
        (self.passed_over, self.next_line) = (0, 0);
    }

    /// Whether it holds neither records nor rejects.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.rejects.is_empty()
    }

    /// The line (raw: the record number), from 1, that the batch's record `record` came from.
    pub fn line_of(&self, record: usize) -> Option<u64> {
        let run = self.runs[..self.runs.partition_point(|run| run.record <= record)].last()?;
        let further = if run.one_line { 0 } else { (record - run.record) as u64 };
        Some(run.line + further)
    }

    pub(crate) fn full(&self) -> bool {
        self.records.len() >= FULL_BYTES || self.rejects.len() >= FULL_REJECTS
    }

    /// One record, at byte `start` of the records, came from `line`.
    #[inline(always)]
    pub(crate) fn row(&mut self, line: u64, start: usize, size: usize) {
        self.rows(line, start, size, 1);
    }

    /// So many records, from byte `start` of the records on, came from a line each.
    #[inline(always)]
    pub(crate) fn rows(&mut self, line: u64, start: usize, size: usize, count: u64) {
        if line != self.next_line {
            self.runs.push(Run { record: start / size, line, one_line: false });
        }
        self.next_line = line + count;
    }

    /// All records from byte `start` on came from `line`.
    pub(crate) fn message(&mut self, line: u64, start: usize, size: usize) {
        self.runs.push(Run { record: start / size, line, one_line: true });
        self.next_line = 0;
    }
}

/// What every format's parser works with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub format: InputFormat,
    pub layout: Arc<Layout>,
    pub ops: Vec<Op>,
    /// The record that rows start from: zeros, defaults, arrival times.
    pub blank: Vec<u8>,
    pub times: Times,
    pub sources: Vec<Option<Source>>,
    pub strict: bool,
    /// The number of the next line.
    pub line: u64,
    pub stats: ParseStats,
    /// False only where tests ask what the general parser alone says.
    pub fast: bool,
}

impl Shared {
    pub(crate) fn reject(&mut self, mut fault: Fault, row: &[u8], batch: &mut Batch) {
        // The line is the row's first; a fault further down is told at its end.
        if !matches!(self.format, InputFormat::Raw) {
            fault.at = fault.at.min(memchr::memchr(b'\n', row).unwrap_or(row.len()));
        }
        let after = batch.records.len() / self.layout.record_size();
        batch.rejects.push(Reject::new(self.line, fault, row, after));
        self.stats.rejected += 1;
    }

    /// A field's value that is not one.
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

/// Turns one input into records; an input that begins anew needs a new parser.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    shared: Shared,
    stamped: Vec<Op>,
    final_line: FinalLine,
    /// Past a possible byte order mark.
    started: bool,
    /// How many of the bytes not yet taken were searched for newlines, and where the last is.
    searched: usize,
    complete: usize,
    /// In a line that is too long and was rejected.
    passing: bool,
}

impl Parser {
    /// Compiles the options against the layout.
    ///
    /// # Errors
    /// [`Error::Spec`] for a mapping, column or pointer that is wrong, names no field, or leaves
    /// a field without a source; for CSV whose first row may name columns, the last is found by
    /// [`Parser::parse`].
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

    /// Parses complete rows of `input` into `batch` and returns how many bytes it took. The
    /// bytes it did not take come again at the front of the next call's `input`.
    ///
    /// A call returns early when the batch is large: call again, with the batch cleared, until
    /// it takes nothing; every complete row has then been taken. `end`: nothing follows `input`;
    /// everything is then taken in the end. `now`: the arrival time, in the feed's unit.
    ///
    /// # Errors
    /// What makes the whole input unusable: a header that names a field twice or lacks one.
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

    /// Rejects what is longer than a row may be: a row that waits for its closing quote, `complete`
    /// bytes of whole lines, or a line without an end.
    fn too_long(&mut self, input: &[u8], complete: usize, batch: &mut Batch) -> Result<usize> {
        if complete > 0 {
            return self.lines(&input[..complete], true, batch);
        }
        self.shared.reject(Fault::new(0, TOO_LONG), input, batch);
        self.shared.stats.slow += 1;
        self.passing = true;
        Ok(input.len())
    }

    /// Passes over a line that was too long, up to its end.
    fn pass(&mut self, input: &[u8], end: bool) -> usize {
        let newline = memchr::memchr(b'\n', input);
        if newline.is_some() || end {
            self.passing = false;
            self.shared.line += 1;
        }
        newline.map_or(input.len(), |at| at + 1)
    }

    /// The counts so far.
    pub fn stats(&self) -> ParseStats {
        ParseStats { lines: self.shared.line - 1, ..self.shared.stats }
    }

    /// Whether lines are records, as [`InputFormat::Raw`] has them.
    pub fn is_raw(&self) -> bool {
        matches!(self.format, Format::Raw(_))
    }

    /// Rows of whole lines; `end`: a row that is still open will never be closed.
    fn lines(&mut self, lines: &[u8], end: bool, batch: &mut Batch) -> Result<usize> {
        match &mut self.format {
            Format::Csv(csv) => csv.rows(&mut self.shared, lines, end, batch),
            Format::Json(json) => Ok(json.rows(&mut self.shared, lines, batch)),
            Format::Raw(_) => Ok(0),
        }
    }

    /// What is left when the input has ended.
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

/// Refuses options of JSON where the input is none.
pub(crate) fn only_json(options: &InputOptions) -> Result<()> {
    if options.explode.is_some() || !options.where_.is_empty() {
        return Err(Error::Spec("explode and where are for JSON lines".into()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "input_tests.rs"]
pub(crate) mod tests;
