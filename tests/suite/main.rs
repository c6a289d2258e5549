//! The tests of the tools, one binary.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod env;
mod generated;
mod kill;
mod random;
mod round_trip;
mod sqlite;
