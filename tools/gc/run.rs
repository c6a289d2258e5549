//! The work of dw-gc: plan, apply, report.

use anyhow::bail;
use deepwater::Platform;
use deepwater::chunk::{Shown, json_number};
use deepwater::gc::{self, Plan, Reason, Step};
use deepwater::os::file;
use deepwater::registry::feed::Moment;
use deepwater::show;
use deepwater::text::words::size;
use serde_json::json;

use super::args::Args;
use super::cron;
use crate::cli::exit::Exit;
use crate::cli::messages;
use crate::cli::out::{self, Out};
use crate::cli::progress::Progress;

/// How often to plan again after another dw-gc changed the store. More is not expected.
const ROUNDS: usize = 10;

/// Runs dw-gc.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let base = args.common.base()?;
    if args.uninstall_cron {
        cron::uninstall(&base)?;
        return Ok(Exit::Ok);
    }
    let platform = Platform::open(&base)?;
    if args.install_cron {
        cron::install(&base, args.interval.unwrap_or_default(), args.min_free)?;
        return Ok(Exit::Ok);
    }
    if args.dry_run {
        let plan = gc::plan(&platform, &args.wants(), &Moment::now())?;
        for step in plan.steps() {
            out.text(&line(step, args.json))?;
        }
        tell(&plan);
        return Ok(Exit::Ok);
    }
    collect(&args, &platform, out)?;
    Ok(Exit::Ok)
}

fn collect(args: &Args, platform: &Platform, out: &mut Out) -> anyhow::Result<()> {
    if let Some(kind) = file::network_file_system(platform.base()) {
        bail!("{}: on a network file system ({kind})", platform.base().display());
    }
    let wanted = args.json || !messages::is_quiet();
    let mut printed = Ok(());
    let (mut steps, mut bytes) = (0, 0);
    for round in 1.. {
        let plan = gc::plan(platform, &args.wants(), &Moment::now())?;
        let mut progress = Progress::new("collected", Some(bytes + plan.bytes()));
        let outcome = gc::apply(platform, &plan, &mut |step| {
            (steps, bytes) = (steps + 1, bytes + step.bytes);
            progress.at(bytes);
            // A stdout that fails must not stop collection.
            if wanted && printed.is_ok() {
                printed = progress.suspend(|| put(out, &line(step, args.json)));
            }
        });
        drop(progress);
        if outcome.conflicts > 0 && round < ROUNDS {
            continue;
        }
        tell(&plan);
        for (feed, error) in &outcome.failed {
            messages::feed_error(feed, error);
        }
        if outcome.conflicts > 0 {
            messages::partial("others collect as fast as this plans; what is left, they will do");
        }
        break;
    }
    messages::note(format!("{steps} things removed, {}", size(bytes)));
    Ok(printed?)
}

/// Prints a line at once, so that every removal is on record if something fails later.
fn put(out: &mut Out, line: &str) -> Result<(), out::Error> {
    out.text(line)?;
    out.flush()
}

fn line(step: &Step, json: bool) -> String {
    if json {
        let object = json!({
            "action": step.action.as_str(), "feed": step.feed,
            "chunk": step.chunk_id.map(json_number),
            "seq_lo": step.seqs.map(|seqs| seqs.0), "seq_hi": step.seqs.map(|seqs| seqs.1),
            "bytes": step.bytes, "reason": step.reason.as_str(),
        });
        return show::printable_json(&format!("{object}\n")).into_owned();
    }
    let chunk = step.chunk_id.map_or(String::new(), |id| format!(" chunk {}", Shown(id)));
    let seqs = step.seqs.map_or(String::new(), |(lo, hi)| format!("seq {lo}..{hi}, "));
    let why = match step.reason {
        Reason::Retention => "past its retention",
        Reason::MaxSize => "over its size",
        Reason::MinFree => "for room on the disk",
        Reason::Unfinished => "left half done",
        Reason::Leftover => "left in shared memory",
    };
    let (action, size) = (step.action.as_str(), size(step.bytes));
    format!("{action} {}{chunk}: {seqs}{size}, {why}\n", step.feed)
}

/// Reports why a plan is incomplete.
fn tell(plan: &Plan) {
    if let Some(doubt) = plan.doubts.first() {
        let others = match plan.doubts.len() - 1 {
            0 => String::new(),
            n => format!(" ({n} other feeds say so too)"),
        };
        messages::partial(format!("{doubt}{others}"));
    }
    for (feed, error) in &plan.failed {
        messages::feed_error(feed, error);
    }
    if plan.short_bytes > 0 {
        messages::partial(format!(
            "{} more cannot be freed: what is left is being written, or kept forever",
            size(plan.short_bytes)
        ));
    }
}
