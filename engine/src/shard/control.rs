//! Applies the clerk's commands.
//!
//! The clerk has made the decisions; here they meet the shard's tables. A command for something that is gone
//! is counted and dropped, except that a command with a handle terminates it and one with an answer gets it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{
    channel::{Accept, Label, OpenRequest},
    mutate,
    session::{CloseCode, ControlError},
    wire::header::ReceiverIndex,
};
use corewire_rings::{Reader, Ring};

use super::{
    ShardCore,
    channel::{ChannelEntry, ChannelRole, PassedCount, PendingOpen, ProducerEnd},
    command::{AcceptChannel, Command, Event, NodeId, ResumePoint},
    events::largest_datum,
    limits::COMMANDS_PER_TURN,
    marks::ChannelMarks,
    stream::{PollMode, StreamEntry},
    table::{ChannelSlot, SessionSlot, StreamSlot},
};
use crate::{
    counters::Counter,
    criteria::KEY_ROOM,
    driver::{Driver, MAX_SEND_BYTES, Route, Socket},
    shared::{ChannelShared, ChannelSnapshot, publication::StreamEnd},
};

/// The code for a command whose session is gone: as if the peer did not answer, so that the clerk tries
/// again.
const SESSION_GONE: CloseCode = CloseCode::PEER_LOST;

impl ShardCore {
    /// Applies commands, up to the bound of a turn and as long as there is room for their answers.
    pub(crate) fn apply_commands(&mut self, driver: &mut impl Driver) {
        if self.has_stopped() {
            return self.refuse_commands();
        }
        let mut taken = 0;
        while taken < COMMANDS_PER_TURN && !self.backlog.is_full() {
            let Some(command) = self.commands.try_recv() else { break };
            taken += 1;
            self.apply_command(command, driver);
        }
        if taken > 0 {
            self.work.did = true;
            self.counters.add(Counter::Commands, taken as u64);
        }
        if taken == COMMANDS_PER_TURN {
            self.counters.bump(Counter::CommandBound);
        }
    }

    /// Drops the commands that reach a stopped shard, and terminates the channels that they name.
    pub(crate) fn refuse_commands(&mut self) {
        while let Some(command) = self.commands.try_recv() {
            self.count_stale();
            match command {
                Command::OpenChannel { handle, .. } => drop(handle.terminate(SESSION_GONE, self.now)),
                Command::AcceptChannel(accept) => drop(accept.handle.terminate(SESSION_GONE, self.now)),
                _ => {}
            }
        }
    }

    fn apply_command(&mut self, command: Command, driver: &mut impl Driver) {
        match command {
            Command::AddSocket { node, socket } => self.add_socket(driver, node, socket),
            Command::RemoveNode { node } => self.remove_node(node),
            Command::SendDatagram { node, source, to, bytes } => {
                self.send_datagram(driver, node, (source, to), &bytes);
            }
            Command::InstallSession(install) => self.install(*install),
            Command::RekeySession(rekey) => self.rekey(*rekey),
            Command::MeasurePath { index } => match self.find(index) {
                Some(slot) => {
                    if let Some(entry) = self.sessions.get_mut(slot) {
                        entry.session.ping();
                    }
                    self.mark_dirty(slot);
                }
                None => self.count_stale(),
            },
            Command::CloseSession { index, code } => match self.find(index) {
                Some(slot) => self.close_session(slot, code),
                None => self.count_stale(),
            },
            Command::OpenChannel { index, open_id, request, handle } => {
                self.open_channel(index, open_id, *request, handle);
            }
            Command::WithdrawOpen { index, open_id } => self.withdraw_open(index, open_id),
            Command::AcceptChannel(accept) => self.accept_channel(*accept),
            Command::RejectChannel { index, label, code, type_name } => {
                let Some(slot) = self.find(index) else { return self.count_stale() };
                let Some(entry) = self.sessions.get_mut(slot) else { return };
                if entry.session.reject_naming(label, code, type_name).is_err() {
                    return self.count_stale();
                }
                self.counters.bump(Counter::ChannelsRejected);
                self.mark_dirty(slot);
            }
            Command::ResetChannel { index, label, code } => match self.find(index) {
                Some(slot) if self.has_channel(slot, label) => self.reset_channel(slot, label, code),
                Some(slot) => self.reset_unserved(slot, label, code),
                None => self.count_stale(),
            },
            Command::Mark { index, label, seq } => self.mark(index, label, seq),
            Command::SendControl { index, bytes } => self.send_control(index, bytes),
            Command::Shutdown { deadline } => self.begin_shutdown(deadline),
        }
    }

    /// The slot of a session that is alive and on this shard.
    pub(crate) fn find(&self, index: ReceiverIndex) -> Option<SessionSlot> {
        if index.shard() != self.config.id {
            return None;
        }
        let slot = self.sessions.find(index)?;
        (!self.sessions.get(slot)?.session.is_closed()).then_some(slot)
    }

    fn has_channel(&self, slot: SessionSlot, label: Label) -> bool {
        self.sessions.get(slot).is_some_and(|entry| entry.labels.get(label).is_some())
    }

    pub(crate) fn count_stale(&mut self) {
        self.counters.bump(Counter::StaleCommands);
    }

    fn add_socket(&mut self, driver: &mut impl Driver, node: NodeId, socket: Socket) {
        let added = socket.local_addr().and_then(|local| Ok((driver.add_socket(socket)?, local)));
        match added {
            Ok((socket, local)) => self.nodes.add(node, socket, local),
            Err(error) => {
                self.counters.bump(Counter::RefusedCommands);
                self.reply(Event::SocketRefused { node, shard: self.config.id, error });
            }
        }
    }

    fn remove_node(&mut self, node: NodeId) {
        // Visits every session: rare, and bounded by the table.
        let of_node = self.sessions.iter().filter(|(_, entry)| entry.node == node);
        let slots: Vec<SessionSlot> = of_node.map(|(slot, _)| slot).collect();
        for slot in slots {
            self.close_session(slot, CloseCode::GRACEFUL);
        }
        let sockets = self.nodes.leave(node);
        self.closing.extend(sockets);
    }

    fn send_datagram(
        &mut self,
        driver: &mut impl Driver,
        node: NodeId,
        (source, to): (Option<IpAddr>, SocketAddr),
        bytes: &[u8],
    ) {
        let socket = self.nodes.socket_for(node, to);
        let lease = if bytes.len() <= MAX_SEND_BYTES { driver.lease() } else { None };
        let (Some(socket), Some(mut lease)) = (socket, lease) else {
            // The handshake sends it again.
            self.counters.bump(Counter::DropDatagram);
            return;
        };
        lease[..bytes.len()].copy_from_slice(bytes);
        driver.send(Route { socket, source, to }, lease, bytes.len(), bytes.len());
        self.counters.bump(Counter::DatagramsSent);
    }

    /// Closes a session. [`Event::SessionClosed`] follows when its protocol is over.
    pub(crate) fn close_session(&mut self, slot: SessionSlot, code: CloseCode) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        if entry.session.is_closed() {
            return;
        }
        entry.session.close(self.now, code);
        // The channels end now; the session stays to repeat its close to the peer.
        self.end_channels(slot, code, code);
        self.mark_dirty(slot);
    }

    fn open_channel(
        &mut self,
        index: ReceiverIndex,
        open_id: u64,
        mut request: OpenRequest,
        handle: Arc<ChannelShared>,
    ) {
        // A window by bytes alone could hold very many small datums, and each needs its slot in the inbox.
        let most = self.config.limits.open_window_datums;
        if request.window_datums == 0 && request.window_bytes.div_ceil(16) > most {
            request.window_datums = most;
        }
        request.max_datum_bytes = largest_datum(&request, &self.config.limits);
        let opening = PendingOpen {
            open_id,
            window_bytes: request.window_bytes,
            window_datums: request.window_datums,
            max_datum_bytes: request.max_datum_bytes,
        };
        let code = match self.find(index) {
            None => {
                self.count_stale();
                SESSION_GONE
            }
            Some(_) if self.channels.is_full() => CloseCode::NO_CAPACITY,
            Some(slot) => match self.sessions.get_mut(slot).map(|entry| entry.session.open(request)) {
                Some(Ok(label)) => {
                    self.insert_channel(slot, label, handle, ChannelRole::Opening(opening));
                    return self.mark_dirty(slot);
                }
                Some(Err(corewire_proto::session::OpenChannelError::TooLarge { .. })) => CloseCode::TOO_LARGE,
                Some(Err(corewire_proto::session::OpenChannelError::Closed)) | None => SESSION_GONE,
                Some(Err(_)) => CloseCode::NO_CAPACITY,
            },
        };
        self.counters.bump(Counter::RefusedCommands);
        handle.terminate(code, self.now);
        self.reply(Event::ChannelRejected { index, open_id, code });
    }

    fn withdraw_open(&mut self, index: ReceiverIndex, open_id: u64) {
        let Some(slot) = self.find(index) else { return self.count_stale() };
        let channels = self.sessions.get(slot).into_iter().flat_map(|entry| entry.labels.channels());
        let asked = channels.filter_map(|channel| self.channels.get(channel)).find_map(|channel| {
            let ChannelRole::Opening(opening) = channel.role else { return None };
            (opening.open_id == open_id).then_some(channel.label)
        });
        match asked {
            Some(label) => self.reset_channel(slot, label, CloseCode::GRACEFUL),
            None => self.count_stale(),
        }
    }

    /// Adds a channel to both tables. The caller has checked that there is room.
    fn insert_channel(
        &mut self,
        slot: SessionSlot,
        label: Label,
        shared: Arc<ChannelShared>,
        role: ChannelRole,
    ) -> Option<ChannelSlot> {
        let entry = self.sessions.get(slot)?;
        shared.set_remote_address(entry.route.to);
        shared.set_path(&entry.path);
        let channel = ChannelEntry { session: slot, label, shared, role };
        let channel_slot = self.channels.insert(channel).ok()?;
        self.sessions.get_mut(slot)?.labels.insert(label, channel_slot);
        Some(channel_slot)
    }

    fn accept_channel(&mut self, accept: AcceptChannel) {
        let AcceptChannel { index, label, ring, end, weight, reliability, publication, resume, handle } =
            accept;
        let Some(slot) = self.find(index) else {
            self.count_stale();
            handle.terminate(SESSION_GONE, self.now);
            let parked = resume.map(|resume| resume.parked);
            return self.reply(Event::ChannelClosed { index, label, code: SESSION_GONE, parked });
        };
        if self.has_channel(slot, label) {
            // A second channel of this label would reset the live one.
            self.count_stale();
            handle.terminate(CloseCode::SUPERSEDED, self.now);
            return;
        }
        let key_room = if handle.selection().keyed { KEY_ROOM } else { 0 };
        let max_datum_bytes = u32::try_from(ring.config().max_record - key_room).unwrap_or(u32::MAX);
        let resumed = resume.is_some();
        let (stream_slot, first_seq) = match self.join_ring((ring, end), resume) {
            Ok(joined) => joined,
            Err(parked) => return self.refuse_accept(slot, label, &handle, parked),
        };
        let accept = Accept { publication, first_seq, max_datum_bytes, reliability, weight: weight.max(1) };
        let accepted =
            self.sessions.get_mut(slot).is_some_and(|entry| entry.session.accept(label, accept).is_ok());
        if !accepted || self.channels.is_full() {
            let stream = self.streams.get_mut(stream_slot).filter(|_| resumed);
            let parked = stream.and_then(|stream| stream.park(first_seq));
            self.floors.push(stream_slot);
            self.remove_if_unused(stream_slot);
            return self.refuse_accept(slot, label, &handle, parked);
        }
        if handle.egress().is_limited()
            && let Some(entry) = self.sessions.get_mut(slot)
        {
            let _ = entry.session.limit(label);
        }
        self.serve_channel(slot, label, (stream_slot, first_seq), handle);
    }

    /// Connects a channel that the session has accepted with the stream that it reads from `first_seq` on.
    fn serve_channel(
        &mut self,
        slot: SessionSlot,
        label: Label,
        (stream_slot, first_seq): (StreamSlot, u64),
        handle: Arc<ChannelShared>,
    ) {
        let Some(stream) = self.streams.get_mut(stream_slot) else { return };
        let place = stream.channels.len() as u32;
        let (known, ended) = (stream.published, stream.mode == PollMode::Closed);
        let read = PassedCount { next: first_seq, ..PassedCount::default() };
        let selects = !handle.selection().is_trivial();
        let producer = ProducerEnd {
            stream: stream_slot,
            place,
            released: first_seq,
            finishing: false,
            selects,
            read,
            marks: ChannelMarks::default(),
        };
        // Written before the channel reads: the clerk finds the slowest channel of a ring by these counters.
        let published = known.max(first_seq);
        handle.counters().write(&ChannelSnapshot {
            position: first_seq,
            released: first_seq,
            published,
            ..ChannelSnapshot::default()
        });
        handle.set_connected(self.now);
        let Some(channel_slot) = self.insert_channel(slot, label, handle, ChannelRole::Producer(producer))
        else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(stream_slot) {
            stream.channels.push(channel_slot);
        }
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let index = entry.index;
        entry.session.publish(label, published);
        self.counters.bump(Counter::ChannelsOpened);
        self.reply(Event::ChannelServed { index, label, first_seq });
        if ended {
            // It may close at once, which is told after the opening.
            self.finish_channel(channel_slot, known);
        }
        self.mark_dirty(slot);
    }

    /// The stream of `ring` and the sequence at which a channel begins that joins it now, at `resume` if that
    /// is given. When it can't be joined, gives the kept position back.
    fn join_ring(
        &mut self,
        (ring, end): (Ring, Arc<StreamEnd>),
        resume: Option<ResumePoint>,
    ) -> Result<(StreamSlot, u64), Option<Reader>> {
        let kept = resume.and_then(|resume| resume_reader(resume, &ring));
        let kept = mutate!(kept, "resumes-at-tail" => None);
        let key = ring.id();
        if let Some(&slot) = self.by_ring.get(&key) {
            let Some(stream) = self.streams.get_mut(slot).filter(|stream| !stream.detached) else {
                return Err(kept.map(|(parked, _)| parked));
            };
            let Some((parked, first)) = kept else { return Ok((slot, stream.tail())) };
            if first < stream.oldest() {
                stream.adopt(parked);
                if stream.mode == PollMode::Armed {
                    // The ring notified the reader that was replaced.
                    stream.mode = PollMode::Polling { quiet: 0 };
                    self.polled.push(slot);
                }
            }
            return Ok((slot, first));
        }
        let Some(slot) = self.streams.vacant() else { return Err(kept.map(|(parked, _)| parked)) };
        let (stream, first) = match kept {
            Some((parked, first)) => {
                (StreamEntry::with_reader((ring, end), parked, slot, &self.notifier), first)
            }
            None => {
                let stream = StreamEntry::join((ring, end), slot, &self.notifier).map_err(|_| None)?;
                let first = stream.floor;
                (stream, first)
            }
        };
        let inserted = self.streams.insert(stream).map_err(|_| None)?;
        assert_eq!(inserted, slot, "the stream's notifications name another slot");
        self.by_ring.insert(key, slot);
        self.polled.push(slot);
        Ok((slot, first))
    }

    fn refuse_accept(
        &mut self,
        slot: SessionSlot,
        label: Label,
        handle: &ChannelShared,
        parked: Option<Reader>,
    ) {
        let code = CloseCode::NO_CAPACITY;
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let index = entry.index;
        // Either of the two, depending on how far the accept had come; for a label that is gone, neither.
        let known = entry.session.reject(label, code).is_ok() || entry.session.reset(label, code).is_ok();
        let (counter, code) = match known {
            true => (Counter::RefusedCommands, code),
            false => (Counter::StaleCommands, SESSION_GONE),
        };
        self.counters.bump(counter);
        handle.terminate(code, self.now);
        self.reply(Event::ChannelClosed { index, label, code, parked });
        self.mark_dirty(slot);
    }

    /// A reset for a label without a channel here: a request that the clerk has not answered, or a channel
    /// that ended.
    fn reset_unserved(&mut self, slot: SessionSlot, label: Label, code: CloseCode) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        if entry.session.reject(label, code).is_err() {
            return self.count_stale();
        }
        self.mark_dirty(slot);
    }

    fn send_control(&mut self, index: ReceiverIndex, bytes: Vec<u8>) {
        let Some(slot) = self.find(index) else { return self.count_stale() };
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        match entry.session.send_control(bytes) {
            Ok(()) => self.mark_dirty(slot),
            Err(
                ControlError::Full(bytes)
                | ControlError::Closed(bytes)
                | ControlError::TooLarge { message: bytes, .. },
            ) => {
                self.counters.bump(Counter::RefusedCommands);
                self.reply(Event::ControlRefused { index, bytes });
            }
        }
    }
}

/// A kept reader at the sequence where its channel goes on: the one that the consumer wants, or the oldest
/// after it that is left. `None` when the ring has cut it off.
fn resume_reader(resume: ResumePoint, ring: &Ring) -> Option<(Reader, u64)> {
    let ResumePoint { next_seq, mut parked } = resume;
    let oldest = parked.pin().ok()?;
    let first = next_seq.clamp(oldest, ring.tail().max(oldest));
    let first = mutate!(first, "evicted-place-resumed" => ring.tail());
    parked.unpin(first);
    Some((parked, first))
}
