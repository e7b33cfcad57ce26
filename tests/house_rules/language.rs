//! The language of comments, documents and test names.

use super::source::{Source, contains_word, finding, leading_ident, none, sources};

/// Longest comment line, in columns. `rustfmt` keeps code to the same width but does not wrap comments.
const MAX_COMMENT_COLUMNS: usize = 110;

/// Longest name of a function, tests included, in characters.
const MAX_NAME: usize = 70;

/// Words that hide the subject of a sentence or its point. Name the writer, the reader, the caller; say what
/// holds. They are put together here so that this file does not find itself.
const BANNED: &[&str] = &[
    concat!("who", "ever"),
    concat!("whom", "ever"),
    concat!("no", "body"),
    concat!("some", "body"),
    concat!("every", "body"),
    concat!("says", " so"),
    concat!("word", " counts"),
    concat!("for", " good"),
    concat!("in", " vain"),
    concat!("said out", " loud"),
    concat!("is told", " of"),
    concat!("are told", " of"),
];

/// The heading of a list of what a file leaves out. Once in a file is enough.
const NOT_INSIDE: &str = concat!("Not", " inside");

/// What is prose: comments of Rust files, documents, comments of scripts and manifests.
fn prose<'a>(source: &'a Source) -> Vec<(usize, &'a str)> {
    if source.is_rust() {
        source.comments().collect()
    } else if source.path.ends_with(".md") {
        source.text.lines().enumerate().map(|(at, line)| (at + 1, line)).collect()
    } else {
        let comment =
            |(at, line): (usize, &'a str)| line.trim_start().starts_with('#').then_some((at + 1, line));
        source.text.lines().enumerate().filter_map(comment).collect()
    }
}

fn banned_words(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for (line, text) in prose(source) {
            let lower = text.to_lowercase();
            for word in BANNED.iter().filter(|word| contains_word(&lower, word)) {
                findings.push(finding(source, line, &format!("`{word}` in: {text}")));
            }
        }
    }
    findings
}

fn wide_comments(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (at, _) in source.comments() {
            let columns = source.text.lines().nth(at - 1).map_or(0, |line| line.chars().count());
            if columns > MAX_COMMENT_COLUMNS {
                findings.push(finding(source, at, &format!("comment line of {columns} columns")));
            }
        }
    }
    findings
}

fn repeated_exclusions(sources: &[Source]) -> Vec<String> {
    let count = |source: &Source| source.comments().filter(|(_, text)| text.contains(NOT_INSIDE)).count();
    sources
        .iter()
        .filter(|source| source.is_rust() && count(source) > 1)
        .map(|source| format!("{}: {} times", source.path, count(source)))
        .collect()
}

fn long_names(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (line, code) in source.code() {
            let name = code.split("fn ").nth(1).map_or("", leading_ident);
            if name.len() > MAX_NAME {
                findings.push(finding(source, line, &format!("{name} has {} characters", name.len())));
            }
        }
    }
    findings
}

#[test]
fn comments_and_documents_use_plain_words() {
    none("a banned word", &banned_words(&sources()));
}

#[test]
fn comment_lines_have_at_most_110_columns() {
    none("a comment line that is too long", &wide_comments(&sources()));
}

#[test]
fn a_file_lists_what_it_leaves_out_at_most_once() {
    none("more than one paragraph about what is left out", &repeated_exclusions(&sources()));
}

#[test]
fn function_names_have_at_most_70_characters() {
    none("a name that is too long", &long_names(&sources()));
}

#[test]
fn rule_finds_banned_words_in_prose_and_not_in_code() {
    let word = BANNED[2];
    let found = |path: &str, text: String| banned_words(&[Source::made_up(path, &text)]).len();
    assert_eq!(found("src/a.rs", format!("/// For {word}.\n")), 1);
    assert_eq!(found("src/a.rs", format!("let a = 1; // {}, then.\n", word.to_uppercase())), 1);
    assert_eq!(found("src/a.rs", format!("let {word} = 1;\n/// The {word}_index.\n")), 0);
    assert_eq!(found("a.md", format!("Text about {word}.\n")), 1);
    assert_eq!(found("run.sh", format!("echo {word}\n# {word}\n")), 1);
    assert_eq!(found("data.csv", format!("{word}\n")), 0);
}

#[test]
fn rule_counts_columns_of_comment_lines() {
    let text = format!("// {}\n// {}\nlet a = \"{}\";\n", "x".repeat(107), "é".repeat(108), "x".repeat(120));
    assert_eq!(
        wide_comments(&[Source::made_up("src/a.rs", &text)]),
        ["src/a.rs:2: comment line of 111 columns"]
    );
}

#[test]
fn rule_finds_repeated_exclusions() {
    let once = format!("//! {NOT_INSIDE}:\n//! - a clock\n");
    assert!(repeated_exclusions(&[Source::made_up("src/a.rs", &once)]).is_empty());
    let twice = format!("{once}/// {NOT_INSIDE}: b.\nstruct A;\n");
    assert_eq!(repeated_exclusions(&[Source::made_up("src/a.rs", &twice)]), ["src/a.rs: 2 times"]);
}

#[test]
fn rule_measures_function_names() {
    let text = format!("fn {}() {{}}\nasync fn {}() {{}}\n", "a".repeat(70), "b".repeat(71));
    assert_eq!(long_names(&[Source::made_up("tests/a.rs", &text)]).len(), 1);
}
