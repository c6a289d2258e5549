//! dw-cat's work: resolve the range, choose, print.

use anyhow::bail;
use deepwater::Platform;
use deepwater::layout::Layout;
use deepwater::reader::{Damage, Lost, Reader, Run, Selection, Snapshot};
use deepwater::text::encode::{EncodeOptions, Encoder, IntStyle, OutputFormat, TimeStyle};
use deepwater::text::filter::Filter;
use deepwater::time::TimeUnit;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::{Args, Ints, Request, Style};
use super::emit::Emitter;
use super::pick::{Missing, Pick};
use crate::cli::exit::Exit;
use crate::cli::messages;
use crate::cli::out::Out;
use crate::cli::times::{Context, show_time};

/// Runs dw-cat.
///
/// # Errors
/// What makes it fail, for [`crate::cli::exit::main_with`].
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let platform = Platform::open(args.common.base()?)?;
    let request = args.request()?;
    let reader = platform.create_reader(&request.feed)?;
    let layout = reader.layout();
    let encoder = encoder(layout, &request)?;
    let filters: Vec<Filter> = request
        .where_
        .iter()
        .map(|text| Filter::parse(layout, text))
        .collect::<deepwater::Result<_>>()?;
    let snapshot = reader.snapshot()?;
    let selection = selection(&reader, &snapshot, &request)?;
    warn_of_rounding(&request, layout, out);
    let pick = Pick::new(&reader, &snapshot, selection, &filters, request.lines, request.reverse)?;
    let count = match request.format {
        OutputFormat::Npy => pick.count()?,
        _ => 0,
    };
    let size = layout.record_size();
    let mut emitter = Emitter::new(encoder, request.format, out, size, pick.is_reverse(), count)?;
    let unit = layout.unit();
    let mut printed = 0;
    let print = |run: Run<'_>| {
        printed += (run.records.len() / size) as u64;
        emitter.run(&run)
    };
    pick.each(print, |missing| tell(&missing, unit))??;
    emitter.finish()?;
    if request.format == OutputFormat::Npy && printed != count {
        bail!(
            "{}: records were taken away between counting and printing: {printed} follow a header that \
             says {count}; run it again",
            request.feed
        );
    }
    Ok(Exit::Ok)
}

fn encoder(layout: &Layout, request: &Request) -> anyhow::Result<Encoder> {
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
        with_feed: request.with_feed.then(|| request.feed.clone()),
    };
    Ok(Encoder::new(layout, request.format, &options)?)
}

/// Turns times into the feed's unit, and playback into a seq.
fn selection(reader: &Reader, snapshot: &Snapshot, request: &Request) -> anyhow::Result<Selection> {
    let unit = reader.layout().unit();
    let zone = request.range.zone();
    let span = || Ok(reader.times(snapshot)?);
    let context = Context { now: Timestamp::now(), zone: &zone, unit, span: &span };
    let bounds = request.range.resolve(&context)?;
    let (lo, hi) = request.seqs;
    let mut selection = Selection {
        seqs: (lo.max(bounds.seq_since.unwrap_or(0)), hi.min(bounds.seq_until.unwrap_or(u64::MAX))),
        times: (bounds.time_since.unwrap_or(0), bounds.time_until.unwrap_or(u64::MAX)),
    };
    if request.playback {
        let mark = reader.last_mark(snapshot, bounds.time_since.unwrap_or(u64::MAX))?;
        selection.seqs.0 = selection.seqs.0.max(mark);
        // From the mark on everything counts, late records older than it too.
        selection.times.0 = 0;
    }
    Ok(selection)
}

/// A person at a terminal may go on to paste nanoseconds into jq or a browser.
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

fn tell(missing: &Missing, unit: TimeUnit) {
    match missing {
        Missing::Damage(damage) => tell_damage(damage, unit),
        Missing::Lost(Lost { feed, seqs: (lo, hi), why, gap }) => {
            let text = format!("{feed}: left out seq {lo}..{hi}: {why}");
            match gap {
                true => messages::partial(format!("{text} while older records were printed")),
                // As if it had been run a moment later.
                false => messages::note(text),
            }
        }
    }
}

fn tell_damage(damage: &Damage, unit: TimeUnit) {
    let times = damage.times.map_or(String::new(), |(min, max)| {
        let show = |time| show_time(time, unit, &TimeZone::UTC);
        format!(", times {} to {}", show(min), show(max))
    });
    let Damage { feed, chunk_id, block, seqs, what, .. } = damage;
    messages::partial(format!(
        "{feed}: chunk {chunk_id} block {block}: left out seq {}..{}{times}: {what}",
        seqs.0, seqs.1
    ));
}
