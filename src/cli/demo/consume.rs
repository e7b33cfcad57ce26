//! A consumer of the demonstration: a thread that receives prices, checks each one and measures its latency.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use corewire::Consumer;
use corewire::streams::consumer::RecvTimeoutError;
use hdrhistogram::Histogram;

use super::prices::{Checksum, PriceUpdate, Prices};
use crate::cli::latency::{histogram, nanoseconds, record};
use crate::cli::wait::{LOOK_INTERVAL, SILENCE_LIMIT};

/// Time between the announcement of a part and its first datum, so that every consumer's thread is ready.
const START_DELAY: Duration = Duration::from_millis(20);

/// One part of the demonstration, as producer and consumers share it.
#[derive(Clone)]
pub(crate) struct Part {
    /// The moment from which the datums' `due` counts.
    pub(crate) start: Instant,
    /// Sequence of the first datum.
    pub(crate) first: u64,
    /// One past the sequence of the last datum, known once it is sent.
    pub(crate) end: Arc<OnceLock<u64>>,
}

impl Part {
    /// A part that begins shortly, with the datum `first`.
    pub(crate) fn new(first: u64) -> Part {
        Part { start: Instant::now() + START_DELAY, first, end: Arc::default() }
    }
}

/// What one consumer received in one part.
#[derive(Clone)]
pub(crate) struct ConsumerResult {
    /// Datums received.
    pub(crate) received: u64,
    /// Datums that did not arrive.
    pub(crate) missing: u64,
    /// Datums that arrived out of order or twice.
    pub(crate) disordered: u64,
    /// Datums that differ from the file.
    pub(crate) wrong: u64,
    /// Checksum of all datums since the first part.
    pub(crate) checksum: Checksum,
    /// From the intended send time to the receipt, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Time from the first to the last datum.
    pub(crate) took: Duration,
}

impl ConsumerResult {
    /// True if every datum arrived once, in order and unchanged.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing == 0 && self.disordered == 0 && self.wrong == 0
    }
}

/// The consumer's thread: one tally for each part, until there are no more parts.
pub(crate) fn run(
    mut consumer: Consumer<PriceUpdate>,
    prices: &Prices,
    parts: &Receiver<Part>,
    tallies: &Sender<ConsumerResult>,
) {
    let mut checksum = Checksum::default();
    while let Ok(part) = parts.recv() {
        let tally = take_part(&mut consumer, prices, &part, &mut checksum);
        if tallies.send(tally).is_err() {
            return;
        }
    }
}

/// Takes the datums of one part.
pub(super) fn take_part(
    consumer: &mut Consumer<PriceUpdate>,
    prices: &Prices,
    part: &Part,
    checksum: &mut Checksum,
) -> ConsumerResult {
    let mut latency = histogram();
    let (mut received, mut disordered, mut wrong) = (0u64, 0u64, 0u64);
    let mut next = part.first;
    let mut last_came = Instant::now();
    let mut first_came = None;
    while part.end.get().is_none_or(|&end| next < end) {
        let update = match consumer.recv_timeout(LOOK_INTERVAL) {
            Ok(update) => update,
            Err(RecvTimeoutError::Timeout) if part.end.get().is_none() => {
                last_came = Instant::now();
                continue;
            }
            Err(RecvTimeoutError::Timeout) if last_came.elapsed() < SILENCE_LIMIT => continue,
            Err(_) => break,
        };
        let now = Instant::now();
        let since_start = nanoseconds(now.duration_since(part.start));
        record(&mut latency, since_start.saturating_sub(update.due));
        received += 1;
        disordered += u64::from(update.sequence < next);
        wrong += u64::from(!prices.matches(&update));
        checksum.update(&update);
        next = next.max(update.sequence + 1);
        last_came = now;
        first_came.get_or_insert(now);
    }
    let end = part.end.get().copied().unwrap_or(next);
    ConsumerResult {
        received,
        // A duplicate does not make up for a missing datum.
        missing: (end - part.first).saturating_sub(received - disordered),
        disordered,
        wrong,
        checksum: *checksum,
        latency,
        took: first_came.map_or(Duration::ZERO, |first| last_came.duration_since(first)),
    }
}
