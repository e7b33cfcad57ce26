//! A hosted engine inside tokio-uring: for services that read files or sockets through that ring, and want
//! their datums on the same thread.
//!
//! ```sh
//! cargo run --release --example host_tokio_uring --features tokio-uring
//! ```
#![allow(clippy::print_stdout, reason = "it reports")]

mod ping;

use std::error::Error;

use corewire::hosts::TokioUringReactor;
use corewire::{EngineConfig, HostedEngine};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("tokio-uring does not run here: {error}");
            return Ok(());
        }
    };
    let hosted = HostedEngine::start(EngineConfig::default())?;
    let done = runtime.block_on(async {
        tokio_uring::spawn(hosted.run(TokioUringReactor::new(&hosted)?));
        // An operation on the program's own ring, beside the engine.
        tokio_uring::no_op().await?;
        ping::converse("tokio-uring").await
    });
    // Before the runtime, which drops the engine's task: the sessions close in order.
    drop(hosted);
    done
}
