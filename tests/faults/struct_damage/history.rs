//! Stores to be damaged: written in several sessions, collected, repaired, cut off, and what their
//! files were at each moment before.

use std::path::Path;

use deepwater::Platform;
use deepwater::os::faults::pretend_boot;
use deepwater::schema::{FeedSpec, Sync};
use deepwater::writer::{SessionEnd, Writer, WriterOptions};

use super::image::{FEED, Image, Place};
use super::model::Model;
use super::steps::{self, Step};
use crate::random::Random;

/// A store and its past.
pub struct History {
    /// As it is.
    pub image: Image,
    /// As it was, oldest first.
    pub older: Vec<Image>,
    /// What was written.
    pub model: Model,
    /// The boot that it was left in.
    pub boot: u32,
    /// What was done, for people.
    pub story: String,
}

/// The id of a boot; as text it is what `$DEEPWATER_BOOT_ID` may be.
pub fn boot_name(boot: u32) -> String {
    format!("damage-boot-{boot:04}")
}

/// Goes on in that boot.
pub fn enter(boot: u32) {
    pretend_boot(Some(boot_name(boot).into_bytes().try_into().unwrap()));
}

struct Maker<'a> {
    random: Random,
    folder: &'a Path,
    place: Place,
    places: u32,
    history: History,
    chunk_records: u64,
    marks: bool,
}

/// Makes a store in a folder of the test's; the same for the same seed.
pub fn make(seed: u64, folder: &Path) -> History {
    let mut random = Random::new(seed);
    let size = *random.pick(&[200, 1024, 1024, 4096]);
    let blocks = 1 + random.below(3);
    let chunk = blocks * 65_536;
    let staged = random.below(3) == 0;
    let kept = (random.below(2) == 0).then(|| 2 + random.below(5));
    let limit = kept.map(|n| format!(r#""max_size_bytes":{},"#, n * (chunk + 8192)));
    let spec = format!(
        r#"{{"feed_name":"{FEED}","ts_col":"ts","chunk_size_bytes":{chunk},{}"stage":"{}","fields":[
        {{"name":"ts","type":"timestamp"}},{{"name":"n","type":"uint64"}},
        {{"name":"b","type":"bytes{}"}}]}}"#,
        limit.unwrap_or_default(),
        if staged { "shm" } else { "disk" },
        size - 16
    );
    enter(1);
    let base = folder.join("history-0");
    let platform = Platform::create(&base).unwrap();
    platform.create_feed(&FeedSpec::from_json(&spec).unwrap(), false).unwrap();
    let place = Place::new(base, platform.store_id());
    let marks = random.below(2) == 0;
    let story =
        format!("records of {size}, chunks of {blocks} blocks, staged {staged}, {kept:?}: ");
    let history = History {
        image: Image::default(),
        older: Vec::new(),
        model: Model::new(size, seed),
        boot: 1,
        story,
    };
    let chunk_records = blocks * (65_536 / size as u64);
    let mut maker = Maker { random, folder, place, places: 0, history, chunk_records, marks };
    let events = 2 + maker.random.below(4);
    for _ in 0..events {
        maker.event();
    }
    maker.end();
    pretend_boot(None);
    let mut history = maker.history;
    history.model.freeze();
    history
}

impl Maker<'_> {
    fn open(&self) -> Writer {
        let platform = Platform::open(&self.place.base).unwrap();
        let options = WriterOptions { sync: Some(Sync::None), ..WriterOptions::default() };
        platform.create_writer_with(FEED, options).unwrap()
    }

    fn append(&mut self, writer: &mut Writer, count: u64) {
        let bytes = self.history.model.write(Some(writer.next_seq()), count);
        let marks: &[usize] = if self.marks { &[0] } else { &[] };
        writer.append_marked(&bytes, marks).unwrap();
    }

    /// Some batches of a session.
    fn batches(&mut self, writer: &mut Writer) {
        let most = self.chunk_records * 3;
        let mut left = 1 + self.random.below(most);
        while left > 0 {
            let count = (1 + self.random.below(self.chunk_records)).min(left);
            self.append(writer, count);
            left -= count;
            if self.random.below(4) == 0 {
                writer.sync_now().unwrap();
            }
        }
    }

    /// A session, and what may come after it.
    fn event(&mut self) {
        let mut writer = self.open();
        self.batches(&mut writer);
        if self.random.below(6) == 0 {
            self.power_loss(writer);
        } else {
            writer.close(SessionEnd::Ended).unwrap();
        }
        self.history.story += "session, ";
        if self.random.below(2) == 0 {
            let told = steps::run(Step::Collect, &self.place, &mut self.history.model);
            assert!(told.clean, "{}", told.said);
            for (_, seqs) in &told.collected {
                mark_collected(&mut self.history.model, *seqs);
            }
            self.history.story += "collected, ";
        }
        if self.random.below(4) == 0 {
            self.repair();
        }
        self.history.older.push(Image::take(&self.place));
    }

    /// A bit of a chunk is turned, and the feed repaired.
    fn repair(&mut self) {
        let mut image = Image::take(&self.place);
        let names = image.files.keys().filter(|name| name.ends_with(".data"));
        let names: Vec<String> = names.cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = self.random.pick(&names).clone();
        let bytes = image.files.get_mut(&name).unwrap();
        if bytes.is_empty() {
            return;
        }
        let at = self.random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 4;
        std::fs::write(self.place.path(&name), &*bytes).unwrap();
        let told = steps::run(Step::Repair, &self.place, &mut self.history.model);
        assert!(told.done, "{}", told.said);
        self.history.story += "repaired, ";
    }

    /// The machine stops under the writer, and runs again: what is in shared memory is gone.
    fn power_loss(&mut self, mut writer: Writer) {
        writer.sync_now().unwrap();
        let count = 1 + self.random.below(self.chunk_records);
        self.append(&mut writer, count);
        let mut image = Image::take_at_rest(&self.place);
        drop(writer);
        image.files.retain(|name, _| !name.starts_with("shm/"));
        self.places += 1;
        self.place = image.put(self.folder.join(format!("history-{}", self.places)));
        self.history.boot += 1;
        enter(self.history.boot);
        self.history.story += "power loss, ";
    }

    /// How the store is left: closed, or under a writer that was killed.
    fn end(&mut self) {
        if self.random.below(2) == 0 {
            self.history.image = Image::take(&self.place);
            self.history.story += "closed";
            return;
        }
        let mut writer = self.open();
        self.batches(&mut writer);
        writer.sync_now().unwrap();
        self.history.older.push(Image::take_at_rest(&self.place));
        let durable = writer.next_seq();
        let count = 1 + self.random.below(self.chunk_records * 3 / 2);
        self.append(&mut writer, count);
        let model = &mut self.history.model;
        for id in model.len() - count as usize..model.len() {
            model.tail.insert(id);
        }
        self.history.image = Image::take_at_rest(&self.place);
        self.history.story += &format!("open, durable below {durable}, {}", writer.next_seq());
        drop(writer);
    }
}

/// Notes those seqs as collected.
pub fn mark_collected(model: &mut Model, (lo, hi): (u64, u64)) {
    for id in 0..model.len() {
        if model.seq(id).is_some_and(|seq| lo <= seq && seq < hi) {
            model.collected.insert(id);
        }
    }
}
