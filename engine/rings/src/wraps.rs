//! Rings whose packed numbers are at the end of their ranges, compared with a new ring.

use crate::config::RingConfig;
use crate::error::ClaimError;
use crate::fence::Fences;
use crate::limits::MAX_DATUMS;
use crate::ring::Ring;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::word::{Gate, LAST_SEQ, Meta, Stamp};
use std::sync::Arc;

/// Sizes, and two lengths that records often have, so that there are runs of one length.
type Sizes = (RingConfig, [usize; 2]);

/// All packed; all scattered; small ones scattered and others packed. The units (7, 65, 68) are no powers of
/// two, so positions wrap elsewhere than words do.
const KINDS: [Sizes; 3] = [
    (RingConfig { datums: 5, bytes: 7 * 16, max_record: 40, readers: 2, scatter_small: false }, [32, 32]),
    (RingConfig { datums: 5, bytes: 65 * 16, max_record: 128, readers: 2, scatter_small: true }, [64, 128]),
    (
        RingConfig { datums: 5, bytes: 68 * 16 + 12, max_record: 400, readers: 2, scatter_small: true },
        [64, 300],
    ),
];

/// A ring whose next record is `seq`, `before_wrap` units before its positions start again.
fn old(config: RingConfig, seq: u64, before_wrap: u64, fences: Fences) -> Ring {
    let shared = RingShared::new(config, fences).unwrap();
    let position = shared.units.modulus - before_wrap;
    shared.tail.start_at(seq, position);
    shared.gate.store(Gate(0).moved_to(seq).0, Ordering::Relaxed);
    for before in seq - 8..seq {
        shared.descriptors.at(before).stamp.store(Stamp::new(before, Some(0)).0, Ordering::Relaxed);
        shared.descriptors.at(before).meta.store(Meta::record(position, 16).0, Ordering::Relaxed);
    }
    Ring::of(Arc::new(shared))
}

/// Fills a record of operation `n`.
fn fill(record: &mut [u8], n: u64) {
    record.iter_mut().zip(n..).for_each(|(byte, value)| *byte = value as u8);
}

/// Length and first byte of a record, which determine the rest of it.
fn content(record: &[u8]) -> (usize, Option<u8>) {
    let first = record.first().copied();
    let mut expected = vec![0; record.len()];
    fill(&mut expected, first.unwrap_or(0).into());
    assert_eq!(record, expected);
    (record.len(), first)
}

/// Some hundred random operations, and all that can be observed of them. Sequences count from the start.
fn run(ring: &Ring, often: [usize; 2], seed: u64) -> Vec<String> {
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    let (start, mark) = (reader.position(), ring.gate_mark());
    let mut random = seed;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    let mut seen = Vec::new();
    for n in 0..if cfg!(miri) { 12 } else { 300u64 } {
        let len = match below(3) {
            0 => below(ring.config().max_record as u64 + 1) as usize,
            // One of them for some time, then the other.
            _ => often[n as usize / 8 % 2],
        };
        seen.push(match below(5) {
            0 | 1 => match writer.try_claim(len) {
                Ok(mut claim) => {
                    fill(&mut claim, n);
                    format!("claimed {}", claim.commit() - start)
                }
                Err(refused) => format!("{refused:?}"),
            },
            2 => match writer.try_claim_many(len, 3) {
                Ok(mut claim) => {
                    for index in 0..claim.len() {
                        fill(claim.record(index), n + index as u64);
                    }
                    format!("claimed {:?}", claim.commit_first(2).map(|seq| seq - start).collect::<Vec<_>>())
                }
                Err(refused) => format!("{refused:?}"),
            },
            3 if below(3) == 0 => {
                let mut lost = 0;
                let evicted = writer.evict(len, |_, n| lost += n);
                format!("{evicted:?}, {lost} lost")
            }
            3 => {
                let mut got = Vec::new();
                let mut guard = reader.pin_guard().unwrap();
                let read = guard.for_each(3, |seq, bytes| got.push((seq - start, content(bytes))));
                format!("read {read} {got:?}")
            }
            _ => match reader.try_recv().unwrap() {
                Some(record) => {
                    format!("{} {} {:?}", record.seq() - start, record.lost_before(), content(&record))
                }
                None => "nothing".into(),
            },
        });
        let (len, bytes) = (ring.len(), ring.gate_mark().bytes_since(&mark));
        seen.push(format!("{len} datums, tail {}, {bytes} bytes", ring.tail() - start));
    }
    seen
}

#[test]
fn rings_at_the_end_of_every_range_behave_as_new_ones() {
    // The tail keeps 25 bits of a sequence, the gate 40, a cursor 54.
    let (seeds, sequences, wraps): (_, &[u64], &[u64]) = match cfg!(miri) {
        true => (1, &[1 << 25], &[2]),
        false => (8, &[1 << 25, 3 << 25, 1 << 40, 5 << 40, 1 << 53], &[1, 2, 3, 6, 7, 100]),
    };
    for (kind, seed) in KINDS.into_iter().flat_map(|kind| (0..seeds).map(move |seed| (kind, seed))) {
        let (config, often) = kind;
        let young = run(&Ring::new(config).unwrap(), often, seed);
        for &seq in sequences {
            for &before_wrap in wraps {
                // A biased tail, and a shared one.
                for fences in [Fences::detect(), Fences::symmetric()] {
                    let old = run(&old(config, seq - 1 - seed % 9, before_wrap, fences), often, seed);
                    assert_eq!(young, old, "{config:?} {seq} {before_wrap} {fences:?}");
                }
            }
        }
    }
}

#[test]
fn a_ring_closes_itself_before_its_sequences_end() {
    let end = LAST_SEQ - 4 * MAX_DATUMS as u64;
    let ring = old(KINDS[0].0, end - 10, 3, Fences::detect());
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    let mut accepted = 0;
    let refused = loop {
        match writer.try_push(&[accepted as u8]) {
            Ok(seq) => assert_eq!(seq, end - 10 + accepted),
            Err(ClaimError::Full) => {
                assert_eq!(reader.try_recv().unwrap().unwrap().len(), 1);
                continue;
            }
            Err(refused) => break refused,
        }
        accepted += 1;
        assert!(accepted < 100);
    };
    assert_eq!((refused, ring.is_closed()), (ClaimError::Closed, true));
    assert!(ring.tail() < LAST_SEQ && accepted > 10);
    while let Ok(Some(_)) = reader.try_recv() {}
    assert_eq!(reader.position(), end - 10 + accepted);
}
