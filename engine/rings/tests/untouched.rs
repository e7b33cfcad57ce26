//! Memory of the whole process: in a program of its own, so that no other test allocates meanwhile.
#![cfg(all(target_os = "linux", not(any(loom, shuttle, corewire_sanitize))))]

use corewire_rings::{Ring, RingConfig};

#[test]
fn memory_of_a_ring_is_resident_unless_it_is_untouched() {
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
    // 64 MiB of descriptors.
    let config = RingConfig { datums: (4 << 20) - 1, bytes: 64 << 10, max_record: 64, ..config };
    let before = resident();
    let untouched = Ring::new_untouched(config).unwrap();
    assert!(resident().saturating_sub(before) < 16 << 20);
    drop(untouched);
    let touched = Ring::new(config).unwrap();
    assert!(resident().saturating_sub(before) >= 60 << 20);
    drop(touched);
}
