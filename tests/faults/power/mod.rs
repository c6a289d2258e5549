//! Power losses: a writer is watched at work, and from what the disk may have had at each moment
//! crash images are made. Every image must open, hold all that was acknowledged by then and nothing
//! that was not appended, and be written on without a seq used twice. The judge knows the log of
//! I/O steps, the records it appended itself and the seqs it was told are durable; nothing else.

mod judge;
mod record;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use deepwater::Platform;
use deepwater::os::faults::{Io, Op, Step, Verdict, Watcher, watch};
use deepwater::schema::Sync;
use deepwater::writer::SessionEnd;

use crate::disk::{Back, Choice, Crash, LeaveOut, Part, Time};
use crate::kit;
use crate::random::Random;
use crate::struct_damage::image::{stamp_page, stamp_segments};
use judge::{first_look, judge};
use record::{After, Expect, Recording, Shape, clean_segments, memory_folder, memory_of};

/// Whether half of the crashes are of a device that comes back within the boot. On request, until
/// the store survives all of them.
fn device_may_come_back() -> bool {
    std::env::var_os("DEEPWATER_DEVICE").is_some()
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
    let back = match random.below(8) {
        4..=6 if device_may_come_back() => Back::SameBoot,
        7 if device_may_come_back() => Back::MemoryGone,
        _ => Back::Elsewhere,
    };
    let time = 1 + random.below(u64::from(now)) as Time;
    Crash { back, time, choices, seed: random.next() }
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

/// Makes what a crash leaves.
fn put_image(recording: &Recording, crash: &Crash, root: &Path) {
    let history = recording.disk.history();
    history.write_image(crash, root);
    if crash.back == Back::Elsewhere {
        return;
    }
    let Some(memory) = memory_of(root) else { return };
    if crash.back == Back::SameBoot {
        history.write_memory(crash.time, &memory);
    }
    // Each file is the one that it was.
    let feed = root.join("store/feeds/t");
    change(&feed.join("live"), stamp_page);
    change(&memory.join("t.live"), stamp_page);
    change(&feed.join("feed_registry.bin"), |bytes, _| stamp_segments(bytes, &memory));
}

fn change(path: &Path, by: impl Fn(&mut [u8], &Path)) {
    if let Ok(mut bytes) = std::fs::read(path) {
        by(&mut bytes, path);
        std::fs::write(path, bytes).unwrap();
    }
}

/// Makes and judges one image.
fn crash(recording: &Recording, crash: &Crash, expect: &Expect) -> Result<(), String> {
    let folder = memory_folder();
    let root = folder.path().join("disk");
    put_image(recording, crash, &root);
    let judged = judge(&root, recording.shape, expect, (crash.seed, crash.back));
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
        "{why}\nmissing: {}\nat {} of {}, {:?}, {:?}, seed {}, {:?}\n{}",
        missed.join(" or "),
        found.time,
        history.now(),
        found.back,
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
fn go_on(recording: &Recording, random: &mut Random) -> Result<Option<After>, String> {
    let now = recording.disk.history().now();
    let found = random_crash(now, random);
    let expect = recording.expect(found.time);
    if !expect.there.0 {
        return Ok(None);
    }
    let folder = memory_folder();
    let root = folder.path().join("disk");
    put_image(recording, &found, &root);
    let seen = first_look(&root, &expect, found.back)
        .map_err(|why| tell(recording, &found, &why, &expect))?;
    let broken = seen.as_ref().is_none_or(|seen| !seen.complaints.is_empty());
    let there = seen.map(|seen| seen.records).unwrap_or_default();
    // What only a live page proves, the next crash may take.
    let is_durable = found.back == Back::Elsewhere && !broken;
    let must = if is_durable { there.clone() } else { expect.must.clone() };
    let may = if broken { expect.may.clone() } else { there };
    let used = if found.back == Back::Elsewhere { expect.used } else { expect.durable };
    let expect = Expect { there: (true, true), must, may, used, ..expect };
    Ok(Some(After { folder, shape: recording.shape, expect, broken }))
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
    if !device_may_come_back() {
        kit::not_run(
            "devices that come back within a boot (faults are left; set DEEPWATER_DEVICE)",
        );
    }
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
