//! Following: the records from a seq on, in order, each once, while more are written.
//!
//! A follower is asked for what comes next and says either that, or that it has caught up; then its
//! caller puts out what it holds and waits. Where the records come from is the source's business
//! ([`chunks`], [`rings`]); how to sleep until there are more, the bell's ([`bell`]).

mod bell;
mod chunks;
mod rings;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::os::{faults, file};
use crate::reader::{Damage, Lost, Reader, Run, Selection};
use crate::record::Record;
use crate::registry::feed::FeedRegistry;
use crate::registry::info::FeedInfo;
use crate::registry::wait::WaitFile;
use bell::Bell;
use chunks::Chunks;
use rings::Rings;

/// A sleeper looks around at least as often: a wake can be missed by who was killed before it, and
/// files can be replaced.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// How long one pauses that cannot be woken: where records come, and where none do.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// What a follower comes to next.
#[derive(Debug)]
pub enum Event<'a> {
    /// Records, lent until the follower goes on.
    Records(Run<'a>),
    /// Records that are gone, and why. Those after them follow.
    Lost(Lost),
    /// Records that could not be read. Those after them follow.
    Damage(Damage),
    /// Everything that is published was given. Wait, then ask again.
    CaughtUp,
    /// The range of seqs that was asked for is behind us. There will be nothing more.
    End,
    /// The feed was deleted, and what could still be read was given. There will be nothing more.
    Deleted,
    /// The feed's files are not where they were, though it was not deleted; what could still be
    /// read was given. There will be nothing more.
    Gone {
        /// Where its table lies now, if the store or the feed's folder was moved.
        moved_to: Option<PathBuf>,
    },
}

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// By sleeping: a wake takes some microseconds.
    Sleep,
    /// By looking again and again, on a processor of its own.
    Spin,
}

/// What has the name of a feed's table of chunks.
enum Table {
    /// The file that is mapped, or one that cannot be asked about now.
    Same,
    /// Another one, which a repair has put there.
    Another(FeedRegistry),
    /// Nothing that is this feed's.
    Gone,
}

impl Table {
    fn look(feed: &FeedInfo, mapped: &FeedRegistry) -> Table {
        let path = feed.registry_path();
        match file::identity_of(&path) {
            Ok(there)
                if mapped.identity().is_ok_and(|ours| ours == there)
                    && !mapped.is_left_behind(&feed.id).unwrap_or(false) =>
            {
                Table::Same
            }
            Ok(_) => match FeedRegistry::open(&path, &feed.id, false) {
                Ok(registry) => Table::Another(registry),
                Err(error) if error.says_nothing() => Table::Same,
                Err(_) => Table::Gone,
            },
            Err(error) if error.is_not_found() => Table::Gone,
            Err(_) => Table::Same,
        }
    }
}

/// What ends a follower whose feed is not there any more.
fn over(registry: &FeedRegistry) -> Result<Event<'static>> {
    Ok(match registry.is_deleted()? {
        true => Event::Deleted,
        false => Event::Gone { moved_to: registry.lies_at() },
    })
}

/// Where a feed's records come from.
enum Source {
    Chunks(Box<Chunks>),
    Rings(Box<Rings>),
}

impl Source {
    fn registry(&self) -> &FeedRegistry {
        match self {
            Source::Chunks(chunks) => chunks.registry(),
            Source::Rings(rings) => rings.registry(),
        }
    }

    fn position(&self) -> u64 {
        match self {
            Source::Chunks(chunks) => chunks.position(),
            Source::Rings(rings) => rings.position(),
        }
    }

    fn has_news(&self) -> Result<bool> {
        match self {
            Source::Chunks(chunks) => chunks.has_news(),
            Source::Rings(rings) => rings.has_news(),
        }
    }

    fn next_event(&mut self) -> Result<Event<'_>> {
        match self {
            Source::Chunks(chunks) => chunks.next_event(),
            Source::Rings(rings) => rings.next_event(),
        }
    }

    fn look_around(&mut self) {
        match self {
            Source::Chunks(chunks) => chunks.look_around(),
            Source::Rings(rings) => rings.look_around(),
        }
    }
}

/// Follows a feed. See [`Reader::follow`].
pub struct Follower {
    feed: FeedInfo,
    source: Source,
    bell: Bell,
    /// The next pause of one that cannot be woken.
    pause: Duration,
    looked_around: Instant,
}

impl Reader {
    /// Follows the feed from `selection.seqs.0` on: records that are there, then those that come.
    /// Every seq from there on is given once, or told to be lost or damaged, but for those whose
    /// time is not selected.
    ///
    /// ```
    /// use deepwater::reader::{Event, Follower, Selection, Waiting};
    /// use deepwater::record::Value;
    /// use deepwater::{Platform, schema::FeedSpec};
    /// # fn main() -> deepwater::Result<()> {
    /// # let folder = tempfile::tempdir().map_err(|e| deepwater::Error::io("no", "tmp", e))?;
    /// # let platform = Platform::create(folder.path().join("data"))?;
    /// # let spec = r#"{"feed_name": "ticks", "mode": "UF", "ts_col": "ts",
    /// #     "fields": [{"name": "ts", "type": "uint64"}, {"name": "price", "type": "float64"}]}"#;
    /// # platform.create_feed(&FeedSpec::from_json(spec)?, false)?;
    /// let mut writer = platform.create_writer("ticks")?;
    /// writer.write_values(&[Value::Uint(1), Value::Float64(0.5)])?;
    ///
    /// let reader = platform.create_reader("ticks")?;
    /// let mut follower = reader.follow(Selection::ALL)?;
    /// let mut prices = Vec::new();
    /// while prices.len() < 2 {
    ///     match follower.next_event()? {
    ///         Event::Records(run) => {
    ///             for record in run.records(reader.layout()) {
    ///                 prices.push(record.get("price"));
    ///             }
    ///             writer.write_values(&[Value::Uint(2), Value::Float64(1.5)])?;
    ///         }
    ///         Event::CaughtUp => follower.wait()?,
    ///         Event::Lost(lost) => eprintln!("lost seq {:?}: {}", lost.seqs, lost.why),
    ///         Event::Damage(damage) => eprintln!("{damage:?}"),
    ///         Event::End | Event::Deleted | Event::Gone { .. } => break,
    ///     }
    /// }
    /// assert_eq!(prices, [Some(Value::Float64(0.5)), Some(Value::Float64(1.5))]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged).
    pub fn follow(&self, selection: Selection) -> Result<Follower> {
        let source = match self.feed.spec.policy.persist {
            true => Source::Chunks(Box::new(Chunks::new(self, selection)?)),
            false => Source::Rings(Box::new(Rings::new(self, selection)?)),
        };
        let mut follower = Follower {
            feed: self.feed.clone(),
            source,
            bell: Bell::default(),
            pause: PAUSES.0,
            looked_around: Instant::now(),
        };
        follower.look_around();
        Ok(follower)
    }
}

impl Run<'_> {
    /// The records of the run, one by one.
    pub fn records<'r>(
        &'r self,
        layout: &'r crate::layout::Layout,
    ) -> impl Iterator<Item = Record<'r>> {
        let records = self.records.chunks_exact(layout.record_size());
        (self.first_seq..).zip(records).map(|(seq, bytes)| Record::new(seq, layout, bytes))
    }
}

impl Follower {
    /// The feed.
    pub fn feed(&self) -> &FeedInfo {
        &self.feed
    }

    /// Every seq below this one was given, told, or is not selected.
    pub fn position(&self) -> u64 {
        self.source.position()
    }

    /// What comes next. Never waits.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged) for what is no
    /// single chunk's damage.
    pub fn next_event(&mut self) -> Result<Event<'_>> {
        self.source.next_event()
    }

    /// Sleeps until there may be more, for [`LONGEST_SLEEP`] at most.
    ///
    /// # Errors
    /// As [`Follower::wait_any`].
    pub fn wait(&mut self) -> Result<()> {
        Self::wait_any(std::slice::from_mut(self), LONGEST_SLEEP, Waiting::Sleep)
    }

    /// Waits until one of several feeds may have more, for `longest` (and [`LONGEST_SLEEP`]) at
    /// most. Those that have nothing more to come must not be among them.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) for a table that does not check.
    pub fn wait_any(followers: &mut [Follower], longest: Duration, waiting: Waiting) -> Result<()> {
        let longest = longest.min(LONGEST_SLEEP);
        for follower in followers.iter_mut() {
            if follower.looked_around.elapsed() >= LONGEST_SLEEP {
                follower.look_around();
            }
        }
        match waiting {
            Waiting::Spin => Self::spin(followers, longest),
            Waiting::Sleep => Self::sleep(followers, longest),
        }
    }

    fn any_news(followers: &[Follower]) -> Result<bool> {
        for follower in followers {
            if follower.source.has_news()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn spin(followers: &[Follower], longest: Duration) -> Result<()> {
        let began = Instant::now();
        while !Self::any_news(followers)? && began.elapsed() < longest {
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn sleep(followers: &mut [Follower], longest: Duration) -> Result<()> {
        let bells: Option<Vec<&WaitFile>> = followers.iter().map(|f| f.bell.file()).collect();
        let bells = bells.filter(|bells| Bell::can_wait_for(bells.len()));
        if let Some(bells) = bells {
            faults::step("follow.arm");
            let armed: Vec<_> = bells.into_iter().map(|file| (file, file.arm())).collect();
            // What was published before we said that we wait has woken nobody.
            if Self::any_news(followers)? {
                return Ok(());
            }
            faults::step("follow.sleep");
            if bell::sleep(&armed, longest) {
                return Ok(());
            }
        }
        Self::poll(followers, longest)
    }

    /// For those that may not write a wait file, or have none.
    fn poll(followers: &mut [Follower], longest: Duration) -> Result<()> {
        let began = Instant::now();
        let mut pause = followers.first().map_or(PAUSES.1, |follower| follower.pause);
        let mut news = Self::any_news(followers)?;
        while !news && began.elapsed() < longest {
            std::thread::sleep(pause.min(longest.saturating_sub(began.elapsed())));
            pause = (pause * 2).min(PAUSES.1);
            news = Self::any_news(followers)?;
        }
        if let Some(follower) = followers.first_mut() {
            // Where much comes the next may come soon.
            follower.pause = if news { PAUSES.0 } else { pause };
        }
        Ok(())
    }

    /// Looks at what lies behind the mappings: files may have been replaced or removed, and a wait
    /// file may have come.
    fn look_around(&mut self) {
        self.looked_around = Instant::now();
        self.source.look_around();
        self.bell.look_around(&self.feed, self.source.registry());
    }
}
