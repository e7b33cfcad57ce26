//! What the clerk may hold, and for how long things may take.
//!
//! Not inside: the bounds of a shard (`ShardLimits`) and of a session (`SessionConfig`).

use std::time::Duration;

/// Bounds of everything that the clerk keeps. Beyond a bound the newcomer is refused and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes of one engine.
    pub nodes: usize,
    /// Streams that one node publishes at a time. Its record has room for 1,024; more could not be found.
    pub publications: usize,
    /// Subscriptions of one node at a time.
    pub subscriptions: usize,
    /// Producers that one subscription is connected to (or tries) at a time.
    pub legs: usize,
    /// Sessions of one shard, counting those that are about to end; at most the shard's own limit.
    pub sessions: usize,
    /// Handshakes that one node has in progress in each direction.
    pub handshakes: usize,
    /// Handshakes that one node answers per second before it asks strangers for a cookie. A handshake costs about
    /// a quarter of a millisecond, so the default is a quarter of the clerk's time.
    pub handshakes_per_second: u32,
    /// Peers that one node remembers. The least useful ones make room.
    pub peers: usize,
    /// Channels that one peer's session may have in each direction.
    pub channels: usize,
    /// Channels that one peer may ask for per second.
    pub opens_per_second: u32,
    /// Bytes of all tickets that one peer may show.
    pub ticket_bytes: usize,
    /// Messages in each mailbox between the clerk and a shard.
    pub mailbox: usize,
    /// Commands that wait for one shard when its mailbox is full. Above it nothing new is begun with that shard
    /// until it catches up; what ends something is always kept.
    pub backlog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 256,
            publications: 1_024,
            subscriptions: 4_096,
            legs: 1_024,
            sessions: 4_096,
            handshakes: 64,
            handshakes_per_second: 1_000,
            peers: 4_096,
            channels: 4_096,
            opens_per_second: 1_000,
            ticket_bytes: 16 << 10,
            mailbox: 4_096,
            backlog: 16_384,
        }
    }
}

/// Times of the clerk's own doing. The defaults suit a local network; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The pause after the first attempt to reach a peer or a bootstrap address that did not answer.
    pub redial: Duration,
    /// The longest such pause. It doubles up to here, and never ends while the peer is wanted.
    pub redial_max: Duration,
    /// How long a record is believed after it was made. It is made anew at a third of this.
    pub record_life: Duration,
    /// How long an accepted session may wait for the first packet that shows the peer has the keys.
    pub confirm: Duration,
    /// How long dropped handles let their streams drain.
    pub drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            redial: Duration::from_millis(150),
            redial_max: Duration::from_secs(2),
            record_life: Duration::from_secs(15 * 60),
            confirm: Duration::from_secs(5),
            drain: Duration::from_secs(2),
        }
    }
}

/// A verdict holds at least this long: a predicate that allows for no time at all must not keep the clerk busy.
pub(crate) const SHORTEST_VERDICT: Duration = Duration::from_millis(10);

/// Channels with one peer are judged again at most this often, however often the peer changes what it says about
/// itself. Who asks for a channel is always judged by the latest.
pub(crate) const REVIEW_PAUSE: Duration = Duration::from_millis(20);

/// Legs of one producer that wait for a consumer that does not take them. A longer queue loses its oldest leg,
/// which is over long since.
pub(crate) const WAITING_LEGS_EACH: usize = 2;

/// Requests that one turn takes. Each may run a user's predicate for many peers.
pub(crate) const REQUESTS_PER_TURN: usize = 64;

/// Events of one shard that one turn takes, so that no shard starves another.
pub(crate) const EVENTS_PER_TURN: usize = 256;

/// Deadlines that one turn fires.
pub(crate) const TIMERS_PER_TURN: usize = 256;

/// Nodes that the process-wide registry keeps. Beyond it nodes still work, but have to be told of each other.
pub(crate) const REGISTRY_NODES: usize = 4_096;
