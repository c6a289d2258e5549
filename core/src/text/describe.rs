//! Describes a layout in other languages, for programs that read stored records directly.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::escape::python_string;
use super::npy;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::schema::FieldType;
use crate::show::printable_json;

/// The languages that [`describe`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// A JSON object: `feed`, `record_size`, `ts_col`, `unit`, `packed`, `fields`.
    Json,
    /// A C11 struct, with assertions of its size and offsets.
    C,
    /// A `#[repr(C)]` struct, with assertions of its size and offsets.
    Rust,
    /// A NumPy dtype, as a Python expression.
    Numpy,
    /// A pyarrow schema, as a Python expression.
    Arrow,
}

const LANGS: [(&str, Lang); 5] = [
    ("json", Lang::Json),
    ("c", Lang::C),
    ("rust", Lang::Rust),
    ("numpy", Lang::Numpy),
    ("arrow", Lang::Arrow),
];

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LANGS.iter().find(|(_, lang)| lang == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Lang {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        LANGS.iter().find(|(name, _)| *name == text).map(|&(_, lang)| lang).ok_or_else(|| {
            let names = LANGS.map(|(name, _)| name).join(", ");
            Error::Spec(format!("no layout language {text:?}; there are {names}"))
        })
    }
}

/// Describes the records of a feed in a language. The text ends with a newline.
///
/// C and Rust show every byte: padding is a member of its own, so the struct does not depend on a
/// compiler's alignment rules. A name that is not an identifier in the language is changed, and a
/// comment gives the original name. Records are little-endian in all languages.
pub fn describe(layout: &Layout, feed_name: &str, lang: Lang) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match lang {
        Lang::Json => json(&mut text, layout, feed_name),
        Lang::C => c(&mut text, layout, feed_name),
        Lang::Rust => rust(&mut text, layout, feed_name),
        Lang::Numpy => numpy(&mut text, layout, feed_name),
        Lang::Arrow => arrow(&mut text, layout, feed_name),
    };
    text
}

fn json(text: &mut String, layout: &Layout, feed_name: &str) -> fmt::Result {
    let fields: Vec<_> = layout
        .fields()
        .iter()
        .map(|field| {
            let mut shown = serde_json::json!({
                "name": field.name,
                "type": field.kind.to_string(),
                "offset": field.offset,
                "size": field.size(),
            });
            if !field.desc.is_empty() {
                shown["desc"] = field.desc.as_str().into();
            }
            shown
        })
        .collect();
    let all = serde_json::json!({
        "feed": feed_name,
        "record_size": layout.record_size(),
        "ts_col": layout.time_field().name,
        "unit": layout.unit(),
        "packed": layout.packed(),
        "fields": fields,
    });
    writeln!(text, "{}", printable_json(&format!("{all:#}")))
}

/// A run of a record's bytes: a field, by its position, or padding.
enum Member {
    Field(usize),
    Padding { offset: usize, size: usize },
}

fn members(layout: &Layout) -> Vec<Member> {
    let mut members = Vec::new();
    let mut at = 0;
    let padding = |members: &mut Vec<Member>, offset: usize, until: usize| {
        if until > offset {
            members.push(Member::Padding { offset, size: until - offset });
        }
    };
    for (position, field) in layout.fields().iter().enumerate() {
        padding(&mut members, at, field.offset);
        members.push(Member::Field(position));
        at = field.range().end;
    }
    padding(&mut members, at, layout.record_size());
    members
}

/// Returns what a reader should know of a field beside its type, as the text of a comment.
fn note(layout: &Layout, position: usize, identifier: &str) -> String {
    let field = &layout.fields()[position];
    let mut notes = Vec::new();
    if field.name != identifier {
        notes.push(format!("field {:?}", field.name));
    }
    if layout.is_time(position) {
        notes.push(format!("{} since 1970-01-01T00:00:00Z", layout.unit()));
    }
    match field.kind {
        FieldType::Decimal64(scale) if scale > 0 => notes.push(format!("in units of 1e-{scale}")),
        FieldType::Bool => notes.push("bool, 0 or 1".into()),
        FieldType::Char => notes.push("Latin-1 character".into()),
        FieldType::String(_) => notes.push("UTF-8, padded with NUL".into()),
        _ => {}
    }
    if notes.is_empty() { String::new() } else { format!(" // {}", notes.join("; ")) }
}

fn c(text: &mut String, layout: &Layout, feed_name: &str) -> fmt::Result {
    let mut names = Names::new(C_WORDS);
    let record = Names::new(C_WORDS).identifier(feed_name);
    let size = layout.record_size();
    writeln!(text, "#include <assert.h>\n#include <stddef.h>\n#include <stdint.h>\n")?;
    writeln!(text, "// A record of {feed_name}: {size} bytes, little-endian.")?;
    let packed = if layout.packed() { "__attribute__((packed)) " } else { "" };
    writeln!(text, "struct {packed}{record} {{")?;
    let mut checks = String::new();
    for member in members(layout) {
        match member {
            Member::Field(position) => {
                let field = &layout.fields()[position];
                let name = names.identifier(&field.name);
                let (kind, array) = c_type(field.kind);
                let note = note(layout, position, &name);
                writeln!(text, "    {kind} {name}{array};{note}")?;
                let offset = field.offset;
                writeln!(
                    checks,
                    "static_assert(offsetof(struct {record}, {name}) == {offset}, \"{name}\");"
                )?;
            }
            Member::Padding { offset, size } => {
                let name = names.identifier(&format!("pad_{offset}"));
                writeln!(text, "    uint8_t {name}[{size}]; // always zero")?;
            }
        }
    }
    writeln!(text, "}};\n")?;
    writeln!(text, "static_assert(sizeof(struct {record}) == {size}, \"record size\");")?;
    text.push_str(&checks);
    Ok(())
}

/// Returns the C type of a field, and what follows its name.
fn c_type(kind: FieldType) -> (&'static str, String) {
    match kind {
        FieldType::Char => ("char", String::new()),
        FieldType::Bool | FieldType::Uint8 => ("uint8_t", String::new()),
        FieldType::Int8 => ("int8_t", String::new()),
        FieldType::Int16 => ("int16_t", String::new()),
        FieldType::Int32 => ("int32_t", String::new()),
        FieldType::Int64 | FieldType::Decimal64(_) => ("int64_t", String::new()),
        FieldType::Uint16 => ("uint16_t", String::new()),
        FieldType::Uint32 => ("uint32_t", String::new()),
        FieldType::Uint64 | FieldType::Timestamp => ("uint64_t", String::new()),
        FieldType::Float32 => ("float", String::new()),
        FieldType::Float64 => ("double", String::new()),
        FieldType::String(n) => ("char", format!("[{n}]")),
        FieldType::Bytes(n) | FieldType::Pad(n) => ("uint8_t", format!("[{n}]")),
    }
}

fn rust(text: &mut String, layout: &Layout, feed_name: &str) -> fmt::Result {
    let mut names = Names::new(RUST_WORDS);
    let record = Names::new(RUST_WORDS).identifier(&camel_case(feed_name));
    let size = layout.record_size();
    let repr = if layout.packed() { "C, packed" } else { "C" };
    writeln!(text, "/// A record of {feed_name}: {size} bytes, little-endian.")?;
    writeln!(text, "#[repr({repr})]\n#[derive(Clone, Copy)]\npub struct {record} {{")?;
    let mut checks = String::new();
    for member in members(layout) {
        match member {
            Member::Field(position) => {
                let field = &layout.fields()[position];
                let name = names.identifier(&field.name);
                let kind = rust_type(field.kind);
                let note = note(layout, position, &name);
                writeln!(text, "    pub {name}: {kind},{note}")?;
                let offset = field.offset;
                writeln!(
                    checks,
                    "const _: () = assert!(::core::mem::offset_of!({record}, {name}) == {offset});"
                )?;
            }
            Member::Padding { offset, size } => {
                let name = names.identifier(&format!("pad_{offset}"));
                writeln!(text, "    pub {name}: [u8; {size}], // always zero")?;
            }
        }
    }
    writeln!(text, "}}\n")?;
    writeln!(text, "const _: () = assert!(::core::mem::size_of::<{record}>() == {size});")?;
    text.push_str(&checks);
    Ok(())
}

/// Returns the Rust type of a field: one for which any bytes are a valid value.
fn rust_type(kind: FieldType) -> String {
    match kind {
        FieldType::Char | FieldType::Bool | FieldType::Uint8 => "u8".into(),
        FieldType::Int8 => "i8".into(),
        FieldType::Int16 => "i16".into(),
        FieldType::Int32 => "i32".into(),
        FieldType::Int64 | FieldType::Decimal64(_) => "i64".into(),
        FieldType::Uint16 => "u16".into(),
        FieldType::Uint32 => "u32".into(),
        FieldType::Uint64 | FieldType::Timestamp => "u64".into(),
        FieldType::Float32 => "f32".into(),
        FieldType::Float64 => "f64".into(),
        FieldType::String(n) | FieldType::Bytes(n) | FieldType::Pad(n) => format!("[u8; {n}]"),
    }
}

fn numpy(text: &mut String, layout: &Layout, feed_name: &str) -> fmt::Result {
    let fields = layout.fields();
    let list = |items: Vec<String>| items.join(", ");
    let names = list(fields.iter().map(|field| python_string(&field.name)).collect());
    let formats = list(fields.iter().map(|field| format!("'{}'", npy::code(field.kind))).collect());
    let offsets = list(fields.iter().map(|field| field.offset.to_string()).collect());
    writeln!(text, "# A record of {feed_name}; {}", time_note(layout))?;
    writeln!(text, "np.dtype({{\n    'names': [{names}],\n    'formats': [{formats}],")?;
    writeln!(text, "    'offsets': [{offsets}],\n    'itemsize': {},\n}})", layout.record_size())
}

fn arrow(text: &mut String, layout: &Layout, feed_name: &str) -> fmt::Result {
    writeln!(text, "# A record of {feed_name}; {}", time_note(layout))?;
    writeln!(text, "pa.schema([")?;
    for (position, field) in layout.fields().iter().enumerate() {
        let kind = match field.kind {
            _ if layout.is_time(position) => format!("pa.timestamp('{}', tz='UTC')", layout.unit()),
            FieldType::Char | FieldType::String(_) => "pa.string()".into(),
            FieldType::Bool => "pa.bool_()".into(),
            // Nineteen digits hold every `i64`.
            FieldType::Decimal64(scale) => format!("pa.decimal128(19, {scale})"),
            FieldType::Bytes(n) => format!("pa.binary({n})"),
            other => format!("pa.{other}()"),
        };
        writeln!(text, "    pa.field({}, {kind}, nullable=False),", python_string(&field.name))?;
    }
    writeln!(text, "])")
}

fn time_note(layout: &Layout) -> String {
    let time = python_string(&layout.time_field().name);
    format!("{time} counts {} since 1970-01-01T00:00:00Z", layout.unit())
}

/// Turns names into identifiers, each used only once.
struct Names {
    words: &'static [&'static str],
    taken: HashSet<String>,
}

impl Names {
    fn new(words: &'static [&'static str]) -> Names {
        Names { words, taken: HashSet::new() }
    }

    /// Returns `name` if it is an unused ASCII identifier, else a similar one that is.
    fn identifier(&mut self, name: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut identifier: String = name.chars().map(plain).collect();
        // A lone underscore is not a name in Rust. C reserves names that begin with two
        // underscores.
        if !identifier.starts_with(|c: char| c.is_ascii_alphabetic()) {
            identifier.insert_str(0, "f_");
        }
        if self.words.contains(&identifier.as_str()) {
            identifier.push('_');
        }
        let mut free = identifier.clone();
        let mut count = 1;
        while !self.taken.insert(free.clone()) {
            count += 1;
            free = format!("{identifier}_{count}");
        }
        free
    }
}

/// Converts `es_trades-1` to `EsTrades1`.
fn camel_case(feed_name: &str) -> String {
    let mut name = String::new();
    for word in feed_name.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut chars = word.chars();
        name.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(chars.as_str());
    }
    name
}

/// Words that cannot be names in C or C++. Either language may include the header.
const C_WORDS: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "compl",
    "concept",
    "const",
    "constexpr",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
    "assert",
    "NULL",
    "int8_t",
    "int16_t",
    "int32_t",
    "int64_t",
    "uint8_t",
    "uint16_t",
    "uint32_t",
    "uint64_t",
    "linux",
    "offsetof",
    "unix",
];

/// Words that cannot be names in Rust.
const RUST_WORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
