//! Latency by percentile, drawn with characters.
//!
//! The horizontal axis is logarithmic in 1/(1 - p), so that each further nine has the same width; the
//! vertical axis is logarithmic in time. Fits 80 columns.

use hdrhistogram::Histogram;

use super::term::Style;
use super::units;

/// Columns of the plot itself; with its axis it takes 75 of a terminal's 80.
const COLUMNS: usize = 61;
/// Rows of the plot itself.
const ROWS: usize = 10;
/// Nines on the horizontal axis: 0, 90, 99, 99.9 and 99.99 per cent.
const NINES: usize = 4;
/// Every how many rows the vertical axis is labelled.
const LABEL_EVERY: usize = 3;

/// One curve.
pub(crate) struct Series<'a> {
    /// Its name in the legend.
    pub(crate) name: &'a str,
    /// Its values, in nanoseconds.
    pub(crate) histogram: &'a Histogram<u64>,
}

/// Marks and colours of the curves, in order; more curves start again from the first.
const MARKS: [(char, char, u8); 4] = [('●', 'o', 36), ('▲', 'x', 33), ('■', '+', 35), ('◆', '*', 32)];

/// The quantile at `across` of the horizontal axis, from 0.0 at the left to 1.0 at the right, which has
/// `nines` nines.
pub(crate) fn quantile_at(across: f64, nines: usize) -> f64 {
    1.0 - 10f64.powf(-(nines as f64) * across)
}

/// Draws the curves, one line of text each row, with axes and legend.
pub(crate) fn percentiles(series: &[Series<'_>], style: Style) -> Vec<String> {
    let curves: Vec<Vec<f64>> = series
        .iter()
        .map(|one| {
            let quantile = |column| quantile_at(column as f64 / (COLUMNS - 1) as f64, NINES);
            (0..COLUMNS).map(|c| one.histogram.value_at_quantile(quantile(c)).max(1) as f64).collect()
        })
        .collect();
    let all = || curves.iter().flatten().copied();
    let low = all().fold(f64::INFINITY, f64::min).ln();
    let high = all().fold(1.0, f64::max).ln();
    if !low.is_finite() {
        return Vec::new();
    }
    // A flat curve still needs a scale.
    let span = (high - low).max(0.1);
    let row_of = |value: f64| (((value.ln() - low) / span) * (ROWS - 1) as f64).round() as usize;

    // `None` is blank; the first curve is drawn last, so that it stays whole where curves meet.
    let mut grid = [[None; COLUMNS]; ROWS];
    for (which, curve) in curves.iter().enumerate().rev() {
        for (column, &value) in curve.iter().enumerate() {
            grid[row_of(value).min(ROWS - 1)][column] = Some(which);
        }
    }
    let mut lines = Vec::with_capacity(ROWS + 3);
    for row in (0..ROWS).rev() {
        let label = if row % LABEL_EVERY == 0 {
            units::time((low + span * row as f64 / (ROWS - 1) as f64).exp() as u64)
        } else {
            String::new()
        };
        let wall = if style.unicode { "│" } else { "|" };
        lines.push(format!("  {label:>8} {wall}{}", draw(&grid[row], style)).trim_end().to_owned());
    }
    lines.extend(axis(style));
    let legend: Vec<String> = series
        .iter()
        .enumerate()
        .map(|(which, one)| format!("{} {}", mark(which, style), one.name))
        .collect();
    lines.push(format!("            {}", legend.join("    ")));
    lines
}

fn mark(which: usize, style: Style) -> String {
    let (dot, letter, colour) = MARKS[which % MARKS.len()];
    style.paint(colour, &String::from(if style.unicode { dot } else { letter }))
}

fn draw(row: &[Option<usize>; COLUMNS], style: Style) -> String {
    row.iter().map(|cell| cell.map_or_else(|| " ".to_owned(), |which| mark(which, style))).collect()
}

/// The horizontal axis and its labels.
fn axis(style: Style) -> [String; 2] {
    let (corner, dash, tick) = if style.unicode { ('└', '─', '┴') } else { ('+', '-', '+') };
    let step = (COLUMNS - 1) / NINES;
    let line: String = (0..COLUMNS).map(|c| if c > 0 && c % step == 0 { tick } else { dash }).collect();
    let mut labels = String::from("           ");
    for (nines, text) in ["0%", "90%", "99%", "99.9%", "99.99%"].iter().enumerate() {
        let at = 12 + nines * step;
        let from = at.saturating_sub(text.len() / 2);
        labels.push_str(&" ".repeat(from.saturating_sub(labels.chars().count())));
        labels.push_str(text);
    }
    [format!("  {:>8} {corner}{line}", ""), labels]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(from: u64, to: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        (from..to).for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn the_plot_fits_eighty_columns_and_names_its_curves() {
        let (a, b) = (ramp(1_000, 20_000), ramp(30_000, 9_000_000));
        let series = [Series { name: "ring", histogram: &a }, Series { name: "udp", histogram: &b }];
        let plain = percentiles(&series, Style::PLAIN);
        assert!(plain.iter().all(|line| line.is_ascii() && line.len() <= 80), "{plain:#?}");
        let fancy = percentiles(&series, Style { colour: false, unicode: true });
        assert!(fancy.iter().all(|line| line.chars().count() <= 80), "{fancy:#?}");
        let text = plain.join("\n");
        for word in ["ring", "udp", "99.99%", "us", "ms"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        assert_eq!(plain.len(), ROWS + 3);
    }

    #[test]
    fn a_curve_rises_from_left_to_right() {
        let histogram = ramp(1_000, 1_000_000);
        let plain = percentiles(&[Series { name: "one", histogram: &histogram }], Style::PLAIN);
        let columns: Vec<usize> = plain[..ROWS].iter().filter_map(|line| line.find('o')).collect();
        assert!(columns.windows(2).all(|pair| pair[0] > pair[1]), "top to bottom: {columns:?}");
    }

    #[test]
    fn flat_and_empty_histograms_are_drawn_without_a_panic() {
        let empty = Histogram::new(3).unwrap();
        assert_eq!(percentiles(&[], Style::PLAIN), Vec::<String>::new());
        assert!(!percentiles(&[Series { name: "none", histogram: &empty }], Style::PLAIN).is_empty());
        let flat = ramp(500, 501);
        assert!(!percentiles(&[Series { name: "flat", histogram: &flat }], Style::PLAIN).is_empty());
    }
}
