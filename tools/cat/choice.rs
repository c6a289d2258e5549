//! Opens the feeds and selects records: the range in each feed's unit, and the conditions.

use deepwater::os::process;
use deepwater::reader::{Reader, Selection, Snapshot};
use deepwater::text::filter::Filter;
use deepwater::time::TimeUnit;
use deepwater::{Error, Platform};
use jiff::Timestamp;

use super::args::Request;
use super::printed::Printed;
use crate::cli::args::Bounds;
use crate::cli::messages;
use crate::cli::times::{self, Context};

/// A feed, and which of its records to print.
pub struct Chosen {
    /// The feed.
    pub reader: Reader,
    /// Its contents when it was opened.
    pub snapshot: Snapshot,
    /// The range.
    pub selection: Selection,
    /// The conditions; a record must meet all.
    pub filters: Vec<Filter>,
    /// The records that earlier runs have printed.
    pub printed: Printed,
}

impl Chosen {
    /// Returns the size of a record in bytes.
    pub fn record_size(&self) -> usize {
        self.reader.layout().record_size()
    }

    /// Whether every record of the selection is printed.
    pub fn takes_all(&self) -> bool {
        self.filters.is_empty() && self.printed.is_empty()
    }

    /// Whether this record of the selection is printed.
    pub fn takes(&self, seq: u64, record: &[u8]) -> bool {
        let printed = || self.printed.has(seq, self.reader.layout().time_of(record));
        self.filters.iter().all(|filter| filter.matches(record))
            && (self.printed.is_empty() || !printed())
    }
}

/// Opens the feeds in the order given.
pub fn open(platform: &Platform, request: &Request) -> anyhow::Result<Vec<Chosen>> {
    let mut feeds = Vec::new();
    // Each feed that is merged stays open.
    let most = if request.feeds.len() > 1 { process::raise_open_files() } else { u64::MAX };
    for name in &request.feeds {
        let reader = platform.create_reader(name).map_err(|error| match error.is_limit() {
            true => too_many(error, request.feeds.len(), feeds.len(), most),
            false => error.into(),
        })?;
        let parse = |text: &String| Filter::parse(reader.layout(), text);
        let filters = request.where_.iter().map(parse).collect::<deepwater::Result<_>>()?;
        let snapshot = reader.snapshot_with(request.look())?;
        if let Some(text) = reader.what_is_cut_off(&snapshot)? {
            // A scan reports which of the requested seqs it leaves out.
            match request.follow {
                true => messages::partial(text),
                false => messages::warn(text),
            }
        }
        match reader.what_is_unproven(&snapshot)? {
            Some((text, true)) => messages::partial(text),
            Some((text, false)) => messages::warn(text),
            None => {}
        }
        for doubt in &snapshot.doubts {
            messages::doubt(name, doubt);
        }
        let printed = Printed::default();
        feeds.push(Chosen { reader, snapshot, selection: Selection::ALL, filters, printed });
    }
    Ok(feeds)
}

/// Explains an error while opening `feeds` feeds, if `most` open files were enough for only
/// `opened` of them.
fn too_many(error: Error, feeds: usize, opened: usize, most: u64) -> anyhow::Error {
    let each = most.div_ceil(opened.max(1) as u64);
    let needed = each.saturating_mul(feeds as u64);
    anyhow::Error::from(error).context(format!(
        "{feeds} feeds at once take up to {needed} open files, and {most} are allowed"
    ))
}

/// Resolves the range for every feed. Returns `--until` in nanoseconds since the epoch, if it is a
/// time.
pub fn resolve(feeds: &mut [Chosen], request: &Request) -> anyhow::Result<Option<u128>> {
    let first = feeds[0].reader.layout().unit();
    let same = feeds.iter().all(|feed| feed.reader.layout().unit() == first);
    let unit = if same { first } else { TimeUnit::Nanos };
    let zone = request.range.zone();
    let span = || span(feeds, unit);
    let context = Context { now: Timestamp::now(), zone: &zone, unit, span: &span };
    let bounds = request.range.resolve(&context)?;
    for feed in feeds.iter_mut() {
        feed.selection = selection(feed, &bounds, unit, request)?;
    }
    let until = bounds.time_until.filter(|&ticks| ticks != u64::MAX);
    Ok(until.map(|ticks| u128::from(ticks) * u128::from(unit.nanos())))
}

/// Returns the oldest and newest time of all feeds.
fn span(feeds: &[Chosen], unit: TimeUnit) -> anyhow::Result<Option<(u64, u64)>> {
    let mut whole: Option<(u64, u64)> = None;
    for feed in feeds {
        let Some(times) = feed.reader.times(&feed.snapshot)? else { continue };
        let (min, (max, _)) = (times.0, times::newest(&feed.reader, &feed.snapshot, times)?);
        let scale = feed.reader.layout().unit().nanos() / unit.nanos();
        let (min, max) = (min.saturating_mul(scale), max.saturating_mul(scale));
        whole = Some(whole.map_or((min, max), |w| (w.0.min(min), w.1.max(max))));
    }
    Ok(whole)
}

/// Returns the range in the feed's own unit. Turns `--playback` into a seq.
fn selection(
    feed: &Chosen,
    bounds: &Bounds,
    unit: TimeUnit,
    request: &Request,
) -> anyhow::Result<Selection> {
    let scale = feed.reader.layout().unit().nanos() / unit.nanos();
    // Rounding up is exact at both ends of a half-open range.
    let ticks = |bound: u64| if bound == u64::MAX { bound } else { bound.div_ceil(scale) };
    let (lo, hi) = request.seqs.unwrap_or((0, u64::MAX));
    let mut selection = Selection {
        seqs: (lo.max(bounds.seq_since.unwrap_or(0)), hi.min(bounds.seq_until.unwrap_or(u64::MAX))),
        times: (bounds.time_since.map_or(0, ticks), bounds.time_until.map_or(u64::MAX, ticks)),
    };
    if request.playback {
        let since = bounds.time_since.map_or(u64::MAX, ticks);
        let mark = feed.reader.last_mark(&feed.snapshot, since)?;
        selection.seqs.0 = selection.seqs.0.max(mark);
        // After the mark every record counts, even a late one that is older than the mark.
        selection.times.0 = 0;
    }
    Ok(selection)
}
