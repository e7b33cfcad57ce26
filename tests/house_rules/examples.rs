//! Every public method of the types that users hold shows how it is called.

use super::source::{Source, finding, leading_ident, none, sources};

/// The types of which each public method has an example, or names the place of one.
const TYPES: &[&str] = &["Builder", "ChannelInfo", "Consumer", "Discovery", "Network", "Producer", "When"];

/// Whether the paragraphs above a method have an example or say where one is.
fn is_shown(doc: &[&str]) -> bool {
    doc.iter().any(|line| line.starts_with("/// ```")) || {
        let text: String = doc.iter().map(|line| format!("{} ", line.trim_start_matches("/// "))).collect();
        text.contains("example") && text.contains("[`")
    }
}

/// The type whose methods the block that begins at `lines[at]` has; `None` if it implements a trait.
fn methods_of<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let head = lines[at].strip_prefix("impl")?;
    let is_trait = lines[at..]
        .iter()
        .take_while(|line| !line.contains("where"))
        .find_map(|line| line.contains(" for ").then_some(true).or(line.ends_with('{').then_some(false)));
    if is_trait == Some(true) {
        return None;
    }
    let mut depth = 0;
    let name = head.trim_start().find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0 && c != '>' && c != ' '
    })?;
    Some(leading_ident(&head.trim_start()[name..]))
}

/// Public methods of the named types without an example: line and name.
fn unshown(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut inside = None;
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("impl") {
            inside = methods_of(&lines, at).filter(|name| TYPES.contains(name));
        } else if *line == "}" {
            inside = None;
        }
        let code = line.trim_start();
        let function =
            ["pub fn ", "pub async fn ", "pub const fn "].iter().find_map(|start| code.strip_prefix(start));
        let (Some(_), Some(function)) = (inside, function) else { continue };
        let is_doc = |line: &&str| line.starts_with("///");
        // Attributes may have several lines.
        let is_between = |line: &&str| !line.is_empty() && !line.starts_with('}');
        let above = lines[..at].iter().rev().map(|line| line.trim_start());
        let doc: Vec<&str> = above.take_while(is_between).filter(is_doc).collect();
        if !is_shown(&doc.into_iter().rev().collect::<Vec<_>>()) {
            found.push((at + 1, leading_ident(function).to_owned()));
        }
    }
    found
}

#[test]
fn every_public_method_of_a_handle_has_an_example() {
    let mut findings = Vec::new();
    let is_api = |source: &&Source| {
        source.is_rust() && source.path.starts_with("src/") && !source.path.starts_with("src/cli/")
    };
    for source in sources().iter().filter(is_api) {
        findings.extend(unshown(source).iter().map(|(line, name)| finding(source, *line, name)));
    }
    none("public methods without an example, or a link to one", &findings);
}

#[test]
fn rule_finds_methods_without_an_example() {
    let text = "impl<D, C: Codec<D>> Producer<D, C> {\n    /// One.\n    ///\n    /// ```\n    /// one();\n    /// ```\n    \
                pub fn one() {}\n\n    /// Two. For an example see [`one`].\n    #[expect(\n        a\n    )]\n    \
                pub async fn two() {}\n\n    /// Three.\n    pub fn three() {}\n}\nimpl fmt::Debug for Network {\n    \
                pub fn other() {}\n}\nimpl Network {\n    pub fn four() {}\n    fn hidden() {}\n}\n\
                impl Other {\n    pub fn five() {}\n}\n";
    let names: Vec<String> =
        unshown(&Source::made_up("src/a.rs", text)).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["three", "four"]);
}
