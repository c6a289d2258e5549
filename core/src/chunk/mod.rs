//! Chunks: a run of records (`.data`) and its index (`.idx`).

pub mod copy;
pub mod index;
pub mod live;
pub mod proof;
pub mod strays;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::os::file;
pub use crate::registry::chunk_id::{NUMBER_LIMIT, PART_LIMIT, number, order, part, with_part};

/// A chunk id as people read it: `7`, or `7.3333`.
pub struct Shown(pub u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match part(self.0) {
            0 => write!(f, "{}", number(self.0)),
            part => write!(f, "{}.{part:04}", number(self.0)),
        }
    }
}

/// A chunk id as a JSON number: `7`, or `7.3333`.
pub fn json_number(chunk_id: u64) -> serde_json::Value {
    match part(chunk_id) {
        0 => number(chunk_id).into(),
        part => (number(chunk_id) as f64 + part as f64 / PART_LIMIT as f64).into(),
    }
}

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
        let stem = match part(chunk_id) {
            0 => format!("{chunk_id:08}"),
            part => format!("{:08}.{part:04}", number(chunk_id)),
        };
        ChunkPaths {
            data: folder.join(format!("{stem}.data")),
            index: folder.join(format!("{stem}.idx")),
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
        let stem = name.strip_suffix(".data").or_else(|| name.strip_suffix(".idx"))?;
        let plain = |digits: &str, width: usize, limit: u64| -> Option<u64> {
            let all = digits.len() >= width && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|&n| all && n > 0 && n < limit)
        };
        let (digits, part) = match stem.split_once('.') {
            Some((digits, part)) => (digits, plain(part, 4, PART_LIMIT)?),
            None => (stem, 0),
        };
        Some(with_part(plain(digits, 8, NUMBER_LIMIT)?, part))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_sort_as_ids_do_and_read_back() {
        let ids = [1, 7, with_part(7, 1), with_part(7, 3333), with_part(7, 9999), 8, 12_345_678];
        assert!(ids.is_sorted_by_key(|&id| order(id)));
        let stem = |id| {
            let paths = ChunkPaths::new(Path::new("/f"), id);
            for path in [&paths.data, &paths.index] {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert_eq!(ChunkPaths::id_of(name), Some(id), "{name}");
            }
            paths.data.file_stem().unwrap().to_str().unwrap().to_owned()
        };
        // A chunk and its parts are never there together.
        let there = [1, with_part(7, 1), with_part(7, 3333), 8].map(stem);
        assert!(there.is_sorted(), "{there:?}");
        assert_eq!(there[2], "00000007.3333");
        assert_eq!(Shown(ids[3]).to_string(), "7.3333");
        assert_eq!(json_number(ids[3]).to_string(), "7.3333");
        assert_eq!(json_number(7).to_string(), "7");
        for name in ["7.data", "00000000.data", "00000007.12.data", "00000007.0000.idx", "x.idx"] {
            assert_eq!(ChunkPaths::id_of(name), None, "{name}");
        }
    }
}
