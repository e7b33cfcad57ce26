//! What a node does about a membership packet.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{
    MAX_SWIM_BYTES, RELAYS_MAX, RecordBook, Relay, SEEN_MAX, SYNC_AGAIN, Swim, SwimError, SwimEvent,
    SwimTarget,
    message::{ENTRIES_MAX, IdRange, SwimBody, SwimItem, SwimMessage, WANTED_MAX},
};
use crate::{
    identity,
    ids::PeerId,
    membership::sealed::SALT_BYTES,
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PacketKind},
};

/// Where in a record the key of its peer stands.
const KEY_AT: core::ops::Range<usize> = 1..33;

impl Swim {
    /// Takes in a packet.
    ///
    /// # Errors
    ///
    /// [`SwimError`]; the packet changed nothing.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &[u8],
        book: &impl RecordBook,
    ) -> Result<(), SwimError> {
        let plain = self.open(now, packet)?;
        self.handle_plaintext(now, from, (&plain, packet.len()), book)
    }

    /// Takes in the plaintext of a packet of this length, as a member may have sealed it; for fuzzing.
    #[doc(hidden)]
    pub fn handle_plaintext(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (plain, room): (&[u8], usize),
        book: &impl RecordBook,
    ) -> Result<(), SwimError> {
        let message = SwimMessage::parse(plain).ok_or(SwimError::Malformed)?;
        if self.table.get(&self.own).is_none() || message.sender == self.own {
            return Ok(());
        }
        let SwimMessage { sender, mark, body, items } = message;
        if self.table.get(&sender).is_some() {
            self.events.push_back(SwimEvent::Heard(sender, from));
        }
        for item in items {
            self.handle_item(now, from, item, book);
        }
        match body {
            SwimBody::Ping { number } => self.answer_ping(from, (sender, mark), number, room, book),
            SwimBody::Ack { number, unknown, suspected } => {
                self.handle_ack(now, from, number, (unknown, suspected), book);
            }
            SwimBody::Proxy { number, target } => self.relay(now, from, number, target, book),
            SwimBody::Gossip => {}
            SwimBody::Sync { range, sums } => self.answer_sync(from, range, &sums, room),
            SwimBody::Have { range, entries } => self.answer_have(now, from, range, &entries, room, book),
            SwimBody::Want(peers) => self.answer_want(from, &peers, room, book),
        }
        Ok(())
    }

    fn open(&mut self, now: Instant, packet: &[u8]) -> Result<Vec<u8>, SwimError> {
        if packet.len() > MAX_SWIM_BYTES {
            return Err(SwimError::Foreign);
        }
        let Ok((_, PacketKind::Member)) = Header::parse(packet) else { return Err(SwimError::Foreign) };
        if !self.opens.take(now) {
            return Err(SwimError::Flood);
        }
        let (head, sealed) = packet.split_at(HEADER_BYTES);
        let plain = self.seal.open(head, sealed).ok_or(SwimError::Foreign)?;
        let salt = sealed.first_chunk::<8>().map(|salt| u64::from_le_bytes(*salt)).unwrap_or_default();
        const { assert!(SALT_BYTES >= 8) };
        let (seen, order) = &mut self.seen;
        if !seen.insert(salt) {
            return Err(SwimError::Replayed);
        }
        order.push_back(salt);
        if order.len() > SEEN_MAX
            && let Some(oldest) = order.pop_front()
        {
            seen.remove(&oldest);
        }
        Ok(plain)
    }

    fn handle_item(&mut self, now: Instant, from: SocketAddr, item: SwimItem, book: &impl RecordBook) {
        match item {
            SwimItem::Record { age_s, bytes } => {
                let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&bytes).as_bytes();
                let mark = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                let key = bytes.get(KEY_AT).and_then(|key| <&[u8; 32]>::try_from(key).ok());
                let Some(peer) = key.map(identity::peer_id) else { return };
                match self.gone.get(&peer).filter(|gone| gone.mark == mark) {
                    Some(gone) if gone.left => {}
                    Some(_) => {
                        // Its sender has not heard of that.
                        self.news.tell(peer, mark, true, 2);
                        self.schedule(now);
                    }
                    None if self.table.has(&peer, mark) => {}
                    None => self.events.push_back(SwimEvent::Record { bytes, age_s }),
                }
            }
            SwimItem::Call(call) => self.events.push_back(SwimEvent::Call(call)),
            SwimItem::Suspect { peer, mark } if peer == self.own => {
                if self.table.has(&peer, mark) {
                    self.accuser = Some(from);
                    self.object(now);
                }
            }
            SwimItem::Suspect { peer, mark } => self.suspect(now, peer, mark, book),
        }
    }

    fn answer_ping(
        &mut self,
        from: SocketAddr,
        (sender, mark): (PeerId, u64),
        number: u64,
        room: usize,
        book: &impl RecordBook,
    ) {
        let unknown = !self.table.has(&sender, mark);
        // It may have missed the suspicion, while it was cut off.
        let suspected = self.suspects.get(&sender).is_some_and(|suspicion| suspicion.mark == mark)
            || self.gone.get(&sender).is_some_and(|gone| gone.mark == mark && !gone.left);
        let body = SwimBody::Ack { number, unknown, suspected };
        let Some(mut packet) = self.answer(&body, room) else { return };
        let records = self.table.get(&sender).is_none_or(|member| !member.connected);
        self.news.fill(&mut packet, book, Some(sender), records);
        self.send(SwimTarget::Address(from), packet);
    }

    fn handle_ack(
        &mut self,
        now: Instant,
        from: SocketAddr,
        number: u64,
        (unknown, suspected): (bool, bool),
        book: &impl RecordBook,
    ) {
        let ours = self.probe.filter(|probe| probe.number == number);
        if ours.is_some() {
            self.probe = None;
        } else if let Some(place) = self.relays.iter().position(|relay| relay.number == number) {
            let (asker, theirs) = self.relays.remove(place).expect("it was found").for_whom;
            let packet = self.writer(&SwimBody::Ack { number: theirs, unknown: false, suspected: false });
            self.send(SwimTarget::Address(asker), packet);
        } else if self.asked_again != Some(number) {
            return;
        }
        if suspected {
            self.accuser = Some(from);
            self.object(now);
        } else if unknown {
            self.send_own_record(from, book);
        }
    }

    /// Asks a member in the place of another node.
    fn relay(&mut self, now: Instant, from: SocketAddr, number: u64, target: PeerId, book: &impl RecordBook) {
        if target == self.own || self.table.get(&target).is_none() {
            return;
        }
        self.relays.retain(|relay| now < relay.until);
        if self.relays.len() == RELAYS_MAX {
            return;
        }
        self.number += 1;
        let relay = Relay { number: self.number, for_whom: (from, number), until: now + self.period };
        self.relays.push_back(relay);
        self.send_ping(target, 0, relay.number, book);
    }

    /// Compares a range: of one part that differs the sums of its parts are sent, or all that is in it.
    fn answer_sync(&mut self, from: SocketAddr, range: IdRange, sums: &[u64], room: usize) {
        let ours = self.table.sums(range);
        let differing: Vec<usize> =
            ours.iter().zip(sums).enumerate().filter(|(_, (a, b))| a != b).map(|(place, _)| place).collect();
        // The answer fills a packet.
        if differing.is_empty() || room < MAX_SWIM_BYTES {
            return;
        }
        let place = differing[self.chance.below(differing.len())];
        let Some(part) = range.part(place) else { return };
        let members = self.table.range(part);
        let body = if members.len() > ENTRIES_MAX && part.part(0).is_some() {
            SwimBody::Sync { range: part, sums: self.table.sums(part) }
        } else {
            let entries = members.iter().take(ENTRIES_MAX).map(|member| (member.peer, member.mark));
            SwimBody::Have { range: part, entries: entries.collect() }
        };
        if let Some(packet) = self.answer(&body, room) {
            self.send(SwimTarget::Address(from), packet);
        }
    }

    /// Sends what another node lacks of a range, and asks for what it has more.
    fn answer_have(
        &mut self,
        now: Instant,
        from: SocketAddr,
        range: IdRange,
        theirs: &[(PeerId, u64)],
        room: usize,
        book: &impl RecordBook,
    ) {
        let lacking: Vec<(PeerId, u64)> = self
            .table
            .range(range)
            .iter()
            .map(|member| (member.peer, member.mark))
            .filter(|entry| !theirs.contains(entry))
            .collect();
        let news = theirs.iter().filter(|(peer, mark)| *peer != self.own && !self.table.has(peer, *mark));
        let (gone, wanted): (Vec<_>, Vec<_>) = news
            .copied()
            .partition(|(peer, mark)| self.gone.get(peer).is_some_and(|gone| gone.mark == *mark));
        if lacking.is_empty() && gone.is_empty() && wanted.is_empty() {
            return;
        }
        self.sync_at = self.sync_at.min(now + SYNC_AGAIN);
        let body = if wanted.is_empty() {
            SwimBody::Gossip
        } else {
            SwimBody::Want(wanted.iter().take(WANTED_MAX).map(|(peer, _)| *peer).collect())
        };
        let Some(mut packet) = self.answer(&body, room) else { return };
        for (peer, mark) in gone {
            packet.suspect(&peer, mark);
        }
        for (peer, mark) in lacking {
            if let Some((record, age_s)) = book.record(&peer, mark)
                && !packet.record(record, age_s)
            {
                break;
            }
        }
        self.send(SwimTarget::Address(from), packet);
    }

    fn answer_want(&mut self, from: SocketAddr, peers: &[PeerId], room: usize, book: &impl RecordBook) {
        let Some(mut packet) = self.answer(&SwimBody::Gossip, room) else { return };
        for peer in peers {
            if let Some(member) = self.table.get(peer)
                && let Some((record, age_s)) = book.record(peer, member.mark)
                && !packet.record(record, age_s)
            {
                break;
            }
        }
        self.send(SwimTarget::Address(from), packet);
    }
}
