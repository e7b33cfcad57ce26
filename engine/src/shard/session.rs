//! A session's seat in the shard: the protocol's state machine and what the shard keeps beside it.
//!
//! Not inside: the protocol. Here sessions are installed and removed, and marked as having something to do.

use std::net::SocketAddr;

use corewire_proto::{
    seal::{Opener, Sealer, SessionKeys},
    session::{CloseCode, NewKey, Session, SessionConfig},
    wire::header::ReceiverIndex,
};

use super::{
    Core,
    channel::{Channel, Role},
    command::{Event, Install, NodeId, Rekey},
    table::Labels,
};
use crate::{counters::Counter, driver::SocketId};

/// A session and its belongings.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) session: Session,
    pub(crate) index: ReceiverIndex,
    pub(crate) node: NodeId,
    pub(crate) socket: SocketId,
    /// The peer's address; fixed for the life of the session.
    pub(crate) to: SocketAddr,
    /// Room that a packet of this session needs.
    pub(crate) max_packet: usize,
    pub(crate) labels: Labels,
    /// Stands in the ready queue.
    pub(crate) ready: bool,
    /// Stands in the list of sessions to settle.
    pub(crate) dirty: bool,
    /// An event for the clerk that found no room. While there is one, the session hears nothing from its peer.
    pub(crate) held: Option<Event>,
    /// The session is over, and has repeated that to its peer as long as it wants to; only the clerk does not
    /// know yet.
    pub(crate) over: Option<CloseCode>,
}

impl Core {
    /// Takes over a session. What can't be installed is reported as closed.
    pub(crate) fn install(&mut self, install: Install) {
        let Install { index, remote_index, node, to, keys, config } = install;
        let slot = index.slot();
        let socket = self.nodes.socket_for(node, to);
        let right_shard = index.shard() == self.config.id;
        let (Some(socket), true, true) = (socket, right_shard, self.ending.is_none()) else {
            return self.refuse_install(index);
        };
        if !self.nodes.enter(node) {
            return self.refuse_install(index);
        }
        let (sealer, opener) = self.seals(&keys, &config);
        let session = Session::new(config, sealer, opener, remote_index, self.now);
        // The session has brought it into the range that packets may have.
        let max_packet = session.config().max_packet_bytes;
        let seat = Seat {
            session,
            index,
            node,
            socket,
            to,
            max_packet,
            labels: Labels::default(),
            ready: false,
            dirty: false,
            held: None,
            over: None,
        };
        if self.sessions.install(index, seat).is_err() {
            let sockets = self.nodes.exit(node);
            self.closing.extend(sockets);
            return self.refuse_install(index);
        }
        self.counters.bump(Counter::SessionsOpened);
        self.touch(slot);
    }

    /// Both ends of the encryption under fresh keys.
    fn seals(&self, keys: &SessionKeys, config: &SessionConfig) -> (Sealer, Opener) {
        let limits = config.key_limits(keys.suite);
        (
            Sealer::with_limits(keys.suite, &keys.send, limits, self.now),
            Opener::with_limits(keys.suite, &keys.recv, limits, self.now),
        )
    }

    /// Gives a session its next key.
    pub(crate) fn rekey(&mut self, rekey: Rekey) {
        let Rekey { index, phase, keys, confirmed } = rekey;
        let Some(slot) = self.find(index) else { return self.stale() };
        let Some(seat) = self.sessions.get(slot) else { return };
        let (sealer, opener) = self.seals(&keys, seat.session.config());
        let key = NewKey { phase, sealer, opener, confirmed };
        let now = self.now;
        let taken = self.sessions.get_mut(slot).is_some_and(|seat| seat.session.rekey(now, key).is_ok());
        if !taken {
            return self.counters.bump(Counter::RefusedCommands);
        }
        self.touch(slot);
    }

    fn refuse_install(&mut self, index: ReceiverIndex) {
        self.counters.bump(Counter::RefusedCommands);
        self.report(Event::SessionClosed { index, code: CloseCode::NO_CAPACITY });
    }

    /// Notes that a session may have something to send, to say or to wait for.
    pub(crate) fn touch(&mut self, slot: u32) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if !seat.ready {
            seat.ready = true;
            self.ready.push_back(slot);
        }
        if !seat.dirty {
            seat.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Ends every channel of a session whose protocol is over.
    pub(crate) fn end_channels(&mut self, slot: u32, code: CloseCode) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        let labels = std::mem::take(&mut seat.labels);
        for channel in labels.channels() {
            if let Some(channel) = self.channels.remove(channel) {
                self.let_go(channel, code);
            }
        }
    }

    /// Takes a channel out of its session's table. `None` when it is gone already.
    pub(crate) fn take_channel(
        &mut self,
        session: u32,
        label: corewire_proto::channel::Label,
    ) -> Option<Channel> {
        let channel = self.sessions.get_mut(session)?.labels.remove(label)?;
        self.channels.remove(channel)
    }

    /// The last act for a channel that was taken out of every table: its ring, its inbox and its watchers learn
    /// that it is over.
    pub(crate) fn let_go(&mut self, channel: Channel, code: CloseCode) {
        channel.write_last_numbers(code);
        match &channel.role {
            Role::Opening(_) => {}
            Role::Producer(producer) => {
                self.leave_stream(producer.stream, producer.leg);
                self.counters.bump(Counter::ChannelsClosed);
            }
            Role::Consumer(consumer) => {
                consumer.inbox.close();
                self.counters.bump(Counter::ChannelsClosed);
            }
        }
        channel.shared.terminate(code);
    }

    /// Frees the seat of a session that is over, once the clerk could be told.
    pub(crate) fn vacate(&mut self, slot: u32) {
        let Some(seat) = self.sessions.remove(slot) else { return };
        self.timers.forget(slot);
        let sockets = self.nodes.exit(seat.node);
        self.closing.extend(sockets);
        self.counters.bump(Counter::SessionsClosed);
    }
}
