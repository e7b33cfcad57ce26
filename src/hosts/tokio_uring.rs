//! A reactor inside tokio-uring's runtime.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::unix::AsyncFd;

use super::on_tokio::{TokioReactor, forget, watch};
use crate::engine::{HostedEngine, Reactor};

/// How long an engine's task yields before the runtime gets to its own I/O. A pass costs some microseconds.
const BETWEEN_PASSES: Duration = Duration::from_micros(50);

/// Waits for a hosted engine inside tokio-uring's runtime.
///
/// That runtime is tokio's with one thread, and waits for its own ring as [`TokioReactor`] waits for the
/// engine. But it submits the ring's operations only when the thread has no task to run. While datums flow
/// the engine's task yields instead of sleeping: with this reactor it leaves the thread without a task every
/// 50 µs, with `TokioReactor` the program's operations would wait until the engine sleeps.
///
/// ```
/// use corewire::hosts::TokioUringReactor;
/// use corewire::{EngineConfig, HostedEngine, Network, NetworkId};
///
/// let Ok(runtime) = tokio_uring::Runtime::new(&tokio_uring::builder()) else {
///     return Ok(()); // no io_uring here
/// };
/// let hosted = HostedEngine::start(EngineConfig::default())?;
/// runtime.block_on(async {
///     tokio_uring::spawn(hosted.run(TokioUringReactor::new(&hosted)?));
///     let network = Network::new(NetworkId::random()).await?;
///     let producer = network.streams().produce::<u64>();
///     let mut consumer = network.streams().consume::<u64>();
///     producer.send(7).await?;
///     assert_eq!(consumer.recv().await, Some(7));
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TokioUringReactor {
    sleep: TokioReactor,
    /// An eventfd that is written and never read: each write wakes the task the next time that the runtime
    /// looks at its descriptors.
    pass: AsyncFd<OwnedFd>,
    /// When the thread last had the opportunity to be without a task.
    passed: Instant,
}

impl TokioUringReactor {
    /// For `hosted`, whose descriptor the runtime watches from now on.
    ///
    /// # Errors
    ///
    /// When the system refuses a descriptor.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn new(hosted: &HostedEngine) -> io::Result<Self> {
        let pass = watch(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?;
        Ok(Self { sleep: TokioReactor::new(hosted)?, pass, passed: Instant::now() })
    }
}

impl Reactor for TokioUringReactor {
    fn clear(&mut self) {
        self.sleep.clear();
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.poll_readable(cx)
    }

    fn yield_now(&mut self, cx: &mut Context<'_>) {
        if self.passed.elapsed() >= BETWEEN_PASSES {
            self.passed = Instant::now();
            forget(&self.pass);
            let is_written = rustix::io::write(self.pass.get_ref(), &1u64.to_ne_bytes()).is_ok();
            if is_written && self.pass.poll_read_ready(cx).is_pending() {
                return;
            }
        }
        self.sleep.yield_now(cx);
    }
}

impl fmt::Debug for TokioUringReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioUringReactor").finish_non_exhaustive()
    }
}
