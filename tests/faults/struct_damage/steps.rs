//! What users do to a store: read, write, collect, repair; by the library as the tools do, or by
//! the tools.

use deepwater::Platform;
use deepwater::gc;
use deepwater::reader::{Direction, Event, Reader, Selection, Why};
use deepwater::registry::feed::Moment;
use deepwater::repair::{self, Finding, Options};
use deepwater::schema::Sync;
use deepwater::writer::{SessionEnd, WriterOptions};

use super::image::{FEED, Place};
use super::model::{Model, Set};

/// One thing done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All records, oldest first.
    Read,
    /// All records, newest first.
    ReadBack,
    /// All records, by a follower.
    Follow,
    /// A session of so many records.
    Write(u64),
    /// dw-gc.
    Collect,
    /// dw-repair --dry-run.
    Look,
    /// dw-repair.
    Repair,
    /// Another boot: what was in shared memory is gone.
    Reboot,
    /// The damage of that number is done now.
    Damage(usize),
}

impl Step {
    /// Whether it is a reader.
    pub fn reads(self) -> bool {
        matches!(self, Step::Read | Step::ReadBack | Step::Follow)
    }
}

/// What came of a step.
#[derive(Default)]
pub struct Told {
    /// It did what it was asked to: exit 0, or 1 by a repair that took records out.
    pub done: bool,
    /// Nothing was said: exit 0.
    pub clean: bool,
    /// What was said, for people.
    pub said: String,
    /// Records that were printed.
    pub printed: Set,
    /// Something that must never be, whatever was said.
    pub wrong: Option<String>,
    /// Chunks that dw-gc's plan took, by id and seqs.
    pub collected: Vec<(u64, (u64, u64))>,
    /// The seqs of records written.
    pub written: Option<(u64, u64)>,
}

impl Told {
    fn failed(error: impl std::fmt::Display) -> Told {
        Told { said: error.to_string(), ..Told::default() }
    }
}

/// Does one step in this process.
pub fn run(step: Step, place: &Place, model: &mut Model) -> Told {
    let done = match step {
        Step::Read | Step::ReadBack => scan(place, model, step == Step::ReadBack),
        Step::Follow => follow(place, model),
        Step::Write(count) => write(place, model, count),
        Step::Collect => collect(place),
        Step::Look => mend(place, true),
        Step::Repair => mend(place, false),
        Step::Reboot | Step::Damage(_) => panic!("no tool"),
    };
    done.unwrap_or_else(Told::failed)
}

/// Notes a run of records as printed.
fn print(told: &mut Told, model: &Model, first_seq: u64, records: &[u8], size: usize) {
    if size != model.size {
        told.wrong = Some(format!("invented: records of {size} bytes"));
        return;
    }
    for (seq, record) in (first_seq..).zip(records.chunks_exact(size)) {
        match model.find(record) {
            Some(id) if model.seq(id).is_some_and(|own| own != seq) => {
                let own = model.seq(id).unwrap();
                told.wrong = Some(format!("invented: seq {own} is shown as {seq}"));
            }
            Some(id) if !told.printed.insert(id) => {
                told.wrong = Some(format!("twice: seq {seq}"));
            }
            Some(_) => {}
            None => {
                let head = &record[..24.min(size)];
                told.wrong = Some(format!("invented: seq {seq} was never written so: {head:?}"));
            }
        }
    }
}

fn open(place: &Place) -> deepwater::Result<Reader> {
    Platform::open(&place.base)?.create_reader(FEED)
}

fn scan(place: &Place, model: &Model, back: bool) -> deepwater::Result<Told> {
    let reader = open(place)?;
    let snapshot = reader.snapshot()?;
    let direction = if back { Direction::Reverse } else { Direction::Forward };
    let mut scan = reader.scan(&snapshot, Selection::ALL, direction);
    let size = reader.layout().record_size();
    let mut told = Told { done: true, ..Told::default() };
    while let Some(run) = scan.next_run()? {
        print(&mut told, model, run.first_seq, run.records, size);
    }
    let (damage, lost) = (scan.take_damage(), scan.take_lost());
    let cut_off = reader.what_is_cut_off(&snapshot)?;
    let unproven = reader.what_is_unproven(&snapshot)?;
    told.clean = damage.is_empty()
        && unproven.as_ref().is_none_or(|(_, more)| !more)
        && snapshot.doubts.is_empty()
        && cut_off.is_none()
        && lost.iter().all(|lost| lost.why == Why::Collected && !lost.gap);
    let damage: Vec<_> = damage.iter().map(|d| (d.seqs, &d.what)).collect();
    told.said = format!("{damage:?} {lost:?} {:?} {cut_off:?} {unproven:?}", snapshot.doubts);
    Ok(told)
}

fn follow(place: &Place, model: &Model) -> deepwater::Result<Told> {
    let reader = open(place)?;
    let snapshot = reader.snapshot()?;
    let size = reader.layout().record_size();
    let cut_off = reader.what_is_cut_off(&snapshot)?;
    let mut told = Told { done: true, clean: true, ..Told::default() };
    if cut_off.is_some() || !snapshot.doubts.is_empty() {
        told.clean = false;
        told.said = format!("{:?} {cut_off:?}", snapshot.doubts);
    }
    let first = snapshot.first_seq().min(snapshot.end_seq);
    let mut follower = reader.follow(Selection { seqs: (first, u64::MAX), ..Selection::ALL })?;
    loop {
        match follower.next_event()? {
            Event::Records(run) => print(&mut told, model, run.first_seq, run.records, size),
            Event::Lost(lost) => {
                let repaired = lost.why == Why::Removed;
                told.clean &= repaired || (lost.why == Why::Collected && !lost.gap);
                told.said += &format!("{lost:?} ");
            }
            Event::Damage(damage) => {
                told.clean = false;
                told.said += &format!("{:?} {} ", damage.seqs, damage.what);
            }
            Event::CaughtUp | Event::End => return Ok(told),
            Event::Deleted | Event::Gone { .. } => {
                told.clean = false;
                told.said += "deleted";
                return Ok(told);
            }
        }
        if told.printed.len() > model.len() || told.said.len() > 1 << 20 {
            told.wrong = Some("twice: the follower has no end".into());
            return Ok(told);
        }
    }
}

fn write(place: &Place, model: &mut Model, count: u64) -> deepwater::Result<Told> {
    let platform = Platform::open(&place.base)?;
    let options = WriterOptions { sync: Some(Sync::None), ..WriterOptions::default() };
    let mut writer = platform.create_writer_with(FEED, options)?;
    let first = writer.next_seq();
    let from = model.len();
    let bytes = model.write(Some(first), count);
    let mut told = Told::default();
    match writer.append_batch(&bytes) {
        Ok(done) if done.first_seq == first && done.count == count => {
            told.written = Some((first, first + count));
        }
        Ok(done) => {
            model.learn(from, done.first_seq);
            told.wrong = Some(format!("reused: {done:?}, and seq {first} was promised"));
        }
        Err(error) => return Err(error),
    }
    writer.close(SessionEnd::Ended)?;
    (told.done, told.clean) = (true, true);
    Ok(told)
}

fn collect(place: &Place) -> deepwater::Result<Told> {
    let platform = Platform::open(&place.base)?;
    let mut told = Told { done: true, clean: true, ..Told::default() };
    for _ in 0..5 {
        let plan = gc::plan(&platform, &gc::Wants::default(), &Moment::now())?;
        let outcome = gc::apply(&platform, &plan, &mut |step| {
            if let (gc::Action::Collect, Some(chunk), Some(seqs)) =
                (step.action, step.chunk_id, step.seqs)
            {
                told.collected.push((chunk, seqs));
            }
            told.said += &format!("{:?} {:?} {:?}; ", step.action, step.chunk_id, step.seqs);
        });
        let quiet = plan.doubts.is_empty() && plan.failed.is_empty() && outcome.failed.is_empty();
        told.clean &= quiet;
        if !quiet {
            told.said += &format!("{:?} {:?} {:?}", plan.doubts, plan.failed, outcome.failed);
        }
        if outcome.conflicts == 0 {
            return Ok(told);
        }
    }
    told.clean = false;
    told.said += "conflicts";
    Ok(told)
}

/// As `dw-repair --rebuild-registry --all`.
fn mend(place: &Place, dry_run: bool) -> deepwater::Result<Told> {
    let mut plan = repair::store::plan(&place.base)?;
    let mut found = plan.findings.clone();
    if !dry_run && !plan.is_sound() {
        repair::store::apply(&mut plan)?;
    }
    if !dry_run || plan.is_sound() {
        let platform = Platform::open(&place.base)?;
        if let Some(finding) = repair::store::check_locks(&place.base) {
            found.push(finding);
            if !dry_run {
                repair::store::mend_locks(&place.base)?;
            }
        }
        for name in platform.list_feeds()? {
            mend_feed(&platform, &name, dry_run, &mut found)?;
        }
    }
    let clean = !found.iter().any(Finding::is_damage);
    let said: Vec<String> = found
        .iter()
        .map(|f| format!("{:?} {:?} {:?} {}", f.kind, f.action, f.seqs, f.what))
        .collect();
    Ok(Told { done: true, clean, said: said.join("; "), ..Told::default() })
}

fn mend_feed(
    platform: &Platform,
    name: &str,
    dry_run: bool,
    found: &mut Vec<Finding>,
) -> deepwater::Result<()> {
    let options = Options::default();
    if dry_run {
        let plan = repair::plan(platform, name, options, &mut |_| {})?;
        found.extend(plan.findings.iter().cloned());
        return Ok(());
    }
    let lock = repair::lock(platform, name)?;
    let _ = repair::adopt(platform, name, options, &lock);
    let plan = repair::plan(platform, name, options, &mut |_| {})?;
    found.extend(plan.findings.iter().cloned());
    if !plan.is_empty() {
        repair::apply(&plan, &lock)?;
    }
    Ok(())
}
