//! Signals and closed outputs while the program is blocked.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::*;

/// How long a program may take to end after a signal. It gives a blocked output a second.
const PROMPTLY: Duration = Duration::from_secs(10);

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn signal_ends_a_waiting_program_with_the_shells_exit_code() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut publisher = start(&["pub", "s", "--listen", "127.0.0.1:0"]);
        publisher.wait_for_line("waiting for");
        publisher.signal(signal);
        // Its input stays open: the program must end without end of input.
        let input = publisher.stdin.take();
        assert_eq!(publisher.end().code(), Some(code), "{signal}");
        drop(input);
    }
}

#[test]
fn one_signal_ends_a_subscriber_whose_output_is_blocked() {
    let mut publisher = start(&["pub", "blocked", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let (reader, writer) = io::pipe().unwrap();
    let subscriber = start_unread(&["sub", "blocked", "--peer", &address], writer.into());
    // More than all buffers on the way hold, so that the publisher comes to a stand.
    let fed = publisher.feed(numbers(1_000_000));
    publisher.wait_for_line("stands still");
    let pressed = Instant::now();
    subscriber.signal("TERM");
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(143), "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("not written"), "{}", subscriber.stderr);
    assert!(pressed.elapsed() < PROMPTLY, "took {:?}", pressed.elapsed());
    drop(reader);
    drop(publisher);
    fed.join().unwrap();
}

#[test]
fn one_signal_ends_a_publisher_that_waits_for_the_writer_of_its_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fifo");
    fifo(&file);
    let options = ["pub", "s", "--listen", "127.0.0.1:0", "--consumers", "0", "--file", path(&file)];
    let mut publisher = start(&options);
    publisher.wait_for_line("listening on");
    // The thread that opens it runs.
    let tasks = format!("/proc/{}/task", publisher.child.id());
    let is_reader = |task: fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "corewire-pub")
    };
    let until = Instant::now() + PROMPTLY;
    while !fs::read_dir(&tasks).unwrap().map_while(Result::ok).any(is_reader) {
        assert!(Instant::now() < until, "the file is not opened");
        std::thread::yield_now();
    }
    publisher.signal("INT");
    assert_eq!(publisher.end().code(), Some(130));
}

#[test]
fn signal_that_is_ignored_at_the_start_stays_ignored() {
    for signal in ["HUP", "INT"] {
        // As `nohup` does, and a shell for a job in the background.
        let line = format!("trap '' {signal}; exec \"$0\" pub calm --listen 127.0.0.1:0");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_corewire")]).env("NO_COLOR", "1");
        let mut publisher = start_command(command, Stdio::null());
        let address = publisher.address();
        publisher.signal(signal);
        let subscriber = start(&["sub", "calm", "--peer", &address, "--count", "10"]);
        let fed = publisher.feed(numbers(10));
        let subscriber = subscriber.end();
        assert_eq!(subscriber.code(), Some(0), "{signal}: {}", subscriber.stderr);
        let publisher = publisher.end();
        assert_eq!(publisher.code(), Some(0), "{signal}: {}", publisher.stderr);
        fed.join().unwrap();
    }
}

#[test]
fn one_signal_ends_a_program_that_waits_for_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fifo");
    fifo(&file);
    let program = start(&["sub", "s", "--secret-file", path(&file)]);
    // Opening succeeds once the program has opened its end.
    let writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    program.signal("TERM");
    assert_eq!(program.end().code(), Some(143));
    drop(writer);
}

#[test]
fn secret_may_come_from_a_fifo_and_must_not_be_endless() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fifo");
    fifo(&file);
    let mut program = start(&["sub", "s", "--listen", "127.0.0.1:0", "--secret-file", path(&file)]);
    fs::write(&file, "open sesame").unwrap();
    program.wait_for_line("listening on");
    program.signal("TERM");
    // It had no goal but to be ended.
    assert_eq!(program.end().code(), Some(0));
    let output = run(&["sub", "s", "--secret-file", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("longer than 64 KiB"), "{}", text(&output.stderr));
}

#[test]
fn subscriber_ends_when_its_reader_has_gone_although_no_record_comes() {
    let mut publisher = start(&["pub", "pause", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let (mut reader, writer) = io::pipe().unwrap();
    let subscriber = start_unread(&["sub", "pause", "--peer", &address], writer.into());
    let mut input = publisher.stdin.take().unwrap();
    io::Write::write_all(&mut input, b"one\n").unwrap();
    let mut line = [0; 4];
    io::Read::read_exact(&mut reader, &mut line).unwrap();
    assert_eq!(&line, b"one\n");
    drop(reader);
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    drop(input);
    assert_eq!(publisher.end().code(), Some(0));
}

#[test]
fn full_disk_is_an_error_of_the_subscriber() {
    let mut publisher = start(&["pub", "full", "--listen", "127.0.0.1:0"]);
    let address = publisher.address();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let subscriber = start_unread(&["sub", "full", "--peer", &address, "--count", "9"], full.into());
    let fed = publisher.feed(numbers(9));
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(1), "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("cannot write the output"), "{}", subscriber.stderr);
    publisher.end();
    fed.join().unwrap();
}

#[test]
fn demonstration_whose_reader_has_gone_ends_without_an_error() {
    let mut demonstration = program(&["--for", "200ms", "--rate", "1k"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(demonstration.stdout.take());
    let ended = demonstration.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), &*text(&ended.stderr)), (Some(0), ""));
}
