//! Whether two programs with default engines slow each other: one pair of processes alone, then two pairs at
//! the same time, in turn. Nothing is pinned but what the engines pin by themselves.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::PathArgs;
use crate::machine;
use crate::program::program;
use crate::row::spread;

/// Datums a second.
const RATES: [&str; 2] = ["5k", "10k"];

/// The medians, in microseconds, of `pairs` pairs that run at the same time.
fn run(program: &Path, rate: &str, seconds: f64, pairs: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let start = || {
        Command::new(program)
            .args(["bench", "latency", "--json", "--quiet", "--engine", "threads", "--rate", rate])
            .args(["--duration", &format!("{seconds}s")])
            .stdout(Stdio::piped())
            .spawn()
    };
    let children = (0..pairs).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
    let mut medians = Vec::new();
    for child in children {
        let output = child.wait_with_output()?;
        let json: Value = serde_json::from_slice(&output.stdout)?;
        let p50 = json["results"][0]["latency_ns"]["p50"].as_f64().ok_or("a result without a median")?;
        medians.push(p50 / 1e3);
    }
    Ok(medians)
}

/// Measures, and prints the table.
pub(crate) fn print(args: &PathArgs) -> Result<(), Box<dyn Error>> {
    let program = program(args.corewire.clone())?;
    let mut out = io::stdout();
    writeln!(out, "{}\n", machine::facts().join("\n"))?;
    writeln!(
        out,
        "| p50, µs, median (smallest to largest) | alone | beside a second pair | ratio |\n|---|---|---|---|"
    )?;
    for rate in RATES {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            alone.extend(run(&program, rate, args.seconds, 1)?);
            beside.extend(run(&program, rate, args.seconds, 2)?);
        }
        let (Some(alone), Some(beside)) = (spread(alone.into_iter()), spread(beside.into_iter())) else {
            return Err("--rounds is at least 1".into());
        };
        let text = |[median, min, max]: [f64; 3]| format!("{median:.1} ({min:.1} to {max:.1})");
        writeln!(
            out,
            "| {rate} a second | {} | {} | {:.2} |",
            text(alone),
            text(beside),
            beside[0] / alone[0]
        )?;
    }
    Ok(())
}
