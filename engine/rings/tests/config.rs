//! Sizes that `Ring::new` refuses, and when a ring's memory is taken.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::limits::{MAX_ARENA_BYTES, MAX_DATUMS, MAX_READERS, MAX_RECORD_BYTES};
use corewire_rings::{Ring, RingConfig, RingConfigError};

const GOOD: RingConfig =
    RingConfig { datums: 4, bytes: 64, max_record: 64, readers: 1, scatter_small: false };

#[test]
fn every_size_out_of_range_is_refused_with_its_own_error() {
    let refused = |config| Ring::new(config).unwrap_err();
    for datums in [0, MAX_DATUMS + 1, usize::MAX] {
        assert_eq!(refused(RingConfig { datums, ..GOOD }), RingConfigError::Datums(datums));
    }
    for bytes in [0, 15, MAX_ARENA_BYTES + 1, usize::MAX] {
        assert_eq!(refused(RingConfig { bytes, ..GOOD }), RingConfigError::Bytes(bytes));
    }
    for max_record in [0, MAX_RECORD_BYTES + 1, usize::MAX] {
        assert_eq!(refused(RingConfig { max_record, ..GOOD }), RingConfigError::MaxRecord(max_record));
    }
    for readers in [0, MAX_READERS + 1] {
        assert_eq!(refused(RingConfig { readers, ..GOOD }), RingConfigError::Readers(readers));
    }
    let error = refused(RingConfig { max_record: 65, ..GOOD });
    assert_eq!(error, RingConfigError::RecordExceedsRing { max_record: 65, bytes: 64 });
    assert!(error.to_string().contains("give the ring more"));
    assert!(Ring::new(RingConfig { readers: MAX_READERS, ..GOOD }).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "64 MiB record")]
fn the_longest_record_of_all_passes() {
    let config = RingConfig {
        datums: 1,
        bytes: MAX_RECORD_BYTES + 16,
        max_record: MAX_RECORD_BYTES,
        readers: 1,
        scatter_small: false,
    };
    let ring = Ring::new(config).unwrap();
    let mut reader = ring.subscribe().unwrap();
    let writer = ring.writer();
    let mut claim = writer.try_claim(MAX_RECORD_BYTES).unwrap();
    claim[MAX_RECORD_BYTES - 1] = 9;
    claim.commit();
    let record = reader.try_recv().unwrap().unwrap();
    assert_eq!((record.len(), record[MAX_RECORD_BYTES - 1]), (MAX_RECORD_BYTES, 9));
}

#[test]
fn missing_memory_is_an_error_and_not_an_abort() {
    let config =
        RingConfig { datums: 1, bytes: MAX_ARENA_BYTES, max_record: 1, readers: 1, scatter_small: false };
    // Overcommit may grant a terabyte of untouched memory; then there is no error to test.
    if let Err(error) = Ring::new_untouched(config) {
        assert_eq!(error, RingConfigError::Memory(config.memory_bytes()));
    }
}
