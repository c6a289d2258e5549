//! The difference between two policies, in the words of the options.

use std::time::Duration;

use deepwater::schema::Policy;

/// Returns each value that differs: the name of its option, the old value and the new one.
pub fn changes(old: &Policy, new: &Policy) -> Vec<(&'static str, String, String)> {
    let pairs = in_words(old).into_iter().zip(in_words(new));
    let differ = pairs.filter(|(old, new)| old.1 != new.1);
    differ.map(|((name, old), (_, new))| (name, old, new)).collect()
}

fn in_words(policy: &Policy) -> [(&'static str, String); 11] {
    let duration = |s| humantime::format_duration(Duration::from_secs(s)).to_string();
    let or = |word: &str, text: Option<String>| text.unwrap_or_else(|| word.to_owned());
    let lower = |text: String| text.to_lowercase();
    [
        ("chunk-size", exact_size(policy.chunk_size_bytes)),
        ("chunk-age", or("default", policy.chunk_age_seconds.map(duration))),
        ("retention", or("forever", policy.retention_seconds.map(duration))),
        ("max-size", or("none", policy.max_size_bytes.map(exact_size))),
        ("ring", or("none", (!policy.persist).then(|| exact_size(policy.ring_size_bytes)))),
        ("stage", lower(format!("{:?}", policy.stage))),
        ("live-window", duration(policy.live_window_seconds)),
        ("sync", policy.sync.to_string()),
        ("order", lower(format!("{:?}", policy.order))),
        ("live", if policy.live { "yes" } else { "no" }.to_owned()),
        ("mode", format!("{:04o}", policy.file_mode)),
    ]
}

/// Formats a size exactly, in the largest binary unit that divides it. An option can read it back.
fn exact_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    match units.iter().find(|(_, shift)| fits(*shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}
