//! Hosted engines inside executors.
//!
//! [`HostedEngine::run`] is a future for any single-threaded executor. What differs is how the executor waits
//! for the engine's descriptor: its [`Reactor`](crate::engine::Reactor).
//!
//! | executor | reactor | a sleep costs |
//! |---|---|---|
//! | tokio, one thread | `TokioReactor`, feature `tokio` | tokio's own sleep |
//! | tokio-uring | the same, since it runs on tokio's reactor | tokio's own sleep |
//! | glommio, and any other | [`PollThread`](crate::engine::PollThread) | a hop between threads more |
//! | a loop of the program's own | its descriptor, [`HostedEngine::prepare_sleep`] | the loop's own sleep |
//! | none | blocking calls, [`HostedEngine::block_on`] | the driver's sleep, the cheapest |
//!
//! While datums flow the engine's task does not sleep (see [`EngineConfig::idle`](crate::EngineConfig)), and
//! the executors differ only in how fast they poll their tasks.

use crate::engine::HostedEngine;
use crate::network::EngineSource;

impl From<&HostedEngine> for EngineSource {
    fn from(hosted: &HostedEngine) -> Self {
        hosted.engine().into()
    }
}

#[cfg(feature = "tokio")]
pub use self::on_tokio::TokioReactor;

#[cfg(feature = "tokio")]
mod on_tokio {
    use std::fmt;
    use std::future::Future;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::time::{Instant, Sleep, sleep_until};

    use crate::engine::{HostedEngine, Reactor};

    /// The resolution of tokio's timers. The engine's task does not sleep for less: it would oversleep.
    const TICK: Duration = Duration::from_millis(1);

    /// Waits for a hosted engine inside tokio's single-threaded runtime, and inside tokio-uring, which runs
    /// on it.
    ///
    /// ```
    /// use corewire::hosts::TokioReactor;
    /// use corewire::{EngineConfig, HostedEngine, Network, NetworkId};
    ///
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// let hosted = HostedEngine::start(EngineConfig::default())?;
    /// runtime.block_on(async {
    ///     let engine = hosted.run(TokioReactor::new(&hosted)?);
    ///     let program = async {
    ///         let network = Network::new(NetworkId::random()).await?;
    ///         let producer = network.streams().produce::<u64>();
    ///         let mut consumer = network.streams().consume::<u64>();
    ///         producer.send(7).await?;
    ///         assert_eq!(consumer.recv().await, Some(7));
    ///         Ok::<_, Box<dyn std::error::Error>>(())
    ///     };
    ///     tokio::select! {
    ///         done = program => done,
    ///         () = engine => Ok(()),
    ///     }
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct TokioReactor {
        fd: AsyncFd<OwnedFd>,
        timer: Pin<Box<Sleep>>,
    }

    impl TokioReactor {
        /// For `hosted`, whose descriptor tokio watches from now on.
        ///
        /// # Errors
        ///
        /// When the system refuses a descriptor.
        ///
        /// # Panics
        ///
        /// Outside of a tokio runtime, and in one without I/O or time (`enable_all`).
        pub fn new(hosted: &HostedEngine) -> io::Result<Self> {
            let fd = hosted.as_fd().try_clone_to_owned()?;
            // Its successor is `unsafe`, for types whose descriptor may change or be closed elsewhere. This
            // one owns it.
            #[allow(deprecated, reason = "sound for an `OwnedFd`, and this crate has no `unsafe`")]
            let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
            Ok(Self { fd, timer: Box::pin(sleep_until(Instant::now())) })
        }
    }

    impl Reactor for TokioReactor {
        fn clear(&mut self) {
            // An attempt that would block makes tokio forget what it knows.
            let _ = self.fd.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }

        fn poll_readable(&mut self, limit: Option<Duration>, cx: &mut Context<'_>) -> Poll<()> {
            if self.fd.poll_read_ready(cx).is_ready() {
                return Poll::Ready(());
            }
            match limit {
                None => Poll::Pending,
                Some(limit) if limit < TICK => Poll::Ready(()),
                Some(limit) => {
                    // Early rather than late: the rest of the time is turned away.
                    self.timer.as_mut().reset(Instant::now() + (limit - TICK));
                    self.timer.as_mut().poll(cx)
                }
            }
        }
    }

    impl fmt::Debug for TokioReactor {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("TokioReactor").finish_non_exhaustive()
        }
    }
}
