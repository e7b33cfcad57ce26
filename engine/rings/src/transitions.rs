//! The state machines of the reader slot and of the tail's mode, as tables that the code itself prints: every
//! reachable state with every event. Compared with `tests/snapshots`.

use crate::config::RingConfig;
use crate::error::{DetachError, Detached};
use crate::fence::Fences;
use crate::reader::Reader;
use crate::shared::RingShared;
use crate::sync::{Ordering, thread_token};
use crate::tail::{BiasedTail, TailMode};
use crate::units::Units;
use crate::word::Cursor;
use crate::writer::Writer;
use std::fmt::Write;
use std::sync::Arc;

/// Compares a printed table with the one that is kept.
#[track_caller]
fn assert_snapshot(name: &str, kept: &str, printed: &str) {
    assert!(kept == printed, "tests/snapshots/{name} is not what the code does, which is:\n{printed}");
}

/// What can happen to a reader slot. Every event is one call of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotEvent {
    Join,
    FinishJoin,
    Pin,
    /// Gives one record up and keeps the pin as it is.
    Advance,
    Unpin,
    Leave,
    Evict,
    Detach,
}

const SLOT_EVENTS: [SlotEvent; 8] = [
    SlotEvent::Join,
    SlotEvent::FinishJoin,
    SlotEvent::Pin,
    SlotEvent::Advance,
    SlotEvent::Unpin,
    SlotEvent::Leave,
    SlotEvent::Evict,
    SlotEvent::Detach,
];

/// A ring with one reader slot, in the state that some events led to.
struct SlotModel {
    shared: Arc<RingShared>,
    writer: Writer,
    /// A slot whose join is not finished.
    joining: Option<(usize, u64)>,
    reader: Option<Reader>,
}

impl SlotModel {
    /// `stores`: whether readers pin by a store at first.
    fn new(stores: bool) -> Self {
        let config = RingConfig { datums: 2, bytes: 64, max_record: 16, readers: 1, scatter_small: false };
        let shared = Arc::new(RingShared::with_stores(config, Fences::symmetric(), stores).unwrap());
        Self { writer: Writer { shared: Arc::clone(&shared) }, shared, joining: None, reader: None }
    }

    /// Cursor kind, the `pinned` field, and the mode of all pins.
    fn state(&self) -> String {
        let slot = self.shared.readers.at(0);
        let kind = Cursor(slot.cursor.load(Ordering::Relaxed)).kind();
        let pinned = slot.pinned.load(Ordering::Relaxed);
        format!("{kind:?} pinned={pinned} {:?}", self.shared.signals.pin_switch.mode())
    }

    /// `None`: the event cannot happen here. Otherwise the outcome.
    fn apply(&mut self, event: SlotEvent) -> Option<&'static str> {
        match event {
            SlotEvent::Join => {
                if self.joining.is_some() || self.reader.is_some() {
                    return None;
                }
                self.joining = self.shared.join();
                Some("ok")
            }
            SlotEvent::FinishJoin => {
                let (index, generation) = self.joining.take()?;
                self.reader = Some(Reader::finish_join(&self.shared, index, generation));
                Some("ok")
            }
            SlotEvent::Pin => Some(result(self.reader.as_mut()?.pin().map(drop))),
            SlotEvent::Advance => {
                self.fill();
                let reader = self.reader.as_mut()?;
                let next = reader.position() + 1;
                Some(result(reader.advance_to(next)))
            }
            SlotEvent::Unpin => {
                let reader = self.reader.as_mut()?;
                if !reader.is_pinned() {
                    return None;
                }
                reader.unpin(0);
                Some("ok")
            }
            SlotEvent::Leave => {
                drop(self.reader.take()?);
                Some("ok")
            }
            SlotEvent::Evict => {
                self.fill();
                if self.shared.signals.live.load(Ordering::Relaxed) == 0 {
                    return None;
                }
                Some(if self.writer.evict(16, |_, _| ()).is_ok() { "ok" } else { "refused" })
            }
            SlotEvent::Detach => {
                let id = match (&self.reader, self.joining) {
                    (Some(reader), _) => reader.id(),
                    (None, Some((index, generation))) => {
                        crate::reader_slots::ReaderId { index: index as u32, generation: generation as u32 }
                    }
                    (None, None) => return None,
                };
                Some(match self.shared.detach(id) {
                    Ok(_) => "ok",
                    Err(DetachError::Pinned) => "refused: pinned",
                    Err(DetachError::Gone) => "refused: gone",
                })
            }
        }
    }

    /// Fills the ring, so that there is something to give up or to evict.
    fn fill(&self) {
        while self.writer.try_push(&[0; 16]).is_ok() && self.shared.signals.live.load(Ordering::Relaxed) != 0
        {
        }
    }
}

fn result(done: Result<(), Detached>) -> &'static str {
    if done.is_ok() { "ok" } else { "refused: detached" }
}

/// Every state that events lead to from a new ring, with every event that can happen there, breadth first.
fn slot_table() -> String {
    let mut table = String::from("state | event | outcome | state after\n");
    let mut paths: Vec<(bool, Vec<SlotEvent>)> = vec![(true, Vec::new())];
    let mut seen = vec![SlotModel::new(true).state()];
    while !paths.is_empty() {
        let (stores, path) = paths.remove(0);
        for event in SLOT_EVENTS {
            let mut model = SlotModel::new(stores);
            for earlier in &path {
                model.apply(*earlier).expect("the path was walked before");
            }
            let before = model.state();
            let Some(outcome) = model.apply(event) else { continue };
            let after = model.state();
            writeln!(table, "{before} | {event:?} | {outcome} | {after}").unwrap();
            if !seen.contains(&after) {
                seen.push(after);
                paths.push((stores, [&path[..], &[event]].concat()));
            }
        }
    }
    table
}

#[test]
fn reader_slot_transitions_match_the_table() {
    assert_snapshot("reader_slot.txt", include_str!("../tests/snapshots/reader_slot.txt"), &slot_table());
}

/// What can happen to a tail's mode.
#[derive(Clone, Copy, Debug)]
enum TailEvent {
    EnterByA,
    EnterByB,
    RevokeByA,
    RevokeByB,
}

/// Every mode with every event, for an owner A that is not inside.
fn tail_table() -> String {
    let mut table = String::from("mode | event | outcome | mode after\n");
    let a = thread_token();
    // Thread B lives through all events, so that its token is not given to another thread.
    let (to_b, events) = std::sync::mpsc::channel::<(Arc<BiasedTail>, TailEvent)>();
    let (done, from_b) = std::sync::mpsc::channel::<String>();
    let b = std::thread::spawn(move || {
        for (tail, event) in events {
            done.send(apply(&tail, event)).unwrap();
        }
    });
    for mode in [TailMode::Unowned, TailMode::Owned(a), TailMode::Revoking, TailMode::Shared] {
        for event in [TailEvent::EnterByA, TailEvent::EnterByB, TailEvent::RevokeByA, TailEvent::RevokeByB] {
            let tail = Arc::new(BiasedTail::new(true));
            tail.force(mode);
            let outcome = match event {
                TailEvent::EnterByA | TailEvent::RevokeByA => apply(&tail, event),
                TailEvent::EnterByB | TailEvent::RevokeByB => {
                    to_b.send((Arc::clone(&tail), event)).unwrap();
                    from_b.recv().unwrap()
                }
            };
            let name = |mode| match mode {
                TailMode::Owned(token) if token == a => "Owned(A)".to_string(),
                TailMode::Owned(_) => "Owned(B)".to_string(),
                other => format!("{other:?}"),
            };
            writeln!(table, "{} | {event:?} | {outcome} | {}", name(mode), name(tail.mode())).unwrap();
        }
    }
    drop(to_b);
    b.join().unwrap();
    table
}

fn apply(tail: &BiasedTail, event: TailEvent) -> String {
    let fences = Fences::symmetric();
    match event {
        TailEvent::EnterByA | TailEvent::EnterByB => match tail.try_enter(fences) {
            Some(owner) => {
                assert!(owner.try_reserve(Units::new(4), 1, 1).is_none(), "no room is cached yet");
                "enters".into()
            }
            None => "swaps".into(),
        },
        TailEvent::RevokeByA | TailEvent::RevokeByB => {
            tail.revoke(fences);
            "swaps".into()
        }
    }
}

#[test]
fn tail_mode_transitions_match_the_table() {
    assert_snapshot("tail_mode.txt", include_str!("../tests/snapshots/tail_mode.txt"), &tail_table());
}

/// A revoker waits while the owner is inside.
#[test]
fn revoking_waits_until_the_owner_is_outside() {
    let (tail, fences) = (BiasedTail::new(true), Fences::symmetric());
    let owner = tail.try_enter(fences).expect("the first thread owns the tail");
    std::thread::scope(|scope| {
        let revoker = scope.spawn(|| tail.revoke(fences));
        while tail.mode() != TailMode::Revoking {
            std::thread::yield_now();
        }
        assert!(!revoker.is_finished());
        drop(owner);
        revoker.join().unwrap();
    });
    assert_eq!(tail.mode(), TailMode::Shared);
}
