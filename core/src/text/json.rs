//! JSON lines into records: a general reader that understands any line, and shapes learned from
//! it that match later lines of the same form in one pass.

use super::input::{Batch, InputOptions, Shared};
use super::mapping::{self, Pointer, Source};
use super::reject::{Fault, Why, without_newline};
use super::shape::{Outcome, Shape, Shapes};
use super::tape::{Form, Tape, unescaped};
use super::value::{Op, Origin};
use crate::error::{Error, Result};

/// The records of one exploded line have at most so many bytes.
pub(crate) const MOST_RECORD_BYTES: usize = 64 << 20;

/// Where a field's value is found.
#[derive(Debug)]
enum Place {
    /// Nowhere: the arrival time.
    Stamped,
    /// Under the field's own name, or at that position of an array row.
    Own { name: String, position: Option<usize> },
    /// At that position of an array row.
    Position(usize),
    /// Where the pointer says.
    At(Pointer),
}

/// A message that is meant: the pointer exists, or has that value.
#[derive(Debug)]
struct Condition {
    path: Vec<String>,
    value: Option<String>,
}

/// What a value in the first record of a line is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub node: usize,
    pub op: Op,
    /// Within the exploded element.
    pub relative: bool,
}

/// What became of a line, as far as a shape needs to know.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub uses: Vec<Use>,
    /// Values that decided whether the message is meant.
    pub decisive: Vec<usize>,
    /// The exploded array.
    pub array: Option<usize>,
    pub passed_over: bool,
}

/// The parser of one input.
#[derive(Debug)]
pub(crate) struct Json {
    places: Vec<Place>,
    conditions: Vec<Condition>,
    explode: Option<Vec<String>>,
    /// How many elements an array row has; none: column numbers say which are meant.
    width: Option<usize>,
    /// A pointer of the message leads into the exploded array: no two lines are alike.
    shapeless: bool,
    shapes: Shapes,
    tape: Tape,
    notes: Notes,
}

impl Json {
    pub(crate) fn new(shared: &Shared, options: &InputOptions) -> Result<Json> {
        if options.header.is_some() {
            return Err(Error::Spec("a header is for CSV and TSV; JSON names its values".into()));
        }
        let names = options.columns.as_deref();
        let order = mapping::in_order(&shared.sources);
        let numbered = shared.sources.iter().any(|s| matches!(s, Some(Source::Column(_))));
        let mut places = Vec::new();
        for (f, field) in shared.layout.fields().iter().enumerate() {
            let column = |name: &str| names?.iter().position(|n| n.as_deref() == Some(name));
            places.push(match &shared.sources[f] {
                Some(Source::Stamp) => Place::Stamped,
                Some(Source::Column(n)) => Place::Position(n - 1),
                Some(Source::Header(name)) => {
                    Place::Own { name: name.clone(), position: column(name) }
                }
                Some(Source::Pointer(text)) => Place::At(Pointer::parse(text)?),
                None => Place::Own {
                    name: field.name.clone(),
                    position: match names {
                        Some(_) => column(&field.name),
                        None if numbered => None,
                        None => order.iter().position(|&o| o == f),
                    },
                },
            });
        }
        let explode = match &options.explode {
            None => None,
            Some(text) => match Pointer::parse(text)? {
                Pointer { relative: false, keys } => Some(keys),
                _ => return Err(Error::Spec(format!("explode {text:?}: there is no element yet"))),
            },
        };
        let mut conditions = Vec::new();
        for (text, value) in &options.where_ {
            let pointer = Pointer::parse(text)?;
            if pointer.relative {
                return Err(Error::Spec(format!(
                    "where {text:?}: messages are chosen, not elements"
                )));
            }
            conditions.push(Condition { path: pointer.keys, value: value.clone() });
        }
        let width = match names {
            Some(names) => Some(names.len()),
            None if numbered => None,
            None => Some(order.len()),
        };
        let mut json = Json {
            places,
            conditions,
            explode,
            width,
            shapeless: false,
            shapes: Shapes::default(),
            tape: Tape::default(),
            notes: Notes::default(),
        };
        json.check()?;
        Ok(json)
    }

    /// Relative pointers need something to explode; pointers into the array forbid shapes.
    fn check(&mut self) -> Result<()> {
        let pointers = || {
            self.places.iter().filter_map(|place| match place {
                Place::At(pointer) => Some(pointer),
                _ => None,
            })
        };
        let Some(array) = &self.explode else {
            return match pointers().find(|p| p.relative) {
                Some(p) => Err(Error::Spec(format!(
                    "a pointer into an element (./{}), and nothing is exploded",
                    p.keys.join("/")
                ))),
                None => Ok(()),
            };
        };
        let inside = |keys: &[String]| keys.starts_with(array);
        self.shapeless = pointers().any(|p| !p.relative && inside(&p.keys))
            || self.conditions.iter().any(|c| c.path.len() > array.len() && inside(&c.path));
        Ok(())
    }

    /// Takes the lines of `b`, which ends in a newline.
    pub(crate) fn rows(&mut self, shared: &mut Shared, b: &[u8], batch: &mut Batch) -> usize {
        let mut at = 0;
        while at < b.len() && !batch.full() {
            if shared.fast && !self.shapeless {
                let next = self.fast_rows(shared, b, at, batch);
                if next != at {
                    at = next;
                    continue;
                }
            }
            let length = memchr::memchr(b'\n', &b[at..]).map_or(b.len() - at, |n| n + 1);
            let line = without_newline(&b[at..at + length]);
            if !line.iter().all(|c| matches!(c, b' ' | b'\t' | b'\r')) {
                self.general_row(shared, line, batch);
                shared.stats.slow += 1;
            }
            shared.line += 1;
            at += length;
        }
        at
    }

    /// Takes lines as long as a shape matches them, and returns where the first other begins.
    fn fast_rows(
        &mut self,
        shared: &mut Shared,
        b: &[u8],
        mut at: usize,
        batch: &mut Batch,
    ) -> usize {
        let size = shared.blank.len();
        while at < b.len() && !batch.full() {
            let start = batch.records.len();
            let Some((next, outcome)) =
                self.shapes.take(b, at, &shared.blank, &mut shared.times, &mut batch.records)
            else {
                break;
            };
            match outcome {
                Outcome::Record => batch.row(shared.line, start, size),
                Outcome::Elements => batch.message(shared.line, start, size),
                Outcome::PassedOver => {
                    batch.passed_over += 1;
                    shared.stats.passed_over += 1;
                }
            }
            shared.line += 1;
            shared.stats.fast += 1;
            at = next;
        }
        at
    }

    fn general_row(&mut self, shared: &mut Shared, line: &[u8], batch: &mut Batch) {
        let start = batch.records.len();
        match self.understand(shared, line, &mut batch.records) {
            Ok(()) => {
                if self.notes.passed_over {
                    batch.passed_over += 1;
                    shared.stats.passed_over += 1;
                } else if batch.records.len() > start {
                    batch.message(shared.line, start, shared.blank.len());
                }
                if shared.fast && !self.shapeless {
                    let record = &batch.records[start..];
                    self.shapes.learn(Shape::of(line, &self.tape.nodes, &self.notes, record));
                }
            }
            Err(fault) => {
                batch.records.truncate(start);
                shared.reject(fault, line, batch);
            }
        }
    }

    /// Writes the records of one line, all or none, and notes how they were found.
    fn understand(
        &mut self,
        shared: &mut Shared,
        line: &[u8],
        records: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        self.notes.uses.clear();
        self.notes.decisive.clear();
        (self.notes.array, self.notes.passed_over) = (None, false);
        let text = self.tape.read(line)?;
        if !matches!(self.tape.nodes[0].form, Form::Object | Form::Array) {
            return Err(Fault::new(0, "a line is an object or an array"));
        }
        if !self.is_meant(text)? {
            self.notes.passed_over = true;
            return Ok(());
        }
        let Some(path) = &self.explode else {
            self.element(shared, text, None, true, records)?;
            return self.check_used(shared, text, None);
        };
        let array = self.tape.find(text, 0, path)?;
        let Some(array) = array.filter(|&a| self.tape.nodes[a].form == Form::Array) else {
            self.notes.passed_over = true;
            return Ok(());
        };
        self.notes.array = Some(array);
        let first = records.len();
        let mut element = array + 1;
        while element < self.tape.nodes[array].next() {
            if records.len() - first > MOST_RECORD_BYTES - shared.blank.len() {
                let at = self.tape.nodes[element].start();
                let what = "the records of this line take more than 64 MiB; split the line";
                return Err(Fault::new(at, what));
            }
            self.element(shared, text, Some(element), element == array + 1, records)?;
            self.check_used(shared, text, Some(element))?;
            element = self.tape.nodes[element].next();
        }
        self.check_used(shared, text, None)
    }

    fn is_meant(&mut self, text: &str) -> std::result::Result<bool, Fault> {
        let mut meant = true;
        for condition in &self.conditions {
            let Some(node) = self.tape.find(text, 0, &condition.path)? else {
                meant = false;
                continue;
            };
            mark_used(&mut self.tape, node);
            let Some(value) = &condition.value else { continue };
            self.notes.decisive.push(node);
            let found = &self.tape.nodes[node];
            meant &= match found.form {
                Form::Token => text[found.start()..found.end()] == **value,
                Form::String => {
                    let raw = &text[found.start() + 1..found.end() - 1];
                    raw == value || unescaped(raw).as_deref() == Some(value)
                }
                Form::Object | Form::Array => false,
            };
        }
        Ok(meant)
    }

    /// Writes one record: of the message, or of one element of its array.
    fn element(
        &mut self,
        shared: &mut Shared,
        text: &str,
        element: Option<usize>,
        first: bool,
        records: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        let start = records.len();
        records.extend_from_slice(&shared.blank);
        let root = element.unwrap_or(0);
        if let (None, Form::Array, Some(width)) = (element, self.tape.nodes[0].form, self.width) {
            let count = self.tape.children(0).count();
            if count > width && !self.places.iter().any(|p| matches!(p, Place::At(_))) {
                let end = self.tape.nodes[0].end() - 1;
                return Err(Fault::new(end, format!("{count} elements; {width} are needed")));
            }
        }
        for f in 0..self.places.len() {
            let op = shared.ops[f];
            let node = match &self.places[f] {
                Place::Stamped => continue,
                Place::Own { name, position } => self.own(text, element, name, *position)?,
                Place::Position(n) => self.nth(root, *n),
                Place::At(p) => self.tape.find(text, if p.relative { root } else { 0 }, &p.keys)?,
            };
            let Some(node) = node else {
                if op.defaulted {
                    continue;
                }
                let at = self.tape.nodes[root].end() - 1;
                return Err(Fault::new(at, self.missing(shared, f)));
            };
            mark_used(&mut self.tape, node);
            self.write(shared, text, node, op, &mut records[start..])?;
            if first {
                let relative =
                    element.is_some_and(|e| (e..self.tape.nodes[e].next()).contains(&node));
                self.notes.uses.push(Use { node, op, relative });
            }
        }
        Ok(())
    }

    fn missing(&self, shared: &Shared, field: usize) -> String {
        let name = &shared.layout.fields()[field].name;
        match &self.places[field] {
            Place::At(p) => {
                let dot = if p.relative { "." } else { "" };
                format!("{name}: nothing at {dot}/{}", p.keys.join("/"))
            }
            Place::Own { name: key, .. } if key != name => format!("{name}: no key {key:?}"),
            Place::Position(n) => format!("{name}: no element {}", n + 1),
            _ => format!("{name}: missing"),
        }
    }

    /// A field's own key: in the element if that is an object and has it, else in the message.
    fn own(
        &self,
        text: &str,
        element: Option<usize>,
        name: &str,
        position: Option<usize>,
    ) -> std::result::Result<Option<usize>, Fault> {
        if let Some(element) = element
            && self.tape.nodes[element].form == Form::Object
            && let Some(found) = self.tape.child(text, element, name)?
        {
            return Ok(Some(found));
        }
        match (self.tape.nodes[0].form, position, element) {
            (Form::Object, _, _) => self.tape.child(text, 0, name),
            (_, Some(position), None) => Ok(self.nth(0, position)),
            _ => Ok(None),
        }
    }

    fn nth(&self, of: usize, n: usize) -> Option<usize> {
        let is_array = self.tape.nodes[of].form == Form::Array;
        is_array.then(|| self.tape.children(of).nth(n)).flatten()
    }

    fn write(
        &self,
        shared: &mut Shared,
        text: &str,
        node: usize,
        op: Op,
        record: &mut [u8],
    ) -> std::result::Result<(), Fault> {
        let node = &self.tape.nodes[node];
        let raw = &text[node.start()..node.end()];
        let written = match node.form {
            Form::Token => op.token(raw.as_bytes(), &mut shared.times, record),
            Form::String => {
                let inner = &raw[1..raw.len() - 1];
                let Some(unescaped) = plain_or_unescaped(inner) else {
                    return Err(shared.fault(node.start(), op.field, raw.as_bytes(), &HALF_PAIR));
                };
                op.text(unescaped.as_bytes(), Origin::Json, &mut shared.times, record)
            }
            Form::Object => Err(Why::said("is an object; one value is needed")),
            Form::Array => Err(Why::said("is an array; one value is needed")),
        };
        // Shown in quotes anyway: those of a text are not shown twice.
        let text = if node.form == Form::String { &raw[1..raw.len() - 1] } else { raw };
        written.map_err(|why| shared.fault(node.start(), op.field, text.as_bytes(), &why))
    }

    /// Where strict: every key of the message (or of the element) and of each object that the
    /// mapping enters must be used.
    fn check_used(
        &self,
        shared: &Shared,
        text: &str,
        element: Option<usize>,
    ) -> std::result::Result<(), Fault> {
        if !shared.strict {
            return Ok(());
        }
        let root = element.unwrap_or(0);
        let mut at = root;
        while at < self.tape.nodes[root].next() {
            let entered = at == root || self.tape.children(at).any(|c| self.tape.nodes[c].used);
            if element.is_none() && self.notes.array == Some(at) {
                at = self.tape.nodes[at].next();
                continue;
            }
            if entered && let Some(c) = self.tape.children(at).find(|&c| !self.is_used(c)) {
                let node = &self.tape.nodes[c];
                return Err(match node.key() {
                    Some((start, end)) => {
                        let key = &text[start..end];
                        Fault::new(start - 1, format!("the key {key:?} is not used"))
                    }
                    None => Fault::new(node.start(), "an element that is not used"),
                });
            }
            at = if entered { at + 1 } else { self.tape.nodes[at].next() };
        }
        Ok(())
    }

    fn is_used(&self, node: usize) -> bool {
        let nodes = &self.tape.nodes;
        (node..nodes[node].next()).any(|n| nodes[n].used)
            || self.notes.array.is_some_and(|a| (node..nodes[node].next()).contains(&a))
    }
}

const HALF_PAIR: Why = Why::Said(std::borrow::Cow::Borrowed("has half a surrogate pair"));

fn mark_used(tape: &mut Tape, node: usize) {
    tape.nodes[node].used = true;
}

fn plain_or_unescaped(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    if raw.contains('\\') { unescaped(raw).map(Into::into) } else { Some(raw.into()) }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
