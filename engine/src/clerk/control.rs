//! What two clerks say to each other inside a session.
//!
//! ```text
//! RECORDS   1 | ( length u32 | signed record ) ...
//! TICKETS   2 | ( class 32 | length u32 | ticket ) ...      replaces what was shown before
//! ```
//!
//! Numbers are little-endian. A message is not longer than the session's limit, and what is told is bounded by
//! what it is about: each session notes *whose* record has to be told, and the newest one is sent when there is
//! room. So nothing piles up, however often a record changes.
//!
//! Not inside: what a record means (`peers`).

use std::time::Duration;

use corewire_proto::{session::CloseCode, wire::header::ReceiverIndex};

use super::{Clerk, peers::claimed_peer, timers::Timer};
use crate::{
    peer::Ticket,
    shard::{Command, NodeId},
    shared::counters::count,
};

const RECORDS: u8 = 1;
const TICKETS: u8 = 2;

/// Bytes of one RECORDS message: well below the session's limit for one message (64 KiB) and the largest record
/// (36 KiB) still fits.
const MESSAGE_BYTES: usize = 48 << 10;

/// Bytes of all tickets in one message; a node with more shows the first ones.
const TICKETS_BYTES: usize = 60 << 10;

/// The pause between two messages of news to one peer. The session's queue holds five of them.
const NEWS_PAUSE: Duration = Duration::from_millis(5);

/// The pause after the session had no room.
const FULL_PAUSE: Duration = Duration::from_millis(50);

const _: () = assert!(MESSAGE_BYTES > corewire_proto::membership::MAX_RECORD_BYTES + 5);

/// Splits `length u32 | bytes` off.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn append(message: &mut Vec<u8>, bytes: &[u8]) {
    message.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    message.extend_from_slice(bytes);
}

/// The parts of a message; `None` when it is malformed.
fn records(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let (record, rest) = split(body)?;
        records.push(record);
        body = rest;
    }
    Some(records)
}

/// The tickets of a message; `None` when it is malformed or there are more bytes than `limit`.
fn tickets(mut body: &[u8], limit: usize) -> Option<Vec<Ticket>> {
    if body.len() > limit {
        return None;
    }
    let mut tickets = Vec::new();
    while !body.is_empty() {
        let (class, rest) = body.split_first_chunk::<32>()?;
        let (ticket, rest) = split(rest)?;
        tickets.push(Ticket { class: *class, bytes: ticket.into() });
        body = rest;
    }
    Some(tickets)
}

impl Clerk {
    /// The peer's clerk said something.
    pub(super) fn control_came(&mut self, index: ReceiverIndex, bytes: &[u8]) {
        let Some(session) = self.sessions.get(&index) else { return };
        let (node, peer) = (session.node, session.peer);
        let understood = match bytes.split_first() {
            Some((&RECORDS, body)) => records(body).map(|records| {
                for record in records {
                    self.read_record(node, record, Some(index));
                }
            }),
            Some((&TICKETS, body)) => tickets(body, self.limits.ticket_bytes).map(|tickets| {
                if let Some(state) =
                    self.members.get_mut(&node).and_then(|member| member.peers.get_mut(&peer))
                {
                    state.tickets = tickets;
                }
                self.peer_is_known(node, peer);
            }),
            // A later version may say more.
            Some(_) => Some(()),
            None => None,
        };
        if understood.is_none() {
            if let Some(member) = self.members.get(&node) {
                count(&member.shared.counters.control_refused);
            }
            self.close_session(index, CloseCode::PROTOCOL_VIOLATION);
        }
    }

    /// Sends what a peer has to be told, as much as one message holds.
    pub(super) fn tell_news(&mut self, index: ReceiverIndex) {
        if !self.shards.has_room(index.shard()) {
            return self.timers.set(Timer::Exchange(index), self.now + FULL_PAUSE);
        }
        let Some(session) = self.sessions.get_mut(&index) else { return };
        let Some(member) = self.members.get(&session.node) else { return };
        if session.closing || !session.greeted {
            return;
        }
        let mut message = vec![RECORDS];
        // The own record goes first: what this node asks for next is judged by it.
        let own = member.shared.peer_id;
        let (node, peer) = (session.node, session.peer);
        let mut about_us = session.tickets_due;
        if session.news.remove(&own)
            && let Some(record) = &member.record
        {
            append(&mut message, record.bytes());
            about_us = true;
        }
        while let Some(about) = session.news.first().copied() {
            let Some(record) = member.catalog.get(&about) else {
                session.news.remove(&about);
                continue;
            };
            if message.len() + 4 + record.bytes().len() > MESSAGE_BYTES {
                break;
            }
            append(&mut message, record.bytes());
            session.news.remove(&about);
        }
        let more = !session.news.is_empty();
        let mut shown = None;
        // What a peer with the same limits takes; more would be a breach to it.
        let most = TICKETS_BYTES.min(self.limits.ticket_bytes.saturating_add(1));
        if std::mem::take(&mut session.tickets_due) {
            let mut message = vec![TICKETS];
            for ticket in &member.tickets {
                if message.len() + 36 + ticket.bytes.len() <= most {
                    message.extend_from_slice(&ticket.class);
                    append(&mut message, &ticket.bytes);
                }
            }
            shown = Some(message);
        }
        if message.len() > 1 {
            self.shards.send(index.shard(), Command::SendControl { index, bytes: message });
        }
        if let Some(bytes) = shown {
            self.shards.send(index.shard(), Command::SendControl { index, bytes });
        }
        if more {
            self.timers.set(Timer::Exchange(index), self.now + NEWS_PAUSE);
        }
        if about_us {
            self.reconsider_refused(node, peer);
        }
    }

    /// Before something is asked of a peer: sees that it knows this node as it is now.
    pub(super) fn tell_about_us(&mut self, index: ReceiverIndex) {
        let Some(session) = self.sessions.get(&index) else { return };
        let own = self.own_id(session.node);
        if session.tickets_due || own.is_some_and(|own| session.news.contains(&own)) {
            self.tell_news(index);
        }
    }

    /// The session had no room for a message: it is made again later, from what is true then.
    pub(super) fn control_refused(&mut self, index: ReceiverIndex, bytes: &[u8]) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        match bytes.split_first() {
            Some((&RECORDS, body)) => {
                let about = records(body).unwrap_or_default();
                session.news.extend(about.into_iter().filter_map(claimed_peer));
            }
            Some((&TICKETS, _)) => session.tickets_due = true,
            _ => return,
        }
        self.timers.set(Timer::Exchange(index), self.now + FULL_PAUSE);
    }

    /// The node's tickets are others now: every peer that it has a session with is shown them.
    pub(super) fn show_tickets(&mut self, node: NodeId) {
        let now = self.now;
        for (index, session) in &mut self.sessions {
            if session.node == node && session.greeted && !session.closing {
                session.tickets_due = true;
                self.timers.set(Timer::Exchange(*index), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_can_be_split_again() {
        let mut body = Vec::new();
        append(&mut body, b"one");
        append(&mut body, b"");
        append(&mut body, b"three");
        assert_eq!(records(&body), Some(vec![&b"one"[..], b"", b"three"]));
        body.pop();
        assert_eq!(records(&body), None);
    }

    #[test]
    fn a_length_that_lies_is_no_message() {
        for length in [1u32, 1 << 20, u32::MAX] {
            assert_eq!(records(&length.to_le_bytes()), None);
        }
        assert_eq!(tickets(&[0; 35], 1_000), None);
        assert_eq!(tickets(&[0; 72], 71), None);
        assert_eq!(tickets(&[0; 72], 72).map(|tickets| tickets.len()), Some(2));
    }
}
