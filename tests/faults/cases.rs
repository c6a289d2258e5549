//! Runs generated cases, each from a number and a seed, on two threads, and reports what was wrong
//! by its kind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::kit;
use crate::random::{Random, mix};
use crate::struct_damage::history::{self, History};

const THREADS: usize = 2;
/// No case takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a case found wrong: its kind, and the whole of it in words, which takes time to find out.
pub type Wrong<'a> = (&'static str, Box<dyn FnOnce() -> String + 'a>);

/// One generator of cases. The names are those of environment variables.
pub struct Generator {
    pub name: &'static str,
    /// How many cases to run. Without it and `only`, none.
    pub count: &'static str,
    pub default_count: u64,
    pub seed: &'static str,
    pub default_seed: u64,
    /// The one case to run.
    pub only: &'static str,
    /// Go on after something was wrong.
    pub all: &'static str,
    /// How many cases begin with the same store.
    pub per_store: u64,
}

/// One case, and the store it begins with.
pub struct Case<'a> {
    pub history: &'a History,
    pub random: Random,
    /// A folder of its own, not made yet.
    pub place: &'a Path,
}

/// The first case of each kind of wrong, in words, and how often the kind came.
type Found = BTreeMap<&'static str, (String, u64)>;

struct Run<'g, F> {
    generator: &'g Generator,
    case: F,
    seed: u64,
    only: Option<u64>,
    count: u64,
    all: bool,
    next: AtomicU64,
    done: AtomicU64,
    found: Mutex<Found>,
    /// The case that each thread is at, and since when.
    now: Mutex<[Option<(u64, Instant)>; THREADS]>,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// Runs the cases that the environment asks for, and panics if one found something wrong.
pub fn run<F>(generator: &Generator, case: F)
where
    F: for<'a> Fn(Case<'a>) -> Option<Wrong<'a>> + Sync,
{
    let (name, only, asked) = (generator.name, number(generator.only), number(generator.count));
    if only.is_none() && asked.is_none() {
        // A pass would look as if the store survived all cases.
        kit::not_run(&format!("{name} (it still finds faults; set {})", generator.count));
        return;
    }
    let count = asked.unwrap_or(generator.default_count);
    let run = Run {
        generator,
        case,
        seed: number(generator.seed).unwrap_or(generator.default_seed),
        only,
        count: only.map_or(count, |only| count.max(only + 1)),
        all: std::env::var_os(generator.all).is_some(),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        found: Mutex::default(),
        now: Mutex::default(),
    };
    let folder =
        tempfile::Builder::new().prefix("deepwater-cases-").tempdir_in("/dev/shm").unwrap();
    let began = Instant::now();
    run.work_on_threads(folder.path());
    let done = run.done.into_inner();
    println!(
        "{done} cases of {name} from {}={} in {:?}",
        generator.seed,
        run.seed,
        began.elapsed()
    );
    let found = run.found.into_inner().unwrap();
    let said: Vec<String> = found.values().map(|(text, n)| format!("{n} times {text}")).collect();
    assert!(said.is_empty(), "{} kinds of wrong:\n{}", said.len(), said.join("\n"));
}

impl<F> Run<'_, F>
where
    F: for<'a> Fn(Case<'a>) -> Option<Wrong<'a>> + Sync,
{
    fn work_on_threads(&self, folder: &Path) {
        let (working, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (working, folder) = (working.clone(), folder.join(format!("{thread}")));
                scope.spawn(move || {
                    let worked = catch_unwind(AssertUnwindSafe(|| self.work(thread, &folder)));
                    drop(working);
                    worked.unwrap_or_else(|panic| resume_unwind(panic));
                });
            }
            drop(working);
            // A case that hangs would hang the test.
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let now = self.now.lock().unwrap();
                let hangs = now.iter().flatten().find(|(_, began)| began.elapsed() > PATIENCE);
                if let Some((number, _)) = hangs {
                    eprintln!("{}: case {number} hangs", self.generator.name);
                    std::process::abort();
                }
            }
        });
    }

    fn work(&self, thread: usize, folder: &Path) {
        let per_store = self.generator.per_store;
        loop {
            let group = self.next.fetch_add(1, Ordering::Relaxed);
            let first = group * per_store;
            let stop = !self.all && !self.found.lock().unwrap().is_empty();
            if first >= self.count || stop {
                self.now.lock().unwrap()[thread] = None;
                return;
            }
            if self.only.is_some_and(|only| only / per_store != group) {
                continue;
            }
            std::fs::create_dir_all(folder).unwrap();
            let history = history::make(mix(self.seed ^ mix(group)), &folder.join("made"));
            for number in first..(first + per_store).min(self.count) {
                if self.only.is_none_or(|only| only == number) {
                    self.now.lock().unwrap()[thread] = Some((number, Instant::now()));
                    self.run_case(number, &history, folder);
                }
            }
            let _ = std::fs::remove_dir_all(folder);
        }
    }

    fn run_case(&self, number: u64, history: &History, folder: &Path) {
        let random = Random::new(mix(self.seed ^ mix(number)) ^ 1);
        let place = folder.join(format!("case-{number}"));
        let wrong = (self.case)(Case { history, random, place: &place });
        self.done.fetch_add(1, Ordering::Relaxed);
        let Some((kind, how)) = wrong else { return };
        let mut found = self.found.lock().unwrap();
        if let Some((_, times)) = found.get_mut(kind) {
            *times += 1;
            return;
        }
        let Generator { seed, only, .. } = self.generator;
        let text = format!(
            "{kind}: {seed}={} {only}={number}: {}\n  store: {}",
            self.seed,
            how(),
            history.story
        );
        eprintln!("{text}");
        found.insert(kind, (text, 1));
    }
}
