//! What a packet of the peer does.
//!
//! Not inside: deciding which session a packet is for. A frame is acted on as it stands in the packet; one that
//! would exceed a bound stops the packet without acknowledging it, which is safe because every frame may be acted
//! on twice.

use super::{
    CloseCode, DatumSink, Dropped, Lifecycle, Session, SessionEvent, keys::Unsealed,
    recovery::RecoveryOutcome, table::LabelStatus,
};
use crate::{
    channel::{Budget, Fault, Label, RxChannel},
    seal::UnsealError,
    time::Instant,
    wire::frames::{Ack, BLOCKED_PROBE, Frame, Frames, PositionFrame},
};

/// A closing session repeats CLOSE at most this often.
const CLOSE_REPEATS: u8 = 16;
/// A replaced key opens packets for this many probe timeouts after the peer has moved on (RFC 9001, 6.5).
const PREVIOUS_KEY_TIMEOUTS: u32 = 3;
const VIOLATION: Fault = Fault::Close(CloseCode::PROTOCOL_VIOLATION);

/// What the frames of a packet ask for.
#[derive(Default)]
struct FrameSummary {
    eliciting: bool,
    urgent: bool,
    ack: bool,
}

impl Session {
    /// Takes a whole sealed packet, header included; it is opened in place. Datums go to `sink` at once.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        sink: &mut impl DatumSink,
    ) -> Result<(), Dropped> {
        self.advance_clock(now);
        if self.life == Lifecycle::Closed {
            self.stats.dropped_closed += 1;
            return Err(Dropped::Closed);
        }
        let bytes = packet.len() as u64;
        let recovery = &self.recovery;
        let grace = || recovery.timeout() * PREVIOUS_KEY_TIMEOUTS;
        let Unsealed { opened, changed } = match self.keys.open(self.now, grace, packet) {
            Ok(turned) => turned,
            Err(error) => return Err(self.count_dropped(error)),
        };
        if changed {
            self.key_changed();
        }
        self.stats.packets_received += 1;
        self.stats.bytes_received += bytes;
        if !self.confirmed {
            self.confirmed = true;
            self.events.push_back(SessionEvent::Confirmed);
        }
        self.last_heard = self.now;
        self.unanswered = (self.recovery.in_flight() > 0).then_some(self.now);
        if self.is_closed() {
            return self.handle_while_closing(opened.plaintext);
        }
        let number = opened.number;
        let mut seen = FrameSummary::default();
        for frame in Frames::new(opened.plaintext) {
            let result = match frame {
                Ok(frame) => self.handle_frame(frame, &mut seen, sink),
                Err(_) => Err(VIOLATION),
            };
            match result {
                // A channel that had to be reset is reset already.
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
            if self.life == Lifecycle::Closed {
                return Ok(());
            }
        }
        self.acks.handle_packet(self.now, number, seen.eliciting, seen.urgent);
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
            UnsealError::OtherKey => {
                self.stats.dropped_other_key += 1;
                Dropped::OtherKey
            }
            UnsealError::Forged => {
                self.stats.dropped_auth += 1;
                Dropped::Auth
            }
            UnsealError::Spent => {
                self.stats.dropped_closed += 1;
                self.start_closing(CloseCode::KEY_EXHAUSTED);
                Dropped::Closed
            }
        }
    }

    /// Only one thing matters now: whether the peer has heard it, or says goodbye itself.
    fn handle_while_closing(&mut self, plaintext: &[u8]) -> Result<(), Dropped> {
        self.stats.dropped_closed += 1;
        let Lifecycle::Closing { code, due, repeats, .. } = &mut self.life else {
            return Err(Dropped::Closed);
        };
        if Frames::new(plaintext).any(|frame| matches!(frame, Ok(Frame::Close(_)))) {
            let code = *code;
            self.terminate(code, false);
        } else if *repeats < CLOSE_REPEATS {
            *repeats += 1;
            *due = true;
        }
        Err(Dropped::Closed)
    }

    fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        seen: &mut FrameSummary,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        seen.eliciting |= !matches!(frame, Frame::Ack(_) | Frame::Pong(_) | Frame::Close(_));
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
                // A second one could only be there to cost time.
                if core::mem::replace(&mut seen.ack, true) {
                    return Err(VIOLATION);
                }
                self.handle_ack(&ack)
            }
            Frame::Control(offset, bytes) => {
                seen.urgent = true;
                self.control_rx.handle_piece(offset, bytes)?;
                self.read_messages();
                if let Lifecycle::Closing { code, .. } = self.life { Err(Fault::Close(code)) } else { Ok(()) }
            }
            Frame::Ping(token) => {
                self.pong = Some(token);
                Ok(())
            }
            Frame::Pong(_) => Ok(()),
            Frame::Close(code) => {
                self.terminate(code, true);
                Ok(())
            }
        }
    }

    /// Does something with a channel that we opened, then looks what follows from it.
    fn with_rx(
        &mut self,
        label: u32,
        act: impl FnOnce(&mut RxChannel, &mut Budget) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some(label) = self.rx_label(label)? else { return Ok(()) };
        let Some(channel) = self.rx_channels.get_mut(label) else { return Ok(()) };
        if !channel.is_open() {
            // ACCEPT came, as the producer waits for our acknowledgement of it; nobody has polled it yet.
            return Err(Fault::Refuse);
        }
        let result = act(channel, &mut self.budget);
        if channel.is_finished() && result.is_ok() {
            self.finished(label);
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
            return match self.tx_channels.judge(label) {
                LabelStatus::Never => Err(VIOLATION),
                LabelStatus::Open | LabelStatus::Stale => {
                    self.stats.stale_frames += 1;
                    Ok(())
                }
            };
        };
        channel.handle_credit(credit.seq.get(), credit.offset.get());
        if channel.wants_turn() {
            let weight = channel.weight();
            self.drr.activate(label.slot() as u32, weight);
        }
        Ok(())
    }

    fn handle_ack(&mut self, ack: &Ack<'_>) -> Result<(), Fault> {
        if ack.epoch != 0 {
            return Err(VIOLATION);
        }
        self.stats.acks_received += 1;
        let Self { recovery, fates, keys, now, .. } = self;
        let outcome = recovery
            .handle_ack(*now, ack, keys.sealer.next_number(), &mut |fate, record| fates.push((fate, record)))
            .map_err(|()| VIOLATION)?;
        if outcome.acked_to > 0 {
            self.acks.forget_to(outcome.acked_to);
        }
        self.apply(&outcome);
        Ok(())
    }

    /// Tells the controller, and acts on the records.
    pub(super) fn apply(&mut self, outcome: &RecoveryOutcome) {
        if let Some(sent) = outcome.youngest_acked {
            let limited = outcome.in_flight_before.saturating_mul(2) >= self.controller.window();
            let srtt = self.recovery.rtt.measured_ns();
            self.controller.handle_ack(self.now, sent, outcome.acked_bytes, srtt, limited);
        }
        if let Some(sent) = outcome.youngest_lost {
            self.stats.packets_lost += outcome.lost;
            self.controller.handle_loss(self.now, sent);
        }
        if self.recovery.in_flight() == 0 {
            self.unanswered = None;
        }
        self.settle_fates();
    }
}
