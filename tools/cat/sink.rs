//! Takes selected records, paces and limits them, prints them, and saves the position in the cursor
//! file. Signals and a reader that has left are detected here, whatever the source.

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

/// How often to check that the reader of stdout is still there.
const LOOK: Duration = Duration::from_millis(100);
/// How often to save the position.
const SAVE: Duration = Duration::from_secs(1);

/// Why printing ends before its source.
pub enum Break {
    /// As many records as requested were printed.
    Full,
    /// A signal arrived.
    Signal(i32),
    /// An error occurred.
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
    /// How many records may still be printed.
    left: u64,
    printed: u64,
    /// How many records the header promised.
    promised: Option<u64>,
    pace: Option<Pace>,
    cursor: Option<Cursor>,
    /// For each feed: every record below was printed or not selected.
    positions: Vec<u64>,
    /// Whether records come in order of seq, so that each run moves the position of its feed.
    by_seq: bool,
    /// Feed and seq of the first record of a run that was not printed to its end.
    unprinted: Option<(usize, u64)>,
    /// Whether output may pause for long, so that the reader of stdout must be checked.
    live: bool,
    looked: Instant,
    saved: Instant,
}

impl<'a> Sink<'a> {
    /// Creates a sink that takes all records without pacing.
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

    /// From now on checks regularly that the reader of stdout is there.
    ///
    /// # Errors
    /// If it has left.
    pub fn live(&mut self) -> Step {
        self.live = true;
        Ok(self.printer.out().check()?)
    }

    /// Limits the number of records.
    pub fn limit(&mut self, records: u64) {
        self.left = records;
    }

    /// Paces records; `None` prints them at once.
    pub fn pace(&mut self, pace: Option<Pace>) {
        self.pace = pace;
    }

    /// Saves the position in a cursor file from now on.
    pub fn keep(&mut self, cursor: Cursor) -> anyhow::Result<()> {
        self.cursor.insert(cursor).save(self.feeds, &self.positions)
    }

    /// Sets whether records come in order of seq; otherwise they come in order of time.
    pub fn by_seq(&mut self, by_seq: bool) {
        self.by_seq = by_seq;
    }

    /// Notes that the records of a feed below this seq were all given.
    pub fn reached(&mut self, feed: usize, seq: u64) {
        self.positions[feed] = match self.unprinted {
            Some((of, first)) if of == feed => seq.min(first),
            _ => seq,
        };
    }

    /// Whether it is time to save the position.
    pub fn is_due(&self) -> bool {
        self.cursor.is_some() && self.saved.elapsed() >= SAVE
    }

    /// Prints the header, which may say how many records follow.
    pub fn head(&mut self, promised: Option<u64>) -> Step {
        self.promised = promised;
        Ok(self.printer.head(promised.unwrap_or(0))?)
    }

    /// Checks that as many records came as the header promised.
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

    /// Prints the records of a run that meet the conditions.
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

    /// Returns how far the records of a run, from `at` on, are due. If none is, waits for a while
    /// first.
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
        // Flush, so that printed records are visible during the wait.
        self.printer.flush()?;
        std::thread::sleep((first - now).min(LOOK));
        Ok(at)
    }

    /// Checks for a signal, for the reader of stdout, and whether it is time to save.
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

    /// Flushes all output.
    pub fn flush(&mut self) -> Step {
        Ok(self.printer.flush()?)
    }

    /// Flushes all output and saves the position.
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

/// Reports what could not be read.
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

/// Reports what is lost.
pub fn tell_lost(lost: &Lost) {
    let Lost { feed, seqs, why, gap } = lost;
    let text = format!("{feed}: left out seq {}..{}: {why}", seqs.0, seqs.1);
    match why {
        // No message is due: a run started a moment later would not have seen these records at all.
        Why::Collected | Why::Overwritten if !gap => messages::note(text),
        Why::Collected => messages::partial(format!("{text} while older records were printed")),
        _ => messages::partial(text),
    }
}
