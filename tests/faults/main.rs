//! Tests with injected faults, one binary: `cargo test --features faults --test faults`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod disk;
mod power;
#[path = "../suite/random.rs"]
mod random;
