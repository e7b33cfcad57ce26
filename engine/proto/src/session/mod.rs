//! What two peers that have keys say to each other.
//!
//! Not inside: sockets, clocks, threads, randomness; how the keys came to be ([`crate::handshake`]); rings and
//! inboxes (they are behind [`DatumSource`] and [`DatumSink`]); what a control message of the owner means.
//!
//! | file | answers |
//! |---|---|
//! | `receive` | what a packet of the peer does |
//! | `messages` | what a message of the control stream does |
//! | `transmit` | what the next packet carries |
//! | `timers` | what time alone does |
//! | `verbs` | what the owner wants |
//! | `recovery`, `rtt`, `acks` | which packets arrived, in both directions |
//! | `control` | the stream of messages |
//! | `keys` | which key seals, and which ones still open |
//! | `table` | channels by label |

mod acks;
mod api;
mod config;
mod control;
mod keys;
mod messages;
mod receive;
mod recovery;
mod rtt;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod transmit;
mod verbs;

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

pub use crate::{
    channel::{DatumSink, DatumSource, Fetched},
    wire::CloseCode,
};
pub use api::{ControlError, Dropped, NoChannel, OpenChannelError, SessionEvent};
pub use config::{MIN_PACKET_BYTES, SessionConfig, SessionLimits};
pub use keys::{NewKey, StaleKey};
pub use stats::SessionStats;

use acks::Acks;
use control::{ControlRx, ControlTx};
use keys::Keys;
use recovery::{FrameFate, Recovery};
use table::Table;

use crate::{
    channel::{Budget, Label, RxChannel, SentFrame, TxChannel},
    congestion::{Controller, Pacer},
    schedule::Drr,
    seal::{MAX_SEALED_BYTES, Opener, Sealer},
    time::Instant,
    wire::header::ReceiverIndex,
};

/// Where a session is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lifecycle {
    Open,
    /// CLOSE is to be sent (`due`), and repeated to a peer that still talks, until `until`.
    Closing {
        code: CloseCode,
        until: Instant,
        due: bool,
        repeats: u8,
    },
    Closed,
}

/// One encrypted association with one peer: a state machine over packets.
///
/// In each turn: [`Session::handle_packet`] for what arrived, [`Session::handle_timeout`] when
/// [`Session::poll_timeout`] has passed, [`Session::poll_event`] until `None`, the owner's verbs, then
/// [`Session::poll_transmit`] until `None`. Events must be polled before packets: a datum comes only after
/// [`SessionEvent::Accepted`] could have been seen.
///
/// Nothing here panics on what a peer sends. Nothing grows without a bound of [`SessionConfig`]; see
/// [`SessionConfig::memory_bound`].
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    keys: Keys,
    remote: ReceiverIndex,
    life: Lifecycle,
    now: Instant,
    confirmed: bool,

    rx_channels: Table<RxChannel>,
    tx_channels: Table<TxChannel>,
    budget: Budget,
    drr: Drr,
    /// Slots of `rx_channels` with a CREDIT to send.
    credits: VecDeque<u32>,
    /// Slots of `tx_channels` with a BLOCKED to send.
    blocked: VecDeque<u32>,
    /// Labels of `tx_channels` that wait for credit, each once. Those that are gone go with the next probe.
    waiting: Vec<Label>,
    blocked_at: Option<Instant>,
    blocked_backoff: u32,
    /// Labels of `tx_channels` whose ACCEPT ends at this place of the control stream.
    accepting: VecDeque<(Label, u64)>,
    /// Labels of `tx_channels` on FireAndForget that sent everything and wait until that has arrived or is lost.
    settling: Vec<Label>,
    /// Entries of all channels' lists of what is to be sent again.
    resend_entries: usize,

    acks: Acks,
    recovery: Recovery,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    paced_at: Option<Instant>,
    control_tx: ControlTx,
    control_rx: ControlRx,
    pong: Option<u64>,
    ping_due: bool,

    events: VecDeque<SessionEvent>,
    /// Slots of `tx_channels` with a `Released` event to poll.
    released: VecDeque<u32>,

    last_heard: Instant,
    /// Since when something waits for an answer without any packet from the peer.
    unanswered: Option<Instant>,
    /// Since when there has been nothing to do.
    idle_since: Instant,
    open_tokens: u64,
    open_tokens_at: Instant,
    last_trim: Instant,
    /// Scratch for records whose fate was decided.
    fates: Vec<(FrameFate, SentFrame)>,
    stats: SessionStats,
}

impl Session {
    /// A session over fresh keys. `remote` is what the peer wants to see in the header of our packets.
    pub fn new(
        mut config: SessionConfig,
        sealer: Sealer,
        opener: Opener,
        remote: ReceiverIndex,
        now: Instant,
    ) -> Self {
        config.max_packet_bytes = config.max_packet_bytes.clamp(MIN_PACKET_BYTES, MAX_SEALED_BYTES);
        let limits = config.limits;
        Self {
            keys: Keys::new(sealer, opener),
            remote,
            life: Lifecycle::Open,
            now,
            confirmed: false,
            rx_channels: Table::new(limits.max_channels, false),
            tx_channels: Table::new(limits.max_channels, true),
            budget: Budget::new(limits.max_held_bytes),
            drr: Drr::new(config.quantum_bytes),
            credits: VecDeque::new(),
            blocked: VecDeque::new(),
            waiting: Vec::new(),
            blocked_at: None,
            blocked_backoff: 0,
            accepting: VecDeque::new(),
            settling: Vec::new(),
            resend_entries: 0,
            acks: Acks::new(config.ack_delay, config.ack_every),
            recovery: Recovery::new(config.initial_rtt, config.ack_delay),
            controller: config.congestion.controller(config.max_packet_bytes),
            pacer: Pacer::new(config.max_packet_bytes, now),
            paced_at: None,
            control_tx: ControlTx::default(),
            control_rx: ControlRx::new(limits.max_control_bytes),
            pong: None,
            ping_due: false,
            events: VecDeque::new(),
            released: VecDeque::new(),
            last_heard: now,
            unanswered: None,
            idle_since: now,
            open_tokens: u64::from(limits.opens_per_second) * 1_000_000_000,
            open_tokens_at: now,
            last_trim: now,
            fates: Vec::new(),
            stats: SessionStats::default(),
            config,
        }
    }

    /// What happened, in order; `None` when there is nothing new.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        if self.events.is_empty() {
            // Messages that waited because nobody polled.
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
        !matches!(self.life, Lifecycle::Open)
    }

    /// Gives the session a new key, from a handshake with the peer of this session. Everything in it goes on. The old
    /// key still opens what is under way. [`SessionEvent::Rekeyed`] says when the new one is in use.
    pub fn rekey(&mut self, now: Instant, key: NewKey) -> Result<(), StaleKey> {
        self.advance_clock(now);
        if self.keys.take(key)? {
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

    /// Asks the owner for a new key, once for each, when the current one is due.
    fn ask_for_key(&mut self) {
        if self.is_open() && self.keys.ask(self.now) {
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

    /// What the peer wants to see in the header of our packets.
    pub const fn remote_index(&self) -> ReceiverIndex {
        self.remote
    }

    /// The configuration, as clamped.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// What the session counted.
    pub fn session_stats(&self) -> SessionStats {
        SessionStats {
            channels: (self.rx_channels.len() + self.tx_channels.len()) as u64,
            bytes_in_flight: self.recovery.in_flight(),
            congestion_window: self.controller.window(),
            rtt_ns: self.recovery.rtt.measured_ns(),
            min_rtt_ns: self.recovery.rtt.min_ns(),
            held_bytes: self.budget.held() as u64,
            ..self.stats
        }
    }

    fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Ends the session here and now, without a word to the peer.
    fn terminate(&mut self, code: CloseCode, by_peer: bool) {
        if self.life == Lifecycle::Closed {
            return;
        }
        self.life = Lifecycle::Closed;
        self.events.push_back(SessionEvent::Closed { code, by_peer });
    }

    /// Tells the peer and stays a little to repeat it.
    fn start_closing(&mut self, code: CloseCode) {
        if self.life == Lifecycle::Open {
            let until = self.now + self.config.close_linger;
            self.life = Lifecycle::Closing { code, until, due: true, repeats: 0 };
        }
    }

    /// Carries out what became of records. Returns nothing; channels that gave up are reset.
    fn settle_fates(&mut self) {
        let mut fates = core::mem::take(&mut self.fates);
        for (fate, record) in fates.drain(..) {
            match record {
                SentFrame::Data { label, .. } | SentFrame::Fragment { label, .. } => {
                    self.settle_data(fate, label, record);
                }
                SentFrame::Control { offset, len } => {
                    if fate == FrameFate::Lost {
                        self.control_tx.handle_lost(offset, len);
                    } else if self.control_tx.handle_acked(offset, len) {
                        self.handle_control_acked();
                    }
                }
                SentFrame::Credit { label } => {
                    if fate == FrameFate::Lost {
                        self.queue_credit(label);
                    }
                }
                SentFrame::Blocked { label } => {
                    if fate == FrameFate::Lost
                        && let Some(channel) = self.tx_channels.get_mut(label)
                        && channel.blocked
                    {
                        channel.blocked_due.get_or_insert(false);
                        Self::queue_blocked(channel, &mut self.blocked);
                    }
                }
            }
        }
        self.fates = fates;
        self.settle_finished();
    }

    fn settle_data(&mut self, fate: FrameFate, label: Label, record: SentFrame) {
        let max = self.config.max_attempts;
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        let entries = channel.resend_entries();
        let mut gave_up = false;
        let mut moved = false;
        match (fate, record) {
            (FrameFate::Acked, SentFrame::Data { first, count, .. }) => {
                moved = channel.handle_data_acked(first, count);
            }
            (FrameFate::Acked, SentFrame::Fragment { seq, position, len, .. }) => {
                moved = channel.handle_fragment_acked(seq, position, len);
            }
            (FrameFate::Lost, SentFrame::Data { first, count, offset, attempt, .. }) => {
                gave_up = !channel.handle_data_lost(first, count, offset, attempt, max);
            }
            (FrameFate::Lost, record) => gave_up = !channel.handle_fragment_lost(record, max),
            (FrameFate::Acked, _) => {}
        }
        self.resend_entries = self.resend_entries + channel.resend_entries() - entries;
        if gave_up {
            self.reset_channel(label, CloseCode::GAVE_UP);
            return;
        }
        if moved && !channel.released_event {
            channel.released_event = true;
            self.released.push_back(label.slot() as u32);
        }
        if channel.is_finished() {
            self.finished(label);
        } else if fate == FrameFate::Lost && channel.wants_turn() {
            let weight = channel.weight();
            self.drr.activate(label.slot() as u32, weight);
        }
    }

    /// FireAndForget channels whose last packet has arrived or is lost end now.
    fn settle_finished(&mut self) {
        if self.settling.is_empty() {
            return;
        }
        let oldest = self.recovery.oldest();
        let mut settling = core::mem::take(&mut self.settling);
        settling.retain(|label| {
            let Some(channel) = self.tx_channels.get_mut(*label) else { return false };
            if oldest.is_some_and(|oldest| oldest <= channel.last_packet) {
                return true;
            }
            self.send_fin(*label);
            false
        });
        self.settling = settling;
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

    fn queue_blocked(channel: &mut TxChannel, queue: &mut VecDeque<u32>) {
        if !channel.queued {
            channel.queued = true;
            queue.push_back(channel.label().slot() as u32);
        }
    }
}
