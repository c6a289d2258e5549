//! Parses times from text and numbers into a feed's unit.
//!
//! The common forms are parsed here; the last date and the offset of the last minute are
//! remembered. jiff parses everything else and resolves zones.

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::number::{POW10, fast_scaled, scaled};
use super::reject::Why;
use crate::error::{Error, Result};
use crate::time::TimeUnit;

const DAY_SECONDS: i64 = 86_400;

/// The unit of times that are written as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl NumberUnit {
    /// Returns how many fraction digits of a second the unit has.
    fn digits(self) -> usize {
        match self {
            NumberUnit::S => 0,
            NumberUnit::Ms => 3,
            NumberUnit::Us => 6,
            NumberUnit::Ns => 9,
        }
    }
}

impl std::str::FromStr for NumberUnit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "s" => Ok(NumberUnit::S),
            "ms" => Ok(NumberUnit::Ms),
            "us" => Ok(NumberUnit::Us),
            "ns" => Ok(NumberUnit::Ns),
            _ => Err(Error::Spec(format!("time unit {text:?}; it is s, ms, us or ns"))),
        }
    }
}

/// How times are written in the input.
#[derive(Clone, Debug, Default)]
pub struct TimeOptions {
    /// The unit of numbers. `None`: milliseconds if `base` is set, else the feed's unit.
    pub unit: Option<NumberUnit>,
    /// A strftime format that every time must have. `None`: numbers and RFC 3339.
    pub format: Option<String>,
    /// The zone of times without an offset. `None`: such times are rejected.
    pub zone: Option<TimeZone>,
    /// The date that times of day belong to. Numbers count from its midnight in `zone` (UTC if that
    /// is `None`); `HH:MM:SS` is wall-clock time on that date.
    pub base: Option<Date>,
    /// Truncates times finer than the feed's unit instead of rejecting them.
    pub truncate: bool,
}

/// The date of `--ts-base`.
#[derive(Clone, Debug)]
struct Base {
    date: Date,
    /// Midnight of the date and the length of the day, in ticks.
    start: i128,
    length: u64,
}

/// A parser of times. It remembers the last date and the offset of the last minute.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    unit: TimeUnit,
    /// The power of ten that converts numbers to ticks.
    shift: i64,
    format: Option<String>,
    zone: Option<TimeZone>,
    base: Option<Base>,
    truncate: bool,
    last_date: ([u8; 10], i64),
    /// A local minute since 1970 and its offset in seconds. All of the minute has this offset.
    last_minute: (i64, i64),
}

impl Times {
    /// Compiles the options for a feed's unit.
    ///
    /// # Errors
    /// [`Error::Spec`] if `base` has no midnight in `zone`.
    pub(crate) fn new(options: &TimeOptions, unit: TimeUnit) -> Result<Times> {
        let digits = match (options.unit, options.base) {
            (Some(unit), _) => unit.digits(),
            (None, Some(_)) => NumberUnit::Ms.digits(),
            (None, None) => unit.digits(),
        };
        let mut times = Times {
            unit,
            shift: unit.digits() as i64 - digits as i64,
            format: options.format.clone(),
            zone: options.zone.clone(),
            base: None,
            truncate: options.truncate,
            last_date: (*b"1970-01-01", 0),
            last_minute: (i64::MIN, 0),
        };
        if let Some(date) = options.base {
            times.base = Some(times.day(date)?);
        }
        Ok(times)
    }

    /// Parses times as the defaults in a spec are written: numbers in the feed's unit, or RFC 3339.
    pub(crate) fn plain(unit: TimeUnit) -> Result<Times> {
        Times::new(&TimeOptions::default(), unit)
    }

    fn day(&self, date: Date) -> Result<Base> {
        let midnight = |date: Date| -> Result<i64> {
            let wrong = |why| Error::Spec(format!("base date {date}: {why}"));
            let dt = date.at(0, 0, 0, 0);
            let offset = match &self.zone {
                Some(zone) => offset_at(zone, dt).map_err(|why| wrong(why.to_string()))?,
                None => 0,
            };
            Ok(local_seconds(dt) - offset)
        };
        let next = date.tomorrow().map_err(|e| Error::Spec(format!("base date {date}: {e}")))?;
        let (start, end) = (midnight(date)?, midnight(next)?);
        let ticks = self.unit.per_second();
        Ok(Base {
            date,
            start: i128::from(start) * i128::from(ticks),
            length: (end - start).unsigned_abs() * ticks,
        })
    }

    /// Parses a plain number at `at` and returns the time and where the number ends. Returns `None`
    /// if these options or this number need [`Times::parse`].
    #[inline(always)]
    pub(crate) fn fast<const JSON: bool>(&self, b: &[u8], at: usize) -> Option<(u64, usize)> {
        if self.format.is_some() {
            return None;
        }
        let scale = usize::try_from(self.shift).ok()?;
        let (ticks, end) = fast_scaled::<JSON>(b, at, scale)?;
        match &self.base {
            None => Some((ticks, end)),
            Some(base) => Some((base.add(ticks).ok()?, end)),
        }
    }

    /// Parses one time that is all of `text`.
    pub(crate) fn parse(&mut self, text: &[u8]) -> std::result::Result<u64, Why> {
        if self.format.is_some() {
            return self.by_format(text);
        }
        if let Some(civil) = iso(text, &mut self.last_date) {
            return self.resolve_iso(&civil);
        }
        match scaled(text, self.shift, self.truncate) {
            Err(Why::Not(_)) => self.by_text(text),
            Err(Why::Finer(_)) => Err(self.finer()),
            Err(other) => Err(other),
            Ok((negative, ticks)) => match &self.base {
                _ if negative && ticks > 0 => Err(BEFORE_1970),
                Some(base) => base.add(ticks),
                None => Ok(ticks),
            },
        }
    }

    fn finer(&self) -> Why {
        Why::said(format!("is finer than the feed's unit, {}", self.unit))
    }

    #[inline]
    fn resolve_iso(&mut self, civil: &Civil) -> std::result::Result<u64, Why> {
        let offset = match civil.offset {
            Some(offset) => offset,
            None => self.local_offset(civil)?,
        };
        self.ticks(civil.seconds - offset, civil.nanos)
    }

    /// Returns the zone's offset at a local time, in seconds, and remembers it if it holds for the
    /// whole minute.
    fn local_offset(&mut self, civil: &Civil) -> std::result::Result<i64, Why> {
        let minute = civil.seconds.div_euclid(60);
        if self.last_minute.0 == minute {
            return Ok(self.last_minute.1);
        }
        let zone = self.zone.as_ref().ok_or(NO_ZONE)?;
        let at = |seconds, nanos| -> std::result::Result<i64, Why> {
            offset_at(zone, datetime(seconds, nanos).ok_or(Why::Range)?)
        };
        let offset = at(civil.seconds, civil.nanos)?;
        let ends = (at(minute * 60, 0), at(minute * 60 + 59, 999_999_999));
        if ends == (Ok(offset), Ok(offset)) {
            self.last_minute = (minute, offset);
        }
        Ok(offset)
    }

    /// Converts seconds and nanoseconds since the epoch to ticks.
    #[inline]
    fn ticks(&self, seconds: i64, nanos: u32) -> std::result::Result<u64, Why> {
        let seconds = u64::try_from(seconds).map_err(|_| BEFORE_1970)?;
        let (nanos, tick) = (u64::from(nanos), self.unit.nanos());
        if !nanos.is_multiple_of(tick) && !self.truncate {
            return Err(self.finer());
        }
        seconds
            .checked_mul(self.unit.per_second())
            .and_then(|ticks| ticks.checked_add(nanos / tick))
            .ok_or(TOO_LATE)
    }

    /// Resolves a local time in the zone, using jiff.
    fn resolve(&self, dt: DateTime) -> std::result::Result<u64, Why> {
        let zone = self.zone.as_ref().ok_or(NO_ZONE)?;
        let offset = offset_at(zone, dt)?;
        self.ticks(local_seconds(dt) - offset, dt.subsec_nanosecond().unsigned_abs())
    }

    fn timestamp(&self, at: jiff::Timestamp) -> std::result::Result<u64, Why> {
        let nanos = at.as_nanosecond();
        if nanos < 0 {
            return Err(BEFORE_1970);
        }
        self.ticks(at.as_second(), at.subsec_nanosecond().unsigned_abs())
    }

    fn by_format(&self, text: &[u8]) -> std::result::Result<u64, Why> {
        let format = self.format.as_deref().unwrap_or_default();
        let tm = BrokenDownTime::parse(format, text)
            .map_err(|e| Why::said(format!("is not a time by {format:?} ({e})")))?;
        // jiff reads a leap second as the second before it. That would change the value, so reject
        // it.
        if tm.second() == Some(59) && has_leap_second(format, text) {
            return Err(LEAP);
        }
        if let Ok(at) = tm.to_timestamp() {
            return self.timestamp(at);
        }
        if tm.offset().is_some() {
            return Err(Why::Range);
        }
        let date = match (tm.to_date(), &self.base) {
            (Ok(date), _) => date,
            (Err(_), Some(base)) => base.date,
            (Err(e), None) => return Err(Why::said(format!("has no date by {format:?} ({e})"))),
        };
        let time = tm
            .to_time()
            .map_err(|e| Why::said(format!("has no time of day by {format:?} ({e})")))?;
        self.civil(date.to_datetime(time))
    }

    /// Resolves a civil time in the zone, or in UTC if only a base was given.
    fn civil(&self, dt: DateTime) -> std::result::Result<u64, Why> {
        if self.zone.is_none() && self.base.is_some() {
            return self.ticks(local_seconds(dt), dt.subsec_nanosecond().unsigned_abs());
        }
        self.resolve(dt)
    }

    fn by_text(&self, text: &[u8]) -> std::result::Result<u64, Why> {
        if let Some(base) = &self.base
            && let Some((seconds, nanos, used)) = clock(text)
            && used == text.len()
        {
            let time = Time::new(
                (seconds / 3600) as i8,
                (seconds / 60 % 60) as i8,
                (seconds % 60) as i8,
                nanos as i32,
            );
            return self.civil(base.date.to_datetime(time.map_err(|_| NO_TIME)?));
        }
        // jiff parses only the extended form here, in which a leap second contains ":60".
        if text.get(4) != Some(&b'-') {
            return Err(NO_TIME);
        }
        if text.windows(3).any(|w| w == b":60") {
            return Err(LEAP);
        }
        let pieces = Pieces::parse(text).map_err(|_| NO_TIME)?;
        if let (Some(_), Some(_)) = (pieces.time_zone_annotation(), pieces.offset()) {
            let text = std::str::from_utf8(text).map_err(|_| NO_TIME)?;
            let zoned: jiff::Zoned =
                text.parse().map_err(|e| Why::said(format!("is not a time ({e})")))?;
            return self.timestamp(zoned.timestamp());
        }
        let dt = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
        let nanos = dt.subsec_nanosecond().unsigned_abs();
        if let Some(offset) = pieces.to_numeric_offset() {
            return self.ticks(local_seconds(dt) - i64::from(offset.seconds()), nanos);
        }
        match pieces.to_time_zone().map_err(|e| Why::said(format!("is not a time ({e})")))? {
            Some(zone) => self.ticks(local_seconds(dt) - offset_at(&zone, dt)?, nanos),
            None => self.resolve(dt),
        }
    }
}

impl Base {
    #[inline]
    fn add(&self, ticks: u64) -> std::result::Result<u64, Why> {
        if ticks >= self.length {
            return Err(Why::said(format!("is no time of the day {}", self.date)));
        }
        u64::try_from(self.start + i128::from(ticks))
            .map_err(|_| if self.start < 0 { BEFORE_1970 } else { TOO_LATE })
    }
}

const BEFORE_1970: Why = Why::Said(std::borrow::Cow::Borrowed("is before 1970"));
const TOO_LATE: Why =
    Why::Said(std::borrow::Cow::Borrowed("is too late for 64 bits of the feed's unit"));
const LEAP: Why = Why::Said(std::borrow::Cow::Borrowed(
    "is a leap second, which a count since the epoch cannot hold",
));
const NO_ZONE: Why =
    Why::Said(std::borrow::Cow::Borrowed("has no offset, and no time zone is given (--tz)"));
const NO_TIME: Why = Why::Not("a time (a number, or as 2026-01-31T09:30:00.123Z)");

/// A parsed time: local seconds since 1970, and the rest.
#[derive(Debug, PartialEq)]
struct Civil {
    seconds: i64,
    nanos: u32,
    offset: Option<i64>,
}

/// Whether a `60` in the text is the seconds. If it is, the same text with `58` in that place has
/// second 58.
fn has_leap_second(format: &str, text: &[u8]) -> bool {
    let sixties = text.windows(2).enumerate().filter(|(_, pair)| pair == b"60");
    sixties.into_iter().any(|(at, _)| {
        let mut other = text.to_vec();
        other[at..at + 2].copy_from_slice(b"58");
        BrokenDownTime::parse(format, other).is_ok_and(|tm| tm.second() == Some(58))
    })
}

#[inline(always)]
fn two(b: &[u8], at: usize) -> Option<i64> {
    let pair = b.get(at..)?.first_chunk::<2>()?;
    let (high, low) = (pair[0].wrapping_sub(b'0'), pair[1].wrapping_sub(b'0'));
    (high < 10 && low < 10).then(|| i64::from(high) * 10 + i64::from(low))
}

/// Parses `YYYY-MM-DD[T ]HH:MM:SS[.f{1,9}][Z|+hh:mm]`, all of `text`.
#[inline]
fn iso(text: &[u8], last: &mut ([u8; 10], i64)) -> Option<Civil> {
    let date = text.first_chunk::<10>()?;
    if *date != last.0 {
        *last = (*date, day_number(date)?);
    }
    if !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let rest = text.get(11..)?;
    let (of_day, nanos, used) = clock(rest)?;
    let offset = match rest.get(used..)? {
        [] => None,
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), hm @ ..] if hm.len() == 5 && hm[2] == b':' => {
            let (hours, minutes) = (two(hm, 0)?, two(hm, 3)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let size = hours * 3600 + minutes * 60;
            Some(if *sign == b'-' { -size } else { size })
        }
        _ => return None,
    };
    Some(Civil { seconds: last.1 * DAY_SECONDS + of_day, nanos, offset })
}

/// Parses `HH:MM:SS[.f{1,9}]` and returns the second of the day, the nanoseconds and the length.
#[inline]
fn clock(b: &[u8]) -> Option<(i64, u32, usize)> {
    let (hour, minute, second) = (two(b, 0)?, two(b, 3)?, two(b, 6)?);
    if hour > 23 || minute > 59 || second > 59 || b[2] != b':' || b[5] != b':' {
        return None;
    }
    let seconds = hour * 3600 + minute * 60 + second;
    if b.get(8) != Some(&b'.') {
        return Some((seconds, 0, 8));
    }
    let (mut nanos, mut count) = (0u64, 0);
    while let Some(digit) = b.get(9 + count).map(|c| c.wrapping_sub(b'0')).filter(|&d| d < 10) {
        if count == 9 {
            return None;
        }
        nanos = nanos * 10 + u64::from(digit);
        count += 1;
    }
    (count > 0).then(|| (seconds, (nanos * POW10[9 - count]) as u32, 9 + count))
}

/// Returns the days from 1970 to `YYYY-MM-DD`.
fn day_number(date: &[u8; 10]) -> Option<i64> {
    let (century, of_century) = (two(date, 0)?, two(date, 2)?);
    let (month, day) = (two(date, 5)?, two(date, 8)?);
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = (century * 100 + of_century) as i16;
    Some(days(Date::new(year, month as i8, day as i8).ok()?))
}

/// Returns the days from 1970 to a date. Years begin in March here, so that a leap day is the last
/// day of its year.
fn days(date: Date) -> i64 {
    let month = i64::from(date.month());
    let year = i64::from(date.year()) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(date.day()) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn local_seconds(dt: DateTime) -> i64 {
    let (hour, minute) = (i64::from(dt.hour()), i64::from(dt.minute()));
    days(dt.date()) * DAY_SECONDS + hour * 3600 + minute * 60 + i64::from(dt.second())
}

/// Returns the local time of `seconds` since 1970: the inverse of [`local_seconds`].
fn datetime(seconds: i64, nanos: u32) -> Option<DateTime> {
    let nanos = i32::try_from(nanos).ok()?;
    let at = jiff::Timestamp::new(seconds, nanos).ok()?;
    Some(jiff::tz::Offset::UTC.to_datetime(at))
}

/// Returns the zone's offset at a local time, in seconds.
///
/// # Errors
/// A local time that the zone skips or repeats; the message names both candidates.
fn offset_at(zone: &TimeZone, dt: DateTime) -> std::result::Result<i64, Why> {
    let (what, before, after) = match zone.to_ambiguous_timestamp(dt).offset() {
        AmbiguousOffset::Unambiguous { offset } => return Ok(i64::from(offset.seconds())),
        AmbiguousOffset::Gap { before, after } => ("does not exist", before, after),
        AmbiguousOffset::Fold { before, after } => ("occurs twice", before, after),
    };
    let name = zone.iana_name().unwrap_or("the zone");
    let hours = |offset: jiff::tz::Offset| {
        let minutes = offset.seconds().abs() / 60;
        let sign = if offset.seconds() < 0 { '-' } else { '+' };
        format!("{dt}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    };
    let (before, after) = (hours(before), hours(after));
    Err(Why::said(format!("{what} in {name}: say {before} or {after}")))
}

#[cfg(test)]
#[path = "timestamp_tests.rs"]
mod tests;
