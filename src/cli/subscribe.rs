//! `corewire sub`: a stream, record by record, to stdout.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use corewire::streams::consumer::{Delivery, TryRecvError};
use corewire::{Consumer, Network};

use super::args::{Format, SubArgs};
use super::exit::{Exit, Failure};
use super::framing::write_record;
use super::node::{self, Role};
use super::record::{Raw, Record};
use super::term::note;
use super::units::grouped;
use super::wait::{self, Interrupt, LOOK_AROUND, Stopped};

/// Bytes that a publisher may have on the way to this process.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Records that it may have on the way.
const WINDOW_RECORDS: usize = 16 * 1024;
/// Output is written in blocks of this size while records keep coming, and at once when they pause.
const OUTPUT_BYTES: usize = 256 * 1024;
/// Between looks at the clock and at Ctrl-C, a stream that never pauses gives at most this many records.
const BATCH_RECORDS: u32 = 1024;
/// After this time without a publisher a person is told where it is looked for.
const PATIENCE: Duration = Duration::from_secs(3);

type Records = Consumer<Record, Raw>;

/// Why the loop ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As many records as were asked for.
    Count,
    /// The time that was asked for.
    Time,
    /// `--until-end`, and there is no publisher any more.
    Finished,
    /// Nobody answered within `--wait`.
    Nobody,
    /// Whoever read our output has gone.
    OutputClosed,
    /// Ctrl-C.
    Interrupted(Exit),
}

/// Runs `corewire sub`.
pub(crate) fn run(args: &SubArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    let network = node::join(&args.net, Role::Subscriber)?;
    let say = |line: &str| {
        if !args.net.quiet {
            note(line);
        }
    };
    node::introduce(&network, &say);
    let mut subscription = Subscription::new(consumer(&network, args), args, io::stdout());
    let end = subscription.run(&interrupt, &say)?;
    let (records, lost) = (subscription.records, subscription.lost);
    drop(subscription);
    // Ctrl-C during this last step changes nothing about what was written.
    let _ = node::leave(network, Duration::from_secs(2), &interrupt);
    say(&format!("{} records received", grouped(records)));
    if lost > 0 {
        return Err(Failure::new(Exit::Failed, format!("{} records are missing", grouped(lost))));
    }
    conclude(end, args, records)
}

/// What the end means, given what was asked for.
fn conclude(end: End, args: &SubArgs, records: u64) -> Result<Exit, Failure> {
    let missed = args.count.is_some_and(|count| records < count);
    let short = |why: &str| {
        let wanted = args.count.map_or(String::new(), |count| format!(" of {}", grouped(count)));
        Err(Failure::new(Exit::NotReached, format!("{why} after {}{wanted} records", grouped(records))))
    };
    match end {
        End::Nobody => Err(nobody_answered(args)),
        End::Interrupted(exit) if args.count.is_some() || args.duration.is_some() => Ok(exit),
        End::Time if missed => short("the time is up"),
        End::Finished if missed => short("the publisher has finished"),
        End::OutputClosed if missed => short("the output was closed"),
        _ => Ok(Exit::Done),
    }
}

fn nobody_answered(args: &SubArgs) -> Failure {
    let places: Vec<String> =
        node::peers(&args.net, Role::Subscriber).iter().map(|address| address.to_string()).collect();
    let place = if places.is_empty() { "anywhere".to_owned() } else { format!("at {}", places.join(", ")) };
    Failure::new(Exit::NotReached, format!("nobody publishes `{}` {place}", args.stream)).cure(
        "check that `corewire pub` runs, the name of the stream, --peer, and that both sides have the same \
         --network and --secret-file",
    )
}

fn consumer(network: &Network, args: &SubArgs) -> Records {
    network
        .streams()
        .consumer::<Record>()
        .codec(Raw)
        .with_stream_id(args.stream.as_str())
        .with_window_bytes(WINDOW_BYTES.max(4 * args.net.max_datum))
        .with_buffer_size(WINDOW_RECORDS)
        .build()
}

/// The consumer, its output, and what was counted on the way.
struct Subscription<W: Write> {
    consumer: Records,
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

impl<W: Write> Subscription<W> {
    fn new(consumer: Records, args: &SubArgs, output: W) -> Self {
        Subscription {
            consumer,
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

    fn run(&mut self, interrupt: &Interrupt, say: &dyn Fn(&str)) -> Result<End, Failure> {
        let mut hint_at = Some(Instant::now() + PATIENCE);
        let end = loop {
            match self.step(interrupt) {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::OutputClosed),
                Err(error) => {
                    return Err(Failure::new(Exit::Failed, format!("cannot write the output: {error}")));
                }
            }
            if !self.connected && hint_at.is_some_and(|at| Instant::now() >= at) {
                say("no publisher yet; still looking");
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

    /// Takes what is there, up to a batch; when nothing is, waits a moment and looks around.
    fn step(&mut self, interrupt: &Interrupt) -> io::Result<Option<End>> {
        for _ in 0..BATCH_RECORDS {
            if self.count == Some(self.records) {
                return Ok(Some(End::Count));
            }
            match self.consumer.try_recv_delivery() {
                Ok(delivery) => self.take(&delivery)?,
                Err(TryRecvError::Closed) => return Ok(Some(End::Finished)),
                Err(TryRecvError::Empty) => return self.pause(interrupt),
            }
        }
        if let Some(exit) = interrupt.asked() {
            return Ok(Some(End::Interrupted(exit)));
        }
        Ok(self.end_at.is_some_and(|at| Instant::now() >= at).then_some(End::Time))
    }

    /// Nothing is there: writes out what was taken and waits a moment.
    fn pause(&mut self, interrupt: &Interrupt) -> io::Result<Option<End>> {
        self.output.flush()?;
        // Asked before the wait: what a publisher sent before it left is taken first.
        let gone = self.connected && !self.consumer.producers().any(|channel| channel.is_connected());
        let look = Instant::now() + LOOK_AROUND;
        let until = self.end_at.map_or(look, |at| at.min(look));
        match wait::until(self.consumer.recv_delivery(), Some(until), interrupt) {
            Ok(Some(delivery)) => return self.take(&delivery).map(|()| None),
            Ok(None) => return Ok(Some(End::Finished)),
            Err(Stopped::Interrupted(exit)) => return Ok(Some(End::Interrupted(exit))),
            Err(Stopped::Deadline) => {}
        }
        self.connected |= self.consumer.producers().any(|channel| channel.is_connected());
        let now = Instant::now();
        Ok(if self.end_at.is_some_and(|at| now >= at) {
            Some(End::Time)
        } else if self.until_end && gone {
            Some(End::Finished)
        } else if !self.connected && self.give_up_at.is_some_and(|at| now >= at) {
            Some(End::Nobody)
        } else {
            None
        })
    }

    fn take(&mut self, delivery: &Delivery<Record>) -> io::Result<()> {
        self.connected = true;
        self.records += 1;
        if delivery.skipped_before > 0 {
            self.lost += delivery.skipped_before;
            note(&format!(
                "corewire: {} records are missing before record {}",
                delivery.skipped_before, self.records
            ));
        }
        write_record(&mut self.output, self.format, delivery.datum.as_ref())
    }
}
