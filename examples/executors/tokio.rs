//! A hosted engine inside tokio's single-threaded runtime: for services that are one tokio thread per core,
//! and want their datums on that thread.
//!
//! ```sh
//! cargo run --release --example host_tokio --features tokio
//! ```
#![allow(clippy::print_stdout, reason = "it reports")]

mod ping;

use std::error::Error;

use corewire::hosts::TokioReactor;
use corewire::{EngineConfig, HostedEngine};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hosted = HostedEngine::start(EngineConfig::default())?;
    let tasks = tokio::task::LocalSet::new();
    let done = tasks.block_on(&runtime, async {
        tokio::task::spawn_local(hosted.run(TokioReactor::new(&hosted)?));
        ping::converse("tokio").await
    });
    // Before the runtime, which drops the engine's task: the sessions close in order.
    drop(hosted);
    done
}
