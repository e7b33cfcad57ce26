//! What the shell and the manual need to know about the program: `completions` and `man`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Cli;
use super::exit::{Exit, Failure};

/// Writes the completions of a shell to stdout.
pub(crate) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    write_out(&script)
}

/// Writes the man page of the program, or of one of its commands, to stdout.
pub(crate) fn man(page: Option<&str>) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let command = match page {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::new(Exit::Usage, format!("there is no command `{name}`"))
                .cure("corewire --help lists them")
        })?,
    };
    let mut page = Vec::new();
    Man::new(command.version(env!("CARGO_PKG_VERSION"))).render(&mut page)?;
    write_out(&page)
}

fn write_out(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())?;
    Ok(Exit::Done)
}
