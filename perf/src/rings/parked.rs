//! Parked receivers: how long a wake-up takes, and what it costs the sender.
//!
//! The receiver sleeps on the second processor. The sender, on the first, sees that the last message was
//! taken, spins for the time of the group, and sends the next one. The wake-up counts from the moment before
//! the send to the moment when the receiver has the message. All rows run on plain threads: a future is
//! polled by the same parking loop for every system, and the limit is a bare futex, which carries no message.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corewire::Plain;
use corewire_rings::park::{block_on, wait};
use corewire_rings::{Reader, Ring, RingConfig, Writer};
use tokio::sync::broadcast;

use super::typed::{self, Price};
use super::{Message, limits};
use crate::machine::{pin, sleeps_so_far};
use crate::stats::Spread;
use crate::table::{Beside, Group, Outcome, Plan, Row};

/// The result of one run.
#[derive(Debug, Clone, Copy)]
pub struct Parked {
    /// Median time from before the send to after the receive, in nanoseconds.
    pub wake_ns: f64,
    /// Median time of the send, in nanoseconds.
    pub send_ns: f64,
    /// Voluntary context switches of the receiver, by the kernel's count.
    pub sleeps: u64,
}

/// `count` times: `take` waits for a message, and `send` sends it after `idle`.
///
/// Both get the message's number.
pub fn run(
    count: u64,
    idle: Duration,
    mut send: impl FnMut(u64) + Send,
    mut take: impl FnMut(u64) + Send,
) -> Parked {
    let taken = AtomicU64::new(0);
    let epoch = Instant::now();
    let (mut sent, mut arrived) = (Vec::new(), Vec::new());
    let mut sleeps = 0;
    thread::scope(|scope| {
        let (taken, arrived, sent, sleeps) = (&taken, &mut arrived, &mut sent, &mut sleeps);
        scope.spawn(move || {
            pin(1);
            let before = sleeps_so_far();
            for number in 0..count {
                take(number);
                arrived.push(epoch.elapsed());
                taken.store(number + 1, Ordering::Release);
            }
            *sleeps = sleeps_so_far() - before;
        });
        scope.spawn(move || {
            pin(0);
            for number in 0..count {
                while taken.load(Ordering::Acquire) < number {
                    spin_loop();
                }
                let seen = Instant::now();
                while seen.elapsed() < idle {
                    spin_loop();
                }
                let began = epoch.elapsed();
                send(number);
                sent.push((began, epoch.elapsed()));
            }
        });
    });
    let nanos = |durations: Vec<Duration>| {
        let nanos: Vec<_> = durations.iter().map(|duration| duration.as_nanos() as f64).collect();
        Spread::of(&nanos).map_or(0.0, |spread| spread.median)
    };
    let wakes = arrived.iter().zip(&sent).map(|(arrived, (began, _))| arrived.saturating_sub(*began));
    Parked {
        wake_ns: nanos(wakes.collect()),
        send_ns: nanos(sent.iter().map(|(began, ended)| *ended - *began).collect()),
        sleeps,
    }
}

/// A ring of `capacity` messages of 64 bytes with one reader.
pub fn ring(capacity: usize) -> (Writer, Reader) {
    let config = RingConfig {
        datums: capacity,
        bytes: capacity * 64,
        max_record: 64,
        readers: 1,
        scatter_small: true,
    };
    let ring = Ring::new(config).expect("a ring of this size");
    (ring.writer(), ring.subscribe().expect("the first reader"))
}

const ROOM: usize = 1024;

fn message(number: u64) -> Message<8> {
    Message::new(0, number)
}

fn check(message: &Message<8>, number: u64) {
    assert_eq!(message.0[0], number, "wrong message");
}

fn futex(count: u64, idle: Duration) -> Parked {
    let futex = limits::Futex::default();
    run(count, idle, |_| futex.post(), |number| futex.wait_past(number as u32))
}

/// The standard library's parking. The futures of the other rows are polled in it too.
fn std_park(count: u64, idle: Duration) -> Parked {
    let (word, sleeper) = (AtomicU32::new(0), std::sync::OnceLock::new());
    let send = |number: u64| {
        word.store(number as u32 + 1, Ordering::Release);
        let sleeper: Option<&thread::Thread> = sleeper.get();
        sleeper.into_iter().for_each(thread::Thread::unpark);
    };
    run(count, idle, send, |number| {
        sleeper.get_or_init(thread::current);
        while word.load(Ordering::Acquire) != number as u32 + 1 {
            thread::park();
        }
    })
}

fn corewire_ring(count: u64, idle: Duration) -> Parked {
    use zerocopy::IntoBytes as _;
    let (writer, mut reader) = ring(ROOM);
    let send = move |number| {
        writer.try_push(message(number).as_bytes()).expect("room");
    };
    run(count, idle, send, move |number| {
        let record = block_on(reader.recv()).expect("an open ring");
        assert_eq!(record.first_chunk(), Some(&number.to_ne_bytes()), "wrong message");
    })
}

fn corewire_typed(count: u64, idle: Duration, node: &corewire::Network) -> Parked {
    let (producer, mut consumer) = typed::pair(node, Plain, ROOM);
    let send = move |number| producer.try_send(Price::new(number)).expect("room");
    run(count, idle, send, move |number| {
        assert_eq!(consumer.recv_blocking().map(|price| price.count()), Some(number), "wrong price");
    })
}

fn crossbeam(count: u64, idle: Duration) -> Parked {
    let (tx, rx) = crossbeam_channel::bounded(ROOM);
    let send = move |number| tx.try_send(message(number)).expect("room");
    run(count, idle, send, move |number| check(&rx.recv().expect("an open channel"), number))
}

fn tokio(count: u64, idle: Duration) -> Parked {
    let (tx, mut rx) = broadcast::channel(ROOM);
    let send = move |number| {
        tx.send(message(number)).expect("a receiver");
    };
    run(count, idle, send, move |number| check(&block_on(rx.recv()).expect("nothing lost"), number))
}

fn async_broadcast(count: u64, idle: Duration) -> Parked {
    let (tx, mut rx) = async_broadcast::broadcast(ROOM);
    let send = move |number| {
        tx.try_broadcast(message(number)).expect("room");
    };
    run(count, idle, send, move |number| check(&block_on(rx.recv_direct()).expect("an open channel"), number))
}

/// Wake-ups by the ring per sleep of its reader, with `burst` records per send.
fn wakes_per_sleep(count: u64, idle: Duration, burst: u64) -> Outcome {
    use zerocopy::IntoBytes as _;
    let (writer, mut reader) = ring(ROOM);
    let ring = writer.ring();
    let send = move |number| {
        for at in 0..burst {
            writer.try_push(message(number * burst + at).as_bytes()).expect("room");
        }
    };
    let mut pending = 0u64;
    let parked = run(count, idle, send, |_| {
        for _ in 0..burst {
            let mut next = std::pin::pin!(reader.recv());
            wait(|cx| {
                let poll = next.as_mut().poll(cx);
                pending += u64::from(poll.is_pending());
                poll.map(|record| drop(record.expect("an open ring")))
            });
        }
    });
    let wakes = ring.stats().reader_wakes as f64;
    Outcome { figure: wakes / pending.max(1) as f64, beside: parked.sleeps as f64 / count as f64 }
}

/// The groups of parked receivers.
pub fn groups(plan: &Plan) {
    for (micros, count) in [(50, 4_000u64), (1_000, 250)] {
        let idle = Duration::from_micros(micros);
        let count = if plan.quick { count / 50 } else { count };
        let wake = format!("parked receiver, {micros} us idle, 64 B: from the send to the message taken");
        let cost = format!("parked receiver, {micros} us idle, 64 B: what the send costs");
        for (title, figure) in
            [(wake, (|seen| seen.wake_ns) as fn(Parked) -> f64), (cost, |seen: Parked| seen.send_ns)]
        {
            if !plan.wants(&title) {
                continue;
            }
            let node = typed::node();
            let row = |name: &str, run: Box<dyn Fn() -> Parked>| {
                Row::new(name, move || {
                    let seen = run();
                    Outcome { figure: figure(seen), beside: seen.sleeps as f64 / count as f64 }
                })
            };
            let rows = vec![
                row("futex (limit)", Box::new(move || futex(count, idle))),
                row("corewire", Box::new(move || corewire_ring(count, idle))),
                row("corewire, typed Plain", Box::new(move || corewire_typed(count, idle, &node))),
                row("std park and unpark", Box::new(move || std_park(count, idle))),
                row("crossbeam-channel", Box::new(move || crossbeam(count, idle))),
                row("tokio broadcast", Box::new(move || tokio(count, idle))),
                row("async-broadcast", Box::new(move || async_broadcast(count, idle))),
            ];
            Group {
                title,
                unit: "ns (median)",
                beside: Beside::Number("sleeps/send"),
                between_processors: true,
                rows,
            }
            .run(plan);
        }
    }
    let (count, idle) = (if plan.quick { 50 } else { 2_000 }, Duration::from_micros(50));
    let rows = vec![
        Row::new("corewire, one a send", move || wakes_per_sleep(count, idle, 1)),
        Row::new("corewire, 32 a send", move || wakes_per_sleep(count, idle, 32)),
    ];
    let title = "parked receiver: wakes for each time it slept".into();
    Group { title, unit: "wakes", beside: Beside::Number("sleeps/send"), between_processors: true, rows }
        .run(plan);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_taken_and_no_sleep_gets_two_wakes() {
        let idle = Duration::from_micros(20);
        assert!(futex(20, idle).wake_ns > 0.0);
        assert!(corewire_ring(20, idle).wake_ns > 0.0);
        assert!(wakes_per_sleep(20, idle, 8).figure <= 1.0);
    }
}
