//! Ending a sleep from another thread.
//!
//! Not inside: the sleep, and the sleeper protocol. That is [`WakeLatch`]'s; here is the file descriptor
//! behind it.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    task::{Wake, Waker},
};

use corewire_rings::WakeLatch;

use super::sys::eventfd::EventFd;

/// What a driver shares with its wakers. Waking an awake driver writes no file descriptor, and the driver's
/// next sleep ends at once.
#[derive(Debug)]
pub(super) struct Alarm {
    latch: WakeLatch,
    event: Arc<EventFd>,
    /// Writes `event`; woken by the latch, at most once per sleep.
    writer: Waker,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let event = Arc::new(EventFd::new()?);
        Ok(Arc::new(Self { latch: WakeLatch::new(), writer: Waker::from(Arc::clone(&event)), event }))
    }

    /// Called by the driver before it sleeps. `false`: a waker was called since the last sleep; do not sleep.
    #[must_use]
    pub(super) fn fall_asleep(&self) -> bool {
        let sleeps = self.latch.arm(&self.writer);
        if !sleeps {
            self.latch.take();
        }
        sleeps
    }

    /// Called by the driver after its sleep; true when a waker was called.
    pub(super) fn wake_up(&self) -> bool {
        self.latch.disarm();
        self.latch.take()
    }

    /// Whether a waker was called since the driver fell asleep.
    pub(super) fn is_rung(&self) -> bool {
        self.latch.is_set()
    }

    /// Sets the eventfd back, for a driver that waits for its level.
    pub(super) fn clear(&self) {
        self.event.clear();
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.latch.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.latch.set();
    }
}

impl Wake for EventFd {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
