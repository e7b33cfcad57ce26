//! Scattered records, packed records and both: every way to write and to read them, in one thread. Lengths
//! are around the limit of small records; no two records of one lap have the same byte at the same offset.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::limits::SMALL_RECORD_BYTES;
use corewire_rings::{ClaimError, Reader, RecordClaim, RecordState, Ring, RingConfig, Writer};
use std::collections::VecDeque;

const LENGTHS: [usize; 7] = [0, 1, 64, 127, 128, 129, 200];
const DATUMS: usize = 16;

/// A record as a test sees it.
type Seen = (u64, Vec<u8>);

fn sizes(datums: usize, bytes: usize, max_record: usize) -> RingConfig {
    RingConfig {
        datums,
        bytes,
        max_record,
        readers: 2,
        scatter_small: RingConfig::scatter_fits(datums, bytes),
    }
}

/// A ring of [`DATUMS`] for each layout: all scattered, long ones packed, all packed. The last two run out of
/// bytes before datums if most records are long.
fn rings() -> [Ring; 3] {
    let scattered = DATUMS * SMALL_RECORD_BYTES;
    [(scattered, 128), (scattered + 9 * 16, 200), (scattered - 16, 200)]
        .map(|(bytes, max_record)| Ring::new(sizes(DATUMS, bytes, max_record)).unwrap())
}

fn byte(seq: u64, n: usize) -> u8 {
    (seq * 97 + n as u64 * 5) as u8
}

fn content(seq: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| byte(seq, n)).collect()
}

fn fill(record: &mut [u8], seq: u64) {
    record.iter_mut().enumerate().for_each(|(n, at)| *at = byte(seq, n));
}

fn finish(mut claim: RecordClaim<'_>) -> u64 {
    let seq = claim.seq();
    fill(&mut claim, seq);
    claim.commit()
}

fn push(writer: &Writer, len: usize) -> Result<u64, ClaimError> {
    writer.try_claim(len).map(finish)
}

/// A length up to the ring's `max_record`.
fn allowed(ring: &Ring, len: usize) -> usize {
    len.min(ring.config().max_record)
}

/// Reads up to `n` records.
type Way = fn(&mut Reader, usize) -> Vec<Seen>;

const WAYS: [(&str, Way); 8] = [
    ("try_recv", |reader, n| {
        let mut seen = Vec::new();
        while seen.len() < n
            && let Some(record) = reader.try_recv().unwrap()
        {
            seen.push((record.seq(), record.to_vec()));
        }
        seen
    }),
    ("try_take", |reader, n| {
        (0..n).map_while(|_| reader.try_take(|seq, _, bytes| (seq, bytes.to_vec())).unwrap()).collect()
    }),
    ("take_peeked", |reader, n| {
        let mut seen = Vec::new();
        while seen.len() < n
            && let Some(shown) = reader.peek().unwrap().map(<[u8]>::to_vec)
        {
            let record = reader.take_peeked().unwrap();
            assert_eq!(&record[..], shown);
            seen.push((record.seq(), shown));
        }
        seen
    }),
    ("get", |reader, n| {
        let mut guard = reader.pin_guard().unwrap();
        let to = guard.published_to(n);
        // From the last to the first, so that none is located from the one before it.
        let mut seen: Vec<_> = (guard.start()..to)
            .rev()
            .filter_map(|seq| match guard.get(seq) {
                RecordState::Published(bytes) => Some((seq, bytes.to_vec())),
                slot => {
                    assert_eq!(slot, RecordState::Abandoned);
                    None
                }
            })
            .collect();
        seen.reverse();
        guard.advance_to(to);
        seen
    }),
    ("pinned", |reader, n| {
        let start = reader.pin().unwrap();
        let to = reader.published_from(start, n);
        let seen = (start..to).filter_map(|seq| match reader.get(seq) {
            RecordState::Published(bytes) => Some((seq, bytes.to_vec())),
            slot => {
                assert_eq!(slot, RecordState::Abandoned);
                None
            }
        });
        let seen = seen.collect();
        reader.unpin(to);
        seen
    }),
    ("read", |reader, n| {
        let mut seen = Vec::new();
        reader.pin_guard().unwrap().for_each(n, |seq, bytes| seen.push((seq, bytes.to_vec())));
        seen
    }),
    ("two reads", |reader, n| {
        let mut seen = Vec::new();
        let mut guard = reader.pin_guard().unwrap();
        for n in [n / 2, n - n / 2] {
            guard.for_each(n, |seq, bytes| seen.push((seq, bytes.to_vec())));
            guard.release_now();
        }
        drop(guard);
        seen
    }),
    ("all in turn", |reader, n| {
        let mut seen = Vec::new();
        for turn in 0..n {
            let (_, way) = WAYS[(reader.position() as usize + turn) % (WAYS.len() - 1)];
            seen.extend(way(reader, 1));
        }
        seen
    }),
];

/// Lengths of records, by sequence: all different, runs that end within a batch and after it, and random
/// lengths on both sides of the limit.
const PATTERNS: [fn(u64) -> usize; 4] = [
    |seq| LENGTHS[seq as usize % 7],
    |seq| LENGTHS[seq as usize / 3 % 7],
    |seq| [128, 200, 1, 129][seq as usize / 19 % 4],
    |seq| [127, 128, 129][(seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % 3],
];

/// Many laps, with one reader that follows closely and one that makes the writer wait.
fn laps(ring: &Ring, pattern: fn(u64) -> usize, near: Way, far: Way) {
    let len = |seq| allowed(ring, pattern(seq));
    let writer = ring.writer();
    let mut readers = [(ring.subscribe().unwrap(), near, 0), (ring.subscribe().unwrap(), far, 0)];
    for round in 0..if cfg!(miri) { 4 } else { 50 } {
        while push(&writer, len(ring.tail())).is_ok() {}
        for ((reader, way, next), n) in readers.iter_mut().zip([2 * DATUMS, 1 + round % 7]) {
            let (to, from) = (ring.tail(), *next);
            for (seq, bytes) in way(reader, n) {
                assert_eq!((seq, bytes), (*next, content(*next, len(*next))));
                *next += 1;
            }
            assert_eq!(*next, to.min(from + n as u64));
            assert_eq!((reader.position(), reader.lost()), (*next, 0));
        }
    }
    assert!(ring.tail() > 5 * DATUMS as u64 || cfg!(miri), "several laps");
}

#[test]
fn every_way_to_read_gives_each_record_as_written() {
    for (at, (name, way)) in WAYS.into_iter().enumerate() {
        let (other_name, other) = WAYS[(at + 3) % WAYS.len()];
        for pattern in PATTERNS {
            for ring in rings() {
                println!("{name} and {other_name} on {:?}", ring.config());
                laps(&ring, pattern, way, other);
            }
        }
    }
}

#[test]
fn claims_that_end_out_of_order_leave_other_records_intact() {
    for ring in rings() {
        let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
        for round in 0..84 {
            let len = |seq: u64| allowed(&ring, LENGTHS[(seq as usize + round) % 7]);
            let first = ring.tail();
            let mut claims: Vec<_> =
                (first..first + 6).map(|seq| writer.try_claim(len(seq)).unwrap()).collect();
            // Backwards, so that a record that overlapped the next one would overwrite it.
            for claim in claims.iter_mut().rev() {
                let seq = claim.seq();
                fill(claim, seq);
            }
            let mut expected: Vec<_> = (first..first + 6).map(|seq| (seq, content(seq, len(seq)))).collect();
            let given_up = expected.remove(round % 6).0;
            claims.rotate_left(round % 5);
            while let Some(claim) = claims.pop() {
                assert_eq!(&claim[..], content(claim.seq(), claim.len()), "others have not touched it");
                if claim.seq() == given_up {
                    drop(claim);
                } else {
                    claim.commit();
                }
            }
            assert_eq!(WAYS[round % WAYS.len()].1(&mut reader, 6), expected, "{round}");
            assert_eq!(reader.try_recv().unwrap().map(|record| record.seq()), None);
        }
        assert_eq!(ring.stats().abandoned, 84);
    }
}

#[test]
fn a_batch_claim_has_room_for_each_of_its_records() {
    for ring in rings() {
        let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
        let units = ring.config().bytes / 16;
        for round in 0..98 {
            let (len, n) = (allowed(&ring, LENGTHS[round % 7]), 1 + round % 18);
            let mut claim = writer.try_claim_many(len, n).unwrap();
            assert_eq!(claim.len(), n.min(DATUMS).min(units * 16 / RingConfig::cost(len)));
            let (first, count) = (claim.seq(), claim.len());
            for index in (0..count).rev() {
                fill(claim.record(index), first + index as u64);
            }
            for index in 0..count {
                assert_eq!(claim.record(index), content(first + index as u64, len));
            }
            let published = claim.commit_first(count - round % 2);
            let expected: Vec<_> = published.map(|seq| (seq, content(seq, len))).collect();
            assert_eq!(WAYS[round % WAYS.len()].1(&mut reader, DATUMS), expected);
            assert_eq!((WAYS[0].1(&mut reader, 1), ring.len()), (Vec::new(), 0));
        }
    }
}

#[test]
fn eviction_takes_what_the_next_record_needs_and_no_more() {
    for ring in rings() {
        let (writer, mut slow, mut fast) =
            (ring.writer(), ring.subscribe().unwrap(), ring.subscribe().unwrap());
        let (capacity, mut free) = (ring.config().bytes / 16 * 16, ring.config().bytes / 16 * 16);
        let (mut live, mut lost, mut evicted, mut reported) = (VecDeque::new(), 0, 0, 0);
        for seq in 0..40 * DATUMS as u64 {
            let len = allowed(&ring, PATTERNS[1](seq));
            while live.len() == DATUMS || free < RingConfig::cost(len) {
                free += RingConfig::cost(live.pop_front().unwrap());
                lost += 1;
            }
            let claim = writer.claim_evicting(len, |id, n| {
                assert_eq!(id, slow.id());
                evicted += n;
            });
            assert_eq!((finish(claim.unwrap()), evicted), (seq, lost));
            live.push_back(len);
            free -= RingConfig::cost(len);
            assert_eq!(WAYS[0].1(&mut fast, 2), [(seq, content(seq, len))]);
            if seq % 37 == 0 {
                // All that is left, and the losses since the last time.
                let mut guard = slow.pin_guard().unwrap();
                let mut next = guard.start();
                reported += guard.lost_before();
                assert_eq!(reported, lost);
                assert_eq!(next, seq + 1 - live.len() as u64);
                guard.for_each(DATUMS, |seq, bytes| {
                    assert_eq!((seq, bytes), (next, &content(seq, live.pop_front().unwrap())[..]));
                    next += 1;
                });
                assert_eq!((live.len(), next), (0, seq + 1));
                free = capacity;
            }
        }
        assert!(lost > 0);
        drop(slow.pin_guard().unwrap());
        assert_eq!((slow.lost(), fast.lost(), ring.stats().evicted), (lost, 0, lost));
    }
}

#[test]
fn scattering_does_not_change_the_capacity() {
    for ring in rings() {
        let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
        let capacity = ring.config().bytes / 16 * 16;
        for round in 0..100 {
            let mark = ring.gate_mark();
            let (mut datums, mut bytes) = (0, 0);
            // A different number of first records, so that laps begin anywhere.
            for at in round.. {
                let nth = if at < round + 3 { at } else { round };
                let len = allowed(&ring, LENGTHS[nth % 7]);
                let fits = datums < DATUMS && bytes + RingConfig::cost(len) <= capacity;
                assert_eq!(
                    push(&writer, len).err(),
                    (!fits).then_some(ClaimError::Full),
                    "{len} {datums} {bytes}"
                );
                if !fits {
                    break;
                }
                (datums, bytes) = (datums + 1, bytes + RingConfig::cost(len));
            }
            assert_eq!((ring.len(), WAYS[5].1(&mut reader, 2 * DATUMS).len()), (datums, datums));
            assert_eq!(ring.gate_mark().bytes_since(&mark), bytes as u64);
        }
    }
}

#[test]
fn a_ring_with_bytes_for_all_is_full_at_its_datums() {
    for datums in [1, 2, 3, 5, 8, 100] {
        for max_record in [1, 64, 128, 129, 200, 1_000] {
            let bytes = datums * RingConfig::cost(max_record);
            let config = RingConfig { datums, bytes, max_record, readers: 2, scatter_small: true };
            let ring = Ring::new(config).unwrap();
            let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
            for len in LENGTHS.into_iter().chain([max_record]).filter(|len| *len <= max_record) {
                let mut places = Vec::new();
                for _ in 0..datums {
                    let claim = writer.try_claim(len).unwrap();
                    places.push(claim.as_ptr().addr());
                    finish(claim);
                }
                assert_eq!(push(&writer, 0), Err(ClaimError::Full), "{config:?} {len}");
                let mut next = ring.tail() - datums as u64;
                let read = reader.pin_guard().unwrap().for_each(2 * datums, |seq, bytes| {
                    assert_eq!((seq, bytes), (next, &content(seq, len)[..]));
                    next += 1;
                });
                assert_eq!(read, datums);
                places.sort_unstable();
                let apart = places.windows(2).all(|two| two[1] - two[0] >= SMALL_RECORD_BYTES);
                let scattered = apart && places.iter().all(|place| place % SMALL_RECORD_BYTES == 0);
                assert!(scattered || len > SMALL_RECORD_BYTES, "{config:?} {len}: {places:x?}");
            }
        }
    }
}

#[test]
fn scatter_fits_if_blocks_take_no_more_than_the_bytes() {
    assert!(
        RingConfig::scatter_fits(4, 4 * SMALL_RECORD_BYTES)
            && !RingConfig::scatter_fits(4, 4 * SMALL_RECORD_BYTES - 1)
    );
    assert!(
        RingConfig::scatter_fits(5, 8 * SMALL_RECORD_BYTES)
            && !RingConfig::scatter_fits(5, 8 * SMALL_RECORD_BYTES - 1)
    );
    assert!(
        !RingConfig::scatter_fits(usize::MAX, usize::MAX) && !RingConfig::scatter_fits(1 << 62, usize::MAX)
    );
}

/// Room that readers released since the last scan counts.
#[test]
fn a_batch_claim_counts_room_released_since_the_last_scan() {
    for scatter_small in [false, true] {
        let config = RingConfig { datums: 16, bytes: 16 * 64, max_record: 64, readers: 1, scatter_small };
        let ring = Ring::new(config).unwrap();
        let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
        for seq in 0..12 {
            assert_eq!(push(&writer, 64), Ok(seq));
        }
        assert_eq!(reader.pin_guard().unwrap().for_each(12, |_, _| ()), 12);
        assert_eq!(writer.try_claim_many(64, 20).unwrap().len(), 16, "scattered: {scatter_small}");
    }
}
