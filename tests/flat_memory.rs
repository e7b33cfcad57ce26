//! The memory of the process does not grow with the number of datums, even if a consumer takes none.
//!
//! `COREWIRE_DATUMS=10000000 cargo test --release --test flat_memory` runs more than the default million.
//! This test has its own binary because it measures the whole process.

use std::time::Instant;

use corewire::streams::State;
use corewire::{
    BackpressurePolicy, Consumer, Engine, EngineConfig, Network, NetworkId, Plain, Producer, block_on,
};
use corewire_testkit::{LIMIT, env_number};

const DATUMS: u64 = 1_000_000;

/// Datums sent, and received, in one step.
const BATCH: usize = 256;

/// Datums after which the memory has its final size: rings have wrapped, tables and queues have grown, and
/// each page of packet memory has been used, which takes more datums in an optimized build. A longer run
/// warms up for a quarter of its datums.
const WARM: u64 = if cfg!(debug_assertions) { 250_000 } else { 2_000_000 };

/// Growth allowed afterwards, in bytes: less than one byte of each datum.
const GROWTH: u64 = 640 << 10;

fn datums() -> u64 {
    env_number("COREWIRE_DATUMS").unwrap_or(DATUMS)
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let pages: u64 = pages.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number of pages");
    pages * 4_096
}

type Datum = [u64; 4];

fn network(id: NetworkId) -> Network {
    let config = EngineConfig { shards: 1, pin: false, ..EngineConfig::default() };
    let engine = Engine::start(config).expect("an engine");
    block_on(Network::builder(id).with_engine(engine).build()).expect("a node")
}

fn consumer(network: &Network) -> Consumer<Datum, Plain> {
    let consumer = network.streams().consumer::<Datum>().codec(Plain).build();
    block_on(consumer.when().online());
    consumer
}

/// Three consumers: one that keeps up, one that takes a quarter, one that takes nothing.
fn pass(producer: &Producer<Datum, Plain>, consumers: &mut [Consumer<Datum, Plain>; 3], count: u64) {
    let [good, slow, _] = consumers;
    let (mut sent, mut seen) = (0_u64, good.stats().datums() + good.stats().skipped());
    let end = producer.stats().accepted + count;
    let mut taken = Vec::with_capacity(BATCH);
    let mut moved = Instant::now();
    while seen < end {
        for _ in 0..BATCH.min((count - sent) as usize) {
            match producer.try_send([sent; 4]) {
                Ok(()) => sent += 1,
                // The oldest datum is pinned by a reader.
                Err(_) => break,
            }
        }
        taken.clear();
        while good.try_recv_many(&mut taken, BATCH).is_ok() {
            taken.clear();
            moved = Instant::now();
        }
        let _ = slow.try_recv_many(&mut taken, BATCH / 4);
        seen = good.stats().datums() + good.stats().skipped();
        assert!(moved.elapsed() < LIMIT, "no progress: {} / {}", producer.stats(), good.stats());
        std::thread::yield_now();
    }
}

fn stays_flat(there: &Network, here: &Network, policy: BackpressurePolicy, count: u64) {
    let producer = here
        .streams()
        .producer::<Datum>()
        .with_buffer_size(4 * BATCH)
        .on_full(policy)
        .degrader(|datum| *datum)
        .disconnect_lagging(false)
        .codec(Plain)
        .build()
        .expect("a producer");
    let mut consumers = [consumer(there), consumer(there), consumer(there)];
    block_on(producer.when().subscribed().minimum_of(3));
    let warm = WARM.max(datums() / 4);
    pass(&producer, &mut consumers, warm);
    let before = resident();
    pass(&producer, &mut consumers, count);
    let grown = resident().saturating_sub(before);
    assert!(grown <= GROWTH, "{policy}: {grown} bytes more after {count} datums");
    assert!(consumers[2].producers().all(|info| info.state() == State::Connected));
    assert!(producer.stats().dropped_oldest > 0, "the consumer that takes nothing loses datums");
    assert_eq!(producer.stats().accepted, warm + count);
}

#[test]
fn memory_stays_flat_while_a_consumer_takes_nothing() {
    let id = NetworkId::random();
    let (here, there) = (network(id), network(id));
    for (at, place) in [("one engine", &here), ("two engines", &there)] {
        for (policy, count) in
            [(BackpressurePolicy::DropOldest, datums()), (BackpressurePolicy::DegradeQuality, datums() / 10)]
        {
            let started = Instant::now();
            stays_flat(place, &here, policy, count);
            println!("{at}, {policy}: {count} datums in {:.1?}", started.elapsed());
        }
    }
}
