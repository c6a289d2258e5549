//! The last record of a run. The next run uses it to detect that the store was replaced.

use deepwater::checksum::crc;
use deepwater::reader::{Direction, Reader, Selection, Snapshot};
use deepwater::registry::feed::SessionEntry;
use serde_json::{Value, json};

/// A seq, its record, and the session that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The seq.
    pub seq: u64,
    /// Time and checksum of the record; `None` if it could not be read.
    record: Option<(u64, u32)>,
    /// Id and opening time of the session; `None` if there is no session.
    session: Option<(u64, u64)>,
}

impl Last {
    /// Returns the record before `end`, if `end` is not the first seq.
    ///
    /// # Errors
    /// If the feed cannot be read.
    pub fn before(reader: &Reader, end: u64) -> deepwater::Result<Option<Last>> {
        let Some(seq) = end.checked_sub(1) else { return Ok(None) };
        let snapshot = reader.snapshot()?;
        let session = snapshot.sessions.iter().rfind(|session| session.base_seq <= seq);
        let session = session.map(|session| (session.session_id, session.opened_us));
        Ok(Some(Last { seq, record: record_at(reader, &snapshot, seq)?, session }))
    }

    /// Reads what [`Last::to_json`] wrote.
    pub fn of_json(json: &Value) -> Option<Last> {
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        let crc = || number("crc").and_then(|sum| u32::try_from(sum).ok());
        Some(Last {
            seq: number("seq")?,
            record: number("time").zip(crc()),
            session: number("session").zip(number("opened_us")),
        })
    }

    /// Returns the JSON for the cursor file.
    pub fn to_json(&self) -> Value {
        let mut json = json!({"seq": self.seq});
        if let Some((time, crc)) = self.record {
            (json["time"], json["crc"]) = (time.into(), crc.into());
        }
        if let Some((id, opened_us)) = self.session {
            (json["session"], json["opened_us"]) = (id.into(), opened_us.into());
        }
        json
    }

    /// Returns the seq at which the store departs from the one that had this record: no record from
    /// there on can have been printed. Returns `None` if the store may be the same.
    ///
    /// # Errors
    /// If the feed cannot be read.
    pub fn missing_from(
        &self,
        reader: &Reader,
        snapshot: &Snapshot,
    ) -> deepwater::Result<Option<u64>> {
        let found = record_at(reader, snapshot, self.seq)?;
        let differs = match (self.record, found) {
            (Some(ours), Some(there)) if ours == there => return Ok(None),
            (Some(_), Some(_)) => true,
            // The record was collected or never existed. The sessions decide, unless they were
            // collected too.
            _ => false,
        };
        let Some((id, opened_us)) = self.session else { return Ok(None) };
        let sessions = &snapshot.sessions;
        let known = |session: &SessionEntry| (session.session_id, session.opened_us);
        let is_there = sessions.iter().any(|session| known(session) == (id, opened_us));
        let collected = self.seq < snapshot.first_seq();
        if !differs && (is_there || collected) {
            return Ok(None);
        }
        let later = |session: &&SessionEntry| {
            let (its_id, its_opened_us) = known(session);
            its_id > id || its_opened_us > opened_us || (its_id == id && its_opened_us != opened_us)
        };
        let bases = sessions.iter().filter(later).map(|session| session.base_seq);
        // Without such a session, everything in the store is older, except if the record differs.
        let none = if differs { snapshot.first_seq() } else { snapshot.end_seq };
        Ok(Some(bases.min().unwrap_or(none)))
    }
}

/// Returns the time and checksum of the record with this seq, if it exists.
fn record_at(
    reader: &Reader,
    snapshot: &Snapshot,
    seq: u64,
) -> deepwater::Result<Option<(u64, u32)>> {
    let selection = Selection { seqs: (seq, seq.saturating_add(1)), ..Selection::ALL };
    let mut scan = reader.scan(snapshot, selection, Direction::Forward);
    let run = scan.next_run()?;
    Ok(run.map(|run| (reader.layout().time_of(run.records), crc(run.records))))
}
