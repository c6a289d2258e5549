//! `feed.json`: a feed's spec and layout, and where its files lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::log::Log;
use crate::os::file;
use crate::registry::feed::{Geometry, Identity};
use crate::schema::FeedSpec;

/// A spec of thousands of fields fits; a larger file is damage.
const FILE_LIMIT: u64 = 16 << 20;

/// Everything about a feed that does not change while it is written.
#[derive(Clone, Debug)]
pub struct FeedInfo {
    /// The feed's name.
    pub name: String,
    /// Store, feed and layout.
    pub id: Identity,
    /// When it was made, wall-clock microseconds.
    pub created_us: u64,
    /// The spec, policy included.
    pub spec: FeedSpec,
    /// The layout of its records.
    pub layout: Arc<Layout>,
    /// `BASE/feeds/NAME`.
    pub folder: PathBuf,
    /// The writer's lock.
    pub lock: PathBuf,
}

impl FeedInfo {
    /// Reads `feed.json` in `folder` and checks it against the id that the registry gives.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn load(folder: &Path, lock: &Path, id: &Identity) -> Result<FeedInfo> {
        let path = folder.join("feed.json");
        let bytes = file::read_whole(&path, FILE_LIMIT)?;
        let wrong = |what: String| Error::damaged(&path, 0, what);
        let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let spec = json.get_mut("spec").map(Value::take).unwrap_or_default();
        let spec = FeedSpec::from_value(spec).map_err(|e| wrong(e.to_string()))?;
        let layout = Layout::new(&spec).map_err(|e| wrong(e.to_string()))?;
        let feed_id = json.get("feed_id").and_then(Value::as_str).unwrap_or_default();
        if feed_id != format!("{:016x}", id.feed_id) {
            return Err(wrong(format!("it is of feed {feed_id:?}, not {:016x}", id.feed_id)));
        }
        if layout.hash() != id.layout_hash {
            return Err(wrong("its layout is not the one that the registry names".into()));
        }
        Ok(FeedInfo {
            name: spec.feed_name.clone(),
            id: *id,
            created_us: json.get("created_us").and_then(Value::as_u64).unwrap_or(0),
            spec,
            layout: Arc::new(layout),
            folder: folder.to_owned(),
            lock: lock.to_owned(),
        })
    }

    /// Writes `feed.json` into `folder`, whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, folder: &Path) -> Result<()> {
        let json = json!({
            "feed_id": format!("{:016x}", self.id.feed_id),
            "created_us": self.created_us,
            "spec": self.spec.to_json(),
            "layout": layout_json(&self.layout),
        });
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        file::replace(&folder.join("feed.json"), text.as_bytes(), self.spec.policy.file_mode)
    }

    /// The store's log.
    pub fn log(&self) -> Log {
        // BASE/locks/ID.
        Log::of(self.lock.ancestors().nth(2).unwrap_or(&self.folder))
    }

    /// Record and block sizes.
    pub fn geometry(&self) -> Geometry {
        let layout = &self.layout;
        Geometry::new(layout.record_size(), layout.time_field().offset, layout.unit())
    }

    /// The store's base directory.
    pub fn base(&self) -> &Path {
        self.folder.ancestors().nth(2).unwrap_or(&self.folder)
    }

    /// The feed's registry file.
    pub fn registry_path(&self) -> PathBuf {
        self.folder.join("feed_registry.bin")
    }

    /// The feed's live page.
    pub fn live_path(&self) -> PathBuf {
        self.folder.join("live")
    }
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
