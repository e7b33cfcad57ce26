//! The bug bank: known failures of rings, sequence locks and wake-ups, each in the place where it would be
//! made.
//!
//! An ordinary build has none of them: [`bug`] is `false` and [`mutate!`] is its first argument. A build with
//! `--cfg corewire_bugs` has the one that the environment variable `CORE_BUG` names. `tests/bug-bank.sh`
//! asserts that each is noticed by the test it names.

/// Whether this build fails on purpose in the way `_name`.
#[cfg(not(corewire_bugs))]
#[inline(always)]
pub(crate) const fn bug(_name: &str) -> bool {
    false
}

/// Whether this process fails on purpose in the way `name`.
#[cfg(corewire_bugs)]
pub(crate) fn bug(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("CORE_BUG").ok()).as_deref() == Some(name)
}

/// `mutate!(right, "name" => wrong)` is `right`, or `wrong` in a process with the bug `name`.
macro_rules! mutate {
    ($right:expr, $name:literal => $wrong:expr) => {
        if $crate::bugs::bug($name) { $wrong } else { $right }
    };
}

pub(crate) use mutate;
