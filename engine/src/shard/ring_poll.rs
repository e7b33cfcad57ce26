//! Polling the rings that this shard reads.
//!
//! Active rings are polled in every turn; idle ones notify the shard. New records are announced to the
//! sessions of the ring's channels. One ring's state is in `super::stream`.

use corewire_proto::{mutate, session::CloseCode};

use super::{
    ShardCore,
    channel::ChannelRole,
    notifier::Notification,
    stream::{
        EMPTY_POLLS_BEFORE_ARMING, EMPTY_POLLS_LEAST, PollMode, PollResult, RECORDS_PER_POLL,
        RINGS_POLLED_LONG, StreamEntry,
    },
    table::{ChannelSlot, StreamSlot},
};
use crate::counters::Counter;

impl ShardCore {
    /// Takes the notifications of other threads: rings with news are polled again, consumers' progress
    /// becomes credit.
    pub(crate) fn take_notifications(&mut self) {
        if !self.notifier.any() {
            return;
        }
        self.work.did = true;
        let mut notifications = std::mem::take(&mut self.notifications);
        self.notifier.drain(|what| notifications.push(what));
        for what in notifications.drain(..) {
            match what {
                Notification::Ring(slot) => self.start_polling(slot),
                Notification::Inbox(slot) => self.grant(slot),
            }
        }
        self.notifications = notifications;
    }

    /// An armed ring notified the shard: it has records, was closed, or has detached the shard's cursor
    /// (which shows when it is armed again). A late notification of an earlier ring in the slot only costs
    /// some polls.
    fn start_polling(&mut self, slot: StreamSlot) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.mode != PollMode::Armed {
            return;
        }
        self.counters.bump(Counter::RingsWoken);
        stream.mode = PollMode::Polling { quiet: 0 };
        self.polled.push(slot);
    }

    /// Polls every active ring, and arms those that were empty for long.
    pub(crate) fn poll_rings(&mut self) {
        if self.polled.is_empty() {
            return;
        }
        self.counters.add(Counter::RingPolls, self.polled.len() as u64);
        let mut place = 0;
        while let Some(&slot) = self.polled.get(place) {
            if self.poll_ring(slot) {
                place += 1;
            } else if self.polled.get(place) == Some(&slot) {
                // If not, its stream was removed with the last channel, and has left the list.
                self.polled.swap_remove(place);
            }
        }
    }

    /// Polls one ring; `false` when it is not to be polled again.
    fn poll_ring(&mut self, slot: StreamSlot) -> bool {
        let Some(stream) = self.streams.get_mut(slot) else { return false };
        let PollMode::Polling { quiet } = stream.mode else {
            debug_assert!(false, "{slot:?} is polled in mode {:?}", stream.mode);
            return false;
        };
        let before = stream.published;
        match stream.poll() {
            PollResult::Records(end) => {
                stream.mode = PollMode::Polling { quiet: 0 };
                self.work.did = true;
                self.work.largest_ring = self.work.largest_ring.max(stream.capacity());
                self.counters.bump(Counter::RingNews);
                if end - before >= RECORDS_PER_POLL as u64 {
                    self.counters.bump(Counter::RingBound);
                }
                self.announce(slot, end);
                true
            }
            PollResult::Closed => {
                stream.mode = PollMode::Closed;
                self.work.did = true;
                self.announce_end(slot, before);
                false
            }
            PollResult::Empty => {
                let quiet = quiet.saturating_add(1);
                stream.mode = PollMode::Polling { quiet };
                quiet < self.empty_polls() || !self.arm(slot)
            }
        }
    }

    /// Polls without news after which a ring is armed.
    fn empty_polls(&self) -> u32 {
        let rings = (self.polled.len() as u32).max(RINGS_POLLED_LONG);
        (EMPTY_POLLS_BEFORE_ARMING * RINGS_POLLED_LONG / rings).max(EMPTY_POLLS_LEAST)
    }

    /// Lets a ring notify the shard instead of being polled. `false`: it has news and is polled on.
    fn arm(&mut self, slot: StreamSlot) -> bool {
        let Some(stream) = self.streams.get_mut(slot) else { return true };
        if stream.arm() {
            self.counters.bump(Counter::RingsArmed);
            return true;
        }
        // Records, the end, or a detached cursor.
        if !stream.check() {
            self.cut.push(slot);
        }
        false
    }

    /// Arms every ring, before a sleep. `false`: one of them has news.
    pub(crate) fn arm_all(&mut self) -> bool {
        while let Some(&slot) = self.polled.last() {
            if !self.arm(slot) {
                return false;
            }
            self.polled.pop();
        }
        true
    }

    /// Announces to the channels of a stream that its ring is published up to `end`.
    fn announce(&mut self, slot: StreamSlot, end: u64) {
        // Taken out while sessions are marked, which changes no stream.
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let channels = std::mem::take(&mut stream.channels);
        for &channel in &channels {
            let Some(channel) = self.channels.get(channel) else {
                debug_assert!(false, "a channel leaves its stream before it is removed");
                continue;
            };
            let (session, label) = (channel.session, channel.label);
            if let Some(entry) = self.sessions.get_mut(session) {
                entry.session.publish(label, end);
            }
            self.mark_dirty(session);
        }
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.channels = channels;
        }
    }

    /// The ring is closed at `end` and every record of it was announced: its channels end once they have sent
    /// it.
    fn announce_end(&mut self, slot: StreamSlot, end: u64) {
        let Some(stream) = self.streams.get(slot) else { return };
        for channel in stream.channels.clone() {
            self.finish_channel(channel, end);
        }
    }

    /// Ends a channel once everything before `end` was sent: in good order, or with the code that the
    /// producer has chosen.
    pub(crate) fn finish_channel(&mut self, slot: ChannelSlot, end: u64) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        let (session, label) = (channel.session, channel.label);
        let ChannelRole::Producer(producer) = &mut channel.role else { return };
        let code = self.streams.get(producer.stream).map_or(CloseCode::GRACEFUL, StreamEntry::end_code);
        if code != CloseCode::GRACEFUL {
            return self.reset_at(slot, end, code);
        }
        producer.finishing = true;
        if let Some(entry) = self.sessions.get_mut(session) {
            // An error means that the session has ended the channel; that event waits in its queue.
            let _ = entry.session.finish(label, end);
        }
        self.mark_dirty(session);
    }

    /// Removes the channel at `place` from its stream. The last one takes the stream with it.
    pub(crate) fn leave_stream(&mut self, slot: StreamSlot, place: u32) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let at = place as usize;
        debug_assert!(at < stream.channels.len(), "a channel knows its place in its stream");
        if at < stream.channels.len() {
            stream.channels.swap_remove(at);
        }
        if let Some(&moved) = stream.channels.get(at)
            && let Some(ChannelRole::Producer(producer)) = self.channels.get_mut(moved).map(|c| &mut c.role)
        {
            producer.place = place;
        }
        // The channel may have been the one at the floor.
        self.floors.push(slot);
        self.remove_if_unused(slot);
    }

    /// Removes a stream without channels.
    pub(crate) fn remove_if_unused(&mut self, slot: StreamSlot) {
        if self.streams.get(slot).is_none_or(|stream| !stream.channels.is_empty()) {
            return;
        }
        if let Some(mut stream) = self.streams.remove(slot) {
            stream.unpin();
            self.counters.add(Counter::RecordsLost, stream.take_lost());
            self.by_ring.remove(&stream.ring().id());
            self.polled.retain(|&polled| polled != slot);
        }
    }

    /// Moves the cursors of rings up to what their channels still need, and ends the pins of this turn.
    pub(crate) fn release_rings(&mut self) {
        while let Some(slot) = self.floors.pop() {
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            let channels = &self.channels;
            let released = |&channel: &ChannelSlot| match channels.get(channel)?.role {
                ChannelRole::Producer(producer) => Some(producer.released),
                _ => None,
            };
            if let Some(floor) = stream.channels.iter().filter_map(released).min() {
                stream.floor = mutate!(stream.floor.max(floor), "released-late" => stream.floor);
            }
            stream.release();
            if stream.detached {
                self.cut.push(slot);
            }
        }
        while let Some(slot) = self.pinned.pop() {
            if let Some(stream) = self.streams.get_mut(slot) {
                stream.unpin();
                self.counters.add(Counter::RecordsLost, stream.take_lost());
            }
        }
        for _ in 0..self.cut.len() {
            if let Some(slot) = self.cut.pop() {
                self.end_detached(slot);
            }
        }
    }

    /// Resets the channels of a stream whose ring detached the cursor: together they were too slow.
    fn end_detached(&mut self, slot: StreamSlot) {
        let Some(stream) = self.streams.get(slot).filter(|stream| stream.detached) else { return };
        self.counters.bump(Counter::RingsDetached);
        for channel in stream.channels.clone() {
            let Some(channel) = self.channels.get(channel) else { continue };
            let (session, label) = (channel.session, channel.label);
            self.reset_channel(session, label, CloseCode::TOO_SLOW);
        }
    }
}
