//! Tests of Unix conventions that all tools follow: closed, full and abandoned streams, which
//! stream gets what, exit statuses, help, colour, signals.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use super::env::TestEnv;
use super::kit::{Running, good, objects, text, until};

const TOOLS: [&str; 5] = ["dw-mkfeed", "dw-write", "dw-cat", "dw-ls", "dw-gc"];

/// Creates a store with `trades` and three records.
fn store() -> TestEnv {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp price:float64 side:char");
    env.quiet("printf 'ts,price,side\\n1,1.5,B\\n2,2.5,S\\n3,3.5,B\\n' | dw-write trades");
    env
}

/// Creates a store whose feed prints far more than a pipe and our buffer hold.
fn large() -> TestEnv {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed trades ts:timestamp price:float64 side:char");
    env.quiet("seq 200000 | sed 's/$/,1.5,B/' | dw-write trades");
    env
}

/// Runs a script; returns exit status, stdout and stderr.
fn sh(env: &TestEnv, script: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = env.sh(script);
    let code = status.code().unwrap_or_else(|| panic!("{script}: {status}"));
    (code, text(&stdout), text(&stderr))
}

/// Runs a script that must fail with status 2 and one line from that tool that contains all of
/// these.
fn fails(env: &TestEnv, script: &str, tool: &str, pieces: &[&str]) -> String {
    let (code, out, err) = sh(env, script);
    assert_eq!(code, 2, "{script}: {err}");
    assert_eq!(out, "", "{script}");
    assert!(err.starts_with(&format!("{tool}: ")), "{script}: {err}");
    assert_eq!(err.lines().count(), 1, "{script}: {err}");
    for piece in pieces {
        assert!(err.contains(piece), "{script}: no {piece:?} in {err}");
    }
    err
}

#[test]
fn a_reader_that_leaves_is_not_an_error() {
    let env = large();
    for format in ["jsonl", "csv", "tsv", "table", "raw", "npy"] {
        let cat =
            format!("dw-cat trades -o {format} | head -c 100 >/dev/null; echo ${{PIPESTATUS[*]}}");
        let (code, out, err) = sh(&env, &format!("set +o pipefail; {cat}"));
        assert_eq!((code, out.as_str(), err.as_str()), (0, "0 0\n", ""), "{format}");
    }
    for command in
        ["dw-cat trades -r", "dw-cat trades --where 'price>1'", "dw-cat trades -n +150000"]
    {
        let script = format!("{command} | head -1 >/dev/null; echo ${{PIPESTATUS[*]}}");
        let (_, out, err) = sh(&env, &format!("set +o pipefail; {script}"));
        assert_eq!((out.as_str(), err.as_str()), ("0 0\n", ""), "{command}");
    }
    // If the reader leaves before the first byte, a tool with little output does not fail either.
    let commands = ["dw-cat trades -n 1", "dw-ls", "dw-ls --json", "dw-ls -l", "dw-mkfeed --help"]
        .iter()
        .chain(&["dw-write --help", "dw-cat --version", "dw-mkfeed x ts:timestamp --dry-run"]);
    for command in commands {
        let gone = format!("{{ sleep 0.05; {command}; echo $? >&2; }} | true");
        let (_, _, err) = sh(&env, &format!("set +eo pipefail; {gone}"));
        assert_eq!(err, "0\n", "{command}");
    }
}

#[test]
fn a_full_stdout_is_an_error() {
    let env = store();
    let printing = [
        ("dw-cat", "dw-cat trades"),
        ("dw-cat", "dw-cat trades -o raw"),
        ("dw-cat", "dw-cat trades -o npy"),
        ("dw-cat", "dw-cat trades -o csv --since 2030-01-01Z"),
        ("dw-ls", "dw-ls"),
        ("dw-ls", "dw-ls --json"),
        ("dw-ls", "dw-ls --chunks --sessions"),
        ("dw-ls", "dw-ls --layout c"),
        ("dw-ls", "dw-ls --names"),
        ("dw-mkfeed", "dw-mkfeed x ts:timestamp --dry-run"),
    ];
    let asked = TOOLS.iter().flat_map(|tool| {
        ["--help", "-h", "--version"].map(|option| (*tool, format!("{tool} {option}")))
    });
    let all = printing.iter().map(|(tool, command)| (*tool, (*command).to_owned())).chain(asked);
    for (tool, command) in all {
        fails(&env, &format!("{command} > /dev/full"), tool, &["stdout", "No space left"]);
        fails(&env, &format!("{command} >&-"), tool, &["stdout", "closed"]);
        // Programs that start others, as Python does, open /dev/null for reading and writing.
        for null in ["> /dev/null", "1<> /dev/null"] {
            let (code, _, err) = sh(&env, &format!("{command} {null}"));
            assert_eq!((code, err.as_str()), (0, ""), "{command} {null}");
        }
    }
}

#[test]
fn tools_without_output_need_no_stdout() {
    let env = store();
    for stdout in [">&-", "> /dev/full"] {
        for command in [
            "dw-mkfeed trades ts:timestamp price:float64 side:char",
            "echo 4,4.5,B | dw-write trades",
            "dw-cat trades --since 2030-01-01Z",
        ] {
            let (code, _, err) = sh(&env, &format!("{command} {stdout}"));
            assert_eq!((code, err.as_str()), (0, ""), "{command} {stdout}");
        }
        // Acknowledgements cannot be printed, and that is reported; but the row is written first.
        let script = format!("echo 5,5.5,B | dw-write trades --ack {stdout}");
        fails(&env, &script, "dw-write", &["stdout"]);
    }
    assert_eq!(good(&env, "dw-cat", &["trades", "--seq", "3.."]).lines().count(), 4);
}

#[test]
fn only_tools_that_read_need_stdin_and_none_needs_stderr() {
    let env = store();
    fails(&env, "dw-write trades <&-", "dw-write", &["stdin is closed"]);
    fails(&env, "dw-mkfeed x --infer <&-", "dw-mkfeed", &["stdin is closed"]);
    fails(&env, "dw-mkfeed --spec - <&-", "dw-mkfeed", &["stdin is closed"]);
    assert_eq!(objects(&env, "dw-ls", &["--sessions", "--json"]).len(), 1, "no session was opened");
    // Empty input is input without rows.
    assert_eq!(sh(&env, "dw-write trades < /dev/null").0, 0);
    assert_eq!(sh(&env, "dw-write trades 0<> /dev/null").0, 0);
    // Tools that read nothing need no stdin, and no tool needs stderr.
    assert_eq!(sh(&env, "dw-cat trades <&- | wc -l"), (0, "3\n".into(), String::new()));
    assert_eq!(sh(&env, "echo x,1,B | dw-write trades 2>&-").0, 1);
    assert_eq!(sh(&env, "dw-cat nope 2>&-").0, 2);
    assert_eq!(sh(&env, "dw-cat nope 2>/dev/full").0, 2);
}

#[test]
fn unknown_feeds_are_errors() {
    let env = store();
    let base = env.base();
    let pieces = ["nope", base.to_str().expect("a path in UTF-8")];
    for (tool, command) in [
        ("dw-write", "echo 1,1,B | dw-write nope"),
        ("dw-write", "echo 1,1,B | dw-write --feed nope"),
        ("dw-cat", "dw-cat nope"),
        ("dw-cat", "dw-cat --feed nope -o npy"),
        ("dw-ls", "dw-ls nope"),
        ("dw-ls", "dw-ls trades nope --json"),
        ("dw-ls", "dw-ls --names nope"),
        ("dw-gc", "dw-gc nope"),
        ("dw-gc", "dw-gc trades nope --dry-run"),
        ("dw-mkfeed", "dw-mkfeed --delete --yes nope"),
        ("dw-mkfeed", "dw-mkfeed --delete --yes trades nope"),
    ] {
        fails(&env, command, tool, &pieces);
    }
    assert_eq!(good(&env, "dw-ls", &["--names"]), "trades\n", "nothing was deleted on the way");
}

#[test]
fn missing_and_invalid_stores_are_errors() {
    let env = store();
    fs::create_dir(env.path("other")).unwrap();
    fs::write(env.path("other/letter.txt"), "dear").unwrap();
    fs::write(env.path("file"), "x").unwrap();
    fs::create_dir(env.path("empty")).unwrap();
    for (tool, command) in [
        ("dw-write", "echo 1,1,B | dw-write trades"),
        ("dw-cat", "dw-cat trades"),
        ("dw-ls", "dw-ls"),
        ("dw-gc", "dw-gc"),
        ("dw-gc", "dw-gc --install-cron"),
        ("dw-mkfeed", "dw-mkfeed --delete --yes trades"),
    ] {
        for place in ["missing", "missing/deeper", "empty", "other"] {
            let script = format!("{command} -b {place}");
            fails(&env, &script, tool, &[place, "dw-mkfeed"]);
            fails(&env, &format!("export DEEPWATER_BASE={place}; {command}"), tool, &[place]);
        }
        fails(&env, &format!("{command} -b file"), tool, &["file"]);
        fails(&env, &format!("{command} -b ''"), tool, &["--base-path"]);
    }
    let make = "dw-mkfeed trades ts:timestamp -b";
    fails(&env, &format!("{make} file"), "dw-mkfeed", &["file"]);
    assert_eq!(fs::read_dir(env.path("other")).unwrap().count(), 1, "left as it was");
    assert_eq!(sh(&env, &format!("{make} other")).0, 0);
    assert_eq!(fs::read_to_string(env.path("other/letter.txt")).unwrap(), "dear");
    assert_eq!(sh(&env, &format!("{make} empty")).0, 0, "an empty directory becomes a store");
    let nowhere = "unset DEEPWATER_BASE HOME; dw-ls";
    fails(&env, nowhere, "dw-ls", &["--base-path", "DEEPWATER_BASE"]);
}

#[test]
fn the_default_store_is_in_the_home_directory() {
    let env = TestEnv::new();
    env.quiet(
        "unset DEEPWATER_BASE; export HOME=$PWD/home; dw-mkfeed trades ts:timestamp
         dw-ls >/dev/null",
    );
    assert!(env.path("home/.local/share/deepwater").is_dir());
    env.quiet("unset DEEPWATER_BASE; export XDG_DATA_HOME=$PWD/xdg; dw-mkfeed trades ts:timestamp");
    assert!(env.path("xdg/deepwater").is_dir());
}

#[test]
fn help_and_version_go_to_stdout_and_succeed() {
    let env = TestEnv::new();
    for tool in TOOLS {
        assert_eq!(good(&env, tool, &["--version"]), format!("{tool} 0.1.0\n"));
        assert_eq!(good(&env, tool, &["-V"]), format!("{tool} 0.1.0\n"));
        let (long, short) = (good(&env, tool, &["--help"]), good(&env, tool, &["-h"]));
        assert!(long.contains("Examples:") && long.contains("Exit status:"), "{long}");
        assert!(short.len() < long.len() && short.contains("Usage: "), "{short}");
        assert!(!long.contains('\x1b') && !short.contains('\x1b'), "colour in a pipe");
        assert_eq!(sh(&env, &format!("{tool} --help | head -1 | wc -l")).2, "");
        // --help is answered even among other words, before anything is done.
        assert_eq!(good(&env, tool, &["some", "--help"]), long);
    }
    assert!(!env.base().exists(), "asking makes no store");
}

#[test]
fn wrong_usage_exits_2_with_one_line() {
    let env = store();
    for tool in TOOLS {
        let said = fails(&env, &format!("{tool} trades --nope"), tool, &["--nope"]);
        assert!(said.contains(&format!("{tool} --help")), "{said}");
        fails(&env, &format!("{tool} trades -Z"), tool, &["-Z"]);
        fails(&env, &format!("{tool} trades --color pink"), tool, &["pink", "auto, always, never"]);
        fails(&env, &format!("{tool} trades --base-path"), tool, &["--base-path"]);
        fails(&env, &format!("{tool} trades -q -v"), tool, &["--quiet", "--verbose"]);
    }
    fails(&env, "dw-cat", "dw-cat", &["FEED"]);
    fails(&env, "dw-write </dev/null", "dw-write", &["FEED"]);
    fails(&env, "dw-mkfeed", "dw-mkfeed", &["feed"]);
    for (tool, command, piece) in [
        ("dw-cat", "dw-cat trades --since 12345", "@12345"),
        ("dw-cat", "dw-cat trades --since 'last tuesday'", "last tuesday"),
        ("dw-cat", "dw-cat trades -o xml", "xml"),
        ("dw-cat", "dw-cat trades --fields ts,nope", "nope"),
        ("dw-cat", "dw-cat trades --where nope=1", "nope"),
        ("dw-cat", "dw-cat trades --where price=x", "price"),
        ("dw-cat", "dw-cat trades -n x", "'x'"),
        ("dw-cat", "dw-cat trades --seq 5", "100..200"),
        ("dw-cat", "dw-cat trades --tz Mars/Olympus", "Mars/Olympus"),
        ("dw-write", "echo | dw-write trades --map nope=1", "nope"),
        ("dw-write", "echo | dw-write trades --format xml", "xml"),
        ("dw-write", "echo | dw-write trades --mark-when nope=1", "nope"),
        ("dw-write", "echo | dw-write trades --mark-every 0", "0"),
        ("dw-write", "echo | dw-write trades --ts-unit hours", "hours"),
        ("dw-write", "echo | dw-write trades --sync soon", "soon"),
        ("dw-write", "echo | dw-write trades --format raw --columns ts", "raw records"),
        ("dw-write", "echo | dw-write trades --format csv --explode /x", "JSON"),
        ("dw-write", "dw-write trades missing.csv", "missing.csv"),
        ("dw-write", "dw-write trades .", "is a folder"),
        ("dw-write", "echo | dw-write trades --rejects /nope/file", "/nope/file"),
        ("dw-write", "echo | dw-write trades --create missing.json", "missing.json"),
        ("dw-mkfeed", "dw-mkfeed x ts:timestamp --chunk-size 64M", "MiB"),
        ("dw-mkfeed", "dw-mkfeed x ts:timestamp --chunk-size 1KiB", "64KiB"),
        ("dw-mkfeed", "dw-mkfeed x ts:timestamp --retention 1M", "month"),
        ("dw-mkfeed", "dw-mkfeed x ts:timestamp price:money", "money"),
        ("dw-mkfeed", "dw-mkfeed x price:float64", "--ts"),
        ("dw-mkfeed", "dw-mkfeed trades ts:timestamp price:float32", "price"),
        (
            "dw-mkfeed",
            "dw-mkfeed trades ts:timestamp price:float64 side:char --order clamp",
            "--update",
        ),
        ("dw-cat", "dw-cat trades -n -5", "+N (the first N)"),
        ("dw-ls", "dw-ls --layout cobol", "cobol"),
        ("dw-gc", "dw-gc --min-free 1M", "MiB"),
        ("dw-gc", "dw-gc --interval 15", "--install-cron"),
    ] {
        fails(&env, command, tool, &[piece]);
    }
    assert_eq!(objects(&env, "dw-ls", &["--sessions", "--json"]).len(), 1, "no session was opened");
}

#[test]
fn binary_input_is_rejected_as_a_whole() {
    let env = store();
    let rows = "printf 'ts,price,side\\n4,4.5,S\\n'";
    for (through, piece) in [("gzip", "gzip -dc"), ("iconv -t UTF-16", "iconv -f UTF-16")] {
        let said =
            fails(&env, &format!("{rows} | {through} | dw-write trades"), "dw-write", &[piece]);
        assert!(said.starts_with("dw-write: stdin: this is "), "{said}");
        let asked = format!("{rows} | {through} > rows; dw-write trades --format csv rows");
        fails(&env, &asked, "dw-write", &["rows: this is ", piece]);
        let infer = format!("{rows} | {through} | dw-mkfeed x --infer");
        fails(&env, &infer, "dw-mkfeed", &["the sample: this is ", piece]);
    }
    assert_eq!(good(&env, "dw-cat", &["trades"]).lines().count(), 3);
}

#[test]
fn colour_follows_option_environment_and_terminal() {
    let env = store();
    let coloured = |script: &str| {
        let (_, out, err) = sh(&env, &format!("set +e; {script}; true"));
        (out.contains('\x1b'), err.contains('\x1b'))
    };
    for tool in TOOLS {
        assert_eq!(coloured(&format!("{tool} nope --nope")), (false, false), "{tool}");
        assert_eq!(
            coloured(&format!("{tool} nope --nope --color always")),
            (false, true),
            "{tool}"
        );
        assert_eq!(coloured(&format!("{tool} --color=always --help")), (true, false), "{tool}");
        assert_eq!(coloured(&format!("{tool} --color never --help")), (false, false), "{tool}");
    }
    assert_eq!(coloured("dw-ls; dw-ls -l; dw-cat trades -o table"), (false, false));
    // Stdout and stderr are decided separately: here stderr is a terminal and stdout a pipe.
    let on_terminal = |before: &str| {
        let inner = format!("{before} dw-cat nope");
        let script = format!("script -qec \"{inner}\" /dev/null </dev/null");
        let (_, out, _) = sh(&env, &format!("set +e; export TERM=xterm; {script}; true"));
        assert!(out.contains("nope"), "{out}");
        out.contains('\x1b')
    };
    assert!(on_terminal(""), "colour on a terminal");
    assert!(!on_terminal("NO_COLOR=1"));
    assert!(on_terminal("NO_COLOR="), "an empty NO_COLOR is none");
    assert!(!on_terminal("TERM=dumb"));
}

#[test]
fn successful_commands_print_no_messages() {
    let env = TestEnv::new();
    for script in [
        "dw-mkfeed trades ts:timestamp price:float64",
        "dw-mkfeed trades ts:timestamp price:float64",
        "printf 'ts,price\\n1,1\\n' | dw-write trades",
        "printf 'ts,price\\n1,1\\n' > f; dw-write trades f",
        "dw-cat trades -o table | cat >/dev/null",
        "dw-ls | cat >/dev/null",
        "dw-gc",
        "dw-mkfeed --delete --yes trades",
    ] {
        assert_eq!(env.quiet(script), "", "{script}");
    }
}

#[test]
fn invalid_feed_names_are_rejected() {
    let env = store();
    for name in ["Trades\u{e9}", "a/b", "..", ".hidden", "a b", "", &"x".repeat(200)] {
        let script = format!("dw-mkfeed '{name}' ts:timestamp");
        let said = fails(&env, &script, "dw-mkfeed", &["name"]);
        assert!(said.len() < 500, "{said}");
    }
    // Names that look like options, after -- and --feed, are unknown feeds and not unknown options.
    for (tool, command) in [
        ("dw-cat", "dw-cat -- -odd"),
        ("dw-write", "echo 1,1,B | dw-write -- -odd"),
        ("dw-ls", "dw-ls -- -odd"),
        ("dw-gc", "dw-gc -- -odd"),
        ("dw-cat", "dw-cat --feed=-odd"),
        ("dw-mkfeed", "dw-mkfeed --delete --yes -- -odd"),
    ] {
        fails(&env, command, tool, &["-odd"]);
    }
    assert_eq!(env.quiet("dw-cat --feed trades -n 1"), env.quiet("dw-cat trades -n 1"));
    assert_eq!(env.quiet("dw-ls --names --feed trades -- trades"), "trades\n");
    env.quiet("echo 4,4.5,S > ./-rows.csv; dw-write --feed trades -- -rows.csv");
    assert_eq!(env.quiet("dw-cat trades -n 1 -o csv --no-header"), "4,4.5,S\n");
    env.quiet("dw-mkfeed --feed more ts:timestamp price:float64");
    assert_eq!(env.quiet("dw-ls --names"), "more\ntrades\n");
}

#[test]
fn delete_asks_first() {
    let env = store();
    fails(&env, "dw-mkfeed --delete trades </dev/null", "dw-mkfeed", &["--yes", "trades"]);
    fails(&env, "echo y | dw-mkfeed --delete trades", "dw-mkfeed", &["--yes"]);
    fails(&env, "dw-mkfeed --delete", "dw-mkfeed", &["which feeds"]);
    let asked = |answer: &str| {
        let script = format!(
            "set +eo pipefail; (sleep 0.2; echo {answer}) | \
             script -qec 'dw-mkfeed --delete trades' /dev/null"
        );
        sh(&env, &script)
    };
    let (code, said, _) = asked("n");
    assert!(code == 1 && said.contains("its 3 records? [y/N]") && said.contains("kept"), "{said}");
    assert_eq!(env.quiet("dw-ls --names"), "trades\n");
    assert_eq!(asked("yes").0, 0);
    assert_eq!(env.quiet("dw-ls --names"), "");
}

#[test]
fn a_second_writer_is_refused_and_told_the_pid() {
    let env = store();
    let mut first = Running::start(&env, &["trades"]);
    first.send("ts,price,side\n4,4.5,S\n");
    until("the first writer's row", || {
        (env.quiet("dw-cat trades").lines().count() == 4).then_some(())
    });
    let pid = first.pid().to_string();
    fails(&env, "echo 5,5,B | dw-write trades", "dw-write", &[&pid, "trades"]);
    fails(&env, "dw-mkfeed --delete --yes trades", "dw-mkfeed", &[&pid, "trades"]);
    let listed = env.quiet("dw-ls trades");
    assert!(listed.contains(&format!("writing, pid {pid}")), "{listed}");
    let (out, err) = first.finish();
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
    assert_eq!(env.quiet("echo 5,5,B | dw-write trades; dw-cat trades").lines().count(), 5);
}

#[test]
fn a_signal_ignored_at_start_stays_ignored() {
    let env = store();
    // As under nohup. The shell continues only once dw-write has taken the row after the signal.
    let script = "trap '' HUP
        { echo ts,price,side; echo 4,4.5,S
          while [ $(dw-cat trades | wc -l) -lt 4 ]; do :; done
          kill -s HUP $(dw-ls --json | jq .pid); echo 5,5.5,S; } | dw-write trades
        dw-cat trades | wc -l";
    assert_eq!(env.quiet(script).trim(), "5");
}

#[test]
fn signals_end_a_session_cleanly() {
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let env = store();
        let mut writer = Running::start(&env, &["trades"]);
        writer.send("ts,price,side\n4,4.5,S\n5,5.5,S\n6,6.5");
        until("two rows", || (env.quiet("dw-cat trades").lines().count() == 5).then_some(()));
        writer.signal(name);
        let status = writer.wait();
        assert_eq!(status.signal(), Some(number), "{name}: {status}");
        assert_eq!(writer.err(), "", "{name}");
        assert_eq!(env.quiet("dw-cat trades").lines().count(), 5, "{name}");
        let sessions = objects(&env, "dw-ls", &["--sessions", "--json"]);
        assert_eq!(sessions[1]["reason"], "signal", "{name}: {}", sessions[1]);
        assert_eq!(sessions[1]["seq_hi"], 5, "{name}");
        // The next writer starts at once, and no chunk was left open.
        assert_eq!(env.quiet("echo 6,6.5,S | dw-write trades; dw-cat trades").lines().count(), 6);
        for chunk in objects(&env, "dw-ls", &["--chunks", "--json"]) {
            assert_eq!(chunk["ended"], "closed", "{name}: {chunk}");
        }
    }
}

#[test]
fn rows_before_an_error_are_kept() {
    let env = store();
    env.quiet("echo 4,4.5,S > a.csv; printf 'ts,price,price,side\\n5,5,5,S\\n' > b.csv");
    fails(&env, "dw-write trades a.csv b.csv", "dw-write", &["\"price\""]);
    assert_eq!(good(&env, "dw-cat", &["trades"]).lines().count(), 4);
    assert_eq!(objects(&env, "dw-ls", &["--sessions", "--json"])[1]["reason"], "error");
}
