//! Events of sessions, and what becomes of them.
//!
//! Some end in the shard (a ring's floor moved, credit is wanted), some make something here first (an inbox),
//! the others go to the clerk. While the clerk has no room, a session holds *one* event in its entry and
//! reads no packet until that event is out; so a peer that floods the clerk stops only itself.

use std::sync::Arc;

use corewire_proto::{
    channel::{Accept, ChannelStats, Label, OpenRequest, datum_cost},
    session::{CloseCode, SessionEvent},
};
use corewire_rings::{ConsumerProgress, Reader, Ring, RingConfig, limits::MAX_RECORD_BYTES};

use super::{
    ShardCore,
    channel::{ChannelRole, ConsumerEnd, PendingOpen},
    command::Event,
    inbox::{HEADER_BYTES, TakenHook},
    limits::ShardLimits,
    table::{ChannelSlot, SessionSlot},
};
use crate::counters::Counter;

/// How a channel ended.
#[derive(Clone, Copy)]
enum ChannelEnd<'a> {
    /// In good order, with the session's last numbers.
    Finished(&'a ChannelStats),
    /// The peer reset or refused it.
    ByPeer,
    /// This side reset it.
    ByUs,
}

impl ShardCore {
    /// Handles a session's events, until there is none or the clerk has no room.
    pub(crate) fn drain_session_events(&mut self, slot: SessionSlot) {
        loop {
            let Some(entry) = self.sessions.get_mut(slot) else { return };
            if entry.held.is_some() {
                return;
            }
            let Some(event) = entry.session.poll_event() else { return };
            if let Some(event) = self.translate_event(slot, event) {
                self.forward_event(slot, event);
            }
        }
    }

    /// Queues an event of a session for the clerk, or leaves it in the session's entry.
    fn forward_event(&mut self, slot: SessionSlot, event: Event) {
        if let Err(event) = self.backlog.push(event) {
            self.hold_event(slot, event);
        }
    }

    /// Leaves an event in its session's entry until the backlog has room.
    pub(crate) fn hold_event(&mut self, slot: SessionSlot, event: Event) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        debug_assert!(entry.held.is_none(), "a session holds one event at a time");
        entry.held = Some(event);
        self.held_up.push(slot);
    }

    /// Queues the clerk's answer to a command. Commands are applied only while there is room for it.
    pub(crate) fn reply(&mut self, event: Event) {
        self.backlog.push_anyway(event);
    }

    /// Offers the clerk what waits, and lets the sessions go on that were held up.
    pub(crate) fn flush_events(&mut self) {
        self.backlog.flush();
        for _ in 0..self.held_up.len() {
            let Some(slot) = self.held_up.pop() else { return };
            let Some(entry) = self.sessions.get_mut(slot) else { continue };
            let Some(event) = entry.held.take() else { continue };
            let last = matches!(event, Event::SessionClosed { .. });
            match self.backlog.push(event) {
                Ok(()) if last => self.remove_session(slot),
                Ok(()) => {
                    self.work.did = true;
                    self.mark_dirty(slot);
                }
                Err(event) => self.hold_event(slot, event),
            }
        }
    }

    /// Does what an event asks for here, and returns what the clerk has to know.
    fn translate_event(&mut self, slot: SessionSlot, event: SessionEvent) -> Option<Event> {
        let index = self.sessions.get(slot)?.index;
        match event {
            SessionEvent::Confirmed => Some(Event::Confirmed { index }),
            SessionEvent::Suspect { silent_for } => {
                Some(Event::Suspect { index, since: self.now - silent_for })
            }
            SessionEvent::Recovered => Some(Event::Recovered { index }),
            SessionEvent::AddressChanged { to } => {
                let entry = self.sessions.get_mut(slot)?;
                entry.route = entry.route_to(to);
                for channel in entry.labels.channels().filter_map(|slot| self.channels.get(slot)) {
                    channel.shared.set_remote_address(to);
                }
                self.counters.bump(Counter::PeersMoved);
                Some(Event::PeerMoved { index, source: entry.route.source, to })
            }
            SessionEvent::RekeyDue => Some(Event::RekeyDue { index }),
            SessionEvent::Rekeyed { phase } => {
                self.counters.bump(Counter::KeysChanged);
                Some(Event::Rekeyed { index, phase })
            }
            SessionEvent::Opened { label, request } => {
                Some(Event::ChannelRequested { index, label, request: Box::new(request) })
            }
            SessionEvent::Accepted { label, accept } => self.accepted(slot, label, accept),
            SessionEvent::Rejected { label, code, type_name } => {
                let channel = self.sessions.get(slot)?.labels.get(label).and_then(|c| self.channels.get(c));
                if let Some(channel) = channel.filter(|_| code == CloseCode::TYPE_MISMATCH) {
                    channel.shared.set_producer_type(type_name);
                }
                self.channel_over(slot, label, code, ChannelEnd::ByPeer)
            }
            SessionEvent::Released { label } => {
                self.released(slot, label);
                None
            }
            SessionEvent::Blocked { label } => {
                if let Some(channel) = self.sessions.get(slot).and_then(|entry| entry.labels.get(label)) {
                    self.grant(channel);
                }
                None
            }
            SessionEvent::Finished { label, stats } => {
                self.channel_over(slot, label, CloseCode::GRACEFUL, ChannelEnd::Finished(&stats))
            }
            SessionEvent::Reset { label, code, by_peer, stats } => {
                self.write_last(slot, label, Some(&stats));
                let channel = self.sessions.get(slot)?.labels.get(label).and_then(|c| self.channels.get(c));
                let overrun = channel.is_some_and(|channel| match &channel.role {
                    ChannelRole::Consumer(consumer) => consumer.overrun,
                    _ => false,
                });
                let code = if overrun && !by_peer { CloseCode::TOO_SLOW } else { code };
                let end = match by_peer {
                    // The consumer knows where the stream ended, as after a proper end.
                    true if code == CloseCode::DISCARDED => ChannelEnd::Finished(&stats),
                    true => ChannelEnd::ByPeer,
                    false => ChannelEnd::ByUs,
                };
                self.channel_over(slot, label, code, end)
            }
            SessionEvent::Control(bytes) => Some(Event::Control { index, bytes }),
            SessionEvent::Closed { code, by_peer } => {
                // To a consumer a session that its producer closes before the stream's end is no such end.
                let cut_short = by_peer && code == CloseCode::GRACEFUL;
                self.end_channels(slot, code, if cut_short { CloseCode::ABORTED } else { code });
                self.sessions.get_mut(slot)?.over = Some((code, by_peer));
                None
            }
        }
    }

    /// Writes the last numbers of a session about a channel that is about to be closed.
    fn write_last(&self, slot: SessionSlot, label: Label, stats: Option<&ChannelStats>) {
        let channel = self.sessions.get(slot).and_then(|entry| entry.labels.get(label));
        if let (Some(channel), Some(stats)) = (channel.and_then(|at| self.channels.get(at)), stats) {
            channel.write_counters(stats);
        }
    }

    /// Closes a channel that ended. Returns what the clerk has to know.
    fn channel_over(
        &mut self,
        slot: SessionSlot,
        label: Label,
        code: CloseCode,
        end: ChannelEnd<'_>,
    ) -> Option<Event> {
        let index = self.sessions.get(slot)?.index;
        let Some(channel) = self.take_channel(slot, label) else {
            // The peer withdrew a request that the clerk has not answered yet.
            let withdrawn = Event::ChannelClosed { index, label, code, parked: None };
            return label.is_by_peer().then_some(withdrawn);
        };
        let opening = match channel.role {
            ChannelRole::Opening(opening) => Some(opening),
            _ => None,
        };
        let parked = match end {
            ChannelEnd::Finished(stats) => {
                channel.end_in_order(stats);
                None
            }
            ChannelEnd::ByPeer | ChannelEnd::ByUs => {
                channel.stop();
                if matches!(end, ChannelEnd::ByUs) { self.park(&channel, code) } else { None }
            }
        };
        self.close_channel(&channel, code);
        match opening {
            Some(PendingOpen { open_id, .. }) => {
                self.counters.bump(Counter::ChannelsRejected);
                Some(Event::ChannelRejected { index, open_id, code })
            }
            None => Some(Event::ChannelClosed { index, label, code, parked }),
        }
    }

    /// The producer accepted the channel: makes its inbox.
    fn accepted(&mut self, slot: SessionSlot, label: Label, accept: Accept) -> Option<Event> {
        let entry = self.sessions.get(slot)?;
        let index = entry.index;
        let channel_slot = entry.labels.get(label)?;
        let ChannelRole::Opening(opening) = self.channels.get(channel_slot)?.role else { return None };
        let made = inbox_config(&opening, accept.max_datum_bytes, &self.config.limits)
            .and_then(|config| Ring::new_untouched(config).map_err(|_| CloseCode::NO_CAPACITY))
            .and_then(|ring| match ring.subscribe() {
                Ok(reader) => Ok((ring, reader)),
                Err(_) => Err(CloseCode::NO_CAPACITY),
            });
        let (ring, reader): (Ring, Reader) = match made {
            Ok(made) => made,
            Err(code) => {
                let _ = self.sessions.get_mut(slot)?.session.reset(label, code);
                self.mark_dirty(slot);
                return self.channel_over(slot, label, code, ChannelEnd::ByUs);
            }
        };
        let progress = Arc::new(ConsumerProgress::new(accept.first_seq));
        let (window_bytes, window_datums) = windows(&opening, &self.config.limits);
        let taken = TakenHook::new(
            progress.clone(),
            self.notifier.clone(),
            channel_slot,
            window_bytes,
            window_datums,
        );
        let channel = self.channels.get_mut(channel_slot)?;
        channel.role = ChannelRole::Consumer(ConsumerEnd::new(
            ring.writer(),
            progress,
            &opening,
            accept.reliability,
            accept.first_seq,
        ));
        channel.shared.set_connected(self.now);
        self.counters.bump(Counter::ChannelsOpened);
        let (open_id, Accept { publication, first_seq, .. }) = (opening.open_id, accept);
        Some(Event::ChannelAccepted { index, open_id, label, publication, first_seq, reader, taken })
    }

    /// The session needs less of a ring than before.
    fn released(&mut self, slot: SessionSlot, label: Label) {
        let Some(entry) = self.sessions.get(slot) else { return };
        let Some(released) = entry.session.released(label) else { return };
        let Some(channel_slot) = entry.labels.get(label) else { return };
        let Some(channel) = self.channels.get_mut(channel_slot) else { return };
        self.touched.push(channel_slot);
        let ChannelRole::Producer(producer) = &mut channel.role else { return };
        let before = std::mem::replace(&mut producer.released, released);
        let Some(stream) = self.streams.get_mut(producer.stream) else { return };
        debug_assert!(before <= released, "a channel released {released} after {before}");
        debug_assert!(stream.floor <= before, "the floor {} is above a channel's {before}", stream.floor);
        // Only a channel at the floor can raise it.
        if before <= stream.floor {
            self.floors.push(producer.stream);
        }
        self.check_marks(channel_slot);
    }

    /// Grants the peer the credit that the consumer of this channel returned, or ends the channel when the
    /// consumer is gone.
    pub(crate) fn grant(&mut self, channel_slot: ChannelSlot) {
        let Some(channel) = self.channels.get_mut(channel_slot) else { return };
        let ChannelRole::Consumer(consumer) = &mut channel.role else { return };
        let (session, label) = (channel.session, channel.label);
        if consumer.progress.is_gone() {
            return self.reset_channel(session, label, CloseCode::GRACEFUL);
        }
        let taken = consumer.progress.read();
        if taken == consumer.granted {
            return;
        }
        consumer.granted = taken;
        self.touched.push(channel_slot);
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.session.grant(label, taken.0, taken.1);
            self.counters.bump(Counter::Grants);
        }
        self.mark_dirty(session);
    }

    /// The tail of the ring that a channel sends from.
    fn tail_of(&self, slot: SessionSlot, label: Label) -> Option<u64> {
        let channel = self.channels.get(self.sessions.get(slot)?.labels.get(label)?)?;
        let ChannelRole::Producer(producer) = &channel.role else { return None };
        Some(self.streams.get(producer.stream)?.ring().tail())
    }

    /// Resets a channel from this side and tells the clerk. Does nothing when it is gone.
    pub(crate) fn reset_channel(&mut self, slot: SessionSlot, label: Label, code: CloseCode) {
        let tail = self.tail_of(slot, label);
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let stats = entry.session.stats(label);
        let _ = match (code, tail) {
            (CloseCode::DISCARDED, Some(tail)) => entry.session.discard(label, tail),
            _ => entry.session.reset(label, code),
        };
        self.write_last(slot, label, stats.as_ref());
        if let Some(event) = self.channel_over(slot, label, code, ChannelEnd::ByUs) {
            // At most one for each channel, and a clerk that does not read opens no new ones: bounded.
            self.backlog.push_anyway(event);
        }
        self.mark_dirty(slot);
    }
}

/// The window of a channel in bytes and datums, with the shard's limits where the consumer set none.
fn windows(opening: &PendingOpen, limits: &ShardLimits) -> (u64, u64) {
    let (bytes, datums) = match (opening.window_bytes, opening.window_datums) {
        (0, 0) => (limits.open_window_bytes, limits.open_window_datums),
        (0, datums) => (limits.open_window_bytes, datums),
        // The smallest datum costs 16 bytes, and the last one may overshoot the window.
        (bytes, 0) => (bytes, bytes.div_ceil(16)),
        both => both,
    };
    (bytes, datums.max(1))
}

/// The longest datum that a consumer may ask for: what it asked for, or what the limit of its inbox leaves
/// beside the window. A window that leaves nothing is refused at both ends when the producer accepts.
pub(super) fn largest_datum(request: &OpenRequest, limits: &ShardLimits) -> u32 {
    let mut opening = PendingOpen {
        open_id: 0,
        window_bytes: request.window_bytes,
        window_datums: request.window_datums,
        max_datum_bytes: request.max_datum_bytes,
    };
    let fits = |opening: &PendingOpen| inbox_config(opening, opening.max_datum_bytes, limits).is_ok();
    // Found by halving the distance: the size of an inbox grows with that of its datums.
    let (mut fitting, mut too_long) = (0, request.max_datum_bytes);
    if fits(&opening) {
        return request.max_datum_bytes;
    }
    while too_long - fitting > 1 {
        opening.max_datum_bytes = fitting + (too_long - fitting) / 2;
        if fits(&opening) {
            fitting = opening.max_datum_bytes;
        } else {
            too_long = opening.max_datum_bytes;
        }
    }
    if fitting > 0 { fitting } else { request.max_datum_bytes }
}

/// The inbox of a channel: room for its window, for the one datum that may overshoot it, and for the headers.
fn inbox_config(
    opening: &PendingOpen,
    max_datum: u32,
    limits: &ShardLimits,
) -> Result<RingConfig, CloseCode> {
    let max_record = HEADER_BYTES + max_datum as usize;
    if max_datum > opening.max_datum_bytes || max_record > MAX_RECORD_BYTES {
        return Err(CloseCode::TOO_LARGE);
    }
    let (window_bytes, datums) = windows(opening, limits);
    let largest = datum_cost(max_datum as usize);
    let headers = datums.saturating_mul(HEADER_BYTES as u64);
    let beside = largest.saturating_add(headers);
    // Checked before the ring is sized: a hostile window may be near 2^64.
    if window_bytes.saturating_add(beside) > limits.inbox_bytes as u64 {
        return Err(CloseCode::TOO_LARGE);
    }
    // So many datums never fill a larger window.
    let bytes = window_bytes.min(datums.saturating_mul(largest)) + beside;
    let config = RingConfig {
        datums: datums as usize,
        bytes: bytes as usize,
        max_record,
        readers: 1,
        scatter_small: false,
    };
    if config.memory_bytes() > limits.inbox_bytes {
        return Err(CloseCode::TOO_LARGE);
    }
    Ok(config)
}
