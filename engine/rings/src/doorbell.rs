//! One sleeper, many ringers. It says *that* there is work, never what: look for yourself.

use crate::bugs::bug;
use crate::fence::Fences;
use crate::sync::{AtomicBool, Ordering};
use atomic_waker::AtomicWaker;
use std::task::Waker;

/// Wakes one sleeper, once each time it sleeps. Ringing an awake one costs one load.
///
/// ```
/// # use corewire_rings::Doorbell;
/// # use std::task::Waker;
/// # fn work() -> bool { true }
/// let bell = Doorbell::new();
/// // Sleeper: arm, look once more, and only then sleep. Others: make the work visible, then `bell.ring()`.
/// if bell.arm(Waker::noop()) && !work() {
///     // sleep
/// }
/// bell.disarm();
/// ```
#[derive(Debug)]
pub struct Doorbell {
    /// Set by the sleeper, cleared by whoever wakes it, or by itself.
    armed: AtomicBool,
    waker: AtomicWaker,
    fences: Fences,
}

impl Doorbell {
    /// A doorbell that nobody sleeps on.
    #[must_use]
    pub fn new() -> Self {
        Self { armed: AtomicBool::new(false), waker: AtomicWaker::new(), fences: Fences::detect() }
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
        // AcqRel: the waker was registered before; the work is visible to who arms again.
        if self.armed.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Arms the bell. `true`: look for work once more, then sleep, or [`Doorbell::disarm`] if there is some. `false`:
    /// the kernel refused the barrier that the promise rests on; stay awake. One thread at a time may arm a bell.
    #[must_use]
    pub fn arm(&self, waker: &Waker) -> bool {
        if bug("bell-keeps-old-waker") && self.armed.load(Ordering::Acquire) {
            return true;
        }
        self.waker.register(waker);
        if self.armed.swap(true, Ordering::AcqRel) {
            return true; // Armed and fenced before, and nobody has rung since.
        }
        if bug("bell-unfenced") || self.fences.heavy() {
            return true;
        }
        self.disarm();
        false
    }

    /// Takes the arming back. Harmless when not armed.
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
