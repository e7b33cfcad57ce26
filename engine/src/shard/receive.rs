//! From a datagram to its session.
//!
//! What is not for a session of this shard is dropped here and counted by its cause, before anything is
//! computed or allocated for it. A packet of a session may come from any address: the session opens it first
//! and follows its peer.

use corewire_proto::{mutate, session::Dropped, wire::header::DataPacket};

use super::{
    ShardCore,
    command::Event,
    limits::{CATCH_UP_TURNS, DATAGRAMS_PER_TURN, PATH_ERRORS_PER_TURN, SHARD_STALL},
    sink::{DeliveryCount, InboxSink},
};
use crate::{
    counters::Counter,
    driver::{Driver, PathError, PathFault, Received, Route},
};

/// Longest datagram that is taken for a handshake message, in bytes. The messages of the protocol are below
/// 1.5 KiB; the bound keeps a stranger from having 64 KiB copied at a time.
const HANDSHAKE_BYTES_MAX: usize = 2_048;

impl ShardCore {
    /// Receives, up to the bound of a turn.
    pub(crate) fn receive(&mut self, driver: &mut impl Driver) {
        let stalled = self.now - std::mem::replace(&mut self.received_at, self.now) > SHARD_STALL;
        if stalled && self.catching_up == 0 {
            self.catching_up = CATCH_UP_TURNS;
        }
        let mut received = driver.receive(DATAGRAMS_PER_TURN, |datagram| self.take_datagram(datagram));
        if self.catching_up > 0 {
            self.catching_up -= 1;
            while received < DATAGRAMS_PER_TURN {
                // A driver may leave some for its next call, or for a call after it has armed its receives.
                let _ = driver.submit();
                let budget = DATAGRAMS_PER_TURN - received;
                let more = driver.receive(budget, |datagram| self.take_datagram(datagram));
                received += more;
                if more == 0 {
                    self.catching_up = 0;
                    break;
                }
            }
        }
        if received > 0 {
            self.work.did = true;
            self.counters.add(Counter::DatagramsReceived, received as u64);
        }
        if received >= DATAGRAMS_PER_TURN {
            self.counters.bump(Counter::ReceiveBound);
        }
    }

    /// Tells sessions and the clerk of errors that came back for datagrams, up to the bound of a turn.
    pub(crate) fn take_path_errors(&mut self, driver: &mut impl Driver) {
        for _ in 0..PATH_ERRORS_PER_TURN {
            let Some(PathError { socket, to, fault }) = driver.path_error() else { return };
            // Then a next turn takes more.
            self.work.did = true;
            // Other sockets may have other ways to the same address.
            let is_there = |route: &Route| route.socket == socket && route.to == to;
            let there = self.sessions.iter().filter(|(_, entry)| is_there(&entry.route));
            for slot in there.map(|(slot, _)| slot).collect::<Vec<_>>() {
                let Some(entry) = self.sessions.get_mut(slot) else { continue };
                match fault {
                    PathFault::TooLarge { bytes } => entry.session.handle_too_large(self.now, bytes),
                    PathFault::Refused => entry.session.handle_unreachable(self.now, true),
                    PathFault::Unreachable => entry.session.handle_unreachable(self.now, false),
                    PathFault::NotSent => {
                        // The host may have lost the address. From now on the kernel chooses one; the peer
                        // follows when that has answered.
                        entry.route.source = mutate!(None, "lost-source-kept" => entry.route.source);
                        entry.session.handle_unreachable(self.now, false);
                    }
                }
                self.mark_dirty(slot);
            }
            if let Some(node) = self.nodes.of_socket(socket).filter(|_| self.backlog.is_empty()) {
                self.backlog.offer(Event::Unreachable { node, to, fault });
            }
        }
    }

    fn take_datagram(&mut self, datagram: Received<'_>) {
        self.counters.add(Counter::BytesReceived, datagram.bytes.len() as u64);
        let (socket, from, source) = (datagram.socket, datagram.from, datagram.at);
        let packet = match DataPacket::parse(datagram.bytes) {
            Ok(Some(packet)) => packet,
            Ok(None) => return self.take_handshake(&datagram),
            Err(_) => return self.counters.bump(Counter::DropMalformed),
        };
        let index = packet.header().receiver();
        if index.shard() != self.config.id {
            return self.counters.bump(Counter::DropWrongShard);
        }
        let Some(slot) = self.sessions.find(index) else {
            return self.counters.bump(Counter::DropNoSession);
        };
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        if entry.held.is_some() {
            return self.counters.bump(Counter::DropHeldUp);
        }
        let mut sink = InboxSink {
            labels: &entry.labels,
            channels: &mut self.channels,
            touched: &mut self.touched,
            count: DeliveryCount::default(),
        };
        let handled = entry.session.handle_packet_from(self.now, from, packet, &mut sink);
        let count = sink.count;
        self.counters.add(Counter::DatumsDelivered, count.delivered);
        self.counters.add(Counter::DatumsMissed, count.missed);
        self.counters.add(Counter::InboxRefusals, count.refused);
        match handled {
            Ok(()) => {
                self.counters.bump(Counter::PacketsAccepted);
                if from != entry.route.to {
                    self.counters.bump(Counter::PacketsFromElsewhere);
                    entry.elsewhere = Some(Route { socket, source, to: from });
                }
            }
            Err(dropped) => {
                self.counters.bump(Counter::DropBySession);
                // A forged or repeated packet changed nothing, so nothing more is done for it.
                match dropped {
                    Dropped::Malformed | Dropped::Replay | Dropped::Auth | Dropped::OtherKey => return,
                    Dropped::Violation(code) => self.end_channels(slot, code, code),
                    Dropped::Closed => {}
                }
            }
        }
        // Now, not at the end of the turn: the next packet may have datums for a channel that this one
        // opened.
        self.drain_session_events(slot);
        self.mark_dirty(slot);
    }

    fn take_handshake(&mut self, datagram: &Received<'_>) {
        let Some(node) = self.nodes.of_socket(datagram.socket) else {
            return self.counters.bump(Counter::DropNoNode);
        };
        if datagram.bytes.len() > HANDSHAKE_BYTES_MAX {
            return self.counters.bump(Counter::DropMalformed);
        }
        // Events that must not be lost go first: while one waits, handshakes are dropped.
        let room = self.backlog.is_empty() && self.shutdown.is_none();
        let taken = room
            && self.backlog.offer(Event::Handshake {
                node,
                shard: self.config.id,
                from: datagram.from,
                at: datagram.at,
                bytes: datagram.bytes.to_vec(),
            });
        self.counters.bump(if taken { Counter::Handshakes } else { Counter::DropHandshake });
    }
}
