//! The history of several feeds merged by time: which part of it, and how many records from which
//! end.

use deepwater::reader::merge::{Merge, Rank};
use deepwater::reader::{Direction, Run, Selection, Snapshot};

use super::args::Lines;
use super::choice::Chosen;
use super::sink::{Sink, Step, tell_damage, tell_lost};

/// The selected records of several feeds, in the order of printing.
pub struct Merged<'a> {
    feeds: &'a [Chosen],
    /// Snapshot and range of each feed.
    ranges: Vec<(Snapshot, Selection)>,
    direction: Direction,
    /// Where to begin; `None` means at the start.
    from: Option<Rank>,
    limit: u64,
}

impl<'a> Merged<'a> {
    /// Finds where to begin. The last N are found, as with one feed, by a backward merge that only
    /// counts.
    pub fn new(
        feeds: &'a [Chosen],
        lines: Option<Lines>,
        reverse: bool,
    ) -> deepwater::Result<Merged<'a>> {
        let ranges = feeds.iter().map(|feed| (feed.snapshot.clone(), feed.selection));
        let mut merged = Merged {
            feeds,
            ranges: ranges.collect(),
            direction: if reverse { Direction::Reverse } else { Direction::Forward },
            from: None,
            limit: u64::MAX,
        };
        match (lines, reverse) {
            (None, _) => {}
            (Some(Lines::First(0) | Lines::Last(0)), _) => merged.limit = 0,
            // The merge meets these records first.
            (Some(Lines::First(n)), false) | (Some(Lines::Last(n)), true) => merged.limit = n,
            (Some(Lines::Last(n)), false) => merged.from = merged.nth(n, Direction::Reverse)?,
            (Some(Lines::First(n)), true) => merged.from = merged.nth(n, Direction::Forward)?,
        }
        Ok(merged)
    }

    /// Returns the records that arrived after those of `before`.
    pub fn since(before: &Merged<'a>) -> deepwater::Result<Merged<'a>> {
        let mut ranges = Vec::new();
        for (feed, (snapshot, selection)) in before.feeds.iter().zip(&before.ranges) {
            let seqs = (snapshot.end_seq.max(selection.seqs.0), selection.seqs.1);
            ranges.push((feed.reader.snapshot()?, Selection { seqs, ..*selection }));
        }
        let (feeds, direction) = (before.feeds, before.direction);
        Ok(Merged { feeds, ranges, direction, from: None, limit: u64::MAX })
    }

    /// Whether all ranges are empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.iter().all(|(snapshot, range)| snapshot.end_seq <= range.seqs.0)
    }

    /// Returns how many records are printed at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the end seq of a feed's snapshot.
    pub fn end(&self, feed: usize) -> u64 {
        let (snapshot, selection) = &self.ranges[feed];
        snapshot.end_seq.max(selection.seqs.0)
    }

    fn merge(&self, direction: Direction) -> deepwater::Result<Merge> {
        let feeds = self.feeds.iter().zip(&self.ranges);
        let feeds: Vec<_> = feeds.map(|(f, (snapshot, s))| (&f.reader, snapshot, *s)).collect();
        Merge::new(&feeds, direction)
    }

    /// Returns the rank of the n-th record in this direction, or `None` if there are fewer.
    fn nth(&self, n: u64, direction: Direction) -> deepwater::Result<Option<Rank>> {
        let mut left = n;
        let mut merge = self.merge(direction)?;
        while let Some((feed, run)) = merge.next_run() {
            let chosen = &self.feeds[feed];
            let layout = chosen.reader.layout();
            for (i, record) in run.records.chunks_exact(chosen.record_size()).enumerate() {
                if left > 0 && chosen.takes(run.first_seq + i as u64, record) {
                    left -= 1;
                }
                if left == 0 {
                    let scale = u128::from(layout.unit().nanos());
                    let time_ns = u128::from(layout.time_of(record)) * scale;
                    return Ok(Some(Rank { time_ns, feed, seq: run.first_seq + i as u64 }));
                }
            }
        }
        Ok(None)
    }

    /// Counts the records that will be printed, not considering damage.
    pub fn count(&self) -> deepwater::Result<u64> {
        let mut count = 0;
        let mut merge = self.begin()?;
        while let Some((feed, run)) = merge.next_run() {
            count += self.matches(feed, &run);
            if count >= self.limit {
                break;
            }
        }
        Ok(count.min(self.limit))
    }

    fn matches(&self, feed: usize, run: &Run<'_>) -> u64 {
        let chosen = &self.feeds[feed];
        let records = (run.first_seq..).zip(run.records.chunks_exact(chosen.record_size()));
        records.filter(|(seq, record)| chosen.takes(*seq, record)).count() as u64
    }

    fn begin(&self) -> deepwater::Result<Merge> {
        let mut merge = self.merge(self.direction)?;
        if let Some(from) = self.from {
            merge.start_at(from);
        }
        Ok(merge)
    }

    /// Prints the records.
    pub fn print(&self, sink: &mut Sink<'_>) -> Step {
        if self.limit == 0 {
            return Ok(());
        }
        sink.by_seq(false);
        let mut merge = self.begin()?;
        let done = self.print_all(&mut merge, sink);
        merge.take_lost().iter().for_each(tell_lost);
        self.note(&merge, sink);
        sink.by_seq(true);
        done
    }

    fn print_all(&self, merge: &mut Merge, sink: &mut Sink<'_>) -> Step {
        loop {
            if sink.is_due() {
                self.note(merge, sink);
                sink.save()?;
            }
            let more = match merge.next_run() {
                Some((feed, run)) => sink.choose(feed, &run).map(|()| true),
                None => Ok(false),
            };
            for damage in merge.take_damage() {
                let feed = self.feeds.iter().find(|f| f.reader.feed().name == damage.feed);
                let unit = feed.unwrap_or(&self.feeds[0]).reader.layout().unit();
                tell_damage(&damage, unit);
            }
            if !more? {
                return Ok(());
            }
        }
    }

    fn note(&self, merge: &Merge, sink: &mut Sink<'_>) {
        for feed in 0..self.feeds.len() {
            sink.reached(feed, merge.position(feed));
        }
    }
}
