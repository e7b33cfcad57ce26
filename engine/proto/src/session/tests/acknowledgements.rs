//! Acknowledgements of acknowledgements.

use core::time::Duration;

use super::transitions::Subject;

#[test]
fn ranges_of_many_frames_are_forgotten_once_the_peer_has_them() {
    let mut subject = Subject::new();
    for _ in 0..150 {
        subject.receive(|out| assert!(out.put_ping(1)));
        subject.peer.skip(); // One packet is lost.
    }
    assert_eq!(subject.session.acks.fragmentation(), 150);

    // Nothing flows but a PING of the peer now and then.
    for _ in 0..20 {
        subject.wait(Duration::from_millis(100));
        subject.receive(|out| assert!(out.put_ping(1)));
        subject.round_trip();
    }
    let left = subject.session.acks.fragmentation();
    assert!(left <= 16, "{left} ranges are left");
    let acks = subject.session.stats.acks_sent;
    subject.receive(|out| assert!(out.put_ping(1)));
    subject.transmit();
    assert_eq!(subject.session.stats.acks_sent - acks, 1, "one packet acknowledges a PING");
}
