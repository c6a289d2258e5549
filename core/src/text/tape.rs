//! A JSON text as a flat list of its values, in the order of the text, each with its place in
//! it. serde_json says whether the text is JSON; this only notes where its parts are.

use super::reject::Fault;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Array,
    String,
    /// A number, `true`, `false` or `null`.
    Token,
}

/// One value: 24 bytes, since a dense line has one for every two of its own.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    start: u32,
    end: u32,
    next: u32,
    /// 0: no key, for the first byte of a text is none of a key.
    key_start: u32,
    key_end: u32,
    pub form: Form,
    /// Something in the mapping uses it or what is within it.
    pub used: bool,
}

impl Node {
    /// Where its bytes in the text begin, quotes included.
    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    /// Where they end.
    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }

    /// The node after it and all within it.
    pub(crate) fn next(&self) -> usize {
        self.next as usize
    }

    /// Its key in the object that holds it: bytes in the text, between the quotes.
    pub(crate) fn key(&self) -> Option<(usize, usize)> {
        (self.key_start > 0).then_some((self.key_start as usize, self.key_end as usize))
    }
}

/// So many values a line may have: their list takes at most 24 times as many bytes.
const MOST_NODES: usize = 1 << 20;

/// How much room is kept from line to line.
const KEPT_NODES: usize = 4096;

/// The values of one text; kept from text to text for its memory.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    pub nodes: Vec<Node>,
    stack: Vec<usize>,
}

impl Tape {
    /// Reads `line`, which must be one JSON value.
    pub(crate) fn read<'a>(&mut self, line: &'a [u8]) -> Result<&'a str, Fault> {
        if line.len() > u32::MAX as usize {
            return Err(Fault::new(0, "longer than 4 GiB"));
        }
        let text =
            std::str::from_utf8(line).map_err(|e| Fault::new(e.valid_up_to(), "not UTF-8"))?;
        if let Err(e) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            let said = e.to_string();
            let reason = said.split(" at line ").next().unwrap_or_default();
            return Err(Fault::new(e.column().saturating_sub(1), format!("not JSON: {reason}")));
        }
        self.note(line)?;
        Ok(text)
    }

    /// Notes the values of a text that is known to be JSON.
    fn note(&mut self, b: &[u8]) -> Result<(), Fault> {
        // One huge line must not hold its memory for ever.
        self.nodes.clear();
        self.nodes.shrink_to(KEPT_NODES);
        self.stack.clear();
        self.stack.shrink_to(KEPT_NODES);
        let mut key = None;
        let mut at = 0;
        while let Some(&c) = b.get(at) {
            let start = at;
            let form = match c {
                b'{' => Form::Object,
                b'[' => Form::Array,
                b'}' | b']' => {
                    at += 1;
                    if let Some(open) = self.stack.pop() {
                        let next = self.nodes.len() as u32;
                        (self.nodes[open].end, self.nodes[open].next) = (at as u32, next);
                    }
                    continue;
                }
                b'"' => Form::String,
                b'-' | b'0'..=b'9' | b'a'..=b'z' => Form::Token,
                _ => {
                    at += 1;
                    continue;
                }
            };
            at = match form {
                Form::Object | Form::Array => at + 1,
                Form::String => string_end(b, at),
                Form::Token => token_end(b, at),
            };
            let in_object =
                self.stack.last().is_some_and(|&open| self.nodes[open].form == Form::Object);
            if in_object && key.is_none() {
                key = Some((start + 1, at - 1));
                continue;
            }
            let index = self.nodes.len();
            if index == MOST_NODES {
                let what = format!("more than {MOST_NODES} values in a line; split it");
                return Err(Fault::new(start, what));
            }
            let (key_start, key_end) = key.take().unwrap_or((0, 0));
            self.nodes.push(Node {
                start: start as u32,
                end: at as u32,
                next: index as u32 + 1,
                key_start: key_start as u32,
                key_end: key_end as u32,
                form,
                used: false,
            });
            if matches!(form, Form::Object | Form::Array) {
                self.stack.push(index);
            }
        }
        Ok(())
    }

    /// The values directly within an object or array.
    pub(crate) fn children(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[of].next();
        let mut at = of + 1;
        std::iter::from_fn(move || {
            let child = at;
            (child < end).then(|| {
                at = self.nodes[child].next();
                child
            })
        })
    }

    /// The value at a path of keys and array positions below `from`.
    ///
    /// # Errors
    /// An object on the way has the key twice.
    pub(crate) fn find(
        &self,
        text: &str,
        from: usize,
        path: &[String],
    ) -> Result<Option<usize>, Fault> {
        let mut at = from;
        for key in path {
            let step = match self.nodes[at].form {
                Form::Object => self.child(text, at, key)?,
                Form::Array if is_index(key) => {
                    key.parse().ok().and_then(|n| self.children(at).nth(n))
                }
                _ => None,
            };
            match step {
                Some(child) => at = child,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The value of one key of an object.
    ///
    /// # Errors
    /// The object has the key twice.
    pub(crate) fn child(&self, text: &str, of: usize, key: &str) -> Result<Option<usize>, Fault> {
        let mut found = None;
        for child in self.children(of) {
            let node = &self.nodes[child];
            let Some((start, end)) = node.key() else { continue };
            let raw = &text[start..end];
            if raw == key || (raw.contains('\\') && unescaped(raw).as_deref() == Some(key)) {
                if found.is_some() {
                    return Err(Fault::new(start - 1, format!("the key {key:?} comes twice")));
                }
                found = Some(child);
            }
        }
        Ok(found)
    }
}

/// A position in an array as JSON pointers write it.
fn is_index(key: &str) -> bool {
    key.bytes().all(|b| b.is_ascii_digit()) && (key.len() == 1 || !key.starts_with('0'))
}

/// The text of a string with escapes, given without its quotes; `None`: half a surrogate pair.
pub(crate) fn unescaped(raw: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{raw}\"")).ok()
}

fn string_end(b: &[u8], at: usize) -> usize {
    let mut from = at + 1;
    while let Some(length) = memchr::memchr2(b'"', b'\\', &b[from..]) {
        from += length;
        if b[from] == b'"' {
            return from + 1;
        }
        from = (from + 2).min(b.len());
    }
    b.len()
}

/// Where a number or word at `at` ends.
#[inline]
pub(crate) fn token_end(b: &[u8], at: usize) -> usize {
    let inside = |c: &u8| matches!(c, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E');
    b.get(at..).map_or(at, |rest| at + rest.iter().take_while(|c| inside(c)).count())
}
