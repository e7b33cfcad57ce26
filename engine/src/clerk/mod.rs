//! The control thread: never on a datum's way.
//!
//! Not inside: a socket, a clock, a thread, randomness. The clerk is a state machine: its inputs are the time, the
//! requests of handles, the events of shards and the random bytes that it was given a source of; its outputs are
//! commands to shards, and calls of the user's closures. Whoever turns it (a thread, or the simulator) gets the
//! same run for the same input. Not inside either: protocol rules, which are `corewire-proto`'s.
//!
//! | file | answers |
//! |---|---|
//! | `shards` | which indices are free, and what waits for a shard |
//! | `members` | how a node joins, and what it says about itself |
//! | `handshakes` | who begins a handshake with whom, and what is answered |
//! | `dialling` | which peers are to be reached, and when again |
//! | `sessions` | what a session is there for, from its keys to its end |
//! | `rekey` | how a session that goes on gets its next key |
//! | `peers` | what is known about peers, and who is told |
//! | `control` | what two clerks say to each other |
//! | `streams` | who may consume what is published here |
//! | `subscriptions` | from whom a stream is consumed, and when that is tried again |
//! | `local` | both ends of a channel in this engine |
//! | `lagging` | who keeps a ring full |
//! | `shutdown` | how nodes and the engine end |
//! | `notice`, `timers`, `state` | what their names say |

mod control;
mod dialling;
mod handshakes;
mod lagging;
mod local;
mod members;
mod notice;
mod peers;
mod rekey;
mod sessions;
mod shards;
mod shutdown;
mod state;
mod streams;
mod subscriptions;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, atomic::AtomicU64},
    task::Context,
    time::Duration,
};

use corewire_proto::{PeerId, time::Instant, wire::header::ReceiverIndex};
use corewire_rings::mailbox;

use self::{
    notice::Notices,
    shards::Shards,
    shutdown::Shutdown,
    state::{ChannelName, ChannelOwner, LocalLeg, NodeState, SessionState},
    timers::{Timer, Timers},
};
use crate::{
    shard::{Command, Event, NodeId},
    shared::{
        Next,
        limits::{EVENTS_PER_TURN, Limits, REQUESTS_PER_TURN, TIMERS_PER_TURN, Times},
        port::{Port, Request},
    },
};

/// Fills what it is given with random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// The time since 1970, at a moment of the drivers' clock.
pub type Calendar = Box<dyn Fn(Instant) -> Duration + Send>;

/// The clerk's ends of the mailboxes of one shard.
pub(crate) struct ShardLink {
    pub(crate) commands: mailbox::Sender<Command>,
    pub(crate) events: mailbox::Receiver<Event>,
}

/// What a clerk is made of.
pub(crate) struct ClerkParts {
    pub(crate) limits: Limits,
    pub(crate) times: Times,
    pub(crate) entropy: Entropy,
    pub(crate) calendar: Calendar,
    pub(crate) port: Arc<Port>,
    pub(crate) shards: Vec<ShardLink>,
}

/// How much a clerk keeps. Every number goes back to zero when all handles are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Nodes.
    pub nodes: usize,
    /// Peers, of all nodes.
    pub peers: usize,
    /// Sessions.
    pub sessions: usize,
    /// Receiver indices in use, by sessions and by handshakes.
    pub indices: usize,
    /// Channels of all sessions, open or asked for.
    pub channels: usize,
    /// Legs within this engine.
    pub legs: usize,
    /// Deadlines.
    pub timers: usize,
}

/// The clerk.
pub struct Clerk {
    limits: Limits,
    times: Times,
    entropy: Entropy,
    calendar: Calendar,
    port: Arc<Port>,
    shards: Shards,
    /// The time of this turn.
    now: Instant,
    timers: Timers,
    members: BTreeMap<NodeId, NodeState>,
    sessions: BTreeMap<ReceiverIndex, SessionState>,
    /// Channels that were asked for, by the number that comes back.
    opens: BTreeMap<u64, (ReceiverIndex, ChannelOwner)>,
    next_open: u64,
    /// Channels of all sessions, both ends.
    channels: BTreeMap<ChannelName, ChannelOwner>,
    /// Sessions that are no longer waited for; their shard still has to give the index back.
    orphans: BTreeSet<ReceiverIndex>,
    /// Legs within this engine.
    legs: BTreeMap<u64, LocalLeg>,
    /// Pursuits to be looked at.
    fresh: BTreeSet<(NodeId, u64, PeerId)>,
    notices: Notices,
    /// Panics in notices, which belong to no stream in particular.
    panics: AtomicU64,
    ending: Option<Shutdown>,
    stopped: bool,
}

impl Clerk {
    pub(crate) fn new(parts: ClerkParts) -> Self {
        let ClerkParts { limits, times, entropy, calendar, port, shards } = parts;
        Self {
            limits,
            times,
            entropy,
            calendar,
            port,
            shards: Shards::new(shards, &limits),
            now: Instant::ZERO,
            timers: Timers::default(),
            members: BTreeMap::new(),
            sessions: BTreeMap::new(),
            opens: BTreeMap::new(),
            next_open: 1,
            channels: BTreeMap::new(),
            orphans: BTreeSet::new(),
            legs: BTreeMap::new(),
            fresh: BTreeSet::new(),
            notices: Notices::default(),
            panics: AtomicU64::new(0),
            ending: None,
            stopped: false,
        }
    }

    /// Does what there is to do, each kind up to its bound, and says when it wants to be called again. Never waits,
    /// unless a closure of the user's does.
    pub fn turn(&mut self, now: Instant) -> Next {
        if self.stopped {
            return Next::Idle;
        }
        self.now = self.now.max(now);
        self.shards.flush();
        let mut again = false;
        for taken in 1..=REQUESTS_PER_TURN {
            let Some(request) = self.port.take() else { break };
            again |= taken == REQUESTS_PER_TURN;
            self.handle_request(request);
        }
        for shard in 0..self.shards.len() {
            for taken in 1..=EVENTS_PER_TURN {
                let Some(event) = self.shards.next_event(shard) else { break };
                again |= taken == EVENTS_PER_TURN;
                self.handle_event(event);
            }
            if self.shards.has_vanished(shard) {
                self.shard_stopped(u8::try_from(shard).unwrap_or(u8::MAX));
            }
        }
        for taken in 1..=TIMERS_PER_TURN {
            let Some(timer) = self.timers.pop_due(self.now) else { break };
            again |= taken == TIMERS_PER_TURN;
            self.handle_timer(timer);
        }
        again |= self.settle();
        self.shards.flush();
        // Stopped: whoever runs the turns sees it before it would sleep.
        if again || self.stopped {
            return Next::Again;
        }
        let wishes = [self.timers.next(), self.shards.wish(self.now)];
        wishes.into_iter().flatten().min().map_or(Next::Idle, Next::Until)
    }

    /// Announces a sleep: whoever has work for the clerk wakes `cx` from now on. `false`: there is work already.
    pub fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if self.port.bell().arm(cx.waker()) && self.shards.arm(cx) && self.port.is_empty() {
            return true;
        }
        self.port.bell().disarm();
        false
    }

    /// Whether everything has ended. Another turn would do nothing.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// How much the clerk keeps.
    pub fn load(&self) -> Load {
        Load {
            nodes: self.members.len(),
            peers: self.members.values().map(|member| member.peers.len()).sum(),
            sessions: self.sessions.len(),
            indices: self.shards.used(),
            channels: self.channels.len() + self.opens.len(),
            legs: self.legs.len(),
            timers: self.timers.len(),
        }
    }

    /// The end of a turn: what several inputs may have asked for is done once. `true` when more is to do.
    fn settle(&mut self) -> bool {
        let mut again = false;
        // First what nodes say about themselves: what is asked of peers below is judged by it.
        let stale = |wanted: fn(&NodeState) -> bool, members: &BTreeMap<NodeId, NodeState>| -> Vec<NodeId> {
            members.iter().filter(|(_, member)| wanted(member)).map(|(node, _)| *node).collect()
        };
        for node in stale(|member| member.record_stale, &self.members) {
            self.renew_record(node);
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some((node, subscription, peer)) = self.fresh.pop_first() else { break };
            self.pursue(node, subscription, peer);
        }
        for node in stale(|member| member.peers_stale, &self.members) {
            self.show_peers(node);
        }
        again |= !self.fresh.is_empty();
        again |= self.notices.send(&self.panics) && !self.port.is_empty();
        again
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Join(join) => self.join(*join),
            Request::Changed(node) => self.node_changed(node),
            Request::Leave { node, drain } => self.leave(node, drain),
            Request::Publish(publication) => self.publish(publication),
            Request::Unpublish(publication) => self.unpublish(&publication),
            Request::Full(publication) => self.ring_is_full(&publication),
            Request::Subscribe(subscription) => self.subscribe(subscription),
            Request::Unsubscribe(subscription) => self.unsubscribe(&subscription),
            Request::LegDropped(leg) => self.local_leg_dropped(leg),
            Request::Shutdown { drain } => self.shutdown(drain),
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Handshake { node, shard, from, bytes } => self.handshake_came(node, shard, from, &bytes),
            Event::Confirmed { index } => self.session_confirmed(index),
            Event::RekeyDue { index } => self.rekey_due(index),
            Event::Rekeyed { index, phase } => self.session_rekeyed(index, phase),
            Event::SessionClosed { index, code } => self.session_closed(index, code),
            Event::Control { index, bytes } => self.control_came(index, &bytes),
            Event::ControlRefused { index, bytes } => self.control_refused(index, &bytes),
            Event::ChannelRequested { index, label, request } => {
                self.channel_requested(index, label, &request);
            }
            Event::ChannelServed { index, label } => self.channel_served(index, label),
            Event::ChannelAccepted { index, open_id, label, reader, taken } => {
                self.channel_accepted(index, open_id, label, crate::shard::Inbox::remote(reader, taken));
            }
            Event::ChannelRejected { open_id, code, .. } => self.channel_rejected(open_id, code),
            Event::ChannelClosed { index, label, code } => self.channel_closed(index, label, code),
            Event::SocketRefused { node, .. } => self.socket_refused(node),
            Event::ShardStopped { shard, .. } => self.shard_stopped(shard),
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Attempt(node, index) => self.attempt_due(node, index),
            Timer::Responder(node) => self.responder_due(node),
            Timer::Dial(node, peer) => self.dial_if_wanted(node, peer),
            Timer::Bootstrap(node, place) => self.bootstrap(node, place),
            Timer::Review(node, peer) => self.review(node, peer),
            Timer::Slots(node, peer) => self.slots_due(node, peer),
            Timer::RetryProducer(node, subscription, peer) => self.pursuit_due(node, subscription, peer),
            Timer::Accepted(node, subscription, peer) => self.review_pursuit(node, subscription, peer),
            Timer::Admitted(node, publication, serving) => self.review_serving(node, publication, serving),
            Timer::Detach(leg) => self.detach(leg),
            Timer::Lagging(node, publication) => self.lagging_due(node, publication),
            Timer::Records(node) => self.records_due(node),
            Timer::Exchange(index) => self.tell_news(index),
            Timer::Rekey(index) => self.rekey_due(index),
            Timer::Leave(node) => self.leave_due(node),
            Timer::Shutdown => self.shutdown_due(),
        }
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.entropy)(&mut bytes);
        bytes
    }

    /// A number from 0 to 1.
    fn chance(&mut self) -> f64 {
        f64::from(u32::from_le_bytes(self.random())) / f64::from(u32::MAX)
    }

    /// `time`, changed by up to a quarter in either direction, so that many do not try at once.
    fn about(&mut self, time: Duration) -> Duration {
        scaled(time, 0.75 + self.chance() / 2.0)
    }

    fn calendar_s(&self) -> u64 {
        (self.calendar)(self.now).as_secs()
    }
}

/// `time` times `factor`. Times are settings, so that one that is too long for a [`Duration`] is the longest one.
fn scaled(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clerk")
            .field("nodes", &self.members.len())
            .field("sessions", &self.sessions.len())
            .field("channels", &self.channels.len())
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_can_be_made_longer() {
        assert_eq!(scaled(Duration::MAX, 1.25), Duration::MAX);
        assert_eq!(scaled(Duration::from_secs(4), 0.75), Duration::from_secs(3));
        assert_eq!(scaled(Duration::ZERO, 1.25), Duration::ZERO);
    }
}
