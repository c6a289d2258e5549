//! What the tools share, and the tools.
