//! A call at the end of the process.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

static HOOK: OnceLock<fn()> = OnceLock::new();

/// What the C library calls. A panic must not leave it.
extern "C" fn run_hook() {
    if let Some(hook) = HOOK.get() {
        let _ = catch_unwind(AssertUnwindSafe(hook));
    }
}

/// Calls `hook` when the process exits: after `main` returns, or by `std::process::exit`. Not after a signal,
/// nor by `abort`. The first hook stays.
pub(crate) fn at_exit(hook: fn()) -> io::Result<()> {
    if HOOK.set(hook).is_err() {
        return Ok(());
    }
    // SAFETY: `run_hook` is a function of this program, which is never unloaded before the process ends, and
    // it does not unwind.
    let answer = unsafe { libc::atexit(run_hook) };
    if answer == 0 { Ok(()) } else { Err(io::Error::other("the C library takes no more exit functions")) }
}
