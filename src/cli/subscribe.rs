//! `corewire sub`: a stream, record by record, to stdout.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use corewire::streams::consumer::{Delivery, TryRecvError};
use corewire::streams::{ChannelInfo, CloseCode, ConsumerEvent, Events};
use corewire::{Consumer, Discovery, Network};

use super::args::{Format, SubArgs};
use super::exit::{Exit, Failure};
use super::node::{self, NodeRole};
use super::output::{OutputThread, may_be_closed};
use super::progress::Progress;
use super::publishers::{Publishers, StreamOutcome};
use super::record::{Raw, RawRecord};
use super::term::note;
use super::units::grouped;
use super::wait::{self, Interrupt, POLL_INTERVAL, Stopped};

/// Bytes in flight from one publisher at most.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Records in flight from one publisher at most.
const WINDOW_RECORDS: usize = 16 * 1024;
/// Records taken between two checks of the clock and of signals at most.
const BATCH_RECORDS: u32 = 1024;
/// Time without a publisher after which a message is printed.
const OFFLINE_NOTICE: Duration = Duration::from_secs(3);

type RecordConsumer = Consumer<RawRecord, Raw>;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndReason {
    /// `--count` was reached.
    Count,
    /// `--for` has passed.
    Time,
    /// `--until-end`, and all publishers have left.
    Stream(StreamOutcome),
    /// No publisher was connected for `--wait`.
    NoPublisher,
    /// The engine has stopped by itself.
    EngineStopped,
    /// The reader of our output has closed it.
    OutputClosed,
    /// A signal.
    Interrupted(Exit),
    /// A signal, and the output is blocked.
    Unwritten(Exit),
}

/// Runs `corewire sub`.
pub(crate) fn run(args: &SubArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    let network = node::join(&args.net, NodeRole::Subscriber, &interrupt)?;
    let say = |line: &str| {
        if !args.net.quiet {
            note(line);
        }
    };
    if may_be_closed(io::stdout()) {
        say("stdout is closed, or is /dev/null: the records are thrown away");
    }
    node::introduce(&network, &say);
    let mut subscription =
        SubscribeLoop::new(consumer(&network, args), &network, args, OutputThread::stdout()?);
    let end = subscription.run(&interrupt, &say, &|| node::dial_report(&network))?;
    let SubscribeLoop { records, lost, restarts, publishers, .. } = subscription;
    let report = node::dial_report(&network);
    // All output is written; a signal now does not change the result.
    let _ = node::leave(network, Duration::from_secs(2), &interrupt, &mut || {});
    say(&format!("{} records received", grouped(records)));
    match (lost, restarts) {
        (0, 0) => conclude(end, args, records, publishers.met(), &report),
        (0, _) => {
            let cause = "records may be missing: the publisher was restarted, and how many is not known";
            Err(Failure::new(Exit::Failed, cause))
        }
        _ => Err(Failure::new(Exit::Failed, format!("{} records are missing", grouped(lost)))),
    }
}

/// Turns the reason of the end into an exit code, given the options.
fn conclude(end: EndReason, args: &SubArgs, records: u64, met: bool, report: &str) -> Result<Exit, Failure> {
    let missed = args.count.is_some_and(|count| records < count);
    let short = |why: &str| {
        let wanted = args.count.map_or(String::new(), |count| format!(" of {}", grouped(count)));
        Err(Failure::new(Exit::NotReached, format!("{why} after {}{wanted} records", grouped(records))))
    };
    match end {
        EndReason::NoPublisher if met => short("no publisher is connected any more"),
        EndReason::NoPublisher => Err(no_publisher_answered(args, report)),
        EndReason::Stream(StreamOutcome::CutShort) => {
            let cause = format!(
                "the publisher was interrupted: the stream ends after {} records, unfinished",
                grouped(records)
            );
            Err(Failure::new(Exit::Failed, cause))
        }
        EndReason::Stream(StreamOutcome::Lost(code)) => {
            let what = match code {
                CloseCode::TOO_SLOW => {
                    "the publisher cut this subscriber off, and was gone before it was back"
                }
                code if is_break(code) => "the publisher is gone without having ended its stream",
                _ => "the publisher closed the channel, and it was not opened again",
            };
            Err(Failure::new(Exit::Failed, format!("{what} ({code}); {} records came", grouped(records))))
        }
        EndReason::Stream(StreamOutcome::Unknown) => {
            let cause = format!(
                "too many publishers came and went at once: how each ended is not known; {} records came",
                grouped(records)
            );
            Err(Failure::new(Exit::Failed, cause))
        }
        EndReason::EngineStopped => {
            let cause = format!("the engine has stopped: the stream ends after {} records", grouped(records));
            Err(Failure::new(Exit::Failed, cause))
        }
        EndReason::Unwritten(exit) => Err(Failure::new(
            exit,
            "interrupted; the output is blocked, and the last records are not written",
        )),
        EndReason::Interrupted(exit) if args.count.is_some() || args.duration.is_some() || args.until_end => {
            Ok(exit)
        }
        EndReason::Time if missed => short("the time is up"),
        EndReason::Stream(StreamOutcome::Finished) if missed => short("the publisher has finished"),
        EndReason::OutputClosed if missed => short("the output was closed"),
        _ => Ok(Exit::Done),
    }
}

fn no_publisher_answered(args: &SubArgs, report: &str) -> Failure {
    let places = node::peers(&args.net, NodeRole::Subscriber);
    let place = if places.is_empty() { "anywhere".to_owned() } else { format!("at {}", places.join(", ")) };
    Failure::new(Exit::NotReached, format!("no publisher of `{}` {place}{report}", args.stream)).cure(
        "check that `corewire pub` runs, the name of the stream, --peer, and that both sides have the same \
         --network and --secret-file",
    )
}

fn consumer(network: &Network, args: &SubArgs) -> RecordConsumer {
    network
        .streams()
        .consumer::<RawRecord>()
        .codec(Raw)
        .with_stream_id(args.stream.as_str())
        .with_window_bytes(WINDOW_BYTES.max(args.max_datum))
        .with_buffer_size(WINDOW_RECORDS)
        .build()
}

/// The consumer, its output and counters.
struct SubscribeLoop {
    consumer: RecordConsumer,
    discovery: Discovery,
    events: Events<ConsumerEvent>,
    /// Events that were missed.
    events_dropped: u64,
    publishers: Publishers,
    output: OutputThread,
    progress: Progress,
    format: Format,
    count: Option<u64>,
    until_end: bool,
    end_at: Option<Instant>,
    /// How long to stay without a publisher.
    wait: Option<Duration>,
    records: u64,
    /// Records that are known to be missing.
    lost: u64,
    /// Gaps of unknown size.
    restarts: u64,
}

/// What the loop waits for while no record is there.
enum Awaited {
    Delivery(Option<Delivery<RawRecord>>),
    /// The output can take what is in the buffer, or is closed.
    Output,
}

impl SubscribeLoop {
    fn new(consumer: RecordConsumer, network: &Network, args: &SubArgs, output: OutputThread) -> Self {
        SubscribeLoop {
            events: consumer.events(),
            events_dropped: 0,
            consumer,
            discovery: network.discovery().clone(),
            publishers: Publishers::new(Instant::now()),
            output,
            progress: Progress::new(args.net.quiet, true),
            format: args.net.format,
            count: args.count,
            until_end: args.until_end,
            end_at: node::deadline(args.duration),
            wait: args.wait,
            records: 0,
            lost: 0,
            restarts: 0,
        }
    }

    fn run(
        &mut self,
        interrupt: &Interrupt,
        say: &dyn Fn(&str),
        report: &dyn Fn() -> String,
    ) -> Result<EndReason, Failure> {
        let mut hint_at = Some(Instant::now() + OFFLINE_NOTICE);
        let end = loop {
            match self.step(interrupt, say) {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) => return Err(cannot_write(&error)),
            }
            self.progress.show(self.records, || {
                let publishers = self.consumer.producers().filter(ChannelInfo::is_connected).count();
                format!("{} waiting, {publishers} connected", grouped(self.consumer.stats().lag()))
            });
            if !self.publishers.met() && hint_at.is_some_and(|at| Instant::now() >= at) {
                say(&format!("no publisher yet; still looking{}", report()));
                hint_at = None;
            }
        };
        // Those who have enough do not miss what comes after it.
        if !matches!(end, EndReason::Count | EndReason::OutputClosed) {
            self.count_missing_at_end();
        }
        let written = self.output.finish(interrupt).map_err(|error| cannot_write(&error))?;
        match (written, interrupt.asked()) {
            (false, Some(exit)) => Ok(EndReason::Unwritten(exit)),
            _ => Ok(end),
        }
    }

    /// Takes up to a batch of waiting records; when there are none, waits for one.
    fn step(&mut self, interrupt: &Interrupt, say: &dyn Fn(&str)) -> io::Result<Option<EndReason>> {
        // Also while records come without a pause, or the output rests: a bounded number of events waits.
        self.listen(say);
        for _ in 0..BATCH_RECORDS {
            if self.count == Some(self.records) {
                return Ok(Some(EndReason::Count));
            }
            if self.output.is_full() && !self.output.hand_over() {
                // Woken when there is room, or the reader of the output has gone.
                thread::park_timeout(POLL_INTERVAL);
                break;
            }
            match self.consumer.try_recv_delivery() {
                Ok(delivery) => self.take(&delivery)?,
                Err(TryRecvError::Closed) => return Ok(Some(EndReason::EngineStopped)),
                Err(TryRecvError::Empty) => return self.pause(interrupt, say),
            }
        }
        if self.output.is_closed()? {
            return Ok(Some(EndReason::OutputClosed));
        }
        if let Some(exit) = interrupt.asked() {
            return Ok(Some(EndReason::Interrupted(exit)));
        }
        Ok(self.end_at.is_some_and(|at| Instant::now() >= at).then_some(EndReason::Time))
    }

    /// Writes the output and waits up to [`POLL_INTERVAL`] for a record.
    fn pause(&mut self, interrupt: &Interrupt, say: &dyn Fn(&str)) -> io::Result<Option<EndReason>> {
        self.output.hand_over();
        self.follow(say);
        let look = Instant::now() + POLL_INTERVAL;
        let until = self.end_at.map_or(look, |at| at.min(look));
        match wait::until(next_event(&mut self.consumer, &mut self.output), Some(until), interrupt) {
            Ok(Awaited::Delivery(Some(delivery))) => return self.take(&delivery).map(|()| None),
            Ok(Awaited::Delivery(None)) => return Ok(Some(EndReason::EngineStopped)),
            Ok(Awaited::Output) => {
                return Ok(self.output.is_closed()?.then_some(EndReason::OutputClosed));
            }
            Err(Stopped::Interrupted(exit)) => return Ok(Some(EndReason::Interrupted(exit))),
            Err(Stopped::Deadline) => {}
        }
        // A publisher may have come during the wait.
        self.follow(say);
        let now = Instant::now();
        let discovery = &self.discovery;
        Ok(if self.end_at.is_some_and(|at| now >= at) {
            Some(EndReason::Time)
        } else if self.until_end
            && let Some(end) = self.publishers.stream_end(now, |id| discovery.peer(id).is_some())
        {
            Some(EndReason::Stream(end))
        } else if let Some(alone_for) = self.publishers.alone_for(now)
            && self.wait.is_some_and(|wait| alone_for >= wait)
        {
            Some(EndReason::NoPublisher)
        } else {
            None
        })
    }

    /// [`listen`](Self::listen), while no record waits.
    fn follow(&mut self, say: &dyn Fn(&str)) {
        self.listen(say);
        self.publishers.settle(Instant::now());
    }

    /// Takes in what happened to the publishers since the last call, and tells it.
    fn listen(&mut self, say: &dyn Fn(&str)) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                ConsumerEvent::Connected { channel } => {
                    say(&format!("connected to {}", publisher_name(&channel)));
                    self.publishers.connected(*channel.producer_id());
                }
                ConsumerEvent::Closed { channel, code, retries } => {
                    let name = publisher_name(&channel);
                    match code {
                        CloseCode::GRACEFUL => say(&format!("{name} has ended its stream")),
                        CloseCode::ABORTED => say(&format!("{name} was interrupted")),
                        CloseCode::DISCARDED => say(&format!("{name} has dropped the rest of its stream")),
                        CloseCode::TOO_SLOW => say(&format!(
                            "{name} cut this subscriber off, because others waited for it ({code}); connecting again"
                        )),
                        _ if is_break(code) => say(&format!(
                            "{name} is gone without having ended its stream ({code}); waiting for it to come back"
                        )),
                        _ if retries => say(&format!(
                            "the channel to {name} has ended ({code}); waiting for it to come back"
                        )),
                        _ => say(&format!("{name} closed the channel ({code})")),
                    }
                    self.publishers.ended(*channel.producer_id(), code);
                }
                ConsumerEvent::Suspect { channel } => {
                    say(&format!("nothing was heard of {} for a second", publisher_name(&channel)));
                }
                ConsumerEvent::Recovered { channel } => {
                    say(&format!("{} was heard again", publisher_name(&channel)));
                }
                _ => {}
            }
        }
        if self.events.dropped() > self.events_dropped {
            self.events_dropped = self.events.dropped();
            let channels = self.consumer.producers().filter(|channel| channel.stats().uptime().is_some());
            self.publishers.resync(channels.map(|channel| (*channel.producer_id(), channel.close_code())));
        }
    }

    /// Counts and tells the records that are known to be missing after the last one: no later record tells
    /// it.
    fn count_missing_at_end(&mut self) {
        let stats = self.consumer.stats();
        let missing = stats.skipped().saturating_add(stats.undecodable()).saturating_sub(self.lost);
        if missing > 0 {
            self.lost = self.lost.saturating_add(missing);
            note(&format!(
                "corewire: {} records are missing at the end, after record {}",
                grouped(missing),
                grouped(self.records)
            ));
        }
        if stats.restarts() > self.restarts {
            self.restarts = stats.restarts();
            note(&format!(
                "corewire: the publisher was restarted; records may be missing after record {}",
                grouped(self.records)
            ));
        }
    }

    fn take(&mut self, delivery: &Delivery<RawRecord>) -> io::Result<()> {
        self.publishers.record(delivery.producer);
        self.records += 1;
        if delivery.skipped_before > 0 {
            self.lost = self.lost.saturating_add(delivery.skipped_before);
            note(&format!(
                "corewire: {} records are missing before record {}",
                grouped(delivery.skipped_before),
                grouped(self.records)
            ));
        }
        if delivery.restarted {
            self.restarts += 1;
            note(&format!(
                "corewire: the publisher was restarted; records may be missing before record {}",
                grouped(self.records)
            ));
        }
        self.output.push(self.format, delivery.datum.as_ref())
    }
}

/// A publisher's short id and addresses.
fn publisher_name(channel: &ChannelInfo) -> String {
    node::peer_name(channel.producer_id(), channel.peer())
}

/// Whether a channel that ended so has lost its publisher, rather than been closed by it.
fn is_break(code: CloseCode) -> bool {
    code == CloseCode::PEER_GONE || code == CloseCode::PEER_LOST
}

fn cannot_write(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write the output: {error}"))
}

/// Waits for a record, or until the output can take what is in its buffer.
fn next_event(consumer: &mut RecordConsumer, output: &mut OutputThread) -> impl Future<Output = Awaited> {
    poll_fn(|cx| {
        output.wake_on_change(cx.waker());
        if output.is_over() || output.has_some() && output.has_room() {
            return Poll::Ready(Awaited::Output);
        }
        pin!(consumer.recv_delivery()).poll(cx).map(Awaited::Delivery)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use corewire::NetworkId;

    use super::*;
    use crate::cli::args::{Cli, CliCommand};

    #[test]
    fn engine_that_stops_is_no_end_of_the_stream() {
        let network = Network::builder(NetworkId::random())
            .with_engine(corewire::EngineConfig::default())
            .build_blocking()
            .unwrap();
        let Some(CliCommand::Sub(args)) = Cli::parse_from(["corewire", "sub", "stopped"]).command else {
            panic!("`sub` is a command");
        };
        let output = OutputThread::start(io::sink()).unwrap();
        let mut subscription = SubscribeLoop::new(consumer(&network, &args), &network, &args, output);
        network.engine().stop(Duration::ZERO);
        let end = subscription.run(&Interrupt::default(), &|_| {}, &String::new).unwrap();
        assert_eq!(end, EndReason::EngineStopped);
        assert_eq!(conclude(end, &args, 0, true, "").unwrap_err().exit, Exit::Failed);
    }
}
