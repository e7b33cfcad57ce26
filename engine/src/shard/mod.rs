//! What one core owns, and the turn in which it moves.
//!
//! Not inside: protocol rules (`corewire-proto`), the rings' algorithm (`corewire-rings`), system calls (the
//! [`Driver`]), and everything that takes long or that a user supplied (the clerk). A shard joins them: it
//! hands datagrams to sessions, joins the channels of sessions to rings, and gives the packets of sessions to
//! the driver.
//!
//! Inside a shard nothing is shared, locked or atomic. What crosses its border: commands in and events out
//! (two bounded mailboxes), rings in and inboxes out, the bits of its `notifier`, and cells that others read.
//!
//! | file | answers |
//! |---|---|
//! | `turn` | in which order, and what the shard wants next |
//! | [`command`] / `control` | what the clerk may say, and what is done about it |
//! | `receive`, `sink` | how a datagram finds its session, and its datums their inboxes |
//! | `transmit`, `source` | which session sends next, and where its datums come from |
//! | `stream`, `look` | how a ring gets attention, and what is told to its channels |
//! | `events`, `backlog` | what sessions say, and how it reaches the clerk |
//! | `session`, `channel`, `table`, `node`, `timers` | what there is, and where |
//! | [`inbox`], `notifier` | the consumer's end, and how other threads wake the shard |
//! | `shutdown`, [`host`] | how it ends, and the thread that runs it |
//! | [`limits`] | every bound, with its reason |

mod backlog;
mod channel;
pub mod command;
mod control;
mod events;
pub mod host;
pub mod inbox;
pub mod limits;
mod look;
mod node;
mod notifier;
mod receive;
mod session;
mod shutdown;
mod sink;
mod source;
mod stream;
mod table;
mod timers;
mod transmit;
mod turn;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use corewire_proto::time::Instant;
use corewire_rings::mailbox::{Receiver, Sender};

use self::{
    backlog::Backlog,
    channel::Channel,
    node::Nodes,
    notifier::{Notification, ShardNotifier},
    session::Seat,
    shutdown::Ending,
    stream::Stream,
    table::SessionTable,
    table::Slab,
    timers::Timers,
    transmit::Aside,
};
pub use self::{
    command::{Command, Event, Install, NodeId, Rekey},
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
    core: Core,
}

/// What a shard owns besides its driver. Apart, so that the driver can lend a datagram while this takes it.
struct Core {
    /// Number and bounds.
    config: ShardConfig,
    /// The driver's clock at the start of the turn.
    now: Instant,
    /// Work of this turn, see [`turn::Work`].
    work: turn::Work,

    /// Memberships that are served here, and their sockets.
    nodes: Nodes,
    /// Sessions by the index in their packets.
    sessions: SessionTable<Seat>,
    /// Channels of all sessions.
    channels: Slab<Channel>,
    /// Rings that are read here.
    streams: Slab<Stream>,
    /// Streams by their ring.
    by_ring: HashMap<usize, u32>,
    /// Deadlines of sessions.
    timers: Timers,

    /// Sessions that may have something to send, in the order of their turns. Each is here at most once.
    ready: VecDeque<u32>,
    /// A packet that did not fit its train and goes first.
    aside: Aside,
    /// Sessions whose events and deadline are to be asked for at the end of the turn.
    dirty: Vec<u32>,
    /// Sessions that hold an event for which the backlog had no room.
    held_up: Vec<u32>,
    /// Streams that are looked at each turn.
    awake: Vec<u32>,
    /// Streams pinned in this turn.
    pinned: Vec<u32>,
    /// Streams whose floor may have moved.
    floors: Vec<u32>,
    /// Streams that their ring cut off.
    cut: Vec<u32>,
    /// Channels whose numbers changed in this turn.
    touched: Vec<u32>,
    /// Notifications that are being handled. Kept for its memory.
    notifications: Vec<Notification>,
    /// Sockets of nodes that left, to be closed once everything staged is out.
    closing: Vec<SocketId>,

    /// How other threads get attention.
    notifier: Arc<ShardNotifier>,
    /// The notifier as the waker of `commands`.
    mailbox_waker: Waker,
    /// From the clerk.
    commands: Receiver<Command>,
    /// To the clerk.
    backlog: Backlog,
    /// How far the shutdown is, once it was asked for.
    ending: Option<Ending>,
    /// What happened, for everybody to read.
    counters: Arc<ShardCounters>,
}

impl<D: Driver> Shard<D> {
    /// A shard that owns `driver`, listens to `commands` and reports to `events`.
    pub fn new(driver: D, config: ShardConfig, commands: Receiver<Command>, events: Sender<Event>) -> Self {
        let limits = config.limits;
        let notifier = ShardNotifier::new(limits.streams, limits.channels, driver.waker());
        let core = Core {
            now: driver.now(),
            work: turn::Work::default(),
            nodes: Nodes::default(),
            sessions: SessionTable::new(limits.sessions),
            channels: Slab::new(limits.channels),
            streams: Slab::new(limits.streams),
            by_ring: HashMap::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            aside: Aside::default(),
            dirty: Vec::new(),
            held_up: Vec::new(),
            awake: Vec::new(),
            pinned: Vec::new(),
            floors: Vec::new(),
            cut: Vec::new(),
            touched: Vec::new(),
            notifications: Vec::new(),
            closing: Vec::new(),
            mailbox_waker: Waker::from(notifier.clone()),
            notifier,
            commands,
            backlog: Backlog::new(events, limits.backlog),
            ending: None,
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

    /// The cells that the shard writes. Any thread may read them, also after the shard's end.
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
