//! The runs: throughput and round trip.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Message, Rx, Tx, parts};
use crate::machine::pin;

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

/// Median round trip in nanoseconds of one message there and one back, both sides spinning.
pub fn round_trip<const W: usize, A: Tx<W>, B: Rx<W>, C: Tx<W>, D: Rx<W>>(
    mut there_tx: A,
    mut there_rx: B,
    mut back_tx: C,
    mut back_rx: D,
    trips: usize,
) -> f64 {
    let warm_up = trips / 10;
    let mut times = Vec::with_capacity(trips);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            for count in 0..(warm_up + trips) as u64 {
                take_one(&mut there_rx, count);
                while !back_tx.try_send(&Message::new(0, count)) {}
            }
        });
        pin(0);
        for count in 0..(warm_up + trips) as u64 {
            let began = Instant::now();
            while !there_tx.try_send(&Message::new(0, count)) {}
            take_one(&mut back_rx, count);
            if count >= warm_up as u64 {
                times.push(began.elapsed().as_nanos() as f64);
            }
        }
    });
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
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
