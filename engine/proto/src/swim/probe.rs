//! Whom a node asks whether it is there, and what it does about silence.

use alloc::vec::Vec;

use super::{FANOUT, RecordBook, Swim, SwimTarget, message::SwimBody};
use crate::{ids::PeerId, time::Instant};

/// The part of a period after which others are asked to ask.
const PROXY_AFTER: u32 = 3;

/// Members that are looked at to find one to be asked.
const LOOKS: usize = 64;

/// A member that was asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) peer: PeerId,
    /// Of the record that it was asked by.
    pub(super) mark: u64,
    pub(super) number: u64,
    /// When others are asked to ask; `None` when they were.
    pub(super) proxies_at: Option<Instant>,
}

/// The order in which members are asked: all of them in steps of one length, and then in another order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeOrder {
    place: usize,
    step: usize,
    left: usize,
}

impl Swim {
    /// Ends the last question, and asks the next member.
    pub(super) fn next_probe(&mut self, now: Instant, book: &impl RecordBook) {
        let late = now.saturating_since(self.probe_at) > self.period / 2;
        if let Some(probe) = self.probe.take()
            && !late
        {
            self.suspect(now, probe.peer, probe.mark, book);
            // It hears of the suspicion at once, so that it can object.
            self.send_ping(probe.peer, 1, probe.number, book);
        }
        self.probe_at = now + self.period * 15 / 16 + self.chance.part_of(self.period / 8);
        let Some(peer) = self.next_target() else { return };
        let mark = self.table.get(&peer).map_or(0, |member| member.mark);
        self.number += 1;
        let proxies_at = Some(now + self.period / PROXY_AFTER);
        self.probe = Some(Probe { peer, mark, number: self.number, proxies_at });
        self.send_ping(peer, 0, self.number, book);
    }

    /// The next member without a session.
    fn next_target(&mut self) -> Option<PeerId> {
        let count = self.table.len();
        for _ in 0..LOOKS {
            if self.order.left == 0 || self.order.place >= count {
                let step = 1 + self.chance.below(count);
                let step = (step..step + count).find(|step| coprime(*step, count))?;
                self.order = ProbeOrder { place: self.chance.below(count), step, left: count };
            }
            let member = self.table.at(self.order.place);
            self.order.place = (self.order.place + self.order.step) % count;
            self.order.left -= 1;
            if member.peer != self.own && !member.connected {
                return Some(member.peer);
            }
        }
        None
    }

    /// Asks others to ask, and asks once more.
    pub(super) fn ask_proxies(&mut self, book: &impl RecordBook) {
        let Some(probe) = &mut self.probe else { return };
        probe.proxies_at = None;
        let Probe { peer, number, .. } = *probe;
        self.send_ping(peer, 1, number, book);
        // One with a session, if there is one: it may be the only one with a way to the peer.
        let mut proxies =
            self.table.choose(&mut self.chance, 1, |member| member.connected && member.peer != peer);
        let others = self.table.choose(&mut self.chance, FANOUT, |member| member.peer != peer);
        proxies.extend(others.into_iter().filter(|other| !proxies.contains(other)).collect::<Vec<_>>());
        proxies.truncate(FANOUT);
        for proxy in proxies {
            let body = SwimBody::Proxy { number, target: peer };
            self.send_news(SwimTarget::Peer { peer: proxy, attempt: 0 }, Some(proxy), &body, book);
        }
    }

    pub(super) fn send_ping(&mut self, peer: PeerId, attempt: u32, number: u64, book: &impl RecordBook) {
        self.send_news(SwimTarget::Peer { peer, attempt }, Some(peer), &SwimBody::Ping { number }, book);
    }
}

/// Whether two numbers have no common divisor.
const fn coprime(mut a: usize, mut b: usize) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}
