//! What a datum between two engines costs, counted, and long transfers over a bad path.
//!
//! ```sh
//! cargo run --release -p corewire-perf-wire            # the table of costs
//! cargo run --release -p corewire-perf-wire -- endure --loss 10 --reordering 5 --duplication 2
//! ```
//!
//! Both engines run in this process, each with one shard, and talk over real sockets of the loopback
//! interface, directly or through a relay of this program. System calls are those that the drivers count (a
//! sleeping application's are not among them), allocations those of the whole process.

mod alloc;
mod cost;
mod endure;
mod path;
mod relay;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corewire::engine::IoChoice;
use corewire::streams::Reliability;

use crate::path::Setup;
use crate::relay::Faults;

#[derive(Parser)]
#[command(about = "What a datum between two engines costs, counted", long_about = None)]
struct WireArgs {
    #[command(subcommand)]
    task: Option<Task>,
    /// How the engines reach the network.
    #[arg(long, value_enum, default_value_t = Io::Auto, global = true)]
    io: Io,
    /// Chooses which datagrams meet a fault.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    /// Datums of each row of the table.
    #[arg(long, default_value_t = 400_000)]
    datums: u64,
}

#[derive(Subcommand)]
enum Task {
    /// Moves datums of 1 KiB over a bad path, and checks order, content and reported gaps.
    Endure(EndureArgs),
}

#[derive(Args)]
struct EndureArgs {
    /// What the stream promises.
    #[arg(long, value_enum, default_value_t = Promise::Reliable)]
    reliability: Promise,
    /// Megabytes to send.
    #[arg(long, default_value_t = 100)]
    megabytes: u64,
    /// Lost datagrams, in percent.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Overtaken datagrams, in percent.
    #[arg(long, default_value_t = 0.0)]
    reordering: f64,
    /// Repeated datagrams, in percent.
    #[arg(long, default_value_t = 0.0)]
    duplication: f64,
    /// The largest packet, in bytes of UDP payload. Default: what the path carries.
    #[arg(long)]
    packet_bytes: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Io {
    Auto,
    Uring,
    Epoll,
}

#[derive(Clone, Copy, ValueEnum)]
enum Promise {
    Reliable,
    FireAndForget,
}

fn run(args: &WireArgs) -> Result<bool, Box<dyn Error>> {
    let io = match args.io {
        Io::Auto => IoChoice::Auto,
        Io::Uring => IoChoice::Uring,
        Io::Epoll => IoChoice::Epoll,
    };
    let Some(Task::Endure(endure)) = &args.task else {
        cost::print_table(io, args.datums, args.seed)?;
        return Ok(true);
    };
    let reliability = match endure.reliability {
        Promise::Reliable => Reliability::Reliable,
        Promise::FireAndForget => Reliability::FireAndForget,
    };
    let faults = Faults {
        loss: endure.loss / 100.0,
        reordering: endure.reordering / 100.0,
        duplication: endure.duplication / 100.0,
    };
    let setup =
        Setup { io, packet_bytes: endure.packet_bytes, reliability, faults: Some(faults), seed: args.seed };
    endure::run(&setup, endure.megabytes * 1_000_000 / 1_024)
}

fn main() -> ExitCode {
    match run(&WireArgs::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}
