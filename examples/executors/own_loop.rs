//! A hosted engine inside a loop that the program has already: for services that wait for descriptors with
//! `poll` or `epoll` and want their datums on that thread, without an executor.
//!
//! ```sh
//! cargo run --release --example host_own_loop
//! ```
#![allow(clippy::print_stdout, reason = "it reports")]

mod descriptor_loop;
mod ping;

use std::error::Error;

use corewire::{EngineConfig, HostedEngine};

fn main() -> Result<(), Box<dyn Error>> {
    let hosted = HostedEngine::start(EngineConfig::default())?;
    descriptor_loop::run(&hosted, ping::converse("own loop"))?
}
