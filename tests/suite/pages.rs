//! Tests of the man pages: their examples run unchanged, and the pages are valid.

use std::process::Command;

use deepwater_tools::TOOLS;

use super::env::{TestEnv, repository};
use super::kit::text;

#[test]
fn examples_run_in_order_in_an_empty_store() {
    for tool in TOOLS {
        let env = TestEnv::new();
        for (command, what) in tool.page.examples {
            let needs_jq = command.contains("jq ");
            let jq = Command::new("jq").arg("--version").output().is_ok_and(|o| o.status.success());
            assert!(jq || !needs_jq, "jq is not installed, and an example needs it: {command}");
            let output = env.sh(command);
            let said = text(&output.stderr);
            let name = tool.page.name;
            assert!(
                output.status.success(),
                "{name}: {what}: {}\n{command}\n{said}",
                output.status
            );
            // Notes, such as the reasons of a proposal, are not failures.
            let failed = ["rejected", "cannot", "error"].iter().any(|word| said.contains(word));
            assert!(!failed, "{name}: {what}: {said}");
        }
    }
}

#[test]
fn examples_print_what_they_say() {
    let env = TestEnv::new();
    let run = |env: &TestEnv, name: &str| -> Vec<String> {
        let tool = TOOLS.iter().find(|t| t.page.name == name).expect("a tool of this build");
        tool.page.examples.iter().map(|(command, _)| text(&env.sh(command).stdout)).collect()
    };
    run(&env, "dw-write");
    let rows = env.quiet("dw-cat trades -o csv --no-header");
    // The last example copies the feed into itself.
    let first = [
        "1700000000000000,42.5,3.0,B",
        "1700000001500000,42.25,1.0,S",
        "1700000002000000,42.5,1.0,B",
        "1700000002000000,42.4,2.0,B",
    ];
    let wanted: Vec<&str> = first.iter().chain(&first).copied().collect();
    assert_eq!(rows.lines().collect::<Vec<_>>(), wanted);
    let said = run(&TestEnv::new(), "dw-cat");
    let day = "ts,price,side\n1700000000000000,42.5,B\n1700000060000000,42.75,S\n";
    assert_eq!(said[2], day);
    assert_eq!(
        said[3],
        "{\"ts\":\"2023-11-14T22:14:20.000000Z\",\"price\":42.75,\"side\":\"S\"}\n"
    );
    assert_eq!(said[4], "{\"ts\":1700000000000000,\"price\":42.5}\n");
}

#[test]
fn pages_have_their_sections() {
    for tool in TOOLS {
        let path = repository("man").join(format!("{}.1", tool.page.name));
        let page = std::fs::read_to_string(&path).expect("the page is committed");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT"]
            .iter()
            .chain(&["FILES", "EXAMPLES"])
        {
            let bare = page.contains(&format!("\n.SH {section}\n"));
            let quoted = page.contains(&format!("\n.SH \"{section}\"\n"));
            assert!(bare || quoted, "{}: no {section}", path.display());
        }
    }
}

#[test]
fn mandoc_has_no_warnings() {
    let folder = std::fs::read_dir(repository("man")).expect("the pages are committed");
    for page in folder {
        let path = page.expect("the folder can be read").path();
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path).output();
        let Ok(lint) = lint else {
            eprintln!("NOT RUN: mandoc is not here");
            return;
        };
        assert!(lint.status.success(), "{}", text(&lint.stdout));
    }
}
