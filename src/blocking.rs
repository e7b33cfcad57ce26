//! Running futures on a plain thread.
//!
//! Every future of this crate works under any executor. These two functions are the smallest one: they poll,
//! and park the calling thread between polls. They do not spin, start no thread and do not allocate after
//! their first use on a thread. On a thread that hosts an engine ([`HostedEngine`](crate::HostedEngine)) they
//! turn its shard instead of parking.

use core::future::Future;
use core::task::{Context, Poll};
use core::time::Duration;
use std::pin::pin;
use std::time::Instant;

pub(crate) use corewire_engine::hosting::{flush, make_room, wait, wait_until};

/// Runs `future` to completion on this thread, which parks while the future waits, or turns the engine that
/// it hosts.
///
/// ```
/// use corewire::{Network, NetworkId, block_on};
///
/// let network = block_on(Network::new(NetworkId::random()))?;
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    wait(|cx| future.as_mut().poll(cx))
}

/// As [`block_on`] for at most `timeout`: then `None`, and the future is dropped. The future is polled at
/// least once.
///
/// ```
/// use corewire::block_on_timeout;
/// use std::time::Duration;
///
/// assert_eq!(block_on_timeout(async { 7 }, Duration::ZERO), Some(7));
/// assert_eq!(block_on_timeout(std::future::pending::<()>(), Duration::from_millis(1)), None);
/// ```
pub fn block_on_timeout<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_for(timeout, |cx| future.as_mut().poll(cx))
}

/// Polls until `poll` is ready or `timeout` has passed, and parks the thread in between. A deadline beyond
/// the range of the clock never passes.
pub(crate) fn poll_for<T>(timeout: Duration, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match Instant::now().checked_add(timeout) {
        Some(deadline) => wait_until(deadline, poll),
        None => Some(wait(poll)),
    }
}
