//! `when()` and the conditions of `online_when`.

use corewire::streams::CloseCode;
use corewire::{Network, NetworkId, Tag, tag};

use super::support::{Data1, alone, apart, poll_once, within};

async fn tagged(id: NetworkId, tags: &[&str]) -> Network {
    Network::builder(id).with_tags(tags).build().await.unwrap()
}

#[tokio::test(crate = "crate::support::host")]
async fn conditions_count_tags_and_predicates() {
    let id = NetworkId::random();
    let here = tagged(id, &[]).await;
    let validator = tagged(id, &["validator"]).await;
    let both = tagged(id, &["validator", "archive"]).await;
    let producer = here.streams().produce::<Data1>();

    let none = producer.when().subscribed();
    assert!(!none.is_condition_met());
    assert!(none == false);
    assert!(producer.when().unsubscribed().is_condition_met());
    within(producer.when().unsubscribed()).await;

    let _first = validator.streams().consume::<Data1>();
    within(producer.when().subscribed().with_tags("validator")).await;
    assert!(!producer.when().subscribed().with_tags(["validator", "archive"]).is_condition_met());
    assert!(producer.when().subscribed().with_tags("archive").unmet().is_condition_met());

    let _second = both.streams().consume::<Data1>();
    within(producer.when().subscribed().with_tags(["validator", "archive"])).await;
    within(producer.when().subscribed().minimum_of(2).with_tags(tag!("validator"))).await;
    assert!(
        !producer.when().subscribed().minimum_of(2).with_tags(vec![Tag::from("archive")]).is_condition_met()
    );
    let name = *both.local().id();
    assert!(producer.when().subscribed().with_predicate(move |peer| *peer.id() == name).is_condition_met());
    assert!(producer.when().subscribed().minimum_of(0).is_condition_met());
    assert!(producer.when().subscribed().minimum_of(3).unmet().is_condition_met());
}

#[tokio::test(crate = "crate::support::host")]
async fn online_when_gates_sending() {
    let id = NetworkId::random();
    let here = tagged(id, &[]).await;
    let validator = tagged(id, &["validator"]).await;
    let producer = here
        .streams()
        .producer::<Data1>()
        .online_when(|c| c.minimum_of(2).with_tags("validator"))
        .build()
        .unwrap();
    let mut first = validator.streams().consume::<Data1>();
    let _other = here.streams().consume::<Data1>();
    within(producer.when().subscribed().minimum_of(2)).await;
    assert!(!producer.is_online(), "only one of the two is a validator");
    let mut sending = producer.send(Data1(1));
    let (waits, wakes) = poll_once(&mut sending);
    assert!(waits.is_pending());

    let second = validator.streams().consume::<Data1>();
    within(producer.when().online()).await;
    assert!(wakes.wakes() >= 1);
    within(sending).await.unwrap();
    assert_eq!(within(first.recv()).await, Some(Data1(1)));

    drop(second);
    within(producer.when().offline()).await;
    assert!(!producer.is_online());
    assert!(producer.try_send(Data1(2)).is_err());
}

#[tokio::test(crate = "crate::support::host")]
async fn minimum_of_zero_is_online_at_once() {
    let network = alone().await;
    let producer = network.streams().producer::<Data1>().online_when(|c| c.minimum_of(0)).build().unwrap();
    assert!(producer.is_online());
    for n in 0..5000 {
        producer.try_send(Data1(n)).expect("without consumers the ring never fills");
    }
    let unproduced = network.streams().consumer::<Data1>().with_stream_id("unproduced");
    let unproduced = unproduced.online_when(|c| c.minimum_of(0)).build();
    assert!(unproduced.is_online() && unproduced.producers().len() == 0);
    let mut consumer = network.streams().consume::<Data1>();
    within(consumer.when().subscribed()).await;
    producer.try_send(Data1(5000)).unwrap();
    assert_eq!(
        within(consumer.recv()).await,
        Some(Data1(5000)),
        "a consumer begins with what is sent after it came"
    );
    producer.close();
    assert!(!producer.is_online(), "a closed producer is not online under any condition");
}

#[tokio::test(crate = "crate::support::host")]
async fn condition_can_be_awaited_again() {
    let network = alone().await;
    let producer = network.streams().produce::<Data1>();
    let mut condition = producer.when().subscribed();
    for _ in 0..3 {
        let consumer = network.streams().consume::<Data1>();
        within(&mut condition).await;
        let (again, _) = poll_once(&mut condition);
        assert!(again.is_pending(), "it held before; it has to stop holding first");
        drop(consumer);
        within(producer.when().unsubscribed()).await;
        assert!(poll_once(&mut condition).0.is_pending());
    }
    let clone = condition.clone();
    let _consumer = network.streams().consume::<Data1>();
    within(clone).await;
    within(condition).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn waiting_condition_sleeps_between_changes() {
    let network = alone().await;
    let producer = network.streams().produce::<Data1>();
    let mut two = producer.when().subscribed().minimum_of(2);
    let (waits, wakes) = poll_once(&mut two);
    assert!(waits.is_pending());
    let _elsewhere = network.streams().producer::<String>().build().unwrap();
    let _unrelated = network.streams().consume::<String>();
    within(_elsewhere.when().online()).await;
    assert_eq!(wakes.wakes(), 0, "other streams are none of its business");
    let _one = network.streams().consume::<Data1>();
    within(producer.when().subscribed()).await;
    assert!(poll_once(&mut two).0.is_pending());
    let _two = network.streams().consume::<Data1>();
    within(two).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn consumers_wait_for_producers_with_the_same_conditions() {
    let id = NetworkId::random();
    let here = tagged(id, &["leader"]).await;
    let there = tagged(id, &[]).await;
    let consumer = there.streams().consume::<Data1>();
    assert!(!consumer.is_online());
    let producer = here.streams().produce::<Data1>();
    within(consumer.when().online()).await;
    within(consumer.when().subscribed().with_tags("leader")).await;
    drop(producer);
    within(consumer.when().unsubscribed()).await;
    within(consumer.when().offline()).await;
}

/// A producer at `here`, whose conditions follow the tags of a consumer at `there`, and the other way round.
async fn conditions_follow(here: &Network, there: &Network) {
    let producer = here.streams().producer::<Data1>().online_when(|c| c.with_tags("leader")).build().unwrap();
    let consumer = there.streams().consume::<Data1>();
    within(producer.when().subscribed()).await;
    assert!(!producer.is_online());
    there.discovery().set_tags(["leader", "fresh"]);
    within(producer.when().online()).await;
    within(producer.when().subscribed().with_predicate(|peer| peer.has_tag("fresh"))).await;
    there.discovery().set_tags("follower");
    within(producer.when().offline()).await;
    within(producer.when().subscribed().with_tags("leader").unmet()).await;

    within(consumer.when().online()).await;
    here.discovery().set_tags("exchange");
    within(consumer.when().subscribed().with_tags("exchange")).await;
    here.discovery().set_tags("retired");
    within(consumer.when().subscribed().with_tags("exchange").unmet()).await;
    let channel = producer.consumers().next().unwrap();
    assert!(channel.is_connected() && !channel.peer().has_tag("leader"), "the entry of its beginning");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn conditions_follow_tags_that_change_between_engines() {
    let nodes = apart(2).await;
    conditions_follow(&nodes[0], &nodes[1]).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn conditions_follow_tags_that_change_within_an_engine() {
    let id = NetworkId::random();
    conditions_follow(&tagged(id, &[]).await, &tagged(id, &[]).await).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn conditions_follow_the_own_tags_of_a_node() {
    let network = alone().await;
    let producer = network.streams().produce::<Data1>();
    let _consumer = network.streams().consume::<Data1>();
    within(producer.when().subscribed()).await;
    network.discovery().set_tags("leader");
    within(producer.when().subscribed().with_tags("leader")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn requirements_follow_tags_that_change() {
    let nodes = apart(2).await;
    let (here, there) = (&nodes[0], &nodes[1]);
    let producer =
        here.streams().producer::<Data1>().require(|peer| peer.has_tag("trusted")).build().unwrap();
    let consumer = there.streams().consumer::<Data1>().require(|peer| !peer.has_tag("retired")).build();
    within(consumer.when().refused()).await;
    there.discovery().set_tags("trusted");
    within(consumer.when().online()).await;
    within(producer.when().subscribed()).await;
    let channel = producer.consumers().next().unwrap();
    there.discovery().set_tags("revoked");
    within(channel.disconnected()).await;
    assert_eq!(channel.close_code(), Some(CloseCode::NOT_ALLOWED));
    within(consumer.when().refused()).await;
    there.discovery().set_tags("trusted");
    within(consumer.when().online()).await;
    here.discovery().set_tags("retired");
    within(consumer.when().refused()).await;
    within(producer.when().unsubscribed()).await;
}
