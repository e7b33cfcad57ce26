//! One raw channel: what its handles and the engine's hooks share.
//!
//! Two direct streams of the engine carry it: this side's publication for the peer, and this side's
//! subscription to the peer's. So order, credit, resends, weights and resumption are those of every stream.

use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Wake;
use std::time::SystemTime;

use bytes::Bytes;
use corewire_engine::node::Node;
use corewire_engine::publication::{
    ChannelEvent, Channels, DirectTo, OnChange, OnEvent, Publication, PublishError, PublishSpec,
};
use corewire_engine::shared::ChannelState;
use corewire_engine::subscription::{Backoff, Leg, SubscribeError, SubscribeSpec, Subscription};
use corewire_engine::{CloseCode, Reliability};
use corewire_rings::sync::{Lock, LockGuard};
use corewire_rings::{ClaimError, RecordClaim, RecvError, Ring, RingConfig, WaitTicket, Writer};
use tokio::sync::watch;

use super::config::direction;
use super::stats::{Activity, StreamStats};
use super::table::RawPlace;
use super::{CloseBehavior, StreamConfig, StreamError};
use crate::blocking::flush;
use crate::counters::{AtomicFlag, EventCounter};
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

/// Tasks that wait for one channel before all of them are woken for the first time.
const WAITERS_MAX: usize = 1_024;

/// How often the oldest payload is looked at that cannot be dropped because it is being sent.
const EVICTION_TRIES: u32 = 10_000;

/// A payload, its sequence, and how many the peer sent and this side did not get since the one before.
pub(super) type Numbered = (Bytes, u64, u64);

/// The tasks that wait for something about a channel. Each change wakes all of them.
#[derive(Default)]
pub(super) struct Waiters(Lock<Waiting>);

struct Waiting {
    wakers: Vec<Waker>,
    /// With so many, all are woken, so that wakers of tasks that have gone leave. Then it doubles: the others
    /// come back, and must not wake each other again.
    most: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { wakers: Vec::new(), most: WAITERS_MAX }
    }
}

impl Waiters {
    fn add(&self, waker: &Waker) {
        let mut waiting = self.0.lock();
        if waiting.wakers.iter().any(|other| other.will_wake(waker)) {
            return;
        }
        let mut crowd = Vec::new();
        if waiting.wakers.len() >= waiting.most {
            crowd = std::mem::take(&mut waiting.wakers);
            waiting.most *= 2;
        }
        waiting.wakers.push(waker.clone());
        drop(waiting);
        crowd.into_iter().for_each(Waker::wake);
    }

    pub(super) fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        waiting.wakers.into_iter().for_each(Waker::wake);
    }
}

/// The waker of the inbox, which keeps one only.
impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

/// What the engine's hooks change.
#[derive(Default)]
struct HookState {
    /// The peer has a channel of this side's direction: it is open there and takes payloads.
    connected: AtomicFlag,
    /// Those that wait to send, or for the close code of the peer's direction.
    waiters: Waiters,
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
        self.waiters.wake_all();
    }
}

/// The grants of the channels that are connected; `None` when there is none.
fn open_grants(channels: &Channels) -> Option<u64> {
    let open = channels.iter().filter(|channel| channel.shared().state() == ChannelState::Connected);
    open.map(|channel| channel.shared().snapshot().grants).reduce(|one, other| one + other)
}

/// The receiving half.
struct Receiving {
    /// `None` once the channel was closed here.
    subscription: Option<Subscription>,
    /// The channel of the peer's direction that is read.
    leg: Option<Leg>,
    /// Payloads and bytes taken from it, for the counters of a channel within one engine.
    taken: (u64, u64),
    /// The highest sequence that was taken.
    highest: u64,
    /// Payloads of the peer that did not arrive, as far as it is known.
    lost: u64,
}

/// A raw channel from its opening to its closing.
pub(super) struct RawShared {
    pub(super) peer: PeerId,
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) config: StreamConfig,
    pub(super) activity: Activity,
    state: Arc<HookState>,
    publication: Publication,
    writer: Writer,
    /// Held while payloads enter the ring, so that several enter together and a check of the room holds.
    sending: Lock<()>,
    receiving: Lock<Receiving>,
    /// Those that wait to receive.
    receivers: Arc<Waiters>,
    /// It was closed here.
    closed: AtomicFlag,
    /// The warning about other settings was given.
    warned: AtomicFlag,
    backpressure_events: EventCounter,
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
    ) -> Result<Arc<Self>, StreamError> {
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
            on_change: Some(on_change(&state)),
            on_event: Some(count_grants(&state, |state| &state.past_received)),
            ..PublishSpec::new(out.to_bytes().into())
        });
        let publication = publication.map_err(|error| match error {
            PublishError::Left => StreamError::NotConnected,
            other => StreamError::Transport(other.to_string()),
        })?;
        // Set before the first look, which sees what the hooks have missed.
        let _ = state.outbound.set(publication.watch());
        state.refresh();
        let subscription = node.subscribe(SubscribeSpec {
            window_bytes: config.room_bytes() as u64,
            window_datums: config.room_payloads() as u64,
            max_datum: super::MAX_PAYLOAD_BYTES as u32,
            // The sender decides.
            reliability: Reliability::Reliable,
            producer: Some(peer.to_bytes().into()),
            backoff: RETRY,
            on_change: Some(on_change(&state)),
            on_event: Some(count_grants(&state, |state| &state.past_sent)),
            ..SubscribeSpec::new(back.to_bytes().into())
        });
        let subscription = subscription.map_err(|error| match error {
            SubscribeError::Left => StreamError::NotConnected,
            other => StreamError::Transport(other.to_string()),
        })?;
        let receiving =
            Receiving { subscription: Some(subscription), leg: None, taken: (0, 0), highest: 0, lost: 0 };
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

    fn ring(&self) -> &Ring {
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
        let (leg, subscription) = {
            let mut receiving = self.receiving.lock();
            (receiving.leg.take(), receiving.subscription.take())
        };
        drop(leg);
        drop(subscription);
        self.place.leave();
        self.state.waiters.wake_all();
        self.receivers.wake_all();
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
}

// Sending.
impl RawShared {
    /// Puts all of `payloads` into the ring, or none.
    pub(super) fn try_send(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        let order = self.sending.lock();
        if !self.is_connected() {
            return Err(StreamError::NotConnected);
        }
        self.check_lengths(payloads)?;
        if !self.config.drops_oldest() && !self.has_room(payloads) {
            self.publication.note_full();
            self.backpressure_events.add_one();
            return Err(StreamError::Backpressure);
        }
        for payload in payloads {
            let mut claim = self.claim(payload.len()).map_err(|error| self.refusal(error))?;
            claim.copy_from_slice(payload);
            claim.commit();
        }
        drop(order);
        self.sent();
        Ok(())
    }

    /// Puts one payload into the ring once the peer is there and there is room.
    pub(super) fn poll_send(
        &self,
        payload: &Bytes,
        ticket: &mut WaitTicket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        self.check_lengths(std::slice::from_ref(payload))?;
        match self.poll_connected(cx) {
            Poll::Ready(Ok(())) => {}
            other => {
                // One that waits for the peer does not stop those that wait for room.
                ticket.cancel();
                return other;
            }
        }
        if self.config.drops_oldest() {
            return Poll::Ready(self.try_send(std::slice::from_ref(payload)));
        }
        let order = self.sending.lock();
        match self.writer.poll_claim(ticket, payload.len(), cx) {
            Poll::Ready(Ok(mut claim)) => {
                claim.copy_from_slice(payload);
                claim.commit();
                drop(order);
                self.sent();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.refusal(error))),
            Poll::Pending => {
                // Woken when the peer goes, too.
                self.state.waiters.add(cx.waker());
                self.publication.note_full();
                Poll::Pending
            }
        }
    }

    /// Room for one payload, if there is any or the oldest payloads make it.
    fn claim(&self, len: usize) -> Result<RecordClaim<'_>, ClaimError> {
        if !self.config.drops_oldest() {
            return self.writer.try_claim(len);
        }
        let mut tries = 0;
        loop {
            match self.writer.claim_evicting(len, |_, _| {}) {
                // The shard reads the oldest payload, for some microseconds.
                Err(ClaimError::Full) if tries < EVICTION_TRIES => {
                    tries += 1;
                    std::thread::yield_now();
                }
                done => return done,
            }
        }
    }

    fn sent(&self) {
        self.activity.touch();
        flush(1);
    }

    fn check_lengths(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        let limit = self.config.max_payload();
        match payloads.iter().map(Bytes::len).find(|len| *len > limit) {
            Some(len) => Err(StreamError::Transport(format!(
                "a payload of {len} bytes is longer than the channel's limit of {limit}: split it, or open the \
                 channel with a larger window"
            ))),
            None => Ok(()),
        }
    }

    fn has_room(&self, payloads: &[Bytes]) -> bool {
        let (slots, bytes) = self.ring().room();
        let cost: usize = payloads.iter().map(|payload| RingConfig::cost(payload.len())).sum();
        payloads.len() <= slots && cost <= bytes && self.ring().waiting_writers() == 0
    }

    fn refusal(&self, error: ClaimError) -> StreamError {
        match error {
            ClaimError::Closed => StreamError::NotConnected,
            ClaimError::Full | ClaimError::TooManyWaiters => {
                self.backpressure_events.add_one();
                StreamError::Backpressure
            }
            other => StreamError::Transport(other.to_string()),
        }
    }
}

// Receiving.
impl RawShared {
    /// The next payload, if one is there. Without a context nothing is registered.
    pub(super) fn poll_receive(&self, cx: Option<&Context<'_>>) -> Poll<Result<Numbered, StreamError>> {
        if let Some(cx) = cx {
            self.receivers.add(cx.waker());
        }
        let all = Waker::from(self.receivers.clone());
        let mut receiving = self.receiving.lock();
        let polled = receiving.poll(&mut Context::from_waker(&all));
        if polled.is_pending() && receiving.leg.as_ref().is_some_and(|leg| leg.inbox().is_finished()) {
            // The shard closes an inbox before it says why.
            self.state.waiters.add(&all);
            let polled = receiving.poll(&mut Context::from_waker(&all));
            return self.received(receiving, polled);
        }
        self.received(receiving, polled)
    }

    fn received(
        &self,
        receiving: LockGuard<'_, Receiving>,
        polled: Poll<Result<Numbered, StreamError>>,
    ) -> Poll<Result<Numbered, StreamError>> {
        drop(receiving);
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.activity.touch();
        }
        polled
    }

    pub(super) fn stats(&self) -> StreamStats {
        let outbound = open_grants(&self.publication.channels()).unwrap_or(0);
        let (slots, bytes) = self.ring().room();
        let room = if slots == 0 { 0 } else { u32::try_from(bytes).unwrap_or(u32::MAX) };
        let mut receiving = self.receiving.lock();
        let inbound_pending = receiving.inbound_pending();
        let inbound = receiving.subscription.as_ref().and_then(|inbound| open_grants(&inbound.channels()));
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
            lost: receiving.lost,
            undelivered: self.publication.stats().skipped_at_close,
        }
    }
}

impl Receiving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Numbered, StreamError>> {
        loop {
            if !self.take_leg(Some(cx))? {
                return Poll::Pending;
            }
            let Some(leg) = &mut self.leg else { return Poll::Pending };
            let taken =
                leg.inbox_mut().try_take(|seq, lost, bytes| (Bytes::copy_from_slice(bytes), seq, lost));
            match taken {
                Ok(Some(payload)) => {
                    self.count(&payload);
                    return Poll::Ready(Ok(payload));
                }
                Ok(None) if leg.inbox_mut().poll_ready(cx).is_pending() => return Poll::Pending,
                Ok(None) => {}
                Err(RecvError::Closed | RecvError::Detached) => {
                    let Some(code) = leg.channel().shared().close_code() else { return Poll::Pending };
                    self.lost += leg.inbox().missing_at_end();
                    self.leg = None;
                    if matches!(code, CloseCode::GRACEFUL | CloseCode::ABORTED) {
                        return Poll::Ready(Err(StreamError::NotConnected));
                    }
                }
            }
        }
    }

    /// Makes sure that there is a leg; `false` when there is none yet.
    fn take_leg(&mut self, cx: Option<&mut Context<'_>>) -> Result<bool, StreamError> {
        if self.leg.is_some() {
            return Ok(true);
        }
        let subscription = self.subscription.as_ref().ok_or(StreamError::NotConnected)?;
        let next = match cx {
            Some(cx) => match subscription.poll_leg(cx) {
                Poll::Ready(None) => return Err(StreamError::NotConnected),
                Poll::Ready(leg) => leg,
                Poll::Pending => None,
            },
            None => subscription.take_leg(),
        };
        let Some(leg) = next else { return Ok(false) };
        self.lost += leg.gap().datums;
        self.taken = (0, 0);
        self.leg = Some(leg);
        Ok(true)
    }

    fn count(&mut self, (payload, seq, lost): &Numbered) {
        self.highest = *seq;
        self.lost += lost;
        self.taken = (self.taken.0 + 1, self.taken.1 + payload.len() as u64);
        if let Some(leg) = self.leg.as_ref().filter(|leg| leg.channel().is_local()) {
            // The consumer of a channel within one engine is the writer of its counters.
            let (payloads, bytes) = self.taken;
            leg.channel().shared().counters().delivered(payloads, bytes, leg.inbox().lost(), seq + 1);
        }
    }

    fn inbound_pending(&mut self) -> u64 {
        let _ = self.take_leg(None);
        self.leg.as_ref().map_or(0, |leg| leg.inbox().lag())
    }

    /// The highest sequence that has arrived.
    fn highest_seen(&self) -> u64 {
        let arrived = self.leg.as_ref().map_or(0, |leg| leg.channel().shared().snapshot().position);
        self.highest.max(arrived.saturating_sub(1))
    }
}

/// Refreshes the state. Holds it weakly: once the channel is gone it does nothing.
fn on_change(state: &Arc<HookState>) -> OnChange {
    let state = Arc::downgrade(state);
    Arc::new(move || _ = state.upgrade().map(|state| state.refresh()))
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
