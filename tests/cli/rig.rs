//! Starts the program and reads what it prints.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corewire_testkit::LIMIT;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// A running `corewire` whose output is collected while it runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    notes: Receiver<String>,
    lines: Vec<String>,
}

/// The result of a program that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Makes the programs that this process starts hear the signals, also where it was itself started with them
/// ignored (`nohup`, the background of a script): a signal that a process handles has its default effect in
/// what it executes, an ignored one stays ignored.
fn restore_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let end = Arc::new(AtomicBool::new(true));
            flag::register_conditional_default(signal, end).expect("the signal can be handled");
        }
    });
}

pub(crate) fn program(arguments: &[&str]) -> Command {
    restore_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewire"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

pub(crate) fn start(arguments: &[&str]) -> Running {
    let mut running = start_unread(arguments, Stdio::piped());
    let mut out = running.child.stdout.take().unwrap();
    running.stdout = Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    }));
    running
}

/// Starts a program whose stdout is not read here.
pub(crate) fn start_unread(arguments: &[&str], stdout: Stdio) -> Running {
    start_command(program(arguments), stdout)
}

/// The same of any command.
pub(crate) fn start_command(mut command: Command, stdout: Stdio) -> Running {
    restore_signals();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (tell, notes) = mpsc::channel();
    let err = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || err.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    Running { stdin: child.stdin.take(), child, stdout: None, notes, lines: Vec::new() }
}

impl Running {
    /// Waits for a line on stderr that contains `words`.
    pub(crate) fn wait_for_line(&mut self, words: &str) -> String {
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
    pub(crate) fn address(&mut self) -> String {
        let line = self.wait_for_line("listening on ");
        line.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// Writes its input on another thread, since a pipe holds little, and closes it.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut stdin = self.stdin.take().unwrap();
        // A program that ends early closes the pipe; the test checks its exit code.
        thread::spawn(move || drop(stdin.write_all(&bytes)))
    }

    /// Sends it a signal by its name, as in `kill -s NAME`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Closes its input and waits until it has ended.
    pub(crate) fn end(mut self) -> Ended {
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
        let stdout = self.stdout.take().map_or_else(Vec::new, |stdout| stdout.join().unwrap());
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

pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut command = program(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    output_of(command.spawn().expect("the program runs"))
}

/// What a program has written when it has ended, which it must do in time.
pub(crate) fn output_of(child: Child) -> Output {
    let id = child.id().to_string();
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    ended.recv_timeout(LIMIT).map(Result::unwrap).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
        panic!("the program still runs; it has written: {:?}", ended.recv());
    })
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `seq 1 count`.
pub(crate) fn numbers(count: u64) -> Vec<u8> {
    (1..=count).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

/// Sends `input` from one process to another and returns what the other wrote.
pub(crate) fn pass(input: Vec<u8>, count: u64, options: &[&str]) -> Vec<u8> {
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

/// Lets time pass in which nothing is to happen here.
pub(crate) fn pass_time(time: Duration) {
    let (_open, nothing) = mpsc::channel::<()>();
    assert_eq!(nothing.recv_timeout(time), Err(mpsc::RecvTimeoutError::Timeout));
}

/// The numbers that were written, a line each; checks that they are in order. Also how many lie between them
/// and are absent.
pub(crate) fn gaps(lines: &[u8]) -> (Vec<u64>, u64) {
    let numbers: Vec<u64> = text(lines).lines().map(|line| line.parse().unwrap()).collect();
    let mut missing = 0;
    for pair in numbers.windows(2) {
        assert!(pair[0] < pair[1], "{} comes before {}", pair[0], pair[1]);
        missing += pair[1] - pair[0] - 1;
    }
    (numbers, missing)
}
