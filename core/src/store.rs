//! The store: one base directory and its feeds. The API mirrors `Platform` of the Python Deepwater
//! API.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::FORMAT_VERSION;
use crate::chunk::ChunkPaths;
use crate::error::{Error, Result, sound};
use crate::layout::Layout;
use crate::log::Log;
use crate::os::dir::Dir;
use crate::os::lock::Lock;
use crate::os::{file, process};
use crate::reader::Reader;
use crate::registry::feed::{FeedRegistry, Geometry, Identity};
use crate::registry::global::{EMPTY_REGISTRY, FeedEntry, Registry};
use crate::registry::holder::Lockable;
use crate::registry::info::{FeedInfo, SPEC_COPY, SPEC_FILE};
use crate::registry::listed::Listed;
use crate::registry::live::LivePage;
use crate::registry::wait::WaitFile;
use crate::schema::{DEFAULT_FILE_MODE, FeedSpec, check_feed_name};
use crate::writer::{Writer, WriterOptions};

const MANIFEST_LIMIT: u64 = 64 * 1024;
/// Name prefixes of folders of feeds that are being created, and being deleted.
const UNBORN: &str = ".new-";
const DELETED: &str = ".deleted-";
const REGISTRY_FILE: &str = "feed_registry.bin";

/// What [`Platform::create_feed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The feed is new.
    New,
    /// The feed exists with exactly this spec.
    Unchanged,
    /// The feed existed; its policy was changed.
    Updated,
}

/// The paths of a feed's files, and the identity that they must agree on.
pub(crate) struct FeedPlace {
    pub(crate) id: Identity,
    pub(crate) folder: PathBuf,
    pub(crate) lock: PathBuf,
}

impl FeedPlace {
    /// Returns the feed in the form that taking its lock needs.
    pub(crate) fn lockable<'a>(
        &'a self,
        name: &'a str,
        info: Option<&'a FeedInfo>,
    ) -> Lockable<'a> {
        Lockable { name, id: &self.id, folder: self.folder.clone(), lock: &self.lock, info }
    }
}

/// An open store.
pub struct Platform {
    base: PathBuf,
    store_id: [u8; 16],
    /// The list of feeds as read last.
    listed: Mutex<Option<Arc<Listed>>>,
}

impl Platform {
    /// Opens the store at `base`.
    ///
    /// # Errors
    /// [`Error::NoStore`] if `base` is not a store, [`Error::Version`] if this build does not know
    /// its format, [`Error::Damaged`] if its manifest is not readable.
    pub fn open(base: impl AsRef<Path>) -> Result<Platform> {
        process::learn_boot_id()?;
        let base = base.as_ref();
        let path = base.join("manifest.json");
        let no_store = |why: &str| Error::NoStore { base: base.to_owned(), why: why.to_owned() };
        let bytes = match file::read_whole(&path, MANIFEST_LIMIT) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let registry = file::entry_of(&base.join("registry.bin"))?.map(|meta| meta.len());
                let why = match (file::entry_of(base)?.is_some(), registry) {
                    (false, _) => "there is no such directory",
                    // The registry is missing or has no feeds: the process that created the store
                    // was interrupted.
                    (true, None | Some(EMPTY_REGISTRY)) => "it has no manifest.json",
                    (true, Some(_)) => {
                        return Err(Error::damaged(
                            &path,
                            0,
                            "it is missing, beside a registry.bin",
                        ));
                    }
                };
                return Err(no_store(why));
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(no_store("it is a file"));
            }
            other => other?,
        };
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::damaged(&path, 0, e.to_string()))?;
        let version = json.get("format_version").and_then(Value::as_u64);
        match version {
            Some(found) if found == u64::from(FORMAT_VERSION) => {}
            Some(found) => return Err(Error::Version { path, found: found as u32 }),
            None => return Err(Error::damaged(&path, 0, "it has no format_version")),
        }
        let id = json.get("store_id").and_then(Value::as_str).filter(|text| text.len() == 32);
        let id = id.and_then(|text| u128::from_str_radix(text, 16).ok());
        let id = id.ok_or_else(|| Error::damaged(&path, 0, "it has no store_id"))?;
        let (base, store_id) = (base.to_owned(), id.to_be_bytes());
        Ok(Platform { base, store_id, listed: Mutex::new(None) })
    }

    /// Opens the store at `base`, or creates one there.
    ///
    /// # Errors
    /// As [`Platform::open`], and [`Error::Io`].
    pub fn create(base: impl AsRef<Path>) -> Result<Platform> {
        let base = base.as_ref();
        match Platform::open(base) {
            Err(Error::NoStore { .. }) => {}
            other => return other,
        }
        let folder = file::folder_mode(DEFAULT_FILE_MODE);
        file::make_folders(base)?;
        file::make_folder(&base.join("locks"), 0o700)?;
        let _lock = Lock::wait(&base.join("locks/registry"))?;
        match Platform::open(base) {
            // Another process created it while this one waited.
            Ok(platform) => return Ok(platform),
            Err(Error::NoStore { .. }) => {}
            Err(error) => return Err(error),
        }
        // Create it now, so that it belongs to the store's owner and not to the first user who
        // rotates a full log.
        drop(Lock::try_replace(&base.join("locks/log"))?);
        file::make_folder(&base.join("feeds"), folder)?;
        let store_id =
            process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
        Registry::empty(store_id).store(&base.join("registry.bin"), DEFAULT_FILE_MODE)?;
        // The manifest comes last, because it makes the directory a store.
        let text = manifest_text(store_id);
        file::replace(&base.join("manifest.json"), text.as_bytes(), DEFAULT_FILE_MODE)?;
        Platform::open(base)
    }

    /// Returns the store's id.
    pub fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Returns the base directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Returns the paths and the identity of a feed's files, without reading them.
    ///
    /// # Errors
    /// [`Error::NoFeed`]; [`Error::Damaged`] for a damaged registry.
    pub(crate) fn feed_place(&self, name: &str) -> Result<FeedPlace> {
        check_feed_name(name)?;
        let listed = self.listed()?;
        let entry = listed.find(name).ok_or_else(|| self.no_feed(name))?;
        Ok(FeedPlace {
            id: self.identity(entry),
            folder: self.folder(name),
            lock: self.lock_path(entry.id),
        })
    }

    /// Returns the store's log.
    pub fn log(&self) -> Log {
        Log::of(&self.base)
    }

    fn log_feed(&self, what: &str, feed: &str, id: u64, more: &[(&str, &dyn Display)]) {
        let id = format!("{id:016x}");
        let fields: [(&str, &dyn Display); 2] = [("feed", &feed), ("id", &id)];
        self.log().event(what, &[&fields[..], more].concat());
    }

    /// Prevents feeds from being created and deleted until the lock is dropped.
    pub(crate) fn lock_registry(&self) -> Result<Lock> {
        Lock::wait(&self.base.join("locks/registry"))
    }

    fn registry_path(&self) -> PathBuf {
        self.base.join("registry.bin")
    }

    fn lock_path(&self, feed_id: u64) -> PathBuf {
        self.base.join("locks").join(format!("{feed_id:016x}"))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.base.join("feeds").join(name)
    }

    /// Returns the current list of feeds. It is read again only if the file was replaced.
    pub(crate) fn listed(&self) -> Result<Arc<Listed>> {
        let path = self.registry_path();
        let mut kept = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = kept.as_ref().filter(|listed| listed.is_current(&path)) {
            return Ok(Arc::clone(listed));
        }
        *kept = None;
        let listed = Arc::new(Listed::load(&path, self.store_id)?);
        *kept = Some(Arc::clone(&listed));
        Ok(listed)
    }

    fn no_feed(&self, name: &str) -> Error {
        Error::NoFeed { base: self.base.clone(), feed: name.to_owned() }
    }

    /// Reads the list of feeds, to be changed.
    pub(crate) fn registry(&self) -> Result<Registry> {
        Registry::load(&self.registry_path(), self.store_id)
    }

    fn identity(&self, entry: &FeedEntry) -> Identity {
        let FeedEntry { id: feed_id, layout_hash, .. } = *entry;
        Identity { store_id: self.store_id, feed_id, layout_hash }
    }

    /// Returns the names of the feeds, sorted.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a damaged registry.
    pub fn list_feeds(&self) -> Result<Vec<String>> {
        Ok(self.listed()?.entries().map(|feed| feed.name.clone()).collect())
    }

    /// Returns a feed's spec, layout and paths.
    ///
    /// # Errors
    /// [`Error::NoFeed`]; [`Error::Damaged`] for damaged files.
    pub fn feed_info(&self, name: &str) -> Result<FeedInfo> {
        check_feed_name(name)?;
        self.info_of(self.listed()?.find(name).ok_or_else(|| self.no_feed(name))?)
    }

    fn info_in(&self, registry: &Registry, name: &str) -> Result<FeedInfo> {
        check_feed_name(name)?;
        self.info_of(registry.find(name).ok_or_else(|| self.no_feed(name))?)
    }

    /// Reads `feed.json` of an entry of the registry.
    pub(crate) fn info_of(&self, entry: &FeedEntry) -> Result<FeedInfo> {
        FeedInfo::load(&self.folder(&entry.name), &self.lock_path(entry.id), &self.identity(entry))
    }

    /// Creates a feed. If it exists with the same spec, nothing is changed. With `update`, a
    /// different policy replaces the old one.
    ///
    /// # Errors
    /// [`Error::Drift`] for a different layout, or a different policy without `update`;
    /// [`Error::Spec`]; [`Error::Io`].
    pub fn create_feed(&self, spec: &FeedSpec, update: bool) -> Result<Created> {
        spec.check()?;
        let layout = Layout::new(spec)?;
        let _lock = self.lock_registry()?;
        self.sweep()?;
        let mut registry = self.registry()?;
        match self.info_in(&registry, &spec.feed_name) {
            Ok(old) if is_deleted(&old)? => {
                self.delete_from(&mut registry, &spec.feed_name)?;
                self.make_feed(&mut registry, spec, layout)
            }
            Ok(old) => self.update_feed(old, spec, &layout, update),
            Err(Error::NoFeed { .. }) => {
                spec.check_new()?;
                self.make_feed(&mut registry, spec, layout)
            }
            Err(error) => match self.restore_spec(&registry, spec, layout)? {
                true => Ok(Created::Updated),
                false => Err(error),
            },
        }
    }

    /// Writes a feed's lost spec again, if `layout` is the one that the registry names. Returns
    /// false if it is a different one, or if a copy of the spec is left, from which dw-repair
    /// restores it.
    fn restore_spec(&self, registry: &Registry, spec: &FeedSpec, layout: Layout) -> Result<bool> {
        let name = &spec.feed_name;
        let Some(entry) = registry.find(name).filter(|e| e.layout_hash == layout.hash()) else {
            return Ok(false);
        };
        let (folder, lock, id) =
            (self.folder(name), self.lock_path(entry.id), self.identity(entry));
        let load = |file| sound(FeedInfo::load_from(&folder.join(file), &folder, &lock, &id));
        if !folder.is_dir() || load(SPEC_FILE)?.is_some() || load(SPEC_COPY)?.is_some() {
            return Ok(false);
        }
        let info = FeedInfo {
            name: name.clone(),
            id,
            created_us: entry.created_us,
            spec: spec.clone(),
            layout: layout.into(),
            folder: folder.clone(),
            lock,
        };
        info.save(&folder)?;
        Ok(true)
    }

    fn update_feed(
        &self,
        mut old: FeedInfo,
        spec: &FeedSpec,
        layout: &Layout,
        update: bool,
    ) -> Result<Created> {
        let drift = |differences, hint| {
            Err(Error::Drift { feed: spec.feed_name.clone(), differences, hint })
        };
        let differences = old.layout.difference(layout);
        if !differences.is_empty() {
            return drift(differences, "a feed keeps its layout: make another feed, or delete it");
        }
        if old.spec.policy.persist != spec.policy.persist {
            let words = |persist| if persist { "in files" } else { "a ring" };
            let (ours, asked) = (words(old.spec.policy.persist), words(spec.policy.persist));
            let differences = vec![format!("it is {ours}, asked for {asked}")];
            return drift(differences, "a feed stays what it is: make another feed, or delete it");
        }
        let differences = old.spec.policy.difference(&spec.policy);
        if differences.is_empty() {
            return Ok(Created::Unchanged);
        }
        if !update {
            return drift(differences, "--update changes the policy");
        }
        spec.check_new_policy()?;
        old.spec.policy = spec.policy.clone();
        old.save(&old.folder)?;
        self.widen_modes(spec.policy.file_mode)?;
        let changed = differences.join("; ");
        self.log_feed("feed-updated", &spec.feed_name, old.id.feed_id, &[("changed", &changed)]);
        Ok(Created::Updated)
    }

    fn make_feed(
        &self,
        registry: &mut Registry,
        spec: &FeedSpec,
        layout: Layout,
    ) -> Result<Created> {
        let random =
            process::random_bytes().map_err(|e| Error::io("cannot read", "/dev/urandom", e))?;
        let feed_id = (u128::from_be_bytes(random) as u64).max(1);
        let id = Identity { store_id: self.store_id, feed_id, layout_hash: layout.hash() };
        let folder = self.folder(&spec.feed_name);
        if folder.symlink_metadata().is_ok() {
            self.remove_unregistered(&folder)?;
        }
        let info = FeedInfo {
            name: spec.feed_name.clone(),
            id,
            created_us: process::wall_us(),
            spec: spec.clone(),
            layout: layout.into(),
            folder: folder.clone(),
            lock: self.lock_path(feed_id),
        };
        let unborn = self.folder(&format!("{UNBORN}{feed_id:016x}"));
        let made = build_feed(&info, &unborn)
            .and_then(|()| file::rename("cannot create", &unborn, &folder));
        if made.is_err() {
            let _ = file::remove_folder(&unborn);
        }
        made?;
        file::sync_folder(&self.base.join("feeds"))?;
        registry.feeds.push(FeedEntry {
            id: feed_id,
            name: spec.feed_name.clone(),
            created_us: info.created_us,
            layout_hash: id.layout_hash,
            persist: spec.policy.persist,
        });
        registry.store(&self.registry_path(), self.store_mode()?)?;
        self.widen_modes(spec.policy.file_mode)?;
        self.log_feed("feed-made", &spec.feed_name, feed_id, &[]);
        Ok(Created::New)
    }

    /// Returns the mode of the store's own files, which is that of its manifest.
    fn store_mode(&self) -> Result<u32> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.base.join("manifest.json");
        let meta = fs::metadata(&path).map_err(|e| Error::io("cannot stat", &path, e))?;
        Ok(meta.permissions().mode() & 0o666)
    }

    /// Makes the store's own files readable for everyone who may read the most widely readable
    /// feed.
    fn widen_modes(&self, file_mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let widen = |path: &Path, bits: u32| -> Result<()> {
            let wrong = |e| Error::io("cannot set the mode of", path, e);
            let old = fs::metadata(path).map_err(wrong)?.permissions().mode() & 0o7777;
            if old | bits != old {
                fs::set_permissions(path, fs::Permissions::from_mode(old | bits)).map_err(wrong)?;
            }
            Ok(())
        };
        let read = file_mode & 0o444;
        for name in ["registry.bin", "manifest.json"] {
            widen(&self.base.join(name), read)?;
        }
        let log = self.log().path();
        if log.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            // If the log belongs to another user, its mode stays.
            let _ = widen(&log, read & 0o044);
        }
        let enter = file::folder_mode(read) & 0o555;
        widen(&self.base, enter)?;
        widen(&self.base.join("feeds"), enter)
    }

    /// Deletes a feed and its records.
    ///
    /// # Errors
    /// [`Error::Locked`] while it is being written; [`Error::NoFeed`]; [`Error::Io`].
    pub fn delete_feed(&self, name: &str) -> Result<()> {
        check_feed_name(name)?;
        let _lock = self.lock_registry()?;
        self.sweep()?;
        let mut registry = self.registry()?;
        self.delete_from(&mut registry, name)
    }

    /// Deletes a feed. The caller holds the registry's lock.
    fn delete_from(&self, registry: &mut Registry, name: &str) -> Result<()> {
        let entry = registry.find(name).cloned().ok_or_else(|| self.no_feed(name))?;
        let folder = self.folder(name);
        let id = self.identity(&entry);
        let place = FeedPlace { id, folder, lock: self.lock_path(entry.id) };
        let info = sound(self.info_in(registry, name))?;
        let _feed_lock = place.lockable(name, info.as_ref()).take()?;
        let FeedPlace { id, folder, .. } = &place;
        // A feed must be deletable even if its table is too damaged to be marked.
        if let Some(feed) = sound(FeedRegistry::open(&folder.join(REGISTRY_FILE), id, true))? {
            feed.set_deleted();
            // The mark must be on disk before the registry forgets the feed. Without it the folder
            // would pass for data that somebody still needs.
            feed.sync()?;
            remove_segments(&feed, &self.base, id, name)?;
        }
        registry.feeds.retain(|feed| feed.id != entry.id);
        registry.store(&self.registry_path(), self.store_mode()?)?;
        self.log_feed("feed-deleted", name, entry.id, &[]);
        self.bury(folder, entry.id)
    }

    /// Renames a folder, then removes it, so that nobody sees half of it under the feed's name.
    fn bury(&self, folder: &Path, feed_id: u64) -> Result<()> {
        let dead = self.folder(&format!("{DELETED}{feed_id:016x}"));
        if file::entry_of(folder)?.is_none() {
            return Ok(());
        }
        file::rename("cannot remove", folder, &dead)?;
        file::sync_folder(&self.base.join("feeds"))?;
        self.remove_dead(&dead)
    }

    /// Removes a folder that was renamed. If it is a link to another disk, removes only the feed's
    /// own files there, and then the link: other files in the target belong to somebody else.
    fn remove_dead(&self, dead: &Path) -> Result<()> {
        if !dead.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            return remove_any(dead);
        }
        let left = sound(FeedRegistry::peek(&dead.join(REGISTRY_FILE)))?;
        let own = left.filter(|left| {
            let name = format!("{DELETED}{:016x}", left.id.feed_id);
            left.id.store_id == self.store_id && dead.ends_with(name)
        });
        if own.is_some() {
            let folder = Dir::follow(dead)?;
            let names = folder.names()?.into_iter().filter(|name| is_feed_file(name));
            // The file that identifies the feed comes last, so that an interrupted removal can be
            // continued.
            for name in names.chain([REGISTRY_FILE.to_owned()]) {
                if folder.entry(&name)?.is_some_and(|entry| entry.is_file) {
                    folder.remove(&name, None)?;
                }
            }
        }
        file::remove_file(dead)
    }

    /// Removes what interrupted `create_feed` and `delete_feed` calls have left. The caller holds
    /// the registry's lock, so no such call is under way.
    fn sweep(&self) -> Result<()> {
        self.debris()?.iter().try_for_each(|path| self.remove_dead(path))
    }

    /// Returns the folders and files whose names show unfinished work.
    fn debris(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for folder in [self.base.join("feeds"), self.base.clone()] {
            let names = file::names(&folder)?.into_iter();
            let paths = names.map(|name| (folder.join(&name), name));
            let debris = paths.filter(|(path, name)| self.is_debris(path, name));
            found.extend(debris.map(|(path, _)| path));
        }
        Ok(found)
    }

    /// Whether a path that ends with `name` is one of [`Platform::debris`].
    fn is_debris(&self, path: &Path, name: &str) -> bool {
        let marks = match path.parent() {
            Some(folder) if folder == self.base.join("feeds") => [UNBORN, DELETED],
            Some(folder) if folder == self.base => [".registry.bin.", ".manifest.json."],
            _ => return false,
        };
        marks.iter().any(|mark| name.starts_with(mark))
    }

    /// Returns what interrupted `create_feed` and `delete_feed` calls have left. It may include the
    /// files of a call that is still running; [`Platform::remove_leftover`] tells the two apart.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let listed = self.listed()?;
        let mut found = self.debris()?;
        let names = file::names(&self.base.join("feeds"))?.into_iter();
        let left = names.filter(|name| self.is_left(&listed, name));
        found.extend(left.map(|name| self.folder(&name)));
        found.sort_unstable();
        Ok(found)
    }

    /// Whether a folder with a valid feed name belongs to no feed, and has no records that were not
    /// deleted.
    fn is_left(&self, listed: &Listed, name: &str) -> bool {
        listed.find(name).is_none() && check_feed_name(name).is_ok() && {
            let left = FeedRegistry::peek(&self.folder(name).join("feed_registry.bin"));
            left.is_ok_and(|left| left.deleted || !left.chunks)
        }
    }

    /// Removes something that [`Platform::leftovers`] named, if it is still left over. Returns
    /// whether it was.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn remove_leftover(&self, path: &Path) -> Result<bool> {
        let _lock = self.lock_registry()?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if check_feed_name(name).is_ok() {
            if path != self.folder(name) || !self.is_left(&*self.listed()?, name) {
                return Ok(false);
            }
            self.remove_unregistered(path)?;
        } else {
            if !self.is_debris(path, name) || path.symlink_metadata().is_err() {
                return Ok(false);
            }
            self.remove_dead(path)?;
        }
        Ok(true)
    }

    /// Removes the folder of a feed that the registry does not name. Its creator was killed before
    /// the registry named it, or its deletion was interrupted after the registry forgot it. A
    /// folder with records that were not deleted is somebody's data, and stays.
    fn remove_unregistered(&self, folder: &Path) -> Result<()> {
        let left = FeedRegistry::peek(&folder.join(REGISTRY_FILE)).map_err(|e| {
            let what =
                format!("a folder the registry does not name, and no feed; move it away ({e})");
            if e.says_nothing() { e } else { Error::damaged(folder, 0, what) }
        })?;
        let lock = Lock::try_feed(&self.lock_path(left.id.feed_id))?;
        if lock.is_none() || (left.chunks && !left.deleted) {
            let what =
                "a feed's folder with records, which the registry does not name; move it away";
            return Err(Error::damaged(folder, 0, what));
        }
        self.bury(folder, left.id.feed_id)
    }

    /// Opens a feed for writing, as its policy says.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn create_writer(&self, name: &str) -> Result<Writer> {
        self.create_writer_with(name, WriterOptions::default())
    }

    /// Opens a feed for writing.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn create_writer_with(&self, name: &str, options: WriterOptions) -> Result<Writer> {
        Writer::open(&self.feed_info(name)?, options)
    }

    /// Opens a feed for reading.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn create_reader(&self, name: &str) -> Result<Reader> {
        Reader::open(&self.feed_info(name)?)
    }

    /// Closes the store. It holds nothing, so nothing can fail. Writers and readers stay open.
    pub fn close(self) {}
}

/// Removes a deleted feed's files in shared memory, if this process can reach them, and wakes the
/// followers.
fn remove_segments(registry: &FeedRegistry, base: &Path, id: &Identity, name: &str) -> Result<()> {
    let Some(segments) = registry.segments() else { return Ok(()) };
    let bell = WaitFile::open(&segments.wait_path(name), id);
    segments.remove_feed(base, id.store_id, name)?;
    if let Ok(bell) = bell {
        bell.wake();
    }
    Ok(())
}

/// Returns the text of a store's manifest.json.
pub(crate) fn manifest_text(store_id: [u8; 16]) -> String {
    let manifest = json!({
        "deepwater_version": env!("CARGO_PKG_VERSION"),
        "format_version": FORMAT_VERSION,
        "store_id": format!("{:032x}", u128::from_be_bytes(store_id)),
    });
    format!("{manifest}\n")
}

/// Whether a file in a feed's folder has the name of one of the feed's own files, other than the
/// table.
fn is_feed_file(name: &str) -> bool {
    let replaced = |name: &str| {
        let (stem, pid) = name.strip_prefix('.')?.rsplit_once('.')?;
        pid.bytes().all(|byte| byte.is_ascii_digit()).then(|| stem.to_owned())
    };
    let known = |name: &str| [SPEC_FILE, SPEC_COPY, "live"].contains(&name);
    ChunkPaths::id_of(name).is_some()
        || name.starts_with(".repair-")
        || known(name)
        || replaced(name).is_some_and(|stem| known(&stem) || stem == REGISTRY_FILE)
}

/// Removes a file, or a folder with its contents.
fn remove_any(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => file::remove_folder(path),
        _ => file::remove_file(path),
    }
}

/// Whether the deletion of a feed has begun, though the registry still names the feed.
fn is_deleted(feed: &FeedInfo) -> Result<bool> {
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, false);
    Ok(sound(registry.and_then(|registry| registry.is_deleted()))?.unwrap_or(false))
}

/// Creates all files of a feed in `folder`, durably.
fn build_feed(info: &FeedInfo, folder: &Path) -> Result<()> {
    let mode = info.spec.policy.file_mode;
    file::make_folder(folder, file::folder_mode(mode))?;
    let geometry: Geometry = info.geometry();
    let path = folder.join("feed_registry.bin");
    FeedRegistry::create(&path, &info.id, &geometry, info.created_us, mode)?;
    if info.spec.policy.persist {
        LivePage::create(&folder.join("live"), &info.id, mode)?;
    }
    info.save(folder)
}
