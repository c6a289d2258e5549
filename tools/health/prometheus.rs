//! Prints findings as metrics in Prometheus's text format, for node_exporter's textfile collector.

use std::fmt::Write as _;
use std::path::Path;

use deepwater::check::{Check, Finding, Verdict};

use crate::cli::exit::Exit;

/// A check whose number becomes a metric of its own.
struct Metric {
    check: Check,
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const fn metric(
    check: Check,
    name: &'static str,
    kind: &'static str,
    help: &'static str,
) -> Metric {
    Metric { check, name, kind, help }
}

const METRICS: &[Metric] = &[
    metric(Check::Registry, "deepwater_feeds", "gauge", "Feeds of the store."),
    metric(Check::DiskSpace, "deepwater_disk_free_bytes", "gauge", "Room where the store lies."),
    metric(Check::Inodes, "deepwater_disk_free_inodes", "gauge", "Files that can still be made."),
    metric(
        Check::ShmSpace,
        "deepwater_shm_free_bytes",
        "gauge",
        "Room where feeds have shared memory.",
    ),
    metric(
        Check::Segments,
        "deepwater_shm_left_over_bytes",
        "gauge",
        "Shared memory that nobody needs; dw-gc removes it.",
    ),
    metric(
        Check::FeedRegistry,
        "deepwater_feed_records_total",
        "counter",
        "Records published since the feed was made.",
    ),
    metric(
        Check::Chunks,
        "deepwater_feed_broken_chunks",
        "gauge",
        "Chunks whose files are missing or too short.",
    ),
    metric(Check::Writer, "deepwater_feed_writing", "gauge", "1 if somebody writes the feed."),
    metric(
        Check::Fresh,
        "deepwater_feed_age_seconds",
        "gauge",
        "Time since the last record arrived, or since the feed was made if none ever did.",
    ),
    metric(
        Check::Collected,
        "deepwater_feed_gc_age_seconds",
        "gauge",
        "Time since dw-gc looked after a feed with a limit, or since the feed was made.",
    ),
    metric(
        Check::Backlog,
        "deepwater_feed_backlog_records",
        "gauge",
        "Records published and not durable yet.",
    ),
    metric(
        Check::Ring,
        "deepwater_feed_ring_history_seconds",
        "gauge",
        "Time between the oldest record in the ring and the newest.",
    ),
    metric(Check::Lost, "deepwater_feed_lost_records", "gauge", "Records on record as lost."),
    metric(
        Check::Rejects,
        "deepwater_feed_rejected_rows_total",
        "counter",
        "Rows that the current or last writer rejected.",
    ),
];

/// Returns the metrics of one run. Each has the store's path as a label, so that one directory can
/// hold the files of several stores.
pub fn metrics(base: &Path, findings: &[Finding], exit: Exit) -> String {
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
    let base = label("base", &base.to_string_lossy());
    let mut text = String::new();
    head(
        &mut text,
        "deepwater_health_status",
        "gauge",
        "Exit status of dw-health: 0 healthy, 1 unhealthy, 2 could not tell.",
    );
    let _ = writeln!(text, "deepwater_health_status{{{base}}} {}", exit as u8);
    if !findings.is_empty() {
        head(&mut text, "deepwater_check_ok", "gauge", "1 if the check found nothing wrong.");
    }
    let findings: Vec<(&Finding, String)> = findings.iter().map(|f| (f, feed(f))).collect();
    for (finding, feed) in &findings {
        let check = finding.check.as_str();
        let ok = u8::from(finding.verdict == Verdict::Healthy);
        let _ = writeln!(text, "deepwater_check_ok{{{base},check=\"{check}\"{feed}}} {ok}");
    }
    for metric in METRICS {
        let mut values = findings
            .iter()
            .filter(|(finding, _)| finding.check == metric.check)
            .filter_map(|(finding, feed)| Some((feed, finding.value?)))
            .peekable();
        if values.peek().is_some() {
            head(&mut text, metric.name, metric.kind, metric.help);
        }
        for (feed, value) in values {
            let _ = writeln!(text, "{}{{{base}{feed}}} {value}", metric.name);
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn feed(finding: &Finding) -> String {
    finding.feed.as_ref().map_or(String::new(), |name| format!(",{}", label("feed", name)))
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{name}=\"{value}\"")
}
