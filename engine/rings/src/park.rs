//! Blocking a plain thread on anything that has a waker.

use std::{
    future::Future,
    task::{Context, Poll},
    time::Instant,
};

/// Polls `poll` and parks the thread in between until it is ready.
pub fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let _ = poll;
    todo!()
}
/// As [`wait`], but gives up at `deadline`.
pub fn wait_until<T>(deadline: Instant, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let _ = (deadline, poll);
    todo!()
}
/// Runs `future` to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let _ = future;
    todo!()
}
/// As [`block_on`], but drops the future and gives `None` at `deadline`.
pub fn block_on_until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let _ = (deadline, future);
    todo!()
}
