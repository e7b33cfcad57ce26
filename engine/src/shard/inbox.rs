//! The consumer's end of a channel: it takes datums and returns credit.
//!
//! An inbox has one of two shapes. A *local* one reads the producer's own ring: the record is the datum, its
//! sequence is the ring's. A *remote* one reads a ring that a shard fills: each record starts with
//! [`HEADER_BYTES`] bytes that hold the datum's sequence and the number of datums missing before it.
//!
//! Decoding, waiting and the merging of several inboxes are the consumer handle's.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use corewire_proto::channel::datum_cost;
use corewire_rings::{ConsumerProgress, Reader, Record, RecvError, limits::UNIT_BYTES};

use super::{
    notifier::{Notification, ShardNotifier},
    table::ChannelSlot,
};

/// Bytes before a datum in a remote inbox: its sequence and the number of datums missing before it, both
/// little-endian `u64`. Sixteen, so that the datum keeps the alignment of its record.
pub const HEADER_BYTES: usize = 16;

// The protocol and the rings count alike, so credit and room are one number.
const _: () = assert!(datum_cost(1) == UNIT_BYTES as u64 && datum_cost(UNIT_BYTES + 1) == 2 * datum_cost(1));

/// Writes the header of a record.
pub(crate) fn write_header(record: &mut [u8], seq: u64, skipped: u64) {
    record[..8].copy_from_slice(&seq.to_le_bytes());
    record[8..HEADER_BYTES].copy_from_slice(&skipped.to_le_bytes());
}

/// Sequence, missing datums, and the datum of a record.
#[inline]
fn header_of(record: &[u8]) -> (u64, u64, &[u8]) {
    if let Some((seq, rest)) = record.split_first_chunk::<8>()
        && let Some((skipped, datum)) = rest.split_first_chunk::<8>()
    {
        return (u64::from_le_bytes(*seq), u64::from_le_bytes(*skipped), datum);
    }
    // Only a shard writes such records, each with a header.
    unreachable!("an inbox record of {} bytes has no header", record.len())
}

/// Returns the credit of a remote inbox. One per channel, owned by its consumer. When it is dropped, the
/// shard resets the channel.
#[derive(Debug)]
pub struct TakenHook {
    progress: Arc<ConsumerProgress>,
    notifier: Arc<ShardNotifier>,
    slot: ChannelSlot,
    /// Half the window, at least 1: what the consumer takes between two notifications.
    half_bytes: u64,
    half_datums: u64,
    /// Cost of all datums taken; `progress` is written from here only.
    bytes: u64,
    /// Datums and bytes since the last notification.
    open_datums: u64,
    open_bytes: u64,
}

impl TakenHook {
    pub(crate) fn new(
        progress: Arc<ConsumerProgress>,
        notifier: Arc<ShardNotifier>,
        slot: ChannelSlot,
        window_bytes: u64,
        window_datums: u64,
    ) -> Self {
        Self {
            progress,
            notifier,
            slot,
            half_bytes: (window_bytes / 2).max(1),
            half_datums: (window_datums / 2).max(1),
            bytes: 0,
            open_datums: 0,
            open_bytes: 0,
        }
    }

    /// The application has taken the datum `seq` of `len` bytes, and its room in the inbox is free.
    ///
    /// To be called in the order of the datums. Notifies the shard when half a window has opened since the
    /// last notification.
    pub fn took(&mut self, seq: u64, len: usize) {
        self.took_many(seq, 1, datum_cost(len));
    }

    /// As [`TakenHook::took`], for several datums of which `seq` is the last, and `cost` the sum of their
    /// costs.
    fn took_many(&mut self, seq: u64, datums: u64, cost: u64) {
        self.bytes += cost;
        self.open_bytes += cost;
        self.open_datums += datums;
        self.progress.advance(seq + 1, self.bytes);
        if self.open_bytes >= self.half_bytes || self.open_datums >= self.half_datums {
            self.open_bytes = 0;
            self.open_datums = 0;
            if self.progress.mark() {
                self.notifier.notify(Notification::Inbox(self.slot));
            }
        }
    }
}

impl Drop for TakenHook {
    fn drop(&mut self) {
        self.progress.leave();
        self.notifier.notify(Notification::Inbox(self.slot));
    }
}

/// The consumer's end of one channel.
#[derive(Debug)]
pub struct Inbox {
    reader: Reader,
    hook: Option<TakenHook>,
    /// Gaps of a local inbox.
    gap: LocalGap,
}

impl Inbox {
    /// An inbox that a shard fills.
    pub fn remote(reader: Reader, hook: TakenHook) -> Self {
        Self { reader, hook: Some(hook), gap: LocalGap::default() }
    }

    /// An inbox that reads the producer's own ring.
    pub fn local(reader: Reader) -> Self {
        Self { reader, hook: None, gap: LocalGap::default() }
    }

    /// The next datum, if one is there. Dropping it gives its room and its credit back.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is over and everything in it was taken, or when the ring detached this
    /// reader.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Taken<'_>>, RecvError> {
        Ok(self.reader.try_recv()?.map(|record| Taken::new(record, self.hook.as_mut(), &mut self.gap)))
    }

    /// Takes the datum that [`Inbox::peek`] showed. `None`: none was shown, or it was taken since.
    #[inline(always)]
    pub fn take_peeked(&mut self) -> Option<Taken<'_>> {
        self.reader.take_peeked().map(|record| Taken::new(record, self.hook.as_mut(), &mut self.gap))
    }

    /// Takes the next datum, if one is there: `read` gets its sequence, the number missing before it, and its
    /// bytes. Its room and its credit go back after that, also if `read` panics.
    ///
    /// # Errors
    ///
    /// As [`Inbox::try_recv`]; then `read` was not called.
    #[inline(always)]
    pub fn try_take<R>(&mut self, read: impl FnOnce(u64, u64, &[u8]) -> R) -> Result<Option<R>, RecvError> {
        // Dropped after the reader has released the record.
        let mut credit = Credit { hook: self.hook.as_mut(), took: None };
        let gap = &mut self.gap;
        self.reader.try_take(|seq, lost, bytes| {
            if credit.hook.is_none() {
                gap.pending += lost;
                return read(seq, gap.report(), bytes);
            }
            let (seq, skipped, datum) = header_of(bytes);
            credit.took = Some((seq, datum.len()));
            read(seq, skipped, datum)
        })
    }

    /// Takes up to `max` datums before the ring's record `until`, with one pin of the ring and one return of
    /// credit: `each` gets the sequence, the number missing before, and the bytes. Returns how many. If
    /// `each` panics, those that it has seen are taken.
    ///
    /// # Errors
    ///
    /// As [`Inbox::try_recv`]; then `each` was not called.
    pub fn try_recv_each(
        &mut self,
        max: usize,
        until: u64,
        mut each: impl FnMut(u64, u64, &[u8]),
    ) -> Result<usize, RecvError> {
        if !self.reader.is_ready() {
            return Ok(0);
        }
        // Dropped after the pin, which frees the room first.
        let mut batch = Batch { hook: self.hook.as_mut(), last: 0, datums: 0, cost: 0 };
        let gap = &mut self.gap;
        let mut guard = self.reader.pin_guard()?;
        gap.pending += guard.lost_before();
        let mut taken = 0;
        loop {
            let from = guard.target();
            let want = (max - taken).min(usize::try_from(until.saturating_sub(from)).unwrap_or(usize::MAX));
            taken += if batch.hook.is_some() {
                guard.for_each(want, |_, record| {
                    let (seq, skipped, datum) = header_of(record);
                    batch.last = seq;
                    batch.datums += 1;
                    batch.cost += datum_cost(datum.len());
                    each(seq, skipped, datum);
                })
            } else {
                guard.for_each(want, |seq, datum| each(seq, gap.report(), datum))
            };
            // Abandoned records do not count: there may be more behind them.
            if taken == max || guard.target() == from || guard.target() - from < want as u64 {
                break;
            }
        }
        drop(guard);
        drop(batch);
        if taken == 0 && self.reader.is_finished() { Err(RecvError::Closed) } else { Ok(taken) }
    }

    /// Shows the next datum, with its sequence, to `look` without taking it. The datum stays pinned until it
    /// is taken: the next [`Inbox::try_recv`] gives this one, and the ring does not detach the reader before.
    ///
    /// # Errors
    ///
    /// As [`Inbox::try_recv`].
    #[inline(always)]
    pub fn peek<R>(&mut self, look: impl FnOnce(u64, &[u8]) -> R) -> Result<Option<R>, RecvError> {
        if self.hook.is_some() {
            let shown = self.reader.peek()?.map(header_of);
            return Ok(shown.map(|(seq, _, datum)| look(seq, datum)));
        }
        if self.reader.peek()?.is_none() {
            return Ok(None);
        }
        let seq = self.reader.peeked_seq();
        Ok(self.reader.peek()?.map(|record| look(seq, record)))
    }

    /// Sequence of the next record *of the ring that the inbox reads*, which a remote inbox has for itself.
    /// With [`Inbox::lag`] it bounds what is left to drain.
    #[inline]
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Records that eviction took from a local inbox, as far as it has noticed; 0 for a remote one.
    pub fn lost(&self) -> u64 {
        if self.is_remote() { 0 } else { self.reader.lost() }
    }

    /// Ready when [`Inbox::try_recv`] returns a datum or an error; else `cx` is woken once.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader.poll_ready(cx)
    }

    /// As [`Inbox::poll_ready`], without a waker.
    pub fn is_ready(&self) -> bool {
        self.reader.is_ready()
    }

    /// Whether the channel is over and everything in it was taken.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// Datums missing behind the last one that was taken, so that no datum reports them: known once
    /// [`Inbox::try_recv`] has returned [`RecvError`], and 0 before. 0 too if the channel did not end in good
    /// order; then the number is unknown.
    pub fn missing_at_end(&self) -> u64 {
        if !self.reader.is_finished() {
            return 0;
        }
        match &self.hook {
            None => self.reader.lost() - self.gap.reported,
            Some(hook) => hook.progress.missing_at_end(),
        }
    }

    /// Records that wait in the inbox; may be stale.
    pub fn lag(&self) -> u64 {
        self.reader.lag()
    }

    /// Whether a shard fills this inbox.
    pub fn is_remote(&self) -> bool {
        self.hook.is_some()
    }
}

/// The datums that eviction took from a local inbox: `reported + pending` is what the reader has noticed.
#[derive(Debug, Default)]
struct LocalGap {
    /// Reported with the datums behind them.
    reported: u64,
    /// Seen while there was no datum behind them yet.
    pending: u64,
}

impl LocalGap {
    /// What the next datum reports as missing before it.
    #[inline(always)]
    fn report(&mut self) -> u64 {
        if self.pending == 0 {
            return 0;
        }
        let missing = std::mem::take(&mut self.pending);
        self.reported += missing;
        missing
    }
}

/// Returns the credit for datums of a remote inbox that are taken together.
struct Batch<'a> {
    hook: Option<&'a mut TakenHook>,
    /// Sequence of the last datum that was taken, their number, and what they cost.
    last: u64,
    datums: u64,
    cost: u64,
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(hook) = self.hook.as_mut().filter(|_| self.datums > 0) {
            hook.took_many(self.last, self.datums, self.cost);
        }
    }
}

/// Returns the credit for a datum, if one was taken.
#[derive(Debug)]
struct Credit<'a> {
    hook: Option<&'a mut TakenHook>,
    took: Option<(u64, usize)>,
}

impl Drop for Credit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let (Some(hook), Some((seq, len))) = (&mut self.hook, self.took) {
            hook.took(seq, len);
        }
    }
}

/// A datum in its inbox, read in place.
///
/// Dropping it frees its room first and returns its credit then, so that what the producer sends for the
/// credit always finds the room.
#[derive(Debug)]
pub struct Taken<'a> {
    // Dropped in this order.
    record: Record<'a>,
    credit: Credit<'a>,
    /// In the stream of the producer.
    seq: u64,
    /// Datums missing before this one.
    skipped: u64,
    /// Bytes at the end of the record that are not the datum's.
    tail: usize,
}

impl<'a> Taken<'a> {
    #[inline(always)]
    fn new(record: Record<'a>, hook: Option<&'a mut TakenHook>, gap: &mut LocalGap) -> Self {
        if hook.is_none() {
            gap.pending += record.lost_before();
            let seq = record.seq();
            return Self { record, credit: Credit { hook, took: None }, seq, skipped: gap.report(), tail: 0 };
        }
        let (seq, skipped, datum) = header_of(&record);
        let took = Some((seq, datum.len()));
        Self { record, credit: Credit { hook, took }, seq, skipped, tail: 0 }
    }

    /// The datum's sequence in the stream of its producer.
    #[inline]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How many datums of the stream are missing between the one taken before and this one.
    #[inline]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The same without the last `tail` bytes.
    #[inline(always)]
    #[must_use]
    pub fn without_tail(self, tail: usize) -> Self {
        Self { tail, ..self }
    }

    /// The datum.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        let header = if self.credit.hook.is_some() { HEADER_BYTES } else { 0 };
        self.record.get(header..self.record.len().saturating_sub(self.tail)).unwrap_or_default()
    }
}
