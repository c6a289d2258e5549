//! How a tool ends: its exit status, and what is said about an error.

use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use deepwater::error::system_text;

use super::out::{self, Out};
use super::{color, messages};

/// A tool's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; yes.
    Ok = 0,
    /// No, or only in part.
    Partial = 1,
    /// Could not: usage, no such feed, I/O.
    Failed = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Runs a tool: `fn main() -> ExitCode { main_with("dw-cat", run) }`.
///
/// What `run` has put into its output is flushed whatever it returns, so that the data before
/// an error comes out before the message. An error is told and is status 2; a reader that has
/// left is none. An error told on the way ([`messages::partial`]) makes success status 1.
pub fn main_with(
    name: &'static str,
    run: impl FnOnce(&mut Out) -> anyhow::Result<Exit>,
) -> ExitCode {
    deepwater::os::signal::ignore_file_size_signal();
    messages::start(name);
    let mut out = Out::stdout();
    let result = run(&mut out);
    finish(&mut out, result).into()
}

fn finish(out: &mut Out, result: anyhow::Result<Exit>) -> Exit {
    let told = match result {
        Ok(exit) => out.flush().map_err(anyhow::Error::from).map(|()| exit),
        Err(error) => {
            if out.is_broken() {
                Err(error)
            } else {
                // The first error is the one to tell.
                let _ = out.flush();
                end_with(out, error)
            }
        }
    };
    let exit = told.unwrap_or_else(|error| {
        if is_closed(&error) {
            return Exit::Ok;
        }
        messages::fatal(describe(&error));
        Exit::Failed
    });
    match exit {
        Exit::Ok | Exit::Partial if messages::seen_limit() => Exit::Failed,
        Exit::Ok if messages::seen_partial() => Exit::Partial,
        exit => exit,
    }
}

/// Help and versions are clap errors that go to stdout and succeed; anything else stays.
fn end_with(out: &mut Out, error: anyhow::Error) -> anyhow::Result<Exit> {
    let Some(usage) = error.downcast_ref::<clap::Error>() else {
        return Err(error);
    };
    if !matches!(usage.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Err(error);
    }
    let text = usage.render();
    let text = if color::on_stdout() { text.ansi().to_string() } else { text.to_string() };
    // Its colours are ours; nothing in it is anybody else's.
    out.draw();
    out.put(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// Whether the error is a reader of our output that has left.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(of_output(error), Some(out::Error::Closed))
}

/// Whether a tool that was asked to end has found nobody to take what it still had.
pub fn is_stuck(error: &anyhow::Error) -> bool {
    matches!(of_output(error), Some(out::Error::Stuck))
}

fn of_output(error: &anyhow::Error) -> Option<&out::Error> {
    error.chain().find_map(|cause| {
        let wrapped = || cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
        cause.downcast_ref().or_else(wrapped)
    })
}

/// The error in one line: each cause after the one it caused, none told twice.
pub fn describe(error: &anyhow::Error) -> String {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        return describe_usage(usage);
    }
    let mut line = String::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref::<io::Error>() {
            Some(e) => system_text(e),
            None => cause.to_string(),
        };
        // The library's errors include their causes.
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    // What dw-repair itself cannot mend, it does not refer to itself.
    let remedy = error.chain().find_map(|cause| cause.downcast_ref::<deepwater::Error>()?.remedy());
    if let Some(remedy) = remedy.filter(|_| !line.contains("dw-")) {
        line.push_str("; ");
        line.push_str(remedy);
    }
    line
}

/// clap's paragraph as one line in our form: what, the tip, where to read on.
fn describe_usage(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let text = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")) {
        if line.is_empty() || line.starts_with("For more information") {
            continue;
        }
        let line = line.strip_prefix("tip: ").unwrap_or(line);
        match parts.last_mut() {
            Some(last) if last.ends_with(':') => {
                last.push(' ');
                last.push_str(line);
            }
            _ => parts.push(line.to_owned()),
        }
    }
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
    {
        parts = vec![format!("missing: {}", missing.join(", "))];
    }
    if parts.is_empty() {
        parts.push("wrong usage".to_owned());
    }
    format!("{}; see {} --help", parts.join("; "), messages::name())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use anyhow::Context as _;

    use super::*;

    fn no_such_file() -> io::Error {
        io::Error::from_raw_os_error(2)
    }

    #[test]
    fn causes_are_told_once() {
        let library = deepwater::Error::io("cannot open", "/x", no_such_file());
        let error = anyhow::Error::from(library);
        assert_eq!(describe(&error), "cannot open /x: No such file or directory");
        let error = Err::<(), _>(no_such_file()).context("spec.json").unwrap_err();
        assert_eq!(describe(&error), "spec.json: No such file or directory");
    }

    #[test]
    fn a_closed_stdout_is_found_under_any_wrapping() {
        let plain = anyhow::Error::from(out::Error::Closed);
        assert!(is_closed(&plain));
        let wrapped = io::Error::from(out::Error::Closed);
        assert!(is_closed(&anyhow::Error::from(wrapped).context("while listing")));
        assert!(!is_closed(&anyhow::Error::from(out::Error::Missing)));
        assert!(!is_closed(&anyhow::anyhow!(no_such_file())));
        // Another pipe that broke is no closed stdout.
        let other = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_closed(&anyhow::Error::from(other)));
    }

    #[test]
    fn usage_errors_are_one_line() {
        let command = || {
            clap::Command::new("dw-x")
                .arg(
                    clap::Arg::new("size")
                        .long("size")
                        .value_parser(super::super::sizes::parse_size),
                )
                .arg(clap::Arg::new("feed").required(true).value_name("FEED"))
        };
        let said = |args: &[&str]| {
            let error = command().try_get_matches_from(args).unwrap_err();
            describe(&anyhow::Error::from(error))
        };
        let text = said(&["dw-x", "--sise", "1"]);
        assert!(text.starts_with("unexpected argument '--sise' found; "), "{text}");
        assert!(text.contains("'--size'") && text.ends_with("--help"), "{text}");
        let text = said(&["dw-x", "t", "--size", "64M"]);
        assert!(text.contains("invalid value '64M' for '--size"), "{text}");
        assert!(text.contains("write MiB or MB"), "{text}");
        let text = said(&["dw-x"]);
        assert!(text.starts_with("missing: <FEED>; see"), "{text}");
        for text in [said(&["dw-x", "--nope"]), said(&["dw-x"])] {
            assert!(!text.contains('\n') && !text.contains("Usage"), "{text}");
        }
    }
}
