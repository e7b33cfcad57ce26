//! The program's commands, their options and how they end.

mod args;
mod demo;
mod exit;
mod framing;
mod node;
mod plot;
mod publish;
mod record;
mod subscribe;
mod term;
mod units;
mod wait;

use clap::Parser;

use self::args::{Cli, Command};
use self::exit::Exit;

/// Does what the command line asks for. A failure is told on stderr, with what to do next.
pub(crate) fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too. A terminal that is gone cannot be told about it.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let result = match cli.command {
        None => demo::run(&cli.demo),
        Some(Command::Pub(args)) => publish::run(&args),
        Some(Command::Sub(args)) => subscribe::run(&args),
    };
    result.unwrap_or_else(|failure| {
        term::note(&failure.to_string());
        failure.exit
    })
}
