//! No operation on a datum allocates.
#![cfg(not(any(loom, shuttle, miri)))]

use corewire_rings::{RecordState, Ring, RingConfig, mailbox};
use std::task::{Context, Waker};

use allocation_counter::measure;

fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

#[test]
fn no_operation_on_a_datum_allocates() {
    // Packed and scattered.
    for bytes in [1_000, 1_024] {
        let ring =
            Ring::new(RingConfig { datums: 8, bytes, max_record: 100, readers: 2, scatter_small: false })
                .unwrap();
        assert_eq!(allocations_of_all_ways(&ring), (0, 0, 0), "{bytes}");
    }
}

/// Allocations of single records, of batches, and of a writer that waits.
fn allocations_of_all_ways(ring: &Ring) -> (u64, u64, u64) {
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    let mut idle = ring.subscribe().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    // A warm-up allocates the queue of waiting writers.
    let mut turn = corewire_rings::WaitTicket::default();
    while writer.try_push(&[1; 64]).is_ok() {}
    assert!(writer.poll_claim(&mut turn, 64, &mut cx).is_pending());
    turn.cancel();
    drop(idle.try_recv());

    let single = allocations(|| {
        for _ in 0..100 {
            let _ = idle.poll_ready(&mut cx);
            let mut claim = writer.claim_evicting(64, |_, _| ()).unwrap();
            claim.fill(1);
            claim.commit();
            drop(reader.try_recv().unwrap());
            let _ = reader.poll_ready(&mut cx);
        }
    });
    let batch = allocations(|| {
        for _ in 0..100 {
            while let Ok(mut claim) = writer.try_claim_many(10, 3) {
                claim.record(0).fill(1);
                claim.commit_first(1);
            }
            for reader in [&mut reader, &mut idle] {
                let mut guard = reader.pin_guard().unwrap();
                let end = guard.published_to(100);
                for seq in guard.start()..end {
                    assert_ne!(guard.get(seq), RecordState::Pending);
                }
                guard.advance_to(end);
            }
        }
    });
    let waiting = allocations(|| {
        for _ in 0..100 {
            while writer.try_push(&[1; 64]).is_ok() {}
            assert!(writer.poll_claim(&mut turn, 64, &mut cx).is_pending());
            drop(reader.try_recv().unwrap());
            drop(idle.try_recv().unwrap());
            assert!(writer.poll_claim(&mut turn, 64, &mut cx).is_ready());
        }
    });
    (single, batch, waiting)
}

#[test]
fn no_operation_on_a_message_allocates() {
    let (sender, mut receiver) = mailbox(4);
    let mut cx = Context::from_waker(Waker::noop());
    let count = allocations(|| {
        for n in 0..100 {
            assert!(receiver.poll_ready(&mut cx).is_pending());
            sender.try_send(n).unwrap();
            assert_eq!(receiver.try_recv(), Some(n));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn memory_bytes_counts_every_part_of_a_ring() {
    let config =
        RingConfig { datums: 1000, bytes: 64 * 1024, max_record: 4096, readers: 8, scatter_small: false };
    // Descriptors 1024 x 16, arena 64 KiB + 4 KiB spill, reader slots 8 x 128 or 256, and some words.
    let memory = config.memory_bytes();
    assert!((86_016..=92_000).contains(&memory), "{memory}");
    assert_eq!(RingConfig { datums: 0, ..config }.memory_bytes(), 0);
}

#[test]
fn a_ring_allocates_exactly_its_memory_bytes() {
    let packed = RingConfig { datums: 5, bytes: 1_023, max_record: 128, readers: 3, scatter_small: false };
    let scattered = RingConfig { scatter_small: true, ..packed };
    let mixed = RingConfig { bytes: 1_024, max_record: 129, ..scattered };
    for (config, records) in [
        (packed, 63 * 16 + 128),
        (scattered, 8 * 128),
        (RingConfig { bytes: 5_000, ..scattered }, 8 * 128),
        (mixed, 8 * 128 + 1_024 + 144),
        (RingConfig { bytes: 1_100, ..mixed }, 8 * 128 + 68 * 16 + 144),
    ] {
        let allocated = measure(|| drop(Ring::new(config).unwrap())).bytes_total;
        assert_eq!(allocated, config.memory_bytes() as u64, "{config:?}");
        // Only the arena depends on how records lie.
        let others = packed.memory_bytes() - (63 * 16 + 128);
        assert_eq!(config.memory_bytes(), others + records, "{config:?}");
    }
}
