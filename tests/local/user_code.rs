//! What users supply: degraders, `Serialize`, `Deserialize`, wakers. It may panic, and it may call the stream.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use corewire::BackpressurePolicy::{self, DegradeQuality, DropOldest, Fail, PauseUpstream};
use corewire::local::{Stream, StreamError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::support::{assert_balanced, in_time, stream_of};

/// A datum that does what it is told while it is encoded and decoded.
#[derive(Debug, PartialEq, Clone, Copy)]
struct Awkward(u8);

const PANICS_WHEN_ENCODED: Awkward = Awkward(100);
const PANICS_WHEN_DECODED: Awkward = Awkward(101);
const DOES_NOT_DECODE: Awkward = Awkward(102);
const DOES_NOT_ENCODE: Awkward = Awkward(103);
const POPS_WHEN_DECODED: Awkward = Awkward(104);
const PUSHES_WHEN_ENCODED: Awkward = Awkward(105);

thread_local! {
    /// The stream that awkward datums use while they are encoded or decoded.
    static STREAM: RefCell<Option<Stream<Awkward>>> = const { RefCell::new(None) };
}

fn with_stream(work: impl FnOnce(&Stream<Awkward>)) {
    let stream = STREAM.with_borrow(|stream| stream.clone());
    work(&stream.expect("the test has set it"));
}

impl Serialize for Awkward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            PANICS_WHEN_ENCODED => panic!("told to"),
            DOES_NOT_ENCODE => return Err(serde::ser::Error::custom("told to")),
            PUSHES_WHEN_ENCODED => with_stream(|s| s.try_push(Awkward(7)).unwrap()),
            _ => {}
        }
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let datum = Self(u8::deserialize(deserializer)?);
        match datum {
            PANICS_WHEN_DECODED => panic!("told to"),
            DOES_NOT_DECODE => return Err(serde::de::Error::custom("told to")),
            POPS_WHEN_DECODED => with_stream(|s| assert_eq!(s.try_pop(), Ok(Awkward(8)))),
            _ => {}
        }
        Ok(datum)
    }
}

#[test]
fn a_datum_that_cannot_be_encoded_comes_back_and_takes_no_room() {
    for policy in BackpressurePolicy::ALL {
        let s: Stream<Awkward> = Stream::new(2, policy);
        for (datum, panics) in [(PANICS_WHEN_ENCODED, true), (DOES_NOT_ENCODE, false)] {
            let refused = s.try_push(datum).unwrap_err();
            assert_eq!(refused.item, Some(datum));
            assert!(
                matches!(&refused.error, StreamError::Encoding(why) if why.is_panic() == panics),
                "{refused:?}"
            );
        }
        s.try_push(Awkward(1)).unwrap();
        s.try_push(Awkward(2)).unwrap();
        assert_eq!(s.metrics().drop_oldest_hits, 0);
        assert!(s.try_push(PANICS_WHEN_ENCODED).is_err());
        assert_eq!((s.try_pop(), s.try_pop()), (Ok(Awkward(1)), Ok(Awkward(2))));
        assert_eq!(s.metrics().unencodable, 3);
        assert_balanced(&s);
    }
}

#[test]
fn a_datum_that_does_not_decode_is_counted_and_skipped() {
    let s: Stream<Awkward> = Stream::new(4, Fail);
    for datum in [PANICS_WHEN_DECODED, DOES_NOT_DECODE, Awkward(1), PANICS_WHEN_DECODED] {
        s.try_push(datum).unwrap();
    }
    assert_eq!(s.pop_blocking(), Some(Awkward(1)));
    assert!(s.try_pop().is_err());
    let m = s.metrics();
    assert_eq!((m.undecodable, m.decode_panics, m.items_delivered), (3, 2, 1));
    assert_balanced(&s);
}

#[test]
fn encoding_and_decoding_may_use_the_stream() {
    in_time(|| {
        let s: Stream<Awkward> = Stream::new(8, Fail);
        STREAM.set(Some(s.clone()));
        s.try_push(POPS_WHEN_DECODED).unwrap();
        s.try_push(Awkward(8)).unwrap();
        assert_eq!(s.pop_blocking(), Some(POPS_WHEN_DECODED));
        // Once when it is measured and once when it is encoded.
        s.try_push(PUSHES_WHEN_ENCODED).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| s.try_pop().ok()).collect();
        assert_eq!(taken, [Awkward(7), Awkward(7), PUSHES_WHEN_ENCODED]);
        assert_balanced(&s);
        STREAM.set(None);
    });
}

#[test]
fn a_degrader_may_use_its_stream() {
    in_time(|| {
        let itself: Arc<OnceLock<Stream<u64>>> = Arc::default();
        let inner = Arc::clone(&itself);
        let s: Stream<u64> = Stream::with_degrader(
            2,
            DegradeQuality,
            Arc::new(move |n| {
                let s = inner.get().unwrap();
                assert_eq!((s.depth(), s.try_pop()), (2, Ok(1)));
                s.try_push(50).unwrap();
                n / 2
            }),
        );
        itself.set(s.clone()).unwrap();
        s.try_push(1).unwrap();
        s.try_push(2).unwrap();
        s.push_blocking(10).unwrap();
        assert_eq!((s.try_pop(), s.try_pop()), (Ok(50), Ok(5)));
        assert_balanced(&s);
    });
}

#[test]
fn a_degrader_that_panics_costs_no_datum() {
    let s: Stream<String> = Stream::with_degrader(1, DegradeQuality, Arc::new(|_| panic!("told to")));
    s.try_push("old".into()).unwrap();
    let refused = s.try_push("new".into()).unwrap_err();
    assert_eq!((refused.error, refused.item.as_deref()), (StreamError::DegraderPanicked, Some("new")));
    let mut push = s.push("newer".into());
    let polled = Pin::new(&mut push).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Err(StreamError::DegraderPanicked)));
    assert_eq!(push.take_item().as_deref(), Some("newer"));
    drop(push);
    assert_eq!(s.try_pop().as_deref(), Ok("old"));
    let m = s.metrics();
    assert_eq!((m.degrader_panics, m.not_degraded, m.degrade_quality_hits, m.drop_oldest_hits), (2, 2, 0, 0));
    assert_balanced(&s);
}

#[test]
fn a_degraders_result_that_is_too_long_comes_back() {
    let s: Stream<String> = Stream::builder(DegradeQuality)
        .capacity(1)
        .max_datum_bytes(8)
        .degrader(Arc::new(|text: String| text.repeat(9)))
        .build()
        .unwrap();
    s.try_push("a".into()).unwrap();
    let refused = s.try_push("b".into()).unwrap_err();
    assert_eq!(refused.error, StreamError::TooLarge { len: 10, limit: 8 });
    assert_eq!(refused.item.as_deref(), Some("bbbbbbbbb"));
    assert_eq!(s.try_pop().as_deref(), Ok("a"));
    assert_balanced(&s);
}

/// A waker that uses the stream when it is woken, and when it is dropped.
struct Meddler {
    stream: Stream<u64>,
    runs: Arc<AtomicUsize>,
}

impl Meddler {
    fn meddle(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let _ = self.stream.try_pop();
        let _ = self.stream.try_push(77);
        let _ = self.stream.depth();
    }
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        self.meddle();
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.meddle();
    }
}

#[test]
fn wakers_may_use_the_stream_when_they_run_and_when_they_go() {
    for policy in BackpressurePolicy::ALL {
        in_time(move || {
            let s = stream_of(policy, 1);
            let runs = Arc::new(AtomicUsize::new(0));
            let waker = || Waker::from(Arc::new(Meddler { stream: s.clone(), runs: Arc::clone(&runs) }));
            let mut pop = s.pop();
            for _ in 0..3 {
                // Each poll replaces the waker of the one before; dropping that pushes, so the next may be ready.
                if Pin::new(&mut pop).poll(&mut Context::from_waker(&waker())).is_ready() {
                    break;
                }
            }
            drop(pop);
            let mut pop = s.pop();
            while s.try_pop().is_ok() {}
            let _ = Pin::new(&mut pop).poll(&mut Context::from_waker(&waker()));
            let _ = s.try_push(1);
            drop(pop);
            let _ = s.try_push(2);
            let mut pushes = [s.push(3), s.push(4)];
            for push in &mut pushes {
                let _ = Pin::new(push).poll(&mut Context::from_waker(&waker()));
            }
            let _ = s.try_pop();
            drop(pushes);
            s.close();
            assert!(runs.load(Ordering::SeqCst) > 0);
            assert_balanced(&s);
        });
    }
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("told to");
    }
}

#[test]
fn a_waker_that_panics_costs_nobody_anything() {
    let s = stream_of(PauseUpstream, 1);
    let bad = Waker::from(Arc::new(PanickingWaker));
    let (mut first, mut second) = (s.pop(), s.pop());
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&bad)).is_pending());
    assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&bad)).is_pending());
    s.try_push(1).unwrap();
    assert_eq!(Pin::new(&mut first).poll(&mut Context::from_waker(&bad)), Poll::Ready(Some(1)));
    drop((first, second));
    s.try_push(1).unwrap();
    let mut push = s.push(2);
    assert!(Pin::new(&mut push).poll(&mut Context::from_waker(&bad)).is_pending());
    assert_eq!(s.try_pop(), Ok(1), "the datum is not lost with the waker's panic");
    assert_eq!(Pin::new(&mut push).poll(&mut Context::from_waker(&bad)), Poll::Ready(Ok(())));
    drop(push);
    s.close();
    assert_balanced(&s);
}

#[test]
fn the_degrader_runs_only_when_there_is_no_room_and_once_for_each_datum() {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    let s: Stream<u64> = Stream::with_degrader(
        2,
        DegradeQuality,
        Arc::new(move |n| {
            seen.lock().unwrap().push(n);
            n
        }),
    );
    (0..5).for_each(|n| s.try_push(n).unwrap());
    assert_eq!(*runs.lock().unwrap(), [2, 3, 4]);
    assert_eq!(s.metrics().degrade_quality_hits, 3);

    let unused: Stream<u64> = Stream::with_degrader(1, DropOldest, Arc::new(|_| unreachable!()));
    (0..5).for_each(|n| unused.try_push(n).unwrap());
    assert_eq!(unused.try_pop(), Ok(4));
}
