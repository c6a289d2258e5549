//! The tests of the tools, one binary.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod env;
mod generated;
mod kill;
mod kit;
mod live;
mod malformed;
mod manners;
mod pages;
mod random;
mod real_feeds;
mod round_trip;
mod small_disk;
mod sqlite;
