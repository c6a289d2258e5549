//! Records followed through the rings of a transient feed.
//!
//! A ring is read to its end before the next one is opened: the next writer makes it of what the
//! old one held, and says in the old one that there will be no more.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Result;
use crate::os::faults;
use crate::reader::follow::{Event, Table, over};
use crate::reader::rings::count_overrun;
use crate::reader::scan::BUFFER_BYTES;
use crate::reader::{Lost, Reader, Run, Selection, Why};
use crate::registry::feed::{Entry, FeedRegistry, RANGE_SKIPPED};
use crate::registry::info::FeedInfo;
use crate::ring::{self, Copied, Cursor, Found, protocol};

/// The rings of a feed, followed.
pub(super) struct Rings {
    feed: FeedInfo,
    registry: Arc<FeedRegistry>,
    selection: Selection,
    /// Position in the ring that is being read; `None` until there is a ring.
    cursor: Option<Cursor>,
    /// Another ring is at the path.
    displaced: bool,
    /// The feed's files are not there any more.
    gone: bool,
    /// Every seq below it was given, told, or is not selected.
    next: u64,
    /// What was published, and whether the feed was deleted, at the last look.
    seen: (u64, bool),
    buffer: Vec<u8>,
    load: Load,
    untold: VecDeque<Lost>,
}

/// Records in the buffer, and which of them are still to be looked at.
#[derive(Default)]
struct Load {
    first_seq: u64,
    from: usize,
    to: usize,
}

impl Rings {
    pub fn new(reader: &Reader, selection: Selection) -> Result<Rings> {
        let record_size = reader.feed.layout.record_size();
        let mut rings = Rings {
            feed: reader.feed.clone(),
            registry: Arc::clone(&reader.registry),
            selection,
            cursor: None,
            displaced: false,
            gone: false,
            next: selection.seqs.0,
            seen: (0, false),
            buffer: vec![0; BUFFER_BYTES.max(record_size)],
            load: Load::default(),
            untold: VecDeque::new(),
        };
        // What keeps it from being read at all is an error now, not a silence for ever.
        rings.find()?;
        Ok(rings)
    }

    pub fn registry(&self) -> &FeedRegistry {
        &self.registry
    }

    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether [`Rings::next_event`] may have more than at the last look.
    pub fn has_news(&self) -> Result<bool> {
        if let Some(cursor) = &self.cursor {
            let memory = cursor.ring().memory();
            let published = protocol::published(memory);
            // What is wrong with it is told by the next event.
            let wrong = memory.check().is_err();
            if wrong || published != self.seen.0 || protocol::replaced_by(memory).is_some() {
                return Ok(true);
            }
        }
        Ok(self.displaced || self.is_deleted()? != self.seen.1)
    }

    fn is_deleted(&self) -> Result<bool> {
        Ok(self.gone || self.registry.is_deleted()?)
    }

    pub fn next_event(&mut self) -> Result<Event<'_>> {
        loop {
            if let Some(lost) = self.untold.pop_front() {
                return Ok(Event::Lost(lost));
            }
            if let Some(run) = self.next_in_load() {
                let size = self.feed.layout.record_size();
                let first_seq = self.load.first_seq + run.0 as u64;
                self.next = self.load.first_seq + run.1 as u64;
                let records = &self.buffer[run.0 * size..run.1 * size];
                return Ok(Event::Records(Run { first_seq, records }));
            }
            if self.next >= self.selection.seqs.1 {
                return Ok(Event::End);
            }
            // Deleted before published: once a feed is deleted nothing is published any more.
            let deleted = self.is_deleted()?;
            if self.look(deleted)? {
                continue;
            }
            return if deleted { over(&self.registry) } else { Ok(Event::CaughtUp) };
        }
    }

    /// Copies what comes next, or opens the ring that it is in; false if there is nothing.
    fn look(&mut self, deleted: bool) -> Result<bool> {
        let Some(cursor) = &mut self.cursor else {
            self.seen.1 = deleted;
            return Ok(!deleted && self.find()?);
        };
        // Asked before the copy: if no record follows in this ring, the copy sees all there are.
        let over = self.displaced || protocol::replaced_by(cursor.ring().memory()).is_some();
        faults::step("ring.follow");
        match cursor.copy(self.selection.seqs.1, &mut self.buffer)? {
            Copied::Records { first_seq, count } => {
                self.load = Load { first_seq, from: 0, to: count };
            }
            Copied::Lapped(lapped) => {
                let end = lapped.seq_hi.min(self.selection.seqs.1);
                count_overrun(cursor.ring(), &self.feed, (lapped.seq_lo, end));
                self.lose(end, Why::Overwritten);
            }
            Copied::Nothing if over && !deleted => {
                (self.cursor, self.displaced) = (None, false);
            }
            Copied::Nothing => {
                self.seen = (cursor.seen(), deleted);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens the ring that is there now; whether there is one. What lies between it and what was
    /// read so far is told.
    fn find(&mut self) -> Result<bool> {
        let Found::Ring(ring) = ring::find(&self.feed, &self.registry, false)? else {
            return Ok(false);
        };
        let oldest = ring.held()?.0;
        ring.check()?;
        self.pass_over(oldest)?;
        self.cursor = Some(Cursor::new(Arc::from(ring), self.next));
        Ok(true)
    }

    /// Tells of the seqs up to `to`, which are in no ring: but for those that nobody was promised.
    fn pass_over(&mut self, to: u64) -> Result<()> {
        if self.next >= to {
            return Ok(());
        }
        let mut skipped: Vec<(u64, u64)> = Vec::new();
        for entry in self.registry.entries()? {
            match entry {
                Entry::Range(range) if range.reason == RANGE_SKIPPED => skipped.push(range.seqs),
                _ => {}
            }
        }
        skipped.sort_unstable();
        for (lo, hi) in skipped {
            if self.next < lo.min(to) {
                self.lose(lo.min(to), Why::Overwritten);
            }
            if lo <= self.next {
                self.next = self.next.max(hi.min(to));
            }
        }
        if self.next < to {
            self.lose(to, Why::Overwritten);
        }
        Ok(())
    }

    fn lose(&mut self, to: u64, why: Why) {
        let (feed, seqs) = (self.feed.name.clone(), (self.next, to));
        self.untold.push_back(Lost { feed, seqs, why, gap: true });
        self.next = to;
    }

    /// Takes the next run of selected records out of the load.
    fn next_in_load(&mut self) -> Option<(usize, usize)> {
        let Load { from, to, first_seq } = self.load;
        if from == to {
            return None;
        }
        let layout = &self.feed.layout;
        let size = layout.record_size();
        let selected =
            |i: &usize| self.selection.has_time(layout.time_of(&self.buffer[i * size..][..size]));
        let (start, end) = match self.selection.every_time() {
            true => (from, to),
            false => {
                let start = (from..to).find(selected).unwrap_or(to);
                (start, (start..to).find(|i| !selected(i)).unwrap_or(to))
            }
        };
        self.load.from = end;
        self.next = first_seq + end as u64;
        (start < end).then_some((start, end))
    }

    /// Looks whether the files behind the mappings are still the feed's. Called at rest only.
    pub fn look_around(&mut self) {
        match &self.cursor {
            Some(cursor) => self.displaced = cursor.ring().is_displaced(),
            // What is wrong there is told when it is looked for in earnest.
            None => drop(self.find()),
        }
        match Table::look(&self.feed, &self.registry) {
            Table::Same => {}
            Table::Another(registry) => self.registry = registry.into(),
            Table::Gone => self.gone = true,
        }
    }
}
