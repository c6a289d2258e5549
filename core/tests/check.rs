//! Checks of a store while other threads write to it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deepwater::Platform;
use deepwater::check::{self, Check, Finding, Limits, Verdict};
use deepwater::registry::feed::{FeedRegistry, Geometry, Identity, SessionEntry};
use deepwater::schema::FeedSpec;
use deepwater::time::TimeUnit;
use deepwater::writer::SessionEnd;

const LIMITS: Limits = Limits { min_free_bytes: 0, max_age: None };

fn feeds(folder: &Path) -> Platform {
    let platform = Platform::create(folder).unwrap();
    for name in ["busy", "idle"] {
        let json = format!(
            r#"{{"feed_name":"{name}","mode":"UF","fields":[{{"name":"ts","type":"uint64"}}],
                "ts_col":"ts","chunk_size_bytes":65536}}"#
        );
        platform.create_feed(&FeedSpec::from_json(&json).unwrap(), false).unwrap();
    }
    platform
}

fn published(found: &[Finding]) -> u64 {
    let of_busy =
        |f: &&Finding| f.check == Check::FeedRegistry && f.feed.as_deref() == Some("busy");
    found.iter().find(of_busy).unwrap().value.unwrap() as u64
}

/// While others check, sessions begin and end, and chunks fill and are sealed. The copies that a
/// check reads may then mix two moments, but it must report nothing wrong.
#[test]
fn checks_beside_a_writer_find_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let platform = feeds(folder.path());
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut seq = 0u64;
            while !done.load(Ordering::Relaxed) {
                let mut writer = platform.create_writer("busy").unwrap();
                for _ in 0..100 {
                    let rows: Vec<u8> = (seq..seq + 250).flat_map(u64::to_le_bytes).collect();
                    writer.append_batch(&rows).unwrap();
                    seq += 250;
                }
                writer.close(SessionEnd::Ended).unwrap();
            }
            seq
        });
        let (began, mut last) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(2) {
            let found = check::look(folder.path(), &[], &LIMITS).unwrap();
            let wrong: Vec<_> = found.iter().filter(|f| f.verdict != Verdict::Healthy).collect();
            if !wrong.is_empty() {
                done.store(true, Ordering::Relaxed);
            }
            assert!(wrong.is_empty(), "{wrong:?}");
            let now = published(&found);
            assert!(now >= last && now.is_multiple_of(250), "{now} after {last}");
            last = now;
        }
        done.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    assert_eq!(published(&check::look(folder.path(), &[], &LIMITS).unwrap()), written);
}

#[test]
fn a_copied_table_equals_a_mapped_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    let id = Identity { store_id: [1; 16], feed_id: 2, layout_hash: 3 };
    let geometry = Geometry::new(8, 0, TimeUnit::Micros);
    FeedRegistry::create(&path, &id, &geometry, 1, 0o600).unwrap();
    let mapped = FeedRegistry::open(&path, &id, true).unwrap();
    assert!(FeedRegistry::copy(&path, &Identity { feed_id: 4, ..id }).is_none());
    for n in 0..=480 {
        let copy = FeedRegistry::copy(&path, &id).unwrap();
        assert!(copy.is_copy() && copy.is_unchanged(), "{n} entries");
        assert_eq!(copy.entries().unwrap(), mapped.entries().unwrap());
        assert_eq!(copy.count().unwrap(), n);
        let mut entry = SessionEntry {
            position: 0,
            session_id: n + 1,
            base_seq: n,
            opened_us: n,
            opened_boot_ns: n,
            boot_id: [9; 16],
            pid: 7,
            close: None,
        };
        mapped.append_session(&mut entry).unwrap();
        assert!(!copy.is_unchanged());
        let again = copy.mapped(&id).unwrap();
        assert_eq!(again.entry(n).unwrap(), mapped.entry(n).unwrap());
    }
    assert!(FeedRegistry::copy(&path, &id).is_none(), "longer than is copied");
}
