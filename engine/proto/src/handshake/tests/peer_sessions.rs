use std::{collections::VecDeque, vec, vec::Vec};

use core::time::Duration;

use proptest::prelude::*;

use super::super::{
    EstablishedSession, FOR_KEY, HandshakeRole, InitVerdict, PeerSessions, PeerSessionsConfig, key_phase,
    next_key,
};
use crate::{
    ids::PeerId,
    time::Instant,
    wire::header::{PHASES, ReceiverIndex},
};

const SMALL: PeerId = PeerId([1; 32]);
const LARGE: PeerId = PeerId([2; 32]);
const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn index(n: u32) -> ReceiverIndex {
    ReceiverIndex::new(0, n, n).unwrap()
}

fn entry(n: u32, role: HandshakeRole, generation: u16, since: Instant) -> EstablishedSession {
    EstablishedSession {
        local_index: index(n),
        remote_index: index(n),
        role,
        peer_boot: 1,
        generation,
        attempt: n,
        since,
    }
}

fn retired(slots: &mut PeerSessions) -> Vec<ReceiverIndex> {
    core::iter::from_fn(|| slots.poll_retired()).collect()
}

#[test]
fn answered_handshake_changes_nothing_until_a_packet_opens() {
    let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    slots.handle_established(START, entry(1, HandshakeRole::Initiator, 0, START), true);
    let later = START + Duration::from_secs(120);
    slots.handle_established(later, entry(2, HandshakeRole::Responder, 1, later), false);
    assert_eq!(slots.current().unwrap().local_index, index(1));
    assert!(!slots.handle_opened(later, index(1)));
    assert_eq!(slots.current().unwrap().local_index, index(1));
    assert!(slots.handle_opened(later, index(2)));
    assert_eq!(slots.current().unwrap().local_index, index(2));
    assert!(!slots.handle_opened(later, index(2)), "only once");
    assert_eq!(retired(&mut slots), []);
    let due = slots.poll_timeout().unwrap();
    assert_eq!(due, later + PeerSessionsConfig::default().previous_for);
    slots.handle_timeout(due);
    assert_eq!(retired(&mut slots), [index(1)]);
    assert_eq!(slots.poll_timeout(), None);
}

#[test]
fn replayed_init_replaces_only_the_next_session() {
    let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    slots.handle_established(START, entry(1, HandshakeRole::Initiator, 0, START), true);
    for n in 2..10 {
        slots.handle_established(START, entry(n, HandshakeRole::Responder, 0, START), false);
        assert_eq!(slots.current().unwrap().local_index, index(1));
    }
    assert_eq!(retired(&mut slots), (2..9).map(index).collect::<Vec<_>>());
    let due = slots.poll_timeout().unwrap();
    slots.handle_timeout(due);
    assert_eq!(retired(&mut slots), [index(9)]);
    assert_eq!(slots.current().unwrap().local_index, index(1));
}

#[test]
fn replay_from_an_earlier_life_leaves_the_waiting_session_alone() {
    let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    slots.handle_established(START, entry(1, HandshakeRole::Responder, 0, START), false);
    let old = EstablishedSession { peer_boot: 0, ..entry(2, HandshakeRole::Responder, 0, START) };
    slots.handle_established(START, old, false);
    assert_eq!(retired(&mut slots), []);
    assert!(slots.handle_opened(START, index(1)), "the peer's first packet still opens");
    let due = slots.poll_timeout().unwrap();
    slots.handle_timeout(due);
    assert_eq!((retired(&mut slots), slots.current().unwrap().local_index), (vec![index(2)], index(1)));
    // However many are replayed, few wait.
    for n in 3..20 {
        let old = EstablishedSession { peer_boot: n.into(), ..entry(n, HandshakeRole::Responder, 0, START) };
        slots.handle_established(START, old, false);
    }
    assert_eq!(retired(&mut slots), (3..16).map(index).collect::<Vec<_>>());
}

#[test]
fn replays_of_several_lives_leave_the_waiting_session_alone() {
    let life = |boot: u64, attempt: u32| EstablishedSession {
        peer_boot: boot,
        attempt,
        ..entry(10 * boot as u32 + attempt, HandshakeRole::Responder, 0, START)
    };
    // By a packet, by the end of a handshake by address, and by one that was begun here.
    let by_packet = |slots: &mut PeerSessions| {
        slots.handle_established(START, life(2, 5), false);
        assert!(slots.handle_opened(START, life(2, 5).local_index));
    };
    let by_finish = |slots: &mut PeerSessions| slots.handle_established(START, life(2, 5), true);
    let dialled = |slots: &mut PeerSessions| {
        let entry = EstablishedSession { role: HandshakeRole::Initiator, generation: 7, ..life(2, 5) };
        slots.handle_established(START, entry, true);
    };
    type Way<'a> = &'a dyn Fn(&mut PeerSessions);
    let ways: [Option<Way<'_>>; 4] = [Some(&by_packet), Some(&by_finish), Some(&dialled), None];
    for confirm in ways {
        let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
        if let Some(confirm) = confirm {
            confirm(&mut slots);
        }
        slots.handle_established(START, life(2, 8), false);
        slots.handle_established(START, life(1, 9), false);
        assert_eq!(slots.judge_init(false, 2, 3), InitVerdict::Stale);
        slots.handle_established(START, life(2, 3), false);
        assert_eq!(retired(&mut slots), [life(2, 3).local_index]);
        if confirm.is_some() {
            for boot in 3..30 {
                slots.handle_established(START, life(boot, 1), false);
            }
            assert!(!retired(&mut slots).contains(&life(2, 8).local_index));
        }
        assert!(slots.handle_opened(START, life(2, 8).local_index));
        slots.handle_established(START, life(1, 10), false);
        assert_eq!(slots.judge_init(false, 2, 8), InitVerdict::Stale, "it was confirmed");
    }
}

#[test]
fn of_two_simultaneous_attempts_the_smaller_peer_wins() {
    let small = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    let large = PeerSessions::new(LARGE, SMALL, PeerSessionsConfig::default());
    assert_eq!(small.judge_init(true, 1, 1), InitVerdict::Ignore);
    assert_eq!(large.judge_init(true, 1, 1), InitVerdict::AnswerAndCancelOwn);
    assert_eq!(small.judge_init(false, 1, 1), InitVerdict::Answer);
    assert_eq!(large.judge_init(false, 1, 1), InitVerdict::Answer);
}

#[test]
fn new_session_replaces_one_started_by_either_side() {
    for role in [HandshakeRole::Initiator, HandshakeRole::Responder] {
        let other = if role == HandshakeRole::Initiator {
            HandshakeRole::Responder
        } else {
            HandshakeRole::Initiator
        };
        for own in [SMALL, LARGE] {
            let mut slots = PeerSessions::new(
                own,
                if own == SMALL { LARGE } else { SMALL },
                PeerSessionsConfig::default(),
            );
            slots.handle_established(START, entry(1, role, 0, START), true);
            assert_eq!(slots.next_generation(), 1);
            slots.handle_established(START, entry(2, other, 1, START), true);
            assert_eq!(slots.current().unwrap().local_index, index(2));
        }
    }
}

#[test]
fn restarted_peer_leaves_no_old_session_behind() {
    let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    slots.handle_established(START, entry(1, HandshakeRole::Initiator, 0, START), true);
    let anew = EstablishedSession { peer_boot: 2, ..entry(2, HandshakeRole::Responder, 0, START) };
    slots.handle_established(START, anew, false);
    assert!(slots.handle_opened(START, index(2)));
    assert_eq!(retired(&mut slots), [index(1)], "at once");
    assert_eq!(slots.poll_timeout(), None);
}

#[test]
fn closed_session_leaves_its_place() {
    let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    assert!(slots.is_empty());
    slots.handle_established(START, entry(1, HandshakeRole::Initiator, 0, START), true);
    slots.handle_closed(index(1));
    assert!(slots.is_empty() && slots.current().is_none());
    assert_eq!(retired(&mut slots), []);
    assert_eq!(slots.next_generation(), 0);
}

#[test]
fn attempt_started_while_an_answered_session_waits_does_not_compete() {
    let (mut small, mut large) = (
        PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default()),
        PeerSessions::new(LARGE, SMALL, PeerSessionsConfig::default()),
    );
    let at = |step: u64| START + Duration::from_millis(step);
    // The large peer has answered session 2 of generation 1 and nothing came under it yet. It starts 3.
    small.handle_established(at(0), entry(1, HandshakeRole::Initiator, 0, at(0)), true);
    let second = small.next_generation();
    large.handle_established(at(1), entry(2, HandshakeRole::Responder, second, at(1)), false);
    let third = large.next_generation();
    small.handle_established(at(2), entry(2, HandshakeRole::Initiator, second, at(2)), true);
    small.handle_established(at(3), entry(3, HandshakeRole::Responder, third, at(3)), false);
    large.handle_established(at(4), entry(3, HandshakeRole::Initiator, third, at(4)), true);
    // No packet under 3 arrives; 4 replaces it before the first packet under 2 arrives.
    let fourth = large.next_generation();
    small.handle_established(at(5), entry(4, HandshakeRole::Responder, fourth, at(5)), false);
    large.handle_opened(at(6), index(2));
    large.handle_established(at(7), entry(4, HandshakeRole::Initiator, fourth, at(7)), true);
    small.handle_opened(at(8), index(4));
    let current = |slots: &PeerSessions| slots.current().map(|entry| entry.local_index);
    assert_eq!((current(&small), current(&large)), (Some(index(4)), Some(index(4))));
}

#[test]
fn key_generations_are_apart_from_sessions_and_phases_wrap() {
    let mut generation = 0;
    for _ in 0..200_000 {
        let next = next_key(generation);
        assert_ne!(next & FOR_KEY, 0);
        assert_eq!(key_phase(next), (key_phase(generation) + 1) % PHASES);
        generation = next;
    }
    let mut slots = PeerSessions::new(SMALL, LARGE, PeerSessionsConfig::default());
    slots.handle_established(START, entry(1, HandshakeRole::Initiator, FOR_KEY - 1, START), true);
    assert_eq!(slots.next_generation(), 0, "never one for a key");
}

/// A message between the two peers of the model.
#[derive(Clone, Copy, Debug)]
enum Message {
    /// Session number, generation.
    Init(u32, u16),
    Reply(u32, u16),
    /// A sealed packet under a session.
    Packet(u32),
}

/// One peer of the model: its sessions, and the attempt that waits for a reply.
struct Peer {
    slots: PeerSessions,
    attempt: Option<(u32, u16)>,
    /// Sessions that have keys.
    live: Vec<u32>,
    /// First messages that were answered, which a real responder knows by their ephemeral keys.
    answered: Vec<u32>,
}

impl Peer {
    fn new(own: PeerId, peer: PeerId) -> Self {
        Self {
            slots: PeerSessions::new(own, peer, PeerSessionsConfig::default()),
            attempt: None,
            live: vec![],
            answered: vec![],
        }
    }

    fn start(&mut self, session: u32) -> Option<Message> {
        if self.attempt.is_some() {
            return None;
        }
        let generation = self.slots.next_generation();
        self.attempt = Some((session, generation));
        Some(Message::Init(session, generation))
    }

    fn handle(&mut self, now: Instant, message: Message) -> Option<Message> {
        let answer = match message {
            Message::Init(session, generation) => {
                match self.slots.judge_init(self.attempt.is_some(), 1, session) {
                    InitVerdict::Ignore => None,
                    // Known by its ephemeral key: it gets the same reply again.
                    InitVerdict::Stale if self.answered.contains(&session) => {
                        Some(Message::Reply(session, generation))
                    }
                    InitVerdict::Stale => None,
                    verdict => {
                        if verdict == InitVerdict::AnswerAndCancelOwn {
                            self.attempt = None;
                        }
                        self.answered.push(session);
                        self.live.push(session);
                        self.slots.handle_established(
                            now,
                            entry(session, HandshakeRole::Responder, generation, now),
                            false,
                        );
                        Some(Message::Reply(session, generation))
                    }
                }
            }
            Message::Reply(session, generation) if self.attempt == Some((session, generation)) => {
                self.attempt = None;
                self.live.push(session);
                self.slots.handle_established(
                    now,
                    entry(session, HandshakeRole::Initiator, generation, now),
                    true,
                );
                Some(Message::Packet(session))
            }
            Message::Reply(..) => None,
            Message::Packet(session) => {
                if self.live.contains(&session) {
                    self.slots.handle_opened(now, index(session));
                }
                None
            }
        };
        self.forget();
        answer
    }

    fn forget(&mut self) {
        while let Some(gone) = self.slots.poll_retired() {
            self.live.retain(|session| index(*session) != gone);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Two peers start attempts at any time over a network that loses, repeats and reorders. Once it delivers
    /// everything and both have sent a packet, both send on the same session.
    #[test]
    fn two_peers_end_up_on_the_same_session(steps in prop::collection::vec((0u8..8, any::<u8>()), 1..60)) {
        let mut peers = [Peer::new(SMALL, LARGE), Peer::new(LARGE, SMALL)];
        let mut wires: [VecDeque<Message>; 2] = [VecDeque::new(), VecDeque::new()];
        let (mut now, mut session) = (START, 0);
        for (what, raw) in steps {
            let who = usize::from(raw & 1);
            now += Duration::from_millis(10);
            match what {
                0 => {
                    session += 1;
                    let started = peers[who].start(session);
                    wires[1 - who].extend(started);
                }
                1 if !wires[who].is_empty() => {
                    let lost = usize::from(raw >> 1) % wires[who].len();
                    wires[who].remove(lost);
                }
                2 if !wires[who].is_empty() => {
                    let copied = wires[who][usize::from(raw >> 1) % wires[who].len()];
                    wires[who].push_back(copied);
                }
                3 => {
                    let current = peers[who].slots.current().copied();
                    wires[1 - who].extend(current.map(|entry| Message::Packet(entry.local_index.slot())));
                }
                _ if !wires[who].is_empty() => {
                    let at = if what == 4 { usize::from(raw >> 1) % wires[who].len() } else { 0 };
                    let message = wires[who].remove(at).unwrap();
                    let answer = peers[who].handle(now, message);
                    wires[1 - who].extend(answer);
                }
                _ => {}
            }
            for peer in &peers {
                prop_assert!(peer.live.len() <= 3, "never more than three sessions");
            }
        }
        // Everything arrives, waiting attempts repeat, and both sides send on their current session.
        for round in 0..20 {
            now += Duration::from_millis(200);
            for who in [0, 1] {
                let repeated = peers[who].attempt.map(|(session, generation)| Message::Init(session, generation));
                wires[1 - who].extend(repeated);
                let current = peers[who].slots.current().copied();
                wires[1 - who].extend(current.map(|entry| Message::Packet(entry.local_index.slot())));
            }
            while let Some(who) = (0..2).find(|who| !wires[*who].is_empty()) {
                let message = wires[who].pop_front().unwrap();
                let answer = peers[who].handle(now, message);
                wires[1 - who].extend(answer);
            }
            if round == 19 {
                let current = [0, 1].map(|who: usize| peers[who].slots.current().map(|entry| entry.local_index));
                if current[0].is_some() || current[1].is_some() {
                    prop_assert_eq!(current[0], current[1]);
                    let session = current[0].unwrap().slot();
                    prop_assert!(peers.iter().all(|peer| peer.live.contains(&session)));
                }
                prop_assert!(peers.iter().all(|peer| peer.attempt.is_none()));
            }
        }
    }
}
