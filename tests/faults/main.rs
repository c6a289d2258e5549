//! Tests with injected faults, one binary: `cargo test --features faults --test faults`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod cases;
mod copies;
mod disk;
#[path = "../suite/env.rs"]
#[allow(dead_code)]
mod env;
mod handover;
mod kills;
#[path = "../suite/kit.rs"]
#[allow(dead_code)]
mod kit;
mod power;
#[path = "../suite/random.rs"]
mod random;
mod ring;
#[path = "../suite/small_disk.rs"]
mod small_disk;
mod space;
mod staged;
mod stopped;
mod struct_damage;
