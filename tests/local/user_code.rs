//! User code: degraders, wakers, and the destructors of datums. It may panic, and it may call the stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use corewire::BackpressurePolicy::{self, DegradeQuality, DropOldest, PauseUpstream};
use corewire::local::{Stream, StreamError};

use super::support::{assert_balanced, in_time, stream_of};

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
fn a_datum_is_pushed_unchanged_when_the_degrader_panics() {
    let s: Stream<String> = Stream::with_degrader(1, DegradeQuality, Arc::new(|_| panic!("told to")));
    s.try_push("old".into()).unwrap();
    s.try_push("new".into()).unwrap();
    let mut push = s.push("newer".into());
    assert_eq!(Pin::new(&mut push).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
    assert_eq!(push.take_item(), None);
    drop(push);
    assert_eq!(s.try_pop().as_deref(), Ok("newer"));
    let m = s.metrics();
    assert_eq!((m.degrader_panics, m.degrade_quality_hits, m.drop_oldest_hits, m.refused()), (2, 0, 2, 0));
    assert_balanced(&s);
}

#[test]
fn a_stream_closed_by_its_degrader_gives_the_degraded_datum_back() {
    let itself: Arc<OnceLock<Stream<u64>>> = Arc::default();
    let inner = Arc::clone(&itself);
    let degrader = move |n: &u64| {
        inner.get().unwrap().close();
        n / 2
    };
    let s: Stream<u64> = Stream::with_degrader(1, DegradeQuality, Arc::new(degrader));
    itself.set(s.clone()).unwrap();
    s.try_push(1).unwrap();
    let refused = s.try_push(10).unwrap_err();
    assert_eq!((refused.error, refused.item), (StreamError::Cancelled, 5));
    assert_eq!(s.metrics().drop_oldest_hits, 0);
    assert_balanced(&s);
}

/// A datum whose destructor uses the stream, and then panics.
struct Guest {
    name: u32,
    stream: Stream<Guest>,
    /// Depths of the stream when guests were dropped.
    seen: Arc<Mutex<Vec<(u32, usize)>>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.seen.lock().unwrap().push((self.name, self.stream.depth()));
        assert!(!self.stream.is_closed());
        panic!("told to");
    }
}

#[test]
fn the_destructor_of_a_dropped_datum_runs_outside_the_lock() {
    in_time(|| {
        let seen: Arc<Mutex<Vec<(u32, usize)>>> = Arc::default();
        let s: Stream<Guest> = Stream::new(2, DropOldest);
        for name in 1..=4 {
            let guest = Guest { name, stream: s.clone(), seen: Arc::clone(&seen) };
            s.try_push(guest).expect("a panic of the destructor is not the pusher's");
        }
        assert_eq!(*seen.lock().unwrap(), [(1, 2), (2, 2)], "dropped once each, with the buffer full again");
        let left = [s.try_pop().unwrap(), s.try_pop().unwrap()];
        assert_eq!(left.each_ref().map(|guest| guest.name), [3, 4]);
        left.into_iter().for_each(std::mem::forget);
        assert_balanced(&s);
    });
}

#[test]
fn the_datum_that_a_degrader_replaced_is_dropped_once() {
    let held = Arc::new(());
    let s: Stream<Arc<()>> = Stream::with_degrader(1, DegradeQuality, Arc::new(|_| Arc::default()));
    s.try_push(Arc::clone(&held)).unwrap();
    s.try_push(Arc::clone(&held)).unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(s.metrics().degrade_quality_hits, 1);
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
                // Each poll replaces the waker of the one before; dropping that pushes, so the next may be
                // ready.
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
fn a_waker_that_panics_loses_no_datum_and_no_wakeup() {
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
fn the_degrader_runs_once_per_datum_and_only_without_room() {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    let s: Stream<u64> = Stream::with_degrader(
        2,
        DegradeQuality,
        Arc::new(move |n| {
            seen.lock().unwrap().push(*n);
            *n
        }),
    );
    (0..5).for_each(|n| s.try_push(n).unwrap());
    assert_eq!(*runs.lock().unwrap(), [2, 3, 4]);
    assert_eq!(s.metrics().degrade_quality_hits, 3);

    let unused: Stream<u64> = Stream::with_degrader(1, DropOldest, Arc::new(|_| unreachable!()));
    (0..5).for_each(|n| unused.try_push(n).unwrap());
    assert_eq!(unused.try_pop(), Ok(4));
}
