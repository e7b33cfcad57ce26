//! A custom codec, and each way in which a datum is refused before and in claimed room.

use std::cell::{Cell, RefCell};

use corewire::streams::Delivery;
use corewire::streams::consumer::TryRecvError;
use corewire::streams::producer::{Builder, Error, Stats};
use corewire::{BackpressurePolicy, Codec, Consumer, Network, Producer};
use corewire::{DatumOutput, DecodeError, EncodeError, Fingerprint};

use super::support::{alone, apart, unencodable, within};

/// Encoded as `len` bytes that are all `mark`.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    mark: u8,
    len: usize,
    mood: Mood,
}

/// How it is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Fine,
    Refuses,
    Panics,
    /// Closes [`CLOSED_MEANWHILE`] when it is encoded first.
    Closes,
    /// The second time that it is encoded, in claimed room.
    RefusesInRoom,
    /// The second time that it is encoded, in claimed room.
    PanicsInRoom,
}

use Mood::{Closes, Fine, Panics, PanicsInRoom, Refuses, RefusesInRoom};

fn item(mark: u8, len: usize) -> Item {
    Item { mark, len, mood: Fine }
}

fn moody(mood: Mood) -> Item {
    Item { mark: 200, len: LONG, mood }
}

/// Above 64 bytes, which are encoded once before they are copied into the room.
const LONG: usize = 80;

thread_local! {
    static CLOSED_MEANWHILE: RefCell<Option<Producer<Item, Own>>> = const { RefCell::new(None) };
    /// How often a datum that is not fine was encoded in this attempt to send it.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Tries to send `datum`, whose calls of the codec are counted anew.
fn attempt(producer: &Producer<Item, Own>, datum: Item) -> Result<(), Error<Item>> {
    CALLS.set(0);
    producer.try_send(datum)
}

/// May panic: the default of a codec.
struct Own;

/// An error that is not a panic.
fn refused() -> EncodeError {
    EncodeError::custom("refused, as the test wants")
}

impl Codec<Item> for Own {
    fn fingerprint() -> Fingerprint {
        Fingerprint::of("own")
    }

    fn encode(datum: &Item, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        let half = datum.len / 2;
        out.put(&vec![datum.mark; half]);
        if datum.mood != Fine {
            CALLS.set(CALLS.get() + 1);
        }
        match (datum.mood, CALLS.get()) {
            (Refuses, _) | (RefusesInRoom, 2) => return Err(refused()),
            (Panics, _) | (PanicsInRoom, 2) => panic!("encode panics half-way, as the test wants"),
            (Closes, 1) => CLOSED_MEANWHILE.take().expect("a producer to close").close(),
            _ => {}
        }
        out.put(&vec![datum.mark; datum.len - half]);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Item, DecodeError> {
        let mark = bytes.first().copied().unwrap_or_default();
        assert!(bytes.iter().all(|byte| *byte == mark), "half-written bytes were delivered");
        Ok(item(mark, bytes.len()))
    }
}

/// A producer and the number of its calls.
struct Sender {
    producer: Producer<Item, Own>,
    calls: u64,
}

impl Sender {
    fn new(builder: Builder<Item>) -> Self {
        Self { producer: builder.codec(Own).build().unwrap(), calls: 0 }
    }

    /// Tries to send `datum`, and checks that the counters change as `count` changes them.
    #[track_caller]
    fn offer(&mut self, datum: Item, count: impl FnOnce(&mut Stats)) -> Result<(), Error<Item>> {
        let mut expected = self.producer.stats();
        count(&mut expected);
        let result = attempt(&self.producer, datum);
        self.calls += 1;
        let stats = self.producer.stats();
        assert_eq!(stats, expected);
        assert_eq!(stats.offered(), self.calls, "{stats}");
        result
    }

    /// Sends `datum` into a ring that has room.
    #[track_caller]
    fn put(&mut self, datum: Item) {
        let put = self.offer(datum, |stats| {
            stats.accepted += 1;
            stats.in_ring += 1;
        });
        assert_eq!(put, Ok(()));
    }

    /// Offers a datum that panics while it is encoded.
    #[track_caller]
    fn offer_panicking(&mut self, datum: Item, count: impl FnOnce(&mut Stats)) {
        assert_eq!(unencodable(self.offer(datum.clone(), count)), (datum, true));
    }
}

fn builder(network: &Network) -> Builder<Item> {
    network.streams().producer::<Item>().with_stream_id("own").with_max_datum_bytes(100)
}

fn consumer(network: &Network) -> Consumer<Item, Own> {
    network.streams().consumer::<Item>().with_stream_id("own").codec(Own).build()
}

/// A producer of `datums` at most and a connected consumer of the same node.
async fn joined(
    network: &Network,
    datums: usize,
    policy: BackpressurePolicy,
) -> (Sender, Consumer<Item, Own>) {
    let consumer = consumer(network);
    // Halves the length; some lengths give a datum that is refused.
    let degrader = |datum: &Item| match datum.len {
        90 => moody(Refuses),
        92 => moody(Panics),
        94 => moody(RefusesInRoom),
        96 => moody(PanicsInRoom),
        98 => item(datum.mark, 101),
        len => item(datum.mark, len / 2),
    };
    let sender = Sender::new(builder(network).with_buffer_size(datums).on_full(policy).degrader(degrader));
    within(sender.producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (sender, consumer)
}

/// All datums that are there, each with the number of those missing before it.
fn drain(consumer: &mut Consumer<Item, Own>) -> Vec<(Item, u64)> {
    let mut found = Vec::new();
    while let Ok(Delivery { datum, skipped_before, .. }) = consumer.try_recv_delivery() {
        found.push((datum, skipped_before));
    }
    found
}

#[tokio::test(crate = "crate::support::host")]
async fn a_custom_codec_carries_datums_of_any_length() {
    let network = alone().await;
    let (mut sender, mut consumer) = joined(&network, 128, BackpressurePolicy::Fail).await;
    for len in 0..=100 {
        sender.put(item(if len == 0 { 0 } else { 7 }, len));
    }
    let found = drain(&mut consumer);
    assert_eq!(found.len(), 101);
    for (len, found) in found.into_iter().enumerate() {
        assert_eq!(found, (item(if len == 0 { 0 } else { 7 }, len), 0));
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn an_offline_producer_refuses_before_it_calls_the_codec() {
    let network = alone().await;
    let mut sender = Sender::new(builder(&network));
    for datum in [item(1, 8), item(2, 101), moody(Refuses), moody(Panics), moody(RefusesInRoom)] {
        let result = sender.offer(datum.clone(), |stats| stats.refused_offline += 1);
        assert_eq!(result, Err(Error::Offline(datum)));
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn online_when_decides_offline_even_with_a_consumer() {
    let network = alone().await;
    let mut first = consumer(&network);
    let mut sender = Sender::new(builder(&network).online_when(|c| c.minimum_of(2)));
    within(sender.producer.when().subscribed()).await;
    within(first.when().online()).await;
    let result = sender.offer(item(1, 8), |stats| stats.refused_offline += 1);
    assert_eq!(result, Err(Error::Offline(item(1, 8))));
    assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
    let mut second = consumer(&network);
    within(sender.producer.when().online()).await;
    within(second.when().online()).await;
    sender.put(item(2, 8));
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(item(2, 8)), Ok(item(2, 8))));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_closed_producer_answers_closed_not_offline() {
    let network = alone().await;
    let (mut sender, _consumer) = joined(&network, 4, BackpressurePolicy::PauseUpstream).await;
    sender.put(item(1, 8));
    sender.producer.clone().close();
    for datum in [item(2, 8), item(2, 101), moody(Refuses), moody(PanicsInRoom)] {
        let result = sender.offer(datum.clone(), |stats| stats.refused_closed += 1);
        assert_eq!(result, Err(Error::closed(datum)));
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_close_between_online_check_and_claim_answers_closed() {
    for policy in BackpressurePolicy::ALL {
        for full in [false, true] {
            let network = alone().await;
            let (mut sender, mut consumer) = joined(&network, 1, policy).await;
            if full {
                sender.put(item(1, 8));
            }
            CLOSED_MEANWHILE.set(Some(sender.producer.clone()));
            let result = sender.offer(moody(Closes), |stats| stats.refused_closed += 1);
            assert_eq!(result, Err(Error::closed(moody(Closes))), "{policy}");
            assert!(sender.producer.is_closed());
            assert!(drain(&mut consumer).iter().all(|(datum, _)| *datum == item(1, 8)), "{policy}");
        }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn too_large_gives_the_limit_with_and_without_room() {
    for policy in BackpressurePolicy::ALL {
        let network = alone().await;
        let (mut sender, mut consumer) = joined(&network, 1, policy).await;
        for full in [false, true] {
            if full {
                sender.put(item(1, 100));
            }
            let result = sender.offer(item(2, 101), |stats| stats.too_large += 1);
            assert_eq!(result, Err(Error::too_large(item(2, 101), 100)), "{policy}");
        }
        assert_eq!(drain(&mut consumer), [(item(1, 100), 0)], "{policy}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_full_ring_refuses_without_encoding() {
    for policy in [BackpressurePolicy::PauseUpstream, BackpressurePolicy::Fail] {
        let network = alone().await;
        let (mut sender, mut consumer) = joined(&network, 2, policy).await;
        sender.put(item(1, 8));
        sender.put(item(2, 0));
        for datum in [item(3, 8), moody(RefusesInRoom), moody(PanicsInRoom)] {
            let result = sender.offer(datum.clone(), |stats| stats.refused_full += 1);
            assert_eq!(result, Err(Error::Full(datum)), "{policy}");
        }
        let result = sender.offer(moody(Refuses), |stats| stats.unencodable += 1);
        assert_eq!(result, Err(Error::encoding(moody(Refuses), refused())), "{policy}");
        assert_eq!(consumer.try_recv(), Ok(item(1, 8)));
        sender.put(item(4, 8));
        assert_eq!(drain(&mut consumer), [(item(0, 0), 0), (item(4, 8), 0)], "{policy}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn drop_oldest_evicts_only_for_an_encodable_datum() {
    let network = alone().await;
    let (mut sender, mut consumer) = joined(&network, 2, BackpressurePolicy::DropOldest).await;
    sender.put(item(1, 8));
    sender.put(item(2, 8));
    for mood in [Refuses, RefusesInRoom] {
        let result = sender.offer(moody(mood), |stats| stats.unencodable += 1);
        assert_eq!(result, Err(Error::encoding(moody(mood), refused())));
    }
    for mood in [Panics, PanicsInRoom] {
        sender.offer_panicking(moody(mood), |stats| stats.unencodable += 1);
    }
    let put = sender.offer(item(3, 50), |stats| {
        stats.accepted += 1;
        stats.dropped_oldest += 1;
    });
    assert_eq!(put, Ok(()));
    assert_eq!(drain(&mut consumer), [(item(2, 8), 1), (item(3, 50), 0)]);
    assert_eq!((consumer.stats().datums(), consumer.stats().skipped()), (2, 1));
}

#[tokio::test(crate = "crate::support::host")]
async fn a_refused_degraded_datum_comes_back_undegraded() {
    let network = alone().await;
    let (mut sender, mut consumer) = joined(&network, 2, BackpressurePolicy::DegradeQuality).await;
    sender.put(item(1, 8));
    sender.put(item(2, 8));
    for len in [90, 94] {
        let result = sender.offer(item(3, len), |stats| stats.unencodable += 1);
        assert_eq!(result, Err(Error::encoding(item(3, len), refused())));
    }
    for len in [92, 96] {
        sender.offer_panicking(item(3, len), |stats| stats.unencodable += 1);
    }
    let result = sender.offer(item(3, 98), |stats| stats.too_large += 1);
    assert_eq!(result, Err(Error::too_large(item(3, 98), 100)));
    let put = sender.offer(item(4, 40), |stats| {
        stats.accepted += 1;
        stats.degraded += 1;
        stats.dropped_oldest += 1;
    });
    assert_eq!(put, Ok(()));
    assert_eq!(drain(&mut consumer), [(item(2, 8), 1), (item(4, 20), 0)]);
}

#[tokio::test(crate = "crate::support::host")]
async fn an_unmeasurable_datum_takes_no_sequence_number() {
    for policy in BackpressurePolicy::ALL {
        let network = alone().await;
        let (mut sender, mut consumer) = joined(&network, 2, policy).await;
        for len in [0, 24, 64, LONG].repeat(3) {
            let datum = Item { len, ..moody(Refuses) };
            let result = sender.offer(datum.clone(), |stats| stats.unencodable += 1);
            assert_eq!(result, Err(Error::encoding(datum, refused())), "{policy}");
            sender.offer_panicking(Item { len, ..moody(Panics) }, |stats| stats.unencodable += 1);
        }
        sender.put(item(1, 8));
        let next = consumer.try_recv_delivery().unwrap();
        assert_eq!((next.datum, next.seq, next.skipped_before), (item(1, 8), 0, 0), "{policy}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_failed_encode_abandons_its_room_without_a_gap() {
    for policy in BackpressurePolicy::ALL {
        let network = alone().await;
        let (mut sender, mut consumer) = joined(&network, 3, policy).await;
        for round in 0..50 {
            // An abandoned record occupies its room until the consumer has passed it.
            let count = |stats: &mut Stats| {
                stats.unencodable += 1;
                stats.in_ring += 1;
            };
            let result = sender.offer(moody(RefusesInRoom), count);
            assert_eq!(result, Err(Error::encoding(moody(RefusesInRoom), refused())), "{policy}");
            sender.offer_panicking(moody(PanicsInRoom), count);
            if round % 2 == 0 {
                assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty), "no datum: {policy}");
                assert_eq!(sender.producer.stats().in_ring, 0, "{policy}");
            }
            sender.put(item(round, 24));
            let next = consumer.try_recv_delivery().unwrap();
            assert_eq!((next.datum, next.skipped_before), (item(round, 24), 0), "{policy}");
            assert_eq!(next.seq, 3 * u64::from(round) + 2, "each has a number of its own: {policy}");
        }
        let stats = sender.producer.stats();
        assert_eq!((stats.accepted, stats.unencodable, stats.dropped_oldest), (50, 100, 0), "{policy}");
        assert_eq!((consumer.stats().datums(), consumer.stats().bytes()), (50, 50 * 24), "{policy}");
        assert_eq!((consumer.stats().skipped(), consumer.stats().undecodable()), (0, 0), "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_failed_encode_is_never_seen_by_a_remote_consumer() {
    let nodes = apart(2).await;
    let mut consumer = consumer(&nodes[1]);
    let sender = Sender::new(builder(&nodes[0]).with_buffer_size(64));
    within(sender.producer.when().online()).await;
    within(consumer.when().online()).await;
    for round in 0..50 {
        for mood in [Refuses, Panics, RefusesInRoom, PanicsInRoom] {
            let result = attempt(&sender.producer, moody(mood));
            assert_eq!(unencodable(result).0, moody(mood));
        }
        within(sender.producer.send(item(round, 24))).await.unwrap();
        let next = within(consumer.recv_delivery()).await.unwrap();
        assert_eq!(next.datum, item(round, 24));
        assert!(next.skipped_before <= 2, "at most the numbers that were given up: {}", next.skipped_before);
    }
    let stats = sender.producer.stats();
    assert_eq!((stats.accepted, stats.unencodable, stats.offered()), (50, 200, 250));
    assert_eq!((consumer.stats().datums(), consumer.stats().undecodable()), (50, 0));
}
