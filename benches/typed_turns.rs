//! What does a datum cost its writer, and what its reader, while they take turns?
//!
//! Unit: time for one datum of five fields (32 bytes in memory, 28 in postcard). The writer sends [`TURN`]
//! datums, then the reader takes them, then the writer sends the next ones. Each side finds its cache lines
//! with the other side, but neither takes a line away that the other is using. What both cost at once is
//! another question (`compare-rings --only typed`); the difference is what the sides do to each other. Limit:
//! four words stored to, and loaded from, one slot after the other.

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Line, SLOTS, between_cpus};
use corewire::{Codec, Consumer, EngineConfig, Network, NetworkId, Plain, PlainLayout, Postcard, Producer};
use corewire_rings::park::block_on;
use criterion::{Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Datums of one turn.
const TURN: u64 = 500;

#[derive(Clone, Copy, Serialize, Deserialize, PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Price {
    time: u64,
    bid: f64,
    ask: f64,
    instrument: u32,
    flags: u32,
}

impl Price {
    #[inline]
    fn new(count: u64) -> Self {
        let bid = 3_200.0 + (count & 0xff) as f64 * 0.25;
        let time = 1_790_000_000_000_000_000 + count;
        Self { time, bid, ask: bid + 0.5, instrument: (count & 0x3fff) as u32, flags: 3 }
    }
}

/// What `count` datums took each side.
struct Turns {
    write: Duration,
    read: Duration,
}

/// `write` gets the number of a datum; `read` gives one.
fn turns(count: u64, mut write: impl FnMut(u64) + Send, mut read: impl FnMut() -> u64 + Send) -> Turns {
    let rounds = count.div_ceil(TURN);
    let turn = Line::new();
    let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
    between_cpus(
        || {
            for round in 0..rounds {
                turn.wait(2 * round + 1);
                let start = Instant::now();
                for number in round * TURN..(round + 1) * TURN {
                    assert_eq!(read(), number, "a datum of another place");
                }
                reading += start.elapsed();
                turn.0.store(2 * round + 2, Ordering::Release);
            }
        },
        || {
            for round in 0..rounds {
                turn.wait(2 * round);
                let start = Instant::now();
                for number in round * TURN..(round + 1) * TURN {
                    write(number);
                }
                writing += start.elapsed();
                turn.0.store(2 * round + 1, Ordering::Release);
            }
        },
    );
    let share = count as f64 / (rounds * TURN) as f64;
    Turns { write: writing.mul_f64(share), read: reading.mul_f64(share) }
}

fn pair<C: Codec<Price> + Copy>(node: &Network, codec: C) -> (Producer<Price, C>, Consumer<Price, C>) {
    static STREAMS: AtomicU64 = AtomicU64::new(0);
    let name = format!("prices-{}", STREAMS.fetch_add(1, Ordering::Relaxed));
    let streams = node.streams();
    let producer = streams.producer::<Price>().codec(codec).with_stream_id(name.as_str());
    let producer = producer.with_buffer_size(SLOTS as usize).build().expect("a producer");
    let consumer = streams.consumer::<Price>().codec(codec).with_stream_id(name.as_str()).build();
    block_on(producer.when().online());
    block_on(consumer.when().online());
    (producer, consumer)
}

fn stream<C: Codec<Price> + Copy>(node: &Network, codec: C, count: u64) -> Turns {
    let (producer, mut consumer) = pair(node, codec);
    let write = |number| producer.try_send(Price::new(number)).expect("room for a turn");
    let first = Price::new(0).time;
    turns(count, write, || consumer.try_recv().expect("a datum of this turn").time - first)
}

fn bare(count: u64) -> Turns {
    let cells: Vec<[AtomicU64; 4]> = (0..SLOTS).map(|_| [const { AtomicU64::new(0) }; 4]).collect();
    let cell = |number: u64| &cells[(number % SLOTS) as usize];
    let mut next = 0;
    turns(
        count,
        |number| cell(number).iter().for_each(|word| word.store(number, Ordering::Relaxed)),
        || {
            let words = cell(next).each_ref().map(|word| word.load(Ordering::Relaxed));
            next += 1;
            black_box(words)[0]
        },
    )
}

fn by_turns(criterion: &mut Criterion) {
    let engine = EngineConfig { shards: 1, pin: false, ..EngineConfig::default() };
    let node = block_on(Network::builder(NetworkId::random()).with_engine(engine).build()).expect("a node");
    let mut group = criterion.benchmark_group("typed_turns/32_bytes");
    group.bench_function("write_bare_limit", |b| b.iter_custom(|n| bare(n).write));
    group.bench_function("write_plain", |b| b.iter_custom(|n| stream(&node, Plain, n).write));
    group.bench_function("write_postcard", |b| b.iter_custom(|n| stream(&node, Postcard, n).write));
    group.bench_function("read_bare_limit", |b| b.iter_custom(|n| bare(n).read));
    group.bench_function("read_plain", |b| b.iter_custom(|n| stream(&node, Plain, n).read));
    group.bench_function("read_postcard", |b| b.iter_custom(|n| stream(&node, Postcard, n).read));
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = by_turns }
criterion_main!(benches);
