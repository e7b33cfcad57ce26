//! `--svg`: the percentiles of all timed results as curves.
//!
//! The axes are those of the character plot: each further nine has the same width, and time is logarithmic.

use std::fmt::Write;

use crate::cli::plot::{Series, quantile_at};
use crate::cli::units;

/// Size of the picture, and the edges of the plot in it.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Height of one line of the legend.
const LEGEND_LINE: f64 = 18.0;
/// Nines of the horizontal axis, and its labels.
const NINES: usize = 5;
const LABELS: [&str; NINES + 1] = ["0%", "90%", "99%", "99.9%", "99.99%", "99.999%"];
/// Points of a curve.
const POINTS: usize = 400;
/// Colours of the curves that can be told apart by people who see few colours, in order.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933"];

/// `text` inside an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The picture. `title` stands above it.
pub(crate) fn percentiles(title: &str, series: &[Series<'_>]) -> String {
    let values = |one: &Series<'_>| -> Vec<f64> {
        let quantile = |point| quantile_at(point as f64 / POINTS as f64, NINES);
        (0..=POINTS).map(|p| one.histogram.value_at_quantile(quantile(p)).max(1) as f64).collect()
    };
    let curves: Vec<Vec<f64>> = series.iter().map(values).collect();
    let all = || curves.iter().flatten().copied();
    // Whole decades, so that each has its line.
    let low = all().fold(f64::INFINITY, f64::min).log10().floor();
    let low = if low.is_finite() { low } else { 0.0 };
    let high = all().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let height = HEIGHT + LEGEND_LINE * series.len() as f64;
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |across: f64| LEFT + across * (right - LEFT);
    let y = |value: f64| bottom - (value.log10() - low) / (high - low) * (bottom - TOP);

    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"30\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for decade in low as i32..=high as i32 {
        let value = 10f64.powi(decade);
        let at = y(value);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 6.0,
            at + 4.0,
            units::time(value as u64)
        );
    }
    for (nine, label) in LABELS.iter().enumerate() {
        let at = x(nine as f64 / NINES as f64);
        let _ = write!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n",
            bottom + 18.0
        );
    }
    for (which, (curve, one)) in curves.iter().zip(series).enumerate() {
        let colour = COLOURS[which % COLOURS.len()];
        let points: Vec<String> = curve
            .iter()
            .enumerate()
            .map(|(point, &value)| format!("{:.1},{:.1}", x(point as f64 / POINTS as f64), y(value)))
            .collect();
        let line = HEIGHT + LEGEND_LINE * which as f64;
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n\
             <line x1=\"{LEFT}\" y1=\"{:.1}\" x2=\"{}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{line:.1}\">{}</text>\n",
            points.join(" "),
            line - 4.0,
            LEFT + 24.0,
            line - 4.0,
            LEFT + 32.0,
            escaped(one.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn ramp(from: u64, to: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        (from..to).step_by(7).for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    /// Names of the elements, with their nesting checked.
    fn elements(svg: &str) -> Vec<String> {
        let (mut open, mut seen) = (Vec::new(), Vec::new());
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').unwrap();
            assert!(!text.contains('>'), "{piece}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else {
                assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
                seen.push(name.clone());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
        assert!(open.is_empty(), "{open:?} is not closed");
        seen
    }

    #[test]
    fn picture_is_well_formed_with_a_curve_and_a_name_for_each_result() {
        let (a, b) = (ramp(1_000, 20_000), ramp(30_000, 9_000_000));
        let series = [Series { name: "a<b & c", histogram: &a }, Series { name: "udp", histogram: &b }];
        let svg = percentiles("x > y", &series);
        let seen = elements(&svg);
        assert_eq!(seen.iter().filter(|name| *name == "polyline").count(), 2);
        for word in ["x &gt; y", "a&lt;b &amp; c", "udp", "99.999%", "10.0 us"] {
            assert!(svg.contains(word), "{word} is missing in\n{svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn empty_and_flat_histograms_are_drawn() {
        let (empty, flat) = (Histogram::new(3).unwrap(), ramp(500, 501));
        for series in
            [vec![], vec![Series { name: "", histogram: &empty }, Series { name: "", histogram: &flat }]]
        {
            let svg = percentiles("", &series);
            elements(&svg);
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
    }
}
