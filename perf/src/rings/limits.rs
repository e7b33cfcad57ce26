//! The limits that figures are divided by: minimal code without a protocol.
//!
//! A bare cache line bounced between two cores, and a bare ring of fixed slots with one writer and one reader
//! whose index moves once for a whole batch. Neither wakes, closes, gates several readers or holds records of
//! different sizes; nothing that does can be faster. For wake-ups, one word that the kernel waits on.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::run::{all_trips, time_trips};
use super::{Message, Rx, Tx};
use crate::machine::pin;

/// A pair of cache lines, since the adjacent-line prefetcher fetches both.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

/// Round trip in nanoseconds of one cache line; see [`time_trips`].
pub fn ping_pong(trips: usize) -> f64 {
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let (there, back) = (&there.0, &back.0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            for count in 1..=all_trips(trips) {
                while there.load(Ordering::Acquire) != count {
                    std::hint::spin_loop();
                }
                back.store(count, Ordering::Release);
            }
        });
        time_trips(trips, |count| {
            there.store(count + 1, Ordering::Release);
            while back.load(Ordering::Acquire) != count + 1 {
                std::hint::spin_loop();
            }
        })
    })
}

/// The minimal sleep: a counter in a futex word. Every increment wakes, whether or not a thread sleeps.
#[derive(Default)]
pub struct Futex(Line<AtomicU32>);

impl Futex {
    /// Increments the counter and wakes one sleeper.
    pub fn post(&self) {
        self.0.0.fetch_add(1, Ordering::Release);
        // SAFETY: the word lives as long as `self`, and waking neither reads nor writes it.
        unsafe {
            libc::syscall(libc::SYS_futex, self.0.0.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1)
        };
    }

    /// Sleeps until the counter differs from `seen`.
    pub fn wait_past(&self, seen: u32) {
        while self.0.0.load(Ordering::Acquire) == seen {
            let forever = std::ptr::null::<libc::timespec>();
            // SAFETY: the word lives as long as `self`; the kernel reads it, and compares it with `seen`
            // itself.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.0.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    seen,
                    forever,
                )
            };
        }
    }
}

struct Bare<const W: usize> {
    tail: Line<AtomicU64>,
    head: Line<AtomicU64>,
    slots: Box<[UnsafeCell<Message<W>>]>,
}

// SAFETY: a slot is written only by the one `BareTx` while `head + capacity > tail` keeps the one `BareRx`
// off it, and read only by `BareRx` below `tail`; both sides order their accesses by Acquire/Release on the
// indices.
unsafe impl<const W: usize> Sync for Bare<W> {}
// SAFETY: `Message` is plain data.
unsafe impl<const W: usize> Send for Bare<W> {}

/// The writer of the bare ring.
pub struct BareTx<const W: usize> {
    ring: Arc<Bare<W>>,
    tail: u64,
    head_seen: u64,
}

/// The reader of the bare ring.
pub struct BareRx<const W: usize> {
    ring: Arc<Bare<W>>,
    head: u64,
    tail_seen: u64,
}

/// A bare ring of `capacity` slots (a power of two).
pub fn bare<const W: usize>(capacity: usize) -> (BareTx<W>, BareRx<W>) {
    assert!(capacity.is_power_of_two());
    let slots = (0..capacity).map(|_| UnsafeCell::new(Message::default())).collect();
    let ring = Arc::new(Bare { tail: Line::default(), head: Line::default(), slots });
    (BareTx { ring: ring.clone(), tail: 0, head_seen: 0 }, BareRx { ring, head: 0, tail_seen: 0 })
}

impl<const W: usize> BareTx<W> {
    #[inline(always)]
    fn room(&mut self, wanted: u64) -> u64 {
        let capacity = self.ring.slots.len() as u64;
        if self.tail + wanted - self.head_seen > capacity {
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
        }
        (capacity - (self.tail - self.head_seen)).min(wanted)
    }
}

impl<const W: usize> Tx<W> for BareTx<W> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        let slot = &self.ring.slots[self.tail as usize & (self.ring.slots.len() - 1)];
        // SAFETY: `room` saw this slot free, and only this writer moves `tail`.
        unsafe { *slot.get() = *message };
        self.tail += 1;
        self.ring.tail.0.store(self.tail, Ordering::Release);
        true
    }

    #[inline(always)]
    fn try_send_batch(&mut self, sender: u64, first: u64, n: usize) -> usize {
        let room = self.room(n as u64) as usize;
        let mask = self.ring.slots.len() - 1;
        for i in 0..room {
            let slot = &self.ring.slots[(self.tail as usize + i) & mask];
            // SAFETY: as above; `room` slots were seen free.
            unsafe { *slot.get() = Message::new(sender, first + i as u64) };
        }
        if room > 0 {
            self.tail += room as u64;
            self.ring.tail.0.store(self.tail, Ordering::Release);
        }
        room
    }
}

impl<const W: usize> Rx<W> for BareRx<W> {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        if self.tail_seen == self.head {
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
        }
        let n = (self.tail_seen - self.head).min(max as u64) as usize;
        let mask = self.ring.slots.len() - 1;
        for i in 0..n {
            // SAFETY: below `tail`, written before its Release store; the writer stays off until `head`
            // moves.
            see(unsafe { &*self.ring.slots[(self.head as usize + i) & mask].get() });
        }
        if n > 0 {
            self.head += n as u64;
            self.ring.head.0.store(self.head, Ordering::Release);
        }
        n
    }
}
