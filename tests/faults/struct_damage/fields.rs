//! The numbers of each file and the checksums over them, as core/FORMAT.md has them: so that a
//! number can be changed and still check.

use deepwater::checksum::{crc, guard, unguard};

use super::image::{is_page, is_table};

/// What vouches for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Nothing.
    None,
    /// The word's own upper bits.
    Guard,
    /// A CRC over a range of bytes, at an offset.
    Crc { from: usize, to: usize, at: usize },
    /// The CRC of a table's entry that begins there.
    Entry(usize),
    /// The CRC of an index's block entry that begins there, of that block and that many records.
    Block { start: usize, number: u32, count: u32 },
    /// The words of a live page that say what `published` says.
    Published,
    /// The checksum of feed.json.
    Text,
}

/// A number in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its offset.
    pub at: usize,
    /// Its size in bytes: 4 or 8; of a text: its digits.
    pub size: usize,
    /// What vouches for it.
    pub sum: Sum,
}

/// A little-endian number.
pub fn get(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

/// Stores a little-endian number.
pub fn put(bytes: &mut [u8], at: usize, size: usize, value: u64) {
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

fn words(from: usize, to: usize, size: usize, sum: Sum) -> impl Iterator<Item = Field> {
    (from..to).step_by(size).map(move |at| Field { at, size, sum })
}

/// The numbers of a file that may be changed.
pub fn fields(name: &str, bytes: &[u8]) -> Vec<Field> {
    let mut found = if is_table(name) {
        table(bytes)
    } else if is_page(name) {
        page()
    } else if name.ends_with(".idx") {
        index(bytes)
    } else if name.ends_with("registry.bin") {
        registry(bytes)
    } else if name.ends_with(".json") {
        text(bytes)
    } else {
        Vec::new()
    };
    found.retain(|field| field.at + field.size <= bytes.len());
    found
}

fn table(bytes: &[u8]) -> Vec<Field> {
    let mut found: Vec<Field> = words(32, 76, 4, Sum::Crc { from: 0, to: 124, at: 124 }).collect();
    // Not `deleted`: a feed that is marked deleted is one.
    for at in [512, 520, 600] {
        found.extend([Field { at, size: 8, sum: Sum::Guard }; 4]);
    }
    for at in [1024, 1040] {
        let sum = Sum::Crc { from: at, to: at + 8, at: at + 8 };
        found.extend([Field { at, size: 8, sum }; 3]);
    }
    for slot in [2048, 2560] {
        let sum = Sum::Crc { from: slot, to: slot + 508, at: slot + 508 };
        found.extend(words(slot, slot + 16, 8, sum).chain(words(slot + 32, slot + 56, 8, sum)));
        found.extend(words(slot + 56, slot + 64, 4, sum));
        found.extend(words(slot + 64, slot + 80, 8, sum));
    }
    for slot in [3072, 3584] {
        let sum = Sum::Crc { from: slot, to: slot + 508, at: slot + 508 };
        found.extend(words(slot, slot + 24, 8, sum));
        found.push(Field { at: slot + 40, size: 4, sum });
    }
    let count = bytes.get(512..520).and_then(|word| unguard(get(word, 0, 8))).unwrap_or(0);
    for start in
        (0..count as usize).map(|i| 4096 + i * 128).take_while(|at| at + 128 <= bytes.len())
    {
        let kind = get(bytes, start, 4);
        found.extend(words(start + 8, start + 64, 8, Sum::Entry(start)));
        if kind == 1 || kind == 2 {
            let sum = Sum::Crc { from: start + 64, to: start + 108, at: start + 108 };
            found.extend(words(start + 64, start + 104, 8, sum));
            found.push(Field { at: start + 104, size: 4, sum });
            found.push(Field { at: start + 112, size: 8, sum: Sum::Guard });
        }
    }
    found
}

fn page() -> Vec<Field> {
    let mut found: Vec<Field> = words(16, 48, 8, Sum::Crc { from: 0, to: 124, at: 124 }).collect();
    for stamp in [128, 1536] {
        let sum = Sum::Crc { from: stamp, to: stamp + 64, at: stamp + 64 };
        found.extend(words(stamp, stamp + 64, 8, sum));
    }
    found.extend([Field { at: 256, size: 8, sum: Sum::Guard }; 2]);
    found.extend([Field { at: 320, size: 8, sum: Sum::Published }; 6]);
    found.extend(words(448, 504, 8, Sum::None));
    found.push(Field { at: 768, size: 8, sum: Sum::None });
    found
}

fn index(bytes: &[u8]) -> Vec<Field> {
    let mut found: Vec<Field> = words(32, 104, 4, Sum::Crc { from: 0, to: 124, at: 124 }).collect();
    found.push(Field { at: 512, size: 8, sum: Sum::None });
    let seal = Sum::Crc { from: 1024, to: 1072, at: 1072 };
    found.extend(words(1024, 1064, 8, seal).chain(words(1064, 1072, 4, seal)));
    if bytes.len() < 4096 {
        return found;
    }
    let (per_block, sealed) = (get(bytes, 72, 4), get(bytes, 1024, 8));
    for number in 0..get(bytes, 76, 4).min(8) {
        let start = 4096 + number as usize * 32;
        let before = number * per_block;
        let whole = before + per_block;
        let end = if sealed > 0 { sealed.min(whole) } else { whole };
        let count = end.saturating_sub(before);
        let sum = Sum::Block { start, number: number as u32, count: count as u32 };
        found.extend(words(start, start + 16, 8, sum).chain(words(start + 16, start + 24, 4, sum)));
        found.push(Field { at: start + 28, size: 4, sum: Sum::None });
    }
    found
}

fn registry(bytes: &[u8]) -> Vec<Field> {
    let header = Sum::Crc { from: 0, to: 120, at: 120 };
    let entries = Sum::Crc { from: 128, to: bytes.len(), at: 116 };
    let mut found: Vec<Field> = vec![Field { at: 12, size: 4, sum: header }];
    found.extend(words(32, 40, 8, header));
    found.extend(words(128, 160, 4, entries));
    found.push(Field { at: 124, size: 4, sum: Sum::None });
    found
}

/// The runs of digits of a text.
fn text(bytes: &[u8]) -> Vec<Field> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let size = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if (1..=8).contains(&size) {
            found.push(Field { at, size, sum: Sum::Text });
        }
        at += size.max(1);
    }
    found
}

/// The number that a field has.
pub fn value(bytes: &[u8], field: &Field) -> u64 {
    match field.sum {
        Sum::Guard | Sum::Published => get(bytes, field.at, 8) & ((1 << 48) - 1),
        Sum::Text => {
            let digits = std::str::from_utf8(&bytes[field.at..field.at + field.size]);
            digits.ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
        }
        _ => get(bytes, field.at, field.size),
    }
}

/// Whether that value would be a state that the store may well have: a chunk that was collected or
/// lost is on record as that, and nobody can tell that it was not so.
pub fn is_plausible_end(name: &str, field: &Field, value: u64) -> bool {
    let place = is_table(name) && field.at >= 4096 && field.at % 128 == 112;
    place && matches!(value, 5 | 6)
}

/// Changes a number, so that its checksum holds.
pub fn change(bytes: &mut [u8], field: &Field, value: u64) {
    let Field { at, size, sum } = *field;
    match sum {
        Sum::Guard => put(bytes, at, 8, guard(value & ((1 << 48) - 1))),
        Sum::Published => {
            let value = value & ((1 << 48) - 1);
            put(bytes, at, 8, value);
            put(bytes, 328, 8, guard(value));
        }
        Sum::Text => {
            let digits = format!("{value:0size$}");
            bytes[at..at + size].copy_from_slice(&digits.as_bytes()[digits.len() - size..]);
            seal_text(bytes);
        }
        _ => put(bytes, at, size, value),
    }
    let (sum, place) = match sum {
        Sum::Crc { from, to, at } => (crc(&bytes[from..to]), at),
        Sum::Entry(start) => {
            let entry = [&bytes[start..start + 4], &bytes[start + 8..start + 64]].concat();
            (crc(&entry), start + 4)
        }
        Sum::Block { start, number, count } => {
            let block = &bytes[start..start + 24];
            let entry = [block, &number.to_le_bytes()[..], &count.to_le_bytes()[..]].concat();
            (crc(&entry), start + 24)
        }
        _ => return,
    };
    put(bytes, place, 4, u64::from(sum));
}

/// The checksum is the last thing of the text but four bytes.
fn seal_text(bytes: &mut [u8]) {
    let Some(at) = bytes.len().checked_sub(12) else { return };
    if bytes[at..at + 8].iter().all(u8::is_ascii_hexdigit) {
        bytes[at..at + 8].copy_from_slice(b"00000000");
        let sum = format!("{:08x}", crc(bytes));
        bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    }
}
