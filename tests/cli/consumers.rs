//! What `pub` tells about its consumers: who missed what, and who keeps the others waiting.

use std::io;
use std::time::{Duration, Instant};

use crate::rig::*;

#[test]
fn publisher_names_a_killed_consumer_and_what_it_missed() {
    let mut publisher = start(&["pub", "killed", "--listen", "127.0.0.1:0", "--rate", "5k"]);
    let address = publisher.address();
    let (mut reader, writer) = io::pipe().unwrap();
    let mut killed = start_unread(&["sub", "killed", "--peer", &address], writer.into());
    let fed = publisher.feed(numbers(40_000));
    io::Read::read_exact(&mut reader, &mut [0; 2]).unwrap();
    killed.child.kill().unwrap();
    let second = start(&["sub", "killed", "--peer", &address, "--until-end"]).end();
    assert_eq!(second.code(), Some(0), "{}", second.stderr);
    let (received, missing) = gaps(&second.stdout);
    assert_eq!((received.last(), missing), (Some(&40_000), 0));
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(1), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("may be missing at consumers"), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("its port is closed"), "{}", publisher.stderr);
    fed.join().unwrap();
}

#[test]
fn publisher_at_its_end_gives_a_killed_consumer_up_after_seconds() {
    let mut publisher = start(&["pub", "gone", "--listen", "127.0.0.1:0", "--rate", "20k"]);
    let address = publisher.address();
    let (mut reader, writer) = io::pipe().unwrap();
    let mut killed = start_unread(&["sub", "gone", "--peer", &address], writer.into());
    // The ring holds them all, so the input ends before the consumer is missed.
    let fed = publisher.feed(numbers(12_000));
    io::Read::read_exact(&mut reader, &mut [0; 2]).unwrap();
    killed.child.kill().unwrap();
    let since = Instant::now();
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(1), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("may be missing at consumers"), "{}", publisher.stderr);
    assert!(since.elapsed() < Duration::from_secs(18), "its place is kept for 20 s: {:?}", since.elapsed());
    fed.join().unwrap();
}

#[test]
fn publisher_without_a_loss_does_not_report_one() {
    let mut publisher = start(&["pub", "left", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let leaves = start(&["sub", "left", "--peer", &address, "--count", "10"]);
    let stays = start(&["sub", "left", "--peer", &address, "--until-end"]);
    let fed = publisher.feed(numbers(50_000));
    assert_eq!(leaves.end().code(), Some(0));
    let stays = stays.end();
    assert_eq!(stays.code(), Some(0), "{}", stays.stderr);
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(0), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("every consumer that stayed has them all"), "{}", publisher.stderr);
    fed.join().unwrap();
}

/// A publisher in full flow with two subscribers, of which one is never read. Returns what the other one got
/// when it had got `enough` or the publisher was told to stop, and the publisher's messages.
fn beside_a_blocked_one(slow: &str, line: &str) -> (Ended, Ended) {
    let options = ["pub", "two", "--listen", "127.0.0.1:0", "--consumers", "2", "--slow", slow];
    let mut publisher = start(&options);
    let address = publisher.address();
    let (reader, writer) = io::pipe().unwrap();
    let _blocked = start_unread(&["sub", "two", "--peer", &address], writer.into());
    let fast = start(&["sub", "two", "--peer", &address, "--until-end"]);
    let fed = publisher.feed(numbers(400_000));
    publisher.wait_for_line(line);
    if slow == "wait" {
        publisher.signal("INT");
    }
    let fast = fast.end();
    drop(reader);
    let publisher = publisher.end();
    fed.join().unwrap();
    (publisher, fast)
}

#[test]
fn consumer_that_others_wait_for_is_cut_off_and_named() {
    let (publisher, fast) = beside_a_blocked_one("cut", "may miss");
    assert_eq!(fast.code(), Some(0), "{}", fast.stderr);
    assert!(fast.stdout == numbers(400_000), "the fast one misses something");
    assert_eq!(publisher.code(), Some(1), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("too slow"), "{}", publisher.stderr);
}

#[test]
fn loss_at_the_end_of_a_stream_is_counted_by_the_subscriber() {
    // More bytes and records than all buffers on the way to one that is not read.
    const RECORDS: u64 = 100_000;
    let records: Vec<u8> = (0..RECORDS).flat_map(|n| format!("{n:099}\n").into_bytes()).collect();
    let mut publisher = start(&["pub", "tail", "--listen", "127.0.0.1:0", "--consumers", "2"]);
    let address = publisher.address();
    let mut slow = start(&["sub", "tail", "--peer", &address, "--until-end"]);
    let fast = start(&["sub", "tail", "--peer", &address, "--count", &RECORDS.to_string()]);
    slow.wait_for_line("connected to ");
    // Stopped, it takes nothing, and does not come back before all is sent.
    slow.signal("STOP");
    let mut input = publisher.stdin.take().unwrap();
    // The input stays open: what the slow one has missed is not followed by a record.
    let fed = std::thread::spawn(move || io::Write::write_all(&mut input, &records).map(|()| input));
    publisher.wait_for_line("may miss");
    assert_eq!(fast.end().code(), Some(0));
    slow.signal("CONT");
    slow.wait_for_line("connected to ");
    drop(fed.join().unwrap());
    let slow = slow.end();
    assert_eq!(slow.code(), Some(1), "{}", slow.stderr);
    assert!(slow.stderr.contains("cut this subscriber off"), "{}", slow.stderr);
    assert!(slow.stderr.contains("records are missing at the end"), "{}", slow.stderr);
    let received = gaps(&slow.stdout).0.len() as u64;
    let total = slow.stderr.lines().last().unwrap().replace(',', "");
    assert!(total.contains(&format!("{} records are missing", RECORDS - received)), "{received}: {total}");
    assert_eq!(publisher.end().code(), Some(1));
}

#[test]
fn consumer_that_rests_does_not_keep_the_end_from_the_others() {
    // The ring holds them all, and the one that rests takes at most half of them without being read.
    let records: Vec<u8> = (0..3_500).flat_map(|n| format!("{n:0999}\n").into_bytes()).collect();
    let mut publisher = start(&["pub", "end", "--listen", "127.0.0.1:0", "--consumers", "2"]);
    let address = publisher.address();
    let (reader, writer) = io::pipe().unwrap();
    let rests = start_unread(&["sub", "end", "--peer", &address, "--until-end"], writer.into());
    let reads = start(&["sub", "end", "--peer", &address, "--until-end"]);
    let fed = publisher.feed(records.clone());
    let reads = reads.end();
    assert_eq!(reads.code(), Some(0), "{}", reads.stderr);
    assert!(reads.stdout == records, "the one that reads misses something");
    let lines = io::read_to_string(reader).unwrap();
    assert!(lines.into_bytes() == records, "the one that rested misses something");
    assert_eq!(rests.end().code(), Some(0));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn publisher_that_waits_says_for_whom() {
    let (publisher, fast) = beside_a_blocked_one("wait", "records behind");
    assert_eq!(fast.code(), Some(1), "{}", fast.stderr);
    assert_eq!(publisher.code(), Some(130), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("records behind; --slow cut would go on"), "{}", publisher.stderr);
}

#[test]
fn lone_consumer_that_rests_is_waited_for_and_loses_nothing() {
    let mut publisher = start(&["pub", "rest", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let (reader, writer) = io::pipe().unwrap();
    let subscriber = start_unread(&["sub", "rest", "--peer", &address, "--until-end"], writer.into());
    let fed = publisher.feed(numbers(400_000));
    publisher.wait_for_line("stands still");
    let lines = io::read_to_string(reader).unwrap();
    assert!(lines.into_bytes() == numbers(400_000), "something is missing");
    assert_eq!(subscriber.end().code(), Some(0));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn empty_input_ends_both_sides_with_success() {
    for _ in 0..5 {
        let mut publisher = start(&["pub", "nil", "--listen", "127.0.0.1:0"]);
        let address = publisher.address();
        let subscriber = start(&["sub", "nil", "--peer", &address, "--until-end"]);
        let publisher = publisher.end();
        assert_eq!(publisher.code(), Some(0), "{}", publisher.stderr);
        let subscriber = subscriber.end();
        assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
        assert!(subscriber.stdout.is_empty());
    }
}

#[test]
fn subscriber_gives_up_when_its_publisher_is_gone_for_its_wait() {
    let mut publisher = start(&["pub", "gone", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let (mut reader, writer) = io::pipe().unwrap();
    let subscriber = start_unread(&["sub", "gone", "--peer", &address, "--wait", "10s"], writer.into());
    let mut input = publisher.stdin.take().unwrap();
    io::Write::write_all(&mut input, b"1\n").unwrap();
    io::Read::read_exact(&mut reader, &mut [0; 2]).unwrap();
    publisher.child.kill().unwrap();
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(3), "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("no publisher is connected any more"), "{}", subscriber.stderr);
    drop(input);
}

#[test]
fn rate_bounds_the_flow_after_a_pause_too() {
    let mut publisher = start(&["pub", "rate", "--listen", "127.0.0.1:0", "--rate", "1000"]);
    let address = publisher.address();
    let fed = publisher.feed(numbers(1_000_000));
    let first = start(&["sub", "rate", "--peer", &address, "--count", "100"]).end();
    assert_eq!(first.code(), Some(0), "{}", first.stderr);
    publisher.wait_for_line("the last consumer left");
    pass_time(Duration::from_secs(1));
    let started = Instant::now();
    let second = start(&["sub", "rate", "--peer", &address, "--for", "1s"]).end();
    // 100 ms are made up for, and a little more is on the way.
    let most = started.elapsed().as_millis() as usize + 500;
    let (received, _) = gaps(&second.stdout);
    assert!(received.len() < most, "{} records, where {most} are the most", received.len());
    drop(publisher);
    fed.join().unwrap();
}

#[test]
fn subscriber_tells_when_publishers_come_and_go() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (mut reader, writer) = io::pipe().unwrap();
    let mut subscriber = start_unread(&["sub", "seam", "--peer", &port, "--count", "20"], writer.into());
    for end in ["was interrupted", "has ended its stream"] {
        let mut publisher = start(&["pub", "seam", "--listen", &port]);
        subscriber.wait_for_line("connected to ");
        let mut input = publisher.stdin.take().unwrap();
        io::Write::write_all(&mut input, &numbers(10)).unwrap();
        let mut lines = numbers(10);
        lines.fill(0);
        io::Read::read_exact(&mut reader, &mut lines).unwrap();
        assert_eq!(text(&lines), text(&numbers(10)));
        if end == "was interrupted" {
            publisher.signal("INT");
            subscriber.wait_for_line(end);
        }
        drop(input);
        publisher.end();
    }
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
}
