//! Memory: allocations per message, and bytes per queue. Counted, not timed.
//!
//! The counting allocator serves the whole program. Outside of these groups it costs one thread-local load
//! per allocation, and only async-broadcast (asleep) and iceoryx2 allocate for a message.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use allocation_counter::measure;
use corewire::{Codec, Network, Plain, Postcard};
use corewire_rings::park::block_on;
use corewire_rings::{Ring, RingConfig};
use tokio::sync::broadcast;

use super::corewire::Corewire;
use super::parked;
use super::peers::{AsyncBroadcast, Broadcast, Crossbeam, Disruptor, Iceoryx, Rtrb, TokioBroadcast};
use super::typed::{self, Price};
use super::{Message, Rx, Tx, swallow};
use crate::table::{Beside, Group, Outcome, Plan, Row};

fn outcome(figure: f64) -> Outcome {
    Outcome { figure, beside: 0.0 }
}

/// Allocations of one `call`, after as many to warm up.
fn each(count: u64, mut call: impl FnMut(u64)) -> Outcome {
    (0..count).for_each(&mut call);
    let seen = measure(|| (count..2 * count).for_each(&mut call));
    outcome(seen.count_total as f64 / count as f64)
}

fn there_and_taken<T: Tx<8>, R: Rx<8>>(count: u64, mut tx: T, mut rx: R) -> Outcome {
    each(count, |number| {
        assert!(tx.try_send(&Message::new(0, number)), "no room in an empty queue");
        assert_eq!(rx.drain(1, |message| assert_eq!(message.0[0], number)), 1);
    })
}

fn queue<B: Broadcast<8>>(name: &'static str, capacity: usize, count: u64) -> Row<'static> {
    Row::new(name, move || {
        let (tx, mut rxs) = B::make(capacity, 1);
        there_and_taken(count, tx, rxs.remove(0))
    })
}

fn typed_queue<C: Codec<Price> + Copy>(count: u64, node: &Network, codec: C, capacity: usize) -> Outcome {
    let (producer, mut consumer) = typed::pair(node, codec, capacity);
    each(count, |number| {
        producer.try_send(Price::new(number)).expect("room in an empty ring");
        assert_eq!(black_box(consumer.try_recv()).expect("a price").count(), number);
    })
}

fn awake(plan: &Plan, capacity: usize) {
    let title = "allocations for each message, nobody waits";
    if !plan.wants(title) {
        return;
    }
    let count = plan.calls();
    let (node, other) = (typed::node(), typed::node());
    let disruptor = move || {
        let (mut txs, mut rxs) = Disruptor::one::<8>(capacity);
        there_and_taken(count, txs.remove(0), rxs.remove(0))
    };
    let rows = vec![
        queue::<Corewire>("corewire", capacity, count),
        Row::new("corewire, typed Plain", move || typed_queue(count, &node, Plain, capacity)),
        Row::new("corewire, typed Postcard", move || typed_queue(count, &other, Postcard, capacity)),
        queue::<Rtrb>("rtrb", capacity, count),
        Row::new("disruptor", disruptor),
        queue::<Crossbeam>("crossbeam-channel", capacity, count),
        queue::<TokioBroadcast>("tokio broadcast", capacity, count),
        queue::<AsyncBroadcast>("async-broadcast", capacity, count),
        queue::<Iceoryx>("iceoryx2 (local)", capacity, count),
    ];
    Group { title: title.into(), unit: "allocations", beside: Beside::None, between_processors: false, rows }
        .run(plan);
}

/// Allocations of both sides for each message that a sleeping receiver takes, the first few left out.
fn asleep(count: u64, mut send: impl FnMut(u64) + Send, mut take: impl FnMut(u64) + Send) -> Outcome {
    const WARM_UP: u64 = 16;
    let seen = AtomicU64::new(0);
    let counted = |number: u64, call: &mut dyn FnMut(u64)| {
        let allocations = measure(|| call(number)).count_total;
        if number >= WARM_UP {
            seen.fetch_add(allocations, Ordering::Relaxed);
        }
    };
    let idle = Duration::from_micros(50);
    parked::run(WARM_UP + count, idle, |n| counted(n, &mut send), |n| counted(n, &mut take));
    outcome(seen.into_inner() as f64 / count as f64)
}

fn sleeping(plan: &Plan, capacity: usize) {
    let title = "allocations for each message, the receiver sleeps";
    if !plan.wants(title) {
        return;
    }
    let count = if plan.quick { 50 } else { 1_000 };
    let node = typed::node();
    let ring = move || {
        let (writer, mut reader) = parked::ring(capacity);
        let send = move |_| swallow(writer.try_push(&[7; 64]).expect("room"));
        asleep(count, send, move |_| drop(block_on(reader.recv()).expect("an open ring")))
    };
    let typed = move || {
        let (producer, mut consumer) = typed::pair(&node, Postcard, capacity);
        let send = move |number| producer.send_blocking(Price::new(number)).expect("an open stream");
        asleep(count, send, move |_| swallow(consumer.recv_blocking().expect("an open stream")))
    };
    let crossbeam = move || {
        let (tx, rx) = crossbeam_channel::bounded(capacity);
        let send = move |number| tx.send(Message::<8>::new(0, number)).expect("a receiver");
        asleep(count, send, move |_| swallow(rx.recv().expect("a sender")))
    };
    let tokio = move || {
        let (tx, mut rx) = broadcast::channel(capacity);
        let send = move |number| swallow(tx.send(Message::<8>::new(0, number)).expect("a receiver"));
        asleep(count, send, move |_| swallow(block_on(rx.recv()).expect("a sender")))
    };
    let async_broadcast = move || {
        let (tx, mut rx) = async_broadcast::broadcast(capacity);
        let send = move |number| swallow(tx.try_broadcast(Message::<8>::new(0, number)).expect("room"));
        asleep(count, send, move |_| swallow(block_on(rx.recv_direct()).expect("a sender")))
    };
    let rows = vec![
        Row::new("corewire", ring),
        Row::new("corewire, typed Postcard", typed),
        Row::new("crossbeam-channel", crossbeam),
        Row::new("tokio broadcast", tokio),
        Row::new("async-broadcast", async_broadcast),
    ];
    Group { title: title.into(), unit: "allocations", beside: Beside::None, between_processors: false, rows }
        .run(plan);
}

/// Bytes allocated by the value of `make` while it lives.
fn held<T>(make: impl FnOnce() -> T) -> f64 {
    let mut made = None;
    let seen = measure(|| made = Some(make()));
    drop(made);
    seen.bytes_current as f64
}

/// Bytes that a ring of these sizes allocates with all its readers, beside `RingConfig::memory_bytes`.
fn promised(config: RingConfig) -> Outcome {
    // Allocated before: the list of readers is not part of the ring.
    let mut readers = Vec::with_capacity(config.readers);
    let figure = held(|| {
        let ring = Ring::new(config).expect("a ring of this size");
        readers.extend((0..config.readers).map(|_| ring.subscribe().expect("a reader's place")));
        ring
    });
    Outcome { figure, beside: config.memory_bytes() as f64 }
}

fn sizes(plan: &Plan, capacity: usize) {
    let config = |datums: usize, record: usize, readers| RingConfig {
        datums,
        bytes: datums * record,
        max_record: record,
        readers,
        scatter_small: true,
    };
    let rings = [
        ("1 x 16 B, 1 reader", config(1, 16, 1)),
        ("1024 x 64 B, 1 reader", config(1024, 64, 1)),
        ("1024 x 64 B, packed", RingConfig { scatter_small: false, ..config(1024, 64, 1) }),
        ("1000 x 64 B, 64 readers", config(1000, 64, 64)),
        ("1024 x 1 KiB, 16 readers", config(1024, 1024, 16)),
    ];
    let rows = rings.into_iter().map(|(name, config)| Row::new(name, move || promised(config))).collect();
    let title = "memory of a fanout ring, beside RingConfig::memory_bytes".into();
    Group {
        title,
        unit: "bytes allocated",
        beside: Beside::Number("promised"),
        between_processors: false,
        rows,
    }
    .run(plan);

    let of = |name, make: Box<dyn Fn() -> f64>| Row::new(name, move || outcome(make()));
    let rows = vec![
        of("corewire", Box::new(move || held(|| <Corewire as Broadcast<8>>::make(capacity, 1)))),
        of("rtrb", Box::new(move || held(|| <Rtrb as Broadcast<8>>::make(capacity, 1)))),
        of("disruptor", Box::new(move || held(|| Disruptor::one::<8>(capacity)))),
        of("crossbeam-channel", Box::new(move || held(|| <Crossbeam as Broadcast<8>>::make(capacity, 1)))),
        of("tokio broadcast", Box::new(move || held(|| <TokioBroadcast as Broadcast<8>>::make(capacity, 1)))),
        of("async-broadcast", Box::new(move || held(|| <AsyncBroadcast as Broadcast<8>>::make(capacity, 1)))),
    ];
    let title = format!("memory of a queue of {capacity} messages of 64 B, 1 receiver");
    Group { title, unit: "bytes allocated", beside: Beside::None, between_processors: false, rows }.run(plan);
}

/// The groups of memory, over queues of `capacity` messages.
pub fn groups(plan: &Plan, capacity: usize) {
    awake(plan, capacity);
    sleeping(plan, capacity);
    sizes(plan, capacity);
}
