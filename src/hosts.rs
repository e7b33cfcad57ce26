//! Hosted engines inside executors.
//!
//! [`HostedEngine::run`] is a future for any single-threaded executor. What differs is how the executor waits
//! for the engine's descriptor: its [`Reactor`](crate::engine::Reactor).
//!
//! | host | waits by | a sleep costs |
//! |---|---|---|
//! | none: [`HostedEngine::block_on`] | blocking calls | the driver's sleep, the cheapest |
//! | a loop of the program's own | [`HostedEngine::prepare_sleep`] | the loop's own sleep |
//! | tokio, one thread | `TokioReactor`, feature `tokio` | tokio's own sleep |
//! | tokio-uring | `TokioUringReactor`, feature `tokio-uring` | tokio's own sleep |
//! | glommio | `GlommioReactor`, feature `glommio` | a poll in the executor's ring, and system calls for it |
//! | any other executor | [`PollThread`](crate::engine::PollThread) | a hop between threads more |
//!
//! * No executor is the shortest way, for a program whose threads belong to corewire.
//! * A loop of its own suits a program that waits for descriptors already, without an executor.
//! * tokio suits a service of one tokio thread per core, tokio-uring one that also reads files or sockets
//!   through that ring, glommio one of an executor per core.
//! * `PollThread` suits all others with one thread, as smol and async-executor. Spawn the program's future as
//!   a task there: async-executor polls the one that it runs beside its tasks once in 200 polls of these.
//!
//! All pass the same conversation in `tests/hosts.rs`, with both drivers. The engine's driver is epoll by
//! default, also beside an executor's ring.
//!
//! While datums flow the engine's task does not sleep (see [`EngineConfig::idle`](crate::EngineConfig)): it
//! yields to the executor's other tasks.

use crate::engine::HostedEngine;
use crate::network::EngineSource;

impl From<&HostedEngine> for EngineSource {
    fn from(hosted: &HostedEngine) -> Self {
        hosted.engine().into()
    }
}

#[cfg(feature = "glommio")]
mod glommio;
#[cfg(feature = "tokio-uring")]
mod tokio_uring;

#[cfg(feature = "glommio")]
pub use self::glommio::GlommioReactor;
#[cfg(feature = "tokio")]
pub use self::on_tokio::TokioReactor;
#[cfg(feature = "tokio-uring")]
pub use self::tokio_uring::TokioUringReactor;

#[cfg(feature = "tokio")]
mod on_tokio {
    use std::fmt;
    use std::future::Future;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::pin::pin;
    use std::task::{Context, Poll};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::task::yield_now;

    use crate::engine::{HostedEngine, Reactor};

    /// `fd`, watched by the runtime.
    pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        // Its successor is `unsafe`, for types whose descriptor may change or be closed elsewhere. This one
        // is owned.
        #[allow(deprecated, reason = "sound for an `OwnedFd`, and this crate has no `unsafe`")]
        AsyncFd::with_interest(fd, Interest::READABLE)
    }

    /// Makes the runtime forget that `fd` was readable: an attempt that would block does.
    pub(super) fn forget(fd: &AsyncFd<OwnedFd>) {
        let _ = fd.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }

    /// Waits for a hosted engine inside tokio's single-threaded runtime.
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
        /// Outside of a tokio runtime, and in one without I/O (`enable_io`).
        pub fn new(hosted: &HostedEngine) -> io::Result<Self> {
            Ok(Self { fd: watch(hosted.as_fd().try_clone_to_owned()?)? })
        }
    }

    impl Reactor for TokioReactor {
        fn clear(&mut self) {
            forget(&self.fd);
        }

        fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            self.fd.poll_read_ready(cx).map(|_| ())
        }

        fn yield_now(&mut self, cx: &mut Context<'_>) {
            // Woken after all tasks and tokio's own I/O. A task that wakes itself is polled up to 61 times
            // before the future that `LocalSet::block_on` runs, which may be what the last turn has woken.
            let _woken_later = pin!(yield_now()).poll(cx);
        }
    }

    impl fmt::Debug for TokioReactor {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("TokioReactor").finish_non_exhaustive()
        }
    }
}
