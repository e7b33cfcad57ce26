//! `corewire pub`: stdin or a file, record by record, into a stream.
//!
//! A second thread reads and sends, because a blocking read cannot be cancelled; the main thread waits for it
//! and for Ctrl-C.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use corewire::streams::producer::{Error, TryBuildError};
use corewire::{Network, Producer};

use super::args::PubArgs;
use super::exit::{Exit, Failure};
use super::framing::{FramingError, RecordReader};
use super::node::{self, NodeRole};
use super::record::{Raw, RawRecord};
use super::term::note;
use super::units::grouped;
use super::wait::{self, Interrupt, POLL_INTERVAL, Stopped};

/// RecordProducer that may wait for the slowest consumer.
const RING_RECORDS: usize = 16 * 1024;
/// Bytes that may wait; at least a few of the largest records.
const RING_BYTES: usize = 4 * 1024 * 1024;

/// Time without a consumer after which a message is printed.
const OFFLINE_NOTICE: Duration = Duration::from_secs(1);

type RecordProducer = Producer<RawRecord, Raw>;

/// Runs `corewire pub`.
pub(crate) fn run(args: &PubArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    let input = open(args.file.as_deref())?;
    let network = node::join(&args.net, NodeRole::Publisher)?;
    let producer = producer(&network, args)?;
    let say = |line: &str| {
        if !args.net.quiet {
            note(line);
        }
    };
    node::introduce(&network, &say);
    if !args.net.peer.is_empty() && node::is_unannounced(&network) {
        say(
            "an unspecified address is not announced: consumers that know a third node only can't call this one; \
             --listen with an address of this host can be announced",
        );
    }
    if args.consumers > 0 {
        say(&format!("waiting for {} of `{}`", consumers(args.consumers), args.stream));
        let enough = producer.when().subscribed().minimum_of(args.consumers);
        match wait::until(enough, node::deadline(args.net.wait), &interrupt) {
            Ok(()) => {}
            Err(Stopped::Deadline) => {
                return Err(no_consumer_came(args, producer.consumers().len(), &node::dial_report(&network)));
            }
            Err(Stopped::Interrupted(exit)) => return Ok(exit),
        }
    }
    let started = Instant::now();
    let pump =
        Pump { reader: RecordReader::new(input, args.net.format, args.net.max_datum), rate: args.rate };
    let supervised = supervise(pump, &producer, args, &interrupt);
    // The records that were accepted are still delivered.
    match &supervised {
        Supervised::Sent(_, Ok(())) => producer.close(),
        Supervised::Sent(_, Err(_)) | Supervised::Interrupted(_) | Supervised::Deserted => producer.abort(),
    }
    let (records, outcome) = match supervised {
        Supervised::Sent(records, outcome) => (records, outcome),
        Supervised::Interrupted(exit) => {
            let _ = node::leave(network, Duration::from_secs(1), &interrupt);
            return Ok(exit);
        }
        Supervised::Deserted => {
            let cause = format!("the last consumer of `{}` left before the input ended", args.stream);
            return Err(Failure::new(Exit::NotReached, cause));
        }
    };
    let delivered = match node::leave(network, node::DRAIN, &interrupt) {
        Ok(delivered) => delivered,
        Err(exit) => return Ok(exit),
    };
    outcome?;
    if !delivered {
        return Err(Failure::new(Exit::Failed, "not every consumer took everything before the time was up")
            .cure("look at what the slowest consumer does with its records"));
    }
    let seconds = started.elapsed().as_secs_f64();
    say(&format!(
        "{} records in {seconds:.2} s ({} a second); every consumer that stayed has them all",
        grouped(records),
        grouped((records as f64 / seconds.max(1e-9)) as u64)
    ));
    Ok(Exit::Done)
}

fn consumers(number: usize) -> String {
    if number == 1 { "a consumer".to_owned() } else { format!("{number} consumers") }
}

fn no_consumer_came(args: &PubArgs, came: usize, report: &str) -> Failure {
    let cause = format!("{came} of {} of `{}` came in time{report}", consumers(args.consumers), args.stream);
    Failure::new(Exit::NotReached, cause)
        .cure(format!("corewire sub {} (with the same --network and --secret-file)", args.stream))
}

fn open(file: Option<&Path>) -> Result<Box<dyn Read + Send>, Failure> {
    let Some(path) = file else { return Ok(Box::new(io::stdin())) };
    match File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => {
            Err(Failure::new(Exit::CannotStart, format!("cannot open {}: {error}", path.display()))
                .cure("leave out --file to read standard input"))
        }
    }
}

fn producer(network: &Network, args: &PubArgs) -> Result<RecordProducer, Failure> {
    let online = args.consumers.min(1);
    network
        .streams()
        .producer::<RawRecord>()
        .codec(Raw)
        .with_stream_id(args.stream.as_str())
        .with_buffer_size(RING_RECORDS)
        .with_buffer_bytes(RING_BYTES.max(4 * args.net.max_datum))
        .with_max_datum_bytes(args.net.max_datum)
        // A slow pipe is no error: wait for it.
        .disconnect_lagging(false)
        .online_when(move |condition| condition.minimum_of(online))
        .try_build()
        .map_err(|error: TryBuildError<RawRecord, Raw>| Failure::new(Exit::CannotStart, error.to_string()))
}

/// The state of the sending thread.
struct Pump {
    reader: RecordReader<Box<dyn Read + Send>>,
    rate: Option<f64>,
}

/// How sending ended.
enum Supervised {
    /// RecordProducer sent, and why no more were.
    Sent(u64, Result<(), Failure>),
    /// SIGINT or SIGTERM.
    Interrupted(Exit),
    /// No consumer was connected for `--wait`.
    Deserted,
}

/// Runs the pump on its own thread; meanwhile watches for signals and for the consumers to leave.
fn supervise(mut pump: Pump, producer: &RecordProducer, args: &PubArgs, interrupt: &Interrupt) -> Supervised {
    let (done, result) = mpsc::channel();
    let handle = producer.clone();
    let sending = thread::Builder::new().name("corewire-pub".into()).spawn(move || {
        let outcome = pump.run(&handle);
        // The receiver is gone after Ctrl-C.
        let _ = done.send((pump.reader.records(), outcome));
    });
    if let Err(error) = sending {
        return Supervised::Sent(0, Err(Failure::from(error)));
    }
    let mut alone: Option<(Instant, bool)> = None;
    loop {
        match result.recv_timeout(POLL_INTERVAL) {
            Ok((records, outcome)) => return Supervised::Sent(records, outcome),
            Err(RecvTimeoutError::Disconnected) => {
                let failure = Failure::new(Exit::Failed, "the sending thread ended without a result");
                return Supervised::Sent(0, Err(failure));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(exit) = interrupt.asked() {
            return Supervised::Interrupted(exit);
        }
        if producer.is_online() {
            alone = None;
            continue;
        }
        let (since, told) = alone.get_or_insert((Instant::now(), false));
        if args.net.wait.is_some_and(|wait| since.elapsed() >= wait) {
            return Supervised::Deserted;
        }
        if !*told && !args.net.quiet && since.elapsed() >= OFFLINE_NOTICE {
            note("the last consumer left; waiting for another one");
            *told = true;
        }
    }
}

impl Pump {
    /// Sends until the input ends.
    fn run(&mut self, producer: &RecordProducer) -> Result<(), Failure> {
        let started = Instant::now();
        let mut number = 0u64;
        while let Some(bytes) = self.reader.next_record().map_err(bad_input)? {
            let record = RawRecord::from(bytes);
            if let Some(rate) = self.rate {
                let due = started + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            producer.send_blocking(record).map_err(|error| not_sent(&error))?;
            number += 1;
        }
        Ok(())
    }
}

fn not_sent(error: &Error<RawRecord>) -> Failure {
    Failure::new(Exit::Failed, format!("a record was not sent: {error}"))
}

fn bad_input(error: FramingError) -> Failure {
    match error {
        FramingError::Io(error) => Failure::new(Exit::Failed, format!("cannot read the input: {error}")),
        FramingError::TooLong { number, len, limit } => Failure::new(
            Exit::Failed,
            format!(
                "record {number} of the input is too long: {len} bytes or more, where {limit} are allowed"
            ),
        )
        .cure("a larger --max-datum on both sides, or another --format"),
        FramingError::Truncated { number, have, want } => Failure::new(
            Exit::Failed,
            format!("the input ends inside record {number}: {have} of its {want} bytes are there"),
        )
        .cure("check that each record follows its length as a 32-bit little-endian number"),
    }
}
