//! Acting on the messages of the control stream.
//!
//! The stream is reliable and in order, so a message that contradicts an earlier one is a violation. One that
//! names a channel which this side has ended meanwhile is not.
//!
//! Not inside: reassembly of the stream (`control`).

use alloc::boxed::Box;

use super::{CloseCode, Session, SessionEvent, VIOLATION, table::LabelStatus};
use crate::{
    channel::{Accept, Fault, Label, OpenRequest, TxChannel, TypeName},
    wire::frames::message::SessionMessage,
};

impl Session {
    /// Acts on the messages that have arrived whole, while there is room for their events.
    pub(super) fn read_messages(&mut self) {
        while !self.is_closed() && self.events.len() < self.config.limits.max_events {
            let result = match self.control_rx.poll_message() {
                None => return,
                Some(Ok(message)) => self.handle_message(message),
                Some(Err(code)) => Err(Fault::Close(code)),
            };
            if let Err(Fault::Close(code)) = result {
                self.start_closing(code);
            }
        }
    }

    pub(super) fn handle_message(&mut self, message: SessionMessage) -> Result<(), Fault> {
        self.idle_since = self.now;
        match message {
            SessionMessage::Open(label, request) => self.handle_open(label, request),
            SessionMessage::Accept(label, accept) => self.handle_accept(label, accept),
            SessionMessage::Reject(label, code, type_name) => {
                let Some(label) = self.rx_label(label)? else { return Ok(()) };
                if self.rx_channels.get(label).is_some_and(|channel| channel.is_open()) {
                    return Err(VIOLATION);
                }
                self.drop_rx(label);
                self.events.push_back(SessionEvent::Rejected { label, code, type_name });
                Ok(())
            }
            SessionMessage::Fin(label, end_seq) => {
                let Some(label) = self.rx_label(label)? else { return Ok(()) };
                let Some(channel) = self.rx_channels.get_mut(label) else { return Ok(()) };
                channel.handle_fin(end_seq)?;
                if channel.is_finished() {
                    self.finish_channel(label);
                }
                Ok(())
            }
            SessionMessage::Reset { label, code, sender_opened, end_seq } => {
                let label = Label::from_wire(label, sender_opened).ok_or(VIOLATION)?;
                // The opener may reset a channel that was refused for its rate and never entered the table.
                if let Some(mut stats) = self.stats(label) {
                    if let (Some(channel), Some(end_seq)) = (self.rx_channels.get_mut(label), end_seq) {
                        channel.handle_discard(end_seq)?;
                        stats.in_order = end_seq;
                    }
                    self.drop_channel(label);
                    let stats = Box::new(stats);
                    self.events.push_back(SessionEvent::Reset { label, code, by_peer: true, stats });
                }
                Ok(())
            }
            SessionMessage::Settings { max_ack_delay, large_bytes } => {
                self.recovery.declare_ack_delay(max_ack_delay);
                self.large.declare(large_bytes);
                Ok(())
            }
            SessionMessage::Record(bytes) => {
                self.events.push_back(SessionEvent::Control(bytes));
                Ok(())
            }
        }
    }

    /// The label of a channel that was opened here; `None` when the channel is gone.
    pub(super) fn rx_label(&mut self, label: u32) -> Result<Option<Label>, Fault> {
        let label = Label::from_wire(label, false).ok_or(VIOLATION)?;
        match self.rx_channels.status(label) {
            LabelStatus::Open => Ok(Some(label)),
            LabelStatus::Stale => {
                self.stats.stale_frames += 1;
                Ok(None)
            }
            LabelStatus::Unused => Err(VIOLATION),
        }
    }

    fn handle_open(&mut self, label: u32, request: OpenRequest) -> Result<(), Fault> {
        let label = Label::from_wire(label, true).ok_or(VIOLATION)?;
        if self.tx_channels.status(label) != LabelStatus::Unused {
            return Err(VIOLATION);
        }
        if !self.tx_channels.admits(label) || !self.open_rate.take(self.now) {
            self.stats.opens_refused += 1;
            let refusal = (CloseCode::NO_CAPACITY, TypeName::default());
            self.control_tx.push(&SessionMessage::Reject(label.wire(), refusal.0, refusal.1));
            self.bound_control();
            return Ok(());
        }
        // The opener reuses a slot only when its former channel has ended there, so it has ended here too.
        let former = self.tx_channels.insert(label, TxChannel::new(label, &request));
        if let Some(former) = former {
            self.forget_channel(&former);
            let label = former.label();
            let stats = Box::new(former.stats());
            self.events.push_back(if former.fin_sent {
                SessionEvent::Finished { label, stats }
            } else {
                SessionEvent::Reset { label, code: CloseCode::SUPERSEDED, by_peer: true, stats }
            });
        }
        self.events.push_back(SessionEvent::Opened { label, request });
        Ok(())
    }

    fn handle_accept(&mut self, label: u32, accept: Accept) -> Result<(), Fault> {
        let Some(label) = self.rx_label(label)? else { return Ok(()) };
        let Some(channel) = self.rx_channels.get_mut(label) else { return Ok(()) };
        channel.handle_accept(accept.first_seq, accept.max_datum_bytes, accept.reliability)?;
        let accept = Accept { max_datum_bytes: channel.max_datum(), ..accept };
        self.events.push_back(SessionEvent::Accepted { label, accept });
        Ok(())
    }

    /// The peer has received more of the control stream: channels whose ACCEPT is in it may send datums, and
    /// those whose FIN is in it may be over.
    pub(super) fn handle_control_acked(&mut self) {
        self.idle_since = self.now;
        while let Some((label, _)) =
            self.accepting.front().copied().filter(|(_, end)| *end <= self.control_tx.base())
        {
            self.accepting.pop_front();
            let Some(channel) = self.tx_channels.get_mut(label) else { continue };
            channel.handle_accept_acked();
            self.schedule_or_block(label);
            self.send_fin_if_due(label, false);
        }
        while let Some((label, _)) =
            self.finishing.front().copied().filter(|(_, end)| *end <= self.control_tx.base())
        {
            self.finishing.pop_front();
            let Some(channel) = self.tx_channels.get_mut(label) else { continue };
            channel.fin_acked = true;
            if channel.is_finished() {
                self.finish_channel(label);
            }
        }
    }
}
