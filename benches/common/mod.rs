//! Shared by the ring benchmarks: two threads on two CPUs, rings of numbered records, and limits to compare
//! with.
//!
//! The sending thread is pinned to the first CPU of the process, the receiving thread to the second. With a
//! single CPU both share it and yield to each other: everything runs, but the figures mean nothing.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use corewire_rings::{Reader, RecordState, Ring, RingConfig, Writer};
use criterion::Criterion;

/// Bytes of a record where the question is not about sizes.
pub(crate) const RECORD: usize = 64;
/// Slots of the bare rings; a fanout ring holds one less, so that both use the same number of slots.
pub(crate) const SLOTS: u64 = 1024;

/// A pair of cache lines, since the adjacent-line prefetcher fetches both.
#[repr(align(128))]
pub(crate) struct Line(pub(crate) AtomicU64);

impl Line {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn wait(&self, value: u64) {
        while self.0.load(Ordering::Acquire) < value {
            relax();
        }
    }
}

/// Read once, before threads are pinned: a pinned thread sees only its own CPU.
static CPUS: LazyLock<Vec<core_affinity::CoreId>> =
    LazyLock::new(|| core_affinity::get_core_ids().unwrap_or_default());

/// A pause in a loop that waits for the other thread.
#[inline]
pub(crate) fn relax() {
    if CPUS.len() > 1 {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

fn pin(index: usize) {
    if let Some(cpu) = CPUS.get(index % CPUS.len().max(1)) {
        core_affinity::set_for_current(*cpu);
    }
}

/// Runs `there` on the second CPU while `here` runs on the first; returns the time until both are done.
pub(crate) fn between_cpus(there: impl FnOnce() + Send, here: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            pin(1);
            there();
        });
        // A new thread, so that its pinning ends with the measurement.
        let timed = scope.spawn(move || {
            pin(0);
            let start = Instant::now();
            here();
            other.join().expect("the other side does not panic");
            start.elapsed()
        });
        timed.join().expect("the timed side does not panic")
    })
}

/// A ring for [`SLOTS`] - 1 records of `record` bytes.
pub(crate) fn ring(record: usize, readers: usize) -> Ring {
    ring_of(SLOTS as usize - 1, record, readers)
}

/// A ring for `datums` records of `record` bytes.
pub(crate) fn ring_of(datums: usize, record: usize, readers: usize) -> Ring {
    Ring::new(RingConfig { datums, bytes: datums * record, max_record: record, readers, scatter_small: true })
        .expect("the sizes are good")
}

/// All readers of a new ring.
pub(crate) fn readers(ring: &Ring) -> Vec<Reader> {
    (0..ring.config().readers).map(|_| ring.subscribe().expect("a reader's place")).collect()
}

/// Fills a record with `value`.
#[inline]
pub(crate) fn fill(record: &mut [u8], value: u64) {
    for word in record.chunks_exact_mut(8) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// The value that a record was filled with.
#[inline]
pub(crate) fn first_word(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Sends one record of `len` bytes as soon as there is room.
#[inline]
pub(crate) fn send(writer: &Writer, len: usize, value: u64) {
    loop {
        if let Ok(mut claim) = writer.try_claim(len) {
            fill(&mut claim, value);
            claim.commit();
            return;
        }
        relax();
    }
}

/// Takes one record as soon as there is one.
#[inline]
pub(crate) fn receive(reader: &mut Reader) -> u64 {
    loop {
        if let Some(record) = reader.try_recv().expect("the ring stays open") {
            return first_word(&record);
        }
        relax();
    }
}

/// Reads at most `max` records in place and checks that record `n` holds `n`. Returns the next position.
pub(crate) fn drain(reader: &mut Reader, max: usize) -> u64 {
    if !reader.is_ready() {
        return reader.position();
    }
    let mut guard = reader.pin_guard().expect("nobody detaches");
    let end = guard.published_to(max);
    for seq in guard.start()..end {
        if let RecordState::Published(record) = guard.get(seq) {
            assert_eq!(first_word(record), seq, "a record of another place");
        }
    }
    guard.advance_to(end)
}

/// Drains all `readers` in turn until each has seen `records`.
pub(crate) fn drain_all(readers: &mut [Reader], records: u64, max: usize) {
    let mut behind = readers.len();
    while behind > 0 {
        behind = 0;
        let mut moved = false;
        for reader in &mut *readers {
            let before = reader.position();
            let after = drain(reader, max);
            moved |= after != before;
            behind += usize::from(after < records);
        }
        if !moved && behind > 0 {
            relax();
        }
    }
}

/// A minimal ring: words behind one index, which moves once for `batch` records of `len` bytes. The words are
/// relaxed atomics, so that no unsafe code is needed.
pub(crate) fn bare_stream(records: u64, len: usize, batch: u64) -> Duration {
    let words_each = len / 8;
    let words: Vec<AtomicU64> = (0..SLOTS as usize * words_each).map(|_| AtomicU64::new(0)).collect();
    let (written, read) = (&Line::new(), &Line::new());
    let record = |n: u64| &words[(n % SLOTS) as usize * words_each..][..words_each];
    between_cpus(
        move || {
            let mut next = 0;
            while next < records {
                written.wait(next + 1);
                let end = written.0.load(Ordering::Acquire).min(next + batch);
                for n in next..end {
                    assert_eq!(record(n)[0].load(Ordering::Relaxed), n, "a record of another place");
                }
                next = end;
                read.0.store(next, Ordering::Release);
            }
        },
        move || {
            let (mut next, mut limit) = (0, SLOTS);
            while next < records {
                let end = records.min(next + batch);
                if end > limit {
                    limit = read.0.load(Ordering::Acquire) + SLOTS;
                    relax();
                    continue;
                }
                for n in next..end {
                    record(n).iter().for_each(|word| word.store(n, Ordering::Relaxed));
                }
                next = end;
                written.0.store(next, Ordering::Release);
            }
        },
    )
}

/// Pause of the sender of [`wakes`] before each wake-up.
pub(crate) const IDLE: Duration = Duration::from_micros(20);

/// The result of [`wakes`], summed over all wake-ups.
#[derive(Clone, Copy)]
pub(crate) struct Wakes {
    /// From before the send to after the receive.
    pub(crate) latency: Duration,
    /// Time of the sends.
    pub(crate) sends: Duration,
}

/// `count` times: `take` waits asleep on the second CPU, and after [`IDLE`] `send` on the first one wakes it.
pub(crate) fn wakes(count: u64, mut send: impl FnMut(u64) + Send, mut take: impl FnMut(u64) + Send) -> Wakes {
    let (taken, epoch) = (&Line::new(), Instant::now());
    let (mut sent, mut arrived) = (Vec::new(), Vec::new());
    let (sent_at, arrived_at) = (&mut sent, &mut arrived);
    between_cpus(
        move || {
            for number in 0..count {
                take(number);
                arrived_at.push(epoch.elapsed());
                taken.0.store(number + 1, Ordering::Release);
            }
        },
        move || {
            for number in 0..count {
                taken.wait(number);
                let seen = Instant::now();
                while seen.elapsed() < IDLE {
                    relax();
                }
                let began = epoch.elapsed();
                send(number);
                sent_at.push((began, epoch.elapsed()));
            }
        },
    );
    let latencies = arrived.iter().zip(&sent).map(|(arrived, (began, _))| arrived.saturating_sub(*began));
    Wakes { latency: latencies.sum(), sends: sent.iter().map(|(began, ended)| *ended - *began).sum() }
}

/// The limit of [`wakes`]: the standard library's parking, which is one futex word and one swap.
pub(crate) fn bare_wakes(count: u64) -> Wakes {
    let (word, sleeper) = (&Line::new(), &OnceLock::<thread::Thread>::new());
    let send = move |number| {
        word.0.store(number + 1, Ordering::Release);
        sleeper.get().into_iter().for_each(thread::Thread::unpark);
    };
    wakes(count, send, move |number| {
        sleeper.get_or_init(thread::current);
        while word.0.load(Ordering::Acquire) <= number {
            thread::park();
        }
    })
}

/// Short runs: only ratios within one run matter, and the tests run each benchmark once.
pub(crate) fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1000))
}
