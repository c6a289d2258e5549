//! The work of dw-repair: plan, report, apply.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use deepwater::Platform;
use deepwater::chunk::{Shown, json_number};
use deepwater::os::file;
use deepwater::os::lock::Lock;
use deepwater::repair::{self, Action, Finding, Options, Plan, store};
use deepwater::show;
use deepwater::time::TimeUnit;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::args::Args;
use crate::cli::exit::{Exit, describe};
use crate::cli::messages;
use crate::cli::out::Out;
use crate::cli::progress::Progress;
use crate::cli::times::show_time;

/// Runs dw-repair.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let base = args.common.base()?;
    let mut worst = Exit::Ok;
    if args.rebuild_registry {
        worst = rebuild_registry(&args, &base, out)?;
        let nothing_more = !args.all && args.feeds.names().is_empty();
        if nothing_more || (args.dry_run && worst != Exit::Ok) {
            return Ok(worst);
        }
    }
    let platform = Platform::open(&base)?;
    let all = platform.list_feeds()?;
    let asked = args.feeds.names();
    let there: HashSet<&str> = all.iter().map(String::as_str).collect();
    for name in &asked {
        if !there.contains(name) {
            // Reject an unknown feed before anything is changed.
            platform.feed_info(name)?;
        }
    }
    readable([base.join("registry.bin"), base.join("manifest.json")])?;
    if let Some(finding) = store::check_locks(&base) {
        say(&args, None, &finding, out)?;
        if args.dry_run {
            worst = Exit::Partial;
        } else {
            store::mend_locks(&base)?;
        }
    }
    let names = if asked.is_empty() { all.iter().map(String::as_str).collect() } else { asked };
    for name in names {
        match repair_feed(&args, &platform, name, out) {
            Ok(exit) => worst = worse(worst, exit),
            // Repair the other feeds as well, unless the report cannot be printed.
            Err(error) if !out.is_broken() => {
                messages::fatal(format!("{name}: {}", describe(&error)));
                worst = Exit::Failed;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(worst)
}

/// Checks that this user may read the files. An unreadable file is not known to be damaged.
fn readable(files: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<()> {
    for path in files {
        // Open regular files only: opening a FIFO would block.
        let opened = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => fs::File::open(&path).map(drop),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        let Err(error) = opened.map_err(|e| deepwater::Error::io("cannot open", &path, e)) else {
            continue;
        };
        if error.is_limit() {
            return Err(error.into());
        }
        if error.is_denied() {
            let path = path.display();
            let why = format!("cannot open {path}; run dw-repair as the user who owns the store");
            return Err(anyhow::Error::from(error).context(why));
        }
    }
    Ok(())
}

/// Checks all files of a feed as [`readable`] does.
fn readable_feed(platform: &Platform, name: &str) -> anyhow::Result<()> {
    let folder = platform.base().join("feeds").join(name);
    match fs::read_dir(&folder) {
        Ok(files) => readable(files.flatten().map(|item| item.path())),
        Err(error) => match deepwater::Error::io("cannot list", folder, error) {
            error if error.says_nothing() => Err(error.into()),
            _ => Ok(()),
        },
    }
}

fn worse(a: Exit, b: Exit) -> Exit {
    if a as u8 > b as u8 { a } else { b }
}

fn rebuild_registry(args: &Args, base: &Path, out: &mut Out) -> anyhow::Result<Exit> {
    let mut files = vec![base.join("registry.bin"), base.join("manifest.json")];
    let feeds = base.join("feeds");
    for name in deepwater::error::sound(file::names(&feeds))?.unwrap_or_default() {
        files.push(feeds.join(name).join("feed.json"));
    }
    readable(files)?;
    let mut plan = store::plan(base)?;
    for finding in &plan.findings {
        say(args, None, finding, out)?;
    }
    if plan.is_sound() {
        messages::note(format!("the manifest and the registry are sound: {} feeds", plan.feeds));
        return Ok(Exit::Ok);
    }
    if args.dry_run {
        return Ok(Exit::Partial);
    }
    if let Some(kept) = store::apply(&mut plan)? {
        messages::note(format!("the originals are in {}", kept.display()));
    }
    let saved = |f: &Finding| f.action == Action::Rebuild;
    Ok(if plan.findings.iter().all(saved) { Exit::Ok } else { Exit::Partial })
}

fn repair_feed(
    args: &Args,
    platform: &Platform,
    name: &str,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    readable_feed(platform, name)?;
    if args.dry_run {
        let plan = look(args, platform, name)?;
        tell(args, &plan, out)?;
        return Ok(if plan.is_sound() { Exit::Ok } else { Exit::Partial });
    }
    let lock = repair::lock(platform, name)?;
    let options = Options { force_lost: args.force_lost, written: false };
    // Ignore the error: the plan finds out why the feed cannot be adopted, and reports it.
    match repair::adopt(platform, name, options, &lock) {
        Err(error) if error.is_limit() || error.is_denied() => return Err(error.into()),
        _ => {}
    }
    let plan = plan_with_progress(platform, name, options)?;
    tell(args, &plan, out)?;
    if plan.is_empty() {
        return Ok(Exit::Ok);
    }
    apply(args, &plan, &lock, out)
}

/// Plans without the lock. If a writer opens or closes the feed meanwhile, plans again.
fn look(args: &Args, platform: &Platform, name: &str) -> anyhow::Result<Plan> {
    loop {
        let written = repair::is_written(platform, name)?;
        let options = Options { force_lost: args.force_lost, written };
        let plan = plan_with_progress(platform, name, options)?;
        if plan.is_sound() || repair::is_written(platform, name)? == written {
            return Ok(plan);
        }
    }
}

fn plan_with_progress(platform: &Platform, name: &str, options: Options) -> anyhow::Result<Plan> {
    let folder = platform.base().join("feeds").join(name);
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let data = files.filter(|item| item.path().extension().is_some_and(|e| e == "data"));
    let total = data.filter_map(|item| item.metadata().ok()).map(|meta| meta.len()).sum();
    let mut progress = Progress::new("checking", Some(total));
    let mut done = 0;
    let plan = repair::plan(platform, name, options, &mut |bytes| {
        done += bytes;
        progress.at(done);
    })?;
    Ok(plan)
}

fn apply(args: &Args, plan: &Plan, lock: &Lock, out: &mut Out) -> anyhow::Result<Exit> {
    // Flush, so that the findings are printed even if what follows fails.
    out.flush()?;
    let done = repair::apply(plan, lock)?;
    let gone = plan.records_gone();
    if !args.json && !plan.is_sound() {
        let name = &plan.feed.name;
        let kept = done
            .quarantine
            .map_or(String::new(), |folder| format!("; the originals are in {}", folder.display()));
        let line = format!("{name}: repaired: {gone} records gone, {} there{kept}\n", plan.records);
        out.text(&line)?;
    }
    Ok(if gone > 0 { Exit::Partial } else { Exit::Ok })
}

fn tell(args: &Args, plan: &Plan, out: &mut Out) -> anyhow::Result<()> {
    for finding in &plan.findings {
        say(args, Some(plan), finding, out)?;
    }
    if plan.is_sound() {
        let (chunks, records) = (plan.chunks, plan.records);
        let name = &plan.feed.name;
        messages::note(format!("{name}: sound: {chunks} chunks, {records} records"));
    }
    Ok(())
}

fn say(args: &Args, plan: Option<&Plan>, finding: &Finding, out: &mut Out) -> anyhow::Result<()> {
    if args.json {
        return Ok(out.json(&object(plan, finding))?);
    }
    let sentence = sentence(args, plan, finding);
    Ok(out.text(&format!("{}\n", show::shortened(&sentence, show::MESSAGE_BYTES)))?)
}

fn object(plan: Option<&Plan>, finding: &Finding) -> Value {
    json!({
        "feed": plan.map(|plan| plan.feed.name.as_str()),
        "chunk": finding.chunk.map(json_number),
        "kind": finding.kind.as_str(),
        "seq_lo": finding.seqs.map(|seqs| seqs.0),
        "seq_hi": finding.seqs.map(|seqs| seqs.1),
        "since": finding.times.map(|times| times.0),
        "until": finding.times.map(|times| times.1.saturating_add(1)),
        "action": finding.action.as_str(),
    })
}

fn sentence(args: &Args, plan: Option<&Plan>, finding: &Finding) -> String {
    let mut line = plan.map_or(String::new(), |plan| format!("{}: ", plan.feed.name));
    if let Some(chunk) = finding.chunk {
        line += &format!("chunk {}: ", Shown(chunk));
    }
    line += &finding.what;
    if let Some((lo, hi)) = finding.seqs {
        line += &format!(": seq {lo}..{hi}");
    }
    if let Some((min, max)) = finding.times {
        let unit = plan.map_or(TimeUnit::Micros, |plan| plan.feed.layout.unit());
        let show = |time| show_time(time, unit, &TimeZone::UTC);
        line += &format!(", times {} to {}", show(min), show(max));
    }
    let would = if args.dry_run { "would be " } else { "" };
    line + &match finding.action {
        Action::Remove => format!(": {would}taken out"),
        Action::Rebuild => format!(": {would}made again"),
        Action::Move => format!(": {would}moved to quarantine"),
        Action::Seal => format!(": {would}sealed"),
        Action::Leave => ": left as it is".to_owned(),
    }
}
