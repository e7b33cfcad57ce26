//! An engine beside a first thread that has pinned itself, as latency-critical programs do. In a file of its
//! own, because the mask of the first thread is that of the process for all other tests.

use std::{fs, process, thread};

use corewire::{Engine, EngineConfig};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// The CPUs of this process's threads of that name.
fn masks(name: &str) -> Vec<CpuSet> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap());
    let named = tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    let number = |file: fs::DirEntry| file.file_name().to_str().unwrap().parse().unwrap();
    named.map(|task| sched_getaffinity(Pid::from_raw(number(task))).unwrap()).collect()
}

#[test]
fn pinned_first_thread_does_not_confine_an_engine() {
    let first = Pid::from_raw(process::id().try_into().unwrap());
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
    sched_setaffinity(first, &one).unwrap();
    // A thread that is free starts the engine.
    let config = EngineConfig { shards: 1, pin: false, ..EngineConfig::default() };
    let engine = thread::spawn(move || Engine::start(config).unwrap()).join().unwrap();
    assert_eq!(masks("corewire-0"), [all]);
    assert_eq!(engine.info().warnings.is_empty(), all.count() > 1, "{:?}", engine.info().warnings);
}
