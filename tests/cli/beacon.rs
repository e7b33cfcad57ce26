//! Programs that find each other without addresses.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use corewire_testkit::LIMIT;

use crate::namespace::in_namespace;
use crate::rig::*;

/// Held by the test that needs the default port to be taken.
static DEFAULT_PORT: Mutex<()> = Mutex::new(());

/// Takes the default port, so that only the beacon can help. If another program has it, it is taken too.
fn take_default_port() -> (MutexGuard<'static, ()>, Option<UdpSocket>) {
    let held = DEFAULT_PORT.lock().unwrap_or_else(PoisonError::into_inner);
    (held, UdpSocket::bind("127.0.0.1:7411").ok())
}

/// A network of this test's own.
fn network(name: &str) -> String {
    format!("{name} {}", std::process::id())
}

#[test]
fn two_programs_without_addresses_meet_on_one_host() {
    let _taken = take_default_port();
    let network = network("zero");
    let mut publisher = start(&["pub", "s", "--network", &network]);
    let line = publisher.wait_for_line("without addresses");
    if line.contains("not found") {
        return;
    }
    let fed = publisher.feed(numbers(100));
    let subscriber = start(&["sub", "s", "--network", &network, "--count", "100"]).end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    assert_eq!(text(&subscriber.stdout), text(&numbers(100)));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn programs_without_beacons_do_not_meet() {
    let _taken = take_default_port();
    let network = network("alone");
    let publisher = start(&["pub", "s", "--network", &network]);
    let output = run(&["sub", "s", "--network", &network, "--no-beacon", "--wait", "1s"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    publisher.signal("TERM");
    assert_eq!(publisher.end().code(), Some(143));
    let output = run(&["sub", "s", "--lan", "--no-beacon"]);
    assert_eq!(output.status.code(), Some(2), "the two contradict each other");
}

#[test]
fn a_program_at_the_unspecified_address_is_met_through_a_hub() {
    let network = network("hub");
    let options = |more: &[&str]| -> Vec<String> {
        more.iter().copied().chain(["--network", &network]).map(str::to_owned).collect()
    };
    let start = |more: &[&str]| {
        let options = options(more);
        start(&options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut hub = start(&["sub", "other", "--listen", "127.0.0.1:0"]);
    let address = hub.address();
    let mut publisher = start(&["pub", "via", "--listen", "0.0.0.0:0", "--peer", &address]);
    let fed = publisher.feed(numbers(10));
    let subscriber = start(&["sub", "via", "--peer", &address, "--count", "10"]).end();
    assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
    assert_eq!(subscriber.stdout, numbers(10));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
    hub.signal("TERM");
    assert_eq!(hub.end().code(), Some(0));
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip(8)");
    assert!(status.success(), "ip {arguments:?}");
}

#[test]
fn two_hosts_on_one_link_meet_without_addresses() {
    if in_namespace("beacon::two_hosts_on_one_link_meet_without_addresses") {
        two_hosts(["10.78.0.1/24", "10.78.0.2/24"]);
    }
}

#[test]
fn two_hosts_that_have_addresses_of_their_link_only_meet() {
    if in_namespace("beacon::two_hosts_that_have_addresses_of_their_link_only_meet") {
        two_hosts(["fe80::78:1/64", "fe80::78:2/64"]);
    }
}

/// Two hosts on one link: this namespace, and that of a child, joined by a pair of virtual interfaces.
fn two_hosts([near, far]: [&str; 2]) {
    let setup = "read go; ip link set lo up; ip link set far addrgenmode none; \
                 ip addr add \"$0\" dev far nodad; ip link set far up; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_corewire");
    let mut subscriber = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", setup, far, program, "sub", "s", "--lan", "--count", "50"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    ip(&["link", "set", "lo", "up"]);
    ip(&["link", "add", "near", "type", "veth", "peer", "name", "far"]);
    // The child has its own namespace once `unshare` has made way for the shell.
    let id = subscriber.id().to_string();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let until = Instant::now() + LIMIT;
    while std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap() == own {
        assert!(Instant::now() < until, "the child has no namespace of its own");
        std::thread::yield_now();
    }
    ip(&["link", "set", "far", "netns", &id]);
    ip(&["link", "set", "near", "addrgenmode", "none"]);
    ip(&["addr", "add", near, "dev", "near", "nodad"]);
    ip(&["link", "set", "near", "up"]);
    subscriber.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut publisher = start(&["pub", "s", "--lan"]);
    publisher.wait_for_line("its links");
    let fed = publisher.feed(numbers(50));
    let output = output_of(subscriber);
    assert_eq!(text(&output.stdout), text(&numbers(50)));
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}

#[test]
fn three_programs_meet_with_nothing_but_a_name_and_a_secret() {
    if !in_namespace("beacon::three_programs_meet_with_nothing_but_a_name_and_a_secret") {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    let _taken = UdpSocket::bind("[::]:7411").expect("the default port of a namespace of its own");
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "open sesame").unwrap();
    let options = ["--network", "three", "--secret-file", path(&secret)];
    let mut publisher = start(&[&["pub", "s", "--consumers", "2"], &options[..]].concat());
    let fed = publisher.feed(numbers(200));
    let subscribers = [1, 2].map(|_| start(&[&["sub", "s", "--count", "200"], &options[..]].concat()));
    for subscriber in subscribers {
        let subscriber = subscriber.end();
        assert_eq!(subscriber.code(), Some(0), "{}", subscriber.stderr);
        assert_eq!(text(&subscriber.stdout), text(&numbers(200)));
    }
    assert_eq!(publisher.end().code(), Some(0));
    fed.join().unwrap();
}
