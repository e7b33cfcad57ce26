//! The transmit slab: a bounded number of equal buffers, lent to the shard and then to the kernel.

use std::{
    cell::{Cell, RefCell},
    fmt, io, mem,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    rc::Rc,
};

use super::{LEASE_BYTES, Mapping, leak};

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeasePlace {
    /// In the slab.
    Free,
    /// With the shard, as a [`Lease`].
    Leased,
    /// With the kernel.
    InFlight,
}

/// The buffers. Kept mapped by each lease, and leaked if one is in flight at the driver's end.
#[derive(Debug)]
struct SlabMemory {
    memory: Mapping,
    /// By buffer: its owner.
    places: Box<[Cell<LeasePlace>]>,
    /// Indices of free buffers; the last returned goes out first, because its lines are still in the cache.
    free: RefCell<Vec<u16>>,
    /// Buffers whose place is `InFlight`.
    in_flight: Cell<usize>,
}

impl SlabMemory {
    fn buffer(&self, index: u16) -> NonNull<u8> {
        assert!(usize::from(index) < self.places.len());
        // SAFETY: the mapping holds `places.len()` buffers of LEASE_BYTES and `index` is below that.
        unsafe { self.memory.base().add(usize::from(index) * LEASE_BYTES) }
    }

    fn release(&self, index: u16, from: LeasePlace) {
        let place = &self.places[usize::from(index)];
        assert_eq!(place.get(), from, "buffer {index} is returned by what does not own it");
        place.set(LeasePlace::Free);
        self.free.borrow_mut().push(index);
    }
}

/// The driver's end of the transmit memory.
#[derive(Debug)]
pub(crate) struct TransmitSlab {
    slab: Rc<SlabMemory>,
}

impl TransmitSlab {
    /// Maps `count` buffers of [`LEASE_BYTES`].
    pub(crate) fn new(count: u16, huge: bool) -> io::Result<Self> {
        assert!(count > 0);
        let slab = SlabMemory {
            memory: Mapping::new(usize::from(count) * LEASE_BYTES, huge)?,
            places: vec![Cell::new(LeasePlace::Free); usize::from(count)].into(),
            free: RefCell::new((0..count).rev().collect()),
            in_flight: Cell::new(0),
        };
        Ok(Self { slab: Rc::new(slab) })
    }

    /// Whether [`lease`](Self::lease) would give one.
    pub(crate) fn has_free(&self) -> bool {
        !self.slab.free.borrow().is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.places.len()
    }

    /// How many the kernel has.
    pub(crate) fn in_flight(&self) -> usize {
        self.slab.in_flight.get()
    }

    /// A free buffer, if there is one.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let index = self.slab.free.borrow_mut().pop()?;
        self.slab.places[usize::from(index)].set(LeasePlace::Leased);
        Some(Lease { memory: self.slab.buffer(index), index, slab: Rc::clone(&self.slab) })
    }

    /// Whether `lease` was cut from this slab. A lease of another driver's must not be sent from here,
    /// because its index names another buffer in this slab.
    pub(crate) fn owns(&self, lease: &Lease) -> bool {
        Rc::ptr_eq(&self.slab, &lease.slab)
    }

    /// Gives the buffer to the kernel's side. Its contents must not be written until [`land`](Self::land).
    pub(crate) fn fly(&self, lease: Lease) -> u16 {
        assert!(self.owns(&lease), "a lease goes back to the driver that gave it");
        let index = lease.index;
        self.slab.places[usize::from(index)].set(LeasePlace::InFlight);
        self.slab.in_flight.set(self.slab.in_flight.get() + 1);
        // Without the lease's own drop, which would free the buffer.
        let lease = mem::ManuallyDrop::new(lease);
        // SAFETY: `lease` is never touched again, so this is the only read and the only drop of its `slab`.
        drop(unsafe { std::ptr::read(&lease.slab) });
        index
    }

    /// The kernel is done with a buffer: its terminal completion was seen.
    pub(crate) fn land(&self, index: u16) {
        self.slab.in_flight.set(self.slab.in_flight.get() - 1);
        self.slab.release(index, LeasePlace::InFlight);
    }

    /// The bytes of a buffer in flight. They must not be written: the kernel reads them.
    pub(crate) fn pointer(&self, index: u16) -> *const u8 {
        self.slab.buffer(index).as_ptr()
    }

    /// The first `len` bytes of a buffer in flight.
    pub(crate) fn in_flight_bytes(&self, index: u16, len: usize) -> &[u8] {
        assert!(len <= LEASE_BYTES);
        assert_eq!(self.slab.places[usize::from(index)].get(), LeasePlace::InFlight);
        // SAFETY: the buffer is LEASE_BYTES of initialised memory, no lease to it exists (it is in flight),
        // the kernel only reads it, and it can't be leased again during the borrow: only the driver, which is
        // the caller, lands it.
        unsafe { std::slice::from_raw_parts(self.pointer(index), len) }
    }
}

impl Drop for TransmitSlab {
    fn drop(&mut self) {
        if self.in_flight() > 0 {
            leak(Rc::clone(&self.slab), self.slab.memory.bytes());
        }
    }
}

/// Transmit memory: [`LEASE_BYTES`] bytes, owned until they are sent or dropped. They hold arbitrary bytes at
/// first. Not `Send`: a lease stays on the thread of its driver.
pub struct Lease {
    memory: NonNull<u8>,
    index: u16,
    slab: Rc<SlabMemory>,
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer is LEASE_BYTES of initialised memory, kept mapped by `slab`, and while its place
        // is `Leased` this value is its only owner.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), LEASE_BYTES) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), LEASE_BYTES) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slab.release(self.index, LeasePlace::Leased);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_bounded_and_come_back() {
        let slab = TransmitSlab::new(2, false).unwrap();
        let mut first = slab.lease().unwrap();
        let second = slab.lease().unwrap();
        assert!(slab.lease().is_none());
        first[LEASE_BYTES - 1] = 7;
        drop(second);
        let index = slab.fly(first);
        assert_eq!(slab.in_flight(), 1);
        assert_eq!(slab.in_flight_bytes(index, LEASE_BYTES)[LEASE_BYTES - 1], 7);
        assert!(slab.lease().is_some());
        slab.land(index);
        let both = (slab.lease(), slab.lease());
        assert!(both.0.is_some() && both.1.is_some() && slab.lease().is_none());
    }

    #[test]
    fn a_lease_may_outlive_its_slab() {
        let slab = TransmitSlab::new(1, false).unwrap();
        let mut lease = slab.lease().unwrap();
        drop(slab);
        lease[0] = 1;
        assert_eq!(lease[0], 1);
    }

    #[test]
    fn memory_in_flight_is_leaked_and_counted_not_unmapped() {
        let slab = TransmitSlab::new(1, false).unwrap();
        let before = super::super::leaked_bytes();
        let index = slab.fly(slab.lease().unwrap());
        let bytes = slab.pointer(index);
        drop(slab);
        assert!(super::super::leaked_bytes() >= before + LEASE_BYTES as u64);
        // SAFETY: the slab leaked its mapping, so the byte is still there.
        assert_eq!(unsafe { bytes.read_volatile() }, 0);
    }

    #[test]
    #[should_panic(expected = "goes back to the driver that gave it")]
    fn a_lease_of_another_slab_is_refused() {
        let (one, other) = (TransmitSlab::new(1, false).unwrap(), TransmitSlab::new(1, false).unwrap());
        one.fly(other.lease().unwrap());
    }
}
