//! Which session sends next, and how its packets become sends.
//!
//! Not inside: which channel of a session is next and what a packet holds (the session), and when packets leave
//! (the driver).
//!
//! Only sessions that may have something to send are in the ready queue. A session leaves it when it has
//! nothing more (or may not send now: then its deadline brings it back) and goes to the end when it has used
//! its quantum. So the cost of a turn is that of the packets it sends, whatever else is idle.
//!
//! Packets of one session that are equally long leave as one train, a single send for the kernel to cut. A
//! shorter one can only be the last of its train. A longer one is set aside, copied, and begins the next.

use std::net::SocketAddr;

use corewire_proto::{
    session::{DatumSource, Session},
    time::Instant,
};

use super::{
    Core,
    limits::{SEGMENTS_PER_TRAIN, SENDS_PER_TURN, SESSION_QUANTUM_BYTES},
    source::RingSource,
};
use crate::{
    counters::Counter,
    driver::{Driver, MAX_SEND_BYTES, SocketId},
};

/// A sealed packet that did not fit the size of its train. Its number is used up, so it is sent, not sealed
/// again.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Empty when nothing is set aside. Keeps its memory.
    packet: Vec<u8>,
    to: Option<(SocketId, SocketAddr)>,
}

/// What became of a session's turn.
enum Served {
    /// It has nothing more to send now.
    Drained,
    /// It has used its share.
    More,
    /// All transmit memory is in flight.
    NoLease,
}

/// Packets of one length in one lease.
#[derive(Debug, Default, PartialEq, Eq)]
struct Train {
    packets: usize,
    bytes: usize,
    segment: usize,
    /// The session had nothing more.
    drained: bool,
}

impl Core {
    /// Lets ready sessions send, each in its turn, up to the bound of a turn.
    pub(crate) fn transmit(&mut self, driver: &mut impl Driver) {
        let mut sends = 0;
        if !self.send_aside(driver, &mut sends) {
            return self.note_no_lease();
        }
        while sends < SENDS_PER_TURN {
            let Some(slot) = self.ready.pop_front() else { break };
            // A slot whose session left, or an entry that an earlier session of the slot left behind.
            if !self.sessions.get(slot).is_some_and(|seat| seat.ready) {
                continue;
            }
            match self.serve(slot, driver, &mut sends) {
                Served::Drained => {
                    if let Some(seat) = self.sessions.get_mut(slot) {
                        seat.ready = false;
                    }
                }
                Served::More => self.ready.push_back(slot),
                Served::NoLease => {
                    self.ready.push_front(slot);
                    self.note_no_lease();
                    break;
                }
            }
        }
        if sends > 0 {
            self.work.did = true;
            self.counters.add(Counter::TrainsSent, sends as u64);
        }
        if sends >= SENDS_PER_TURN && !self.ready.is_empty() {
            self.counters.bump(Counter::TransmitBound);
        }
    }

    fn note_no_lease(&mut self) {
        self.work.no_lease = true;
        self.counters.bump(Counter::LeasesExhausted);
    }

    /// One session's turn.
    fn serve(&mut self, slot: u32, driver: &mut impl Driver, sends: &mut usize) -> Served {
        let mut spent = 0;
        while spent < SESSION_QUANTUM_BYTES && *sends < SENDS_PER_TURN {
            let Some(mut lease) = driver.lease() else { return Served::NoLease };
            let Some(seat) = self.sessions.get_mut(slot) else { return Served::Drained };
            let mut source = RingSource {
                labels: &seat.labels,
                channels: &mut self.channels,
                streams: &mut self.streams,
                pinned: &mut self.pinned,
                touched: &mut self.touched,
                cut: &mut self.cut,
                read: 0,
                skipped: 0,
            };
            let usable = lease.len().min(MAX_SEND_BYTES);
            let train = fill(
                &mut seat.session,
                self.now,
                &mut lease[..usable],
                seat.max_packet,
                &mut self.aside.packet,
                &mut source,
            );
            let (read, skipped) = (source.read, source.skipped);
            let (socket, to) = (seat.socket, seat.to);
            self.counters.add(Counter::DatumsRead, read);
            self.counters.add(Counter::DatumsSkipped, skipped);
            if train.packets == 0 {
                return Served::Drained;
            }
            driver.send(socket, to, lease, train.bytes, train.segment);
            *sends += 1;
            spent += train.bytes;
            self.counters.add(Counter::PacketsSent, train.packets as u64);
            self.counters.add(Counter::BytesSent, train.bytes as u64);
            if !self.aside.packet.is_empty() {
                self.counters.bump(Counter::PacketsSetAside);
                self.aside.to = Some((socket, to));
                spent += self.aside.packet.len();
                if !self.send_aside(driver, sends) {
                    return Served::NoLease;
                }
            }
            if train.drained {
                return Served::Drained;
            }
        }
        Served::More
    }

    /// Sends what was set aside; `false` when there is no memory for it yet.
    fn send_aside(&mut self, driver: &mut impl Driver, sends: &mut usize) -> bool {
        let len = self.aside.packet.len();
        if len == 0 {
            return true;
        }
        let Some((socket, to)) = self.aside.to else { return true };
        let Some(mut lease) = driver.lease() else { return false };
        lease[..len].copy_from_slice(&self.aside.packet);
        self.aside.packet.clear();
        driver.send(socket, to, lease, len, len);
        *sends += 1;
        self.counters.bump(Counter::PacketsSent);
        self.counters.add(Counter::BytesSent, len as u64);
        true
    }

    /// Whether a sealed packet still waits for memory.
    pub(crate) fn has_aside(&self) -> bool {
        !self.aside.packet.is_empty()
    }
}

/// Fills `buf` with packets of one length; a longer one goes to `aside`, which must be empty.
fn fill(
    session: &mut Session,
    now: Instant,
    buf: &mut [u8],
    max_packet: usize,
    aside: &mut Vec<u8>,
    source: &mut impl DatumSource,
) -> Train {
    debug_assert!(aside.is_empty(), "what is set aside goes first");
    let mut train = Train::default();
    while train.packets < SEGMENTS_PER_TRAIN {
        let room = &mut buf[train.bytes..];
        if room.len() < max_packet && train.packets > 0 {
            break;
        }
        let Some(len) = session.poll_transmit(now, room, source) else {
            train.drained = true;
            break;
        };
        if train.packets > 0 && len > train.segment {
            aside.extend_from_slice(&room[..len]);
            break;
        }
        train.packets += 1;
        train.bytes += len;
        if train.packets == 1 {
            train.segment = len;
        } else if len < train.segment {
            break;
        }
    }
    train
}
