//! Encodes runs of records and prints them.

use anyhow::bail;
use deepwater::layout::Layout;
use deepwater::reader::{Reader, Run};
use deepwater::text::encode::{EncodeOptions, Encoder, IntStyle, OutputFormat, TimeStyle};
use jiff::tz::TimeZone;

use super::args::{Ints, Request, Style};
use crate::cli::out::{Error, Out};

/// How many bytes of records to encode at a time. The output stays in the CPU cache until it is
/// written.
const SLICE_BYTES: usize = 16 << 10;

/// Encodes and prints records.
pub struct Printer<'a> {
    /// One per feed; for a table, one for all.
    encoders: Vec<Encoder>,
    /// The record size of each feed.
    sizes: Vec<usize>,
    /// The feed of the last run of records.
    feed: usize,
    out: &'a mut Out,
    raw: bool,
    reverse: bool,
}

impl<'a> Printer<'a> {
    /// Creates the encoders.
    ///
    /// # Errors
    /// If a field does not exist, or if the records of the feeds do not fit into one table.
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
            // The width of these formats depends on all names, so the encoder must know them.
            let wide = matches!(request.format, OutputFormat::Npy | OutputFormat::Table);
            let names = if wide { &request.feeds[..] } else { &request.feeds[feed..feed + 1] };
            let mut encoder = encoder(reader.layout(), request, names)?;
            encoder.set_feed(feed);
            encoders.push(encoder);
            if request.format == OutputFormat::Table {
                // A table sets the column widths once, for all feeds.
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

    /// Prints the header. Some formats say there how many records follow.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn head(&mut self, count: u64) -> Result<(), Error> {
        self.encoders[0].head(self.out.buffer(), count);
        self.out.spill()
    }

    /// Prints a run of records of a feed, in reverse order if the scan is reversed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(&mut self, feed: usize, run: &Run<'_>) -> Result<(), Error> {
        let size = self.sizes[feed];
        if self.raw && !self.reverse && run.records.len() >= SLICE_BYTES {
            // Write directly from the verified buffer, without a copy.
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

    /// Writes everything that is buffered.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        for encoder in &mut self.encoders {
            encoder.tail(self.out.buffer());
        }
        self.out.flush()
    }

    /// Returns the output.
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

/// Checks that two feeds can share one header, one dtype or one kind of record.
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

/// Returns the differences between two layouts that affect the printed fields.
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
