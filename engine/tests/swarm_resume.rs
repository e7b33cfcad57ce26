//! What becomes of a stream when its session breaks: nothing is lost in silence, whatever the fault.

#[path = "swarm_rig/pair.rs"]
mod pair;
#[allow(dead_code, reason = "shared with the swarm, which uses the rest")]
mod swarm_rig;

use std::{sync::atomic::Ordering, time::Duration};

use corewire_proto::session::CloseCode;
use pair::Pair;
use swarm_rig::Internet;

#[test]
fn a_short_break_of_the_session_loses_nothing() {
    let mut pair = Pair::connected(|spec| spec);
    pair.break_session();
    let accepted = pair.accepted();
    assert!(accepted > 1, "the producer goes on as long as its ring has room");
    pair.cut(false);
    pair.drain();
    let account = pair.account();
    assert_eq!((account.taken, account.missing, account.restarts), (accepted, 0, 0));
    let stats = pair.life().publication.as_ref().map(|publication| publication.stats()).unwrap();
    assert_eq!((stats.resumed, stats.skipped_at_close), (1, 0));
}

#[test]
fn a_stream_goes_on_after_every_one_of_many_breaks() {
    let mut pair = Pair::connected(|spec| spec);
    for _ in 0..5 {
        pair.break_session();
        pair.cut(false);
        pair.run_until("the next datums", |pair| {
            pair.push();
            pair.take();
            pair.is_served() && pair.is_subscribed()
        });
    }
    pair.drain();
    assert_eq!((pair.account().taken, pair.account().missing), (pair.accepted(), 0));
}

#[test]
fn legs_that_wait_for_their_consumer_are_read_whole_and_in_order() {
    let mut pair = Pair::connected(|spec| spec);
    for _ in 0..2 {
        // What is in the inbox when the session breaks stays there.
        pair.run_until("some datums are in the inbox", |pair| {
            let arrived = pair.arrived();
            pair.push();
            arrived >= 10
        });
        pair.cut(true);
        pair.run_until("both ends notice the break", |pair| !pair.is_served() && !pair.is_subscribed());
        pair.cut(false);
        pair.run_until("the consumer is back", |pair| pair.is_served() && pair.is_subscribed());
    }
    pair.run_until("everything is taken, one datum at a time", |pair| {
        pair.consumer.gather();
        pair.consumer.take(1, &pair.lives);
        pair.account().taken >= pair.accepted()
    });
    assert_eq!(pair.account().missing, 0);
}

#[test]
fn a_place_that_eviction_has_moved_is_told_with_the_exact_gap() {
    let mut pair = Pair::connected(|spec| spec);
    pair.life().evicts = true;
    pair.break_session();
    let before = pair.accepted();
    pair.run_until("the ring has gone round", |pair| {
        pair.push();
        pair.accepted() > before + 200
    });
    pair.cut(false);
    pair.drain();
    let account = pair.account();
    assert!(account.missing >= 200 - 64 && account.restarts == 0, "{account:?}");
    assert!(account.taken > 64, "what the ring still has is not lost: {account:?}");
}

#[test]
fn a_long_break_is_told_with_its_exact_size_at_both_ends() {
    let mut pair = Pair::connected(|spec| spec);
    pair.break_session();
    // Its place is given up after ten seconds; until then the ring is full.
    let before = pair.accepted();
    pair.run_until("the place is given up", |pair| {
        pair.push();
        pair.accepted() > before + 1_000
    });
    pair.cut(false);
    pair.run_until("the consumer is back", |pair| pair.is_served());
    pair.push();
    pair.drain();
    let (account, accepted) = (pair.account(), pair.accepted());
    assert!(account.missing > 1_000 && account.restarts == 0, "{account:?}");
    assert_eq!(account.taken + account.missing, accepted);
    let stats = pair.life().publication.as_ref().map(|publication| publication.stats()).unwrap();
    assert_eq!(stats.resumed, 0);
    assert!((1..=64).contains(&stats.skipped_at_close), "what the ring held: {stats:?}");
    assert_eq!(stats.missed_while_away, account.missing);
}

#[test]
fn a_break_without_kept_places_is_told_with_its_exact_size() {
    let mut pair = Pair::connected(|spec| corewire_engine::publication::PublishSpec {
        resume_for: Duration::ZERO,
        ..spec
    });
    pair.break_session();
    pair.cut(false);
    pair.run_until("the consumer is back", |pair| pair.is_served());
    pair.push();
    pair.drain();
    let account = pair.account();
    assert!(account.missing > 0 && account.restarts == 0, "{account:?}");
    assert_eq!(account.taken + account.missing, pair.accepted());
}

#[test]
fn a_restarted_producer_is_told_as_a_gap_of_unknown_size() {
    let mut pair = Pair::connected(|spec| spec);
    let taken = pair.account().taken;
    pair.restart_producer();
    pair.run_until("the new life is read", |pair| {
        if pair.is_served() {
            pair.push();
        }
        pair.take();
        pair.account().taken > taken
    });
    assert_eq!(pair.account().restarts, 1);
}

#[test]
fn hosts_whose_clocks_are_a_year_apart_find_each_other() {
    let internet = Internet::new(7, 2, 1);
    internet.dates[0].fetch_add(365 * 24 * 3_600, Ordering::Relaxed);
    let mut pair = Pair::connected_on(internet, |spec| spec);
    pair.push();
    pair.drain();
    assert_eq!(pair.account().taken, pair.accepted());
}

#[test]
fn a_producer_that_restarts_with_an_earlier_date_is_found() {
    let mut pair = Pair::connected(|spec| spec);
    // Its last record does not name the stream.
    pair.life().publication = None;
    pair.run_until("the end of the stream is known", |pair| {
        pair.take();
        pair.consumer.subscription.channels().is_empty()
    });
    let taken = pair.account().taken;
    pair.restart_producer_in_the_past();
    pair.run_until("the new life is read", |pair| {
        if pair.is_served() {
            pair.push();
        }
        pair.take();
        pair.account().taken > taken
    });
}

#[test]
fn a_stream_that_ended_in_good_order_leaves_no_gap() {
    let mut pair = Pair::connected(|spec| spec);
    pair.push();
    pair.life().publication = None;
    pair.drain();
    let taken = pair.account().taken;
    pair.publish_again();
    pair.run_until("the new life is read", |pair| {
        if pair.is_served() {
            pair.push();
        }
        pair.take();
        pair.account().taken > taken
    });
    assert_eq!((pair.account().restarts, pair.account().missing), (0, 0));
}

#[test]
fn a_consumer_cut_off_as_too_slow_is_told_how_much_it_missed() {
    const GRACE: Duration = Duration::from_millis(100);
    let mut pair = Pair::connected(|spec| corewire_engine::publication::PublishSpec {
        lagging_grace: Some(GRACE),
        standstill_grace: GRACE,
        ..spec
    });
    let mut pauses = Vec::new();
    for _ in 0..3 {
        pair.run_until("the consumer is cut off", |pair| {
            for _ in 0..64 {
                pair.push();
            }
            let channels = pair.consumer.subscription.channels();
            channels.iter().any(|channel| channel.shared().close_code() == Some(CloseCode::TOO_SLOW))
        });
        let pause = pair.run_until("the consumer is back", |pair| {
            pair.push();
            pair.is_served()
        });
        pauses.push(pause);
        pair.take();
    }
    pair.push();
    pair.drain();
    let account = pair.account();
    assert!(account.missing > 0 && account.restarts == 0, "{account:?}");
    assert_eq!(account.taken + account.missing, pair.accepted());
    assert!(pauses.is_sorted() && pauses[2] > pauses[0], "an offender waits longer each time: {pauses:?}");
}
