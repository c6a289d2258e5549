//! Makes text from others safe for a person's terminal: it cannot control the terminal, and it is
//! not longer than a person reads.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest name or value inside a message, in bytes; a longer one is shortened.
pub const SHOWN_BYTES: usize = 256;
/// The longest message, in bytes; a longer one is shortened in its middle.
pub const MESSAGE_BYTES: usize = 8 * 1024;

/// Whether a character controls a terminal instead of being displayed: control characters (C0, DEL
/// and C1), and those that reorder the text around them.
pub fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends a character. If it [`is_active`], appends an escape instead: `\x1b` or `\u{202e}`.
pub fn put(text: &mut String, c: char) {
    // Writing to a string cannot fail.
    let _ = match u32::from(c) {
        _ if !is_active(c) => {
            text.push(c);
            Ok(())
        }
        code @ 0..=0xff => write!(text, "\\x{code:02x}"),
        code => write!(text, "\\u{{{code:x}}}"),
    };
}

/// Returns the text on one line, with its active characters escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| put(&mut shown, c));
    Cow::Owned(shown)
}

/// Like [`printable`], but keeps line breaks and tabs.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let active = |c: char| is_active(c) && c != '\n' && c != '\t';
    if !text.contains(active) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if active(c) { put(&mut shown, c) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Returns JSON with its active characters as `\u` escapes. They can only be in strings, so the
/// JSON means the same. Line breaks between values stay.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let active = |c: char| is_active(c) && c != '\n';
    if !json.contains(active) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if active(c) {
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Escapes raw bytes for a terminal: active characters except line breaks and tabs, and bytes that
/// are not UTF-8.
pub fn printable_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let plain = |byte: &u8| matches!(byte, b'\n' | b'\t' | b' '..=b'~');
    if bytes.iter().all(plain) {
        return Cow::Borrowed(bytes);
    }
    let mut shown = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => shown.push(c),
                // Use JSON's escape, so that a line of JSON stays valid.
                c if is_active(c) => {
                    let _ = write!(shown, "\\u{:04x}", u32::from(c));
                }
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    Cow::Owned(shown.into_bytes())
}

/// Returns the text if it has at most `most` bytes. Otherwise returns its beginning and end, with
/// the number of bytes left out between them.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let head = (0..=most / 4 * 3).rev().find(boundary).unwrap_or(0);
    let tail = (text.len() - most / 4..text.len()).find(boundary).unwrap_or(text.len());
    let (left_out, head, tail) = (tail - head, &text[..head], &text[tail..]);
    Cow::Owned(format!("{head}[... {left_out} bytes ...]{tail}"))
}

/// Returns a name or value for a message: quoted, escaped, and shortened if it is long.
pub fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, SHOWN_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\x1b[2J\u{9b}\u{7f}\u{202e}b\u{2069}é\tc\n";

    #[test]
    fn active_characters_are_escaped() {
        assert_eq!(printable(NASTY), "a\\x1b[2J\\x9b\\x7f\\u{202e}b\\u{2069}é\\x09c\\x0a");
        assert_eq!(printable_lines(NASTY), "a\\x1b[2J\\x9b\\x7f\\u{202e}b\\u{2069}é\tc\n");
        let json = format!("\"{}\"\n", "a\u{9b}\u{7f}\u{202e}é");
        assert_eq!(printable_json(&json), "\"a\\u009b\\u007f\\u202eé\"\n");
        let bytes = [NASTY.as_bytes(), b"\xff\x9b"].concat();
        assert_eq!(
            String::from_utf8_lossy(&printable_bytes(&bytes)),
            "a\\u001b[2J\\u009b\\u007f\\u202eb\\u2069é\tc\n\\xff\\x9b"
        );
        assert!(matches!(printable("plain é"), Cow::Borrowed(_)));
        assert!(matches!(printable_bytes(b"plain\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_texts_keep_both_ends() {
        assert_eq!(shortened("short", 5), "short");
        let long = format!("begin{}end", "é".repeat(1000));
        let shown = shortened(&long, 40);
        assert!(shown.starts_with("begin") && shown.ends_with("end"), "{shown}");
        assert!(shown.contains(" bytes ...]") && shown.len() < 80, "{shown}");
        assert!(quoted(&"x".repeat(1 << 20)).len() < SHOWN_BYTES + 40);
    }
}
