//! A reactor on the ring of a glommio executor.

use std::fmt;
use std::future::Future;
use std::hint::spin_loop;
use std::io;
use std::mem;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::AsyncRead;
use glommio::net::TcpStream;
use glommio::timer::Timer;

use crate::engine::{HostedEngine, Reactor};

/// How long an engine's task yields before the executor gets to its own I/O. A pass costs some system calls,
/// because the executor sets its preemption timers anew.
const BETWEEN_PASSES: Duration = Duration::from_micros(200);

/// The shortest timer that glommio registers instead of answering at once.
const NEXT_PASS: Duration = Duration::from_micros(2);

/// Waits for a hosted engine inside a glommio executor, in that executor's own ring.
///
/// Both drivers can be hosted: the executor's ring polls the engine's descriptor, which is an epoll set or a
/// notice of the engine's own ring. While datums flow the engine's task yields instead of sleeping, and every
/// 200 µs it lets the executor look at its own I/O and timers, which otherwise happens once in the executor's
/// preemption time.
///
/// ```
/// use corewire::hosts::GlommioReactor;
/// use corewire::{EngineConfig, HostedEngine, Network, NetworkId};
/// use glommio::{LocalExecutorBuilder, Placement};
///
/// let Ok(executor) = LocalExecutorBuilder::new(Placement::Unbound).make() else {
///     return Ok(()); // no io_uring here
/// };
/// let hosted = HostedEngine::start(EngineConfig::default())?;
/// let run = hosted.run(GlommioReactor::new(&hosted)?);
/// executor.run(async {
///     glommio::spawn_local(run).detach();
///     let network = Network::new(NetworkId::random()).await?;
///     let producer = network.streams().produce::<u64>();
///     let mut consumer = network.streams().consume::<u64>();
///     producer.send(7).await?;
///     assert_eq!(consumer.recv().await, Some(7));
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GlommioReactor {
    fd: OwnedFd,
    /// The ring's poll of the descriptor; it reports once. glommio has no type for that, but its stream polls
    /// a descriptor before it reads, of whatever kind that is. A second descriptor of the same file, because
    /// the stream closes it. Nothing is read: a socket is the only thing that this type could read.
    poll: Option<TcpStream>,
    /// Ends a yield.
    timer: Option<Timer>,
    /// When the executor last had the opportunity to look at its I/O.
    passed: Instant,
    /// It has one now: the engine's task waits.
    passing: bool,
}

impl GlommioReactor {
    /// For `hosted`. The future is polled by a glommio executor: elsewhere its first yield or sleep panics.
    ///
    /// # Errors
    ///
    /// When the system refuses a descriptor.
    pub fn new(hosted: &HostedEngine) -> io::Result<Self> {
        let fd = hosted.as_fd().try_clone_to_owned()?;
        Ok(Self { fd, poll: None, timer: None, passed: Instant::now(), passing: false })
    }

    /// Whether the ring has reported the descriptor since `poll` was made.
    fn has_reported(poll: &mut TcpStream, cx: &mut Context<'_>) -> bool {
        // The error of a read from something that is no socket.
        Pin::new(poll).poll_read(cx, &mut [0]).is_ready()
    }
}

impl Reactor for GlommioReactor {
    fn clear(&mut self) {
        // The poll stays in the ring; `poll_readable` drops one that has reported.
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll.as_mut().is_some_and(|poll| Self::has_reported(poll, cx)) {
            self.poll = None;
        }
        if self.poll.is_none() {
            // Without a second descriptor the engine's task keeps turning.
            let Ok(fd) = self.fd.try_clone() else { return Poll::Ready(()) };
            let poll = self.poll.insert(socket2::Socket::from(StdStream::from(fd)).into());
            if Self::has_reported(poll, cx) {
                self.poll = None;
                return Poll::Ready(());
            }
        }
        self.passing = true;
        Poll::Pending
    }

    fn yield_now(&mut self, cx: &mut Context<'_>) {
        if mem::take(&mut self.passing) {
            self.passed = Instant::now();
        } else if self.passed.elapsed() >= BETWEEN_PASSES {
            // The executor looks at its rings and its timers once no task is ready. Without a timer that is
            // due it would then sleep, which costs more than all else here.
            let timer = self.timer.get_or_insert_with(|| Timer::new(NEXT_PASS));
            timer.reset(NEXT_PASS);
            let due = Instant::now() + NEXT_PASS;
            if Pin::new(timer).poll(cx).is_pending() {
                while Instant::now() <= due {
                    spin_loop();
                }
                self.passing = true;
                return;
            }
        }
        cx.waker().wake_by_ref();
    }
}

impl fmt::Debug for GlommioReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlommioReactor").finish_non_exhaustive()
    }
}
