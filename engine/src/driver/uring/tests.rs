//! What only the inside of the driver can show: every set of ring flags, and a completion queue that is too
//! small.

use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::driver::{Driver, sys::eventfd::EventFd, wait_readable};

/// A driver with narrowed flags, or `None` (said aloud) where io_uring is not available at all.
fn open(config: DriverConfig, limits: UringLimits) -> Option<UringDriver> {
    if let Err(DriverOpenError::Uring(refusal)) = UringDriver::open(&DriverConfig::default()) {
        eprintln!("skipped: io_uring is not available here: {refusal}");
        return None;
    }
    Some(UringDriver::open_limited(&config, limits).unwrap())
}

fn socket(driver: &mut UringDriver) -> (SocketId, SocketAddr) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let id = driver.add_socket(socket.into()).unwrap();
    driver.submit().unwrap();
    (id, address)
}

fn send(driver: &mut UringDriver, from: SocketId, to: SocketAddr, number: u32) {
    let mut lease = driver.lease().expect("sends to loopback complete at once");
    lease[..4].copy_from_slice(&number.to_le_bytes());
    driver.send(Route::new(from, to), lease, 4, 4);
    driver.submit().unwrap();
}

/// Receives until `count` numbers are there.
fn collect(driver: &mut UringDriver, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    let patience = driver.now() + Duration::from_secs(10);
    while numbers.len() < count {
        assert!(driver.now() < patience, "{} of {count} came", numbers.len());
        let soon = driver.now() + Duration::from_millis(5);
        driver.park(Some(soon));
        driver.receive(64, |it| numbers.push(u32::from_le_bytes(it.bytes[..4].try_into().unwrap())));
    }
    numbers
}

#[test]
fn every_set_of_ring_flags_receives_sends_sleeps_and_wakes() {
    for skip_tiers in 0..3 {
        let limits = UringLimits { skip_tiers, ..UringLimits::default() };
        let Some(mut driver) = open(DriverConfig::default(), limits) else { return };
        let (here, address) = socket(&mut driver);
        for number in 0..100 {
            send(&mut driver, here, address, number);
            assert_eq!(collect(&mut driver, 1), [number], "{}", driver.features());
        }
        // From another thread, into a sleep without an end.
        for _ in 0..50 {
            let waker = driver.waker();
            let caller = std::thread::spawn(move || waker.wake());
            driver.park(None);
            caller.join().unwrap();
        }
        let before = crate::buffer::leaked_bytes();
        drop(driver);
        assert_eq!(crate::buffer::leaked_bytes(), before);
    }
}

#[test]
fn an_idle_look_costs_no_system_call() {
    let Some(mut driver) = open(DriverConfig::default(), UringLimits::default()) else { return };
    let (here, address) = socket(&mut driver);
    send(&mut driver, here, address, 1);
    collect(&mut driver, 1);
    let before = driver.counters().system_calls;
    for _ in 0..1000 {
        assert_eq!(driver.receive(64, |_| ()), 0);
        driver.submit().unwrap();
    }
    assert_eq!(driver.counters().system_calls, before);
}

#[test]
fn a_completion_queue_that_overflows_loses_nothing() {
    // The queue can't be smaller than the submissions' (128 here), so more than that has to complete unseen.
    let config = DriverConfig { leases: 64, receive_buffers: 1024, ..DriverConfig::default() };
    let limits = UringLimits { completions: Some(1), ..UringLimits::default() };
    let Some(mut driver) = open(config, limits) else { return };
    let (_, address) = socket(&mut driver);
    let sender = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for round in 0..3u32 {
        for number in 0..240u32 {
            sender.send_to(&(round * 240 + number).to_le_bytes(), address).unwrap();
            // Lets the kernel complete without looking at what it completed.
            driver.ring.run_completions(&mut driver.counters).unwrap();
        }
        let numbers = collect(&mut driver, 240);
        assert!(numbers.into_iter().eq(round * 240..(round + 1) * 240), "round {round}");
    }
    assert!(driver.counters().completion_overflows > 0, "the queue never overflowed");
}

#[test]
fn every_receive_buffer_comes_home() {
    let Some(mut driver) =
        open(DriverConfig { receive_buffers: 8, ..DriverConfig::default() }, UringLimits::default())
    else {
        return;
    };
    let (_, address) = socket(&mut driver);
    let sender = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for round in 0..50 {
        let (doomed, doomed_address) = socket(&mut driver);
        for number in 0..20u32 {
            sender.send_to(&number.to_le_bytes(), address).unwrap();
            sender.send_to(&number.to_le_bytes(), doomed_address).unwrap();
        }
        driver.receive(round % 7, |_| ());
        driver.remove_socket(doomed);
        while driver.receive(64, |_| ()) > 0 || !driver.arrivals.is_empty() {
            driver.submit().unwrap();
        }
    }
    assert_eq!(driver.receives_in_flight, 1);
    assert_eq!(driver.buffers.as_ref().map(BufferRing::given), Some(8));
}

/// Ends the armed receive of a socket as the kernel would, and takes its completion out of the way.
fn break_receive(driver: &mut UringDriver, id: SocketId) {
    let fd = driver.sockets.get(id).unwrap().socket.as_raw_fd();
    driver.cancel(types::CancelBuilder::fd(types::Fd(fd)).all());
    while driver.sockets.get(id).unwrap().armed {
        let _ = driver.ring.wait(Some(RECEIVE_REST), &mut driver.counters);
        driver.reap();
    }
}

#[test]
fn a_socket_whose_receives_only_fail_rests_and_then_hears_again() {
    let Some(mut driver) = open(DriverConfig::default(), UringLimits::default()) else { return };
    let (id, address) = socket(&mut driver);
    break_receive(&mut driver, id);
    for n in 1..=RECEIVE_FAILURES_MAX {
        assert_eq!(driver.counters.receive_rests, 0, "before failure {n}");
        driver.receive_failed(id, -1);
    }
    assert_eq!(driver.counters.receive_rests, 1);
    let rests_until = driver.sockets.get(id).unwrap().rests_until.expect("it rests");
    driver.submit().unwrap();
    assert!(!driver.sockets.get(id).unwrap().armed, "it is not armed before its time");
    let sender = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    sender.send_to(&7u32.to_le_bytes(), address).unwrap();
    // A sleep without an end of its own ends when the socket has rested.
    driver.park(None);
    assert!(driver.now() >= rests_until);
    assert_eq!(collect(&mut driver, 1), [7]);
    let entry = driver.sockets.get(id).unwrap();
    assert_eq!((entry.failures, entry.rests_until, entry.armed), (0, None, true));
    // One that goes on failing rests again, and is never forgotten.
    break_receive(&mut driver, id);
    for _ in 0..2 * u16::from(u8::MAX) {
        driver.receive_failed(id, -1);
    }
    assert_eq!(driver.to_arm, [id]);
    assert!(driver.rest_ends().is_some());
}

#[test]
fn socket_that_has_to_rest_while_it_is_closed_is_forgotten() {
    let Some(mut driver) = open(DriverConfig::default(), UringLimits::default()) else { return };
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let same = socket.try_clone().unwrap();
    let id = driver.add_socket(socket.into()).unwrap();
    driver.submit().unwrap();
    let now = driver.now();
    assert!(driver.path_errors.may_read(id, now));
    for _ in 0..crate::driver::fault::READ_MAX {
        driver.path_errors.count_read(id);
    }
    // The refusal ends the armed receive, which the driver sees while it closes the socket.
    let closed = UdpSocket::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    same.send_to(&[0], closed).unwrap();
    driver.ring.run_completions(&mut driver.counters).unwrap();
    driver.remove_socket(id);
    assert_eq!(driver.counters.error_rests, 1);
    assert!(driver.path_errors.rested(|| Instant::FAR_FUTURE).is_none());
}

#[test]
fn lease_that_came_back_calls_off_one_sleep() {
    let Some(mut driver) =
        open(DriverConfig { leases: 2, ..DriverConfig::default() }, UringLimits::default())
    else {
        return;
    };
    let leases = [driver.lease(), driver.lease()];
    assert!(leases.iter().all(Option::is_some) && driver.lease().is_none());
    drop(leases);
    let prepared = [driver.prepare_sleep(None), driver.prepare_sleep(None)];
    assert_eq!(prepared, [Sleep::Ready, Sleep::Until(None)]);
    driver.end_sleep();
}

#[test]
fn host_does_not_sleep_on_the_notice_before_everything_is_submitted() {
    let Some(mut driver) = open(DriverConfig::default(), UringLimits::default()) else { return };
    driver.readiness().unwrap();
    assert_eq!(driver.prepare_sleep(None), Sleep::Until(None));
    driver.end_sleep();
    assert!(driver.may_sleep_outside());
    driver.cancel(types::CancelBuilder::user_data(0));
    assert!(!driver.may_sleep_outside());
}

#[test]
fn readiness_that_the_ring_refused_is_made_by_the_next_call() {
    let Some(mut driver) = open(DriverConfig::default(), UringLimits::default()) else { return };
    // A ring takes one eventfd.
    let other = EventFd::new().unwrap();
    driver.ring.register_event(other.as_raw_fd()).unwrap();
    assert!(driver.readiness().is_err());
    driver.ring.io().submitter().unregister_eventfd().unwrap();
    let fd = driver.readiness().unwrap().as_raw_fd();
    assert_eq!(driver.prepare_sleep(None), Sleep::Until(None));
    // A completion writes it.
    driver.cancel(types::CancelBuilder::user_data(0));
    driver.ring.submit(&mut driver.counters).unwrap();
    // SAFETY: the driver keeps the descriptor open.
    let readiness = unsafe { BorrowedFd::borrow_raw(fd) };
    assert_eq!(wait_readable(&[readiness], Some(Duration::from_secs(10))).unwrap(), Some(0));
    driver.end_sleep();
}
