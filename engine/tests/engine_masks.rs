//! Where the threads of an engine may run.

use std::{fs, thread, time::Instant};

use corewire_engine::{
    Engine, EngineConfig,
    affinity::{Cpus, pin},
};
use corewire_testkit::LIMIT;

/// Value of a line of a thread's status.
fn line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim()
}

/// The masks of this process's threads of that name.
fn masks(name: &str) -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    statuses
        .filter(|status| line(status, "Name:") == name)
        .map(|status| line(&status, "Cpus_allowed_list:").to_owned())
        .collect()
}

#[test]
fn an_engine_of_a_pinned_thread_uses_the_cpus_of_its_process() {
    let process = fs::read_to_string("/proc/self/status").unwrap();
    let of_process = line(&process, "Cpus_allowed_list:");
    // In a thread of its own, because the pin stays.
    let engine = thread::spawn(|| {
        pin(Cpus::detect().allowed[0]).unwrap();
        Engine::start(EngineConfig { shards: 1, pin: false, ..EngineConfig::default() }).unwrap()
    });
    let engine = engine.join().unwrap();
    assert_eq!(masks("corewire-0"), [of_process]);
    // The start does not wait for the clerk's thread, which may be on its first instructions.
    let start = Instant::now();
    while masks("corewire-clerk") != [of_process] {
        assert!(start.elapsed() < LIMIT, "{:?}", masks("corewire-clerk"));
        thread::yield_now();
    }
    let one_cpu = Cpus::detect().usable() == 1;
    assert_eq!(engine.info().warnings.len(), usize::from(one_cpu));
}
