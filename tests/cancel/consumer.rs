//! The receiving futures: `recv`, `recv_delivery`, `recv_ref` and those of a `Stream`.

use std::future::Future;
use std::pin::Pin;

use corewire::{Consumer, Network, Plain, Producer};
use futures::StreamExt;

use super::steps::{CancelledTask, Task, alone, apart, connected, sequences, within};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Polls the future that will be dropped, or that of another consumer.
    Poll,
    PollOther,
    Send,
}

const STEPS: [Step; 3] = [Step::Poll, Step::PollOther, Step::Send];

/// Steps in a sequence: 3^7 sequences of the full length.
const LEN: usize = 7;

/// What a future took; nothing only if the consumer was closed.
type Taken = Vec<u64>;
type Start<C> = for<'a> fn(&'a mut Consumer<u64, C>) -> Pin<Box<dyn Future<Output = Taken> + 'a>>;

/// Everything that one consumer has got in one sequence of steps.
fn drop_after_any_poll<C: corewire::Codec<u64>>(
    producer: &Producer<u64, C>,
    consumer: &mut Consumer<u64, C>,
    other: &mut Consumer<u64, C>,
    start: Start<C>,
    steps: &[Step],
) -> CancelledTask {
    let (mut sent, mut taken, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let counted = (consumer.stats().datums(), producer.stats());
    let victim = {
        let mut neighbour = Task::new(other.recv());
        let mut rest = steps.iter();
        let victim = 'futures: loop {
            let mut victim = Task::new(start(consumer));
            for step in rest.by_ref() {
                match step {
                    Step::Poll => {
                        if let Some(found) = victim.poll() {
                            assert!(!found.is_empty(), "nobody closed anything");
                            taken.extend(found);
                            continue 'futures;
                        }
                    }
                    Step::PollOther => seen.extend(neighbour.poll().flatten()),
                    Step::Send => {
                        let datum = sent.len() as u64;
                        if producer.try_send(datum).is_ok() {
                            sent.push(datum);
                        }
                    }
                }
            }
            break victim.cancel();
        };
        if neighbour.is_pending() {
            // It was woken by the next datum, or will be.
            if sent.is_empty() {
                producer.try_send(0).expect("there is room");
                sent.push(0);
            }
            seen.extend(neighbour.poll_if_woken().expect("another consumer sleeps over a datum"));
        }
        victim
    };
    while let Ok(datum) = consumer.try_recv() {
        taken.push(datum);
    }
    while let Ok(datum) = other.try_recv() {
        seen.push(datum);
    }
    assert_eq!((&taken, &seen), (&sent, &sent), "{steps:?}");
    assert_eq!(consumer.stats().datums() - counted.0, sent.len() as u64, "{steps:?}");
    let stats = producer.stats();
    assert_eq!((stats.accepted - counted.1.accepted, stats.in_ring), (sent.len() as u64, 0), "{steps:?}");
    victim
}

async fn both<C: corewire::Codec<u64> + Clone>(
    network: &Network,
    codec: C,
) -> (Producer<u64, C>, Consumer<u64, C>, Consumer<u64, C>) {
    let streams = network.streams();
    let consumers = [(); 2].map(|()| streams.consumer::<u64>().codec(codec.clone()).build());
    let producer = streams
        .producer::<u64>()
        .with_buffer_size(4)
        .disconnect_lagging(false)
        .codec(codec)
        .build()
        .expect("a producer");
    within(producer.when().subscribed().minimum_of(2)).await;
    for consumer in &consumers {
        within(consumer.when().online()).await;
    }
    let [one, other] = consumers;
    (producer, one, other)
}

async fn run<C: corewire::Codec<u64> + Clone>(codec: C, start: Start<C>) {
    let network = alone().await;
    let (producer, mut consumer, mut other) = both(&network, codec).await;
    // The waker of a dropped future stays with its consumer, until another takes its place.
    let mut kept = Vec::new();
    for steps in sequences(&STEPS, LEN) {
        kept.push(drop_after_any_poll(&producer, &mut consumer, &mut other, start, &steps));
        kept.retain(CancelledTask::is_leaked);
        assert!(kept.len() <= 1, "{steps:?}: a waker was leaked");
    }
    drop(consumer);
    assert!(!kept.iter().any(CancelledTask::is_leaked), "a waker was leaked");
}

#[tokio::test]
async fn a_recv_can_be_dropped_after_any_poll() {
    run(corewire::Postcard, |consumer| Box::pin(async { Vec::from_iter(consumer.recv().await) })).await;
}

#[tokio::test]
async fn a_recv_delivery_can_be_dropped_after_any_poll() {
    run(corewire::Postcard, |consumer| {
        Box::pin(async { Vec::from_iter(consumer.recv_delivery().await.map(|delivery| delivery.datum)) })
    })
    .await;
}

#[tokio::test]
async fn a_next_can_be_dropped_after_any_poll() {
    run(corewire::Postcard, |consumer| Box::pin(async { Vec::from_iter(consumer.next().await) })).await;
}

#[tokio::test]
async fn a_recv_ref_can_be_dropped_after_any_poll() {
    run(Plain, |consumer| Box::pin(async { Vec::from_iter(consumer.recv_ref().await.map(|datum| *datum)) }))
        .await;
}

#[tokio::test]
async fn a_recv_many_can_be_dropped_after_any_poll() {
    run(corewire::Postcard, |consumer| {
        Box::pin(async {
            let mut datums = Vec::new();
            let taken = consumer.recv_many(&mut datums, 3).await;
            assert_eq!(taken, datums.len());
            datums
        })
    })
    .await;
}

/// Over the wire the engine's threads move the datums, so each step is waited for.
#[tokio::test]
async fn a_recv_from_another_engine_can_be_dropped_after_any_poll() {
    let (here, there) = apart().await;
    let (producer, mut consumer) = connected::<u64>(&here, &there, 4).await;
    let mut next = 0;
    for polls in 0..4 {
        for arrives_before_the_drop in [false, true] {
            let before = consumer.stats().datums();
            let mut victim = Task::new(consumer.recv());
            for _ in 0..polls {
                assert!(victim.poll().is_none(), "nothing was sent");
            }
            if arrives_before_the_drop {
                within(producer.send(next)).await.unwrap();
                if polls > 0 {
                    // It has arrived when the future is woken; then it is dropped, and takes nothing.
                    within(async {
                        while !victim.is_woken() {
                            tokio::task::yield_now().await;
                        }
                    })
                    .await;
                }
            }
            drop(victim.cancel());
            assert_eq!(consumer.stats().datums(), before, "nothing is taken without a result");
            if !arrives_before_the_drop {
                within(producer.send(next)).await.unwrap();
            }
            within(producer.send(next + 1)).await.unwrap();
            assert_eq!(within(consumer.recv()).await, Some(next));
            assert_eq!(within(consumer.recv()).await, Some(next + 1));
            next += 2;
        }
    }
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.offered(), consumer.stats().datums()), (next, next, next));
}
