//! The four policies on a full ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corewire::streams::Delivery;
use corewire::streams::producer::{Error, TryBuildError};
use corewire::{BackpressurePolicy, Consumer, Network, Plain, Producer};
use futures::SinkExt;

use super::support::{Data1, LIMIT, alone, apart, poll_once, unencodable, within};

/// A producer with this policy, and a connected consumer of the same node.
async fn joined(
    network: &Network,
    datums: usize,
    policy: BackpressurePolicy,
) -> (Producer<u64>, Consumer<u64>) {
    let consumer = network.streams().consume::<u64>();
    let producer = network
        .streams()
        .producer::<u64>()
        .with_buffer_size(datums)
        .on_full(policy)
        .degrader(|datum| datum / 2)
        .build()
        .unwrap();
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}

/// All datums that are there, each with the number of those missing before it.
fn drain(consumer: &mut Consumer<u64>) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    while let Ok(Delivery { datum, skipped_before, .. }) = consumer.try_recv_delivery() {
        found.push((datum, skipped_before));
    }
    found
}

#[tokio::test(crate = "crate::support::host")]
async fn drop_oldest_evicts_from_lagging_consumers_and_counts() {
    let network = alone().await;
    let (producer, mut lagging) = joined(&network, 4, BackpressurePolicy::DropOldest).await;
    let mut keeps_up = network.streams().consume::<u64>();
    within(producer.when().subscribed().minimum_of(2)).await;
    within(keeps_up.when().online()).await;
    for n in 0..10 {
        producer.try_send(n).unwrap();
        assert_eq!(keeps_up.try_recv(), Ok(n));
    }
    assert_eq!(drain(&mut lagging), [(6, 6), (7, 0), (8, 0), (9, 0)]);
    assert_eq!((lagging.stats().datums(), lagging.stats().skipped()), (4, 6));
    assert_eq!((keeps_up.stats().datums(), keeps_up.stats().skipped()), (10, 0));
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.dropped_oldest, stats.refused_full, stats.offered()), (10, 6, 0, 10));
    let of_channels: Vec<u64> = producer.consumers().map(|info| info.stats().dropped_oldest()).collect();
    assert_eq!(of_channels, [6, 0]);
}

#[tokio::test(crate = "crate::support::host")]
async fn every_form_of_sending_drops_the_oldest() {
    let network = alone().await;
    let (producer, mut consumer) = joined(&network, 2, BackpressurePolicy::DropOldest).await;
    producer.try_send(0).unwrap();
    producer.try_send(1).unwrap();
    within(producer.send(2)).await.unwrap();
    within(producer.push(3)).await.unwrap();
    producer.send_blocking(4).unwrap();
    producer.push_blocking(5).unwrap();
    let mut sink = producer.clone();
    within(SinkExt::send(&mut sink, 6)).await.unwrap();
    within(sink.feed(7)).await.unwrap();
    assert_eq!(drain(&mut consumer), [(6, 6), (7, 0)]);
    assert_eq!(producer.stats().dropped_oldest, 6);
    assert_eq!((producer.stats().accepted, producer.stats().offered()), (8, 8));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_large_datum_evicts_as_many_small_ones_as_needed() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Vec<u8>>();
    let producer = network
        .streams()
        .producer::<Vec<u8>>()
        .with_buffer_bytes(256)
        .with_max_datum_bytes(128)
        .on_full(BackpressurePolicy::DropOldest)
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    for n in 0..16 {
        producer.try_send(vec![n; 8]).unwrap();
    }
    producer.try_send(vec![100; 100]).unwrap();
    // 101 bytes take the room of seven short datums.
    let first = consumer.try_recv_delivery().unwrap();
    assert_eq!((first.datum, first.skipped_before), (vec![7; 8], 7));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_pinned_datum_is_not_evicted_and_senders_give_up_soon() {
    for policy in [BackpressurePolicy::DropOldest, BackpressurePolicy::DegradeQuality] {
        let network = alone().await;
        let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
        let degraded = Arc::new(AtomicUsize::new(0));
        let count = degraded.clone();
        let producer = network
            .streams()
            .producer::<u64>()
            .with_buffer_size(2)
            .on_full(policy)
            .degrader(move |datum| {
                count.fetch_add(1, Ordering::Relaxed);
                datum / 2
            })
            .codec(Plain)
            .build()
            .unwrap();
        within(producer.when().online()).await;
        within(consumer.when().online()).await;
        producer.try_send(10).unwrap();
        producer.try_send(20).unwrap();
        {
            let held = consumer.try_recv_ref().unwrap();
            assert_eq!(producer.try_send(30), Err(Error::Full(30)));
            let before = degraded.load(Ordering::Relaxed);
            assert_eq!(within(producer.send(30)).await, Err(Error::Full(30)), "the original comes back");
            let once = usize::from(policy == BackpressurePolicy::DegradeQuality);
            assert_eq!(degraded.load(Ordering::Relaxed) - before, once, "once for each datum");
            assert_eq!(producer.push_blocking(30), Err(Error::Full(30)));
            let mut sink = producer.clone();
            assert_eq!(within(SinkExt::send(&mut sink, 30)).await, Err(Error::Full(30)));
            assert_eq!(*held, 10);
        }
        let stats = producer.stats();
        assert_eq!((stats.refused_full, stats.dropped_oldest, stats.degraded), (4, 0, 0));
        producer.try_send(40).unwrap();
        assert_eq!((consumer.try_recv(), consumer.try_recv()), (Ok(20), Ok(40)));
        assert_eq!(producer.stats().offered(), 7);
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_retrying_send_succeeds_once_the_reader_unpins() {
    let network = alone().await;
    let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    let producer = network
        .streams()
        .producer::<u64>()
        .with_buffer_size(1)
        .on_full(BackpressurePolicy::DropOldest)
        .codec(Plain)
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    producer.try_send(1).unwrap();
    let held = consumer.try_recv_ref().unwrap();
    let mut sending = producer.send(2);
    let (first, woken) = poll_once(&mut sending);
    assert!(first.is_pending());
    assert_eq!(woken.wakes(), 1, "nothing tells it when a reader lets go, so it looks again");
    drop(held);
    assert!(matches!(poll_once(&mut sending).0, std::task::Poll::Ready(Ok(()))));
    assert_eq!(consumer.try_recv(), Ok(2));
}

#[tokio::test(crate = "crate::support::host")]
async fn degrade_quality_degrades_then_drops_the_oldest() {
    let network = alone().await;
    let (producer, mut consumer) = joined(&network, 2, BackpressurePolicy::DegradeQuality).await;
    for datum in [100, 200, 300] {
        producer.try_send(datum).unwrap();
    }
    assert_eq!(drain(&mut consumer), [(200, 1), (150, 0)]);
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.degraded, stats.dropped_oldest, stats.offered()), (3, 1, 1, 3));

    within(producer.send(400)).await.unwrap();
    within(producer.push(500)).await.unwrap();
    within(producer.send(600)).await.unwrap();
    producer.send_blocking(700).unwrap();
    let mut sink = producer.clone();
    within(SinkExt::send(&mut sink, 800)).await.unwrap();
    assert_eq!(drain(&mut consumer), [(350, 3), (400, 0)]);
    assert_eq!(producer.stats().degraded, 4);
}

#[tokio::test(crate = "crate::support::host")]
async fn degrade_quality_without_a_degrader_is_a_build_error() {
    let network = alone().await;
    let builder = network.streams().producer::<u64>().on_full(BackpressurePolicy::DegradeQuality);
    assert!(matches!(builder.try_build(), Err(TryBuildError::MissingDegrader)));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_panicking_degrader_sends_the_datum_unchanged() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Data1>();
    let producer = network
        .streams()
        .producer::<Data1>()
        .with_buffer_size(1)
        .on_full(BackpressurePolicy::DegradeQuality)
        .degrader(|datum| panic!("a degrader that panics, for {}", datum.0))
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    producer.try_send(Data1(1)).unwrap();
    producer.try_send(Data1(2)).unwrap();
    within(producer.send(Data1(3))).await.unwrap();
    assert_eq!(consumer.try_recv(), Ok(Data1(3)));
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.degraded, stats.degrader_panics, stats.dropped_oldest), (3, 0, 2, 2));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_datum_degraded_beyond_the_limit_comes_back_unchanged() {
    let network = alone().await;
    let consumer = network.streams().consume::<Vec<u8>>();
    let producer = network
        .streams()
        .producer::<Vec<u8>>()
        .with_buffer_size(1)
        .with_max_datum_bytes(10)
        .on_full(BackpressurePolicy::DegradeQuality)
        .degrader(|_| vec![0; 100])
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    producer.try_send(vec![1]).unwrap();
    assert_eq!(producer.try_send(vec![2]), Err(Error::too_large(vec![2], 10)));
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.too_large, stats.degraded, stats.offered()), (1, 1, 0, 2));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_second_build_shares_policy_and_degrader() {
    let network = alone().await;
    let (producer, mut consumer) = joined(&network, 1, BackpressurePolicy::DegradeQuality).await;
    let again = network.streams().produce::<u64>();
    producer.try_send(100).unwrap();
    again.try_send(200).unwrap();
    assert_eq!(drain(&mut consumer), [(100, 1)]);
}

#[tokio::test(crate = "crate::support::host")]
async fn a_send_that_times_out_gives_the_datum_back() {
    let network = alone().await;
    let moment = Duration::from_millis(20);
    let (producer, mut consumer) = joined(&network, 1, BackpressurePolicy::PauseUpstream).await;
    producer.send_timeout(1, LIMIT).unwrap();
    assert_eq!(producer.send_timeout(2, moment), Err(Error::Full(2)));
    assert_eq!(producer.push_timeout(3, moment), Err(Error::Full(3)));
    assert_eq!(producer.push_timeout(4, Duration::ZERO), Err(Error::Full(4)));
    assert_eq!(consumer.try_recv(), Ok(1));
    producer.push_timeout(5, Duration::MAX).unwrap();
    assert_eq!(producer.stats().refused_full, 3);

    // Room that comes within the limit is used.
    let sender = producer.clone();
    let waiting = std::thread::spawn(move || sender.send_timeout(6, LIMIT));
    assert_eq!(within(consumer.recv()).await, Some(5));
    assert_eq!(within(consumer.recv()).await, Some(6));
    waiting.join().unwrap().unwrap();

    drop(consumer);
    within(producer.when().offline()).await;
    assert_eq!(producer.send_timeout(7, moment), Err(Error::Offline(7)));
    assert_eq!(producer.push_timeout(8, LIMIT), Err(Error::Offline(8)));
    producer.close();
    assert_eq!(producer.send_timeout(9, LIMIT), Err(Error::closed(9)));
    assert_eq!(producer.stats().offered(), 9);
}

#[tokio::test(crate = "crate::support::host")]
async fn withdraw_returns_the_datum_and_leaves_the_queue() {
    let network = alone().await;
    let (producer, mut consumer) = joined(&network, 1, BackpressurePolicy::PauseUpstream).await;
    producer.try_send(1).unwrap();
    let mut first = producer.send(2);
    let mut second = producer.send(3);
    assert!(poll_once(&mut first).0.is_pending());
    let (pending, woken) = poll_once(&mut second);
    assert!(pending.is_pending());
    assert_eq!(first.withdraw(), Some(2));
    assert_eq!(consumer.try_recv(), Ok(1));
    assert!(woken.wakes() > 0, "it is the first now");
    assert!(matches!(poll_once(&mut second).0, std::task::Poll::Ready(Ok(()))));
    assert_eq!(second.withdraw(), None, "it was sent");
    assert_eq!(consumer.try_recv(), Ok(3));

    // With the timer of any executor.
    producer.try_send(4).unwrap();
    let mut sending = producer.send(5);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut sending).await.is_err());
    assert_eq!(sending.withdraw(), Some(5));
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.cancelled, stats.offered()), (3, 2, 5));
}

/// Fails on every second encoding: after it was measured or staged.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct Fickle(u64);

thread_local! {
    static ENCODINGS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl serde::Serialize for Fickle {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Measured first, written second.
        let second = ENCODINGS.get() % 2 == 1;
        ENCODINGS.set(ENCODINGS.get() + 1);
        if self.0 == u64::MAX && second {
            return Err(serde::ser::Error::custom("changed its mind"));
        }
        serializer.serialize_newtype_struct("Fickle", &self.0)
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn an_unencodable_datum_evicts_nothing() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Fickle>();
    let mut producer = network
        .streams()
        .producer::<Fickle>()
        .with_buffer_size(2)
        .on_full(BackpressurePolicy::DropOldest)
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    producer.try_send(Fickle(1)).unwrap();
    producer.try_send(Fickle(2)).unwrap();
    let bad = || Fickle(u64::MAX);
    unencodable(producer.try_send(bad()));
    unencodable(within(producer.push(bad())).await);
    unencodable(within(SinkExt::send(&mut producer, bad())).await);
    assert_eq!((producer.stats().dropped_oldest, producer.stats().unencodable), (0, 3));
    for n in [3, 4] {
        producer.try_send(Fickle(n)).unwrap();
    }
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.dropped_oldest, stats.offered()), (4, 2, 7));
    let first = within(consumer.recv_delivery()).await.unwrap();
    assert_eq!((first.datum, first.seq, first.skipped_before), (Fickle(3), 2, 2));
    assert_eq!(within(consumer.recv()).await, Some(Fickle(4)));
    let info = consumer.producers().next().unwrap();
    assert_eq!((info.stats().datums(), info.stats().dropped_oldest(), info.stats().lag()), (2, 2, 0));
}

#[tokio::test(crate = "crate::support::host")]
async fn datums_lost_before_the_end_of_a_stream_are_counted() {
    let network = alone().await;
    let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    let producer = network
        .streams()
        .producer::<u64>()
        .with_buffer_size(2)
        .on_full(BackpressurePolicy::DropOldest)
        .codec(Plain)
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    for n in [1, 2, 3] {
        producer.try_send(n).unwrap();
    }
    // Two abandoned records evict the last two datums.
    for _ in 0..2 {
        drop(producer.claim().unwrap());
    }
    let info = consumer.producers().next().unwrap();
    drop(producer);
    within(consumer.when().offline()).await;
    assert!(consumer.try_recv().is_err());
    assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (0, 3));
    assert_eq!(info.stats().dropped_oldest(), 3);
}

/// Sends in every form to consumers that lag differently, here and on another engine, and lets all of them
/// drain: the counters account for every offer and every datum.
async fn adds_up(policy: BackpressurePolicy, local: usize) {
    const DATUMS: u64 = 3_000;
    let nodes = apart(2).await;
    let producer = nodes[0]
        .streams()
        .producer::<u64>()
        .with_buffer_size(16)
        .on_full(policy)
        .degrader(|datum| *datum)
        // The one on the other engine is the slowest by its window.
        .disconnect_lagging(false)
        .build()
        .unwrap();
    let mut consumers: Vec<_> = (0..local).map(|_| nodes[0].streams().consume::<u64>()).collect();
    consumers.push(nodes[1].streams().consumer::<u64>().with_buffer_size(8).build());
    within(producer.when().subscribed().minimum_of(local + 1)).await;
    let takers: Vec<_> = consumers
        .into_iter()
        .zip(1u64..)
        .map(|(mut consumer, pace)| {
            tokio::spawn(async move {
                let (mut taken, mut gaps, mut next) = (0, 0, 0);
                while let Some(delivery) = consumer.recv_delivery().await {
                    assert_eq!(delivery.seq, next + delivery.skipped_before, "a silent gap");
                    next = delivery.seq + 1;
                    taken += 1;
                    gaps += delivery.skipped_before;
                    if taken % (8 * pace) == 0 {
                        tokio::task::yield_now().await;
                    }
                    if delivery.datum == u64::MAX {
                        break;
                    }
                }
                let stats = consumer.stats();
                assert_eq!((stats.datums(), stats.skipped()), (taken, gaps));
                (consumer, taken, gaps)
            })
        })
        .collect();
    let mut offered = 0;
    for n in 0..DATUMS {
        offered += 1;
        let _ = match n % 4 {
            0 => producer.try_send(n),
            1 => producer.push(n).await,
            2 => producer.send(n).await,
            _ => producer.push_timeout(n, Duration::from_micros(50)),
        };
        if n % 64 == 0 {
            let mut withdrawn = producer.send(n);
            let _ = poll_once(&mut withdrawn);
            offered += 1;
            drop(withdrawn);
            tokio::task::yield_now().await;
        }
    }
    // The last datum ends every consumer.
    while producer.try_send(u64::MAX).is_err() {
        offered += 1;
        tokio::task::yield_now().await;
    }
    offered += 1;
    let mut kept = Vec::new();
    let accepted = producer.stats().accepted;
    for taker in takers {
        let (consumer, taken, gaps) = within(taker).await.unwrap();
        assert_eq!(taken + gaps, accepted, "{policy}");
        assert!(policy.to_string().starts_with('d') || gaps == 0, "only dropping loses");
        kept.push(consumer);
    }
    let stats = producer.stats();
    assert_eq!(stats.offered(), offered, "{policy}: {stats}");
    assert!(stats.degraded <= stats.accepted);
    assert_eq!(stats.cancelled + stats.refused_full + stats.accepted, offered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn counters_add_up_under_every_policy() {
    for policy in BackpressurePolicy::ALL {
        for local in [1, 3] {
            adds_up(policy, local).await;
        }
    }
}
