//! No wake-up is lost, whatever is dropped and whenever.
//!
//! Each test takes one public future, polls it `k` times for every `k` up to more than it needs, drops it,
//! and then expects ordinary traffic to go on. A lost wake-up shows as a wait that reaches its limit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use corewire::streams::producer::Error;
use corewire::{Consumer, Producer};
use futures::{SinkExt, StreamExt};

use super::support::{Data1, alone, connected, poll_once, within};

/// More polls than any of these futures takes.
const POLLS: usize = 4;

/// Polls up to `k` times and drops.
fn poll_and_drop<F: Future>(future: F, k: usize) {
    let mut future = Box::pin(future);
    for _ in 0..k {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
    }
}

/// Every future of a producer that may be dropped half way.
type Start = for<'a> fn(&'a mut Producer<Data1>) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

const PRODUCER_FUTURES: &[(&str, Start)] = &[
    ("send", |p| Box::pin(async { drop(p.send(Data1(900)).await) })),
    ("push", |p| Box::pin(async { drop(p.push(Data1(901)).await) })),
    ("SinkExt::send", |p| Box::pin(async { drop(SinkExt::send(p, Data1(902)).await) })),
    ("SinkExt::feed", |p| Box::pin(async { drop(p.feed(Data1(903)).await) })),
    ("SinkExt::flush", |p| Box::pin(async { drop(SinkExt::flush(p).await) })),
    ("online", |p| Box::pin(async { p.when().online().await })),
    ("offline", |p| Box::pin(async { p.when().offline().await })),
    ("subscribed", |p| Box::pin(async { p.when().subscribed().minimum_of(2).await })),
    ("unsubscribed", |p| Box::pin(async { p.when().unsubscribed().await })),
];

/// Every future of a consumer that may be dropped half way.
type Take = for<'a> fn(&'a mut Consumer<Data1>) -> Pin<Box<dyn Future<Output = usize> + 'a>>;

const CONSUMER_FUTURES: &[(&str, Take)] = &[
    ("recv", |c| Box::pin(async { usize::from(c.recv().await.is_some()) })),
    ("recv_delivery", |c| Box::pin(async { usize::from(c.recv_delivery().await.is_some()) })),
    ("next", |c| Box::pin(async { usize::from(c.next().await.is_some()) })),
    ("online", |c| {
        Box::pin(async {
            c.when().online().await;
            0
        })
    }),
    ("unsubscribed", |c| {
        Box::pin(async {
            c.when().unsubscribed().await;
            0
        })
    }),
];

/// Sends and takes until a marked datum arrives, with a sender that has to wait for room on the way.
async fn traffic_goes_on(name: &str, k: usize, producer: &Producer<Data1>, consumer: &mut Consumer<Data1>) {
    let sender = producer.clone();
    let sending = async move {
        for n in 0..8 {
            sender
                .send(Data1(n))
                .await
                .unwrap_or_else(|error| panic!("{name} dropped after {k} polls: {error}"));
        }
    };
    let taking = async {
        let mut next = 0;
        while next < 8 {
            let Data1(n) = consumer.recv().await.expect("the network lives");
            if n < 8 {
                assert_eq!(n, next, "{name} dropped after {k} polls");
                next += 1;
            }
        }
    };
    within(futures::future::join(sending, taking)).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn producer_futures_can_be_dropped_at_any_poll_while_the_ring_is_full() {
    let network = alone().await;
    let (mut producer, mut consumer) = connected::<Data1>(&network, 1).await;
    for (name, start) in PRODUCER_FUTURES {
        for k in 0..POLLS {
            producer.try_send(Data1(100)).unwrap_or_else(|error| panic!("{name} {k}: {error}"));
            poll_and_drop(start(&mut producer), k);
            traffic_goes_on(name, k, &producer.clone(), &mut consumer).await;
            // What a sink kept leaves with the next flush.
            let flushed = within(futures::future::join(SinkExt::flush(&mut producer), async {
                while consumer.try_recv().is_ok() {}
            }));
            flushed.await.0.unwrap();
            while consumer.try_recv().is_ok() {}
        }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn producer_futures_can_be_dropped_at_any_poll_while_offline() {
    let network = alone().await;
    for (name, start) in PRODUCER_FUTURES {
        for k in 0..POLLS {
            let mut producer = network.streams().producer::<Data1>().with_buffer_size(2).build().unwrap();
            poll_and_drop(start(&mut producer), k);
            let mut consumer = network.streams().consume::<Data1>();
            within(producer.when().online()).await;
            traffic_goes_on(name, k, &producer.clone(), &mut consumer).await;
        }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn consumer_futures_can_be_dropped_at_any_poll_and_lose_nothing() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 4).await;
    for (name, take) in CONSUMER_FUTURES {
        for k in 0..POLLS {
            for waiting in 0..2 {
                for n in 0..waiting {
                    producer.try_send(Data1(n)).unwrap();
                }
                let before = consumer.stats().datums();
                poll_and_drop(take(&mut consumer), k);
                let taken = consumer.stats().datums() - before;
                let mut left = waiting - taken;
                while left > 0 {
                    assert!(within(consumer.recv()).await.is_some(), "{name} dropped after {k} polls");
                    left -= 1;
                }
                assert!(consumer.try_recv().is_err());
                traffic_goes_on(name, k, &producer, &mut consumer).await;
            }
        }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn futures_of_a_consumer_without_producers_can_be_dropped_at_any_poll() {
    let network = alone().await;
    for (name, take) in CONSUMER_FUTURES {
        for k in 0..POLLS {
            let mut consumer = network.streams().consume::<Data1>();
            poll_and_drop(take(&mut consumer), k);
            let producer = network.streams().producer::<Data1>().with_buffer_size(2).build().unwrap();
            traffic_goes_on(name, k, &producer, &mut consumer).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_hundred_waiters_are_all_woken() {
    let network = alone().await;
    let producer = network.streams().produce::<Data1>();
    let waiters: Vec<_> = (0..100)
        .map(|n| {
            let (producer, network) = (producer.clone(), network.streams().clone());
            tokio::spawn(async move {
                match n % 4 {
                    0 => producer.when().online().await,
                    1 => producer.when().subscribed().await,
                    2 => producer.send(Data1(n)).await.unwrap(),
                    _ => assert!(network.consume::<Data1>().recv().await.is_some()),
                }
            })
        })
        .collect();
    // One consumer stays, so that what the waiters wait for goes on being true.
    let mut stays = network.streams().consume::<Data1>();
    let stays = tokio::spawn(async move { while stays.recv().await.is_some() {} });
    let pump = tokio::spawn(async move {
        loop {
            if producer.send(Data1(0)).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    for waiter in waiters {
        within(waiter).await.unwrap();
    }
    drop(network);
    within(pump).await.unwrap();
    within(stays).await.unwrap();
}

#[tokio::test(crate = "crate::support::host")]
async fn send_waiting_to_be_online_does_not_block_a_push() {
    let network = alone().await;
    let (producer, consumer) = connected::<Data1>(&network, 1).await;
    producer.try_send(Data1(0)).unwrap();
    let mut patient = producer.send(Data1(1));
    let mut hasty = producer.push(Data1(2));
    assert!(poll_once(&mut patient).0.is_pending());
    let (waits, wakes) = poll_once(&mut hasty);
    assert!(waits.is_pending());
    drop(consumer);
    within(producer.when().offline()).await;
    assert!(poll_once(&mut patient).0.is_pending(), "it waits for consumers");
    assert!(wakes.wakes() > 0, "the next in the queue is woken");
    assert_eq!(within(&mut hasty).await, Err(Error::Offline(Data1(2))));

    // Both futures are still there, and keep no place.
    let mut consumer = network.streams().consume::<Data1>();
    within(producer.when().online()).await;
    producer.try_send(Data1(3)).unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Data1(3)));
    within(patient).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Data1(1)));
}
