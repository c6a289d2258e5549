//! `--replay`: prints records at the pace of their times.

use std::time::{Duration, Instant};

/// The longest wait, about 136 years. It keeps the sum with an instant from overflowing.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// When records are due. The first is due at once, each other as long after it as its time says.
pub struct Pace {
    speed: f64,
    /// When the first record was printed, and its time in nanoseconds.
    began: Option<(Instant, u128)>,
}

impl Pace {
    /// Creates a pace that is `speed` times as fast as recorded.
    pub fn new(speed: f64) -> Pace {
        Pace { speed, began: None }
    }

    /// Returns when a record with this time is due. A record older than the first, or than the one
    /// before it, is due at once.
    pub fn due(&mut self, time_ns: u128) -> Instant {
        let (began, first_ns) = *self.began.get_or_insert_with(|| (Instant::now(), time_ns));
        let after_ns = time_ns.saturating_sub(first_ns) as f64 / self.speed;
        let after = Duration::try_from_secs_f64(after_ns / 1e9).unwrap_or(FOREVER);
        began + after.min(FOREVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_by_time_and_speed() {
        let mut pace = Pace::new(10.0);
        let first = pace.due(5_000_000_000);
        assert_eq!(pace.due(6_000_000_000), first + Duration::from_millis(100));
        assert_eq!(pace.due(1_000_000_000), first, "older than the first");
        assert_eq!(pace.due(u128::MAX), first + FOREVER);
        let mut slow = Pace::new(0.5);
        let first = slow.due(0);
        assert_eq!(slow.due(1_000_000_000), first + Duration::from_secs(2));
    }
}
