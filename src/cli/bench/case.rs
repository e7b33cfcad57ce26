//! The combinations that a command line asks for.

use std::fmt;
use std::time::Duration;

use corewire::engine::Idle;

use super::args::{BenchArgs, EngineMode, Measure, check_run};
use crate::cli::args::Io;
use crate::cli::exit::{Exit, Failure};
use crate::cli::units::grouped;

/// Where the two ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    InProcess,
    Processes,
    Machines,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::InProcess => "in-process",
            Transport::Processes => "processes",
            Transport::Machines => "machines",
        })
    }
}

/// One combination.
#[derive(Clone, Debug)]
pub(crate) struct BenchCase {
    pub(crate) what: Measure,
    pub(crate) transport: Transport,
    pub(crate) engine: EngineMode,
    pub(crate) bytes: usize,
    /// Datums a second; `None` for throughput.
    pub(crate) rate: Option<f64>,
    pub(crate) consumers: usize,
    pub(crate) duration: Duration,
    pub(crate) io: Io,
    pub(crate) idle: Idle,
    pub(crate) window: Option<usize>,
}

impl BenchCase {
    /// The combination without spaces, for names of files.
    pub(crate) fn file_part(&self) -> String {
        let rate = self.rate.map_or_else(String::new, |rate| format!("-{rate}"));
        format!("{}-{}-{}B{rate}-{}", self.what, self.engine, self.bytes, self.consumers)
    }
}

impl fmt::Display for BenchCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {} B", self.what, self.engine, grouped(self.bytes as u64))?;
        if let Some(rate) = self.rate {
            write!(f, ", {}/s", rate_text(rate))?;
        }
        match self.consumers {
            1 => Ok(()),
            count => write!(f, ", {count} consumers"),
        }
    }
}

/// A rate for people: `10,000`, `0.5`.
pub(crate) fn rate_text(rate: f64) -> String {
    if rate.fract() == 0.0 { grouped(rate as u64) } else { rate.to_string() }
}

/// Whether `--cpus` has a thread for each CPU.
pub(crate) fn check_cpus(args: &BenchArgs) -> Result<(), Failure> {
    let (most, cause, cure) = if args.peer.is_some() || args.listen.is_some() {
        (1, "with --peer and --listen, --cpus takes the CPU of this end's thread", "--cpus 0")
    } else {
        (2, "--cpus takes a CPU for the sending thread and one for the receiving", "--cpus 0,1")
    };
    if args.cpus.len() > most { Err(Failure::new(Exit::Usage, cause).cure(cure)) } else { Ok(()) }
}

/// The values of a list, each once: two results of one combination would have one name.
fn distinct<T: PartialEq + Copy>(values: &[T]) -> Vec<T> {
    let mut once = Vec::new();
    for value in values {
        if !once.contains(value) {
            once.push(*value);
        }
    }
    once
}

/// All combinations. Engines change fastest, so that their results stand beside each other.
pub(crate) fn cases(args: &BenchArgs) -> Result<Vec<BenchCase>, Failure> {
    let usage = |cause: &str, cure: &str| Err(Failure::new(Exit::Usage, cause).cure(cure));
    let transport = match (&args.peer, args.in_process) {
        (Some(_), _) => Transport::Machines,
        (None, true) => Transport::InProcess,
        (None, false) => Transport::Processes,
    };
    let first = if transport == Transport::Machines { Measure::RoundTrip } else { Measure::Latency };
    let whats = if args.what.is_empty() { vec![first, Measure::Throughput] } else { distinct(&args.what) };
    if transport == Transport::Machines && whats.contains(&Measure::Latency) {
        return usage("two machines have no common clock for a latency one way", "round-trip with --peer");
    }
    check_cpus(args)?;
    let engines = if args.engine.is_empty() {
        vec![EngineMode::Hosted, EngineMode::Threads]
    } else {
        distinct(&args.engine)
    };
    let mut cases = Vec::new();
    for &what in &whats {
        let rates: Vec<Option<f64>> =
            if what.is_timed() { distinct(&args.rate).into_iter().map(Some).collect() } else { vec![None] };
        let fits = |consumers: &&usize| what != Measure::RoundTrip || **consumers == 1;
        for bytes in distinct(&args.size) {
            for &consumers in distinct(&args.consumers).iter().filter(fits) {
                if let Err(why) = check_run(consumers, bytes, args.window) {
                    return usage(&why, "a smaller --window, or fewer --consumers");
                }
                for &rate in &rates {
                    cases.extend(engines.iter().map(|&engine| BenchCase {
                        what,
                        transport,
                        engine,
                        bytes,
                        rate,
                        consumers,
                        duration: args.duration,
                        io: args.io,
                        idle: args.idle,
                        window: args.window,
                    }));
                }
            }
        }
    }
    if cases.is_empty() {
        return usage("a round trip has one consumer", "--consumers 1, or latency");
    }
    for expectation in &args.expect {
        if !cases.iter().any(|case| expectation.applies_to(case.what)) {
            let measured: Vec<String> = whats.iter().map(Measure::to_string).collect();
            return Err(Failure::new(
                Exit::Usage,
                format!("--expect {expectation}: {} has no such figure", measured.join(", ")),
            )
            .cure("percentiles with latency or round-trip, and rate with throughput"));
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, CliCommand};

    fn planned(words: &[&str]) -> Result<Vec<String>, Failure> {
        let line = [&["corewire", "bench"], words].concat();
        let Some(CliCommand::Bench(args)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not bench")
        };
        Ok(cases(&args)?.iter().map(BenchCase::to_string).collect())
    }

    #[test]
    fn lists_multiply_and_throughput_has_no_rate() {
        let all = planned(&["--size", "64,1024", "--rate", "500,10k", "--consumers", "1,4"]).unwrap();
        assert_eq!(all.len(), 2 * 2 * 2 * 2 + 2 * 2 * 2);
        assert_eq!(all[0], "latency, hosted, 64 B, 500/s");
        assert_eq!(all[1], "latency, threads, 64 B, 500/s");
        assert_eq!(all[23], "throughput, threads, 1,024 B, 4 consumers");
        let once = planned(&[
            "latency",
            "latency",
            "--size",
            "64,64",
            "--rate",
            "10k,10000",
            "--engine",
            "hosted,hosted",
        ]);
        assert_eq!(once.unwrap(), ["latency, hosted, 64 B, 10,000/s"]);
    }

    #[test]
    fn defaults_depend_on_where_the_other_end_is() {
        assert_eq!(planned(&[]).unwrap().len(), 4);
        let machines = planned(&["--peer", "10.0.0.1:7500", "--engine", "hosted"]).unwrap();
        assert_eq!(machines, ["round-trip, hosted, 64 B, 10,000/s", "throughput, hosted, 64 B"]);
    }

    #[test]
    fn combinations_that_make_no_sense_are_refused() {
        for (words, hint) in [
            (&["latency", "--peer", "a:1"][..], "common clock"),
            (&["round-trip", "--consumers", "2"], "one consumer"),
            (&["--cpus", "0,1,2"], "--cpus"),
            (&["--cpus", "0,1", "--peer", "a:1"], "this end's thread"),
            (&["throughput", "--expect", "loss=0,p99<1ms"], "p99<1ms"),
            (&["latency", "--expect", "rate>1"], "no such figure"),
        ] {
            let failure = planned(words).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.cause.contains(hint), "{words:?}: {failure}");
        }
    }
}
