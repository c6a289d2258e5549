//! The plan: everything of a feed looked at, and what is to be done about what is found.

use std::path::PathBuf;

use crate::chunk::index::{BlockSums, IndexHeader, encode_sealed};
use crate::chunk::proof::{Standing, last_session};
use crate::chunk::strays::{self, Stray, is_undurable, written_records};
use crate::chunk::{self, ChunkPaths, PART_LIMIT, Shown};
use crate::error::{Error, Result, sound};
use crate::os::process;
use crate::registry::feed::{
    ChunkEnd, ChunkEntry, Entry, FeedRegistry, Place, RANGE_LOST, RANGE_REMOVED, RANGE_SKIPPED,
    RangeEntry, Seal, SessionEnd, unreached,
};
use crate::registry::info::{FeedInfo, SPEC_COPY, SPEC_FILE};
use crate::registry::live::LivePage;
use crate::registry::salvage::{Part, Row, Salvage};
use crate::registry::segments::Segments;
use crate::registry::view::LiveView;
use crate::repair::inspect::{Found, Want, inspect};
use crate::repair::roster::{complete, order_of};
use crate::repair::shelf::Shelf;
use crate::repair::{Action, Content, Finding, Kind, NewFile, NewTable, Options, Plan};
use crate::store::{FeedPlace, Platform};
use crate::writer::recover::used_seqs;

/// A lease beyond every seq that can have been used, where the one on disk is lost.
const FAR_AHEAD: u64 = 1 << 32;
/// How often what looks damaged is looked at again while a feed is written.
const LOOKS: usize = 5;

/// Looks at everything a feed consists of. `tick` is told how many bytes of records were read since
/// it was told last.
///
/// # Errors
/// [`Error::NoFeed`]; [`Error::Damaged`] where the store's registry, or both copies of the feed's
/// spec, do not check; [`Error::Invalid`] for a feed that is being deleted; [`Error::Io`].
pub fn plan(
    platform: &Platform,
    name: &str,
    options: Options,
    tick: &mut dyn FnMut(u64),
) -> Result<Plan> {
    Error::unless_limited(|| look(platform, name, options, tick))
}

fn look(
    platform: &Platform,
    name: &str,
    options: Options,
    tick: &mut dyn FnMut(u64),
) -> Result<Plan> {
    let place = platform.feed_place(name)?;
    if !place.folder.is_dir() {
        let what = match place.folder.is_symlink() {
            true => "the folder that this link leads to is not there; is its disk mounted?",
            false => "the feed's folder is missing; put it back from a backup, or delete the feed",
        };
        return Err(Error::damaged(&place.folder, 0, what));
    }
    let (feed, spec) = read_spec(&place)?;
    let mut composer = Composer::begin(feed, options)?;
    composer.plan.write_spec = !spec.is_empty();
    composer.plan.findings = spec;
    composer.look_at_table();
    if let Some(error) = composer.denied.take() {
        return Err(error);
    }
    composer.look_at_page();
    composer.look_at_chunks(tick);
    composer.look_at_strays();
    Ok(composer.finish())
}

/// The better one of the spec and its copy, and what is wrong with the other.
fn read_spec(place: &FeedPlace) -> Result<(FeedInfo, Vec<Finding>)> {
    let paths = [SPEC_FILE, SPEC_COPY].map(|name| place.folder.join(name));
    let [own, copy] = paths
        .each_ref()
        .map(|path| FeedInfo::load_from(path, &place.folder, &place.lock, &place.id));
    let missing = |error: &Error| error.to_string();
    let sum = |path: &PathBuf| format!("{}: its checksum", path.display());
    let finding = |kind, what| Finding::new(kind, Action::Rebuild, what);
    let (info, found) = match (own, copy) {
        (Ok((own, true)), Ok((copy, true))) if own.to_text() == copy.to_text() => (own, vec![]),
        (Ok((own, true)), other) => {
            let what = other.as_ref().map_or_else(missing, |_| "differs, or its checksum".into());
            let what = format!("{}: {what}", paths[1].display());
            (own, vec![finding(Kind::SpecCopy, what)])
        }
        (own, Ok((copy, true))) => {
            let what = own.as_ref().map_or_else(missing, |_| sum(&paths[0]));
            (copy, vec![finding(Kind::Spec, what)])
        }
        // The layout is the one that the registry names, whatever else may have changed.
        (Ok((own, false)), _) | (Err(_), Ok((own, false))) => {
            let what = format!("{}; the layout is right, the policy may not be", sum(&paths[0]));
            (own, vec![finding(Kind::Spec, what)])
        }
        (Err(error), Err(_)) => {
            let what = format!(
                "{error}; {SPEC_COPY} is no better; dw-mkfeed with the fields it was made with \
                 writes both again"
            );
            return Err(Error::Invalid(what));
        }
    };
    Ok((info, found))
}

struct Composer {
    plan: Plan,
    options: Options,
    shelf: Shelf,
    page: Result<LivePage>,
    /// The seq on the live page, where that is believed; the files may yet refute it.
    published: Option<u64>,
    /// Where the newest session has its shared-memory files.
    segments: Option<Segments>,
    standing: Standing,
    /// What we may not look at.
    denied: Option<Error>,
    /// Rows that replace those of a chunk.
    replaced: Vec<(u64, Vec<Row>)>,
    added: Vec<Row>,
    rows: Vec<Row>,
    changed: bool,
    /// The first seq above all that any file shows.
    used: u64,
}

impl Composer {
    fn begin(feed: FeedInfo, options: Options) -> Result<Composer> {
        let mut salvage = Salvage::read(&feed.registry_path(), &feed.id);
        for _ in 0..LOOKS {
            if !options.written || salvage.wrong.is_empty() {
                break;
            }
            salvage = Salvage::read(&feed.registry_path(), &feed.id);
        }
        if let Some(found) = salvage.version {
            return Err(Error::Version { path: feed.registry_path(), found });
        }
        if salvage.deleted {
            return Err(Error::Invalid(format!(
                "{}: it was deleted half-way; dw-mkfeed --delete {} ends that",
                feed.name, feed.name
            )));
        }
        let page = LivePage::open(&feed.live_path(), &feed.id, false);
        let registry = sound(FeedRegistry::open(&feed.registry_path(), &feed.id, false))?;
        let view = registry.map(|registry| LiveView::of(&feed, &registry)).transpose()?;
        let segments = view.as_ref().and_then(|view| view.segments.clone());
        let published = match view.filter(LiveView::is_staged) {
            Some(view) => view.page.as_deref().and_then(LivePage::believed),
            None => page.as_ref().ok().and_then(LivePage::believed),
        };
        let shelf = Shelf::read(&feed)?;
        let standing = Standing::judge(&feed, Vec::new(), None, published);
        let plan = Plan {
            feed,
            findings: Vec::new(),
            chunks: 0,
            records: 0,
            write_spec: false,
            files: Vec::new(),
            dropped: Vec::new(),
            undone: shelf.undone.clone(),
            table: None,
            salvage,
            new_page: false,
            unfinished: false,
            refuted: false,
        };
        Ok(Composer {
            plan,
            options,
            shelf,
            page,
            published,
            segments,
            standing,
            denied: None,
            replaced: Vec::new(),
            added: Vec::new(),
            rows: Vec::new(),
            changed: false,
            used: 0,
        })
    }

    fn find(&mut self, finding: Finding) {
        self.plan.findings.push(finding);
    }

    fn judge(&mut self) {
        let entries = self.rows.iter().map(|row| row.entry).collect();
        let checkpoint = self.plan.salvage.checkpoint;
        let feed = &self.plan.feed;
        self.standing = Standing::judge(feed, entries, checkpoint.as_ref(), self.published);
        // What cannot be read refutes nothing; whoever looks at the chunks names it.
        let refutation = self.standing.refutation(feed, self.segments.as_ref());
        let refutation = refutation.unwrap_or_else(|error| {
            self.denied = Some(error).filter(Error::is_denied);
            None
        });
        if let Some(what) = refutation {
            let empty = Standing::judge(feed, Vec::new(), None, None);
            let standing = std::mem::replace(&mut self.standing, empty);
            self.standing = standing.without_page(feed, checkpoint.as_ref(), &what);
        }
        if let Some((_, end)) = self.standing.broken_tail {
            // The blocks are looked at one by one.
            self.standing.end = end;
        }
    }

    /// The table, completed, and the seqs it leaves out even so.
    fn look_at_table(&mut self) {
        for wrong in self.plan.salvage.wrong.clone() {
            let kind = match wrong.part {
                Part::Checkpoint => Kind::Checkpoint,
                Part::Lease => Kind::Lease,
                Part::File | Part::Header | Part::Entry => Kind::Table,
            };
            self.find(Finding::new(kind, Action::Rebuild, wrong.what));
            self.changed = true;
        }
        self.rows = self.plan.salvage.rows.clone();
        self.judge();
        if self.options.written {
            return;
        }
        let page = self.page.as_ref().ok();
        let newer = strays::newer_page(&self.standing.entries, page);
        let found = self.evidence();
        // Of those without a sound index nobody knows which seqs they have.
        let known = found.iter().any(|stray| stray.header.is_some());
        let lost = self.plan.salvage.lost_rows || newer.is_some() || known;
        if let Some(what) = newer {
            self.plan.findings.push(Finding::new(Kind::Table, Action::Rebuild, what));
            self.changed = true;
        }
        if lost || !self.standing.gaps().is_empty() {
            let (feed, salvage) = (&self.plan.feed, &self.plan.salvage);
            let roster = complete(feed, salvage, &self.shelf, page, lost);
            self.changed |= roster.rows.len() != self.rows.len();
            self.rows = roster.rows;
            self.plan.findings.extend(roster.findings);
            self.judge();
        }
        self.used = self.used_seqs();
        self.note_unreached();
        for gap in self.standing.gaps() {
            self.note_gap(gap);
        }
    }

    /// Strays that may hold records, but for those that a power loss has left: they are recovery's,
    /// unless they are sealed and no checkpoint is left that could have named them.
    fn evidence(&self) -> Vec<Stray> {
        let Salvage { checkpoint, lease, forgotten, .. } = &self.plan.salvage;
        let strays = strays::all(&self.plan.feed, &self.standing.entries).unwrap_or_default();
        let is_tail = |stray: &Stray| {
            let unnamed = checkpoint.is_none() && stray.seal.is_some();
            !unnamed && is_undurable(stray, &self.standing, checkpoint.as_ref(), *lease)
        };
        let found = strays.into_iter().filter(|stray| {
            stray.is_evidence() && !forgotten.contains(&stray.chunk_id) && !is_tail(stray)
        });
        found.collect()
    }

    /// The first seq above all that any file shows.
    fn used_seqs(&self) -> u64 {
        let entries = &self.standing.entries;
        let strays = strays::all(&self.plan.feed, entries).unwrap_or_default();
        let page = self.page.as_ref().ok();
        used_seqs(&self.standing, self.plan.salvage.checkpoint, page, &strays)
    }

    /// Seqs that a checkpoint has, and no entry, though the table was completed.
    fn note_unreached(&mut self) {
        let Some(checkpoint) = self.plan.salvage.checkpoint else { return };
        let Some((from, to)) = unreached(&self.standing.entries, &checkpoint) else { return };
        let from = from.max(self.standing.end);
        if from < to {
            self.add_range((from, to), checkpoint.session_id, RANGE_REMOVED, None);
            let what = "a checkpoint has these seqs, and no file is left";
            self.find(Finding::new(Kind::Chunk, Action::Remove, what).with_seqs((from, to), None));
        }
    }

    /// Seqs that are in no chunk: skipped after a power loss, or gone.
    fn note_gap(&mut self, gap: (u64, u64)) {
        let chunks = self.standing.chunks();
        let before = chunks.iter().rev().find(|(_, end)| *end == gap.0).map(|(chunk, _)| *chunk);
        let after = chunks.iter().find(|(chunk, _)| chunk.base_seq == gap.1).map(|c| c.0);
        let sessions = self.standing.entries.iter().filter_map(|entry| match entry {
            Entry::Session(session) => Some(session),
            _ => None,
        });
        let begins = sessions.clone().any(|session| session.base_seq == gap.1);
        let ended = before.is_some_and(|before| {
            let mut of_it = sessions.clone().filter(|s| s.session_id == before.session_id);
            of_it.any(|s| {
                let close = s.close.map(|close| close.reason);
                matches!(close, Some(SessionEnd::PowerLoss | SessionEnd::Unknown))
            })
        });
        let follow = before.zip(after).is_some_and(|(before, after)| {
            chunk::number(before.chunk_id) + 1 == chunk::number(after.chunk_id)
        });
        let skipped = begins && ended && follow;
        let reason = if skipped { RANGE_SKIPPED } else { RANGE_REMOVED };
        self.add_range(gap, before.map_or(0, |chunk| chunk.session_id), reason, None);
        let finding = if skipped {
            let what = "the entry of seqs that were skipped after a power loss";
            Finding::new(Kind::Table, Action::Rebuild, what)
        } else {
            Finding::new(
                Kind::Chunk,
                Action::Remove,
                "no chunk has these seqs, and no file is left",
            )
        };
        self.find(finding.with_seqs(gap, None));
    }

    fn add_range(
        &mut self,
        seqs: (u64, u64),
        session_id: u64,
        reason: u32,
        times: Option<(u64, u64)>,
    ) {
        let recorded_us = process::wall_us();
        let range = RangeEntry { seqs, session_id, recorded_us, reason, times };
        self.added.push(Row::new(Entry::Range(range)));
        self.changed = true;
    }

    fn look_at_page(&mut self) {
        // A ring's page is in shared memory, and its next writer's to look at.
        if self.options.written || !self.plan.feed.spec.policy.persist {
            return;
        }
        let last = last_session(&self.standing.entries);
        let closed = last.and_then(|session| session.close);
        let path = self.plan.feed.live_path();
        let wrong = match &self.page {
            Err(error) => Some(error.to_string()),
            Ok(page) => {
                let stale = |stamp: u64| {
                    // Until the next session stamps it, the page is as the last one closed it.
                    last.is_some_and(|session| session.session_id == stamp)
                        && closed.is_some_and(|close| Some(close.end_seq) != self.published)
                };
                let fault = if let Some(published) = self.standing.refuted {
                    let end = self.standing.end.min(published);
                    Some(format!("its count is {published}, and the files have seqs to {end}"))
                } else if !page.words_check() {
                    Some("the check bits of a word".to_owned())
                } else if page.stamp_is_broken(0) || page.stamp_is_broken(1) {
                    Some("the checksum of a session's stamp".to_owned())
                } else if page.session().is_some_and(|stamp| stale(stamp.session_id)) {
                    Some("its count is not the one that the last session ended with".to_owned())
                } else {
                    page.stray_byte().map(|at| format!("byte {at}: not zero, where nothing is"))
                };
                fault.map(|what| format!("{}: {what}", path.display()))
            }
        };
        if let Some(what) = wrong {
            self.find(Finding::new(Kind::LivePage, Action::Rebuild, what));
            // Whoever has the old page mapped learns of the new one by the table.
            (self.plan.new_page, self.changed) = (true, true);
        }
        let left = |c: &&(ChunkEntry, u64)| c.0.seal.is_none() && c.0.place == Place::Live;
        let open = last.filter(|session| session.close.is_none());
        self.plan.unfinished =
            open.is_some() || self.standing.chunks().iter().any(|chunk| left(&chunk));
        if let Some(session) = open {
            let what = format!(
                "session {} was not closed: its writer died, or the machine stopped",
                session.session_id
            );
            let seqs = (session.base_seq.min(self.standing.end), self.standing.end);
            let finding = Finding::new(Kind::Unfinished, Action::Seal, what);
            self.find(finding.with_seqs(seqs, None));
        }
    }

    /// Where damage is why the end is not known: what lies behind it in the files is not sealed
    /// over but kept in quarantine, and named.
    fn is_doubtful(&self) -> bool {
        let known = self.standing.believed || self.standing.exact;
        let unproven = !known && self.plan.unfinished;
        let Salvage { wrong, checkpoint, .. } = &self.plan.salvage;
        // Where another file is in its place, the table may seem never to have had one.
        let none_left = checkpoint.is_none() && !wrong.is_empty();
        let damaged = wrong.iter().any(|w| matches!(w.part, Part::Checkpoint | Part::File));
        unproven && (self.plan.new_page || damaged || none_left)
    }

    fn look_at_chunks(&mut self, tick: &mut dyn FnMut(u64)) {
        let doubtful = self.is_doubtful();
        for (entry, end) in self.standing.chunks() {
            match entry.place {
                Place::Expired | Place::Lost => continue,
                Place::Staged | Place::Flushing => {
                    self.look_at_staged(&entry, end);
                    continue;
                }
                Place::Live if self.options.written => continue,
                Place::Live | Place::OnDisk => {}
            }
            let most = self.plan.feed.geometry().most_records();
            let count = end.saturating_sub(entry.base_seq).min(most);
            let unproven = doubtful && entry.seal.is_none();
            if unproven {
                self.note_unproven(&entry, end);
            }
            if count == 0 {
                continue;
            }
            let open = self.plan.salvage.checkpoint.filter(|c| c.chunk_id == entry.chunk_id);
            let checkpoint = open.filter(|_| entry.seal.is_none());
            let want = Want { entry, count, checkpoint };
            let found = inspect(&self.plan.feed, &want, &self.shelf, tick);
            self.plan.chunks += 1;
            self.plan.records += count;
            if !found.is_sound() || unproven {
                self.mend(&want, &found);
            }
        }
    }

    /// Records may lie in the file behind what is proven.
    fn note_unproven(&mut self, entry: &ChunkEntry, end: u64) {
        let paths = ChunkPaths::new(&self.plan.feed.folder, entry.chunk_id);
        let written = written_records(&paths.data, &self.plan.feed).unwrap_or(0);
        let there = entry.base_seq + written;
        let from = end.max(entry.base_seq);
        if there > from {
            let what = "records that no checksum vouches for, and of which it is not known that \
                        they were published";
            let finding = Finding::new(Kind::Block, Action::Remove, what);
            self.find(finding.of_chunk(entry.chunk_id).with_seqs((from, there), None));
        }
        if end <= entry.base_seq {
            let expired = ChunkEntry { place: Place::Expired, seal: None, ..*entry };
            self.replaced.push((entry.chunk_id, vec![Row::new(Entry::Chunk(expired))]));
            self.drop_files(entry.chunk_id);
            self.changed = true;
        }
    }

    /// A chunk in shared memory: the next writer takes it over, unless it is given up by hand.
    fn look_at_staged(&mut self, entry: &ChunkEntry, end: u64) {
        let seqs = (entry.base_seq, end.max(entry.base_seq));
        if self.options.written {
            return;
        }
        if !self.options.force_lost {
            let what = "staged in shared memory; the next dw-write takes it over, or dw-repair; \
                        --force-lost gives up what is not there any more";
            let finding = Finding::new(Kind::Staged, Action::Leave, what);
            return self.find(finding.of_chunk(entry.chunk_id).with_seqs(seqs, None));
        }
        let lost = ChunkEntry { place: Place::Lost, seal: None, ..*entry };
        self.replaced.push((entry.chunk_id, vec![Row::new(Entry::Chunk(lost))]));
        self.add_range(seqs, entry.session_id, RANGE_LOST, None);
        let finding = Finding::new(Kind::Staged, Action::Remove, "staged, and given up");
        self.find(finding.of_chunk(entry.chunk_id).with_seqs(seqs, None));
    }

    fn drop_files(&mut self, chunk_id: u64) {
        let paths = self.shelf.paths(chunk_id);
        self.plan.dropped.extend(paths);
    }

    fn mend(&mut self, want: &Want, found: &Found) {
        let chunk_id = want.entry.chunk_id;
        let finding =
            |kind, action, what: String| Finding::new(kind, action, what).of_chunk(chunk_id);
        let whole = (want.entry.base_seq, want.entry.base_seq + want.count);
        if let Some(what) = found.data.as_ref().filter(|_| found.bad() < found.blocks.len()) {
            let what = format!("the data file: {what}");
            let found = finding(Kind::Data, Action::Rebuild, what);
            self.find(found.with_seqs(whole, None));
        }
        if let Some(what) = found.index.as_ref().filter(|_| found.bad() < found.blocks.len()) {
            let what = format!("the index: {what}");
            self.find(finding(Kind::Index, Action::Rebuild, what).with_seqs(whole, None));
        }
        if found.marks_gone > 0 && found.bad() == 0 {
            let what = format!("{} marks are gone with the index", found.marks_gone);
            self.find(finding(Kind::Marks, Action::Rebuild, what).with_seqs(whole, None));
        }
        match found.bad() {
            0 => self.make_again(want, found),
            _ => self.cut(want, found),
        }
    }

    /// A chunk with all its records: whichever of its files is not as it should be is made again.
    fn make_again(&mut self, want: &Want, found: &Found) {
        let paths = ChunkPaths::new(&self.plan.feed.folder, want.entry.chunk_id);
        let len = want.count * self.plan.feed.geometry().record_size as u64;
        let unsealed = want.entry.seal.is_none();
        if found.data.is_some() || unsealed {
            let content = Content::Part { source: found.source.clone(), from: 0, len };
            self.plan.files.push(NewFile { path: paths.data, content });
        }
        let sums: Vec<BlockSums> = found.blocks.iter().map(|block| block.sums).collect();
        let (bytes, row) = self.sealed(want, want.entry.chunk_id, (0, want.count), &sums, found);
        if found.index.is_some() || unsealed {
            let content = Content::Bytes(bytes);
            self.plan.files.push(NewFile { path: paths.index, content });
            self.replaced.push((want.entry.chunk_id, vec![row]));
            self.changed = true;
        }
    }

    /// The index and the row of a run of a chunk's records, given by positions in the chunk.
    fn sealed(
        &self,
        want: &Want,
        chunk_id: u64,
        (from, to): (u64, u64),
        sums: &[BlockSums],
        found: &Found,
    ) -> (Vec<u8>, Row) {
        let geometry = self.plan.feed.geometry();
        let base_seq = want.entry.base_seq + from;
        let policy = &self.plan.feed.spec.policy;
        let header = IndexHeader {
            id: self.plan.feed.id,
            chunk_id,
            base_seq,
            geometry,
            block_capacity: geometry.blocks_in(policy.chunk_size_bytes).max(sums.len()),
            created_us: want.entry.created_us,
            session_id: want.entry.session_id,
        };
        let end = want.entry.base_seq + to;
        let marks: Vec<(u64, u64)> =
            found.marks.iter().copied().filter(|mark| mark.0 >= base_seq && mark.0 < end).collect();
        let sealed_us = want.entry.seal.map_or_else(process::wall_us, |seal| seal.sealed_us);
        let (bytes, times) = encode_sealed(&header, (to - from, sums), &marks, sealed_us);
        let seal = Seal {
            count: to - from,
            min_time: times.0,
            max_time: times.1,
            sealed_us,
            marks: marks.len() as u64,
            reason: want.entry.seal.map_or(ChunkEnd::Repaired as u32, |seal| seal.reason),
        };
        let entry =
            ChunkEntry { chunk_id, base_seq, place: Place::OnDisk, seal: Some(seal), ..want.entry };
        (bytes, Row::new(Entry::Chunk(entry)))
    }

    /// A chunk that lost blocks: a chunk for each run of good ones, and a range for each of bad
    /// ones.
    fn cut(&mut self, want: &Want, found: &Found) {
        let geometry = self.plan.feed.geometry();
        let per_block = geometry.block_records as u64;
        let runs = runs(found);
        let good = runs.iter().filter(|run| !run.2).count();
        let ids = self.part_ids(want.entry.chunk_id, good);
        let mut ids = ids.into_iter();
        let mut rows = Vec::new();
        for (first, last, is_bad) in runs {
            let from = first as u64 * per_block;
            let to = (last as u64 * per_block).min(want.count);
            if is_bad {
                self.note_gone(want, found, (first, last), (from, to));
                continue;
            }
            let Some(chunk_id) = ids.next() else { continue };
            let sums: Vec<BlockSums> = found.blocks[first..last].iter().map(|b| b.sums).collect();
            let (bytes, row) = self.sealed(want, chunk_id, (from, to), &sums, found);
            let paths = ChunkPaths::new(&self.plan.feed.folder, chunk_id);
            let size = geometry.record_size as u64;
            let (from, len) = (from * size, (to - from) * size);
            let content = Content::Part { source: found.source.clone(), from, len };
            self.plan.files.push(NewFile { path: paths.data, content });
            self.plan.files.push(NewFile { path: paths.index, content: Content::Bytes(bytes) });
            rows.push(row);
        }
        self.replaced.push((want.entry.chunk_id, rows));
        self.drop_files(want.entry.chunk_id);
        self.changed = true;
    }

    fn note_gone(
        &mut self,
        want: &Want,
        found: &Found,
        (first, last): (usize, usize),
        (from, to): (u64, u64),
    ) {
        let blocks = &found.blocks[first..last];
        let known = blocks.iter().map(|block| block.times).collect::<Option<Vec<_>>>();
        let span = |times: &Vec<(u64, u64)>| {
            Some((times.iter().map(|t| t.0).min()?, times.iter().map(|t| t.1).max()?))
        };
        let all = first == 0 && last == found.blocks.len();
        let sealed = want.entry.seal.filter(|_| all).map(|seal| (seal.min_time, seal.max_time));
        let times = known.as_ref().and_then(span).or(sealed);
        let seqs = (want.entry.base_seq + from, want.entry.base_seq + to);
        let why = blocks.iter().find_map(|block| block.bad.clone()).unwrap_or_default();
        let what = match last - first {
            1 => format!("block {first}: {why}"),
            _ => format!("blocks {first} to {}: {why}", last - 1),
        };
        let finding = Finding::new(Kind::Block, Action::Remove, what);
        self.find(finding.of_chunk(want.entry.chunk_id).with_seqs(seqs, times));
        self.plan.records -= to - from;
        self.add_range(seqs, want.entry.session_id, RANGE_REMOVED, times);
    }

    /// Ids for the parts of a chunk, ascending, between those of the parts beside it.
    fn part_ids(&self, chunk_id: u64, parts: usize) -> Vec<u64> {
        let (number, own) = chunk::order(chunk_id);
        let entries = self.standing.entries.iter().filter_map(|entry| match entry {
            Entry::Chunk(chunk) => Some(chunk::order(chunk.chunk_id)),
            _ => None,
        });
        let used: Vec<(u64, u64)> = entries.chain(self.shelf.files.keys().copied()).collect();
        let beside = || used.iter().filter(|id| id.0 == number).map(|id| id.1);
        let low = beside().filter(|part| *part < own).max().unwrap_or(0);
        let high = beside().filter(|part| *part > own && own > 0).min().unwrap_or(PART_LIMIT);
        let mut last = low;
        let mut ids = Vec::new();
        for i in 0..parts as u64 {
            let even = low + (high - low) * (i + 1) / (parts as u64 + 1);
            let free = (even.max(last + 1)..high).find(|part| !used.contains(&(number, *part)));
            let Some(part) = free else { break };
            ids.push(chunk::with_part(number, part));
            last = part;
        }
        let taken = self.plan.files.iter().filter_map(|file| {
            ChunkPaths::id_of(file.path.file_name()?.to_str()?).map(chunk::number)
        });
        let mut next = used.iter().map(|id| id.0).chain(taken).max().unwrap_or(0);
        while ids.len() < parts {
            next += 1;
            ids.push(next);
        }
        ids
    }

    /// Chunk files that nothing names.
    fn look_at_strays(&mut self) {
        if self.options.written {
            return;
        }
        let known: Vec<u64> = self.standing.chunks().iter().map(|c| c.0.chunk_id).collect();
        let found: Vec<u64> = self.evidence().iter().map(|stray| stray.chunk_id).collect();
        for named in self.shelf.files.values().cloned().collect::<Vec<_>>() {
            let id = named.chunk_id;
            // What is recovery's: what a writer had prepared, and what a power loss has left.
            let recovered = self.plan.unfinished && !found.contains(&id);
            if known.contains(&id) || recovered {
                continue;
            }
            let what = format!("files of chunk {}, which the table does not have", Shown(id));
            self.find(Finding::new(Kind::Stray, Action::Move, what).of_chunk(id));
            self.plan.dropped.extend(named.paths());
        }
    }

    fn finish(mut self) -> Plan {
        self.plan.refuted = self.standing.refuted.is_some();
        if self.options.written {
            return self.plan;
        }
        if self.changed {
            let replaced = std::mem::take(&mut self.replaced);
            let mut rows = Vec::new();
            for row in std::mem::take(&mut self.rows) {
                let key = match &row.entry {
                    Entry::Chunk(chunk) => Some(chunk.chunk_id),
                    _ => None,
                };
                match replaced.iter().find(|(chunk, _)| Some(*chunk) == key) {
                    Some((_, instead)) => rows.extend(instead.iter().cloned()),
                    None => rows.push(row),
                }
            }
            if !self.added.is_empty() {
                rows.append(&mut self.added);
                rows.sort_by_key(order_of);
            }
            let lease = self.plan.salvage.lease.unwrap_or_else(|| self.far_lease());
            let lease = lease.max(self.used);
            self.plan.table = Some(NewTable { rows, lease });
        }
        let written: Vec<&PathBuf> = self.plan.files.iter().map(|file| &file.path).collect();
        self.plan.dropped.retain(|path| !written.contains(&path));
        self.plan
    }

    fn far_lease(&self) -> u64 {
        let ranges = self.standing.entries.iter().map(|entry| match entry {
            Entry::Range(range) => range.seqs.1,
            Entry::Session(session) => session.base_seq,
            Entry::Chunk(chunk) => chunk.base_seq,
        });
        let seq = self.plan.salvage.checkpoint.map_or(0, |c| c.seq);
        ranges.chain([self.standing.end, seq]).max().unwrap_or(0) + FAR_AHEAD
    }
}

/// Runs of good and of bad blocks: first, one past the last, whether bad.
fn runs(found: &Found) -> Vec<(usize, usize, bool)> {
    let mut runs: Vec<(usize, usize, bool)> = Vec::new();
    for (i, block) in found.blocks.iter().enumerate() {
        let bad = block.bad.is_some();
        match runs.last_mut() {
            Some(run) if run.2 == bad => run.1 = i + 1,
            _ => runs.push((i, i + 1, bad)),
        }
    }
    runs
}
