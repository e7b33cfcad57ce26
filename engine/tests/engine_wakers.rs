//! Wakers are the executor's code: one that panics ends no thread of an engine.

mod engine_rig;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Instant,
};

use corewire_engine::{
    Engine, ShardState, publication::PublishSpec, shared::ChannelState, subscription::SubscribeSpec,
};
use corewire_testkit::LIMIT;
use engine_rig::{engine, join, network, next_leg, next_number, push, spec, stream, wait_consumers};

/// Counts its calls, and panics in each.
#[derive(Default)]
struct PanickingWaker(AtomicU64);

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("the executor's defect");
    }
}

impl PanickingWaker {
    #[track_caller]
    fn wait_called(&self, times: u64) {
        let patience = Instant::now() + LIMIT;
        while self.0.load(Ordering::Relaxed) < times {
            assert!(Instant::now() < patience, "called {:?} of {times} times", self.0);
            std::thread::yield_now();
        }
    }
}

fn all_run(engine: &Engine) -> bool {
    engine.info().shards.iter().all(|shard| shard.state == ShardState::Running)
}

#[test]
fn wakers_that_panic_end_neither_a_shard_nor_the_clerk() {
    let (here, there) = (engine(), engine());
    let network = network("panicking wakers");
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publish = |number| producer.publish(PublishSpec::new(stream(number))).expect("a publication");
    let (doomed, other) = (publish(1), publish(2));
    let slow = SubscribeSpec { window_datums: 1, ..spec(1) };
    let slow = consumer.subscribe(slow).expect("a subscription");
    let beside = consumer.subscribe(spec(2)).expect("a subscription");
    let (mut leg, mut leg_beside) = (next_leg(&slow), next_leg(&beside));
    wait_consumers(&doomed, 1);
    wait_consumers(&other, 1);

    let panicking = Arc::new(PanickingWaker::default());
    let waker = Waker::from(panicking.clone());
    let mut cx = Context::from_waker(&waker);
    // On the clerk's thread: the consumer has no room for the last datums, so that the flush waits.
    (0..8).for_each(|number| push(&doomed, number));
    let mut flush = pin!(doomed.flush());
    assert!(flush.as_mut().poll(&mut cx).is_pending());
    (0..8).for_each(|number| assert_eq!(next_number(&mut leg), number));
    panicking.wait_called(1);

    // On both shards' threads.
    let ends = [doomed.channels()[0].shared().watch(), leg.channel().shared().watch()];
    let [mut here_ends, mut there_ends] = ends;
    let is_over = |state: &ChannelState| *state == ChannelState::Terminated;
    let (mut one, mut two) = (pin!(here_ends.wait_for(is_over)), pin!(there_ends.wait_for(is_over)));
    assert!(one.as_mut().poll(&mut cx).is_pending() && two.as_mut().poll(&mut cx).is_pending());
    doomed.close();
    panicking.wait_called(3);

    push(&other, 7);
    assert_eq!(next_number(&mut leg_beside), 7);
    let late = publish(3);
    let _later = consumer.subscribe(spec(3)).expect("a subscription");
    wait_consumers(&late, 1);
    assert!(all_run(&here) && all_run(&there));
}
