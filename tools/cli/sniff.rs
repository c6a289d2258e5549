//! Recognises input that is not text by its first bytes, so that it is rejected as a whole instead
//! of row by row.

/// First bytes, what they mean, and how to make text of such a file.
const KINDS: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "gzip data", "gzip -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "zstd -dc"),
    (b"\xfd7zXZ\0", "xz data", "xz -dc"),
    (b"\x04\x22\x4d\x18", "lz4 data", "lz4 -dc"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
    (b"\xff\xfe", "UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
];

/// Recognises `head`, the beginning of an input, as a format that is not text. Returns what it is
/// and how to convert it.
pub fn not_text(head: &[u8]) -> Option<String> {
    let (_, kind, by) = KINDS.iter().find(|(magic, _, _)| head.starts_with(magic))?;
    Some(format!("this is {kind}; pipe it through {by}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_taken_for_a_binary_format() {
        for head in ["", "ts,price\n1,2\n", "{\"ts\":1}", "\u{feff}ts", "PK,3", "\u{ff}"] {
            assert_eq!(not_text(head.as_bytes()), None, "{head}");
        }
        let said = not_text(b"\x1f\x8b\x08\x00").unwrap_or_default();
        assert_eq!(said, "this is gzip data; pipe it through gzip -dc");
    }
}
