//! What one combination gave.

use hdrhistogram::Histogram;

use super::case::BenchCase;
use super::host::HostFacts;
use super::message::{EndFacts, ReceivedTicks};

/// What became of the datums, those of the warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentAndReceived {
    /// Accepted by the producer.
    pub(crate) sent: u64,
    /// Of these, sent before the measurement.
    pub(crate) warm_up: u64,
    /// Taken by all consumers together.
    pub(crate) received: u64,
    /// Sent, and not received by some consumer; a datum counts once for each.
    pub(crate) lost: u64,
    /// Received after a later datum, or twice.
    pub(crate) out_of_order: u64,
    /// Received with other bytes than were sent.
    pub(crate) damaged: u64,
    /// Sends that found the ring full. Each was repeated until it was accepted.
    pub(crate) refused: u64,
}

impl SentAndReceived {
    /// The account of a run in which `consumers` took what was sent.
    pub(crate) fn new(sent: u64, warm_up: u64, refused: u64, consumers: &[ReceivedTicks]) -> Self {
        let sum = |figure: &dyn Fn(&ReceivedTicks) -> u64| consumers.iter().map(figure).sum();
        SentAndReceived {
            sent,
            warm_up,
            received: sum(&|ticks| ticks.received),
            lost: sum(&|ticks| ticks.lost(sent)),
            out_of_order: sum(&|ticks| ticks.out_of_order),
            damaged: sum(&|ticks| ticks.damaged),
            refused,
        }
    }
}

/// The result of one combination.
pub(crate) struct BenchResult {
    pub(crate) case: BenchCase,
    pub(crate) account: SentAndReceived,
    /// Nanoseconds from the intended send time to the receipt, of all consumers; of timed runs.
    pub(crate) latency: Option<Histogram<u64>>,
    /// How late datums were sent, in nanoseconds: the sender's share of the latency; of timed runs.
    pub(crate) late: Option<Histogram<u64>>,
    /// Datums a second, of each consumer.
    pub(crate) rates: Vec<f64>,
    /// The end that sent.
    pub(crate) here: EndFacts,
    /// The end that received.
    pub(crate) there: EndFacts,
    /// The machine of the end that received.
    pub(crate) there_host: HostFacts,
    /// Why the run was not measured to its end, if it was not.
    pub(crate) partial: Option<&'static str>,
}

impl BenchResult {
    /// Datums a second of the slowest consumer.
    pub(crate) fn slowest_rate(&self) -> Option<f64> {
        self.rates.iter().copied().reduce(f64::min)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use corewire::engine::Idle;

    use super::super::args::{EngineMode, Measure};
    use super::super::case::Transport;
    use super::*;
    use crate::cli::args::Io;
    use crate::cli::latency::histogram;

    /// A result as a run of `what` gives: 1,000 datums in 1 to 1,000 us, or 1,000 a second.
    pub(crate) fn result(what: Measure) -> BenchResult {
        let timed = what.is_timed().then(|| {
            let mut values = histogram();
            (1..=1_000).for_each(|us| values.record(us * 1_000 - 500).unwrap());
            values
        });
        BenchResult {
            case: BenchCase {
                what,
                transport: Transport::Processes,
                engine: EngineMode::Hosted,
                bytes: 64,
                rate: what.is_timed().then_some(10_000.0),
                consumers: 1,
                duration: Duration::from_secs(2),
                io: Io::Auto,
                idle: Idle::ADAPTIVE,
                window: None,
            },
            account: SentAndReceived { sent: 1_000, warm_up: 10, received: 1_000, ..Default::default() },
            late: timed.clone(),
            latency: timed,
            rates: vec![1_000.0],
            here: EndFacts { driver: "uring".to_owned(), ..EndFacts::default() },
            there: EndFacts { driver: "epoll".to_owned(), ..EndFacts::default() },
            there_host: HostFacts::default(),
            partial: None,
        }
    }

    #[test]
    fn account_adds_up_over_the_consumers() {
        let whole = ReceivedTicks { received: 10, ..Default::default() };
        let other = ReceivedTicks { received: 8, out_of_order: 1, damaged: 2, ..Default::default() };
        let account = SentAndReceived::new(10, 3, 4, &[whole, other]);
        let expected = SentAndReceived {
            sent: 10,
            warm_up: 3,
            received: 18,
            lost: 3,
            out_of_order: 1,
            damaged: 2,
            refused: 4,
        };
        assert_eq!(account, expected);
    }
}
