//! Marks: what is to happen when a channel needs no record below a sequence any more.
//!
//! A channel keeps its marks itself, at most one of each kind, and looks at them when it releases records.
//! They end with the channel: the event that reports its end says where it stopped.

use corewire_proto::{channel::Label, session::CloseCode, wire::header::ReceiverIndex};

use super::{ShardCore, channel::ChannelRole, command::Event, table::ChannelSlot};

/// The marks of one channel, at the producer's end. A mark is reached when every record below its sequence is
/// released.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChannelMarks {
    /// The clerk is told.
    tell: Option<u64>,
    /// The channel ends with this code.
    reset: Option<(u64, CloseCode)>,
}

impl ShardCore {
    /// Tells the clerk when a producer's end has released every record below `seq`. Takes the place of an
    /// earlier such mark of the channel.
    pub(crate) fn mark(&mut self, index: ReceiverIndex, label: Label, seq: u64) {
        let Some(session) = self.find(index) else { return self.count_stale() };
        if let Some(channel) = self.sessions.get(session).and_then(|entry| entry.labels.get(label)) {
            self.set_mark(channel, |marks| marks.tell = Some(seq));
        }
    }

    /// Ends a producer's end with `code` when it has released every record below `seq`.
    pub(crate) fn reset_at(&mut self, channel: ChannelSlot, seq: u64, code: CloseCode) {
        self.set_mark(channel, |marks| marks.reset = Some((seq, code)));
    }

    fn set_mark(&mut self, slot: ChannelSlot, set: impl FnOnce(&mut ChannelMarks)) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        if let ChannelRole::Producer(producer) = &mut channel.role {
            set(&mut producer.marks);
            self.check_marks(slot);
        }
    }

    /// Acts on the marks that a channel has reached.
    pub(crate) fn check_marks(&mut self, slot: ChannelSlot) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        let (session, label) = (channel.session, channel.label);
        let ChannelRole::Producer(producer) = &mut channel.role else { return };
        let released = producer.released;
        let tell = producer.marks.tell.take_if(|seq| *seq <= released);
        let reset = producer.marks.reset.take_if(|(seq, _)| *seq <= released);
        if let Some(seq) = tell
            && let Some(index) = self.sessions.get(session).map(|entry| entry.index)
        {
            self.work.did = true;
            // At most one for each command of the clerk's: bounded.
            self.reply(Event::Marked { index, label, seq });
        }
        if let Some((_, code)) = reset {
            self.work.did = true;
            self.reset_channel(session, label, code);
        }
    }
}
