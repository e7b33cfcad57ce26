//! Models that run with both kinds of pins, on rings of one record, so that the next one reuses its memory.

use corewire_rings::{Detached, RecordState, Ring, Writer};
use loom::thread;

/// Publishes a record of the longest length, full of `value`, if there is room.
pub(crate) fn push_if_room(writer: &Writer, value: u8) -> bool {
    let claim = writer.try_claim(writer.ring().config().max_record);
    claim.is_ok_and(|mut claim| {
        claim.fill(value);
        claim.commit();
        true
    })
}

/// A reader pins while another thread detaches it and continues to write.
pub(crate) fn detachment_and_a_pin_guard_exclude_each_other(ring: &Ring) {
    let mut reader = ring.subscribe().unwrap();
    let (id, writer) = (reader.id(), ring.writer());
    assert!(push_if_room(&writer, 0));
    let thread = thread::spawn(move || {
        let detached = writer.ring().detach(id).is_ok();
        push_if_room(&writer, 1);
        detached
    });
    let zeros = vec![0; ring.config().max_record];
    match reader.pin_guard() {
        Ok(guard) => {
            assert_eq!(guard.get(0), RecordState::Published(&zeros));
            assert_eq!(
                guard.get(0),
                RecordState::Published(&zeros),
                "no writer touches it while it is pinned"
            );
        }
        Err(Detached) => {}
    }
    let detached = thread.join().unwrap();
    assert_eq!(reader.pin_guard().is_err(), detached);
    drop(reader);
    assert_eq!(ring.readers(), 0);
}
