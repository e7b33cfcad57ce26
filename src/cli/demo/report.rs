//! The output of the demonstration.

use std::io::{self, Write};
use std::time::Duration;

use super::nodes::{DemoNodes, PartOutcome};
use super::prices::{Checksum, Prices};
use crate::cli::latency::{percentile_names, percentile_row};
use crate::cli::plot::{self, Series};
use crate::cli::term::Style;
use crate::cli::units::grouped;

/// Columns of the output.
const WIDTH: usize = 80;
pub(crate) fn title(out: &mut impl Write, style: Style, prices: &Prices) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        out,
        "{}",
        style.bold(&format!("corewire {version}: one producer, three consumers, real prices"))
    )?;
    writeln!(
        out,
        "{} daily rates of the European Central Bank (2023 and 2024), over and over\n",
        grouped(prices.len() as u64)
    )
}

/// The nodes: addresses, drivers, cores.
pub(crate) fn nodes(out: &mut impl Write, style: Style, demo: &DemoNodes) -> io::Result<()> {
    for node in &demo.nodes {
        let facts = &node.facts;
        writeln!(
            out,
            "  {} {:<16} {:<9} {:<20} {}",
            style.bold(node.name),
            facts.addresses,
            facts.driver,
            facts.cores,
            node.role
        )?;
    }
    if let Some(reason) = demo.nodes.iter().find_map(|node| node.facts.fallback.as_ref()) {
        for line in wrapped(reason, WIDTH - 2) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// `text` wrapped between words to lines of at most `width` characters; a longer word has its own line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

pub(crate) fn latency_begins(
    out: &mut impl Write,
    style: Style,
    rate: f64,
    time: Duration,
) -> io::Result<()> {
    let line =
        format!("1. Latency: {} prices a second for {:.1} s", grouped(rate as u64), time.as_secs_f64());
    writeln!(out, "\n{}", style.bold(&line))?;
    writeln!(out, "   from the moment a price should have been sent to the moment it was taken")?;
    out.flush()
}

pub(crate) fn hosted_begins(out: &mut impl Write, style: Style, rate: f64, time: Duration) -> io::Result<()> {
    let rate = grouped(rate as u64);
    let line = format!("2. Hosted: {rate} prices a second for {:.1} s", time.as_secs_f64());
    writeln!(out, "\n{}", style.bold(&line))?;
    writeln!(out, "   from a node to another, each driven by the thread that sends or receives")?;
    out.flush()
}

pub(crate) fn latency(out: &mut impl Write, style: Style, outcome: &PartOutcome) -> io::Result<()> {
    timed(out, outcome)?;
    let series: Vec<Series<'_>> =
        outcome.tallies.iter().map(|(name, tally)| Series { name, histogram: &tally.latency }).collect();
    writeln!(out)?;
    for line in plot::percentiles(&series, style) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The latencies of a part, in numbers.
pub(crate) fn timed(out: &mut impl Write, outcome: &PartOutcome) -> io::Result<()> {
    write!(out, "\n  {:<8} {:>9}", "consumer", "received")?;
    percentile_names(out)?;
    for (name, tally) in &outcome.tallies {
        write!(out, "  {name:<8} {:>9}", grouped(tally.received))?;
        percentile_row(out, &tally.latency)?;
    }
    write!(out, "  {:<18}", "producer late by")?;
    percentile_row(out, &outcome.produced.late)
}

pub(crate) fn throughput_begins(out: &mut impl Write, style: Style, time: Duration) -> io::Result<()> {
    let line = format!("3. Throughput: as many as go through in {:.1} s", time.as_secs_f64());
    writeln!(out, "\n{}", style.bold(&line))?;
    out.flush()
}

pub(crate) fn throughput(out: &mut impl Write, outcome: &PartOutcome) -> io::Result<()> {
    let per_second =
        |count: u64, time: Duration| grouped((count as f64 / time.as_secs_f64().max(1e-9)) as u64);
    writeln!(
        out,
        "\n  {:<8} {:>12} {:>12} {:>6} {:>13} {:>8}",
        "consumer", "received", "a second", "lost", "out of order", "changed"
    )?;
    for (name, tally) in &outcome.tallies {
        writeln!(
            out,
            "  {name:<8} {:>12} {:>12} {:>6} {:>13} {:>8}",
            grouped(tally.received),
            per_second(tally.received, tally.took),
            grouped(tally.missing),
            grouped(tally.disordered),
            grouped(tally.wrong)
        )?;
    }
    Ok(())
}

/// The last lines: whether every datum arrived. `expected` is the checksum of what the nodes with threads
/// were sent in `outcomes`.
pub(crate) fn verdict(
    out: &mut impl Write,
    style: Style,
    hosted: &PartOutcome,
    outcomes: &[&PartOutcome],
    expected: Checksum,
) -> io::Result<bool> {
    let mut well = true;
    writeln!(out)?;
    for (name, tally) in [&hosted].into_iter().chain(outcomes).flat_map(|outcome| &outcome.tallies) {
        if !tally.is_whole() {
            well = false;
            let (missing, disordered) = (grouped(tally.missing), grouped(tally.disordered));
            let changed = grouped(tally.wrong);
            let failed = style.paint(31, "failed:");
            writeln!(
                out,
                "{failed} {name}: {missing} missing, {disordered} out of order, {changed} changed"
            )?;
        }
    }
    let Some(last) = outcomes.last() else { return Ok(false) };
    for (name, tally) in &last.tallies {
        if tally.checksum != expected {
            well = false;
            let (got, want) = (tally.checksum.short(), expected.short());
            writeln!(out, "{} {name}: checksum {got} instead of {want}", style.paint(31, "failed:"))?;
        }
    }
    if well {
        let ok = style.paint(32, if style.unicode { "✓" } else { "ok:" });
        writeln!(
            out,
            "{ok} A, B and C each got all {} prices, in order and unchanged",
            grouped(last.produced.end)
        )?;
        writeln!(out, "  and the hosted consumer all {} of its part", grouped(hosted.produced.end))?;
        writeln!(out, "  checksum of what was sent, and of what each received: {}", expected.short())?;
    }
    out.flush()?;
    Ok(well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_wrapped_between_words() {
        let text = "one two three four five six seven";
        let lines = wrapped(text, 10);
        assert!(lines.iter().all(|line| line.len() <= 10), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrapped("longer_than_the_width", 4), ["longer_than_the_width"]);
    }
}
