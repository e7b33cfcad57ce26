//! One sleeper, many ringers.

use std::task::Waker;

/// Wakes one sleeper. Ringing an awake one costs one load.
#[derive(Debug, Default)]
pub struct Doorbell {}

impl Doorbell {
    /// A doorbell that nobody sleeps on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Wakes the sleeper if it sleeps. Make the work visible before.
    pub fn ring(&self) {
        todo!()
    }
    /// Arms the bell. `true`: look for work once more, then sleep (or [`Doorbell::disarm`] if there is work).
    /// `false`: the kernel refused the barrier, stay awake. Only one thread may arm a bell.
    #[must_use]
    pub fn arm(&self, waker: &Waker) -> bool {
        let _ = waker;
        todo!()
    }
    /// Takes the arming back. Harmless when not armed.
    pub fn disarm(&self) {
        todo!()
    }
}
