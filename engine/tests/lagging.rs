//! Which consumers are closed for keeping a ring full, and when: on virtual time, to the millisecond.

mod lagging_rig;
#[allow(dead_code, reason = "only its hosts and its network are used here")]
mod swarm_rig;

use std::{
    task::{Context, Waker},
    time::Duration,
};

use corewire_engine::{
    publication::Publication,
    subscription::{Leg, Subscription},
};
use corewire_proto::session::CloseCode;
use corewire_rings::RecvError;
use lagging_rig::{
    Beside, CAPACITY, GRACE, Mode, Offers, Rig, STANDSTILL, assert_closed_after, code, drain, evict, fill,
    fill_once, ms, publish_spec, subscribe_spec, take_one, trying_again,
};
use swarm_rig::Internet;

#[test]
fn a_grace_starts_when_its_consumer_begins_to_hold_the_ring() {
    let mut rig = Rig::new(1);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let (_first, mut first) = rig.subscribe(&node);
    let (_second, mut second) = rig.subscribe(&node);
    let (_good, mut good) = rig.subscribe(&node);
    let (mut accepted, mut got) = (0, 0);
    let mut ends = [None, None];
    while ends[1].is_none() {
        fill(&publication, &mut accepted);
        rig.step();
        got += drain(&mut good).expect("never closed").0;
        // The second consumer stands still after the first one has.
        if ends[0].is_none() {
            let _ = drain(&mut second).expect("not closed yet");
        }
        for (end, leg) in ends.iter_mut().zip([&first, &second]) {
            if end.is_none() && code(leg).is_some() {
                assert_eq!(code(leg), Some(CloseCode::TOO_SLOW));
                *end = Some(rig.passed());
            }
        }
        assert!(rig.passed() < ms(5_000), "nobody was closed: {ends:?}");
    }
    let [first_end, second_end] = ends.map(|end| end.expect("closed"));
    assert_closed_after(first_end, GRACE);
    // The grace does not start when the ring was first found full.
    assert_closed_after(second_end - first_end, GRACE);
    assert_eq!(drain(&mut first), Err(RecvError::Detached));
    assert_eq!(drain(&mut second), Err(RecvError::Detached));
    assert_eq!(code(&good), None);
    got += drain(&mut good).expect("never closed").0;
    assert_eq!(got, accepted, "the good one lost something");
    assert_eq!(publication.stats().too_slow, 2);
}

#[test]
fn a_lone_consumer_is_closed_only_when_it_stands_still() {
    let mut rig = Rig::new(2);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let (_slow, mut slow) = rig.subscribe(&node);
    let mut accepted = 0;
    for step in 0..60_000_u64 {
        fill(&publication, &mut accepted);
        rig.step();
        if step % 9_900 == 9_899 {
            let _ = take_one(&mut slow);
        }
    }
    assert_eq!(code(&slow), None);
    assert_eq!(publication.stats().too_slow, 0);
    let _ = take_one(&mut slow);
    let stopped = rig.passed();
    while code(&slow).is_none() {
        fill(&publication, &mut accepted);
        rig.step();
    }
    assert_closed_after(rig.passed() - stopped, STANDSTILL);
}

#[test]
fn equally_slow_consumers_are_not_closed() {
    for (mode, apart) in [(Mode::Wait, 0), (Mode::Refuse, 50), (Mode::Evict, 50), (Mode::Evict, 0)] {
        let mut rig = Rig::new(12);
        let node = rig.node(1);
        let publication = rig.publish(&node, Some(GRACE));
        let (_first, mut first) = rig.subscribe(&node);
        let (_second, mut second) = rig.subscribe(&node);
        let mut offers = Offers::new(&publication, mode);
        for step in 0..30_000_u64 {
            offers.fill();
            rig.step();
            for (leg, phase) in [(&mut first, 0), (&mut second, apart)] {
                if step % 100 == phase {
                    let _ = leg.inbox_mut().try_recv().expect("not closed");
                }
            }
        }
        assert_eq!((code(&first), code(&second)), (None, None), "{mode:?}");
    }
}

#[test]
fn a_fast_consumer_waits_for_a_slow_one_for_the_grace_at_most() {
    const GRACE: Duration = Duration::from_secs(1);
    for mode in [Mode::Wait, Mode::Refuse, Mode::Evict] {
        for beside in Beside::ALL {
            let mut rig = Rig::new(13);
            let node = rig.node(1);
            let publication = rig.publish(&node, Some(GRACE));
            let (_slow, mut slow) = rig.subscribe(&node);
            let (_fast, mut fast) = rig.subscribe(&node);
            let mut offers = Offers::new(&publication, mode);
            let (mut waited, mut got, mut closed_at) = (Duration::ZERO, 0, None);
            for step in 0..5_000 {
                offers.fill();
                // By turns before and after the clerk's check.
                let mut taken = (0, 0);
                if step % 2 == 0 {
                    taken = drain(&mut fast).expect("never closed");
                }
                rig.step();
                if step % 2 == 1 {
                    taken = drain(&mut fast).expect("never closed");
                }
                waited += if taken == (0, 0) { ms(1) } else { ms(0) };
                got += taken.0 + taken.1;
                if beside.takes(step) && closed_at.is_none() {
                    let _ = slow.inbox_mut().try_recv();
                }
                closed_at = closed_at.or(code(&slow).map(|_| rig.passed()));
            }
            let what = format!("{mode:?} {beside:?}: waited {waited:?}, closed at {closed_at:?}");
            assert_eq!(code(&slow), Some(CloseCode::TOO_SLOW), "{what}");
            assert_eq!(code(&fast), None, "{what}");
            assert!(waited <= GRACE + check(GRACE), "{what}");
            assert!(mode != Mode::Evict || waited == Duration::ZERO, "{what}");
            // Without waiting, only a part of the checks finds a fast consumer at the end.
            let latest = if mode == Mode::Evict { 4 * GRACE } else { GRACE + 2 * check(GRACE) };
            assert!(closed_at.is_some_and(|at| at + check(GRACE) >= GRACE && at <= latest), "{what}");
            assert_eq!(got, offers.accepted, "{what}");
        }
    }
}

/// The time between two checks.
fn check(grace: Duration) -> Duration {
    grace / 32 + ms(1)
}

/// Lets a consumer hold the ring for some time beside one that waits.
fn hold(rig: &mut Rig, publication: &Publication, fast: &mut Leg, accepted: &mut u64, time: Duration) {
    let until = rig.passed() + time;
    while rig.passed() < until {
        fill(publication, accepted);
        let _ = drain(fast).expect("never closed");
        rig.step();
    }
}

#[test]
fn the_grace_is_the_sum_of_all_times_that_a_consumer_holds_the_ring() {
    const PART: Duration = Duration::from_millis(240);
    // What it does after it has held the ring for three quarters of its grace, and whether it is closed when
    // it holds the ring so long again.
    #[derive(Clone, Copy, Debug)]
    enum Then {
        TakesAllButOne(Duration),
        TakesAll,
    }
    let cases = [
        (Then::TakesAllButOne(Duration::ZERO), true),
        (Then::TakesAllButOne(Duration::from_secs(9)), true),
        (Then::TakesAllButOne(Duration::from_secs(11)), false),
        (Then::TakesAll, false),
    ];
    for (then, closes) in cases {
        let mut rig = Rig::new(14);
        let node = rig.node(1);
        let publication = rig.publish(&node, Some(GRACE));
        let (_slow, mut slow) = rig.subscribe(&node);
        let (_fast, mut fast) = rig.subscribe(&node);
        let mut accepted = 0;
        hold(&mut rig, &publication, &mut fast, &mut accepted, PART);
        assert_eq!(code(&slow), None, "{then:?}");
        match then {
            Then::TakesAllButOne(pause) => {
                for _ in 1..CAPACITY {
                    let _ = take_one(&mut slow);
                }
                let until = rig.passed() + pause;
                while rig.passed() < until {
                    rig.step();
                }
            }
            Then::TakesAll => {
                assert_eq!(drain(&mut slow), Ok((CAPACITY as u64, 0)));
                for _ in 0..30 {
                    rig.step();
                }
            }
        }
        hold(&mut rig, &publication, &mut fast, &mut accepted, PART);
        assert_eq!(code(&slow).is_some(), closes, "{then:?}");
        hold(&mut rig, &publication, &mut fast, &mut accepted, PART);
        assert_eq!(code(&slow), Some(CloseCode::TOO_SLOW), "{then:?}");
    }
}

#[test]
fn a_waiting_producer_gets_room_after_the_standstill() {
    let mut rig = Rig::new(3);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let (_slow, slow) = rig.subscribe(&node);
    let mut accepted = 0;
    fill(&publication, &mut accepted);
    let writer = publication.writer();
    let mut waiting = std::pin::pin!(writer.claim(8));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    // A reader that answers into its own ring waits for itself: not without end.
    while waiting.as_mut().poll(&mut cx).is_pending() {
        rig.step();
        assert!(rig.passed() < ms(50_000), "the writer waits for ever");
    }
    assert_closed_after(rig.passed(), STANDSTILL);
    assert_eq!(code(&slow), Some(CloseCode::TOO_SLOW));
}

#[test]
fn without_a_grace_no_consumer_is_closed() {
    let mut rig = Rig::new(4);
    let node = rig.node(1);
    let publication = rig.publish(&node, None);
    let (_slow, slow) = rig.subscribe(&node);
    let mut accepted = 0;
    for _ in 0..1_000 {
        fill(&publication, &mut accepted);
        rig.now += Duration::from_secs(3_600);
        rig.settle();
    }
    assert_eq!(code(&slow), None);
    assert_eq!(accepted, CAPACITY as u64);
}

#[test]
fn a_closed_consumer_is_admitted_again_after_its_pause() {
    let mut rig = Rig::new(5);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let subscription = node.subscribe(trying_again(ms(50))).expect("a subscription");
    rig.settle();
    let slow = subscription.take_leg().expect("a leg");
    let mut accepted = 0;
    while code(&slow).is_none() {
        fill(&publication, &mut accepted);
        rig.step();
    }
    // The subscription shows the code until the next try.
    assert!(CloseCode::TOO_SLOW.is_retriable());
    assert_eq!(subscription.channels()[0].shared().close_code(), Some(CloseCode::TOO_SLOW));
    let closed = rig.passed();
    let mut again = loop {
        if let Some(leg) = subscription.take_leg() {
            break leg;
        }
        rig.step();
        assert!(rig.passed() < closed + ms(1_000), "never tried again");
    };
    assert_eq!(rig.passed() - closed, ms(50), "the pause that the backoff says");
    fill(&publication, &mut accepted);
    assert_eq!(drain(&mut again), Ok((CAPACITY as u64, 0)));
}

#[test]
fn a_pinned_consumer_is_closed_at_once_and_detached_when_it_has_read() {
    let mut rig = Rig::new(6);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let (_slow, mut slow) = rig.subscribe(&node);
    let shared = slow.channel().shared().clone();
    let mut accepted = 0;
    fill(&publication, &mut accepted);
    let borrowed = slow.inbox_mut().try_recv().expect("not over").expect("a datum");
    for _ in 0..11_000 {
        fill(&publication, &mut accepted);
        rig.step();
    }
    assert_eq!(shared.close_code(), Some(CloseCode::TOO_SLOW));
    assert_eq!(accepted, CAPACITY as u64, "what is being read was overwritten");
    assert_eq!(borrowed.bytes(), 0_u64.to_le_bytes());
    drop(borrowed);
    for _ in 0..10 {
        rig.step();
    }
    assert_eq!(drain(&mut slow), Err(RecvError::Detached));
    assert!(publication.writer().try_push(&[0; 8]).is_ok(), "its place is free");
}

#[test]
fn what_is_evicted_does_not_count_as_taken() {
    let mut rig = Rig::new(7);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let (_stalled, stalled) = rig.subscribe(&node);
    let (_slow, mut slow) = rig.subscribe(&node);
    let (mut accepted, mut full_at, mut closed_at) = (0, None, None);
    let mut of_slow = (0, 0);
    for _ in 0..12_000 {
        // Three datums a millisecond: the slow consumer takes one and loses the others.
        for _ in 0..3 {
            evict(&publication, &mut accepted).expect("no reader is pinned");
        }
        if accepted > CAPACITY as u64 && full_at.is_none() {
            full_at = Some(rig.passed());
        }
        if let Some(taken) = slow.inbox_mut().try_recv().expect("never closed") {
            of_slow = (of_slow.0 + 1, of_slow.1 + taken.skipped());
        }
        rig.step();
        if closed_at.is_none() && code(&stalled).is_some() {
            closed_at = Some(rig.passed());
        }
    }
    assert_closed_after(closed_at.expect("closed") - full_at.expect("full"), STANDSTILL);
    assert_eq!(code(&slow), None);
    assert!(of_slow.1 > 0, "it lost");
    let (got, skipped) = drain(&mut slow).expect("never closed");
    assert_eq!(
        of_slow.0 + got + of_slow.1 + skipped,
        accepted,
        "each datum was taken or is known to be lost"
    );
    assert_eq!(publication.stats().too_slow, 1);
}

#[test]
fn a_leg_of_a_node_that_left_holds_a_ring_for_a_limited_time() {
    let mut rig = Rig::new(8);
    let (node, other) = (rig.node(1), rig.node(2));
    let publication = rig.publish(&node, None);
    let untaken = other.subscribe(subscribe_spec()).expect("a subscription");
    rig.settle();
    let mut accepted = 0;
    fill(&publication, &mut accepted);
    assert_eq!(accepted, CAPACITY as u64);
    // The producer waits already and will not report the full ring again.
    let writer = publication.writer();
    let mut waiting = std::pin::pin!(writer.claim(8));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    let _leaving = other.shutdown(Duration::ZERO);
    let left = rig.passed();
    while waiting.as_mut().poll(&mut cx).is_pending() {
        rig.step();
        assert!(rig.passed() < ms(60_000), "held for ever");
    }
    let held = rig.passed() - left;
    assert!(held >= ms(10_000) && held < ms(12_000), "held for {held:?}");
    let mut leg = untaken.take_leg().expect("the leg that nobody took");
    assert_eq!(drain(&mut leg), Err(RecvError::Detached));
    drop(leg);
    rig.settle();
}

#[test]
fn a_ring_filled_long_after_a_node_left_is_freed() {
    let mut rig = Rig::new(10);
    let (node, other) = (rig.node(1), rig.node(2));
    let publication = rig.publish(&node, None);
    let (_subscription, mut leg) = rig.subscribe(&other);
    let _leaving = other.shutdown(Duration::ZERO);
    for _ in 0..1_000 {
        rig.step();
    }
    let (mut accepted, full_at) = (0, rig.passed());
    while accepted <= CAPACITY as u64 {
        fill_once(&publication, &mut accepted);
        rig.step();
        assert!(rig.passed() < ms(60_000), "held for ever");
    }
    let held = rig.passed() - full_at;
    assert!(held >= ms(10_000) && held < ms(12_000), "held for {held:?}");
    assert_eq!(drain(&mut leg), Err(RecvError::Detached));
    drop(leg);
    rig.settle();
    assert_eq!(rig.clerk.load().legs, 0);
}

#[test]
fn a_clerk_rests_when_no_ring_is_full() {
    let mut rig = Rig::new(9);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let (_good, mut good) = rig.subscribe(&node);
    let idle = rig.clerk.load().timers;
    let mut accepted = 0;
    fill(&publication, &mut accepted);
    rig.settle();
    assert_eq!(rig.clerk.load().timers, idle + 1, "it looks");
    let _ = drain(&mut good);
    for _ in 0..30 {
        rig.step();
    }
    assert_eq!(rig.clerk.load().timers, idle, "it still looks");
    // And the full ring is reported again.
    fill(&publication, &mut accepted);
    rig.settle();
    assert_eq!(rig.clerk.load().timers, idle + 1);
}

/// Lets the internet run until `done`, a millisecond at a time.
#[track_caller]
fn run_until(internet: &mut Internet, mut done: impl FnMut(&mut Internet) -> bool) {
    for _ in 0..60_000 {
        if done(internet) {
            return;
        }
        internet.run_for(ms(1));
    }
    panic!("a minute of the world's time was not enough");
}

#[test]
fn only_the_channel_that_holds_a_shared_cursor_is_closed() {
    let mut internet = Internet::new(11, 2, 1);
    internet.start(0);
    internet.start(1);
    let publication =
        internet.node(0).expect("a node").publish(publish_spec(Some(GRACE))).expect("published");
    let subscribe = |internet: &Internet| {
        internet.node(1).expect("a node").subscribe(subscribe_spec()).expect("a subscription")
    };
    let subscriptions = [subscribe(&internet), subscribe(&internet), subscribe(&internet)];
    let mut legs = Vec::new();
    for subscription in &subscriptions {
        let mut leg = None;
        run_until(&mut internet, |_| {
            leg = leg.take().or_else(|| subscription.take_leg());
            leg.is_some()
        });
        legs.extend(leg);
    }
    run_until(&mut internet, |_| publication.ring().readers() == 1 && publication.channels().len() == 3);
    let [stalled, slow, good] = &mut legs[..] else { panic!("three legs") };
    let (mut accepted, mut of_good, mut of_slow) = (0, 0, 0);
    let (mut full_at, mut closed_at) = (None, None);
    for step in 0..2_000_u64 {
        // With pauses, in which the slow consumer takes everything.
        if step < 2 || step % 40 == 0 {
            fill(&publication, &mut accepted);
        }
        internet.run_for(ms(1));
        of_good += drain(good).expect("never closed").0;
        if slow.inbox_mut().try_recv().expect("never closed").is_some() {
            of_slow += 1;
        }
        // Four in its inbox, and sixteen in the ring.
        if full_at.is_none() && accepted == 4 + CAPACITY as u64 {
            full_at = Some(internet.world.now());
        }
        if closed_at.is_none() && code(stalled).is_some() {
            closed_at = Some(internet.world.now());
        }
    }
    assert_eq!(code(stalled), Some(CloseCode::TOO_SLOW), "the peer is told the code");
    let (closed_at, full_at) = (closed_at.expect("closed"), full_at.expect("full"));
    assert_closed_after(closed_at.saturating_since(full_at), GRACE);
    assert_eq!((code(slow), code(good)), (None, None), "a neighbour was closed");
    assert_eq!(publication.stats().too_slow, 1);
    // Datums that had arrived stay readable.
    assert_eq!([(); 4].map(|()| take_one(stalled)), [0, 1, 2, 3]);
    assert_eq!(drain(stalled), Err(RecvError::Closed));
    // The other consumers get everything.
    run_until(&mut internet, |_| {
        of_good += drain(good).expect("never closed").0;
        of_slow += drain(slow).expect("never closed").0;
        (of_good, of_slow) == (accepted, accepted)
    });
}

#[test]
fn a_fast_remote_consumer_waits_for_a_slow_one_for_the_grace_at_most() {
    const GRACE: Duration = Duration::from_secs(1);
    for mode in [Mode::Wait, Mode::Refuse, Mode::Evict] {
        for beside in Beside::ALL {
            let mut internet = Internet::new(15, 3, 1);
            (0..3).for_each(|host| internet.start(host));
            let node = internet.node(0).expect("a node");
            let publication = node.publish(publish_spec(Some(GRACE))).expect("published");
            let mut connect = |host| {
                let node = internet.node(host).expect("a node");
                let subscription = node.subscribe(subscribe_spec()).expect("a subscription");
                let mut leg = None;
                run_until(&mut internet, |_| {
                    leg = leg.take().or_else(|| subscription.take_leg());
                    leg.is_some()
                });
                (subscription, leg.expect("a leg"))
            };
            let ((_slow, mut slow), (_fast, mut fast)) = (connect(1), connect(2));
            run_until(&mut internet, |_| publication.channels().len() == 2);
            let mut offers = Offers::new(&publication, mode);
            let (mut waited, mut got) = (Duration::ZERO, 0);
            for step in 0..3_000 {
                offers.fill();
                internet.run_for(ms(1));
                let (taken, skipped) = drain(&mut fast).expect("never closed");
                waited += if taken == 0 { ms(1) } else { ms(0) };
                got += taken + skipped;
                if beside.takes(step) {
                    let _ = slow.inbox_mut().try_recv();
                }
            }
            let what = format!("{mode:?} {beside:?}: waited {waited:?}, got {got} of {}", offers.accepted);
            assert_eq!(code(&slow), Some(CloseCode::TOO_SLOW), "{what}");
            assert_eq!(code(&fast), None, "{what}");
            assert!(waited <= GRACE + 2 * check(GRACE), "{what}");
        }
    }
}

#[test]
fn remote_consumers_are_closed_alone_only_when_they_stand_still() {
    for (mode, count) in [(Mode::Wait, 1), (Mode::Evict, 1), (Mode::Refuse, 2), (Mode::Evict, 2)] {
        let mut internet = Internet::new(16, 2, 1);
        (0..2).for_each(|host| internet.start(host));
        let node = internet.node(0).expect("a node");
        let publication = node.publish(publish_spec(Some(GRACE))).expect("published");
        let mut legs = Vec::new();
        let subscriptions: Vec<Subscription> = (0..count)
            .map(|_| {
                let node = internet.node(1).expect("a node");
                node.subscribe(subscribe_spec()).expect("a subscription")
            })
            .collect();
        run_until(&mut internet, |_| {
            legs.extend(subscriptions.iter().filter_map(Subscription::take_leg));
            legs.len() == count && publication.channels().len() == count
        });
        let mut offers = Offers::new(&publication, mode);
        // Long enough for the sum of several graces.
        for step in 0..2_000_u64 {
            offers.fill();
            internet.run_for(ms(1));
            for leg in legs.iter_mut().filter(|_| step % 100 == 99) {
                let _ = leg.inbox_mut().try_recv().expect("not closed");
            }
        }
        let stopped = internet.world.now();
        while legs.iter().all(|leg| code(leg).is_none()) {
            offers.fill();
            internet.run_for(ms(5));
            let stood = internet.world.now().saturating_since(stopped);
            assert!(stood <= STANDSTILL + ms(50), "{mode:?} {count}: {stood:?}");
        }
        let stood = internet.world.now().saturating_since(stopped);
        assert!(stood + ms(100) >= STANDSTILL, "{mode:?} {count}: {stood:?}");
    }
}
