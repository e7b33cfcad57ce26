//! How streams end, from either side and from above.

use std::time::Duration;

use corewire::streams::State;
use corewire::streams::consumer::{RecvTimeoutError, TryRecvError};
use corewire::streams::producer::{Error, TryBuildError};

use super::support::{Data1, alone, alone_again, connected, two, within};

#[tokio::test(crate = "crate::support::host")]
async fn accepted_datums_are_delivered_after_the_last_producer_is_dropped() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 8).await;
    let infos: Vec<_> = consumer.producers().collect();
    for n in 0..5 {
        producer.try_send(Data1(n)).unwrap();
    }
    let other = producer.clone();
    drop(producer);
    other.try_send(Data1(5)).unwrap();
    drop(other);
    for n in 0..6 {
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
    within(infos[0].disconnected()).await;
    assert_eq!(infos[0].state(), State::Terminated);
    within(consumer.when().offline()).await;
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty), "another producer may come");

    let again = network.streams().produce::<Data1>();
    within(again.send(Data1(6))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Data1(6)));
}

#[tokio::test(crate = "crate::support::host")]
async fn dropped_consumer_frees_its_room() {
    let network = alone().await;
    let (producer, consumer) = connected::<Data1>(&network, 2).await;
    let mut other = network.streams().consume::<Data1>();
    within(producer.when().subscribed().minimum_of(2)).await;
    producer.try_send(Data1(0)).unwrap();
    producer.try_send(Data1(1)).unwrap();
    assert_eq!(other.try_recv(), Ok(Data1(0)));
    assert_eq!(producer.try_send(Data1(2)), Err(Error::Full(Data1(2))), "the first consumer holds the room");
    let mut waiting = producer.send(Data1(3));
    assert!(super::support::poll_once(&mut waiting).0.is_pending());
    drop(consumer);
    within(waiting).await.unwrap();
    assert_eq!(within(other.recv()).await, Some(Data1(1)));
    assert_eq!(within(other.recv()).await, Some(Data1(3)));
    drop(other);
    alone_again(&producer).await;
    assert!(!producer.is_online());
}

#[tokio::test(crate = "crate::support::host")]
async fn closed_consumer_gives_what_had_arrived_and_then_none() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 8).await;
    producer.try_send(Data1(0)).unwrap();
    producer.try_send(Data1(1)).unwrap();
    consumer.close();
    consumer.close();
    assert!(consumer.is_closed());
    assert!(!consumer.is_online());
    let _ = producer.try_send(Data1(2));
    assert_eq!(within(consumer.recv()).await, Some(Data1(0)));
    assert_eq!(within(consumer.recv()).await, Some(Data1(1)));
    for _ in 0..3 {
        assert_eq!(within(consumer.recv()).await, None);
    }
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(consumer.recv_blocking(), None);
    assert_eq!(consumer.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Closed));
    alone_again(&producer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn shutdown_closes_producers_and_ends_consumers() {
    let (here, there) = two().await;
    let producer = here.streams().produce::<Data1>();
    let mut local = here.streams().consume::<Data1>();
    let mut remote = there.streams().consume::<Data1>();
    within(producer.when().subscribed().minimum_of(2)).await;
    producer.try_send(Data1(7)).unwrap();

    let leaving = tokio::spawn(here.shutdown(Duration::from_secs(20)));
    assert_eq!(within(remote.recv()).await, Some(Data1(7)));
    assert_eq!(within(local.recv()).await, Some(Data1(7)));
    assert_eq!(within(local.recv()).await, None, "its own network is gone");
    within(leaving).await.unwrap().expect("everything was delivered");
    assert_eq!(within(producer.send(Data1(8))).await, Err(Error::closed(Data1(8))));
    within(producer.when().offline()).await;
    within(remote.when().offline()).await;
    assert_eq!(remote.try_recv(), Err(TryRecvError::Empty), "its own network lives");
}

#[tokio::test(crate = "crate::support::host")]
async fn streams_of_a_dropped_network_give_closed_handles_and_errors() {
    let network = alone().await;
    let streams = network.streams().clone();
    drop(network);
    assert!(matches!(streams.producer::<Data1>().try_build(), Err(TryBuildError::Closed)));
    let mut consumer = streams.consume::<Data1>();
    assert!(consumer.is_closed());
    assert_eq!(within(consumer.recv()).await, None);
    within(consumer.when().offline()).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn waiting_sends_fail_when_the_stream_is_closed() {
    let network = alone().await;
    let offline = network.streams().producer::<Data1>().with_stream_id("offline").build().unwrap();
    let (full, _consumer) = connected::<Data1>(&network, 1).await;
    full.try_send(Data1(0)).unwrap();
    let mut waits_for_a_consumer = offline.send(Data1(1));
    let mut waits_for_room = full.send(Data1(2));
    let (first, first_wakes) = super::support::poll_once(&mut waits_for_a_consumer);
    let (second, second_wakes) = super::support::poll_once(&mut waits_for_room);
    assert!(first.is_pending() && second.is_pending());
    offline.close();
    full.close();
    assert!(first_wakes.wakes() >= 1 && second_wakes.wakes() >= 1);
    assert_eq!(within(waits_for_a_consumer).await, Err(Error::closed(Data1(1))));
    assert_eq!(within(waits_for_room).await, Err(Error::closed(Data1(2))));
}

#[tokio::test(crate = "crate::support::host")]
async fn wait_for_a_peer_ends_with_the_network() {
    let network = alone().await;
    let discovery = network.discovery().clone();
    let mut waiting = Box::pin(discovery.wait_for(|_| false));
    assert!(super::support::poll_once(&mut waiting).0.is_pending());
    drop(network);
    assert_eq!(within(waiting).await, None);
    assert_eq!(within(discovery.wait_for(|_| false)).await, None);
}

#[tokio::test(crate = "crate::support::host")]
async fn closed_handle_is_offline_even_with_a_minimum_of_zero() {
    let network = alone().await;
    let streams = network.streams();
    let producer = streams.producer::<Data1>().online_when(|c| c.minimum_of(0)).build().unwrap();
    let second = streams
        .producer::<Data1>()
        .with_stream_id("second")
        .online_when(|c| c.minimum_of(0))
        .build()
        .unwrap();
    let mut consumer = streams.consumer::<Data1>().online_when(|c| c.minimum_of(0)).build();
    let other = streams.consumer::<Data1>().online_when(|c| c.minimum_of(0)).build();
    assert!(producer.is_online() && second.is_online() && consumer.is_online() && other.is_online());
    second.close();
    consumer.close();
    assert!(!second.is_online() && !consumer.is_online());
    // The network ends the other two without a call on their handles.
    within(network.shutdown(Duration::from_secs(1))).await.unwrap();
    within(producer.when().offline()).await;
    within(other.when().offline()).await;
    assert!(!producer.is_online() && !other.is_online());
    assert!(super::support::poll_once(&mut producer.when().online()).0.is_pending());
    assert!(super::support::poll_once(&mut other.when().online()).0.is_pending());
}
