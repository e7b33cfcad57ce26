//! Records from one process to another.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::rig::*;

#[test]
fn lines_pass_between_two_processes_exactly() {
    assert_eq!(text(&pass(numbers(20_000), 20_000, &[])), text(&numbers(20_000)));
}

#[test]
fn lines_pass_on_epoll_too() {
    assert_eq!(text(&pass(numbers(5_000), 5_000, &["--io", "epoll"])), text(&numbers(5_000)));
}

#[test]
fn binary_records_pass_between_two_processes_exactly() {
    let mut input = Vec::new();
    for n in 0..3_000u32 {
        let record: Vec<u8> = (0..n % 1_500).map(|i| (i * 31 + n) as u8).collect();
        input.extend_from_slice(&(record.len() as u32).to_le_bytes());
        input.extend_from_slice(&record);
    }
    assert!(pass(input.clone(), 3_000, &["--format", "length-prefixed"]) == input, "the records differ");
}

#[test]
fn records_larger_than_a_packet_pass_whole() {
    let input: Vec<u8> =
        (0..40).flat_map(|n| [vec![b'a' + n as u8 % 26; 60_000], b"\n".to_vec()].concat()).collect();
    assert!(pass(input.clone(), 40, &[]) == input, "the records differ");
}

#[test]
fn a_secret_that_both_sides_share_lets_them_meet() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "open sesame").unwrap();
    let options = ["--network", "vault", "--secret-file", path(&secret)];
    assert_eq!(text(&pass(numbers(100), 100, &options)), text(&numbers(100)));
}

#[test]
fn a_publisher_reads_a_file_and_a_subscriber_may_wait_for_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    fs::write(&file, "one\ntwo\nlast without a line feed").unwrap();
    let mut publisher = start(&["pub", "file", "--file", path(&file), "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let subscriber = start(&["sub", "file", "--peer", &address, "--until-end"]).end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    assert_eq!(text(&subscriber.stdout), "one\ntwo\nlast without a line feed\n");
    assert_eq!(publisher.end().code(), Some(0));
}

#[test]
fn subscriber_may_start_before_the_publisher() {
    // A port that was just free: the subscriber tries it before the publisher listens.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut subscriber = start(&["sub", "early", "--peer", &port, "--count", "10"]);
    subscriber.wait_for_line("no publisher yet");
    let mut publisher = start(&["pub", "early", "--listen", &port]);
    let fed = publisher.feed(numbers(10));
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    assert_eq!(subscriber.stdout, numbers(10));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn publisher_waits_for_two_consumers_and_both_get_every_record() {
    let mut publisher = start(&["pub", "both", "--listen", "127.0.0.1:0", "--consumers", "2"]);
    let address = publisher.address();
    let subscribers =
        ["first", "second"].map(|_| start(&["sub", "both", "--peer", &address, "--count", "3000"]));
    let fed = publisher.feed(numbers(3_000));
    for subscriber in subscribers {
        let subscriber = subscriber.end();
        assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
        assert!(subscriber.stdout == numbers(3_000), "the lines differ");
    }
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn publisher_keeps_its_rate() {
    let mut publisher = start(&["pub", "slow", "--listen", "127.0.0.1:0", "--rate", "200"]);
    let address = publisher.address();
    // Before the first record can be sent.
    let started = Instant::now();
    let subscriber = start(&["sub", "slow", "--peer", &address, "--count", "50"]);
    let fed = publisher.feed(numbers(50));
    assert_eq!(subscriber.end().stdout, numbers(50));
    // 49 steps of 5 ms after the first; faster would mean that the rate was not kept.
    assert!(started.elapsed() >= Duration::from_millis(200), "took only {:?}", started.elapsed());
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn subscriber_meets_a_publisher_by_its_host_name() {
    let mut publisher = start(&["pub", "named", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let name = format!("localhost:{}", address.rsplit(':').next().unwrap());
    let subscriber = start(&["sub", "named", "--peer", &name, "--count", "10"]);
    let fed = publisher.feed(numbers(10));
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    assert_eq!(subscriber.stdout, numbers(10));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}
