//! Tests that foreign text (descriptions, values, damaged files, names of directories) never
//! controls the user's terminal.

use std::fs;

use super::env::TestEnv;
use super::kit::text;

/// Sets the window title, clears the screen by a C1 control, reverses text.
const NASTY: &str = r"\u001b]0;owned\u0007\u001b[2J\u009b2J\u007f\u202e";

fn is_active(c: char) -> bool {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() && c != '\n' || reorders
}

/// Runs a script whose output on both streams must not control a terminal.
#[track_caller]
fn harmless(env: &TestEnv, script: &str) -> String {
    let output = env.bash(&format!("set +e\n{script}\ntrue")).output().expect("bash starts");
    let all = text(&output.stdout) + &text(&output.stderr);
    let active = all.lines().find(|line| line.contains(is_active));
    assert!(active.is_none(), "{script}: {active:?}");
    all
}

fn store() -> TestEnv {
    let env = TestEnv::new();
    let spec = format!(
        r#"{{"feed_name": "t", "ts_col": "ts", "fields": [
        {{"name": "ts", "type": "uint64", "desc": "{NASTY}"}},
        {{"name": "s", "type": "string32"}}, {{"name": "c", "type": "char"}}]}}"#
    );
    fs::write(env.path("spec.json"), spec).unwrap();
    env.quiet("dw-mkfeed --spec spec.json");
    env.quiet(r"printf '1,\033[2Jx\302\233\177\342\200\256,\033\n' | dw-write t --columns ts,s,c");
    env
}

#[test]
fn descriptions_and_values_are_escaped() {
    let env = store();
    let long = harmless(&env, "dw-ls -l");
    assert!(long.contains(r"\x1b]0;owned\x07") && long.contains(r"\u{202e}"), "{long}");
    for lang in ["c", "rust", "numpy", "arrow", "json"] {
        harmless(&env, &format!("dw-ls t --layout {lang}"));
    }
    harmless(&env, "dw-ls -l --json; dw-ls --chunks; dw-ls --sessions; dw-ls --gaps");
    harmless(&env, "dw-cat t -o table");
    let row = harmless(&env, "dw-cat t -o jsonl");
    assert!(row.contains(r"\u001b[2Jx\u009b\u007f\u202e"), "{row}");
    // JSON lines keep the value, as escapes; data formats keep the bytes.
    env.quiet("dw-mkfeed u ts:uint64 s:string32 c:char; dw-cat t | dw-write u");
    assert_eq!(env.quiet("dw-cat t -o csv; true"), env.quiet("dw-cat u -o csv; true"));
    assert!(env.quiet("dw-cat t -o csv").contains("\x1b[2Jx\u{9b}\u{7f}\u{202e}"));
}

#[test]
fn data_is_escaped_on_a_terminal_but_not_in_a_pipe() {
    let env = store();
    for format in ["csv", "tsv", "jsonl", "raw", "table"] {
        let script = format!("script -qec 'dw-cat t -o {format}' /dev/null </dev/null");
        let shown = env.quiet(&script).replace("\r\n", "\n");
        let active = shown.chars().find(|c| is_active(*c) && *c != '\t');
        assert!(active.is_none(), "{format}: {shown:?}");
        assert!(shown.contains("[2Jx"), "{format}: {shown:?}");
    }
}

#[test]
fn damaged_files_and_folders_are_named_with_escapes() {
    let env = store();
    let folder = env.base().join("feeds/t");
    for name in ["feed.json", "feed.copy.json"] {
        let spec = fs::read_to_string(folder.join(name)).unwrap();
        let mode = format!("\"{NASTY}mode\"");
        fs::write(folder.join(name), spec.replace("\"mode\"", &mode)).unwrap();
    }
    for tool in ["dw-repair --all --dry-run", "dw-health", "dw-ls", "dw-gc", "dw-cat t"] {
        harmless(&env, tool);
    }
    harmless(&env, "dw-health --json");
    let unborn = env.base().join("feeds/.new-\x1b[2J\u{9b}");
    fs::create_dir(unborn).unwrap();
    let planned = harmless(&env, "dw-gc --dry-run");
    assert!(planned.contains(r".new-\x1b[2J\x9b"), "{planned}");
    harmless(&env, "dw-gc; dw-gc --json --dry-run");
    harmless(&env, r"dw-cat $'no\e[2J'; dw-ls $'no\e[2J'; dw-mkfeed $'no\e[2J' ts:timestamp");
}

#[test]
fn control_characters_in_field_names_are_rejected() {
    let env = TestEnv::new();
    for name in [r"a\u001b[2J", r"a\u009b", r"a\u007f", r"a\u202eb", r"a\u2066"] {
        let spec = format!(
            r#"{{"feed_name": "u", "ts_col": "ts", "fields": [
            {{"name": "ts", "type": "uint64"}}, {{"name": "{name}", "type": "uint8"}}]}}"#
        );
        fs::write(env.path("spec.json"), spec).unwrap();
        let said = harmless(&env, "dw-mkfeed --spec spec.json; echo status $?");
        assert!(said.contains("control characters") && said.contains("status 2"), "{said}");
    }
}
