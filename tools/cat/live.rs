//! Prints new records as they arrive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deepwater::os::process;
use deepwater::reader::follow::LONGEST_SLEEP;
use deepwater::reader::{Event, Follower, Waiting};

use super::sink::{Sink, Step, tell_damage, tell_lost};
use crate::cli::messages;

/// How many runs of a feed are printed before the next feed has its turn.
const TURN: usize = 64;

/// The feeds that are followed.
pub struct Live {
    followers: Vec<Follower>,
    /// For each follower, the index of its feed.
    feeds: Vec<usize>,
    waiting: Waiting,
    /// The end, in nanoseconds since the epoch.
    until: Option<u128>,
}

impl Live {
    /// Creates it from one follower per feed, in the order of the feeds.
    pub fn new(followers: Vec<Follower>, spin: bool, until: Option<u128>) -> Live {
        let feeds = (0..followers.len()).collect();
        let waiting = if spin { Waiting::Spin } else { Waiting::Sleep };
        Live { followers, feeds, waiting, until }
    }

    /// Prints new records until no more can come or the clock has passed the end.
    pub fn print(&mut self, sink: &mut Sink<'_>) -> Step {
        while !self.followers.is_empty() {
            // Read the clock before the records, so that every record before the end is printed
            // even if this is late.
            let left = self.until.map(|until| left(until, u128::from(process::wall_ns())));
            if self.round(sink)? {
                continue;
            }
            // Caught up with history. Print from here on without pacing.
            sink.pace(None);
            sink.flush()?;
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            let longest = left.unwrap_or(LONGEST_SLEEP);
            Follower::wait_any(&mut self.followers, longest, self.waiting)?;
            sink.tick()?;
        }
        Ok(())
    }

    /// Prints some records of each feed. Returns false if there were none.
    fn round(&mut self, sink: &mut Sink<'_>) -> Step<bool> {
        let mut any = false;
        for at in (0..self.followers.len()).rev() {
            for _ in 0..TURN {
                match self.turn(at, sink)? {
                    Turn::More => any = true,
                    Turn::CaughtUp => break,
                    Turn::Deleted => {
                        let name = &self.followers[at].feed().name;
                        messages::partial(format!("{name}: the feed was deleted; this is its end"));
                        self.remove(at);
                        break;
                    }
                    Turn::Gone(moved_to) => {
                        let name = &self.followers[at].feed().name;
                        messages::partial(format!("{name}: {}", what_is_gone(moved_to)));
                        self.remove(at);
                        break;
                    }
                    Turn::Over => {
                        self.remove(at);
                        break;
                    }
                }
            }
        }
        Ok(any)
    }

    fn remove(&mut self, at: usize) {
        self.followers.remove(at);
        self.feeds.remove(at);
    }

    fn turn(&mut self, at: usize, sink: &mut Sink<'_>) -> Step<Turn> {
        let (follower, feed) = (&mut self.followers[at], self.feeds[at]);
        let unit = follower.feed().layout.unit();
        let turn = match follower.next_event()? {
            Event::Records(run) => {
                sink.choose(feed, &run)?;
                Turn::More
            }
            Event::Lost(lost) => {
                tell_lost(&lost);
                Turn::More
            }
            Event::Damage(damage) => {
                tell_damage(&damage, unit);
                Turn::More
            }
            Event::CaughtUp => Turn::CaughtUp,
            Event::End => Turn::Over,
            Event::Deleted => Turn::Deleted,
            Event::Gone { moved_to } => Turn::Gone(moved_to),
        };
        sink.reached(feed, follower.position());
        Ok(turn)
    }
}

/// Says what became of a feed's files.
fn what_is_gone(moved_to: Option<PathBuf>) -> String {
    match moved_to.as_deref().and_then(Path::parent) {
        Some(folder) => format!(
            "the feed was moved or renamed, to {}; this is its end here; start dw-cat again there \
             (--base-path)",
            folder.display()
        ),
        None => "the feed's files were removed, or moved to another disk; this is its end".into(),
    }
}

enum Turn {
    More,
    CaughtUp,
    Over,
    Deleted,
    Gone(Option<PathBuf>),
}

fn left(until: u128, now: u128) -> Duration {
    let nanos = until.saturating_sub(now);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
