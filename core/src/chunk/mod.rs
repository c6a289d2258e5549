//! Chunks: a run of records (`.data`) and its index (`.idx`).

pub mod copy;
pub mod index;
pub mod live;
pub mod proof;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::os::file;

/// The two files of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkPaths {
    /// Records.
    pub data: PathBuf,
    /// Block index, checksums, marks.
    pub index: PathBuf,
}

impl ChunkPaths {
    /// The files of chunk `chunk_id` in a feed's folder.
    pub fn new(folder: &Path, chunk_id: u64) -> ChunkPaths {
        ChunkPaths {
            data: folder.join(format!("{chunk_id:08}.data")),
            index: folder.join(format!("{chunk_id:08}.idx")),
        }
    }

    /// Unlinks both; that they are gone already is fine.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn remove(&self) -> Result<()> {
        file::remove_file(&self.data)?;
        file::remove_file(&self.index)
    }

    /// The chunk id that a file name stands for; `None` for files of other kinds.
    pub fn id_of(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".data").or_else(|| name.strip_suffix(".idx"))?;
        let plain = digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    }
}
