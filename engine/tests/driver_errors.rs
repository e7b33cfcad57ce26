//! A flood of errors that come back for datagrams: what it may cost, and what it leaves as it was.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]

mod driver_rig;

use std::{net::SocketAddr, time::Duration};

use corewire_engine::driver::{AnyDriver, Driver, Route, SocketId};
use driver_rig::{Arm, Rig, Side};

/// How long a flood goes on at most.
const PATIENCE: Duration = Duration::from_secs(10);

mod epoll {
    #[test]
    fn socket_rests_from_a_flood_of_errors_and_hears_them_again() {
        super::socket_rests_and_hears_again(super::Arm::Epoll);
    }
}

mod uring {
    #[test]
    fn socket_rests_from_a_flood_of_errors_and_hears_them_again() {
        super::socket_rests_and_hears_again(super::Arm::Uring);
    }
}

/// A turn that sends up to `count` datagrams.
fn turn(driver: &mut AnyDriver, from: SocketId, to: SocketAddr, count: usize) {
    for _ in 0..count {
        let Some(lease) = driver.lease() else { break };
        driver.send(Route::new(from, to), lease, 1, 1);
    }
    driver.submit().unwrap();
    driver.receive(64, |_| ());
}

fn socket_rests_and_hears_again(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let other = rig.add(Side::A);
    // This host's kernel answers each datagram to a closed port with an error.
    let closed = rig.closed_port();
    let driver = rig.driver(Side::A);
    let start = driver.now();
    while driver.counters().error_rests == 0 {
        assert!(driver.now() - start < PATIENCE, "no rest from {:?}", driver.counters());
        turn(driver, a.id, closed, 32);
    }
    let before = rig.driver(Side::A).counters();
    for round in 0..64 {
        rig.send(Side::A, a.id, closed, &[0], 1);
        rig.send(Side::A, a.id, b.address, &[round], 1);
        rig.send(Side::B, b.id, a.address, &[round], 1);
    }
    for side in [Side::A, Side::B] {
        let got = rig.collect(side, 64);
        assert!(got.iter().map(|got| got.bytes[0]).eq(0..64), "every datagram arrives, in order");
    }
    let after = rig.driver(Side::A).counters();
    assert_eq!(after.queued_errors, before.queued_errors, "errors cost nothing while the socket rests");
    while rig.driver(Side::A).path_error().is_some() {}
    turn(rig.driver(Side::A), other.id, closed, 1);
    rig.until(Side::A, |driver| driver.path_error().is_some_and(|error| error.socket == other.id));
    rig.until(Side::A, |driver| {
        turn(driver, a.id, closed, 1);
        driver.path_error().is_some()
    });
}
