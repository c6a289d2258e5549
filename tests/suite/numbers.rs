//! Numbers that no file can hold, under checksums that hold: in every file and every field that
//! sizes, places and seqs are computed from. No tool panics, hangs or takes memory for them, and
//! what is wrong is named.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::env::TestEnv;
use super::kit::{Running, run, text, until};

const HUGE: [u64; 6] = [1 << 63, u64::MAX, 1 << 60, (1 << 48) - 1, 1 << 40, 1 << 33];
const TABLE: &str = "feed_registry.bin";
const ENTRIES_AT: usize = 4096;
const ENTRY: usize = 128;
/// What a tool may take of address space: maps of a chunk and its index are a part of it.
const MEMORY: &str = "--as=2147483648";
/// All values in all fields, under both boots, where this is set; else a part of them.
const ALL: &str = "DEEPWATER_ALL_NUMBERS";

const CHUNK: u32 = 1;
const SESSION: u32 = 2;
const RANGE: u32 = 3;

/// CRC-32C, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 }
        })
    })
}

fn guarded(value: u64) -> u64 {
    let value = value & ((1 << 48) - 1);
    value | u64::from(crc(&value.to_le_bytes()) as u16) << 48
}

/// The bytes of a file, changed in place and written back to the same file.
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn put(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn put_half(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Stores the checksum over some bytes at `at`.
    fn sum(&mut self, from: usize, to: usize, at: usize) {
        let sum = crc(&self.0[from..to]);
        self.put_half(at, sum);
    }

    /// Where the entries of one kind begin.
    fn entries(&self, kind: u32) -> Vec<usize> {
        let count = (self.u64(512) & ((1 << 48) - 1)) as usize;
        let all = (0..count).map(|i| ENTRIES_AT + i * ENTRY);
        all.filter(|&at| self.u32(at) == kind).collect()
    }

    /// Computes both checksums of an entry again.
    fn sum_entry(&mut self, at: usize) {
        let fixed = [&self.0[at..at + 4], &self.0[at + 8..at + 64]].concat();
        self.put_half(at + 4, crc(&fixed));
        if self.u32(at) != RANGE {
            self.sum(at + 64, at + 108, at + 108);
        }
    }
}

fn change(path: &Path, how: impl FnOnce(&mut Bytes)) {
    let mut bytes = Bytes(fs::read(path).expect("a file"));
    how(&mut bytes);
    let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(&bytes.0, 0).expect("a write");
}

/// A field, and how it gets an impossible value.
struct Field {
    name: &'static str,
    /// What names it where the value cannot be.
    file: &'static str,
    set: fn(&Path, u64),
}

fn in_table(folder: &Path, kind: u32, field: usize, value: u64) {
    change(&folder.join(TABLE), |table| {
        for at in table.entries(kind) {
            // An open chunk's sealed part has no sum.
            let sealed = kind != CHUNK || table.u32(at + 104) != 0;
            if sealed || field < 64 {
                table.put(at + field, value);
                table.sum_entry(at);
            }
        }
    });
}

fn in_checkpoints(folder: &Path, field: usize, value: u64) {
    change(&folder.join(TABLE), |table| {
        for slot in [2048, 2560] {
            if table.u64(slot) != 0 {
                table.put(slot + field, value);
                table.put_half(slot + 56, u32::MAX);
                table.sum(slot, slot + 508, slot + 508);
            }
        }
    });
}

fn set_lease(folder: &Path, value: u64) {
    change(&folder.join(TABLE), |table| {
        for at in [1024, 1040] {
            table.put(at, value);
            table.sum(at, at + 8, at + 8);
        }
    });
}

fn add_range(folder: &Path, value: u64) {
    change(&folder.join(TABLE), |table| {
        let count = table.u64(512) & ((1 << 48) - 1);
        let at = ENTRIES_AT + count as usize * ENTRY;
        table.0[at..at + ENTRY].fill(0);
        table.put_half(at, RANGE);
        for (i, word) in [5, value, 1].into_iter().enumerate() {
            table.put(at + 8 + i * 8, word);
        }
        table.put_half(at + 40, 2);
        table.sum_entry(at);
        table.put(512, guarded(count + 1));
    });
}

fn indexes(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).expect("a folder").flatten().map(|item| item.path());
    listing.filter(|path| path.extension().is_some_and(|e| e == "idx")).collect()
}

fn set_capacity(folder: &Path, value: u64) {
    for path in indexes(folder) {
        change(&path, |index| {
            let blocks = value as u32;
            index.put_half(76, blocks);
            index.put(80, (4096 + u64::from(blocks) * 32).next_multiple_of(4096));
            index.sum(0, 124, 124);
        });
    }
}

fn set_marks(folder: &Path, value: u64) {
    indexes(folder).iter().for_each(|path| change(path, |index| index.put(512, value)));
}

fn set_published(folder: &Path, value: u64) {
    change(&folder.join("live"), |page| {
        page.put(320, value);
        page.put(328, guarded(value));
        page.put(336, guarded(value));
    });
}

const FIELDS: [Field; 16] = [
    Field { name: "chunk number", file: TABLE, set: |f, v| in_table(f, CHUNK, 8, v) },
    Field { name: "chunk base", file: TABLE, set: |f, v| in_table(f, CHUNK, 16, v) },
    Field { name: "chunk session", file: TABLE, set: |f, v| in_table(f, CHUNK, 24, v) },
    Field { name: "sealed count", file: TABLE, set: |f, v| in_table(f, CHUNK, 64, v) },
    Field { name: "sealed marks", file: TABLE, set: |f, v| in_table(f, CHUNK, 96, v) },
    Field { name: "session number", file: TABLE, set: |f, v| in_table(f, SESSION, 8, v) },
    Field { name: "session base", file: TABLE, set: |f, v| in_table(f, SESSION, 16, v) },
    Field { name: "session end", file: TABLE, set: |f, v| in_table(f, SESSION, 64, v) },
    Field { name: "range", file: TABLE, set: add_range },
    Field { name: "checkpoint", file: TABLE, set: |f, v| in_checkpoints(f, 32, v) },
    Field { name: "checkpoint's base", file: TABLE, set: |f, v| in_checkpoints(f, 48, v) },
    Field { name: "lease", file: TABLE, set: set_lease },
    Field {
        name: "first entry",
        file: TABLE,
        set: |f, v| change(&f.join(TABLE), |table| table.put(520, guarded(v))),
    },
    Field { name: "capacity", file: ".idx", set: set_capacity },
    Field { name: "marks", file: ".idx", set: set_marks },
    Field { name: "published", file: "live", set: set_published },
];

/// A store with a feed of sealed chunks and a writer that was killed, and the files as it left
/// them.
struct Store {
    env: TestEnv,
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn rows(from: u64, to: u64) -> Vec<u8> {
    (from..to)
        .flat_map(|n| [1_700_000_000_000_000 + n, n + 1].map(u64::to_le_bytes).concat())
        .collect()
}

impl Store {
    fn new(options: &[&str]) -> Store {
        let env = TestEnv::new();
        let feed = [&["t", "ts:uint64", "n:uint64"], options].concat();
        assert!(run(&env, "dw-mkfeed", &feed, b"").status.success());
        let write = ["t", "--format", "raw"];
        let written = 6000;
        assert!(run(&env, "dw-write", &write, &rows(0, written)).status.success());
        // A ring is never on disk.
        let ring = options.iter().any(|option| option.starts_with("--ring"));
        let sync: &[&str] = if ring { &[] } else { &["--sync", "50ms"] };
        let mut left = Running::start(&env, &[&write, sync].concat());
        left.send_bytes(&rows(written, written + 1000));
        let is_there = || {
            let read = run(&env, "dw-cat", &["t", "-n", "1"], b"");
            text(&read.stdout).contains(&format!("\"n\":{}", written + 1000)).then_some(())
        };
        until("the rows of the writer", is_there);
        left.child.kill().expect("a process");
        left.child.wait().expect("a process");
        let folder = env.base().join("feeds/t");
        let listing = fs::read_dir(&folder).expect("a folder").flatten().map(|item| item.path());
        let files = listing.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect();
        Store { env, folder, files }
    }

    /// Puts the files back as they were, each with its inode: the live page is believed by it.
    fn restore(&self) {
        for item in fs::read_dir(&self.folder).expect("a folder").flatten() {
            if !self.files.iter().any(|(path, _)| *path == item.path()) {
                fs::remove_file(item.path()).expect("a file");
            }
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes).expect("a write");
        }
    }

    /// Runs a tool with little memory and little time; its exit code and what it said.
    fn tool(&self, case: &str, args: &[&str], other_boot: bool) -> (i32, String) {
        let mut command = self.env.program("prlimit");
        command.args([MEMORY, "--"]).args(args).write_stdin(rows(9000, 9001));
        if other_boot {
            command.env("DEEPWATER_BOOT_ID", "other");
        }
        let output = command.timeout(Duration::from_secs(10)).output().expect("prlimit starts");
        let said = text(&output.stderr);
        let code = output.status.code();
        // Of `timeout`, these say that the follower had to be ended.
        let follows = args[0] == "timeout" && matches!(code, Some(124 | 130));
        assert!(
            follows || matches!(code, Some(0..=2)),
            "{case}: {args:?}, other boot {other_boot}: {}: {said}",
            output.status
        );
        assert!(!said.contains("panicked"), "{case}: {args:?}: {said}");
        (code.unwrap_or(2), said)
    }
}

const READERS: [&[&str]; 10] = [
    &["dw-cat", "t"],
    &["dw-cat", "t", "-r", "-n", "3"],
    &["dw-cat", "t", "--since", "@1700000000.001", "--until", "@1700000001"],
    &["dw-cat", "t", "--playback"],
    &["dw-ls"],
    &["dw-ls", "--chunks"],
    &["dw-ls", "--gaps"],
    &["dw-health", "--min-free", "1MiB"],
    &["dw-gc", "--dry-run"],
    &["dw-repair", "--all", "--dry-run"],
];
const FOLLOWER: &[&str] = &["timeout", "-s", "INT", "0.3", "dw-cat", "t", "-f", "--since", "@0"];

#[test]
fn no_tool_believes_a_number_that_a_file_cannot_hold() {
    let store = Store::new(&["--chunk-size=64KiB"]);
    let all = std::env::var_os(ALL).is_some();
    for (i, field) in FIELDS.iter().enumerate() {
        for (j, value) in HUGE.into_iter().enumerate() {
            // Each field with two values, each value in some fields.
            if !all && (i + j) % HUGE.len() >= 2 {
                continue;
            }
            for other_boot in [false, true] {
                check(&store, field, value, other_boot, all || i % 4 == 0);
            }
        }
    }
}

fn check(store: &Store, field: &Field, value: u64, other_boot: bool, follow: bool) {
    let case = format!("{} {value:#x}", field.name);
    let damage = || {
        store.restore();
        (field.set)(&store.folder, value);
    };
    damage();
    let readers = READERS.into_iter().chain(follow.then_some(FOLLOWER));
    let answers: Vec<(i32, String)> =
        readers.map(|args| store.tool(&case, args, other_boot)).collect();
    // A page of another boot is not looked at, and marks have no sum before their chunk is sealed.
    let always = !matches!(field.name, "published" | "marks" | "first entry");
    if always && value >= 1 << 60 {
        // Where a writer's page is believed, readers need no checkpoint and no lease.
        let spare = matches!(field.name, "checkpoint" | "checkpoint's base" | "lease");
        let named =
            |(code, said): &(i32, String)| *code > 0 && (spare || said.contains(field.file));
        assert!(answers.iter().any(named), "{case} is named by nobody: {answers:?}");
    }
    damage();
    store.tool(&case, &["dw-write", "t", "--format", "raw"], other_boot);
    damage();
    store.tool(&case, &["dw-repair", "--all"], other_boot);
    store.tool(&case, &["dw-cat", "t"], other_boot);
}

#[test]
fn no_tool_believes_a_number_that_a_ring_cannot_hold() {
    let store = Store::new(&["--ring=64KiB"]);
    let found = store.env.sh("find \"$DEEPWATER_SHM\" -name t.ring");
    let path = PathBuf::from(text(&found.stdout).trim());
    let whole = fs::read(&path).expect("a ring");
    for value in HUGE.into_iter().chain([0, 1]) {
        for at in [320, 1032, 1048, 1152] {
            let damage = || {
                store.restore();
                fs::write(&path, &whole).expect("a write");
                change(&path, |ring| {
                    ring.put(at, value);
                    ring.sum(1024, 1088, 1088);
                });
            };
            let case = format!("byte {at} of a ring {value:#x}");
            damage();
            for args in [READERS[0], READERS[1], READERS[4], READERS[7], FOLLOWER] {
                store.tool(&case, args, false);
            }
            store.tool(&case, &["dw-write", "t", "--format", "raw"], false);
        }
    }
}

/// A ring that nobody writes to, changed while a follower waits at its end.
#[test]
fn a_ring_whose_numbers_go_wrong_under_a_follower_is_named() {
    for (at, value) in [
        (320, u64::MAX),
        (320, 1 << 47),
        (320, 7500),
        (320, 3),
        (320, 0),
        (1152, u64::MAX),
        (1152, 1 << 40),
    ] {
        let store = Store::new(&["--ring=64KiB"]);
        let found = store.env.sh("find \"$DEEPWATER_SHM\" -name t.ring");
        let path = PathBuf::from(text(&found.stdout).trim());
        let args = ["t", "-f", "--since", "@0", "-o", "csv", "--no-header"];
        let follower = Running::tool(&store.env, "dw-cat", &args);
        follower.until_lines(3000);
        change(&path, |ring| ring.put(at, value));
        // Where only what is reserved is wrong, nothing is looked at before there is news.
        if at == 1152 {
            change(&path, |ring| ring.put(320, 7001));
        }
        let case = format!("byte {at} of a ring {value:#x}");
        let (status, out, said) = follower.end();
        assert_eq!(status.code(), Some(2), "{case}: {said}");
        assert!(said.contains("t.ring") && said.contains("damaged"), "{case}: {said}");
        assert!(out.lines().count() <= 7000, "{case}: records that were never written");
    }
}

#[test]
fn no_tool_believes_a_number_of_feeds_that_the_list_cannot_hold() {
    let store = Store::new(&[]);
    let path = store.env.base().join("registry.bin");
    let whole = fs::read(&path).expect("a list of feeds");
    for count in [0, 2, 1 << 20, 1 << 25, 1 << 31, u32::MAX] {
        let damage = || {
            fs::write(&path, &whole).expect("a write");
            change(&path, |list| {
                list.put_half(12, count);
                list.sum(0, 120, 120);
            });
        };
        let case = format!("{count} feeds");
        damage();
        for args in READERS {
            let (code, said) = store.tool(&case, args, false);
            // dw-health says it on its output.
            let named = args[0] == "dw-health" || said.contains("registry.bin");
            assert!(code > 0 && named, "{case}: {args:?}: {code}: {said}");
        }
        store.tool(&case, &["dw-write", "t", "--format", "raw"], false);
        damage();
        let repaired = store.tool(&case, &["dw-repair", "--rebuild-registry"], false);
        let read = store.tool(&case, &["dw-cat", "t"], false);
        assert_eq!(read.0, 0, "{case}: {repaired:?}, then {read:?}");
    }
}

/// The note of where a feed's shared memory is: two slots, each under a checksum.
#[test]
fn no_tool_believes_a_number_that_a_note_of_shared_memory_cannot_hold() {
    // Session, segment, device, kind, length of the path.
    let fields: [(usize, usize); 5] = [(0, 8), (8, 8), (16, 8), (40, 4), (44, 4)];
    for options in [["--ring=64KiB"], ["--stage=shm"], ["--chunk-size=64KiB"]] {
        let store = Store::new(&options);
        for (i, (field, size)) in fields.into_iter().enumerate() {
            for (j, value) in HUGE.into_iter().enumerate() {
                if (i + j) % 3 > 0 && std::env::var_os(ALL).is_none() {
                    continue;
                }
                let case = format!("{options:?}: byte {field} of a note {value:#x}");
                store.restore();
                change(&store.folder.join(TABLE), |table| {
                    for slot in [3072, 3584] {
                        if table.u64(slot + 8) == 0 {
                            continue;
                        }
                        match size {
                            8 => table.put(slot + field, value),
                            _ => table.put_half(slot + field, (value >> 32) as u32 | value as u32),
                        }
                        table.sum(slot, slot + 508, slot + 508);
                    }
                });
                for args in READERS {
                    store.tool(&case, args, false);
                }
                // The next writer notes another, which counts.
                let wrote = store.tool(&case, &["dw-write", "t", "--format", "raw"], false);
                let read = store.tool(&case, &["dw-cat", "t", "-n", "1"], false);
                if wrote.0 == 0 {
                    assert_eq!(read.0, 0, "{case}: {wrote:?}, then {read:?}");
                }
            }
        }
    }
}

/// An index whose seal, or whose count of marks, speaks of gigabytes that a sparse file has.
#[test]
fn no_tool_takes_memory_for_marks_that_nobody_stored() {
    let store = Store::new(&["--chunk-size=64KiB"]);
    for (sealed, case) in [(true, "sealed"), (false, "open")] {
        store.restore();
        for path in indexes(&store.folder) {
            let file = fs::OpenOptions::new().write(true).open(&path).expect("an index");
            change(&path, |index| {
                let is_sealed = index.u64(1024) > 0;
                if is_sealed == sealed {
                    // As many as the chunk can have records, and the file has room for.
                    let capacity = u64::from(index.u32(76)) * u64::from(index.u32(72));
                    index.put(512, capacity);
                    if sealed {
                        index.put(1024 + 24, capacity);
                        index.sum(1024, 1024 + 48, 1024 + 48);
                    }
                }
            });
            file.set_len(3 << 30).expect("a sparse file");
        }
        for args in READERS {
            store.tool(case, args, false);
        }
        store.tool(case, &["dw-repair", "--all"], false);
        assert_eq!(store.tool(case, &["dw-cat", "t"], false).0, 0, "{case}");
    }
}
