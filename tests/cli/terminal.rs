//! Progress on a terminal.

use std::fs::File;
use std::io::{self, Read};
use std::process::Stdio;

use corewire_testkit::LIMIT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::rig::*;

/// The two ends of a new terminal.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    (File::from(ours), theirs)
}

/// Reads a terminal until `word` is there.
fn read_until(terminal: &mut File, word: &str) -> String {
    let mut seen = Vec::new();
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    while !text(&seen).contains(word) {
        let ready = poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&limit)).unwrap();
        assert!(ready > 0, "`{word}` does not come: {}", text(&seen));
        let mut bytes = [0; 1_024];
        let read = terminal.read(&mut bytes).unwrap_or_else(|error| panic!("{error}: {}", text(&seen)));
        seen.extend_from_slice(&bytes[..read]);
    }
    text(&seen)
}

#[test]
fn progress_is_shown_on_a_terminal_and_cleared_for_messages() {
    let (mut ours, theirs) = terminal();
    let mut publisher = program(&["pub", "seen", "--listen", "127.0.0.1:0", "--rate", "1k"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(theirs)
        .spawn()
        .unwrap();
    let greeting = read_until(&mut ours, "waiting for a consumer");
    let address = greeting.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    let fed = std::thread::spawn(move || io::Write::write_all(&mut input, &numbers(2_000)));
    let subscriber = start(&["sub", "seen", "--peer", address, "--until-end"]);
    let line = read_until(&mut ours, " connected");
    assert!(line.contains(" a second, ") && line.contains(" behind, "), "{line}");
    let end = read_until(&mut ours, "has them all");
    assert!(end.contains("\r\x1b[K2,000 records in "), "{end:?}");
    assert_eq!(publisher.wait().unwrap().code(), Some(0));
    // Its stderr is a pipe.
    let subscriber = subscriber.end();
    assert!(!subscriber.stderr.contains('\r'), "{}", subscriber.stderr);
    fed.join().unwrap().unwrap();
}
