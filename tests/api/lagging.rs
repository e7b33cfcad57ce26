//! Consumers that keep a ring full: when `disconnect_lagging` closes a channel, and what the consumer then
//! sees.

use std::time::{Duration, Instant};

use corewire::streams::producer::{Error, Lagging};
use corewire::streams::{CloseCode, ConsumerEvent, ExponentialBackoff, ExponentialBackoffBuilder};
use corewire::{BackpressurePolicy, Consumer, Network, Plain, Producer};
use futures::SinkExt;

use super::support::{alone, apart, poll_once, within};

const GRACE: Duration = Duration::from_millis(100);

/// For consumers that are alone.
fn short() -> Lagging {
    Lagging::after(GRACE, GRACE)
}

fn soon() -> ExponentialBackoff {
    let pause = Duration::from_millis(20);
    ExponentialBackoffBuilder::new().with_initial_interval(pause).with_max_interval(pause).build()
}

/// A producer with room for four on `here`, and a consumer that takes nothing by itself on `there`.
async fn stalled(
    here: &Network,
    there: &Network,
    policy: BackpressurePolicy,
    lagging: impl Into<Lagging>,
) -> (Producer<u64>, Consumer<u64>) {
    let consumer = there.streams().consumer::<u64>().with_backoff(soon()).with_buffer_size(4).build();
    let producer = here
        .streams()
        .producer::<u64>()
        .with_buffer_size(4)
        .on_full(policy)
        .degrader(|datum| *datum)
        .disconnect_lagging(lagging)
        .online_when(|c| c.minimum_of(0))
        .build()
        .unwrap();
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn disconnected_consumer_reconnects_and_sees_how_much_it_missed() {
    let network = alone().await;
    let (producer, mut consumer) =
        stalled(&network, &network, BackpressurePolicy::PauseUpstream, short()).await;
    let (here, there) = (producer.consumers().next().unwrap(), consumer.producers().next().unwrap());
    let mut events = consumer.events();
    let started = Instant::now();
    for n in 0..4 {
        producer.try_send(n).unwrap();
    }
    // Waits for the grace, and not longer than it takes.
    within(producer.send(4)).await.unwrap();
    assert!(started.elapsed() >= GRACE);
    within(here.disconnected()).await;
    within(there.disconnected()).await;
    for info in [&here, &there] {
        assert_eq!(info.close_code(), Some(CloseCode::TOO_SLOW));
        assert!(info.close_code().unwrap().is_retriable());
        assert_eq!(info.close_code().unwrap().number(), 10_413);
    }
    within(producer.when().subscribed()).await;
    let accepted = producer.stats().accepted;
    producer.try_send(100).unwrap();
    // What it left behind, and what came before it was back. It may have been back before the one that
    // waited.
    let mut missed = 0;
    let delivery = loop {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        missed += delivery.skipped_before;
        if delivery.datum == 100 {
            break delivery;
        }
    };
    assert_eq!(delivery.seq, accepted);
    assert!(missed >= 4, "{missed}");
    let mut told = std::iter::from_fn(|| events.try_recv().ok());
    let gaps = |event| matches!(event, ConsumerEvent::Gap { datums: 4.., unknown: false, .. });
    assert!(told.any(gaps), "the gap was told before the datum after it");
    assert_eq!(
        missed + consumer.stats().datums(),
        accepted + 1,
        "every datum was taken or is known to be missing"
    );
    assert_eq!(consumer.stats().skipped(), missed);
    assert!((4..=5).contains(&here.stats().skipped_at_close()), "{here}");
    assert_eq!(consumer.stats().datums() + consumer.stats().skipped(), producer.stats().accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn every_waiting_send_is_served_once_the_stalled_consumer_is_gone() {
    for apart_from_it in [false, true] {
        let nodes = if apart_from_it { apart(2).await } else { vec![alone().await] };
        let (here, there) = (&nodes[0], nodes.last().unwrap());
        for form in 0..5 {
            let (producer, consumer) = stalled(here, there, BackpressurePolicy::PauseUpstream, short()).await;
            let info = consumer.producers().next().unwrap();
            let send = async {
                let mut sinks = Vec::new();
                for n in 0..32 {
                    match form {
                        0 => producer.send(n).await.unwrap(),
                        1 => producer.push(n).await.unwrap(),
                        2 => SinkExt::send(&mut producer.clone(), n).await.unwrap(),
                        3 => {
                            // Hardly polled: the sink itself puts it in when there is room.
                            let mut sink = producer.clone();
                            sink.feed(n).await.unwrap();
                            let _ = poll_once(&mut sink.flush());
                            sinks.push(sink);
                            while producer.stats().accepted < n + 1 {
                                tokio::task::yield_now().await;
                            }
                        }
                        _ => {
                            while producer.try_send(n).is_err() {
                                tokio::task::yield_now().await;
                            }
                        }
                    }
                    if info.close_code().is_some() {
                        return;
                    }
                }
            };
            within(send).await;
            within(info.disconnected()).await;
            assert_eq!(info.close_code(), Some(CloseCode::TOO_SLOW), "form {form}");
            drop((producer, consumer));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn stalled_consumer_is_disconnected_and_others_go_on_under_every_policy() {
    let network = alone().await;
    for policy in BackpressurePolicy::ALL {
        let (producer, consumer) = stalled(&network, &network, policy, GRACE).await;
        let mut good = network.streams().consume::<u64>();
        within(producer.when().subscribed().minimum_of(2)).await;
        within(good.when().online()).await;
        let info = consumer.producers().next().unwrap();
        let mut next = 0;
        let run = async {
            while info.close_code().is_none() {
                if producer.try_send(next).is_ok() {
                    assert_eq!(good.try_recv(), Ok(next), "{policy}");
                    next += 1;
                }
                tokio::task::yield_now().await;
            }
        };
        within(run).await;
        assert_eq!(info.close_code(), Some(CloseCode::TOO_SLOW), "{policy}");
        assert_eq!(good.producers().next().unwrap().close_code(), None);
        assert_eq!(good.stats().skipped(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn datum_read_in_place_survives_the_disconnection_of_its_consumer() {
    let network = alone().await;
    let mut consumer = network.streams().consumer::<u64>().with_backoff(soon()).codec(Plain).build();
    let producer = network
        .streams()
        .producer::<u64>()
        .with_buffer_size(2)
        .disconnect_lagging(short())
        .online_when(|c| c.minimum_of(0))
        .codec(Plain)
        .build()
        .unwrap();
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    let info = consumer.producers().next().unwrap();
    producer.try_send(1).unwrap();
    producer.try_send(2).unwrap();
    let held = consumer.try_recv_ref().unwrap();
    let mut waiting = producer.send(3);
    assert!(poll_once(&mut waiting).0.is_pending());
    within(info.disconnected()).await;
    assert_eq!(info.close_code(), Some(CloseCode::TOO_SLOW));
    assert!(poll_once(&mut waiting).0.is_pending(), "its room is read");
    assert_eq!(*held, 1);
    drop(held);
    within(waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn gap_at_the_end_of_a_closed_stream_is_counted_and_reported() {
    let network = alone().await;
    let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    let build = || {
        network
            .streams()
            .producer::<u64>()
            .with_buffer_size(4)
            .on_full(BackpressurePolicy::DropOldest)
            .codec(Plain)
            .build()
            .unwrap()
    };
    let producer = build();
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    for _ in 0..4 {
        producer.try_send(1).unwrap();
    }
    // Take all the room, and then nothing is put there.
    for _ in 0..4 {
        drop(producer.claim().unwrap());
    }
    let info = consumer.producers().next().unwrap();
    drop(producer);
    within(info.disconnected()).await;
    assert!(consumer.try_recv().is_err());
    assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (0, 4));
    assert_eq!((info.stats().dropped_oldest(), info.stats().lag()), (4, 0));
    // The next life of the stream reports it.
    let again = build();
    within(again.when().subscribed()).await;
    again.try_send(1).unwrap();
    let delivery = within(consumer.recv_delivery()).await.unwrap();
    assert_eq!((delivery.seq, delivery.skipped_before), (0, 4));
}

#[tokio::test(crate = "crate::support::host")]
async fn closed_consumer_gives_nothing_newer_than_its_end_despite_eviction() {
    let network = alone().await;
    for form in 0..2 {
        let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
        let producer = network
            .streams()
            .producer::<u64>()
            .with_buffer_size(4)
            .on_full(BackpressurePolicy::DropOldest)
            .online_when(|c| c.minimum_of(0))
            .codec(Plain)
            .build()
            .unwrap();
        within(producer.when().subscribed()).await;
        within(consumer.when().online()).await;
        for n in 0..4 {
            producer.try_send(n).unwrap();
        }
        assert_eq!(consumer.try_recv(), Ok(0));
        consumer.close();
        for n in 4..20 {
            producer.try_send(n).unwrap();
        }
        match form {
            0 => assert!(consumer.try_recv().is_err(), "what it had was evicted, and this came later"),
            _ => assert!(consumer.try_recv_ref().is_err()),
        }
        assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (1, 3));
        assert_eq!(within(consumer.recv()).await, None);
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn stalled_consumer_stays_connected_without_disconnect_lagging() {
    let network = alone().await;
    let (producer, mut consumer) =
        stalled(&network, &network, BackpressurePolicy::PauseUpstream, false).await;
    for n in 0..4 {
        producer.try_send(n).unwrap();
    }
    assert_eq!(producer.send_timeout(4, GRACE), Err(Error::Full(4)));
    let info = consumer.producers().next().unwrap();
    assert_eq!((info.close_code(), info.stats().lag()), (None, 4));
    assert_eq!(consumer.try_recv(), Ok(0));
    assert_eq!(info.stats().lag(), 3);
}

/// The longest wait of a fast consumer beside one that takes a datum when `takes` returns `true`, under this
/// policy; both are on `there`.
async fn longest_wait(
    here: &Network,
    there: &Network,
    policy: BackpressurePolicy,
    mut takes: impl FnMut() -> bool,
) -> (Duration, Option<CloseCode>) {
    let (producer, mut slow) = stalled(here, there, policy, GRACE).await;
    let mut fast = there.streams().consume::<u64>();
    within(producer.when().subscribed().minimum_of(2)).await;
    within(fast.when().online()).await;
    let info = slow.producers().next().unwrap();
    let started = Instant::now();
    let (mut last, mut longest, mut next) = (started, Duration::ZERO, 0);
    while started.elapsed() < 10 * GRACE {
        if producer.try_send(next).is_ok() {
            next += 1;
        }
        let mut got = tokio::time::timeout(Duration::from_millis(1), fast.recv()).await.is_ok();
        while got {
            got = fast.try_recv().is_ok();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        if takes() {
            let _ = slow.try_recv();
        }
    }
    (longest.max(last.elapsed()), info.close_code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn fast_consumer_waits_for_a_slow_one_for_the_grace_at_most() {
    // What a busy machine adds.
    const LATE: Duration = Duration::from_millis(650);
    for apart_from_it in [false, true] {
        let nodes = if apart_from_it { apart(2).await } else { vec![alone().await] };
        let (here, there) = (&nodes[0], nodes.last().unwrap());
        for policy in BackpressurePolicy::ALL {
            // Under the others the fast one does not wait, and may never be seen with nothing to take.
            let waits = matches!(policy, BackpressurePolicy::PauseUpstream | BackpressurePolicy::Fail);
            let too_slow = Some(CloseCode::TOO_SLOW);
            let (wait, code) = longest_wait(here, there, policy, || false).await;
            assert!(wait <= GRACE + LATE, "{policy}: {wait:?}");
            assert!(code == too_slow || !waits, "{policy}: {code:?}");
            // One datum in nine tenths of the grace.
            let mut took = Instant::now();
            let (wait, code) = longest_wait(here, there, policy, || {
                let due = took.elapsed() >= GRACE * 9 / 10;
                took = if due { Instant::now() } else { took };
                due
            })
            .await;
            assert!(wait <= GRACE + LATE, "{policy}: {wait:?}");
            assert!(code == too_slow || !waits, "{policy}: {code:?}");
        }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn reader_that_answers_into_its_own_full_ring_waits_for_a_limited_time() {
    let network = alone().await;
    let (producer, mut consumer) =
        stalled(&network, &network, BackpressurePolicy::PauseUpstream, short()).await;
    producer.try_send(0).unwrap();
    let (mut missed, mut taken) = (0, 0);
    for _ in 0..8 {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        (missed, taken) = (missed + delivery.skipped_before, taken + 1);
        let started = Instant::now();
        for _ in 0..2 {
            within(producer.send(delivery.datum + 1)).await.unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        within(producer.when().subscribed()).await;
        within(consumer.when().online()).await;
        producer.try_send(delivery.datum + 1).ok();
    }
    assert!(missed > 0, "what the wait cost is reported");
    assert_eq!(consumer.stats().datums(), taken);
}
