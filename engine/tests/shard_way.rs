//! A datum's whole way from a ring on one shard to an inbox on another, and everything that can end it.

mod shard_rig;

use std::time::Duration;

use corewire_engine::{
    counters::Counter,
    driver::sim::Link,
    shard::{AcceptChannel, Command, Event},
    shared::ChannelState,
};
use corewire_proto::{
    channel::{Reliability, TypeName},
    session::{CloseCode, SessionConfig},
};
use shard_rig::{Leg, Rig, Setup, Wish, closed, index, publish, ring};

const LONG: Duration = Duration::from_secs(60);

fn connected(setup: Setup) -> Rig {
    let mut rig = Rig::new(setup);
    rig.connect(1, &SessionConfig::default());
    rig
}

/// Runs until `leg` has given `count` datums, and gives how many were skipped.
fn receive(rig: &mut Rig, leg: &mut Leg, count: usize) -> u64 {
    let (mut taken, mut skipped) = (0, 0);
    rig.run_until(LONG, |_| {
        let (n, gaps) = leg.take(usize::MAX);
        taken += n;
        skipped += gaps;
        taken >= count
    });
    assert_eq!(taken, count);
    skipped
}

#[test]
fn a_datum_goes_its_whole_way_and_is_let_go_of_at_both_ends() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    let mut leg = rig.subscribe(1, &ring, Wish::default());
    assert_eq!(leg.producer.state(), ChannelState::Connected);
    assert_eq!(leg.consumer.state(), ChannelState::Connected);
    assert_eq!(publish(&ring, 1, 100), 1);
    assert_eq!(receive(&mut rig, &mut leg, 1), 0);
    rig.run_for(Duration::from_millis(5));
    assert!(ring.is_empty(), "acknowledged, so the ring need not keep it");
    let (left, right) = (leg.producer.snapshot(), leg.consumer.snapshot());
    assert_eq!((left.datums, left.bytes, left.released, left.lag()), (1, 100, 1, 0));
    assert_eq!((right.datums, right.bytes, right.position), (1, 100, 1));
    assert_eq!(rig.left.count(Counter::DatumsRead), 1);
    assert_eq!(rig.right.count(Counter::DatumsDelivered), 1);
}

#[test]
fn datums_are_delivered_a_turn_before_they_are_acknowledged() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    let _leg = rig.subscribe(1, &ring, Wish::default());
    rig.run_for(Duration::from_millis(20));
    let mut acknowledged = 0;
    for count in 1..=4 {
        publish(&ring, 1, 100);
        rig.left.settle();
        let sent = loop {
            assert!(rig.world.advance_to_next_event().is_some(), "datum {count} is on its way");
            let sent = rig.right.count(Counter::PacketsSent);
            rig.right.shard.turn();
            if rig.right.count(Counter::DatumsDelivered) == count {
                break sent;
            }
        };
        assert_eq!(rig.right.count(Counter::PacketsSent), sent, "the turn that delivers sends nothing");
        rig.right.shard.turn();
        acknowledged += rig.right.count(Counter::PacketsSent) - sent;
        rig.settle();
    }
    assert_eq!(acknowledged, 2, "every second packet is acknowledged at once, in the next turn");
}

#[test]
fn every_size_arrives_whole_from_empty_to_many_packets() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 1 << 20);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 1 << 20, ..Wish::default() });
    let mut inbox = leg.inbox.take().expect("the leg's inbox");
    let writer = ring.writer();
    for len in [0usize, 1, 15, 16, 17, 1_000, 1_232, 5_000, 60_000] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 31) as u8).collect();
        writer.try_push(&bytes).unwrap();
        rig.run_until(LONG, |_| match inbox.try_recv().unwrap() {
            Some(taken) => {
                assert_eq!(taken.bytes(), bytes);
                true
            }
            None => false,
        });
    }
}

#[test]
fn loss_reordering_and_duplicates_change_nothing_about_a_reliable_channel() {
    for seed in 0..8 {
        let link = Link {
            loss: 0.1,
            duplicate: 0.05,
            reorder: 0.1,
            reorder_by: Duration::from_micros(500),
            corrupt: 0.02,
            ..Link::CLEAN
        };
        let mut rig = connected(Setup { seed, link, ..Setup::default() });
        let ring = ring(256, 1 << 16);
        let mut leg = rig.subscribe(1, &ring, Wish::default());
        let (mut sent, mut taken) = (0, 0);
        rig.run_until(LONG, |_| {
            sent += publish(&ring, 2_000 - sent, 200);
            let (n, skipped) = leg.take(usize::MAX);
            assert_eq!(skipped, 0);
            taken += n;
            taken == 2_000
        });
        rig.run_until(LONG, |_| ring.is_empty());
        assert!(leg.producer.snapshot().resent > 0, "seed {seed} lost nothing");
    }
}

#[test]
fn loss_on_fire_and_forget_shows_as_gaps_and_never_stops_the_channel() {
    let link = Link { loss: 0.2, ..Link::CLEAN };
    let mut rig = connected(Setup { link, ..Setup::default() });
    let ring = ring(256, 1 << 16);
    let wish = Wish { reliability: Reliability::FireAndForget, window_bytes: 8_192, ..Wish::default() };
    let mut leg = rig.subscribe(1, &ring, wish);
    let (mut sent, mut taken, mut skipped) = (0, 0, 0);
    rig.run_until(LONG, |_| {
        sent += publish(&ring, 2_000 - sent, 600);
        let (n, gaps) = leg.take(usize::MAX);
        taken += n;
        skipped += gaps;
        sent == 2_000 && ring.is_empty()
    });
    rig.run_for(Duration::from_secs(1));
    let (n, gaps) = leg.take(usize::MAX);
    assert!(skipped + gaps > 100 && taken + n > 1_000, "{} taken, {} skipped", taken + n, skipped + gaps);
}

#[test]
fn one_cursor_serves_all_channels_of_a_ring_and_the_slowest_holds_it() {
    let mut rig = connected(Setup::default());
    rig.connect(2, &SessionConfig::default());
    let ring = ring(64, 4_096);
    let small = Wish { window_bytes: 64, ..Wish::default() };
    let mut slow = rig.subscribe(1, &ring, small);
    let mut quick = rig.subscribe(2, &ring, Wish::default());
    assert_eq!(ring.readers(), 1);
    publish(&ring, 32, 64);
    receive(&mut rig, &mut quick, 32);
    rig.run_for(Duration::from_millis(50));
    assert!(ring.len() > 24, "the slow one holds {} records", ring.len());
    assert!(slow.producer.snapshot().lag() > 24);
    assert_eq!(quick.producer.snapshot().lag(), 0);
    // The slow one leaves, and takes its claim on the ring along.
    rig.left.tell(Command::ResetChannel {
        index: slow.left_index(),
        label: slow.left_label,
        code: CloseCode::TOO_SLOW,
    });
    rig.run_until(LONG, |_| ring.is_empty());
    rig.run_until(LONG, |rig| rig.right.pick(closed).is_some_and(|(code, _)| code == CloseCode::TOO_SLOW));
    slow.take(usize::MAX);
    assert!(slow.is_over());
    assert_eq!(slow.consumer.close_code(), Some(CloseCode::TOO_SLOW));
    assert_eq!(rig.left.count(Counter::Channels), 1);
}

#[test]
fn a_slow_consumer_stops_its_producer_and_memory_stays_flat() {
    let mut rig = connected(Setup::default());
    let ring = ring(32, 32 * 64);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 1_024, ..Wish::default() });
    let mut sent = publish(&ring, 1_000, 64);
    for _ in 0..50 {
        rig.run_for(Duration::from_millis(20));
        sent += publish(&ring, 1_000, 64);
    }
    // The window of 16 datums, and the ring; nothing else holds any.
    assert_eq!(rig.right.count(Counter::DatumsDelivered), 16);
    assert_eq!(sent, 16 + 32);
    assert_eq!(ring.len(), 32);
    assert!(leg.producer.snapshot().backpressure > 0);
    // Everything was waiting, nothing is lost.
    let mut taken = 0;
    rig.run_until(LONG, |_| {
        let (n, skipped) = leg.take(3);
        assert_eq!(skipped, 0);
        taken += n;
        taken == sent
    });
    assert_eq!(rig.right.count(Counter::InboxRefusals), 0);
}

#[test]
fn credit_returns_once_for_half_a_window_not_for_each_datum() {
    let mut rig = connected(Setup::default());
    let ring = ring(512, 1 << 16);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 64 * 100, ..Wish::default() });
    let (mut sent, mut taken) = (0, 0);
    rig.run_until(LONG, |_| {
        sent += publish(&ring, 10_000 - sent, 64);
        taken += leg.take(usize::MAX).0;
        taken == 10_000
    });
    let grants = rig.right.count(Counter::Grants);
    assert!((50..=400).contains(&grants), "{grants} grants for 100 windows");
}

#[test]
fn a_consumer_that_takes_while_its_shard_sleeps_wakes_it() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 128, ..Wish::default() });
    publish(&ring, 6, 64);
    rig.run_for(Duration::from_millis(20));
    assert_eq!(rig.right.count(Counter::DatumsDelivered), 2);
    leg.take(1);
    rig.run_for(Duration::from_millis(20));
    assert!(rig.right.count(Counter::DatumsDelivered) >= 3);
}

#[test]
fn a_refused_channel_is_told_why_and_leaves_nothing_behind() {
    let mut rig = connected(Setup::default());
    let (open_id, consumer) = rig.ask(1, &Wish::default());
    let (label, _) = rig.asked();
    rig.left.tell(Command::RejectChannel {
        index: index(1, 0x1001),
        label,
        code: CloseCode::STREAM_NOT_FOUND,
        type_name: TypeName::default(),
    });
    rig.run_until(LONG, |rig| {
        let rejected = rig.right.pick(|event| match event {
            Event::ChannelRejected { open_id: its, code, .. } if *its == open_id => Some(*code),
            _ => None,
        });
        rejected.is_some_and(|(code, _)| code == CloseCode::STREAM_NOT_FOUND)
    });
    assert_eq!(consumer.state(), ChannelState::Terminated);
    assert_eq!(consumer.close_code(), Some(CloseCode::STREAM_NOT_FOUND));
    assert_eq!(rig.right.count(Counter::Channels) + rig.left.count(Counter::Channels), 0);
}

#[test]
fn a_window_beyond_the_limit_is_refused_before_any_memory_is_taken() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    for (window_bytes, window_datums) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (1 << 40, 1), (16, u64::MAX)] {
        let (open_id, consumer) = rig.ask(1, &Wish { window_bytes, window_datums, ..Wish::default() });
        let (label, _) = rig.asked();
        rig.left.tell(Command::AcceptChannel(Box::new(AcceptChannel {
            index: index(1, 0x1001),
            label,
            ring: ring.clone(),
            end: std::sync::Arc::default(),
            weight: 1,
            reliability: Reliability::Reliable,
            handle: consumer.clone(),
            publication: corewire_proto::channel::PublicationId::default(),
            resume: None,
        })));
        rig.run_until(LONG, |rig| {
            let rejected = rig.right.pick(|event| match event {
                Event::ChannelRejected { open_id: its, code, .. } if *its == open_id => Some(*code),
                _ => None,
            });
            rejected.is_some_and(|(code, _)| code == CloseCode::TOO_LARGE)
        });
        rig.run_until(LONG, |rig| rig.left.count(Counter::Channels) == 0);
        assert_eq!(ring.readers(), 0);
    }
}

#[test]
fn a_closed_ring_drains_and_ends_the_channel_in_good_order() {
    for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
        let mut rig = connected(Setup::default());
        let ring = ring(64, 8_192);
        let mut leg = rig.subscribe(1, &ring, Wish { reliability, ..Wish::default() });
        publish(&ring, 40, 64);
        ring.close();
        let mut taken = 0;
        rig.run_until(LONG, |_| {
            taken += leg.take(usize::MAX).0;
            leg.is_over()
        });
        assert_eq!(taken, 40);
        rig.run_until(LONG, |rig| rig.left.pick(closed).is_some());
        assert!(rig.right.pick(closed).is_some_and(|(code, _)| code == CloseCode::GRACEFUL));
        assert_eq!(leg.producer.close_code(), Some(CloseCode::GRACEFUL));
        assert_eq!(leg.consumer.close_code(), Some(CloseCode::GRACEFUL));
        assert_eq!(ring.readers(), 0, "the cursor has left");
        // The last datums and the end came together; they are counted all the same.
        let (left, right) = (leg.producer.snapshot(), leg.consumer.snapshot());
        assert_eq!((left.datums, left.bytes, left.lag()), (40, 40 * 64, 0));
        assert_eq!((right.datums, right.bytes, right.position), (40, 40 * 64, 40));
        assert_eq!(rig.left.count(Counter::Streams), 0);
    }
}

#[test]
fn a_channel_that_is_accepted_after_its_ring_closed_ends_at_once() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 8_192);
    let mut first = rig.subscribe(1, &ring, Wish { window_bytes: 64, ..Wish::default() });
    publish(&ring, 8, 64);
    ring.close();
    rig.run_for(Duration::from_millis(10));
    let mut late = rig.subscribe(1, &ring, Wish::default());
    rig.run_until(LONG, |_| late.is_over());
    assert_eq!(late.take(1).0, 0);
    let mut taken = 0;
    rig.run_until(LONG, |_| {
        taken += first.take(usize::MAX).0;
        first.is_over()
    });
    assert_eq!(taken, 8);
}

#[test]
fn a_consumer_that_is_dropped_ends_its_channel_and_frees_the_ring() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 64, ..Wish::default() });
    publish(&ring, 32, 64);
    rig.run_for(Duration::from_millis(10));
    assert!(!ring.is_empty());
    leg.inbox = None;
    rig.run_until(LONG, |_| ring.readers() == 0);
    assert!(ring.is_empty());
    assert!(rig.left.pick(closed).is_some());
    assert!(rig.right.pick(closed).is_some());
    assert_eq!(leg.producer.state(), ChannelState::Terminated);
    // And what the clerk says about it now is harmless.
    rig.right.tell(Command::ResetChannel {
        index: leg.right_index(),
        label: leg.right_label,
        code: CloseCode::GRACEFUL,
    });
    rig.run_for(Duration::from_millis(10));
    assert_eq!(rig.right.count(Counter::StaleCommands), 1);
}

#[test]
fn a_closed_session_ends_every_channel_with_its_code_at_both_ends() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    let mut legs = [rig.subscribe(1, &ring, Wish::default()), rig.subscribe(1, &ring, Wish::default())];
    rig.left.tell(Command::CloseSession { index: index(1, 0x1001), code: CloseCode::SUPERSEDED });
    let over = |event: &Event| match event {
        Event::SessionClosed { code, .. } => Some(*code),
        _ => None,
    };
    for _ in 0..2 {
        rig.run_until(LONG, |rig| {
            rig.left.count(Counter::Sessions) + rig.right.count(Counter::Sessions) == 0
        });
    }
    assert!(rig.left.pick(over).is_some_and(|(code, _)| code == CloseCode::SUPERSEDED));
    assert!(rig.right.pick(over).is_some_and(|(code, _)| code == CloseCode::SUPERSEDED));
    for leg in &mut legs {
        assert_eq!(leg.producer.close_code(), Some(CloseCode::SUPERSEDED));
        assert_eq!(leg.consumer.close_code(), Some(CloseCode::SUPERSEDED));
        assert!(leg.is_over());
    }
    let parked = |event: &Event| matches!(event, Event::ChannelClosed { parked: Some(_), .. }).then_some(());
    assert_eq!(ring.readers(), 2, "each consumer's place is kept");
    for left in [1, 0] {
        assert!(rig.left.pick(parked).is_some(), "the clerk is given both places");
        assert_eq!(ring.readers(), left);
    }
    assert_eq!(rig.left.count(Counter::Channels) + rig.right.count(Counter::Channels), 0);
}

#[test]
fn commands_for_what_is_gone_are_answered_or_forgotten() {
    let mut rig = connected(Setup::default());
    let (gone, code) = (index(1, 0xdead), CloseCode::GRACEFUL);
    let label = corewire_proto::channel::Label::from_u32(5);
    rig.left.tell(Command::CloseSession { index: gone, code });
    rig.left.tell(Command::ResetChannel { index: gone, label, code });
    rig.left.tell(Command::RejectChannel { index: gone, label, code, type_name: TypeName::default() });
    rig.left.tell(Command::SendControl { index: gone, bytes: vec![1] });
    rig.left.tell(Command::ResetChannel { index: index(1, 0x1001), label, code });
    rig.left.tell(Command::RejectChannel {
        index: index(1, 0x1001),
        label,
        code,
        type_name: TypeName::default(),
    });
    rig.settle();
    assert_eq!(rig.left.count(Counter::StaleCommands), 6);
    // Who waits for an answer gets one.
    let ring = ring(16, 1_024);
    for index in [gone, index(1, 0x1001)] {
        let handle = std::sync::Arc::new(corewire_engine::shared::ChannelShared::new(
            shard_rig::STREAM,
            Default::default(),
            Default::default(),
        ));
        rig.left.tell(Command::AcceptChannel(Box::new(AcceptChannel {
            index,
            label,
            ring: ring.clone(),
            end: std::sync::Arc::default(),
            weight: 1,
            reliability: Reliability::Reliable,
            handle: handle.clone(),
            publication: corewire_proto::channel::PublicationId::default(),
            resume: None,
        })));
        rig.settle();
        assert!(rig.left.pick(closed).is_some());
        assert_eq!(handle.state(), ChannelState::Terminated);
        assert_eq!(ring.readers(), 0);
    }
    assert_eq!(rig.left.count(Counter::Sessions), 1);
}

#[test]
fn records_that_a_policy_evicts_are_skipped_and_told() {
    let mut rig = connected(Setup::default());
    let ring = ring(16, 1_024);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 256, ..Wish::default() });
    for _ in 0..200 {
        ring.writer().evict(64, |_, _| {}).expect("nobody holds the ring between turns");
        publish(&ring, 1, 64);
    }
    let (mut taken, mut skipped) = (0, 0);
    rig.run_until(LONG, |_| {
        let (n, gaps) = leg.take(usize::MAX);
        taken += n;
        skipped += gaps;
        ring.is_empty()
    });
    let (n, gaps) = leg.take(usize::MAX);
    assert_eq!((taken + n) as u64 + skipped + gaps, 200);
    assert!(skipped + gaps >= 180);
    assert!(rig.left.count(Counter::RecordsLost) >= 180);
}

#[test]
fn a_ring_that_cuts_the_shard_off_ends_its_channels() {
    let mut rig = connected(Setup::default());
    let ring = ring(16, 1_024);
    let leg = rig.subscribe(1, &ring, Wish { window_bytes: 64, ..Wish::default() });
    publish(&ring, 16, 64);
    rig.run_for(Duration::from_millis(10));
    for reader in ring.blockers() {
        ring.detach(reader).expect("nobody reads in place between turns");
    }
    rig.run_until(LONG, |rig| rig.left.count(Counter::Streams) == 0);
    assert_eq!(leg.producer.close_code(), Some(CloseCode::TOO_SLOW));
    rig.run_until(LONG, |_| leg.consumer.close_code() == Some(CloseCode::TOO_SLOW));
    assert_eq!(rig.left.count(Counter::RingsDetached), 1);
}

#[test]
fn control_messages_arrive_in_order_beside_datums() {
    let mut rig = connected(Setup { link: Link { loss: 0.1, ..Link::CLEAN }, ..Setup::default() });
    for n in 0..50u8 {
        rig.left.tell(Command::SendControl { index: index(1, 0x1001), bytes: vec![n; 2_000] });
    }
    let mut next = 0;
    rig.run_until(LONG, |rig| {
        while let Some((bytes, _)) = rig.right.pick(|event| match event {
            Event::Control { bytes, .. } => Some(bytes.clone()),
            _ => None,
        }) {
            assert_eq!(bytes, vec![next; 2_000]);
            next += 1;
        }
        next == 50
    });
}
