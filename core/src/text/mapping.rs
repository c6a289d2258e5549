//! Decides which part of the input each field comes from.

use jiff::tz::TimeZone;

use super::reject::shown;
use super::value::Op;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::schema::FieldType;

/// The source of a field's value, if not the column or key of the field's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The CSV column with this header; in JSON, the message's key of this name.
    Header(String),
    /// The column with this number, from 1; in JSON, the element of an array row.
    Column(usize),
    /// A JSON pointer: `/a/b` into the message, `./b` (or `.`) into an exploded element.
    Pointer(String),
    /// The arrival time.
    Stamp,
}

impl Source {
    /// Parses a source as users write it: a number is a column, `/...` and `./...` are pointers,
    /// everything else is a header.
    ///
    /// # Errors
    /// [`Error::Spec`] for an empty text and for column 0.
    pub fn parse(text: &str) -> Result<Source> {
        if text.is_empty() {
            return Err(Error::Spec(
                "an empty source; it is a header, a number or a pointer".into(),
            ));
        }
        if text.starts_with('/') || text == "." || text.starts_with("./") {
            return Ok(Source::Pointer(text.to_owned()));
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Source::Header(text.to_owned()));
        }
        match text.parse() {
            Ok(n) if n > 0 => Ok(Source::Column(n)),
            _ => Err(Error::Spec(format!("column {text}: columns are counted from 1"))),
        }
    }
}

/// A parsed JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// Whether it points into the exploded element instead of the message.
    pub relative: bool,
    pub keys: Vec<String>,
}

impl Pointer {
    /// Parses a pointer. `""` is the message, `.` is the element, and a text without a slash is a
    /// key of the message.
    pub(crate) fn parse(text: &str) -> Result<Pointer> {
        let (relative, path) = match text.strip_prefix('.') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => (true, rest),
            _ => (false, text),
        };
        if path.is_empty() {
            return Ok(Pointer { relative, keys: Vec::new() });
        }
        let Some(path) = path.strip_prefix('/') else {
            return Ok(Pointer { relative: false, keys: vec![path.to_owned()] });
        };
        let keys = path.split('/').map(|key| unescape(key, text)).collect::<Result<_>>()?;
        Ok(Pointer { relative, keys })
    }
}

/// Decodes `~1` to a slash and `~0` to a tilde, as JSON pointers write them.
fn unescape(key: &str, whole: &str) -> Result<String> {
    let mut parts = key.split('~');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push(match part.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => {
                return Err(Error::Spec(format!("JSON pointer {whole:?}: after '~' comes 0 or 1")));
            }
        });
        out.push_str(&part[1..]);
    }
    Ok(out)
}

/// Returns the mapped source of every field, by position; `None` for a field that is not mapped.
pub(crate) fn sources(layout: &Layout, map: &[(String, Source)]) -> Result<Vec<Option<Source>>> {
    let mut sources = vec![None; layout.fields().len()];
    for (name, source) in map {
        let at = position(layout, name)?;
        if sources[at].is_some() {
            return Err(Error::Spec(format!("field {name:?} is mapped twice")));
        }
        let kind = layout.fields()[at].kind;
        if *source == Source::Stamp && !layout.is_time(at) && kind != FieldType::Uint64 {
            return Err(Error::Spec(format!(
                "field {name:?} is {kind}; an arrival time needs a timestamp or uint64"
            )));
        }
        if *source == Source::Column(0) {
            return Err(Error::Spec(format!("field {name:?}: columns are counted from 1")));
        }
        sources[at] = Some(source.clone());
    }
    Ok(sources)
}

/// Returns the position of the field `name`, or an error that lists the fields.
pub(crate) fn position(layout: &Layout, name: &str) -> Result<usize> {
    layout.position(name).ok_or_else(|| {
        let names: Vec<&str> = layout.fields().iter().map(|f| f.name.as_str()).collect();
        Error::Spec(format!("no field {name:?}; the fields are {}", names.join(" ")))
    })
}

/// Returns the fields that are filled by position when nothing names columns: all that do not get
/// the arrival time.
pub(crate) fn in_order(sources: &[Option<Source>]) -> Vec<usize> {
    (0..sources.len()).filter(|&f| sources[f] != Some(Source::Stamp)).collect()
}

/// Checks the names of `--columns`: each must be a field or a mapped header, and none may repeat.
pub(crate) fn check_columns(
    layout: &Layout,
    sources: &[Option<Source>],
    columns: &[Option<String>],
) -> Result<()> {
    let named: Vec<&String> = columns.iter().flatten().collect();
    for (i, name) in named.iter().enumerate() {
        let mapped = sources.iter().any(|s| *s == Some(Source::Header((*name).clone())));
        if !mapped {
            position(layout, name)?;
        }
        if named[..i].contains(name) {
            return Err(Error::Spec(format!("column {name:?} is named twice")));
        }
    }
    Ok(())
}

/// The columns of a CSV input: for each, the fields it fills.
pub(crate) struct Plan {
    pub columns: Vec<Vec<usize>>,
    /// Whether rows may have more cells than `columns`: true if fields are mapped by column number.
    pub open: bool,
}

/// Finds each field's column. `names` are the column names from a header or `--columns`.
pub(crate) fn plan(
    layout: &Layout,
    sources: &[Option<Source>],
    ops: &[Op],
    names: Option<&[Option<String>]>,
) -> Result<Plan> {
    let numbered = sources.iter().any(|s| matches!(s, Some(Source::Column(_))));
    let positional = names.is_none() && !numbered;
    let mut open = false;
    let width = match names {
        Some(names) => names.len(),
        None if positional => in_order(sources).len(),
        None => {
            open = true;
            let last = sources.iter().flatten().filter_map(|s| match s {
                Source::Column(n) => Some(*n),
                _ => None,
            });
            last.max().unwrap_or(0)
        }
    };
    let mut plan = Plan { columns: vec![Vec::new(); width], open };
    let mut missing = Vec::new();
    let mut next = 0;
    for (f, field) in layout.fields().iter().enumerate() {
        let column = match &sources[f] {
            Some(Source::Stamp) => continue,
            Some(Source::Pointer(p)) => {
                return Err(Error::Spec(format!(
                    "{}={p}: a JSON pointer, and not JSON",
                    field.name
                )));
            }
            Some(Source::Column(n)) => Some(n - 1),
            Some(Source::Header(name)) => column(names, name)?,
            None if positional => {
                next += 1;
                Some(next - 1)
            }
            None => column(names, &field.name)?,
        };
        match column {
            Some(n) if n < width => plan.columns[n].push(f),
            Some(n) => {
                return Err(Error::Spec(format!(
                    "field {:?} is mapped to column {}, and there are {width}",
                    field.name,
                    n + 1
                )));
            }
            None if ops[f].defaulted && sources[f].is_none() => {}
            None => missing.push(match &sources[f] {
                Some(Source::Header(name)) => format!("{} (mapped to {name:?})", field.name),
                _ => field.name.clone(),
            }),
        }
    }
    if missing.is_empty() {
        return Ok(plan);
    }
    let there = names.unwrap_or_default().iter().flatten();
    let there: Vec<String> = there.take(50).map(|n| shown(n.as_bytes())).collect();
    Err(Error::Spec(format!(
        "no column for {}; the columns are {}; --map FIELD=COLUMN says where a field is",
        missing.join(", "),
        if there.is_empty() { "not named".to_owned() } else { there.join(" ") }
    )))
}

fn column(names: Option<&[Option<String>]>, name: &str) -> Result<Option<usize>> {
    let mut found = names
        .unwrap_or_default()
        .iter()
        .enumerate()
        .filter(|(_, n)| n.as_deref() == Some(name))
        .map(|(i, _)| i);
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(Error::Spec(format!(
            "columns {} and {} are both named {name:?}",
            first + 1,
            second + 1
        ))),
        (first, _) => Ok(first),
    }
}

/// Returns an error for a zone that cannot be used. jiff reports a zone it does not know as
/// `unknown`.
pub(crate) fn check_zone(zone: Option<&TimeZone>) -> Result<()> {
    match zone {
        Some(zone) if zone.is_unknown() => {
            Err(Error::Spec("the system's time zone is not known; --tz names one".into()))
        }
        _ => Ok(()),
    }
}
