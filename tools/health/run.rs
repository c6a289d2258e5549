//! The work of dw-health.

use deepwater::check::{self, Finding, Verdict};
use serde_json::json;

use super::args::Args;
use super::prometheus;
use crate::cli::exit::Exit;
use crate::cli::listing::Listing;
use crate::cli::messages;
use crate::cli::out::Out;

/// Runs dw-health.
///
/// # Errors
/// Any failure, for [`crate::cli::exit::main_with`] to report.
pub fn run(out: &mut Out) -> anyhow::Result<Exit> {
    let args = Args::parse()?;
    args.common.start();
    let limits = args.limits()?;
    let base = args.common.base()?;
    let looked = check::look(&base, &args.feeds.names(), &limits);
    if args.prometheus {
        // After an error, print metrics all the same: they say that nothing is known.
        let findings = looked.as_deref().unwrap_or_default();
        let exit = if looked.is_ok() { verdict(findings) } else { Exit::Failed };
        out.put(prometheus::metrics(&base, findings, exit).as_bytes())?;
    }
    let findings = looked?;
    let exit = verdict(&findings);
    if args.prometheus {
        return Ok(exit);
    }
    let mut shown: Vec<&Finding> = findings
        .iter()
        .filter(|finding| !messages::is_quiet() || finding.verdict != Verdict::Healthy)
        .collect();
    if args.json {
        for finding in shown {
            out.json(&object(finding))?;
        }
        return Ok(exit);
    }
    shown.sort_by_key(|finding| match finding.verdict {
        Verdict::Unhealthy => 0,
        Verdict::Unknown => 1,
        Verdict::Healthy => 2,
    });
    let mut listing = Listing::new(&["STATE", "CHECK", "FEED", "CAUSE"]);
    for finding in &shown {
        let state = match finding.verdict {
            Verdict::Healthy => "ok",
            Verdict::Unhealthy => "UNHEALTHY",
            Verdict::Unknown => "UNKNOWN",
        };
        let feed = finding.feed.as_deref().unwrap_or("-");
        listing.row([state, finding.check.as_str(), feed, &*finding.cause]);
    }
    if !shown.is_empty() {
        listing.print(out)?;
    }
    Ok(exit)
}

/// Unhealthy (1) takes precedence over unknown (2).
fn verdict(findings: &[Finding]) -> Exit {
    let any = |verdict| findings.iter().any(|finding| finding.verdict == verdict);
    match (any(Verdict::Unhealthy), any(Verdict::Unknown)) {
        (true, _) => Exit::Partial,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Ok,
    }
}

fn object(finding: &Finding) -> serde_json::Value {
    let ok = match finding.verdict {
        Verdict::Healthy => Some(true),
        Verdict::Unhealthy => Some(false),
        Verdict::Unknown => None,
    };
    // Print a whole number without a fraction.
    let value = finding.value.map(|value| match value.fract() {
        0.0 => json!(value as u64),
        _ => json!(value),
    });
    json!({
        "check": finding.check.as_str(),
        "feed": finding.feed,
        "ok": ok,
        "cause": finding.cause,
        "value": value,
    })
}
