//! The sending thread of `pub`: reads records and sends them. Reading and sending may both block, so the main
//! thread only watches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use corewire::Producer;
use corewire::streams::producer::Error;

use super::args::{Format, PubArgs};
use super::exit::{Exit, Failure};
use super::framing::{FramingError, RecordReader};
use super::input::InputSource;
use super::pace::RateLimit;
use super::record::{Raw, RawRecord};

/// The producer of `pub`.
pub(crate) type RecordProducer = Producer<RawRecord, Raw>;

/// Not blocked, in [`SendWait::since`].
const NOT_BLOCKED: u64 = u64::MAX;

/// For how long the sending thread has waited for room. It is the one writer.
pub(crate) struct SendWait {
    started: Instant,
    /// Microseconds after `started` at which it began to wait.
    since: AtomicU64,
    /// Microseconds of the waits that are over.
    total: AtomicU64,
}

impl SendWait {
    fn new() -> Self {
        SendWait { started: Instant::now(), since: AtomicU64::new(NOT_BLOCKED), total: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn during<T>(&self, wait: impl FnOnce() -> T) -> T {
        let since = self.now();
        self.since.store(since, Ordering::Relaxed);
        let result = wait();
        self.since.store(NOT_BLOCKED, Ordering::Relaxed);
        self.total.fetch_add(self.now() - since, Ordering::Relaxed);
        result
    }

    /// The time spent waiting so far, with a wait that is not over. To about the length of one wait.
    pub(crate) fn total(&self) -> Duration {
        let since = self.since.load(Ordering::Relaxed);
        let current = if since == NOT_BLOCKED { 0 } else { self.now().saturating_sub(since) };
        Duration::from_micros(self.total.load(Ordering::Relaxed) + current)
    }
}

/// The sending thread.
pub(crate) struct Pump {
    /// Its result, once it has ended.
    pub(crate) result: Receiver<Result<(), Failure>>,
    pub(crate) wait: Arc<SendWait>,
}

impl Pump {
    /// Starts it.
    pub(crate) fn start(
        input: InputSource,
        args: &PubArgs,
        producer: &RecordProducer,
    ) -> Result<Pump, Failure> {
        let (done, result) = mpsc::channel();
        let wait = Arc::new(SendWait::new());
        let (producer, shared) = (producer.clone(), wait.clone());
        let (format, limit, rate) = (args.net.format, args.max_datum, args.rate);
        thread::Builder::new().name("corewire-pub".into()).spawn(move || {
            // The receiver is gone after a signal.
            let _ = done.send(send_all(input, format, limit, rate, &producer, &shared));
        })?;
        Ok(Pump { result, wait })
    }
}

/// Sends until the input ends.
fn send_all(
    input: InputSource,
    format: Format,
    limit: usize,
    rate: Option<f64>,
    producer: &RecordProducer,
    waited: &SendWait,
) -> Result<(), Failure> {
    let mut reader =
        RecordReader::new(input.open().map_err(FramingError::Io).map_err(bad_input)?, format, limit);
    let mut rate = rate.map(|rate| RateLimit::new(rate, Instant::now()));
    while let Some(bytes) = reader.next_record().map_err(bad_input)? {
        let record = RawRecord::from(bytes);
        if let Some(rate) = &mut rate {
            rate.wait();
        }
        let sent = match producer.try_send(record) {
            Err(Error::Full(record)) => waited.during(|| producer.send_blocking(record)),
            Err(Error::Offline(record)) => producer.send_blocking(record),
            sent => sent,
        };
        sent.map_err(|error| Failure::new(Exit::Failed, format!("a record was not sent: {error}")))?;
    }
    Ok(())
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
        .cure("a larger --max-datum, or another --format"),
        FramingError::Truncated { number, have, want } => Failure::new(
            Exit::Failed,
            format!("the input ends inside record {number}: {have} of its {want} bytes are there"),
        )
        .cure("check that each record follows its length as a 32-bit little-endian number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_for_room_is_summed_and_seen_while_it_lasts() {
        let wait = SendWait::new();
        assert_eq!(wait.total(), Duration::ZERO);
        wait.during(|| {
            let before = wait.total();
            while wait.total() == before {
                thread::yield_now();
            }
        });
        let after = wait.total();
        assert!(after > Duration::ZERO);
        assert_eq!(wait.total(), after, "nothing is added while it does not wait");
    }
}
