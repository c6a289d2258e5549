//! `feed.json`: a feed's spec and layout, and the paths of its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::log::Log;
use crate::os::file;
use crate::registry::feed::{Geometry, Identity};
use crate::schema::{FeedSpec, SpecJson};

/// A spec of thousands of fields fits; a larger file is damaged.
const FILE_LIMIT: u64 = 16 << 20;
/// The file with a feed's spec and layout.
pub const SPEC_FILE: &str = "feed.json";
/// The copy of [`SPEC_FILE`].
pub const SPEC_COPY: &str = "feed.copy.json";

/// Everything about a feed that stays the same while it is written.
#[derive(Clone, Debug)]
pub struct FeedInfo {
    /// The feed's name.
    pub name: String,
    /// The ids of the store and the feed, and the layout's hash.
    pub id: Identity,
    /// When the feed was made, in wall-clock microseconds.
    pub created_us: u64,
    /// The spec, including the policy.
    pub spec: FeedSpec,
    /// The layout of its records.
    pub layout: Arc<Layout>,
    /// The feed's folder, `BASE/feeds/NAME`.
    pub folder: PathBuf,
    /// The path of the writer's lock.
    pub lock: PathBuf,
}

impl FeedInfo {
    /// Reads `feed.json` in `folder` and checks it against the id in the registry.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn load(folder: &Path, lock: &Path, id: &Identity) -> Result<FeedInfo> {
        let path = folder.join(SPEC_FILE);
        let bytes = match file::read_whole(&path, FILE_LIMIT) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::damaged(&path, 0, "it is missing"));
            }
            other => other?,
        };
        FeedInfo::parse(&path, &bytes, folder, lock, id)
    }

    /// Like [`FeedInfo::load`], from any file. Also returns whether its checksum is right.
    ///
    /// # Errors
    /// As [`FeedInfo::load`].
    pub fn load_from(
        path: &Path,
        folder: &Path,
        lock: &Path,
        id: &Identity,
    ) -> Result<(FeedInfo, bool)> {
        let bytes = file::read_whole(path, FILE_LIMIT)?;
        let info = FeedInfo::parse(path, &bytes, folder, lock, id)?;
        Ok((info, checks(&bytes)))
    }

    /// Reads the spec, the feed's id and its creation time from a `feed.json`, without checking
    /// them against a registry. Also returns whether its checksum is right.
    ///
    /// # Errors
    /// As [`FeedInfo::load`].
    pub fn peek(path: &Path) -> Result<(FeedSpec, u64, u64, bool)> {
        let bytes = file::read_whole(path, FILE_LIMIT)?;
        let wrong = |what: String| Error::damaged(path, 0, what);
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let spec = json.get("spec").cloned().unwrap_or_default();
        let spec = FeedSpec::from_value(spec).map_err(|e| wrong(e.to_string()))?;
        let id = json.get("feed_id").and_then(Value::as_str);
        let id = id.and_then(|digits| u64::from_str_radix(digits, 16).ok()).filter(|&id| id > 0);
        let id = id.ok_or_else(|| wrong("it has no feed_id".into()))?;
        let created_us = json.get("created_us").and_then(Value::as_u64).unwrap_or(0);
        Ok((spec, id, created_us, checks(&bytes)))
    }

    fn parse(
        path: &Path,
        bytes: &[u8],
        folder: &Path,
        lock: &Path,
        id: &Identity,
    ) -> Result<FeedInfo> {
        let wrong = |what: String| Error::damaged(path, 0, what);
        let (spec, feed_id, created_us) = match InfoJson::read(bytes) {
            Some(read) => read,
            None => read_by_value(path, bytes)?,
        };
        let layout = Layout::new(&spec).map_err(|e| wrong(e.to_string()))?;
        if feed_id != format!("{:016x}", id.feed_id) {
            return Err(wrong(format!("it is of feed {feed_id:?}, not {:016x}", id.feed_id)));
        }
        if layout.hash() != id.layout_hash {
            return Err(wrong("its layout is not the one that the registry names".into()));
        }
        Ok(FeedInfo {
            name: spec.feed_name.clone(),
            id: *id,
            created_us,
            spec,
            layout: Arc::new(layout),
            folder: folder.to_owned(),
            lock: lock.to_owned(),
        })
    }

    /// Replaces `feed.json` in `folder`, and then its copy.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Spec`] for a spec of more than 16 MiB.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let text = self.to_text();
        if text.len() as u64 > FILE_LIMIT {
            return Err(Error::Spec(format!("{}: a spec of more than 16 MiB", self.name)));
        }
        for name in [SPEC_FILE, SPEC_COPY] {
            file::replace(&folder.join(name), text.as_bytes(), self.spec.policy.file_mode)?;
        }
        Ok(())
    }

    /// Returns the text of `feed.json`.
    pub fn to_text(&self) -> String {
        let json = json!({
            "feed_id": format!("{:016x}", self.id.feed_id),
            "created_us": self.created_us,
            "spec": self.spec.to_json(),
            "layout": layout_json(&self.layout),
            "crc": NO_SUM,
        });
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        let at = text.len() - SUM_FROM_END;
        let sum = format!("{:08x}", crc(text.as_bytes()));
        text.replace_range(at..at + NO_SUM.len(), &sum);
        text
    }

    /// Returns the store's log.
    pub fn log(&self) -> Log {
        // The lock's path is BASE/locks/ID.
        Log::of(self.lock.ancestors().nth(2).unwrap_or(&self.folder))
    }

    /// Returns record and block sizes.
    pub fn geometry(&self) -> Geometry {
        let layout = &self.layout;
        Geometry::new(layout.record_size(), layout.time_field().offset, layout.unit())
    }

    /// Returns the store's base directory.
    pub fn base(&self) -> &Path {
        self.folder.ancestors().nth(2).unwrap_or(&self.folder)
    }

    /// Returns the path of the feed registry.
    pub fn registry_path(&self) -> PathBuf {
        self.folder.join("feed_registry.bin")
    }

    /// Returns the path of the live page.
    pub fn live_path(&self) -> PathBuf {
        self.folder.join("live")
    }
}

/// A valid `feed.json`, deserialized in one pass.
#[derive(Deserialize)]
struct InfoJson {
    feed_id: String,
    created_us: u64,
    spec: SpecJson,
}

impl InfoJson {
    fn read(bytes: &[u8]) -> Option<(FeedSpec, String, u64)> {
        // Check for UTF-8 first: serde_json does not check strings in parts that it skips.
        let text = std::str::from_utf8(bytes).ok()?;
        let read: InfoJson = serde_json::from_str(text).ok()?;
        Some((read.spec.into_spec().ok()?, read.feed_id, read.created_us))
    }
}

/// Reads the spec, id and creation time part by part from a `feed.json` that is not valid, so that
/// an error names the part.
fn read_by_value(path: &Path, bytes: &[u8]) -> Result<(FeedSpec, String, u64)> {
    let wrong = |what: String| Error::damaged(path, 0, what);
    let mut json: Value = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    let spec = json.get_mut("spec").map(Value::take).unwrap_or_default();
    let spec = FeedSpec::from_value(spec).map_err(|e| wrong(e.to_string()))?;
    let feed_id = json.get("feed_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((spec, feed_id, json.get("created_us").and_then(Value::as_u64).unwrap_or(0)))
}

/// The digits in the checksum's place while the checksum is computed.
const NO_SUM: &str = "00000000";
/// The checksum comes last: its digits, then a quote, a newline, a brace and a newline.
const SUM_FROM_END: usize = NO_SUM.len() + 4;

/// Whether the text of a `feed.json` matches its checksum.
fn checks(bytes: &[u8]) -> bool {
    let Some(at) = bytes.len().checked_sub(SUM_FROM_END) else { return false };
    let digits = String::from_utf8_lossy(&bytes[at..at + NO_SUM.len()]).into_owned();
    let mut plain = bytes.to_vec();
    plain[at..at + NO_SUM.len()].copy_from_slice(NO_SUM.as_bytes());
    digits == format!("{:08x}", crc(&plain))
}

fn layout_json(layout: &Layout) -> Value {
    let fields = layout.fields().iter().map(|field| {
        json!({
            "name": field.name,
            "type": field.kind.to_string(),
            "offset": field.offset,
            "size": field.size(),
        })
    });
    json!({
        "record_size": layout.record_size(),
        "ts_col": layout.time_field().name,
        "time_unit": layout.unit().to_string(),
        "fields": fields.collect::<Vec<_>>(),
    })
}
