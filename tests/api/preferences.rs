//! Consumers that take from one producer at a time. Measured paths are tested in virtual time, in the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corewire::streams::consumer::Preference;
use corewire::streams::{CloseCode, ConsumerEvent};
use corewire::{Consumer, Network, NetworkId, PeerId, Producer};

use super::support::{Data1, apart, within};

/// Prefers the producer with this tag.
fn tagged(tag: &'static str) -> Preference {
    Preference::by(move |candidate| Some(if candidate.peer().has_tag(tag) { 0 } else { 10 }))
}

/// Whether the consumer's one channel is from this peer.
fn takes_from(consumer: &Consumer<Data1>, peer: &PeerId) -> bool {
    let connected: Vec<_> = consumer.producers().filter(|channel| channel.is_connected()).collect();
    connected.len() == 1 && connected[0].producer_id() == peer
}

/// Sends a datum of the next number.
async fn send(producer: &Producer<Data1>, sent: &mut u64) {
    within(producer.send(Data1(*sent))).await.unwrap();
    *sent += 1;
}

/// The preference moves from the first node to the second and back.
async fn assert_moves(nodes: &[Network]) {
    nodes[0].discovery().set_tags("best");
    let produce = |node: &Network| {
        let builder = node.streams().producer::<Data1>().online_when(|c| c.minimum_of(0));
        builder.build().unwrap()
    };
    let (one, other) = (produce(&nodes[0]), produce(&nodes[1]));
    let [first, second] = [0, 1].map(|at| *nodes[at].local().id());
    let preference = tagged("best").with_hold(Duration::ZERO);
    let mut consumer = nodes[2].streams().consumer::<Data1>().prefer(preference).build();
    let mut events = consumer.events();
    let settle = async |consumer: &Consumer<Data1>, peer: &PeerId| {
        within(async {
            while !takes_from(consumer, peer) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    settle(&consumer, &first).await;
    let mut sent = 0;
    for _ in 0..10 {
        send(&one, &mut sent).await;
    }
    let start = within(consumer.recv_delivery()).await.unwrap();
    assert_eq!((start.datum, start.skipped_before, start.producer), (Data1(0), 0, first));
    within(one.flush()).await.unwrap();

    nodes[0].discovery().set_tags([""; 0]);
    nodes[1].discovery().set_tags("best");
    settle(&consumer, &second).await;
    let mut elsewhere = 0;
    send(&other, &mut elsewhere).await;
    for _ in 0..5 {
        send(&one, &mut sent).await;
    }
    // What had arrived comes first, and what was on its way when the consumer moved. A local consumer loses
    // what it has not read of the ring.
    let mut next = 1;
    loop {
        let delivery = within(consumer.recv_delivery()).await.unwrap();
        if delivery.producer == second {
            assert_eq!((delivery.datum, delivery.skipped_before), (Data1(0), 0));
            break;
        }
        assert_eq!((delivery.datum, delivery.skipped_before), (Data1(next), 0));
        next += 1;
    }

    nodes[1].discovery().set_tags([""; 0]);
    nodes[0].discovery().set_tags("best");
    settle(&consumer, &first).await;
    send(&one, &mut sent).await;
    let back = within(consumer.recv_delivery()).await.unwrap();
    assert_eq!((back.datum, back.producer), (Data1(15), first));
    assert_eq!((back.skipped_before, back.restarted), (15 - next, false), "what was sent meanwhile");
    assert_eq!(consumer.stats().skipped(), 15 - next);
    // Each move has ended a channel. The last event may come after the datums of the next channel.
    let mut moves = 0;
    while moves < 2 {
        if let ConsumerEvent::Closed { code, retries, .. } = within(events.recv()).await.unwrap() {
            assert!(retries);
            moves += usize::from(code == CloseCode::NOT_PREFERRED);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_consumer_moves_between_engines_and_is_told_the_exact_gap() {
    let nodes = apart(3).await;
    assert_moves(&nodes).await;
}

#[tokio::test]
async fn a_consumer_moves_within_an_engine_and_is_told_the_exact_gap() {
    let id = NetworkId::random();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Network::new(id).await.unwrap());
    }
    assert_moves(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_producer_is_kept_for_the_time_that_was_asked_for() {
    let nodes = apart(3).await;
    nodes[0].discovery().set_tags("best");
    let _producers = [0, 1].map(|at| nodes[at].streams().produce::<Data1>());
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let preference = Preference::by(move |candidate| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert!(candidate.hops() == 1 && candidate.loss() <= 1.0, "{candidate:?}");
        candidate.round_trip().map(|_| if candidate.peer().has_tag("best") { 0 } else { 10 })
    });
    let consumer = nodes[2].streams().consumer::<Data1>();
    let consumer = consumer.prefer(preference.with_hold(Duration::from_secs(3_600))).build();
    within(consumer.when().online()).await;
    let chosen = consumer.producers().find(|channel| channel.is_connected()).unwrap();
    let best = usize::from(chosen.producer_id() != nodes[0].local().id());
    nodes[best].discovery().set_tags("worse");
    nodes[1 - best].discovery().set_tags("best");
    // Ten looks at both: five seconds, more than twice the default.
    let enough = asked.load(Ordering::Relaxed) + 20;
    within(async {
        while asked.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(chosen.is_connected() && chosen.round_trip().is_some() && chosen.loss().is_some(), "{chosen}");
}
