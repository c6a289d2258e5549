//! Collecting, with a clock that the test sets: which chunks are removed when, and what readers
//! then see.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use deepwater::gc::{self, Action, Reason, Wants};
use deepwater::reader::{Direction, Lost, Selection, Why};
use deepwater::registry::feed::{FeedRegistry, Moment, Place};
use deepwater::registry::info::FeedInfo;
use deepwater::schema::FeedSpec;
use deepwater::writer::SessionEnd;
use deepwater::{Error, Platform};

const HOUR_S: u64 = 3600;
/// Number of 8-byte records that fill a chunk of the minimum size.
const PER_CHUNK: u64 = 8192;

fn store(folder: &Path, policy: &str) -> Platform {
    let platform = Platform::create(folder).unwrap();
    let json = format!(
        r#"{{"feed_name":"t","mode":"UF","fields":[{{"name":"ts","type":"uint64"}}],
            "ts_col":"ts","chunk_size_bytes":65536{policy}}}"#
    );
    platform.create_feed(&FeedSpec::from_json(&json).unwrap(), false).unwrap();
    platform
}

/// Writes one session that fills exactly `chunks` chunks.
fn write_chunks(platform: &Platform, chunks: u64) {
    let mut writer = platform.create_writer("t").unwrap();
    let first = writer.next_seq();
    for chunk in 0..chunks {
        let seqs = (0..PER_CHUNK).map(|i| first + chunk * PER_CHUNK + i);
        let rows: Vec<u8> = seqs.flat_map(u64::to_le_bytes).collect();
        writer.append_batch(&rows).unwrap();
    }
    writer.close(SessionEnd::Ended).unwrap();
}

/// Returns the moment `seconds` from now, by every clock.
fn later(seconds: u64) -> Moment {
    let now = Moment::now();
    Moment {
        wall_us: now.wall_us + seconds * 1_000_000,
        boot_ns: now.boot_ns + seconds * 1_000_000_000,
        ..now
    }
}

/// Plans and applies. Returns the chunks that were removed, and why.
fn collect(platform: &Platform, wants: &Wants, now: &Moment) -> Vec<(Action, u64, Reason)> {
    let plan = gc::plan(platform, wants, now).unwrap();
    assert!(plan.failed.is_empty(), "{:?}", plan.failed);
    let planned: Vec<_> = plan.steps().cloned().collect();
    let mut done = Vec::new();
    let outcome = gc::apply(platform, &plan, &mut |step| done.push(step.clone()));
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert_eq!((outcome.conflicts, &done), (0, &planned));
    done.iter().map(|step| (step.action, step.chunk_id.unwrap_or(0), step.reason)).collect()
}

fn ids(done: &[(Action, u64, Reason)]) -> Vec<u64> {
    done.iter().map(|(_, chunk_id, _)| *chunk_id).collect()
}

fn registry(info: &FeedInfo) -> FeedRegistry {
    FeedRegistry::open(&info.registry_path(), &info.id, true).unwrap()
}

#[test]
fn chunks_older_than_the_retention_are_collected() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 3);
    let wants = Wants::default();
    assert_eq!(collect(&platform, &wants, &later(0)), []);
    assert_eq!(collect(&platform, &wants, &later(2 * HOUR_S - 60)), []);
    let done = collect(&platform, &wants, &later(2 * HOUR_S + 60));
    assert_eq!(done, [1, 2, 3].map(|id| (Action::Collect, id, Reason::Retention)));
    let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
    assert_eq!((snapshot.records(), snapshot.end_seq), (0, 3 * PER_CHUNK));
    assert_eq!(collect(&platform, &wants, &later(3 * HOUR_S)), []);
}

#[test]
fn record_times_do_not_affect_retention() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    // An hour from now, in 1970, and the day after tomorrow.
    for ts in [later(HOUR_S).wall_us, 1, later(48 * HOUR_S).wall_us] {
        let mut writer = platform.create_writer("t").unwrap();
        writer.append(&ts.to_le_bytes()).unwrap();
        writer.close(SessionEnd::Ended).unwrap();
    }
    assert_eq!(collect(&platform, &Wants::default(), &later(2 * HOUR_S - 60)), []);
    assert_eq!(ids(&collect(&platform, &Wants::default(), &later(2 * HOUR_S + 60))), [1, 2, 3]);
}

#[test]
fn wall_clock_jumps_within_a_boot_do_not_age_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 1);
    let ahead = Moment { wall_us: Moment::now().wall_us + 86_400_000_000 * 29, ..later(60) };
    assert_eq!(collect(&platform, &Wants::default(), &ahead), []);
    let another_boot = Moment { boot_id: [7; 16], ..ahead };
    let wants = Wants { trust_clock: true, ..Wants::default() };
    assert_eq!(ids(&collect(&platform, &wants, &another_boot)), [1]);
}

#[test]
fn size_limit_collects_the_oldest_and_counts_the_live_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let chunk = 65536 + 4096 + 32;
    let policy = format!(r#","max_size_bytes":{}"#, 3 * chunk);
    let platform = store(folder.path(), &policy);
    write_chunks(&platform, 4);
    let done = collect(&platform, &Wants::default(), &later(0));
    assert_eq!(done, [(Action::Collect, 1, Reason::MaxSize)]);
    assert_eq!(collect(&platform, &Wants::default(), &later(0)), [], "exactly the limit is fine");
    // One record in a live chunk. The chunk has its full size allocated.
    let mut writer = platform.create_writer("t").unwrap();
    writer.append(&7u64.to_le_bytes()).unwrap();
    assert_eq!(ids(&collect(&platform, &Wants::default(), &later(0))), [2]);
    // The live chunk stays, however small the limit.
    let json = platform.feed_info("t").unwrap().spec;
    let mut spec = json.clone();
    spec.policy.max_size_bytes = Some(1);
    platform.create_feed(&spec, true).unwrap();
    assert_eq!(ids(&collect(&platform, &Wants::default(), &later(0))), [3, 4]);
    assert_eq!(platform.create_reader("t").unwrap().snapshot().unwrap().records(), 1);
    writer.close(SessionEnd::Ended).unwrap();
}

#[test]
fn min_free_spares_feeds_without_retention() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 3);
    let mut spec = platform.feed_info("t").unwrap().spec;
    spec.feed_name = "forever".into();
    spec.policy.retention_seconds = None;
    spec.policy.max_size_bytes = Some(1 << 30);
    platform.create_feed(&spec, false).unwrap();
    let mut writer = platform.create_writer("forever").unwrap();
    writer.append(&[7; 8]).unwrap();
    writer.close(SessionEnd::Ended).unwrap();
    // Ask for more than can be freed.
    let wants = Wants { min_free_bytes: Some(u64::MAX), ..Wants::default() };
    let plan = gc::plan(&platform, &wants, &later(0)).unwrap();
    assert!(plan.steps().all(|step| step.feed == "t" && step.reason == Reason::MinFree));
    assert_eq!(plan.steps().count(), 3);
    assert!(plan.short_bytes > u64::MAX / 2);
    // That much is free already.
    let wants = Wants { min_free_bytes: Some(1), ..Wants::default() };
    let plan = gc::plan(&platform, &wants, &later(0)).unwrap();
    assert_eq!((plan.steps().count(), plan.short_bytes), (0, 0));
}

#[test]
fn old_entries_are_dropped_but_the_last_chunk_and_session_stay() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    let info = platform.feed_info("t").unwrap();
    let first_entry = || registry(&info).first_entry().unwrap();
    // Entries: S C C, S C, S C C.
    [2, 1, 2].iter().for_each(|chunks| write_chunks(&platform, *chunks));
    let all = collect(&platform, &Wants::default(), &later(3 * HOUR_S));
    assert_eq!(ids(&all), [1, 2, 3, 4, 5]);
    assert_eq!(first_entry(), 5, "up to the last session");
    let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
    assert_eq!(snapshot.sessions.iter().map(|s| s.session_id).collect::<Vec<_>>(), [3]);
    assert_eq!(snapshot.end_seq, 5 * PER_CHUNK);
    // Numbering continues.
    write_chunks(&platform, 1);
    let newest = || {
        let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
        let chunk = snapshot.chunks[0].entry;
        (chunk.chunk_id, chunk.session_id, chunk.base_seq)
    };
    assert_eq!(newest(), (6, 4, 5 * PER_CHUNK));
    // Another boot, and an empty live page: the table alone must have the numbers.
    std::fs::remove_file(info.live_path()).unwrap();
    deepwater::registry::live::LivePage::create(&info.live_path(), &info.id, 0o600).unwrap();
    collect(&platform, &Wants::default(), &later(6 * HOUR_S));
    write_chunks(&platform, 1);
    assert_eq!(newest(), (7, 5, 6 * PER_CHUNK));
}

#[test]
fn a_session_with_records_left_keeps_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 2 * (65536 + 4096 + 32);
    let policy = format!(r#","max_size_bytes":{limit}"#);
    let platform = store(folder.path(), &policy);
    let info = platform.feed_info("t").unwrap();
    [1, 3, 1].iter().for_each(|chunks| write_chunks(&platform, *chunks));
    // S C, S C C C, S C: collecting removes the first three chunks. The second session keeps its
    // last.
    assert_eq!(ids(&collect(&platform, &Wants::default(), &later(0))), [1, 2, 3]);
    assert_eq!(registry(&info).first_entry().unwrap(), 2);
    let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
    assert_eq!(snapshot.sessions.iter().map(|s| s.session_id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(snapshot.first_seq(), 3 * PER_CHUNK);
}

#[test]
fn collected_chunks_of_a_snapshot_are_lost_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 3);
    let reader = platform.create_reader("t").unwrap();
    let snapshot = reader.snapshot().unwrap();
    let mut begun = reader.scan(&snapshot, Selection::ALL, Direction::Forward);
    let first = begun.next_run().unwrap().unwrap();
    assert_eq!(first.first_seq, 0);
    let mut back = reader.scan(&snapshot, Selection::ALL, Direction::Reverse);
    assert!(back.next_run().unwrap().unwrap().first_seq >= 2 * PER_CHUNK);
    collect(&platform, &Wants::default(), &later(3 * HOUR_S));
    let part = |chunk_id: u64, gap| {
        let seqs = ((chunk_id - 1) * PER_CHUNK, chunk_id * PER_CHUNK);
        Lost { feed: "t".into(), seqs, why: Why::Collected, gap }
    };
    // Chunks that were open stay readable. The others are reported.
    begun.for_each(|_| true).unwrap();
    assert_eq!(begun.take_damage(), []);
    assert_eq!(begun.take_lost(), [part(2, true), part(3, true)]);
    back.for_each(|_| true).unwrap();
    assert_eq!(
        (back.take_damage(), back.take_lost()),
        (vec![], vec![part(2, false), part(1, false)])
    );
    let selection = Selection { seqs: (100, 2 * PER_CHUNK + 5), ..Selection::ALL };
    let mut late = reader.scan(&snapshot, selection, Direction::Forward);
    late.for_each(|record| panic!("seq {} is gone", record.seq)).unwrap();
    assert_eq!(late.take_damage(), []);
    let seqs: Vec<_> = late.take_lost().into_iter().map(|c| (c.seqs, c.gap)).collect();
    let (one, two) = (PER_CHUNK, 2 * PER_CHUNK);
    assert_eq!(seqs, [((100, one), false), ((one, two), false), ((two, two + 5), false)]);
    assert!(matches!(reader.last_mark(&snapshot, u64::MAX), Err(Error::Invalid(_))));
}

#[test]
fn a_missing_file_is_reported_as_damage() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 2);
    std::fs::remove_file(folder.path().join("feeds/t/00000001.idx")).unwrap();
    let reader = platform.create_reader("t").unwrap();
    let mut scan = reader.read(0, u64::MAX).unwrap();
    scan.for_each(|_| true).unwrap();
    assert_eq!(scan.take_lost(), []);
    let damage = scan.take_damage();
    assert_eq!((damage.len(), damage[0].chunk_id, damage[0].seqs), (1, 1, (0, PER_CHUNK)));
    assert!(damage[0].what.contains("00000001.idx"), "{}", damage[0].what);
    // It is collected when it is old enough, like any other chunk.
    assert_eq!(ids(&collect(&platform, &Wants::default(), &later(3 * HOUR_S))), [1, 2]);
}

#[test]
fn an_interrupted_removal_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 3);
    let info = platform.feed_info("t").unwrap();
    // One run was killed after the swap, another after it had removed the first of two files.
    let position = |n: u64| n;
    registry(&info).set_place(position(1), Place::OnDisk, Place::Expired).unwrap();
    registry(&info).set_place(position(2), Place::OnDisk, Place::Expired).unwrap();
    std::fs::remove_file(info.folder.join("00000002.data")).unwrap();
    let done = collect(&platform, &Wants::default(), &later(0));
    assert_eq!(done, [1, 2].map(|id| (Action::Finish, id, Reason::Unfinished)));
    let names = deepwater::os::file::names(&info.folder).unwrap();
    assert!(!names.iter().any(|n| n.starts_with("00000001") || n.starts_with("00000002")));
    assert_eq!(collect(&platform, &Wants::default(), &later(0)), []);
    // A power loss brought back a file of a chunk that is no longer in the table.
    write_chunks(&platform, 1);
    collect(&platform, &Wants::default(), &later(3 * HOUR_S));
    assert!(registry(&info).first_entry().unwrap() > 1);
    std::fs::write(info.folder.join("00000001.data"), "x").unwrap();
    assert_eq!(ids(&collect(&platform, &Wants::default(), &later(3 * HOUR_S))), [1]);
    assert_eq!(collect(&platform, &Wants::default(), &later(3 * HOUR_S)), []);
}

#[test]
fn a_plan_overtaken_by_another_run_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let platform = store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 2);
    let now = later(3 * HOUR_S);
    let plan = gc::plan(&platform, &Wants::default(), &now).unwrap();
    assert_eq!(ids(&collect(&platform, &Wants::default(), &now)), [1, 2]);
    let outcome = gc::apply(&platform, &plan, &mut |step| panic!("{step:?} is done already"));
    assert_eq!(outcome.conflicts, 2);
    // The feed is deleted and created again. Its new chunks have the old names.
    write_chunks(&platform, 1);
    let plan = gc::plan(&platform, &Wants::default(), &later(6 * HOUR_S)).unwrap();
    assert_eq!(plan.steps().count(), 1);
    platform.delete_feed("t").unwrap();
    let gone = gc::apply(&platform, &plan, &mut |_| panic!("nothing is there"));
    assert_eq!((gone.conflicts, gone.failed.len()), (1, 0));
    store(folder.path(), r#","retention_hours":2"#);
    write_chunks(&platform, 3);
    let outcome = gc::apply(&platform, &plan, &mut |_| panic!("these are others"));
    assert_eq!((outcome.conflicts, outcome.failed.len()), (1, 0));
    let snapshot = platform.create_reader("t").unwrap().snapshot().unwrap();
    assert_eq!(snapshot.records(), 3 * PER_CHUNK);
}
