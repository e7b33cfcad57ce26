//! The command line: every option, its default and its help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::bench::{BENCH_EXAMPLES, BenchArgs, MAX_CONSUMERS};
use super::exit::EXIT_CODES_HELP;
use super::units::{self, UNITS_HELP};

/// The default port of `pub`, on the loopback interface. It lies outside the range of ports that Linux
/// assigns by itself (32768..60999).
pub(crate) const DEFAULT_PORT: u16 = 7411;

/// The network that `pub` and `sub` join by default.
pub(crate) const DEFAULT_NETWORK: &str = "corewire";

/// The largest record of `pub` by default.
pub(crate) const DEFAULT_MAX_DATUM: &str = "64KiB";

const ABOUT: &str =
    "A typed publish/subscribe dataplane. Without a command: a demonstration of five seconds.";

const EXAMPLES: &str = "\
Examples:
  corewire                                    the demonstration
  corewire sub numbers --count 5              in one terminal, and in another:
  seq 1 5 | corewire pub numbers

The two find each other on one host without addresses, and on one LAN with --lan or --secret-file.";

const PUB_EXAMPLES: &str = "\
Examples:
  seq 1 1000000 | corewire pub numbers        then: corewire sub numbers --count 1000000 | tail -1
  corewire pub log --file /etc/services --rate 100
  seq 1 9 | corewire pub numbers --listen 127.0.0.1:7500
                                              then: corewire sub numbers --peer 127.0.0.1:7500

A line is sent without its line feed. `pub` waits for its first consumer (--consumers), and ends when the
input is finished and every consumer has all of it. Exit code 1: some consumer did not get everything; stderr
names it.";

const SUB_EXAMPLES: &str = "\
Examples:
  corewire sub numbers --count 1000000 | sha256sum
  corewire sub numbers --for 10s > numbers.txt
  corewire sub numbers --until-end            ends when the publisher has finished

`sub` may be started before `pub`: it keeps looking. Records go to stdout, everything else to stderr.";

/// The whole command line.
#[derive(Parser, Debug)]
#[command(name = "corewire", version, about = ABOUT, args_conflicts_with_subcommands = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{UNITS_HELP}\n\n{EXIT_CODES_HELP}"))]
pub(crate) struct Cli {
    /// `None` is the demonstration.
    #[command(subcommand)]
    pub(crate) command: Option<CliCommand>,
    #[command(flatten)]
    pub(crate) demo: DemoArgs,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum CliCommand {
    /// Publish lines or records from stdin or a file
    #[command(after_help = format!("{PUB_EXAMPLES}\n\n{UNITS_HELP}\n\n{EXIT_CODES_HELP}"))]
    Pub(PubArgs),
    /// Subscribe to a stream and write its records to stdout
    #[command(after_help = format!("{SUB_EXAMPLES}\n\n{UNITS_HELP}\n\n{EXIT_CODES_HELP}"))]
    Sub(SubArgs),
    /// Measure latency and throughput, between processes of this machine by default
    #[command(after_help = format!("{BENCH_EXAMPLES}\n\n{UNITS_HELP}\n\n{EXIT_CODES_HELP}"))]
    Bench(BenchArgs),
    /// Print the completions of a shell
    #[command(
        after_help = "Example:\n  corewire completions bash > ~/.local/share/bash-completion/completions/corewire"
    )]
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the man page, or that of a command
    #[command(after_help = "Example:\n  corewire man pub > corewire-pub.1")]
    Man {
        /// The command; without it, the program
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
}

/// How datagrams reach the kernel.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    // Regular comments: doc comments would turn `--help` into a long list.
    // io_uring where the kernel allows it, epoll otherwise.
    Auto,
    // io_uring, or fail.
    Uring,
    // epoll.
    Epoll,
}

/// How records are framed in stdin and stdout.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    // One record a line.
    Lines,
    // A 32-bit little-endian length before each record.
    LengthPrefixed,
}

/// What becomes of a consumer that others wait for.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowConsumers {
    // It is cut off after a second in total, and told what it missed.
    Cut,
    // All wait for it.
    Wait,
}

/// The demonstration's options.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Driver; auto takes io_uring where the kernel allows it, epoll otherwise
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) io: Io,
    /// How long the demonstration sends, 20 ms to 10 min
    #[arg(long = "for", visible_alias = "duration", value_name = "TIME", default_value = "4s")]
    #[arg(value_parser = demo_time)]
    pub(crate) duration: Duration,
    /// Prices a second in the demonstration's latency part
    #[arg(long, value_name = "RATE", default_value = "10k", value_parser = units::rate)]
    pub(crate) rate: f64,
}

/// Options that `pub` and `sub` share.
#[derive(Args, Debug)]
pub(crate) struct NetArgs {
    /// Address to listen on (UDP); port 0 lets the system choose [default: where peers can be reached; pub
    /// tries port 7411 first]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of a node to join, or HOST:PORT; may be given several times [default for sub: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDR", value_parser = units::peer)]
    pub(crate) peer: Vec<String>,
    /// Find nodes of the network on the LAN without addresses (multicast, UDP port 7412); the default with
    /// --secret-file
    #[arg(long, conflicts_with = "no_beacon")]
    pub(crate) lan: bool,
    /// Find no nodes without addresses, not even on this host; the default with --listen or --peer
    #[arg(long)]
    pub(crate) no_beacon: bool,
    /// Name of the network; both sides must use the same
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NETWORK)]
    pub(crate) network: String,
    /// File from which the network's secret is derived; both sides need the same bytes, a final line feed
    /// included. Without it, the network's name is enough to join
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Driver; auto takes io_uring where the kernel allows it, epoll otherwise
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) io: Io,
    /// One record a line, or a 32-bit little-endian length before each
    #[arg(long, value_enum, default_value = "lines")]
    pub(crate) format: Format,
    /// Say nothing on stderr except errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `corewire pub`.
#[derive(Args, Debug)]
pub(crate) struct PubArgs {
    /// Name of the stream
    #[arg(value_name = "STREAM")]
    pub(crate) stream: String,
    /// Read this file instead of stdin; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Records a second at most [default: as fast as the slowest consumer takes them]
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub(crate) rate: Option<f64>,
    /// Consumers to wait for before the first record, up to 1024
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = awaited_consumers)]
    pub(crate) consumers: usize,
    /// A consumer for which others wait: cut it off after 1 s in total, or let all wait
    #[arg(long, value_enum, value_name = "WHAT", default_value = "cut")]
    pub(crate) slow: SlowConsumers,
    /// Largest record, up to 67,108,846 bytes
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_MAX_DATUM, value_parser = units::datum_size)]
    pub(crate) max_datum: usize,
    /// Give up (exit code 3) when fewer than --consumers came, or all have left, for this time [default:
    /// keep waiting]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) net: NetArgs,
}

/// `corewire sub`.
#[derive(Args, Debug)]
pub(crate) struct SubArgs {
    /// Name of the stream
    #[arg(value_name = "STREAM")]
    pub(crate) stream: String,
    /// End after this many records
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after this time; with --count, exit code 3 if the count was not reached
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub(crate) duration: Option<Duration>,
    /// End when the publisher has finished; exit code 1 if it was interrupted, or stays gone for 5 s (its
    /// port refuses) to 60 s (it is silent)
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Room for records on their way from a publisher, at least 1 MiB; larger records pass too
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = units::datum_size)]
    pub(crate) max_datum: usize,
    /// Give up (exit code 3) when no publisher is connected for this time [default: keep waiting]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) net: NetArgs,
}

fn demo_time(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        time if time < Duration::from_millis(20) || time > Duration::from_secs(600) => {
            Err("the demonstration sends for 20ms to 10m".to_owned())
        }
        time => Ok(time),
    }
}

fn awaited_consumers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 0..=MAX_CONSUMERS) => Ok(count),
        _ => Err(format!("a stream has 0 to {MAX_CONSUMERS} consumers")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_arguments_mean_the_demonstration() {
        let cli = Cli::try_parse_from(["corewire"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!((cli.demo.io, cli.demo.duration), (Io::Auto, Duration::from_secs(4)));
        let cli = Cli::try_parse_from(["corewire", "--duration", "1s"]).unwrap();
        assert_eq!(cli.demo.duration, Duration::from_secs(1), "the name that bench has for it");
    }

    #[test]
    fn options_of_pub_and_sub_are_read() {
        let cli = Cli::try_parse_from([
            "corewire",
            "pub",
            "s",
            "--rate",
            "10k",
            "--listen",
            "127.0.0.1:0",
            "--format",
            "length-prefixed",
        ])
        .unwrap();
        let Some(CliCommand::Pub(args)) = cli.command else { panic!("not pub") };
        assert_eq!((args.rate, args.consumers, args.net.format), (Some(10_000.0), 1, Format::LengthPrefixed));
        let cli = Cli::try_parse_from(["corewire", "sub", "s", "--count", "3", "--for", "2s"]).unwrap();
        let Some(CliCommand::Sub(args)) = cli.command else { panic!("not sub") };
        assert_eq!((args.count, args.duration), (Some(3), Some(Duration::from_secs(2))));
    }

    #[test]
    fn unknown_options_and_bad_values_are_usage_errors() {
        for bad in [
            &["corewire", "--no-such"][..],
            &["corewire", "pub"],
            &["corewire", "pub", "s", "--rate", "x"],
            &["corewire", "sub", "s", "--peer", "nowhere"],
            &["corewire", "sub", "s", "--io", "magic"],
            &["corewire", "pub", "s", "--consumers", "1025"],
            &["corewire", "--for", "19ms"],
            &["corewire", "--for", "11m"],
        ] {
            assert_eq!(Cli::try_parse_from(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
