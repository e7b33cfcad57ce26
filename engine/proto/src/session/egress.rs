//! Channels that wait for what they have booked under a limit of the owner's.
//!
//! Not inside: the limits, which sessions may share ([`DatumSource::book`](super::DatumSource::book)), and
//! the bookings (`channel`).

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use super::{NoChannel, Session};
use crate::{
    channel::{Label, TxChannel},
    time::Instant,
};

/// When channels go on.
#[derive(Debug, Default)]
pub(super) struct EgressWait {
    /// Slots of `tx_channels`, the earliest first. Those whose channel waits for another time, or for none,
    /// are passed over.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Entries whose channel has ended, at most; they leave when they are many.
    ended: usize,
}

/// So many entries of channels that have ended are kept, or half of all entries if that is more. So to remove
/// them costs a constant time for each.
const ENDED_MAX: usize = 64;

impl EgressWait {
    /// The channel in `slot` waits until `at`.
    pub(super) fn push(&mut self, at: Instant, slot: u32) {
        self.due.push(Reverse((at, slot)));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// A channel that waits has ended. `waits`: whether the channel of an entry waits for its time.
    pub(super) fn channel_ended(&mut self, mut waits: impl FnMut(Instant, u32) -> bool) {
        self.ended += 1;
        if self.ended > ENDED_MAX.max(self.due.len() / 2) {
            self.due.retain(|Reverse((at, slot))| waits(*at, *slot));
            self.ended = 0;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    fn pop_due(&mut self, now: Instant) -> Option<(Instant, u32)> {
        self.poll_timeout().filter(|at| *at <= now)?;
        self.due.pop().map(|Reverse(entry)| entry)
    }
}

impl Session {
    /// Producer: from now on the channel sends only what it has booked with
    /// [`DatumSource::book`](super::DatumSource::book). What counts are DATA, FRAGMENT and SKIP frames, also
    /// those that are sent again, and header and tag of the packets with them; not acknowledgements and
    /// control messages.
    pub fn limit(&mut self, label: Label) -> Result<(), NoChannel> {
        self.tx_channels.get_mut(label).ok_or(NoChannel)?.limit();
        Ok(())
    }

    /// The channels go on whose time has come.
    pub(super) fn release_held(&mut self) {
        while let Some((at, slot)) = self.egress.pop_due(self.now) {
            match self.tx_channels.at(slot).filter(|channel| channel.held_until() == Some(at)) {
                Some(channel) => {
                    channel.go_on(self.now);
                    Self::schedule(channel, &mut self.drr);
                }
                None => self.egress.ended = self.egress.ended.saturating_sub(1),
            }
        }
    }

    /// A channel is gone that may have been held back.
    pub(super) fn forget_held(&mut self, channel: &TxChannel) {
        if channel.held_until().is_some() {
            let Self { egress, tx_channels, .. } = self;
            egress.channel_ended(|at, slot| {
                tx_channels.at(slot).is_some_and(|channel| channel.held_until() == Some(at))
            });
        }
    }
}
