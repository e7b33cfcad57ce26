//! A producer that ends its stream without delivering the rest.

use std::sync::mpsc;
use std::time::Duration;

use corewire::streams::consumer::TryRecvError;
use corewire::streams::producer::Error;
use corewire::streams::{CloseCode, ConsumerEvent, ProducerEvent};
use corewire::{Network, Plain, Reliability};

use super::support::{Data1, alone, apart, connected, poll_once, within};

/// Long enough for a node without anything to deliver.
const DRAIN: Duration = Duration::from_secs(5);

#[tokio::test(crate = "crate::support::host")]
async fn discard_drops_and_counts_what_a_local_consumer_has_not_taken() {
    let network = alone().await;
    let (sink, unwanted) = mpsc::channel();
    let producer = network.streams().producer::<Data1>().with_undelivered_sink(sink).build().unwrap();
    let mut consumer = network.streams().consume::<Data1>();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    let channel = consumer.producers().next().expect("the producer's channel");
    let mut events = producer.events();
    (0..5).for_each(|n| producer.try_send(Data1(n)).unwrap());
    assert_eq!(within(consumer.recv()).await, Some(Data1(0)));
    producer.clone().discard();
    producer.discard();
    assert_eq!(producer.try_send(Data1(5)), Err(Error::closed(Data1(5))));
    let lacking = loop {
        if let ProducerEvent::Undelivered { consumer, datums } = within(events.recv()).await.unwrap() {
            break (consumer, datums);
        }
    };
    assert_eq!(lacking, (*network.local().id(), 4));
    assert_eq!(channel.close_code(), Some(CloseCode::DISCARDED));
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (1, 4));
    assert_eq!((channel.stats().skipped_at_close(), producer.stats().skipped_at_close), (4, 4));
    let error = within(producer.flush()).await.expect_err("the consumer lacks four");
    assert_eq!((error.missing[0].datums, error.timed_out), (4, false));
    assert!(unwanted.try_recv().is_err(), "each had a consumer");
    within(network.shutdown(DRAIN)).await.expect("nothing was to be delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn discard_counts_what_a_consumer_has_not_read_that_leaves_while_reading() {
    let network = alone().await;
    let producer = network.streams().producer::<u64>().with_stream_id("plain").codec(Plain).build().unwrap();
    let mut consumer = network.streams().consumer::<u64>().with_stream_id("plain").codec(Plain).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    let channel = consumer.producers().next().expect("the producer's channel");
    let mut events = producer.events();
    (0..5).for_each(|n| producer.try_send(n).unwrap());
    let read = consumer.try_recv_refs(2, |_| {
        // Read in place, so the channel is over and its cursor stays until this returns.
        producer.clone().discard();
        while channel.close_code().is_none() {
            std::thread::yield_now();
        }
    });
    drop(consumer);
    let missed = loop {
        if let ProducerEvent::Undelivered { datums, .. } = within(events.recv()).await.unwrap() {
            break datums;
        }
    };
    assert_eq!((read, missed), (Ok(2), 3));
    assert_eq!((channel.stats().skipped_at_close(), producer.stats().skipped_at_close), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn discard_tells_a_remote_consumer_exactly_how_much_it_lacks() {
    for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
        let nodes = apart(2).await;
        let producer = nodes[0].streams().producer::<Data1>().reliability(reliability).build().unwrap();
        let mut consumer = nodes[1].streams().consumer::<Data1>().with_window_datums(4).build();
        within(producer.when().online()).await;
        let mut events = consumer.events();
        (0..100).for_each(|n| producer.try_send(Data1(n)).unwrap());
        let mut flushing = producer.flush();
        assert!(poll_once(&mut flushing).0.is_pending());
        assert_eq!(within(consumer.recv()).await, Some(Data1(0)));
        // The clerk is asked in the background.
        while flushing.missing().is_empty() {
            tokio::task::yield_now().await;
        }
        producer.discard();
        let error = within(flushing).await.expect_err("it is dropped");
        let [lacking] = error.missing[..] else { panic!("{error:?}") };
        assert_eq!((lacking.consumer, error.timed_out), (*nodes[1].local().id(), false));
        loop {
            if let ConsumerEvent::Closed { code, .. } = within(events.recv()).await.unwrap() {
                assert_eq!(code, CloseCode::DISCARDED);
                break;
            }
        }
        let mut taken = 1;
        while let Ok(Data1(n)) = consumer.try_recv() {
            assert_eq!(n, taken);
            taken += 1;
        }
        assert!(taken < 100, "its window holds four");
        assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (taken, 100 - taken));
        assert!(lacking.datums >= 100 - taken, "{} of {taken}", lacking.datums);
        assert_eq!(producer.stats().skipped_at_close, lacking.datums);
        let [here, _there] = <[Network; 2]>::try_from(nodes).unwrap();
        within(here.shutdown(DRAIN)).await.expect("nothing was to be delivered");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn discard_gives_waiting_sends_their_datum_back() {
    let network = alone().await;
    let (full, mut consumer) = connected::<Data1>(&network, 1).await;
    full.try_send(Data1(0)).unwrap();
    let mut waiting = full.send(Data1(1));
    assert!(poll_once(&mut waiting).0.is_pending());
    full.discard();
    assert_eq!(within(waiting).await, Err(Error::closed(Data1(1))));
    // A later producer of the stream starts anew.
    let again = network.streams().produce::<Data1>();
    within(again.send(Data1(2))).await.unwrap();
    let mut last = within(consumer.recv_delivery()).await.unwrap();
    if last.datum == Data1(0) {
        last = within(consumer.recv_delivery()).await.unwrap();
    }
    assert_eq!(last.datum, Data1(2));
}
