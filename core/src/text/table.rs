//! Prints aligned columns for people.
//!
//! The first rows are held back until the column widths are known. Later rows are written at once;
//! a value wider than its column makes only its own row wider.

use std::slice::ChunksExact;

use super::encode::EncodeOptions;
use super::escape::{Style, put_text, text_width};
use super::program::Program;
use crate::error::Result;
use crate::layout::Layout;
use crate::schema::FieldType;

/// How many rows determine the column widths.
const HELD_ROWS: usize = 1000;
/// How many bytes of cells may be held back.
const HELD_BYTES: usize = 1 << 20;

/// A table that is being written.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    /// Index of the column that names the feed, and a program that writes each feed's name.
    feed_column: Option<usize>,
    feeds: Vec<Program>,
    header: bool,
    /// Whether the widths are fixed and the header is written.
    settled: bool,
    /// The text of all cells that are held back.
    cells: Vec<u8>,
    /// Where each cell ends in `cells`.
    ends: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Column {
    name: Vec<u8>,
    /// Whether values are right-aligned, as numbers are.
    right: bool,
    width: usize,
    program: Program,
}

impl Table {
    pub fn new(layout: &Layout, options: &EncodeOptions) -> Result<Table> {
        let mut columns = Vec::new();
        let mut column = |name: &str, right: bool, value: &dyn Fn(&mut Program)| {
            let mut program = Program::new(layout, options, Style::Table);
            value(&mut program);
            program.end();
            let name = printable(name);
            let width = if options.header { width_of(&name) } else { 0 };
            columns.push(Column { name, right, width, program });
        };
        if options.with_seq {
            column("_seq", true, &Program::seq);
        }
        if let Some(feed) = options.with_feed.first() {
            column("_feed", false, &|program| program.text(&printable(feed)));
        }
        for position in options.chosen(layout)? {
            let field = &layout.fields()[position];
            let right = !matches!(
                field.kind,
                FieldType::Char | FieldType::Bool | FieldType::Bytes(_) | FieldType::String(_)
            );
            column(&field.name, right, &|program| program.field(layout, position));
        }
        let named = |feed: &String| {
            let mut program = Program::new(layout, options, Style::Table);
            program.text(&printable(feed));
            program.end();
            program
        };
        let feeds: Vec<_> = options.with_feed.iter().map(named).collect();
        Ok(Table {
            columns,
            feed_column: (!feeds.is_empty()).then_some(usize::from(options.with_seq)),
            feeds,
            header: options.header,
            settled: false,
            cells: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Sets the feed of the next records.
    pub fn set_feed(&mut self, feed: usize) {
        if let (Some(column), Some(program)) = (self.feed_column, self.feeds.get(feed)) {
            self.columns[column].program = program.clone();
        }
    }

    /// Adds a row for each record.
    pub fn records(&mut self, records: ChunksExact<'_, u8>, first_seq: u64, out: &mut Vec<u8>) {
        let rows = HELD_ROWS * self.columns.len();
        for (seq, record) in (first_seq..).zip(records) {
            for column in &mut self.columns {
                let start = self.cells.len();
                let one = record.chunks_exact(record.len());
                column.program.records(one, seq, &mut self.cells);
                self.ends.push(self.cells.len());
                if !self.settled {
                    column.width = column.width.max(width_of(&self.cells[start..]));
                }
            }
            if self.settled || self.ends.len() >= rows || self.cells.len() >= HELD_BYTES {
                self.flush(out);
            }
        }
    }

    /// Writes the rows that are held back, and fixes the widths.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.settled && self.header {
            let names = self.columns.iter().map(|column| column.name.as_slice());
            put_line(&self.columns, names, out);
        }
        self.settled = true;
        let mut start = 0;
        for row in self.ends.chunks_exact(self.columns.len()) {
            let cells = row.iter().map(|&end| &self.cells[std::mem::replace(&mut start, end)..end]);
            put_line(&self.columns, cells, out);
        }
        self.cells.clear();
        self.ends.clear();
    }
}

fn put_line<'a>(columns: &[Column], cells: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (i, (column, cell)) in columns.iter().zip(cells).enumerate() {
        if i > 0 {
            out.extend_from_slice(b"  ");
        }
        let blanks = column.width.saturating_sub(width_of(cell));
        let last = i + 1 == columns.len();
        let (before, after) = match column.right {
            true => (blanks, 0),
            false if last => (0, 0),
            false => (0, blanks),
        };
        out.resize(out.len() + before, b' ');
        out.extend_from_slice(cell);
        out.resize(out.len() + after, b' ');
    }
    out.push(b'\n');
}

/// Returns the number of characters of a cell.
fn width_of(cell: &[u8]) -> usize {
    cell.iter().filter(|&byte| byte & 0xc0 != 0x80).count()
}

fn printable(text: &str) -> Vec<u8> {
    let mut slab = vec![0; text_width(text.len())];
    let end = put_text(&mut slab, 0, text.as_bytes(), Style::Table);
    slab.truncate(end);
    slab
}
