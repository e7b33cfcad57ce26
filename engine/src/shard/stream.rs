//! A ring that the shard reads for its channels.
//!
//! Not inside: the ring's algorithm (`corewire-rings`) and what the channels do with the datums.
//!
//! One cursor per ring and shard, however many channels the ring serves here. The cursor stands at the least
//! position that a channel still needs (its *floor*): what is above may have to be read again after a loss. The
//! shard therefore reads ahead of its own cursor, and pins it while it does so.
//!
//! # Awake, armed, ended
//!
//! A ring with traffic is *awake*: each turn looks at it with one load, and its publishers pay nothing for the
//! shard. After [`QUIET_TURNS`] turns without news, or when the shard goes to sleep, the ring is *armed*: from
//! then on it costs the shard nothing at all, and the next publisher notifies the shard
//! (`super::notifier`). Arming looks once more after it is in force, so no record falls between.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use corewire_rings::{Detached, NoReaderSlot, Reader, RecordState, Ring};

use super::notifier::{RingNotifier, ShardNotifier};

/// Turns without news after which a ring is armed instead of polled. Arming costs a barrier on every core of the
/// process (microseconds), a poll one load that is in the cache; a shard that spins makes about a thousand turns
/// in the time after which the pause is long enough for that.
pub(crate) const QUIET_TURNS: u32 = 1_024;

/// Most records of one ring that become visible to its channels in one turn. It bounds the loads of a look; a
/// turn can't send more than this anyway.
pub(crate) const RECORDS_PER_LOOK: usize = 4_096;

/// How the shard will learn of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It looks each turn; this many looks in a row found nothing.
    Awake(u32),
    /// The ring will notify the shard.
    Armed,
    /// There will be no news: the ring is closed and every record of it is known.
    Ended,
}

/// What a look at a ring found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing new.
    Quiet,
    /// Records up to here, not including, can be read.
    News(u64),
    /// The ring is closed and everything in it is known.
    Ended,
}

/// One ring with its cursor and the channels that it serves.
#[derive(Debug)]
pub(crate) struct Stream {
    ring: Ring,
    reader: Reader,
    waker: Waker,
    /// Channels by slot, in no order.
    pub(crate) legs: Vec<u32>,
    /// Everything below is known to be published and the channels know it.
    pub(crate) published: u64,
    /// What no channel needs any more lies below. The cursor is here or, after an eviction, above.
    pub(crate) floor: u64,
    pub(crate) watch: Watch,
    /// The ring took the cursor away; every channel ends.
    pub(crate) detached: bool,
    /// Queued for a new computation of the floor.
    pub(crate) floor_stale: bool,
    /// Read in place during this turn.
    pinned: bool,
    lost_seen: u64,
}

impl Stream {
    /// Joins `ring` at its tail, as the stream in `slot`.
    pub(crate) fn join(ring: Ring, slot: u32, notifier: &Arc<ShardNotifier>) -> Result<Self, NoReaderSlot> {
        let reader = ring.subscribe()?;
        let position = reader.position();
        Ok(Self {
            ring,
            reader,
            waker: Waker::from(Arc::new(RingNotifier { notifier: notifier.clone(), slot })),
            legs: Vec::new(),
            published: position,
            floor: position,
            watch: Watch::Awake(0),
            detached: false,
            floor_stale: false,
            pinned: false,
            lost_seen: 0,
        })
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The sequence of the next record: where a channel begins that joins now.
    pub(crate) fn tail(&self) -> u64 {
        self.ring.tail()
    }

    /// Looks for records that nobody knows yet. One load when there are none and the ring is open.
    pub(crate) fn look(&mut self) -> Look {
        let end = self.reader.published_from(self.published, RECORDS_PER_LOOK);
        if end > self.published {
            self.published = end;
            return Look::News(end);
        }
        // In this order: once the ring says that it is closed, its tail stays.
        if self.ring.is_closed() && self.ring.tail() <= self.published {
            return Look::Ended;
        }
        Look::Quiet
    }

    /// Leaves it to the ring to mark the shard. `false`: there is something to look at now.
    pub(crate) fn arm(&mut self) -> bool {
        let seq = self.published;
        match self.reader.poll_published(seq, &mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                self.watch = Watch::Armed;
                true
            }
            Poll::Ready(()) => false,
        }
    }

    /// Pins the cursor; `true` when this call did it and [`Stream::unpin`] is due at the end of the turn.
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

    /// What stands at `seq`. Only while pinned.
    pub(crate) fn get(&self, seq: u64) -> RecordState<'_> {
        self.reader.get(seq)
    }

    /// Ends the pin and leaves the cursor at the floor.
    pub(crate) fn unpin(&mut self) {
        if self.pinned {
            self.pinned = false;
            self.reader.unpin(self.floor);
        }
    }

    /// Moves the cursor up to the floor.
    pub(crate) fn release(&mut self) {
        if !self.pinned && self.reader.advance_to(self.floor).is_err() {
            self.detached = true;
        }
    }

    /// Whether the ring still lets us read. For a ring that woke us without news.
    pub(crate) fn check(&mut self) -> bool {
        if !self.pinned {
            match self.reader.pin() {
                Ok(_) => self.reader.unpin(self.floor),
                Err(Detached) => self.detached = true,
            }
        }
        !self.detached
    }

    /// Records that the ring's policy took from us since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        let lost = self.reader.lost();
        lost - std::mem::replace(&mut self.lost_seen, lost)
    }
}
