//! What a tool's page says beyond its options, as data: `--help` and the man page are made from
//! the same text, and a test runs the examples.

use std::fmt::Write as _;

use clap::Command;

/// A line of a section: the term, and what is said of it.
pub type Entry = (&'static str, &'static str);

/// A section of its own.
pub struct Section {
    /// Its title, in words.
    pub title: &'static str,
    /// Its lines.
    pub entries: &'static [Entry],
}

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
    /// What else there is to say, after the options.
    pub more: &'static [Section],
    /// Exit statuses.
    pub exit_status: &'static [Entry],
    /// Variables.
    pub environment: &'static [Entry],
    /// Files.
    pub files: &'static [Entry],
}

/// The grammar of times, for the pages of tools that take some.
pub const TIMES: Section = Section {
    title: "Times",
    entries: &[
        (
            "2024-05-01T09:30:00.123456789-04:00",
            "RFC 3339: any offset or Z, up to 9 digits of a second.",
        ),
        (
            "DATE [TIME] [ZONE], TIME [ZONE]",
            "2024-05-01, '2024-05-01 09:30', 09:30:00.5 (today), each with Z, +02:00 or a name as \
             Europe/Berlin. A date alone is the first instant of its day. A time that daylight \
             saving skips or repeats is refused, and both candidates are named.",
        ),
        (
            "now, today, yesterday, tomorrow [TIME] [ZONE]",
            "By name; now takes a distance too, as now-5m.",
        ),
        ("-1h, +5m, 1h ago, 1h", "From now; without a sign it is ago."),
        (
            "@1714555800, @1714555800.5, @1714555800500ms, @...us, @...ns",
            "Since 1970-01-01 UTC: seconds, or the unit given.",
        ),
        (
            "1714555800000000, 1714555800000000000",
            "A bare number of 16 digits is microseconds, of 19 nanoseconds; others are refused.",
        ),
        ("first, last, first+5m, last-5m", "The oldest and the newest time of the feed."),
        ("seq:42", "A record by its number."),
    ],
};
/// Sizes and durations, for the pages of tools that take some.
pub const SIZES: Section = Section {
    title: "Sizes and durations",
    entries: &[
        (
            "64MiB, 10GB, 4096",
            "KiB MiB GiB TiB count in 1024s, KB MB GB TB in 1000s; without a unit it is bytes.",
        ),
        (
            "500ms, 90s, 5m, 1h30m, 7d, 2w",
            "Months and years are refused, since they have no fixed length.",
        ),
    ],
};
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

    /// The sections that follow the options, in order.
    pub fn sections(&self) -> Vec<Section> {
        let section = |title, entries| Section { title, entries };
        let more = self.more.iter().map(|more| section(more.title, more.entries));
        more.chain([
            section("Exit status", self.exit_status),
            section("Environment", self.environment),
            section("Files", self.files),
        ])
        .collect()
    }

    fn sections_text(&self) -> String {
        let mut text = String::new();
        for section in self.sections() {
            let blank = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{blank}{}:", section.title);
            for (term, what) in section.entries {
                let _ = writeln!(text, "  {term}\n          {what}");
            }
        }
        text
    }
}
