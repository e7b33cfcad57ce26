//! Every datum is accounted for: under each policy, with and without `disconnect_lagging`, for one, three and
//! sixty-four consumers of which some keep up, some are slow and some stand still.
//!
//! Per producer: offered = accepted + refused + cancelled. Per subscription: accepted = delivered + dropped +
//! left behind when it was closed + still there; and what a consumer saw missing is what was counted as
//! dropped.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corewire::streams::producer::{Error, Lagging, Stats};
use corewire::streams::{ChannelInfo, CloseCode, Delivery, ExponentialBackoffBuilder};
use corewire::{BackpressurePolicy, Consumer, Network, Producer, UniqueId};
use futures::future::{Either, join_all, select};

use super::support::{LIMIT, alone, apart_with_threads, poll_once, within};

/// Datums that the rings of these tests hold.
const CAPACITY: usize = 16;

/// Datums that are offered at least.
const OFFERS: u64 = 300;

/// Short, but long against the pauses of a consumer's thread on a busy machine.
const GRACE: Duration = Duration::from_millis(900);

/// What `true` means.
const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// The time between two offers while a grace runs.
const PACE: Duration = Duration::from_millis(10);

/// The settings of `disconnect_lagging`, and the graces that they give.
fn laggings() -> [(Lagging, Option<Duration>); 3] {
    [(false.into(), None), (Lagging::after(GRACE, GRACE), Some(GRACE)), (true.into(), Some(DEFAULT_GRACE))]
}

/// Settings, and numbers of consumers; sixty-four are all that a ring has places for.
fn cases() -> impl Iterator<Item = (BackpressurePolicy, Lagging, Option<Duration>, usize)> {
    BackpressurePolicy::ALL.into_iter().flat_map(|policy| {
        laggings()
            .into_iter()
            .flat_map(move |(lagging, grace)| [1, 3, 64].map(|count| (policy, lagging, grace, count)))
    })
}

/// Waits for counters, whose changes wake no task.
async fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let waits = async {
        while !holds() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, waits).await.is_ok()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    /// Takes nothing.
    Stalled,
    /// Takes one in every other round.
    Slow,
    /// Takes everything at once.
    KeepsUp,
}

/// A consumer, and what it saw.
struct Reader {
    pace: Pace,
    consumer: Consumer<u64>,
    /// At the consumer's end, and at the producer's.
    info: ChannelInfo,
    at_producer: ChannelInfo,
    delivered: u64,
    missing: u64,
    next: u64,
}

impl Reader {
    fn take(&mut self, most: usize) {
        for _ in 0..most {
            let Ok(delivery) = self.consumer.try_recv_delivery() else { return };
            self.note(&delivery);
        }
    }

    fn note(&mut self, delivery: &Delivery<u64>) {
        assert_eq!(delivery.seq, self.next + delivery.skipped_before, "a silent hole, or a datum twice");
        assert_eq!(delivery.datum >> 1, delivery.seq, "a datum in another's place");
        self.next = delivery.seq + 1;
        self.delivered += 1;
        self.missing += delivery.skipped_before;
    }

    fn at_its_pace(&mut self, step: u64) {
        match self.pace {
            Pace::Stalled => {}
            Pace::Slow if !step.is_multiple_of(2) => {}
            Pace::Slow => self.take(1),
            Pace::KeepsUp => self.take(usize::MAX),
        }
    }

    /// Waits for all that was accepted (the last datum is never dropped), unless the channel is closed first.
    async fn drain(&mut self, accepted: u64) {
        let over = self.at_producer.clone();
        let mut over = pin!(over.disconnected());
        while self.next < accepted {
            let delivery = match select(pin!(self.consumer.recv_delivery()), over.as_mut()).await {
                Either::Left((Some(delivery), _)) => delivery,
                Either::Left((None, _)) | Either::Right(_) => return,
            };
            self.note(&delivery);
        }
    }
}

/// What was offered, and what became of it.
#[derive(Default)]
struct Offered {
    accepted: u64,
    full: u64,
    cancelled: u64,
}

impl Offered {
    /// Offers the next datum in one of several ways. It says its sequence, in all but the last bit, which the
    /// degrader sets.
    fn offer(&mut self, producer: &Producer<u64>, step: u64) {
        let datum = self.accepted << 1;
        let sent = match step % 4 {
            0 | 1 => producer.try_send(datum),
            2 => {
                let mut sending = producer.push(datum);
                match poll_once(&mut sending).0 {
                    std::task::Poll::Ready(sent) => sent,
                    std::task::Poll::Pending => {
                        drop(sending);
                        self.cancelled += 1;
                        return;
                    }
                }
            }
            _ => producer.send_timeout(datum, Duration::ZERO),
        };
        match sent {
            Ok(()) => self.accepted += 1,
            Err(Error::Full(back)) => {
                assert_eq!(back, datum, "the datum comes back");
                self.full += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn check(&self, stats: &Stats) {
        assert_eq!(
            (stats.accepted, stats.refused_full, stats.cancelled, stats.offered()),
            (self.accepted, self.full, self.cancelled, self.accepted + self.full + self.cancelled),
            "offered = accepted + refused + cancelled: {stats}"
        );
    }
}

/// A producer on `here` with `readers` consumers on `there`, all connected.
async fn joined(
    here: &Network,
    there: &Network,
    policy: BackpressurePolicy,
    lagging: Lagging,
    readers: usize,
) -> (Producer<u64>, Vec<Reader>) {
    let stream = UniqueId::random();
    let once = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_secs(3600))
        .with_max_interval(Duration::from_secs(3600))
        .build();
    let producer = here
        .streams()
        .producer::<u64>()
        .with_stream_id(stream)
        .with_buffer_size(CAPACITY)
        .on_full(policy)
        .degrader(|datum| datum | 1)
        .disconnect_lagging(lagging)
        .online_when(|c| c.minimum_of(0))
        .build()
        .unwrap();
    let mut consumers = Vec::new();
    for index in 0..readers {
        let known: Vec<ChannelInfo> = producer.consumers().collect();
        // One by one, so that it is known which channel is whose.
        let consumer = there
            .streams()
            .consumer::<u64>()
            .with_stream_id(stream)
            .with_backoff(once.clone())
            // So few that each datum taken is credit at once.
            .with_buffer_size(2)
            .build();
        within(consumer.when().online()).await;
        within(producer.when().subscribed().minimum_of(index + 1)).await;
        let info = consumer.producers().next().unwrap();
        let is_new = |info: &ChannelInfo| !known.iter().any(|old| old.is_same(info));
        let at_producer = producer.consumers().find(is_new).unwrap();
        let pace = [Pace::Stalled, Pace::Slow, Pace::KeepsUp][index % 3];
        consumers.push(Reader { pace, consumer, info, at_producer, delivered: 0, missing: 0, next: 0 });
    }
    (producer, consumers)
}

/// Offers until enough was offered and, if the grace is short, all who stand still were disconnected.
async fn play(producer: &Producer<u64>, readers: &mut [Reader], grace: Option<Duration>) -> Offered {
    let (mut offered, mut step, started) = (Offered::default(), 0, Instant::now());
    let waits = grace == Some(GRACE);
    let over = |reader: &Reader| reader.pace != Pace::Stalled || reader.info.close_code().is_some();
    while step < OFFERS || (waits && !readers.iter().all(over)) {
        offered.offer(producer, step);
        for reader in readers.iter_mut() {
            reader.at_its_pace(step);
        }
        step += 1;
        if step < OFFERS {
            tokio::task::yield_now().await;
        } else if waits {
            let stalled = readers.iter().filter(|reader| reader.pace == Pace::Stalled);
            let all_over = join_all(stalled.map(|reader| reader.info.disconnected()));
            // Who moves shall have to go on moving until then.
            let _ = tokio::time::timeout(PACE, all_over).await;
        }
        assert!(started.elapsed() < LIMIT, "who stands still is not disconnected: {}", producer.stats());
    }
    offered
}

/// Lets all readers take what is left for them, at once: none stands still until it is its turn to be
/// checked.
async fn drain(readers: &mut [Reader], offered: &Offered) {
    within(join_all(readers.iter_mut().map(|reader| reader.drain(offered.accepted)))).await;
}

/// A consumer that was disconnected did not keep up, for at least the grace since `began`, before which
/// nothing was offered.
fn check_the_closed(reader: &Reader, grace: Option<Duration>, began: Instant) {
    assert!(grace.is_some_and(|grace| began.elapsed() >= grace), "{grace:?}");
    assert_eq!(reader.info.close_code(), Some(CloseCode::TOO_SLOW));
    assert_eq!(reader.at_producer.close_code(), Some(CloseCode::TOO_SLOW));
}

#[tokio::test(crate = "crate::support::host")]
async fn every_datum_within_an_engine_is_accounted_for() {
    let network = &alone().await;
    join_all(cases().map(|(policy, lagging, grace, count)| async move {
        let (producer, mut readers) = joined(network, network, policy, lagging, count).await;
        let began = Instant::now();
        let offered = play(&producer, &mut readers, grace).await;
        offered.check(&producer.stats());
        check_unread(&producer, &readers, &offered);
        drain(&mut readers, &offered).await;
        check_local(&producer, &mut readers, &offered, grace, began).await;
    }))
    .await;
}

/// While it lasts: what is neither delivered nor known to be dropped nor still there was dropped unnoticed.
fn check_unread(producer: &Producer<u64>, readers: &[Reader], offered: &Offered) {
    for reader in readers {
        let stats = reader.info.stats();
        let accounted = stats.datums() + stats.dropped_oldest() + stats.lag();
        if reader.info.close_code().is_none() {
            let unseen = offered.accepted - accounted;
            assert!(producer.stats().dropped_oldest >= unseen, "{:?}: {stats}", reader.pace);
        }
    }
}

async fn check_local(
    producer: &Producer<u64>,
    readers: &mut [Reader],
    offered: &Offered,
    grace: Option<Duration>,
    began: Instant,
) {
    let (mut dropped, mut left_behind) = (0, 0);
    for reader in readers.iter_mut() {
        let all_taken = eventually(|| {
            reader.take(usize::MAX);
            let stats = reader.info.stats();
            reader.consumer.stats().skipped() == reader.missing + stats.skipped_at_close() && stats.lag() == 0
        });
        assert!(all_taken.await, "{:?}: {}", reader.pace, reader.info.stats());
        let (stats, of_consumer) = (reader.info.stats(), reader.consumer.stats());
        let at_producer = reader.at_producer.stats();
        assert_eq!(
            (stats.datums(), stats.dropped_oldest(), stats.skipped_at_close(), stats.lag()),
            (
                at_producer.datums(),
                at_producer.dropped_oldest(),
                at_producer.skipped_at_close(),
                at_producer.lag()
            ),
            "both ends say the same"
        );
        assert_eq!(stats.datums(), reader.delivered);
        assert_eq!(of_consumer.datums(), reader.delivered);
        assert_eq!(stats.dropped_oldest(), reader.missing, "what it saw missing is what was dropped");
        assert_eq!(of_consumer.skipped(), reader.missing + stats.skipped_at_close());
        dropped += stats.dropped_oldest();
        left_behind += stats.skipped_at_close();
        if reader.info.close_code().is_some() {
            assert_ne!(reader.pace, Pace::KeepsUp, "only a consumer that others wait for is disconnected");
            check_the_closed(reader, grace, began);
            assert_eq!(stats.lag(), 0);
            // Between the word that it is closed and the loss of its place it may still take some.
            assert!(reader.delivered + stats.skipped_at_close() >= CAPACITY as u64, "it kept the ring full");
            assert!(reader.delivered + reader.missing + stats.skipped_at_close() <= offered.accepted);
        } else {
            assert_eq!(
                (reader.delivered + reader.missing, stats.skipped_at_close(), stats.lag()),
                (offered.accepted, 0, 0),
                "accepted = delivered + dropped: {:?}",
                reader.pace
            );
        }
    }
    let counted = producer.stats().dropped_oldest;
    // What was evicted from a channel before it was closed is left behind there.
    assert!(dropped <= counted && counted <= dropped + left_behind, "{dropped} {counted} {left_behind}");
    let keeping_up = readers.iter().filter(|reader| reader.pace == Pace::KeepsUp);
    assert!(keeping_up.clone().all(|reader| reader.missing == 0), "who keeps up loses nothing");
}

/// Who is slow is judged by time, so the engines have threads of their own and the test's thread hosts none.
#[tokio::test]
async fn every_datum_between_engines_is_accounted_for() {
    let nodes = &apart_with_threads(2).await;
    join_all(cases().map(|(policy, lagging, grace, count)| async move {
        let (producer, mut readers) = joined(&nodes[0], &nodes[1], policy, lagging, count).await;
        let began = Instant::now();
        let offered = play(&producer, &mut readers, grace).await;
        offered.check(&producer.stats());
        drain(&mut readers, &offered).await;
        check_remote(&mut readers, &offered, grace, began).await;
    }))
    .await;
}

async fn check_remote(readers: &mut [Reader], offered: &Offered, grace: Option<Duration>, began: Instant) {
    for reader in readers.iter_mut() {
        if reader.at_producer.close_code().is_some() {
            within(reader.info.disconnected()).await;
            // Whatever its pace: a busy machine may keep the threads between the two rings from running for a
            // grace. On a simulated clock `lagging` of the engine shows who is disconnected and who is not.
            check_the_closed(reader, grace, began);
            // What had arrived is taken; what was acknowledged had arrived.
            reader.take(usize::MAX);
            let stats = reader.at_producer.stats();
            let dropped = reader.info.stats().dropped_oldest();
            if reader.missing == dropped {
                assert!(reader.next + stats.skipped_at_close() <= offered.accepted);
            } else {
                // It is connected again and has been told what it missed in between.
                assert!(reader.missing > dropped, "{} of {dropped}", reader.missing);
                assert_eq!(reader.delivered + reader.missing, reader.next, "told exactly");
            }
            // The ring was full when the clerk looked; it may have taken some before the shard cut it.
            assert!(stats.skipped_at_close() > 0, "it kept others waiting");
            continue;
        }
        assert_eq!(
            (reader.delivered + reader.missing, reader.consumer.stats().datums()),
            (offered.accepted, reader.delivered),
            "accepted = delivered + dropped: {:?}",
            reader.pace
        );
        // The numbers are written at the end of a shard's turn.
        let (pace, missing, delivered) = (reader.pace, reader.missing, reader.delivered);
        let counted = || {
            let (here, there) = (reader.info.stats(), reader.at_producer.stats());
            let seen = [here.dropped_oldest(), there.dropped_oldest(), here.datums(), there.datums()];
            seen == [missing, missing, delivered, delivered] && there.lag() == 0
        };
        assert!(
            eventually(counted).await,
            "{pace:?} saw {delivered} and {missing} missing: {} / {}",
            reader.info.stats(),
            reader.at_producer.stats()
        );
        assert_eq!(reader.consumer.stats().skipped(), missing);
    }
}

/// Threads that send and threads that take, all at once, within an engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn every_datum_of_many_threads_is_accounted_for() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 10_000;
    for policy in BackpressurePolicy::ALL {
        let network = alone().await;
        let (producer, mut readers) = joined(&network, &network, policy, false.into(), 3).await;
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let producer = producer.clone();
                std::thread::spawn(move || {
                    let (mut accepted, mut full) = (0, 0);
                    for n in 0..EACH {
                        match if n % 2 == 0 { producer.try_send(n) } else { producer.push_timeout(n, GRACE) }
                        {
                            Ok(()) => accepted += 1,
                            Err(Error::Full(_)) => full += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    (accepted, full)
                })
            })
            .collect();
        // Those who do not drop would wait for the one that takes nothing.
        if !matches!(policy, BackpressurePolicy::DropOldest | BackpressurePolicy::DegradeQuality) {
            readers.remove(0);
        }
        let done = Arc::new(AtomicU64::new(u64::MAX));
        let takers: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let done = done.clone();
                std::thread::spawn(move || {
                    let started = Instant::now();
                    while reader.next < done.load(Ordering::Acquire) {
                        if reader.pace == Pace::Stalled && done.load(Ordering::Acquire) == u64::MAX {
                            std::thread::yield_now();
                            continue;
                        }
                        let Ok(delivery) = reader.consumer.try_recv_delivery() else {
                            assert!(started.elapsed() < LIMIT, "{:?}: {}", reader.pace, reader.info);
                            std::thread::yield_now();
                            continue;
                        };
                        assert_eq!(delivery.seq, reader.next + delivery.skipped_before);
                        reader.next = delivery.seq + 1;
                        reader.delivered += 1;
                        reader.missing += delivery.skipped_before;
                    }
                    reader
                })
            })
            .collect();
        let (mut accepted, mut full) = (0, 0);
        for sender in senders {
            let (some, refused) = sender.join().unwrap();
            (accepted, full) = (accepted + some, full + refused);
        }
        let stats = producer.stats();
        assert_eq!((stats.accepted, stats.refused_full, stats.offered()), (accepted, full, SENDERS * EACH));
        done.store(accepted, Ordering::Release);
        let mut dropped = 0;
        for taker in takers {
            let reader = taker.join().unwrap();
            let stats = reader.info.stats();
            assert_eq!((reader.delivered + reader.missing, stats.lag()), (accepted, 0), "{:?}", reader.pace);
            assert_eq!((stats.datums(), stats.dropped_oldest()), (reader.delivered, reader.missing));
            dropped += reader.missing;
        }
        assert_eq!(producer.stats().dropped_oldest, dropped, "each drop was seen by the one that lost");
    }
}
