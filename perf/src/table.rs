//! Tables of alternated runs: what every comparison prints, and which of them it is asked for.
#![allow(clippy::print_stdout, reason = "tables are what the programs print")]

use std::time::Duration;

use clap::Parser;

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
    /// Only to see that everything runs.
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
    /// What stands beside it (what was lost, say), in the group's own unit.
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

/// Rows that are compared with each other: they take turns, and the first is what the others are divided by.
pub struct Group<'a> {
    /// What is measured.
    pub title: String,
    /// The unit of the figures.
    pub unit: &'static str,
    /// What stands beside the figures.
    pub beside: Beside,
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
        let mut figures = vec![Vec::new(); rows.len()];
        let mut beside = vec![0f64; rows.len()];
        for round in 0..plan.rounds {
            for i in 0..rows.len() {
                // Another order in each round: no system always follows the same neighbour.
                let i = (i + round) % rows.len();
                let outcome = (rows[i].run)();
                figures[i].push(outcome.figure);
                beside[i] = beside[i].max(outcome.beside);
            }
        }
        let column = match self.beside {
            Beside::Lost => "lost",
            Beside::Number(name) => name,
            Beside::None => "",
        };
        println!("\n{}, {}", self.title, self.unit);
        println!("  {:<26} {:>9} {:>9} {:>9} {:>7}  {column:>11}", "", "min", "median", "max", "ratio");
        let base = figures.first().and_then(|runs| Spread::of(runs)).map_or(1.0, |spread| spread.median);
        for (row, (runs, beside)) in rows.iter().zip(figures.iter().zip(&beside)) {
            let Some(spread) = Spread::of(runs) else { continue };
            let beside = match self.beside {
                Beside::Lost => format!("{:.2}%", beside * 100.0),
                Beside::Number(_) if beside.fract() == 0.0 => format!("{beside:.0}"),
                Beside::Number(_) => format!("{beside:.3}"),
                Beside::None => String::new(),
            };
            // A count may be nothing, and nothing has no ratio to it.
            let ratio = if base == 0.0 { "-".into() } else { format!("{:.2}", spread.median / base) };
            println!("  {:<26} {spread} {ratio:>7}  {beside:>11}", row.name);
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
