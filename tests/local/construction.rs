//! What can be built, what cannot, and what a stream holds.

use std::panic::catch_unwind;
use std::sync::Arc;

use corewire::BackpressurePolicy::{self, DropOldest, Fail, PauseUpstream};
use corewire::Plain;
use corewire::local::{BuildError, Stream, StreamError, TryPopError};

use super::support::{annotation, assert_balanced, stream_of};

#[test]
fn nonsense_is_refused_and_says_why() {
    let built = |capacity| Stream::<u8>::builder(Fail).capacity(capacity).build();
    assert!(matches!(built(0), Err(BuildError::Ring(_))));
    assert!(matches!(built(8_388_609), Err(BuildError::Ring(_))));
    assert!(matches!(built(usize::MAX), Err(BuildError::Ring(_))));
    assert_eq!(Stream::<u8>::from_annotation(Fail).err(), Some(BuildError::NoCapacity));
    for bytes in [0, usize::MAX] {
        let built = Stream::<u8>::builder(Fail).capacity(4).max_datum_bytes(bytes).build();
        assert!(matches!(built, Err(BuildError::Ring(_))), "{bytes}: {built:?}");
    }
    let conflict = Stream::<u8>::builder(annotation("fail, buffer_size=4")).capacity(5).build();
    assert_eq!(conflict.err(), Some(BuildError::CapacityConflict { capacity: 5, buffer_size: 4 }));
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
fn the_capacity_is_exact_for_the_longest_datums() {
    for capacity in [1, 2, 3, 7, 64, 100] {
        let limit = 100;
        let s = Stream::<Vec<u8>>::builder(Fail).capacity(capacity).max_datum_bytes(limit).build().unwrap();
        let longest = vec![7; limit - 1]; // One byte tells the length.
        for round in 0..5 {
            for n in 0..capacity {
                s.try_push(longest.clone())
                    .unwrap_or_else(|error| panic!("{capacity}, {round}, {n}: {error}"));
            }
            assert_eq!(s.depth(), capacity);
            let refused = s.try_push(longest.clone()).unwrap_err();
            assert_eq!(refused.error, StreamError::Overflow { policy: Fail, buffer_capacity: capacity });
            assert_eq!(refused.item.as_deref(), Some(&longest[..]));
            for _ in 0..capacity {
                assert_eq!(s.try_pop().as_deref(), Ok(&longest[..]));
            }
            assert_eq!(s.try_pop(), Err(TryPopError::Empty));
        }
        assert_balanced(&s);
    }
}

#[test]
fn a_datum_that_is_too_long_comes_back_under_every_policy() {
    for policy in BackpressurePolicy::ALL {
        let s = Stream::<String>::builder(policy).capacity(1).max_datum_bytes(8).build().unwrap();
        s.try_push("short".into()).unwrap();
        let refused = s.try_push("too long for it".into()).unwrap_err();
        assert_eq!(refused.error, StreamError::TooLarge { len: 16, limit: 8 });
        assert_eq!(refused.item.as_deref(), Some("too long for it"));
        assert_eq!(s.try_pop().as_deref(), Ok("short"), "nothing was dropped for it");
        assert_eq!(s.metrics().too_large, 1);
        assert_balanced(&s);
    }
}

#[test]
fn the_defaults_carry_what_their_description_says() {
    let text: Stream<String> = Stream::new(64, Fail);
    assert_eq!(text.max_datum_bytes(), 64 << 10);
    let many: Stream<String> = Stream::new(1 << 16, Fail);
    assert_eq!(many.max_datum_bytes(), 4 << 10);
    let flat: Stream<[u64; 32]> = Stream::new(2, Fail);
    assert_eq!(flat.max_datum_bytes(), 1024);
    flat.try_push([u64::MAX; 32]).expect("ten bytes each");
    let small: Stream<Option<Option<bool>>> = Stream::new(2, Fail);
    assert_eq!(small.max_datum_bytes(), 64);
    small.try_push(Some(Some(true))).unwrap();
    assert_eq!(small.try_pop(), Ok(Some(Some(true))));
}

#[test]
fn plain_datums_and_datums_without_bytes_travel_too() {
    let plain = Stream::<[u64; 4]>::builder(PauseUpstream).capacity(2).codec(Plain).build().unwrap();
    plain.try_push([1, 2, 3, 4]).unwrap();
    assert_eq!(plain.try_pop(), Ok([1, 2, 3, 4]));
    // Not a serde type.
    #[derive(
        zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, Debug, PartialEq,
    )]
    #[repr(C)]
    struct Tick(u32, u32);
    let ticks = Stream::<Tick>::builder(Fail).capacity(1).codec(Plain).build().unwrap();
    ticks.try_push(Tick(1, 2)).unwrap();
    assert_eq!(ticks.pop_blocking(), Some(Tick(1, 2)));
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
            n
        }),
    );
    let metrics = Arc::downgrade(&s.metrics);
    s.try_push(1).unwrap();
    // A consumer that has waited leaves the ring with our waker; it must not hold the stream.
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

/// Handles go where they are needed.
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
