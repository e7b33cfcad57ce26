//! Claims that wait for room: order, cancellation at every poll, bounds.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::{ClaimError, Reader, Ring, RingConfig, WaitTicket, limits::MAX_ROOM_WAITERS};
use corewire_testkit::CountingWaker;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// A full ring with a reader that never reads, so that it stays full.
fn full_ring() -> (Ring, Reader) {
    let ring =
        Ring::new(RingConfig { datums: 2, bytes: 64, max_record: 32, readers: 2, scatter_small: false })
            .unwrap();
    let reader = ring.subscribe().unwrap();
    ring.writer().try_push(b"a").unwrap();
    ring.writer().try_push(b"b").unwrap();
    (ring, reader)
}

#[test]
fn room_is_granted_in_order_and_newcomers_do_not_overtake() {
    let (ring, _reader) = full_ring();
    let writer = ring.writer();
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = pin!(writer.claim(1));
    let mut second = pin!(writer.claim(1));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    ring.detach(ring.blockers()[0]).unwrap();
    assert_eq!(writer.try_push(b"c"), Err(ClaimError::Full));
    assert_eq!(writer.try_claim_many(1, 1).err(), Some(ClaimError::Full));
    assert!(second.as_mut().poll(&mut cx).is_pending(), "not its turn");
    let Poll::Ready(Ok(claim)) = first.as_mut().poll(&mut cx) else { panic!("its turn") };
    assert_eq!(claim.commit(), 2);
    let Poll::Ready(Ok(claim)) = second.as_mut().poll(&mut cx) else { panic!("its turn") };
    assert_eq!(claim.commit(), 3);
    assert_eq!(writer.try_push(b"e"), Ok(4));
}

/// Every state in which a waiting future can be dropped, at every place of the queue.
#[test]
fn a_waiter_dropped_at_any_poll_loses_no_room_and_no_wake() {
    for polls_of_dropped in 0..3 {
        for place in 0..3 {
            for drop_before_room in [true, false] {
                let (ring, _reader) = full_ring();
                let writer = ring.writer();
                let counts: Vec<_> = (0..3).map(|_| Arc::new(CountingWaker::default())).collect();
                let wakers: Vec<_> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
                let mut waiters: Vec<_> = (0..3).map(|_| Some(Box::pin(writer.claim(1)))).collect();
                for (index, waiter) in waiters.iter_mut().enumerate() {
                    for _ in 0..if index == place { polls_of_dropped } else { 1 } {
                        let poll =
                            waiter.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&wakers[index]));
                        assert!(poll.is_pending());
                    }
                }
                if drop_before_room {
                    waiters[place] = None;
                }
                ring.detach(ring.blockers()[0]).unwrap();
                waiters[place] = None;
                // The waiter that is first now has been woken; serving it wakes the next.
                for (index, waiter) in waiters.iter_mut().enumerate() {
                    let Some(waiter) = waiter else { continue };
                    assert_eq!(counts[index].wakes(), 1, "{polls_of_dropped} {place} {index}");
                    let poll = waiter.as_mut().poll(&mut Context::from_waker(&wakers[index]));
                    assert!(matches!(poll, Poll::Ready(Ok(_))));
                }
                drop(waiters);
                assert!(writer.try_push(b"x").is_ok(), "no writer waits any more");
            }
        }
    }
}

#[test]
fn the_queue_is_bounded() {
    let (ring, _reader) = full_ring();
    let writer = ring.writer();
    let mut cx = Context::from_waker(Waker::noop());
    let mut turns: Vec<_> = (0..MAX_ROOM_WAITERS).map(|_| WaitTicket::default()).collect();
    for turn in &mut turns {
        assert!(writer.poll_claim(turn, 1, &mut cx).is_pending());
        assert!(turn.is_queued());
    }
    let mut late = WaitTicket::default();
    assert!(matches!(writer.poll_claim(&mut late, 1, &mut cx), Poll::Ready(Err(ClaimError::TooManyWaiters))));
    assert!(!late.is_queued());
    turns[7].cancel();
    assert!(writer.poll_claim(&mut late, 1, &mut cx).is_pending());
}

#[test]
fn waiting_for_a_claim_that_can_never_fit_is_refused() {
    let (ring, _reader) = full_ring();
    let writer = ring.writer();
    let mut cx = Context::from_waker(Waker::noop());
    let mut turn = WaitTicket::default();
    let too_large = ClaimError::TooLarge { len: 33, limit: 32 };
    assert!(
        matches!(writer.poll_claim(&mut turn, 33, &mut cx), Poll::Ready(Err(refused)) if refused == too_large)
    );
    assert!(writer.poll_claim(&mut turn, 1, &mut cx).is_pending());
    assert!(
        matches!(writer.poll_claim(&mut turn, 33, &mut cx), Poll::Ready(Err(refused)) if refused == too_large)
    );
    assert!(!turn.is_queued());
    let mut second = WaitTicket::default();
    assert!(writer.poll_claim(&mut turn, 1, &mut cx).is_pending());
    assert!(writer.poll_claim(&mut second, 1, &mut cx).is_pending());
    ring.close();
    for turn in [&mut second, &mut turn] {
        assert!(matches!(writer.poll_claim(turn, 1, &mut cx), Poll::Ready(Err(ClaimError::Closed))));
        assert!(!turn.is_queued());
    }
}

#[test]
fn a_ticket_used_with_another_ring_leaves_the_first_queue() {
    let ((one, _reader), (two, _other)) = (full_ring(), full_ring());
    let mut cx = Context::from_waker(Waker::noop());
    let mut turn = WaitTicket::default();
    assert!(one.writer().poll_claim(&mut turn, 1, &mut cx).is_pending());
    assert!(two.writer().poll_claim(&mut turn, 1, &mut cx).is_pending());
    one.detach(one.blockers()[0]).unwrap();
    assert!(one.writer().try_push(b"x").is_ok());
}

/// Leaves its queue as soon as it is woken, as a task on another thread would.
struct Leaver(std::sync::Mutex<WaitTicket>);

impl Wake for Leaver {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().cancel();
    }
}

#[test]
fn closing_wakes_every_waiter_while_others_leave() {
    let (ring, _reader) = full_ring();
    let writer = ring.writer();
    let counts: Vec<_> = (0..3).map(|_| Arc::new(CountingWaker::default())).collect();
    let mut turns: Vec<_> = (0..3).map(|_| WaitTicket::default()).collect();
    let leaver = Arc::new(Leaver(std::sync::Mutex::new(WaitTicket::default())));
    let queue = |turn: &mut WaitTicket, waker: Waker| {
        assert!(writer.poll_claim(turn, 1, &mut Context::from_waker(&waker)).is_pending());
    };
    queue(&mut turns[0], Waker::from(Arc::clone(&counts[0])));
    queue(&mut leaver.0.lock().unwrap(), Waker::from(Arc::clone(&leaver)));
    queue(&mut turns[1], Waker::from(Arc::clone(&counts[1])));
    queue(&mut turns[2], Waker::from(Arc::clone(&counts[2])));
    ring.close();
    assert!(!leaver.0.lock().unwrap().is_queued());
    for count in &counts {
        assert_eq!(count.wakes(), 1);
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("this waker panics");
    }
}

#[test]
fn a_waker_that_panics_leaves_no_other_waiter_asleep() {
    let (count, panics) = (Arc::new(CountingWaker::default()), Waker::from(Arc::new(Panics)));
    let counting = Waker::from(Arc::clone(&count));

    let (ring, _reader) = full_ring();
    let writer = ring.writer();
    let (mut first, mut second) = (pin!(writer.claim(1)), pin!(writer.claim(1)));
    assert!(first.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(&counting)).is_pending());
    ring.close();
    assert_eq!(count.wakes(), 1, "the writer behind the one that panics");

    let ring =
        Ring::new(RingConfig { datums: 2, bytes: 64, max_record: 32, readers: 2, scatter_small: false })
            .unwrap();
    let (mut one, mut other) = (ring.subscribe().unwrap(), ring.subscribe().unwrap());
    assert!(one.poll_ready(&mut Context::from_waker(&panics)).is_pending());
    assert!(other.poll_ready(&mut Context::from_waker(&counting)).is_pending());
    assert_eq!(ring.writer().try_push(b"a"), Ok(0));
    assert_eq!(count.wakes(), 2, "the reader behind the one that panics");
}
