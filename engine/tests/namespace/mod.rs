//! Runs a test in a network namespace of its own, where it may change the loopback interface.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]
#![allow(dead_code, reason = "each test program uses its own part")]

use std::process::Command;

/// Set in a process that runs one test in a network namespace of its own.
const INSIDE: &str = "COREWIRE_TEST_NAMESPACE";

/// Sets the size of the loopback interface.
pub(crate) fn set_mtu(mtu: u32) -> Command {
    let mut command = Command::new("ip");
    command.args(["link", "set", "lo", "mtu", &mtu.to_string(), "up"]);
    command
}

/// Gives the loopback interface an address, or takes it away.
pub(crate) fn set_address(change: &str, address: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["address", change, address, "dev", "lo"]);
    command
}

/// Whether this process is in a namespace of its own. If not, runs `test` there, or prints why it can't.
pub(crate) fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--"]);
        command
    };
    let probe = unshare().args(["ip", "link", "set", "lo", "up"]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("not tested, no namespace here: {}", String::from_utf8_lossy(&output.stderr));
            return false;
        }
        Err(error) => {
            eprintln!("not tested, no unshare(1) here: {error}");
            return false;
        }
    }
    let this = std::env::current_exe().expect("this program");
    let status = unshare().arg(this).args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status();
    assert!(status.expect("a child").success(), "{test} failed in its namespace");
    false
}
