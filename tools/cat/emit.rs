//! Runs of records, encoded and put out.

use anyhow::bail;
use deepwater::layout::Layout;
use deepwater::reader::{Reader, Run};
use deepwater::text::encode::{EncodeOptions, Encoder, IntStyle, OutputFormat, TimeStyle};
use jiff::tz::TimeZone;

use super::args::{Ints, Request, Style};
use crate::cli::out::{Error, Out};

/// So many bytes of records are encoded at a time: what they become stays in the cache until it is
/// written.
const SLICE_BYTES: usize = 16 << 10;

/// Encodes records and puts them out.
pub struct Printer<'a> {
    /// One for each feed, or for a table one for all.
    encoders: Vec<Encoder>,
    /// Sizes of the feeds' records.
    sizes: Vec<usize>,
    /// The feed of the last run.
    feed: usize,
    out: &'a mut Out,
    raw: bool,
    reverse: bool,
}

impl<'a> Printer<'a> {
    /// Compiles the encoders.
    ///
    /// # Errors
    /// For fields that are not there, and for feeds whose records do not go into one table.
    pub fn new(
        readers: &[&Reader],
        request: &Request,
        out: &'a mut Out,
    ) -> anyhow::Result<Printer<'a>> {
        if request.format != OutputFormat::Jsonl {
            for other in &readers[1..] {
                check_equal(readers[0], other, request)?;
            }
        }
        let mut encoders = Vec::new();
        for (feed, reader) in readers.iter().enumerate() {
            // What is as wide as the widest name must know them all.
            let wide = matches!(request.format, OutputFormat::Npy | OutputFormat::Table);
            let names = if wide { &request.feeds[..] } else { &request.feeds[feed..feed + 1] };
            let mut encoder = encoder(reader.layout(), request, names)?;
            encoder.set_feed(feed);
            encoders.push(encoder);
            if request.format == OutputFormat::Table {
                // A table settles its widths once, for all.
                break;
            }
        }
        Ok(Printer {
            encoders,
            sizes: readers.iter().map(|reader| reader.layout().record_size()).collect(),
            feed: 0,
            out,
            raw: request.format == OutputFormat::Raw,
            reverse: request.reverse,
        })
    }

    /// Puts out what comes first, for formats that say how many records will come.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn head(&mut self, count: u64) -> Result<(), Error> {
        self.encoders[0].head(self.out.buffer(), count);
        self.out.spill()
    }

    /// Puts a run of a feed's records out, turned round in a reverse scan.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(&mut self, feed: usize, run: &Run<'_>) -> Result<(), Error> {
        let size = self.sizes[feed];
        if self.raw && !self.reverse && run.records.len() >= SLICE_BYTES {
            // Straight from where it was verified, without another copy.
            return self.out.write_raw(run.records);
        }
        let encoder = match &mut self.encoders[..] {
            [shared] => {
                if feed != self.feed {
                    shared.set_feed(feed);
                    self.feed = feed;
                }
                shared
            }
            several => &mut several[feed],
        };
        if self.reverse {
            let n = run.records.len() / size;
            for i in (0..n).rev() {
                let record = &run.records[i * size..(i + 1) * size];
                encoder.records(record, run.first_seq + i as u64, self.out.buffer());
                self.out.spill()?;
            }
            return Ok(());
        }
        let per_slice = (SLICE_BYTES / size).max(1);
        let mut seq = run.first_seq;
        for slice in run.records.chunks(per_slice * size) {
            encoder.records(slice, seq, self.out.buffer());
            self.out.spill()?;
            seq += per_slice as u64;
        }
        Ok(())
    }

    /// Puts out all that is held back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        for encoder in &mut self.encoders {
            encoder.tail(self.out.buffer());
        }
        self.out.flush()
    }

    /// The output.
    pub fn out(&mut self) -> &mut Out {
        self.out
    }
}

fn encoder(layout: &Layout, request: &Request, names: &[String]) -> deepwater::Result<Encoder> {
    let time = match request.time {
        Style::Raw => TimeStyle::Raw,
        Style::Rfc3339 => TimeStyle::Rfc3339(request.range.tz.clone().unwrap_or(TimeZone::UTC)),
    };
    let options = EncodeOptions {
        fields: request.fields.clone(),
        header: request.header,
        time,
        ints: match request.ints {
            Ints::Number => IntStyle::Number,
            Ints::String => IntStyle::String,
        },
        with_seq: request.with_seq,
        with_feed: if request.with_feed { names.to_vec() } else { Vec::new() },
    };
    Encoder::new(layout, request.format, &options)
}

/// One header, one dtype or one kind of record can only stand for feeds that are alike in it.
fn check_equal(first: &Reader, other: &Reader, request: &Request) -> anyhow::Result<()> {
    let (a, b) = (first.layout(), other.layout());
    let (differences, help) = match &request.fields {
        Some(fields) if request.format != OutputFormat::Table => {
            let as_text = request.time == Style::Rfc3339;
            (difference_in(a, b, fields, as_text), "jsonl takes any mixture")
        }
        None if request.format != OutputFormat::Raw && request.format != OutputFormat::Table => {
            let help = "--fields chooses what they have in common, and jsonl takes any mixture";
            (a.difference(b), help)
        }
        _ => (a.difference(b), "jsonl takes any mixture"),
    };
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{} and {} are not alike, and {} output has one kind of row: {}; {help}",
        first.feed().name,
        other.feed().name,
        request.format,
        differences.join("; ").replace("asked for", "in the other")
    );
}

/// How chosen fields of two layouts differ in what is printed of them.
fn difference_in(a: &Layout, b: &Layout, fields: &[String], times_as_text: bool) -> Vec<String> {
    let mut found = Vec::new();
    for name in fields {
        let shown = |layout: &Layout| {
            let position = layout.position(name)?;
            let kind = layout.fields()[position].kind.to_string();
            let unit = match layout.is_time(position) {
                true if times_as_text => " as a time".to_owned(),
                true => format!(" in {}", layout.unit()),
                false => String::new(),
            };
            Some(kind + &unit)
        };
        let text = |shown: Option<String>| shown.unwrap_or_else(|| "missing".to_owned());
        let (ours, theirs) = (shown(a), shown(b));
        if ours != theirs {
            let (ours, theirs) = (text(ours), text(theirs));
            found.push(format!("field {name} is {ours}, in the other {theirs}"));
        }
    }
    found
}
