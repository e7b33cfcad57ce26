//! Nodes on engines of their own: everything crosses the loopback interface in sealed datagrams.

use corewire::engine::{EngineConfig, ShardLimits};
use corewire::streams::CloseCode;
use corewire::streams::producer::Error;
use corewire::{Network, NetworkId, Reliability};

use super::support::{Data1, alone_again, apart, apart_with_threads, engine, engine_with, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_slow_consumer_stops_its_producer_and_nothing_is_lost() {
    const DATUMS: u64 = 5_000;
    let nodes = apart(2).await;
    let producer = nodes[0].streams().producer::<Data1>().with_buffer_size(16).build().unwrap();
    let mut consumer =
        nodes[1].streams().consumer::<Data1>().with_window_datums(16).with_window_bytes(1024).build();
    within(producer.when().online()).await;
    // The consumer takes nothing: ring and window fill up, then the producer is refused.
    let mut accepted = 0;
    while accepted < 1000 {
        match producer.try_send(Data1(accepted)) {
            Ok(()) => accepted += 1,
            Err(Error::Full(_)) if accepted >= 16 => break,
            Err(Error::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(accepted < 1000, "the producer was never told");
    let sender = tokio::spawn(async move {
        for n in accepted..DATUMS {
            producer.send(Data1(n)).await.unwrap();
        }
        producer
    });
    for n in 0..DATUMS {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        assert_eq!((delivery.datum, delivery.seq, delivery.skipped_before), (Data1(n), n, 0));
    }
    let producer = within(sender).await.unwrap();
    assert_eq!(producer.stats().accepted, DATUMS);
    drop(consumer);
    alone_again(&producer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn large_datums_cross_in_pieces() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().producer::<Vec<u8>>().with_max_datum_bytes(200_000).build().unwrap();
    let mut consumer = nodes[1].streams().consume::<Vec<u8>>();
    within(producer.when().online()).await;
    for len in [0, 1, 1_000, 1_500, 65_536, 199_990] {
        let datum: Vec<u8> = (0..len).map(|n| n as u8).collect();
        within(producer.send(datum.clone())).await.unwrap();
        assert_eq!(within(consumer.recv()).await, Some(datum));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn accepted_datums_arrive_before_the_stream_ends() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().produce::<Data1>();
    let mut consumer = nodes[1].streams().consume::<Data1>();
    within(producer.when().online()).await;
    for n in 0..500 {
        producer.try_send(Data1(n)).unwrap();
    }
    drop(producer);
    for n in 0..500 {
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
    within(consumer.when().offline()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn fire_and_forget_delivers_in_order_with_visible_gaps() {
    let nodes = apart(2).await;
    let producer =
        nodes[0].streams().producer::<Data1>().reliability(Reliability::FireAndForget).build().unwrap();
    let mut consumer = nodes[1].streams().consume::<Data1>();
    within(producer.when().online()).await;
    let sender = tokio::spawn(async move {
        for n in 0..2000 {
            producer.send(Data1(n)).await.unwrap();
        }
        producer
    });
    let mut next = 0;
    while next < 1999 {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        assert_eq!(delivery.seq, next + delivery.skipped_before);
        assert_eq!(delivery.datum, Data1(delivery.seq));
        next = delivery.seq + 1;
        if next + 1 >= 2000 {
            break;
        }
    }
    within(sender).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn network_secret_keeps_out_nodes_without_it() {
    let id = NetworkId::random();
    let build = |secret: Option<[u8; 32]>| async move {
        let builder = Network::builder(id).with_engine(engine());
        let builder = match secret {
            Some(secret) => builder.with_network_secret(secret),
            None => builder,
        };
        builder.build().await.unwrap()
    };
    let secret = corewire::UniqueId::random().to_bytes();
    let (first, second, stranger) = (build(Some(secret)).await, build(Some(secret)).await, build(None).await);
    let producer = first.streams().produce::<Data1>();
    let mut member = second.streams().consume::<Data1>();
    let outside = stranger.streams().consume::<Data1>();
    within(producer.when().online()).await;
    within(producer.send(Data1(1))).await.unwrap();
    assert_eq!(within(member.recv()).await, Some(Data1(1)));
    assert!(!outside.is_online());
    assert_eq!(producer.consumers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn datums_of_every_allowed_size_pass_whatever_window_is_asked_for() {
    const MIB: usize = 1 << 20;
    let nodes = apart(2).await;
    for (size, window) in [(1, 4), (16, 64), (43, 172), (60, 60), (60, 240)] {
        let (bytes, stream) = (size * MIB, format!("{size} and {window}"));
        let mut consumer = nodes[1]
            .streams()
            .consumer::<String>()
            .with_stream_id(stream.as_str())
            .with_window_bytes(window * MIB)
            .build();
        let producer = nodes[0]
            .streams()
            .producer::<String>()
            .with_stream_id(stream.as_str())
            .with_max_datum_bytes(bytes + 16)
            .with_buffer_bytes(bytes + MIB)
            .build()
            .unwrap();
        within(producer.send("x".repeat(bytes))).await.unwrap();
        let datum = within(consumer.recv()).await.expect("a datum");
        assert_eq!(datum.len(), bytes, "{stream} MiB");
    }
    let more = nodes[0].streams().producer::<String>().with_max_datum_bytes(70 * MIB).try_build();
    let error = more.expect_err("it fits no ring").to_string();
    assert!(error.contains("67108862") && error.contains("73400320"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn datum_too_long_for_its_consumer_ends_both_ends_with_the_reason() {
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(engine()).build().await.unwrap();
    let shard_limits = ShardLimits { inbox_bytes: 4 << 20, ..ShardLimits::default() };
    let small = engine_with(EngineConfig { shard_limits, ..EngineConfig::default() });
    let there = Network::builder(id).with_engine(small).build().await.unwrap();
    let consumer = there.streams().consume::<String>();
    let producer = here.streams().producer::<String>().with_max_datum_bytes(3 << 20).build().unwrap();
    within(producer.when().online()).await;
    let at_producer = producer.consumers().next().unwrap();
    within(consumer.when().online()).await;
    let at_consumer = consumer.producers().next().unwrap();
    producer.try_send("x".repeat(3_000_000)).unwrap();
    for end in [at_producer, at_consumer] {
        within(end.disconnected()).await;
        assert_eq!(end.close_code(), Some(CloseCode::TOO_LARGE), "{end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn aborted_stream_is_delivered_and_told_from_one_that_ended() {
    for (reliability, abort, code) in [
        (Reliability::Reliable, true, CloseCode::ABORTED),
        (Reliability::FireAndForget, true, CloseCode::ABORTED),
        (Reliability::Reliable, false, CloseCode::GRACEFUL),
    ] {
        let nodes = apart(2).await;
        let producer = nodes[0].streams().producer::<Data1>().reliability(reliability).build().unwrap();
        let mut far = nodes[1].streams().consume::<Data1>();
        let mut near = nodes[0].streams().consume::<Data1>();
        within(producer.when().subscribed().minimum_of(2)).await;
        within(far.when().online()).await;
        let ends: Vec<_> = producer.consumers().chain(far.producers()).chain(near.producers()).collect();
        assert_eq!(ends.len(), 4);
        for n in 0..500 {
            producer.try_send(Data1(n)).unwrap();
        }
        if abort {
            producer.abort();
            producer.close();
        }
        drop(producer);
        for n in 0..500 {
            assert_eq!(within(near.recv()).await, Some(Data1(n)));
            assert_eq!(within(far.recv()).await, Some(Data1(n)));
        }
        for end in &ends {
            within(end.disconnected()).await;
            assert_eq!(end.close_code(), Some(code), "{end}");
            assert_eq!((end.stats().datums(), end.stats().skipped_at_close()), (500, 0), "{end}");
        }
        let [here, _there] = <[Network; 2]>::try_from(nodes).unwrap();
        within(here.shutdown(std::time::Duration::from_secs(5))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn network_that_leaves_too_early_is_no_end_of_its_streams() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().produce::<Data1>();
    let consumer = nodes[1].streams().consumer::<Data1>().with_window_datums(4).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    let end = consumer.producers().next().unwrap();
    for n in 0..500 {
        producer.try_send(Data1(n)).unwrap();
    }
    let [here, _there] = <[Network; 2]>::try_from(nodes).unwrap();
    within(here.shutdown(std::time::Duration::from_millis(50))).await.unwrap_err();
    within(end.disconnected()).await;
    assert_ne!(end.close_code(), Some(CloseCode::GRACEFUL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn lag_of_a_channel_is_right_while_it_waits_for_credit() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().produce::<Data1>();
    let mut consumer = nodes[1].streams().consumer::<Data1>().with_window_datums(4).build();
    within(producer.when().online()).await;
    let channel = producer.consumers().next().unwrap();
    (0..200).for_each(|n| producer.try_send(Data1(n)).unwrap());
    assert!(channel.stats().lag() >= 196, "{channel}");
    // Enough to be sure that the shard has seen them.
    while channel.stats().blocked() == 0 {
        tokio::task::yield_now().await;
    }
    assert!((196..=200).contains(&channel.stats().lag()), "{channel}");
    for n in 0..200 {
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
    within(producer.flush()).await.unwrap();
    drop(consumer);
    within(channel.disconnected()).await;
    let _ = producer.try_send(Data1(200));
    assert_eq!(channel.stats().lag(), 0, "{channel}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn settings_of_sessions_reach_the_sessions() {
    use corewire::network::SessionSettings;
    use corewire::streams::ConsumerEvent;

    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(engine()).build().await.unwrap();
    let single = SessionSettings::new().with_max_channels(1);
    let there = Network::builder(id).with_engine(engine()).with_session(single).build().await.unwrap();
    let producers = ["one", "two"]
        .map(|stream| here.streams().producer::<Data1>().with_stream_id(stream).build().unwrap());
    let first = there.streams().consumer::<Data1>().with_stream_id("one").build();
    within(first.when().online()).await;
    let second = there.streams().consumer::<Data1>().with_stream_id("two").build();
    let refused = within(second.events().recv()).await.unwrap();
    assert!(matches!(refused, ConsumerEvent::Refused { code: CloseCode::NO_CAPACITY, .. }), "{refused:?}");
    within(producers[0].when().online()).await;
    assert!(!producers[1].is_online());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn channel_between_engines_names_the_address_of_its_other_end() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().produce::<Data1>();
    let consumer = nodes[1].streams().consume::<Data1>();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    let seen = [producer.consumers().next().unwrap(), consumer.producers().next().unwrap()]
        .map(|channel| channel.remote_address().unwrap());
    assert_eq!(seen, [nodes[1].local().addresses()[0], nodes[0].local().addresses()[0]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_window_of_zero_bytes_never_stops_the_producer() {
    use corewire::streams::ConsumerEvent;

    let nodes = apart_with_threads(2).await;
    for reliability in [Reliability::FireAndForget, Reliability::Reliable] {
        let id = format!("{reliability:?}");
        let builder = nodes[0].streams().producer::<[u64; 16]>().with_stream_id(&*id);
        let producer = builder.disconnect_lagging(false).build().unwrap();
        let builder = nodes[1].streams().consumer::<[u64; 16]>().with_stream_id(&*id).with_window_bytes(0);
        let mut consumer = builder.reliability(reliability).build();
        let mut events = consumer.events();
        within(producer.when().online()).await;
        let end = async {
            while let Some(event) = within(events.recv()).await {
                if let ConsumerEvent::Closed { code, .. } = event {
                    return code;
                }
            }
            panic!("the consumer is there");
        };
        let sending = async {
            for n in 0.. {
                within(producer.push([n; 16])).await.unwrap_or_default();
                let enough = reliability == Reliability::FireAndForget && n == 60_000;
                if enough || !producer.is_online() {
                    break;
                }
            }
        };
        if reliability == Reliability::Reliable {
            let (code, ()) = tokio::join!(end, sending);
            assert_eq!(code, CloseCode::TOO_SLOW, "it took nothing, and nothing may be lost");
        } else {
            sending.await;
            assert!(producer.is_online(), "it took nothing, and is not cut off");
            assert!(within(consumer.recv()).await.is_some());
        }
    }
}
