//! Shapes of JSON lines: what a line that the general reader understood has in common with the
//! lines after it. A shape is the line's own bytes with a slot in place of every value; a line
//! that matches is settled in one pass, straight into the record.
//!
//! A shape takes only what the general reader takes, with the same bytes: keys, structure and
//! the values that decided whether the message is meant are literal, and strings in slots have
//! no escapes, control characters or bytes beyond ASCII.

use super::json::{MOST_RECORD_BYTES, Notes};
use super::number::{fast_float, is_json_number, load8};
use super::tape::{Form, Node, token_end};
use super::timestamp::Times;
use super::value::{Kind, Op, Origin};

/// How many shapes are kept.
const SHAPES: usize = 8;
/// The longest line, and the most pieces, that a shape is made of.
const LINE_BYTES: usize = 64 * 1024;
const PIECES: usize = 512;

/// What a line that matched was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Record,
    Elements,
    PassedOver,
}

/// Bytes that a line has in common with the one the shape was made of.
#[derive(Debug, PartialEq)]
struct Literal {
    bytes: Box<[u8]>,
    /// Up to 16 of them, and which bits of 16 bytes they are.
    word: u128,
    mask: u128,
}

impl Literal {
    fn new(bytes: &[u8]) -> Literal {
        let (mut word, mut mask) = ([0; 16], [0; 16]);
        for (i, &byte) in bytes.iter().take(16).enumerate() {
            (word[i], mask[i]) = (byte, 0xff);
        }
        Literal {
            bytes: bytes.into(),
            word: u128::from_le_bytes(word),
            mask: u128::from_le_bytes(mask),
        }
    }

    #[inline(always)]
    fn pass(&self, b: &[u8], at: usize) -> Option<usize> {
        let rest = b.get(at..)?;
        let matches = match rest.first_chunk::<16>() {
            Some(chunk) if self.bytes.len() <= 16 => {
                u128::from_le_bytes(*chunk) & self.mask == self.word
            }
            _ => rest.starts_with(&self.bytes),
        };
        matches.then_some(at + self.bytes.len())
    }
}

/// One piece of a shape: a literal, and what follows it.
#[derive(Debug, PartialEq)]
struct Piece {
    before: Literal,
    then: Then,
}

#[derive(Debug, PartialEq)]
enum Then {
    /// A string's inside, or a token, for a field.
    Text(Op),
    Token(Op),
    /// The last slot's value for one more field.
    Also(Op, Origins),
    /// A field whose value is among the literals.
    Fixed(usize, Box<[u8]>),
    SkipText,
    SkipToken,
    Nothing,
}

/// Whether a slot is within quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origins {
    Text,
    Token,
}

impl Piece {
    fn new(before: &[u8], then: Then) -> Piece {
        Piece { before: Literal::new(before), then }
    }
}

/// The form of one line.
#[derive(Debug, PartialEq)]
pub(crate) struct Shape {
    /// All of the line; or what comes before the first element of the exploded array.
    head: Vec<Piece>,
    elements: Option<Elements>,
    passed_over: bool,
}

#[derive(Debug, PartialEq)]
struct Elements {
    each: Vec<Piece>,
    between: Box<[u8]>,
    tail: Vec<Piece>,
    /// The message's fields in the record: every element's record has them.
    shared: Vec<(usize, usize)>,
}

impl Shape {
    /// The shape of a line that was accepted or passed over. `record`: its first record. `None`:
    /// it has none that would match another line.
    pub(crate) fn of(line: &[u8], nodes: &[Node], notes: &Notes, record: &[u8]) -> Option<Shape> {
        if line.len() > LINE_BYTES {
            return None;
        }
        let maker = Maker { line, nodes, notes, record };
        let array = match notes.array {
            Some(array) if !notes.passed_over => array,
            _ => {
                let head = maker.pieces(0..nodes.len(), 0, line.len())?;
                return Some(Shape { head, elements: None, passed_over: notes.passed_over });
            }
        };
        let (first, after) = (array + 1, nodes[array].next());
        if first == after {
            return None;
        }
        let second = nodes[first].next();
        let between: &[u8] = match nodes[..after].get(second) {
            Some(second) => &line[nodes[first].end()..second.start()],
            None => b",",
        };
        let mut last_end = nodes[first].end();
        let mut at = first;
        while at < after {
            last_end = nodes[at].end();
            at = nodes[at].next();
        }
        let of_message = notes.uses.iter().filter(|u| !u.relative);
        let elements = Elements {
            each: maker.pieces(first..second, nodes[first].start(), nodes[first].end())?,
            between: between.into(),
            tail: maker.pieces(after..nodes.len(), last_end, line.len())?,
            shared: of_message.map(|u| (u.op.at, u.op.at + u.op.size())).collect(),
        };
        let head = maker.pieces(0..first, 0, nodes[first].start())?;
        Some(Shape { head, elements: Some(elements), passed_over: false })
    }

    /// Matches the line at `at`; its records go to the end of `records`, with `message` for the
    /// fields of the message.
    #[inline(always)]
    fn take(
        &self,
        b: &[u8],
        at: usize,
        blank: &[u8],
        times: &mut Times,
        records: &mut Vec<u8>,
        message: &mut Vec<u8>,
    ) -> Option<(usize, Outcome)> {
        let start = records.len();
        let (at, outcome) = match &self.elements {
            None if self.passed_over => {
                (pass(&self.head, b, at, times, &mut [])?, Outcome::PassedOver)
            }
            None => {
                records.extend_from_slice(blank);
                (pass(&self.head, b, at, times, &mut records[start..])?, Outcome::Record)
            }
            Some(elements) => {
                message.clear();
                message.extend_from_slice(blank);
                let begin = at;
                let mut at = pass(&self.head, b, at, times, message)?;
                loop {
                    let before = records.len();
                    if at - begin > ELEMENTS_BYTES
                        || before - start > MOST_RECORD_BYTES - blank.len()
                    {
                        return None;
                    }
                    records.extend_from_slice(blank);
                    at = pass(&elements.each, b, at, times, &mut records[before..])?;
                    if !b.get(at..)?.starts_with(&elements.between) {
                        break;
                    }
                    at += elements.between.len();
                }
                let at = pass(&elements.tail, b, at, times, message)?;
                for record in records[start..].chunks_exact_mut(blank.len()) {
                    for &(from, to) in &elements.shared {
                        record[from..to].copy_from_slice(&message[from..to]);
                    }
                }
                (at, Outcome::Elements)
            }
        };
        match b.get(at..)? {
            [b'\n', ..] => Some((at + 1, outcome)),
            [b'\r', b'\n', ..] => Some((at + 2, outcome)),
            _ => None,
        }
    }
}

/// An exploded line that is longer is left to the general reader, which counts its values: a
/// shorter one cannot have too many.
const ELEMENTS_BYTES: usize = 2 << 20;

/// The shapes of one input, the last used first.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    list: Vec<Shape>,
    message: Vec<u8>,
}

impl Shapes {
    /// Settles the line at `at` and returns where the next begins; `None`: no shape matches.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        b: &[u8],
        at: usize,
        blank: &[u8],
        times: &mut Times,
        records: &mut Vec<u8>,
    ) -> Option<(usize, Outcome)> {
        let start = records.len();
        for i in 0..self.list.len() {
            let taken = self.list[i].take(b, at, blank, times, records, &mut self.message);
            if taken.is_some() {
                if i > 0 {
                    self.list[..=i].rotate_right(1);
                }
                return taken;
            }
            records.truncate(start);
        }
        None
    }

    pub(crate) fn learn(&mut self, shape: Option<Shape>) {
        let Some(shape) = shape else { return };
        if self.list.contains(&shape) {
            return;
        }
        self.list.truncate(SHAPES - 1);
        self.list.insert(0, shape);
    }
}

/// Makes pieces of parts of a line.
struct Maker<'a> {
    line: &'a [u8],
    nodes: &'a [Node],
    notes: &'a Notes,
    record: &'a [u8],
}

impl Maker<'_> {
    /// A field whose value every line of the shape has.
    fn fixed(&self, op: Op) -> Piece {
        let bytes = self.record[op.at..op.at + op.size()].into();
        Piece::new(&[], Then::Fixed(op.at, bytes))
    }

    /// The pieces of the bytes from `cursor` to `end`, whose values are `nodes`.
    fn pieces(
        &self,
        nodes: std::ops::Range<usize>,
        mut cursor: usize,
        end: usize,
    ) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        for n in nodes {
            let node = &self.nodes[n];
            let quoted = node.form == Form::String;
            let (from, to) = if quoted {
                (node.start() + 1, node.end() - 1)
            } else {
                (node.start(), node.end())
            };
            let mut ops = self.notes.uses.iter().filter(|u| u.node == n).map(|u| u.op);
            if self.notes.decisive.contains(&n) {
                pieces.extend(ops.map(|op| self.fixed(op)));
                continue;
            }
            if matches!(node.form, Form::Object | Form::Array) {
                continue;
            }
            let then = match (ops.next(), quoted) {
                (Some(op), true) => Then::Text(op),
                (Some(op), false) => Then::Token(op),
                (None, true) => Then::SkipText,
                (None, false) => Then::SkipToken,
            };
            pieces.push(Piece::new(&self.line[cursor..from], then));
            cursor = to;
            let origin = if quoted { Origins::Text } else { Origins::Token };
            pieces.extend(ops.map(|op| Piece::new(&[], Then::Also(op, origin))));
            if pieces.len() > PIECES {
                return None;
            }
        }
        pieces.push(Piece::new(&self.line[cursor..end], Then::Nothing));
        Some(pieces)
    }
}

/// Matches pieces from `at` on and returns where they end.
#[inline(never)]
fn pass(
    pieces: &[Piece],
    b: &[u8],
    mut at: usize,
    times: &mut Times,
    record: &mut [u8],
) -> Option<usize> {
    let mut slot = at;
    for piece in pieces {
        at = piece.before.pass(b, at)?;
        match &piece.then {
            Then::Token(op) => {
                slot = at;
                at = token(*op, b, at, times, record)?;
            }
            Then::Text(op) => {
                slot = at;
                at = text(*op, b, at, times, record)?;
            }
            Then::SkipText => at = plain_text_end(b, at)?,
            Then::SkipToken => at = skip_token(b, at)?,
            Then::Also(op, Origins::Text) => {
                op.text(&b[slot..at], Origin::Json, times, record).ok()?;
            }
            Then::Also(op, Origins::Token) => op.token(&b[slot..at], times, record).ok()?,
            Then::Fixed(from, bytes) => {
                record.get_mut(*from..from + bytes.len())?.copy_from_slice(bytes);
            }
            Then::Nothing => {}
        }
    }
    Some(at)
}

#[inline(always)]
fn token(op: Op, b: &[u8], at: usize, times: &mut Times, record: &mut [u8]) -> Option<usize> {
    let ends = |end: usize| matches!(b.get(end), Some(b',' | b'}' | b']'));
    if let Some(end) = op.number::<true>(b, at, times, record, ends) {
        return end;
    }
    let end = token_end(b, at);
    op.token(b.get(at..end)?, times, record).ok()?;
    Some(end)
}

#[inline(always)]
fn text(op: Op, b: &[u8], at: usize, times: &mut Times, record: &mut [u8]) -> Option<usize> {
    if op.kind == Kind::Char
        && let Some(&[c, b'"']) = b.get(at..).and_then(|rest| rest.first_chunk::<2>())
        && (b' '..0x7f).contains(&c)
        && c != b'\\'
        && c != b'"'
    {
        op.put_u8(record, c);
        return Some(at + 1);
    }
    let ends = |end: usize| b.get(end) == Some(&b'"');
    if let Some(end) = op.number::<false>(b, at, times, record, ends) {
        return end;
    }
    let end = plain_text_end(b, at)?;
    op.text(&b[at..end], Origin::Json, times, record).ok()?;
    Some(end)
}

/// Where a string whose inside begins at `at` has its closing quote; `None`: it has escapes,
/// control characters or bytes beyond ASCII.
#[inline(always)]
fn plain_text_end(b: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Of each mask only the lowest byte found counts: those above it may be carries.
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    while let Some(x) = load8(b, at) {
        let control = x.wrapping_sub(ONES * 0x20) & !x;
        let quote = zero(x ^ (ONES * u64::from(b'"')));
        let escape = zero(x ^ (ONES * u64::from(b'\\')));
        let found = (control | quote | escape | x) & HIGHS;
        if found != 0 {
            at += (found.trailing_zeros() / 8) as usize;
            return (b.get(at) == Some(&b'"')).then_some(at);
        }
        at += 8;
    }
    let odd = |&c: &u8| c == b'"' || c == b'\\' || !(b' '..0x80).contains(&c);
    at += b.get(at..)?.iter().position(odd)?;
    (b.get(at) == Some(&b'"')).then_some(at)
}

#[inline(always)]
fn skip_token(b: &[u8], at: usize) -> Option<usize> {
    if let Some((_, end)) = fast_float::<true>(b, at)
        && matches!(b.get(end), Some(b',' | b'}' | b']'))
    {
        return Some(end);
    }
    let end = token_end(b, at);
    let token = b.get(at..end)?;
    let good = matches!(token, b"true" | b"false" | b"null") || is_json_number(token);
    good.then_some(end)
}
