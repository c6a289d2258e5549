//! Where what is taken out of a store is kept: `quarantine/NAME/STAMP/` (FORMAT.md, Repair).

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::os::{file, process};

/// Where a repair keeps the originals: a folder of its own, made with the first of them.
pub(crate) struct Quarantine {
    base: PathBuf,
    name: String,
    mode: u32,
    pub(crate) folder: Option<PathBuf>,
}

impl Quarantine {
    /// For what a repair takes out of the feed, or the store, of that name.
    pub(crate) fn new(base: &Path, name: &str, file_mode: u32) -> Quarantine {
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

    /// [`Quarantine::keep`] for several.
    pub(crate) fn keep_each(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        paths.into_iter().try_for_each(|path| self.keep(&path))
    }

    /// Keeps what is at `path`, if anything: a file by a second name, so that it stays in place
    /// until another takes it; anything else by moving it.
    pub(crate) fn keep(&mut self, path: &Path) -> Result<()> {
        let Some(meta) = file::entry_of(path)? else { return Ok(()) };
        let to = self.name_for(path)?;
        if !meta.is_file() {
            move_to(path, &to)?;
        } else if file::link(path, &to).is_err() {
            return self.copy(path, &meta, &to);
        }
        self.sync(&to)
    }

    /// Keeps a copy of what is at `path`, if anything.
    pub(crate) fn keep_copy(&mut self, path: &Path) -> Result<()> {
        let Some(meta) = file::entry_of(path)? else { return Ok(()) };
        let to = self.name_for(path)?;
        if meta.is_file() {
            return self.copy(path, &meta, &to);
        }
        move_to(path, &to)?;
        self.sync(&to)
    }

    /// Keeps a copy of a file's bytes from `from` on, at the place that they have in it.
    pub(crate) fn keep_from(&mut self, path: &Path, from: u64) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        let to = self.name_for(path)?;
        let out = file::create_new(&to, meta.permissions().mode() & 0o777)?;
        copy_to(&out, (&to, from), (path, from, meta.len().saturating_sub(from)))?;
        self.sync(&to)
    }

    fn copy(&self, path: &Path, meta: &fs::Metadata, to: &Path) -> Result<()> {
        let out = file::create_new(to, meta.permissions().mode() & 0o777)?;
        copy(&out, to, (path, 0, meta.len()))?;
        self.sync(to)
    }

    fn sync(&self, path: &Path) -> Result<()> {
        // What is no file, or may not be read, was moved, and its folder is synced.
        match file::open_read(path) {
            Err(error) if error.is_limit() => return Err(error),
            Err(_) => {}
            Ok(open) => file::sync(&open, path)?,
        }
        file::sync_folder(path.parent().unwrap_or(&self.base))
    }
}

/// Moves what is no file. Where that fails, it is `path` that somebody has to look at.
fn move_to(path: &Path, to: &Path) -> Result<()> {
    file::rename("cannot move to quarantine", path, to).map_err(|error| match error {
        Error::Io { doing, source, .. } => Error::Io { doing, path: path.to_owned(), source },
        other => other,
    })
}

/// Copies part of a file to the head of another.
pub(crate) fn copy(out: &File, path: &Path, source: (&Path, u64, u64)) -> Result<()> {
    copy_to(out, (path, 0), source)
}

/// Copies part of a file to a place in another.
fn copy_to(
    out: &File,
    (path, to): (&Path, u64),
    (source, from, len): (&Path, u64, u64),
) -> Result<()> {
    const STEP: u64 = 1 << 20;
    // Through a link too: the plan has found the records there to be right.
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let open = file::open_read(&real)?;
    let mut bytes = vec![0; len.min(STEP) as usize];
    let mut done = 0;
    while done < len {
        let bytes = &mut bytes[..(len - done).min(STEP) as usize];
        file::read_at(&open, &real, from + done, bytes)?;
        file::write_at(out, path, to + done, bytes)?;
        done += bytes.len() as u64;
    }
    Ok(())
}
