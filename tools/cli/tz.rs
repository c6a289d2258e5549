//! Time zones: from names to jiff's zones, and the zone of local times.
//!
//! Names are looked up in the bundled data first, which opens no file and gives the same answer on
//! every machine, then in the system's. No zone is looked up unless a time needs it.

use std::cell::OnceCell;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

/// Parses a zone, for clap's `value_parser`: an IANA name, `Z`, `UTC` or an offset such as
/// `+02:00`.
///
/// # Errors
/// The reason, with similar names.
pub fn parse_zone(text: &str) -> Result<TimeZone, String> {
    match text {
        "" => return Err("no time zone; as America/New_York, UTC or +02:00".to_owned()),
        "Z" | "z" => return Ok(TimeZone::UTC),
        _ if text.starts_with(['+', '-']) => return parse_offset(text).map(TimeZone::fixed),
        _ => {}
    }
    if let Some(zone) = named(text) {
        return Ok(zone);
    }
    let near = nearest(text);
    let hint = if near.is_empty() {
        "zones are named as America/New_York, UTC or +02:00".to_owned()
    } else {
        format!("near names: {}", near.join(", "))
    };
    Err(format!("{text:?} is no time zone; {hint}"))
}

fn named(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).or_else(|_| jiff::tz::db().get(name)).ok()
}

/// Parses `+hh:mm`, `+hhmm` or `+hh`, with either sign.
fn parse_offset(text: &str) -> Result<Offset, String> {
    let wrong = || format!("{text:?} is no offset; as +02:00, from -23:59 to +23:59");
    let (sign, digits) = match text.as_bytes() {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = match *digits {
        [a, b] => ([a, b], [b'0', b'0']),
        [a, b, c, d] | [a, b, b':', c, d] => ([a, b], [c, d]),
        _ => return Err(wrong()),
    };
    let number = |[tens, ones]: [u8; 2]| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
    };
    match (number(hours), number(minutes)) {
        (Some(h @ 0..=23), Some(m @ 0..=59)) => {
            Offset::from_seconds(sign * (h * 3600 + m * 60)).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

/// Returns up to three zone names similar to `text`, by edit distance of the whole name or of its
/// last part.
fn nearest(text: &str) -> Vec<String> {
    let asked = text.to_ascii_lowercase().replace(' ', "_");
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let mut scored: Vec<(usize, String)> = TimeZoneDatabase::bundled()
        .available()
        .map(|name| name.as_str().to_owned())
        .filter_map(|name| {
            let whole = edits(&asked, &name.to_ascii_lowercase());
            let part = edits(city(&asked).as_str(), &city(&name)) + 1;
            let score = whole.min(part);
            (score <= 1 + asked.len() / 4).then_some((score, name))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Returns the Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The zone of times that name none: `--tz`, else `$TZ`, else the system's. It is looked up when
/// first needed.
#[derive(Debug, Default)]
pub struct LocalZone {
    asked: Option<TimeZone>,
    found: OnceCell<TimeZone>,
}

impl LocalZone {
    /// Creates it with the value of `--tz`, if given.
    pub fn new(asked: Option<TimeZone>) -> LocalZone {
        LocalZone { asked, found: OnceCell::new() }
    }

    /// Returns the zone.
    ///
    /// # Errors
    /// If `$TZ` names no zone, or the system's zone cannot be found.
    pub fn get(&self) -> Result<&TimeZone, String> {
        if let Some(zone) = &self.asked {
            return Ok(zone);
        }
        if let Some(zone) = self.found.get() {
            return Ok(zone);
        }
        let zone = match std::env::var_os("TZ") {
            Some(text) => from_variable(&text.to_string_lossy())?,
            None => system()?,
        };
        Ok(self.found.get_or_init(|| zone))
    }
}

/// Parses `$TZ` as POSIX defines it: a name, a name or path after a colon, a rule, or empty for
/// UTC.
fn from_variable(text: &str) -> Result<TimeZone, String> {
    let name = text.strip_prefix(':').unwrap_or(text);
    let name = name.rsplit_once("zoneinfo/").map_or(name, |(_, name)| name);
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    if let Some(zone) = named(name) {
        return Ok(zone);
    }
    // Otherwise it is a rule such as `EST5EDT,M3.2.0,M11.1.0`, or a file of zone data.
    if let Ok(zone) = TimeZone::posix(name) {
        return Ok(zone);
    }
    let path = text.strip_prefix(':').unwrap_or(text);
    let data = std::fs::read(path).ok();
    if let Some(zone) = data.and_then(|data| TimeZone::tzif(path, &data).ok()) {
        return Ok(zone);
    }
    parse_zone(name).map_err(|why| format!("$TZ: {why}"))
}

fn system() -> Result<TimeZone, String> {
    // The link names the zone. Loading it from the bundled data avoids a walk through the system's
    // zone directory.
    let link = std::fs::read_link("/etc/localtime").ok();
    let name = link.as_deref().and_then(|path| path.to_str()?.rsplit_once("zoneinfo/"));
    if let Some(zone) = name.and_then(|(_, name)| named(name)) {
        return Ok(zone);
    }
    TimeZone::try_system()
        .map_err(|_| "the system's time zone cannot be found; give --tz or set $TZ".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn zones_are_found_by_name_and_offset() {
        assert_eq!(parse_zone("America/Chicago").unwrap().iana_name(), Some("America/Chicago"));
        assert_eq!(parse_zone("america/chicago").unwrap().iana_name(), Some("America/Chicago"));
        assert_eq!(parse_zone("UTC").unwrap(), TimeZone::UTC);
        assert_eq!(parse_zone("Z").unwrap(), TimeZone::UTC);
        for (text, seconds) in
            [("+02:00", 7200), ("+0530", 19_800), ("-05", -18_000), ("-23:59", -86_340)]
        {
            let zone = parse_zone(text).unwrap();
            assert_eq!(zone.to_fixed_offset().unwrap().seconds(), seconds, "{text}");
        }
    }

    #[test]
    fn invalid_zones_are_rejected_with_similar_names() {
        for (text, near) in [
            ("America/New_Yrok", "America/New_York"),
            ("New_York", "America/New_York"),
            ("chicago", "America/Chicago"),
            ("Asia/Tokio", "Asia/Tokyo"),
            ("", "America/New_York"),
            ("Mars/Olympus", "America/New_York"),
            ("+24:00", "-23:59 to +23:59"),
            ("+2", "no offset"),
            ("+02:60", "no offset"),
        ] {
            let error = parse_zone(text).unwrap_err();
            assert!(error.contains(near), "{text}: {error}");
        }
    }

    #[test]
    fn tz_variable_takes_names_paths_and_rules() {
        let chicago = named("America/Chicago").unwrap();
        for text in ["America/Chicago", ":America/Chicago", ":/usr/share/zoneinfo/America/Chicago"]
        {
            assert_eq!(from_variable(text), Ok(chicago.clone()), "{text}");
        }
        assert_eq!(from_variable(""), Ok(TimeZone::UTC));
        let rule = from_variable("CST6CDT,M3.2.0,M11.1.0").unwrap();
        let summer = jiff::Timestamp::from_second(1_720_000_000).unwrap();
        assert_eq!(rule.to_offset(summer).seconds(), -5 * 3600);
        assert!(from_variable("Nowhere/City").unwrap_err().starts_with("$TZ: "));
    }

    #[test]
    fn the_tz_option_overrides_the_environment() {
        let zone = LocalZone::new(Some(named("Asia/Tokyo").unwrap()));
        assert_eq!(zone.get().unwrap().iana_name(), Some("Asia/Tokyo"));
    }
}
