//! The files of a store as bytes: taken, put down elsewhere, with the identities of the new place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deepwater::checksum::crc;
use deepwater::registry::segments::Segments;

/// The name of the feed in every store here.
pub const FEED: &str = "t";
/// No process has it: larger than the kernel's limit.
const DEAD_PID: u64 = 0x7fff_fff0;

/// Files by name: `base/...` in the store, `shm/...` in its folder of shared memory.
#[derive(Clone, Default)]
pub struct Image {
    /// Name and bytes of each file.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Where a store lies.
pub struct Place {
    /// The base directory.
    pub base: PathBuf,
    /// Its folder of shared memory.
    pub shm: PathBuf,
}

impl Place {
    /// Makes an empty base directory, and knows where its shared memory belongs.
    pub fn new(base: PathBuf, store_id: [u8; 16]) -> Place {
        fs::create_dir_all(&base).unwrap();
        // Asked of the library, since the name is made of the directory's identity.
        let shm = Segments::make_folder(&base, store_id, 0o600, None).unwrap();
        Place { base, shm }
    }

    /// The path of a file by its name in an image.
    pub fn path(&self, name: &str) -> PathBuf {
        match name.split_once('/') {
            Some(("base", rest)) => self.base.join(rest),
            Some((_, rest)) => self.shm.join(rest),
            None => panic!("{name}"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.shm);
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn gather(root: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for item in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = format!("{prefix}/{}", item.file_name().to_str().unwrap());
        let Ok(kind) = item.file_type() else { continue };
        match kind {
            kind if kind.is_dir() => gather(&item.path(), &name, files),
            // A writer at work may have removed it by now.
            kind if kind.is_file() => {
                if let Ok(bytes) = fs::read(item.path()) {
                    files.insert(name, bytes);
                }
            }
            _ => {}
        }
    }
}

impl Image {
    /// Takes a store's files as they are.
    pub fn take(place: &Place) -> Image {
        let mut files = BTreeMap::new();
        gather(&place.base, "base", &mut files);
        gather(&place.shm, "shm", &mut files);
        files.retain(|name, _| !name.ends_with(".log"));
        Image { files }
    }

    /// Takes a store's files while its writer is at rest: the writer's background thread has ended
    /// what it had to do, so that what was taken is one moment's.
    pub fn take_at_rest(place: &Place) -> Image {
        let mut last = Image::take(place);
        loop {
            std::thread::sleep(std::time::Duration::from_millis(4));
            let next = Image::take(place);
            let still = |image: &Image| {
                let files = image.files.iter().map(|(name, bytes)| match name.ends_with("live") {
                    // What is beyond is the time of the last publish.
                    true => (name.clone(), crc(&bytes[..384.min(bytes.len())])),
                    false => (name.clone(), crc(bytes)),
                });
                files.collect::<Vec<_>>()
            };
            if still(&last) == still(&next) {
                return next;
            }
            last = next;
        }
    }

    /// The store's id.
    pub fn store_id(&self) -> [u8; 16] {
        let json: serde_json::Value =
            serde_json::from_slice(&self.files["base/manifest.json"]).unwrap();
        u128::from_str_radix(json["store_id"].as_str().unwrap(), 16).unwrap().to_be_bytes()
    }

    /// Puts the files down in a new folder, as if they had always been there.
    pub fn put(&self, base: PathBuf) -> Place {
        let place = Place::new(base, self.store_id());
        for name in self.files.keys() {
            self.put_file(name, &place);
        }
        place
    }

    /// Puts one file down, over what has its name.
    pub fn put_file(&self, name: &str, place: &Place) {
        let path = place.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The file is there before its identity is asked.
        let file = fs::File::options().create(true).append(true).open(&path).unwrap();
        drop(file);
        let bytes = self.bytes_for(name, place).unwrap();
        fs::write(&path, &bytes).unwrap();
    }

    /// A file's bytes, with the identities of its place.
    pub fn bytes_for(&self, name: &str, place: &Place) -> Option<Vec<u8>> {
        let mut bytes = self.files.get(name)?.clone();
        if is_page(name) {
            stamp_page(&mut bytes, &place.path(name));
        } else if is_table(name) {
            stamp_segments(&mut bytes, &place.shm);
        }
        Some(bytes)
    }
}

/// Whether a file is a live page.
pub fn is_page(name: &str) -> bool {
    name.ends_with("/live") || name.ends_with(".live")
}

/// Whether a file is a feed's table.
pub fn is_table(name: &str) -> bool {
    name.ends_with("feed_registry.bin")
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Both stamps of a live page: of this file, and of a process that is no more.
pub fn stamp_page(bytes: &mut [u8], path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::metadata(path) else { return };
    for at in [128, 1536] {
        if bytes.len() < at + 72 || crc(&bytes[at..at + 64]) != get_u32(bytes, at + 64) {
            continue;
        }
        bytes[at + 8..at + 16].copy_from_slice(&DEAD_PID.to_le_bytes());
        bytes[at + 24..at + 32].copy_from_slice(&meta.dev().to_le_bytes());
        bytes[at + 32..at + 40].copy_from_slice(&meta.ino().to_le_bytes());
        let sum = crc(&bytes[at..at + 64]);
        bytes[at + 64..at + 68].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Both slots of the table that say where shared memory is.
pub fn stamp_segments(bytes: &mut [u8], shm: &Path) {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let path = shm.as_os_str().as_bytes();
    let device = fs::metadata(shm).map_or(0, |meta| meta.dev());
    for at in [3072, 3584] {
        let Some(slot) = bytes.get_mut(at..at + 512) else { return };
        if crc(&slot[..508]) != get_u32(slot, 508) || slot[8..16] == [0; 8] {
            continue;
        }
        slot[16..24].copy_from_slice(&device.to_le_bytes());
        slot[44..48].copy_from_slice(&(path.len() as u32).to_le_bytes());
        slot[48..508].fill(0);
        slot[48..48 + path.len()].copy_from_slice(path);
        let sum = crc(&slot[..508]);
        slot[508..512].copy_from_slice(&sum.to_le_bytes());
    }
}
