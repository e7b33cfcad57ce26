//! How the programs end: inputs that fail, publishers and consumers that are gone.

use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::rig::*;

#[test]
fn publisher_whose_consumers_left_gives_up_after_its_wait() {
    let mut publisher = start(&["pub", "left", "--listen", "127.0.0.1:0", "--wait", "10s"]);
    let address = publisher.address();
    let subscriber = start(&["sub", "left", "--peer", &address, "--count", "1"]);
    // More than every buffer on the way holds.
    let fed = publisher.feed(numbers(500_000));
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(3), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("last consumer"), "{}", publisher.stderr);
    fed.join().unwrap();
}

#[test]
fn truncated_input_is_an_error_after_the_whole_records_are_sent() {
    let mut publisher = start(&["pub", "cut", "--listen", "127.0.0.1:0", "--format", "length-prefixed"]);
    let address = publisher.address();
    let subscriber = start(&["sub", "cut", "--peer", &address, "--count", "1"]);
    let fed = publisher.feed(b"\x05\0\0\0whole\x09\0\0\0cut".to_vec());
    let subscriber = subscriber.end();
    assert_eq!(
        (subscriber.code(), &subscriber.stdout[..]),
        (Some(0), &b"whole\n"[..]),
        "{}",
        subscriber.stderr
    );
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(1), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("record 2"), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("records sent before the failure: 1"), "{}", publisher.stderr);
    assert!(!publisher.stderr.contains("interrupted"), "no signal came: {}", publisher.stderr);
    fed.join().unwrap();
}

#[test]
fn record_too_long_is_an_error_that_names_the_option() {
    let mut publisher =
        start(&["pub", "long", "--listen", "127.0.0.1:0", "--max-datum", "10", "--consumers", "0"]);
    let fed = publisher.feed(b"short\nthis one is longer\n".to_vec());
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(1), "{}", publisher.stderr);
    assert!(
        publisher.stderr.contains("--max-datum") && publisher.stderr.contains("record 2"),
        "{}",
        publisher.stderr
    );
    fed.join().unwrap();
}

#[test]
fn subscriber_without_an_output_gives_a_note_and_goes_on() {
    // Other programs open /dev/null for both when they want no output.
    for (output, told) in [(">&-", true), ("1<>/dev/null", true), ("> /dev/null", false)] {
        let (code, stderr) = shell(&format!("sub shut --listen 127.0.0.1:0 --wait 10ms {output}"));
        assert_eq!(code, Some(3), "{output}: {stderr}");
        assert_eq!(stderr.contains("the records are thrown away"), told, "{output}: {stderr}");
    }
}

#[test]
fn publisher_without_an_input_gives_a_note() {
    for (input, told) in [("<&-", true), ("0<>/dev/null", true), ("< /dev/null", false)] {
        let (code, stderr) = shell(&format!("pub shut --listen 127.0.0.1:0 --consumers 0 {input}"));
        assert_eq!(code, Some(0), "{input}: {stderr}");
        assert_eq!(stderr.contains("no records to send"), told, "{input}: {stderr}");
    }
}

/// The exit code and the messages of the program, with these arguments in a shell.
fn shell(arguments: &str) -> (Option<i32>, String) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" {arguments}"), env!("CARGO_BIN_EXE_corewire")]);
    let ended = command.output().expect("a shell");
    (ended.status.code(), text(&ended.stderr))
}

#[test]
fn closed_output_ends_a_subscriber_without_an_error() {
    let mut publisher = start(&["pub", "closed", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let mut subscriber = program(&["sub", "closed", "--peer", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(subscriber.stdout.take());
    let fed = publisher.feed(numbers(100_000));
    let ended = subscriber.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert!(!text(&ended.stderr).contains("panic"), "{}", text(&ended.stderr));
    drop(publisher);
    fed.join().unwrap();
}

/// A publisher of endless input that has a subscriber with `--until-end`, which has some records.
fn publisher_in_full_flow(stream: &str) -> (Running, Running, JoinHandle<()>) {
    let options = ["pub", stream, "--listen", "127.0.0.1:0", "--rate", "2k", "--consumers", "2"];
    let mut publisher = start(&options);
    let address = publisher.address();
    let subscriber = start(&["sub", stream, "--peer", &address, "--until-end"]);
    let fed = publisher.feed(numbers(1_000_000));
    // It has some when another one has.
    let consumed = start(&["sub", stream, "--peer", &address, "--count", "500"]).end();
    assert_eq!(consumed.code(), Some(0), "{}", consumed.stderr);
    (publisher, subscriber, fed)
}

#[test]
fn killed_publisher_is_no_success_for_until_end() {
    let (mut publisher, subscriber, fed) = publisher_in_full_flow("killed");
    publisher.child.kill().unwrap();
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(1), "{}", subscriber.stderr);
    let records = text(&subscriber.stdout).lines().count();
    assert!(records > 0, "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("without having ended"), "{}", subscriber.stderr);
    drop(publisher);
    fed.join().unwrap();
}

#[test]
fn interrupted_publisher_is_no_success_for_until_end() {
    let (publisher, subscriber, fed) = publisher_in_full_flow("interrupted");
    publisher.signal("INT");
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(1), "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("the publisher was interrupted"), "{}", subscriber.stderr);
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(130), "{}", publisher.stderr);
    assert!(publisher.stderr.contains("interrupted after "), "{}", publisher.stderr);
    fed.join().unwrap();
}

#[test]
fn interrupted_subscriber_is_no_success_for_until_end() {
    let (publisher, subscriber, fed) = publisher_in_full_flow("stopped");
    subscriber.signal("TERM");
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(143), "{}", subscriber.stderr);
    drop(publisher);
    fed.join().unwrap();
}

#[test]
fn killed_publisher_is_given_up_soon_behind_a_hub_that_lives() {
    let mut hub = start(&["sub", "other", "--listen", "127.0.0.1:0"]);
    let hub_address = hub.address();
    let options = ["pub", "hub", "--listen", "127.0.0.1:0", "--peer", &hub_address, "--rate", "100"];
    let mut publisher = start(&options);
    let mut subscriber = start(&["sub", "hub", "--peer", &hub_address, "--until-end"]);
    let fed = publisher.feed(numbers(1_000_000));
    subscriber.wait_for_line("connected to ");
    publisher.child.kill().unwrap();
    subscriber.wait_for_line("waiting for it to come back");
    let since = Instant::now();
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(1), "{}", subscriber.stderr);
    assert!(since.elapsed() < Duration::from_secs(30), "a silent one is given 60 s: {:?}", since.elapsed());
    drop(publisher);
    fed.join().unwrap();
}
