//! Checks the house rules: layers, lengths, no unused file, unsafe code in one place.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

const MAX_COLUMNS: usize = 100;
const MAX_FUNCTION_LINES: usize = 70;

/// The modules of the library, lowest first. Each may use only those before it.
const CORE_LAYERS: &[&str] = &[
    "error", "checksum", "bytes", "show", "time", "schema", "layout", "record", "text", "os",
    "log", "registry", "chunk", "ring", "reader", "writer", "store", "gc", "check", "repair",
];

/// A source file: its path from the project's root, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["core", "tools", "tests"] {
        gather(&root().join(folder), &mut found);
    }
    assert!(found.len() > 40, "only {} files found", found.len());
    found
}

fn gather(folder: &Path, found: &mut Vec<Source>) {
    for item in fs::read_dir(folder).expect("a folder") {
        let path = item.expect("an item").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            gather(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let short = path.strip_prefix(root()).expect("below the root");
            let text = fs::read_to_string(&path).expect("UTF-8");
            found.push(Source { path: short.display().to_string(), text });
        }
    }
}

/// Fails if there are any complaints, and prints all of them.
fn none_of(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn lines_are_at_most_100_columns() {
    let long = |source: &Source| {
        let lines = source.text.lines().enumerate();
        lines
            .filter(|(_, line)| line.chars().count() > MAX_COLUMNS)
            .map(|(n, line)| format!("{}:{}: {} columns", source.path, n + 1, line.chars().count()))
            .collect::<Vec<_>>()
    };
    none_of(sources().iter().flat_map(long).collect());
}

/// Returns line number, name and length of each function, found by the indentation that rustfmt
/// produces.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let head = code.split('(').next().unwrap_or_default();
        let Some((before, name)) = head.split_once("fn ") else { continue };
        let words =
            ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
        if !before.split_whitespace().all(|word| words.contains(&word)) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(line.len() - code.len()));
        let whole = |l: &str| l == lines[n] && l.ends_with([';', '}']);
        let length = lines[n..].iter().position(|l| *l == end || whole(l));
        found.push((n + 1, name.to_owned(), length.map_or(1, |last| last + 1)));
    }
    found
}

#[test]
fn functions_are_at_most_70_lines() {
    let text = "impl X {\n    fn a() {\n        1;\n    }\n}\nfn b() {\n}\n";
    assert_eq!(functions(text), [(2, "a".to_owned(), 3), (6, "b".to_owned(), 2)]);
    let long = |source: &Source| {
        functions(&source.text)
            .into_iter()
            .filter(|(_, _, length)| *length > MAX_FUNCTION_LINES)
            .map(|(n, name, length)| format!("{}:{n}: {name} has {length} lines", source.path))
            .collect::<Vec<_>>()
    };
    none_of(sources().iter().flat_map(long).collect());
}

/// Returns the modules that a file names after `crate::`.
fn used_modules(text: &str) -> Vec<&str> {
    text.split("crate::")
        .skip(1)
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

#[test]
fn library_modules_import_only_lower_modules() {
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(inner) = source.path.strip_prefix("core/src/") else { continue };
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some(own) = CORE_LAYERS.iter().position(|layer| *layer == module) else {
            complaints.push(format!("{}: {module} is in no layer", source.path));
            continue;
        };
        // Leave out unit tests, which may open a whole store.
        let code = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for used in used_modules(code) {
            let above = CORE_LAYERS.iter().position(|layer| *layer == used);
            if above.is_some_and(|above| above > own) {
                complaints.push(format!("{}: {module} uses {used}, above it", source.path));
            }
        }
    }
    none_of(complaints);
}

#[test]
fn no_tool_imports_another() {
    let tools: Vec<String> = fs::read_dir(root().join("tools"))
        .expect("tools")
        .flatten()
        .filter(|item| item.path().is_dir())
        .map(|item| item.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(tools.len() >= 5, "{tools:?}");
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(inner) = source.path.strip_prefix("tools/") else { continue };
        let own = inner.split('/').next().unwrap_or_default();
        for used in used_modules(&source.text) {
            let other = tools.iter().any(|tool| tool == used) && used != own && used != "cli";
            if other && own != "lib.rs" {
                complaints.push(format!("{}: uses {used}", source.path));
            }
        }
    }
    none_of(complaints);
}

#[test]
fn unsafe_code_is_only_in_core_src_os() {
    let word = concat!("uns", "afe");
    let mut blocks = 0;
    let mut complaints = Vec::new();
    for source in sources() {
        for (n, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let there = code.contains(&format!("{word} {{"))
                || code.contains(&format!("{word} fn"))
                || code.contains(&format!("{word} impl"));
            match source.path.starts_with("core/src/os/") {
                true => blocks += usize::from(there),
                false if there => complaints.push(format!("{}:{}", source.path, n + 1)),
                false => {}
            }
        }
    }
    assert!(blocks > 5, "the search finds {blocks} blocks in core/src/os");
    none_of(complaints);
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    let all = sources();
    let text_of = |path: &str| all.iter().find(|s| s.path == path).map(|s| s.text.as_str());
    let mut complaints = Vec::new();
    for source in &all {
        let path = Path::new(&source.path);
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let folder = path.parent().expect("a folder").display().to_string();
        let roots = ["lib", "main", "build"];
        let top = ["core/tests", "core/benches", "tests"].contains(&folder.as_str());
        if roots.contains(&name.as_str()) || top {
            continue;
        }
        let (name, folder) = match name.as_str() {
            "mod" => {
                let (up, own) = folder.rsplit_once('/').expect("a module in a folder");
                (own.to_owned(), up.to_owned())
            }
            _ => (name, folder),
        };
        let mut parents = vec![
            format!("{folder}/mod.rs"),
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
            format!("{folder}.rs"),
        ];
        // `#[path]` names a file relative to the module's own file, whatever the name of that.
        parents.extend(
            all.iter()
                .map(|s| s.path.clone())
                .filter(|p| Path::new(p).parent().is_some_and(|own| own == Path::new(&folder))),
        );
        let declared = parents.iter().filter_map(|parent| text_of(parent)).any(|text| {
            text.contains(&format!("mod {name};"))
                || text.contains(&format!("#[path = \"{name}.rs\"]"))
        });
        if !declared {
            complaints.push(format!("{}: no module declares it", source.path));
        }
    }
    none_of(complaints);
}

#[test]
fn no_todo_and_no_ignored_test() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), "#[ignore"];
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for (n, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{}:{}: {}", source.path, n + 1, line.trim()));
            }
        }
    }
    none_of(complaints);
}
