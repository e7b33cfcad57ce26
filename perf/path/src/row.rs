//! The cases of the table, and what a run of one gives.

use std::error::Error;
use std::time::Duration;

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct PathCase {
    pub(crate) bytes: usize,
    pub(crate) consumers: usize,
    /// Datums a second; `None`: as many as go through.
    pub(crate) rate: Option<f64>,
    /// MiB that corewire's ring and windows hold, in datums of that size; `None`: the defaults, 1,024 datums.
    pub(crate) ring_mib: Option<usize>,
    pub(crate) duration: Duration,
}

impl PathCase {
    /// The rows: one consumer and sixteen, at a rate and at full speed, and datums of 1 KiB.
    pub(crate) fn all(duration: Duration) -> Vec<PathCase> {
        let row = |bytes, consumers, rate| PathCase { bytes, consumers, rate, ring_mib: None, duration };
        vec![
            row(64, 1, Some(5_000.0)),
            row(64, 1, Some(10_000.0)),
            row(64, 1, Some(100_000.0)),
            row(64, 1, None),
            PathCase { ring_mib: Some(1), ..row(64, 1, None) },
            row(64, 16, Some(10_000.0)),
            row(64, 16, None),
            row(1_024, 1, Some(10_000.0)),
            row(1_024, 1, None),
        ]
    }

    /// Its name in the table; without spaces and bars it names its files.
    pub(crate) fn name(&self) -> String {
        let size = if self.bytes < 1_024 {
            format!("{} B", self.bytes)
        } else {
            format!("{} KiB", self.bytes / 1_024)
        };
        let rate =
            self.rate.map_or_else(|| "full speed".to_owned(), |rate| format!("{}k a second", rate / 1e3));
        let ring = self.ring_mib.map_or_else(String::new, |mib| format!(", ring of {mib} MiB"));
        format!("1 to {}, {size}, {rate}{ring}", self.consumers)
    }
}

/// What one run of one program gives.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Microseconds from the intended send time.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Millions of datums a second, to each consumer.
    pub(crate) rate: Option<f64>,
    pub(crate) lost: u64,
}

/// A run: its figures and its raw output.
pub(crate) type PathRun = Result<(Figures, String), Box<dyn Error>>;

/// Median, smallest and largest of several runs; `None` of none.
pub(crate) fn spread(runs: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut sorted: Vec<f64> = runs.collect();
    sorted.sort_by(f64::total_cmp);
    Some([*sorted.get(sorted.len() / 2)?, *sorted.first()?, *sorted.last()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_the_median_first() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), Some([2.0, 1.0, 3.0]));
        assert_eq!(spread(std::iter::empty()), None);
    }
}
