//! Waiting for a topology: `when()`, `disconnected()` and `wait_for`.

use std::future::Future;
use std::mem;
use std::pin::Pin;

use corewire::{Consumer, Network, NetworkId, Producer};

use super::steps::{Task, alone, connected, sequences, within};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Poll,
    /// A consumer comes, or goes, and the producer has noticed.
    Come,
    Go,
}

const STEPS: [Step; 3] = [Step::Poll, Step::Come, Step::Go];

type Wait = Pin<Box<dyn Future<Output = ()>>>;

/// One condition, and whether it holds with this many consumers.
type Case = (&'static str, fn(&Producer<u64>) -> Wait, fn(usize) -> bool);

const CASES: [Case; 5] = [
    ("online", |producer| Box::pin(producer.when().online()), |n| n > 0),
    ("offline", |producer| Box::pin(producer.when().offline()), |n| n == 0),
    ("subscribed", |producer| Box::pin(producer.when().subscribed()), |n| n > 0),
    ("unsubscribed", |producer| Box::pin(producer.when().unsubscribed()), |n| n == 0),
    ("two", |producer| Box::pin(producer.when().subscribed().minimum_of(2)), |n| n > 1),
];

async fn come(network: &Network, producer: &Producer<u64>, consumers: &mut Vec<Consumer<u64>>) {
    consumers.push(network.streams().consume());
    within(producer.when().subscribed().minimum_of(consumers.len())).await;
    within(producer.when().online()).await;
}

async fn go(producer: &Producer<u64>, consumers: &mut Vec<Consumer<u64>>) {
    if consumers.pop().is_some() {
        within(producer.when().subscribed().minimum_of(consumers.len() + 1).unmet()).await;
        // Who counts channels sees a state at once; being online follows.
        if consumers.is_empty() {
            within(producer.when().offline()).await;
        }
    }
}

#[tokio::test]
async fn a_wait_for_a_condition_can_be_dropped_after_any_poll() {
    let network = alone().await;
    for (name, start, holds) in CASES {
        let producer = network.streams().produce::<u64>();
        let mut consumers = Vec::new();
        for steps in sequences(&STEPS, 4) {
            while !consumers.is_empty() {
                go(&producer, &mut consumers).await;
            }
            let (mut victim, mut other) = (Task::new(start(&producer)), Task::new(start(&producer)));
            // As many polls as it takes; then another one like it.
            let mut other_is_over = other.poll().is_some();
            for step in &steps {
                match step {
                    Step::Poll => {
                        let resolved = victim.poll().is_some();
                        assert_eq!(resolved, holds(consumers.len()), "{name} {steps:?}");
                        if resolved {
                            let resolved = mem::replace(&mut victim, Task::new(start(&producer)));
                            assert!(!resolved.cancel().is_leaked(), "{name} {steps:?}: a waker was leaked");
                        }
                    }
                    Step::Come => come(&network, &producer, &mut consumers).await,
                    Step::Go => go(&producer, &mut consumers).await,
                }
                other_is_over = other_is_over || other.poll_if_woken().is_some();
            }
            assert!(!victim.cancel().is_leaked(), "{name} {steps:?}: a waker was leaked");
            if !other_is_over {
                while !holds(consumers.len()) {
                    if holds(0) {
                        go(&producer, &mut consumers).await;
                    } else {
                        come(&network, &producer, &mut consumers).await;
                    }
                }
                other.resolve().await;
            }
            assert!(!other.cancel().is_leaked(), "{name} {steps:?}: a waker was leaked");
        }
    }
}

#[tokio::test]
async fn a_wait_for_the_end_of_a_channel_can_be_dropped_after_any_poll() {
    let network = alone().await;
    for polls in 0..4 {
        for ends_before_the_drop in [false, true] {
            let (producer, consumer) = connected::<u64>(&network, &network, 1).await;
            let channel = producer.consumers().next().expect("they are connected");
            let mut victim = Task::new(Box::pin(channel.disconnected()));
            let mut other = Task::new(Box::pin(channel.disconnected()));
            assert!(other.poll().is_none());
            for _ in 0..polls {
                assert!(victim.poll().is_none());
            }
            let consumer = if ends_before_the_drop {
                drop(consumer);
                within(channel.disconnected()).await;
                None
            } else {
                Some(consumer)
            };
            assert!(!victim.cancel().is_leaked());
            drop(consumer);
            other.resolve().await;
            assert!(!other.cancel().is_leaked());
        }
    }
}

#[tokio::test]
async fn a_wait_for_a_peer_can_be_dropped_after_any_poll() {
    for polls in 0..4 {
        for comes_before_the_drop in [false, true] {
            let id = NetworkId::random();
            let here = Network::new(id).await.unwrap();
            let discovery = here.discovery();
            let mut victim = Task::new(Box::pin(discovery.wait_for(|_| true)));
            let mut other = Task::new(Box::pin(discovery.wait_for(|_| true)));
            assert!(other.poll().is_none());
            for _ in 0..polls {
                assert!(victim.poll().is_none());
            }
            let mut peer = None;
            if comes_before_the_drop {
                peer = Some(Network::new(id).await.unwrap());
                within(discovery.wait_for(|_| true)).await.unwrap();
            }
            assert!(!victim.cancel().is_leaked());
            let peer = match peer {
                Some(peer) => peer,
                None => Network::new(id).await.unwrap(),
            };
            let found = other.resolve().await.expect("the network lives");
            assert_eq!(found.id(), peer.local().id());
            assert!(!other.cancel().is_leaked());
        }
    }
}
