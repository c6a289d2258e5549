//! `registry.bin`: which feeds exist. Read whole, replaced whole (FORMAT.md, registry.bin).

use std::fs::File;
use std::path::Path;

use crate::FORMAT_VERSION;
use crate::bytes::{get_id, get_u32, get_u64, offsets, put, put_u32, put_u64};
use crate::checksum::crc;
use crate::error::{Error, Result, sound};
use crate::os::file;

const MAGIC: &[u8; 8] = b"DEEPWREG";
const HEADER_SIZE: usize = 128;
/// Size of a registry without feeds.
pub const EMPTY_REGISTRY: u64 = HEADER_SIZE as u64;
const ENTRY_SIZE: usize = 128;
const NAME_SIZE: usize = 64;
/// A million feeds; a larger file is damage.
const FILE_LIMIT: u64 = (HEADER_SIZE + ENTRY_SIZE * 1_000_000) as u64;
const PERSIST: u32 = 1;

offsets! {
    [0] {
        MAGIC_AT: 8, VERSION_AT: 4, COUNT_AT: 4, STORE_ID_AT: 16, GENERATION_AT: 8, RESERVED_AT: 76,
        ENTRIES_CRC_AT: 4, HEADER_CRC_AT: 4, SUPERSEDED_AT: 4,
    } = HEADER_SIZE;
    [0] {
        ENTRY_ID_AT: 8, ENTRY_CREATED_AT: 8, ENTRY_LAYOUT_AT: 8, ENTRY_FLAGS_AT: 4,
        ENTRY_RESERVED_AT: 4, ENTRY_NAME_AT: NAME_SIZE, ENTRY_TAIL_AT: 32,
    } = ENTRY_SIZE;
}

/// One feed of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// Random, never reused.
    pub id: u64,
    /// The feed's name, and its folder's.
    pub name: String,
    /// When it was made, wall-clock microseconds.
    pub created_us: u64,
    /// Identity of its layout.
    pub layout_hash: u64,
    /// False: a ring.
    pub persist: bool,
}

/// The list of feeds, as one generation of the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The store it belongs to.
    pub store_id: [u8; 16],
    /// One more at each replacement.
    pub generation: u64,
    /// In order of creation.
    pub feeds: Vec<FeedEntry>,
}

impl Registry {
    /// A registry without feeds.
    pub fn empty(store_id: [u8; 16]) -> Registry {
        Registry { store_id, generation: 0, feeds: Vec::new() }
    }

    /// Reads `path`, which must belong to `store_id`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Version`], [`Error::Damaged`] with the place.
    pub fn load(path: &Path, store_id: [u8; 16]) -> Result<Registry> {
        Registry::load_open(&Registry::open_file(path)?, path, store_id)
    }

    /// Opens the file of a registry, which every store has.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] where it is missing.
    pub fn open_file(path: &Path) -> Result<File> {
        file::open_read(path).map_err(|error| match error.is_not_found() {
            true => Error::damaged(path, 0, "it is missing"),
            false => error,
        })
    }

    /// As [`Registry::load`], of a file that is open.
    ///
    /// # Errors
    /// As [`Registry::load`].
    pub fn load_open(file: &File, path: &Path, store_id: [u8; 16]) -> Result<Registry> {
        let (registry, _) = Registry::parse(path, &file::read_open(file, path, FILE_LIMIT)?)?;
        match registry.store_id == store_id {
            true => Ok(registry),
            false => Err(Error::damaged(path, STORE_ID_AT as u64, "it belongs to another store")),
        }
    }

    /// Reads `path`, of whatever store, for a repair: a file that is marked superseded and is the
    /// one in place is damaged too.
    ///
    /// # Errors
    /// As [`Registry::load`].
    pub fn load_any(path: &Path) -> Result<Registry> {
        let (registry, superseded) = Registry::parse(path, &file::read_whole(path, FILE_LIMIT)?)?;
        match superseded {
            false => Ok(registry),
            true => {
                let what = "superseded, and no other file is here";
                Err(Error::damaged(path, SUPERSEDED_AT as u64, what))
            }
        }
    }

    /// The registry that `path` holds, and whether it is marked superseded.
    fn parse(path: &Path, bytes: &[u8]) -> Result<(Registry, bool)> {
        check_head(path, bytes, MAGIC, HEADER_SIZE)?;
        if crc(&bytes[..HEADER_CRC_AT]) != get_u32(bytes, HEADER_CRC_AT) {
            return Err(Error::damaged(path, HEADER_CRC_AT as u64, "the header's checksum"));
        }
        let count = get_u32(bytes, COUNT_AT) as usize;
        let entries = &bytes[HEADER_SIZE..];
        if entries.len() != count * ENTRY_SIZE || crc(entries) != get_u32(bytes, ENTRIES_CRC_AT) {
            return Err(Error::damaged(path, HEADER_SIZE as u64, "the entries' checksum or size"));
        }
        let feeds = entries.chunks_exact(ENTRY_SIZE).enumerate().map(|(i, entry)| {
            parse_entry(entry).ok_or_else(|| {
                let at = HEADER_SIZE + i * ENTRY_SIZE + ENTRY_NAME_AT;
                Error::damaged(path, at as u64, "no feed name")
            })
        });
        let registry = Registry {
            store_id: get_id(bytes, STORE_ID_AT),
            generation: get_u64(bytes, GENERATION_AT),
            feeds: feeds.collect::<Result<_>>()?,
        };
        Ok((registry, get_u32(bytes, SUPERSEDED_AT) != 0))
    }

    /// Replaces `path` by this registry, one generation on, and marks the old file superseded. The
    /// caller holds `locks/registry`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn store(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.generation += 1;
        let old = sound(file::open_write(path))?;
        file::replace(path, &self.encode(), mode)?;
        if let Some(old) = old {
            // Whoever has the old file open sees it is old; that the mark fails harms nothing.
            let _ = file::write_at(&old, path, SUPERSEDED_AT as u64, &1u32.to_le_bytes());
        }
        Ok(())
    }

    /// The feed of that name.
    pub fn find(&self, name: &str) -> Option<&FeedEntry> {
        self.feeds.iter().find(|f| f.name == name)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_SIZE + self.feeds.len() * ENTRY_SIZE];
        for (feed, entry) in
            self.feeds.iter().zip(bytes[HEADER_SIZE..].chunks_exact_mut(ENTRY_SIZE))
        {
            put_u64(entry, ENTRY_ID_AT, feed.id);
            put_u64(entry, ENTRY_CREATED_AT, feed.created_us);
            put_u64(entry, ENTRY_LAYOUT_AT, feed.layout_hash);
            put_u32(entry, ENTRY_FLAGS_AT, if feed.persist { PERSIST } else { 0 });
            put(entry, ENTRY_NAME_AT, feed.name.as_bytes());
        }
        let entries_crc = crc(&bytes[HEADER_SIZE..]);
        put(&mut bytes, MAGIC_AT, MAGIC);
        put_u32(&mut bytes, VERSION_AT, FORMAT_VERSION);
        put_u32(&mut bytes, COUNT_AT, self.feeds.len() as u32);
        put(&mut bytes, STORE_ID_AT, &self.store_id);
        put_u64(&mut bytes, GENERATION_AT, self.generation);
        put_u32(&mut bytes, ENTRIES_CRC_AT, entries_crc);
        let header_crc = crc(&bytes[..HEADER_CRC_AT]);
        put_u32(&mut bytes, HEADER_CRC_AT, header_crc);
        bytes
    }
}

fn parse_entry(entry: &[u8]) -> Option<FeedEntry> {
    let name = &entry[ENTRY_NAME_AT..ENTRY_NAME_AT + NAME_SIZE];
    let end = name.iter().position(|&b| b == 0).unwrap_or(NAME_SIZE);
    let name = std::str::from_utf8(&name[..end]).ok()?;
    crate::schema::check_feed_name(name).ok()?;
    Some(FeedEntry {
        id: get_u64(entry, ENTRY_ID_AT),
        name: name.to_owned(),
        created_us: get_u64(entry, ENTRY_CREATED_AT),
        layout_hash: get_u64(entry, ENTRY_LAYOUT_AT),
        persist: get_u32(entry, ENTRY_FLAGS_AT) & PERSIST != 0,
    })
}

/// Checks what every binary file begins with: at least `header_size` bytes, the magic, the version.
///
/// # Errors
/// [`Error::Damaged`] or [`Error::Version`].
pub(crate) fn check_head(
    path: &Path,
    bytes: &[u8],
    magic: &[u8; 8],
    header_size: usize,
) -> Result<()> {
    if bytes.len() < header_size {
        let what = format!("the file ends here, in a header of {header_size} bytes");
        return Err(Error::damaged(path, bytes.len() as u64, what));
    }
    if &bytes[..8] != magic {
        let what = format!("the magic is not {}", String::from_utf8_lossy(magic));
        return Err(Error::damaged(path, 0, what));
    }
    match get_u32(bytes, VERSION_AT) {
        FORMAT_VERSION => Ok(()),
        found => Err(Error::Version { path: path.to_owned(), found }),
    }
}
