//! Writes recorded feeds by the recipes of the guide, and compares them with what python3 reads
//! from the sources.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::FromArgMatches as _;
use deepwater::Platform;
use deepwater::text::input::{Batch, FinalLine, InputFormat, Parser};
use deepwater_tools::write::args;

use crate::env::{TestEnv, document_block, repository, shared};

const ES: &str = "es_trades_2013-09-01_03.csv.gz";
const BINANCE: &str = "barter_binance_spot_trades_l1_2025-03-25.jsonl.gz";
const COINBASE: &str = "coinbase_ws_l2_ticker_match_2021-04-17.jsonl.gz";
const XAUUSD: &str = "xauusd_quotes_oanda_2014-05-01.csv.gz";
const SAMPLE: &str = "tests/data/binance_trades_sample.jsonl";

/// Runs a recipe with `dw-write -v`, which must print exactly this. So nothing is rejected.
fn cook(env: &TestEnv, feed: &str, told: &str) {
    let recipe = document_block(&format!("cookbook: {feed}"));
    let tellable = recipe.replace(&format!("dw-write {feed} "), &format!("dw-write -v {feed} "));
    assert_ne!(recipe, tellable, "the recipe writes {feed}");
    let output = env.sh(&tellable);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(stderr.trim_end(), format!("dw-write: {feed}: {told}"));
    assert!(output.stdout.is_empty(), "it printed {:?}", String::from_utf8_lossy(&output.stdout));
}

/// Gives the recipe's options and the source to the parser. Returns the share of its rows (JSON:
/// messages) that the fast parser handles.
fn fast_share(env: &TestEnv, feed: &str, file: &str) -> f64 {
    let recipe = document_block(&format!("cookbook: {feed}")).replace("\\\n", " ");
    let (_, words) = recipe.split_once("dw-write ").expect("the recipe writes");
    let words = std::iter::once("dw-write").chain(words.split_whitespace());
    let matches = args::command().get_matches_from(words);
    let request = args::Args::from_arg_matches(&matches).expect("arguments").request();
    let mut options = request.expect("a request").options;
    options.final_line = FinalLine::Accept;
    if file.contains(".jsonl") {
        options.format = InputFormat::Jsonl;
    }
    let info = Platform::open(env.base()).and_then(|p| p.feed_info(feed)).expect("the feed");
    let mut parser = Parser::new(info.layout, options).expect("a parser");
    let bytes = env.sh(&format!("zcat {file}")).stdout;
    let (mut at, mut batch) = (0, Batch::new());
    while at < bytes.len() {
        batch.clear();
        at += parser.parse(&bytes[at..], true, 0, &mut batch).expect("it parses");
    }
    let stats = parser.stats();
    stats.fast as f64 / (stats.fast + stats.slow) as f64
}

/// Compares the source and the feed with python3, which fails at a difference. Returns what it
/// printed.
fn compared(env: &TestEnv, feed: &str, source: &Path) -> String {
    let script = repository("tests/suite/real_feeds.py");
    let mut command = env.program("python3");
    let output = command.arg(script).arg(feed).arg(source).output().expect("python3 starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).expect("figures")
}

/// Checks a recipe with a whole recording. The expected message follows from the recording.
fn check(feed: &str, file: &str, told: &str, rows: &str) {
    let Some(source) = shared(&format!("real_feeds {feed}"), &format!("data/{file}")) else {
        return;
    };
    let env = TestEnv::new();
    std::os::unix::fs::symlink(&source, env.path(file)).expect("a link");
    cook(&env, feed, told);
    let share = fast_share(&env, feed, file);
    println!("{feed}: {:.3} % of the rows by the fast parser", 100.0 * share);
    assert!(share >= 0.95, "{share} of the rows of {feed} by the fast parser");
    let figures = compared(&env, feed, &source);
    assert!(figures.starts_with(&format!("{feed}: {rows}, 16 ranges with ")), "{figures}");
}

#[test]
fn es_trades_recipe_is_exact() {
    check(
        "es",
        ES,
        "500000 rows written, seq 0..500000, 0 late, 0 rejected, 0 passed over",
        "500000 rows, 0 late",
    );
}

#[test]
fn binance_trades_recipe_is_exact() {
    check(
        "binance-trades",
        BINANCE,
        "11032 rows written, seq 0..11032, 0 late, 0 rejected, 38968 passed over",
        "11032 rows, 0 late",
    );
}

#[test]
fn binance_quotes_recipe_is_exact() {
    check(
        "binance-quotes",
        BINANCE,
        "38968 rows written, seq 0..38968, 0 late, 0 rejected, 11032 passed over",
        "38968 rows, 0 late",
    );
}

#[test]
fn binance_arrivals_recipe_is_exact() {
    check(
        "binance-arrivals",
        BINANCE,
        "50000 rows written, seq 0..50000, 12523 late, 0 rejected, 0 passed over",
        "50000 rows, 12523 late",
    );
}

#[test]
fn coinbase_level_2_recipe_is_exact() {
    check(
        "coinbase-l2",
        COINBASE,
        "9719 rows written, seq 0..9719, 342 late, 0 rejected, 227 passed over",
        "9719 rows, 342 late",
    );
}

#[test]
fn xauusd_quotes_recipe_is_exact() {
    check(
        "xauusd",
        XAUUSD,
        "129744 rows written, seq 0..129744, 0 late, 0 rejected, 0 passed over",
        "129744 rows, 0 late",
    );
}

/// Creates a store with the committed part of the Binance recording, under the name that the
/// recipes read.
fn sample() -> TestEnv {
    let env = TestEnv::new();
    let plain = fs::File::open(repository(SAMPLE)).expect("the sample");
    let packed = fs::File::create(env.path(BINANCE)).expect("a file");
    let gzip = Command::new("gzip").arg("-c").stdin(plain).stdout(packed).status();
    assert!(gzip.expect("gzip starts").success());
    env
}

#[test]
fn recipes_read_the_committed_sample() {
    let env = sample();
    for (feed, told, rows) in [
        (
            "binance-trades",
            "386 rows written, seq 0..386, 0 late, 0 rejected, 1114 passed over",
            "386 rows, 0 late",
        ),
        (
            "binance-quotes",
            "1114 rows written, seq 0..1114, 0 late, 0 rejected, 386 passed over",
            "1114 rows, 0 late",
        ),
        (
            "binance-arrivals",
            "1500 rows written, seq 0..1500, 385 late, 0 rejected, 0 passed over",
            "1500 rows, 385 late",
        ),
    ] {
        cook(&env, feed, told);
        let figures = compared(&env, feed, &repository(SAMPLE));
        assert!(figures.starts_with(&format!("{feed}: {rows}, 16 ranges with ")), "{figures}");
    }
}

#[test]
fn recipes_run_unchanged_without_messages() {
    let env = sample();
    for feed in ["binance-trades", "binance-quotes", "binance-arrivals"] {
        assert_eq!(env.quiet(&document_block(&format!("cookbook: {feed}"))), "");
    }
    let listed = env.quiet("dw-ls --json | grep -o '\"records\":[0-9]*'");
    assert_eq!(listed, "\"records\":1500\n\"records\":1114\n\"records\":386\n");
}

/// A last line without its newline may be incomplete. From a pipe it is not a row.
#[test]
fn a_sample_cut_in_its_last_line_loses_only_that_row() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed cut --time-unit ns ts:timestamp");
    let mut bytes = fs::read(repository(SAMPLE)).expect("the sample");
    bytes.pop();
    let mut writer = env.cmd("dw-write");
    let output =
        writer.args(["cut", "--map", "ts=/Item/time_exchange"]).write_stdin(bytes).output();
    let output = output.expect("dw-write starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("dw-write: stdin:1500:"), "{stderr}");
    assert_eq!(env.quiet("dw-cat cut | wc -l"), "1499\n");
}

#[test]
fn documented_retention_commands_work() {
    let env = TestEnv::new();
    assert_eq!(env.quiet(&document_block("run: retention")), "", "nothing is old yet");
}

#[test]
fn quick_start_works_as_documented() {
    let env = TestEnv::new();
    let printed = env.quiet(&document_block("run: quick start"));
    let wanted = [
        "2023-11-14T22:13:20.000000Z  2023-11-14T22:14:30.250000Z",
        "{\"ts\":1700000060000000,\"price\":42.25,\"size\":7,\"side\":\"B\"}\n",
        "ts,price,size,side\n1700000070250000,42.3,2,S\n",
        "{\"ts\":\"2023-11-14T22:13:21.500000Z\",\"price\":42.75,\"size\":1,\"side\":\"S\"}\n",
        "  42.3     2  S",
    ];
    for text in wanted {
        assert!(printed.contains(text), "{text} is not in\n{printed}");
    }
}
