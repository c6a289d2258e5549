//! Tests of several feeds in one dw-cat: they are merged by time exactly, however late their rows
//! are.

use std::fs;

use super::env::TestEnv;
use super::kit::{good, run, text};
use super::random::Random;

/// The feeds, in the order of the arguments, with units and numbers of records.
const FEEDS: [(&str, &str, u64); 4] =
    [("b", "us", 9_000), ("a", "ns", 20_000), ("c", "us", 12_000), ("empty", "us", 0)];

/// Creates feeds of many small chunks. Times repeat within a feed and between feeds. Most records
/// are a little late, and a few by the whole length of the feed.
fn store() -> TestEnv {
    let env = TestEnv::new();
    let mut random = Random::new(11);
    for (feed, unit, records) in FEEDS {
        env.quiet(&format!(
            "dw-mkfeed {feed} ts:timestamp n:uint64 --time-unit {unit} --chunk-size 64KiB"
        ));
        let mut rows = String::new();
        for n in 0..records {
            let base = n * 30_000 / records;
            let late = match random.below(400) {
                0 => random.below(30_000),
                _ => random.below(40),
            };
            let mut time = base.saturating_sub(late);
            if random.below(300) == 0 {
                time = random.below(30_000);
            }
            if unit == "ns" {
                // Nanosecond times lie both on and between the microseconds of the other feeds.
                time = time * 1000 + random.below(2) * 500;
            }
            rows.push_str(&format!("{time},{n}\n"));
        }
        fs::write(env.path(feed), rows).unwrap();
        // Write two sessions.
        env.quiet(&format!(
            "head -n {0} {feed} | dw-write {feed}; tail -n +{1} {feed} | dw-write {feed}",
            records / 3,
            records / 3 + 1
        ));
    }
    env
}

const ALL: [&str; 4] = ["b", "a", "c", "empty"];
const SHOW: [&str; 2] = ["--with-seq", "--with-feed"];

/// Has python3 sort the separately printed feeds by nanoseconds, feed and seq.
fn sorted(env: &TestEnv, choice: &str) -> Vec<String> {
    for feed in ALL {
        env.quiet(&format!("dw-cat {feed} {} > {feed}.jsonl", SHOW.join(" ")));
    }
    let script = format!(
        "python3 - <<'PY'\n\
         import json\n\
         rows = []\n\
         for order, (feed, scale) in enumerate([('b', 1000), ('a', 1), ('c', 1000)]):\n    \
             for line in open(feed + '.jsonl'):\n        \
                 row = json.loads(line)\n        \
                 time_ns = row['ts'] * scale\n        \
                 rows.append((time_ns, order, row['_seq'], row['n'], line.strip()))\n\
         rows.sort(key=lambda row: row[:3])\n\
         rows = {choice}\n\
         print('\\n'.join(row[4] for row in rows))\n\
         PY"
    );
    env.quiet(&script).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn merged(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let args = [&ALL[..], &SHOW, args].concat();
    good(env, "dw-cat", &args).lines().map(str::to_owned).collect()
}

#[test]
fn history_is_merged_by_time_feed_and_seq() {
    let env = store();
    let table: [(&[&str], &str); 12] = [
        (&[], "rows"),
        (&["-r"], "rows[::-1]"),
        (&["-n", "777"], "rows[-777:]"),
        (&["-n", "+777"], "rows[:777]"),
        (&["-n", "5", "-r"], "rows[-5:][::-1]"),
        (&["-n", "+5", "-r"], "rows[:5][::-1]"),
        (&["-n", "0"], "[]"),
        (&["-n", "999999"], "rows"),
        (&["--where", "n>=8000"], "[r for r in rows if r[3] >= 8000]"),
        (
            &["--since", "@10000us", "--until", "@10010us"],
            "[r for r in rows if 10_000_000 <= r[0] < 10_010_000]",
        ),
        (
            &["--since", "@20000500ns", "--where", "n<9000", "-n", "100"],
            "[r for r in rows if r[0] >= 20_000_500 and r[3] < 9000][-100:]",
        ),
        (&["--since", "last-1ms"], "[r for r in rows if r[0] >= rows[-1][0] - 1_000_000]"),
    ];
    for (args, choice) in table {
        let (found, wanted) = (merged(&env, args), sorted(&env, choice));
        assert!(choice == "[]" || !wanted.is_empty(), "{args:?} chooses something");
        let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
        assert!(differs.is_none(), "{args:?}: row {differs:?}: {:?}", differs.map(|i| &found[i]));
        assert_eq!(found.len(), wanted.len(), "{args:?}");
    }
}

#[test]
fn feeds_with_different_layouts_merge_where_the_format_allows() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed a ts:timestamp n:uint64");
    env.quiet("dw-mkfeed b ts:timestamp x:float64 n:uint64");
    env.quiet("dw-mkfeed c ts:timestamp n:uint64 --time-unit ns");
    env.quiet("printf '1,1\\n3,3\\n' | dw-write a");
    env.quiet("printf '2,0.5,2\\n' | dw-write b");
    env.quiet("printf '1500,9\\n' | dw-write c");
    let lines = |args: &[&str]| -> Vec<String> {
        good(&env, "dw-cat", args).lines().map(str::to_owned).collect()
    };
    let mixture = lines(&["a", "b", "c", "--with-feed"]);
    let wanted = [
        r#"{"_feed":"a","ts":1,"n":1}"#,
        r#"{"_feed":"c","ts":1500,"n":9}"#,
        r#"{"_feed":"b","ts":2,"x":0.5,"n":2}"#,
        r#"{"_feed":"a","ts":3,"n":3}"#,
    ];
    assert_eq!(mixture, wanted);
    let common = ["--fields", "ts,n"];
    assert_eq!(
        lines(&[&["a", "b", "-o", "csv"], &common[..]].concat()),
        ["ts,n", "1,1", "2,2", "3,3"],
        "the fields of each feed's own layout"
    );
    for (args, why) in [
        (&["a", "b", "-o", "csv"][..], "field x (float64) is new"),
        (&["a", "b", "-o", "raw"], "field x (float64) is new"),
        (&["a", "c", "-o", "csv", "--fields", "ts,n"], "ts is timestamp in us, in the other"),
        (&["a", "b", "-o", "csv", "--fields", "ts,x"], "no field \"x\""),
        (&["a", "b", "-o", "table", "--fields", "ts,n"], "jsonl takes any mixture"),
        (&["a", "b", "--seq", "1..2"], "seqs are of one feed"),
        (&["a", "b", "--since", "seq:1"], "seqs are of one feed"),
    ] {
        let output = run(&env, "dw-cat", args, b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(why) || said.contains("is missing"), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    // Times printed as text are alike in any unit, except for the number of digits.
    let args = ["a", "c", "-o", "csv", "--time", "rfc3339", "--no-header", "--fields", "ts,n"];
    assert_eq!(lines(&args)[1], "1970-01-01T00:00:00.000001500Z,9");
}

#[test]
fn feeds_with_equal_layouts_merge_in_every_format() {
    let env = TestEnv::new();
    env.quiet("dw-mkfeed long-name ts:timestamp n:uint64 && dw-mkfeed b ts:timestamp n:uint64");
    env.quiet("printf '1,1\\n3,3\\n' | dw-write b; printf '2,2\\n' | dw-write long-name");
    let feeds = ["long-name", "b"];
    let print = |args: &[&str]| good(&env, "dw-cat", &[&feeds[..], args].concat());
    assert_eq!(print(&["-o", "csv", "--with-feed"]), "_feed,ts,n\nb,1,1\nlong-name,2,2\nb,3,3\n");
    assert_eq!(
        print(&["-o", "table", "--with-feed", "--time", "raw"]),
        "_feed      ts  n\nb           1  1\nlong-name   2  2\nb           3  3\n"
    );
    let raw = env.cmd("dw-cat").args(feeds).args(["-o", "raw"]).output().unwrap().stdout;
    let words: Vec<u8> = raw.chunks_exact(8).map(|word| word[0]).collect();
    assert_eq!(words, [1, 1, 2, 2, 3, 3]);
    let npy = env.cmd("dw-cat").args(feeds).args(["-o", "npy", "--with-feed"]).output().unwrap();
    let (head, rows) = npy.stdout.split_at(npy.stdout.len() - 3 * 25);
    assert!(text(head).contains("('_feed', '|S9')") && text(head).contains("(3,)"));
    let names: Vec<_> = rows.chunks_exact(25).map(|row| text(&row[..9])).collect();
    assert_eq!(names, ["b\0\0\0\0\0\0\0\0", "long-name", "b\0\0\0\0\0\0\0\0"]);
}
