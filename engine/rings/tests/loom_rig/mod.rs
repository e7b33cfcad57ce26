//! Shared by the loom models: writing and reading records whose bytes are all equal.
#![allow(dead_code, reason = "each test program uses its own part")]

use corewire_rings::{ClaimError, Reader, RecordClaim, Writer};
use loom::thread;

/// A record with its writer's value in all its bytes. Gives its sequence.
pub(crate) fn fill(mut claim: RecordClaim<'_>, value: u8) -> u64 {
    claim.fill(value);
    claim.commit()
}

/// A claim, once there is room.
pub(crate) fn claim(writer: &Writer, len: usize) -> RecordClaim<'_> {
    loop {
        match writer.try_claim(len) {
            Ok(claim) => return claim,
            Err(ClaimError::Full) => thread::yield_now(),
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// Publishes `value` once there is room. Gives its sequence.
pub(crate) fn push(writer: &Writer, len: usize, value: u8) -> u64 {
    fill(claim(writer, len), value)
}

/// Publishes `value` in a record of the longest length; evicts if the ring is full. Gives how many records
/// were lost.
pub(crate) fn push_evicting(writer: &Writer, value: u8) -> u64 {
    let mut lost = 0;
    if let Ok(claim) = writer.claim_evicting(writer.ring().config().max_record, |_, n| lost += n) {
        fill(claim, value);
    }
    lost
}

/// The value of a record. Checks that all its bytes are equal.
pub(crate) fn whole(record: &[u8]) -> u8 {
    assert!(record.iter().all(|byte| *byte == record[0]), "torn record {record:?}");
    record[0]
}

/// As [`whole`], twice, with other threads running in between.
pub(crate) fn whole_twice(record: &[u8]) -> u8 {
    let value = whole(record);
    thread::yield_now();
    assert_eq!(whole(record), value, "written under the reader's eyes");
    value
}

/// The next record's sequence, value and gap.
pub(crate) fn take_with(reader: &mut Reader, look: fn(&[u8]) -> u8) -> (u64, u8, u64) {
    loop {
        if let Some(record) = reader.try_recv().unwrap() {
            return (record.seq(), look(&record), record.lost_before());
        }
        thread::yield_now();
    }
}

/// As [`take_with`] and [`whole`].
pub(crate) fn take(reader: &mut Reader) -> (u64, u8, u64) {
    take_with(reader, whole)
}
