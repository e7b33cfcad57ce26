//! What sessions say, and what becomes of it.
//!
//! Not inside: the clerk's answers. Some events end in the shard (a ring's floor moved, credit is wanted), some
//! make something here first (an inbox), the others go to the clerk. While the clerk has no room, a session
//! keeps *one* event in its seat and hears nothing from its peer until that event is out; so a peer that
//! floods the clerk stops only itself.

use corewire_proto::{
    channel::{Accept, ChannelStats, Label},
    session::{CloseCode, SessionEvent},
};
use corewire_rings::{Reader, Ring, RingConfig};

use super::{
    Core,
    channel::{Consumer, Opening, Role},
    command::Event,
    inbox::{HEADER_BYTES, Progress, TakenHook, cost},
    limits::ShardLimits,
};
use crate::counters::Counter;

impl Core {
    /// Asks a session what happened, until it has nothing to say or the clerk has no room.
    pub(crate) fn hear(&mut self, slot: u32) {
        loop {
            let Some(seat) = self.sessions.get_mut(slot) else { return };
            if seat.held.is_some() {
                return;
            }
            let Some(said) = seat.session.poll_event() else { return };
            if let Some(event) = self.understand(slot, said) {
                self.tell(slot, event);
            }
        }
    }

    /// Passes an event of a session on, or leaves it in the session's seat.
    pub(crate) fn tell(&mut self, slot: u32, event: Event) {
        if let Err(event) = self.backlog.push(event)
            && let Some(seat) = self.sessions.get_mut(slot)
        {
            debug_assert!(seat.held.is_none(), "one event is held at a time");
            seat.held = Some(event);
            self.held_up.push(slot);
        }
    }

    /// Reports what a command led to. Commands are taken only while there is room for it.
    pub(crate) fn report(&mut self, event: Event) {
        self.backlog.push_anyway(event);
    }

    /// Offers the clerk what waits, and lets the sessions go on that were held up.
    pub(crate) fn flush_events(&mut self) {
        self.backlog.flush();
        if self.held_up.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.held_up) {
            let Some(seat) = self.sessions.get_mut(slot) else { continue };
            let Some(event) = seat.held.take() else { continue };
            let last = matches!(event, Event::SessionClosed { .. });
            match self.backlog.push(event) {
                Ok(()) if last => self.vacate(slot),
                Ok(()) => {
                    self.work.did = true;
                    self.touch(slot);
                }
                Err(event) => {
                    seat.held = Some(event);
                    self.held_up.push(slot);
                }
            }
        }
    }

    /// Does what an event asks for here; gives what the clerk has to know.
    fn understand(&mut self, slot: u32, said: SessionEvent) -> Option<Event> {
        let index = self.sessions.get(slot)?.index;
        match said {
            SessionEvent::Confirmed => Some(Event::Confirmed { index }),
            SessionEvent::RekeyDue => Some(Event::RekeyDue { index }),
            SessionEvent::Rekeyed { phase } => {
                self.counters.bump(Counter::KeysChanged);
                Some(Event::Rekeyed { index, phase })
            }
            SessionEvent::Opened { label, request } => {
                Some(Event::ChannelRequested { index, label, request: Box::new(request) })
            }
            SessionEvent::Accepted { label, accept } => self.accepted(slot, label, accept),
            SessionEvent::Rejected { label, code } => self.channel_over(slot, label, code, None),
            SessionEvent::Released { label } => {
                self.released(slot, label);
                None
            }
            SessionEvent::Blocked { label } => {
                if let Some(channel) = self.sessions.get(slot).and_then(|seat| seat.labels.get(label)) {
                    self.grant(channel);
                }
                None
            }
            SessionEvent::Finished { label, stats } => {
                self.channel_over(slot, label, CloseCode::GRACEFUL, Some(&stats))
            }
            SessionEvent::Reset { label, code, by_peer, .. } => {
                let channel = self.sessions.get(slot)?.labels.get(label).and_then(|c| self.channels.get(c));
                let overrun = channel.is_some_and(|channel| match &channel.role {
                    Role::Consumer(consumer) => consumer.overrun,
                    _ => false,
                });
                let code = if overrun && !by_peer { CloseCode::TOO_SLOW } else { code };
                self.channel_over(slot, label, code, None)
            }
            SessionEvent::Control(bytes) => Some(Event::Control { index, bytes }),
            SessionEvent::Closed { code, .. } => {
                self.end_channels(slot, code);
                self.sessions.get_mut(slot)?.over = Some(code);
                None
            }
        }
    }

    /// A channel ended, in good order if its session left its numbers; what the clerk has to know about it.
    fn channel_over(
        &mut self,
        slot: u32,
        label: Label,
        code: CloseCode,
        finished: Option<&ChannelStats>,
    ) -> Option<Event> {
        let index = self.sessions.get(slot)?.index;
        let Some(channel) = self.take_channel(slot, label) else {
            // The peer took a request back that the clerk has not answered yet.
            return label.is_by_peer().then_some(Event::ChannelClosed { index, label, code });
        };
        let opening = match channel.role {
            Role::Opening(opening) => Some(opening),
            _ => None,
        };
        if let Some(stats) = finished {
            channel.end_in_order(stats);
        }
        self.let_go(channel, code);
        match opening {
            Some(Opening { open_id, .. }) => {
                self.counters.bump(Counter::ChannelsRejected);
                Some(Event::ChannelRejected { index, open_id, code })
            }
            None => Some(Event::ChannelClosed { index, label, code }),
        }
    }

    /// The producer let us in: makes the inbox.
    fn accepted(&mut self, slot: u32, label: Label, accept: Accept) -> Option<Event> {
        let seat = self.sessions.get(slot)?;
        let index = seat.index;
        let channel_slot = seat.labels.get(label)?;
        let Role::Opening(opening) = self.channels.get(channel_slot)?.role else { return None };
        let made = inbox_config(&opening, accept.max_datum_bytes, &self.config.limits)
            .and_then(|config| Ring::new(config).map_err(|_| CloseCode::NO_CAPACITY))
            .and_then(|ring| match ring.subscribe() {
                Ok(reader) => Ok((ring, reader)),
                Err(_) => Err(CloseCode::NO_CAPACITY),
            });
        let (ring, reader): (Ring, Reader) = match made {
            Ok(made) => made,
            Err(code) => {
                let _ = self.sessions.get_mut(slot)?.session.reset(label, code);
                self.touch(slot);
                return self.channel_over(slot, label, code, None);
            }
        };
        let progress = Progress::new(accept.first_seq);
        let (window_bytes, window_datums) = windows(&opening, &self.config.limits);
        let taken = TakenHook::new(
            progress.clone(),
            self.notifier.clone(),
            channel_slot,
            window_bytes,
            window_datums,
        );
        let channel = self.channels.get_mut(channel_slot)?;
        channel.role = Role::Consumer(Consumer::new(
            ring.writer(),
            progress,
            opening.window_bytes,
            opening.window_datums,
            accept.reliability,
            accept.first_seq,
        ));
        channel.shared.set_connected();
        self.counters.bump(Counter::ChannelsOpened);
        Some(Event::ChannelAccepted { index, open_id: opening.open_id, label, reader, taken })
    }

    /// The session needs less of a ring than before.
    fn released(&mut self, slot: u32, label: Label) {
        let Some(seat) = self.sessions.get(slot) else { return };
        let Some(released) = seat.session.released(label) else { return };
        let Some(channel_slot) = seat.labels.get(label) else { return };
        let Some(channel) = self.channels.get_mut(channel_slot) else { return };
        channel.note(channel_slot, &mut self.touched);
        let Role::Producer(producer) = &mut channel.role else { return };
        let before = std::mem::replace(&mut producer.released, released);
        let Some(stream) = self.streams.get_mut(producer.stream) else { return };
        // Whoever was above the floor did not hold it down.
        if before <= stream.floor && !stream.floor_stale {
            stream.floor_stale = true;
            self.floors.push(producer.stream);
        }
    }

    /// Tells a session what the consumer of this channel took, or that the consumer is gone.
    pub(crate) fn grant(&mut self, channel_slot: u32) {
        let Some(channel) = self.channels.get_mut(channel_slot) else { return };
        let Role::Consumer(consumer) = &mut channel.role else { return };
        let (session, label) = (channel.session, channel.label);
        if consumer.progress.is_gone() {
            return self.reset_channel(session, label, CloseCode::GRACEFUL);
        }
        let taken = consumer.progress.read();
        if taken == consumer.granted {
            return;
        }
        consumer.granted = taken;
        channel.note(channel_slot, &mut self.touched);
        if let Some(seat) = self.sessions.get_mut(session) {
            seat.session.grant(label, taken.0, taken.1);
            self.counters.bump(Counter::Grants);
        }
        self.touch(session);
    }

    /// Cuts a channel at our wish and tells the clerk. Nothing happens when it is gone.
    pub(crate) fn reset_channel(&mut self, slot: u32, label: Label, code: CloseCode) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        let _ = seat.session.reset(label, code);
        if let Some(event) = self.channel_over(slot, label, code, None) {
            // At most one for each channel, and a clerk that does not read opens no new ones: bounded.
            self.backlog.push_anyway(event);
        }
        self.touch(slot);
    }
}

/// The window of a channel in bytes and datums, with the shard's limits where the consumer set none.
fn windows(opening: &Opening, limits: &ShardLimits) -> (u64, u64) {
    let (bytes, datums) = match (opening.window_bytes, opening.window_datums) {
        (0, 0) => (limits.open_window_bytes, limits.open_window_datums),
        (0, datums) => (limits.open_window_bytes, datums),
        // The smallest datum costs 16 bytes, and one may start when only one byte is left.
        (bytes, 0) => (bytes, bytes.div_ceil(16)),
        both => both,
    };
    (bytes, datums.max(1))
}

/// The inbox of a channel: room for its window, for the one datum that may overshoot it, and for the headers.
fn inbox_config(opening: &Opening, max_datum: u32, limits: &ShardLimits) -> Result<RingConfig, CloseCode> {
    if max_datum > opening.max_datum_bytes {
        return Err(CloseCode::TOO_LARGE);
    }
    let (window_bytes, datums) = windows(opening, limits);
    let largest = cost(max_datum as usize);
    let headers = datums.saturating_mul(HEADER_BYTES as u64);
    let bytes = window_bytes.saturating_add(largest).saturating_add(headers);
    // Before anything is computed from it: the sum of a hostile window may be near 2^64.
    if bytes > limits.inbox_bytes as u64 {
        return Err(CloseCode::TOO_LARGE);
    }
    let config = RingConfig {
        datums: datums as usize,
        bytes: bytes as usize,
        max_record: HEADER_BYTES + max_datum as usize,
        readers: 1,
        scatter_small: false,
    };
    if config.memory_bytes() > limits.inbox_bytes {
        return Err(CloseCode::TOO_LARGE);
    }
    Ok(config)
}
