//! The program's commands, their options and how they end.

mod args;
mod bench;
mod consumers;
mod demo;
mod exit;
mod framing;
mod input;
mod latency;
mod node;
mod output;
mod pace;
mod plot;
mod progress;
mod publish;
mod publishers;
mod pump;
mod record;
mod shell;
mod subscribe;
mod term;
mod units;
mod wait;

use clap::Parser;

use self::args::{Cli, CliCommand};
use self::exit::Exit;

/// Runs the command line. A failure is printed on stderr with its cure.
pub(crate) fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too. A closed terminal is not an error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let result = match cli.command {
        None => demo::run(&cli.demo),
        Some(CliCommand::Pub(args)) => publish::run(&args),
        Some(CliCommand::Sub(args)) => subscribe::run(&args),
        Some(CliCommand::Bench(args)) => bench::run(&args),
        Some(CliCommand::Completions { shell }) => shell::completions(shell),
        Some(CliCommand::Man { command }) => shell::man(command.as_deref()),
    };
    result.unwrap_or_else(|failure| {
        if failure.exit != Exit::Done {
            term::note(&failure.to_string());
        }
        failure.exit
    })
}
