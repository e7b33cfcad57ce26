//! The bug bank: known failures of the protocol, each in the place where it would be made. The engine uses it
//! too.
//!
//! An ordinary build has none of them: [`bug`] is `false` and `mutate!` is its first argument. A build with
//! `--cfg corewire_bugs` has the one that the environment variable `CORE_BUG` names. `tests/bug-bank.sh`
//! asserts that each is noticed by the test it names.

#[cfg(corewire_bugs)]
extern crate std;

#[cfg(corewire_bugs)]
use self::std::{env, string::String, sync::OnceLock};

/// Whether this build fails on purpose in the way `_name`.
#[cfg(not(corewire_bugs))]
#[inline(always)]
pub const fn bug(_name: &str) -> bool {
    false
}

/// Whether this process fails on purpose in the way `name`.
#[cfg(corewire_bugs)]
pub fn bug(name: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| env::var("CORE_BUG").ok()).as_deref() == Some(name)
}

/// `mutate!(right, "name" => wrong)` is `right`, or `wrong` in a process with the bug `name`.
#[macro_export]
#[doc(hidden)]
macro_rules! mutate {
    ($right:expr, $name:literal => $wrong:expr) => {
        if $crate::bugs::bug($name) { $wrong } else { $right }
    };
}
