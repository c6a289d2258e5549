//! A model of a disk under a folder, fed by the log of I/O steps alone: every version that each
//! sector, size and name ever had in the page cache, and what syncs have made durable of them. From
//! it come crash images: what a power loss at some moment may have left.
//!
//! What it takes for granted is what FORMAT.md assumes of the media, and no more: a sector is
//! written whole or not at all; what was in the cache when a sync began that has ended is there, or
//! something later; a file's size is part of its sync, its name is not; names become durable by a
//! sync of their folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use deepwater::os::faults::{Op, Step, Verdict, Watch, Watcher, watch};

use crate::random::Random;

pub const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// A moment in a history.
pub type Time = u32;

/// Decides which steps are left out, as if the line were not in the code.
pub type LeaveOut = fn(&Step<'_>) -> bool;

/// The kinds of things that a crash may leave old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Data,
    Index,
    Registry,
    Live,
    Other,
    Names,
}

impl Part {
    pub const ALL: [Part; 6] =
        [Part::Data, Part::Index, Part::Registry, Part::Live, Part::Other, Part::Names];

    fn of(name: &str) -> Part {
        match name {
            _ if name.ends_with(".data") => Part::Data,
            _ if name.ends_with(".idx") => Part::Index,
            "feed_registry.bin" => Part::Registry,
            "live" => Part::Live,
            _ => Part::Other,
        }
    }
}

/// How an image chooses between older and newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// What was durable and nothing else.
    Oldest,
    /// All that was in the cache.
    Newest,
    /// Any version, for each sector, size and name by itself.
    Any,
    /// Contents as they were durable, under sizes and names as they were last: allocated extents
    /// that nothing was written to.
    Zeros,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
}

/// The versions of one thing, oldest first.
struct Versions<T>(Vec<(Time, T)>);

impl<T> Versions<T> {
    /// The version at a time, as a position.
    fn at(&self, time: Time) -> usize {
        self.0.partition_point(|(since, _)| *since <= time).saturating_sub(1)
    }

    fn choose(&self, durable: Time, crash: Time, choice: Choice, random: &mut Random) -> &T {
        let (old, new) = (self.at(durable), self.at(crash));
        let position = match choice {
            Choice::Oldest | Choice::Zeros => old,
            Choice::Newest => new,
            Choice::Any => old + random.below((new - old + 1) as u64) as usize,
        };
        &self.0[position].1
    }
}

struct FileHistory {
    file: File,
    /// The file is open, so no other has this.
    inode: u64,
    part: Part,
    cached: Vec<u8>,
    sizes: Versions<usize>,
    sectors: Vec<Versions<Arc<[u8]>>>,
    syncs: Syncs,
}

/// When each sync that has ended began, and when it ended.
#[derive(Default)]
struct Syncs(Vec<(Time, Time)>);

impl Syncs {
    /// Up to when changes are durable at a time.
    fn durable(&self, crash: Time) -> Time {
        self.0.iter().filter(|(_, end)| *end <= crash).map(|(began, _)| *began).max().unwrap_or(0)
    }
}

/// A name that was given or taken away.
struct NameChange {
    time: Time,
    name: String,
    node: Option<Node>,
    /// Changes of one rename have one number: a rename is done or not done.
    group: usize,
}

/// A rename from one folder into another: done in both or in none, and durable by a sync of either.
struct Move {
    group: usize,
    from: usize,
    into: usize,
}

#[derive(Default)]
struct FolderHistory {
    changes: Vec<NameChange>,
    syncs: Syncs,
}

impl FolderHistory {
    fn now(&self) -> BTreeMap<&str, Node> {
        let mut names = BTreeMap::new();
        for change in &self.changes {
            match change.node {
                Some(node) => names.insert(change.name.as_str(), node),
                None => names.remove(change.name.as_str()),
            };
        }
        names
    }
}

/// All that became of a folder since it was first looked at.
pub struct History {
    /// The disk's root, and that of shared memory, where there is one; with their folders.
    roots: Vec<(PathBuf, usize)>,
    now: Time,
    files: Vec<FileHistory>,
    folders: Vec<FolderHistory>,
    /// When syncs that are under way began, by the number of the step.
    began: HashMap<u64, Time>,
    groups: usize,
    /// Renames from one folder into another.
    moves: Vec<Move>,
    /// The number of the last point: each root's watch sees it.
    last_point: u64,
    /// What happened when, for whoever looks into a failure.
    pub steps: Vec<(Time, String)>,
}

/// Watches a folder and keeps its history.
pub struct Disk {
    history: Mutex<History>,
    leave_out: LeaveOut,
}

impl Disk {
    /// Begins with what is in `root`, all of it durable.
    pub fn watch(root: &Path, leave_out: LeaveOut) -> (Arc<Disk>, Watch) {
        let mut history = History {
            roots: vec![(root.to_owned(), 0)],
            now: 0,
            files: Vec::new(),
            folders: vec![FolderHistory::default()],
            began: HashMap::new(),
            groups: 0,
            moves: Vec::new(),
            last_point: 0,
            steps: Vec::new(),
        };
        history.take_in(root, 0);
        history.look();
        let time = history.now;
        history.files.iter_mut().for_each(|file| file.syncs.0.push((time, time)));
        history.folders.iter_mut().for_each(|folder| folder.syncs.0.push((time, time)));
        let disk = Arc::new(Disk { history: Mutex::new(history), leave_out });
        let watch = watch(root, Arc::clone(&disk) as Arc<dyn Watcher>);
        (disk, watch)
    }

    /// Watches a folder of shared memory too, with what is in it.
    pub fn watch_memory(self: &Arc<Disk>, root: &Path) -> Watch {
        let mut history = self.history();
        history.folders.push(FolderHistory::default());
        let folder = history.folders.len() - 1;
        history.roots.push((root.to_owned(), folder));
        history.take_in(root, folder);
        history.look();
        drop(history);
        watch(root, Arc::clone(self) as Arc<dyn Watcher>)
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A moment of its own, for what the test notes down.
    pub fn moment(&self) -> Time {
        let mut history = self.history();
        history.now += 1;
        history.now
    }
}

impl Watcher for Disk {
    fn before(&self, step: &Step<'_>) -> Verdict {
        let mut history = self.history();
        let seen = step.io.op == Op::Point && history.last_point == step.number;
        if seen || matches!(step.io.op, Op::Read | Op::Map) {
            return Verdict::Go;
        }
        if step.io.op == Op::Point {
            history.last_point = step.number;
        }
        history.look();
        let time = history.now;
        let text = match step.io.op {
            Op::Point => format!("{} {:?}", step.name, step.value),
            op => format!("{op:?} {} {} {}", step.io.path.display(), step.io.at, step.io.len),
        };
        history.steps.push((time, text));
        if (self.leave_out)(step) {
            return Verdict::Skip;
        }
        if matches!(step.io.op, Op::Sync | Op::SyncFolder) {
            history.began.insert(step.number, time);
        }
        Verdict::Go
    }

    fn after(&self, step: &Step<'_>, succeeded: bool) {
        let mut history = self.history();
        if !succeeded || matches!(step.io.op, Op::Read | Op::Map) {
            return;
        }
        history.now += 1;
        history.done(step);
        history.look();
    }
}

impl History {
    /// The last moment.
    pub fn now(&self) -> Time {
        self.now
    }

    fn take_in(&mut self, path: &Path, folder: usize) {
        for item in fs::read_dir(path).unwrap() {
            let item = item.unwrap();
            let name = item.file_name().into_string().unwrap();
            let node = if item.file_type().unwrap().is_dir() {
                self.folders.push(FolderHistory::default());
                let inner = self.folders.len() - 1;
                self.take_in(&item.path(), inner);
                Node::Folder(inner)
            } else {
                self.add_file(&item.path())
            };
            self.change(folder, &name, Some(node), None);
        }
    }

    /// A new file, or one that has got another name.
    fn add_file(&mut self, path: &Path) -> Node {
        let file = File::open(path).unwrap();
        let inode = file.metadata().unwrap().ino();
        if let Some(known) = self.files.iter().position(|file| file.inode == inode) {
            return Node::File(known);
        }
        self.files.push(FileHistory {
            file,
            inode,
            part: Part::of(path.file_name().unwrap().to_str().unwrap()),
            cached: Vec::new(),
            sizes: Versions(vec![(0, 0)]),
            sectors: Vec::new(),
            syncs: Syncs::default(),
        });
        Node::File(self.files.len() - 1)
    }

    fn change(&mut self, folder: usize, name: &str, node: Option<Node>, group: Option<usize>) {
        self.groups += 1;
        let group = group.unwrap_or(self.groups);
        let (time, name) = (self.now, name.to_owned());
        self.folders[folder].changes.push(NameChange { time, name, node, group });
    }

    /// The node that a path names now, and its folder.
    fn find(&self, path: &Path) -> (usize, Option<Node>) {
        let within =
            |(root, folder): &(PathBuf, usize)| Some((path.strip_prefix(root).ok()?, *folder));
        let (inner, root) = self.roots.iter().find_map(within).unwrap();
        let (mut folder, mut node) = (root, Some(Node::Folder(root)));
        for name in inner {
            let Some(Node::Folder(inner)) = node else { panic!("{}", path.display()) };
            folder = inner;
            node = self.folders[folder].now().get(name.to_str().unwrap()).copied();
        }
        (folder, node)
    }

    fn done(&mut self, step: &Step<'_>) {
        let path = step.io.path;
        let name_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        match step.io.op {
            Op::Create => {
                let (folder, None) = self.find(path) else { return };
                let node = self.add_file(path);
                self.change(folder, &name_of(path), Some(node), None);
            }
            Op::MakeFolder => {
                let (folder, None) = self.find(path) else { return };
                self.folders.push(FolderHistory::default());
                let node = Node::Folder(self.folders.len() - 1);
                self.change(folder, &name_of(path), Some(node), None);
            }
            Op::Remove => {
                let (folder, _) = self.find(path);
                self.change(folder, &name_of(path), None, None);
            }
            Op::Rename => {
                let (from, node) = self.find(path);
                let to = step.io.to.unwrap();
                let (into, _) = self.find(to);
                self.change(into, &name_of(to), node, None);
                let group = self.groups;
                if from != into {
                    self.moves.push(Move { group, from, into });
                }
                self.change(from, &name_of(path), None, Some(group));
            }
            Op::Sync | Op::SyncFolder => {
                let began = self.began.remove(&step.number).unwrap();
                let end = self.now;
                match self.find(path).1 {
                    Some(Node::File(file)) => self.files[file].syncs.0.push((began, end)),
                    Some(Node::Folder(folder)) => self.folders[folder].syncs.0.push((began, end)),
                    // Gone meanwhile.
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Looks what is in the page cache.
    fn look(&mut self) {
        self.now += 1;
        let time = self.now;
        let mut bytes = Vec::new();
        for file in &mut self.files {
            let size = file.file.metadata().unwrap().len() as usize;
            bytes.resize(size, 0);
            // It may be cut short meanwhile; then the next look sees that.
            let mut there = 0;
            while there < size {
                match file.file.read_at(&mut bytes[there..], there as u64).unwrap() {
                    0 => break,
                    n => there += n,
                }
            }
            bytes.truncate(there);
            file.note(time, &bytes);
        }
    }
}

impl FileHistory {
    fn note(&mut self, time: Time, bytes: &[u8]) {
        if self.cached == bytes {
            return;
        }
        if self.cached.len() != bytes.len() {
            self.sizes.0.push((time, bytes.len()));
        }
        // What lies behind a new end in its page is zeroed in the cache.
        let page_end = bytes.len().next_multiple_of(PAGE);
        let end = page_end.min(self.cached.len().max(bytes.len()));
        let zeros: Arc<[u8]> = vec![0; SECTOR].into();
        let count = end.div_ceil(SECTOR);
        while self.sectors.len() < count {
            self.sectors.push(Versions(vec![(0, Arc::clone(&zeros))]));
        }
        for (i, sector) in self.sectors.iter_mut().enumerate().take(count) {
            let at = i * SECTOR;
            let mut now = [0; SECTOR];
            let part = bytes.get(at..bytes.len().min(at + SECTOR)).unwrap_or_default();
            now[..part.len()].copy_from_slice(part);
            if *sector.0[sector.0.len() - 1].1 != now {
                sector.0.push((time, now.to_vec().into()));
            }
        }
        self.cached.clear();
        self.cached.extend_from_slice(bytes);
    }

    /// Contents after a crash.
    fn image(&self, crash: Time, choice: Choice, random: &mut Random) -> Vec<u8> {
        let durable = self.syncs.durable(crash);
        let size_choice = if choice == Choice::Zeros { Choice::Newest } else { choice };
        let size = *self.sizes.choose(durable, crash, size_choice, random);
        let mut bytes = Vec::with_capacity(size.next_multiple_of(SECTOR));
        for sector in self.sectors.iter().take(size.div_ceil(SECTOR)) {
            bytes.extend_from_slice(sector.choose(durable, crash, choice, random));
        }
        bytes.resize(size, 0);
        bytes
    }
}

/// How things go on after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// The machine starts again: nothing says that the files are those of the last session.
    Elsewhere,
    /// The device was gone and is back, in the same boot: each file is the one that it was, and
    /// what is in shared memory is there.
    SameBoot,
    /// The same, and shared memory was emptied.
    MemoryGone,
}

/// What a crash at a moment leaves.
pub struct Crash {
    /// How things go on.
    pub back: Back,
    /// The moment.
    pub time: Time,
    /// How each part chooses.
    pub choices: [Choice; Part::ALL.len()],
    /// For the single choices. The same seed chooses the same.
    pub seed: u64,
}

impl Crash {
    pub fn choice(&self, part: Part) -> Choice {
        self.choices[part as usize]
    }

    /// The same crash with one part as it was last.
    pub fn with_newest(&self, part: Part) -> Crash {
        let mut choices = self.choices;
        choices[part as usize] = Choice::Newest;
        Crash { choices, ..*self }
    }
}

impl History {
    /// Writes what the crash leaves into a new folder.
    pub fn write_image(&self, crash: &Crash, into: &Path) {
        fs::create_dir(into).unwrap();
        self.write_folder(0, crash, into);
    }

    /// Writes what is in shared memory at that moment into a folder that is there.
    pub fn write_memory(&self, time: Time, into: &Path) {
        let crash = Crash {
            back: Back::SameBoot,
            time,
            choices: Part::ALL.map(|_| Choice::Newest),
            seed: 0,
        };
        if let Some((_, folder)) = self.roots.get(1) {
            self.write_folder(*folder, &crash, into);
        }
    }

    fn write_folder(&self, folder: usize, crash: &Crash, into: &Path) {
        for (name, node) in self.names(folder, crash) {
            let path = into.join(name);
            match node {
                Node::Folder(inner) => {
                    fs::create_dir(&path).unwrap();
                    self.write_folder(inner, crash, &path);
                }
                Node::File(file) => {
                    let mut random = Random::new(crash.seed ^ (file as u64) << 32);
                    let file = &self.files[file];
                    let choice = crash.choice(file.part);
                    fs::write(path, file.image(crash.time, choice, &mut random)).unwrap();
                }
            }
        }
    }

    /// Whether a crash finds a rename from folder to folder done; true of any other change.
    fn is_moved(&self, change: &NameChange, crash: &Crash) -> bool {
        let Some(moved) = self.moves.iter().find(|moved| moved.group == change.group) else {
            return true;
        };
        let folders = [moved.from, moved.into].map(|folder| &self.folders[folder]);
        let synced = folders.iter().any(|folder| folder.syncs.durable(crash.time) >= change.time);
        synced
            || match crash.choice(Part::Names) {
                Choice::Oldest => false,
                Choice::Newest | Choice::Zeros => true,
                Choice::Any => Random::new(crash.seed ^ moved.group as u64).below(3) > 0,
            }
    }

    /// The names that a crash leaves in a folder.
    fn names(&self, folder: usize, crash: &Crash) -> BTreeMap<String, Node> {
        let history = &self.folders[folder];
        let durable = history.syncs.durable(crash.time);
        let mut random = Random::new(crash.seed ^ (folder as u64 + 1) << 48);
        let is_open = |change: &&NameChange| {
            let moved = self.moves.iter().find(|moved| moved.group == change.group);
            change.time > durable && change.time <= crash.time && moved.is_none()
        };
        let open: Vec<&NameChange> = history.changes.iter().filter(is_open).collect();
        let (all, in_order) = match crash.choice(Part::Names) {
            Choice::Oldest => (0, true),
            Choice::Newest | Choice::Zeros => (open.len(), true),
            // As a journal has them, or each name by itself.
            Choice::Any => (random.below(open.len() as u64 + 1) as usize, random.below(2) == 0),
        };
        let mut kept: HashMap<&str, bool> = HashMap::new();
        let mut names = BTreeMap::new();
        for change in history.changes.iter().filter(|c| c.time <= crash.time) {
            let position = open.iter().position(|o| std::ptr::eq(*o, change));
            let happens = match position {
                None => self.is_moved(change, crash),
                Some(i) if in_order => open[..all].iter().any(|o| o.group == open[i].group),
                // From the first one that did not happen on, none of that name does; a rename goes
                // by its new name.
                Some(i) => {
                    let first = open.iter().find(|o| o.group == open[i].group).unwrap();
                    let so_far = *kept.get(first.name.as_str()).unwrap_or(&true)
                        && *kept.get(change.name.as_str()).unwrap_or(&true);
                    let fate = Random::new(crash.seed ^ first.group as u64).below(3) > 0;
                    kept.insert(&change.name, so_far && fate);
                    so_far && fate
                }
            };
            if !happens {
                continue;
            }
            match change.node {
                Some(node) => names.insert(change.name.clone(), node),
                None => names.remove(&change.name),
            };
        }
        names
    }
}
