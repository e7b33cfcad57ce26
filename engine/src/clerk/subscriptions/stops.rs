//! Where the channels of a subscription stopped, so that the next one goes on there or tells what is missing.
//!
//! A producer says where its channel begins, and the consumer has no other source. What it believes: a place
//! at or behind the last one of the same publication, and what lies between is missing; or another
//! publication, of which it knows nothing, so that an unknown number is missing. A place before the last one
//! is never believed, however often it is told: the entry goes only with a channel that is taken.

use std::sync::Arc;

use corewire_proto::{
    PeerId,
    channel::{PublicationId, Resume},
    mutate,
    ordered::OrderedMap,
    time::Instant,
};

use crate::shared::{Channel, limits::REST_WANTED, subscription::LegGap};

/// Where a channel stopped that did not end in good order.
pub(super) struct StoppedChannel {
    pub(super) publication: PublicationId,
    pub(super) at: Instant,
    /// The producer keeps nothing of that publication any more.
    pub(super) over: bool,
    pub(super) channel: Arc<Channel>,
}

impl StoppedChannel {
    /// The first sequence that the consumer has not seen, if that is known.
    pub(super) fn next_seq(&self) -> Option<u64> {
        self.channel.shared.stopped_at()
    }

    /// Whether the producer may have the rest, though it does not announce the stream any more.
    pub(super) fn may_go_on(&self, now: Instant) -> bool {
        !self.over && now.saturating_since(self.at) < REST_WANTED && self.next_seq().is_some()
    }

    pub(super) fn resume(&self) -> Option<Resume> {
        Some(Resume { publication: self.publication, next_seq: self.next_seq()? })
    }

    /// What is missing between here and the start of another channel. `None`: that channel goes back behind
    /// what the consumer has seen. `selects`: the consumer has criteria.
    pub(super) fn gap_to(&self, start: Resume, selects: bool) -> Option<LegGap> {
        match self.next_seq() {
            Some(next) if self.publication == start.publication => {
                let datums = mutate!(start.next_seq.checked_sub(next)?, "gap-untold" => 0);
                // How many of them the criteria want is not known.
                let unknown = selects && datums > 0;
                Some(LegGap { datums: if unknown { 0 } else { datums }, unknown })
            }
            _ => Some(LegGap { datums: 0, unknown: mutate!(true, "restart-untold" => false) }),
        }
    }
}

/// Where the last channels of producers in other engines stopped, also of producers that are forgotten.
#[derive(Default)]
pub(super) struct Stops {
    stops: OrderedMap<PeerId, StoppedChannel>,
    /// When the latest channel stopped whose entry was removed for lack of room.
    removed: Option<Instant>,
}

impl Stops {
    pub(super) fn get(&self, producer: PeerId) -> Option<&StoppedChannel> {
        self.stops.get(&producer)
    }

    pub(super) fn get_mut(&mut self, producer: PeerId) -> Option<&mut StoppedChannel> {
        self.stops.get_mut(&producer)
    }

    /// Keeps where a channel of `producer` stopped. Of more than `most`, the entry of a producer that is not
    /// wanted gives way: one whose rest is over, else the oldest. At most `most` are wanted, so each
    /// of these keeps its entry.
    pub(super) fn keep(
        &mut self,
        (producer, stop): (PeerId, StoppedChannel),
        most: usize,
        is_wanted: impl Fn(&PeerId) -> bool,
    ) {
        self.stops.insert(producer, stop);
        if self.stops.len() > most {
            let unwanted = self.stops.iter().filter(|(id, _)| **id != producer && !is_wanted(id));
            let last = unwanted.min_by_key(|(_, stop)| (!stop.over, stop.at)).map(|(id, _)| *id);
            let removed = last.and_then(|id| self.stops.remove(&id));
            self.removed = self.removed.max(removed.map(|stop| stop.at));
        }
    }

    /// What is missing between the last channel of `producer` and one that begins at `start`, as
    /// [`StoppedChannel::gap_to`], and forgets the last one unless `start` goes back behind it. Of a producer
    /// without an entry it is unknown while an entry may have been its own that was removed; after
    /// [`REST_WANTED`] it counts as new.
    pub(super) fn take_gap(
        &mut self,
        now: Instant,
        producer: PeerId,
        start: Resume,
        selects: bool,
    ) -> Option<LegGap> {
        match self.stops.get(&producer) {
            Some(stop) => {
                let gap = stop.gap_to(start, selects)?;
                self.stops.remove(&producer);
                Some(gap)
            }
            None => {
                let unknown = self.removed.is_some_and(|at| now.saturating_since(at) < REST_WANTED);
                Some(LegGap { datums: 0, unknown })
            }
        }
    }
}
