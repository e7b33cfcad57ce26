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

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
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
fn table(args: &HostsArgs, title: &str, rows: &[HostRow]) -> Result<String, Box<dyn Error>> {
    let wanted = |name: &str| args.only.as_ref().is_none_or(|text| name.contains(text.as_str()));
    let rows: Vec<_> = rows.iter().filter(|(name, _)| wanted(name)).collect();
    let mut runs = vec![Ok(Vec::new()); rows.len()];
    for _ in 0..args.rounds {
        for ((_, run), results) in rows.iter().zip(&mut runs) {
            let Ok(done) = results else { continue };
            match run(args.trips) {
                Ok(times) => done.push(figures(times)),
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
    writeln!(out, "{}", table(&args, "engine inside", &hosts::ROWS)?)?;
    write!(out, "{}", table(&args, "bare echo by", &echo::ROWS)?)?;
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
