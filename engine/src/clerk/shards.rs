//! The clerk's side of the shards: which have room, which indices are free, and commands that wait for a
//! mailbox.

use std::collections::VecDeque;

use corewire_proto::{time::Instant, wire::header::ReceiverIndex};
use corewire_rings::mailbox::TrySendError;

use super::ShardLink;
use crate::{
    shard::{Command, Event},
    shared::limits::Limits,
};

/// How long the clerk waits before it offers commands again to a shard whose mailbox was full.
pub(crate) const SHARD_RETRY: std::time::Duration = std::time::Duration::from_millis(1);

/// One shard, as the clerk sees it.
struct ShardEntry {
    ends: ShardLink,
    /// Commands that found the mailbox full, in order.
    backlog: VecDeque<Command>,
    /// Slots that were used and are free again, oldest first: a late packet for a former owner then rarely
    /// meets a new one.
    free: VecDeque<u32>,
    /// Slots below this were given out at least once.
    fresh: u32,
    /// Slots in use: by handshakes and by sessions.
    used: usize,
    /// It has stopped; no command is sent any more.
    stopped: bool,
    /// The clerk has handled its end.
    ended: bool,
}

/// All shards.
pub(crate) struct Shards {
    links: Vec<ShardEntry>,
    slots: u32,
    backlog: usize,
}

impl Shards {
    pub(crate) fn new(links: Vec<ShardLink>, limits: &Limits) -> Self {
        let links = links
            .into_iter()
            .map(|ends| ShardEntry {
                ends,
                backlog: VecDeque::new(),
                free: VecDeque::new(),
                fresh: 0,
                used: 0,
                stopped: false,
                ended: false,
            })
            .collect();
        let slots = u32::try_from(limits.sessions).unwrap_or(u32::MAX).min(1 << 24);
        Self { links, slots, backlog: limits.backlog }
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// The numbers of all shards.
    pub(crate) fn numbers(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.links.len()).expect("an engine has at most 254 shards")
    }

    /// Whether something new may be begun with this shard.
    pub(crate) fn has_room(&self, shard: u8) -> bool {
        self.links
            .get(usize::from(shard))
            .is_some_and(|link| !link.stopped && link.backlog.len() < self.backlog)
    }

    /// Gives a command to a shard. Never lost while the shard lives, and in order: what does not fit the
    /// mailbox waits here. Beyond the bound only a command that ends something may be sent, see
    /// [`Shards::has_room`].
    pub(crate) fn send(&mut self, shard: u8, command: Command) {
        let Some(link) = self.links.get_mut(usize::from(shard)) else { return };
        if link.stopped {
            return;
        }
        if !link.backlog.is_empty() {
            link.backlog.push_back(command);
            return;
        }
        match link.ends.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(command)) => link.backlog.push_back(command),
            Err(TrySendError::Closed(_)) => link.stopped = true,
        }
    }

    /// As [`Shards::send`] for a datagram that is sent again when it is lost: dropped when the shard is
    /// behind.
    pub(crate) fn send_datagram(&mut self, shard: u8, command: Command) {
        if self.has_room(shard) {
            self.send(shard, command);
        }
    }

    /// Offers again what did not fit. `true` when something still waits.
    pub(crate) fn flush(&mut self) -> bool {
        let mut waits = false;
        for link in &mut self.links {
            while let Some(command) = link.backlog.pop_front() {
                match link.ends.commands.try_send(command) {
                    Ok(()) => {}
                    Err(TrySendError::Full(command)) => {
                        link.backlog.push_front(command);
                        break;
                    }
                    Err(TrySendError::Closed(_)) => {
                        link.stopped = true;
                        link.backlog.clear();
                    }
                }
            }
            waits |= !link.backlog.is_empty();
        }
        waits
    }

    /// When to flush again, if something waits.
    pub(crate) fn wish(&self, now: Instant) -> Option<Instant> {
        self.links.iter().any(|link| !link.backlog.is_empty()).then(|| now + SHARD_RETRY)
    }

    pub(crate) fn next_event(&mut self, shard: usize) -> Option<Event> {
        self.links.get_mut(shard)?.ends.events.try_recv()
    }

    /// Arms every mailbox. `false`: there is an event.
    pub(crate) fn arm(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        let mut quiet = true;
        for link in &mut self.links {
            let events = &mut link.ends.events;
            // A mailbox whose shard is gone is always ready. That is news until the clerk has dealt with it.
            quiet &= events.poll_ready(cx).is_pending() || (link.ended && events.is_finished());
        }
        quiet
    }

    /// Takes a free index on the shard with the fewest. `None`: every shard is full, behind or gone.
    pub(crate) fn take_index(&mut self, random: u32) -> Option<ReceiverIndex> {
        let slots = self.slots;
        let backlog = self.backlog;
        let (shard, link) = self
            .links
            .iter_mut()
            .enumerate()
            .filter(|(_, link)| {
                !link.stopped && link.backlog.len() < backlog && (link.used as u64) < u64::from(slots)
            })
            .min_by_key(|(_, link)| link.used)?;
        let slot = if link.fresh < slots {
            link.fresh += 1;
            link.fresh - 1
        } else {
            link.free.pop_front()?
        };
        link.used += 1;
        // Zero means "no index".
        ReceiverIndex::new(u8::try_from(shard).ok()?, slot, random.max(1))
    }

    /// Gives an index back that is not used any more.
    pub(crate) fn free_index(&mut self, index: ReceiverIndex) {
        let link = self.links.get_mut(usize::from(index.shard())).expect("an index names a shard");
        assert!(link.used > 0, "an index is given back once");
        link.used -= 1;
        link.free.push_back(index.slot());
    }

    /// Indices in use.
    pub(crate) fn used(&self) -> usize {
        self.links.iter().map(|link| link.used).sum()
    }

    pub(crate) fn stop(&mut self, shard: u8) {
        if let Some(link) = self.links.get_mut(usize::from(shard)) {
            link.stopped = true;
            link.ended = true;
            link.backlog.clear();
        }
    }

    /// Whether a shard is gone without [`Event::ShardStopped`], for which its mailbox may have had no room.
    pub(crate) fn has_vanished(&self, shard: usize) -> bool {
        self.links.get(shard).is_some_and(|link| !link.ended && link.ends.events.is_finished())
    }

    pub(crate) fn all_stopped(&self) -> bool {
        self.links.iter().all(|link| link.stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use corewire_proto::session::CloseCode;

    use super::*;
    use crate::clerk::testing::shards;

    #[test]
    fn indices_spread_over_the_shards_and_run_out() {
        let (mut shards, _ends) = shards(2, &Limits { sessions: 3, ..Limits::default() });
        let taken: Vec<_> = std::iter::from_fn(|| shards.take_index(7)).collect();
        assert_eq!(taken.len(), 6);
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(taken.iter().filter(|index| index.shard() == 1).count(), 3);
        shards.free_index(taken[2]);
        let again = shards.take_index(8).expect("one is free again");
        assert_eq!((again.shard(), again.slot()), (taken[2].shard(), taken[2].slot()));
        assert_ne!(again, taken[2]);
    }

    #[test]
    fn commands_keep_their_order_when_the_mailbox_is_full() {
        let (mut shards, mut ends) = shards(1, &Limits { mailbox: 2, backlog: 3, ..Limits::default() });
        let index = |slot| ReceiverIndex::new(0, slot, 1).expect("a valid index");
        for slot in 0..5 {
            assert!(shards.has_room(0));
            shards.send(0, Command::CloseSession { index: index(slot), code: CloseCode::GRACEFUL });
        }
        assert!(!shards.has_room(0));
        let mut seen = Vec::new();
        while seen.len() < 5 {
            while let Some(Command::CloseSession { index, .. }) = ends[0].0.try_recv() {
                seen.push(index.slot());
            }
            shards.flush();
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(shards.has_room(0));
    }

    #[test]
    fn a_shard_that_is_gone_without_an_event_is_noticed_once() {
        let (mut shards, mut ends) = shards(2, &Limits::default());
        let stopped = Event::ShardStopped { shard: 1, failure: None };
        let (_, events) = ends.pop().expect("two shards");
        assert!(events.try_send(stopped).is_ok());
        drop(events);
        assert!(!shards.has_vanished(1), "its last event comes first");
        assert!(shards.next_event(1).is_some());
        assert!(shards.has_vanished(1));
        shards.stop(1);
        assert!(!shards.has_vanished(1) && !shards.has_vanished(0));
        drop(ends);
        assert!(shards.has_vanished(0));
    }

    #[test]
    fn a_shard_that_is_gone_takes_no_memory() {
        let (mut shards, ends) = shards(1, &Limits::default());
        drop(ends);
        let index = ReceiverIndex::new(0, 0, 1).expect("a valid index");
        for _ in 0..10 {
            shards.send(0, Command::CloseSession { index, code: CloseCode::GRACEFUL });
        }
        assert!(shards.all_stopped());
        assert_eq!(shards.take_index(1), None);
        assert_eq!(shards.used(), 0);
    }
}
