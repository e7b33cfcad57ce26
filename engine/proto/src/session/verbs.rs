//! What the owner of a session wants.
//!
//! Not inside: anything that needs a packet; verbs only change what the next packet will say.

use alloc::{boxed::Box, vec::Vec};

use super::{CloseCode, ControlError, Lifecycle, NoChannel, OpenChannelError, Session, SessionEvent};
use crate::{
    channel::{Accept, ChannelStats, Label, OpenRequest, RxChannel, TxChannel, TxStage},
    time::Instant,
    wire::frames::message::{ControlMessage, MESSAGE_HEADER_BYTES, SMALL_MESSAGE_BYTES, open_bytes},
};

impl Session {
    /// Consumer: asks for a stream. [`SessionEvent::Accepted`] or [`SessionEvent::Rejected`] follows.
    pub fn open(&mut self, request: OpenRequest) -> Result<Label, OpenChannelError> {
        if self.is_closed() {
            return Err(OpenChannelError::Closed);
        }
        let limit = self.config.limits.max_control_bytes;
        let len = open_bytes(&request) - MESSAGE_HEADER_BYTES;
        if len > limit || request.tickets.len() > usize::from(u16::MAX) {
            return Err(OpenChannelError::TooLarge { len, limit });
        }
        if self.control_tx.queued() + len > self.config.limits.control_queue_bytes {
            return Err(OpenChannelError::Full);
        }
        let label = self.rx_channels.allocate().ok_or(OpenChannelError::TooManyChannels)?;
        let former = self.rx_channels.insert(label, RxChannel::new(label, &request));
        debug_assert!(former.is_none(), "a fresh label has no former owner");
        self.control_tx.push(&ControlMessage::Open(label.wire(), request));
        Ok(label)
    }

    /// Producer: lets the consumer in. Datums flow once the consumer is known to have heard it.
    pub fn accept(&mut self, label: Label, accept: Accept) -> Result<(), NoChannel> {
        let channel = self.tx_channels.get_mut(label).ok_or(NoChannel)?;
        let accept = channel.accept(accept).ok_or(NoChannel)?;
        self.drr.clear_debt(label.slot() as u32);
        let end = self.control_tx.push(&ControlMessage::Accept(label.wire(), accept));
        self.accepting.push_back((label, end));
        self.bound_control();
        Ok(())
    }

    /// Producer: refuses. The channel is gone.
    pub fn reject(&mut self, label: Label, code: CloseCode) -> Result<(), NoChannel> {
        if self.tx_channels.get(label).is_none_or(|channel| channel.stage() != TxStage::Requested) {
            return Err(NoChannel);
        }
        self.drop_tx(label);
        self.control_tx.push(&ControlMessage::Reject(label.wire(), code));
        self.bound_control();
        Ok(())
    }

    /// Producer: the stream ends before `end_seq` (or, when more was sent already, there). What is before it is
    /// delivered first; [`SessionEvent::Finished`] follows. Datums before it may still be `published`.
    pub fn finish(&mut self, label: Label, end_seq: u64) -> Result<(), NoChannel> {
        let channel = self.tx_channels.get_mut(label).ok_or(NoChannel)?;
        if channel.stage() == TxStage::Requested {
            return Err(NoChannel);
        }
        channel.finish(end_seq);
        self.after_sending(label);
        Ok(())
    }

    /// Either side: cuts the channel. It is gone, no event follows.
    pub fn reset(&mut self, label: Label, code: CloseCode) -> Result<(), NoChannel> {
        let known =
            if label.is_by_peer() { self.drop_tx(label).is_some() } else { self.drop_rx(label).is_some() };
        if !known {
            return Err(NoChannel);
        }
        let sender_opened = !label.is_by_peer();
        self.control_tx.push(&ControlMessage::Reset { label: label.wire(), code, sender_opened });
        self.bound_control();
        Ok(())
    }

    /// Ends the session: the peer is told `code`, repeatedly if it goes on talking. [`SessionEvent::Closed`] follows
    /// after `close_linger`; the owner may drop the session as soon as one more packet has left.
    pub fn close(&mut self, now: Instant, code: CloseCode) {
        self.advance_clock(now);
        self.start_closing(code);
    }

    /// Producer: datums below `end_seq` may be fetched from the source. Cheap; meant to be called in each turn in
    /// which something was published, and again after the source answered `NotYet`.
    pub fn publish(&mut self, label: Label, end_seq: u64) {
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        channel.publish(end_seq);
        if channel.wants_turn() {
            let weight = channel.weight();
            self.drr.activate(label.slot() as u32, weight);
        } else if channel.lacks_credit() {
            self.note_blocked(label);
        }
    }

    /// Producer: everything below is acknowledged (Reliable) or sent (FireAndForget) and will never be fetched
    /// again.
    pub fn released(&self, label: Label) -> Option<u64> {
        self.tx_channels.get(label).map(TxChannel::released)
    }

    /// Consumer: what the application took, absolute. `taken_seq`: one past the sequence of the last datum taken;
    /// `taken_bytes`: the sum of [`crate::channel::datum_cost`] over all datums taken since the channel opened.
    /// Values that go back, or beyond what was delivered, are clamped.
    pub fn grant(&mut self, label: Label, taken_seq: u64, taken_bytes: u64) {
        let Some(channel) = self.rx_channels.get_mut(label) else { return };
        channel.grant(taken_seq, taken_bytes);
        if channel.wants_credit() {
            self.queue_credit(label);
        }
    }

    /// Queues a small message for the peer: reliable, in order among themselves, fragmented when needed. The peer's
    /// owner gets it as [`SessionEvent::Control`].
    pub fn send_control(&mut self, message: Vec<u8>) -> Result<(), ControlError> {
        if self.is_closed() {
            return Err(ControlError::Closed(message));
        }
        let limit = self.config.limits.max_control_bytes;
        if message.len() > limit {
            return Err(ControlError::TooLarge { message, limit });
        }
        let queued = self.control_tx.queued() + message.len() + MESSAGE_HEADER_BYTES;
        if queued > self.config.limits.control_queue_bytes {
            return Err(ControlError::Full(message));
        }
        self.control_tx.push(&ControlMessage::Record(message));
        Ok(())
    }

    /// What a channel counted; `None` when it is gone.
    pub fn stats(&self, label: Label) -> Option<ChannelStats> {
        if label.is_by_peer() {
            self.tx_channels.get(label).map(TxChannel::stats)
        } else {
            self.rx_channels.get(label).map(RxChannel::stats)
        }
    }

    /// Messages that the session sends on its own account are few per channel; a peer that makes it send more
    /// without acknowledging any is at fault.
    pub(super) fn bound_control(&mut self) {
        let limits = &self.config.limits;
        let own = limits.max_channels * 4 * SMALL_MESSAGE_BYTES + limits.max_control_bytes;
        if self.control_tx.queued() > limits.control_queue_bytes + own {
            self.start_closing(CloseCode::NO_CAPACITY);
        }
    }

    pub(super) fn drop_tx(&mut self, label: Label) -> Option<Box<TxChannel>> {
        let channel = self.tx_channels.remove(label)?;
        self.resend_entries -= channel.resend_entries();
        self.idle_since = self.now;
        Some(channel)
    }

    pub(super) fn drop_rx(&mut self, label: Label) -> Option<()> {
        let channel = self.rx_channels.remove(label)?;
        channel.dissolve(&mut self.budget);
        self.idle_since = self.now;
        Some(())
    }

    /// Resets a channel from this side and reports it to the owner.
    pub(super) fn reset_channel(&mut self, label: Label, code: CloseCode) {
        if self.reset(label, code).is_ok() {
            self.events.push_back(SessionEvent::Reset { label, code, by_peer: false });
        }
    }

    /// The channel ended in good order.
    pub(super) fn finished(&mut self, label: Label) {
        let stats = Box::new(self.stats(label).unwrap_or_default());
        if label.is_by_peer() {
            self.drop_tx(label);
        } else {
            self.drop_rx(label);
        }
        self.events.push_back(SessionEvent::Finished { label, stats });
    }

    /// Something was sent, or the end became known: is it time for FIN?
    pub(super) fn after_sending(&mut self, label: Label) {
        let Some(channel) = self.tx_channels.get(label) else { return };
        if channel.end().is_none() || channel.fin_sent || channel.stage() == TxStage::Requested {
            return;
        }
        if channel.is_reliable() {
            self.send_fin(label);
        } else if channel.is_all_sent() {
            // On FireAndForget the consumer takes FIN as the end at once: what is on the way goes first.
            if self.recovery.oldest().is_some_and(|oldest| oldest <= channel.last_packet) {
                if !self.settling.contains(&label) {
                    self.settling.push(label);
                }
            } else {
                self.send_fin(label);
            }
        }
    }

    pub(super) fn send_fin(&mut self, label: Label) {
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        let Some(end) = channel.end() else { return };
        if channel.fin_sent {
            return;
        }
        channel.fin_sent = true;
        let finished = channel.is_finished();
        self.control_tx.push(&ControlMessage::Fin(label.wire(), end));
        if finished {
            self.finished(label);
        }
        self.bound_control();
    }

    /// The channel has data and no credit.
    pub(super) fn note_blocked(&mut self, label: Label) {
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        if !channel.block() {
            return;
        }
        // A FireAndForget consumer takes BLOCKED as news of loss: what is on the way should come first, so the
        // timer sends it.
        let first = if channel.is_reliable() {
            channel.blocked_due.get_or_insert(false);
            Self::queue_blocked(channel, &mut self.blocked);
            self.config.blocked_probe
        } else {
            self.recovery.timeout()
        };
        if !channel.listed_blocked {
            channel.listed_blocked = true;
            if self.waiting.is_empty() {
                self.blocked_backoff = 0;
            }
            self.waiting.push(label);
        }
        let at = self.now + first;
        self.blocked_at = Some(self.blocked_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.life, Lifecycle::Open)
    }
}
