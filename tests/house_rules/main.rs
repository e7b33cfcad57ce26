//! The house rules, kept by a test rather than by good will. `ARCHITECTURE.md` gives the reasons.
//!
//! The rules look at text, line by line. That is coarse on purpose: a rule that needs a parser is a lint's job.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// No file of code is longer than this. A file that wants to be is two files.
const MAX_LINES: usize = 600;

/// Longer files, each with the reason why it stays one.
const LONG_FILES: &[(&str, &str)] = &[];

/// Where `unsafe` may stand: shared memory, packet memory, and the system calls behind the drivers.
const UNSAFE_ROOMS: &[&str] = &[
    "engine/rings/",
    "engine/src/buffer/",
    "engine/src/driver/uring/",
    "engine/src/driver/sys/",
    "engine/src/driver/sys.rs",
    // The drivers' tests set socket options and forbid themselves system calls, which the standard library cannot.
    "engine/tests/driver_",
    // The barest ring that can be, as the limit beside which the real one is measured. Nothing else uses it.
    "perf/src/rings/limits.rs",
];

/// The words are put together here so that this file does not trip over itself.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
const SLEEPS: &[&str] = &[concat!("thread::", "sleep"), concat!("time::", "sleep(")];
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
const UNSAFE: &str = concat!("un", "safe");

/// Numbered lines.
type Lines<'a> = Vec<(usize, &'a str)>;

/// A text file of the project.
struct Source {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// In a folder that only holds tests, benchmarks or fuzz targets.
    fn is_test_file(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "benches")
            || self.path.ends_with("/tests.rs")
    }

    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(at, line)| {
            let code = line.trim_start();
            (!code.starts_with("//")).then_some((at + 1, code.split(" // ").next().unwrap_or(code)))
        })
    }

    /// As `code`, split at the test module, which by habit stands last: (shipped, tests).
    fn shipped_and_tests(&self) -> (Lines<'_>, Lines<'_>) {
        if self.is_test_file() {
            return (Vec::new(), self.code().collect());
        }
        let lines: Lines<'_> = self.code().collect();
        let module = lines.windows(2).position(|pair| {
            pair[0].1.starts_with("#[cfg(")
                && pair[0].1.contains("test")
                && pair[1].1.contains("mod ")
                && pair[1].1.ends_with('{')
        });
        let at = module.unwrap_or(lines.len());
        (lines[..at].to_vec(), lines[at..].to_vec())
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the project, without what is built, fetched or recorded.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, out: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // `.git` is a file in a linked work tree.
            let skipped = ["target", ".git", "corpus", "artifacts", "runs"];
            if skipped.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                walk(&path, out);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                out.push(Source { path, text });
            }
        }
    }
    let mut out = Vec::new();
    walk(&root(), &mut out);
    assert!(out.len() > 20, "the walk found only {} files", out.len());
    out
}

/// Fails with every finding at once.
fn none(rule: &str, findings: Vec<String>) {
    let mut text = String::new();
    findings.iter().for_each(|finding| writeln!(text, "  {finding}").unwrap());
    assert!(findings.is_empty(), "{rule}:\n{text}");
}

fn finding(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let ident = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].chars().next_back().is_some_and(ident)
            && !line[at + word.len()..].chars().next().is_some_and(ident)
    })
}

/// Lines of `section` in a manifest.
fn manifest_section(manifest: &str, section: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_file_of_code_is_longer_than_the_limit() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines > MAX_LINES && !excused {
            findings.push(format!("{}: {lines} lines", source.path));
        }
        if lines <= MAX_LINES && excused {
            findings.push(format!("{} has shrunk: take it off the list of long files", source.path));
        }
    }
    none("files of code have at most 600 lines", findings);
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
    none("unsafe code outside its rooms", findings);
}

#[test]
fn the_protocol_has_no_standard_library_no_clock_no_socket_and_no_thread() {
    let lib = read("engine/proto/src/lib.rs");
    for attribute in ["no_std", &format!("forbid({UNSAFE}_code)")] {
        assert!(lib.contains(attribute), "engine/proto/src/lib.rs has lost its {attribute}");
    }
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| s.is_rust() && s.path.starts_with("engine/proto/src/")) {
        let shipped = source.shipped_and_tests().0;
        for (index, &(line, code)) in shipped.iter().enumerate() {
            // One item for the tests alone, such as their `extern crate std`.
            if index > 0 && shipped[index - 1].1.starts_with("#[cfg(test)]") {
                continue;
            }
            for word in ["std::", "extern crate std", "Instant::now", "SystemTime", "UdpSocket", "thread::"] {
                if contains_word(code, word.trim_end_matches("::")) && code.contains(word) {
                    findings.push(finding(source, line, code));
                }
            }
        }
    }
    none("the protocol takes bytes and `now`, and gives bytes and events", findings);
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
    none("unfinished code", findings);
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
    none("a test waits for what it needs, never for a time", findings);
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
    none("absolute paths of one machine", findings);
}

#[test]
fn the_layers_import_only_downwards() {
    // Folder, and which of our crates its code may name.
    let walls: &[(&str, &[&str])] = &[
        ("engine/proto/", &["corewire_proto"]),
        ("engine/rings/", &["corewire_rings"]),
        ("engine/", &["corewire_engine", "corewire_proto", "corewire_rings"]),
        ("macros/", &["corewire_macros", "corewire"]),
        ("src/", &["corewire", "corewire_engine", "corewire_macros"]),
    ];
    let ours = [
        "corewire",
        "corewire_engine",
        "corewire_macros",
        "corewire_proto",
        "corewire_rings",
        "corewire_perf",
    ];
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let Some((_, allowed)) = walls.iter().find(|(folder, _)| source.path.starts_with(folder)) else {
            continue;
        };
        for (line, code) in source.code() {
            for name in ours.iter().filter(|name| !allowed.contains(name)) {
                let path = format!("{name}::");
                if code
                    .match_indices(&path)
                    .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
                {
                    findings.push(finding(source, line, code));
                }
            }
        }
    }
    for (manifest, forbidden) in [
        ("engine/proto/Cargo.toml", &["corewire-"][..]),
        ("engine/rings/Cargo.toml", &["corewire-"]),
        ("macros/Cargo.toml", &["corewire-"]),
        ("engine/Cargo.toml", &["corewire.", "corewire-macros"]),
        ("Cargo.toml", &["corewire-proto", "corewire-rings"]),
    ] {
        for line in manifest_section(&read(manifest), "[dependencies]") {
            if forbidden.iter().any(|name| line.starts_with(name)) {
                findings.push(format!("{manifest}: {line}"));
            }
        }
    }
    none("an import that goes upwards or past a layer", findings);
}

#[test]
fn every_file_of_the_crates_says_what_it_is() {
    let mut findings = Vec::new();
    let shipped =
        |source: &&Source| source.is_rust() && source.path.contains("src/") && !source.is_test_file();
    for source in sources().iter().filter(shipped) {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//!") {
            findings.push(format!("{}: starts with `{first}`", source.path));
        }
    }
    none("each file starts with a paragraph about itself", findings);
}

#[test]
fn the_readme_shows_its_two_commands_first_and_its_examples_are_tests() {
    let readme = read("README.md");
    let top: Vec<&str> = readme.lines().take(25).collect();
    for command in ["cargo run --release", "cargo test"] {
        assert!(top.iter().any(|line| line.contains(command)), "`{command}` is not in the first 25 lines");
    }
    let lib = read("src/lib.rs");
    assert!(lib.contains("README.md"), "src/lib.rs no longer includes README.md as doctests");
    let fences: Vec<&str> = readme.lines().filter(|line| line.starts_with("```rust")).collect();
    assert!(fences.len() >= 2, "README.md shows a producer and a consumer");
    assert!(
        fences.iter().all(|fence| !fence.contains("ignore")),
        "an ignored example proves nothing: {fences:?}"
    );
}

#[test]
fn every_dependency_is_explained() {
    let page = read("ARCHITECTURE.md");
    let mut findings = Vec::new();
    for line in manifest_section(&read("Cargo.toml"), "[workspace.dependencies]") {
        let name = line.split([' ', '=', '.']).next().unwrap_or_default();
        if !name.is_empty() && !name.starts_with("corewire") && !page.contains(&format!("`{name}`")) {
            findings.push(name.to_owned());
        }
    }
    none("dependencies that ARCHITECTURE.md does not name", findings);
}
