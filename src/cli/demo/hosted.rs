//! The part of the demonstration without threads of the engine: one thread sends, another one receives, and
//! each drives the engine of its own node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{HostedEngine, NetworkId, Producer};

use super::consume::{self, ConsumerResult, Part};
use super::nodes::{self, PartOutcome, SHUTDOWN_LIMIT};
use super::prices::{Checksum, PriceUpdate, Prices};
use super::produce::{self, Pace, Produced};
use crate::cli::args::Io;
use crate::cli::exit::{Exit, Failure};
use crate::cli::node;
use crate::cli::pace;
use crate::cli::wait::{self, CONNECT_LIMIT};

/// The row's name.
const NAME: &str = "hosted";
/// How long the receiving thread sleeps at most before it looks whether the part begins.
const LOOK: Duration = Duration::from_millis(1);

/// Runs one part with its first datum at 0.
pub(crate) fn run(io: Io, prices: &Arc<Prices>, pace: Pace) -> Result<PartOutcome, Failure> {
    let id = NetworkId::random();
    let (hosted, network) = node::start_hosted(id, io, None)?;
    let producer = nodes::producer(&network)?;
    let (begin, begins) = mpsc::channel();
    let (address, its_prices) = (network.local().addresses()[0], Arc::clone(prices));
    let other = thread::Builder::new()
        .name(format!("consumer {NAME}"))
        .spawn(move || receive(id, io, address, &its_prices, &begins))?;
    let sent = send(&hosted, &producer, prices, &begin, pace);
    // Ends the other thread, whatever has become of this one.
    drop(begin);
    drop(producer);
    let left = network.shutdown_blocking(SHUTDOWN_LIMIT);
    drop(hosted);
    let received = other.join().map_err(|_| nodes::lost(NAME))?;
    let outcome = PartOutcome { produced: sent?, tallies: vec![(NAME, received?)] };
    left.map_err(|error| {
        Failure::new(Exit::Failed, format!("a hosted node did not leave in order: {error}"))
    })?;
    Ok(outcome)
}

/// The thread that sends. It turns its engine while it waits for the next price to be due.
fn send(
    hosted: &HostedEngine,
    producer: &Producer<PriceUpdate>,
    prices: &Prices,
    begin: &Sender<Part>,
    pace: Pace,
) -> Result<Produced, Failure> {
    wait::by(producer.when().subscribed(), Instant::now() + CONNECT_LIMIT)
        .ok_or_else(|| Failure::new(Exit::NotReached, "the hosted consumer did not connect in time"))?;
    let part = Part::new(0);
    begin.send(part.clone()).map_err(|_| nodes::lost(NAME))?;
    let wait_until = |at: Instant| {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            hosted.turn();
            match pace::sleep_time(left) {
                Some(time) => hosted.sleep(Some(time)),
                None => thread::yield_now(),
            }
        }
    };
    let produced = produce::run(producer, prices, &part, pace, wait_until);
    if produced.is_err() {
        // Nothing more comes for the other thread.
        let _ = part.end.set(0);
    }
    produced
}

/// The thread that receives: waiting for a price turns its engine.
fn receive(
    id: NetworkId,
    io: Io,
    address: SocketAddr,
    prices: &Prices,
    begins: &Receiver<Part>,
) -> Result<ConsumerResult, Failure> {
    let (hosted, network) = node::start_hosted(id, io, Some(address))?;
    let mut consumer = nodes::consumer(&network);
    let part = loop {
        match begins.try_recv() {
            Ok(part) => break part,
            Err(TryRecvError::Empty) => {
                hosted.turn();
                hosted.sleep(Some(LOOK));
            }
            Err(TryRecvError::Disconnected) => return Err(nodes::lost(NAME)),
        }
    };
    let received = consume::take_part(&mut consumer, prices, &part, &mut Checksum::default());
    drop(consumer);
    network.shutdown_blocking(SHUTDOWN_LIMIT).map_err(|error| {
        Failure::new(Exit::Failed, format!("a hosted node did not leave in order: {error}"))
    })?;
    Ok(received)
}
