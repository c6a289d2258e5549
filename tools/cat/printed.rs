//! The records above the saved position that earlier runs with a cursor file have printed.

use serde_json::{Value, json};

/// For each pair `(end, until)`: the records below the seq `end` that are older than `until`. A run
/// with `--until` keeps the position before the first later record, but prints earlier ones that
/// follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    pairs: Vec<(u64, u64)>,
}

impl Printed {
    /// Reads what [`Printed::to_json`] wrote.
    pub fn of_json(json: &Value) -> Option<Printed> {
        let pair = |pair: &Value| Some((pair.get(0)?.as_u64()?, pair.get(1)?.as_u64()?));
        let pairs = json.as_array()?.iter().map(pair).collect::<Option<_>>()?;
        Some(Printed { pairs })
    }

    /// Returns the JSON for the cursor file.
    pub fn to_json(&self) -> Value {
        json!(self.pairs)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether this record was printed.
    pub fn has(&self, seq: u64, time: u64) -> bool {
        self.pairs.iter().any(|&(end, until)| seq < end && time < until)
    }

    /// Returns the seq after all of them.
    pub fn end(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.0).max().unwrap_or(0)
    }

    /// Adds the records below `end` that are older than `until`, for the position `place`.
    pub fn with(&self, end: u64, until: u64, place: u64) -> Printed {
        let mut pairs: Vec<(u64, u64)> = Vec::new();
        let mut all = self.pairs.clone();
        all.push((end, until));
        // The largest `end` first: a later pair adds something only if its `until` is larger.
        all.sort_unstable_by(|a, b| b.cmp(a));
        for (end, until) in all {
            if end > place && pairs.iter().all(|pair| pair.1 < until) {
                pairs.push((end, until));
            }
        }
        Printed { pairs }
    }

    /// Removes the records from `end` on.
    pub fn cut(&mut self, end: u64) {
        self.pairs.iter_mut().for_each(|pair| pair.0 = pair.0.min(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redundant_pairs_are_dropped() {
        let printed = Printed::default().with(10, 5, 2);
        assert!(printed.has(9, 4) && !printed.has(10, 4) && !printed.has(9, 5));
        assert_eq!(printed.with(20, 5, 2).pairs, [(20, 5)]);
        assert_eq!(printed.with(10, 7, 2).pairs, [(10, 7)]);
        assert_eq!(printed.with(9, 5, 2), printed);
        assert_eq!(printed.with(20, 3, 2).pairs, [(20, 3), (10, 5)]);
        assert!(printed.with(12, 5, 12).is_empty(), "below the place");
        assert_eq!(Printed::of_json(&printed.to_json()), Some(printed));
    }
}
