//! From a datagram to its session.
//!
//! Not inside: what a packet says. Everything that is not for a session of this shard, from where the session
//! expects it, is dropped here, counted by its cause, before anything is computed or allocated for it.

use corewire_proto::{session::Dropped, wire::header::Header};

use super::{
    Core,
    command::Event,
    limits::DATAGRAMS_PER_TURN,
    sink::{InboxSink, Tally},
};
use crate::{
    counters::Counter,
    driver::{Driver, Received},
};

/// Longest datagram that is taken for a handshake message. The messages of the protocol are below 1.5 KiB; this
/// only keeps a stranger from having 64 KiB copied at a time.
const HANDSHAKE_BYTES: usize = 2_048;

impl Core {
    /// Receives, up to the bound of a turn.
    pub(crate) fn receive(&mut self, driver: &mut impl Driver) {
        let received = driver.receive(DATAGRAMS_PER_TURN, |datagram| self.take_datagram(datagram));
        if received > 0 {
            self.work.did = true;
            self.counters.add(Counter::DatagramsReceived, received as u64);
        }
        if received >= DATAGRAMS_PER_TURN {
            self.counters.bump(Counter::ReceiveBound);
        }
    }

    fn take_datagram(&mut self, datagram: Received<'_>) {
        self.counters.add(Counter::BytesReceived, datagram.bytes.len() as u64);
        let Ok((header, kind)) = Header::parse(datagram.bytes) else {
            return self.counters.bump(Counter::DropMalformed);
        };
        if kind.is_handshake() {
            return self.take_handshake(&datagram);
        }
        let index = header.receiver();
        if index.shard() != self.config.id {
            return self.counters.bump(Counter::DropWrongShard);
        }
        let Some(slot) = self.sessions.find(index) else {
            return self.counters.bump(Counter::DropNoSession);
        };
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if seat.to != datagram.from {
            return self.counters.bump(Counter::DropForeignSource);
        }
        if seat.held.is_some() {
            return self.counters.bump(Counter::DropHeldUp);
        }
        let mut sink = InboxSink {
            labels: &seat.labels,
            channels: &mut self.channels,
            touched: &mut self.touched,
            tally: Tally::default(),
        };
        let handled = seat.session.handle_packet(self.now, datagram.bytes, &mut sink);
        let tally = sink.tally;
        self.counters.add(Counter::DatumsDelivered, tally.delivered);
        self.counters.add(Counter::DatumsMissed, tally.missed);
        self.counters.add(Counter::InboxRefusals, tally.refused);
        match handled {
            Ok(()) => self.counters.bump(Counter::PacketsAccepted),
            Err(dropped) => {
                self.counters.bump(Counter::DropBySession);
                // A forged or repeated packet changed nothing, so nothing more is done for it.
                match dropped {
                    Dropped::Malformed | Dropped::Replay | Dropped::Auth | Dropped::OtherKey => return,
                    Dropped::Violation(code) => self.end_channels(slot, code),
                    Dropped::Closed => {}
                }
            }
        }
        // Now, not at the end of the turn: the next packet may carry datums for a channel that this one opened.
        self.hear(slot);
        self.touch(slot);
    }

    fn take_handshake(&mut self, datagram: &Received<'_>) {
        let Some(node) = self.nodes.of_socket(datagram.socket) else {
            return self.counters.bump(Counter::DropNoNode);
        };
        if datagram.bytes.len() > HANDSHAKE_BYTES {
            return self.counters.bump(Counter::DropMalformed);
        }
        // Events that must not be lost go first; while they wait, there is no room for a handshake either.
        let room = self.backlog.is_empty() && self.ending.is_none();
        let taken = room
            && self.backlog.offer(Event::Handshake {
                node,
                shard: self.config.id,
                from: datagram.from,
                bytes: datagram.bytes.to_vec(),
            });
        self.counters.bump(if taken { Counter::Handshakes } else { Counter::DropHandshake });
    }
}
