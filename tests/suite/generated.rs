//! Checks that the committed man pages and completions equal those generated from the tools'
//! definitions and the documents. `BLESS=1 cargo test --test suite generated` writes them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use deepwater_tools::cli::page::{Entry, Page, Section};
use deepwater_tools::{TOOLS, commands};

use super::documents::to_man;
use super::env::repository_text;

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The date of the version. It is a constant, so that generating a page again gives the same page.
const DATE: &str = "2026-11-22";

/// Returns the man page of a tool.
fn man_page(page: &Page, command: Command) -> String {
    let version = command.get_version().unwrap_or_default().to_owned();
    let man = Man::new(command);
    let mut text = Vec::new();
    let mut roff = Roff::new();
    let title = page.name.to_uppercase();
    let source = format!("Deepwater {version}");
    roff.control("TH", [title.as_str(), "1", DATE, source.as_str(), "Deepwater"]);
    write(&roff, &mut text);
    man.render_name_section(&mut text).expect("a vector takes everything");
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (at, line) in page.usage.iter().enumerate() {
        if at > 0 {
            roff.control("br", []);
        }
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        roff.text([bold(name), roman(format!(" {rest}"))]);
    }
    write(&roff, &mut text);
    man.render_description_section(&mut text).expect("a vector takes everything");
    man.render_options_section(&mut text).expect("a vector takes everything");
    let mut roff = Roff::new();
    for Section { title, entries } in page.sections() {
        section(&mut roff, &title.to_uppercase(), entries);
    }
    examples(&mut roff, page.examples);
    let others = TOOLS.iter().map(|tool| tool.page.name).filter(|name| *name != page.name);
    let others: Vec<String> = others.map(|name| format!("{name}(1)")).collect();
    if !others.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(others.join(", "))]);
    }
    write(&roff, &mut text);
    let text = String::from_utf8(text).expect("pages are UTF-8");
    // Every part comes with this preamble; keep it once.
    let preamble = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    // A backslash must be \e, because a doubled one is reduced only while a macro is read.
    let text = text.replace(r"\\", r"\e");
    format!("{preamble}{}", text.replace(preamble, ""))
}

/// Returns a page made from a document: its name, section, a one-line description, and the
/// document.
fn document_page(name: &str, number: &str, what: &str, markdown: &str) -> String {
    let title = name.to_uppercase();
    let version = env!("CARGO_PKG_VERSION");
    let others = TOOLS.iter().map(|tool| format!("{}(1)", tool.page.name));
    let others = others.collect::<Vec<_>>().join(",\n");
    format!(
        "'\\\" t\n.TH {title} {number} {DATE} \"Deepwater {version}\" Deepwater\n.SH NAME\n\
         {name} \\- {what}\n.SH DESCRIPTION\n{}.SH \"SEE ALSO\"\n{others}\n",
        to_man(markdown)
    )
}

/// Returns the pages that are not about a tool: the store as a whole, and its format.
fn document_pages() -> [(PathBuf, String); 2] {
    let readme = repository_text("README.md");
    let (introduction, _) = readme.split_once("## See it run").expect("README has that heading");
    let guide = repository_text("tools/GUIDE.md");
    let (_, guide) = guide.split_once("\n## ").expect("the guide has headings");
    let store = format!("{introduction}\n## {guide}");
    let what = "a store for market data made of small Unix tools";
    let store = document_page("deepwater", "7", what, &store);
    let what = "the files of a Deepwater store, byte by byte";
    let format = document_page("deepwater-format", "5", what, &repository_text("core/FORMAT.md"));
    let at = |name: &str| root("man").join(name);
    [(at("deepwater.7"), store), (at("deepwater-format.5"), format)]
}

fn write(roff: &Roff, text: &mut Vec<u8>) {
    roff.to_writer(text).expect("a vector takes everything");
}

fn section(roff: &mut Roff, title: &str, entries: &[Entry]) {
    roff.control("SH", [title]);
    for (term, what) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*what)]);
    }
}

fn examples(roff: &mut Roff, entries: &[Entry]) {
    roff.control("SH", ["EXAMPLES"]);
    for (at, (command, what)) in entries.iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(format!("{what}:"))]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in command.lines() {
            roff.text([bold(line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

const NAMES: &str = "dw-ls --names 2>/dev/null";

/// Returns the completions of a tool for a shell, including feed names.
fn completions(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command, &name, &mut bytes);
    let text = String::from_utf8(bytes).expect("completions are UTF-8");
    match shell {
        Shell::Bash => bash(&text, &name, &command),
        Shell::Zsh => zsh(&text, &name, &command),
        _ => fish(&text, &name, &command),
    }
}

/// bash: wraps clap's function in one that offers feed names where a word is not an option's value.
fn bash(text: &str, name: &str, command: &Command) -> String {
    let inner = format!("_{}", name.replace('-', "__"));
    let outer = format!("{inner}__feeds");
    let text = text.replace(&format!("complete -F {inner} "), &format!("complete -F {outer} "));
    let valued: Vec<String> = command
        .get_opts()
        .filter(|arg| arg.get_long() != Some("feed"))
        .flat_map(|arg| {
            let long = arg.get_long().map(|long| format!("--{long}"));
            long.into_iter().chain(arg.get_short().map(|short| format!("-{short}")))
        })
        .collect();
    let at = text.find("\nif [[ \"${BASH_VERSINFO").expect("clap's completion ends so");
    let files = if takes_files(command) { " $(compgen -f -- \"$2\")" } else { "" };
    let function = format!(
        "
# Feeds, wherever a word is neither an option nor the value of one.
{outer}() {{
    {inner} \"$@\"
    case \"$2\" in -*) return 0 ;; esac
    case \"$3\" in
        {}) return 0 ;;
    esac
    COMPREPLY=( $(compgen -W \"$({NAMES})\" -- \"$2\"){files} )
}}
",
        valued.join("|")
    );
    format!("{}{function}{}", &text[..at], &text[at..])
}

/// zsh: offers feed names for `--feed` and positional feeds, instead of the default.
fn zsh(text: &str, name: &str, command: &Command) -> String {
    let positions: Vec<String> = command
        .get_positionals()
        .filter(|arg| names_feeds(arg))
        .map(|arg| format!(":{} -- ", arg.get_id()))
        .collect();
    let mut lines = Vec::new();
    for line in text.lines() {
        let feeds = line.starts_with("'--feed=") || positions.iter().any(|p| line.contains(p));
        lines.push(match line.replace(":_default'", &format!(":_{name}_feeds'")) {
            changed if feeds => changed,
            _ => line.to_owned(),
        });
        if lines.len() == 3 {
            lines.push(format!(
                "\n# Feeds, by name.\n(( $+functions[_{name}_feeds] )) ||\n_{name}_feeds() {{\n    \
                 local -a feeds\n    feeds=(${{(f)\"$({NAMES})\"}})\n    compadd -a feeds\n}}"
            ));
        }
    }
    lines.join("\n") + "\n"
}

fn names_feeds(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().is_some_and(|name| name.starts_with("FEED"))
}

/// Whether the tool takes files as positional arguments.
fn takes_files(command: &Command) -> bool {
    let file = [ValueHint::FilePath, ValueHint::AnyPath];
    command.get_positionals().any(|arg| file.contains(&arg.get_value_hint()))
}

/// fish: adds feed names to clap's lines, and files only if the tool takes them.
fn fish(text: &str, name: &str, command: &Command) -> String {
    let only = if takes_files(command) { "" } else { " -f" };
    format!(
        "{text}\n# Feeds, by name.\ncomplete -c {name}{only} -a \"({NAMES})\"\n\
         complete -c {name} -l feed -r -f -a \"({NAMES})\"\n"
    )
}

/// Returns the files with the text that they should have.
fn wanted() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for tool in TOOLS {
        let name = tool.page.name;
        files.push((root("man").join(format!("{name}.1")), man_page(tool.page, (tool.command)())));
        for (shell, file) in [
            (Shell::Bash, format!("{name}.bash")),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let text = completions(shell, (tool.command)());
            files.push((root("completions").join(file), text));
        }
    }
    files.extend(document_pages());
    files
}

#[test]
fn committed_pages_and_completions_are_up_to_date() {
    let wanted = wanted();
    if std::env::var_os("BLESS").is_some() {
        for folder in ["man", "completions"] {
            let _ = fs::remove_dir_all(root(folder));
            fs::create_dir(root(folder)).expect("cannot make the folder");
        }
        for (path, text) in &wanted {
            fs::write(path, text).expect("cannot write the file");
        }
    }
    for (path, text) in &wanted {
        let found = fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == *text,
            "{} is not what the tools define; BLESS=1 cargo test --test suite generated, then \
             look at the difference",
            path.display()
        );
    }
    for folder in ["man", "completions"] {
        for entry in fs::read_dir(root(folder)).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            let known = wanted.iter().any(|(wanted, _)| *wanted == path);
            assert!(known, "{} belongs to nothing", path.display());
        }
    }
}

/// Runs a shell on `script`. Returns `None` if the shell is not installed.
fn run_shell(shell: &str, args: &[&str], script: &str) -> Option<String> {
    let child = std::process::Command::new(shell)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("{shell} is not here: not checked");
        return None;
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell} {args:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn shells_accept_the_completions() {
    for tool in TOOLS {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completions(shell, (tool.command)());
            run_shell(&shell.to_string(), &["-n"], &text);
        }
    }
}

#[test]
fn bash_completes_feeds_and_options() {
    for tool in TOOLS {
        let name = tool.page.name;
        let function = format!("_{}__feeds", name.replace('-', "__"));
        let offer = |word: &str, before: &str| {
            let script = format!(
                "{}\ndw-ls() {{ [ \"$1\" = --names ] && printf 'trades\\nquotes\\n'; }}\n\
                 compopt() {{ :; }}\nCOMP_WORDS=({name} {before} '{word}')\nCOMP_CWORD=2\n\
                 {function} {name} '{word}' {before}\necho \"${{COMPREPLY[@]}}\"\n",
                completions(Shell::Bash, (tool.command)())
            );
            run_shell("bash", &[], &script).unwrap_or_default()
        };
        assert!(offer("", "--quiet").starts_with("trades quotes"), "{name}");
        assert_eq!(offer("tra", "--feed").trim(), "trades", "{name}");
        assert_eq!(offer("--base-p", "x").trim(), "--base-path", "{name}");
        assert!(!offer("", "--color").contains("trades"), "{name}");
    }
}

#[test]
fn every_short_flag_has_a_long_one() {
    for mut command in commands() {
        command.build();
        for arg in command.get_arguments() {
            let alone = arg.get_short().is_some() && arg.get_long().is_none();
            assert!(!alone, "{}: {:?}", command.get_name(), arg.get_short());
        }
    }
}

#[test]
fn help_has_the_sections_of_the_page() {
    for tool in TOOLS {
        let long = (tool.command)().render_long_help().to_string();
        let at = |text: &str| {
            long.find(text).unwrap_or_else(|| panic!("{}: no {text:?}", tool.page.name))
        };
        assert!(at("Examples:") < at("Usage:"), "{}: examples come first", tool.page.name);
        for section in tool.page.sections() {
            assert!(at(&format!("\n{}:\n", section.title)) > at("Common options:"));
        }
        for (command, _) in tool.page.examples {
            let shown = command.replace('\n', "\n  ");
            assert!(long.contains(&shown), "{}: {command}", tool.page.name);
            let fits = command.lines().all(|line| line.chars().count() <= 76);
            assert!(fits, "{}: help would break a line of {command}", tool.page.name);
        }
        let short = (tool.command)().render_help().to_string();
        assert!(!short.contains("Examples:") && short.lines().count() < long.lines().count());
    }
}
