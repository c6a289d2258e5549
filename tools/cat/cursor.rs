//! `--cursor-file`: the position where the last run ended and this one continues.
//!
//! The position is a seq for each feed. Every record below it was printed or not selected. It is
//! saved only for flushed output, so a run that is killed repeats records but loses none.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use deepwater::os::file;
use deepwater::reader::{Direction, Reader, Selection};
use serde_json::{Map, Value, json};

use super::choice::Chosen;
use super::last::Last;
use super::printed::Printed;
use crate::cli::messages;

const FILE_LIMIT: u64 = 16 << 20;
const MODE: u32 = 0o644;

/// A cursor file.
pub struct Cursor {
    path: PathBuf,
    store: String,
    feeds: Vec<Place>,
    /// The positions as saved last.
    saved: Option<Vec<Saved>>,
}

/// The position in one feed.
struct Place {
    name: String,
    id: String,
    /// Where the last run ended.
    start: Option<u64>,
    /// The records above it that were printed.
    printed: Printed,
    /// The record before the end of the last run.
    last: Option<Last>,
    hold: Option<Hold>,
}

/// The saved position of a feed, the records above it that were printed, and the end of printing.
type Saved = (u64, Printed, u64);

/// Keeps the position before the first record at or after `--until`. Such records were left out and
/// are due in a later run.
struct Hold {
    until: u64,
    checked: u64,
    held: Option<u64>,
}

impl Cursor {
    /// Reads a cursor file, or creates an empty one.
    ///
    /// # Errors
    /// If the file cannot be read or created, is not a cursor file, or belongs to other feeds.
    pub fn open(path: &Path, readers: &[&Reader]) -> anyhow::Result<Cursor> {
        // A bare file name needs a directory: the current one.
        let path = Path::new(".").join(path);
        let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
        let store = format!("{:032x}", u128::from_be_bytes(readers[0].feed().id.store_id));
        let place = |reader: &&Reader| {
            let feed = reader.feed();
            let id = format!("{:016x}", feed.id.feed_id);
            let (name, printed) = (feed.name.clone(), Printed::default());
            Place { name, id, start: None, printed, last: None, hold: None }
        };
        let mut cursor =
            Cursor { path, store, feeds: readers.iter().map(place).collect(), saved: None };
        let bytes = match cursor.path.exists() {
            true if !cursor.path.is_file() => {
                let what = if cursor.path.is_dir() { "a folder" } else { "not a regular file" };
                bail!("{shown} is {what}; --cursor-file needs the name of a file");
            }
            true => file::read_whole(&cursor.path, FILE_LIMIT)?,
            false => {
                file::replace(&cursor.path, b"", MODE)?;
                Vec::new()
            }
        };
        if !bytes.iter().all(u8::is_ascii_whitespace) {
            cursor.read(&bytes).with_context(|| shown)?;
        }
        Ok(cursor)
    }

    fn read(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let json: Value = serde_json::from_slice(bytes).context("no cursor file")?;
        let feeds = json.get("feeds").and_then(Value::as_object).context("no cursor file")?;
        if json.get("store").and_then(Value::as_str) != Some(&self.store) {
            bail!("a cursor of another store; remove it, or name another file");
        }
        for (name, place) in feeds {
            let Some(feed) = self.feeds.iter_mut().find(|feed| feed.name == *name) else {
                bail!("a cursor of feed {name}, which is not read here; name another file");
            };
            if place.get("id").and_then(Value::as_str) != Some(&feed.id) {
                bail!(
                    "a cursor of another feed that was named {name} too and was deleted; remove \
                     it, or name another file"
                );
            }
            let next = place.get("next_seq").and_then(Value::as_u64);
            feed.start = Some(next.with_context(|| format!("no next_seq of feed {name}"))?);
            // Files of earlier versions have neither of these.
            feed.printed = place.get("printed").and_then(Printed::of_json).unwrap_or_default();
            feed.last = place.get("last").and_then(Last::of_json);
        }
        Ok(())
    }

    /// Returns where the last run ended in this feed, if the file has it.
    pub fn start(&self, feed: usize) -> Option<u64> {
        self.feeds[feed].start
    }

    /// Keeps the position before the first record at or after `until`.
    pub fn hold_back(&mut self, feed: usize, until: u64, from: u64) {
        self.feeds[feed].hold = Some(Hold { until, checked: from, held: None });
    }

    /// Returns the records above the position that were printed.
    pub fn printed(&self, feed: usize) -> &Printed {
        &self.feeds[feed].printed
    }

    /// Checks that the feed still has the record that the last run ended with. If not, the store is
    /// an older copy: reports it, and goes back to the first record that cannot have been printed.
    ///
    /// # Errors
    /// If the feed cannot be read.
    pub fn check(&mut self, feed: usize, chosen: &Chosen) -> anyhow::Result<()> {
        let place = &mut self.feeds[feed];
        let (Some(last), Some(next)) = (&place.last, place.start) else { return Ok(()) };
        let Some(from) = last.missing_from(&chosen.reader, &chosen.snapshot)? else {
            return Ok(());
        };
        let first = next.min(from);
        messages::partial(format!(
            "{}: record {} is not the one that the last run ended with: the store is an older \
             copy; going on from seq {first}, the first that cannot have been printed",
            place.name, last.seq
        ));
        place.start = Some(first);
        place.printed.cut(from);
        Ok(())
    }

    /// Saves the positions. Every record below them was printed or not selected.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&mut self, chosen: &[Chosen], positions: &[u64]) -> anyhow::Result<()> {
        let mut places = Vec::new();
        for ((feed, chosen), &position) in self.feeds.iter_mut().zip(chosen).zip(positions) {
            let (place, until) = match &mut feed.hold {
                Some(hold) => (hold.before(chosen, position)?, hold.until),
                None => (position, 0),
            };
            let printed = feed.printed.with(position, until, place);
            let end = printed.end().max(place);
            places.push((place, printed, end));
        }
        if self.saved.as_ref() == Some(&places) {
            return Ok(());
        }
        let mut feeds = Map::new();
        for ((feed, chosen), (place, printed, end)) in self.feeds.iter().zip(chosen).zip(&places) {
            let mut json = json!({"id": feed.id, "next_seq": place});
            if !printed.is_empty() {
                json["printed"] = printed.to_json();
            }
            if let Some(last) = Last::before(&chosen.reader, *end)? {
                json["last"] = last.to_json();
            }
            feeds.insert(feed.name.clone(), json);
        }
        let json = json!({"store": self.store, "feeds": feeds});
        let text = format!("{}\n", serde_json::to_string_pretty(&json)?);
        file::replace(&self.path, text.as_bytes(), MODE)?;
        self.saved = Some(places);
        Ok(())
    }
}

impl Hold {
    /// Returns the position, or the seq of the first record below it that is still to be printed.
    fn before(&mut self, chosen: &Chosen, position: u64) -> deepwater::Result<u64> {
        if self.held.is_none() && self.checked < position {
            let selection =
                Selection { seqs: (self.checked, position), times: (self.until, u64::MAX) };
            let reader = &chosen.reader;
            let mut scan = reader.scan(&reader.snapshot()?, selection, Direction::Forward);
            while let Some(run) = scan.next_run()?.filter(|_| self.held.is_none()) {
                let times = run.records.chunks_exact(chosen.record_size());
                let mut records = (run.first_seq..).zip(times.map(|r| reader.layout().time_of(r)));
                let held = records.find(|&(seq, time)| !chosen.printed.has(seq, time));
                self.held = held.map(|(seq, _)| seq);
            }
            self.checked = position;
        }
        Ok(self.held.map_or(position, |held| held.min(position)))
    }
}
