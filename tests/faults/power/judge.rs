//! What must be true of a crash image, before and after it is repaired, written and collected.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use deepwater::Platform;
use deepwater::gc;
use deepwater::reader::{Direction, Reader, Selection};
use deepwater::registry::feed::Moment;
use deepwater::repair::{self, Finding, Kind};
use deepwater::writer::SessionEnd;

use super::record::{Expect, Records, Shape, memory_of};
use crate::disk::Back;

/// What a reader finds.
pub struct Seen {
    pub records: Records,
    /// What it complains of: with that dw-cat fails.
    pub complaints: Vec<String>,
}

/// Everything a reader finds.
fn look(reader: &Reader, selection: Selection) -> Result<Seen, String> {
    let wrong = |e: deepwater::Error| format!("the reader: {e}");
    let snapshot = reader.snapshot().map_err(wrong)?;
    let mut scan = reader.scan(&snapshot, selection, Direction::Forward);
    let mut records = Records::new();
    let size = reader.layout().record_size();
    while let Some(run) = scan.next_run().map_err(wrong)? {
        for (i, record) in run.records.chunks_exact(size).enumerate() {
            let seq = run.first_seq + i as u64;
            if records.insert(seq, record.to_vec()).is_some() {
                return Err(format!("seq {seq} comes twice"));
            }
        }
    }
    let damage = scan.take_damage();
    let mut complaints: Vec<String> = damage.iter().map(|d| format!("damage: {d:?}")).collect();
    // What the next writer sees to by itself is left out, and no damage.
    let left_out = |doubt: &&String| doubt.contains("the next dw-write moves it to quarantine");
    complaints.extend(snapshot.doubts.iter().filter(|doubt| !left_out(doubt)).cloned());
    Ok(Seen { records, complaints })
}

/// The same of a feed that is in order.
fn read(reader: &Reader, selection: Selection) -> Result<Records, String> {
    let seen = look(reader, selection)?;
    match seen.complaints.first() {
        Some(complaint) => Err(complaint.clone()),
        None => Ok(seen.records),
    }
}

/// Whether what was found is what must and may be there.
fn compare(found: &Records, expect: &Expect) -> Result<(), String> {
    for (seq, record) in &expect.must {
        match found.get(seq) {
            None => return Err(format!("record {seq} was durable and is lost")),
            Some(other) if other != record => {
                return Err(format!("record {seq} was durable and is another"));
            }
            Some(_) => {}
        }
    }
    nothing_invented(found, expect)
}

fn nothing_invented(found: &Records, expect: &Expect) -> Result<(), String> {
    match found.iter().find(|(seq, record)| expect.may.get(seq) != Some(record)) {
        Some((seq, _)) => Err(format!("record {seq} is invented")),
        None => Ok(()),
    }
}

/// What a reader finds before any recovery; none where the feed is not there, and need not be.
/// What a crash of the machine leaves is in order; what a device that came back has may not be.
pub fn first_look(root: &Path, expect: &Expect, back: Back) -> Result<Option<Seen>, String> {
    let open = || Platform::open(root.join("store"))?.create_reader("t");
    let reader = match open() {
        Ok(reader) if expect.there.1 => reader,
        Ok(_) => return Err("the feed was deleted and is there".into()),
        Err(deepwater::Error::NoStore { .. } | deepwater::Error::NoFeed { .. })
            if !expect.there.0 =>
        {
            return Ok(None);
        }
        Err(error) => return Err(format!("it cannot be opened: {error}")),
    };
    let seen = look(&reader, Selection::ALL);
    let seen = match (seen, back) {
        (Ok(seen), Back::Elsewhere) if !seen.complaints.is_empty() => {
            return Err(seen.complaints[0].clone());
        }
        // Nothing of it can be read, and that is said.
        (Err(error), Back::SameBoot | Back::MemoryGone) => {
            Seen { records: Records::new(), complaints: vec![error] }
        }
        (seen, _) => seen?,
    };
    if expect.there.0 && seen.complaints.is_empty() {
        compare(&seen.records, expect)?;
        by_time(&reader, &seen.records)?;
        newest_mark(&reader, &seen.records, expect)?;
    } else if expect.there.0 {
        nothing_invented(&seen.records, expect)?;
    }
    Ok(Some(seen))
}

/// Whether the newest mark that is found is one that was made, and no durable one is passed over.
fn newest_mark(reader: &Reader, found: &Records, expect: &Expect) -> Result<(), String> {
    let snapshot = reader.snapshot().map_err(|e| e.to_string())?;
    let must = expect.durable_marks.iter().rfind(|seq| expect.must.contains_key(seq));
    let newest = match reader.last_mark(&snapshot, u64::MAX) {
        Ok(seq) => seq,
        Err(deepwater::Error::Invalid(_)) if must.is_none() => return Ok(()),
        Err(error) => return Err(format!("the newest mark: {error}")),
    };
    match expect.marks.contains(&newest) && found.contains_key(&newest) && Some(&newest) >= must {
        true => Ok(()),
        false => Err(format!("a mark at seq {newest}, and {must:?} is the newest durable one")),
    }
}

/// Whether ranges of time give just the records that have those times.
fn by_time(reader: &Reader, found: &Records) -> Result<(), String> {
    let time = |record: &[u8]| u64::from_le_bytes(record[..8].try_into().unwrap());
    let times: Vec<u64> = found.values().map(|record| time(record)).collect();
    let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) else { return Ok(()) };
    for (since, until) in [(*min, *max), (min + (max - min) / 3, min + (max - min) / 2)] {
        let got = read(reader, Selection::times(since, until))?;
        let want = found.iter().filter(|(_, r)| (since..until).contains(&time(r)));
        if !got.iter().eq(want) {
            return Err(format!("times {since}..{until}: not the records of those times"));
        }
    }
    Ok(())
}

/// dw-repair on a crash image: a power loss is no damage, and what it leaves in order it leaves so.
fn repair(root: &Path, expect: &Expect, is_damaged: bool) -> Result<Records, String> {
    let wrong = |e: deepwater::Error| format!("repair: {e}");
    let platform = Platform::open(root.join("store")).map_err(wrong)?;
    let lock = repair::lock(&platform, "t").map_err(wrong)?;
    let options = repair::Options::default();
    let plan = || repair::plan(&platform, "t", options, &mut |_| {}).map_err(wrong);
    let adopted = repair::adopt(&platform, "t", options, &lock).map_err(wrong);
    if !is_damaged {
        adopted?;
    }
    let first = plan()?;
    // Files that a writer had prepared, or was about to remove, are moved away: they might be more.
    // A chunk that reached the disk before its entry did is taken back.
    let damage = |finding: &&Finding| {
        let taken_back = finding.kind == Kind::Chunk && finding.records_gone() == 0;
        finding.is_damage() && finding.kind != Kind::Stray && !taken_back
    };
    if let Some(finding) = first.findings.iter().find(damage).filter(|_| !is_damaged) {
        return Err(format!("repair takes it for damaged: {finding:?}"));
    }
    repair::apply(&first, &lock).map_err(wrong)?;
    let second = plan()?;
    if !second.findings.is_empty() || !second.is_empty() {
        let (first, second) = (&first.findings, &second.findings);
        return Err(format!("a second repair finds {second:?}, after {first:?}"));
    }
    let reader = platform.create_reader("t").map_err(wrong)?;
    let found = read(&reader, Selection::ALL)?;
    compare(&found, expect)?;
    by_time(&reader, &found)?;
    Ok(found)
}

/// Whether dw-repair finds nothing.
fn is_sound(platform: &Platform) -> Result<(), String> {
    let options = repair::Options::default();
    let plan = repair::plan(platform, "t", options, &mut |_| {}).map_err(|e| e.to_string())?;
    match plan.findings.is_empty() && plan.is_empty() {
        true => Ok(()),
        false => Err(format!("dw-repair finds afterwards: {:?}", plan.findings)),
    }
}

/// The records that files hold, of those that a writer had said to have taken.
struct Held<'a> {
    root: &'a Path,
    size: usize,
    /// Their seqs.
    known: HashMap<&'a [u8], u64>,
}

impl<'a> Held<'a> {
    fn new(root: &'a Path, shape: Shape, expect: &'a Expect, used: u64) -> Held<'a> {
        let taken = expect.may.range(expect.collected..used.max(expect.collected));
        // On request, as devices that come back: some are left that this finds.
        let asked = std::env::var_os("DEEPWATER_DEVICE").is_some();
        let known = taken.filter(|_| asked && !shape.zeros && expect.there.0);
        let known = known.map(|(seq, record)| (&record[..], *seq)).collect();
        Held { root, size: shape.record_size, known }
    }

    /// Their seqs, in chunks and in quarantine.
    fn seqs(&self) -> BTreeSet<u64> {
        let mut seqs = BTreeSet::new();
        let memory = memory_of(self.root).into_iter();
        memory.for_each(|folder| self.in_folder(&folder, &mut seqs));
        self.in_folder(&self.root.join("store"), &mut seqs);
        seqs
    }

    fn in_folder(&self, folder: &Path, seqs: &mut BTreeSet<u64>) {
        for item in fs::read_dir(folder).into_iter().flatten().flatten() {
            if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.in_folder(&item.path(), seqs);
            } else if item.file_name().to_string_lossy().contains(".data") {
                let bytes = fs::read(item.path()).unwrap_or_default();
                seqs.extend(bytes.chunks_exact(self.size).filter_map(|r| self.known.get(r)));
            }
        }
    }

    /// Whether all that was held still is, but what lies below `collected`.
    fn compare(&self, before: &BTreeSet<u64>, collected: u64, what: &str) -> Result<(), String> {
        let now = self.seqs();
        let gone: Vec<&u64> = before.difference(&now).filter(|seq| **seq >= collected).collect();
        match gone.first() {
            None => Ok(()),
            Some(first) => {
                Err(format!("{what}: {} records, from {first} on, are in no file", gone.len()))
            }
        }
    }
}

/// Judges a crash image, which it uses up. One in three is repaired before it is written on, and
/// any that is damaged.
pub fn judge(
    root: &Path,
    shape: Shape,
    expect: &Expect,
    (seed, back): (u64, Back),
) -> Result<(), String> {
    let seen = first_look(root, expect, back)?;
    // A device that comes back with an older page than it had shows less than was published, as a
    // writer would that was killed before it published the rest.
    let used = if back == Back::Elsewhere { expect.used } else { expect.durable };
    let held = Held::new(root, shape, expect, used);
    let before = held.seqs();
    let is_damaged = seen.as_ref().is_some_and(|seen| !seen.complaints.is_empty());
    let mut found = seen.map(|seen| seen.records);
    if found.is_some() && expect.there.0 && (is_damaged || seed.is_multiple_of(3)) {
        found = Some(repair(root, expect, is_damaged || back != Back::Elsewhere)?);
        held.compare(&before, expect.collected, "after a repair")?;
    }
    let there = found.filter(|_| expect.there.0).unwrap_or_default();
    let collected = write_on(root, shape, (expect, used), there)?;
    held.compare(&before, collected, "after writers")
}

/// Writes three sessions to an image; what is `there` stays. Below which seq dw-gc took chunks.
fn write_on(
    root: &Path,
    shape: Shape,
    (expect, used): (&Expect, u64),
    mut there: Records,
) -> Result<u64, String> {
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |e: deepwater::Error| format!("{what}: {e}")
    };
    let platform = Platform::create(root.join("store")).map_err(wrong("making the store"))?;
    platform.create_feed(&shape.spec(), false).map_err(wrong("making the feed"))?;
    let mut used = if expect.there.0 { used } else { 0 };
    let mut collected = expect.collected;
    for round in 0..3 {
        let mut writer =
            platform.create_writer("t").map_err(wrong(&format!("writer {round} after it")))?;
        let next = writer.next_seq();
        if next < used {
            return Err(format!("writer {round} begins with seq {next}, {used} were used"));
        }
        let reader = platform.create_reader("t").map_err(wrong("the reader"))?;
        let now = read(&reader, Selection::ALL)?;
        if expect.there.0 && collected == expect.collected {
            newest_mark(&reader, &now, expect)?;
        }
        if expect.there.0 && now != there {
            return Err(format!("writer {round} changed what is there"));
        }
        there = now;
        holes_are_on_record(&reader, &there, collected, next)?;
        // The second one has nothing to recover, and says nothing new.
        if round == 1 && next != used {
            return Err(format!("a second recovery skipped {used}..{next}"));
        }
        let records: Vec<Vec<u8>> = (0..5).map(|n| shape.record(7_000_000 + n)).collect();
        writer.append_batch(&records.concat()).map_err(wrong("an append"))?;
        there.extend((next..).zip(records));
        used = next + 5;
        writer.close(SessionEnd::Ended).map_err(wrong("the close"))?;
        if round == 1 && shape.chunks_kept.is_some() {
            let taken = collect(&platform)?;
            there = there.split_off(&taken);
            collected = collected.max(taken);
        }
        let reader = platform.create_reader("t").map_err(wrong("the reader"))?;
        let now = read(&reader, Selection::ALL)?;
        if now != there {
            let (found, wanted) = (spans(&now), spans(&there));
            return Err(format!("after writer {round} there is {found}, and not {wanted}"));
        }
        by_time(&reader, &there)?;
    }
    is_sound(&platform)?;
    Ok(collected)
}

/// Their seqs, for people.
fn spans(records: &Records) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for seq in records.keys() {
        match spans.last_mut() {
            Some(last) if last.1 == *seq => last.1 += 1,
            _ => spans.push((*seq, seq + 1)),
        }
    }
    format!("{spans:?}")
}

/// Below which seq dw-gc took chunks.
fn collect(platform: &Platform) -> Result<u64, String> {
    let plan = gc::plan(platform, &gc::Wants::default(), &Moment::now());
    let plan = plan.map_err(|e| format!("dw-gc: {e}"))?;
    let to = plan.steps().filter_map(|step| step.seqs).map(|seqs| seqs.1).max().unwrap_or(0);
    let outcome = gc::apply(platform, &plan, &mut |_| {});
    match outcome.failed.is_empty() && outcome.conflicts == 0 && plan.doubts.is_empty() {
        true => Ok(to),
        false => Err(format!("dw-gc: {:?} {outcome:?}", plan.doubts)),
    }
}

/// Whether every seq below `next` that has no record lies in a hole that is on record.
fn holes_are_on_record(
    reader: &Reader,
    there: &Records,
    collected: u64,
    next: u64,
) -> Result<(), String> {
    let snapshot = reader.snapshot().map_err(|e| e.to_string())?;
    let mut spans: Vec<(u64, u64)> = snapshot.holes.iter().map(|hole| hole.seqs).collect();
    spans.extend(there.keys().map(|seq| (*seq, seq + 1)));
    spans.sort_unstable();
    let mut end = collected;
    for (lo, hi) in spans {
        if lo > end {
            return Err(format!("seqs {end}..{lo} are neither there nor a hole"));
        }
        end = end.max(hi);
    }
    match end >= next {
        true => Ok(()),
        false => Err(format!("seqs {end}..{next} are neither there nor a hole")),
    }
}
