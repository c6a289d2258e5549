//! The reading process, which measures.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deepwater::os::file;
use deepwater::os::map::Map;
use deepwater::reader::{Event, Follower, Selection, Waiting};
use deepwater::registry::feed::FeedRegistry;
use deepwater::ring::{Copied, Cursor, Found};
use deepwater::{Platform, ring};
use ringfire::RingConsumer;

use crate::figures::Latencies;
use crate::{PACE_NS, feed_name, now_ns, to_words};

/// Measures until the last record has arrived.
pub fn read(kind: &str, size: usize, count: u64, base: &Path) {
    match kind {
        "spin" => read_clock(count),
        "line" => answer(base),
        "pipe" => read_pipe(size),
        "ringfire" if size == 48 => read_ringfire::<6>(base),
        "ringfire" => read_ringfire::<8>(base),
        "ring" => read_ring(size, base),
        "sleep" => sleep(size, base),
        kind => read_follower(kind, size, base),
    }
}

fn ready() {
    println!("ready");
    std::io::stdout().flush().unwrap();
}

/// Adds the age of a record. Returns true for the last one.
fn receive(latencies: &mut Latencies, record: &[u8], now: u64) -> bool {
    let [time, left] = to_words(record);
    latencies.add(now.saturating_sub(time));
    left == 0
}

fn read_clock(count: u64) {
    ready();
    let mut latencies = Latencies::default();
    let mut due = now_ns() + PACE_NS;
    for _ in 0..count {
        let mut now = now_ns();
        while now < due {
            now = now_ns();
        }
        latencies.add(now - due);
        // A process that is stalled is late for everything that was due meanwhile, as with records.
        due += PACE_NS;
    }
    latencies.print();
}

fn answer(path: &Path) {
    let file = file::open_write(path).unwrap();
    let line = Map::writable(&file, path, 4096).unwrap();
    ready();
    let mut turn = 0;
    while turn != u64::MAX {
        let next = line.u64_at(0).load(Ordering::Acquire);
        if next != turn {
            line.u64_at(128).store(next, Ordering::Release);
            turn = next;
        }
    }
}

fn read_pipe(size: usize) {
    let mut input = std::io::stdin().lock();
    let (mut bytes, mut have) = (vec![0; 1 << 16], 0);
    let mut latencies = Latencies::default();
    ready();
    loop {
        let n = input.read(&mut bytes[have..]).unwrap();
        have += n;
        let whole = have / size * size;
        let mut last = n == 0;
        for record in bytes[..whole].chunks_exact(size) {
            last |= receive(&mut latencies, record, now_ns());
        }
        if last {
            return latencies.print();
        }
        bytes.copy_within(whole..have, 0);
        have -= whole;
    }
}

fn read_ringfire<const WORDS: usize>(path: &Path) {
    let mut ring = RingConsumer::<[u64; WORDS]>::builder().start_from_head().attach(path).unwrap();
    let mut latencies = Latencies::default();
    ready();
    loop {
        let Some(record) = ring.try_recv() else { continue };
        let now = now_ns();
        latencies.add(now.saturating_sub(record[0]));
        if record[1] == 0 {
            return latencies.print();
        }
    }
}

fn read_ring(size: usize, base: &Path) {
    let feed = Platform::open(base).unwrap().feed_info(&feed_name("ring", size)).unwrap();
    let registry = FeedRegistry::open(&feed.registry_path(), &feed.id, false).unwrap();
    let Found::Ring(ring) = ring::find(&feed, &registry, false).unwrap() else { panic!("no ring") };
    ring.map_in();
    let end = ring.held().unwrap().1;
    let mut cursor = Cursor::new(Arc::from(ring), end);
    let mut latencies = Latencies::default();
    let mut bytes = vec![0; 256 * size];
    ready();
    loop {
        let copied = cursor.copy(u64::MAX, &mut bytes).unwrap();
        let Copied::Records { count, .. } = copied else { continue };
        // All records of the copy have arrived by now.
        let now = now_ns();
        for record in bytes[..count * size].chunks_exact(size) {
            if receive(&mut latencies, record, now) {
                return latencies.print();
            }
        }
    }
}

fn follower(kind: &str, size: usize, base: &Path) -> Follower {
    let reader = Platform::open(base).unwrap().create_reader(&feed_name(kind, size)).unwrap();
    let end = reader.snapshot().unwrap().end_seq;
    reader.follow(Selection { seqs: (end, u64::MAX), ..Selection::ALL }).unwrap()
}

fn read_follower(kind: &str, size: usize, base: &Path) {
    let mut follower = [follower(kind, size, base)];
    let mut latencies = Latencies::default();
    ready();
    loop {
        match follower[0].next_event().unwrap() {
            Event::Records(run) => {
                for record in run.records.chunks_exact(size) {
                    if receive(&mut latencies, record, now_ns()) {
                        return latencies.print();
                    }
                }
            }
            Event::CaughtUp => {
                let longest = Duration::from_millis(100);
                Follower::wait_any(&mut follower, longest, Waiting::Spin).unwrap();
            }
            _ => {}
        }
    }
}

/// Follows the feed, sleeping until it is woken, until it is killed.
fn sleep(size: usize, path: &Path) {
    let kind = path.file_name().unwrap().to_str().unwrap();
    let mut follower = follower(kind, size, path.parent().unwrap());
    ready();
    loop {
        if matches!(follower.next_event().unwrap(), Event::CaughtUp) {
            follower.wait().unwrap();
        }
    }
}
