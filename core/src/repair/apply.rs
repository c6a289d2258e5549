//! What a plan says, done: new files whole and synced before anything names them, the originals
//! kept, the table changed by a rename (FORMAT.md, Repair).

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::chunk::Shown;
use crate::chunk::proof::Standing;
use crate::error::{Result, sound};
use crate::os::faults::step;
use crate::os::file;
use crate::os::lock::Lock;
use crate::registry::feed::{Entry, FeedRegistry, Place};
use crate::registry::info::{SPEC_COPY, SPEC_FILE};
use crate::registry::live::LivePage;
use crate::registry::quarantine::{Quarantine, copy};
use crate::registry::salvage;
use crate::registry::view::LiveView;
use crate::repair::shelf::UNDONE;
use crate::repair::{Content, NewFile, NewTable, Plan};
use crate::writer::recover;

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Where the originals are.
    pub quarantine: Option<PathBuf>,
}

/// Does what a plan says. The caller has held the feed's lock since before the plan was made.
///
/// # Errors
/// [`Error::Io`]; what was done until then stands, and a repair that is run again ends it.
pub fn apply(plan: &Plan, _lock: &Lock) -> Result<Applied> {
    let mut keeper =
        Quarantine::new(plan.feed.base(), &plan.feed.name, plan.feed.spec.policy.file_mode);
    for path in &plan.undone {
        file::remove_file(path)?;
    }
    if plan.write_spec {
        keeper.keep_each([SPEC_FILE, SPEC_COPY].map(|name| plan.feed.folder.join(name)))?;
        plan.feed.save(&plan.feed.folder)?;
        step("repair.spec");
    }
    put_files(plan, &mut keeper)?;
    if let Some(table) = &plan.table {
        put_table(plan, table, &mut keeper)?;
    }
    step("repair.table");
    for path in &plan.dropped {
        keeper.keep(path)?;
        file::remove_file(path)?;
    }
    if !plan.dropped.is_empty() {
        file::sync_folder(&plan.feed.folder)?;
    }
    step("repair.dropped");
    if plan.unfinished {
        let registry = FeedRegistry::open(&plan.feed.registry_path(), &plan.feed.id, true)?;
        let view = LiveView::of(&plan.feed, &registry)?;
        let mut standing = Standing::of(&plan.feed, &registry, view.page.as_deref())?;
        if plan.refuted && standing.believed {
            // The chunks end now where the files did.
            let checkpoint = registry.checkpoint();
            standing =
                standing.without_page(&plan.feed, checkpoint.as_ref(), "they were not there");
        }
        recover::settle_as(&plan.feed, &registry, &view, &standing, false)?;
        step("repair.settled");
    }
    if plan.new_page {
        put_page(plan, &mut keeper)?;
    }
    log(plan);
    Ok(Applied { quarantine: keeper.folder })
}

fn log(plan: &Plan) {
    for finding in &plan.findings {
        let (kind, action) = (finding.kind.as_str(), finding.action.as_str());
        let chunk = finding.chunk.map(Shown);
        let seqs = finding.seqs.map(|(lo, hi)| format!("{lo}..{hi}"));
        let mut fields: Vec<(&str, &dyn Display)> = vec![("feed", &plan.feed.name)];
        fields.extend(chunk.iter().map(|chunk| ("chunk", chunk as &dyn Display)));
        fields.push(("kind", &kind));
        fields.extend(seqs.iter().map(|seqs| ("seq", seqs as &dyn Display)));
        fields.push(("action", &action));
        plan.feed.log().event("repair", &fields);
    }
}

/// Writes new chunk files under other names, keeps what they replace, and renames them.
fn put_files(plan: &Plan, keeper: &mut Quarantine) -> Result<()> {
    if plan.files.is_empty() {
        return Ok(());
    }
    for new in &plan.files {
        write_file(new, plan.feed.spec.policy.file_mode)?;
        step("repair.file-written");
    }
    file::sync_folder(&plan.feed.folder)?;
    for new in &plan.files {
        keeper.keep(&new.path)?;
        file::rename("cannot replace", &undone_name(&new.path), &new.path)?;
        step("repair.file-renamed");
    }
    file::sync_folder(&plan.feed.folder)
}

fn undone_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{UNDONE}{name}"))
}

fn write_file(new: &NewFile, mode: u32) -> Result<()> {
    let path = undone_name(&new.path);
    let out = file::create_new(&path, mode)?;
    match &new.content {
        Content::Bytes(bytes) => file::write_at(&out, &path, 0, bytes)?,
        Content::Part { source, from, len } => copy(&out, &path, (source, *from, *len))?,
    }
    file::sync(&out, &path)
}

fn put_table(plan: &Plan, table: &NewTable, keeper: &mut Quarantine) -> Result<()> {
    let feed = &plan.feed;
    // Against dw-gc, which changes the table in place: it goes by the one that is there then.
    let _lock = Lock::wait(&feed.base().join("locks/registry"))?;
    let path = feed.registry_path();
    let undone = undone_name(&path);
    let of = (&feed.id, &feed.geometry());
    let mode = feed.spec.policy.file_mode;
    salvage::write(&undone, of, (&plan.salvage, feed.created_us), &table.rows, table.lease, mode)?;
    step("repair.table-written");
    // A copy: the mark that is set in the old one is not part of what was found.
    let old = sound(FeedRegistry::open(&path, &feed.id, true))?;
    keeper.keep_copy(&path)?;
    file::rename("cannot replace", &undone, &path)?;
    file::sync_folder(&feed.folder)?;
    step("repair.table-renamed");
    let Some(old) = old else { return Ok(()) };
    old.set_superseded();
    carry_collected(plan, table, &old)
}

/// What dw-gc collected in the old table while the new one was written is collected in that too.
fn carry_collected(plan: &Plan, table: &NewTable, old: &FeedRegistry) -> Result<()> {
    let new = FeedRegistry::open(&plan.feed.registry_path(), &plan.feed.id, true)?;
    for (position, row) in table.rows.iter().enumerate() {
        let (Entry::Chunk(entry), Some(_)) = (row.entry, row.raw) else { continue };
        let expired = old.place(entry.position) == Some(Place::Expired);
        if expired && entry.place == Place::OnDisk {
            new.set_place(position as u64, Place::OnDisk, Place::Expired)?;
        }
    }
    new.sync()
}

fn put_page(plan: &Plan, keeper: &mut Quarantine) -> Result<()> {
    let path = plan.feed.live_path();
    let undone = undone_name(&path);
    LivePage::create(&undone, &plan.feed.id, plan.feed.spec.policy.file_mode)?;
    keeper.keep(&path)?;
    file::rename("cannot replace", &undone, &path)?;
    file::sync_folder(&plan.feed.folder)
}
