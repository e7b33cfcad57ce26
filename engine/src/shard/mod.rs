//! What one core owns, and the turn in which it moves.
//!
//! A shard joins three things: it gives datagrams to sessions, connects the channels of sessions to rings,
//! and gives the packets of sessions to the [`Driver`]. Nothing in a shard is shared, locked or atomic. What
//! crosses its border: commands in and events out (two bounded mailboxes), rings in and inboxes out, the
//! notifications of its `notifier`, and counters that others read.
//!
//! Not inside:
//! - protocol rules (`corewire-proto`) and the rings' algorithm (`corewire-rings`);
//! - system calls (the driver);
//! - what takes long or was supplied by a user (the clerk).
//!
//! | file | answers |
//! |---|---|
//! | `turn` | the order of a turn's phases, and when the next turn is due |
//! | [`command`] / `control` | what the clerk may ask for, and how it is done |
//! | `receive`, `sink` | how a datagram finds its session, and its datums their inboxes |
//! | `transmit`, `source` | which session sends next, and where its datums come from |
//! | `stream`, `ring_poll` | how a ring is polled, and how its channels learn of new records |
//! | `events`, `backlog` | how events of sessions reach the clerk |
//! | `marks` | what happens when a channel has released its ring so far |
//! | `session`, `channel`, `table`, `node`, `timers` | the tables and their entries |
//! | [`inbox`], `notifier` | the consumer's end, and how other threads notify the shard |
//! | `shutdown`, [`host`] | the orderly end, and the thread that runs a shard |
//! | [`limits`] | every bound, with its reason |

mod backlog;
mod channel;
pub mod command;
mod control;
mod events;
pub mod host;
pub mod inbox;
pub mod limits;
mod marks;
mod node;
mod notifier;
mod receive;
mod ring_poll;
mod session;
mod shutdown;
mod sink;
mod source;
mod stream;
mod table;
mod timers;
mod transmit;
mod turn;

use std::{collections::HashMap, sync::Arc, task::Waker};

use corewire_proto::time::Instant;
use corewire_rings::mailbox::{Receiver, Sender};

use self::{
    backlog::Backlog,
    channel::ChannelEntry,
    node::ShardNodes,
    notifier::{Notification, ShardNotifier},
    session::SessionEntry,
    shutdown::ShardShutdown,
    stream::StreamEntry,
    table::{ChannelSlot, SessionSlot, SessionTable, Slab, SlotQueue, StreamSlot},
    timers::SessionTimers,
    transmit::DeferredPacket,
};
pub use self::{
    command::{AcceptChannel, Command, Event, Install, NodeId, Rekey, ResumePoint},
    inbox::{Inbox, Taken, TakenHook},
    limits::{ShardConfig, ShardLimits},
};
use crate::{
    counters::ShardCounters,
    driver::{Driver, SocketId},
};

/// One core's part of the engine: a driver and everything that is joined to it.
///
/// It is built, used and dropped on one thread. [`Shard::turn`] does all its work and never sleeps;
/// [`host::run`] is a loop for a thread of its own, and anything else that calls `turn` will do as well.
pub struct Shard<D: Driver> {
    driver: D,
    core: ShardCore,
}

/// What a shard owns besides its driver. It is apart from the driver, which lends datagrams while this takes
/// them.
struct ShardCore {
    /// Number and bounds.
    config: ShardConfig,
    /// The driver's clock at the start of the turn.
    now: Instant,
    /// When the last turn received.
    received_at: Instant,
    /// When a turn has copied the driver's counters last.
    driver_shown: Instant,
    /// Why the driver can't go on, if it can't.
    failure: Option<String>,
    /// Turns in which deadlines may still wait for datagrams that came while the shard did not run; 0 once
    /// these are read.
    catching_up: u32,
    /// What this turn did.
    work: turn::TurnWork,

    /// The nodes that are served here, and their sockets.
    nodes: ShardNodes,
    /// Sessions by the slot in their index.
    sessions: SessionTable<SessionEntry>,
    /// Channels of all sessions. Each belongs to a session of this shard and is among its labels.
    channels: Slab<ChannelSlot, ChannelEntry>,
    /// Rings that are read here. Each serves at least one channel.
    streams: Slab<StreamSlot, StreamEntry>,
    /// Streams by the id of their ring.
    by_ring: HashMap<usize, StreamSlot>,
    /// Deadlines of sessions.
    timers: SessionTimers,

    /// Sessions that may have something to send, in the order in which they may.
    ready: SlotQueue<SessionSlot>,
    /// Sessions that were passed over in this turn because their socket is backed up.
    backed_up: SlotQueue<SessionSlot>,
    /// A sealed packet that did not fit its train. It is sent before any other.
    deferred: DeferredPacket,
    /// Sessions whose events and deadline are read at the end of the turn.
    dirty: SlotQueue<SessionSlot>,
    /// Sessions that hold an event for which the backlog had no room.
    held_up: SlotQueue<SessionSlot>,
    /// Streams whose mode is `PollMode::Polling`, each once: they are polled in every turn.
    polled: Vec<StreamSlot>,
    /// Streams pinned in this turn.
    pinned: SlotQueue<StreamSlot>,
    /// Streams whose floor may have moved.
    floors: SlotQueue<StreamSlot>,
    /// Streams that their ring may have detached.
    cut: SlotQueue<StreamSlot>,
    /// Channels whose counters are written at the end of the turn.
    touched: SlotQueue<ChannelSlot>,
    /// Notifications that are being handled. Kept for its memory.
    notifications: Vec<Notification>,
    /// Sockets of nodes that left, closed once everything staged has been submitted.
    closing: Vec<SocketId>,

    /// How other threads notify the shard.
    notifier: Arc<ShardNotifier>,
    /// Wakes the shard when the mailbox has a command.
    mailbox_waker: Waker,
    /// From the clerk.
    commands: Receiver<Command>,
    /// To the clerk.
    backlog: Backlog,
    /// How far the shutdown is; `None` until it begins.
    shutdown: Option<ShardShutdown>,
    /// Written here, read by any thread.
    counters: Arc<ShardCounters>,
}

impl<D: Driver> Shard<D> {
    /// A shard that owns `driver`, takes `commands` and sends `events`.
    pub fn new(driver: D, config: ShardConfig, commands: Receiver<Command>, events: Sender<Event>) -> Self {
        let limits = config.limits;
        let notifier = ShardNotifier::new(limits.streams, limits.channels);
        let core = ShardCore {
            now: driver.now(),
            received_at: driver.now(),
            driver_shown: driver.now(),
            failure: None,
            catching_up: 0,
            work: turn::TurnWork::default(),
            nodes: ShardNodes::default(),
            sessions: SessionTable::new(limits.sessions),
            channels: Slab::new(limits.channels),
            streams: Slab::new(limits.streams),
            by_ring: HashMap::new(),
            timers: SessionTimers::default(),
            ready: SlotQueue::default(),
            backed_up: SlotQueue::default(),
            deferred: DeferredPacket::default(),
            dirty: SlotQueue::default(),
            held_up: SlotQueue::default(),
            polled: Vec::new(),
            pinned: SlotQueue::default(),
            floors: SlotQueue::default(),
            cut: SlotQueue::default(),
            touched: SlotQueue::default(),
            notifications: Vec::new(),
            closing: Vec::new(),
            mailbox_waker: Waker::from(notifier.clone()),
            notifier,
            commands,
            backlog: Backlog::new(events, limits.backlog),
            shutdown: None,
            counters: Arc::new(ShardCounters::new()),
            config,
        };
        Self { driver, core }
    }

    /// The shard's number.
    pub fn id(&self) -> u8 {
        self.core.config.id
    }

    /// The driver's clock at the start of the last turn.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// The driver, for its clock, its kind and its counters.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The driver's readiness; see [`Driver::readiness`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn readiness(&mut self) -> std::io::Result<std::os::fd::BorrowedFd<'_>> {
        self.driver.readiness()
    }

    /// The shard's counters. Any thread may read them, also after the shard's end.
    pub fn counters(&self) -> Arc<ShardCounters> {
        self.core.counters.clone()
    }
}

impl<D: Driver> std::fmt::Debug for Shard<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.core.config.id)
            .field("sessions", &self.core.sessions.len())
            .field("channels", &self.core.channels.len())
            .field("streams", &self.core.streams.len())
            .finish_non_exhaustive()
    }
}
