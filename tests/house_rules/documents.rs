//! The documents: what they must show, name and prove.

use super::source::{Source, contains_word, finding, leading_ident, manifest_section, none, read, sources};

/// ARCHITECTURE.md is read in one sitting.
const MAX_ARCHITECTURE_LINES: usize = 150;

/// Steps of a datum in ARCHITECTURE.md, each with the function that takes it.
const MIN_FUNCTIONS: usize = 10;

/// Units that make a number a measurement.
const UNITS: &[&str] = &["ns", "us", "µs", "M/s", "x", "times", "%"];

/// Documents whose measurements need a source. Those of `perf/` are the source.
fn states_measurements(source: &Source) -> bool {
    let path = source.path.as_str();
    path.ends_with(".md")
        && !path.starts_with("perf/")
        && !path.starts_with("data/")
        && path != "CHANGELOG.md"
}

/// `file.rs::function` or `file.rs::Type::function`, as they stand between back quotes.
fn named_functions(page: &str) -> Vec<(usize, &str, &str)> {
    let mut found = Vec::new();
    for (at, line) in page.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            if let Some((file, function)) = quoted.split_once(".rs::") {
                found.push((at + 1, &quoted[..file.len() + 3], function));
            }
        }
    }
    found
}

/// Functions named by `page` that are not where it says.
fn missing_functions(page: &Source, sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, path, function) in named_functions(&page.text) {
        let named = format!("{path}::{function}");
        let ends_with = |source: &&Source| source.path == path || source.path.ends_with(&format!("/{path}"));
        let files: Vec<_> = sources.iter().filter(ends_with).collect();
        let [file] = files[..] else {
            findings.push(finding(page, line, &format!("{named}: {} files have this path", files.len())));
            continue;
        };
        let function = function.rsplit("::").next().unwrap_or(function);
        let defines = |(_, code): &(usize, &str)| {
            code.split("fn ").skip(1).any(|rest| leading_ident(rest) == function && !function.is_empty())
        };
        if !file.shipped_and_tests().0.iter().any(defines) {
            findings.push(finding(page, line, &format!("{named}: no such function")));
        }
    }
    findings
}

/// A paragraph, a table, or a fenced block.
struct Block<'a> {
    /// Its first line, counted from 1.
    line: usize,
    text: Vec<&'a str>,
    is_fenced: bool,
}

impl Block<'_> {
    fn links_to_perf(&self) -> bool {
        self.text.iter().any(|line| {
            line.split("](").skip(1).any(|link| link.split(')').next().is_some_and(|to| to.contains("perf/")))
        })
    }

    fn measurement(&self) -> Option<&str> {
        self.text.iter().copied().find(|line| has_measurement(line))
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut open, mut fenced) = (false, false);
    for (at, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        if (!fenced && line.trim().is_empty()) || (fence && fenced) {
            (open, fenced) = (false, false);
            continue;
        }
        if fence || !open {
            blocks.push(Block { line: at + 1, text: Vec::new(), is_fenced: fence });
            (open, fenced) = (true, fence);
        }
        blocks.last_mut().expect("a block was opened").text.push(line);
    }
    blocks
}

/// Whether a line has a number with one of the units, such as `1.5 us`, `20 %` or `3x`.
fn has_measurement(line: &str) -> bool {
    let ends_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    line.char_indices().filter(|(_, c)| c.is_ascii_digit()).any(|(at, _)| {
        let rest = &line[at + 1..];
        let unit = rest.strip_prefix(' ').unwrap_or(rest);
        UNITS.iter().any(|name| unit.strip_prefix(name).is_some_and(ends_word))
    })
}

/// Measurements without a link to the run or the notebook entry that they come from.
fn unproved_measurements(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| states_measurements(source)) {
        let blocks = blocks(&source.text);
        for (at, block) in blocks.iter().enumerate() {
            let Some(line) = block.measurement() else { continue };
            let beside = [at.checked_sub(1), Some(at + 1)];
            let proved = if block.is_fenced {
                beside.into_iter().flatten().filter_map(|at| blocks.get(at)).any(Block::links_to_perf)
            } else {
                block.links_to_perf()
            };
            if !proved {
                findings.push(finding(source, block.line, line));
            }
        }
    }
    findings
}

#[test]
fn the_readme_shows_its_two_commands_first_and_tests_its_examples() {
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
fn every_dependency_has_its_reason() {
    let page = read("DEPENDENCIES.md");
    let mut findings = Vec::new();
    for line in manifest_section(&read("Cargo.toml"), "[workspace.dependencies]") {
        let name = line.split([' ', '=', '.']).next().unwrap_or_default();
        if !name.is_empty() && !name.starts_with("corewire") && !page.contains(&format!("`{name}`")) {
            findings.push(name.to_owned());
        }
    }
    none("dependencies that DEPENDENCIES.md does not name", &findings);
}

#[test]
fn architecture_page_names_functions_that_exist() {
    let sources = sources();
    let page = sources.iter().find(|source| source.path == "ARCHITECTURE.md").expect("ARCHITECTURE.md");
    let lines = page.text.lines().count();
    assert!(lines <= MAX_ARCHITECTURE_LINES, "ARCHITECTURE.md has {lines} lines");
    let named = named_functions(&page.text).len();
    assert!(named >= MIN_FUNCTIONS, "ARCHITECTURE.md names only {named} functions");
    none("functions that are not where ARCHITECTURE.md says", &missing_functions(page, &sources));
}

#[test]
fn every_measurement_links_to_its_run() {
    none("measurements without a link into perf/", &unproved_measurements(&sources()));
}

#[test]
fn rule_finds_functions_that_are_not_where_the_page_says() {
    let sources = [
        Source::made_up(
            "src/a.rs",
            "pub fn send() {}\n// fn gone() {}\n#[cfg(test)]\nmod t {\nfn test() {}\n}",
        ),
        Source::made_up("src/b/c.rs", "impl B {\n    pub(crate) async fn turn(&self) {}\n}\n"),
        Source::made_up("engine/b/c.rs", ""),
    ];
    let missing = |name: &str| {
        let page = Source::made_up("ARCHITECTURE.md", &format!("Calls `{name}` then.\n"));
        missing_functions(&page, &sources).len()
    };
    for name in ["src/a.rs::send", "a.rs::send", "src/b/c.rs::turn", "src/b/c.rs::B::turn"] {
        assert_eq!(missing(name), 0, "{name}");
    }
    for name in ["a.rs::sen", "a.rs::gone", "a.rs::test", "b/c.rs::turn", "d.rs::send", "a.rs::"] {
        assert_eq!(missing(name), 1, "{name}");
    }
}

#[test]
fn rule_finds_measurements_without_a_link() {
    let findings = |text: &str| unproved_measurements(&[Source::made_up("README.md", text)]).len();
    for text in [
        "It takes 20 ns.\n",
        "| a | 1.5 us |\n",
        "2x\n",
        "three or 4 times as fast,\n",
        "20 % more\n",
        "One [link](perf/NOTEBOOK.md).\n\nThen 7 M/s.\n",
        "```text\nmax 3 us\n```\n",
        "It takes 20 ns ([run](elsewhere/README.md)).\n",
    ] {
        assert_eq!(findings(text), 1, "{text}");
    }
    for text in [
        "64-bit x86 and 16 nodes\n",
        "20 ns\n([run](perf/runs/a/README.md)).\n",
        "| [run](../../perf/runs/a/README.md) | 1.5 us |\n",
        "Measured in [a run](perf/runs/a/README.md):\n\n```text\nmax 3 us\n\n4 us\n```\n",
        "```text\nmax 3 us\n```\n\nFrom [a run](perf/runs/a/README.md).\n",
        "0x1f and 3xyz\n",
    ] {
        assert_eq!(findings(text), 0, "{text}");
    }
    assert!(unproved_measurements(&[Source::made_up("perf/NOTEBOOK.md", "20 ns\n")]).is_empty());
}

#[test]
fn words_are_found_only_as_a_whole() {
    assert!(contains_word("a turn ends", "turn") && !contains_word("a_turn returns", "turn"));
}
