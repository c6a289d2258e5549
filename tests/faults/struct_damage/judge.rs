//! One case: a store is damaged, then read, written, collected and repaired in some order, and
//! after each step judged by what its files hold.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use deepwater::os::faults::pretend_boot;

use super::damage::Damage;
use super::history::{self, History};
use super::image::{FEED, Place, is_page, is_table};
use super::model::{Model, Set};
use super::steps::{self, Step, Told};
use crate::random::Random;

/// A case, chosen.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// What is done, the damage too.
    pub steps: Vec<Step>,
}

impl Case {
    /// Chooses one: damage first, later damage now and then, and a reader at the end.
    pub fn choose(history: &History, random: &mut Random) -> Case {
        let chooser = super::damage::Chooser::new(history);
        let mut damage = Vec::new();
        let count = *random.pick(&[1, 1, 1, 2, 2, 3]);
        for _ in 0..20 {
            if damage.len() < count {
                damage.extend(chooser.choose(random));
            }
        }
        let later = random.below(6) == 0 && damage.len() > 1;
        let first = if later { damage.len() - 1 } else { damage.len() };
        let mut steps: Vec<Step> = (0..first).map(Step::Damage).collect();
        if random.below(5) < 2 {
            steps.push(Step::Reboot);
        }
        for _ in 0..1 + random.below(4) {
            steps.push(match random.below(12) {
                0 => Step::Read,
                1 => Step::ReadBack,
                2 => Step::Follow,
                3..=5 => Step::Write(1 + random.below(40)),
                6 | 7 => Step::Collect,
                8 => Step::Look,
                9 | 10 => Step::Repair,
                _ => Step::Reboot,
            });
        }
        if later {
            let at = first + random.below((steps.len() - first) as u64 + 1) as usize;
            steps.insert(at, Step::Damage(first));
        }
        steps.push(Step::Read);
        Case { damage, steps }
    }
}

/// What must not be, in a word, and how it was.
pub type Wrong = (&'static str, String);

/// A case at work.
struct Trial<'a> {
    history: &'a History,
    case: &'a Case,
    place: Place,
    model: Model,
    boot: u32,
    /// Damage done so far.
    struck: Vec<usize>,
    /// The last step was a repair that came to its end.
    repaired: bool,
}

/// Runs a case; what was wrong, if anything.
pub fn run(history: &History, case: &Case, folder: &Path) -> Option<Wrong> {
    history::enter(history.boot);
    let place = history.image.put(folder.to_owned());
    let mut trial = Trial {
        history,
        case,
        place,
        model: history.model.clone(),
        boot: history.boot,
        struck: Vec::new(),
        repaired: false,
    };
    let mut found = None;
    for (at, step) in case.steps.iter().enumerate() {
        let done = catch_unwind(AssertUnwindSafe(|| trial.step(*step)));
        found = match done {
            Ok(done) => done.err(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Some(("panic", text.unwrap_or_default()))
            }
        };
        if let Some((_, how)) = &mut found {
            *how = format!("step {at}, {step:?}: {how}");
            break;
        }
    }
    pretend_boot(None);
    found
}

impl Trial<'_> {
    fn step(&mut self, step: Step) -> Result<(), Wrong> {
        match step {
            Step::Damage(number) => {
                if let Some(damage) = self.case.damage.get(number) {
                    damage.strike(self.history, &self.place);
                    self.struck.push(number);
                }
                self.repaired = false;
                return Ok(());
            }
            Step::Reboot => {
                self.boot += 1;
                history::enter(self.boot);
                for item in std::fs::read_dir(&self.place.shm).into_iter().flatten().flatten() {
                    let _ = std::fs::remove_dir_all(item.path());
                    let _ = std::fs::remove_file(item.path());
                }
                return Ok(());
            }
            _ => {}
        }
        let before = self.model.held(&self.place);
        let by_chunk = if step == Step::Collect { self.by_chunk() } else { Vec::new() };
        let told = steps::run(step, &self.place, &mut self.model);
        if told.said.contains("panicked") {
            return Err(("panic", told.said));
        }
        if let Some(wrong) = &told.wrong
            && !(self.is_defenceless() && wrong.starts_with("invented"))
        {
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

    /// Whether both a chunk's records and its sums were hit: then nothing tells what is right.
    fn is_defenceless(&self) -> bool {
        let damage = self.struck.iter().map(|number| &self.case.damage[*number]);
        let hit = |ending: &str| damage.clone().any(|d| d.touches(|name| name.ends_with(ending)));
        hit(".data") && (hit(".idx") || hit("feed_registry.bin") || hit("live"))
    }

    /// Records that may be gone: collected, or of the last session and proven by nothing that was
    /// left whole.
    fn excused(&self) -> Set {
        let mut all = self.model.collected.clone();
        let proof = |name: &str| is_page(name) || is_table(name) || name.starts_with("shm/");
        let hit = self.struck.iter().any(|number| self.case.damage[*number].touches(proof));
        if hit || self.boot != self.history.boot {
            all.add(&self.model.tail);
        }
        all
    }

    /// The records in each chunk's data file.
    fn by_chunk(&self) -> Vec<(u64, Set)> {
        let folder = self.place.base.join("feeds").join(FEED);
        let mut all = Vec::new();
        for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = item.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".data") else { continue };
            let (number, part) = stem.split_once('.').unwrap_or((stem, "0"));
            let (Ok(number), Ok(part)) = (number.parse::<u64>(), part.parse::<u64>()) else {
                continue;
            };
            let mut held = Set::default();
            self.model.in_bytes(&std::fs::read(item.path()).unwrap_or_default(), &mut held);
            all.push((part << 48 | number, held));
        }
        all
    }

    /// What the plan took: its seqs, and what else the chunk's file held.
    fn note_collected(&mut self, told: &Told, by_chunk: &[(u64, Set)]) {
        for (chunk, seqs) in &told.collected {
            history::mark_collected(&mut self.model, *seqs);
            let files = by_chunk.iter().filter(|(id, _)| id == chunk);
            files.for_each(|(_, held)| self.model.collected.add(held));
        }
    }

    fn nothing_vanished(&self, told: &Told, (own, kept): &(Set, Set)) -> Result<(), Wrong> {
        let mut before = own.clone();
        before.add(kept);
        let (now, now_kept) = self.model.held(&self.place);
        let gone = before.without(&now).without(&now_kept).without(&self.excused());
        match gone.len() {
            0 => Ok(()),
            _ => Err(("vanished", format!("{}; said: {}", self.model.show(&gone), told.said))),
        }
    }

    fn nothing_missing(&self, told: &Told, (own, kept): &(Set, Set)) -> Result<(), Wrong> {
        if self.repaired && !told.clean {
            return Err(("not clean after a repair", told.said.clone()));
        }
        if !told.clean {
            return Ok(());
        }
        let missing = own.clone().without(&told.printed).without(kept).without(&self.excused());
        match missing.len() {
            0 => Ok(()),
            _ => Err(("silent", format!("{}; said: {}", self.model.show(&missing), told.said))),
        }
    }

    fn no_seq_twice(&mut self, told: &Told, (own, kept): &(Set, Set)) -> Result<(), Wrong> {
        self.repaired &= told.done;
        let Some((lo, hi)) = told.written else { return Ok(()) };
        let mut held = own.clone();
        held.add(kept);
        let held = held.without(&self.excused());
        let twice = |id: &usize| self.model.seq(*id).is_some_and(|seq| lo <= seq && seq < hi);
        match held.iter().find(twice) {
            None => Ok(()),
            Some(id) => Err(("reused", format!("seq {:?} of {lo}..{hi}", self.model.seq(id)))),
        }
    }

    fn is_repaired(&mut self, told: &Told) -> Result<(), Wrong> {
        self.repaired = told.done;
        if !told.done {
            return match self.struck.len() {
                // One blow is too much for a repair.
                1 => Err(("repair refuses", told.said.clone())),
                _ => Ok(()),
            };
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

/// Leaves out damage and steps as long as it is wrong in the same way.
pub fn smaller(history: &History, case: &Case, kind: &str, folder: &Path) -> Case {
    let mut best = case.clone();
    let mut at = 0;
    while at < best.steps.len() {
        let mut fewer = best.clone();
        fewer.steps.remove(at);
        match run(history, &fewer, folder) {
            Some((other, _)) if other == kind => best = fewer,
            _ => at += 1,
        }
    }
    best
}
