//! Options, messages and exit codes of programs that do not get as far as sending.

use std::fs;
use std::net::UdpSocket;
use std::thread;

use crate::rig::*;

#[test]
fn demonstration_delivers_every_datum_and_reports_it() {
    for io in ["auto", "epoll"] {
        let output = run(&["--for", "300ms", "--rate", "2k", "--io", io]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
        let essentials = [
            "A ring",
            "B udp",
            "C udp",
            "hosted",
            "p99.99",
            "a second",
            "99.9%",
            "in order and unchanged",
            "checksum",
        ];
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
fn programs_on_one_cpu_warn_on_stderr() {
    // A process has the mask of the thread that starts it.
    let on_one_cpu = |arguments: &'static [&str]| {
        let start = move || {
            let cpus = core_affinity::get_core_ids().unwrap();
            assert!(core_affinity::set_for_current(cpus[0]));
            run(arguments)
        };
        thread::spawn(start).join().unwrap()
    };
    for arguments in [
        &["--for", "300ms", "--rate", "1k"][..],
        &["bench", "latency", "--engine", "threads", "--rate", "1k", "--for", "50ms", "--quiet"],
        &["bench", "latency", "--engine", "hosted", "--idle", "spin", "--rate", "1k", "--for", "50ms"],
    ] {
        let output = on_one_cpu(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
        let warned = err.lines().filter(|line| line.starts_with("warning: this process may")).count();
        assert_eq!(warned, 1, "{arguments:?}: {err}");
    }
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
fn publisher_without_consumers_gives_up_after_its_wait() {
    let output = run(&["pub", "s", "--listen", "127.0.0.1:0", "--wait", "300ms"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("corewire sub s"), "{}", text(&output.stderr));
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
    for arguments in [&["--help"][..], &["pub", "--help"], &["sub", "--help"], &["bench", "--help"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        let out = text(&output.stdout);
        assert!(out.contains("Examples:") && out.contains("Exit codes:") && out.contains("TIME is"), "{out}");
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
fn completions_and_man_pages_name_every_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("until-end"), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
    for (page, words) in [
        (&["man"][..], ["corewire\\-pub(1)", "EXIT"]),
        (&["man", "pub"], ["corewire\\-pub", "\\-\\-consumers"]),
        (&["man", "sub"], ["corewire\\-sub", "\\-\\-until\\-end"]),
    ] {
        let output = run(page);
        assert_eq!(output.status.code(), Some(0), "{page:?}");
        let out = text(&output.stdout);
        assert!(out.starts_with(".ie") || out.starts_with(".TH"), "{page:?} is no man page: {out}");
        for word in words {
            assert!(out.to_uppercase().contains(&word.to_uppercase()), "`{word}` is missing in {out}");
        }
    }
    let output = run(&["man", "publish"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn largest_record_and_bad_sizes_are_named() {
    let output = run(&["pub", "s", "--max-datum", "64MiB"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("67,108,846 bytes"), "{}", text(&output.stderr));
}

#[test]
fn minus_is_stdin_and_a_directory_is_refused_at_the_start() {
    let output = run(&["pub", "s", "--listen", "127.0.0.1:0", "--consumers", "0", "--file", "-"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["pub", "s", "--listen", "127.0.0.1:0", "--file", "/"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is a directory"), "{}", text(&output.stderr));
}
