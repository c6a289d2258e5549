//! Which feeds a store has, and what each feed consists of.

pub mod chunk_id;
pub mod feed;
pub mod global;
pub mod holder;
pub mod info;
pub mod listed;
pub mod live;
pub mod place;
pub mod quarantine;
pub mod salvage;
pub mod segments;
pub mod view;
pub mod wait;
