//! Histories: a feed is written, collected and repaired, and all of it noted with its moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deepwater::Platform;
use deepwater::gc;
use deepwater::registry::feed::Moment;
use deepwater::registry::segments::Segments;
use deepwater::repair;
use deepwater::schema::{FeedSpec, Sync};
use deepwater::writer::{SessionEnd, Writer, WriterOptions};
use tempfile::TempDir;

use crate::disk::{Disk, LeaveOut, Time};
use crate::random::{Random, mix};

pub type Records = BTreeMap<u64, Vec<u8>>;

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
pub struct Expect {
    /// Whether the feed must be there, and whether it may.
    pub there: (bool, bool),
    /// Records that must be there.
    pub must: Records,
    /// Records that may be there.
    pub may: Records,
    /// The next seq is not below this one.
    pub used: u64,
    /// What lies below this seq was told to be durable.
    pub durable: u64,
    /// What lies below this seq may have been collected.
    pub collected: u64,
    /// Seqs that were marked.
    pub marks: BTreeSet<u64>,
    /// Those whose marks are durable. After a crash a record may be there whose mark is not.
    pub durable_marks: BTreeSet<u64>,
}

/// One history and what is to be true of it.
pub struct Recording {
    _folder: TempDir,
    pub shape: Shape,
    pub disk: Arc<Disk>,
    notes: Arc<Mutex<Notes>>,
    /// What was there before.
    before: Expect,
}

/// What a feed is like and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub record_size: usize,
    pub zeros: bool,
    pub blocks: usize,
    pub sync: Sync,
    pub per_batch: u64,
    pub marks: bool,
    /// Whether chunks are born in shared memory: of that a crash leaves nothing.
    pub staged: bool,
    /// Chunks that collecting leaves; none: it is not done.
    pub chunks_kept: Option<u64>,
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

    pub fn spec(&self) -> FeedSpec {
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

    pub fn record(&self, n: u64) -> Vec<u8> {
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

/// The folder of a store's shared memory, of which each image has one of its own; made, if it is
/// not there.
pub fn memory_of(root: &Path) -> Option<PathBuf> {
    let base = root.join("store");
    let text = fs::read_to_string(base.join("manifest.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let store_id = u128::from_str_radix(json["store_id"].as_str().unwrap(), 16).unwrap();
    Some(Segments::make_folder(&base, store_id.to_be_bytes(), 0o600, None).unwrap())
}

/// Removes it.
pub fn clean_segments(root: &Path) {
    if let Some(folder) = memory_of(root) {
        fs::remove_dir_all(folder).unwrap();
    }
}

/// A crash image to go on with.
pub struct After {
    pub folder: TempDir,
    pub shape: Shape,
    pub expect: Expect,
    /// Whether it must be repaired before it is written.
    pub broken: bool,
}

pub fn memory_folder() -> TempDir {
    tempfile::Builder::new().prefix("deepwater-power-").tempdir_in("/dev/shm").unwrap()
}

impl Recording {
    /// Makes a store and a feed and writes some sessions; or goes on with one that a crash left.
    pub fn make(seed: u64, leave_out: LeaveOut, after: Option<After>) -> Recording {
        let mut random = Random::new(seed);
        let goes_on = after.is_some();
        let After { folder, shape, expect: before, broken } = after.unwrap_or_else(|| {
            let expect = Expect { there: (false, true), ..Expect::default() };
            let (folder, shape) = (memory_folder(), Shape::random(&mut random));
            After { folder, shape, expect, broken: false }
        });
        let root = folder.path().join("disk");
        if !root.exists() {
            fs::create_dir(&root).unwrap();
        }
        let (disk, watch) = Disk::watch(&root, leave_out);
        let notes = Arc::new(Mutex::new(Notes::default()));
        let recording = Recording { _folder: folder, shape, disk, notes, before };
        let platform = Platform::create(root.join("store")).unwrap();
        let memory = shape.staged.then(|| recording.disk.watch_memory(&memory_of(&root).unwrap()));
        platform.create_feed(&shape.spec(), false).unwrap();
        recording.notes.lock().unwrap().made = Some(recording.disk.moment());
        if broken || (goes_on && random.below(3) == 0) {
            recording.repair(&platform);
        }
        if goes_on && shape.chunks_kept.is_some() && random.below(2) == 0 {
            recording.collect(&platform);
        }
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
        drop((watch, memory));
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

    fn repair(&self, platform: &Platform) {
        let options = repair::Options::default();
        let lock = repair::lock(platform, "t").unwrap();
        // What is in memory and cannot be taken over, the plan says.
        let _ = repair::adopt(platform, "t", options, &lock);
        let plan = repair::plan(platform, "t", options, &mut |_| {}).unwrap();
        repair::apply(&plan, &lock).unwrap();
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

    pub fn expect(&self, time: Time) -> Expect {
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
        let durable = acked.unwrap_or(0).max(self.before.durable);
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
        Expect { there, must, may, used, durable, collected, marks, durable_marks }
    }
}
