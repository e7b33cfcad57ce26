//! The events of handles: what happened to their channels.

use std::time::Duration;

use corewire::streams::{CloseCode, ConsumerEvent, Events, ExponentialBackoffBuilder, ProducerEvent};

use serde::{Deserialize, Deserializer, Serialize};

use super::support::{Data1, alone, apart, within};

/// An event that only tells that the machine is slow is passed over.
trait ToldEvent: Clone + Send + 'static {
    fn is_of_silence(&self) -> bool;
}

impl ToldEvent for ConsumerEvent {
    fn is_of_silence(&self) -> bool {
        matches!(self, Self::Suspect { .. } | Self::Recovered { .. })
    }
}

impl ToldEvent for ProducerEvent {
    fn is_of_silence(&self) -> bool {
        matches!(self, Self::Suspect { .. } | Self::Recovered { .. })
    }
}

async fn next<E: ToldEvent>(events: &mut Events<E>) -> E {
    loop {
        let event = within(events.recv()).await.expect("the handle is alive");
        if !event.is_of_silence() {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn both_ends_are_told_when_a_channel_begins_and_ends() {
    let nodes = apart(2).await;
    let consumer = nodes[1].streams().consume::<Data1>();
    let mut consumed = consumer.events();
    let producer = nodes[0].streams().produce::<Data1>();
    let mut produced = producer.events();
    let (consumer_id, producer_id) = (*nodes[1].local().id(), *nodes[0].local().id());
    match (next(&mut produced).await, next(&mut consumed).await) {
        (ProducerEvent::Connected { channel: at_producer }, ConsumerEvent::Connected { channel }) => {
            assert_eq!((*at_producer.consumer_id(), *channel.producer_id()), (consumer_id, producer_id));
        }
        other => panic!("{other:?}"),
    }
    producer.abort();
    match (next(&mut produced).await, next(&mut consumed).await) {
        (
            ProducerEvent::Closed { code, resumable: false, .. },
            ConsumerEvent::Closed { code: seen, channel, .. },
        ) => {
            assert_eq!((code, seen), (CloseCode::ABORTED, CloseCode::ABORTED));
            assert_eq!(channel.close_code(), Some(CloseCode::ABORTED));
        }
        other => panic!("{other:?}"),
    }
    drop(producer);
    assert!(within(produced.recv()).await.is_none(), "the producer and its channels are gone");
    drop(consumer);
    while within(consumed.recv()).await.is_some() {}
    assert_eq!(consumed.dropped(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn both_ends_are_told_of_a_refusal() {
    let nodes = apart(2).await;
    let consumer = nodes[1].streams().consume::<Data1>();
    let mut consumed = consumer.events();
    let producer = nodes[0].streams().producer::<Data1>().require(|_| false).build().unwrap();
    let mut produced = producer.events();
    let refused = next(&mut consumed).await;
    assert!(
        matches!(refused, ConsumerEvent::Refused { producer, code: CloseCode::NOT_ALLOWED, retries: false, .. }
            if producer == *nodes[0].local().id()),
        "{refused:?}"
    );
    let refused = next(&mut produced).await;
    assert!(
        matches!(refused, ProducerEvent::Refused { consumer, code: CloseCode::NOT_ALLOWED, retries: false, .. }
            if consumer == *nodes[1].local().id()),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn consumer_is_told_that_it_gave_a_producer_up() {
    let network = alone().await;
    let brief = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(1))
        .with_max_elapsed_time(Some(Duration::from_millis(5)))
        .build();
    let consumer = network.streams().consumer::<Data1>().with_backoff(brief).build();
    let mut events = consumer.events();
    let _full = network.streams().producer::<Data1>().with_max_consumers(0).build().unwrap();
    // Each pause is a millisecond at least.
    for _ in 0..12 {
        match next(&mut events).await {
            ConsumerEvent::Refused { code: CloseCode::NO_CAPACITY, .. } => {}
            ConsumerEvent::GaveUp { producer } => return assert_eq!(producer, *network.local().id()),
            other => panic!("{other:?}"),
        }
    }
    panic!("it is tried on and on");
}

/// Decodes only even numbers.
#[derive(Serialize)]
struct Even(u64);

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if number % 2 == 0 { Ok(Self(number)) } else { Err(serde::de::Error::custom("odd")) }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn records_that_do_not_decode_are_told() {
    let network = alone().await;
    let streams = network.streams();
    let mut consumer = streams.consume::<Even>();
    let mut events = consumer.events();
    let producer = streams.produce::<Even>();
    within(producer.when().online()).await;
    for number in [3, 4, 5, 7] {
        producer.try_send(Even(number)).unwrap();
    }
    assert_eq!(within(consumer.recv()).await.map(|even| even.0), Some(4));
    let mut rest = Vec::new();
    assert!(consumer.try_recv_many(&mut rest, 8).is_err());
    let mut undecodable = 0;
    while let Ok(event) = events.try_recv() {
        if let ConsumerEvent::Undecodable { producer, datums } = event {
            assert_eq!(producer, *network.local().id());
            undecodable += datums;
        }
    }
    assert_eq!((undecodable, consumer.stats().undecodable()), (3, 3));
}
