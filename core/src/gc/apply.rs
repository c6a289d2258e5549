//! Executes a plan: swap places, sync the registry, unlink files.

use std::fmt::Display;

use crate::chunk::{ChunkPaths, Shown};
use crate::error::{Error, Result};
use crate::gc::{Action, FeedPlan, Plan, Step, Target, feed, segments};
use crate::os::{faults, file};
use crate::registry::feed::{Entry, FeedRegistry, Place};
use crate::registry::info::FeedInfo;
use crate::store::Platform;

/// The result of executing a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Number of steps that another process was ahead of. If there are any, plan again.
    pub conflicts: u64,
    /// The errors, with the name of the feed.
    pub failed: Vec<(String, Error)>,
}

/// Executes a plan and calls `tell` for each step done. Steps that another process was ahead of are
/// only counted. A failure in one feed does not stop the others.
pub fn apply(platform: &Platform, plan: &Plan, tell: &mut dyn FnMut(&Step)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut done = |step: &Step| {
        log_step(platform, step);
        tell(step);
    };
    // Do these first. Deleting a feed also removes leftovers, but without reporting them.
    for step in &plan.others {
        let removed = match &step.target {
            Target::Path(path) => platform.remove_leftover(path),
            Target::Segment(path) => segments::remove(platform, path),
            _ => continue,
        };
        match removed {
            Ok(true) => done(step),
            // It is no longer a leftover: another process has dealt with it.
            Ok(false) => {}
            Err(error) => outcome.failed.push((step.feed.clone(), error)),
        }
    }
    for part in &plan.feeds {
        match apply_to_feed(platform, plan, part, &mut done) {
            Ok(conflicts) => outcome.conflicts += conflicts,
            Err(error) => outcome.failed.push((part.name.clone(), error)),
        }
    }
    outcome
}

fn log_step(platform: &Platform, step: &Step) {
    let (action, reason) = (step.action.as_str(), step.reason.as_str());
    let mut fields: Vec<(&str, &dyn Display)> = vec![("action", &action), ("feed", &step.feed)];
    let chunk = step.chunk_id.map(Shown);
    if let Some(chunk) = &chunk {
        fields.push(("chunk", chunk));
    }
    let seqs = step.seqs.map(|(lo, hi)| format!("{lo}..{hi}"));
    if let Some(seqs) = &seqs {
        fields.push(("seq", seqs));
    }
    fields.extend([("bytes", &step.bytes as &dyn Display), ("reason", &reason)]);
    platform.log().event("gc", &fields);
}

/// Executes one feed's part. Returns how many of its steps another process was ahead of.
fn apply_to_feed(
    platform: &Platform,
    plan: &Plan,
    part: &FeedPlan,
    done: &mut dyn FnMut(&Step),
) -> Result<u64> {
    if let Some(step) = part.steps.iter().find(|step| step.action == Action::Delete) {
        match platform.delete_feed(&part.name) {
            // Another process has deleted it.
            Err(Error::NoFeed { .. }) => {}
            deleted => deleted.map(|()| done(step))?,
        }
        return Ok(0);
    }
    // Files are removed by name. The lock keeps anyone from deleting the feed now and making
    // another with the same name.
    let _lock = platform.lock_registry()?;
    let info = match platform.feed_info(&part.name) {
        Ok(found) if found.id == part.id => found,
        Ok(_) | Err(Error::NoFeed { .. }) => return Ok(part.steps.len() as u64),
        Err(error) => return Err(error),
    };
    let registry = FeedRegistry::open(&info.registry_path(), &info.id, true)?;
    if let Some(doubt) = plan.doubts.iter().find(|doubt| doubt.feed == info.name) {
        registry.set_clock_jump(&doubt.since);
        platform.log().event("gc-refused", &[("feed", &info.name), ("why", doubt)]);
    }
    if !plan.doubts.is_empty() {
        return Ok(0);
    }
    let conflicts = remove_chunks(&info, part, &registry, done)?;
    registry.set_last_gc(&plan.now);
    Ok(conflicts)
}

fn remove_chunks(
    info: &FeedInfo,
    part: &FeedPlan,
    registry: &FeedRegistry,
    done: &mut dyn FnMut(&Step),
) -> Result<u64> {
    let folder = &info.folder;
    faults::step("gc.planned");
    let (mut ours, mut swapped) = (Vec::new(), false);
    for step in &part.steps {
        let Target::Chunk { position, chunk_id } = step.target else { continue };
        let won = match position {
            None => true,
            Some(at) => {
                // A repair may have replaced the table since the plan was made.
                let same = matches!(registry.entry(at),
                    Ok(Entry::Chunk(chunk)) if chunk.chunk_id == chunk_id);
                let won = same && registry.set_place(at, Place::OnDisk, Place::Expired).is_ok();
                swapped |= won;
                won
            }
        };
        if won {
            ours.push((step, ChunkPaths::new(folder, chunk_id)));
        }
    }
    faults::step("gc.swapped");
    if swapped {
        // Sync before the first file is removed: the files of an on-disk entry must exist.
        registry.sync()?;
    }
    faults::step("gc.synced");
    for (step, paths) in &ours {
        file::remove_file(&paths.data)?;
        faults::step("gc.unlinked");
        file::remove_file(&paths.index)?;
        done(step);
    }
    faults::step("gc.removed");
    if !ours.is_empty() {
        // Sync before the table drops the entries: a file that reappeared after a power loss would
        // belong to no entry.
        file::sync_folder(folder)?;
        let (from, to) = feed::collected_entries(info, registry)?;
        // If this fails, another dw-gc has moved it, and equally far.
        if to > from && registry.move_first_entry(from, to).is_ok() {
            registry.sync()?;
        }
    }
    Ok((part.steps.len() - ours.len()) as u64)
}
