//! The end that sends: one run for each combination.

use std::future::Future;
use std::time::{Duration, Instant};

use corewire::streams::producer::Error;
use corewire::{Consumer, Network, NetworkId, Producer};
use hdrhistogram::Histogram;

use super::args::Measure;
use super::case::{BenchCase, Transport};
use super::clock;
use super::end::{self, BenchWaiter};
use super::message::{
    self, BenchOrder, BenchReport, EndFacts, ORDERS, REPORTS, ReceivedTicks, RunOrder, RunTally,
};
use super::result::{BenchResult, SentAndReceived};
use super::tick::{END, Tick, TickCodec, WARM_UP};
use crate::cli::exit::{Exit, Failure};
use crate::cli::latency::{histogram, record};
use crate::cli::wait::{self, CONNECT_LIMIT, Interrupt, POLL_INTERVAL, SILENCE_LIMIT};

/// What is sent before the measurement begins, and not measured.
const WARM_UP_TIME: Duration = Duration::from_millis(200);
/// Ticks at full speed between two looks at the clock.
const LOOK_EVERY: u64 = 64;
/// From the end of the warm-up to the first tick that is measured.
const LEAD: Duration = Duration::from_millis(1);

/// See the module.
pub(crate) struct BenchDriver<'a> {
    network: &'a Network,
    waiter: BenchWaiter<'a>,
    interrupt: &'a Interrupt,
    orders: Producer<BenchOrder>,
    reports: Consumer<BenchReport>,
}

/// What comes back of a round trip.
#[derive(Default)]
struct Echoes {
    consumer: Vec<Consumer<Tick, TickCodec>>,
    batch: Vec<Tick>,
    ticks: ReceivedTicks,
    latency: Option<Histogram<u64>>,
}

impl Echoes {
    /// Takes those that have come.
    fn take(&mut self) {
        let Echoes { consumer, batch, ticks, latency } = self;
        end::take_ready(consumer, batch, &mut |_, tick| match tick.due {
            END => ticks.whole = true,
            WARM_UP => ticks.count(&tick),
            due => {
                ticks.count(&tick);
                if let Some(latency) = latency {
                    record(latency, clock::now().saturating_sub(due));
                }
            }
        });
    }
}

/// Why a run ends before its time.
enum Broken {
    /// A signal has come.
    Asked,
    Failed(Failure),
}

/// The sending side of one run.
struct TickSender<'a> {
    driver: &'a BenchDriver<'a>,
    producer: Producer<Tick, TickCodec>,
    echoes: Echoes,
    bytes: usize,
    /// The number of the next tick.
    next: u64,
    refused: u64,
    late: Histogram<u64>,
}

impl TickSender<'_> {
    fn send(&mut self, due: u64) -> Result<(), Broken> {
        let tick = Tick { number: self.next, due, bytes: self.bytes };
        match self.producer.try_send(tick) {
            Ok(()) => {}
            Err(Error::Full(tick)) => {
                self.refused += 1;
                self.send_later(tick)?;
            }
            Err(refused) => self.send_later(refused.into_inner())?,
        }
        self.next += 1;
        Ok(())
    }

    /// Waits for room, and takes echoes meanwhile: the other end may wait for room for them.
    fn send_later(&mut self, mut tick: Tick) -> Result<(), Broken> {
        let until = Instant::now() + SILENCE_LIMIT;
        loop {
            let sent = if self.echoes.consumer.is_empty() {
                self.producer.send_timeout(tick, POLL_INTERVAL)
            } else {
                self.echoes.take();
                self.driver.waiter.step_until(clock::now());
                self.producer.try_send(tick)
            };
            let Err(error) = sent else { return Ok(()) };
            if self.driver.interrupt.asked().is_some() {
                return Err(Broken::Asked);
            }
            if matches!(error, Error::Closed(_)) || Instant::now() >= until {
                let why = format!("a datum was not sent: {error}");
                return Err(Broken::Failed(Failure::new(Exit::Failed, why)));
            }
            tick = error.into_inner();
        }
    }

    /// Sends at each of the intended times, however late the one before it was.
    fn at_rate(&mut self, rate: f64, time: Duration, measured: bool) -> Result<(), Broken> {
        let count = ((rate * time.as_secs_f64()) as u64).max(1);
        let start = clock::now() + LEAD.as_nanos() as u64;
        for index in 0..count {
            let due = start + (index as f64 * 1e9 / rate) as u64;
            while clock::now() < due {
                self.echoes.take();
                self.driver.waiter.step_until(due);
                if self.driver.interrupt.asked().is_some() {
                    return Err(Broken::Asked);
                }
            }
            if measured {
                record(&mut self.late, clock::now().saturating_sub(due));
            }
            self.send(if measured { due } else { WARM_UP })?;
        }
        Ok(())
    }

    /// Sends as fast as the slowest consumer allows.
    fn at_full_speed(&mut self, time: Duration, measured: bool) -> Result<(), Broken> {
        let until = Instant::now() + time;
        loop {
            let now = clock::now();
            for _ in 0..LOOK_EVERY {
                self.send(if measured { now } else { WARM_UP })?;
            }
            if self.driver.interrupt.asked().is_some() {
                return Err(Broken::Asked);
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Sends the last tick, and waits until it has come back from a round trip.
    fn finish(&mut self) -> Result<(), Failure> {
        let tick = Tick { number: self.next, due: END, bytes: self.bytes };
        let until = Instant::now() + SILENCE_LIMIT;
        if self.producer.send_timeout(tick, SILENCE_LIMIT).is_err() {
            return Err(Failure::new(Exit::Failed, "the other end takes no more datums"));
        }
        while !self.echoes.consumer.is_empty() && !self.echoes.ticks.whole && Instant::now() < until {
            self.echoes.take();
            self.driver.waiter.step_until(clock::now() + 1);
        }
        Ok(())
    }
}

impl<'a> BenchDriver<'a> {
    pub(crate) fn new(
        network: &'a Network,
        waiter: BenchWaiter<'a>,
        interrupt: &'a Interrupt,
    ) -> Result<BenchDriver<'a>, Failure> {
        let reports = network.streams().consumer::<BenchReport>().with_stream_id(REPORTS).build();
        let orders = network
            .streams()
            .producer::<BenchOrder>()
            .with_stream_id(ORDERS)
            .try_build()
            .map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))?;
        Ok(BenchDriver { network, waiter, interrupt, orders, reports })
    }

    /// Tells the other end that there are no more runs.
    pub(crate) fn dismiss(&self) {
        // An end that does not hear it ends by itself.
        let _ = self.orders.send_timeout(BenchOrder::Leave, SILENCE_LIMIT);
        let _ = self.orders.flush_timeout(SILENCE_LIMIT);
    }

    /// Measures one combination. After a signal the result is partial. `begins` is called once the ends are
    /// connected.
    pub(crate) fn run(&mut self, case: &BenchCase, begins: &dyn Fn()) -> Result<BenchResult, Failure> {
        let run = NetworkId::random().to_string();
        let [there, back] = message::stream_names(&run);
        let producer = message::tick_producer(self.network, &there, case.bytes, case.window)?;
        let mut echoes = self.prepare(&run, &back, case, &producer)?;
        if case.what == Measure::RoundTrip {
            echoes.latency = Some(histogram());
        }
        begins();
        let mut sender = TickSender {
            driver: self,
            producer,
            echoes,
            bytes: case.bytes,
            next: 0,
            refused: 0,
            late: histogram(),
        };
        let mut warm_up = 0;
        let mut send_all = || {
            match case.rate {
                Some(rate) => sender.at_rate(rate, WARM_UP_TIME, false)?,
                None => sender.at_full_speed(WARM_UP_TIME, false)?,
            }
            warm_up = sender.next;
            match case.rate {
                Some(rate) => sender.at_rate(rate, case.duration, true),
                None => sender.at_full_speed(case.duration, true),
            }
        };
        let asked = match send_all() {
            Ok(()) => false,
            Err(Broken::Asked) => true,
            Err(Broken::Failed(failure)) => return Err(failure),
        };
        sender.finish()?;
        let TickSender { producer, echoes, next, refused, late, .. } = sender;
        let tally = self.tally(&run)?;
        drop(producer);
        Ok(self.result(case, asked, (next, warm_up.min(next), refused), echoes, tally, late))
    }

    /// Orders the run, and waits until the streams of both directions are connected.
    fn prepare(
        &mut self,
        run: &str,
        back: &str,
        case: &BenchCase,
        producer: &Producer<Tick, TickCodec>,
    ) -> Result<Echoes, Failure> {
        let deadline = Instant::now() + CONNECT_LIMIT;
        let order = RunOrder {
            run: run.to_owned(),
            what: case.what,
            consumers: case.consumers,
            bytes: case.bytes,
            window: case.window,
        };
        let not_found = || {
            let cure = if case.transport == Transport::Machines {
                "corewire bench --listen at the other end, with the same --network and --secret-file"
            } else {
                "corewire bench --io epoll, or a look at firewall rules for the loopback interface"
            };
            Failure::new(Exit::NotReached, "the other end was not reached in time").cure(cure)
        };
        let orders = self.orders.clone();
        self.until(orders.send(BenchOrder::Run(order)), deadline)?
            .ok_or_else(not_found)?
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        self.report(run, deadline)?.ok_or_else(not_found)?;
        self.until(producer.when().subscribed().minimum_of(case.consumers), deadline)?
            .ok_or_else(not_found)?;
        let mut echoes = Echoes::default();
        if case.what == Measure::RoundTrip {
            let consumer = message::tick_consumer(self.network, back, case.bytes, case.window);
            self.until(consumer.when().online(), deadline)?.ok_or_else(not_found)?;
            echoes.consumer.push(consumer);
        }
        Ok(echoes)
    }

    /// The result of a wait; `None` when the deadline has passed.
    fn until<F: Future>(&self, future: F, deadline: Instant) -> Result<Option<F::Output>, Failure> {
        match wait::until(future, Some(deadline), self.interrupt) {
            Ok(output) => Ok(Some(output)),
            Err(wait::Stopped::Deadline) => Ok(None),
            Err(wait::Stopped::Interrupted(exit)) => Err(Failure::new(exit, "interrupted")),
        }
    }

    /// The next report on `run`; those on other runs are of other machines.
    fn report(&mut self, run: &str, deadline: Instant) -> Result<Option<BenchReport>, Failure> {
        loop {
            match wait::by(self.reports.recv(), deadline) {
                Some(Some(report)) => match &report {
                    BenchReport::Ready { run: of } | BenchReport::Done { run: of, .. } if of == run => {
                        return Ok(Some(report));
                    }
                    _ => {}
                },
                Some(None) => return Err(Failure::new(Exit::Failed, "the network was shut down")),
                None => return Ok(None),
            }
        }
    }

    fn tally(&mut self, run: &str) -> Result<RunTally, Failure> {
        match self.report(run, Instant::now() + SILENCE_LIMIT)? {
            Some(BenchReport::Done { tally, .. }) => Ok(*tally),
            _ => Err(Failure::new(Exit::Failed, "the other end did not report what it received")),
        }
    }

    fn result(
        &self,
        case: &BenchCase,
        asked: bool,
        (sent, warm_up, refused): (u64, u64, u64),
        echoes: Echoes,
        tally: RunTally,
        late: Histogram<u64>,
    ) -> BenchResult {
        let RunTally { consumers, latency, end, host } = tally;
        let round_trip = case.what == Measure::RoundTrip;
        let mut received = consumers;
        let latency = if round_trip {
            let Echoes { consumer, mut ticks, latency, .. } = echoes;
            ticks.damaged = consumer.iter().map(|consumer| consumer.stats().undecodable()).sum();
            received = vec![ticks];
            latency
        } else {
            let mut merged = histogram();
            for (value, count) in latency {
                let _ = merged.record_n(value, count);
            }
            case.what.is_timed().then_some(merged)
        };
        let rates = if case.what.is_timed() {
            Vec::new()
        } else {
            received.iter().filter_map(|t| t.rate()).collect()
        };
        BenchResult {
            case: case.clone(),
            account: SentAndReceived::new(sent, warm_up, refused, &received),
            latency,
            late: case.what.is_timed().then_some(late),
            rates,
            here: EndFacts::of(self.network),
            there: end,
            there_host: host,
            partial: asked || received.iter().any(|ticks| !ticks.whole),
        }
    }
}
