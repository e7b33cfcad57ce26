//! What a channel shows to the threads that do not own it.
//!
//! Not inside: the channel. Its protocol state is the session's, on the shard. Here is a snapshot: who talks
//! to whom, in which state, and cells that the shard writes once per turn in which the channel moved.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use corewire_proto::{PeerId, StreamId, session::CloseCode};
use tokio::sync::watch;

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Asked for, not answered yet.
    Connecting,
    /// Carries datums.
    Connected,
    /// Over, for the reason in [`ChannelShared::close_code`]. Final.
    Terminated,
}

macro_rules! cells {
    ($($name:ident: $doc:literal,)*) => {
        /// The cells of one channel. One writer, the shard that owns the channel; any number of readers, who
        /// see the state at the end of a recent turn.
        #[derive(Debug, Default)]
        pub struct ChannelCells {
            $($name: AtomicU64,)*
        }

        /// The values of a channel's cells.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ChannelNumbers {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl ChannelCells {
            /// Reads every cell, one after the other.
            pub fn read(&self) -> ChannelNumbers {
                ChannelNumbers { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            /// Writes every cell. For the one writer only.
            pub fn write(&self, numbers: &ChannelNumbers) {
                $(self.$name.store(numbers.$name, Ordering::Relaxed);)*
            }
        }
    };
}

cells! {
    datums: "Datums sent for the first time (producer's end) or delivered to the inbox (consumer's end).",
    bytes: "Bytes of those datums, without any header.",
    resent: "Datums sent again after a loss (producer's end).",
    skipped: "Datums of the stream that the producer dropped or filtered for this channel.",
    lost: "Datums lost on the way and not sent again (consumer's end, fire-and-forget).",
    gaps: "Times that a gap of lost datums was seen (consumer's end).",
    duplicates: "Datums dropped because they were there already (consumer's end).",
    late: "Datums dropped because a later one had been delivered (consumer's end, fire-and-forget).",
    position: "Sequence after the last datum sent (producer's end) or delivered in order (consumer's end).",
    released: "Sequence below which the producer's ring keeps nothing for this channel (producer's end), or after \
               the last datum that the application took (consumer's end).",
    published: "Sequence after the last datum of the ring that this channel knows of (producer's end).",
    window_bytes: "The window that the consumer asked for; 0 means no limit.",
    credit_bytes: "Bytes that may be sent before the consumer takes something (producer's end); all ones means no \
                   limit.",
    backpressure: "Times that the channel had datums and no credit (producer's end).",
    grants: "Grants of credit received (producer's end) or sent (consumer's end).",
}

impl ChannelCells {
    /// Writes what the consumer of a *local* leg took and missed so far; its thread is the one writer of those cells.
    #[inline]
    pub fn delivered(&self, datums: u64, bytes: u64, skipped: u64, position: u64) {
        self.datums.store(datums, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.released.store(position, Ordering::Relaxed);
    }
}

impl ChannelNumbers {
    /// Records of the producer's ring that this channel still holds.
    pub fn lag(&self) -> u64 {
        self.published.saturating_sub(self.released)
    }
}

/// What the owner of a channel and everybody else share: identity, state and numbers.
///
/// The clerk makes it, the shard writes it, handles read it.
#[derive(Debug)]
pub struct ChannelShared {
    stream_id: StreamId,
    producer_id: PeerId,
    consumer_id: PeerId,
    state: watch::Sender<ChannelState>,
    /// Set before the state becomes `Terminated`.
    close_code: OnceLock<CloseCode>,
    cells: ChannelCells,
    /// All ones: not known.
    end_seq: AtomicU64,
    connected_at: OnceLock<Instant>,
    ended_at: OnceLock<Instant>,
}

impl ChannelShared {
    /// A channel that was asked for and not answered yet.
    pub fn new(stream_id: StreamId, producer_id: PeerId, consumer_id: PeerId) -> Self {
        Self {
            stream_id,
            producer_id,
            consumer_id,
            state: watch::Sender::new(ChannelState::Connecting),
            close_code: OnceLock::new(),
            cells: ChannelCells::default(),
            end_seq: AtomicU64::new(u64::MAX),
            connected_at: OnceLock::new(),
            ended_at: OnceLock::new(),
        }
    }

    /// The stream whose leg this is.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id
    }

    /// The peer that produces.
    pub fn producer_id(&self) -> PeerId {
        self.producer_id
    }

    /// The peer that consumes.
    pub fn consumer_id(&self) -> PeerId {
        self.consumer_id
    }

    /// The state now.
    pub fn state(&self) -> ChannelState {
        *self.state.borrow()
    }

    /// A watcher of the state; it sees every final state, and may miss a short one in between.
    pub fn watch(&self) -> watch::Receiver<ChannelState> {
        self.state.subscribe()
    }

    /// The cells that the channel's owner writes.
    #[inline]
    pub fn cells(&self) -> &ChannelCells {
        &self.cells
    }

    /// The channel's numbers at the end of a recent turn.
    pub fn numbers(&self) -> ChannelNumbers {
        self.cells.read()
    }

    /// How long the channel has been (or was) connected; `None` when it never was.
    pub fn uptime(&self) -> Option<Duration> {
        let since = *self.connected_at.get()?;
        let until = self.ended_at.get().copied().unwrap_or_else(Instant::now);
        Some(until.saturating_duration_since(since))
    }

    /// Marks the channel as connected, unless it is over already.
    pub fn set_connected(&self) {
        self.state.send_if_modified(|state| {
            let first = *state == ChannelState::Connecting && self.close_code.get().is_none();
            if first {
                let _ = self.connected_at.set(Instant::now());
                *state = ChannelState::Connected;
            }
            first
        });
    }

    /// Why the channel is over; `None` while it is not. Known before the state says `Terminated`.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.close_code.get().copied()
    }

    /// Where the producer's ring stood when the channel lost its place there: the sequence after the last datum that
    /// was accepted for it. `None` while it has its place, and at the consumer's end of a channel between engines.
    pub fn end_seq(&self) -> Option<u64> {
        Some(self.end_seq.load(Ordering::Acquire)).filter(|seq| *seq != u64::MAX)
    }

    /// The channel is about to lose its place in the ring, which stands at `seq`.
    pub(crate) fn end_at(&self, seq: u64) {
        self.end_seq.store(seq, Ordering::Release);
    }

    /// Marks the channel as over. The first reason stays; true when this was the first.
    pub fn terminate(&self, code: CloseCode) -> bool {
        if self.close_code.set(code).is_err() {
            return false;
        }
        let _ = self.ended_at.set(Instant::now());
        self.state.send_replace(ChannelState::Terminated);
        true
    }
}
