//! Consumers that choose: criteria, keys, and the undelivered sink.

use std::sync::mpsc;

use corewire::streams::producer::{Error, UnsendableCause};
use corewire::streams::{CloseCode, ConsumerEvent, Criteria, ProducerEvent};
use corewire::{BackpressurePolicy, Consumer, Network, Plain, Producer, Reliability};
use futures::SinkExt;
use serde::{Deserialize, Serialize};

use super::support::{alone, apart, within};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Price {
    symbol: String,
    number: u64,
}

fn price(number: u64) -> Price {
    let symbol = ["BTC/EUR", "BTC/USD", "ETH/EUR", "ETH/USD", "SOL/USD"][(number % 5) as usize];
    Price { symbol: symbol.into(), number }
}

fn by_symbol(network: &Network) -> Producer<Price> {
    network.streams().producer::<Price>().with_key(|price: &Price| price.symbol.clone()).build().unwrap()
}

fn wanting(network: &Network, criteria: Criteria) -> Consumer<Price> {
    network.streams().consumer::<Price>().with_criteria(criteria).build()
}

/// A producer at `here` sends 1,000 prices to consumers at `there` with each kind of criteria.
async fn each_gets_what_it_wants(here: &Network, there: &Network) {
    let producer = by_symbol(here);
    type Wanted = fn(&Price) -> bool;
    let kinds: [(Criteria, Wanted); 6] = [
        (Criteria::key("ETH/EUR"), |price| price.symbol == "ETH/EUR"),
        (Criteria::keys(["BTC/EUR", "SOL/USD"]), |price| ["BTC/EUR", "SOL/USD"].contains(&&*price.symbol)),
        (Criteria::prefix("BTC/"), |price| price.symbol.starts_with("BTC/")),
        (Criteria::range("BTC/USD".to_string().."ETH/USD".to_string()), |price| {
            ["BTC/USD", "ETH/EUR"].contains(&&*price.symbol)
        }),
        (Criteria::every(10), |price| price.number % 10 == 0),
        (Criteria::prefix("ETH/").and_every(2), |price| {
            price.symbol.starts_with("ETH/") && price.number % 2 == 0
        }),
    ];
    let mut consumers: Vec<_> =
        kinds.iter().map(|(criteria, wanted)| (wanting(there, criteria.clone()), wanted)).collect();
    let mut all = there.streams().consume::<Price>();
    within(producer.when().subscribed().minimum_of(consumers.len() + 1)).await;
    let sender = {
        let producer = producer.clone();
        tokio::spawn(async move {
            for number in 0..1_000 {
                within(producer.send(price(number))).await.unwrap();
            }
        })
    };
    for number in 0..1_000 {
        assert_eq!(within(all.recv()).await, Some(price(number)));
    }
    sender.await.unwrap();
    for (consumer, wanted) in &mut consumers {
        let expected: Vec<Price> = (0..1_000).map(price).filter(|price| wanted(price)).collect();
        for price in &expected {
            let delivery = within(consumer.recv_delivery()).await.unwrap();
            assert_eq!((&delivery.datum, delivery.seq), (price, price.number));
            assert_eq!((delivery.skipped_before, delivery.restarted), (0, false), "nothing is missing");
        }
    }
    // A channel that has ended is not listed any more.
    let channels: Vec<_> =
        consumers.iter().map(|(consumer, _)| consumer.producers().next().expect("its producer")).collect();
    drop(producer);
    for ((mut consumer, wanted), channel) in consumers.into_iter().zip(channels) {
        let ended = within(channel.disconnected());
        tokio::join!(ended, async {
            while channel.is_connected() {
                assert!(consumer.try_recv().is_err());
                tokio::task::yield_now().await;
            }
        });
        assert!(consumer.try_recv().is_err());
        let expected = (0..1_000).filter(|number| wanted(&price(*number))).count() as u64;
        let stats = consumer.stats();
        assert_eq!((stats.datums(), stats.skipped(), stats.restarts()), (expected, 0, 0), "{stats}");
        assert_eq!(stats.filtered(), 1_000 - expected, "{stats}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn criteria_choose_within_an_engine() {
    let network = alone().await;
    each_gets_what_it_wants(&network, &network).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn criteria_choose_between_engines() {
    let nodes = apart(2).await;
    each_gets_what_it_wants(&nodes[0], &nodes[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn both_ends_count_what_was_filtered() {
    let nodes = apart(2).await;
    let producer = by_symbol(&nodes[0]);
    let mut consumer = wanting(&nodes[1], Criteria::key("SOL/USD"));
    within(producer.when().online()).await;
    for number in 0..50 {
        within(producer.send(price(number))).await.unwrap();
    }
    for _ in 0..10 {
        assert_eq!(within(consumer.recv()).await.unwrap().symbol, "SOL/USD");
    }
    within(producer.flush()).await.unwrap();
    let here = producer.consumers().next().unwrap();
    let there = consumer.producers().next().unwrap();
    while here.stats().filtered() < 40 || there.stats().filtered() < 40 {
        tokio::task::yield_now().await;
    }
    assert_eq!((here.stats().datums(), here.stats().skipped()), (10, 0));
    assert_eq!((there.stats().datums(), there.stats().skipped(), consumer.stats().filtered()), (10, 0, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn fire_and_forget_streams_can_be_chosen_from() {
    let nodes = apart(2).await;
    let builder = nodes[0].streams().producer::<u64>().with_key(|number| *number % 3);
    let producer = builder.reliability(Reliability::FireAndForget).build().unwrap();
    let mut consumer = nodes[1].streams().consumer::<u64>().with_criteria(Criteria::key(1)).build();
    within(producer.when().online()).await;
    for number in 0..30 {
        within(producer.send(number)).await.unwrap();
    }
    for expected in (1..30).step_by(3) {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        assert_eq!((delivery.datum, delivery.skipped_before), (expected, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn criteria_for_other_keys_are_refused() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().producer::<u64>().with_key(|number| *number).build().unwrap();
    let mut produced = producer.events();
    for node in &nodes {
        let consumer = node.streams().consumer::<u64>().with_criteria(Criteria::key("seven")).build();
        let mut consumed = consumer.events();
        within(consumer.when().refused()).await;
        let refused = within(consumed.recv()).await.unwrap();
        let code = CloseCode::CRITERIA_MISMATCH;
        assert!(
            matches!(refused, ConsumerEvent::Refused { code: why, retries: false, .. } if why == code),
            "{refused:?}"
        );
        let refused = within(produced.recv()).await.unwrap();
        assert!(matches!(refused, ProducerEvent::Refused { code: why, .. } if why == code), "{refused:?}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn every_way_of_sending_gives_the_key() {
    let network = alone().await;
    let stream = || network.streams().producer::<u64>().codec(Plain).with_stream_id("ways");
    let mut producer = stream().with_key(|number| *number % 2).build().unwrap();
    let builder = network.streams().consumer::<u64>().codec(Plain).with_stream_id("ways");
    let mut consumer = builder.with_criteria(Criteria::key(1)).build();
    within(producer.when().online()).await;
    producer.try_send(1).unwrap();
    within(producer.send(2)).await.unwrap();
    within(producer.push(3)).await.unwrap();
    within(producer.send_many(&[4, 5, 6])).await.unwrap();
    producer.try_send_many(&[7, 8]).unwrap();
    within(SinkExt::send(&mut producer, 9)).await.unwrap();
    let claim = producer.claim().map(|_| ()).unwrap_err();
    let Error::Closed(refused) = claim else { panic!("{claim:?}") };
    assert!(matches!(refused.cause(), UnsendableCause::Encoding(_)), "{refused:?}");
    assert!(producer.claim_many(3).is_err());
    assert_eq!(consumer.try_recv(), Ok(1));
    assert_eq!(consumer.try_recv_ref().map(|datum| *datum), Ok(3));
    let mut rest = Vec::new();
    assert_eq!(consumer.try_recv_refs(2, |datum| rest.push(*datum)), Ok(1));
    while consumer.try_recv_many(&mut rest, 2).is_ok() {}
    assert_eq!(rest, [5, 7, 9]);
    assert_eq!((consumer.stats().bytes(), consumer.stats().filtered()), (5 * 8, 4));
}

#[tokio::test(crate = "crate::support::host")]
async fn keys_of_a_full_stream_survive_the_policies() {
    let network = alone().await;
    for policy in [BackpressurePolicy::DropOldest, BackpressurePolicy::PauseUpstream] {
        let builder = network.streams().producer::<Price>().with_stream_id(policy.to_string());
        let builder = builder.with_key(|price: &Price| price.symbol.clone()).with_buffer_size(5);
        let producer = builder.on_full(policy).build().unwrap();
        let builder = network.streams().consumer::<Price>().with_stream_id(policy.to_string());
        let mut consumer = builder.with_criteria(Criteria::key("ETH/EUR")).build();
        within(producer.when().online()).await;
        let sending = async {
            for number in 0..20 {
                within(producer.send(price(number))).await.unwrap();
            }
        };
        let mut seen = Vec::new();
        let receiving = async {
            while seen.last() != Some(&17) {
                seen.push(within(consumer.recv()).await.unwrap().number);
            }
        };
        tokio::join!(sending, receiving);
        assert!(seen.iter().all(|number| number % 5 == 2), "{policy}: {seen:?}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_key_that_is_too_long_or_panics_refuses_the_datum() {
    let network = alone().await;
    let builder = network.streams().producer::<String>().with_key(|text: &String| {
        assert!(text != "panic", "as the test wants");
        text.clone()
    });
    let producer = builder.online_when(|c| c.minimum_of(0)).build().unwrap();
    for text in ["panic".to_string(), "x".repeat(65)] {
        let Err(Error::Closed(refused)) = producer.try_send(text) else { panic!("it has no key") };
        assert!(refused.to_string().contains("with_key"), "{refused}");
    }
    producer.try_send("x".repeat(64)).unwrap();
    assert_eq!((producer.stats().unencodable, producer.stats().accepted), (2, 1));
}

#[tokio::test(crate = "crate::support::host")]
async fn the_longest_datum_is_that_without_its_key() {
    let network = alone().await;
    let builder = network.streams().producer::<Vec<u8>>().with_key(|bytes| bytes.len() as u64);
    let producer = builder.with_max_datum_bytes(100).online_when(|c| c.minimum_of(0)).build().unwrap();
    producer.try_send(vec![1; 99]).unwrap();
    let Err(Error::Closed(refused)) = producer.try_send(vec![1; 100]) else { panic!("101 bytes") };
    assert_eq!(*refused.cause(), UnsendableCause::TooLarge(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn what_no_consumer_wants_goes_to_the_undelivered_sink() {
    let nodes = apart(2).await;
    let (sender, mut unsent) = tokio::sync::mpsc::unbounded_channel();
    let builder = nodes[0].streams().producer::<Price>().with_key(|price: &Price| price.symbol.clone());
    let builder = builder.online_when(|c| c.minimum_of(0)).with_undelivered_sink(sender);
    let producer = builder.build().unwrap();
    producer.try_send(price(0)).unwrap();
    assert_eq!(unsent.try_recv(), Ok(price(0)), "there is no consumer");
    let mut far = wanting(&nodes[1], Criteria::prefix("ETH/"));
    let _near = wanting(&nodes[0], Criteria::key("SOL/USD"));
    within(producer.when().subscribed().minimum_of(2)).await;
    for number in 5..10 {
        within(producer.send(price(number))).await.unwrap();
    }
    assert_eq!((unsent.try_recv(), unsent.try_recv()), (Ok(price(5)), Ok(price(6))));
    assert!(unsent.try_recv().is_err());
    assert_eq!(within(far.recv()).await, Some(price(7)));
    assert_eq!((producer.stats().undelivered, producer.stats().accepted), (3, 6));
    drop(unsent);
    within(producer.send(price(10))).await.unwrap();
    assert_eq!(producer.stats().undelivered_lost, 1, "the sink is gone");
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_may_be_any_sender() {
    let network = alone().await;
    let stream = |id| {
        let builder = network.streams().producer::<u64>().codec(Plain).with_stream_id(id);
        builder.online_when(|c| c.minimum_of(0))
    };
    let (sender, unbounded) = mpsc::channel();
    let first = stream("std").with_undelivered_sink(sender).build().unwrap();
    first.try_send(1).unwrap();
    first.try_send_many(&[2, 3]).unwrap();
    within(first.send_many(&[4])).await.unwrap();
    assert_eq!(unbounded.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);

    let (sender, bounded) = mpsc::sync_channel(1);
    let second = stream("sync").with_undelivered_sink(sender).build().unwrap();
    second.try_send(1).unwrap();
    second.try_send(2).unwrap();
    assert_eq!(bounded.try_iter().collect::<Vec<_>>(), [1]);
    assert_eq!((second.stats().undelivered, second.stats().undelivered_lost), (1, 1));

    let (sender, mut tokio) = tokio::sync::mpsc::channel(1);
    let third = stream("tokio").with_undelivered_sink(sender).build().unwrap();
    third.try_send(1).unwrap();
    third.try_send(2).unwrap();
    assert_eq!((tokio.try_recv().ok(), tokio.try_recv().ok()), (Some(1), None));

    let (sender, called) = mpsc::channel();
    let call = move |number: u64| {
        assert!(number != 2, "as the test wants");
        sender.send(number).unwrap();
    };
    let fourth = stream("function").with_undelivered_sink(call).build().unwrap();
    fourth.try_send(1).unwrap();
    fourth.try_send(2).unwrap();
    assert_eq!(called.try_iter().collect::<Vec<_>>(), [1]);
    assert_eq!((fourth.stats().undelivered, fourth.stats().undelivered_lost), (1, 1));
}
