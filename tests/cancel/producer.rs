//! The sending futures: `send`, `push`, and those of a `Sink`.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::time::{Duration, Instant};

use corewire::streams::producer::{Error, Sending};
use corewire::{BackpressurePolicy, Consumer, Plain, Producer};
use futures::SinkExt;

use super::steps::{CancelledTask, Task, alone, apart, connected, sequences, within};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Polls the future that will be dropped, or one that waits before or behind it.
    Poll,
    PollOne,
    PollOther,
    Take,
    Try,
}

const STEPS: [Step; 5] = [Step::Poll, Step::PollOne, Step::PollOther, Step::Take, Step::Try];

type Start = for<'a> fn(&'a Producer<u64>, u64) -> Sending<'a, u64, corewire::Postcard>;

/// Two who wait besides the future in question, and what was accepted and taken, in order.
struct World<'a> {
    producer: &'a Producer<u64>,
    consumer: &'a mut Consumer<u64>,
    others: [Option<Task<Sending<'a, u64, corewire::Postcard>>>; 2],
    accepted: Vec<u64>,
    taken: Vec<u64>,
    tried: u64,
}

/// The datums of those who wait; what is tried in between counts on from `TRIED`.
const VICTIM: u64 = 1;
const OTHERS: [u64; 2] = [2, 3];
const TRIED: u64 = 10;

impl World<'_> {
    fn poll_other(&mut self, which: usize, only_if_woken: bool) {
        let Some(task) = &mut self.others[which] else { return };
        if let Some(result) = if only_if_woken { task.poll_if_woken() } else { task.poll() } {
            assert_eq!(result, Ok(()));
            self.accepted.push(OTHERS[which]);
        }
    }

    fn take(&mut self) -> bool {
        let found = self.consumer.try_recv();
        self.taken.extend(found.as_ref().ok());
        found.is_ok()
    }

    fn offer(&mut self) -> bool {
        let datum = TRIED + self.tried;
        self.tried += 1;
        let result = self.producer.try_send(datum);
        match result {
            Ok(()) => self.accepted.push(datum),
            Err(ref refused) => assert_eq!(*refused, Error::Full(datum)),
        }
        result.is_ok()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Poll => unreachable!("polled by the caller"),
            Step::PollOne => self.poll_other(0, false),
            Step::PollOther => self.poll_other(1, false),
            Step::Take => _ = self.take(),
            Step::Try => _ = self.offer(),
        }
    }

    fn waiting(&self) -> usize {
        self.others.iter().flatten().filter(|task| task.is_pending()).count()
    }

    /// Polls who was woken and takes a datum. Whether anything came of it.
    fn move_on(&mut self) -> bool {
        let waiting = self.waiting();
        self.poll_other(0, true);
        self.poll_other(1, true);
        self.take() || self.waiting() < waiting
    }

    /// Polls the woken futures until none is left.
    fn settle(&mut self, steps: &[Step]) {
        while self.move_on() {}
        assert_eq!(self.waiting(), 0, "{steps:?}: a sender sleeps though there is room");
    }

    /// Checks that the queue is empty, and that each offered datum is counted once and none is lost or
    /// doubled.
    fn close(mut self, steps: &[Step], before: u64, offered_by_victim: u64) {
        let gone = mem::take(&mut self.others).map(|task| task.map(Task::cancel));
        assert!(!gone.iter().flatten().any(CancelledTask::is_leaked), "{steps:?}: a waker was leaked");
        assert!(self.offer(), "{steps:?}: somebody queues");
        while self.take() {}
        assert_eq!(self.taken, self.accepted, "{steps:?}");
        let stats = self.producer.stats();
        let offered = offered_by_victim + OTHERS.len() as u64 + self.tried;
        assert_eq!((stats.offered() - before, stats.in_ring), (offered, 0), "{steps:?}: {stats}");
    }
}

async fn drop_a_send_after_any_poll(start: Start) {
    let network = alone().await;
    let (producer, mut consumer) = connected::<u64>(&network, &network, 1).await;
    for steps in sequences(&STEPS, 5) {
        let before = producer.stats();
        let mut world = World {
            producer: &producer,
            consumer: &mut consumer,
            others: OTHERS.map(|datum| Some(Task::new(start(&producer, datum)))),
            accepted: Vec::new(),
            taken: Vec::new(),
            tried: 0,
        };
        let mut victim = Task::new(start(&producer, VICTIM));
        let mut resolved = false;
        for step in &steps {
            if *step != Step::Poll {
                world.step(*step);
            } else if let Some(result) = victim.poll() {
                assert_eq!(result, Ok(()));
                world.accepted.push(VICTIM);
                resolved = true;
            }
        }
        assert!(!victim.cancel().is_leaked(), "{steps:?}: a waker was leaked");
        let cancelled = producer.stats().cancelled - before.cancelled;
        assert_eq!(cancelled, u64::from(!resolved), "{steps:?}");
        world.settle(&steps);
        world.close(&steps, before.offered(), 1);
    }
}

#[tokio::test]
async fn a_send_can_be_dropped_after_any_poll() {
    drop_a_send_after_any_poll(|producer, datum| producer.send(datum)).await;
}

#[tokio::test]
async fn a_push_can_be_dropped_after_any_poll() {
    drop_a_send_after_any_poll(|producer, datum| producer.push(datum)).await;
}

/// The oldest datum is read in place and cannot be dropped, so the push retries for a moment.
#[tokio::test]
async fn a_retrying_push_can_be_dropped_after_any_poll() {
    let network = alone().await;
    for policy in [BackpressurePolicy::DropOldest, BackpressurePolicy::DegradeQuality] {
        for polls in 0..4 {
            for freed_before_the_drop in [false, true] {
                let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
                let builder =
                    network.streams().producer::<u64>().with_buffer_size(1).on_full(policy).codec(Plain);
                let producer = builder.degrader(|datum| datum / 2).build().unwrap();
                within(producer.when().online()).await;
                within(consumer.when().online()).await;
                producer.try_send(TRIED).unwrap();
                let oldest = consumer.try_recv_ref().unwrap();
                let mut victim = Task::new(producer.push(VICTIM));
                let (began, mut given_back) = (Instant::now(), false);
                for _ in 0..polls {
                    if let Some(result) = victim.poll() {
                        // Its millisecond is over: this thread was off its processor meanwhile.
                        assert_eq!(result, Err(Error::Full(VICTIM)), "the oldest is being read");
                        assert!(began.elapsed() >= Duration::from_millis(1), "it gave up early");
                        given_back = true;
                        break;
                    }
                    assert!(victim.is_woken(), "it looks again by itself");
                }
                if freed_before_the_drop {
                    drop(oldest);
                    assert!(!victim.cancel().is_leaked());
                } else {
                    assert!(!victim.cancel().is_leaked());
                    drop(oldest);
                }
                let next = within(producer.push(OTHERS[0])).await;
                assert_eq!((next, within(consumer.recv()).await), (Ok(()), Some(OTHERS[0])));
                let stats = producer.stats();
                assert_eq!((stats.accepted, stats.offered()), (2, 3), "{stats}");
                let (cancelled, refused) = (u64::from(!given_back), u64::from(given_back));
                assert_eq!((stats.cancelled, stats.refused_full), (cancelled, refused), "{stats}");
                assert_eq!((stats.in_ring, consumer.stats().datums()), (0, 2));
            }
        }
    }
}

type Ended = Result<(), Error<u64>>;
type StartSink = for<'a> fn(&'a mut Producer<u64>) -> Pin<Box<dyn Future<Output = Ended> + 'a>>;

/// The future is of a sink: a datum that the sink took stays with the handle when the future goes.
async fn drop_a_sinks_future_after_any_poll(name: &str, start: StartSink, sends: bool) {
    let network = alone().await;
    let (producer, mut consumer) = connected::<u64>(&network, &network, 1).await;
    for steps in sequences(&STEPS, 5) {
        for keeps_handle in [true, false] {
            let before = producer.stats();
            let mut sink = producer.clone();
            let mut world = World {
                producer: &producer,
                consumer: &mut consumer,
                others: OTHERS.map(|datum| Some(Task::new(producer.send(datum)))),
                accepted: Vec::new(),
                taken: Vec::new(),
                tried: 0,
            };
            let mut victim = Task::new(start(&mut sink));
            for step in &steps {
                if *step != Step::Poll {
                    world.step(*step);
                } else if let Some(result) = victim.poll() {
                    assert_eq!(result, Ok(()));
                }
            }
            let victim = victim.cancel();
            if keeps_handle {
                // What it had taken goes into the ring at the next flush, woken when its room is there.
                let mut flush = Task::new(SinkExt::flush(&mut sink));
                let mut flushed = flush.poll();
                while flushed.is_none() {
                    let moved = world.move_on();
                    flushed = flush.poll_if_woken();
                    assert!(moved || flushed.is_some(), "{name} {steps:?}: the flush sleeps");
                }
                assert_eq!(flushed, Some(Ok(())));
            }
            drop(sink);
            world.settle(&steps);
            assert!(!victim.is_leaked(), "{name} {steps:?}: a waker was leaked");
            // The test cannot see when the bytes of a sink enter the ring: the victim's place is where it was
            // taken.
            let stats = producer.stats();
            let entered = world.taken.iter().filter(|datum| **datum == VICTIM).count() as u64;
            let withdrawn = stats.cancelled - before.cancelled;
            assert!(entered + withdrawn <= u64::from(sends), "{name} {steps:?}: {stats}");
            assert!(!keeps_handle || withdrawn == 0, "{name} {steps:?}: what was taken is not withdrawn");
            world.taken.retain(|datum| *datum != VICTIM);
            world.close(&steps, before.offered(), entered + withdrawn);
        }
    }
}

#[tokio::test]
async fn a_sinks_send_can_be_dropped_after_any_poll() {
    drop_a_sinks_future_after_any_poll("send", |sink| Box::pin(SinkExt::send(sink, VICTIM)), true).await;
}

#[tokio::test]
async fn a_sinks_feed_can_be_dropped_after_any_poll() {
    drop_a_sinks_future_after_any_poll("feed", |sink| Box::pin(sink.feed(VICTIM)), true).await;
}

#[tokio::test]
async fn a_sinks_flush_can_be_dropped_after_any_poll() {
    let start: StartSink = |sink| {
        Box::pin(async {
            sink.feed(VICTIM).await?;
            SinkExt::flush(sink).await
        })
    };
    drop_a_sinks_future_after_any_poll("flush", start, true).await;
}

#[tokio::test]
async fn a_sinks_close_can_be_dropped_after_any_poll() {
    let start: StartSink = |sink| {
        Box::pin(async {
            sink.feed(VICTIM).await?;
            SinkExt::close(sink).await
        })
    };
    drop_a_sinks_future_after_any_poll("close", start, true).await;
}

#[tokio::test]
async fn a_send_that_waits_for_consumers_can_be_dropped_after_any_poll() {
    let network = alone().await;
    for polls in 0..4 {
        for comes_before_the_drop in [false, true] {
            let producer = network.streams().producer::<u64>().with_buffer_size(1).build().unwrap();
            let mut victim = Task::new(producer.send(VICTIM));
            let mut other = Task::new(producer.send(OTHERS[0]));
            assert!(other.poll().is_none());
            for _ in 0..polls {
                assert!(victim.poll().is_none(), "nobody listens");
            }
            let mut consumer = None;
            if comes_before_the_drop {
                consumer = Some(network.streams().consume::<u64>());
                within(producer.when().online()).await;
            }
            assert!(!victim.cancel().is_leaked());
            let mut consumer = consumer.unwrap_or_else(|| network.streams().consume::<u64>());
            assert_eq!(other.resolve().await, Ok(()));
            assert_eq!(within(consumer.recv()).await, Some(OTHERS[0]));
            let stats = producer.stats();
            assert_eq!((stats.accepted, stats.cancelled, stats.offered()), (1, 1, 2));
        }
    }
}

#[tokio::test]
async fn a_send_that_waits_can_be_dropped_around_the_close() {
    let network = alone().await;
    for polls in 0..4 {
        for closes_before_the_drop in [false, true] {
            let (producer, mut consumer) = connected::<u64>(&network, &network, 1).await;
            producer.try_send(TRIED).unwrap();
            let mut victim = Task::new(producer.send(VICTIM));
            let mut other = Task::new(producer.send(OTHERS[0]));
            for _ in 0..polls {
                assert!(victim.poll().is_none(), "the ring is full");
            }
            assert!(other.poll().is_none());
            if closes_before_the_drop {
                producer.close();
            }
            let victim = victim.cancel();
            producer.close();
            assert_eq!(other.poll_if_woken(), Some(Err(Error::closed(OTHERS[0]))));
            assert!(!victim.is_leaked() && !other.cancel().is_leaked());
            assert_eq!(within(consumer.recv()).await, Some(TRIED), "what was accepted is delivered");
            let stats = producer.stats();
            let counted = (stats.accepted, stats.cancelled, stats.refused_closed, stats.offered());
            assert_eq!(counted, (1, 1, 1, 3));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_can_be_dropped_after_any_poll() {
    let (here, there) = apart().await;
    for polls in 0..4 {
        let (producer, mut consumer) = connected::<u64>(&here, &there, 4).await;
        for datum in 0..3 {
            producer.try_send(datum).unwrap();
        }
        let mut victim = Task::new(producer.flush());
        // It may be over by then, if the remote consumer's room took everything.
        let result = (0..polls).find_map(|_| victim.poll());
        assert!(result.is_none_or(|result| result.is_ok()));
        let _ = victim.cancel();
        assert_eq!(within(producer.flush()).await, Ok(()));
        for datum in 0..3 {
            assert_eq!(within(consumer.recv()).await, Some(datum));
        }
        assert_eq!(producer.stats().accepted, 3);
    }
}
