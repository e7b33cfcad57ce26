//! Plain datums: written and read in the ring.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use corewire::streams::consumer::TryRecvError;
use corewire::{Codec, Consumer, Network, Plain, PlainLayout, Producer};
use corewire::{DatumOutput, DecodeError, EncodeError, Fingerprint};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::support::{alone, apart, within};

#[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C, align(16))]
struct Tick {
    instrument: u64,
    price: i64,
    sizes: [u64; 2],
}

fn tick(n: u64) -> Tick {
    Tick { instrument: n, price: -(n as i64), sizes: [n, n + 1] }
}

async fn plain(
    here: &Network,
    there: &Network,
    datums: usize,
) -> (Producer<Tick, Plain>, Consumer<Tick, Plain>) {
    let producer = here
        .streams()
        .producer::<Tick>()
        .with_stream_id("ticks")
        .with_buffer_size(datums)
        .codec(Plain)
        .build()
        .unwrap();
    let consumer = there.streams().consumer::<Tick>().with_stream_id("ticks").codec(Plain).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}

#[tokio::test(crate = "crate::support::host")]
async fn plain_carries_a_type_without_serde() {
    let network = alone().await;
    let (producer, mut consumer) = plain(&network, &network, 4).await;
    within(producer.send(tick(1))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(tick(1)));
    assert_eq!(consumer.stats().bytes(), 32);
}

/// Declares that it never panics, and panics.
struct Rash;

thread_local! {
    /// How often [`Rash`] has encoded 13 on this thread.
    static ATTEMPTS: Cell<u32> = const { Cell::new(0) };
}

impl Codec<u64> for Rash {
    const MAY_PANIC: bool = false;

    fn fingerprint() -> Fingerprint {
        Fingerprint::of("rash")
    }

    fn encode(datum: &u64, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        if *datum == 13 {
            // First the length is asked for. The second time there is claimed room.
            let attempt = ATTEMPTS.replace(ATTEMPTS.get() + 1);
            assert!(attempt.is_multiple_of(2), "on the way in");
        }
        <Plain as Codec<u64>>::encode(datum, out)
    }

    fn decode(bytes: &[u8]) -> Result<u64, DecodeError> {
        let datum = <Plain as Codec<u64>>::decode(bytes)?;
        assert!(datum != 17, "on the way out");
        Ok(datum)
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn an_uncontained_codec_panic_leaves_the_stream_usable() {
    let network = alone().await;
    let builder = network.streams().producer::<u64>().with_stream_id("rash").with_buffer_size(2);
    let producer = builder.codec(Rash).build().unwrap();
    let mut consumer = network.streams().consumer::<u64>().with_stream_id("rash").codec(Rash).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    for round in 100..110 {
        assert!(catch_unwind(AssertUnwindSafe(|| producer.try_send(13))).is_err());
        assert!(ATTEMPTS.get().is_multiple_of(2), "room was claimed");
        producer.try_send(17).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| consumer.try_recv())).is_err());
        producer.try_send(round).unwrap();
        assert_eq!(consumer.try_recv(), Ok(round), "no room is lost, and nothing is pinned");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_borrowed_datum_holds_its_room_until_dropped() {
    let network = alone().await;
    let (producer, mut consumer) = plain(&network, &network, 2).await;
    producer.try_send(tick(1)).unwrap();
    producer.try_send(tick(2)).unwrap();
    {
        let first = within(consumer.recv_ref()).await.unwrap();
        assert_eq!(*first, tick(1));
        assert_eq!((first.skipped_before(), first.producer()), (0, *network.local().id()));
        assert!(producer.try_send(tick(3)).is_err(), "its room is held");
    }
    producer.try_send(tick(3)).unwrap();
    assert_eq!(consumer.try_recv_ref().map(|datum| *datum), Ok(tick(2)));
    assert_eq!(consumer.recv_ref_blocking().map(|datum| *datum), Some(tick(3)));
    assert!(matches!(consumer.try_recv_ref(), Err(TryRecvError::Empty)));
    assert_eq!(consumer.stats().datums(), 3);
    consumer.close();
    assert!(within(consumer.recv_ref()).await.is_none());
}

#[tokio::test(crate = "crate::support::host")]
async fn a_leaked_borrow_takes_nothing() {
    let network = alone().await;
    let (producer, mut consumer) = plain(&network, &network, 2).await;
    producer.try_send(tick(1)).unwrap();
    producer.try_send(tick(2)).unwrap();
    std::mem::forget(consumer.try_recv_ref().unwrap());
    std::mem::forget(consumer.try_recv_ref().unwrap());
    assert_eq!(consumer.stats().datums(), 0);
    assert!(producer.try_send(tick(3)).is_err(), "its room is held");
    assert_eq!(consumer.try_recv_ref().map(|datum| *datum), Ok(tick(1)));
    std::mem::forget(consumer.try_recv_ref().unwrap());
    assert_eq!(consumer.try_recv(), Ok(tick(2)));
    assert_eq!(consumer.stats().datums(), 2);
    producer.try_send(tick(3)).unwrap();
    assert_eq!(consumer.try_recv(), Ok(tick(3)));
}

/// [`Plain`] that takes any other for its own.
struct Careless;

impl<D> Codec<D> for Careless
where
    Plain: Codec<D>,
{
    fn fingerprint() -> Fingerprint {
        Fingerprint::ANY
    }

    fn encode(datum: &D, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        Plain::encode(datum, out)
    }

    fn decode(bytes: &[u8]) -> Result<D, DecodeError> {
        Plain::decode(bytes)
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn borrowing_skips_records_of_another_size() {
    let network = alone().await;
    let producer =
        network.streams().producer::<u64>().with_stream_id("mixed").codec(Careless).build().unwrap();
    let mut consumer = network.streams().consumer::<[u64; 2]>().with_stream_id("mixed").codec(Plain).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    for n in 0..3 {
        producer.try_send(n).unwrap();
    }
    assert!(matches!(consumer.try_recv_ref(), Err(TryRecvError::Empty)));
    assert_eq!(consumer.stats().undecodable(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn plain_datums_are_aligned_at_a_remote_consumer() {
    let nodes = apart(2).await;
    let (producer, mut consumer) = plain(&nodes[0], &nodes[1], 64).await;
    for n in 0..200 {
        within(producer.send(tick(n))).await.unwrap();
        let datum = within(consumer.recv_ref()).await.unwrap();
        assert_eq!(*datum, tick(n));
        assert_eq!(datum.seq(), n);
    }
}
