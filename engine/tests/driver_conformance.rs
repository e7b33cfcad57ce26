//! The contract of `corewire_engine::driver`, tested with one body on sim, epoll and uring. Where io_uring is
//! not allowed, its arm prints that and runs on the fallback.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]

mod driver_rig;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::mpsc,
    thread,
    time::Duration,
};

use corewire_engine::driver::{
    Driver, DriverConfig, LEASE_BYTES, MAX_SEND_BYTES, PathError, PathFault, Route, Socket,
};
use driver_rig::{Arm, Rig, Side, pattern};

/// Makes one test per driver of each body.
macro_rules! on_every_driver {
    ($($body:ident),* $(,)?) => {
        mod sim { $(#[test] fn $body() { super::$body(super::Arm::Sim); })* }
        mod epoll { $(#[test] fn $body() { super::$body(super::Arm::Epoll); })* }
        mod uring { $(#[test] fn $body() { super::$body(super::Arm::Uring); })* }
    };
}

on_every_driver!(
    datagrams_of_every_size_arrive_intact_in_both_directions,
    a_train_arrives_as_its_datagrams_in_order,
    a_train_longer_than_the_kernel_takes_arrives_whole,
    an_empty_datagram_arrives_and_costs_budget,
    the_budget_bounds_what_one_receive_takes,
    leases_run_out_and_come_back,
    a_dropped_lease_comes_back_at_once,
    a_tiny_receive_memory_recovers_from_a_burst,
    a_burst_of_small_datagrams_arrives_whole,
    a_send_to_a_closed_port_is_counted_and_harmless,
    train_to_a_living_peer_survives_dead_ones_in_its_batch,
    sends_outside_the_contract_are_refused_and_counted,
    nothing_leaves_before_submit,
    several_sockets_are_told_apart,
    a_removed_socket_is_silent_and_its_port_is_free,
    a_socket_table_that_is_full_says_so,
    dropping_a_driver_in_the_middle_of_everything_is_safe,
    entropy_differs_from_call_to_call,
    ipv6_works_where_the_host_has_it,
    an_answer_leaves_from_the_address_that_was_called,
    a_socket_of_both_families_answers_ipv4_from_where_it_was_called,
);

fn an_answer_leaves_from_the_address_that_was_called(arm: Arm) {
    answers_from_where_it_was_called(arm, "0.0.0.0:0");
}

fn a_socket_of_both_families_answers_ipv4_from_where_it_was_called(arm: Arm) {
    // A simulated socket has one family.
    if arm != Arm::Sim && UdpSocket::bind("[::1]:0").is_ok() {
        answers_from_where_it_was_called(arm, "[::]:0");
    }
}

/// Calls a socket of side A that is bound to `wildcard` at several addresses of the loopback interface, and
/// lets it answer with a datagram and with a train.
fn answers_from_where_it_was_called(arm: Arm, wildcard: &str) {
    let mut rig = Rig::new(arm);
    let server = rig.add_at(Side::A, wildcard.parse().unwrap());
    // A simulated loopback interface is its host's alone, so that both ends are there.
    let client = rig.add_at(Side::A, "127.0.0.1:0".parse().unwrap());
    for host in [[127, 0, 0, 2], [127, 0, 0, 1], [127, 3, 2, 1]] {
        let called = SocketAddr::from((host, server.address.port()));
        rig.send(Side::A, client.id, called, b"call", 4);
        let got = rig.collect(Side::A, 1).remove(0);
        assert_eq!((got.socket, got.from, got.at), (server.id, client.address, Some(called.ip())));
        let back = Route { socket: server.id, source: got.at, to: got.from };
        for (bytes, segment, count) in [(pattern(1, 100), 100, 1), (pattern(2, 900), 300, 3)] {
            rig.send_by(Side::A, back, &bytes, segment);
            for answer in rig.collect(Side::A, count) {
                assert_eq!((answer.socket, answer.from, answer.at), (client.id, called, None));
            }
        }
    }
}

fn datagrams_of_every_size_arrive_intact_in_both_directions(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let sizes = [1, 2, 63, 64, 65, 1200, 1452, 4096, 9000, 16_384, 32_768, 60_000, 65_000, MAX_SEND_BYTES];
    for (round, size) in sizes.into_iter().enumerate() {
        for (side, (from, other)) in [(Side::A, (a, b)), (Side::B, (b, a))] {
            let bytes = pattern(round, size);
            rig.send(side, from.id, other.address, &bytes, size);
            let got = rig.collect(side.other(), 1);
            assert_eq!(got.len(), 1, "{size} bytes");
            assert_eq!((got[0].socket, got[0].from), (other.id, from.address));
            assert!(got[0].bytes == bytes, "{size} bytes arrived changed");
        }
    }
    let counters = rig.driver(Side::A).counters();
    assert_eq!((counters.sent_datagrams, counters.received_datagrams), (14, 14));
    assert_eq!(counters.sent_bytes, sizes.iter().sum::<usize>() as u64);
    assert_eq!(counters.received_bytes, counters.sent_bytes);
}

fn a_train_arrives_as_its_datagrams_in_order(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    for (segment, count, last) in [(64, 40, 64), (1400, 46, 1400), (1200, 10, 7), (9000, 7, 1), (8, 2, 8)] {
        let len = segment * (count - 1) + last;
        let bytes = pattern(segment, len);
        rig.send(Side::A, a.id, b.address, &bytes, segment);
        let got = rig.collect(Side::B, count);
        assert_eq!(got.len(), count, "{count} × {segment}");
        for (datagram, sent) in got.iter().zip(bytes.chunks(segment)) {
            assert_eq!(datagram.from, a.address);
            assert!(datagram.bytes == sent, "a datagram of {count} × {segment} is changed or out of order");
        }
    }
    assert_eq!(rig.driver(Side::A).counters().sent_trains, 5);
}

fn a_train_longer_than_the_kernel_takes_arrives_whole(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let bytes = pattern(3, 500 * 16);
    rig.send(Side::A, a.id, b.address, &bytes, 16);
    let got = rig.collect(Side::B, 500);
    assert!(got.iter().map(|datagram| &datagram.bytes[..]).eq(bytes.chunks(16)));
    assert_eq!(rig.driver(Side::A).counters().sent_datagrams, 500);
}

fn an_empty_datagram_arrives_and_costs_budget(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    for _ in 0..3 {
        rig.send(Side::A, a.id, b.address, &[], 0);
    }
    let got = rig.collect(Side::B, 3);
    assert!(got.len() == 3 && got.iter().all(|datagram| datagram.bytes.is_empty()));
    rig.send(Side::A, a.id, b.address, &[], 0);
    rig.send(Side::A, a.id, b.address, &[1], 1);
    rig.pass(Side::B);
    assert!(rig.receive_once(Side::B, 1).len() <= 1);
}

fn the_budget_bounds_what_one_receive_takes(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    for number in 0..20u8 {
        rig.send(Side::A, a.id, b.address, &[number], 1);
    }
    let mut got = Vec::new();
    while got.len() < 20 {
        let some = rig.receive_once(Side::B, 3);
        assert!(some.len() <= 3, "a budget of 3 brought {}", some.len());
        if some.is_empty() {
            rig.pass(Side::B);
        }
        got.extend(some.into_iter().map(|datagram| datagram.bytes[0]));
    }
    assert!(got.into_iter().eq(0..20));
    assert_eq!(rig.receive_once(Side::B, 0).len(), 0);
}

fn leases_run_out_and_come_back(arm: Arm) {
    let mut rig = Rig::with(arm, DriverConfig { leases: 4, ..DriverConfig::default() });
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    for round in 0..50usize {
        let driver = rig.driver(Side::A);
        let mut leases: Vec<_> = std::iter::from_fn(|| driver.lease()).collect();
        assert_eq!(leases.len(), 4, "round {round}");
        for (index, lease) in leases.iter_mut().enumerate() {
            assert_eq!(lease.len(), LEASE_BYTES);
            lease[..64].copy_from_slice(&pattern(round * 4 + index, 64));
        }
        assert!(driver.lease().is_none());
        for lease in leases {
            driver.send(Route::new(a.id, b.address), lease, 64, 64);
        }
        assert!(driver.lease().is_none(), "a staged lease is not free");
        driver.submit().unwrap();
        let got = rig.collect(Side::B, 4);
        for (index, datagram) in got.iter().enumerate() {
            assert!(datagram.bytes == pattern(round * 4 + index, 64));
        }
        rig.until(Side::A, |driver| driver.lease().is_some());
    }
    assert!(rig.driver(Side::A).counters().leases_exhausted >= 100);
}

fn a_dropped_lease_comes_back_at_once(arm: Arm) {
    let mut rig = Rig::with(arm, DriverConfig { leases: 2, ..DriverConfig::default() });
    let driver = rig.driver(Side::A);
    for _ in 0..10 {
        let both = (driver.lease(), driver.lease());
        assert!(both.0.is_some() && both.1.is_some() && driver.lease().is_none());
    }
}

fn a_tiny_receive_memory_recovers_from_a_burst(arm: Arm) {
    let mut rig = Rig::with(arm, DriverConfig { receive_buffers: 2, ..DriverConfig::default() });
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let mut sent = 0u32;
    for round in 0..20 {
        for _ in 0..60 {
            rig.send(Side::A, a.id, b.address, &sent.to_le_bytes(), 4);
            sent += 1;
        }
        let got = rig.collect(Side::B, 60);
        let numbers = got.iter().map(|datagram| u32::from_le_bytes(datagram.bytes[..].try_into().unwrap()));
        assert!(numbers.eq(sent - 60..sent), "round {round} is not whole");
    }
    assert!(rig.driver(Side::B).counters().receive_starved > 0, "the memory was never short");
}

fn a_burst_of_small_datagrams_arrives_whole(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    // Below what the socket's queue holds, so that nothing may be lost.
    let mut got = Vec::new();
    for number in 0..2000u32 {
        rig.send(Side::A, a.id, b.address, &number.to_le_bytes(), 4);
        if number % 200 == 199 {
            got.extend(rig.collect(Side::B, 200));
        }
    }
    assert!(
        got.iter().map(|datagram| u32::from_le_bytes(datagram.bytes[..].try_into().unwrap())).eq(0..2000)
    );
    assert_eq!(rig.driver(Side::B).counters().kernel_receive_drops, 0);
}

fn a_send_to_a_closed_port_is_counted_and_harmless(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let closed = rig.closed_port();
    for number in 0..30u8 {
        rig.send(Side::A, a.id, closed, &[number; 40], 40);
        // What goes elsewhere between must not pay for it.
        rig.send(Side::A, a.id, b.address, &[number], 1);
        let got = rig.collect(Side::B, 1);
        assert!(got.len() == 1 && got[0].bytes == [number], "datagram {number} to the living port");
        // And the socket must still receive.
        rig.send(Side::B, b.id, a.address, &[number], 1);
        let got = rig.collect(Side::A, 1);
        assert!(got.len() == 1 && got[0].bytes == [number], "datagram {number} back");
    }
    rig.pass(Side::A);
    rig.receive_once(Side::A, 1);
    let counters = rig.driver(Side::A).counters();
    assert!((25..=30).contains(&counters.send_unreachable), "{counters:?}");
    assert!(counters.queued_errors >= 25, "{counters:?}");
    let error = rig.driver(Side::A).path_error().expect("an error with its address");
    assert_eq!(error, PathError { socket: a.id, to: closed, fault: PathFault::Refused });
}

fn train_to_a_living_peer_survives_dead_ones_in_its_batch(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let closed = [(); 5].map(|()| rig.closed_port());
    for dead in 1..=closed.len() {
        let bytes = pattern(dead, 900);
        let driver = rig.driver(Side::A);
        for to in closed[..dead].iter().copied().chain([b.address]) {
            let mut lease = driver.lease().expect("leases for a small batch");
            lease[..900].copy_from_slice(&bytes);
            driver.send(Route::new(a.id, to), lease, 900, 300);
        }
        driver.submit().unwrap();
        let got = rig.collect(Side::B, 3);
        assert!(got.iter().map(|datagram| &datagram.bytes[..]).eq(bytes.chunks(300)), "beside {dead}");
    }
}

fn sends_outside_the_contract_are_refused_and_counted(arm: Arm) {
    let mut rig = Rig::with(arm, DriverConfig { leases: 1, ..DriverConfig::default() });
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let driver = rig.driver(Side::A);
    for (len, segment) in [(MAX_SEND_BYTES + 1, 1200), (LEASE_BYTES, LEASE_BYTES), (10, 0), (10, 11)] {
        let lease = driver.lease().expect("a refused lease comes back");
        driver.send(Route::new(a.id, b.address), lease, len, segment);
    }
    driver.remove_socket(a.id);
    let lease = driver.lease().expect("a refused lease comes back");
    driver.send(Route::new(a.id, b.address), lease, 1, 1);
    driver.submit().unwrap();
    assert_eq!(driver.counters().send_refused, 5);
    assert!(driver.lease().is_some());
    rig.pass(Side::B);
    assert!(rig.receive_once(Side::B, 10).is_empty());
}

fn nothing_leaves_before_submit(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let mut lease = rig.driver(Side::A).lease().unwrap();
    lease[0] = 5;
    rig.driver(Side::A).send(Route::new(a.id, b.address), lease, 1, 1);
    rig.receive_once(Side::A, 1);
    assert!(rig.receive_once(Side::B, 1).is_empty());
    rig.driver(Side::A).submit().unwrap();
    assert_eq!(rig.collect(Side::B, 1).len(), 1);
}

fn several_sockets_are_told_apart(arm: Arm) {
    let mut rig = Rig::new(arm);
    let a = rig.add(Side::A);
    let at_b: Vec<_> = (0..5).map(|_| rig.add(Side::B)).collect();
    for round in 0..3u8 {
        for (index, end) in at_b.iter().enumerate() {
            rig.send(Side::A, a.id, end.address, &[round, index as u8], 2);
        }
        let mut got = rig.collect(Side::B, 5);
        got.sort_by_key(|datagram| datagram.bytes[1]);
        for (datagram, end) in got.iter().zip(&at_b) {
            assert_eq!(datagram.socket, end.id);
        }
        assert_eq!(got.len(), 5);
    }
}

fn a_removed_socket_is_silent_and_its_port_is_free(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (a, kept) = (rig.add(Side::A), rig.add(Side::B));
    for round in 0..20u8 {
        let removed = rig.add(Side::B);
        rig.send(Side::A, a.id, removed.address, &[round], 1);
        assert_eq!(rig.collect(Side::B, 1)[0].socket, removed.id);
        rig.send(Side::A, a.id, removed.address, &[round], 1);
        rig.driver(Side::B).remove_socket(removed.id);
        rig.driver(Side::B).remove_socket(removed.id);
        rig.send(Side::A, a.id, removed.address, &[round], 1);
        rig.send(Side::A, a.id, kept.address, &[round], 1);
        let got = rig.collect(Side::B, 1);
        assert!(got.len() == 1 && got[0].socket == kept.id, "only the living socket receives");
        let again = rig.add_at(Side::B, removed.address);
        assert_ne!(again.id, removed.id, "a name is never used twice");
        rig.driver(Side::B).remove_socket(again.id);
    }
}

fn a_socket_table_that_is_full_says_so(arm: Arm) {
    let mut rig = Rig::with(arm, DriverConfig { sockets: 2, ..DriverConfig::default() });
    let first = rig.add(Side::A);
    rig.add(Side::A);
    let third = rig.socket(Side::A, None);
    assert!(rig.driver(Side::A).add_socket(third).is_err());
    rig.driver(Side::A).remove_socket(first.id);
    rig.add(Side::A);
}

fn dropping_a_driver_in_the_middle_of_everything_is_safe(arm: Arm) {
    let before = corewire_engine::driver::leaked_bytes();
    for round in 0..20 {
        let mut rig = Rig::new(arm);
        let (a, b) = (rig.add(Side::A), rig.add(Side::B));
        let kept = rig.driver(Side::A).lease();
        for number in 0..20 {
            rig.send(Side::A, a.id, b.address, &pattern(number, 3000), 1000);
        }
        for _ in 0..5 {
            let lease = rig.driver(Side::A).lease().unwrap();
            rig.driver(Side::A).send(Route::new(a.id, b.address), lease, 3000, 1000);
        }
        if round % 2 == 0 {
            rig.receive_once(Side::B, 3);
        }
        let waker = rig.driver(Side::A).waker();
        drop(rig);
        waker.wake();
        // Memory of a lease outlives the driver.
        kept.unwrap()[LEASE_BYTES - 1] = 1;
    }
    assert_eq!(corewire_engine::driver::leaked_bytes(), before, "everything came back before the end");
}

fn entropy_differs_from_call_to_call(arm: Arm) {
    let mut rig = Rig::new(arm);
    let (mut one, mut two) = ([0u8; 40], [0u8; 40]);
    rig.driver(Side::A).entropy(&mut one);
    rig.driver(Side::A).entropy(&mut two);
    assert!(one != two && one != [0; 40]);
    rig.driver(Side::A).entropy(&mut []);
}

fn ipv6_works_where_the_host_has_it(arm: Arm) {
    let mut rig = Rig::new(arm);
    let Some((a, b)) = rig.add_ipv6(Side::A).zip(rig.add_ipv6(Side::B)) else {
        return eprintln!("skipped: this host has no IPv6 loopback");
    };
    let bytes = pattern(1, 10 * 1100);
    rig.send(Side::A, a.id, b.address, &bytes, 1100);
    let got = rig.collect(Side::B, 10);
    assert!(got.iter().map(|datagram| &datagram.bytes[..]).eq(bytes.chunks(1100)));
    assert!(got.iter().all(|datagram| datagram.from == a.address));
    // A peer of the other family can't be reached from this socket, and nothing bad comes of trying.
    let other: SocketAddr = "10.0.0.1:9".parse().unwrap();
    if arm != Arm::Sim {
        rig.send(Side::A, a.id, other, &[1], 1);
    }
    rig.send(Side::A, a.id, b.address, &[2], 1);
    assert_eq!(rig.collect(Side::B, 1)[0].bytes, [2]);
}

/// What only a driver with a real sleep can show.
mod sleeping {
    use super::*;

    fn arms() -> [Arm; 2] {
        [Arm::Epoll, Arm::Uring]
    }

    #[test]
    fn a_park_ends_at_its_time_and_not_before() {
        for arm in arms() {
            let mut rig = Rig::new(arm);
            rig.add(Side::A);
            let driver = rig.driver(Side::A);
            for millis in [1, 5, 20] {
                let asked = Duration::from_millis(millis);
                let start = driver.now();
                driver.park(Some(start + asked));
                let slept = driver.now() - start;
                assert!(slept >= asked, "{arm:?} slept {slept:?} of {asked:?}");
                assert!(slept < asked + Duration::from_secs(2), "{arm:?} slept {slept:?} of {asked:?}");
            }
            // A time that has passed is no sleep.
            let parks = driver.counters().parks;
            let past = driver.now();
            driver.park(Some(past));
            assert_eq!(driver.counters().parks, parks);
        }
    }

    #[test]
    fn a_datagram_ends_a_park() {
        for arm in arms() {
            let mut rig = Rig::new(arm);
            let a = rig.add(Side::A);
            let (send, sent) = mpsc::channel::<()>();
            let sender = thread::spawn(move || {
                let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
                while sent.recv().is_ok() {
                    socket.send_to(b"wake", a.address).unwrap();
                }
            });
            for _ in 0..100 {
                send.send(()).unwrap();
                let driver = rig.driver(Side::A);
                let mut got = 0;
                while got == 0 {
                    driver.park(None);
                    got += driver.receive(16, |_| ());
                }
            }
            drop(send);
            sender.join().unwrap();
        }
    }

    #[test]
    fn a_wake_up_before_the_park_makes_it_return() {
        for arm in arms() {
            let mut rig = Rig::new(arm);
            let driver = rig.driver(Side::A);
            let waker = driver.waker();
            for _ in 0..100 {
                waker.wake_by_ref();
                waker.wake_by_ref();
                driver.park(None);
            }
            assert_eq!(driver.counters().parks, 0, "no sleep was needed");
        }
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads_that_take_turns() {
        use std::sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        };
        for arm in arms() {
            // Each side writes a number and wakes the other, which sleeps without a timeout: one lost wake-up
            // and this test hangs.
            const ROUNDS: u32 = 3000;
            let ball = Arc::new(AtomicU32::new(0));
            let (to_main, from_other) = mpsc::channel();
            let (to_other, from_main) = mpsc::channel();
            let other = thread::spawn({
                let ball = Arc::clone(&ball);
                move || {
                    let mut rig = Rig::new(arm);
                    let driver = rig.driver(Side::A);
                    to_main.send(driver.waker()).unwrap();
                    let main: std::task::Waker = from_main.recv().unwrap();
                    for round in 0..ROUNDS {
                        while ball.load(Ordering::Acquire) != 2 * round + 1 {
                            driver.park(None);
                        }
                        ball.store(2 * round + 2, Ordering::Release);
                        main.wake_by_ref();
                    }
                }
            });
            let mut rig = Rig::new(arm);
            let driver = rig.driver(Side::A);
            to_other.send(driver.waker()).unwrap();
            let waker = from_other.recv().unwrap();
            for round in 0..ROUNDS {
                ball.store(2 * round + 1, Ordering::Release);
                waker.wake_by_ref();
                while ball.load(Ordering::Acquire) != 2 * round + 2 {
                    driver.park(None);
                }
            }
            other.join().unwrap();
            assert!(driver.counters().parks > 0, "{arm:?} never slept");
        }
    }

    #[test]
    fn an_idle_driver_sleeps_instead_of_spinning() {
        for arm in arms() {
            let mut rig = Rig::new(arm);
            let (a, b) = (rig.add(Side::A), rig.add(Side::B));
            // After traffic, so that left-over completions and errors would show as early returns.
            rig.send(Side::A, a.id, b.address, &[1; 3000], 1000);
            rig.collect(Side::B, 3);
            let closed = rig.closed_port();
            rig.send(Side::A, a.id, closed, &[1], 1);
            rig.pass(Side::A);
            let driver = rig.driver(Side::A);
            let start = driver.now();
            let (mut turns, mut before) = (0, driver.counters());
            while driver.now() - start < Duration::from_millis(60) {
                driver.receive(16, |_| ());
                driver.submit().unwrap();
                driver.park(Some(start + Duration::from_millis(60)));
                turns += 1;
            }
            let after = driver.counters();
            before.system_calls = after.system_calls - before.system_calls;
            assert!(turns <= 10 && before.system_calls <= 40, "{arm:?}: {turns} turns, {before:?}");
        }
    }

    #[test]
    fn a_driver_takes_no_socket_of_another_kind() {
        let mut simulated = Rig::new(Arm::Sim);
        for arm in arms() {
            let mut rig = Rig::new(arm);
            let foreign: Socket = simulated.socket(Side::A, None);
            assert!(rig.driver(Side::A).add_socket(foreign).is_err());
            let native = rig.socket(Side::A, None);
            assert!(simulated.driver(Side::A).add_socket(native).is_err());
        }
    }

    #[test]
    fn what_a_full_receive_queue_drops_is_counted_exactly() {
        for arm in arms() {
            let mut rig = Rig::new(arm);
            let a = rig.add(Side::A);
            // A socket with the smallest queue that the kernel gives.
            let small = rig.add_with_small_queue(Side::B);
            for number in 0..400u32 {
                rig.send(Side::A, a.id, small.address, &[number.to_le_bytes(), [0; 4]].concat(), 8);
            }
            let mut got = rig.collect_what_comes(Side::B);
            // The kernel tells how many it dropped with the next datagram that it keeps.
            rig.send(Side::A, a.id, small.address, &[0xff; 8], 8);
            got += rig.collect_what_comes(Side::B);
            let drops = rig.driver(Side::B).counters().kernel_receive_drops;
            assert!(drops > 0, "{arm:?}: the queue was never full");
            assert_eq!(got as u64 + drops, 401, "{arm:?}: every datagram is either there or counted");
        }
    }
}
