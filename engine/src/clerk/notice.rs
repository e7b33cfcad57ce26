//! Calls into the user's code: predicates and notices of change.
//!
//! They run on the clerk's thread, without any lock held. A panic is caught and counted; a predicate that
//! panics denies. What a closure owns may run the user's code when it is dropped, so that is contained as
//! well.

use std::{collections::BTreeSet, sync::Arc};

use corewire_rings::sync::EventCounter;

pub(crate) use corewire_rings::drop_contained;

use crate::{
    peer::PeerInfo,
    shared::{
        counters::count,
        event::EventNotice,
        publication::{Admit, OnChange, Verdict},
    },
};

/// The result of `closure`, or `None` after a panic, which is counted.
pub(crate) fn contain<T>(closure: impl FnOnce() -> T, panics: &EventCounter) -> Option<T> {
    let answer = corewire_rings::contain(closure);
    if answer.is_none() {
        count(panics);
    }
    answer
}

/// Asks a predicate about a peer.
pub(crate) fn ask(predicate: Option<&Admit>, peer: &PeerInfo, panics: &EventCounter) -> Verdict {
    match predicate {
        None => Verdict::Allow,
        Some(predicate) => contain(|| predicate(peer), panics).unwrap_or(Verdict::Deny),
    }
}

/// Closures to call at the end of the turn.
#[derive(Default)]
pub(crate) struct Notices {
    /// Each once, however much has changed for it.
    changes: Vec<OnChange>,
    /// The addresses of these closures.
    known: BTreeSet<usize>,
    /// After them, in order.
    events: Vec<EventNotice>,
}

impl Notices {
    pub(crate) fn add(&mut self, closure: OnChange) {
        if self.known.insert(Arc::as_ptr(&closure).cast::<()>().addr()) {
            self.changes.push(closure);
        }
    }

    pub(crate) fn add_event(&mut self, notice: EventNotice) {
        self.events.push(notice);
    }

    /// Calls them all. `true` when there was one: it may have made requests.
    pub(crate) fn send(&mut self, panics: &EventCounter) -> bool {
        self.known.clear();
        let (changes, events) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.events));
        let any = !changes.is_empty() || !events.is_empty();
        for notice in changes {
            contain(|| notice(), panics);
            drop_contained(notice);
        }
        for EventNotice { hook, event } in events {
            contain(|| hook(event), panics);
            drop_contained(hook);
        }
        any
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::peer::PeerFacts;

    #[test]
    fn a_panic_in_a_predicate_is_a_no_and_is_counted() {
        let panics = EventCounter::default();
        let peer = PeerInfo::new(PeerFacts::default());
        let predicate: Admit = Arc::new(|_| panic!("the user's defect"));
        assert_eq!(ask(Some(&predicate), &peer, &panics), Verdict::Deny);
        assert_eq!(panics.get(), 1);
        assert_eq!(ask(None, &peer, &panics), Verdict::Allow);
    }

    #[test]
    fn a_notice_goes_out_once_however_often_it_was_due() {
        let calls = Arc::new(EventCounter::default());
        let seen = calls.clone();
        let closure: OnChange = Arc::new(move || {
            seen.add_one();
        });
        let mut notices = Notices::default();
        notices.add(closure.clone());
        notices.add(closure);
        assert!(notices.send(&EventCounter::default()));
        assert!(!notices.send(&EventCounter::default()));
        assert_eq!(calls.get(), 1);
    }
}
