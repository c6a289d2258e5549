//! Selects records of one feed: a range, conditions on fields, and how many from which end.

use deepwater::Result;
use deepwater::reader::{Damage, Direction, Lost, Run, Scan, Selection};

use super::args::Lines;
use super::choice::Chosen;

/// The selected records, in the order of printing.
pub struct Pick<'a> {
    chosen: &'a Chosen,
    selection: Selection,
    direction: Direction,
    /// The most records to give.
    limit: u64,
}

impl<'a> Pick<'a> {
    /// Finds where to begin, so that printing is one scan in one direction.
    ///
    /// If conditions or times leave gaps in the selection, the last N records are found by a
    /// backward scan that only counts. Nothing is held in memory, however large N is.
    pub fn new(chosen: &'a Chosen, lines: Option<Lines>, reverse: bool) -> Result<Pick<'a>> {
        let selection = chosen.selection;
        let direction = if reverse { Direction::Reverse } else { Direction::Forward };
        let limit = match lines {
            None => u64::MAX,
            Some(Lines::First(n) | Lines::Last(n)) => n,
        };
        let mut pick = Pick { chosen, selection, direction, limit };
        match (lines, reverse) {
            // The scan meets these N records first.
            (None, _) | (Some(Lines::First(_)), false) | (Some(Lines::Last(_)), true) => {}
            (Some(Lines::Last(n)), false) => {
                pick.selection.seqs.0 =
                    pick.nth(n, Direction::Reverse)?.unwrap_or(selection.seqs.0);
            }
            (Some(Lines::First(n)), true) => {
                let last = pick.nth(n, Direction::Forward)?;
                pick.selection.seqs.1 = last.map_or(selection.seqs.1, |seq| seq + 1);
            }
        }
        Ok(pick)
    }

    fn scan(&self, direction: Direction) -> Scan {
        self.chosen.reader.scan(&self.chosen.snapshot, self.selection, direction)
    }

    /// Returns the seq of the n-th record in this direction, or `None` if there are fewer.
    fn nth(&self, n: u64, direction: Direction) -> Result<Option<u64>> {
        let everything = self.chosen.takes_all() && self.selection == Selection::ALL;
        if everything && direction == Direction::Reverse {
            return Ok(Some(self.chosen.snapshot.seq_from_end(n)));
        }
        let mut left = n;
        let mut found = None;
        let mut scan = self.scan(direction);
        let size = self.chosen.record_size();
        self.runs(&mut scan, direction, |run| {
            let here = (run.records.len() / size) as u64;
            if here < left {
                left -= here;
                return true;
            }
            found = Some(match direction {
                Direction::Forward => run.first_seq + left.saturating_sub(1),
                Direction::Reverse => run.first_seq + here - left,
            });
            false
        })?;
        Ok(found)
    }

    /// Counts the records that [`Pick::each`] will give, not considering damage.
    pub fn count(&self) -> Result<u64> {
        let size = self.chosen.record_size();
        let mut count = 0;
        let mut scan = self.scan(self.direction);
        self.runs(&mut scan, self.direction, |run| {
            count += (run.records.len() / size) as u64;
            count < self.limit
        })?;
        Ok(count.min(self.limit))
    }

    /// Returns the first seq of the scan.
    pub fn first_seq(&self) -> u64 {
        self.selection.seqs.0
    }

    /// Passes every selected run to `each`, and what could not be read to the other callbacks.
    /// Stops at the limit or when `each` fails. Returns true if it stopped at the limit.
    pub fn each<E>(
        &self,
        mut each: impl FnMut(Run<'_>) -> std::result::Result<(), E>,
        damage: impl FnMut(Damage),
        lost: impl FnMut(Lost),
    ) -> Result<std::result::Result<bool, E>> {
        let size = self.chosen.record_size();
        let mut left = self.limit;
        let mut outcome = Ok(());
        let mut scan = self.scan(self.direction);
        if left > 0 {
            self.runs(&mut scan, self.direction, |run| {
                let run = self.first(run, left, size);
                left -= (run.records.len() / size) as u64;
                outcome = each(run);
                left > 0 && outcome.is_ok()
            })?;
        }
        scan.take_damage().into_iter().for_each(damage);
        scan.take_lost().into_iter().for_each(lost);
        Ok(outcome.map(|()| left == 0))
    }

    /// Returns the first `n` records of a run, in the direction of the scan.
    fn first<'r>(&self, run: Run<'r>, n: u64, size: usize) -> Run<'r> {
        let here = (run.records.len() / size) as u64;
        if here <= n {
            return run;
        }
        let cut = (here - n) as usize;
        match self.direction {
            Direction::Forward => Run { records: &run.records[..n as usize * size], ..run },
            Direction::Reverse => {
                Run { first_seq: run.first_seq + cut as u64, records: &run.records[cut * size..] }
            }
        }
    }

    /// Passes the records that meet every condition to `each`, run by run, until it returns false.
    fn runs(
        &self,
        scan: &mut Scan,
        direction: Direction,
        mut each: impl FnMut(Run<'_>) -> bool,
    ) -> Result<()> {
        let size = self.chosen.record_size();
        while let Some(run) = scan.next_run()? {
            if self.chosen.takes_all() {
                if !each(run) {
                    return Ok(());
                }
                continue;
            }
            let n = run.records.len() / size;
            let mut at = 0;
            while at < n {
                let (from, to) = self.next_match(&run, at, n, size, direction);
                at = if direction == Direction::Forward { to } else { n - from };
                let part = Run {
                    first_seq: run.first_seq + from as u64,
                    records: &run.records[from * size..to * size],
                };
                if from < to && !each(part) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the next matching records of a run of `n`, after `at` of them in this direction.
    fn next_match(
        &self,
        run: &Run<'_>,
        at: usize,
        n: usize,
        size: usize,
        direction: Direction,
    ) -> (usize, usize) {
        let matches = |i: &usize| {
            let record = &run.records[i * size..(i + 1) * size];
            self.chosen.takes(run.first_seq + *i as u64, record)
        };
        let differs = |i: &usize| !matches(i);
        match direction {
            Direction::Forward => {
                let from = (at..n).find(matches).unwrap_or(n);
                (from, (from..n).find(differs).unwrap_or(n))
            }
            Direction::Reverse => {
                let to = (0..n - at).rev().find(matches).map_or(0, |i| i + 1);
                ((0..to).rev().find(differs).map_or(0, |i| i + 1), to)
            }
        }
    }
}
