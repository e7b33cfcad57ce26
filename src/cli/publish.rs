//! `corewire pub`: stdin or a file, record by record, into a stream.
//!
//! A second thread reads and sends, because a read from a terminal cannot be called off; the main thread waits
//! for it and for Ctrl-C.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use corewire::streams::producer::{BuilderError, Error};
use corewire::{Network, Producer};

use super::args::PubArgs;
use super::exit::{Exit, Failure};
use super::framing::{FramingError, RecordReader};
use super::node::{self, Role};
use super::record::{Raw, Record};
use super::term::note;
use super::units::grouped;
use super::wait::{self, Interrupt, LOOK_AROUND, Stopped};

/// Records that may wait for the slowest consumer.
const RING_RECORDS: usize = 16 * 1024;
/// Bytes that may wait; at least a few of the largest records.
const RING_BYTES: usize = 4 * 1024 * 1024;

/// A consumer that comes back within this time is not worth a word.
const ALONE: Duration = Duration::from_secs(1);

type Records = Producer<Record, Raw>;

/// Runs `corewire pub`.
pub(crate) fn run(args: &PubArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    let input = open(args.file.as_deref())?;
    let network = node::join(&args.net, Role::Publisher)?;
    let producer = producer(&network, args)?;
    let say = |line: &str| {
        if !args.net.quiet {
            note(line);
        }
    };
    node::introduce(&network, &say);
    if args.consumers > 0 {
        say(&format!("waiting for {} of `{}`", consumers(args.consumers), args.stream));
        let enough = producer.when().subscribed().minimum_of(args.consumers);
        match wait::until(enough, node::deadline(args.net.wait), &interrupt) {
            Ok(()) => {}
            Err(Stopped::Deadline) => return Err(nobody_came(args, producer.consumers().len())),
            Err(Stopped::Interrupted(exit)) => return Ok(exit),
        }
    }
    let started = Instant::now();
    let pump =
        Pump { reader: RecordReader::new(input, args.net.format, args.net.max_datum), rate: args.rate };
    let (records, outcome) = match supervise(pump, producer, args, &interrupt) {
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
    // What was read before a bad record is delivered all the same.
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

fn nobody_came(args: &PubArgs, came: usize) -> Failure {
    let cause = format!("{came} of {} of `{}` came in time", consumers(args.consumers), args.stream);
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

fn producer(network: &Network, args: &PubArgs) -> Result<Records, Failure> {
    let online = args.consumers.min(1);
    network
        .streams()
        .producer::<Record>()
        .codec(Raw)
        .with_stream_id(args.stream.as_str())
        .with_buffer_size(RING_RECORDS)
        .with_buffer_bytes(RING_BYTES.max(4 * args.net.max_datum))
        .with_max_datum_bytes(args.net.max_datum)
        // A pipe that is slow is a pipe that is slow: this program waits for it.
        .disconnect_lagging(false)
        .online_when(move |condition| condition.minimum_of(online))
        .build()
        .map_err(|error: BuilderError<Records>| Failure::new(Exit::CannotStart, error.to_string()))
}

/// What the sending thread owns.
struct Pump {
    reader: RecordReader<Box<dyn Read + Send>>,
    rate: Option<f64>,
}

/// How sending ended.
enum Supervised {
    /// Records sent, and why no more were.
    Sent(u64, Result<(), Failure>),
    /// The user wants the program to end.
    Interrupted(Exit),
    /// Nobody listens any more, for longer than `--wait` allows.
    Deserted,
}

/// Runs the pump on its own thread, and watches the user and the consumers meanwhile.
fn supervise(mut pump: Pump, producer: Records, args: &PubArgs, interrupt: &Interrupt) -> Supervised {
    let (done, result) = mpsc::channel();
    let handle = producer.clone();
    let sending = thread::Builder::new().name("corewire-pub".into()).spawn(move || {
        let outcome = pump.run(&handle);
        // Nobody listens any more once the user has pressed Ctrl-C.
        let _ = done.send((pump.reader.records(), outcome));
    });
    if let Err(error) = sending {
        return Supervised::Sent(0, Err(Failure::from(error)));
    }
    let mut alone: Option<(Instant, bool)> = None;
    loop {
        match result.recv_timeout(LOOK_AROUND) {
            Ok((records, outcome)) => return Supervised::Sent(records, outcome),
            Err(RecvTimeoutError::Disconnected) => {
                let failure = Failure::new(Exit::Failed, "the sending thread ended without a result");
                return Supervised::Sent(0, Err(failure));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(exit) = interrupt.asked() {
            producer.close();
            return Supervised::Interrupted(exit);
        }
        if producer.is_online() {
            alone = None;
            continue;
        }
        let (since, told) = alone.get_or_insert((Instant::now(), false));
        if args.net.wait.is_some_and(|wait| since.elapsed() >= wait) {
            producer.close();
            return Supervised::Deserted;
        }
        if !*told && !args.net.quiet && since.elapsed() >= ALONE {
            note("nobody listens any more; waiting for a consumer");
            *told = true;
        }
    }
}

impl Pump {
    /// Sends until the input ends.
    fn run(&mut self, producer: &Records) -> Result<(), Failure> {
        let started = Instant::now();
        let mut number = 0u64;
        while let Some(bytes) = self.reader.next_record().map_err(bad_input)? {
            let record = Record::from(bytes);
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

fn not_sent(error: &Error<Record>) -> Failure {
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
