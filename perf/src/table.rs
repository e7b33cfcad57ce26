//! Tables of alternated runs: what every comparison prints, and which of them it is asked for.
#![allow(clippy::print_stdout, reason = "tables are what the programs print")]

use std::time::Duration;

use clap::Parser;

use crate::rings::limits;
use crate::stats::Spread;

/// What a comparison is asked to do.
#[derive(Debug, Clone, Parser)]
#[command(about = "corewire's fanout ring beside its peers and its limits, in one run", long_about = None)]
pub struct Options {
    /// One short round: shows that everything runs; its figures mean nothing.
    #[arg(long)]
    pub quick: bool,
    /// Only groups whose title contains this text (may be given several times; case does not matter).
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
    /// Only rows whose name contains this text (likewise). Ratios are to the first row that is left.
    #[arg(long, value_name = "TEXT")]
    pub rows: Vec<String>,
    /// Rounds of every group.
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
}

/// How much is measured, and of what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often each row of a group runs, in turns with the others.
    pub rounds: usize,
    /// Length of a throughput run.
    pub time: Duration,
    /// Round trips of a latency run.
    pub trips: usize,
    /// Short, to see that everything runs.
    pub quick: bool,
    only: Vec<String>,
    rows: Vec<String>,
}

impl Plan {
    /// The plan that `options` ask for.
    pub fn new(options: &Options) -> Plan {
        let lower = |texts: &[String]| texts.iter().map(|text| text.to_lowercase()).collect();
        let (rounds, time, trips) = if options.quick { (1, 20, 2_000) } else { (7, 250, 100_000) };
        Plan {
            rounds: options.rounds.unwrap_or(rounds).max(1),
            time: Duration::from_millis(time),
            trips,
            quick: options.quick,
            only: lower(&options.only),
            rows: lower(&options.rows),
        }
    }

    /// Calls of a run on one thread.
    pub fn calls(&self) -> u64 {
        if self.quick { 2_000 } else { 200_000 }
    }

    /// Whether the group of this title was asked for.
    pub fn wants(&self, title: &str) -> bool {
        matches(&self.only, title)
    }
}

/// Whether `text` contains one of `wanted` (all lower case); everything does when nothing is wanted.
fn matches(wanted: &[String], text: &str) -> bool {
    let text = text.to_lowercase();
    wanted.is_empty() || wanted.iter().any(|wanted| text.contains(wanted))
}

/// What one run of one row gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The figure, in the group's unit.
    pub figure: f64,
    /// The value beside it (for example the share lost), in the group's unit.
    pub beside: f64,
}

/// One row of a group: its name and one run of it.
pub struct Row<'a> {
    name: String,
    run: Box<dyn Fn() -> Outcome + 'a>,
}

impl<'a> Row<'a> {
    /// A row called `name`, of which `run` is one run.
    pub fn new(name: impl Into<String>, run: impl Fn() -> Outcome + 'a) -> Self {
        Row { name: name.into(), run: Box::new(run) }
    }
}

/// The column beside the figures: the largest value that any round had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The share of messages that some receiver did not get.
    Lost,
    /// A number with this name.
    Number(&'static str),
    /// Nothing.
    None,
}

/// The distance of the two processors. A virtual machine may be moved to other processors while it runs, and
/// every figure of two threads changes with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distance {
    /// A cache line goes there and back in less than [`NEAR_NS`].
    Near,
    /// It takes longer.
    Far,
    /// It was near at one end of the run and far at the other.
    Changed,
}

/// Round trip of a cache line below which processors are near, in nanoseconds: between the times of
/// processors that share a cache and of those that do not.
const NEAR_NS: f64 = 200.0;

/// Round trips that measure the distance.
const PROBE_TRIPS: usize = 2_000;

impl Distance {
    fn now() -> Self {
        if limits::ping_pong(PROBE_TRIPS) < NEAR_NS { Self::Near } else { Self::Far }
    }

    fn and(self, later: Self) -> Self {
        if self == later { self } else { Self::Changed }
    }
}

/// What the runs of one row gave.
#[derive(Default)]
struct Runs {
    outcomes: Vec<(Distance, Outcome)>,
}

impl Runs {
    /// The figures of the runs at this distance; of all runs, if none is given.
    fn figures(&self, at: Option<Distance>) -> Vec<f64> {
        let wanted = |distance: Distance| at.is_none_or(|at| at == distance);
        self.outcomes.iter().filter(|(distance, _)| wanted(*distance)).map(|(_, out)| out.figure).collect()
    }

    fn beside(&self) -> f64 {
        self.outcomes.iter().map(|(_, outcome)| outcome.beside).fold(0.0, f64::max)
    }
}

/// Rows that are compared with each other. They run alternately; ratios are to the first row.
pub struct Group<'a> {
    /// What is measured.
    pub title: String,
    /// The unit of the figures.
    pub unit: &'static str,
    /// The column beside the figures.
    pub beside: Beside,
    /// Whether the figures depend on how far the processors lie apart. Then there is a table for each
    /// distance.
    pub between_processors: bool,
    /// The rows.
    pub rows: Vec<Row<'a>>,
}

impl Group<'_> {
    /// Runs the rows that `plan` wants, in turns, and prints their table.
    pub fn run(self, plan: &Plan) {
        if !plan.wants(&self.title) {
            return;
        }
        let rows: Vec<_> = self.rows.iter().filter(|row| matches(&plan.rows, &row.name)).collect();
        let mut runs: Vec<Runs> = rows.iter().map(|_| Runs::default()).collect();
        for round in 0..plan.rounds {
            for i in 0..rows.len() {
                // Another order in each round, so that no row always follows the same one.
                let i = (i + round) % rows.len();
                let before = self.between_processors.then(Distance::now);
                let outcome = (rows[i].run)();
                let distance = before.map_or(Distance::Near, |before| before.and(Distance::now()));
                runs[i].outcomes.push((distance, outcome));
            }
        }
        if !self.between_processors {
            return self.print("", &rows, &runs, None);
        }
        for (name, distance) in [("; processors near", Distance::Near), ("; processors far", Distance::Far)] {
            if runs.iter().any(|runs| !runs.figures(Some(distance)).is_empty()) {
                self.print(name, &rows, &runs, Some(distance));
            }
        }
    }

    fn print(&self, placed: &str, rows: &[&Row<'_>], runs: &[Runs], at: Option<Distance>) {
        let column = match self.beside {
            Beside::Lost => "lost",
            Beside::Number(name) => name,
            Beside::None => "",
        };
        println!("\n{}, {}{placed}", self.title, self.unit);
        println!(
            "  {:<26} {:>9} {:>9} {:>9} {:>7} {:>4}  {column:>11}",
            "", "min", "median", "max", "ratio", "runs"
        );
        let base = runs.first().and_then(|runs| Spread::of(&runs.figures(at))).map(|spread| spread.median);
        for (row, runs) in rows.iter().zip(runs) {
            let figures = runs.figures(at);
            let Some(spread) = Spread::of(&figures) else { continue };
            let beside = runs.beside();
            let beside = match self.beside {
                Beside::Lost => format!("{:.2}%", beside * 100.0),
                Beside::Number(_) if beside.fract() == 0.0 => format!("{beside:.0}"),
                Beside::Number(_) => format!("{beside:.3}"),
                Beside::None => String::new(),
            };
            // No ratio to zero, nor to a row that never ran at this distance.
            let ratio = match base {
                Some(base) if base != 0.0 => format!("{:.2}", spread.median / base),
                _ => "-".into(),
            };
            println!("  {:<26} {spread} {ratio:>7} {:>4}  {beside:>11}", row.name, figures.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_wanted_unless_something_is() {
        assert!(matches(&[], "1 -> 1, 64 B"));
        let wanted = ["64 b".to_owned(), "round".to_owned()];
        assert!(matches(&wanted, "1 -> 1, 64 B"));
        assert!(matches(&wanted, "Round trip"));
        assert!(!matches(&wanted, "1 -> 1, 16 B"));
    }
}
