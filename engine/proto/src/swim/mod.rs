//! Membership without sessions: who is there, and what they announce, in a network of any size.
//!
//! The protocol is SWIM. Each node asks one other member per period whether it is there, and asks three
//! more to ask in its place if no answer comes, and then three again. A member that has not answered at the
//! end of the period is suspected; the suspicion and every new record spread as gossip, on these packets and
//! on packets of their own while there is news. From time to time a node compares sums over all records with
//! one other member, so that what gossip missed is found. Of a record that is too long for a packet its mark
//! is spread, and the record is fetched in parts (`fetch`). The load of a node does not depend on the number
//! of members; times grow with its logarithm.
//!
//! Invariants:
//!
//! * **Only a signed record makes a member.** A packet is sealed with the key of the network, which names no
//!   one; what it says about a peer is a record, or a suspicion of one.
//! * **An answer counts only from the node that was asked.** Each question has a random number, which the
//!   node that it is sent to can read, and members on the way. A member that is asked to ask brings back the
//!   signature of the node that it asked, of a number that was drawn for it. So a packet that is replayed
//!   answers nothing, and a member that is asked to ask puts off no suspicion by a lie.
//! * **The address of a member is one in its record, or one from which it has answered.** Where other packets
//!   come from is told as a claim, for members that announce no address.
//! * **Only the peer itself ends a suspicion**, by a newer record. No one can end it in its place.
//! * **No node is given up on another's word.** A suspicion is of one record, named by its mark. A node gives
//!   the peer up when it has known the suspicion for [`suspicion_time`](Swim::suspicion_time) itself, and the
//!   peer has answered none of its last own questions. So a member that suspects everyone causes traffic.
//! * **No answer is longer than what it answers.** The record with which a node answers a suspicion is the
//!   exception; it sends one per period.
//! * A node that is late itself, or drops packets in a flood, suspects no one and gives no one up: the answer
//!   may be among what it has not read.
//! * A node signs at most [`VOUCHES_PER_SECOND`] answers per second.
//! * What is kept is bounded: members and those that were given up each by [`SwimConfig::max_members`]; news,
//!   relayed questions, records that are fetched, and recent packets by constants; and so is the number of
//!   packets that are opened ([`OPENS_PER_SECOND`]).
//!
//! Not prevented: an attacker on the way can resend a fresh answer from its own address; the next question
//! without an answer goes to another address. While an attacker floods a node, that node misses no death by
//! itself.
//!
//! Members with a session are not asked whether they are there, and are sent suspicions only: the session
//! knows better, and carries the records. A node whose members all have sessions sends nothing.
//!
//! Not inside: records (the caller verifies and keeps them, see [`RecordBook`]), addresses of members, and
//! sockets.

mod answer;
mod book;
mod fetch;
mod message;
mod news;
mod probe;
mod suspicion;
mod table;

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use zerocopy::IntoBytes;

pub use self::{
    book::{CatalogBook, RecordBook, mark_of},
    message::{MAX_SWIM_BYTES, MAX_SWIM_RECORD_BYTES},
};
use self::{
    fetch::Fetch,
    message::{IdRange, SwimBody, SwimWriter},
    news::News,
    probe::{Probe, ProbeOrder, Relay},
    suspicion::{GoneMember, Suspicion},
    table::MemberTable,
};
use crate::{
    identity::Identity,
    ids::PeerId,
    membership::{
        SignedRecord,
        sealed::{Chance, NetworkSeal, OpenBudget},
    },
    ordered::{OrderedMap, OrderedSet},
    seal::KeyBytes,
    time::Instant,
    wire::header::Header,
};

/// Packets that a node opens per second, and at once. In a network without attackers a node gets about ten.
pub const OPENS_PER_SECOND: u32 = 4_000;

/// Answers that a node signs per second, and at once. At 3 % loss it is asked for one in five seconds.
pub const VOUCHES_PER_SECOND: u32 = 100;

/// The pause between two questions whether a member is there.
pub const PERIOD: Duration = Duration::from_secs(1);

/// The pause between two packets with news.
pub const GOSSIP_PAUSE: Duration = Duration::from_millis(200);

/// The pause between two comparisons of all records.
pub const SYNC_PAUSE: Duration = Duration::from_secs(15);

/// Members that are asked to ask, and members that are told news at a time.
const FANOUT: usize = 3;

/// The pause before records are compared again after a difference. It doubles up to [`SYNC_PAUSE`] while no
/// comparison brings a record, because what one node has no room for stays different.
const SYNC_AGAIN: Duration = Duration::from_millis(250);

/// A record that is older than this when it comes is no news.
const NEWS_AGE_S: u64 = 30;

/// Members that wait to be asked before others.
const RECHECKS_MAX: usize = 64;

/// Questions of others that wait for their answer.
const RELAYS_MAX: usize = 64;

/// Packets that are remembered, so that one that comes twice is handled once.
const SEEN_MAX: usize = 1_024;

/// The sums of one comparison.
const SUMS: usize = 128;

const CONTEXT_SEAL: &str = "corewire v1 membership seal";

/// What a [`Swim`] is made of.
#[derive(Debug)]
pub struct SwimConfig {
    /// Of this node: it signs that it is there for nodes that ask through others.
    pub identity: Arc<Identity>,
    /// The key that the members share: [`crate::handshake::NetworkSecret::beacon_key`].
    pub key: KeyBytes,
    /// 32 random bytes, from which salts and choices are derived.
    pub seed: [u8; 32],
    /// Members that are kept, and as many that were given up.
    pub max_members: usize,
    /// The pause between two questions; [`PERIOD`] unless a test shortens it.
    pub period: Duration,
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwimTarget {
    /// To a member, where it has answered last, or at one of the addresses in its record.
    Peer {
        /// The member.
        peer: PeerId,
        /// It did not answer what was sent to it last: another of its addresses is tried.
        again: bool,
    },
    /// To the sender of a packet.
    Address(SocketAddr),
}

/// What a node learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SwimEvent {
    /// A record that may be new. Its signature is not checked yet; [`Swim::learned`] is to be told if it is
    /// kept.
    Record {
        /// The encoded record.
        bytes: Vec<u8>,
        /// Its age in seconds.
        age_s: u32,
    },
    /// A record of this peer that is too long for a packet was told of, and was not fetched: it has no
    /// address, too many were fetched, its parts did not come, or they were not the record.
    Unfetched(PeerId),
    /// This member has answered a question of this node from this address.
    Answered(PeerId, SocketAddr),
    /// A packet in the name of this member came from this address; neither is proven.
    Claimed(PeerId, SocketAddr),
    /// Others suspect this node: it has to sign a newer record.
    Suspected,
    /// A member did not answer, and did not object in time. It may come back.
    Failed(PeerId),
    /// It did not come back for a long time.
    Forgotten(PeerId),
}

/// Why a packet told nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SwimError {
    /// It was not sealed by a member of this network, or is too long.
    #[error("not a membership packet of this network")]
    Foreign,
    /// More packets came than are opened.
    #[error("too many packets")]
    Flood,
    /// It came before.
    #[error("a packet that came before")]
    Replayed,
    /// A member has sealed what is not a membership packet.
    #[error("sealed by a member, and not a membership packet")]
    Malformed,
    /// A member that was asked to ask another one claims an answer that is not signed by that one.
    #[error("an answer that the asked member did not sign")]
    Invented,
}

/// The membership protocol of one node. The module documentation has its invariants.
#[derive(Debug)]
pub struct Swim {
    seal: NetworkSeal,
    chance: Chance,
    identity: Arc<Identity>,
    own: PeerId,
    period: Duration,
    max_members: usize,
    table: MemberTable,
    suspects: OrderedMap<PeerId, Suspicion>,
    gone: OrderedMap<PeerId, GoneMember>,
    /// When the first of them is forgotten, or earlier.
    forget_at: Instant,
    news: News,
    probe: Option<Probe>,
    order: ProbeOrder,
    /// Members that are asked before others: their session has ended, or they were heard in another way.
    recheck: VecDeque<PeerId>,
    /// The latest question to a member that was given up, and its number.
    asked_again: Option<(PeerId, u64)>,
    relays: VecDeque<Relay>,
    /// Records that are being fetched.
    fetches: Vec<Fetch>,
    opens: OpenBudget,
    /// Signatures that it still gives.
    vouches: OpenBudget,
    /// Until then answers may be among the packets that were dropped unopened.
    flooded_until: Instant,
    /// The salts of recent packets, and the order in which they came.
    seen: (OrderedSet<u64>, VecDeque<u64>),
    /// Who suspects this node, until it is answered.
    accuser: Option<SocketAddr>,
    /// No suspicion of this node is told before, so that it signs at most one record per period for it.
    object_at: Instant,
    probe_at: Instant,
    gossip_at: Instant,
    sync_at: Instant,
    /// The pause after the next difference.
    sync_again: Duration,
    /// Whose records were asked for after the latest difference.
    wanted: Vec<PeerId>,
    out: VecDeque<(SwimTarget, Vec<u8>)>,
    events: VecDeque<SwimEvent>,
}

impl Swim {
    /// The membership of a node that knows no one and has no record yet.
    pub fn new(now: Instant, config: SwimConfig) -> Self {
        let own = config.identity.peer_id();
        Self {
            identity: config.identity,
            seal: NetworkSeal::new(&config.key, CONTEXT_SEAL),
            chance: Chance::new(config.seed),
            own,
            period: config.period,
            max_members: config.max_members,
            table: MemberTable::new(own, config.max_members),
            suspects: OrderedMap::new(),
            gone: OrderedMap::new(),
            forget_at: Instant::FAR_FUTURE,
            news: News::default(),
            probe: None,
            order: ProbeOrder::default(),
            recheck: VecDeque::new(),
            asked_again: None,
            relays: VecDeque::new(),
            fetches: Vec::new(),
            opens: OpenBudget::new(now, OPENS_PER_SECOND),
            vouches: OpenBudget::new(now, VOUCHES_PER_SECOND),
            flooded_until: now,
            seen: (OrderedSet::new(), VecDeque::new()),
            accuser: None,
            object_at: now,
            probe_at: Instant::FAR_FUTURE,
            gossip_at: Instant::FAR_FUTURE,
            sync_at: Instant::FAR_FUTURE,
            sync_again: SYNC_AGAIN,
            wanted: Vec::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The node has a new record of its own, which `book` holds. Nothing is sent before the first one, and
    /// the last one, by which it leaves, is sent to several members at once.
    pub fn announce(&mut self, now: Instant, record: &SignedRecord, book: &impl RecordBook) {
        let mark = mark_of(record);
        self.table.set(self.own, (mark, record.record().version), false);
        self.tell(now, self.own, mark, false);
        if record.record().leaving {
            // The node has no time for more.
            let times = usize::try_from(self.news_times()).unwrap_or(usize::MAX);
            for peer in self.table.choose(&mut self.chance, times, |member| !member.connected) {
                self.send_news(SwimTarget::Peer { peer, again: false }, Some(peer), &SwimBody::Gossip, book);
            }
        }
        if let Some(accuser) = self.accuser.take() {
            self.send_own_record(accuser, book);
        }
    }

    /// A record is kept now that was verified, of this age; `connected`: there is a session with its peer.
    pub fn learned(&mut self, now: Instant, record: &SignedRecord, age_s: u64, connected: bool) {
        let (peer, mark, version) = (record.record().peer_id, mark_of(record), record.record().version);
        if peer == self.own || self.gone.get(&peer).is_some_and(|gone| gone.mark == mark && !connected) {
            return;
        }
        if self.suspected_mark(&peer).is_some_and(|suspected| suspected != mark) {
            self.suspects.remove(&peer);
        }
        let changed = if record.record().leaving {
            self.suspects.remove(&peer);
            self.table.remove(&peer);
            self.remember_gone(now, peer, (mark, version), true)
        } else {
            self.gone.remove(&peer);
            self.table.set(peer, (mark, version), connected)
        };
        if changed && self.wanted.contains(&peer) {
            self.sync_again = SYNC_AGAIN;
        }
        if changed && age_s <= NEWS_AGE_S {
            self.tell(now, peer, mark, false);
        }
        self.schedule(now);
    }

    /// A peer's record is not kept any more, for another reason than [`SwimEvent::Failed`].
    pub fn forget(&mut self, peer: &PeerId) {
        self.table.remove(peer);
        self.suspects.remove(peer);
        self.news.forget(peer);
        // If it is heard again it is believed again, although its record is the same.
        if self.gone.get(peer).is_some_and(|gone| !gone.left) {
            self.gone.remove(peer);
        }
    }

    /// Something else shows that a peer may be there: it is asked soon.
    pub fn ask(&mut self, now: Instant, peer: &PeerId) {
        match self.gone.get(peer) {
            Some(gone) if !gone.left => {
                let mark = gone.mark;
                self.ask_gone(*peer, mark);
            }
            Some(_) => {}
            None => self.recheck(*peer),
        }
        self.schedule(now);
    }

    fn recheck(&mut self, peer: PeerId) {
        if self.recheck.len() < RECHECKS_MAX && !self.recheck.contains(&peer) {
            self.recheck.push_back(peer);
        }
    }

    /// There is a session with a member, or there is none any more.
    pub fn set_connected(&mut self, now: Instant, peer: &PeerId, connected: bool) {
        let ended = self.table.set_connected(peer, connected) && !connected;
        if ended {
            self.recheck(*peer);
        }
        self.schedule(now);
    }

    /// The next packet, and where it goes. The caller sends all of them after each call.
    pub fn poll_transmit(&mut self) -> Option<(SwimTarget, Vec<u8>)> {
        self.out.pop_front()
    }

    /// The next event. The caller takes all of them after each call.
    pub fn poll_event(&mut self) -> Option<SwimEvent> {
        self.events.pop_front()
    }

    /// When [`Swim::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        let suspects = self.next_question();
        let proxies = self.probe.and_then(|probe| probe.proxies_at);
        let fetches = self.next_fetch();
        let objection = self.accuser.map(|_| self.object_at);
        let own = [self.probe_at, self.gossip_at, self.sync_at, self.forget_at];
        let all = suspects.into_iter().chain(proxies).chain(fetches).chain(objection).chain(own);
        all.min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// Members, this node included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no one is known, not even this node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mark of the record that a peer is a member by, suspected or not.
    pub fn mark(&self, peer: &PeerId) -> Option<u64> {
        self.table.get(peer).map(|member| member.mark)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, book: &impl RecordBook) {
        self.object(now);
        self.forget_gone(now);
        self.question_suspects(now, book);
        self.fetch_again(now);
        if self.probe.and_then(|probe| probe.proxies_at).is_some_and(|at| now >= at) {
            self.ask_proxies(now, book);
        }
        if now >= self.probe_at {
            self.next_probe(now, book);
        }
        if now >= self.gossip_at {
            self.gossip(now, book);
        }
        if now >= self.sync_at {
            self.sync(now, book);
        }
    }

    /// The number of bits of the number of members: the logarithm by which times grow.
    fn bits(&self) -> u32 {
        usize::BITS - self.table.len().leading_zeros()
    }

    /// Packets that carry one piece of news. The chance that a member gets none of so many that are sent to
    /// members by chance is a fraction of one by their number.
    fn news_times(&self) -> u32 {
        3 + self.bits()
    }

    /// Spreads news about a peer, in so many packets that it is unlikely to miss a member.
    fn tell(&mut self, now: Instant, peer: PeerId, mark: u64, suspect: bool) {
        self.news.tell(peer, mark, suspect, self.news_times());
        self.schedule(now);
    }

    /// Sets the deadlines by what there is to do.
    fn schedule(&mut self, now: Instant) {
        let alone = self.table.strangers() == 0;
        if alone {
            (self.probe_at, self.probe) = (Instant::FAR_FUTURE, None);
            self.news.forget_records();
        } else if self.probe_at == Instant::FAR_FUTURE {
            self.probe_at = now + self.chance.part_of(self.period);
        }
        // A node that has given up all others goes on asking them.
        if alone && self.gone.values().all(|gone| gone.left) {
            self.sync_at = Instant::FAR_FUTURE;
        } else if self.sync_at == Instant::FAR_FUTURE {
            self.sync_at = now + self.chance.part_of(SYNC_PAUSE);
        }
        let anyone = self.table.len() > 1 && !self.news.is_empty();
        if !anyone {
            self.gossip_at = Instant::FAR_FUTURE;
        } else if self.gossip_at == Instant::FAR_FUTURE {
            self.gossip_at = now;
        }
    }

    /// Tells members news: those without a session everything, others of suspicions.
    fn gossip(&mut self, now: Instant, book: &impl RecordBook) {
        self.gossip_at = now + GOSSIP_PAUSE;
        let mut to = self.table.choose(&mut self.chance, FANOUT, |member| !member.connected);
        if let [only] = to[..]
            && self.table.strangers() == 1
        {
            // There is no one to tell its record to.
            self.news.forget_record(&only);
        }
        if self.news.has_suspects() && to.len() < self.table.len() - 1 {
            to.extend(self.table.choose(&mut self.chance, FANOUT, |member| member.connected));
        }
        for peer in to {
            if self.news.is_empty() {
                break;
            }
            self.send_news(SwimTarget::Peer { peer, again: false }, Some(peer), &SwimBody::Gossip, book);
        }
        self.schedule(now);
    }

    /// Compares all records with one member, and asks one that was given up whether it is back.
    fn sync(&mut self, now: Instant, book: &impl RecordBook) {
        self.sync_at = now + SYNC_PAUSE * 7 / 8 + self.chance.part_of(SYNC_PAUSE / 4);
        if let Some(peer) = self.table.choose(&mut self.chance, 1, |member| !member.connected).first() {
            let body = SwimBody::Sync { range: IdRange::ALL, sums: self.table.sums(IdRange::ALL) };
            self.send_news(SwimTarget::Peer { peer: *peer, again: false }, Some(*peer), &body, book);
        }
        let lost: Vec<(PeerId, u64)> =
            self.gone.iter().filter(|(_, gone)| !gone.left).map(|(peer, gone)| (*peer, gone.mark)).collect();
        if !lost.is_empty() {
            let (peer, mark) = lost[self.chance.below(lost.len())];
            self.ask_gone(peer, mark);
        }
        self.schedule(now);
    }

    /// Asks a member that was given up whether it is back.
    fn ask_gone(&mut self, peer: PeerId, mark: u64) {
        let number = self.chance.number();
        self.asked_again = Some((peer, number));
        let mut packet = self.writer(&SwimBody::Ping { number });
        packet.suspect(&peer, mark);
        self.send(SwimTarget::Peer { peer, again: true }, packet);
    }

    /// A packet that is to have a body and what is added to it.
    fn writer(&self, body: &SwimBody) -> SwimWriter {
        self.answer(body, MAX_SWIM_BYTES).expect("the longest packet has room for every body")
    }

    /// The same for an answer to a packet of this length; `None` when that has no room for it.
    fn answer(&self, body: &SwimBody, packet_bytes: usize) -> Option<SwimWriter> {
        let mark = self.table.get(&self.own).map_or(0, |own| own.mark);
        SwimWriter::new(&self.own, mark, body, packet_bytes)
    }

    /// Sends a packet with as much news as it has room for.
    fn send_news(&mut self, to: SwimTarget, peer: Option<PeerId>, body: &SwimBody, book: &impl RecordBook) {
        let mut packet = self.writer(body);
        let mut records = true;
        if let Some(peer) = peer {
            // A suspicion is told to the suspect as long as it lasts.
            if let Some(mark) = self.suspected_mark(&peer) {
                packet.suspect(&peer, mark);
            }
            records = self.table.get(&peer).is_none_or(|member| !member.connected);
        }
        self.news.fill(&mut packet, book, peer, records);
        self.send(to, packet);
    }

    fn send_own_record(&mut self, to: SocketAddr, book: &impl RecordBook) {
        let mut packet = self.writer(&SwimBody::Gossip);
        let mark = self.table.get(&self.own).map_or(0, |own| own.mark);
        if let Some((record, age_s)) = book.record(&self.own, mark) {
            packet.record(record, age_s);
            self.send(SwimTarget::Address(to), packet);
        }
    }

    fn send(&mut self, to: SwimTarget, packet: SwimWriter) {
        let header = Header::member();
        let random = self.chance.bytes();
        let bytes = self.seal.seal(header.as_bytes(), &random, packet.finish());
        self.out.push_back((to, bytes));
    }
}
