//! A ring that the shard reads for its channels.
//!
//! One cursor per ring and shard, however many channels the ring serves here. The cursor stands at the least
//! position that a channel still needs (its *floor*): what is above may have to be read again after a loss.
//! The shard therefore reads ahead of its own cursor, and pins it while it does so.
//!
//! # Polling, armed, closed
//!
//! A ring with traffic is *polled*: one load per turn, and its publishers pay nothing for the shard.
//! After [`EMPTY_POLLS_BEFORE_ARMING`] polls without news (fewer if many rings are polled), or when the
//! shard goes to sleep, the ring is *armed*: it costs the shard nothing, and the next publisher notifies
//! the shard through its notifier (`super::notifier`). Arming polls once more after it is in force, so no
//! record falls between.
//!
//! The ring's algorithm is in `corewire-rings`.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use corewire_proto::session::CloseCode;
use corewire_rings::{Detached, NoReaderSlot, Reader, RecordState, Ring};

use super::{
    notifier::{RingNotifier, ShardNotifier},
    table::{ChannelSlot, StreamSlot},
};
use crate::shared::publication::StreamEnd;

/// Polls without news after which a ring is armed. Arming costs a barrier on every core of the process, a
/// poll one load that is in the cache, so a short pause is polled away.
pub(crate) const EMPTY_POLLS_BEFORE_ARMING: u32 = 1_024;

/// Rings that are polled for that long. With more of them each is armed sooner, because every turn polls all.
pub(crate) const RINGS_POLLED_LONG: u32 = 64;

/// The least such number.
pub(crate) const EMPTY_POLLS_LEAST: u32 = 128;

/// Most records of one ring that become visible to its channels in one turn. It bounds the loads of a poll; a
/// turn can't send more than this anyway.
pub(crate) const RECORDS_PER_POLL: usize = 4_096;

/// How the shard learns of new records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollMode {
    /// It polls in every turn.
    Polling {
        /// Polls in a row that found nothing.
        quiet: u32,
    },
    /// The ring notifies the shard.
    Armed,
    /// There will be none: the ring is closed and every record was announced.
    Closed,
}

/// What a poll of a ring found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollResult {
    /// Nothing new.
    Empty,
    /// Records below this sequence can be read.
    Records(u64),
    /// The ring is closed and every record was announced.
    Closed,
}

/// One ring with its cursor and the channels that it serves.
#[derive(Debug)]
pub(crate) struct StreamEntry {
    ring: Ring,
    /// How its channels end when the ring is closed.
    end: Arc<StreamEnd>,
    reader: Reader,
    /// Notifies the shard of this stream.
    waker: Waker,
    /// The channels, in no order. Each is a producer's end that knows its place here.
    pub(crate) channels: Vec<ChannelSlot>,
    /// Everything below is published and announced to the channels. Never falls.
    pub(crate) published: u64,
    /// No channel needs anything below. The cursor is here or, after an eviction, above. Falls only when a
    /// channel is resumed below it.
    pub(crate) floor: u64,
    /// How the shard learns of new records.
    pub(crate) mode: PollMode,
    /// The ring detached the cursor; every channel ends with `TOO_SLOW`.
    pub(crate) detached: bool,
    /// The cursor is pinned, until the end of the turn.
    pinned: bool,
    /// The reader's count of lost records at the last [`StreamEntry::take_lost`].
    lost_seen: u64,
}

impl StreamEntry {
    /// Joins `ring` at its tail, as the stream in `slot`.
    pub(crate) fn join(
        (ring, end): (Ring, Arc<StreamEnd>),
        slot: StreamSlot,
        notifier: &Arc<ShardNotifier>,
    ) -> Result<Self, NoReaderSlot> {
        let reader = ring.subscribe()?;
        Ok(Self::with_reader((ring, end), reader, slot, notifier))
    }

    /// A stream that reads `ring` from the position of `reader` on. Everything below it is published.
    pub(crate) fn with_reader(
        (ring, end): (Ring, Arc<StreamEnd>),
        reader: Reader,
        slot: StreamSlot,
        notifier: &Arc<ShardNotifier>,
    ) -> Self {
        let position = reader.position();
        Self {
            ring,
            end,
            reader,
            waker: Waker::from(Arc::new(RingNotifier { notifier: notifier.clone(), slot })),
            channels: Vec::new(),
            published: position,
            floor: position,
            mode: PollMode::Polling { quiet: 0 },
            detached: false,
            pinned: false,
            lost_seen: 0,
        }
    }

    /// A reader at `released`, a position at or above the floor, or at the oldest record after it that is
    /// left. `None` when the ring has no slot for it, or has cut the cursor off.
    pub(crate) fn park(&mut self, released: u64) -> Option<Reader> {
        let was_pinned = self.pin().ok()?;
        let parked = self.reader.fork_at(released.max(self.reader.position())).ok();
        if was_pinned {
            self.unpin();
        }
        parked
    }

    /// Replaces the cursor by one that is further back.
    pub(crate) fn adopt(&mut self, reader: Reader) {
        self.unpin();
        self.floor = self.floor.min(reader.position());
        self.lost_seen = reader.lost();
        self.reader = reader;
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The code with which its channels end. Known once the ring is closed.
    pub(crate) fn end_code(&self) -> CloseCode {
        self.end.code()
    }

    /// The sequence of the next record: where a channel begins that joins now.
    pub(crate) fn tail(&self) -> u64 {
        self.ring.tail()
    }

    /// Looks for records that were not announced yet. One load when there are none and the ring is open.
    pub(crate) fn poll(&mut self) -> PollResult {
        let end = self.reader.published_from(self.published, RECORDS_PER_POLL);
        if end > self.published {
            self.published = end;
            return PollResult::Records(end);
        }
        // In this order: the tail of a closed ring does not move.
        if self.ring.is_closed() && self.ring.tail() <= self.published {
            return PollResult::Closed;
        }
        PollResult::Empty
    }

    /// Lets the ring notify the shard. `false`: there is news already, and the mode stays.
    pub(crate) fn arm(&mut self) -> bool {
        debug_assert!(matches!(self.mode, PollMode::Polling { .. }), "armed in mode {:?}", self.mode);
        match self.reader.poll_published(self.published, &mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                self.mode = PollMode::Armed;
                true
            }
            Poll::Ready(()) => false,
        }
    }

    /// Pins the cursor; `true` when this call did it and [`StreamEntry::unpin`] is due at the end of the
    /// turn.
    #[inline]
    pub(crate) fn pin(&mut self) -> Result<bool, Detached> {
        if self.pinned {
            return Ok(false);
        }
        self.reader.pin()?;
        self.pinned = true;
        Ok(true)
    }

    /// The oldest record that can still be read.
    pub(crate) fn oldest(&self) -> u64 {
        self.reader.position()
    }

    /// The record at `seq`. Only while pinned.
    #[inline]
    pub(crate) fn get(&self, seq: u64) -> RecordState<'_> {
        debug_assert!(self.pinned, "record {seq} is read without a pin");
        self.reader.get(seq)
    }

    /// The datums that the ring holds.
    pub(crate) fn capacity(&self) -> usize {
        self.ring.config().datums
    }

    /// Ends the pin and leaves the cursor at the floor.
    pub(crate) fn unpin(&mut self) {
        if self.pinned {
            self.pinned = false;
            self.reader.unpin(self.floor);
        }
    }

    /// Moves the cursor up to the floor; while it is pinned, [`StreamEntry::unpin`] does that.
    pub(crate) fn release(&mut self) {
        debug_assert!(self.floor <= self.published.max(self.tail()), "the floor is beyond the tail");
        if !self.pinned && self.reader.advance_to(self.floor).is_err() {
            self.detached = true;
        }
    }

    /// Whether the cursor is still attached. For a ring that notified the shard without news.
    pub(crate) fn check(&mut self) -> bool {
        if !self.pinned {
            match self.reader.pin() {
                Ok(_) => self.reader.unpin(self.floor),
                Err(Detached) => self.detached = true,
            }
        }
        !self.detached
    }

    /// Records that eviction took from the cursor since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        let lost = self.reader.lost();
        lost - std::mem::replace(&mut self.lost_seen, lost)
    }
}
