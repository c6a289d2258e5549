//! Power losses: a writer is watched at work, and from what the disk may have had at each moment
//! crash images are made. Every image must open, hold all that was acknowledged by then and nothing
//! that was not appended, and be written on without a seq used twice. The judge knows the log of
//! I/O steps, the records it appended itself and the seqs it was told are durable; nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deepwater::Platform;
use deepwater::gc;
use deepwater::os::faults::{Io, Op, Step, Verdict, Watcher, watch};
use deepwater::reader::{Direction, Reader, Selection};
use deepwater::registry::feed::Moment;
use deepwater::registry::segments::Segments;
use deepwater::repair::{self, Finding, Kind};
use deepwater::schema::{FeedSpec, Sync};
use deepwater::writer::{SessionEnd, Writer, WriterOptions};
use tempfile::TempDir;

use crate::disk::{Choice, Crash, Disk, LeaveOut, Part, Time};
use crate::random::{Random, mix};

type Records = BTreeMap<u64, Vec<u8>>;

/// Largest batch in records, so that the judge has no more than some ten thousand to compare.
const MOST_PER_BATCH: u64 = 8193;

/// What the test did, and what it was told, with the moments.
#[derive(Default)]
struct Notes {
    /// Seqs that were told to be durable.
    acked: Vec<(Time, u64)>,
    /// When records were handed to the writer, and when it had taken them; their seqs.
    appended: Vec<(Time, Option<Time>, Range<u64>)>,
    records: Records,
    /// From when on the feed must be there.
    made: Option<Time>,
    /// When collecting began, and the seq below which it took chunks.
    collected: Vec<(Time, u64)>,
    /// From when on it may be gone, and must.
    deleted: (Option<Time>, Option<Time>),
}

/// What must be true after a crash.
#[derive(Default)]
struct Expect {
    /// Whether the feed must be there, and whether it may.
    there: (bool, bool),
    /// Records that must be there.
    must: Records,
    /// Records that may be there.
    may: Records,
    /// The next seq is not below this one.
    used: u64,
    /// What lies below this seq may have been collected.
    collected: u64,
    /// Seqs that were marked.
    marks: BTreeSet<u64>,
    /// Those whose marks are durable. After a crash a record may be there whose mark is not.
    durable_marks: BTreeSet<u64>,
}

/// One history and what is to be true of it.
struct Recording {
    _folder: TempDir,
    shape: Shape,
    disk: Arc<Disk>,
    notes: Arc<Mutex<Notes>>,
    /// What was there before.
    before: Expect,
}

/// What a feed is like and how it is written.
#[derive(Clone, Copy, Debug)]
struct Shape {
    record_size: usize,
    zeros: bool,
    blocks: usize,
    sync: Sync,
    per_batch: u64,
    marks: bool,
    /// Whether chunks are born in shared memory: of that a crash leaves nothing.
    staged: bool,
    /// Chunks that collecting leaves; none: it is not done.
    chunks_kept: Option<u64>,
}

impl Shape {
    fn random(random: &mut Random) -> Shape {
        let record_size = *random.pick(&[8, 24, 1000, 4096, 16_384]);
        let zeros = random.below(4) == 0;
        let sync = *random.pick(&[Sync::None, Sync::Every(Duration::from_millis(1)), Sync::Batch]);
        let blocks = *random.pick(&[1, 3]);
        let per_block = 65_536 / record_size as u64;
        // From single records, which leave the background thread time or none, to several chunks.
        let several_chunks = 2 * per_block * blocks as u64 + 1;
        let sizes = [1, 5, 9, 1 + per_block / 10, 1 + per_block / 3, 1 + per_block, several_chunks];
        let per_batch = (*random.pick(&sizes)).min(MOST_PER_BATCH);
        let marks = random.below(3) == 0;
        let staged = random.below(2) == 0;
        let chunks_kept = (random.below(3) == 0).then(|| 1 + random.below(3));
        Shape { record_size, zeros, blocks, sync, per_batch, marks, staged, chunks_kept }
    }

    fn spec(&self) -> FeedSpec {
        let padding = match self.record_size - 8 {
            0 => String::new(),
            n => format!(r#",{{"name":"b","type":"bytes{n}"}}"#),
        };
        let chunk = self.blocks * (65_536 / self.record_size * self.record_size);
        let chunk = (chunk as u64).max(65_536);
        let stage = if self.staged { "shm" } else { "disk" };
        let limit =
            self.chunks_kept.map(|n| format!(r#""max_size_bytes":{},"#, n * (chunk + 8192)));
        FeedSpec::from_json(&format!(
            r#"{{"feed_name":"t","mode":"UF","ts_col":"ts","chunk_size_bytes":{chunk},
            "stage":"{stage}",{}"fields":[{{"name":"ts","type":"uint64"}}{padding}]}}"#,
            limit.unwrap_or_default()
        ))
        .unwrap()
    }

    fn record(&self, n: u64) -> Vec<u8> {
        if self.zeros {
            return vec![0; self.record_size];
        }
        let late = if n.is_multiple_of(7) { 300 } else { 0 };
        let mut bytes = (1_700_000_000_000_000 + n * 100 - late).to_le_bytes().to_vec();
        let mut random = Random::new(n);
        while bytes.len() < self.record_size {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.truncate(self.record_size);
        bytes
    }
}

/// Removes the bell's folder, of which each image has one of its own.
fn clean_segments(root: &Path) {
    let base = root.join("store");
    let Ok(text) = fs::read_to_string(base.join("manifest.json")) else { return };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let store_id = u128::from_str_radix(json["store_id"].as_str().unwrap(), 16).unwrap();
    let folder = Segments::make_folder(&base, store_id.to_be_bytes(), 0o600, None).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

fn memory_folder() -> TempDir {
    tempfile::Builder::new().prefix("deepwater-power-").tempdir_in("/dev/shm").unwrap()
}

impl Recording {
    /// Makes a store and a feed and writes some sessions; or goes on with one that a crash left.
    fn make(seed: u64, leave_out: LeaveOut, after: Option<(TempDir, Shape, Expect)>) -> Recording {
        let mut random = Random::new(seed);
        let (folder, shape, before) = after.unwrap_or_else(|| {
            let nothing = Expect { there: (false, true), ..Expect::default() };
            (memory_folder(), Shape::random(&mut random), nothing)
        });
        let root = folder.path().join("disk");
        if !root.exists() {
            fs::create_dir(&root).unwrap();
        }
        let (disk, watch) = Disk::watch(&root, leave_out);
        let notes = Arc::new(Mutex::new(Notes::default()));
        let recording = Recording { _folder: folder, shape, disk, notes, before };
        let platform = Platform::create(root.join("store")).unwrap();
        platform.create_feed(&shape.spec(), false).unwrap();
        recording.notes.lock().unwrap().made = Some(recording.disk.moment());
        for _ in 0..1 + random.below(2) {
            recording.session(&platform, &mut random);
            if shape.chunks_kept.is_some() {
                recording.collect(&platform);
            }
        }
        if random.below(4) == 0 {
            recording.notes.lock().unwrap().deleted.0 = Some(recording.disk.moment());
            platform.delete_feed("t").unwrap();
            recording.notes.lock().unwrap().deleted.1 = Some(recording.disk.moment());
        }
        drop(watch);
        clean_segments(&root);
        recording
    }

    fn session(&self, platform: &Platform, random: &mut Random) {
        let (notes, disk) = (Arc::clone(&self.notes), Arc::clone(&self.disk));
        let on_durable = move |seq| {
            let time = disk.moment();
            notes.lock().unwrap().acked.push((time, seq));
        };
        let options =
            WriterOptions { sync: Some(self.shape.sync), on_durable: Some(Box::new(on_durable)) };
        let mut writer = platform.create_writer_with("t", options).unwrap();
        let batches = 4 + random.below(12);
        for _ in 0..batches {
            self.append(&mut writer, random);
            match random.below(8) {
                0 => writer.sync_now().unwrap(),
                1 => std::thread::sleep(Duration::from_millis(2)),
                _ => {}
            }
        }
        writer.close(SessionEnd::Ended).unwrap();
    }

    fn collect(&self, platform: &Platform) {
        let plan = gc::plan(platform, &gc::Wants::default(), &Moment::now()).unwrap();
        let Some(to) = plan.steps().filter_map(|step| step.seqs).map(|seqs| seqs.1).max() else {
            return;
        };
        let time = self.disk.moment();
        self.notes.lock().unwrap().collected.push((time, to));
        let outcome = gc::apply(platform, &plan, &mut |_| {});
        assert!(outcome.failed.is_empty() && outcome.conflicts == 0, "{outcome:?}");
    }

    fn append(&self, writer: &mut Writer, random: &mut Random) {
        // A batch of bulk size now and then, which is written and not stored.
        let many = if random.below(6) == 0 { 3 } else { 1 };
        let count = 1 + random.below(self.shape.per_batch * many);
        let first = writer.next_seq();
        let mut bytes = Vec::new();
        {
            let mut notes = self.notes.lock().unwrap();
            for seq in first..first + count {
                // Of other bytes than a lost record of that seq may have had.
                let record = self.shape.record(mix(seq) % 1_000_000 + seq);
                bytes.extend_from_slice(&record);
                notes.records.insert(seq, record);
            }
        }
        let began = self.disk.moment();
        let position = {
            let mut notes = self.notes.lock().unwrap();
            notes.appended.push((began, None, first..first + count));
            notes.appended.len() - 1
        };
        let marks: &[usize] = if self.shape.marks { &[0] } else { &[] };
        let done = writer.append_marked(&bytes, marks).unwrap();
        assert_eq!((done.first_seq, done.count), (first, count));
        let time = self.disk.moment();
        self.notes.lock().unwrap().appended[position].1 = Some(time);
    }

    fn expect(&self, time: Time) -> Expect {
        let notes = self.notes.lock().unwrap();
        let before = |moment: Option<Time>| moment.is_some_and(|moment| moment <= time);
        let acked = notes.acked.iter().filter(|(at, _)| *at <= time).map(|(_, seq)| *seq).max();
        let collected = notes.collected.iter().filter(|(at, _)| *at <= time).map(|(_, to)| *to);
        let collected = collected.max().unwrap_or(0).max(self.before.collected);
        let mut must = self.before.must.clone();
        must.extend(notes.records.range(..acked.unwrap_or(0)).map(|(s, r)| (*s, r.clone())));
        let mut may = self.before.may.clone();
        may.extend(must.clone());
        let must = must.split_off(&collected);
        let (mut marks, mut durable_marks) =
            (self.before.marks.clone(), self.before.durable_marks.clone());
        if self.shape.marks {
            marks.extend(notes.appended.iter().map(|(_, _, seqs)| seqs.start));
            let own = notes.appended.iter().map(|(_, _, seqs)| seqs.start);
            durable_marks.extend(own.filter(|seq| *seq < acked.unwrap_or(0)));
        }
        let mut used = self.before.used;
        for (began, done, seqs) in &notes.appended {
            if *began <= time {
                may.extend(notes.records.range(seqs.clone()).map(|(s, r)| (*s, r.clone())));
            }
            if before(*done) {
                used = used.max(seqs.end);
            }
        }
        let there = (
            (self.before.there.0 || before(notes.made)) && !before(notes.deleted.0),
            !before(notes.deleted.1),
        );
        Expect { there, must, may, used, collected, marks, durable_marks }
    }
}

/// A crash at a random moment that chooses at random.
fn random_crash(now: Time, random: &mut Random) -> Crash {
    let choices = match random.below(10) {
        // One part alone has reached the disk.
        0 => Part::ALL.map(|_| Choice::Oldest),
        1 => *random.pick(&[only(Part::Registry), all_but(Part::Names)]),
        2 => only(Part::Index),
        3 => only(Part::Data),
        4 => Part::ALL.map(|_| Choice::Zeros),
        5 => Part::ALL.map(|_| *random.pick(&[Choice::Oldest, Choice::Newest, Choice::Any])),
        _ => Part::ALL.map(|_| Choice::Any),
    };
    Crash { time: 1 + random.below(u64::from(now)) as Time, choices, seed: random.next() }
}

/// One part alone has reached the disk, or none, or allocated room and no contents, or everything
/// but names.
const ADVERSARIAL: [fn() -> [Choice; Part::ALL.len()]; 6] = [
    || all_but(Part::Names),
    || only(Part::Registry),
    || only(Part::Index),
    || only(Part::Data),
    || Part::ALL.map(|_| Choice::Oldest),
    || Part::ALL.map(|_| Choice::Zeros),
];

fn all_but(part: Part) -> [Choice; Part::ALL.len()] {
    Part::ALL.map(|p| if p == part { Choice::Oldest } else { Choice::Newest })
}

fn only(part: Part) -> [Choice; Part::ALL.len()] {
    Part::ALL.map(|p| match p {
        Part::Names => Choice::Newest,
        p if p == part => Choice::Newest,
        _ => Choice::Oldest,
    })
}

/// Everything a reader finds; an error for whatever it complains of.
fn read(reader: &Reader, selection: Selection) -> Result<Records, String> {
    let wrong = |e: deepwater::Error| format!("the reader: {e}");
    let snapshot = reader.snapshot().map_err(wrong)?;
    let mut scan = reader.scan(&snapshot, selection, Direction::Forward);
    let mut found = Records::new();
    let size = reader.layout().record_size();
    while let Some(run) = scan.next_run().map_err(wrong)? {
        for (i, record) in run.records.chunks_exact(size).enumerate() {
            let seq = run.first_seq + i as u64;
            if found.insert(seq, record.to_vec()).is_some() {
                return Err(format!("seq {seq} comes twice"));
            }
        }
    }
    match scan.take_damage().first() {
        Some(damage) => Err(format!("damage: {damage:?}")),
        None => Ok(found),
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
    for (seq, record) in found {
        if expect.may.get(seq) != Some(record) {
            return Err(format!("record {seq} is invented"));
        }
    }
    Ok(())
}

/// What a reader finds before any recovery; none where the feed is not there, and need not be.
fn first_look(root: &Path, expect: &Expect) -> Result<Option<Records>, String> {
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
    let found = read(&reader, Selection::ALL)?;
    if expect.there.0 {
        compare(&found, expect)?;
        by_time(&reader, &found)?;
        newest_mark(&reader, &found, expect)?;
    }
    Ok(Some(found))
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
fn repair(root: &Path, expect: &Expect) -> Result<Records, String> {
    let wrong = |e: deepwater::Error| format!("repair: {e}");
    let platform = Platform::open(root.join("store")).map_err(wrong)?;
    let lock = repair::lock(&platform, "t").map_err(wrong)?;
    let options = repair::Options::default();
    let plan = || repair::plan(&platform, "t", options, &mut |_| {}).map_err(wrong);
    repair::adopt(&platform, "t", options, &lock).map_err(wrong)?;
    let first = plan()?;
    // Files that a writer had prepared, or was about to remove, are moved away: they might be more.
    // A chunk that reached the disk before its entry did is taken back.
    let damage = |finding: &&Finding| {
        let taken_back = finding.kind == Kind::Chunk && finding.records_gone() == 0;
        finding.is_damage() && finding.kind != Kind::Stray && !taken_back
    };
    if let Some(finding) = first.findings.iter().find(damage) {
        return Err(format!("repair takes it for damaged: {finding:?}"));
    }
    repair::apply(&first, &lock).map_err(wrong)?;
    let second = plan()?;
    if !second.findings.is_empty() || !second.is_empty() {
        return Err(format!("a second repair finds {:?}", second.findings));
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

/// Judges a crash image, which it uses up. One in three is repaired before it is written on.
fn judge(root: &Path, shape: Shape, expect: &Expect, seed: u64) -> Result<(), String> {
    let mut found = first_look(root, expect)?;
    if found.is_some() && expect.there.0 && seed.is_multiple_of(3) {
        found = Some(repair(root, expect)?);
    }
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |e: deepwater::Error| format!("{what}: {e}")
    };
    let platform = Platform::create(root.join("store")).map_err(wrong("making the store"))?;
    platform.create_feed(&shape.spec(), false).map_err(wrong("making the feed"))?;
    let mut there = found.filter(|_| expect.there.0).unwrap_or_default();
    let mut used = if expect.there.0 { expect.used } else { 0 };
    for round in 0..3 {
        let mut writer =
            platform.create_writer("t").map_err(wrong(&format!("writer {round} after it")))?;
        let next = writer.next_seq();
        if next < used {
            return Err(format!("writer {round} begins with seq {next}, {used} were used"));
        }
        let reader = platform.create_reader("t").map_err(wrong("the reader"))?;
        let now = read(&reader, Selection::ALL)?;
        if expect.there.0 {
            newest_mark(&reader, &now, expect)?;
        }
        if expect.there.0 && now != there {
            return Err(format!("writer {round} changed what is there"));
        }
        there = now;
        holes_are_on_record(&reader, &there, expect.collected, next)?;
        // The second one has nothing to recover, and says nothing new.
        if round == 1 && next != used {
            return Err(format!("a second recovery skipped {used}..{next}"));
        }
        let records: Vec<Vec<u8>> = (0..5).map(|n| shape.record(7_000_000 + n)).collect();
        writer.append_batch(&records.concat()).map_err(wrong("an append"))?;
        there.extend((next..).zip(records));
        used = next + 5;
        writer.close(SessionEnd::Ended).map_err(wrong("the close"))?;
        let reader = platform.create_reader("t").map_err(wrong("the reader"))?;
        if read(&reader, Selection::ALL)? != there {
            return Err(format!("what writer {round} appended is not what is there"));
        }
        by_time(&reader, &there)?;
    }
    is_sound(&platform)
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

/// Makes and judges one image.
fn crash(recording: &Recording, crash: &Crash, expect: &Expect) -> Result<(), String> {
    let folder = memory_folder();
    let root = folder.path().join("disk");
    recording.disk.history().write_image(crash, &root);
    let judged = judge(&root, recording.shape, expect, crash.seed);
    clean_segments(&root);
    judged
}

/// Which part, had it been on disk whole, would have saved the day.
fn culprits(recording: &Recording, found: &Crash, expect: &Expect) -> Vec<Part> {
    let saved = |part: &Part| crash(recording, &found.with_newest(*part), expect).is_ok();
    Part::ALL.into_iter().filter(saved).collect()
}

/// What the writer must have left out, if it did, for a part to be old that is needed.
fn pillar(part: Part) -> &'static str {
    match part {
        Part::Data => "sync data",
        Part::Index => "sync index",
        Part::Registry => "sync feed registry",
        Part::Live => "sync live page",
        Part::Other => "sync another file",
        Part::Names => "sync directory",
    }
}

fn tell(recording: &Recording, found: &Crash, why: &str, expect: &Expect) -> String {
    let parts = culprits(recording, found, expect);
    let missed: Vec<&str> = match parts.is_empty() {
        true => vec!["write checkpoint"],
        false => parts.into_iter().map(pillar).collect(),
    };
    let history = recording.disk.history();
    let before: Vec<&(Time, String)> =
        history.steps.iter().filter(|(time, _)| *time <= found.time).collect();
    let last: Vec<String> =
        before.iter().rev().take(25).rev().map(|(t, s)| format!("  {t} {s}")).collect();
    format!(
        "{why}\nmissing: {}\nat {} of {}, {:?}, seed {}, {:?}\n{}",
        missed.join(" or "),
        found.time,
        history.now(),
        found.choices,
        found.seed,
        recording.shape,
        last.join("\n")
    )
}

/// Records, crashes, judges; the first thing that is wrong, or how many images were right.
fn search(seed: u64, images: u64, leave_out: LeaveOut) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let mut done = 0;
    while done < images {
        let mut recording = Recording::make(random.next(), leave_out, None);
        for depth in 0..3 {
            let now = recording.disk.history().now();
            for n in 0..40 {
                let mut found = random_crash(now, &mut random);
                if n < ADVERSARIAL.len() * 2 {
                    found.choices = ADVERSARIAL[n / 2]();
                }
                let expect = recording.expect(found.time);
                crash(&recording, &found, &expect).map_err(|why| {
                    format!("{}\nimage {done}", tell(&recording, &found, &why, &expect))
                })?;
                done += 1;
            }
            if depth < 2 {
                let Some(after) = go_on(&recording, &mut random)? else { break };
                recording = Recording::make(random.next(), leave_out, Some(after));
            }
        }
    }
    Ok(done)
}

/// A crash image to go on with: what a reader finds there must stay, whatever happens next.
fn go_on(
    recording: &Recording,
    random: &mut Random,
) -> Result<Option<(TempDir, Shape, Expect)>, String> {
    let now = recording.disk.history().now();
    let found = random_crash(now, random);
    let expect = recording.expect(found.time);
    if !expect.there.0 {
        return Ok(None);
    }
    let folder = memory_folder();
    let root = folder.path().join("disk");
    recording.disk.history().write_image(&found, &root);
    let there = first_look(&root, &expect)
        .map_err(|why| tell(recording, &found, &why, &expect))?
        .unwrap_or_default();
    let next = Expect { there: (true, true), must: there.clone(), may: there, ..expect };
    Ok(Some((folder, recording.shape, next)))
}

fn images() -> u64 {
    std::env::var("DEEPWATER_IMAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

fn seed() -> u64 {
    std::env::var("DEEPWATER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(20_260_801)
}

/// Half of the images each: the judge mostly waits for the writers it opens.
#[test]
fn a_power_loss_loses_nothing_durable_and_invents_nothing() {
    let done: u64 = std::thread::scope(|scope| {
        let half = images().div_ceil(2);
        let halves =
            [seed(), seed() + 1].map(|seed| scope.spawn(move || search(seed, half, |_| false)));
        let done = halves.map(|half| half.join().unwrap());
        done.into_iter().map(|half| half.unwrap_or_else(|why| panic!("{why}"))).sum()
    });
    println!("{done} crash images");
    assert!(done >= images());
}

/// Each of the four things that durability is made of, by the steps that do it.
const PILLARS: [(&str, LeaveOut); 4] = [
    ("sync data", |step| is(step, Op::Sync, ".data")),
    ("sync index", |step| is(step, Op::Sync, ".idx")),
    ("write checkpoint", |step| {
        let Io { at, .. } = step.io;
        is(step, Op::Store, "feed_registry.bin") && (2048..3072).contains(&at)
    }),
    ("sync directory", |step| is(step, Op::SyncFolder, "/feeds/t")),
];

fn is(step: &Step<'_>, op: Op, ending: &str) -> bool {
    step.io.op == op && step.io.path.to_string_lossy().ends_with(ending)
}

#[test]
fn each_pillar_of_durability_is_missed_when_it_is_taken_out() {
    for (name, leave_out) in PILLARS {
        let found = search(7, 2000, leave_out).expect_err(name);
        let told = found.lines().nth(1).unwrap();
        assert!(told.contains(name), "without {name} it says: {found}");
        println!("without {name}: {}", found.lines().next().unwrap());
    }
}

/// Chunk files whose names are not durable, and the chunks that were sealed in spite of that.
#[derive(Default)]
struct Names {
    new: BTreeSet<String>,
    being_synced: BTreeSet<String>,
    sealed: u64,
    too_early: Vec<u64>,
}

struct SealsAndNames(Mutex<Names>);

impl Watcher for SealsAndNames {
    fn before(&self, step: &Step<'_>) -> Verdict {
        let mut names = self.0.lock().unwrap();
        if step.io.op == Op::SyncFolder {
            names.being_synced = names.new.clone();
        }
        // An entry's sealed part is stored. The first entry is the session's, chunks follow it.
        let entry = step.io.at.saturating_sub(4096);
        let is_seal = entry > 128 && entry % 128 == 64 && step.io.len < 64;
        if is(step, Op::Store, "feed_registry.bin") && is_seal {
            names.sealed += 1;
            let chunk = entry / 128;
            if names.new.contains(&format!("{chunk:08}.data")) {
                names.too_early.push(chunk);
            }
        }
        Verdict::Go
    }

    fn after(&self, step: &Step<'_>, _succeeded: bool) {
        let mut names = self.0.lock().unwrap();
        match step.io.op {
            Op::Create => {
                let name = step.io.path.file_name().unwrap().to_string_lossy().into_owned();
                names.new.insert(name);
            }
            Op::SyncFolder => {
                let durable = std::mem::take(&mut names.being_synced);
                names.new.retain(|name| !durable.contains(name));
            }
            _ => {}
        }
    }
}

/// Batches of several chunks: the writing thread makes the chunks, since none is made ahead.
#[test]
fn a_chunk_is_sealed_only_after_its_name_is_durable() {
    for staged in [false, true] {
        let folder = memory_folder();
        let platform = Platform::create(folder.path().join("store")).unwrap();
        let shape = Shape {
            record_size: 16_384,
            zeros: false,
            blocks: 1,
            sync: Sync::None,
            per_batch: 0,
            marks: false,
            staged,
            chunks_kept: None,
        };
        platform.create_feed(&shape.spec(), false).unwrap();
        let names = Arc::new(SealsAndNames(Mutex::default()));
        let feed = folder.path().join("store/feeds/t");
        let watching = watch(&feed, Arc::clone(&names) as Arc<dyn Watcher>);
        let mut writer = platform.create_writer("t").unwrap();
        for _ in 0..20 {
            let records: Vec<Vec<u8>> = (0..9).map(|n| shape.record(n)).collect();
            writer.append_batch(&records.concat()).unwrap();
        }
        writer.close(SessionEnd::Ended).unwrap();
        drop(watching);
        clean_segments(folder.path());
        let names = names.0.lock().unwrap();
        assert_eq!(names.sealed, 45);
        assert_eq!(names.too_early, [] as [u64; 0], "staged {staged}: of these chunks");
    }
}
