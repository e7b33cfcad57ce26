//! Processes that stand still for a while, as under a debugger or on a host that sleeps.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::rig::*;

/// Records of a flow, and how many are sent a second.
const RECORDS: u64 = 60_000;
const RATE: &str = "10k";

/// Which program is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StoppedSide {
    Publisher,
    Subscriber,
}

/// Stops one side of a flow for some time. Returns what both said.
fn stopped(side: StoppedSide, time: Duration) -> (Ended, Ended) {
    let options = ["pub", "stop", "--listen", "127.0.0.1:0", "--rate", RATE, "--consumers", "2"];
    let mut publisher = start(&options);
    let address = publisher.address();
    let subscriber = start(&["sub", "stop", "--peer", &address, "--until-end"]);
    // It has received some when another one has.
    let fed = publisher.feed(numbers(RECORDS));
    let consumed = start(&["sub", "stop", "--peer", &address, "--count", "2000"]).end();
    assert_eq!(consumed.code(), Some(0), "{}", consumed.stderr);
    let victim = match side {
        StoppedSide::Publisher => &publisher,
        StoppedSide::Subscriber => &subscriber,
    };
    victim.signal("STOP");
    pass_time(time);
    victim.signal("CONT");
    let subscriber = subscriber.end();
    let publisher = publisher.end();
    fed.join().unwrap();
    (publisher, subscriber)
}

#[test]
fn stop_of_three_seconds_loses_nothing() {
    for side in [StoppedSide::Subscriber, StoppedSide::Publisher] {
        let (publisher, subscriber) = stopped(side, Duration::from_secs(3));
        assert_eq!(subscriber.code(), Some(0), "{side:?}: {}", subscriber.stderr);
        assert!(subscriber.stdout == numbers(RECORDS), "{side:?}: the lines differ");
        assert_eq!(publisher.code(), Some(0), "{side:?}: {}", publisher.stderr);
    }
}

#[test]
fn stop_that_breaks_the_session_goes_on_where_it_was() {
    // Up to 2.5 s until it is asked, ten until it is taken for dead, and one more where the timer is late.
    let (publisher, subscriber) = stopped(StoppedSide::Publisher, Duration::from_secs(16));
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("waiting for it to come back"), "{}", subscriber.stderr);
    assert!(subscriber.stdout == numbers(RECORDS), "the lines differ");
    assert_eq!(publisher.code(), Some(0), "{}", publisher.stderr);
}

#[test]
fn consumer_that_was_away_for_too_long_is_told_at_both_ends() {
    let mut publisher = start(&["pub", "away", "--listen", "127.0.0.1:0", "--consumers", "2"]);
    let address = publisher.address();
    let subscribe = || {
        let (reader, writer) = io::pipe().unwrap();
        (reader, start_unread(&["sub", "away", "--peer", &address, "--until-end"], writer.into()))
    };
    let (mut stays_out, stays) = subscribe();
    let (mut stopped_out, mut stopped) = subscribe();
    let mut input = publisher.stdin.take().unwrap();
    input.write_all(b"first\n").unwrap();
    for out in [&mut stays_out, &mut stopped_out] {
        out.read_exact(&mut [0; 6]).unwrap();
    }
    stopped.wait_for_line("connected to ");
    stopped.signal("STOP");
    // Up to 13.5 s until it is taken for dead, as above, and twenty for which its place is kept. It lacks
    // nothing yet.
    pass_time(Duration::from_secs(38));
    let lines = numbers(1_000);
    input.write_all(&lines).unwrap();
    let mut read = vec![0; lines.len()];
    stays_out.read_exact(&mut read).unwrap();
    assert!(read == lines, "the lines differ");
    stopped.signal("CONT");
    stopped.wait_for_line("connected to ");
    drop(input);
    assert_eq!(stays.end().code(), Some(0));
    let stopped = stopped.end();
    assert_eq!(stopped.code(), Some(1), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("1,000 records are missing at the end"), "{}", stopped.stderr);
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(1), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("is back, and misses 1,000 records"), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("1,000 for "), "{}", publisher.stderr);
}
