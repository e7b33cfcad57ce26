//! What is done about the clerk's commands.
//!
//! Not inside: decisions. The clerk has made them; here they meet what is really there. A command for something
//! that is gone is counted and forgotten, except that whoever waits for an answer gets one.

use std::{net::SocketAddr, sync::Arc};

use corewire_proto::{
    channel::{Accept, Label, OpenRequest, PublicationId, Reliability},
    session::{CloseCode, ControlError},
    wire::header::ReceiverIndex,
};
use corewire_rings::Ring;

use super::{
    Core,
    channel::{Channel, Opening, Producer, Read, Role},
    command::{Command, Event, NodeId},
    limits::COMMANDS_PER_TURN,
    stream::{Stream, Watch},
};
use crate::{
    counters::Counter,
    driver::{Driver, MAX_SEND_BYTES, Socket},
    shared::{ChannelShared, ChannelSnapshot},
};

/// The code for what concerned a session that is gone: as if the peer did not answer, so that it is tried again.
const SESSION_GONE: CloseCode = CloseCode::PEER_LOST;

impl Core {
    /// Takes commands, up to the bound of a turn and as long as their answers find room.
    pub(crate) fn take_commands(&mut self, driver: &mut impl Driver) {
        if self.has_stopped() {
            return self.refuse_commands();
        }
        let mut taken = 0;
        while taken < COMMANDS_PER_TURN && !self.backlog.is_full() {
            let Some(command) = self.commands.try_recv() else { break };
            taken += 1;
            self.obey(command, driver);
        }
        if taken > 0 {
            self.work.did = true;
            self.counters.add(Counter::Commands, taken as u64);
        }
        if taken == COMMANDS_PER_TURN {
            self.counters.bump(Counter::CommandBound);
        }
    }

    /// Takes what a shard that has stopped is still told. Whoever waits for a channel learns that there is none.
    pub(crate) fn refuse_commands(&mut self) {
        while let Some(command) = self.commands.try_recv() {
            self.stale();
            if let Command::OpenChannel { handle, .. } | Command::AcceptChannel { handle, .. } = command {
                handle.terminate(SESSION_GONE);
            }
        }
    }

    fn obey(&mut self, command: Command, driver: &mut impl Driver) {
        match command {
            Command::AddSocket { node, socket } => self.add_socket(driver, node, socket),
            Command::RemoveNode { node } => self.remove_node(node),
            Command::SendDatagram { node, to, bytes } => self.send_datagram(driver, node, to, &bytes),
            Command::InstallSession(install) => self.install(*install),
            Command::RekeySession(rekey) => self.rekey(*rekey),
            Command::CloseSession { index, code } => match self.find(index) {
                Some(slot) => self.close_session(slot, code),
                None => self.stale(),
            },
            Command::OpenChannel { index, open_id, request, handle } => {
                self.open_channel(index, open_id, *request, handle);
            }
            Command::AcceptChannel { index, label, ring, weight, reliability, handle } => {
                self.accept_channel(index, label, ring, weight, reliability, handle);
            }
            Command::RejectChannel { index, label, code } => {
                let Some(slot) = self.find(index) else { return self.stale() };
                let Some(seat) = self.sessions.get_mut(slot) else { return };
                if seat.session.reject(label, code).is_err() {
                    return self.stale();
                }
                self.counters.bump(Counter::ChannelsRejected);
                self.touch(slot);
            }
            Command::ResetChannel { index, label, code } => match self.find(index) {
                Some(slot) if self.has_channel(slot, label) => self.reset_channel(slot, label, code),
                Some(slot) => self.reset_unserved(slot, label, code),
                None => self.stale(),
            },
            Command::SendControl { index, bytes } => self.send_control(index, bytes),
            Command::Shutdown { deadline } => self.begin_ending(deadline),
        }
    }

    /// The slot of a session that is alive and on this shard.
    pub(crate) fn find(&self, index: ReceiverIndex) -> Option<u32> {
        if index.shard() != self.config.id {
            return None;
        }
        let slot = self.sessions.find(index)?;
        (!self.sessions.get(slot)?.session.is_closed()).then_some(slot)
    }

    fn has_channel(&self, slot: u32, label: Label) -> bool {
        self.sessions.get(slot).is_some_and(|seat| seat.labels.get(label).is_some())
    }

    pub(crate) fn stale(&mut self) {
        self.counters.bump(Counter::StaleCommands);
    }

    fn add_socket(&mut self, driver: &mut impl Driver, node: NodeId, socket: Socket) {
        let added = socket.local_addr().and_then(|local| Ok((driver.add_socket(socket)?, local)));
        match added {
            Ok((socket, local)) => self.nodes.add(node, socket, local),
            Err(error) => {
                self.counters.bump(Counter::RefusedCommands);
                self.report(Event::SocketRefused { node, shard: self.config.id, error });
            }
        }
    }

    fn remove_node(&mut self, node: NodeId) {
        // Looks at every session: rare, and bounded by the table.
        let slots: Vec<u32> = self
            .sessions
            .slots()
            .filter(|&slot| self.sessions.get(slot).is_some_and(|seat| seat.node == node))
            .collect();
        for slot in slots {
            self.close_session(slot, CloseCode::GRACEFUL);
        }
        let sockets = self.nodes.leave(node);
        self.closing.extend(sockets);
    }

    fn send_datagram(&mut self, driver: &mut impl Driver, node: NodeId, to: SocketAddr, bytes: &[u8]) {
        let socket = self.nodes.socket_for(node, to);
        let lease = if bytes.len() <= MAX_SEND_BYTES { driver.lease() } else { None };
        let (Some(socket), Some(mut lease)) = (socket, lease) else {
            // The handshake repeats what got lost.
            self.counters.bump(Counter::DropDatagram);
            return;
        };
        lease[..bytes.len()].copy_from_slice(bytes);
        driver.send(socket, to, lease, bytes.len(), bytes.len());
        self.counters.bump(Counter::DatagramsSent);
    }

    /// Closes a session. Its end comes as an event of its own.
    pub(crate) fn close_session(&mut self, slot: u32, code: CloseCode) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if seat.session.is_closed() {
            return;
        }
        seat.session.close(self.now, code);
        // The channels end now; the session lingers to repeat it to its peer.
        self.end_channels(slot, code);
        self.touch(slot);
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
        let opening = Opening {
            open_id,
            window_bytes: request.window_bytes,
            window_datums: request.window_datums,
            max_datum_bytes: request.max_datum_bytes,
        };
        let code = match self.find(index) {
            None => {
                self.stale();
                SESSION_GONE
            }
            Some(_) if self.channels.is_full() => CloseCode::NO_CAPACITY,
            Some(slot) => match self.sessions.get_mut(slot).map(|seat| seat.session.open(request)) {
                Some(Ok(label)) => {
                    self.seat_channel(slot, label, handle, Role::Opening(opening));
                    return self.touch(slot);
                }
                Some(Err(corewire_proto::session::OpenChannelError::TooLarge { .. })) => CloseCode::TOO_LARGE,
                Some(Err(corewire_proto::session::OpenChannelError::Closed)) | None => SESSION_GONE,
                Some(Err(_)) => CloseCode::NO_CAPACITY,
            },
        };
        self.counters.bump(Counter::RefusedCommands);
        handle.terminate(code);
        self.report(Event::ChannelRejected { index, open_id, code });
    }

    /// Enters a channel in the tables. The caller has seen that there is room.
    fn seat_channel(
        &mut self,
        slot: u32,
        label: Label,
        shared: Arc<ChannelShared>,
        role: Role,
    ) -> Option<u32> {
        let channel = Channel { session: slot, label, shared, role, touched: false };
        let channel_slot = self.channels.insert(channel).ok()?;
        self.sessions.get_mut(slot)?.labels.insert(label, channel_slot);
        Some(channel_slot)
    }

    fn accept_channel(
        &mut self,
        index: ReceiverIndex,
        label: Label,
        ring: Ring,
        weight: u8,
        reliability: Reliability,
        handle: Arc<ChannelShared>,
    ) {
        let Some(slot) = self.find(index) else {
            self.stale();
            handle.terminate(SESSION_GONE);
            return self.report(Event::ChannelClosed { index, label, code: SESSION_GONE });
        };
        if self.has_channel(slot, label) {
            // Served already; what follows would cut the live channel.
            self.stale();
            handle.terminate(CloseCode::SUPERSEDED);
            return;
        }
        let max_datum_bytes = u32::try_from(ring.config().max_record).unwrap_or(u32::MAX);
        let Some((stream_slot, first_seq)) = self.join(ring) else {
            return self.refuse_accept(slot, label, &handle);
        };
        let accept = Accept {
            publication: PublicationId::default(),
            first_seq,
            max_datum_bytes,
            reliability,
            weight: weight.max(1),
        };
        let accepted =
            self.sessions.get_mut(slot).is_some_and(|seat| seat.session.accept(label, accept).is_ok());
        if !accepted || self.channels.is_full() {
            self.part_if_unused(stream_slot);
            return self.refuse_accept(slot, label, &handle);
        }
        let Some(stream) = self.streams.get_mut(stream_slot) else { return };
        let leg = stream.legs.len() as u32;
        let (known, ended) = (stream.published, stream.watch == Watch::Ended);
        let read = Read { next: first_seq, ..Read::default() };
        let producer = Producer { stream: stream_slot, leg, released: first_seq, finishing: false, read };
        // Before anything moves: the clerk judges who holds a ring back by these numbers.
        let published = known.max(first_seq);
        handle.counters().write(&ChannelSnapshot {
            position: first_seq,
            released: first_seq,
            published,
            ..ChannelSnapshot::default()
        });
        handle.set_connected();
        let Some(channel_slot) = self.seat_channel(slot, label, handle, Role::Producer(producer)) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(stream_slot) {
            stream.legs.push(channel_slot);
        }
        if let Some(seat) = self.sessions.get_mut(slot) {
            seat.session.publish(label, published);
        }
        if ended {
            self.finish(channel_slot, known);
        }
        self.counters.bump(Counter::ChannelsOpened);
        self.report(Event::ChannelServed { index, label });
        self.touch(slot);
    }

    /// The stream of `ring` and where a channel begins that joins it now; `None` when it can't be joined.
    fn join(&mut self, ring: Ring) -> Option<(u32, u64)> {
        let key = ring.id();
        if let Some(&slot) = self.by_ring.get(&key) {
            let stream = self.streams.get(slot)?;
            return (!stream.detached).then(|| (slot, stream.tail()));
        }
        let slot = self.streams.vacant()?;
        let stream = Stream::join(ring, slot, &self.notifier).ok()?;
        let first = stream.floor;
        self.streams.insert(stream).ok()?;
        self.by_ring.insert(key, slot);
        self.awake.push(slot);
        Some((slot, first))
    }

    fn refuse_accept(&mut self, slot: u32, label: Label, handle: &ChannelShared) {
        let code = CloseCode::NO_CAPACITY;
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        let index = seat.index;
        // Either of the two, depending on how far the accept had come; for a label that is gone, neither.
        let known = seat.session.reject(label, code).is_ok() || seat.session.reset(label, code).is_ok();
        let (counter, code) = match known {
            true => (Counter::RefusedCommands, code),
            false => (Counter::StaleCommands, SESSION_GONE),
        };
        self.counters.bump(counter);
        handle.terminate(code);
        self.report(Event::ChannelClosed { index, label, code });
        self.touch(slot);
    }

    /// A reset for a label that has no channel here: a request that the clerk never answered, or one that ended.
    fn reset_unserved(&mut self, slot: u32, label: Label, code: CloseCode) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if seat.session.reject(label, code).is_err() {
            return self.stale();
        }
        self.touch(slot);
    }

    fn send_control(&mut self, index: ReceiverIndex, bytes: Vec<u8>) {
        let Some(slot) = self.find(index) else { return self.stale() };
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        match seat.session.send_control(bytes) {
            Ok(()) => self.touch(slot),
            Err(
                ControlError::Full(bytes)
                | ControlError::Closed(bytes)
                | ControlError::TooLarge { message: bytes, .. },
            ) => {
                self.counters.bump(Counter::RefusedCommands);
                self.report(Event::ControlRefused { index, bytes });
            }
        }
    }
}
