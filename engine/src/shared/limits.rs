//! What the clerk may hold, and for how long things may take.
//!
//! Not inside: the bounds of a shard (`ShardLimits`) and of a session (`SessionConfig`).

use std::time::Duration;

use corewire_proto::{channel::Label, membership::MAX_STREAMS, swim::PERIOD};

/// The time between two looks of a subscription at the producers that it may prefer.
pub(crate) const RANK_PAUSE: Duration = Duration::from_millis(500);

/// Sessions of one shard, unless configured otherwise. Far more peers than a shard
/// can serve at full rate; a session that is idle costs a few KiB.
pub(crate) const SESSIONS_PER_SHARD: usize = 4_096;

/// Bounds of everything that the clerk (the control thread) keeps. Beyond a bound the newcomer is refused and
/// counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes of one engine. Default: 256.
    pub nodes: usize,
    /// Streams that one node publishes at a time. Default: 1,024, for which its record has room; more could
    /// not be found.
    pub publications: usize,
    /// Consumers (subscriptions) of one node at a time. Default: 4,096.
    pub subscriptions: usize,
    /// Direct publications and subscriptions to one given producer, of one node together: each raw channel
    /// takes two. Default: 131,072.
    pub direct: usize,
    /// Producers that one consumer is connected to, or tries, at a time: its legs. Default: 1,024.
    pub legs: usize,
    /// Sessions of one shard, counting those that are about to end; at most the shard's own limit. Default:
    /// 4,096.
    pub sessions: usize,
    /// Handshakes that one node has in progress in each direction. Default: 64.
    pub handshakes: usize,
    /// Handshakes that one node answers per second before it asks strangers for a cookie. Default: 1,000.
    /// Beyond it, it answers those that return the cookie: 20 per second of one host (an IPv4 address, or 64
    /// bits of an IPv6 address), after 50 at once, and 500 per second of all hosts. From addresses of its
    /// sessions, which need new keys, it answers one per second, after 10 at once, and 500 of all. Others are
    /// refused and counted (`NodeStats::handshakes_refused`).
    pub handshakes_per_second: u32,
    /// Peers that one node remembers. The least useful ones make room. Default: 4,096.
    pub peers: usize,
    /// Channels that one peer's session may have in each direction. Default: 16,384.
    pub channels: usize,
    /// Channels that one peer may ask for per second. Default: 1,000.
    pub opens_per_second: u32,
    /// Bytes of all tickets that one peer may show. Default: 16 KiB.
    pub ticket_bytes: usize,
    /// Messages in each mailbox between the clerk and a shard. Default: 4,096.
    pub mailbox: usize,
    /// Commands that wait for one shard when its mailbox is full. Above it nothing new is begun with that
    /// shard until it catches up; a command that ends something is always kept. Default: 16,384.
    pub backlog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Each node has a socket and a kernel buffer per shard: with 8 shards these are 2,048
            // descriptors.
            nodes: 256,
            // What one record can announce.
            publications: MAX_STREAMS,
            // A change of a peer's record visits each of them, which has to stay well below a millisecond.
            subscriptions: 4_096,
            // As many channels as four sessions have, in both directions.
            direct: 8 * Label::MAX_CHANNELS,
            // At the default window of 1 MiB the inboxes of one subscription, once all are used, take 1 GiB.
            legs: 1_024,
            sessions: SESSIONS_PER_SHARD,
            // Ten times what a thousand handshakes per second have in progress on a network with a round trip
            // of 6 ms.
            handshakes: 64,
            // A handshake costs about a quarter of a millisecond, so this is a quarter of the clerk's time.
            // What hosts with a cookie and sessions get beyond it is another quarter.
            handshakes_per_second: 1_000,
            // As many as one shard has sessions. With records of 4 KiB that is 16 MiB per node.
            peers: SESSIONS_PER_SHARD,
            // All that a session can have.
            channels: Label::MAX_CHANNELS,
            // Each runs a predicate. At 50 microseconds these are a twentieth of the clerk's time.
            opens_per_second: 1_000,
            // A quarter of the longest control message (64 KiB), so that all tickets fit one.
            ticket_bytes: 16 << 10,
            // Sixteen times what the clerk takes from one shard in a turn.
            mailbox: 4_096,
            // Four mailboxes: a shard that is this far behind does not answer within a second.
            backlog: 16_384,
        }
    }
}

impl Limits {
    /// How long the tickets of a node may be, so that they are shown in one message.
    pub(crate) fn shown_bytes(&self) -> usize {
        self.ticket_bytes.min(TICKETS_MESSAGE_MAX - 1)
    }
}

/// How long the clerk (the control thread) waits. The defaults suit a local network; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The pause after the first attempt to reach a peer or a bootstrap address that did not answer. Default:
    /// 150 ms.
    pub redial: Duration,
    /// The longest such pause. The pause doubles up to here, and attempts go on while the peer is wanted.
    /// Default: 2 s.
    pub redial_max: Duration,
    /// How long a record is believed after it was made, in a network of up to 32 nodes; in a larger one
    /// longer in proportion, up to a week. It is made anew at a third of this. Default: 15 min.
    pub record_life: Duration,
    /// The pause between two questions of a node to peers without a session, whether they are there. One
    /// that does not answer is given up after five to eight of them, in larger networks later (the logarithm
    /// of their size). Default: 1 s; at least 10 ms.
    pub probe_period: Duration,
    /// How long an engine may go on delivering after its last handle was dropped, or when the process exits.
    /// Default: 2 s. A dropped `Network` has 2 s in any case.
    pub drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            // A process that was started together with its peer has bound its sockets by then.
            redial: Duration::from_millis(150),
            // A peer that comes back is found within this, for one handshake packet in two seconds.
            redial_max: Duration::from_secs(2),
            // A peer that vanished is forgotten by then; each record is sent again every five minutes.
            record_life: Duration::from_secs(15 * 60),
            probe_period: PERIOD,
            // A full default ring of 1 MiB drains in this at 4.2 Mbit/s.
            drain: Duration::from_secs(2),
        }
    }
}

/// The longest message that shows tickets: below the session's limit for one message (64 KiB).
pub(crate) const TICKETS_MESSAGE_MAX: usize = 60 << 10;

/// A verdict holds at least this long, so that a predicate that allows for no time at all does not keep the
/// clerk busy.
pub(crate) const VERDICT_MIN: Duration = Duration::from_millis(10);

/// Channels with one peer are judged again at most this often, however often the peer changes its record. A
/// request for a channel is always judged by the latest record.
pub(crate) const REVIEW_PAUSE: Duration = Duration::from_millis(20);

/// Legs of one producer that wait for a consumer that does not take them. With so many the producer is not
/// asked for another one.
pub(crate) const WAITING_LEGS_EACH: usize = 2;

/// Directions of raw channels of one node that have given their place to newer ones and that the clerk has
/// not forgotten yet: as many as one session has channels.
pub(crate) const LEAVING_MAX: usize = Label::MAX_CHANNELS;

/// Places of absent consumers that one publication keeps. A further one replaces the one that ends first.
pub(crate) const PLACES_MAX: usize = 32;

/// Consumers of which one publication remembers where their last channel began.
pub(crate) const STARTS_MAX: usize = 1_024;

/// How long a consumer has to keep up before it counts as one that does. Twice the time after which one that
/// stands still is closed, so that one that does so again and again never counts.
pub(crate) const KEPT_UP: Duration = Duration::from_secs(20);

/// How long a producer may take to answer a request for a channel.
pub(crate) const OPEN_ANSWER: Duration = Duration::from_secs(5);

/// How long a consumer asks for the rest of a stream that its producer does not announce any more.
pub(crate) const REST_WANTED: Duration = Duration::from_secs(120);

/// Requests that one turn takes. Each may run a user's predicate for many peers.
pub(crate) const REQUESTS_PER_TURN: usize = 64;

/// Events of one shard that one turn takes, so that no shard starves another.
pub(crate) const EVENTS_PER_TURN: usize = 256;

/// Deadlines that one turn of the clerk fires: requests and events of shards wait no longer than these take.
pub(crate) const CLERK_TIMERS_PER_TURN: usize = 256;

/// Nodes that the process-wide registry keeps. Nodes beyond it work, but need to be configured to find each
/// other.
pub(crate) const REGISTRY_NODES: usize = 4_096;
