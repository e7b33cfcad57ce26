//! Beacons: how nodes that know no address of each other meet on one host or link.
//!
//! A node sends datagrams to a multicast group of its network. Each carries what the node announces about
//! itself, sealed under a key that only members have. To a stranger a beacon is random bytes of a few
//! lengths: it names no network, peer or address.
//!
//! Invariants:
//!
//! * A beacon is believed only if it is fresh: it is newer than what was heard of its peer before, or it
//!   repeats this node's token, which changes whenever a peer's number is forgotten. So a recorded beacon
//!   that is replayed, now or to a node that starts later, tells nothing. No clocks are compared.
//! * The rate at which a node sends is bounded ([`BURST`], [`SEND_GAP`]), and so is the rate at which it
//!   opens what arrives ([`OPENS_PER_SECOND`]), whatever is heard.
//! * What is kept of peers is bounded ([`BeaconConfig::max_peers`]).
//!
//! A new node asks with its first beacons. Every node that hears it answers with a beacon that repeats the
//! token of the new one, after a pause that grows with the number of nodes, and asks in turn until it has
//! heard its own token. Two beacons of each make the two known to each other.
//!
//! A record is signed by its peer, so a member can forge no other's. It can forge the rest of a beacon; an
//! address in it is a hint, and the handshake proves who is there.
//!
//! Not inside: sockets, and what is done about a record.

mod message;

use alloc::{collections::VecDeque, vec::Vec};
use core::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use self::message::{Body, Message};
pub use self::message::{MAX_BEACON_BYTES, MAX_BEACON_RECORD_BYTES};
use crate::{
    ids::PeerId,
    membership::{
        LongRecord, SignedRecord,
        sealed::{Chance, NetworkSeal, OpenBudget},
    },
    ordered::OrderedMap,
    seal::KeyBytes,
    time::Instant,
};

/// The UDP port of the multicast groups of all networks.
pub const BEACON_PORT: u16 = 7_412;

/// The pause between two beacons of a node that has nothing to say, with few peers. It is also the time that
/// the least lucky newcomer waits, should all its first beacons be lost.
pub const PERIOD: Duration = Duration::from_secs(10);

/// With many nodes the pause is this for each, so that a link carries at most 20 such beacons a second.
const PERIOD_EACH: Duration = Duration::from_millis(50);

/// Beacons that a node sends in a row, at least [`SEND_GAP`] apart on average after that.
pub const BURST: u32 = 16;

/// The mean pause between beacons of a node that always has something to say.
pub const SEND_GAP: Duration = Duration::from_millis(125);

/// Datagrams that a node tries to open per second, and at once. Each takes some microseconds, so a flood
/// costs a few hundredths of a core.
pub const OPENS_PER_SECOND: u32 = 4_000;

/// News is sent this many times, because a datagram may be lost.
const REPEATS: u32 = 4;

/// The pause before the first repetition. Each later one is twice as long.
const REPEAT_AFTER: Duration = Duration::from_millis(100);

/// The pause between two beacons that ask a peer to repeat this node's token.
const ASK_AGAIN: Duration = Duration::from_millis(60);

/// The longest pause before an answer, with few nodes.
const ANSWER_WITHIN: Duration = Duration::from_millis(10);

/// With many nodes it is longer by this for each, so that not all answer at once.
const ANSWER_EACH: Duration = Duration::from_millis(2);

/// The longest pause before an answer with any number of nodes.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A peer is asked this often to repeat this node's token. If it does not, its beacons are taken for
/// replayed.
const ASKS: u32 = 8;

/// Tokens that wait to be repeated. The peers of those that do not fit ask again.
const ECHOES_MAX: usize = 512;

/// The pause between two looks for silent peers.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// A peer is taken for silent after this many periods.
const SILENT_PERIODS: u32 = 4;

const CONTEXT_SEAL: &str = "corewire v1 beacon seal";
const CONTEXT_GROUP: &str = "corewire v1 beacon group";

/// What a [`Beacon`] is made of.
#[derive(Debug)]
pub struct BeaconConfig {
    /// The key that the members share: [`crate::handshake::NetworkSecret::beacon_key`].
    pub key: KeyBytes,
    /// Orders the lives of the node, for instance the time of its start.
    pub incarnation: u64,
    /// 32 random bytes, from which nonces, tokens and pauses are derived.
    pub seed: [u8; 32],
    /// Peers that are kept.
    pub max_peers: usize,
}

/// What a beacon told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BeaconEvent {
    /// The record of a peer. Its signature is not checked yet.
    Record {
        /// The encoded record.
        bytes: Vec<u8>,
        /// Its age in seconds.
        age_s: u32,
    },
    /// A peer is there, and tells what it told before.
    Same(PeerId),
    /// A peer's record is too long for a beacon. It can be fetched, see [`crate::swim::Swim::fetch`].
    Long(LongRecord),
}

/// Why a datagram told nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BeaconError {
    /// It was not sealed by a member of this network.
    #[error("not a beacon of this network")]
    Foreign,
    /// More datagrams came than are opened.
    #[error("too many datagrams")]
    Flood,
    /// It is older than the latest beacon of its peer.
    #[error("replayed, or late")]
    Replayed,
    /// A member has sealed what is not a beacon.
    #[error("sealed by a member, and not a beacon")]
    Malformed,
    /// Beacons of too many peers are heard.
    #[error("beacons of too many peers")]
    Full,
}

/// What is kept of a peer.
#[derive(Debug)]
struct HeardPeer {
    /// The order of its latest beacon.
    latest: (u64, u64),
    /// It has repeated this node's token.
    believed: bool,
    /// How often it may still be asked to.
    asks: u32,
    heard_at: Instant,
    /// The hash of what it told last, if it was believed.
    told: Option<[u8; 32]>,
}

/// The beacon of one node. The module documentation has its invariants.
#[derive(Debug)]
pub struct Beacon {
    seal: NetworkSeal,
    peer: PeerId,
    incarnation: u64,
    /// Of the latest beacon sent.
    number: u64,
    chance: Chance,
    token: u64,
    /// What the node tells, and since when; `None` before the first [`Beacon::announce`].
    body: Option<(Body, Instant)>,
    /// Beacons of this life that ask everyone for an answer.
    first_asks: u32,
    /// Tokens of peers that are to be repeated.
    echoes: VecDeque<u64>,
    peers: OrderedMap<PeerId, HeardPeer>,
    max_peers: usize,
    /// When the next beacon is to leave, apart from the bound of the rate.
    next_at: Instant,
    /// Repetitions of news that are left, and the pause before the next one.
    repeats: (u32, Duration),
    /// The theoretical arrival time of the generic cell rate algorithm: beacons leave while it is less than a
    /// burst ahead.
    rate_at: Instant,
    opens: OpenBudget,
    /// No peer is looked at for its silence before this.
    look_at: Instant,
}

impl Beacon {
    /// A beacon of `peer` that has nothing to tell yet.
    pub fn new(now: Instant, peer: PeerId, config: BeaconConfig) -> Self {
        let mut beacon = Self {
            seal: NetworkSeal::new(&config.key, CONTEXT_SEAL),
            peer,
            incarnation: config.incarnation,
            number: 0,
            chance: Chance::new(config.seed),
            token: 0,
            body: None,
            first_asks: REPEATS,
            echoes: VecDeque::new(),
            peers: OrderedMap::new(),
            max_peers: config.max_peers,
            next_at: Instant::FAR_FUTURE,
            repeats: (0, REPEAT_AFTER),
            rate_at: now,
            opens: OpenBudget::new(now, OPENS_PER_SECOND),
            look_at: now + LOOK_PAUSE,
        };
        beacon.token = beacon.chance.number();
        beacon
    }

    /// The groups of a network: one of the site's scope in each family. They follow from the key, so they
    /// tell a stranger no name.
    pub fn groups(key: &KeyBytes) -> (SocketAddr, SocketAddr) {
        let hash = blake3::derive_key(CONTEXT_GROUP, key.as_bytes());
        let v4 = Ipv4Addr::new(239, 255, hash[0], hash[1]);
        let word = |at: usize| u16::from_be_bytes([hash[at], hash[at + 1]]);
        let v6 = Ipv6Addr::new(0xff15, 0, 0, 0, word(2), word(4), word(6), word(8));
        (SocketAddr::from((v4, BEACON_PORT)), SocketAddr::from((v6, BEACON_PORT)))
    }

    /// Tells this record from now on.
    pub fn announce(&mut self, now: Instant, record: &SignedRecord) {
        self.body = Some((Body::of(record), now));
        self.repeats = (REPEATS - 1, REPEAT_AFTER);
        self.next_at = now;
    }

    /// Takes in a datagram of the group. `Ok(None)`: it was a beacon, and told nothing that is believed.
    ///
    /// # Errors
    ///
    /// [`BeaconError`]; the datagram changed nothing.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Option<BeaconEvent>, BeaconError> {
        if !message::is_sent_length(datagram.len()) {
            return Err(BeaconError::Foreign);
        }
        if !self.opens.take(now) {
            return Err(BeaconError::Flood);
        }
        let plain = self.seal.open(&[], datagram).ok_or(BeaconError::Foreign)?;
        self.handle_plaintext(now, &plain)
    }

    /// Takes in the plaintext of a beacon, as a member may have sealed it; for fuzzing.
    #[doc(hidden)]
    pub fn handle_plaintext(
        &mut self,
        now: Instant,
        plain: &[u8],
    ) -> Result<Option<BeaconEvent>, BeaconError> {
        let message = Message::parse(plain).ok_or(BeaconError::Malformed)?;
        if message.peer == self.peer {
            return Ok(None);
        }
        let fresh = message.echoes.contains(&self.token);
        let order = (message.incarnation, message.number);
        let known = match self.peers.get_mut(&message.peer) {
            Some(known) if order == known.latest => return Ok(None),
            Some(known) if known.believed && order < known.latest => return Err(BeaconError::Replayed),
            Some(known) => known,
            None => {
                self.make_room()?;
                let new = HeardPeer { latest: order, believed: false, asks: ASKS, heard_at: now, told: None };
                self.peers.get_or_insert_with(message.peer, || new)
            }
        };
        known.latest = order;
        known.believed |= fresh;
        let believed = known.believed;
        if believed {
            known.heard_at = now;
        } else if known.asks == 0 {
            return Ok(None);
        }
        let before = if believed { known.told.replace(message.body_hash) } else { None };
        let event = believed.then(|| match before == Some(message.body_hash) {
            true => BeaconEvent::Same(message.peer),
            false => message.body.into_event(),
        });
        if message.asks && !self.echoes.contains(&message.token) && self.echoes.len() < ECHOES_MAX {
            self.echoes.push_back(message.token);
        }
        if message.asks || !believed {
            let at = now + self.answer_pause();
            self.next_at = self.next_at.min(at);
        }
        Ok(event)
    }

    /// What a peer told last came to nothing: when it is told again, it counts as new.
    pub fn forget_told(&mut self, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.told = None;
        }
    }

    /// The next datagram for the group, if one is due. After it there may be another one.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.body.is_none() || now < self.next_at || now < self.rate_at_most() {
            return None;
        }
        self.rate_at = self.rate_at.max(now) + SEND_GAP;
        self.number += 1;
        let (mut asks, mut again) = (self.first_asks > 0, false);
        for peer in self.peers.values_mut().filter(|peer| !peer.believed && peer.asks > 0) {
            peer.asks -= 1;
            asks = true;
            again |= peer.asks > 0;
        }
        self.first_asks = self.first_asks.saturating_sub(1);
        let pause = self.next_pause();
        self.next_at = now + if again { pause.min(ASK_AGAIN) } else { pause };
        let salt = self.chance.bytes();
        let (body, since) = self.body.as_ref()?;
        let age_s = u32::try_from(now.saturating_since(*since).as_secs()).unwrap_or(u32::MAX);
        let count = self.echoes.len().min(body.echo_room());
        let echoes: Vec<u64> = self.echoes.drain(..count).collect();
        let order = (self.incarnation, self.number);
        let mut plain = message::encode(&self.peer, order, asks, self.token, &echoes, (body, age_s));
        message::fill(&mut plain);
        if !self.echoes.is_empty() {
            self.next_at = now;
        }
        Some(self.seal.seal(&[], &salt, plain))
    }

    /// Forgets a peer that was silent for too long, and gives it back if it was believed; call until `None`.
    pub fn poll_silent(&mut self, now: Instant) -> Option<PeerId> {
        if now < self.look_at {
            return None;
        }
        let limit = self.period() * SILENT_PERIODS;
        loop {
            let over = |known: &HeardPeer| now.saturating_since(known.heard_at) >= limit;
            let Some((&peer, known)) = self.peers.iter().find(|(_, known)| over(known)) else {
                self.look_at = now + LOOK_PAUSE;
                return None;
            };
            let believed = known.believed;
            self.peers.remove(&peer);
            if believed {
                // The order of its beacons is forgotten, so those that were recorded must not be believed.
                self.token = self.chance.number();
                return Some(peer);
            }
        }
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Instant {
        let send = self.next_at.max(self.rate_at_most());
        let send = if self.body.is_some() { send } else { Instant::FAR_FUTURE };
        if self.peers.is_empty() { send } else { send.min(self.look_at) }
    }

    /// Peers that are believed.
    pub fn believed(&self) -> usize {
        self.peers.values().filter(|peer| peer.believed).count()
    }

    /// The pause after a beacon, unless something happens before.
    fn next_pause(&mut self) -> Duration {
        let (left, pause) = self.repeats;
        if left > 0 {
            self.repeats = (left - 1, pause * 2);
            return pause;
        }
        let period = self.period();
        // From seven to nine eighths, so that nodes do not stay in step.
        period * 7 / 8 + self.chance.part_of(period / 4)
    }

    fn period(&self) -> Duration {
        PERIOD.max(PERIOD_EACH * u32::try_from(self.peers.len()).unwrap_or(u32::MAX))
    }

    fn answer_pause(&mut self) -> Duration {
        let each = ANSWER_EACH * u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        self.chance.part_of((ANSWER_WITHIN + each).min(ANSWER_MAX))
    }

    /// Before this a further beacon would exceed the rate.
    fn rate_at_most(&self) -> Instant {
        self.rate_at - SEND_GAP * (BURST - 1)
    }

    /// Makes room for a further peer: one that is not believed goes, the one heard first.
    fn make_room(&mut self) -> Result<(), BeaconError> {
        if self.peers.len() < self.max_peers {
            return Ok(());
        }
        let doubtful = self.peers.iter().filter(|(_, known)| !known.believed);
        let first = doubtful.min_by_key(|(_, known)| known.heard_at).map(|(peer, _)| *peer);
        self.peers.remove(&first.ok_or(BeaconError::Full)?);
        Ok(())
    }
}
