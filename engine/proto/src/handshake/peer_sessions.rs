//! Which of several sessions with one peer is in use: previous, current, next.
//!
//! ```text
//!  finished, this side answered --> next --- a packet opens under it --> current --> previous --> retired
//!  finished, peer confirmed -----------------------------------------------^
//! ```
//!
//! - A session that this side answered waits as `next`. Only a packet that opens under it makes it current; a
//!   replayed first message never leads to such a packet.
//! - `previous` still opens packets under way, and is retired after a while.
//! - When both peers start at the same time, the handshake of the smaller [`PeerId`] wins at both ends. "The
//!   same time" is decided by a generation in the handshake, not by a clock alone.
//!
//! Not inside: sessions, keys and packets, and new keys of an open session, which change no index.

use alloc::{collections::VecDeque, vec::Vec};
use core::time::Duration;

use super::{FOR_KEY, HandshakeOutcome, HandshakeRole, initiator::GIVE_UP_AFTER};
use crate::{ids::PeerId, mutate, time::Instant, wire::header::ReceiverIndex};

/// Sessions that wait to be confirmed at once.
const MAX_NEXT: usize = 4;

/// How long sessions are kept beside the current one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerSessionsConfig {
    /// How long a replaced session still opens packets. Default 3 s: longer than packets are under way.
    pub previous_for: Duration,
    /// How long a session waits to be confirmed. Default 10 s: two seconds longer than an initiator tries.
    pub next_for: Duration,
    /// Two sessions of one generation, one started by each side, compete if they were established within this
    /// time. Default 16 s: twice as long as an initiator tries, which covers all attempts that can have
    /// crossed.
    pub rivals_within: Duration,
}

impl Default for PeerSessionsConfig {
    fn default() -> Self {
        Self {
            previous_for: Duration::from_secs(3),
            next_for: Duration::from_secs(GIVE_UP_AFTER.as_secs() + 2),
            rivals_within: Duration::from_secs(2 * GIVE_UP_AFTER.as_secs()),
        }
    }
}

/// One session with the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EstablishedSession {
    /// The index for packets to this node.
    pub local_index: ReceiverIndex,
    /// The index for packets to the peer.
    pub remote_index: ReceiverIndex,
    /// The side of this node in the handshake.
    pub role: HandshakeRole,
    /// The peer's boot number.
    pub peer_boot: u64,
    /// The number of the session between the two (see [`PeerSessions::next_generation`]).
    pub generation: u16,
    /// The initiator's number of the attempt.
    pub attempt: u32,
    /// When the handshake finished here.
    pub since: Instant,
}

impl EstablishedSession {
    /// The session of a handshake that finished at `now`.
    pub const fn new(outcome: &HandshakeOutcome, now: Instant) -> Self {
        Self {
            local_index: outcome.local_index,
            remote_index: outcome.remote_index,
            role: outcome.role,
            peer_boot: outcome.peer_boot,
            generation: outcome.generation,
            attempt: outcome.attempt,
            since: now,
        }
    }
}

/// What to do with a first message from the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitVerdict {
    /// Answer it.
    Answer,
    /// Answer it and cancel the own attempt, which the peer will ignore.
    AnswerAndCancelOwn,
    /// Ignore it: the own attempt wins, and the peer will answer it.
    Ignore,
    /// Refuse it: the peer has started a later attempt, so this one is late or replayed.
    Stale,
}

/// The sessions with one peer.
///
/// [`poll_retired`](Self::poll_retired) gives the index of each session that has to be taken down, once.
#[derive(Debug)]
pub struct PeerSessions {
    own: PeerId,
    peer: PeerId,
    config: PeerSessionsConfig,
    /// Opens packets until the time given.
    previous: Option<(EstablishedSession, Instant)>,
    /// The session to send on.
    current: Option<EstablishedSession>,
    /// Wait until the time given to be confirmed, in the order in which they were answered; at most
    /// [`MAX_NEXT`]. One for each boot number, so that a replayed first message from an earlier life of the
    /// peer takes no place.
    next: Vec<(EstablishedSession, Instant)>,
    /// To be polled.
    retired: VecDeque<ReceiverIndex>,
    /// Boot number and number of the latest attempt of the peer that was answered. A replay from another life
    /// of the peer replaces it.
    latest: Option<(u64, u32)>,
    /// Likewise of the latest that a packet has confirmed, which no replay does.
    confirmed: Option<(u64, u32)>,
}

impl PeerSessions {
    /// No session yet.
    pub const fn new(own: PeerId, peer: PeerId, config: PeerSessionsConfig) -> Self {
        Self {
            own,
            peer,
            config,
            previous: None,
            current: None,
            next: Vec::new(),
            retired: VecDeque::new(),
            latest: None,
            confirmed: None,
        }
    }

    /// What to do with a first message from the peer, with its boot number and the number of its attempt.
    /// `trying`: whether an own attempt waits for its reply.
    pub fn judge_init(&self, trying: bool, peer_boot: u64, attempt: u32) -> InitVerdict {
        match (trying, self.own < self.peer) {
            _ if self.is_stale(peer_boot, attempt) => InitVerdict::Stale,
            (false, _) => InitVerdict::Answer,
            (true, false) => InitVerdict::AnswerAndCancelOwn,
            (true, true) => InitVerdict::Ignore,
        }
    }

    /// The generation for an own attempt started now: 0 without a session, else one more than the latest
    /// session has. Attempts that cross have the same generation; an attempt that replaces a session has a
    /// later one. A session that waits to be confirmed counts, because the peer may use it already.
    pub fn next_generation(&self) -> u16 {
        let next = self.next.iter().map(|(entry, _)| entry);
        let latest = next.chain(self.current()).max_by_key(|entry| entry.since);
        latest.map_or(0, |entry| entry.generation.wrapping_add(1) & !FOR_KEY)
    }

    /// An attempt of the peer was answered with a new key for an open session. Earlier attempts are stale
    /// from now on.
    pub fn handle_rekey(&mut self, peer_boot: u64, attempt: u32) {
        if !self.is_stale(peer_boot, attempt) {
            self.latest = Some((peer_boot, attempt));
        }
    }

    /// A handshake has finished; `confirmed` as in [`HandshakeOutcome::confirmed`]. A session that is stale
    /// is retired at once.
    pub fn handle_established(&mut self, now: Instant, entry: EstablishedSession, confirmed: bool) {
        if entry.role == HandshakeRole::Responder {
            if self.is_stale(entry.peer_boot, entry.attempt) {
                self.retired.push_back(entry.local_index);
                return;
            }
            self.latest = Some((entry.peer_boot, entry.attempt));
        }
        if confirmed {
            self.confirm(now, entry);
            return;
        }
        // The peer has given up its earlier attempt. If it was another life of the peer that attempted, only
        // time can tell which of them lives.
        let replaced = self.next.iter().position(
            |(waiting, _)| mutate!(waiting.peer_boot == entry.peer_boot, "replay-replaces-next" => true),
        );
        let full = self.next.len() >= MAX_NEXT;
        if let Some(at) = replaced.or_else(|| full.then(|| self.dispensable())) {
            self.retired.push_back(self.next.remove(at).0.local_index);
        }
        self.next.push((entry, now + self.config.next_for));
    }

    /// A packet opened under the session with this index. Returns whether that made it the current one.
    pub fn handle_opened(&mut self, now: Instant, local_index: ReceiverIndex) -> bool {
        let Some(at) = self.next.iter().position(|(entry, _)| entry.local_index == local_index) else {
            return false;
        };
        let (entry, _) = self.next.remove(at);
        self.confirm(now, entry)
    }

    /// The session with this index has ended. [`poll_retired`](Self::poll_retired) does not give it.
    pub fn handle_closed(&mut self, local_index: ReceiverIndex) {
        if self.current.is_some_and(|entry| entry.local_index == local_index) {
            self.current = None;
        }
        self.next.retain(|(entry, _)| entry.local_index != local_index);
        if self.previous.is_some_and(|(entry, _)| entry.local_index == local_index) {
            self.previous = None;
        }
    }

    /// The session to send on.
    pub const fn current(&self) -> Option<&EstablishedSession> {
        self.current.as_ref()
    }

    /// The session that waits to be confirmed; the last one answered if there are several. Until then only
    /// empty packets are sent on it, by the side that started it.
    pub fn next(&self) -> Option<&EstablishedSession> {
        self.next.last().map(|(entry, _)| entry)
    }

    /// Whether there is no session at all.
    pub fn is_empty(&self) -> bool {
        self.previous.is_none() && self.current.is_none() && self.next.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.previous.iter().chain(&self.next).map(|(_, until)| *until).min()
    }

    /// Retires sessions whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((entry, _)) = self.previous.take_if(|(_, until)| *until <= now) {
            self.retired.push_back(entry.local_index);
        }
        for (entry, _) in self.next.extract_if(.., |(_, until)| *until <= now) {
            self.retired.push_back(entry.local_index);
        }
    }

    /// A session to take down.
    pub fn poll_retired(&mut self) -> Option<ReceiverIndex> {
        self.retired.pop_front()
    }

    fn is_stale(&self, peer_boot: u64, attempt: u32) -> bool {
        let waiting = self.next.iter().map(|(entry, _)| entry);
        let answered = waiting.filter(|entry| entry.role == HandshakeRole::Responder);
        let answered = answered.map(|entry| (entry.peer_boot, entry.attempt));
        let mut known = self.latest.into_iter().chain(self.confirmed).chain(answered);
        known.any(|(boot, latest)| boot == peer_boot && attempt <= latest)
    }

    /// Of `next` the first to make room: the oldest, but not of the life of the peer that was confirmed last
    /// or has the current session.
    fn dispensable(&self) -> usize {
        let confirmed = self.confirmed.map(|(boot, _)| boot);
        let current = self.current.map(|entry| entry.peer_boot);
        let is_alive = |boot| [confirmed, current].contains(&Some(boot));
        self.next.iter().position(|(entry, _)| !is_alive(entry.peer_boot)).unwrap_or(0)
    }

    /// The peer has the keys of `entry`, which no replay has.
    fn confirm(&mut self, now: Instant, entry: EstablishedSession) -> bool {
        if entry.role == HandshakeRole::Responder {
            self.confirmed = Some((entry.peer_boot, entry.attempt));
        }
        self.promote(now, entry)
    }

    /// Makes `entry` current, unless the current session is newer or wins against it; the loser becomes
    /// `previous`.
    fn promote(&mut self, now: Instant, entry: EstablishedSession) -> bool {
        let Some(current) = self.current else {
            self.current = Some(entry);
            return true;
        };
        let stays = if self.rivals(&current, &entry) {
            self.smaller_started(&current)
        } else {
            entry.since < current.since
        };
        let loser = if stays {
            entry
        } else {
            self.current = Some(entry);
            current
        };
        if let Some((older, _)) = self.previous.take() {
            self.retired.push_back(older.local_index);
        }
        if !stays && loser.peer_boot != entry.peer_boot {
            // The peer has restarted and has forgotten the old session.
            self.retired.push_back(loser.local_index);
        } else {
            self.previous = Some((loser, now + self.config.previous_for));
        }
        !stays
    }

    /// Whether each side started one of the two at about the same time.
    fn rivals(&self, current: &EstablishedSession, entry: &EstablishedSession) -> bool {
        let apart = (entry.since - current.since).max(current.since - entry.since);
        current.generation == entry.generation
            && current.role != entry.role
            && current.peer_boot == entry.peer_boot
            && apart < self.config.rivals_within
    }

    /// Whether the peer with the smaller id started the session.
    fn smaller_started(&self, entry: &EstablishedSession) -> bool {
        (entry.role == HandshakeRole::Initiator) == (self.own < self.peer)
    }
}
