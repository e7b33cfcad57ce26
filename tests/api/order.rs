//! Order: per producer, per sender, and among waiting sends.

use std::collections::BTreeMap;

use corewire::streams::producer::Error;

use super::support::{Data1, alone, connected, poll_once, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn every_consumer_sees_every_datum_in_the_same_order() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 500;
    let network = alone().await;
    let producer = network.streams().producer::<(u64, u64)>().with_buffer_size(16).build().unwrap();
    let consumers: Vec<_> = (0..3).map(|_| network.streams().consume::<(u64, u64)>()).collect();
    within(producer.when().subscribed().minimum_of(3)).await;

    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    producer.send((sender, n)).await.unwrap();
                }
            })
        })
        .collect();
    let takers: Vec<_> = consumers
        .into_iter()
        .map(|mut consumer| {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while seen.len() < (SENDERS * EACH) as usize {
                    seen.push(consumer.recv().await.unwrap());
                }
                seen
            })
        })
        .collect();
    for sender in senders {
        within(sender).await.unwrap();
    }
    let mut orders = Vec::new();
    for taker in takers {
        orders.push(within(taker).await.unwrap());
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "one ring, one order");
    let mut next = BTreeMap::new();
    for (sender, n) in &orders[0] {
        let expected = next.entry(sender).or_insert(0);
        assert_eq!(n, expected, "sender {sender} out of order");
        *expected += 1;
    }
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.offered()), (SENDERS * EACH, SENDERS * EACH));
}

#[tokio::test(crate = "crate::support::host")]
async fn sends_that_wait_for_room_are_served_in_arrival_order() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 1).await;
    producer.try_send(Data1(0)).unwrap();

    let mut waiting: Vec<_> = (1..=5).map(|n| Some(producer.send(Data1(n)))).collect();
    for send in waiting.iter_mut().flatten() {
        assert!(poll_once(send).0.is_pending());
    }
    // The third gives up: its place passes on.
    waiting[2] = None;
    assert_eq!(consumer.try_recv(), Ok(Data1(0)));
    assert_eq!(
        producer.try_send(Data1(9)),
        Err(Error::Full(Data1(9))),
        "a new send queues behind the waiting ones"
    );

    for expected in [1, 2, 4, 5] {
        for send in &mut waiting {
            let Some(future) = send else { continue };
            if let (std::task::Poll::Ready(sent), _) = poll_once(future) {
                sent.unwrap();
                *send = None;
            }
        }
        assert_eq!(consumer.try_recv(), Ok(Data1(expected)));
    }
    assert_eq!(producer.stats().cancelled, 1);
    assert_eq!(producer.stats().offered(), 7);
}

#[tokio::test(crate = "crate::support::host")]
async fn two_producers_are_merged_fairly_and_each_stays_in_order() {
    const EACH: u64 = 300;
    let id = corewire::NetworkId::random();
    let nodes = [corewire::Network::new(id).await.unwrap(), corewire::Network::new(id).await.unwrap()];
    let mut consumer = nodes[0].streams().consume::<Data1>();
    within(consumer.when().offline()).await;
    let producers: Vec<_> = nodes.iter().map(|node| node.streams().produce::<Data1>()).collect();
    within(consumer.when().subscribed().minimum_of(2)).await;
    for producer in &producers {
        within(producer.when().online()).await;
    }
    for n in 0..EACH {
        for producer in &producers {
            producer.try_send(Data1(n)).unwrap();
        }
    }
    let mut next = BTreeMap::new();
    let mut longest_lead = 0;
    for _ in 0..2 * EACH {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        let expected = next.entry(delivery.producer).or_insert(0);
        assert_eq!(delivery.datum, Data1(*expected));
        *expected += 1;
        if next.len() == 2 {
            let mut counts = next.values();
            longest_lead = longest_lead.max(counts.next().unwrap().abs_diff(*counts.next().unwrap()));
        }
    }
    assert!(longest_lead <= 32, "one producer was {longest_lead} datums ahead of the other");
}
