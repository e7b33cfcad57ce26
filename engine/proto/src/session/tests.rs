//! Tests that need a session's private state.

use std::vec;

use super::*;
use crate::{
    channel::{OpenRequest, Reliability},
    ids::StreamId,
    seal::{KeyBytes, Suite},
    wire::{
        frames::Out,
        header::{DataPacket, HEADER_BYTES, Header},
    },
};

mod acknowledgements;
mod transitions;

/// A session that is established, with a peer that sends nothing.
fn session(now: Instant) -> Session {
    let key = KeyBytes::from_bytes([1; 32]);
    let suite = Suite::ChaCha20Poly1305;
    let (sealer, opener) = (Sealer::new(suite, &key, now), Opener::new(suite, &key, now));
    Session::new(SessionConfig::default(), sealer, opener, ReceiverIndex::NONE, now)
}

fn request() -> OpenRequest {
    OpenRequest {
        stream_id: StreamId([1; 32]),
        subscription: [0; 8],
        resume: None,
        reliability: Reliability::Reliable,
        window_bytes: 16,
        window_datums: 1,
        max_datum_bytes: 16,
        weight: 1,
        form: Default::default(),
        criteria: Vec::new(),
        tickets: Vec::new(),
    }
}

/// Takes nothing.
struct NoInbox;

impl DatumSink for NoInbox {
    fn deliver(&mut self, _: Label, _: u64, _: u64, _: &[u8]) -> bool {
        false
    }
}

#[test]
fn header_is_parsed_where_a_packet_arrives_and_not_again() {
    let now = Instant::ZERO;
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut peer = session(now);
    for (phase, expected) in [(1, Err(Dropped::OtherKey)), (0, Ok(()))] {
        let mut bytes = [0; BASE_PACKET_BYTES];
        peer.ping();
        let len = peer.poll_transmit(now, &mut bytes, &mut NextHour).expect("a ping");
        let (header, _) = Header::parse(&bytes[..len]).expect("a packet");
        // The bytes name the first key. What counts is what was parsed.
        let packet = DataPacket::with_header(header.in_phase(phase), &mut bytes[..len]);
        assert_eq!(session(now).handle_packet_from(now, from, packet, &mut NoInbox), expected);
    }
}

#[test]
fn challenge_that_the_peer_has_not_seen_is_not_answered_by_guessing() {
    let now = Instant::ZERO;
    let [home, elsewhere] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut peer = Sealer::new(Suite::ChaCha20Poly1305, &KeyBytes::from_bytes([1; 32]), now);
    let mut session = session(now);
    session.set_peer_address(home, KeyBytes::from_bytes([9; 32]));
    let mut buf = [0; BASE_PACKET_BYTES];
    for guess in (0..1_000).rev() {
        let mut out = Out::new(&mut buf[HEADER_BYTES..]);
        out.put_path_response(guess);
        let bytes = out.written();
        let sealed = peer.seal(now, ReceiverIndex::NONE, &mut buf, bytes).expect("room");
        let packet = DataPacket::parse(&mut buf[..sealed.bytes]).expect("whole").expect("data");
        session.handle_packet_from(now, elsewhere, packet, &mut NoInbox).expect("it opens");
        while let Some((to, _)) = session.poll_path_transmit(now, &mut buf) {
            assert_eq!(to, elsewhere);
        }
    }
    assert_eq!(session.peer_address(), Some(home));
}

#[test]
fn slot_reused_while_blocked_is_listed_once() {
    let mut now = Instant::ZERO;
    let (mut session, request) = (session(now), request());
    for life in 0..50 {
        let label = Label::new(3, life, true);
        let former = session.tx_channels.insert(label, TxChannel::new(label, &request));
        assert_eq!(former.is_some(), life > 0);
        session.block_channel(label);
        now += session.config().blocked_probe * 20;
        session.advance_clock(now);
        session.probe_blocked();
        assert_eq!(session.credit_wait.len(), 1, "life {life}");
    }
}

#[test]
fn channel_that_often_runs_out_of_credit_makes_no_other_ask() {
    const STALLED: usize = 200;
    let mut session = session(Instant::ZERO);
    let insert = |session: &mut Session, slot| {
        let label = Label::new(slot, 0, true);
        assert!(session.tx_channels.insert(label, TxChannel::new(label, &request())).is_none());
        session.block_channel(label);
        label
    };
    for slot in 0..STALLED {
        insert(&mut session, slot);
    }
    let busy = insert(&mut session, STALLED);
    let mut asked = 0;
    for ms in 1..=1_000 {
        session.advance_clock(Instant::ZERO + core::time::Duration::from_millis(ms));
        session.tx_channels.get_mut(busy).expect("it is there").blocked = false;
        session.block_channel(busy);
        session.probe_blocked();
        while let Some(slot) = session.blocked.pop_front() {
            let channel = session.tx_channels.at(slot).expect("it is there");
            (channel.queued, channel.blocked_due) = (false, None);
            asked += usize::from(slot < STALLED as u32);
        }
    }
    // At first, and after 0.1, 0.2, 0.4 and 0.8 seconds.
    assert_eq!(asked, 5 * STALLED);
    assert!(session.credit_wait.len() <= STALLED + 1);
}

/// Has nothing to send, and lets each turn begin in an hour.
struct NextHour;

impl DatumSource for NextHour {
    fn datum(&mut self, _: Label, _: u64) -> Fetched<'_> {
        Fetched::NotYet
    }

    fn book(&mut self, _: Label, now: Instant, _: u64) -> Instant {
        now + core::time::Duration::from_secs(3_600)
    }
}

/// Opens a channel that is held back for an hour.
fn hold(session: &mut Session, slot: usize, life: u32) -> Label {
    let label = Label::new(slot, life, true);
    assert!(session.tx_channels.insert(label, TxChannel::new(label, &request())).is_none());
    session.limit(label).expect("it is there");
    let channel = session.tx_channels.get_mut(label).expect("it is there");
    let at = channel.begin_turn(Instant::ZERO, &mut NextHour).expect_err("it is held back");
    session.egress.push(at, slot as u32);
    label
}

#[test]
fn channels_that_end_while_held_back_leave_no_more_than_a_few_entries() {
    let mut session = session(Instant::ZERO);
    for slot in 0..200 {
        hold(&mut session, slot, 0);
    }
    for life in 0..10_000 {
        let label = hold(&mut session, 200, life);
        session.drop_tx(label).expect("it is there");
        assert!(session.egress.len() <= 400, "after {life} channels: {}", session.egress.len());
    }
    session.advance_clock(Instant::ZERO + core::time::Duration::from_secs(3_601));
    session.release_held();
    assert_eq!(session.egress.len(), 0);
    let waits = |slot| session.tx_channels.at(slot).is_some_and(|channel| channel.held_until().is_some());
    assert!(!(0..200).any(waits), "those that are there go on");
}

#[test]
fn probe_timeouts_alone_give_no_datum_up() {
    let ms = core::time::Duration::from_millis;
    let mut subject = transitions::producing(Reliability::Reliable);
    subject.session.config.give_up_after = Some(ms(50));
    // The peer answers, and has acknowledged nothing yet: the path delays it.
    for _ in 0..100 {
        subject.transmit();
        subject.receive(|out| assert!(out.put_ping(1)));
        subject.wait(ms(2));
    }
    assert!(subject.session.stats.probes > 5);
    let reset = |event| matches!(event, SessionEvent::Reset { .. });
    assert!(!core::iter::from_fn(|| subject.session.poll_event()).any(reset));
    // An acknowledgement of the last packet shows that the first ones are lost.
    let last = subject.session.sealer().next_number() - 1;
    subject.receive(|out| assert_eq!(out.put_ack(0, 0, [(last, last)].into_iter()), 1));
    let gave_up = |event| matches!(event, SessionEvent::Reset { code: CloseCode::GAVE_UP, .. });
    assert!(core::iter::from_fn(|| subject.session.poll_event()).any(gave_up));
}

#[test]
fn close_is_repeated_over_the_whole_linger_to_a_peer_that_goes_on() {
    let mut subject = transitions::Subject::new();
    subject.session.close(Instant::ZERO, CloseCode::NOT_ALLOWED);
    subject.transmit();
    let mut sent = vec![];
    let before = subject.session.stats.packets_sent;
    for ms in 0..50 {
        for _ in 0..64 {
            subject.receive(|out| assert!(out.put_ping(1)));
        }
        subject.transmit();
        sent.push(subject.session.stats.packets_sent - before);
        assert!(!matches!(subject.session.lifecycle, Lifecycle::Closed), "after {ms} ms");
        subject.wait(core::time::Duration::from_millis(1));
    }
    let [first, middle, last] = [0, 25, 49].map(|ms| sent[ms]);
    assert!(first < middle && middle < last && last <= 16, "{sent:?}");
}

#[test]
fn channel_that_is_held_back_gives_up_its_place_in_the_queue_for_room() {
    let now = Instant::ZERO;
    // Held back when it is woken, or when its turn begins.
    for held_before in [true, false] {
        let mut session = session(now);
        let mut crowd = |slot| {
            let label = Label::new(slot, 0, true);
            let mut channel = TxChannel::new(label, &OpenRequest { window_bytes: 0, ..request() });
            let accept = crate::channel::Accept {
                publication: Default::default(),
                first_seq: 0,
                max_datum_bytes: 16,
                reliability: Reliability::Reliable,
                weight: 1,
            };
            channel.accept(accept).expect("it was asked for");
            channel.handle_accept_acked();
            (channel.crowded, channel.listed_crowded) = (true, true);
            assert!(session.tx_channels.insert(label, channel).is_none());
            session.large.push(slot as u32);
            session.publish(label, 1);
            label
        };
        let [slow, other] = [0, 1].map(&mut crowd);
        session.limit(slow).expect("it is there");
        if held_before {
            let channel = session.tx_channels.get_mut(slow).expect("it is there");
            let at = channel.begin_turn(now, &mut NextHour).expect_err("it is held back");
            session.egress.push(at, slow.slot() as u32);
        }
        session.large.change(0, 100);
        session.large.change(100, 0);
        session.wake_crowded();
        session.poll_transmit(now, &mut [0; BASE_PACKET_BYTES], &mut NextHour);
        let channel = session.tx_channels.get_mut(other).expect("it is there");
        assert!(!channel.crowded, "held before: {held_before}");
        // When its time has come the first goes on, and waits for room again if there is none.
        session.advance_clock(now + core::time::Duration::from_secs(3_601));
        session.release_held();
        let channel = session.tx_channels.get_mut(slow).expect("it is there");
        assert!(channel.wants_turn() && !channel.listed_crowded);
    }
}
