//! Time units. The store counts integers since the epoch, in microseconds or nanoseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The unit of a feed's times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Microseconds since 1970-01-01T00:00:00Z.
    #[default]
    #[serde(rename = "us")]
    Micros,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    #[serde(rename = "ns")]
    Nanos,
}

impl TimeUnit {
    /// Returns the ticks per second.
    pub fn per_second(self) -> u64 {
        match self {
            TimeUnit::Micros => 1_000_000,
            TimeUnit::Nanos => 1_000_000_000,
        }
    }

    /// Returns the nanoseconds per tick.
    pub fn nanos(self) -> u64 {
        1_000_000_000 / self.per_second()
    }

    /// Returns how many fraction digits of a second a tick has: 6 or 9.
    pub fn digits(self) -> usize {
        match self {
            TimeUnit::Micros => 6,
            TimeUnit::Nanos => 9,
        }
    }

    /// Whether this is the default unit, which a spec need not give.
    pub fn is_default(&self) -> bool {
        *self == TimeUnit::default()
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeUnit::Micros => "us",
            TimeUnit::Nanos => "ns",
        })
    }
}

impl FromStr for TimeUnit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "us" => Ok(TimeUnit::Micros),
            "ns" => Ok(TimeUnit::Nanos),
            _ => Err(Error::Spec(format!("time unit {text:?}; it is us or ns"))),
        }
    }
}
