//! Channels that wait for what they have booked under a limit of the owner's.
//!
//! Not inside: the limits, which sessions may share ([`DatumSource::book`](super::DatumSource::book)), and
//! the bookings (`channel`).

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use super::{NoChannel, Session};
use crate::{channel::Label, time::Instant};

/// When channels go on.
#[derive(Debug, Default)]
pub(super) struct EgressWait {
    /// Slots of `tx_channels`, the earliest first. Those whose channel waits for another time, or for none,
    /// are passed over.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl EgressWait {
    /// The channel in `slot` waits until `at`.
    pub(super) fn push(&mut self, at: Instant, slot: u32) {
        self.due.push(Reverse((at, slot)));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
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
            if let Some(channel) =
                self.tx_channels.at(slot).filter(|channel| channel.held_until() == Some(at))
            {
                channel.go_on(self.now);
                Self::schedule(channel, &mut self.drr);
            }
        }
    }
}
