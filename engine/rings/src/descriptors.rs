//! The descriptors of a ring's records: two words for each sequence modulo their number. It knows addresses,
//! not who may use them when.

use crate::bugs::mutate;
#[cfg(not(any(loom, shuttle)))]
use crate::limits::PAGE_BYTES;
use crate::sync::{AtomicU64, Ordering};
use crate::word::Stamp;
#[cfg(not(any(loom, shuttle)))]
use std::alloc::{Layout, alloc_zeroed};
#[cfg(not(any(loom, shuttle)))]
use std::ptr;

/// Descriptor of one record.
#[repr(C, align(16))]
pub(crate) struct Descriptor {
    /// A `Stamp`: which record was last published here. Stored by that record's writer (Release), loaded by
    /// readers and writers (Acquire); it carries the meta and the bytes.
    pub(crate) stamp: AtomicU64,
    /// A `Meta`: where that record ends and its length. Stored before the stamp by the same writer.
    pub(crate) meta: AtomicU64,
}

impl Descriptor {
    /// The stamp. Acquire: with the meta and the bytes of its record.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Acquire))
    }
}

/// Bytes of one descriptor.
pub(crate) const DESCRIPTOR_BYTES: usize = 16;
const _: () = assert!(cfg!(any(loom, shuttle)) || size_of::<Descriptor>() == DESCRIPTOR_BYTES);

/// All descriptors; a power of two of them. Sequence `s` has number `s & mask`.
pub(crate) struct Descriptors {
    all: Box<[Descriptor]>,
    mask: u64,
}

/// The same for a loop: address and mask by value, so that the compiler keeps them in registers across calls.
#[derive(Clone, Copy)]
pub(crate) struct DescriptorsView<'a> {
    all: &'a [Descriptor],
    mask: u64,
}

impl<'a> DescriptorsView<'a> {
    #[inline(always)]
    pub(crate) fn at(self, seq: u64) -> &'a Descriptor {
        let index = (seq & self.mask) as usize;
        debug_assert!(index < self.all.len());
        // SAFETY: index <= mask = all.len() - 1, set in `Descriptors::new` and never changed.
        unsafe { self.all.get_unchecked(index) }
    }

    /// The descriptors from `from` on, up to `to` or to the last one before the wrap.
    #[inline(always)]
    pub(crate) fn run(self, from: u64, to: u64) -> std::slice::Iter<'a, Descriptor> {
        let rest = &self.all[(from & self.mask) as usize..];
        rest[..rest.len().min((to - from) as usize)].iter()
    }
}

impl Descriptors {
    /// Descriptors for `datums` records: at least one more than `datums`, because the descriptor before the
    /// gate must survive while the ring is full; it holds the gate's byte position.
    pub(crate) const fn count(datums: usize) -> usize {
        (datums + 1).next_power_of_two()
    }

    /// `None`: no memory.
    pub(crate) fn new(datums: usize) -> Option<Self> {
        let count = mutate!(Self::count(datums), "no-descriptor-before-gate" => Self::count(datums - 1));
        Some(Self { all: unpublished(count)?, mask: count as u64 - 1 })
    }

    /// Writes to each page once, so that no record waits for one. To be called before the first record.
    /// Volatile, because a compiler may leave out zeros that are written to memory it knows to be zero.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn touch(&mut self) {
        let last = self.all.len() - 1;
        let each = (0..last).step_by(PAGE_BYTES / DESCRIPTOR_BYTES);
        // The first need not be at the start of a page, so the last may be on a page of its own.
        for at in each.chain([last]) {
            let descriptor = &mut self.all[at];
            let stamp: *mut u64 = descriptor.stamp.get_mut();
            // SAFETY: the address is that of an exclusive borrow. Zero is what it holds.
            unsafe { stamp.write_volatile(0) }
        }
    }

    #[cfg(any(loom, shuttle))]
    pub(crate) fn touch(&mut self) {}

    #[inline(always)]
    pub(crate) fn view(&self) -> DescriptorsView<'_> {
        DescriptorsView { all: &self.all, mask: self.mask }
    }

    #[inline(always)]
    pub(crate) fn at(&self, seq: u64) -> &Descriptor {
        self.view().at(seq)
    }

    /// End of the run of published records that starts at `from`; at most `limit`.
    pub(crate) fn published_run(&self, from: u64, limit: u64) -> u64 {
        let mut seq = from;
        while seq < limit && self.at(seq).stamp().is_of(seq) {
            seq += 1;
        }
        seq
    }
}

/// Descriptors of no record: all zero, which is the stamp of the record before sequence 0, where the gate is.
/// Memory that the system gives with zeros is not touched, so a large ring takes none before it is used.
#[cfg(not(any(loom, shuttle)))]
fn unpublished(count: usize) -> Option<Box<[Descriptor]>> {
    let layout = Layout::array::<Descriptor>(count).ok()?;
    assert!(layout.size() > 0, "a ring has at least two descriptors");
    // SAFETY: the layout's size is not zero, asserted above.
    let first = unsafe { alloc_zeroed(layout) }.cast::<Descriptor>();
    if first.is_null() {
        return None;
    }
    // SAFETY: the memory was allocated for `count` descriptors, with their layout. Zeros are valid atomics.
    Some(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, count)) })
}

/// The same for models, whose atomics are more than their values.
#[cfg(any(loom, shuttle))]
fn unpublished(count: usize) -> Option<Box<[Descriptor]>> {
    let zero = |_| Descriptor { stamp: AtomicU64::new(0), meta: AtomicU64::new(0) };
    Some((0..count).map(zero).collect())
}
