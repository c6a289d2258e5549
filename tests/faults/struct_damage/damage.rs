//! Damage along the structure of the files: words, entries, sectors, pages and whole files that
//! become zeros or what they were before; numbers that change and still check; chunk files that
//! change places.

use std::fs;
use std::os::unix::fs::FileExt;

use super::fields::{self, Field};
use super::history::History;
use super::image::{Image, Place, is_page, is_table};
use crate::random::Random;

/// One thing that happens to the files.
#[derive(Clone, Debug)]
pub enum Damage {
    /// Zeros.
    Zero { name: String, at: usize, len: usize },
    /// What was there in an older image.
    Old { name: String, at: usize, len: usize, image: usize },
    /// Bytes of another place of the file.
    Copy { name: String, from: usize, to: usize, len: usize },
    /// Two places of a file change their bytes.
    Swap { name: String, a: usize, b: usize, len: usize },
    /// A number changes, and its checksum with it.
    Number { name: String, field: Field, value: u64 },
    /// A bit is turned.
    Flip { name: String, at: usize, bit: u8 },
    /// A file is gone.
    Remove { name: String },
    /// A file ends earlier.
    Cut { name: String, len: usize },
    /// Whole files are as they were in an older image, or gone if they were not there.
    Restore { names: Vec<String>, image: usize },
    /// Two files change their names.
    Names { a: String, b: String },
    /// A file has a second name, over what may have it.
    Twice { from: String, to: String },
}

const FOLDER: &str = "base/feeds/t/";

/// The number of a chunk file and its ending.
fn chunk_of(name: &str) -> Option<(&str, &str)> {
    let file = name.rsplit('/').next()?;
    file.split_once('.').filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Where a chunk's data ends that is proven by a checksum: what lies behind in an open block nobody
/// can tell.
fn proven_bytes(image: &Image, name: &str) -> usize {
    let index = name.strip_suffix(".data").map(|stem| format!("{stem}.idx"));
    let Some(index) = index.and_then(|name| image.files.get(&name)) else { return usize::MAX };
    if index.len() < 4096 || fields::get(index, 1024, 8) > 0 {
        return usize::MAX;
    }
    let blocks = index[4096..].chunks_exact(32).take_while(|b| fields::get(b, 28, 4) == 1).count();
    let bytes = fields::get(index, 64, 4) * fields::get(index, 72, 4);
    blocks * bytes as usize
}

/// Chooses damage.
pub struct Chooser<'a> {
    history: &'a History,
    names: Vec<String>,
}

impl<'a> Chooser<'a> {
    /// For a store.
    pub fn new(history: &'a History) -> Chooser<'a> {
        let all = history.image.files.keys();
        let names = all.filter(|name| !name.contains("/locks/") && !name.contains("/quarantine/"));
        Chooser { history, names: names.cloned().collect() }
    }

    fn pick(&self, random: &mut Random, which: impl Fn(&str) -> bool) -> Option<String> {
        let fit: Vec<&String> = self.names.iter().filter(|name| which(name)).collect();
        (!fit.is_empty()).then(|| (*random.pick(&fit)).clone())
    }

    /// A file: most often the table.
    fn file(&self, random: &mut Random) -> Option<String> {
        match random.below(20) {
            0..=7 => self.pick(random, is_table),
            8..=10 => self.pick(random, is_page),
            11..=14 => self.pick(random, |name| name.ends_with(".idx")),
            15..=17 => self.pick(random, |name| name.ends_with(".data")),
            _ => self.pick(random, |_| true),
        }
    }

    /// One damage; none where what was chosen is not there.
    pub fn choose(&self, random: &mut Random) -> Option<Damage> {
        match random.below(20) {
            0..=3 => self.zero(random),
            4..=7 => self.old(random),
            8..=12 => self.number(random),
            13 => self.shuffle(random),
            14 => self.flip(random),
            _ => self.files(random),
        }
    }

    /// A length that media and caches know, and a place for it in a file: where there is something.
    fn unit(&self, random: &mut Random, name: &str, bytes: &[u8]) -> Option<(usize, usize)> {
        let entry = if is_table(name) { 128 } else { 32 };
        let len = *random.pick(&[8, 8, entry, 512, 512, 4096]);
        let len = len.min(bytes.len());
        let used: Vec<usize> = (0..bytes.len() / len.max(1))
            .map(|i| i * len)
            .filter(|at| bytes[*at..at + len].iter().any(|b| *b != 0))
            .collect();
        let at = *used.get(random.below(used.len().max(1) as u64) as usize)?;
        self.can_tell(name, at, len).then_some((at, len))
    }

    /// Whether damage there can be told at all: of a record that has no checksum yet, only what
    /// makes zeros of all of it.
    fn can_tell(&self, name: &str, at: usize, len: usize) -> bool {
        let whole = len >= 4096 && self.history.model.size <= 1024;
        !name.ends_with(".data") || whole || at + len <= proven_bytes(&self.history.image, name)
    }

    fn zero(&self, random: &mut Random) -> Option<Damage> {
        let name = self.file(random)?;
        let (at, len) = self.unit(random, &name, &self.history.image.files[&name])?;
        // Several sectors, as a page or an erase block has them.
        let more = if len == 512 { 1 + random.below(8) as usize } else { 1 };
        let len = (len * more).min(self.history.image.files[&name].len() - at);
        self.can_tell(&name, at, len).then_some(Damage::Zero { name, at, len })
    }

    fn old(&self, random: &mut Random) -> Option<Damage> {
        let name = self.file(random)?;
        let image = random.below(self.history.older.len() as u64) as usize;
        let old = self.history.older[image].files.get(&name)?;
        let now = &self.history.image.files[&name];
        let entry = if is_table(&name) { 128 } else { 32 };
        let len = *random.pick(&[8, entry, entry, 512, 4096]);
        let differ: Vec<usize> = (0..old.len().min(now.len()) / len)
            .map(|i| i * len)
            .filter(|at| old[*at..at + len] != now[*at..at + len])
            .collect();
        let at = *differ.get(random.below(differ.len().max(1) as u64) as usize)?;
        self.can_tell(&name, at, len).then_some(Damage::Old { name, at, len, image })
    }

    fn number(&self, random: &mut Random) -> Option<Damage> {
        let name = self.file(random)?;
        let bytes = &self.history.image.files[&name];
        let all = fields::fields(&name, bytes);
        if all.is_empty() {
            return None;
        }
        let field = *all.get(random.below(all.len().max(1) as u64) as usize)?;
        let is = fields::value(bytes, &field);
        let other = fields::value(bytes, random.pick(&all[..]));
        let value = match random.below(12) {
            0 => 0,
            1 => 1,
            2 => is.wrapping_add(1),
            3 => is.wrapping_sub(1),
            4 => is.wrapping_add(1 + random.below(2000)),
            5 => is.wrapping_sub(1 + random.below(2000)),
            6 => is.wrapping_mul(2),
            7 => u64::MAX,
            8 => (1 << 47) + random.below(1000),
            9 => is ^ 1 << random.below(48),
            _ => other,
        };
        let same = value == is || fields::is_plausible_end(&name, &field, value);
        (!same).then_some(Damage::Number { name, field, value })
    }

    fn shuffle(&self, random: &mut Random) -> Option<Damage> {
        let name = self.file(random)?;
        let bytes = &self.history.image.files[&name];
        let (a, len) = self.unit(random, &name, bytes)?;
        let (b, _) = self.unit(random, &name, bytes)?;
        let b = b / len * len;
        if a == b || !self.can_tell(&name, b, len) || name.ends_with(".data") {
            return None;
        }
        Some(match random.below(2) {
            0 => Damage::Copy { name, from: a, to: b, len },
            _ => Damage::Swap { name, a, b, len },
        })
    }

    fn flip(&self, random: &mut Random) -> Option<Damage> {
        let name = self.file(random)?;
        let (at, _) = self.unit(random, &name, &self.history.image.files[&name])?;
        let at = at + random.below(8) as usize;
        let bit = random.below(8) as u8;
        (at < self.history.image.files[&name].len()).then_some(Damage::Flip { name, at, bit })
    }

    fn files(&self, random: &mut Random) -> Option<Damage> {
        let chunk = |name: &str| chunk_of(name).is_some();
        match random.below(8) {
            0 => Some(Damage::Remove { name: self.pick(random, |n| n.starts_with(FOLDER))? }),
            1 => {
                let name = self.pick(random, |n| n.starts_with(FOLDER))?;
                let len = self.history.image.files[&name].len();
                let len = random.below(len as u64 + 1) as usize / 512 * 512;
                Some(Damage::Cut { name, len })
            }
            2 => {
                let a = self.pick(random, chunk)?;
                let ending = chunk_of(&a)?.1.to_owned();
                let b = self.pick(random, |n| chunk_of(n).is_some_and(|c| c.1 == ending))?;
                (a != b).then_some(Damage::Names { a, b })
            }
            3 => {
                let from = self.pick(random, chunk)?;
                let (number, ending) = chunk_of(&from)?;
                let number: u64 = number.parse().ok()?;
                let number = number + 1 + random.below(8);
                let to = format!("{FOLDER}{number:08}.{ending}");
                Some(Damage::Twice { from, to })
            }
            _ => self.restore(random),
        }
    }

    /// Files of an older image come back: one, the table, the pages, a chunk, all but the chunks.
    fn restore(&self, random: &mut Random) -> Option<Damage> {
        let image = random.below(self.history.older.len() as u64) as usize;
        let old = &self.history.older[image];
        let small = |n: &String| n.starts_with(FOLDER) && chunk_of(n).is_none();
        let names: Vec<String> = match random.below(6) {
            0 | 1 => vec![format!("{FOLDER}feed_registry.bin")],
            2 => vec![format!("{FOLDER}live")],
            3 => old.files.keys().filter(|n| small(n)).cloned().collect(),
            4 => {
                let all: Vec<&String> =
                    old.files.keys().filter(|n| n.starts_with(FOLDER)).collect();
                vec![(*random.pick(&all)).clone()]
            }
            // A chunk that was collected or repaired comes back.
            _ => {
                let gone = old.files.keys().filter(|n| !self.history.image.files.contains_key(*n));
                let gone: Vec<&String> = gone.filter(|n| chunk_of(n).is_some()).collect();
                let name = *gone.get(random.below(gone.len().max(1) as u64) as usize)?;
                let stem = name.rsplit_once('.')?.0.to_owned();
                let both = [format!("{stem}.data"), format!("{stem}.idx")];
                both.into_iter().filter(|n| old.files.contains_key(n)).collect()
            }
        };
        Some(Damage::Restore { names, image })
    }
}

impl Damage {
    /// Whether it touches such a file.
    pub fn touches(&self, which: impl Fn(&str) -> bool) -> bool {
        match self {
            Damage::Zero { name, .. }
            | Damage::Old { name, .. }
            | Damage::Copy { name, .. }
            | Damage::Swap { name, .. }
            | Damage::Number { name, .. }
            | Damage::Flip { name, .. }
            | Damage::Remove { name }
            | Damage::Cut { name, .. } => which(name),
            Damage::Restore { names, .. } => names.iter().any(|name| which(name)),
            Damage::Names { a, b } => which(a) || which(b),
            Damage::Twice { to, .. } => which(to),
        }
    }

    /// Does it to a store; nothing where the file is not there any more.
    pub fn strike(&self, history: &History, place: &Place) {
        let _ = self.try_strike(history, place);
    }

    fn try_strike(&self, history: &History, place: &Place) -> std::io::Result<()> {
        let open = |name: &str| fs::File::options().read(true).write(true).open(place.path(name));
        let get = |file: &fs::File, at: usize, len: usize| {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at as u64).map(|()| bytes)
        };
        match self {
            Damage::Zero { name, at, len } => {
                let file = open(name)?;
                get(&file, *at, *len)?;
                file.write_all_at(&vec![0; *len], *at as u64)?;
            }
            Damage::Old { name, at, len, image } => {
                let old = history.older[*image].bytes_for(name, place).unwrap_or_default();
                open(name)?.write_all_at(&old[*at..at + len], *at as u64)?;
            }
            Damage::Copy { name, from, to, len } => {
                let file = open(name)?;
                file.write_all_at(&get(&file, *from, *len)?, *to as u64)?;
            }
            Damage::Swap { name, a, b, len } => {
                let file = open(name)?;
                let (first, second) = (get(&file, *a, *len)?, get(&file, *b, *len)?);
                file.write_all_at(&first, *b as u64)?;
                file.write_all_at(&second, *a as u64)?;
            }
            Damage::Number { name, field, value } => {
                let mut bytes = fs::read(place.path(name))?;
                if fields::fields(name, &bytes).contains(field) {
                    fields::change(&mut bytes, field, *value);
                    open(name)?.write_all_at(&bytes, 0)?;
                }
            }
            Damage::Flip { name, at, bit } => {
                let file = open(name)?;
                let byte = get(&file, *at, 1)?[0];
                file.write_all_at(&[byte ^ 1 << bit], *at as u64)?;
            }
            Damage::Remove { name } => fs::remove_file(place.path(name))?,
            Damage::Cut { name, len } => {
                let file = open(name)?;
                file.set_len(file.metadata()?.len().min(*len as u64))?;
            }
            Damage::Restore { names, image } => {
                names.iter().for_each(|name| history.older[*image].put_file(name, place));
            }
            Damage::Names { a, b } => {
                let aside = place.base.join("aside");
                fs::rename(place.path(a), &aside)?;
                fs::rename(place.path(b), place.path(a))?;
                fs::rename(&aside, place.path(b))?;
            }
            Damage::Twice { from, to } => {
                fs::copy(place.path(from), place.path(to))?;
            }
        }
        Ok(())
    }
}
