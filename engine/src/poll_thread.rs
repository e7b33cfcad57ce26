//! A reactor for any executor: a thread that sleeps until a descriptor is readable.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use corewire_rings::{contain, sync::Lock};

use crate::{
    driver::wait_readable,
    hosted::{HostedEngine, Reactor},
};

/// What the thread is to wait for.
#[derive(Debug, Default)]
struct Watch {
    /// Woken once; `None` while the shard is awake.
    task: Option<Waker>,
    deadline: Option<Instant>,
}

/// A [`Reactor`] for executors that cannot wait for a descriptor: a thread sleeps in `poll` and wakes the
/// task. A sleep and a wake-up cost two system calls and a hop between threads more than a reactor of the
/// executor's own; the thread sleeps while datums flow.
#[derive(Debug)]
pub struct PollThread {
    watch: Arc<Lock<Watch>>,
    /// A byte in it makes the thread look at `watch`; its end ends the thread.
    caller: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    /// Starts the thread for `hosted`.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread or a descriptor.
    pub fn start(hosted: &HostedEngine) -> io::Result<Self> {
        let watch = Arc::new(Lock::new(Watch::default()));
        let (called, caller) = pipe()?;
        let fd = hosted.as_fd().try_clone_to_owned()?;
        let shared = watch.clone();
        let thread = thread::Builder::new()
            .name("corewire-poll".into())
            .spawn(move || watch_descriptor(&fd, called, &shared))?;
        Ok(Self { watch, caller: Some(caller), thread: Some(thread) })
    }
}

impl Reactor for PollThread {
    fn clear(&mut self) {
        let task = self.watch.lock().task.take();
        drop(task);
    }

    fn poll_readable(&mut self, limit: Option<Duration>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let watch = Watch { task: Some(cx.waker().clone()), deadline };
        let before = std::mem::replace(&mut *self.watch.lock(), watch);
        drop(before);
        let called = self.caller.as_mut().is_some_and(|caller| caller.write(&[1]).is_ok());
        if called { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for PollThread {
    fn drop(&mut self) {
        self.caller = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch_descriptor(fd: &OwnedFd, mut called: PipeReader, watch: &Lock<Watch>) {
    loop {
        let (watching, deadline) = {
            let watch = watch.lock();
            (watch.task.is_some(), watch.deadline)
        };
        let woken = if watching {
            let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            wait_readable(&[called.as_fd(), fd.as_fd()], limit)
        } else {
            wait_readable(&[called.as_fd()], None)
        };
        if woken.as_ref().is_ok_and(|first| *first == Some(0)) {
            // At its end there is nothing to read: the reactor was dropped.
            if !called.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
                return;
            }
            continue;
        }
        let task = if watching && woken.is_ok() { watch.lock().task.take() } else { None };
        if let Some(task) = task {
            contain(|| task.wake());
        }
    }
}
