//! The options of `bench`.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use corewire::engine::Idle;
use serde::{Deserialize, Serialize};

use super::expect::Expectation;
use super::tick::MIN_TICK_BYTES;
use crate::cli::args::Io;
use crate::cli::units;

/// The default network of `bench --peer` and `bench --listen`.
const BENCH_NETWORK: &str = "corewire-bench";
/// The longest run of one combination.
const MAX_DURATION: Duration = Duration::from_secs(3600);
/// Consumers at most: the places of a ring.
pub(crate) const MAX_CONSUMERS: usize = 1_024;
/// Bytes that a ring or a window may hold.
const WINDOW_BYTES: RangeInclusive<usize> = 4_096..=0x600_0000;
/// Bytes that the windows of one run hold at most, all consumers together.
const MAX_WINDOWS_BYTES: usize = 2 << 30;

pub(crate) const BENCH_EXAMPLES: &str = "\
Examples:
  corewire bench                              latency and throughput, hosted and threads
  corewire bench latency --rate 10k,100k --size 64,1024 --engine hosted
  corewire bench throughput --consumers 1,4,16 --json > results.json
  corewire bench latency --expect 'p99<1ms,loss=0' --hgrm out.hgrm --svg out.svg
  corewire bench --listen 10.0.0.5:7500       on one machine, and on another:
  corewire bench --peer 10.0.0.5:7500

Latency counts from the moment at which a datum was to be sent (open loop). A list of values makes one result
for each combination. Between machines a round trip takes the place of the latency, for want of a common
clock. Expectations compare p50, p99.9, min, mean, max (latency, round-trip), rate (throughput), and loss,
received, sent, out-of-order, damaged, refused, with <, <=, =, >= or >.";

/// What a run measures.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Measure {
    // One way, from the intended send time, at a steady rate.
    Latency,
    // There and back, from the intended send time, at a steady rate.
    RoundTrip,
    // Datums a second, as fast as the slowest consumer takes them.
    Throughput,
}

impl Measure {
    /// Whether datums are sent at a rate, and timed.
    pub(crate) fn is_timed(self) -> bool {
        self != Measure::Throughput
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Measure::Latency => "latency",
            Measure::RoundTrip => "round-trip",
            Measure::Throughput => "throughput",
        })
    }
}

/// Which threads drive the engine of each end.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineMode {
    // The thread that sends or receives.
    Hosted,
    // A thread of the engine's own.
    Threads,
}

impl fmt::Display for EngineMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineMode::Hosted => "hosted",
            EngineMode::Threads => "threads",
        })
    }
}

/// `corewire bench`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("elsewhere").args(["peer", "listen"]))]
pub(crate) struct BenchArgs {
    /// What to measure [default: latency throughput; with --peer: round-trip throughput]
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: Vec<Measure>,
    /// What drives the engine at each end: the thread that sends or receives, or threads of its own
    /// [default: hosted,threads; with --listen: hosted]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) engine: Vec<EngineMode>,
    /// Bytes of a datum, 24 or more
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64", value_parser = tick_size)]
    pub(crate) size: Vec<usize>,
    /// Datums a second of latency and round-trip
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10k", value_parser = units::rate)]
    pub(crate) rate: Vec<f64>,
    /// Consumers, 1 to 1024, all at the other end; each takes every datum
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = consumers)]
    pub(crate) consumers: Vec<usize>,
    /// How long each combination is measured, after a warm-up
    #[arg(long, visible_alias = "for", value_name = "TIME", default_value = "2s", value_parser = run_time)]
    pub(crate) duration: Duration,
    /// Driver; auto takes epoll for a hosted engine, io_uring for threads where the kernel allows it
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) io: Io,
    /// How threads wait: adaptive (yield, then sleep), spin, or park (sleep)
    #[arg(long, value_name = "HOW", default_value = "adaptive")]
    pub(crate) idle: Idle,
    /// Bytes that the producer's ring and each consumer's window hold [default: those of the library]
    #[arg(long, value_name = "SIZE", value_parser = window_size)]
    pub(crate) window: Option<usize>,
    /// CPUs for the sending and the receiving thread, as in 0,1; with --peer or --listen the one of this end
    /// [default: not pinned]
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 1)]
    pub(crate) cpus: Vec<usize>,
    /// Both ends in this process, on two threads
    #[arg(long, conflicts_with_all = ["peer", "listen"])]
    pub(crate) in_process: bool,
    /// The other end: a `corewire bench --listen` on another machine
    #[arg(long, value_name = "ADDR", value_parser = units::peer, conflicts_with = "listen")]
    pub(crate) peer: Option<String>,
    /// Be the other end for `corewire bench --peer`, until a signal comes
    #[arg(long, value_name = "ADDR", conflicts_with_all = [
        "what", "size", "rate", "consumers", "duration", "window", "json", "hgrm", "svg", "expect",
    ])]
    pub(crate) listen: Option<SocketAddr>,
    /// Name of the network of --peer and --listen; both sides must use the same
    #[arg(long, value_name = "NAME", default_value = BENCH_NETWORK, requires = "elsewhere")]
    pub(crate) network: String,
    /// File from which the network's secret is derived, for --peer and --listen; both sides need the same
    /// bytes
    #[arg(long, value_name = "FILE", requires = "elsewhere")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Write the results as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the percentiles of each timed result for HdrHistogram's tools; one file for each result
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Draw the percentiles of all timed results
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// What every result must be, as in 'p99<1ms,loss=0'; exit code 5 if one is not
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) expect: Vec<Expectation>,
    /// Say nothing on stderr except errors and warnings
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Started by `bench` itself: tells its address on stdout, and ends with its stdin
    #[arg(long, hide = true, requires = "listen")]
    pub(crate) child: bool,
}

/// Whether one run may have these consumers, bytes of a datum and window; if not, why.
pub(crate) fn check_run(consumers: usize, bytes: usize, window: Option<usize>) -> Result<(), String> {
    if !(1..=MAX_CONSUMERS).contains(&consumers) {
        return Err(format!("a number of consumers is 1 to {MAX_CONSUMERS}"));
    }
    if bytes < MIN_TICK_BYTES {
        return Err(format!(
            "a datum of the bench has {MIN_TICK_BYTES} bytes or more: its number and its time"
        ));
    }
    units::check_datum_size(bytes)?;
    let Some(window) = window else { return Ok(()) };
    if !WINDOW_BYTES.contains(&window) {
        return Err("a window has 4KiB to 96MiB".to_owned());
    }
    if window.saturating_mul(consumers) > MAX_WINDOWS_BYTES {
        return Err("the windows of all consumers have at most 2GiB together".to_owned());
    }
    Ok(())
}

fn tick_size(text: &str) -> Result<usize, String> {
    let bytes = units::datum_size(text)?;
    check_run(1, bytes, None).map(|()| bytes)
}

fn consumers(text: &str) -> Result<usize, String> {
    // What is no number is none that is allowed.
    let count = text.parse().unwrap_or(0);
    check_run(count, MIN_TICK_BYTES, None).map(|()| count)
}

fn run_time(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        time if time < Duration::from_millis(10) || time > MAX_DURATION => {
            Err("a combination is measured for 10ms to 1h".to_owned())
        }
        time => Ok(time),
    }
}

fn window_size(text: &str) -> Result<usize, String> {
    let bytes = units::size(text)?;
    check_run(1, MIN_TICK_BYTES, Some(bytes)).map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(words: &[&str]) -> Result<BenchArgs, clap::Error> {
        Line::try_parse_from([&["bench"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn lists_of_values_are_read() {
        let args = parse(&[
            "round-trip",
            "throughput",
            "--for=3s",
            "--size",
            "24,1KiB",
            "--rate=500,10k",
            "--consumers=1,1024",
            "--engine=threads,hosted",
            "--cpus=0,1",
        ])
        .unwrap();
        assert_eq!(args.what, [Measure::RoundTrip, Measure::Throughput]);
        assert_eq!((args.size, args.rate), (vec![24, 1024], vec![500.0, 10_000.0]));
        assert_eq!((args.consumers, args.cpus), (vec![1, 1024], vec![0, 1]));
        assert_eq!(args.engine, [EngineMode::Threads, EngineMode::Hosted]);
        assert_eq!(args.duration, Duration::from_secs(3), "under the name that the demonstration has for it");
    }

    #[test]
    fn bad_values_name_what_is_allowed() {
        for (words, allowed) in [
            (&["--size", "23"][..], "24 bytes"),
            (&["--consumers", "1025"], "1 to 1024"),
            (&["--consumers", "0"], "1 to 1024"),
            (&["--duration", "1ms"], "10ms to 1h"),
            (&["--window", "1"], "4KiB"),
            (&["--idle", "dream"], "adaptive"),
            (&["--rate", "0"], "0.001"),
            (&["--expect", "p99<fast"], "50us"),
            (&["--peer", "nowhere"], "10.0.0.1:7411"),
            (&["--in-process", "--peer", "a:1"], "cannot be used"),
            (&["--listen", "127.0.0.1:0", "latency"], "cannot be used"),
            (&["--listen", "127.0.0.1:0", "--size", "64"], "cannot be used"),
            (&["--listen", "127.0.0.1:0", "--duration", "1s"], "cannot be used"),
            (&["--network", "n"], "--listen"),
            (&["--secret-file", "f"], "--listen"),
            (&["speed"], "latency"),
        ] {
            let error = parse(words).map(|_| ()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(allowed), "{words:?}: {error}");
        }
    }
}
