//! What the owner of a session asks for. A verb only changes what the next packets will carry.

use alloc::{boxed::Box, vec::Vec};

use super::{BlockedFrame, CloseCode, ControlError, NoChannel, OpenChannelError, Session, SessionEvent};
use crate::{
    channel::{
        Accept, ChannelStats, Label, MAX_TICKETS, OpenRequest, RxChannel, TxChannel, TxStage, TypeName,
        longest_held,
    },
    mutate,
    time::Instant,
    wire::frames::message::{MESSAGE_HEADER_BYTES, SMALL_MESSAGE_BYTES, SessionMessage, open_bytes},
};

impl Session {
    /// Consumer: asks for a stream. [`SessionEvent::Accepted`] or [`SessionEvent::Rejected`] follows.
    pub fn open(&mut self, mut request: OpenRequest) -> Result<Label, OpenChannelError> {
        // A longer datum could never be assembled.
        let held = u32::try_from(longest_held(self.config.limits.max_held_bytes)).unwrap_or(u32::MAX);
        request.max_datum_bytes = request.max_datum_bytes.min(held);
        if self.is_closed() {
            return Err(OpenChannelError::Closed);
        }
        let limit = self.config.limits.max_control_bytes;
        let len = open_bytes(&request) - MESSAGE_HEADER_BYTES;
        if len > limit {
            return Err(OpenChannelError::TooLarge { len, limit });
        }
        if request.tickets.len() > MAX_TICKETS {
            return Err(OpenChannelError::TooManyTickets);
        }
        if self.control_tx.queued() + len > self.config.limits.control_queue_bytes {
            return Err(OpenChannelError::Full);
        }
        let label = self.rx_channels.allocate().ok_or(OpenChannelError::TooManyChannels)?;
        let former = self.rx_channels.insert(label, RxChannel::new(label, &request));
        debug_assert!(former.is_none(), "a fresh label has no former owner");
        self.control_tx.push(&SessionMessage::Open(label.wire(), request));
        Ok(label)
    }

    /// Producer: accepts. Datums flow once the consumer has acknowledged it.
    pub fn accept(&mut self, label: Label, accept: Accept) -> Result<(), NoChannel> {
        let channel = self.tx_channels.get_mut(label).ok_or(NoChannel)?;
        let accept = channel.accept(accept).ok_or(NoChannel)?;
        self.drr.clear_debt(label.slot() as u32);
        let end = self.control_tx.push(&SessionMessage::Accept(label.wire(), accept));
        self.accepting.push_back((label, end));
        self.bound_control();
        Ok(())
    }

    /// Producer: refuses, with a code for the consumer. The channel is gone.
    pub fn reject(&mut self, label: Label, code: CloseCode) -> Result<(), NoChannel> {
        self.reject_naming(label, code, TypeName::default())
    }

    /// As [`Session::reject`], with the datum type and codec of the producer, for `TYPE_MISMATCH`.
    pub fn reject_naming(&mut self, label: Label, code: CloseCode, name: TypeName) -> Result<(), NoChannel> {
        if self.tx_channels.get(label).is_none_or(|channel| channel.stage() != TxStage::Requested) {
            return Err(NoChannel);
        }
        self.drop_tx(label);
        self.control_tx.push(&SessionMessage::Reject(label.wire(), code, name));
        self.bound_control();
        Ok(())
    }

    /// Producer: the stream ends before `end_seq`, or behind the last datum sent if that is later. The datums
    /// before it, which may still be published, are delivered first; [`SessionEvent::Finished`] follows when
    /// the peer has them and knows that they are all.
    pub fn finish(&mut self, label: Label, end_seq: u64) -> Result<(), NoChannel> {
        let channel = self.tx_channels.get_mut(label).ok_or(NoChannel)?;
        if channel.stage() == TxStage::Requested {
            return Err(NoChannel);
        }
        channel.finish(end_seq);
        self.send_fin_if_due(label, false);
        Ok(())
    }

    /// Either side: ends the channel at once. It is gone; no event follows here, so its counters are to be
    /// read before.
    pub fn reset(&mut self, label: Label, code: CloseCode) -> Result<(), NoChannel> {
        self.reset_with(label, code, None)
    }

    /// Producer: as [`Session::reset`] with [`CloseCode::DISCARDED`]. The consumer is told that the stream
    /// ended before `end_seq`, so that it knows how many datums it did not get.
    pub fn discard(&mut self, label: Label, end_seq: u64) -> Result<(), NoChannel> {
        self.reset_with(label, CloseCode::DISCARDED, Some(end_seq))
    }

    fn reset_with(&mut self, label: Label, code: CloseCode, end_seq: Option<u64>) -> Result<(), NoChannel> {
        if !self.drop_channel(label) {
            return Err(NoChannel);
        }
        let sender_opened = !label.is_by_peer();
        self.control_tx.push(&SessionMessage::Reset { label: label.wire(), code, sender_opened, end_seq });
        self.bound_control();
        Ok(())
    }

    /// Ends the session with `code`, which CLOSE frames carry to the peer. [`SessionEvent::Closed`]
    /// follows after `close_linger`, on a long path after three probe timeouts.
    ///
    /// With `GRACEFUL` the CLOSE waits for the acknowledgement of messages that were queued before, such as
    /// the end of a stream; not for datums. It waits for eight probe timeouts at most.
    pub fn close(&mut self, now: Instant, code: CloseCode) {
        self.advance_clock(now);
        if code == CloseCode::GRACEFUL {
            self.start_closing_in_order();
        } else {
            self.start_closing(code);
        }
    }

    /// Producer: datums below `end_seq` can be fetched from the source. Cheap; to be called in each turn in
    /// which something was published, and again after the source answered `NotYet`.
    pub fn publish(&mut self, label: Label, end_seq: u64) {
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        channel.publish(end_seq);
        self.schedule_or_block(label);
    }

    /// Producer: every sequence below is acknowledged (Reliable) or sent (FireAndForget), and is never
    /// fetched again.
    pub fn released(&self, label: Label) -> Option<u64> {
        self.tx_channels.get(label).map(TxChannel::released)
    }

    /// Consumer: what the application took, absolute. `taken_seq` is one past the sequence of the last datum
    /// taken, `taken_bytes` the sum of [`crate::channel::datum_cost`] over all datums taken since the channel
    /// opened. Values that go back, or beyond what was delivered, are clamped.
    pub fn grant(&mut self, label: Label, taken_seq: u64, taken_bytes: u64) {
        let Some(channel) = self.rx_channels.get_mut(label) else { return };
        channel.grant(taken_seq, taken_bytes);
        if channel.wants_credit() {
            self.queue_credit(label);
        }
    }

    /// Queues a message for the peer's owner, who gets it as [`SessionEvent::Control`]. Messages are
    /// reliable, in order among themselves, and sent in pieces when needed.
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
        self.control_tx.push(&SessionMessage::Record(message));
        Ok(())
    }

    /// Counters of a channel; `None` when it is gone.
    pub fn stats(&self, label: Label) -> Option<ChannelStats> {
        if label.is_by_peer() {
            self.tx_channels.get(label).map(TxChannel::stats)
        } else {
            self.rx_channels.get(label).map(RxChannel::stats)
        }
    }

    /// Closes the session when its own messages exceed a few per channel: the peer causes them and
    /// acknowledges none.
    pub(super) fn bound_control(&mut self) {
        let limits = &self.config.limits;
        let own = limits.max_channels * 4 * SMALL_MESSAGE_BYTES + limits.max_control_bytes;
        if self.control_tx.queued() > limits.control_queue_bytes + own {
            self.start_closing(CloseCode::NO_CAPACITY);
        }
    }

    pub(super) fn drop_tx(&mut self, label: Label) -> Option<Box<TxChannel>> {
        let channel = self.tx_channels.remove(label)?;
        self.forget_channel(&channel);
        self.idle_since = self.now;
        Some(channel)
    }

    /// A channel is gone, and with it what it had to send again and its booking.
    pub(super) fn forget_channel(&mut self, channel: &TxChannel) {
        self.forget_held(channel);
        self.resend_entries -= channel.resend_entries();
        self.large.change(channel.large_bytes(), 0);
        self.wake_crowded();
    }

    pub(super) fn drop_rx(&mut self, label: Label) -> Option<()> {
        let channel = self.rx_channels.remove(label)?;
        channel.release(&mut self.budget);
        self.idle_since = self.now;
        Some(())
    }

    /// Drops a channel of either table; returns whether there was one.
    pub(super) fn drop_channel(&mut self, label: Label) -> bool {
        if label.is_by_peer() { self.drop_tx(label).is_some() } else { self.drop_rx(label).is_some() }
    }

    /// Resets a channel on behalf of the session, and reports it.
    pub(super) fn reset_channel(&mut self, label: Label, code: CloseCode) {
        let stats = Box::new(self.stats(label).unwrap_or_default());
        if self.reset(label, code).is_ok() {
            self.events.push_back(SessionEvent::Reset { label, code, by_peer: false, stats });
        }
    }

    /// The channel ended in good order: removes and reports it.
    pub(super) fn finish_channel(&mut self, label: Label) {
        let stats = Box::new(self.stats(label).unwrap_or_default());
        self.drop_channel(label);
        self.events.push_back(SessionEvent::Finished { label, stats });
    }

    /// Sends FIN if the end is known and nothing keeps it back. Called when datums were sent or the end
    /// became known. `packed`: the packet that is being filled has datums of the channel.
    pub(super) fn send_fin_if_due(&mut self, label: Label, packed: bool) {
        let Some(channel) = self.tx_channels.get(label) else { return };
        if channel.end().is_none() || channel.fin_sent || channel.stage() == TxStage::Requested {
            return;
        }
        if channel.is_reliable() {
            self.send_fin(label);
        } else if channel.is_all_sent() {
            // A FireAndForget consumer counts what has not arrived before FIN as lost, so packets in flight
            // go first.
            let under_way = self.recovery.oldest().is_some_and(|oldest| oldest <= channel.last_packet);
            if mutate!(packed || under_way, "fin-overtakes-datums" => under_way) {
                self.draining.insert((channel.last_packet, label));
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
        let sent = self.control_tx.push(&SessionMessage::Fin(label.wire(), end));
        self.finishing.push_back((label, sent));
        self.bound_control();
    }

    /// The channel has data and no credit: reports that to the consumer, now or by the timer.
    pub(super) fn block_channel(&mut self, label: Label) {
        let Some(channel) = self.tx_channels.get_mut(label) else { return };
        if !channel.block() {
            return;
        }
        // A FireAndForget consumer counts what has not arrived before BLOCKED as lost, so packets in flight
        // go first.
        let first = if channel.is_reliable() {
            Self::queue_blocked(channel, BlockedFrame::Notice, &mut self.blocked);
            self.config.blocked_probe
        } else {
            self.recovery.timeout()
        };
        self.credit_wait.push(channel, self.now + first);
    }
}
