//! A hosted engine inside a glommio executor: for services that are one glommio executor per core, and want
//! their datums on that thread.
//!
//! ```sh
//! cargo run --release --example host_glommio --features glommio
//! ```
#![allow(clippy::print_stdout, reason = "it reports")]

mod ping;

use std::error::Error;

use corewire::hosts::GlommioReactor;
use corewire::{EngineConfig, HostedEngine};
use glommio::{LocalExecutorBuilder, Placement};

fn main() -> Result<(), Box<dyn Error>> {
    let executor = match LocalExecutorBuilder::new(Placement::Unbound).make() {
        Ok(executor) => executor,
        Err(error) => {
            println!("glommio does not run here: {error}");
            return Ok(());
        }
    };
    let hosted = HostedEngine::start(EngineConfig::default())?;
    let engine = hosted.run(GlommioReactor::new(&hosted)?);
    let done = executor.run(async {
        glommio::spawn_local(engine).detach();
        ping::converse("glommio").await
    });
    // Before the executor, which drops the engine's task: the sessions close in order.
    drop(hosted);
    done
}
