//! Runs of records, encoded and put out.

use deepwater::reader::Run;
use deepwater::text::encode::{Encoder, OutputFormat};

use crate::cli::out::{Error, Out};

/// So many bytes of records are encoded at a time: what they become stays in the cache until it is
/// written.
const SLICE_BYTES: usize = 16 << 10;

/// Encodes records and puts them out.
pub struct Emitter<'a> {
    encoder: Encoder,
    out: &'a mut Out,
    record_size: usize,
    raw: bool,
    reverse: bool,
}

impl<'a> Emitter<'a> {
    /// Begins: puts the header out. `count`: how many records will come, for formats that say so
    /// first.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(
        encoder: Encoder,
        format: OutputFormat,
        out: &'a mut Out,
        record_size: usize,
        reverse: bool,
        count: u64,
    ) -> Result<Emitter<'a>, Error> {
        encoder.head(out.buffer(), count);
        out.spill()?;
        let raw = format == OutputFormat::Raw;
        Ok(Emitter { encoder, out, record_size, raw, reverse })
    }

    /// Puts a run out, turned round in a reverse scan.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(&mut self, run: &Run<'_>) -> Result<(), Error> {
        if self.reverse {
            let n = run.records.len() / self.record_size;
            for i in (0..n).rev() {
                let record = &run.records[i * self.record_size..(i + 1) * self.record_size];
                self.encoder.records(record, run.first_seq + i as u64, self.out.buffer());
                self.out.spill()?;
            }
            return Ok(());
        }
        if self.raw {
            // Straight from where it was verified, without another copy.
            return self.out.write_raw(run.records);
        }
        let per_slice = (SLICE_BYTES / self.record_size).max(1);
        let mut seq = run.first_seq;
        for slice in run.records.chunks(per_slice * self.record_size) {
            self.encoder.records(slice, seq, self.out.buffer());
            self.out.spill()?;
            seq += per_slice as u64;
        }
        Ok(())
    }

    /// Ends: puts out what was held back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<(), Error> {
        self.encoder.tail(self.out.buffer());
        self.out.flush()
    }
}
