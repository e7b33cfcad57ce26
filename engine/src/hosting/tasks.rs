//! The tasks that share a hosted shard's sleep: each is woken when another caller ends it.

use std::{
    cell::{Cell, RefCell},
    task::Waker,
};

use corewire_rings::contain;

/// The tasks that sleep. Empty while the shard is awake.
#[derive(Default)]
pub(super) struct HostTasks {
    /// A task's number, and what wakes it.
    asleep: RefCell<Vec<(u64, Waker)>>,
    /// The last number that was given.
    last: Cell<u64>,
}

impl HostTasks {
    /// A number for one more task, from 1.
    pub(super) fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    /// From now on `task`, which is not among them, sleeps too.
    pub(super) fn add(&self, task: u64, waker: &Waker) {
        let waker = waker.clone();
        self.asleep.borrow_mut().push((task, waker));
    }

    /// None sleeps any more. All but `ending`, which has ended the sleep, are woken.
    pub(super) fn wake_all_but(&self, ending: u64) {
        if self.asleep.borrow().is_empty() {
            return;
        }
        // Wakers are called and dropped without the borrow: they may poll a task.
        let mut tasks = self.asleep.take();
        for (task, waker) in tasks.drain(..) {
            contain(|| if task == ending { drop(waker) } else { waker.wake() });
        }
        let mut asleep = self.asleep.borrow_mut();
        if asleep.is_empty() {
            // Keeps the memory.
            *asleep = tasks;
        }
    }
}
