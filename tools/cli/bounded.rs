//! Reads whole inputs up to a limit.

use std::io::{self, Read};

use deepwater::text::words::size;

/// Reads `input` to its end and returns it if it has at most `limit` bytes. Reads at most one byte
/// more than that.
///
/// # Errors
/// If reading fails, or if the input is longer than `limit`.
pub fn read_bytes(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("it has more than {}, which is the most that is read", size(limit));
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// Reads UTF-8 text as [`read_bytes`] does.
///
/// # Errors
/// As [`read_bytes`], and if the input is not UTF-8.
pub fn read_text(input: impl Read, limit: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(input, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}
