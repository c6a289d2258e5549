//! Times as arguments: the grammar that every `--since` and `--until` takes.
//!
//! There are two steps, because a feed's unit and its first and last times are known only once the
//! feed is open. [`TimeArg`] is parsed from the command line, where invalid text is rejected at
//! once. [`TimeArg::resolve`] makes it a number.
//!
//! ```text
//! 2024-05-01T09:30:00.123456789-04:00          RFC 3339, any offset, 0 to 9 fraction digits
//! 2024-05-01   2024-05-01 09:30 Europe/Berlin  DATE [TIME] [Z | +hh:mm | zone name]
//! 09:30   09:30:00.5Z                          TIME, today
//! now today yesterday tomorrow [TIME] [zone]   now+5m and now-5m too
//! -1h   +5m   1h ago   1h                      relative to now; without a sign, ago
//! @1714555800   @1714555800.5   @1714555800500ms   @...us   @...ns
//! 1714555800000000   1714555800000000000       16 digits are us, 19 are ns
//! first   last   first+5m   last-5m            the feed's oldest and newest time (one that is more
//!                                              than a day ahead of the clock does not count)
//! seq:42                                       a record by its seq
//! ```
//!
//! A DATE or a day's name without a TIME is the first instant of that day. A local time that
//! daylight saving skips or repeats is rejected, and the error names both candidates.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use deepwater::reader::{Reader, Snapshot};
use deepwater::time::TimeUnit;
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::durations::parse_duration;
use super::tz::{LocalZone, parse_zone};

const SECOND_NS: i128 = 1_000_000_000;
const DAY_NS: i128 = 86_400 * SECOND_NS;
const EXAMPLES: &str = "times are as 2024-05-01T09:30:00Z, '2024-05-01 09:30', 09:30, \
                        yesterday, -1h, @1714555800, first, last-5m or seq:42";

/// A time that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeError {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it, and what would be valid.
    pub why: String,
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time {:?}: {}", self.text, self.why)
    }
}

impl std::error::Error for TimeError {}

/// A time as given on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeArg {
    text: String,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Seq(u64),
    /// Nanoseconds since the epoch.
    Instant(i128),
    /// Nanoseconds from an anchor.
    Offset(Anchor, i128),
    /// A local date and time; without a time, the first instant of the day.
    Local {
        day: Day,
        time: Option<Time>,
        zone: Option<TimeZone>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Anchor {
    Now,
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Day {
    Date(Date),
    /// Days from today.
    Today(i32),
}

/// The context in which a time is resolved.
pub struct Context<'a> {
    /// The present. It is read once, so that both ends of a range use the same.
    pub now: Timestamp,
    /// The zone of local times that name no zone.
    pub zone: &'a LocalZone,
    /// The feed's unit.
    pub unit: TimeUnit,
    /// Returns the feed's oldest and newest time in its unit, or `None` if it is empty. Called only
    /// for `first` and `last`.
    pub span: &'a dyn Fn() -> anyhow::Result<Option<(u64, u64)>>,
}

/// A bound of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// In the feed's unit.
    Time(u64),
    /// A record's seq.
    Seq(u64),
}

impl Resolved {
    /// Returns the bound as text that [`TimeArg`] reads back, for `-v`.
    pub fn show(self, unit: TimeUnit, zone: &TimeZone) -> String {
        match self {
            Resolved::Time(ticks) => show_time(ticks, unit, zone),
            Resolved::Seq(seq) => format!("seq:{seq}"),
        }
    }
}

/// Parses a time, for clap's `value_parser`. The error does not repeat the text, since clap prints
/// it.
///
/// # Errors
/// The reason, and an example of a valid time.
pub fn parse_time(text: &str) -> Result<TimeArg, String> {
    parse(text.trim()).map(|form| TimeArg { text: text.to_owned(), form })
}

impl FromStr for TimeArg {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_time(text).map_err(|why| TimeError { text: text.to_owned(), why })
    }
}

impl fmt::Display for TimeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TimeArg {
    /// Returns the bound that this time stands for.
    ///
    /// A time finer than the feed's unit is rounded up. Ranges are half-open: a record at the whole
    /// tick `t` is at or after the bound `b` exactly if `t >= ceil(b)`, and before it exactly if `t
    /// < ceil(b)`. So the same rounding is exact at both ends. Times before 1970 become 0, and
    /// times past the unit's last tick become that tick. In an empty feed `first` and `last` are 0,
    /// since any range of it is empty.
    ///
    /// # Errors
    /// A [`TimeError`] for a local time that does not exist or exists twice, or if its zone cannot
    /// be found; or the error of [`Context::span`].
    pub fn resolve(&self, context: &Context<'_>) -> anyhow::Result<Resolved> {
        let wrong = |why: String| TimeError { text: self.text.clone(), why };
        let instant_ns = match &self.form {
            Form::Seq(seq) => return Ok(Resolved::Seq(*seq)),
            Form::Instant(ns) => *ns,
            Form::Offset(Anchor::Now, offset_ns) => context.now.as_nanosecond() + offset_ns,
            Form::Offset(anchor, offset_ns) => match (context.span)()? {
                None => 0,
                Some((first, last)) => {
                    let ticks = if *anchor == Anchor::First { first } else { last };
                    i128::from(ticks) * i128::from(context.unit.nanos()) + offset_ns
                }
            },
            Form::Local { day, time, zone } => {
                let zone = match zone {
                    Some(zone) => zone,
                    None => context.zone.get().map_err(wrong)?,
                };
                local(*day, *time, zone, context.now).map_err(wrong)?
            }
        };
        Ok(Resolved::Time(ticks_up(instant_ns, context.unit)))
    }

    /// Whether the result depends on the records in the feed.
    pub fn follows_the_feed(&self) -> bool {
        matches!(self.form, Form::Offset(Anchor::First | Anchor::Last, _))
    }

    /// Whether this is a seq.
    pub fn is_seq(&self) -> bool {
        matches!(self.form, Form::Seq(_))
    }
}

/// Converts nanoseconds to ticks, rounded up and limited to between 0 and the last tick.
fn ticks_up(instant_ns: i128, unit: TimeUnit) -> u64 {
    let tick_ns = i128::from(unit.nanos());
    let ticks = instant_ns.max(0).saturating_add(tick_ns - 1) / tick_ns;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Returns the newest time of a feed whose times are `times`, and the greatest one if that is
/// another: one more than a day ahead of the clock is a mistake in the data, if there are others.
///
/// # Errors
/// If the feed cannot be read.
pub fn newest(
    reader: &Reader,
    snapshot: &Snapshot,
    times: (u64, u64),
) -> deepwater::Result<(u64, Option<u64>)> {
    let ahead_ns = Timestamp::now().as_nanosecond() + DAY_NS;
    let most = ticks_up(ahead_ns, reader.layout().unit());
    if times.1 <= most {
        return Ok((times.1, None));
    }
    let newest = reader.newest_up_to(snapshot, most)?;
    Ok(newest.map_or((times.1, None), |newest| (newest, Some(times.1))))
}

/// Formats a time as RFC 3339 in `zone`, with every digit of its unit. A time after the year 9999
/// becomes `@N` with the unit. [`TimeArg`] reads both back exactly.
pub fn show_time(ticks: u64, unit: TimeUnit, zone: &TimeZone) -> String {
    let instant_ns = i128::from(ticks) * i128::from(unit.nanos());
    let Ok(instant) = Timestamp::from_nanosecond(instant_ns) else {
        return format!("@{ticks}{unit}");
    };
    show_instant(instant, zone, Some(unit.digits()))
}

fn show_instant(instant: Timestamp, zone: &TimeZone, digits: Option<usize>) -> String {
    // Liberia's offset had seconds until 1972, which RFC 3339 cannot express.
    let offset = match zone.to_offset(instant) {
        offset if offset.seconds() % 60 == 0 => offset,
        _ => Offset::UTC,
    };
    let local = offset.to_datetime(instant);
    let mut text = local.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    match digits {
        Some(6) => text.push_str(&local.strftime("%.6f").to_string()),
        Some(_) => text.push_str(&local.strftime("%.9f").to_string()),
        None => text.push_str(&local.strftime("%.f").to_string()),
    }
    match offset.seconds() {
        0 => text.push('Z'),
        seconds => {
            let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
            let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        }
    }
    text
}

/// Returns the instant of a local time, in nanoseconds since the epoch.
fn local(day: Day, time: Option<Time>, zone: &TimeZone, now: Timestamp) -> Result<i128, String> {
    let out_of_range = || "beyond the years 1 to 9999".to_owned();
    let date = match day {
        Day::Date(date) => date,
        Day::Today(days) => {
            let today = zone.to_datetime(now).date();
            let shift = jiff::Span::new().days(days);
            today.checked_add(shift).map_err(|_| out_of_range())?
        }
    };
    let Some(time) = time else {
        // Midnight itself may be skipped or repeated, but the day still has a first instant.
        let start = date.to_datetime(Time::midnight());
        let instant = zone.to_ambiguous_timestamp(start).compatible();
        return Ok(instant.map_err(|_| out_of_range())?.as_nanosecond());
    };
    let asked = date.to_datetime(time);
    let ambiguous = zone.to_ambiguous_timestamp(asked);
    let (what, before, after) = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            let instant = offset.to_timestamp(asked).map_err(|_| out_of_range())?;
            return Ok(instant.as_nanosecond());
        }
        AmbiguousOffset::Gap { before, after } => ("does not exist", after, before),
        AmbiguousOffset::Fold { before, after } => ("exists twice", before, after),
    };
    let show = |offset: Offset| match offset.to_timestamp(asked) {
        Ok(instant) => show_instant(instant, zone, None),
        Err(_) => asked.to_string(),
    };
    let name = zone.iana_name().unwrap_or("the local zone");
    Err(format!(
        "{} {what} in {name}, where the clock is changed; write {} or {}",
        asked.strftime("%Y-%m-%d %H:%M:%S%.f"),
        show(before),
        show(after)
    ))
}

fn parse(text: &str) -> Result<Form, String> {
    if text.is_empty() {
        return Err(format!("no time; {EXAMPLES}"));
    }
    if let Some(number) = text.strip_prefix("seq:") {
        let plain = number.bytes().all(|b| b.is_ascii_digit());
        let seq = number.parse().ok().filter(|_| plain).map(Form::Seq);
        return seq.ok_or_else(|| "a record's number is as seq:42".to_owned());
    }
    if let Some(number) = text.strip_prefix('@') {
        return epoch(number).map(Form::Instant);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return bare_integer(text);
    }
    if let Some(form) = keyword(text) {
        return form;
    }
    if is_date(text) {
        let (date, rest) = text.split_at(10);
        return local_form(Day::Date(parse_date(date)?), rest);
    }
    if text.bytes().take_while(u8::is_ascii_digit).count() <= 2 && text.contains(':') {
        return local_form(Day::Today(0), text);
    }
    relative(text)
}

/// Parses `@SEC`, `@SEC.frac`, `@Nms`, `@Nus` or `@Nns` as nanoseconds since the epoch.
fn epoch(text: &str) -> Result<i128, String> {
    let wrong = || "as @SECONDS, @SECONDS.fraction, @Nms, @Nus or @Nns".to_owned();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let digits = match unit {
        "" | "s" => 9,
        "ms" => 6,
        "us" => 3,
        "ns" => 0,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(wrong()),
        None => (number, ""),
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) {
        return Err(wrong());
    }
    if fraction.len() > digits {
        return Err("finer than a nanosecond".to_owned());
    }
    if whole.len() > 24 {
        return Err("beyond any time".to_owned());
    }
    let scaled = format!("{whole}{fraction}{}", "0".repeat(digits - fraction.len()));
    let ns: i128 = scaled.parse().map_err(|_| wrong())?;
    Ok(if negative { -ns } else { ns })
}

/// Parses a bare integer. Its number of digits decides the unit: 16 or 19, others are rejected.
fn bare_integer(text: &str) -> Result<Form, String> {
    let number: i128 = text.parse().map_err(|_| "beyond any time".to_owned())?;
    match text.len() {
        16 => Ok(Form::Instant(number * 1000)),
        19 => Ok(Form::Instant(number)),
        digits => Err(format!(
            "{digits} digits: 16 would be microseconds, 19 nanoseconds; say which unit, as \
             @{text} (seconds), @{text}ms, @{text}us or @{text}ns"
        )),
    }
}

/// Parses a named time. Returns `None` if `text` does not begin with a name.
fn keyword(text: &str) -> Option<Result<Form, String>> {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let anchor = match word {
        "now" => Anchor::Now,
        "first" => Anchor::First,
        "last" => Anchor::Last,
        "today" => return Some(local_form(Day::Today(0), rest)),
        "yesterday" => return Some(local_form(Day::Today(-1), rest)),
        "tomorrow" => return Some(local_form(Day::Today(1), rest)),
        _ => return None,
    };
    let after = rest.trim_start();
    if after.is_empty() {
        return Some(Ok(Form::Offset(anchor, 0)));
    }
    if after.starts_with(['+', '-']) {
        return Some(signed(after).map(|offset_ns| Form::Offset(anchor, offset_ns)));
    }
    Some(match anchor {
        Anchor::Now => local_form(Day::Today(0), rest),
        _ => Err(format!("after {word} comes nothing, or as {word}-5m or {word}+5m")),
    })
}

/// Parses `-1h`, `+5m`, `1h ago`, or `1h`, which also means ago.
fn relative(text: &str) -> Result<Form, String> {
    let signed_text = text.starts_with(['+', '-']);
    let offset_ns = match text.strip_suffix("ago").filter(|rest| rest.ends_with(' ')) {
        Some(_) if signed_text => return Err("a sign or ago, not both".to_owned()),
        Some(duration) => -nanos(duration.trim_end())?,
        None if signed_text => signed(text)?,
        None if text.starts_with(|c: char| c.is_ascii_digit()) => -nanos(text)?,
        None => return Err(format!("no time; {EXAMPLES}")),
    };
    Ok(Form::Offset(Anchor::Now, offset_ns))
}

fn signed(text: &str) -> Result<i128, String> {
    let (sign, duration) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    Ok(sign * nanos(duration.trim_start())?)
}

fn nanos(duration: &str) -> Result<i128, String> {
    let duration = parse_duration(duration)?;
    Ok(i128::from(duration.as_secs()) * SECOND_NS + i128::from(duration.subsec_nanos()))
}

/// Whether `text` begins with the shape `dddd-dd-dd`.
fn is_date(text: &str) -> bool {
    let shape = |(i, b): (usize, u8)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() };
    text.len() >= 10 && text.bytes().take(10).enumerate().all(shape)
}

fn parse_date(text: &str) -> Result<Date, String> {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i16>().unwrap_or(0);
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    if year == 0 {
        return Err("years are 0001 to 9999".to_owned());
    }
    Date::new(year, month as i8, day as i8).map_err(|_| format!("{text} is no day"))
}

/// Parses what follows a day: `[T| ]TIME`, then a zone. Both are optional.
fn local_form(day: Day, rest: &str) -> Result<Form, String> {
    let after_t = rest
        .strip_prefix(['T', 't'])
        .filter(|after| after.starts_with(|c: char| c.is_ascii_digit()) || after.is_empty());
    let text = after_t.unwrap_or_else(|| rest.trim_start());
    if after_t == Some("") {
        return Err("a time follows the T, as 2024-05-01T09:30".to_owned());
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.');
    let (time, zone) = text.split_at(end.unwrap_or(text.len()));
    let time_of_day = match time {
        "" => None,
        _ => Some(parse_clock(time)?),
    };
    let named = zone.starts_with(|c: char| c.is_ascii_alphabetic());
    let glued = !zone.is_empty() && (!time.is_empty() || zone.len() == rest.len());
    if glued && named && !matches!(zone, "Z" | "z") {
        return Err(format!("{zone:?} after the time; a zone's name follows a blank"));
    }
    let zone = match zone.trim() {
        "" => None,
        zone => Some(parse_zone(zone)?),
    };
    Ok(Form::Local { day, time: time_of_day, zone })
}

/// Parses `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fraction`.
fn parse_clock(text: &str) -> Result<Time, String> {
    let wrong = || format!("{text:?} is no time of day; as 09:30 or 09:30:00.123456789");
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let number = |part: &str, least: usize| {
        let fits = part.len() >= least && part.len() <= 2;
        part.parse::<i8>().ok().filter(|_| fits).ok_or_else(wrong)
    };
    let (hour, minute, second) = match parts[..] {
        [hour, minute] if fraction.is_none() => (number(hour, 1)?, number(minute, 2)?, 0),
        [hour, minute, second] => (number(hour, 1)?, number(minute, 2)?, number(second, 2)?),
        _ => return Err(wrong()),
    };
    let subsec_ns = match fraction {
        None => 0,
        Some(f) if f.is_empty() || f.bytes().any(|b| !b.is_ascii_digit()) => return Err(wrong()),
        Some(f) if f.len() > 9 => return Err("a fraction has 9 digits at most".to_owned()),
        Some(f) => format!("{f:0<9}").parse().map_err(|_| wrong())?,
    };
    match (hour, minute, second) {
        (24, ..) => Err("24:00 is 00:00 of the next day".to_owned()),
        (_, _, 60) => Err("seconds are 00 to 59; leap seconds are not counted".to_owned()),
        _ => Time::new(hour, minute, second, subsec_ns).map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests;
