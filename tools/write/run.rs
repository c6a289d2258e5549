//! The work of dw-write: read, parse and append until the input ends or a signal comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use deepwater::Platform;
use deepwater::layout::Layout;
use deepwater::os::process;
use deepwater::os::signal::{Terminator, reraise};
use deepwater::registry::info::FeedInfo;
use deepwater::schema::FeedSpec;
use deepwater::text::filter::Filter;
use deepwater::text::input::{
    Batch, FinalLine, InputFormat, InputOptions, LONGEST_LINE_BYTES, Parser,
};
use deepwater::text::reject::Reject;
use deepwater::writer::{SessionEnd, Writer, WriterOptions};

use super::args::{Args, OnBad, Request};
use super::input::{Input, Lines};
use super::report::{Acks, Counts, Rejected, Rejects, Stats};
use crate::cli::exit::Exit;
use crate::cli::messages;
use crate::cli::out::Out;
use crate::cli::progress::Progress;
use crate::cli::sniff;

/// Runs dw-write.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(_out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let base = args.common.base()?;
    let request = args.request()?;
    let platform = match &request.create {
        Some(path) => create(&base, path, &request.feed)?,
        None => Platform::open(base)?,
    };
    let feed = platform.feed_info(&request.feed)?;
    // Check the options before opening an input or taking the feed's lock.
    let filter = request.mark_when.as_ref().map(|text| Filter::parse(&feed.layout, text));
    let filter = filter.transpose()?;
    check_options(&feed.layout, &request)?;
    let rejects = Rejects::new(request.rejects.as_deref())?;
    let inputs = open_first(&request)?;
    let terminator = Terminator::install()?;
    let mut acks = Acks::default();
    let on_durable = if request.ack { Some(acks.printer()?) } else { None };
    let options = WriterOptions { sync: request.sync, on_durable };
    let writer = Writer::open(&feed, options)?;
    writer.moved().iter().for_each(messages::warn);
    let mut session = Session {
        writer,
        layout: Arc::clone(&feed.layout),
        rejects,
        acks,
        counts: Arc::new(Counts::default()),
        terminator,
        marks: Marks { every: request.mark_every, when: filter, positions: Vec::new() },
        batch: Batch::new(),
    };
    let stats = match request.stats {
        Some(every) => Some(Stats::start(every, Arc::clone(&session.counts), feed.layout.unit())?),
        None => None,
    };
    let done = session.read_all(&request, inputs);
    let exit = session.finish(&feed, done);
    if let Some(stats) = stats {
        stats.finish();
    }
    exit
}

/// Rejects options that are wrong for any input. If the format is not known yet, rejects those that
/// are wrong for every format.
fn check_options(layout: &Arc<Layout>, request: &Request) -> anyhow::Result<()> {
    let options = &request.options;
    let check = |format| {
        let options = InputOptions { format, ..options.clone() };
        Parser::new(Arc::clone(layout), options).map(drop)
    };
    if let Some(format) = request.format {
        return Ok(check(format)?);
    }
    let (csv, json) = (check(InputFormat::Csv), check(InputFormat::Jsonl));
    let is_json = options.explode.is_some() || !options.where_.is_empty();
    match (csv, json) {
        (Err(error), Err(_)) if !is_json => Err(error.into()),
        (Err(_), Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Creates the feed described by `--create` if it does not exist.
fn create(base: &std::path::Path, path: &std::path::Path, feed: &str) -> anyhow::Result<Platform> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the spec {name}"))?;
    let spec = FeedSpec::from_json(&text).with_context(|| format!("{name}"))?;
    if spec.feed_name != feed {
        bail!("{name}: the spec is of feed {}, and {feed} is to be written", spec.feed_name);
    }
    let platform = Platform::create(base)?;
    platform.create_feed(&spec, false)?;
    Ok(platform)
}

/// Opens the first input. A missing file must be an error before a session begins.
fn open_first(request: &Request) -> anyhow::Result<Input> {
    for file in request.files.iter().skip(1).filter(|file| file.as_os_str() != "-") {
        std::fs::metadata(file).with_context(|| format!("cannot open {}", file.display()))?;
    }
    Input::open(&request.files[0])
}

const LATE: &str = "older than a record before it, and the feed's order is reject";

struct Marks {
    every: Option<u64>,
    when: Option<Filter>,
    positions: Vec<usize>,
}

impl Marks {
    /// Returns the positions in `records` to mark. The first record is number `written` of the
    /// session.
    fn choose(&mut self, records: &[u8], record_size: usize, written: u64) -> &[usize] {
        self.positions.clear();
        if self.every.is_none() && self.when.is_none() {
            return &self.positions;
        }
        for (i, record) in records.chunks_exact(record_size).enumerate() {
            let due = self.every.is_some_and(|n| (written + i as u64).is_multiple_of(n));
            if due || self.when.as_ref().is_some_and(|filter| filter.matches(record)) {
                self.positions.push(i);
            }
        }
        &self.positions
    }
}

fn rejected_row<'a>(file: &'a str, reject: &'a Reject) -> Rejected<'a> {
    let Reject { line, column, reason, text, .. } = reject;
    Rejected { file, line: *line, column: *column, reason, text }
}

/// Why reading ended.
enum Ended {
    Input,
    Signal(i32),
    BadRow,
}

struct Session {
    writer: Writer,
    layout: Arc<Layout>,
    rejects: Rejects,
    acks: Acks,
    counts: Arc<Counts>,
    terminator: Terminator,
    marks: Marks,
    batch: Batch,
}

impl Session {
    fn read_all(&mut self, request: &Request, first: Input) -> anyhow::Result<Ended> {
        let mut opened = Some(first);
        for file in &request.files {
            let input = match opened.take() {
                Some(input) => input,
                None => Input::open(file)?,
            };
            match self.read_one(request, input)? {
                Ended::Input => {}
                other => return Ok(other),
            }
        }
        Ok(Ended::Input)
    }

    /// Reads one input to its end. Parses and publishes what has arrived before each next read.
    fn read_one(&mut self, request: &Request, mut input: Input) -> anyhow::Result<Ended> {
        self.terminator.watch(input.descriptor());
        let on_bad = match request.on_bad {
            Some(asked) => asked,
            None if input.regular => OnBad::Stop,
            None => OnBad::Skip,
        };
        let mut progress = Progress::new("written", input.size_bytes);
        let mut parser = None;
        let mut done_bytes = 0;
        loop {
            let n = input.read()?;
            let signal = self.terminator.caught();
            if let Some(signal) = signal.filter(|_| n == 0) {
                return Ok(Ended::Signal(signal));
            }
            done_bytes += n as u64;
            self.counts.bytes.fetch_add(n as u64, Ordering::Relaxed);
            if parser.is_none() {
                parser = self.parser_for(request, &input)?;
            }
            if let Some(parser) = &mut parser {
                let stopped = self.take_rows(parser, &mut input, on_bad)?;
                self.writer.wake();
                if stopped {
                    return Ok(Ended::BadRow);
                }
            }
            if let Some(error) = self.acks.failure() {
                return Err(error.into());
            }
            if let Some(signal) = signal {
                return Ok(Ended::Signal(signal));
            }
            if input.ended() {
                return Ok(Ended::Input);
            }
            progress.at(done_bytes);
        }
    }

    /// Creates the parser, once the format is known.
    fn parser_for(&self, request: &Request, input: &Input) -> anyhow::Result<Option<Parser>> {
        let (head, end) = input.pending();
        if request.format != Some(InputFormat::Raw)
            && let Some(why) = sniff::not_text(head)
        {
            bail!("{}: {why}", input.name);
        }
        let end = end || head.len() >= LONGEST_LINE_BYTES;
        let Some(format) = request.format.or_else(|| InputFormat::detect(head, end)) else {
            return Ok(None);
        };
        let by_kind = if input.regular { FinalLine::Accept } else { FinalLine::Reject };
        let final_line = request.final_line.unwrap_or(by_kind);
        let options = InputOptions { format, final_line, ..request.options.clone() };
        Ok(Some(Parser::new(Arc::clone(&self.layout), options)?))
    }

    /// Parses and publishes every complete pending row. Returns true if a bad row ends the run.
    fn take_rows(
        &mut self,
        parser: &mut Parser,
        input: &mut Input,
        on_bad: OnBad,
    ) -> anyhow::Result<bool> {
        let now = process::wall_ns() / self.layout.unit().nanos();
        let mut batch = std::mem::take(&mut self.batch);
        loop {
            batch.clear();
            let (pending, end) = input.pending();
            let first_line = parser.stats().lines + 1;
            let taken = parser.parse(pending, end, now, &mut batch)?;
            let record_size = parser.is_raw().then_some(self.layout.record_size());
            let lines = Lines::new(&pending[..taken], first_line, record_size);
            let stopped = self.publish(&batch, lines, &input.name, on_bad)?;
            input.take(taken);
            if stopped || taken == 0 {
                self.batch = batch;
                return Ok(stopped);
            }
        }
    }

    /// Appends the records of a batch and reports its rejects. If a bad row ends the run, appends
    /// only the records before it and returns true.
    fn publish(
        &mut self,
        batch: &Batch,
        mut lines: Lines<'_>,
        name: &str,
        on_bad: OnBad,
    ) -> anyhow::Result<bool> {
        let size = self.layout.record_size();
        let stop = on_bad == OnBad::Stop && !batch.rejects.is_empty();
        let rejects = if stop { &batch.rejects[..1] } else { &batch.rejects[..] };
        let records = match rejects.first() {
            Some(reject) if stop => &batch.records[..reject.after * size],
            _ => &batch.records[..],
        };
        let written = self.counts.rows.load(Ordering::Relaxed);
        let marks = self.marks.choose(records, size, written);
        let appended = self.writer.append_marked(records, marks)?;
        self.counts.rows.fetch_add(appended.count, Ordering::Relaxed);
        if let Some(last) = records.len().checked_sub(size) {
            let newest = self.layout.time_of(&records[last..]);
            self.counts.newest.fetch_max(newest, Ordering::Relaxed);
        }
        let mut others = rejects.iter().peekable();
        for &late in &appended.rejected {
            let line = batch.line_of(late).unwrap_or(0);
            while let Some(reject) = others.next_if(|reject| reject.line < line) {
                self.rejects.add(&rejected_row(name, reject))?;
            }
            let text = lines.text(line);
            self.rejects.add(&Rejected { file: name, line, column: 1, reason: LATE, text })?;
        }
        for reject in others {
            self.rejects.add(&rejected_row(name, reject))?;
        }
        let rejected = (rejects.len() + appended.rejected.len()) as u64;
        if rejected > 0 {
            self.writer.note_reject(match rejects.last() {
                Some(Reject { line, column, reason, .. }) => {
                    format!("{name}:{line}:{column}: {reason}")
                }
                None => format!("{name}: {LATE}"),
            });
        }
        if rejected > 0 || batch.passed_over > 0 {
            self.writer.count_rows(rejected, batch.passed_over);
            self.counts.rejected.fetch_add(rejected, Ordering::Relaxed);
            self.counts.passed_over.fetch_add(batch.passed_over, Ordering::Relaxed);
            self.rejects.flush()?;
        }
        Ok(stop)
    }

    /// Ends the session, also after an error. Published records are sealed and made durable.
    fn finish(mut self, feed: &FeedInfo, done: anyhow::Result<Ended>) -> anyhow::Result<Exit> {
        let told = self.rejects.finish();
        let reason = match &done {
            Ok(Ended::Input) => SessionEnd::Ended,
            Ok(Ended::Signal(_)) => SessionEnd::Signal,
            Ok(Ended::BadRow) | Err(_) => SessionEnd::Error,
        };
        let (next_seq, rows) = (self.writer.next_seq(), self.counts.rows.load(Ordering::Relaxed));
        let late = self.writer.counters().late;
        let closed = self.writer.close(reason);
        self.acks.finish();
        let ended = match (done, closed) {
            (Ok(ended), Ok(())) => ended,
            (Err(error), _) => return Err(error),
            (Ok(_), Err(error)) => return Err(error.into()),
        };
        told?;
        if let Some(error) = self.acks.failure() {
            return Err(error.into());
        }
        let passed_over = self.counts.passed_over.load(Ordering::Relaxed);
        messages::note(format!(
            "{}: {rows} rows written, seq {}..{next_seq}, {late} late, {} rejected, \
             {passed_over} passed over",
            feed.name,
            next_seq - rows,
            self.rejects.count,
        ));
        match ended {
            Ended::Signal(signal) => reraise(signal),
            Ended::BadRow => {
                messages::partial("stopped at the bad row; --on-bad skip would go on");
                Ok(Exit::Partial)
            }
            Ended::Input => Ok(Exit::Ok),
        }
    }
}
