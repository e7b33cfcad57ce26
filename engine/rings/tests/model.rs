//! The ring against an oracle: a plain model of the result of each operation, driven by random operations of
//! one thread. It covers every operation, refusal, gap, count and wake-up. Threads are in `loom.rs`,
//! `shuttle.rs` and `stress.rs`.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::{
    ClaimError, ClaimFuture, DetachError, Reader, ReaderId, RecordClaim, RecordState, RecvError, Ring,
    RingConfig, Writer,
};
use corewire_testkit::CountingWaker;
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[path = "model/op.rs"]
mod op;

use op::{Op, READERS, plans};

#[derive(Clone, Debug, PartialEq)]
enum State {
    Claimed,
    Published(Vec<u8>),
    Abandoned,
}

struct ModelReader {
    real: Reader,
    /// The oldest record that the ring must keep for it.
    cursor: u64,
    /// The reader's own copy of its cursor.
    known: u64,
    /// The reader's own copy of its position.
    next: u64,
    pinned: bool,
    detached: bool,
    asleep: bool,
    lost: u64,
    unreported: u64,
    wakes: u64,
    count: Arc<CountingWaker>,
    waker: Waker,
}

struct ModelWaiter<'a> {
    real: Pin<Box<ClaimFuture<'a>>>,
    len: usize,
    queued: bool,
    wakes_at_poll: u64,
    count: Arc<CountingWaker>,
    waker: Waker,
}

struct Model<'a> {
    ring: Ring,
    writer: &'a Writer,
    datums: u64,
    units: u64,
    records: Vec<(usize, State)>,
    claims: Vec<RecordClaim<'a>>,
    readers: Vec<ModelReader>,
    waiters: VecDeque<ModelWaiter<'a>>,
    closed: bool,
    evicted: u64,
}

fn units(len: usize) -> u64 {
    (RingConfig::cost(len) / 16) as u64
}

fn bytes_of(seq: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| (seq * 41 + n as u64) as u8).collect()
}

impl<'a> Model<'a> {
    fn tail(&self) -> u64 {
        self.records.len() as u64
    }

    fn state(&self, seq: u64) -> Option<&State> {
        self.records.get(seq as usize).map(|(_, state)| state)
    }

    fn run_end(&self, from: u64) -> u64 {
        let published = |seq: &u64| self.state(*seq).is_some_and(|state| *state != State::Claimed);
        (from..).find(|seq| !published(seq)).unwrap()
    }

    fn gate(&self) -> u64 {
        let live = self.readers.iter().filter(|reader| !reader.detached);
        live.map(|reader| reader.cursor).min().unwrap_or_else(|| {
            // Before the first unpublished record.
            (0..self.tail()).find(|seq| self.state(*seq) == Some(&State::Claimed)).unwrap_or(self.tail())
        })
    }

    fn used_units(&self, from: u64) -> u64 {
        self.records[from as usize..].iter().map(|(len, _)| units(*len)).sum()
    }

    fn fits(&self, gate: u64, len: usize) -> bool {
        self.tail() - gate < self.datums && self.used_units(gate) + units(len) <= self.units
    }

    /// The expected result of a claim.
    fn refusal(&self, len: usize, overtakes: bool) -> Option<ClaimError> {
        if self.closed {
            Some(ClaimError::Closed)
        } else if !overtakes && self.waiters.iter().any(|waiter| waiter.queued)
            || !self.fits(self.gate(), len)
        {
            Some(ClaimError::Full)
        } else {
            None
        }
    }

    fn published(&mut self) {
        for reader in &mut self.readers {
            reader.wake();
        }
    }

    /// Fills a real claim with the model's bytes and publishes it.
    fn publish(&mut self, mut claim: RecordClaim<'a>, len: usize) {
        let seq = claim.seq();
        assert_eq!((seq, claim.len()), (self.tail(), len));
        let bytes = bytes_of(seq, len);
        claim.copy_from_slice(&bytes);
        claim.commit();
        self.records.push((len, State::Published(bytes)));
        self.published();
    }

    fn push(&mut self, len: usize) {
        let refusal = self.refusal(len, false);
        self.publish_or(self.writer.try_claim(len), refusal, len);
    }

    fn publish_or(
        &mut self,
        claim: Result<RecordClaim<'a>, ClaimError>,
        refusal: Option<ClaimError>,
        len: usize,
    ) {
        match (claim, refusal) {
            (Ok(claim), None) => self.publish(claim, len),
            (real, model) => assert_eq!(real.err(), model),
        }
    }

    fn claim(&mut self, len: usize) {
        match (self.writer.try_claim(len), self.refusal(len, false)) {
            (Ok(claim), None) => {
                self.records.push((len, State::Claimed));
                self.claims.push(claim);
            }
            (real, model) => assert_eq!(real.err(), model),
        }
    }

    fn end_claim(&mut self, which: usize, commit: bool) {
        if self.claims.is_empty() {
            return;
        }
        let mut claim = self.claims.remove(which % self.claims.len());
        let seq = claim.seq();
        let bytes = bytes_of(seq, claim.len());
        let state = if commit {
            claim.copy_from_slice(&bytes);
            claim.commit();
            State::Published(bytes)
        } else {
            drop(claim);
            State::Abandoned
        };
        self.records[seq as usize].1 = state;
        self.published();
    }

    fn many(&mut self, len: usize, n: usize, keep: usize) {
        let mut claim = match (self.writer.try_claim_many(len, n), self.refusal(len, false)) {
            (Ok(claim), None) => claim,
            (real, model) => return assert_eq!(real.err(), model),
        };
        let gate = self.gate();
        let fit = (self.units - self.used_units(gate)) / units(len);
        let expected = (n.max(1) as u64).min(self.datums - (self.tail() - gate)).min(fit);
        assert_eq!((claim.len() as u64, claim.seq()), (expected, self.tail()));
        for index in 0..claim.len() {
            let bytes = bytes_of(self.tail(), len);
            claim.record(index).copy_from_slice(&bytes);
            let state = if index < keep { State::Published(bytes) } else { State::Abandoned };
            self.records.push((len, state));
        }
        claim.commit_first(keep);
        self.published();
    }

    fn join(&mut self) {
        let real = match self.ring.subscribe() {
            Ok(real) => real,
            Err(refused) => return assert_eq!((self.readers.len(), refused.limit), (READERS, READERS)),
        };
        let count = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&count));
        let cursor = self.run_end(self.gate()).min(self.tail());
        self.readers.push(ModelReader {
            real,
            cursor,
            known: cursor,
            next: self.tail(),
            pinned: false,
            detached: false,
            asleep: false,
            lost: 0,
            unreported: 0,
            wakes: 0,
            count,
            waker,
        });
    }

    fn recv(&mut self, which: usize) {
        let Some(at) = self.sync(which) else { return };
        let closed = self.closed;
        while !self.readers[at].detached {
            let next = self.readers[at].next;
            match self.state(next).cloned() {
                Some(State::Abandoned) => self.release(at, next + 1),
                Some(State::Published(bytes)) => {
                    let reader = &mut self.readers[at];
                    let gap = std::mem::take(&mut reader.unreported);
                    let record = reader.real.try_recv().unwrap().expect("it is published");
                    assert_eq!((record.seq(), &record[..], record.lost_before()), (next, &bytes[..], gap));
                    drop(record);
                    self.release(at, next + 1);
                    return;
                }
                _ => break,
            }
        }
        let finished = closed && self.readers[at].next >= self.tail();
        let reader = &mut self.readers[at];
        match reader.real.try_recv() {
            Err(RecvError::Detached) => assert!(reader.detached),
            Err(RecvError::Closed) => assert!(finished && !reader.detached),
            Ok(record) => assert!(record.is_none() && !finished && !reader.detached),
        }
        self.catch_up(at);
    }

    fn pin_guard(&mut self, which: usize, ahead: u64, advance: bool, leak: bool) {
        let Some(at) = self.sync(which) else { return };
        let (start, gap) = (self.readers[at].next, self.readers[at].unreported);
        let run_end = self.run_end(start).max(start);
        let slots: Vec<_> =
            (start..=start + self.datums).map(|seq| (seq, self.state(seq).cloned())).collect();
        let reader = &mut self.readers[at];
        let detached = reader.detached;
        let mut guard = match reader.real.pin_guard() {
            Ok(guard) => guard,
            Err(_) => return assert!(detached),
        };
        assert!(!detached);
        reader.unreported = 0;
        assert_eq!((guard.start(), guard.lost_before()), (start, gap));
        for (seq, state) in slots {
            match (guard.get(seq), state) {
                (RecordState::Published(real), Some(State::Published(model))) => assert_eq!(real, model),
                (RecordState::Abandoned, Some(State::Abandoned))
                | (RecordState::Pending, Some(State::Claimed) | None) => {}
                (real, model) => panic!("{seq}: {real:?} but {model:?}"),
            }
        }
        assert_eq!(guard.published_to(ahead as usize), run_end.min(start + ahead));
        assert_eq!(guard.advance_to(start + ahead), run_end.min(start + ahead));
        if advance {
            guard.release_now();
        }
        if leak {
            std::mem::forget(guard);
            reader.pinned = true;
            if advance {
                self.move_to(at, run_end.min(start + ahead));
            }
        } else {
            drop(guard);
            self.release(at, run_end.min(start + ahead));
        }
    }

    /// Two reads under one guard: the second continues where the first one stopped.
    fn read(&mut self, which: usize, first: usize, then: usize) {
        let Some(at) = self.sync(which) else { return };
        let start = self.readers[at].next;
        let end = self.run_end(start).max(start).min(start + (first + then) as u64);
        let expected: Vec<_> = (start..end)
            .filter_map(|seq| match self.state(seq) {
                Some(State::Published(bytes)) => Some((seq, bytes.clone())),
                _ => None,
            })
            .collect();
        let reader = &mut self.readers[at];
        let detached = reader.detached;
        let Ok(mut guard) = reader.real.pin_guard() else { return assert!(detached) };
        assert!(!detached);
        assert_eq!(guard.lost_before(), std::mem::take(&mut reader.unreported));
        let mut seen = Vec::new();
        let mut count = 0;
        for max in [first, then] {
            count += guard.for_each(max, |seq, bytes| seen.push((seq, bytes.to_vec())));
        }
        assert_eq!((count, &seen), (expected.len(), &expected));
        drop(guard);
        self.release(at, end);
    }

    /// The reader notices an eviction, as every call that pins does. `None`: no reader.
    fn sync(&mut self, which: usize) -> Option<usize> {
        if self.readers.is_empty() {
            return None;
        }
        let at = which % self.readers.len();
        let reader = &mut self.readers[at];
        let lost = reader.cursor.saturating_sub(reader.next);
        // A detached reader does not notice what it lost before.
        if !reader.detached {
            reader.lost += lost;
            reader.unreported += lost;
            reader.next += lost;
            reader.known = reader.cursor;
        }
        Some(at)
    }

    fn release(&mut self, at: usize, next: u64) {
        self.readers[at].pinned = false;
        self.move_to(at, next);
    }

    fn move_to(&mut self, at: usize, next: u64) {
        let cursor = self.run_end(self.readers[at].cursor).min(next);
        let reader = &mut self.readers[at];
        (reader.cursor, reader.known, reader.next) = (cursor, cursor, next);
    }

    fn catch_up(&mut self, at: usize) {
        let reader = &self.readers[at];
        if !reader.pinned && !reader.detached {
            self.move_to(at, reader.next.max(reader.cursor));
        }
    }

    fn poll(&mut self, which: usize) {
        if self.readers.is_empty() {
            return;
        }
        let at = which % self.readers.len();
        if self.readers[at].known < self.readers[at].next && !self.readers[at].pinned {
            self.sync(at);
            self.catch_up(at);
        }
        let reader = &self.readers[at];
        let published = self.state(reader.next).is_some_and(|state| *state != State::Claimed);
        let finished = self.closed && reader.next >= self.tail();
        let ready = published || finished || reader.detached || reader.cursor != reader.known;
        let reader = &mut self.readers[at];
        let poll = reader.real.poll_ready(&mut Context::from_waker(&reader.waker));
        assert_eq!((poll.is_ready(), reader.real.is_ready()), (ready, ready));
        reader.asleep = !ready;
    }

    /// The model's eviction: its expected result, and its effect on the model. The gate must come to `to`.
    fn evict(&mut self, len: usize) -> (Option<ClaimError>, Vec<(ReaderId, u64)>) {
        let (gate, mut to) = (self.gate(), self.gate());
        if self.closed {
            return (Some(ClaimError::Closed), Vec::new());
        }
        while !(self.tail() - to < self.datums && self.used_units(to) + units(len) <= self.units) {
            if self.state(to) == Some(&State::Claimed) {
                return (Some(ClaimError::Full), Vec::new());
            }
            to += 1;
        }
        let behind = |reader: &&mut ModelReader| !reader.detached && (gate..to).contains(&reader.cursor);
        if self.readers.iter_mut().filter(behind).any(|reader| reader.pinned) {
            return (Some(ClaimError::Full), Vec::new());
        }
        let mut lost = Vec::new();
        for reader in self.readers.iter_mut().filter(behind) {
            let n = to.saturating_sub(reader.cursor.max(reader.next));
            reader.cursor = to;
            if n > 0 {
                self.evicted += n;
                lost.push((reader.real.id(), n));
            }
        }
        (None, lost)
    }

    fn detach(&mut self, which: usize) {
        if self.readers.is_empty() {
            return;
        }
        let at = which % self.readers.len();
        let reader = &mut self.readers[at];
        let expected = match (reader.detached, reader.pinned) {
            (true, _) => Err(DetachError::Gone),
            (_, true) => Err(DetachError::Pinned),
            _ => Ok(reader.cursor.max(reader.next)),
        };
        assert_eq!(self.ring.detach(reader.real.id()), expected);
        if expected.is_ok() {
            reader.detached = true;
            reader.wake();
        }
    }

    fn wait(&mut self, len: usize) {
        let count = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&count));
        let real = Box::pin(self.writer.claim(len));
        self.waiters.push_back(ModelWaiter { real, len, queued: false, wakes_at_poll: 0, count, waker });
    }

    fn poll_waiter(&mut self, which: usize) {
        if self.waiters.is_empty() {
            return;
        }
        let at = which % self.waiters.len();
        let first = self.waiters.iter().all(|waiter| !waiter.queued)
            || self.waiters.iter().position(|waiter| waiter.queued) == Some(at);
        let refusal = if first { self.refusal(self.waiters[at].len, true) } else { Some(ClaimError::Full) };
        let refusal = if self.closed { Some(ClaimError::Closed) } else { refusal };
        let waiter = &mut self.waiters[at];
        waiter.wakes_at_poll = waiter.count.wakes();
        match (waiter.real.as_mut().poll(&mut Context::from_waker(&waiter.waker)), refusal) {
            (Poll::Ready(Ok(claim)), None) => {
                let len = self.waiters.remove(at).unwrap().len;
                self.publish(claim, len);
            }
            (Poll::Ready(Err(ClaimError::Closed)), Some(ClaimError::Closed)) => drop(self.waiters.remove(at)),
            (Poll::Pending, Some(ClaimError::Full)) => {
                // Its place in the queue is after all that waited before.
                if !waiter.queued {
                    let mut waiter = self.waiters.remove(at).unwrap();
                    waiter.queued = true;
                    let place = self.waiters.iter().filter(|waiter| waiter.queued).count();
                    self.waiters.insert(place, waiter);
                }
            }
            (real, model) => panic!("{real:?} but {model:?}"),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Push(len) => self.push(len),
            Op::RecordClaim(len) if self.claims.len() < 3 => self.claim(len),
            Op::RecordClaim(len) => self.push(len),
            Op::Commit(which) => self.end_claim(which, true),
            Op::Abandon(which) => self.end_claim(which, false),
            Op::Many { len, n, keep } => self.many(len, n, keep),
            Op::Join => self.join(),
            Op::Leave(which) => {
                let at = which % self.readers.len().max(1);
                drop((at < self.readers.len()).then(|| self.readers.remove(at)));
            }
            Op::Recv(which) => self.recv(which),
            Op::PinGuard { reader, ahead, advance, leak } => self.pin_guard(reader, ahead, advance, leak),
            Op::Read { reader, first, then } => self.read(reader, first, then),
            Op::Poll(which) => self.poll(which),
            Op::Evict(len) => {
                let (refusal, expected) = self.evict(len);
                let mut lost = Vec::new();
                assert_eq!(self.writer.evict(len, |id, n| lost.push((id, n))).err(), refusal);
                assert_same(lost, expected);
            }
            Op::PushEvicting(len) => {
                let (refusal, expected) = self.evict(len);
                let mut lost = Vec::new();
                let claim = self.writer.claim_evicting(len, |id, n| lost.push((id, n)));
                self.publish_or(claim, refusal, len);
                assert_same(lost, expected);
            }
            Op::Detach(which) => self.detach(which),
            Op::Wait(len) => self.wait(len),
            Op::PollWaiter(which) => self.poll_waiter(which),
            Op::CancelWaiter(which) => drop(self.waiters.remove(which % self.waiters.len().max(1))),
            Op::Close => {
                self.ring.close();
                if !self.closed {
                    self.published();
                }
                self.closed = true;
            }
        }
    }

    /// The invariants after every operation.
    fn check(&self) {
        let gate = self.gate();
        assert_eq!((self.ring.tail(), self.ring.gate()), (self.tail(), gate));
        assert_eq!((self.ring.len() as u64, self.ring.is_closed()), (self.tail() - gate, self.closed));
        assert!(self.tail() - gate <= self.datums && self.used_units(gate) <= self.units);
        assert_eq!(self.ring.stats().evicted, self.evicted);
        let mut wakes = 0;
        for reader in &self.readers {
            assert_eq!((reader.real.position(), reader.real.lost()), (reader.next, reader.lost));
            assert_eq!(reader.count.wakes(), reader.wakes, "one wake a sleep");
            wakes += reader.wakes;
        }
        assert!(wakes <= self.ring.stats().reader_wakes);
        let live = || self.readers.iter().filter(|reader| !reader.detached);
        assert_eq!(self.ring.readers(), live().count());
        let blocking = live().filter(|reader| reader.cursor == gate && gate < self.tail());
        let blocking: HashSet<_> = blocking.map(|reader| reader.real.id()).collect();
        assert_eq!(self.ring.blockers().into_iter().collect::<HashSet<_>>(), blocking);
        // No lost wake-up: a first waiter that would be served has been woken since its last poll.
        if let Some(first) = self.waiters.iter().find(|waiter| waiter.queued)
            && self.refusal(first.len, true) != Some(ClaimError::Full)
        {
            assert!(first.count.wakes() > first.wakes_at_poll, "a lost wake-up");
        }
    }
}

impl ModelReader {
    fn wake(&mut self) {
        self.wakes += u64::from(self.asleep);
        self.asleep = false;
    }
}

fn assert_same(mut real: Vec<(ReaderId, u64)>, expected: Vec<(ReaderId, u64)>) {
    for loss in expected {
        let at = real.iter().position(|seen| *seen == loss).expect("each loss is reported");
        real.remove(at);
    }
    assert_eq!(real, []);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_ring_agrees_with_the_model((config, ops) in plans()) {
        let ring = Ring::new(config).unwrap();
        let writer = ring.writer();
        let mut model = Model {
            ring,
            writer: &writer,
            datums: config.datums as u64,
            units: (config.bytes / 16) as u64,
            records: Vec::new(),
            claims: Vec::new(),
            readers: Vec::new(),
            waiters: VecDeque::new(),
            closed: false,
            evicted: 0,
        };
        for op in ops {
            model.run(op);
            model.check();
        }
    }
}
