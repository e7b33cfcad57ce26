//! The production types under shuttle: longer scenarios than loom can explore, each under thousands of random
//! schedules. Run with `RUSTFLAGS="--cfg shuttle" cargo test -p corewire-rings --release --test shuttle --
//! --nocapture`; the environment variable `CORE_SCHEDULES` sets how many schedules each test runs under each
//! scheduler.
//!
//! A scenario draws its threads and their steps from the scheduler's seed: writers that try, wait, give up
//! waiting, evict, claim in batches and abandon; readers that receive, pin, read ahead, leave and join again;
//! a thread that detaches blocking readers. At the end every record, gap and count is compared with the
//! writers' log. A thread that is never woken is a deadlock, which shuttle reports with a schedule that
//! replays it. Weak memory is not modelled here; loom does that.
#![cfg(shuttle)]

use corewire_rings::{
    ClaimError, Doorbell, Reader, ReaderId, RecordClaim, RecordState, RecvError, Ring, RingConfig, Writer,
    mailbox, park,
};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Runs `scenario` under many schedules of two kinds: uniformly random, and few preemptions at random places.
#[expect(clippy::print_stdout, reason = "the number belongs in the output of the test")]
fn explore(name: &str, scenario: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("CORE_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let explored = Arc::new(AtomicUsize::new(0));
    let mut config = Config::default();
    config.silence_warnings = true;
    config.stack_size = 1 << 17;
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let (scenario, explored) = (scenario.clone(), Arc::clone(&explored));
        Runner::new(scheduler, config.clone()).run(move || {
            explored.fetch_add(1, Ordering::Relaxed);
            scenario();
        });
    };
    run(Box::new(RandomScheduler::new(schedules)));
    run(Box::new(PctScheduler::new(3, schedules)));
    println!("{name}: {} schedules", explored.load(Ordering::Relaxed));
}

fn below(n: usize) -> usize {
    thread_rng().gen_range(0..n)
}

/// A place where the scheduler may switch.
fn switch() {
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}

#[derive(Clone, Copy, PartialEq)]
enum Write {
    Try,
    Wait,
    Park,
    GiveUp,
    Dawdle,
    Evict,
    Many,
}

#[derive(Clone, Copy, PartialEq)]
enum Read {
    Recv,
    Park,
    GiveUp,
    PinGuard,
    Batch,
    Ahead,
    Return,
}

/// The threads of a scenario, and what each may do.
#[derive(Clone, Copy)]
struct Cast {
    writes: &'static [Write],
    reads: &'static [Read],
    detaches: bool,
    /// One writer closes the ring before the others have finished.
    closes: bool,
    abandons: bool,
}

/// The log of all threads. Behind std's locks, which the scheduler does not see.
#[derive(Default)]
struct Book {
    committed: Mutex<BTreeMap<u64, [u8; 2]>>,
    abandoned: Mutex<BTreeSet<u64>>,
    /// Losses that evictors were told of, by reader.
    reported: Mutex<HashMap<ReaderId, u64>>,
    /// Losses that each reader noticed, and whether it read to the end.
    noticed: Mutex<Vec<(ReaderId, u64, bool)>>,
}

impl Book {
    fn reported(&self, id: ReaderId, lost: u64) {
        *self.reported.lock().unwrap().entry(id).or_default() += lost;
    }

    /// Writes in two steps, so that a reader that is admitted too early sees the first one.
    fn publish(&self, mut claim: RecordClaim<'_>, tag: [u8; 2], commits: bool) {
        let half = claim.len() / 2;
        claim[..half].fill(tag[0]);
        switch();
        claim[half..].fill(tag[1]);
        if commits {
            // Logged before: a reader may look it up at once.
            self.committed.lock().unwrap().insert(claim.seq(), tag);
            claim.commit();
        } else {
            self.abandoned.lock().unwrap().insert(claim.seq());
            drop(claim);
        }
    }
}

/// Polls `future` up to `polls` times, then drops it.
fn give_up<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        switch();
    }
    None
}

fn write(id: u8, writer: &Writer, cast: Cast, book: &Book) {
    for n in 0..1 + below(4) as u8 {
        let tag = [id * 16 + n, 255 - id * 16 - n];
        let len = [2, 16, 17, 32][below(4)];
        let commits = !cast.abandons || below(6) != 0;
        let claim = match cast.writes[below(cast.writes.len())] {
            Write::Try => writer.try_claim(len),
            Write::Wait => block_on(writer.claim(len)),
            Write::Park => park::block_on(writer.claim(len)),
            Write::GiveUp => match give_up(writer.claim(len), below(4)) {
                Some(claim) => claim,
                None => continue,
            },
            Write::Dawdle => {
                // Keeps its place in the queue for a while without polling.
                let mut room = pin!(writer.claim(len));
                let early = room.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                switch();
                if let Poll::Ready(claim) = early { claim } else { block_on(room) }
            }
            Write::Evict => writer.claim_evicting(len, |id, lost| book.reported(id, lost)),
            Write::Many => {
                if let Ok(mut claim) = writer.try_claim_many(len, 1 + below(3)) {
                    let keep = below(claim.len() + 1);
                    for index in 0..claim.len() {
                        let half = len / 2;
                        let record = claim.record(index);
                        record[..half].fill(tag[0]);
                        record[half..].fill(tag[1]);
                        let seq = claim.seq() + index as u64;
                        if index < keep {
                            book.committed.lock().unwrap().insert(seq, tag);
                        } else {
                            book.abandoned.lock().unwrap().insert(seq);
                        }
                        switch();
                    }
                    claim.commit_first(keep);
                }
                continue;
            }
        };
        match claim {
            Ok(claim) => book.publish(claim, tag, commits),
            Err(ClaimError::Full) => thread::yield_now(),
            Err(ClaimError::Closed) => break,
            Err(refused) => panic!("{refused}"),
        }
        if cast.closes && id == 0 && below(4) == 0 {
            writer.close();
        }
    }
}

/// What one reader saw since its join, checked record by record.
struct Seen<'a> {
    book: &'a Book,
    next: u64,
    lost: u64,
}

impl Seen<'_> {
    /// A record at `seq`, after `lost` more were reported lost.
    fn record(&mut self, seq: u64, lost: u64, bytes: &[u8]) {
        self.check(seq, bytes);
        self.gap(seq, lost);
        self.next = seq + 1;
    }

    fn check(&self, seq: u64, bytes: &[u8]) {
        let tag = self.book.committed.lock().unwrap()[&seq];
        for _ in 0..2 {
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            assert!(
                head.iter().all(|byte| *byte == tag[0]) && tail.iter().all(|byte| *byte == tag[1]),
                "torn or wrong record {seq}: {bytes:?}, not {tag:?}"
            );
            switch();
        }
    }

    /// Each record from `next` to `seq` is lost and reported, or was abandoned.
    fn gap(&mut self, seq: u64, lost: u64) {
        self.lost += lost;
        let skipped = seq.checked_sub(self.next).expect("never back");
        let abandoned = self.book.abandoned.lock().unwrap().range(self.next..seq).count() as u64;
        assert!(
            lost <= skipped && skipped - abandoned <= lost,
            "{skipped} skipped before {seq}, {abandoned} abandoned, {lost} reported"
        );
        self.next = seq;
    }
}

/// One read of some kind. `Some`: there will be no more records.
fn read_once(reader: &mut Reader, seen: &mut Seen<'_>, kind: Read) -> Option<RecvError> {
    match kind {
        Read::Recv | Read::Return => match block_on(reader.recv()) {
            Ok(record) => seen.record(record.seq(), record.lost_before(), &record),
            Err(ended) => return Some(ended),
        },
        Read::Park => match park::block_on(reader.recv()) {
            Ok(record) => seen.record(record.seq(), record.lost_before(), &record),
            Err(ended) => return Some(ended),
        },
        Read::GiveUp => match give_up(reader.recv(), 1 + below(2)) {
            Some(Ok(record)) => seen.record(record.seq(), record.lost_before(), &record),
            Some(Err(ended)) => return Some(ended),
            None => thread::yield_now(),
        },
        Read::PinGuard => {
            block_on(poll_fn(|cx| reader.poll_ready(cx)));
            let Ok(mut guard) = reader.pin_guard() else { return Some(RecvError::Detached) };
            let (start, lost) = (guard.start(), guard.lost_before());
            seen.gap(start, lost);
            let to = guard.published_to(1 + below(3));
            for seq in start..to {
                match guard.get(seq) {
                    RecordState::Published(bytes) => seen.check(seq, bytes),
                    RecordState::Abandoned => assert!(seen.book.abandoned.lock().unwrap().contains(&seq)),
                    slot => panic!("{seq} of {start}..{to}: {slot:?}"),
                }
            }
            let released = guard.advance_to(start + below((to - start) as usize + 1) as u64);
            if below(2) == 0 {
                guard.release_now();
                switch();
            }
            seen.next = released;
            drop(guard);
            if to == start && reader.is_finished() {
                return Some(RecvError::Closed);
            }
        }
        Read::Batch => {
            block_on(poll_fn(|cx| reader.poll_ready(cx)));
            let Ok(mut guard) = reader.pin_guard() else { return Some(RecvError::Detached) };
            seen.gap(guard.start(), guard.lost_before());
            let mut read = Vec::new();
            let records = guard.for_each(1 + below(3), |seq, bytes| {
                seen.check(seq, bytes);
                read.push(seq);
            });
            drop(guard);
            assert_eq!(records, read.len());
            for seq in read {
                seen.gap(seq, 0);
                seen.next = seq + 1;
            }
            seen.gap(reader.position(), 0);
            if records == 0 && reader.is_finished() {
                return Some(RecvError::Closed);
            }
        }
        Read::Ahead => {
            let wanted = reader.position() + below(2) as u64;
            give_up(poll_fn(|cx| reader.poll_published(wanted, cx)), 2);
            let Ok(start) = reader.pin() else { return Some(RecvError::Detached) };
            // The next guard or record reports what was lost.
            let to = reader.published_from(start, 3);
            for seq in start..to {
                if let RecordState::Published(bytes) = reader.get(seq) {
                    seen.check(seq, bytes);
                } else {
                    assert!(seen.book.abandoned.lock().unwrap().contains(&seq));
                }
            }
            reader.unpin(start);
            thread::yield_now();
        }
    }
    None
}

fn read(mut reader: Reader, ring: &Ring, cast: Cast, book: &Book) {
    let mut returns = 2;
    loop {
        let mut seen = Seen { book, next: reader.position(), lost: 0 };
        let ended = loop {
            let kind = cast.reads[below(cast.reads.len())];
            if kind == Read::Return && returns > 0 && below(3) == 0 {
                break None;
            }
            if let Some(ended) = read_once(&mut reader, &mut seen, kind) {
                break Some(ended);
            }
        };
        let id = reader.id();
        if ended == Some(RecvError::Closed) {
            // No record reports what was lost at the end.
            let lost = reader.lost() - seen.lost;
            seen.gap(reader.position(), lost);
            assert_eq!((reader.position(), reader.lag()), (ring.tail(), 0));
        }
        let (lost, position) = (reader.lost(), reader.position());
        assert!(position >= seen.next);
        drop(reader);
        book.noticed.lock().unwrap().push((id, lost, ended == Some(RecvError::Closed)));
        if ended == Some(RecvError::Closed) {
            return;
        }
        returns -= 1;
        match ring.subscribe() {
            Ok(again) if returns > 0 => reader = again,
            _ => return,
        }
    }
}

fn scenario(cast: Cast) {
    let datums = 1 + below(3);
    let ring = Ring::new(RingConfig {
        datums,
        bytes: (datums + 1) * 16,
        max_record: 32,
        readers: 3,
        scatter_small: false,
    })
    .unwrap();
    let book = Arc::new(Book::default());
    let readers: Vec<_> = (0..below(3) + 1)
        .map(|_| {
            let (reader, ring, book) = (ring.subscribe().unwrap(), ring.clone(), Arc::clone(&book));
            thread::spawn(move || read(reader, &ring, cast, &book))
        })
        .collect();
    let writers: Vec<_> = (0..1 + below(3) as u8)
        .map(|id| {
            let (writer, book) = (ring.writer(), Arc::clone(&book));
            thread::spawn(move || write(id, &writer, cast, &book))
        })
        .collect();
    if cast.detaches {
        for _ in 0..below(4) {
            if let Some(id) = ring.blockers().first() {
                let _ = ring.detach(*id);
            }
            thread::yield_now();
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    ring.close();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let (committed, abandoned) = (book.committed.lock().unwrap(), book.abandoned.lock().unwrap());
    let reported: u64 = book.reported.lock().unwrap().values().sum();
    let stats = ring.stats();
    assert_eq!(stats.accepted, (committed.len() + abandoned.len()) as u64);
    assert_eq!((stats.abandoned, stats.evicted), (abandoned.len() as u64, reported));
    assert_eq!((ring.readers(), ring.waiting_writers(), ring.len()), (0, 0, 0));
    for (id, noticed, to_the_end) in book.noticed.lock().unwrap().iter() {
        let reported = book.reported.lock().unwrap().get(id).copied().unwrap_or(0);
        // A reader that left earlier may not have noticed all losses.
        assert!(
            *noticed <= reported && (!to_the_end || *noticed == reported),
            "{noticed} noticed, {reported} reported"
        );
    }
    // Each writer's records keep its order.
    for id in 0..3 {
        let own = committed.values().filter(|tag| tag[0] / 16 == id).map(|tag| tag[0]);
        assert!(own.is_sorted());
    }
}

#[test]
fn waiting_writers_are_all_served() {
    let cast = Cast {
        writes: &[Write::Wait, Write::Park, Write::GiveUp, Write::Dawdle],
        reads: &[Read::Recv, Read::Park, Read::GiveUp],
        detaches: false,
        closes: false,
        abandons: false,
    };
    explore("waiting writers", move || scenario(cast));
}

#[test]
fn readers_that_leave_or_are_detached_leave_no_writer_asleep() {
    let cast = Cast {
        writes: &[Write::Wait, Write::GiveUp, Write::Try, Write::Many],
        reads: &[Read::Recv, Read::PinGuard, Read::Batch, Read::Return, Read::Ahead],
        detaches: true,
        closes: false,
        abandons: true,
    };
    explore("readers that leave", move || scenario(cast));
}

#[test]
fn evicted_readers_count_their_losses_exactly() {
    let cast = Cast {
        writes: &[Write::Evict, Write::Evict, Write::Try, Write::Many],
        reads: &[Read::Recv, Read::PinGuard, Read::Batch, Read::GiveUp, Read::Ahead, Read::Return],
        detaches: false,
        closes: false,
        abandons: true,
    };
    explore("eviction", move || scenario(cast));
}

#[test]
fn everything_at_once() {
    use Write::{Dawdle, Evict, GiveUp, Many, Park, Try, Wait};
    let cast = Cast {
        writes: &[Try, Wait, Park, GiveUp, Dawdle, Evict, Many],
        reads: &[
            Read::Recv,
            Read::Park,
            Read::GiveUp,
            Read::PinGuard,
            Read::Batch,
            Read::Ahead,
            Read::Return,
        ],
        detaches: true,
        closes: true,
        abandons: true,
    };
    explore("everything at once", move || scenario(cast));
}

#[test]
fn a_mailbox_moves_everything_and_ends() {
    explore("mailbox", || {
        let (sender, mut receiver) = mailbox(1 + below(2));
        let senders: Vec<_> = (0..1 + below(3))
            .map(|id| {
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut full = 0;
                    for n in 0..1 + below(3) {
                        let mut message = (id, n);
                        while let Err(refused) = sender.try_send(message) {
                            message = refused.into_inner();
                            full += 1;
                            thread::yield_now();
                        }
                    }
                    full
                })
            })
            .collect();
        drop(sender);
        let mut next = [0; 3];
        let parks = below(2) == 0;
        loop {
            give_up(poll_fn(|cx| receiver.poll_ready(cx)), below(2));
            let wait = poll_fn(|cx| receiver.poll_recv(cx));
            let Some((id, n)) = (if parks { park::block_on(wait) } else { block_on(wait) }) else { break };
            assert_eq!(n, next[id]);
            next[id] += 1;
        }
        assert!(receiver.is_finished());
        let _: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    });
}

#[test]
fn a_doorbell_never_leaves_work_undone() {
    explore("doorbell", || {
        let bell = Arc::new(Doorbell::new());
        // Shuttle's atomics, because the guarantee is about stores before the bell is rung.
        let work = Arc::new(shuttle::sync::atomic::AtomicUsize::new(0));
        let ringers = 1 + below(3);
        let rings = 1 + below(3);
        let threads: Vec<_> = (0..ringers)
            .map(|_| {
                let (bell, work) = (Arc::clone(&bell), Arc::clone(&work));
                thread::spawn(move || {
                    for _ in 0..rings {
                        work.fetch_add(1, Ordering::Release);
                        bell.ring();
                    }
                })
            })
            .collect();
        let (mut done, polls) = (0, AtomicU64::new(0));
        let sleep = poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            loop {
                done += work.swap(0, Ordering::Acquire);
                if done == ringers * rings {
                    bell.disarm();
                    return Poll::Ready(());
                }
                assert!(bell.arm(cx.waker()), "full fences never fail");
                if work.load(Ordering::Acquire) == 0 {
                    return Poll::Pending;
                }
                bell.disarm();
            }
        });
        if below(2) == 0 {
            park::block_on(sleep);
            assert!(polls.load(Ordering::Relaxed) <= 1 + (ringers * rings) as u64, "one wake a ring at most");
        } else {
            block_on(sleep); // Shuttle's own may poll without a wake.
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_parked_thread_is_woken_through_nested_waits() {
    explore("park", || {
        let ring =
            Ring::new(RingConfig { datums: 1, bytes: 16, max_record: 16, readers: 1, scatter_small: false })
                .unwrap();
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let (sender, mut receiver) = mailbox(1);
        let thread = thread::spawn(move || {
            for n in 0..3u8 {
                let mut claim = park::block_on(writer.claim(1)).unwrap();
                claim[0] = n;
                claim.commit();
            }
            sender.try_send(7).unwrap();
        });
        // The inner wait has its own waker, so it does not consume the outer one's wake.
        let mut seen = 0;
        let outer = park::wait(|cx| {
            while seen < 3 {
                assert_eq!(park::block_on(reader.recv()).unwrap()[0], seen);
                seen += 1;
            }
            receiver.poll_recv(cx)
        });
        assert_eq!(outer, Some(7));
        thread.join().unwrap();
    });
}
