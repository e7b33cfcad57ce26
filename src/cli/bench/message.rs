//! What the two ends of the bench tell each other, on streams of their own.

use corewire::{Consumer, Network, Producer};
use serde::{Deserialize, Serialize};

use super::args::Measure;
use super::host::HostFacts;
use super::tick::{Tick, TickCodec};
use crate::cli::exit::{Exit, Failure};
use crate::cli::node::Facts;

/// The stream of [`BenchOrder`]s.
pub(crate) const ORDERS: &str = "corewire.bench.orders";
/// The stream of [`BenchReport`]s.
pub(crate) const REPORTS: &str = "corewire.bench.reports";

/// From the end that sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum BenchOrder {
    /// Receive the ticks of one run.
    Run(RunOrder),
    /// There are no more runs.
    Leave,
}

/// What the other end has to know of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunOrder {
    /// Names its streams; no two runs have the same.
    pub(crate) run: String,
    pub(crate) what: Measure,
    pub(crate) consumers: usize,
    /// Bytes of a tick.
    pub(crate) bytes: usize,
    pub(crate) window: Option<usize>,
}

/// From the end that receives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum BenchReport {
    /// The streams of the run exist.
    Ready { run: String },
    /// There will be no such run.
    Refused { run: String, why: String },
    /// The run is over.
    Done { run: String, tally: Box<RunTally> },
}

/// What one end received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunTally {
    /// One for each consumer.
    pub(crate) consumers: Vec<ReceivedTicks>,
    /// The latencies of all consumers: each value in nanoseconds, and how often it occurred.
    pub(crate) latency: Vec<(u64, u64)>,
    /// The engine of this end, and its machine.
    pub(crate) end: EndFacts,
    pub(crate) host: HostFacts,
}

/// What one consumer received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReceivedTicks {
    /// Ticks, with those of the warm-up and without the end.
    pub(crate) received: u64,
    /// Of these: ticks that came after a later one, or twice.
    pub(crate) out_of_order: u64,
    /// Records that were no tick.
    pub(crate) damaged: u64,
    /// When the first ticks that are measured were taken, and the last ones.
    pub(crate) first_at: u64,
    pub(crate) last_at: u64,
    /// Measured ticks that were taken after `first_at`.
    pub(crate) timed: u64,
    /// The end of the run was seen.
    pub(crate) whole: bool,
    /// The number of the next tick in order.
    #[serde(skip)]
    pub(crate) next: u64,
}

impl ReceivedTicks {
    /// Counts a tick that is not the end.
    pub(crate) fn count(&mut self, tick: &Tick) {
        self.received += 1;
        self.out_of_order += u64::from(tick.number < self.next);
        self.next = self.next.max(tick.number + 1);
    }

    /// Ticks of `sent` that are missing.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.received - self.out_of_order)
    }

    /// Measured ticks a second.
    pub(crate) fn rate(&self) -> Option<f64> {
        let took = self.last_at.saturating_sub(self.first_at);
        (took > 0).then(|| self.timed as f64 * 1e9 / took as f64)
    }
}

/// What an end runs on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EndFacts {
    pub(crate) driver: String,
    /// The CPU of its shard.
    pub(crate) cores: String,
    /// What makes the engine slow here, and the cure.
    pub(crate) warnings: Vec<String>,
}

impl EndFacts {
    pub(crate) fn of(network: &Network) -> EndFacts {
        let Facts { driver, cores, fallback, warnings, .. } = Facts::of(network);
        EndFacts { driver, cores, warnings: fallback.into_iter().chain(warnings).collect() }
    }
}

/// The names of a run's streams: there, and back.
pub(crate) fn stream_names(run: &str) -> [String; 2] {
    [format!("corewire.bench.ticks.{run}"), format!("corewire.bench.echoes.{run}")]
}

/// Datums that a ring or a window of so many bytes holds, with `bytes` each.
fn datums(window: usize, bytes: usize) -> usize {
    (window / bytes.next_multiple_of(16)).clamp(1, 1 << 20)
}

/// The producer of ticks of `bytes` on the stream `name`.
pub(crate) fn tick_producer(
    network: &Network,
    name: &str,
    bytes: usize,
    window: Option<usize>,
) -> Result<Producer<Tick, TickCodec>, Failure> {
    let mut builder = network
        .streams()
        .producer::<Tick>()
        .with_stream_id(name)
        .with_max_datum_bytes(bytes)
        .codec(TickCodec);
    // Room for two of the largest at least, so that one is on its way while the next is written.
    let least = 2 * bytes.next_multiple_of(16);
    match window {
        Some(window) => {
            let window = window.max(least);
            builder = builder.with_buffer_size(datums(window, bytes)).with_buffer_bytes(window);
        }
        None if least > 1 << 20 => builder = builder.with_buffer_bytes(least),
        None => {}
    }
    builder.try_build().map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))
}

/// A consumer of ticks of `bytes` on the stream `name`.
pub(crate) fn tick_consumer(
    network: &Network,
    name: &str,
    bytes: usize,
    window: Option<usize>,
) -> Consumer<Tick, TickCodec> {
    let mut builder = network.streams().consumer::<Tick>().with_stream_id(name).codec(TickCodec);
    if let Some(window) = window {
        builder = builder.with_window_bytes(window).with_window_datums(datums(window, bytes));
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_disordered_ticks_are_counted_apart() {
        let mut ticks = ReceivedTicks::default();
        for number in [0, 1, 3, 3, 2, 6] {
            ticks.count(&Tick { number, due: 1, bytes: 24 });
        }
        assert_eq!((ticks.received, ticks.out_of_order), (6, 2));
        // Of 0 to 7 these four came in order; a late tick cannot be told from a duplicate.
        assert_eq!(ticks.lost(8), 4);
    }

    #[test]
    fn rate_leaves_out_what_came_before_the_clock_was_read() {
        let ticks = ReceivedTicks { first_at: 1_000, last_at: 1_001_000, timed: 500, ..Default::default() };
        assert_eq!(ticks.rate(), Some(500_000.0));
        assert_eq!(ReceivedTicks::default().rate(), None);
    }
}
