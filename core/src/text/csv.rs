//! Parses CSV and TSV into records.
//!
//! A fast parser handles ordinary rows in one pass; a general parser handles every other row. The
//! general parser defines the result. The fast one accepts only rows that the general one would
//! accept, and produces the same bytes.
//!
//! Quotes follow RFC 4180: they open at the beginning of a cell only, are doubled inside, and
//! nothing may stand between the closing quote and the separator. A newline inside quotes is
//! allowed only where the column is text or unused, so that a stray quote in a number cannot
//! swallow the rows after it.

use super::input::{Batch, InputOptions, Shared, only_json};
use super::mapping::{self, Source};
use super::reject::{Fault, shown, without_newline};
use super::timestamp::Times;
use super::value::{Kind, Op, Origin};
use crate::error::{Error, Result};

/// The longest row that may span lines.
const OPEN_ROW_BYTES: usize = 1 << 20;

/// How much memory `Split` keeps from one row to the next.
const KEPT_CELLS: usize = 4096;
const KEPT_TEXT_BYTES: usize = 64 * 1024;

/// The fields that a column fills.
#[derive(Debug)]
enum Column {
    Skip,
    One(Op),
    Several(Vec<Op>),
}

impl Column {
    fn ops(&self) -> &[Op] {
        match self {
            Column::Skip => &[],
            Column::One(op) => std::slice::from_ref(op),
            Column::Several(ops) => ops,
        }
    }

    /// Whether a quoted cell of this column may hold a newline.
    fn takes_newlines(&self) -> bool {
        self.ops().iter().all(|op| matches!(op.kind, Kind::Text(_) | Kind::Char))
    }
}

/// A cell of the current row; its value is `Split::text[start..end]`.
#[derive(Debug)]
struct Cell {
    start: usize,
    end: usize,
    quoted: bool,
    /// Offset of the cell in the row.
    at: usize,
}

/// A row split into cells. It is reused for the next row, to keep its memory.
#[derive(Debug, Default)]
struct Split {
    cells: Vec<Cell>,
    text: Vec<u8>,
}

/// Where to continue a quoted cell whose closing quote had not arrived yet.
#[derive(Debug)]
struct OpenQuote {
    /// Offset of the cell in the row.
    at: usize,
    /// Where its value begins in `Split::text`.
    start: usize,
    /// How far the row has been read.
    from: usize,
    newline_seen: bool,
}

enum Found {
    /// A row of this many bytes, including its newline.
    Row(usize),
    /// A quoted cell is still open at the end of the input so far.
    Open,
    /// The first line is not a valid row.
    Bad(Fault),
}

/// The parser for one input.
#[derive(Debug)]
pub(crate) struct Csv {
    separator: u8,
    header: Option<bool>,
    names: Option<Vec<Option<String>>>,
    columns: Vec<Column>,
    /// Rows may have more cells than `columns`.
    open: bool,
    planned: bool,
    /// The first row was taken as data but may be a header that names no field; if it is rejected,
    /// the reason says how to map it.
    unnamed: bool,
    split: Split,
    /// The open quote of the next row. It lets a row that arrives in pieces be scanned only once.
    open_quote: Option<OpenQuote>,
}

impl Csv {
    pub(crate) fn new(shared: &Shared, options: &InputOptions) -> Result<Csv> {
        only_json(options)?;
        let mut csv = Csv {
            separator: if options.format == super::input::InputFormat::Tsv { b'\t' } else { b',' },
            header: options.header,
            names: options.columns.clone(),
            columns: Vec::new(),
            open: false,
            planned: false,
            unnamed: false,
            split: Split::default(),
            open_quote: None,
        };
        if csv.names.is_some() || csv.header == Some(false) {
            csv.plan(shared, None)?;
        }
        Ok(csv)
    }

    /// Resolves the columns. `header` holds the names in the input, if it has any.
    fn plan(&mut self, shared: &Shared, header: Option<&[Option<String>]>) -> Result<()> {
        let names = self.names.as_deref().or(header);
        let plan = mapping::plan(&shared.layout, &shared.sources, &shared.ops, names)?;
        let unused = plan.columns.iter().position(|fields| fields.is_empty());
        if let (true, Some(unused), None) = (shared.strict, unused, &self.names) {
            let name = names.and_then(|n| n[unused].as_deref()).unwrap_or_default();
            let name = shown(name.as_bytes());
            return Err(Error::Spec(format!("column {} ({name}) is not used", unused + 1)));
        }
        let column = |fields: &Vec<usize>| match fields[..] {
            [] => Column::Skip,
            [field] => Column::One(shared.ops[field]),
            _ => Column::Several(fields.iter().map(|&f| shared.ops[f]).collect()),
        };
        self.columns = plan.columns.iter().map(column).collect();
        self.open = plan.open && !shared.strict;
        Ok(())
    }

    /// Parses rows of `b`, which ends in a newline. `end` means that a quote still open will never
    /// be closed.
    pub(crate) fn rows(
        &mut self,
        shared: &mut Shared,
        b: &[u8],
        end: bool,
        batch: &mut Batch,
    ) -> Result<usize> {
        let mut at = 0;
        while at < b.len() && !batch.full() {
            let blank = match &b[at..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => 0,
            };
            if blank > 0 {
                at += blank;
                shared.line += 1;
                continue;
            }
            if !self.planned {
                let Some(header) = self.first_row(shared, &b[at..], end)? else { break };
                at += header;
                continue;
            }
            if shared.fast && self.open_quote.is_none() {
                let next = self.fast_rows(shared, b, at, batch);
                if next != at {
                    self.unnamed = false;
                    at = next;
                    continue;
                }
            }
            match self.general_row(shared, &b[at..], end, batch) {
                Some(taken) => at += taken,
                None => break,
            }
        }
        Ok(at)
    }

    /// Parses ordinary rows and returns the offset of the first row that is not.
    fn fast_rows(&self, shared: &mut Shared, b: &[u8], mut at: usize, batch: &mut Batch) -> usize {
        let size = shared.blank.len();
        while at < b.len() && !batch.full() {
            let start = batch.records.len();
            batch.records.extend_from_slice(&shared.blank);
            let record = &mut batch.records[start..];
            let Some(next) = self.fast_row(b, at, &mut shared.times, record) else {
                batch.records.truncate(start);
                break;
            };
            batch.row(shared.line, start, size);
            shared.line += 1;
            shared.stats.fast += 1;
            at = next;
        }
        at
    }

    #[inline(always)]
    fn fast_row(&self, b: &[u8], at: usize, times: &mut Times, record: &mut [u8]) -> Option<usize> {
        let (last, others) = self.columns.split_last()?;
        let mut at = at;
        for column in others {
            at = self.fast_cell(column, b, at, self.separator, times, record)?;
        }
        if self.open
            && let Some(more) = self.fast_cell(last, b, at, self.separator, times, record)
        {
            let stop = more + memchr::memchr2(b'"', b'\n', &b[more..])?;
            return (b[stop] == b'\n').then_some(stop + 1);
        }
        self.fast_cell(last, b, at, b'\n', times, record)
    }

    /// Writes one cell and returns where the next begins. Returns `None` if the cell is not an
    /// ordinary one or does not end in `stop`.
    #[inline(always)]
    fn fast_cell(
        &self,
        column: &Column,
        b: &[u8],
        at: usize,
        stop: u8,
        times: &mut Times,
        record: &mut [u8],
    ) -> Option<usize> {
        if let Column::One(op) = column {
            let ends = |end: usize| b.get(end) == Some(&stop);
            if let Some(end) = op.number::<false>(b, at, times, record, ends) {
                return Some(end? + 1);
            }
            if op.kind == Kind::Char
                && let Some(&[c, next]) = b.get(at..).and_then(|rest| rest.first_chunk::<2>())
                && (b' '..0x7f).contains(&c)
                && c != b'"'
                && c != self.separator
                && next == stop
            {
                op.put_u8(record, c);
                return Some(at + 2);
            }
        }
        self.plain_cell(column, b, at, stop, times, record)
    }

    /// Writes one cell of any type without quotes, by the rules of the general parser.
    fn plain_cell(
        &self,
        column: &Column,
        b: &[u8],
        at: usize,
        stop: u8,
        times: &mut Times,
        record: &mut [u8],
    ) -> Option<usize> {
        let rest = b.get(at..)?;
        let end = memchr::memchr2(self.separator, b'\n', rest)?;
        let mut text = &rest[..end];
        if rest[end] != stop || text.first() == Some(&b'"') {
            return None;
        }
        if stop == b'\n' {
            text = text.strip_suffix(b"\r").unwrap_or(text);
        }
        for op in column.ops() {
            op.text(text, Origin::Cell { quoted: false }, times, record).ok()?;
        }
        Some(at + end + 1)
    }

    /// Parses the row at the beginning of `b`; if it is not a valid row, rejects its first line.
    /// Returns `None` if the row is not complete yet.
    fn general_row(
        &mut self,
        shared: &mut Shared,
        b: &[u8],
        end: bool,
        batch: &mut Batch,
    ) -> Option<usize> {
        let taken = match self.take_apart(b, end) {
            Found::Open => return None,
            Found::Row(length) => length,
            Found::Bad(fault) => {
                let length = memchr::memchr(b'\n', b).map_or(b.len(), |newline| newline + 1);
                shared.reject(fault, without_newline(&b[..length]), batch);
                shared.line += 1;
                shared.stats.slow += 1;
                return Some(length);
            }
        };
        let start = batch.records.len();
        batch.records.extend_from_slice(&shared.blank);
        match self.write(shared, taken, &mut batch.records[start..]) {
            Ok(()) => batch.row(shared.line, start, shared.blank.len()),
            Err(mut fault) => {
                batch.records.truncate(start);
                if self.unnamed {
                    fault.reason.push_str(
                        "; a header that does not name the fields needs --map FIELD=COLUMN, or \
                         --header yes if it names more",
                    );
                }
                shared.reject(fault, without_newline(&b[..taken]), batch);
            }
        }
        self.unnamed = false;
        shared.line += memchr::memchr_iter(b'\n', &b[..taken]).count() as u64;
        shared.stats.slow += 1;
        Some(taken)
    }

    /// Writes the row in `split` to `record`.
    fn write(
        &self,
        shared: &mut Shared,
        length: usize,
        record: &mut [u8],
    ) -> std::result::Result<(), Fault> {
        let (cells, wanted) = (&self.split.cells, self.columns.len());
        if cells.len() < wanted || (cells.len() > wanted && !self.open) {
            let at = cells.get(wanted).map_or(length - 1, |cell| cell.at);
            let by = if self.separator == b'\t' { "tabs" } else { "commas" };
            let reason = match cells.len() {
                1 => format!("1 cell; {wanted} are needed, with {by} between them"),
                found => format!("{found} cells; {wanted} are needed"),
            };
            return Err(Fault::new(at, reason));
        }
        for (column, cell) in self.columns.iter().zip(cells) {
            let text = &self.split.text[cell.start..cell.end];
            for op in column.ops() {
                let origin = Origin::Cell { quoted: cell.quoted };
                op.text(text, origin, &mut shared.times, record)
                    .map_err(|why| shared.fault(cell.at, op.field, text, &why))?;
            }
        }
        Ok(())
    }

    /// Splits the row at the beginning of `b` into cells, into `split`.
    fn take_apart(&mut self, b: &[u8], end: bool) -> Found {
        let mut open = self.open_quote.take();
        if open.is_none() {
            self.split.clear();
        }
        let mut at = open.as_ref().map_or(0, |open| open.at);
        loop {
            let start = open.as_ref().map_or(self.split.text.len(), |open| open.start);
            let quoted = b.get(at) == Some(&b'"');
            let cell_at = at;
            if quoted {
                let n = self.split.cells.len();
                // Before the first row is read, any column may be text.
                let spans =
                    !self.planned || self.columns.get(n).map_or(self.open, Column::takes_newlines);
                let fresh = || OpenQuote { at, start, from: at + 1, newline_seen: false };
                let mut quote = open.take().unwrap_or_else(fresh);
                match quoted_cell(b, &mut quote, spans, end, &mut self.split.text) {
                    Ok(Some(after)) => at = after,
                    Ok(None) => {
                        self.open_quote = Some(quote);
                        return Found::Open;
                    }
                    Err(fault) => return Found::Bad(fault),
                }
                if b[at..].starts_with(b"\r\n") {
                    at += 1;
                }
            } else {
                let length = memchr::memchr2(self.separator, b'\n', &b[at..]);
                let text = &b[at..at + length.unwrap_or(b.len() - at)];
                at += text.len();
                let last = b.get(at) != Some(&self.separator);
                let text = if last { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
                self.split.text.extend_from_slice(text);
            }
            let end = self.split.text.len();
            self.split.cells.push(Cell { start, end, quoted, at: cell_at });
            match b.get(at) {
                Some(b'\n') => return Found::Row(at + 1),
                Some(&c) if c == self.separator => at += 1,
                Some(_) => return Found::Bad(Fault::new(at, "text after a closing quote")),
                None => return Found::Row(at),
            }
        }
    }

    /// Decides whether the first row is a header. Returns the length of the header, or 0 if the
    /// first row is not one. Returns `None` if the row is not complete yet.
    fn first_row(&mut self, shared: &mut Shared, b: &[u8], end: bool) -> Result<Option<usize>> {
        let (cells, length) = match self.take_apart(b, end) {
            Found::Open => return Ok(None),
            Found::Bad(_) => (Vec::new(), 0),
            Found::Row(length) => (self.split.names(), length),
        };
        let is_header = match self.header {
            Some(yes) => yes,
            None => self.looks_like_header(shared, &cells),
        };
        if !is_header && self.names.is_none() {
            let wanted = shared.sources.iter().flatten().find_map(|source| match source {
                Source::Header(name) => Some(name),
                _ => None,
            });
            if let Some(name) = wanted {
                return Err(Error::Spec(format!(
                    "line {}: no header: a field is mapped to column {name:?}, and the first row \
                     does not have it",
                    shared.line
                )));
            }
        }
        if is_header && self.header.is_none() {
            self.agrees(&cells)?;
        }
        self.plan(shared, is_header.then_some(&cells[..]))?;
        self.planned = true;
        if !is_header {
            let is_word = |cell: &Option<String>| {
                cell.as_deref().is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic()))
            };
            self.unnamed = self.header.is_none() && cells.iter().all(is_word);
            return Ok(Some(0));
        }
        shared.line += memchr::memchr_iter(b'\n', &b[..length]).count() as u64;
        Ok(Some(length))
    }

    /// Whether every cell names a field, or the row has every header that the mapping names.
    fn looks_like_header(&self, shared: &Shared, cells: &[Option<String>]) -> bool {
        let mapped = || {
            shared.sources.iter().flatten().filter_map(|source| match source {
                Source::Header(name) => Some(name.as_str()),
                _ => None,
            })
        };
        let has = |name: &str| cells.iter().any(|cell| cell.as_deref() == Some(name));
        let named = |cell: &Option<String>| {
            let Some(cell) = cell.as_deref() else { return false };
            shared.layout.field(cell).is_some()
                || mapped().any(|name| name == cell)
                || self.names.iter().flatten().any(|name| name.as_deref() == Some(cell))
        };
        let all_mapped = self.names.is_none() && mapped().next().is_some() && mapped().all(has);
        !cells.is_empty() && (cells.iter().all(named) || all_mapped)
    }

    /// Checks that a detected header does not contradict `--columns`.
    fn agrees(&self, cells: &[Option<String>]) -> Result<()> {
        let Some(names) = &self.names else { return Ok(()) };
        let differs =
            names.iter().zip(cells).position(|(name, cell)| name.is_some() && name != cell);
        let Some(n) = differs else { return Ok(()) };
        let (given, found) = (names[n].as_deref(), cells[n].as_deref());
        Err(Error::Spec(format!(
            "column {} is {:?} by --columns and {:?} by the header; --header yes passes over it",
            n + 1,
            given.unwrap_or_default(),
            found.unwrap_or_default()
        )))
    }
}

impl Split {
    fn clear(&mut self) {
        // Shrink too, so that one huge row does not hold its memory forever.
        self.cells.clear();
        self.cells.shrink_to(KEPT_CELLS);
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT_BYTES);
    }

    /// Returns the cells as column names.
    fn names(&self) -> Vec<Option<String>> {
        let name = |cell: &Cell| {
            let text = String::from_utf8_lossy(&self.text[cell.start..cell.end]);
            Some(text.trim().to_owned()).filter(|name| !name.is_empty())
        };
        self.cells.iter().map(name).collect()
    }
}

/// Appends a quoted cell to `text`, continuing from `quote`, and returns the offset after its
/// closing quote. Returns `None` if bytes that have not arrived may close it.
fn quoted_cell(
    b: &[u8],
    quote: &mut OpenQuote,
    spans: bool,
    end: bool,
    text: &mut Vec<u8>,
) -> std::result::Result<Option<usize>, Fault> {
    let OpenQuote { at, from, newline_seen, .. } = quote;
    let fault = |why: &str| Fault::new(*at, format!("a quote that {why}"));
    while let Some(length) = memchr::memchr2(b'"', b'\n', &b[*from..]) {
        let found = *from + length;
        if b[found] == b'\n' {
            *newline_seen = true;
            if !spans {
                return Err(fault("is not closed on its line"));
            }
            if found > OPEN_ROW_BYTES {
                return Err(fault("is not closed within 1 MiB"));
            }
            text.extend_from_slice(&b[*from..=found]);
            *from = found + 1;
        } else if b.get(found + 1) == Some(&b'"') {
            text.extend_from_slice(&b[*from..=found]);
            *from = found + 2;
        } else {
            text.extend_from_slice(&b[*from..found]);
            return Ok(Some(found + 1));
        }
    }
    if end || (*newline_seen && b.len() > OPEN_ROW_BYTES) {
        return Err(fault("is never closed"));
    }
    Ok(None)
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
