//! How a tool ends: its exit status and its error message.

use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use deepwater::error::system_text;

use super::out::{self, Out};
use super::{color, messages};

/// A tool's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done, or the answer is yes.
    Ok = 0,
    /// Only part was done, or the answer is no.
    Partial = 1,
    /// Nothing useful was done: wrong usage, no such feed, I/O error.
    Failed = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Runs a tool: `fn main() -> ExitCode { main_with("dw-cat", run) }`.
///
/// Flushes the output of `run` before printing its error, so that the data comes before the
/// message. An error means exit status 2, except when the reader of stdout has left: then the tool
/// ends quietly. A reported partial failure ([`messages::partial`]) turns success into exit status
/// 1.
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
                // `run` failed first; its error is the one to report.
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

/// clap returns help and version as errors. Prints them on stdout and succeeds; returns any other
/// error.
fn end_with(out: &mut Out, error: anyhow::Error) -> anyhow::Result<Exit> {
    let Some(usage) = error.downcast_ref::<clap::Error>() else {
        return Err(error);
    };
    if !matches!(usage.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Err(error);
    }
    let text = usage.render();
    let text = if color::on_stdout() { text.ansi().to_string() } else { text.to_string() };
    // The text is ours, so its colour escapes may reach the terminal.
    out.draw();
    out.put(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// Whether the error means that the reader of stdout has left.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(of_output(error), Some(out::Error::Closed))
}

/// Whether the error means that the tool was asked to end and the reader took no more output.
pub fn is_stuck(error: &anyhow::Error) -> bool {
    matches!(of_output(error), Some(out::Error::Stuck))
}

fn of_output(error: &anyhow::Error) -> Option<&out::Error> {
    error.chain().find_map(|cause| {
        let wrapped = || cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
        cause.downcast_ref().or_else(wrapped)
    })
}

/// Returns the error on one line: each cause follows its effect, and none is repeated.
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
        // Errors of the library include their causes.
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    // dw-repair must not recommend itself for what it cannot repair.
    let remedy = error.chain().find_map(|cause| cause.downcast_ref::<deepwater::Error>()?.remedy());
    if let Some(remedy) = remedy.filter(|_| !line.contains("dw-")) {
        line.push_str("; ");
        line.push_str(remedy);
    }
    line
}

/// Turns clap's paragraph into one line: what is wrong, the tip, and where to read on.
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
    fn repeated_causes_are_printed_once() {
        let library = deepwater::Error::io("cannot open", "/x", no_such_file());
        let error = anyhow::Error::from(library);
        assert_eq!(describe(&error), "cannot open /x: No such file or directory");
        let error = Err::<(), _>(no_such_file()).context("spec.json").unwrap_err();
        assert_eq!(describe(&error), "spec.json: No such file or directory");
    }

    #[test]
    fn a_closed_stdout_is_recognised_under_any_context() {
        let plain = anyhow::Error::from(out::Error::Closed);
        assert!(is_closed(&plain));
        let wrapped = io::Error::from(out::Error::Closed);
        assert!(is_closed(&anyhow::Error::from(wrapped).context("while listing")));
        assert!(!is_closed(&anyhow::Error::from(out::Error::Missing)));
        assert!(!is_closed(&anyhow::anyhow!(no_such_file())));
        // A broken pipe that is not stdout does not count.
        let other = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_closed(&anyhow::Error::from(other)));
    }

    #[test]
    fn usage_errors_are_printed_on_one_line() {
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
