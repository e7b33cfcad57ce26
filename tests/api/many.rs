//! As many consumers on one engine as a ring has places.

use corewire::streams::{CloseCode, ConsumerEvent};

use super::support::{alone, within};

/// Places of a ring. A stream without consumers on other engines has them all.
const PLACES: usize = 1_024;

#[tokio::test]
async fn a_thousand_consumers_get_every_datum_and_the_next_has_to_wait() {
    let network = alone().await;
    let producer = network.streams().producer::<u64>().with_buffer_size(16).build().unwrap();
    let mut consumers: Vec<_> = (0..PLACES).map(|_| network.streams().consume::<u64>()).collect();
    within(producer.when().subscribed().minimum_of(PLACES)).await;
    for n in 0..40 {
        within(producer.send(n)).await.unwrap();
        for consumer in &mut consumers {
            assert_eq!(within(consumer.recv()).await, Some(n));
        }
    }
    let next = network.streams().consume::<u64>();
    let refused = within(next.events().recv()).await.unwrap();
    assert!(
        matches!(refused, ConsumerEvent::Refused { code: CloseCode::NO_CAPACITY, retries: true, .. }),
        "{refused:?}"
    );
    consumers.pop();
    within(next.when().online()).await;
    assert_eq!(producer.stats().accepted, 40);
}
