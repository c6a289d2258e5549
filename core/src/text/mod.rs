//! Text and records, both ways; no I/O.
