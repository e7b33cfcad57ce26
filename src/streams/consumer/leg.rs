//! One leg of a consumer: takes, lends or skips its records and keeps its statistics.
//!
//! Legs are made by the engine and merged by [`super::legs`]. Decoding is the caller's: methods take a
//! closure over the encoded bytes.

use core::mem;
use core::task::{Context, Poll};
use std::sync::Arc;

use corewire_engine::criteria::Selection;
use corewire_engine::publication::Channel;
use corewire_engine::shard::Taken;
use corewire_engine::shared::ChannelState;
use corewire_engine::subscription::Leg;

use crate::datum::DecodeError;
use crate::id::PeerId;

/// Datums of a batch that are taken before the channel's counters show them. Few, so that the producer's lag
/// clock sees a consumer progress that decodes slowly.
const DATUMS_UNPUBLISHED_MAX: u64 = 16;

/// Where a delivered datum stands in the stream of its producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered<'a> {
    pub(super) seq: u64,
    /// Datums missing between the one delivered before and this one.
    pub(super) skipped_before: u64,
    /// An unknown number of datums may be missing besides them.
    pub(super) restarted: bool,
    pub(super) producer: &'a PeerId,
}

/// What the application took from one leg, or from several.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::streams) struct LegStats {
    pub(in crate::streams) datums: u64,
    pub(in crate::streams) bytes: u64,
    /// A peer may claim any number, so sums of it stop at the largest.
    pub(in crate::streams) skipped: u64,
    pub(in crate::streams) filtered: u64,
    pub(in crate::streams) undecodable: u64,
    pub(in crate::streams) restarts: u64,
}

impl LegStats {
    pub(super) fn add(&mut self, other: &Self) {
        self.datums += other.datums;
        self.bytes += other.bytes;
        self.skipped = self.skipped.saturating_add(other.skipped);
        self.filtered += other.filtered;
        self.undecodable += other.undecodable;
        self.restarts += other.restarts;
    }
}

/// The gap that a leg left at its end, until the next leg of the same producer reports it.
pub(super) struct PendingGap {
    pub(super) producer: PeerId,
    /// Missing datums that no delivery has reported.
    pub(super) datums: u64,
    /// Nor has one reported that the producer was restarted.
    pub(super) restarted: bool,
    /// Of a leg that lost its place in the producer's ring: the publication, and the sequence up to which
    /// `datums` counts. What the ring accepted after that is missing too.
    pub(super) cut: Option<(u64, u64)>,
}

/// What one step at a leg gave.
pub(super) enum LegStep {
    /// The datum that was looked for.
    Done,
    /// A record that is not a datum of the consumer's type; there may be more behind it.
    Skipped,
    /// A datum that the consumer's criteria do not want; there may be more behind it.
    Filtered,
    /// Nothing has arrived.
    Empty,
    /// Nothing will arrive any more.
    Ended,
}

/// A leg and its progress.
pub(super) struct OpenLeg {
    leg: Leg,
    progress: LegProgress,
    /// Set when the consumer is closed: records from this position on are not taken.
    end: Option<u64>,
    /// The channel has ended: the leg is removed together with its last datum, so that its producer drains no
    /// longer than the application takes.
    terminated: bool,
}

/// Apart from [`OpenLeg`], so that it can change while a record is borrowed from the leg.
pub(super) struct LegProgress {
    producer: PeerId,
    stats: LegStats,
    /// Sequence after the last record taken; it only grows.
    next: u64,
    /// Missing datums that the next delivery reports, besides those that the inbox reports itself.
    gap: u64,
    /// The next delivery reports that the producer was restarted.
    restarted: bool,
    /// Where the statistics are published. `None`: a shard keeps the channel's counters.
    local: Option<Arc<Channel>>,
    /// What it passes on of the records of a local leg. `None`: everything, as it is.
    selection: Option<Selection>,
}

impl LegProgress {
    /// Counts a datum as taken.
    #[inline(always)]
    fn count(&mut self, seq: u64, skipped: u64, len: usize) {
        self.stats.datums += 1;
        self.stats.bytes += len as u64;
        self.stats.skipped = self.stats.skipped.saturating_add(skipped);
        self.pass(seq);
    }

    /// The record `seq` is taken.
    #[inline(always)]
    fn pass(&mut self, seq: u64) {
        debug_assert!(seq >= self.next, "record {seq} came after {}: a producer has one order", self.next);
        self.next = seq + 1;
    }

    /// Describes the datum being delivered, and reports the gap before it.
    #[inline(always)]
    fn delivered(&mut self, seq: u64, skipped: u64) -> Delivered<'_> {
        Delivered {
            seq,
            skipped_before: mem::take(&mut self.gap).saturating_add(skipped),
            restarted: mem::take(&mut self.restarted),
            producer: &self.producer,
        }
    }

    /// The datum of a record, if it is wanted.
    #[inline(always)]
    fn choose<'a>(&self, seq: u64, record: &'a [u8]) -> Option<&'a [u8]> {
        match &self.selection {
            None => Some(record),
            Some(selection) => selection.choose(seq, record),
        }
    }

    /// Counts a datum that is not wanted.
    #[cold]
    fn pass_over(&mut self, seq: u64, skipped: u64) {
        self.stats.skipped = self.stats.skipped.saturating_add(skipped);
        self.stats.filtered += 1;
        self.pass(seq);
        self.gap = self.gap.saturating_add(skipped);
    }

    /// Counts a record that is not a datum, and publishes that.
    #[cold]
    fn skip_undecodable(&mut self, seq: u64, skipped: u64) {
        self.stats.skipped = self.stats.skipped.saturating_add(skipped);
        self.stats.undecodable += 1;
        self.pass(seq);
        self.gap = self.gap.saturating_add(skipped).saturating_add(1);
        self.publish();
    }

    /// Shows the statistics in the channel's counters, from which its lag is computed.
    #[inline]
    fn publish(&self) {
        if let Some(channel) = &self.local {
            let LegStats { datums, bytes, skipped, .. } = self.stats;
            channel.shared().counters().delivered(datums, bytes, skipped, self.next);
            if self.selection.is_some() {
                channel.shared().counters().passed_over(self.stats.filtered);
            }
        }
    }

    /// As [`publish`](Self::publish), out of line: for loops that rarely do it.
    #[inline(never)]
    fn publish_rarely(&self) {
        self.publish();
    }
}

impl OpenLeg {
    pub(super) fn new(leg: Leg) -> Self {
        let (channel, gap) = (leg.channel(), leg.gap());
        let progress = LegProgress {
            producer: channel.producer_id().0.into(),
            stats: LegStats { skipped: gap.datums, restarts: u64::from(gap.unknown), ..LegStats::default() },
            next: leg.inbox().position(),
            gap: gap.datums,
            restarted: gap.unknown,
            local: (!leg.inbox().is_remote()).then(|| channel.clone()),
            selection: Some(channel.shared().selection())
                .filter(|selection| !leg.inbox().is_remote() && !selection.is_trivial())
                .cloned(),
        };
        Self { leg, progress, end: None, terminated: false }
    }

    pub(super) fn producer(&self) -> &PeerId {
        &self.progress.producer
    }

    pub(super) fn stats(&self) -> &LegStats {
        &self.progress.stats
    }

    /// Datums that were not wanted. Of a leg between engines the channel has the number.
    pub(super) fn filtered(&self) -> u64 {
        match self.progress.local {
            Some(_) => self.progress.stats.filtered,
            None => self.leg.channel().snapshot().filtered,
        }
    }

    /// What the next delivery will report as missing before it: how many datums, and whether an unknown
    /// number besides them.
    pub(super) fn gap_before(&self) -> Option<(u64, bool)> {
        let LegProgress { gap, restarted, .. } = self.progress;
        (gap > 0 || restarted).then_some((gap, restarted))
    }

    /// Records that have arrived and were not taken. May be stale.
    pub(super) fn lag(&self) -> u64 {
        self.leg.inbox().lag()
    }

    /// Ready when there is something to take or the leg has ended; else `cx` is woken once.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.leg.inbox_mut().poll_ready(cx)
    }

    /// The consumer was closed: only what has arrived by now is taken.
    pub(super) fn end_here(&mut self) {
        let inbox = self.leg.inbox();
        self.end.get_or_insert(inbox.position() + inbox.lag());
    }

    /// Reads whether the channel has ended.
    pub(super) fn refresh_state(&mut self) {
        self.terminated = self.leg.channel().shared().state() == ChannelState::Terminated;
    }

    /// Whether the channel has ended and its last datum was taken.
    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.terminated && self.leg.inbox().is_finished()
    }

    /// Whether the leg lost its place in the producer's ring.
    pub(super) fn is_cut(&mut self) -> bool {
        self.cut().is_some() && self.leg.inbox_mut().peek(|_, _| ()).is_err()
    }

    /// The publication of a local leg that lost its place in the ring, and the ring's tail at that moment.
    fn cut(&self) -> Option<(u64, u64)> {
        let channel = self.leg.channel();
        Some((channel.source()?, channel.shared().end_seq()?))
    }

    fn is_past_end(&self) -> bool {
        self.end.is_some_and(|end| self.leg.inbox().position() >= end)
    }

    /// If `gap` is of this leg's producer, reports it with the next delivery. Returns how many datums the
    /// ring accepted between the two legs, which no leg has counted; `None` if `gap` is of another producer.
    pub(super) fn report_gap(&mut self, gap: &PendingGap) -> Option<u64> {
        if gap.producer != self.progress.producer {
            return None;
        }
        let between = match gap.cut {
            Some((publication, end)) if self.leg.channel().source() == Some(publication) => {
                self.leg.inbox().position().saturating_sub(end)
            }
            Some(_) => {
                // Another publication: what the first one accepted after the cut is not known.
                self.progress.stats.restarts += 1;
                self.progress.restarted = true;
                0
            }
            None => 0,
        };
        self.progress.gap = self.progress.gap.saturating_add(gap.datums).saturating_add(between);
        self.progress.restarted |= gap.restarted;
        Some(between)
    }

    /// Ends the leg. The statistics include the datums that it did not deliver, as far as this end can know
    /// them.
    pub(super) fn finish(mut self) -> (LegStats, PendingGap) {
        let (mut missing, cut) = (self.missing_at_end(), self.cut());
        let filtered = self.filtered();
        let progress = &mut self.progress;
        let selects = progress.selection.as_ref().is_some_and(|selection| selection.criteria.is_some());
        if selects && missing > 0 {
            // How many of them the criteria want is not known.
            missing = 0;
            progress.restarted = true;
            progress.stats.restarts += 1;
        }
        progress.stats.filtered = filtered;
        progress.stats.skipped = progress.stats.skipped.saturating_add(missing);
        // The counters of a channel that was cut off show these datums as skipped at its close instead.
        if self.leg.channel().shared().end_seq().is_none() {
            progress.next = progress.next.max(self.leg.inbox().position());
            progress.publish();
        }
        let datums = progress.gap.saturating_add(missing);
        // It may have read on until its cursor was taken out.
        let cut = cut.map(|(publication, end)| (publication, end.max(progress.next)));
        let gap = PendingGap { producer: progress.producer, datums, restarted: progress.restarted, cut };
        (progress.stats, gap)
    }

    /// Datums that a leg which has ended did not deliver and no delivery has reported.
    fn missing_at_end(&self) -> u64 {
        let inbox = self.leg.inbox();
        let LegProgress { stats, next, local, .. } = &self.progress;
        match (local, self.end, self.cut()) {
            // The consumer was closed: what the ring accepted after the end was not asked for.
            (Some(_), Some(end), _) => {
                inbox.lost().saturating_sub(stats.skipped).min(end.saturating_sub(*next))
            }
            (Some(_), None, Some((_, end))) => end.saturating_sub(*next),
            _ => inbox.missing_at_end(),
        }
    }

    /// Takes the next record. `read` returns whether it is a datum; if so, `keep` gets its place.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        read: impl FnOnce(&[u8]) -> bool,
        keep: impl FnOnce(Delivered<'_>),
    ) -> LegStep {
        if self.is_past_end() {
            return LegStep::Ended;
        }
        let progress = &mut self.progress;
        // Eviction may move the cursor past the end within this call. Sequences of a remote leg are not
        // positions.
        let end = if progress.local.is_some() { self.end.unwrap_or(u64::MAX) } else { u64::MAX };
        let taken = self.leg.inbox_mut().try_take(|seq, skipped, bytes| {
            if seq >= end {
                return LegStep::Ended;
            }
            let Some(bytes) = progress.choose(seq, bytes) else {
                progress.pass_over(seq, skipped);
                return LegStep::Filtered;
            };
            if read(bytes) {
                progress.count(seq, skipped, bytes.len());
                keep(progress.delivered(seq, skipped));
                LegStep::Done
            } else {
                progress.skip_undecodable(seq, skipped);
                LegStep::Skipped
            }
        });
        match taken {
            Ok(Some(step)) => {
                // After the room was freed: a reader of the counters may act on it.
                progress.publish();
                step
            }
            Ok(None) => LegStep::Empty,
            Err(_) => LegStep::Ended,
        }
    }

    /// Takes up to `max` records with one pin of the ring. `read` returns whether one is a datum. Returns how
    /// many were taken; `None` once nothing will arrive any more.
    pub(super) fn take_many(&mut self, max: usize, read: &mut impl FnMut(&[u8]) -> bool) -> Option<usize> {
        self.take_each(max, |progress, seq, skipped, bytes| {
            if !read(bytes) {
                return progress.skip_undecodable(seq, skipped);
            }
            progress.count(seq, skipped, bytes.len());
            (progress.gap, progress.restarted) = (0, false);
            if progress.stats.datums.is_multiple_of(DATUMS_UNPUBLISHED_MAX) {
                progress.publish_rarely();
            }
        })
    }

    /// As [`take_many`](Self::take_many) for datums in place: `view` finds the datum, `each` gets it. Each
    /// counts as taken before `each` sees it.
    pub(super) fn take_refs<D>(
        &mut self,
        max: usize,
        view: impl Fn(&[u8]) -> Option<&D>,
        each: &mut impl FnMut(&D, Delivered<'_>),
    ) -> Option<usize> {
        self.take_each(max, |progress, seq, skipped, bytes| {
            let Some(datum) = view(bytes) else { return progress.skip_undecodable(seq, skipped) };
            progress.count(seq, skipped, bytes.len());
            progress.publish();
            each(datum, progress.delivered(seq, skipped));
        })
    }

    #[inline(always)]
    fn take_each(
        &mut self,
        max: usize,
        mut act: impl FnMut(&mut LegProgress, u64, u64, &[u8]),
    ) -> Option<usize> {
        if self.is_past_end() {
            return None;
        }
        let stats = &self.progress.stats;
        let published = stats.datums + stats.filtered;
        let batch = PublishOnDrop { published, progress: &mut self.progress };
        let each = |seq, skipped, bytes: &[u8]| match batch.progress.choose(seq, bytes) {
            Some(bytes) => act(batch.progress, seq, skipped, bytes),
            None => batch.progress.pass_over(seq, skipped),
        };
        self.leg.inbox_mut().try_recv_each(max, self.end.unwrap_or(u64::MAX), each).ok()
    }

    /// Pins the next record for [`borrow`](Self::borrow), if `read` accepts its datum.
    #[inline(always)]
    pub(super) fn peek(&mut self, read: impl Fn(&[u8]) -> Result<(), DecodeError>) -> LegStep {
        if self.is_past_end() {
            return LegStep::Ended;
        }
        let progress = &self.progress;
        let look = |seq, record: &[u8]| progress.choose(seq, record).map(|bytes| read(bytes).is_ok());
        match self.leg.inbox_mut().peek(look) {
            // Eviction may have moved the cursor past the end just now.
            Ok(Some(_)) if self.is_past_end() => LegStep::Ended,
            Ok(Some(Some(true))) => LegStep::Done,
            Ok(Some(wanted)) => self.skip_peeked(wanted.is_some()),
            Ok(None) => LegStep::Empty,
            Err(_) => LegStep::Ended,
        }
    }

    #[cold]
    fn skip_peeked(&mut self, wanted: bool) -> LegStep {
        if let Some(record) = self.leg.inbox_mut().take_peeked() {
            let (seq, skipped) = (record.seq(), record.skipped());
            drop(record);
            if wanted {
                self.progress.skip_undecodable(seq, skipped);
            } else {
                self.progress.pass_over(seq, skipped);
                self.progress.publish();
            }
        }
        if wanted { LegStep::Skipped } else { LegStep::Filtered }
    }

    /// Takes the record that [`peek`](Self::peek) accepted. Both parts are to be dropped in this order: the
    /// room is freed before the datum counts as taken.
    #[inline(always)]
    pub(super) fn borrow(&mut self) -> Option<(Taken<'_>, CountOnDrop<'_>)> {
        let mut record = self.leg.inbox_mut().take_peeked()?;
        if let Some(selection) = &self.progress.selection {
            let tail = record.bytes().len() - selection.split(record.bytes()).0.len();
            record = record.without_tail(tail);
        }
        let (seq, skipped, len) = (record.seq(), record.skipped(), record.bytes().len());
        Some((record, CountOnDrop { progress: &mut self.progress, seq, skipped, len }))
    }
}

/// Publishes the statistics of a batch at its end, also if the closure of the user panics.
struct PublishOnDrop<'a> {
    progress: &'a mut LegProgress,
    /// Datums taken or passed over before the batch.
    published: u64,
}

impl Drop for PublishOnDrop<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.progress.stats.datums + self.progress.stats.filtered != self.published {
            self.progress.publish();
        }
    }
}

/// Counts a borrowed datum as taken when it is dropped.
pub(super) struct CountOnDrop<'a> {
    progress: &'a mut LegProgress,
    seq: u64,
    skipped: u64,
    len: usize,
}

impl CountOnDrop<'_> {
    /// The place of the datum.
    #[inline]
    pub(super) fn delivered(&self) -> Delivered<'_> {
        let LegProgress { gap, restarted, producer, .. } = &*self.progress;
        Delivered { seq: self.seq, skipped_before: gap + self.skipped, restarted: *restarted, producer }
    }
}

impl Drop for CountOnDrop<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.progress.count(self.seq, self.skipped, self.len);
        (self.progress.gap, self.progress.restarted) = (0, false);
        self.progress.publish();
    }
}
