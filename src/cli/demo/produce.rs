//! The producer of the demonstration: at a steady rate, or as fast as the slowest consumer allows.

use std::time::{Duration, Instant};

use corewire::Producer;
use hdrhistogram::Histogram;

use super::consume::Part;
use super::prices::{PriceUpdate, Prices};
use crate::cli::exit::{Exit, Failure};
use crate::cli::latency::{histogram, nanoseconds, record};

/// Datums sent between two reads of the clock at full speed.
const LOOK_EVERY: u64 = 256;

/// How fast a part is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// `rate` datums a second, each at its intended time, however late the one before it was (open loop).
    Steady { rate: f64, duration: Duration },
    /// As fast as the slowest consumer allows.
    Full { duration: Duration },
}

/// The producer's result of one part.
pub(crate) struct Produced {
    /// One past the last sequence.
    pub(crate) end: u64,
    /// How late each datum was sent, in nanoseconds: the producer's share of the latency.
    pub(crate) late: Histogram<u64>,
}

/// Sends one part and publishes where it ended. `wait_until` waits for the moment when a datum is due.
pub(crate) fn run(
    producer: &Producer<PriceUpdate>,
    prices: &Prices,
    part: &Part,
    pace: Pace,
    wait_until: impl Fn(Instant),
) -> Result<Produced, Failure> {
    wait_until(part.start);
    let (end, late) = match pace {
        Pace::Steady { rate, duration } => {
            let due = |index| Duration::from_secs_f64(index as f64 / rate);
            let count = ((rate * duration.as_secs_f64()) as u64).max(1);
            steady(producer, prices, part, (0..count).map(due), wait_until)?
        }
        Pace::Full { duration } => (full(producer, prices, part, duration)?, histogram()),
    };
    // Set only here: it cannot be set already.
    let _ = part.end.set(end);
    Ok(Produced { end, late })
}

fn steady(
    producer: &Producer<PriceUpdate>,
    prices: &Prices,
    part: &Part,
    dues: impl Iterator<Item = Duration>,
    wait_until: impl Fn(Instant),
) -> Result<(u64, Histogram<u64>), Failure> {
    let mut late = histogram();
    let mut sequence = part.first;
    for due in dues {
        wait_until(part.start + due);
        record(&mut late, nanoseconds(part.start.elapsed().saturating_sub(due)));
        send(producer, prices.datum(sequence, nanoseconds(due)))?;
        sequence += 1;
    }
    Ok((sequence, late))
}

fn full(
    producer: &Producer<PriceUpdate>,
    prices: &Prices,
    part: &Part,
    duration: Duration,
) -> Result<u64, Failure> {
    let mut sequence = part.first;
    loop {
        let now = part.start.elapsed();
        if now >= duration {
            return Ok(sequence);
        }
        for _ in 0..LOOK_EVERY {
            send(producer, prices.datum(sequence, nanoseconds(now)))?;
            sequence += 1;
        }
    }
}

fn send(producer: &Producer<PriceUpdate>, update: PriceUpdate) -> Result<(), Failure> {
    producer
        .send_blocking(update)
        .map_err(|error| Failure::new(Exit::Failed, format!("a price was not sent: {error}")))
}
