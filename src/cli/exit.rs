//! Exit codes, one per kind of outcome, and an error with its cure.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes. The numbers are part of the program's interface (`--help` lists them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Failed while running: input damaged, data missing, output not writable.
    Failed = 1,
    /// The command line is wrong. The parser uses the same number.
    Usage = 2,
    /// A stated goal (`--count`, `--wait`) was not reached in time.
    NotReached = 3,
    /// Could not start: port in use, file missing, secret unreadable, no driver.
    CannotStart = 4,
    /// A result of `bench` is not what `--expect` wants.
    Unexpected = 5,
    /// Stopped by SIGHUP before the goal (128 + 1).
    HungUp = 129,
    /// Stopped by SIGINT before the goal (128 + 2, as shells count).
    Interrupted = 130,
    /// Stopped by SIGTERM before the goal (128 + 15).
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The end of `--help`.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    all done
  1    failed while running (input damaged, data missing, output not writable)
  2    wrong usage
  3    timed out, or --count not reached
  4    cannot start (port in use, file missing, secret unreadable)
  5    a result of bench is not as --expect wants it
  130  interrupted before the goal (143 for SIGTERM, 129 for SIGHUP)";

/// A failure: the code, the cause, and the cure where there is one.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code to end with.
    pub(crate) exit: Exit,
    /// What went wrong, one line.
    pub(crate) cause: String,
    /// What to do about it, one line.
    pub(crate) cure: Option<String>,
}

impl Failure {
    /// A failure without a cure.
    pub(crate) fn new(exit: Exit, cause: impl Into<String>) -> Self {
        Failure { exit, cause: cause.into(), cure: None }
    }

    /// Adds the cure.
    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corewire: {}", self.cause)?;
        if let Some(cure) = &self.cure {
            write!(f, "\n  try: {cure}")?;
        }
        Ok(())
    }
}

/// A failed write of the program's report ends it like any other I/O failure. If the reader of the report has
/// gone, as `head` does, it has what it wanted.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        Failure::new(if gone { Exit::Done } else { Exit::Failed }, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_prints_its_cause_and_its_cure_on_two_lines() {
        let failure = Failure::new(Exit::CannotStart, "port 1 is in use").cure("--listen 127.0.0.1:0");
        assert_eq!(failure.to_string(), "corewire: port 1 is in use\n  try: --listen 127.0.0.1:0");
        assert_eq!(failure.exit as u8, 4);
    }

    #[test]
    fn help_lists_every_exit_code() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotReached,
            Exit::CannotStart,
            Exit::Unexpected,
            Exit::HungUp,
            Exit::Interrupted,
            Exit::Terminated,
        ] {
            let number = (exit as u8).to_string();
            let mut lines = EXIT_CODES_HELP.lines();
            let has_line = lines.any(|line| line.split_whitespace().next() == Some(&number));
            // Two stand in the line of a third one.
            assert!(
                has_line || EXIT_CODES_HELP.contains(&format!("{number} for SIG")),
                "{exit:?} is missing"
            );
        }
    }
}
