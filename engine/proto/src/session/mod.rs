//! The protocol between two peers that share keys: packets, channels, acknowledgement, loss, control.
//!
//! | file | holds |
//! |---|---|
//! | `receive` | acting on the packets of the peer |
//! | `messages` | acting on the messages of the control stream |
//! | `transmit` | filling the next packet |
//! | `timers`, `liveness` | acting on the passing of time, and on the silence of the peer |
//! | `verbs` | what the owner asks for |
//! | `closing` | the end of the session |
//! | `recovery`, `rtt`, `acks` | loss detection of sent packets, acknowledgement of received ones |
//! | `control`, `assembler` | the reliable stream of messages |
//! | `keys` | the keys that seal and open, and their replacement |
//! | `path_address` | where the peer is |
//! | `path_mtu` | how large a packet the path carries |
//! | `table` | channels by label |
//! | `credit_wait`, `large_room`, `egress` | channels that wait for credit, for room, or for a booking |
//! | `open_rate` | the limit on opens |
//!
//! Not inside: the handshake ([`crate::handshake`]), rings and inboxes (behind [`DatumSource`] and
//! [`DatumSink`]), the meaning of the owner's control messages.

mod acks;
mod api;
mod assembler;
mod closing;
mod config;
mod control;
mod credit_wait;
mod egress;
mod keys;
mod large_room;
mod liveness;
mod messages;
mod open_rate;
mod path_address;
mod path_mtu;
mod receive;
mod recovery;
mod rtt;
mod stats;
mod table;
mod timers;
mod transmit;
mod verbs;

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::net::SocketAddr;

pub use crate::{
    channel::{DatumSink, DatumSource, Fetched},
    wire::CloseCode,
};
pub use api::{ControlError, Dropped, NoChannel, OpenChannelError, SessionEvent};
pub use config::{BASE_PACKET_BYTES, MIN_PACKET_BYTES, SessionConfig, SessionLimits};
pub use keys::{NewKey, StaleKey};
pub use stats::SessionStats;

use acks::Acks;
use control::{ControlRx, ControlTx};
use credit_wait::CreditWait;
use egress::EgressWait;
use keys::Keys;
use large_room::LargeRoom;
use liveness::Liveness;
use open_rate::OpenRate;
use path_address::PathAddress;
use path_mtu::PathMtu;
use recovery::{FrameFate, Recovery};
use table::Table;

use crate::{
    channel::{
        BlockedFrame, Budget, Fault, Label, LossOutcome, RxChannel, SentData, SentFragment, SentFrame, Stop,
        TxChannel, large_share,
    },
    congestion::{Controller, Pacer},
    ordered::OrderedSet,
    schedule::Drr,
    seal::{KeyBytes, MAX_SEALED_BYTES, Opener, Sealer},
    time::Instant,
    wire::{frames::message::SessionMessage, header::ReceiverIndex},
};

/// What a frame or message leads to that the peer may not send.
const VIOLATION: Fault = Fault::Close(CloseCode::PROTOCOL_VIOLATION);

/// Where a session is in its life; it only moves forward.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lifecycle {
    /// Frames are acted on, and verbs have an effect.
    Open,
    /// CLOSE is sent, and repeated while the peer goes on sending.
    Closing {
        code: CloseCode,
        /// When the session stops answering.
        until: Instant,
        /// A CLOSE is to be sent, from `next_at` on: it is the first, or the peer goes on sending.
        due: bool,
        /// When the next CLOSE may leave.
        next_at: Instant,
    },
    /// Nothing is sent or acted on any more.
    Closed,
}

/// One encrypted association with one peer: a state machine over packets.
///
/// In each turn the owner calls [`Session::handle_packet`] for what arrived, [`Session::handle_timeout`] when
/// [`Session::poll_timeout`] has passed, [`Session::poll_event`] until `None`, its verbs, and then
/// [`Session::poll_transmit`] until `None`. Events must be polled before packets: a datum is delivered only
/// after [`SessionEvent::Accepted`] could have been polled.
///
/// No packet can make it panic. Everything that can grow has a bound in [`SessionConfig`]; see
/// [`SessionConfig::memory_bound`].
#[derive(Debug)]
pub struct Session {
    /// As clamped by [`Session::new`]; never changed.
    config: SessionConfig,
    keys: Keys,
    /// The index that the peer chose for packets to it.
    remote: ReceiverIndex,
    lifecycle: Lifecycle,
    /// CLOSE follows when the peer has what ends channels, or at this time.
    closing_at: Option<Instant>,
    /// The latest time passed to any call.
    now: Instant,
    /// A packet of the peer has opened, so it holds the keys.
    confirmed: bool,

    /// Channels opened here; this side consumes.
    rx_channels: Table<RxChannel>,
    /// Channels opened by the peer; this side produces.
    tx_channels: Table<TxChannel>,
    /// What all consumer channels hold early; equals the sum of their charges.
    budget: Budget,
    /// Slots of `tx_channels` that have something to send.
    drr: Drr,
    /// Slots of `rx_channels` with a CREDIT to send, marked `queued`; slots that are not are passed over.
    credits: VecDeque<u32>,
    /// Slots of `tx_channels` with a BLOCKED to send, marked `queued`; slots that are not are passed over.
    blocked: VecDeque<u32>,
    /// Channels of `tx_channels` that wait for credit.
    credit_wait: CreditWait,
    /// Channels of `tx_channels` that are held back.
    egress: EgressWait,
    /// Labels of `tx_channels` whose ACCEPT ends at this position of the control stream, ascending.
    accepting: VecDeque<(Label, u64)>,
    /// Likewise those whose FIN does.
    finishing: VecDeque<(Label, u64)>,
    /// FireAndForget labels of `tx_channels` that have sent everything, behind the number of their last
    /// packet as it was then. FIN follows when their last packet is acknowledged or lost.
    draining: OrderedSet<(u64, Label)>,
    /// Equals the sum of `resend_entries` over `tx_channels`.
    resend_entries: usize,
    /// Counts `large_bytes` over `tx_channels`; a channel that waits is marked `listed_crowded`.
    large: LargeRoom,

    acks: Acks,
    recovery: Recovery,
    path: PathMtu,
    address: PathAddress,
    /// The token of a PATH_CHALLENGE to be answered.
    path_response: Option<u64>,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    /// When the pacer lets the next data packet leave, while it holds one back.
    paced_at: Option<Instant>,
    control_tx: ControlTx,
    control_rx: ControlRx,
    /// The token of a PING to be answered.
    pong: Option<u64>,
    /// A PING is to be sent, unless the next packet asks for an acknowledgement anyway.
    ping_due: bool,

    /// Events to be polled, in order; bounded as [`SessionConfig::memory_bound`] says.
    events: VecDeque<SessionEvent>,
    /// Slots of `tx_channels` with a `Released` event to be polled, marked `released_event`; slots that are
    /// not are passed over.
    released: VecDeque<u32>,

    liveness: Liveness,
    /// When a channel last opened or ended, or a message last arrived.
    idle_since: Instant,
    open_rate: OpenRate,
    /// When a PING was last sent to let old ranges of acknowledgements go.
    last_trim: Instant,
    /// Scratch for frames whose fate was decided; empty between calls.
    fates: Vec<(FrameFate, SentFrame)>,
    /// Counters; levels are filled in by [`Session::session_stats`].
    stats: SessionStats,
}

impl Session {
    /// A session over fresh keys. `remote` is the index that the peer chose for packets to it.
    pub fn new(
        mut config: SessionConfig,
        sealer: Sealer,
        opener: Opener,
        remote: ReceiverIndex,
        now: Instant,
    ) -> Self {
        config.max_packet_bytes = config.max_packet_bytes.clamp(BASE_PACKET_BYTES, MAX_SEALED_BYTES);
        let limits = config.limits;
        let controller = config.congestion.controller(BASE_PACKET_BYTES);
        let mut pacer = Pacer::new(BASE_PACKET_BYTES, now);
        pacer.set_rate(controller.rate(0));
        Self {
            keys: Keys::new(sealer, opener),
            remote,
            lifecycle: Lifecycle::Open,
            closing_at: None,
            now,
            confirmed: false,
            rx_channels: Table::new(limits.max_channels, false),
            tx_channels: Table::new(limits.max_channels, true),
            budget: Budget::new(limits.max_held_bytes),
            drr: Drr::new(config.quantum_bytes),
            credits: VecDeque::new(),
            blocked: VecDeque::new(),
            credit_wait: CreditWait::default(),
            egress: EgressWait::default(),
            accepting: VecDeque::new(),
            finishing: VecDeque::new(),
            draining: OrderedSet::new(),
            resend_entries: 0,
            large: LargeRoom::new(large_share(limits.max_held_bytes)),
            acks: Acks::new(config.ack_delay, config.ack_every),
            recovery: Recovery::new(config.initial_rtt, config.ack_delay, config.timer_granularity),
            path: PathMtu::new(config.max_packet_bytes),
            address: PathAddress::new(),
            path_response: None,
            controller,
            pacer,
            paced_at: None,
            control_tx: ControlTx::new(SessionMessage::Settings {
                max_ack_delay: config.ack_delay,
                large_bytes: large_share(limits.max_held_bytes) as u64,
            }),
            control_rx: ControlRx::new(limits.max_control_bytes),
            pong: None,
            ping_due: false,
            events: VecDeque::new(),
            released: VecDeque::new(),
            liveness: Liveness::new(config.dead_after, config.suspect_after, now),
            idle_since: now,
            open_rate: OpenRate::new(limits.opens_per_second, now),
            last_trim: now,
            fates: Vec::new(),
            stats: SessionStats::default(),
            config,
        }
    }

    /// The next event, in order; `None` when there is none.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        if self.events.is_empty() {
            // Messages wait in the control stream while the queue of events is full.
            self.read_messages();
        }
        if let Some(event) = self.events.pop_front() {
            if let SessionEvent::Blocked { label } = event
                && let Some(channel) = self.rx_channels.get_mut(label)
            {
                channel.blocked_event = false;
            }
            return Some(event);
        }
        while let Some(slot) = self.released.pop_front() {
            if let Some(channel) = self.tx_channels.at(slot)
                && core::mem::take(&mut channel.released_event)
            {
                return Some(SessionEvent::Released { label: channel.label() });
            }
        }
        None
    }

    /// Whether the session is closing or closed: verbs do nothing any more.
    pub const fn is_closed(&self) -> bool {
        !self.is_open() || self.closing_at.is_some()
    }

    /// Gives the session a new key from another handshake with the same peer. Channels, packet numbers and
    /// credit go on. The old key still opens packets under way. [`SessionEvent::Rekeyed`] follows when the
    /// new key is in use.
    pub fn rekey(&mut self, now: Instant, key: NewKey) -> Result<(), StaleKey> {
        self.advance_clock(now);
        if self.keys.insert(key)? {
            self.key_changed();
            // The peer waits for a packet under the new key before it uses it.
            self.ping_due = true;
        }
        Ok(())
    }

    fn key_changed(&mut self) {
        self.stats.keys_changed += 1;
        self.events.push_back(SessionEvent::Rekeyed { phase: self.keys.phase() });
    }

    /// Asks the owner for a new key when the current one is due, once per key.
    fn request_key_if_due(&mut self) {
        if self.is_open() && self.keys.request_due(self.now) {
            self.events.push_back(SessionEvent::RekeyDue);
        }
    }

    /// The sending key: how far it is used up.
    pub const fn sealer(&self) -> &Sealer {
        &self.keys.sealer
    }

    /// The receiving key: how far it is used up.
    pub const fn opener(&self) -> &Opener {
        &self.keys.opener
    }

    /// The index that the peer chose for packets to it.
    pub const fn remote_index(&self) -> ReceiverIndex {
        self.remote
    }

    /// The configuration, as clamped.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The largest packet that is sent now, in bytes: as far as the path is known to carry it, and at most
    /// `max_packet_bytes`. Only a probe for a larger size exceeds it.
    pub const fn packet_bytes(&self) -> usize {
        self.path.packet_bytes()
    }

    /// This host refused to send a packet of `size` bytes, or a router reported that it is too large.
    pub fn handle_too_large(&mut self, now: Instant, size: usize) {
        self.advance_clock(now);
        if self.path.handle_too_large(self.now, size) {
            self.resize_packets();
        }
    }

    /// Tells where the peer is, as the handshake has shown. From then on [`Session::handle_packet_from`] and
    /// [`Session::poll_path_transmit`] are to be called, and the session follows the peer to another address
    /// that answers a challenge. `secret` makes challenges that the peer can't guess: random bytes of this
    /// side, not derived from what the peer knows.
    pub fn set_peer_address(&mut self, address: SocketAddr, secret: KeyBytes) {
        self.address.set(address, secret);
    }

    /// Where packets of [`Session::poll_transmit`] are to be sent; `None` if that was never told.
    pub const fn peer_address(&self) -> Option<SocketAddr> {
        self.address.current()
    }

    /// The peer has moved: what was learnt about the path is forgotten.
    fn handle_path_response(&mut self, token: u64) {
        let before = self.address.current();
        let Some(to) = self.address.handle_response(token) else { return };
        if before.map(|address| address.ip()) != Some(to.ip()) {
            // Another port alone is most likely the same path behind another mapping (RFC 9000, 9.4).
            self.controller = self.config.congestion.controller(BASE_PACKET_BYTES);
            let next = self.keys.sealer.next_number();
            self.recovery.forget_path(self.now, self.config.initial_rtt, next);
            // Its acknowledgement shows soon what was lost on the old path.
            self.ping_due = true;
            self.path = PathMtu::new(self.config.max_packet_bytes);
            self.resize_packets();
            self.pacer.set_rate(self.controller.rate(0));
        }
        self.events.push_back(SessionEvent::AddressChanged { to });
    }

    /// `packet_bytes` has changed.
    fn resize_packets(&mut self) {
        let bytes = self.path.packet_bytes();
        self.controller.handle_packet_bytes(bytes);
        self.pacer.set_packet_bytes(bytes);
    }

    /// Counters of the session.
    pub fn session_stats(&self) -> SessionStats {
        SessionStats {
            channels: (self.rx_channels.len() + self.tx_channels.len()) as u64,
            bytes_in_flight: self.recovery.in_flight(),
            congestion_window: self.controller.window(),
            packet_bytes: self.path.packet_bytes() as u64,
            rtt_ns: self.recovery.rtt.measured_ns(),
            min_rtt_ns: self.recovery.rtt.min_ns(),
            held_bytes: self.budget.held() as u64,
            ..self.stats
        }
    }

    fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    const fn is_open(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Open)
    }

    /// Acts on the frames in `fates`. A channel that gives up is reset.
    fn apply_fates(&mut self) {
        let mut fates = core::mem::take(&mut self.fates);
        for (fate, frame) in fates.drain(..) {
            match frame {
                SentFrame::Data(_) | SentFrame::Fragment(_) => self.apply_data_fate(fate, frame),
                SentFrame::Control { offset, len } => {
                    if fate.sends_again() {
                        self.control_tx.handle_lost(offset, len);
                    } else if fate == FrameFate::Acked && self.control_tx.handle_acked(offset, len) {
                        self.handle_control_acked();
                    }
                }
                SentFrame::Credit { label } => {
                    if fate.sends_again() {
                        self.queue_credit(label);
                    }
                }
                SentFrame::Blocked { label } => {
                    if fate.sends_again()
                        && let Some(channel) = self.tx_channels.get_mut(label)
                        && channel.blocked
                    {
                        Self::queue_blocked(channel, BlockedFrame::Notice, &mut self.blocked);
                    }
                }
            }
        }
        self.fates = fates;
        self.finish_drained();
        if self.closing_at.is_some() {
            self.start_closing_in_order();
        }
    }

    fn apply_data_fate(&mut self, fate: FrameFate, frame: SentFrame) {
        // A probe timer is no evidence of loss.
        let horizon = if fate == FrameFate::Probed { Instant::ZERO } else { self.give_up_horizon() };
        let again = fate.sends_again();
        let (SentFrame::Data(SentData { label, .. }) | SentFrame::Fragment(SentFragment { label, .. })) =
            frame
        else {
            return;
        };
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        let (entries, large) = (channel.resend_entries(), channel.large_bytes());
        let (mut moved, mut outcome) = (false, LossOutcome::Queued);
        match (fate, &frame) {
            (FrameFate::Acked, SentFrame::Data(data)) => moved = channel.handle_data_acked(data),
            (FrameFate::Acked, SentFrame::Fragment(fragment)) => {
                moved = channel.handle_fragment_acked(fragment);
            }
            // What was sent again already is only given up: nothing before the horizon is queued.
            (_, SentFrame::Data(data)) if again || data.since < horizon => {
                outcome = channel.handle_data_lost(data, horizon);
            }
            (_, SentFrame::Fragment(fragment)) if again || fragment.since < horizon => {
                outcome = channel.handle_fragment_lost(fragment, horizon);
            }
            _ => {}
        }
        self.resend_entries = self.resend_entries + channel.resend_entries() - entries;
        let freed = self.large.change(large, channel.large_bytes());
        if outcome == LossOutcome::GaveUp {
            self.reset_channel(label, CloseCode::GAVE_UP);
            return;
        }
        if moved && !channel.released_event {
            channel.released_event = true;
            self.released.push_back(label.slot() as u32);
        }
        if channel.is_finished() {
            self.finish_channel(label);
        } else if again {
            Self::schedule(channel, &mut self.drr);
        }
        if freed {
            self.wake_crowded();
        }
    }

    /// The channel that has waited longest for room for a large datum looks again. One that is held back
    /// gives its place up: its next turn lists it again.
    fn wake_crowded(&mut self) {
        while let Some(slot) = self.large.first() {
            if let Some(channel) = self.tx_channels.at(slot).filter(|channel| channel.listed_crowded) {
                channel.crowded = false;
                if Self::schedule(channel, &mut self.drr) {
                    return;
                }
                channel.listed_crowded = false;
            }
            self.large.pop();
        }
    }

    /// The channel in `slot` has had a turn: it waits for room, or has stopped waiting.
    fn note_crowded(&mut self, slot: u32, stop: Stop) {
        let Some(channel) = self.tx_channels.at(slot) else { return };
        if stop == Stop::Crowded {
            if !core::mem::replace(&mut channel.listed_crowded, true) {
                self.large.push(slot);
            }
        } else if channel.listed_crowded && !channel.crowded && (channel.is_in_large() || stop == Stop::Idle)
        {
            channel.listed_crowded = false;
            self.wake_crowded();
        }
    }

    /// A datum that was first sent before this time is given up when it is lost again. A silence of the peer
    /// that has ended counts for nothing.
    fn give_up_horizon(&self) -> Instant {
        let horizon = self.now - self.config.give_up_after();
        if self.liveness.alive_since() < horizon { horizon } else { Instant::ZERO }
    }

    /// Sends FIN for FireAndForget channels whose last packet is acknowledged or lost.
    fn finish_drained(&mut self) {
        let oldest = self.recovery.oldest().unwrap_or(u64::MAX);
        while let Some((packet, label)) = self.draining.first().copied()
            && packet < oldest
        {
            self.draining.pop_first();
            let Some(channel) = self.tx_channels.get(label) else { continue };
            if channel.last_packet < oldest {
                self.send_fin(label);
            } else {
                self.draining.insert((channel.last_packet, label));
            }
        }
    }

    /// Gives a channel that has something to send its turns; returns whether it has.
    fn schedule(channel: &TxChannel, drr: &mut Drr) -> bool {
        let wants_turn = channel.wants_turn();
        if wants_turn {
            drr.activate(channel.label().slot() as u32, channel.weight());
        }
        wants_turn
    }

    /// Gives a channel its turns, or reports that it waits for credit.
    fn schedule_or_block(&mut self, label: Label) {
        let Some(channel) = self.tx_channels.get(label) else { return };
        if !Self::schedule(channel, &mut self.drr) && channel.lacks_credit() {
            self.block_channel(label);
        }
    }

    fn queue_credit(&mut self, label: Label) {
        if let Some(channel) = self.rx_channels.get_mut(label)
            && channel.is_open()
            && !channel.queued
        {
            channel.queued = true;
            self.credits.push_back(label.slot() as u32);
        }
    }

    /// Queues a BLOCKED frame; a probe that is due stays one.
    fn queue_blocked(channel: &mut TxChannel, frame: BlockedFrame, queue: &mut VecDeque<u32>) {
        channel.blocked_due = channel.blocked_due.max(Some(frame));
        if !channel.queued {
            channel.queued = true;
            queue.push_back(channel.label().slot() as u32);
        }
    }
}

#[cfg(test)]
mod tests;
