//! Initiators and responders, fed with arbitrary bytes and with mutated packets of real handshakes.

#![no_main]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use arbitrary::Arbitrary;
use corewire_proto::{
    NetworkId,
    handshake::{
        AttemptParams, Credentials, CredentialsConfig, HandshakeLoad, HandshakeOutcome, Initiator,
        InitiatorProgress, PeerLimits, Responder, ResponderConfig, ResponderEvent, Target,
    },
    identity::Identity,
    seal::Suites,
    time::Instant,
    wire::header::ReceiverIndex,
};
use libfuzzer_sys::fuzz_target;

const NETWORK: NetworkId = NetworkId([0x11; 32]);
const NODES: usize = 3;

#[derive(Arbitrary, Debug)]
struct Mutation {
    /// Bit flips.
    flips: Vec<u16>,
    /// Recompute `mac1`, with the key of this node or of the handshake by address.
    repair: Option<u8>,
    /// Cut or extend to this length.
    length: Option<u16>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Node `from` starts an attempt to reach `to`, known or by address.
    Start {
        from: u8,
        to: u8,
        known: bool,
    },
    /// A whole handshake, with a changed copy of message `at` arriving before the message itself.
    Meet {
        from: u8,
        to: u8,
        known: bool,
        at: u8,
        mutation: Option<Mutation>,
    },
    /// Deliver recorded packet `packet` to a node: to its responder, or to initiator `initiator` of all.
    Deliver {
        packet: u8,
        to: u8,
        mutation: Option<Mutation>,
        heavy: bool,
        port: bool,
    },
    Initiator {
        packet: u8,
        initiator: u8,
        mutation: Option<Mutation>,
    },
    /// Deliver these bytes.
    Raw {
        bytes: Vec<u8>,
        to: u8,
    },
    /// Let time pass.
    Wait {
        milliseconds: u16,
    },
}

struct World {
    now: Instant,
    responders: Vec<Responder>,
    initiators: Vec<Initiator>,
    recorded: Vec<Vec<u8>>,
    /// Keys by (index of the initiator, index of the responder), from the side that finished first.
    keys: BTreeMap<(ReceiverIndex, ReceiverIndex), [[u8; 32]; 2]>,
    counter: u32,
}

fn locals() -> &'static [Arc<Credentials>; NODES] {
    static LOCALS: OnceLock<[Arc<Credentials>; NODES]> = OnceLock::new();
    LOCALS.get_or_init(|| {
        [1, 2, 3].map(|n| {
            let config = CredentialsConfig {
                network: NETWORK,
                secret: None,
                validity: 0,
                suites: Suites::for_cpu(n != 3),
                boot: 1,
                limits: PeerLimits { max_packet_bytes: 1_452, max_channels: 16, idle_timeout_ms: 1_000 },
            };
            Arc::new(Credentials::new(&Identity::from_seed(&[n; 32]), config))
        })
    })
}

/// The key of `mac1` as any member derives it.
fn filter_key(which: u8) -> [u8; 32] {
    let secret = blake3::derive_key("corewire v1 network secret of a public network", NETWORK.as_bytes());
    let node = locals().get(usize::from(which % 4));
    let context = match node {
        Some(_) => "corewire v1 packet filter for a known peer",
        None => "corewire v1 packet filter for an address",
    };
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&secret).update(NETWORK.as_bytes());
    if let Some(node) = node {
        hasher.update(node.transport_key());
    }
    *hasher.finalize().as_bytes()
}

impl Mutation {
    fn apply(&self, packet: &mut Vec<u8>) {
        if let Some(length) = self.length {
            packet.resize(usize::from(length) % 400, 0x5a);
        }
        for flip in self.flips.iter().take(8) {
            let bits = packet.len() * 8;
            if bits > 0 {
                packet[usize::from(*flip) % bits / 8] ^= 1 << (flip % 8);
            }
        }
        if let (Some(which), Some(end)) = (self.repair, packet.len().checked_sub(32)) {
            let mac = blake3::keyed_hash(&filter_key(which), &packet[..end]);
            packet[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
        }
    }
}

impl World {
    fn new() -> Self {
        let responders = locals()
            .iter()
            .map(|local| {
                let config = ResponderConfig { max_recent: 8, max_pending: 4, ..ResponderConfig::default() };
                Responder::new(Arc::clone(local), config, [5; 32])
            })
            .collect();
        Self {
            now: Instant::from_nanos(1_000_000_000),
            responders,
            initiators: Vec::new(),
            recorded: Vec::new(),
            keys: BTreeMap::new(),
            counter: 0,
        }
    }

    fn index(&mut self) -> ReceiverIndex {
        self.counter += 1;
        ReceiverIndex::new(0, self.counter, self.counter).expect("few enough")
    }

    fn record(&mut self, packet: Vec<u8>) {
        assert!(packet.len() <= corewire_proto::handshake::MAX_HANDSHAKE_BYTES);
        if self.recorded.len() < 64 {
            self.recorded.push(packet);
        }
    }

    /// Noise message and sender index are unchanged; `mac1` and `mac2` may differ.
    fn genuine(&self, packet: &[u8]) -> bool {
        let body = |packet: &[u8]| packet[..packet.len().saturating_sub(32)].to_vec();
        self.recorded.iter().any(|known| body(known) == body(packet))
    }

    fn finished(&mut self, outcome: &HandshakeOutcome, initiator: bool) {
        let (from, to, forth, back) = if initiator {
            (outcome.local_index, outcome.remote_index, &outcome.keys.send, &outcome.keys.recv)
        } else {
            (outcome.remote_index, outcome.local_index, &outcome.keys.recv, &outcome.keys.send)
        };
        let keys = [*forth.as_bytes(), *back.as_bytes()];
        assert_ne!(keys[0], keys[1]);
        let known = self.keys.entry((from, to)).or_insert(keys);
        assert_eq!(*known, keys, "both sides of one handshake have other keys");
    }

    fn to_responder(&mut self, packet: &[u8], to: u8, heavy: bool, port: bool) {
        let load = if heavy { HandshakeLoad::Heavy } else { HandshakeLoad::Calm };
        let from = SocketAddr::from(([127, 0, 0, 1], 1_000 + u16::from(port)));
        let index = self.index();
        let mut counter = self.counter as u8;
        let mut entropy = |out: &mut [u8]| {
            out.fill(counter);
            counter = counter.wrapping_add(101);
        };
        let genuine = self.genuine(packet);
        let now = self.now;
        let responder = &mut self.responders[usize::from(to) % NODES];
        match responder.handle_packet(now, from, packet, load, &mut entropy) {
            Ok(ResponderEvent::Reply(reply)) => {
                assert!(reply.len() <= packet.len(), "amplification");
                self.record(reply);
            }
            Ok(ResponderEvent::Request(request)) => {
                assert!(genuine, "a changed request was believed");
                if let Ok((outcome, reply)) = responder.accept(now, *request, index) {
                    assert!(reply.len() <= packet.len(), "amplification");
                    self.record(reply);
                    self.finished(&outcome, false);
                }
            }
            Ok(ResponderEvent::Hello(hello)) => {
                if let Ok(reply) = responder.answer(now, *hello, index) {
                    assert!(reply.len() <= packet.len(), "amplification");
                    self.record(reply);
                }
            }
            Ok(ResponderEvent::Joined(outcome)) => {
                assert!(genuine, "a changed last message was believed");
                self.finished(&outcome, false);
            }
            Err(_) => {}
        }
        let responder = &mut self.responders[usize::from(to) % NODES];
        assert!(responder.pending() <= 4 && responder.remembered() <= 8);
        while responder.poll_freed().is_some() {}
    }

    fn to_initiator(&mut self, packet: &[u8], initiator: u8) {
        let genuine = self.genuine(packet);
        let count = self.initiators.len().max(1);
        let Some(initiator) = self.initiators.get_mut(usize::from(initiator) % count) else { return };
        match initiator.handle_packet(self.now, packet) {
            Ok(InitiatorProgress::Send(packet)) => self.record(packet),
            Ok(InitiatorProgress::Done { outcome, send }) => {
                assert!(genuine, "a changed reply was believed");
                self.finished(&outcome, true);
                if let Some(packet) = send {
                    self.record(packet);
                }
            }
            Err(_) => {}
        }
    }

    fn meet(&mut self, from: u8, to: u8, known: bool, at: u8, mutation: Option<Mutation>) {
        let before = self.recorded.len();
        self.start(from, to, known);
        let Some(mut packet) = self.recorded.get(before).cloned() else { return };
        let initiator = self.initiators.len() as u8 - 1;
        for message in 0..3 {
            let deliver = |world: &mut Self, packet: &[u8]| {
                let before = world.recorded.len();
                match message % 2 {
                    0 => world.to_responder(packet, to, false, false),
                    _ => world.to_initiator(packet, initiator),
                }
                world.recorded.get(before).cloned()
            };
            if let Some(mutation) = mutation.as_ref().filter(|_| at % 3 == message) {
                let mut changed = packet.clone();
                mutation.apply(&mut changed);
                deliver(self, &changed);
            }
            match deliver(self, &packet) {
                Some(answer) => packet = answer,
                None => break,
            }
        }
    }

    fn start(&mut self, from: u8, to: u8, known: bool) {
        let (from, to) = (&locals()[usize::from(from) % NODES], &locals()[usize::from(to) % NODES]);
        let target = if known {
            Target::Known { peer: to.peer_id(), key: *to.transport_key() }
        } else {
            Target::Address
        };
        let index = self.index();
        let attempt = AttemptParams { index, generation: 0, number: self.counter };
        let mut entropy = [0; 32];
        entropy[..4].copy_from_slice(&self.counter.to_le_bytes());
        if let Ok((initiator, packet)) =
            Initiator::start(self.now, entropy, Arc::clone(from), target, attempt)
        {
            self.initiators.push(initiator);
            self.record(packet);
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    for step in steps.into_iter().take(24) {
        let pick = |world: &World, n: u8, mutation: Option<Mutation>| {
            let mut packet = world.recorded.get(usize::from(n) % world.recorded.len().max(1))?.clone();
            if let Some(mutation) = mutation {
                mutation.apply(&mut packet);
            }
            Some(packet)
        };
        match step {
            Step::Start { from, to, known } => world.start(from, to, known),
            Step::Meet { from, to, known, at, mutation } => world.meet(from, to, known, at, mutation),
            Step::Deliver { packet, to, mutation, heavy, port } => {
                if let Some(packet) = pick(&world, packet, mutation) {
                    world.to_responder(&packet, to, heavy, port);
                }
            }
            Step::Initiator { packet, initiator, mutation } => {
                if let Some(packet) = pick(&world, packet, mutation) {
                    world.to_initiator(&packet, initiator);
                }
            }
            Step::Raw { bytes, to } => {
                world.to_responder(&bytes, to, to & 0x80 != 0, false);
                world.to_initiator(&bytes, to);
            }
            Step::Wait { milliseconds } => {
                world.now += core::time::Duration::from_millis(u64::from(milliseconds));
                let now = world.now;
                for initiator in &mut world.initiators {
                    let _ = initiator.handle_timeout(now);
                }
                for responder in &mut world.responders {
                    responder.handle_timeout(now);
                }
            }
        }
    }
});
