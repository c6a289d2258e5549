//! What lies in a feed's folder: chunk files by their names, and what their headers say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::chunk::index::{IndexHeader, IndexSeal, RawIndex};
use crate::chunk::{self, ChunkPaths};
use crate::error::{Error, Result};
use crate::registry::info::FeedInfo;

/// New files have this before their names until they are whole.
pub const UNDONE: &str = ".repair-";

/// An index whose header checks.
#[derive(Clone)]
pub struct Shelved {
    /// Where it lies.
    pub path: PathBuf,
    /// Its header.
    pub header: IndexHeader,
    /// Its seal, if it has one that checks.
    pub seal: Option<IndexSeal>,
}

/// The files that are called by one chunk's id.
#[derive(Clone, Default)]
pub struct Named {
    /// The id.
    pub chunk_id: u64,
    /// The one that ends in `.data`.
    pub data: Option<PathBuf>,
    /// The one that ends in `.idx`.
    pub index: Option<PathBuf>,
}

impl Named {
    /// Both, as far as they are there.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.data.iter().chain(&self.index).cloned()
    }
}

/// The chunk files of a folder.
#[derive(Default)]
pub struct Shelf {
    /// By [`chunk::order`] of the id in the name. Links and folders count as what they are named.
    pub files: BTreeMap<(u64, u64), Named>,
    /// Indexes whose headers check, whatever they are called.
    pub indexes: Vec<Shelved>,
    /// What an earlier repair, or a file being replaced, left half written.
    pub undone: Vec<PathBuf>,
}

impl Shelf {
    /// Reads a feed's folder.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be listed.
    pub fn read(feed: &FeedInfo) -> Result<Shelf> {
        let mut shelf = Shelf::default();
        let geometry = feed.geometry();
        let wrong = |e| Error::io("cannot list", &feed.folder, e);
        for item in fs::read_dir(&feed.folder).map_err(wrong)? {
            let path = item.map_err(wrong)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_undone(name) {
                shelf.undone.push(path);
                continue;
            }
            let Some(id) = ChunkPaths::id_of(name) else { continue };
            let files = shelf.files.entry(chunk::order(id)).or_default();
            files.chunk_id = id;
            if name.ends_with(".data") {
                files.data = Some(path);
                continue;
            }
            if let Ok((header, seal)) = RawIndex::peek(&path, (&feed.id, &geometry)) {
                shelf.indexes.push(Shelved { path: path.clone(), header, seal });
            }
            files.index = Some(path);
        }
        // Of two indexes of one chunk the one that is called so comes first.
        shelf.indexes.sort_by_key(|index| {
            let own = ChunkPaths::new(&feed.folder, index.header.chunk_id).index;
            (chunk::order(index.header.chunk_id), own != index.path)
        });
        Ok(shelf)
    }

    /// The index of a chunk, whatever it is called.
    pub fn index_of(&self, chunk_id: u64, base_seq: u64) -> Option<&Shelved> {
        self.indexes
            .iter()
            .find(|index| (index.header.chunk_id, index.header.base_seq) == (chunk_id, base_seq))
    }

    /// The files called by a chunk's id.
    pub fn paths(&self, chunk_id: u64) -> Vec<PathBuf> {
        let files = self.files.get(&chunk::order(chunk_id));
        files.into_iter().flat_map(Named::paths).collect()
    }
}

/// Whether a file was being written when its writer died: `.repair-*`, and `.NAME.PID` as
/// [`crate::os::file::replace`] calls them.
fn is_undone(name: &str) -> bool {
    let replaced = || {
        let (stem, pid) = name.strip_prefix('.')?.rsplit_once('.')?;
        let known = ["feed.json", "feed.copy.json", "feed_registry.bin", "live"].contains(&stem);
        (known && pid.bytes().all(|b| b.is_ascii_digit())).then_some(())
    };
    name.starts_with(UNDONE) || replaced().is_some()
}

/// The size of the regular file at `path`.
///
/// # Errors
/// What is there instead, or that nothing is.
pub fn regular_size(path: &Path) -> std::result::Result<u64, String> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(meta.len()),
        Ok(meta) if meta.is_dir() => Err("a folder where a file should be".into()),
        Ok(meta) if meta.is_symlink() => Err("a symbolic link where a file should be".into()),
        Ok(_) => Err("not a regular file".into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err("it is missing".into()),
        Err(e) => Err(crate::error::system_text(&e)),
    }
}
