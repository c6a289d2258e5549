//! One case: a copy is made of a store at work, opened as a copy or put back in place, and judged
//! after each step by what its files hold.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::random::Random;
use crate::struct_damage::history::{self, History, mark_collected};
use crate::struct_damage::image::{FEED, Place};
use crate::struct_damage::model::{Model, Set};
use crate::struct_damage::steps::{self, Step, Told};

use super::hot::{Copier, Original, walk};

/// What must not be, in a word, and how it was.
pub type Wrong = (&'static str, String);

/// What becomes of a copy.
struct Trial {
    place: Place,
    model: Model,
    boot: u32,
    /// The first seq above all that the copy says to have been used.
    used: u64,
    repaired: bool,
}

/// Runs a case; what was wrong, if anything.
pub fn run(history: &History, mut random: Random, folder: &Path) -> Option<Wrong> {
    history::enter(history.boot);
    let place = history.image.put(folder.join("original"));
    let mut original = Original::new(place, history.model.clone(), &mut random);
    let mut steps = Vec::new();
    let case = || case(&mut original, history.boot, &mut random, folder, &mut steps);
    let found = match catch_unwind(AssertUnwindSafe(case)) {
        Ok(done) => done.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(("panic", text.unwrap_or_default()))
        }
    };
    let _ = fs::remove_dir_all(folder);
    let (kind, how) = found?;
    Some((kind, format!("{how}\n  steps: {steps:?}\n  original: {}", original.story)))
}

fn case(
    original: &mut Original,
    boot: u32,
    random: &mut Random,
    folder: &Path,
    done: &mut Vec<String>,
) -> Result<(), Wrong> {
    for _ in 0..random.below(4) {
        original.step(random);
    }
    let mut copier = Copier::new(original, random);
    // How much goes on meanwhile.
    let pace = *random.pick(&[1, 2, 5]);
    while copier.step(original, random) {
        for _ in 0..2 {
            if random.below(pace) == 0 {
                original.step(random);
            }
        }
    }
    for _ in 0..random.below(3) {
        original.step(random);
    }
    match random.below(3) {
        0 => original.close(),
        1 => original.kill(),
        _ => {}
    }
    if random.below(2) == 0 {
        return elsewhere(original, copier, boot, random, folder, done);
    }
    original.close();
    in_place(original, copier, boot, random, done)
}

/// Opens the copy as a copy, beside the store, which goes on.
fn elsewhere(
    original: &mut Original,
    copier: Copier,
    boot: u32,
    random: &mut Random,
    folder: &Path,
    done: &mut Vec<String>,
) -> Result<(), Wrong> {
    let place = Place::new(folder.join("copy"), store_id(&copier.files));
    for (name, bytes) in &copier.files {
        let path = place.base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let before = original.model.held(&original.place);
    done.push("elsewhere".into());
    let mut model = original.model.clone();
    model.collected = copier.collected;
    let mut trial = Trial { place, model, boot, used: 0, repaired: false };
    trial.used = published(&trial.place);
    trial.go(random, done)?;
    history::enter(boot);
    // The original has not noticed.
    if !original.is_written() && original.model.held(&original.place) != before {
        return Err(("original", "the copy's tools changed the original".into()));
    }
    if original.is_written() {
        original.append(random);
        original.close();
    }
    let told = steps::run(Step::Read, &original.place, &mut original.model);
    let held = original.model.held(&original.place).0;
    let missing = held.without(&told.printed).without(&original.model.collected);
    match (told.clean || only_on_record(&told)) && missing.len() == 0 {
        true => Ok(()),
        false => Err(("original", told.said)),
    }
}

/// Puts the copy back over the store, whose files keep their inodes.
fn in_place(
    original: &mut Original,
    copier: Copier,
    boot: u32,
    random: &mut Random,
    done: &mut Vec<String>,
) -> Result<(), Wrong> {
    let base = original.place.base.clone();
    let keeps_others = random.below(2) == 0;
    let mut there = Vec::new();
    walk(&base, "", &mut there);
    for name in there.iter().filter(|name| !keeps_others && !copier.files.contains_key(*name)) {
        fs::remove_file(base.join(name)).unwrap();
    }
    for (name, bytes) in &copier.files {
        fs::create_dir_all(base.join(name).parent().unwrap()).unwrap();
        fs::write(base.join(name), bytes).unwrap();
    }
    done.push(format!("in place, keeps others {keeps_others}"));
    let mut model = original.model.clone();
    model.collected = copier.collected;
    let place = Place { base, shm: original.place.shm.clone() };
    let mut trial = Trial { place, model, boot, used: 0, repaired: false };
    trial.used = published(&trial.place);
    trial.go(random, done)
}

fn store_id(files: &BTreeMap<String, Vec<u8>>) -> [u8; 16] {
    let json: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    u128::from_str_radix(json["store_id"].as_str().unwrap(), 16).unwrap().to_be_bytes()
}

/// What the live page says to have published, where a word beside it agrees.
fn published(place: &Place) -> u64 {
    let page = fs::read(place.base.join("feeds").join(FEED).join("live")).unwrap_or_default();
    let word = |at: usize| page.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    let (Some(published), Some(one), Some(other)) = (word(320), word(328), word(336)) else {
        return 0;
    };
    let vouched = [one, other].iter().any(|word| word & ((1 << 48) - 1) == published);
    if vouched { published } else { 0 }
}

/// Whether nothing was said but which seqs are on record as lost: they stay so for good.
fn only_on_record(told: &Told) -> bool {
    let said = told.said.replace("] [] None None", "").replace("[] [", "");
    let is_lost = |text: &str| {
        let why = ["Lost", "Unreachable", "Removed", "Collected"];
        text.starts_with("Lost {") && why.iter().any(|why| text.contains(&format!("why: {why}")))
    };
    said.trim().split_inclusive('}').all(|text| is_lost(text.trim_start_matches([',', ' '])))
}

impl Trial {
    fn go(&mut self, random: &mut Random, done: &mut Vec<String>) -> Result<(), Wrong> {
        if random.below(3) == 0 {
            self.step(Step::Reboot, done)?;
        }
        for _ in 0..1 + random.below(4) {
            let step = match random.below(12) {
                0 | 1 => Step::Read,
                2 => Step::ReadBack,
                3 => Step::Follow,
                4..=6 => Step::Write(1 + random.below(40)),
                7 | 8 => Step::Collect,
                9 => Step::Look,
                10 => Step::Repair,
                _ => Step::Reboot,
            };
            self.step(step, done)?;
        }
        for step in [Step::Read, Step::Repair, Step::Read, Step::Write(7), Step::Follow] {
            self.step(step, done)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step, done: &mut Vec<String>) -> Result<(), Wrong> {
        if step == Step::Reboot {
            done.push(format!("{step:?}"));
            self.boot += 1;
            history::enter(self.boot);
            for item in fs::read_dir(&self.place.shm).into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(item.path());
                let _ = fs::remove_file(item.path());
            }
            return Ok(());
        }
        let before = self.model.held(&self.place);
        let by_chunk = if step == Step::Collect { self.by_chunk() } else { Vec::new() };
        let told = steps::run(step, &self.place, &mut self.model);
        done.push(format!("{step:?} {} {}", told.done, told.clean));
        if told.said.contains("panicked") {
            return Err(("panic", told.said));
        }
        if let Some(wrong) = &told.wrong {
            let kind = if wrong.starts_with("twice") { "twice" } else { "invented" };
            return Err((kind, format!("{wrong}; said: {}", told.said)));
        }
        self.note_collected(&told, &by_chunk);
        self.nothing_vanished(&told, &before)?;
        match step {
            Step::Write(_) => self.no_seq_twice(&told, &before),
            Step::Repair => self.is_repaired(&told),
            _ if step.reads() => self.nothing_missing(&told, &before),
            _ => Ok(()),
        }
    }

    /// The records in each chunk's data file.
    fn by_chunk(&self) -> Vec<(u64, Set)> {
        let folder = self.place.base.join("feeds").join(FEED);
        let mut all = Vec::new();
        for item in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = item.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".data") else { continue };
            let (number, part) = stem.split_once('.').unwrap_or((stem, "0"));
            let (Ok(number), Ok(part)) = (number.parse::<u64>(), part.parse::<u64>()) else {
                continue;
            };
            let mut held = Set::default();
            self.model.in_bytes(&fs::read(item.path()).unwrap_or_default(), &mut held);
            all.push((part << 48 | number, held));
        }
        all
    }

    /// What dw-gc's plan took: its seqs, and what else the chunk's file held.
    fn note_collected(&mut self, told: &Told, by_chunk: &[(u64, Set)]) {
        for (chunk, seqs) in &told.collected {
            mark_collected(&mut self.model, *seqs);
            let files = by_chunk.iter().filter(|(id, _)| id == chunk);
            files.for_each(|(_, held)| self.model.collected.add(held));
        }
    }

    fn nothing_vanished(&self, told: &Told, (own, kept): &(Set, Set)) -> Result<(), Wrong> {
        let mut before = own.clone();
        before.add(kept);
        let (now, now_kept) = self.model.held(&self.place);
        let gone = before.without(&now).without(&now_kept).without(&self.model.collected);
        match gone.len() {
            0 => Ok(()),
            _ => Err(("vanished", format!("{}; said: {}", self.model.show(&gone), told.said))),
        }
    }

    fn nothing_missing(&self, told: &Told, (own, kept): &(Set, Set)) -> Result<(), Wrong> {
        if self.repaired && !told.clean && !only_on_record(told) {
            return Err(("not clean after a repair", told.said.clone()));
        }
        let missing = own.clone().without(&told.printed).without(kept);
        let missing = missing.without(&self.model.collected);
        if told.clean && missing.len() > 0 {
            let how = format!("{}; said: {}", self.model.show(&missing), told.said);
            return Err(("silent", how));
        }
        Ok(())
    }

    fn no_seq_twice(&mut self, told: &Told, (own, kept): &(Set, Set)) -> Result<(), Wrong> {
        if self.repaired && !told.done {
            return Err(("no writer after a repair", told.said.clone()));
        }
        let Some((lo, hi)) = told.written else { return Ok(()) };
        let mut held = own.clone();
        held.add(kept);
        let twice = |id: &usize| self.model.seq(*id).is_some_and(|seq| lo <= seq && seq < hi);
        if let Some(id) = held.iter().find(twice) {
            return Err(("reused", format!("seq {:?} of {lo}..{hi}", self.model.seq(id))));
        }
        if lo < self.used {
            let how = format!("seq {lo}..{hi}, and seqs below {} were published", self.used);
            return Err(("reused", how));
        }
        self.used = hi;
        Ok(())
    }

    fn is_repaired(&mut self, told: &Told) -> Result<(), Wrong> {
        self.repaired = told.done;
        if !told.done {
            return Err(("repair refuses", told.said.clone()));
        }
        let again = steps::run(Step::Look, &self.place, &mut self.model);
        match again.done && again.clean {
            true => Ok(()),
            false => {
                Err(("second repair finds", format!("{}; the first: {}", again.said, told.said)))
            }
        }
    }
}
