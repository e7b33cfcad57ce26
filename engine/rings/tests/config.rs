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
    if let Err(error) = Ring::new(config) {
        assert_eq!(error, RingConfigError::Memory(config.memory_bytes()));
    }
}

#[cfg(all(target_os = "linux", not(corewire_sanitize)))]
#[test]
fn memory_of_an_untouched_ring_is_not_resident() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4_096
    };
    let config =
        RingConfig { datums: 64, bytes: 256 << 20, max_record: 1 << 20, readers: 1, scatter_small: false };
    let before = resident();
    let ring = Ring::new_untouched(config).unwrap();
    let untouched = resident().saturating_sub(before);
    assert!(untouched < 64 << 20, "{untouched} bytes");
    let mut reader = ring.subscribe().unwrap();
    ring.writer().try_push(&[7; 100]).unwrap();
    assert_eq!(&*reader.try_recv().unwrap().unwrap(), &[7; 100]);
    let touched = Ring::new(RingConfig { bytes: 128 << 20, ..config }).unwrap();
    assert!(resident().saturating_sub(before) >= 120 << 20);
    drop(touched);
}
