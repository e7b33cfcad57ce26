//! Ending a sleep from another thread. Not inside: the sleep.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::Wake,
};

use super::sys::eventfd::EventFd;

/// The driver runs and was not called.
const AWAKE: u32 = 0;
/// The driver sleeps or is about to: a caller has to write the eventfd.
const ASLEEP: u32 = 1;
/// The driver was called since it last looked.
const RUNG: u32 = 2;

/// What a driver shares with its wakers.
///
/// Every change of the state is one atomic exchange on one word, so all of them have one order: a call comes
/// either before the driver's "asleep", which then does not happen, or after it, and then the caller sees
/// that it has to write. No wake-up can fall between.
#[derive(Debug)]
pub(super) struct Alarm {
    state: AtomicU32,
    event: EventFd,
    /// Written together with `event`, for a host that sleeps on it instead of in the driver.
    notice: OnceLock<EventFd>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { state: AtomicU32::new(AWAKE), event: EventFd::new()?, notice: OnceLock::new() }))
    }

    /// The descriptor for a host. The first call makes it.
    pub(super) fn make_notice(&self) -> io::Result<&EventFd> {
        if let Some(notice) = self.notice.get() {
            return Ok(notice);
        }
        let made = EventFd::new()?;
        Ok(self.notice.get_or_init(|| made))
    }

    /// The descriptor for a host, if it was made.
    pub(super) fn notice(&self) -> Option<&EventFd> {
        self.notice.get()
    }

    /// Called by the driver before it sleeps; false when it was called and must not.
    #[must_use]
    pub(super) fn fall_asleep(&self) -> bool {
        match self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(_) => {
                self.state.swap(AWAKE, Ordering::AcqRel);
                false
            }
        }
    }

    /// Called by the driver after its sleep; true when a waker was called.
    pub(super) fn wake_up(&self) -> bool {
        self.state.swap(AWAKE, Ordering::AcqRel) == RUNG
    }

    /// Whether a waker was called since the driver fell asleep.
    pub(super) fn is_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNG
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
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            self.event.ring();
            self.notice.get().into_iter().for_each(EventFd::ring);
        }
    }
}
