//! What does one hop through the fanout ring cost, between two threads on two cores?
//!
//! Two questions, each with its limit in the same run. Round trip: a 64-byte record there and another one back,
//! both sides spinning, beside one cache line handed to and fro. Stream: 64-byte records one at a time and in batches
//! of 32, beside a bare ring that publishes one index for 32 records. Read the ratios; the absolute figures are the
//! machine's. With one core only, nothing here means anything.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corewire_rings::{Reader, Ring, RingConfig, Slot, Writer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RECORD: usize = 64;
/// Slots of the bare ring; the fanout ring holds one less, so that both use the same number of slots.
const SLOTS: u64 = 1024;
const BATCH: u64 = 32;

#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    fn wait(&self, value: u64) {
        while self.0.load(Ordering::Acquire) < value {
            spin_loop();
        }
    }
}

/// Pins to one of the allowed cores, if the machine lets us.
fn pin(index: usize) {
    if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.get(index).copied()) {
        core_affinity::set_for_current(core);
    }
}

/// Runs `there` on the second core while `here` runs, and is timed, on the first.
fn between_cores(there: impl FnOnce() + Send, here: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            pin(1);
            there();
        });
        // The timed side gets its own thread, so that pinning does not outlive the measurement.
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

fn ping_pong(rounds: u64) -> Duration {
    let line = &Line(AtomicU64::new(0));
    between_cores(
        || {
            for round in 0..rounds {
                line.wait(2 * round + 1);
                line.0.store(2 * round + 2, Ordering::Release);
            }
        },
        || {
            for round in 0..rounds {
                line.0.store(2 * round + 1, Ordering::Release);
                line.wait(2 * round + 2);
            }
        },
    )
}

fn ring() -> (Writer, Reader) {
    let datums = SLOTS as usize - 1;
    let config = RingConfig { datums, bytes: datums * RECORD, max_record: RECORD, readers: 1 };
    let ring = Ring::new(config).expect("the sizes are good");
    (ring.writer(), ring.subscribe().expect("the first reader"))
}

fn fill(record: &mut [u8], value: u64) {
    for word in record.chunks_exact_mut(8) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

fn first_word(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

fn send(writer: &Writer, value: u64) {
    loop {
        if let Ok(mut claim) = writer.try_claim(RECORD) {
            fill(&mut claim, value);
            claim.commit();
            return;
        }
        spin_loop();
    }
}

fn receive(reader: &mut Reader) -> u64 {
    loop {
        if let Some(record) = reader.try_recv().expect("the ring stays open") {
            return first_word(&record);
        }
        spin_loop();
    }
}

fn round_trip(rounds: u64) -> Duration {
    let ((out, mut there), (back, mut here)) = (ring(), ring());
    between_cores(
        move || {
            for _ in 0..rounds {
                let value = receive(&mut there);
                send(&back, value);
            }
        },
        move || {
            for round in 0..rounds {
                send(&out, round);
                assert_eq!(receive(&mut here), round);
            }
        },
    )
}

fn stream_single(records: u64) -> Duration {
    let (writer, mut reader) = ring();
    between_cores(
        move || (0..records).for_each(|n| assert_eq!(receive(&mut reader), n)),
        move || (0..records).for_each(|n| send(&writer, n)),
    )
}

fn receive_batches(reader: &mut Reader, records: u64) {
    let mut next = 0;
    while next < records {
        if !reader.is_ready() {
            spin_loop();
            continue;
        }
        let mut hold = reader.hold().expect("nobody detaches");
        let end = hold.published_to(BATCH as usize);
        for seq in hold.start()..end {
            if let Slot::Record(record) = hold.get(seq) {
                assert_eq!(first_word(record), seq);
            }
        }
        next = hold.release_to(end);
    }
}

fn stream_batches(records: u64) -> Duration {
    let (writer, mut reader) = ring();
    between_cores(
        move || receive_batches(&mut reader, records),
        move || {
            let mut next = 0;
            while next < records {
                let Ok(mut claim) = writer.try_claim_many(RECORD, BATCH.min(records - next) as usize) else {
                    spin_loop();
                    continue;
                };
                for index in 0..claim.len() {
                    fill(claim.record(index), next + index as u64);
                }
                next = claim.commit().end;
            }
        },
    )
}

/// The least that a ring can do: words behind one index, which moves once for a batch. Plain relaxed words, so that
/// there is nothing unsafe in a yardstick.
fn stream_bare(records: u64) -> Duration {
    let words: Vec<AtomicU64> = (0..SLOTS * 8).map(|_| AtomicU64::new(0)).collect();
    let (written, read) = (&Line(AtomicU64::new(0)), &Line(AtomicU64::new(0)));
    let record = |n: u64| &words[(n % SLOTS) as usize * 8..][..8];
    between_cores(
        move || {
            let mut next = 0;
            while next < records {
                written.wait(next + 1);
                let end = written.0.load(Ordering::Acquire).min(next + BATCH);
                for n in next..end {
                    assert_eq!(record(n)[0].load(Ordering::Relaxed), n);
                }
                next = end;
                read.0.store(next, Ordering::Release);
            }
        },
        move || {
            let (mut next, mut limit) = (0, SLOTS);
            while next < records {
                let end = records.min(next + BATCH);
                if end > limit {
                    limit = read.0.load(Ordering::Acquire) + SLOTS;
                    spin_loop();
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

fn hops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round_trip");
    group.bench_function("cache_line", |b| b.iter_custom(|n| black_box(ping_pong(n))));
    group.bench_function("ring_64_bytes", |b| b.iter_custom(|n| black_box(round_trip(n))));
    group.finish();
    let mut group = criterion.benchmark_group("stream_64_bytes");
    group.throughput(Throughput::Elements(1));
    group.bench_function("single", |b| b.iter_custom(|n| black_box(stream_single(n))));
    group.bench_function("batch_of_32", |b| b.iter_custom(|n| black_box(stream_batches(n))));
    group.bench_function("bare_one_index_batch_of_32", |b| b.iter_custom(|n| black_box(stream_bare(n))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500));
    targets = hops
}
criterion_main!(benches);
