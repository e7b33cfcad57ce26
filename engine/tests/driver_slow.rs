//! A socket whose path is slower than its sender, beside another one.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]

mod driver_rig;
mod namespace;

use std::process::Command;

use corewire_engine::driver::{Driver, DriverConfig, LEASE_BYTES, Route};
use driver_rig::{Arm, Rig, Side};
use namespace::{in_namespace, set_mtu};

const LEASES: u16 = 32;
const LEN: usize = LEASE_BYTES / 2;

/// Sends from one socket until it is backed up, and says how many leases the others have then.
fn leases_beside_a_slow_socket(arm: Arm) -> usize {
    let mut rig = Rig::with(arm, DriverConfig { leases: LEASES, ..DriverConfig::default() });
    let (slow, other, to) = (rig.add(Side::A), rig.add(Side::A), rig.add(Side::B));
    let driver = rig.driver(Side::A);
    // What the kernel's buffer holds comes first.
    for _ in 0..1_000 {
        if driver.is_backed_up(slow.id) {
            break;
        }
        let Some(lease) = driver.lease() else { break };
        driver.send(Route::new(slow.id, to.address), lease, LEN, LEN);
        driver.submit().unwrap();
    }
    assert!(driver.is_backed_up(slow.id), "{arm:?}: it is never backed up");
    assert!(!driver.is_backed_up(other.id));
    let left = std::iter::from_fn(|| driver.lease()).collect::<Vec<_>>().len();
    rig.until(Side::A, |driver| !driver.is_backed_up(slow.id));
    left
}

#[test]
fn slow_socket_leaves_most_transmit_memory_to_others() {
    if !in_namespace("slow_socket_leaves_most_transmit_memory_to_others") {
        return;
    }
    assert!(set_mtu(65_536).status().expect("ip(8)").success());
    let limit =
        ["qdisc", "add", "dev", "lo", "root", "tbf", "rate", "80mbit", "burst", "100kb", "limit", "8mb"];
    match Command::new("tc").args(limit).output() {
        Ok(output) if output.status.success() => {}
        other => return eprintln!("not tested, no slow link here: {other:?}"),
    }
    for arm in [Arm::Epoll, Arm::Uring] {
        let left = leases_beside_a_slow_socket(arm);
        assert!(left >= usize::from(LEASES) / 2, "{arm:?} leaves {left} leases");
    }
}
