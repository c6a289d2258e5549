//! The work of dw-mkfeed: create, propose, delete.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail, ensure};
use deepwater::Platform;
use deepwater::schema::FeedSpec;
use deepwater::show;
use deepwater::store::Created;

use super::args::{Args, Request};
use super::changes::changes;
use super::infer::{infer, read_sample};
use crate::cli::exit::Exit;
use crate::cli::messages;
use crate::cli::out::{self, Out};
use crate::cli::sniff;

/// Runs dw-mkfeed.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    match args.request()? {
        Request::Create { specs, given, update, dry_run } => {
            let asked = specs.into_iter().enumerate();
            let asked = asked.map(|(at, spec)| (spec, given.get(at).cloned())).collect();
            make(&args, asked, update, dry_run, out)?;
        }
        Request::Update { feed, dry_run } => {
            let platform = Platform::open(args.common.base()?)?;
            let old = platform.feed_info(&feed)?.spec;
            update_feed(&args, &platform, &old, old.clone(), dry_run, out)?;
        }
        Request::Infer { choices, policy, update, dry_run } => {
            ensure!(!out::stdin_is_missing(), "stdin is closed; --infer reads a sample there");
            let sample = read_sample(io::stdin().lock()).context("cannot read the sample")?;
            if let Some(why) = sniff::not_text(&sample) {
                bail!("the sample: {why}");
            }
            let mut proposal = infer(&sample, &choices)?;
            for note in &proposal.notes {
                messages::warn(note);
            }
            policy.apply(&mut proposal.spec.policy);
            policy.check(&proposal.spec)?;
            proposal.spec.check()?;
            make(&args, vec![(proposal.spec, None)], update, dry_run, out)?;
        }
        Request::Delete { feeds, yes } => return delete(&args, &feeds, yes),
    }
    Ok(Exit::Ok)
}

/// Creates feeds; with `update`, changes existing ones. `given` is the JSON of specs from a file.
fn make(
    args: &Args,
    asked: Vec<(FeedSpec, Option<serde_json::Value>)>,
    update: bool,
    dry_run: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    let platform = match dry_run {
        true => Platform::open(args.common.base()?).ok(),
        false => Some(Platform::create(args.common.base()?)?),
    };
    for (spec, given) in asked {
        let old = || platform.as_ref()?.feed_info(&spec.feed_name).ok();
        if let (Some(platform), Some(old)) = (&platform, update.then(old).flatten()) {
            let policy = match given {
                Some(given) => old.spec.updated_by(&given)?.policy,
                None => old.spec.policy.clone(),
            };
            update_feed(args, platform, &old.spec, FeedSpec { policy, ..spec }, dry_run, out)?;
            continue;
        }
        let Some(platform) = platform.as_ref().filter(|_| !dry_run) else {
            spec.check_new()?;
            print(&spec, out)?;
            continue;
        };
        let done = match platform.create_feed(&spec, update)? {
            Created::New => "made",
            Created::Unchanged => "unchanged",
            Created::Updated => "policy changed",
        };
        messages::note(format!("{}: {done}", spec.feed_name));
    }
    Ok(())
}

/// Applies the policy of `new` and of the options to a feed, and prints what changed.
fn update_feed(
    args: &Args,
    platform: &Platform,
    old: &FeedSpec,
    mut new: FeedSpec,
    dry_run: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    args.policy.apply(&mut new.policy);
    args.policy.check(&new)?;
    new.check()?;
    if dry_run {
        new.check_new_policy()?;
        return print(&new, out);
    }
    let done = platform.create_feed(&new, true)?;
    if done == Created::Updated && !messages::is_quiet() {
        for (name, before, after) in changes(&old.policy, &new.policy) {
            out.text(&format!("{}: {name}: {before} -> {after}\n", new.feed_name))?;
        }
    }
    Ok(())
}

fn print(spec: &FeedSpec, out: &mut Out) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&spec.to_json())?;
    Ok(out.put(show::printable_json(&format!("{text}\n")).as_bytes())?)
}

fn delete(args: &Args, feeds: &[String], yes: bool) -> anyhow::Result<Exit> {
    let platform = Platform::open(args.common.base()?)?;
    let there = platform.list_feeds()?;
    for feed in feeds {
        if !there.contains(feed) {
            let base = platform.base().to_owned();
            return Err(deepwater::Error::NoFeed { base, feed: feed.clone() }.into());
        }
    }
    if !yes && !confirmed(&platform, feeds)? {
        return Ok(Exit::Partial);
    }
    for feed in feeds {
        platform.delete_feed(feed)?;
        messages::note(format!("{feed}: deleted"));
    }
    Ok(Exit::Ok)
}

/// Asks on the terminal. Any answer but `y` or `yes` means no.
fn confirmed(platform: &Platform, feeds: &[String]) -> anyhow::Result<bool> {
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    ensure!(terminal, "deleting {} needs --yes where nobody can be asked", feeds.join(", "));
    for feed in feeds {
        let records = platform.create_reader(feed).and_then(|reader| reader.snapshot());
        let records = records.map_or("an unknown number of".into(), |s| s.records().to_string());
        eprint!("dw-mkfeed: delete {feed} and its {records} records? [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            messages::fatal(format!("{feed}: kept"));
            return Ok(false);
        }
    }
    Ok(true)
}
