//! A hosted engine inside each executor, and how fast runtimes for io_uring echo a datagram.
//!
//! ```sh
//! cargo run --release -p corewire-perf-hosts
//! ```
//!
//! Two tables, each from `--rounds` runs that take turns: medians, and the smallest and the largest run.
//!
//! - `hosts`: the time of a round trip between a node on a hosted engine, which an executor runs, and an echo
//!   on an engine with a thread of its own.
//! - `echo`: the time of a round trip of a bare datagram of 64 bytes over the loopback interface. Both ends
//!   use the same runtime, on a thread each.

mod echo;
mod hosts;

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;

/// The times of the round trips of one run, or why there are none.
pub(crate) type HostRun = Result<Vec<Duration>, Box<dyn Error>>;

/// One row of a table: a name, and what runs it for a number of round trips.
pub(crate) type HostRow = (&'static str, fn(u64) -> HostRun);

#[derive(Parser)]
#[command(about = "A hosted engine inside each executor, and bare echoes", long_about = None)]
struct HostsArgs {
    /// Runs of each row.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Round trips of a run.
    #[arg(long, default_value_t = 5_000)]
    trips: u64,
    /// Only rows whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// Started by this program itself: one run of the row with this number, and its figures.
    #[arg(long, hide = true)]
    row: Option<usize>,
}

/// One run in a process of its own: what a runtime leaves behind does not reach the next run.
fn run_apart(row: usize, trips: u64) -> Result<[f64; 2], Box<dyn Error>> {
    let options = ["--row".to_owned(), row.to_string(), "--trips".to_owned(), trips.to_string()];
    let output = Command::new(env::current_exe()?).args(options).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ").into());
    }
    let text = String::from_utf8(output.stdout)?;
    let (p50, p99) = text.trim().split_once(' ').ok_or("a run without figures")?;
    Ok([p50.parse()?, p99.parse()?])
}

/// What a run gives: its median and its 99th percentile in microseconds.
fn figures(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    [50, 99].map(|share| {
        let place = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    })
}

/// `median (smallest to largest)`.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "–".to_owned(),
        [min, .., max] => format!("{:.1} ({min:.1} to {max:.1})", values[values.len() / 2]),
        [one] => format!("{one:.1}"),
    }
}

/// Measures the rows in turns. A row that cannot run here is left out, with the reason.
/// `first`: the number of the first row.
fn table(args: &HostsArgs, title: &str, first: usize, rows: &[HostRow]) -> Result<String, Box<dyn Error>> {
    let wanted = |name: &str| args.only.as_ref().is_none_or(|text| name.contains(text.as_str()));
    let numbered = (first..).zip(rows).map(|(row, (name, _))| (*name, row));
    let rows: Vec<(&str, usize)> = numbered.filter(|(name, _)| wanted(name)).collect();
    let mut runs = vec![Ok(Vec::new()); rows.len()];
    for _ in 0..args.rounds {
        for ((_, row), results) in rows.iter().zip(&mut runs) {
            let Ok(done) = results else { continue };
            match run_apart(*row, args.trips) {
                Ok(figures) => done.push(figures),
                Err(error) => *results = Err(error.to_string()),
            }
        }
    }
    let mut text = format!("| {title} | p50, µs | p99, µs |\n|---|---|---|\n");
    for ((name, _), results) in rows.iter().zip(runs) {
        match results {
            Ok(done) => {
                let [p50, p99] = [0, 1].map(|figure| spread(done.iter().map(|run| run[figure]).collect()));
                writeln!(text, "| {name} | {p50} | {p99} |")?;
            }
            Err(why) => writeln!(text, "| {name} | not run: {why} | |")?,
        }
    }
    Ok(text)
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = HostsArgs::parse();
    let mut out = io::stdout();
    if let Some(row) = args.row {
        let (_, run) = hosts::ROWS.iter().chain(&echo::ROWS).nth(row).ok_or("no row has this number")?;
        let [p50, p99] = figures(run(args.trips)?);
        writeln!(out, "{p50} {p99}")?;
        return Ok(());
    }
    writeln!(out, "{}", table(&args, "engine inside", 0, &hosts::ROWS)?)?;
    write!(out, "{}", table(&args, "bare echo by", hosts::ROWS.len(), &echo::ROWS)?)?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    /// Whether the system refuses a runtime io_uring, or the memory that it locks. All others have to run.
    fn is_refused(name: &str) -> bool {
        match name {
            "tokio-uring" => tokio_uring::Runtime::new(&tokio_uring::builder()).is_err(),
            "glommio" => LocalExecutorBuilder::new(Placement::Unbound).make().is_err(),
            _ => false,
        }
    }

    #[test]
    fn every_row_runs_or_gives_its_reason() {
        for (name, run) in hosts::ROWS.iter().chain(&echo::ROWS) {
            match run(50) {
                Ok(times) => assert_eq!(times.len(), 50, "{name}"),
                Err(error) => assert!(is_refused(name), "{name}: {error}"),
            }
        }
    }

    #[test]
    fn figures_of_a_run_and_of_several() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(figures(times).map(f64::round), [101.0, 199.0]);
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), "2.0 (1.0 to 3.0)");
        assert_eq!((spread(vec![]), spread(vec![1.0])), ("–".to_owned(), "1.0".to_owned()));
    }
}
