//! Acting on the packets of the peer.
//!
//! Frames are acted on one by one as they are parsed. A frame that would exceed a bound ends the packet,
//! which is not acknowledged; the peer sends its frames again. That is safe because acting on a frame twice
//! has no further effect.
//!
//! Not inside: which session a packet is for.

use core::net::SocketAddr;

use super::{
    CloseCode, DatumSink, Dropped, Lifecycle, Session, SessionEvent, VIOLATION, keys::Unsealed,
    recovery::RecoveryOutcome, table::LabelStatus,
};
use crate::{
    channel::{Budget, Fault, Label, RxChannel},
    mutate,
    seal::UnsealError,
    time::Instant,
    wire::{
        frames::{Ack, BLOCKED_PROBE, Frame, Frames, PositionFrame},
        header::DataPacket,
    },
};

/// A replaced key opens packets for this many probe timeouts after the peer has moved on (RFC 9001, 6.5).
const PREVIOUS_KEY_TIMEOUTS: u32 = 3;

/// What the frames of one packet were.
#[derive(Default)]
struct FrameSummary {
    /// A frame that asks for an acknowledgement.
    eliciting: bool,
    /// A frame whose acknowledgement the peer waits for.
    urgent: bool,
    /// An ACK.
    ack: bool,
}

impl Session {
    /// Takes a sealed packet, header included, and opens it in place. Its datums go to `sink` before this
    /// returns.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        sink: &mut impl DatumSink,
    ) -> Result<(), Dropped> {
        match DataPacket::parse(packet) {
            Ok(Some(packet)) => self.receive(now, None, packet, sink),
            Ok(None) | Err(_) => {
                self.stats.dropped_malformed += 1;
                Err(Dropped::Malformed)
            }
        }
    }

    /// As [`Session::handle_packet`], for a packet that was parsed and came from `from`. When the peer has
    /// moved there, and has answered a challenge, [`SessionEvent::AddressChanged`] follows.
    pub fn handle_packet_from(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: DataPacket<'_>,
        sink: &mut impl DatumSink,
    ) -> Result<(), Dropped> {
        self.receive(now, Some(from), packet, sink)
    }

    fn receive(
        &mut self,
        now: Instant,
        from: Option<SocketAddr>,
        packet: DataPacket<'_>,
        sink: &mut impl DatumSink,
    ) -> Result<(), Dropped> {
        self.advance_clock(now);
        if self.lifecycle == Lifecycle::Closed {
            self.stats.dropped_closed += 1;
            return Err(Dropped::Closed);
        }
        let bytes = packet.bytes() as u64;
        let recovery = &self.recovery;
        let grace = || recovery.timeout() * PREVIOUS_KEY_TIMEOUTS;
        let Unsealed { packet: opened, key_changed } = match self.keys.open(self.now, grace, packet) {
            Ok(turned) => turned,
            Err(error) => return Err(self.count_dropped(error)),
        };
        if key_changed {
            self.key_changed();
        }
        self.stats.packets_received += 1;
        self.stats.bytes_received += bytes;
        self.request_key_if_due();
        if !self.confirmed {
            self.confirmed = true;
            self.events.push_back(SessionEvent::Confirmed);
        }
        if self.liveness.handle_heard(self.now, self.recovery.is_waiting()) {
            self.events.push_back(SessionEvent::Recovered);
        }
        if !self.is_open() {
            return self.handle_while_closing(opened.plaintext);
        }
        let number = opened.number;
        if let Some(from) = from {
            let newest = self.acks.largest().is_none_or(|largest| number > largest);
            self.address.handle_packet(self.now, from, bytes, newest);
        }
        let mut summary = FrameSummary::default();
        for frame in Frames::new(opened.plaintext) {
            let result = match frame {
                Ok(frame) => self.handle_frame(frame, &mut summary, sink),
                Err(_) => Err(VIOLATION),
            };
            match result {
                // The channel is reset already.
                Ok(()) | Err(Fault::Reset(_)) => {}
                Err(Fault::Refuse) => {
                    self.stats.refused_packets += 1;
                    return Ok(());
                }
                Err(Fault::Close(code)) => {
                    self.stats.dropped_violation += 1;
                    self.start_closing(code);
                    return Err(Dropped::Violation(code));
                }
            }
            if self.lifecycle == Lifecycle::Closed {
                return Ok(());
            }
        }
        self.liveness.handle_asked(summary.eliciting);
        self.acks.handle_packet(self.now, number, summary.eliciting, summary.urgent);
        Ok(())
    }

    fn count_dropped(&mut self, error: UnsealError) -> Dropped {
        match error {
            UnsealError::Header(_) | UnsealError::NotData => {
                self.stats.dropped_malformed += 1;
                Dropped::Malformed
            }
            UnsealError::Replay => {
                self.stats.dropped_replay += 1;
                Dropped::Replay
            }
            // Whether the peer sealed the packet is not known, so it ends nothing: the timer of the key does.
            UnsealError::OtherKey | UnsealError::Spent => {
                self.stats.dropped_other_key += 1;
                if mutate!(false, "stranger-ends-session" => error == UnsealError::Spent) {
                    self.start_closing(CloseCode::KEY_EXHAUSTED);
                }
                Dropped::OtherKey
            }
            UnsealError::Forged => {
                self.stats.dropped_auth += 1;
                Dropped::Auth
            }
        }
    }

    /// A packet while closing: a CLOSE of the peer ends the session, anything else is answered with CLOSE.
    fn handle_while_closing(&mut self, plaintext: &[u8]) -> Result<(), Dropped> {
        self.stats.dropped_closed += 1;
        let Lifecycle::Closing { code, due, .. } = &mut self.lifecycle else {
            return Err(Dropped::Closed);
        };
        if Frames::new(plaintext).any(|frame| matches!(frame, Ok(Frame::Close(_)))) {
            let code = *code;
            self.terminate(code, false);
        } else {
            *due = true;
        }
        Err(Dropped::Closed)
    }

    fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        summary: &mut FrameSummary,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        summary.eliciting |= frame.is_eliciting();
        match frame {
            Frame::Data(run) => {
                self.with_rx(run.label, |channel, budget| channel.handle_data(run, budget, sink))
            }
            Frame::Fragment(header, body) => self.with_rx(header.label.get(), |channel, budget| {
                channel.handle_fragment(header, body, budget, sink)
            }),
            Frame::Skip(skip) => {
                self.with_rx(skip.label.get(), |channel, budget| channel.handle_skip(skip, budget, sink))
            }
            Frame::Blocked(blocked) => self.handle_blocked(blocked, sink),
            Frame::Credit(credit) => self.handle_credit(credit),
            Frame::Ack(ack) => {
                // An honest peer sends one; more could only be there to cost time.
                if core::mem::replace(&mut summary.ack, true) {
                    return Err(VIOLATION);
                }
                self.handle_ack(&ack)
            }
            Frame::Control(offset, bytes) => {
                summary.urgent = true;
                self.control_rx.handle_piece(offset, bytes)?;
                self.read_messages();
                if let Lifecycle::Closing { code, .. } = self.lifecycle {
                    Err(Fault::Close(code))
                } else {
                    Ok(())
                }
            }
            Frame::Ping(token) => {
                self.pong = Some(token);
                Ok(())
            }
            Frame::Pong(_) | Frame::Padding => Ok(()),
            Frame::PathChallenge(token) => {
                self.path_response = Some(token);
                Ok(())
            }
            Frame::PathResponse(token) => {
                self.handle_path_response(token);
                Ok(())
            }
            Frame::Close(code) => {
                self.terminate(code, true);
                Ok(())
            }
        }
    }

    /// Acts on a channel that was opened here, then queues what follows: finish, credit or reset.
    fn with_rx(
        &mut self,
        label: u32,
        act: impl FnOnce(&mut RxChannel, &mut Budget) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some(label) = self.rx_label(label)? else { return Ok(()) };
        let Some(channel) = self.rx_channels.get_mut(label) else { return Ok(()) };
        if self.closing_at.is_some() {
            // The owner has done with its channels.
            return Err(Fault::Refuse);
        }
        if !channel.is_open() {
            // The producer sends datums only when ACCEPT was acknowledged, so it arrived and waits for
            // `poll_event`.
            return Err(Fault::Refuse);
        }
        let result = act(channel, &mut self.budget);
        if channel.is_finished() && result.is_ok() {
            self.finish_channel(label);
            return Ok(());
        }
        if channel.wants_credit() && !channel.queued {
            self.queue_credit(label);
        }
        match result {
            Err(Fault::Reset(code)) => {
                self.reset_channel(label, code);
                Ok(())
            }
            other => other,
        }
    }

    fn handle_blocked(&mut self, blocked: &PositionFrame, sink: &mut impl DatumSink) -> Result<(), Fault> {
        let probe = blocked.flags & BLOCKED_PROBE != 0;
        self.with_rx(blocked.label.get(), |channel, budget| {
            channel.handle_blocked(blocked, probe, budget, sink)
        })?;
        if let Some(label) = Label::from_wire(blocked.label.get(), false)
            && let Some(channel) = self.rx_channels.get_mut(label)
            && !core::mem::replace(&mut channel.blocked_event, true)
        {
            self.events.push_back(SessionEvent::Blocked { label });
        }
        Ok(())
    }

    fn handle_credit(&mut self, credit: &PositionFrame) -> Result<(), Fault> {
        let label = Label::from_wire(credit.label.get(), true).ok_or(VIOLATION)?;
        let Some(channel) = self.tx_channels.get_mut(label) else {
            return match self.tx_channels.status(label) {
                LabelStatus::Unused => Err(VIOLATION),
                LabelStatus::Open | LabelStatus::Stale => {
                    self.stats.stale_frames += 1;
                    Ok(())
                }
            };
        };
        channel.handle_credit(credit.seq.get(), credit.offset.get());
        Self::schedule(channel, &mut self.drr);
        Ok(())
    }

    fn handle_ack(&mut self, ack: &Ack<'_>) -> Result<(), Fault> {
        if ack.epoch != 0 {
            return Err(VIOLATION);
        }
        self.stats.acks_received += 1;
        let Self { recovery, fates, keys, now, .. } = self;
        let outcome = recovery
            .handle_ack(*now, ack, keys.sealer.next_number(), &mut |fate, frame| fates.push((fate, frame)))
            .map_err(|_| VIOLATION)?;
        if outcome.acked_to > 0 {
            self.acks.forget_to(outcome.acked_to);
        }
        self.apply(&outcome);
        Ok(())
    }

    /// Draws from an outcome how large packets may be.
    fn apply_to_path(&mut self, outcome: &RecoveryOutcome) {
        let mut changed = outcome.path_probe_acked.is_some_and(|number| self.path.handle_probe_acked(number));
        if let Some(number) = outcome.path_probe_lost {
            self.path.handle_probe_lost(self.now, number);
        }
        if outcome.acked_size > 0 {
            self.path.handle_acked(outcome.acked_size);
        }
        changed |= self.path.handle_lost(outcome.large_lost, outcome.large_lost_size);
        if outcome.probe {
            changed |= self.path.handle_timeouts(self.recovery.probe_count);
        }
        if changed {
            self.resize_packets();
        }
    }

    /// Passes an outcome on to the congestion controller and to the channels.
    pub(super) fn apply(&mut self, outcome: &RecoveryOutcome) {
        self.apply_to_path(outcome);
        if let Some(sent) = outcome.youngest_acked {
            let limited = outcome.in_flight_before.saturating_mul(2) >= self.controller.window();
            let srtt = self.recovery.rtt.measured_ns();
            self.controller.handle_ack(self.now, sent, outcome.acked_bytes, srtt, limited);
        }
        self.stats.packets_lost += outcome.lost;
        if let Some(sent) = outcome.youngest_lost {
            self.controller.handle_loss(self.now, sent);
        }
        if outcome.persistent {
            self.controller.handle_persistent_loss();
            self.stats.persistent_losses += 1;
        }
        self.pacer.set_rate(self.controller.rate(self.recovery.rtt.measured_ns()));
        if !self.recovery.is_waiting() {
            self.liveness.handle_idle();
        }
        self.apply_fates();
    }
}
