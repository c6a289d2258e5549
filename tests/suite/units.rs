//! Tests of what runs a capture in production: the systemd unit and the documented cron lines.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::env::{TestEnv, document_block, repository, repository_text};
use super::kit::{good, not_run, objects, text, until};

const UNIT: &str = "scripts/systemd/deepwater-capture@.service";

#[test]
fn systemd_accepts_the_units() {
    let units: Vec<_> = fs::read_dir(repository("scripts/systemd")).unwrap().flatten().collect();
    assert!(!units.is_empty());
    for unit in units {
        let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(unit.path()).output()
        else {
            not_run("systemd-analyze verify (it is not here)");
            return;
        };
        let said = text(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", unit.path().display());
    }
}

/// Returns the value of a key of the unit.
fn setting(key: &str) -> String {
    let unit = repository_text(UNIT);
    let found = unit.lines().filter_map(|line| line.strip_prefix(&format!("{key}=")));
    found.collect::<Vec<_>>().join("\n")
}

/// Returns the shell command of ExecStart, as systemd passes it on.
fn shell_line() -> String {
    let start = setting("ExecStart");
    let line = start.strip_prefix("/bin/sh -c '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
    line.replace("%i", "trades").replace("$$", "$")
}

/// Runs the unit's own command on a source that speaks TCP. Rows arrive, the source may hang up,
/// and stopping the whole group seals what arrived.
#[test]
fn the_unit_records_what_a_source_sends() {
    assert!(setting("Restart") == "always" && setting("StartLimitIntervalSec") == "0");
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp price:float64");
    // A netcat with the features used here.
    fs::create_dir(env.path("bin")).unwrap();
    let nc = env.path("bin/nc");
    fs::write(&nc, "#!/bin/bash\nexec cat <\"/dev/tcp/$1/$2\"\n").unwrap();
    fs::set_permissions(&nc, fs::Permissions::from_mode(0o755)).unwrap();
    let source = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = source.local_addr().unwrap().port().to_string();
    let tools = assert_cmd::cargo::cargo_bin("dw-write");
    let path = format!(
        "{}:{}:/usr/bin:/bin",
        env.path("bin").display(),
        tools.parent().unwrap().display()
    );
    let start = || {
        let mut command = Command::new("env");
        command.args(["-i", "--default-signal=INT,HUP,TERM"]).arg(format!("PATH={path}"));
        command.arg(format!("DEEPWATER_BASE={}", env.base().display()));
        command.arg(format!("DEEPWATER_SHM={}", env.shm().display()));
        command.args(["HOST=127.0.0.1", &format!("PORT={port}"), "OPTIONS=--columns ts,price"]);
        command.args(["/bin/sh", "-c", &shell_line()]).stdin(Stdio::null()).process_group(0);
        command.spawn().expect("the unit's command starts")
    };
    let records = |n: usize| {
        until("the records", || {
            let rows = good(&env, "dw-cat", &["trades", "-o", "csv", "--no-header"]);
            (rows.lines().count() == n).then_some(())
        });
    };
    let mut unit = start();
    let (mut to, _) = source.accept().unwrap();
    to.write_all(b"1,1.5\n2,2.5\n").unwrap();
    records(2);
    drop(to);
    let ended = until("the end", || unit.try_wait().unwrap());
    assert!(ended.success(), "the source hung up: {ended}");
    let mut unit = start();
    let (mut to, _) = source.accept().unwrap();
    to.write_all(b"3,3.5\n").unwrap();
    records(3);
    let group = format!("-{}", unit.id());
    let stopped = Command::new("kill").args(["-s", "TERM", "--", &group]).status().unwrap();
    assert!(stopped.success());
    until("the end", || unit.try_wait().unwrap());
    until("dw-write's end", || {
        let feed = objects(&env, "dw-ls", &["--json"]).remove(0);
        (feed["state"] == "idle").then_some(())
    });
    let reasons: Vec<String> = objects(&env, "dw-ls", &["--sessions", "--json"])
        .iter()
        .map(|session| session["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons[0], "ended");
    // The writer gets both the end of input and the signal; the reason is whichever comes first.
    assert!(reasons.len() == 2 && ["ended", "signal"].contains(&&*reasons[1]), "{reasons:?}");
}

/// Returns the lines of the document's block with this mark, without comments and blank lines.
fn block(mark: &str) -> Vec<String> {
    let block = document_block(mark);
    let lines = block.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Runs a line of /etc/cron.d as cron does, on the test's store and tools.
fn cron(env: &TestEnv, line: &str, metrics: &Path) -> (i32, String) {
    let fields: Vec<&str> = line.splitn(7, ' ').collect();
    let (when, user, command) = (&fields[..5], fields[5], fields[6]);
    let right = |field: &&str| field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
    assert!(when.iter().all(right), "{line}");
    assert_eq!(user, "deepwater", "{line}");
    assert!(!command.contains('%'), "cron would cut it there: {line}");
    let tools = assert_cmd::cargo::cargo_bin("dw-health").parent().unwrap().display().to_string();
    let command = command
        .replace("/usr/local/bin", &tools)
        .replace("/var/lib/deepwater", &env.base().display().to_string())
        .replace("/var/lib/prometheus/node-exporter", &metrics.display().to_string());
    let mut shell = Command::new("env");
    shell.args(["-i", "HOME=/", "PATH=/usr/bin:/bin", "/bin/sh", "-c", &command]);
    let output = shell.output().unwrap();
    assert_eq!(text(&output.stderr), "", "{command}");
    (output.status.code().unwrap(), text(&output.stdout))
}

#[test]
fn documented_cron_lines_work() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp; echo 1 | dw-write trades --columns ts");
    let metrics = env.path("metrics");
    fs::create_dir(&metrics).unwrap();
    let lines = block("cron");
    assert_eq!(lines.len(), 2, "{lines:?}");
    let told = |line: &str| cron(&env, line, &metrics);
    assert_eq!(told(&lines[0]), (0, String::new()), "cron mails what is printed");
    assert_eq!(told(&lines[1]).1, "");
    let found = |wanted: &str| {
        let names: Vec<_> =
            fs::read_dir(&metrics).unwrap().flatten().map(|i| i.file_name()).collect();
        assert_eq!(names, ["deepwater.prom"], "nothing half made is left");
        fs::read_to_string(metrics.join("deepwater.prom")).unwrap().contains(wanted)
    };
    assert!(found("deepwater_health_status") && found("} 0\n"));
    fs::remove_file(env.base().join("feeds/trades/00000001.data")).unwrap();
    let (code, said) = told(&lines[0]);
    assert!(code == 1 && said.contains("UNHEALTHY  chunks"), "{code}: {said}");
    assert_eq!(told(&lines[1]).1, "");
    assert!(found("check=\"chunks\",feed=\"trades\"} 0\n"));
}
