//! Histograms of latencies, and their percentiles as rows of a table.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::units::time;

/// Significant digits of the histograms.
const DIGITS: u8 = 3;

/// The percentiles of a table, and the quantiles that they stand for.
pub(crate) const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// An empty histogram that grows as needed.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("three digits are within what a histogram can hold")
}

/// Records a value. A value for which the histogram cannot grow is left out.
pub(crate) fn record(histogram: &mut Histogram<u64>, value: u64) {
    let _ = histogram.record(value);
}

/// A duration as a histogram holds it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The end of a table's first line: the names of the columns that [`percentile_row`] fills.
pub(crate) fn percentile_names(out: &mut impl Write) -> io::Result<()> {
    for (name, _) in PERCENTILES {
        write!(out, " {name:>8}")?;
    }
    writeln!(out, " {:>8}", "max")
}

/// The end of a line: the percentiles and the maximum.
pub(crate) fn percentile_row(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    for (_, quantile) in PERCENTILES {
        write!(out, " {:>8}", time(histogram.value_at_quantile(quantile)))?;
    }
    writeln!(out, " {:>8}", time(histogram.max()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_has_one_column_for_each_name() {
        let mut histogram = histogram();
        (1..=1_000_000).step_by(100).for_each(|value| record(&mut histogram, value));
        let (mut names, mut row) = (Vec::new(), Vec::new());
        percentile_names(&mut names).unwrap();
        percentile_row(&mut row, &histogram).unwrap();
        assert_eq!(names.len(), row.len());
        assert!(String::from_utf8(row).unwrap().starts_with("   500 us   900 us"));
    }
}
