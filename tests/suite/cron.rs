//! Tests of dw-gc in the user's crontab: it changes only its own line, whatever the crontab has.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;

use super::env::TestEnv;
use super::kit::{text, until};

/// A `crontab` that behaves as cron's own does: it reports a missing crontab with these words, and
/// rejects a table whose last line has no newline. With `$LOOSE` it accepts any table.
const FAKE: &str = r#"#!/bin/sh
table=$(dirname "$0")/table
case "$*" in
-l)
    [ -e "$table" ] || { echo "no crontab for $(id -un)" >&2; exit 1; }
    exec cat "$table" ;;
-)
    cat > "$table.new"
    if [ -z "$LOOSE" ] && [ -s "$table.new" ] && [ -n "$(tail -c 1 "$table.new")" ]; then
        echo "new crontab file is missing newline before EOF, can't install." >&2
        exit 1
    fi
    echo x >> "$table.writes"
    exec mv "$table.new" "$table" ;;
*)
    echo "crontab: usage error: $*" >&2
    exit 1 ;;
esac
"#;

/// A store at an awkward path, and a crontab of the test's own.
struct Cron {
    env: TestEnv,
    base: PathBuf,
}

impl Cron {
    fn new() -> Cron {
        let env = TestEnv::new();
        fs::create_dir(env.path("bin")).unwrap();
        let fake = env.path("bin/crontab");
        fs::write(&fake, FAKE).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let base = env.path("100% of it's\\ here");
        let cron = Cron { env, base };
        cron.make(&cron.base);
        cron
    }

    fn make(&self, base: &Path) {
        let mut make = self.command("dw-mkfeed");
        let made = make.args(["t", "ts:timestamp", "-b"]).arg(base).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(cargo_bin(tool));
        let path = format!("{}:/usr/bin:/bin", self.env.path("bin").display());
        command.env("PATH", path).env("DEEPWATER_BASE", &self.base);
        command.current_dir(self.env.path("."));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command("dw-gc").args(args).output().unwrap()
    }

    /// Runs dw-gc, which must succeed and print nothing.
    fn good(&self, args: &[&str]) {
        let output = self.run(args);
        let said = text(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{args:?}: {said}");
        assert_eq!(text(&output.stdout), "");
    }

    fn fails(&self, args: &[&str], piece: &str) {
        let output = self.run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.starts_with("dw-gc: ") && said.contains(piece), "{args:?}: {said}");
    }

    fn table(&self) -> Vec<u8> {
        fs::read(self.env.path("bin/table")).unwrap_or_default()
    }

    fn set_table(&self, table: &[u8]) {
        fs::write(self.env.path("bin/table"), table).unwrap();
    }

    /// Returns our lines, without their newlines.
    fn lines(&self) -> Vec<String> {
        let table = text(&self.table());
        table.lines().filter(|line| line.ends_with("# deepwater")).map(str::to_owned).collect()
    }
}

/// Returns the table without our lines.
fn rest(table: &[u8]) -> Vec<u8> {
    let lines = table.split_inclusive(|b| *b == b'\n');
    lines.filter(|line| !line.ends_with(b" # deepwater\n")).collect::<Vec<_>>().concat()
}

#[test]
fn other_crontab_lines_stay_byte_for_byte() {
    let tables: [&[u8]; 9] = [
        b"",
        b"\n",
        b"MAILTO=me@example.org\n0 5 * * 1 tar -zcf /var/backups/home.tgz /home/\n",
        b"# a comment\r\n*/5 * * * * thing\r\n",
        b"0 1 * * * date +\\%Y-\\%m-\\%d%stdin\n\n\n   \n",
        b"0 1 * * * \xff\xfe\x80 # Gr\xfc\xdfe\n\x00\n",
        b"*/15 * * * * dw-gc --base-path /elsewhere # deepwaters\n# deepwater\n",
        b"*/15 * * * * '/x/dw-gc' --quiet --base-path '/another store' # deepwater\nX=1\n",
        b"0 0 * * * last line without an end",
    ];
    for table in tables {
        let mut cron = Cron::new();
        cron.set_table(table);
        let loose = !table.is_empty() && !table.ends_with(b"\n");
        if loose {
            // cron's own `crontab` cannot have stored such a table, and rejects it with this
            // reason.
            cron.fails(&["--install-cron"], "missing newline before EOF");
            assert_eq!(cron.table(), table);
            let fake = cron.env.path("bin/crontab");
            fs::write(&fake, FAKE.replace("$LOOSE", "yes")).unwrap();
        }
        let name = String::from_utf8_lossy(table).into_owned();
        let others = cron.lines().len();
        cron.good(&["--install-cron", "--interval", "15"]);
        assert_eq!(cron.lines().len(), others + 1, "{name:?}");
        assert_eq!(rest(&cron.table()), rest(table), "{name:?}");
        // Installing again with another interval replaces the line.
        let first = cron.table();
        cron.good(&["--install-cron", "--interval", "15"]);
        assert_eq!(cron.table(), first);
        cron.good(&["--install-cron", "--interval", "30"]);
        let own = |minutes: u32| format!("*/{minutes} * * * * '{}'", cargo_bin("dw-gc").display());
        assert_eq!(text(&cron.table()), text(&first).replace(&own(15), &own(30)));
        // Another store gets a line of its own.
        let base = std::mem::replace(&mut cron.base, cron.env.path("other"));
        cron.make(&cron.base);
        cron.good(&["--install-cron"]);
        cron.base = base;
        assert_eq!(cron.lines().len(), others + 2);
        cron.good(&["--uninstall-cron"]);
        assert_eq!(cron.lines().len(), others + 1);
        let other = cron.env.path("other");
        cron.good(&["--uninstall-cron", "--base-path", other.to_str().unwrap()]);
        assert_eq!(cron.table(), table, "{name:?}");
    }
}

#[test]
fn a_missing_crontab_is_created() {
    let cron = Cron::new();
    assert!(!cron.env.path("bin/table").exists());
    cron.good(&["--install-cron"]);
    let line = cron.lines().concat();
    assert!(line.starts_with("*/15 * * * * '/"), "{line}");
    cron.good(&["--uninstall-cron"]);
    assert_eq!(cron.table(), b"");
    // Uninstalling without a line is reported and succeeds.
    let output = cron.run(&["--uninstall-cron"]);
    assert!(output.status.success() && text(&output.stderr).contains("no line of the crontab"));
    let writes = fs::read_to_string(cron.env.path("bin/table.writes")).unwrap();
    assert_eq!(writes.lines().count(), 2, "a table that stays as it is is not written");
}

#[test]
fn the_crontab_line_runs_as_cron_runs_it() {
    let cron = Cron::new();
    cron.env.quiet(
        "export DEEPWATER_BASE=\"$PWD/100% of it's\\\\ here\"
         dw-mkfeed old ts:timestamp --retention 1s --chunk-size 64KiB
         seq 9000 | dw-write old --columns ts",
    );
    cron.good(&["--install-cron", "--interval", "60", "--min-free", "1KiB"]);
    let line = cron.lines().concat();
    let command = line.strip_prefix("0 * * * * ").expect("once an hour");
    assert!(command.contains(" --quiet --min-free 1024 --base-path "), "{command}");
    // cron(8): a percent sign ends the command unless a backslash escapes it; cron removes the
    // backslash.
    let bare = command.replace("\\%", "\0");
    assert!(!bare.contains('%'), "{command}");
    let command = bare.replace('\0', "%");
    let data = cron.base.join("feeds/old/00000001.data");
    until("the chunks to be collected", || {
        let mut shell = Command::new("env");
        shell.args(["-i", "HOME=/", "SHELL=/bin/sh", "/bin/sh", "-c", &command]).current_dir("/");
        let output = shell.output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success() && said.is_empty() && output.stdout.is_empty(), "{said}");
        (!data.exists()).then_some(())
    });
}

#[test]
fn a_store_has_one_line_whatever_path_names_it() {
    let cron = Cron::new();
    cron.env.quiet("ln -s \"100% of it's\\\\ here\" link; mkdir deep");
    cron.good(&["--install-cron", "-b", "deep/../link/"]);
    assert_eq!(cron.lines().len(), 1);
    cron.good(&["--install-cron", "--interval", "20"]);
    let lines = cron.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("*/20 "), "{lines:?}");
    cron.good(&["--uninstall-cron", "-b", "./link"]);
    assert_eq!(cron.lines().len(), 0);
    // This also works for a store that no longer exists.
    cron.good(&["--install-cron"]);
    fs::remove_dir_all(&cron.base).unwrap();
    cron.fails(&["--install-cron"], "not a Deepwater store");
    cron.good(&["--uninstall-cron"]);
    assert_eq!(cron.table(), b"");
}

#[test]
fn paths_that_are_not_utf8_are_accepted() {
    let mut cron = Cron::new();
    cron.base =
        cron.env.path("x").with_file_name(std::ffi::OsStr::from_bytes(b"caf\xe9 ' --base-path '%"));
    cron.make(&cron.base);
    cron.good(&["--install-cron"]);
    let table = cron.table();
    assert!(table.windows(4).any(|bytes| bytes == b"caf\xe9"));
    cron.good(&["--install-cron", "--interval", "1"]);
    assert!(cron.table().starts_with(b"* * * * * '/"));
    assert_eq!(cron.table().iter().filter(|b| **b == b'\n').count(), 1);
    cron.good(&["--uninstall-cron"]);
    assert_eq!(cron.table(), b"");
    cron.base = cron.env.path("line\nbreak");
    cron.make(&cron.base);
    cron.fails(&["--install-cron"], "line break");
}

#[test]
fn intervals_become_cron_fields_or_are_rejected() {
    let cron = Cron::new();
    for (minutes, fields) in [
        ("1", "* * * * * "),
        ("5", "*/5 * * * * "),
        ("30", "*/30 * * * * "),
        ("60", "0 * * * * "),
        ("120", "0 */2 * * * "),
        ("1440", "0 0 * * * "),
    ] {
        cron.good(&["--install-cron", "--interval", minutes]);
        let lines = cron.lines();
        assert!(lines.len() == 1 && lines[0].starts_with(fields), "{minutes}: {lines:?}");
    }
    let before = cron.table();
    for minutes in ["0", "7", "45", "90", "1500", "-1", "15m", "x"] {
        cron.fails(&["--install-cron", &format!("--interval={minutes}")], "minutes");
    }
    for args in [
        &["--install-cron", "--uninstall-cron"][..],
        &["--install-cron", "t"],
        &["--install-cron", "--dry-run"],
        &["--uninstall-cron", "--interval", "15"],
        &["--interval", "15"],
    ] {
        cron.fails(args, "--");
    }
    assert_eq!(cron.table(), before);
}

#[test]
fn a_crontab_that_cannot_be_read_is_left_alone() {
    let cron = Cron::new();
    cron.good(&["--install-cron"]);
    let before = cron.table();
    let fake = cron.env.path("bin/crontab");
    fs::write(&fake, "#!/bin/sh\necho 'you are not allowed to use this program' >&2; exit 1\n")
        .unwrap();
    cron.fails(&["--install-cron", "--interval", "1"], "not allowed");
    cron.fails(&["--uninstall-cron"], "not allowed");
    assert_eq!(cron.table(), before);
    fs::remove_file(&fake).unwrap();
    let output =
        cron.command("dw-gc").env("PATH", cron.env.path("bin")).arg("--install-cron").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is cron installed?"), "{}", text(&output.stderr));
}
