//! One raw channel: what its handles and the engine's hooks share.
//!
//! Two direct streams of the engine carry it: this side's publication for the peer, and this side's
//! subscription to the peer's. So order, credit, resends, weights and resumption are those of every stream.

use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use corewire_engine::Reliability;
use corewire_engine::node::Node;
use corewire_engine::publication::{
    ChangeHook, ChannelEvent, Channels, DirectTo, OnChange, OnEvent, Publication, PublishError, PublishSpec,
    ShownChannels,
};
use corewire_engine::shared::ChannelState;
use corewire_engine::subscription::{Backoff, SubscribeError, SubscribeSpec};
use corewire_rings::sync::{AtomicFlag, EventCounter, Lock};
use corewire_rings::{Ring, Writer};
use tokio::sync::watch;

use super::config::direction;
use super::receiving::Receiving;
use super::stats::{Activity, StreamStats};
use super::table::RawPlace;
use super::waiters::Waiters;
use super::{CloseBehavior, StreamConfig, StreamError};
use crate::id::PeerId;

/// When the peer is asked again for its direction. It asks back as soon as it has opened the channel, so this
/// only bounds the wait after a refusal for want of room and after a broken session.
const RETRY: Backoff = Backoff {
    initial: Duration::from_millis(200),
    multiplier: 2.0,
    jitter: 0.5,
    max: Duration::from_secs(30),
    max_elapsed: None,
};

/// Why a channel could not be opened.
pub(super) enum OpenError {
    /// The node has as many directions as configured.
    Crowded(StreamError),
    /// For another reason.
    Refused(StreamError),
}

impl From<PublishError> for OpenError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Left => Self::Refused(StreamError::NotConnected),
            PublishError::TooManyDirect { .. } => Self::Crowded(StreamError::Transport(error.to_string())),
            other => Self::Refused(StreamError::Transport(other.to_string())),
        }
    }
}

impl From<SubscribeError> for OpenError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Left => Self::Refused(StreamError::NotConnected),
            SubscribeError::TooManyDirect { .. } => Self::Crowded(StreamError::Transport(error.to_string())),
            other => Self::Refused(StreamError::Transport(other.to_string())),
        }
    }
}

/// What the engine's hooks change.
#[derive(Default)]
pub(super) struct HookState {
    /// The peer has a channel of this side's direction: it is open there and takes payloads.
    pub(super) connected: AtomicFlag,
    /// Those that wait to send, or for the close code of the peer's direction.
    pub(super) waiters: Waiters,
    /// The channels of this side's direction; set once, before the channel has handles.
    outbound: OnceLock<watch::Receiver<Channels>>,
    /// Grants of credit on channels that are over: received and sent.
    past_received: EventCounter,
    past_sent: EventCounter,
}

impl HookState {
    fn refresh(&self) {
        if let Some(channels) = self.outbound.get() {
            self.connected.set(open_grants(&channels.borrow()).is_some());
        }
    }
}

/// The grants of the channels that are connected; `None` when there is none.
fn open_grants(channels: &Channels) -> Option<u64> {
    let open = channels.iter().filter(|channel| channel.shared().state() == ChannelState::Connected);
    open.map(|channel| channel.shared().snapshot().grants).reduce(|one, other| one + other)
}

/// A raw channel from its opening to its closing.
pub(super) struct RawShared {
    pub(super) peer: PeerId,
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) config: StreamConfig,
    pub(super) activity: Activity,
    pub(super) state: Arc<HookState>,
    pub(super) publication: Publication,
    pub(super) writer: Writer,
    /// Held while room is claimed in the ring, so that several payloads enter together and a check of the
    /// room holds. Not by a channel that drops the oldest, and not while anything is published.
    pub(super) sending: Lock<()>,
    pub(super) receiving: Lock<Receiving>,
    /// Those that wait to receive.
    pub(super) receivers: Arc<Waiters>,
    /// It was closed here.
    closed: AtomicFlag,
    /// The warning about other settings was given.
    warned: AtomicFlag,
    pub(super) backpressure_events: EventCounter,
    /// Where the node keeps it.
    place: RawPlace,
}

impl RawShared {
    /// Opens the channel `number` with `peer`.
    pub(super) fn open(
        node: &Node,
        (peer, number): (PeerId, u64),
        config: StreamConfig,
        (epoch, place): (u64, RawPlace),
    ) -> Result<Arc<Self>, OpenError> {
        let here = PeerId::from_bytes(node.peer_id().0);
        let (out, back) = (direction(&here, &peer, number), direction(&peer, &here, number));
        let (state, receivers) = (Arc::new(HookState::default()), Arc::new(Waiters::default()));
        let publication = node.publish(PublishSpec {
            datums: config.room_payloads(),
            bytes: config.room_bytes(),
            max_datum: config.max_payload(),
            max_consumers: 1,
            reliability: config.reliability,
            weight: config.fairness_weight.max(1),
            direct: Some(DirectTo { consumer: peer.to_bytes().into(), back: back.to_bytes().into() }),
            on_change: Some(Arc::new(OutboundHook(Arc::downgrade(&state)))),
            on_event: Some(count_grants(&state, |state| &state.past_received)),
            ..PublishSpec::new(out.to_bytes().into())
        })?;
        let subscription = node.subscribe(SubscribeSpec {
            window_bytes: config.room_bytes() as u64,
            window_datums: config.room_payloads() as u64,
            max_datum: super::MAX_PAYLOAD_BYTES as u32,
            // The sender decides.
            reliability: Reliability::Reliable,
            producer: Some(peer.to_bytes().into()),
            backoff: RETRY,
            on_change: Some(wake(&state)),
            on_event: Some(count_grants(&state, |state| &state.past_sent)),
            ..SubscribeSpec::new(back.to_bytes().into())
        });
        let subscription = subscription.inspect_err(|_| _ = publication.give_way())?;
        let receiving = Receiving::new(subscription);
        Ok(Arc::new(Self {
            peer,
            number,
            epoch,
            config,
            activity: Activity::now(),
            state,
            writer: publication.writer(),
            publication,
            sending: Lock::new(()),
            receiving: Lock::new(receiving),
            receivers,
            closed: AtomicFlag::default(),
            warned: AtomicFlag::default(),
            backpressure_events: EventCounter::default(),
            place,
        }))
    }

    /// Whether it was closed, here or with its network.
    pub(super) fn is_over(&self) -> bool {
        self.closed.get() || self.publication.is_closed()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.connected.get() && !self.is_over()
    }

    /// Whether it has no payload that waits, in either direction.
    pub(super) fn is_at_rest(&self) -> bool {
        self.ring().is_empty() && self.receiving.lock().inbound_pending() == 0
    }

    pub(super) fn ring(&self) -> &Ring {
        self.publication.ring()
    }

    /// Logs, once, that it was opened again with other settings.
    pub(super) fn warn_of_settings(&self, asked: &StreamConfig) {
        if self.config != *asked && !self.warned.set(true) {
            log::warn!(
                "raw channel {} with {} is open already: it keeps {:?} and ignores {asked:?}",
                self.number,
                self.peer.short(),
                self.config,
            );
        }
    }

    /// Closes both directions, once.
    pub(super) fn close(&self) {
        if self.closed.set(true) {
            return;
        }
        match self.config.close_behavior {
            CloseBehavior::DrainThenClose => self.publication.close(),
            CloseBehavior::DropAndClose => self.publication.discard(),
        }
        let ended = self.receiving.lock().end();
        // Without the lock: it wakes tasks of the user's, which may ask this channel.
        drop(ended);
        self.place.leave();
        self.state.waiters.wake_all();
        self.receivers.wake_all();
    }

    /// Closes a channel without handles and without payloads that wait. `false`: its place at the node is not
    /// free yet.
    pub(super) fn give_way(&self) -> bool {
        self.closed.set(true);
        let ended = self.receiving.lock().end();
        let inbound = ended.is_none_or(|(_, subscription)| subscription.give_way());
        self.publication.give_way() && inbound
    }

    /// Ready once the peer has opened the channel too.
    pub(super) fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let look = || match (self.is_over(), self.state.connected.get()) {
            (true, _) => Poll::Ready(Err(StreamError::NotConnected)),
            (false, true) => Poll::Ready(Ok(())),
            (false, false) => Poll::Pending,
        };
        if look().is_ready() {
            return look();
        }
        // Registered before the second look: a change in between wakes the task.
        self.state.waiters.add(cx.waker());
        look()
    }

    pub(super) fn stats(&self) -> StreamStats {
        let outbound = open_grants(&self.publication.channels()).unwrap_or(0);
        let (slots, bytes) = self.ring().room();
        let room = if slots == 0 { 0 } else { u32::try_from(bytes).unwrap_or(u32::MAX) };
        let mut receiving = self.receiving.lock();
        let inbound_pending = receiving.inbound_pending();
        let inbound = receiving.channels().and_then(|channels| open_grants(&channels));
        StreamStats {
            tx_seq: self.ring().tail(),
            rx_seq: receiving.highest_seen(),
            inbound_pending,
            last_activity_ns: self.activity.last(),
            active: !self.is_over(),
            backpressure_events: self.backpressure_events.get(),
            tx_credit_remaining: room,
            tx_window: self.config.window_bytes,
            credit_grants_received: self.state.past_received.get() + outbound,
            credit_grants_sent: self.state.past_sent.get() + inbound.unwrap_or(0),
            connected: self.is_connected(),
            lost: receiving.lost(),
            undelivered: self.publication.stats().skipped_at_close,
        }
    }
}

/// Follows this side's direction. Once the channel is gone it does nothing.
struct OutboundHook(Weak<HookState>);

impl ChangeHook for OutboundHook {
    fn attach(&self, shown: ShownChannels) {
        if let Some(state) = self.0.upgrade() {
            let _ = state.outbound.set(shown.channels);
        }
    }

    fn refresh(&self) {
        if let Some(state) = self.0.upgrade() {
            state.refresh();
        }
    }

    fn wake(&self) {
        if let Some(state) = self.0.upgrade() {
            state.waiters.wake_all();
        }
    }
}

/// Wakes those that wait. Holds the state weakly, as [`OutboundHook`].
fn wake(state: &Arc<HookState>) -> OnChange {
    let state = Arc::downgrade(state);
    Arc::new(move || _ = state.upgrade().map(|state| state.waiters.wake_all()))
}

/// Adds the grants of a channel that is over to what `past` counts.
fn count_grants(state: &Arc<HookState>, past: fn(&HookState) -> &EventCounter) -> OnEvent {
    let state: Weak<HookState> = Arc::downgrade(state);
    Arc::new(move |event| {
        if let (ChannelEvent::Closed { channel, .. }, Some(state)) = (event, state.upgrade()) {
            past(&state).add(channel.shared().snapshot().grants);
        }
    })
}

/// Nanoseconds since 1970.
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
