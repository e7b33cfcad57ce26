//! Ending a sleep from another thread: [`WakeLatch`] with an eventfd for its waker. Not inside: the sleep.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, OnceLock},
    task::{Wake, Waker},
};

use corewire_rings::WakeLatch;

use super::sys::eventfd::EventFd;

/// What a driver shares with its wakers: set by them, taken by the driver after its sleep.
#[derive(Debug)]
pub(super) struct Alarm {
    latch: WakeLatch,
    events: Arc<SleepEvents>,
    /// Writes `events`; what the latch wakes while the driver sleeps.
    waker: Waker,
}

/// The descriptors that end a sleep.
#[derive(Debug)]
struct SleepEvents {
    event: EventFd,
    /// Written together with `event`, for a host that sleeps on it instead of in the driver.
    notice: OnceLock<EventFd>,
}

impl Wake for SleepEvents {
    fn wake(self: Arc<Self>) {
        self.event.ring();
        self.notice.get().into_iter().for_each(EventFd::ring);
    }
}

impl Alarm {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let events = Arc::new(SleepEvents { event: EventFd::new()?, notice: OnceLock::new() });
        let waker = Waker::from(Arc::clone(&events));
        Ok(Arc::new(Self { latch: WakeLatch::new(), events, waker }))
    }

    /// From now on `notice` is written too. The first one stays.
    pub(super) fn keep_notice(&self, notice: EventFd) -> &EventFd {
        self.events.notice.get_or_init(|| notice)
    }

    /// The descriptor for a host, if there is one.
    pub(super) fn notice(&self) -> Option<&EventFd> {
        self.events.notice.get()
    }

    /// Called by the driver before it sleeps; false when a waker was called and it must not.
    #[must_use]
    pub(super) fn fall_asleep(&self) -> bool {
        let asleep = self.latch.arm(&self.waker);
        if !asleep {
            self.latch.take();
        }
        asleep
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
        self.events.event.clear();
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.events.event.as_raw_fd()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.latch.set();
    }
}
