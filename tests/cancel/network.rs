//! Joining and leaving: `Network::new`, `build` and `shutdown`.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use corewire::streams::producer::Error;
use corewire::{Network, NetworkId};

use super::steps::{Task, alone, apart, connected, within};

type Join = Pin<Box<dyn Future<Output = Network>>>;

#[tokio::test]
async fn joining_can_be_dropped_before_and_after_its_only_poll() {
    let ways: [fn(NetworkId) -> Join; 2] = [
        |id| Box::pin(async move { Network::new(id).await.unwrap() }),
        |id| Box::pin(async move { Network::builder(id).with_tags("late").build().await.unwrap() }),
    ];
    for join in ways {
        let id = NetworkId::random();
        let witness = Network::new(id).await.unwrap();
        assert!(!Task::new(join(id)).cancel().is_leaked());
        let mut once = Task::new(join(id));
        let network = once.poll().expect("joining waits for nothing");
        assert!(!once.cancel().is_leaked());
        let found = within(witness.discovery().wait_for(|_| true)).await.unwrap();
        assert_eq!(found.id(), network.local().id());
        assert_eq!(witness.discovery().peers().len(), 1, "the one that was never polled has not joined");
    }
}

/// Leaving goes on without the future: what was accepted is delivered, then everything ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_can_be_dropped_after_any_poll() {
    for polls in 0..4 {
        let (here, there) = apart().await;
        let (producer, mut remote) = connected::<u64>(&here, &there, 4).await;
        let mut local = here.streams().consume::<u64>();
        within(producer.when().subscribed().minimum_of(2)).await;
        for n in 0..3 {
            producer.try_send(n).unwrap();
        }
        let mut victim = Task::new(Box::pin(here.shutdown(Duration::from_secs(20))));
        let mut result = None;
        for _ in 0..polls {
            // It may be over by then, if the remote consumer's room took everything.
            result = result.or_else(|| victim.poll());
        }
        let victim = victim.cancel();
        assert!(result.is_none_or(|result| result.is_ok()));
        for n in 0..3 {
            assert_eq!((within(remote.recv()).await, within(local.recv()).await), (Some(n), Some(n)));
        }
        assert_eq!(within(local.recv()).await, None, "its network is gone");
        within(remote.when().offline()).await;
        within(producer.when().offline()).await;
        assert_eq!(producer.try_send(9), Err(Error::closed(9)));
        let stats = producer.stats();
        assert_eq!((stats.accepted, stats.refused_closed, stats.offered()), (3, 1, 4));
        // The other node lives on.
        let (again, mut own) = connected::<u64>(&there, &there, 1).await;
        again.try_send(5).unwrap();
        assert_eq!(within(own.recv()).await, Some(5));
        within(async {
            while victim.is_leaked() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// Two who wait for the same end: one future that is dropped takes nothing from the other node's shutdown.
#[tokio::test]
async fn a_dropped_shutdown_leaves_the_next_one_alone() {
    let (one, two) = (alone().await, alone().await);
    let mut victim = Task::new(Box::pin(one.shutdown(Duration::from_secs(20))));
    let _ = victim.poll();
    drop(victim.cancel());
    assert_eq!(within(two.shutdown(Duration::from_secs(20))).await, Ok(()));
}
