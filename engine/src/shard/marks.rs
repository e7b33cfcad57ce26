//! Marks: what is to happen when a channel needs no record below a sequence any more.
//!
//! A mark is looked at in each turn until it is reached or its channel is gone; then it is dropped, because
//! the event that reports the channel's end says where it stopped. There are few: one for each flush of a
//! publication, and one for each channel of a stream that its producer aborted.

use corewire_proto::{channel::Label, session::CloseCode, wire::header::ReceiverIndex};

use super::{
    ShardCore,
    channel::ChannelRole,
    command::Event,
    table::{ChannelSlot, SessionSlot},
};

/// A mark of one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelMark {
    session: SessionSlot,
    /// Of the session, whose slot may have another owner by now.
    index: ReceiverIndex,
    label: Label,
    /// The mark is reached when the channel has released every record below.
    seq: u64,
    act: MarkAct,
}

/// What happens when a mark is reached.
#[derive(Clone, Copy, Debug)]
enum MarkAct {
    /// The clerk is told.
    Tell,
    /// The channel ends.
    Reset(CloseCode),
}

impl ShardCore {
    /// Tells the clerk when a producer's end has released every record below `seq`.
    pub(crate) fn mark(&mut self, index: ReceiverIndex, label: Label, seq: u64) {
        match self.find(index) {
            Some(session) => {
                let act = MarkAct::Tell;
                self.marks.push(ChannelMark { session, index, label, seq, act });
                self.work.did = true;
            }
            None => self.count_stale(),
        }
    }

    /// Ends a producer's end with `code` when it has released every record below `seq`.
    pub(crate) fn reset_at(&mut self, channel: ChannelSlot, seq: u64, code: CloseCode) {
        let Some(channel) = self.channels.get(channel) else { return };
        let (session, label) = (channel.session, channel.label);
        let Some(index) = self.sessions.get(session).map(|entry| entry.index) else { return };
        self.marks.push(ChannelMark { session, index, label, seq, act: MarkAct::Reset(code) });
        self.work.did = true;
    }

    /// Acts on the marks that are reached.
    pub(crate) fn check_marks(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        let mut marks = std::mem::take(&mut self.marks);
        marks.retain(|mark| {
            let Some(released) = self.released_by(mark) else { return false };
            if released < mark.seq {
                return true;
            }
            let ChannelMark { session, index, label, seq, act } = *mark;
            self.work.did = true;
            match act {
                // At most one for each mark that the clerk has set: bounded.
                MarkAct::Tell => self.reply(Event::Marked { index, label, seq }),
                MarkAct::Reset(code) => self.reset_channel(session, label, code),
            }
            false
        });
        self.marks = marks;
    }

    /// How far the channel of a mark has released its ring; `None` when it is gone.
    fn released_by(&self, mark: &ChannelMark) -> Option<u64> {
        let entry = self.sessions.get(mark.session).filter(|entry| entry.index == mark.index)?;
        match self.channels.get(entry.labels.get(mark.label)?)?.role {
            ChannelRole::Producer(producer) => Some(producer.released),
            _ => None,
        }
    }
}
