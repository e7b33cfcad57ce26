//! Every future of this crate, dropped after every poll, with every order of other events.
//!
//! A test takes a set of steps (poll the future, publish, read, evict, close, …) and runs *every* sequence
//! of them up to a length. After each sequence the future is dropped. Then nothing may be lost, counted
//! twice, left queued or leaked, and the other futures must finish by the wakes that they receive: a future
//! that was not woken is not polled.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::{
    ClaimError, ClaimFuture, Reader, ReaderId, RecvError, Ring, RingConfig, Writer, mailbox,
};
use corewire_testkit::{CountingWaker, Task};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Runs every sequence of at most `len` steps, and gives their number.
fn each_sequence<S: Copy>(alphabet: &[S], len: usize, mut run: impl FnMut(&[S])) -> u64 {
    let mut count = 0;
    for len in 0..=len {
        let mut digits = vec![0; len];
        loop {
            let steps: Vec<S> = digits.iter().map(|digit| alphabet[*digit]).collect();
            run(&steps);
            count += 1;
            let Some(at) = digits.iter().rposition(|digit| digit + 1 < alphabet.len()) else { break };
            digits[at] += 1;
            digits[at + 1..].fill(0);
        }
    }
    count
}

/// Steps of one sequence; fewer under Miri, which is slow.
const STEPS: usize = if cfg!(miri) { 2 } else { 5 };

#[derive(Clone, Copy, Debug, PartialEq)]
enum RoomStep {
    /// Polls the future that will be dropped, or one that queues before or behind it.
    Poll,
    PollOne,
    PollOther,
    Read,
    Push,
    Evict,
    Detach,
    Close,
}

/// Each sequence twice: with claims that are committed, and with claims that are abandoned.
struct RoomWorld<'a> {
    ring: Ring,
    writer: &'a Writer,
    reader: Reader,
    /// The future that is dropped, and the two others.
    tasks: [Option<Task<ClaimFuture<'a>>>; 3],
    commits: bool,
    written: Vec<u8>,
    abandoned: u64,
    read: Vec<u8>,
    lost: u64,
}

impl<'a> RoomWorld<'a> {
    fn new(ring: &Ring, writer: &'a Writer, commits: bool) -> Self {
        let reader = ring.subscribe().unwrap();
        writer.try_push(&[1]).unwrap();
        writer.try_push(&[2]).unwrap();
        Self {
            ring: ring.clone(),
            writer,
            reader,
            tasks: std::array::from_fn(|_| Some(Task::new(writer.claim(1)))),
            commits,
            written: vec![1, 2],
            abandoned: 0,
            read: Vec::new(),
            lost: 0,
        }
    }

    fn next_value(&self) -> u8 {
        self.written.len() as u8 + 1
    }

    fn push(
        &mut self,
        claim: Result<corewire_rings::RecordClaim<'a>, ClaimError>,
        commits: bool,
    ) -> Option<ClaimError> {
        match claim {
            Ok(mut claim) if commits => {
                claim[0] = self.next_value();
                self.written.push(claim[0]);
                claim.commit();
                None
            }
            Ok(claim) => {
                drop(claim);
                self.abandoned += 1;
                None
            }
            Err(refused) => Some(refused),
        }
    }

    fn poll(&mut self, which: usize, only_if_woken: bool) {
        let task = self.tasks[which].as_mut().expect("a task that was not dropped");
        let Some(claim) = (if only_if_woken { task.poll_if_woken() } else { task.poll() }) else { return };
        let refused = self.push(claim, which != 0 || self.commits);
        assert!(refused.is_none() || (refused == Some(ClaimError::Closed) && self.ring.is_closed()));
    }

    fn read(&mut self) -> bool {
        match self.reader.try_recv() {
            Ok(Some(record)) => {
                assert_eq!(record.len(), 1);
                self.read.push(record[0]);
                true
            }
            Ok(None) | Err(RecvError::Closed | RecvError::Detached) => false,
        }
    }

    fn step(&mut self, step: RoomStep) {
        match step {
            RoomStep::Poll => self.poll(0, false),
            RoomStep::PollOne => self.poll(1, false),
            RoomStep::PollOther => self.poll(2, false),
            RoomStep::Read => _ = self.read(),
            RoomStep::Push => _ = self.push(self.writer.try_claim(1), true),
            RoomStep::Evict => {
                let mut lost = 0;
                let claim = self.writer.claim_evicting(1, |_, n| lost += n);
                self.lost += lost;
                self.push(claim, true);
            }
            RoomStep::Detach => _ = self.ring.detach(self.reader.id()),
            RoomStep::Close => self.ring.close(),
        }
    }

    /// Drops a future. Its waker must have no other owner then.
    fn cancel(&mut self, which: usize) {
        let cancelled = self.tasks[which].take().map(Task::cancel);
        assert!(!cancelled.is_some_and(|task| task.is_leaked()), "a waker was leaked");
    }

    fn sleeping(&self) -> usize {
        self.tasks.iter().flatten().filter(|task| task.is_pending()).count()
    }

    /// The future is dropped; the others must finish.
    fn end(&mut self, steps: &[RoomStep]) {
        self.cancel(0);
        loop {
            let before = self.sleeping();
            self.poll(1, true);
            self.poll(2, true);
            let read = self.read();
            if !read && before == self.sleeping() {
                assert_eq!(before, 0, "{steps:?}: a waiter sleeps though there is room");
                break;
            }
        }
        assert_eq!(self.ring.waiting_writers(), 0, "{steps:?}: a place in the queue is left");
        let free = self.push(self.writer.try_claim(1), true);
        assert_eq!(free, self.ring.is_closed().then_some(ClaimError::Closed), "{steps:?}");
        while self.read() {}
        let reported = (self.written.len() as u64 + self.abandoned, self.abandoned, self.lost);
        let stats = self.ring.stats();
        assert_eq!((stats.accepted, stats.abandoned, stats.evicted), reported, "{steps:?}");
        assert!(self.read.is_sorted_by(|a, b| a < b), "{steps:?}: {:?}", self.read);
        if !steps.contains(&RoomStep::Detach) {
            assert_eq!(self.reader.lost(), self.lost, "{steps:?}");
            // A gap may hold abandoned records as well as written ones.
            let (read, lost) = (self.read.len() as u64, self.lost);
            let written = self.written.len() as u64;
            assert!(read + lost >= written && read + lost <= written + self.abandoned, "{steps:?}");
            assert!(self.lost > 0 || self.read == self.written, "{steps:?}: {:?}", self.read);
        }
        (1..3).for_each(|which| self.cancel(which));
    }
}

#[test]
fn a_waiting_claim_can_be_dropped_after_any_poll() {
    use RoomStep::{Close, Detach, Evict, Poll, PollOne, PollOther, Push, Read};
    for commits in [true, false] {
        each_sequence(&[Poll, PollOne, PollOther, Read, Push, Evict, Detach, Close], STEPS, |steps| {
            let config =
                RingConfig { datums: 2, bytes: 32, max_record: 16, readers: 1, scatter_small: false };
            let ring = Ring::new(config).unwrap();
            let writer = ring.writer();
            let mut world = RoomWorld::new(&ring, &writer, commits);
            steps.iter().for_each(|step| world.step(*step));
            world.end(steps);
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ReadStep {
    /// Polls the future that will be dropped, or the one of another reader.
    Poll,
    PollOther,
    Push,
    RecordClaim,
    Commit,
    Abandon,
    Evict,
    Detach,
    Close,
}

/// All but the reader whose future is dropped.
struct ReadWorld<'a> {
    ring: Ring,
    writer: &'a Writer,
    pending: Option<corewire_rings::RecordClaim<'a>>,
    written: Vec<u64>,
    /// Losses that were reported for the reader.
    lost: u64,
    victim: ReaderId,
}

impl<'a> ReadWorld<'a> {
    fn fill(&mut self, mut claim: corewire_rings::RecordClaim<'a>) {
        claim[0] = claim.seq() as u8;
        self.written.push(claim.seq());
        claim.commit();
    }

    fn step(&mut self, step: ReadStep) {
        match step {
            ReadStep::Poll | ReadStep::PollOther => unreachable!("polled by the caller"),
            ReadStep::Push => {
                if let Ok(claim) = self.writer.try_claim(1) {
                    self.fill(claim);
                }
            }
            ReadStep::RecordClaim if self.pending.is_none() => self.pending = self.writer.try_claim(1).ok(),
            ReadStep::RecordClaim => {}
            ReadStep::Commit => {
                if let Some(claim) = self.pending.take() {
                    self.fill(claim);
                }
            }
            ReadStep::Abandon => drop(self.pending.take()),
            ReadStep::Evict => {
                let (victim, mut lost) = (self.victim, 0);
                let claim = self.writer.claim_evicting(1, |id, n| lost += if id == victim { n } else { 0 });
                self.lost += lost;
                if let Ok(claim) = claim {
                    self.fill(claim);
                }
            }
            ReadStep::Detach => _ = self.ring.detach(self.victim),
            ReadStep::Close => self.ring.close(),
        }
    }
}

/// The record that one future of a reader took, if it takes one.
type Taken = Result<Option<u64>, RecvError>;
type Start = for<'a> fn(&'a mut Reader) -> Pin<Box<dyn Future<Output = Taken> + 'a>>;

fn recv(reader: &mut Reader) -> Pin<Box<dyn Future<Output = Taken> + '_>> {
    Box::pin(async {
        let record = reader.recv().await?;
        assert_eq!(record[0], record.seq() as u8);
        Ok(Some(record.seq()))
    })
}

fn ready(reader: &mut Reader) -> Pin<Box<dyn Future<Output = Taken> + '_>> {
    Box::pin(poll_fn(|cx| reader.poll_ready(cx).map(|()| Ok(None))))
}

fn published(reader: &mut Reader) -> Pin<Box<dyn Future<Output = Taken> + '_>> {
    let second = reader.position() + 1;
    Box::pin(poll_fn(move |cx| reader.poll_published(second, cx).map(|()| Ok(None))))
}

fn drop_a_readers_future(start: Start, steps: &[ReadStep]) {
    let ring =
        Ring::new(RingConfig { datums: 2, bytes: 32, max_record: 16, readers: 2, scatter_small: false })
            .unwrap();
    let writer = ring.writer();
    let (mut reader, mut other) = (ring.subscribe().unwrap(), ring.subscribe().unwrap());
    let victim = reader.id();
    let mut neighbour = Task::new(recv(&mut other));
    let (mut written, mut lost, mut taken) = (Vec::new(), 0, Vec::new());
    let count = Arc::new(CountingWaker::default());
    {
        let mut world =
            ReadWorld { ring: ring.clone(), writer: &writer, pending: None, written, lost, victim };
        let mut rest = steps.iter();
        // After a future resolves, the next one starts.
        'futures: loop {
            let mut future = start(&mut reader);
            for step in rest.by_ref() {
                match step {
                    ReadStep::Poll => {
                        let waker = Waker::from(Arc::clone(&count));
                        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                            Poll::Pending => continue,
                            Poll::Ready(Ok(record)) => taken.extend(record),
                            Poll::Ready(Err(ended)) => match ended {
                                RecvError::Closed => assert!(ring.is_closed()),
                                RecvError::Detached => assert!(steps.contains(&ReadStep::Detach)),
                            },
                        }
                        continue 'futures;
                    }
                    ReadStep::PollOther => _ = neighbour.poll(),
                    step => world.step(*step),
                }
            }
            break;
        }
        // It is dropped now. What was in progress finishes.
        world.step(ReadStep::Commit);
        (written, lost) = (world.written, world.lost);
        written.sort_unstable();
    }
    // The other reader finishes by its wakes: with the next record, if none came before.
    while neighbour.poll_if_woken().is_some() {}
    let sleeps = neighbour.is_pending();
    let mut last = None;
    while let Ok(Some(record)) = reader.try_recv() {
        assert_eq!((record[0], last < Some(record.seq())), (record.seq() as u8, true), "{steps:?}");
        last = Some(record.seq());
        taken.push(record.seq());
    }
    if sleeps && !ring.is_closed() {
        let mut claim = writer.claim_evicting(1, |_, _| ()).expect("nothing is held or claimed");
        claim[0] = claim.seq() as u8;
        claim.commit();
        while neighbour.poll_if_woken().is_some() {}
    }
    assert!(!neighbour.is_pending(), "{steps:?}: another reader sleeps over a record or the end");
    if !steps.contains(&ReadStep::Detach) {
        assert!(taken.is_sorted_by(|a, b| a < b), "{steps:?}: {taken:?}");
        assert_eq!(reader.lost(), lost, "{steps:?}");
        assert!(taken.iter().all(|seq| written.contains(seq)), "{steps:?}: {taken:?} of {written:?}");
        let gone = written.len() - taken.len();
        assert!(gone as u64 <= lost, "{steps:?}: {taken:?} of {written:?}, {lost} lost");
        assert!(lost > 0 || taken == written, "{steps:?}: {taken:?} of {written:?}");
    }
    // At most the reader keeps the waker of a dropped future.
    drop(reader);
    assert_eq!(Arc::strong_count(&count), 1, "{steps:?}: a waker was leaked");
    assert!(ring.detach(victim).is_err());
    let neighbour = neighbour.cancel();
    drop(other);
    assert_eq!((ring.readers(), neighbour.is_leaked()), (0, false), "{steps:?}: a waker was leaked");
}

const READ_STEPS: [ReadStep; 9] = {
    use ReadStep::{Abandon, Close, Commit, Detach, Evict, Poll, PollOther, Push, RecordClaim};
    [Poll, PollOther, Push, RecordClaim, Commit, Abandon, Evict, Detach, Close]
};

#[test]
fn a_receive_can_be_dropped_after_any_poll() {
    each_sequence(&READ_STEPS, STEPS, |steps| drop_a_readers_future(recv, steps));
}

#[test]
fn poll_ready_can_be_dropped_after_any_poll() {
    each_sequence(&READ_STEPS, STEPS - 1, |steps| drop_a_readers_future(ready, steps));
}

#[test]
fn poll_published_can_be_dropped_after_any_poll() {
    each_sequence(&READ_STEPS, STEPS - 1, |steps| drop_a_readers_future(published, steps));
}

#[test]
fn a_mailbox_receive_can_be_dropped_after_any_poll() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Poll,
        Send,
        SendOther,
        Leave,
        Give,
    }
    use Step::{Give, Leave, Poll as PollIt, Send, SendOther};
    each_sequence(&[PollIt, Send, SendOther, Leave, Give], STEPS, |steps| {
        let (sender, mut receiver) = mailbox(2);
        let other = sender.clone();
        let mut senders = [Some(sender), Some(other)];
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        let count = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&count));
        for step in steps {
            let which = match step {
                PollIt => {
                    // A future of one poll, dropped each time.
                    let mut future = Box::pin(poll_fn(|cx| receiver.poll_recv(cx)));
                    if let Poll::Ready(message) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        assert_eq!(message.is_none(), senders.iter().all(Option::is_none) && sent == got);
                        got.extend(message);
                    }
                    continue;
                }
                Leave => {
                    senders[0] = None;
                    continue;
                }
                Give => {
                    senders[1] = None;
                    continue;
                }
                Send => 0,
                SendOther => 1,
            };
            let message = sent.len();
            if senders[which].as_ref().is_some_and(|sender| sender.try_send(message).is_ok()) {
                sent.push(message);
            }
        }
        drop(senders);
        while let Poll::Ready(Some(message)) = receiver.poll_recv(&mut Context::from_waker(&waker)) {
            got.push(message);
        }
        assert_eq!(got, sent, "{steps:?}");
        assert!(receiver.is_finished());
        drop((receiver, waker));
        assert_eq!(Arc::strong_count(&count), 1, "{steps:?}: a waker was leaked");
    });
}
