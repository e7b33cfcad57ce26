//! The import order inside each crate. A crate's `README.md` lists its top-level modules, lowest layer first:
//!
//! ````text
//! ```text layers
//! units word
//! reader+writer
//! ring
//! ```
//! ````
//!
//! A module imports from lower lines only. Modules on one line do not import each other, unless `+` joins
//! them.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, leading_ident, none, sources};

/// The crates: the page with the list of layers, and the folder of the modules.
const CRATES: &[(&str, &str)] = &[
    ("engine/rings/README.md", "engine/rings/src/"),
    ("engine/proto/README.md", "engine/proto/src/"),
    ("engine/README.md", "engine/src/"),
    ("src/README.md", "src/"),
];

/// A module's place in the order.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The line, counted from the lowest.
    layer: usize,
    /// Modules joined by `+` have the same group.
    group: usize,
}

/// Reads the list of layers from a crate's page.
fn layers(page: &str) -> BTreeMap<&str, Place> {
    let list = page.split("```text layers\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or("");
    let mut places = BTreeMap::new();
    let mut groups = 0;
    for (layer, line) in list.lines().enumerate() {
        for joined in line.split_whitespace() {
            groups += 1;
            for module in joined.split('+') {
                places.insert(module, Place { layer, group: groups });
            }
        }
    }
    places
}

/// The top-level module that a file below `src/` belongs to; `None` for the crate's root.
fn module_of(path: &str) -> Option<&str> {
    let first = path.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib" && module != "main").then_some(module)
}

/// What follows each `crate::` in `code`: the first identifier, or each first identifier inside braces.
fn crate_imports(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].trim_end();
        let is_path = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if !is_path || before.ends_with("(in") {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(leading_ident(rest));
            continue;
        };
        let (mut depth, mut expect_name) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expect_name = true,
                _ if depth == 0 && expect_name && !c.is_whitespace() => {
                    found.push(leading_ident(&list[at..]));
                    expect_name = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Names that the crate's root re-exports, each with its module.
fn root_names(root: &str) -> BTreeMap<&str, &str> {
    let mut names = BTreeMap::new();
    for statement in ["pub use ", "pub(crate) use "].iter().flat_map(|word| root.split(word).skip(1)) {
        let Some((path, _)) = statement.split_once(';') else { continue };
        let path = path.trim_start().trim_start_matches("crate::").trim_start_matches("self::");
        let module = leading_ident(path);
        for word in path[module.len()..].split(|c: char| !c.is_alphanumeric() && c != '_') {
            if !word.is_empty() {
                names.insert(word, module);
            }
        }
    }
    names
}

/// Imports of the modules in `folder` that are against the order on `page`.
fn upward_imports(page: &str, folder: &str, sources: &[Source]) -> Vec<String> {
    let text =
        |path: &str| sources.iter().find(|source| source.path == path).map(|source| source.text.as_str());
    let Some(places) = text(page).map(layers) else { return vec![format!("{page} is missing")] };
    let root = format!("{folder}lib.rs");
    let root_names = root_names(text(&root).unwrap_or(""));
    let mut findings = Vec::new();
    let mut modules = BTreeSet::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Some(path) = source.path.strip_prefix(folder) else { continue };
        let Some(module) = module_of(path) else { continue };
        modules.insert(module);
        let Some(place) = places.get(module) else { continue };
        let shipped = source.shipped_and_tests().0;
        let code = shipped.iter().map(|(_, code)| *code).collect::<Vec<_>>().join("\n");
        // From a top-level file `super` is the root.
        let code = if path.matches('/').count() == 0 || path == format!("{module}/mod.rs") {
            code.replace("super::", "crate::")
        } else {
            code
        };
        for name in crate_imports(&code) {
            let target = if places.contains_key(name) { Some(&name) } else { root_names.get(name) };
            let Some((target, at)) = target.and_then(|target| Some((target, places.get(target)?))) else {
                continue;
            };
            if *target != module && at.layer >= place.layer && at.group != place.group {
                findings.push(format!("{}: `{module}` imports `{target}` (as crate::{name})", source.path));
            }
        }
    }
    let listed: BTreeSet<&str> = places.keys().copied().collect();
    findings.extend(modules.difference(&listed).map(|name| format!("{page} does not list `{name}`")));
    findings.extend(listed.difference(&modules).map(|name| format!("{page} lists `{name}`: no module")));
    findings
}

#[test]
fn modules_import_only_from_lower_layers() {
    let sources = sources();
    let findings: Vec<_> =
        CRATES.iter().flat_map(|(page, folder)| upward_imports(page, folder, &sources)).collect();
    none("an import against the crate's own order", &findings);
}

#[test]
fn rule_finds_imports_against_the_order() {
    let page = "Text.\n```text layers\nlow other\na+b\ntop\n```\n";
    let findings = |module: &str, code: &str| {
        let sources: Vec<_> = ["low", "other", "a", "b", "top"]
            .iter()
            .map(|name| Source::made_up(&format!("x/src/{name}.rs"), if *name == module { code } else { "" }))
            .chain([
                Source::made_up("x/README.md", page),
                Source::made_up("x/src/lib.rs", "mod a;\npub use top::{Handle, Other as Renamed};\n"),
            ])
            .collect();
        upward_imports("x/README.md", "x/src/", &sources).len()
    };
    for (module, code) in [
        ("top", "use crate::{low, a::{b, C}, other::*};"),
        ("a", "use crate::b::B;"),
        ("low", "use crate::low::x;\n// use crate::top;"),
        ("low", "pub(in crate::top) fn f() {}\nuse other_crate::top;\nuse std::mem;"),
        ("low", "fn f() {}\n#[cfg(test)]\nmod tests {\nuse crate::top;\n}"),
    ] {
        assert_eq!(findings(module, code), 0, "{module}: {code}");
    }
    for (module, code) in [
        ("low", "use crate::top::Handle;"),
        ("low", "use crate::other::X;"),
        ("a", "use crate::{\n    low::X,\n    top::Handle,\n};"),
        ("a", "fn f() { crate::top::run() }"),
        ("low", "use super::a;"),
        ("low", "use crate::Handle;"),
    ] {
        assert_eq!(findings(module, code), 1, "{module}: {code}");
    }
}

#[test]
fn rule_compares_the_list_with_the_modules() {
    let page = Source::made_up("x/README.md", "```text layers\na gone\n```\n");
    let sources = [page, Source::made_up("x/src/a.rs", ""), Source::made_up("x/src/new/mod.rs", "")];
    let want = ["x/README.md does not list `new`", "x/README.md lists `gone`: no module"];
    assert_eq!(upward_imports("x/README.md", "x/src/", &sources), want);
    assert_eq!(upward_imports("x/README.md", "x/src/", &sources[1..]), ["x/README.md is missing"]);
}
