//! corewire between two processes, beside a program that does the same without a protocol: one command, one
//! table.
//!
//! ```sh
//! cargo build --release && cargo run --release -p corewire-perf-path -- --out perf/runs/<name>
//! ```
//!
//! Every row is measured by every program in turn, and again, `--rounds` times. The table has medians, the
//! smallest and the largest run, and ratios to the limit. The raw output of each run is a file in `--out`.
//! With `--features quinn` a column shows QUIC streams of that library, with `--features zenoh` zenoh over
//! TCP.

mod beside;
mod limit;
mod machine;
mod program;
#[cfg(feature = "quinn")]
mod quinn_streams;
mod row;
mod tally;
#[cfg(feature = "zenoh")]
mod zenoh_pubsub;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::program::Contender;
use crate::row::{Figures, PathCase, spread};

#[derive(Parser)]
#[command(about = "corewire between two processes beside its limit", long_about = None)]
struct PathArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// Folder for the table and the raw output of every run.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Runs of each program and row.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a run is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The program `corewire`. Default: the one beside this program.
    #[arg(long)]
    corewire: Option<PathBuf>,
    /// CPUs of the sending and the receiving thread.
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = "0,1")]
    cpus: Vec<usize>,
    /// Only rows whose name contains this text, such as `full speed`.
    #[arg(long)]
    only: Option<String>,
    /// Instead of the table: one pair of processes alone, and beside a second pair, with default engines.
    #[arg(long)]
    beside: bool,
}

#[derive(Subcommand)]
enum Part {
    /// The receiving process of the limit, or of a peer; started by this program.
    #[command(hide = true)]
    Receive {
        #[arg(long)]
        quinn: bool,
        /// The address of zenoh's sending session.
        #[arg(long)]
        zenoh: Option<String>,
        #[arg(long)]
        consumers: usize,
        #[arg(long)]
        bytes: usize,
        #[arg(long)]
        cpu: usize,
    },
}

/// All runs of one row: for each program its name and its runs.
type RowRuns = Vec<(&'static str, Vec<Figures>)>;

/// Measures all rounds. `--out` gets the table of those so far after each, since all take long. Returns the
/// last table.
fn measure(args: &PathArgs, cases: &[PathCase]) -> Result<String, Box<dyn Error>> {
    let [sender, receiver] = args.cpus[..] else { return Err("--cpus takes two".into()) };
    let contenders = Contender::all(args.corewire.clone())?;
    let new_row = || contenders.iter().map(|one| (one.name(), Vec::new())).collect();
    let mut rows: Vec<RowRuns> = cases.iter().map(|_| new_row()).collect();
    if let Some(out) = &args.out {
        fs::create_dir_all(out)?;
    }
    let facts = machine::facts().join("\n");
    let mut report = String::new();
    for round in 1..=args.rounds {
        for (case, row) in cases.iter().zip(&mut rows) {
            for (contender, (name, runs)) in contenders.iter().zip(row) {
                let (figures, raw) = contender.run(case, [sender, receiver])?;
                if let Some(out) = &args.out {
                    let file = format!("{} {name} {round}.txt", case.name()).replace([' ', ','], "-");
                    fs::write(out.join(file.replace("--", "-")), raw + "\n")?;
                }
                let shown = [figures.p50, figures.rate].into_iter().flatten().next().unwrap_or(0.0);
                writeln!(io::stderr(), "round {round}, {}, {name}: {shown:.2}", case.name())?;
                runs.push(figures);
            }
        }
        let head =
            format!("rounds: {round}, {} s each, taking turns; median (smallest to largest)", args.seconds);
        report = format!("{facts}\n{head}\n\n{}", table(cases, &rows));
        if let Some(out) = &args.out {
            fs::write(out.join("table.md"), &report)?;
        }
    }
    Ok(report)
}

/// Takes one figure of a run.
type FigureOf = fn(&Figures) -> Option<f64>;

/// The figures of a row, one line each: name, unit and the figure of a run.
fn lines(case: &PathCase) -> Vec<(&'static str, FigureOf)> {
    match case.rate {
        Some(_) => vec![("p50, µs", |run| run.p50), ("p99, µs", |run| run.p99)],
        None => vec![("M/s to each", |run| run.rate)],
    }
}

fn table(cases: &[PathCase], rows: &[RowRuns]) -> String {
    let mut text = String::new();
    let names: Vec<&str> =
        rows.first().map(|row| row.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
    text += &format!("| case | figure | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (case, row) in cases.iter().zip(rows) {
        for (figure, of) in lines(case) {
            text += &format!("| {} | {figure} |", case.name());
            let medians: Vec<_> = row.iter().map(|(_, runs)| spread(runs.iter().filter_map(of))).collect();
            let limit = medians.first().copied().flatten().map(|[median, ..]| median);
            for (index, spread) in medians.iter().enumerate() {
                let Some([median, min, max]) = spread else {
                    text += " – |";
                    continue;
                };
                text += &format!(" {median:.2} ({min:.2} to {max:.2})");
                if let (true, Some(limit)) = (index > 0, limit.filter(|limit| *limit > 0.0)) {
                    text += &format!(", {:.2} of the limit", median / limit);
                }
                text += " |";
            }
            text += "\n";
        }
        let lost: Vec<String> = row
            .iter()
            .map(|(name, runs)| format!("{name} {}", runs.iter().map(|run| run.lost).sum::<u64>()))
            .collect();
        text += &format!("| | lost | {} |\n", lost.join(" | "));
    }
    text
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = PathArgs::parse();
    match args.part {
        #[cfg(feature = "quinn")]
        Some(Part::Receive { quinn: true, consumers, bytes, cpu, .. }) => {
            return quinn_streams::receive(consumers, bytes, cpu);
        }
        #[cfg(feature = "zenoh")]
        Some(Part::Receive { zenoh: Some(address), consumers, .. }) => {
            return zenoh_pubsub::receive(consumers, &address);
        }
        Some(Part::Receive { consumers, bytes, cpu, .. }) => return limit::receive(consumers, bytes, cpu),
        None => {}
    }
    if args.beside {
        return beside::print(&args);
    }
    let wanted = |case: &PathCase| args.only.as_ref().is_none_or(|text| case.name().contains(text.as_str()));
    let cases: Vec<PathCase> =
        PathCase::all(Duration::from_secs_f64(args.seconds)).into_iter().filter(wanted).collect();
    let report = measure(&args, &cases)?;
    write!(io::stdout(), "{report}")?;
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
