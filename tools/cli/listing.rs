//! Tables for people: columns as wide as their widest cell.

use crate::cli::out::{Error, Out};

/// A table that is printed once all its rows are known.
pub struct Listing {
    /// Title and whether numbers stand to the right.
    columns: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
}

impl Listing {
    /// Columns by title; a title that begins with `>` is of numbers, and stands to the right.
    pub fn new(titles: &[&'static str]) -> Listing {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => (title, true),
            None => (*title, false),
        };
        Listing { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell a column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self, out: &mut Out) -> Result<(), Error> {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let cells = self.rows.iter().map(|row| row[i].chars().count());
                cells.max().unwrap_or(0).max(self.columns[i].0.len())
            })
            .collect();
        let titles = self.columns.iter().map(|column| column.0.to_owned()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.chars().count());
                let right = self.columns[i].1;
                line.push_str(if i > 0 { "  " } else { "" });
                line.push_str(if right { &pad } else { "" });
                line.push_str(cell);
                line.push_str(if right { "" } else { &pad });
            }
            out.put(line.trim_end().as_bytes())?;
            out.put(b"\n")?;
        }
        Ok(())
    }
}
