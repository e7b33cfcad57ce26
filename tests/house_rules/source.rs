//! The text files of the project, and what the rules need to look at them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Numbered lines, without leading white space.
pub(crate) type Lines<'a> = Vec<(usize, &'a str)>;

/// A text file of the project.
pub(crate) struct Source {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// A made-up file, for the tests of the rules.
    pub(crate) fn made_up(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// In a folder that only holds tests, benchmarks, fuzz targets or what tests share.
    pub(crate) fn is_test_file(&self) -> bool {
        self.path.split('/').any(|part| ["tests", "benches", "testkit"].contains(&part))
            || self.path.ends_with("/tests.rs")
    }

    /// Numbered lines without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(at, line)| {
            let code = line.trim_start();
            (!code.starts_with("//")).then_some((at + 1, code.split(" // ").next().unwrap_or(code)))
        })
    }

    /// Numbered comments, without the code before them.
    pub(crate) fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(at, line)| {
            let start = line.trim_start();
            if start.starts_with("//") {
                return Some((at + 1, start));
            }
            line.split_once(" // ").map(|(_, comment)| (at + 1, comment))
        })
    }

    /// As `code`, split at the test module, which stands last in its file: (shipped, tests).
    pub(crate) fn shipped_and_tests(&self) -> (Lines<'_>, Lines<'_>) {
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

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the project, without what is built, fetched or recorded.
pub(crate) fn sources() -> Vec<Source> {
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
pub(crate) fn none(rule: &str, findings: &[String]) {
    let mut text = String::new();
    findings.iter().for_each(|finding| writeln!(text, "  {finding}").unwrap());
    assert!(findings.is_empty(), "{rule}:\n{text}");
}

pub(crate) fn finding(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifier at the start of `text`, which may be empty.
pub(crate) fn leading_ident(text: &str) -> &str {
    &text[..text.find(|c: char| !is_ident(c)).unwrap_or(text.len())]
}

/// Whether `line` contains `word` with no letter, digit or underscore on either side.
pub(crate) fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_ident)
            && !line[at + word.len()..].chars().next().is_some_and(is_ident)
    })
}

/// Lines of `section` in a manifest.
pub(crate) fn manifest_section(manifest: &str, section: &str) -> Vec<String> {
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
fn comments_are_told_from_code() {
    let source = Source::made_up("src/a.rs", "//! Page.\nlet a = 1; // One.\n    // Two.\nlet b = 2;\n");
    let comments: Vec<_> = source.comments().collect();
    assert_eq!(comments, [(1, "//! Page."), (2, "One."), (3, "// Two.")]);
    let code: Vec<_> = source.code().collect();
    assert_eq!(code, [(2, "let a = 1;"), (4, "let b = 2;")]);
}

#[test]
fn test_module_is_split_from_shipped_code() {
    let source = Source::made_up("src/a.rs", "struct A;\n#[cfg(test)]\nmod tests {\nstruct B;\n}\n");
    let (shipped, tests) = source.shipped_and_tests();
    assert_eq!((shipped.len(), tests.len()), (1, 4));
    let source = Source::made_up("engine/testkit/src/a.rs", "struct A;\n");
    assert!(source.shipped_and_tests().0.is_empty());
}
