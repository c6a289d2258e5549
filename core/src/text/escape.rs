//! Escapes text for JSON strings, CSV cells, table cells and Python literals.

use std::fmt::Write as _;

use super::format::{Window, put, put_slice};
use crate::show::is_active;

/// Hexadecimal digits.
pub const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// How text is escaped and quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Inside the quotes of a JSON string.
    Json,
    /// A cell between delimiters. It is quoted where RFC 4180 requires it or a reader might trim
    /// it.
    Cell {
        /// The delimiter: a comma or a tab.
        delimiter: u8,
        /// Whether an empty text is written as `""`. Needed where an empty line would not be a row,
        /// and where an empty cell would mean the field's default.
        quote_empty: bool,
    },
    /// For people: control characters are shown as escapes.
    Table,
}

/// All Latin-1 characters as UTF-8, escaped or quoted for a style.
#[derive(Clone, Debug)]
pub struct CharTable {
    /// Seven bytes of text, then its length.
    chars: Box<[[u8; 8]; 256]>,
}

/// The widest character: `\u0000`.
pub const CHAR_WIDTH: usize = 6;

impl CharTable {
    /// Makes the table for `style`.
    pub fn new(style: Style) -> CharTable {
        let mut chars = Box::new([[0; 8]; 256]);
        for (byte, text) in (0..=255u8).zip(chars.iter_mut()) {
            let mut utf8 = [0; 2];
            let utf8 = char::from(byte).encode_utf8(&mut utf8);
            let mut slab = [0; 16];
            let end = put_text(&mut slab, 0, utf8.as_bytes(), style);
            text[..CHAR_WIDTH].copy_from_slice(&slab[..CHAR_WIDTH]);
            text[7] = end as u8;
        }
        CharTable { chars }
    }

    /// Writes the character `byte`.
    #[inline(always)]
    pub fn put(&self, window: &mut Window, at: usize, byte: u8) -> usize {
        let text = &self.chars[usize::from(byte)];
        put(window, at, text);
        at + usize::from(text[7] & 7)
    }
}

/// Returns the widest text of a field of `size` bytes: every byte may become `\u0000` or a
/// replacement character.
pub fn text_width(size: usize) -> usize {
    6 * size + 2
}

/// The longest string field that [`put_plain`] takes.
const PLAIN: usize = 64;
const ONES: u64 = u64::from_le_bytes([1; 8]);

/// Writes a string field up to its NUL padding, eight bytes at a time, if it is plain ASCII without
/// characters to escape or quote, as symbols are. Returns `None` otherwise; use [`put_text`] then.
#[inline(always)]
pub fn put_plain(window: &mut Window, mut at: usize, field: &[u8], style: Style) -> Option<usize> {
    let (least, special) = match style {
        Style::Json => (b' ', b'\\'),
        Style::Cell { quote_empty: true, .. } if field.starts_with(&[0]) => return None,
        Style::Cell { delimiter, .. } => (b' ' + 1, delimiter),
        Style::Table => (b' ', 0x7f),
    };
    // Sets a byte's high bit if the byte is below `n` (1 to 128). A borrow may also set it in later
    // bytes, so only the first bit set is reliable. Only the first is used.
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = field.as_chunks::<8>();
    if field.len() > PLAIN {
        return None;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    for bytes in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*bytes);
        // Adding one sets the high bit of DEL (0x7f). It carries only out of a byte 0xff, which
        // already has its high bit set, so the first odd byte stays right.
        let odd = word
            | word.wrapping_add(ONES)
            | below(word, least)
            | equal(word, b'"')
            | equal(word, special);
        put(window, at, bytes);
        match odd & (ONES << 7) {
            0 => at += 8,
            odd => {
                let first = odd.trailing_zeros() as usize / 8;
                return (bytes[first] == 0).then_some(at + first);
            }
        }
    }
    Some(at)
}

/// Writes UTF-8 text in a style. Bytes that are not UTF-8 (in a record that was never checked)
/// become replacement characters, so the output is always valid text.
#[inline]
pub fn put_text(slab: &mut [u8], at: usize, text: &[u8], style: Style) -> usize {
    if text.is_ascii() || std::str::from_utf8(text).is_ok() {
        return put_utf8(slab, at, text, style);
    }
    put_utf8(slab, at, String::from_utf8_lossy(text).as_bytes(), style)
}

#[inline]
fn put_utf8(slab: &mut [u8], at: usize, text: &[u8], style: Style) -> usize {
    match style {
        Style::Json => put_escaped(slab, at, text),
        Style::Cell { delimiter, quote_empty } => put_cell(slab, at, text, delimiter, quote_empty),
        Style::Table => put_printable(slab, at, text),
    }
}

/// Writes `text` with the escapes of a JSON string.
#[inline(always)]
fn put_escaped(slab: &mut [u8], at: usize, text: &[u8]) -> usize {
    if !text.iter().any(|&byte| is_special(byte) || begins_active(byte)) {
        return put_slice(slab, at, text);
    }
    put_escaped_chars(slab, at, text)
}

/// Writes `text` and escapes its ASCII characters as in a JSON string.
fn put_escaped_ascii(slab: &mut [u8], mut at: usize, text: &[u8]) -> usize {
    for &byte in text {
        if !is_special(byte) {
            slab[at] = byte;
            at += 1;
            continue;
        }
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        if short == 0 {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX_DIGITS[usize::from(digit)]);
            at = put_slice(slab, at, &[b'\\', b'u', b'0', b'0', high, low]);
        } else {
            at = put_slice(slab, at, &[b'\\', short]);
        }
    }
    at
}

/// Whether an ASCII byte is escaped in a JSON string.
fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\' || byte == 0x7f
}

/// Whether a character that begins with this byte may control a terminal. In UTF-8, C1 controls
/// begin with 0xc2, and characters that reorder text begin with 0xe2.
fn begins_active(byte: u8) -> bool {
    byte == 0xc2 || byte == 0xe2
}

/// Like [`put_escaped`], for text that may have active characters beyond ASCII.
#[inline(never)]
fn put_escaped_chars(slab: &mut [u8], mut at: usize, text: &[u8]) -> usize {
    let mut plain = 0;
    for (start, c) in std::str::from_utf8(text).unwrap_or_default().char_indices() {
        if c.is_ascii() || !is_active(c) {
            continue;
        }
        at = put_escaped_ascii(slab, at, &text[plain..start]);
        let escape = format!("\\u{:04x}", u32::from(c));
        at = put_slice(slab, at, escape.as_bytes());
        plain = start + c.len_utf8();
    }
    put_escaped_ascii(slab, at, &text[plain..])
}

/// Writes text for a person. Characters that move the cursor or break the line become escapes.
fn put_printable(slab: &mut [u8], mut at: usize, text: &[u8]) -> usize {
    if !text.iter().any(|&byte| byte < b' ' || byte == 0x7f || begins_active(byte)) {
        return put_slice(slab, at, text);
    }
    for c in std::str::from_utf8(text).unwrap_or_default().chars() {
        if is_active(c) {
            for escape in c.escape_default() {
                at = put_slice(slab, at, &[escape as u8]);
            }
        } else {
            at = put_slice(slab, at, c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    at
}

/// Writes a cell. RFC 4180 says which cells need quotes. Cells that begin or end with a blank, a
/// control character or a byte order mark are quoted as well, because a reader might strip those.
#[inline(always)]
fn put_cell(
    slab: &mut [u8],
    mut at: usize,
    text: &[u8],
    delimiter: u8,
    quote_empty: bool,
) -> usize {
    let special = |&byte: &u8| byte == delimiter || byte == b'"' || byte == b'\r' || byte == b'\n';
    let quoted = match text {
        [] => quote_empty,
        [first, .., last] | [first @ last] => {
            *first <= b' '
                || *last <= b' '
                || text.iter().any(special)
                || !text.is_ascii() && has_odd_ends(text)
        }
    };
    if !quoted {
        return put_slice(slab, at, text);
    }
    slab[at] = b'"';
    at += 1;
    for &byte in text {
        slab[at] = byte;
        at += 1;
        if byte == b'"' {
            slab[at] = b'"';
            at += 1;
        }
    }
    slab[at] = b'"';
    at + 1
}

#[inline(never)]
fn has_odd_ends(text: &[u8]) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    std::str::from_utf8(text).is_ok_and(|text| text.starts_with(odd) || text.ends_with(odd))
}

/// Returns a cell of a header line, escaped like [`put_text`] does.
pub fn cell(text: &str, delimiter: u8) -> Vec<u8> {
    let mut slab = vec![0; text_width(text.len())];
    let end =
        put_text(&mut slab, 0, text.as_bytes(), Style::Cell { delimiter, quote_empty: false });
    slab.truncate(end);
    slab
}

/// Returns a JSON string, including its quotes.
pub fn json_string(text: &str) -> Vec<u8> {
    let mut slab = vec![b'"'; text_width(text.len())];
    let end = put_text(&mut slab, 1, text.as_bytes(), Style::Json);
    slab.truncate(end);
    slab.push(b'"');
    slab
}

/// Returns a Python string literal in pure ASCII, for NumPy headers and for scripts in any
/// encoding.
pub fn python_string(text: &str) -> String {
    let mut literal = String::from("'");
    for c in text.chars() {
        let code = u32::from(c);
        // Writing to a string cannot fail.
        let _ = match code {
            0x27 | 0x5c => write!(literal, "\\{c}"),
            0x20..=0x7e => write!(literal, "{c}"),
            0..=0xff => write!(literal, "\\x{code:02x}"),
            0x100..=0xffff => write!(literal, "\\u{code:04x}"),
            _ => write!(literal, "\\U{code:08x}"),
        };
    }
    literal.push('\'');
    literal
}
