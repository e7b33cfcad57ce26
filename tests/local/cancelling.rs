//! Futures that are dropped half way, order among those that wait, and the end.

use std::task::{Poll, Waker};

use corewire::BackpressurePolicy::{DropOldest, PauseUpstream};
use corewire::local::{Stream, StreamError};

use super::support::{Task, assert_balanced, stream_of};

#[test]
fn pushes_that_wait_are_served_in_their_order() {
    let s = stream_of(PauseUpstream, 1);
    s.try_push(0).unwrap();
    let mut waiting: Vec<_> = (1..=8).map(|n| Task::new(s.push(n))).collect();
    assert!(waiting.iter_mut().all(|push| push.poll().is_pending()));
    for n in 0..8 {
        assert_eq!(s.try_pop(), Ok(n));
        // A newcomer does not get in front of them, and neither does one from the middle.
        let refused = s.try_push(99).unwrap_err();
        assert_eq!((refused.error, refused.item), (StreamError::Backpressure, 99));
        if waiting.len() > 1 {
            assert!(waiting[1].poll().is_pending());
        }
        assert!(waiting[0].is_woken());
        assert_eq!(waiting[0].poll(), Poll::Ready(Ok(())));
        waiting.remove(0);
    }
    assert_eq!(s.try_pop(), Ok(8));
    assert_eq!(s.metrics().pause_upstream_blocks, 8);
    assert_balanced(&s);
}

#[test]
fn a_push_that_is_dropped_passes_its_room_on() {
    let s = stream_of(PauseUpstream, 1);
    s.try_push(0).unwrap();
    let (mut first, mut second) = (Task::new(s.push(1)), Task::new(s.push(2)));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    s.try_pop().unwrap();
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_eq!(second.poll(), Poll::Ready(Ok(())));
    assert_eq!((s.metrics().cancelled, s.metrics().waiting), (1, 0));
    assert_balanced(&s);
}

#[test]
fn a_pop_that_is_dropped_passes_its_datum_on() {
    for policy in [DropOldest, PauseUpstream] {
        let s = stream_of(policy, 2);
        let (mut first, mut second) = (Task::new(s.pop()), Task::new(s.pop()));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        s.try_push(1).unwrap();
        assert!(first.is_woken() && !second.is_woken());
        drop(first);
        assert!(second.is_woken());
        assert_eq!(second.poll(), Poll::Ready(Some(1)));
    }
}

#[test]
fn two_datums_wake_two_consumers() {
    let s = stream_of(PauseUpstream, 2);
    let (mut first, mut second) = (Task::new(s.pop()), Task::new(s.pop()));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    s.try_push(1).unwrap();
    s.try_push(2).unwrap();
    assert_eq!(first.poll(), Poll::Ready(Some(1)));
    assert!(second.is_woken());
    assert_eq!(second.poll(), Poll::Ready(Some(2)));
}

#[test]
fn a_push_that_drops_a_datum_still_wakes_a_pop() {
    let s = stream_of(DropOldest, 1);
    let (mut first, mut second) = (Task::new(s.pop()), Task::new(s.pop()));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    s.try_push(1).unwrap(); // Wakes the first, which is not polled.
    s.try_push(2).unwrap(); // Drops 1.
    assert!(second.is_woken());
    assert_eq!(second.poll(), Poll::Ready(Some(2)));
}

#[test]
fn close_wakes_all() {
    let s = stream_of(PauseUpstream, 1);
    let mut pops: Vec<_> = (0..3).map(|_| Task::new(s.pop())).collect();
    assert!(pops.iter_mut().all(|pop| pop.poll().is_pending()));
    s.close();
    assert!(pops.iter().all(Task::is_woken));
    assert!(pops.iter_mut().all(|pop| pop.poll() == Poll::Ready(None)));

    let s = stream_of(PauseUpstream, 1);
    s.try_push(1).unwrap();
    let mut pushes: Vec<_> = (2..5).map(|n| Task::new(s.push(n))).collect();
    assert!(pushes.iter_mut().all(|push| push.poll().is_pending()));
    s.clone().close();
    assert!(pushes.iter().all(Task::is_woken));
    for (n, push) in (2..5).rev().zip(pushes.iter_mut().rev()) {
        assert_eq!(push.poll(), Poll::Ready(Err(StreamError::Cancelled)));
        assert_eq!(push.future().take_item(), Some(n));
    }
    assert_eq!(s.try_pop(), Ok(1));
    assert_eq!(s.metrics().refused_closed, 3);
    assert_balanced(&s);
}

#[test]
fn pushes_beyond_the_queues_limit_are_refused_with_their_datum() {
    let s = stream_of(PauseUpstream, 1);
    s.try_push(0).unwrap();
    let mut waiting: Vec<_> = (1..=1024).map(|n| Task::new(s.push(n))).collect();
    assert!(waiting.iter_mut().all(|push| push.poll().is_pending()));
    let mut crowded = Task::new(s.push(2000));
    assert_eq!(crowded.poll(), Poll::Ready(Err(StreamError::Backpressure)));
    assert_eq!(crowded.future().take_item(), Some(2000));
    drop(waiting);
    assert_eq!(s.metrics().cancelled, 1024);
    assert_balanced(&s);
}

#[test]
fn pops_beyond_the_queues_limit_poll_instead_and_lose_nothing() {
    let s = stream_of(PauseUpstream, 4);
    let mut waiting: Vec<_> = (0..1024).map(|_| Task::new(s.pop())).collect();
    assert!(waiting.iter_mut().all(|pop| pop.poll().is_pending()));
    let mut crowded = Task::new(s.pop());
    for _ in 0..3 {
        assert!(crowded.poll().is_pending());
        assert!(crowded.is_woken(), "it wakes itself");
    }
    s.try_push(5).unwrap();
    assert_eq!(crowded.poll(), Poll::Ready(Some(5)));
    s.try_push(6).unwrap();
    assert!(waiting.iter().any(Task::is_woken));
}

#[test]
fn a_future_may_move_to_another_waker() {
    let s = stream_of(PauseUpstream, 1);
    let mut pop = Task::new(s.pop());
    assert!(std::pin::Pin::new(pop.future()).poll_with_noop().is_pending());
    assert!(pop.poll().is_pending());
    s.try_push(1).unwrap();
    assert!(pop.is_woken(), "the last waker is the one that is woken");
}

trait PollWithNoop: Future {
    fn poll_with_noop(self: std::pin::Pin<&mut Self>) -> Poll<Self::Output> {
        self.poll(&mut std::task::Context::from_waker(Waker::noop()))
    }
}

impl<F: Future> PollWithNoop for F {}

#[test]
fn a_push_that_was_never_polled_was_never_offered() {
    let s: Stream<u64> = stream_of(PauseUpstream, 1);
    drop(s.push(1));
    let mut push = s.push(2);
    assert_eq!(push.take_item(), Some(2));
    drop(push);
    assert_eq!(s.metrics(), Default::default());
}
