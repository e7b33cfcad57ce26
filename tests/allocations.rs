//! Allocations per datum in the steady state: none.

use allocation_counter::measure;
use corewire::local::Stream;
use corewire::{BackpressurePolicy, Network, NetworkId, Plain, block_on};

/// Datums that are measured, after as many to warm up.
const DATUMS: u64 = 10_000;

/// Allocations of [`DATUMS`] calls of `once`, after as many to warm up.
fn steady_state(mut once: impl FnMut(u64)) -> u64 {
    for n in 0..DATUMS {
        once(n);
    }
    measure(|| {
        for n in 0..DATUMS {
            once(n);
        }
    })
    .count_total
}

#[test]
fn plain_datum_is_sent_and_received_without_allocation() {
    let network = block_on(Network::new(NetworkId::random())).unwrap();
    let streams = network.streams();
    let producer = streams.producer::<[u64; 4]>().codec(Plain).build().unwrap();
    let mut consumer = streams.consumer::<[u64; 4]>().codec(Plain).build();
    block_on(producer.when().online());
    block_on(consumer.when().online());
    let allocations = steady_state(|n| {
        producer.try_send([n; 4]).unwrap();
        assert_eq!(consumer.try_recv(), Ok([n; 4]));
        block_on(producer.send([n; 4])).unwrap();
        assert_eq!(block_on(consumer.recv_ref()).unwrap()[0], n);
    });
    assert_eq!(allocations, 0);
}

#[test]
fn serde_datum_is_sent_and_received_without_allocation() {
    let network = block_on(Network::new(NetworkId::random())).unwrap();
    let producer = network.streams().produce::<(u64, [u8; 8], Option<f64>)>();
    let mut consumer = network.streams().consume::<(u64, [u8; 8], Option<f64>)>();
    block_on(producer.when().online());
    block_on(consumer.when().online());
    let allocations = steady_state(|n| {
        producer.send_blocking((n, [7; 8], Some(0.5))).unwrap();
        producer.try_send((n, [8; 8], None)).unwrap();
        assert_eq!(consumer.recv_blocking(), Some((n, [7; 8], Some(0.5))));
        assert_eq!(consumer.recv_blocking(), Some((n, [8; 8], None)));
    });
    assert_eq!(allocations, 0);
}

#[test]
fn local_stream_carries_a_datum_without_allocation() {
    for policy in BackpressurePolicy::ALL {
        let s: Stream<(u64, [u8; 8])> = Stream::with_degrader(1, policy, std::sync::Arc::new(|datum| *datum));
        let allocations = steady_state(|n| {
            s.push_blocking((n, [7; 8])).unwrap();
            let refused = s.try_push((n, [8; 8]));
            assert_eq!(refused.is_ok(), s.metrics().drop_oldest_hits > n);
            assert!(s.pop_blocking().is_some());
            block_on(async { s.push((n, [9; 8])).await.unwrap() });
            assert_eq!(block_on(s.pop()), Some((n, [9; 8])));
        });
        assert_eq!(allocations, 0, "{policy}");
    }
}

#[test]
fn claims_and_batches_allocate_nothing() {
    let network = block_on(Network::new(NetworkId::random())).unwrap();
    let streams = network.streams();
    let producer = streams.producer::<[u64; 4]>().codec(Plain).build().unwrap();
    let mut consumer = streams.consumer::<[u64; 4]>().codec(Plain).build();
    block_on(producer.when().online());
    block_on(consumer.when().online());
    let mut into = Vec::with_capacity(8);
    let allocations = steady_state(|n| {
        let mut one = producer.claim().unwrap();
        *one = [n; 4];
        one.commit();
        let mut two = producer.claim_many(2).unwrap();
        *two.datum(0) = [n; 4];
        *two.datum(1) = [n; 4];
        two.commit();
        producer.try_send_many(&[[n; 4]]).unwrap();
        producer.send_many_blocking(&[[n; 4]]).unwrap();
        assert_eq!(consumer.try_recv_refs(3, |datum| assert_eq!(datum[0], n)), Ok(3));
        into.clear();
        assert_eq!(consumer.try_recv_many(&mut into, 3), Ok(2));
    });
    assert_eq!(allocations, 0);
}

#[test]
fn dropping_policies_allocate_nothing() {
    for policy in [BackpressurePolicy::DropOldest, BackpressurePolicy::DegradeQuality] {
        let network = block_on(Network::new(NetworkId::random())).unwrap();
        let streams = network.streams();
        let producer = streams
            .producer::<[u64; 4]>()
            .with_buffer_size(4)
            .on_full(policy)
            .degrader(|datum| datum.map(|part| part / 2))
            .codec(Plain)
            .build()
            .unwrap();
        let consumer = streams.consumer::<[u64; 4]>().codec(Plain).build();
        block_on(producer.when().online());
        block_on(consumer.when().online());
        let allocations = steady_state(|n| {
            producer.try_send([n; 4]).unwrap();
            block_on(producer.push([n; 4])).unwrap();
        });
        assert_eq!(allocations, 0, "{policy}");
        assert!(producer.stats().dropped_oldest > 0);
    }
}
