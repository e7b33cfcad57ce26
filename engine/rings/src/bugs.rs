//! The bug bank: failures that rings, sequence locks and wake-ups are known for, each where it would be made.
//!
//! Not inside: anything, in an ordinary build. [`bug`] is `false` then, and what depends on it is compiled away. A
//! build with `--cfg corewire_bugs` has the one that the environment variable `CORE_BUG` names, and
//! `tests/bug-bank.sh` asserts that a test notices each.

use crate::sync::Ordering;

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

/// `order`, or none at all with the bug `name`.
#[inline(always)]
pub(crate) fn unless(name: &str, order: Ordering) -> Ordering {
    if bug(name) { Ordering::Relaxed } else { order }
}
