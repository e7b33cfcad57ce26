//! A reactor for any executor: a thread that sleeps until a descriptor is readable.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
    time::Duration,
};

use corewire_rings::{contain, sync::Lock};

use crate::{
    affinity::{self, Cpus},
    driver::{EventFd, wait_readable},
    hosted::{HostedEngine, Reactor},
};

/// How long a thread that is not allowed to wait for descriptors sleeps.
const BLIND_PAUSE: Duration = Duration::from_millis(1);

/// What the thread is to wait for.
#[derive(Debug, Default)]
struct Watch {
    /// Woken once; `None` while the shard is awake.
    task: Option<Waker>,
    /// The thread waits for the descriptor, so it finds a task without being called.
    watching: bool,
    /// The reactor was dropped.
    ended: bool,
}

/// What the thread and its reactor share.
#[derive(Debug)]
struct PollShared {
    watch: Lock<Watch>,
    /// Makes the thread look at `watch`.
    call: EventFd,
}

/// A [`Reactor`] for executors that cannot wait for a descriptor: a thread sleeps in `poll` and wakes the
/// task. A wake-up costs a hop between threads more than a reactor of the executor's own, and a sleep often a
/// system call more; the thread sleeps while datums flow.
#[derive(Debug)]
pub struct PollThread {
    shared: Arc<PollShared>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    /// Starts the thread for `hosted`. It may run on each CPU of the process, wherever the caller is pinned.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread or a descriptor.
    pub fn start(hosted: &HostedEngine) -> io::Result<Self> {
        let shared = Arc::new(PollShared { watch: Lock::new(Watch::default()), call: EventFd::new()? });
        let fd = hosted.as_fd().try_clone_to_owned()?;
        let its = shared.clone();
        let thread = thread::Builder::new().name("corewire-poll".into()).spawn(move || {
            affinity::spread(&Cpus::detect().allowed);
            watch_descriptor(&fd, &its);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Reactor for PollThread {
    fn clear(&mut self) {
        let task = self.shared.watch.lock().task.take();
        drop(task);
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let task = cx.waker().clone();
        let (before, watching) = {
            let mut watch = self.shared.watch.lock();
            (watch.task.replace(task), watch.watching)
        };
        drop(before);
        if !watching {
            self.shared.call.ring();
        }
        Poll::Pending
    }
}

impl Drop for PollThread {
    fn drop(&mut self) {
        self.shared.watch.lock().ended = true;
        self.shared.call.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch_descriptor(fd: &OwnedFd, shared: &PollShared) {
    let PollShared { watch, call } = shared;
    loop {
        let watching = {
            let mut watch = watch.lock();
            if watch.ended {
                return;
            }
            watch.watching = watch.task.is_some();
            watch.watching
        };
        let both = [fd.as_fd(), call.as_fd()];
        let woken = wait_readable(if watching { &both } else { &both[1..] }, None);
        match woken {
            Ok(Some(0)) if watching => {}
            // A sandbox that was entered since forbids to wait: the task looks for itself, again and again.
            Err(error) if error.kind() != io::ErrorKind::Interrupted => thread::sleep(BLIND_PAUSE),
            _ => {
                // Before the next look at what the caller has changed.
                call.clear();
                continue;
            }
        }
        let task = watch.lock().task.take();
        if let Some(task) = task {
            contain(|| task.wake());
        }
    }
}
