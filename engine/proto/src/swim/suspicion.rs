//! Members that are suspected, and those that were given up or have left.

use alloc::vec::Vec;
use core::time::Duration;

use super::{RecordBook, Swim, SwimEvent, SwimTarget, message::SwimBody};
use crate::{ids::PeerId, membership::RecordVersion, time::Instant};

/// Questions that a node asks a suspect itself before it gives it up, spread over the last period.
const OWN_QUESTIONS: u32 = 2;

/// How long a member that was given up is remembered: it is asked from time to time, so that the parts of a
/// network that was cut find each other again.
const GONE_KEPT: Duration = Duration::from_secs(15 * 60);

/// A member that is suspected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    mark: u64,
    /// When it is asked, or given up if all questions were asked.
    due: Instant,
    /// Of this node's questions to it, once there are any.
    number: Option<u64>,
    /// Questions of the last period that were asked.
    asked: u32,
}

/// A member that was given up, or has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoneMember {
    /// Of its last record.
    pub(super) mark: u64,
    version: RecordVersion,
    /// When it is forgotten.
    until: Instant,
    /// It said that it leaves.
    pub(super) left: bool,
}

impl GoneMember {
    /// Whether the member was gone when this record of the same life was told, or after it.
    pub(super) fn covers(&self, mark: u64, version: RecordVersion) -> bool {
        let earlier =
            version.incarnation == self.version.incarnation && version.sequence < self.version.sequence;
        self.mark == mark || earlier
    }
}

impl Swim {
    /// The time between a suspicion and giving up.
    pub fn suspicion_time(&self) -> Duration {
        (self.period * (20 + 4 * self.bits()) / 10).max(self.period * 3)
    }

    /// When a suspect is asked for the last times, if the suspicion begins, or it has answered, now.
    fn question_at(&self, now: Instant) -> Instant {
        now + (self.suspicion_time() - self.period)
    }

    /// Notes a suspicion, if it is of the record that the peer is a member by, and is new.
    pub(super) fn suspect(&mut self, now: Instant, peer: PeerId, mark: u64, book: &impl RecordBook) {
        let Some(member) = self.table.get(&peer).filter(|member| member.mark == mark).copied() else {
            return;
        };
        if self.is_suspected(&peer, mark) {
            return;
        }
        let suspicion = Suspicion { mark, due: self.question_at(now), number: None, asked: 0 };
        self.suspects.insert(peer, suspicion);
        self.tell(now, peer, mark, true);
        if member.connected {
            // The others may have no way to it.
            self.send_news(SwimTarget::Peer { peer, again: false }, Some(peer), &SwimBody::Gossip, book);
        }
    }

    pub(super) fn is_suspected(&self, peer: &PeerId, mark: u64) -> bool {
        self.suspects.get(peer).is_some_and(|suspicion| suspicion.mark == mark)
    }

    /// The mark by which a peer is suspected.
    pub(super) fn suspected_mark(&self, peer: &PeerId) -> Option<u64> {
        self.suspects.get(peer).map(|suspicion| suspicion.mark)
    }

    pub(super) fn next_question(&self) -> Option<Instant> {
        self.suspects.values().map(|suspicion| suspicion.due).min()
    }

    /// An answer to this question of the node may come yet.
    pub(super) fn await_suspect(&mut self, peer: &PeerId, number: u64) {
        if let Some(suspicion) = self.suspects.get_mut(peer) {
            suspicion.number.get_or_insert(number);
        }
    }

    /// Whether this is the number of the questions to a suspect.
    pub(super) fn suspect_answers(&self, peer: &PeerId, number: u64) -> bool {
        self.suspects.get(peer).is_some_and(|suspicion| suspicion.number == Some(number))
    }

    /// A suspect has answered this node. It stays suspected until it has a newer record.
    pub(super) fn spare_suspect(&mut self, now: Instant, peer: &PeerId) {
        let due = self.question_at(now);
        if let Some(suspicion) = self.suspects.get_mut(peer) {
            *suspicion = Suspicion { mark: suspicion.mark, due, number: None, asked: 0 };
        }
    }

    /// Asks the suspects whose time is nearly over, and gives up those that have not answered.
    pub(super) fn question_suspects(&mut self, now: Instant, book: &impl RecordBook) {
        let pause = self.period / OWN_QUESTIONS;
        let flooded = self.is_flooded(now);
        let due: Vec<PeerId> =
            self.suspects.iter().filter(|(_, suspect)| now >= suspect.due).map(|(peer, _)| *peer).collect();
        for peer in due {
            // A session would have ended if the peer were not there.
            if self.table.get(&peer).is_none_or(|member| member.connected) {
                self.suspects.remove(&peer);
                continue;
            }
            let number = self.chance.number();
            let Some(suspicion) = self.suspects.get_mut(&peer) else { continue };
            let late = now.saturating_since(suspicion.due) > pause / 2;
            if suspicion.asked == OWN_QUESTIONS && !late && !flooded {
                let mark = suspicion.mark;
                self.give_up(now, peer, mark);
                continue;
            }
            let again = suspicion.asked > 0;
            suspicion.asked = OWN_QUESTIONS.min(suspicion.asked + 1);
            suspicion.due = now + pause;
            let number = *suspicion.number.get_or_insert(number);
            self.send_ping(peer, again, number, book);
        }
    }

    fn give_up(&mut self, now: Instant, peer: PeerId, mark: u64) {
        self.suspects.remove(&peer);
        let version = self.table.remove(&peer).map_or_else(RecordVersion::default, |member| member.version);
        self.remember_gone(now, peer, (mark, version), false);
        self.events.push_back(SwimEvent::Failed(peer));
        self.schedule(now);
    }

    /// Tells that this node is suspected, once per period. It stays so until it has a newer record.
    pub(super) fn object(&mut self, now: Instant) {
        if self.accuser.is_some() && now >= self.object_at {
            self.object_at = now + self.period;
            self.events.push_back(SwimEvent::Suspected);
        }
    }

    /// `false`: that it is gone with this record was known.
    pub(super) fn remember_gone(
        &mut self,
        now: Instant,
        peer: PeerId,
        (mark, version): (u64, RecordVersion),
        left: bool,
    ) -> bool {
        let gone = GoneMember { mark, version, until: now + GONE_KEPT, left };
        self.forget_at = self.forget_at.min(gone.until);
        let is_new = self.gone.insert(peer, gone).is_none_or(|before| before.mark != mark);
        if self.gone.len() > self.max_members {
            let first = self.gone.iter().min_by_key(|(_, gone)| gone.until).map(|(peer, _)| *peer);
            if let Some(first) = first {
                self.gone.remove(&first);
                self.events.push_back(SwimEvent::Forgotten(first));
            }
        }
        is_new
    }

    pub(super) fn forget_gone(&mut self, now: Instant) {
        if now >= self.forget_at {
            let over = self.gone.iter().filter(|(_, gone)| now >= gone.until).map(|(peer, _)| *peer);
            let over: Vec<PeerId> = over.collect();
            for peer in over {
                self.gone.remove(&peer);
                self.events.push_back(SwimEvent::Forgotten(peer));
            }
            let next = self.gone.values().map(|gone| gone.until).min();
            self.forget_at = next.unwrap_or(Instant::FAR_FUTURE);
        }
    }
}
