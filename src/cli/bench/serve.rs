//! The end that receives: it does what the other end orders, run after run.

use std::time::{Duration, Instant};

use corewire::streams::consumer::RecvTimeoutError;
use corewire::streams::producer::Error;
use corewire::{Codec, Consumer, Network, Producer};
use hdrhistogram::Histogram;

use super::args::{Measure, check_run};
use super::clock;
use super::end::BenchWaiter;
use super::host::HostFacts;
use super::message::{self, BenchOrder, BenchReport, EndFacts, ORDERS, REPORTS, RunOrder, RunTally};
use super::tick::{END, Tick, TickCodec, WARM_UP};
use crate::cli::exit::{Exit, Failure};
use crate::cli::latency::{histogram, record};
use crate::cli::wait::{Interrupt, LOOK_INTERVAL, POLL_INTERVAL, SILENCE_LIMIT};

/// The longest report: 35,000 latencies, as many as the histogram tells apart, and the most consumers.
const MAX_REPORT_BYTES: usize = 1 << 20;
/// How long a report may take to be accepted.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct BenchServer<'a> {
    network: &'a Network,
    waiter: BenchWaiter<'a>,
    interrupt: &'a Interrupt,
    host: HostFacts,
    orders: Consumer<BenchOrder>,
    reports: Producer<BenchReport>,
}

impl<'a> BenchServer<'a> {
    pub(crate) fn new(
        network: &'a Network,
        waiter: BenchWaiter<'a>,
        interrupt: &'a Interrupt,
        host: HostFacts,
    ) -> Result<BenchServer<'a>, Failure> {
        let orders = network.streams().consumer::<BenchOrder>().with_stream_id(ORDERS).build();
        let reports = network
            .streams()
            .producer::<BenchReport>()
            .with_stream_id(REPORTS)
            .with_max_datum_bytes(MAX_REPORT_BYTES)
            .try_build()
            .map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))?;
        Ok(BenchServer { network, waiter, interrupt, host, orders, reports })
    }

    /// Serves until it is told to leave, or a signal comes: its ordinary end, unless a run is broken by it.
    /// `tell` gets a line for each run.
    pub(crate) fn serve(&mut self, tell: &dyn Fn(&str)) -> Result<Exit, Failure> {
        while self.interrupt.asked().is_none() {
            match self.orders.recv_timeout(LOOK_INTERVAL) {
                Ok(BenchOrder::Run(order)) => {
                    tell(&format!("{} of {} B, {} consumers", order.what, order.bytes, order.consumers));
                    if let Err(why) = self.run(&order) {
                        tell(&format!("refused: {why}"));
                        self.report(BenchReport::Refused { run: order.run, why });
                    }
                    if let Some(exit) = self.interrupt.asked() {
                        return Ok(exit);
                    }
                }
                Ok(BenchOrder::Leave) => return Ok(Exit::Done),
                Err(RecvTimeoutError::Closed) => {
                    return Err(Failure::new(Exit::Failed, "the engine has stopped"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(Exit::Done)
    }

    fn report(&self, report: BenchReport) {
        // An end that does not take it has gone, or has given up.
        let _ = self.send(&self.reports, report, REPORT_LIMIT);
    }

    /// Does what any node of the network may have ordered. The error is why not.
    fn run(&mut self, order: &RunOrder) -> Result<(), String> {
        check_run(order.consumers, order.bytes, order.window)?;
        let [there, back] = message::stream_names(&order.run);
        let consumers: Vec<_> = (0..order.consumers)
            .map(|_| message::tick_consumer(self.network, &there, order.bytes, order.window))
            .collect();
        let echo = if order.what == Measure::RoundTrip {
            let producer = message::tick_producer(self.network, &back, order.bytes, order.window);
            Some(producer.map_err(|failure| failure.cause)?)
        } else {
            None
        };
        self.report(BenchReport::Ready { run: order.run.clone() });
        let tally = self.receive(order.what, consumers, echo.as_ref());
        self.report(BenchReport::Done { run: order.run.clone(), tally: Box::new(tally) });
        Ok(())
    }

    /// Sends to the other end. `false`: it did not take it within `limit`, or a signal has come.
    fn send<D: Send + 'static, C: Codec<D>>(
        &self,
        producer: &Producer<D, C>,
        mut datum: D,
        limit: Duration,
    ) -> bool {
        let until = Instant::now() + limit;
        while let Err(error) = producer.send_timeout(datum, POLL_INTERVAL) {
            if matches!(error, Error::Closed(_))
                || self.interrupt.asked().is_some()
                || Instant::now() >= until
            {
                return false;
            }
            datum = error.into_inner();
        }
        true
    }

    /// Receives until every consumer has seen the end, or the end that sends has gone.
    fn receive(
        &self,
        what: Measure,
        mut consumers: Vec<Consumer<Tick, TickCodec>>,
        mut echo: Option<&Producer<Tick, TickCodec>>,
    ) -> RunTally {
        let mut tally =
            RunTally { end: EndFacts::of(self.network), host: self.host.clone(), ..RunTally::default() };
        tally.consumers.resize_with(consumers.len(), Default::default);
        let mut latency = histogram();
        let mut batch = Vec::new();
        let mut heard = Instant::now();
        while !tally.consumers.iter().all(|ticks| ticks.whole) && self.interrupt.asked().is_none() {
            let started = clock::now();
            let ticks = &mut tally.consumers;
            let taken = self.waiter.take(&mut consumers, &mut batch, &mut |index, tick| {
                let ticks = &mut ticks[index];
                // An end that takes no echo has gone: the others are not sent.
                echo = echo.filter(|echo| self.send(echo, tick, SILENCE_LIMIT));
                if tick.due == END {
                    ticks.whole = true;
                    return;
                }
                ticks.count(&tick);
                if tick.due == WARM_UP {
                    return;
                }
                if what == Measure::Latency {
                    record(&mut latency, clock::now().saturating_sub(tick.due));
                }
                if ticks.first_at == 0 {
                    ticks.first_at = started;
                } else {
                    ticks.timed += 1;
                    // The time is filled in below: reading a clock for each tick would be measured too.
                    ticks.last_at = 0;
                }
            });
            if taken > 0 {
                let now = clock::now();
                ticks.iter_mut().filter(|ticks| ticks.last_at == 0).for_each(|ticks| ticks.last_at = now);
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_LIMIT && !consumers.iter().any(Consumer::is_online) {
                break;
            }
        }
        for (ticks, consumer) in tally.consumers.iter_mut().zip(&consumers) {
            ticks.damaged = consumer.stats().undecodable();
        }
        tally.latency = values(&latency);
        tally
    }
}

/// Each value of a histogram, and how often it occurred.
fn values(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use corewire::NetworkId;

    use super::*;

    #[test]
    fn engine_that_stops_is_a_failure() {
        let network = Network::builder(NetworkId::random())
            .with_engine(corewire::EngineConfig::default())
            .build_blocking()
            .unwrap();
        let waiter = BenchWaiter::without_engine(corewire::engine::Idle::Park);
        let (interrupt, host) = (Interrupt::default(), HostFacts::default());
        let mut server = BenchServer::new(&network, waiter, &interrupt, host).unwrap();
        network.engine().stop(Duration::ZERO);
        assert_eq!(server.serve(&|_| {}).unwrap_err().exit, Exit::Failed);
    }

    #[test]
    fn orders_that_no_option_could_give_are_refused_and_the_end_serves_on() {
        let order = RunOrder {
            run: "a run".to_owned(),
            what: Measure::RoundTrip,
            consumers: 1,
            bytes: 64,
            window: Some(1 << 20),
        };
        let refused = [
            RunOrder { bytes: 0, ..order.clone() },
            RunOrder { bytes: usize::MAX, ..order.clone() },
            RunOrder { consumers: 0, ..order.clone() },
            RunOrder { consumers: 1_025, ..order.clone() },
            RunOrder { window: Some(0), ..order.clone() },
            RunOrder { consumers: 1_024, window: Some(96 << 20), ..order.clone() },
        ];
        let network = Network::builder(NetworkId::random()).build_blocking().unwrap();
        let orders = network.streams().producer::<BenchOrder>().with_stream_id(ORDERS).build().unwrap();
        let mut reports = network.streams().consumer::<BenchReport>().with_stream_id(REPORTS).build();
        thread::scope(|scope| {
            let served = scope.spawn(|| {
                let waiter = BenchWaiter::without_engine(corewire::engine::Idle::Park);
                let (interrupt, host) = (Interrupt::default(), HostFacts::default());
                BenchServer::new(&network, waiter, &interrupt, host)?.serve(&|_| {})
            });
            for order in refused {
                let text = format!("{order:?}");
                orders.send_blocking(BenchOrder::Run(order)).unwrap();
                let report = reports.recv_timeout(REPORT_LIMIT).unwrap();
                assert!(matches!(report, BenchReport::Refused { run, .. } if run == "a run"), "{text}");
            }
            orders.send_blocking(BenchOrder::Leave).unwrap();
            assert_eq!(served.join().unwrap().unwrap(), Exit::Done);
        });
    }
}
