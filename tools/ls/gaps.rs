//! `--gaps`: when nothing was being recorded, and which records are missing.

use std::time::Duration;

use deepwater::registry::feed::{
    RANGE_LOST, RANGE_REMOVED, RANGE_SKIPPED, RANGE_UNREACHABLE, SessionEntry,
};
use deepwater::text::words::{grouped, span};
use jiff::tz::TimeZone;
use serde_json::json;

use super::run::{Feed, Section, wall};

/// Returns the word for why readers cannot find a range of seqs.
pub fn range_word(reason: u32) -> &'static str {
    match reason {
        RANGE_SKIPPED => "skipped",
        RANGE_LOST => "lost",
        RANGE_UNREACHABLE => "unreachable",
        RANGE_REMOVED => "repaired",
        _ => "unknown",
    }
}

/// A stretch of arrival times, and of seqs, that is missing.
struct Gap {
    why: &'static str,
    /// In wall-clock microseconds.
    from_us: u64,
    /// `None` if it has not ended.
    to_us: Option<u64>,
    /// Half-open; empty if no seq was skipped.
    seqs: (u64, u64),
    /// Rows that were rejected.
    rows: Option<u64>,
    session: Option<u64>,
}

/// The column titles of the list of gaps.
pub const GAP_TITLES: [&str; 8] =
    ["FEED", "FROM", "TO", ">LASTED", "WHY", ">SEQ", ">ROWS", ">SESSION"];

/// Adds the gaps of a feed, oldest first.
pub fn gaps(feed: &Feed, zone: &TimeZone, section: &mut Section) -> deepwater::Result<()> {
    for gap in of_feed(feed)? {
        let (lo, hi) = gap.seqs;
        let dash = || "-".to_owned();
        let lasted = gap.to_us.map(|to| Duration::from_micros(to.saturating_sub(gap.from_us)));
        let cells = vec![
            feed.name().to_owned(),
            wall(gap.from_us, zone),
            gap.to_us.map_or_else(dash, |to| wall(to, zone)),
            lasted.map_or_else(dash, span),
            gap.why.to_owned(),
            if hi > lo { format!("{lo}..{hi}") } else { lo.to_string() },
            gap.rows.map_or_else(dash, grouped),
            gap.session.map_or_else(dash, |session| session.to_string()),
        ];
        let object = json!({
            "feed": feed.name(), "gap": gap.why, "from_us": gap.from_us, "to_us": gap.to_us,
            "seq_lo": lo, "seq_hi": hi, "rows": gap.rows, "session": gap.session,
        });
        section.add(cells, &object);
    }
    Ok(())
}

fn of_feed(feed: &Feed) -> deepwater::Result<Vec<Gap>> {
    let mut gaps: Vec<Gap> = collected(feed).into_iter().collect();
    let sessions = &feed.snapshot.sessions;
    for (i, session) in sessions.iter().enumerate() {
        gaps.extend(rejected(feed, session));
        gaps.extend(after(feed, session, sessions.get(i + 1))?);
    }
    gaps.extend(missing(feed));
    gaps.sort_by_key(|gap| (gap.from_us, gap.seqs));
    Ok(gaps)
}

/// Returns the gap from the end of a session to the next one, or to now.
fn after(
    feed: &Feed,
    session: &SessionEntry,
    next: Option<&SessionEntry>,
) -> deepwater::Result<Option<Gap>> {
    let (reason, from_us, end_seq) = match session.close {
        Some(close) => (close.reason, close.closed_us, close.end_seq),
        None if feed.writer.is_some() => return Ok(None),
        None => {
            let (reason, last_seen_us) = feed.reader.unclean_end(session)?;
            (reason, last_seen_us, feed.snapshot.end_seq)
        }
    };
    if next.is_none() && feed.writer.is_some() {
        // A writer is about to begin its session.
        return Ok(None);
    }
    Ok(Some(Gap {
        why: reason.as_str(),
        from_us,
        to_us: next.map(|next| next.opened_us),
        seqs: (end_seq, next.map_or(end_seq, |next| next.base_seq)),
        rows: None,
        session: Some(session.session_id),
    }))
}

fn rejected(feed: &Feed, session: &SessionEntry) -> Option<Gap> {
    let (counters, end_seq) = match session.close {
        Some(close) => (close.counters, close.end_seq),
        None => (feed.live.as_ref()?.counters(), feed.snapshot.end_seq),
    };
    (counters.rejected > 0).then(|| Gap {
        why: "rejected",
        from_us: session.opened_us,
        to_us: session.close.map(|close| close.closed_us),
        seqs: (session.base_seq, end_seq),
        rows: Some(counters.rejected),
        session: Some(session.session_id),
    })
}

/// Returns the missing ranges on record. What was skipped after a power loss belongs to the gap
/// that it left.
fn missing(feed: &Feed) -> impl Iterator<Item = Gap> {
    let holes = feed.snapshot.holes.iter().filter(|hole| hole.reason != RANGE_SKIPPED);
    holes.map(|hole| {
        // The arrival time comes from the session; if it was collected, from when the range was
        // noted.
        let session = feed.snapshot.sessions.iter().find(|s| s.session_id == hole.session_id);
        let closed_us = session.and_then(|session| session.close).map(|close| close.closed_us);
        Gap {
            why: range_word(hole.reason),
            from_us: session.map_or(hole.recorded_us, |session| session.opened_us),
            to_us: Some(closed_us.unwrap_or(hole.recorded_us)),
            seqs: hole.seqs,
            rows: None,
            session: Some(hole.session_id),
        }
    })
}

/// Returns what dw-gc removed: all seqs below the first record, unless none of them had a record. A
/// ring overwrites without dw-gc.
fn collected(feed: &Feed) -> Option<Gap> {
    if !feed.reader.feed().spec.policy.persist {
        return None;
    }
    let first_seq = feed.snapshot.first_seq();
    let mut at = 0;
    let mut holes: Vec<(u64, u64)> = feed.snapshot.holes.iter().map(|hole| hole.seqs).collect();
    holes.sort_unstable();
    for (lo, hi) in holes {
        if lo <= at {
            at = at.max(hi);
        }
    }
    let closed_us = feed.snapshot.sessions.last().and_then(|s| s.close).map(|c| c.closed_us);
    let first = feed.snapshot.chunks.first().map(|chunk| chunk.entry.created_us);
    (at < first_seq).then(|| Gap {
        why: "collected",
        from_us: feed.reader.feed().created_us,
        to_us: first.or(closed_us),
        seqs: (0, first_seq),
        rows: None,
        session: None,
    })
}
