//! The house rules: conventions that neither the compiler nor a lint checks. `ARCHITECTURE.md` gives the
//! reasons.
//!
//! The rules look at text, line by line; what needs a parser is left to lints. Each rule that is more than a
//! search for a word has a test of its own on made-up text.

mod crates;
mod documents;
mod examples;
mod knobs;
mod language;
mod layers;
mod names;
mod source;

use source::{Source, contains_word, finding, none, read, sources};

/// Longest file of code, in lines. A longer one is split.
const MAX_LINES: usize = 600;

/// Where `unsafe` is allowed: shared memory, packet memory, and the system calls behind the drivers.
const UNSAFE_ROOMS: &[&str] = &[
    "engine/rings/src/arena.rs",
    "engine/rings/src/claim.rs",
    "engine/rings/src/descriptors.rs",
    "engine/rings/src/fence.rs",
    "engine/rings/src/guard.rs",
    "engine/rings/src/read.rs",
    "engine/src/buffer/",
    "engine/src/driver/uring/",
    "engine/src/driver/sys/",
    // The drivers' tests set socket options and install seccomp filters; the standard library offers neither.
    "engine/tests/driver_",
    // A ring without any checks: the lower bound beside which the real one is measured. Nothing else uses it.
    "perf/src/rings/limits.rs",
    // An allocator that counts.
    "perf/wire/src/alloc.rs",
];

/// Where atomics and locks of the standard library are named, and why. All other files use the flags,
/// counters and locks of `corewire_rings::sync`, whose orderings are in one place.
const ATOMIC_ROOMS: &[(&str, &str)] = &[
    ("engine/rings/src/", "the memory that threads share, checked by models"),
    ("engine/src/buffer/mod.rs", "counts memory of the process, in a static"),
    ("engine/src/counters.rs", "counters with one writer, which need no read-modify-write"),
    ("engine/src/driver/sim/", "the end of a simulated socket"),
    ("engine/src/driver/uring/buffers.rs", "an index that the kernel shares"),
    ("engine/src/idle.rs", "counts the process's threads that spin, in a static"),
    ("engine/src/shared/channel.rs", "counters and levels with one writer"),
    ("engine/src/shared/egress.rs", "a limit of the bandwidth that shards share"),
    ("engine/src/shared/path.rs", "levels with one writer"),
    ("engine/src/shared/port.rs", "numbers that are given once"),
    ("engine/src/shared/publication.rs", "the code that a stream ends with"),
    ("engine/src/shared/subscription.rs", "the version of a list of legs"),
    ("src/cli/", "the program uses the library's public interface only"),
    ("src/raw/stats.rs", "a time with one writer"),
    ("src/raw/table.rs", "numbers that are given once"),
];

/// The words are put together here so that this file does not find itself.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
const SLEEPS: &[&str] = &[concat!("thread::", "sleep"), concat!("time::", "sleep(")];
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
const UNSAFE: &str = concat!("un", "safe");

#[test]
fn no_file_of_code_is_longer_than_the_limit() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{}: {lines} lines", source.path));
        }
    }
    none("files of code have at most 600 lines", &findings);
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        if UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
            continue;
        }
        for (line, code) in source.code() {
            let acts = ["{", "fn", "impl", "extern", "trait"];
            if acts.iter().any(|act| code.contains(&format!("{UNSAFE} {act}")))
                || code.contains(&format!("({UNSAFE}_code)")) && code.contains("allow")
            {
                findings.push(finding(source, line, code));
            }
        }
    }
    none("unsafe code outside its rooms", &findings);
    let sources = sources();
    let is_used = |room: &str| {
        let mut inside = sources.iter().filter(|source| source.is_rust() && source.path.starts_with(room));
        inside.any(|source| source.code().any(|(_, code)| contains_word(code, UNSAFE)))
    };
    let empty: Vec<String> =
        UNSAFE_ROOMS.iter().filter(|room| !is_used(room)).map(ToString::to_string).collect();
    none("rooms without unsafe code", &empty);
}

#[test]
fn atomics_and_std_locks_stay_in_their_rooms() {
    let names = |code: &str| {
        let orders = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
        contains_word(code, "atomic")
            || ["Mutex", "RwLock", "Condvar"].iter().any(|lock| contains_word(code, lock))
            || orders.iter().any(|order| code.contains(&format!("Ordering::{order}")))
    };
    let sources = sources();
    let mut findings = Vec::new();
    let shipped = |source: &&Source| {
        source.is_rust() && (source.path.starts_with("src/") || source.path.starts_with("engine/"))
    };
    for source in sources.iter().filter(shipped) {
        if ATOMIC_ROOMS.iter().any(|(room, _)| source.path.starts_with(room)) {
            continue;
        }
        for (line, code) in source.shipped_and_tests().0 {
            if names(code) {
                findings.push(finding(source, line, code));
            }
        }
    }
    none("atomics and locks of the standard library outside their rooms", &findings);
    let is_used = |room: &str| {
        let mut inside = sources.iter().filter(|source| source.path.starts_with(room));
        inside.any(|source| source.code().any(|(_, code)| names(code)))
    };
    let empty: Vec<String> =
        ATOMIC_ROOMS.iter().filter(|(room, _)| !is_used(room)).map(|(room, _)| room.to_string()).collect();
    none("rooms without atomics or locks", &empty);
}

#[test]
fn the_protocol_has_no_std_clock_socket_or_thread() {
    let lib = read("engine/proto/src/lib.rs");
    for attribute in ["no_std", &format!("forbid({UNSAFE}_code)")] {
        assert!(lib.contains(attribute), "engine/proto/src/lib.rs lacks {attribute}");
    }
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| s.is_rust() && s.path.starts_with("engine/proto/src/")) {
        let shipped = source.shipped_and_tests().0;
        for (index, &(line, code)) in shipped.iter().enumerate() {
            // One item for the tests or for the bug bank alone, such as their `extern crate std`.
            let before = index.checked_sub(1).map_or("", |before| shipped[before].1);
            if ["#[cfg(test)]", "#[cfg(corewire_bugs)]"].iter().any(|only| before.starts_with(only)) {
                continue;
            }
            for word in ["std::", "extern crate std", "Instant::now", "SystemTime", "UdpSocket", "thread::"] {
                if contains_word(code, word.trim_end_matches("::")) && code.contains(word) {
                    findings.push(finding(source, line, code));
                }
            }
        }
    }
    none("the protocol gets its time and bytes from its caller", &findings);
}

#[test]
fn shards_and_the_clerk_have_no_clock_of_their_own() {
    let rooms = ["engine/src/shard/", "engine/src/shared/", "engine/src/clerk/"];
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| rooms.iter().any(|room| source.path.starts_with(room))) {
        for (line, code) in source.shipped_and_tests().0 {
            if ["Instant::now", "SystemTime::now", "elapsed()"].iter().any(|word| code.contains(word)) {
                findings.push(finding(source, line, code));
            }
        }
    }
    none("a simulated run replays only if the driver's clock is the only one", &findings);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        for (line, code) in source.code() {
            if UNFINISHED.iter().any(|word| code.contains(word)) {
                findings.push(finding(source, line, code));
            }
        }
    }
    none("unfinished code", &findings);
}

#[test]
fn tests_never_wait_by_sleeping() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        for (line, code) in source.shipped_and_tests().1 {
            if SLEEPS.iter().any(|word| code.contains(word)) {
                findings.push(finding(source, line, code));
            }
        }
    }
    none("a test that sleeps instead of waiting for an event", &findings);
}

#[test]
fn no_path_of_a_developers_machine_is_in_the_project() {
    let mut findings = Vec::new();
    for source in &sources() {
        for (at, text) in source.text.lines().enumerate() {
            if MACHINE_PATHS.iter().any(|path| text.contains(path)) {
                findings.push(finding(source, at + 1, text));
            }
        }
    }
    none("absolute paths of one machine", &findings);
}

#[test]
fn every_file_of_the_crates_starts_with_its_purpose() {
    let mut findings = Vec::new();
    let shipped =
        |source: &&Source| source.is_rust() && source.path.contains("src/") && !source.is_test_file();
    for source in sources().iter().filter(shipped) {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//!") && !first.starts_with("#![doc = include_str!(") {
            findings.push(format!("{}: starts with `{first}`", source.path));
        }
    }
    none("a file without a paragraph about itself", &findings);
}
