//! The atomics, the mutex and the thread: std's, or those of loom or shuttle under `cfg(loom)` and `cfg(shuttle)`.
//! Nothing else in the crate names any of them.

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

/// What a parked thread needs. Loom's models use loom's own executor, so there it is std's.
pub(crate) mod parking {
    #[cfg(shuttle)]
    pub(crate) use shuttle::{sync::atomic::AtomicBool, thread, thread_local};
    #[cfg(not(shuttle))]
    pub(crate) use std::{sync::atomic::AtomicBool, thread, thread_local};
}

/// A number that no other living thread has, and more than 2.
#[inline(always)]
pub(crate) fn thread_token() -> u64 {
    #[cfg(not(any(loom, shuttle)))]
    {
        std::thread_local! {
            // A cell, though nobody writes it: what never changes, a compiler may share between threads.
            static HERE: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
        }
        HERE.with(|here| here.as_ptr().addr() as u64)
    }
    // The threads of a model share one thread of the system, and that one's addresses.
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

/// Lets another thread go on.
pub(crate) fn yield_now() {
    #[cfg(not(any(loom, shuttle)))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// A millisecond, or what stands for it in a model.
pub(crate) fn sleep_a_moment() {
    #[cfg(not(any(loom, shuttle)))]
    std::thread::sleep(std::time::Duration::from_millis(1));
    #[cfg(any(loom, shuttle))]
    yield_now();
}

/// Locks, and goes on after a panic elsewhere: no critical section of this crate can leave its data half changed.
#[cfg(not(corewire_sanitize))]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// As above, for ThreadSanitizer: it does not see into the compiled parts of std, among them the wait for a lock,
/// and would take what the lock orders for a race. It sees `try_lock`, which is inlined.
#[cfg(corewire_sanitize)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}

/// `crossbeam_queue::ArrayQueue`, or a stand-in that loom and shuttle can see.
#[cfg(not(any(loom, shuttle)))]
pub(crate) use crossbeam_queue::ArrayQueue;

#[cfg(any(loom, shuttle))]
pub(crate) struct ArrayQueue<T> {
    capacity: usize,
    items: Mutex<std::collections::VecDeque<T>>,
}

#[cfg(any(loom, shuttle))]
impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, items: Mutex::new(std::collections::VecDeque::new()) }
    }
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut items = lock(&self.items);
        if items.len() == self.capacity {
            return Err(item);
        }
        items.push_back(item);
        Ok(())
    }
    pub(crate) fn pop(&self) -> Option<T> {
        lock(&self.items).pop_front()
    }
    pub(crate) fn len(&self) -> usize {
        lock(&self.items).len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
