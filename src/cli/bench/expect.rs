//! `--expect`: what the results must be.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::args::Measure;
use super::result::BenchResult;
use crate::cli::units;

/// A figure of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    /// A latency in nanoseconds: the quantile.
    Quantile(f64),
    Min,
    Mean,
    Max,
    /// Datums a second, of the slowest consumer.
    Rate,
    Sent,
    Received,
    Loss,
    OutOfOrder,
    Damaged,
    Refused,
}

/// How a figure compares with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

impl Comparison {
    /// Longer signs come before those that they start with.
    const SIGNS: [(&str, Self); 6] = [
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("<", Self::Less),
        (">", Self::More),
        ("=", Self::Equal),
    ];

    fn holds(self, figure: f64, limit: f64) -> bool {
        match self {
            Self::Less => figure < limit,
            Self::AtMost => figure <= limit,
            Self::Equal => figure == limit,
            Self::AtLeast => figure >= limit,
            Self::More => figure > limit,
        }
    }
}

/// One comparison, as in `p99<50us`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expectation {
    text: String,
    figure: Figure,
    comparison: Comparison,
    /// Nanoseconds, datums, or datums a second.
    limit: f64,
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Figure {
    /// What a limit looks like, with an example.
    fn is_time(self) -> bool {
        matches!(self, Figure::Quantile(_) | Figure::Min | Figure::Mean | Figure::Max)
    }

    fn parse(name: &str) -> Option<Figure> {
        if let Some(percent) = name.strip_prefix('p').and_then(|rest| rest.parse::<f64>().ok()) {
            // Rounded: 99.9 / 100 is more than 0.999.
            let quantile = (percent * 1e9).round() / 1e11;
            return (percent > 0.0 && percent < 100.0).then_some(Figure::Quantile(quantile));
        }
        Some(match name {
            "min" => Figure::Min,
            "mean" => Figure::Mean,
            "max" => Figure::Max,
            "rate" => Figure::Rate,
            "sent" => Figure::Sent,
            "received" => Figure::Received,
            "loss" => Figure::Loss,
            "out-of-order" => Figure::OutOfOrder,
            "damaged" => Figure::Damaged,
            "refused" => Figure::Refused,
            _ => return None,
        })
    }

    /// The figure of a result, if it has one.
    fn of(self, result: &BenchResult) -> Option<f64> {
        let account = &result.account;
        let latency = || result.latency.as_ref().filter(|latency| !latency.is_empty());
        Some(match self {
            Figure::Quantile(quantile) => latency()?.value_at_quantile(quantile) as f64,
            Figure::Min => latency()?.min() as f64,
            Figure::Mean => latency()?.mean(),
            Figure::Max => latency()?.max() as f64,
            Figure::Rate => result.slowest_rate()?,
            Figure::Sent => account.sent as f64,
            Figure::Received => account.received as f64,
            Figure::Loss => account.lost as f64,
            Figure::OutOfOrder => account.out_of_order as f64,
            Figure::Damaged => account.damaged as f64,
            Figure::Refused => account.refused as f64,
        })
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let at = text.find(['<', '=', '>']).ok_or_else(|| {
            format!("`{text}` has no comparison; write it like p99<50us, loss=0 or rate>=1M")
        })?;
        let (name, rest) = text.split_at(at);
        let figure = Figure::parse(name.trim()).ok_or_else(|| {
            format!(
                "`{}` is no figure of a result; there are p50 (any percentile between 0 and 100), min, mean, max, \
                 rate, loss, received, sent, out-of-order, damaged and refused",
                name.trim()
            )
        })?;
        let (sign, comparison) = Comparison::SIGNS
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(|| format!("`{rest}` does not start with <, <=, =, >= or >"))?;
        let value = rest[sign.len()..].trim();
        let limit = if figure.is_time() {
            time(value).map_err(|why| format!("`{value}` is no time ({why}); write it like p99<50us"))?
        } else {
            count(value).map_err(|why| format!("`{value}` is no number ({why}); write it like loss=0"))?
        };
        Ok(Expectation { text: text.to_owned(), figure, comparison, limit })
    }
}

/// A time in nanoseconds: as options take it, with a unit, and with `ns`.
fn time(text: &str) -> Result<f64, String> {
    if let Some(number) = text.strip_suffix("ns") {
        let number: f64 = number.trim().parse().map_err(|_| "not a number".to_owned())?;
        return if number >= 0.0 && number.is_finite() { Ok(number) } else { Err("out of range".into()) };
    }
    if text.ends_with(|last: char| last.is_ascii_digit() || last == '.') {
        return Err("a unit is missing: ns, us, ms or s".to_owned());
    }
    units::duration(text).map(|time: Duration| time.as_nanos() as f64)
}

/// A number of datums: `0`, `10k`, `1.5M`, each with or without `/s`.
fn count(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { units::rate(text) }
}

impl Expectation {
    /// Whether a run that measures `what` has the figure.
    pub(crate) fn applies_to(&self, what: Measure) -> bool {
        match self.figure {
            figure if figure.is_time() => what.is_timed(),
            Figure::Rate => !what.is_timed(),
            _ => true,
        }
    }

    /// `None` when it is met or does not apply; else the figure that is there, for people.
    pub(crate) fn failure(&self, result: &BenchResult) -> Option<String> {
        if !self.applies_to(result.case.what) {
            return None;
        }
        let Some(figure) = self.figure.of(result) else { return Some("nothing was measured".to_owned()) };
        if self.comparison.holds(figure, self.limit) {
            return None;
        }
        let value =
            if self.figure.is_time() { units::time(figure as u64) } else { units::grouped(figure as u64) };
        Some(format!("it is {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::result;
    use super::*;

    fn parse(text: &str) -> Expectation {
        text.parse().unwrap()
    }

    #[test]
    fn expectations_are_read_with_every_sign_and_unit() {
        for (text, figure, comparison, limit) in [
            ("p99<50us", Figure::Quantile(0.99), Comparison::Less, 50_000.0),
            ("p99.9 <= 1ms", Figure::Quantile(0.999), Comparison::AtMost, 1e6),
            ("max<2s", Figure::Max, Comparison::Less, 2e9),
            ("min>100ns", Figure::Min, Comparison::More, 100.0),
            ("loss=0", Figure::Loss, Comparison::Equal, 0.0),
            ("loss==0", Figure::Loss, Comparison::Equal, 0.0),
            ("rate>=1.5M/s", Figure::Rate, Comparison::AtLeast, 1.5e6),
            ("received>10k", Figure::Received, Comparison::More, 10_000.0),
        ] {
            let read = parse(text);
            assert_eq!((read.figure, read.comparison), (figure, comparison), "{text}");
            assert!((read.limit - limit).abs() < 1e-6 * limit.max(1.0), "{text}: {}", read.limit);
        }
    }

    #[test]
    fn bad_expectations_say_what_is_wrong() {
        for (text, hint) in [
            ("p99", "no comparison"),
            ("speed>1", "no figure"),
            ("p100<1us", "no figure"),
            ("p0<1us", "no figure"),
            ("p99<50", "unit is missing"),
            ("p99<", "no time"),
            ("p99<fast", "50us"),
            ("loss=some", "loss=0"),
            ("=0", "no figure"),
        ] {
            let error = text.parse::<Expectation>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn figures_are_compared_with_their_limits() {
        let timed = result(Measure::Latency);
        for met in ["p50<1ms", "max<=1ms", "loss=0", "sent=1000", "received>=1k", "refused<1", "rate>1M"] {
            assert_eq!(parse(met).failure(&timed), None, "{met}");
        }
        for failed in ["p50<1us", "min>1s", "loss>0", "received<1000", "refused=1", "out-of-order>0"] {
            assert!(parse(failed).failure(&timed).is_some(), "{failed}");
        }
        let full = result(Measure::Throughput);
        assert_eq!(parse("rate>500").failure(&full), None);
        assert!(parse("rate>1M").failure(&full).is_some());
        assert_eq!(parse("p99<1ns").failure(&full), None, "it does not apply");
    }
}
