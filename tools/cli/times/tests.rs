//! Tests of the grammar as tables, with a fixed present and zone.
#![allow(clippy::unwrap_used)]

use super::*;

/// 2024-07-03T15:04:05.123456789Z, a Wednesday; 11:04:05 in New York.
const NOW_NS: i128 = 1_720_019_045_123_456_789;
const FIRST_US: u64 = 1_700_000_000_000_001;
const LAST_US: u64 = 1_710_000_000_000_009;

fn resolve_in(text: &str, zone: &str, unit: TimeUnit) -> Result<Resolved, String> {
    let zone = LocalZone::new(Some(parse_zone(zone).unwrap()));
    let context = Context {
        now: Timestamp::from_nanosecond(NOW_NS).unwrap(),
        zone: &zone,
        unit,
        span: &|| Ok(Some((FIRST_US * 1000 / unit.nanos(), LAST_US * 1000 / unit.nanos()))),
    };
    let arg: TimeArg = text.parse().map_err(|e: TimeError| e.to_string())?;
    arg.resolve(&context).map_err(|e| e.to_string())
}

/// Parses RFC 3339 with jiff's own parser, as nanoseconds since the epoch.
fn ns(rfc3339: &str) -> u64 {
    let instant: Timestamp = rfc3339.parse().unwrap();
    instant.as_nanosecond().try_into().unwrap()
}

#[track_caller]
fn same(table: &[(&str, &str)]) {
    for (text, expected) in table {
        let found = resolve_in(text, "America/New_York", TimeUnit::Nanos);
        assert_eq!(found, Ok(Resolved::Time(ns(expected))), "{text}");
    }
}

#[test]
fn rfc3339_times_are_parsed() {
    same(&[
        ("2024-05-01T09:30:00Z", "2024-05-01T09:30:00Z"),
        ("2024-05-01t09:30:00z", "2024-05-01T09:30:00Z"),
        ("2024-05-01T09:30:00.1Z", "2024-05-01T09:30:00.1Z"),
        ("2024-05-01T09:30:00.12Z", "2024-05-01T09:30:00.12Z"),
        ("2024-05-01T09:30:00.123Z", "2024-05-01T09:30:00.123Z"),
        ("2024-05-01T09:30:00.1234Z", "2024-05-01T09:30:00.1234Z"),
        ("2024-05-01T09:30:00.12345Z", "2024-05-01T09:30:00.12345Z"),
        ("2024-05-01T09:30:00.123456Z", "2024-05-01T09:30:00.123456Z"),
        ("2024-05-01T09:30:00.1234567Z", "2024-05-01T09:30:00.1234567Z"),
        ("2024-05-01T09:30:00.12345678Z", "2024-05-01T09:30:00.12345678Z"),
        ("2024-05-01T09:30:00.123456789Z", "2024-05-01T09:30:00.123456789Z"),
        ("2024-05-01T09:30:00+02:00", "2024-05-01T07:30:00Z"),
        ("2024-05-01T09:30:00-23:59", "2024-05-02T09:29:00Z"),
        ("2024-05-01T09:30:00+05:45", "2024-05-01T03:45:00Z"),
        ("2024-05-01T09:30:00-00:00", "2024-05-01T09:30:00Z"),
        (" 2024-05-01T09:30:00Z ", "2024-05-01T09:30:00Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ]);
}

#[test]
fn dates_and_times_of_day_are_parsed() {
    same(&[
        ("2024-05-01", "2024-05-01T04:00:00Z"),
        ("2024-12-01", "2024-12-01T05:00:00Z"),
        ("2024-05-01Z", "2024-05-01T00:00:00Z"),
        ("2024-05-01 Z", "2024-05-01T00:00:00Z"),
        ("2024-05-01+02:00", "2024-04-30T22:00:00Z"),
        ("2024-05-01-05:00", "2024-05-01T05:00:00Z"),
        ("2024-05-01 Europe/Berlin", "2024-04-30T22:00:00Z"),
        ("2024-05-01 09:30", "2024-05-01T13:30:00Z"),
        ("2024-05-01T09:30", "2024-05-01T13:30:00Z"),
        ("2024-05-01T09:30:15", "2024-05-01T13:30:15Z"),
        ("2024-05-01 09:30:15.5", "2024-05-01T13:30:15.5Z"),
        ("2024-05-01 09:30 Z", "2024-05-01T09:30:00Z"),
        ("2024-05-01 09:30Z", "2024-05-01T09:30:00Z"),
        ("2024-05-01 09:30+09:00", "2024-05-01T00:30:00Z"),
        ("2024-05-01 09:30 +0900", "2024-05-01T00:30:00Z"),
        ("2024-05-01 09:30 +09", "2024-05-01T00:30:00Z"),
        ("2024-05-01 09:30 Asia/Tokyo", "2024-05-01T00:30:00Z"),
        ("2024-05-01T09:30:00 America/Chicago", "2024-05-01T14:30:00Z"),
        ("09:30", "2024-07-03T13:30:00Z"),
        ("9:30", "2024-07-03T13:30:00Z"),
        ("09:30:00.000000001", "2024-07-03T13:30:00.000000001Z"),
        ("09:30Z", "2024-07-03T09:30:00Z"),
        ("09:30-04:00", "2024-07-03T13:30:00Z"),
        // It is already tomorrow in Tokyo.
        ("09:30 Asia/Tokyo", "2024-07-04T00:30:00Z"),
    ]);
}

#[test]
fn named_and_relative_times_are_parsed() {
    same(&[
        ("now", "2024-07-03T15:04:05.123456789Z"),
        ("now-5m", "2024-07-03T14:59:05.123456789Z"),
        ("now + 5m", "2024-07-03T15:09:05.123456789Z"),
        ("now 10:00", "2024-07-03T14:00:00Z"),
        ("today", "2024-07-03T04:00:00Z"),
        ("today 09:30", "2024-07-03T13:30:00Z"),
        ("today Z", "2024-07-03T00:00:00Z"),
        ("today Asia/Tokyo", "2024-07-03T15:00:00Z"),
        ("yesterday", "2024-07-02T04:00:00Z"),
        ("yesterday 16:00:00.25", "2024-07-02T20:00:00.25Z"),
        ("yesterday 16:00 UTC", "2024-07-02T16:00:00Z"),
        ("tomorrow", "2024-07-04T04:00:00Z"),
        ("tomorrow 00:00+00:00", "2024-07-04T00:00:00Z"),
        ("-1h", "2024-07-03T14:04:05.123456789Z"),
        ("-1h30m", "2024-07-03T13:34:05.123456789Z"),
        ("- 90s", "2024-07-03T15:02:35.123456789Z"),
        ("+5m", "2024-07-03T15:09:05.123456789Z"),
        ("1h ago", "2024-07-03T14:04:05.123456789Z"),
        ("1h 30m ago", "2024-07-03T13:34:05.123456789Z"),
        ("1h", "2024-07-03T14:04:05.123456789Z"),
        ("2days", "2024-07-01T15:04:05.123456789Z"),
        ("1ns", "2024-07-03T15:04:05.123456788Z"),
        ("first", "2023-11-14T22:13:20.000001Z"),
        ("first+5m", "2023-11-14T22:18:20.000001Z"),
        ("last", "2024-03-09T16:00:00.000009Z"),
        ("last-5m", "2024-03-09T15:55:00.000009Z"),
        ("last - 1h", "2024-03-09T15:00:00.000009Z"),
    ]);
}

#[test]
fn epoch_numbers_are_parsed() {
    same(&[
        ("@0", "1970-01-01T00:00:00Z"),
        ("@1714555800", "2024-05-01T09:30:00Z"),
        ("@1714555800s", "2024-05-01T09:30:00Z"),
        ("@1714555800.5", "2024-05-01T09:30:00.5Z"),
        ("@1714555800.123456789", "2024-05-01T09:30:00.123456789Z"),
        ("@1714555800123ms", "2024-05-01T09:30:00.123Z"),
        ("@1714555800123.25ms", "2024-05-01T09:30:00.12325Z"),
        ("@1714555800123456us", "2024-05-01T09:30:00.123456Z"),
        ("@1714555800123456789ns", "2024-05-01T09:30:00.123456789Z"),
        ("1714555800123456", "2024-05-01T09:30:00.123456Z"),
        ("1714555800123456789", "2024-05-01T09:30:00.123456789Z"),
    ]);
}

#[test]
fn seqs_are_parsed() {
    for (text, seq) in [("seq:0", 0), ("seq:42", 42), ("seq:18446744073709551615", u64::MAX)] {
        assert_eq!(resolve_in(text, "UTC", TimeUnit::Micros), Ok(Resolved::Seq(seq)), "{text}");
        assert!(text.parse::<TimeArg>().unwrap().is_seq());
    }
}

#[test]
fn invalid_times_are_rejected_with_a_reason() {
    let table = [
        ("", "times are as"),
        ("  ", "times are as"),
        ("soon", "times are as"),
        ("Z", "times are as"),
        ("--until", "no duration"),
        ("12345", "@12345 (seconds), @12345ms"),
        ("1714555800", "@1714555800 (seconds)"),
        ("1714555800123", "@1714555800123ms"),
        ("17145558001234567", "17 digits"),
        ("-5", "needs a unit"),
        ("1M", "no fixed length"),
        ("-2 months", "no fixed length"),
        ("1y ago", "no fixed length"),
        ("-1h ago", "not both"),
        ("2024-13-01", "2024-13-01 is no day"),
        ("2023-02-29T00:00:00Z", "2023-02-29 is no day"),
        ("0000-01-01", "years are"),
        ("2024-05-01T", "follows the T"),
        ("2024-05-01T25:00", "no time of day"),
        ("2024-05-01T24:00:00Z", "next day"),
        ("2016-12-31T23:59:60Z", "leap seconds"),
        ("2024-05-01T09:60", "no time of day"),
        ("2024-05-01T09", "no time of day"),
        ("2024-05-01T09:30:00.Z", "no time of day"),
        ("2024-05-01T09:30.5Z", "no time of day"),
        ("2024-05-01T09:30:00.1234567890Z", "9 digits"),
        ("2024-05-01T09:30:00+24:00", "no offset"),
        ("2024-05-01 09:30 America/New_Yrok", "America/New_York"),
        ("2024-05-01 09:30America/New_York", "follows a blank"),
        ("2024-05-01x", "follows a blank"),
        ("09:30 am", "no time zone"),
        ("today 9", "no time of day"),
        ("last 5m", "as last-5m"),
        ("first-", "no duration"),
        ("@", "@SECONDS"),
        ("@1.", "@SECONDS"),
        ("@12h", "@SECONDS"),
        ("@1.1234567890", "finer than a nanosecond"),
        ("@1.5ns", "finer than a nanosecond"),
        ("@99999999999999999999999999", "beyond"),
        ("seq:", "seq:42"),
        ("seq:-1", "seq:42"),
        ("seq:+1", "seq:42"),
        ("seq:18446744073709551616", "seq:42"),
    ];
    for (text, why) in table {
        let error = text.parse::<TimeArg>().unwrap_err();
        assert!(error.why.contains(why), "{text}: {error}");
        assert_eq!(error.text, text);
    }
}

#[test]
fn times_finer_than_the_unit_are_rounded_up() {
    let us = |text| resolve_in(text, "UTC", TimeUnit::Micros).unwrap();
    assert_eq!(us("@1.000001"), Resolved::Time(1_000_001));
    assert_eq!(us("@1.0000010"), Resolved::Time(1_000_001));
    assert_eq!(us("@1.000001001"), Resolved::Time(1_000_002));
    assert_eq!(us("@1.000001999"), Resolved::Time(1_000_002));
    assert_eq!(us("last"), Resolved::Time(LAST_US));
    assert_eq!(us("first"), Resolved::Time(FIRST_US));
}

#[test]
fn times_out_of_range_are_limited_to_the_unit() {
    for text in ["1969-12-31T23:59:59Z", "0001-01-01", "@-5", "first-99999w"] {
        assert_eq!(resolve_in(text, "UTC", TimeUnit::Nanos), Ok(Resolved::Time(0)), "{text}");
    }
    let end = resolve_in("9999-01-01", "UTC", TimeUnit::Nanos);
    assert_eq!(end, Ok(Resolved::Time(u64::MAX)));
    let end = resolve_in("9999-01-01", "UTC", TimeUnit::Micros);
    assert_eq!(end, Ok(Resolved::Time(253_370_764_800_000_000)));
    assert!(resolve_in("9999-12-31T23:59:59-12:00", "UTC", TimeUnit::Micros).is_err());
}

#[test]
fn skipped_and_repeated_local_times_are_rejected() {
    let zone = "America/New_York";
    let error = resolve_in("2024-03-10 02:30", zone, TimeUnit::Nanos).unwrap_err();
    assert!(error.contains("does not exist in America/New_York"), "{error}");
    assert!(error.contains("2024-03-10T01:30:00-05:00 or 2024-03-10T03:30:00-04:00"), "{error}");
    let error = resolve_in("2024-11-03 01:30:00.5", zone, TimeUnit::Nanos).unwrap_err();
    assert!(error.contains("exists twice in America/New_York"), "{error}");
    assert!(
        error.contains("2024-11-03T01:30:00.5-04:00 or 2024-11-03T01:30:00.5-05:00"),
        "{error}"
    );
    // The candidates in the message are valid times.
    for candidate in ["2024-11-03T01:30:00.5-04:00", "2024-11-03T01:30:00.5-05:00"] {
        assert!(resolve_in(candidate, zone, TimeUnit::Nanos).is_ok());
    }
    // Times just outside the skipped or repeated hour are accepted.
    for text in ["2024-03-10 01:59:59", "2024-03-10 03:00", "2024-11-03 00:59", "2024-11-03 02:00"]
    {
        assert!(resolve_in(text, zone, TimeUnit::Nanos).is_ok(), "{text}");
    }
    // A day has a first instant even if its midnight is skipped.
    let start = resolve_in("2018-11-04", "America/Sao_Paulo", TimeUnit::Nanos);
    assert_eq!(start, Ok(Resolved::Time(ns("2018-11-04T03:00:00Z"))));
}

#[test]
fn first_and_last_of_an_empty_feed_are_zero() {
    let zone = LocalZone::default();
    let context = Context {
        now: Timestamp::UNIX_EPOCH,
        zone: &zone,
        unit: TimeUnit::Micros,
        span: &|| Ok(None),
    };
    for text in ["first", "last", "last-5m"] {
        let arg: TimeArg = text.parse().unwrap();
        assert_eq!(arg.resolve(&context).unwrap(), Resolved::Time(0));
    }
}

#[test]
fn span_is_called_only_for_first_and_last() {
    let zone = LocalZone::new(Some(TimeZone::UTC));
    let context = Context {
        now: Timestamp::UNIX_EPOCH,
        zone: &zone,
        unit: TimeUnit::Micros,
        span: &|| anyhow::bail!("asked"),
    };
    for text in ["now", "2024-05-01", "09:30", "-1h", "@5", "seq:1"] {
        assert!(text.parse::<TimeArg>().unwrap().resolve(&context).is_ok(), "{text}");
    }
    assert!("last".parse::<TimeArg>().unwrap().resolve(&context).is_err());
}

#[test]
fn shown_times_parse_back() {
    for zone in ["UTC", "America/New_York", "Asia/Kolkata", "Africa/Monrovia"] {
        let zone = parse_zone(zone).unwrap();
        for unit in [TimeUnit::Micros, TimeUnit::Nanos] {
            for ticks in [0, 1, 68_000_000_000_000, 1_720_019_045_123_456, u64::MAX / 3, u64::MAX] {
                let text = show_time(ticks, unit, &zone);
                let found = resolve_in(&text, "Asia/Tokyo", unit);
                assert_eq!(found, Ok(Resolved::Time(ticks)), "{text}");
            }
        }
    }
    let text = show_time(1_720_019_045_123_456, TimeUnit::Micros, &TimeZone::UTC);
    assert_eq!(text, "2024-07-03T15:04:05.123456Z");
    let new_york = parse_zone("America/New_York").unwrap();
    let text = show_time(1_720_019_045_000_000_000, TimeUnit::Nanos, &new_york);
    assert_eq!(text, "2024-07-03T11:04:05.000000000-04:00");
}
