//! Full queues: what each policy costs the sender.
//!
//! Refusing and overwriting are timed on one thread, with receivers that take nothing: the cost of the policy
//! alone, without cache misses. Waiting for room takes two threads: the sender sleeps until the receiver,
//! after 50 us, takes one message; the figure ends when the sender's message is in the queue.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use corewire::{BackpressurePolicy, Network, Plain};
use corewire_rings::park::block_on;
use corewire_rings::{Ring, RingConfig};
use tokio::sync::broadcast;
use zerocopy::IntoBytes as _;

use super::corewire::Corewire;
use super::parked::{self, Parked};
use super::peers::{AsyncBroadcast, Broadcast, Crossbeam, Disruptor, Iceoryx, Rtrb};
use super::typed::{self, Price};
use super::{Message, Rx, Tx, limits, swallow};
use crate::machine::pin;
use crate::table::{Beside, Group, Outcome, Plan, Row};

/// Mean time of one `call` in nanoseconds, over `count` calls after a tenth as many to warm up.
fn time_calls(count: u64, call: impl FnMut(u64) + Send) -> f64 {
    thread::scope(|scope| scope.spawn(move || time_calls_here(count, call)).join().expect("no panic"))
}

fn time_calls_here(count: u64, mut call: impl FnMut(u64)) -> f64 {
    pin(0);
    (0..count / 10).for_each(&mut call);
    let began = Instant::now();
    (0..count).for_each(&mut call);
    began.elapsed().as_nanos() as f64 / count as f64
}

/// Fills the queue, then times refusals.
fn refusals<const W: usize, T: Tx<W>, R: Rx<W>>(count: u64, mut tx: T, rx: Vec<R>) -> Outcome {
    let mut sent = 0;
    while tx.try_send(&Message::new(0, sent)) {
        sent += 1;
    }
    let figure = time_calls(count, |number| {
        assert!(!black_box(tx.try_send(&Message::new(0, number))), "room in a full queue");
    });
    drop(rx);
    Outcome { figure, beside: 0.0 }
}

fn refuses<B: Broadcast<8>>(name: &'static str, capacity: usize, count: u64) -> Row<'static> {
    Row::new(name, move || {
        let (tx, rxs) = B::make(capacity, 1);
        refusals(count, tx, rxs)
    })
}

fn typed_refusals(count: u64, node: &Network, capacity: usize) -> Outcome {
    let (producer, consumers) = typed::fan(node, Plain, capacity, BackpressurePolicy::Fail, 1);
    (0..capacity as u64).for_each(|number| producer.try_send(Price::new(number)).expect("room"));
    let figure = time_calls(count, |number| {
        assert!(black_box(producer.try_send(Price::new(number))).is_err(), "room in a full ring");
    });
    drop(consumers);
    Outcome { figure, beside: 0.0 }
}

fn refusing(plan: &Plan, capacity: usize) {
    let title = "full queue: a refusal (Fail), 64 B";
    if !plan.wants(title) {
        return;
    }
    let count = plan.calls();
    let node = typed::node();
    let bare = move || {
        let (tx, rx) = limits::bare::<8>(capacity);
        refusals(count, tx, vec![rx])
    };
    let disruptor = move || {
        let (mut txs, rxs) = Disruptor::one::<8>(capacity);
        refusals(count, txs.remove(0), rxs)
    };
    let rows = vec![
        Row::new("bare ring (limit)", bare),
        refuses::<Corewire>("corewire", capacity, count),
        Row::new("corewire, typed Plain 32 B", move || typed_refusals(count, &node, capacity)),
        refuses::<Rtrb>("rtrb", capacity, count),
        Row::new("disruptor", disruptor),
        refuses::<Crossbeam>("crossbeam-channel", capacity, count),
        refuses::<AsyncBroadcast>("async-broadcast", capacity, count),
        refuses::<Iceoryx>("iceoryx2 (local)", capacity, count),
    ];
    Group { title: title.into(), unit: "ns", beside: Beside::None, between_processors: false, rows }
        .run(plan);
}

/// A full ring whose `readers` take nothing: every claim evicts the oldest record of each.
fn corewire_evicts(count: u64, capacity: usize, readers: usize) -> Outcome {
    let config =
        RingConfig { datums: capacity, bytes: capacity * 64, max_record: 64, readers, scatter_small: true };
    let ring = Ring::new(config).expect("a ring of this size");
    let lagging: Vec<_> = (0..readers).map(|_| ring.subscribe().expect("a reader's place")).collect();
    let writer = ring.writer();
    let figure = time_calls(count, |number| {
        let mut claim = writer.claim_evicting(64, |_, _| ()).expect("nobody holds a record");
        claim.copy_from_slice(Message::<8>::new(0, number).as_bytes());
        claim.commit();
    });
    let stats = ring.stats();
    drop(lagging);
    Outcome { figure, beside: stats.evicted as f64 / (readers as f64 * stats.accepted as f64) }
}

fn typed_evicts(count: u64, node: &Network, capacity: usize, readers: usize) -> Outcome {
    let policy = BackpressurePolicy::DropOldest;
    let (producer, mut consumers) = typed::fan(node, Plain, capacity, policy, readers);
    let figure = time_calls(count, |number| producer.try_send(Price::new(number)).expect("room is made"));
    let sent = producer.stats().accepted as f64;
    let lost: u64 = consumers
        .iter_mut()
        .map(|consumer| consumer.try_recv_delivery().map_or(0, |delivery| delivery.skipped_before))
        .sum();
    Outcome { figure, beside: lost as f64 / (readers as f64 * sent) }
}

fn tokio_overwrites(count: u64, capacity: usize, readers: usize) -> Outcome {
    let (tx, rx) = broadcast::channel(capacity);
    let mut lagging: Vec<_> = (1..readers).map(|_| rx.resubscribe()).collect();
    lagging.push(rx);
    let mut sent = 0u64;
    let figure = time_calls(count, |number| {
        sent += 1;
        tx.send(Message::<8>::new(0, number)).expect("receivers");
    });
    let lost: u64 = lagging
        .iter_mut()
        .map(|rx| match rx.try_recv() {
            Err(broadcast::error::TryRecvError::Lagged(lost)) => lost,
            _ => 0,
        })
        .sum();
    Outcome { figure, beside: lost as f64 / (readers as f64 * sent as f64) }
}

fn async_broadcast_overflows(count: u64, capacity: usize, readers: usize) -> Outcome {
    let (mut tx, rx) = async_broadcast::broadcast(capacity);
    tx.set_overflow(true);
    let mut lagging: Vec<_> = (1..readers).map(|_| rx.clone()).collect();
    lagging.push(rx);
    let mut sent = 0u64;
    let figure = time_calls(count, |number| {
        sent += 1;
        black_box(tx.try_broadcast(Message::<8>::new(0, number)).expect("the oldest gives way"));
    });
    let lost: u64 = lagging
        .iter_mut()
        .map(|rx| match rx.try_recv() {
            Err(async_broadcast::TryRecvError::Overflowed(lost)) => lost,
            _ => 0,
        })
        .sum();
    Outcome { figure, beside: lost as f64 / (readers as f64 * sent as f64) }
}

fn evicting(plan: &Plan, capacity: usize) {
    for readers in [1, 3, 16] {
        let title = format!("full queue: the oldest gives way, {readers} receivers that take nothing, 64 B");
        if !plan.wants(&title) {
            continue;
        }
        let count = plan.calls();
        let node = typed::node();
        let rows = vec![
            Row::new("tokio broadcast", move || tokio_overwrites(count, capacity, readers)),
            Row::new("corewire", move || corewire_evicts(count, capacity, readers)),
            Row::new("corewire, typed Plain 32 B", move || typed_evicts(count, &node, capacity, readers)),
            Row::new("async-broadcast, overflow", move || {
                async_broadcast_overflows(count, capacity, readers)
            }),
        ];
        Group { title, unit: "ns for each send", beside: Beside::Lost, between_processors: false, rows }
            .run(plan);
    }
}

const IDLE: Duration = Duration::from_micros(50);
/// Capacity of the queues whose senders wait: small, so that they are full at once.
const SMALL: usize = 16;

/// `take` frees one place in a full queue; `send` waits for it and fills it.
fn hand_over(count: u64, mut take: impl FnMut() + Send, mut send: impl FnMut(u64) + Send) -> Parked {
    (0..SMALL as u64).for_each(&mut send);
    // Borrowed: the receiver has to outlive the last send, which ends after the last take.
    parked::run(count, IDLE, |_| take(), |number| send(SMALL as u64 + number))
}

fn corewire_hands_over(count: u64) -> Parked {
    let (writer, mut reader) = parked::ring(SMALL);
    let take = move || drop(reader.try_recv().expect("an open ring").expect("a full ring"));
    hand_over(count, take, move |number| {
        let mut claim = block_on(writer.claim(64)).expect("an open ring");
        claim.copy_from_slice(Message::<8>::new(0, number).as_bytes());
        claim.commit();
    })
}

fn typed_hands_over(count: u64, node: &Network) -> Parked {
    let (producer, mut consumer) = typed::pair(node, Plain, SMALL);
    let take = move || swallow(consumer.try_recv().expect("a full ring"));
    hand_over(count, take, move |number| producer.send_blocking(Price::new(number)).expect("an open stream"))
}

fn crossbeam_hands_over(count: u64) -> Parked {
    let (tx, rx) = crossbeam_channel::bounded(SMALL);
    let take = move || swallow(rx.try_recv().expect("a full channel"));
    hand_over(count, take, move |number| tx.send(Message::<8>::new(0, number)).expect("a receiver"))
}

fn async_broadcast_hands_over(count: u64) -> Parked {
    let (tx, mut rx) = async_broadcast::broadcast(SMALL);
    let take = move || swallow(rx.try_recv().expect("a full channel"));
    hand_over(count, take, move |number| {
        block_on(tx.broadcast_direct(Message::<8>::new(0, number))).expect("a receiver");
    })
}

fn waiting(plan: &Plan) {
    let title =
        "full queue: a waiting sender (PauseUpstream), from the take to its message in the queue, 64 B";
    if !plan.wants(title) {
        return;
    }
    let count = if plan.quick { 50 } else { 4_000 };
    let node = typed::node();
    let row = |name: &str, run: Box<dyn Fn() -> Parked>| {
        Row::new(name, move || {
            let seen = run();
            Outcome { figure: seen.wake_ns, beside: seen.sleeps as f64 / count as f64 }
        })
    };
    let futex = move || {
        let futex = limits::Futex::default();
        parked::run(count, IDLE, |_| futex.post(), |number| futex.wait_past(number as u32))
    };
    let rows = vec![
        row("futex (limit)", Box::new(futex)),
        row("corewire", Box::new(move || corewire_hands_over(count))),
        row("corewire, typed Plain", Box::new(move || typed_hands_over(count, &node))),
        row("crossbeam-channel", Box::new(move || crossbeam_hands_over(count))),
        row("async-broadcast", Box::new(move || async_broadcast_hands_over(count))),
    ];
    Group {
        title: title.into(),
        unit: "ns (median)",
        beside: Beside::Number("sleeps/send"),
        between_processors: true,
        rows,
    }
    .run(plan);
}

/// The groups of full queues of `capacity` messages.
pub fn groups(plan: &Plan, capacity: usize) {
    refusing(plan, capacity);
    evicting(plan, capacity);
    waiting(plan);
}
