//! Decides whether to trust the wall clock. Ages decide what is deleted, and a wrong clock could
//! make everything look old (FORMAT.md, Collecting).

use std::collections::HashSet;
use std::fmt;

use crate::registry::feed::{Entry, Moment, SessionEnd, SessionEntry};

/// How far back a trusted clock may have been set, in addition to a thousandth of the time passed.
const SLACK_US: i64 = 60_000_000;
/// How far ahead of the expected time a trusted clock may be, in addition to that slack.
const AHEAD_US: i64 = 30 * 86_400 * 1_000_000;
/// How long a clock must run evenly after a jump before it is trusted.
const STEADY_NS: u64 = 3_600 * 1_000_000_000;

/// Why the wall clock is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The feed whose times contradict the clock.
    pub feed: String,
    /// How far the clock is ahead of the expected time; negative if it is behind.
    pub drift_us: i64,
    /// Whether no dw-gc has collected the feed yet, so that the clock was compared with the feed's
    /// own times.
    pub first: bool,
    /// Since when the clock has run evenly.
    pub(super) since: Moment,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = (self.drift_us.unsigned_abs() + 30_000_000) / 60_000_000;
        let days = minutes / 1440;
        let by = if days > 1 { format!("{days} days") } else { format!("{minutes} minutes") };
        let way = if self.drift_us < 0 { "went back" } else { "jumped ahead" };
        let since = match self.first {
            false => "was last looked after",
            true => "was made or last opened by a writer, and no dw-gc has looked after it yet",
        };
        write!(
            f,
            "the clock {way} by {by} since {} {since}; nothing is collected before it has run \
             evenly for an hour, or --trust-clock says that it is right",
            self.feed
        )
    }
}

fn same_boot(then: &Moment, now: &Moment) -> bool {
    then.boot_id == now.boot_id && now.boot_id != [0; 16] && then.boot_ns <= now.boot_ns
}

/// Returns how far the wall clock is from the time expected after `then`, if that is too far.
/// Within a boot the time passed is known. Across boots it can be anything from zero up.
fn jump(then: &Moment, now: &Moment) -> Option<i64> {
    let passed_us = match same_boot(then, now) {
        true => ((now.boot_ns - then.boot_ns) / 1000) as i64,
        false => 0,
    };
    let drift_us = (now.wall_us as i64).wrapping_sub(then.wall_us as i64).wrapping_sub(passed_us);
    let slack_us = SLACK_US + passed_us / 1000;
    (!(-slack_us..=AHEAD_US + slack_us).contains(&drift_us)).then_some(drift_us)
}

/// Returns a moment to judge the clock by, for a feed that dw-gc has never collected: the newest
/// time stamped in an earlier boot.
///
/// Times stamped in this boot prove nothing, because its clock is the one to judge. But if the feed
/// was opened in this boot, the time passed since then is known, and the clock can have jumped only
/// before.
pub(super) fn first_known(created_us: u64, entries: &[Entry], now: &Moment) -> Moment {
    let mut known = Moment { wall_us: created_us, ..Moment::default() };
    let mut earlier = HashSet::new();
    for entry in entries {
        match entry {
            Entry::Session(session) => {
                let SessionEntry { opened_us, opened_boot_ns, boot_id, .. } = *session;
                let opened = Moment { wall_us: opened_us, boot_ns: opened_boot_ns, boot_id };
                if same_boot(&opened, now) {
                    if known.boot_id == [0; 16] {
                        (known.boot_ns, known.boot_id) = (opened_boot_ns, boot_id);
                    }
                    continue;
                }
                earlier.insert(session.session_id);
                // For any other end, the next writer stamps the time, perhaps in another boot.
                let own = [SessionEnd::Ended, SessionEnd::Signal, SessionEnd::Error];
                let close = session.close.filter(|close| own.contains(&close.reason));
                let closed_us = close.map_or(0, |close| close.closed_us);
                known.wall_us = known.wall_us.max(opened_us).max(closed_us);
            }
            Entry::Chunk(chunk) if earlier.contains(&chunk.session_id) => {
                known.wall_us = known.wall_us.max(chunk.created_us);
            }
            Entry::Chunk(_) | Entry::Range(_) => {}
        }
    }
    known
}

/// Judges the clock by the moment of the feed's last collection and the moment a jump was first
/// seen.
///
/// A jump may mean that the machine was off for two months, or that the clock was wrong until now.
/// In both cases the clock is trusted again once it has run evenly for an hour of this boot.
///
/// `first` means that no dw-gc has collected the feed; `last` is then from [`first_known`].
pub(super) fn judge(
    feed: &str,
    last: &Moment,
    first: bool,
    jumped: &Moment,
    now: &Moment,
) -> Option<Doubt> {
    let drift_us = jump(last, now)?;
    let even = jumped.wall_us > 0 && same_boot(jumped, now) && {
        let ran_us = ((now.boot_ns - jumped.boot_ns) / 1000) as i64;
        let showed_us = (now.wall_us as i64).wrapping_sub(jumped.wall_us as i64);
        showed_us.wrapping_sub(ran_us).abs() <= SLACK_US
    };
    if even && now.boot_ns - jumped.boot_ns >= STEADY_NS {
        return None;
    }
    let since = if even { *jumped } else { *now };
    Some(Doubt { feed: feed.to_owned(), drift_us, first, since })
}

/// Returns a sealed chunk's age in microseconds, by the wall clock. Within a boot the age is at
/// most the time since the chunk was begun, which setting the clock cannot change.
pub(super) fn age_us(sealed_us: u64, begun: &Moment, now: &Moment) -> u64 {
    let age = now.wall_us.saturating_sub(sealed_us);
    match same_boot(begun, now) {
        true => age.min((now.boot_ns - begun.boot_ns) / 1000),
        false => age,
    }
}

/// Returns when chunks were sealed, oldest first, corrected for clocks that may have been wrong. A
/// corrected time is never before the feed was made or an earlier chunk was sealed. A time after
/// `now_us` becomes that of the next chunk, or `now_us` for the last chunk.
pub(super) fn arrivals_us(created_us: u64, sealed_us: &[u64], now_us: u64) -> Vec<u64> {
    let mut floor = if created_us <= now_us { created_us } else { 0 };
    let known: Vec<Option<u64>> = sealed_us
        .iter()
        .map(|&sealed| {
            let past = sealed <= now_us;
            floor = if past { floor.max(sealed) } else { floor };
            past.then_some(floor)
        })
        .collect();
    let mut next = now_us;
    let mut arrivals: Vec<u64> = known
        .into_iter()
        .rev()
        .map(|arrived| {
            next = arrived.unwrap_or(next);
            next
        })
        .collect();
    arrivals.reverse();
    arrivals
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::registry::feed::SessionClose;
    use crate::registry::live::Counters;

    const DAY_US: u64 = 86_400 * 1_000_000;
    const NEVER: Moment = Moment { wall_us: 0, boot_ns: 0, boot_id: [0; 16] };

    /// Returns a moment; times are in seconds.
    fn at(boot: u8, wall: u64, running: u64) -> Moment {
        let (wall_us, boot_ns) = (wall * 1_000_000, running * 1_000_000_000);
        Moment { wall_us, boot_ns, boot_id: [boot; 16] }
    }

    fn drift_s(last: Moment, jumped: Moment, now: Moment) -> Option<i64> {
        judge("t", &last, false, &jumped, &now).map(|doubt| doubt.drift_us / 1_000_000)
    }

    #[test]
    fn a_steady_clock_is_trusted() {
        let last = at(1, 1_000_000, 500);
        for (boot, wall, running) in [
            (1, 1_000_000, 500),
            (1, 1_000_900, 1400),
            // Set back a little, or ahead by less than the limit.
            (1, 1_000_850, 1400),
            (1, 1_000_900 + 29 * 86_400, 1400),
            // The machine slept for two months.
            (1, 1_000_000 + 60 * 86_400, 500 + 60 * 86_400),
            // In another boot, any time may have passed.
            (2, 1_000_000, 5),
            (2, 1_000_000 + 29 * 86_400, 5),
            (2, 999_950, 5),
        ] {
            assert_eq!(drift_s(last, NEVER, at(boot, wall, running)), None, "{boot} {wall}");
        }
    }

    #[test]
    fn a_clock_that_jumped_is_not_trusted() {
        let last = at(1, 1_000_000, 500);
        for (boot, wall, running, drift) in [
            (1, 1_000_800, 1400, -100),
            (1, 1_000_900 + 31 * 86_400, 1400, 31 * 86_400),
            (2, 999_900, 5, -100),
            (2, 0, 5, -1_000_000),
            (2, 1_000_000 + 31 * 86_400, 5, 31 * 86_400),
            (2, u64::MAX / 1_000_000, 5, i64::MAX),
        ] {
            let found = drift_s(last, NEVER, at(boot, wall, running));
            match drift {
                // No clock shows such a time; any doubt will do.
                i64::MAX => assert!(found.is_some()),
                drift => assert_eq!(found, Some(drift), "{boot} {wall} {running}"),
            }
        }
    }

    #[test]
    fn a_clock_that_ran_evenly_for_an_hour_is_trusted_again() {
        let last = at(1, 1_000_000, 500);
        let now = |running: u64| at(2, 9_000_000 + running, running);
        let first = judge("t", &last, false, &NEVER, &now(10)).unwrap();
        assert_eq!(first.since, now(10));
        let second = judge("t", &last, false, &first.since, &now(3000)).unwrap();
        assert_eq!(second.since, now(10), "still the same hour");
        assert_eq!(judge("t", &last, false, &first.since, &now(3610)), None);
        // The clock is corrected meanwhile. That is another jump, and starts another hour.
        let again = judge("t", &last, false, &first.since, &at(2, 8_000_000, 3610)).unwrap();
        assert_eq!(again.since, at(2, 8_000_000, 3610));
        // A reboot starts another hour.
        let rebooted = judge("t", &last, false, &first.since, &at(3, 9_005_000, 10)).unwrap();
        assert_eq!(rebooted.since, at(3, 9_005_000, 10));
        // The clock is back where it was, so it can be trusted.
        assert_eq!(judge("t", &last, false, &first.since, &at(2, 1_000_100, 3610)), None);
    }

    #[test]
    fn a_feed_never_collected_is_judged_by_its_own_times() {
        let session = |boot: u8, opened: Moment, closed: Option<(u64, SessionEnd)>| {
            Entry::Session(SessionEntry {
                position: 0,
                session_id: u64::from(boot),
                base_seq: 0,
                opened_us: opened.wall_us,
                opened_boot_ns: opened.boot_ns,
                boot_id: opened.boot_id,
                pid: 1,
                close: closed.map(|(wall, reason)| SessionClose {
                    end_seq: 0,
                    closed_us: wall * 1_000_000,
                    counters: Counters::default(),
                    reason,
                }),
            })
        };
        let drift_s = |created: u64, entries: &[Entry], now: Moment| {
            let last = first_known(created * 1_000_000, entries, &now);
            judge("t", &last, true, &NEVER, &now).map(|doubt| doubt.drift_us / 1_000_000)
        };
        let day = 86_400;
        // Only the feed's creation time is known.
        assert_eq!(drift_s(1000, &[], at(1, 1000 + 29 * day, 5)), None);
        assert_eq!(drift_s(1000, &[], at(1, 1000 + 31 * day, 5)), Some(31 * day as i64));
        assert_eq!(drift_s(1000, &[], at(1, 900, 5)), Some(-100));
        // The feed is written for two months within one boot.
        let long = [session(1, at(1, 1010, 10), None)];
        assert_eq!(drift_s(1000, &long, at(1, 1000 + 60 * day, 60 * day)), None);
        // The clock was set after the writer opened; until then it showed 1970, or was far ahead.
        assert_eq!(drift_s(1000, &[session(1, at(1, 0, 10), None)], at(1, 1050, 60)), None);
        let ahead = [session(1, at(1, 90 * day, 10), None)];
        assert_eq!(drift_s(1000, &ahead, at(1, 1050, 60)), None);
        assert_eq!(drift_s(1000, &ahead, at(1, 90 * day + 50, 60)), Some(90 * day as i64 - 1000));
        // A writer of this boot stamps the same wrong time that dw-gc sees.
        let before = session(1, at(1, 1010, 10), Some((2000, SessionEnd::Ended)));
        let wrong = [before, session(2, at(2, 90 * day, 10), None)];
        assert_eq!(drift_s(1000, &wrong, at(2, 90 * day + 50, 60)), Some(90 * day as i64 - 2000));
        // This boot's writer stamped the end of the crashed session, so that time proves nothing.
        let crashed = session(1, at(1, 1010, 10), Some((90 * day, SessionEnd::Crashed)));
        let wrong = [crashed, session(2, at(2, 90 * day, 10), None)];
        assert_eq!(drift_s(1000, &wrong, at(2, 90 * day + 50, 60)), Some(90 * day as i64 - 1010));
        // After an even hour the clock is trusted.
        let now = |running: u64| at(2, 90 * day + running, running);
        let last = first_known(1_000_000_000, &wrong, &now(60));
        let doubt = judge("t", &last, true, &NEVER, &now(60)).unwrap();
        assert!(doubt.to_string().contains("no dw-gc has looked after it yet"), "{doubt}");
        assert_eq!(judge("t", &last, true, &doubt.since, &now(3700)), None);
    }

    #[test]
    fn a_clock_set_ahead_does_not_age_chunks_of_this_boot() {
        let begun = at(1, 1000, 100);
        assert_eq!(age_us(1_010_000_000, &begun, &at(1, 1060, 160)), 50_000_000);
        // The clock is set ahead by a year.
        assert_eq!(age_us(1_010_000_000, &begun, &at(1, 32_000_000, 160)), 60_000_000);
        // In another boot, the wall clock is all there is.
        assert_eq!(age_us(1_010_000_000, &begun, &at(2, 2010, 160)), 1_000_000_000);
        assert_eq!(age_us(5_000_000_000, &begun, &at(2, 2010, 160)), 0, "sealed in the future");
    }

    #[test]
    fn arrival_times_never_decrease_whatever_the_clock_said() {
        let year = |n: u64| (2000 + n) * 365 * DAY_US;
        let arrivals = |made: u64, years: &[u64]| {
            let sealed: Vec<u64> = years.iter().map(|n| year(*n)).collect();
            let found = arrivals_us(year(made), &sealed, year(26));
            found.into_iter().map(|us| us / 365 / DAY_US - 2000).collect::<Vec<u64>>()
        };
        assert_eq!(arrivals(19, &[20, 21, 22]), [20, 21, 22]);
        assert_eq!(arrivals(19, &[20, 0, 22]), [20, 20, 22], "a clock that was behind");
        assert_eq!(arrivals(19, &[0, 22]), [19, 22], "and nothing before it");
        assert_eq!(arrivals(19, &[20, 99, 22]), [20, 22, 22], "a clock that was ahead");
        assert_eq!(arrivals(19, &[20, 99, 99]), [20, 26, 26], "nothing says when: now");
        assert_eq!(arrivals(99, &[99, 3, 22]), [3, 3, 22], "made by a clock that was ahead");
        assert_eq!(arrivals(19, &[]), [0; 0]);
    }
}
