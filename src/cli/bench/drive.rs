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
use crate::cli::wait::{self, CONNECT_LIMIT, Interrupt, LOOK_INTERVAL, POLL_INTERVAL, SILENCE_LIMIT};

/// What is sent before the measurement begins, and not measured.
const WARM_UP_TIME: Duration = Duration::from_millis(200);
/// Ticks at full speed between two looks at the clock.
const LOOK_EVERY: u64 = 64;
/// From the end of the warm-up to the first tick that is measured.
const FIRST_TICK_DELAY: Duration = Duration::from_millis(1);
/// How long a sender that finds no room takes echoes before it tries again, in nanoseconds.
const ROOM_LOOK_NANOS: u64 = 50_000;

/// How late the last tick of a run may be sent: a sender that does not keep the rate ends nevertheless.
const LATENESS_LIMIT: Duration = Duration::from_secs(2);

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
        end::take_ready(consumer, batch, &mut |_, tick| count(ticks, latency.as_mut(), &tick));
    }

    /// Takes those that have come, or makes one step of the wait for the time `due`.
    fn take_until(&mut self, waiter: BenchWaiter<'_>, due: u64) {
        let Echoes { consumer, batch, ticks, latency } = self;
        waiter.take_until(due, consumer, batch, &mut |_, tick| count(ticks, latency.as_mut(), &tick));
    }
}

/// Counts a tick that has come back.
fn count(ticks: &mut ReceivedTicks, latency: Option<&mut Histogram<u64>>, tick: &Tick) {
    if tick.due == END {
        ticks.whole = true;
        return;
    }
    ticks.count(tick);
    if let Some(latency) = latency.filter(|_| tick.due != WARM_UP) {
        record(latency, clock::now().saturating_sub(tick.due));
    }
}

/// Why a run ends before all was sent.
enum Broken {
    /// What was measured until then is a partial result, for this reason.
    Partial(&'static str),
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
    /// Ticks sent before the measurement.
    warm_up: u64,
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
        self.warm_up += u64::from(due == WARM_UP);
        Ok(())
    }

    /// Takes echoes, and looks whether a signal has come.
    fn look(&mut self) -> Result<(), Broken> {
        self.echoes.take();
        match self.driver.interrupt.asked() {
            Some(_) => Err(Broken::Partial("it was interrupted")),
            None => Ok(()),
        }
    }

    /// One step of the wait for room, which takes echoes: the other end may wait for room for them.
    fn send_step(&mut self, tick: Tick) -> Result<(), Error<Tick>> {
        if self.echoes.consumer.is_empty() {
            return self.producer.send_timeout(tick, POLL_INTERVAL);
        }
        self.producer.try_send(tick).inspect_err(|_| {
            self.echoes.take_until(self.driver.waiter, clock::now() + ROOM_LOOK_NANOS);
        })
    }

    /// Waits for room.
    fn send_later(&mut self, mut tick: Tick) -> Result<(), Broken> {
        let until = Instant::now() + SILENCE_LIMIT;
        loop {
            let Err(error) = self.send_step(tick) else { return Ok(()) };
            self.look()?;
            if matches!(error, Error::Closed(_)) || Instant::now() >= until {
                let why = format!("a datum was not sent: {error}");
                return Err(Broken::Failed(Failure::new(Exit::Failed, why)));
            }
            tick = error.into_inner();
        }
    }

    /// Sends at each of the intended times, however late the one before it was. Ends when it is later than
    /// [`LATENESS_LIMIT`] after the last of them.
    fn at_rate(&mut self, rate: f64, time: Duration, measured: bool) -> Result<(), Broken> {
        let count = ((rate * time.as_secs_f64()) as u64).max(1);
        let start = clock::now() + FIRST_TICK_DELAY.as_nanos() as u64;
        let end = start + (time + LATENESS_LIMIT).as_nanos() as u64;
        for index in 0..count {
            let due = start + (index as f64 * 1e9 / rate) as u64;
            if index % LOOK_EVERY == 0 {
                self.look()?;
                if clock::now() > end {
                    // What the warm-up did not send has no influence on the result.
                    return if measured { Err(Broken::Partial("the rate was not reached")) } else { Ok(()) };
                }
            }
            while clock::now() < due {
                self.echoes.take_until(self.driver.waiter, due);
                self.look()?;
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
            self.look()?;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Sends the last tick, and waits until it has come back from a round trip.
    fn finish(&mut self) -> Result<(), Failure> {
        let mut tick = Tick { number: self.next, due: END, bytes: self.bytes };
        let until = Instant::now() + SILENCE_LIMIT;
        // A signal does not stop it.
        while let Err(error) = self.send_step(tick) {
            if matches!(error, Error::Closed(_)) || Instant::now() >= until {
                return Err(Failure::new(Exit::Failed, "the other end takes no more datums"));
            }
            tick = error.into_inner();
        }
        let mut heard = (self.echoes.ticks.received, Instant::now());
        while !self.echoes.consumer.is_empty()
            && !self.echoes.ticks.whole
            && heard.1.elapsed() < SILENCE_LIMIT
        {
            let look = clock::now() + LOOK_INTERVAL.as_nanos() as u64;
            self.echoes.take_until(self.driver.waiter, look);
            if self.echoes.ticks.received != heard.0 {
                heard = (self.echoes.ticks.received, Instant::now());
            }
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
            warm_up: 0,
            refused: 0,
            late: histogram(),
        };
        let mut send_all = || {
            match case.rate {
                Some(rate) => sender.at_rate(rate, WARM_UP_TIME, false)?,
                None => sender.at_full_speed(WARM_UP_TIME, false)?,
            }
            match case.rate {
                Some(rate) => sender.at_rate(rate, case.duration, true),
                None => sender.at_full_speed(case.duration, true),
            }
        };
        let partial = match send_all() {
            Ok(()) => None,
            Err(Broken::Partial(why)) => Some(why),
            Err(Broken::Failed(failure)) => return Err(failure),
        };
        sender.finish()?;
        let TickSender { producer, echoes, next, warm_up, refused, late, .. } = sender;
        let tally = self.tally(&run, &producer)?;
        drop(producer);
        Ok(self.result(case, partial, (next, warm_up, refused), echoes, tally, late))
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
        // Else it could miss the reports of an end that another one has found already.
        self.until(self.reports.when().online(), deadline)?.ok_or_else(not_found)?;
        let orders = self.orders.clone();
        self.until(orders.send(BenchOrder::Run(order)), deadline)?
            .ok_or_else(not_found)?
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        self.report(run, deadline, self.interrupt)?.ok_or_else(not_found)?;
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
        result_of(wait::until(future, Some(deadline), self.interrupt))
    }

    /// The next report on `run`; those on other runs are of other machines.
    fn report(
        &mut self,
        run: &str,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<Option<BenchReport>, Failure> {
        loop {
            match result_of(wait::until(self.reports.recv(), Some(deadline), interrupt))? {
                Some(Some(report)) => match &report {
                    BenchReport::Ready { run: of } | BenchReport::Done { run: of, .. } if of == run => {
                        return Ok(Some(report));
                    }
                    BenchReport::Refused { run: of, why } if of == run => {
                        return Err(Failure::new(Exit::Failed, format!("the other end refused: {why}")));
                    }
                    _ => {}
                },
                Some(None) => return Err(Failure::new(Exit::Failed, "the network was shut down")),
                None => return Ok(None),
            }
        }
    }

    /// What the other end received. It may take what is still in the ring of `producer` for as long as that
    /// gets less. An interrupted run waits for it too.
    fn tally(&mut self, run: &str, producer: &Producer<Tick, TickCodec>) -> Result<RunTally, Failure> {
        let mut waiting = producer.stats().in_ring;
        loop {
            match self.report(run, Instant::now() + SILENCE_LIMIT, &Interrupt::default())? {
                Some(BenchReport::Done { tally, .. }) => return Ok(*tally),
                None if producer.stats().in_ring < waiting => waiting = producer.stats().in_ring,
                _ => {
                    let cause = "the other end did not report what it received";
                    return Err(Failure::new(Exit::Failed, cause));
                }
            }
        }
    }

    fn result(
        &self,
        case: &BenchCase,
        partial: Option<&'static str>,
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
            // One that got too little for a rate has none.
            received.iter().map(|ticks| ticks.rate().unwrap_or(0.0)).collect()
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
            partial: partial.or_else(|| {
                received
                    .iter()
                    .any(|ticks| !ticks.whole)
                    .then_some("a consumer did not see the end of the run")
            }),
        }
    }
}

/// What a wait gave; `None` when the deadline has passed.
fn result_of<T>(waited: Result<T, wait::Stopped>) -> Result<Option<T>, Failure> {
    match waited {
        Ok(output) => Ok(Some(output)),
        Err(wait::Stopped::Deadline) => Ok(None),
        Err(wait::Stopped::Interrupted(exit)) => Err(Failure::new(exit, "interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn last_tick_is_sent_to_an_end_that_waits_for_room_for_echoes() {
        const BYTES: usize = 64;
        let network = Network::builder(NetworkId::random()).build_blocking().unwrap();
        // Two ticks fit into either ring.
        let end = |name: &str| {
            let producer = message::tick_producer(&network, name, BYTES, Some(1)).unwrap();
            (producer, message::tick_consumer(&network, name, BYTES, Some(1)))
        };
        let ((producer, mut ticks), (echo, echoes)) = (end("there"), end("back"));
        let waiter = BenchWaiter::without_engine(corewire::engine::Idle::Park);
        let interrupt = Interrupt::default();
        let driver = BenchDriver::new(&network, waiter, &interrupt).unwrap();
        let mut sender = TickSender {
            driver: &driver,
            producer,
            echoes: Echoes { consumer: vec![echoes], ..Echoes::default() },
            bytes: BYTES,
            next: 5,
            warm_up: 0,
            refused: 0,
            late: histogram(),
        };
        let finished = thread::scope(|scope| {
            scope.spawn(move || {
                // Longer than the other end waits.
                while let Ok(tick) = ticks.recv_timeout(2 * SILENCE_LIMIT) {
                    let due = tick.due;
                    if echo.send_timeout(tick, 2 * SILENCE_LIMIT).is_err() || due == END {
                        return;
                    }
                }
            });
            // Two echoes, one that finds no room, and two that are not taken.
            for number in 0..5 {
                let tick = Tick { number, due: WARM_UP, bytes: BYTES };
                sender.producer.send_timeout(tick, SILENCE_LIMIT).unwrap();
            }
            let finished = sender.finish();
            // In any case the other thread finds room.
            sender.echoes.consumer.clear();
            finished
        });
        finished.unwrap();
        assert!(sender.echoes.ticks.whole);
    }
}
