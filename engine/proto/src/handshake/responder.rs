//! The side that answers handshakes.
//!
//! Checks run cheapest first: length and kind, `mac1`, cookie (under load), the memory of recent first
//! messages, and only then the curve. Nothing is sent before `mac1` is verified.
//!
//! Not inside: budgets per source, and who may have a session. The caller, who knows the peer's name, decides
//! between [`Responder::handle_packet`] and [`Responder::accept`].

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::{
    fmt, mem,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    AttemptParams, FOR_KEY, HandshakeOutcome, HandshakeRole,
    cookie::{self, CookieMaker},
    credentials::Credentials,
    error::HandshakeError,
    initiator::GIVE_UP_AFTER,
    noise::{Noise, Pattern},
    packet::{
        self, COOKIE_NONCE_BYTES, HELLO_PADDING_BYTES, HELLO_REPLY_BYTES, Introduction, MAC_BYTES,
        PAYLOAD_BYTES,
    },
    recent::{Lookup, Recent},
};
use crate::{
    ids::PeerId,
    ordered::OrderedMap,
    seal::KeyBytes,
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PacketKind, ReceiverIndex},
};

/// A handshake by address ends at this many last messages that do not open.
const MAX_BROKEN_FINISHES: u8 = 3;
/// How old a handshake has to be before it gives way to one of a host with fewer of them: an honest one ends
/// within a round trip.
const YIELDS_AFTER: Duration = Duration::from_secs(1);

/// The bits of an IPv6 address that tell hosts apart; one host may have all addresses below them.
const V6_HOST_BITS: u128 = !0 << 64;

/// Bounds of a [`Responder`]. Memory: about 0.5 KiB per recent message and 2.5 KiB per pending handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponderConfig {
    /// First messages remembered against replay. Default 1,024, about 0.5 MiB.
    pub max_recent: usize,
    /// Handshakes by address in progress. When all places are taken, a host (an IPv4 address, or 64 bits of
    /// an IPv6 address) that has fewer than another one takes the oldest place of the one with most. Default
    /// 256, about 0.6 MiB.
    pub max_pending: usize,
    /// How long to wait for the last message of a handshake by address. Default 8 s: as long as an initiator
    /// tries.
    pub pending_for: Duration,
}

impl Default for ResponderConfig {
    fn default() -> Self {
        Self { max_recent: 1_024, max_pending: 256, pending_for: GIVE_UP_AFTER }
    }
}

/// Whether the caller keeps up with the handshakes that arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeLoad {
    /// Every initiator is served.
    Calm,
    /// Only initiators that have proved their address with a cookie are served.
    Heavy,
    /// No new initiator is served. First messages that are new are refused with [`HandshakeError::Busy`] if
    /// they show a cookie and are asked for one otherwise. After `Busy` a caller that has a share left for
    /// the address, which is proved by then, may pass the same packet with [`HandshakeLoad::Heavy`]. A
    /// repeated message gets its reply again, and handshakes by address that are in progress can still be
    /// finished.
    Spent,
}

/// What a packet led to.
#[derive(Debug)]
pub enum ResponderEvent {
    /// Send this back to where the packet came from: a cookie, or a reply that was lost.
    Reply(Vec<u8>),
    /// A peer that knows this node's key asks for a session. Answer with [`Responder::accept`], refuse it
    /// with [`Responder::refuse`], or drop it so that a repetition is decided anew.
    Request(Box<HandshakeRequest>),
    /// An initiator of this network asks by address. Answer with [`Responder::answer`], or drop it.
    Hello(Box<Hello>),
    /// The initiator that was answered has proved its identity, and there are keys.
    Joined(Box<HandshakeOutcome>),
}

/// A request for a session by a peer that has proved its identity. Not answered yet.
pub struct HandshakeRequest {
    local: Arc<Credentials>,
    noise: Noise,
    from: SocketAddr,
    ephemeral: [u8; 32],
    other: Introduction,
}

impl HandshakeRequest {
    /// The peer that asks.
    pub const fn peer(&self) -> PeerId {
        self.other.peer
    }

    /// The X25519 key that it uses. The caller may compare it with the peer's record.
    pub const fn peer_static(&self) -> &[u8; 32] {
        &self.other.transport_key
    }

    /// The validity period of that key.
    pub const fn peer_validity(&self) -> u64 {
        self.other.validity
    }

    /// The number of the peer's attempt, for [`PeerSessions::judge_init`](super::PeerSessions::judge_init).
    pub const fn attempt(&self) -> u32 {
        self.other.attempt
    }

    /// Whether the peer asks for a new key of the session that it calls [`peer_index`](Self::peer_index), and
    /// not for a new session.
    pub const fn is_for_key(&self) -> bool {
        self.other.generation & FOR_KEY != 0
    }

    /// The number of the session or key (see [`AttemptParams::generation`]).
    pub const fn generation(&self) -> u16 {
        self.other.generation
    }

    /// The index for packets to the peer.
    pub const fn peer_index(&self) -> ReceiverIndex {
        self.other.index
    }

    /// Drawn at each start of the peer.
    pub const fn peer_boot(&self) -> u64 {
        self.other.boot
    }

    /// The address that it came from, to which the reply goes.
    pub const fn from(&self) -> SocketAddr {
        self.from
    }
}

impl fmt::Debug for HandshakeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeRequest")
            .field("peer", &self.other.peer)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// The first message of a handshake by address. Its sender has proved only that it holds the network's
/// secret.
pub struct Hello {
    local: Arc<Credentials>,
    noise: Noise,
    /// With seed and message the state can be rebuilt if a forged last message spoils it.
    seed: KeyBytes,
    message: Vec<u8>,
    from: SocketAddr,
    sender: ReceiverIndex,
    ephemeral: [u8; 32],
}

impl Hello {
    /// The address that it came from, to which the reply goes.
    pub const fn from(&self) -> SocketAddr {
        self.from
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("from", &self.from).finish_non_exhaustive()
    }
}

/// A handshake by address that waits for its last message.
struct Pending {
    hello: Hello,
    /// Last messages that did not open; below [`MAX_BROKEN_FINISHES`].
    broken: u8,
    /// When it is given up.
    until: Instant,
    /// Ascends in the order in which they were answered.
    number: u64,
}

/// Answers the handshakes of one node.
///
/// - [`handle_packet`](Self::handle_packet) takes every `Init`, `Hello` and `HelloFinish`.
/// - [`poll_freed`](Self::poll_freed) returns the indices of handshakes that failed; poll it after each
///   `handle_packet`, [`answer`](Self::answer) and [`handle_timeout`](Self::handle_timeout).
pub struct Responder {
    current: Arc<Credentials>,
    /// With the transport key before the last rotation.
    previous: Option<Arc<Credentials>>,
    config: ResponderConfig,
    cookies: CookieMaker,
    recent: Recent,
    /// By the index given to `answer`; at most `config.max_pending`.
    pending: OrderedMap<ReceiverIndex, Pending>,
    /// To be polled; not in `pending`.
    freed: VecDeque<ReceiverIndex>,
    /// Packets that have cost curve operations.
    opened: u64,
    /// Handshakes by address that were answered.
    answered: u64,
}

impl Responder {
    /// A responder for this node. `entropy` is random and keys the cookies.
    pub fn new(local: Arc<Credentials>, config: ResponderConfig, entropy: [u8; 32]) -> Self {
        Self {
            current: local,
            previous: None,
            cookies: CookieMaker::new(entropy),
            recent: Recent::new(config.max_recent),
            pending: OrderedMap::new(),
            freed: VecDeque::new(),
            opened: 0,
            answered: 0,
            config,
        }
    }

    /// Puts a new transport key in force. Peers that know only the previous one are still answered.
    pub fn rotate(&mut self, local: Arc<Credentials>) {
        self.previous = Some(mem::replace(&mut self.current, local));
    }

    /// Takes a packet. `entropy` fills its argument with fresh random bytes; it is called only for packets
    /// made with the network's secret.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &[u8],
        load: HandshakeLoad,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<ResponderEvent, HandshakeError> {
        let (header, kind) = packet::parse(packet)?;
        let local = self.credentials_for(kind, packet)?;
        if kind == PacketKind::HelloFinish {
            return self.handle_finish(&header, &from, packet);
        }
        if load != HandshakeLoad::Calm
            && !self.cookies.accepted(now, &from).iter().any(|cookie| packet::mac2_holds(packet, cookie))
        {
            return self.ask_for_cookie(now, &local, &header, &from, packet, entropy);
        }
        let ephemeral = packet::ephemeral_of(packet);
        match self.recent.look_up(now, &ephemeral, &from) {
            Lookup::Unknown => {}
            Lookup::Repeated(reply) => return Ok(ResponderEvent::Reply(reply)),
            Lookup::Replayed => return Err(HandshakeError::Replayed),
        }
        if load == HandshakeLoad::Spent {
            return Err(HandshakeError::Busy);
        }
        let mut seed = [0; 32];
        if kind == PacketKind::Init {
            entropy(&mut seed);
            self.opened += 1;
            open_init(local, &header, from, packet, ephemeral, KeyBytes::from_bytes(seed))
        } else {
            self.room_for(now, &from)?;
            entropy(&mut seed);
            self.opened += 1;
            open_hello(local, &header, from, packet, ephemeral, KeyBytes::from_bytes(seed))
        }
    }

    /// Grants a session; `index` is for packets to this node. Returns the outcome and the reply to send.
    pub fn accept(
        &mut self,
        now: Instant,
        request: HandshakeRequest,
        index: ReceiverIndex,
    ) -> Result<(HandshakeOutcome, Vec<u8>), HandshakeError> {
        let HandshakeRequest { local, mut noise, from, ephemeral, other } = request;
        let suite = local.suites.agree(other.suites).ok_or(HandshakeError::NoCommonSuite)?;
        let payload = packet::introduce(&local, index, other.generation, other.attempt);
        let mac_key = local.mac_for(&other.transport_key);
        let reply =
            packet::build(PacketKind::Reply, other.index, index, &mac_key, |out| noise.write(&payload, out))?;
        let keys = noise.into_keys(suite)?;
        self.recent.remember(now, ephemeral, from, Some(reply.clone()));
        let attempt = AttemptParams { index, generation: other.generation, number: other.attempt };
        Ok((other.into_outcome(keys, attempt, HandshakeRole::Responder, false), reply))
    }

    /// Refuses without an answer, and remembers it: a repetition costs no curve operation.
    pub fn refuse(&mut self, now: Instant, request: &HandshakeRequest) {
        self.recent.remember(now, request.ephemeral, request.from, None);
    }

    /// Answers a `Hello`; returns the reply to send. `index` is for the last message and then for the
    /// session's packets; [`poll_freed`](Self::poll_freed) returns it if the handshake fails.
    pub fn answer(
        &mut self,
        now: Instant,
        mut hello: Hello,
        index: ReceiverIndex,
    ) -> Result<Vec<u8>, HandshakeError> {
        if self.pending.contains_key(&index) {
            return Err(HandshakeError::Busy);
        }
        if let Some(displaced) = self.room_for(now, &hello.from)? {
            self.displace(displaced);
        }
        let payload = packet::introduce(&hello.local, index, 0, 0);
        let (noise, mac_key) = (&mut hello.noise, &hello.local.mac_address);
        let reply = packet::build(PacketKind::HelloReply, hello.sender, index, mac_key, |out| {
            noise.write(&payload, out)
        })?;
        self.recent.remember(now, hello.ephemeral, hello.from, Some(reply.clone()));
        let until = now + self.config.pending_for;
        self.pending.insert(index, Pending { hello, broken: 0, until, number: self.answered });
        self.answered += 1;
        Ok(reply)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).min()
    }

    /// Gives up handshakes whose last message did not arrive in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let freed = &mut self.freed;
        self.pending.retain(|index, pending| {
            let keep = now < pending.until;
            if !keep {
                freed.push_back(*index);
            }
            keep
        });
    }

    /// An index passed to [`answer`](Self::answer) that is free again.
    pub fn poll_freed(&mut self) -> Option<ReceiverIndex> {
        self.freed.pop_front()
    }

    /// Handshakes by address in progress.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Packets so far that have cost curve operations, well-formed or not: what a caller budgets.
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// First messages remembered.
    pub fn remembered(&self) -> usize {
        self.recent.len()
    }

    /// The credentials that the packet is for, if its `mac1` was made with the network's secret.
    fn credentials_for(&self, kind: PacketKind, packet: &[u8]) -> Result<Arc<Credentials>, HandshakeError> {
        match kind {
            PacketKind::Init => {}
            PacketKind::Hello | PacketKind::HelloFinish => {
                return if packet::mac1_holds(packet, &self.current.mac_address) {
                    Ok(Arc::clone(&self.current))
                } else {
                    Err(HandshakeError::Mac)
                };
            }
            _ => return Err(HandshakeError::Unexpected),
        }
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|local| packet::mac1_holds(packet, &local.mac_own))
            .map(Arc::clone)
            .ok_or(HandshakeError::Mac)
    }

    /// Whether another handshake with this address may begin, and which one makes room for it. One that is
    /// under way gives way only after [`YIELDS_AFTER`]: its initiator repeats no first message any more.
    fn room_for(&self, now: Instant, from: &SocketAddr) -> Result<Option<ReceiverIndex>, HandshakeError> {
        if self.pending.len() < self.config.max_pending {
            return Ok(None);
        }
        let mut counts: OrderedMap<IpAddr, usize> = OrderedMap::new();
        for pending in self.pending.values() {
            *counts.get_or_insert_with(host_of(&pending.hello.from), || 0) += 1;
        }
        let own = counts.get(&host_of(from)).copied().unwrap_or(0);
        let most = counts.values().copied().max().filter(|most| *most > own).ok_or(HandshakeError::Busy)?;
        let crowds = |pending: &Pending| counts.get(&host_of(&pending.hello.from)) == Some(&most);
        let oldest = self.pending.iter().filter(|(_, pending)| crowds(pending)).min_by_key(|(_, p)| p.number);
        let yields =
            |pending: &Pending| pending.until <= now + self.config.pending_for.saturating_sub(YIELDS_AFTER);
        let oldest = oldest.filter(|(_, pending)| yields(pending)).ok_or(HandshakeError::Busy)?;
        Ok(Some(*oldest.0))
    }

    /// Gives a handshake up for another one. An initiator that has no answer yet begins anew when it repeats
    /// its first message; another one gives up.
    fn displace(&mut self, index: ReceiverIndex) {
        if let Some(pending) = self.pending.remove(&index) {
            self.recent.forget(&pending.hello.ephemeral);
            self.freed.push_back(index);
        }
    }

    fn ask_for_cookie(
        &self,
        now: Instant,
        local: &Credentials,
        header: &Header,
        from: &SocketAddr,
        packet: &[u8],
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<ResponderEvent, HandshakeError> {
        let mut nonce = [0; COOKIE_NONCE_BYTES];
        entropy(&mut nonce);
        let cookie: [u8; MAC_BYTES] = self.cookies.make(now, from);
        let mac1 = packet::mac1_of(packet);
        cookie::write(&local.cookie_key, header.sender(), &mac1, &nonce, &cookie).map(ResponderEvent::Reply)
    }

    fn handle_finish(
        &mut self,
        header: &Header,
        from: &SocketAddr,
        packet: &[u8],
    ) -> Result<ResponderEvent, HandshakeError> {
        let index = header.receiver();
        let pending = self
            .pending
            .get_mut(&index)
            .filter(|pending| pending.hello.from == *from && pending.hello.sender == header.sender())
            .ok_or(HandshakeError::UnknownIndex)?;
        self.opened += 1;
        let mut payload = [0; PAYLOAD_BYTES];
        if let Err(error) = pending.hello.noise.read(packet::noise_part(packet), &mut payload) {
            // `snow` may have stopped half-way through the message. The right one may still arrive.
            pending.broken += 1;
            if pending.broken >= MAX_BROKEN_FINISHES || pending.rebuild(index).is_err() {
                self.pending.remove(&index);
                self.freed.push_back(index);
            }
            return Err(error);
        }
        let Some(Pending { hello, .. }) = self.pending.remove(&index) else {
            return Err(HandshakeError::UnknownIndex);
        };
        let joined = hello.noise.remote_static().and_then(|key| {
            let other = packet::meet(&hello.local, header, &key, &payload)?;
            let suite = hello.local.suites.agree(other.suites).ok_or(HandshakeError::NoCommonSuite)?;
            let attempt = AttemptParams { index, generation: other.generation, number: other.attempt };
            Ok(other.into_outcome(hello.noise.into_keys(suite)?, attempt, HandshakeRole::Responder, true))
        });
        if joined.is_err() {
            self.freed.push_back(index);
        }
        joined.map(|outcome| ResponderEvent::Joined(Box::new(outcome)))
    }
}

impl Pending {
    /// Rebuilds the state after message 2. It is the same, because all randomness comes from the seed.
    fn rebuild(&mut self, index: ReceiverIndex) -> Result<(), HandshakeError> {
        let mut noise = Noise::responder(&self.hello.local, Pattern::Address, &self.hello.seed)?;
        noise.read(&self.hello.message, &mut [0; HELLO_PADDING_BYTES])?;
        let mut scratch = [0; HELLO_REPLY_BYTES - HEADER_BYTES - 2 * MAC_BYTES];
        noise.write(&packet::introduce(&self.hello.local, index, 0, 0), &mut scratch)?;
        self.hello.noise = noise;
        Ok(())
    }
}

/// What counts as one host: an IPv4 address, also in its IPv6 form, or the upper 64 bits of an IPv6 address.
pub fn host_of(address: &SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & V6_HOST_BITS).into(),
        ip => ip,
    }
}

fn open_init(
    local: Arc<Credentials>,
    header: &Header,
    from: SocketAddr,
    packet: &[u8],
    ephemeral: [u8; 32],
    seed: KeyBytes,
) -> Result<ResponderEvent, HandshakeError> {
    let mut noise = Noise::responder(&local, Pattern::Known, &seed)?;
    let mut payload = [0; PAYLOAD_BYTES];
    noise.read(packet::noise_part(packet), &mut payload)?;
    let other = packet::meet(&local, header, &noise.remote_static()?, &payload)?;
    local.suites.agree(other.suites).ok_or(HandshakeError::NoCommonSuite)?;
    Ok(ResponderEvent::Request(Box::new(HandshakeRequest { local, noise, from, ephemeral, other })))
}

fn open_hello(
    local: Arc<Credentials>,
    header: &Header,
    from: SocketAddr,
    packet: &[u8],
    ephemeral: [u8; 32],
    seed: KeyBytes,
) -> Result<ResponderEvent, HandshakeError> {
    let mut noise = Noise::responder(&local, Pattern::Address, &seed)?;
    let message = packet::noise_part(packet).to_vec();
    let mut padding = [0; HELLO_PADDING_BYTES];
    noise.read(&message, &mut padding)?;
    if padding != [0; HELLO_PADDING_BYTES] {
        return Err(HandshakeError::Payload);
    }
    Ok(ResponderEvent::Hello(Box::new(Hello {
        local,
        noise,
        seed,
        message,
        from,
        sender: header.sender(),
        ephemeral,
    })))
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("local", &self.current)
            .field("pending", &self.pending.len())
            .field("remembered", &self.recent.len())
            .finish_non_exhaustive()
    }
}
