//! Tables for people; each column is as wide as its widest cell.

use std::borrow::Cow;
use std::iter::repeat_n;

use deepwater::show;

use crate::cli::out::{Error, Out};

/// A table, printed once all rows are known.
pub struct Listing<'a> {
    columns: Vec<Column>,
    /// The cells, row by row.
    cells: Vec<Cow<'a, str>>,
}

struct Column {
    title: &'static str,
    /// Whether the column holds numbers and is right-aligned.
    right: bool,
    width: usize,
}

/// Makes a cell fit for a terminal: one line, no control characters, not too long.
fn shown(cell: &str) -> Cow<'_, str> {
    match show::shortened(cell, show::MESSAGE_BYTES) {
        Cow::Borrowed(cell) => show::printable(cell),
        Cow::Owned(cell) => Cow::Owned(show::printable(&cell).into_owned()),
    }
}

impl<'a> Listing<'a> {
    /// Creates a table with these columns. A title that begins with `>` marks a column of numbers,
    /// which is right-aligned.
    pub fn new(titles: &[&'static str]) -> Listing<'a> {
        let column = |title: &&'static str| {
            let (title, right) = match title.strip_prefix('>') {
                Some(title) => (title, true),
                None => (*title, false),
            };
            Column { title, right, width: title.len() }
        };
        Listing { columns: titles.iter().map(column).collect(), cells: Vec::new() }
    }

    /// Adds a row, with one cell per column.
    pub fn row<C: Into<Cow<'a, str>>>(&mut self, cells: impl IntoIterator<Item = C>) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            let cell = match cell.into() {
                Cow::Borrowed(cell) => shown(cell),
                Cow::Owned(cell) => Cow::Owned(shown(&cell).into_owned()),
            };
            column.width = column.width.max(cell.chars().count());
            self.cells.push(cell);
        }
    }

    /// Prints the table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self, out: &mut Out) -> Result<(), Error> {
        let titles: Vec<Cow<'_, str>> = self.columns.iter().map(|c| c.title.into()).collect();
        let mut line = String::new();
        for row in std::iter::once(&*titles).chain(self.cells.chunks(self.columns.len())) {
            line.clear();
            for (i, (column, cell)) in self.columns.iter().zip(row).enumerate() {
                let pad = repeat_n(' ', column.width - cell.chars().count());
                line.push_str(if i > 0 { "  " } else { "" });
                if column.right {
                    line.extend(pad);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.extend(pad);
                }
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            out.put(line.as_bytes())?;
        }
        Ok(())
    }
}
