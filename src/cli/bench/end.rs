//! One end of the bench: its engine, its node, and how its thread waits.

use std::net::SocketAddr;
use std::task::Poll;
use std::thread;
use std::time::Duration;
use std::{future::poll_fn, pin::Pin};

use corewire::engine::{Idle, NextTurn};
use corewire::network::{BeaconReach, Builder};
use corewire::{Consumer, Engine, EngineConfig, HostedEngine, Network, block_on_timeout};
use futures_core::Stream;

use super::args::EngineMode;
use super::clock;
use super::tick::{Tick, TickCodec};
use crate::cli::args::Io;
use crate::cli::exit::{Exit, Failure};
use crate::cli::node;
use crate::cli::pace::{self, SLEEP_ERROR};
use crate::cli::wait::{LOOK_INTERVAL, POLL_INTERVAL};

/// How long the end of a node may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// Ticks that are taken from one consumer before the next one's turn.
const RUN: usize = 64;

/// An engine of either mode.
enum BenchEngine {
    Hosted(HostedEngine),
    Threads(Engine),
}

/// A node on an engine of its own. To be used on the thread that made it.
pub(crate) struct BenchEnd {
    network: Network,
    engine: BenchEngine,
    idle: Idle,
}

impl BenchEnd {
    /// Starts the engine and joins. `listen` is named if that fails.
    pub(crate) fn start(
        builder: Builder,
        (mode, io, idle): (EngineMode, Io, Idle),
        listen: Option<SocketAddr>,
    ) -> Result<BenchEnd, Failure> {
        let config = EngineConfig { shards: 1, io: io.into(), idle, ..EngineConfig::default() };
        let engine = match mode {
            EngineMode::Hosted => HostedEngine::start(config).map(BenchEngine::Hosted),
            EngineMode::Threads => Engine::start(config).map(BenchEngine::Threads),
        };
        let engine = engine.map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))?;
        let handle = match &engine {
            BenchEngine::Hosted(hosted) => hosted.engine(),
            BenchEngine::Threads(engine) => engine,
        };
        // The other end is named, and other programs would disturb the measurement.
        let network = builder.with_engine(handle).with_beacon(BeaconReach::Off).build_blocking();
        let network = network.map_err(|error| node::cannot_join(listen, &error))?;
        Ok(BenchEnd { network, engine, idle })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// How the thread that made this end waits.
    pub(crate) fn waiter(&self) -> BenchWaiter<'_> {
        let hosted = match &self.engine {
            BenchEngine::Hosted(hosted) => Some(hosted),
            BenchEngine::Threads(_) => None,
        };
        BenchWaiter { hosted, idle: self.idle }
    }

    /// Leaves the network in order, as far as the other end lets it, and stops the engine.
    pub(crate) fn leave(self) {
        let BenchEnd { network, engine, .. } = self;
        // What is not delivered was counted.
        let _ = network.shutdown_blocking(SHUTDOWN_LIMIT);
        drop(engine);
    }
}

/// How a thread waits: with turns of the engine that it hosts, if it does.
#[derive(Clone, Copy)]
pub(crate) struct BenchWaiter<'a> {
    hosted: Option<&'a HostedEngine>,
    idle: Idle,
}

impl BenchWaiter<'_> {
    /// Of a thread without an engine.
    pub(crate) fn without_engine(idle: Idle) -> BenchWaiter<'static> {
        BenchWaiter { hosted: None, idle }
    }

    /// One step of a wait without an end: never sleeps.
    fn step(self) {
        match self.hosted {
            Some(hosted) => {
                let _ = hosted.turn();
                // What is waited for needs the CPU.
                if pace::has_one_cpu() {
                    thread::yield_now();
                }
            }
            None => thread::yield_now(),
        }
    }

    /// One step of the wait for the time `due`. What comes from `consumers` meanwhile is taken as soon as it
    /// is there.
    pub(crate) fn take_until(
        self,
        due: u64,
        consumers: &mut [Consumer<Tick, TickCodec>],
        batch: &mut Vec<Tick>,
        each: &mut impl FnMut(usize, Tick),
    ) {
        if take_ready(consumers, batch, each) > 0 {
            return;
        }
        // The caller looks at signals between the steps.
        let left = clock::left(due).min(POLL_INTERVAL);
        let sleep = pace::sleep_time(left).filter(|_| self.idle != Idle::Spin);
        match (self.hosted, sleep) {
            (Some(hosted), _) => {
                let sleeps = self.idle != Idle::Spin && left > 2 * SLEEP_ERROR;
                if hosted.turn() != NextTurn::Now && sleeps {
                    hosted.sleep(Some(left - SLEEP_ERROR));
                } else if pace::has_one_cpu() {
                    thread::yield_now();
                }
            }
            (None, None) => thread::yield_now(),
            (None, Some(time)) if consumers.is_empty() => thread::sleep(time),
            (None, Some(time)) => drop(take_first(consumers, time, each)),
        }
    }

    /// Takes what has come from `consumers`, or waits for something to come, at most for [`LOOK_INTERVAL`].
    /// `each` gets the index of the consumer. Returns how many were taken.
    pub(crate) fn take(
        self,
        consumers: &mut [Consumer<Tick, TickCodec>],
        batch: &mut Vec<Tick>,
        each: &mut impl FnMut(usize, Tick),
    ) -> usize {
        let taken = take_ready(consumers, batch, each);
        if taken > 0 {
            return taken;
        }
        if self.idle == Idle::Spin {
            self.step();
            return 0;
        }
        take_first(consumers, LOOK_INTERVAL, each)
    }
}

/// Waits for the next tick of `consumers`, at most for `time`. Returns how many were taken.
fn take_first(
    consumers: &mut [Consumer<Tick, TickCodec>],
    time: Duration,
    each: &mut impl FnMut(usize, Tick),
) -> usize {
    let first = poll_fn(|cx| {
        for (index, consumer) in consumers.iter_mut().enumerate() {
            if let Poll::Ready(tick) = Pin::new(consumer).poll_next(cx) {
                return Poll::Ready((index, tick));
            }
        }
        Poll::Pending
    });
    match block_on_timeout(first, time) {
        Some((index, Some(tick))) => {
            each(index, tick);
            1
        }
        // The time is over, or the network was shut down.
        _ => 0,
    }
}

/// Takes what has come from `consumers` without waiting, by way of `batch`, which keeps its memory.
pub(crate) fn take_ready(
    consumers: &mut [Consumer<Tick, TickCodec>],
    batch: &mut Vec<Tick>,
    each: &mut impl FnMut(usize, Tick),
) -> usize {
    let mut taken = 0;
    for (index, consumer) in consumers.iter_mut().enumerate() {
        taken += consumer.try_recv_many(batch, RUN).unwrap_or(0);
        batch.drain(..).for_each(|tick| each(index, tick));
    }
    taken
}
