//! Atomics, mutex and threads: those of std, or of loom or shuttle under `cfg(loom)` and `cfg(shuttle)`. No
//! other file of this crate names them.

use std::sync::PoisonError;

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};

/// Statics of each thread; in a model, of each of the model's threads.
#[cfg(loom)]
pub(crate) use loom::thread_local;
#[cfg(shuttle)]
pub(crate) use shuttle::thread_local;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::thread_local;

/// What `park` needs. Loom's models block with loom's own executor, so there it is std's.
pub(crate) mod parking {
    #[cfg(shuttle)]
    pub(crate) use shuttle::{sync::atomic::AtomicBool, thread, thread_local};
    #[cfg(not(shuttle))]
    pub(crate) use std::{sync::atomic::AtomicBool, thread, thread_local};
}

/// A number above 2 that no other living thread has.
#[inline(always)]
pub(crate) fn thread_token() -> u64 {
    #[cfg(not(any(loom, shuttle)))]
    {
        std::thread_local! {
            // A cell although it is never written: a compiler may merge constants of several threads.
            static HERE: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
        }
        HERE.with(|here| here.as_ptr().addr() as u64)
    }
    // All threads of a model run on one thread of the system and would share its address.
    #[cfg(loom)]
    {
        loom::thread_local! {
            static HERE: Box<u8> = Box::new(0);
        }
        HERE.with(|here| std::ptr::from_ref(&**here).addr() as u64)
    }
    #[cfg(shuttle)]
    {
        shuttle::thread_local! {
            static HERE: Box<u8> = Box::new(0);
        }
        HERE.with(|here| std::ptr::from_ref(&**here).addr() as u64)
    }
}

/// Gives the processor to another thread.
pub(crate) fn yield_now() {
    #[cfg(not(any(loom, shuttle)))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// Sleeps one millisecond; in a model, yields.
pub(crate) fn sleep_a_moment() {
    #[cfg(not(any(loom, shuttle)))]
    std::thread::sleep(std::time::Duration::from_millis(1));
    #[cfg(any(loom, shuttle))]
    yield_now();
}

/// A mutex that ignores poisoning: after a panic in a critical section the next one finds the data as the
/// panic left it. Use it only if every critical section keeps its data consistent at each call that may
/// panic.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

/// Access to what a [`Lock`] protects. Dropping it unlocks.
pub type LockGuard<'a, T> = MutexGuard<'a, T>;

impl<T> Lock<T> {
    /// An unlocked lock.
    #[cfg(not(any(loom, shuttle)))]
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// An unlocked lock.
    #[cfg(any(loom, shuttle))]
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock and takes it.
    #[cfg(not(corewire_sanitize))]
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As above, for ThreadSanitizer. It does not see into the compiled parts of std, among them the wait for
    /// a lock, and would report what the lock orders as a race. It sees `try_lock`, which is inlined.
    #[cfg(corewire_sanitize)]
    pub fn lock(&self) -> LockGuard<'_, T> {
        loop {
            match self.0.try_lock() {
                Ok(guard) => return guard,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }

    /// The value, without locking: the exclusive borrow is the lock.
    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A condition that changes seldom. What was done before a change is visible to a thread that reads it.
#[derive(Debug, Default)]
pub struct AtomicFlag(AtomicBool);

impl AtomicFlag {
    /// Whether it is set.
    #[inline]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets or clears it, and gives what it was.
    #[inline]
    pub fn set(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::AcqRel)
    }
}

/// Counts events. It orders nothing between threads.
#[derive(Debug, Default)]
pub struct EventCounter(AtomicU64);

impl EventCounter {
    /// Counts one.
    #[inline]
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Counts several.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many were counted.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Places that are taken of a bounded number.
#[derive(Debug, Default)]
pub struct PlaceCount(AtomicUsize);

impl PlaceCount {
    /// Takes a place; `false`: all `limit` are taken.
    #[must_use]
    pub fn take(&self, limit: usize) -> bool {
        let next = |taken: usize| (taken < limit).then(|| taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Gives a place back that was taken.
    pub fn give_back(&self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a place was given back that was not taken");
    }

    /// How many are taken.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// `crossbeam_queue::ArrayQueue`, or a substitute that loom and shuttle can explore.
#[cfg(not(any(loom, shuttle)))]
pub(crate) use crossbeam_queue::ArrayQueue;

#[cfg(any(loom, shuttle))]
pub(crate) struct ArrayQueue<T> {
    capacity: usize,
    items: Lock<std::collections::VecDeque<T>>,
}

#[cfg(any(loom, shuttle))]
impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, items: Lock::new(std::collections::VecDeque::new()) }
    }
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock();
        if items.len() == self.capacity {
            return Err(item);
        }
        items.push_back(item);
        Ok(())
    }
    pub(crate) fn pop(&self) -> Option<T> {
        self.items.lock().pop_front()
    }
    pub(crate) fn len(&self) -> usize {
        self.items.lock().len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
