//! Durations as arguments: `90s`, `1h 30m`, `2weeks`, as humantime parses them. Months and years
//! are rejected, because their length varies.

use std::time::Duration;

use deepwater::schema::{MAX_AGE_SECONDS, Sync};

/// Parses a duration, for clap's `value_parser`. Words such as `forever` and `none` are left to the
/// caller.
///
/// # Errors
/// The reason, and an example of a valid duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const RIGHT: &str = "durations are as 500ms, 90s, 5m, 1h30m, 7d or 2w";
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    for word in words {
        let unit = match word {
            "M" => "M (a month to humantime, perhaps a minute to you)",
            "month" | "months" | "mo" => "a month",
            "y" | "yr" | "yrs" | "year" | "years" => "a year",
            _ => continue,
        };
        return Err(format!("{unit} has no fixed length; write days as 30d, minutes as 5m"));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.is_empty() {
        return Err(format!("a duration needs a unit; {RIGHT}"));
    }
    humantime::parse_duration(text).map_err(|e| match e {
        humantime::DurationError::NumberOverflow => "too long, or finer than 1ns".to_owned(),
        _ => format!("no duration; {RIGHT}"),
    })
}

/// Parses a duration of whole seconds, at least one.
///
/// # Errors
/// As [`parse_duration`], and for zero or fractions of a second.
pub fn parse_seconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("the least is 1s".to_owned());
    }
    if duration.subsec_nanos() != 0 {
        return Err("whole seconds only".to_owned());
    }
    if duration.as_secs() > MAX_AGE_SECONDS {
        return Err("too long; the most is 1000 years (365250d)".to_owned());
    }
    Ok(duration.as_secs())
}

/// Parses a sync policy: a duration, `none` or `batch`.
///
/// # Errors
/// As [`parse_duration`], and for less than a millisecond.
pub fn parse_sync(text: &str) -> Result<Sync, String> {
    match text {
        "none" => return Ok(Sync::None),
        "batch" => return Ok(Sync::Batch),
        _ => {}
    }
    let every = parse_duration(text).map_err(|why| format!("{why}; or none, or batch"))?;
    if every.is_zero() || every.subsec_nanos() % 1_000_000 != 0 {
        return Err("whole milliseconds, at least 1ms; to sync each batch write batch".to_owned());
    }
    if every > Duration::from_secs(86_400) {
        return Err("a day at most; to leave it to the kernel write none".to_owned());
    }
    Ok(Sync::Every(every))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn valid_durations_are_accepted() {
        let table = [
            ("500ms", 500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            ("2weeks", 1_209_600_000),
            ("0s", 0),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_duration("7us"), Ok(Duration::from_micros(7)));
        assert_eq!(parse_duration("7ns"), Ok(Duration::from_nanos(7)));
    }

    #[test]
    fn invalid_durations_are_rejected_with_a_reason() {
        let table = [
            ("", "no duration"),
            ("5", "needs a unit"),
            ("1.5", "needs a unit"),
            ("1M", "no fixed length"),
            ("1month", "no fixed length"),
            ("3 months", "no fixed length"),
            ("1y", "no fixed length"),
            ("2years", "no fixed length"),
            ("1h 1M", "no fixed length"),
            ("1fortnight", "no duration"),
            ("-1h", "no duration"),
            ("h", "no duration"),
            ("99999999999999999999s", "too long"),
        ];
        for (text, why) in table {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn parse_seconds_takes_whole_seconds_only() {
        assert_eq!(parse_seconds("2m"), Ok(120));
        assert!(parse_seconds("1500ms").unwrap_err().contains("whole"));
        assert!(parse_seconds("0s").unwrap_err().contains("least"));
    }
}
