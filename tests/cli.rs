//! The program end to end: the built binary, real processes and sockets, ports chosen by the system.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corewire_testkit::LIMIT;

/// A running `corewire` whose output is collected while it runs.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    notes: Receiver<String>,
    lines: Vec<String>,
}

/// The result of a program that has ended.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ended {
    fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewire"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

fn start(arguments: &[&str]) -> Running {
    let mut child = program(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut out = child.stdout.take().unwrap();
    let stdout = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let (tell, notes) = mpsc::channel();
    let err = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || err.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    Running { stdin: child.stdin.take(), child, stdout: Some(stdout), notes, lines: Vec::new() }
}

impl Running {
    /// Waits for a line on stderr that contains `words`.
    fn wait_for_line(&mut self, words: &str) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            match self.notes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.lines.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!("`{words}` was not printed ({error}); printed: {:#?}", self.lines),
            }
        }
    }

    /// The address that it prints.
    fn address(&mut self) -> String {
        let line = self.wait_for_line("listening on ");
        line.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// Writes its input on another thread, since a pipe holds little, and closes it.
    fn feed(&mut self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut stdin = self.stdin.take().unwrap();
        // A program that ends early closes the pipe; the test checks its exit code.
        thread::spawn(move || drop(stdin.write_all(&bytes)))
    }

    /// Closes its input and waits until it has ended.
    fn end(mut self) -> Ended {
        drop(self.stdin.take());
        // stderr is closed when the program ends.
        let until = Instant::now() + LIMIT;
        loop {
            match self.notes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running; printed: {:#?}", self.lines),
            }
        }
        let status = self.child.wait().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Ended { status, stdout, stderr: self.lines.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It still runs only if a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).stdin(Stdio::null()).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `seq 1 count`.
fn numbers(count: u64) -> Vec<u8> {
    (1..=count).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

/// Sends `input` from one process to another and returns what the other wrote.
fn pass(input: Vec<u8>, count: u64, options: &[&str]) -> Vec<u8> {
    let mut publisher = start(&[&["pub", "stream", "--listen", "127.0.0.1:0"], options].concat());
    let address = publisher.address();
    let count = count.to_string();
    let subscriber = start(&[&["sub", "stream", "--peer", &address, "--count", &count], options].concat());
    let fed = publisher.feed(input);
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    let publisher = publisher.end();
    assert_eq!(publisher.code(), Some(0), "{}", publisher.stderr);
    assert!(publisher.stdout.is_empty(), "a publisher writes nothing to stdout");
    fed.join().unwrap();
    subscriber.stdout
}

#[test]
fn demonstration_delivers_every_datum_and_reports_it() {
    for io in ["auto", "epoll"] {
        let output = run(&["--for", "300ms", "--rate", "2k", "--io", io]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
        let essentials =
            ["A ring", "B udp", "C udp", "p99.99", "a second", "99.9%", "in order and unchanged", "checksum"];
        for word in essentials {
            assert!(out.contains(word), "`{word}` is missing in\n{out}");
        }
        assert!(out.is_ascii(), "plain text for a pipe:\n{out}");
        assert!(out.lines().all(|line| line.len() <= 80), "80 columns are enough:\n{out}");
        if io == "epoll" {
            assert!(out.contains("epoll"), "the driver is named:\n{out}");
        }
    }
}

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
    let subscriber = start(&["sub", "slow", "--peer", &address, "--count", "50"]);
    let fed = publisher.feed(numbers(50));
    publisher.wait_for_line("waiting for");
    let started = Instant::now();
    assert_eq!(subscriber.end().stdout, numbers(50));
    // 49 steps of 5 ms after the first; faster would mean that the rate was not kept.
    assert!(started.elapsed() >= Duration::from_millis(200), "took only {:?}", started.elapsed());
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn wrong_secret_times_out_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    fs::write(&ours, "open sesame").unwrap();
    fs::write(&theirs, "open barley").unwrap();
    let mut publisher = start(&["pub", "s", "--listen", "127.0.0.1:0", "--secret-file", path(&ours)]);
    let address = publisher.address();
    let output = run(&["sub", "s", "--peer", &address, "--secret-file", path(&theirs), "--wait", "1s"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("--secret-file") && err.contains(&address), "{err}");
}

#[test]
fn message_of_a_failed_connection_says_what_came_back() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let port = free.rsplit(':').next().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    for (peer, listen, what) in [
        (&*free, "127.0.0.1:0", "refused"),
        (&format!("localhost:{port}"), "0.0.0.0:0", "refused"),
        (&silent_address, "127.0.0.1:0", "no reply"),
        ("[2001:db8::1]:9", "127.0.0.1:0", "no socket of its address family"),
        ("192.0.2.1:9", "127.0.0.1:0", "loopback interface"),
        ("nowhere.invalid:9", "127.0.0.1:0", "not resolved"),
    ] {
        let output = run(&["sub", "s", "--peer", peer, "--listen", listen, "--wait", "1500ms"]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{err}");
        assert!(err.contains(what) && err.contains(peer), "`{what}` is missing: {err}");
    }
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

#[test]
fn publisher_without_consumers_gives_up_after_its_wait() {
    let output = run(&["pub", "s", "--listen", "127.0.0.1:0", "--wait", "300ms"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("corewire sub s"), "{}", text(&output.stderr));
}

#[test]
fn publisher_whose_consumers_left_gives_up_after_its_wait() {
    let mut publisher = start(&["pub", "left", "--listen", "127.0.0.1:0", "--wait", "2s"]);
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
fn count_not_reached_in_time_has_its_own_exit_code() {
    let output = run(&["sub", "s", "--peer", "127.0.0.1:9", "--count", "5", "--for", "300ms"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("0 of 5"), "{err}");
}

#[test]
fn port_in_use_is_named_with_its_cure() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["pub", "s", "--listen", &address]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains(&address) && err.contains("--listen"), "{err}");
}

#[test]
fn unknown_options_and_missing_arguments_are_usage_errors() {
    for arguments in
        [&["--no-such-option"][..], &["pub"], &["sub", "s", "--count", "many"], &["publish", "s"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_shows_examples_and_exit_codes() {
    for arguments in [&["--help"][..], &["pub", "--help"], &["sub", "--help"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        let out = text(&output.stdout);
        assert!(out.contains("Examples:") && out.contains("Exit codes:"), "{out}");
    }
}

#[test]
fn missing_input_file_is_named() {
    let output = run(&["pub", "s", "--listen", "127.0.0.1:0", "--file", "no/such/file"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains("no/such/file"), "{err}");
    let output = run(&["sub", "s", "--secret-file", "no/such/secret"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
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
fn signal_ends_a_waiting_program_with_the_shells_exit_code() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut publisher = start(&["pub", "s", "--listen", "127.0.0.1:0"]);
        publisher.wait_for_line("waiting for");
        let kill =
            Command::new("kill").args(["-s", signal, &publisher.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        // Its input stays open: the program must end without end of input.
        let input = publisher.stdin.take();
        assert_eq!(publisher.end().code(), Some(code), "{signal}");
        drop(input);
    }
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
    let mut publisher = start(&["pub", stream, "--listen", "127.0.0.1:0", "--rate", "2k"]);
    let address = publisher.address();
    let subscriber = start(&["sub", stream, "--peer", &address, "--until-end"]);
    let fed = publisher.feed(numbers(1_000_000));
    publisher.wait_for_line("waiting for");
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
    let id = publisher.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let subscriber = subscriber.end();
    assert_eq!(subscriber.code(), Some(1), "{}", subscriber.stderr);
    assert!(subscriber.stderr.contains("the publisher was interrupted"), "{}", subscriber.stderr);
    assert_eq!(publisher.end().code(), Some(130));
    fed.join().unwrap();
}
