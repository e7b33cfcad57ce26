//! Which session sends next, and how its packets become sends.
//!
//! Only sessions that may have something to send are in the ready queue. A session leaves it when it has
//! nothing more (or may not send now: then its deadline brings it back) and goes to the end when it has used
//! its quantum. So the cost of a turn is that of the packets it sends, however many sessions are idle.
//!
//! Packets of one session that are equally long leave as one train, a single send that the kernel cuts. A
//! shorter one can only be the last of its train. A longer one is deferred: copied, and sent next.
//!
//! The session decides which of its channels is next and what a packet holds.

use corewire_proto::{
    session::{DatumSource, Session},
    time::Instant,
};

use super::{
    ShardCore,
    limits::{SEGMENTS_PER_TRAIN, SEND_BYTES_PER_TURN, SENDS_PER_TURN, SESSION_QUANTUM_BYTES},
    source::{RingSource, RingTables},
    table::SessionSlot,
};
use crate::{
    counters::Counter,
    driver::{Driver, MAX_SEND_BYTES, Route},
};

/// A sealed packet that did not fit the size of its train. Its number is used up, so it is sent, not sealed
/// again.
#[derive(Debug, Default)]
pub(crate) struct DeferredPacket {
    /// Empty when nothing is deferred. Keeps its memory.
    packet: Vec<u8>,
    /// Its way.
    route: Option<Route>,
}

/// Why a session's sending ended.
enum Served {
    /// It has nothing more to send now.
    Drained,
    /// It has used its quantum.
    More,
    /// All transmit memory is in flight.
    NoLease,
    /// Its socket holds more memory than its share.
    BackedUp,
}

/// What a turn has sent so far.
#[derive(Debug, Default)]
struct TurnSends {
    sends: usize,
    bytes: usize,
}

impl TurnSends {
    fn count(&mut self, bytes: usize) {
        self.sends += 1;
        self.bytes += bytes;
    }

    /// Whether the turn may send no more.
    fn is_full(&self) -> bool {
        self.sends >= SENDS_PER_TURN || self.bytes >= SEND_BYTES_PER_TURN
    }
}

/// Packets of one length in one lease.
#[derive(Debug, Default, PartialEq, Eq)]
struct Train {
    packets: usize,
    /// Length of all packets together.
    bytes: usize,
    /// Length of each packet but the last, which may be shorter.
    segment: usize,
    /// The session had nothing more.
    drained: bool,
}

impl ShardCore {
    /// Lets ready sessions send, a quantum each, up to the bound of a turn.
    pub(crate) fn transmit(&mut self, driver: &mut impl Driver) {
        let mut sent = TurnSends::default();
        if !self.send_deferred(driver, &mut sent) {
            return self.note_no_lease();
        }
        while !sent.is_full() {
            let Some(slot) = self.ready.pop() else { break };
            match self.serve(slot, driver, &mut sent) {
                Served::Drained => {}
                Served::More => self.ready.push(slot),
                Served::BackedUp => {
                    self.counters.bump(Counter::SocketsBackedUp);
                    self.work.no_lease = true;
                    self.backed_up.push(slot);
                }
                Served::NoLease => {
                    self.ready.push_front(slot);
                    self.note_no_lease();
                    break;
                }
            }
        }
        if sent.sends > 0 {
            self.work.did = true;
            self.counters.add(Counter::TrainsSent, sent.sends as u64);
        }
        if sent.is_full() && !self.ready.is_empty() {
            self.counters.bump(Counter::TransmitBound);
        }
        while let Some(slot) = self.backed_up.pop() {
            self.ready.push(slot);
        }
    }

    fn note_no_lease(&mut self) {
        self.work.no_lease = true;
        self.counters.bump(Counter::LeasesExhausted);
    }

    /// Lets one session send. One that has left since it was queued has nothing to send.
    fn serve(&mut self, slot: SessionSlot, driver: &mut impl Driver, sent: &mut TurnSends) -> Served {
        let start = sent.bytes;
        while sent.bytes - start < SESSION_QUANTUM_BYTES && !sent.is_full() {
            let Some(entry) = self.sessions.get_mut(slot) else { return Served::Drained };
            if driver.is_backed_up(entry.route.socket) {
                return Served::BackedUp;
            }
            let Some(mut lease) = driver.lease() else { return Served::NoLease };
            if let Some((to, len)) = entry.session.poll_path_transmit(self.now, &mut lease) {
                driver.send(entry.route_to(to), lease, len, len);
                sent.count(len);
                self.counters.bump(Counter::PacketsSent);
                self.counters.add(Counter::BytesSent, len as u64);
                continue;
            }
            let tables = RingTables {
                labels: &entry.labels,
                channels: &mut self.channels,
                streams: &mut self.streams,
                pinned: &mut self.pinned,
                touched: &mut self.touched,
                cut: &mut self.cut,
            };
            let mut source = RingSource { tables, read: 0, skipped: 0 };
            let usable = lease.len().min(MAX_SEND_BYTES);
            let train = fill(
                &mut entry.session,
                self.now,
                &mut lease[..usable],
                &mut self.deferred.packet,
                &mut source,
            );
            let (read, skipped) = (source.read, source.skipped);
            let route = entry.route;
            self.counters.add(Counter::DatumsRead, read);
            self.counters.add(Counter::DatumsSkipped, skipped);
            if train.packets == 0 {
                return Served::Drained;
            }
            driver.send(route, lease, train.bytes, train.segment);
            sent.count(train.bytes);
            self.counters.add(Counter::PacketsSent, train.packets as u64);
            self.counters.add(Counter::BytesSent, train.bytes as u64);
            if !self.deferred.packet.is_empty() {
                self.counters.bump(Counter::PacketsDeferred);
                self.deferred.route = Some(route);
                if !self.send_deferred(driver, sent) {
                    return Served::NoLease;
                }
            }
            if train.drained {
                return Served::Drained;
            }
        }
        Served::More
    }

    /// Sends the deferred packet; `false` when there is no memory for it yet.
    fn send_deferred(&mut self, driver: &mut impl Driver, sent: &mut TurnSends) -> bool {
        let len = self.deferred.packet.len();
        if len == 0 {
            return true;
        }
        let Some(route) = self.deferred.route else { return true };
        let Some(mut lease) = driver.lease() else { return false };
        lease[..len].copy_from_slice(&self.deferred.packet);
        self.deferred.packet.clear();
        driver.send(route, lease, len, len);
        sent.count(len);
        self.counters.bump(Counter::PacketsSent);
        self.counters.add(Counter::BytesSent, len as u64);
        true
    }

    /// Whether a deferred packet waits for memory.
    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.packet.is_empty()
    }
}

/// Fills `buf` with packets of one length; a longer one goes to `deferred`, which must be empty.
fn fill(
    session: &mut Session,
    now: Instant,
    buf: &mut [u8],
    deferred: &mut Vec<u8>,
    source: &mut impl DatumSource,
) -> Train {
    debug_assert!(deferred.is_empty(), "a deferred packet is sent before the next is made");
    let mut train = Train::default();
    while train.packets < SEGMENTS_PER_TRAIN {
        let room = &mut buf[train.bytes..];
        if room.len() < session.packet_bytes() && train.packets > 0 {
            break;
        }
        let Some(len) = session.poll_transmit(now, room, source) else {
            train.drained = true;
            break;
        };
        if train.packets > 0 && len > train.segment {
            deferred.extend_from_slice(&room[..len]);
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
