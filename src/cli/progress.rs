//! Progress on a terminal: one line of stderr that is written again and again.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::term;
use super::units::grouped;

/// The time between two lines: often enough to see a change, seldom enough to cost nothing.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// See the module. Cleared when it is dropped.
pub(crate) struct Progress {
    enabled: bool,
    /// When the last line was written, and the records then.
    last: (Instant, u64),
}

impl Progress {
    /// Progress on stderr, if that is a terminal, nothing else is written to that terminal, and messages are
    /// wanted.
    pub(crate) fn new(quiet: bool, writes_records: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let shared = writes_records && io::stdout().is_terminal();
        let enabled = !quiet && !dumb && !shared && io::stderr().is_terminal();
        Progress { enabled, last: (Instant::now(), 0) }
    }

    /// To be called often: writes a line when it is time to. `rest` is what follows the rate.
    pub(crate) fn show(&mut self, records: u64, rest: impl FnOnce() -> String) {
        let now = Instant::now();
        if !self.enabled || now.saturating_duration_since(self.last.0) < PROGRESS_PAUSE {
            return;
        }
        let line = progress_line(records, self.last.1, now - self.last.0, &rest());
        self.last = (now, records);
        term::overwrite(&line);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.enabled {
            term::clear_line(&mut io::stderr().lock());
        }
    }
}

fn progress_line(records: u64, before: u64, time: Duration, rest: &str) -> String {
    let rate = records.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-9);
    format!("{} records, {} a second, {rest}", grouped(records), grouped(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_the_rate_since_the_last_line() {
        let line = progress_line(12_000, 2_000, Duration::from_millis(500), "2 consumers");
        assert_eq!(line, "12,000 records, 20,000 a second, 2 consumers");
    }
}
