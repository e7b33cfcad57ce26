//! Records and tickets that are exchanged on a session.
//!
//! Each session notes *whose* record has to be sent, and the newest one is sent when there is room. So
//! nothing piles up, however often a record changes.
//!
//! A new session does not carry the catalogue. Each end sends the other its own record and a digest of what
//! it knows; of the buckets that differ it lists what it has, and is sent what it lacks.

use std::time::Duration;

use corewire_proto::{
    PeerId,
    membership::{CatalogDigest, SignedRecord, SummaryList, bucket_of},
    ordered::OrderedSet,
    session::CloseCode,
    wire::header::ReceiverIndex,
};

use super::{
    Catalogue, NodeCatalogue, RecordWay, claimed_peer,
    codec::{ClerkMessage, RecordsWriter, encode_digest, encode_have, encode_tickets},
};
use crate::{
    clerk::{bucket::TokenBucket, effect::Effect, env::Env, timers::Timer},
    peer::ShownTicket,
    shard::{Command, NodeId},
    shared::{counters::count, limits::REVIEW_PAUSE},
};

/// The pause between two messages to one peer. The session's queue holds five of them.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(5);

/// The pause after the session had no room.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// Records of one session, or of all beacons, that are verified per second, and at once. A signature costs
/// about 50 microseconds, so a peer that sends nothing but records costs a twentieth of the clerk's time.
pub(super) const RECORDS_PER_SECOND: u32 = 1_000;

/// Tickets of a peer that are taken in per second, and at once. Each makes every subscription of the node
/// look at the peer.
const TICKETS_PER_SECOND: u32 = 50;

/// Digests of a peer that are looked at in one session. It sends one each time that the session becomes
/// current.
const DIGESTS_MAX: u32 = 4;

/// What is exchanged on one session.
pub(super) struct Exchange {
    pub(super) node: NodeId,
    pub(super) peer: PeerId,
    phase: ExchangePhase,
    /// Whose records have to be sent.
    news: OrderedSet<PeerId>,
    /// The node's tickets have to be shown.
    tickets_due: bool,
    /// The digest has to be sent.
    digest_due: bool,
    /// Buckets of which it has to be told what is known, as a set.
    have_due: u64,
    /// Digests of the peer's that were looked at.
    digests: u32,
    /// Buckets of which the peer has told what it has since its latest digest.
    answered: u64,
    /// Records of the peer's that may be verified.
    pub(super) budget: TokenBucket,
    /// Tickets of the peer's that may be taken in.
    shows: TokenBucket,
    /// Its latest tickets, if they came too soon to be taken in at once.
    late_tickets: Option<Vec<ShownTicket>>,
}

/// What is sent on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExchangePhase {
    /// Nothing yet: it has not been current.
    Waiting,
    /// Everything.
    Open,
    /// What was due before another session took its place, and tickets.
    Retired,
    /// Nothing any more.
    Closed,
}

impl Exchange {
    /// Whether records and tickets are sent on it.
    fn is_open(&self) -> bool {
        matches!(self.phase, ExchangePhase::Open | ExchangePhase::Retired)
    }
}

impl Catalogue {
    /// A session was installed.
    pub(crate) fn session_installed(&mut self, env: &Env, index: ReceiverIndex, node: NodeId, peer: PeerId) {
        let exchange = Exchange {
            node,
            peer,
            phase: ExchangePhase::Waiting,
            news: OrderedSet::new(),
            tickets_due: false,
            digest_due: false,
            have_due: 0,
            digests: 0,
            answered: 0,
            budget: TokenBucket::new(RECORDS_PER_SECOND, env.now),
            shows: TokenBucket::new(TICKETS_PER_SECOND, env.now),
            late_tickets: None,
        };
        self.exchanges.insert(index, exchange);
    }

    /// A session is the current one with its peer: each sends the other what it knows. The caller then calls
    /// [`Catalogue::send_news`].
    pub(crate) fn session_current(&mut self, env: &mut Env, index: ReceiverIndex, has_tickets: bool) {
        let exchange = self.exchanges.get_mut(&index).expect("a session has its exchange");
        let (node, peer) = (exchange.node, exchange.peer);
        exchange.phase = ExchangePhase::Open;
        exchange.tickets_due = has_tickets;
        if let Some(known) = self.nodes.get(&node) {
            exchange.news.insert(known.shared.peer_id);
            exchange.digest_due = true;
        }
        self.connected(env, node, peer);
    }

    /// Another session took this one's place: new records are sent there.
    pub(crate) fn session_retired(&mut self, index: ReceiverIndex) {
        if let Some(exchange) = self.exchanges.get_mut(&index)
            && exchange.phase == ExchangePhase::Open
        {
            exchange.phase = ExchangePhase::Retired;
        }
    }

    /// A session was told to close.
    pub(crate) fn session_closing(&mut self, index: ReceiverIndex) {
        if let Some(exchange) = self.exchanges.get_mut(&index) {
            exchange.phase = ExchangePhase::Closed;
        }
    }

    /// A session is gone.
    pub(crate) fn session_gone(&mut self, env: &mut Env, index: ReceiverIndex) {
        self.exchanges.remove(&index);
        env.effects.cancel_timer(Timer::Exchange(index));
    }

    /// A message of the peer's clerk.
    pub(crate) fn handle_control(&mut self, env: &mut Env, index: ReceiverIndex, bytes: &[u8]) {
        // The session may have been abandoned with its node.
        let Some(exchange) = self.exchanges.get(&index) else { return };
        let node = exchange.node;
        match ClerkMessage::parse(bytes, env.limits.ticket_bytes) {
            Some(ClerkMessage::Records(records)) => {
                for (age_s, record) in records {
                    self.read_record(env, node, (record, age_s), RecordWay::Session(index));
                }
            }
            Some(ClerkMessage::Tickets(tickets)) => self.read_tickets(env, index, tickets),
            Some(ClerkMessage::Digest(digest)) => self.read_digest(env, index, &digest),
            Some(ClerkMessage::Have(buckets, list)) => self.read_have(env, index, buckets, &list),
            Some(ClerkMessage::Unknown) => {}
            None => {
                if let Some(known) = self.nodes.get(&node) {
                    count(&known.shared.counters.control_refused);
                }
                env.effects.push(Effect::CloseSession(index, CloseCode::PROTOCOL_VIOLATION));
            }
        }
    }

    /// Sends what a peer has to be sent, as much as one message holds. `tickets` are the node's own;
    /// `has_room`: whether the session's shard takes commands.
    pub(crate) fn send_news(
        &mut self,
        env: &mut Env,
        index: ReceiverIndex,
        tickets: &[ShownTicket],
        has_room: bool,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&index) else { return };
        if let Some(late) = exchange.late_tickets.take() {
            self.read_tickets(env, index, late);
        }
        let Some(exchange) = self.exchanges.get_mut(&index) else { return };
        if !has_room {
            return env.effects.set_timer(Timer::Exchange(index), env.now + FULL_PAUSE);
        }
        let Some(known) = self.nodes.get(&exchange.node) else { return };
        if !exchange.is_open() {
            return;
        }
        let (records, about_us) = exchange.take_records(known, env.seconds());
        let tickets = std::mem::take(&mut exchange.tickets_due)
            .then(|| encode_tickets(tickets, env.limits.ticket_bytes));
        let about_us = about_us || tickets.is_some();
        let digest = exchange.take_digest(known);
        let have = exchange.take_have(known);
        for bytes in [records, tickets, digest, have].into_iter().flatten() {
            env.effects.send(index.shard(), Command::SendControl { index, bytes });
        }
        if !exchange.news.is_empty() || exchange.have_due != 0 {
            env.effects.set_timer(Timer::Exchange(index), env.now + EXCHANGE_PAUSE);
        }
        if about_us {
            env.effects.push(Effect::PeerKnowsUs(exchange.node, exchange.peer));
        }
    }

    /// Whether the peer has yet to be sent this node's record or tickets.
    pub(crate) fn owes_us(&self, index: ReceiverIndex) -> bool {
        self.exchanges.get(&index).is_some_and(|exchange| {
            let own = self.nodes.get(&exchange.node).map(|known| known.shared.peer_id);
            exchange.tickets_due || own.is_some_and(|own| exchange.news.contains(&own))
        })
    }

    /// The session had no room for a message. It is made again later, from what is known then.
    pub(crate) fn control_refused(&mut self, env: &mut Env, index: ReceiverIndex, bytes: &[u8]) {
        let Some(exchange) = self.exchanges.get_mut(&index) else { return };
        match ClerkMessage::parse(bytes, usize::MAX).expect("the clerk made the message") {
            ClerkMessage::Records(records) => {
                exchange.news.extend(records.into_iter().filter_map(|(_, record)| claimed_peer(record)));
            }
            ClerkMessage::Tickets(_) => exchange.tickets_due = true,
            ClerkMessage::Digest(_) => exchange.digest_due = true,
            ClerkMessage::Have(buckets, _) => exchange.have_due |= buckets,
            ClerkMessage::Unknown => unreachable!("the clerk made the message"),
        }
        env.effects.set_timer(Timer::Exchange(index), env.now + FULL_PAUSE);
    }

    /// Whether tickets that the peer has shown wait to be taken in.
    pub(crate) fn has_late_tickets(&self, index: ReceiverIndex) -> bool {
        self.exchanges.get(&index).is_some_and(|exchange| exchange.late_tickets.is_some())
    }

    /// The peer shows its tickets. Of those that come too often the latest are taken in, when there is time.
    fn read_tickets(&mut self, env: &mut Env, index: ReceiverIndex, tickets: Vec<ShownTicket>) {
        let Some(exchange) = self.exchanges.get_mut(&index) else { return };
        let Some(known) = self.nodes.get_mut(&exchange.node) else { return };
        if !exchange.shows.take(env.now) {
            exchange.late_tickets = Some(tickets);
            return env.effects.ensure_timer(Timer::Exchange(index), env.now + REVIEW_PAUSE);
        }
        exchange.late_tickets = None;
        known.peer_mut(exchange.peer).tickets = tickets;
        known.refresh(env, exchange.peer);
    }

    /// The peer has told what it knows, in short: it is sent what is in buckets that it has nothing of, and
    /// told what is in others that differ.
    fn read_digest(&mut self, env: &mut Env, index: ReceiverIndex, theirs: &CatalogDigest) {
        let Some(exchange) = self.exchanges.get_mut(&index) else { return };
        let Some(known) = self.nodes.get(&exchange.node) else { return };
        if exchange.digests == DIGESTS_MAX {
            return count(&known.shared.counters.control_refused);
        }
        exchange.digests += 1;
        exchange.answered = 0;
        let ours = CatalogDigest::of(exchange.shared_records(known));
        let differing = ours.differing(theirs);
        let wanted = differing & theirs.empty();
        let news: Vec<PeerId> =
            exchange.shared_records(known).map(|record| record.record().peer_id).collect();
        exchange.news.extend(news.into_iter().filter(|peer| bucket_of(peer) & wanted != 0));
        exchange.have_due |= differing & !theirs.empty() & !ours.empty();
        env.effects.ensure_timer(Timer::Exchange(index), env.now);
    }

    /// The peer has told what it has of some buckets: it is sent what it lacks. Each bucket once for a
    /// digest, so that a peer can't ask for everything again and again.
    fn read_have(&mut self, env: &mut Env, index: ReceiverIndex, buckets: u64, list: &SummaryList) {
        let Some(exchange) = self.exchanges.get_mut(&index) else { return };
        let Some(known) = self.nodes.get(&exchange.node) else { return };
        let buckets = buckets & !exchange.answered;
        if buckets == 0 {
            return;
        }
        exchange.answered |= buckets;
        let lacking = exchange
            .shared_records(known)
            .filter(|record| bucket_of(&record.record().peer_id) & buckets != 0 && list.lacks(record));
        let lacking: Vec<PeerId> = lacking.map(|record| record.record().peer_id).collect();
        exchange.news.extend(lacking);
        env.effects.ensure_timer(Timer::Exchange(index), env.now);
    }

    /// The node's tickets are others now: every peer that it has a session with is shown them.
    pub(crate) fn tickets_changed(&mut self, env: &mut Env, node: NodeId) {
        for (index, exchange) in self.exchanges.iter_mut() {
            if exchange.node == node && exchange.is_open() {
                exchange.tickets_due = true;
                env.effects.set_timer(Timer::Exchange(*index), env.now);
            }
        }
    }

    /// The peer of a session has sent an older record of its own than is known: it is sent the newer one, and
    /// makes one that is newer still. A node whose clock went back before it was started again needs this.
    pub(super) fn show_its_own(&mut self, env: &mut Env, index: ReceiverIndex) {
        if let Some(exchange) = self.exchanges.get_mut(&index)
            && exchange.is_open()
            && exchange.news.insert(exchange.peer)
        {
            env.effects.ensure_timer(Timer::Exchange(index), env.now);
        }
    }

    /// Sends a record to the peers of a node's sessions, except to its own peer and to the one that brought
    /// it.
    pub(super) fn gossip(&mut self, env: &mut Env, node: NodeId, about: PeerId, except: Option<PeerId>) {
        for (index, exchange) in self.exchanges.iter_mut() {
            let wanted = exchange.node == node
                && exchange.phase == ExchangePhase::Open
                && exchange.peer != about
                && Some(exchange.peer) != except;
            if wanted && exchange.news.insert(about) {
                env.effects.ensure_timer(Timer::Exchange(*index), env.now);
            }
        }
    }
}

impl Exchange {
    /// The records that both ends may have from others: all but their own.
    fn shared_records<'a>(
        &self,
        known: &'a NodeCatalogue,
    ) -> impl Iterator<Item = &'a SignedRecord> + Clone + use<'a> {
        let ends = [self.peer, known.shared.peer_id];
        known.records.iter().filter(move |record| !ends.contains(&record.record().peer_id))
    }

    /// The digest, if it is due.
    fn take_digest(&mut self, known: &NodeCatalogue) -> Option<Vec<u8>> {
        let due = std::mem::take(&mut self.digest_due);
        due.then(|| encode_digest(&CatalogDigest::of(self.shared_records(known))))
    }

    /// What is known of buckets that differ, as much as one message holds.
    fn take_have(&mut self, known: &NodeCatalogue) -> Option<Vec<u8>> {
        if self.have_due == 0 {
            return None;
        }
        let (covered, message) = encode_have(self.have_due, self.shared_records(known));
        self.have_due &= !covered;
        Some(message)
    }

    /// A message with the records that are due, and whether the node's own is among them.
    fn take_records(&mut self, known: &NodeCatalogue, now_s: u64) -> (Option<Vec<u8>>, bool) {
        let mut message = RecordsWriter::new();
        let mut about_us = false;
        // The own record goes first: what this node asks for next is judged by it.
        if self.news.remove(&known.shared.peer_id)
            && let Some(own) = &known.own
        {
            about_us = message.push(0, own.bytes());
            assert!(about_us, "a message has room for one record");
        }
        while let Some(about) = self.news.first().copied() {
            // A record that is forgotten by now is not sent.
            if let Some(record) = known.records.get(&about)
                && !message.push(known.records.age_s(&about, now_s).unwrap_or_default(), record.bytes())
            {
                break;
            }
            self.news.remove(&about);
        }
        (message.finish(), about_us)
    }
}
