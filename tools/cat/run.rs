//! The work of dw-cat: resolve the range, select, print.

use deepwater::Platform;
use deepwater::layout::Layout;
use deepwater::os::signal::{self, Terminator};
use deepwater::reader::{Event, Reader, Selection};
use deepwater::text::encode::OutputFormat;
use deepwater::time::TimeUnit;

use super::args::{Args, Ints, Lines, Request, Style};
use super::choice::{self, Chosen};
use super::cursor::Cursor;
use super::emit::Printer;
use super::live::Live;
use super::merged::Merged;
use super::pace::Pace;
use super::pick::Pick;
use super::sink::{Break, Sink, Step, tell_damage, tell_lost};
use crate::cli::exit::{self, Exit};
use crate::cli::messages;
use crate::cli::out::Out;

/// Runs dw-cat.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let platform = Platform::open(args.common.base()?)?;
    let request = args.request()?;
    let mut feeds = choice::open(&platform, &request)?;
    let until = choice::resolve(&mut feeds, &request)?;
    let cursor = match &request.cursor_file {
        Some(path) => Some(open_cursor(path, &mut feeds, until.is_some())?),
        None => None,
    };
    begin(&mut feeds, &request, cursor.as_ref())?;
    warn_of_rounding(&request, feeds[0].reader.layout(), out);
    let patient = request.follow || request.replay.is_some();
    if patient || cursor.is_some() {
        Terminator::install()?;
        out.end_when(|| signal::caught().is_some());
    }
    let readers: Vec<&Reader> = feeds.iter().map(|feed| &feed.reader).collect();
    let mut sink = Sink::new(Printer::new(&readers, &request, out)?, &feeds);
    sink.pace(request.replay.map(Pace::new));
    let done = match cursor.map(|cursor| sink.keep(cursor)).transpose() {
        Ok(_) if patient => sink.live().and_then(|()| print(&mut sink, &feeds, &request, until)),
        Ok(_) => print(&mut sink, &feeds, &request, until),
        Err(error) => Err(error.into()),
    };
    finish(sink, done)
}

/// Flushes the output, then saves the position.
fn finish(mut sink: Sink<'_>, done: Step) -> anyhow::Result<Exit> {
    let saved = match &done {
        // Keep the position: a reader that left may not have read the last output.
        Err(Break::Failed(error)) if exit::is_closed(error) => Ok(()),
        _ => sink.save(),
    };
    match (done, saved) {
        (Err(Break::Signal(signal)), _) => signal::reraise(signal),
        // A tool that was asked to end does not wait for a reader that takes nothing.
        (Err(Break::Failed(error)), _) if exit::is_stuck(&error) => match signal::caught() {
            Some(signal) => signal::reraise(signal),
            None => Err(error),
        },
        (Err(Break::Failed(error)), _) | (_, Err(Break::Failed(error))) => Err(error),
        _ => Ok(Exit::Ok),
    }
}

/// Opens the cursor file and starts each feed at its position.
fn open_cursor(
    path: &std::path::Path,
    feeds: &mut [Chosen],
    until: bool,
) -> anyhow::Result<Cursor> {
    let readers: Vec<&Reader> = feeds.iter().map(|feed| &feed.reader).collect();
    let mut cursor = Cursor::open(path, &readers)?;
    for (at, feed) in feeds.iter_mut().enumerate() {
        cursor.check(at, feed)?;
        if let Some(next) = cursor.start(at) {
            tell_passed(feed, next)?;
            feed.selection.seqs.0 = feed.selection.seqs.0.max(next);
            feed.printed = cursor.printed(at).clone();
        }
        if until {
            cursor.hold_back(at, feed.selection.times.1, feed.selection.seqs.0);
        }
    }
    Ok(cursor)
}

/// Reports what was removed since the position where the last run ended.
fn tell_passed(feed: &Chosen, next: u64) -> anyhow::Result<()> {
    let (first, end) = (feed.snapshot.first_seq(), feed.snapshot.end_seq);
    if next > end {
        messages::warn(format!(
            "{}: the last run ended at seq {next}, and the feed ends at {end}: records were lost \
             with the machine, or the store is an older copy",
            feed.reader.feed().name
        ));
    }
    let mut passed = feed.reader.follow(Selection { seqs: (next, first), ..Selection::ALL })?;
    loop {
        match passed.next_event()? {
            Event::Lost(lost) => tell_lost(&lost),
            Event::Damage(damage) => tell_damage(&damage, feed.reader.layout().unit()),
            Event::Records(_) => {}
            Event::CaughtUp | Event::End | Event::Deleted | Event::Gone { .. } => return Ok(()),
        }
    }
}

/// Finds where each feed begins.
fn begin(
    feeds: &mut [Chosen],
    request: &Request,
    cursor: Option<&Cursor>,
) -> deepwater::Result<()> {
    let alone = request.follow
        && request.lines.is_none()
        && request.range.since.is_none()
        && request.replay.is_none()
        && request.seqs.is_none()
        && !request.playback;
    let one = feeds.len() == 1;
    for (at, feed) in feeds.iter_mut().enumerate() {
        let end = feed.snapshot.end_seq;
        let lines = request.lines.filter(|_| request.follow && one);
        let first = match lines {
            _ if alone && cursor.is_none_or(|cursor| cursor.start(at).is_none()) => end,
            Some(Lines::Last(0)) => end,
            Some(Lines::Last(n)) => Pick::new(feed, Some(Lines::Last(n)), false)?.first_seq(),
            _ => 0,
        };
        // Records removed earlier were not requested, so they are not reported as lost.
        let there = match request.follow || cursor.is_some() {
            true => feed.snapshot.first_seq().min(end),
            false => 0,
        };
        feed.selection.seqs.0 = feed.selection.seqs.0.max(first).max(there);
    }
    Ok(())
}

/// Prints the requested records.
fn print(sink: &mut Sink<'_>, feeds: &[Chosen], request: &Request, until: Option<u128>) -> Step {
    if feeds.len() > 1 {
        return print_several(sink, feeds, request, until);
    }
    let feed = &feeds[0];
    if request.follow {
        sink.head(None)?;
        if let Some(Lines::First(n)) = request.lines {
            sink.limit(n);
            if n == 0 {
                return Ok(());
            }
        }
        let follower = feed.reader.follow(feed.selection)?;
        return Live::new(vec![follower], request.spin, until).print(sink);
    }
    let Chosen { reader, snapshot, selection, .. } = feed;
    let pick = Pick::new(feed, request.lines, request.reverse)?;
    let npy = request.format == OutputFormat::Npy;
    sink.head(if npy { Some(pick.count()?) } else { None })?;
    let unit = reader.layout().unit();
    let take = |run: deepwater::reader::Run<'_>| sink.take(0, &run);
    let full = pick.each(take, |damage| tell_damage(&damage, unit), |lost| tell_lost(&lost))??;
    if !(full && matches!(request.lines, Some(Lines::First(_)))) {
        sink.reached(0, snapshot.end_seq.min(selection.seqs.1).max(selection.seqs.0));
    }
    Ok(sink.check_promise()?)
}

/// Prints the merged history, then new records as they arrive.
fn print_several(
    sink: &mut Sink<'_>,
    feeds: &[Chosen],
    request: &Request,
    until: Option<u128>,
) -> Step {
    let mut merged = Merged::new(feeds, request.lines, request.reverse)?;
    if matches!(request.lines, Some(Lines::First(_))) || !request.follow {
        sink.limit(merged.limit());
    }
    let npy = request.format == OutputFormat::Npy;
    sink.head(if npy { Some(merged.count()?) } else { None })?;
    merged.print(sink)?;
    sink.check_promise()?;
    if !request.follow || request.lines == Some(Lines::First(0)) {
        return Ok(());
    }
    if request.replay.is_some() {
        // More records arrive during a replay. It is live once nothing is left to replay.
        loop {
            let more = Merged::since(&merged)?;
            if more.is_empty() {
                break;
            }
            more.print(sink)?;
            merged = more;
        }
    }
    let mut followers = Vec::new();
    for (at, feed) in feeds.iter().enumerate() {
        let seqs = (merged.end(at), feed.selection.seqs.1);
        followers.push(feed.reader.follow(Selection { seqs, ..feed.selection })?);
    }
    Live::new(followers, request.spin, until).print(sink)
}

/// Warns a user at a terminal, who may paste nanoseconds into a tool that rounds them.
fn warn_of_rounding(request: &Request, layout: &Layout, out: &Out) {
    let rounded = request.format == OutputFormat::Jsonl
        && request.ints == Ints::Number
        && request.time == Style::Raw
        && layout.unit() == TimeUnit::Nanos;
    if rounded && out.is_terminal() {
        messages::warn(
            "times in nanoseconds are beyond 2^53, where jq 1.6 and JavaScript round; \
             --ints string prints them as strings",
        );
    }
}
