//! How a host that sleeps by its own means learns that a driver has work: [`Driver::prepare_sleep`] arms,
//! [`Driver::readiness`] becomes readable, [`Driver::end_sleep`] disarms.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]

mod driver_rig;

use std::{os::fd::AsRawFd, thread, time::Duration};

use corewire_engine::driver::{AnyDriver, Driver, Sleep};
use driver_rig::{Arm, Rig, Side};

/// Makes one test per driver of the kernel of each body.
macro_rules! on_every_kernel_driver {
    ($($body:ident),* $(,)?) => {
        mod epoll { $(#[test] fn $body() { super::$body(super::Arm::Epoll); })* }
        mod uring { $(#[test] fn $body() { super::$body(super::Arm::Uring); })* }
    };
}

on_every_kernel_driver!(
    a_prepared_driver_becomes_readable_by_a_datagram,
    a_prepared_driver_becomes_readable_by_its_waker,
    a_driver_with_work_does_not_prepare_a_sleep,
    a_driver_that_was_woken_is_quiet_again_after_its_turn,
);

/// Longer than any wake-up takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the driver's descriptor is readable within `limit`.
fn is_readable(driver: &mut AnyDriver, limit: Duration) -> bool {
    let fd = driver.readiness().expect("a driver of the kernel has a descriptor").as_raw_fd();
    let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry is readable and writable during the call.
    let count = unsafe { libc::poll(&raw mut asked, 1, limit.as_millis() as libc::c_int) };
    assert!(count >= 0);
    count > 0
}

/// Prepares a sleep. What a driver does at its first sleep may count as work, so it has some tries.
fn prepare(driver: &mut AnyDriver) {
    driver.readiness().unwrap();
    for _ in 0..10 {
        if driver.prepare_sleep(None) == Sleep::Until(None) {
            return;
        }
        driver.receive(64, |_| ());
    }
    panic!("an idle driver does not sleep");
}

fn a_prepared_driver_becomes_readable_by_a_datagram(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    for round in 0..3u8 {
        prepare(rig.driver(Side::B));
        assert!(!is_readable(rig.driver(Side::B), Duration::ZERO), "round {round}");
        rig.send(Side::A, a.id, b.address, &[round], 1);
        assert!(is_readable(rig.driver(Side::B), PATIENCE), "round {round}");
        rig.driver(Side::B).end_sleep();
        assert_eq!(rig.collect(Side::B, 1)[0].bytes, [round]);
    }
}

fn a_prepared_driver_becomes_readable_by_its_waker(arm: Arm) {
    let mut rig = Rig::new(arm);
    rig.add(Side::A);
    let driver = rig.driver(Side::A);
    for _ in 0..3 {
        prepare(driver);
        let waker = driver.waker();
        let caller = thread::spawn(move || waker.wake());
        assert!(is_readable(driver, PATIENCE));
        caller.join().unwrap();
        driver.end_sleep();
        driver.receive(64, |_| ());
    }
    assert_eq!(driver.counters().wakes, 3);
}

fn a_driver_with_work_does_not_prepare_a_sleep(arm: Arm) {
    let mut rig = Rig::new(arm);
    rig.add(Side::A);
    let driver = rig.driver(Side::A);
    prepare(driver);
    driver.end_sleep();
    driver.waker().wake();
    assert_eq!(driver.prepare_sleep(None), Sleep::Ready);
    prepare(driver);
}

fn a_driver_that_was_woken_is_quiet_again_after_its_turn(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let sent = 5;
    prepare(rig.driver(Side::B));
    rig.driver(Side::B).waker().wake();
    for number in 0..sent {
        rig.send(Side::A, a.id, b.address, &[number], 1);
    }
    assert!(is_readable(rig.driver(Side::B), PATIENCE));
    rig.driver(Side::B).end_sleep();
    assert_eq!(rig.collect(Side::B, usize::from(sent)).len(), usize::from(sent));
    prepare(rig.driver(Side::B));
    assert!(!is_readable(rig.driver(Side::B), Duration::ZERO));
}

#[test]
fn a_simulated_driver_has_no_descriptor() {
    assert!(Rig::new(Arm::Sim).driver(Side::A).readiness().is_err());
}
