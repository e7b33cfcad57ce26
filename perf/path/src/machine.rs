//! The machine: pinning, the clock that processes share, and facts for the report.

use std::fs;
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Nanoseconds of the machine's monotonic clock.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Lets the calling thread, and those that it starts, run on `cpu` only.
pub(crate) fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Processor, kernel, commit and load, one line each, for the head of a report.
pub(crate) fn facts() -> Vec<String> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let info = text("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit =
        commit.map_or_else(|_| String::new(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    vec![
        format!("processor: {}, {cpus} CPUs", model.unwrap_or(" unknown").trim()),
        format!("kernel: Linux {}", text("/proc/sys/kernel/osrelease")),
        format!("commit: {}", commit.trim()),
        format!("load before the first run: {}", text("/proc/loadavg")),
    ]
}
