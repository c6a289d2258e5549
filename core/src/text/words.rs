//! Formats sizes, durations and counts for people.

use std::time::Duration;

/// Formats a size in the largest binary unit that gives a number of at least one.
pub fn size(bytes: u64) -> String {
    let units = [("TiB", 40u32), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes}B"),
        Some((unit, shift)) if bytes.trailing_zeros() >= *shift => {
            format!("{}{unit}", bytes >> shift)
        }
        Some((unit, shift)) => format!("{:.1}{unit}", bytes as f64 / (1u64 << shift) as f64),
    }
}

/// Formats a duration in its two largest units: `0.4s`, `42s`, `7m12s`, `3h5m`, `12d4h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..10 => format!("{}s", (span.as_secs_f64() * 10.0).floor() / 10.0),
        10..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Formats `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_binary_units() {
        let shown = [0, 1023, 1024, 64 << 20, (1 << 30) + (1 << 29)].map(size);
        assert_eq!(shown, ["0B", "1023B", "1KiB", "64MiB", "1.5GiB"]);
    }

    #[test]
    fn spans_are_shown_in_two_units() {
        let table = [
            (0, "0s"),
            (450, "0.4s"),
            (9_999, "9.9s"),
            (42_900, "42s"),
            (60_000, "1m"),
            (432_000, "7m12s"),
            (11_100_000, "3h5m"),
            (86_400_000, "1d"),
            (1_051_200_000, "12d4h"),
        ];
        for (ms, text) in table {
            assert_eq!(span(Duration::from_millis(ms)), text, "{ms} ms");
        }
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
