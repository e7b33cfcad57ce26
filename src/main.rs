//! The corewire program: a demonstration, a publisher and a subscriber. It uses only the library's public
//! interface.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run().into()
}
