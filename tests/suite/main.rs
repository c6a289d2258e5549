//! The tests of the tools, one binary.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod adversary;
mod copies;
mod cron;
mod cursor;
mod damage;
mod documents;
mod env;
mod follow;
mod formats;
mod fuzz;
mod gaps;
mod gc;
mod generated;
mod health;
mod inputs;
mod kill;
#[allow(dead_code)]
mod kit;
mod limits;
mod live;
mod logs;
mod malformed;
mod manners;
mod many_feeds;
mod merge;
mod numbers;
mod owners;
mod pages;
mod random;
mod real_feeds;
mod ring;
mod round_trip;
mod rsync;
mod sample;
mod scarce;
#[allow(dead_code)]
mod small_disk;
mod sqlite;
mod staged;
mod strays;
mod table;
mod terminal;
mod units;
mod update;
mod users;
mod watch;
