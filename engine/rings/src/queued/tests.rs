//! The transitions of a queued send, driven over a real ring and compared with the table of the module.

use super::{QueuedSend, QueuedState};
use crate::config::RingConfig;
use crate::reader::Reader;
use crate::ring::Ring;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

type Rows = Arc<Mutex<Vec<String>>>;

fn state(queued: &QueuedSend) -> &'static str {
    match queued.inner.lock().state {
        QueuedState::Waiting(..) => "Waiting",
        QueuedState::Attempting { woken: false } => "Attempting",
        QueuedState::Attempting { woken: true } => "Attempting, again",
        QueuedState::Committing => "Committing",
        QueuedState::Done(Ok(())) => "Done(Ok)",
        QueuedState::Done(Err(_)) => "Done(Err)",
        QueuedState::Withdrawn => "Withdrawn",
    }
}

fn step(rows: &Rows, queued: &QueuedSend, event: &str, act: impl FnOnce()) {
    let from = state(queued);
    act();
    rows.lock().unwrap().push(format!("{from} | {event} | {} |", state(queued)));
}

fn withdraw(rows: &Rows, queued: &QueuedSend) {
    step(rows, queued, "withdrawn", || {
        let withdrawn = queued.withdraw();
        assert_eq!(withdrawn, state(queued) == "Withdrawn");
    });
}

/// Calls a function once, when it is woken.
struct CallOnWake(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl CallOnWake {
    fn waker(call: impl FnOnce() + Send + 'static) -> Waker {
        Waker::from(Arc::new(Self(Mutex::new(Some(Box::new(call))))))
    }
}

impl Wake for CallOnWake {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().unwrap().take();
        call.into_iter().for_each(|call| call());
    }
}

/// A ring that holds one record, which is 0, and is full; and a reader of it.
struct FullRing {
    ring: Ring,
    reader: Reader,
    /// Calls of `on_full`.
    reports: Arc<AtomicU64>,
}

impl FullRing {
    fn new() -> Self {
        let config = RingConfig { datums: 1, bytes: 16, max_record: 16, readers: 2, scatter_small: false };
        let ring = Ring::new(config).unwrap();
        let reader = ring.subscribe().unwrap();
        ring.writer().try_push(&[0]).unwrap();
        Self { ring, reader, reports: Arc::default() }
    }

    fn queue(&self) -> Arc<QueuedSend> {
        let reports = Arc::clone(&self.reports);
        QueuedSend::start(self.ring.writer(), vec![7], move || _ = reports.fetch_add(1, Ordering::Relaxed))
    }

    fn take(&mut self) -> Option<u8> {
        self.reader.try_recv().unwrap().map(|record| record[0])
    }
}

fn waiting(rows: &Rows) {
    let mut full = FullRing::new();
    let queued = full.queue();
    step(rows, &queued, "woken, no room", || queued.clone().wake());
    assert_eq!(full.reports.load(Ordering::Relaxed), 2, "each attempt that found no room is reported");
    step(rows, &queued, "woken, room", || assert_eq!(full.take(), Some(0)));
    withdraw(rows, &queued);
    assert_eq!(full.take(), Some(7));

    full.ring.writer().try_push(&[0]).unwrap();
    let queued = full.queue();
    withdraw(rows, &queued);
    step(rows, &queued, "woken", || queued.clone().wake());

    let queued = full.queue();
    step(rows, &queued, "woken, closed", || full.ring.close());
    withdraw(rows, &queued);
}

fn attempting(rows: &Rows) {
    let mut full = FullRing::new();
    let queued = full.queue();
    let (theirs, recorded) = (queued.clone(), rows.clone());
    let waker = CallOnWake::waker(move || {
        step(&recorded, &theirs, "woken", || theirs.attempt());
        theirs.inner.lock().state = QueuedState::Attempting { woken: false };
        withdraw(&recorded, &theirs);
    });
    // The next in the ring's queue is woken while the first one attempts.
    let writer = full.ring.writer();
    let mut next = pin!(writer.claim(1));
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(full.take(), Some(0));
    assert_eq!(state(&queued), "Withdrawn");
}

fn committing(rows: &Rows) {
    let mut full = FullRing::new();
    let mut second = full.ring.subscribe().unwrap();
    assert_eq!(full.take(), Some(0));
    full.ring.writer().try_push(&[1]).unwrap();
    assert_eq!(second.try_recv().unwrap().unwrap()[0], 1);
    let queued = full.queue();
    let (theirs, recorded) = (queued.clone(), rows.clone());
    let waker = CallOnWake::waker(move || withdraw(&recorded, &theirs));
    // A reader that sleeps is woken by the commit.
    let mut sleeping = pin!(second.recv());
    assert!(sleeping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(full.take(), Some(1));
    assert_eq!(state(&queued), "Done(Ok)");
}

#[test]
fn a_queued_send_makes_exactly_the_transitions_of_its_table() {
    let rows = Rows::default();
    waiting(&rows);
    attempting(&rows);
    committing(&rows);
    let mut made = rows.lock().unwrap().clone();
    made.sort();
    made.dedup();
    let table = include_str!("../queued.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut documented: Vec<_> = table.filter(|row| !row.starts_with("state |")).collect();
    documented.sort_unstable();
    assert_eq!(made, documented);
}

#[test]
fn a_panicking_task_waker_stops_no_other_queued_send() {
    let mut full = FullRing::new();
    let first = full.queue();
    let waker = CallOnWake::waker(|| panic!("a waker of the test"));
    assert!(first.poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(full.take(), Some(0));
    assert_eq!((state(&first), full.take()), ("Done(Ok)", Some(7)));
    // On the same thread the next one is served as before.
    full.ring.writer().try_push(&[1]).unwrap();
    let second = full.queue();
    assert_eq!(full.take(), Some(1));
    assert_eq!((state(&second), full.take()), ("Done(Ok)", Some(7)));
}
