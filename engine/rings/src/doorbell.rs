//! A doorbell: wakes one sleeper, rung by many threads. It carries no information about what the work is.

use crate::bugs::{bug, mutate};
use crate::fence::Fences;
use crate::sync::{AtomicBool, Ordering};
use atomic_waker::AtomicWaker;
use std::task::Waker;

/// Wakes one sleeper, once each time it sleeps. Ringing while it is awake costs one load.
///
/// ```
/// # use corewire_rings::Doorbell;
/// # use std::task::Waker;
/// # fn work() -> bool { true }
/// let bell = Doorbell::new();
/// // Ringer: make the work visible, then `bell.ring()`.
/// // Sleeper: arm, look for work once more, and only then sleep.
/// if bell.arm(Waker::noop()) && !work() {
///     // sleep
/// }
/// bell.disarm();
/// ```
#[derive(Debug)]
pub struct Doorbell {
    /// Set by the sleeper, cleared by the thread that wakes it, or by itself.
    armed: AtomicBool,
    waker: AtomicWaker,
    fences: Fences,
}

impl Doorbell {
    /// A doorbell that is not armed.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Fences::detect())
    }

    /// As [`Doorbell::new`], for a sleeper that sleeps often and is seldom rung: arming makes no system call
    /// and never fails, ringing an awake sleeper costs a full fence.
    #[must_use]
    pub fn symmetric() -> Self {
        Self::with(Fences::symmetric())
    }

    fn with(fences: Fences) -> Self {
        Self { armed: AtomicBool::new(false), waker: AtomicWaker::new(), fences }
    }

    /// Wakes the sleeper if it sleeps. Make the work visible (Release or stronger) before.
    #[inline]
    pub fn ring(&self) {
        self.fences.light();
        if self.armed.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // AcqRel: the waker was registered before; the work is visible to the sleeper when it arms again.
        if self.armed.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Arms the bell. `true`: look for work once more, then sleep, or [`Doorbell::disarm`] if there is some.
    /// `false`: the kernel refused the barrier; stay awake. One thread at a time may arm a bell.
    #[must_use]
    pub fn arm(&self, waker: &Waker) -> bool {
        if bug("bell-keeps-old-waker") && self.armed.load(Ordering::Acquire) {
            return true;
        }
        self.waker.register(waker);
        if self.armed.swap(true, Ordering::AcqRel) {
            return true; // Armed and fenced before, and not rung since.
        }
        if mutate!(self.fences.heavy(), "bell-unfenced" => true) {
            return true;
        }
        self.disarm();
        false
    }

    /// Undoes [`Doorbell::arm`]. Does nothing when not armed.
    pub fn disarm(&self) {
        if self.armed.load(Ordering::Relaxed) {
            self.armed.swap(false, Ordering::AcqRel);
        }
        drop(self.waker.take());
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}
