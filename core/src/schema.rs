//! What a feed is: its fields, its time column and its policy, as users write them.
//!
//! The JSON form has the keys of the Python Deepwater API (`feed_name mode fields ts_col
//! chunk_size_mb retention_hours persist`) and some more. An unknown key is an error that names it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::show::{is_active, quoted};
use crate::time::TimeUnit;

/// The longest record, in bytes.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;
/// The smallest chunk or ring, in bytes.
pub const MIN_CHUNK_BYTES: u64 = 64 * 1024;
/// The largest chunk, in bytes.
pub const MAX_CHUNK_BYTES: u64 = 16 << 30;
/// The chunk size if the spec does not give one.
pub const DEFAULT_CHUNK_BYTES: u64 = 64 << 20;
/// The largest ring, in bytes.
pub const MAX_RING_BYTES: u64 = 1 << 40;
/// The ring size if the spec does not give one.
pub const DEFAULT_RING_BYTES: u64 = 16 << 20;
/// The longest description of a new field, in bytes.
pub const MAX_DESC_BYTES: usize = 4096;
/// The longest retention, chunk age or live window: 1000 years.
pub const MAX_AGE_SECONDS: u64 = 365_250 * 86_400;
/// The longest interval between syncs.
const MAX_SYNC_SECONDS: u64 = 86_400;
/// The largest size limit: no file system holds more.
pub const MAX_SIZE_BYTES: u64 = i64::MAX as u64;
/// The mode of a feed's files if the spec does not give one.
pub const DEFAULT_FILE_MODE: u32 = 0o640;

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldType {
    /// One byte, shown as a Latin-1 character.
    Char,
    /// One byte, 0 or 1.
    Bool,
    /// 8 bits, signed.
    Int8,
    /// 16 bits, signed.
    Int16,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// 8 bits, unsigned.
    Uint8,
    /// 16 bits, unsigned.
    Uint16,
    /// 32 bits, unsigned.
    Uint32,
    /// 64 bits, unsigned.
    Uint64,
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// An `i64` that counts units of 10^-S, S in 0..=18: an exact decimal.
    Decimal64(u8),
    /// A `u64` that counts the feed's unit since the epoch.
    Timestamp,
    /// N raw bytes, written as hex.
    Bytes(u16),
    /// N bytes of UTF-8, padded with NUL.
    String(u16),
    /// N bytes of padding, always zero.
    Pad(u16),
}

impl FieldType {
    /// Returns the size in bytes.
    pub fn size(self) -> usize {
        match self {
            FieldType::Char | FieldType::Bool | FieldType::Int8 | FieldType::Uint8 => 1,
            FieldType::Int16 | FieldType::Uint16 => 2,
            FieldType::Int32 | FieldType::Uint32 | FieldType::Float32 => 4,
            FieldType::Int64
            | FieldType::Uint64
            | FieldType::Float64
            | FieldType::Decimal64(_)
            | FieldType::Timestamp => 8,
            FieldType::Bytes(n) | FieldType::String(n) | FieldType::Pad(n) => usize::from(n),
        }
    }

    /// Returns the natural alignment in bytes: the size for numbers, 1 for bytes, strings and
    /// padding.
    pub fn align(self) -> usize {
        match self {
            FieldType::Bytes(_) | FieldType::String(_) | FieldType::Pad(_) => 1,
            other => other.size(),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldType::Char => f.write_str("char"),
            FieldType::Bool => f.write_str("bool"),
            FieldType::Int8 => f.write_str("int8"),
            FieldType::Int16 => f.write_str("int16"),
            FieldType::Int32 => f.write_str("int32"),
            FieldType::Int64 => f.write_str("int64"),
            FieldType::Uint8 => f.write_str("uint8"),
            FieldType::Uint16 => f.write_str("uint16"),
            FieldType::Uint32 => f.write_str("uint32"),
            FieldType::Uint64 => f.write_str("uint64"),
            FieldType::Float32 => f.write_str("float32"),
            FieldType::Float64 => f.write_str("float64"),
            FieldType::Decimal64(scale) => write!(f, "decimal64.{scale}"),
            FieldType::Timestamp => f.write_str("timestamp"),
            FieldType::Bytes(n) => write!(f, "bytes{n}"),
            FieldType::String(n) => write!(f, "string{n}"),
            FieldType::Pad(n) => write!(f, "_{n}"),
        }
    }
}

const TYPES_HINT: &str = "types are char bool int8..int64 uint8..uint64 float32 float64 \
                          decimal64.S timestamp bytesN stringN _N";

impl FromStr for FieldType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let simple = match text {
            "char" => FieldType::Char,
            "bool" => FieldType::Bool,
            "int8" => FieldType::Int8,
            "int16" => FieldType::Int16,
            "int32" => FieldType::Int32,
            "int64" => FieldType::Int64,
            "uint8" => FieldType::Uint8,
            "uint16" => FieldType::Uint16,
            "uint32" => FieldType::Uint32,
            "uint64" => FieldType::Uint64,
            "float32" => FieldType::Float32,
            "float64" => FieldType::Float64,
            "timestamp" => FieldType::Timestamp,
            _ => return sized_type(text),
        };
        Ok(simple)
    }
}

/// Parses types that contain a number: `decimal64.8`, `decimal64(8)`, `bytes16`, `string8`, `_4`.
fn sized_type(text: &str) -> Result<FieldType> {
    let unknown = || Error::Spec(format!("unknown type {}; {TYPES_HINT}", quoted(text)));
    let number = |digits: &str| -> Result<u16> {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| plain).ok_or_else(unknown)
    };
    if let Some(rest) = text.strip_prefix("decimal64") {
        let digits = match rest.strip_prefix('(') {
            Some(inner) => inner.strip_suffix(')').ok_or_else(unknown)?,
            None => rest.strip_prefix('.').ok_or_else(unknown)?,
        };
        let scale = number(digits)?;
        if scale > 18 {
            return Err(Error::Spec(format!("type {}: the scale is 0 to 18", quoted(text))));
        }
        return Ok(FieldType::Decimal64(scale as u8));
    }
    let (make, digits): (fn(u16) -> FieldType, &str) = if let Some(d) = text.strip_prefix("bytes") {
        (FieldType::Bytes, d)
    } else if let Some(d) = text.strip_prefix("string") {
        (FieldType::String, d)
    } else if let Some(d) = text.strip_prefix('_') {
        (FieldType::Pad, d)
    } else {
        return Err(unknown());
    };
    let n = number(digits)?;
    if n == 0 || usize::from(n) > MAX_RECORD_BYTES {
        return Err(Error::Spec(format!(
            "type {}: the size is 1 to {MAX_RECORD_BYTES}",
            quoted(text)
        )));
    }
    Ok(make(n))
}

/// A field as the spec gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The name, unique in the feed. Only padding may leave it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The type, as text (`float64`, `decimal64.8`).
    #[serde(rename = "type", with = "type_text")]
    pub kind: FieldType,
    /// A description for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub desc: String,
    /// The value of an empty CSV cell or a missing JSON key: a JSON number, string or boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}

mod type_text {
    use super::FieldType;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(kind: &FieldType, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(kind)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<FieldType, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where live chunks are created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// In the feed's folder.
    #[default]
    Disk,
    /// In shared memory; the writer copies them to disk in the background.
    Shm,
}

/// What to do with a record whose time is older than the newest so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Keep it unchanged and count it.
    #[default]
    Accept,
    /// Reject, count and report it.
    Reject,
    /// Keep it, but raise its time to the newest so far.
    Clamp,
}

/// When records become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the kernel writes them back, and when the writer closes cleanly.
    None,
    /// At this interval, in the background.
    Every(Duration),
    /// Before an append returns.
    Batch,
}

impl Default for Sync {
    fn default() -> Self {
        Sync::Every(Duration::from_secs(1))
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sync::None => f.write_str("none"),
            Sync::Batch => f.write_str("batch"),
            Sync::Every(every) => write!(f, "{}ms", every.as_millis()),
        }
    }
}

mod sync_text {
    use super::{Sync, quoted};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(sync: &Sync, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(sync)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Sync, D::Error> {
        let text = String::deserialize(d)?;
        match text.as_str() {
            "none" => Ok(Sync::None),
            "batch" => Ok(Sync::Batch),
            other => other
                .strip_suffix("ms")
                .and_then(|digits| digits.parse().ok())
                .filter(|&ms: &u64| ms > 0)
                .map(|ms| Sync::Every(Duration::from_millis(ms)))
                .ok_or_else(|| {
                    serde::de::Error::custom(format!(
                        "sync {}: none, batch or milliseconds as \"1000ms\"",
                        quoted(other)
                    ))
                }),
        }
    }
}

/// How a feed is kept: everything except its layout. It may change during the feed's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Size of a chunk's data, in bytes.
    pub chunk_size_bytes: u64,
    /// The age at which a chunk ends, in seconds. `None`: the shorter of a day and an eighth of the
    /// retention.
    pub chunk_age_seconds: Option<u64>,
    /// How long records are kept after they arrived, in seconds. `None`: forever.
    pub retention_seconds: Option<u64>,
    /// How many bytes of data and index are kept. `None`: no limit.
    pub max_size_bytes: Option<u64>,
    /// Whether records are stored on disk. If false, the feed is a ring in shared memory, and chunk
    /// size, chunk age, retention, size limit and sync are ignored.
    pub persist: bool,
    /// Size of the ring of a transient feed, in bytes.
    pub ring_size_bytes: u64,
    /// Where live chunks are created.
    pub stage: Stage,
    /// How long a staged chunk stays in shared memory after it is on disk, in seconds.
    pub live_window_seconds: u64,
    /// When records become durable.
    #[serde(with = "sync_text")]
    pub sync: Sync,
    /// What to do with late records.
    pub order: Order,
    /// Whether monitoring expects the feed to be written all the time.
    pub live: bool,
    /// Mode of the feed's files.
    pub file_mode: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            chunk_size_bytes: DEFAULT_CHUNK_BYTES,
            chunk_age_seconds: None,
            retention_seconds: None,
            max_size_bytes: None,
            persist: true,
            ring_size_bytes: DEFAULT_RING_BYTES,
            stage: Stage::Disk,
            live_window_seconds: 0,
            sync: Sync::default(),
            order: Order::Accept,
            live: true,
            file_mode: DEFAULT_FILE_MODE,
        }
    }
}

impl Policy {
    /// Returns the age at which a chunk ends: the given one, else the shorter of a day and an
    /// eighth of the retention.
    pub fn chunk_age(&self) -> Duration {
        const DAY_SECONDS: u64 = 86_400;
        let seconds = self.chunk_age_seconds.unwrap_or_else(|| {
            self.retention_seconds.map_or(DAY_SECONDS, |kept| (kept / 8).clamp(1, DAY_SECONDS))
        });
        Duration::from_secs(seconds)
    }

    /// Returns a line for each value that differs from `other`'s; the line gives this one first.
    pub fn difference(&self, other: &Policy) -> Vec<String> {
        let (Ok(serde_json::Value::Object(ours)), Ok(serde_json::Value::Object(theirs))) =
            (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Vec::new();
        };
        ours.iter()
            .filter(|(key, value)| theirs.get(*key) != Some(value))
            .map(|(key, value)| {
                let asked = theirs.get(key).unwrap_or(&serde_json::Value::Null);
                format!("{key} is {value}, asked for {asked}")
            })
            .collect()
    }
}

/// A feed as its user describes it: name, fields, time column and policy.
///
/// Parse it from JSON ([`FeedSpec::from_json`]) or build it field by field.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedSpec {
    /// The feed's name.
    pub feed_name: String,
    /// The fields, in record order, padding included.
    pub fields: Vec<FieldSpec>,
    /// Name of the time column, a `uint64` or `timestamp` field.
    pub ts_col: String,
    /// The unit of the time column and of every `timestamp` field.
    pub time_unit: TimeUnit,
    /// Whether to pack fields without alignment and implicit padding.
    pub packed: bool,
    /// How the feed is kept.
    pub policy: Policy,
}

/// The JSON form of a spec. Absent keys take their defaults.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpecJson {
    feed_name: String,
    #[serde(default = "uniform")]
    mode: String,
    fields: Vec<FieldSpec>,
    ts_col: String,
    #[serde(default, skip_serializing_if = "TimeUnit::is_default")]
    time_unit: TimeUnit,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    packed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_size_mb: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_age_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_hours: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_size_bytes: Option<u64>,
    #[serde(default = "yes")]
    persist: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ring_size_bytes: Option<u64>,
    #[serde(default)]
    stage: Stage,
    #[serde(default)]
    live_window_seconds: u64,
    #[serde(default, with = "sync_text")]
    sync: Sync,
    #[serde(default)]
    order: Order,
    #[serde(default = "yes")]
    live: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_mode: Option<String>,
}

fn uniform() -> String {
    "UF".to_owned()
}

fn yes() -> bool {
    true
}

impl FeedSpec {
    /// Parses one spec object.
    ///
    /// # Errors
    /// [`Error::Spec`] names the key, field or type that is wrong.
    pub fn from_json(text: &str) -> Result<FeedSpec> {
        let json: SpecJson =
            serde_json::from_str(text).map_err(|e| Error::Spec(format!("feed spec: {e}")))?;
        json.into_spec()
    }

    /// Parses one spec, a list of them, or `{"feeds": [...]}`.
    ///
    /// # Errors
    /// As [`FeedSpec::from_json`]; an empty list is also an error.
    pub fn list_from_json(text: &str) -> Result<Vec<FeedSpec>> {
        FeedSpec::values_from_json(text)?.into_iter().map(FeedSpec::from_value).collect()
    }

    /// Returns the JSON objects that [`FeedSpec::list_from_json`] turns into specs.
    ///
    /// # Errors
    /// [`Error::Spec`] for text that is not JSON, and for an empty list.
    pub fn values_from_json(text: &str) -> Result<Vec<serde_json::Value>> {
        #[derive(Deserialize)]
        struct Feeds {
            feeds: Vec<serde_json::Value>,
        }
        let wrong = |e: serde_json::Error| Error::Spec(format!("feed spec: {e}"));
        let value: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
        let list = match value {
            serde_json::Value::Array(list) => list,
            value if value.get("feeds").is_some() => {
                serde_json::from_value::<Feeds>(value).map_err(wrong)?.feeds
            }
            value => vec![value],
        };
        if list.is_empty() {
            return Err(Error::Spec("feed spec: the list is empty".into()));
        }
        Ok(list)
    }

    /// Returns the spec that `value` requests for this feed. A policy key that `value` lacks keeps
    /// its current value.
    ///
    /// # Errors
    /// As [`FeedSpec::from_json`].
    pub fn updated_by(&self, value: &serde_json::Value) -> Result<FeedSpec> {
        // `value` alone must be a complete spec.
        FeedSpec::from_value(value.clone())?;
        let (serde_json::Value::Object(mut merged), Some(given)) =
            (self.to_json(), value.as_object())
        else {
            return FeedSpec::from_value(value.clone());
        };
        for key in ["time_unit", "packed"] {
            // These belong to the layout, which is taken from `value` alone: absent, they have
            // their defaults.
            merged.remove(key);
        }
        for (one, other) in
            [("chunk_size_bytes", "chunk_size_mb"), ("retention_seconds", "retention_hours")]
        {
            if given.contains_key(other) {
                merged.remove(one);
            }
        }
        merged.extend(given.clone());
        FeedSpec::from_value(merged.into())
    }

    /// Converts one parsed JSON object.
    ///
    /// # Errors
    /// As [`FeedSpec::from_json`].
    pub fn from_value(value: serde_json::Value) -> Result<FeedSpec> {
        serde_json::from_value::<SpecJson>(value)
            .map_err(|e| Error::Spec(format!("feed spec: {e}")))?
            .into_spec()
    }

    /// Returns the spec as a JSON object that [`FeedSpec::from_json`] reads back.
    pub fn to_json(&self) -> serde_json::Value {
        let policy = &self.policy;
        let json = SpecJson {
            feed_name: self.feed_name.clone(),
            mode: uniform(),
            fields: self.fields.clone(),
            ts_col: self.ts_col.clone(),
            time_unit: self.time_unit,
            packed: self.packed,
            chunk_size_mb: None,
            chunk_size_bytes: Some(policy.chunk_size_bytes),
            chunk_age_seconds: policy.chunk_age_seconds,
            retention_hours: None,
            retention_seconds: policy.retention_seconds,
            max_size_bytes: policy.max_size_bytes,
            persist: policy.persist,
            ring_size_bytes: (!policy.persist).then_some(policy.ring_size_bytes),
            stage: policy.stage,
            live_window_seconds: policy.live_window_seconds,
            sync: policy.sync,
            order: policy.order,
            live: policy.live,
            file_mode: Some(format!("{:04o}", policy.file_mode)),
        };
        serde_json::to_value(json).unwrap_or_default()
    }
}

impl SpecJson {
    pub(crate) fn into_spec(self) -> Result<FeedSpec> {
        let wrong = |what: String| Error::Spec(format!("feed {}: {what}", quoted(&self.feed_name)));
        if self.mode != "UF" {
            return Err(wrong(format!(
                "mode {} is not known; the mode is \"UF\"",
                quoted(&self.mode)
            )));
        }
        let chunk_size_bytes = match (self.chunk_size_bytes, self.chunk_size_mb) {
            (Some(_), Some(_)) => {
                return Err(wrong("give chunk_size_bytes or chunk_size_mb, not both".into()));
            }
            (Some(bytes), None) => bytes,
            (None, Some(mb)) if mb.is_finite() && mb > 0.0 => (mb * 1_048_576.0) as u64,
            (None, Some(mb)) => return Err(wrong(format!("chunk_size_mb {mb} is no size"))),
            (None, None) => DEFAULT_CHUNK_BYTES,
        };
        let retention_seconds = match (self.retention_seconds, self.retention_hours) {
            (Some(_), Some(_)) => {
                return Err(wrong("give retention_seconds or retention_hours, not both".into()));
            }
            (seconds, None) => seconds,
            (None, Some(hours)) if hours > 0.0 && hours * 3600.0 < 1.0 => {
                return Err(wrong(format!("retention_hours {hours}: the least is a second")));
            }
            (None, Some(hours)) if hours.is_finite() && hours >= 0.0 => {
                Some((hours * 3600.0) as u64)
            }
            (None, Some(hours)) => {
                return Err(wrong(format!("retention_hours {hours} is no duration")));
            }
        }
        .filter(|&seconds| seconds > 0);
        let file_mode = match &self.file_mode {
            None => DEFAULT_FILE_MODE,
            Some(text) => file_mode(text).map_err(wrong)?,
        };
        let spec = FeedSpec {
            policy: Policy {
                chunk_size_bytes,
                chunk_age_seconds: self.chunk_age_seconds,
                retention_seconds,
                max_size_bytes: self.max_size_bytes,
                persist: self.persist,
                ring_size_bytes: self.ring_size_bytes.unwrap_or(DEFAULT_RING_BYTES),
                stage: self.stage,
                live_window_seconds: self.live_window_seconds,
                sync: self.sync,
                order: self.order,
                live: self.live,
                file_mode,
            },
            feed_name: self.feed_name,
            fields: self.fields,
            ts_col: self.ts_col,
            time_unit: self.time_unit,
            packed: self.packed,
        };
        spec.check()?;
        Ok(spec)
    }
}

/// Parses an octal file mode. The owner must be able to read and write; no one may execute.
///
/// # Errors
/// The reason, as text.
pub fn file_mode(text: &str) -> std::result::Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600)
        .ok_or_else(|| {
            format!("file mode {}: octal, as 0640; the owner reads and writes", quoted(text))
        })
}

impl FeedSpec {
    /// Checks what does not depend on the layout: the name and the policy.
    ///
    /// # Errors
    /// [`Error::Spec`] says what is not allowed.
    pub fn check(&self) -> Result<()> {
        check_feed_name(&self.feed_name)?;
        let wrong =
            |what: String| Err(Error::Spec(format!("feed {}: {what}", quoted(&self.feed_name))));
        let policy = &self.policy;
        if !(MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&policy.chunk_size_bytes) {
            return wrong(format!(
                "a chunk of {} bytes; chunks are 64KiB to 16GiB",
                policy.chunk_size_bytes
            ));
        }
        if !(MIN_CHUNK_BYTES..=MAX_RING_BYTES).contains(&policy.ring_size_bytes) {
            return wrong(format!(
                "a ring of {} bytes; rings are 64KiB to 1TiB",
                policy.ring_size_bytes
            ));
        }
        if !policy.persist && policy.stage == Stage::Shm {
            return wrong("stage shm with persist false; a ring is in shared memory anyway".into());
        }
        if !policy.persist && policy.sync == Sync::Batch {
            return wrong("sync batch with persist false; a ring is never on disk".into());
        }
        if policy.chunk_age_seconds == Some(0) {
            return wrong("a chunk age of zero; the least is one second".into());
        }
        Ok(())
    }
}

impl FeedSpec {
    /// Checks rules for new feeds and new policies: no characters that control a terminal in names,
    /// and limits on texts and numbers. A feed of an earlier version may break these rules.
    ///
    /// # Errors
    /// [`Error::Spec`] names the value and the limit.
    pub fn check_new(&self) -> Result<()> {
        let wrong =
            |what: String| Err(Error::Spec(format!("feed {}: {what}", quoted(&self.feed_name))));
        for field in &self.fields {
            let name = quoted(&field.name);
            if field.name.contains(is_active) {
                return wrong(format!("field {name}: a name has no control characters"));
            }
            if field.desc.len() > MAX_DESC_BYTES {
                return wrong(format!("field {name}: a desc has {MAX_DESC_BYTES} bytes at most"));
            }
        }
        self.check_new_policy()
    }

    /// Checks the part of [`FeedSpec::check_new`] that may change during a feed's life.
    ///
    /// # Errors
    /// As [`FeedSpec::check_new`].
    pub fn check_new_policy(&self) -> Result<()> {
        let wrong =
            |what: String| Err(Error::Spec(format!("feed {}: {what}", quoted(&self.feed_name))));
        let policy = &self.policy;
        let sync = match policy.sync {
            Sync::Every(every) => Some(every.as_secs()),
            _ => None,
        };
        for (what, seconds) in [
            ("retention", policy.retention_seconds),
            ("chunk age", policy.chunk_age_seconds),
            ("live window", Some(policy.live_window_seconds)),
        ] {
            if seconds.is_some_and(|seconds| seconds > MAX_AGE_SECONDS) {
                return wrong(format!("{what}: the most is 1000 years (365250d)"));
            }
        }
        if sync.is_some_and(|seconds| seconds > MAX_SYNC_SECONDS) {
            return wrong("sync: a day at most".into());
        }
        if policy.max_size_bytes.is_some_and(|bytes| bytes > MAX_SIZE_BYTES) {
            return wrong("max size: the most is 8388607TiB".into());
        }
        Ok(())
    }
}

/// Checks a feed name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
///
/// # Errors
/// [`Error::Spec`] states the rule.
pub fn check_feed_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if first && rest && name.len() <= 64 {
        return Ok(());
    }
    Err(Error::Spec(format!(
        "feed name {}: letters, digits, '.', '_' and '-', starting with a letter or a digit, 64 at \
         most",
        quoted(name)
    )))
}
