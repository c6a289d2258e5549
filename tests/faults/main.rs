//! Tests with injected faults, one binary: `cargo test --features faults --test faults`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../suite/env.rs"]
#[allow(dead_code)]
mod env;
mod handover;
#[path = "../suite/kit.rs"]
#[allow(dead_code)]
mod kit;
mod staged;
