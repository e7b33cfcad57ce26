//! What can be built, what cannot, and what a stream holds.

use std::panic::catch_unwind;
use std::sync::Arc;

use corewire::BackpressurePolicy::{self, DropOldest, Fail, PauseUpstream};
use corewire::local::{BuildError, Stream, StreamError, TryPopError};

use super::support::{annotation, assert_balanced, stream_of};

#[test]
fn an_impossible_stream_is_refused_with_the_reason() {
    let built = |capacity, text| Stream::<u8>::try_new(capacity, annotation(text), None).err();
    for capacity in [0, 8_388_609, usize::MAX] {
        assert_eq!(built(Some(capacity), "fail"), Some(BuildError::BadCapacity(capacity)));
    }
    assert_eq!(built(None, "fail"), Some(BuildError::NoCapacity));
    let conflict = BuildError::CapacityConflict { capacity: 5, buffer_size: 4 };
    assert_eq!(built(Some(5), "fail, buffer_size=4"), Some(conflict));
    assert_eq!(built(Some(4), "fail, buffer_size=4"), None);
    let huge = Stream::<[u8; 1 << 40]>::try_new(Some(8_388_608), Fail, None);
    assert_eq!(huge.err(), Some(BuildError::NoMemory(8_388_608)));
}

#[test]
fn the_infallible_constructors_panic_with_the_reason() {
    for (capacity, text, reason) in
        [(0, "fail", "1 to 8388608 datums, not 0"), (3, "fail, buffer_size=4", "buffer_size=4")]
    {
        let payload = catch_unwind(|| Stream::<u8>::new(capacity, annotation(text))).unwrap_err();
        let message = payload.downcast::<String>().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn the_annotation_gives_the_capacity() {
    let s: Stream<u8> = Stream::from_annotation(annotation("fail(buffer_size=3)")).unwrap();
    assert_eq!((s.capacity(), s.policy()), (3, Fail));
    assert_eq!(s.annotation().to_string(), "fail, buffer_size=3");
    let equal: Stream<u8> = Stream::new(3, annotation("fail(buffer_size=3)"));
    assert_eq!(equal.capacity(), 3);
}

#[test]
fn the_capacity_is_exact() {
    for capacity in [1, 2, 3, 7, 64, 100] {
        let s: Stream<Vec<usize>> = Stream::new(capacity, Fail);
        for round in 0..5 {
            for n in 0..capacity {
                s.try_push(vec![n]).unwrap_or_else(|error| panic!("{capacity}, {round}, {n}: {error}"));
            }
            assert_eq!(s.depth(), capacity);
            let refused = s.try_push(vec![99]).unwrap_err();
            assert_eq!(refused.error, StreamError::Overflow { policy: Fail, buffer_capacity: capacity });
            assert_eq!(refused.item, [99]);
            for n in 0..capacity {
                assert_eq!(s.try_pop(), Ok(vec![n]));
            }
            assert_eq!(s.try_pop(), Err(TryPopError::Empty));
        }
        assert_balanced(&s);
    }
}

#[test]
fn values_of_any_type_travel_without_encoding() {
    /// Neither serde nor plain memory, neither `Clone` nor `Debug`.
    struct Job(Box<dyn FnOnce() -> u32 + Send>);
    let jobs: Stream<Job> = Stream::new(2, PauseUpstream);
    jobs.try_push(Job(Box::new(|| 7))).unwrap();
    let job = jobs.pop_blocking().unwrap();
    assert_eq!((job.0)(), 7);
    let text = String::from("the same allocation");
    let address = text.as_ptr();
    let texts: Stream<String> = Stream::new(1, Fail);
    texts.try_push(text).unwrap();
    let taken = texts.try_pop().unwrap();
    assert_eq!(taken.as_ptr(), address);
    let units: Stream<()> = Stream::new(2, Fail);
    units.try_push(()).unwrap();
    units.try_push(()).unwrap();
    assert!(units.try_push(()).is_err());
    assert_eq!(units.try_pop(), Ok(()));
}

#[test]
fn the_policy_alone_is_an_annotation() {
    let s = stream_of(DropOldest, 2);
    assert_eq!((s.policy(), s.annotation().to_string()), (DropOldest, "drop_oldest".into()));
}

#[test]
fn dropping_all_handles_frees_what_they_held() {
    let held = Arc::new(());
    let degrader = Arc::clone(&held);
    let s: Stream<u64> = Stream::with_degrader(
        2,
        BackpressurePolicy::DegradeQuality,
        Arc::new(move |n| {
            let _ = &degrader;
            *n
        }),
    );
    let metrics = Arc::downgrade(&s.metrics);
    s.try_push(1).unwrap();
    // A consumer that has waited leaves nothing behind that holds the stream.
    s.try_pop().unwrap();
    assert!(s.pop_timeout(std::time::Duration::ZERO).is_err());
    let other = s.clone();
    drop(s);
    other.try_push(2).unwrap();
    drop(other);
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(metrics.upgrade().is_none());
}

#[test]
fn errors_of_any_datum_can_be_unwrapped_and_turned_into_stream_errors() {
    fn push(s: &Stream<String>) -> Result<(), StreamError> {
        s.try_push("a".into())?;
        s.push_blocking("b".into())?;
        Ok(())
    }
    let s: Stream<String> = Stream::new(1, Fail);
    let error = push(&s).unwrap_err();
    assert!(matches!(error, StreamError::Overflow { .. }));
    assert!(error.to_string().contains("fail") && error.to_string().contains('1'), "{error}");
    let refused = s.try_push("secret".into()).unwrap_err();
    assert!(!format!("{refused:?}").contains("secret"));
}

#[test]
fn handles_and_futures_can_change_and_share_threads() {
    fn anywhere<T: Send + Sync>() {}
    fn movable<T: Send>(_: &T) {}
    anywhere::<Stream<std::cell::Cell<u8>>>();
    anywhere::<StreamError>();
    let s: Stream<u64> = Stream::new(1, Fail);
    movable(&s.push(1));
    movable(&s.pop());
}
