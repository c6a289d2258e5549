//! The store's own files: the manifest and the registry made again from the feeds, the folder of
//! locks put back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::FORMAT_VERSION;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::log::Log;
use crate::os::file;
use crate::os::lock::Lock;
use crate::registry::global::{FeedEntry, Registry};
use crate::registry::info::{FeedInfo, SPEC_COPY, SPEC_FILE};
use crate::registry::quarantine::Quarantine;
use crate::registry::salvage::{HeaderSays, header_says};
use crate::repair::{Action, Finding, Kind};
use crate::schema::{DEFAULT_FILE_MODE, check_feed_name};
use crate::store::manifest_text;

/// The quarantine of the store's own files; no feed is called so.
const STORE: &str = ".store";
const MANIFEST_LIMIT: u64 = 64 * 1024;

/// What is to be done to a store's own files.
pub struct StorePlan {
    base: PathBuf,
    /// What is wrong with them.
    pub findings: Vec<Finding>,
    /// Feeds that the registry will have.
    pub feeds: usize,
    store_id: [u8; 16],
    manifest: bool,
    registry: Option<Registry>,
    mode: u32,
}

/// A feed's folder, as far as it can be told without the registry.
struct Folder {
    name: String,
    entry: Option<FeedEntry>,
    says: Option<HeaderSays>,
    file_mode: u32,
    why: String,
}

/// Looks at the manifest, the registry and all feeds.
///
/// # Errors
/// [`Error::NoStore`]; [`Error::Version`]; [`Error::Io`].
pub fn plan(base: &Path) -> Result<StorePlan> {
    Error::unless_limited(|| look(base))
}

fn look(base: &Path) -> Result<StorePlan> {
    let feeds = base.join("feeds");
    let paths = [base.join("manifest.json"), base.join("registry.bin")];
    if !feeds.is_dir() && paths.iter().all(|path| path.symlink_metadata().is_err()) {
        let why = "it has neither feeds nor a manifest.json".to_owned();
        return Err(Error::NoStore { base: base.to_owned(), why });
    }
    let manifest = read_manifest(&paths[0]);
    let registry = Registry::load_any(&paths[1]);
    for error in [manifest.as_ref().err(), registry.as_ref().err()].into_iter().flatten() {
        // A registry of that version beside a manifest of another: the manifest is what is damaged.
        if matches!(error, Error::Version { .. }) && (manifest.is_err() && registry.is_err()) {
            let Error::Version { path, found } = error else { continue };
            return Err(Error::Version { path: path.clone(), found: *found });
        }
    }
    let folders = read_folders(&feeds)?;
    let store_id = vote(manifest.as_ref().ok(), registry.as_ref().ok(), &folders)?;
    let widest = folders.iter().fold(DEFAULT_FILE_MODE, |mode, f| mode | f.file_mode & 0o444);
    let mut plan = StorePlan {
        base: base.to_owned(),
        findings: Vec::new(),
        feeds: 0,
        store_id,
        manifest: false,
        registry: None,
        mode: widest,
    };
    match &manifest {
        Ok(id) if *id == store_id => {}
        Ok(_) => plan.renew_manifest(format!("{}: the store's id", paths[0].display())),
        Err(error) => plan.renew_manifest(error.to_string()),
    }
    plan.list_feeds(&paths[1], registry, folders);
    Ok(plan)
}

impl StorePlan {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn renew_manifest(&mut self, what: String) {
        self.manifest = true;
        self.findings.push(Finding::new(Kind::Manifest, Action::Rebuild, what));
    }

    fn find(&mut self, action: Action, what: String) {
        self.findings.push(Finding::new(Kind::Registry, action, what));
    }

    /// The feeds of a registry that checks, and those with records that it does not have; of one
    /// that does not, all there are.
    fn list_feeds(&mut self, path: &Path, registry: Result<Registry>, folders: Vec<Folder>) {
        let sound = match registry {
            Ok(registry) if registry.store_id == self.store_id => Some(registry),
            Ok(_) => {
                self.find(Action::Rebuild, format!("{}: it is another store's", path.display()));
                None
            }
            Err(error) => {
                self.find(Action::Rebuild, error.to_string());
                None
            }
        };
        let is_sound = sound.is_some();
        let mut list = sound.unwrap_or_else(|| Registry::empty(self.store_id));
        let before = list.feeds.clone();
        for feed in &before {
            if !folders.iter().any(|folder| folder.name == feed.name) {
                let what = format!("feed {}: its folder is gone: struck out", feed.name);
                self.find(Action::Remove, what);
                list.feeds.retain(|other| other.name != feed.name);
            }
        }
        for folder in folders {
            let known = list.feeds.iter().any(|feed| feed.name == folder.name);
            let foreign = folder.says.is_some_and(|says| says.id.store_id != self.store_id);
            let deleted = folder.says.is_some_and(|says| says.deleted);
            // The feed was made but not entered in the list. Making it again starts over.
            let unborn = is_sound && folder.says.is_some_and(|says| says.entries == 0);
            if known || deleted || unborn {
                continue;
            }
            let Some(entry) = folder.entry.filter(|_| !foreign) else {
                let why = if foreign { "it is another store's" } else { &folder.why };
                let what = format!("feeds/{}: left out: {why}", folder.name);
                self.find(Action::Leave, what);
                continue;
            };
            if list.feeds.iter().any(|feed| feed.id == entry.id) {
                let what = format!("feeds/{}: left out: a copy of another feed", folder.name);
                self.find(Action::Leave, what);
                continue;
            }
            if is_sound {
                self.find(Action::Rebuild, format!("feed {}: it was not listed", entry.name));
            }
            list.feeds.push(entry);
        }
        self.feeds = list.feeds.len();
        if !is_sound || list.feeds != before {
            list.feeds.sort_by_key(|feed| feed.created_us);
            self.registry = Some(list);
        }
    }
}

/// Writes the manifest and the registry again, and keeps what they were; returns where.
///
/// # Errors
/// [`Error::Io`].
pub fn apply(plan: &mut StorePlan) -> Result<Option<PathBuf>> {
    mend_locks(&plan.base)?;
    let _lock = Lock::wait(&plan.base.join("locks/registry"))?;
    let mut keeper = Quarantine::new(&plan.base, STORE, plan.mode);
    let path = plan.base.join("registry.bin");
    if let Some(registry) = &mut plan.registry {
        keeper.keep_copy(&path)?;
        registry.store(&path, plan.mode)?;
    }
    if plan.manifest {
        let path = plan.base.join("manifest.json");
        keeper.keep(&path)?;
        file::replace(&path, manifest_text(plan.store_id).as_bytes(), plan.mode)?;
    }
    for finding in &plan.findings {
        let (kind, action) = (finding.kind.as_str(), finding.action.as_str());
        Log::of(&plan.base).event("repair", &[("kind", &kind), ("action", &action)]);
    }
    Ok(keeper.folder)
}

fn read_manifest(path: &Path) -> Result<[u8; 16]> {
    let bytes = file::read_whole(path, MANIFEST_LIMIT)?;
    let wrong = |what: &str| Error::damaged(path, 0, what);
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|e| wrong(&format!("no JSON: {e}")))?;
    match json.get("format_version").and_then(Value::as_u64) {
        Some(found) if found == u64::from(FORMAT_VERSION) => {}
        Some(found) => return Err(Error::Version { path: path.to_owned(), found: found as u32 }),
        None => return Err(wrong("it has no format_version")),
    }
    let id = json.get("store_id").and_then(Value::as_str).filter(|text| text.len() == 32);
    let id = id.and_then(|text| u128::from_str_radix(text, 16).ok());
    Ok(id.ok_or_else(|| wrong("it has no store_id"))?.to_be_bytes())
}

fn read_folders(feeds: &Path) -> Result<Vec<Folder>> {
    let mut folders = Vec::new();
    let listing = match fs::read_dir(feeds) {
        Ok(listing) => listing,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(folders),
        Err(e) => return Err(Error::io("cannot list", feeds, e)),
    };
    for item in listing {
        let item = item.map_err(|e| Error::io("cannot list", feeds, e))?;
        let name = item.file_name().to_string_lossy().into_owned();
        // A folder on another disk, which may be away, is a link.
        let is_folder = item.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink());
        if is_folder && check_feed_name(&name).is_ok() {
            folders.push(read_folder(&item.path(), name));
        }
    }
    folders.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(folders)
}

/// What a feed's folder says of the feed.
fn read_folder(path: &Path, name: String) -> Folder {
    let says = header_says(&path.join("feed_registry.bin"));
    let specs = [SPEC_FILE, SPEC_COPY].map(|name| FeedInfo::peek(&path.join(name)));
    let mut folder =
        Folder { name, entry: None, says, file_mode: 0, why: "its spec is lost".to_owned() };
    let best = specs.iter().flatten().max_by_key(|spec| spec.3);
    let Some((spec, id, created_us, _)) = best else { return folder };
    folder.file_mode = spec.policy.file_mode;
    if spec.feed_name != folder.name {
        folder.why = format!("its spec is of feed {}", spec.feed_name);
        return folder;
    }
    let Ok(layout) = Layout::new(spec) else { return folder };
    // The header has a checksum, and is believed where it is of this layout.
    let own = says.filter(|says| says.id.layout_hash == layout.hash());
    folder.entry = Some(FeedEntry {
        id: own.map_or(*id, |says| says.id.feed_id),
        name: folder.name.clone(),
        created_us: *created_us,
        layout_hash: layout.hash(),
        persist: spec.policy.persist,
    });
    folder
}

/// The id that most files give the store; a new one if none is left that does.
fn vote(
    manifest: Option<&[u8; 16]>,
    registry: Option<&Registry>,
    folders: &[Folder],
) -> Result<[u8; 16]> {
    let mut votes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    // Those with checksums count twice.
    let sure = folders.iter().filter_map(|folder| folder.says).map(|says| says.id.store_id);
    for id in sure.chain(registry.map(|registry| registry.store_id)) {
        *votes.entry(id).or_default() += 2;
    }
    if let Some(id) = manifest {
        *votes.entry(*id).or_default() += 1;
    }
    match votes.into_iter().max_by_key(|(_, votes)| *votes) {
        Some((id, _)) => Ok(id),
        None => crate::os::process::random_bytes()
            .map_err(|e| Error::io("cannot read", "/dev/urandom", e)),
    }
}

/// What is wrong with the folder of locks, if anything.
pub fn check_locks(base: &Path) -> Option<Finding> {
    let locks = base.join("locks");
    let what = match fs::symlink_metadata(&locks) {
        Ok(meta) if meta.is_dir() => {
            let odd = odd_locks(&locks).into_iter().next()?;
            format!("{}: not a regular file", odd.display())
        }
        Ok(_) => format!("{}: not a folder", locks.display()),
        Err(_) => format!("{}: the folder is missing", locks.display()),
    };
    Some(Finding::new(Kind::Locks, Action::Rebuild, what))
}

/// What has a lock's name and is no regular file. Other names are not the store's.
fn odd_locks(locks: &Path) -> Vec<PathBuf> {
    let is_lock = |name: &str| {
        let is_id = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id || ["registry", "log"].contains(&name)
    };
    let listing = fs::read_dir(locks).into_iter().flatten().flatten();
    let locks = listing.filter(|item| item.file_name().to_str().is_some_and(is_lock));
    let odd = locks.filter(|item| !item.file_type().is_ok_and(|kind| kind.is_file()));
    odd.map(|item| item.path()).collect()
}

/// Puts the folder of locks back; what stood in a lock's place is kept.
///
/// # Errors
/// [`Error::Io`].
pub fn mend_locks(base: &Path) -> Result<()> {
    let locks = base.join("locks");
    let mut keeper = Quarantine::new(base, STORE, DEFAULT_FILE_MODE);
    if fs::symlink_metadata(&locks).is_ok_and(|meta| !meta.is_dir()) {
        keeper.keep(&locks)?;
        file::remove_file(&locks)?;
    }
    file::make_folder(&locks, 0o700)?;
    odd_locks(&locks).iter().try_for_each(|path| keeper.keep(path))?;
    file::sync_folder(base)
}
