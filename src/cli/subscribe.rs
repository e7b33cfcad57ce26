//! `corewire sub`: a stream, record by record, to stdout.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use corewire::streams::consumer::{Delivery, TryRecvError};
use corewire::streams::{ChannelInfo, CloseCode};
use corewire::{Consumer, Network, PeerId};

use super::args::{Format, SubArgs};
use super::exit::{Exit, Failure};
use super::framing::write_record;
use super::node::{self, NodeRole};
use super::record::{Raw, RawRecord};
use super::term::note;
use super::units::grouped;
use super::wait::{self, Interrupt, POLL_INTERVAL, Stopped};

/// Bytes in flight from one publisher at most.
const WINDOW_BYTES: usize = 1024 * 1024;
/// RecordConsumer in flight from one publisher at most.
const WINDOW_RECORDS: usize = 16 * 1024;
/// Size of the output buffer. It is also flushed whenever no record is waiting.
const OUTPUT_BYTES: usize = 256 * 1024;
/// RecordConsumer taken between two checks of the clock and of Ctrl-C at most.
const BATCH_RECORDS: u32 = 1024;
/// Time without a publisher after which a message is printed.
const OFFLINE_NOTICE: Duration = Duration::from_secs(3);

/// How long `--until-end` waits for a publisher that was lost to come back.
const LOST_PATIENCE: Duration = Duration::from_secs(5);

type RecordConsumer = Consumer<RawRecord, Raw>;

/// Why the loop ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndReason {
    /// `--count` was reached.
    Count,
    /// `--for` has passed.
    Time,
    /// `--until-end`, and every publisher has ended its stream.
    Finished,
    /// `--until-end`, and a publisher ended the stream before its input ended.
    CutShort,
    /// `--until-end`, and a publisher is gone without having ended its stream.
    Lost(CloseCode),
    /// No publisher answered within `--wait`.
    NoPublisher,
    /// The reader of our output has closed it.
    OutputClosed,
    /// Ctrl-C.
    Interrupted(Exit),
}

/// Runs `corewire sub`.
pub(crate) fn run(args: &SubArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    let network = node::join(&args.net, NodeRole::Subscriber)?;
    let say = |line: &str| {
        if !args.net.quiet {
            note(line);
        }
    };
    node::introduce(&network, &say);
    let mut subscription = SubscribeLoop::new(consumer(&network, args), args, io::stdout());
    let end = subscription.run(&interrupt, &say, &|| node::dial_report(&network))?;
    let (records, lost) = (subscription.records, subscription.lost);
    let report = node::dial_report(&network);
    drop(subscription);
    // All output is written; Ctrl-C now does not change the result.
    let _ = node::leave(network, Duration::from_secs(2), &interrupt);
    say(&format!("{} records received", grouped(records)));
    if lost > 0 {
        return Err(Failure::new(Exit::Failed, format!("{} records are missing", grouped(lost))));
    }
    conclude(end, args, records, &report)
}

/// Turns the reason of the end into an exit code, given the options.
fn conclude(end: EndReason, args: &SubArgs, records: u64, report: &str) -> Result<Exit, Failure> {
    let missed = args.count.is_some_and(|count| records < count);
    let short = |why: &str| {
        let wanted = args.count.map_or(String::new(), |count| format!(" of {}", grouped(count)));
        Err(Failure::new(Exit::NotReached, format!("{why} after {}{wanted} records", grouped(records))))
    };
    match end {
        EndReason::NoPublisher => Err(no_publisher_answered(args, report)),
        EndReason::CutShort => {
            let cause = format!(
                "the publisher was interrupted: the stream ends after {} records, unfinished",
                grouped(records)
            );
            Err(Failure::new(Exit::Failed, cause))
        }
        EndReason::Lost(code) => {
            let cause = format!(
                "the publisher is gone without having ended its stream ({code}); {} records came",
                grouped(records)
            );
            Err(Failure::new(Exit::Failed, cause))
        }
        EndReason::Interrupted(exit) if args.count.is_some() || args.duration.is_some() => Ok(exit),
        EndReason::Time if missed => short("the time is up"),
        EndReason::Finished if missed => short("the publisher has finished"),
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
        .with_window_bytes(WINDOW_BYTES.max(args.net.max_datum))
        .with_buffer_size(WINDOW_RECORDS)
        .build()
}

/// The consumer, its output and counters.
struct SubscribeLoop<W: Write> {
    consumer: RecordConsumer,
    /// The latest channel of each publisher that was connected at some time.
    channels: BTreeMap<PeerId, ChannelInfo>,
    /// Since when none of them is connected.
    alone_since: Option<Instant>,
    output: BufWriter<W>,
    format: Format,
    count: Option<u64>,
    until_end: bool,
    end_at: Option<Instant>,
    give_up_at: Option<Instant>,
    connected: bool,
    records: u64,
    lost: u64,
}

impl<W: Write> SubscribeLoop<W> {
    fn new(consumer: RecordConsumer, args: &SubArgs, output: W) -> Self {
        SubscribeLoop {
            consumer,
            channels: BTreeMap::new(),
            alone_since: None,
            output: BufWriter::with_capacity(OUTPUT_BYTES, output),
            format: args.net.format,
            count: args.count,
            until_end: args.until_end,
            end_at: node::deadline(args.duration),
            give_up_at: node::deadline(args.net.wait),
            connected: false,
            records: 0,
            lost: 0,
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
            match self.step(interrupt) {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(EndReason::OutputClosed);
                }
                Err(error) => {
                    return Err(Failure::new(Exit::Failed, format!("cannot write the output: {error}")));
                }
            }
            if !self.connected && hint_at.is_some_and(|at| Instant::now() >= at) {
                say(&format!("no publisher yet; still looking{}", report()));
                hint_at = None;
            }
        };
        match self.output.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, format!("cannot write the output: {error}")))
            }
            _ => Ok(end),
        }
    }

    /// Takes up to a batch of waiting records; when there are none, waits for one.
    fn step(&mut self, interrupt: &Interrupt) -> io::Result<Option<EndReason>> {
        for _ in 0..BATCH_RECORDS {
            if self.count == Some(self.records) {
                return Ok(Some(EndReason::Count));
            }
            match self.consumer.try_recv_delivery() {
                Ok(delivery) => self.take(&delivery)?,
                Err(TryRecvError::Closed) => return Ok(Some(EndReason::Finished)),
                Err(TryRecvError::Empty) => return self.pause(interrupt),
            }
        }
        if let Some(exit) = interrupt.asked() {
            return Ok(Some(EndReason::Interrupted(exit)));
        }
        Ok(self.end_at.is_some_and(|at| Instant::now() >= at).then_some(EndReason::Time))
    }

    /// Flushes the output and waits up to [`POLL_INTERVAL`] for a record.
    fn pause(&mut self, interrupt: &Interrupt) -> io::Result<Option<EndReason>> {
        self.output.flush()?;
        // Checked before the wait, so that records of a publisher that left meanwhile are taken first.
        let end = if self.until_end { self.stream_end() } else { None };
        let look = Instant::now() + POLL_INTERVAL;
        let until = self.end_at.map_or(look, |at| at.min(look));
        match wait::until(self.consumer.recv_delivery(), Some(until), interrupt) {
            Ok(Some(delivery)) => return self.take(&delivery).map(|()| None),
            Ok(None) => return Ok(Some(EndReason::Finished)),
            Err(Stopped::Interrupted(exit)) => return Ok(Some(EndReason::Interrupted(exit))),
            Err(Stopped::Deadline) => {}
        }
        self.connected |= self.consumer.producers().any(|channel| channel.is_connected());
        let now = Instant::now();
        Ok(if self.end_at.is_some_and(|at| now >= at) {
            Some(EndReason::Time)
        } else if end.is_some() {
            end
        } else if !self.connected && self.give_up_at.is_some_and(|at| now >= at) {
            Some(EndReason::NoPublisher)
        } else {
            None
        })
    }

    /// How the stream has ended; `None` while a publisher is connected, or may come back.
    fn stream_end(&mut self) -> Option<EndReason> {
        let mut alone = true;
        for channel in self.consumer.producers() {
            alone &= !channel.is_connected();
            // A channel that never was connected has the code of its refusal, which is not the stream's end.
            let was_connected = channel.is_connected() || channel.stats().datums() > 0;
            if was_connected || self.channels.values().any(|known| known.is_same(&channel)) {
                self.channels.insert(*channel.producer_id(), channel);
            }
        }
        if !alone || !self.connected {
            self.alone_since = None;
            return None;
        }
        let since = *self.alone_since.get_or_insert_with(Instant::now);
        let codes = || self.channels.values().filter_map(ChannelInfo::close_code);
        match codes().find(|code| *code != CloseCode::GRACEFUL) {
            _ if codes().any(|code| code == CloseCode::ABORTED) => Some(EndReason::CutShort),
            Some(code) => (since.elapsed() >= LOST_PATIENCE).then_some(EndReason::Lost(code)),
            None => Some(EndReason::Finished),
        }
    }

    fn take(&mut self, delivery: &Delivery<RawRecord>) -> io::Result<()> {
        self.connected = true;
        self.records += 1;
        if delivery.skipped_before > 0 {
            self.lost += delivery.skipped_before;
            note(&format!(
                "corewire: {} records are missing before record {}",
                delivery.skipped_before, self.records
            ));
        }
        if delivery.restarted {
            note(&format!(
                "corewire: the publisher was restarted; records may be missing before record {}",
                self.records
            ));
        }
        write_record(&mut self.output, self.format, delivery.datum.as_ref())
    }
}
