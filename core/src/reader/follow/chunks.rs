//! Records followed through the chunks of a feed.
//!
//! `published` says what there is, and the table which chunk it is in. `published` is always looked
//! at first: everything below it is in the table by then, while what the table has more of is of no
//! concern yet. Nothing of the table is remembered but the position of the chunk being read; what
//! an entry says changes, and is read again with each look.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::chunk::proof::Standing;
use crate::error::Result;
use crate::os::faults;
use crate::reader::follow::{Event, Table, over};
use crate::reader::{
    Damage, Direction, Lost, Reader, Scan, Selection, Snapshot, SnapshotChunk, Why,
};
use crate::registry::feed::{
    ChunkEntry, Entry, FeedRegistry, Place, RANGE_LOST, RANGE_REMOVED, RANGE_SKIPPED,
    RANGE_UNREACHABLE, RangeEntry,
};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::view::LiveView;

/// The chunks of a feed, followed.
pub(super) struct Chunks {
    feed: FeedInfo,
    registry: Arc<FeedRegistry>,
    view: LiveView,
    /// Whether the live page was believed once: it is for as long as we live.
    believed: bool,
    /// What the disk proves, while no live page is believed.
    proven: Option<u64>,
    /// The session on a page that the files refute: nothing comes there.
    refuted: Option<u64>,
    /// The feed's files are not there any more.
    gone: bool,
    selection: Selection,
    scan: Scan,
    /// Every seq below it was given, told, or is not selected.
    next: u64,
    /// Where the scan ends.
    reach: u64,
    /// What was published, and whether the feed was deleted, at the last look.
    seen: (u64, bool),
    /// Position in the table of the chunk being read.
    current: Option<u64>,
    /// A run that waits until what comes before it is told.
    held: Option<(usize, usize)>,
    untold: VecDeque<Untold>,
}

enum Untold {
    Lost(Lost),
    Damage(Damage),
}

impl From<Untold> for Event<'_> {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::Lost(lost) => Event::Lost(lost),
            Untold::Damage(damage) => Event::Damage(damage),
        }
    }
}

/// What a look found.
enum Found {
    /// The scan has more.
    Records,
    /// Seqs that are not to be given, and are behind us now.
    Passed,
    /// There is nothing below the end.
    Nothing,
}

impl Chunks {
    pub fn new(reader: &Reader, selection: Selection) -> Result<Chunks> {
        let registry = Arc::clone(&reader.registry);
        let feed = reader.feed.clone();
        Ok(Chunks {
            view: reader.view()?,
            scan: Scan::new(
                feed.clone(),
                Arc::clone(&registry),
                &Snapshot::default(),
                selection,
                Direction::Forward,
            ),
            feed,
            registry,
            believed: false,
            proven: None,
            refuted: None,
            gone: false,
            selection,
            next: selection.seqs.0,
            reach: selection.seqs.0,
            seen: (0, false),
            current: None,
            held: None,
            untold: VecDeque::new(),
        })
    }

    pub fn registry(&self) -> &FeedRegistry {
        &self.registry
    }

    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether [`Chunks::next_event`] may have more than at the last look.
    pub fn has_news(&self) -> Result<bool> {
        let published = match &self.view.page {
            Some(live) if self.believed || self.may_believe(live) => live.published(),
            _ => self.seen.0,
        };
        let deleted = self.gone || self.registry.is_deleted()?;
        Ok((published, deleted) != self.seen)
    }

    pub fn next_event(&mut self) -> Result<Event<'_>> {
        loop {
            let found = match self.held.take() {
                Some(held) => Some(held),
                None => self.scan.find_run()?,
            };
            self.keep_untold();
            if let Some(at) = found {
                if let Some(untold) = self.untold.pop_front() {
                    self.held = found;
                    return Ok(untold.into());
                }
                self.next = self.scan.lend(at).first_seq + (at.1 - at.0) as u64;
                return Ok(Event::Records(self.scan.lend(at)));
            }
            self.next = self.next.max(self.reach);
            // What cannot be given is told once it is known how far that goes.
            let end = match self.go_on()? {
                None => continue,
                Some(end) => end,
            };
            return Ok(self.untold.pop_front().map_or(end, Event::from));
        }
    }

    /// Looks for more; what there is to say if there is nothing.
    fn go_on(&mut self) -> Result<Option<Event<'static>>> {
        if self.next >= self.selection.seqs.1 {
            return Ok(Some(Event::End));
        }
        // Deleted before published: once a feed is deleted nothing is published any more.
        let deleted = self.gone || self.registry.is_deleted()?;
        faults::step("follow.deleted");
        let published = self.published()?;
        faults::step("follow.published");
        self.seen = (published, deleted);
        loop {
            match self.look(published.min(self.selection.seqs.1))? {
                Found::Records => return Ok(None),
                Found::Passed => {}
                Found::Nothing if deleted => return Ok(Some(over(&self.registry)?)),
                Found::Nothing => return Ok(Some(Event::CaughtUp)),
            }
        }
    }

    /// Takes what the scan could not give.
    fn keep_untold(&mut self) {
        for Lost { seqs, why, .. } in self.scan.take_lost() {
            self.tell_lost(seqs, why);
        }
        self.untold.extend(self.scan.take_damage().into_iter().map(Untold::Damage));
    }

    /// Keeps what is lost to be told, as one range with what was lost before it.
    fn tell_lost(&mut self, seqs: (u64, u64), why: Why) {
        if let Some(Untold::Lost(last)) = self.untold.back_mut()
            && (last.seqs.1, last.why) == (seqs.0, why)
        {
            last.seqs.1 = seqs.1;
            return;
        }
        // Whoever follows has been past all that is older.
        let lost = Lost { feed: self.feed.name.clone(), seqs, why, gap: true };
        self.untold.push_back(Untold::Lost(lost));
    }

    /// Whether a page that was not believed yet may be.
    fn may_believe(&self, live: &LivePage) -> bool {
        let session = live.session().map(|stamp| stamp.session_id);
        session.is_some() && session != self.refuted
    }

    /// Every record below this seq exists.
    fn published(&mut self) -> Result<u64> {
        let live = self.view.page.clone();
        let live = live.filter(|live| self.believed || self.may_believe(live));
        if let Some(live) = live.as_ref().filter(|_| self.believed) {
            return Ok(live.published());
        }
        // No writer in this boot: what there is does not change before one opens the feed.
        if let (Some(end), None) = (self.proven, &live) {
            return Ok(end);
        }
        let standing = loop {
            let page = self.view.page.as_deref();
            let standing = Standing::of(&self.feed, &self.registry, page)?;
            if standing.believed || self.view.is_current(&self.feed, &self.registry)? {
                break standing;
            }
            // A session has begun meanwhile, and that page is not the one that was asked.
            self.view = self.view.refresh(&self.feed, &self.registry)?;
        };
        let live = self.view.page.clone().filter(|live| self.may_believe(live));
        if standing.believed {
            (self.believed, self.proven) = (true, None);
            return Ok(standing.end);
        }
        if standing.proven {
            self.view.refuse_other_memory(&self.feed)?;
        }
        let session = live.and_then(|live| live.session());
        self.refuted = session.map(|stamp| stamp.session_id);
        self.proven = Some(standing.end);
        Ok(standing.end)
    }

    /// Looks what comes at `next`, of what lies below `end`.
    fn look(&mut self, end: u64) -> Result<Found> {
        if self.next >= end {
            return Ok(Found::Nothing);
        }
        let first = self.registry.first_entry()?;
        let count = self.registry.count()?;
        // Entries that are collected stay readable, so that the chunk being read is found again.
        for position in self.current.unwrap_or(first)..count {
            let Entry::Chunk(chunk) = self.registry.entry(position)? else { continue };
            if chunk.place == Place::Expired && chunk.seal.is_none() {
                // It never had a record that is known of.
                continue;
            }
            faults::step("follow.entry");
            let chunk_end = self.end_of(&chunk, end, count)?;
            if chunk_end <= self.next {
                continue;
            }
            if chunk.base_seq > self.next {
                return self.pass_over(chunk.base_seq, first);
            }
            self.current = Some(position);
            return Ok(self.take_up(chunk, chunk_end));
        }
        self.pass_last(end, first)
    }

    /// Steps over seqs that are on record as lost and in front of which no chunk is yet.
    fn pass_last(&mut self, end: u64, first: u64) -> Result<Found> {
        let next = self.next;
        let hole = self.registry.entries()?.into_iter().find_map(|entry| match entry {
            Entry::Range(hole) if hole.seqs.0 <= next && next < hole.seqs.1 => Some(hole.seqs.1),
            _ => None,
        });
        match hole {
            Some(hole) => self.pass_over(hole.min(end), first),
            None => Ok(Found::Nothing),
        }
    }

    /// The seq after the last record of a chunk, as far as records lie below `end`. A chunk that
    /// never had a record ends where the one that took its place begins, so before its own base.
    fn end_of(&self, chunk: &ChunkEntry, end: u64, count: u64) -> Result<u64> {
        if let Some(seal) = chunk.seal {
            // It may have been sealed since `published` was read: of a batch that goes on in the
            // next chunk, the rest of this one would be a part.
            return Ok((chunk.base_seq + seal.count).min(end));
        }
        for position in chunk.position + 1..count {
            if let Entry::Chunk(next) = self.registry.entry(position)? {
                return Ok(next.base_seq.min(end));
            }
        }
        Ok(end)
    }

    /// Goes on in a chunk that has records at `next`.
    fn take_up(&mut self, mut entry: ChunkEntry, end_seq: u64) -> Found {
        if entry.seal.is_some_and(|seal| entry.base_seq + seal.count > end_seq) {
            // The chunk counts as it stood when `published` was read.
            entry.seal = None;
        }
        if self.proven.is_some() && entry.place.is_staged() {
            // What there is of it is on disk.
            entry.place = Place::Live;
        }
        let chunk = SnapshotChunk { entry, end_seq };
        if !self.selection.may_have(&chunk) {
            self.next = end_seq;
            return Found::Passed;
        }
        if entry.place == Place::Lost {
            self.lose(end_seq, Why::Lost);
            return Found::Passed;
        }
        // One that is being collected may have its files still; if not, the scan will say so.
        self.scan.go_on(chunk, self.next);
        self.reach = end_seq;
        Found::Records
    }

    /// Steps over the seqs up to `to`, which are in no chunk: skipped, lost, or collected.
    fn pass_over(&mut self, to: u64, first: u64) -> Result<Found> {
        let mut holes: Vec<RangeEntry> = Vec::new();
        for entry in self.registry.entries()? {
            if let Entry::Range(range) = entry {
                holes.push(range);
            }
        }
        while self.next < to {
            let here = |hole: &&RangeEntry| hole.seqs.0 <= self.next && self.next < hole.seqs.1;
            if let Some(hole) = holes.iter().find(here) {
                let end = hole.seqs.1.min(to);
                match hole.reason {
                    // Nobody was promised those.
                    RANGE_SKIPPED => self.next = end,
                    RANGE_LOST => self.lose(end, Why::Lost),
                    RANGE_UNREACHABLE => self.lose(end, Why::Unreachable),
                    RANGE_REMOVED => self.lose(end, Why::Removed),
                    _ => self.lose(end, Why::Unrecorded),
                }
                continue;
            }
            let end = holes.iter().map(|hole| hole.seqs.0).filter(|&lo| lo > self.next).min();
            // Before the first chunk of a table whose beginning is collected.
            let collected = self.current.is_none() && first > 0;
            let why = if collected { Why::Collected } else { Why::Unrecorded };
            self.lose(end.unwrap_or(to).min(to), why);
        }
        Ok(Found::Passed)
    }

    fn lose(&mut self, to: u64, why: Why) {
        self.tell_lost((self.next, to), why);
        self.next = to;
    }

    /// Looks whether the files behind the mappings are still the feed's. Called at rest only.
    pub fn look_around(&mut self) {
        // What cannot be looked at now is looked at the next time.
        if matches!(self.view.is_current(&self.feed, &self.registry), Ok(false))
            && let Ok(view) = self.view.refresh(&self.feed, &self.registry)
        {
            self.view = view;
            (self.believed, self.proven, self.refuted) = (false, None, None);
        }
        match Table::look(&self.feed, &self.registry) {
            Table::Same => {}
            Table::Another(registry) => self.replace(registry.into()),
            Table::Gone => self.gone = true,
        }
    }

    /// Goes on with another file in the place of the table.
    fn replace(&mut self, registry: Arc<FeedRegistry>) {
        let (feed, selection) = (self.feed.clone(), self.selection);
        let nothing = Snapshot::default();
        self.scan = Scan::new(feed, Arc::clone(&registry), &nothing, selection, Direction::Forward);
        (self.registry, self.current) = (registry, None);
    }
}
