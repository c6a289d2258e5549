#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn times(unit: TimeUnit, options: TimeOptions) -> Times {
    Times::new(&options, unit).unwrap()
}

fn chicago() -> TimeZone {
    TimeZone::get("America/Chicago").unwrap()
}

fn said(result: std::result::Result<u64, Why>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn numbers_are_parsed_in_every_unit() {
    let mut plain = times(TimeUnit::Micros, TimeOptions::default());
    assert_eq!(plain.parse(b"18446744073709551615"), Ok(u64::MAX));
    assert_eq!(plain.parse(b"0"), Ok(0));
    assert_eq!(plain.parse(b"-0"), Ok(0));
    assert_eq!(plain.parse(b"1.0"), Ok(1));
    assert!(said(plain.parse(b"1.5")).contains("finer"));
    assert!(said(plain.parse(b"-1")).contains("1970"));
    let unit = |unit| TimeOptions { unit: Some(unit), ..TimeOptions::default() };
    let mut seconds = times(TimeUnit::Micros, unit(NumberUnit::S));
    assert_eq!(seconds.parse(b"1618677817.061845"), Ok(1_618_677_817_061_845));
    assert_eq!(seconds.fast::<false>(b"1618677817.06,", 0), Some((1_618_677_817_060_000, 13)));
    assert!(said(seconds.parse(b"1618677817.0618958")).contains("finer"));
    assert_eq!(seconds.parse(b"99999999999999999999"), Err(Why::Range));
    let mut nanos = times(TimeUnit::Micros, unit(NumberUnit::Ns));
    assert_eq!(nanos.parse(b"1618677817061845000"), Ok(1_618_677_817_061_845));
    assert!(said(nanos.parse(b"1618677817061845001")).contains("finer"));
    let options = TimeOptions { truncate: true, ..unit(NumberUnit::Ns) };
    assert_eq!(times(TimeUnit::Micros, options).parse(b"1999"), Ok(1));
}

#[test]
fn rfc_3339_times_are_parsed() {
    let mut plain = times(TimeUnit::Nanos, TimeOptions::default());
    for text in [
        "2025-03-25T23:07:00.715Z",
        "2025-03-25t23:07:00.715z",
        "2025-03-25 23:07:00.715000000Z",
        "2025-03-26T00:07:00.715+01:00",
        "2025-03-26T00:07:00.715+01",
        "2025-03-25T18:07:00.715-0500",
        "2025-03-25T18:07:00.715-05:00[America/Chicago]",
        "2025-03-25T18:07:00.715[America/Chicago]",
    ] {
        assert_eq!(plain.parse(text.as_bytes()), Ok(1_742_944_020_715_000_000), "{text}");
    }
    assert!(said(plain.parse(b"2025-03-25T23:07:00")).contains("--tz"));
    assert!(said(plain.parse(b"2016-12-31T23:59:60Z")).contains("leap"));
    assert!(said(plain.parse(b"1969-12-31T23:59:59Z")).contains("1970"));
    assert!(said(plain.parse(b"2555-01-01T00:00:00Z")).contains("too late"));
    for bad in ["", "abc", "2025-02-30T00:00:00Z", "2025-03-25T24:00:00Z", "20:00:00", "\u{e9}"] {
        assert!(plain.parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let mut micros = times(TimeUnit::Micros, TimeOptions::default());
    assert!(said(micros.parse(b"2025-03-25T23:07:00.7736742Z")).contains("finer"));
    assert_eq!(micros.parse(b"1970-01-01T00:00:00.000001000Z"), Ok(1));
}

#[test]
fn a_skipped_or_repeated_local_time_is_rejected_with_both_candidates() {
    let mut local =
        times(TimeUnit::Micros, TimeOptions { zone: Some(chicago()), ..TimeOptions::default() });
    assert_eq!(local.parse(b"2013-09-01 17:00:00.083"), Ok(1_378_072_800_083_000));
    assert_eq!(local.parse(b"2013-09-01"), Ok(1_378_011_600_000_000));
    let fold = said(local.parse(b"2013-11-03 01:30:00"));
    assert!(fold.contains("occurs twice"), "{fold}");
    assert!(fold.contains("2013-11-03T01:30:00-05:00 or 2013-11-03T01:30:00-06:00"), "{fold}");
    let gap = said(local.parse(b"2013-03-10 02:30:00"));
    assert!(gap.contains("does not exist"), "{gap}");
    assert_eq!(local.parse(b"2013-03-10 01:59:59.999999"), Ok(1_362_902_399_999_999));
    assert_eq!(local.parse(b"2013-03-10 03:00:00"), Ok(1_362_902_400_000_000));
}

#[test]
fn a_minute_with_two_offsets_is_not_remembered() {
    // Liberia changed from -00:44:30 to UTC: its clocks skipped from 00:00:00 to 00:44:30.
    let zone = Some(TimeZone::get("Africa/Monrovia").unwrap());
    let mut local = times(TimeUnit::Micros, TimeOptions { zone, ..TimeOptions::default() });
    assert!(local.parse(b"1972-01-07 00:44:45").is_ok());
    assert!(said(local.parse(b"1972-01-07 00:44:10")).contains("does not exist"));
}

#[test]
fn times_of_day_count_from_the_base_date() {
    let base = Some("2014-05-01".parse().unwrap());
    let options = TimeOptions { base, ..TimeOptions::default() };
    let mut utc = times(TimeUnit::Nanos, options.clone());
    let midnight = 1_398_902_400_000_000_000;
    assert_eq!(utc.parse(b"62.2662"), Ok(midnight + 62_266_200));
    assert_eq!(utc.fast::<false>(b"62.2662,", 0), Some((midnight + 62_266_200, 7)));
    assert_eq!(utc.parse(b"00:00:01.5"), Ok(midnight + 1_500_000_000));
    assert!(said(utc.parse(b"86400000")).contains("2014-05-01"));
    let base = Some("2013-03-10".parse().unwrap());
    let mut short = times(TimeUnit::Nanos, TimeOptions { zone: Some(chicago()), base, ..options });
    assert!(short.parse(b"82800000").is_err());
    assert_eq!(short.parse(b"03:00:00"), short.parse(b"7200000"));
    assert!(short.parse(b"02:30:00").is_err());
}

#[test]
fn strftime_formats_are_parsed() {
    let format = |text: &str| TimeOptions { format: Some(text.into()), ..TimeOptions::default() };
    let zone = Some(chicago());
    let mut local = times(TimeUnit::Micros, TimeOptions { zone, ..format("%Y%m%d %H:%M:%S%.f") });
    assert_eq!(local.parse(b"20130901 17:00:00.083"), Ok(1_378_072_800_083_000));
    assert!(said(local.parse(b"20130901 17:00:60")).contains("leap"));
    // A `60` in the fraction is not a leap second.
    let options = TimeOptions { zone: Some(TimeZone::UTC), ..format("%Y-%m-%d %H:%M:%S%.f") };
    let mut fractions = times(TimeUnit::Micros, options);
    assert_eq!(fractions.parse(b"1970-01-01 00:00:59.160"), Ok(59_160_000));
    assert_eq!(fractions.parse(b"1970-01-01 00:00:59.60"), Ok(59_600_000));
    assert!(said(fractions.parse(b"1970-01-01 00:00:60.60")).contains("leap"));
    assert!(local.parse(b"20130901 17:60:59").is_err());
    assert_eq!(local.parse(b"20160601 17:00:59"), Ok(1_464_818_459_000_000));
    let mut offset = times(TimeUnit::Micros, format("%d/%m/%Y %H:%M:%S %z"));
    assert_eq!(offset.parse(b"01/09/2013 17:00:00 -0500"), Ok(1_378_072_800_000_000));
    let mut epoch = times(TimeUnit::Micros, format("%s"));
    assert_eq!(epoch.parse(b"1378072800"), Ok(1_378_072_800_000_000));
    assert!(epoch.parse(b"2013-09-01T17:00:00Z").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn the_hand_written_parser_agrees_with_jiff(
        year in 1960i16..2600, month in 0i8..14, day in 0i8..33, hour in 0i8..26,
        minute in 0i8..61, second in 0i8..62, fraction in "(\\.[0-9]{0,10})?",
        offset in prop_oneof!["", "Z", "[+-][0-2][0-9]:[0-6][0-9]"], t in "[Tt ]",
    ) {
        let text = format!(
            "{year:04}-{month:02}-{day:02}{t}{hour:02}:{minute:02}:{second:02}{fraction}{offset}"
        );
        let zone = TimeZone::get("America/Chicago").unwrap();
        let options = TimeOptions { zone: Some(zone.clone()), ..TimeOptions::default() };
        let mut times = Times::new(&options, TimeUnit::Nanos).unwrap();
        let ours = times.parse(text.as_bytes()).ok();
        let again = times.parse(text.as_bytes()).ok();
        let theirs = if offset.is_empty() {
            text.parse::<DateTime>().ok().and_then(|dt| {
                zone.to_ambiguous_timestamp(dt).unambiguous().ok()
            })
        } else {
            text.parse::<jiff::Timestamp>().ok()
        };
        let theirs = theirs
            .filter(|_| second < 60)
            .and_then(|at| u64::try_from(at.as_nanosecond()).ok());
        prop_assert_eq!(ours, theirs, "{}", text);
        prop_assert_eq!(again, theirs);
    }

    #[test]
    fn a_reused_parser_agrees_with_a_fresh_one(
        starts in prop::collection::vec((1_383_400_000i64..1_383_500_000, 0u32..3), 1..40),
    ) {
        let options = TimeOptions { zone: Some(chicago()), ..TimeOptions::default() };
        let mut kept = times(TimeUnit::Micros, options.clone());
        for (seconds, repeat) in starts {
            for i in 0..=i64::from(repeat) {
                let text = datetime(seconds + i, 0).unwrap().to_string();
                let fresh = times(TimeUnit::Micros, options.clone()).parse(text.as_bytes());
                prop_assert_eq!(kept.parse(text.as_bytes()), fresh);
            }
        }
    }
}
