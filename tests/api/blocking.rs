//! Threads without any async runtime.

use std::thread;
use std::time::{Duration, Instant};

use corewire::streams::consumer::RecvTimeoutError;
use corewire::{Network, NetworkId};

use super::support::{Data1, LIMIT};

/// A node, without a runtime.
fn network() -> Network {
    futures::executor::block_on(Network::new(NetworkId::random())).expect("a node on the loopback interface")
}

#[test]
fn threads_send_and_receive_without_a_runtime() {
    const DATUMS: u64 = 20_000;
    let network = network();
    let producer = network.streams().producer::<Data1>().with_buffer_size(4).build().unwrap();
    let mut consumer = network.streams().consume::<Data1>();
    let taker = thread::spawn(move || {
        for n in 0..DATUMS {
            assert_eq!(consumer.recv_timeout(LIMIT), Ok(Data1(n)));
        }
        consumer
    });
    for n in 0..DATUMS {
        producer.send_blocking(Data1(n)).unwrap();
    }
    let mut consumer = taker.join().unwrap();
    drop(producer);
    assert_eq!(consumer.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
}

#[test]
fn a_timeout_lasts_as_long_as_it_says() {
    let network = network();
    let mut consumer = network.streams().consume::<Data1>();
    let before = Instant::now();
    assert_eq!(consumer.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
    assert!(before.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_blocked_sender_is_woken_by_its_first_consumer() {
    let network = network();
    let producer = network.streams().produce::<Data1>();
    let sender = thread::spawn(move || producer.send_blocking(Data1(1)).map(|()| producer));
    let mut consumer = network.streams().consume::<Data1>();
    assert_eq!(consumer.recv_timeout(LIMIT), Ok(Data1(1)));
    sender.join().unwrap().unwrap();
}

#[test]
fn a_blocked_consumer_is_woken_by_the_end_of_its_network() {
    let network = network();
    let mut consumer = network.streams().consume::<Data1>();
    let taker = thread::spawn(move || consumer.recv_blocking());
    drop(network);
    assert_eq!(taker.join().unwrap(), None);
}
