//! Whom a node asks whether it is there, and what it does about silence.

use alloc::vec::Vec;

use core::net::SocketAddr;

use super::{
    FANOUT, RELAYS_MAX, RecordBook, Swim, SwimTarget,
    message::{SwimBody, image},
};
use crate::{ids::PeerId, time::Instant};

/// The part of a period after which others are asked to ask, and after which others again are.
const PROXY_AFTER: u32 = 3;

/// How often others are asked to ask. With 3 % loss each way one round is without an answer once in 190,000
/// questions to members that are there, so some node of 10,000 would suspect one wrongly every 20 periods,
/// and all would be told. With two rounds there are five such suspicions in a million periods.
const ROUNDS: usize = 2;

/// Members that are looked at to find one to be asked.
const LOOKS: usize = 64;

/// A member that was asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) peer: PeerId,
    /// Of the record that it was asked by.
    pub(super) mark: u64,
    /// Of the question to it.
    number: u64,
    /// Those that were asked to ask it in each round and have not answered, and the number that each is to
    /// let it sign.
    pub(super) proxies: [Option<(PeerId, u64)>; ROUNDS * FANOUT],
    /// Rounds in which others were asked to ask.
    rounds: usize,
    /// When others are asked to ask; `None` after the last round.
    pub(super) proxies_at: Option<Instant>,
}

impl Probe {
    /// Whether this is the answer of the member.
    pub(super) fn is_answered_by(&self, sender: PeerId, number: u64) -> bool {
        (self.peer, self.number) == (sender, number)
    }
}

/// A question that is asked in the place of another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    /// Who is asked, and the number of the question.
    pub(super) asked: (PeerId, u64),
    /// Who waits for the answer, and the number that is to be signed.
    pub(super) for_whom: (SocketAddr, u64),
    until: Instant,
}

/// The order in which members are asked: all of them in steps of one length, and then in another order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeOrder {
    place: usize,
    step: usize,
    left: usize,
    /// Members for which the step was drawn. With another number it may miss some.
    count: usize,
}

impl Swim {
    /// Ends the last question, and asks the next member.
    pub(super) fn next_probe(&mut self, now: Instant, book: &impl RecordBook) {
        let late = now.saturating_since(self.probe_at) > self.period / 2;
        if let Some(probe) = self.probe.take()
            && !late
            && !self.is_flooded(now)
        {
            self.suspect(now, probe.peer, probe.mark, book);
            self.await_suspect(&probe.peer, probe.number);
            // It hears of the suspicion at once, so that it can object.
            self.send_ping(probe.peer, true, probe.number, book);
        }
        self.probe_at = now + self.period * 15 / 16 + self.chance.part_of(self.period / 8);
        let Some(peer) = self.next_target() else { return };
        let mark = self.table.get(&peer).map_or(0, |member| member.mark);
        let number = self.chance.number();
        let proxies_at = Some(now + self.period / PROXY_AFTER);
        let proxies = [None; ROUNDS * FANOUT];
        self.probe = Some(Probe { peer, mark, number, proxies, rounds: 0, proxies_at });
        self.send_ping(peer, false, number, book);
    }

    /// The next member without a session.
    fn next_target(&mut self) -> Option<PeerId> {
        while let Some(peer) = self.recheck.pop_front() {
            if self.table.get(&peer).is_some_and(|member| !member.connected) {
                return Some(peer);
            }
        }
        let count = self.table.len();
        for _ in 0..LOOKS {
            if self.order.left == 0 || self.order.count != count {
                let step = 1 + self.chance.below(count);
                let step = (step..step + count).find(|step| coprime(*step, count))?;
                self.order = ProbeOrder { place: self.chance.below(count), step, left: count, count };
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
    pub(super) fn ask_proxies(&mut self, now: Instant, book: &impl RecordBook) {
        let Some(probe) = &mut self.probe else { return };
        let Probe { peer, number, rounds: round, .. } = *probe;
        probe.rounds += 1;
        probe.proxies_at = (probe.rounds < ROUNDS).then(|| now + self.period / PROXY_AFTER);
        self.send_ping(peer, true, number, book);
        // One with a session, if there is one: it may be the only one with a way to the peer.
        let mut proxies =
            self.table.choose(&mut self.chance, 1, |member| member.connected && member.peer != peer);
        let others = self.table.choose(&mut self.chance, FANOUT, |member| member.peer != peer);
        proxies.extend(others.into_iter().filter(|other| !proxies.contains(other)).collect::<Vec<_>>());
        proxies.truncate(FANOUT);
        for (place, proxy) in proxies.into_iter().enumerate() {
            let number = self.chance.number();
            if let Some(probe) = &mut self.probe {
                probe.proxies[round * FANOUT + place] = Some((proxy, number));
            }
            let body = SwimBody::Proxy { number, target: peer };
            self.send_news(SwimTarget::Peer { peer: proxy, again: false }, Some(proxy), &body, book);
        }
    }

    /// Asks a member in the place of another node.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        from: SocketAddr,
        number: u64,
        target: PeerId,
        book: &impl RecordBook,
    ) {
        if target == self.own || self.table.get(&target).is_none() {
            return;
        }
        self.relays.retain(|relay| now < relay.until);
        if self.relays.len() == RELAYS_MAX {
            return;
        }
        let asked = (target, self.chance.number());
        self.relays.push_back(Relay { asked, for_whom: (from, number), until: now + self.period });
        let body = SwimBody::Vouch { number: asked.1, theirs: image(number) };
        self.send_news(SwimTarget::Peer { peer: target, again: false }, Some(target), &body, book);
    }

    pub(super) fn send_ping(&mut self, peer: PeerId, again: bool, number: u64, book: &impl RecordBook) {
        self.send_news(SwimTarget::Peer { peer, again }, Some(peer), &SwimBody::Ping { number }, book);
    }
}

/// Whether two numbers have no common divisor.
const fn coprime(mut a: usize, mut b: usize) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alloc::sync::Arc;

    use super::*;
    use crate::{
        identity::Identity,
        ids::NetworkId,
        membership::{Catalog, CatalogConfig, PeerRecord, RecordVersion, SignedRecord, TransportKeyEntry},
        seal::KeyBytes,
        swim::{
            CatalogBook, MAX_SWIM_BYTES, PERIOD, SwimConfig, SwimError, VOUCHES_PER_SECOND,
            message::{SwimWriter, vouch_message},
        },
        wire::header::HEADER_BYTES,
    };

    /// The node of this seed, with ten members, itself included.
    fn swim(seed: u8) -> Swim {
        let mut swim = alone(seed);
        swim.table.set(swim.own, (1, RecordVersion::default()), false);
        (1..10).for_each(|n| assert!(join(&mut swim, n)));
        swim
    }

    /// The node of this seed, which knows no one.
    fn alone(seed: u8) -> Swim {
        let (identity, key) = (Arc::new(identity(0)), KeyBytes::from_bytes([1; 32]));
        let config = SwimConfig { identity, key, seed: [seed; 32], max_members: 99, period: PERIOD };
        Swim::new(Instant::ZERO, config)
    }

    fn identity(n: u8) -> Identity {
        Identity::from_seed(&[n; 32])
    }

    /// Records that the members have signed.
    struct Records(Vec<SignedRecord>);

    impl Records {
        fn of(count: u8) -> Self {
            let record = |n| {
                let record = PeerRecord {
                    peer_id: PeerId::default(),
                    identity_key: [0; 32],
                    transport_keys: alloc::vec![TransportKeyEntry { key: [9; 32], validity: 0 }],
                    addresses: Vec::new(),
                    tags: Vec::new(),
                    streams: Vec::new(),
                    version: RecordVersion::default(),
                    lifetime_s: 60,
                    leaving: false,
                };
                SignedRecord::sign(&identity(n), &NetworkId([1; 32]), record).unwrap()
            };
            Self((0..count).map(record).collect())
        }
    }

    impl RecordBook for Records {
        fn record(&self, peer: &PeerId, mark: u64) -> Option<(&SignedRecord, u32)> {
            let fits = |record: &&SignedRecord| record.record().peer_id == *peer && record.mark() == mark;
            self.0.iter().find(fits).map(|record| (record, 0))
        }
    }

    /// The node that the first of these records is of, which knows the others.
    fn acquainted(book: &Records) -> Swim {
        let mut swim = alone(1);
        swim.announce(Instant::ZERO, &book.0[0], book);
        book.0[1..].iter().for_each(|record| swim.learned(Instant::ZERO, record, 0, false));
        swim
    }

    fn take(swim: &mut Swim, book: &Records, sender: PeerId, body: &SwimBody) -> Result<(), SwimError> {
        let plain = SwimWriter::new(&sender, 0, body, MAX_SWIM_BYTES).unwrap().finish();
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        swim.handle_plaintext(Instant::ZERO, from, (&plain, MAX_SWIM_BYTES), book)
    }

    #[test]
    fn helper_can_not_answer_for_the_member_that_it_was_to_ask() {
        let book = Records::of(4);
        let mut swim = acquainted(&book);
        swim.next_probe(Instant::ZERO, &book);
        swim.ask_proxies(Instant::ZERO, &book);
        let asked = swim.probe.expect("a member is asked").peer;
        let number_of = |peer: PeerId| (1..4).find(|n| identity(*n).peer_id() == peer).expect("a member");
        let helpers: Vec<_> = swim.probe.into_iter().flat_map(|probe| probe.proxies).flatten().collect();
        assert_eq!(helpers.len(), 2);
        for (helper, number) in helpers {
            let ack = SwimBody::Ack { number, unknown: false, suspected: false };
            assert_eq!(take(&mut swim, &book, helper, &ack), Ok(()));
            let vouched = |signer: PeerId| {
                let signature = identity(number_of(signer)).sign(&vouch_message(image(number)));
                SwimBody::Vouched { number, signature }
            };
            assert_eq!(take(&mut swim, &book, helper, &vouched(helper)), Err(SwimError::Invented));
            assert_eq!(take(&mut swim, &book, helper, &vouched(asked)), Ok(()), "it has one answer");
            assert!(swim.probe.is_some(), "nothing shows that the member is there");
        }
        swim.ask_proxies(Instant::ZERO, &book);
        let helpers = swim.probe.into_iter().flat_map(|probe| probe.proxies).flatten();
        let (helper, number) = helpers.last().expect("they are asked again");
        let signature = identity(number_of(asked)).sign(&vouch_message(image(number)));
        assert_eq!(take(&mut swim, &book, helper, &SwimBody::Vouched { number, signature }), Ok(()));
        assert!(swim.probe.is_none(), "the member itself has signed");
    }

    #[test]
    fn member_that_a_helper_asks_can_not_answer_for_the_helper() {
        let book = Records::of(3);
        let mut helper = acquainted(&book);
        while helper.poll_transmit().is_some() {}
        let [asker, target] = [1, 2].map(|n: usize| book.0[n].record().peer_id);
        let number = 0x0123_4567_89ab_cdef_u64;
        assert_eq!(take(&mut helper, &book, asker, &SwimBody::Proxy { number, target }), Ok(()));
        let (_, packet) = helper.poll_transmit().expect("the target is asked");
        let (head, sealed) = packet.split_at(HEADER_BYTES);
        let plain = helper.seal.open(head, sealed).expect("it is sealed with the key of the network");
        let told = |number: u64| plain.windows(8).any(|bytes| bytes == number.to_le_bytes());
        assert!(told(image(number)) && !told(number), "it is not told what shows that the helper answers");
    }

    #[test]
    fn node_signs_answers_at_a_bounded_rate() {
        let book = Records::of(2);
        let mut swim = acquainted(&book);
        while swim.poll_transmit().is_some() {}
        for number in 0..u64::from(VOUCHES_PER_SECOND) * 3 {
            let body = SwimBody::Vouch { number, theirs: number };
            assert_eq!(take(&mut swim, &book, book.0[1].record().peer_id, &body), Ok(()));
        }
        let answers = core::iter::from_fn(|| swim.poll_transmit()).count();
        assert_eq!(answers, VOUCHES_PER_SECOND as usize);
    }

    fn join(swim: &mut Swim, n: u8) -> bool {
        swim.table.set(PeerId([n; 32]), (1, RecordVersion::default()), false)
    }

    #[test]
    fn numbers_of_questions_follow_from_none_that_were_seen() {
        let records = Catalog::new(CatalogConfig::default());
        let book = CatalogBook { records: &records, own: None, now_s: 0 };
        let mut swim = swim(1);
        let mut seen: Vec<u64> = Vec::new();
        let mut now = Instant::ZERO;
        for _ in 0..50 {
            now += PERIOD;
            swim.next_probe(now, &book);
            (0..ROUNDS).for_each(|_| swim.ask_proxies(now, &book));
            let probe = swim.probe.expect("a member is asked");
            swim.relay(now, SocketAddr::from(([127, 0, 0, 1], 9)), 7, probe.peer, &book);
            seen.push(probe.number);
            seen.extend(probe.proxies.iter().flatten().map(|(_, number)| *number));
            seen.extend(swim.relays.back().map(|relay| relay.asked.1));
        }
        assert_eq!(seen.len(), 50 * (1 + ROUNDS * FANOUT + 1));
        let spread = |numbers: &[u64]| {
            numbers.windows(2).all(|pair| {
                let step = pair[1].wrapping_sub(pair[0]);
                step.min(step.wrapping_neg()) > 1 << 32
            })
        };
        assert!(spread(&seen));
        seen.sort_unstable();
        assert!(spread(&seen), "none is like another one");
    }

    #[test]
    fn each_member_is_asked_in_a_round_though_their_number_changes() {
        for seed in 0..20 {
            let mut swim = swim(seed);
            (0..2).for_each(|_| assert!(swim.next_target().is_some()));
            (10..12).for_each(|n| assert!(join(&mut swim, n)));
            let asked: BTreeSet<PeerId> = (0..11).filter_map(|_| swim.next_target()).collect();
            assert_eq!(asked.len(), 11, "seed {seed}");
        }
    }
}
