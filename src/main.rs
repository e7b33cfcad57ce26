//! The corewire program.
mod cli;
fn main() {}
