//! One name, one type: a reader who meets a type knows which one it is.

use std::collections::BTreeMap;

use super::source::{Source, leading_ident, none, sources};

/// Names that each module may have its own of; their module's name tells them apart.
const SHARED_NAMES: &[&str] = &["Builder", "Config", "Error", "Stats"];

/// The name of the type that a line of code defines. Associated types are not definitions.
fn defined_type(code: &str) -> Option<&str> {
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => code,
    };
    let (keyword, rest) = code.split_once(' ')?;
    let name = leading_ident(rest);
    let defines = match keyword {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => rest.contains('='),
        _ => false,
    };
    (defines && name.starts_with(char::is_uppercase)).then_some(name)
}

fn repeated_types(sources: &[Source]) -> Vec<String> {
    let mut places = BTreeMap::<&str, Vec<String>>::new();
    let shipped = |source: &&Source| source.is_rust() && !source.path.starts_with("perf/");
    for source in sources.iter().filter(shipped) {
        let raw: Vec<&str> = source.text.lines().collect();
        for (line, code) in source.shipped_and_tests().0 {
            let Some(name) = defined_type(code) else { continue };
            // An indented `type` belongs to an `impl` or a trait.
            let associated = code.contains("type ") && raw[line - 1].starts_with(' ');
            if !associated && !SHARED_NAMES.contains(&name) {
                places.entry(name).or_default().push(format!("{}:{line}", source.path));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

#[test]
fn no_type_name_is_defined_twice() {
    none("a type name with more than one meaning", &repeated_types(&sources()));
}

#[test]
fn rule_finds_types_with_the_same_name() {
    let sources = [
        Source::made_up("src/a.rs", "pub(crate) struct Slot<T>(T);\npub struct Error;\n"),
        Source::made_up("src/b.rs", "enum Slot { A }\nenum Error { A }\n"),
        Source::made_up("src/c.rs", "impl A for B {\n    type Slot = u8;\n}\nlet Slot = 1;\n"),
        Source::made_up("src/d.rs", "struct D;\n#[cfg(test)]\nmod tests {\nstruct Slot;\n}\n"),
        Source::made_up("tests/e.rs", "struct Slot;\n"),
    ];
    assert_eq!(repeated_types(&sources), ["Slot: src/a.rs:1, src/b.rs:1"]);
}

#[test]
fn type_definitions_are_recognised() {
    for (code, name) in [
        ("pub struct A;", Some("A")),
        ("pub(crate) enum B {", Some("B")),
        ("pub(in crate::x) trait C<T> {", Some("C")),
        ("type D = u8;", Some("D")),
        ("type E;", None),
        ("pub fn struct_of() {", None),
        ("impl F {", None),
    ] {
        assert_eq!(defined_type(code), name, "{code}");
    }
}
