//! A pinned cursor for as long as a guard lives, and the loop over the records after it.

use crate::arena::{PackedStride, ScatteredStride, Stride, slice_at};
use crate::bugs::mutate;
use crate::descriptors::DescriptorsView;
use crate::error::Detached;
use crate::read::{PublishedRecord, RecordState};
use crate::reader::{After, PackedPlace, Reader};
use crate::word::Stamp;

/// A pinned cursor: while it lives, nothing from `start` on is overwritten, and no writer moves or detaches
/// the reader. Dropping it moves the cursor to [`PinGuard::target`]; by default it stays.
///
/// Leaked (`mem::forget`), the reader stays pinned until it pins again or is dropped.
pub struct PinGuard<'a> {
    reader: &'a mut Reader,
    /// The oldest record that can be read: the reader's `next`.
    start: u64,
    /// Where the cursor goes when the guard ends. At least `start`; everything before it is published.
    target: u64,
    /// Records lost just before `start`.
    lost: u64,
}

impl Reader {
    /// Pins the cursor, so that records from [`PinGuard::start`] on can be read in place. A store to the
    /// reader's own line, or a compare-and-swap once a reader of this ring was evicted or detached, for any
    /// number of records. Also pins in an empty ring; when polling, ask [`Reader::is_ready`] first.
    #[inline]
    pub fn pin_guard(&mut self) -> Result<PinGuard<'_>, Detached> {
        self.pin_cursor()?;
        let lost = std::mem::take(&mut self.unreported);
        Ok(PinGuard { start: self.next, target: self.next, lost, reader: self })
    }
}

impl PinGuard<'_> {
    /// Sequence of the oldest record that can be read.
    #[inline]
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Records lost by eviction between the previous guard and this one, all of them just before `start`.
    #[inline]
    #[must_use]
    pub fn lost_before(&self) -> u64 {
        self.lost
    }

    /// The record at `seq`, which may be anywhere after `start`, in any order.
    #[inline]
    #[must_use]
    pub fn get(&self, seq: u64) -> RecordState<'_> {
        self.reader.state_at(seq, self.start)
    }

    /// Gives every record from [`PinGuard::target`] on to `each`, with its sequence, and moves the target
    /// after it. Stops before the first record that is not published, and after `max` sequences. Abandoned
    /// records are skipped. Gives the number of records that `each` got. If `each` panics, the record that it
    /// got counts as read.
    ///
    /// Faster than [`PinGuard::get`] for consecutive records of one length below 1,023 bytes: the next stamp
    /// is known, and compared instead of decoded.
    ///
    /// ```
    /// # use corewire_rings::{Ring, RingConfig};
    /// # let (datums, bytes, max_record) = (4, 1024, 256);
    /// # let config = RingConfig { datums, bytes, max_record, readers: 1, scatter_small: false };
    /// # let ring = Ring::new(config)?;
    /// # let (writer, mut reader) = (ring.writer(), ring.subscribe()?);
    /// writer.try_push(b"one")?;
    /// writer.try_push(b"two")?;
    /// let mut bytes = 0;
    /// assert_eq!(reader.pin_guard()?.for_each(64, |_seq, record| bytes += record.len()), 2);
    /// assert_eq!((bytes, reader.position()), (6, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn for_each(&mut self, max: usize, mut each: impl FnMut(u64, &[u8])) -> usize {
        let shared = &*self.reader.shared;
        let (descriptors, arena) = (shared.descriptors.view(), &shared.arena);
        let from = self.target;
        let last = from.saturating_add(max as u64);
        let mut abandoned = 0;
        // Its drop sets `self.target`, also if `each` panics.
        let mut progress = ReadProgress { target: &mut self.target, seq: from };
        while progress.seq < last {
            let seq = progress.seq;
            let descriptor = descriptors.at(seq);
            let stamp = descriptor.stamp();
            if !stamp.is_of(seq) {
                break;
            }
            let found = PublishedRecord { descriptor, stamp };
            progress.seq = seq + 1;
            let Some(len) = found.len() else {
                abandoned += 1;
                continue;
            };
            let at = self.reader.locate(seq, found, len);
            // SAFETY: as in `Reader::bytes`; the slice lives no longer than the borrow of the guard in
            // `progress`.
            each(seq, unsafe { slice_at(arena.address(at), len) });
            // Most streams have records of one length. Then the next stamp is known.
            let last = if stamp.inline_len().is_some() { last } else { progress.seq };
            if arena.is_scattered(len) {
                let mut stride = ScatteredStride::new(arena, at, len);
                progress.run(descriptors, last, stamp, &mut stride, len, &mut each);
            } else {
                let mut stride = PackedStride::new(arena, at, len);
                progress.run(descriptors, last, stamp, &mut stride, len, &mut each);
                let next = PackedPlace { seq: progress.seq, at: arena.next_packed(stride.at(), len) };
                self.reader.next_packed.set(next);
            }
        }
        let to = progress.seq;
        drop(progress);
        let published = self.reader.published.get();
        // Otherwise the cursor stands before an unpublished record that this reader does not want.
        if published >= from {
            self.reader.published.set(published.max(to));
        }
        (to - from) as usize - abandoned
    }

    /// End of the published run that starts at `start`, at most `max` records after it.
    #[inline]
    #[must_use]
    pub fn published_to(&self, max: usize) -> u64 {
        self.reader.within_reach(self.start.saturating_add(max as u64))
    }

    /// Sets where the cursor goes when the guard ends: `seq`, or `start` if that is later, or the end of the
    /// published run if that is earlier. Gives the target.
    #[inline]
    pub fn advance_to(&mut self, seq: u64) -> u64 {
        self.target = self.reader.within_reach(seq);
        debug_assert!(self.target >= self.start);
        self.target
    }

    /// Where the cursor goes when the guard ends.
    #[inline]
    #[must_use]
    pub fn target(&self) -> u64 {
        self.target
    }

    /// Gives the room before the target back now, and stays pinned from there on.
    #[inline]
    pub fn release_now(&mut self) {
        self.start = self.target;
        self.reader.move_to(self.target, After::Pinned);
    }
}

impl Drop for PinGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.reader.unpin_at(self.target);
    }
}

impl std::fmt::Debug for PinGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinGuard")
            .field("start", &self.start)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// How far [`PinGuard::for_each`] has come. Its drop sets the guard's target.
struct ReadProgress<'a> {
    target: &'a mut u64,
    /// The next record to read.
    seq: u64,
}

impl ReadProgress<'_> {
    /// Gives the records after one with this `stamp` to `each`, while they are published, have the same
    /// length, and are before `last`. `stride` stands at that one.
    #[inline(always)]
    fn run(
        &mut self,
        descriptors: DescriptorsView<'_>,
        last: u64,
        stamp: Stamp,
        stride: &mut impl Stride,
        len: usize,
        each: &mut impl FnMut(u64, &[u8]),
    ) {
        let mut run = RunProgress { stamp, seq: &mut self.seq };
        while run.stamp.next_seq() < last {
            for descriptor in descriptors.run(run.stamp.next_seq(), last) {
                run.stamp = run.stamp.next_of_same_len();
                if mutate!(descriptor.stamp() != run.stamp, "run-unstamped" => false) {
                    run.stamp = run.stamp.previous_of_same_len();
                    return;
                }
                // SAFETY: as in `Reader::bytes`: published, and after a cursor that is pinned while `target`
                // is borrowed.
                each(run.stamp.next_seq() - 1, unsafe { slice_at(stride.next(), len) });
            }
        }
    }
}

/// The stamp of the record that was read last: all that a run counts. Its drop sets the sequence, also if the
/// caller's function panics.
struct RunProgress<'a> {
    stamp: Stamp,
    seq: &'a mut u64,
}

impl Drop for RunProgress<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.seq = self.stamp.next_seq();
    }
}

impl Drop for ReadProgress<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.target = self.seq;
    }
}
