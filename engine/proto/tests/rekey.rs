//! Replacing the keys of an open session: its channels are unaffected, and an expired key opens nothing.

mod harness;

use std::time::Duration;

use corewire_proto::{
    channel::Reliability,
    congestion::Congestion,
    seal::{KeyBytes, KeyLimits, Opener, Sealer, Suite},
    session::{
        BASE_PACKET_BYTES, CloseCode, Dropped, NewKey, Session, SessionConfig, SessionEvent, StaleKey,
    },
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PHASES, ReceiverIndex},
};
use harness::{Faults, Flow, Inboxes, Rings, Rng, World};

/// Keys that are due after `soft` packets.
fn limits(soft: u64) -> KeyLimits {
    let limits = KeyLimits::new(Suite::ChaCha20Poly1305);
    KeyLimits { soft_packets: soft, hard_packets: 1_000 * soft, ..limits }
}

/// The key of handshake `serial` for packets to peer `to`.
fn secret(serial: u32, to: usize) -> KeyBytes {
    let mut bytes = [to as u8; 32];
    bytes[..4].copy_from_slice(&serial.to_le_bytes());
    KeyBytes::from_bytes(bytes)
}

/// Both ends of the keys of handshake `serial` at peer `at`.
fn seals(serial: u32, at: usize, limits: KeyLimits, now: Instant) -> (Sealer, Opener) {
    let suite = Suite::ChaCha20Poly1305;
    (
        Sealer::with_limits(suite, &secret(serial, 1 - at), limits, now),
        Opener::with_limits(suite, &secret(serial, at), limits, now),
    )
}

fn new_key(serial: u32, at: usize, limits: KeyLimits, phase: u8, confirmed: bool, now: Instant) -> NewKey {
    let (sealer, opener) = seals(serial, at, limits, now);
    NewKey { phase, sealer, opener, confirmed }
}

fn session(config: &SessionConfig, at: usize, limits: KeyLimits) -> Session {
    let (sealer, opener) = seals(0, at, limits, Instant::ZERO);
    Session::new(config.clone(), sealer, opener, ReceiverIndex::NONE, Instant::ZERO)
}

/// A handshake in progress, as the sessions see it: the responder has the key first.
struct Handshake {
    serial: u32,
    phase: u8,
    by: usize,
    answered_at: Instant,
    /// The answer arrives; `None`: it is lost, and another handshake follows.
    done_at: Option<Instant>,
}

/// Plays the handshakes for two sessions whose keys last a few packets.
struct Keysmith {
    limits: KeyLimits,
    serial: u32,
    going_on: Option<Handshake>,
    rng: Rng,
}

impl Keysmith {
    fn step(&mut self, world: &mut World) {
        let now = world.now;
        // A peer that has not moved on yet refuses the handshake after the one that it has answered.
        let [one, other] = [0, 1].map(|at: usize| world.peers[at].session.sealer().phase());
        if self.going_on.is_none()
            && one == other
            && let Some(by) = (0..2).find(|&peer| world.peers[peer].rekey_due)
        {
            let phase = (one + 1) % PHASES;
            self.serial += 1;
            let answered_at = now + Duration::from_micros(self.rng.below(3_000));
            let done_at = answered_at + Duration::from_micros(self.rng.below(3_000));
            let done_at = (!self.rng.chance(200)).then_some(done_at);
            self.going_on = Some(Handshake { serial: self.serial, phase, by, answered_at, done_at });
        }
        let Some(Handshake { serial, phase, by, answered_at, done_at }) = self.going_on else { return };
        if answered_at > now {
            return;
        }
        let key = |at, confirmed| new_key(serial, at, self.limits, phase, confirmed, now);
        if answered_at != Instant::ZERO {
            world.peers[1 - by].session.rekey(now, key(1 - by, false)).unwrap();
            self.going_on.as_mut().unwrap().answered_at = Instant::ZERO;
        }
        match done_at {
            Some(at) if at > now => {}
            Some(_) => {
                world.peers[by].session.rekey(now, key(by, true)).unwrap();
                // A late answer of a finished handshake has no effect.
                assert_eq!(world.peers[by].session.rekey(now, key(by, true)), Err(StaleKey));
                self.going_on = None;
            }
            None => self.going_on = None,
        }
    }
}

fn storm(seed: u64, soft: u64, datums: u64, faults: Faults) -> World {
    let mut rng = Rng::new(seed ^ 0x4e11);
    // A fixed rate, so that loss does not slow the test down, and small packets, so that there are many.
    let config = SessionConfig {
        max_packet_bytes: BASE_PACKET_BYTES,
        congestion: Congestion::Fixed { bytes_per_second: 5_000_000 },
        ..SessionConfig::default()
    };
    let mut world = World::new(seed, &config, faults);
    for at in 0..2 {
        world.peers[at].session = session(&config, at, limits(soft));
    }
    for consumer in [0, 1, 1] {
        let length: fn(u64) -> usize = |seq| if seq % 50 == 0 { 9_000 } else { (seq * 37 % 900) as usize };
        let take = 20 + rng.below(100);
        world.open(consumer, Flow { datums, length, take, window_bytes: 1 << 18, ..Flow::default() });
    }
    world.open(0, Flow { datums, reliability: Reliability::FireAndForget, ..Flow::default() });
    let mut smith = Keysmith { limits: limits(soft), serial: 0, going_on: None, rng };
    let end = world.now + Duration::from_secs(300);
    while !world.all_finished() {
        assert!(world.step() && world.now < end, "seed {seed}: stuck at {:?}", world.now);
        let closed = world.peers.iter().find_map(|peer| peer.closed);
        assert_eq!(closed, None, "seed {seed}: a session closed");
        smith.step(&mut world);
    }
    for peer in &world.peers {
        for inbox in peer.inboxes.consuming.values() {
            if inbox.config.reliability == Reliability::Reliable {
                assert_eq!(inbox.delivered, inbox.expected(), "seed {seed}");
            }
        }
    }
    let [one, other] = &world.peers;
    assert!(one.rekeyed.len().abs_diff(other.rekeyed.len()) <= 1, "seed {seed}");
    world
}

#[test]
fn streams_survive_rekeys_per_thousand_packets_and_thirty_percent_loss() {
    for seed in 0..3 {
        let faults =
            Faults { loss: 300, duplicate: 100, corrupt: 20, reorder: 200, delay_us: 300, steady: false };
        let world = storm(seed, 1_000, 8_000, faults);
        let keys = world.peers[0].rekeyed.len();
        assert!(keys >= 5, "seed {seed}: only {keys} keys");
    }
}

#[test]
fn more_keys_than_phases_replace_each_other() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut draw = |max| if rng.chance(500) { rng.below(max) } else { 0 };
        let faults = Faults {
            loss: draw(300),
            duplicate: draw(200),
            corrupt: draw(50),
            reorder: draw(300),
            delay_us: 20 + draw(1_000),
            steady: false,
        };
        let world = storm(seed, 60, 4_000, faults);
        for peer in &world.peers {
            let phases: Vec<u8> = (1..=peer.rekeyed.len()).map(|n| (n % usize::from(PHASES)) as u8).collect();
            assert_eq!(peer.rekeyed, phases, "seed {seed}: one after the other");
            assert!(phases.len() > usize::from(PHASES), "seed {seed}: only {} keys", phases.len());
        }
    }
}

/// Two sessions whose packets the test delivers itself.
struct Pair {
    now: Instant,
    peers: [Session; 2],
}

impl Pair {
    fn new(limits: KeyLimits) -> Self {
        let config =
            SessionConfig { keepalive: Some(Duration::from_secs(3_600)), ..SessionConfig::default() };
        Self { now: Instant::ZERO, peers: [0, 1].map(|at| session(&config, at, limits)) }
    }

    /// One packet of `from` with a message.
    fn packet(&mut self, from: usize) -> Vec<u8> {
        self.peers[from].send_control(vec![1]).unwrap();
        self.said(from).expect("there is something to say")
    }

    fn said(&mut self, from: usize) -> Option<Vec<u8>> {
        let mut buf = vec![0; 2_000];
        let len = self.peers[from].poll_transmit(self.now, &mut buf, &mut Rings::default())?;
        buf.truncate(len);
        Some(buf)
    }

    fn bring(&mut self, to: usize, packet: &[u8]) -> Result<(), Dropped> {
        self.peers[to].handle_packet(self.now, &mut packet.to_vec(), &mut Inboxes::default())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.peers.iter_mut().for_each(|peer| peer.handle_timeout(self.now));
    }

    fn events(&mut self, of: usize) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.peers[of].poll_event()).collect()
    }

    fn phase(&self, of: usize) -> u8 {
        self.peers[of].sealer().phase()
    }
}

fn phase(packet: &[u8]) -> u8 {
    Header::parse(packet).unwrap().0.phase()
}

#[test]
fn answered_key_waits_for_the_peer_and_the_old_one_expires() {
    let usual = limits(1_000);
    let mut pair = Pair::new(usual);
    let early = pair.packet(0);
    let late = pair.packet(0);
    let forgotten = pair.packet(0);
    // Peer 0 begins, so peer 1 has the key first: it may not use it yet.
    pair.peers[1].rekey(pair.now, new_key(1, 1, usual, 1, false, pair.now)).unwrap();
    assert_eq!(pair.phase(1), 0);
    assert_eq!(pair.bring(1, &early), Ok(()));
    let answer = pair.packet(1);
    assert_eq!(phase(&answer), 0);
    pair.peers[0].rekey(pair.now, new_key(1, 0, usual, 1, true, pair.now)).unwrap();
    assert_eq!((pair.phase(0), pair.phase(1)), (1, 0));
    // It sends a packet under it at once, although it has nothing else to send.
    let hello = pair.said(0).expect("a packet under the new key");
    assert_eq!(phase(&hello), 1);
    assert_eq!(Header::parse(&hello).unwrap().0.number(), 3, "the numbers go on");
    // Until the peer uses the new key, its packets open under the old one.
    pair.pass(Duration::from_secs(9));
    assert_eq!(pair.bring(0, &answer), Ok(()));
    assert!(!pair.events(1).contains(&SessionEvent::Rekeyed { phase: 1 }));
    assert_eq!(pair.bring(1, &hello), Ok(()));
    assert!(pair.events(1).contains(&SessionEvent::Rekeyed { phase: 1 }));
    assert_eq!(pair.phase(1), 1);
    assert_eq!(pair.bring(1, &hello), Err(Dropped::Replay));
    // A packet under way arrives a little later.
    assert_eq!(pair.bring(1, &late), Ok(()));
    assert_eq!(pair.bring(1, &late), Err(Dropped::Replay));
    let turned = pair.packet(1);
    assert_eq!(phase(&turned), 1);
    assert_eq!(pair.bring(0, &turned), Ok(()));
    let before = pair.peers[1].session_stats();
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.bring(1, &forgotten), Err(Dropped::OtherKey));
    let after = pair.peers[1].session_stats();
    assert_eq!(after.dropped_other_key, before.dropped_other_key + 1);
    assert_eq!(after.packets_received, before.packets_received);
    assert_eq!((after.keys_changed, pair.peers[0].session_stats().keys_changed), (1, 1));
}

#[test]
fn only_the_key_after_the_current_one_is_accepted_the_latest_wins() {
    let usual = limits(1_000);
    let mut pair = Pair::new(usual);
    for phase in [0, 2, 15] {
        let key = new_key(1, 1, usual, phase, true, pair.now);
        assert_eq!(pair.peers[1].rekey(pair.now, key), Err(StaleKey), "phase {phase}");
    }
    // The peer never saw the first answer, and asked again.
    pair.peers[1].rekey(pair.now, new_key(1, 1, usual, 1, false, pair.now)).unwrap();
    pair.peers[1].rekey(pair.now, new_key(2, 1, usual, 1, false, pair.now)).unwrap();
    pair.peers[0].rekey(pair.now, new_key(2, 0, usual, 1, true, pair.now)).unwrap();
    let packet = pair.packet(0);
    assert_eq!(pair.bring(1, &packet), Ok(()));
    assert_eq!(pair.phase(1), 1);
}

#[test]
fn forged_phase_changes_no_key() {
    let usual = limits(1_000);
    let mut pair = Pair::new(usual);
    pair.peers[1].rekey(pair.now, new_key(1, 1, usual, 1, false, pair.now)).unwrap();
    let packet = pair.packet(0);
    for phase in 1..PHASES {
        let mut forged = packet.clone();
        forged[0] = (forged[0] & 0xf0) | phase;
        let dropped = pair.bring(1, &forged).unwrap_err();
        assert_eq!(dropped, if phase == 1 { Dropped::Auth } else { Dropped::OtherKey }, "phase {phase}");
        let mut noise = forged[..HEADER_BYTES + 16].to_vec();
        noise[HEADER_BYTES..].fill(0);
        assert!(pair.bring(1, &noise).is_err());
    }
    assert_eq!(pair.phase(1), 0);
    assert_eq!(pair.bring(1, &packet), Ok(()));
}

#[test]
fn receiver_asks_for_a_new_key_when_the_peer_has_used_up_its_own() {
    let usual = KeyLimits { soft_blocks: 40, ..limits(1_000) };
    let config = SessionConfig { keepalive: Some(Duration::from_secs(3_600)), ..SessionConfig::default() };
    let mut pair =
        Pair { now: Instant::ZERO, peers: [session(&config, 0, usual), session(&config, 1, limits(1_000))] };
    for _ in 0..30 {
        let packet = pair.packet(1);
        assert_eq!(pair.bring(0, &packet), Ok(()));
    }
    assert_eq!(pair.events(0).iter().filter(|event| **event == SessionEvent::RekeyDue).count(), 1);
    assert_eq!(pair.peers[0].sealer().next_number(), 0, "it has sent nothing itself");
}

#[test]
fn packet_of_a_stranger_does_not_end_a_session_whose_key_has_stopped() {
    let usual = limits(1_000);
    let mut pair = Pair::new(usual);
    let mut forged = pair.packet(1);
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    pair.now += usual.hard_age;
    assert_eq!(pair.bring(0, &forged), Err(Dropped::OtherKey));
    assert!(!pair.peers[0].is_closed() && pair.said(0).is_none());
    // Its own timer does.
    pair.pass(Duration::ZERO);
    assert!(
        pair.events(0).contains(&SessionEvent::Closed { code: CloseCode::KEY_EXHAUSTED, by_peer: false })
    );
}

#[test]
fn key_requests_its_successor_once_and_stops_without_it() {
    // By packets.
    let tiny = KeyLimits { hard_packets: 8, ..limits(4) };
    let mut pair = Pair::new(tiny);
    for _ in 0..4 {
        assert!(!pair.events(0).contains(&SessionEvent::RekeyDue));
        pair.packet(0);
    }
    assert_eq!(pair.events(0).iter().filter(|event| **event == SessionEvent::RekeyDue).count(), 1);
    pair.peers[0].rekey(pair.now, new_key(1, 0, tiny, 1, true, pair.now)).unwrap();
    // The next key counts from its first number.
    for number in 0..7 {
        assert_eq!(Header::parse(&pair.packet(0)).unwrap().0.number(), 4 + number);
    }
    let said = pair.events(0);
    assert_eq!(said.iter().filter(|event| **event == SessionEvent::RekeyDue).count(), 1);
    pair.packet(0);
    pair.peers[0].send_control(vec![1]).unwrap();
    assert_eq!(pair.said(0), None);
    assert!(
        pair.events(0).contains(&SessionEvent::Closed { code: CloseCode::KEY_EXHAUSTED, by_peer: false })
    );
    // By age, although nothing is sent.
    let usual = limits(1_000);
    let mut pair = Pair::new(usual);
    assert!(pair.peers[0].poll_timeout().is_some_and(|at| at <= Instant::ZERO + usual.soft_age));
    pair.pass(usual.soft_age);
    assert_eq!(pair.events(0), [SessionEvent::RekeyDue]);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.events(0), []);
}
