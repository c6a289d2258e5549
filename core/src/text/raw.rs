//! Checks raw records against the layout and takes the valid ones unchanged.

use std::ops::Range;

use super::input::{Batch, FULL_BYTES, InputOptions, Shared, only_json};
use super::reject::Fault;
use super::value::Kind;
use crate::error::{Error, Result};

/// The checks for one layout.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The bits of a record that must be zero: padding, and all but the lowest bit of a boolean.
    zeros: Vec<u8>,
    /// The nonzero words of `zeros`, as offset and mask. A record has at least eight bytes.
    words: Vec<(usize, u64)>,
    strings: Vec<Range<usize>>,
    size: usize,
}

impl Raw {
    pub(crate) fn new(shared: &Shared, options: &InputOptions) -> Result<Raw> {
        only_json(options)?;
        if !options.map.is_empty() || options.columns.is_some() || options.header.is_some() {
            return Err(Error::Spec(
                "map, columns, header and stamp are for text; raw records are complete".into(),
            ));
        }
        let layout = &shared.layout;
        let mut zeros = layout.zeroed();
        layout.padding().iter().for_each(|range| zeros[range.clone()].fill(0xff));
        let mut strings = Vec::new();
        for (op, field) in shared.ops.iter().zip(layout.fields()) {
            match op.kind {
                Kind::Bool => zeros[op.at] = 0xfe,
                Kind::Text(_) => strings.push(field.range()),
                _ => {}
            }
        }
        let words = mask_words(&zeros);
        Ok(Raw { zeros, words, strings, size: layout.record_size() })
    }

    /// Takes whole records of `input`. With `end`, an incomplete last record is rejected.
    pub(crate) fn rows(
        &mut self,
        shared: &mut Shared,
        input: &[u8],
        end: bool,
        batch: &mut Batch,
    ) -> usize {
        let mut at = 0;
        while !batch.full() {
            let room = FULL_BYTES.saturating_sub(batch.records.len()).div_ceil(self.size);
            let good = input[at..]
                .chunks_exact(self.size)
                .take(room)
                .take_while(|record| self.is_good(record))
                .count();
            if good > 0 {
                let run = &input[at..at + good * self.size];
                batch.rows(shared.line, batch.records.len(), self.size, good as u64);
                batch.records.extend_from_slice(run);
                shared.stats.fast += good as u64;
                shared.line += good as u64;
                at += run.len();
                continue;
            }
            let Some(record) = input.get(at..at + self.size) else { break };
            let fault = self.fault(shared, record);
            shared.reject(fault, record, batch);
            shared.stats.slow += 1;
            shared.line += 1;
            at += self.size;
        }
        let cut = &input[at..];
        if end && !cut.is_empty() && cut.len() < self.size && !batch.full() {
            let reason = format!("a cut record: {} of {} bytes", cut.len(), self.size);
            shared.reject(Fault::new(cut.len(), reason), cut, batch);
            shared.stats.slow += 1;
            shared.line += 1;
            at = input.len();
        }
        at
    }

    #[inline(always)]
    fn is_good(&self, record: &[u8]) -> bool {
        self.words.iter().all(|&(at, mask)| word(record, at) & mask == 0)
            && self.strings.iter().all(|range| is_padded_text(&record[range.clone()]))
    }

    fn fault(&self, shared: &Shared, record: &[u8]) -> Fault {
        let stray = record.iter().zip(&self.zeros).position(|(byte, zeros)| byte & zeros != 0);
        let string = self.strings.iter().find(|range| !is_padded_text(&record[(*range).clone()]));
        let at = stray.or(string.map(|range| range.start)).unwrap_or(0);
        let field = shared.layout.fields().iter().find(|field| field.range().contains(&at));
        let reason = match (field, stray) {
            (Some(field), Some(_)) => {
                format!("{}: byte {:#04x} is no bool; it is 0 or 1", field.name, record[at])
            }
            (Some(field), None) => {
                format!("{}: not UTF-8 padded with NUL", field.name)
            }
            (None, _) => format!("padding that is not zero ({:#04x})", record[at]),
        };
        Fault::new(at, reason)
    }
}

/// Returns the mask's nonzero words. The last one begins eight bytes before the end, so it may
/// overlap the one before.
fn mask_words(zeros: &[u8]) -> Vec<(usize, u64)> {
    let starts = (0..zeros.len()).step_by(8).map(|at| at.min(zeros.len() - 8));
    starts.map(|at| (at, word(zeros, at))).filter(|&(_, mask)| mask != 0).collect()
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Whether `bytes` are UTF-8 text followed only by NULs.
fn is_padded_text(bytes: &[u8]) -> bool {
    let length = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    let (text, padding) = bytes.split_at(length);
    padding.iter().all(|&b| b == 0) && std::str::from_utf8(text).is_ok()
}
