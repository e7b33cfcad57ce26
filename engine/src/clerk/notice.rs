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

/// Whose channels have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelsOf {
    Publication,
    Subscription,
}

/// What to call at the end of the turn.
#[derive(Default)]
pub(crate) struct Notices {
    /// Each hook once, however much has changed for it. Those of publications.
    publications: Vec<OnChange>,
    /// After them, those of subscriptions.
    subscriptions: Vec<OnChange>,
    /// The addresses of these hooks.
    known: BTreeSet<usize>,
    /// Told in order, when all hooks are refreshed and before one is woken.
    events: Vec<EventNotice>,
}

impl Notices {
    pub(crate) fn add(&mut self, of: ChannelsOf, hook: OnChange) {
        if self.known.insert(Arc::as_ptr(&hook).cast::<()>().addr()) {
            match of {
                ChannelsOf::Publication => self.publications.push(hook),
                ChannelsOf::Subscription => self.subscriptions.push(hook),
            }
        }
    }

    pub(crate) fn add_event(&mut self, notice: EventNotice) {
        self.events.push(notice);
    }

    /// Calls them all. `true` when there was one: it may have made requests.
    pub(crate) fn send(&mut self, panics: &EventCounter) -> bool {
        self.known.clear();
        let mut hooks = std::mem::take(&mut self.publications);
        hooks.append(&mut self.subscriptions);
        let events = std::mem::take(&mut self.events);
        let any = !hooks.is_empty() || !events.is_empty();
        for hook in &hooks {
            contain(|| hook.refresh(), panics);
        }
        // Before the tasks are woken that wait for what is told: a datum is not to be taken by one before the
        // event of its connection.
        for EventNotice { hook, event } in events {
            contain(|| hook(event), panics);
            drop_contained(hook);
        }
        for hook in hooks {
            contain(|| hook.wake(), panics);
            drop_contained(hook);
        }
        any
    }
}

#[cfg(test)]
mod tests {

    use corewire_rings::sync::Lock;

    use super::*;
    use crate::{
        peer::PeerFacts,
        shared::{event::ChannelEvent, publication::ChangeHook},
    };

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
        notices.add(ChannelsOf::Publication, closure.clone());
        notices.add(ChannelsOf::Publication, closure);
        assert!(notices.send(&EventCounter::default()));
        assert!(!notices.send(&EventCounter::default()));
        assert_eq!(calls.get(), 1);
    }

    /// Notes the calls under its name.
    struct NotingHook(&'static str, Arc<Lock<Vec<String>>>);

    impl ChangeHook for NotingHook {
        fn refresh(&self) {
            self.1.lock().push(format!("{} reads", self.0));
        }

        fn wake(&self) {
            self.1.lock().push(format!("{} wakes", self.0));
        }
    }

    #[test]
    fn hooks_are_refreshed_and_events_told_before_any_wakes() {
        let calls = Arc::new(Lock::new(Vec::new()));
        let mut notices = Notices::default();
        for (of, name) in [(ChannelsOf::Subscription, "consumer"), (ChannelsOf::Publication, "producer")] {
            notices.add(of, Arc::new(NotingHook(name, calls.clone())));
        }
        let told = calls.clone();
        notices.add_event(EventNotice {
            hook: Arc::new(move |_| told.lock().push("event".to_owned())),
            event: ChannelEvent::GaveUp { producer: PeerFacts::default().peer_id },
        });
        notices.send(&EventCounter::default());
        let expected = ["producer reads", "consumer reads", "event", "producer wakes", "consumer wakes"];
        assert_eq!(*calls.lock(), expected);
    }
}
