//! The corewire program: a demonstration, a publisher and a subscriber on top of the library's public interface.
//!
//! Nothing here knows sockets, sessions or rings; what the program can do, any program can.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run().into()
}
