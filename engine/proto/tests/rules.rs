//! Peers that break rules, and how sessions and channels end. The hostile peer holds the keys and seals any
//! frames.

mod harness;

use std::time::Duration;

use corewire_proto::{
    StreamId,
    channel::{Accept, Label, OpenRequest, PublicationId, Reliability},
    seal::Sealer,
    session::{
        CloseCode, ControlError, DatumSink, DatumSource, Dropped, Fetched, OpenChannelError, Session,
        SessionConfig, SessionEvent,
    },
    time::Instant,
    wire::{
        frames::{Frame, Frames, message::SessionMessage},
        header::{HEADER_BYTES, ReceiverIndex},
    },
};
use harness::{Faults, Flow, Inboxes, Rings, World, content, opener, sealer, session};

fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000)
}

fn request(window: u64) -> OpenRequest {
    OpenRequest {
        stream_id: StreamId([1; 32]),
        subscription: [0; 8],
        resume: None,
        reliability: Reliability::Reliable,
        window_bytes: window,
        window_datums: 0,
        max_datum_bytes: 1_000,
        weight: 1,
        form: Default::default(),
        criteria: vec![],
        tickets: vec![],
    }
}

/// An inbox that takes every datum, or none.
struct Inbox {
    room: bool,
}

impl DatumSink for Inbox {
    fn deliver(&mut self, _: Label, _: u64, _: u64, _: &[u8]) -> bool {
        self.room
    }
}

/// A session, and the key of its peer, which may send anything.
struct Hostile {
    victim: Session,
    sealer: Sealer,
    inboxes: Inboxes,
    control: u64,
    now: Instant,
}

impl Hostile {
    fn new(config: &SessionConfig) -> Self {
        let victim = session(config, 1, 2);
        Self { victim, sealer: sealer(2), inboxes: Inboxes::default(), control: 0, now: Instant::ZERO }
    }

    fn sealed(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_BYTES];
        packet.extend_from_slice(frames);
        packet.extend_from_slice(&[0; 16]);
        self.sealer.seal(self.now, ReceiverIndex::NONE, &mut packet, frames.len()).unwrap();
        packet
    }

    fn send(&mut self, frames: &[u8]) -> Result<(), Dropped> {
        let mut packet = self.sealed(frames);
        self.victim.handle_packet(self.now, &mut packet, &mut self.inboxes)
    }

    /// Sends to a victim whose inbox takes everything, or nothing.
    fn send_data(&mut self, room: bool, frames: &[u8]) -> Result<(), Dropped> {
        let mut packet = self.sealed(frames);
        self.victim.handle_packet(self.now, &mut packet, &mut Inbox { room })
    }

    fn message(&mut self, message: &SessionMessage) -> Result<(), Dropped> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let mut frame = vec![7, 0];
        frame.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        frame.extend_from_slice(&self.control.to_le_bytes());
        frame.extend_from_slice(&bytes);
        self.control += bytes.len() as u64;
        self.send(&frame)
    }

    fn closes(&mut self, frames: &[u8], code: CloseCode) {
        assert_eq!(self.send(frames), Err(Dropped::Violation(code)), "{frames:?}");
        assert!(self.victim.is_closed());
        assert_eq!(self.victim.session_stats().dropped_violation, 1);
        // The peer is told why, inside the seal.
        let mut buf = vec![0; 2_000];
        let len = self.victim.poll_transmit(self.now, &mut buf, &mut Rings::default()).unwrap();
        let opened = opener(1).open(self.now, &mut buf[..len]).unwrap().plaintext.to_vec();
        let frame = Frames::new(&opened).next().unwrap().unwrap();
        assert!(matches!(frame, Frame::Close(told) if told == code));
    }
}

fn ack(largest: u64) -> Vec<u8> {
    let mut frame = vec![1, 0, 1, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&largest.to_le_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
    frame
}

fn data(label: u32, first: u64, offset: u64, datums: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for datum in datums {
        body.extend_from_slice(&(datum.len() as u16).to_le_bytes());
        body.extend_from_slice(datum);
    }
    let mut frame = vec![4, 0];
    frame.extend_from_slice(&(datums.len() as u16).to_le_bytes());
    frame.extend_from_slice(&(body.len() as u16).to_le_bytes());
    frame.extend_from_slice(&label.to_le_bytes());
    frame.extend_from_slice(&first.to_le_bytes());
    frame.extend_from_slice(&offset.to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

fn fragment(seq: u64, offset: u64, position: u32, total: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![5, 0];
    frame.extend_from_slice(&(body.len() as u16).to_le_bytes());
    frame.extend_from_slice(&0u32.to_le_bytes());
    frame.extend_from_slice(&seq.to_le_bytes());
    frame.extend_from_slice(&offset.to_le_bytes());
    frame.extend_from_slice(&position.to_le_bytes());
    frame.extend_from_slice(&total.to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// The victim consumes from the hostile peer: channel 0 with this window.
fn consuming(window: u64, config: &SessionConfig) -> Hostile {
    let mut hostile = Hostile::new(config);
    let label = hostile.victim.open(request(window)).unwrap();
    assert_eq!(label.as_u32(), 0);
    let accept = Accept {
        publication: PublicationId([5; 16]),
        first_seq: 0,
        max_datum_bytes: 1 << 30,
        reliability: Reliability::Reliable,
        weight: 1,
    };
    hostile.message(&SessionMessage::Accept(0, accept)).unwrap();
    hostile
}

#[test]
fn each_violation_closes_with_its_code() {
    let violation = CloseCode::PROTOCOL_VIOLATION;
    let credit = CloseCode::CREDIT_VIOLATION;
    let early = |seq| data(0, seq, 0, &[b"x"]);
    let cases: Vec<(Vec<u8>, CloseCode)> = vec![
        (ack(0), violation),
        (ack(u64::MAX), violation),
        (vec![0], violation),
        (vec![77, 1, 2, 3], violation),
        (early(1)[..20].to_vec(), violation),
        (data(9, 0, 0, &[b"never opened"]), violation),
        (data(1 << 31, 0, 0, &[b"reserved bit"]), violation),
        (data(0, 3, 4_096, &[b"beyond the limit"]), credit),
        (data(0, 3, u64::MAX, &[b"far beyond"]), credit),
        (data(0, u64::MAX - 1, 0, &[b"x"]), credit),
        (data(0, u64::MAX, 0, &[b"x"]), violation),
        (fragment(0, 4_096, 0, 900, b"x"), credit),
        (fragment(u64::MAX, 0, 0, 900, b"x"), credit),
        (fragment(0, 0, 0, 1_001, b"x"), CloseCode::TOO_LARGE),
        (fragment(0, 0, 900, 900, b"x"), violation),
        // A CREDIT for a channel that the hostile peer never opened.
        ([&[2u8, 0, 0, 0][..], &[5; 20]].concat(), violation),
        // A SKIP to the end of all sequences, and one beyond the credit in bytes.
        ([&[6u8, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8], &[0xff; 8], &[0; 8]].concat(), violation),
        ([&[6u8, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8], &[9, 0, 0, 0, 0, 0, 0, 0], &[0x7f; 8]].concat(), credit),
        ([&[3u8, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8], &[0x7f; 8]].concat(), credit),
        ([&ack(1 << 40)[..], &[8]].concat(), violation),
        ([&[7u8, 0, 1, 0][..], &[0xff; 7], &[0x7f, 1]].concat(), credit),
        (vec![10, 0, 0, 0, 0, 0, 0, 0], violation),
    ];
    for (frames, code) in cases {
        consuming(4_096, &SessionConfig::default()).closes(&frames, code);
    }
}

/// A sink that takes everything.
struct Take;

impl DatumSink for Take {
    fn deliver(&mut self, _: Label, _: u64, _: u64, _: &[u8]) -> bool {
        true
    }
}

#[test]
fn data_beyond_credit_in_order_closes_the_session() {
    let mut hostile = consuming(64, &SessionConfig::default());
    let label = Label::from_u32(0);
    while hostile.victim.poll_event().is_some() {}
    let frames = data(0, 0, 0, &[&[1; 16], &[2; 16], &[3; 16], &[4; 16], &[5; 16]]);
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(&frames);
    packet.extend_from_slice(&[0; 16]);
    hostile.sealer.seal(hostile.now, ReceiverIndex::NONE, &mut packet, frames.len()).unwrap();
    let result = hostile.victim.handle_packet(hostile.now, &mut packet, &mut Take);
    assert_eq!(result, Err(Dropped::Violation(CloseCode::CREDIT_VIOLATION)));
    assert_eq!(hostile.victim.stats(label).unwrap().rx_datums, 4);
}

#[test]
fn full_sink_resets_only_its_channel() {
    let mut hostile = consuming(4_096, &SessionConfig::default());
    while hostile.victim.poll_event().is_some() {}
    hostile.send_data(false, &data(0, 0, 0, &[b"x"])).unwrap();
    let label = Label::from_u32(0);
    let Some(SessionEvent::Reset { label: reset, code, by_peer: false, stats }) = hostile.victim.poll_event()
    else {
        panic!("the channel is reset");
    };
    assert_eq!((reset, code), (label, CloseCode::NO_CAPACITY));
    assert_eq!(stats.in_order, 0, "the datum was not delivered");
    assert!(!hostile.victim.is_closed());
    // Frames under way for it are stale, not a violation.
    hostile.send(&data(0, 1, 16, &[b"y"])).unwrap();
    assert_eq!(hostile.victim.session_stats().stale_frames, 1);
}

#[test]
fn early_data_and_fragments_stay_within_the_budget() {
    let mut config = SessionConfig::default();
    config.limits.max_held_bytes = 10_000;
    let mut hostile = consuming(0, &config);
    while hostile.victim.poll_event().is_some() {}
    let mut refused = 0;
    for n in 0..2_000u64 {
        let seq = 1 + n * 2;
        let frames = if n % 2 == 0 {
            data(0, seq, seq * 16, &[&[7; 50]])
        } else {
            fragment(seq, seq * 16, 500, 1_000, &[9; 10])
        };
        hostile.send(&frames).unwrap();
        let stats = hostile.victim.session_stats();
        assert!(stats.held_bytes <= 10_000);
        refused = stats.refused_packets;
    }
    assert!(refused > 1_800);
    let label = Label::from_u32(0);
    hostile.victim.reset(label, CloseCode::GRACEFUL).unwrap();
    assert_eq!(hostile.victim.session_stats().held_bytes, 0, "a channel that goes gives everything back");
}

#[test]
fn flood_of_opens_is_refused_and_bounded() {
    let mut config = SessionConfig::default();
    config.limits.opens_per_second = 10;
    config.limits.max_channels = 64;
    let mut hostile = Hostile::new(&config);
    for slot in 0..64u32 {
        hostile.message(&SessionMessage::Open(slot, request(10))).unwrap();
    }
    assert_eq!(hostile.victim.session_stats().channels, 10);
    assert_eq!(hostile.victim.session_stats().opens_refused, 54);
    hostile.now = ms(500);
    hostile.message(&SessionMessage::Open(64, request(10))).unwrap();
    assert_eq!(hostile.victim.session_stats().channels, 10, "there is no such slot");
    for slot in 0..64u32 {
        hostile.message(&SessionMessage::Open(slot | 1 << 12, request(10))).unwrap();
    }
    assert_eq!(hostile.victim.session_stats().channels, 10, "five tokens replaced five channels");
    assert_eq!(
        hostile.message(&SessionMessage::Open(1, request(10))),
        Err(Dropped::Violation(CloseCode::PROTOCOL_VIOLATION))
    );
    let mut hostile = Hostile::new(&config);
    let closed = (0..100_000u32).find(|n| {
        hostile.message(&SessionMessage::Open((n % 64) | ((n / 64 + 1) << 12), request(10))).is_err()
    });
    assert!(
        closed.is_some_and(|n| n < 30_000),
        "answers that are never acknowledged end the session: {closed:?}"
    );
}

#[test]
fn unpolled_events_stop_the_peer_and_stay_bounded() {
    let mut config = SessionConfig::default();
    config.limits.max_events = 8;
    let mut hostile = Hostile::new(&config);
    let mut sent = 0;
    for _ in 0..1_000 {
        let before = hostile.victim.session_stats().refused_packets;
        if hostile.message(&SessionMessage::Record(vec![1; 1_000])).is_err()
            || hostile.victim.session_stats().refused_packets > before
        {
            break;
        }
        sent += 1;
    }
    assert!(sent < 400, "{sent}");
    let mut polled = 0;
    while let Some(event) = hostile.victim.poll_event() {
        polled += u64::from(matches!(event, SessionEvent::Control(_)));
    }
    assert_eq!(polled, sent, "what was acknowledged is delivered");
}

#[test]
fn lowered_and_absurd_credit_has_no_effect() {
    let mut hostile = Hostile::new(&SessionConfig::default());
    hostile.message(&SessionMessage::Open(0, request(4_096))).unwrap();
    let label = Label::from_u32(1 << 31);
    let accept = Accept {
        publication: PublicationId([5; 16]),
        first_seq: 5,
        max_datum_bytes: 100,
        reliability: Reliability::Reliable,
        weight: 1,
    };
    hostile.victim.accept(label, accept).unwrap();
    let before = hostile.victim.stats(label).unwrap().tx_credit_remaining;
    let credit = |seq: u64, bytes: u64| {
        [&[2u8, 0, 0, 0, 0, 0, 0, 0][..], &seq.to_le_bytes(), &bytes.to_le_bytes()].concat()
    };
    hostile.send(&credit(0, 0)).unwrap();
    assert_eq!(hostile.victim.stats(label).unwrap().tx_credit_remaining, before);
    hostile.send(&credit(u64::MAX, u64::MAX)).unwrap();
    hostile.victim.publish(label, u64::MAX);
    assert_eq!(hostile.victim.stats(label).unwrap().tx_credit_remaining, u64::MAX);
    assert_eq!(hostile.victim.finish(label, u64::MAX), Ok(()));
}

#[test]
fn sealed_garbage_does_not_panic() {
    for seed in 0..3_000u64 {
        let mut hostile = consuming(4_096, &SessionConfig::default());
        while hostile.victim.poll_event().is_some() {}
        let mut bytes = content(5, seed, (seed % 200) as usize);
        if let Some(first) = bytes.first_mut() {
            *first = *first % 11 + u8::from(seed % 40 == 0);
        }
        let _ = hostile.send(&bytes);
        let mut buf = vec![0; 2_000];
        while hostile.victim.poll_transmit(ms(1), &mut buf, &mut Rings::default()).is_some() {}
    }
}

#[test]
fn close_reaches_the_peer_when_the_first_packet_is_lost() {
    let mut world = World::new(1, &SessionConfig::default(), Faults { delay_us: 50, ..Faults::default() });
    world.open(0, Flow { datums: 1_000_000, take: 1_000, ..Flow::default() });
    world.run_until(Duration::from_millis(50), |_| false);
    assert!(world.peers[0].confirmed && world.peers[1].confirmed);
    world.cut = true;
    let now = world.now;
    world.peers[0].session.close(now, CloseCode::GRACEFUL);
    world.step();
    world.cut = false;
    world.run_until(Duration::from_secs(1), |world| world.peers.iter().all(|p| p.closed.is_some()));
    assert_eq!(world.peers[0].closed, Some((CloseCode::GRACEFUL, false)));
    assert_eq!(world.peers[1].closed, Some((CloseCode::GRACEFUL, true)));
    let session = &mut world.peers[0].session;
    assert_eq!(session.poll_timeout(), None);
    assert_eq!(session.open(request(1)), Err(OpenChannelError::Closed));
    assert_eq!(session.send_control(vec![1]), Err(ControlError::Closed(vec![1])));
}

#[test]
fn refusals_and_resets_reach_the_peer() {
    let mut world =
        World::new(1, &SessionConfig::default(), Faults { delay_us: 50, loss: 300, ..Faults::default() });
    let refused = world.open(0, Flow::default());
    let mut stream = [0; 32];
    stream[..8].copy_from_slice(&0u64.to_le_bytes());
    world.peers[1].refuse.insert(stream);
    let kept = world.open(0, Flow { datums: 1 << 40, ..Flow::default() });
    let cut_by_producer = world.open(0, Flow { datums: 1 << 40, ..Flow::default() });
    let flows =
        |world: &World| world.peers[0].inboxes.consuming.values().filter(|i| i.delivered > 100).count();
    assert!(world.run_until(Duration::from_secs(20), |world| flows(world) == 2));
    assert_eq!(world.peers[0].rejected, [(refused, CloseCode::NOT_ALLOWED)]);
    world.peers[0].session.reset(kept, CloseCode::GRACEFUL).unwrap();
    world.peers[0].inboxes.consuming.get_mut(&kept).unwrap().closed = Some(CloseCode::GRACEFUL);
    let twin = |label: Label| Label::from_u32(label.as_u32() | 1 << 31);
    world.peers[1].session.reset(twin(cut_by_producer), CloseCode::TOO_SLOW).unwrap();
    world.peers[1].rings.producing.get_mut(&twin(cut_by_producer)).unwrap().closed =
        Some(CloseCode::TOO_SLOW);
    assert!(world.run_until(Duration::from_secs(20), |world| {
        world.peers.iter().all(|peer| peer.session.session_stats().channels == 0)
    }));
    assert_eq!(world.peers[1].rings.producing[&twin(kept)].closed, Some(CloseCode::GRACEFUL));
    assert_eq!(world.peers[0].inboxes.consuming[&cut_by_producer].closed, Some(CloseCode::TOO_SLOW));
    assert!(world.peers[0].session.stats(kept).is_none() && world.peers[0].session.released(kept).is_none());
}

#[test]
fn stalled_application_stops_only_its_channel() {
    let mut world =
        World::new(3, &SessionConfig::default(), Faults { delay_us: 50, loss: 20, ..Faults::default() });
    let slow = world.open(0, Flow { datums: 1 << 40, window_bytes: 8_192, ..Flow::default() });
    world.open(0, Flow { datums: 5_000, ..Flow::default() });
    world.peers[0].inboxes.consuming.get_mut(&slow).unwrap().stalled = true;
    let fast_done =
        |world: &World| world.peers[0].inboxes.consuming.values().any(|inbox| inbox.delivered == 5_000);
    assert!(world.run_until(Duration::from_secs(20), fast_done));
    let twin = Label::from_u32(slow.as_u32() | 1 << 31);
    let stats = world.peers[1].session.stats(twin).unwrap();
    assert!(stats.blocked && stats.backpressure_events == 1, "{stats:?}");
    let delivered = world.peers[0].inboxes.consuming[&slow].delivered;
    let packets = world.peers[0].packets;
    world.run_until(Duration::from_secs(10), |_| false);
    assert_eq!(world.peers[0].inboxes.consuming[&slow].delivered, delivered);
    assert!(world.peers[0].packets - packets < 150, "waiting takes few packets");
    world.peers[0].inboxes.consuming.get_mut(&slow).unwrap().stalled = false;
    assert!(world.run_until(Duration::from_secs(2), |world| {
        world.peers[0].inboxes.consuming[&slow].delivered > delivered + 1_000
    }));
}

#[test]
fn peer_that_acknowledges_what_was_never_sent_is_found_out() {
    let mut hostile = Hostile::new(&SessionConfig::default());
    let mut buf = vec![0; 2_000];
    let caught = (0..20_000u64).find(|token| {
        // Each PING makes the victim send a packet, which the peer acknowledges before it can have arrived.
        let ping = [&[8u8][..], &token.to_le_bytes()].concat();
        hostile.send(&ping).unwrap();
        while hostile.victim.poll_transmit(hostile.now, &mut buf, &mut Rings::default()).is_some() {}
        let last = hostile.victim.sealer().next_number() - 1;
        hostile.send(&ack(last)) == Err(Dropped::Violation(CloseCode::PROTOCOL_VIOLATION))
    });
    assert!(caught.is_some_and(|packets| packets < 10_000), "{caught:?}");
}

#[test]
fn close_follows_the_acknowledgement_of_what_was_said_before() {
    let mut hostile = Hostile::new(&SessionConfig::default());
    let says_close = |hostile: &mut Hostile| {
        let mut buf = vec![0; 2_000];
        let mut close = false;
        while let Some(len) = hostile.victim.poll_transmit(hostile.now, &mut buf, &mut Rings::default()) {
            let opened = opener(1).open(hostile.now, &mut buf[..len]).unwrap().plaintext.to_vec();
            close |= Frames::new(&opened).any(|frame| matches!(frame, Ok(Frame::Close(CloseCode::GRACEFUL))));
        }
        close
    };
    hostile.victim.send_control(b"the end".to_vec()).unwrap();
    hostile.victim.close(hostile.now, CloseCode::GRACEFUL);
    assert!(hostile.victim.is_closed() && !says_close(&mut hostile));
    assert_eq!(hostile.victim.send_control(vec![1]), Err(ControlError::Closed(vec![1])));
    let last = hostile.victim.sealer().next_number() - 1;
    hostile.send(&ack(last)).unwrap();
    assert!(says_close(&mut hostile));
}

#[test]
fn fire_and_forget_end_follows_the_datums_that_are_under_way() {
    // Packets of the smallest size: no probe for larger ones is in flight.
    let mut hostile = Hostile::new(&SessionConfig { max_packet_bytes: 1_232, ..SessionConfig::default() });
    let asked = OpenRequest { reliability: Reliability::FireAndForget, ..request(0) };
    hostile.message(&SessionMessage::Open(0, asked)).unwrap();
    let label = Label::from_u32(1 << 31);
    let mut source = Numbers;
    let mut buf = vec![0; 2_000];
    let accept = Accept {
        publication: PublicationId([5; 16]),
        first_seq: 0,
        max_datum_bytes: 100,
        reliability: Reliability::FireAndForget,
        weight: 1,
    };
    hostile.victim.accept(label, accept).unwrap();
    while hostile.victim.poll_transmit(hostile.now, &mut buf, &mut source).is_some() {}
    let ack_all = |hostile: &mut Hostile| {
        let last = hostile.victim.sealer().next_number() - 1;
        let mut frame = ack(last);
        frame[20..].copy_from_slice(&(last as u32 + 1).to_le_bytes());
        hostile.send(&frame).unwrap();
    };
    ack_all(&mut hostile);
    hostile.victim.publish(label, 3);
    hostile.victim.finish(label, 3).unwrap();
    let controls = |hostile: &mut Hostile| {
        let mut controls = 0;
        let mut buf = vec![0; 2_000];
        while let Some(len) = hostile.victim.poll_transmit(hostile.now, &mut buf, &mut Numbers) {
            let opened = opener(1).open(hostile.now, &mut buf[..len]).unwrap().plaintext.to_vec();
            controls += Frames::new(&opened).filter(|frame| matches!(frame, Ok(Frame::Control(..)))).count();
        }
        controls
    };
    assert_eq!(controls(&mut hostile), 0, "the datums alone");
    ack_all(&mut hostile);
    assert_eq!(controls(&mut hostile), 1, "the end, once they have arrived");
}

/// Every datum is there.
struct Numbers;

impl DatumSource for Numbers {
    fn datum(&mut self, _: Label, _: u64) -> Fetched<'_> {
        Fetched::Datum(b"number")
    }
}

#[test]
fn ping_is_answered_with_its_token() {
    let mut hostile = Hostile::new(&SessionConfig::default());
    hostile.send(&[&[8u8][..], &77u64.to_le_bytes()].concat()).unwrap();
    let mut buf = vec![0; 2_000];
    let len = hostile.victim.poll_transmit(hostile.now, &mut buf, &mut Rings::default()).unwrap();
    let opened = opener(1).open(hostile.now, &mut buf[..len]).unwrap().plaintext.to_vec();
    assert!(Frames::new(&opened).any(|frame| matches!(frame, Ok(Frame::Pong(77)))));
    assert!(hostile.victim.poll_transmit(hostile.now, &mut buf, &mut Rings::default()).is_none());
}

#[test]
fn early_skip_over_many_held_runs_is_refused() {
    let mut hostile = consuming(0, &SessionConfig::default());
    while hostile.victim.poll_event().is_some() {}
    for n in 0..3_000u64 {
        hostile.send(&data(0, 1 + n * 2, (1 + n * 2) * 16, &[b"x"])).unwrap();
    }
    let skip = |first: u64, until: u64| {
        [&[6u8, 0, 0, 0, 0, 0, 0, 0][..], &first.to_le_bytes(), &until.to_le_bytes(), &[0; 8]].concat()
    };
    assert_eq!(hostile.victim.session_stats().refused_packets, 0);
    hostile.send(&skip(1, 400)).unwrap();
    assert_eq!(hostile.victim.session_stats().refused_packets, 1);
    // A skip over few held runs is accepted, and the stream is complete once the missing part arrives.
    hostile.send(&skip(12_000, 20_000)).unwrap();
    assert_eq!(hostile.victim.session_stats().refused_packets, 1);
    let frames = skip(0, 12_000);
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(&frames);
    packet.extend_from_slice(&[0; 16]);
    hostile.sealer.seal(hostile.now, ReceiverIndex::NONE, &mut packet, frames.len()).unwrap();
    hostile.victim.handle_packet(hostile.now, &mut packet, &mut Take).unwrap();
    let stats = hostile.victim.stats(Label::from_u32(0)).unwrap();
    assert_eq!((stats.in_order, stats.rx_datums, stats.held_bytes), (20_000, 3_000, 0));
}

/// Three datums in order and a sixth one; then RESET.
fn reset_after_a_gap(code: CloseCode, end_seq: Option<u64>) -> Result<Vec<u64>, Dropped> {
    let mut hostile = consuming(4_096, &SessionConfig::default());
    while hostile.victim.poll_event().is_some() {}
    hostile.send_data(true, &data(0, 0, 0, &[b"a", b"b", b"c"])).unwrap();
    // Held early, so not delivered.
    hostile.send_data(true, &data(0, 5, 80, &[b"f"])).unwrap();
    hostile.message(&SessionMessage::Reset { label: 0, code, sender_opened: false, end_seq })?;
    let events = core::iter::from_fn(|| hostile.victim.poll_event());
    Ok(events
        .filter_map(|event| match event {
            SessionEvent::Reset { stats, .. } => Some(stats.in_order),
            _ => None,
        })
        .collect())
}

#[test]
fn discarded_stream_ends_where_its_producer_says_unless_more_had_come() {
    assert_eq!(reset_after_a_gap(CloseCode::DISCARDED, Some(9)), Ok(vec![9]));
    assert_eq!(reset_after_a_gap(CloseCode::DISCARDED, Some(6)), Ok(vec![6]));
    let contradicts = Err(Dropped::Violation(CloseCode::PROTOCOL_VIOLATION));
    assert_eq!(reset_after_a_gap(CloseCode::DISCARDED, Some(5)), contradicts);
}

#[test]
fn end_of_a_consumed_channel_says_where_to_resume() {
    let label = Label::from_u32(0);
    assert_eq!(reset_after_a_gap(CloseCode::NO_CAPACITY, None), Ok(vec![3]));

    let mut hostile = consuming(4_096, &SessionConfig::default());
    hostile.send_data(true, &data(0, 0, 0, &[b"a", b"b"])).unwrap();
    hostile.victim.close(hostile.now, CloseCode::IDLE);
    assert!(hostile.victim.is_closed());
    assert_eq!(hostile.victim.stats(label).map(|stats| stats.in_order), Some(2));
}
