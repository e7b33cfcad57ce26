//! Several datums at a time, and datums written in place.

use std::task::Poll;

use corewire::streams::consumer::TryRecvError;
use corewire::streams::producer::Error;
use corewire::{BackpressurePolicy, Consumer, Network, Plain, Producer};

use super::support::{Data1, alone, apart, connected, poll_once, within};

type Tick = [u64; 4];

async fn ticks(
    here: &Network,
    there: &Network,
    datums: usize,
    policy: BackpressurePolicy,
) -> (Producer<Tick, Plain>, Consumer<Tick, Plain>) {
    let consumer = there.streams().consumer::<Tick>().codec(Plain).build();
    let producer = here
        .streams()
        .producer::<Tick>()
        .with_buffer_size(datums)
        .on_full(policy)
        .degrader(|tick| tick.map(|part| part / 2))
        .codec(Plain)
        .build()
        .unwrap();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}

/// Takes up to `max` datums; each one's first number with the number of those missing before it.
fn shown(consumer: &mut Consumer<Tick, Plain>, max: usize) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    let taken = consumer.try_recv_refs(max, |tick| seen.push((tick[0], tick.skipped_before())));
    assert_eq!(taken.unwrap_or_default(), seen.len());
    seen
}

#[tokio::test(crate = "crate::support::host")]
async fn a_claim_publishes_on_commit_and_skips_its_number_when_dropped() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 2, BackpressurePolicy::PauseUpstream).await;
    let mut first = producer.claim().unwrap();
    first[0] = 7;
    first[1..].fill(8);
    assert_eq!(*first, [7, 8, 8, 8]);
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty), "not before it is committed");
    assert_eq!(first.commit(), 0);
    drop(producer.claim().unwrap());
    assert!(matches!(producer.claim(), Err(Error::Full(()))));
    assert_eq!(consumer.try_recv(), Ok([7, 8, 8, 8]));
    let mut third = producer.claim().unwrap();
    *third = [9; 4];
    assert_eq!(third.commit(), 2);
    let delivery = consumer.try_recv_delivery().unwrap();
    assert_eq!((delivery.datum, delivery.seq, delivery.skipped_before), ([9; 4], 2, 0));
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.cancelled, stats.refused_full, stats.offered()), (2, 1, 1, 4));
    producer.close();
    assert!(matches!(producer.claim(), Err(Error::Closed(_))));
    assert!(matches!(producer.claim_many(3), Err(Error::Closed(_))));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_claim_on_a_full_ring_follows_the_policy() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 2, BackpressurePolicy::DropOldest).await;
    for n in 0..5 {
        let mut claim = producer.claim().unwrap();
        *claim = [n; 4];
        claim.commit();
    }
    assert_eq!(shown(&mut consumer, 9), [(3, 3), (4, 0)]);
    for n in [10, 20, 30, 40] {
        let mut claim = producer.claim_many(1).unwrap();
        *claim.datum(0) = [n; 4];
        claim.commit();
    }
    assert_eq!(shown(&mut consumer, 9), [(30, 2), (40, 0)]);
    assert_eq!(producer.stats().dropped_oldest, 5);

    let network = alone().await;
    let (producer, _consumer) = ticks(&network, &network, 1, BackpressurePolicy::DegradeQuality).await;
    producer.claim().unwrap().commit();
    assert!(matches!(producer.claim(), Err(Error::Full(()))), "nothing to degrade yet");
    producer.try_send([8; 4]).unwrap();
    assert_eq!(producer.stats().degraded, 1);

    let network = alone().await;
    let offline = network.streams().producer::<Tick>().codec(Plain).build().unwrap();
    assert!(matches!(offline.claim(), Err(Error::Offline(()))));
    assert_eq!(offline.stats().refused_offline, 1);
}

#[tokio::test(crate = "crate::support::host")]
async fn claim_many_takes_what_fits_and_commits_a_prefix() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 4, BackpressurePolicy::Fail).await;
    let mut claim = producer.claim_many(3).unwrap();
    assert_eq!(claim.len(), 3);
    for n in 0..3 {
        *claim.datum(n) = [n as u64; 4];
    }
    assert_eq!(claim.commit_first(2), 0..2);
    let claim = producer.claim_many(10).unwrap();
    assert_eq!(claim.len(), 1, "as many as fit");
    drop(claim);
    assert!(matches!(producer.claim_many(1), Err(Error::Full(()))));
    assert_eq!(shown(&mut consumer, 9), [(0, 0), (1, 0)]);
    let mut claim = producer.claim_many(0).unwrap();
    *claim.datum(0) = [5; 4];
    assert_eq!(claim.commit(), 4..5);
    assert_eq!(shown(&mut consumer, 9), [(5, 0)]);
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.cancelled, stats.refused_full, stats.offered()), (3, 2, 1, 6));
}

#[tokio::test(crate = "crate::support::host")]
async fn try_send_many_sends_as_many_as_the_policy_admits() {
    let row: Vec<Tick> = (1..=5).map(|n| [n * 10; 4]).collect();
    for policy in BackpressurePolicy::ALL {
        let network = alone().await;
        let (producer, mut consumer) = ticks(&network, &network, 3, policy).await;
        let sent = producer.try_send_many(&row);
        let (expected, seen): (_, &[(u64, u64)]) = match policy {
            BackpressurePolicy::DropOldest => (None, &[(30, 2), (40, 0), (50, 0)]),
            BackpressurePolicy::DegradeQuality => (None, &[(30, 2), (20, 0), (25, 0)]),
            BackpressurePolicy::PauseUpstream | BackpressurePolicy::Fail => {
                (Some((3, Error::Full(()))), &[(10, 0), (20, 0), (30, 0)])
            }
        };
        assert_eq!(sent.map_err(|stopped| (stopped.sent, stopped.error)).err(), expected);
        assert_eq!(shown(&mut consumer, 9), seen);
        let refused = u64::from(expected.is_some());
        let stats = producer.stats();
        assert_eq!((stats.refused_full, stats.offered()), (refused, stats.accepted + refused));
        producer.try_send_many(&[]).unwrap();
        producer.close();
        let stopped = producer.try_send_many(&row).unwrap_err();
        assert_eq!((stopped.sent, stopped.error), (0, Error::closed(())));
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn send_many_waits_for_consumers_and_room_and_keeps_the_order() {
    let network = alone().await;
    let builder = network.streams().producer::<Tick>().with_buffer_size(3).codec(Plain);
    let producer = builder.build().unwrap();
    let row: Vec<Tick> = (0..10).map(|n| [n; 4]).collect();
    let mut sending = producer.send_many(&row);
    assert!(poll_once(&mut sending).0.is_pending());
    assert_eq!(sending.sent(), 0, "no consumer is connected");
    let mut consumer = network.streams().consumer::<Tick>().codec(Plain).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    assert!(poll_once(&mut sending).0.is_pending());
    assert_eq!(sending.sent(), 3, "in one step");
    let mut seen = Vec::new();
    let collect = async {
        while seen.len() < row.len() {
            seen.push(consumer.recv().await.unwrap());
        }
    };
    let (sent, ()) = within(futures::future::join(sending, collect)).await;
    assert_eq!((sent, &seen), (Ok(()), &row));
    assert_eq!((producer.stats().accepted, producer.stats().offered()), (10, 10));
    producer.send_many_blocking(&[]).unwrap();
}

#[tokio::test(crate = "crate::support::host")]
async fn send_many_stops_at_the_first_refusal_and_counts_it() {
    for policy in BackpressurePolicy::ALL {
        let network = alone().await;
        let (producer, mut consumer) = ticks(&network, &network, 2, policy).await;
        let row: Vec<Tick> = (0..4).map(|n| [n; 4]).collect();
        let mut sending = producer.send_many(&row);
        let polled = poll_once(&mut sending).0;
        match policy {
            BackpressurePolicy::PauseUpstream => {
                assert!(polled.is_pending());
                producer.close();
                let stopped = within(sending).await.unwrap_err();
                assert_eq!((stopped.sent, stopped.error), (2, Error::closed(())));
            }
            BackpressurePolicy::Fail => {
                let Poll::Ready(Err(stopped)) = polled else { panic!("{polled:?}") };
                assert_eq!((stopped.sent, stopped.error), (2, Error::Full(())));
            }
            BackpressurePolicy::DropOldest | BackpressurePolicy::DegradeQuality => {
                assert_eq!(polled, Poll::Ready(Ok(())));
                let _pinned = consumer.try_recv_ref().unwrap();
                let stopped = within(producer.send_many(&row)).await.unwrap_err();
                assert_eq!((stopped.sent, stopped.error), (0, Error::Full(())));
            }
        }
        let stats = producer.stats();
        assert_eq!(stats.offered(), stats.accepted + 1 - stats.cancelled, "{policy}: {stats}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_dropped_send_many_cancels_one_datum_and_leaves_the_queue() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 1, BackpressurePolicy::PauseUpstream).await;
    let row = [[1; 4], [2; 4], [3; 4]];
    let mut sending = producer.send_many(&row);
    assert!(poll_once(&mut sending).0.is_pending());
    assert_eq!(sending.sent(), 1);
    drop(sending);
    assert_eq!(consumer.try_recv(), Ok([1; 4]));
    producer.try_send([4; 4]).expect("no place in the queue is left behind");
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.cancelled, stats.offered()), (2, 1, 3));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_batch_read_returns_its_room_at_once() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 4, BackpressurePolicy::Fail).await;
    assert_eq!(consumer.try_recv_refs(4, |_| unreachable!()), Err(TryRecvError::Empty));
    assert_eq!(consumer.try_recv_refs(0, |_| unreachable!()), Ok(0));
    for n in 0..4 {
        producer.try_send([n; 4]).unwrap();
    }
    let mut full = 0;
    let taken = consumer.try_recv_refs(3, |tick| {
        assert_eq!((tick.seq(), tick.producer()), (tick.get()[0], *network.local().id()));
        full += u64::from(producer.try_send([9; 4]).is_err());
    });
    assert_eq!((taken, full), (Ok(3), 3));
    for n in 4..7 {
        producer.try_send([n; 4]).unwrap();
    }
    assert_eq!(shown(&mut consumer, 9), [(3, 0), (4, 0), (5, 0), (6, 0)]);
    assert_eq!((consumer.stats().datums(), consumer.stats().bytes()), (7, 7 * 32));
    producer.try_send([7; 4]).unwrap();
    consumer.close();
    assert_eq!(shown(&mut consumer, 9), [(7, 0)]);
    assert_eq!(consumer.try_recv_refs(4, |_| unreachable!()), Err(TryRecvError::Closed));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_panicking_batch_closure_takes_the_datums_it_saw() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 4, BackpressurePolicy::Fail).await;
    for n in 0..4 {
        producer.try_send([n; 4]).unwrap();
    }
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        consumer.try_recv_refs(4, |tick| assert!(tick[0] < 1, "a batch that panics"))
    }));
    assert!(panicked.is_err());
    assert_eq!(consumer.stats().datums(), 2);
    producer.try_send_many(&[[4; 4], [5; 4]]).unwrap();
    assert_eq!(shown(&mut consumer, 9), [(2, 0), (3, 0), (4, 0), (5, 0)]);
}

#[tokio::test(crate = "crate::support::host")]
async fn every_way_of_taking_reports_a_gap_once() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 2, BackpressurePolicy::DropOldest).await;
    let row: Vec<Tick> = (0..5).map(|n| [n; 4]).collect();
    producer.try_send_many(&row).unwrap();
    assert_eq!(shown(&mut consumer, 1), [(3, 3)]);
    producer.try_send_many(&row).unwrap();
    assert_eq!(consumer.try_recv_delivery().unwrap().skipped_before, 4);
    producer.try_send_many(&row).unwrap();
    assert_eq!(consumer.try_recv_ref().unwrap().skipped_before(), 4);
    assert_eq!(shown(&mut consumer, 9), [(4, 0)]);
    assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (4, 11));
    producer.try_send_many(&row).unwrap();
    let mut into = Vec::new();
    assert_eq!(consumer.try_recv_many(&mut into, 1), Ok(1));
    assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (5, 14));
    assert_eq!(consumer.try_recv_delivery().unwrap().skipped_before, 0);
    assert_eq!(producer.stats().dropped_oldest, 14);
}

#[tokio::test(crate = "crate::support::host")]
async fn abandoned_numbers_do_not_count_in_a_batch() {
    let network = alone().await;
    let (producer, mut consumer) = ticks(&network, &network, 8, BackpressurePolicy::Fail).await;
    let give_up = |times| (0..times).for_each(|_| drop(producer.claim().unwrap()));
    give_up(1);
    producer.try_send([0; 4]).unwrap();
    give_up(2);
    producer.try_send_many(&[[1; 4], [2; 4]]).unwrap();
    give_up(1);
    let mut into = Vec::new();
    assert_eq!(consumer.try_recv_many(&mut into, 2), Ok(2));
    assert_eq!(into, [[0; 4], [1; 4]]);
    assert_eq!(shown(&mut consumer, 9), [(2, 0)]);
    give_up(8);
    assert_eq!(consumer.try_recv_many(&mut into, 9), Err(TryRecvError::Empty));
    producer.try_send_many(&[[3; 4]; 8]).unwrap();
    assert_eq!(consumer.try_recv_many(&mut into, 9), Ok(8));
    assert_eq!((consumer.stats().datums(), consumer.stats().bytes()), (11, 11 * 32));
    assert_eq!(consumer.stats().skipped(), 0);
    let channel = consumer.producers().next().unwrap().stats();
    assert_eq!((channel.datums(), channel.bytes()), (11, 11 * 32));
}

#[tokio::test(crate = "crate::support::host")]
async fn try_recv_many_keeps_the_order_for_any_codec() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 8).await;
    let mut into = vec![Data1(100)];
    assert_eq!(consumer.try_recv_many(&mut into, 3), Err(TryRecvError::Empty));
    for n in 0..5 {
        producer.try_send(Data1(n)).unwrap();
    }
    assert_eq!(consumer.try_recv_many(&mut into, 3), Ok(3));
    assert_eq!(within(consumer.recv_many(&mut into, 9)).await, 2);
    assert_eq!(into, [100, 0, 1, 2, 3, 4].map(Data1));
    assert_eq!(within(consumer.recv_many(&mut into, 0)).await, 0);
    let waiting = tokio::spawn(async move {
        let mut into = Vec::new();
        let taken = consumer.recv_many(&mut into, 9).await;
        (consumer, taken, into)
    });
    producer.try_send(Data1(5)).unwrap();
    let (mut consumer, taken, into) = within(waiting).await.unwrap();
    assert_eq!((taken, into), (1, vec![Data1(5)]));
    consumer.close();
    assert_eq!(within(consumer.recv_many(&mut Vec::new(), 9)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn batches_and_claims_cross_the_wire_and_return_credit() {
    const DATUMS: u64 = 20_000;
    let nodes = apart(2).await;
    let (producer, mut consumer) = ticks(&nodes[0], &nodes[1], 64, BackpressurePolicy::PauseUpstream).await;
    let sender = std::thread::spawn(move || {
        let mut next = 0;
        while next < DATUMS {
            let Ok(mut claim) = producer.claim_many((DATUMS - next).min(16) as usize) else {
                std::thread::yield_now();
                continue;
            };
            for index in 0..claim.len() {
                *claim.datum(index) = [next; 4];
                next += 1;
            }
            claim.commit();
        }
        producer
    });
    let (mut next, mut into) = (0, Vec::new());
    while next < DATUMS {
        assert!(within(consumer.recv_many(&mut into, 10)).await > 0);
        for tick in into.drain(..) {
            assert_eq!(tick, [next; 4]);
            next += 1;
        }
        for (number, skipped) in shown(&mut consumer, 50) {
            assert_eq!((number, skipped), (next, 0));
            next += 1;
        }
    }
    sender.join().unwrap();
}
