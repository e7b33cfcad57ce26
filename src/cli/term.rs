//! What the terminal can show, and messages that do not panic when stderr is closed.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// What one output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// ANSI colours may be used.
    pub(crate) colour: bool,
    /// Line-drawing characters and dots may be used; otherwise ASCII only.
    pub(crate) unicode: bool,
}

impl Style {
    /// No escape sequence, ASCII only: for files, pipes and logs.
    pub(crate) const PLAIN: Style = Style { colour: false, unicode: false };

    /// The style of stdout. `NO_COLOR` and `TERM=dumb` are honoured.
    pub(crate) fn of_stdout() -> Style {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if !io::stdout().is_terminal() || set("TERM").is_some_and(|term| term == "dumb") {
            return Style::PLAIN;
        }
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let unicode = locale.is_some_and(|name| name.to_string_lossy().to_uppercase().contains("UTF"));
        Style { colour: set("NO_COLOR").is_none(), unicode }
    }

    /// `text` in the colour `code` (an ANSI SGR number).
    pub(crate) fn paint(self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `text` in bold.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(1, text)
    }
}

/// Whether the last line of stderr is to be overwritten.
static OVERWRITABLE: AtomicBool = AtomicBool::new(false);

/// Moves to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Writes one line to stderr. A closed stderr is ignored.
pub(crate) fn note(line: &str) {
    let mut out = io::stderr().lock();
    clear_line(&mut out);
    let _ = writeln!(out, "{line}");
}

/// Writes a warning to stderr.
pub(crate) fn warn(warning: &str) {
    note(&format!("warning: {warning}"));
}

/// Writes a line to a terminal's stderr that the next one replaces.
pub(crate) fn overwrite(line: &str) {
    let mut out = io::stderr().lock();
    OVERWRITABLE.store(true, Ordering::Relaxed);
    let _ = write!(out, "{CLEAR}{line}");
    let _ = out.flush();
}

/// Removes the line that was to be overwritten, if there is one.
pub(crate) fn clear_line(out: &mut impl Write) {
    if OVERWRITABLE.swap(false, Ordering::Relaxed) {
        let _ = write!(out, "{CLEAR}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_style_adds_no_escape_sequence() {
        assert_eq!(Style::PLAIN.bold("x"), "x");
        assert_eq!(Style { colour: true, unicode: false }.paint(31, "x"), "\x1b[31mx\x1b[0m");
    }
}
