//! Typed datums, encode and decode included: corewire's typed API beside queues that move the struct itself.
//!
//! The peers copy a struct of 32 bytes; corewire encodes it into its ring and decodes it out of it, as it
//! must where a consumer may sit in another process. `Plain` does both by copying, `Postcard` by serde. The
//! figure counts datums that the receiver has decoded. Each is checked for order, and missing ones are
//! counted as lost.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    BackpressurePolicy, Codec, Consumer, EngineConfig, InPlace, Network, NetworkId, Plain, PlainLayout,
    Postcard, Producer,
};
use corewire_rings::park::block_on;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::machine::pin;
use crate::table::{Beside, Group, Outcome, Plan, Row};

/// A price, as an exchange would send it. 32 bytes in memory; 27 or 28 in postcard.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Serialize,
    Deserialize,
    PlainLayout,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Price {
    /// Nanoseconds since 1970. The receiver detects missing datums by it.
    pub time: u64,
    /// The bid.
    pub bid: f64,
    /// The ask.
    pub ask: f64,
    /// The instrument.
    pub instrument: u32,
    /// Flags of the exchange.
    pub flags: u32,
}

/// A realistic time: postcard's integers take more bytes for larger values.
const EPOCH: u64 = 1_790_000_000_000_000_000;

impl Price {
    /// Price number `count`.
    #[inline]
    pub fn new(count: u64) -> Self {
        let bid = 3_200.0 + (count & 0xff) as f64 * 0.25;
        Price { time: EPOCH + count, bid, ask: bid + 0.5, instrument: (count & 0x3fff) as u32, flags: 3 }
    }

    /// The number given to [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If the fields do not match it.
    #[inline]
    pub fn count(&self) -> u64 {
        let count = self.time - EPOCH;
        assert_eq!(self.instrument, (count & 0x3fff) as u32, "a torn price");
        count
    }
}

/// A typed sender that never waits: `false` when there was no room.
pub trait Send1: FnMut(Price) -> bool + Send {}
impl<F: FnMut(Price) -> bool + Send> Send1 for F {}

/// A typed receiver that never waits: gives the next price's number if there is one.
pub trait Take1: FnMut() -> Option<u64> + Send {}
impl<F: FnMut() -> Option<u64> + Send> Take1 for F {}

/// Runs `send` on the first processor against `take` on the second for `time`.
///
/// Returns millions of datums received per second, and the share of those sent that were lost.
pub fn throughput(mut send: impl Send1, mut take: impl Take1, time: Duration) -> Outcome {
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(u64::MAX);
    let start = Barrier::new(3);
    let mut received = 0u64;
    let mut last = Instant::now();
    let mut began = last;
    thread::scope(|scope| {
        let (stop, sent, start) = (&stop, &sent, &start);
        scope.spawn(move || {
            pin(0);
            start.wait();
            let mut count = 0;
            loop {
                let went = send(Price::new(count));
                count += u64::from(went);
                if !went {
                    spin_loop();
                }
                if (!went || count & 0xff == 0) && stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            sent.store(count, Ordering::Release);
        });
        let (received, last) = (&mut received, &mut last);
        scope.spawn(move || {
            pin(1);
            start.wait();
            let mut next = 0;
            loop {
                let ended = sent.load(Ordering::Acquire) != u64::MAX;
                if let Some(count) = take() {
                    assert!(count >= next, "price {count} after {next}");
                    next = count + 1;
                    *received += 1;
                } else if ended {
                    break;
                } else {
                    spin_loop();
                }
            }
            *last = Instant::now();
        });
        start.wait();
        began = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Release);
    });
    let sent = sent.load(Ordering::Relaxed);
    Outcome {
        figure: received as f64 / last.duration_since(began).as_secs_f64() / 1e6,
        beside: if sent == 0 { 0.0 } else { (sent - received) as f64 / sent as f64 },
    }
}

/// A node whose one shard is idle: no datum of these runs leaves the process.
pub fn node() -> Network {
    let engine = EngineConfig { shards: 1, pin: false, ..EngineConfig::default() };
    let joining = Network::builder(NetworkId::random()).with_engine(engine).build();
    block_on(joining).expect("a node on this machine")
}

/// A producer and its one consumer, connected, over a ring of `capacity` datums.
pub fn pair<C: Codec<Price> + Copy>(
    node: &Network,
    codec: C,
    capacity: usize,
) -> (Producer<Price, C>, Consumer<Price, C>) {
    let (producer, mut consumers) = fan(node, codec, capacity, BackpressurePolicy::PauseUpstream, 1);
    (producer, consumers.remove(0))
}

/// A producer and its `consumers`, connected, over a ring of `capacity` datums with `policy`.
pub fn fan<C: Codec<Price> + Copy>(
    node: &Network,
    codec: C,
    capacity: usize,
    policy: BackpressurePolicy,
    consumers: usize,
) -> (Producer<Price, C>, Vec<Consumer<Price, C>>) {
    static STREAMS: AtomicU64 = AtomicU64::new(0);
    let name = format!("prices-{}", STREAMS.fetch_add(1, Ordering::Relaxed));
    let streams = node.streams();
    let producer = streams.producer::<Price>().codec(codec).with_stream_id(name.as_str());
    let producer = producer.with_buffer_size(capacity).on_full(policy).disconnect_lagging(false);
    let producer = producer.online_when(|c| c.minimum_of(consumers)).build().expect("a producer");
    let consumer = || streams.consumer::<Price>().codec(codec).with_stream_id(name.as_str()).build();
    let consumers: Vec<_> = (0..consumers).map(|_| consumer()).collect();
    block_on(producer.when().online());
    consumers.iter().for_each(|consumer| block_on(consumer.when().online()));
    (producer, consumers)
}

fn owned<C: Codec<Price> + Copy>(node: &Network, codec: C, capacity: usize, time: Duration) -> Outcome {
    let (producer, mut consumer) = pair(node, codec, capacity);
    let take = move || consumer.try_recv().ok().map(|price| price.count());
    throughput(move |price| producer.try_send(price).is_ok(), take, time)
}

fn borrowed<C: InPlace<Price> + Copy>(node: &Network, codec: C, capacity: usize, time: Duration) -> Outcome {
    let (producer, mut consumer) = pair(node, codec, capacity);
    let take = move || consumer.try_recv_ref().ok().map(|price| price.count());
    throughput(move |price| producer.try_send(price).is_ok(), take, time)
}

fn tokio_take(mut rx: broadcast::Receiver<Price>) -> impl Take1 {
    move || {
        loop {
            match rx.try_recv() {
                Ok(price) => return Some(price.count()),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }
}

fn tokio(capacity: usize, time: Duration) -> Outcome {
    let (tx, rx) = broadcast::channel(capacity);
    throughput(move |price| tx.send(price).is_ok(), tokio_take(rx), time)
}

/// The same queue without loss: the sender reads the queue's length whenever the room known to it is used up.
fn tokio_lossless(capacity: usize, time: Duration) -> Outcome {
    let (tx, rx) = broadcast::channel(capacity);
    let mut room = 0;
    let send = move |price| {
        if room == 0 {
            room = capacity - tx.len();
        }
        if room == 0 {
            return false;
        }
        room -= 1;
        tx.send(price).is_ok()
    };
    throughput(send, tokio_take(rx), time)
}

fn crossbeam(capacity: usize, time: Duration) -> Outcome {
    let (tx, rx) = crossbeam_channel::bounded(capacity);
    let take = move || rx.try_recv().ok().map(|price: Price| price.count());
    throughput(move |price| tx.try_send(price).is_ok(), take, time)
}

fn async_broadcast(capacity: usize, time: Duration) -> Outcome {
    let (tx, mut rx) = async_broadcast::broadcast(capacity);
    let take = move || rx.try_recv().ok().map(|price: Price| price.count());
    throughput(move |price| tx.try_broadcast(price).is_ok(), take, time)
}

fn rtrb(capacity: usize, time: Duration) -> Outcome {
    let (mut tx, mut rx) = rtrb::RingBuffer::new(capacity);
    let take = move || rx.pop().ok().map(|price: Price| price.count());
    throughput(move |price| tx.push(price).is_ok(), take, time)
}

/// The group of typed rows, over queues of `capacity` datums.
pub fn run(plan: &Plan, capacity: usize) {
    let title = "typed, 1 -> 1, a struct of five fields, one call for each";
    if !plan.wants(title) {
        return;
    }
    let node = &node();
    let time = plan.time;
    let rows = vec![
        Row::new("tokio broadcast", move || tokio(capacity, time)),
        Row::new("tokio, made lossless", move || tokio_lossless(capacity, time)),
        Row::new("corewire, Postcard", move || owned(node, Postcard, capacity, time)),
        Row::new("corewire, Plain", move || owned(node, Plain, capacity, time)),
        Row::new("corewire, Plain, borrowed", move || borrowed(node, Plain, capacity, time)),
        Row::new("crossbeam-channel", move || crossbeam(capacity, time)),
        Row::new("async-broadcast", move || async_broadcast(capacity, time)),
        Row::new("rtrb (one reader, no codec)", move || rtrb(capacity, time)),
    ];
    Group { title: title.into(), unit: "M datums/s", beside: Beside::Lost, between_processors: true, rows }
        .run(plan);
}
