//! How other threads wake a shard and tell it what to look at.
//!
//! A notification is a bit that says "poll this ring" or "look at this inbox"; the shard then reads the ring
//! or the inbox itself. Notifications coalesce, so their memory depends on the configuration alone. The
//! sleeper protocol is [`corewire_rings::Doorbell`]'s; a wake-up that comes before the shard has reached its
//! sleep is kept by the sleeper's waker.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use corewire_rings::NotifyBits;

use super::table::{ChannelSlot, SlabSlot, StreamSlot};

/// What a notification asks the shard to look at, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    /// A stream's ring has records, was closed, or has detached the shard's reader.
    Ring(StreamSlot),
    /// A channel's consumer has opened half its window, or has left.
    Inbox(ChannelSlot),
}

/// Wakes one shard.
#[derive(Debug)]
pub(crate) struct ShardNotifier {
    /// Numbers below `streams` are streams, the others channels.
    bits: NotifyBits,
    /// Streams of the shard, at most.
    streams: u32,
}

impl ShardNotifier {
    /// A notifier for that many slots.
    pub(crate) fn new(streams: usize, channels: usize) -> Arc<Self> {
        let slots = |n: usize| u32::try_from(n).expect("the limits of a shard are far below 2^31");
        let (streams, channels) = (slots(streams), slots(channels));
        Arc::new(Self { bits: NotifyBits::new(streams + channels), streams })
    }

    /// Notifies the shard, and wakes it if it sleeps. One wake-up per sleep reaches the driver.
    pub(crate) fn notify(&self, what: Notification) {
        self.bits.notify(match what {
            Notification::Ring(slot) => slot.to_u32(),
            Notification::Inbox(slot) => self.streams + slot.to_u32(),
        });
    }

    /// Takes all notifications: those of rings first, in the order of their slots.
    pub(crate) fn drain(&self, mut on: impl FnMut(Notification)) {
        self.bits.drain(|number| {
            on(match number.checked_sub(self.streams) {
                None => Notification::Ring(StreamSlot::from_u32(number)),
                Some(slot) => Notification::Inbox(ChannelSlot::from_u32(slot)),
            });
        });
    }

    /// Prepares a sleep, which `sleeper` ends. `true`: the caller looks at the mailbox and the rings once
    /// more, and then may sleep. `false`: there is a notification.
    pub(crate) fn arm(&self, sleeper: &Waker) -> bool {
        self.bits.arm(sleeper)
    }

    /// The shard is awake. Harmless when it was not armed.
    pub(crate) fn disarm(&self) {
        self.bits.disarm();
    }

    /// Whether there is a notification.
    pub(crate) fn any(&self) -> bool {
        self.bits.any()
    }
}

/// The waker of the shard's mailbox: what there is to do stands in the mailbox.
impl Wake for ShardNotifier {
    fn wake(self: Arc<Self>) {
        self.bits.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bits.ring();
    }
}

/// The waker of one ring.
#[derive(Debug)]
pub(crate) struct RingNotifier {
    /// The shard that reads the ring.
    pub(crate) notifier: Arc<ShardNotifier>,
    /// The stream's slot in that shard.
    pub(crate) slot: StreamSlot,
}

impl Wake for RingNotifier {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notifier.notify(Notification::Ring(self.slot));
    }
}

#[cfg(test)]
mod tests {
    use corewire_testkit::CountingWaker;

    use super::*;

    fn ring(slot: u32) -> Notification {
        Notification::Ring(StreamSlot::from_u32(slot))
    }

    fn inbox(slot: u32) -> Notification {
        Notification::Inbox(ChannelSlot::from_u32(slot))
    }

    #[test]
    fn a_sleeping_shard_is_woken_once_and_an_awake_one_never() {
        let (counter, sleeper) = CountingWaker::pair();
        let notifier = ShardNotifier::new(64, 64);
        notifier.notify(ring(1));
        assert!(!notifier.arm(&sleeper), "there is a notification already");
        notifier.drain(|_| {});
        assert!(notifier.arm(&sleeper));
        assert_eq!(counter.wakes(), 0);
        notifier.notify(inbox(5));
        notifier.notify(inbox(6));
        Waker::from(notifier.clone()).wake();
        assert_eq!(counter.wakes(), 1);
        notifier.disarm();
        notifier.notify(ring(2));
        assert_eq!(counter.wakes(), 1);
    }

    #[test]
    fn notifications_come_back_as_they_were_given() {
        let notifier = ShardNotifier::new(3, 100);
        let given = [ring(0), ring(2), inbox(0), inbox(99)];
        given.iter().rev().for_each(|what| notifier.notify(*what));
        assert!(notifier.any());
        let mut seen = Vec::new();
        notifier.drain(|what| seen.push(what));
        assert_eq!(seen, given);
        assert!(!notifier.any());
    }
}
