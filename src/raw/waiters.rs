//! The tasks that wait for a raw channel.

use core::task::Waker;
use std::sync::Arc;
use std::task::Wake;

use corewire_rings::sync::Lock;

/// Tasks that wait for one channel before all of them are woken for the first time.
const WAITERS_MAX: usize = 1_024;

/// The tasks that wait for something about a channel. Each change wakes all of them.
#[derive(Default)]
pub(super) struct Waiters(Lock<Waiting>);

struct Waiting {
    wakers: Vec<Waker>,
    /// With so many, all are woken, so that wakers of tasks that have gone leave. Then it doubles: the others
    /// come back, and must not wake each other again.
    most: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { wakers: Vec::new(), most: WAITERS_MAX }
    }
}

impl Waiters {
    pub(super) fn add(&self, waker: &Waker) {
        let mut waiting = self.0.lock();
        if waiting.wakers.iter().any(|other| other.will_wake(waker)) {
            return;
        }
        let mut crowd = Vec::new();
        if waiting.wakers.len() >= waiting.most {
            crowd = std::mem::take(&mut waiting.wakers);
            waiting.most *= 2;
        }
        waiting.wakers.push(waker.clone());
        drop(waiting);
        crowd.into_iter().for_each(Waker::wake);
    }

    pub(super) fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        waiting.wakers.into_iter().for_each(Waker::wake);
    }
}

/// The waker of the inbox, which keeps one only.
impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corewire_rings::sync::EventCounter;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Sleeper(EventCounter);

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.add_one();
        }
    }

    #[test]
    fn more_tasks_than_are_kept_at_first_may_wait() {
        let waiters = Waiters::default();
        let sleepers: Vec<Arc<Sleeper>> = (0..3 * WAITERS_MAX).map(|_| Arc::default()).collect();
        let wakers: Vec<Waker> = sleepers.iter().map(|sleeper| Waker::from(sleeper.clone())).collect();
        wakers.iter().for_each(|waker| waiters.add(waker));
        let woken = |sleeper: &Arc<Sleeper>| sleeper.0.get();
        let back: Vec<usize> = (0..sleepers.len()).filter(|at| woken(&sleepers[*at]) > 0).collect();
        assert!(!back.is_empty(), "those of tasks that have gone leave");
        back.iter().for_each(|at| waiters.add(&wakers[*at]));
        let before: u64 = sleepers.iter().map(woken).sum();
        wakers.iter().for_each(|waker| waiters.add(waker));
        assert_eq!(sleepers.iter().map(woken).sum::<u64>(), before, "those that wait do not wake each other");
        waiters.wake_all();
        let counts: Vec<u64> = sleepers.iter().map(woken).collect();
        assert_eq!(counts.iter().sum::<u64>(), before + sleepers.len() as u64, "each is woken once");
        assert!(counts.iter().all(|count| *count > 0));
    }
}
