//! Where chosen records go: at their pace, up to the limit, into the printer, and on record in the
//! cursor file. Whatever the source, this is also where signals and a reader that left are seen.

use std::time::{Duration, Instant};

use anyhow::bail;
use deepwater::chunk::Shown;
use deepwater::os::signal;
use deepwater::reader::{Damage, Lost, Run, Why};
use deepwater::time::TimeUnit;
use jiff::tz::TimeZone;

use super::choice::Chosen;
use super::cursor::Cursor;
use super::emit::Printer;
use super::pace::Pace;
use crate::cli::times::show_time;
use crate::cli::{messages, out};

/// How often stdout's reader is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often the place is saved.
const SAVE: Duration = Duration::from_secs(1);

/// Why printing ends before its source does.
pub enum Break {
    /// As many records are out as were asked for.
    Full,
    /// A signal.
    Signal(i32),
    /// An error.
    Failed(anyhow::Error),
}

/// A step of printing.
pub type Step<T = ()> = Result<T, Break>;

impl From<anyhow::Error> for Break {
    fn from(error: anyhow::Error) -> Break {
        Break::Failed(error)
    }
}

impl From<out::Error> for Break {
    fn from(error: out::Error) -> Break {
        Break::Failed(error.into())
    }
}

impl From<deepwater::Error> for Break {
    fn from(error: deepwater::Error) -> Break {
        Break::Failed(error.into())
    }
}

/// Takes records and prints them.
pub struct Sink<'a> {
    printer: Printer<'a>,
    feeds: &'a [Chosen],
    /// Records still to be printed.
    left: u64,
    printed: u64,
    /// What the header says will come.
    promised: Option<u64>,
    pace: Option<Pace>,
    cursor: Option<Cursor>,
    /// For each feed: everything below was printed, or is not asked for.
    positions: Vec<u64>,
    /// Whether records come by seq, so that each run moves its feed's position.
    by_seq: bool,
    /// The first record of a run that was not printed to its end.
    unprinted: Option<(usize, u64)>,
    /// Whether it may be long before anything is written, so that stdout's reader is looked for.
    live: bool,
    looked: Instant,
    saved: Instant,
}

impl<'a> Sink<'a> {
    /// A sink that takes all, at once.
    pub fn new(printer: Printer<'a>, feeds: &'a [Chosen]) -> Sink<'a> {
        let now = Instant::now();
        Sink {
            printer,
            positions: feeds.iter().map(|feed| feed.selection.seqs.0).collect(),
            feeds,
            left: u64::MAX,
            printed: 0,
            promised: None,
            pace: None,
            cursor: None,
            by_seq: true,
            unprinted: None,
            live: false,
            looked: now,
            saved: now,
        }
    }

    /// Looks for stdout's reader as time passes.
    ///
    /// # Errors
    /// If there is none.
    pub fn live(&mut self) -> Step {
        self.live = true;
        Ok(self.printer.out().check()?)
    }

    /// Takes only so many.
    pub fn limit(&mut self, records: u64) {
        self.left = records;
    }

    /// Prints records at their pace; none: at once.
    pub fn pace(&mut self, pace: Option<Pace>) {
        self.pace = pace;
    }

    /// Keeps the place in a cursor file, from now on.
    pub fn keep(&mut self, cursor: Cursor) -> anyhow::Result<()> {
        self.cursor.insert(cursor).save(self.feeds, &self.positions)
    }

    /// Says whether records come by seq, or by time.
    pub fn by_seq(&mut self, by_seq: bool) {
        self.by_seq = by_seq;
    }

    /// Says up to where a feed's records were given.
    pub fn reached(&mut self, feed: usize, seq: u64) {
        self.positions[feed] = match self.unprinted {
            Some((of, first)) if of == feed => seq.min(first),
            _ => seq,
        };
    }

    /// Whether the place is to be saved now.
    pub fn is_due(&self) -> bool {
        self.cursor.is_some() && self.saved.elapsed() >= SAVE
    }

    /// Prints what comes before the first record, which may say how many records will come.
    pub fn head(&mut self, promised: Option<u64>) -> Step {
        self.promised = promised;
        Ok(self.printer.head(promised.unwrap_or(0))?)
    }

    /// Whether as many records came as were promised.
    pub fn check_promise(&self) -> anyhow::Result<()> {
        match self.promised.filter(|promised| *promised != self.printed) {
            None => Ok(()),
            Some(promised) => bail!(
                "{} records follow a header that says {promised}: some were taken away, or could \
                 not be read, after they had been counted; run it again",
                self.printed
            ),
        }
    }

    /// Prints those of a run that meet the conditions.
    pub fn choose(&mut self, feed: usize, run: &Run<'_>) -> Step {
        let chosen = &self.feeds[feed];
        if chosen.takes_all() {
            return self.take(feed, run);
        }
        let size = chosen.record_size();
        let n = run.records.len() / size;
        let matches = |i: &usize| {
            let record = &run.records[i * size..(i + 1) * size];
            chosen.takes(run.first_seq + *i as u64, record)
        };
        let mut at = 0;
        while let Some(from) = (at..n).find(matches) {
            let to = (from..n).find(|i| !matches(i)).unwrap_or(n);
            self.take(feed, &part(run, from, to, size))?;
            at = to;
        }
        self.tick()
    }

    /// Prints a run.
    pub fn take(&mut self, feed: usize, run: &Run<'_>) -> Step {
        let size = self.feeds[feed].record_size();
        let n = run.records.len() / size;
        let wanted = n.min(usize::try_from(self.left).unwrap_or(n));
        self.unprinted = Some((feed, run.first_seq));
        let mut at = 0;
        while at < wanted {
            let due = self.due(feed, run, at, wanted)?;
            if due > at {
                self.printer.run(feed, &part(run, at, due, size))?;
                self.left -= (due - at) as u64;
                self.printed += (due - at) as u64;
                at = due;
                let next = run.first_seq + at as u64;
                self.unprinted = Some((feed, next));
                if self.by_seq {
                    self.positions[feed] = next;
                }
            }
            self.tick()?;
        }
        if wanted == n {
            self.unprinted = None;
        }
        if self.left == 0 { Err(Break::Full) } else { Ok(()) }
    }

    /// The end of those of a run, from `at` on, that are due. If none is, some time has passed when
    /// this returns.
    fn due(&mut self, feed: usize, run: &Run<'_>, at: usize, to: usize) -> Step<usize> {
        let Some(pace) = &mut self.pace else { return Ok(to) };
        let layout = self.feeds[feed].reader.layout();
        let (size, scale) = (layout.record_size(), u128::from(layout.unit().nanos()));
        let mut due = |i: usize| {
            let time = layout.time_of(&run.records[i * size..(i + 1) * size]);
            pace.due(u128::from(time) * scale)
        };
        let first = due(at);
        let now = Instant::now();
        if first <= now {
            return Ok((at + 1..to).find(|&i| due(i) > now).unwrap_or(to));
        }
        // What was printed is to be seen while we wait.
        self.printer.flush()?;
        std::thread::sleep((first - now).min(LOOK));
        Ok(at)
    }

    /// Looks for a signal, for stdout's reader, and at the clock.
    pub fn tick(&mut self) -> Step {
        if let Some(signal) = signal::caught() {
            return Err(Break::Signal(signal));
        }
        if self.live && self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.printer.out().check()?;
        }
        if self.by_seq && self.is_due() {
            self.save()?;
        }
        Ok(())
    }

    /// Puts out all there is.
    pub fn flush(&mut self) -> Step {
        Ok(self.printer.flush()?)
    }

    /// Puts out all there is and saves the place.
    pub fn save(&mut self) -> Step {
        self.printer.flush()?;
        if let Some(cursor) = &mut self.cursor {
            cursor.save(self.feeds, &self.positions)?;
            self.saved = Instant::now();
        }
        Ok(())
    }
}

fn part<'r>(run: &Run<'r>, from: usize, to: usize, size: usize) -> Run<'r> {
    Run { first_seq: run.first_seq + from as u64, records: &run.records[from * size..to * size] }
}

/// Tells what could not be read.
pub fn tell_damage(damage: &Damage, unit: TimeUnit) {
    let times = damage.times.map_or(String::new(), |(min, max)| {
        let show = |time| show_time(time, unit, &TimeZone::UTC);
        format!(", times {} to {}", show(min), show(max))
    });
    let Damage { feed, chunk_id, block, seqs, what, .. } = damage;
    messages::partial(format!(
        "{feed}: chunk {} block {block}: left out seq {}..{}{times}: {what}",
        Shown(*chunk_id),
        seqs.0,
        seqs.1
    ));
}

/// Tells what is gone.
pub fn tell_lost(lost: &Lost) {
    let Lost { feed, seqs, why, gap } = lost;
    let text = format!("{feed}: left out seq {}..{}: {why}", seqs.0, seqs.1);
    match why {
        // As if this had been run a moment later.
        Why::Collected | Why::Overwritten if !gap => messages::note(text),
        Why::Collected => messages::partial(format!("{text} while older records were printed")),
        _ => messages::partial(text),
    }
}
