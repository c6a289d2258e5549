//! Compiles a row of text into a list of operations, each "copy these bytes, then format that
//! field".
//!
//! The bytes between two values (delimiters, keys, quotes) are joined at compile time. Rows are
//! written into a slab with room for the widest row, so no field allocates, grows a buffer or calls
//! through a pointer. Each value costs a jump and a few stores.

use std::slice::ChunksExact;

use jiff::tz::TimeZone;

use super::encode::{EncodeOptions, TimeStyle};
use super::escape::{CHAR_WIDTH, CharTable, HEX_DIGITS, Style, put_plain, put_text, text_width};
use super::format::{self, Clock, LEAD, WINDOW, Window, put, put_i64, put_slice, put_u64};
use crate::layout::Layout;
use crate::schema::FieldType;

/// How many bytes of output are prepared at once. They must stay in the L1 cache.
const SLAB: usize = 16 * 1024;
/// How many bytes an operation copies at most; a longer text takes several operations.
const KEY: usize = 24;

/// What an operation formats.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Seq,
    Char,
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float32,
    Float64,
    Decimal64(u8),
    Time,
    Bytes(usize),
    String(usize),
    /// No value: the operation only copies its bytes.
    Nothing,
}

/// Copies `key`, then formats the field at `offset`.
#[derive(Clone, Copy, Debug)]
struct Op {
    key: [u8; KEY],
    key_len: u8,
    offset: u16,
    kind: Kind,
}

/// The operations of a row and the state they need.
#[derive(Clone, Debug)]
pub(super) struct Program {
    ops: Vec<Op>,
    /// Fixed bytes that come before the next value.
    pending: Vec<u8>,
    /// Upper bound for the bytes of a row, including the slack behind the last value.
    width: usize,
    style: Style,
    chars: CharTable,
    /// Whether times are written as text.
    time_text: bool,
    clock: Clock,
}

impl Program {
    pub fn new(layout: &Layout, options: &EncodeOptions, style: Style) -> Program {
        let (time_text, zone) = match &options.time {
            TimeStyle::Raw => (false, &TimeZone::UTC),
            TimeStyle::Rfc3339(zone) => (true, zone),
        };
        Program {
            ops: Vec::new(),
            pending: Vec::new(),
            width: WINDOW,
            style,
            chars: CharTable::new(style),
            time_text,
            clock: Clock::new(layout.unit(), zone),
        }
    }

    /// Whether the field at `position` is written as a time in text.
    pub fn shows_time(&self, layout: &Layout, position: usize) -> bool {
        self.time_text && layout.is_time(position)
    }

    /// Adds bytes that are the same in every row.
    pub fn text(&mut self, text: &[u8]) {
        self.pending.extend_from_slice(text);
    }

    /// Adds the record's seq.
    pub fn seq(&mut self) {
        self.push(Kind::Seq, 0, format::INT_WIDTH);
    }

    /// Adds the value of the field at `position`.
    pub fn field(&mut self, layout: &Layout, position: usize) {
        let field = &layout.fields()[position];
        let (kind, width) = match field.kind {
            _ if self.shows_time(layout, position) => (Kind::Time, format::TIME_WIDTH),
            FieldType::Char => (Kind::Char, CHAR_WIDTH),
            FieldType::Bool => (Kind::Bool, 5),
            FieldType::Int8 => (Kind::Int8, format::INT_WIDTH),
            FieldType::Int16 => (Kind::Int16, format::INT_WIDTH),
            FieldType::Int32 => (Kind::Int32, format::INT_WIDTH),
            FieldType::Int64 => (Kind::Int64, format::INT_WIDTH),
            FieldType::Uint8 => (Kind::Uint8, format::INT_WIDTH),
            FieldType::Uint16 => (Kind::Uint16, format::INT_WIDTH),
            FieldType::Uint32 => (Kind::Uint32, format::INT_WIDTH),
            FieldType::Uint64 | FieldType::Timestamp => (Kind::Uint64, format::INT_WIDTH),
            FieldType::Float32 => (Kind::Float32, format::FLOAT_WIDTH),
            FieldType::Float64 => (Kind::Float64, format::FLOAT_WIDTH),
            FieldType::Decimal64(scale) => (Kind::Decimal64(scale), format::DECIMAL_WIDTH),
            FieldType::Bytes(_) => (Kind::Bytes(field.size()), 2 * field.size()),
            FieldType::String(_) => (Kind::String(field.size()), text_width(field.size())),
            // A layout keeps padding apart from its fields, so this is never reached.
            FieldType::Pad(_) => (Kind::Nothing, 0),
        };
        self.push(kind, field.offset, width);
    }

    /// Ends the row. Pending bytes become its last operation.
    pub fn end(&mut self) {
        if !self.pending.is_empty() {
            self.push(Kind::Nothing, 0, 0);
        }
    }

    fn push(&mut self, kind: Kind, offset: usize, width: usize) {
        self.width += self.pending.len() + width;
        let pending = std::mem::take(&mut self.pending);
        let (whole, rest) = match pending.len() {
            0..=KEY => (&[][..], &pending[..]),
            len => pending.split_at((len - 1) / KEY * KEY),
        };
        let mut op = |text: &[u8], offset, kind| {
            let mut key = [0; KEY];
            key[..text.len()].copy_from_slice(text);
            self.ops.push(Op { key, key_len: text.len() as u8, offset: offset as u16, kind });
        };
        for text in whole.chunks(KEY) {
            op(text, 0, Kind::Nothing);
        }
        op(rest, offset, kind);
    }

    /// Appends a row for each record. `seq` is the seq of the first record.
    pub fn records(&mut self, records: ChunksExact<'_, u8>, mut seq: u64, out: &mut Vec<u8>) {
        let mut at = out.len();
        let mut left = records.len();
        for record in records {
            if out.len() - at < self.width {
                let rows = (SLAB / self.width).clamp(1, left);
                out.resize(at + rows * self.width, 0);
            }
            at = self.row(record, seq, out, at);
            seq = seq.wrapping_add(1);
            left -= 1;
        }
        out.truncate(at);
    }

    /// Writes the row of `record` at `at` and returns the offset after it.
    #[inline(always)]
    fn row(&mut self, record: &[u8], seq: u64, slab: &mut [u8], mut at: usize) -> usize {
        let json = self.style == Style::Json;
        for op in &self.ops {
            let window = format::window(slab, at);
            put(window, 0, &op.key);
            // The mask does not change the value. It bounds the index, so the compiler can drop
            // bounds checks on the window.
            let key = usize::from(op.key_len) & LEAD;
            let offset = usize::from(op.offset);
            at += match op.kind {
                Kind::Nothing => key,
                Kind::Seq => put_seq(window, key, seq),
                Kind::Char => self.chars.put(window, key, record[offset]),
                Kind::Bool => put_bool(window, key, record[offset]),
                Kind::Uint8 => put_u64(window, key, record[offset].into()),
                Kind::Uint16 => {
                    put_u64(window, key, u16::from_le_bytes(load(record, offset)).into())
                }
                Kind::Uint32 => {
                    put_u64(window, key, u32::from_le_bytes(load(record, offset)).into())
                }
                Kind::Uint64 => put_u64(window, key, u64::from_le_bytes(load(record, offset))),
                Kind::Int8 => put_i64(window, key, i8::from_le_bytes(load(record, offset)).into()),
                Kind::Int16 => {
                    put_i64(window, key, i16::from_le_bytes(load(record, offset)).into())
                }
                Kind::Int32 => {
                    put_i64(window, key, i32::from_le_bytes(load(record, offset)).into())
                }
                Kind::Int64 => put_i64(window, key, i64::from_le_bytes(load(record, offset))),
                Kind::Float32 => {
                    format::put_f32(window, key, f32::from_le_bytes(load(record, offset)), json)
                }
                Kind::Float64 => {
                    format::put_f64(window, key, f64::from_le_bytes(load(record, offset)), json)
                }
                Kind::Decimal64(scale) => {
                    let value = i64::from_le_bytes(load(record, offset));
                    format::put_decimal(window, key, value, scale)
                }
                Kind::Time => self.clock.put(window, key, u64::from_le_bytes(load(record, offset))),
                Kind::Bytes(size) => put_hex(slab, at + key, &record[offset..offset + size]) - at,
                Kind::String(size) => {
                    let field = &record[offset..offset + size];
                    match put_plain(window, key, field, self.style) {
                        Some(end) => end,
                        None => put_text(slab, at + key, trimmed(field), self.style) - at,
                    }
                }
            };
        }
        at
    }
}

/// Writes a seq. Not inlined: the seq is the same for all operations of a row, so the compiler
/// would compute its digits before the loop, even for rows that do not show it.
#[inline(never)]
fn put_seq(window: &mut Window, at: usize, seq: u64) -> usize {
    put_u64(window, at, seq)
}

/// Returns `N` bytes of a record at `offset`.
#[inline(always)]
pub(super) fn load<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[offset..offset + N]);
    bytes
}

/// Returns a string field without its NUL padding.
#[inline(always)]
pub(super) fn trimmed(field: &[u8]) -> &[u8] {
    &field[..memchr::memchr(0, field).unwrap_or(field.len())]
}

#[inline(always)]
fn put_bool(window: &mut Window, at: usize, byte: u8) -> usize {
    put(window, at, if byte == 0 { b"false" } else { b"true " });
    at + if byte == 0 { 5 } else { 4 }
}

fn put_hex(slab: &mut [u8], mut at: usize, bytes: &[u8]) -> usize {
    for &byte in bytes {
        let digits = [byte >> 4, byte & 15].map(|digit| HEX_DIGITS[usize::from(digit)]);
        at = put_slice(slab, at, &digits);
    }
    at
}
