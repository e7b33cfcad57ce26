//! Which crate may use which. Manifests and paths in the code are both checked, since a re-export can open a
//! way past a manifest.

use super::source::{Source, finding, manifest_section, none, read, sources};

/// Folder, and which of our crates its code may name. The first folder that fits counts.
const WALLS: &[(&str, &[&str])] = &[
    ("engine/testkit/", &["corewire_testkit"]),
    ("engine/proto/", &["corewire_proto"]),
    ("engine/rings/", &["corewire_rings"]),
    ("engine/", &["corewire_engine", "corewire_proto", "corewire_rings"]),
    ("macros/", &["corewire_macros", "corewire"]),
    ("src/", &["corewire", "corewire_engine", "corewire_macros", "corewire_rings"]),
];

const OURS: &[&str] = &[
    "corewire",
    "corewire_engine",
    "corewire_macros",
    "corewire_perf",
    "corewire_proto",
    "corewire_rings",
    "corewire_testkit",
];

/// Dependencies that a manifest must not have outside `[dev-dependencies]`.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("engine/testkit/Cargo.toml", &["corewire"]),
    ("engine/proto/Cargo.toml", &["corewire"]),
    ("engine/rings/Cargo.toml", &["corewire"]),
    ("macros/Cargo.toml", &["corewire"]),
    ("engine/Cargo.toml", &["corewire.", "corewire-macros", "corewire-testkit"]),
    ("Cargo.toml", &["corewire-proto", "corewire-testkit"]),
];

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::"))
        .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Code that names a crate behind its wall. Only tests may name the testkit.
fn crossed_walls(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let wall = WALLS.iter().find(|(folder, _)| source.path.starts_with(folder));
        let Some((_, allowed)) = wall else { continue };
        let (shipped, tests) = source.shipped_and_tests();
        for (is_test, (line, code)) in
            shipped.into_iter().map(|line| (false, line)).chain(tests.into_iter().map(|line| (true, line)))
        {
            for name in OURS.iter().filter(|name| !allowed.contains(name)) {
                if names_crate(code, name) && !(is_test && *name == "corewire_testkit") {
                    findings.push(finding(source, line, code));
                }
            }
        }
    }
    findings
}

#[test]
fn crates_import_only_downwards() {
    let mut findings = crossed_walls(&sources());
    for (manifest, forbidden) in FORBIDDEN {
        for line in manifest_section(&read(manifest), "[dependencies]") {
            if forbidden.iter().any(|name| line.starts_with(name)) {
                findings.push(format!("{manifest}: {line}"));
            }
        }
    }
    none("an import from a crate above, or past the crate below", &findings);
}

#[test]
fn engine_does_not_re_export_whole_crates() {
    let lib = read("engine/src/lib.rs");
    let mut findings = Vec::new();
    for name in ["corewire_proto", "corewire_rings"] {
        for form in [format!("pub use {name};"), format!("pub use {name} as "), format!("pub use {name}::*")]
        {
            if lib.contains(&form) {
                findings.push(format!("engine/src/lib.rs: {form}"));
            }
        }
    }
    none("a crate that is re-exported as a whole", &findings);
}

#[test]
fn rule_finds_crossed_walls() {
    let crossed = |path: &str, code: &str| crossed_walls(&[Source::made_up(path, code)]).len();
    assert_eq!(crossed("engine/proto/src/a.rs", "use corewire_rings::Ring;\n"), 1);
    assert_eq!(crossed("engine/src/a.rs", "use corewire_rings::Ring;\nuse corewire::Network;\n"), 1);
    assert_eq!(crossed("src/a.rs", "fn f() { corewire_proto::session::run() }\n"), 1);
    assert_eq!(crossed("src/a.rs", "use corewire_engine::Engine;\nuse my_corewire_proto::x;\n"), 0);
    assert_eq!(crossed("engine/src/a.rs", "use corewire_testkit::wait;\n"), 1);
    assert_eq!(crossed("engine/tests/a.rs", "use corewire_testkit::wait;\n"), 0);
}
