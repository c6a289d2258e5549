//! Tests of limits that a user or a service manager sets: address space and size of files. And of
//! times beyond the clock.

use super::env::TestEnv;

/// Runs each tool once, on a feed on disk, a staged feed and a ring, within this address space.
const TOOLS: &str = r#"
ulimit -v 600000
dw-mkfeed disk ts:uint64 n:uint64
dw-mkfeed staged ts:uint64 n:uint64 --stage shm
dw-mkfeed ring ts:uint64 n:uint64 --ring=1MiB
for feed in disk staged ring; do
    printf '1,1\n2,2\n' | dw-write $feed --header no
    printf '3,3\n' | dw-write $feed --header no
    dw-cat $feed -o csv --no-header
done
dw-ls >/dev/null; dw-ls --chunks >/dev/null; dw-gc --dry-run; dw-gc
dw-health --min-free 1KiB >/dev/null; dw-repair --all --dry-run; dw-repair --all
dw-cat disk staged -o csv --no-header --fields n
"#;

#[test]
fn every_tool_works_in_600_megabytes_of_address_space() {
    let env = TestEnv::new();
    let printed = env.quiet(TOOLS);
    let rows = "1,1\n2,2\n3,3\n";
    assert!(printed.starts_with(&rows.repeat(3)), "{printed}");
}

#[test]
fn a_follower_reads_a_table_that_outgrows_its_mapping() {
    // Every session and chunk is an entry, so the table outgrows its first 64 KiB.
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:uint64 n:uint64 --chunk-size 64KiB");
    let script = "ulimit -v 600000
        seq 0 1 3000000 | awk '{print $1\",\"$1}' | dw-write t --header no --sync none &
        dw-cat t -f --seq 0..3000001 -o csv --no-header --fields n |
            awk '$1 != NR-1 {exit 1} END {print NR}'
        wait";
    assert_eq!(env.quiet(script).trim(), "3000001");
}

#[test]
fn a_file_size_limit_is_an_error_not_a_signal() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed t ts:uint64 n:uint64");
    let script = "set +e; ulimit -f 2048
        seq 0 1000000 | awk '{print $1\",\"$1}' 2>/dev/null | dw-write t --header no
        echo ${PIPESTATUS[2]}";
    let output = env.sh(script);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2", "{said}");
    assert!(said.contains("File too large") || said.contains("os error 27"), "{said}");
    let kept = env.quiet("dw-cat t -o csv --no-header --fields n");
    let numbers: Vec<usize> = kept.lines().map(|line| line.parse().expect("a number")).collect();
    assert!(!numbers.is_empty() && numbers.iter().copied().eq(0..numbers.len()), "a prefix");
}

#[test]
fn one_row_from_a_far_future_is_not_the_last() {
    for options in ["--chunk-size 64KiB", "--stage shm", "--ring"] {
        let env = TestEnv::new();
        env.quiet(&format!("dw-mkfeed t ts:timestamp n:uint64 {options}"));
        let day = "1700000000000000";
        let rows = format!("for i in $(seq 0 9); do echo $(({day} + i * 3600000000)),$i; done");
        let write = "dw-write t --columns ts,n";
        env.quiet(&format!("({rows}; echo 4070908800000000,10; echo {day},11) | {write}"));
        let fields = "-o csv --no-header --fields n | paste -sd,";
        let since = env.quiet(&format!("dw-cat t --since last-1h {fields}"));
        assert_eq!(since, "8,9,10\n", "{options}");
        let listed = env.quiet("dw-ls t --json | jq -c '[.last, .ahead]'");
        assert_eq!(listed, "[1700032400000000,4070908800000000]\n", "{options}");
        let output = env.sh("dw-ls t");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("2099-01-01T00:00:00"), "{said}");
        // Where all are so far ahead, they are what counts.
        env.quiet("dw-mkfeed u ts:timestamp n:uint64");
        env.quiet(
            "printf '4070908800000000,1\\n4070908801000000,2\\n' | dw-write u --columns ts,n",
        );
        assert_eq!(env.quiet(&format!("dw-cat u --since last {fields}")), "2\n");
        assert_eq!(env.quiet("dw-ls u --json | jq .last"), "4070908801000000\n");
    }
}
