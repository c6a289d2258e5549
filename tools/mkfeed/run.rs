//! dw-mkfeed's work: makes, proposes, deletes.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail, ensure};
use deepwater::Platform;
use deepwater::schema::FeedSpec;
use deepwater::store::Created;

use super::args::{Args, Request};
use super::infer::{infer, read_sample};
use crate::cli::exit::Exit;
use crate::cli::messages;
use crate::cli::out::{self, Out};
use crate::cli::sniff;

/// Runs dw-mkfeed.
///
/// # Errors
/// What makes it fail, for [`crate::cli::exit::main_with`].
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    match args.request()? {
        Request::Create { specs, update, dry_run } => {
            make(&args, &specs, update, dry_run, out)?;
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
            make(&args, &[proposal.spec], update, dry_run, out)?;
        }
        Request::Delete { feeds, yes } => return delete(&args, &feeds, yes),
    }
    Ok(Exit::Ok)
}

fn make(
    args: &Args,
    specs: &[FeedSpec],
    update: bool,
    dry_run: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    if dry_run {
        for spec in specs {
            let text = serde_json::to_string_pretty(&spec.to_json())?;
            out.put(format!("{text}\n").as_bytes())?;
        }
        return Ok(());
    }
    let platform = Platform::create(args.common.base()?)?;
    for spec in specs {
        let done = match platform.create_feed(spec, update)? {
            Created::New => "made",
            Created::Unchanged => "unchanged",
            Created::Updated => "policy changed",
        };
        messages::note(format!("{}: {done}", spec.feed_name));
    }
    Ok(())
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

/// Asks on the terminal; anything but `y` or `yes` is a no.
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
