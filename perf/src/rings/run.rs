//! The runs: throughput and round trip.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Message, Rx, Tx, parts};
use crate::machine::pin;
use crate::stats::Spread;

/// How senders send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// One publish for each message.
    Each,
    /// One publish for this many messages where the queue can.
    Batch(usize),
}

/// What one throughput run saw.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Messages per second received by the slowest receiver, in millions.
    pub received_m: f64,
    /// Share of the sent messages that the worst receiver missed.
    pub lost: f64,
}

/// At most this many messages are taken from one receiver before the next one's turn.
const DRAIN_MAX: usize = 256;

/// Runs `txs` against `rxs` for `time` as fast as they go.
///
/// # Panics
///
/// When a receiver sees a message twice, out of order or torn.
pub fn throughput<const W: usize, T: Tx<W>, R: Rx<W>>(
    txs: Vec<T>,
    mut rxs: Vec<R>,
    publish: Publish,
    time: Duration,
) -> Throughput {
    let stop = AtomicBool::new(false);
    let finished = AtomicU64::new(0);
    let sent = AtomicU64::new(0);
    let senders = txs.len();
    let start = Barrier::new(senders + 2);
    let mut counts = vec![0u64; rxs.len()];
    let mut last = Instant::now();
    let mut began = Instant::now();
    std::thread::scope(|scope| {
        for (number, tx) in txs.into_iter().enumerate() {
            let (stop, finished, sent, start) = (&stop, &finished, &sent, &start);
            scope.spawn(move || {
                pin(0);
                start.wait();
                let count = send_until(tx, number as u64, publish, stop, senders > 1);
                sent.fetch_add(count, Ordering::Relaxed);
                finished.fetch_add(1, Ordering::Release);
            });
        }
        let (finished, start, rxs, counts, last) = (&finished, &start, &mut rxs, &mut counts, &mut last);
        scope.spawn(move || {
            pin(1);
            start.wait();
            receive_all(rxs, counts, senders, finished);
            *last = Instant::now();
        });
        start.wait();
        began = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Release);
    });
    let elapsed = last.duration_since(began).as_secs_f64();
    let sent = sent.load(Ordering::Relaxed);
    let slowest = counts.iter().copied().min().unwrap_or(0);
    Throughput {
        received_m: slowest as f64 / elapsed / 1e6,
        lost: if sent == 0 { 0.0 } else { (sent - slowest) as f64 / sent as f64 },
    }
}

fn send_until<const W: usize, T: Tx<W>>(
    mut tx: T,
    number: u64,
    publish: Publish,
    stop: &AtomicBool,
    shared_core: bool,
) -> u64 {
    let mut count = 0u64;
    loop {
        let went = match publish {
            Publish::Each => usize::from(tx.try_send(&Message::new(number, count))),
            Publish::Batch(n) => tx.try_send_batch(number, count, n),
        };
        count += went as u64;
        if went == 0 {
            // Several senders share one processor: a full queue is the others' turn.
            if shared_core {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        // Looking at the flag after each message costs a shared load; once in a while is exact enough.
        let look = publish != Publish::Each || went == 0 || count & 0xff == 0;
        if look && stop.load(Ordering::Relaxed) {
            return count;
        }
    }
}

fn receive_all<const W: usize, R: Rx<W>>(
    rxs: &mut [R],
    counts: &mut [u64],
    senders: usize,
    finished: &AtomicU64,
) {
    let mut next = vec![vec![0u64; senders]; rxs.len()];
    loop {
        let ended = finished.load(Ordering::Acquire) == senders as u64;
        let mut progress = 0;
        for ((rx, count), next) in rxs.iter_mut().zip(counts.iter_mut()).zip(next.iter_mut()) {
            let took = rx.drain(DRAIN_MAX, |message| {
                let (sender, seq) = parts(message.0[0]);
                assert!(seq >= next[sender], "message {seq} after {}", next[sender]);
                assert_eq!(message.0[0], message.0[W - 1], "torn message");
                next[sender] = seq + 1;
            });
            *count += took as u64;
            progress += took;
        }
        if progress == 0 {
            if ended {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

/// Trips of one sample: the clock is read once for so many, since its grain and its cost are of a trip's own
/// size.
pub const SAMPLE_TRIPS: usize = 100;

/// Times `trips` calls of `trip` on a thread pinned to the first processor, after a tenth of them to warm up.
///
/// Gives nanoseconds: the median of the means of [`SAMPLE_TRIPS`] trips each. `trip` gets the trip's number.
pub fn time_trips(trips: usize, mut trip: impl FnMut(u64) + Send) -> f64 {
    let samples = trips.div_ceil(SAMPLE_TRIPS);
    let warm_up = warm_up(trips);
    let mut means = Vec::with_capacity(samples);
    std::thread::scope(|scope| {
        // A thread of its own, so that pinning does not outlive the measurement.
        scope.spawn(|| {
            pin(0);
            (0..warm_up).for_each(&mut trip);
            let mut count = warm_up;
            for _ in 0..samples {
                let began = Instant::now();
                for _ in 0..SAMPLE_TRIPS {
                    trip(count);
                    count += 1;
                }
                means.push(began.elapsed().as_nanos() as f64 / SAMPLE_TRIPS as f64);
            }
        });
    });
    Spread::of(&means).map_or(0.0, |spread| spread.median)
}

fn warm_up(trips: usize) -> u64 {
    (trips / 10) as u64
}

/// How many trips [`time_trips`] makes for `trips`, warm-up and last full sample included.
pub fn all_trips(trips: usize) -> u64 {
    warm_up(trips) + (trips.div_ceil(SAMPLE_TRIPS) * SAMPLE_TRIPS) as u64
}

/// Round trip in nanoseconds of one message there and one back, both sides spinning; see [`time_trips`].
pub fn round_trip<const W: usize, A: Tx<W>, B: Rx<W>, C: Tx<W>, D: Rx<W>>(
    mut there_tx: A,
    mut there_rx: B,
    mut back_tx: C,
    mut back_rx: D,
    trips: usize,
) -> f64 {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            for count in 0..all_trips(trips) {
                take_one(&mut there_rx, count);
                while !back_tx.try_send(&Message::new(0, count)) {}
            }
        });
        time_trips(trips, |count| {
            while !there_tx.try_send(&Message::new(0, count)) {}
            take_one(&mut back_rx, count);
        })
    })
}

#[inline(always)]
fn take_one<const W: usize, R: Rx<W>>(rx: &mut R, expected: u64) {
    loop {
        let took = rx.drain(1, |message| assert_eq!(message.0[0], expected, "wrong message"));
        if took == 1 {
            return;
        }
        std::hint::spin_loop();
    }
}
