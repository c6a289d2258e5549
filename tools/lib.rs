//! What the tools share, and the tools.
pub mod cli;
