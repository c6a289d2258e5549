//! Rejected rows: where, why, and the row itself.

use std::borrow::Cow;
use std::fmt;

use crate::schema::FieldType;

/// How many bytes of a rejected row are kept.
pub const REJECT_TEXT_BYTES: usize = 64 * 1024;
/// How many bytes of a value a reason shows.
const SHOWN_BYTES: usize = 80;

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The line where the row begins (raw: the record), from 1.
    pub line: u64,
    /// The byte in that line (raw: in the record) where the fault is, from 1.
    pub column: u64,
    /// The reason; it names the field if a single value is wrong.
    pub reason: String,
    /// The first 64 KiB of the row's text, without its newline (raw: of the record).
    pub text: Vec<u8>,
    /// How many records of the batch come before this row.
    pub after: usize,
}

impl Reject {
    pub(crate) fn new(line: u64, fault: Fault, row: &[u8], after: usize) -> Reject {
        Reject {
            line,
            column: fault.at as u64 + 1,
            reason: fault.reason,
            text: row[..row.len().min(REJECT_TEXT_BYTES)].to_vec(),
            after,
        }
    }
}

/// Returns a line without its `\n` or `\r\n`.
pub(crate) fn without_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A fault in a row, and its byte offset from 0.
#[derive(Debug)]
pub(crate) struct Fault {
    pub at: usize,
    pub reason: String,
}

impl Fault {
    pub(crate) fn new(at: usize, reason: impl Into<String>) -> Fault {
        Fault { at, reason: reason.into() }
    }

    /// Makes the fault of a field with an invalid value: `price: "abc" is not a number`.
    pub(crate) fn value(at: usize, name: &str, kind: FieldType, text: &[u8], why: &Why) -> Fault {
        let shown = shown(text);
        let reason = match why {
            Why::Empty => format!("{name}: an empty value; {kind} needs one"),
            Why::Not(what) => format!("{name}: {shown} is not {what}"),
            Why::Range => format!("{name}: {shown} does not fit {kind}"),
            Why::Finer(digits) => {
                format!("{name}: {shown} is finer than {kind} keeps ({digits} decimals)")
            }
            Why::Said(said) => format!("{name}: {shown} {said}"),
        };
        Fault { at, reason }
    }
}

/// Returns the beginning of a value, quoted and escaped.
pub(crate) fn shown(text: &[u8]) -> String {
    let cut = &text[..text.len().min(SHOWN_BYTES)];
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(cut))
}

/// Why a text is not a value of its field. It is made only for rows that are rejected, so it may
/// allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Empty, but the field needs a value.
    Empty,
    /// Of another form. The text names the form: `an integer`.
    Not(&'static str),
    /// Too large, too small or too long.
    Range,
    /// More decimals than the scale or the unit keeps.
    Finer(u8),
    /// Any other reason, as a predicate that follows the value.
    Said(Cow<'static, str>),
}

impl Why {
    pub(crate) fn said(text: impl Into<Cow<'static, str>>) -> Why {
        Why::Said(text.into())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Empty => f.write_str("is empty"),
            Why::Not(what) => write!(f, "is not {what}"),
            Why::Range => f.write_str("is out of range"),
            Why::Finer(digits) => write!(f, "has more than {digits} decimals"),
            Why::Said(said) => f.write_str(said),
        }
    }
}
