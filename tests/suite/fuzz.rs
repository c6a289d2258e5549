//! Random damage to a good store, and random bytes to everything that is parsed: no panic, no hang,
//! and nothing shown in good faith that was never written.
//!
//! `DEEPWATER_FUZZ_CASES` and `DEEPWATER_FUZZ_SEED` say how many cases and which; `scripts/fuzz`
//! runs many. What fails names its case, which `DEEPWATER_FUZZ_ONLY` with the same seed runs alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use deepwater::Platform;
use deepwater::chunk::index::{ChunkKey, Extent, Index, RawIndex};
use deepwater::layout::Layout;
use deepwater::registry::feed::FeedRegistry;
use deepwater::registry::global::Registry;
use deepwater::registry::live::LivePage;
use deepwater::repair::{self, Finding, Options};
use deepwater::schema::FeedSpec;
use deepwater::text::filter::Filter;
use deepwater::text::input::{Batch, InputFormat, InputOptions, Parser};
use deepwater::time::TimeUnit;
use deepwater_tools::cli::durations::parse_duration;
use deepwater_tools::cli::sizes::parse_size;
use deepwater_tools::cli::times::{Context, parse_time};
use deepwater_tools::cli::tz::{LocalZone, parse_zone};
use tempfile::TempDir;

use super::env::TestEnv;
use super::kit::{run, text};
use super::random::{Random, mix};
use super::sample::{Blow, Model, cat, closed, copy, cut_off, scan};

/// No case takes a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which cases, and from which seed: by the environment, else a short run.
fn cases(what: &str, ordinary: u64) -> (Range<u64>, u64) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
    };
    let count: u64 = number("DEEPWATER_FUZZ_CASES").unwrap_or(ordinary);
    let seed = number("DEEPWATER_FUZZ_SEED").unwrap_or(20_260_801);
    let only = number("DEEPWATER_FUZZ_ONLY").map(|only| only..only + 1);
    // Not println: the test harness swallows that when the test passes.
    let line = format!("{what}: {count} cases from DEEPWATER_FUZZ_SEED={seed}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
    (only.unwrap_or(0..count), seed)
}

/// Ends the process, with the case's name, if one hangs: nothing else would end it.
struct Watchdog(Sender<String>);

impl Watchdog {
    fn start() -> Watchdog {
        let (sender, cases) = channel::<String>();
        std::thread::spawn(move || {
            let mut current = String::new();
            loop {
                match cases.recv_timeout(PATIENCE * 6) {
                    Ok(case) => current = case,
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(_) if current.is_empty() => {}
                    Err(_) => {
                        eprintln!("hangs: {current}");
                        std::process::abort();
                    }
                }
            }
        });
        Watchdog(sender)
    }

    /// Runs one case: it must neither panic nor take long.
    fn run(&self, name: &str, case: impl FnOnce()) {
        self.0.send(name.to_owned()).expect("the watchdog lives");
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(case));
        assert!(done.is_ok(), "{name}");
        assert!(began.elapsed() < PATIENCE, "{name}: took {:?}", began.elapsed());
    }
}

/// Files of a store, those that can be struck.
fn files(base: &Path) -> Vec<PathBuf> {
    let mut found = vec![base.join("manifest.json"), base.join("registry.bin")];
    for feed in ["t", "v"] {
        let folder = fs::read_dir(base.join("feeds").join(feed)).expect("a folder");
        found.extend(folder.flatten().map(|item| item.path()));
    }
    found.sort();
    found
}

fn random_blow(random: &mut Random, path: &Path, all: &[PathBuf]) -> Blow {
    let len = fs::metadata(path).map_or(1, |meta| meta.len()).max(1);
    let at = match random.below(3) {
        // Where the tables of the format are, and anywhere.
        0 => random.below(len.min(4096)),
        1 => random.below(len.min(6000)),
        _ => random.below(len),
    } as i64;
    match random.below(14) {
        0..=5 => Blow::Flip(at),
        6 => Blow::Cut(at),
        7 => Blow::Grow(1 + random.below(5000) as usize),
        8 => Blow::Smear(at, 1 + random.below(600) as usize, random.next()),
        9 => Blow::Zero(at / 512 * 512, 512),
        10 => Blow::Remove,
        11 => Blow::Swap(random.pick(all).clone()),
        12 => Blow::Folder,
        _ => Blow::LinkNowhere,
    }
}

/// Strikes a store one to three times; says how, and which files were hit.
fn strike(base: &Path, random: &mut Random) -> (String, BTreeSet<PathBuf>) {
    let all = files(base);
    let (mut said, mut hit) = (String::new(), BTreeSet::new());
    for _ in 0..1 + random.below(3) {
        let path = random.pick(&all).clone();
        let blow = random_blow(random, &path, &all);
        let plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        let other = match &blow {
            Blow::Swap(other) => Some(other.clone()),
            _ => None,
        };
        if !plain(&path) || other.as_ref().is_some_and(|other| !plain(other) || *other == path) {
            continue;
        }
        blow.strike(&path);
        said += &format!("{}: {blow:?}; ", path.display());
        hit.insert(path);
        hit.extend(other);
    }
    (said, hit)
}

/// Whether nothing is left to tell what is right: of chunks whose records and whose sums were both
/// hit, and of a feed whose two specs were.
fn defenceless(hit: &BTreeSet<PathBuf>) -> bool {
    let data = hit.iter().filter(|path| path.extension().is_some_and(|e| e == "data"));
    let both = |path: &PathBuf| {
        path.ends_with("feed.json") && hit.contains(&path.with_file_name("feed.copy.json"))
    };
    data.clone().any(|path| hit.contains(&path.with_extension("idx")))
        || data.count() > 1
        || hit.iter().any(both)
}

/// What one run of a repair took out, and whether it came to its end.
struct Repaired {
    whole: bool,
    gone: Vec<(u64, u64)>,
    /// Why it did not.
    why: String,
}

/// Plans and applies in this process, as dw-repair does.
fn repair_here(base: &Path, dry_run: bool) -> Repaired {
    let attempt = || -> deepwater::Result<Vec<Finding>> {
        let mut plan = repair::store::plan(base)?;
        let mut found = plan.findings.clone();
        if !dry_run {
            repair::store::apply(&mut plan)?;
        } else if !plan.is_sound() {
            return Ok(found);
        }
        let platform = Platform::open(base)?;
        for name in platform.list_feeds()? {
            let lock = if dry_run { None } else { Some(repair::lock(&platform, &name)?) };
            let plan = repair::plan(&platform, &name, Options::default(), &mut |_| {})?;
            if name == "t" {
                found.extend(plan.findings.iter().cloned());
            }
            if let Some(lock) = lock {
                repair::apply(&plan, &lock)?;
            }
        }
        Ok(found)
    };
    match attempt() {
        Ok(found) => {
            let gone = found.iter().filter(|f| f.records_gone() > 0).filter_map(|f| f.seqs);
            Repaired { whole: true, gone: gone.collect(), why: String::new() }
        }
        Err(error) => Repaired { whole: false, gone: Vec::new(), why: error.to_string() },
    }
}

fn repair_there(env: &TestEnv) -> Repaired {
    let args = ["--rebuild-registry", "--all", "--json"];
    let output = run(env, "dw-repair", &args, b"");
    let mut gone = Vec::new();
    for line in text(&output.stdout).lines() {
        let found: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if found["action"] == "remove" && found["feed"] == "t" {
            let number = |key: &str| found[key].as_u64().expect("a seq");
            gone.push((number("seq_lo"), number("seq_hi")));
        }
    }
    Repaired { whole: output.status.code() != Some(2), gone, why: text(&output.stderr) }
}

/// One case: struck, read, repaired, read again. The first `promised` records of the model are
/// below the last checkpoint; of the others some may never have reached the disk.
fn mutate(template: &Path, (model, promised): (&Model, u64), seed: u64, real: bool) {
    let mut random = Random::new(seed);
    let env = TestEnv::new();
    let base = env.base();
    copy(template, &base);
    let (said, hit) = strike(&base, &mut random);
    let what = format!("struck: {said}");
    let all: BTreeSet<u64> = model.keys().copied().filter(|seq| *seq < promised).collect();
    let read = || if real { cat(&env, model, &what) } else { scan(&base, model, &what) };
    let before = read();
    let short = before.clean && !all.is_subset(&before.seqs);
    assert!(!short, "{what}: less than all, in silence");
    let repaired = if real {
        run(&env, "dw-ls", &["-l"], b"");
        run(&env, "dw-repair", &["--rebuild-registry", "--all", "--dry-run"], b"");
        repair_there(&env)
    } else {
        repair_here(&base, true);
        repair_here(&base, false)
    };
    if defenceless(&hit) {
        return;
    }
    let after = read();
    if !repaired.whole {
        // It could not, and said so.
        assert!(hit.len() > 1, "{what}: one blow is too much for a repair: {}", repaired.why);
        return;
    }
    assert!(after.clean, "{what}: after a repair: {}", after.said);
    let named = |seq: &u64| repaired.gone.iter().any(|(lo, hi)| lo <= seq && seq < hi);
    let lost: Vec<u64> = all.difference(&after.seqs).copied().filter(|s| !named(s)).collect();
    assert!(lost.is_empty(), "{what}: gone and not named: {:?}", (lost.first(), lost.last()));
    let again = repair_here(&base, true);
    assert!(
        again.whole && again.gone.is_empty(),
        "{what}: the second repair finds {:?}",
        again.gone
    );
}

#[test]
fn a_store_that_is_struck_at_random_never_lies() {
    let (numbers, seed) = cases("random damage", 500);
    let folder = TempDir::new().expect("a folder");
    let templates = ["closed", "cut-off"].map(|name| folder.path().join(name));
    let (model, (cut_model, durable)) = (closed(&templates[0]), cut_off(&templates[1]));
    let watchdog = Watchdog::start();
    for i in numbers {
        let seed = mix(seed ^ mix(i));
        let real = i % 25 == 24;
        let (template, sample) = match i % 3 {
            2 => (&templates[1], (&cut_model, durable)),
            _ => (&templates[0], (&model, u64::MAX)),
        };
        let name = format!("random damage, case {i}");
        watchdog.run(&name, || mutate(template, sample, seed, real));
    }
}

/// Changes bytes of a seed text or file, at random, in a few places.
fn mangle(random: &mut Random, seed: &[u8], others: &[&[u8]]) -> Vec<u8> {
    const ODD: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"-",
        b"e",
        b"9999999999999999999999",
        b"1e999",
        b"\\u0000",
        b"\\ud800",
        b"\xef\xbb\xbf",
        b"null",
        b".",
        b" ",
        b"\t",
        b"NaN",
        b"-0",
        b"+",
        b"T",
        b"Z",
        b"@",
        b"last",
        b"1h",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(7) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 | 4 => drop(bytes.splice(at..at, random.pick(ODD).iter().copied())),
            5 => {
                let end = (at + random.below(20) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let other = random.pick(others);
                let from = random.below(other.len() as u64 + 1) as usize;
                let to = (from + random.below(60) as usize).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

/// Mangles seeds so often, and gives each to `try_it`.
fn mangled(what: &str, ordinary: u64, seeds: &[&[u8]], mut try_it: impl FnMut(&[u8])) {
    let (numbers, seed) = cases(what, ordinary);
    let watchdog = Watchdog::start();
    for i in numbers {
        let mut random = Random::new(mix(seed ^ mix(i)));
        let bytes = mangle(&mut random, seeds[i as usize % seeds.len()], seeds);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned();
        watchdog.run(&format!("{what}, case {i}: {shown:?}"), || try_it(&bytes));
    }
}

const SPEC: &str = r#"{"feed_name":"t","mode":"UF","fields":[
    {"name":"price","type":"decimal64(8)","desc":"Trade price"},
    {"name":"side","type":"char","default":"B"},{"name":"","type":"_3"},
    {"name":"id","type":"string12"},{"name":"raw","type":"bytes5"},{"name":"ok","type":"bool"},
    {"name":"f","type":"float32"},{"name":"i","type":"int16"},{"name":"ts","type":"uint64"}],
    "ts_col":"ts","chunk_size_mb":1.5,"retention_hours":24,"persist":true,"time_unit":"ns"}"#;

#[test]
fn specs() {
    let smaller = br#"{"feeds":[{"feed_name":"a","fields":[{"name":"ts","type":"timestamp"}],
        "ts_col":"ts","packed":true,"sync":"100ms","order":"clamp","file_mode":416}]}"#;
    mangled("specs", 3000, &[SPEC.as_bytes(), smaller], |bytes| {
        let spec = FeedSpec::from_json(&String::from_utf8_lossy(bytes));
        if let Ok(spec) = spec
            && spec.check().is_ok()
            && let Ok(layout) = Layout::new(&spec)
        {
            assert!(layout.record_size() <= 16 * 1024);
            // What is taken reads back as it is.
            let again = FeedSpec::from_value(spec.to_json()).expect("its own JSON");
            assert_eq!(Layout::new(&again).expect("its own JSON").hash(), layout.hash());
        }
    });
}

/// The files of a feed, to be mangled as files: each goes to the code that maps or reads it.
#[test]
fn binary_files() {
    let folder = TempDir::new().expect("a folder");
    let base = folder.path().join("store");
    closed(&base);
    let platform = Platform::open(&base).expect("a store");
    let feed = platform.feed_info("t").expect("a feed");
    let registry = base.join("registry.bin");
    let index = feed.folder.join("00000004.idx");
    let (id, geometry) = (feed.id, feed.geometry());
    let path = folder.path().join("mangled");
    let try_file = |what: &str, file: &Path, ordinary: u64, open: &dyn Fn(&Path)| {
        let good = fs::read(file).expect("a file");
        // The head of a table, most of which is room, and the whole.
        mangled(what, ordinary, &[&good, &good[..good.len().min(6000)]], |bytes| {
            fs::write(&path, bytes).expect("a disk");
            open(&path);
        });
    };
    try_file("registries", &registry, 500, &|path| {
        let _ = Registry::load(path, id.store_id);
        let _ = Registry::load_any(path);
    });
    try_file("feed registries", &feed.registry_path(), 500, &|path| {
        if let Ok(table) = FeedRegistry::open(path, &id, false) {
            let _ = (table.entries(), table.checkpoint(), table.lease(), table.segments());
        }
        let _ = FeedRegistry::peek(path);
        let _ = deepwater::registry::salvage::Salvage::read(path, &id);
    });
    try_file("live pages", &feed.live_path(), 500, &|path| {
        if let Ok(page) = LivePage::open(path, &id, false) {
            let _ = (page.session(), page.try_published(), page.rate(1 << 60), page.counters());
        }
    });
    try_file("indexes", &index, 500, &|path| {
        let base_seq = 25_000;
        let key = ChunkKey { id: &id, geometry: &geometry, chunk_id: 4, base_seq };
        if let Ok(index) = Index::open(path, &key) {
            let extent = Extent { records: 3000, sealed: true };
            let _ = (index.blocks(0, 2, extent), index.marks(extent));
        }
        if let Ok(raw) = RawIndex::read(path, (&id, &geometry)) {
            let _ = (raw.marks(|_, _| ()), raw.fault(3000), raw.times(1, 270), raw.has_records());
        }
    });
}

/// Feeds input as a tool does: all that there is, again and again until it is taken.
fn parse(layout: &Arc<Layout>, options: &InputOptions, input: &[u8], piece: usize) {
    let Ok(mut parser) = Parser::new(layout.clone(), options.clone()) else { return };
    let mut batch = Batch::new();
    let (mut at, mut have, mut rows) = (0, 0, 0);
    loop {
        have = (have + piece).min(input.len());
        let end = have == input.len();
        loop {
            batch.clear();
            let Ok(taken) = parser.parse(&input[at..have], end, 77, &mut batch) else { return };
            assert_eq!(batch.records.len() % layout.record_size(), 0, "whole records");
            rows += batch.records.len() / layout.record_size() + batch.rejects.len();
            at += taken;
            if taken == 0 {
                break;
            }
        }
        if end {
            break;
        }
    }
    assert_eq!(at, input.len(), "everything is taken in the end");
    assert!(rows <= input.len() + 1, "{rows} rows of {} bytes", input.len());
}

#[test]
fn csv_and_json_lines() {
    let layout = Arc::new(Layout::new(&FeedSpec::from_json(SPEC).expect("a spec")).expect("one"));
    let csv: &[u8] =
        b"price,side,id,raw,ok,f,i,ts\n1.25,B,\"a,\"\"b\"\"\",00ff00ff00,true,1.5,-3,17\n\
        -0.00000001,S,x,0102030405,0,NaN,32767,1700000000000000000\r\n2,B,,0102030405,1,inf,0,5\n";
    let tsv: &[u8] = b"ts\tprice\tid\traw\tok\tf\ti\n17\t2.5\tabc\t0102030405\tfalse\t-1e-3\t12\n";
    let json: &[u8] =
        b"{\"price\":\"1.25\",\"side\":\"B\",\"id\":\"\\u00e9\",\"raw\":\"0102030405\",\
        \"ok\":true,\"f\":1e3,\"i\":-3,\"ts\":17}\n{\"ts\":18,\"price\":2,\"id\":\"\",\"raw\":\
        \"0102030405\",\"ok\":0,\"f\":null,\"i\":1,\"more\":[{\"a\":[1,2]}]}\n\
        [1,\"B\",\"x\",\"0102030405\",false,1,2,3]\n";
    let raw: Vec<u8> = vec![0; layout.record_size() * 2];
    for (format, seed) in [
        (InputFormat::Csv, csv),
        (InputFormat::Tsv, tsv),
        (InputFormat::Jsonl, json),
        (InputFormat::Raw, &raw),
    ] {
        let mut options = InputOptions::new(format);
        let mut turn = 0;
        mangled(&format!("{format:?} input"), 3000, &[seed, csv, json], |bytes| {
            turn += 1;
            options.strict = turn % 2 == 0;
            options.explode = (turn % 5 == 0).then(|| "/more".to_owned());
            let piece = [usize::MAX / 2, 1, 7, 64][turn % 4];
            parse(&layout, &options, bytes, piece);
        });
    }
}

#[test]
fn arguments() {
    let seeds: Vec<&[u8]> = [
        "2024-05-01T09:30:00.123456789-04:00",
        "2024-05-01 09:30 Europe/Berlin",
        "yesterday 09:30",
        "last-5m",
        "first+1h",
        "@1714555800.5",
        "@1714555800500ms",
        "1714555800000000",
        "-1h",
        "1h30m ago",
        "seq:42",
        "now",
        "2024-03-10 02:30",
        "America/New_York",
        "64MiB",
        "price>=-1.5e3",
    ]
    .map(str::as_bytes)
    .to_vec();
    let layout = Layout::new(&FeedSpec::from_json(SPEC).expect("a spec")).expect("one");
    let zone = LocalZone::new(parse_zone("America/New_York").ok());
    mangled("arguments", 5000, &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for unit in [TimeUnit::Micros, TimeUnit::Nanos] {
            let now = jiff::Timestamp::from_second(1_714_555_800).expect("a time");
            let span = || Ok(Some((5, u64::MAX - 5)));
            let context = Context { now, zone: &zone, unit, span: &span };
            if let Ok(time) = parse_time(&text) {
                let _ = time.resolve(&context);
            }
        }
        let _ = (parse_duration(&text), parse_size(&text), parse_zone(&text));
        let _ = Filter::parse(&layout, &text).map(|f| f.matches(&vec![0; layout.record_size()]));
    });
}
