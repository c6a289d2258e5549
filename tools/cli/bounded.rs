//! Inputs that are read whole, up to a limit.

use std::io::{self, Read};

use deepwater::text::words::size;

/// Reads everything, if it is at most `limit` bytes. Never holds more than that.
///
/// # Errors
/// The input's, and one that names the limit for an input that is longer.
pub fn read_bytes(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("it has more than {}, which is the most that is read", size(limit));
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// As [`read_bytes`], of UTF-8 text.
///
/// # Errors
/// As [`read_bytes`]; also for bytes that are no UTF-8.
pub fn read_text(input: impl Read, limit: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(input, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}
