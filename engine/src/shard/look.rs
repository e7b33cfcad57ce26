//! Rings get attention: those that are awake each turn, the others when they ask.
//!
//! Not inside: one ring's state (`super::stream`). Here is what news mean to the channels of a ring, and how a
//! ring is joined and left.

use corewire_proto::session::CloseCode;

use super::{
    Core,
    channel::Role,
    notifier::Notification,
    stream::{Look, QUIET_TURNS, RECORDS_PER_LOOK, Watch},
};
use crate::counters::Counter;

impl Core {
    /// Takes the marks of other threads: rings with news become awake, consumers' progress becomes credit.
    pub(crate) fn take_marks(&mut self) {
        if !self.notifier.any() {
            return;
        }
        self.work.did = true;
        let mut notifications = std::mem::take(&mut self.notifications);
        self.notifier.drain(|what| notifications.push(what));
        for what in notifications.drain(..) {
            match what {
                Notification::Ring(slot) => self.wake_ring(slot),
                Notification::Inbox(slot) => self.grant(slot),
            }
        }
        self.notifications = notifications;
    }

    /// A ring asked for attention: it has news, it ended, or it has cut us off (which shows when it is armed
    /// again). A mark for an earlier ring in the same slot finds one that is awake, or wakes
    /// one in vain, which costs a few looks.
    fn wake_ring(&mut self, slot: u32) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.watch != Watch::Armed {
            return;
        }
        self.counters.bump(Counter::RingsWoken);
        stream.watch = Watch::Awake(0);
        self.awake.push(slot);
    }

    /// Looks at every ring that is awake, and arms those that have been quiet for long.
    pub(crate) fn look_at_rings(&mut self) {
        if self.awake.is_empty() {
            return;
        }
        self.counters.add(Counter::RingPolls, self.awake.len() as u64);
        let mut place = 0;
        while let Some(&slot) = self.awake.get(place) {
            let Some(stream) = self.streams.get_mut(slot) else {
                self.awake.swap_remove(place);
                continue;
            };
            let before = stream.published;
            match stream.look() {
                Look::News(end) => {
                    stream.watch = Watch::Awake(0);
                    self.work.did = true;
                    self.counters.bump(Counter::RingNews);
                    if end - before >= RECORDS_PER_LOOK as u64 {
                        self.counters.bump(Counter::RingBound);
                    }
                    self.announce(slot, end);
                }
                Look::Ended => {
                    stream.watch = Watch::Ended;
                    let end = stream.published;
                    self.work.did = true;
                    self.awake.swap_remove(place);
                    self.announce_end(slot, end);
                    continue;
                }
                Look::Quiet => {
                    let quiet = match stream.watch {
                        Watch::Awake(quiet) => quiet.saturating_add(1),
                        _ => 0,
                    };
                    stream.watch = Watch::Awake(quiet);
                    if quiet >= QUIET_TURNS && self.arm(slot) {
                        self.awake.swap_remove(place);
                        continue;
                    }
                }
            }
            place += 1;
        }
    }

    /// Leaves it to a ring to call. `false`: it stays awake, because there is something to look at.
    fn arm(&mut self, slot: u32) -> bool {
        let Some(stream) = self.streams.get_mut(slot) else { return true };
        if stream.arm() {
            self.counters.bump(Counter::RingsArmed);
            return true;
        }
        // News, the end, or the ring's word that it has cut us off.
        if !stream.check() {
            self.cut.push(slot);
        }
        false
    }

    /// Arms every ring, before a sleep. `false`: one of them has something.
    pub(crate) fn arm_all(&mut self) -> bool {
        while let Some(&slot) = self.awake.last() {
            if !self.arm(slot) {
                return false;
            }
            self.awake.pop();
        }
        true
    }

    /// Tells the channels of a stream how far its ring is published.
    fn announce(&mut self, slot: u32, end: u64) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let legs = std::mem::take(&mut stream.legs);
        for &leg in &legs {
            let Some(channel) = self.channels.get(leg) else { continue };
            let (session, label) = (channel.session, channel.label);
            if let Some(seat) = self.sessions.get_mut(session) {
                seat.session.publish(label, end);
            }
            self.touch(session);
        }
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.legs = legs;
        }
    }

    /// The ring is closed and all of it is known: the channels end once they have sent it.
    fn announce_end(&mut self, slot: u32, end: u64) {
        let Some(stream) = self.streams.get(slot) else { return };
        for leg in stream.legs.clone() {
            self.finish(leg, end);
        }
    }

    /// Ends a channel at `end` in good order.
    pub(crate) fn finish(&mut self, channel_slot: u32, end: u64) {
        let Some(channel) = self.channels.get_mut(channel_slot) else { return };
        let (session, label) = (channel.session, channel.label);
        let Role::Producer(producer) = &mut channel.role else { return };
        producer.finishing = true;
        if let Some(seat) = self.sessions.get_mut(session) {
            // Without such a channel in the session, its end is among the events already.
            let _ = seat.session.finish(label, end);
        }
        self.touch(session);
    }

    /// A channel leaves its stream; the last one takes the cursor along.
    pub(crate) fn leave_stream(&mut self, slot: u32, leg: u32) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let at = leg as usize;
        if at < stream.legs.len() {
            stream.legs.swap_remove(at);
        }
        if let Some(&moved) = stream.legs.get(at)
            && let Some(Role::Producer(producer)) = self.channels.get_mut(moved).map(|c| &mut c.role)
        {
            producer.leg = leg;
        }
        // Perhaps it was the one that held the ring back.
        if !stream.floor_stale {
            stream.floor_stale = true;
            self.floors.push(slot);
        }
        self.part_if_unused(slot);
    }

    /// Gives up a stream that serves no channel.
    pub(crate) fn part_if_unused(&mut self, slot: u32) {
        if self.streams.get(slot).is_none_or(|stream| !stream.legs.is_empty()) {
            return;
        }
        if let Some(mut stream) = self.streams.remove(slot) {
            stream.unpin();
            self.counters.add(Counter::RecordsLost, stream.take_lost());
            self.by_ring.remove(&stream.ring().id());
            // Entries in the lists of this turn find another stream in the slot, or none; both are harmless.
            self.awake.retain(|&awake| awake != slot);
        }
    }

    /// Moves the cursors of rings up to what their channels still need, and lets go of what was pinned.
    pub(crate) fn settle_rings(&mut self) {
        let mut floors = std::mem::take(&mut self.floors);
        for slot in floors.drain(..) {
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            if !std::mem::take(&mut stream.floor_stale) {
                continue;
            }
            let released = |&leg: &u32| match self.channels.get(leg)?.role {
                Role::Producer(producer) => Some(producer.released),
                _ => None,
            };
            if let Some(floor) = stream.legs.iter().filter_map(released).min() {
                stream.floor = stream.floor.max(floor);
            }
            stream.release();
            if stream.detached {
                self.cut.push(slot);
            }
        }
        self.floors = floors;
        let mut pinned = std::mem::take(&mut self.pinned);
        for slot in pinned.drain(..) {
            if let Some(stream) = self.streams.get_mut(slot) {
                stream.unpin();
                self.counters.add(Counter::RecordsLost, stream.take_lost());
            }
        }
        self.pinned = pinned;
        if !self.cut.is_empty() {
            self.end_cut_streams();
        }
    }

    /// A ring took the cursor away: all its channels were too slow together.
    fn end_cut_streams(&mut self) {
        for slot in std::mem::take(&mut self.cut) {
            let Some(stream) = self.streams.get(slot) else { continue };
            if !stream.detached {
                continue;
            }
            self.counters.bump(Counter::RingsDetached);
            for leg in stream.legs.clone() {
                let Some(channel) = self.channels.get(leg) else { continue };
                let (session, label) = (channel.session, channel.label);
                self.reset_channel(session, label, CloseCode::TOO_SLOW);
            }
        }
    }
}
