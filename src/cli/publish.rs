//! `corewire pub`: stdin or a file, record by record, into a stream.
//!
//! A thread of its own reads and sends ([`Pump`]); the main thread waits for it and for signals, and watches
//! the consumers: each record that one of them does not get is told on stderr and by the exit code.

use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use corewire::Network;
use corewire::streams::producer::{Lagging, TryBuildError};

use super::args::{PubArgs, SlowConsumers};
use super::consumers::{ConsumerAccounts, HoldNotice};
use super::exit::{Exit, Failure};
use super::input::InputSource;
use super::node::{self, NodeRole};
use super::output::may_be_closed;
use super::progress::Progress;
use super::pump::{Pump, RecordProducer};
use super::record::{Raw, RawRecord};
use super::term::note;
use super::units::grouped;
use super::wait::{self, Interrupt, POLL_INTERVAL, Stopped};

/// Records that may wait for the slowest consumer.
const RING_RECORDS: usize = 16 * 1024;
/// Bytes that may wait, unless records are large: four of the largest then, and two of those above 16 MiB.
const RING_BYTES: usize = 4 * 1024 * 1024;
const RING_BYTES_LARGE: usize = 64 * 1024 * 1024;

/// How long in total a consumer may keep others waiting before it is cut off.
const SLOW_GRACE: Duration = Duration::from_secs(1);
/// A consumer for which no other one waits may rest for as long as it likes, as the reader of a pipe may.
const STANDSTILL: Duration = Duration::from_secs(365 * 86_400);

/// Time without a consumer after which a message is printed.
const OFFLINE_NOTICE: Duration = Duration::from_secs(1);

/// How often the ring is looked at while its rest is delivered: a short input ends without a noticeable
/// pause.
const DELIVERY_POLL: Duration = Duration::from_millis(2);

/// How long a publisher that is interrupted, or has lost its consumers, waits for them to take what was sent.
const SHORT_DRAIN: Duration = Duration::from_secs(1);

/// The parts of a sending thread's wait for room, in hundredths of the time, above which it counts as held.
const STANDING_SHARE: u32 = 90;
const HELD_UP_SHARE: u32 = 50;

/// Runs `corewire pub`.
pub(crate) fn run(args: &PubArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    let input = InputSource::find(args.file.as_deref())?;
    let network = node::join(&args.net, NodeRole::Publisher, &interrupt)?;
    let producer = producer(&network, args)?;
    let say = |line: &str| {
        if !args.net.quiet {
            note(line);
        }
    };
    if matches!(input, InputSource::Stdin) && may_be_closed(io::stdin()) {
        say("stdin is closed, or is /dev/null: there are no records to send");
    }
    node::introduce(&network, &say);
    if args.consumers > 0 {
        say(&format!("waiting for {} of `{}`", consumers(args.consumers), args.stream));
        let enough = producer.when().subscribed().minimum_of(args.consumers);
        match wait::until(enough, node::deadline(args.wait), &interrupt) {
            Ok(()) => {}
            Err(Stopped::Deadline) => {
                return Err(no_consumer_came(args, producer.consumers().len(), &node::dial_report(&network)));
            }
            Err(Stopped::Interrupted(exit)) => return Ok(exit),
        }
    }
    let mut publishing = Publishing {
        pump: Pump::start(input, args, &producer)?,
        producer,
        args,
        interrupt: &interrupt,
        accounts: ConsumerAccounts::default(),
        notice: HoldNotice::default(),
        progress: Progress::new(args.net.quiet, false),
        last: Look::default(),
        started: Instant::now(),
    };
    let end = publishing.supervise();
    publishing.conclude(end, network)
}

fn consumers(number: usize) -> String {
    if number == 1 { "a consumer".to_owned() } else { format!("{number} consumers") }
}

/// What the consumers did not get.
fn missing(records: u64, list: &str) -> String {
    format!("{} records may be missing at consumers:{list}", grouped(records))
}

fn no_consumer_came(args: &PubArgs, came: usize, report: &str) -> Failure {
    let came = match (came, args.consumers) {
        (0, _) => "no consumer".to_owned(),
        (came, wanted) => format!("{came} of {wanted} consumers"),
    };
    let cause = format!("{came} of `{}` came in time{report}", args.stream);
    Failure::new(Exit::NotReached, cause)
        .cure(format!("corewire sub {} (with the same --network and --secret-file)", args.stream))
}

fn producer(network: &Network, args: &PubArgs) -> Result<RecordProducer, Failure> {
    let online = args.consumers.min(1);
    let lagging = match args.slow {
        SlowConsumers::Cut => Lagging::after(SLOW_GRACE, STANDSTILL),
        SlowConsumers::Wait => false.into(),
    };
    network
        .streams()
        .producer::<RawRecord>()
        .codec(Raw)
        .with_stream_id(args.stream.as_str())
        .with_buffer_size(RING_RECORDS)
        .with_buffer_bytes(ring_bytes(args.max_datum))
        .with_max_datum_bytes(args.max_datum)
        .disconnect_lagging(lagging)
        .online_when(move |condition| condition.minimum_of(online))
        .try_build()
        .map_err(|error: TryBuildError<RawRecord, Raw>| Failure::new(Exit::CannotStart, error.to_string()))
}

fn ring_bytes(max_datum: usize) -> usize {
    (4 * max_datum).min(RING_BYTES_LARGE).max(2 * max_datum).max(RING_BYTES)
}

/// How sending ended.
enum SendEnd {
    /// The sending thread has ended, and how.
    Pump(Result<(), Failure>),
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted(Exit),
    /// No consumer was connected for `--wait`.
    Deserted,
}

/// What the last look at the producer saw.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    accepted: u64,
    in_ring: u64,
    waited: Duration,
}

/// The main thread while records are sent and delivered.
struct Publishing<'a> {
    pump: Pump,
    producer: RecordProducer,
    args: &'a PubArgs,
    interrupt: &'a Interrupt,
    accounts: ConsumerAccounts,
    notice: HoldNotice,
    progress: Progress,
    last: Look,
    started: Instant,
}

impl Publishing<'_> {
    /// Waits for the sending thread; meanwhile watches for signals and for the consumers to leave.
    fn supervise(&mut self) -> SendEnd {
        let mut alone: Option<(Instant, bool)> = None;
        loop {
            match self.pump.result.recv_timeout(POLL_INTERVAL) {
                Ok(outcome) => return SendEnd::Pump(outcome),
                Err(RecvTimeoutError::Disconnected) => {
                    let failure = Failure::new(Exit::Failed, "the sending thread ended without a result");
                    return SendEnd::Pump(Err(failure));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(exit) = self.interrupt.asked() {
                return SendEnd::Interrupted(exit);
            }
            self.look(false);
            if self.producer.is_online() {
                alone = None;
                continue;
            }
            let (since, told) = alone.get_or_insert((Instant::now(), false));
            if self.args.wait.is_some_and(|wait| since.elapsed() >= wait) {
                return SendEnd::Deserted;
            }
            if !*told && since.elapsed() >= OFFLINE_NOTICE {
                *told = true;
                self.say(&match self.accounts.absent().join(", ") {
                    names if names.is_empty() => "the last consumer left; waiting for another one".to_owned(),
                    names => format!(
                        "no consumer is connected; {names} may come back and goes on where it stopped"
                    ),
                });
            }
        }
    }

    fn say(&self, line: &str) {
        if !self.args.net.quiet {
            note(line);
        }
    }

    /// Looks at the consumers: tells what they have missed, and who keeps the producer waiting. `draining`:
    /// the input has ended.
    fn look(&mut self, draining: bool) {
        for line in self.accounts.look(self.producer.consumers()) {
            note(&format!("corewire: {line}"));
        }
        let (now, stats) = (Instant::now(), self.producer.stats());
        let look = Look {
            at: Some(now),
            accepted: stats.accepted,
            in_ring: stats.in_ring,
            waited: self.pump.wait.total(),
        };
        let last = std::mem::replace(&mut self.last, look);
        self.progress.show(stats.accepted, || {
            let (consumers, lag) = (self.accounts.connected(), self.accounts.lag());
            format!("{} behind, {consumers} connected", grouped(lag))
        });
        let Some(before) = last.at else { return };
        let waited = self.last.waited.saturating_sub(last.waited);
        let waited_for = |share: u32| waited * 100 >= now.saturating_duration_since(before) * share;
        let stands_still = if draining {
            self.last.in_ring > 0 && self.last.in_ring == last.in_ring
        } else {
            self.last.accepted == last.accepted && waited_for(STANDING_SHARE)
        };
        let held = stands_still
            || waited_for(HELD_UP_SHARE) && self.accounts.is_held_up(self.last.in_ring.div_ceil(2).max(2));
        let Some(held_for) = self.notice.look(held, now) else { return };
        let Some(holders) = self.accounts.holders() else { return };
        let what = if stands_still {
            "the stream stands still"
        } else {
            "the stream is as slow as its slowest consumer"
        };
        let cure = match self.args.slow {
            SlowConsumers::Wait if self.accounts.connected() > 1 => "; --slow cut would go on without it",
            _ => "",
        };
        self.say(&format!("{what} for {} s: waiting for {holders}{cure}", held_for.as_secs()));
    }

    /// Waits until the consumers have everything (`Ok(true)`), or `enough` says that no more is to be waited
    /// for.
    fn wait_for_ring(&mut self, enough: impl Fn(&ConsumerAccounts) -> bool) -> Result<bool, Exit> {
        loop {
            let look_at = Instant::now() + POLL_INTERVAL;
            while self.producer.stats().in_ring > 0 && Instant::now() < look_at {
                std::thread::park_timeout(DELIVERY_POLL);
            }
            if let Some(exit) = self.interrupt.asked() {
                return Err(exit);
            }
            self.look(true);
            if self.last.in_ring == 0 {
                return Ok(true);
            }
            if enough(&self.accounts) {
                return Ok(false);
            }
        }
    }

    /// Ends the stream and waits until it is delivered. `Ok(false)`: those that lack something are lost.
    fn deliver(&mut self, is_whole: bool) -> Result<bool, Exit> {
        // The end of the stream costs an absent consumer its place. It does not wait for connected ones: one
        // that rests must not keep the end from the others.
        self.wait_for_ring(|accounts| !accounts.awaits(Instant::now()))?;
        // Records before a bad one are still delivered.
        if is_whole {
            self.producer.close();
        } else {
            self.producer.abort();
        }
        self.wait_for_ring(|accounts| accounts.connected() == 0 && !accounts.awaits(Instant::now()))
    }

    /// Ends the stream and delivers what was sent; then tells what was sent and what was missed.
    fn conclude(mut self, end: SendEnd, network: Network) -> Result<Exit, Failure> {
        let (within, outcome) = match end {
            SendEnd::Pump(outcome) => {
                let delivered = match self.deliver(outcome.is_ok()) {
                    Ok(delivered) => delivered,
                    Err(exit) => return self.conclude(SendEnd::Interrupted(exit), network),
                };
                let within = if delivered { node::DRAIN } else { SHORT_DRAIN };
                (within, outcome.map(|()| Exit::Done))
            }
            SendEnd::Interrupted(exit) => {
                self.producer.abort();
                (SHORT_DRAIN, Ok(exit))
            }
            SendEnd::Deserted => {
                self.producer.abort();
                let cause =
                    format!("the last consumer of `{}` left before the input ended", self.args.stream);
                (SHORT_DRAIN, Err(Failure::new(Exit::NotReached, cause)))
            }
        };
        // An interrupted drain is not interrupted again: the second signal ends the program at once.
        let ends = within == SHORT_DRAIN;
        let interrupt = if ends { Interrupt::default() } else { self.interrupt.clone() };
        let left = node::leave(network, within, &interrupt, &mut || self.look(true));
        self.look(true);
        let (outcome, delivered) = match left {
            Ok(delivered) => (outcome, delivered),
            Err(exit) => (Ok(exit), false),
        };
        self.report(outcome, delivered)
    }

    /// The last words, and the exit code.
    fn report(&self, outcome: Result<Exit, Failure>, delivered: bool) -> Result<Exit, Failure> {
        let stats = self.producer.stats();
        let missed = self.accounts.missed(stats.skipped_at_close, stats.missed_while_away);
        let sent = grouped(stats.accepted);
        if !matches!(outcome, Ok(Exit::Done)) {
            self.say(&match outcome {
                Ok(_) => format!("interrupted after {sent} records"),
                Err(_) => format!("records sent before the failure: {sent}"),
            });
            if let Some((total, list)) = missed {
                note(&format!("corewire: {}", missing(total, &list)));
            }
            return outcome;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = grouped((stats.accepted as f64 / seconds.max(1e-9)) as u64);
        let told = format!("{sent} records in {seconds:.2} s ({rate} a second)");
        if let Some((total, list)) = missed {
            self.say(&told);
            return Err(Failure::new(Exit::Failed, missing(total, &list)));
        }
        if !delivered {
            self.say(&told);
            return Err(Failure::new(
                Exit::Failed,
                "not every consumer took everything before the stream ended",
            )
            .cure("look at what the slowest consumer does with its records"));
        }
        self.say(&format!("{told}; every consumer that stayed has them all"));
        Ok(Exit::Done)
    }
}
