//! The biased tail under loom; `loom.rs` shows how to run it. Two threads each, because loom lets two threads
//! that wait by turns starve a third; `shuttle.rs` has more threads. Rings are built with
//! `Ring::with_stores`; in the other models the tail is shared from the start.
#![cfg(loom)]

use corewire_rings::{ClaimError, Reader, RecvError, Ring, RingConfig, Writer};
use loom::thread;
use loom_rig::{fill, whole};

mod loom_rig;

fn ring(datums: usize) -> Ring {
    Ring::with_stores(RingConfig {
        datums,
        bytes: datums * 16,
        max_record: 16,
        readers: 1,
        scatter_small: false,
    })
    .unwrap()
}

/// `false`: the ring is closed.
fn push(writer: &Writer, value: u8) -> bool {
    loop {
        match writer.try_claim(16) {
            Ok(claim) => {
                fill(claim, value);
                return true;
            }
            Err(ClaimError::Full) => thread::yield_now(),
            Err(ClaimError::Closed) => return false,
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// Reads `count` records; each must be intact and have its own sequence.
fn take(reader: &mut Reader, count: u64) -> Vec<u8> {
    let mut values = Vec::new();
    while (values.len() as u64) < count {
        match reader.try_recv().unwrap() {
            Some(record) => {
                assert_eq!(record.seq(), values.len() as u64);
                values.push(whole(&record));
            }
            None => thread::yield_now(),
        }
    }
    values
}

#[test]
fn a_second_writer_never_shares_a_byte_with_the_owner() {
    loom::model(|| {
        let ring = ring(3);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        assert!(push(&writer, 1)); // This thread owns the ring.
        let other = ring.writer();
        let thread = thread::spawn(move || push(&other, 7));
        assert!(push(&writer, 2));
        assert!(thread.join().unwrap());
        let mut values = take(&mut reader, 3);
        assert!(values == [1, 2, 7] || values == [1, 7, 2], "{values:?}");
        values.sort_unstable();
        assert_eq!((values, ring.tail()), (vec![1, 2, 7], 3));
    });
}

#[test]
fn the_owner_is_refused_once_the_ring_is_closed() {
    loom::model(|| {
        let ring = ring(3);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        assert!(push(&writer, 1));
        let closer = ring.clone();
        let thread = thread::spawn(move || {
            closer.close();
            closer.tail()
        });
        let sent = u64::from(push(&writer, 2)) + 1;
        let tail = thread.join().unwrap();
        assert!(!push(&writer, 3));
        assert_eq!((tail, ring.tail()), (sent, sent));
        assert_eq!(take(&mut reader, sent).len() as u64, sent);
        assert_eq!(reader.try_recv().unwrap_err(), RecvError::Closed);
    });
}

#[test]
fn a_revoked_owner_continues_with_swaps_at_a_full_ring() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        assert!(push(&writer, 1));
        assert_eq!(take(&mut reader, 1), [1]);
        let other = ring.writer();
        let thread = thread::spawn(move || push(&other, 5));
        let (mut sent, mut values) = (false, Vec::new());
        while values.len() < 2 {
            sent = sent || writer.try_push(&[6]).is_ok();
            match reader.try_recv().unwrap() {
                Some(record) => values.push(record[0]),
                None => thread::yield_now(),
            }
        }
        assert!(thread.join().unwrap());
        assert!(values == [5, 6] || values == [6, 5], "{values:?}");
    });
}

#[test]
fn the_owner_cache_counts_datums_and_bytes_exactly() {
    loom::model(|| {
        for (datums, bytes) in [(2, 64), (4, 32)] {
            let ring = Ring::with_stores(RingConfig {
                datums,
                bytes,
                max_record: 16,
                readers: 1,
                scatter_small: false,
            })
            .unwrap();
            let mut reader = ring.subscribe().unwrap();
            let writer = ring.writer();
            for value in 0..2 {
                assert!(push(&writer, value));
            }
            for value in 2..4 {
                assert_eq!(
                    writer.try_claim(16).map(|_| ()),
                    Err(ClaimError::Full),
                    "{datums} datums, {bytes} bytes"
                );
                assert_eq!(reader.try_recv().unwrap().unwrap()[0], value - 2);
                assert!(push(&writer, value));
            }
        }
    });
}
