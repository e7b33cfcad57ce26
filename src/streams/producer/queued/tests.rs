//! The transitions of a queued send, driven over a real ring and compared with the table of the module.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use corewire_rings::park::block_on;

use super::{QueuedSend, QueuedState};
use crate::network::Network;
use crate::streams::{Consumer, Producer};
use crate::{NetworkId, Plain};

type Rows = Arc<Mutex<Vec<String>>>;

fn state(queued: &QueuedSend) -> &'static str {
    match queued.lock().state {
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

/// A ring that holds one datum, and is full.
struct FullRing {
    producer: Producer<u64, Plain>,
    consumer: Consumer<u64, Plain>,
    _network: Network,
}

impl FullRing {
    fn new() -> Self {
        let network = block_on(Network::new(NetworkId::random())).unwrap();
        let producer = network.streams().producer::<u64>().codec(Plain).with_buffer_size(1).build().unwrap();
        let consumer = Self::join(&network, &producer, 1);
        producer.try_send(0).unwrap();
        Self { producer, consumer, _network: network }
    }

    /// Another consumer, the `number`th.
    fn join(network: &Network, producer: &Producer<u64, Plain>, number: usize) -> Consumer<u64, Plain> {
        let consumer = network.streams().consumer::<u64>().codec(Plain).build();
        block_on(producer.when().subscribed().minimum_of(number));
        block_on(consumer.when().online());
        consumer
    }

    fn queue(&self) -> Arc<QueuedSend> {
        QueuedSend::start(&self.producer.core, 7u64.to_ne_bytes().to_vec())
    }
}

fn waiting(rows: &Rows) {
    let mut ring = FullRing::new();
    let queued = ring.queue();
    step(rows, &queued, "woken, no room", || queued.clone().wake());
    step(rows, &queued, "woken, room", || assert_eq!(ring.consumer.try_recv(), Ok(0)));
    withdraw(rows, &queued);
    assert_eq!(ring.consumer.try_recv(), Ok(7));

    ring.producer.try_send(0).unwrap();
    let queued = ring.queue();
    withdraw(rows, &queued);
    step(rows, &queued, "woken", || queued.clone().wake());

    let queued = ring.queue();
    step(rows, &queued, "woken, closed", || ring.producer.close());
    withdraw(rows, &queued);
}

fn attempting(rows: &Rows) {
    let mut ring = FullRing::new();
    let queued = ring.queue();
    let (theirs, recorded) = (queued.clone(), rows.clone());
    let waker = CallOnWake::waker(move || {
        step(&recorded, &theirs, "woken", || theirs.attempt());
        theirs.lock().state = QueuedState::Attempting { woken: false };
        withdraw(&recorded, &theirs);
    });
    // The next in the ring's queue is woken while the first one attempts.
    let mut next = pin!(ring.producer.send(1));
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(ring.consumer.try_recv(), Ok(0));
    assert_eq!(state(&queued), "Withdrawn");
}

fn committing(rows: &Rows) {
    let mut ring = FullRing::new();
    let mut second = FullRing::join(&ring._network, &ring.producer, 2);
    assert_eq!(ring.consumer.try_recv(), Ok(0));
    ring.producer.try_send(1).unwrap();
    assert_eq!(second.try_recv(), Ok(1));
    let queued = ring.queue();
    let (theirs, recorded) = (queued.clone(), rows.clone());
    let waker = CallOnWake::waker(move || withdraw(&recorded, &theirs));
    // A consumer that sleeps is woken by the commit.
    let mut sleeping = pin!(second.recv());
    assert!(sleeping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(ring.consumer.try_recv(), Ok(1));
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
    let mut ring = FullRing::new();
    let first = ring.queue();
    let waker = CallOnWake::waker(|| panic!("a waker of the test"));
    assert!(first.poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(ring.consumer.try_recv(), Ok(0));
    assert_eq!((state(&first), ring.consumer.try_recv()), ("Done(Ok)", Ok(7)));
    // On the same thread the next one is served as before.
    ring.producer.try_send(1).unwrap();
    let second = ring.queue();
    assert_eq!(ring.consumer.try_recv(), Ok(1));
    assert_eq!((state(&second), ring.consumer.try_recv()), ("Done(Ok)", Ok(7)));
}
