//! What a plan says, done: new files whole and synced before anything names them, the originals
//! kept, the table changed by a rename (FORMAT.md, Repair).

use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::chunk::Shown;
use crate::chunk::proof::Standing;
use crate::error::Result;
use crate::os::faults::step;
use crate::os::lock::Lock;
use crate::os::{file, process};
use crate::registry::feed::{Entry, FeedRegistry, Place};
use crate::registry::info::{SPEC_COPY, SPEC_FILE};
use crate::registry::live::LivePage;
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
        let view = LiveView::of(&plan.feed, &registry);
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
        rename(&undone_name(&new.path), &new.path)?;
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

fn copy(out: &File, path: &Path, (source, from, len): (&Path, u64, u64)) -> Result<()> {
    const STEP: u64 = 1 << 20;
    // Through a link too: the plan has found the records there to be right.
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let open = file::open_read(&real)?;
    let mut bytes = vec![0; len.min(STEP) as usize];
    let mut done = 0;
    while done < len {
        let bytes = &mut bytes[..(len - done).min(STEP) as usize];
        file::read_at(&open, &real, from + done, bytes)?;
        file::write_at(out, path, done, bytes)?;
        done += bytes.len() as u64;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    file::rename("cannot replace", from, to)
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
    let old = FeedRegistry::open(&path, &feed.id, true).ok();
    keeper.keep_copy(&path)?;
    rename(&undone, &path)?;
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
    rename(&undone, &path)?;
    file::sync_folder(&plan.feed.folder)
}

/// Where a repair keeps the originals: a folder of its own, made with the first of them.
pub(super) struct Quarantine {
    base: PathBuf,
    name: String,
    mode: u32,
    pub(super) folder: Option<PathBuf>,
}

impl Quarantine {
    /// For what a repair takes out of the feed, or the store, of that name.
    pub(super) fn new(base: &Path, name: &str, file_mode: u32) -> Quarantine {
        let mode = file::folder_mode(file_mode);
        Quarantine { base: base.to_owned(), name: name.to_owned(), mode, folder: None }
    }

    fn folder(&mut self) -> Result<PathBuf> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let all = self.base.join("quarantine");
        let own = all.join(&self.name);
        for folder in [&all, &own] {
            file::make_folder(folder, self.mode)?;
        }
        let stamp = process::wall_us();
        let stamp = jiff::Timestamp::from_microsecond(stamp as i64).unwrap_or_default();
        let stamp = stamp.strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        // Nobody else repairs this feed now, so what is free stays free.
        let mut names = std::iter::once(stamp.clone()).chain((2..).map(|n| format!("{stamp}-{n}")));
        let free = names.find(|name| own.join(name).symlink_metadata().is_err());
        let folder = own.join(free.unwrap_or(stamp));
        file::make_folder(&folder, self.mode)?;
        for folder in [self.base.as_path(), &all, &own] {
            file::sync_folder(folder)?;
        }
        self.folder = Some(folder.clone());
        Ok(folder)
    }

    /// A name in the folder that nothing has yet.
    fn name_for(&mut self, path: &Path) -> Result<PathBuf> {
        let folder = self.folder()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}.{n}")));
        let free = names.find(|name| folder.join(name).symlink_metadata().is_err());
        Ok(folder.join(free.unwrap_or(name)))
    }

    fn keep_each(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        paths.into_iter().try_for_each(|path| self.keep(&path))
    }

    /// Keeps what is at `path`, if anything: a file by a second name, so that it stays in place
    /// until another takes it; anything else by moving it.
    pub(super) fn keep(&mut self, path: &Path) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        let to = self.name_for(path)?;
        if !meta.is_file() {
            rename(path, &to)?;
        } else if file::link(path, &to).is_err() {
            return self.copy(path, &meta, &to);
        }
        self.sync(&to)
    }

    /// Keeps a copy of what is at `path`, if anything.
    pub(super) fn keep_copy(&mut self, path: &Path) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        let to = self.name_for(path)?;
        if meta.is_file() {
            return self.copy(path, &meta, &to);
        }
        rename(path, &to)?;
        self.sync(&to)
    }

    fn copy(&self, path: &Path, meta: &fs::Metadata, to: &Path) -> Result<()> {
        let out = file::create_new(to, meta.permissions().mode() & 0o777)?;
        copy(&out, to, (path, 0, meta.len()))?;
        self.sync(to)
    }

    fn sync(&self, path: &Path) -> Result<()> {
        if let Ok(open) = file::open_read(path) {
            file::sync(&open, path)?;
        }
        file::sync_folder(path.parent().unwrap_or(&self.base))
    }
}
