//! Documents in Markdown as man pages.

use std::fmt::Write as _;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// The man page's text, in man(7) and tbl(1), of the Markdown below a document's title.
pub fn to_man(markdown: &str) -> String {
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.take(event);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// The heading, paragraph, item or cell that is being read.
    inline: String,
    /// The items of the list that is being read: a bullet, or the next number.
    lists: Vec<Option<u64>>,
    /// The rows of the table that is being read.
    rows: Vec<Vec<String>>,
    in_code: bool,
    in_title: bool,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),

            Event::Text(text) => self.inline.push_str(&escaped(&text)),
            Event::Code(code) => {
                let _ = write!(self.inline, "\\fB{}\\fR", escaped(&code).replace('-', "\\-"));
            }
            Event::SoftBreak | Event::HardBreak => self.inline.push('\n'),
            // Marks for the tests.
            Event::Html(_) | Event::InlineHtml(_) => {}
            other => panic!("no man page can have {other:?} yet"),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.flush();
                self.in_title = *level == HeadingLevel::H1;
            }
            Tag::List(first) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.text.push_str(".RS 2\n");
                }
                self.lists.push(*first);
            }
            Tag::Item => {
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}.", *number - 1)
                    }
                    _ => "\\(bu".to_owned(),
                };
                let _ = writeln!(self.text, ".IP {mark} 3");
            }
            Tag::CodeBlock(_) => {
                self.flush();
                self.in_code = true;
            }
            Tag::Table(_) => self.flush(),
            Tag::TableHead | Tag::TableRow => self.rows.push(Vec::new()),
            Tag::Strong => self.inline.push_str("\\fB"),
            Tag::Emphasis => self.inline.push_str("\\fI"),
            Tag::Paragraph | Tag::TableCell | Tag::Link { .. } | Tag::HtmlBlock => {}
            other => panic!("no man page can have {other:?} yet"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let title = std::mem::take(&mut self.inline);
                let _ = match level {
                    _ if std::mem::take(&mut self.in_title) => Ok(()),
                    HeadingLevel::H2 => writeln!(self.text, ".SH \"{}\"", title.to_uppercase()),
                    _ => writeln!(self.text, ".SS \"{title}\""),
                };
            }
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.text.push_str(".RE\n");
                }
            }
            TagEnd::CodeBlock => {
                let code = std::mem::take(&mut self.inline).replace('-', "\\-");
                let lines: String =
                    code.lines().map(|line| format!("{}\n", guarded(line))).collect();
                self.paragraph();
                let _ = write!(self.text, ".RS 4\n.nf\n{lines}.fi\n.RE\n");
                self.in_code = false;
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.inline);
                self.rows.last_mut().expect("a cell is in a row").push(cell);
            }
            TagEnd::Table => self.table(),
            TagEnd::Strong | TagEnd::Emphasis => self.inline.push_str("\\fR"),
            _ => {}
        }
    }

    /// Ends a paragraph, if one is being read.
    fn flush(&mut self) {
        let inline = std::mem::take(&mut self.inline);
        if inline.trim().is_empty() {
            return;
        }
        if self.lists.is_empty() {
            self.paragraph();
        }
        for line in inline.lines() {
            let _ = writeln!(self.text, "{}", guarded(line.trim_start()));
        }
    }

    /// Begins a paragraph, where no heading has just done so.
    fn paragraph(&mut self) {
        let last = self.text.lines().last().unwrap_or(".SH");
        if ![".SH", ".SS"].iter().any(|heading| last.starts_with(heading)) {
            self.text.push_str(".PP\n");
        }
    }

    /// A table: all columns as wide as they need, the last one filled.
    fn table(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let columns = rows.first().map_or(0, Vec::len);
        let narrow = "l ".repeat(columns.saturating_sub(1));
        self.paragraph();
        let _ = write!(self.text, ".TS\n{narrow}lx.\n");
        for row in rows {
            let filled = row.iter().map(|cell| match cell.len() {
                0..=24 => cell.clone(),
                _ => format!("T{{\n{}\nT}}", guarded(cell)),
            });
            let _ = writeln!(self.text, "{}", filled.collect::<Vec<_>>().join("\t"));
        }
        self.text.push_str(".TE\n");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
}

/// A line that is no request, whatever it begins with.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}
