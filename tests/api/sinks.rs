//! A producer as a `futures::Sink`, and a consumer as a `futures::Stream`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use corewire::streams::producer::Error;
use corewire::{BackpressurePolicy, Plain, Producer};
use futures::{Sink, SinkExt, StreamExt, stream};

use super::support::{Data1, alone, connected, poll_once, within};

#[tokio::test(crate = "crate::support::host")]
async fn a_stream_forwards_into_a_producer() {
    let network = alone().await;
    let (producer, consumer) = connected::<Data1>(&network, 4).await;
    let forward = stream::iter(0..1000).map(|n| Ok(Data1(n))).forward(producer);
    let collect = consumer.take(1000).collect::<Vec<_>>();
    let (sent, taken) = within(futures::future::join(forward, collect)).await;
    sent.unwrap();
    assert_eq!(taken, (0..1000).map(Data1).collect::<Vec<_>>());
}

#[tokio::test(crate = "crate::support::host")]
async fn sink_and_handle_sends_mix() {
    let network = alone().await;
    let (mut producer, mut consumer) = connected::<Data1>(&network, 4).await;
    within(producer.send(Data1(1))).await.unwrap();
    within(SinkExt::send(&mut producer, Data1(2))).await.unwrap();
    within(producer.feed(Data1(3))).await.unwrap();
    within(SinkExt::flush(&mut producer)).await.unwrap();
    for n in 1..=3 {
        assert_eq!(within(consumer.next()).await, Some(Data1(n)));
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_waits_until_the_producer_is_online() {
    let network = alone().await;
    let mut producer = network.streams().produce::<Data1>();
    let mut sending = Box::pin(SinkExt::send(&mut producer, Data1(1)));
    let (waits, wakes) = poll_once(&mut sending);
    assert!(waits.is_pending());
    let mut consumer = network.streams().consume::<Data1>();
    within(sending).await.unwrap();
    assert!(wakes.wakes() <= 2, "it sleeps while it waits");
    assert_eq!(within(consumer.recv()).await, Some(Data1(1)));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_keeps_its_datum_when_its_future_is_dropped() {
    let network = alone().await;
    let (mut producer, mut consumer) = connected::<Data1>(&network, 1).await;
    within(SinkExt::send(&mut producer, Data1(0))).await.unwrap();
    let mut waiting = Box::pin(SinkExt::send(&mut producer, Data1(1)));
    assert!(poll_once(&mut waiting).0.is_pending());
    drop(waiting);
    // The sink took the datum: dropping the future does not withdraw it.
    assert_eq!(consumer.try_recv(), Ok(Data1(0)));
    within(SinkExt::flush(&mut producer)).await.unwrap();
    assert_eq!(consumer.try_recv(), Ok(Data1(1)));
    assert_eq!(producer.stats().accepted, 2);
    assert_eq!(producer.stats().offered(), 2);
}

#[tokio::test(crate = "crate::support::host")]
async fn a_dropped_handle_counts_its_queued_datum_as_cancelled() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 1).await;
    let mut other = producer.clone();
    producer.try_send(Data1(0)).unwrap();
    within(other.feed(Data1(1))).await.unwrap();
    drop(other);
    assert_eq!(consumer.try_recv(), Ok(Data1(0)));
    producer.try_send(Data1(2)).expect("the place in the queue is free again");
    assert_eq!((producer.stats().cancelled, producer.stats().offered()), (1, 3));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_under_fail_refuses_at_once() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Data1>();
    let mut producer = network
        .streams()
        .producer::<Data1>()
        .with_buffer_size(1)
        .on_full(BackpressurePolicy::Fail)
        .build()
        .unwrap();
    within(SinkExt::send(&mut producer, Data1(0))).await.unwrap();
    assert_eq!(within(SinkExt::send(&mut producer, Data1(1))).await, Err(Error::Full(Data1(1))));
    assert_eq!(within(consumer.recv()).await, Some(Data1(0)));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_degrades_each_datum_once() {
    let network = alone().await;
    let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    let runs = Arc::new(AtomicUsize::new(0));
    let counts = runs.clone();
    let mut producer = network
        .streams()
        .producer::<u64>()
        .codec(Plain)
        .with_buffer_size(1)
        .on_full(BackpressurePolicy::DegradeQuality)
        .degrader(move |datum| {
            counts.fetch_add(1, Ordering::SeqCst);
            datum / 2
        })
        .build()
        .unwrap();
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    producer.try_send(1).unwrap();
    let held = within(consumer.recv_ref()).await.unwrap();
    // The pinned datum refuses every retry.
    let outcome = within(SinkExt::send(&mut producer, 100)).await;
    assert_eq!(outcome, Err(Error::Full(100)));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    drop(held);
    producer.try_send(2).unwrap();
    within(SinkExt::send(&mut producer, 100)).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(within(consumer.recv()).await, Some(50));
}

#[tokio::test(crate = "crate::support::host")]
async fn closing_a_sink_closes_only_its_handle() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 4).await;
    let mut sink = producer.clone();
    within(sink.feed(Data1(0))).await.unwrap();
    within(SinkExt::close(&mut sink)).await.unwrap();
    assert_eq!(within(SinkExt::send(&mut sink, Data1(1))).await, Err(Error::closed(Data1(1))));
    producer.try_send(Data1(2)).unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Data1(0)));
    assert_eq!(within(consumer.recv()).await, Some(Data1(2)));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_of_a_closed_stream_gives_its_datum_back() {
    let network = alone().await;
    let mut producer = network.streams().produce::<Data1>();
    producer.close();
    assert_eq!(within(SinkExt::send(&mut producer, Data1(1))).await, Err(Error::closed(Data1(1))));
}

#[test]
fn handles_are_send_sync_and_unpin() {
    fn sends<T: Send + Unpin + 'static>() {}
    fn shares<T: Sync>() {}
    fn is_sink<T: Sink<Data1>>() {}
    sends::<Producer<Data1>>();
    shares::<Producer<Data1>>();
    shares::<Producer<std::cell::Cell<u8>>>();
    is_sink::<Producer<Data1>>();
    sends::<corewire::Consumer<Data1>>();
    sends::<Pin<Box<Producer<Data1>>>>();
    sends::<corewire::Network>();
    shares::<corewire::Network>();
}

#[tokio::test(crate = "crate::support::host")]
async fn an_unpolled_sink_does_not_stop_the_queue() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 1).await;
    producer.try_send(Data1(0)).unwrap();
    let mut forgotten: Vec<_> = (1..=3).map(|_| producer.clone()).collect();
    for (sink, n) in forgotten.iter_mut().zip(1..) {
        let mut waiting = Box::pin(SinkExt::send(sink, Data1(n)));
        assert!(poll_once(&mut waiting).0.is_pending());
    }
    let mut last = producer.send(Data1(4));
    assert!(poll_once(&mut last).0.is_pending());
    // The three sinks are not polled; their datums enter in order all the same.
    for n in 0..=3 {
        assert_eq!(consumer.try_recv(), Ok(Data1(n)));
    }
    within(last).await.unwrap();
    assert_eq!(consumer.try_recv(), Ok(Data1(4)));
    assert_eq!(producer.stats().accepted, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_thousand_queued_sinks_are_served_on_a_shallow_stack() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 1000).await;
    for n in 0..1000 {
        producer.try_send(Data1(n)).unwrap();
    }
    let mut sinks: Vec<_> = (0..1000).map(|_| producer.clone()).collect();
    for (sink, n) in sinks.iter_mut().zip(1000..) {
        within(sink.feed(Data1(n))).await.unwrap();
    }
    let (given_up, kept) = sinks.split_at_mut(100);
    for sink in given_up {
        *sink = producer.clone();
    }
    // All the room at once.
    for n in 0..1000 {
        assert_eq!(consumer.try_recv(), Ok(Data1(n)));
    }
    for sink in kept {
        within(SinkExt::flush(sink)).await.unwrap();
    }
    for n in 1100..2000 {
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.cancelled, stats.offered()), (1900, 100, 2000));
}

#[tokio::test(crate = "crate::support::host")]
async fn an_unseen_refusal_of_a_queued_datum_is_counted_once() {
    let network = alone().await;
    let (producer, _consumer) = connected::<Data1>(&network, 1).await;
    let mut sink = producer.clone();
    producer.try_send(Data1(0)).unwrap();
    within(sink.feed(Data1(1))).await.unwrap();
    producer.close();
    drop(sink);
    assert_eq!(producer.stats().offered(), 2);
}

/// Drops a handle when it is woken.
struct LetsGo(Mutex<Option<Producer<Data1>>>);

impl Wake for LetsGo {
    fn wake(self: Arc<Self>) {
        let handle = self.0.lock().unwrap().take();
        drop(handle);
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_handle_dropped_during_its_put_counts_its_datum_once() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 1).await;
    let mut sink = producer.clone();
    producer.try_send(Data1(0)).unwrap();
    within(sink.feed(Data1(1))).await.unwrap();
    // The next in the queue is woken while the first one is served.
    let waker = Waker::from(Arc::new(LetsGo(Mutex::new(Some(sink)))));
    let mut next = producer.send(Data1(2));
    assert!(Pin::new(&mut next).poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(consumer.try_recv(), Ok(Data1(0)));
    drop(next);
    let stats = producer.stats();
    assert_eq!((stats.accepted + stats.cancelled, stats.offered()), (3, 3), "{stats}");
}
