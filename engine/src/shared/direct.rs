//! The count of a node's directions of raw channels.

use corewire_rings::sync::{AtomicFlag, PlaceCount};

use super::limits::LEAVING_MAX;

/// Direct publications, and subscriptions to one producer, of one node. Each is in one of the two counts from
/// its beginning until the clerk has forgotten it.
#[derive(Debug, Default)]
pub(crate) struct DirectCount {
    /// At most [`Limits::direct`](super::limits::Limits::direct).
    live: PlaceCount,
    /// Those that have ended and gave their place to newer ones before the clerk has forgotten them. At most
    /// [`LEAVING_MAX`].
    leaving: PlaceCount,
}

/// Whether one direction has given its place back already.
#[derive(Debug, Default)]
pub(crate) struct DirectPlace(AtomicFlag);

impl DirectCount {
    /// Takes a place for a new direction; `false` when there is none.
    pub(crate) fn reserve(&self, limit: usize) -> bool {
        self.live.take(limit)
    }

    /// The clerk has forgotten a direction.
    pub(crate) fn forgotten(&self, place: &DirectPlace) {
        let count = if place.0.set(true) { &self.leaving } else { &self.live };
        count.give_back();
    }

    /// A direction has ended, and gives its place back before the clerk has forgotten it. Called once at
    /// most. `false`: too many have done that, so it keeps its place until then.
    pub(crate) fn give_way(&self, place: &DirectPlace) -> bool {
        let counted = self.leaving.take(LEAVING_MAX);
        if counted {
            // If the clerk was faster, this is the second to leave, which takes it out of `leaving` again.
            self.forgotten(place);
        }
        counted
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.live.get(), self.leaving.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_once_in_whichever_order() {
        let count = DirectCount::default();
        for clerk_first in [false, true] {
            let place = DirectPlace::default();
            assert!(count.reserve(1) && !count.reserve(1));
            if clerk_first {
                count.forgotten(&place);
                assert!(count.give_way(&place));
            } else {
                assert!(count.give_way(&place));
                assert_eq!(count.counts(), (0, 1));
                count.forgotten(&place);
            }
            assert_eq!(count.counts(), (0, 0));
        }
    }

    #[test]
    fn those_that_gave_way_and_are_not_forgotten_are_bounded() {
        let (count, places) =
            (DirectCount::default(), [(); LEAVING_MAX + 1].map(|()| DirectPlace::default()));
        assert!(places.iter().all(|_| count.reserve(places.len())));
        assert!(places[..LEAVING_MAX].iter().all(|place| count.give_way(place)));
        assert!(!count.give_way(&places[LEAVING_MAX]), "it keeps its place");
        assert_eq!(count.counts(), (1, LEAVING_MAX));
        places.iter().for_each(|place| count.forgotten(place));
        assert_eq!(count.counts(), (0, 0));
    }
}
