//! What a tool's page says beyond its options, as data: `--help` and the man page are made from
//! the same text, and a test runs the examples.

use std::fmt::Write as _;

use clap::Command;

/// A line of a section: the term, and what is said of it.
pub type Entry = (&'static str, &'static str);

/// One tool's page.
pub struct Page {
    /// The program's name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// The ways to call it, a line each.
    pub usage: &'static [&'static str],
    /// What it does, in paragraphs.
    pub description: &'static [&'static str],
    /// Shell lines and what each does. They stand alone: run in this order in one empty store
    /// each succeeds. No line is over 76 columns, so that help does not break it.
    pub examples: &'static [Entry],
    /// Exit statuses.
    pub exit_status: &'static [Entry],
    /// Variables.
    pub environment: &'static [Entry],
    /// Files.
    pub files: &'static [Entry],
}

/// The variable that names the store.
pub const DEEPWATER_BASE: Entry =
    ("DEEPWATER_BASE", "The store's directory, where --base-path gives none.");
/// The variable that the default store lies under.
pub const XDG_DATA_HOME: Entry = (
    "XDG_DATA_HOME",
    "The default store is deepwater in this directory, or in ~/.local/share if it is not set.",
);
/// The variables that turn colour off.
pub const NO_COLOR: Entry =
    ("NO_COLOR, TERM", "No colour if NO_COLOR is set and not empty, or if TERM is dumb.");
/// The variable that names the zone.
pub const TZ: Entry = ("TZ", "The zone of local times, where --tz gives none.");
/// Success.
pub const EXIT_OK: Entry = ("0", "Done.");
/// Failure.
pub const EXIT_FAILED: Entry = ("2", "Could not: wrong usage, no such feed, input or output.");
/// The default store.
pub const FILE_STORE: Entry = ("~/.local/share/deepwater", "The default store.");
/// The log.
pub const FILE_LOG: Entry = (
    "BASE/deepwater.log",
    "What has changed the store, and when; five older logs are kept beside it.",
);

const TEMPLATE: &str = "\
{about-with-newline}
{before-help}{usage-heading} {usage}

{all-args}{after-help}";

impl Page {
    /// Puts the page into the command that clap derived: name, version, help.
    pub fn dress(&self, command: Command) -> Command {
        command
            .name(self.name)
            .bin_name(self.name)
            .version(env!("CARGO_PKG_VERSION"))
            .override_usage(self.usage.join("\n       "))
            .about(self.about)
            .long_about(self.description.join("\n\n"))
            .help_template(TEMPLATE)
            .before_long_help(self.examples_text())
            .after_help(format!("{} --help shows examples.", self.name))
            .after_long_help(self.sections_text())
            .max_term_width(100)
    }

    fn examples_text(&self) -> String {
        let mut text = "Examples:".to_owned();
        for (command, what) in self.examples {
            let _ = write!(text, "\n  # {what}\n  {}\n", command.replace('\n', "\n  "));
        }
        text
    }

    fn sections_text(&self) -> String {
        let sections = [
            ("Exit status:", self.exit_status),
            ("Environment:", self.environment),
            ("Files:", self.files),
        ];
        let mut text = String::new();
        for (title, entries) in sections {
            let blank = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{blank}{title}");
            for (term, what) in entries {
                let _ = writeln!(text, "  {term}\n          {what}");
            }
        }
        text
    }
}
