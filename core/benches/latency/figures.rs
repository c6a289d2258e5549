//! The figures of one run, and the medians of several.

use std::collections::BTreeMap;

/// Latency of each record, in nanoseconds.
#[derive(Default)]
pub struct Latencies {
    all: Vec<u64>,
    /// p50, p99, p99.9 and maximum, if another process has measured them.
    figures: Option<[f64; 4]>,
}

impl Latencies {
    /// Adds a latency.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.all.push(ns);
    }

    fn figures(&self) -> [f64; 4] {
        if let Some(figures) = self.figures {
            return figures;
        }
        let mut all = self.all.clone();
        all.sort_unstable();
        let at = |share: f64| all[((all.len() as f64 * share) as usize).min(all.len() - 1)] as f64;
        [at(0.5), at(0.99), at(0.999), at(1.0)]
    }

    /// Prints the figures for the parent process.
    pub fn print(&self) {
        let [p50, p99, p999, max] = self.figures();
        println!("{p50} {p99} {p999} {max}");
    }

    /// Parses what another process printed.
    pub fn parse(line: &str) -> Latencies {
        let mut figures = line.split(' ').map(|word| word.parse().unwrap());
        let figures = std::array::from_fn(|_| figures.next().unwrap());
        Latencies { all: Vec::new(), figures: Some(figures) }
    }
}

/// The figures of all runs.
#[derive(Default)]
pub struct Table {
    order: Vec<String>,
    rows: BTreeMap<String, Vec<Vec<f64>>>,
}

impl Table {
    /// Adds one run of a transport.
    pub fn latencies(&mut self, name: &str, latencies: &Latencies) {
        self.add(format!("latency\t{name}"), latencies.figures().to_vec());
    }

    /// Adds one run of appends.
    pub fn append(&mut self, name: &str, ns: f64) {
        self.add(format!("append\t{name}"), vec![ns]);
    }

    fn add(&mut self, name: String, figures: Vec<f64>) {
        // Print each raw figure now, and the medians at the end.
        let words: Vec<String> = figures.iter().map(|ns| format!("{ns:.1}")).collect();
        eprintln!("raw\t{name}\t{}", words.join("\t"));
        if !self.rows.contains_key(&name) {
            self.order.push(name.clone());
        }
        self.rows.entry(name).or_default().push(figures);
    }

    fn medians(&self, name: &str) -> Vec<f64> {
        let runs = &self.rows[name];
        let median = |column: usize| {
            let mut values: Vec<f64> = runs.iter().map(|figures| figures[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        (0..runs[0].len()).map(median).collect()
    }

    /// Prints the medians.
    pub fn print(&self) {
        println!(
            "{:<38}{:>10}{:>10}{:>10}{:>12}",
            "ns; one way, or of an append", "p50", "p99", "p99.9", "max"
        );
        self.print_kind("latency", &[10, 10, 10, 12], 0);
        println!("\n{:<38}{:>10}", "append of 48 bytes, ns", "median");
        self.print_kind("append", &[10], 2);
    }

    fn print_kind(&self, kind: &str, widths: &[usize], digits: usize) {
        for name in &self.order {
            let Some(name_of) = name.strip_prefix(kind).and_then(|n| n.strip_prefix('\t')) else {
                continue;
            };
            let cells = self.medians(name).into_iter().zip(widths);
            let cells: String = cells.map(|(ns, width)| format!("{ns:>width$.digits$}")).collect();
            println!("{name_of:<38}{cells}");
        }
    }
}
