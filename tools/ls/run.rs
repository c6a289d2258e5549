//! The work of dw-ls.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use deepwater::Platform;
use deepwater::chunk::strays::Look;
use deepwater::chunk::{Shown, json_number};
use deepwater::error::system_text;
use deepwater::os::process;
use deepwater::reader::{Reader, RingState, Snapshot, SnapshotChunk};
use deepwater::registry::feed::{ChunkEnd, SessionEntry};
use deepwater::registry::holder::writer_of;
use deepwater::registry::live::LivePage;
use deepwater::schema::Stage;
use deepwater::show;
use deepwater::text::describe::describe;
use deepwater::text::words::{self, grouped};
use deepwater::time::TimeUnit;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::args::Args;
use super::gaps::{GAP_TITLES, gaps, range_word};
use super::watch::watch;
use crate::cli::exit::Exit;
use crate::cli::listing::Listing;
use crate::cli::messages;
use crate::cli::out::Out;
use crate::cli::times::{newest, show_time};

/// Runs dw-ls.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let platform = Platform::open(args.common.base()?)?;
    let all = platform.list_feeds()?;
    let asked = args.feeds.names();
    let there: HashSet<&str> = all.iter().map(String::as_str).collect();
    for name in &asked {
        if !there.contains(name) {
            // Reject an unknown feed before anything is printed.
            platform.feed_info(name)?;
        }
    }
    if args.watch {
        return watch(&platform, &asked, out);
    }
    let names = if asked.is_empty() { all.iter().map(String::as_str).collect() } else { asked };
    if args.names {
        for name in names {
            out.text(&format!("{name}\n"))?;
        }
        return Ok(Exit::Ok);
    }
    let mut lists = Lists::new(&args);
    for name in names {
        match Feed::look(&platform, name) {
            // Print each feed and close it, because there may be more feeds than open files
            // allowed.
            Ok(feed) => lists.add(&feed, out)?,
            Err(error) => messages::feed_error(name, &error),
        }
    }
    lists.end(out)?;
    Ok(Exit::Ok)
}

/// What is listed, printed feed by feed or collected as text.
struct Lists<'a> {
    args: &'a Args,
    zone: TimeZone,
    short: Listing<'static>,
    sections: Vec<(Details, Section)>,
    /// Number of feeds so far.
    count: usize,
}

impl<'a> Lists<'a> {
    fn new(args: &'a Args) -> Lists<'a> {
        let sections = [
            (args.chunks, chunks as Details, &CHUNK_TITLES[..]),
            (args.sessions, sessions as Details, &SESSION_TITLES[..]),
            (args.sessions, holes as Details, &HOLE_TITLES[..]),
            (args.gaps, gaps as Details, &GAP_TITLES[..]),
        ];
        let wanted = sections.into_iter().filter(|(wanted, _, _)| *wanted);
        let section = |titles| Section::new(args.json, titles);
        Lists {
            args,
            zone: args.tz.clone().unwrap_or(TimeZone::UTC),
            short: Listing::new(&SHORT_TITLES),
            sections: wanted.map(|(_, details, titles)| (details, section(titles))).collect(),
            count: 0,
        }
    }

    fn add(&mut self, feed: &Feed, out: &mut Out) -> anyhow::Result<()> {
        self.count += 1;
        let (args, zone) = (self.args, &self.zone);
        if let Some(lang) = args.layout {
            let info = feed.reader.feed();
            out.text(&describe(&info.layout, &info.name, lang))?;
            return Ok(());
        }
        if self.sections.is_empty() {
            return match (args.long, args.json) {
                (true, true) => Ok(out.json(&long_object(feed))?),
                (true, false) => long(feed, self.count == 1, zone, out),
                (false, true) => Ok(out.json(&object(feed))?),
                (false, false) => {
                    self.short.row(short(feed, zone));
                    Ok(())
                }
            };
        }
        for (details, section) in &mut self.sections {
            details(feed, zone, section)?;
        }
        // The other sections come after all of the first.
        self.sections[0].1.put_objects(out)
    }

    fn end(mut self, out: &mut Out) -> anyhow::Result<()> {
        if self.sections.is_empty() {
            let is_list = self.args.layout.is_none() && !self.args.long && !self.args.json;
            return if is_list { Ok(self.short.print(out)?) } else { Ok(()) };
        }
        for (at, (_, section)) in self.sections.iter_mut().enumerate() {
            if self.args.json {
                section.put_objects(out)?;
            } else if section.rows > 0 || at == 0 {
                if at > 0 {
                    out.put(b"\n")?;
                }
                section.listing.print(out)?;
            }
        }
        Ok(())
    }
}

/// Adds the rows of a feed to a section.
type Details = fn(&Feed, &TimeZone, &mut Section) -> deepwater::Result<()>;

/// A list with any number of rows per feed.
pub(super) struct Section {
    json: bool,
    listing: Listing<'static>,
    /// JSON objects, one per line.
    objects: String,
    rows: usize,
}

impl Section {
    fn new(json: bool, titles: &[&'static str]) -> Section {
        Section { json, listing: Listing::new(titles), objects: String::new(), rows: 0 }
    }

    /// Adds a row, as cells for people and as an object.
    pub(super) fn add(&mut self, cells: Vec<String>, object: &Value) {
        self.rows += 1;
        match self.json {
            true => self.objects += &format!("{object}\n"),
            false => self.listing.row(cells),
        }
    }

    fn put_objects(&mut self, out: &mut Out) -> anyhow::Result<()> {
        out.put(show::printable_json(&self.objects).as_bytes())?;
        self.objects.clear();
        Ok(())
    }
}

/// A feed, read once.
pub(super) struct Feed {
    pub(super) reader: Reader,
    pub(super) snapshot: Snapshot,
    /// The live page, if there is one.
    pub(super) live: Option<Arc<LivePage>>,
    times: Option<(u64, u64)>,
    /// The greatest time, where it is too far ahead of the clock to be the newest.
    ahead: Option<u64>,
    rate: f64,
    bytes: u64,
    /// Only for a transient feed.
    ring: Option<RingState>,
    /// Records in shared memory that are not on disk yet; `None` for a feed written to disk
    /// directly.
    backlog: Option<u64>,
    /// Process id of the writer, 0 if it is hidden from us; `None` if the feed is idle.
    pub(super) writer: Option<u32>,
}

impl Feed {
    fn look(platform: &Platform, name: &str) -> deepwater::Result<Feed> {
        let reader = platform.create_reader(name)?;
        let (snapshot, missing) = loop {
            let snapshot = reader.snapshot_with(Look::All)?;
            let missing = missing_files(&reader, &snapshot)?;
            // dw-gc may have removed the chunk after the table was read.
            if !missing.iter().any(|(chunk, _)| reader.is_collected(chunk)) {
                break (snapshot, missing);
            }
        };
        if let Some(text) = reader.what_is_cut_off(&snapshot)? {
            messages::partial(text);
        }
        let (times, ahead) = match reader.times(&snapshot)? {
            None => (None, None),
            Some(times) => {
                let (last, ahead) = newest(&reader, &snapshot, times)?;
                (Some((times.0, last)), ahead)
            }
        };
        missing.iter().for_each(|(_, what)| messages::partial(format!("{name}: {what}")));
        for doubt in &snapshot.doubts {
            messages::doubt(name, doubt);
        }
        let live = reader.live()?;
        let rate = live.as_ref().map_or(0.0, |live| live.rate(process::boottime_ns()));
        let bytes = snapshot.chunks.iter().map(|chunk| chunk_bytes(&reader, chunk)).sum::<u64>()
            + snapshot.ring.as_ref().map_or(0, |part| part.ring.file_bytes());
        let ring = match &snapshot.ring {
            Some(part) => Some(RingState::of(&part.ring, reader.feed())?),
            None => (!reader.feed().spec.policy.persist).then(RingState::default),
        };
        let writer = writer_of(&reader.feed().lock, live.as_deref())?;
        let backlog = backlog(&reader)?;
        Ok(Feed { reader, snapshot, live, times, ahead, rate, bytes, ring, backlog, writer })
    }

    pub(super) fn name(&self) -> &str {
        &self.reader.feed().name
    }

    fn unit(&self) -> TimeUnit {
        self.reader.layout().unit()
    }

    fn state(&self) -> &'static str {
        match (self.writer, self.ring) {
            (Some(_), _) => "writing",
            (None, Some(_)) => "ring",
            (None, None) => "idle",
        }
    }

    /// Returns the state as text.
    fn state_text(&self) -> String {
        let state = match self.writer {
            Some(pid) if pid > 0 => format!("writing, pid {pid}"),
            _ => self.state().to_owned(),
        };
        let ring = if self.writer.is_some() { ", ring" } else { "," };
        match &self.ring {
            Some(state_of) => format!("{state}{ring} {:.0}% full", state_of.fill() * 100.0),
            None => state,
        }
    }
}

fn backlog(reader: &Reader) -> deepwater::Result<Option<u64>> {
    let view = reader.view()?;
    let page = view.page.as_ref().filter(|page| view.is_staged() && page.is_open());
    Ok(page.map(|page| page.published().saturating_sub(page.durable())))
}

fn chunk_bytes(reader: &Reader, chunk: &SnapshotChunk) -> u64 {
    let Ok(paths) = reader.chunk_paths(chunk) else { return 0 };
    let size = |path| fs::metadata(path).map_or(0, |meta| meta.len());
    size(&paths.data) + size(&paths.index)
}

/// Returns the chunks whose files are missing or too short, with a description.
fn missing_files(
    reader: &Reader,
    snapshot: &Snapshot,
) -> deepwater::Result<Vec<(SnapshotChunk, String)>> {
    let mut missing = Vec::new();
    for chunk in &snapshot.chunks {
        // Check twice, because a chunk may move from memory to disk between two looks.
        let what = match missing_file(reader, chunk)? {
            Some(_) => missing_file(reader, chunk)?,
            None => None,
        };
        if let Some(what) = what {
            let (lo, hi) = (chunk.entry.base_seq, chunk.end_seq);
            missing.push((*chunk, format!("{what}; seq {lo}..{hi}")));
        }
    }
    Ok(missing)
}

fn missing_file(reader: &Reader, chunk: &SnapshotChunk) -> deepwater::Result<Option<String>> {
    let paths = match reader.chunk_paths(chunk) {
        Ok(paths) => paths,
        Err(error) if error.is_limit() => return Err(error),
        Err(error) => return Ok(Some(error.to_string())),
    };
    let needed = chunk.count() * reader.layout().record_size() as u64;
    for (path, needed) in [(&paths.data, needed), (&paths.index, 1)] {
        let what = match fs::metadata(path) {
            Ok(meta) if meta.len() >= needed => continue,
            Ok(meta) => format!("{} bytes, where its records take {needed}", meta.len()),
            Err(error) => system_text(&error),
        };
        return Ok(Some(format!("{}: {what}", path.display())));
    }
    Ok(None)
}

pub(super) fn wall(us: u64, zone: &TimeZone) -> String {
    show_time(us, TimeUnit::Micros, zone)
}

/// Rounds a number to three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn object(feed: &Feed) -> Value {
    let rate = rounded(feed.rate);
    let mut object = json!({
        "feed": feed.name(),
        "records": feed.snapshot.records(),
        "seq_lo": feed.snapshot.first_seq(),
        "seq_hi": feed.snapshot.end_seq,
        "first": feed.times.map(|t| t.0),
        "last": feed.times.map(|t| t.1),
        "rate": rate,
        "bytes": feed.bytes,
        "state": feed.state(),
        "pid": feed.writer.filter(|pid| *pid > 0),
        "backlog": feed.backlog,
    });
    if let Some(ahead) = feed.ahead {
        object["ahead"] = ahead.into();
    }
    if let Some(ring) = &feed.ring {
        object["ring"] = json!({
            "capacity_bytes": ring.capacity_bytes,
            "held_bytes": ring.held_bytes,
            "fill": rounded(ring.fill()),
            "history_seconds": rounded(ring.history_seconds),
            "overruns": ring.overruns,
            "overrun_records": ring.overrun_records,
        });
    }
    object
}

const SHORT_TITLES: [&str; 7] = ["FEED", ">RECORDS", "FIRST", "LAST", ">RATE/s", ">BYTES", "STATE"];

fn short(feed: &Feed, zone: &TimeZone) -> Vec<String> {
    let time =
        |time: Option<u64>| time.map_or("-".to_owned(), |time| show_time(time, feed.unit(), zone));
    if let Some(ahead) = feed.ahead {
        messages::warn(format!(
            "{}: a record has the time {}, which is more than a day ahead of the clock; LAST \
             passes over it",
            feed.name(),
            time(Some(ahead))
        ));
    }
    vec![
        feed.name().to_owned(),
        grouped(feed.snapshot.records()),
        time(feed.times.map(|t| t.0)),
        time(feed.times.map(|t| t.1)),
        format!("{:.1}", feed.rate),
        words::size(feed.bytes),
        feed.state_text(),
    ]
}

fn long_object(feed: &Feed) -> Value {
    let mut object = object(feed);
    object["spec"] = feed.reader.feed().spec.to_json();
    object
}

fn long(feed: &Feed, first: bool, zone: &TimeZone, out: &mut Out) -> anyhow::Result<()> {
    let info = feed.reader.feed();
    if !first {
        out.put(b"\n")?;
    }
    out.text(&format!("{}\n", info.name))?;
    out.text(&format!("  made {}\n", wall(info.created_us, zone)))?;
    let layout = &info.layout;
    let time = show::printable(&layout.time_field().name);
    let (size, unit) = (layout.record_size(), layout.unit());
    out.text(&format!("  record {size} bytes, time column {time} in {unit}\n"))?;
    for field in layout.fields() {
        let name = show::printable(&field.name);
        let desc = show::printable(&field.desc);
        let line = format!("    {:>5}  {:<14} {name}  {desc}", field.offset, field.kind);
        out.text(&format!("{}\n", line.trim_end()))?;
    }
    out.text(&policy(feed))?;
    if let Some(backlog) = feed.backlog {
        let folder = feed.reader.view()?.segments.map(|s| s.folder).unwrap_or_default();
        let backlog = grouped(backlog);
        let line = format!("  staged in {}: {backlog} records not on disk yet\n", folder.display());
        out.text(&line)?;
    }
    Ok(())
}

fn policy(feed: &Feed) -> String {
    let policy = &feed.reader.feed().spec.policy;
    let duration = |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let retention = policy.retention_seconds.map_or("forever".to_owned(), duration);
    let max_size = policy.max_size_bytes.map_or("any size".to_owned(), words::size);
    let stage = match (policy.stage, policy.live_window_seconds) {
        (Stage::Disk, _) => "on disk".to_owned(),
        (Stage::Shm, 0) => "in shared memory".to_owned(),
        (Stage::Shm, kept) => format!("in shared memory, there for {} more", duration(kept)),
    };
    let kept = match &feed.ring {
        Some(ring) => format!(
            "  ring of {}, {:.0}% full, {:.1} s of history; {} overruns of followers, who lost {} \
             records\n  ",
            words::size(policy.ring_size_bytes),
            ring.fill() * 100.0,
            ring.history_seconds,
            grouped(ring.overruns),
            grouped(ring.overrun_records),
        ),
        None => format!(
            "  kept {retention}, {max_size}; chunks of {} or {}, born {stage}; sync {}; ",
            words::size(policy.chunk_size_bytes),
            humantime::format_duration(policy.chunk_age()),
            policy.sync,
        ),
    };
    format!(
        "{kept}order {}; live {}; mode {:04o}\n",
        format!("{:?}", policy.order).to_lowercase(),
        if policy.live { "yes" } else { "no" },
        policy.file_mode,
    )
}

const CHUNK_TITLES: [&str; 11] = [
    "FEED", ">CHUNK", "PLACE", ">SEQ", ">RECORDS", "FIRST", "LAST", ">BYTES", ">MARKS", "SEALED",
    "ENDED",
];

fn chunks(feed: &Feed, zone: &TimeZone, section: &mut Section) -> deepwater::Result<()> {
    for chunk in &feed.snapshot.chunks {
        let (entry, seal) = (chunk.entry, chunk.entry.seal);
        let times = feed.reader.chunk_times(chunk).ok();
        let bytes = chunk_bytes(&feed.reader, chunk);
        let place = format!("{:?}", entry.place).to_lowercase().replace("ondisk", "on-disk");
        let ended = seal.map(|seal| ChunkEnd::word(seal.reason));
        let marks = seal.map(|seal| seal.marks);
        let show = |time: Option<u64>| {
            time.map_or("-".to_owned(), |time| show_time(time, feed.unit(), zone))
        };
        let cells = vec![
            feed.name().to_owned(),
            Shown(entry.chunk_id).to_string(),
            place.clone(),
            entry.base_seq.to_string(),
            grouped(chunk.count()),
            show(times.map(|t| t.0)),
            show(times.map(|t| t.1)),
            words::size(bytes),
            marks.map_or("-".to_owned(), |marks| marks.to_string()),
            seal.map_or("-".to_owned(), |seal| wall(seal.sealed_us, zone)),
            ended.unwrap_or("-").to_owned(),
        ];
        let object = json!({
            "feed": feed.name(), "chunk": json_number(entry.chunk_id), "place": place,
            "seq_lo": entry.base_seq, "seq_hi": chunk.end_seq, "records": chunk.count(),
            "first": times.map(|t| t.0), "last": times.map(|t| t.1), "bytes": bytes,
            "marks": marks, "session": entry.session_id, "created_us": entry.created_us,
            "sealed_us": seal.map(|seal| seal.sealed_us), "ended": ended,
        });
        section.add(cells, &object);
    }
    Ok(())
}

/// Returns why a session ended. If it was not closed and its writer is gone, the writer crashed;
/// the next writer will record that.
fn session_end(feed: &Feed, session: &SessionEntry) -> &'static str {
    let newest = feed.snapshot.sessions.last().map(|last| last.session_id);
    match session.close {
        Some(close) => close.reason.as_str(),
        None if Some(session.session_id) == newest && feed.writer.is_some() => "open",
        None => "crashed",
    }
}

const SESSION_TITLES: [&str; 11] = [
    "FEED",
    ">SESSION",
    "OPENED",
    "CLOSED",
    "REASON",
    ">SEQ",
    ">RECORDS",
    ">REJECTED",
    ">PASSED OVER",
    ">LATE",
    ">PID",
];

fn sessions(feed: &Feed, zone: &TimeZone, section: &mut Section) -> deepwater::Result<()> {
    for session in &feed.snapshot.sessions {
        let close = session.close;
        let end_seq = close.map_or(feed.snapshot.end_seq, |close| close.end_seq);
        let live = || feed.live.as_ref().map(|live| live.counters());
        let counters = close.map(|close| close.counters).or_else(live).unwrap_or_default();
        let reason = session_end(feed, session);
        let cells = vec![
            feed.name().to_owned(),
            session.session_id.to_string(),
            wall(session.opened_us, zone),
            close.map_or("-".to_owned(), |close| wall(close.closed_us, zone)),
            reason.to_owned(),
            session.base_seq.to_string(),
            grouped(end_seq.saturating_sub(session.base_seq)),
            grouped(counters.rejected),
            grouped(counters.passed_over),
            grouped(counters.late),
            session.pid.to_string(),
        ];
        let object = json!({
            "feed": feed.name(), "session": session.session_id,
            "opened_us": session.opened_us, "closed_us": close.map(|close| close.closed_us),
            "reason": reason, "seq_lo": session.base_seq, "seq_hi": end_seq,
            "rejected": counters.rejected, "passed_over": counters.passed_over,
            "late": counters.late, "pid": session.pid,
        });
        section.add(cells, &object);
    }
    Ok(())
}

const HOLE_TITLES: [&str; 5] = ["FEED", ">FROM SEQ", ">TO SEQ", "NOTED", "WHY"];

fn holes(feed: &Feed, zone: &TimeZone, section: &mut Section) -> deepwater::Result<()> {
    for hole in &feed.snapshot.holes {
        let why = range_word(hole.reason);
        let (lo, hi) = hole.seqs;
        let noted = wall(hole.recorded_us, zone);
        let name = feed.name().to_owned();
        let cells = vec![name, lo.to_string(), hi.to_string(), noted, why.to_owned()];
        let object = json!({
            "feed": feed.name(), "hole": why, "seq_lo": lo, "seq_hi": hi,
            "recorded_us": hole.recorded_us,
        });
        section.add(cells, &object);
    }
    Ok(())
}
