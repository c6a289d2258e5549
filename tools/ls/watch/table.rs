//! The table of `dw-ls --watch`: one line per feed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use deepwater::Platform;
use deepwater::os::{file, process};
use deepwater::reader::{Reader, RingState};
use deepwater::registry::holder::writer_of;
use deepwater::registry::live::LivePage;
use deepwater::show::printable;
use deepwater::text::words::{grouped, span};
use jiff::Timestamp;

use super::keys::Move;
use super::screen::{Line, Style};

/// Up to this many feeds stay open between refreshes; with more, none does. Open files are limited.
const KEPT_READERS: usize = 12;
/// How many seconds a sparkline shows.
const SPARKS: usize = 30;
/// Lines that are not feeds: the summary, titles and keys.
const FRAME: usize = 3;
const NAME_COLUMNS: usize = 32;

/// A feed, read once a second.
struct Row {
    name: String,
    /// Why the feed cannot be read. There is no reader then.
    error: Option<String>,
    reader: Option<Reader>,
    /// Inode of the feed's registry file. It differs if the feed was deleted and created again.
    inode: u64,
    state: &'static str,
    alarm: bool,
    rate: f64,
    lag: Option<Duration>,
    silence: Option<Duration>,
    records: u64,
    /// How much of a ring is in use, from 0 to 1; `None` if the feed has no ring.
    ring: Option<f64>,
    /// Seq and time of the last refresh, in nanoseconds since boot.
    seen: Option<(u64, u64)>,
    /// Records per second, the newest last.
    sparks: VecDeque<f64>,
}

/// The feeds, and which of them are visible.
pub struct Table<'a> {
    platform: &'a Platform,
    asked: Vec<String>,
    rows: Vec<Row>,
    top: usize,
    now: Timestamp,
    blocks: bool,
}

impl<'a> Table<'a> {
    /// Creates a table of the named feeds, or of all feeds that exist at each refresh.
    pub fn new(platform: &'a Platform, asked: &[&str]) -> Table<'a> {
        Table {
            platform,
            asked: asked.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
            top: 0,
            now: Timestamp::UNIX_EPOCH,
            blocks: locale_has_blocks(),
        }
    }

    /// Reads every feed.
    ///
    /// # Errors
    /// If the store can no longer be read.
    pub fn refresh(&mut self) -> anyhow::Result<()> {
        self.now = Timestamp::now();
        let there = self.platform.list_feeds()?;
        let names = if self.asked.is_empty() { there } else { self.asked.clone() };
        let keep = names.len() <= KEPT_READERS;
        let mut old = std::mem::take(&mut self.rows).into_iter().peekable();
        for name in names {
            // Both lists are sorted, or both are in the order of the arguments.
            let kept = match self.asked.is_empty() {
                true => {
                    while old.next_if(|row| row.name < name).is_some() {}
                    old.next_if(|row| row.name == name)
                }
                false => old.next(),
            };
            let mut row = kept.unwrap_or_else(|| Row::new(name));
            row.refresh(self.platform, keep);
            self.rows.push(row);
        }
        Ok(())
    }

    /// Scrolls; `rows` is the height of the screen.
    pub fn scroll(&mut self, by: Move, rows: usize) {
        let page = rows.saturating_sub(FRAME).max(1);
        let last = self.rows.len().saturating_sub(page);
        let moved = match by {
            Move::Lines(n) => self.top.saturating_add_signed(n),
            Move::Pages(n) => self.top.saturating_add_signed(n * page as isize),
            Move::Top => 0,
            Move::Bottom => last,
        };
        self.top = moved.min(last);
    }

    /// Returns the lines for a screen of this size.
    pub fn lines(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        let page = rows.saturating_sub(FRAME);
        self.top = self.top.min(self.rows.len().saturating_sub(page));
        let seen = &self.rows[self.top..(self.top + page).min(self.rows.len())];
        let widest = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let name = widest.clamp(4, NAME_COLUMNS);
        let writing = self.rows.iter().filter(|row| row.state == "writing").count();
        let count = self.rows.len();
        let feeds = if count == 1 { "feed" } else { "feeds" };
        let base = self.platform.base().display();
        let clock = self.now.strftime("%H:%M:%SZ");
        let head = format!("{base}  {count} {feeds}, {writing} being written  {clock}");
        let rings = self.rows.iter().any(|row| row.ring.is_some());
        let shape = Shape { name_columns: name, rings, blocks: self.blocks };
        let titles = format!(
            "{:<name$} {:<8} {:>10} {:>7} {:>7} {:>15}{}  LAST {SPARKS} s",
            "FEED",
            "STATE",
            "RATE/s",
            "LAG",
            "LAST",
            "RECORDS",
            if rings { "  RING" } else { "" }
        );
        let mut lines = vec![(Style::Plain, head), (Style::Title, titles)];
        for row in seen {
            let style = if row.alarm { Style::Alarm } else { Style::Plain };
            lines.push((style, row.line(&shape)));
        }
        if rows > FRAME {
            let (first, last) = (self.top + usize::from(!seen.is_empty()), self.top + seen.len());
            lines.resize(rows - 1, (Style::Plain, String::new()));
            let keys = "q quit  j/k, arrows, PgUp/PgDn scroll";
            lines.push((Style::Plain, format!("{first}-{last} of {count}  {keys}")));
        }
        lines.truncate(rows);
        for (_, text) in &mut lines {
            if let Cow::Owned(shown) = printable(text) {
                *text = shown;
            }
            if let Some((end, _)) = text.char_indices().nth(columns) {
                text.truncate(end);
            }
        }
        lines
    }
}

/// The columns that all lines share.
struct Shape {
    name_columns: usize,
    /// Whether any feed has a ring, which adds a column.
    rings: bool,
    blocks: bool,
}

impl Row {
    fn new(name: String) -> Row {
        Row {
            name,
            error: None,
            reader: None,
            inode: 0,
            state: "",
            alarm: false,
            rate: 0.0,
            lag: None,
            silence: None,
            records: 0,
            ring: None,
            seen: None,
            sparks: VecDeque::new(),
        }
    }

    /// Reads the feed. Keeps it open for the next refresh if `keep` is true.
    fn refresh(&mut self, platform: &Platform, keep: bool) {
        let error = self.look(platform).err();
        if let Some(error) = &error {
            let state = if error.says_nothing() { "unknown" } else { "damaged" };
            (self.state, self.alarm) = (state, true);
        }
        self.error = error.map(|error| error.to_string());
        if !keep {
            self.reader = None;
        }
    }

    fn look(&mut self, platform: &Platform) -> deepwater::Result<()> {
        let inode = |reader: &Reader| {
            std::fs::metadata(reader.feed().registry_path()).map_or(0, |meta| meta.ino())
        };
        // The feed was deleted and perhaps created again, or it was opened before its first writer
        // created the live page.
        let stale = |reader: &Reader| {
            let path = reader.feed().registry_path();
            // On an overlay what is mapped may be left behind when the first writer comes.
            inode(reader) != self.inode
                || !matches!(reader.live(), Ok(Some(_)))
                || file::is_overlay(&path)
        };
        let kept = self.reader.take().filter(|reader| !stale(reader));
        let reader = match kept {
            Some(reader) => reader,
            None => {
                let reader = platform.create_reader(&self.name)?;
                let inode = inode(&reader);
                if inode != self.inode {
                    (self.inode, self.seen) = (inode, None);
                }
                reader
            }
        };
        let snapshot = reader.snapshot()?;
        let live = reader.live()?;
        let writer = writer_of(&reader.feed().lock, live.as_deref())?;
        let open = snapshot.sessions.last().is_some_and(|session| session.close.is_none());
        self.alarm = writer.is_none() && open;
        self.state = match (writer, open) {
            (Some(_), _) => "writing",
            (None, true) => "crashed",
            (None, false) => "idle",
        };
        self.records = snapshot.records();
        let ring = snapshot.ring.as_ref();
        let ring = ring.map(|part| RingState::of(&part.ring, reader.feed())).transpose()?;
        self.ring = ring.map(|ring| ring.fill());
        let now_ns = process::boottime_ns();
        self.spark(now_ns, snapshot.end_seq);
        let live = live.as_deref();
        self.rate = live.map_or(0.0, |live| live.rate(now_ns));
        let now_wall_ns = process::wall_ns();
        let last_us = live.and_then(LivePage::last_publish).map(|at| at.0);
        self.silence =
            last_us.map(|us| Duration::from_micros((now_wall_ns / 1000).saturating_sub(us)));
        let newest =
            live.filter(|_| writer.is_some() && self.records > 0).map(LivePage::running_max);
        let tick_ns = reader.layout().unit().nanos();
        self.lag = newest.map(|time| {
            Duration::from_nanos(now_wall_ns.saturating_sub(time.saturating_mul(tick_ns)))
        });
        self.reader = Some(reader);
        Ok(())
    }

    /// Records how many records arrived since the last refresh.
    fn spark(&mut self, now_ns: u64, end_seq: u64) {
        if let Some((then, seen)) = self.seen {
            let seconds = now_ns.saturating_sub(then).max(1) as f64 / 1e9;
            self.sparks.push_back(end_seq.saturating_sub(seen) as f64 / seconds);
            if self.sparks.len() > SPARKS {
                self.sparks.pop_front();
            }
        }
        self.seen = Some((now_ns, end_seq));
    }

    fn line(&self, shape: &Shape) -> String {
        let Shape { name_columns, rings, blocks } = *shape;
        let name: String = self.name.chars().take(name_columns).collect();
        if let Some(error) = &self.error {
            return format!("{name:<name_columns$} {error}");
        }
        let time = |time: Option<Duration>| time.map_or("-".to_owned(), span);
        let fill = self.ring.map_or("-".to_owned(), |fill| format!("{:.0}%", fill * 100.0));
        let ring = if rings { format!(" {fill:>5}") } else { String::new() };
        let line = format!(
            "{name:<name_columns$} {:<8} {:>10} {:>7} {:>7} {:>15}{ring}  {}",
            self.state,
            rate(self.rate),
            time(self.lag),
            time(self.silence),
            grouped(self.records),
            sparkline(&self.sparks, blocks)
        );
        // Trim the end, because trailing spaces would be sent every second.
        line.trim_end().to_owned()
    }
}

fn rate(rate: f64) -> String {
    match rate {
        0.0..1000.0 => format!("{rate:.1}"),
        _ => grouped(rate.round() as u64),
    }
}

/// Returns a character per second, the tallest for the highest rate and a space for none.
fn sparkline(rates: &VecDeque<f64>, blocks: bool) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 9] = [' ', '.', '.', ':', ':', '+', '+', '#', '#'];
    let levels = if blocks { BLOCKS } else { ASCII };
    let most = rates.iter().copied().fold(0.0, f64::max);
    let level = |rate: f64| match rate > 0.0 {
        true => levels[((rate / most * 8.0).ceil() as usize).clamp(1, 8)],
        false => levels[0],
    };
    rates.iter().map(|rate| level(*rate)).collect()
}

/// Whether the locale says that the terminal shows Unicode.
fn locale_has_blocks() -> bool {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let said = variables.filter_map(|name| std::env::var(name).ok()).find(|text| !text.is_empty());
    said.is_some_and(|text| {
        let text = text.to_ascii_lowercase();
        text.contains("utf-8") || text.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sparkline_heights_follow_the_rates() {
        let line = |rates: &[f64], blocks| sparkline(&rates.iter().copied().collect(), blocks);
        assert_eq!(line(&[0.0, 1.0, 4.0, 8.0, 0.5], true), " ▁▄█▁");
        assert_eq!(line(&[0.0, 1.0, 4.0, 8.0, 0.5], false), " .:#.");
        assert_eq!(line(&[0.0, 0.0], true), "  ");
        assert_eq!(
            [0.0, 12.34, 999.94, 1234.5, 2e6].map(rate),
            ["0.0", "12.3", "999.9", "1,235", "2,000,000"]
        );
    }

    #[test]
    fn a_long_table_scrolls() {
        let folder = tempfile::tempdir().unwrap();
        let platform = Platform::create(folder.path().join("store")).unwrap();
        for n in 0..10 {
            let json = format!(
                r#"{{"feed_name":"f{n}","ts_col":"ts","fields":[{{"name":"ts","type":"uint64"}}]}}"#
            );
            let spec = deepwater::schema::FeedSpec::from_json(&json).unwrap();
            platform.create_feed(&spec, false).unwrap();
        }
        let mut table = Table::new(&platform, &[]);
        table.refresh().unwrap();
        let names = |table: &mut Table<'_>, rows| -> String {
            let lines = table.lines(80, rows);
            assert!(lines.len() <= rows);
            let feeds = lines.iter().filter(|line| line.1.starts_with('f'));
            feeds.map(|line| line.1[1..2].to_owned()).collect()
        };
        assert_eq!(names(&mut table, 7), "0123");
        for (by, seen) in [
            (Move::Lines(-1), "0123"),
            (Move::Lines(1), "1234"),
            (Move::Pages(1), "5678"),
            (Move::Pages(1), "6789"),
            (Move::Pages(-1), "2345"),
            (Move::Bottom, "6789"),
        ] {
            table.scroll(by, 7);
            assert_eq!(names(&mut table, 7), seen, "{by:?}");
        }
        // If the window grows or a feed disappears, there are no empty lines at the end.
        assert_eq!(names(&mut table, 11), "23456789");
        platform.delete_feed("f9").unwrap();
        table.refresh().unwrap();
        assert_eq!(names(&mut table, 11), "12345678");
        for rows in 0..4 {
            assert!(names(&mut table, rows).len() <= 1, "{rows} rows");
        }
        assert!(table.lines(10, 20).iter().all(|line| line.1.chars().count() <= 10));
    }
}
