//! The tests of axon's stream, word for word, but with assertions where they had none and without the sleep.

use std::sync::Arc;

use corewire::local::{BackpressurePolicy, DegradationFn, Stream, StreamError};

use super::support::{annotation, assert_balanced};

#[tokio::test]
async fn drop_oldest_replaces_oldest_under_pressure() {
    let s: Stream<i32> = Stream::new(2, annotation("drop_oldest"));
    s.push(1).await.unwrap();
    s.push(2).await.unwrap();
    s.push(3).await.unwrap(); // triggers drop_oldest -> removes 1
    assert_eq!(s.pop().await, Some(2));
    assert_eq!(s.pop().await, Some(3));
    let m = s.metrics.snapshot();
    assert_eq!(m.drop_oldest_hits, 1);
    assert_eq!(m.items_pushed, 3);
    assert_eq!(m.items_delivered, 2);
    assert_balanced(&s);
}

#[tokio::test]
async fn degrade_quality_applies_degrader() {
    let degrader: DegradationFn<i32> = Arc::new(|x| x / 2);
    let s: Stream<i32> = Stream::with_degrader(2, annotation("degrade_quality"), degrader);
    s.push(100).await.unwrap();
    s.push(200).await.unwrap();
    s.push(300).await.unwrap(); // overflow → 300/2 pushed
    assert_eq!(s.pop().await, Some(200));
    assert_eq!(s.pop().await, Some(150));
    let m = s.metrics.snapshot();
    assert_eq!(m.degrade_quality_hits, 1);
    assert_eq!(m.drop_oldest_hits, 1, "what made room for it is counted as well");
    assert_balanced(&s);
}

#[tokio::test]
async fn degrade_quality_without_degrader_errors() {
    let s: Stream<i32> = Stream::new(1, annotation("degrade_quality"));
    s.push(1).await.unwrap();
    // Second push overflows; without a degrader the policy fails closed with MissingDegrader.
    let err = s.push(2).await.unwrap_err();
    assert!(matches!(err, StreamError::MissingDegrader), "{err:?}");
    assert_eq!(s.pop().await, Some(1), "nothing was dropped for it");
    assert_eq!(s.metrics().not_degraded, 1);
    assert_balanced(&s);
}

#[tokio::test]
async fn pause_upstream_blocks_until_consumer_drains() {
    let s: Stream<i32> = Stream::new(1, annotation("pause_upstream"));
    s.push(1).await.unwrap();

    let producer = {
        let s = s.clone();
        tokio::spawn(async move { s.push(2).await })
    };
    // The consumer starts once the producer waits.
    while s.metrics.snapshot().waiting == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!producer.is_finished());
    assert_eq!(s.pop().await, Some(1));
    producer.await.unwrap().unwrap();
    assert_eq!(s.pop().await, Some(2));
    let m = s.metrics.snapshot();
    assert_eq!(m.pause_upstream_blocks, 1, "once for each push that waits");
    assert_balanced(&s);
}

#[tokio::test]
async fn fail_policy_errors_on_overflow() {
    let s: Stream<i32> = Stream::new(1, annotation("fail"));
    s.push(1).await.unwrap();
    let err = s.push(2).await.unwrap_err();
    match err {
        StreamError::Overflow { policy, buffer_capacity } => {
            assert_eq!(policy, BackpressurePolicy::Fail);
            assert_eq!(buffer_capacity, 1);
        }
        other => panic!("expected Overflow, got {other:?}"),
    }
    let m = s.metrics.snapshot();
    assert_eq!(m.fail_overflows, 1);
    assert_eq!(s.pop().await, Some(1));
    s.push(3).await.expect("the stream goes on");
    assert_balanced(&s);
}

#[tokio::test]
async fn close_drains_buffer_then_signals_end() {
    let s: Stream<i32> = Stream::new(4, annotation("fail"));
    s.push(1).await.unwrap();
    s.push(2).await.unwrap();
    s.close().await;
    assert_eq!(s.pop().await, Some(1));
    assert_eq!(s.pop().await, Some(2));
    assert_eq!(s.pop().await, None); // closed + drained
    assert_eq!(s.pop().await, None); // for ever
}

#[tokio::test]
async fn push_after_close_errors() {
    let s: Stream<i32> = Stream::new(4, annotation("fail"));
    s.close();
    s.close(); // Idempotent.
    let err = s.push(99).await.unwrap_err();
    assert!(matches!(err, StreamError::Cancelled), "{err:?}");
    assert_eq!(s.pop().await, None);
    assert_balanced(&s);
}
