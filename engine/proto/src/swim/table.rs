//! The members that one node knows, itself included, in the order of their ids.

use alloc::vec::Vec;

use super::{
    SUMS,
    message::{IdRange, first_bytes},
};
use crate::{
    ids::PeerId,
    membership::{RecordVersion, sealed::Chance},
};

/// A member.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownMember {
    pub(super) peer: PeerId,
    /// Of its record.
    pub(super) mark: u64,
    pub(super) version: RecordVersion,
    /// There is a session with it.
    pub(super) connected: bool,
}

/// The members, at most as many as were asked for.
#[derive(Debug)]
pub(super) struct MemberTable {
    own: PeerId,
    max: usize,
    /// Ascending by id, each once.
    members: Vec<KnownMember>,
    /// Those without a session, the own one not counted.
    strangers: usize,
}

impl MemberTable {
    pub(super) const fn new(own: PeerId, max: usize) -> Self {
        Self { own, max, members: Vec::new(), strangers: 0 }
    }

    fn place(&self, peer: &PeerId) -> Result<usize, usize> {
        self.members.binary_search_by(|member| member.peer.cmp(peer))
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&KnownMember> {
        Some(&self.members[self.place(peer).ok()?])
    }

    /// Whether this is the mark of the peer's record.
    pub(super) fn has(&self, peer: &PeerId, mark: u64) -> bool {
        self.get(peer).is_some_and(|member| member.mark == mark)
    }

    /// Adds a member or changes which record it has; `false` when nothing changed, or there is no room.
    pub(super) fn set(
        &mut self,
        peer: PeerId,
        (mark, version): (u64, RecordVersion),
        connected: bool,
    ) -> bool {
        match self.place(&peer) {
            Ok(place) => {
                self.members[place].version = version;
                core::mem::replace(&mut self.members[place].mark, mark) != mark
            }
            Err(_) if self.members.len() >= self.max && peer != self.own => false,
            Err(place) => {
                self.strangers += usize::from(!connected && peer != self.own);
                self.members.insert(place, KnownMember { peer, mark, version, connected });
                true
            }
        }
    }

    pub(super) fn remove(&mut self, peer: &PeerId) -> Option<KnownMember> {
        let removed = self.members.remove(self.place(peer).ok()?);
        self.strangers -= usize::from(!removed.connected && removed.peer != self.own);
        Some(removed)
    }

    /// Notes whether there is a session with a member; `true` when that is new.
    pub(super) fn set_connected(&mut self, peer: &PeerId, connected: bool) -> bool {
        let Ok(place) = self.place(peer) else { return false };
        let before = core::mem::replace(&mut self.members[place].connected, connected);
        if before != connected && *peer != self.own {
            self.strangers = if connected { self.strangers - 1 } else { self.strangers + 1 };
        }
        before != connected
    }

    /// The members, the own one included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Members without a session, beside the own one.
    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }

    pub(super) fn at(&self, place: usize) -> KnownMember {
        self.members[place]
    }

    /// Up to `count` different members by chance, among those for which `wanted` holds; never the own one.
    /// Where few are wanted, fewer may be found.
    pub(super) fn choose(
        &self,
        chance: &mut Chance,
        count: usize,
        wanted: impl Fn(&KnownMember) -> bool,
    ) -> Vec<PeerId> {
        let mut chosen: Vec<PeerId> = Vec::with_capacity(count);
        let fits = |member: &KnownMember| member.peer != self.own && wanted(member);
        if self.members.len() <= 4 * count {
            let mut all: Vec<PeerId> = self.members.iter().filter(|m| fits(m)).map(|m| m.peer).collect();
            while chosen.len() < count && !all.is_empty() {
                chosen.push(all.swap_remove(chance.below(all.len())));
            }
            return chosen;
        }
        for _ in 0..16 * count {
            let member = &self.members[chance.below(self.members.len())];
            if fits(member) && !chosen.contains(&member.peer) {
                chosen.push(member.peer);
                if chosen.len() == count {
                    break;
                }
            }
        }
        chosen
    }

    /// The members of a range.
    pub(super) fn range(&self, range: IdRange) -> &[KnownMember] {
        let (low, high) = range.bounds();
        let place = |bound: u64| self.members.partition_point(|member| first_bytes(&member.peer) < bound);
        &self.members[place(low)..place(high)]
    }

    /// The sums over the marks of each part of a range.
    pub(super) fn sums(&self, range: IdRange) -> Vec<u64> {
        let mut sums = alloc::vec![0u64; SUMS];
        for member in self.range(range) {
            let sum = &mut sums[range.place_of(&member.peer)];
            *sum = sum.wrapping_add(member.mark);
        }
        sums
    }
}
