//! What a node does about a membership packet.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{
    MAX_SWIM_BYTES, RecordBook, SEEN_MAX, SYNC_PAUSE, Swim, SwimError, SwimEvent, SwimTarget,
    message::{
        ENTRIES_MAX, FRAME_BYTES, IdRange, STEP_BYTES, SwimBody, SwimItem, SwimMessage, WANTED_MAX, image,
        vouch_message,
    },
};
use crate::{
    identity::{SIGNATURE_BYTES, verify},
    ids::PeerId,
    membership::{SignedRecord, sealed::SALT_BYTES},
    ordered::OrderedSet,
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PacketKind},
};

/// Records that are looked at for one answer: more than it has room for.
const RECORDS_MAX: usize = 16;

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
        let answers = match &body {
            SwimBody::Ack { number, .. } => self.awaits(sender, *number),
            SwimBody::Vouched { number, signature } => {
                self.handle_vouched(sender, *number, signature, book)?
            }
            _ => false,
        };
        if self.table.get(&sender).is_some() {
            let event = if answers { SwimEvent::Answered } else { SwimEvent::Claimed };
            self.events.push_back(event(sender, from));
        }
        // A member is asked for a long record at its own address, because the packet may come from anywhere.
        let known = self.table.get(&sender).is_some();
        let way =
            if known { SwimTarget::Peer { peer: sender, again: false } } else { SwimTarget::Address(from) };
        let mut may_fetch = room >= MAX_SWIM_BYTES;
        for item in items {
            match item {
                SwimItem::Long(long) => may_fetch = may_fetch && !self.begin_fetch(now, &long, &[way]),
                item => self.handle_item(now, from, item, book),
            }
        }
        match body {
            SwimBody::Ping { number } => self.answer_ping(from, (sender, mark), number, room, book),
            SwimBody::Ack { number, unknown, suspected } if answers => {
                self.handle_ack(now, from, (sender, number), (unknown, suspected), book);
            }
            SwimBody::Ack { .. } | SwimBody::Vouched { .. } => {}
            SwimBody::Vouch { number, theirs } => self.answer_vouch(now, from, (number, theirs), room),
            SwimBody::Proxy { number, target } => self.relay(now, from, number, target, book),
            SwimBody::Gossip => {}
            SwimBody::Sync { range, sums } => self.answer_sync(from, range, &sums, room),
            SwimBody::Have { range, entries } => self.answer_have(now, from, (range, entries), room, book),
            SwimBody::Want(peers) => self.answer_want(from, &peers, room, book),
            SwimBody::Ask { number, peer, mark, part } => {
                self.answer_ask(from, (number, peer, mark, part), room, book);
            }
            SwimBody::Part { number, part, age_s, bytes } => {
                self.handle_part(now, number, part, (age_s, &bytes));
            }
        }
        Ok(())
    }

    fn open(&mut self, now: Instant, packet: &[u8]) -> Result<Vec<u8>, SwimError> {
        // What is of no length that a member sends is not worth an opening.
        let plain = packet.len().checked_sub(FRAME_BYTES).filter(|plain| *plain > 0);
        let fits = |plain| packet.len() == MAX_SWIM_BYTES || plain % STEP_BYTES == 0;
        if packet.len() > MAX_SWIM_BYTES || !plain.is_some_and(fits) {
            return Err(SwimError::Foreign);
        }
        let Ok((_, PacketKind::Member)) = Header::parse(packet) else { return Err(SwimError::Foreign) };
        if !self.opens.take(now) {
            self.flooded_until = now + self.period;
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

    /// Whether packets were dropped unopened within the last period.
    pub(super) fn is_flooded(&self, now: Instant) -> bool {
        now < self.flooded_until
    }

    fn handle_item(&mut self, now: Instant, from: SocketAddr, item: SwimItem, book: &impl RecordBook) {
        match item {
            SwimItem::Record { age_s, bytes } => {
                let mark = SignedRecord::mark_of_bytes(&bytes);
                let Some((peer, version)) = SignedRecord::claim(&bytes) else {
                    return self.events.push_back(SwimEvent::Record { bytes, age_s });
                };
                match self.gone.get(&peer).filter(|gone| gone.covers(mark, version)) {
                    Some(gone) if gone.left && gone.mark == mark => {}
                    Some(_) => {
                        // Its sender has not heard of that.
                        self.news.tell(peer, mark, true, 2);
                        self.schedule(now);
                    }
                    None if self.table.has(&peer, mark) => {}
                    None => self.events.push_back(SwimEvent::Record { bytes, age_s }),
                }
            }
            // It is asked for by the packet as a whole.
            SwimItem::Long(_) => {}
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
        let suspected = self.is_suspected(&sender, mark)
            || self.gone.get(&sender).is_some_and(|gone| gone.mark == mark && !gone.left);
        let body = SwimBody::Ack { number, unknown, suspected };
        let Some(mut packet) = self.answer(&body, room) else { return };
        let records = self.table.get(&sender).is_none_or(|member| !member.connected);
        self.news.fill(&mut packet, book, Some(sender), records);
        self.send(SwimTarget::Address(from), packet);
    }

    /// Whether this node has asked the sender, and waits for this answer.
    fn awaits(&self, sender: PeerId, number: u64) -> bool {
        self.probe.is_some_and(|probe| probe.is_answered_by(sender, number))
            || self.suspect_answers(&sender, number)
            || self.asked_again == Some((sender, number))
    }

    /// Takes in an answer that this node waits for.
    fn handle_ack(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (sender, number): (PeerId, u64),
        (unknown, suspected): (bool, bool),
        book: &impl RecordBook,
    ) {
        if self.probe.is_some_and(|probe| probe.is_answered_by(sender, number)) {
            self.probe = None;
            self.spare_suspect(now, &sender);
        } else if self.suspect_answers(&sender, number) {
            self.spare_suspect(now, &sender);
        } else {
            self.asked_again = None;
        }
        if suspected {
            self.accuser = Some(from);
            self.object(now);
        } else if unknown {
            self.send_own_record(from, book);
        }
    }

    /// Signs the image of the number of the node in whose place another one asks.
    fn answer_vouch(&mut self, now: Instant, from: SocketAddr, (number, theirs): (u64, u64), room: usize) {
        if self.vouches.take(now) {
            let signature = self.identity.sign(&vouch_message(theirs));
            if let Some(packet) = self.answer(&SwimBody::Vouched { number, signature }, room) {
                self.send(SwimTarget::Address(from), packet);
            }
        }
    }

    /// Passes on the signature of a node that was asked in the place of another one, or takes in the answer
    /// of a member that was asked to ask. `false`: it was not asked.
    fn handle_vouched(
        &mut self,
        sender: PeerId,
        number: u64,
        signature: &[u8; SIGNATURE_BYTES],
        book: &impl RecordBook,
    ) -> Result<bool, SwimError> {
        if let Some(place) = self.relays.iter().position(|relay| relay.asked == (sender, number)) {
            let (asker, theirs) = self.relays.remove(place).expect("it was found").for_whom;
            let packet = self.writer(&SwimBody::Vouched { number: theirs, signature: *signature });
            self.send(SwimTarget::Address(asker), packet);
            return Ok(true);
        }
        let Some(probe) = &mut self.probe else { return Ok(false) };
        let Some(proxy) = probe.proxies.iter_mut().find(|proxy| **proxy == Some((sender, number))) else {
            return Ok(false);
        };
        // Each has one answer, so that inventing them costs a signature's check each.
        *proxy = None;
        let peer = probe.peer;
        let record = self.table.get(&peer).and_then(|member| book.record(&peer, member.mark));
        let key = record.map(|(record, _)| record.record().identity_key);
        if !key.is_some_and(|key| verify(&key, &vouch_message(image(number)), signature)) {
            return Err(SwimError::Invented);
        }
        // It prevents a suspicion, and ends none.
        self.probe = None;
        Ok(true)
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
        (range, theirs): (IdRange, Vec<(PeerId, u64)>),
        room: usize,
        book: &impl RecordBook,
    ) {
        let theirs: OrderedSet<(PeerId, u64)> = theirs.into_iter().collect();
        let ours = self.table.range(range).iter().map(|member| (member.peer, member.mark));
        let lacking: Vec<_> = ours.filter(|entry| !theirs.contains(entry)).take(RECORDS_MAX).collect();
        let news = theirs.iter().filter(|(peer, mark)| *peer != self.own && !self.table.has(peer, *mark));
        let (gone, mut wanted): (Vec<_>, Vec<_>) = news
            .copied()
            .partition(|(peer, mark)| self.gone.get(peer).is_some_and(|gone| gone.mark == *mark));
        if self.table.len() >= self.max_members {
            wanted.retain(|(peer, _)| self.table.get(peer).is_some());
        }
        if lacking.is_empty() && gone.is_empty() && wanted.is_empty() {
            return;
        }
        wanted.truncate(WANTED_MAX);
        self.wanted = wanted.iter().map(|(peer, _)| *peer).collect();
        self.sync_at = self.sync_at.min(now + self.sync_again);
        self.sync_again = SYNC_PAUSE.min(self.sync_again * 2);
        let body = if wanted.is_empty() { SwimBody::Gossip } else { SwimBody::Want(self.wanted.clone()) };
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
