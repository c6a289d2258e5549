//! Sizes as arguments: `64MiB`, `10GB`, `4096`.

use deepwater::schema::MAX_SIZE_BYTES;

/// Binary units count in 1024s, decimal units in 1000s. Both letters are required, because a bare
/// `K`, `M` or `G` means 1024 to some tools and 1000 to others.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Parses a size, for clap's `value_parser`: a number, possibly with a fraction, and a unit in
/// upper or lower case. Without a unit it is bytes.
///
/// # Errors
/// The reason, and an example of a valid size.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const RIGHT: &str = "sizes are as 64MiB, 10GB or 4096 (bytes)";
    let text = text.trim();
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let Some(&(_, scale)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        if let [letter @ (b'k' | b'K' | b'm' | b'M' | b'g' | b'G' | b't' | b'T')] = unit.as_bytes()
        {
            let letter = char::from(*letter).to_ascii_uppercase();
            return Err(format!(
                "{unit:?} is 1024s to some and 1000s to others; write {letter}iB or {letter}B"
            ));
        }
        return Err(format!("no size; {RIGHT}"));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(format!("no size; {RIGHT}"));
    }
    let too_large = || "the most is 9223372036854775807 bytes".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let mut bytes = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        if fraction.len() > 18 {
            return Err("a fraction has 18 digits at most".to_owned());
        }
        let parts: u128 = fraction.parse().map_err(|_| too_large())?;
        let scaled = parts * u128::from(scale);
        let divisor = 10u128.pow(fraction.len() as u32);
        if !scaled.is_multiple_of(divisor) {
            return Err("not a whole number of bytes".to_owned());
        }
        bytes += scaled / divisor;
    }
    match u64::try_from(bytes) {
        Ok(bytes) if bytes <= MAX_SIZE_BYTES => Ok(bytes),
        _ => Err(too_large()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn valid_sizes_are_accepted() {
        let table = [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64KiB", 65_536),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
            ("10KB", 10_000),
            ("10kb", 10_000),
            ("3MB", 3_000_000),
            ("10GB", 10_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("1.5MiB", 3 << 19),
            ("0.5KB", 500),
            ("9223372036854775807", MAX_SIZE_BYTES),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn invalid_sizes_are_rejected_with_a_reason() {
        let table = [
            ("", "no size"),
            ("MiB", "no size"),
            ("-1", "no size"),
            ("1.2.3MB", "no size"),
            ("1.MB", "no size"),
            (".5MB", "no size"),
            ("64M", "write MiB or MB"),
            ("512k", "write KiB or KB"),
            ("1PB", "no size"),
            ("1e6", "no size"),
            ("0.3B", "whole number"),
            ("9223372036854775808", "the most is"),
            ("18446744073709551616", "the most is"),
            ("17000000TiB", "the most is"),
        ];
        for (text, why) in table {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
